//! Golden conversations, every truncation, every refusal, and hostile clients. Bytes are written by hand
//! from the NBD document.

use hex_literal::hex;
use proptest::prelude::*;

use super::constants::command;
use super::*;
use crate::{DeviceInfo, Errno, Op, Request};

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

#[test]
fn greeting_and_go_golden() {
    let mut client = Client::new();
    let stop = client.feed(&[]);
    assert_eq!(
        stop,
        Stop {
            step: Step::NeedMore { bytes: 4 },
            left: 0
        }
    );
    assert_eq!(client.out, hex!("4e42444d41474943 49484156454f5054 0003"));
    client.out.clear();

    client.feed(&hex!("00000003"));
    // GO, export "r0/0", asking for names and block sizes.
    let stop = client.feed(&hex!(
        "49484156454f5054 00000007 0000000e  00000004 72302f30 0002 0001 0003"
    ));
    assert_eq!(
        stop,
        Stop {
            step: Step::NeedMore { bytes: 28 },
            left: 0
        }
    );
    let expected = hex!(
        // EXPORT: 1 MiB; flags HAS_FLAGS FLUSH FUA TRIM WRITE_ZEROES MULTI_CONN CACHE.
        "0003e889045565a9 00000007 00000003 0000000c  0000 0000000000100000 056d"
        // BLOCK_SIZE: 512, 4096, 65536.
        "0003e889045565a9 00000007 00000003 0000000e  0003 00000200 00001000 00010000"
        // NAME.
        "0003e889045565a9 00000007 00000003 00000006  0001 72302f30"
        // ACK.
        "0003e889045565a9 00000007 00000001 00000000"
    );
    assert_eq!(client.out, expected);
    assert_eq!(client.session.volume(), Some(0));
}

#[test]
fn export_name_golden_with_and_without_padding() {
    for (flags, padding) in [
        (hex!("00000003"), 0),
        (hex!("00000001"), 124),
        (hex!("00000000"), 124),
    ] {
        let mut client = Client::new();
        client.feed(&flags);
        client.out.clear();
        client.feed(&hex!("49484156454f5054 00000001 00000001  31")); // "1": read-only, 4096 bytes
        let mut expected = hex!("0000000000001000 056f").to_vec();
        expected.resize(10 + padding, 0);
        assert_eq!(client.out, expected);
        assert_eq!(client.session.volume(), Some(1));
    }
}

#[test]
fn structured_replies_offer_df() {
    let mut client = Client::negotiating();
    client.feed(&option(8, &[]));
    assert_eq!(option_replies(8, &client.out), [(1, vec![])]);
    client.out.clear();
    client.feed(&option(1, b""));
    assert_eq!(client.out, hex!("0000000000100000 05ed"));
}

#[test]
fn flags_follow_the_device() {
    let mut client = Client::negotiating();
    client.exports.set(
        0,
        DeviceInfo {
            can_trim: false,
            can_zero: false,
            read_only: true,
            ..info()
        },
    );
    client.feed(&option(1, b""));
    assert_eq!(client.out[8..], hex!("050f"));
}

#[test]
fn list_names_all_volumes() {
    let mut client = Client::negotiating();
    client.feed(&option(3, &[]));
    let mut first = string("r0/0");
    first.extend(b"resource r0, volume 0");
    let mut second = string("r0/1");
    second.extend(b"resource r0, volume 1");
    assert_eq!(
        option_replies(3, &client.out),
        [(2, first), (2, second), (1, vec![])]
    );
}

