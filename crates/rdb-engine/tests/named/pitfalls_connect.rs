//! Pitfalls of `docs/spec/wire.md`, section 14, on the way to a connection, in its states and in a resync's beginning.
//! A peer made by hand watches every packet.

use rdb_engine::config::NetOptions;
use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{Command, ConnEvent, ConnId, Event, LossCause};
use replica_proto::{
    AfterSb, BlockId, BlockRequest, ConnectionFeatures, Features, Packet, Socket, StateChange,
    StateWord, UuidFlags, WireProtocol,
};

use crate::lone::{Lone, Sent, block, names, with_secret};
use rdb_sim::scenario::{PLUS, code};
use rdb_sim::{V, World};

#[test]
fn pitfall_04_features_go_in_the_old_header_and_all_else_in_the_new_one() {
    let mut lone = Lone::new(5);
    lone.pair(false);
    let sent = lone.take();
    assert_eq!(names(&sent), ["P_CONNECTION_FEATURES"]);
    assert_eq!(sent[0].bytes[..4], [0x83, 0x74, 0x02, 0x67]);
    lone.give(Packet::ConnectionFeatures(ConnectionFeatures::OURS));
    for one in lone.take() {
        assert_eq!(one.bytes[..4], [0x86, 0x20, 0xec, 0x20]);
        assert_eq!(one.bytes[12..16], [0; 4], "the pad");
    }
}

#[test]
fn pitfall_05_sizes_are_extended_only_for_a_peer_that_knows() {
    for (features, body) in [
        (Features::all(), 56),
        (Features::all() & !Features::WSAME, 32),
    ] {
        let mut lone = Lone::new(6);
        lone.features.features = features;
        let sent = lone.meet();
        let sizes: Vec<_> = sent
            .iter()
            .filter(|s| matches!(s.packet, Packet::Sizes(_)))
            .map(|s| s.bytes.len() - 16)
            .collect();
        assert_eq!(sizes, [body]);
    }
}

#[test]
fn pitfall_06_resync_rates_are_ours_when_sent_and_the_peers_afterwards() {
    let mut lone = Lone::target(7, &[80]);
    let own = lone.w.disk_options.resync_rate_kib;
    assert!(own > 0);
    // (What was sent went by in the handshake: look at the next connection's.)
    lone.sync.resync_rate = 8_000;
    lone.sync.c_plan_ahead = 0;
    lone.lose(Socket::Data, 0);
    let sent = lone.meet();
    let params: Vec<_> = sent
        .iter()
        .filter_map(|s| match &s.packet {
            Packet::SyncParam(p) => Some((p.resync_rate, s.bytes.len() - 16)),
            _ => None,
        })
        .collect();
    // What the first connection's peer has told is gone with it; a zero never goes out.
    assert_eq!(params, [(own, 148)]);
    lone.give_bitmap(&[80]);
    lone.pump();
    lone.start_sync();
    lone.pump();
    lone.w.run_ms(200);
    let status = lone.w.nodes[0].resource.status(lone.w.now);
    assert_eq!(status.volumes[0].peer.sync.unwrap().want_kib, Some(8_000));
}

