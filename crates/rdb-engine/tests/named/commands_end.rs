//! Every command ends: a peer that lacks a volume, a caller who goes, and force, which passes whatever waits.

use rdb_engine::config::{NetOptions, Protocol};
use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{AdminError, AdminId, Command, Event, RequestKind, VolumeNr};

use rdb_sim::{Data, V, World};

const ONE: VolumeNr = VolumeNr(1);

/// Both nodes have volume 0, `a` has volume 1 too; they are connected, and `a` knows that its peer lacks one.
fn lopsided(seed: u64, run_ms: u64) -> World {
    let sectors = 16 << 10;
    let mut w = World::with_volumes(seed, &[sectors, sectors], &[sectors, sectors]);
    let options = NetOptions::default();
    w.up(0, &options);
    let new = Command::NewVolume {
        volume: V,
        minor: 0,
    };
    w.admin(1, new).unwrap();
    w.admin(1, w.attach_command(1, 0)).unwrap();
    w.connect_with(1, options);
    w.until("volume 0 Connected", |w| {
        w.nodes
            .iter()
            .all(|n| n.state_of(0).conn == ConnState::Connected)
    });
    w.run_ms(run_ms);
    assert_eq!(w.nodes[0].state_of(1).conn, ConnState::WFReportParams);
    w
}

#[test]
fn commands_end_though_the_peer_lacks_a_volume() {
    for run_ms in [0, 20_000] {
        let mut w = lopsided(61, run_ms);
        // Each of these waits at most for the exchange to have its end.
        let force = |volume| Command::Primary {
            volume,
            force: true,
        };
        w.admin(0, force(V)).unwrap();
        w.admin(0, force(ONE)).unwrap();
        for volume in [ONE, V] {
            let demote = Command::Secondary {
                volume,
                held_open: false,
            };
            w.admin(0, demote).unwrap();
        }
        let detach = Command::Detach {
            volume: ONE,
            force: false,
        };
        w.admin(0, detach).unwrap();
        w.admin(0, Command::Disconnect { force: false }).unwrap();
        assert_eq!(w.nodes[0].state_of(0).conn, ConnState::StandAlone);
    }
}

#[test]
fn a_volume_that_the_peer_adds_later_is_exchanged() {
    for first_ms in [0, 20_000] {
        let mut w = lopsided(62, first_ms);
        let new = Command::NewVolume {
            volume: ONE,
            minor: 1,
        };
        w.admin(1, new).unwrap();
        w.admin(1, w.attach_command(1, 1)).unwrap();
        w.until("both volumes Connected", |w| {
            let up = |v| {
                w.nodes
                    .iter()
                    .all(|n| n.state_of(v).conn == ConnState::Connected)
            };
            up(0) && up(1)
        });
    }
}

#[test]
fn deleting_the_volume_that_the_peer_lacks_ends_the_exchange() {
    let mut w = lopsided(63, 0);
    let detach = Command::Detach {
        volume: ONE,
        force: true,
    };
    w.admin(0, detach).unwrap();
    w.until("the disk is gone", |w| {
        w.nodes[0].state_of(1).disk == DiskState::Diskless
    });
    w.admin(0, Command::DelVolume { volume: ONE }).unwrap();
    let begun = w.now;
    w.admin(0, Command::Disconnect { force: false }).unwrap();
    assert!(w.now.ms_since(begun) < 1_000, "it has waited");
}

fn withdraw(w: &mut World, i: usize, id: u64) {
    w.event(i, Event::Withdraw { id: AdminId(id) });
}

#[test]
fn an_interrupted_demotion_lets_the_next_command_pass() {
    let mut w = World::pair(64, &NetOptions::default());
    // A write that does not come to its end keeps the demotion waiting.
    w.nodes[0].hold_data = true;
    w.write(0, 0, vec![7; 4096]);
    let demote = Command::Secondary {
        volume: V,
        held_open: false,
    };
    let id = w.start_admin(0, demote);
    let next = w.start_admin(0, Command::PauseSync { volume: V });
    w.run_ms(5_000);
    assert!(w.nodes[0].admin.is_empty(), "both wait");
    withdraw(&mut w, 0, id);
    assert_eq!(w.nodes[0].admin.get(&id), Some(&Err(AdminError::Withdrawn)));
    assert_eq!(w.nodes[0].admin.get(&next), Some(&Ok(())));
    assert_eq!(w.nodes[0].state().role, Role::Primary);
}

#[test]
fn a_command_that_waits_for_its_turn_is_taken_back_and_never_done() {
    let mut w = World::pair(65, &NetOptions::default());
    w.nodes[0].hold_data = true;
    w.write(0, 0, vec![7; 4096]);
    let demote = Command::Secondary {
        volume: V,
        held_open: false,
    };
    w.start_admin(0, demote);
    let id = w.start_admin(0, Command::Disconnect { force: false });
    withdraw(&mut w, 0, id);
    assert_eq!(w.nodes[0].admin.get(&id), Some(&Err(AdminError::Withdrawn)));
    w.nodes[0].hold_data = false;
    w.run_ms(5_000);
    assert_eq!(w.nodes[0].state().conn, ConnState::Connected);
    // One that is done, or was never given, is nobody's.
    withdraw(&mut w, 0, id);
    withdraw(&mut w, 0, 4711);
}

