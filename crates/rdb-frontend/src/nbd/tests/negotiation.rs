//! Greeting, options, and how a conversation ends.

use hex_literal::hex;

use super::super::constants::{STRING_MAX, command as kind};
use super::*;

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
    let mut too_long_name = ((STRING_MAX + 1) as u32).to_be_bytes().to_vec();
    too_long_name.resize(4 + STRING_MAX + 1 + 2, 0);
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
    assert_eq!(client.refused(&command(kind::BLOCK_STATUS, 0, 0, 4096)), 22);
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
                &command(kind::DISC, 0, 0, 0),
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
