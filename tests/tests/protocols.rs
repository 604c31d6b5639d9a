//! Protocols A and B: what they promise, and that both disks are equal once all is delivered.

use std::sync::PoisonError;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::writer::{Load, Model, Pace};
use rdb_tests::{Conf, Pair};

fn written_and_equal(protocol: char) -> Result<()> {
    let conf = Conf {
        protocol,
        ..Conf::default()
    };
    let mut pair = Pair::synced(
        &format!("protocol-{protocol}"),
        Plan {
            conf,
            ..Plan::default()
        },
    )?;
    let model = Model::new(0, 4096);
    let load = Load::start(
        &pair.alice.nbd_socket(),
        "r0/0",
        &model,
        11,
        Pace::default(),
    )?;
    load.progress(1000)?;
    load.stop()?;
    let status = pair.alice.status_text()?;
    ensure!(
        status.contains(&format!("UpToDate/UpToDate {protocol} r-----")),
        "{status}"
    );
    pair.alice.nbd(0)?.flush()?;
    // What is under way arrives within a moment; then nothing is pending.
    pair.alice.await_volume("all delivered", 10, |volume| {
        volume.pe == 0 && volume.ap == 0
    })?;
    pair.alice.adm(&["secondary", "r0"])?;
    pair.disks_equal()?;
    pair.bob.adm(&["primary", "r0"])?;
    let mut checked = model.lock().unwrap_or_else(PoisonError::into_inner);
    checked.verify(&mut pair.bob.nbd(0)?)?;
    pair.are_well()
}

#[test]
fn protocol_a() -> Result<()> {
    written_and_equal('A')
}

#[test]
fn protocol_b() -> Result<()> {
    written_and_equal('B')
}

#[test]
fn protocol_c() -> Result<()> {
    written_and_equal('C')
}

#[test]
fn a_crash_under_a_and_b_leaves_the_pair_able_to_agree_again() -> Result<()> {
    for protocol in ['A', 'B'] {
        let conf = Conf {
            protocol,
            ..Conf::default()
        };
        let mut pair = Pair::synced(
            "crash-ab",
            Plan {
                conf,
                ..Plan::default()
            },
        )?;
        let model = Model::new(0, 4096);
        let load = Load::start(
            &pair.alice.nbd_socket(),
            "r0/0",
            &model,
            12,
            Pace::default(),
        )?;
        load.progress(300)?;
        // The daemon's crash is no power cut: what alice acknowledged is on her own disk.
        pair.alice.kill()?;
        load.lost()?;
        pair.alice.start()?;
        pair.alice.adm(&["up", "r0"])?;
        pair.settle(60)
            .with_context(|| format!("protocol {protocol}"))?;
        pair.alice.adm(&["primary", "r0"])?;
        let mut checked = model.lock().unwrap_or_else(PoisonError::into_inner);
        checked
            .verify(&mut pair.alice.nbd(0)?)
            .with_context(|| format!("protocol {protocol}"))?;
        pair.disks_equal()
            .with_context(|| format!("protocol {protocol}"))?;
    }
    Ok(())
}

#[test]
fn different_protocols_are_refused_by_name() -> Result<()> {
    let mut pair = Pair::fresh("mismatch", Plan::default())?;
    pair.alice.adm(&["up", "r0"])?;
    pair.plan.conf.protocol = 'A';
    let conf = pair.scratch.join("other.conf");
    std::fs::write(&conf, pair.plan.conf.text(&pair.hosts))?;
    pair.bob.conf = conf;
    pair.bob.adm(&["up", "r0"])?;
    rdb_tests::wait_until("the refusal", std::time::Duration::from_secs(20), || {
        let log = format!("{}{}", pair.alice.log(), pair.bob.log());
        Ok(log.contains("incompatible protocol settings"))
    })
    .with_context(|| pair.alice.log_tail(20))?;
    ensure!(
        pair.alice.volume(0)?.cs != "Connected",
        "{:?}",
        pair.alice.volume(0)?
    );
    pair.are_well()
}
