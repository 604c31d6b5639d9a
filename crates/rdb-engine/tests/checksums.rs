//! csums-alg: a resync target asks with the digest of what it has, and only what differs is sent.

mod lone;

use std::rc::Rc;

use lone::{Lone, Sent, names};
use rdb_engine::config::NetOptions;
use rdb_engine::state::{ConnState, DiskState};
use rdb_engine::{Command, Payload};
use rdb_sim::{Data, V, World};
use replica_proto::{BlockAck, BlockId, BlockRequest, DigestAlgorithm, Packet};

fn with(algorithm: DigestAlgorithm) -> NetOptions {
    NetOptions {
        csums_alg: Some(algorithm),
        ..NetOptions::default()
    }
}

fn lone(seed: u64) -> Lone {
    let mut lone = Lone::with(seed, with(DigestAlgorithm::Crc32c));
    lone.sync.csums_alg = "crc32c".parse().unwrap();
    lone
}

#[test]
fn a_full_resync_of_equal_disks_sends_what_differs_alone() {
    for &algorithm in DigestAlgorithm::ALL {
        for invalid in 0..2 {
            let mut w = World::pair(1, &with(algorithm));
            for n in 0..20 {
                w.write_wait(0, n * 1000, vec![n as u8 + 1; 8192]);
            }
            w.quiet();
            w.nodes[invalid].disks[0].write(2000, &[99; 4096], true); // behind the engine's back
            let before = w.nodes[1 - invalid].resync_bytes;
            w.admin(invalid, Command::Invalidate { volume: V }).unwrap();
            w.wait_synced();
            w.quiet();
            assert!(w.disks_equal(), "{algorithm:?} {invalid}");
            let sent = w.nodes[1 - invalid].resync_bytes - before;
            assert!(sent > 0 && sent <= 1 << 20, "{sent} bytes were sent");
            assert!(w.logged(invalid, "had equal checksums, eliminated"));
            assert_eq!((w.nodes[0].out_of_sync(), w.nodes[1].out_of_sync()), (0, 0));
        }
    }
}

#[test]
fn writes_go_on_meanwhile() {
    for seed in 0..20 {
        let mut w = World::pair(seed, &with(DigestAlgorithm::Md5));
        w.admin(1, Command::Invalidate { volume: V }).unwrap();
        let mut ids = Vec::new();
        for n in 0..200_u64 {
            let sector = w.rng.below(60_000);
            let len = 512 * (1 + w.rng.below(64)) as usize;
            ids.push(w.write(0, sector, vec![n as u8 + 1; len]));
            w.step();
        }
        for id in ids {
            w.wait_done(0, id).unwrap();
        }
        w.wait_synced();
        w.quiet();
        assert!(w.disks_equal(), "seed {seed}");
    }
}

#[test]
fn only_a_crashed_primary_asks_with_digests_if_so_configured() {
    let options = NetOptions {
        csums_after_crash_only: true,
        ..with(DigestAlgorithm::Sha1)
    };
    let mut w = World::pair(3, &options);
    w.admin(1, Command::Invalidate { volume: V }).unwrap();
    w.wait_synced();
    w.quiet();
    assert!(!w.logged(1, "had equal checksums, eliminated"));
    // The Primary dies, and is the target of the one that took over.
    w.write_wait(0, 0, vec![5; 4096]);
    w.quiet();
    w.kill(0);
    w.primary(1, false).unwrap();
    w.write_wait(1, 800, vec![6; 4096]);
    w.up(0, &options);
    w.wait_synced();
    w.quiet();
    assert!(w.disks_equal());
    assert!(w.logged(0, "had equal checksums, eliminated"));
}

/// Source by hand: the engine's node answers one request with a digest.
fn answer(own: bool) -> (Lone, Vec<Sent>) {
    let mut lone = source(lone(4), &[80]);
    let mut data = lone.w.nodes[0].disks[0].read(80, 4096);
    if !own {
        data[0] ^= 1;
    }
    let digest = Data(Rc::new(data)).digest(DigestAlgorithm::Crc32c);
    let request = BlockRequest {
        sector: 80,
        block_id: BlockId::SYNCER,
        bytes: 4096,
    };
    lone.give(Packet::CsumRsRequest(request, digest));
    let sent = lone.pump();
    (lone, sent)
}

/// The engine's node is SyncSource of these blocks.
fn source(mut lone: Lone, sectors: &[u64]) -> Lone {
    lone.disk = DiskState::Inconsistent;
    lone.meet();
    lone.give_bitmap(sectors);
    lone.pump();
    assert_eq!(lone.is(), "SyncSource S/S U/I");
    lone
}

#[test]
fn a_source_says_in_sync_or_sends_data() {
    let (lone, sent) = answer(true);
    assert_eq!(names(&sent), ["P_RS_IS_IN_SYNC"]);
    assert_eq!(lone.w.nodes[0].out_of_sync(), 0);
    let (lone, sent) = answer(false);
    assert_eq!(names(&sent), ["P_RS_DATA_REPLY"]);
    assert_eq!(lone.w.nodes[0].out_of_sync(), 1);
}

#[test]
fn in_sync_that_nobody_asked_for_ends_the_connection() {
    let mut lone = lone(5);
    lone.meet();
    let seq_num = lone.next_seq();
    lone.give(Packet::RsIsInSync(BlockAck {
        sector: 80,
        block_id: BlockId::SYNCER,
        bytes: 4096,
        seq_num,
    }));
    lone.pump();
    assert!(lone.conn() < ConnState::Connected);
}

#[test]
fn a_digest_of_another_length_ends_the_connection() {
    let mut lone = source(lone(6), &[80]);
    let request = BlockRequest {
        sector: 80,
        block_id: BlockId::SYNCER,
        bytes: 4096,
    };
    let digest = Data(Rc::new(vec![0; 4096])).digest(DigestAlgorithm::Sha1);
    lone.give(Packet::CsumRsRequest(request, digest));
    lone.pump();
    assert!(lone.conn() < ConnState::Connected);
}
