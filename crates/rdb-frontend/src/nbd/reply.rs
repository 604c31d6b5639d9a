//! The bytes that answer a request.

use super::constants::{SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, chunk};
use crate::{Errno, Op, Request};

/// What goes out before a read's data, or is the whole answer of everything else. On the stack.
#[derive(Clone, Copy)]
pub struct ReplyHeader {
    bytes: [u8; ReplyHeader::SIZE_MAX],
    length: u8,
}

impl ReplyHeader {
    /// Bytes of the longest one: a structured error with its message.
    pub const SIZE_MAX: usize = 128;

    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// | offset | size | field  |
    /// |-------:|-----:|--------|
    /// |      0 |    4 | magic  |
    /// |      4 |    4 | error  |
    /// |      8 |    8 | cookie |
    pub(super) fn simple(cookie: u64, error: u32) -> Self {
        let mut header = Self::empty();
        header.put(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        header.put(&error.to_be_bytes());
        header.put(&cookie.to_be_bytes());
        header
    }

    /// | offset | size | field                         |
    /// |-------:|-----:|-------------------------------|
    /// |      0 |    4 | magic                         |
    /// |      4 |    2 | flags                         |
    /// |      6 |    2 | type                          |
    /// |      8 |    8 | cookie                        |
    /// |     16 |    4 | bytes that follow this header |
    fn structured(cookie: u64, kind: u16, length: u32) -> Self {
        let mut header = Self::empty();
        header.put(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
        header.put(&chunk::FLAG_DONE.to_be_bytes());
        header.put(&kind.to_be_bytes());
        header.put(&cookie.to_be_bytes());
        header.put(&length.to_be_bytes());
        header
    }

    /// An error, with a message where the client understands one.
    pub(super) fn error(cookie: u64, errno: Errno, message: &str, structured: bool) -> Self {
        if !structured {
            return Self::simple(cookie, errno.number());
        }
        let room = Self::SIZE_MAX - 20 - 6;
        let message = &message.as_bytes()[..message.len().min(room)];
        let mut header = Self::structured(cookie, chunk::ERROR, 6 + message.len() as u32);
        header.put(&errno.number().to_be_bytes());
        header.put(&(message.len() as u16).to_be_bytes());
        header.put(message);
        header
    }

    /// The answer to `request`. With structured replies only reads need a chunk of their own kind; for the
    /// rest the NBD document allows the shorter simple reply.
    pub(super) fn new(request: &Request, result: Result<(), Errno>, structured: bool) -> Self {
        match result {
            Err(errno) => Self::error(request.tag, errno, errno.message(), structured),
            Ok(()) if structured && request.op == Op::Read => {
                // No overflow: a read is at most `maximum_request` long, and one that is longer than
                // 4 GiB less 8 bytes would not have left the session.
                let length = request.length.saturating_add(8);
                let mut header = Self::structured(request.tag, chunk::OFFSET_DATA, length);
                header.put(&request.offset.to_be_bytes());
                header
            }
            Ok(()) => Self::simple(request.tag, 0),
        }
    }

    /// One extent of the `base:allocation` context.
    pub(super) fn block_status(cookie: u64, context: u32, length: u32, flags: u32) -> Self {
        let mut header = Self::structured(cookie, chunk::BLOCK_STATUS, 12);
        header.put(&context.to_be_bytes());
        header.put(&length.to_be_bytes());
        header.put(&flags.to_be_bytes());
        header
    }

    fn empty() -> Self {
        Self {
            bytes: [0; Self::SIZE_MAX],
            length: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        let start = usize::from(self.length);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len() as u8;
    }
}

impl std::fmt::Debug for ReplyHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplyHeader({:02x?})", self.as_bytes())
    }
}
