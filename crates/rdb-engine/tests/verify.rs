//! Online verify with a peer made by hand: what goes over the wire, whichever side drives it.

mod lone;

use std::rc::Rc;

use lone::{Lone, Sent, names};
use rdb_engine::config::NetOptions;
use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{Payload, RequestKind};
use rdb_sim::Data;
use replica_proto::{
    BlockAck, BlockId, BlockRequest, DigestAlgorithm, Packet, StateChange, StateWord,
};

const VERIFY_S: u32 = 18;
const CONN_SHIFT: u32 = 4;
const CONN_MASK: u32 = 0x1f << CONN_SHIFT;

fn verifiable(seed: u64, algorithm: &str) -> Lone {
    let options = NetOptions {
        verify_alg: algorithm.to_string(),
        ..NetOptions::default()
    };
    let mut lone = Lone::with(seed, options);
    lone.sync.verify_alg = algorithm.parse().unwrap();
    lone
}

/// Connected, and the peer drives a verify. `primary`: the engine's node is Primary.
fn verifying(seed: u64, algorithm: &str, primary: bool) -> Lone {
    let mut lone = verifiable(seed, algorithm);
    if primary {
        lone = lone.promoted();
    } else {
        lone.meet();
    }
    assert_eq!(start(&mut lone), 1);
    assert_eq!(lone.conn(), ConnState::VerifyT);
    lone
}

/// The peer asks to verify; the answer's code.
fn start(lone: &mut Lone) -> i32 {
    lone.give(Packet::StateChgReq(StateChange {
        mask: StateWord(CONN_MASK),
        val: StateWord(VERIFY_S << CONN_SHIFT),
    }));
    let sent = lone.pump();
    let code = sent.iter().find_map(|one| match one.packet {
        Packet::StateChgReply(code) => Some(code),
        _ => None,
    });
    code.expect("an answer")
}

fn ask(lone: &mut Lone, sector: u64) -> Vec<Sent> {
    lone.give(Packet::OvRequest(BlockRequest {
        sector,
        block_id: BlockId::SYNCER,
        bytes: 4096,
    }));
    lone.pump()
}

fn result(lone: &mut Lone, sector: u64, equal: bool) -> Vec<Sent> {
    let seq_num = lone.next_seq();
    lone.give(Packet::OvResult(BlockAck {
        sector,
        block_id: if equal {
            BlockId::IN_SYNC
        } else {
            BlockId::OUT_OF_SYNC
        },
        bytes: 4096,
        seq_num,
    }));
    lone.pump()
}

fn digest_of(lone: &Lone, sector: u64, algorithm: DigestAlgorithm) -> replica_proto::Digest {
    Data(Rc::new(lone.w.nodes[0].disks[0].read(sector, 4096))).digest(algorithm)
}

#[test]
fn each_block_is_answered_with_its_digest() {
    for &algorithm in DigestAlgorithm::ALL {
        let mut lone = verifying(1, algorithm.name(), false);
        for sector in [0, 8, 80] {
            let sent = ask(&mut lone, sector);
            assert_eq!(names(&sent), ["P_OV_REPLY"]);
            let Packet::OvReply(request, digest) = &sent[0].packet else {
                unreachable!()
            };
            assert_eq!((request.sector, request.bytes), (sector, 4096));
            assert_eq!(*digest, digest_of(&lone, sector, algorithm));
            result(&mut lone, sector, true);
        }
        assert_eq!(lone.w.nodes[0].out_of_sync(), 0);
    }
}

#[test]
fn what_differs_is_marked_and_not_repaired_and_the_last_result_ends_it() {
    let mut lone = verifying(2, "sha1", false);
    let first = (lone.size.div_ceil(8) - 6) * 8; // six blocks are left from here
    for n in 0..6 {
        ask(&mut lone, first + n * 8);
    }
    let before = lone.w.nodes[0].disks[0].read(first, 6 * 4096);
    for (n, equal) in [true, false, false, true, false].into_iter().enumerate() {
        let sent = result(&mut lone, first + n as u64 * 8, equal);
        assert!(names(&sent).is_empty(), "{:?}", names(&sent));
        assert_eq!(lone.conn(), ConnState::VerifyT);
    }
    let sent = result(&mut lone, first + 40, true);
    assert_eq!(names(&sent), ["P_PING"]);
    assert_eq!(lone.is(), "Connected S/S U/U");
    assert_eq!(lone.w.nodes[0].out_of_sync(), 3);
    assert_eq!(lone.w.nodes[0].disks[0].read(first, 6 * 4096), before);
    for text in [
        format!("Out of sync: start={}, size=16 (sectors)", first + 8),
        format!("Out of sync: start={}, size=8 (sectors)", first + 32),
        "Online verify found 3 4k block out of sync!".to_string(),
    ] {
        assert!(lone.w.logged(0, &text), "{text}");
    }
}

