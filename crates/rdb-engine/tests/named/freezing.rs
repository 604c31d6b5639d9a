//! Frozen I/O: `suspend-io`, `resume-io`, and `on-no-data-accessible suspend-io` (`docs/spec/behaviour.md`, sections 8.7, 12.9 and 13:
//! S28).

use rdb_engine::config::{NetOptions, OnNoData, ResourceOptions};
use rdb_engine::{Command, Event, RequestKind};
use rdb_sim::scenario::code;
use rdb_sim::{V, World};

fn suspend(w: &mut World) -> u64 {
    w.start_admin(0, Command::SuspendIo { volume: V })
}

fn resume(w: &mut World) {
    w.admin(0, Command::ResumeIo { volume: V }).unwrap();
}

/// A pair whose activity log has the extent that is written: a write is under way at once.
fn hot(seed: u64) -> World {
    let mut w = World::pair(seed, &NetOptions::default());
    w.write_blocks(0, [0], 1);
    w.quiet();
    w
}

/// A pair whose requests wait for data, `a` Primary.
fn patient(seed: u64) -> World {
    let mut w = World::new(seed);
    w.resource_options = ResourceOptions {
        on_no_data: OnNoData::SuspendIo,
        ..ResourceOptions::default()
    };
    w.connect_fresh(&NetOptions::default());
    w.primary(0, true).unwrap();
    w.wait_synced();
    w.write_blocks(0, [0], 1);
    w.quiet();
    w
}

#[test]
fn what_is_suspended_is_equal_on_both_disks() {
    for seed in 0..20 {
        let mut w = hot(seed);
        let before: Vec<u64> = (0..6)
            .map(|n| w.write(0, 80 + 8 * n, vec![2; 4096]))
            .collect();
        let id = suspend(&mut w);
        let after = w.write(0, 800, vec![3; 4096]);
        let read = w.submit(0, 80, 4096, RequestKind::Read);
        w.until("the suspension", |w| w.nodes[0].admin.contains_key(&id));
        assert_eq!(w.nodes[0].admin.remove(&id), Some(Ok(())));
        assert!(w.nodes[0].disks[0].read(80, 4096) == vec![2; 4096]);
        assert!(!w.nodes[1].disks[0].is_dirty(), "the peer has it durable");
        assert!(w.disks_equal());
        w.run_ms(5_000);
        let ended = |w: &World, id: &u64| w.nodes[0].completed.contains_key(id);
        assert!(![after, read].iter().any(|id| ended(&w, id)));
        // (V11) What was on its way is not told either.
        let told = before.iter().filter(|id| ended(&w, id)).count();
        assert!(w.disks_equal());
        resume(&mut w);
        for id in before.iter().chain([&after]) {
            assert!(w.wait_done(0, *id).is_ok(), "{told}");
        }
        assert_eq!(w.wait_done(0, read).unwrap().unwrap().0[..8], [2; 8]);
        w.ends_well();
    }
}

#[test]
fn suspending_and_resuming_twice_is_no_mistake() {
    let mut w = World::pair(3, &NetOptions::default());
    for _ in 0..2 {
        w.admin(0, Command::SuspendIo { volume: V }).unwrap();
        assert!(w.nodes[0].state().susp);
    }
    for _ in 0..2 {
        resume(&mut w);
        assert!(!w.nodes[0].state().is_suspended());
    }
    w.write_blocks(0, [80], 2);
    w.ends_well();
}

#[test]
fn a_suspension_that_loses_its_peer_is_refused_and_io_goes_on() {
    let mut w = hot(4);
    w.hold_net = true;
    let write = w.write(0, 80, vec![2; 4096]);
    let id = suspend(&mut w);
    w.run_ms(10);
    assert!(
        !w.nodes[0].admin.contains_key(&id),
        "nobody knows what the peer has"
    );
    w.cut();
    w.hold_net = false;
    w.until("the answer", |w| w.nodes[0].admin.contains_key(&id));
    let answer = w.nodes[0].admin.remove(&id).unwrap();
    assert_eq!(code(answer), 129);
    assert!(w.wait_done(0, write).is_ok());
    w.heal();
    w.ends_well();
}

