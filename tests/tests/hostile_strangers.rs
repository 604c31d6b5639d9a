//! Strangers at the port: whoever has proved nothing does not make the node give up, does not keep the true peer out,
//! and does not fill the log.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdb_tests::hostile::{HostilePeer, Place};
use rdb_tests::watch::{self, Limits};
use rdb_tests::{Siege, packets, wire};

/// How long the true peer may take to connect and be in sync, with two busy processors.
const USUAL: u64 = 20;

/// Strangers in threads of their own, until the true peer is there; what each does is told by its number.
fn while_strangers(
    siege: &mut Siege,
    count: usize,
    each: impl Fn(&Place, usize) -> Result<()> + Sync,
) -> Result<()> {
    let (stop, turns) = (AtomicBool::new(false), AtomicUsize::new(0));
    let place = siege.place();
    std::thread::scope(|scope| {
        for number in 0..count {
            let (stop, turns, each, place) = (&stop, &turns, &each, &place);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let _ = each(place, number);
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let met = (|| {
            crate::wait_for_some(&turns)?;
            siege.start_bob()?;
            let start = Instant::now();
            siege.pair.settle(USUAL)?;
            eprintln!("in sync after {:?}, {turns:?} turns", start.elapsed());
            // And it stays.
            std::thread::sleep(Duration::from_secs(1));
            siege.pair.settle(1)
        })();
        stop.store(true, Ordering::Relaxed);
        met
    })?;
    siege.pair.are_well()?;
    siege.pair.disks_equal()?;
    let logged = siege.pair.alice.log().len();
    ensure!(logged < 256 << 10, "{logged} bytes of log");
    Ok(())
}

fn wait_for_some(turns: &AtomicUsize) -> Result<()> {
    rdb_tests::wait_until("some strangers", Duration::from_secs(20), || {
        Ok(turns.load(Ordering::Relaxed) > 20)
    })
}

#[test]
fn a_flood_of_first_packets_from_the_peers_address() -> Result<()> {
    let mut siege = Siege::lay("flood-initial", "")?;
    while_strangers(&mut siege, 4, |place, number| {
        let first = if number % 2 == 0 {
            packets::INITIAL_DATA
        } else {
            packets::INITIAL_META
        };
        let mut stream = wire::connect_from(&place.from, &place.to)?;
        stream.write_all(&wire::h80(first, &[]))?;
        std::thread::sleep(Duration::from_millis(5));
        Ok(())
    })
}

#[test]
fn a_flood_that_holds_its_connections_open() -> Result<()> {
    let mut siege = Siege::lay("flood-open", "")?;
    let held = std::sync::Mutex::new(Vec::<TcpStream>::new());
    while_strangers(&mut siege, 4, |place, number| {
        let mut stream = wire::connect_from(&place.from, &place.to)?;
        // Half of them say nothing, or half of a packet.
        if number % 2 == 0 {
            stream.write_all(&wire::h80(packets::INITIAL_DATA, &[])[..number * 4])?;
        } else {
            stream.write_all(&wire::h80(packets::INITIAL_DATA, &[]))?;
        }
        let mut held = held
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        held.push(stream);
        if held.len() > 1000 {
            held.drain(..500);
        }
        std::thread::sleep(Duration::from_millis(2));
        Ok(())
    })
}

#[test]
fn strangers_that_go_through_half_of_a_handshake() -> Result<()> {
    let mut siege = Siege::lay("half-handshakes", "")?;
    while_strangers(&mut siege, 3, |place, number| {
        let mut peer = HostilePeer::pair(place)?;
        match number {
            0 => peer.pump(Duration::from_millis(200)),
            1 => peer.offer(200, 210, 0),
            _ => {
                peer.offer(86, 101, packets::FEATURE_FLAGS);
                peer.say(packets::PROTOCOL, &packets::protocol(2));
            }
        }
        peer.pump(Duration::from_millis(100));
        Ok(())
    })
}

#[test]
fn a_thousand_that_are_slow_or_silent() -> Result<()> {
    let mut siege = Siege::lay("thousand", "")?;
    let place = siege.place();
    siege.survives("a thousand strangers", Limits::default(), |siege| {
        let mut strangers = Vec::new();
        for number in 0..1000 {
            // Backlogs are short; who is not let in at once is turned away.
            let Ok(mut stream) = wire::connect_from(&place.from, &place.to) else {
                continue;
            };
            let _ = stream.write_all(&wire::h80(packets::INITIAL_DATA, &[])[..number % 9]);
            strangers.push(stream);
        }
        ensure!(strangers.len() > 500, "{} strangers", strangers.len());
        let alice = &siege.pair.alice;
        let pid = alice.pid().context("alice runs")?;
        let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        ensure!(open < 300, "{open} descriptors");
        // A byte now and then.
        for _ in 0..10 {
            for stream in &mut strangers {
                let _ = stream.write_all(&[0x83]);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        ensure!(alice.volume(0)?.cs == "WFConnection");
        Ok(())
    })?;
    siege.relieve(USUAL)
}

#[test]
fn whoever_has_proved_nothing_does_not_end_the_waiting() -> Result<()> {
    let mut siege = Siege::lay(
        "nothing-proved",
        "cram-hmac-alg sha1; shared-secret sesame;",
    )?;
    siege.survives("bad beginnings", Limits::default(), |siege| {
        let offers: [(u32, u32); 5] =
            [(200, 210), (0, 0), (1, 85), (u32::MAX, u32::MAX), (101, 86)];
        for (low, high) in offers {
            let mut peer = HostilePeer::meet(&siege.place())?;
            peer.offer(low, high, 0);
            ensure!(
                peer.is_left_within(Duration::from_secs(5)),
                "{low} to {high}: {}",
                peer.story()
            );
        }
        for code in [packets::PROTOCOL, packets::STATE, packets::PING] {
            let mut peer = HostilePeer::meet(&siege.place())?;
            peer.say_on(rdb_tests::hostile::Line::Data, code, &packets::protocol(1));
            ensure!(
                peer.is_left_within(Duration::from_secs(5)),
                "{}: {}",
                packets::name(code),
                peer.story()
            );
        }
        for payload in [&[][..], &[0; 71], &[0; 73], &[0; 4000]] {
            let mut peer = HostilePeer::meet(&siege.place())?;
            peer.say(packets::CONNECTION_FEATURES, payload);
            ensure!(
                peer.is_left_within(Duration::from_secs(5)),
                "features of {} bytes: {}",
                payload.len(),
                peer.story()
            );
        }
        Ok(())
    })?;
    ensure!(
        siege.pair.alice.logged("-> StandAlone") == 0,
        "{}",
        siege.pair.alice.log_tail(30)
    );
    watch::serves(siege.node())?;
    siege.relieve(USUAL)
}
