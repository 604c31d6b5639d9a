//! The bitmap exchange: run-length code and transfers (docs/spec/wire.md, section 9).
//!
//! One bit for each 4096 bytes of the device, set for out of sync. In memory bit `n` is bit `n % 64` of word `n / 64`;
//! on the wire the words are little-endian, so bit `n` is bit `n % 8` of byte `n / 8`.
//!
//! A transfer is a row of packets without anything between them. It has a running position and no packet names one:
//!
//! ```text
//!            plain P_BITMAP:                              P_COMPRESSED_BITMAP:
//!            exactly min(all that fit, words left)        runs of alternating polarity
//!            from word position / 64 on                   from bit position on
//!                  |                                            |
//!   position = 64 * (word behind the last one)      position = bit behind the last run
//!                  |                                            |
//!   at the end: one P_BITMAP of 0 bytes more        at the end: nothing more
//! ```
//!
//! The receiver adds bits and never clears any. What a packet may hold:
//!
//! | header | largest payload | plain words | code bytes |
//! |-------:|----------------:|------------:|-----------:|
//! |      8 |            4088 |         511 |       4087 |
//! |     16 |            4080 |         510 |       4079 |

mod rle;
mod transfer;
mod vli;

pub use rle::{RleDecoder, Run, encode_runs};
pub use transfer::{BitmapError, BitmapProgress, BitmapReceiver, BitmapSender};
pub use vli::{VLI_CODE_BITS_MAX, VLI_RUN_MAX, vli_decode, vli_encode};

/// Bits of a word.
pub const WORD_BITS: u64 = 64;

/// Number of words that hold `bits` bits.
#[must_use]
pub const fn words_of(bits: u64) -> u64 {
    bits.div_ceil(WORD_BITS)
}

/// A bitmap to be sent.
pub trait BitSource {
    /// Number of bits: one for each 4096 bytes of the device, the last one perhaps for less.
    fn bits(&self) -> u64;

    /// Word `index`, which is below [`words_of`] the bits. Bits beyond the last one may have any value.
    fn word(&self, index: u64) -> u64;

    /// The polarity of bit `from`, which is below [`BitSource::bits`], and the number of bits from there on that
    /// have it. Implement it if long runs can be found faster than word by word.
    fn run(&self, from: u64) -> Run {
        let bits = self.bits();
        let set = self.word(from / WORD_BITS) >> (from % WORD_BITS) & 1 == 1;
        let mut at = from;
        while at < bits {
            let word = self.word(at / WORD_BITS);
            // Ones are what ends the run; the shift brings in zeros, so a word's end is never taken for one.
            let differing = (if set { !word } else { word }) >> (at % WORD_BITS);
            if differing != 0 {
                at += u64::from(differing.trailing_zeros());
                break;
            }
            at = (at / WORD_BITS + 1) * WORD_BITS;
        }
        Run {
            set,
            len: at.min(bits) - from,
        }
    }
}

/// A bitmap that what is received is added to.
pub trait BitSink {
    /// ORs `words` into the bitmap, the first one at word `word_index`. They lie within the bitmap, and bits beyond the
    /// last one are zero. At most 64 words a call.
    fn or_words(&mut self, word_index: u64, words: &[u64]);

    /// Sets `len` bits from `first_bit` on. They lie within the bitmap; `len` is at least 1.
    fn set_run(&mut self, first_bit: u64, len: u64);
}

impl<S: BitSource + ?Sized> BitSource for &S {
    fn bits(&self) -> u64 {
        (**self).bits()
    }

    fn word(&self, index: u64) -> u64 {
        (**self).word(index)
    }

    fn run(&self, from: u64) -> Run {
        (**self).run(from)
    }
}

/// A bitmap in a slice of words: the plain source.
#[derive(Debug, Clone, Copy)]
pub struct WordSlice<'a> {
    words: &'a [u64],
    bits: u64,
}

impl<'a> WordSlice<'a> {
    /// `bits` bits in `words`. `None` if the number of words is not [`words_of`] the bits.
    #[must_use]
    pub fn new(words: &'a [u64], bits: u64) -> Option<Self> {
        (words.len() as u64 == words_of(bits)).then_some(Self { words, bits })
    }
}

impl BitSource for WordSlice<'_> {
    fn bits(&self) -> u64 {
        self.bits
    }

    fn word(&self, index: u64) -> u64 {
        self.words[index as usize] // new() compared the numbers
    }
}

/// A slice of words, long enough for the bitmap: the plain sink.
impl BitSink for [u64] {
    fn or_words(&mut self, word_index: u64, words: &[u64]) {
        for (own, received) in self[word_index as usize..].iter_mut().zip(words) {
            *own |= received;
        }
    }

    fn set_run(&mut self, first_bit: u64, len: u64) {
        let mut at = first_bit;
        let end = first_bit + len;
        while at < end {
            let in_word = at % WORD_BITS;
            let count = (WORD_BITS - in_word).min(end - at);
            self[(at / WORD_BITS) as usize] |= (u64::MAX >> (WORD_BITS - count)) << in_word;
            at += count;
        }
    }
}

/// All ones in the bits of the word that ends a bitmap of `bits` bits.
const fn last_word_mask(bits: u64) -> u64 {
    match bits % WORD_BITS {
        0 => u64::MAX,
        used => (1 << used) - 1,
    }
}
