//! What a full disk does to a node and to its pair, scene by scene (`on-no-space`).

use rdb_engine::config::{NetOptions, OnNoSpace, Protocol};
use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{Command, RequestError, RequestKind, SPACE_PROBES, SPACE_RETRY_MS, SpaceWait};
use rdb_sim::disk::Room;
use rdb_sim::{V, World};

/// The sector of a block that nobody has written.
const FRESH: u64 = 4096;

fn options() -> NetOptions {
    NetOptions {
        timeout_ds: 10,
        ko_count: 2,
        connect_int_s: 1,
        ping_int_s: 1,
        ..NetOptions::default()
    }
}

/// A synced pair, `a` Primary, with this policy and something written at sector 0.
fn pair(policy: OnNoSpace, options: &NetOptions) -> World {
    let mut world = World::new(7);
    world.disk_options.on_no_space = policy;
    world.connect_fresh(options);
    world.primary(0, true).expect("a forced promotion");
    world.wait_synced();
    assert!(world.write_wait(0, 0, bytes(1)));
    // (The extent of what is written later is hot from now on, so that its write meets the full disk, not the log.)
    assert!(world.write_wait(0, FRESH + 8, bytes(1)));
    world.quiet();
    world
}

/// The Primary alone.
fn lone(policy: OnNoSpace) -> World {
    let mut world = pair(policy, &options());
    world
        .admin(1, Command::Disconnect { force: false })
        .expect("a peer may leave");
    world.until("a connection that is gone", |w| {
        w.nodes[0].state().conn < ConnState::Connected
    });
    assert!(world.write_wait(0, 0, bytes(1)), "the log is warm again");
    assert!(world.write_wait(0, FRESH + 8, bytes(1)));
    world.quiet();
    world
}

fn bytes(fill: u8) -> Vec<u8> {
    vec![fill; 4096]
}

fn fill(world: &mut World, i: usize, room: Room) {
    let far = world.now.plus_ms(10_000_000);
    let disk = &mut world.nodes[i].disks[0];
    (disk.room, disk.full_until) = (room, far);
}

fn make_room(world: &mut World, i: usize) {
    world.nodes[i].disks[0].room = Room::All;
}

fn waits(world: &World, i: usize) -> Option<SpaceWait> {
    let status = world.nodes[i].resource.status(world.now);
    let volume = status.volumes.first()?;
    assert_eq!(volume.blocked == 'b', volume.no_space.is_some());
    volume.no_space
}

#[test]
fn a_lone_primary_waits_and_reads_and_goes_on() {
    let mut world = lone(OnNoSpace::Suspend);
    fill(&mut world, 0, Room::Written);
    let writes: Vec<u64> = (0..40)
        .map(|n| world.write(0, FRESH + 16 + 8 * n, bytes(2)))
        .collect();
    let discard = world.submit(0, 1024, 4096, RequestKind::Discard);
    world.wait_done(0, discard).expect("that takes no room");
    world.run_ms(20_000);
    let wait = waits(&world, 0).expect("they wait");
    assert_eq!(wait.writes, 40);
    assert!((19_000..21_000).contains(&wait.for_ms), "{wait:?}");
    assert_eq!(world.read(0, 0, 4096), Ok(bytes(1)), "reads go on");
    assert!(
        world.write_wait(0, 0, bytes(3)),
        "so does what needs no room"
    );
    let flush = world.submit(0, 0, 0, RequestKind::Flush);
    world.wait_done(0, flush).expect("and flushes of that");
    assert_eq!(world.nodes[0].state().disk, DiskState::UpToDate);
    assert!(world.logged(0, "no space left on the disk"));

    make_room(&mut world, 0);
    let freed = world.now;
    for id in writes {
        world.wait_done(0, id).expect("there is room");
    }
    assert!(world.now.ms_since(freed) <= SPACE_RETRY_MS + 200);
    assert_eq!(waits(&world, 0), None);
    assert!(world.logged(0, "there is space on the disk again: 40 writes went on"));
    assert_eq!(world.read(0, FRESH + 16, 4096), Ok(bytes(2)));
}

#[test]
fn few_are_tried_in_vain() {
    let mut world = lone(OnNoSpace::Suspend);
    fill(&mut world, 0, Room::Written);
    let count = 200;
    let writes: Vec<u64> = (0..count)
        .map(|n| world.write(0, FRESH + 16 + 8 * n, bytes(2)))
        .collect();
    world.quiet();
    let tries = |w: &World| {
        let line = w.coverage.lines().into_iter();
        line.filter(|(name, _)| *name == "fault: no space left")
            .map(|(_, n)| n)
            .sum::<u64>()
    };
    let before = tries(&world);
    assert_eq!(before, count);
    world.run_ms(10_000);
    let more = tries(&world) - before;
    assert!(more <= 10 * SPACE_PROBES as u64 + 16, "{more} in 10 s");
    make_room(&mut world, 0);
    for id in writes {
        world.wait_done(0, id).expect("there is room");
    }
}

