//! Writes that wait for space on a full disk: which, since when, and which are tried again.
//!
//! The driver keeps such a write as it is and tells of it ([`Event::NoSpace`](crate::Event::NoSpace)); for everything else in the
//! engine it is one that a slow disk has not answered. The log, the bitmap, the superblock and whoever waits for a range keep
//! their order because nothing is answered before it is done. A disk that goes lets all of them fail, and they go the way of
//! every write of a failed disk.
//!
//! The pace: once in [`RETRY_MS`] the [`PROBES`] that were tried longest ago; each that goes through lets two more try, so
//! that all have gone soon after there is room, and few are tried in vain while there is none.

use alloc::collections::{BTreeMap, VecDeque};

use crate::ids::{IoTag, Time};
use crate::status::SpaceWait;

/// How long until the next try, while none goes through.
pub const RETRY_MS: u64 = 1000;
/// How many are tried then.
pub const PROBES: usize = 16;
/// How many are tried when one has gone through.
const PASSED_LETS_TRY: usize = 2;

/// The writes of a volume that have met a full disk.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// All of them, and whether they are being tried again.
    held: BTreeMap<IoTag, bool>,
    /// Those that are not being tried, who was tried longest ago first.
    queue: VecDeque<IoTag>,
    /// When the first of them met the full disk.
    since: Option<Time>,
    /// How many have gone through since.
    passed: u64,
}

impl Space {
    /// A write has met the full disk. Says whether it is the first.
    pub(crate) fn met(&mut self, tag: IoTag, now: Time) -> bool {
        if self.held.insert(tag, false) == Some(false) {
            return false; // another part of it
        }
        self.queue.push_back(tag);
        if self.since.is_some() {
            return false;
        }
        self.since = Some(now);
        self.passed = 0;
        true
    }

    /// Those that are tried now, at most so many.
    pub(crate) fn try_again(&mut self, count: usize) -> VecDeque<IoTag> {
        let rest = self.queue.split_off(count.min(self.queue.len()));
        let tried = core::mem::replace(&mut self.queue, rest);
        for &tag in &tried {
            self.held.insert(tag, true);
        }
        tried
    }

    /// An I/O has ended. `None` if it had not met the full disk; else those that are tried now: if it went through there may
    /// be room for others, too.
    pub(crate) fn ended(&mut self, tag: IoTag, ok: bool) -> Option<VecDeque<IoTag>> {
        self.held.remove(&tag)?;
        self.passed += u64::from(ok);
        Some(self.try_again(if ok { PASSED_LETS_TRY } else { 0 }))
    }

    /// Nothing waits any more: since when something did, and how many writes have gone through.
    pub(crate) fn end(&mut self) -> Option<(Time, u64)> {
        Some((self.since.take()?, self.passed))
    }

    /// The disk goes: those that wait, and do not any more. (What is just being tried comes back, and fails then.)
    pub(crate) fn give_up(&mut self) -> VecDeque<IoTag> {
        core::mem::take(&mut self.queue)
    }

    /// How many wait, and since when; `None` if none does.
    pub(crate) fn status(&self, now: Time) -> Option<SpaceWait> {
        let since = self.since?;
        Some(SpaceWait {
            writes: u32::try_from(self.held.len()).unwrap_or(u32::MAX),
            for_ms: now.ms_since(since),
        })
    }

    /// Whether this I/O waits for space, or is being tried again.
    pub(crate) fn holds(&self, tag: IoTag) -> bool {
        self.held.contains_key(&tag)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_goes_through_lets_two_more_try() {
        let mut space = Space::default();
        assert!(space.met(IoTag(1), Time(7)));
        assert!(!space.met(IoTag(1), Time(7)), "another part of it");
        for tag in 2..=6 {
            assert!(!space.met(IoTag(tag), Time(8)));
        }
        assert_eq!(space.len(), 6);
        assert_eq!(space.try_again(1), [IoTag(1)]);
        assert_eq!(space.ended(IoTag(1), true).unwrap(), [IoTag(2), IoTag(3)]);
        // One of them meets the full disk again: it is the last to be tried.
        assert!(!space.met(IoTag(2), Time(9)));
        assert!(space.ended(IoTag(3), false).unwrap().is_empty());
        assert_eq!(space.ended(IoTag(9), true), None);
        assert_eq!(space.give_up(), [4, 5, 6, 2].map(IoTag));
        for tag in [4, 5, 6, 2] {
            assert!(!space.is_empty());
            space.ended(IoTag(tag), false);
        }
        assert!(space.is_empty());
        assert_eq!(space.end(), Some((Time(7), 1)));
        assert_eq!(space.end(), None);
    }
}
