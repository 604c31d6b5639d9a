//! A walk over the blocks of a volume, as the target of a resync and the driver of a verify make it: what comes next, and how
//! much may be asked for.

use rdb_meta::BLOCK_SECTORS;

/// Where a walk stands. Blocks are 4 KiB.
#[derive(Debug, Default)]
pub(crate) struct BlockWalk {
    /// The next block to look at.
    position: u64,
    /// A block before the position is to be looked at again: something held it, or the peer did not serve it.
    passed_over: bool,
    /// Sectors asked for and not settled.
    outstanding: u64,
    /// Blocks that may still be asked for in this step.
    budget: u64,
}

impl BlockWalk {
    /// A new walk from this block on. What an earlier one has asked for stays outstanding.
    pub(crate) fn begin(&mut self, position: u64) {
        let outstanding = self.outstanding;
        *self = BlockWalk {
            position,
            outstanding,
            ..BlockWalk::default()
        };
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Sectors that were asked for and are outstanding.
    pub(crate) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    pub(crate) fn has_outstanding(&self) -> bool {
        self.outstanding > 0
    }

    /// A step begins, in which so many blocks may be asked for.
    pub(crate) fn allow(&mut self, blocks: u64) {
        self.budget = blocks;
    }

    /// How many blocks the next request may have, if any; `window`: sectors that may be outstanding.
    pub(crate) fn most(&self, window: u64) -> Option<u64> {
        (self.room(window) > 0 && self.budget > 0).then_some(self.budget)
    }

    /// Whether a request of so many blocks waits until more has come: small requests that fill every gap at once would each
    /// leave a gap of their size, for ever.
    pub(crate) fn waits_for_room(&self, blocks: u64, window: u64) -> bool {
        blocks > self.room(window) && self.outstanding > 0
    }

    /// Blocks that the window has room for.
    fn room(&self, window: u64) -> u64 {
        window.saturating_sub(self.outstanding) / BLOCK_SECTORS
    }

    /// `blocks` from the position on, up to `next`, are asked for.
    pub(crate) fn ask(&mut self, next: u64, blocks: u64, sectors: u64) {
        self.position = next;
        self.outstanding += sectors;
        self.budget = self.budget.saturating_sub(blocks);
    }

    /// What lies before `next` cannot be asked for now.
    pub(crate) fn pass_over(&mut self, next: u64) {
        self.position = next;
        self.passed_over = true;
    }

    /// Sectors that were asked for are no longer outstanding.
    pub(crate) fn settle(&mut self, sectors: u64) {
        self.outstanding = self.outstanding.saturating_sub(sectors);
    }

    /// Nobody answers any more.
    pub(crate) fn forget_outstanding(&mut self) {
        self.outstanding = 0;
    }

    /// Something that was asked for has to be asked for again.
    pub(crate) fn look_again(&mut self) {
        self.passed_over = true;
    }

    pub(crate) fn has_passed_over(&self) -> bool {
        self.passed_over
    }

    /// Back to the first block.
    pub(crate) fn start_over(&mut self) {
        self.position = 0;
        self.passed_over = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_of_a_step_and_the_window_both_bound_what_is_asked_for() {
        let mut walk = BlockWalk::default();
        assert_eq!(walk.most(64), None, "no step has begun");
        walk.allow(5);
        assert_eq!(walk.most(64), Some(5));
        walk.ask(3, 3, 24);
        assert_eq!((walk.position(), walk.most(64)), (3, Some(2)));
        assert_eq!(walk.most(24), None, "the window is full");
        walk.settle(24);
        assert_eq!(walk.most(24), Some(2));
        walk.ask(5, 2, 16);
        assert_eq!(walk.most(64), None, "the budget is spent");
    }

    #[test]
    fn a_large_request_waits_for_room_unless_nothing_is_outstanding() {
        let mut walk = BlockWalk::default();
        walk.allow(100);
        assert!(!walk.waits_for_room(50, 64), "or it would never go");
        walk.ask(1, 1, 8);
        assert!(walk.waits_for_room(8, 64));
        assert!(!walk.waits_for_room(7, 64));
    }

    #[test]
    fn what_was_passed_over_is_looked_at_again_from_the_beginning() {
        let mut walk = BlockWalk::default();
        walk.allow(10);
        walk.ask(2, 2, 16);
        walk.pass_over(3);
        assert!(walk.has_passed_over());
        assert_eq!(walk.position(), 3);
        walk.start_over();
        assert_eq!(walk.position(), 0);
        assert!(!walk.has_passed_over() && walk.has_outstanding());
    }

    #[test]
    fn a_new_walk_counts_what_the_last_one_has_asked_for() {
        let mut walk = BlockWalk::default();
        walk.allow(10);
        walk.ask(2, 2, 16);
        walk.look_again();
        walk.begin(7);
        assert_eq!(walk.position(), 7);
        assert!(!walk.has_passed_over() && walk.has_outstanding());
        assert_eq!(walk.most(64), None);
        walk.settle(16);
        assert!(!walk.has_outstanding());
    }
}
