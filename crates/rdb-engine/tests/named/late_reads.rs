//! Reads that only the peer can serve, and a peer that answers pings, and does not answer them (`docs/spec/behaviour.md`,
//! section 7.5: the oldest request sent and not acknowledged).

use rdb_engine::config::NetOptions;
use rdb_engine::state::{ConnState, DiskState};
use rdb_engine::{Command, RequestKind};
use replica_proto::{BlockRequest, Packet};

use crate::lone::Lone;
use rdb_sim::{Op, Pending, V, World};

/// A peer may take two seconds.
fn two_seconds() -> NetOptions {
    NetOptions {
        timeout_ds: 10,
        ko_count: 2,
        ping_int_s: 1,
        ..NetOptions::default()
    }
}

/// A Primary without a disk asks its peer for a block, and the peer's disk does not answer, though it serves everything else.
/// Returns the request; `Reading` ends it.
fn waiting(seed: u64) -> (World, u64, Reading) {
    let (mut w, _) = World::settled_with(seed, &two_seconds());
    w.detach(0, false).unwrap();
    w.quiet();
    w.run_ms(3_000); // longer than the limit
    let (id, reading) = read_in_vain(&mut w);
    (w, id, reading)
}

/// What the peer's disk was asked for, and keeps to itself.
struct Reading(Pending);

impl Reading {
    fn ends(self, w: &mut World) {
        w.nodes[1].pending.push(self.0);
    }
}

fn read_in_vain(w: &mut World) -> (u64, Reading) {
    w.nodes[1].hold_data = true;
    let id = w.submit(0, 8, 4096, RequestKind::Read);
    while w.step() {}
    w.nodes[1].hold_data = false;
    let mut pending = w.nodes[1].pending.iter();
    let reading = pending.position(|pending| matches!(pending.op, Op::Read { .. }));
    let reading = reading.expect("the peer's disk was asked");
    (id, Reading(w.nodes[1].pending.remove(reading)))
}

#[test]
fn a_primary_with_a_good_disk_leaves_a_peer_that_owes_it_a_read() {
    let (mut w, id, reading) = waiting(80);
    let asked = w.now;
    w.attach(0).unwrap();
    w.until("a good disk", |w| {
        w.nodes[0].state().disk == DiskState::UpToDate
    });
    w.wait_done(0, id)
        .expect("the disk that is good now has it");
    let waited = w.now.ms_since(asked);
    assert!((1_900..2_500).contains(&waited), "{waited} ms");
    assert!(w.logged(0, "ko-count (2)"));
    reading.ends(&mut w);
    w.ends_well();
}

#[test]
fn what_follows_does_not_put_off_the_end_of_a_read_that_waits() {
    let (mut w, id, reading) = waiting(81);
    let asked = w.now;
    for _ in 0..10 {
        // Other reads are answered, and so are writes to both disks.
        assert!(w.read(0, 64, 4096).is_ok());
        assert!(w.write_wait(0, 128, vec![7; 4096]));
        w.run_ms(100);
    }
    w.attach(0).unwrap();
    let done = |w: &World| w.nodes[0].completed.contains_key(&id);
    while !done(&w) && w.now.ms_since(asked) < 10_000 {
        assert!(w.write_wait(0, 128, vec![8; 4096]));
        w.run_ms(300);
    }
    let waited = w.now.ms_since(asked);
    assert!(done(&w) && waited < 2_500, "{waited} ms: {}", w.states());
    reading.ends(&mut w);
    w.ends_well();
}

/// L42. A Primary that has no good disk waits for the peer that has the only one.
#[test]
fn the_only_good_copy_is_waited_for_and_the_log_says_so() {
    let (mut w, id, reading) = waiting(82);
    w.run_ms(9_000);
    assert!(w.logged(0, "has the only good copy: waiting for it"));
    assert!(!w.nodes[0].completed.contains_key(&id));
    assert_eq!(w.nodes[0].state().conn, ConnState::Connected);
    reading.ends(&mut w);
    w.wait_done(0, id).expect("the peer's disk is well again");
    w.attach(0).unwrap();
    w.ends_well();
}

#[test]
fn a_read_that_failed_here_is_served_by_the_disk_that_came_after() {
    let (mut w, _) = World::settled_with(83, &two_seconds());
    w.run_ms(3_000);
    w.nodes[0].read_errors = true;
    let (id, reading) = read_in_vain(&mut w);
    assert_eq!(w.nodes[0].state().disk, DiskState::Diskless);
    w.nodes[0].read_errors = false;
    w.attach(0).unwrap();
    w.wait_done(0, id)
        .expect("the disk that is good now has it");
    assert!(w.logged(0, "ko-count (2)"));
    reading.ends(&mut w);
    w.ends_well();
}

/// The engine is target of a resync and Primary, and its peer brings all but what a user has asked for.
#[test]
fn a_target_whose_resync_has_ended_leaves_a_source_that_owes_it_a_read() {
    let mut lone = Lone::target(84, &[80]);
    lone.start_sync();
    lone.w.run_ms(10);
    let asked = requests(&mut lone);
    let [block] = asked[..] else {
        panic!("one block is marked: {asked:?}");
    };
    lone.role = rdb_engine::state::Role::Secondary;
    let state = lone.state(ConnState::SyncSource, DiskState::Inconsistent);
    lone.give(state);
    let primary = Command::Primary {
        volume: V,
        force: false,
    };
    let promotion = lone.w.start_admin(0, primary);
    lone.pump();
    assert_eq!(lone.w.nodes[0].admin.remove(&promotion), Some(Ok(())));
    let id = lone.w.submit(0, 80, 4096, RequestKind::Read);
    let sent = lone.pump();
    let reads = |p: &Packet| matches!(p, Packet::DataRequest(_));
    assert!(sent.iter().any(|s| reads(&s.packet)), "{sent:?}");
    lone.resync_reply(&block, 7);
    lone.pump();
    assert_eq!(lone.w.nodes[0].state().disk, DiskState::UpToDate);
    let start = lone.w.now;
    while !lone.w.nodes[0].completed.contains_key(&id) {
        assert!(lone.w.now.ms_since(start) < 60_000, "it waits for ever");
        lone.w.run_ms(100);
        lone.pump();
    }
    let read = lone.w.nodes[0].completed.remove(&id).unwrap();
    let data = read.expect("it is here now").expect("a read has data");
    assert_eq!(data.0[..], [7; 4096]);
    assert!(lone.w.logged(0, "ko-count (7)"));
}

fn requests(lone: &mut Lone) -> Vec<BlockRequest> {
    let sent = lone.pump();
    sent.iter().filter_map(|s| s.resync_request()).collect()
}
