//! A peer that reads slowly while the node's bitmap is on its way, and says other things meanwhile: the transfer ends, or
//! the connection, and the node is what it was.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::hostile::{Guise, HostilePeer, Line, Reads};
use rdb_tests::packets::{self, Code, SYNCER, Sizes, State};
use rdb_tests::pair::{Pair, Plan};
use rdb_tests::watch::{self, Limits, resident_kib};
use rdb_tests::wire::Header;
use rdb_tests::{Conf, Siege};

/// A device whose bitmap is larger than what is sent of it at once.
const DISK_BYTES: u64 = 16 << 30;

/// Bytes of a bitmap packet's payload.
const PACKET: usize = 4080;

/// Alice, with every second block of a large device marked.
fn scattered(name: &str) -> Result<Siege> {
    let mut siege = Siege::prepare(
        name,
        Plan {
            conf: Conf::default(),
            disk_bytes: DISK_BYTES,
            ..Plan::default()
        },
    )?;
    let alice = siege.node();
    alice.start()?;
    alice.adm(&["create-md", "--force", "r0"])?;
    alice.adm(&["up", "r0"])?;
    // Two disks that were never used agree on having nothing to sync.
    let mut peer = siege.peer(&Guise::blank())?;
    peer.until_node(&siege.pair.alice, "two blank disks", |volume| {
        volume.cs == "Connected" && volume.ds == "Inconsistent/Inconsistent"
    })?;
    let alice = &siege.pair.alice;
    std::thread::scope(|scope| {
        let order = scope.spawn(|| alice.adm(&["new-current-uuid", "--clear-bitmap", "r0"]));
        peer.pump_until(Duration::from_secs(10), |_| order.is_finished());
        order.join().map_err(|_| anyhow::anyhow!("the order"))?
    })?;
    drop(peer);
    alice.await_volume("a peer that is gone", 10, |volume| {
        volume.cs == "WFConnection"
    })?;
    alice.adm(&["primary", "r0"])?;
    alice.nbd(0)?.write(1 << 20, &[0xda; 65536])?;
    // The peer's marks join the node's own.
    let mut peer = siege.peer(&Guise::behind())?;
    peer.until_node(alice, "a source", |volume| volume.cs == "WFBitMapS")?;
    peer.pump(Duration::from_millis(300));
    let words = usize::try_from(siege.pair.data_bytes().div_ceil(4096).div_ceil(64))?;
    let marks = vec![0x55; words * 8];
    for part in marks.chunks(PACKET) {
        peer.say(packets::BITMAP, part);
    }
    peer.say(packets::BITMAP, &[]);
    peer.until_node(alice, "a source with many marks", |volume| {
        volume.cs == "SyncSource" && volume.oos > DISK_BYTES / 1024 / 3
    })?;
    drop(peer);
    watch::serves(siege.node())?;
    Ok(siege)
}

/// A peer that is being sent the bitmap, and reads nothing.
fn being_sent(siege: &Siege) -> Result<HostilePeer> {
    let mut place = siege.place();
    place.receive = Some(4096);
    let mut peer = HostilePeer::join(&place, &Guise::behind())?;
    peer.manners.reads = Reads::Nothing;
    peer.until_node(&siege.pair.alice, "a bitmap on its way", |volume| {
        volume.cs == "WFBitMapS"
    })?;
    Ok(peer)
}

/// What it may say meanwhile.
fn meanwhile(sectors: u64, uuids: [u64; 6]) -> Vec<(Code, Vec<u8>)> {
    let state = |conn, disk| {
        let mut state = State::meeting(disk);
        (state.conn, state.pdsk) = (conn, 8);
        (packets::STATE, state.payload())
    };
    let wish = |mask, value| (packets::STATE_CHG_REQ, packets::change(mask, value));
    let mut all: Vec<(Code, Vec<u8>)> = [sectors / 2, sectors - 8, sectors + 8, 1, 0, 1 << 54]
        .into_iter()
        .map(|size| (packets::SIZES, Sizes::of(size).payload()))
        .collect();
    all.push((packets::SIZES, {
        let limit = Sizes {
            user: 2048,
            ..Sizes::of(sectors)
        };
        limit.payload()
    }));
    all.extend([
        state(10, 8),
        state(14, 4),
        state(17, 4),
        state(10, 0),
        state(10, 2),
        state(23, 8),
        (packets::UUIDS, packets::longs(&uuids)),
        (packets::UUIDS, packets::longs(&[4, 0, 0, 0, 0, 0])),
        (
            packets::UUIDS,
            packets::longs(&[0x1122_3344_5566_7788, 0, 0, 0, 0, 8]),
        ),
        wish(0x1f0, 0xc0),
        wish(0x1f0, 0xb0),
        wish(0x1e00, 0x400),
        wish(0x1_e000, 0),
        wish(3, 1),
        (packets::CONN_ST_CHG_REQ, packets::change(0x1f0, 0x10)),
        (packets::BITMAP, vec![0xff; PACKET]),
        (packets::BITMAP, Vec::new()),
        (packets::COMPRESSED_BITMAP, vec![0x82, 0xff, 0xff]),
        (packets::SYNC_UUID, packets::longs(&[7])),
        (packets::OUT_OF_SYNC, packets::extent(0, 4096)),
        (packets::RS_DATA_REQUEST, packets::block(0, SYNCER, 4096, 0)),
        (packets::PROTOCOL_UPDATE, packets::protocol(1)),
        (packets::SYNC_PARAM89, packets::sync_param()),
        (packets::BARRIER, packets::words(&[1, 0])),
        (
            packets::DATA,
            [packets::data_header(0, [1; 8], 1, 0x100), vec![0; 4096]].concat(),
        ),
    ]);
    all
}

