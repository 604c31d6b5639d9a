//! The kinds of failure that replication has met before, each as a story by name; and what a resync may copy.

use rdb_engine::config::NetOptions;
use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{Command, RequestError, RequestKind};
use replica_proto::{BlockAck, BlockId, BlockRequest, Packet, Socket, StateChange, StateWord};

use crate::lone::{Lone, names};
use rdb_sim::scenario::PLUS;
use rdb_sim::{Op, Pending, V, World};

#[test]
fn a_write_races_a_short_resync() {
    for seed in 0..60 {
        let (mut w, _) = World::settled(seed);
        w.cut();
        w.write_blocks(0, [80], 3);
        w.heal();
        for _ in 0..w.rng.below(160) {
            w.step();
        }
        // The same block, again and again, from before the handshake to after the end.
        for n in 0..6 {
            let data = vec![0x10 + n; 4096];
            w.write(0, 80, data);
            for _ in 0..w.rng.below(12) {
                w.tick();
            }
        }
        w.ends_well();
        assert_eq!(
            w.nodes[1].disks[0].read(80, 4096),
            [0x15; 4096],
            "seed {seed}"
        );
    }
}

#[test]
fn discards_during_a_resync() {
    for seed in 0..40 {
        let (mut w, _) = World::settled(seed);
        w.cut();
        w.write_blocks(0, (0..40).map(|n| n * 8), 3);
        w.heal();
        w.node_is(0, "SyncSource P/S U/I");
        for n in 0..6 {
            let sector = w.rng.below(300);
            let bytes = 512 * (1 + w.rng.below(64) as u32);
            let kind = match n % 3 {
                0 => RequestKind::Discard,
                1 => RequestKind::WriteZeroes { may_unmap: true },
                _ => RequestKind::WriteZeroes { may_unmap: false },
            };
            w.submit(0, sector, bytes, kind);
            for _ in 0..w.rng.below(30) {
                w.tick();
            }
        }
        w.ends_well();
    }
}

/// The target has come to the end of a resync, and carries the source's generation `n`; the source does not know.
fn end_unseen_by_the_source(seed: u64) -> (World, u64, u64) {
    let (mut w, [c, ..]) = World::settled(seed);
    w.cut();
    w.write_blocks(0, [80], 3);
    let n = w.gi(0)[0];
    w.heal();
    w.until("the target's end on record", |w| {
        w.is(1) == "Connected S/P U/U" && w.nodes[1].durable_gi()[0] == n
    });
    assert_eq!(w.is(0), "SyncSource P/S U/I");
    w.cut();
    w.quiet();
    assert_eq!((w.gi(0)[1], w.gi(1)[1]), (c + PLUS, 0));
    (w, n, c)
}

#[test]
fn what_a_source_writes_after_an_end_unseen_is_synced_and_nothing_else() {
    for seed in 0..8 {
        let (mut w, n, _) = end_unseen_by_the_source(seed);
        // The source does not write on under the name that both carry now.
        w.write_blocks(0, [8000], 4);
        assert_eq!(
            w.gi(0)[3],
            n,
            "its bitmap UUID stays, and the shared name is the oldest"
        );
        w.copied(0);
        w.heal();
        w.ends_well();
        assert_eq!(w.copied(0), 4096);
        assert_eq!(w.nodes[1].disks[0].read(8000, 4096), [4; 4096]);
    }
}

#[test]
fn what_both_write_after_an_end_unseen_is_a_split_brain() {
    for seed in 0..8 {
        let (mut w, _, _) = end_unseen_by_the_source(seed);
        w.write_blocks(0, [8000], 4);
        w.models[0].foreign = true;
        w.primary(1, false).unwrap();
        w.write_blocks(1, [8000, 80], 5);
        w.heal();
        w.refused();
        assert_eq!(w.nodes[0].disks[0].read(8000, 4096), [4; 4096]);
        assert_eq!(w.nodes[1].disks[0].read(8000, 4096), [5; 4096]);
    }
}

