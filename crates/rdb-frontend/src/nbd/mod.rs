//! The NBD server's side of the conversation, without any I/O: fixed newstyle, over a unix socket.
//!
//! Facts are from the protocol document of the Network Block Device project (`doc/proto.md` there), below
//! "the NBD document". One [`Session`] is one connection:
//!
//! ```text
//!  accept ─► greeting ─► client flags ─► options … ─ GO or EXPORT_NAME ─► transmission ─ DISC ─► closed
//! ```
//!
//! The caller owns the socket and drives the session:
//!
//! 1. After `accept`, call [`Session::advance`] with no input: the greeting is put into `out`.
//! 2. Call [`Session::advance`] with the bytes received and not yet consumed, until it says
//!    [`Step::NeedMore`] or [`Step::Wait`]. Send what was put into `out` before, or in the order of, later
//!    reply headers.
//! 3. For [`Step::Request`] of a write, take `payload_len` bytes off the connection right after the header,
//!    into a buffer of the caller's own; the session never sees them. Then go on.
//! 4. When the device has answered, send [`Session::reply_header`] and, for a successful read, the data.
//!    Replies go out in any order, but header and data stay together.
//! 5. At [`Step::Close`] send what is left in `out`, answer what is in flight, and close.
//!
//! Invariants: whatever a client sends, the session does not panic, does not allocate by a length the client
//! chose, keeps at most [`IN_FLIGHT_MAX`] requests open, and stops taking input while [`OUTPUT_HIGH_WATER`]
//! bytes of `out` are unsent. A request that leaves the session lies in its device, is aligned, and is
//! allowed on it.
//!
//! Deliberately absent: TLS (the socket is local), extended headers, resizing (unknown to the protocol).

mod constants;
mod exports;
mod negotiation;
mod reply;
mod session;
#[cfg(test)]
mod tests;

pub use constants::{
    IN_FLIGHT_MAX, INPUT_MAX, OPTION_LENGTH_MAX, OPTIONS_MAX, OUTPUT_HIGH_WATER, REQUEST_SIZE,
    SKIP_MAX,
};
pub use exports::{Export, Exports};
pub use reply::ReplyHeader;
pub use session::{CloseReason, Session, Step};
