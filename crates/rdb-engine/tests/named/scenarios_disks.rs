//! Scenarios S21 to S43 of `docs/spec/behaviour.md`, section 13, through real engines: interrupted resyncs, failing disks,
//! diskless nodes, disks that come back other than they went.

use rdb_engine::config::{NetOptions, OnIoError};
use rdb_engine::rules::disk_reason::DiskReason;
use rdb_engine::state::{ConnState, DiskState};
use rdb_engine::{Command, DiskTrouble, RequestError, RequestKind};
use rdb_sim::create_md;

use rdb_sim::scenario::{PLUS, code};
use rdb_sim::{V, World};

/// Why the disk of a node is not UpToDate.
pub(crate) fn why_not_good(w: &World, i: usize) -> DiskTrouble {
    let status = w.nodes[i].resource.status(w.now);
    status.volumes[0].disk_trouble.clone().expect("a reason")
}

/// `a` wrote these blocks alone, and is source of their resync, which has begun to copy and is not done.
pub(crate) fn resyncing(seed: u64, blocks: u64) -> (World, u64, [u64; 3]) {
    let (mut w, ids) = World::settled(seed);
    w.flush(0);
    w.cut();
    w.node_is(0, "WFConnection P/? U/-");
    w.write_blocks(0, (0..blocks).map(|n| n * 160), 0xa0);
    w.flush(0);
    let n = w.gi(0)[0];
    w.copied(0);
    // Slowly, so that there is a middle.
    for i in 0..2 {
        let mut options = w.disk_options.clone();
        options.resync_rate_kib = 400;
        let command = Command::DiskOptions { volume: V, options };
        w.admin(i, command).unwrap();
    }
    w.heal();
    w.node_is(1, "SyncTarget S/P I/U");
    w.until("some of the blocks", |w| {
        w.nodes[0].resync_bytes >= 4 * 4096
    });
    assert_eq!(w.is(0), "SyncSource P/S U/I");
    (w, n, ids)
}

#[test]
fn s21_sync_target_crashes_in_the_middle() {
    for seed in 0..6 {
        let (mut w, n, [c, h, g]) = resyncing(seed, 300);
        w.off(1);
        w.node_is(0, "WFConnection P/? U/I");
        w.quiet();
        let alone = w.gi(0)[0];
        assert_eq!(
            w.gi(0),
            [alone, c + PLUS, c, n],
            "a new generation, beside the target's"
        );
        assert_ne!(alone, n);
        w.boot(1);
        assert_eq!(w.is(1), "StandAlone S/? I/-");
        assert_eq!(w.gi(1), [c + PLUS, 0, h, g]);
        assert_eq!(code(w.primary(1, false)), -2);
        w.write_blocks(0, [40_000], 0xa1);
        w.forget();
        w.connect(1);
        w.wait_synced();
        assert!(w.rule(0, 1, 70) && w.rule(1, -1, 50));
        w.ends_well();
        let end = [alone, 0, c + 2 * PLUS, c + PLUS];
        assert_eq!((w.gi(0), w.gi(1)), (end, end));
    }
}

#[test]
fn s22_a_target_forced_in_the_middle_is_a_split_brain() {
    let (mut w, n, [c, h, g]) = resyncing(22, 300);
    let s = c + PLUS;
    w.off(0);
    w.node_is(1, "WFConnection S/? I/-");
    assert_eq!(code(w.primary(1, false)), -2);
    w.models[0].foreign = true; // a mixture is forced
    w.primary(1, true).unwrap();
    assert_eq!(w.is(1), "WFConnection P/? U/-");
    let m = w.gi(1)[0];
    assert_eq!(w.gi(1), [m, s, h, g]);
    w.boot(0);
    assert_eq!(w.gi(0), [n, s, c, h]);
    w.connect(0);
    w.refused();
    assert!((0..2).any(|i| w.rule(i, 100, 90)));
    assert_eq!(w.nodes[0].disks[0].read(0, 4096), [0xa0; 4096]);
}

