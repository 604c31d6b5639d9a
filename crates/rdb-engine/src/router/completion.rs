//! The end of writes and flushes: when both copies have answered, what users are told.

use alloc::vec::Vec;

use crate::copies::{Safety, Worth};
use crate::disk::al_gate::Writer;
use crate::effect::{Effect, Level, RequestError};
use crate::event::{ConnTimer, Payload};
use crate::follow::Follow;
use crate::ids::{RequestKey, Time, VolumeNr};
use crate::net::PingWaiter;
use crate::planted::Bug;
use crate::router::Resource;
use crate::state::{Change, DiskState};
use crate::write::AppRequest;

impl<P: Payload> Resource<P> {
    /// Completes a write or flush when both parts are in, and finishes it when nothing is left to hear.
    pub(super) fn advance_write(&mut self, key: RequestKey) {
        let Some(request) = self.requests.get(key) else {
            return;
        };
        let frozen = self.volume(request.volume()).state.is_suspended();
        if !request.is_completed() && frozen && !self.planted(Bug::AnswerWhileFrozen) {
            self.mark_untold(key); // (V11) looked at again when I/O goes on
            return;
        }
        let safety = request.safety(self.worth(request));
        if safety == Safety::Open {
            return;
        }
        let (nr, span) = (request.volume(), request.span());
        let in_open_epoch = request.is_in_epoch(self.net.log.epoch());
        if !request.is_completed() && self.waits_for_target(key) {
            self.mark_untold(key);
            return;
        }
        if !request.is_completed() && safety == Safety::OnlyThere {
            if in_open_epoch {
                self.close_epoch();
            }
            return;
        }
        let ok = safety == Safety::Safe;
        if request.is_flush() {
            self.complete(key, ok);
            return;
        }
        if !request.is_completed() {
            let (is_here, in_sync) = (request.is_here(), request.is_in_sync());
            if !request.is_on_both() {
                // Only one copy has it: that is on record before anybody relies on it (I6).
                self.set_out_of_sync(nr, span);
            }
            if in_sync {
                // While the range is ours: a later write that fails at one copy must find its mark again. Until the
                // barrier is acknowledged the log marks the blocks if the peer is lost, and the activity log if we are.
                self.set_in_sync(nr, span);
            }
            if ok && !is_here {
                self.volume_mut(nr).exposed.leave_behind();
            }
            if in_open_epoch {
                self.close_epoch();
            }
            self.requests[key].complete();
            self.volume_mut(nr).held.remove(span.sector);
            if self.volume(nr).users.are_completions_held() && ok {
                self.volume_mut(nr).users.leave_untold(key);
            } else {
                self.tell_completion(key, ok);
            }
            self.retry_blocked(nr);
        }
        self.finish_request(key);
    }

    /// What the copies of a request rest on.
    pub(super) fn worth(&self, request: &AppRequest<P>) -> Worth {
        let volume = self.volume(request.volume());
        Worth {
            here: volume.state.has_lasting_copy(),
            there: volume.state.pdsk == DiskState::UpToDate,
            loss_unrecorded: volume.peer.loss_unrecorded.is_some(),
        }
    }

    /// We are Primary, our UpToDate disk is lost and the peer's goes on: it has been told.
    pub(super) fn await_record_of_loss(&mut self, nr: VolumeNr) {
        self.await_record(nr);
        let volume = self.volume_mut(nr);
        volume.exposed.lose_disk_beside(volume.peer.loss_unrecorded);
        let timeout_ds = self.net.options.as_ref().map_or(60, |o| o.timeout_ds);
        self.set_conn_timer(
            ConnTimer::LossUnrecorded(nr),
            self.now.plus_ms(u64::from(timeout_ds) * 100),
        );
    }

    /// We are Primary, and our disk is not as good any more as its record says.
    pub(super) fn await_record(&mut self, nr: VolumeNr) {
        let volume = self.volume_mut(nr);
        let own = volume.disk.get().map(|disk| disk.record().ids().current);
        let seen = Some(volume.exposed.current()).filter(|seen| !seen.is_empty());
        volume.peer.loss_unrecorded = own.or(seen);
        self.clear_conn_timer(ConnTimer::LossUnrecorded(nr)); // of an earlier loss
    }

    /// Our own record says that our disk is Inconsistent.
    pub(super) fn inconsistent_recorded(&mut self, nr: VolumeNr) {
        if self.volume(nr).state.disk > DiskState::Failed {
            self.loss_settled(nr, true);
        }
    }

    /// The peer has a new generation on record; or never will, and its copy counts no more.
    pub(super) fn loss_settled(&mut self, nr: VolumeNr, recorded: bool) {
        if self.volume_mut(nr).peer.loss_unrecorded.take().is_none() {
            return;
        }
        let open = self.requests.iter().filter(|(_, r)| {
            let is_open = r.volume() == nr && !r.is_read() && !r.is_completed();
            is_open && r.has_come_there()
        });
        let open: Vec<RequestKey> = open.map(|(key, _)| key).collect();
        for key in open {
            if !recorded {
                self.requests[key].peer_counts_no_more();
            }
            self.advance_write(key);
        }
    }

    /// Requests do not wait for ever for a peer that keeps its generation; but one that is silent is not known to keep it.
    pub(super) fn on_loss_timer(&mut self, nr: VolumeNr) {
        if self.awaits_record_of_loss(nr) && self.is_up() {
            self.ping(Some(PingWaiter::LossUnrecorded(nr)));
        }
    }

