//! Generic netlink, as little of it as the `nbd` family needs.
//!
//! Facts are from Linux's `include/uapi/linux/netlink.h`, `genetlink.h` and `nbd-netlink.h`, 6.12.

// Netlink is in the byte order of the machine: it never leaves it.
#![allow(clippy::host_endian_bytes)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::KnbdError;
use crate::sys::check;

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
/// `struct nlmsghdr`, and with it `struct genlmsghdr`.
const HEADER: usize = 16;
const GENL_HEADER: usize = HEADER + 4;

const CONNECT: u8 = 1;
const DISCONNECT: u8 = 2;
const RECONFIGURE: u8 = 3;
const ATTR_INDEX: u16 = 1;
const ATTR_SIZE_BYTES: u16 = 2;
const ATTR_BLOCK_SIZE_BYTES: u16 = 3;
const ATTR_SERVER_FLAGS: u16 = 5;
const ATTR_SOCKETS: u16 = 7;
const ATTR_DEAD_CONN_TIMEOUT: u16 = 8;
const ATTR_BACKEND_IDENTIFIER: u16 = 10;
const SOCK_ITEM: u16 = 1;
const SOCK_FD: u16 = 1;

/// What a device is connected with.
pub(super) struct Connect<'a> {
    /// The device's number; `None` lets the driver choose.
    pub(super) index: Option<u32>,
    pub(super) size_bytes: u64,
    pub(super) block_size_bytes: u64,
    pub(super) server_flags: u64,
    pub(super) dead_conn_timeout_s: u64,
    pub(super) backend: &'a str,
    /// One a connection.
    pub(super) sockets: &'a [RawFd],
}

/// A socket to the driver.
pub(super) struct Netlink {
    socket: OwnedFd,
    family: u16,
    sequence: u32,
}

impl Netlink {
    /// Opens one and asks for the family. `Ok(None)`: the kernel has no such family now.
    pub(super) fn open() -> Result<Option<Netlink>, KnbdError> {
        let failed = |error| KnbdError::Netlink {
            doing: "opening a netlink socket",
            error,
        };
        // SAFETY: the call takes integers only.
        let socket = check(unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                libc::NETLINK_GENERIC,
            )
        })
        .map_err(failed)?;
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let mut netlink = Netlink {
            socket,
            family: GENL_ID_CTRL,
            sequence: 0,
        };
        let mut name = Attributes::default();
        name.put(CTRL_ATTR_FAMILY_NAME, b"nbd\0");
        let answer = match netlink.ask(CTRL_CMD_GETFAMILY, 1, &name) {
            Ok(answer) => answer,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let id = find(&answer, CTRL_ATTR_FAMILY_ID).and_then(|id| id.first_chunk::<2>());
        match id {
            Some(id) => netlink.family = u16::from_ne_bytes(*id),
            None => return Err(failed(io::Error::other("an answer without a family"))),
        }
        Ok(Some(netlink))
    }

    /// Makes a device of sockets; its number.
    pub(super) fn connect(&mut self, wanted: &Connect<'_>) -> io::Result<u32> {
        let mut attributes = Attributes::default();
        if let Some(index) = wanted.index {
            attributes.put(ATTR_INDEX, &index.to_ne_bytes());
        }
        attributes.put(ATTR_SIZE_BYTES, &wanted.size_bytes.to_ne_bytes());
        attributes.put(
            ATTR_BLOCK_SIZE_BYTES,
            &wanted.block_size_bytes.to_ne_bytes(),
        );
        attributes.put(ATTR_SERVER_FLAGS, &wanted.server_flags.to_ne_bytes());
        attributes.put(
            ATTR_DEAD_CONN_TIMEOUT,
            &wanted.dead_conn_timeout_s.to_ne_bytes(),
        );
        attributes.put_text(ATTR_BACKEND_IDENTIFIER, wanted.backend);
        attributes.put_sockets(wanted.sockets);
        let answer = self.ask(CONNECT, 1, &attributes)?;
        let index = find(&answer, ATTR_INDEX).and_then(|index| index.first_chunk::<4>());
        index.map_or_else(
            || Err(io::Error::other("an answer without a device number")),
            |index| Ok(u32::from_ne_bytes(*index)),
        )
    }

    /// Gives a device another socket in place of a dead one. Without a dead one the driver lets go of it, and says nothing.
    pub(super) fn reconfigure(
        &mut self,
        index: u32,
        backend: &str,
        socket: RawFd,
    ) -> io::Result<()> {
        let mut attributes = Attributes::default();
        attributes.put(ATTR_INDEX, &index.to_ne_bytes());
        attributes.put_text(ATTR_BACKEND_IDENTIFIER, backend);
        attributes.put_sockets(&[socket]);
        self.ask(RECONFIGURE, 1, &attributes).map(drop)
    }

    /// Ends a device: whoever has it open gets I/O errors.
    pub(super) fn disconnect(&mut self, index: u32) -> io::Result<()> {
        let mut attributes = Attributes::default();
        attributes.put(ATTR_INDEX, &index.to_ne_bytes());
        self.ask(DISCONNECT, 1, &attributes).map(drop)
    }

    /// Sends one command and takes its answer: the attributes of the last message before the acknowledgement.
    fn ask(&mut self, command: u8, version: u8, attributes: &Attributes) -> io::Result<Vec<u8>> {
        self.sequence += 1;
        let length = GENL_HEADER + attributes.0.len();
        let mut message = Vec::with_capacity(length);
        message.extend_from_slice(&(length as u32).to_ne_bytes());
        message.extend_from_slice(&self.family.to_ne_bytes());
        message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0_u32.to_ne_bytes());
        message.extend_from_slice(&[command, version, 0, 0]);
        message.extend_from_slice(&attributes.0);
        // SAFETY: the descriptor is open and `message` is readable memory of the length given.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                0,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answer = Vec::new();
        loop {
            let mut bytes = vec![0_u8; 16 << 10];
            // SAFETY: the descriptor is open and `bytes` is writable memory of the length given.
            let got = unsafe {
                libc::recv(
                    self.socket.as_raw_fd(),
                    bytes.as_mut_ptr().cast(),
                    bytes.len(),
                    0,
                )
            };
            let Ok(got) = usize::try_from(got) else {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            };
            if let Some(ended) = read_messages(&bytes[..got], self.sequence, &mut answer) {
                return ended.map(|()| answer);
            }
        }
    }
}

