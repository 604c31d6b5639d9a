//! The thread of a resource ends on its own, by a broken invariant: it is started again as after a crash of the daemon, with a
//! limit, and while it does not run everybody says so.
//!
//! Only programs built with debug assertions can be broken on purpose.
#![cfg(debug_assertions)]

use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::rng::Rng;
use rdb_tests::status::Volume;
use rdb_tests::wait::wait_until;
use rdb_tests::writer::{Load, Model, Pace};
use rdb_tests::{Node, Pair};

/// Asks for a broken invariant and waits until it has happened.
fn break_it(node: &Node) -> Result<()> {
    let before = node.logged("stopped: broken invariant: broken on purpose");
    std::fs::write(node.run_dir.join("break-r0"), "")?;
    let what = "the broken invariant";
    wait_until(what, Duration::from_secs(30), || {
        // The status is what it breaks at.
        let _ = node.try_adm(&["status"]);
        Ok(node.logged("stopped: broken invariant: broken on purpose") > before)
    })
}

#[test]
fn a_primary_comes_back_by_itself_with_every_acknowledged_write() -> Result<()> {
    let mut rng = Rng::from_env();
    let pair = Pair::synced("stopped-primary", Plan::default())?;
    let model = Model::new(100, 4 * 1024);
    pair.alice.adm(&["primary", "r0"])?;
    for round in 0..2 {
        let load = Load::start(
            &pair.alice.nbd_socket(),
            "r0/0",
            &model,
            rng.next_u64(),
            Pace::default(),
        )?;
        load.progress(20)?;
        break_it(&pair.alice)?;
        load.lost()?;
        pair.alice
            .await_volume("its being Primary again", 60, |v| {
                v.ro == "Primary/Secondary" && v.is_settled()
            })
            .with_context(|| format!("round {round}"))?;
        let mut client = pair.alice.nbd(0)?;
        model
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .verify(&mut client)?;
        drop(client);
        pair.bob
            .await_volume("the end of the resync", 60, Volume::is_settled)?;
        pair.disks_equal()?;
    }
    // A Secondary comes back as one.
    break_it(&pair.bob)?;
    pair.bob.await_volume("its being back", 60, |v| {
        v.ro == "Secondary/Primary" && v.is_settled()
    })?;
    pair.alice
        .await_volume("the peer's being back", 60, Volume::is_settled)?;
    Ok(())
}

#[test]
fn one_that_stops_again_and_again_stays_failed_and_everybody_says_so() -> Result<()> {
    let pair = Pair::synced("stopped-for-good", Plan::default())?;
    let bob = &pair.bob;
    for round in 0..3 {
        break_it(bob)?;
        bob.await_volume("its being back", 60, Volume::is_settled)
            .with_context(|| format!("round {round}"))?;
    }
    break_it(bob)?;
    wait_until("its being given up", Duration::from_secs(30), || {
        Ok(bob.logged("not started again by itself") == 1)
    })?;

    let text = bob.adm(&["status", "r0"])?;
    ensure!(
        text.starts_with(
            "r0 role:Unknown failed:yes\n  reason: broken invariant: broken on purpose\n  advice: "
        ),
        "{text}"
    );
    ensure!(text.contains("'rdbadm up r0'"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&bob.adm(&["status", "--json"])?)?;
    ensure!(json[0]["failed"] == true, "{json}");
    ensure!(
        json[0]["failed-reason"] == "broken invariant: broken on purpose",
        "{json}"
    );
    let line = " 0: cs:Failed ro:Unknown/Unknown ds:DUnknown/DUnknown   ------\n    failed: broken invariant: \
                broken on purpose\n";
    wait_until(
        "the status file's saying so",
        Duration::from_secs(10),
        || Ok(bob.status_text()?.ends_with(line)),
    )?;
    for words in [
        &["role", "r0"][..],
        &["cstate", "r0"],
        &["dstate", "r0"],
        &["primary", "r0"],
        &["secondary", "r0"],
        &["disconnect", "r0"],
        &["detach", "r0"],
        &["get-gi", "r0"],
        &["adjust", "r0"],
        &["wait-connect", "r0"],
    ] {
        let out = bob.try_adm(words)?;
        ensure!(out.code != 0, "{words:?}: {out:?}");
        ensure!(
            out.stderr.contains("broken on purpose") && out.stderr.contains("'rdbadm up r0'"),
            "{words:?}: {out:?}"
        );
    }
    // The daemon goes on, and the resource does when it is wanted.
    bob.adm(&["up", "r0"])?;
    bob.await_volume("its being up again", 60, Volume::is_settled)?;
    // From here on it counts anew.
    break_it(bob)?;
    bob.await_volume("its being back", 60, Volume::is_settled)?;
    bob.adm(&["down", "r0"])?;
    ensure!(bob.adm(&["status"])?.is_empty());
    Ok(())
}
