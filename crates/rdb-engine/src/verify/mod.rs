//! Online verify (`docs/spec/wire.md`, section 10.7; `docs/spec/behaviour.md`, section 9.9). One node drives it (VerifyS,
//! `router/verify/drive.rs`): it asks for the digest of each block, compares it with its own, and tells the result. The other answers
//! (VerifyT, `router/verify/answer.rs`).
//!
//! Both nodes' copies of a block are looked at while neither changes. A block that differs is marked out of sync on both;
//! nothing is repaired.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use rdb_meta::BLOCK_SECTORS;
use replica_proto::{Digest, DigestAlgorithm};

use crate::config::DiskOptions;
use crate::effect::Level;
use crate::event::Payload;
use crate::ids::Time;
use crate::interval::Awaited;
use crate::range_locks::{Holder, RangeLocks, ReadTicket};
use crate::resync::{BlockWalk, Course, Pace};
use crate::span::Span;
use crate::status::{SyncProgress, VerifyProgress};

/// The verify of one volume, and what the next one has of the last. Blocks are 4 KiB; the last one may be shorter.
#[derive(Debug, Default)]
pub(crate) struct Verify {
    /// It has begun: here with the state VerifyS, at the answering side with the first request, which says where.
    begun: bool,
    /// This node drives it.
    drives: bool,
    course: Course,
    /// The first block.
    first: u64,
    /// Blocks without a result, up to the device's end.
    left: u64,
    /// Which blocks have been asked for; outstanding until there is a result.
    walk: BlockWalk,
    /// First sectors of blocks that have been asked for and have no result. While this node drives the verify, its users' writes
    /// wait for them.
    open: BTreeSet<u64>,
    /// Answering side: digests sent and results not yet come, with their bytes.
    digests_sent: Awaited,
    /// Driver: requests without an answer. They outlast the verify, since the peer answers all the same.
    asked: Awaited,
    /// Driver.
    pace: Pace,
    /// Driver: a write holds the next block. This reader is woken when it ends.
    turn: Option<ReadTicket>,
    /// Driver: by which digest blocks are compared.
    algorithm: Option<DigestAlgorithm>,
    /// Driver: blocks that the peer has not served.
    skipped: u64,
    /// Differing sectors next to each other, told of when they end: first and last + 1.
    differs: Option<(u64, u64)>,
    /// The last result has come or is sent; a ping is on its way.
    ending: bool,
    /// First sector of the next verify, if its order does not say. Set by the end of each, on both sides; 0 after a whole one.
    next_start: u64,
    /// What the administrator has said of the verify that begins or runs: first sector, and the one it stops at.
    order: (Option<u64>, Option<u64>),
}

/// How a verify begins that is driven here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// First sector.
    pub sector: u64,
    /// The order has it stop before the end, and the peer knows no such verify: it goes to the end.
    pub stops_not: bool,
}

/// What is left of a verify that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Over {
    /// This node has driven it.
    pub drove: bool,
    /// Answers that were awaited from the driver, and are not any more.
    pub unanswered: usize,
    /// The sector where it goes on the next time, if it was not whole.
    pub reached: Option<u64>,
}

/// Sectors of blocks next to each other that differ: the first, and how many.
pub(crate) type Differing = (u64, u64);

impl Verify {
    fn begin(&mut self, now: Time, first: u64, left: u64) {
        self.begun = true;
        self.course = Course::begin(now, left);
        self.walk.begin(first);
        (self.first, self.left) = (first, left);
    }

    // ---- the driver ----------------------------------------------------------------------------------------------

    /// The administrator orders a verify from the first of these sectors on, by default where the last one has ended, up to the
    /// second. One that runs only takes the second.
    pub(crate) fn order(&mut self, start: Option<u64>, stop: Option<u64>) {
        self.order = (start, stop);
    }

    /// The ordered verify of a device of this size begins. `stops`: the peer knows verifies that end before the device does.
    pub(crate) fn begin_driving(
        &mut self,
        now: Time,
        size: u64,
        algorithm: Option<DigestAlgorithm>,
        stops: bool,
    ) -> Beginning {
        let blocks = size.div_ceil(BLOCK_SECTORS);
        let (start, stop) = self.order;
        let first = start.unwrap_or(self.next_start) / BLOCK_SECTORS;
        let first = first.min(blocks.saturating_sub(1));
        self.begin(now, first, blocks - first);
        self.drives = true;
        self.algorithm = algorithm;
        self.order.1 = stop.filter(|_| stops);
        Beginning {
            sector: first * BLOCK_SECTORS,
            stops_not: stop.is_some() && !stops,
        }
    }