#[test]
fn s23_target_is_primary_during_a_resync() {
    let (mut w, n, _) = resyncing(23, 300);
    w.admin(0, Command::PauseSync { volume: V }).unwrap();
    w.secondary(0).unwrap();
    w.primary(1, false).unwrap();
    w.both("PausedSyncS S/P U/I", "PausedSyncT P/S I/U");
    let sent = w.nodes[0].resource.status(w.now).volumes[0]
        .peer
        .sent_sectors;
    // Marked blocks come from the source, others from the own disk; both are right.
    assert_eq!(w.read(1, 299 * 160, 4096).unwrap(), [0xa0; 4096]);
    assert!(
        w.nodes[0].resource.status(w.now).volumes[0]
            .peer
            .sent_sectors
            > sent
    );
    let sent = w.nodes[0].resource.status(w.now).volumes[0]
        .peer
        .sent_sectors;
    assert_eq!(w.read(1, 8, 4096).unwrap(), [2; 4096]);
    assert_eq!(
        w.nodes[0].resource.status(w.now).volumes[0]
            .peer
            .sent_sectors,
        sent
    );
    w.write_blocks(1, [299 * 160, 8], 0xb0);
    w.cut();
    w.node_is(1, "WFConnection P/? I/-");
    assert_eq!(w.read(1, 298 * 160, 4096).unwrap_err(), RequestError::Io);
    assert!(!w.write_wait(1, 16, vec![3; 4096]), "no good copy takes it");
    assert_eq!(w.gi(0)[0], n);
}

#[test]
fn s24_the_primarys_disk_fails_and_comes_back_old() {
    for seed in 0..6 {
        let (mut w, [c, h, g]) = World::settled(seed);
        w.nodes[0].write_errors = true;
        assert!(w.write_wait(0, 80, vec![7; 4096]), "the peer has it");
        w.both("Connected P/S D/U", "Connected S/P U/D");
        w.quiet();
        let n = w.gi(1)[0];
        assert_eq!(w.gi(1), [n, c, h, g]);
        w.write_blocks(0, [800, 1600], 8);
        assert!(w.nodes[1].out_of_sync() >= 2);
        assert_eq!(code(w.disconnect(0)), -2);
        assert_eq!(code(w.disconnect(1)), -10);
        assert_eq!(w.is(0), "Connected P/S D/U");
        w.nodes[0].write_errors = false;
        w.forget();
        w.attach(0).unwrap();
        w.both("Connected P/S U/U", "Connected S/P U/U");
        assert!(w.rule(0, -1, 50) && w.rule(1, 1, 70));
        assert!(
            w.path(0)
                .contains("WFBitMapT WFSyncUUID SyncTarget Connected")
        );
        w.ends_well();
        let end = [n, 0, c + PLUS, c];
        assert_eq!((w.gi(0), w.gi(1)), (end, end));
        // The failed write was in no bitmap: the activity log covered it.
        assert_eq!(w.nodes[0].disks[0].read(80, 4096), [7; 4096]);
    }
}

#[test]
fn s24_a_fresh_disk_instead_is_synced_in_full() {
    let (mut w, _) = World::settled(24);
    w.detach(0, false).unwrap();
    w.write_blocks(0, [800], 8);
    w.nodes[0].disks[0] = rdb_sim::fresh_disk(65_536);
    w.forget();
    w.attach(0).unwrap();
    w.both("Connected P/S U/U", "Connected S/P U/U");
    assert!(w.rule(0, -2, 20) && w.rule(1, 2, 30));
    assert_eq!(w.copied(1), w.nodes[0].usable_bytes() as u64);
    w.ends_well();
}

#[test]
fn s25_the_secondarys_disk_fails() {
    for seed in 0..6 {
        let (mut w, [c, h, g]) = World::settled(seed);
        w.nodes[1].write_errors = true;
        assert!(w.write_wait(0, 80, vec![7; 4096]));
        w.both("Connected P/S U/D", "Connected S/P D/U");
        w.quiet();
        let n = w.gi(0)[0];
        assert_eq!(w.gi(0), [n, c, h, g]);
        w.write_blocks(0, [800, 1600], 8);
        assert_eq!(w.nodes[0].out_of_sync(), 3);
        w.nodes[1].write_errors = false;
        w.copied(0);
        w.attach(1).unwrap();
        w.both("Connected P/S U/U", "Connected S/P U/U");
        assert_eq!(w.copied(0), 3 * 4096);
        w.ends_well();
        let end = [n, 0, c + PLUS, c];
        assert_eq!((w.gi(0), w.gi(1)), (end, end));
    }
}