#[test]
fn a_stale_survivor_that_was_promoted_overwrites_nothing_newer() {
    for seed in 0..8 {
        let (mut w, _) = World::settled(seed);
        w.cut();
        w.node_is(0, "WFConnection P/? U/-");
        w.write_blocks(0, [80], 0xa0);
        w.flush(0);
        w.off(0);
        w.models[0].foreign = true;
        w.primary(1, false).unwrap();
        // It may even be demoted, and die, before the other is back.
        if seed % 2 == 0 {
            w.secondary(1).unwrap();
        }
        if seed % 4 < 2 {
            w.off(1);
            w.boot(1);
            w.connect(1);
        }
        w.boot(0);
        w.heal();
        w.connect(0);
        w.refused();
        assert_eq!(w.nodes[0].disks[0].read(80, 4096), [0xa0; 4096]);
    }
}

#[test]
fn equal_generations_with_bits_set_keep_their_bits() {
    // A verify has found a block that differs; nothing repairs it.
    let options = NetOptions {
        verify_alg: "crc32c".into(),
        ..NetOptions::default()
    };
    let mut lone = Lone::with(1, options);
    lone.sync.verify_alg = "crc32c".parse().unwrap();
    lone.role = Role::Primary;
    lone.meet();
    lone.give(Packet::StateChgReq(StateChange {
        mask: StateWord(0x1f0),
        val: StateWord(0x120),
    }));
    lone.give(Packet::OvRequest(BlockRequest {
        sector: 800,
        block_id: BlockId::SYNCER,
        bytes: 4096,
    }));
    lone.pump();
    lone.give(Packet::OvResult(BlockAck {
        sector: 800,
        block_id: BlockId::OUT_OF_SYNC,
        bytes: 4096,
        seq_num: 1,
    }));
    lone.give(lone.state(ConnState::Connected, DiskState::UpToDate));
    lone.pump();
    assert_eq!(lone.is(), "Connected S/P U/U");
    lone.lose(Socket::Data, 0);
    lone.role = Role::Secondary;
    lone.bits = 1;
    lone.meet();
    assert_eq!(lone.is(), "Connected S/S U/U");
    assert!(lone.w.logged(0, "No resync, but 1 bits in bitmap!"));
    assert_eq!(lone.w.nodes[0].out_of_sync(), 1);
    // The next generation that differs takes them along.
    let mut lone = lone.promoted_again();
    lone.lose(Socket::Data, 0);
    lone.meet();
    assert_eq!(lone.is(), "WFBitMapS P/S U/C");
    lone.give_bitmap(&[]);
    lone.pump();
    assert_eq!(lone.w.nodes[0].out_of_sync(), 1);
    assert_eq!(lone.is(), "SyncSource P/S U/I");
}

#[test]
fn a_generation_that_a_diskless_primary_never_heard_of_is_refused() {
    let (mut w, [c, ..]) = World::settled(2);
    w.nodes[0].record = Some(Vec::new());
    w.start_admin(
        0,
        Command::Detach {
            volume: V,
            force: true,
        },
    );
    // The peer makes a new generation; its name is lost with the link.
    w.until("the peer's new generation", |w| w.gi(1)[0] != c);
    w.cut();
    w.run_ms(1_000);
    w.heal();
    w.until("a refusal, or the same data", |w| {
        w.is(0) == "StandAlone P/? D/-" || w.is(0) == "Connected P/S D/U"
    });
    if w.is(0).starts_with("StandAlone") {
        assert!(w.logged(0, "Can only connect to data with current UUID="));
        assert_eq!(w.read(0, 0, 4096).unwrap_err(), RequestError::Io);
    } else {
        assert_eq!(w.read(0, 0, 4096).unwrap(), [1; 4096]);
    }
}

