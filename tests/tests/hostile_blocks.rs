//! Blocks of a resync that a peer has keep no user's write waiting for long.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdb_tests::hostile::HostilePeer;
use rdb_tests::watch::Limits;
use rdb_tests::{Siege, packets};

/// Where the block is, which holds what the siege has written.
const AT: u64 = 1 << 20;
const BYTES: u32 = 32768;

/// Asks for the block, so many times.
fn ask(peer: &mut HostilePeer, times: u32) {
    for _ in 0..times {
        let request = packets::block(AT / 512, packets::SYNCER, BYTES, 0);
        peer.say(packets::RS_DATA_REQUEST, &request);
    }
}

/// A user writes to that block so many times, one after the other and what is there already, while the peer does `each` again and again. Returns how
/// long the longest write took.
fn while_a_user_writes(
    siege: &Siege,
    times: u32,
    mut each: impl FnMut() -> Result<()>,
) -> Result<Duration> {
    let mut client = siege.pair.alice.nbd(0)?;
    let user = std::thread::spawn(move || -> Result<Duration> {
        let mut longest = Duration::ZERO;
        for _ in 0..times {
            let start = Instant::now();
            client.write(AT + 4096, &[0xda; 4096])?;
            longest = longest.max(start.elapsed());
        }
        Ok(longest)
    });
    let end = Instant::now() + Duration::from_secs(30);
    while !user.is_finished() {
        each()?;
        ensure!(Instant::now() < end, "the user still writes");
    }
    user.join().expect("the user does not panic")
}

#[test]
fn one_that_is_asked_for_again_and_again_is_written_all_the_same() -> Result<()> {
    let mut siege = Siege::lay("blocks-again", "")?;
    siege.survives("asking again", Limits::default(), |siege| {
        let mut peer = siege.syncing()?;
        let mut acked = 0;
        ask(&mut peer, 8);
        let longest = while_a_user_writes(siege, 50, || {
            peer.pump(Duration::from_millis(5));
            let replies = peer.all(packets::RS_DATA_REPLY).len();
            for _ in acked..replies {
                ask(&mut peer, 1);
                let ack = packets::block(AT / 512, packets::SYNCER, BYTES, 0);
                peer.say(packets::RS_WRITE_ACK, &ack);
            }
            acked = replies;
            ensure!(!peer.is_ended(), "{}", peer.story());
            Ok(())
        })?;
        ensure!(acked > 8, "{}", peer.story());
        ensure!(longest < Duration::from_secs(2), "{longest:?}");
        Ok(())
    })
}

#[test]
fn one_that_is_never_acknowledged_costs_the_peer_its_connection() -> Result<()> {
    let net = "ko-count 2;";
    let mut siege = Siege::lay("blocks-kept", net)?;
    siege.survives("keeping a block", Limits::default(), |siege| {
        let mut peer = siege.syncing()?;
        ask(&mut peer, 1);
        let has_it = peer.pump_until(Duration::from_secs(5), |peer| {
            peer.has(packets::RS_DATA_REPLY)
        });
        ensure!(has_it, "{}", peer.story());
        // It answers everything else.
        let longest = while_a_user_writes(siege, 1, || {
            peer.pump(Duration::from_millis(10));
            Ok(())
        })?;
        ensure!(
            longest > Duration::from_secs(1),
            "nothing held the write up: {longest:?}"
        );
        ensure!(longest < Duration::from_secs(12), "{longest:?}");
        ensure!(
            peer.is_left_within(Duration::from_secs(2)),
            "{}",
            peer.story()
        );
        siege.await_listening()
    })
}
