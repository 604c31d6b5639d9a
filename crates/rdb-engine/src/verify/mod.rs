//! Online verify (`docs/spec/wire.md`, section 10.7; `docs/spec/behaviour.md`, section 9.9). One node drives it (VerifyS,
//! `router/verify/drive.rs`): it asks for the digest of each block, compares it with its own, and tells the result. The other answers
//! (VerifyT, `answer.rs`).
//!
//! Both nodes' copies of a block are looked at while neither changes. A block that differs is marked out of sync on both;
//! nothing is repaired.

use alloc::collections::BTreeSet;

use rdb_meta::BLOCK_SECTORS;
use replica_proto::DigestAlgorithm;

use crate::ids::Time;
use crate::interval::Awaited;
use crate::range_locks::ReadTicket;
use crate::resync::{BlockWalk, Course, Pace};
use crate::span::Span;
use crate::status::{SyncProgress, VerifyProgress};

/// The verify of one volume, and what the next one has of the last. Blocks are 4 KiB; the last one may be shorter.
#[derive(Debug, Default)]
pub(crate) struct Verify {
    /// It has begun: here with the state VerifyS, at the answering side with the first request, which says where.
    pub(crate) begun: bool,
    /// This node drives it.
    pub(crate) drives: bool,
    pub(crate) course: Course,
    /// The first block.
    pub(crate) first: u64,
    /// Blocks without a result, up to the device's end.
    pub(crate) left: u64,
    /// Which blocks have been asked for; outstanding until there is a result.
    pub(crate) walk: BlockWalk,
    /// First sectors of blocks that have been asked for and have no result. While this node drives the verify, its users' writes
    /// wait for them.
    pub(crate) open: BTreeSet<u64>,
    /// Answering side: digests sent and results not yet come, with their bytes.
    pub(crate) answered: Awaited,
    /// Driver: requests without an answer. They outlast the verify, since the peer answers all the same.
    pub(crate) asked: Awaited,
    /// Driver.
    pub(crate) pace: Pace,
    /// Driver: a write holds the next block. This reader is woken when it ends.
    pub(crate) turn: Option<ReadTicket>,
    /// Driver: by which digest blocks are compared.
    pub(crate) algorithm: Option<DigestAlgorithm>,
    /// Driver: blocks that the peer has not served.
    pub(crate) skipped: u64,
    /// Differing sectors next to each other, told of when they end: first and last + 1.
    pub(crate) differs: Option<(u64, u64)>,
    /// The last result has come or is sent; a ping is on its way.
    pub(crate) ending: bool,
    /// First sector of the next verify, if its order does not say. Set by the end of each, on both sides; 0 after a whole one.
    pub(crate) next_start: u64,
    /// What the administrator has said of the verify that begins or runs: first sector, and the one it stops at.
    pub(crate) order: (Option<u64>, Option<u64>),
}

impl Verify {
    pub(crate) fn begin(&mut self, now: Time, first: u64, left: u64) {
        self.begun = true;
        self.course = Course::begin(now, left);
        self.walk.begin(first);
        (self.first, self.left) = (first, left);
    }

    /// The administrator orders a verify from the first of these sectors on, by default where the last one has ended, up to the
    /// second. One that runs only takes the second.
    pub(crate) fn order(&mut self, start: Option<u64>, stop: Option<u64>) {
        self.order = (start, stop);
    }

    /// Since when the block that has waited for the peer for longest does.
    pub(crate) fn oldest_awaited(&self) -> Option<Time> {
        let oldest = [self.answered.oldest(), self.asked.oldest()];
        oldest.into_iter().flatten().min()
    }

    /// Whether this node compares a block of these sectors with the peer's: a write now would come between the two reads.
    pub(crate) fn compares(&self, span: Span) -> bool {
        let blocks = span.sector / BLOCK_SECTORS * BLOCK_SECTORS..span.end();
        self.drives && self.open.range(blocks).next().is_some()
    }

    /// The peer has answered for a block that was asked for.
    pub(crate) fn answered(&mut self, span: Span) {
        self.asked.remove(span.sector);
        self.pace.arrived(span.sectors());
    }

    /// The block before which a verify driven here ends. It has one block at least, wherever it is to stop.
    pub(crate) fn end(&self, size: u64) -> u64 {
        let blocks = size.div_ceil(BLOCK_SECTORS);
        let stop = self
            .order
            .1
            .map_or(blocks, |stop| stop.div_ceil(BLOCK_SECTORS));
        stop.max(self.first + 1).min(blocks)
    }

    /// Where the verify that ends here goes on, if it was not whole.
    pub(crate) fn reached(&self) -> u64 {
        let next = self.walk.position() * BLOCK_SECTORS;
        self.open.first().map_or(next, |&first| first.min(next))
    }

    /// The connection is gone: nobody answers any more.
    pub(crate) fn connection_ended(&mut self) {
        self.asked = Awaited::default();
    }

    pub(crate) fn progress(&self, now: Time) -> SyncProgress {
        SyncProgress {
            want_kib: self.drives.then_some(self.pace.want_kib()),
            verify: Some(VerifyProgress {
                start_sector: self.first * BLOCK_SECTORS,
                stop_sector: self.order.1.filter(|_| self.drives),
                position_sector: self.reached(),
                skipped_blocks: self.skipped,
            }),
            ..self.course.progress(now, self.left)
        }
    }
}
