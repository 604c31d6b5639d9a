//! The invariants of `docs/spec/metadata.md`, section 6, about generations, resyncs and sizes.

use rdb_engine::Command;
use rdb_engine::config::NetOptions;
use rdb_engine::state::{ConnState, DiskState};
use rdb_meta::MdFlags;

use rdb_sim::scenario::PLUS;
use rdb_sim::watch::is_data;
use rdb_sim::{V, World};

/// A pair whose `a` wrote these blocks alone; the link is still cut.
fn apart(seed: u64, blocks: u64) -> (World, Vec<u64>) {
    let (mut w, _) = World::settled(seed);
    w.cut();
    w.quiet();
    let sectors: Vec<u64> = (0..blocks).map(|n| n * 1600 + n % 3 * 8).collect();
    for &sector in &sectors {
        assert!(w.write_wait(0, sector, vec![0x77; 4096]));
    }
    let flush = w.submit(0, 0, 0, rdb_engine::RequestKind::Flush);
    w.wait_done(0, flush).unwrap();
    (w, sectors)
}

fn durably_equal(w: &World, sector: u64) -> bool {
    let content = |i: usize| w.nodes[i].disks[0].durable(sector, 4096);
    content(0) == content(1)
}

#[test]
fn i07_a_cleared_bit_on_disk_means_a_block_durable_on_both() {
    for seed in 0..6 {
        let (mut w, sectors) = apart(seed, 30);
        let watched = (seed % 2) as usize;
        w.heal();
        // From the start of the resync on the target's marks count, too.
        w.node_is(1, "SyncTarget S/P I/U");
        w.until("the target's marks", |w| {
            sectors.iter().all(|&s| w.nodes[1].would_sync(s))
        });
        let mut looked = 0;
        w.watch(
            watched,
            |w| w.synced(0) && w.nodes.iter().all(|n| n.pending.is_empty()),
            |w, line| {
                if line.starts_with("done ") {
                    let bits = w.nodes[watched].durable_bits();
                    for &sector in &sectors {
                        let marked = bits.any_set(sector, 8);
                        assert!(
                            marked || durably_equal(w, sector),
                            "{line}, sector {sector}"
                        );
                    }
                    looked += 1;
                }
            },
        );
        assert!(looked > 0);
        w.ends_well();
    }
}

#[test]
fn i07_a_power_cut_of_the_target_at_any_moment_of_a_resync_costs_no_block() {
    for seed in 0..40 {
        let (mut w, _) = apart(seed, 30);
        w.heal();
        w.node_is(1, "SyncTarget S/P I/U");
        for _ in 0..w.rng.below(300) {
            w.tick();
        }
        w.power_cut(1);
        w.boot(1);
        w.connect(1);
        w.ends_well();
    }
}

#[test]
fn i09_a_full_sync_is_on_record_until_every_bit_is_durable() {
    for seed in 0..4 {
        let (mut w, _) = World::settled(seed);
        w.quiet();
        let node = (seed % 2) as usize;
        w.start_admin(1, Command::Invalidate { volume: V });
        let mut stages = [false; 3];
        w.watch(
            node,
            |w| w.is(1) == "SyncTarget S/P I/U",
            |w, line| {
                let node = &w.nodes[node];
                let full = node.durable_flags().contains(MdFlags::FULL_SYNC);
                let bits = node.durable_bits();
                if line.starts_with("meta bitmap") && !stages[1] {
                    assert!(full, "a bit is set before it is on record that all will be");
                    stages[0] = true;
                }
                stages[1] |= full;
                if stages[1] && !full && !stages[2] {
                    assert_eq!(bits.count_set(), bits.bits());
                    stages[2] = true;
                }
            },
        );
        assert!(stages[1] && stages[2], "{stages:?}");
        w.ends_well();
    }
}

