//! Disks that fail, or are ordered away: what follows at once, and how they are given up once nobody uses them.

use alloc::format;

use crate::config::OnIoError;
use crate::disk::slot::LastRecords;
use crate::disk::{MdKind, Then};
use crate::effect::{Effect, Level};
use crate::event::{DiskError, Payload};
use crate::handler::Handler;
use crate::ids::VolumeNr;
use crate::router::Resource;
use crate::rules::no_space::{Consequence, Failed, failed};
use crate::rules::record::fails_beside_a_good_one;
use crate::span::Span;
use crate::state::{Change, ConnState, DiskState};

impl<P: Payload> Resource<P> {
    /// The disk has not read or written this.
    pub(in crate::router) fn log_io_error(
        &mut self,
        nr: VolumeNr,
        what: &str,
        span: Span,
        error: DiskError,
    ) {
        let errno = error.errno;
        let text = format!("local {what} IO error sector {span} (errno {errno})");
        self.log_volume_error(nr, text);
    }

    /// A read or write of the data disk failed (`docs/spec/behaviour.md`, section 6.8). What follows from the loss of the disk
    /// has followed when this returns, so the caller's requests may be gone: the peer hears of it before anything is told or
    /// sent that rests on it.
    /// `no_space`: it was a write, and the disk is full.
    pub(in crate::router) fn local_io_error(&mut self, nr: VolumeNr, no_space: bool) {
        let volume = self.volume(nr);
        let Some(disk) = volume.disk.get() else {
            return;
        };
        match failed(Failed {
            no_space,
            on_io_error: disk.options().on_io_error,
            on_no_space: disk.options().on_no_space,
            disk: volume.state.disk,
            role: volume.state.role,
            replicates: self.is_up() && crate::state::should_replicate(volume.state),
        }) {
            Consequence::Keep => {}
            Consequence::Degrade => {
                self.log_volume(Level::Error, nr, "Local IO failed.");
                self.volume_mut(nr).passed_on = true;
                self.note_passed_on(nr);
                self.fact(nr, Change::disk(DiskState::Inconsistent));
            }
            Consequence::Detach => {
                self.log_volume(Level::Error, nr, "Local IO failed. Detaching...");
                self.call_local_io_error(nr);
                self.fail_disk(nr);
            }
        }
        self.run_after();
    }

    /// A metadata error always costs the disk (`docs/spec/behaviour.md`, section 6.8). What follows has followed when this
    /// returns: the peer hears of it before it is sent what this disk will lack, and marks that.
    pub(in crate::router) fn metadata_failed(&mut self, nr: VolumeNr) {
        self.volume_mut(nr).disk.close();
        self.call_local_io_error(nr);
        self.fail_disk(nr);
        self.run_after();
    }

    /// `on-io-error call-local-io-error`: the handler is started before the peer is told, once for each disk.
    fn call_local_io_error(&mut self, nr: VolumeNr) {
        let volume = self.volume(nr);
        let policy = volume.disk.get().map(|disk| disk.options().on_io_error);
        if policy == Some(OnIoError::CallLocalIoError) && volume.state.disk > DiskState::Failed {
            self.tell_handler(Handler::LocalIoError, nr);
        }
    }

    /// (L43) What the disk is worth when a resync or a verify ends that has kept it UpToDate: the peer may have what has failed
    /// here meanwhile. (Marks tell, and writes that will be marked once the peer has answered.)
    pub(in crate::router) fn disk_at_the_end(&self, nr: VolumeNr) -> DiskState {
        let volume = self.volume(nr);
        let mut requests = self.requests.iter().map(|(_, request)| request);
        let mut fails =
            || requests.any(|r| r.volume() == nr && !r.is_completed() && r.has_failed_here());
        if volume.passed_on && (volume.bits_set() > 0 || fails()) {
            DiskState::Inconsistent
        } else {
            volume.state.disk
        }
    }

    /// The disk is of no use any more: a fact.
    pub(in crate::router) fn fail_disk(&mut self, nr: VolumeNr) {
        if self.volume(nr).state.disk <= DiskState::Failed {
            return;
        }
        // (L58) From now on it lacks what is written.
        let goes_on = self.is_up() && fails_beside_a_good_one(&self.volume(nr).state);
        if goes_on && let Some(disk) = self.volume_mut(nr).disk.get_mut() {
            disk.record_mut().leave_to_peer(true);
        }
        self.fact(nr, Change::disk(DiskState::Failed));
    }

