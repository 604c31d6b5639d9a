//! Requests to change a state that a peer has no business making, in each state that it can bring a node to:
//! whatever the node answers, its users' I/O goes on, it stays Primary with a good disk, and nothing of it
//! outlives the peer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::hostile::HostilePeer;
use rdb_tests::packets::{CONN_ST_CHG_REQ, Code, STATE_CHG_REQ};
use rdb_tests::watch::{self, Limits, Probe};
use rdb_tests::{Siege, siege};

const CONN: u32 = 0x1f0;
const DISK: u32 = 0x1e00;
const OUR_DISK: u32 = 0x1_e000;
const OUR_ROLE: u32 = 0xc;

/// Field masks and values, as the peer that sends them sees them.
fn wishes(roles: &[u32]) -> Vec<(String, u32, u32)> {
    let mut all = Vec::new();
    for role in roles.iter().copied() {
        all.push((format!("our role {role}"), OUR_ROLE, role << 2));
        all.push((format!("both roles {role}"), OUR_ROLE | 3, role << 2 | role));
    }
    for disk in 0..16 {
        all.push((format!("our disk {disk}"), OUR_DISK, disk << 13));
        all.push((
            format!("both disks {disk}"),
            OUR_DISK | DISK,
            disk << 13 | disk << 9,
        ));
    }
    for bit in 17..32 {
        all.push((format!("bit {bit}"), 1 << bit, 1 << bit));
    }
    // 11 and 12 are orders that a peer's administrator may give; 1 is a farewell.
    for conn in (0..32).filter(|conn| ![1, 11, 12].contains(conn)) {
        all.push((format!("connection {conn}"), CONN, conn << 4));
    }
    all.push((
        "verify, and our disk Outdated".into(),
        CONN | OUR_DISK,
        18 << 4 | 5 << 13,
    ));
    all.push(("everything 0".into(), u32::MAX, 0));
    all.push(("everything 1".into(), u32::MAX, u32::MAX));
    all.push(("nothing".into(), 0, 0));
    all.push(("a value without a field".into(), 0, u32::MAX));
    all.push(("half a field".into(), 0x10, 0x10));
    all.push(("half of our disk".into(), 0x1_0000, 0));
    all.push((
        "farewell, and our disk Outdated".into(),
        CONN | OUR_DISK,
        0xa010,
    ));
    all.push((
        "farewell, and our disk Diskless".into(),
        CONN | OUR_DISK,
        0x10,
    ));
    all.push(("farewell, and our role".into(), CONN | OUR_ROLE, 0x18));
    all
}

/// How many nodes are asked at the same time.
const NODES: u8 = 10;

/// The wishes for one of the nodes, each by both packets.
fn share(number: u8, roles: &[u32]) -> Vec<(String, Code, u32, u32)> {
    let by_both = |(what, mask, value): (String, u32, u32)| {
        [STATE_CHG_REQ, CONN_ST_CHG_REQ]
            .map(|request| (format!("{what} by {request:#x}"), request, mask, value))
    };
    let all = wishes(roles).into_iter().flat_map(by_both);
    all.skip(usize::from(number))
        .step_by(usize::from(NODES))
        .collect()
}

/// Makes every wish; `join` brings a node into the state.
fn every_wish(name: &str, join: impl Fn(&Siege) -> Result<HostilePeer> + Sync) -> Result<()> {
    let limits = Limits {
        log_bytes: 256 << 10,
        ..Limits::default()
    };
    siege::many(NODES, name, |number, siege| {
        siege.survives("every wish", limits, |siege| {
            let mut peer = join(siege)?;
            for (what, request, mask, value) in share(number, &[0, 2, 3]) {
                if peer.is_ended() {
                    drop(peer);
                    watch::serves(siege.node()).with_context(|| what.clone())?;
                    peer = join(siege).with_context(|| format!("before {what}"))?;
                }
                let answer = peer.ask_change(request, mask, value);
                let what = format!("{what}, answered {answer:?}");
                users_go_on(siege, &mut peer).with_context(|| what)?;
            }
            Ok(())
        })
    })
    .map(drop)
}

/// Users read and write, with the peer's acknowledgement while it is there; the node is what it was.
fn users_go_on(siege: &Siege, peer: &mut HostilePeer) -> Result<()> {
    let alice = &siege.pair.alice;
    let volume = alice.volume(0)?;
    ensure!(
        volume.ro.starts_with("Primary/")
            && volume.ds.starts_with("UpToDate/")
            && !volume.is_suspended()
            && volume.cs != "StandAlone",
        "{volume:?}\n{}",
        alice.log_tail(10)
    );
    let probe = Probe::start(alice.nbd(0)?, true)?;
    peer.pump_until(Duration::from_secs(5), |_| probe.is_done());
    let longest = probe.stop()?;
    ensure!(
        longest < Duration::from_secs(3),
        "a user waited {longest:?}"
    );
    Ok(())
}

#[test]
fn while_in_sync() -> Result<()> {
    every_wish("wishes-in-sync", Siege::connected)
}

#[test]
fn while_a_resync_runs() -> Result<()> {
    every_wish("wishes-resync", Siege::syncing)
}

#[test]
fn by_a_peer_without_a_disk() -> Result<()> {
    every_wish("wishes-diskless", Siege::diskless)
}

#[test]
fn to_a_secondary() -> Result<()> {
    siege::many(NODES, "wishes-secondary", |number, siege| {
        siege.node().adm(&["secondary", "r0"])?;
        let mut peer = siege.connected()?;
        for (what, request, mask, value) in share(number, &[0, 1, 3]) {
            if value & CONN == 0x10 && mask & OUR_DISK != 0 {
                // A Primary that says farewell may outdate whom it leaves.
                continue;
            }
            if peer.is_ended() {
                drop(peer);
                siege.await_listening()?;
                peer = siege
                    .connected()
                    .with_context(|| format!("before {what}"))?;
            }
            let answer = peer.ask_change(request, mask, value);
            peer.pump(Duration::from_millis(10));
            let volume = siege.pair.alice.volume(0)?;
            ensure!(
                volume.ro.starts_with("Secondary/")
                    && volume.ds.starts_with("UpToDate/")
                    && !volume.is_suspended(),
                "{what}, answered {answer:?}: {volume:?}"
            );
        }
        drop(peer);
        siege.await_listening()?;
        siege.node().adm(&["primary", "r0"])?;
        watch::serves(siege.node())
    })
    .map(drop)
}
