//! What can be wrong with received bytes.

use crate::command::{Command, Socket};
use crate::snapshot::BadSnapshotName;
use crate::version::ProtocolVersion;

/// Why received bytes are not a packet. Each of them ends the connection: the stream cannot be followed any further.
///
/// What a connection does then (retry, or give up until an administrator acts) is decided elsewhere; DRBD's own
/// reactions are in docs/spec/wire.md, section 5.10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The header does not start with the magic of this version.
    #[error("bad magic {found:#010x} for protocol version {version}")]
    Magic {
        /// The first four bytes; those that have not arrived are zero.
        found: u32,
        /// The version in use.
        version: ProtocolVersion,
    },
    /// The last word of a 16-byte header is not zero.
    #[error("{}: header pad is {found:#010x}, must be zero", CommandCode(*code))]
    HeaderPad {
        /// The packet's code.
        code: u16,
        /// The pad.
        found: u32,
    },
    /// No packet has this code.
    #[error("unknown packet {code:#06x} on the {socket} socket")]
    UnknownCommand {
        /// The code.
        code: u16,
        /// Where it arrived.
        socket: Socket,
    },
    /// The packet belongs on the other socket.
    #[error("{command} on the {socket} socket")]
    WrongSocket {
        /// The packet.
        command: Command,
        /// Where it arrived.
        socket: Socket,
    },
    /// A packet other than the initial ones came before the feature exchange, or one of those after it.
    #[error("{command} {}", if command.is_initial() { "after the feature exchange" } else { "before the feature exchange" })]
    WrongPhase {
        /// The packet.
        command: Command,
    },
    /// The header's length is not one that this packet can have.
    #[error("{command} of {length} bytes, expected {min} to {max}")]
    Length {
        /// The packet.
        command: Command,
        /// Bytes after the header.
        length: u32,
        /// The least possible.
        min: u32,
        /// The most possible.
        max: u32,
    },
    /// A number of bytes is not a multiple of the unit it is counted in (512 for data, 8 for bitmaps).
    #[error("{command}: {bytes} bytes are not a multiple of {unit}")]
    Unaligned {
        /// The packet.
        command: Command,
        /// The size.
        bytes: u32,
        /// What it must be a multiple of.
        unit: u32,
    },
    /// A size in the packet is zero or beyond its limit.
    #[error("{command}: size of {bytes} bytes, expected {min} to {max}")]
    Size {
        /// The packet.
        command: Command,
        /// The size.
        bytes: u32,
        /// The least possible.
        min: u32,
        /// The most possible.
        max: u32,
    },
    /// A range of sectors ends beyond what any device can have.
    #[error("{command}: sector {sector} and {bytes} bytes are beyond any device")]
    Sector {
        /// The packet.
        command: Command,
        /// First sector.
        sector: u64,
        /// Bytes from there.
        bytes: u32,
    },
    /// A field has a value without a meaning.
    #[error("{command}: {field} is {value}")]
    Value {
        /// The packet.
        command: Command,
        /// The field, in the spelling of docs/spec/wire.md.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// An algorithm's name is not a NUL-terminated ASCII string.
    #[error("{command}: {field} is not a NUL-terminated name")]
    Name {
        /// The packet.
        command: Command,
        /// The field, in the spelling of docs/spec/wire.md.
        field: &'static str,
    },
    /// A snapshot's name has a character that names have not, or none, or something behind its end.
    #[error("{command}: {BadSnapshotName}")]
    SnapshotName {
        /// The packet.
        command: Command,
    },
}

/// Prints a code as the packet's name where it has one.
struct CommandCode(u16);

impl core::fmt::Display for CommandCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match Command::from_code(self.0) {
            Some(command) => command.fmt(f),
            None => write!(f, "packet {:#06x}", self.0),
        }
    }
}
