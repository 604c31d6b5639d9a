//! What a peer says of sizes: it never shrinks or grows a device that has users, neither at the handshake nor
//! later, and none of it is remembered when the peer has gone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::Siege;
use rdb_tests::hostile::{Generation, Guise, HostilePeer};
use rdb_tests::packets::{SIZES, Sizes};
use rdb_tests::watch::{self, Limits};

/// What a peer may say that has a disk of the right size.
#[expect(clippy::too_many_lines, reason = "a table: one row a lie")]
fn lies(right: u64) -> Vec<(&'static str, Sizes)> {
    let honest = Sizes::of(right);
    let all = |sectors| Sizes::of(sectors);
    vec![
        ("a disk of 1 MiB", all(2048)),
        ("a disk of one sector", all(1)),
        ("a disk one sector smaller", all(right - 1)),
        ("a disk eight sectors smaller", all(right - 8)),
        ("a disk eight sectors larger", all(right + 8)),
        ("a disk of 2^54 sectors", all(1 << 54)),
        ("a disk of 2^63 sectors", all(1 << 63)),
        ("a disk of all sectors", all(u64::MAX)),
        (
            "a small disk, forced",
            Sizes {
                flags: 1,
                ..all(2048)
            },
        ),
        (
            "a small disk, all flags",
            Sizes {
                flags: 0xffff,
                ..all(2048)
            },
        ),
        (
            "a limit of 1 MiB",
            Sizes {
                user: 2048,
                ..honest
            },
        ),
        (
            "a limit of 1 MiB, and so its device",
            Sizes {
                user: 2048,
                current: 2048,
                ..honest
            },
        ),
        ("a limit of 8 sectors", Sizes { user: 8, ..honest }),
        (
            "a limit of 2^63",
            Sizes {
                user: 1 << 63,
                ..honest
            },
        ),
        (
            "a device of 1 MiB",
            Sizes {
                current: 2048,
                ..honest
            },
        ),
        (
            "a device of all sectors",
            Sizes {
                current: u64::MAX,
                ..honest
            },
        ),
        (
            "no disk, a device of 1 MiB",
            Sizes {
                disk: 0,
                current: 2048,
                ..honest
            },
        ),
        (
            "no disk, a device of 2^54",
            Sizes {
                disk: 0,
                current: 1 << 54,
                ..honest
            },
        ),
        (
            "no disk, a limit of 1 MiB",
            Sizes {
                disk: 0,
                user: 2048,
                current: 0,
                ..honest
            },
        ),
        ("no disk and no device", all(0)),
        (
            "requests of no bytes",
            Sizes {
                largest: 0,
                ..honest
            },
        ),
        (
            "requests of one byte",
            Sizes {
                largest: 1,
                ..honest
            },
        ),
        (
            "requests of 4 GiB",
            Sizes {
                largest: u32::MAX,
                ..honest
            },
        ),
    ]
}

/// Users have all of their device, also at its end.
fn keeps_its_size(siege: &Siege, bytes: u64) -> Result<()> {
    let mut client = siege.pair.alice.nbd(0)?;
    ensure!(
        client.size() == bytes,
        "{} instead of {bytes}",
        client.size()
    );
    client.read(bytes - 4096, 4096)?;
    Ok(())
}

/// The metadata holds no size of the peer's wish: after a restart the device is what it was.
fn remembers_its_size(siege: &mut Siege, bytes: u64) -> Result<()> {
    let alice = siege.node();
    alice.kill()?;
    alice.start()?;
    alice.adm(&["up", "r0"])?;
    alice.adm(&["primary", "r0"])?;
    watch::serves(alice)?;
    keeps_its_size(siege, bytes)
}

fn quick() -> Limits {
    Limits {
        log_bytes: 512 << 10,
        ..Limits::default()
    }
}

