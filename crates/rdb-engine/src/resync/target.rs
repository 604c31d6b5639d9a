//! The target of a resync: what it asks for, what has come, and when it is at the end.

use alloc::collections::BTreeMap;

use rdb_meta::{BLOCK_SECTORS, Bitmap};

use crate::config::DiskOptions;
use crate::generation::Generation;
use crate::ids::Time;
use crate::range_locks::Ticket;
use crate::resync::{Arrived, Resync, TargetEnd};
use crate::span::Span;

/// Bits of a resync extent, which a request never crosses: 16 MiB.
const EXTENT_BITS: u64 = 4096;
/// Bits of the largest request: 1 MiB.
const REQUEST_BITS_MAX: u64 = 256;

impl<P> Resync<P> {
    /// A resync to here begins.
    pub(crate) fn begin_target(&mut self, now: Time, marked: u64) {
        self.begin(now, marked);
    }

    /// A sync UUID has come before we are ready for it.
    pub(crate) fn keep_early_uuid(&mut self, uuid: Generation) {
        self.early_uuid = Some(uuid);
    }

    /// We are ready for it.
    pub(crate) fn take_early_uuid(&mut self) -> Option<Generation> {
        self.early_uuid.take()
    }

    /// The sync UUID that came early was of a resync that is given up.
    pub(crate) fn forget_early_uuid(&mut self) {
        self.early_uuid = None;
    }

    /// It is on record that this disk is no good alone.
    pub(crate) fn may_request(&mut self) {
        self.requesting = true;
    }

    pub(crate) fn is_requesting(&self) -> bool {
        self.requesting
    }

    /// A step begins, with so many marks. `application_sectors`: what applications have written.
    pub(crate) fn step(
        &mut self,
        now: Time,
        marked: u64,
        options: &DiskOptions,
        application_sectors: u64,
    ) {
        self.course.mark(now, marked);
        let recent_kib = self.course.recent_kib(now, marked);
        let blocks = self.pace.allowed(options, application_sectors, recent_kib);
        self.walk.allow(blocks);
    }

    /// The marked blocks that may be asked for next, as far as the step and `window` sectors under way allow that.
    pub(crate) fn next_request(&mut self, marks: &Bitmap, window: u64) -> Option<Span> {
        if !self.requesting || self.ending {
            return None;
        }
        let budget = self.walk.most(window)?;
        let Some(first) = marks.next_set(self.walk.position()) else {
            // What was passed over, or marked behind us since (a mirrored write has failed), is looked at by the next
            // step, from the beginning. Blocks that failed are tried again by that, and counted anew.
            let left = self.walk.has_passed_over() || marks.count_set() > self.failed;
            if left && !self.walk.has_outstanding() {
                self.start_over();
            }
            return None;
        };
        let most = (window / BLOCK_SECTORS / 4).clamp(1, REQUEST_BITS_MAX);
        let blocks = request_blocks(marks, first, most.min(budget));
        let waits = self.walk.waits_for_room(blocks, window);
        (!waits).then(|| Span::of_blocks(first, blocks, marks.size_sectors()))
    }

    fn start_over(&mut self) {
        self.walk.start_over();
        self.failed = 0;
    }

    /// These blocks cannot be asked for now.
    pub(crate) fn pass_over(&mut self, span: Span) {
        self.walk.pass_over(span.end().div_ceil(BLOCK_SECTORS));
    }

    /// These blocks are asked for.
    pub(crate) fn ask(&mut self, span: Span, now: Time) {
        self.awaited.insert(span, now);
        let next = span.end().div_ceil(BLOCK_SECTORS);
        self.walk.ask(next, span.blocks(), span.sectors());
        self.pace.requested(span.sectors());
    }

    /// Whether some of these blocks are on their way.
    pub(crate) fn awaits(&self, span: Span) -> bool {
        self.awaited.overlaps(span)
    }

    /// Whether exactly these blocks were asked for and have no reply.
    pub(crate) fn has_asked(&self, span: Span) -> bool {
        self.awaited.contains(span)
    }

    /// These blocks are not asked for after all: the resync was given up.
    pub(crate) fn take_back(&mut self, span: Span) {
        self.forget_request(span);
        self.walk.settle(span.sectors());
    }

    /// Nothing more comes for this request. Says whether a write to its blocks has failed since.
    fn forget_request(&mut self, span: Span) -> bool {
        self.awaited.remove(span.sector);
        self.spoiled.remove(&span.sector)
    }

    /// Data for these blocks has come. Says whether it was asked for; it stays outstanding until it is on disk.
    pub(crate) fn data_came(&mut self, span: Span) -> bool {
        if !self.awaited.contains(span) {
            return false;
        }
        self.forget_request(span);
        self.pace.arrived(span.sectors());
        true
    }

