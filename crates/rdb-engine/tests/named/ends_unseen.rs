//! L46, and what rests on it: a source that has not seen the end of a resync, and what then meets what.

use std::ops::ControlFlow;

use rdb_engine::config::{NetOptions, OnNoData, Protocol};
use rdb_engine::state::Fencing;
use rdb_engine::{Command, RequestKind};
use rdb_meta::{AlGeometry, Layout, MetaKind};
use rdb_sim::{V, World};

/// Node `b` is in sync with `a` by a resync of which `a` has not seen the end.
fn end_unseen(seed: u64) -> World {
    let (mut w, _) = World::settled(seed);
    w.cut();
    w.write_blocks(0, [80], 3);
    let n = w.gi(0)[0];
    w.heal();
    w.until("the target's end on record", |w| {
        w.is(1) == "Connected S/P U/U" && w.nodes[1].durable_gi()[0] == n
    });
    w
}

/// The same, and the source went on alone.
fn went_on(seed: u64) -> World {
    let mut w = end_unseen(seed);
    w.cut();
    w.quiet();
    w.write_blocks(0, [4000], 9);
    w
}

#[test]
fn the_next_resync_may_be_lost_at_its_begin_too() {
    for seed in 0..10 {
        let mut w = went_on(seed);
        w.heal();
        w.until("the next resync", |w| w.is(0).starts_with("SyncSource"));
        w.cut();
        w.quiet();
        w.heal();
        w.ends_well();
    }
    for seed in 0..10 {
        let mut w = went_on(seed);
        w.heal();
        w.until("the next resync", |w| w.is(0).starts_with("SyncSource"));
        let volume = V;
        w.admin(
            1,
            Command::Detach {
                volume,
                force: true,
            },
        )
        .unwrap();
        w.run_ms(2_000);
        w.attach(1).unwrap();
        w.ends_well();
    }
}

#[test]
fn a_full_sync_whose_target_dies_twice_at_its_begin_is_no_unrelated_data() {
    for seed in 0..10 {
        let (mut w, _) = World::settled(seed);
        w.start_admin(1, Command::Invalidate { volume: V });
        let begins = |w: &World| w.is(0).starts_with("SyncSource");
        w.until("the full sync", begins);
        w.kill(1);
        w.run_ms(2_000);
        w.write_blocks(0, [8000], 4);
        w.boot(1);
        w.connect(1);
        w.until("the next one", begins);
        w.cut();
        w.quiet();
        w.heal();
        w.ends_well();
    }
}

/// A full sync that was ordered has not begun at its target, whose data still have the source's name. The source's disk goes and is
/// attached alone, so that a generation begins when they meet, and the resync that follows comes to nothing, too.
#[test]
fn a_generation_that_begins_while_bitmaps_are_exchanged_keeps_the_targets_name() {
    let mut began = 0;
    for seed in 0..20 {
        let mut w = World::new(seed);
        w.resource_options.on_no_data = OnNoData::SuspendIo;
        w.disk_options.fencing = Fencing::ResourceOnly;
        w.connect_fresh(&NetOptions::default());
        w.primary(0, true).unwrap();
        w.wait_synced();
        w.quiet();
        let begins = |w: &World| w.is(0).starts_with("SyncSource");
        w.start_admin(1, Command::Invalidate { volume: V });
        w.until("the full sync", begins);
        let shared = w.gi(0)[0];
        w.nodes[1].hold_meta = true;
        w.until("the sync UUID on record", |w| {
            w.nodes[0].durable_superblock().uuids[1] != 0
        });
        w.detach(0, true).unwrap();
        w.kill(1);
        w.nodes[1].hold_meta = false;
        w.quiet();
        w.attach(0).unwrap();
        w.boot(1);
        w.connect(1);
        w.until("the next one", begins);
        began += u32::from(w.gi(0)[0] & !1 != shared & !1);
        w.cut();
        w.kill(1);
        w.quiet();
        w.boot(1);
        w.connect(1);
        w.heal();
        w.ends_well();
    }
    assert!(began > 0, "no generation has begun there");
}

#[test]
fn a_new_generation_by_order_on_top_is_understood() {
    for seed in 0..4 {
        let mut w = went_on(seed);
        w.disconnect(0).unwrap();
        let new = Command::NewCurrentUuid {
            volume: V,
            clear_bitmap: false,
        };
        w.admin(0, new).unwrap();
        w.heal();
        w.connect(0);
        w.ends_well();
    }
}

#[test]
fn a_split_brain_after_it_is_repaired_by_the_blocks_that_differ() {
    for seed in 0..4 {
        let mut w = went_on(seed);
        w.models[0].foreign = true;
        w.primary(1, false).unwrap();
        w.write_blocks(1, [4800], 8);
        w.heal();
        w.refused();
        assert!(w.rule(0, 100, 90) || w.rule(1, 100, 90));
        for n in 0..2 {
            if !w.is(n).starts_with("StandAlone") {
                w.disconnect(n).unwrap();
            }
        }
        w.secondary(1).unwrap();
        w.copied(0);
        w.discard_my_data(1).unwrap();
        w.connect(0);
        w.ends_well();
        assert_eq!(w.copied(0), 2 * 4096);
    }
}

/// The source, which is not Primary, is about to send what only it has: of the end of that resync the target knows nothing. Both
/// die, and the target, whose record may still be good, is promoted: neither's writes are overwritten.
fn only_there(mut w: World, sector: u64) -> ControlFlow<()> {
    w.models[0].foreign = true;
    w.die(0, false);
    w.die(1, false);
    w.boot(1);
    if w.primary(1, false).is_err() {
        return ControlFlow::Continue(());
    }
    w.write_blocks(1, [5600], 11);
    w.connect(1);
    w.boot(0);
    w.connect(0);
    w.refused();
    assert_eq!(w.nodes[0].disks[0].read(sector, 512), [9; 512]);
    ControlFlow::Break(())
}