/// A pair in sync whose disks pass errors on.
fn passing_on(seed: u64) -> World {
    let mut w = World::new(seed);
    w.disk_options.on_io_error = OnIoError::PassOn;
    w.connect_fresh(&NetOptions::default());
    w.primary(0, true).unwrap();
    w.wait_synced();
    w.write_blocks(0, [0, 80, 160], 1);
    w.quiet();
    w
}

fn invalidate_repairs(w: &mut World, i: usize) {
    w.copied(1 - i);
    w.admin(i, Command::Invalidate { volume: V }).unwrap();
    w.wait_synced();
    assert_eq!(
        w.copied(1 - i),
        w.nodes[i].usable_bytes() as u64,
        "a full sync"
    );
    w.ends_well();
}

#[test]
fn s26_pass_on_a_read_error_of_the_primary() {
    let mut w = passing_on(26);
    let ids = w.gi(0);
    w.nodes[0].disks[0].fail_reads = 1;
    assert_eq!(w.read(0, 80, 4096).unwrap(), [1; 4096], "the peer has it");
    w.both("Connected P/S I/U", "Connected S/P U/I");
    assert_eq!((w.nodes[0].out_of_sync(), w.nodes[1].out_of_sync()), (1, 0));
    // From now on that block is read from the peer.
    w.nodes[0].record = Some(Vec::new());
    assert_eq!(w.read(0, 80, 4096).unwrap(), [1; 4096]);
    assert!(
        w.nodes[0]
            .record
            .take()
            .unwrap()
            .contains(&"send P_DATA_REQUEST".into())
    );
    w.run_ms(60_000);
    assert_eq!(w.is(0), "Connected P/S I/U", "nothing repairs it by itself");
    assert_eq!(w.gi(0), ids, "no new generation");
    invalidate_repairs(&mut w, 0);
}

#[test]
fn s26_pass_on_a_write_error_of_the_primary() {
    let mut w = passing_on(27);
    let ids = w.gi(0);
    w.nodes[0].disks[0].fail_writes = 1;
    assert!(w.write_wait(0, 80, vec![2; 4096]), "the peer has it");
    w.both("Connected P/S I/U", "Connected S/P U/I");
    assert_eq!((w.nodes[0].out_of_sync(), w.nodes[1].out_of_sync()), (1, 0));
    assert_eq!(w.read(0, 80, 4096).unwrap(), [2; 4096]);
    assert_eq!(w.gi(0), ids);
    invalidate_repairs(&mut w, 0);
}

/// Until the superblock says so the Primary's disk would win after a crash of both.
#[test]
fn s26_pass_on_a_write_that_only_the_peer_has_is_done_when_that_is_on_record() {
    for metadata_fails in [false, true] {
        let mut w = passing_on(53);
        let before = w.gi(1)[0];
        w.nodes[0].disks[0].fail_writes = 1;
        w.nodes[0].hold_meta = true;
        let write = w.write(0, 80, vec![2; 4096]);
        w.run_ms(1_000);
        w.both("Connected P/S I/U", "Connected S/P U/I");
        assert!(!w.nodes[0].completed.contains_key(&write));
        if metadata_fails {
            w.nodes[0].disks[0].fail_meta = 100;
        }
        w.nodes[0].hold_meta = false;
        w.wait_done(0, write).unwrap();
        let moved_on = w.gi(1)[0] != before;
        assert_eq!(
            moved_on, metadata_fails,
            "the record that tells it is the peer's"
        );
        w.nodes[0].disks[0].fail_meta = 0;
        w.kill(0);
        w.kill(1);
        for i in 0..2 {
            w.up(i, &NetOptions::default());
        }
        w.ends_well();
    }
}

#[test]
fn s26_pass_on_a_write_error_of_the_secondary() {
    let mut w = passing_on(28);
    let ids = w.gi(0);
    w.nodes[1].disks[0].fail_writes = 1;
    assert!(w.write_wait(0, 80, vec![2; 4096]));
    w.both("Connected P/S U/I", "Connected S/P I/U");
    assert_eq!((w.nodes[0].out_of_sync(), w.nodes[1].out_of_sync()), (1, 1));
    assert_eq!(w.gi(0), ids);
    invalidate_repairs(&mut w, 1);
}

