//! Net options that both nodes have to know, changed while they are connected (docs/spec/behaviour.md, section 7.8).

mod lone;

use std::rc::Rc;

use lone::{Lone, Sent, names};
use rdb_engine::config::{NetOptions, Protocol, SplitBrainPolicy};
use rdb_engine::rules::trouble::Trouble;
use rdb_engine::state::{ConnState, DiskState};
use rdb_engine::{AdminError, Command, ConnEvent, ConnId, Event, Payload, RequestKind};
use rdb_sim::{Data, World};
use replica_proto::{
    AfterSb, AlgorithmName, BlockRequest, ConnFlags, DigestAlgorithm, DpFlags, Features, Packet,
    WireProtocol,
};

fn by(protocol: Protocol) -> NetOptions {
    NetOptions {
        protocol,
        ..NetOptions::default()
    }
}

fn change(w: &mut World, i: usize, options: &NetOptions) -> Result<(), AdminError> {
    let options = options.clone();
    w.admin(i, Command::NetOptions { options })
}

/// The same by a node whose peer is played by hand; what it tells the peer.
fn tell(lone: &mut Lone, options: &NetOptions) -> (Option<Result<(), AdminError>>, Vec<Sent>) {
    let options = options.clone();
    let id = lone.w.start_admin(0, Command::NetOptions { options });
    let sent = lone.pump();
    (lone.w.nodes[0].admin.remove(&id), sent)
}

fn code(result: Option<Result<(), AdminError>>) -> Option<u16> {
    match result? {
        Err(AdminError::Refused { code, .. }) => Some(code),
        _ => None,
    }
}

/// A Primary whose write is on its way.
fn writing(lone: &mut Lone, value: u8) -> (u64, replica_proto::DataHeader) {
    let id = lone.w.write(0, 80 * u64::from(value), vec![value; 4096]);
    let sent = lone.pump();
    let header = sent.iter().find_map(Sent::data_header);
    (id, header.expect("the write"))
}

fn differs(w: &World, i: usize) -> Option<String> {
    let status = w.nodes[i].resource.status(w.now);
    let trouble = status.connection.trouble?;
    assert_eq!(trouble.kind, Trouble::Settings);
    Some(trouble.text)
}

/// `adjust` on one node after the other, with users.
#[test]
fn a_pair_changes_its_protocol_under_load() {
    let all = [Protocol::A, Protocol::B, Protocol::C];
    for (from, to) in all
        .into_iter()
        .flat_map(|from| all.map(|to| (from, to)))
        .filter(|(from, to)| from != to)
    {
        let mut w = World::pair(1, &by(from));
        let mut open = Vec::new();
        for n in 0..60 {
            open.push(w.write(0, n % 7 * 64, vec![n as u8; 4096]));
            if n % 20 == 10 {
                let i = usize::from(n == 30);
                change(&mut w, i, &by(to)).unwrap();
                assert_eq!(
                    w.nodes[i].resource.status(w.now).connection.protocol,
                    Some(to)
                );
            }
        }
        for id in open {
            w.wait_done(0, id).unwrap();
        }
        w.quiet();
        assert!(w.disks_equal(), "{from:?} {to:?}");
        assert_eq!((differs(&w, 0), differs(&w, 1)), (None, None));
        // They connect again.
        w.cut();
        w.heal();
        w.until("they connect again", |w| {
            (0..2).all(|i| w.nodes[i].state().conn == ConnState::Connected)
        });
    }
}

/// Between the two the next connection would be refused, and both `status` say so.
#[test]
fn settings_that_differ_are_told_while_connected() {
    let mut w = World::pair(2, &by(Protocol::C));
    change(&mut w, 0, &by(Protocol::A)).unwrap();
    w.quiet();
    let text = differs(&w, 1).expect("it has heard");
    assert!(
        text.contains("protocol settings: here C, on the peer A"),
        "{text}"
    );
    let text = differs(&w, 0).expect("it knows that rdb takes nothing over");
    assert!(
        text.contains("protocol settings: here A, on the peer C"),
        "{text}"
    );
    w.write_wait(0, 0, vec![1; 4096]);
    assert_eq!(w.nodes[0].state().conn, ConnState::Connected);
    change(&mut w, 1, &by(Protocol::A)).unwrap();
    w.quiet();
    assert_eq!((differs(&w, 0), differs(&w, 1)), (None, None));
    assert!(w.logged(0, "both nodes go by the same settings again"));
}

