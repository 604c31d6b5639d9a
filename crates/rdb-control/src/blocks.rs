//! Sets of blocks as runs: what a bitmap says, short enough to be told.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Most runs that a set of blocks is told in. Each is two numbers in JSON, some twenty bytes: 1.3 MiB of them.
pub const RUNS_MAX: usize = 65_536;

/// Most runs that one of so many volumes is told in: those of a few have all of them, those of many share what a reply can hold.
pub fn runs_max(volumes: usize) -> usize {
    const VOLUMES: usize = 32;
    (RUNS_MAX * VOLUMES / volumes.max(VOLUMES)).max(1)
}

// A run takes at most 27 bytes, so that half of the longest reply is left for the rest.
const _: () = assert!(RUNS_MAX * 32 * 27 < crate::REPLY_LINE_MAX);

/// No device has more blocks of 4 KiB: 1 PiB of them (`docs/spec/metadata.md`, section 1.4).
pub const BLOCKS_MAX: u64 = 1 << 38;

/// A set of blocks of 4 KiB, as runs: ascending, none empty, none touching the next.
///
/// In JSON it is a list of `[first, length]`. What is read is checked to be of that form, and not to reach beyond
/// [`BLOCKS_MAX`] or to have more than [`RUNS_MAX`] runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocks {
    runs: Vec<Run>,
}

/// Blocks in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first one.
    pub first: u64,
    /// How many; never 0.
    pub len: u64,
}

impl Run {
    /// The block behind the last one.
    pub fn end(self) -> u64 {
        self.first + self.len
    }
}

/// Why runs are no set of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBlocks {
    /// Too many of them.
    #[error("there are more than {RUNS_MAX} ranges")]
    Many,
    /// A range without a block.
    #[error("the range at block {0} is empty")]
    Empty(u64),
    /// A range beyond every device.
    #[error("the range of {1} blocks at block {0} reaches beyond the largest device")]
    Beyond(u64, u64),
    /// A range that does not lie behind the one before.
    #[error(
        "the range at block {0} does not come behind the one before, with a block between them"
    )]
    Order(u64),
}