    /// A step begins. `application_sectors`: what applications have written.
    pub(crate) fn step(&mut self, now: Time, options: &DiskOptions, application_sectors: u64) {
        self.course.mark(now, self.left);
        let recent_kib = self.course.recent_kib(now, self.left);
        let blocks = self.pace.allowed(options, application_sectors, recent_kib);
        self.walk.allow(blocks);
    }

    /// The next block of a device of this size, if it may be asked for, as far as the step and `window` sectors under way allow
    /// that.
    pub(crate) fn next_block(&self, size: u64, window: u64) -> Option<Span> {
        let block = self.walk.position();
        let may = self.drives
            && !self.ending
            && self.turn.is_none()
            && block < self.end(size)
            && self.walk.most(window).is_some();
        let span = may.then(|| Span::of_blocks(block, 1, size));
        // (One that was asked for by a verify that was given up is asked for when its answer has come.)
        span.filter(|&span| !self.asked.overlaps(span))
    }

    /// A write holds the next block: this reader is woken when it ends.
    pub(crate) fn wait_for_turn(&mut self, ticket: ReadTicket) {
        self.turn = Some(ticket);
    }

    /// This reader is woken. Says whether it has waited for the next block.
    pub(crate) fn takes_turn(&mut self, ticket: ReadTicket) -> bool {
        self.turn.take_if(|turn| *turn == ticket).is_some()
    }

    /// The next block is asked for.
    pub(crate) fn ask(&mut self, span: Span, now: Time) {
        self.open.insert(span.sector);
        self.asked.insert(span, now);
        let next = self.walk.position() + 1;
        self.walk.ask(next, 1, span.sectors());
        self.pace.requested(span.sectors());
    }

    /// The peer says what it has in this block. Says whether that was asked for, by such a digest.
    pub(crate) fn digest_came(&mut self, span: Span, digest: &Digest) -> bool {
        let expected = self.algorithm.is_none_or(|a| a.len() == digest.len());
        let asked = expected && self.asked.contains(span);
        if asked {
            self.answered(span);
        }
        asked
    }

    /// The peer does not serve the block of this first sector. Says whether it was asked for.
    pub(crate) fn refused(&mut self, sector: u64) -> bool {
        let Some(span) = self.asked.at(sector) else {
            return false;
        };
        self.answered(span);
        if self.open.remove(&sector) {
            self.walk.settle(span.sectors());
            self.left = self.left.saturating_sub(1);
            self.skipped += 1;
        }
        true
    }

    fn answered(&mut self, span: Span) {
        self.asked.remove(span.sector);
        self.pace.arrived(span.sectors());
    }

    /// Whether this block waits for its result. (What was asked for by a verify that is over does not.)
    pub(crate) fn is_open(&self, span: Span) -> bool {
        self.open.contains(&span.sector)
    }

    /// Whether the block that was read here is what the peer has by its digest.
    pub(crate) fn is_equal<P: Payload>(&self, own: &P, peers: Digest) -> bool {
        self.algorithm.is_some_and(|a| own.digest(a) == peers)
    }

    /// Whether this node compares a block of these sectors with the peer's: a write now would come between the two reads.
    pub(crate) fn compares(&self, span: Span) -> bool {
        let blocks = span.sector / BLOCK_SECTORS * BLOCK_SECTORS..span.end();
        self.drives && self.open.range(blocks).next().is_some()
    }

    /// The block before which a verify driven here ends. It has one block at least, wherever it is to stop.
    fn end(&self, size: u64) -> u64 {
        let blocks = size.div_ceil(BLOCK_SECTORS);
        let stop = self
            .order
            .1
            .map_or(blocks, |stop| stop.div_ceil(BLOCK_SECTORS));
        stop.max(self.first + 1).min(blocks)
    }

    /// Where the verify that ends here goes on, if it was not whole.
    fn reached(&self) -> u64 {
        let next = self.walk.position() * BLOCK_SECTORS;
        self.open.first().map_or(next, |&first| first.min(next))
    }

    /// Whether every block of a device of this size has been asked for and has its result: then the end begins.
    pub(crate) fn begins_end(&mut self, size: u64) -> bool {
        let begins = self.drives
            && !self.ending
            && self.open.is_empty()
            && self.walk.position() >= self.end(size);
        self.ending |= begins;
        begins
    }

    // ---- the side that answers -----------------------------------------------------------------------------------

    /// The driver asks for this block of a device of this size. Says whether it is the first.
    pub(crate) fn requested(&mut self, span: Span, size: u64, now: Time) -> bool {
        let (block, blocks) = (span.sector / BLOCK_SECTORS, size.div_ceil(BLOCK_SECTORS));
        let begins = !self.begun;
        if begins {
            self.begin(now, block, blocks.saturating_sub(block));
        }
        self.open.insert(span.sector);
        self.walk.ask(block.saturating_add(1), 1, span.sectors());
        begins
    }