#[test]
fn options_are_refused_with_the_right_error() {
    const UNSUP: u32 = 0x8000_0001;
    const INVALID: u32 = 0x8000_0003;
    const UNKNOWN: u32 = 0x8000_0006;
    const TOO_BIG: u32 = 0x8000_0009;
    let mut too_long_name = ((super::constants::STRING_MAX + 1) as u32)
        .to_be_bytes()
        .to_vec();
    too_long_name.resize(4 + super::constants::STRING_MAX + 1 + 2, 0);
    for (what, number, data, error) in [
        ("TLS", 5, vec![], UNSUP),
        ("extended headers", 11, vec![], UNSUP),
        ("an unknown option", 0xdead, vec![1, 2, 3], UNSUP),
        ("a list with data", 3, vec![0], INVALID),
        ("structured replies with data", 8, vec![0], INVALID),
        ("GO without data", 7, vec![], INVALID),
        (
            "GO with a name that is too short",
            7,
            hex!("00000005 7230 0000").to_vec(),
            INVALID,
        ),
        (
            "GO with trailing data",
            7,
            hex!("00000000 0000 00").to_vec(),
            INVALID,
        ),
        (
            "GO with fewer kinds than promised",
            7,
            hex!("00000000 0002 0001").to_vec(),
            INVALID,
        ),
        ("GO with a name that is too long", 7, too_long_name, INVALID),
        ("GO to nowhere", 7, go("r1/0", &[]), UNKNOWN),
        ("INFO of nowhere", 6, go("r0/2", &[]), UNKNOWN),
        (
            "a context before structured replies",
            10,
            meta_context("", &[]),
            INVALID,
        ),
        (
            "contexts before structured replies",
            9,
            meta_context("", &[]),
            INVALID,
        ),
        (
            "a very long option",
            7,
            vec![0; OPTION_LENGTH_MAX as usize + 1],
            TOO_BIG,
        ),
    ] {
        let mut client = Client::negotiating();
        let stop = client.feed(&option(number, &data));
        assert_eq!(
            stop,
            Stop {
                step: Step::NeedMore { bytes: 16 },
                left: 0
            },
            "{what}"
        );
        let replies = option_replies(number, &client.out);
        assert_eq!(replies.len(), 1, "{what}");
        assert_eq!(replies[0].0, error, "{what}");
        assert!(!replies[0].1.is_empty(), "{what} has a message");
        client.out.clear();
        client.feed(&option(7, &go("", &[])));
        assert_eq!(
            client.session.volume(),
            Some(0),
            "after {what} all is still possible"
        );
    }
}

#[test]
fn malformed_metadata_queries_are_refused() {
    let mut client = Client::negotiating();
    client.feed(&option(8, &[]));
    for (what, data, error) in [
        ("no data", vec![], 0x8000_0003),
        (
            "a lying count",
            hex!("00000000 ffffffff").to_vec(),
            0x8000_0003,
        ),
        (
            "a lying length",
            hex!("00000000 00000001 7fffffff 41").to_vec(),
            0x8000_0003,
        ),
        (
            "trailing data",
            hex!("00000000 00000000 41").to_vec(),
            0x8000_0003,
        ),
        ("nowhere", meta_context("nowhere", &[]), 0x8000_0006),
    ] {
        for number in [9, 10] {
            client.out.clear();
            client.feed(&option(number, &data));
            let replies = option_replies(number, &client.out);
            assert_eq!(replies.len(), 1, "{what}");
            assert_eq!(replies[0].0, error, "{what}");
        }
    }
}

#[test]
fn one_metadata_context_is_known() {
    let mut client = Client::negotiating();
    client.feed(&option(8, &[]));
    let context = |id: u8| {
        let mut bytes = vec![0, 0, 0, id];
        bytes.extend(b"base:allocation");
        (4, bytes)
    };
    for (number, queries, selected) in [
        (9, &[][..], Some(0)),
        (9, &["base:"][..], Some(0)),
        (9, &["qemu:"][..], None),
        (10, &[][..], None),
        (10, &["base:"][..], None),
        (10, &["qemu:dirty-bitmap:x", "base:allocation"][..], Some(1)),
    ] {
        client.out.clear();
        client.feed(&option(number, &meta_context("", queries)));
        let mut expected: Vec<_> = selected.map(context).into_iter().collect();
        expected.push((1, vec![]));
        assert_eq!(
            option_replies(number, &client.out),
            expected,
            "{number} {queries:?}"
        );
    }
}

