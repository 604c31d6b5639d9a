//! The payload of `P_COMPRESSED_BITMAP`: docs/spec/wire.md, sections 9.4 and 9.5.
//!
//! | offset | size | field    | meaning                                                                    |
//! |-------:|-----:|----------|----------------------------------------------------------------------------|
//! |      0 |    1 | encoding | bits 0-3: 2, run lengths; bits 4-6: pad bits; bit 7: the first run is set  |
//! |      1 | 1 up | code     | code words, from the least significant bit of the first byte upwards       |

use alloc::vec::Vec;

use super::vli::{vli_decode, vli_encode};
use super::{BitSource, BitmapError};

const METHOD_MASK: u8 = 0x0f;
/// Run lengths as VLI bits, the only method there is.
const METHOD_RLE_VLI: u8 = 2;
const PAD_SHIFT: u32 = 4;
const PAD_MASK: u8 = 0x7;
const FIRST_RUN_SET: u8 = 0x80;

/// Bits of one polarity in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Whether they are set.
    pub set: bool,
    /// How many, at least 1.
    pub len: u64,
}

/// Writes code words into a limited number of bytes.
struct BitWriter {
    bytes: Vec<u8>,
    bits: u64,
    bits_max: u64,
}

impl BitWriter {
    /// Appends the low `count` bits of `code`, or nothing if they do not fit.
    fn put(&mut self, code: u64, count: u32) -> bool {
        if self.bits + u64::from(count) > self.bits_max {
            return false;
        }
        let offset = (self.bits % 8) as u32;
        // 64 bits at an offset of up to 7 touch up to 9 bytes.
        let mut rest = u128::from(code) << offset;
        let mut left = count + offset;
        if offset > 0
            && let Some(last) = self.bytes.last_mut()
        {
            *last |= rest as u8;
            rest >>= 8;
            left = left.saturating_sub(8);
        }
        while left > 0 {
            self.bytes.push(rest as u8);
            rest >>= 8;
            left = left.saturating_sub(8);
        }
        self.bits += u64::from(count);
        true
    }
}

/// Codes the runs of `source` from bit `from` on, as many as fit into a payload of `payload_max` bytes.
///
/// Gives the payload of a `P_COMPRESSED_BITMAP` and the bit behind its last run. `None` if there is nothing left to
/// send, or if the code would be longer than the bits that it covers: then plain words must be sent instead.
#[must_use]
pub fn encode_runs<S: BitSource>(
    source: &S,
    from: u64,
    payload_max: usize,
) -> Option<(Vec<u8>, u64)> {
    let bits = source.bits();
    let code_max = payload_max.saturating_sub(1) as u64;
    let mut writer = BitWriter {
        bytes: Vec::with_capacity(64),
        bits: 0,
        bits_max: code_max * 8,
    };
    writer.bytes.push(0); // the encoding
    let mut position = from;
    let mut first_set = None;
    let mut expected = None;
    while position < bits {
        let run = source.run(position);
        // Runs in a row that have the same polarity cannot be told. The next packet says its first polarity itself, so
        // a source that does such a thing (its bits changed meanwhile) costs a packet and nothing else.
        if expected.is_some_and(|expected| run.set != expected) {
            break;
        }
        let Some((code, count)) = vli_encode(run.len) else {
            break;
        };
        if !writer.put(code, count) {
            break;
        }
        first_set.get_or_insert(run.set);
        position += run.len;
        expected = Some(!run.set);
    }
    let code_bytes = (writer.bytes.len() - 1) as u64;
    if position == from || position - from < code_bytes * 8 {
        return None;
    }
    let pad_bits = (code_bytes * 8 - writer.bits) as u8; // 0 to 7
    let first = if first_set == Some(true) {
        FIRST_RUN_SET
    } else {
        0
    };
    writer.bytes[0] = METHOD_RLE_VLI | pad_bits << PAD_SHIFT | first;
    Some((writer.bytes, position))
}

/// The runs in the payload of a `P_COMPRESSED_BITMAP`.
#[derive(Debug, Clone)]
pub struct RleDecoder<'a> {
    code: &'a [u8],
    at: u64,
    end: u64,
    set: bool,
}

impl<'a> RleDecoder<'a> {
    /// Reads the encoding byte.
    ///
    /// # Errors
    /// [`BitmapError::Encoding`] for another method, [`BitmapError::Length`] if there is no code.
    pub fn new(payload: &'a [u8]) -> Result<Self, BitmapError> {
        let (encoding, code) = match payload {
            [encoding, code @ ..] if !code.is_empty() => (*encoding, code),
            _ => {
                return Err(BitmapError::Length {
                    found: payload.len(),
                    expected: 2,
                });
            }
        };
        if encoding & METHOD_MASK != METHOD_RLE_VLI {
            return Err(BitmapError::Encoding { found: encoding });
        }
        let pad_bits = u64::from(encoding >> PAD_SHIFT & PAD_MASK);
        Ok(Self {
            code,
            at: 0,
            end: code.len() as u64 * 8 - pad_bits,
            set: encoding & FIRST_RUN_SET != 0,
        })
    }

    /// The next run; `None` at the end.
    ///
    /// # Errors
    /// [`BitmapError::CutOff`] if the last code word is not complete.
    pub fn next_run(&mut self) -> Result<Option<Run>, BitmapError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let valid = (self.end - self.at).min(64);
        let mut window = [0; 16];
        let from = (self.at / 8) as usize;
        let bytes = &self.code[from..self.code.len().min(from + 9)];
        window[..bytes.len()].copy_from_slice(bytes);
        let window = (u128::from_le_bytes(window) >> (self.at % 8)) as u64; // the low 64 bits are meant
        let mask = u64::MAX >> (64 - valid);
        let Some((len, used)) = vli_decode(window & mask, valid as u32) else {
            return Err(BitmapError::CutOff { bit: self.at });
        };
        let run = Run { set: self.set, len };
        self.at += u64::from(used);
        self.set = !self.set;
        Ok(Some(run))
    }
}