/// Tells every lie in one state, joining again when the node has left.
fn every_lie_after(name: &str, join: impl Fn(&Siege) -> Result<HostilePeer>) -> Result<()> {
    let mut siege = Siege::lay(name, "")?;
    let bytes = siege.pair.data_bytes();
    siege.survives("lies", quick(), |siege| {
        for (what, sizes) in lies(bytes / 512) {
            let mut peer = join(siege).with_context(|| format!("before {what}"))?;
            for _ in 0..2 {
                peer.say(SIZES, &sizes.payload());
                peer.pump(Duration::from_millis(80));
                keeps_its_size(siege, bytes).with_context(|| what.to_owned())?;
            }
            drop(peer);
            watch::serves(siege.node()).with_context(|| what.to_owned())?;
            keeps_its_size(siege, bytes).with_context(|| what.to_owned())?;
        }
        Ok(())
    })?;
    remembers_its_size(&mut siege, bytes)
}

#[test]
fn while_in_sync() -> Result<()> {
    every_lie_after("sizes-in-sync", Siege::connected)
}

#[test]
fn while_a_resync_runs() -> Result<()> {
    every_lie_after("sizes-resync", Siege::syncing)
}

#[test]
fn at_the_handshake() -> Result<()> {
    let mut siege = Siege::lay("sizes-handshake", "")?;
    let bytes = siege.pair.data_bytes();
    siege.survives("lies", quick(), |siege| {
        for (index, (what, sizes)) in lies(bytes / 512).into_iter().enumerate() {
            let other = if index % 2 == 0 {
                Guise::blank()
            } else {
                Guise::diskless()
            };
            for mut guise in [Guise::equal(), other] {
                siege.await_listening()?;
                guise.sizes = Some(sizes);
                let mut peer = siege.peer(&guise).with_context(|| what.to_owned())?;
                peer.pump(Duration::from_millis(80));
                keeps_its_size(siege, bytes).with_context(|| what.to_owned())?;
            }
        }
        // A peer whose disk is too small is a reason to wait for an administrator.
        siege.await_listening()?;
        keeps_its_size(siege, bytes)
    })?;
    remembers_its_size(&mut siege, bytes)
}

#[test]
fn to_a_primary_without_a_disk() -> Result<()> {
    let mut siege = Siege::lay("sizes-diskless", "")?;
    let bytes = siege.pair.data_bytes();
    let watch = siege.watch()?;
    let mut peer = siege.connected()?;
    // The probe reads its block from the peer from now on.
    let alice = &siege.pair.alice;
    std::thread::scope(|scope| {
        let detach = scope.spawn(|| alice.adm(&["detach", "r0"]));
        peer.pump_until(Duration::from_secs(10), |_| detach.is_finished());
        detach.join().map_err(|_| anyhow::anyhow!("detach"))?
    })?;
    peer.until_node(alice, "Diskless", |volume| volume.ds == "Diskless/UpToDate")?;
    let known = peer.learned.uuids.unwrap_or_default();
    for (what, sizes) in lies(bytes / 512) {
        // Once it is left, it lies at the handshake, too.
        if peer.is_ended() {
            drop(peer);
            siege.await_listening()?;
            let mut guise = Guise::new(8, Generation::These(known));
            guise.sizes = Some(sizes);
            peer = siege.peer(&guise).with_context(|| what.to_owned())?;
        }
        peer.say(SIZES, &sizes.payload());
        peer.pump(Duration::from_millis(80));
        // The peer's disk is all there is: it may have grown meanwhile, within reason.
        let size = siege.pair.alice.nbd(0)?.size();
        ensure!(
            (bytes..=bytes + 4096).contains(&size),
            "{what}: {size} instead of {bytes}"
        );
    }
    drop(watch);
    drop(peer);
    siege.await_listening()?;
    siege.node().is_well()
}

#[test]
fn to_a_secondary() -> Result<()> {
    let mut siege = Siege::lay("sizes-secondary", "")?;
    let bytes = siege.pair.data_bytes();
    siege.node().adm(&["secondary", "r0"])?;
    for (what, sizes) in lies(bytes / 512) {
        siege.await_listening()?;
        let mut peer = siege.connected().with_context(|| what.to_owned())?;
        for _ in 0..2 {
            peer.say(SIZES, &sizes.payload());
            peer.pump(Duration::from_millis(40));
        }
    }
    siege.await_listening()?;
    siege.node().adm(&["primary", "r0"])?;
    keeps_its_size(&siege, bytes)?;
    remembers_its_size(&mut siege, bytes)
}
