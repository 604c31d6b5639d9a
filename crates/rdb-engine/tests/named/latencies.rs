//! How long users' requests took, and where.

use rdb_engine::{BOUNDS_US, Command, Histogram, Latencies, RequestKind};
use rdb_sim::{V, World};

fn latencies(w: &World, i: usize) -> Latencies {
    w.nodes[i].resource.status(w.now).volumes[0].latencies
}

fn count(histogram: &Histogram) -> u64 {
    histogram.counts().iter().sum()
}

/// How many took longer than these milliseconds, which are one of the bounds or just below.
fn longer_than(histogram: &Histogram, ms: u64) -> u64 {
    let bounds = BOUNDS_US.iter().map(|us| us / 1000).chain([u64::MAX]);
    let late = histogram.counts().iter().zip(bounds);
    late.filter(|(_, bound)| *bound > ms)
        .map(|(count, _)| count)
        .sum()
}

#[test]
fn every_request_counts_once_in_each_stage_that_it_passes() {
    let (mut w, _) = World::settled(5);
    let before = latencies(&w, 0);
    for n in 0..10 {
        w.write_blocks(0, [80 + 8 * n], 3);
    }
    for n in 0..3 {
        w.read(0, 80 + 8 * n, 4096).unwrap();
    }
    for _ in 0..2 {
        let flush = w.submit(0, 0, 0, RequestKind::Flush);
        assert!(w.wait_done(0, flush).is_ok());
    }
    w.quiet();
    let after = latencies(&w, 0);
    let of = |stage: fn(&Latencies) -> &Histogram| count(stage(&after)) - count(stage(&before));
    assert_eq!(
        (of(|l| &l.write), of(|l| &l.read), of(|l| &l.flush)),
        (10, 3, 2)
    );
    assert_eq!((of(|l| &l.waiting), of(|l| &l.peer)), (13, 10));
    assert_eq!(of(|l| &l.own_disk), 15, "two of them flushes");
    assert!(after.peer.sum_ns() > before.peer.sum_ns());
    assert_eq!(
        latencies(&w, 1),
        Latencies::default(),
        "the mirror has no users"
    );
}

#[test]
fn what_waits_for_a_suspension_to_end_waits_before_it_is_started() {
    let (mut w, _) = World::settled(5);
    w.admin(0, Command::SuspendIo { volume: V }).unwrap();
    let write = w.write(0, 80, vec![1; 4096]);
    w.run_ms(3_000);
    w.admin(0, Command::ResumeIo { volume: V }).unwrap();
    assert!(w.wait_done(0, write).is_ok());
    let seen = latencies(&w, 0);
    assert_eq!(longer_than(&seen.waiting, 2_097), 1);
    assert_eq!(longer_than(&seen.write, 2_097), 1);
    assert_eq!(
        longer_than(&seen.own_disk, 2_097) + longer_than(&seen.peer, 2_097),
        0
    );
}

#[test]
fn a_primary_without_a_disk_waits_for_its_peer_alone() {
    let (mut w, _) = World::settled(5);
    w.detach(0, false).unwrap();
    let before = latencies(&w, 0);
    w.write_blocks(0, [80, 160], 3);
    let after = latencies(&w, 0);
    assert_eq!(count(&after.peer) - count(&before.peer), 2);
    assert_eq!(count(&after.own_disk), count(&before.own_disk));
}
