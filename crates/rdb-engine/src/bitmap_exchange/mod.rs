//! Sending and receiving whole bitmaps (`docs/spec/wire.md`, section 9): the future source first, then the target its
//! merged one. The packets of one bitmap are contiguous on the data socket.

use rdb_meta::Bitmap;
use replica_proto::bitmap_code::{BitSink, BitSource, BitmapReceiver, BitmapSender, Run};

use crate::ids::VolumeNr;

/// Where the duty to send the bitmap stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BitmapDue {
    No,
    /// As future source, once application writes have ended.
    Source,
    /// As future target, merged with the source's.
    Target,
}

/// A bitmap on its way out. Ordinary packets of the data socket wait until it is sent.
#[derive(Debug)]
pub(crate) struct BitmapOut {
    pub(crate) volume: VolumeNr,
    pub(crate) sender: BitmapSender,
}

/// A bitmap on its way in.
#[derive(Debug)]
pub(crate) struct BitmapIn {
    pub(crate) volume: VolumeNr,
    pub(crate) bits: u64,
    pub(crate) receiver: BitmapReceiver,
}

pub(crate) struct Source<'a>(pub(crate) &'a Bitmap);

impl BitSource for Source<'_> {
    fn bits(&self) -> u64 {
        self.0.bits()
    }

    fn word(&self, index: u64) -> u64 {
        usize::try_from(index)
            .ok()
            .and_then(|i| self.0.words().get(i))
            .copied()
            .unwrap_or(0)
    }

    fn run(&self, from: u64) -> Run {
        let set = self.0.test_bit(from);
        let end = if set {
            self.0.next_clear(from)
        } else {
            self.0.next_set(from)
        };
        Run {
            set,
            len: end.unwrap_or(self.0.bits()) - from,
        }
    }
}

pub(crate) struct Sink<'a>(pub(crate) &'a mut Bitmap);

impl BitSink for Sink<'_> {
    fn or_words(&mut self, word_index: u64, words: &[u64]) {
        if let Ok(index) = usize::try_from(word_index) {
            self.0.or_words(index, words);
        }
    }

    fn set_run(&mut self, first_bit: u64, len: u64) {
        self.0.set_run(first_bit, len);
    }
}

/// A bitmap that nobody wants any more.
pub(crate) struct Nowhere;

impl BitSink for Nowhere {
    fn or_words(&mut self, _word_index: u64, _words: &[u64]) {}

    fn set_run(&mut self, _first_bit: u64, _len: u64) {}
}
