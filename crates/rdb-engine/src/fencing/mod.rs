//! The fence procedure: a peer that cannot be reached is kept from going on by itself, by a handler of the administrator's
//! (`docs/spec/behaviour.md`, section 10.2).

use crate::ids::HandlerId;

/// The fence procedure of a connection.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    /// Set when the handler is asked for, cleared by its end. Without it the peer would be fenced twice at once.
    pub(crate) running: Option<Running>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Running {
    pub(crate) id: HandlerId,
    /// [`Meetings::count`](crate::net::meetings::Meetings::count) when it began: what a handler says of a peer that may have come back since is of no use.
    pub(crate) connects: u32,
    /// The peer is there, without a disk: what is asked for is only whether this node may go on with its own (L54).
    pub(crate) beside_diskless: bool,
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