    /// An answer without data has come. It makes room for the next as any other answer. Says whether a write to its blocks has
    /// failed since they were asked for.
    fn answered_without_data(&mut self, span: Span) -> bool {
        self.pace.arrived(span.sectors());
        self.walk.settle(span.sectors());
        self.forget_request(span)
    }

    /// The source does not serve the request of this first sector, which is asked for again unless its blocks have `failed`.
    /// Says whether there was one.
    pub(crate) fn refused(&mut self, sector: u64, failed: bool) -> bool {
        let Some(span) = self.awaited.at(sector) else {
            return false;
        };
        self.answered_without_data(span);
        if failed {
            self.block_failed(span);
        } else {
            self.walk.look_again();
        }
        true
    }

    /// A write here has failed: what the source finds equal in these blocks may be what did not arrive.
    pub(crate) fn spoil(&mut self, failed: Span) {
        let spoiled = self.awaited.iter().filter(|span| span.overlaps(failed));
        self.spoiled.extend(spoiled.map(|span| span.sector));
    }

    /// The source has the same in these blocks, which were asked for. Says whether that is so still; if not they are asked for
    /// again, unless the resync was given up meanwhile (`is_target`).
    pub(crate) fn found_equal(&mut self, span: Span, is_target: bool) -> bool {
        let spoiled = self.answered_without_data(span);
        if is_target && spoiled {
            self.walk.look_again();
        } else if is_target {
            self.equal_blocks += span.blocks();
        }
        is_target && !spoiled
    }

    /// Data waits for this turn to be written.
    pub(crate) fn wait_to_write(&mut self, ticket: Ticket, data: Arrived<P>) {
        self.blocked.insert(ticket, data);
    }

    /// Its turn has come.
    pub(crate) fn turn_to_write(&mut self, ticket: Ticket) -> Option<Arrived<P>> {
        self.blocked.remove(&ticket)
    }

    /// The disk is gone: all that waits to be written.
    pub(crate) fn take_waiting(&mut self) -> BTreeMap<Ticket, Arrived<P>> {
        core::mem::take(&mut self.blocked)
    }

    /// How much waits to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.blocked.len()
    }

    /// Data is on disk, or could not be written.
    pub(crate) fn write_ended(&mut self, span: Span, ok: bool) {
        self.walk.settle(span.sectors());
        if !ok {
            self.block_failed(span);
        }
    }

    /// Whether nothing is left to ask for and nothing outstanding, with so many marks: then the end begins.
    pub(crate) fn begins_end(&mut self, marked: u64) -> bool {
        let begins = self.requesting
            && !self.ending
            && !self.walk.has_outstanding()
            && marked <= self.failed;
        self.ending |= begins;
        begins
    }

    /// The end does not come now.
    pub(crate) fn put_off_end(&mut self) {
        self.ending = false;
    }

    /// The data is durable, and so many blocks are marked: whether that is the end, which is to be announced then. `is_target`:
    /// the resync has not been given up.
    pub(crate) fn end_target(&mut self, marked: u64, is_target: bool) -> TargetEnd {
        if !core::mem::take(&mut self.ending) {
            return TargetEnd::GivenUp;
        }
        if marked > self.failed {
            self.start_over();
            return TargetEnd::GoesOn;
        }
        if !is_target {
            return TargetEnd::GivenUp;
        }
        self.requesting = false;
        self.announce = true;
        TargetEnd::Done {
            failed: self.failed > 0,
        }
    }

    /// Whether the source is to hear of the end when it is durable.
    pub(crate) fn announces_end(&self) -> bool {
        self.announce
    }

    /// It is being made durable, and the source hears of it then.
    pub(crate) fn end_announced(&mut self) {
        self.announce = false;
    }
}

