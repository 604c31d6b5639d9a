//! What a peer can queue here costs time in proportion to its number, however it overlaps.

mod lone;

use lone::Lone;
use rdb_engine::state::{DiskState, Role};
use rdb_sim::Op;
use replica_proto::{BarrierNr, BlockId, BlockRequest, DataHeader, DpFlags, Packet, Socket};

/// As many as a peer may have unanswered, nearly.
const MANY: u64 = 30_000;
/// On the processor, for all of them. Looking at each for each takes minutes.
const MOST_MS: u64 = 8_000;

/// How long this thread has had a processor.
fn on_processor_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    let first = stat.split(' ').next().expect("three numbers");
    first.parse::<u64>().expect("nanoseconds") / 1_000_000
}

/// Connected, the peer is Primary, with disks of 1 GiB.
fn lone(disk: DiskState) -> Lone {
    let mut lone = Lone::large(1, 2 << 20);
    lone.role = Role::Primary;
    lone.disk = disk;
    lone.meet();
    lone
}

fn zeroes(lone: &mut Lone, sector: u64, bytes: u32) {
    let header = DataHeader {
        sector,
        block_id: BlockId::from_u64(1 << 32 | 1),
        seq_num: lone.next_seq(),
        flags: DpFlags::SEND_WRITE_ACK,
    };
    lone.give(Packet::Zeroes(header, bytes));
}

fn read(lone: &mut Lone, sector: u64, bytes: u32) {
    let request = BlockRequest {
        sector,
        block_id: BlockId::from_u64(7),
        bytes,
    };
    lone.give(Packet::DataRequest(request));
}

/// Gives what `queue` gives, lets everything come to its end, and says how long that took and how many answers came.
fn drain(mut lone: Lone, queue: impl Fn(&mut Lone)) -> usize {
    let before = on_processor_ms();
    queue(&mut lone);
    let sent = lone.pump();
    let took = on_processor_ms() - before;
    eprintln!("{took} ms, {} packets", sent.len());
    assert!(lone.is().starts_with("Connected"), "{}", lone.is());
    assert!(took < MOST_MS, "{took} ms");
    sent.len()
}

#[test]
fn each_write_behind_one_before() {
    let lone = lone(DiskState::UpToDate);
    let answers = drain(lone, |lone| {
        for n in 0..MANY {
            zeroes(lone, n % (MANY / 2) * 8, 4096);
        }
    });
    assert!(answers as u64 >= MANY, "{answers}");
}

#[test]
fn all_writes_on_one_block() {
    let lone = lone(DiskState::UpToDate);
    let answers = drain(lone, |lone| {
        for _ in 0..MANY {
            zeroes(lone, 800, 4096);
        }
    });
    assert!(answers as u64 >= MANY, "{answers}");
}

#[test]
fn large_ones_across_small_ones() {
    let lone = lone(DiskState::UpToDate);
    let answers = drain(lone, |lone| {
        for n in 0..MANY {
            match n % 50 {
                0 => zeroes(lone, n, 32 << 20),
                _ => zeroes(lone, n * 37 % 60_000, 512),
            }
        }
    });
    assert!(answers as u64 >= MANY, "{answers}");
}

#[test]
fn reads_behind_writes_of_a_later_epoch() {
    // A writer that does not say which of its writes need the flush, as the driver.
    let lone = lone(DiskState::UpToDate);
    let answers = drain(lone, |lone| {
        for n in 0..MANY / 2 {
            zeroes(lone, n * 8, 4096);
        }
        lone.give(Packet::Barrier(BarrierNr::from_u32(1)));
        for n in 0..MANY / 2 {
            zeroes(lone, n * 8, 4096);
        }
        for n in 0..MANY {
            read(lone, n % (MANY / 2) * 8, 4096);
        }
    });
    assert!(answers as u64 >= 2 * MANY, "{answers}");
}

#[test]
fn writes_that_wait_for_the_activity_log() {
    // Nobody but this node logs what a writer without a disk has written.
    let lone = lone(DiskState::Diskless);
    let answers = drain(lone, |lone| {
        for n in 0..MANY {
            zeroes(lone, n % 250 * 8192 + n / 250 * 8, 4096);
        }
    });
    assert!(answers as u64 >= MANY, "{answers}");
}

/// How many reads of the disk are under way.
fn reads(lone: &Lone) -> usize {
    let pending = lone.w.nodes[0].pending.iter();
    pending
        .filter(|pending| matches!(pending.op, Op::Read { .. }))
        .count()
}

#[test]
fn a_peer_reads_some_at_a_time_and_nothing_when_it_has_gone() {
    let mut lone = lone(DiskState::Diskless);
    for _ in 0..2000 {
        read(&mut lone, 0, 1 << 20);
    }
    assert_eq!(reads(&lone), 2, "a quarter of 8 MiB");
    for _ in 0..20 {
        lone.w.step();
        assert_eq!(reads(&lone), 2, "the next one for each that has ended");
    }
    lone.lose(Socket::Meta, 0);
    let mut left = reads(&lone);
    while lone.w.step() {
        assert!(reads(&lone) <= left, "it is read on for nobody");
        left = reads(&lone);
    }
    // It comes again: what it asked for before takes nothing of what it may ask for now.
    lone.meet();
    read(&mut lone, 0, 1 << 20);
    read(&mut lone, 0, 1 << 20);
    assert_eq!(reads(&lone), 2);
    assert_eq!(lone.pump().len(), 2);
}
