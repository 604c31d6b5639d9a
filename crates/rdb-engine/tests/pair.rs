//! A pair of nodes through the ordinary course of its life.

use rdb_engine::config::{NetOptions, Protocol};
use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{Command, Milestone, RequestKind, VolumeNr};
use rdb_sim::{V, World};

fn options(protocol: Protocol) -> NetOptions {
    NetOptions {
        protocol,
        ..NetOptions::default()
    }
}

#[test]
fn two_fresh_disks_connect_and_the_forced_primary_syncs_its_peer() {
    for seed in 0..20 {
        let mut w = World::pair(seed, &NetOptions::default());
        w.quiet();
        assert_eq!(w.nodes[0].state().role, Role::Primary);
        assert_eq!(w.nodes[1].state().peer, Role::Primary);
        assert_eq!((w.nodes[0].out_of_sync(), w.nodes[1].out_of_sync()), (0, 0));
        assert!(w.disks_equal());
    }
}

#[test]
fn writes_reach_both_disks_under_every_protocol() {
    for protocol in [Protocol::A, Protocol::B, Protocol::C] {
        for seed in 0..10 {
            let mut w = World::pair(seed, &options(protocol));
            let mut ids = Vec::new();
            for n in 0..200_u64 {
                let sector = w.rng.below(60_000);
                let len = 512 * (1 + w.rng.below(64)) as usize;
                ids.push(w.write(0, sector, vec![n as u8 + 1; len]));
                if n % 50 == 0 {
                    ids.push(w.submit(0, 0, 0, RequestKind::Flush));
                }
            }
            for id in ids {
                w.wait_done(0, id).unwrap();
            }
            w.quiet();
            assert!(w.disks_equal(), "protocol {protocol:?} seed {seed}");
            assert_eq!(w.nodes[0].out_of_sync(), 0);
        }
    }
}

#[test]
fn a_cut_link_costs_a_resync_of_what_changed() {
    for seed in 0..20 {
        let mut w = World::pair(seed, &NetOptions::default());
        for n in 0..20 {
            w.write_wait(0, n * 1000, vec![1; 4096]);
        }
        w.cut();
        for n in 0..10 {
            assert!(
                w.write_wait(0, n * 2000, vec![2; 4096]),
                "a write while alone"
            );
        }
        let moved = w.nodes[0].resync_bytes;
        w.heal();
        w.wait_synced();
        w.quiet();
        assert!(w.disks_equal());
        assert!(
            w.nodes[0].resync_bytes - moved <= 2 * 10 * 4096,
            "more was copied than had changed"
        );
    }
}

#[test]
fn a_crashed_primary_is_resynced_from_the_survivor() {
    for seed in 0..30 {
        let mut w = World::pair(seed, &NetOptions::default());
        let mut acked = Vec::new();
        let mut ids = Vec::new();
        for n in 0..60_u64 {
            let sector = w.rng.below(500) * 100;
            ids.push((
                w.write(0, sector - sector % 8, vec![n as u8 + 1; 4096]),
                sector - sector % 8,
                n as u8 + 1,
            ));
            for _ in 0..w.rng.below(20) {
                w.step();
            }
        }
        for (id, sector, value) in ids {
            if w.nodes[0].completed.contains_key(&id) {
                acked.push((sector, value));
            }
        }
        w.kill(0);
        w.admin(
            1,
            Command::Primary {
                volume: V,
                force: false,
            },
        )
        .unwrap();
        let mut last = std::collections::BTreeMap::new();
        for (sector, value) in acked {
            last.insert(sector, value);
        }
        for (&sector, &value) in &last {
            let got = w.read(1, sector, 4096).unwrap()[0];
            assert!(
                got >= value,
                "an acknowledged write is gone: sector {sector} has {got}, acked {value}"
            );
        }
        w.write_wait(1, 0, vec![0xee; 8192]);
        let options = NetOptions::default();
        w.up(0, &options);
        w.wait_synced();
        w.quiet();
        assert!(w.disks_equal());
        assert_eq!(w.nodes[0].state().peer, Role::Primary);
    }
}

/// Waits for a refusal. Who refuses ends StandAlone; the other one too, unless it hears the end of the connection before it
/// has looked at what came with it (`docs/spec/behaviour.md`, section 5.7): then it waits, and is disconnected here.
fn end_apart(w: &mut World) {
    w.until("a node StandAlone", |w| {
        w.nodes
            .iter()
            .any(|n| n.state().conn == ConnState::StandAlone)
    });
    w.run_ms(100);
    for i in 0..2 {
        match w.nodes[i].state().conn {
            ConnState::StandAlone => {}
            ConnState::Unconnected | ConnState::WFConnection => {
                w.admin(i, Command::Disconnect { force: false }).unwrap();
            }
            conn => panic!("{conn} after a refusal"),
        }
    }
}