/// How many blocks a request from `first` on has, at most so many: it grows while its start is aligned to its size, so that both
/// ends read and write whole chunks.
fn request_blocks(marks: &Bitmap, first: u64, most: u64) -> u64 {
    let goes_on = |blocks: &u64| {
        let next = first + blocks;
        first.is_multiple_of((blocks + 1).next_power_of_two())
            && !next.is_multiple_of(EXTENT_BITS)
            && next < marks.bits()
            && marks.test_bit(next)
    };
    (1..most.max(1)).take_while(goes_on).count() as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const WINDOW: u64 = 1 << 13;
    const NOW: Time = Time(0);

    /// A target of so many marks that may ask for a thousand blocks.
    fn target(marked: u64) -> Resync<()> {
        let mut resync = Resync::default();
        resync.begin_target(NOW, marked);
        let options = DiskOptions {
            c_plan_ahead_ds: 0,
            resync_rate_kib: 40_000,
            ..DiskOptions::default()
        };
        resync.step(NOW, marked, &options, 0);
        resync.may_request();
        resync
    }

    /// With marks from the first to before the second of these blocks.
    fn marks(blocks: &[(u64, u64)]) -> Bitmap {
        let mut marks = Bitmap::new(1 << 17, false);
        for (first, end) in blocks {
            marks.set_run(*first, end - first);
        }
        marks
    }

    /// What it asks for, one after the other.
    fn asked(resync: &mut Resync<()>, marks: &Bitmap) -> Vec<Span> {
        let ask = || {
            let span = resync.next_request(marks, WINDOW)?;
            resync.ask(span, NOW);
            resync.check();
            Some(span)
        };
        core::iter::from_fn(ask).collect()
    }

    fn blocks(first: u64, count: u64) -> Span {
        Span::of_blocks(first, count, 1 << 17)
    }

    #[test]
    fn requests_are_aligned_and_stay_inside_an_extent() {
        let marks = marks(&[(3, 9), (4094, 4098)]);
        let mut resync = target(marks.count_set());
        let expected = [(3, 1), (4, 4), (8, 1), (4094, 2), (4096, 2)];
        let expected = expected.map(|(first, count)| blocks(first, count));
        assert_eq!(asked(&mut resync, &marks), expected);
        assert!(resync.awaits(blocks(0, 5)) && !resync.awaits(blocks(0, 3)));
    }

    #[test]
    fn the_end_begins_when_nothing_is_marked_or_outstanding() {
        let mut marks = marks(&[(0, 2)]);
        let mut resync = target(2);
        let spans = asked(&mut resync, &marks);
        assert_eq!(spans, [blocks(0, 2)]);
        assert!(resync.data_came(spans[0]) && !resync.data_came(spans[0]));
        marks.clear_all();
        assert!(!resync.begins_end(0), "it is not on disk");
        resync.write_ended(spans[0], true);
        assert!(resync.begins_end(0) && !resync.begins_end(0));
        assert_eq!(resync.next_request(&marks, WINDOW), None);
        let done = TargetEnd::Done { failed: false };
        assert_eq!(resync.end_target(0, true), done);
        assert!(resync.announces_end() && !resync.is_requesting());
        assert_eq!(resync.end_target(0, true), TargetEnd::GivenUp, "once");
    }

    #[test]
    fn a_mark_that_comes_before_the_end_is_asked_for() {
        let mut resync = target(0);
        assert!(resync.begins_end(0));
        let marks = marks(&[(7, 8)]);
        assert_eq!(resync.end_target(1, true), TargetEnd::GoesOn);
        assert_eq!(asked(&mut resync, &marks), [blocks(7, 1)]);
    }

    #[test]
    fn blocks_that_fail_are_not_waited_for_and_those_passed_over_are_looked_at_again() {
        let marks = marks(&[(0, 1), (4, 5)]);
        let mut resync = target(2);
        let held = resync.next_request(&marks, WINDOW).unwrap();
        resync.pass_over(held);
        assert_eq!(asked(&mut resync, &marks), [blocks(4, 1)]);
        assert!(resync.refused(32, true) && !resync.refused(32, true));
        assert!(!resync.begins_end(2), "the one that was passed over");
        assert_eq!(asked(&mut resync, &marks), []);
        let again = [blocks(0, 1), blocks(4, 1)];
        assert_eq!(asked(&mut resync, &marks), again, "the step after");
        assert!(resync.refused(0, true) && resync.refused(32, true));
        assert!(resync.begins_end(2));
        let done = TargetEnd::Done { failed: true };
        assert_eq!(resync.end_target(2, true), done);
    }

    #[test]
    fn a_request_is_spoiled_as_long_as_it_has_no_answer() {
        let marks = marks(&[(0, 1)]);
        let mut resync = target(1);
        let span = asked(&mut resync, &marks)[0];
        resync.spoil(span);
        resync.begin_target(NOW, 1);
        assert!(!resync.found_equal(span, true), "it was asked for before");
        let mut resync = target(1);
        let span = asked(&mut resync, &marks)[0];
        resync.spoil(span);
        resync.spoil(span);
        assert!(resync.refused(span.sector, false));
        assert_eq!(asked(&mut resync, &marks), []);
        assert_eq!(asked(&mut resync, &marks), [span]);
        assert!(resync.found_equal(span, true), "it was read since");
    }

    #[test]
    fn what_the_source_finds_equal_counts_unless_it_could_not_be_written_since() {
        let marks = marks(&[(0, 1)]);
        let mut resync = target(1);
        let span = asked(&mut resync, &marks)[0];
        resync.spoil(span);
        assert!(!resync.found_equal(span, true));
        assert_eq!(asked(&mut resync, &marks), []);
        assert_eq!(asked(&mut resync, &marks), [span]);
        assert!(resync.found_equal(span, true));
        assert_eq!(resync.in_flight_sectors(), 0);
    }
}
