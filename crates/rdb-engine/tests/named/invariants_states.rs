//! The invariants and traps of `docs/spec/behaviour.md`, section 14, that need a whole engine. Those of the state tables
//! alone are walked in `tables_states`.

use rdb_engine::config::NetOptions;
use rdb_engine::state::{ConnState, DiskState};
use rdb_engine::{Command, ConnEvent, ConnId, Event, LossCause, VolumeNr};
use replica_proto::{BarrierNr, ConnectionFeatures, Packet, Socket};

use crate::lone::Lone;
use rdb_sim::scenario::code;
use rdb_sim::{V, World};

fn mirrored(conn: ConnState) -> ConnState {
    use ConnState::*;
    match conn {
        StartingSyncS => StartingSyncT,
        StartingSyncT => StartingSyncS,
        WFBitMapS => WFBitMapT,
        WFBitMapT | WFSyncUUID => WFBitMapS,
        SyncSource => SyncTarget,
        SyncTarget => SyncSource,
        PausedSyncS => PausedSyncT,
        PausedSyncT => PausedSyncS,
        other => other,
    }
}

#[test]
fn v03_a_settled_pair_sees_itself_mirrored() {
    for seed in 0..12 {
        let mut w = World::new(seed);
        w.connect_fresh(&NetOptions::default());
        w.primary(0, true).unwrap();
        w.until("the first sync begins", |w| {
            let mut nodes = w.nodes.iter();
            nodes.all(|n| n.state().conn > ConnState::Connected)
        });
        for _ in 0..25 {
            let i = w.rng.below(2) as usize;
            let volume = V;
            let command = match w.rng.below(9) {
                0 => Command::Primary {
                    volume,
                    force: false,
                },
                1 => Command::Secondary {
                    volume,
                    held_open: false,
                },
                2 => Command::Detach {
                    volume,
                    force: w.rng.one_in(2),
                },
                3 | 4 => w.attach_command(i, 0),
                5 => Command::PauseSync { volume },
                6 => Command::ResumeSync { volume },
                7 if w.nodes[i].state().conn >= ConnState::Connected => {
                    Command::Invalidate { volume }
                }
                _ => {
                    w.cut();
                    w.run_ms(50);
                    w.heal();
                    continue;
                }
            };
            w.start_admin(i, command);
            w.run_ms(300);
            while w.step() {}
            let [a, b] = [w.nodes[0].state(), w.nodes[1].state()];
            let idle = w.nodes.iter().all(|n| n.admin_open.is_empty());
            if idle && a.conn >= ConnState::Connected && b.conn >= ConnState::Connected {
                let context = format!("seed {seed}: {}", w.states());
                assert_eq!(b.conn, mirrored(a.conn), "{context}");
                assert_eq!((a.role, a.peer), (b.peer, b.role), "{context}");
                assert_eq!((a.disk, a.pdsk), (b.pdsk, b.disk), "{context}");
            }
        }
    }
}

#[test]
fn v09_a_primary_does_not_become_a_target() {
    let mut lone = Lone::primary(1);
    let [c, _, h, _] = lone.w.gi(0);
    lone.lose(Socket::Data, 0);
    let [n, bm, _, _] = lone.w.gi(0);
    assert_eq!(bm, c);
    // The peer says that our generation is the one it went on from.
    lone.uuids = [0x77_0000, n, c, h];
    lone.meet();
    assert!(
        lone.w
            .logged(0, "I shall become SyncTarget, but I am primary!")
    );
    assert_eq!(lone.is(), "StandAlone P/? U/-");
    assert_eq!(lone.w.gi(0)[..2], [n, c]);
}

