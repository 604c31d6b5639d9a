//! Floods by peers that read nothing or little: the node's memory has a bound, its users are served meanwhile, and
//! what it took it gives back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::Siege;
use rdb_tests::hostile::{Guise, HostilePeer, Line, Reads};
use rdb_tests::packets::{self, Code, SYNCER, Sizes, State};
use rdb_tests::watch::{Limits, resident_kib};
use rdb_tests::wire::Header;

/// KiB that a node may take more than before, whatever a peer sends.
const MOST_KIB: u64 = 48 << 10;

/// How long each flood goes on.
const TIME: Duration = Duration::from_secs(3);

/// How the flooding peer reads.
const READS: [Reads; 3] = [
    Reads::Nothing,
    Reads::Slowly(4096, Duration::from_millis(100)),
    Reads::All,
];

/// Sends one packet without end, for each way of reading, to a node in the state that `join` makes.
fn flood(
    name: &str,
    (on, code, payload): (Line, Code, Vec<u8>),
    join: impl Fn(&Siege) -> Result<HostilePeer>,
) -> Result<()> {
    let mut siege = Siege::lay(name, "")?;
    let limits = Limits {
        log_bytes: 512 << 10,
        // The pool of payload buffers, once touched, stays.
        kept_kib: 32 << 10,
        ..Limits::default()
    };
    siege.survives("a flood", limits, |siege| {
        let pid = siege.pair.alice.pid().context("alice runs")?;
        for reads in READS {
            siege.await_listening()?;
            let mut peer = join(siege)?;
            peer.manners.reads = reads;
            let before = resident_kib(pid)?;
            let unit = Header::H100.packet(0, code, &payload);
            let mut most = before;
            let pushed = peer.flood(on, &unit, TIME, || {
                most = most.max(resident_kib(pid)?);
                Ok(most < before + 4 * MOST_KIB)
            })?;
            eprintln!(
                "{} {reads:?}: {} packets, {} bytes read, ended: {}, {before} KiB, at most {most} KiB",
                packets::name(code),
                pushed.bytes / unit.len() as u64,
                peer.bytes_read(),
                pushed.ended
            );
            ensure!(
                most <= before + MOST_KIB,
                "{reads:?}: from {before} KiB to {most} KiB after {} bytes",
                pushed.bytes
            );
        }
        siege.await_listening()
    })
}

/// A peer with small buffers: it is felt at once that it does not read.
fn narrow(siege: &Siege, guise: &Guise) -> Result<HostilePeer> {
    let mut place = siege.place();
    place.receive = Some(16 << 10);
    let mut peer = HostilePeer::join(&place, guise)?;
    peer.pump(Duration::from_millis(200));
    Ok(peer)
}

fn in_sync(siege: &Siege) -> Result<HostilePeer> {
    narrow(siege, &Guise::equal())
}

#[test]
fn of_sizes_that_ask_for_an_answer() -> Result<()> {
    let asking = Sizes {
        current: 0,
        ..Sizes::of(32_688)
    };
    flood(
        "flood-sizes",
        (Line::Data, packets::SIZES, asking.payload()),
        in_sync,
    )
}

#[test]
fn of_pings() -> Result<()> {
    flood(
        "flood-pings",
        (Line::Meta, packets::PING, Vec::new()),
        in_sync,
    )
}

#[test]
fn of_requests_to_change_the_state() -> Result<()> {
    let wish = packets::change(3, 1);
    flood(
        "flood-wishes",
        (Line::Data, packets::STATE_CHG_REQ, wish),
        in_sync,
    )
}

#[test]
fn of_requests_to_change_the_connection() -> Result<()> {
    let wish = packets::change(0x1e000, 0);
    flood(
        "flood-conn",
        (Line::Data, packets::CONN_ST_CHG_REQ, wish),
        in_sync,
    )
}

#[test]
fn of_states() -> Result<()> {
    let mut state = State::meeting(8);
    (state.conn, state.pdsk, state.peer) = (10, 8, 1);
    flood(
        "flood-states",
        (Line::Data, packets::STATE, state.payload()),
        in_sync,
    )
}

#[test]
fn of_identifiers() -> Result<()> {
    let uuids = packets::longs(&[0x1122_3344_5566_7788, 0, 0, 0, 0, 0]);
    flood("flood-uuids", (Line::Data, packets::UUIDS, uuids), in_sync)
}

#[test]
fn of_reads_by_a_peer_without_a_disk() -> Result<()> {
    let request = packets::block(0, *b"a handle", 1 << 20, 0);
    flood(
        "flood-reads",
        (Line::Data, packets::DATA_REQUEST, request),
        |siege| narrow(siege, &Guise::diskless()),
    )
}

#[test]
fn of_reads_of_a_sector() -> Result<()> {
    let request = packets::block(8, *b"a handle", 512, 0);
    flood(
        "flood-sectors",
        (Line::Data, packets::DATA_REQUEST, request),
        |siege| narrow(siege, &Guise::diskless()),
    )
}

#[test]
fn of_requests_of_a_resync() -> Result<()> {
    let request = packets::block(0, SYNCER, 1 << 20, 0);
    flood(
        "flood-resync",
        (Line::Data, packets::RS_DATA_REQUEST, request),
        |siege| {
            let mut peer = narrow(siege, &Guise::blank())?;
            peer.return_bitmap()?;
            peer.until_node(&siege.pair.alice, "a source", |volume| {
                volume.cs == "SyncSource"
            })?;
            Ok(peer)
        },
    )
}

#[test]
fn what_is_asked_for_and_not_taken_delays_no_user() -> Result<()> {
    let mut siege = Siege::lay("asked-not-taken", "")?;
    let limits = Limits {
        answer: Duration::from_secs(2),
        kept_kib: 32 << 10,
        ..Limits::default()
    };
    siege.survives("reads that nobody takes", limits, |siege| {
        let mut peer = narrow(siege, &Guise::diskless())?;
        peer.manners.reads = Reads::Nothing;
        for _ in 0..2000 {
            let request = packets::block(0, *b"a handle", 1 << 20, 0);
            peer.say(packets::DATA_REQUEST, &request);
        }
        std::thread::sleep(Duration::from_secs(3));
        // In the middle of it many blocks, not the one that is in nobody's way by luck.
        let mut client = siege.pair.alice.nbd(0)?;
        let start = std::time::Instant::now();
        for block in 0..15 {
            client.read(block << 20, 1 << 20)?;
        }
        let took = start.elapsed();
        ensure!(took < Duration::from_secs(2), "users waited {took:?}");
        Ok(())
    })
}
