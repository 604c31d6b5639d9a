//! Online verify between two engines: what differs is found, marked on both nodes and told, whatever happens meanwhile.

use std::rc::Rc;

use rdb_engine::config::{NetOptions, Protocol};
use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{Command, RequestKind};
use rdb_sim::scenario::code;
use rdb_sim::{Data, V, World};
use replica_proto::DigestAlgorithm;

/// Of each disk: what a whole verify goes over quickly.
const SECTORS: u64 = 16_384;

fn options(algorithm: &str) -> NetOptions {
    NetOptions {
        verify_alg: algorithm.to_string(),
        ..NetOptions::default()
    }
}

fn verify(start: Option<u64>, stop: Option<u64>) -> Command {
    let volume = V;
    Command::Verify {
        volume,
        start,
        stop,
    }
}

/// Two disks in sync that can be verified; the first node is Primary.
fn pair(seed: u64) -> World {
    World::large_pair(seed, SECTORS, &options("crc32c"))
}

/// A block is not what it was.
fn rot(w: &mut World, i: usize, sector: u64) {
    w.nodes[i].disks[0].write(sector, &[0x5a; 512], true);
}

fn starts(w: &mut World, i: usize, start: Option<u64>, stop: Option<u64>) {
    w.admin(i, verify(start, stop)).unwrap();
}

fn ends(w: &mut World) {
    w.until("the end of the verify", |w| {
        let at_rest = |i: usize| w.nodes[i].state().conn == ConnState::Connected;
        at_rest(0) && at_rest(1)
    });
    w.quiet();
}

fn size(w: &World) -> u64 {
    w.nodes[0].resource.status(w.now).volumes[0].size_sectors
}

fn marks(w: &World) -> [u64; 2] {
    [w.nodes[0].out_of_sync(), w.nodes[1].out_of_sync()]
}

#[test]
fn equal_disks_are_found_equal() {
    for seed in 0..2 {
        let mut w = pair(seed);
        w.write_blocks(0, [0, 800, 12_000], 7);
        starts(&mut w, (seed % 2) as usize, None, None);
        ends(&mut w);
        assert_eq!(marks(&w), [0, 0]);
        let driver = (seed % 2) as usize;
        assert!(w.logged(driver, "Starting Online Verify from sector 0"));
        for i in 0..2 {
            assert!(w.logged(i, "Online verify done (total "));
            assert!(!w.logged(i, "Online verify found"));
            assert!(!w.logged(i, "reached sector"));
        }
        let shown = w.nodes[driver].resource.status(w.now);
        assert!(shown.volumes[0].peer.sync.is_none());
    }
}

#[test]
fn what_differs_on_either_disk_is_marked_on_both_by_every_digest() {
    for &algorithm in DigestAlgorithm::ALL {
        let mut w = World::large_pair(3, SECTORS, &options(algorithm.name()));
        w.write_blocks(0, [0], 7);
        rot(&mut w, 0, 8);
        rot(&mut w, 1, 801);
        rot(&mut w, 1, 4000);
        starts(&mut w, 1, None, Some(4400));
        ends(&mut w);
        assert_eq!(marks(&w), [3, 3], "{algorithm:?}");
        for i in 0..2 {
            for text in [
                "Out of sync: start=8, size=8 (sectors)".to_string(),
                "Out of sync: start=800, size=8 (sectors)".to_string(),
                "Out of sync: start=4000, size=8 (sectors)".to_string(),
                "Online verify found 3 4k block out of sync!".to_string(),
            ] {
                assert!(w.logged(i, &text), "{i}: {text}");
            }
        }
        assert!(!w.disks_equal(), "nothing is repaired");
        assert_eq!(w.nodes[0].state().disk, DiskState::UpToDate);
        // A Primary that loses its peer begins a generation, and so is the source of what is marked.
        w.disconnect(0).unwrap();
        w.connect_with(0, options(algorithm.name()));
        w.wait_synced();
        w.quiet();
        assert_eq!(marks(&w), [0, 0]);
        assert!(w.disks_equal());
    }
}

