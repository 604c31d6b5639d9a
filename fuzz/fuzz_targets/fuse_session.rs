//! Any message on `/dev/fuse`. The first byte chooses the root, the second the kind; the rest is the message,
//! with the kind and its length put in so that it is looked at.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rdb_frontend::fuse::{Root, Session, Step};
use rdb_frontend::{DeviceInfo, Op};

fuzz_target!(|data: &[u8]| {
    let [root, opcode, message @ ..] = data else { return };
    let info = DeviceInfo {
        size_bytes: 1 << 20,
        minimum_block: 512,
        preferred_block: 4096,
        maximum_request: 1 << 16,
        can_trim: true,
        can_zero: root & 2 == 0,
        read_only: root & 4 != 0,
    };
    let root = match root & 1 {
        0 => Root::File,
        _ => Root::Directory { file_name: "image".to_owned() },
    };
    let mut session = Session::new(info, root);
    // As it came, and with a header that fits.
    let _ = session.advance(message);
    let mut message = message.to_vec();
    let length = message.len() as u32;
    if let Some(header) = message.get_mut(..8) {
        header[..4].copy_from_slice(&length.to_ne_bytes());
        header[4..].copy_from_slice(&u32::from(*opcode).to_ne_bytes());
    }
    match session.advance(&message) {
        Ok(Step::Request { request, payload }) => {
            assert_eq!(message[payload].len(), if request.op == Op::Write { request.length as usize } else { 0 });
            assert!(!(info.read_only && request.op.is_write()));
            if request.op != Op::Flush {
                info.check_range(request.offset, request.length.into()).expect("in range");
            }
            let header = session.reply_header(&request, Ok(()));
            assert!(header.as_bytes().len() <= 24);
        }
        Ok(Step::Reply(reply) | Step::Released(reply)) => {
            let bytes = reply.as_bytes();
            let claimed = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            assert_eq!(claimed as usize, bytes.len());
        }
        Ok(Step::Nothing | Step::Destroyed) | Err(_) => {}
    }
});