#[test]
fn a_context_counts_for_its_own_export_only() {
    let mut client = Client::negotiating();
    client.feed(&option(8, &[]));
    client.feed(&option(10, &meta_context("r0/1", &["base:allocation"])));
    client.feed(&option(7, &go("r0/0", &[])));
    assert_eq!(
        client.refused(&command(command::BLOCK_STATUS, 0, 0, 4096)),
        22
    );
}

#[test]
fn conversations_end_for_a_reason() {
    let mut go_then_nonsense = option(7, &go("", &[]));
    go_then_nonsense.extend([0xff; 28]);
    for (input, reason) in [
        (
            hex!("00000004").to_vec(),
            CloseReason::ClientFlags { flags: 4 },
        ),
        (
            [&hex!("00000003")[..], &[0x41; 16]].concat(),
            CloseReason::OptionMagic {
                found: 0x4141_4141_4141_4141,
            },
        ),
        (
            [&hex!("00000000")[..], &option(3, &[])].concat(),
            CloseReason::NotFixedNewstyle { option: 3 },
        ),
        (
            [&hex!("00000003")[..], &option(1, b"nowhere")].concat(),
            CloseReason::UnknownExport,
        ),
        (
            [&hex!("00000003")[..], &option(2, &[])].concat(),
            CloseReason::Abort,
        ),
        (
            [
                &hex!("00000003")[..],
                b"IHAVEOPT",
                &hex!("00000007 ffffffff"),
            ]
            .concat(),
            CloseReason::TooLong { length: u32::MAX },
        ),
        (
            [
                &hex!("00000003")[..],
                b"IHAVEOPT",
                &hex!("00000001 00010000"),
            ]
            .concat(),
            CloseReason::TooLong { length: 65536 },
        ),
        (
            [
                &hex!("00000003")[..],
                &option(99, &[]).repeat(OPTIONS_MAX as usize + 1),
            ]
            .concat(),
            CloseReason::TooManyOptions,
        ),
        (
            [&hex!("00000003")[..], &go_then_nonsense].concat(),
            CloseReason::RequestMagic { found: u32::MAX },
        ),
        (
            [
                &hex!("00000003")[..],
                &option(7, &go("", &[])),
                &command(command::DISC, 0, 0, 0),
            ]
            .concat(),
            CloseReason::Disconnect,
        ),
    ] {
        let mut client = Client::new();
        assert_eq!(client.feed(&input).step, Step::Close { reason });
        let orderly = matches!(reason, CloseReason::Abort | CloseReason::Disconnect);
        assert_eq!(reason.is_orderly(), orderly);
        assert_eq!(
            client.feed(&[0; 64]).step,
            Step::Close { reason },
            "and stays closed"
        );
    }
}

#[test]
fn abort_is_acknowledged() {
    let mut client = Client::negotiating();
    client.feed(&option(2, &[]));
    assert_eq!(
        client.out,
        hex!("0003e889045565a9 00000002 00000001 00000000")
    );
}