#[test]
fn only_what_was_asked_for_is_looked_at() {
    let mut w = pair(4);
    for sector in [0, 800, 1600, 2400] {
        rot(&mut w, 1, sector);
    }
    starts(&mut w, 0, Some(803), Some(2400));
    ends(&mut w);
    assert_eq!(marks(&w), [2, 2]);
    assert!(w.logged(0, "Starting Online Verify from sector 800"));
    assert!(w.logged(1, "Online Verify start sector: 800"));
    // Where it stopped, the next one begins; and it is whole when it comes to the end.
    for i in 0..2 {
        assert!(w.logged(i, "Online Verify reached sector 2400"), "{i}");
    }
    starts(&mut w, 1, None, None);
    ends(&mut w);
    assert!(w.logged(1, "Starting Online Verify from sector 2400"));
    assert_eq!(marks(&w), [3, 3]);
    starts(&mut w, 1, None, Some(8));
    ends(&mut w);
    assert!(w.logged(1, "Starting Online Verify from sector 0"));
    assert_eq!(marks(&w), [4, 4]);
    // Beyond the end: the last block; and where it stops before it starts: one.
    w.forget();
    starts(&mut w, 0, Some(1 << 50), None);
    ends(&mut w);
    let last = (size(&w) - 1) / 8 * 8;
    assert!(w.logged(0, &format!("Starting Online Verify from sector {last}")));
    starts(&mut w, 0, Some(800), Some(0));
    ends(&mut w);
    assert!(w.logged(0, "Online Verify reached sector 808"));
}

#[test]
fn writes_that_pass_by_make_no_difference() {
    for protocol in [Protocol::A, Protocol::B, Protocol::C] {
        for seed in 0..10 {
            let options = NetOptions {
                protocol,
                ..options("crc32c")
            };
            let mut w = World::large_pair(seed, SECTORS, &options);
            let driver = (seed % 2) as usize;
            starts(&mut w, driver, None, Some(8000));
            let mut ids = Vec::new();
            while w.nodes[driver].state().conn == ConnState::VerifyS {
                let sector = w.rng.below(8000);
                let len = 512 * (1 + w.rng.below(40)) as usize;
                let value = w.rng.next() as u8;
                ids.push(w.write(0, sector, vec![value; len]));
                for _ in 0..w.rng.below(30) {
                    w.tick();
                }
            }
            assert!(ids.len() > 10, "{}", ids.len());
            for id in ids {
                w.wait_done(0, id).unwrap();
            }
            ends(&mut w);
            assert_eq!(marks(&w), [0, 0], "protocol {protocol:?} seed {seed}");
            assert!(w.disks_equal());
        }
    }
}

#[test]
fn a_block_that_is_written_all_the_time_is_verified_all_the_same() {
    for driver in 0..2 {
        let mut w = pair(5);
        let write = |w: &mut World, n: u64| w.write(0, 800, vec![n as u8; 8192]);
        let depth = if driver == 0 { 4 } else { 1 };
        let mut open: Vec<u64> = (0..depth).map(|n| write(&mut w, n)).collect();
        starts(&mut w, driver, Some(800), Some(816));
        let mut n = 0;
        while w.nodes[driver].state().conn == ConnState::VerifyS {
            w.tick();
            for id in &mut open {
                if w.nodes[0].completed.contains_key(id) {
                    n += 1;
                    *id = write(&mut w, n);
                }
            }
            assert!(n < 3000, "the verify has not got through");
        }
        assert_eq!(marks(&w), [0, 0]);
    }
}

#[test]
fn it_is_refused_where_it_cannot_be() {
    let mut w = World::large_pair(6, SECTORS, &NetOptions::default());
    assert_eq!(code(w.admin(0, verify(None, None))), -14);
    let mut w = pair(6);
    w.disconnect(0).unwrap();
    assert_eq!(code(w.admin(0, verify(None, None))), -15);
    w.connect_with(0, options("crc32c"));
    w.wait_synced();
    starts(&mut w, 0, None, Some(4000));
    assert_eq!(code(w.admin(1, verify(None, None))), -8);
    let invalidate = Command::Invalidate { volume: V };
    assert_eq!(code(w.admin(1, invalidate)), -8);
    ends(&mut w);
    w.detach(1, false).unwrap();
    assert_eq!(code(w.admin(1, verify(None, None))), -4);
    assert_eq!(code(w.admin(0, verify(None, None))), -5);
}

#[test]
fn one_that_runs_only_hears_where_to_stop() {
    let mut w = pair(7);
    starts(&mut w, 0, None, None);
    starts(&mut w, 0, Some(40_000), Some(16));
    ends(&mut w);
    assert!(!w.logged(0, "from sector 40000"));
    assert!(w.logged(0, "Online Verify reached sector "));
    assert!(!w.logged(0, "Online verify found"));
}