impl Blocks {
    /// Its runs.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// How many blocks there are in it.
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| run.len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The block behind the last one; 0 if there is none.
    pub fn end(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.end())
    }

    /// Whether the block is in it.
    pub fn contains(&self, block: u64) -> bool {
        let after = self.runs.partition_point(|run| run.first <= block);
        after > 0 && block < self.runs[after - 1].end()
    }

    /// Adds blocks that lie behind all that are in it.
    ///
    /// # Panics
    /// If they do not.
    pub fn push(&mut self, first: u64, len: u64) {
        if len == 0 {
            return;
        }
        assert!(first >= self.end(), "block {first} lies before the end");
        match self.runs.last_mut() {
            Some(last) if last.end() == first => last.len += len,
            _ => self.runs.push(Run { first, len }),
        }
    }

    /// Adds the blocks of a word of a bitmap, which lie behind all that are in it. Bit 0 is block `first`.
    pub fn push_word(&mut self, first: u64, mut word: u64) {
        let mut at = first;
        while word != 0 {
            let clear = word.trailing_zeros();
            word >>= clear;
            at += u64::from(clear);
            let set = word.trailing_ones();
            self.push(at, u64::from(set));
            at += u64::from(set);
            word = word.checked_shr(set).unwrap_or(0);
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Blocks) -> Blocks {
        Blocks::union_of([self, other])
    }

    /// What is in any of them.
    #[must_use]
    pub fn union_of<'a>(sets: impl IntoIterator<Item = &'a Blocks>) -> Blocks {
        let runs = sets.into_iter().flat_map(|set| &set.runs);
        let mut all: Vec<Run> = runs.copied().collect();
        all.sort_unstable_by_key(|run| run.first);
        let mut union = Blocks::default();
        for run in all {
            let first = run.first.max(union.end());
            union.push(first, run.end().saturating_sub(first));
        }
        union
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Blocks) -> Blocks {
        let mut both = Blocks::default();
        let (mut own, mut others) = (self.runs.iter().peekable(), other.runs.iter().peekable());
        while let (Some(a), Some(b)) = (own.peek(), others.peek()) {
            let first = a.first.max(b.first);
            both.push(first, a.end().min(b.end()).saturating_sub(first));
            if a.end() < b.end() {
                own.next();
            } else {
                others.next();
            }
        }
        both
    }

    /// Makes at most `runs_max` runs of it, by filling the smallest gaps. It says whether there were more: then blocks are in it that
    /// were not.
    pub fn coarsen(&mut self, runs_max: usize) -> bool {
        let Some(excess) = self
            .runs
            .len()
            .checked_sub(runs_max.max(1))
            .filter(|n| *n > 0)
        else {
            return false;
        };
        let gap = |pair: &[Run]| pair[1].first - pair[0].end();
        let mut gaps: Vec<u64> = self.runs.windows(2).map(gap).collect();
        let (_, &mut widest, _) = gaps.select_nth_unstable(excess - 1);
        // Of those that are as wide as the widest that has to go, only as many as have to.
        let smaller = self
            .runs
            .windows(2)
            .filter(|pair| gap(pair) < widest)
            .count();
        let mut of_widest = excess - smaller;
        let mut merged: Vec<Run> = Vec::with_capacity(runs_max);
        for run in &self.runs {
            let Some(last) = merged.last_mut() else {
                merged.push(*run);
                continue;
            };
            let gap = run.first - last.end();
            let goes = gap < widest || (gap == widest && of_widest > 0);
            of_widest -= usize::from(goes && gap == widest);
            match goes {
                true => last.len = run.end() - last.first,
                false => merged.push(*run),
            }
        }
        self.runs = merged;
        true
    }

    /// The set of these runs.
    ///
    /// # Errors
    /// [`BadBlocks`], if they are not of the form that the type promises.
    pub fn from_runs(runs: impl IntoIterator<Item = (u64, u64)>) -> Result<Blocks, BadBlocks> {
        let mut blocks = Blocks::default();
        for (first, len) in runs {
            let end = first.checked_add(len).filter(|end| *end <= BLOCKS_MAX);
            if len == 0 {
                return Err(BadBlocks::Empty(first));
            } else if end.is_none() {
                return Err(BadBlocks::Beyond(first, len));
            } else if first <= blocks.end() && !blocks.is_empty() {
                return Err(BadBlocks::Order(first));
            } else if blocks.runs.len() == RUNS_MAX {
                return Err(BadBlocks::Many);
            }
            blocks.push(first, len);
        }
        Ok(blocks)
    }
}

impl Serialize for Blocks {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.runs.iter().map(|run| (run.first, run.len)))
    }
}

impl<'de> Deserialize<'de> for Blocks {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Blocks, D::Error> {
        let runs = Vec::<(u64, u64)>::deserialize(from)?;
        Blocks::from_runs(runs).map_err(D::Error::custom)
    }
}

/// The marked blocks of a volume as they are told: at most [`RUNS_MAX`] runs, and how many blocks there really are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MarkedBlocks {
    /// How many are marked.
    pub count: u64,
    /// Where they are.
    pub ranges: Blocks,
    /// There were too many ranges: neighbours were put together, and blocks between them are in `ranges` that are not marked.
    pub merged: bool,
}

/// Collects them, word by word, within a bound of memory.
#[derive(Debug)]
pub struct MarkedCollector {
    marked: MarkedBlocks,
    runs_max: usize,
}

impl Default for MarkedCollector {
    fn default() -> Self {
        MarkedCollector::new(RUNS_MAX)
    }
}

impl MarkedCollector {
    /// One that keeps at most so many runs, and twice as many while it collects.
    pub fn new(runs_max: usize) -> MarkedCollector {
        MarkedCollector {
            marked: MarkedBlocks::default(),
            runs_max,
        }
    }

    /// Adds a word of the bitmap, of the blocks from `first` on. The words come in ascending order.
    pub fn word(&mut self, first: u64, word: u64) {
        if word == 0 {
            return;
        }
        self.marked.count += u64::from(word.count_ones());
        self.marked.ranges.push_word(first, word);
        // (Not at every word beyond the bound: each time takes as long as there are runs.)
        if self.marked.ranges.runs.len() > 2 * self.runs_max {
            self.marked.merged |= self.marked.ranges.coarsen(self.runs_max);
        }
    }