#[test]
fn i10_i23_a_size_agreed_anew_has_its_bitmap_or_says_that_everything_is_out_of_sync() {
    for seed in 0..4 {
        let mut w = World::with_disks(seed, 65_536, 57_344);
        let smaller = w.nodes[1].disks[0].data_sectors;
        w.up(0, &NetOptions::default());
        w.nodes[0].record = Some(Vec::new());
        w.up(1, &NetOptions::default());
        let mut sizes = Vec::new();
        w.watch(
            0,
            |w| w.is(0) == "Connected S/S I/I" && w.nodes[0].pending.is_empty(),
            |w, line| {
                let sb = w.nodes[0].durable_superblock();
                let bits = w.nodes[0].durable_bits();
                let full = sb.flags.contains(MdFlags::FULL_SYNC);
                assert!(full || bits.count_set() == bits.bits(), "{line}");
                sizes.push(sb.la_size_sectors);
            },
        );
        assert_eq!(
            sizes.last(),
            Some(&smaller),
            "durable before the area behind is anybody's"
        );
        w.primary(0, true).unwrap();
        w.ends_well();
    }
}

#[test]
fn i12_a_sync_uuid_is_durable_here_before_the_peer_hears_it() {
    for seed in 0..6 {
        let (mut w, _) = apart(seed, 10);
        let before = w.gi(0);
        w.heal();
        let mut sent = 0;
        w.watch(
            0,
            |w| w.synced(0),
            |w, line| {
                if line == "send P_SYNC_UUID" {
                    let durable = w.nodes[0].durable_gi();
                    assert_eq!(durable, w.gi(0));
                    assert_ne!(durable[1], before[1]);
                    sent += 1;
                }
            },
        );
        assert_eq!(sent, 1);
    }
}

#[test]
fn i12_v07_v10_a_target_is_inconsistent_on_record_before_it_asks_for_anything() {
    for seed in 0..6 {
        let (mut w, _) = apart(seed, 10);
        let sync_uuid = w.gi(0)[1] + PLUS;
        w.heal();
        let (mut asked, mut written) = (0, 0);
        w.watch(
            1,
            |w| w.synced(0),
            |w, line| {
                let sb = w.nodes[1].durable_superblock();
                let consistent = sb.flags.contains(MdFlags::CONSISTENT);
                if line == "send P_RS_DATA_REQUEST" || line.starts_with("write ") {
                    assert!(!consistent, "{line}");
                    assert_eq!(w.nodes[1].durable_gi()[0], w.gi(1)[0], "{line}");
                    asked += usize::from(!is_data(line));
                    written += usize::from(is_data(line));
                }
                // The name of a resync is never that of good data.
                if w.nodes[1].durable_gi()[0] == sync_uuid {
                    assert!(!consistent, "{line}");
                }
            },
        );
        assert!(asked >= 1 && written >= 1, "{asked} {written}");
    }
}

#[test]
fn i13_v10_up_to_date_is_durable_after_the_data_and_the_source_hears_it_last() {
    for seed in 0..8 {
        let (mut w, sectors) = apart(seed, 30);
        w.heal();
        w.node_is(1, "SyncTarget S/P I/U");
        w.until("the mixture to be on record", |w| {
            !w.nodes[1].durable_flags().contains(MdFlags::CONSISTENT)
        });
        let watched = (seed % 2) as usize;
        let mut ended = 0;
        w.watch(
            watched,
            |w| w.synced(0) && w.nodes.iter().all(|n| n.pending.is_empty()),
            |w, line| {
                let good = MdFlags::CONSISTENT | MdFlags::WAS_UP_TO_DATE;
                let target_done = w.nodes[1].durable_flags().contains(good);
                if target_done {
                    assert!(sectors.iter().all(|&s| durably_equal(w, s)), "{line}");
                }
                if w.nodes[0].durable_gi()[1] == 0 {
                    assert!(
                        target_done,
                        "the source forgot the target's generation: {line}"
                    );
                    ended += 1;
                }
            },
        );
        assert!(watched == 1 || ended > 0);
        w.ends_well();
    }
}