#[test]
fn pitfall_07_the_source_sends_its_bitmap_first_whole_and_the_target_answers_with_both() {
    let options = NetOptions {
        use_rle: false,
        ..NetOptions::default()
    };
    let chunks = |sent: &[Sent]| {
        let first = sent
            .iter()
            .position(|s| matches!(s.packet, Packet::Bitmap(_)));
        let mut map = Vec::new();
        let mut lengths = Vec::new();
        let on_data = |s: &&Sent| s.socket == Socket::Data;
        for one in sent[first.unwrap_or(sent.len())..].iter().filter(on_data) {
            match &one.packet {
                Packet::Bitmap(bytes) => {
                    lengths.push(bytes.len());
                    map.extend_from_slice(bytes);
                }
                other if lengths.last() == Some(&0) => drop(other.name()),
                other => panic!("{} within a bitmap", other.name()),
            }
        }
        (lengths, map)
    };
    // As source: without being asked, in whole chunks, and an empty one behind them.
    let mut lone = Lone::with(8, options.clone());
    lone.disk = DiskState::Inconsistent;
    let sent = lone.meet();
    assert_eq!(lone.is(), "WFBitMapS S/S U/I");
    let words = lone.size.div_ceil(8).div_ceil(64) as usize;
    let mut expected = vec![4080; words * 8 / 4080];
    expected.extend([words * 8 % 4080, 0]);
    assert_eq!(chunks(&sent).0, expected);
    // Nothing is cleared by what comes in: the peer's map is empty, then has a bit of its own.
    assert_eq!(lone.w.nodes[0].out_of_sync(), 0);
    lone.give_bitmap(&[800]);
    assert_eq!(lone.w.nodes[0].out_of_sync(), 1);
    // As target: not before the peer's is there, and then the union.
    let mut lone = Lone::with(9, options);
    let [c, _, h, _] = lone.uuids;
    lone.role = Role::Primary;
    lone.uuids = [0x77_0000, c, h, 0];
    assert_eq!(chunks(&lone.meet()).0, [0; 0]);
    assert_eq!(lone.is(), "WFBitMapT S/P O/U");
    lone.give(Packet::OutOfSync(block(1600)));
    lone.give_bitmap(&[80]);
    let (lengths, map) = chunks(&lone.pump());
    assert_eq!(lengths.last(), Some(&0));
    let bits: Vec<usize> = (0..map.len() * 8)
        .filter(|b| map[b / 8] & (1 << (b % 8)) != 0)
        .collect();
    assert_eq!(bits, [10, 200]);
    assert_eq!(lone.is(), "WFSyncUUID S/P O/U");
}

#[test]
fn pitfall_09_uuids_come_before_the_state() {
    let initial = [
        "P_PROTOCOL",
        "P_SYNC_PARAM89",
        "P_SIZES",
        "P_UUIDS",
        "P_STATE",
    ];
    let mut lone = Lone::new(12);
    lone.pair(false);
    lone.take();
    lone.give(Packet::ConnectionFeatures(ConnectionFeatures::OURS));
    assert_eq!(names(&lone.take()), initial);
    // The peer attaches late: what it knew of us is forgotten, so it is told again.
    let mut lone = Lone::new(13);
    lone.disk = DiskState::Diskless;
    lone.meet();
    assert_eq!(lone.is(), "Connected S/S U/D");
    lone.disk = DiskState::Negotiating;
    lone.give(lone.sizes());
    lone.give(lone.uuids());
    lone.give(lone.state(ConnState::Connected, DiskState::UpToDate));
    assert_eq!(names(&lone.pump()), ["P_UUIDS", "P_STATE"]);
    // We attach late.
    let mut lone = Lone::new(14);
    lone.meet();
    let detach = Command::Detach {
        volume: V,
        force: false,
    };
    lone.w.start_admin(0, detach);
    lone.pump();
    assert_eq!(lone.is(), "Connected S/S D/U");
    let attach = lone.w.attach_command(0, 0);
    lone.w.start_admin(0, attach);
    let sent = lone.pump();
    assert_eq!(names(&sent), ["P_SIZES", "P_UUIDS", "P_STATE"]);
    assert_eq!(sent[2].state().unwrap().disk, DiskState::Negotiating);
}

#[test]
fn pitfall_12_an_unknown_packet_on_meta_is_for_good_from_a_proven_peer_alone() {
    for (socket, secret, ends) in [
        (Socket::Meta, true, "StandAlone"),
        (Socket::Data, true, "WFConnection"),
        (Socket::Meta, false, "WFConnection"),
        (Socket::Data, false, "WFConnection"),
    ] {
        let options = if secret {
            with_secret()
        } else {
            NetOptions::default()
        };
        let mut lone = Lone::with(18, options);
        lone.role = Role::Primary;
        if secret {
            lone.prove(true);
        }
        lone.meet_on();
        assert_eq!(lone.is(), "Connected S/P U/U");
        lone.w.nodes[0].connected = false;
        let cause = LossCause::BadPacket {
            error: "unknown command 0x4711".into(),
            unknown_command: true,
        };
        lone.w.event(
            0,
            Event::Connection(ConnId::FIRST, ConnEvent::Lost { socket, cause }),
        );
        lone.w
            .until("an end", |w| w.nodes[0].state().conn.to_string() == ends);
    }
}

