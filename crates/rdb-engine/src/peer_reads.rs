//! How much a peer may have read here at a time.
//!
//! Its reads and our users' share the disk. So only some of what it asks for is under way at once on each volume; the rest
//! waits here, costs neither the disk nor a buffer, and is forgotten with the connection. What is under way when a
//! connection ends counts until the disk has answered: a peer that comes again and again gets no more by that.

use alloc::collections::VecDeque;

use replica_proto::{BlockId, Digest};

use crate::event::Payload;
use crate::ids::VolumeNr;
use crate::resource::Resource;
use crate::state::DiskState;

/// A read that the peer asked for and that waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockedRead {
    pub(crate) sector: u64,
    pub(crate) bytes: u32,
    pub(crate) block_id: BlockId,
    pub(crate) purpose: Purpose,
}

/// What the peer reads for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Its application: P_DATA_REPLY.
    Application,
    /// A resync from here: P_RS_DATA_REPLY.
    Resync,
    /// The same, with the digest of what the target has: P_RS_IS_IN_SYNC if that is equal.
    Checksum(Digest),
    /// A verify that it drives: P_OV_REPLY.
    Verify,
}

/// The reads of the peer on one volume.
#[derive(Debug, Default)]
pub(crate) struct PeerReads {
    /// Their turn has not come.
    due: VecDeque<BlockedRead>,
    /// Bytes of those that are being read or wait for an overlapping write.
    under_way: u64,
    /// Those that are due are being looked at.
    continuing: bool,
}

impl PeerReads {
    /// How many wait for their turn.
    pub(crate) fn due(&self) -> usize {
        self.due.len()
    }

    fn has_room(&self, bytes: u32, most: u64) -> bool {
        self.under_way == 0 || self.under_way + cost(bytes) <= most
    }

    /// A read that was under way has ended, or waits no more.
    pub(crate) fn end(&mut self, bytes: u32) {
        debug_assert!(self.under_way >= cost(bytes), "a read that nobody began");
        self.under_way = self.under_way.saturating_sub(cost(bytes));
    }

    /// The connection is gone: nobody waits for those that have not begun.
    pub(crate) fn forget_due(&mut self) {
        self.due.clear();
    }

    /// # Panics
    /// If reads wait and nothing is under way whose end lets them go on.
    pub(crate) fn check(&self) {
        assert!(
            self.due.is_empty() || self.under_way > 0,
            "reads of the peer wait for nothing"
        );
    }
}

/// What a read takes of a buffer pool: pieces are powers of two, of a page at least.
fn cost(bytes: u32) -> u64 {
    u64::from(bytes).next_power_of_two().max(4096)
}

/// Bytes of a volume's reads that may be under way for the peer: a quarter of `max-buffers`, 2 MiB by default and 16 MiB at
/// most, which is half of the buffers there are for it. One read always may. A resync does not need more, since what has been
/// read leaves the engine at once.
fn under_way_max(max_buffers: u32) -> u64 {
    (u64::from(max_buffers) * 4096 / 4).min(16 << 20)
}

impl<P: Payload> Resource<P> {
    fn peer_reads_max(&self) -> u64 {
        under_way_max(self.net.options.as_ref().map_or(2048, |o| o.max_buffers))
    }

    /// The peer asks for this: it is read now or when its turn comes.
    pub(crate) fn admit_peer_read(&mut self, nr: VolumeNr, read: BlockedRead) {
        let reads = &mut self.volume_mut(nr).peer.peer_reads;
        reads.due.push_back(read);
        self.continue_peer_reads(nr);
    }

    /// Begins what may begin, in order. Without a disk to read from, that is everything: it is refused.
    ///
    /// A read that is refused makes room for the next one; that is done here, and not by each within the one before.
    pub(crate) fn continue_peer_reads(&mut self, nr: VolumeNr) {
        let most = self.peer_reads_max();
        let Some(volume) = self.volumes.get_mut(&nr) else {
            return;
        };
        if core::mem::replace(&mut volume.peer.peer_reads.continuing, true) {
            return;
        }
        while let Some(volume) = self.volumes.get_mut(&nr) {
            let readable = volume.state.disk == DiskState::UpToDate;
            let reads = &mut volume.peer.peer_reads;
            let fits = |read: &BlockedRead| !readable || reads.has_room(read.bytes, most);
            if !reads.due.front().is_some_and(fits) {
                break;
            }
            let Some(read) = reads.due.pop_front() else {
                break;
            };
            reads.under_way += cost(read.bytes);
            self.serve_read(nr, read, None);
        }
        if let Some(volume) = self.volumes.get_mut(&nr) {
            volume.peer.peer_reads.continuing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_reads_cost_the_page_that_they_take() {
        assert_eq!(cost(512), 4096);
        assert_eq!(cost(4096), 4096);
        assert_eq!(cost(4608), 8192);
        assert_eq!(cost(crate::REQUEST_MAX_BYTES), 1 << 20);
        assert_eq!(under_way_max(2048), 2 << 20);
    }

    #[test]
    fn one_read_always_has_room() {
        let mut reads = PeerReads::default();
        let most = under_way_max(32);
        assert!(reads.has_room(1 << 20, most));
        reads.under_way += cost(1 << 20);
        assert!(!reads.has_room(512, most));
        reads.end(1 << 20);
        assert!(reads.has_room(512, most));
    }
}