#[test]
fn handshake_events_in_any_order() {
    for seed in 0..150 {
        let (mut w, _) = World::settled(seed);
        w.cut();
        w.write_blocks(0, [80, 160], 3);
        w.heal();
        for _ in 0..w.rng.below(90) {
            w.tick();
        }
        let i = w.rng.below(2) as usize;
        let volume = V;
        match w.rng.below(7) {
            0 => w.cut_raggedly(),
            1 => drop(w.start_admin(
                0,
                Command::Secondary {
                    volume,
                    held_open: false,
                },
            )),
            2 => drop(w.start_admin(
                1,
                Command::Detach {
                    volume,
                    force: false,
                },
            )),
            // (Earlier it would be a split brain that the administrator wants.)
            3 if w.nodes[1].state().conn > rdb_engine::state::ConnState::WFConnection => {
                _ = w.start_admin(
                    1,
                    Command::Primary {
                        volume,
                        force: false,
                    },
                );
            }
            3 | 4 => drop(w.start_admin(i, Command::Disconnect { force: false })),
            5 => drop(w.start_admin(0, Command::PauseSync { volume })),
            _ => w.kill(1),
        }
        for _ in 0..w.rng.below(60) {
            w.tick();
        }
        w.heal();
        w.run_ms(3_000);
        for i in 0..2 {
            if w.nodes[i].resource.status(w.now).volumes.is_empty() {
                w.boot(i);
            }
            if w.is(i).starts_with("StandAlone") {
                w.connect(i);
            }
            if w.nodes[i].state().disk == rdb_engine::state::DiskState::Diskless {
                w.attach(i).unwrap();
            }
        }
        if w.nodes[0].state().user_isp {
            w.admin(0, Command::ResumeSync { volume }).unwrap();
        }
        w.ends_well();
    }
}

#[test]
fn a_resync_after_a_crash_copies_hot_extents_and_marked_blocks_only() {
    for seed in 0..3 {
        let mut w = World::large_pair(seed, 80 * 8192, &NetOptions::default());
        w.write_blocks(0, [2, 5, 9].map(|extent| extent * 8192 + 80), 1);
        w.quiet();
        w.kill(0);
        w.node_is(1, "WFConnection S/? U/-");
        w.primary(1, false).unwrap();
        // Two blocks in an extent that is hot at the crashed node, three in one that is not.
        w.write_blocks(1, [2 * 8192, 2 * 8192 + 8], 2);
        w.write_blocks(1, [20, 21, 22].map(|n| n * 8192), 2);
        w.boot(0);
        assert_eq!(w.nodes[0].out_of_sync(), 3 * 1024);
        w.copied(1);
        let written = w.nodes[0].disks[0].written_bytes;
        w.connect(0);
        w.ends_well();
        let expected = (3 * 1024 + 3) * 4096;
        assert_eq!(w.copied(1), expected);
        assert_eq!(w.nodes[0].disks[0].written_bytes - written, expected);
        assert_eq!(w.nodes[0].state().conn, ConnState::Connected);
    }
}

#[test]
fn a_forced_disconnect_does_not_wait_for_a_peer_that_never_answers() {
    let mut lone = Lone::new(60);
    lone.meet();
    let promote = Command::Primary {
        volume: V,
        force: false,
    };
    let asking = lone.w.start_admin(0, promote);
    lone.io();
    assert_eq!(names(&lone.take()), ["P_PING"]);
    lone.give(Packet::PingAck);
    lone.io();
    assert_eq!(names(&lone.take()), ["P_STATE_CHG_REQ"]);
    let leave = Command::Disconnect { force: true };
    let leaving = lone.w.start_admin(0, leave);
    lone.io();
    lone.w.run_ms(1000);
    assert_eq!(lone.conn(), ConnState::StandAlone);
    assert_eq!(lone.w.nodes[0].admin.remove(&leaving), Some(Ok(())));
    // What was asked is decided without the peer.
    assert_eq!(lone.w.nodes[0].admin.remove(&asking), Some(Ok(())));
    assert_eq!(lone.w.nodes[0].state().role, Role::Primary);
}

#[test]
fn a_peer_that_asks_without_end_is_left() {
    let mut lone = Lone::secondary(61);
    lone.w.nodes[0].hold_data = true;
    for n in 1..=(1 << 16) {
        lone.give(Packet::DataRequest(BlockRequest {
            sector: 800,
            block_id: BlockId::from_u64(n),
            bytes: 4096,
        }));
    }
    assert_eq!(lone.conn(), ConnState::Connected);
    lone.give(Packet::DataRequest(BlockRequest {
        sector: 800,
        block_id: BlockId::from_u64(0x1_0001),
        bytes: 4096,
    }));
    lone.w.nodes[0].hold_data = false;
    lone.io();
    assert!(lone.conn() < ConnState::Connected, "{}", lone.is());
}

