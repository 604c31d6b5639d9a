//! Who has newer data: L3 and L46, where a resync comes to nothing more than once.

use rdb_engine::config::{NetOptions, Protocol};
use rdb_sim::World;

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
