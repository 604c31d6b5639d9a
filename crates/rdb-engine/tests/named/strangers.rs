//! Who has not proved that it is the peer learns nothing that helps it, and stops nobody. (`router/net/authentication.rs`,
//! `net/refusal.rs`.)

use rdb_engine::config::NetOptions;
use rdb_engine::rules::trouble::Trouble;
use rdb_engine::state::{ConnState, DiskState};
use rdb_engine::{ConnEvent, ConnId, Event, LossCause};
use replica_proto::{ConnectionFeatures, Packet, Sizes, Socket};

use crate::lone::{Lone, Sent, answer, names, with_secret};
use rdb_sim::World;

/// The engine was called (or has called), and both have told what they speak.
fn greeted(called: bool) -> Lone {
    let mut lone = Lone::with(60, with_secret());
    lone.pair(called);
    lone.take();
    lone.give(Packet::ConnectionFeatures(lone.features));
    assert_eq!(names(&lone.take()), ["P_AUTH_CHALLENGE"]);
    lone
}

fn answers(sent: &[Sent]) -> usize {
    let is_answer = |sent: &&Sent| matches!(sent.packet, Packet::AuthResponse(_));
    sent.iter().filter(is_answer).count()
}

#[test]
fn who_was_called_answers_only_after_it_has_verified() {
    let mut lone = greeted(true);
    lone.give(Packet::AuthChallenge(vec![9; 64]));
    assert_eq!(names(&lone.take()), [""; 0], "it does not know yet by whom");
    lone.give(Packet::AuthResponse(answer(&[7; 64])));
    let sent = lone.take();
    assert_eq!(names(&sent)[..2], ["P_AUTH_RESPONSE", "P_PROTOCOL"]);
    assert!(matches!(&sent[0].packet, Packet::AuthResponse(bytes) if *bytes == answer(&[9; 64])));

    let mut lone = greeted(true);
    lone.give(Packet::AuthChallenge(vec![9; 64]));
    lone.give(Packet::AuthResponse(vec![0; 32]));
    assert_eq!(answers(&lone.take()), 0);
    assert_eq!(lone.conn(), ConnState::Unconnected);
}

#[test]
fn who_has_called_answers_at_once_so_that_one_of_two_does() {
    let mut lone = greeted(false);
    lone.give(Packet::AuthChallenge(vec![9; 64]));
    assert_eq!(names(&lone.take()), ["P_AUTH_RESPONSE"]);
    lone.give(Packet::AuthResponse(answer(&[7; 64])));
    assert_eq!(names(&lone.take())[0], "P_PROTOCOL");
    for seed in 0..16 {
        let w = World::pair(seed, &with_secret());
        assert!((0..2).all(|i| w.logged(i, "Peer authenticated using sha256 HMAC")));
    }
}

#[test]
fn a_challenge_of_this_node_is_answered_to_nobody() {
    for called in [false, true] {
        // Over the same connection.
        let mut lone = greeted(called);
        lone.give(Packet::AuthChallenge(vec![7; 64]));
        lone.give(Packet::AuthResponse(answer(&[7; 64])));
        assert_eq!(answers(&lone.take()), 0);
        assert_eq!(lone.conn(), ConnState::Unconnected);
        // From another resource of this process.
        let mut lone = greeted(called);
        lone.w.event(
            0,
            Event::Connection(ConnId::FIRST, ConnEvent::ChallengeReflected),
        );
        lone.give(Packet::AuthResponse(answer(&[7; 64])));
        assert_eq!(answers(&lone.take()), 0);
        assert_eq!(lone.conn(), ConnState::Unconnected);
        assert!(lone.w.logged(0, "a challenge of our own"));
    }
}

#[test]
fn who_is_asked_for_a_secret_and_has_none_says_so() {
    let mut lone = Lone::new(64);
    lone.pair(false);
    lone.give(Packet::ConnectionFeatures(lone.features));
    lone.give(Packet::AuthChallenge(vec![9; 64]));
    lone.w.nodes[0].connected = false;
    lone.io();
    let trouble = lone.w.nodes[0]
        .resource
        .status(lone.w.now)
        .connection
        .trouble;
    let trouble = trouble.expect("a reason");
    assert_eq!(trouble.kind, Trouble::Secret);
    assert!(
        trouble.text.contains("none is configured here"),
        "{trouble:?}"
    );
    assert_eq!(
        lone.w.nodes[0].resource.refused(),
        0,
        "a right peer does so"
    );
    // It is met as ever when both know the same.
    lone.w.until("another try", |w| w.nodes[0].connecting);
    lone.meet();
    assert_eq!(lone.is(), "Connected S/S U/U");
}

type Say = fn(&mut Lone);