#[test]
fn commands_golden() {
    for structured in [false, true] {
        let mut client = Client::transmitting(structured);
        // A write of 512 bytes at 4096 with FUA.
        let write = hex!("25609513 0001 0001 c00c1e0000000001 0000000000001000 00000200");
        let request = client.request(&write);
        let expected = Request {
            tag: COOKIE,
            op: Op::Write,
            offset: 4096,
            length: 512,
            fua: true,
        };
        assert_eq!(request, expected);
        let header = client.session.reply_header(&request, Ok(()));
        assert_eq!(
            header.as_bytes(),
            hex!("67446698 00000000 c00c1e0000000001")
        );

        let read = hex!("25609513 0000 0000 c00c1e0000000001 0000000000001000 00000200");
        let request = client.request(&read);
        assert_eq!(
            request,
            Request {
                op: Op::Read,
                fua: false,
                ..expected
            }
        );
        let header = client.session.reply_header(&request, Ok(()));
        if structured {
            let expected = hex!("668e33ef 0001 0001 c00c1e0000000001 00000208  0000000000001000");
            assert_eq!(header.as_bytes(), expected);
        } else {
            assert_eq!(
                header.as_bytes(),
                hex!("67446698 00000000 c00c1e0000000001")
            );
        }
        let header = client.session.reply_header(&request, Err(Errno::Io));
        if structured {
            let mut expected =
                hex!("668e33ef 0001 8001 c00c1e0000000001 00000018  00000005 0012").to_vec();
            expected.extend(b"Input/output error");
            assert_eq!(header.as_bytes(), expected);
        } else {
            assert_eq!(
                header.as_bytes(),
                hex!("67446698 00000005 c00c1e0000000001")
            );
        }
        assert_eq!(client.session.in_flight(), 0);
    }
}

#[test]
fn every_command_arrives_as_it_was_meant() {
    let mut client = Client::transmitting(true);
    let fua = 1;
    for (kind, flags, offset, length, op, fua) in [
        (command::READ, 0, 0, 65536, Op::Read, false),
        (command::READ, 4, 0, 512, Op::Read, false),
        (command::READ, fua, 0, 512, Op::Read, false),
        (command::WRITE, 0, 512, 512, Op::Write, false),
        (command::WRITE, fua, (1 << 20) - 512, 512, Op::Write, true),
        (command::FLUSH, 0, 0, 0, Op::Flush, false),
        (command::FLUSH, fua, 0, 0, Op::Flush, false),
        (command::TRIM, 0, 0, 1 << 20, Op::Trim, false),
        (command::TRIM, fua, 0, 512, Op::Trim, true),
        (command::CACHE, 0, 0, 1 << 20, Op::Cache, false),
        (
            command::WRITE_ZEROES,
            0,
            0,
            1 << 20,
            Op::WriteZeroes { may_unmap: true },
            false,
        ),
        (
            command::WRITE_ZEROES,
            2 | fua,
            0,
            512,
            Op::WriteZeroes { may_unmap: false },
            true,
        ),
    ] {
        let request = client.request(&command(kind, flags, offset, length));
        assert_eq!(
            request,
            Request {
                tag: COOKIE,
                op,
                offset,
                length,
                fua
            }
        );
        client.session.reply_header(&request, Ok(()));
    }
}

#[test]
fn block_status_says_data() {
    let mut client = Client::transmitting(true);
    for flags in [0, 1, 8] {
        client.out.clear();
        client.feed(&command(command::BLOCK_STATUS, flags, 512, 4096));
        let expected =
            hex!("668e33ef 0001 0005 c00c1e0000000001 0000000c  00000001 00001000 00000000");
        assert_eq!(client.out, expected);
    }
}

