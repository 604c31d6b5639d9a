//! Who has newer data: L3 and L46, where a resync comes to nothing more than once.

use rdb_engine::config::{NetOptions, Protocol};
use rdb_engine::{Command, RequestKind};
use rdb_meta::{AlGeometry, Layout, MetaKind};
use rdb_sim::scenario::PLUS;
use rdb_sim::{V, World};

fn protocol_a() -> NetOptions {
    NetOptions {
        protocol: Protocol::A,
        ..NetOptions::default()
    }
}

/// Node `b` was a Primary target, came to the end unseen by `a` (which counts as a crashed Primary of an earlier time), wrote and
/// flushed sector 4000 alone, and crashed. It is up again, not connected.
fn crashed_at_the_end(seed: u64) -> World {
    let (mut w, _) = World::settled_with(seed, &protocol_a());
    w.cut();
    w.write_blocks(0, (0..40).map(|n| 80 + n * 80), 3);
    w.flush(0);
    w.off(0);
    w.disk_options.resync_rate_kib = 400;
    w.boot(0);
    w.heal();
    w.connect(0);
    w.until("the middle", |w| w.is(1) == "SyncTarget S/S I/U");
    let shared = w.gi(0)[0];
    w.primary(1, false).unwrap();
    w.until("the target's end on record", |w| {
        w.nodes[1].durable_gi()[0] == shared
    });
    assert!(w.is(0).starts_with("SyncSource"), "{}", w.is(0));
    w.cut_silently();
    w.write_blocks(1, [4000], 9);
    w.flush(1);
    w.off(1);
    w.cut();
    w.quiet();
    w.boot(1);
    w
}

/// The same, and the resync by which `b` brings that to `a` has come to nothing so many times, unheard of by `a`.
fn interrupted(seed: u64, times: u32) -> World {
    let mut w = crashed_at_the_end(seed);
    let shared = w.gi(0)[0];
    w.connect(1);
    let mut last = 0;
    for _ in 0..times {
        w.heal();
        w.until("the sync UUID on record", |w| {
            let bitmap = w.nodes[1].durable_gi()[1];
            bitmap != 0 && bitmap != last
        });
        last = w.nodes[1].durable_gi()[1];
        w.cut();
        w.quiet();
        assert_eq!(w.gi(0)[0] & !1, shared & !1, "it has not heard of it");
    }
    w
}

fn what_a_crashed_target_alone_has_outlives(times: u32) {
    for seed in 0..12 {
        let mut w = interrupted(seed, times);
        w.heal();
        w.ends_well();
        for node in &w.nodes {
            assert_eq!(node.disks[0].read(4000, 512), [9; 512], "seed {seed}");
        }
    }
}

/// L3.
#[test]
fn what_a_crashed_target_alone_has_outlives_a_resync_that_came_to_nothing() {
    what_a_crashed_target_alone_has_outlives(1);
}

#[test]
fn what_a_crashed_target_alone_has_outlives_two_resyncs_that_came_to_nothing() {
    what_a_crashed_target_alone_has_outlives(2);
}

/// The same as in `ends_unseen`, where no bitmap UUID is set: a crashed Primary that is promoted while bitmaps are exchanged writes
/// to its own disk alone, under the name that the target has. The target dies with nothing of the exchange on record, and is promoted.
fn writes_while_bitmaps_are_exchanged(then: fn(&mut World)) {
    let met = (0..600).any(|seed| {
        let (mut w, _) = World::settled(seed);
        w.write_blocks(0, [80], 3);
        w.die(0, false);
        w.quiet();
        w.boot(0);
        w.connect(0);
        w.until("they meet", |w| {
            let is = w.is(0);
            ["WFBitMapS", "WFReport", "SyncSource"]
                .iter()
                .any(|conn| is.starts_with(conn))
        });
        let promote = Command::Primary {
            volume: V,
            force: false,
        };
        let id = w.start_admin(0, promote);
        while !w.is(0).starts_with("WFBitMapS P") && !w.nodes[0].admin.contains_key(&id) && w.step()
        {
        }
        w.cut_silently();
        w.die(1, false);
        while !w.nodes[0].admin.contains_key(&id) && w.step() {}
        if !w.is(0).starts_with("WFBitMapS P") {
            return false;
        }
        let id = w.write(0, 4000, vec![9; 4096]);
        while w.is(0).starts_with("WFBitMapS") && !w.nodes[0].completed.contains_key(&id) {
            w.step();
        }
        if !matches!(w.nodes[0].completed.get(&id), Some(Ok(_))) {
            return false;
        }
        w.models[0].foreign = true;
        then(&mut w);
        w.boot(1);
        if w.primary(1, false).is_err() {
            return false;
        }
        w.write_blocks(1, [5600], 11);
        w.connect(1);
        w.heal();
        w.quiet();
        if !w.nodes[0].alive {
            w.boot(0);
            w.connect(0);
        }
        w.run_ms(20_000);
        let held = w.nodes[0].disks[0].read(4000, 512);
        let states = w.states();
        assert!(held == [9; 512], "seed {seed}: overwritten, {states}");
        true
    });
    assert!(
        met,
        "nothing was written then, or the target was never promoted"
    );
}