/// Who makes them equal one by one has to know of each.
#[test]
fn all_settings_that_differ_are_told_at_once() {
    let mut w = World::pair(2, &by(Protocol::C));
    let other = NetOptions {
        after_sb_1pri: SplitBrainPolicy::Consensus,
        verify_alg: "sha1".to_owned(),
        ..by(Protocol::A)
    };
    change(&mut w, 0, &other).unwrap();
    w.quiet();
    let told = "protocol settings: here C, on the peer A; \
                after-sb-1pri settings: here disconnect, on the peer consensus; \
                verify-alg settings: here none, on the peer sha1";
    let text = differs(&w, 1).expect("it has heard");
    assert!(text.contains(told), "{text}");
    // The next handshake names what P_PROTOCOL has in one go, too.
    w.cut();
    w.heal();
    w.until("the connection is refused", |w| {
        w.logged(
            1,
            "incompatible protocol settings: here C, on the peer A; after-sb-1pri settings",
        )
    });
}

/// What is under way is answered as it was asked for; what follows goes by the new protocol.
#[test]
fn each_write_goes_by_the_protocol_of_its_time() {
    let mut lone = Lone::primary(3);
    let (by_c, header) = writing(&mut lone, 1);
    assert!(header.flags.contains(DpFlags::SEND_WRITE_ACK));
    let (done, sent) = tell(&mut lone, &by(Protocol::A));
    assert_eq!(done, Some(Ok(())));
    assert_eq!(names(&sent), ["P_PROTOCOL_UPDATE"]);
    let (by_a, second) = writing(&mut lone, 2);
    assert!(
        !second
            .flags
            .intersects(DpFlags::SEND_WRITE_ACK | DpFlags::SEND_RECEIVE_ACK)
    );
    lone.w.run_ms(100);
    assert!(lone.w.nodes[0].completed.contains_key(&by_a));
    assert!(!lone.w.nodes[0].completed.contains_key(&by_c));
    // A barrier's answer stands for the second, never for the first.
    let ack = lone.ack(&header, 4096);
    lone.give(Packet::WriteAck(ack));
    lone.w.wait_done(0, by_c).unwrap();
    let (by_c, third) = {
        let (done, _) = tell(&mut lone, &by(Protocol::C));
        assert_eq!(done, Some(Ok(())));
        writing(&mut lone, 3)
    };
    assert!(third.flags.contains(DpFlags::SEND_WRITE_ACK));
    lone.w.run_ms(100);
    assert!(!lone.w.nodes[0].completed.contains_key(&by_c));
    assert_eq!(lone.is(), "Connected P/S U/U");
}

/// The layout is P_PROTOCOL's; the driver takes it over, so that nothing differs here.
#[test]
fn the_driver_is_told_and_takes_it_over() {
    let mut lone = Lone::new(4);
    lone.features.features = Features::all();
    let mut lone = lone.promoted();
    let options = NetOptions {
        protocol: Protocol::B,
        after_sb_0pri: SplitBrainPolicy::DiscardLocal,
        after_sb_1pri: SplitBrainPolicy::Consensus,
        ..NetOptions::default()
    };
    let (done, sent) = tell(&mut lone, &options);
    assert_eq!(done, Some(Ok(())));
    let [
        Sent {
            packet: Packet::ProtocolUpdate(params),
            ..
        },
    ] = sent.as_slice()
    else {
        panic!("{:?}", names(&sent));
    };
    assert_eq!(params.protocol, WireProtocol::B);
    assert_eq!(params.after_sb_0p, AfterSb::DiscardLocal);
    assert_eq!(params.after_sb_1p, AfterSb::Consensus);
    assert_eq!(params.conn_flags, ConnFlags::empty());
    assert_eq!(differs(&lone.w, 0), None);
    // Its administrator changes it again: ours stays.
    let mut own = lone.protocol.clone();
    own.protocol = WireProtocol::C;
    lone.give(Packet::ProtocolUpdate(own));
    assert!(differs(&lone.w, 0).is_some());
    let status = lone.w.nodes[0].resource.status(lone.w.now);
    assert_eq!(status.connection.protocol, Some(Protocol::B));
}

