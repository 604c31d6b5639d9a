//! Disks that fail, are given up or invalidated about the end of a resync, and what they are worth when they are back.

use rdb_engine::config::{NetOptions, OnIoError};
use rdb_engine::rules::disk_reason::DiskReason;
use rdb_engine::state::{ConnState, DiskState, StateError};
use rdb_engine::{AdminError, Command, RequestKind};
use replica_proto::Packet;

use crate::lone::{Lone, Sent, names};
use crate::scenarios_disks::{resyncing, why_not_good};
use rdb_sim::{V, World};

/// Its superblock still says that the resync is under way, as if it had written on without the peer.
#[test]
fn a_source_whose_disk_fails_before_it_has_noted_the_end_comes_back() {
    let (mut w, ..) = resyncing(43, 300);
    w.nodes[0].hold_meta = true;
    w.until("the end", |w| w.is(0) == "Connected P/S U/U");
    w.nodes[0].disks[0].fail_meta = 100;
    w.nodes[0].read_errors = true;
    w.nodes[0].hold_meta = false;
    assert!(w.read(0, 160, 4096).is_ok(), "the peer has it");
    w.both("Connected P/S D/U", "Connected S/P U/D");
    assert!(w.write_wait(0, 160, vec![7; 4096]));
    w.nodes[0].disks[0].fail_meta = 0;
    w.nodes[0].read_errors = false;
    w.attach(0).unwrap();
    assert!(w.logged(0, "this disk failed before it had noted a resync's end"));
    w.ends_well();
    assert!(!w.logged(0, "Split-Brain"));
}

/// (L26) The peer answers an attach with the name that it has begun, which need not be on its record yet.
#[test]
fn an_attach_waits_until_the_loss_of_the_disk_before_is_on_record() {
    for seed in 0..4 {
        let (mut w, _) = World::settled(seed);
        w.nodes[1].hold_meta = true;
        w.nodes[0].disks[0].fail_writes = 1;
        let write = w.write(0, 80, vec![2; 4096]);
        w.until("the new generation", |w| {
            w.logged(1, "new current UUID") && w.is(0) == "Connected P/S D/U"
        });
        let attach = w.start_admin(0, w.attach_command(0, 0));
        w.run_ms(1_000);
        let told = w.nodes[0].completed.contains_key(&write);
        assert!(!told, "a power cut of both would take it: {}", w.states());
        w.nodes[1].hold_meta = false;
        assert!(w.wait_done(0, write).is_ok());
        w.until("the attach", |w| w.nodes[0].admin.contains_key(&attach));
        w.ends_well();
    }
}

/// L58. The disk of a Secondary fails beside the Primary's, and is attached alone when that is away: by the record if it could still be
/// written, or by what the daemon knows of it.
#[test]
fn a_disk_that_failed_beside_a_good_one_is_outdated_until_they_meet() {
    for (writable, restarted) in [(true, false), (true, true), (false, false)] {
        let (mut w, _) = World::settled(119);
        match writable {
            true => w.nodes[1].disks[0].fail_writes = 1,
            false => {
                (
                    w.nodes[1].disks[0].fail_writes,
                    w.nodes[1].disks[0].fail_meta,
                ) = (1, 100)
            }
        }
        w.write_blocks(0, [80], 2);
        w.both("Connected P/S U/D", "Connected S/P D/U");
        w.write_blocks(0, [80, 160], 3);
        w.quiet();
        w.cut();
        w.nodes[1].disks[0].fail_meta = 0;
        if restarted {
            w.kill(1);
            let new = Command::NewVolume {
                volume: V,
                minor: 0,
            };
            w.admin(1, new).unwrap();
            w.connect(1);
        }
        w.attach(1).unwrap();
        w.node_is(1, "WFConnection S/? O/-");
        assert!(
            w.primary(1, false).is_err(),
            "users would be shown old data"
        );
        w.heal();
        w.ends_well();
        assert_eq!(w.nodes[1].disks[0].read(80, 4096), [3; 4096]);
    }
}

