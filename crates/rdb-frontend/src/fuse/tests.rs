//! Golden messages, every truncation, every refusal. Bytes are written by hand from `linux/fuse.h`.

use hex_literal::hex;
use proptest::prelude::*;

use super::*;
use crate::{DeviceInfo, Errno, Op, Request};

fn info() -> DeviceInfo {
    DeviceInfo {
        size_bytes: 1 << 20,
        minimum_block: 512,
        preferred_block: 4096,
        maximum_request: 1 << 20,
        can_trim: true,
        can_zero: true,
        read_only: false,
    }
}

fn session() -> Session {
    Session::new(
        info(),
        Root::Directory {
            file_name: "image".to_owned(),
        },
    )
}

/// A message of number 0x1122 from process 0.
fn message(opcode: u32, nodeid: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = (40 + body.len() as u32).to_le_bytes().to_vec();
    bytes.extend(opcode.to_le_bytes());
    bytes.extend(0x1122_u64.to_le_bytes());
    bytes.extend(nodeid.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend(body);
    bytes
}

fn read_body(offset: u64, size: u32) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend(offset.to_le_bytes());
    body.extend(size.to_le_bytes());
    body.extend([0; 20]);
    body
}

fn write_body(offset: u64, data: &[u8]) -> Vec<u8> {
    let mut body = read_body(offset, data.len() as u32);
    body.extend(data);
    body
}

fn fallocate_body(offset: u64, length: u64, mode: i32) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend(offset.to_le_bytes());
    body.extend(length.to_le_bytes());
    body.extend(mode.to_le_bytes());
    body.extend([0; 4]);
    body
}

/// The bytes of the reply.
fn reply(session: &mut Session, message: &[u8]) -> Vec<u8> {
    match session.advance(message) {
        Ok(Step::Reply(reply) | Step::Released(reply)) => reply.as_bytes().to_vec(),
        other => panic!("{other:?}"),
    }
}

/// The error number of the reply.
fn error(session: &mut Session, message: &[u8]) -> i32 {
    let reply = reply(session, message);
    assert_eq!(reply.len(), 16, "an error has no body");
    assert_eq!(reply[..4], hex!("10000000"));
    assert_eq!(reply[8..16], hex!("2211000000000000"));
    -i32::from_le_bytes(reply[4..8].try_into().expect("four bytes"))
}

