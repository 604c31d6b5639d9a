//! Ranges of sectors that something holds: at most one holder a sector.

use alloc::collections::BTreeMap;

use crate::ids::Time;

/// Disjoint ranges, each with the one who holds it.
#[derive(Debug)]
pub(crate) struct Intervals<T> {
    /// Start to (end, holder); ends are exclusive.
    ranges: BTreeMap<u64, (u64, T)>,
}

impl<T> Default for Intervals<T> {
    fn default() -> Self {
        Intervals {
            ranges: BTreeMap::new(),
        }
    }
}

impl<T: Copy> Intervals<T> {
    /// The holder of some sector in `start..end`, if there is one.
    pub(crate) fn overlap(&self, start: u64, end: u64) -> Option<T> {
        self.overlapping(start, end).map(|(_, holder)| holder)
    }

    /// The same, with the start of the range that he holds.
    pub(crate) fn overlapping(&self, start: u64, end: u64) -> Option<(u64, T)> {
        // Ranges are disjoint, so only the last one that starts before `end` can reach into `start..end`.
        let (&held, &(held_end, holder)) = self.ranges.range(..end).next_back()?;
        (held_end > start).then_some((held, holder))
    }

    /// Takes `start..end`, which nobody holds.
    pub(crate) fn insert(&mut self, start: u64, end: u64, holder: T) {
        debug_assert!(self.overlap(start, end).is_none(), "range is held already");
        self.ranges.insert(start, (end, holder));
    }

    /// The holder of the range that starts exactly at `start`.
    pub(crate) fn holder_at(&self, start: u64) -> Option<T> {
        self.ranges.get(&start).map(|&(_, holder)| holder)
    }

    /// The ranges in ascending order: start and holder.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, T)> + '_ {
        self.ranges
            .iter()
            .map(|(&start, &(_, holder))| (start, holder))
    }

    /// How many ranges are held.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Gives the range that starts at `start` back; says whether there was one.
    pub(crate) fn remove(&mut self, start: u64) -> bool {
        self.ranges.remove(&start).is_some()
    }
}

/// Ranges that wait for the peer: how many bytes each has, and since when.
#[derive(Debug, Default)]
pub(crate) struct Awaited(Intervals<(u32, Time)>);

impl Awaited {
    /// The bytes of some range that overlaps `start..end`.
    pub(crate) fn overlap(&self, start: u64, end: u64) -> Option<u32> {
        self.0.overlap(start, end).map(|(bytes, _)| bytes)
    }

    /// `start..end` waits from `now` on.
    pub(crate) fn insert(&mut self, start: u64, end: u64, bytes: u32, now: Time) {
        self.0.insert(start, end, (bytes, now));
    }

    /// The bytes of the range that starts exactly at `start`.
    pub(crate) fn holder_at(&self, start: u64) -> Option<u32> {
        self.0.holder_at(start).map(|(bytes, _)| bytes)
    }

    /// The ranges in ascending order: start and bytes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.0.iter().map(|(start, (bytes, _))| (start, bytes))
    }

    /// The range that starts at `start` waits no more; says whether there was one.
    pub(crate) fn remove(&mut self, start: u64) -> bool {
        self.0.remove(start)
    }

    /// Since when the one that has waited longest does.
    pub(crate) fn oldest(&self) -> Option<Time> {
        self.0.iter().map(|(_, (_, since))| since).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn overlap_agrees_with_looking_at_every_sector(
            ops in proptest::collection::vec((0_u64..200, 1_u64..20, any::<bool>()), 0..80)
        ) {
            let mut fast = Intervals::default();
            let mut slow: alloc::vec::Vec<(u64, u64)> = alloc::vec::Vec::new();
            for (start, len, remove) in ops {
                let end = start + len;
                let holder = slow.iter().find(|r| r.0 < end && r.1 > start).map(|r| r.0);
                prop_assert_eq!(fast.overlap(start, end), holder.is_some().then(|| {
                    slow.iter().filter(|r| r.0 < end && r.1 > start).map(|r| r.0).max().unwrap()
                }));
                if remove {
                    prop_assert_eq!(fast.remove(start), slow.iter().any(|r| r.0 == start));
                    slow.retain(|r| r.0 != start);
                } else if holder.is_none() {
                    fast.insert(start, end, start);
                    slow.push((start, end));
                }
            }
        }
    }
}
