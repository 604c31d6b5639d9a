//! The primary dies under load, again and again; the other is promoted and has every acknowledged
//! write; the dead one comes back and only hot extents and marked blocks are synced.

use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::rng::Rng;
use rdb_tests::status::Volume;
use rdb_tests::writer::{BLOCK, Load, Model, Pace};
use rdb_tests::{Node, Pair};

/// The load stays within six extents of 4 MiB of a disk with thirty-two.
const FIRST_BLOCK: u64 = 5 * 1024 + 100;
const BLOCKS: usize = 5 * 1024;
const HOT_KIB: u64 = 6 * 4096;
const DISK_BYTES: u64 = 128 << 20;

fn crash_and_promote(
    primary: &mut Node,
    secondary: &mut Node,
    model: &std::sync::Arc<std::sync::Mutex<Model>>,
    rng: &mut Rng,
) -> Result<()> {
    let load = Load::start(
        &primary.nbd_socket(),
        "r0/0",
        model,
        rng.next_u64(),
        Pace::default(),
    )?;
    load.progress(20)?;
    std::thread::sleep(Duration::from_millis(rng.below(400)));
    primary.kill()?;
    load.lost()?;

    secondary.await_volume("the loss of the primary", 30, |v| v.cs == "WFConnection")?;
    secondary.adm(&["primary", "r0"])?;
    let mut client = secondary.nbd(0)?;
    model
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .verify(&mut client)?;
    drop(client);

    // The survivor goes on writing while the dead one is away and, by turns, while it is synced.
    let load = Load::start(
        &secondary.nbd_socket(),
        "r0/0",
        model,
        rng.next_u64(),
        Pace::default(),
    )?;
    load.progress(20)?;
    let (sources, targets) = (secondary.resyncs_kib().len(), primary.resyncs_kib().len());
    let quiet = rng.below(2) == 0;
    let load = if quiet {
        load.stop().map(|()| None)?
    } else {
        Some(load)
    };
    primary.start()?;
    primary.adm(&["up", "r0"])?;
    primary.await_volume("the end of the resync", 60, Volume::is_settled)?;
    load.map_or(Ok(()), Load::stop)?;
    secondary.await_volume("the end of the resync", 60, Volume::is_settled)?;

    for (node, before, word) in [
        (&*secondary, sources, "SyncSource"),
        (&*primary, targets, "SyncTarget"),
    ] {
        let resyncs = node.resyncs_kib();
        ensure!(
            resyncs.len() > before,
            "{} logged no resync as {word}",
            node.name
        );
        for kib in &resyncs[before..] {
            ensure!(
                *kib <= HOT_KIB,
                "{} synced {kib} KiB as {word}; the hot extents hold {HOT_KIB}",
                node.name
            );
        }
    }
    // The counters say the same: where nothing was written meanwhile, all that the dead one has
    // received since it came back is the resync.
    if quiet {
        let received = primary.volume(0)?.nr;
        let announced: u64 = primary.resyncs_kib()[targets..].iter().sum();
        ensure!(
            received == announced,
            "{received} KiB were received, {announced} announced"
        );
    }
    Ok(())
}

#[test]
fn killing_the_primary_twenty_times_loses_no_acknowledged_write() -> Result<()> {
    let mut rng = Rng::from_env();
    let mut pair = Pair::synced(
        "crash",
        Plan {
            disk_bytes: DISK_BYTES,
            ..Plan::default()
        },
    )?;
    let model = Model::new(FIRST_BLOCK, BLOCKS);
    for round in 0..20 {
        let (primary, secondary) = if round % 2 == 0 {
            (&mut pair.alice, &mut pair.bob)
        } else {
            (&mut pair.bob, &mut pair.alice)
        };
        crash_and_promote(primary, secondary, &model, &mut rng)
            .with_context(|| format!("round {round}"))?;
        pair.disks_equal()
            .with_context(|| format!("round {round}, both connected and idle"))?;
        pair.are_well()?;
    }
    let acknowledged = model
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .acknowledged();
    eprintln!(
        "{acknowledged} writes of up to {} bytes were acknowledged",
        4 * BLOCK
    );
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["down", "r0"])?;
    }
    pair.disks_equal()
}

#[test]
fn killing_the_secondary_while_the_primary_writes_costs_nothing() -> Result<()> {
    let mut rng = Rng::from_env();
    let mut pair = Pair::synced(
        "crash-bob",
        Plan {
            disk_bytes: DISK_BYTES,
            ..Plan::default()
        },
    )?;
    let model = Model::new(FIRST_BLOCK, BLOCKS);
    let load = Load::start(
        &pair.alice.nbd_socket(),
        "r0/0",
        &model,
        rng.next_u64(),
        Pace::default(),
    )?;
    for round in 0..5 {
        load.progress(50)?;
        std::thread::sleep(Duration::from_millis(rng.below(200)));
        load.model().mark();
        let before = pair.alice.resyncs_kib().len();
        pair.bob.kill()?;
        // No request fails, none hangs.
        load.progress(50)
            .with_context(|| format!("round {round}: alice writes alone"))?;
        pair.bob.start()?;
        pair.bob.adm(&["up", "r0"])?;
        pair.settle(60)?;
        let touched_kib = load.model().touched() * 4;
        let resyncs = pair.alice.resyncs_kib();
        let last = *resyncs
            .get(before..)
            .and_then(<[u64]>::last)
            .context("a resync was logged")?;
        // What was in flight to the peer is resent too, at most.
        ensure!(
            last <= touched_kib + 1024,
            "{last} KiB synced, {touched_kib} KiB written"
        );
    }
    load.stop()?;
    pair.are_well()?;
    pair.disks_equal()
}

#[test]
fn a_daemon_that_is_stopped_gently_leaves_a_clean_disk() -> Result<()> {
    let mut pair = Pair::synced("gentle", Plan::default())?;
    pair.alice.nbd(0)?.write(1 << 20, &[1; 65536])?;
    // Until bob has flushed it and said so, alice counts the write as perhaps missing there.
    std::thread::sleep(std::time::Duration::from_millis(500));
    pair.bob.terminate()?;
    pair.alice.nbd(0)?.write(2 << 20, &[2; 65536])?;
    pair.bob.start()?;
    pair.bob.adm(&["up", "r0"])?;
    pair.settle(30)?;
    // The 64 KiB that were written while bob was away; and the 64 KiB before them, if their epoch
    // was not closed yet (docs/spec/metadata.md, section 6).
    let last = pair.alice.resyncs_kib();
    ensure!(
        matches!(last.last(), Some(64 | 128)),
        "more than what was missed: {last:?}"
    );
    pair.disks_equal()
}