/// The mirror dies before the generation that the loss of the Primary's disk makes is on its record, and attaches its disk
/// when the Primary is there again. What users write then must not be overwritten by the disk that was lost.
#[test]
fn a_mirror_that_attaches_under_a_primary_without_a_disk_begins_a_generation() {
    for seed in 55..59 {
        let (mut w, [c, ..]) = World::settled(seed);
        w.flush(0);
        w.nodes[1].hold_meta = true;
        w.nodes[0].disks[0].fail_writes = 1;
        let write = w.write(0, 80, vec![2; 4096]);
        w.until("the new generation", |w| w.logged(1, "new current UUID"));
        w.kill(1);
        w.nodes[1].hold_meta = false;
        w.wait_done(0, write).unwrap_err();
        let new = Command::NewVolume {
            volume: V,
            minor: 0,
        };
        w.admin(1, new).unwrap();
        w.connect(1);
        w.both("Connected P/S D/D", "Connected S/P D/D");
        w.attach(1).unwrap();
        w.both("Connected P/S D/U", "Connected S/P U/D");
        w.quiet();
        assert_ne!(w.gi(1)[0], c);
        w.write_blocks(0, [800, 880], 3);
        // (L24) What the Primary's disk had made durable went with it: this one fails if the mirror has died before it had.
        let flush = w.submit(0, 0, 0, RequestKind::Flush);
        _ = w.wait_done(0, flush);
        w.flush(0);
        w.off(0);
        w.boot(0);
        w.connect(0);
        w.ends_well();
    }
}

/// Nobody has written since, so that no resync would take the old marks away.
#[test]
fn a_secondary_source_whose_disk_fails_before_it_has_noted_the_end_has_no_marks_left() {
    let (mut w, ..) = resyncing(52, 300);
    w.secondary(0).unwrap();
    w.nodes[0].hold_meta = true;
    w.until("the end", |w| w.is(0) == "Connected S/S U/U");
    w.nodes[0].disks[0].fail_meta = 100;
    w.nodes[0].hold_meta = false;
    w.both("Connected S/S D/U", "Connected S/S U/D");
    w.nodes[0].disks[0].fail_meta = 0;
    w.attach(0).unwrap();
    assert!(w.logged(0, "this disk failed before it had noted a resync's end"));
    w.ends_well();
    // They are gone on disk, too.
    w.power_cut(0);
    w.power_cut(1);
    for i in 0..2 {
        w.up(i, &NetOptions::default());
    }
    w.ends_well();
}

/// The target says once that it is done, and the source had not yet seen all of its own writes end.
#[test]
fn a_source_whose_disk_fails_before_it_takes_the_targets_end_for_true_hears_it_again() {
    let mut lone = Lone::source(44, &[80]).promoted_source();
    lone.w.nodes[0].hold_data = true;
    lone.w.write(0, 800, vec![7; 4096]);
    lone.take();
    lone.disk = DiskState::UpToDate;
    lone.give(lone.state(ConnState::Connected, DiskState::UpToDate));
    lone.w.nodes[0].write_errors = true;
    lone.w.nodes[0].hold_data = false;
    lone.pump();
    assert!(lone.w.logged(0, "the target has ended: connecting anew"));
    assert!(lone.conn() < ConnState::WFReportParams);
    assert_eq!(lone.w.nodes[0].state().disk, DiskState::Diskless);
}