fn request(session: &mut Session, message: &[u8]) -> Request {
    match session.advance(message) {
        Ok(Step::Request { request, payload }) => {
            let expected = if request.op == Op::Write {
                80..message.len()
            } else {
                0..0
            };
            assert_eq!(payload, expected);
            request
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn init_golden() {
    let mut session = session();
    assert!(!session.is_started());
    // 7.38, read-ahead of 128 KiB, all flags.
    let init = message(26, 0, &hex!("07000000 26000000 00000200 ffffffff"));
    let expected = hex!(
        "50000000 00000000 2211000000000000"
        "07000000 26000000 00000200 21804400"
        "0001 c000 00001000 01000000 0001 0000 00000000"
        "00000000000000000000000000000000000000000000000000000000"
    );
    assert_eq!(reply(&mut session, &init), expected);
    assert!(session.is_started());
}

#[test]
fn init_agrees_on_what_both_know() {
    let mut session = session();
    let plain = message(26, 0, &hex!("07000000 1f000000 00000000 01000000"));
    assert_eq!(reply(&mut session, &plain)[28..32], hex!("01000000"));
    assert!(session.is_started());
    for old in [
        hex!("07000000 1e000000 00000000 00000000"),
        hex!("06000000 ff000000 00000000 00000000"),
    ] {
        assert_eq!(error(&mut session, &message(26, 0, &old)), libc::EPROTO);
        assert!(!session.is_started());
    }
    let newer = message(26, 0, &hex!("08000000 00000000 00000000 ffffffff"));
    let answer = reply(&mut session, &newer);
    assert_eq!(
        answer[16..24],
        hex!("07000000 26000000"),
        "our version, so that it asks again"
    );
    assert!(!session.is_started());
}

#[test]
fn the_image_is_found_and_described() {
    let mut session = session();
    let entry = reply(&mut session, &message(1, 1, b"image\0"));
    assert_eq!(entry.len(), 16 + 128);
    assert_eq!(entry[16..24], 2_u64.to_le_bytes(), "its number");
    let attr = reply(&mut session, &message(3, 2, &[0; 16]));
    let expected = hex!(
        "78000000 00000000 2211000000000000"
        "0000000000000000 00000000 00000000"
        "0200000000000000 0000100000000000 0008000000000000"
        "0000000000000000 0000000000000000 0000000000000000 00000000 00000000 00000000"
        "80810000 01000000 00000000 00000000 00000000 00100000 00000000"
    );
    assert_eq!(attr, expected);
    assert_eq!(entry[56..], expected[32..], "both describe it alike");

    session.set_info(DeviceInfo {
        size_bytes: 2 << 20,
        ..info()
    });
    let attr = reply(&mut session, &message(3, 2, &[0; 16]));
    assert_eq!(attr[40..48], (2_u64 << 20).to_le_bytes());

    assert_eq!(error(&mut session, &message(1, 1, b"imag\0")), libc::ENOENT);
    assert_eq!(error(&mut session, &message(1, 1, b"image")), libc::ENOENT);
    assert_eq!(
        error(&mut session, &message(1, 2, b"image\0")),
        libc::ENOTDIR
    );
    assert_eq!(error(&mut session, &message(3, 3, &[0; 16])), libc::ENOENT);
}

#[test]
fn the_image_can_be_the_root() {
    let mut session = Session::new(info(), Root::File);
    let attr = reply(&mut session, &message(3, 1, &[0; 16]));
    assert_eq!(attr[92..96], hex!("80810000"), "a regular file");
    request(&mut session, &message(15, 1, &read_body(0, 512)));
    assert_eq!(
        error(&mut session, &message(1, 1, b"image\0")),
        libc::ENOTDIR
    );
    assert_eq!(error(&mut session, &message(27, 1, &[0; 8])), libc::ENOTDIR);
}

#[test]
fn opening_bypasses_the_page_cache() {
    let mut session = session();
    let read_write = message(14, 2, &hex!("02000000 00000000"));
    let expected = hex!("20000000 00000000 2211000000000000 0000000000000000 41000000 00000000");
    assert_eq!(reply(&mut session, &read_write), expected);
    assert_eq!(error(&mut session, &message(14, 1, &[0; 8])), libc::EISDIR);
    session.set_info(DeviceInfo {
        read_only: true,
        ..info()
    });
    assert_eq!(error(&mut session, &read_write), libc::EROFS);
    reply(&mut session, &message(14, 2, &[0; 8]));
}

#[test]
fn the_directory_lists_the_image() {
    let mut session = session();
    reply(&mut session, &message(27, 1, &[0; 8]));
    let all = reply(&mut session, &message(28, 1, &read_body(0, 4096)));
    let expected = hex!(
        "70000000 00000000 2211000000000000"
        "0100000000000000 0100000000000000 01000000 04000000 2e00000000000000"
        "0100000000000000 0200000000000000 02000000 04000000 2e2e000000000000"
        "0200000000000000 0300000000000000 05000000 08000000 696d616765000000"
    );
    assert_eq!(all, expected);
    let last = reply(&mut session, &message(28, 1, &read_body(2, 4096)));
    assert_eq!(last[16..], expected[80..]);
    let small = reply(&mut session, &message(28, 1, &read_body(0, 40)));
    assert_eq!(small[16..], expected[16..48], "as many as fit");
    let end = reply(&mut session, &message(28, 1, &read_body(3, 4096)));
    assert_eq!(end.len(), 16);
    assert_eq!(
        error(&mut session, &message(28, 2, &read_body(0, 4096))),
        libc::ENOTDIR
    );
}

#[test]
fn statfs_gives_the_block_size() {
    let answer = reply(&mut session(), &message(17, 1, &[]));
    assert_eq!(answer.len(), 16 + 80);
    assert_eq!(answer[16..24], 256_u64.to_le_bytes());
    assert_eq!(answer[56..60], 4096_u32.to_le_bytes());
}

#[test]
fn data_requests_golden() {
    let mut session = session();
    let data = [7; 1024];
    let write = request(&mut session, &message(16, 2, &write_body(4096, &data)));
    let expected = Request {
        tag: 0x1122,
        op: Op::Write,
        offset: 4096,
        length: 1024,
        fua: false,
    };
    assert_eq!(write, expected);
    let header = session.reply_header(&write, Ok(()));
    assert_eq!(
        header.as_bytes(),
        hex!("18000000 00000000 2211000000000000 00040000 00000000")
    );
    let header = session.reply_header(&write, Err(Errno::NoSpace));
    assert_eq!(
        header.as_bytes(),
        hex!("10000000 e4ffffff 2211000000000000")
    );

    let read = request(&mut session, &message(15, 2, &read_body(4096, 1024)));
    assert_eq!(
        read,
        Request {
            op: Op::Read,
            ..expected
        }
    );
    let header = session.reply_header(&read, Ok(()));
    assert_eq!(
        header.as_bytes(),
        hex!("10040000 00000000 2211000000000000"),
        "counts the data"
    );
    let header = session.reply_header(&read, Err(Errno::Io));
    assert_eq!(
        header.as_bytes(),
        hex!("10000000 fbffffff 2211000000000000")
    );

    let flush = request(&mut session, &message(20, 2, &[0; 16]));
    assert_eq!(
        flush,
        Request {
            op: Op::Flush,
            offset: 0,
            length: 0,
            ..expected
        }
    );
    let header = session.reply_header(&flush, Ok(()));
    assert_eq!(
        header.as_bytes(),
        hex!("10000000 00000000 2211000000000000")
    );
}

/// The loop driver punches a hole for "write zeroes" as well as for discards, and the former must read as
/// zeroes, so a hole is never a mere trim.
#[test]
fn holes_read_as_zeroes() {
    let mut session = session();
    for (mode, may_unmap) in [(0x03, true), (0x10, false), (0x11, false)] {
        let asked = request(
            &mut session,
            &message(43, 2, &fallocate_body(4096, 8192, mode)),
        );
        let op = Op::WriteZeroes { may_unmap };
        assert_eq!(
            asked,
            Request {
                tag: 0x1122,
                op,
                offset: 4096,
                length: 8192,
                fua: false
            }
        );
    }
    for mode in [0, 1, 2, 0x08, 0x20, 0x40, -1] {
        let asked = message(43, 2, &fallocate_body(0, 4096, mode));
        assert_eq!(
            error(&mut session, &asked),
            libc::EOPNOTSUPP,
            "mode {mode:#x}"
        );
    }
    let huge = DeviceInfo {
        size_bytes: 1 << 40,
        ..info()
    };
    session.set_info(huge);
    let asked = message(43, 2, &fallocate_body(0, 1 << 32, 3));
    assert_eq!(error(&mut session, &asked), libc::EFBIG);
    session.set_info(DeviceInfo {
        can_zero: false,
        ..info()
    });
    let asked = message(43, 2, &fallocate_body(0, 4096, 3));
    assert_eq!(error(&mut session, &asked), libc::EOPNOTSUPP);
}

#[test]
fn reading_ends_at_the_end() {
    let mut session = session();
    let end = 1 << 20;
    let across = request(&mut session, &message(15, 2, &read_body(end - 512, 4096)));
    assert_eq!((across.offset, across.length), (end - 512, 512));
    for offset in [end, end + 1, u64::MAX] {
        let nothing = reply(&mut session, &message(15, 2, &read_body(offset, 4096)));
        assert_eq!(nothing.len(), 16, "at {offset}");
    }
}

#[test]
fn bad_requests_are_refused_with_the_right_error() {
    let mut session = session();
    let end = 1 << 20;
    for (what, message, errno) in [
        (
            "unaligned read",
            message(15, 2, &read_body(1, 512)),
            libc::EINVAL,
        ),
        (
            "short read",
            message(15, 2, &read_body(0, 511)),
            libc::EINVAL,
        ),
        (
            "unaligned write",
            message(16, 2, &write_body(1, &[0; 512])),
            libc::EINVAL,
        ),
        (
            "empty write",
            message(16, 2, &write_body(0, &[])),
            libc::EINVAL,
        ),
        (
            "write at the end",
            message(16, 2, &write_body(end, &[0; 512])),
            libc::ENOSPC,
        ),
        (
            "write across the end",
            message(16, 2, &write_body(end - 512, &[0; 1024])),
            libc::ENOSPC,
        ),
        (
            "overflow",
            message(16, 2, &write_body(u64::MAX - 511, &[0; 512])),
            libc::ENOSPC,
        ),
        (
            "hole beyond the end",
            message(43, 2, &fallocate_body(end, 512, 3)),
            libc::ENOSPC,
        ),
        (
            "unaligned hole",
            message(43, 2, &fallocate_body(1, 512, 3)),
            libc::EINVAL,
        ),
        ("truncation", message(4, 2, &[0; 88]), libc::EPERM),
        (
            "reading the directory",
            message(15, 1, &read_body(0, 512)),
            libc::EISDIR,
        ),
        ("flushing nothing", message(20, 9, &[0; 16]), libc::ENOENT),
        ("extended attributes", message(22, 2, &[0; 8]), libc::ENOSYS),
        ("new files", message(35, 1, &[0; 16]), libc::ENOSYS),
        ("an unknown message", message(9999, 2, &[]), libc::ENOSYS),
    ] {
        assert_eq!(error(&mut session, &message), errno, "{what}");
    }
    session.set_info(DeviceInfo {
        read_only: true,
        ..info()
    });
    let write = message(16, 2, &write_body(0, &[0; 512]));
    assert_eq!(error(&mut session, &write), libc::EROFS);
    assert_eq!(
        error(&mut session, &message(43, 2, &fallocate_body(0, 512, 3))),
        libc::EROFS
    );
    session.set_info(DeviceInfo {
        maximum_request: 4096,
        ..info()
    });
    let long = message(16, 2, &write_body(0, &[0; 8192]));
    assert_eq!(error(&mut session, &long), libc::EINVAL);
}

#[test]
fn a_write_whose_size_is_a_lie_is_refused() {
    let mut session = session();
    for size in [0_u32, 512, 1536, u32::MAX] {
        let mut body = write_body(0, &[0; 1024]);
        body[16..20].copy_from_slice(&size.to_le_bytes());
        assert_eq!(
            error(&mut session, &message(16, 2, &body)),
            libc::EINVAL,
            "{size} bytes"
        );
    }
}

#[test]
fn some_messages_want_no_answer() {
    let mut session = session();
    for opcode in [2, 36, 42] {
        assert!(matches!(
            session.advance(&message(opcode, 2, &[0; 8])),
            Ok(Step::Nothing)
        ));
    }
    assert!(matches!(
        session.advance(&message(38, 0, &[])),
        Ok(Step::Destroyed)
    ));
    for opcode in [18, 29, 30, 34] {
        assert_eq!(reply(&mut session, &message(opcode, 2, &[0; 24])).len(), 16);
    }
}

#[test]
fn every_truncated_length_is_an_error() {
    let mut session = session();
    for (opcode, body) in [
        (15, read_body(0, 512)),
        (16, read_body(0, 0)),
        (43, fallocate_body(0, 512, 3)),
        (26, vec![0; 16]),
        (14, vec![0; 8]),
        (28, read_body(0, 512)),
    ] {
        let whole = message(opcode, 2, &body);
        for end in 0..whole.len() {
            let mut cut = whole[..end].to_vec();
            let result = session.advance(&cut).map(drop);
            let expected = if end < 40 {
                MessageError::Short {
                    opcode: 0,
                    got: end,
                }
            } else {
                MessageError::Length {
                    claimed: whole.len() as u32,
                    got: end,
                }
            };
            assert_eq!(result, Err(expected));
            if end >= 40 {
                cut[..4].copy_from_slice(&(end as u32).to_le_bytes());
                let result = session.advance(&cut).map(drop);
                assert_eq!(result, Err(MessageError::Short { opcode, got: end }));
            }
        }
    }
}

proptest! {
    #[test]
    fn noise_does_no_harm(
        opcode in 0_u32..60,
        nodeid in 0_u64..4,
        body in proptest::collection::vec(any::<u8>(), 0..1200),
        size in prop_oneof![Just(0_u32), (0_u32..3).prop_map(|blocks| blocks * 512), any::<u32>()],
    ) {
        let mut body = body;
        if body.len() >= 20 {
            body[16..20].copy_from_slice(&size.to_le_bytes());
        }
        let message = message(opcode, nodeid, &body);
        for root in [Root::File, Root::Directory { file_name: "image".to_owned() }] {
            let mut session = Session::new(info(), root);
            if let Ok(Step::Request { request, payload }) = session.advance(&message) {
                prop_assert!(payload.end <= message.len());
                if request.op != Op::Flush {
                    let length = u64::from(request.length);
                    prop_assert_eq!(info().check_range(request.offset, length), Ok(()));
                }
            }
        }
    }
}