/// It had asked whether its disk may go, and says some time later that it is there. What was written meanwhile it lacks.
#[test]
fn a_disk_that_comes_back_without_an_attach_is_compared() {
    let mut lone = Lone::primary(62);
    lone.give(Packet::StateChgReq(StateChange {
        mask: StateWord(0x1e00),
        val: StateWord(0x0400),
    }));
    lone.pump();
    assert_eq!(lone.is(), "Connected P/S U/F");
    assert!(lone.w.write_wait(0, 80, vec![7; 4096]));
    lone.give(lone.state(ConnState::Connected, DiskState::UpToDate));
    assert!(lone.w.logged(0, "is there after all: connecting anew"));
    lone.w.nodes[0].connected = false;
    lone.meet();
    assert_eq!(lone.is(), "WFBitMapS P/S U/C");
}

/// Two disks were attached at the same time, and what one node decided with had changed meanwhile.
#[test]
fn two_sides_that_both_want_to_send_or_to_receive_connect_anew() {
    let mut source = Lone::new(63);
    source.disk = DiskState::Inconsistent;
    source.meet();
    assert_eq!(source.is(), "WFBitMapS S/S U/I");
    let mut target = Lone::new(64);
    let [c, _, h, _] = target.uuids;
    target.uuids = [0x1234_5678_0000, c, h, 0];
    target.meet();
    assert_eq!(target.is(), "WFBitMapT S/S O/U");
    for mut lone in [source, target] {
        lone.disk = DiskState::UpToDate;
        lone.give(lone.state(lone.conn(), DiskState::UpToDate));
        assert!(
            lone.w
                .logged(0, "the same side of a resync: connecting anew")
        );
        assert!(lone.conn() < ConnState::Connected);
        assert_eq!(lone.w.nodes[0].resource.refused(), 0);
    }
}

#[test]
fn a_flush_during_a_detach_rests_on_the_peer_when_the_disk_has_gone() {
    let (mut w, _) = World::settled(90);
    w.hold_net = true;
    let write = w.write(0, 80, vec![3; 4096]);
    let detach = w.start_admin(
        0,
        Command::Detach {
            volume: V,
            force: false,
        },
    );
    let flush = w.submit(0, 0, 0, RequestKind::Flush);
    while w.step() {}
    assert!(!w.nodes[0].completed.contains_key(&flush));
    w.hold_net = false;
    w.wait_done(0, flush).expect("the peer has everything");
    w.wait_done(0, write).expect("the peer has it");
    w.until("the detach", |w| w.nodes[0].admin.contains_key(&detach));
    assert_eq!(w.is(0), "Connected P/S D/U");
    assert_eq!(w.nodes[1].disks[0].read(80, 4096), [3; 4096]);
}

#[test]
fn what_a_resync_has_brought_is_not_lost_with_the_peer() {
    let (mut w, _) = World::settled(91);
    w.detach(0, false).unwrap();
    w.write_blocks(0, [80, 160, 240], 4);
    w.attach(0).unwrap();
    w.node_is(0, "SyncTarget P/S I/U");
    w.write_blocks(0, [480], 4); // its extent is in the log
    let is_flush = |pending: &Pending| matches!(pending.op, Op::Flush { .. });
    w.until("the end", |w| w.nodes[0].pending.iter().any(is_flush));
    let end = w.nodes[0].pending.iter().position(is_flush).unwrap();
    let end = w.nodes[0].pending.remove(end);
    // Both have this before the end, and its barrier is not acknowledged.
    assert!(w.write_wait(0, 400, vec![5; 4096]));
    assert_eq!(w.is(0), "SyncTarget P/S I/U");
    w.nodes[0].pending.push(end);
    w.node_is(0, "Connected P/S U/U");
    w.cut();
    let flush = w.submit(0, 0, 0, RequestKind::Flush);
    w.wait_done(0, flush).expect("our disk has everything");
    w.heal();
    w.ends_well();
}
