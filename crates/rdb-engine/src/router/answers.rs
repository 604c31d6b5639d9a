//! Answers to what users have written: of our own disk, and of the peer.

use alloc::format;

use replica_proto::BlockAck;

use crate::copies::AckKind;
use crate::event::{DiskError, Payload};
use crate::ids::{RequestKey, VolumeNr};
use crate::router::Resource;
use crate::span::Span;
use crate::state::{self, DiskState};

impl<P: Payload> Resource<P> {
    pub(super) fn on_application_io(
        &mut self,
        nr: VolumeNr,
        key: RequestKey,
        result: Result<Option<P>, DiskError>,
    ) {
        let usable = self
            .volumes
            .get(nr)
            .is_some_and(|v| state::is_there(v.state.disk));
        let Some(request) = self.requests.get_mut(key) else {
            return;
        };
        let (span, is_read, is_flush) = (request.span(), request.is_read(), request.is_flush());
        match result {
            Ok(payload) if is_read => {
                request.serve(payload);
                self.volume_mut(nr).counters.read += span.sectors();
                self.complete(key, true);
                return;
            }
            Ok(_) => {
                request.disk_answered(usable); // it may have been given up meanwhile
                if !usable && is_flush {
                    self.flush_failed_here(nr, key);
                }
            }
            Err(error) => {
                request.disk_answered(false);
                let what = if is_read { "READ" } else { "WRITE" };
                self.log_io_error(nr, what, span, error);
                if is_flush {
                    self.flush_failed_here(nr, key);
                } else {
                    // At once: a resync to this disk must not end before the peer has answered a write.
                    self.set_out_of_sync(nr, span);
                }
                // That the disk is lost decides whether this very write may be told.
                self.local_io_error(nr, error.is_no_space() && !is_read && !is_flush);
                if self.requests.get(key).is_none() {
                    return; // it is, with what else was under way
                }
                if is_read {
                    self.retry_read(key);
                    return;
                }
            }
        }
        self.advance_write(key);
    }

    /// The own disk did not flush, or has been given up meanwhile: if the peer's copy is good, that is the one to rely on
    /// from now on.
    fn flush_failed_here(&mut self, nr: VolumeNr, key: RequestKey) {
        if self.volume(nr).state.pdsk == DiskState::UpToDate {
            self.requests[key].forget_here();
            self.flush_at_peer(key);
        }
    }

    /// TCP has the whole packet: protocol A is content. (L9) But not where the own disk is about to be overwritten by the
    /// peer's data: then the write is done with the peer's barrier.
    pub(super) fn on_handed_to_tcp(&mut self, key: RequestKey) {
        let request = &mut self.requests[key];
        let nr = request.volume();
        if let Some(since) = request.handed_to_tcp(self.now) {
            self.peer_took(nr, since);
            self.advance_write(key);
        }
    }

    /// P_RECV_ACK, P_WRITE_ACK, P_RS_WRITE_ACK of an application write. Says whether we know the write.
    pub(super) fn on_write_ack(&mut self, nr: VolumeNr, ack: &BlockAck, kind: AckKind) -> bool {
        let Some(key) = self.request_of(ack.block_id) else {
            return false;
        };
        let request = &mut self.requests[key];
        if !request.expects(kind, nr, Span::from(ack)) {
            return false;
        }
        let waited = request.acknowledged(kind, self.now);
        let late = request.is_in_sync_after_completion();
        if let Some(since) = waited {
            self.peer_took(nr, since);
        }
        self.advance_write(key);
        if late {
            self.in_sync_after_completion(nr, key);
        }
        true
    }

    /// The mirror says "in sync" of a write that protocol A has completed: its range may have been written again.
    ///
    /// The mirror has cleared its marks of these blocks, so they must go here too, or the resync ends there alone. Overlapping
    /// writes reach both disks in their order, and the mirror answers in it: one that was sent before is superseded, whatever
    /// became of it, and one that is under way is marked, if it fails, when its answer comes. What must stay is the mark of a
    /// later one that has ended with one copy already.
    fn in_sync_after_completion(&mut self, nr: VolumeNr, key: RequestKey) {
        let Some(request) = self.requests.get(key) else {
            return;
        };
        let span = request.span();
        let syncing = self.volume(nr).state.compares_blocks();
        let later = self.net.log.sent_after(key);
        let mut later = later.filter_map(|other| self.requests.get(other));
        let marked =
            later.any(|r| r.volume() == nr && r.span().overlaps(span) && r.has_left_a_mark());
        drop(later);
        if syncing && !marked {
            self.set_in_sync(nr, span);
        }
    }

    /// P_NEG_ACK of an application write, perhaps of one that is completed already. (The driver may get the length wrong.)
    pub(super) fn on_neg_ack(&mut self, nr: VolumeNr, ack: &BlockAck) {
        let known = self.request_of(ack.block_id).filter(|&key| {
            let r = &self.requests[key];
            r.volume() == nr && r.span().sector == ack.sector && r.is_in_log()
        });
        let Some(key) = known else {
            // (A mirror tells of a failed write before it acknowledges the barrier behind it.)
            self.protocol_error(format!(
                "volume {nr}: P_NEG_ACK for an unknown write, sector {}",
                ack.sector
            ));
            return;
        };
        let request = &mut self.requests[key];
        let (span, waited) = (request.span(), request.failed_there());
        let peer = &mut self.volume_mut(nr).peer;
        peer.write_failed = true;
        if waited {
            peer.answered();
        }
        self.set_out_of_sync(nr, span);
        self.advance_write(key);
    }
}