#[test]
fn v12_network_problems_are_tried_again() {
    type Trouble = (&'static str, fn(&mut Lone));
    let troubles: [Trouble; 7] = [
        ("end of data", |l| l.lose(Socket::Data, 0)),
        ("end of meta", |l| l.lose(Socket::Meta, 0)),
        ("reset", |l| l.lose(Socket::Data, 104)),
        ("no route", |l| l.lose(Socket::Meta, 113)),
        ("noise on data", |l| bad(l, Socket::Data)),
        ("a barrier of nothing", |l| {
            l.give(Packet::BarrierAck {
                barrier: BarrierNr([1, 2, 3, 4]),
                set_size: 3,
            });
        }),
        ("silence", |_| {}),
    ];
    fn bad(lone: &mut Lone, socket: Socket) {
        lone.w.nodes[0].connected = false;
        let cause = LossCause::BadPacket {
            error: "bad magic".into(),
            unknown_command: false,
        };
        lone.w.event(
            0,
            Event::Connection(ConnId::FIRST, ConnEvent::Lost { socket, cause }),
        );
    }
    type Stage = (&'static str, fn() -> Lone);
    let stages: [Stage; 6] = [
        ("WFReportParams", || {
            let mut lone = Lone::new(2);
            lone.greet();
            lone
        }),
        ("Connected", || Lone::secondary(3)),
        ("WFBitMapS", || {
            let mut lone = Lone::new(4);
            lone.disk = DiskState::Inconsistent;
            lone.meet();
            lone
        }),
        ("WFSyncUUID", || Lone::target(5, &[80])),
        ("SyncTarget", || {
            let mut lone = Lone::target(6, &[80]);
            lone.start_sync();
            lone.pump();
            lone
        }),
        ("SyncSource", || Lone::source(7, &[80])),
    ];
    for (conn, stage) in stages {
        for (what, trouble) in troubles {
            let mut lone = stage();
            assert_eq!(lone.conn().to_string(), conn);
            trouble(&mut lone);
            let context = format!("{what} in {conn}");
            lone.w.until(&context, |w| {
                let conn = w.nodes[0].state().conn;
                assert!(conn > ConnState::Disconnecting, "{context}: {conn}");
                conn == ConnState::WFConnection
            });
            // And the next connection is as good as the first.
            lone.w.net = Default::default();
            lone.meet();
            assert!(
                lone.conn() >= ConnState::Connected,
                "{context}: {}",
                lone.is()
            );
        }
    }
}

#[test]
fn v15_one_loss_is_one_new_generation() {
    for seed in 0..16 {
        let (mut w, [c, h, g]) = World::settled(seed);
        let bumps = |w: &World, i: usize| {
            let news = w.nodes[i].log.iter();
            news.filter(|l| l.contains("new current UUID")).count()
        };
        let before = bumps(&w, 0);
        for n in 0..10 {
            w.write(0, n * 800, vec![1; 4096]);
        }
        if seed % 2 == 0 {
            // The peer's disk goes, and then the peer.
            w.nodes[1].write_errors = true;
            w.run_ms(20);
        }
        w.cut_raggedly();
        w.run_ms(1_000);
        assert_eq!(bumps(&w, 0), before + 1, "seed {seed}");
        let [n, bm, h0, h1] = w.gi(0);
        assert_eq!((bm, h0, h1), (c, h, g));
        assert_ne!(n, c);
    }
}

#[test]
fn trap_a_bitmap_uuid_that_is_set_suppresses_new_generations() {
    let (mut w, [c, h, g]) = World::settled(8);
    w.cut();
    w.quiet();
    let lonely = w.gi(0);
    assert_eq!(lonely[1..], [c, h, g]);
    w.secondary(0).unwrap();
    w.primary(0, false).unwrap();
    w.write_wait(0, 0, vec![9; 4096]);
    assert_eq!(w.gi(0), lonely);
    w.heal();
    w.ends_well();
}

#[test]
fn trap_disk_states_override_a_split_brain() {
    let mut lone = Lone::new(9);
    let [c, _, h, _] = lone.uuids;
    let command = Command::Primary {
        volume: V,
        force: false,
    };
    lone.w.admin(0, command).unwrap();
    let [n, bm, _, _] = lone.w.gi(0);
    assert_eq!(bm, c);
    lone.uuids = [0x99_0000, c, h, 0];
    lone.disk = DiskState::Inconsistent;
    lone.meet();
    assert!(lone.w.logged(0, "Becoming sync source due to disk states."));
    assert_eq!(lone.is(), "WFBitMapS P/S U/I");
    assert_eq!(lone.w.gi(0)[0], n);
}

#[test]
fn trap_a_volume_that_the_peer_does_not_know_holds_promotions_back() {
    let mut lone = Lone::new(10);
    let second = Command::NewVolume {
        volume: VolumeNr(1),
        minor: 1,
    };
    lone.w.admin(0, second).unwrap();
    lone.meet();
    assert_eq!(lone.is(), "Connected S/S U/U");
    let other = lone.w.nodes[0].state_of(1).conn;
    assert_eq!(other, ConnState::WFReportParams);
    let command = Command::Primary {
        volume: V,
        force: false,
    };
    let id = lone.w.start_admin(0, command);
    for _ in 0..5 {
        lone.w.run_ms(200);
        lone.pump();
    }
    assert!(!lone.w.nodes[0].admin.contains_key(&id), "it waits");
    lone.introduce(1);
    lone.pump();
    assert_eq!(lone.w.nodes[0].admin.remove(&id), Some(Ok(())));
}

/// L39.
#[test]
fn trap_outdating_a_connected_disk_does_nothing_and_says_so() {
    let (mut w, _) = World::settled(11);
    assert_eq!(code(w.admin(1, Command::Outdate { volume: V })), -6);
    w.both("Connected P/S U/U", "Connected S/P U/U");
    w.disconnect(1).unwrap();
    w.admin(1, Command::Outdate { volume: V }).unwrap();
    assert_eq!(w.is(1), "StandAlone S/? O/-");
    // It is so already.
    w.admin(1, Command::Outdate { volume: V }).unwrap();
    assert_eq!(code(w.admin(0, Command::Outdate { volume: V })), -2);
}

#[test]
fn trap_disconnecting_a_node_that_is_alone_is_an_error() {
    let (mut w, _) = World::settled(12);
    w.disconnect(1).unwrap();
    assert_eq!(code(w.disconnect(1)), 162);
}

#[test]
fn trap_both_giving_up_their_data_solves_nothing() {
    // Without a split brain they connect.
    let (mut w, _) = World::settled(13);
    w.secondary(0).unwrap();
    w.disconnect(0).unwrap();
    w.disconnect(1).unwrap();
    for i in 0..2 {
        w.discard_my_data(i).unwrap();
    }
    w.both("Connected S/S U/U", "Connected S/S U/U");
    // With one, nobody's data is chosen, and none is touched.
    for i in 0..2 {
        w.disconnect(i).unwrap();
    }
    for i in 0..2 {
        w.primary(i, false).unwrap();
        w.write_wait(i, 0, vec![i as u8 + 1; 4096]);
        w.secondary(i).unwrap();
        w.discard_my_data(i).unwrap();
    }
    w.until("a refusal", |w| {
        (0..2).any(|i| w.is(i) == "StandAlone S/? U/-")
    });
    w.run_ms(2_000);
    for i in 0..2 {
        let held = w.nodes[i].disks[0].read(0, 4096);
        assert_eq!(held, vec![i as u8 + 1; 4096]);
        assert!(w.nodes[i].state().conn < ConnState::Connected);
    }
}

#[test]
fn trap_a_peer_of_another_version_is_refused() {
    let mut lone = Lone::new(14);
    lone.pair(false);
    lone.give(Packet::ConnectionFeatures(ConnectionFeatures {
        min: 110,
        max: 118,
        ..ConnectionFeatures::OURS
    }));
    lone.io();
    assert_eq!(lone.is(), "Unconnected S/? U/-", "anybody may say so");
    let why = "incompatible DRBD dialects: I support 100-101, peer supports 110-118";
    assert!(lone.w.logged(0, why), "{:?}", lone.w.nodes[0].log);
}