#[test]
fn the_driver_may_stop_at_a_sector_that_it_knows_alone() {
    let mut lone = verifying(3, "crc32c", false);
    ask(&mut lone, 0);
    result(&mut lone, 0, false);
    let state = lone.state(ConnState::Connected, DiskState::UpToDate);
    lone.give(state);
    lone.pump();
    assert_eq!(lone.is(), "Connected S/S U/U");
    assert_eq!(lone.w.nodes[0].out_of_sync(), 1);
    // And once more from the beginning, with the counters anew.
    assert_eq!(start(&mut lone), 1);
    assert_eq!(names(&ask(&mut lone, 0)), ["P_OV_REPLY"]);
}

#[test]
fn a_write_waits_until_its_block_is_compared() {
    let mut lone = verifying(4, "crc32c", true);
    let sent = ask(&mut lone, 800);
    assert_eq!(names(&sent), ["P_OV_REPLY"]);
    let payload = Data(Rc::new(vec![9; 4096]));
    let kind = RequestKind::Write {
        payload,
        fua: false,
    };
    lone.w.submit(0, 800, 4096, kind);
    assert!(lone.pump().is_empty(), "the block changes under the verify");
    let sent = result(&mut lone, 800, true);
    assert_eq!(names(&sent), ["P_DATA"]);
}

#[test]
fn a_verify_needs_an_algorithm_and_good_disks() {
    let mut lone = Lone::new(5);
    lone.meet();
    assert_eq!(start(&mut lone), -14);
    assert_eq!(lone.conn(), ConnState::Connected);
    let mut lone = verifiable(6, "sha1");
    lone.disk = DiskState::Inconsistent;
    lone.meet();
    assert!(start(&mut lone) < 0);
    assert_ne!(lone.conn(), ConnState::VerifyT);
}

#[test]
fn a_lost_link_ends_it_and_lets_waiting_writes_go() {
    let mut lone = verifying(7, "sha1", true);
    ask(&mut lone, 800);
    let payload = Data(Rc::new(vec![9; 4096]));
    let kind = RequestKind::Write {
        payload,
        fua: false,
    };
    let id = lone.w.submit(0, 800, 4096, kind);
    lone.pump();
    lone.lose(replica_proto::Socket::Data, 0);
    lone.pump();
    lone.w.wait_done(0, id).unwrap();
    assert_eq!(lone.w.nodes[0].state().role, Role::Primary);
    assert_eq!(lone.w.nodes[0].disks[0].read(800, 4096), vec![9; 4096]);
}

#[test]
fn a_result_nobody_asked_for_ends_the_connection() {
    let mut lone = verifying(8, "sha1", false);
    ask(&mut lone, 0);
    result(&mut lone, 8, true);
    assert!(lone.conn() < ConnState::Connected);
}

#[test]
fn a_block_that_cannot_be_read_differs() {
    let mut lone = verifying(9, "sha1", false);
    lone.w.nodes[0].disks[0].fail_reads = 1;
    let sent = ask(&mut lone, 0);
    let digest = sent.iter().find_map(|one| match &one.packet {
        Packet::OvReply(_, digest) => Some(digest.clone()),
        _ => None,
    });
    assert_eq!(digest, replica_proto::Digest::zeros(20));
    assert_eq!(lone.conn(), ConnState::Connected, "the disk is given up");
}

/// Connected, and the engine's node drives a verify of these sectors, with what it has asked for.
fn driving(seed: u64, start: u64, stop: Option<u64>) -> (Lone, Vec<BlockRequest>) {
    let mut lone = verifiable(seed, "sha1");
    lone.meet();
    let (volume, start) = (rdb_sim::V, Some(start));
    let order = rdb_engine::Command::Verify {
        volume,
        start,
        stop,
    };
    lone.w.start_admin(0, order);
    let sent = lone.pump(); // it is allowed
    assert_eq!(names(&sent)[0], "P_STATE_CHG_REQ");
    assert_eq!(lone.conn(), ConnState::VerifyS);
    let requests = requests(&sent);
    (lone, requests)
}

fn requests(sent: &[Sent]) -> Vec<BlockRequest> {
    let requests = sent.iter().filter_map(|one| match &one.packet {
        Packet::OvRequest(request) => Some(*request),
        _ => None,
    });
    requests.collect()
}

