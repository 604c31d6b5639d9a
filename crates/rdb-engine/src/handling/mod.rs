//! Handlers that run, and what waits for their end (`docs/spec/behaviour.md`, section 10.3).

use alloc::collections::BTreeMap;

use crate::generation::Generation;
use crate::handler::Handler;
use crate::ids::{HandlerId, Session, VolumeNr};

/// The handlers that have been asked for and have not ended.
#[derive(Debug, Default)]
pub(crate) struct Handling {
    /// Counts them.
    begun: u64,
    running: BTreeMap<HandlerId, Run>,
}

/// What one of them is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub handler: Handler,
    /// Nothing for one of the resource's.
    pub volume: Option<VolumeNr>,
    pub waits: Waits,
}

/// What waits for its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    Nothing,
    /// The fence procedure.
    Fence,
    /// A resync to this volume, under this sync UUID, in this life of the connection.
    Target(VolumeNr, Generation, Session),
    /// A resync from this volume.
    Source(VolumeNr, Session),
    /// A snapshot, from here or of the peer.
    Snapshot,
}

impl Handling {
    /// Begins a run, and says whether it is a new one: a handler that still runs for the same volume is not started a second
    /// time, and whoever waits now waits for that.
    pub(crate) fn begin(&mut self, run: Run) -> (HandlerId, bool) {
        let mut running = self.running.iter_mut();
        let same = |old: &Run| old.handler == run.handler && old.volume == run.volume;
        if let Some((&id, old)) = running.find(|(_, old)| same(old)) {
            if run.waits != Waits::Nothing {
                old.waits = run.waits;
            }
            return (id, false);
        }
        self.begun += 1;
        let id = HandlerId(self.begun);
        self.running.insert(id, run);
        (id, true)
    }

    pub(crate) fn end(&mut self, id: HandlerId) -> Option<Run> {
        self.running.remove(&id)
    }

    /// A resync of this volume does not come to begin: nobody waits for its handler any more.
    pub(crate) fn forget_resync(&mut self, nr: VolumeNr) {
        for run in self.running.values_mut() {
            if matches!(run.waits, Waits::Target(of, ..) | Waits::Source(of, _) if of == nr) {
                run.waits = Waits::Nothing;
            }
        }
    }

    /// Nobody waits for this run any more.
    pub(crate) fn forget(&mut self, id: HandlerId) {
        if let Some(run) = self.running.get_mut(&id) {
            run.waits = Waits::Nothing;
        }
    }

    /// Whether this handler runs, for whatever.
    pub(crate) fn runs(&self, handler: Handler) -> bool {
        self.running.values().any(|run| run.handler == handler)
    }

    /// Whether this run has not ended, and this waits for it.
    pub(crate) fn runs_for(&self, waits: Waits, id: HandlerId) -> bool {
        self.running.get(&id).is_some_and(|run| run.waits == waits)
    }

    /// Whether somebody waits for what a handler decides: the fence procedure, or a resync.
    pub(crate) fn decides(&self) -> bool {
        let decides = |run: &Run| !matches!(run.waits, Waits::Nothing | Waits::Snapshot);
        self.running.values().any(decides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_handler_that_runs_waits_for_that() {
        let mut handling = Handling::default();
        let run = |waits| Run {
            handler: Handler::FencePeer,
            volume: None,
            waits,
        };
        let (id, is_new) = handling.begin(run(Waits::Nothing));
        assert!(is_new && !handling.decides());
        assert_eq!(handling.begin(run(Waits::Fence)), (id, false));
        assert_eq!(handling.begin(run(Waits::Nothing)), (id, false));
        assert!(handling.runs_for(Waits::Fence, id) && handling.decides());
        handling.forget(id);
        assert!(handling.runs(Handler::FencePeer) && !handling.decides());
        assert!(handling.end(id).is_some() && handling.end(id).is_none());
    }
}
