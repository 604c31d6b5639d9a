//! Scenarios S1 to S17 of `docs/spec/behaviour.md`, section 13, through real engines: first syncs, lost links, crashes, split
//! brains. `C`, `N` … are generations as there; `gi` is `cur:bm:h0:h1`.

use rdb_engine::Command;
use rdb_engine::config::{NetOptions, SplitBrainPolicy as P};
use rdb_engine::state::Role;
use rdb_meta::MdFlags;

use rdb_sim::scenario::{PLUS, code};
use rdb_sim::{V, World};

const SOURCE: &str = "WFReportParams WFBitMapS SyncSource Connected";
const TARGET: &str = "WFReportParams WFBitMapT WFSyncUUID SyncTarget Connected";

/// Both ended a resync from a generation `n` that followed `c`.
fn ended(w: &mut World, n: u64, c: u64) {
    w.ends_well();
    assert_eq!(w.gi(0), [n, 0, c + PLUS, c]);
    assert_eq!(w.gi(1), [n, 0, c + PLUS, c]);
}

#[test]
fn s01_first_sync() {
    let mut w = World::new(1);
    w.up(0, &NetOptions::default());
    w.up(1, &NetOptions::default());
    w.both("Connected S/S I/I", "Connected S/S I/I");
    assert_eq!((w.gi(0), w.gi(1)), ([4, 0, 0, 0], [4, 0, 0, 0]));
    assert!(w.rule(0, 0, 10) && w.logged(0, "No resync, but 8182 bits in bitmap!"));
    assert_eq!(code(w.primary(0, false)), -2);
    w.forget();
    w.primary(0, true).unwrap();
    w.both("SyncSource P/S U/I", "SyncTarget S/P I/U");
    let [c, s, h0, h1] = w.gi(0);
    assert_eq!([h0, h1], [4, 0]);
    assert_eq!(w.gi(1), [s, 0, 0, 0]);
    for (i, verdict, rule) in [(0, 2, 30), (1, -2, 20)] {
        assert!(w.rule(i, verdict, rule) && w.logged(i, "due to disk states."));
    }
    w.both("Connected P/S U/U", "Connected S/P U/U");
    assert_eq!(w.path(0), "Connected WFBitMapS SyncSource Connected");
    assert_eq!(
        w.path(1),
        "Connected WFBitMapT WFSyncUUID SyncTarget Connected"
    );
    assert_eq!((w.gi(0), w.gi(1)), ([c, 0, s, 4], [c, 0, s, 4]));
    assert_eq!(w.copied(0), w.nodes[0].usable_bytes() as u64);
    w.ends_well();
}

#[test]
fn s02_skip_the_first_sync() {
    let mut w = World::new(2);
    w.connect_fresh(&NetOptions::default());
    let skip = Command::NewCurrentUuid {
        volume: V,
        clear_bitmap: true,
    };
    w.admin(0, skip.clone()).unwrap();
    w.both("Connected S/S U/U", "Connected S/S U/U");
    w.quiet();
    let c = w.gi(0)[0];
    assert_eq!((w.gi(0), w.gi(1)), ([c, 0, 0, 0], [c, 0, 0, 0]));
    assert_eq!((w.nodes[0].out_of_sync(), w.nodes[1].out_of_sync()), (0, 0));
    assert_eq!(w.copied(0) + w.copied(1), 0);
    assert_eq!(code(w.admin(0, skip)), 151);
    // A full sync of either disk ends under the same name, on the node that gave the order, too.
    for node in [0, 1] {
        w.admin(node, Command::Invalidate { volume: V }).unwrap();
        w.both("Connected S/S U/U", "Connected S/S U/U");
        w.quiet();
        assert_eq!((w.gi(0)[0], w.gi(1)[0]), (c, c));
    }
}

/// The peer answers the connect with a state that it had before it hears that the first sync is skipped.
#[test]
fn s02_skip_the_first_sync_and_promote_at_once() {
    for seed in 0..20 {
        let mut w = World::new(seed);
        w.up(0, &NetOptions::default());
        w.up(1, &NetOptions::default());
        w.until("the handshake", |w| w.is(0) == "Connected S/S I/I");
        let skip = Command::NewCurrentUuid {
            volume: V,
            clear_bitmap: true,
        };
        w.admin(0, skip).unwrap();
        w.primary(0, false).unwrap();
        w.both("Connected P/S U/U", "Connected S/P U/U");
        w.quiet();
        assert_eq!(w.gi(0)[1], 0, "no write of ours lacks on the peer's disk");
        // A generation that only one of them knows would be taken for a split brain now.
        w.detach(0, false).unwrap();
        w.write_blocks(0, [3], 1);
        w.attach(0).unwrap();
        w.both("Connected P/S U/U", "Connected S/P U/U");
        w.ends_well();
    }
}

