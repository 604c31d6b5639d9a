//! Names of what comes and goes on a resource's thread. The generation tells those apart that had the same place one after the
//! other, for what completes late.

use rdb_engine::VolumeNr;

/// A client of the NBD socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ClientId {
    pub(crate) key: u32,
    pub(crate) generation: u32,
}

/// A device node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NodeId {
    pub(crate) volume: VolumeNr,
    pub(crate) generation: u32,
}