/// Data carry the new digest from the next packet on.
#[test]
fn digests_begin_behind_the_announcement() {
    let alone = NetOptions::default();
    let options = NetOptions {
        integrity_alg: Some(DigestAlgorithm::Sha1),
        ..alone.clone()
    };
    let mut w = World::pair(5, &alone);
    let mut open = vec![w.write(0, 0, vec![1; 4096])];
    for (i, n) in [(0, 2), (1, 3)] {
        change(&mut w, i, &options).unwrap();
        open.push(w.write(0, u64::from(n) * 64, vec![n; 4096]));
        let zeroes = RequestKind::WriteZeroes { may_unmap: true };
        open.push(w.submit(0, 0, 65536, zeroes));
    }
    w.detach(0, false).unwrap();
    assert_eq!(w.read(0, 128, 4096).unwrap(), vec![2; 4096]);
    w.attach(0).unwrap();
    w.wait_synced();
    for id in open {
        w.wait_done(0, id).unwrap();
    }
    for (i, options) in [(1, &alone), (0, &alone)] {
        change(&mut w, i, options).unwrap();
        w.write_wait(0, 64, vec![9; 4096]);
    }
    w.quiet();
    assert!(w.disks_equal());
    for i in 0..2 {
        assert!(!w.logged(i, "FAILED"));
    }
}

/// The driver would expect a digest in P_ZEROES, which has no place for one.
#[test]
fn digests_do_not_begin_where_zeroes_could_not_carry_them() {
    let options = NetOptions {
        integrity_alg: Some(DigestAlgorithm::Sha1),
        ..NetOptions::default()
    };
    for (features, expected) in [
        (Features::all(), Some(126)),
        (Features::all() - Features::WZEROES, None),
    ] {
        let mut lone = Lone::new(6);
        lone.features.features = features;
        let mut lone = lone.promoted();
        let (result, sent) = tell(&mut lone, &options);
        assert_eq!(code(result), expected);
        assert_eq!(sent.is_empty(), expected.is_some());
        lone.w.write(0, 80, vec![9; 4096]);
        let sent = lone.pump();
        assert_eq!(names(&sent), ["P_DATA"]);
        let digest = Data(Rc::new(vec![9; 4096])).digest(DigestAlgorithm::Sha1);
        assert_eq!(sent[0].digest, expected.is_none().then_some(digest));
    }
}

/// csums-alg and verify-alg go out with the sync parameters of each volume, and hold for both nodes.
#[test]
fn the_digests_of_resyncs_and_verifies_follow_the_last_word() {
    let options = NetOptions {
        csums_alg: Some(DigestAlgorithm::Sha1),
        verify_alg: "md5".into(),
        ..NetOptions::default()
    };
    let mut lone = Lone::new(7);
    lone.features.features = Features::all();
    let mut lone = lone.promoted();
    let (done, sent) = tell(&mut lone, &options);
    assert_eq!(done, Some(Ok(())));
    let [
        Sent {
            packet: Packet::SyncParam(params),
            ..
        },
    ] = sent.as_slice()
    else {
        panic!("{:?}", names(&sent));
    };
    assert_eq!(params.csums_alg.as_str(), "sha1");
    assert_eq!(params.verify_alg.as_str(), "md5");
    assert_eq!(differs(&lone.w, 0), None);
    // The peer's word: it asks by it when it is the target of a resync.
    let mut theirs = params.clone();
    theirs.csums_alg = AlgorithmName::new("crc32c").unwrap();
    lone.give(Packet::SyncParam(theirs.clone()));
    assert!(differs(&lone.w, 0).is_some());
    theirs.csums_alg = AlgorithmName::new("rot13").unwrap();
    lone.give(Packet::SyncParam(theirs));
    lone.pump();
    assert!(lone.conn() < ConnState::Connected);
    assert!(
        lone.w
            .logged(0, "the peer's new csums-alg is not known here")
    );
}

#[test]
fn a_source_compares_by_what_the_target_has_announced() {
    let mut lone = Lone::source(8, &[80]);
    let mut params = lone.sync.clone();
    params.csums_alg = AlgorithmName::new("sha1").unwrap();
    lone.give(Packet::SyncParam(params));
    let request = BlockRequest {
        sector: 80,
        block_id: replica_proto::BlockId::SYNCER,
        bytes: 4096,
    };
    let here = lone.w.nodes[0].disks[0].read(80, 4096);
    let digest = Data(Rc::new(here)).digest(DigestAlgorithm::Sha1);
    lone.give(Packet::CsumRsRequest(request, digest));
    assert_eq!(names(&lone.pump()), ["P_RS_IS_IN_SYNC"]);
}

