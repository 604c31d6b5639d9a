//! Handlers: programs of the administrator's that are run when something happens (`docs/spec/behaviour.md`, section 10.3).
//!
//! The engine asks for one by [`Effect::RunHandler`](crate::Effect::RunHandler) and hears of its end by
//! [`Event::HandlerDone`](crate::Event::HandlerDone); nothing in between waits but what the handler decides.

use core::fmt;

/// What a handler is run for; `Display` prints the event's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Handler {
    /// Primary, and no copy of the data is UpToDate.
    PriOnInconDegr,
    /// This Primary lost a split brain and cannot give up its role.
    PriLostAfterSb,
    /// This Primary should have become target.
    PriLost,
    /// The peer cannot be reached, and must not go on by itself.
    FencePeer,
    /// The peer is in sync again.
    UnfencePeer,
    /// The disk has failed, and is given up.
    LocalIoError,
    /// A split brain was found, solved or not.
    InitialSplitBrain,
    /// A split brain stays unsolved.
    SplitBrain,
    /// The disk is about to become the target of a resync.
    BeforeResyncTarget,
    /// A resync of this disk has ended, well or not.
    AfterResyncTarget,
    /// The disk is about to become the source of a resync.
    BeforeResyncSource,
    /// A verify has ended, and blocks are marked.
    OutOfSync,
    /// A snapshot of both nodes is taken, from here or by the peer.
    Snapshot,
}

impl Handler {
    /// Every one, in the order of the table.
    pub const ALL: [Handler; 13] = [
        Handler::PriOnInconDegr,
        Handler::PriLostAfterSb,
        Handler::PriLost,
        Handler::FencePeer,
        Handler::UnfencePeer,
        Handler::LocalIoError,
        Handler::InitialSplitBrain,
        Handler::SplitBrain,
        Handler::BeforeResyncTarget,
        Handler::AfterResyncTarget,
        Handler::BeforeResyncSource,
        Handler::OutOfSync,
        Handler::Snapshot,
    ];

    /// Its name in the configuration, in the log, and as a command.
    pub fn name(self) -> &'static str {
        match self {
            Handler::PriOnInconDegr => "pri-on-incon-degr",
            Handler::PriLostAfterSb => "pri-lost-after-sb",
            Handler::PriLost => "pri-lost",
            Handler::FencePeer => "fence-peer",
            Handler::UnfencePeer => "unfence-peer",
            Handler::LocalIoError => "local-io-error",
            Handler::InitialSplitBrain => "initial-split-brain",
            Handler::SplitBrain => "split-brain",
            Handler::BeforeResyncTarget => "before-resync-target",
            Handler::AfterResyncTarget => "after-resync-target",
            Handler::BeforeResyncSource => "before-resync-source",
            Handler::OutOfSync => "out-of-sync",
            Handler::Snapshot => "snapshot",
        }
    }

    /// The handler with this name.
    pub fn from_name(name: &str) -> Option<Handler> {
        Handler::ALL
            .into_iter()
            .find(|handler| handler.name() == name)
    }

    /// Whether it is run for the resource; the others are run for one of its volumes.
    pub fn is_of_resource(self) -> bool {
        matches!(
            self,
            Handler::FencePeer | Handler::UnfencePeer | Handler::Snapshot
        )
    }

    /// Whether it is run on a Primary whose data are to go, and is expected to end the machine.
    pub fn is_for_losers(self) -> bool {
        matches!(self, Handler::PriLost | Handler::PriLostAfterSb)
    }
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Some handlers: those that are configured.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Handlers(u16);

impl Handlers {
    /// None.
    pub const NONE: Handlers = Handlers(0);

    /// Whether it is one of them.
    pub fn has(self, handler: Handler) -> bool {
        self.0 & (1 << handler as u16) != 0
    }

    /// And this one.
    #[must_use]
    pub fn and(self, handler: Handler) -> Handlers {
        Handlers(self.0 | 1 << handler as u16)
    }
}

impl FromIterator<Handler> for Handlers {
    fn from_iter<T: IntoIterator<Item = Handler>>(handlers: T) -> Self {
        handlers.into_iter().fold(Handlers::NONE, Handlers::and)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn every_handler_has_a_name_and_a_place_of_its_own() {
        for handler in Handler::ALL {
            assert_eq!(Handler::from_name(handler.name()), Some(handler));
            let alone: Handlers = [handler].into_iter().collect();
            let those: Vec<_> = Handler::ALL.into_iter().filter(|&h| alone.has(h)).collect();
            assert_eq!(those, [handler]);
        }
        assert_eq!(Handler::from_name("quorum-lost"), None);
    }
}