#[test]
fn s03_a_node_forced_alone_syncs_a_fresh_peer() {
    let mut w = World::new(3);
    w.link = false;
    w.up(0, &NetOptions::default());
    w.primary(0, true).unwrap();
    assert_eq!(w.is(0), "WFConnection P/? U/-");
    w.write_blocks(0, [0, 800], 7);
    let [c, bm, ..] = w.gi(0);
    assert_eq!(bm, 4);
    w.up(1, &NetOptions::default());
    w.heal();
    w.both("Connected P/S U/U", "Connected S/P U/U");
    assert!(w.rule(0, 2, 30) && w.rule(1, -2, 20));
    assert_eq!(w.copied(0), w.nodes[0].usable_bytes() as u64);
    let s = w.gi(0)[2];
    assert_eq!((w.gi(0), w.gi(1)), ([c, 0, s, 4], [c, 0, s, 4]));
    w.ends_well();
}

#[test]
fn s04_link_cut_and_nothing_written() {
    let (mut w, [c, h, g]) = World::settled(4);
    w.copied(0);
    w.forget();
    w.cut();
    w.both("WFConnection P/? U/-", "WFConnection S/? U/-");
    w.quiet();
    let n = w.gi(0)[0];
    assert_ne!(n, c, "an idle Primary makes a new generation at once");
    assert_eq!((w.gi(0), w.gi(1)), ([n, c, h, g], [c, 0, h, g]));
    w.forget();
    w.heal();
    w.both("Connected P/S U/U", "Connected S/P U/U");
    assert!(w.rule(0, 1, 70) && w.rule(1, -1, 50));
    assert_eq!(w.path(0), format!("WFConnection {SOURCE}"));
    assert_eq!(w.path(1), format!("WFConnection {TARGET}"));
    assert!(w.logged(1, "disk( UpToDate -> Outdated )"));
    assert!(w.logged(1, "disk( Outdated -> Inconsistent )"));
    assert_eq!(w.copied(0), 0);
    ended(&mut w, n, c);
}

#[test]
fn s05_link_cut_and_the_primary_writes() {
    for seed in 0..8 {
        let (mut w, [c, h, g]) = World::settled(seed);
        w.copied(0);
        w.cut_raggedly();
        w.both("WFConnection P/? U/-", "WFConnection S/? U/-");
        w.write_blocks(0, [0, 8000, 16_000], 7);
        let n = w.gi(0)[0];
        assert_eq!((w.gi(0), w.gi(1)), ([n, c, h, g], [c, 0, h, g]));
        assert_eq!(w.nodes[0].out_of_sync(), 3);
        w.heal();
        w.wait_synced();
        assert_eq!(w.copied(0), 3 * 4096);
        ended(&mut w, n, c);
    }
}

#[test]
fn s06_graceful_disconnect_of_the_secondary() {
    let (mut w, [c, h, g]) = World::settled(6);
    w.copied(0);
    w.forget();
    w.disconnect(1).unwrap();
    w.both("WFConnection P/? U/-", "StandAlone S/? U/-");
    assert_eq!(w.path(0), "Connected TearDown Unconnected WFConnection");
    // (If the end of the connection overtakes the answer, it is lost first.)
    assert!(w.path(1).ends_with(" Disconnecting StandAlone"));
    let n = w.gi(0)[0];
    assert_eq!((w.gi(0), w.gi(1)), ([n, c, h, g], [c, 0, h, g]));
    w.write_blocks(0, [80], 9);
    w.connect(1);
    w.wait_synced();
    assert_eq!(w.copied(0), 4096);
    ended(&mut w, n, c);
}

#[test]
fn s07_link_cut_between_two_secondaries() {
    let (mut w, [c, h, g]) = World::settled(7);
    w.secondary(0).unwrap();
    w.quiet();
    w.cut();
    w.both("WFConnection S/? U/-", "WFConnection S/? U/-");
    w.forget();
    w.heal();
    w.both("Connected S/S U/U", "Connected S/S U/U");
    assert!(w.rule(0, 0, 40) && w.rule(1, 0, 40));
    assert_eq!(w.path(0), "WFConnection WFReportParams Connected");
    assert_eq!((w.gi(0), w.gi(1)), ([c, 0, h, g], [c, 0, h, g]));
}