    /// The driver is told what this block is here.
    pub(crate) fn digest_sent(&mut self, span: Span, now: Time) {
        self.digests_sent.insert(span, now);
    }

    /// The driver tells the result of this block. Says whether it was told what that is here.
    pub(crate) fn result_came(&mut self, span: Span) -> bool {
        self.digests_sent.contains(span) && self.digests_sent.remove(span.sector)
    }

    /// Whether the last result has come: then the end begins.
    pub(crate) fn end_begins_here(&mut self) -> bool {
        let begins = self.left == 0 && !self.ending;
        self.ending |= begins;
        begins
    }

    // ---- both ----------------------------------------------------------------------------------------------------

    /// The result of a block, which is the same on both sides. Returns differing blocks that have come to an end with it.
    pub(crate) fn block_done(&mut self, span: Span, equal: bool, now: Time) -> Option<Differing> {
        self.open.remove(&span.sector);
        self.walk.settle(span.sectors());
        self.left = self.left.saturating_sub(1);
        self.course.mark(now, self.left);
        if equal {
            return self.take_differing();
        }
        if let Some((_, end)) = &mut self.differs
            && *end == span.sector
        {
            *end = span.end();
            return None;
        }
        let ended = self.take_differing();
        self.differs = Some((span.sector, span.end()));
        ended
    }

    /// The differing blocks that were found last, if they have not been told of.
    pub(crate) fn take_differing(&mut self) -> Option<Differing> {
        let (first, end) = self.differs.take()?;
        Some((first, end - first))
    }

    /// What the log is told at its end.
    pub(crate) fn summary(&self, now: Time) -> Vec<(Level, String)> {
        let done = self.course.total() - self.left;
        let text = format!("Online verify done {}", self.course.summary(now, done));
        let mut lines = vec![(Level::Info, text)];
        if self.skipped > 0 {
            let skipped = self.skipped;
            let text = format!("Online verify: the peer has not served {skipped} blocks");
            lines.push((Level::Warn, text));
        }
        lines
    }

