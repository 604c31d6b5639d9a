//! Epochs are closed, acknowledged, and made durable.

use alloc::format;

use replica_proto::{BarrierNr, Packet};

use crate::Bug;
use crate::copies::There;
use crate::disk::io::Io;
use crate::effect::Level;
use crate::event::{ConnTimer, DiskError, Payload};
use crate::ids::{Session, Time, VolumeNr};
use crate::router::Resource;
use crate::router::volume::Volume;
use crate::state::ConnState;
use crate::transfer_log::{Debt, FlushDue};
use crate::write::AppRequest;

impl<P: Payload> Resource<P> {
    // ---- writer --------------------------------------------------------------------------------------------------

    /// Closes the current epoch if a write was sent in it. The barrier that tells the peer goes out with the next packet
    /// that it must precede, or soon.
    pub(super) fn close_epoch(&mut self) {
        if let Some(at) = self.net.log.close_epoch(self.now) {
            self.set_conn_timer(ConnTimer::Barrier, at);
        }
    }

    /// Sends the barrier of a closed epoch, if it is due: before the first write of the next epoch, before a read, and
    /// when somebody waits for its answer.
    pub(super) fn send_barrier(&mut self) {
        if let Some(barrier) = self.net.log.next_barrier() {
            self.send(VolumeNr(0), Packet::Barrier(barrier), None);
        }
    }

    pub(super) fn on_barrier_timer(&mut self) {
        self.net.log.timer_expired();
        self.send_barrier();
    }

    pub(super) fn on_barrier_ack(&mut self, barrier: BarrierNr, set_size: u32) {
        let requests = &self.requests;
        let debt = |key| requests.get(key).map_or(Debt::NONE, AppRequest::debt);
        let log = &mut self.net.log;
        if let Err(wrong) = log.acknowledge(barrier, set_size, self.now, debt) {
            self.protocol_error(wrong);
            return;
        }
        while let Some(key) = self.net.log.next_durable(barrier) {
            if let Some(request) = self.requests.get_mut(key) {
                let (nr, waited) = (request.volume(), request.barrier_acked());
                if waited && let Some(volume) = self.volumes.get_mut(nr) {
                    volume.peer.answered();
                }
                self.advance_write(key);
            }
        }
        self.release_flushes();
    }

    /// The peer is lost: whatever it did not acknowledge for good may be missing there.
    pub(super) fn settle_transfer_log(&mut self) {
        let keys = self.net.log.take();
        let (forget, careless) = (
            self.planted(Bug::ForgetLostAck),
            self.planted(Bug::SkipBarrier),
        );
        for &key in &keys {
            if let Some(request) = self.requests.get_mut(key) {
                let acked = request.has_come_there();
                if forget && !acked || careless && acked {
                    request.leave_log(There::Durable);
                    continue;
                }
                request.leave_log(There::Failed);
                let (nr, span) = (request.volume(), request.span());
                // (L24) Done by our own disk's word counts no more when that disk has been given up since.
                let is_lasting = self.volume(nr).state.has_lasting_copy();
                let lost = self.requests[key].was_told_by_peer(is_lasting);
                self.set_out_of_sync(nr, span);
                if lost {
                    self.volume_mut(nr).users.lose_write();
                }
            }
        }
        for key in keys {
            self.advance_write(key);
        }
        self.retry_reads_of_peer();
        self.release_flushes();
    }

    /// Reads that the peer has not answered go another way.
    pub(super) fn retry_reads_of_peer(&mut self) {
        let reads = self.requests.iter();
        let reads = reads.filter(|(_, r)| r.awaits_data_since().is_some());
        let reads: alloc::vec::Vec<_> = reads.map(|(key, _)| key).collect();
        for key in reads {
            self.requests[key].failed_there();
            self.retry_read(key);
        }
    }

    /// A resync has made our disk good, and durably so: it has brought what was written while only the peer's was, and what
    /// is in the log of that is not lost with the peer any more.
    pub(super) fn log_is_good_here(&mut self, nr: VolumeNr) {
        for key in self.net.log.keys() {
            let request = self.requests.get_mut(key);
            if let Some(request) = request.filter(|r| r.volume() == nr) {
                request.resync_made_good();
            }
        }
    }

    /// A write or a read is sent to the peer: from now on the timer looks at the oldest that is not answered.
    ///
    /// Nothing that is sent or answered later moves the timer: it finds out by itself how long the oldest has waited.
    pub(super) fn watch_requests(&mut self) {
        let limit = self.net.request_limit_ms();
        if limit > 0 && self.net.patience.begin_to_watch_requests() {
            let at = self.now.plus_ms(limit);
            self.set_conn_timer(ConnTimer::RequestTimeout, at);
        }
    }

    fn look_at_requests(&mut self, at: Time) {
        self.net.patience.begin_to_watch_requests();
        self.set_conn_timer(ConnTimer::RequestTimeout, at);
    }

    /// Since when the peer has owed something for longest: what is in the log, or a read its data.
    pub(super) fn oldest_unanswered(&self) -> Option<Time> {
        let reads = self.requests.iter().map(|(_, request)| request);
        let debt = |key| self.requests.get(key).map_or(Debt::NONE, AppRequest::debt);
        let writes = self.net.log.owed_since(debt);
        reads
            .filter_map(AppRequest::awaits_data_since)
            .chain(writes)
            .min()
    }