    /// A20: what waited for this disk goes on without it.
    pub(in crate::router) fn disk_failed(&mut self, nr: VolumeNr) {
        if self.volume(nr).state.disk > DiskState::Failed {
            return; // a new disk is attached already
        }
        self.local_copies_given_up(nr);
        self.give_up_waiting_for_space(nr);
        self.give_up_gate(nr);
        if self.volume(nr).state.disk == DiskState::Failed {
            self.disk_quiet(nr);
        }
    }

    /// A21: once nobody uses the failed disk, its bitmap and superblock are written as well as it takes them.
    pub(in crate::router) fn disk_quiet(&mut self, nr: VolumeNr) {
        if !self.volumes.contains(nr) {
            return;
        }
        let disk = self.volume(nr).state.disk;
        if matches!(disk, DiskState::Diskless | DiskState::Failed) {
            self.give_up_waiting_for_space(nr);
        }
        let volume = self.volume_mut(nr);
        if volume.disk.pending() > 0 {
            return;
        }
        if volume.state.disk == DiskState::Diskless {
            if volume.disk.get().is_some_and(|d| !d.is_writing_metadata()) {
                self.fail_md_queue(nr);
                self.disk_failed(nr);
                self.forget_disk(nr);
                self.emit(Effect::CloseDisk { volume: nr });
            }
            return;
        }
        if volume.state.disk != DiskState::Failed {
            return;
        }
        match volume.disk.give_up() {
            LastRecords::Due => {
                let clear = self.disk_mut(nr).record().cleared_at_the_end();
                // (L15) What is on record as written before the peer goes on alone must be there when this disk comes back.
                self.md(nr, MdKind::FlushData, Then::GivenUpFlushed);
                self.md(nr, MdKind::ChangedPages, Then::Nothing);
                self.md(nr, MdKind::clearing(clear), Then::Detached);
            }
            LastRecords::UnderWay => {}
            LastRecords::Over => {
                self.given_up_disk_flushed(nr);
                self.detach_finish(nr);
            }
        }
    }

    /// The last records are written, or cannot be.
    pub(in crate::router) fn detach_finish(&mut self, nr: VolumeNr) {
        let Some(disk) = self.disk_if_attached(nr) else {
            return;
        };
        if disk.is_writing_metadata() || self.volume(nr).disk.pending() > 0 {
            return; // called again when that has ended
        }
        if disk.writes_waiting() > 0 {
            // The failure has not come to those that wait for the log: its consequence, which is queued, sends them on.
            self.volume_mut(nr).disk.give_up_later();
            return;
        }
        // Whoever waits for metadata asked for since the disk failed hears that it will not be written.
        self.volume_mut(nr).disk.close();
        self.fail_md_queue(nr);
        self.forget_disk(nr);
        if self.volume(nr).state.disk != DiskState::Diskless {
            self.fact(nr, Change::disk(DiskState::Diskless));
        }
    }

    /// Nothing of the disk is under way, and nobody waits for it.
    fn forget_disk(&mut self, nr: VolumeNr) {
        if !self.volumes.contains(nr) {
            return;
        }
        self.given_up_disk_flushed(nr);
        let volume = self.volume_mut(nr);
        if let Some(disk) = volume.disk.remove() {
            volume.remembered = Some(disk.into_remembered());
        }
        volume.peer.negotiated = None;
        let volume = self.volume(nr);
        let state = volume.state;
        if volume.peer.resync.is_ending()
            && state.conn == ConnState::Connected
            && state.pdsk == DiskState::Inconsistent
        {
            // The target has said that it is done, which was to be taken for true once nothing is marked here. It says so
            // once, so that its disk would count as Inconsistent for as long as this connection lasts.
            let text = "the disk of the source is lost, and the target has ended: connecting anew to hear what its disk is";
            self.log_volume(Level::Warn, nr, text);
            self.lose_connection(ConnState::NetworkFailure);
        }
    }
}
