//! An NBD client that sends anything, in pieces of any size.
//!
//! The first byte chooses how far the negotiation has come, the second the size of the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rdb_frontend::nbd::{Exports, INPUT_MAX, OUTPUT_HIGH_WATER, Session, Step};
use rdb_frontend::{DeviceInfo, Errno, Op};

const CLIENT_FLAGS: &[u8] = &[0, 0, 0, 3];
const STRUCTURED: &[u8] = b"IHAVEOPT\0\0\0\x08\0\0\0\0";
const CONTEXT: &[u8] =
    b"IHAVEOPT\0\0\0\x0a\0\0\0\x1b\0\0\0\0\0\0\0\x01\0\0\0\x0fbase:allocation";
const GO: &[u8] = b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0";

fuzz_target!(|data: &[u8]| {
    let [stage, piece, data @ ..] = data else { return };
    let mut exports = Exports::new("r0");
    let info = DeviceInfo {
        size_bytes: 1 << 20,
        minimum_block: 512,
        preferred_block: 4096,
        maximum_request: 1 << 16,
        can_trim: true,
        can_zero: stage & 0x80 == 0,
        read_only: stage & 0x40 != 0,
    };
    exports.set(0, info);
    let parts: &[&[u8]] = match stage % 4 {
        0 => &[],
        1 => &[CLIENT_FLAGS],
        2 => &[CLIENT_FLAGS, GO],
        _ => &[CLIENT_FLAGS, STRUCTURED, CONTEXT, GO],
    };
    let input = [parts.concat().as_slice(), data].concat();
    let (mut session, mut out, mut pending) = (Session::new(), Vec::new(), Vec::new());
    for chunk in input.chunks(usize::from(*piece).max(1)) {
        pending.extend_from_slice(chunk);
        loop {
            let before = out.len();
            match session.advance(&exports, &pending, &mut out) {
                Step::NeedMore { bytes } => {
                    assert!(bytes > pending.len() && bytes <= INPUT_MAX);
                    break;
                }
                Step::Consumed { consumed } => {
                    assert!(consumed > 0 || out.len() > before);
                    pending.drain(..consumed);
                }
                Step::Request { consumed, volume, request, payload_len } => {
                    assert_eq!(volume, 0);
                    assert!(payload_len <= info.maximum_request);
                    assert!(!(info.read_only && request.op.is_write()));
                    if request.op != Op::Flush {
                        info.check_range(request.offset, request.length.into()).expect("in range");
                    }
                    pending.drain(..consumed);
                    let buffered = pending.len().min(payload_len as usize);
                    pending.drain(..buffered);
                    let result = if request.tag & 1 == 0 { Ok(()) } else { Err(Errno::Io) };
                    out.extend_from_slice(session.reply_header(&request, result).as_bytes());
                }
                Step::Wait => {
                    assert!(out.len() >= OUTPUT_HIGH_WATER);
                    out.clear();
                }
                Step::Close { .. } => return,
            }
        }
    }
});
