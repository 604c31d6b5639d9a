//! The fence procedure: a peer that cannot be reached is kept from going on by itself, by a handler of the administrator's
//! (`docs/spec/behaviour.md`, section 10.2).

use crate::ids::HandlerId;

/// The fence procedure of a connection.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    /// Set when the handler is asked for, cleared by its end. Without it the peer would be fenced twice at once.
    running: Option<Running>,
}

/// A handler of it that runs, or has run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running {
    id: HandlerId,
    /// [`Meetings::count`](crate::net::meetings::Meetings::count) when it began: what a handler says of a peer that may have come
    /// back since is of no use.
    connects: u32,
    /// The peer is there, without a disk: what is asked for is only whether this node may go on with its own (L54).
    beside_diskless: bool,
}

impl Fence {
    /// Whether the peer is being fenced.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// This handler was asked for, when the nodes had met `connects` times.
    pub(crate) fn begin(&mut self, id: HandlerId, connects: u32, beside_diskless: bool) {
        self.running = Some(Running {
            id,
            connects,
            beside_diskless,
        });
    }

    /// This handler has ended. Nothing if it is not what is waited for.
    pub(crate) fn end(&mut self, id: HandlerId) -> Option<Running> {
        self.running.take_if(|running| running.id == id)
    }

    /// # Panics
    /// If it waits for a handler that does not run: the peer would never be fenced again.
    pub(crate) fn check(&self, runs: impl Fn(HandlerId) -> bool) {
        let comes = self.running.is_none_or(|running| runs(running.id));
        assert!(comes, "the fence procedure waits for no handler");
    }
}

impl Running {
    /// Whether the nodes, which have met `connects` times, may have met since it began.
    pub(crate) fn met_since(&self, connects: u32) -> bool {
        self.connects != connects
    }

    /// Whether it was asked for beside a peer without a disk (L54).
    pub(crate) fn is_beside_diskless(&self) -> bool {
        self.beside_diskless
    }
}

/// What has become of the wish to have the peer fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fenced {
    /// The handler runs.
    Asked,
    /// It is not needed, or the peer is fenced.
    Yes,
    /// It is not possible.
    No,
}