#[test]
fn a_target_does_not_end_before_a_write_that_failed_here_is_settled() {
    let mut lone = Lone::new(60);
    let mut options = lone.w.disk_options.clone();
    options.on_io_error = OnIoError::PassOn;
    let command = Command::DiskOptions { volume: V, options };
    lone.w.admin(0, command).unwrap();
    let [c, _, h, _] = lone.uuids;
    lone.uuids = [0x1234_5678_0000, c, h, 0];
    lone.bits = 1;
    lone.meet();
    lone.give_bitmap(&[80]);
    lone.pump();
    lone.start_sync();
    let asked = lone.pump();
    let request = asked.iter().find_map(Sent::resync_request).unwrap();
    let command = Command::Primary {
        volume: V,
        force: false,
    };
    lone.w.start_admin(0, command);
    lone.pump();
    assert_eq!(lone.is(), "SyncTarget P/S I/U");
    lone.w.nodes[0].write_errors = true;
    lone.w.write(0, 800, vec![7; 4096]);
    lone.pump();
    lone.w.nodes[0].write_errors = false;
    lone.resync_reply(&request, 1);
    lone.pump();
    assert_eq!(lone.is(), "SyncTarget P/S I/U");
    assert_eq!(lone.w.nodes[0].out_of_sync(), 1);
}

#[test]
fn a_disk_that_was_given_up_while_standalone_was_invalidated() {
    let (mut w, _) = World::settled(41);
    w.disconnect(1).unwrap();
    w.admin(1, Command::Invalidate { volume: V }).unwrap();
    let invalidated = why_not_good(&w, 1);
    assert_eq!(invalidated.reason, DiskReason::Invalidated);
    assert!(invalidated.for_ms.is_some());
    // Until a resync has made it good.
    w.connect(1);
    w.node_is(0, "Connected P/S U/U");
    let status = w.nodes[1].resource.status(w.now);
    assert_eq!(status.volumes[0].disk_trouble, None);
}

/// A disk whose data and the peer's do not go together is no broken one: it is refused, and its reason says what stands between them.
#[test]
fn a_disk_that_is_refused_for_a_split_brain_says_so() {
    let mut w = World::new(21);
    w.connect_fresh(&NetOptions::default());
    w.skip_first_sync();
    w.off(0);
    w.primary(1, true).unwrap();
    w.write_blocks(1, [80], 2);
    w.secondary(1).unwrap();
    w.quiet();
    w.detach(1, true).unwrap();
    w.quiet();
    w.boot(0);
    w.connect(0);
    w.until("the handshake", |w| w.is(0).starts_with("Connected"));
    w.primary(0, false).unwrap();
    w.quiet();
    let _ = w.attach(1);
    w.node_is(1, "Connected S/P D/U");
    let trouble = why_not_good(&w, 1).reason;
    assert_eq!(trouble.word(), "split-brain");
    assert_eq!(
        trouble.to_string(),
        "it was given up: unresolved split brain"
    );
    let advice = trouble.advice().unwrap();
    assert!(
        advice.contains("'create-md' would take it away"),
        "{advice}"
    );
}

/// The peer has agreed to a full sync, and has lost its disk before we hear that: nothing begins, whoever ordered it is told, and so is the
/// peer, which took our data for given up.
#[test]
fn a_full_sync_whose_peer_loses_its_disk_before_it_begins_is_refused() {
    for (local, error) in [
        (true, StateError::NoUpToDateDisk),
        (false, StateError::NoRemoteDisk),
    ] {
        let mut lone = Lone::new(121);
        lone.meet();
        let command = match local {
            true => Command::Invalidate { volume: V },
            false => Command::InvalidateRemote { volume: V },
        };
        let id = lone.w.start_admin(0, command);
        assert_eq!(names(&lone.take()), ["P_STATE_CHG_REQ"]);
        for disk in [DiskState::Failed, DiskState::Diskless] {
            lone.disk = disk;
            lone.give(lone.state(ConnState::Connected, DiskState::Outdated));
        }
        lone.pump();
        lone.give(Packet::StateChgReply(1));
        assert_eq!(
            lone.w.nodes[0].admin.remove(&id),
            Some(Err(AdminError::State(error)))
        );
        assert_eq!(lone.is(), "Connected S/S U/D");
        assert_eq!(names(&lone.pump()), ["P_STATE"]);
    }
}