    /// The peer is there, has had `timeout` to tell of a new generation, and has not.
    pub(super) fn peer_keeps_its_generation(&mut self, nr: VolumeNr) {
        if self.awaits_record_of_loss(nr) {
            let text = "the peer did not tell of a new generation after our disk was lost";
            self.log_volume(Level::Warn, nr, text);
            self.loss_settled(nr, true);
        }
    }

    /// Whether our disk is lost, and the peer has not told yet that a new generation is on its record.
    pub(super) fn awaits_record_of_loss(&self, nr: VolumeNr) -> bool {
        let volume = self.volumes.get(nr);
        volume.is_some_and(|v| v.peer.loss_unrecorded.is_some())
    }

    fn tell_completion(&mut self, key: RequestKey, ok: bool) {
        self.assert_decided(ok);
        let request = &self.requests[key];
        let (id, nr) = (request.id(), request.volume());
        self.request_took(key);
        let volume = self.volume_mut(nr);
        volume.users.answer();
        let result = if ok { Ok(None) } else { Err(RequestError::Io) };
        self.emit(Effect::Complete {
            request: id,
            result,
        });
    }

    /// The superblock that names the new generation is durable: writes that only this node has may complete (I20).
    pub(super) fn release_completions(&mut self, nr: VolumeNr) {
        let Some(volume) = self.volumes.get_mut(nr) else {
            return;
        };
        volume.users.release_completions();
        self.tell_held(nr);
    }

    /// Tells of writes whose completion waited, if nothing holds it back any more.
    pub(super) fn tell_held(&mut self, nr: VolumeNr) {
        let volume = self.volume_mut(nr);
        if volume.users.are_completions_held() || volume.state.is_suspended() {
            return;
        }
        let held = volume.users.take_untold();
        for key in held {
            let request = &self.requests[key];
            let ok = request.has_good_copy(self.worth(request));
            self.tell_completion(key, ok);
            self.finish_request(key);
        }
    }

    /// (L19) The disk failed: whoever relied on this copy alone must not call a write done, not after another attach either.
    pub(super) fn local_copies_given_up(&mut self, nr: VolumeNr) {
        let peer_is_good = self.volume(nr).state.pdsk == DiskState::UpToDate;
        let requests = self.requests.iter_mut().map(|(_, request)| request);
        for request in requests.filter(|r| r.volume() == nr) {
            request.disk_given_up(peer_is_good);
        }
    }

    /// Whether consequences of a change are still to follow. (That I/O is not suspended any more has none but what waits for it.)
    pub(super) fn decides_more(&self) -> bool {
        let thaws = Change::default()
            .and_susp(false)
            .and_susp_nod(false)
            .and_susp_fen(false);
        let decides = |follow: &Follow| match *follow {
            Follow::Changed(_, old, new) => old.apply(thaws) != new.apply(thaws),
            _ => false,
        };
        self.after.iter().any(decides)
    }

    /// A state change decides what is done: no request is called done before the consequences of those so far have run.
    fn assert_decided(&self, ok: bool) {
        debug_assert!(!ok || !self.decides_more(), "not run: {:?}", self.after);
    }

    /// The histograms of what users waited for: a request is over.
    fn request_took(&mut self, key: RequestKey) {
        let request = &self.requests[key];
        if let Some(volume) = self.volumes.get_mut(request.volume()) {
            request.count_end(&mut volume.latencies, self.now);
        }
    }

    /// A read or a write goes to its copies now; a read that is tried again counts once more.
    pub(super) fn has_started(&mut self, key: RequestKey) {
        let request = &self.requests[key];
        if let Some(volume) = self.volumes.get_mut(request.volume()) {
            request.count_wait(&mut volume.latencies, self.now);
        }
    }

    /// The peer has answered what it was sent then, or protocol A does not wait for it.
    pub(super) fn peer_took(&mut self, nr: VolumeNr, since: Time) {
        let now = self.now;
        let volume = self.volume_mut(nr);
        volume.latencies.peer.add(since, now);
        volume.peer.answered();
    }

    /// The own disk has answered what it was asked then.
    pub(super) fn own_disk_took(&mut self, nr: VolumeNr, since: Time) {
        let now = self.now;
        if let Some(volume) = self.volumes.get_mut(nr) {
            volume.latencies.own_disk.add(since, now);
        }
    }

    /// Completes a read or a flush, which leave nothing behind.
    pub(super) fn complete(&mut self, key: RequestKey, ok: bool) {
        self.assert_decided(ok);
        let request = &self.requests[key];
        let nr = request.volume();
        if self.volume(nr).state.is_suspended() && request.is_read() && ok {
            self.requests[key].forget_copies();
            self.volume_mut(nr).frozen.keep_served(key);
            return;
        }
        self.request_took(key);
        let request = self.requests.remove(key);
        let volume = self.volume_mut(nr);
        volume.users.answer();
        self.emit(Effect::Complete {
            request: request.id(),
            result: request.into_result(ok),
        });
    }

    /// Forgets a write once it is completed and its epoch is acknowledged or lost.
    pub(super) fn finish_request(&mut self, key: RequestKey) {
        let Some(request) = self.requests.get(key) else {
            return;
        };
        if !request.is_finished() {
            return;
        }
        let nr = request.volume();
        if self.volume(nr).users.is_untold(key) {
            return;
        }
        self.requests.remove(key);
        self.volume_mut(nr).users.write_ends();
        self.leave_gate(nr, Writer::Own(key));
        self.retry_waiting(nr);
    }
}