#[test]
fn s08_clean_switch_over() {
    let (mut w, [c, h, g]) = World::settled(8);
    let marks =
        |w: &World| [0, 1].map(|i| w.nodes[i].durable_flags().contains(MdFlags::PRIMARY_IND));
    w.quiet();
    assert_eq!(marks(&w), [true, false]);
    w.forget();
    w.secondary(0).unwrap();
    w.primary(1, false).unwrap();
    w.both("Connected S/P U/U", "Connected P/S U/U");
    w.quiet();
    assert_eq!((w.gi(0), w.gi(1)), ([c, 0, h, g], [c, 0, h, g]));
    assert_eq!(marks(&w), [false, true]);
    assert_eq!((w.path(0), w.path(1)), (String::new(), String::new()));
    w.write_blocks(1, [0], 3);
    w.ends_well();
}

#[test]
fn s09_secondary_reboots() {
    let (mut w, [c, h, g]) = World::settled(9);
    w.copied(0);
    w.off(1);
    w.node_is(0, "WFConnection P/? U/-");
    w.quiet();
    let n = w.gi(0)[0];
    assert_eq!(w.gi(0), [n, c, h, g]);
    w.write_blocks(0, [800], 5);
    w.boot(1);
    assert_eq!(w.is(1), "StandAlone S/? U/-");
    assert_eq!(w.gi(1), [c, 0, h, g]);
    w.connect(1);
    w.wait_synced();
    // (What it had not flushed is copied as well, if anything.)
    assert!((4096..=4 * 4096).contains(&w.copied(0)));
    ended(&mut w, n, c);
}

/// The Primary dies with writes that only its own disk has.
fn crash_of_the_primary(seed: u64) -> (World, [u64; 3]) {
    let (mut w, ids) = World::settled(seed);
    w.flush(0);
    w.nodes[1].hold_data = true;
    w.nodes[0].record = Some(Vec::new());
    w.write(0, 80, vec![0xaa; 4096]);
    w.until("the local write", |w| {
        let record = w.nodes[0].record.as_ref().unwrap();
        record.iter().any(|l| l == "written 80")
    });
    let stamp = w.nodes[0].disks[0].stamp();
    w.nodes[0].disks[0].flush(stamp, false);
    w.off(0);
    w.nodes[1].hold_data = false;
    (w, ids)
}

#[test]
fn s10_primary_crashes_and_the_same_node_returns() {
    let (mut w, [c, h, g]) = crash_of_the_primary(10);
    w.node_is(1, "WFConnection S/? U/-");
    w.quiet();
    assert_eq!(w.gi(1), [c, 0, h, g], "a Secondary makes no new generation");
    w.boot(0);
    assert_eq!(w.is(0), "StandAlone S/? U/-");
    assert_eq!(w.gi(0), [c, 0, h, g]);
    // Every hot extent, and no other, is marked: one here.
    assert_eq!(w.nodes[0].out_of_sync(), 1024);
    assert!(
        w.nodes[0]
            .durable_flags()
            .contains(MdFlags::CRASHED_PRIMARY)
    );
    w.copied(0);
    w.forget();
    w.connect(0);
    w.both("Connected S/S U/U", "Connected S/S U/U");
    assert!(w.rule(0, 1, 40) && w.rule(1, -1, 40));
    assert!(w.path(0).contains("WFBitMapS SyncSource Connected"));
    assert!(
        w.path(1)
            .contains("WFBitMapT WFSyncUUID SyncTarget Connected")
    );
    let s = w.gi(0)[2];
    assert_eq!((w.gi(0), w.gi(1)), ([c, 0, s, h], [c, 0, s, h]));
    assert_eq!(w.copied(0), 1024 * 4096);
    assert_eq!(
        w.nodes[1].disks[0].read(80, 4096),
        [0xaa; 4096],
        "the crashed node wins"
    );
    w.ends_well();
}

#[test]
fn s11_primary_crashes_and_the_peer_goes_on() {
    let (mut w, [c, h, g]) = crash_of_the_primary(11);
    w.node_is(1, "WFConnection S/? U/-");
    w.primary(1, false).unwrap();
    assert_eq!(w.is(1), "WFConnection P/? U/-");
    let n = w.gi(1)[0];
    assert_eq!(w.gi(1), [n, c, h, g]);
    w.write_blocks(1, [80, 24_000], 0xbb);
    w.boot(0);
    assert_eq!(w.gi(0), [c, 0, h, g]);
    w.copied(1);
    w.connect(0);
    w.both("Connected S/P U/U", "Connected P/S U/U");
    assert!(w.rule(0, -1, 50) && w.rule(1, 1, 70));
    // The crashed node's hot extent, and what the other one wrote meanwhile.
    assert_eq!(w.copied(1), 1025 * 4096);
    assert_eq!(w.nodes[0].disks[0].read(80, 4096), [0xbb; 4096]);
    ended(&mut w, n, c);
}

