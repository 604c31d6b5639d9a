//! Acknowledgements that nobody waits for, and such that do not fit what they acknowledge: the node leaves the
//! connection, and the users' writes end well.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::Siege;
use rdb_tests::hostile::HostilePeer;
use rdb_tests::packets::{self, Code};
use rdb_tests::watch::{Limits, Probe};

const ACKS: [Code; 11] = [
    packets::RECV_ACK,
    packets::WRITE_ACK,
    packets::RS_WRITE_ACK,
    packets::SUPERSEDED,
    packets::NEG_ACK,
    packets::NEG_DREPLY,
    packets::NEG_RS_DREPLY,
    packets::RS_IS_IN_SYNC,
    packets::RS_CANCEL,
    packets::RETRY_WRITE,
    packets::OV_RESULT,
];

/// The peer says this, and is left.
fn is_refused(peer: &mut HostilePeer, code: Code, payload: &[u8]) -> Result<()> {
    peer.say(code, payload);
    ensure!(
        peer.is_left_within(Duration::from_secs(5)),
        "{} is taken; {}",
        packets::name(code),
        peer.story()
    );
    Ok(())
}

#[test]
fn for_nothing_at_all() -> Result<()> {
    let mut siege = Siege::lay("acks-nothing", "")?;
    siege.survives("acks for nothing", Limits::default(), |siege| {
        for code in ACKS {
            for id in [[0; 8], *b"whatever"] {
                let mut peer = siege.connected()?;
                is_refused(&mut peer, code, &packets::block(2048, id, 4096, 1))?;
            }
        }
        for (number, size) in [(1u32, 5u32), (0, 0), (u32::MAX, u32::MAX)] {
            let mut peer = siege.connected()?;
            is_refused(
                &mut peer,
                packets::BARRIER_ACK,
                &packets::words(&[number, size]),
            )?;
        }
        Ok(())
    })
}

/// A user's write is on its way to a peer that has not acknowledged it; `say` tells what the peer says.
fn with_a_write_open(
    siege: &Siege,
    what: &str,
    say: impl FnOnce(&[u8]) -> (Code, Vec<u8>),
) -> Result<()> {
    let mut peer = siege.connected()?;
    peer.manners.acks = false;
    let probe = Probe::start(siege.pair.alice.nbd(0)?, true)?;
    ensure!(
        peer.pump_until(Duration::from_secs(5), |peer| peer.has(packets::DATA)),
        "no write came: {}",
        peer.story()
    );
    let write = peer.all(packets::DATA)[0].to_vec();
    let (code, payload) = say(&write[..24]);
    is_refused(&mut peer, code, &payload).with_context(|| what.to_owned())?;
    drop(peer);
    let longest = probe.stop()?;
    ensure!(
        longest < Duration::from_secs(8),
        "a user waited {longest:?}"
    );
    Ok(())
}

/// An acknowledgement of the write with this header, for other sectors and bytes.
fn for_other(head: &[u8], sectors: u64, bytes: u32) -> Vec<u8> {
    let id = head[8..].first_chunk().copied().unwrap_or_default();
    packets::block(
        packets::long_at(head, 0).wrapping_add(sectors),
        id,
        bytes,
        1,
    )
}

#[test]
fn with_the_right_name_for_another_place() -> Result<()> {
    let mut siege = Siege::lay("acks-place", "")?;
    siege.survives("acks for another place", Limits::default(), |siege| {
        let elsewhere = [(8, 4096), (u64::MAX, 4096)];
        let shorter_or_longer = [(0, 512), (0, 8192), (0, 0)];
        for code in [packets::WRITE_ACK, packets::NEG_ACK, packets::RECV_ACK] {
            // How long a write was that failed is nothing that its refusal has to know: all of it is marked.
            let lengths = if code == packets::NEG_ACK {
                &[][..]
            } else {
                &shorter_or_longer[..]
            };
            for (sectors, bytes) in elsewhere.iter().chain(lengths).copied() {
                let what = format!(
                    "{} {sectors} sectors off, {bytes} bytes",
                    packets::name(code)
                );
                with_a_write_open(siege, &what, |head| (code, for_other(head, sectors, bytes)))?;
            }
        }
        Ok(())
    })
}

#[test]
fn with_another_name_for_the_right_place() -> Result<()> {
    let mut siege = Siege::lay("acks-name", "")?;
    siege.survives("acks by another name", Limits::default(), |siege| {
        for code in [
            packets::WRITE_ACK,
            packets::NEG_ACK,
            packets::RS_WRITE_ACK,
            packets::SUPERSEDED,
            packets::RETRY_WRITE,
        ] {
            with_a_write_open(siege, &packets::name(code), |head| {
                let sector = packets::long_at(head, 0);
                let id = head[8..].first_chunk().copied().unwrap_or_default();
                let other = u64::from_be_bytes(id).wrapping_add(1 << 32).to_be_bytes();
                (code, packets::block(sector, other, 4096, 1))
            })?;
        }
        Ok(())
    })
}

#[test]
fn barriers_before_their_time_and_with_another_count() -> Result<()> {
    let mut siege = Siege::lay("acks-barriers", "")?;
    siege.survives("barriers", Limits::default(), |siege| {
        for what in ["another number", "another count", "twice"] {
            let mut peer = siege.connected()?;
            let probe = Probe::start(siege.pair.alice.nbd(0)?, true)?;
            // The writes are acknowledged, their epochs are not.
            peer.manners.acks = true;
            ensure!(
                peer.pump_until(Duration::from_secs(5), |peer| peer.has(packets::BARRIER)),
                "no barrier came: {}",
                peer.story()
            );
            let number = packets::word_at(peer.all(packets::BARRIER)[0], 0);
            let payload = match what {
                "another number" => packets::words(&[number.wrapping_add(77), 1]),
                "another count" => packets::words(&[number.wrapping_add(1), 4711]),
                _ => packets::words(&[number, 1]),
            };
            is_refused(&mut peer, packets::BARRIER_ACK, &payload).context(what)?;
            drop(peer);
            probe.stop()?;
        }
        Ok(())
    })
}