#[test]
fn force_passes_whatever_waits() {
    let mut w = World::pair(66, &NetOptions::default());
    w.nodes[0].hold_data = true;
    w.write(0, 0, vec![7; 4096]);
    let demote = Command::Secondary {
        volume: V,
        held_open: false,
    };
    let waits = w.start_admin(0, demote);
    w.run_ms(5_000);
    assert!(!w.nodes[0].admin.contains_key(&waits), "it waits");
    let detach = Command::Detach {
        volume: V,
        force: true,
    };
    let id = w.start_admin(0, detach);
    assert_eq!(w.nodes[0].admin.get(&id), Some(&Ok(())));
    assert_eq!(w.nodes[0].state().disk, DiskState::Failed);
    let id = w.start_admin(0, Command::Disconnect { force: true });
    w.until("the forced disconnect", |w| {
        w.nodes[0].admin.contains_key(&id)
    });
    assert_eq!(w.nodes[0].admin.get(&id), Some(&Ok(())));
    assert_eq!(w.nodes[0].state().conn, ConnState::StandAlone);
}

#[test]
fn a_detach_that_was_interrupted_while_the_disk_hangs_blocks_nobody() {
    let mut w = World::pair(67, &NetOptions::default());
    w.nodes[0].hold_data = true;
    w.write(0, 0, vec![7; 4096]);
    let detach = |force| Command::Detach { volume: V, force };
    let id = w.start_admin(0, detach(false));
    w.run_ms(5_000);
    assert!(!w.nodes[0].admin.contains_key(&id), "it waits for the disk");
    withdraw(&mut w, 0, id);
    assert_eq!(w.nodes[0].admin.get(&id), Some(&Err(AdminError::Withdrawn)));
    w.admin(0, detach(true)).unwrap();
    w.admin(0, Command::PauseSync { volume: V }).unwrap();
    w.admin(0, Command::Disconnect { force: true }).unwrap();
    // The disk is given up all the same, once it is quiet.
    w.nodes[0].hold_data = false;
    w.run_ms(5_000);
    assert_eq!(w.nodes[0].state().disk, DiskState::Diskless);
}

#[test]
fn a_peer_that_went_on_alone_for_a_detach_that_was_taken_back_is_synced() {
    let mut w = World::pair(68, &NetOptions::default());
    let detach = Command::Detach {
        volume: V,
        force: false,
    };
    let id = w.start_admin(1, detach);
    withdraw(&mut w, 1, id);
    assert_eq!(w.nodes[1].admin.get(&id), Some(&Err(AdminError::Withdrawn)));
    w.until("the consent", |w| {
        w.nodes[0].state().pdsk == DiskState::Failed
    });
    w.hold_net = true;
    assert!(w.write_wait(0, 80, vec![7; 4096]));
    w.hold_net = false;
    w.until("a new connection", |w| {
        w.logged(1, "which is not given up after all: connecting anew")
    });
    w.ends_well();
}

/// L38. Users' flushes are done on the Primary's disk. Given up a moment later, it leaves the peer as the only one with what they
/// flushed, and that may be in its cache.
#[test]
fn a_copy_is_given_up_when_the_peer_has_flushed_what_users_have() {
    let invalidate = Command::Invalidate { volume: V };
    let detach = Command::Detach {
        volume: V,
        force: false,
    };
    for command in [detach, invalidate] {
        let mut w = World::pair(70, &NetOptions::default());
        assert!(w.write_wait(0, 80, vec![7; 4096]));
        w.nodes[1].hold_data = true;
        let flush = w.submit(0, 0, 0, RequestKind::Flush);
        w.wait_done(0, flush).unwrap();
        let id = w.start_admin(0, command.clone());
        w.run_ms(100);
        assert_eq!(w.nodes[0].state().disk, DiskState::UpToDate, "{command:?}");
        assert_eq!(w.nodes[1].state().pdsk, DiskState::UpToDate, "{command:?}");
        // What they flush meanwhile is done when the peer has flushed it, too.
        let flush = w.submit(0, 0, 0, RequestKind::Flush);
        w.run_ms(100);
        assert!(!w.nodes[0].completed.contains_key(&flush), "{command:?}");
        w.nodes[1].hold_data = false;
        w.wait_done(0, flush).unwrap();
        w.until("the end of the command", |w| {
            w.nodes[0].admin.contains_key(&id)
        });
        assert_eq!(w.nodes[0].admin.get(&id), Some(&Ok(())), "{command:?}");
    }
}

/// L31. A peer that consents to the detach begins a generation that outranks ours, and may be gone before its word comes.
#[test]
fn while_a_detach_is_asked_for_a_durable_write_is_done_when_the_peer_has_it() {
    let options = NetOptions {
        protocol: Protocol::A,
        ..NetOptions::default()
    };
    let mut w = World::pair(69, &options);
    let write = |w: &mut World, sector| {
        let kind = RequestKind::Write {
            payload: Data(vec![7; 4096].into()),
            fua: true,
        };
        w.submit(0, sector, 4096, kind)
    };
    let first = write(&mut w, 80);
    w.wait_done(0, first).unwrap();
    w.hold_net = true;
    let before = write(&mut w, 80);
    w.run_ms(1_000);
    assert!(w.nodes[0].completed.contains_key(&before), "protocol A");
    let detach = Command::Detach {
        volume: V,
        force: false,
    };
    w.start_admin(0, detach);
    let during = write(&mut w, 160);
    w.run_ms(1_000);
    assert!(!w.nodes[0].completed.contains_key(&during));
    w.hold_net = false;
    w.wait_done(0, during).unwrap();
}
