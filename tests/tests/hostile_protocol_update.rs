//! What a peer sets is gone when the peer is: the next one meets the protocol that is configured here.

use std::time::Duration;

use anyhow::{Result, ensure};
use rdb_tests::Siege;
use rdb_tests::packets::{self, PROTOCOL_UPDATE};
use rdb_tests::watch::{self, Limits};

/// Updates, right and wrong.
fn updates() -> Vec<(&'static str, Vec<u8>)> {
    let with = |values: [u32; 6], name: &[u8]| [packets::words(&values), name.to_vec()].concat();
    vec![
        ("protocol A", packets::protocol(1)),
        ("protocol B", packets::protocol(2)),
        ("two primaries", with([3, 0, 0, 0, 0, 1], b"\0")),
        ("all policies", with([1, 6, 8, 10, 3, 1], b"\0")),
        ("digests", with([3, 0, 0, 0, 0, 0], b"crc32c\0")),
        ("protocol 0", packets::protocol(0)),
        ("protocol 4711", packets::protocol(4711)),
        ("all ones", vec![0xff; 25]),
        ("an unknown digest", with([3, 0, 0, 0, 0, 0], b"rot13\0")),
        ("an endless digest", with([3, 0, 0, 0, 0, 0], &[b'x'; 64])),
        ("a long digest", with([3, 0, 0, 0, 0, 0], &[b'x'; 2000])),
        ("no digest", packets::words(&[1, 0, 0, 0, 0, 0])),
        ("nothing", Vec::new()),
    ]
}

#[test]
fn no_update_outlives_its_peer() -> Result<()> {
    let mut siege = Siege::lay("updates", "")?;
    siege.survives("updates", Limits::default(), |siege| {
        for (what, payload) in updates() {
            let mut peer = siege.connected()?;
            let configured = peer.learned.protocol.clone();
            peer.say(PROTOCOL_UPDATE, &payload);
            peer.pump(Duration::from_millis(100));
            drop(peer);
            watch::serves(siege.node())?;
            let letter = siege.pair.alice.volume(0)?.protocol;
            ensure!(letter == "C", "{what}: protocol {letter}");
            let peer = siege.connected()?;
            ensure!(
                peer.learned.protocol == configured,
                "{what}: {:?} instead of {configured:?}",
                peer.learned.protocol
            );
        }
        Ok(())
    })?;
    siege.relieve(60)?;
    let letter = siege.pair.alice.volume(0)?.protocol;
    ensure!(letter == "C", "with the true peer: protocol {letter}");
    Ok(())
}
