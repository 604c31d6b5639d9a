//! A request and its answer allocate nothing: the daemon sits under file systems, where memory may be short
//! just because they wait for it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use hex_literal::hex;
use rdb_frontend::nbd::{Exports, Session, Step};
use rdb_frontend::{DeviceInfo, fuse};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator unchanged; the counter does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const INFO: DeviceInfo = DeviceInfo {
    size_bytes: 1 << 20,
    minimum_block: 512,
    preferred_block: 4096,
    maximum_request: 1 << 20,
    can_trim: true,
    can_zero: true,
    read_only: false,
};

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn nbd_requests_allocate_nothing() {
    let mut exports = Exports::new("r0");
    exports.set(0, INFO);
    let mut session = Session::new();
    let mut out = Vec::with_capacity(4096);
    let mut negotiation: &[u8] = &hex!(
        "00000003 49484156454f5054 00000008 00000000 49484156454f5054 00000007 00000006 00000000 0000"
    );
    while session.volume().is_none() {
        match session.advance(&exports, negotiation, &mut out) {
            Step::Consumed { consumed } => negotiation = &negotiation[consumed..],
            step => panic!("{step:?}"),
        }
    }
    out.clear();
    let requests = [
        hex!("25609513 0001 0001 0000000000000001 0000000000001000 00001000"), // write, FUA
        hex!("25609513 0000 0000 0000000000000002 0000000000001000 00001000"), // read
        hex!("25609513 0000 0003 0000000000000003 0000000000000000 00000000"), // flush
        hex!("25609513 0000 0000 0000000000000004 0000000000000001 00001000"), // unaligned
    ];
    let mut answered = 0;
    let count = allocations(|| {
        for bytes in requests.iter().cycle().take(4000) {
            out.clear();
            if let Step::Request { request, .. } = session.advance(&exports, bytes, &mut out) {
                out.extend_from_slice(session.reply_header(&request, Ok(())).as_bytes());
                answered += 1;
            }
        }
    });
    assert_eq!((count, answered), (0, 3000));
}

#[test]
fn fuse_requests_allocate_nothing() {
    let mut session = fuse::Session::new(INFO, fuse::Root::File);
    // A read of 4096 bytes at 4096, and a flush, in the machine's byte order.
    let mut read = [0_u8; 80];
    let mut flush = [0_u8; 56];
    for (message, length, opcode) in [(&mut read[..], 80_u32, 15_u32), (&mut flush[..], 56, 20)] {
        zerocopy::IntoBytes::write_to_prefix(&[length, opcode, 7, 0], message).expect("room");
        zerocopy::IntoBytes::write_to_prefix(&1_u64, &mut message[16..]).expect("room");
    }
    zerocopy::IntoBytes::write_to_prefix(&4096_u64, &mut read[48..]).expect("room");
    zerocopy::IntoBytes::write_to_prefix(&4096_u32, &mut read[56..]).expect("room");
    let mut bytes = 0;
    let count = allocations(|| {
        for _ in 0..1000 {
            for message in [&read[..], &flush[..]] {
                if let Ok(fuse::Step::Request { request, .. }) = session.advance(message) {
                    bytes += session.reply_header(&request, Ok(())).as_bytes().len();
                }
            }
        }
    });
    assert_eq!((count, bytes), (0, 32_000));
}