/// The history of who has refused has what each side has told, and each one's has the generation that it began.
fn told_of_both(w: &World) {
    let of = |i: usize| w.nodes[i].milestones.iter();
    let began = |i: usize| {
        of(i).rev().find_map(|what| match what {
            Milestone::Generation { old, new } => Some((old.current, *new)),
            Milestone::SplitBrain { .. } => None,
        })
    };
    let ids = [0, 1].map(|i| began(i).expect("it has begun a generation"));
    for (old, new) in ids {
        assert_eq!(old, new.bitmap);
    }
    let mut told = 0;
    for i in [0, 1] {
        for what in of(i) {
            let Milestone::SplitBrain { own, peer, solved } = what else {
                continue;
            };
            told += 1;
            assert!(!solved);
            assert_eq!((own.ids, peer.ids), (ids[i].1, ids[1 - i].1));
            assert_eq!((own.blocks, peer.blocks), (1, 1));
            assert_eq!((own.role, peer.role), (Role::Primary, Role::Primary));
        }
    }
    assert!(told > 0);
    // Each has one block marked: 0 here, 100 there.
    for (i, words) in [(0, [1, 0]), (1, [0, 1 << 36])] {
        let marks = |from, max| w.nodes[i].resource.marks(V, from, max);
        let all = marks(0, usize::MAX).expect("it has a disk");
        assert_eq!(all.words[..2], words);
        assert_eq!(all.words.len() as u64, all.size_sectors.div_ceil(8 * 64));
        assert_eq!(marks(1, 1).expect("it has a disk").words, words[1..]);
        let end = all.words.len();
        assert_eq!(marks(end, 9).expect("it has a disk").words, []);
        assert_eq!(marks(end + 9, 9).expect("it has a disk").words, []);
    }
    assert_eq!(w.nodes[0].resource.marks(VolumeNr(7), 0, 1), None);
}

#[test]
fn split_brain_is_refused_and_recovered_by_hand() {
    let mut w = World::pair(7, &NetOptions::default());
    w.cut();
    w.write_wait(0, 0, vec![1; 4096]);
    w.admin(
        1,
        Command::Primary {
            volume: V,
            force: false,
        },
    )
    .unwrap();
    w.write_wait(1, 800, vec![2; 4096]);
    w.heal();
    end_apart(&mut w);
    let refused = |w: &World, i| {
        w.logged(
            i,
            "Split-Brain detected but unresolved, dropping connection!",
        )
    };
    assert!(refused(&w, 0) || refused(&w, 1));
    told_of_both(&w);
    assert_eq!(
        w.read(1, 800, 4096).unwrap(),
        vec![2; 4096],
        "nothing was overwritten"
    );

    let connect = |discard_my_data| Command::Connect {
        options: NetOptions::default(),
        discard_my_data,
        tentative: false,
    };
    assert!(
        w.admin(1, connect(true)).is_err(),
        "a Primary must not discard its data"
    );
    w.admin(
        1,
        Command::Secondary {
            volume: V,
            held_open: false,
        },
    )
    .unwrap();
    w.admin(1, connect(true)).unwrap();
    w.admin(0, connect(false)).unwrap();
    w.wait_synced();
    w.quiet();
    assert!(w.disks_equal());
    assert_eq!(w.read(0, 0, 4096).unwrap(), vec![1; 4096]);
}

#[test]
fn roles_switch_both_ways_without_a_resync() {
    for seed in 0..10 {
        let mut w = World::pair(seed, &NetOptions::default());
        w.write_wait(0, 0, vec![1; 4096]);
        assert!(
            w.admin(
                1,
                Command::Primary {
                    volume: V,
                    force: false
                }
            )
            .is_err()
        );
        let moved = w.nodes[0].resync_bytes;
        w.admin(
            0,
            Command::Secondary {
                volume: V,
                held_open: false,
            },
        )
        .unwrap();
        w.admin(
            1,
            Command::Primary {
                volume: V,
                force: false,
            },
        )
        .unwrap();
        w.write_wait(1, 64, vec![2; 4096]);
        w.admin(
            1,
            Command::Secondary {
                volume: V,
                held_open: false,
            },
        )
        .unwrap();
        w.admin(
            0,
            Command::Primary {
                volume: V,
                force: false,
            },
        )
        .unwrap();
        w.quiet();
        assert_eq!(w.nodes[0].resync_bytes, moved);
        assert!(w.disks_equal());
        assert_eq!(w.read(0, 64, 4096).unwrap(), vec![2; 4096]);
    }
}

#[test]
fn a_graceful_disconnect_ends_standalone_here_and_waiting_there() {
    let mut w = World::pair(3, &NetOptions::default());
    w.admin(1, Command::Disconnect { force: false }).unwrap();
    assert_eq!(w.nodes[1].state().conn, ConnState::StandAlone);
    w.until("the peer waits", |w| {
        w.nodes[0].state().conn == ConnState::WFConnection
    });
    w.write_wait(0, 0, vec![9; 4096]);
    w.connect_with(1, NetOptions::default());
    w.wait_synced();
    w.quiet();
    assert!(w.disks_equal());
}

