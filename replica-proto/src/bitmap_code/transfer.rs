//! A whole transfer, at the sender and at the receiver: docs/spec/wire.md, sections 9.2 to 9.4.

use alloc::vec::Vec;

use super::rle::{RleDecoder, encode_runs};
use super::{BitSink, BitSource, WORD_BITS, last_word_mask, words_of};
use crate::header::CONTROL_PACKET_MAX;
use crate::packet::Packet;
use crate::version::WireContext;

const WORD_BYTES: usize = 8;
/// Words handed to a sink at a time.
const BATCH: usize = 64;

/// Why packets are not a bitmap transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BitmapError {
    /// A plain packet does not have exactly the words that are due, or a compressed one no code.
    #[error("bitmap packet of {found} bytes, expected {expected}")]
    Length {
        /// Bytes of the packet.
        found: usize,
        /// What it must have.
        expected: usize,
    },
    /// The encoding byte names a method that does not exist.
    #[error("bitmap encoding {found:#04x} is unknown")]
    Encoding {
        /// The encoding byte.
        found: u8,
    },
    /// A code word lacks its end.
    #[error("bitmap code is cut off in the code word at bit {bit}")]
    CutOff {
        /// Where the code word begins, in bits of the packet's code.
        bit: u64,
    },
    /// A run goes on behind the last bit of the device.
    #[error("bitmap run of {len} bits at bit {position} passes the end at {bits}")]
    PastEnd {
        /// First bit of the run.
        position: u64,
        /// Bits of the run.
        len: u64,
        /// Bits of the device.
        bits: u64,
    },
    /// The packet is not one of a bitmap, or the transfer is complete.
    #[error("{name} {}", if *complete { "after the end of the bitmap" } else { "between the packets of a bitmap" })]
    Unexpected {
        /// DRBD's name of the packet.
        name: &'static str,
        /// Whether the transfer was complete.
        complete: bool,
    },
}

/// Where the next packet begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    bits: u64,
    /// The running position, at most `bits`.
    bit: u64,
    /// The word at which a plain packet begins. Not always `bit / 64`: behind the last word it is the number of words,
    /// and `bit` is the number of bits.
    word: u64,
    /// Words of a full plain packet.
    words_max: u64,
}

impl Position {
    fn new(ctx: &WireContext, bits: u64) -> Self {
        Self {
            bits,
            bit: 0,
            word: 0,
            words_max: (payload_max(ctx) / WORD_BYTES) as u64,
        }
    }

    /// Words of the plain packet that is due here.
    fn plain_words(&self) -> u64 {
        self.words_max.min(words_of(self.bits) - self.word)
    }

    fn pass_words(&mut self, words: u64) {
        self.word += words;
        self.bit = (self.word * WORD_BITS).min(self.bits);
    }

    fn pass_bits_to(&mut self, bit: u64) {
        self.bit = bit;
        self.word = bit / WORD_BITS;
    }
}

/// The largest payload of a bitmap packet.
fn payload_max(ctx: &WireContext) -> usize {
    CONTROL_PACKET_MAX - ctx.version.header_len()
}

/// Sends one bitmap: makes its packets one by one, in the order in which they must follow each other.
#[derive(Debug, Clone)]
pub struct BitmapSender {
    position: Position,
    payload_max: usize,
    use_rle: bool,
    complete: bool,
}

impl BitmapSender {
    /// Begins a transfer of `bits` bits. `use_rle` allows compressed packets, if the version has them.
    #[must_use]
    pub fn new(ctx: &WireContext, bits: u64, use_rle: bool) -> Self {
        Self {
            position: Position::new(ctx, bits),
            payload_max: payload_max(ctx),
            use_rle: use_rle && ctx.version.has_compressed_bitmap(),
            complete: false,
        }
    }

    /// Whether all packets have been made.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Bits of the transfer.
    #[must_use]
    pub fn bits(&self) -> u64 {
        self.position.bits
    }

    /// Bits that the packets made so far cover.
    #[must_use]
    pub fn bits_done(&self) -> u64 {
        self.position.bit
    }