    /// Nothing of it is waited for any more, and its ranges are free. What the next one goes by stays.
    pub(crate) fn end_here(&mut self, held: &mut RangeLocks) -> Over {
        let unfinished = self.begun && self.left > 0;
        let next_start = match self.begun {
            false => self.next_start,
            true if unfinished => self.reached(),
            true => 0,
        };
        let fresh = Verify {
            next_start,
            asked: core::mem::take(&mut self.asked),
            ..Verify::default()
        };
        let last = core::mem::replace(self, fresh);
        let mut unanswered = 0;
        for span in last.digests_sent.iter() {
            if held.holder_at(span.sector) == Some(Holder::Verify) {
                held.remove(span.sector);
            }
            unanswered += 1;
        }
        Over {
            drove: last.drives,
            unanswered,
            reached: unfinished.then_some(next_start),
        }
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

    /// Since when the block that has waited for the peer for longest does.
    pub(crate) fn oldest_awaited(&self) -> Option<Time> {
        let oldest = [self.digests_sent.oldest(), self.asked.oldest()];
        oldest.into_iter().flatten().min()
    }

    /// Checks what must always hold between two events.
    ///
    /// # Panics
    /// If it does not.
    pub(crate) fn check(&self) {
        let open = self.open.len() as u64;
        assert!(
            self.walk.outstanding() <= open * BLOCK_SECTORS || !self.drives,
            "more is outstanding than is open"
        );
        if self.drives {
            let passed = self.walk.position() - self.first;
            let results = self.course.total() - self.left;
            assert_eq!(passed, results + open, "a block has got lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 804;
    const WINDOW: u64 = 64;
    const NOW: Time = Time(0);

    fn options() -> DiskOptions {
        DiskOptions {
            c_plan_ahead_ds: 0,
            resync_rate_kib: 40_000,
            ..DiskOptions::default()
        }
    }

    /// A verify that is driven here and may ask for a thousand blocks.
    fn driver(start: Option<u64>, stop: Option<u64>) -> Verify {
        let mut verify = Verify::default();
        verify.order(start, stop);
        drive(&mut verify);
        verify
    }

    fn drive(verify: &mut Verify) -> Beginning {
        let beginning = verify.begin_driving(NOW, SIZE, None, true);
        verify.step(NOW, &options(), 0);
        beginning
    }

    fn ask(verify: &mut Verify) -> Option<Span> {
        let span = verify.next_block(SIZE, WINDOW)?;
        verify.ask(span, NOW);
        verify.check();
        Some(span)
    }

    fn compare(verify: &mut Verify, span: Span, equal: bool) -> Option<Differing> {
        verify.answered(span);
        let told = verify.block_done(span, equal, NOW);
        verify.check();
        told
    }

    #[test]
    fn a_verify_ends_when_every_block_has_its_result() {
        let mut verify = driver(None, None);
        let mut blocks = 0;
        while let Some(span) = ask(&mut verify) {
            assert!(!verify.begins_end(SIZE));
            compare(&mut verify, span, true);
            blocks += 1;
        }
        assert_eq!(blocks, 101, "the last one is shorter");
        assert!(verify.begins_end(SIZE) && !verify.begins_end(SIZE));
        let over = verify.end_here(&mut RangeLocks::default());
        assert!(over.drove && over.reached.is_none());
        assert_eq!(drive(&mut verify).sector, 0);
    }

    #[test]
    fn one_that_is_given_up_goes_on_at_the_first_block_without_a_result() {
        let mut verify = driver(Some(80), Some(400));
        let spans = [(); 3].map(|()| ask(&mut verify).unwrap());
        compare(&mut verify, spans[0], true);
        compare(&mut verify, spans[2], true);
        let over = verify.end_here(&mut RangeLocks::default());
        assert_eq!(over.reached, Some(88));
        // Its answer is still to come: the next one waits for that.
        assert_eq!(drive(&mut verify).sector, 88);
        assert_eq!(verify.next_block(SIZE, WINDOW), None);
        assert!(verify.refused(88) && !verify.refused(88));
        assert_eq!(ask(&mut verify), Some(spans[1]));
        assert_eq!(verify.progress(NOW).left_blocks, 90, "none was skipped");
    }

    #[test]
    fn one_that_stops_has_a_block_at_least_and_goes_to_the_end_beside_a_peer_that_cannot() {
        let mut verify = driver(Some(80), Some(8));
        let span = ask(&mut verify).unwrap();
        assert_eq!(verify.next_block(SIZE, WINDOW), None);
        compare(&mut verify, span, true);
        assert!(verify.begins_end(SIZE));
        let mut verify = Verify::default();
        verify.order(None, Some(8));
        assert!(verify.begin_driving(NOW, SIZE, None, false).stops_not);
        assert_eq!(verify.end(SIZE), 101);
    }

    #[test]
    fn blocks_that_differ_are_told_of_together() {
        let mut verify = driver(None, None);
        let spans = [(); 5].map(|()| ask(&mut verify).unwrap());
        assert_eq!(compare(&mut verify, spans[0], false), None);
        assert_eq!(compare(&mut verify, spans[1], false), None);
        assert_eq!(compare(&mut verify, spans[2], true), Some((0, 16)));
        assert_eq!(compare(&mut verify, spans[3], false), None);
        assert_eq!(verify.take_differing(), Some((24, 8)));
        assert_eq!(verify.take_differing(), None);
    }

    #[test]
    fn what_the_peer_does_not_serve_has_a_result_and_is_told_of() {
        let mut verify = driver(None, None);
        let span = ask(&mut verify).unwrap();
        assert!(verify.refused(span.sector) && !verify.is_open(span));
        verify.check();
        let (level, _) = verify.summary(NOW).remove(1);
        assert_eq!(level, Level::Warn);
    }

    #[test]
    fn only_the_reader_that_waits_has_the_turn() {
        let mut verify = driver(None, None);
        let mut held = RangeLocks::default();
        let (ticket, other) = (held.read_ticket(), held.read_ticket());
        verify.wait_for_turn(ticket);
        assert_eq!(verify.next_block(SIZE, WINDOW), None);
        assert!(!verify.takes_turn(other) && verify.takes_turn(ticket));
        assert!(verify.next_block(SIZE, WINDOW).is_some());
    }

    #[test]
    fn the_answering_side_gives_its_ranges_back() {
        let mut verify = Verify::default();
        let mut held = RangeLocks::default();
        let spans = [0, 1].map(|block| Span::of_blocks(96 + block, 1, SIZE));
        for span in spans {
            assert_eq!(verify.requested(span, SIZE, NOW), span == spans[0]);
            held.insert(span, Holder::Verify);
            verify.digest_sent(span, NOW);
        }
        assert!(verify.result_came(spans[0]) && !verify.result_came(spans[0]));
        verify.block_done(spans[0], true, NOW);
        held.remove(spans[0].sector);
        assert!(!verify.end_begins_here());
        let over = verify.end_here(&mut held);
        assert_eq!((over.unanswered, over.reached), (1, Some(776)));
        assert_eq!(held.len(), 0);
    }
}