/// Takes what a datagram holds; the end of the exchange, if it is in there.
fn read_messages(mut bytes: &[u8], sequence: u32, answer: &mut Vec<u8>) -> Option<io::Result<()>> {
    while bytes.len() >= HEADER {
        let word = |at: usize| bytes[at..at + 4].try_into().map_or(0, u32::from_ne_bytes);
        let (length, seen) = (word(0) as usize, word(8));
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        if length < HEADER || length > bytes.len() {
            return Some(Err(io::Error::other("a broken netlink message")));
        }
        let (message, rest) = bytes.split_at(length);
        bytes = &rest[rest.len().min(align(length) - length)..];
        if seen != sequence {
            continue; // a notification of others' doings
        }
        if kind == NLMSG_ERROR {
            let error = message
                .get(HEADER..HEADER + 4)
                .and_then(|e| e.try_into().ok());
            return Some(match error.map(i32::from_ne_bytes) {
                Some(0) => Ok(()),
                Some(error) => Err(io::Error::from_raw_os_error(-error)),
                None => Err(io::Error::other("a broken netlink message")),
            });
        }
        answer.clear();
        answer.extend_from_slice(message.get(GENL_HEADER..).unwrap_or_default());
    }
    None
}

/// The value of the first attribute of this type.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]) & NLA_TYPE_MASK;
        if length < 4 || length > attributes.len() {
            return None;
        }
        if kind == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(align(length)..)?;
    }
    None
}

/// A list of attributes, each padded to four bytes.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn put(&mut self, kind: u16, value: &[u8]) {
        let length = 4 + value.len();
        self.0.extend_from_slice(&(length as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len() + align(length) - length, 0);
    }

    fn put_text(&mut self, kind: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes);
    }

    fn put_sockets(&mut self, sockets: &[RawFd]) {
        let mut items = Attributes::default();
        for socket in sockets {
            let mut fd = Attributes::default();
            fd.put(SOCK_FD, &socket.cast_unsigned().to_ne_bytes());
            items.put(SOCK_ITEM | NLA_F_NESTED, &fd.0);
        }
        self.put(ATTR_SOCKETS | NLA_F_NESTED, &items.0);
    }
}

const fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = HEADER + body.len();
        let mut bytes = (length as u32).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(body);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    #[test]
    fn attributes_are_padded_and_nested() {
        let mut attributes = Attributes::default();
        attributes.put_text(ATTR_BACKEND_IDENTIFIER, "ab");
        attributes.put_sockets(&[7, 8]);
        #[cfg(target_endian = "little")]
        assert_eq!(
            attributes.0,
            [
                7, 0, 10, 0, b'a', b'b', 0, 0, // the text
                28, 0, 7, 0x80, // the list, and an item a socket
                12, 0, 1, 0x80, 8, 0, 1, 0, 7, 0, 0, 0, //
                12, 0, 1, 0x80, 8, 0, 1, 0, 8, 0, 0, 0,
            ]
        );
        assert_eq!(
            find(&attributes.0, ATTR_BACKEND_IDENTIFIER),
            Some(&b"ab\0"[..])
        );
        assert_eq!(find(&attributes.0, ATTR_SOCKETS).map(<[u8]>::len), Some(24));
        assert_eq!(find(&attributes.0, ATTR_INDEX), None);
    }

    #[test]
    fn an_exchange_ends_with_its_acknowledgement() {
        let mut answer = Vec::new();
        let mut data = Attributes::default();
        data.put(ATTR_INDEX, &5_u32.to_ne_bytes());
        let body = [&[1, 1, 0, 0][..], &data.0].concat();
        let mut bytes = message(0x1c, 8, &[0; 20]); // another's
        bytes.extend(message(0x1c, 9, &body));
        assert!(read_messages(&bytes, 9, &mut answer).is_none());
        assert_eq!(find(&answer, ATTR_INDEX), Some(&5_u32.to_ne_bytes()[..]));
        let acknowledged = message(NLMSG_ERROR, 9, &[0; 20]);
        assert!(matches!(
            read_messages(&acknowledged, 9, &mut answer),
            Some(Ok(()))
        ));
        let refused = message(NLMSG_ERROR, 9, &(-libc::EBUSY).to_ne_bytes());
        let error = read_messages(&refused, 9, &mut answer).and_then(Result::err);
        assert_eq!(error.and_then(|e| e.raw_os_error()), Some(libc::EBUSY));
    }

    #[test]
    fn what_makes_no_sense_is_an_error_and_no_panic() {
        let whole = message(NLMSG_ERROR, 9, &[0; 20]);
        for length in 0..whole.len() {
            let mut answer = Vec::new();
            // Shorter than a header is nothing; else the length is a lie.
            let ended = read_messages(&whole[..length], 9, &mut answer);
            assert_eq!(ended.is_none(), length < HEADER, "{length}");
        }
        for length in [0_u16, 3, 200] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&[1, 0, 0, 0]);
            assert_eq!(find(&bytes, 1), None);
        }
    }
}