#[test]
fn lone_writes_of_a_source_without_a_note_are_not_given_up_for_the_next_one() {
    let met = (0..300).any(|seed| {
        let mut w = end_unseen(seed);
        w.cut();
        w.die(0, false);
        w.quiet();
        // As a DRBD leaves it.
        let disk = &mut w.nodes[0].disks[0];
        let sectors = disk.sectors;
        let layout =
            Layout::compute(MetaKind::Internal, sectors, sectors, AlGeometry::DEFAULT).unwrap();
        let mut superblock = w.nodes[0].durable_superblock();
        superblock.note = 0;
        let block = superblock.to_block();
        w.nodes[0].disks[0].write(layout.superblock_sector, &block, true);
        w.boot(0);
        w.primary(0, false).unwrap();
        assert_eq!(w.gi(0)[0], w.gi(1)[0], "no new generation");
        w.write_blocks(0, [4000], 9);
        w.flush(0);
        w.secondary(0).unwrap();
        w.connect(0);
        w.heal();
        w.until("the sync UUID on record", |w| {
            w.nodes[0].durable_superblock().uuids[1] != superblock.uuids[1]
        });
        only_there(w, 4000).is_break()
    });
    assert!(met, "the target was never promoted");
}

#[test]
fn what_a_crashed_primary_alone_has_is_not_given_up_for_its_resync() {
    let options = NetOptions {
        protocol: Protocol::A,
        ..NetOptions::default()
    };
    let met = (0..200).any(|seed| {
        let (mut w, _) = World::settled_with(seed, &options);
        w.cut_silently();
        w.write_blocks(0, [4000], 9);
        w.flush(0);
        w.die(0, false);
        w.quiet();
        w.cut();
        w.quiet();
        w.boot(0);
        w.connect(0);
        w.heal();
        w.until("the sync UUID on record", |w| {
            w.nodes[0].durable_superblock().uuids[1] != 0
        });
        only_there(w, 4000).is_break()
    });
    assert!(met, "the target was never promoted");
}

#[test]
fn what_is_written_while_bitmaps_are_exchanged_is_not_given_up() {
    let met = (0..600).any(|seed| {
        let mut w = end_unseen(seed);
        w.kill(0);
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
        while !w.nodes[0].admin.contains_key(&id) && w.step() {}
        if !w.is(0).starts_with("WFBitMapS P") {
            return false;
        }
        let id = w.write(0, 4000, vec![9; 4096]);
        while w.is(0).starts_with("WFBitMapS") && !w.nodes[0].completed.contains_key(&id) {
            w.step();
        }
        let done = matches!(w.nodes[0].completed.get(&id), Some(Ok(_)));
        done && only_there(w, 4000).is_break()
    });
    assert!(
        met,
        "nothing was written then, or the target was never promoted"
    );
}

/// The source begins a generation, since its Primary target has lost the disk, and dies before it can tell: it serves the users
/// when it is back.
fn serves_after_its_death(mut w: World, before: u64) {
    w.until("the new generation on record", |w| {
        w.nodes[0].durable_gi()[0] != before
    });
    w.kill(0);
    w.quiet();
    w.boot(0);
    w.connect(0);
    w.run_ms(20_000);
    let id = w.submit(1, 80, 4096, RequestKind::Read);
    w.run_ms(5_000);
    let done = matches!(w.nodes[1].completed.get(&id), Some(Ok(_)));
    assert!(done, "{} {}", w.is(0), w.is(1));
}

/// L26, L44. A Primary target loses its disk as the resync ends, or later, when it has lost and got back one before.
#[test]
fn a_source_that_dies_when_its_primary_target_has_lost_the_disk_serves_the_users() {
    for seed in 0..100 {
        let (mut w, _) = World::settled(seed);
        w.secondary(0).unwrap();
        w.primary(1, false).unwrap();
        w.detach(1, false).unwrap();
        w.write_blocks(1, [80], 3);
        w.attach(1).unwrap();
        w.until("the target's end on record", |w| {
            w.is(0).starts_with("SyncSource")
                && w.is(1).starts_with("Connected")
                && w.nodes[1].durable_gi()[0] == w.gi(0)[0]
        });
        let before = w.gi(0)[0];
        if seed % 2 == 0 {
            let volume = V;
            w.start_admin(
                1,
                Command::Detach {
                    volume,
                    force: true,
                },
            );
        } else {
            w.nodes[1].write_errors = true;
            w.write(1, 800, vec![7; 4096]);
        }
        serves_after_its_death(w, before);
    }
}

/// L44. The same in the middle of the resync: what users have seen is the source's generation of before.
#[test]
fn so_does_one_that_dies_when_its_primary_target_has_lost_the_disk_in_the_middle() {
    for seed in 0..20 {
        let (mut w, _) = World::settled(seed);
        w.secondary(0).unwrap();
        w.primary(1, false).unwrap();
        w.detach(1, false).unwrap();
        w.write_blocks(1, (0..300).map(|n| n * 80), 3);
        w.disk_options.resync_rate_kib = 400;
        w.attach(1).unwrap();
        w.until("the middle", |w| w.is(1) == "SyncTarget P/S I/U");
        let before = w.gi(0)[0];
        let volume = V;
        w.start_admin(
            1,
            Command::Detach {
                volume,
                force: true,
            },
        );
        serves_after_its_death(w, before);
    }
}