/// What the Primary writes beside an Inconsistent disk is sent to nobody, and marked at its own side alone.
#[test]
fn s26_pass_on_a_promoted_node_reads_nothing_that_was_written_without_it() {
    let mut w = passing_on(54);
    w.nodes[1].disks[0].fail_writes = 1;
    assert!(w.write_wait(0, 80, vec![2; 4096]));
    w.both("Connected P/S U/I", "Connected S/P I/U");
    assert!(w.write_wait(0, 160, vec![3; 4096]));
    w.secondary(0).unwrap();
    w.primary(1, false).unwrap();
    w.both("Connected S/P U/I", "Connected P/S I/U");
    assert_eq!(w.read(1, 160, 4096).unwrap(), [3; 4096]);
    invalidate_repairs(&mut w, 1);
}

/// L41. No resync is coming, so the promotion waits for none.
#[test]
fn s26_pass_on_a_node_that_was_demoted_since_is_promoted_beside_the_good_disk() {
    let mut w = passing_on(50);
    w.nodes[0].disks[0].fail_writes = 1;
    assert!(w.write_wait(0, 80, vec![2; 4096]), "the peer has it");
    w.secondary(0).unwrap();
    w.both("Connected S/S I/U", "Connected S/S U/I");
    // DRBD's command waits for ever here: for a resync that nobody begins.
    w.primary(0, false).unwrap();
    w.both("Connected P/S I/U", "Connected S/P U/I");
    assert_eq!(w.read(0, 80, 4096).unwrap(), [2; 4096]);
    invalidate_repairs(&mut w, 0);
}

/// L43. Marks that are left when the resync ends say that the disk lacks blocks.
#[test]
fn s26_pass_on_a_write_error_of_a_source_whose_target_has_come_to_the_end() {
    let mut w = passing_on(51);
    w.cut();
    w.write_blocks(0, [0, 8], 3);
    w.heal();
    w.until("the target at its end", |w| {
        w.nodes[1].state().disk == DiskState::UpToDate
            && w.nodes[0].state().conn == ConnState::SyncSource
    });
    w.nodes[0].disks[0].fail_writes = 1;
    let write = w.write(0, 80, vec![2; 4096]);
    w.wait_conn(ConnState::Connected);
    w.wait_done(0, write).ok();
    w.quiet();
    // The resync did not bring the block here: it is not UpToDate with a block that only the peer has.
    w.both("Connected P/S I/U", "Connected S/P U/I");
    assert_eq!((w.nodes[0].out_of_sync(), w.nodes[1].out_of_sync()), (1, 0));
    assert_eq!(w.read(0, 80, 4096).unwrap(), [2; 4096]);
    invalidate_repairs(&mut w, 0);
}

#[test]
fn s26_pass_on_a_read_error_of_the_secondary_that_serves_a_diskless_primary() {
    let mut w = passing_on(29);
    w.detach(0, false).unwrap();
    w.node_is(1, "Connected S/P U/D");
    w.nodes[1].disks[0].fail_reads = 1;
    assert_eq!(
        w.read(0, 80, 4096).unwrap_err(),
        RequestError::Io,
        "no copy is left"
    );
    w.both("Connected P/S D/I", "Connected S/P I/D");
}

#[test]
fn s27_the_last_disk() {
    let (mut w, _) = World::settled(30);
    w.detach(1, false).unwrap();
    w.node_is(0, "Connected P/S U/D");
    w.write_blocks(0, [80], 9);
    assert_eq!(code(w.detach(0, false)), -2);
    w.detach(0, true).unwrap();
    w.both("Connected P/S D/D", "Connected S/P D/D");
    assert!(!w.write_wait(0, 0, vec![1; 4096]));
    assert_eq!(w.read(0, 80, 4096).unwrap_err(), RequestError::Io);
    w.attach(0).unwrap();
    w.node_is(0, "Connected P/S U/D");
    assert_eq!(w.read(0, 80, 4096).unwrap(), [9; 4096]);
    w.attach(1).unwrap();
    w.ends_well();
}

