//! Writes from a peer that may not write: from a Secondary, or onto a Primary. The node leaves the connection, and
//! its data are what they were.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::hostile::{Guise, HostilePeer};
use rdb_tests::packets::{self, Code};
use rdb_tests::watch::Limits;
use rdb_tests::{Siege, disk};

/// A sector of the block that users watch, and one in the middle of nothing.
const SECTORS: [u64; 2] = [1 << 11, 8000];

/// Every packet that writes, each in a plain shape.
fn writes(sector: u64) -> Vec<(Code, Vec<u8>)> {
    let head = |flags| packets::data_header(sector, *b"EVILEVIL", 1, flags);
    let with = |flags, tail: &[u8]| [head(flags), tail.to_vec()].concat();
    let size = 4096u32.to_be_bytes();
    vec![
        (packets::DATA, with(0x100, &[0xee; 4096])),
        (packets::DATA, with(0x80, &[0xee; 512])),
        (packets::DATA, with(0x104, &[0xee; 4096])),
        (packets::DATA, with(0x130, &[0xee; 65536])),
        (packets::TRIM, with(0x140, &size)),
        (packets::ZEROES, with(0x500, &size)),
        (packets::ZEROES, with(0x540, &size)),
        (
            packets::WSAME,
            [with(0x300, &size), vec![0xee; 512]].concat(),
        ),
        (
            packets::RS_DATA_REPLY,
            [
                packets::data_header(sector, packets::SYNCER, 0, 0),
                vec![0xee; 4096],
            ]
            .concat(),
        ),
        (packets::DATA_REPLY, with(0, &[0xee; 4096])),
        (packets::RS_DEALLOCATED, packets::extent(sector, 4096)),
    ]
}

fn every_write(name: &str, join: impl Fn(&Siege) -> Result<HostilePeer>) -> Result<()> {
    let mut siege = Siege::lay(name, "")?;
    siege.survives("writes", Limits::default(), |siege| {
        for sector in SECTORS {
            // Half of them on data, the others where nothing is.
            let half = usize::from(sector == SECTORS[1]);
            let all = writes(sector).into_iter().enumerate();
            for (index, (code, payload)) in all.filter(|(index, _)| index % 2 == half) {
                let what = format!("{} (number {index}) at {sector}", packets::name(code));
                let mut peer = join(siege).with_context(|| format!("before {what}"))?;
                peer.seen.clear();
                peer.say(code, &payload);
                ensure!(
                    peer.is_left_within(Duration::from_secs(5)),
                    "{what}: the connection goes on; {}",
                    peer.story()
                );
                for ack in [packets::WRITE_ACK, packets::RECV_ACK, packets::RS_WRITE_ACK] {
                    ensure!(!peer.has(ack), "{what}: {}", peer.story());
                }
                drop(peer);
                let data = siege.node().nbd(0)?.read(sector * 512, 4096)?;
                let right = if sector == SECTORS[0] { 0xda } else { 0 };
                ensure!(
                    data.iter().all(|byte| *byte == right),
                    "{what}: {:x?}",
                    &data[..8]
                );
            }
        }
        Ok(())
    })
}

#[test]
fn from_a_secondary_in_sync() -> Result<()> {
    every_write("writes-in-sync", Siege::connected)
}

#[test]
fn from_a_target() -> Result<()> {
    every_write("writes-target", Siege::syncing)
}

#[test]
fn from_a_peer_without_a_disk() -> Result<()> {
    every_write("writes-diskless", Siege::diskless)
}

#[test]
fn from_one_that_becomes_primary_unasked() -> Result<()> {
    every_write("writes-primary", |siege| {
        let mut peer = siege.connected()?;
        let mut state = packets::State::meeting(8);
        (state.role, state.conn, state.pdsk) = (1, 10, 8);
        peer.say(packets::STATE, &state.payload());
        peer.pump(Duration::from_millis(50));
        Ok(peer)
    })
}

#[test]
fn onto_a_secondary_only_a_primary_writes() -> Result<()> {
    let mut siege = Siege::lay("writes-secondary", "")?;
    siege.node().adm(&["secondary", "r0"])?;
    let file = siege.pair.disk(0, 0).clone();
    let end = siege.pair.data_bytes();
    let before = disk::fingerprint(&file, end)?;
    for sector in SECTORS {
        for (code, payload) in writes(sector) {
            let what = format!("{} at {sector}", packets::name(code));
            siege.await_listening()?;
            let mut peer = siege.connected()?;
            peer.say(code, &payload);
            ensure!(
                peer.is_left_within(Duration::from_secs(5)),
                "{what}: the connection goes on; {}",
                peer.story()
            );
        }
    }
    siege.await_listening()?;
    ensure!(disk::fingerprint(&file, end)? == before, "the data changed");

    // From a Primary the same packet is a write like any other.
    let mut guise = Guise::equal();
    guise.state.role = 1;
    let mut peer = siege.peer(&guise)?;
    peer.until_node(&siege.pair.alice, "a Primary peer", |volume| {
        volume.cs == "Connected" && volume.ro == "Secondary/Primary"
    })?;
    let (code, payload) = writes(SECTORS[1]).swap_remove(0);
    peer.say(code, &payload);
    ensure!(
        peer.pump_until(Duration::from_secs(5), |peer| peer.has(packets::WRITE_ACK)),
        "{}",
        peer.story()
    );
    ensure!(disk::read(&file, SECTORS[1] * 512, 4096)? == [0xee; 4096]);
    drop(peer);
    siege.node().is_well()
}