    /// What has been collected.
    pub fn finish(mut self) -> MarkedBlocks {
        self.marked.merged |= self.marked.ranges.coarsen(self.runs_max);
        self.marked
    }
}

impl MarkedBlocks {
    /// The set, told within the bound.
    pub fn of(mut ranges: Blocks) -> MarkedBlocks {
        let count = ranges.count();
        let merged = ranges.coarsen(RUNS_MAX);
        MarkedBlocks {
            count,
            ranges,
            merged,
        }
    }

    /// Adds blocks: those of an activity log to those of a bitmap. (Where ranges were put together, blocks that lie between them
    /// are counted as not marked before; there may be fewer then.)
    pub fn add(&mut self, other: &Blocks) {
        let new = other.count() - self.ranges.intersection(other).count();
        self.count += new;
        self.ranges = self.ranges.union(other);
        self.merged |= self.ranges.coarsen(RUNS_MAX);
    }

    /// What is marked in both: how many, and whether that is exact. If ranges were put together it is the most that it can be.
    pub fn both(&self, other: &MarkedBlocks) -> (Blocks, u64, bool) {
        let both = self.ranges.intersection(&other.ranges);
        let count = both.count().min(self.count).min(other.count);
        (both, count, !self.merged && !other.merged)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn blocks(of: &BTreeSet<u64>) -> Blocks {
        let mut blocks = Blocks::default();
        of.iter().for_each(|block| blocks.push(*block, 1));
        blocks
    }

    fn set(blocks: &Blocks) -> BTreeSet<u64> {
        let runs = blocks.runs().iter();
        runs.flat_map(|run| run.first..run.end()).collect()
    }

    #[test]
    fn a_word_becomes_its_runs() {
        let runs = |word| {
            let mut blocks = Blocks::default();
            blocks.push_word(64, word);
            let runs = blocks.runs().iter();
            runs.map(|run| (run.first, run.len)).collect::<Vec<_>>()
        };
        assert_eq!(runs(0), []);
        assert_eq!(runs(u64::MAX), [(64, 64)]);
        assert_eq!(runs(0b1011), [(64, 2), (67, 1)]);
        assert_eq!(runs(1 << 63), [(127, 1)]);
        assert_eq!(runs(u64::MAX << 1), [(65, 63)]);
    }

    #[test]
    fn runs_over_the_edge_of_a_word_are_one() {
        let mut marked = MarkedCollector::default();
        marked.word(0, 1 << 63);
        marked.word(64, 0);
        marked.word(128, 1);
        marked.word(192, 1 << 63);
        marked.word(256, 0b11);
        let marked = marked.finish();
        assert_eq!(marked.count, 5);
        let expected = Blocks::from_runs([(63, 1), (128, 1), (255, 3)]).unwrap();
        assert_eq!(marked.ranges, expected);
        assert!(!marked.merged);
    }

    #[test]
    fn too_many_ranges_are_put_together_and_it_is_said() {
        let mut marked = MarkedCollector::default();
        // Every other block of 4 * RUNS_MAX of them, far from the rest.
        for word in 0..(4 * RUNS_MAX as u64 / 32) {
            marked.word(word * 64, 0x5555_5555_5555_5555);
        }
        marked.word(1 << 30, 1);
        let marked = marked.finish();
        assert_eq!(marked.count, 4 * RUNS_MAX as u64 + 1);
        assert!(marked.merged && marked.ranges.runs().len() <= RUNS_MAX);
        assert!(marked.ranges.contains(1 << 30) && !marked.ranges.contains((1 << 30) - 1));
        assert!(marked.ranges.contains(2));
        let text = serde_json::to_string(&marked).unwrap();
        assert!(text.len() < 2 << 20, "{} bytes", text.len());
        assert_eq!(serde_json::from_str::<MarkedBlocks>(&text).unwrap(), marked);
    }

    #[test]
    fn many_volumes_share_what_a_reply_can_hold() {
        assert_eq!(runs_max(0), RUNS_MAX);
        assert_eq!(runs_max(32), RUNS_MAX);
        assert_eq!(runs_max(64), RUNS_MAX / 2);
        assert_eq!(runs_max(usize::MAX), 1);
        let mut marked = MarkedCollector::new(2);
        for word in 0..100 {
            marked.word(word * 64, 1 << 7 | 1);
        }
        let marked = marked.finish();
        assert_eq!((marked.count, marked.ranges.runs().len()), (200, 2));
        assert!(marked.merged);
    }

    #[test]
    fn the_smallest_gaps_go_first_and_no_more_than_have_to() {
        let mut blocks = Blocks::from_runs([(0, 1), (2, 1), (10, 1), (12, 1), (100, 1)]).unwrap();
        assert!(!blocks.coarsen(5));
        assert!(blocks.coarsen(4));
        assert_eq!(
            blocks,
            Blocks::from_runs([(0, 3), (10, 1), (12, 1), (100, 1)]).unwrap()
        );
        assert!(blocks.coarsen(2));
        assert_eq!(blocks, Blocks::from_runs([(0, 13), (100, 1)]).unwrap());
        assert!(blocks.coarsen(0));
        assert_eq!(blocks, Blocks::from_runs([(0, 101)]).unwrap());
    }

    #[test]
    fn what_is_no_set_of_blocks_is_refused_with_the_place() {
        for (text, words) in [
            ("[[0,0]]", "the range at block 0 is empty"),
            ("[[5,1],[5,1]]", "at block 5 does not come behind"),
            ("[[5,1],[6,1]]", "at block 6 does not come behind"),
            ("[[5,1],[2,1]]", "at block 2 does not come behind"),
            ("[[18446744073709551615,2]]", "beyond the largest device"),
            ("[[274877906943,2]]", "beyond the largest device"),
            ("[[-1,2]]", "-1"),
            ("[[1]]", "length 1"),
            ("[[1,2,3]]", ""),
            ("[1]", ""),
            ("{}", ""),
        ] {
            let error = serde_json::from_str::<Blocks>(text).expect_err(text);
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
        let many = (0..=RUNS_MAX as u64).map(|n| (2 * n, 1));
        assert_eq!(Blocks::from_runs(many), Err(BadBlocks::Many));
        assert!(serde_json::from_str::<Blocks>("[[0,274877906944]]").is_ok());
    }

    proptest! {
        #[test]
        fn union_intersection_and_lookup_agree_with_sets(
            a in prop::collection::btree_set(0..400_u64, 0..200),
            b in prop::collection::btree_set(0..400_u64, 0..200),
            runs_max in 1..40_usize,
        ) {
            let (mut own, other) = (blocks(&a), blocks(&b));
            prop_assert_eq!(own.count(), a.len() as u64);
            prop_assert_eq!(set(&own.union(&other)), a.union(&b).copied().collect());
            prop_assert_eq!(set(&own.intersection(&other)), a.intersection(&b).copied().collect());
            for block in 0..400 {
                prop_assert_eq!(own.contains(block), a.contains(&block));
            }
            let runs = own.union(&other).runs().iter().map(|run| (run.first, run.len)).collect::<Vec<_>>();
            prop_assert!(Blocks::from_runs(runs).is_ok());
            let before = own.runs().len();
            let merged = own.coarsen(runs_max);
            prop_assert_eq!(merged, before > runs_max);
            prop_assert!(own.runs().len() <= runs_max || !merged);
            prop_assert!(set(&own).is_superset(&a));
            let mut marked = MarkedBlocks::of(blocks(&a));
            marked.add(&other);
            prop_assert_eq!(marked.count, a.union(&b).count() as u64);
        }

        #[test]
        fn words_agree_with_their_bits(words in prop::collection::vec(any::<u64>(), 0..8)) {
            let mut marked = MarkedCollector::default();
            let mut bits = BTreeSet::new();
            for (index, word) in words.iter().enumerate() {
                let first = index as u64 * 64;
                marked.word(first, *word);
                bits.extend((0..64).filter(|bit| word >> bit & 1 == 1).map(|bit| first + bit));
            }
            let marked = marked.finish();
            prop_assert_eq!(marked.count, bits.len() as u64);
            prop_assert_eq!(set(&marked.ranges), bits);
        }
    }
}