    /// Is the oldest request unanswered for too long?
    pub(super) fn on_request_timer(&mut self) {
        self.net.patience.requests_timer_expired();
        let limit = self.net.request_limit_ms();
        if limit == 0 || !self.is_up() {
            return;
        }
        let Some(oldest) = self.oldest_unanswered() else {
            return;
        };
        let since = self.net.meetings.owed_since(oldest);
        if self.now.ms_since(since) < limit {
            self.look_at_requests(since.plus_ms(limit));
            return;
        }
        if self.is_peer_needed() {
            self.log_waiting_for_peer();
            self.ping(None);
            self.look_at_requests(self.now.plus_ms(limit));
            return;
        }
        let (ko, timeout) = self
            .net
            .options
            .as_ref()
            .map_or((7, 60), |o| (o.ko_count, o.timeout_ds));
        self.log(
            Level::Warn,
            format!("Remote failed to finish a request within {limit}ms > ko-count ({ko}) * timeout ({timeout} * 0.1s)"),
        );
        self.lose_connection(ConnState::Timeout);
    }

    // ---- mirror --------------------------------------------------------------------------------------------------

    pub(super) fn on_barrier(&mut self, barrier: BarrierNr) {
        match self.net.epochs.end_epoch(barrier) {
            Ok(true) => self.advance_epochs(),
            Ok(false) => {}
            Err(wrong) => self.protocol_error(wrong),
        }
    }

    /// A mirrored write of this epoch has ended.
    pub(super) fn mirrored_write_ended(&mut self, epoch: u64) {
        if self.net.epochs.write_ended(epoch) {
            self.advance_epochs();
        }
    }

    /// Flushes what is complete at the front, now or together with what follows soon.
    pub(super) fn advance_epochs(&mut self) {
        match self
            .net
            .epochs
            .flush_due(self.now, self.net.agreed.marks_flushes())
        {
            FlushDue::No => {}
            FlushDue::Now => self.flush_epochs(),
            FlushDue::At(due) => self.set_conn_timer(ConnTimer::EpochFlush, due),
        }
    }

    pub(super) fn on_epoch_flush_timer(&mut self) {
        if self.net.epochs.timer_expired() {
            self.flush_epochs();
        }
    }

    fn flush_epochs(&mut self) {
        if self.volumes.iter().any(Volume::holds_back_epochs) {
            return; // goes on when the disk that is being given up has been flushed a last time
        }
        let mut volumes = 0;
        let mut next = self.volumes.next_nr(None);
        while let Some(nr) = next {
            next = self.volumes.next_nr(Some(nr));
            let volume = self.volume_mut(nr);
            if !core::mem::take(&mut volume.peer.mirror_unflushed) || !volume.has_usable_disk() {
                continue;
            }
            if self.planted(Bug::SkipFlushBeforeBarrierAck) {
                continue;
            }
            let volume = self.volume(nr);
            if volume.disk.get().is_some_and(|d| !d.options().disk_flushes) {
                continue;
            }
            volumes += 1;
            self.flush_disk(Io::EpochFlush {
                volume: nr,
                session: self.net.epochs_of,
            });
        }
        if self.net.epochs.begin_flush(volumes) {
            self.epochs_durable();
        }
    }

    pub(super) fn on_epoch_flush_io(
        &mut self,
        nr: VolumeNr,
        session: Session,
        result: Result<(), DiskError>,
    ) {
        if let Err(error) = &result {
            // The disk may have lost what it acknowledged: it is no copy any more, and the writer must know.
            self.log_volume_error(
                nr,
                format!("flushing the disk failed (errno {})", error.errno),
            );
            self.fail_disk(nr);
        }
        if session != self.net.epochs_of {
            return; // of a connection whose epochs nobody waits for any more
        }
        if result.is_err() {
            // Only an acknowledged barrier lets the writer forget its writes: without one it marks them. (The epochs end
            // here all the same, and what waits for them goes on, to a connection that is gone.)
            self.lose_connection(ConnState::NetworkFailure);
        }
        if self.net.epochs.volume_flushed() {
            self.epochs_durable();
        }
    }

    /// A disk that is given up has been flushed as well as it takes it: barriers of writes that it holds may be
    /// acknowledged, or never will be.
    pub(super) fn given_up_disk_flushed(&mut self, nr: VolumeNr) {
        let volume = self.volume_mut(nr);
        if !core::mem::take(&mut volume.peer.mirror_unflushed) {
            return;
        }
        let volatile = volume.disk.get().is_some_and(|d| d.has_volatile_data());
        if volatile && self.is_up() {
            let text = "the lost disk did not keep all mirrored writes: the peer shall mark them";
            self.log_volume(Level::Error, nr, text);
            self.lose_connection(ConnState::NetworkFailure);
        }
        self.advance_epochs();
    }

    fn epochs_durable(&mut self) {
        for (barrier, set_size) in self.net.epochs.flushed(self.now) {
            let ack = Packet::BarrierAck { barrier, set_size };
            self.send(VolumeNr(0), ack, None);
        }
        self.release_mirrored();
        self.advance_epochs();
    }
}