#[test]
fn i20_v05_v13_a_new_generation_is_durable_before_a_lonely_write_completes() {
    for seed in 0..8 {
        let (mut w, [c, h, _]) = World::settled(seed);
        w.quiet();
        w.nodes[0].hold_meta = true;
        let mut ids = Vec::new();
        for n in 0..4 {
            ids.push(w.write(0, n * 8, vec![3; 4096])); // in an extent that is hot
        }
        for _ in 0..w.rng.below(12) {
            w.step();
        }
        w.cut_raggedly();
        for n in 4..8 {
            ids.push(w.write(0, n * 8, vec![4; 4096]));
        }
        w.until("the loss", |w| {
            w.nodes[0].state().pdsk == DiskState::DUnknown
        });
        let there = w.nodes[0].completed.len(); // both nodes have these
        w.run_ms(2_000);
        assert_eq!(
            w.nodes[0].completed.len(),
            there,
            "completed, and nothing on record"
        );
        // No peer is told of a generation that is not on record.
        assert!(w.nodes[0].state().conn < ConnState::WFConnection);
        w.nodes[0].hold_meta = false;
        w.watch_quiet(0, |w, line| {
            if line.starts_with("complete") {
                let [n, bm, _, _] = w.nodes[0].durable_gi();
                assert_eq!((bm, w.gi(0)), (c, [n, c, h, w.gi(0)[3]]), "{line}");
                assert_ne!(n, c);
            }
        });
        assert!(ids.iter().all(|id| w.nodes[0].completed[id].is_ok()));
        w.heal();
        w.ends_well();
    }
}

#[test]
fn i21_outdated_is_durable_before_the_command_is_answered() {
    for seed in 0..4 {
        let (mut w, _) = World::settled(seed);
        w.disconnect(1).unwrap();
        let id = w.start_admin(1, Command::Outdate { volume: V });
        let answer = format!("admin {id} true");
        let mut answered = false;
        w.watch_quiet(1, |w, line| {
            if line == answer {
                let flags = w.nodes[1].durable_flags();
                assert!(!flags.contains(MdFlags::WAS_UP_TO_DATE));
                answered = true;
            }
        });
        assert!(answered);
        w.power_cut(1);
        w.boot(1);
        assert_eq!(w.is(1), "StandAlone S/? O/-");
    }
}

/// The pair agreed on the size of `b`'s disk; now `b` comes back with a larger one.
fn growing(seed: u64) -> (World, u64) {
    let mut w = World::with_disks(seed, 65_536, 57_344);
    w.connect_fresh(&NetOptions::default());
    w.primary(0, true).unwrap();
    w.wait_synced();
    w.quiet();
    w.kill(1);
    w.nodes[1].disks[0] = rdb_sim::fresh_disk(65_536);
    w.boot(1);
    let size = w.nodes[0].disks[0].data_sectors;
    assert!(w.nodes[0].device.unwrap() < size);
    w.connect(1);
    (w, size)
}

#[test]
fn i22_a_grown_area_is_marked_and_synced() {
    let (mut w, size) = growing(5);
    let old = w.nodes[0].device.unwrap();
    w.nodes[0].record = Some(Vec::new());
    w.watch(
        0,
        |w| w.nodes[0].device == Some(size) && w.nodes[0].pending.is_empty(),
        |w, _| {
            let sb = w.nodes[0].durable_superblock();
            if sb.la_size_sectors == size {
                let full = sb.flags.contains(MdFlags::FULL_SYNC);
                let bits = w.nodes[0].durable_bits();
                assert!(full || bits.count_in(old / 8..size / 8) == (size - old) / 8);
            }
        },
    );
    assert!(w.write_wait(0, size - 8, vec![6; 4096]));
    w.ends_well();
    assert_eq!(w.nodes[1].state().disk, DiskState::UpToDate);
}

#[test]
fn i22_a_larger_size_is_on_record_before_it_is_exposed() {
    for seed in 0..4 {
        let (mut w, size) = growing(seed);
        w.nodes[0].record = Some(Vec::new());
        let exposed = format!("device Some({size})");
        w.watch(
            0,
            |w| w.nodes[0].device == Some(size),
            |w, line| {
                if line == exposed {
                    assert_eq!(w.nodes[0].durable_superblock().la_size_sectors, size);
                }
            },
        );
    }
}
