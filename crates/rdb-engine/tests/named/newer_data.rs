//! Who has newer data: L3 and L46, where a resync comes to nothing more than once.

use rdb_engine::config::{NetOptions, Protocol};
use rdb_engine::Command;
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

#[test]
fn what_a_crashed_target_alone_has_outlives_two_resyncs_that_came_to_nothing() {
    for seed in 0..12 {
        let mut w = crashed_at_the_end(seed);
        let shared = w.gi(0)[0];
        w.heal();
        w.connect(1);
        let mut last = 0;
        for _ in 0..2 {
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
        w.heal();
        w.ends_well();
        for node in &w.nodes {
            assert_eq!(node.disks[0].read(4000, 512), [9; 512], "seed {seed}");
        }
    }
}

/// The same as in `ends_unseen`, where no bitmap UUID is set: a crashed Primary that is promoted while bitmaps are exchanged writes
/// to its own disk alone, under the name that the target has.
#[test]
fn what_a_crashed_primary_writes_while_bitmaps_are_exchanged_is_not_given_up() {
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
        while !w.is(0).starts_with("WFBitMapS P") && !w.nodes[0].admin.contains_key(&id) && w.step() {}
        eprintln!("seed {seed} A {} {} {:?}", w.is(0), w.is(1), w.nodes[0].admin.get(&id));
        w.cut_silently();
        w.die(1, false);
        while !w.nodes[0].admin.contains_key(&id) && w.step() {}
        if !w.is(0).starts_with("WFBitMapS P") {
            return false;
        }
        eprintln!("seed {seed} B {}", w.is(0));
        let id = w.write(0, 4000, vec![9; 4096]);
        while w.is(0).starts_with("WFBitMapS") && !w.nodes[0].completed.contains_key(&id) {
            w.step();
        }
        eprintln!("seed {seed} C {} {:?}", w.is(0), w.nodes[0].completed.get(&id).is_some());
        if !matches!(w.nodes[0].completed.get(&id), Some(Ok(_))) {
            return false;
        }
        eprintln!("seed {seed}: written");
        w.models[0].foreign = true;
        w.die(0, false);
        w.boot(1);
        if w.primary(1, false).is_err() {
            return false;
        }
        w.write_blocks(1, [5600], 11);
        w.connect(1);
        w.heal();
        w.boot(0);
        w.connect(0);
        w.run_ms(20_000);
        let held = w.nodes[0].disks[0].read(4000, 512);
        assert_eq!(held, [9; 512], "seed {seed}: {} {}", w.is(0), w.is(1));
        true
    });
    assert!(met, "nothing was written then, or the target was never promoted");
}