fn reply(lone: &mut Lone, request: BlockRequest, digest: replica_proto::Digest) -> Vec<Sent> {
    lone.give(Packet::OvReply(request, digest));
    lone.pump()
}

fn sha1_of(lone: &Lone, sector: u64, bytes: usize) -> replica_proto::Digest {
    let sha1 = DigestAlgorithm::from_name("sha1").unwrap();
    Data(Rc::new(lone.w.nodes[0].disks[0].read(sector, bytes))).digest(sha1)
}

#[test]
fn the_driver_asks_block_by_block_and_tells_each_result_and_the_end() {
    let size = verifiable(10, "sha1").size;
    let first = (size.div_ceil(8) - 3) * 8;
    let (mut lone, asked) = driving(10, first, None);
    let last = u32::try_from((size - first - 16) * 512).unwrap();
    let wanted = [(first, 4096), (first + 8, 4096), (first + 16, last)];
    let got: Vec<_> = asked.iter().map(|r| (r.sector, r.bytes)).collect();
    assert_eq!(got, wanted);
    assert!(asked.iter().all(|r| r.block_id == BlockId::SYNCER));
    for (n, &request) in asked.iter().enumerate() {
        let digest = match n {
            1 => replica_proto::Digest::zeros(20).unwrap(),
            _ => sha1_of(&lone, request.sector, request.bytes as usize),
        };
        let sent = reply(&mut lone, request, digest);
        let Packet::OvResult(result) = &sent[0].packet else {
            panic!("{:?}", names(&sent))
        };
        let id = match n {
            1 => BlockId::OUT_OF_SYNC,
            _ => BlockId::IN_SYNC,
        };
        assert_eq!(
            (result.sector, result.bytes),
            (request.sector, request.bytes)
        );
        assert_eq!(result.block_id, id);
        let end: &[&str] = if n == 2 { &["P_PING"] } else { &[] };
        assert_eq!(names(&sent[1..])[..end.len()], *end, "{:?}", names(&sent));
    }
    lone.pump();
    assert_eq!(lone.is(), "Connected S/S U/U");
    assert_eq!(lone.w.nodes[0].out_of_sync(), 1);
    assert!(lone.w.logged(
        0,
        &format!("Out of sync: start={}, size=8 (sectors)", first + 8)
    ));
}

#[test]
fn a_stop_sector_ends_it_with_a_state() {
    let (mut lone, asked) = driving(11, 800, Some(808));
    assert_eq!(asked.len(), 1);
    let digest = sha1_of(&lone, 800, 4096);
    let sent = reply(&mut lone, asked[0], digest);
    let told = sent.iter().find_map(Sent::state).expect("the end is told");
    assert_eq!(told.conn, ConnState::Connected);
    assert!(lone.w.logged(0, "Online Verify reached sector 808"));
}

#[test]
fn a_block_that_the_peer_does_not_serve_is_counted() {
    let (mut lone, asked) = driving(12, 800, Some(808));
    let seq_num = lone.next_seq();
    lone.give(Packet::NegRsDReply(BlockAck {
        sector: asked[0].sector,
        block_id: BlockId::SYNCER,
        bytes: 4096,
        seq_num,
    }));
    lone.pump();
    assert_eq!(lone.is(), "Connected S/S U/U");
    assert_eq!(lone.w.nodes[0].out_of_sync(), 0);
    assert!(lone.w.logged(0, "the peer has not served 1 blocks"));
}

#[test]
fn a_reply_that_is_none_ends_the_connection() {
    for wrong in 0..3 {
        let (mut lone, asked) = driving(13, 800, Some(816));
        let mut request = asked[0];
        let mut digest = sha1_of(&lone, 800, 4096);
        match wrong {
            0 => request.sector = 816,
            1 => request.bytes = 512,
            _ => digest = replica_proto::Digest::zeros(4).unwrap(),
        }
        reply(&mut lone, request, digest);
        assert!(lone.conn() < ConnState::Connected, "{wrong}");
    }
}

#[test]
fn a_reply_to_a_verify_that_is_over_lets_the_peer_go_on() {
    let (mut lone, asked) = driving(14, 800, Some(816));
    lone.w.nodes[0].disks[0].fail_reads = 1;
    let digest = sha1_of(&lone, 800, 4096);
    reply(&mut lone, asked[0], digest.clone());
    assert_eq!(lone.conn(), ConnState::Connected, "the disk is given up");
    let sent = reply(&mut lone, asked[1], digest);
    let Some(Packet::OvResult(result)) = sent.first().map(|one| &one.packet) else {
        panic!("{:?}", names(&sent))
    };
    assert_eq!((result.sector, result.block_id), (808, BlockId::IN_SYNC));
}