#[test]
fn two_that_begin_at_once_become_one() {
    for seed in 0..20 {
        let mut w = pair(seed);
        rot(&mut w, 1, 800);
        let orders: Vec<u64> = (0..2)
            .map(|i| w.start_admin(i, verify(None, Some(1600))))
            .collect();
        w.until("both answers", |w| {
            (0..2).all(|i| w.nodes[i].admin.contains_key(&orders[i]))
        });
        let began = (0..2)
            .filter(|&i| w.nodes[i].admin[&orders[i]].is_ok())
            .count();
        assert_eq!(began, 1, "seed {seed}");
        ends(&mut w);
        assert_eq!(marks(&w), [1, 1]);
    }
}

#[test]
fn a_cut_link_ends_it_and_the_next_goes_on_there() {
    for seed in 0..20 {
        let mut w = pair(seed);
        starts(&mut w, 1, None, Some(12_000));
        let steps = 200 + w.rng.below(3000);
        for _ in 0..steps {
            w.tick();
        }
        if w.nodes[1].state().conn != ConnState::VerifyS {
            continue;
        }
        w.cut();
        let line = w.nodes[1].log.iter().rev();
        let reached: u64 = line
            .clone()
            .find_map(|line| line.split("Online Verify reached sector ").nth(1))
            .expect("it says where")
            .trim()
            .parse()
            .unwrap();
        w.heal();
        w.wait_synced();
        w.quiet();
        let before = reached.saturating_sub(8);
        rot(&mut w, 0, before);
        rot(&mut w, 0, reached);
        starts(&mut w, 1, None, Some(reached + 800));
        ends(&mut w);
        assert!(w.logged(1, &format!("Starting Online Verify from sector {reached}")));
        assert_eq!(marks(&w), [1, 1]);
    }
}

#[test]
fn a_disk_that_cannot_read_differs_and_is_given_up() {
    for driver in 0..2 {
        let mut w = pair(8);
        starts(&mut w, driver, None, None);
        w.nodes[driver].disks[0].fail_reads = 1;
        ends(&mut w);
        assert_eq!(w.nodes[driver].state().disk, DiskState::Diskless);
        assert_eq!(w.nodes[1 - driver].out_of_sync(), 1);
        assert!(w.logged(driver, "Online-verify aborted."));
    }
}

#[test]
fn a_detach_of_either_disk_ends_it() {
    for (driver, detached, force) in [(0, 1, false), (1, 1, false), (0, 1, true), (1, 1, true)] {
        let mut w = pair(9);
        starts(&mut w, driver, None, Some(8000));
        for _ in 0..300 {
            w.tick();
        }
        w.detach(detached, force).unwrap();
        ends(&mut w);
        assert_eq!(w.nodes[detached].state().disk, DiskState::Diskless);
        w.attach(detached).unwrap();
        w.wait_synced();
        starts(&mut w, driver, Some(0), Some(4000));
        ends(&mut w);
        assert_eq!(marks(&w), [0, 0]);
    }
}

#[test]
fn roles_change_hands_under_a_verify() {
    for seed in 0..6 {
        let mut w = pair(seed);
        starts(&mut w, (seed % 2) as usize, None, Some(12_000));
        for n in 0..3 {
            let (from, to) = (n % 2, 1 - n % 2);
            w.write_wait(from, 800 * n as u64, vec![n as u8 + 1; 4096]);
            w.secondary(from).unwrap();
            w.primary(to, false).unwrap();
            let payload = Data(Rc::new(vec![9; 1024]));
            let kind = RequestKind::Write {
                payload,
                fua: false,
            };
            let id = w.submit(to, 12_000 + 8 * n as u64, 1024, kind);
            w.wait_done(to, id).unwrap();
        }
        ends(&mut w);
        assert_eq!(w.nodes[1].state().role, Role::Primary);
        assert_eq!(marks(&w), [0, 0]);
        assert!(w.disks_equal());
    }
}

#[test]
fn what_status_tells_of_it_goes_to_its_end() {
    let mut w = pair(10);
    w.disk_options.resync_rate_kib = 4_000;
    w.nodes[0].resource.check();
    starts(&mut w, 0, Some(800), Some(8000));
    let mut left = u64::MAX;
    while w.nodes[0].state().conn == ConnState::VerifyS {
        let status = w.nodes[0].resource.status(w.now);
        let sync = status.volumes[0].peer.sync.expect("a verify");
        let verify = sync.verify.expect("a verify");
        assert!(sync.left_blocks <= left);
        left = sync.left_blocks;
        assert_eq!((verify.start_sector, verify.stop_sector), (800, Some(8000)));
        assert!((800..=8000).contains(&verify.position_sector));
        assert_eq!(sync.total_blocks, (size(&w).div_ceil(8)) - 100);
        w.tick();
    }
    assert!(left < u64::MAX);
    ends(&mut w);
}