/// What one who knows no secret can say instead of what is due.
fn nonsense() -> Vec<(&'static str, Say)> {
    vec![
        ("no common version", |lone| {
            lone.pair(true);
            let features = ConnectionFeatures {
                min: 200,
                max: 210,
                ..ConnectionFeatures::OURS
            };
            lone.give(Packet::ConnectionFeatures(features));
        }),
        ("something else first", |lone| {
            lone.pair(true);
            lone.give(Packet::Ping);
        }),
        ("no packet at all", |lone| {
            lone.pair(true);
            let cause = LossCause::BadPacket {
                error: "bad magic".into(),
                unknown_command: false,
            };
            let socket = Socket::Data;
            lone.w.event(
                0,
                Event::Connection(ConnId::FIRST, ConnEvent::Lost { socket, cause }),
            );
        }),
        ("parameters without a proof", |lone| {
            lone.pair(true);
            lone.give(Packet::ConnectionFeatures(lone.features));
            lone.give(Packet::Protocol(lone.protocol.clone()));
        }),
        ("a short challenge", |lone| {
            lone.pair(false);
            lone.give(Packet::ConnectionFeatures(lone.features));
            lone.give(Packet::AuthChallenge(vec![1; 63]));
        }),
        ("a wrong answer", |lone| {
            lone.pair(false);
            lone.give(Packet::ConnectionFeatures(lone.features));
            lone.give(Packet::AuthChallenge(vec![1; 64]));
            lone.give(Packet::AuthResponse(vec![1; 32]));
        }),
    ]
}

#[test]
fn nonsense_makes_nobody_standalone_and_pauses_grow_to_connect_int() {
    for (what, say) in nonsense() {
        let mut lone = Lone::with(61, with_secret());
        let mut pauses = Vec::new();
        for _ in 0..6 {
            say(&mut lone);
            lone.w.nodes[0].connected = false;
            lone.io();
            assert_eq!(lone.conn(), ConnState::Unconnected, "{what}");
            let start = lone.w.now;
            lone.w.until("another try", |w| w.nodes[0].connecting);
            pauses.push(lone.w.now.ms_since(start).div_euclid(100) * 100);
        }
        assert_eq!(pauses, [1000, 2000, 4000, 8000, 10_000, 10_000], "{what}");
        // The true peer, and the next stranger begins anew.
        lone.prove(true);
        lone.meet_on();
        assert_eq!(lone.is(), "Connected S/S U/U", "{what}");
        lone.lose(Socket::Data, 104);
        lone.w.until("another try", |w| w.nodes[0].connecting);
        say(&mut lone);
        lone.w.nodes[0].connected = false;
        lone.io();
        let start = lone.w.now;
        lone.w.until("another try", |w| w.nodes[0].connecting);
        assert!(lone.w.now.ms_since(start) <= 1000, "{what}");
    }
}

#[test]
fn settings_that_differ_are_tried_again_where_nobody_can_prove_himself() {
    let options = NetOptions::default();
    let mut lone = Lone::with(62, options);
    lone.protocol.integrity_alg = "crc32c".parse().expect("a name");
    lone.meet();
    assert_eq!(lone.conn(), ConnState::Unconnected);
    assert!(lone.w.logged(0, "incompatible data-integrity-alg settings"));
    lone.w.until("another try", |w| w.nodes[0].connecting);
    lone.protocol.integrity_alg = Default::default();
    lone.meet();
    assert_eq!(lone.is(), "Connected S/S U/U");
}

#[test]
fn what_a_peer_asks_while_it_takes_no_bitmap_does_not_pile_up() {
    let plain = NetOptions {
        use_rle: false,
        ..NetOptions::default()
    };
    let mut w = World::large_pair(63, 3 << 23, &plain);
    w.secondary(0).unwrap();
    w.quiet();
    let mut lone = Lone::take_over(w);
    lone.disk = DiskState::Inconsistent;
    lone.w.nodes[0].hold_data = true; // and with it the word that TCP has taken a part of the bitmap
    lone.meet();
    assert_eq!(lone.is(), "WFBitMapS S/S U/I");
    let sizes = match lone.sizes() {
        Packet::Sizes(sizes) => Sizes { c_size: 0, ..sizes },
        _ => unreachable!("sizes"),
    };
    for _ in 0..3000 {
        lone.give(Packet::Sizes(sizes));
    }
    lone.w.nodes[0].hold_data = false;
    let sent = lone.pump();
    let sizes = names(&sent)
        .iter()
        .filter(|&&name| name == "P_SIZES")
        .count();
    assert!(sizes <= 1024, "{sizes} answers");
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "there is no connection"))]
fn an_event_of_a_connection_that_there_is_not_ends_no_other() {
    let mut lone = greeted(true);
    let (socket, cause) = (Socket::Data, LossCause::Closed { error: 0 });
    let event = ConnEvent::Lost { socket, cause };
    lone.w.event(0, Event::Connection(ConnId(1), event));
    assert_ne!(lone.conn(), ConnState::Unconnected);
}