#[test]
fn s12_power_loss_on_both() {
    let (mut w, [c, h, _]) = crash_of_the_primary(12);
    w.off(1);
    w.boot(0);
    w.boot(1);
    assert_eq!(
        (w.is(0).as_str(), w.is(1).as_str()),
        ("StandAlone S/? U/-", "StandAlone S/? U/-")
    );
    w.connect(0);
    w.connect(1);
    w.wait_synced();
    assert!(w.rule(0, 1, 40) && w.rule(1, -1, 40));
    let s = w.gi(0)[2];
    assert_eq!((w.gi(0), w.gi(1)), ([c, 0, s, h], [c, 0, s, h]));
    w.ends_well();
}

#[test]
fn s13_power_loss_on_both_and_one_is_promoted_first() {
    for first in [0, 1] {
        let (mut w, [c, h, g]) = crash_of_the_primary(13);
        w.off(1);
        w.boot(first);
        w.primary(first, false).unwrap();
        let n = w.gi(first)[0];
        assert_eq!(w.gi(first), [n, c, h, g]);
        w.write_blocks(first, [160], 0xcc);
        w.boot(1 - first);
        w.connect(0);
        w.connect(1);
        w.wait_synced();
        assert!(w.rule(first, 1, 70) && w.rule(1 - first, -1, 50));
        assert!(w.path(first).contains("SyncSource"));
        let expected = [0xaa, 0xbb][first];
        let held = w.nodes[1].disks[0].read(80, 4096)[0];
        assert!(held == expected || first == 1 && held != 0xaa, "{held:#x}");
        ended(&mut w, n, c);
    }
}

#[test]
fn s15_split_brain_and_manual_recovery() {
    let (mut w, [c, h, g]) = World::settled(15);
    w.cut();
    w.node_is(0, "WFConnection P/? U/-");
    w.write_blocks(0, [0, 80], 0xa0);
    w.primary(1, false).unwrap();
    w.write_blocks(1, [80, 160, 240], 0xb0);
    let (n, m) = (w.gi(0)[0], w.gi(1)[0]);
    assert_eq!((w.gi(0), w.gi(1)), ([n, c, h, g], [m, c, h, g]));
    w.heal();
    w.refused();
    assert!((0..2).any(|i| w.rule(i, 100, 90)));
    let text = "Split-Brain detected but unresolved, dropping connection!";
    assert!((0..2).any(|i| w.logged(i, text)));
    let advice = format!("'rdbadm secondary {}'", w.nodes[0].resource.name());
    assert!(
        (0..2).any(|i| w.logged(i, &advice)),
        "it can be typed as it is"
    );
    assert!((0..2).any(|i| w.logged(i, "event initial-split-brain")));
    assert_eq!(
        (w.is(0).as_str(), w.is(1).as_str()),
        ("StandAlone P/? U/-", "StandAlone P/? U/-")
    );
    // Once more, with the same result; nothing was overwritten.
    w.connect(0);
    w.connect(1);
    w.refused();
    assert_eq!((w.gi(0), w.gi(1)), ([n, c, h, g], [m, c, h, g]));
    assert_eq!(w.read(1, 80, 4096).unwrap(), [0xb0; 4096]);
    assert_eq!(code(w.discard_my_data(1)), 123);
    w.secondary(1).unwrap();
    w.copied(0);
    w.forget();
    w.discard_my_data(1).unwrap();
    w.connect(0);
    w.wait_synced();
    assert!(w.logged(
        0,
        "Split-Brain detected, manually solved. Sync from this node"
    ));
    assert!(w.logged(
        1,
        "Split-Brain detected, manually solved. Sync from peer node"
    ));
    assert_eq!(w.copied(0), 4 * 4096, "the union of what both wrote");
    w.models[0].foreign = true; // what B wrote is given up
    ended(&mut w, n, c);
    assert_eq!(w.nodes[1].disks[0].read(80, 4096), [0xa0; 4096]);
}

