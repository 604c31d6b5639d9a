//! Writes smaller than the disk's blocks: read, change, write, one after the other.
//!
//! The lane of a volume orders what must not overlap: a step that changes part of a block waits until no write to
//! that block is in flight, and later writes to it wait behind the step. On disks with blocks of 512 bytes nothing
//! ever gets here.

use std::collections::VecDeque;
use std::ops::Range;

use super::io::Answer;
use crate::pool::{Aligned, Buf};

/// What a step writes.
pub(crate) enum Change {
    Payload(Buf),
    Zeroes,
}

/// One write in the lane.
pub(crate) struct Step {
    pub(crate) answer: Answer,
    pub(crate) change: Change,
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) fua: bool,
}

impl Step {
    /// The whole blocks that it touches.
    pub(crate) fn blocks(&self, block_bytes: u32) -> Range<u64> {
        let block = u64::from(block_bytes);
        let end = self.offset + u64::from(self.len);
        self.offset / block * block..end.div_ceil(block) * block
    }

    /// Puts the change into the blocks that were read.
    pub(crate) fn apply(&self, blocks: &Range<u64>, memory: &mut Aligned) {
        let from = (self.offset - blocks.start) as usize;
        let into = &mut memory.as_mut_slice()[from..from + self.len as usize];
        match &self.change {
            Change::Payload(buf) => into.copy_from_slice(buf.as_slice()),
            Change::Zeroes => into.fill(0),
        }
    }
}

/// The steps of a volume, the first of which may be under way.
#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) steps: VecDeque<Step>,
    /// The first step has been started.
    pub(crate) active: bool,
}

impl Lane {
    /// Whether a write to this range has to wait behind a step.
    pub(crate) fn blocks(&self, offset: u64, bytes: u64, block_bytes: u32) -> bool {
        self.steps.iter().any(|step| {
            let range = step.blocks(block_bytes);
            range.start < offset + bytes && offset < range.end
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_covers_whole_blocks_and_changes_only_its_own_bytes() {
        let step = Step {
            answer: Answer::Lane,
            change: Change::Zeroes,
            offset: 4096 + 512,
            len: 4096,
            fua: false,
        };
        let blocks = step.blocks(4096);
        assert_eq!(blocks, 4096..12288);
        let mut memory = Aligned::zeroed(8192);
        memory.as_mut_slice().fill(7);
        step.apply(&blocks, &mut memory);
        let changed: Vec<usize> = (0..8192)
            .filter(|&index| memory.as_slice()[index] == 0)
            .collect();
        assert_eq!(
            (changed.first(), changed.last(), changed.len()),
            (Some(&512), Some(&4607), 4096)
        );
        let mut lane = Lane::default();
        lane.steps.push_back(step);
        assert!(lane.blocks(8192 + 2048, 512, 4096));
        assert!(!lane.blocks(12288, 4096, 4096));
        assert!(!lane.blocks(0, 4096, 4096));
    }
}
