//! Ranges of sectors that something holds: at most one holder a sector.

use alloc::collections::BTreeMap;

use crate::ids::Time;
use crate::span::Span;

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
    /// The holder of some of these sectors, if there is one, and the start of the range that he holds.
    pub(crate) fn overlapping(&self, span: Span) -> Option<(u64, T)> {
        // Ranges are disjoint, so only the last one that starts before the end can reach into the span.
        let (&held, &(held_end, holder)) = self.ranges.range(..span.end()).next_back()?;
        (held_end > span.sector).then_some((held, holder))
    }

    /// Takes sectors that nobody holds.
    pub(crate) fn insert(&mut self, span: Span, holder: T) {
        debug_assert!(self.overlapping(span).is_none(), "range is held already");
        self.ranges.insert(span.sector, (span.end(), holder));
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

/// Ranges that wait for the peer, and since when each does.
#[derive(Debug, Default)]
pub(crate) struct Awaited(Intervals<(Span, Time)>);

impl Awaited {
    /// Whether some range overlaps this one.
    pub(crate) fn overlaps(&self, span: Span) -> bool {
        self.0.overlapping(span).is_some()
    }

    /// It waits from `now` on.
    pub(crate) fn insert(&mut self, span: Span, now: Time) {
        self.0.insert(span, (span, now));
    }

    /// The range that starts exactly at `start`.
    pub(crate) fn at(&self, start: u64) -> Option<Span> {
        self.0.holder_at(start).map(|(span, _)| span)
    }

    /// Whether exactly this one waits.
    pub(crate) fn contains(&self, span: Span) -> bool {
        self.at(span.sector) == Some(span)
    }

    /// The ranges in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.0.iter().map(|(_, (span, _))| span)
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
                let (end, span) = (start + len, Span::between(start, start + len));
                let holder = slow.iter().find(|r| r.0 < end && r.1 > start).map(|r| r.0);
                prop_assert_eq!(fast.overlapping(span).map(|(_, holder)| holder), holder.is_some().then(|| {
                    slow.iter().filter(|r| r.0 < end && r.1 > start).map(|r| r.0).max().unwrap()
                }));
                if remove {
                    prop_assert_eq!(fast.remove(start), slow.iter().any(|r| r.0 == start));
                    slow.retain(|r| r.0 != start);
                } else if holder.is_none() {
                    fast.insert(span, start);
                    slow.push((start, end));
                }
            }
        }
    }
}