/// How a split brain ends: who is source, or nobody.
fn split(options: NetOptions, roles: [Role; 2], blocks: [u64; 2], seed: u64) -> Option<usize> {
    let (mut w, _) = World::settled_with(seed, &options);
    w.options = options;
    w.models[0].foreign = true;
    w.cut();
    w.node_is(0, "WFConnection P/? U/-");
    w.write_blocks(0, (0..blocks[0]).map(|n| n * 80), 0xa0);
    w.primary(1, false).unwrap();
    w.write_blocks(1, (0..blocks[1]).map(|n| 800 + n * 80), 0xb0);
    for (i, role) in roles.into_iter().enumerate() {
        if role == Role::Secondary {
            w.secondary(i).unwrap();
        }
    }
    w.forget();
    w.heal();
    w.until("a verdict", |w| {
        w.synced(0) || (0..2).any(|i| w.is(i).starts_with("StandAlone"))
    });
    if !w.synced(0) {
        w.refused();
        return None;
    }
    w.quiet();
    assert!(w.disks_equal());
    let winner = usize::from(w.path(1).contains("SyncSource"));
    assert!(w.path(winner).contains("SyncSource"));
    let lost = [0, 800][1 - winner];
    if blocks[1 - winner] > 0 && blocks[winner] > 0 {
        let mine = [0xa0, 0xb0][1 - winner];
        assert_ne!(w.nodes[0].disks[0].read(lost, 512)[0], mine, "given up");
    }
    Some(winner)
}

#[test]
fn s16_split_brain_and_automatic_policies() {
    use Role::{Primary, Secondary};
    let secondaries = [Secondary, Secondary];
    let (a, b) = (Some(0), Some(1));
    let none = P::Disconnect;
    for (n, (zero, one, roles, blocks, winner)) in [
        (P::DiscardYoungerPrimary, none, secondaries, [2, 3], a),
        (P::DiscardOlderPrimary, none, secondaries, [2, 3], b),
        (P::DiscardZeroChanges, none, secondaries, [0, 3], b),
        (P::DiscardZeroChanges, none, secondaries, [2, 3], None),
        (P::DiscardLeastChanges, none, secondaries, [2, 3], b),
        (
            P::DiscardLeastChanges,
            P::Consensus,
            [Primary, Secondary],
            [2, 3],
            None,
        ),
        (
            P::DiscardLeastChanges,
            P::Consensus,
            [Primary, Secondary],
            [3, 2],
            a,
        ),
        (none, P::DiscardSecondary, [Primary, Secondary], [2, 3], a),
        (
            P::DiscardLeastChanges,
            P::CallPriLost,
            [Primary, Secondary],
            [2, 3],
            None,
        ),
        (
            P::DiscardLeastChanges,
            P::Violently,
            [Primary, Secondary],
            [2, 3],
            None,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let options = NetOptions {
            after_sb_0pri: zero,
            after_sb_1pri: one,
            ..NetOptions::default()
        };
        let context = format!("{zero:?} {one:?} {roles:?} {blocks:?}");
        assert_eq!(split(options, roles, blocks, n as u64), winner, "{context}");
    }
    let violent = NetOptions {
        after_sb_0pri: P::DiscardLeastChanges,
        after_sb_1pri: P::Violently,
        rr_conflict: P::Violently,
        ..NetOptions::default()
    };
    assert_eq!(split(violent, [Primary, Secondary], [2, 3], 99), b);
}

#[test]
fn s17_stale_node_comes_up_first() {
    let (mut w, [c, h, g]) = World::settled(17);
    w.flush(0);
    w.off(1);
    w.node_is(0, "WFConnection P/? U/-");
    w.write_blocks(0, [80, 160], 0xa0);
    w.flush(0);
    let n = w.gi(0)[0];
    w.off(0);
    w.boot(1);
    assert_eq!(w.is(1), "StandAlone S/? U/-");
    w.models[0].foreign = true; // the stale survivor knows nothing of the two blocks
    w.primary(1, false).unwrap();
    w.write_blocks(1, [80], 0xb0);
    let m = w.gi(1)[0];
    w.boot(0);
    assert_eq!((w.gi(0), w.gi(1)), ([n, c, h, g], [m, c, h, g]));
    w.connect(0);
    w.connect(1);
    w.refused();
    assert!((0..2).any(|i| w.rule(i, 100, 90)));
    assert_eq!(w.nodes[0].disks[0].read(80, 4096), [0xa0; 4096]);
    assert_eq!(w.nodes[1].disks[0].read(80, 4096), [0xb0; 4096]);
}