#[test]
fn pitfall_13_settings_that_must_agree_stop_the_node_for_a_proven_peer() {
    type Spoil = (&'static str, fn(&mut Lone));
    let spoils: [Spoil; 8] = [
        ("protocol", |l| l.protocol.protocol = WireProtocol::A),
        ("after-sb-0pri", |l| {
            l.protocol.after_sb_0p = AfterSb::DiscardLocal
        }),
        ("after-sb-1pri", |l| {
            l.protocol.after_sb_1p = AfterSb::Consensus
        }),
        ("after-sb-2pri", |l| {
            l.protocol.after_sb_2p = AfterSb::ViolentlyAs0p
        }),
        ("allow-two-primaries", |l| l.protocol.two_primaries = true),
        ("data-integrity-alg", |l| {
            l.protocol.integrity_alg = "crc32c".parse().unwrap()
        }),
        ("verify-alg", |l| l.sync.verify_alg = "md5".parse().unwrap()),
        ("csums-alg", |l| l.sync.csums_alg = "md5".parse().unwrap()),
    ];
    for (what, spoil) in spoils {
        // Anybody may claim to be the peer: one who has not proved it does not stop this node.
        for (secret, ends) in [(true, "StandAlone S/? U/-"), (false, "Unconnected S/? U/-")] {
            let options = if secret {
                with_secret()
            } else {
                NetOptions::default()
            };
            let mut lone = Lone::with(19, options);
            spoil(&mut lone);
            if secret {
                lone.prove(true);
            }
            lone.meet_on();
            assert_eq!(lone.is(), ends, "{what}");
            assert!(
                lone.w.logged(0, what),
                "{what}: {:?}",
                lone.w.nodes[0].log.last()
            );
        }
    }
    // What one calls local is remote to the other.
    let options = NetOptions {
        after_sb_0pri: rdb_engine::config::SplitBrainPolicy::DiscardLocal,
        ..NetOptions::default()
    };
    let mut lone = Lone::fresh(20, &options);
    lone.protocol.after_sb_0p = AfterSb::DiscardRemote;
    lone.meet();
    assert_eq!(lone.is(), "Connected S/S I/I");
}

#[test]
fn pitfall_14_a_failed_handshake_is_tried_again_after_a_second() {
    let mut lone = Lone::new(21);
    lone.pair(false);
    let start = lone.w.now;
    lone.lose(Socket::Data, 104);
    lone.io();
    assert!(!lone.w.nodes[0].connecting, "not at once");
    lone.w.until("another try", |w| w.nodes[0].connecting);
    let waited = lone.w.now.ms_since(start);
    assert!((900..=1_100).contains(&waited), "{waited} ms");
    // A peer that says nothing is given four ping-timeouts.
    lone.pair(false);
    let start = lone.w.now;
    lone.w.until("an end", |w| !w.nodes[0].connected);
    let waited = lone.w.now.ms_since(start);
    assert!((1_900..=2_100).contains(&waited), "{waited} ms");
    // An established connection is dialled again at once.
    let mut lone = Lone::secondary(22);
    lone.w.run_ms(2_000);
    lone.lose(Socket::Data, 104);
    lone.io();
    assert!(lone.w.nodes[0].connecting);
}

#[test]
fn pitfall_15_nothing_goes_over_meta_before_the_features_are_agreed() {
    let mut lone = Lone::new(23);
    lone.pair(true);
    lone.w.run_ms(1_500);
    let sent = lone.take();
    assert_eq!(names(&sent), ["P_CONNECTION_FEATURES"]);
    assert!(sent.iter().all(|s| s.socket == Socket::Data));
}

#[test]
fn pitfall_16_the_tie_breaker_is_who_accepted_the_meta_socket() {
    // Both were Primary when they crashed: who holds the flag is the target.
    for (holds, conn) in [(true, "WFBitMapT"), (false, "WFBitMapS")] {
        let (mut w, [c, h, g]) = World::settled(24);
        w.link = false;
        w.kill(0);
        w.boot(0);
        w.connect(0);
        let mut lone = Lone::take_over(w);
        assert_eq!(lone.w.gi(0), [c, 0, h, g]);
        lone.uuids = [c, 0, h, g];
        lone.flags = UuidFlags::CRASHED_PRIMARY;
        lone.pair(holds);
        lone.take();
        lone.give(Packet::ConnectionFeatures(lone.features));
        lone.give(Packet::Protocol(lone.protocol.clone()));
        lone.introduce(0);
        assert_eq!(lone.conn().to_string(), conn);
    }
}

#[test]
fn pitfall_18_consistent_and_outdated_are_up_to_date_when_connected() {
    for disk in [DiskState::Consistent, DiskState::Outdated] {
        let mut lone = Lone::new(25);
        lone.disk = disk;
        lone.meet();
        assert_eq!(lone.is(), "Connected S/S U/U");
    }
    // While it prepares to be target, a disk of ours is Outdated, and Inconsistent from SyncTarget on.
    let mut lone = Lone::target(26, &[80]);
    lone.start_sync();
    lone.io();
    assert_eq!(lone.is(), "SyncTarget S/P I/U");
    assert_eq!(Lone::source(27, &[80]).is(), "SyncSource S/S U/I");
}

#[test]
fn pitfall_23_every_move_of_the_uuids_around_a_resync() {
    // As target: the sync UUID is taken over without history, and at the end the source's own moves are made here.
    let mut lone = Lone::target(34, &[80]);
    let [_, _, h, g] = lone.w.gi(0);
    let [c, b, ph, pg] = lone.uuids;
    let sync = lone.start_sync();
    lone.io();
    assert_eq!(lone.w.gi(0), [sync, 0, h, g]);
    assert_eq!(
        lone.w.nodes[0].superblock().uuids[0],
        sync,
        "bit 0 is clear"
    );
    let request = lone.take().iter().find_map(Sent::resync_request).unwrap();
    lone.resync_reply(&request, 1);
    lone.pump();
    assert_eq!((ph, pg), (h, 0));
    assert_eq!(lone.w.gi(0), [c, 0, sync, b], "bm, S and then the rotation");
    // As source: the old bitmap UUID goes into the history, and then the sync UUID.
    let (w, [c, h, g]) = World::settled(35);
    let mut lone = Lone::take_over(w);
    let [n, bm, _, _] = lone.w.gi(0);
    assert_eq!((bm, lone.uuids), (c, [c, 0, h, g]));
    let sent = lone.meet();
    assert!(
        sent.iter()
            .all(|s| !matches!(s.packet, Packet::SyncUuid(_)))
    );
    assert_eq!(lone.is(), "WFBitMapS P/S U/C");
    lone.give_bitmap(&[]);
    let sent = lone.pump();
    assert_eq!(names(&sent), ["P_SYNC_UUID"]);
    let Packet::SyncUuid(uuid) = sent[0].packet else {
        unreachable!()
    };
    assert_eq!(uuid & !1, c + PLUS);
    assert_eq!(lone.w.gi(0), [n, c + PLUS, c, h]);
    lone.disk = DiskState::UpToDate;
    lone.give(lone.state(ConnState::Connected, DiskState::UpToDate));
    lone.pump();
    assert_eq!(lone.is(), "Connected P/S U/U");
    assert_eq!(lone.w.gi(0), [n, 0, c + PLUS, c]);
    assert_eq!(
        lone.w.nodes[0].superblock().uuids[0] & 1,
        1,
        "a Primary's bit 0"
    );
}

#[test]
fn pitfall_24_a_request_is_answered_in_every_connected_state() {
    let ask = StateChange {
        mask: StateWord(0x3),
        val: StateWord(1),
    };
    let mut bitmap_s = Lone::new(36);
    bitmap_s.disk = DiskState::Inconsistent;
    bitmap_s.meet();
    let mut bitmap_t = Lone::new(37);
    let [c, _, h, _] = bitmap_t.uuids;
    bitmap_t.uuids = [0x77_0000, c, h, 0];
    bitmap_t.meet();
    let sync_uuid = Lone::target(38, &[80]);
    let mut target = Lone::target(39, &[80]);
    target.start_sync();
    target.pump();
    let mut connected = Lone::new(40);
    connected.meet();
    for (conn, mut lone) in [
        ("WFBitMapS", bitmap_s),
        ("WFBitMapT", bitmap_t),
        ("WFSyncUUID", sync_uuid),
        ("SyncTarget", target),
        ("SyncSource", Lone::source(41, &[80])),
        ("Connected", connected),
    ] {
        assert_eq!(lone.conn().to_string(), conn);
        lone.give(Packet::StateChgReq(ask));
        let answers = lone.pump();
        let answers = answers
            .iter()
            .filter(|s| matches!(s.packet, Packet::StateChgReply(_)));
        assert_eq!(answers.count(), 1, "{conn}");
    }
}

#[test]
fn pitfall_24_crossing_requests_are_refused_by_the_holder_of_the_flag_alone() {
    for holds in [true, false] {
        let mut lone = Lone::new(42);
        lone.pair(holds);
        lone.take();
        lone.give(Packet::ConnectionFeatures(lone.features));
        lone.give(Packet::Protocol(lone.protocol.clone()));
        lone.introduce(0);
        lone.pump();
        let primary = Command::Primary {
            volume: V,
            force: false,
        };
        let id = lone.w.start_admin(0, primary);
        lone.give(Packet::PingAck);
        let sent = lone.take();
        assert!(
            names(&sent).contains(&"P_STATE_CHG_REQ"),
            "{:?}",
            names(&sent)
        );
        lone.give(Packet::StateChgReq(StateChange {
            mask: StateWord(0x3),
            val: StateWord(1),
        }));
        let sent = lone.take();
        let reply = sent.iter().find_map(|s| match s.packet {
            Packet::StateChgReply(code) => Some(code),
            _ => None,
        });
        assert_eq!(reply, Some(if holds { -19 } else { 1 }));
        // The peer's answer to ours: it has become Primary, or gives way.
        lone.give(Packet::StateChgReply(if holds { 1 } else { -1 }));
        lone.w.run_ms(2_000);
        lone.pump();
        let result = lone.w.nodes[0].admin.remove(&id).expect("an answer");
        if holds {
            assert_eq!((result, lone.is().as_str()), (Ok(()), "Connected P/S U/U"));
        } else {
            assert!([-1, -10].contains(&code(result)));
            assert_eq!(lone.is(), "Connected S/P U/U");
        }
    }
}

#[test]
fn pitfall_26_the_answer_to_a_disconnect_is_sent_before_the_end() {
    let mut lone = Lone::new(43);
    lone.meet();
    lone.give(Packet::ConnStChgReq(StateChange {
        mask: StateWord(0x1f0),
        val: StateWord(0x10),
    }));
    let sent = lone.take();
    assert!(
        matches!(
            sent[..],
            [Sent {
                packet: Packet::ConnStChgReply(1),
                ..
            }]
        ),
        "{sent:?}"
    );
    assert!(!lone.w.nodes[0].connected);
    lone.w.node_is(0, "WFConnection S/? U/-");
}

#[test]
fn pitfall_31_a_sync_uuid_is_sent_when_the_target_waits_for_it() {
    // As source: not before the target's bitmap is there, so that it is in WFSyncUUID.
    let mut lone = Lone::new(46);
    lone.disk = DiskState::Inconsistent;
    let mut sent = lone.meet();
    lone.w.run_ms(5_000);
    sent.extend(lone.pump());
    assert!(!names(&sent).contains(&"P_SYNC_UUID"));
    lone.give_bitmap(&[]);
    assert_eq!(names(&lone.pump()), ["P_SYNC_UUID"]);
    // As target: one that comes early stops nothing, and counts when it is time.
    let mut lone = Lone::new(47);
    let [c, _, h, _] = lone.uuids;
    lone.uuids = [0x77_0000, c, h, 0];
    lone.meet();
    assert_eq!(lone.conn(), ConnState::WFBitMapT);
    let sync = lone.start_sync();
    lone.give(Packet::Ping);
    assert!(names(&lone.take()).contains(&"P_PING_ACK"));
    assert_ne!(lone.w.gi(0)[0], sync);
    lone.give_bitmap(&[80]);
    lone.pump();
    assert_eq!(lone.is(), "SyncTarget S/S I/U");
    assert_eq!(lone.w.gi(0)[0], sync);
    // A stray one changes nothing.
    let mut lone = Lone::new(48);
    lone.meet();
    let ids = lone.w.gi(0);
    lone.give(Packet::SyncUuid(0x5555_0000));
    lone.pump();
    assert_eq!(lone.w.gi(0), ids);
}

#[test]
fn pitfall_33_a_late_decision_is_signalled_by_the_state() {
    // Both Inconsistent and Connected: the peer is forced, and decides; its P_STATE says WFBitMapS.
    let mut lone = Lone::fresh(50, &NetOptions::default());
    lone.meet();
    assert_eq!(lone.is(), "Connected S/S I/I");
    lone.role = Role::Primary;
    lone.disk = DiskState::UpToDate;
    lone.uuids = [0x99_0001, 4, 0, 0];
    lone.give(Packet::StateChgReq(StateChange {
        mask: StateWord(0x1e03),
        val: StateWord(0x1001),
    }));
    assert_eq!(names(&lone.pump()), ["P_STATE_CHG_REPLY"]);
    lone.give(lone.uuids());
    lone.give(lone.state(ConnState::Connected, DiskState::Inconsistent));
    let sent = lone.pump();
    assert_eq!(lone.is(), "WFBitMapT S/P I/U");
    assert_eq!(
        names(&sent),
        ["P_UUIDS", "P_STATE"],
        "so that the peer decides, too"
    );
    assert_eq!(sent[1].state().unwrap().conn, ConnState::WFBitMapT);
    // Whoever is Connected and hears 13 decides anew.
    let mut lone = Lone::new(51);
    lone.meet();
    let [c, _, h, _] = lone.uuids;
    lone.uuids = [0x77_0000, c, h, 0];
    lone.give(lone.uuids());
    lone.give(lone.state(ConnState::WFBitMapS, DiskState::UpToDate));
    lone.pump();
    assert_eq!(lone.conn(), ConnState::WFBitMapT);
    // In a resync decided by both at once no such state is sent to a peer that is Connected already.
    let mut lone = Lone::new(52);
    lone.disk = DiskState::Inconsistent;
    let mut sent = lone.meet();
    lone.give_bitmap(&[80]);
    sent.extend(lone.pump());
    let told: Vec<_> = sent
        .iter()
        .filter_map(Sent::state)
        .map(|s| s.conn)
        .collect();
    assert_eq!(told, [ConnState::WFConnection, ConnState::WFBitMapS]);
}

/// The source asks for a change that ends the resync, and does not make it: the target's old data are not taken for new ones.
#[test]
fn a_resync_that_only_the_source_goes_on_with_is_decided_anew() {
    let mut lone = Lone::target(31, &[80]);
    let change = StateChange {
        mask: StateWord(0x1e00),
        val: StateWord(2 << 9),
    };
    lone.give(Packet::StateChgReq(change));
    let sent = lone.pump();
    assert_eq!(names(&sent), ["P_STATE_CHG_REPLY"]);
    assert_eq!(lone.is(), "Connected S/P O/F");
    lone.start_sync();
    lone.give(lone.state(ConnState::SyncSource, DiskState::Inconsistent));
    assert_eq!(lone.w.nodes[0].state().disk, DiskState::Outdated);
    assert!(lone.w.logged(0, "connecting anew"));
    assert!(lone.conn() < ConnState::WFReportParams);
}

/// Told before the sync UUID came to the target, which says no more when it begins.
#[test]
fn a_target_that_begins_is_inconsistent_also_while_the_source_pauses() {
    for conn in [ConnState::StartingSyncT, ConnState::WFSyncUUID] {
        let mut lone = Lone::source(32, &[80]);
        lone.w.admin(0, Command::PauseSync { volume: V }).unwrap();
        assert_eq!(lone.is(), "PausedSyncS S/S U/I");
        lone.disk = DiskState::Outdated;
        lone.give(lone.state(conn, DiskState::UpToDate));
        assert_eq!(lone.is(), "PausedSyncS S/S U/I", "{conn}");
    }
}

/// The detach that asked has come to its end, for the disk failed meanwhile: the answer is none of a wrong peer.
#[test]
fn the_answer_to_a_command_that_has_ended_is_heard() {
    let mut lone = Lone::secondary(33);
    let detach = Command::Detach {
        volume: V,
        force: false,
    };
    let id = lone.w.start_admin(0, detach);
    assert_eq!(names(&lone.take()), ["P_STATE_CHG_REQ"]);
    lone.w.nodes[0].read_errors = true;
    lone.give(Packet::DataRequest(BlockRequest {
        sector: 80,
        block_id: BlockId::from_u64(7),
        bytes: 4096,
    }));
    lone.pump();
    assert_eq!(lone.w.nodes[0].admin.remove(&id), Some(Ok(())));
    assert_eq!(lone.is(), "Connected S/P D/U");
    lone.give(Packet::StateChgReply(1));
    assert_eq!(lone.is(), "Connected S/P D/U");
    // It has made the change of a command that is over: it hears how things are.
    assert_eq!(names(&lone.pump()), ["P_STATE"]);
    lone.give(Packet::StateChgReply(1));
    assert!(
        lone.w
            .logged(0, "an answer (1) to a question that was not asked")
    );
}
