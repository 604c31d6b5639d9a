//! Whatever others can make a node log, they cannot make it log much.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdb_tests::hostile::{Guise, HostilePeer, Line};
use rdb_tests::watch::Limits;
use rdb_tests::wire::Header;
use rdb_tests::{Siege, packets, wire};

/// Bytes that ten seconds of nuisance may add.
const MOST: usize = 256 << 10;

const TIME: Duration = Duration::from_secs(4);

fn is_quiet(name: &str, nuisance: impl Fn(&Siege) -> Result<()>) -> Result<()> {
    let mut siege = Siege::lay(name, "")?;
    let limits = Limits {
        log_bytes: MOST,
        ..Limits::default()
    };
    siege.survives("nuisance", limits, |siege| {
        let (start, before) = (Instant::now(), siege.pair.alice.log().len());
        while start.elapsed() < TIME {
            // Who is kept out for a while has less to say.
            let _ = nuisance(siege);
        }
        let logged = siege.pair.alice.log().len() - before;
        eprintln!("{logged} bytes logged");
        siege.await_listening()
    })
}

/// One packet without end, by a peer in sync.
fn same_packet(name: &str, unit: Vec<u8>) -> Result<()> {
    is_quiet(name, |siege| {
        let mut peer = siege.connected()?;
        peer.flood(Line::Data, &unit, TIME, || Ok(true))?;
        Ok(())
    })
}

#[test]
fn by_refused_requests() -> Result<()> {
    let wish = packets::change(3, 1);
    same_packet(
        "log-wishes",
        Header::H100.packet(0, packets::STATE_CHG_REQ, &wish),
    )
}

#[test]
fn by_unknown_volumes() -> Result<()> {
    let sizes = packets::Sizes::of(32_688).payload();
    same_packet(
        "log-volumes",
        Header::H100.packet(77, packets::SIZES, &sizes),
    )
}

#[test]
fn by_states_that_change_all_the_time() -> Result<()> {
    let mut unit = Vec::new();
    for more in [0, 1 << 20] {
        let mut state = packets::State::meeting(8);
        (state.conn, state.pdsk, state.peer, state.more) = (10, 8, 1, more);
        unit.extend(Header::H100.packet(0, packets::STATE, &state.payload()));
    }
    same_packet("log-states", unit)
}

/// A disk of the peer that comes and goes has this node decide each time, and end what it has begun.
#[test]
fn by_disks_that_come_and_go() -> Result<()> {
    let mut unit = Vec::new();
    for disk in [0, 3, 4, 3, 8] {
        // (What a node tells again, with the generation of a new disk: none has been written with it.)
        let mut uuids = packets::longs(&[4, 0, 0, 0]);
        uuids.extend(packets::longs(&[0, 0]));
        unit.extend(Header::H100.packet(0, packets::UUIDS, &uuids));
        let mut state = packets::State::meeting(disk);
        (state.conn, state.pdsk, state.peer) = (10, 8, 1);
        unit.extend(Header::H100.packet(0, packets::STATE, &state.payload()));
    }
    same_packet("log-disks", unit)
}

#[test]
fn by_peers_that_come_and_go() -> Result<()> {
    is_quiet("log-comings", |siege| {
        let mut peer = HostilePeer::pair(&siege.place())?;
        peer.offer(86, 101, packets::FEATURE_FLAGS);
        peer.introduce(&Guise::equal())?;
        peer.say(0x7fff, b"goodbye");
        peer.is_left_within(Duration::from_secs(1));
        Ok(())
    })
}

#[test]
fn by_strangers() -> Result<()> {
    is_quiet("log-strangers", |siege| {
        let place = siege.place();
        let stranger = place.from.rsplit_once('.').map_or("", |parts| parts.0);
        for from in [place.from.clone(), format!("{stranger}.9")] {
            for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[]] {
                if let Ok(mut stream) = wire::connect_from(&from, &place.to) {
                    let _ = stream.write_all(bytes);
                }
            }
        }
        Ok(())
    })
}

#[test]
fn nothing_of_a_peer_reaches_the_log_unescaped() -> Result<()> {
    let mut siege = Siege::lay("log-escapes", "")?;
    siege.survives("escapes", Limits::default(), |siege| {
        let mut guise = Guise::equal();
        let mut protocol = packets::words(&[3, 0, 0, 0, 0, 0]);
        protocol.extend(b"\x1b[2J\nFAKE LINE\x07\0");
        guise.protocol = Some(protocol);
        let mut peer = siege.peer(&guise)?;
        peer.pump(Duration::from_millis(500));
        drop(peer);
        let mut guise = Guise::equal();
        let mut param = packets::sync_param();
        param[4..24].copy_from_slice(b"\x1b[2J\nFAKE LINE\x07\x7f\xff\xfe\x1b\x1b");
        guise.sync_param = Some(param);
        siege.await_listening()?;
        let mut peer = siege.peer(&guise)?;
        peer.pump(Duration::from_millis(500));
        drop(peer);
        siege.await_listening()
    })?;
    let log = siege.pair.alice.log();
    let fake = log.lines().any(|line| line.starts_with("FAKE"));
    ensure!(
        !log.contains('\x1b') && !log.contains('\x07') && !fake,
        "{log}"
    );
    Ok(())
}