#[test]
fn metadata_waits_too_and_nothing_passes_it() {
    let mut world = lone(OnNoSpace::Suspend);
    fill(&mut world, 0, Room::None);
    // A cold extent: the write may not go to the disk before the log has it, and the log has no room.
    let id = world.write(0, 40_960, bytes(2));
    world.run_ms(5_000);
    assert_eq!(waits(&world, 0).map(|w| w.writes), Some(1));
    assert_eq!(world.nodes[0].disks[0].read(40_960, 4096), bytes(0));
    assert_eq!(world.nodes[0].state().disk, DiskState::UpToDate);
    make_room(&mut world, 0);
    world.wait_done(0, id).expect("there is room");
    assert_eq!(world.nodes[0].disks[0].read(40_960, 4096), bytes(2));
}

#[test]
fn a_full_secondary_is_left_after_ko_count_and_comes_back_by_itself() {
    let mut world = pair(OnNoSpace::Suspend, &options());
    fill(&mut world, 1, Room::Written);
    let id = world.write(0, FRESH + 16, bytes(2));
    world.wait_done(0, id).expect("the Primary goes on alone");
    assert!(world.logged(0, "ko-count (2)"));
    assert_eq!(world.nodes[0].state().disk, DiskState::UpToDate);
    world.run_ms(30_000);
    // It hangs in its teardown, as with a disk that does not answer; the Primary's users are not held up again.
    assert!(waits(&world, 1).is_some());
    assert_eq!(world.nodes[1].state().disk, DiskState::UpToDate);
    assert!(world.write_wait(0, FRESH + 24, bytes(3)));
    make_room(&mut world, 1);
    world.wait_synced();
    world.quiet();
    assert!(world.disks_equal());
    assert_eq!(waits(&world, 1), None);
}

#[test]
fn the_only_good_copy_is_waited_for() {
    let mut world = pair(OnNoSpace::Suspend, &options());
    world
        .admin(
            0,
            Command::Detach {
                volume: V,
                force: false,
            },
        )
        .expect("the peer has it all");
    world.quiet();
    fill(&mut world, 1, Room::Written);
    let id = world.write(0, FRESH + 16, bytes(2));
    world.run_ms(60_000);
    assert!(!world.nodes[0].completed.contains_key(&id), "it waits");
    assert_eq!(world.nodes[0].state().conn, ConnState::Connected);
    assert_eq!(world.read(0, 0, 4096), Ok(bytes(1)), "reads go on");
    assert!(world.logged(0, "the only good copy"));
    make_room(&mut world, 1);
    world.wait_done(0, id).expect("there is room");
}

#[test]
fn a_full_secondary_can_be_taken_down() {
    for protocol in [Protocol::A, Protocol::B, Protocol::C] {
        let options = NetOptions {
            protocol,
            ..options()
        };
        let mut world = pair(OnNoSpace::Suspend, &options);
        fill(&mut world, 1, Room::None);
        let id = world.write(0, FRESH + 16, bytes(2));
        world.run_ms(200);
        assert!(waits(&world, 1).is_some());
        // As `down` does: leave the peer, give up the disk, forget the volume.
        world
            .admin(1, Command::Disconnect { force: false })
            .expect("a disconnect ends");
        world
            .admin(
                1,
                Command::Detach {
                    volume: V,
                    force: false,
                },
            )
            .expect("a detach ends");
        world
            .admin(1, Command::DelVolume { volume: V })
            .expect("nothing is left");
        assert_eq!(world.nodes[1].state_of(0).conn, ConnState::StandAlone);
        world.wait_done(0, id).expect("the Primary has it");
    }
}

#[test]
fn what_a_lost_peer_sent_is_still_written_when_there_is_room() {
    let mut world = pair(
        OnNoSpace::Suspend,
        &NetOptions {
            protocol: Protocol::B,
            ..options()
        },
    );
    fill(&mut world, 1, Room::Written);
    let id = world.write(0, FRESH + 16, bytes(2));
    world.wait_done(0, id).expect("received is enough");
    world
        .admin(1, Command::Disconnect { force: false })
        .expect("a disconnect ends");
    assert_eq!(world.nodes[1].state().conn, ConnState::Disconnecting);
    let refused = world.admin(
        1,
        Command::Connect {
            options: options(),
            discard_my_data: false,
            tentative: false,
        },
    );
    let refused = format!("{:?}", refused.expect_err("not before that is on the disk"));
    assert!(refused.contains("waits for space"), "{refused}");
    make_room(&mut world, 1);
    world.until("the end of the connection", |w| {
        w.nodes[1].state().conn == ConnState::StandAlone
    });
    assert_eq!(world.nodes[1].disks[0].read(FRESH + 16, 4096), bytes(2));
}

