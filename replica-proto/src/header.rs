//! The three packet headers: docs/spec/wire.md, section 2.
//!
//! h80, 8 bytes:
//!
//! | offset | size | field   | meaning                     |
//! |-------:|-----:|---------|-----------------------------|
//! |      0 |    4 | magic   | `0x83740267`                |
//! |      4 |    2 | command | [`Command`]                 |
//! |      6 |    2 | length  | bytes that follow the header |
//!
//! h95, 8 bytes, from version 95 on for packets longer than 32768 bytes:
//!
//! | offset | size | field   | meaning                     |
//! |-------:|-----:|---------|-----------------------------|
//! |      0 |    2 | magic   | `0x835a`                    |
//! |      2 |    2 | command | [`Command`]                 |
//! |      4 |    4 | length  | bytes that follow the header |
//!
//! h100, 16 bytes, from version 100 on for everything after the feature exchange:
//!
//! | offset | size | field   | meaning                                       |
//! |-------:|-----:|---------|-----------------------------------------------|
//! |      0 |    4 | magic   | `0x8620ec20`                                  |
//! |      4 |    2 | volume  | the volume; 0 in packets of the connection    |
//! |      6 |    2 | command | [`Command`]                                   |
//! |      8 |    4 | length  | bytes that follow the header                  |
//! |     12 |    4 | pad     | zero, checked                                 |

use alloc::vec::Vec;

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::command::Command;
use crate::error::DecodeError;
use crate::version::{ProtocolVersion, WireContext};

/// Bytes of the headers h80 and h95.
pub const H80_LEN: usize = 8;
/// Bytes of the header h100.
pub const H100_LEN: usize = 16;
/// A packet without bulk data, its header included, is never longer than this many bytes
/// (docs/spec/wire.md, section 2.4).
pub const CONTROL_PACKET_MAX: usize = 4096;

const MAGIC_80: u32 = 0x8374_0267;
const MAGIC_95: u16 = 0x835a;
const MAGIC_100: u32 = 0x8620_ec20;
/// Longer packets have h95 at versions 95 to 99.
const H80_LENGTH_MAX: u32 = 32768;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw80 {
    magic: U32,
    command: U16,
    length: U16,
}
const _: () = assert!(size_of::<Raw80>() == H80_LEN);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw95 {
    magic: U16,
    command: U16,
    length: U32,
}
const _: () = assert!(size_of::<Raw95>() == H80_LEN);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw100 {
    magic: U32,
    volume: U16,
    command: U16,
    length: U32,
    pad: U32,
}
const _: () = assert!(size_of::<Raw100>() == H100_LEN);

/// A packet header, whatever its layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the header itself.
    pub header_len: usize,
    /// The volume; 0 below version 100.
    pub volume: u16,
    /// The packet's code; not yet known to be a [`Command`].
    pub code: u16,
    /// Bytes that follow the header.
    pub length: u32,
}

impl Header {
    /// Reads a header off the front of `input`. `None` while it is not complete.
    ///
    /// # Errors
    /// [`DecodeError::Magic`] as soon as the bytes cannot be one; [`DecodeError::HeaderPad`].
    pub(crate) fn decode(
        version: ProtocolVersion,
        input: &[u8],
    ) -> Result<Option<Self>, DecodeError> {
        let mut start = [0; 4];
        let seen = input.len().min(4);
        start[..seen].copy_from_slice(&input[..seen]);
        let starts_with = |magic: &[u8]| {
            let compared = seen.min(magic.len());
            start[..compared] == magic[..compared]
        };
        let bad_magic = DecodeError::Magic {
            found: u32::from_be_bytes(start),
            version,
        };

        if version.uses_h100() {
            if !starts_with(&MAGIC_100.to_be_bytes()) {
                return Err(bad_magic);
            }
            let Ok((raw, _)) = Raw100::read_from_prefix(input) else {
                return Ok(None);
            };
            if raw.pad != 0 {
                return Err(DecodeError::HeaderPad {
                    code: raw.command.get(),
                    found: raw.pad.get(),
                });
            }
            Ok(Some(Self {
                header_len: H100_LEN,
                volume: raw.volume.get(),
                code: raw.command.get(),
                length: raw.length.get(),
            }))
        } else if starts_with(&MAGIC_80.to_be_bytes()) {
            // With one byte, h95 is still possible; then this read fails for lack of bytes, as it should.
            let Ok((raw, _)) = Raw80::read_from_prefix(input) else {
                return Ok(None);
            };
            Ok(Some(Self {
                header_len: H80_LEN,
                volume: 0,
                code: raw.command.get(),
                length: u32::from(raw.length.get()),
            }))
        } else if starts_with(&MAGIC_95.to_be_bytes()) {
            let Ok((raw, _)) = Raw95::read_from_prefix(input) else {
                return Ok(None);
            };
            Ok(Some(Self {
                header_len: H80_LEN,
                volume: 0,
                code: raw.command.get(),
                length: raw.length.get(),
            }))
        } else {
            Err(bad_magic)
        }
    }

    /// Appends the header of a packet of `length` bytes, in the layout that the version asks for.
    pub(crate) fn encode(
        ctx: &WireContext,
        command: Command,
        code: u16,
        volume: u16,
        length: u32,
        out: &mut Vec<u8>,
    ) {
        if ctx.version.uses_h100() && !command.is_initial() {
            let volume = if command.is_connection_wide() {
                0
            } else {
                volume
            };
            let raw = Raw100 {
                magic: MAGIC_100.into(),
                volume: volume.into(),
                command: code.into(),
                length: length.into(),
                pad: 0.into(),
            };
            out.extend_from_slice(raw.as_bytes());
            return;
        }
        match u16::try_from(length) {
            Ok(short) if length <= H80_LENGTH_MAX || !ctx.version.uses_h95() => {
                let raw = Raw80 {
                    magic: MAGIC_80.into(),
                    command: code.into(),
                    length: short.into(),
                };
                out.extend_from_slice(raw.as_bytes());
            }
            _ => {
                assert!(
                    ctx.version.uses_h95(),
                    "{command} of {length} bytes needs version 95"
                );
                let raw = Raw95 {
                    magic: MAGIC_95.into(),
                    command: code.into(),
                    length: length.into(),
                };
                out.extend_from_slice(raw.as_bytes());
            }
        }
    }
}
