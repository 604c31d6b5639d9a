//! Which requests of users may start, and what the others wait for (`docs/spec/behaviour.md`, section 8.3).
//!
//! A write that meets a taken range stands in the queue of [`crate::range_locks`]; whatever else holds a request back, it
//! stands in `Volume::waiting` and is tried again when that changes.

use crate::effect::{Effect, RequestError};
use crate::event::{Payload, Request, RequestKind};
use crate::ids::{RequestKey, VolumeNr};
use crate::range_locks::{Holder, Queued};
use crate::router::Resource;
use crate::rules::write::is_preparing;
use crate::span::Span;
use crate::state::{DiskState, Role};
use crate::write::AppRequest;
use crate::{DISCARD_MAX_BYTES, REQUEST_MAX_BYTES};

/// Whether a write has waited for its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RangeTurn {
    Comes,
    Here,
}

impl<P: Payload> Resource<P> {
    pub(super) fn on_request(&mut self, request: Request<P>) {
        let (id, nr) = (request.id, request.volume);
        let Some(volume) = self.volumes.get(nr) else {
            self.emit(Effect::Complete {
                request: id,
                result: Err(RequestError::Inval),
            });
            return;
        };
        let limit = match request.kind {
            RequestKind::Read | RequestKind::Write { .. } => REQUEST_MAX_BYTES,
            RequestKind::Flush => 0,
            _ => DISCARD_MAX_BYTES,
        };
        let is_flush = matches!(request.kind, RequestKind::Flush);
        let Request { sector, bytes, .. } = request;
        let span = Span { sector, bytes };
        let sized = match &request.kind {
            RequestKind::Write { payload, .. } => payload.len_bytes() == bytes,
            _ => true,
        };
        let is_right = is_flush || span.is_request(limit, volume.size) && sized;
        let refused = if volume.state.role != Role::Primary {
            Some(RequestError::NotPrimary)
        } else if !is_right {
            Some(RequestError::Inval)
        } else {
            None
        };
        if let Some(error) = refused {
            self.emit(Effect::Complete {
                request: id,
                result: Err(error),
            });
            return;
        }
        let generation = self.request_generation;
        // Block ids are never all ones, which means resync on the wire, nor 0.
        self.request_generation = if generation >= u32::MAX - 1 {
            1
        } else {
            generation + 1
        };
        let request = AppRequest::new(self.now, generation, request);
        let key = self.requests.insert(request);
        self.volume_mut(nr).users.ask();
        self.start_or_wait(key, RangeTurn::Comes);
    }

    /// Starts a request, or lets it wait for what holds it back (`docs/spec/behaviour.md`, section 8.3).
    fn start_or_wait(&mut self, key: RequestKey, turn: RangeTurn) {
        if !self.try_start(key, turn) {
            let nr = self.requests[key].volume();
            self.volume_mut(nr).users.wait(key);
        }
    }

    /// A write that waited for a range has it.
    pub(super) fn start_admitted(&mut self, key: RequestKey) {
        self.start_or_wait(key, RangeTurn::Here);
    }

    /// Starts a request, or puts it into the queue for its range. Not if something else than a range holds it back.
    fn try_start(&mut self, key: RequestKey, turn: RangeTurn) -> bool {
        let request = &self.requests[key];
        let nr = request.volume();
        let volume = self.volume(nr);
        let state = volume.state;
        let preparing = is_preparing(&state);
        // (What is not given up yet can be read.)
        let reads_on =
            request.is_read() && state.awaits_source() && state.disk == DiskState::UpToDate;
        if state.is_suspended() || preparing && !reads_on {
            return false;
        }
        if request.is_read() {
            self.start_read(key);
            return true;
        }
        if request.is_flush() {
            self.start_flush(key);
            return true;
        }
        let open_max = self
            .net
            .options
            .as_ref()
            .map_or(2048, |o| o.max_buffers.max(32));
        if volume.users.are_writes_held()
            || volume.peer.holds_writes()
            || volume.users.writes_open() >= open_max
            || volume.peer.awaits_blocks(request.span())
        {
            return false;
        }
        let span = request.span();
        let now = self.now;
        let volume = self.volume_mut(nr);
        if turn == RangeTurn::Comes && volume.held.is_taken(span) {
            let what = Queued::Application(key);
            volume.held.queue(span, what, false, now);
            self.retry_woken(nr);
            return true;
        }
        volume.held.insert(span, Holder::Application(key));
        volume.users.write_begins();
        self.activate(key);
        true
    }

    /// Starts what can start among the requests that wait.
    pub(super) fn retry_waiting(&mut self, nr: VolumeNr) {
        let Some(volume) = self.volumes.get_mut(nr) else {
            return;
        };
        for key in volume.users.take_waiting() {
            self.start_or_wait(key, RangeTurn::Comes);
        }
    }
}