#[test]
fn what_a_crashed_primary_writes_while_bitmaps_are_exchanged_is_not_given_up_when_it_dies() {
    writes_while_bitmaps_are_exchanged(|w| w.die(0, false));
}

#[test]
fn what_a_crashed_primary_writes_while_bitmaps_are_exchanged_is_not_given_up_when_it_is_demoted() {
    writes_while_bitmaps_are_exchanged(|w| w.secondary(0).unwrap());
}

/// Node `a` has not seen the end of its resync, nothing is marked, and a DRBD has had its disk: it names nothing that it writes
/// alone. `b` took over, and meets it with new writes.
fn took_over_from_one_without_a_note(seed: u64) -> Option<(World, u64)> {
    let (mut w, _) = World::settled(seed);
    w.cut();
    w.write_blocks(0, [80], 3);
    let c = w.gi(0)[0];
    w.secondary(0).unwrap();
    w.heal();
    w.until("the target's end on record", |w| {
        w.is(1) == "Connected S/S U/U" && w.nodes[1].durable_gi()[0] == c
    });
    w.cut();
    w.quiet();
    if w.gi(0)[1] == 0 {
        return None; // it has seen the end
    }
    w.off(0);
    take_note_away(&mut w, 0);
    w.primary(1, false).unwrap();
    w.write_blocks(1, [4800], 8);
    w.heal();
    w.boot(0);
    w.connect(0);
    Some((w, c))
}

/// L2, where the sync UUID of the peer's resync was lost (rules 51 and 71). `b` began the resync back, of which `a` has nothing on
/// record when it dies. `a` is promoted alone, and writes under the name that `b` went on from.
#[test]
fn lone_writes_without_a_note_are_not_given_up_for_a_sync_uuid_that_was_lost() {
    let met = (0..400).any(|seed| {
        let Some((mut w, c)) = took_over_from_one_without_a_note(seed) else {
            return false;
        };
        w.until("the resync back", |w| w.is(1).starts_with("SyncSource"));
        w.cut_silently();
        w.die(0, false);
        w.until("the sync UUID on record", |w| {
            w.nodes[1].durable_gi()[1] == c.wrapping_add(PLUS)
        });
        w.models[0].foreign = true;
        w.die(1, false);
        w.quiet();
        w.heal();
        w.boot(0);
        if w.gi(0)[0] != c || w.primary(0, false).is_err() {
            return false;
        }
        assert_eq!(w.gi(0)[0], c, "no new generation");
        w.write_blocks(0, [4000], 9);
        w.flush(0);
        w.secondary(0).unwrap();
        w.connect(0);
        w.boot(1);
        w.connect(1);
        w.run_ms(20_000);
        let held = w.nodes[0].disks[0].read(4000, 512);
        let states = w.states();
        assert!(held == [9; 512], "seed {seed}: overwritten, {states}");
        true
    });
    assert!(
        met,
        "the source that did not see the end was never promoted"
    );
}