#[test]
fn a_diskless_primary_reads_and_writes_through_its_peer() {
    for seed in 0..20 {
        let mut w = World::pair(seed, &NetOptions::default());
        w.write_wait(0, 0, vec![1; 4096]);
        w.admin(
            0,
            Command::Detach {
                volume: V,
                force: false,
            },
        )
        .unwrap();
        assert_eq!(w.nodes[0].state().disk, DiskState::Diskless);
        assert_eq!(w.read(0, 0, 4096).unwrap(), vec![1; 4096]);
        assert!(w.write_wait(0, 8, vec![2; 4096]));
        let flush = w.submit(0, 0, 0, RequestKind::Flush);
        w.wait_done(0, flush).unwrap();
        w.attach(0).unwrap();
        w.wait_synced();
        w.quiet();
        assert_eq!(w.read(0, 8, 4096).unwrap(), vec![2; 4096]);
        assert!(w.disks_equal());
    }
}

#[test]
fn a_failing_disk_of_the_primary_is_given_up_and_nobody_notices() {
    for seed in 0..20 {
        let mut w = World::pair(seed, &NetOptions::default());
        w.write_wait(0, 0, vec![1; 4096]);
        w.nodes[0].write_errors = true;
        assert!(w.write_wait(0, 8, vec![2; 4096]));
        w.until("the disk is gone", |w| {
            w.nodes[0].state().disk == DiskState::Diskless
        });
        assert_eq!(w.read(0, 8, 4096).unwrap(), vec![2; 4096]);
        w.nodes[0].write_errors = false;
        w.attach(0).unwrap();
        w.wait_synced();
        w.quiet();
        assert!(w.disks_equal());
    }
}

#[test]
fn invalidate_copies_everything_again() {
    for (node, seed) in [(0, 1), (1, 2)] {
        let mut w = World::pair(seed, &NetOptions::default());
        w.write_wait(0, 0, vec![1; 4096]);
        w.admin(node, Command::Invalidate { volume: V }).unwrap();
        w.wait_synced();
        w.quiet();
        assert!(w.nodes[1 - node].resync_bytes >= w.nodes[0].usable_bytes() as u64);
        assert!(w.disks_equal());
    }
    let mut w = World::pair(5, &NetOptions::default());
    w.admin(0, Command::InvalidateRemote { volume: V }).unwrap();
    w.wait_synced();
    w.quiet();
    assert!(w.disks_equal());
}

#[test]
fn writes_go_on_during_the_first_sync() {
    for seed in 0..20 {
        let mut w = World::new(seed);
        let options = NetOptions::default();
        w.up(0, &options);
        w.up(1, &options);
        w.wait_conn(ConnState::Connected);
        w.admin(
            0,
            Command::Primary {
                volume: V,
                force: true,
            },
        )
        .unwrap();
        let mut ids = Vec::new();
        for n in 0..300_u64 {
            let sector = w.rng.below(8000) * 8;
            ids.push(w.write(0, sector.min(65_000 - 8), vec![n as u8; 4096]));
            for _ in 0..w.rng.below(30) {
                w.tick();
            }
        }
        for id in ids {
            w.wait_done(0, id).unwrap();
        }
        w.wait_synced();
        w.quiet();
        assert!(w.disks_equal(), "seed {seed}");
        assert_eq!((w.nodes[0].out_of_sync(), w.nodes[1].out_of_sync()), (0, 0));
    }
}

#[test]
fn a_secret_must_be_shared() {
    use rdb_engine::config::Authentication;
    use replica_proto::auth::HmacAlgorithm;
    let with = |secret: &str| NetOptions {
        authentication: Some(Authentication {
            algorithm: HmacAlgorithm::from_name("sha1").unwrap(),
            secret: secret.to_string(),
        }),
        ..NetOptions::default()
    };
    let mut w = World::pair(1, &with("FooFunFactory"));
    assert!(w.logged(0, "Peer authenticated using sha1 HMAC"));
    w.write_wait(0, 0, vec![1; 4096]);

    let mut w = World::new(2);
    w.up(0, &with("one"));
    w.up(1, &with("other"));
    // Neither has proved itself to the other, so neither stops: they try again and again, more and more slowly.
    w.run_ms(30_000);
    assert!((0..2).any(|i| w.logged(i, "Authentication of peer failed")));
    assert!((0..2).all(|i| w.nodes[i].state().conn < ConnState::WFReportParams));
    w.admin(1, Command::Disconnect { force: false }).unwrap();
    w.connect_with(1, with("one"));
    w.wait_conn(ConnState::Connected);
}
