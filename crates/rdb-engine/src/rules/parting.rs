//! How a connection is left by order, with the peer's consent (`docs/spec/behaviour.md`, section 12.4).

use crate::state::{Change, ConnState, DiskState, StateError};

/// How a connection is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parting {
    /// Nobody's disk is outdated by it.
    #[default]
    Plainly,
    /// This node is Primary, and has the peer's disk outdated.
    OutdatingThePeer,
    /// The peer is Primary, and has this node's disk outdated.
    Outdated,
}

/// What follows when it cannot be asked for like this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// It is tried again after the next event.
    Waits,
    /// It is asked for like that.
    Instead(Parting),
    /// The connection is left, and the peer not asked: there is no disk that could be Outdated.
    Leaves,
    /// It is refused.
    Refused,
}

impl Parting {
    /// What is asked of the peer, and made.
    pub fn change(self) -> Change {
        let change = Change::conn(ConnState::Disconnecting);
        match self {
            Parting::Plainly => change,
            Parting::OutdatingThePeer => change.and_pdsk(DiskState::Outdated),
            Parting::Outdated => change.and_disk(DiskState::Outdated),
        }
    }

    /// The rules of this node refuse it.
    pub fn refused_here(self, error: StateError) -> Next {
        match (self, error) {
            (Parting::Plainly, StateError::InTransientState) => Next::Waits,
            // A Primary with fencing goes on alone once the peer's disk is Outdated.
            (Parting::Plainly, StateError::PrimaryNop) => Next::Instead(Parting::OutdatingThePeer),
            (Parting::Outdated, StateError::IsDiskless | StateError::LowerThanOutdated) => {
                Next::Leaves
            }
            _ => Next::Refused,
        }
    }

    /// The connection has ended before the answer. (L49) A peer whose disk was to be Outdated may never have heard of that: it
    /// counts as lost. If this node's was to be, the peer may have agreed, and gone on alone: it stays Outdated, as it is on record.
    pub fn unanswered(self) -> Parting {
        match self {
            Parting::Plainly | Parting::OutdatingThePeer => Parting::Plainly,
            Parting::Outdated => Parting::Outdated,
        }
    }

    /// The peer refuses it: it is Primary, and goes on only if we do not.
    pub fn refused_there(self) -> Next {
        match self {
            Parting::Plainly => Next::Instead(Parting::Outdated),
            _ => Next::Refused,
        }
    }
}
