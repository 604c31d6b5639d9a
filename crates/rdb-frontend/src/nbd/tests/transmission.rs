//! Requests, refusals and replies.

use hex_literal::hex;

use super::super::constants::command as kind;
use super::*;
use crate::Errno;

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
        (kind::READ, 0, 0, 65536, Op::Read, false),
        (kind::READ, 4, 0, 512, Op::Read, false),
        (kind::READ, fua, 0, 512, Op::Read, false),
        (kind::WRITE, 0, 512, 512, Op::Write, false),
        (kind::WRITE, fua, (1 << 20) - 512, 512, Op::Write, true),
        (kind::FLUSH, 0, 0, 0, Op::Flush, false),
        (kind::FLUSH, fua, 0, 0, Op::Flush, false),
        (kind::TRIM, 0, 0, 1 << 20, Op::Trim, false),
        (kind::TRIM, fua, 0, 512, Op::Trim, true),
        (kind::CACHE, 0, 0, 1 << 20, Op::Cache, false),
        (
            kind::WRITE_ZEROES,
            0,
            0,
            1 << 20,
            Op::WriteZeroes { may_unmap: true },
            false,
        ),
        (
            kind::WRITE_ZEROES,
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
        client.feed(&command(kind::BLOCK_STATUS, flags, 512, 4096));
        let expected =
            hex!("668e33ef 0001 0005 c00c1e0000000001 0000000c  00000001 00001000 00000000");
        assert_eq!(client.out, expected);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one row a bad request")]
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
            ("read beyond the end", kind::READ, 0, end, 512, EINVAL),
            (
                "read across the end",
                kind::READ,
                0,
                end - 512,
                1024,
                EINVAL,
            ),
            (
                "read where the end overflows",
                kind::READ,
                0,
                u64::MAX - 511,
                512,
                EINVAL,
            ),
            ("trim beyond the end", kind::TRIM, 0, end, 512, EINVAL),
            ("cache beyond the end", kind::CACHE, 0, end, 512, EINVAL),
            (
                "zeroes beyond the end",
                kind::WRITE_ZEROES,
                0,
                end,
                512,
                ENOSPC,
            ),
            (
                "zeroes across the end",
                kind::WRITE_ZEROES,
                0,
                512,
                1 << 20,
                ENOSPC,
            ),
            ("unaligned offset", kind::READ, 0, 1, 512, EINVAL),
            ("unaligned length", kind::READ, 0, 0, 511, EINVAL),
            ("unaligned trim", kind::TRIM, 0, 256, 512, EINVAL),
            ("read of nothing", kind::READ, 0, 0, 0, EINVAL),
            ("write of nothing", kind::WRITE, 0, 0, 0, EINVAL),
            ("trim of nothing", kind::TRIM, 0, 0, 0, EINVAL),
            ("zeroes of nothing", kind::WRITE_ZEROES, 0, 0, 0, EINVAL),
            ("too long a read", kind::READ, 0, 0, 65536 + 512, EINVAL),
            ("flush of a range", kind::FLUSH, 0, 512, 0, EINVAL),
            ("flush of a length", kind::FLUSH, 0, 0, 512, EINVAL),
            ("fast zeroes", kind::WRITE_ZEROES, 16, 0, 512, EINVAL),
            ("an unknown flag", kind::READ, 0x8000, 0, 512, EINVAL),
            ("a misplaced flag", kind::READ, 2, 0, 512, EINVAL),
            ("a misplaced flag", kind::FLUSH, 4, 0, 0, EINVAL),
            ("an unknown command", 8, 0, 0, 512, EINVAL),
            ("an unknown command", 0xffff, 0, 0, 512, EINVAL),
        ] {
            let got = client.refused(&command(kind, flags, offset, length));
            assert_eq!(got, error, "{what}, structured {structured}");
        }
        let dont_fragment = client.refused(&command(kind::READ, 4, 0, 65536 + 512));
        assert_eq!(dont_fragment, if structured { EOVERFLOW } else { EINVAL });
        if !structured {
            assert_eq!(
                client.refused(&command(kind::BLOCK_STATUS, 0, 0, 512)),
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
        assert_eq!(client.refused(&command(kind::TRIM, 0, 0, 512)), EINVAL);
        assert_eq!(
            client.refused(&command(kind::WRITE_ZEROES, 0, 0, 512)),
            EINVAL
        );
        client.exports.set(
            0,
            DeviceInfo {
                read_only: true,
                ..info()
            },
        );
        assert_eq!(client.refused(&command(kind::TRIM, 0, 0, 512)), EPERM);
        assert_eq!(
            client.refused(&command(kind::WRITE_ZEROES, 0, 0, 512)),
            EPERM
        );
        client.exports.remove(0);
        assert_eq!(client.refused(&command(kind::READ, 0, 0, 512)), ESHUTDOWN);
    }
}

#[test]
fn a_resize_is_seen_by_open_connections() {
    let mut client = Client::transmitting(false);
    assert_eq!(client.refused(&command(kind::READ, 0, 1 << 20, 512)), 22);
    client.exports.set(
        0,
        DeviceInfo {
            size_bytes: 2 << 20,
            ..info()
        },
    );
    client.request(&command(kind::READ, 0, 1 << 20, 512));
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
        let data = command(kind::READ, 0, 0, 512).repeat(2400);
        let mut input = command(kind::WRITE, 0, offset, length);
        input.extend(&data[..length as usize - 1]);
        let stop = client.feed(&input);
        assert_eq!(stop.step, Step::NeedMore { bytes: 1 }, "{kind_of_error}");
        assert!(
            client.out.is_empty(),
            "{kind_of_error}: no answer before the data is through"
        );
        assert_eq!(client.refused(&[0]), error, "{kind_of_error}");
        client.exports.set(0, info());
        client.request(&command(kind::READ, 0, 0, 512));
    }
}

#[test]
fn a_write_too_long_to_skip_ends_the_conversation() {
    let mut client = Client::transmitting(true);
    let stop = client.feed(&command(kind::WRITE, 0, 0, SKIP_MAX + 512));
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
    let read = command(kind::READ, 0, 0, 512);
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
    let refused = command(kind::READ, 0, 1, 1).repeat(10_000);
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