#[test]
fn what_runs_keeps_its_digest() {
    let csums = NetOptions {
        csums_alg: Some(DigestAlgorithm::Sha1),
        ..NetOptions::default()
    };
    let mut lone = Lone::source(9, &[80]);
    let (result, sent) = tell(&mut lone, &csums);
    assert_eq!((code(result), names(&sent)), (Some(148), vec![]));
    // Nothing of it holds: what else was in the command neither.
    assert_eq!(differs(&lone.w, 0), None);
    let (done, sent) = tell(&mut lone, &by(Protocol::A));
    assert_eq!(done, Some(Ok(())));
    assert_eq!(names(&sent), ["P_PROTOCOL_UPDATE"]);
}

/// Until the exchange of parameters is over, what is on its way was said by the old options: the command waits for that.
#[test]
fn a_change_in_the_middle_of_a_handshake_waits() {
    let mut lone = Lone::new(10);
    lone.pair(false);
    let (done, sent) = tell(&mut lone, &by(Protocol::A));
    assert_eq!((done, names(&sent)), (None, vec!["P_CONNECTION_FEATURES"]));
    let features = lone.features;
    lone.give(Packet::ConnectionFeatures(features));
    let sent = lone.pump();
    assert!(
        sent.iter()
            .any(|one| matches!(&one.packet, Packet::Protocol(p) if p.protocol == WireProtocol::C))
    );
    lone.give(Packet::Protocol(lone.protocol.clone()));
    assert!(!names(&lone.pump()).contains(&"P_PROTOCOL_UPDATE"));
    lone.introduce(0);
    assert!(names(&lone.pump()).contains(&"P_PROTOCOL_UPDATE"));
    let status = lone.w.nodes[0].resource.status(lone.w.now);
    assert_eq!(status.connection.protocol, Some(Protocol::A));
}

/// Announcements without end are answered by nothing, and cost nothing that grows.
#[test]
fn announcements_without_end_are_borne() {
    let mut lone = Lone::primary(11);
    let mut params = lone.protocol.clone();
    for n in 0..2000 {
        params.protocol = if n % 2 == 0 {
            WireProtocol::A
        } else {
            WireProtocol::C
        };
        lone.give(Packet::ProtocolUpdate(params.clone()));
        lone.give(Packet::SyncParam(lone.sync.clone()));
    }
    assert_eq!(names(&lone.pump()), Vec::<&str>::new());
    assert_eq!(lone.is(), "Connected P/S U/U");
    let event = Event::Connection(
        ConnId::FIRST,
        ConnEvent::Received {
            volume: 0,
            packet: Packet::Ping,
            digest: None,
            payload: None,
        },
    );
    lone.w.event(0, event);
    assert_eq!(names(&lone.pump()), ["P_PING_ACK"]);
}

/// What waits behind a bitmap gets its digest when it is sent. So digests do not begin before that.
#[test]
fn a_change_in_the_middle_of_a_bitmap_waits() {
    // 2 M blocks: more plain packets than go out at a time.
    let mut lone = Lone::large(12, 8 * 64 * 510 * 80);
    lone.disk = DiskState::Inconsistent;
    lone.features.features -= Features::WZEROES;
    let plain = NetOptions {
        use_rle: false,
        ..NetOptions::default()
    };
    change(&mut lone.w, 0, &plain).unwrap();
    lone.w.nodes[0].hold_data = true;
    lone.greet();
    lone.introduce(0);
    lone.io();
    assert_eq!(lone.is(), "WFBitMapS S/S U/I");
    lone.give(Packet::DataRequest(BlockRequest {
        sector: 80,
        block_id: replica_proto::BlockId::from_u64(9),
        bytes: 4096,
    }));
    lone.io();
    let digests = NetOptions {
        integrity_alg: Some(DigestAlgorithm::Sha1),
        ..plain
    };
    let options = digests.clone();
    let id = lone.w.start_admin(0, Command::NetOptions { options });
    lone.io();
    assert!(!lone.w.nodes[0].admin.contains_key(&id));
    lone.w.nodes[0].hold_data = false;
    let sent = lone.pump();
    assert_eq!(lone.w.nodes[0].admin.remove(&id), Some(Ok(())));
    let at = |name: &str| {
        let sent = names(&sent);
        sent.iter().rposition(|one| *one == name)
    };
    let update = at("P_PROTOCOL_UPDATE").expect("the announcement");
    assert!(at("P_BITMAP") < Some(update));
    let reply = at("P_DATA_REPLY").expect("the answer to the read");
    assert_eq!(sent[reply].digest.is_some(), update < reply);
}
