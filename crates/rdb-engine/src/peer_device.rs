//! The peer's side of a volume: what it has told of itself, and what the two nodes are doing with each other's data.

use replica_proto::{StateWord, SyncParam};

use crate::generation::PeerIds;
use crate::ids::Time;
use crate::interval::Awaited;
use crate::resync::Resync;
use crate::rules::packets::Past;
use crate::verify::Verify;

/// One volume at the peer.
pub(crate) struct PeerDevice<P> {
    /// Its generation identifiers, once received in this connection.
    pub(crate) ids: Option<PeerIds>,
    /// The generation that it has begun because our disk goes, told before we know that it has gone: a detach is agreed on
    /// with the peer first.
    pub(crate) moved_on: Option<u64>,
    /// A write of ours has failed on its disk, and it has not yet said what became of that disk.
    pub(crate) write_failed: bool,
    /// Its request that our data be replaced by its own, which waits for our users' writes; new ones are held.
    pub(crate) wants_us_as_target: bool,
    /// Our first state of this connection, held back until we know that we take the peer's data.
    pub(crate) state_held: Option<StateWord>,
    /// The last size it announced for its disk in this connection; 0 if none.
    pub(crate) disk_size: u64,
    /// What this volume has been in this connection, for packets that were on their way.
    pub(crate) past: Past,
    /// What it told of the pace of resyncs, which holds while it is connected.
    pub(crate) pace: Option<SyncParam>,
    /// Bits we announced in our last P_UUIDS.
    pub(crate) bits_announced: u64,

    /// The resync with it that runs, or ran last.
    pub(crate) resync: Resync<P>,
    /// The verify that either of the two drives.
    pub(crate) verify: Verify,
}

impl<P> PeerDevice<P> {
    pub(crate) fn new() -> Self {
        PeerDevice {
            ids: None,
            moved_on: None,
            write_failed: false,
            wants_us_as_target: false,
            state_held: None,
            disk_size: 0,
            past: Past::empty(),
            pace: None,
            bits_announced: 0,
            resync: Resync::default(),
            verify: Verify::default(),
        }
    }

    /// Whether blocks of `start..end` are on their way for a resync, or being compared: users' writes wait for that.
    pub(crate) fn awaits_blocks(&self, start: u64, end: u64) -> bool {
        self.resync.awaited.overlap(start, end).is_some() || self.verify.compares(start, end)
    }

    /// Since when the block of a resync or verify that has waited for the peer for longest does.
    pub(crate) fn oldest_awaited(&self) -> Option<Time> {
        let blocks = [&self.resync.replied, &self.resync.awaited];
        let verify = self.verify.oldest_awaited();
        let oldest = blocks.into_iter().filter_map(Awaited::oldest);
        oldest.chain(verify).min()
    }
}