#[test]
fn bad_requests_are_refused_with_the_right_error() {
    const EPERM: u32 = 1;
    const EINVAL: u32 = 22;
    const ENOSPC: u32 = 28;
    const EOVERFLOW: u32 = 75;
    const ESHUTDOWN: u32 = 108;
    let end = 1 << 20;
    for structured in [false, true] {
        let mut client = Client::transmitting(structured);
        for (what, kind, flags, offset, length, error) in [
            ("read beyond the end", command::READ, 0, end, 512, EINVAL),
            (
                "read across the end",
                command::READ,
                0,
                end - 512,
                1024,
                EINVAL,
            ),
            (
                "read where the end overflows",
                command::READ,
                0,
                u64::MAX - 511,
                512,
                EINVAL,
            ),
            ("trim beyond the end", command::TRIM, 0, end, 512, EINVAL),
            ("cache beyond the end", command::CACHE, 0, end, 512, EINVAL),
            (
                "zeroes beyond the end",
                command::WRITE_ZEROES,
                0,
                end,
                512,
                ENOSPC,
            ),
            (
                "zeroes across the end",
                command::WRITE_ZEROES,
                0,
                512,
                1 << 20,
                ENOSPC,
            ),
            ("unaligned offset", command::READ, 0, 1, 512, EINVAL),
            ("unaligned length", command::READ, 0, 0, 511, EINVAL),
            ("unaligned trim", command::TRIM, 0, 256, 512, EINVAL),
            ("read of nothing", command::READ, 0, 0, 0, EINVAL),
            ("write of nothing", command::WRITE, 0, 0, 0, EINVAL),
            ("trim of nothing", command::TRIM, 0, 0, 0, EINVAL),
            ("zeroes of nothing", command::WRITE_ZEROES, 0, 0, 0, EINVAL),
            ("too long a read", command::READ, 0, 0, 65536 + 512, EINVAL),
            ("flush of a range", command::FLUSH, 0, 512, 0, EINVAL),
            ("flush of a length", command::FLUSH, 0, 0, 512, EINVAL),
            ("fast zeroes", command::WRITE_ZEROES, 16, 0, 512, EINVAL),
            ("an unknown flag", command::READ, 0x8000, 0, 512, EINVAL),
            ("a misplaced flag", command::READ, 2, 0, 512, EINVAL),
            ("a misplaced flag", command::FLUSH, 4, 0, 0, EINVAL),
            ("an unknown command", 8, 0, 0, 512, EINVAL),
            ("an unknown command", 0xffff, 0, 0, 512, EINVAL),
        ] {
            let got = client.refused(&command(kind, flags, offset, length));
            assert_eq!(got, error, "{what}, structured {structured}");
        }
        let dont_fragment = client.refused(&command(command::READ, 4, 0, 65536 + 512));
        assert_eq!(dont_fragment, if structured { EOVERFLOW } else { EINVAL });
        if !structured {
            assert_eq!(
                client.refused(&command(command::BLOCK_STATUS, 0, 0, 512)),
                EINVAL
            );
        }

        client.exports.set(
            0,
            DeviceInfo {
                can_trim: false,
                can_zero: false,
                ..info()
            },
        );
        assert_eq!(client.refused(&command(command::TRIM, 0, 0, 512)), EINVAL);
        assert_eq!(
            client.refused(&command(command::WRITE_ZEROES, 0, 0, 512)),
            EINVAL
        );
        client.exports.set(
            0,
            DeviceInfo {
                read_only: true,
                ..info()
            },
        );
        assert_eq!(client.refused(&command(command::TRIM, 0, 0, 512)), EPERM);
        assert_eq!(
            client.refused(&command(command::WRITE_ZEROES, 0, 0, 512)),
            EPERM
        );
        client.exports.remove(0);
        assert_eq!(
            client.refused(&command(command::READ, 0, 0, 512)),
            ESHUTDOWN
        );
    }
}

#[test]
fn a_resize_is_seen_by_open_connections() {
    let mut client = Client::transmitting(false);
    assert_eq!(client.refused(&command(command::READ, 0, 1 << 20, 512)), 22);
    client.exports.set(
        0,
        DeviceInfo {
            size_bytes: 2 << 20,
            ..info()
        },
    );
    client.request(&command(command::READ, 0, 1 << 20, 512));
}

