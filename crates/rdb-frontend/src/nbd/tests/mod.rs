//! Golden conversations, every truncation, every refusal, and hostile clients. Bytes are written by hand
//! from the NBD document.

mod hostile;
mod negotiation;
mod transmission;

use hex_literal::hex;

use super::*;
use crate::{DeviceInfo, Op, Request};

/// 1 MiB of 512-byte blocks, at most 64 KiB a request.
pub(super) fn info() -> DeviceInfo {
    DeviceInfo {
        size_bytes: 1 << 20,
        minimum_block: 512,
        preferred_block: 4096,
        maximum_request: 1 << 16,
        can_trim: true,
        can_zero: true,
        read_only: false,
    }
}

fn exports() -> Exports {
    let mut exports = Exports::new("r0");
    exports.set(0, info());
    exports.set(
        1,
        DeviceInfo {
            size_bytes: 4096,
            read_only: true,
            ..info()
        },
    );
    exports
}

/// A session and what it said.
struct Client {
    session: Session,
    exports: Exports,
    out: Vec<u8>,
}

/// How a conversation stopped: what the session wants, and how much input it left.
#[derive(Debug, PartialEq, Eq)]
struct Stop {
    step: Step,
    left: usize,
}

impl Client {
    fn new() -> Self {
        Self {
            session: Session::new(),
            exports: exports(),
            out: Vec::new(),
        }
    }

    /// Past the greeting and client flags.
    fn negotiating() -> Self {
        let mut client = Self::new();
        client.feed(&hex!("00000003"));
        client.out.clear();
        client
    }

    /// Past the negotiation, on volume 0.
    fn transmitting(structured: bool) -> Self {
        let mut client = Self::negotiating();
        if structured {
            client.feed(&option(8, &[]));
            client.feed(&option(10, &meta_context("r0/0", &["base:allocation"])));
        }
        client.feed(&option(7, &go("r0/0", &[])));
        client.out.clear();
        assert_eq!(client.session.volume(), Some(0));
        client
    }

    /// Feeds everything, as far as the session takes it.
    fn feed(&mut self, mut input: &[u8]) -> Stop {
        loop {
            match self.session.advance(&self.exports, input, &mut self.out) {
                Step::Consumed { consumed } => input = &input[consumed..],
                step => {
                    return Stop {
                        step,
                        left: input.len(),
                    };
                }
            }
        }
    }

    /// Sends one request and expects it to reach the device.
    fn request(&mut self, bytes: &[u8]) -> Request {
        match self.feed(bytes).step {
            Step::Request {
                consumed: 28,
                volume: 0,
                request,
                payload_len,
            } => {
                let expected = if request.op == Op::Write {
                    request.length
                } else {
                    0
                };
                assert_eq!(payload_len, expected);
                request
            }
            step => panic!("{step:?}"),
        }
    }

    /// Sends one request and expects it to be refused; with which error.
    fn refused(&mut self, bytes: &[u8]) -> u32 {
        self.out.clear();
        let stop = self.feed(bytes);
        assert_eq!(
            stop,
            Stop {
                step: Step::NeedMore { bytes: 28 },
                left: 0
            }
        );
        assert_eq!(self.session.in_flight(), 0);
        let error = match self.out[..4] {
            [0x67, 0x44, 0x66, 0x98] => {
                assert_eq!(self.out.len(), 16);
                &self.out[4..8]
            }
            _ => {
                assert_eq!(self.out[..8], hex!("668e33ef 0001 8001"));
                let length = u32::from_be_bytes(self.out[16..20].try_into().expect("four bytes"));
                assert_eq!(self.out.len(), 20 + length as usize);
                let message = u16::from_be_bytes([self.out[24], self.out[25]]);
                assert_eq!(u32::from(message) + 6, length);
                &self.out[20..24]
            }
        };
        u32::from_be_bytes(error.try_into().expect("four bytes"))
    }
}

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn go(name: &str, kinds: &[u16]) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend((kinds.len() as u16).to_be_bytes());
    bytes.extend(kinds.iter().flat_map(|kind| kind.to_be_bytes()));
    bytes
}

fn meta_context(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend((queries.len() as u32).to_be_bytes());
    bytes.extend(queries.iter().flat_map(|query| string(query)));
    bytes
}

fn command(kind: u16, flags: u16, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = hex!("25609513").to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(hex!("c00c1e00 00000001"));
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

const COOKIE: u64 = 0xc00c_1e00_0000_0001;

/// Type and data of each reply to an option in `out`.
fn option_replies(number: u32, mut out: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut replies = Vec::new();
    while !out.is_empty() {
        assert_eq!(out[..8], hex!("0003e889 045565a9"));
        assert_eq!(out[8..12], number.to_be_bytes());
        let kind = u32::from_be_bytes(out[12..16].try_into().expect("four bytes"));
        let length = u32::from_be_bytes(out[16..20].try_into().expect("four bytes")) as usize;
        replies.push((kind, out[20..20 + length].to_vec()));
        out = &out[20 + length..];
    }
    replies
}
