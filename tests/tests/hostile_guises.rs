//! A peer made by hand that does everything right: each guise brings the node to its state, users write
//! meanwhile, and the peer's leaving changes nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use rdb_tests::Siege;
use rdb_tests::hostile::{Guise, HostilePeer};
use rdb_tests::packets;
use rdb_tests::watch::{Limits, Probe};

/// A user writes while the peer acknowledges.
fn users_write(siege: &Siege, peer: &mut HostilePeer) -> Result<()> {
    let probe = Probe::start(siege.pair.alice.nbd(0)?, true)?;
    peer.pump(Duration::from_millis(500));
    peer.pump_until(Duration::from_secs(5), |_| probe.is_done());
    ensure!(!peer.is_ended(), "{}", peer.story());
    let longest = probe.stop()?;
    ensure!(longest < Duration::from_secs(2), "{longest:?}");
    ensure!(peer.has(packets::DATA), "{}", peer.story());
    Ok(())
}

#[test]
fn a_peer_in_sync() -> Result<()> {
    let mut siege = Siege::lay("in-sync", "")?;
    siege.survives("a peer in sync", Limits::default(), |siege| {
        let mut peer = siege.connected()?;
        users_write(siege, &mut peer)
    })
}

#[test]
fn a_peer_that_is_being_synced() -> Result<()> {
    let mut siege = Siege::lay("being-synced", "")?;
    siege.survives("a target", Limits::default(), |siege| {
        let mut peer = siege.syncing()?;
        users_write(siege, &mut peer)?;
        let at = 1 << 11;
        peer.say(
            packets::RS_DATA_REQUEST,
            &packets::block(at, packets::SYNCER, 4096, 0),
        );
        ensure!(
            peer.pump_until(Duration::from_secs(5), |peer| peer
                .has(packets::RS_DATA_REPLY)),
            "{}",
            peer.story()
        );
        let reply = peer.all(packets::RS_DATA_REPLY)[0].to_vec();
        ensure!(packets::long_at(&reply, 0) == at);
        ensure!(reply[24..] == [0xda; 4096]);
        Ok(())
    })
}

#[test]
fn a_peer_without_a_disk() -> Result<()> {
    let mut siege = Siege::lay("without-disk", "")?;
    siege.survives("a diskless peer", Limits::default(), |siege| {
        let mut peer = siege.peer(&Guise::diskless())?;
        peer.until_node(&siege.pair.alice, "Diskless", |volume| {
            volume.cs == "Connected" && volume.ds == "UpToDate/Diskless"
        })?;
        peer.say(
            packets::DATA_REQUEST,
            &packets::block(1 << 11, *b"a handle", 4096, 0),
        );
        ensure!(
            peer.pump_until(Duration::from_secs(5), |peer| peer.has(packets::DATA_REPLY)),
            "{}",
            peer.story()
        );
        let reply = peer.all(packets::DATA_REPLY)[0];
        ensure!(reply[8..16] == *b"a handle" && reply[24..] == [0xda; 4096]);
        Ok(())
    })
}
