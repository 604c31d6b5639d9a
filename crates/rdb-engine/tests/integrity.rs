//! data-integrity-alg: what is sent carries a digest, and what does not match its digest is not used.

mod lone;

use std::rc::Rc;

use lone::{Lone, names};
use rdb_engine::config::{NetOptions, Protocol};
use rdb_engine::state::ConnState;
use rdb_engine::{ConnEvent, ConnId, Event, Payload, RequestKind};
use rdb_sim::{Data, World};
use replica_proto::{AlgorithmName, BlockId, Digest, DigestAlgorithm, Features, Packet};

fn with(algorithm: DigestAlgorithm) -> NetOptions {
    NetOptions {
        integrity_alg: Some(algorithm),
        ..NetOptions::default()
    }
}

#[test]
fn data_of_every_kind_carries_digests_both_ways() {
    for &algorithm in DigestAlgorithm::ALL {
        let options = with(algorithm);
        for protocol in [Protocol::A, Protocol::C] {
            let mut w = World::pair(
                1,
                &NetOptions {
                    protocol,
                    ..options.clone()
                },
            );
            for n in 0..40 {
                w.write_wait(0, n * 64, vec![n as u8; 512 * (1 + n as usize)]);
            }
            let zeroes = RequestKind::WriteZeroes { may_unmap: false };
            let zeroes = w.submit(0, 0, 65536, zeroes);
            w.wait_done(0, zeroes).unwrap();
            let discard = w.submit(0, 640, 65536, RequestKind::Discard);
            w.wait_done(0, discard).unwrap();
            // Reads and writes of a node without a disk, and its resync afterwards.
            w.detach(0, false).unwrap();
            assert_eq!(w.read(0, 39 * 64, 4096).unwrap(), vec![39; 4096]);
            w.write_wait(0, 8, vec![77; 4096]);
            w.attach(0).unwrap();
            w.wait_synced();
            w.quiet();
            assert!(w.disks_equal(), "{algorithm:?} {protocol:?}");
            assert!(!w.logged(0, "FAILED") && !w.logged(1, "FAILED"));
        }
    }
}

/// Connected to a peer that is played by hand and uses the same algorithm.
fn lone(seed: u64) -> Lone {
    let mut lone = Lone::with(seed, with(DigestAlgorithm::Crc32c));
    lone.protocol.integrity_alg = AlgorithmName::new("crc32c").unwrap();
    lone
}

fn give(lone: &mut Lone, packet: Packet, data: Vec<u8>, digest: Option<Digest>) {
    let event = Event::Connection(
        ConnId::FIRST,
        ConnEvent::Received {
            volume: 0,
            packet,
            digest,
            payload: Some(Data(Rc::new(data))),
        },
    );
    lone.w.event(0, event);
}

#[test]
fn data_that_do_not_match_their_digest_are_not_written_and_end_the_connection() {
    let good = Data(Rc::new(vec![5; 4096])).digest(DigestAlgorithm::Crc32c);
    let other = Data(Rc::new(vec![6; 4096])).digest(DigestAlgorithm::Crc32c);
    for (digest, taken) in [(Some(good), true), (Some(other), false), (None, false)] {
        let mut lone = lone(2);
        lone.role = rdb_engine::state::Role::Primary;
        lone.meet();
        let before = lone.w.nodes[0].disks[0].read(80, 4096);
        let packet = lone.data(80, BlockId::from_u64(9));
        give(&mut lone, packet, vec![5; 4096], digest);
        let sent = lone.pump();
        let now = lone.w.nodes[0].disks[0].read(80, 4096);
        if taken {
            assert_eq!(names(&sent), ["P_WRITE_ACK"]);
            assert_eq!(now, vec![5; 4096]);
        } else {
            assert_eq!(now, before);
            assert!(lone.conn() < ConnState::Connected, "{}", lone.is());
            assert!(lone.w.logged(0, "Digest integrity check FAILED: 80s +4096"));
        }
    }
}

#[test]
fn both_must_want_the_same_digest() {
    for (ours, theirs) in [
        (Some(DigestAlgorithm::Sha1), None),
        (None, Some(DigestAlgorithm::Sha1)),
        (Some(DigestAlgorithm::Sha1), Some(DigestAlgorithm::Md5)),
    ] {
        let options = |integrity_alg| NetOptions {
            integrity_alg,
            ..NetOptions::default()
        };
        let mut w = World::new(3);
        w.up(0, &options(ours));
        w.up(1, &options(theirs));
        w.run_ms(20_000);
        for i in 0..2 {
            assert!(w.nodes[i].state().conn < ConnState::Connected);
        }
        assert!((0..2).any(|i| w.logged(i, "incompatible data-integrity-alg settings")));
    }
}

/// The kernel expects a digest in P_ZEROES, which has no place for one (docs/spec/wire.md, section 7.8).
#[test]
fn zeroes_travel_as_trim() {
    let mut lone = lone(4);
    lone.features.features = Features::all();
    let mut lone = lone.promoted();
    for (sector, may_unmap) in [(0, false), (64, true)] {
        let kind = RequestKind::WriteZeroes { may_unmap };
        lone.w.submit(0, sector, 8192, kind);
        assert_eq!(names(&lone.pump()), ["P_TRIM"]);
    }
}

/// P_PROTOCOL_UPDATE: the peer's data carry another digest from then on, ours do not.
#[test]
fn the_peer_may_change_its_algorithm_while_connected() {
    let mut lone = Lone::new(5);
    lone.role = rdb_engine::state::Role::Primary;
    lone.meet();
    let mut params = lone.protocol.clone();
    params.integrity_alg = AlgorithmName::new("sha1").unwrap();
    lone.give(Packet::ProtocolUpdate(params.clone()));
    let digest = Data(Rc::new(vec![5; 4096])).digest(DigestAlgorithm::Sha1);
    let packet = lone.data(80, BlockId::from_u64(9));
    give(&mut lone, packet, vec![5; 4096], Some(digest));
    assert_eq!(names(&lone.pump()), ["P_WRITE_ACK"]);
    params.integrity_alg = AlgorithmName::new("rot13").unwrap();
    lone.give(Packet::ProtocolUpdate(params));
    lone.pump();
    // Its data could not be told from their digests any more. The next handshake finds what is left of that.
    assert!(lone.conn() < ConnState::WFReportParams, "{}", lone.is());
}
