//! How much a peer may have read here at a time.
//!
//! Its reads and our users' share the disk. So only some of what it asks for is under way at once on each volume; the rest
//! waits here, costs neither the disk nor a buffer, and is forgotten with the connection. What is under way when a
//! connection ends counts until the disk has answered: a peer that comes again and again gets no more by that.

use alloc::collections::VecDeque;

use replica_proto::{BlockId, Digest};

use crate::span::Span;

/// A read that the peer asked for and that waits.
#[derive(Debug, Clone)]
pub(crate) struct BlockedRead {
    pub span: Span,
    pub block_id: BlockId,
    pub purpose: Purpose,
}

/// What the peer reads for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Its application: P_DATA_REPLY.
    Application,
    /// A resync from here: P_RS_DATA_REPLY.
    Resync,
    /// The same, with the digest of what the target has: P_RS_IS_IN_SYNC if that is equal.
    Checksum(Digest),
    /// A verify that it drives: P_OV_REPLY.
    Verify,
    /// A verify that we drive, with the digest of what it has: P_OV_RESULT.
    Compare(Digest),
}

/// The reads of the peer on one volume.
#[derive(Debug, Default)]
pub(crate) struct PeerReads {
    /// Their turn has not come.
    due: VecDeque<BlockedRead>,
    /// Bytes of those that are being read or wait for an overlapping write.
    under_way: u64,
    /// Those that are due are being looked at. Set when that begins, cleared when none may begin. Without it one that is refused
    /// would look at the next from within.
    looking: bool,
}

impl PeerReads {
    /// How many wait for their turn.
    pub(crate) fn due(&self) -> usize {
        self.due.len()
    }

    /// The peer asks for this.
    pub(crate) fn ask(&mut self, read: BlockedRead) {
        self.due.push_back(read);
    }

    /// Whether those that are due are to be looked at, one after the other, until [`PeerReads::next`] has none: not if that is being
    /// done.
    pub(crate) fn begin_to_look(&mut self) -> bool {
        !core::mem::replace(&mut self.looking, true)
    }

    /// The next one that begins, if it may: there is room beside those that are under way, or all are refused. When there is none,
    /// the look is over.
    pub(crate) fn next(&mut self, refused: bool, most: u64) -> Option<BlockedRead> {
        let next = self.due.front();
        let may = next.is_some_and(|read| refused || self.has_room(read.span.bytes, most));
        self.looking = may;
        let next = if may { self.due.pop_front() } else { None };
        if let Some(read) = &next {
            self.under_way += cost(read.span.bytes);
        }
        next
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
    /// If reads wait and nothing is under way whose end lets them go on, or nobody looks at them any more.
    pub(crate) fn check(&self) {
        assert!(
            self.due.is_empty() || self.under_way > 0,
            "reads of the peer wait for nothing"
        );
        assert!(!self.looking, "nobody looks any more at reads that are due");
    }
}

/// What a read takes of a buffer pool: pieces are powers of two, of a page at least.
fn cost(bytes: u32) -> u64 {
    u64::from(bytes).next_power_of_two().max(4096)
}

/// Bytes of a volume's reads that may be under way for the peer: a quarter of `max-buffers`, 2 MiB by default and 16 MiB at
/// most, which is half of the buffers there are for it. One read always may. A resync does not need more, since what has been
/// read leaves the engine at once.
pub(crate) fn under_way_max(max_buffers: u32) -> u64 {
    (u64::from(max_buffers) * 4096 / 4).min(16 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

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

    #[test]
    fn they_begin_in_order_as_far_as_there_is_room_or_all_are_refused() {
        let mut reads = PeerReads::default();
        for sector in [0, 8, 16] {
            reads.ask(BlockedRead {
                span: Span::between(sector, sector + 8),
                block_id: BlockId::SYNCER,
                purpose: Purpose::Resync,
            });
        }
        let next = |reads: &mut PeerReads, refused| {
            assert!(reads.begin_to_look() && !reads.begin_to_look());
            let begun = core::iter::from_fn(|| reads.next(refused, 4096));
            let begun = begun.map(|read| read.span.sector).collect::<Vec<_>>();
            reads.check();
            begun
        };
        assert_eq!(next(&mut reads, false), [0]);
        assert_eq!(next(&mut reads, false), [], "there is no room");
        reads.end(4096);
        assert_eq!(next(&mut reads, false), [8]);
        assert_eq!(next(&mut reads, true), [16]);
    }
}
