//! Disks that do not answer: `disk-timeout`, and a forced detach (`docs/spec/behaviour.md`, section 6.9).

use rdb_engine::config::NetOptions;
use rdb_engine::{Command, RequestKind};
use rdb_sim::scenario::code;
use rdb_sim::{V, World};

/// A pair, `a` Primary, whose disks have 1.5 seconds to answer.
fn pair(seed: u64) -> World {
    let mut w = World::new(seed);
    w.disk_options.disk_timeout_ds = 15;
    w.connect_fresh(&NetOptions::default());
    w.primary(0, true).unwrap();
    w.wait_synced();
    w.write_blocks(0, [0], 1);
    w.quiet();
    w
}

/// From now on the disk of this node answers nothing, or everything that it has kept to itself.
fn hang(w: &mut World, i: usize, hangs: bool) {
    w.nodes[i].hold_data = hangs;
    w.nodes[i].hold_meta = hangs;
}

/// What is asked now is done within the disk's time and a little, and not before it is over.
fn in_time(w: &mut World, ids: &[u64]) {
    w.run_ms(1_400);
    assert!(!ids.iter().any(|id| w.nodes[0].completed.contains_key(id)));
    w.run_ms(300);
    for id in ids {
        assert!(
            matches!(w.nodes[0].completed.remove(id), Some(Ok(_))),
            "{}",
            w.states()
        );
    }
}

#[test]
fn a_primary_gives_up_a_disk_that_hangs_and_goes_on_with_its_peer() {
    for seed in 0..10 {
        let mut w = pair(seed);
        hang(&mut w, 0, true);
        // One into a part that the activity log has, one for which it has to be written, and a read.
        let ids = [
            w.write(0, 80, vec![2; 4096]),
            w.write(0, 40_000, vec![3; 4096]),
            w.submit(0, 0, 4096, RequestKind::Read),
        ];
        in_time(&mut w, &ids);
        assert_eq!(w.is(0), "Connected P/S F/U");
        w.write_blocks(0, [160], 4);
        assert_eq!(w.read(0, 80, 4096).unwrap(), vec![2; 4096]);
        w.run_ms(10_000);
        assert_eq!(w.is(0), "Connected P/S F/U", "it has not answered");
        assert_eq!(code(w.attach(0)), 124);
        hang(&mut w, 0, false);
        w.node_is(0, "Connected P/S D/U");
        w.attach(0).unwrap();
        w.ends_well();
    }
}

#[test]
fn a_mirror_whose_disk_hangs_does_not_hold_users_up() {
    for seed in 0..10 {
        let mut w = pair(seed);
        hang(&mut w, 1, true);
        let ids = [
            w.write(0, 80, vec![2; 4096]),
            w.write(0, 40_000, vec![3; 4096]),
        ];
        in_time(&mut w, &ids);
        assert_eq!(w.is(0), "Connected P/S U/F");
        w.write_blocks(0, [160], 4);
        hang(&mut w, 1, false);
        w.node_is(1, "Connected S/P D/U");
        w.attach(1).unwrap();
        w.ends_well();
    }
}

#[test]
fn a_hung_disk_without_a_peer_is_an_error_in_time() {
    let mut w = pair(3);
    w.cut();
    w.quiet();
    hang(&mut w, 0, true);
    let ids = [
        w.write(0, 80, vec![2; 4096]),
        w.submit(0, 0, 4096, RequestKind::Read),
        w.submit(0, 0, 0, RequestKind::Flush),
    ];
    w.run_ms(1_700);
    for id in ids {
        assert!(matches!(w.nodes[0].completed.remove(&id), Some(Err(_))));
    }
    hang(&mut w, 0, false);
    w.node_is(0, "WFConnection P/? D/-");
    w.attach(0).unwrap();
    w.heal();
    w.wait_synced();
    w.quiet();
    assert!(w.disks_equal());
}

#[test]
fn a_disk_that_is_slow_and_answers_is_kept() {
    let mut w = pair(4);
    for n in 0..20 {
        hang(&mut w, 0, true);
        let id = w.write(0, 80 + 8 * n, vec![2; 4096]);
        w.run_ms(1_200);
        hang(&mut w, 0, false);
        assert!(w.wait_done(0, id).is_ok());
    }
    assert_eq!(w.is(0), "Connected P/S U/U");
    w.ends_well();
}

#[test]
fn a_forced_detach_frees_users_of_a_disk_that_hangs() {
    for seed in 0..10 {
        let mut w = World::pair(seed, &NetOptions::default());
        w.write_blocks(0, [0], 1);
        w.quiet();
        hang(&mut w, 0, true);
        let ids = [
            w.write(0, 80, vec![2; 4096]),
            w.write(0, 40_000, vec![3; 4096]),
            w.submit(0, 0, 4096, RequestKind::Read),
        ];
        w.run_ms(60_000);
        assert_eq!(w.is(0), "Connected P/S U/U", "the peer owes nothing");
        assert!(!ids.iter().any(|id| w.nodes[0].completed.contains_key(id)));
        w.admin(
            0,
            Command::Detach {
                volume: V,
                force: true,
            },
        )
        .unwrap();
        for id in ids {
            assert!(w.wait_done(0, id).is_ok());
        }
        hang(&mut w, 0, false);
        w.node_is(0, "Connected P/S D/U");
        w.attach(0).unwrap();
        w.ends_well();
    }
}

/// The disk hangs when its last records are under way.
#[test]
fn a_disk_is_closed_when_it_has_answered_everything() {
    for seed in 0..10 {
        for steps in 0..12 {
            let mut w = pair(seed);
            w.nodes[0].hold_meta = true;
            w.write(0, 40_000, vec![3; 4096]);
            let force = true;
            w.admin(0, Command::Detach { volume: V, force }).unwrap();
            for _ in 0..steps {
                w.step();
            }
            // (The simulator fails if the disk is closed before.)
            w.run_ms(5_000);
            hang(&mut w, 0, false);
            w.node_is(0, "Connected P/S D/U");
            w.attach(0).unwrap();
            w.ends_well();
        }
    }
}