#[test]
fn s28_a_diskless_primary_loses_its_peer_and_takes_no_other_data() {
    let (mut w, [c, ..]) = World::settled(31);
    w.detach(0, false).unwrap();
    w.node_is(1, "Connected S/P U/D");
    w.quiet();
    let n = w.gi(1)[0];
    assert_eq!(w.gi(1)[1], c);
    w.write_blocks(0, [80], 9);
    w.cut();
    w.node_is(0, "WFConnection P/? D/-");
    assert_eq!(w.read(0, 80, 4096).unwrap_err(), RequestError::Io);
    // Its own old disk is not what users have seen.
    let detached = why_not_good(&w, 0);
    assert_eq!(detached.reason, DiskReason::Detached);
    w.run_ms(1_000);
    assert_eq!(code(w.attach(0)), 150);
    // It is still the disk that was detached then; nothing is wrong with it.
    let refused = why_not_good(&w, 0);
    let is_older = |reason| matches!(reason, DiskReason::Older { detached: true, .. });
    assert!(is_older(refused.reason.clone()), "{refused:?}");
    assert!(
        refused.for_ms >= detached.for_ms.map(|ms| ms + 1_000),
        "{refused:?}"
    );
    let advice = refused
        .reason
        .advice()
        .expect("there is something to be done");
    assert!(advice.starts_with("connect to the peer"), "{advice}");
    // The same generation again: all is well.
    w.heal();
    w.node_is(0, "Connected P/S D/U");
    let advice = why_not_good(&w, 0).reason.advice();
    assert_eq!(advice, Some("'rdbadm attach RES'"), "they have met");
    assert_eq!(w.read(0, 80, 4096).unwrap(), [9; 4096]);
    assert_eq!(w.gi(1)[0], n);
    // Another one: refused.
    w.cut();
    w.node_is(1, "WFConnection S/? U/-");
    w.primary(1, true).unwrap();
    w.secondary(1).unwrap();
    let new = Command::NewCurrentUuid {
        volume: V,
        clear_bitmap: false,
    };
    w.disconnect(1).unwrap();
    w.admin(1, new).unwrap();
    assert_ne!(w.gi(1)[0], n);
    w.connect(1);
    w.heal();
    let refused = w.gi(1);
    w.node_is(0, "StandAlone P/? D/-");
    assert!(w.logged(0, "Can only connect to data with current UUID="));
    w.run_ms(3_000);
    assert!(
        ["WFConnection S/? U/-", "StandAlone S/? U/-"].contains(&w.is(1).as_str()),
        "{}",
        w.states()
    );
    // The one that was refused has not taken the other for a Primary on its data.
    assert_eq!(w.gi(1), refused);
}

#[test]
fn s30_invalidate() {
    for invalid in [0, 1] {
        let (mut w, [c, h, _]) = World::settled(32 + invalid as u64);
        w.copied(1 - invalid);
        w.forget();
        w.admin(invalid, Command::Invalidate { volume: V }).unwrap();
        w.both("Connected P/S U/U", "Connected S/P U/U");
        assert_eq!(
            w.path(invalid),
            "Connected StartingSyncT WFSyncUUID SyncTarget Connected"
        );
        assert_eq!(
            w.path(1 - invalid),
            "Connected StartingSyncS SyncSource Connected"
        );
        assert_eq!(w.copied(1 - invalid), w.nodes[0].usable_bytes() as u64);
        w.ends_well();
        let s = w.gi(0)[2];
        assert_eq!((w.gi(0), w.gi(1)), ([c, 0, s, h], [c, 0, s, h]));
    }
    // Alone: no generation changes, every bit is set, and the disk states decide.
    let (mut w, [c, h, g]) = World::settled(34);
    w.disconnect(1).unwrap();
    w.admin(1, Command::Invalidate { volume: V }).unwrap();
    assert_eq!(w.is(1), "StandAlone S/? I/-");
    assert_eq!(w.gi(1), [c, 0, h, g]);
    assert_eq!(w.nodes[1].out_of_sync(), 8182);
    w.copied(0);
    w.connect(1);
    w.wait_synced();
    assert!(w.logged(1, "due to disk states."));
    assert_eq!(w.copied(0), w.nodes[0].usable_bytes() as u64);
    w.ends_well();
}

