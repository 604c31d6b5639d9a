//! The link between two hosts is cut while the primary writes: no write fails, and afterwards only
//! what changed is copied.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdb_tests::net::Cut;
use rdb_tests::pair::Plan;
use rdb_tests::rng::Rng;
use rdb_tests::writer::{Load, Model, Pace};
use rdb_tests::{Conf, Pair};

const PACE: Pace = Pace {
    depth: 4,
    blocks_max: 4,
    pause: Duration::from_micros(300),
};

#[test]
fn cutting_the_link_twenty_times_copies_only_what_changed() -> Result<()> {
    let mut rng = Rng::from_env();
    let pair = Pair::synced(
        "cut",
        Plan {
            cable: true,
            ..Plan::default()
        },
    )?;
    let cable = pair.cable.as_ref().context("the pair has a cable")?;
    let model = Model::new(0, 8192);
    let load = Load::start(
        &pair.alice.nbd_socket(),
        "r0/0",
        &model,
        rng.next_u64(),
        PACE,
    )?;
    for round in 0..20 {
        let begun = Instant::now();
        let how = [Cut::LinkDown, Cut::Silent, Cut::OneWay][round % 3];
        load.progress(100)
            .with_context(|| format!("round {round}"))?;
        let before = pair.alice.resyncs_kib().len();
        load.model().mark();
        std::thread::sleep(Duration::from_millis(rng.below(300)));
        cable.cut(how)?;
        pair.alice
            .await_volume("the loss of bob", 30, |volume| volume.cs != "Connected")
            .with_context(|| format!("round {round}, {how:?}"))?;
        load.progress(50)
            .with_context(|| format!("round {round}, {how:?}: alice writes alone"))?;
        let oos = pair.alice.volume(0)?.oos;
        cable.heal()?;
        pair.settle(60)
            .with_context(|| format!("round {round}, {how:?}, healed"))?;
        let touched_kib = load.model().touched() * 4;
        let resyncs = pair.alice.resyncs_kib();
        let copied: u64 = resyncs[before..].iter().sum();
        ensure!(
            oos > 0,
            "round {round}, {how:?}: nothing was marked out of sync"
        );
        ensure!(
            copied > 0 && copied <= touched_kib,
            "round {round}, {how:?}: {copied} KiB copied, {touched_kib} KiB written"
        );
        eprintln!(
            "round {round}, {how:?}: {copied} KiB, {:.1?}",
            begun.elapsed()
        );
    }
    load.stop()?;
    let mut pair = pair;
    pair.are_well()?;
    let mut checked = model
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    checked.verify(&mut pair.alice.nbd(0)?)?;
    pair.disks_equal()?;
    // bob holds every acknowledged write too.
    pair.alice.adm(&["secondary", "r0"])?;
    pair.bob.adm(&["primary", "r0"])?;
    checked.verify(&mut pair.bob.nbd(0)?)
}

#[test]
fn a_peer_that_hangs_is_given_up() -> Result<()> {
    let conf = Conf {
        net: "ko-count 2;".into(),
        ..Conf::default()
    };
    let pair = Pair::synced(
        "hang",
        Plan {
            conf,
            ..Plan::default()
        },
    )?;
    let pid = pair.bob.pid().context("bob's daemon runs")?.to_string();
    let model = Model::new(0, 1024);
    let load = Load::start(&pair.alice.nbd_socket(), "r0/0", &model, 1, PACE)?;
    load.progress(50)?;
    rdb_tests::programs::run_tool(5, "kill", &["-STOP", &pid])?;
    let lost = pair
        .alice
        .await_volume("the loss of bob", 30, |volume| volume.cs != "Connected")
        .and_then(|_| load.progress(50));
    rdb_tests::programs::run_tool(5, "kill", &["-CONT", &pid])?;
    lost?;
    pair.settle(60)?;
    load.stop()?;
    pair.disks_equal()
}

#[test]
fn a_resync_that_is_cut_goes_on_where_it_was() -> Result<()> {
    let conf = Conf {
        rate: "resync-rate 16M; c-plan-ahead 0;".into(),
        ..Conf::default()
    };
    let pair = Pair::fresh(
        "cut-resync",
        Plan {
            conf,
            cable: true,
            ..Plan::default()
        },
    )?;
    let cable = pair.cable.as_ref().context("the pair has a cable")?;
    pair.up()?;
    pair.alice.adm(&["primary", "--force", "r0"])?;
    pair.alice.nbd(0)?.write(0, &[9; 1 << 20])?;
    let whole = pair.data_bytes() / 1024;
    for round in 0..3 {
        let before = pair.alice.volume(0)?.oos;
        pair.alice.await_volume("progress", 20, |volume| {
            volume.cs == "SyncSource" && volume.oos + 4096 < before.max(4097)
        })?;
        cable.cut(Cut::LinkDown)?;
        pair.bob
            .await_volume("the cut", 30, |volume| volume.cs != "SyncTarget")?;
        pair.alice
            .await_volume("the cut", 30, |volume| volume.cs != "SyncSource")?;
        let left = pair.alice.volume(0)?.oos;
        ensure!(
            left < whole,
            "round {round}: {left} KiB of {whole} are left, nothing was done"
        );
        let refusal = pair.bob.try_adm(&["primary", "r0"])?;
        ensure!(refusal.code == 17, "half a copy was promoted: {refusal:?}");
        cable.heal()?;
        pair.alice
            .await_volume("the resync", 30, |v| v.cs == "SyncSource" || v.is_settled())?;
        let again = *pair
            .alice
            .resyncs_kib()
            .last()
            .context("a resync was logged")?;
        ensure!(
            again <= left + 4096,
            "round {round}: {again} KiB again, {left} KiB were left"
        );
    }
    pair.settle(60)?;
    pair.disks_equal()
}