#[test]
fn a_suspension_that_is_taken_back_ends() {
    let mut w = hot(5);
    w.hold_net = true;
    let write = w.write(0, 80, vec![2; 4096]);
    let id = suspend(&mut w);
    w.run_ms(10);
    w.event(
        0,
        Event::Withdraw {
            id: rdb_engine::AdminId(id),
        },
    );
    assert!(!w.nodes[0].state().is_suspended());
    w.hold_net = false;
    assert!(w.wait_done(0, write).is_ok());
    w.ends_well();
}

#[test]
fn a_peer_that_is_lost_while_suspended_is_synced() {
    for seed in 0..10 {
        let mut w = World::pair(seed, &NetOptions::default());
        w.admin(0, Command::SuspendIo { volume: V }).unwrap();
        let write = w.write(0, 80, vec![2; 4096]);
        w.cut();
        w.run_ms(2_000);
        w.heal();
        w.until("the peer", |w| w.is(0).starts_with("Connected"));
        assert!(!w.nodes[0].completed.contains_key(&write));
        resume(&mut w);
        assert!(w.wait_done(0, write).is_ok());
        w.ends_well();
    }
}

#[test]
fn s28_a_diskless_primary_waits_for_its_peer() {
    for seed in 0..20 {
        let mut w = patient(seed);
        w.detach(0, false).unwrap();
        w.write_blocks(0, [80], 2);
        let mut writes: Vec<u64> = (0..4)
            .map(|n| w.write(0, 160 + 8 * n, vec![3; 4096]))
            .collect();
        let read = w.submit(0, 80, 4096, RequestKind::Read);
        w.run_ms(seed % 2);
        w.cut();
        writes.push(w.write(0, 800, vec![4; 4096]));
        w.run_ms(2_000);
        assert_eq!(w.is(0), "WFConnection P/? D/-");
        assert!(w.nodes[0].state().susp_nod);
        assert!(!w.nodes[0].completed.contains_key(&writes[4]));
        w.heal();
        for id in writes {
            assert!(w.wait_done(0, id).is_ok());
        }
        assert!(w.wait_done(0, read).is_ok());
        assert_eq!(w.is(0), "Connected P/S D/U");
        w.attach(0).unwrap();
        w.ends_well();
    }
}

#[test]
fn s28_the_administrator_gives_up_waiting() {
    let mut w = patient(31);
    w.detach(0, false).unwrap();
    w.cut();
    let write = w.write(0, 80, vec![2; 4096]);
    let read = w.submit(0, 0, 4096, RequestKind::Read);
    w.run_ms(1_000);
    resume(&mut w);
    assert!(w.wait_done(0, write).is_err() && w.wait_done(0, read).is_err());
}

#[test]
fn a_primary_whose_last_disk_fails_goes_on_with_its_peer() {
    for seed in 0..20 {
        let mut w = patient(seed);
        w.cut();
        w.quiet();
        // Its own disk goes first, the peer, which is behind, cannot serve; then the disk comes back.
        let write = w.write(0, 80, vec![2; 4096]);
        w.run_ms(seed % 2);
        w.detach(0, true).unwrap();
        let later = w.write(0, 160, vec![3; 4096]);
        w.run_ms(1_000);
        assert_eq!(w.is(0), "WFConnection P/? D/-");
        assert!(w.nodes[0].state().susp_nod && !w.nodes[0].completed.contains_key(&later));
        w.attach(0).unwrap();
        assert!(w.wait_done(0, write).is_ok() && w.wait_done(0, later).is_ok());
        assert!(!w.nodes[0].state().is_suspended());
        w.heal();
        w.ends_well();
    }
}
