//! Writes that are queued on a slow line (`docs/spec/behaviour.md`, section 7.5: the oldest request sent and not acknowledged). The
//! kernel's driver counts from when TCP has a request; the engine, which hands all of them to its driver at once, from when the peer has
//! answered the one before.

use rdb_engine::config::NetOptions;
use rdb_engine::state::ConnState;
use replica_proto::{BarrierNr, DataHeader, Packet};

use crate::lone::{Lone, Sent};

/// A Primary whose peer may take two seconds, and six writes that it has been given at once.
fn burst(seed: u64) -> (Lone, Vec<DataHeader>) {
    let options = NetOptions {
        timeout_ds: 10,
        ko_count: 2,
        ping_int_s: 120,
        ..NetOptions::default()
    };
    let mut lone = Lone::with(seed, options).promoted();
    for n in 0..6 {
        lone.w.write(0, 8 * n, vec![1; 4096]);
    }
    let sent = lone.pump();
    let headers: Vec<_> = sent.iter().filter_map(Sent::data_header).collect();
    assert_eq!(headers.len(), 6);
    (lone, headers)
}

/// The peer answers a write after so many milliseconds; what the engine said meanwhile.
fn answers(lone: &mut Lone, header: &DataHeader, after_ms: u64) -> Vec<Sent> {
    lone.w.run_ms(after_ms);
    assert_eq!(lone.conn(), ConnState::Connected);
    let ack = lone.ack(header, 4096);
    lone.give(Packet::WriteAck(ack));
    lone.pump()
}

#[test]
fn a_peer_that_answers_one_write_after_the_other_is_not_left_for_the_last_of_them() {
    let (mut lone, headers) = burst(1);
    let mut barrier = None;
    for header in &headers {
        let sent = answers(&mut lone, header, 1_500);
        barrier = barrier.or(sent.iter().find_map(|s| match s.packet {
            Packet::Barrier(nr) => Some(nr),
            _ => None,
        }));
    }
    // The barrier's turn comes when the last write of its epoch is answered.
    let barrier: BarrierNr = barrier.expect("the first answer closes the epoch");
    lone.w.run_ms(1_500);
    let set_size = 6;
    lone.give(Packet::BarrierAck { barrier, set_size });
    lone.pump();
    lone.w.run_ms(5_000);
    assert_eq!(lone.conn(), ConnState::Connected);
}

#[test]
fn a_write_whose_turn_has_come_is_waited_for_as_long_as_any_whatever_else_is_answered() {
    let (mut lone, headers) = burst(2);
    answers(&mut lone, &headers[0], 1_500);
    answers(&mut lone, &headers[1], 1_500);
    // The third is left out.
    answers(&mut lone, &headers[3], 900);
    answers(&mut lone, &headers[4], 900);
    assert_eq!(lone.conn(), ConnState::Connected);
    lone.w.run_ms(300);
    assert!(lone.conn() < ConnState::Connected);
    assert!(lone.w.logged(0, "ko-count (2)"));
}

#[test]
fn a_barrier_that_is_not_answered_after_the_last_write_costs_the_connection() {
    let (mut lone, headers) = burst(3);
    for header in &headers {
        answers(&mut lone, header, 1_500);
    }
    lone.w.run_ms(1_800);
    assert_eq!(lone.conn(), ConnState::Connected);
    lone.w.run_ms(300);
    assert!(lone.conn() < ConnState::Connected);
}
