//! Numbers of the NBD document, and the bounds this server sets.

/// Requests of one connection that may be unanswered. At the bound the session takes no more input.
pub const IN_FLIGHT_MAX: u32 = 256;
/// Bytes of an option's data that are looked at; longer options are refused and skipped. Names are at most
/// 4096 bytes in the NBD document, so this holds a name and some queries.
pub const OPTION_LENGTH_MAX: u32 = 16 * 1024;
/// Options of one connection before it is closed: nobody needs more.
pub const OPTIONS_MAX: u32 = 256;
/// Bytes that the caller's input buffer must be able to hold: the longest option with its header.
pub const INPUT_MAX: usize = OPTION_HEADER_SIZE + OPTION_LENGTH_MAX as usize;
/// With this many bytes in `out`, the session takes no more input until they are sent.
pub const OUTPUT_HIGH_WATER: usize = 64 * 1024;
/// Bytes of a refused write (or option) that are read and thrown away; beyond, the connection is closed.
/// 32 MiB is what the NBD document lets a client send if it never asked for the limits.
pub const SKIP_MAX: u32 = 32 * 1024 * 1024;
/// Bytes of a request's header in the transmission phase.
pub const REQUEST_SIZE: usize = 28;

pub(super) const OPTION_HEADER_SIZE: usize = 16;
/// "Strings MUST NOT be larger than 4096 bytes", the NBD document, "Conventions".
pub(super) const STRING_MAX: usize = 4096;

pub(super) const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943; // "NBDMAGIC"
pub(super) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054; // "IHAVEOPT"
pub(super) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub(super) const REQUEST_MAGIC: u32 = 0x2560_9513;
pub(super) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub(super) const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Handshake flags, ours and the client's: the same bits both ways.
pub(super) mod handshake {
    pub(in super::super) const FIXED_NEWSTYLE: u16 = 1 << 0;
    pub(in super::super) const NO_ZEROES: u16 = 1 << 1;
}

/// Options.
pub(super) mod option {
    pub(in super::super) const EXPORT_NAME: u32 = 1;
    pub(in super::super) const ABORT: u32 = 2;
    pub(in super::super) const LIST: u32 = 3;
    pub(in super::super) const STARTTLS: u32 = 5;
    pub(in super::super) const INFO: u32 = 6;
    pub(in super::super) const GO: u32 = 7;
    pub(in super::super) const STRUCTURED_REPLY: u32 = 8;
    pub(in super::super) const LIST_META_CONTEXT: u32 = 9;
    pub(in super::super) const SET_META_CONTEXT: u32 = 10;
}

/// Types of replies to options.
pub(super) mod option_reply {
    pub(in super::super) const ACK: u32 = 1;
    pub(in super::super) const SERVER: u32 = 2;
    pub(in super::super) const INFO: u32 = 3;
    pub(in super::super) const META_CONTEXT: u32 = 4;
    pub(in super::super) const ERR_UNSUP: u32 = 0x8000_0001;
    pub(in super::super) const ERR_INVALID: u32 = 0x8000_0003;
    pub(in super::super) const ERR_UNKNOWN: u32 = 0x8000_0006;
    pub(in super::super) const ERR_TOO_BIG: u32 = 0x8000_0009;
}

/// Kinds of information in a reply to `INFO` and `GO`.
pub(super) mod info {
    pub(in super::super) const EXPORT: u16 = 0;
    pub(in super::super) const NAME: u16 = 1;
    pub(in super::super) const DESCRIPTION: u16 = 2;
    pub(in super::super) const BLOCK_SIZE: u16 = 3;
}

/// Transmission flags: what an export can do.
pub(super) mod transmission {
    pub(in super::super) const HAS_FLAGS: u16 = 1 << 0;
    pub(in super::super) const READ_ONLY: u16 = 1 << 1;
    pub(in super::super) const SEND_FLUSH: u16 = 1 << 2;
    pub(in super::super) const SEND_FUA: u16 = 1 << 3;
    pub(in super::super) const SEND_TRIM: u16 = 1 << 5;
    pub(in super::super) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(in super::super) const SEND_DF: u16 = 1 << 7;
    pub(in super::super) const CAN_MULTI_CONN: u16 = 1 << 8;
    pub(in super::super) const SEND_CACHE: u16 = 1 << 10;
}

/// Commands.
pub(super) mod command {
    pub(in super::super) const READ: u16 = 0;
    pub(in super::super) const WRITE: u16 = 1;
    pub(in super::super) const DISC: u16 = 2;
    pub(in super::super) const FLUSH: u16 = 3;
    pub(in super::super) const TRIM: u16 = 4;
    pub(in super::super) const CACHE: u16 = 5;
    pub(in super::super) const WRITE_ZEROES: u16 = 6;
    pub(in super::super) const BLOCK_STATUS: u16 = 7;
}

/// Command flags. `FAST_ZERO` (bit 4) is not offered, so it is refused as the unknown flags are.
pub(super) mod command_flag {
    pub(in super::super) const FUA: u16 = 1 << 0;
    pub(in super::super) const NO_HOLE: u16 = 1 << 1;
    pub(in super::super) const DF: u16 = 1 << 2;
    pub(in super::super) const REQ_ONE: u16 = 1 << 3;
}

/// Types and flags of structured replies.
pub(super) mod chunk {
    pub(in super::super) const FLAG_DONE: u16 = 1 << 0;
    pub(in super::super) const OFFSET_DATA: u16 = 1;
    pub(in super::super) const BLOCK_STATUS: u16 = 5;
    pub(in super::super) const ERROR: u16 = (1 << 15) + 1;
}

/// The one metadata context served.
pub(super) const BASE_ALLOCATION: &str = "base:allocation";
/// Its number in replies; chosen by the server.
pub(super) const BASE_ALLOCATION_ID: u32 = 1;