/// The superblock of a node that is off, as a DRBD leaves it.
fn take_note_away(w: &mut World, node: usize) {
    let disk = &mut w.nodes[node].disks[0];
    let sectors = disk.sectors;
    let layout =
        Layout::compute(MetaKind::Internal, sectors, sectors, AlGeometry::DEFAULT).unwrap();
    let mut superblock = w.nodes[node].durable_superblock();
    superblock.note = 0;
    let block = superblock.to_block();
    w.nodes[node].disks[0].write(layout.superblock_sector, &block, true);
}

/// L1. The disk of `b` is Outdated, and the one of `a`, which has what `b` lacks, is detached. That `b` detaches its disk and attaches
/// it again, while they are connected, makes it no newer.
#[test]
fn an_outdated_disk_that_is_attached_beside_one_that_is_not_there_stays_outdated() {
    let (mut w, _) = World::settled(1);
    w.cut();
    w.quiet();
    w.admin(1, Command::Outdate { volume: V }).unwrap();
    w.write_blocks(0, [4000], 9);
    w.secondary(0).unwrap();
    w.detach(0, false).unwrap();
    w.heal();
    w.both("Connected S/S D/O", "Connected S/S O/D");
    w.detach(1, false).unwrap();
    w.attach(1).unwrap();
    w.run_ms(5_000);
    assert_eq!(
        (w.is(0).as_str(), w.is(1).as_str()),
        ("Connected S/S D/O", "Connected S/S O/D")
    );
    assert!(w.primary(1, false).is_err());
}

/// L25. The disk of a Primary is lost when it has looked at the generations of a disk that is attached at its peer, and before that
/// one's state is here: users are not shown what is older.
#[test]
fn an_older_disk_that_is_attached_as_the_primarys_is_lost_serves_no_users() {
    for (seed, steps) in (0..3).flat_map(|seed| (0..40).map(move |steps| (seed, steps))) {
        let (mut w, _) = World::settled(seed);
        w.detach(1, false).unwrap();
        w.write_blocks(0, [4000], 9);
        w.flush(0);
        let attach = w.attach_command(1, 0);
        w.start_admin(1, attach);
        for _ in 0..steps {
            w.step();
        }
        let detach = Command::Detach {
            volume: V,
            force: true,
        };
        w.start_admin(0, detach);
        w.submit(0, 4000, 4096, RequestKind::Read);
        w.run_ms(200);
        // (The simulator judges what the read brings.)
        let states = w.states();
        let id = w.submit(0, 4000, 512, RequestKind::Read);
        w.run_ms(5_000);
        if let Some(Ok(Some(data))) = w.nodes[0].completed.get(&id) {
            assert_eq!(data.0[..512], [9; 512], "seed {seed}: {states}");
        }
    }
}

/// L31. A Primary has come to the end of a resync to its own disk, which is not on its record yet: what users flush now is to be at
/// the peer too, for after a power cut this disk is Inconsistent, and is overwritten.
#[test]
fn a_flush_rests_on_no_disk_that_is_inconsistent_on_record() {
    for seed in 0..12 {
        let (mut w, _) = World::settled_with(seed, &protocol_a());
        w.copied(1);
        w.start_admin(0, Command::Invalidate { volume: V });
        w.until("the resync", |w| w.is(0).starts_with("SyncTarget"));
        w.until("its first block", |w| w.nodes[1].resync_bytes > 0);
        w.nodes[0].hold_meta = true;
        w.until("its end", |w| w.is(0) == "Connected P/S U/U");
        w.cut_silently();
        w.write_blocks(0, [4000], 9);
        let flush = w.submit(0, 0, 0, RequestKind::Flush);
        w.run_ms(500);
        let told = w.nodes[0].completed.contains_key(&flush);
        assert!(
            !told,
            "seed {seed}: the peer has not flushed, and our record says Inconsistent"
        );
        // The record comes, and the peer is found to be lost.
        w.nodes[0].hold_meta = false;
        assert!(w.wait_done(0, flush).is_ok());
        w.off(0);
        w.cut();
        w.heal();
        w.boot(0);
        w.connect(0);
        w.wait_synced();
        w.quiet();
        assert!(
            w.nodes[0].disks[0].read(4000, 512) == [9; 512],
            "seed {seed}"
        );
    }
}