    /// The next packet, [`Packet::CompressedBitmap`] or [`Packet::Bitmap`]; `None` when the transfer is complete.
    /// Bits of `source` may change between two calls; each packet has those of its own call.
    ///
    /// # Panics
    /// If `source` does not have the number of bits that the transfer began with.
    pub fn next_packet<S: BitSource>(&mut self, source: &S) -> Option<Packet> {
        assert_eq!(
            source.bits(),
            self.position.bits,
            "the bitmap changed its size while sent"
        );
        if self.complete {
            return None;
        }
        if self.use_rle
            && let Some((payload, end)) = encode_runs(source, self.position.bit, self.payload_max)
        {
            self.position.pass_bits_to(end);
            self.complete = end == self.position.bits;
            return Some(Packet::CompressedBitmap(payload));
        }
        let words = self.position.plain_words();
        let mut payload = Vec::with_capacity(words as usize * WORD_BYTES);
        let last = words_of(self.position.bits).saturating_sub(1);
        for index in self.position.word..self.position.word + words {
            let mut word = source.word(index);
            if index == last {
                word &= last_word_mask(self.position.bits);
            }
            payload.extend_from_slice(&word.to_le_bytes());
        }
        self.position.pass_words(words);
        self.complete = words == 0;
        Some(Packet::Bitmap(payload))
    }
}

/// Whether a transfer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitmapProgress {
    /// More packets follow, and nothing else may come before them.
    More,
    /// That was the last one.
    Complete,
}

/// Receives one bitmap, packet by packet.
#[derive(Debug, Clone)]
pub struct BitmapReceiver {
    position: Position,
    complete: bool,
}

impl BitmapReceiver {
    /// Expects a transfer of `bits` bits.
    #[must_use]
    pub fn new(ctx: &WireContext, bits: u64) -> Self {
        Self {
            position: Position::new(ctx, bits),
            complete: false,
        }
    }

    /// Whether the last packet has been received.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Bits received so far.
    #[must_use]
    pub fn bits_done(&self) -> u64 {
        self.position.bit
    }

    /// Takes the next packet and adds its bits to `sink`.
    ///
    /// # Errors
    /// [`BitmapError`]; the connection must end, and the sink may have got some bits of the packet, which is harmless:
    /// they only make more blocks resync.
    pub fn receive<S: BitSink + ?Sized>(
        &mut self,
        packet: &Packet,
        sink: &mut S,
    ) -> Result<BitmapProgress, BitmapError> {
        let complete = self.complete;
        match packet {
            Packet::Bitmap(payload) if !complete => self.receive_plain(payload, sink)?,
            Packet::CompressedBitmap(payload) if !complete => self.receive_runs(payload, sink)?,
            other => {
                return Err(BitmapError::Unexpected {
                    name: other.name(),
                    complete,
                });
            }
        }
        Ok(if self.complete {
            BitmapProgress::Complete
        } else {
            BitmapProgress::More
        })
    }

    fn receive_plain<S: BitSink + ?Sized>(
        &mut self,
        payload: &[u8],
        sink: &mut S,
    ) -> Result<(), BitmapError> {
        let due = self.position.plain_words();
        let (found, expected) = (payload.len(), due as usize * WORD_BYTES);
        if found != expected {
            return Err(BitmapError::Length { found, expected });
        }
        let (wire_words, _) = payload.as_chunks::<WORD_BYTES>();
        let mut index = self.position.word;
        let total = words_of(self.position.bits);
        for wire_batch in wire_words.chunks(BATCH) {
            let mut batch = [0; BATCH];
            let words = &mut batch[..wire_batch.len()];
            for (word, bytes) in words.iter_mut().zip(wire_batch) {
                *word = u64::from_le_bytes(*bytes);
            }
            let next = index + wire_batch.len() as u64;
            if next == total
                && let Some(last) = words.last_mut()
            {
                *last &= last_word_mask(self.position.bits);
            }
            sink.or_words(index, words);
            index = next;
        }
        self.position.pass_words(due);
        self.complete = due == 0;
        Ok(())
    }

    fn receive_runs<S: BitSink + ?Sized>(
        &mut self,
        payload: &[u8],
        sink: &mut S,
    ) -> Result<(), BitmapError> {
        let bits = self.position.bits;
        let mut position = self.position.bit;
        let mut runs = RleDecoder::new(payload)?;
        while let Some(run) = runs.next_run()? {
            // K does not notice a clear run that passes the end, and then waits for ever; we say so.
            if run.len > bits - position {
                return Err(BitmapError::PastEnd {
                    position,
                    len: run.len,
                    bits,
                });
            }
            if run.set {
                sink.set_run(position, run.len);
            }
            position += run.len;
        }
        self.position.pass_bits_to(position);
        self.complete = position == bits;
        Ok(())
    }
}