#[test]
fn a_forced_detach_passes_whoever_waits_for_space() {
    let mut world = lone(OnNoSpace::Suspend);
    fill(&mut world, 0, Room::Written);
    let id = world.write(0, FRESH + 16, bytes(2));
    world.quiet();
    let demotion = world.start_admin(
        0,
        Command::Secondary {
            volume: V,
            held_open: false,
        },
    );
    world.run_ms(3_000);
    assert!(
        !world.nodes[0].admin.contains_key(&demotion),
        "it waits for the write"
    );
    world
        .admin(
            0,
            Command::Detach {
                volume: V,
                force: true,
            },
        )
        .expect("by force");
    assert_eq!(
        world.wait_done(0, id).err(),
        Some(RequestError::Io),
        "its user hears of it"
    );
    assert_eq!(world.nodes[0].admin.remove(&demotion), Some(Ok(())));
    world.until("a disk that is gone", |w| {
        w.nodes[0].state().disk == DiskState::Diskless
    });
    assert_eq!(world.nodes[0].state().role, Role::Secondary);
    assert!(world.logged(0, "given up"));
}

#[test]
fn an_attach_waits_and_can_be_given_up() {
    let mut world = pair(OnNoSpace::Suspend, &options());
    let detach = |force| Command::Detach { volume: V, force };
    world
        .admin(1, detach(false))
        .expect("a Secondary may detach");
    world.quiet();
    fill(&mut world, 1, Room::None);
    let attach = world.attach_command(1, 0);
    let first = world.start_admin(1, attach.clone());
    world.run_ms(5_000);
    assert!(!world.nodes[1].admin.contains_key(&first), "it waits");
    assert!(waits(&world, 1).is_some());
    world.admin(1, detach(true)).expect("by force");
    let refused = world.nodes[1].admin.remove(&first).expect("it has ended");
    assert!(refused.is_err());
    world.until("a disk that is gone", |w| {
        w.nodes[1].state().disk == DiskState::Diskless
    });
    world.quiet();
    assert_eq!(waits(&world, 1), None);
    // Once more, with room in the end.
    let second = world.start_admin(1, attach);
    world.run_ms(5_000);
    assert!(!world.nodes[1].admin.contains_key(&second), "it waits");
    make_room(&mut world, 1);
    world.wait_synced();
    assert_eq!(world.nodes[1].admin.remove(&second), Some(Ok(())));
}

#[test]
fn with_detach_the_disk_is_given_up_whatever_on_io_error_says() {
    for policy in [
        rdb_engine::config::OnIoError::Detach,
        rdb_engine::config::OnIoError::PassOn,
    ] {
        let mut world = World::new(9);
        world.disk_options.on_no_space = OnNoSpace::Detach;
        world.disk_options.on_io_error = policy;
        world.connect_fresh(&options());
        world.primary(0, true).expect("a forced promotion");
        world.wait_synced();
        fill(&mut world, 0, Room::Written);
        assert!(world.write_wait(0, FRESH, bytes(2)), "the peer has it");
        world.until("a disk that is gone", |w| {
            w.nodes[0].state().disk == DiskState::Diskless
        });
        assert_eq!(world.read(0, FRESH, 4096), Ok(bytes(2)), "from the peer");
        assert_eq!(waits(&world, 0), None);
    }
}

#[test]
fn with_pass_on_a_lone_primary_hears_of_it_and_keeps_its_disk() {
    let mut world = lone(OnNoSpace::PassOn);
    fill(&mut world, 0, Room::Written);
    let id = world.write(0, FRESH + 16, bytes(2));
    assert_eq!(world.wait_done(0, id).err(), Some(RequestError::Io));
    assert_eq!(world.nodes[0].state().disk, DiskState::UpToDate);
    assert!(world.write_wait(0, 0, bytes(3)), "there is room for that");
    assert_eq!(world.read(0, 0, 4096), Ok(bytes(3)));
    make_room(&mut world, 0);
    assert!(world.write_wait(0, FRESH + 16, bytes(4)));
}

#[test]
fn with_pass_on_a_disk_that_lacks_what_the_peer_has_is_inconsistent() {
    let mut world = pair(OnNoSpace::PassOn, &options());
    fill(&mut world, 1, Room::Written);
    assert!(world.write_wait(0, FRESH + 16, bytes(2)), "one has it");
    world.until("the state of the disk", |w| {
        w.nodes[1].state().disk == DiskState::Inconsistent
    });
    world.quiet();
    assert_eq!(world.nodes[0].state().pdsk, DiskState::Inconsistent);
    assert_eq!(world.nodes[0].out_of_sync(), 1);
}
