//! The FUSE server's side of `/dev/fuse`, without any I/O: a file system of one file, the device's image.
//!
//! The kernel's block layer reaches the device through a loop device over that file (see
//! [`loopdev`](crate::loopdev)). Facts are from Linux's `include/uapi/linux/fuse.h`, protocol 7.31 and later.
//!
//! How the caller drives it:
//!
//! 1. [`mount::mount`] gives the file descriptor of the connection. One `read` gives exactly one message;
//!    the buffer must hold [`MESSAGE_SIZE_MAX`] bytes or the kernel refuses the read.
//! 2. [`Session::advance`] with the message says what to do: write a ready reply with one `write`, pass a
//!    request to the device, or nothing.
//! 3. When the device has answered, write [`Session::reply_header`] and, for a successful read, the data,
//!    with one `writev`.
//!
//! A write's data begins [`WRITE_PAYLOAD_OFFSET`] bytes into its message. Read with two vectors, the first of
//! that many bytes and the second page-aligned (or into one buffer that starts that many bytes before a page
//! boundary), and the data lands aligned and needs no copy.
//!
//! The kernel caches nothing of the file: it is opened for direct I/O, and writes go in parallel. What a file
//! system on the loop device sends as a flush arrives as `FSYNC`; there is no FUA in FUSE, the block layer
//! sends a flush instead.
//!
//! Punching a hole becomes [`Op::WriteZeroes`](crate::Op::WriteZeroes) that may unmap, never
//! [`Op::Trim`](crate::Op::Trim): the loop driver punches holes for discards and for "write zeroes" alike,
//! and a file system relies on reading zeroes after the latter.
//!
//! Deliberately absent: everything else a file system does. Unknown requests get `ENOSYS`, which the kernel
//! remembers.

pub mod left;
pub mod leftovers;
pub mod mount;
mod session;
// The messages in the tests are written down as a little-endian kernel sends them.
#[cfg(all(test, target_endian = "little"))]
mod tests;
pub(crate) mod wire;

pub use session::{MessageError, Root, Session, Step};
pub use wire::{MESSAGE_SIZE_MAX, REQUEST_DATA_MAX, Reply, ReplyHeader, WRITE_PAYLOAD_OFFSET};