#[test]
fn data_of_a_refused_write_passes_by_before_the_error() {
    for (kind_of_error, offset, length, read_only, error) in [
        ("beyond the end", 1 << 20, 1024, false, 28),
        ("unaligned", 1, 1024, false, 22),
        ("too long", 0, 65536 + 512, false, 22),
        ("read-only", 0, 1024, true, 1),
    ] {
        let mut client = Client::transmitting(true);
        client.exports.set(
            0,
            DeviceInfo {
                read_only,
                ..info()
            },
        );
        client.out.clear();
        // The data looks like requests, and must not be taken for them.
        let data = command(command::READ, 0, 0, 512).repeat(2400);
        let mut input = command(command::WRITE, 0, offset, length);
        input.extend(&data[..length as usize - 1]);
        let stop = client.feed(&input);
        assert_eq!(stop.step, Step::NeedMore { bytes: 1 }, "{kind_of_error}");
        assert!(
            client.out.is_empty(),
            "{kind_of_error}: no answer before the data is through"
        );
        assert_eq!(client.refused(&[0]), error, "{kind_of_error}");
        client.exports.set(0, info());
        client.request(&command(command::READ, 0, 0, 512));
    }
}

#[test]
fn a_write_too_long_to_skip_ends_the_conversation() {
    let mut client = Client::transmitting(true);
    let stop = client.feed(&command(command::WRITE, 0, 0, SKIP_MAX + 512));
    let reason = CloseReason::TooLong {
        length: SKIP_MAX + 512,
    };
    assert_eq!(stop.step, Step::Close { reason });
    assert_eq!(
        client.out[..8],
        hex!("668e33ef 0001 8001"),
        "it is told why"
    );
}

#[test]
fn requests_in_flight_are_bounded() {
    let mut client = Client::transmitting(false);
    let read = command(command::READ, 0, 0, 512);
    let requests: Vec<_> = (0..IN_FLIGHT_MAX).map(|_| client.request(&read)).collect();
    assert_eq!(client.session.in_flight(), IN_FLIGHT_MAX);
    assert_eq!(
        client.feed(&read),
        Stop {
            step: Step::Wait,
            left: 28
        }
    );
    client.session.reply_header(&requests[0], Ok(()));
    client.request(&read);
    assert_eq!(client.feed(&read).step, Step::Wait);
}

#[test]
fn unsent_output_is_bounded() {
    let mut client = Client::transmitting(true);
    let refused = command(command::READ, 0, 1, 1).repeat(10_000);
    let stop = client.feed(&refused);
    assert_eq!(stop.step, Step::Wait);
    assert!(stop.left > 0);
    assert!(client.out.len() < OUTPUT_HIGH_WATER + ReplyHeader::SIZE_MAX);
    client.out.clear();
    assert!(client.feed(&refused[refused.len() - stop.left..]).left < stop.left);

    let mut client = Client::negotiating();
    let list = option(3, &[]).repeat(OPTIONS_MAX as usize);
    client.out.resize(OUTPUT_HIGH_WATER, 0);
    assert_eq!(
        client.feed(&list),
        Stop {
            step: Step::Wait,
            left: list.len()
        }
    );
}

#[test]
fn every_truncated_length_waits_for_the_rest() {
    let mut whole = hex!("00000003").to_vec();
    for part in [
        option(8, &[]),
        option(9, &meta_context("r0", &[])),
        option(10, &meta_context("r0/0", &["base:allocation"])),
        option(6, &go("", &[1, 2, 3])),
        option(7, &go("r0/0", &[3])),
        command(command::BLOCK_STATUS, 0, 0, 4096),
        command(command::READ, 0, 1, 1),
    ] {
        whole.extend(part);
    }
    let mut reference = Client::new();
    reference.feed(&whole);
    for end in 0..whole.len() {
        let mut client = Client::new();
        let stop = client.feed(&whole[..end]);
        let Step::NeedMore { bytes } = stop.step else {
            panic!("{end} bytes: {stop:?}")
        };
        assert!(
            bytes > stop.left && bytes <= INPUT_MAX,
            "{end} bytes: {stop:?}"
        );
        let rest = client.feed(&whole[end - stop.left..]);
        assert_eq!(
            rest,
            Stop {
                step: Step::NeedMore { bytes: 28 },
                left: 0
            }
        );
        assert_eq!(client.out, reference.out, "{end} bytes");
    }
}

