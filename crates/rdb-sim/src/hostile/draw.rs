//! Where choices come from.

use crate::rng::Rng;

/// A source of choices.
pub(crate) trait Draw {
    /// A number below `n`, which is not 0.
    fn below(&mut self, n: u64) -> u64;

    /// True once in `n` times.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

impl Draw for Rng {
    fn below(&mut self, n: u64) -> u64 {
        Rng::below(self, n)
    }
}

/// The input of a fuzzer: each choice takes as few bytes as its range needs, so that a changed byte changes one choice.
#[derive(Debug)]
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Bytes<'a> {
        Bytes { rest: input }
    }

    /// Whether all of it is used up: every further choice is 0.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Up to so many bytes as they are.
    pub(crate) fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(most.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}

impl Draw for Bytes<'_> {
    fn below(&mut self, n: u64) -> u64 {
        let width = match n {
            0..=1 => return 0,
            2..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 8,
        };
        let bytes = self.take(width).iter().rev();
        bytes.fold(0, |sum: u64, &byte| sum << 8 | u64::from(byte)) % n
    }
}
