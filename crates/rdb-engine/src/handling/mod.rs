//! Handlers that run, and what waits for their end (`docs/spec/behaviour.md`, section 10.3).

mod steps;

use alloc::collections::BTreeMap;

use crate::handler::Handler;
use crate::ids::{HandlerId, VolumeNr};

/// The handlers that have been asked for and have not ended.
#[derive(Debug, Default)]
pub(crate) struct Handling {
    /// Counts them.
    begun: u64,
    running: BTreeMap<HandlerId, Run>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) handler: Handler,
    /// Nothing for one of the resource's.
    pub(crate) volume: Option<VolumeNr>,
}

impl Handling {
    fn begin(&mut self, run: Run) -> HandlerId {
        self.begun += 1;
        let id = HandlerId(self.begun);
        self.running.insert(id, run);
        id
    }

    fn end(&mut self, id: HandlerId) -> Option<Run> {
        self.running.remove(&id)
    }
}