/// Feeds bytes in pieces, checks every promise of the module, and answers requests as they come.
fn check_promises(mut client: Client, input: &[u8], piece: usize) -> Result<(), TestCaseError> {
    let mut pending = Vec::new();
    for chunk in input.chunks(piece) {
        pending.extend_from_slice(chunk);
        loop {
            let before = client.out.len();
            match client
                .session
                .advance(&client.exports, &pending, &mut client.out)
            {
                Step::NeedMore { bytes } => {
                    prop_assert!(bytes > pending.len() && bytes <= INPUT_MAX);
                    prop_assert_eq!(client.out.len(), before);
                    break;
                }
                Step::Consumed { consumed } => {
                    prop_assert!(consumed > 0 || client.out.len() > before);
                    pending.drain(..consumed);
                }
                Step::Request {
                    consumed,
                    volume,
                    request,
                    payload_len,
                } => {
                    pending.drain(..consumed);
                    let info = client.exports.get(volume).expect("an export").info;
                    if request.op != Op::Flush {
                        let length = u64::from(request.length);
                        prop_assert_eq!(info.check_range(request.offset, length), Ok(()));
                    }
                    prop_assert!(!(info.read_only && request.op.is_write()));
                    prop_assert!(payload_len <= info.maximum_request);
                    let buffered = pending.len().min(payload_len as usize);
                    pending.drain(..buffered);
                    let reply = client.session.reply_header(&request, Err(Errno::Io));
                    prop_assert!(reply.as_bytes().len() <= ReplyHeader::SIZE_MAX);
                }
                Step::Wait => {
                    prop_assert!(client.out.len() >= OUTPUT_HIGH_WATER);
                    client.out.clear();
                }
                Step::Close { .. } => return Ok(()),
            }
        }
    }
    Ok(())
}

/// Mostly sense, partly nonsense: it goes deeper than noise.
fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let offset = prop_oneof![(0_u64..2200).prop_map(|block| block * 512), any::<u64>()];
    let length = prop_oneof![(0_u32..300).prop_map(|blocks| blocks * 512), any::<u32>()];
    let flags = prop_oneof![Just(0_u16), 0_u16..32, any::<u16>()];
    (0_u16..9, flags, offset, length)
        .prop_map(|(kind, flags, offset, length)| command(kind, flags, offset, length))
}

fn any_option() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![Just("r0/0".to_owned()), Just(String::new()), ".{0,20}"];
    let data = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        (name.clone(), proptest::collection::vec(0_u16..5, 0..5))
            .prop_map(|(name, kinds)| go(&name, &kinds)),
        (name, any::<bool>()).prop_map(|(name, known)| {
            meta_context(
                &name,
                if known {
                    &["base:allocation"]
                } else {
                    &["x:y", "base:"]
                },
            )
        }),
    ];
    (0_u32..13, data).prop_map(|(number, data)| option(number, &data))
}

proptest! {
    #[test]
    fn noise_does_no_harm(input in proptest::collection::vec(any::<u8>(), 0..512), piece in 1_usize..64) {
        check_promises(Client::new(), &input, piece)?;
        check_promises(Client::negotiating(), &input, piece)?;
        check_promises(Client::transmitting(true), &input, piece)?;
    }

    #[test]
    fn hostile_negotiations_do_no_harm(
        options in proptest::collection::vec(any_option(), 0..40),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        piece in 1_usize..200,
    ) {
        let mut input = [&hex!("00000003")[..], &options.concat()].concat();
        for (index, value) in flips {
            let index = index.index(input.len());
            input[index] = value;
        }
        check_promises(Client::new(), &input, piece)?;
    }

    #[test]
    fn hostile_requests_do_no_harm(
        requests in proptest::collection::vec(any_request(), 0..60),
        structured: bool,
        piece in 1_usize..200,
    ) {
        check_promises(Client::transmitting(structured), &requests.concat(), piece)?;
    }
}