#[test]
fn s32_the_peers_disk_is_too_small() {
    let mut w = World::with_disks(35, 65_536, 49_152);
    w.link = false;
    w.up(0, &NetOptions::default());
    w.primary(0, true).unwrap();
    w.up(1, &NetOptions::default());
    w.heal();
    w.node_is(0, "StandAlone P/? U/-");
    assert!(w.logged(0, "The peer's disk size is too small!"));
    w.run_ms(2_000);
    assert_eq!(w.is(1), "WFConnection S/? I/-");
}

#[test]
fn s33_truck_seeding() {
    let mut w = World::new(36);
    w.boot(0);
    w.primary(0, true).unwrap();
    assert_eq!(w.is(0), "StandAlone P/? U/-");
    w.write_blocks(0, (0..50).map(|n| n * 800), 1);
    let c = w.gi(0)[0];
    assert_eq!(w.gi(0), [c, 4, 0, 0]);
    let new = |clear_bitmap| Command::NewCurrentUuid {
        volume: V,
        clear_bitmap,
    };
    w.admin(0, new(true)).unwrap();
    w.quiet();
    let n = w.gi(0)[0];
    assert_eq!((w.gi(0), w.nodes[0].out_of_sync()), ([n, c, 4, 0], 0));
    // The copy, metadata and all.
    let bytes = w.nodes[0].disks[0].sectors as usize * 512;
    let image = w.nodes[0].disks[0].read(0, bytes);
    w.nodes[1].disks[0].write(0, &image, true);
    w.write_blocks(0, [80, 8000], 2);
    w.admin(0, new(false)).unwrap();
    let m = w.gi(0)[0];
    assert_eq!(w.gi(0), [m, n, c, 4]);
    w.boot(1);
    assert_eq!(w.gi(1), [n, c, 4, 0]);
    w.connect(0);
    w.connect(1);
    w.wait_synced();
    assert!(w.rule(0, 1, 70) && w.rule(1, -1, 50));
    assert!(
        w.copied(0) < w.nodes[0].usable_bytes() as u64,
        "only marked blocks"
    );
    w.ends_well();
    assert_eq!(w.gi(0)[..3], [m, 0, n + PLUS]);
}

#[test]
fn s36_both_may_pause_and_both_must_resume() {
    let (mut w, _, _) = resyncing(37, 300);
    w.admin(1, Command::PauseSync { volume: V }).unwrap();
    w.both("PausedSyncS P/S U/I", "PausedSyncT S/P I/U");
    assert_eq!(code(w.admin(1, Command::PauseSync { volume: V })), 134);
    w.admin(0, Command::PauseSync { volume: V }).unwrap();
    w.admin(1, Command::ResumeSync { volume: V }).unwrap();
    w.run_ms(1_000);
    let copied = w.nodes[0].resync_bytes;
    w.run_ms(2_000);
    assert_eq!(w.nodes[0].resync_bytes, copied);
    w.both("PausedSyncS P/S U/I", "PausedSyncT S/P I/U");
    w.admin(0, Command::ResumeSync { volume: V }).unwrap();
    w.ends_well();
}

#[test]
fn s37_a_frozen_disk_of_the_peer_costs_the_connection_and_nothing_else() {
    let options = NetOptions {
        timeout_ds: 10,
        ko_count: 2,
        ..NetOptions::default()
    };
    let (mut w, [c, h, g]) = World::settled_with(38, &options);
    w.run_ms(3_000); // longer than the limit
    w.forget();
    w.nodes[1].hold_data = true;
    let start = w.now;
    assert!(w.write_wait(0, 80, vec![5; 4096]));
    let waited = w.now.ms_since(start);
    assert!((1_900..3_500).contains(&waited), "{waited} ms");
    assert!(w.path(0).starts_with("Connected Timeout"), "{}", w.path(0));
    assert_eq!(w.nodes[0].out_of_sync(), 1);
    let n = w.gi(0)[0];
    assert_eq!(w.gi(0), [n, c, h, g]);
    w.run_ms(5_000);
    assert!(
        w.nodes[1].state().conn < ConnState::WFConnection,
        "it waits for its disk"
    );
    w.nodes[1].hold_data = false;
    w.ends_well();
}