#[test]
fn anything_may_come_while_the_bitmap_is_on_its_way() -> Result<()> {
    let mut siege = scattered("bitmap-amid")?;
    let sectors = siege.pair.data_bytes() / 512;
    let limits = Limits {
        log_bytes: 256 << 10,
        kept_kib: 32 << 10,
        ..Limits::default()
    };
    siege.survives("packets amid the bitmap", limits, |siege| {
        let peer = being_sent(siege)?;
        let uuids = peer.learned.uuids.unwrap_or_default();
        drop(peer);
        for (code, payload) in meanwhile(sectors, uuids) {
            let length = payload.len().min(32);
            let what = format!("{} {:02x?}", packets::name(code), &payload[..length]);
            siege.await_listening()?;
            watch::serves(siege.node()).with_context(|| format!("before {what}"))?;
            let mut peer = being_sent(siege).with_context(|| format!("before {what}"))?;
            peer.say(code, &payload);
            peer.pump(Duration::from_millis(20));
            // What is left of the bitmap, after the packet was taken.
            peer.manners.reads = Reads::All;
            peer.pump(Duration::from_millis(200));
            let size = siege.pair.alice.nbd(0)?.size();
            ensure!(size == sectors * 512, "{what}: {size}");
            siege.node().is_well().context(what)?;
        }
        siege.await_listening()
    })
}

#[test]
fn what_it_is_owed_amid_the_bitmap_is_bounded() -> Result<()> {
    let mut siege = scattered("bitmap-owed")?;
    let sectors = siege.pair.data_bytes() / 512;
    let asking = Sizes {
        current: 0,
        ..Sizes::of(sectors)
    };
    let floods = [
        (Line::Data, packets::SIZES, asking.payload()),
        (Line::Data, packets::STATE_CHG_REQ, packets::change(3, 1)),
        (Line::Meta, packets::PING, Vec::new()),
    ];
    let limits = Limits {
        log_bytes: 512 << 10,
        kept_kib: 32 << 10,
        ..Limits::default()
    };
    siege.survives("floods amid the bitmap", limits, |siege| {
        let pid = siege.pair.alice.pid().context("alice runs")?;
        for (on, code, payload) in floods {
            siege.await_listening()?;
            let mut peer = being_sent(siege)?;
            let before = resident_kib(pid)?;
            let unit = Header::H100.packet(0, code, &payload);
            let mut most = before;
            peer.flood(on, &unit, Duration::from_secs(3), || {
                most = most.max(resident_kib(pid)?);
                Ok(most < before + (200 << 10))
            })?;
            let what = packets::name(code);
            ensure!(
                most < before + (48 << 10),
                "{what}: from {before} KiB to {most} KiB"
            );
        }
        siege.await_listening()
    })
}

#[test]
fn a_slow_reader_gets_the_whole_bitmap() -> Result<()> {
    let siege = scattered("bitmap-slow")?;
    let mut peer = being_sent(&siege)?;
    peer.manners.reads = Reads::Slowly(16 << 10, Duration::from_millis(5));
    let bytes = |peer: &HostilePeer| {
        let all = peer.all(packets::BITMAP);
        (
            all.iter().map(|part| part.len()).sum::<usize>(),
            all.last().is_some_and(|part| part.is_empty()),
        )
    };
    let words = usize::try_from(siege.pair.data_bytes().div_ceil(4096).div_ceil(64))?;
    peer.pump_until(Duration::from_secs(20), |peer| {
        bytes(peer) == (words * 8, true)
    });
    ensure!(
        bytes(&peer) == (words * 8, true),
        "{:?}; {}",
        bytes(&peer),
        peer.story()
    );
    let marks = peer.all(packets::BITMAP).concat();
    let right = marks[..marks.len() - 8]
        .iter()
        .enumerate()
        .all(|(at, byte)| {
            // What was written since is marked, too.
            byte & 0x55 == 0x55 && (at < 64 || *byte == 0x55)
        });
    ensure!(right, "{:02x?} …", &marks[..80]);
    drop(peer);
    let Siege { pair } = siege;
    let Pair { mut alice, .. } = pair;
    alice.is_well()
}
