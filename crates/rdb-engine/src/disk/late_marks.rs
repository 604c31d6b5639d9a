//! Marks that stand for writes of a lost connection only (L56).
//!
//! A mirrored write whose turn comes when its writer is gone is marked, for nobody here knows what has become of the writer's own copy. A
//! Primary that was frozen and is back sends it again, with the same data and more besides. When all sectors that such writes have made
//! differ have been written again, by a Primary that has a good disk itself, the mark stands for nothing any more.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use rdb_meta::{BLOCK_SECTORS, Bitmap};

/// Blocks of a volume that are remembered: 256 MiB. The mark of one more is as any other, and stays until a resync comes to it.
const BLOCKS_MAX: usize = 1 << 16;

const _: () = assert!(BLOCK_SECTORS == 8); // the bits of a byte

/// Blocks that were not marked before late writes came, and of each block the sectors that these wrote and nobody has written again.
/// Set by [`LateMarks::mark`]; what marks or clears a block for any other reason has it forgotten, and all goes with the disk, or with
/// the node. Without it a Secondary keeps marks of blocks that are equal on both disks.
#[derive(Debug, Default)]
pub(crate) struct LateMarks {
    blocks: BTreeMap<u64, u8>,
}

impl LateMarks {
    /// Marks the blocks of these sectors, which a late write is about to change.
    pub(crate) fn mark(&mut self, bitmap: &mut Bitmap, sector: u64, end: u64) {
        for block in touched(sector, end) {
            let sectors = sectors_of(block, sector, end);
            if let Some(known) = self.blocks.get_mut(&block) {
                *known |= sectors;
            } else if !bitmap.test_bit(block) && self.blocks.len() < BLOCKS_MAX {
                self.blocks.insert(block, sectors);
            }
        }
        bitmap.set_sectors(sector, end - sector);
    }

    /// Blocks of these sectors are marked for another reason.
    pub(crate) fn forget(&mut self, sector: u64, end: u64) {
        while let Some(block) = self.next_of(sector, end) {
            self.blocks.remove(&block);
        }
    }

    /// Blocks of these sectors may have been cleared for another reason; one of which only a part was given has kept its mark.
    pub(crate) fn forget_cleared(&mut self, bitmap: &Bitmap, sector: u64, end: u64) {
        let known = self.blocks.range(touched(sector, end));
        let cleared = known.map(|(&block, _)| block);
        let cleared: Vec<u64> = cleared.filter(|&block| !bitmap.test_bit(block)).collect();
        for block in cleared {
            self.blocks.remove(&block);
        }
    }

    /// All blocks are marked or cleared for another reason, or may be.
    pub(crate) fn forget_all(&mut self) {
        self.blocks.clear();
    }

    /// These sectors have been written again. Returns the blocks whose marks stand for nothing any more: they are to be cleared.
    pub(crate) fn written_again(&mut self, sector: u64, end: u64) -> Vec<u64> {
        let mut equal = Vec::new();
        if self.next_of(sector, end).is_none() {
            return equal;
        }
        for (&block, left) in self.blocks.range_mut(touched(sector, end)) {
            *left &= !sectors_of(block, sector, end);
            if *left == 0 {
                equal.push(block);
            }
        }
        for block in &equal {
            self.blocks.remove(block);
        }
        equal
    }

    fn next_of(&self, sector: u64, end: u64) -> Option<u64> {
        self.blocks
            .range(touched(sector, end))
            .next()
            .map(|(&block, _)| block)
    }

    /// # Panics
    /// If there are more blocks than may be, or one is not marked, or has no sector left.
    pub(crate) fn check(&self, bitmap: &Bitmap) {
        assert!(self.blocks.len() <= BLOCKS_MAX, "{}", self.blocks.len());
        for (&block, &left) in &self.blocks {
            assert!(bitmap.test_bit(block), "block {block} is not marked");
            assert!(left != 0, "nothing of block {block} is left");
        }
    }
}

/// The blocks that have one of these sectors.
fn touched(sector: u64, end: u64) -> core::ops::Range<u64> {
    sector / BLOCK_SECTORS..end.div_ceil(BLOCK_SECTORS)
}

/// Which sectors of a block are among these, a bit each.
fn sectors_of(block: u64, sector: u64, end: u64) -> u8 {
    let first = block * BLOCK_SECTORS;
    let is = |nr: &u64| (sector..end).contains(&(first + nr));
    (0..BLOCK_SECTORS)
        .filter(is)
        .fold(0, |all, nr| all | 1 << nr)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of 100 sectors, of which nothing is marked: the last block has four.
    fn marks() -> (LateMarks, Bitmap) {
        (LateMarks::default(), Bitmap::new(100, false))
    }

    #[test]
    fn a_block_is_equal_when_all_that_came_late_was_written_again() {
        let (mut late, mut bitmap) = marks();
        late.mark(&mut bitmap, 6, 18);
        late.mark(&mut bitmap, 1, 3);
        late.check(&bitmap);
        assert_eq!(bitmap.count_set(), 3);
        assert_eq!(late.written_again(24, 100), []);
        assert_eq!(late.written_again(6, 17), [1], "and half of the next");
        assert_eq!(late.written_again(2, 3), []);
        assert_eq!(late.written_again(0, 2), [0]);
        assert_eq!(late.written_again(0, 100), [2]);
        assert_eq!(late.written_again(0, 100), []);
    }

    #[test]
    fn the_last_block_ends_with_the_device() {
        let (mut late, mut bitmap) = marks();
        late.mark(&mut bitmap, 98, 100);
        assert_eq!(late.written_again(96, 100), [12]);
    }

    #[test]
    fn what_was_marked_before_or_is_marked_again_is_no_late_mark() {
        let (mut late, mut bitmap) = marks();
        bitmap.set_sectors(8, 1);
        late.mark(&mut bitmap, 0, 32);
        late.forget(20, 21);
        assert_eq!(late.written_again(0, 32), [0, 3]);
        late.mark(&mut bitmap, 40, 48);
        late.forget_all();
        assert_eq!(late.written_again(0, 100), []);
    }

    #[test]
    fn what_is_too_much_stays_marked() {
        let blocks = BLOCKS_MAX as u64 + 3;
        let end = blocks * BLOCK_SECTORS;
        let (mut late, mut bitmap) = (LateMarks::default(), Bitmap::new(end, false));
        late.mark(&mut bitmap, 0, end);
        late.check(&bitmap);
        assert_eq!(bitmap.count_set(), blocks);
        assert_eq!(late.written_again(0, end).len(), BLOCKS_MAX);
    }
}
