//! A peer that stops at every byte of what a right one says, and one that says it byte by byte.

use std::time::Duration;

use anyhow::{Result, ensure};
use rdb_tests::hostile::{Guise, HostilePeer, Line};
use rdb_tests::packets;
use rdb_tests::watch::Limits;
use rdb_tests::wire::Header;
use rdb_tests::{Siege, siege};

/// How many nodes are tried at the same time; most of it is waiting.
const NODES: u8 = 16;

/// All that a peer in sync says, in one piece.
fn whole(peer: &HostilePeer) -> Vec<u8> {
    let features = packets::features(86, 101, packets::FEATURE_FLAGS);
    let mut bytes = Header::H80.packet(0, packets::CONNECTION_FEATURES, &features);
    for (code, payload) in peer.introduction(&Guise::equal()) {
        bytes.extend(Header::H100.packet(0, code, &payload));
    }
    bytes
}

/// One node, and every `NODES`-th byte.
fn cut_at_some(number: u8, siege: &mut Siege) -> Result<()> {
    let right = siege.connected()?;
    let bytes = whole(&right);
    drop(right);
    siege.await_listening()?;
    let limits = Limits {
        log_bytes: 256 << 10,
        ..Limits::default()
    };
    let ping = Header::H100.packet(0, packets::PING, &[]);
    siege.survives("cuts", limits, |siege| {
        for cut in (usize::from(number)..bytes.len()).step_by(usize::from(NODES)) {
            let mut peer = HostilePeer::meet(&siege.place())?;
            peer.throw(Line::Data, &bytes[..cut]);
            peer.pump(Duration::from_millis(5));
            let listens = peer.throw(Line::Meta, &ping[..cut % 16]);
            ensure!(listens, "after {cut} bytes");
        }
        Ok(())
    })
}

#[test]
fn cut_at_every_byte() -> Result<()> {
    siege::many(NODES, "cuts", cut_at_some).map(drop)
}

#[test]
fn byte_by_byte() -> Result<()> {
    let mut siege = Siege::lay("byte-by-byte", "")?;
    siege.survives("a slow speaker", Limits::default(), |siege| {
        let right = siege.connected()?;
        let bytes = whole(&right);
        drop(right);
        siege.await_listening()?;
        let mut peer = HostilePeer::meet(&siege.place())?;
        peer.drip(Line::Data, &bytes, Duration::from_millis(1));
        peer.until_node(&siege.pair.alice, "in sync", |volume| volume.is_settled())?;
        Ok(())
    })
}
