//! The end of writes and flushes: when both copies have answered, what users are told.

use crate::effect::{Effect, RequestError};
use crate::event::Payload;
use crate::ids::VolumeNr;
use crate::resource::Resource;
use crate::state::{self, DiskState};
use crate::volume::RequestKey;
use crate::write::Part;

impl<P: Payload> Resource<P> {
    /// Completes a write or flush when both parts are in, and finishes it when nothing is left to hear.
    pub(crate) fn advance_write(&mut self, key: RequestKey) {
        let Some(request) = self.requests.get(key) else {
            return;
        };
        if request.local == Part::Pending || request.net == Part::Pending {
            return;
        }
        if request.is_flush() {
            let ok = request.local != Part::Failed && request.net != Part::Failed
                || request.local == Part::Done
                    && self.volume(request.volume).state.disk == DiskState::UpToDate;
            self.complete(key, ok);
            return;
        }
        if !request.completed {
            let (nr, sector, end, epoch, in_log) = (
                request.volume,
                request.sector,
                request.end(),
                request.epoch,
                request.in_log,
            );
            let request_in_sync =
                request.in_sync && request.local == Part::Done && request.net == Part::Done;
            // What only an Inconsistent disk took is overwritten by the next resync: that is no success.
            let state = self.volume(nr).state;
            let here = request.good_here || state.disk == DiskState::UpToDate;
            let there = request.good_there || state.pdsk == DiskState::UpToDate;
            let safe_here = request.local == Part::Done && here && state::is_there(state.disk);
            let safe_there = request.net == Part::Done && there;
            let ok = safe_here || safe_there;
            if !(request.local == Part::Done && request.net == Part::Done) {
                // Only one copy has it: that is on record before anybody relies on it (I6).
                self.set_out_of_sync(nr, sector, end - sector);
            }
            if request_in_sync {
                // While the range is ours: a later write that fails at one copy must find its mark again. Until the
                // barrier is acknowledged the log marks the blocks if the peer is lost, and the activity log if we are.
                self.set_in_sync(nr, sector, end - sector);
            }
            let here = self.requests[key].local == Part::Done;
            if ok && !here {
                let volume = self.volume_mut(nr);
                volume.left_behind = volume.exposed_uuid;
            }
            if in_log && epoch == self.net.log.epoch {
                self.close_epoch();
            }
            self.requests[key].completed = true;
            self.requests[key].safe_there = safe_there;
            self.volume_mut(nr).held.remove(sector);
            if self.volume(nr).completions_held > 0 && ok {
                self.volume_mut(nr).held_completions.push(key);
            } else {
                self.tell_completion(key, ok);
            }
            self.retry_blocked(nr);
        }
        self.finish_request(key);
    }

    fn tell_completion(&mut self, key: RequestKey, ok: bool) {
        let request = &self.requests[key];
        let (id, nr) = (request.id, request.volume);
        let volume = self.volume_mut(nr);
        volume.application_pending = volume.application_pending.saturating_sub(1);
        let result = if ok { Ok(None) } else { Err(RequestError::Io) };
        self.emit(Effect::Complete {
            request: id,
            result,
        });
    }

    /// The superblock that names the new generation is durable: writes that only this node has may complete (I20).
    pub(crate) fn release_completions(&mut self, nr: VolumeNr) {
        let Some(volume) = self.volumes.get_mut(&nr) else {
            return;
        };
        volume.completions_held = volume.completions_held.saturating_sub(1);
        if volume.completions_held > 0 {
            return;
        }
        let held = core::mem::take(&mut volume.held_completions);
        let usable = state::is_there(volume.state.disk);
        for key in held {
            let request = &self.requests[key];
            let ok = request.safe_there || request.local == Part::Done && usable;
            self.tell_completion(key, ok);
            self.finish_request(key);
        }
    }

    /// The disk failed: whoever relied on this copy alone must not call a write done, not after another attach either.
    pub(crate) fn local_copies_given_up(&mut self, nr: VolumeNr) {
        for (_, request) in &mut self.requests {
            if request.volume == nr && !request.is_read() && request.local == Part::Done {
                request.local = Part::Failed;
            }
        }
    }

    /// Completes a read or a flush, which leave nothing behind.
    pub(crate) fn complete(&mut self, key: RequestKey, ok: bool) {
        let request = self.requests.remove(key);
        let volume = self.volume_mut(request.volume);
        volume.application_pending = volume.application_pending.saturating_sub(1);
        let result = match (ok, request.payload) {
            (false, _) => Err(RequestError::Io),
            (true, payload) if request.bytes > 0 => Ok(payload),
            _ => Ok(None),
        };
        self.emit(Effect::Complete {
            request: request.id,
            result,
        });
    }

    /// Forgets a write once it is completed and its epoch is acknowledged or lost.
    pub(crate) fn finish_request(&mut self, key: RequestKey) {
        let Some(request) = self.requests.get(key) else {
            return;
        };
        if !request.completed || request.in_log || request.local == Part::Pending {
            return;
        }
        let nr = request.volume;
        if self.volume(nr).held_completions.contains(&key) {
            return;
        }
        let request = self.requests.remove(key);
        let volume = self.volume_mut(nr);
        volume.writes_open -= 1;
        if request.al_held {
            let (first, last) = request.extents();
            if let Some(disk) = volume.disk.as_deref_mut() {
                disk.al.release(first, last);
                self.retry_starved(nr);
            }
        }
        self.retry_waiting(nr);
    }
}