#[test]
fn s39_unrelated_data_is_refused() {
    let (mut w, _) = World::settled(39);
    let (mut other, _) = World::settled(40);
    w.disconnect(1).unwrap();
    w.detach(1, false).unwrap();
    other.cut();
    other.quiet();
    other.detach(1, false).unwrap();
    std::mem::swap(&mut w.nodes[1].disks, &mut other.nodes[1].disks);
    w.attach(1).unwrap();
    let data = w.nodes[1].disks[0].read(0, 4096);
    w.copied(0);
    w.copied(1);
    // Four histories without a name in common, not even an empty one.
    w.connect(1);
    w.refused();
    assert!((0..2).any(|i| w.logged(i, "Unrelated data, aborting!")));
    assert_eq!(w.copied(0) + w.copied(1), 0);
    assert_eq!(w.nodes[1].disks[0].read(0, 4096), data);
}

#[test]
fn s41_the_sync_uuid_is_lost() {
    let (mut w, [c, h, g]) = World::settled(41);
    w.cut();
    w.write_blocks(0, [80], 3);
    let n = w.gi(0)[0];
    w.nodes[0].record = Some(Vec::new());
    w.heal();
    w.until("the sync UUID on its way", |w| {
        let record = w.nodes[0].record.as_ref().unwrap();
        record.iter().any(|l| l == "send P_SYNC_UUID")
    });
    w.cut();
    w.quiet();
    let alone = w.gi(0)[0];
    let since = [alone, c + PLUS, c, n];
    assert_eq!((w.gi(0), w.gi(1)), (since, [c, 0, h, g]));
    w.forget();
    w.heal();
    w.wait_synced();
    assert!(w.rule(0, 1, 71) && w.rule(1, -1, 51));
    w.ends_well();
    assert_eq!(w.gi(0)[..3], [alone, 0, c + PLUS]);
    assert_eq!(w.gi(0), w.gi(1));
}

#[test]
fn s41_the_end_is_seen_by_the_target_only() {
    let (mut w, [c, _, _]) = World::settled(42);
    w.cut();
    w.write_blocks(0, [80], 3);
    let n = w.gi(0)[0];
    w.heal();
    w.until("the target's end on record", |w| {
        w.is(1) == "Connected S/P U/U" && w.nodes[1].durable_gi()[0] == n
    });
    assert_eq!(w.is(0), "SyncSource P/S U/I");
    w.cut();
    w.quiet();
    let alone = w.gi(0)[0];
    assert_eq!(w.gi(0), [alone, c + PLUS, c, n]);
    assert_eq!(w.gi(1), [n, 0, c + PLUS, c]);
    w.copied(0);
    w.forget();
    w.heal();
    w.wait_synced();
    assert!(w.rule(0, 1, 70) && w.rule(1, -1, 50));
    assert_eq!(w.copied(0), 0);
    w.ends_well();
}

#[test]
fn s42_an_unreadable_block_during_a_resync() {
    for on_io_error in [OnIoError::PassOn, OnIoError::Detach] {
        let mut w = World::new(43);
        w.disk_options.on_io_error = on_io_error;
        w.connect_fresh(&NetOptions::default());
        w.primary(0, true).unwrap();
        w.wait_synced();
        w.cut();
        w.write_blocks(0, (0..7).map(|n| n * 8), 7);
        w.nodes[0].disks[0].fail_reads = 1;
        w.heal();
        if on_io_error == OnIoError::Detach {
            w.both("Connected P/S D/I", "Connected S/P I/D");
            continue;
        }
        w.node_is(1, "Connected S/P I/U");
        assert!(w.nodes[1].out_of_sync() > 0);
        assert_eq!(w.nodes[0].state().pdsk, DiskState::Inconsistent);
        w.secondary(0).unwrap();
        w.disconnect(1).unwrap();
        w.connect(1);
        w.wait_synced();
        w.ends_well();
    }
}

#[test]
fn s03_a_fresh_disk_beside_a_running_primary_never_wins() {
    let (mut w, _) = World::settled(44);
    w.off(1);
    create_md(&mut w.nodes[1].disks[0]);
    w.node_is(0, "WFConnection P/? U/-");
    let flush = w.submit(0, 0, 0, RequestKind::Flush);
    w.wait_done(0, flush).unwrap();
    w.boot(1);
    assert_eq!(w.is(1), "StandAlone S/? I/-");
    w.copied(0);
    w.connect(1);
    w.wait_synced();
    assert_eq!(w.copied(0), w.nodes[0].usable_bytes() as u64);
    w.ends_well();
}
