//! Why something is not as it should be is told where people look: in `status` and its JSON.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::status::Volume;
use rdb_tests::{Conf, Node, Pair, wait_until};
use serde_json::Value;

fn resource(node: &Node) -> Result<Value> {
    let json: Value = serde_json::from_str(&node.adm(&["status", "--json", "r0"])?)?;
    Ok(json[0].clone())
}

/// Waits until `status` gives this reason for the missing connection; its text.
fn link_reason(node: &Node, word: &str) -> Result<String> {
    let mut text = String::new();
    wait_until(word, Duration::from_secs(30), || {
        let reason = resource(node)?["connection-reason"].clone();
        text = reason["text"].as_str().unwrap_or_default().to_owned();
        Ok(reason["reason"] == word)
    })
    .with_context(|| format!("{}\n{}", node.name, node.log_tail(20)))?;
    Ok(text)
}

/// Two nodes that are up with configurations of their own.
fn differing(name: &str, alices: &str, bobs: &str) -> Result<Pair> {
    let conf = |net: &str| Conf {
        net: net.to_owned(),
        ..Conf::default()
    };
    let mut pair = Pair::fresh(
        name,
        Plan {
            conf: conf(alices),
            ..Plan::default()
        },
    )?;
    pair.alice.adm(&["up", "r0"])?;
    pair.plan.conf = conf(bobs);
    pair.write_conf()?;
    pair.bob.adm(&["up", "r0"])?;
    Ok(pair)
}

#[test]
fn settings_that_differ_are_told_with_whose_is_which() -> Result<()> {
    let pair = differing("settings", "", "after-sb-0pri discard-zero-changes;")?;
    let text = link_reason(&pair.alice, "settings-differ")?;
    let alices =
        "incompatible after-sb-0pri settings: here disconnect, on the peer discard-zero-changes";
    ensure!(text == alices, "{text}");
    let text = link_reason(&pair.bob, "settings-differ")?;
    let bobs =
        "incompatible after-sb-0pri settings: here discard-zero-changes, on the peer disconnect";
    ensure!(text == bobs, "{text}");
    let ills = pair.alice.try_adm(&["status", "--check"])?;
    ensure!(ills.code == 1 && ills.stdout.contains(alices), "{ills:?}");
    // The configuration is made the same: the reason goes with what it was the reason for.
    pair.alice.adm(&["adjust", "r0"])?;
    pair.alice
        .await_volume("a connection", 30, |volume| volume.cs == "Connected")?;
    ensure!(resource(&pair.alice)?.get("connection-reason").is_none());
    Ok(())
}

#[test]
fn a_wrong_secret_is_told() -> Result<()> {
    let pair = differing(
        "secrets",
        "cram-hmac-alg sha1; shared-secret one;",
        "cram-hmac-alg sha1; shared-secret other;",
    )?;
    link_reason(&pair.alice, "wrong-secret")?;
    let status = pair.alice.adm(&["status", "r0"])?;
    ensure!(
        status.contains("connection-advice: make cram-hmac-alg"),
        "{status}"
    );
    Ok(())
}

#[test]
fn a_node_that_cannot_listen_says_so_and_connects_as_soon_as_it_can() -> Result<()> {
    let pair = Pair::fresh("port-taken", Plan::default())?;
    pair.up()?;
    // While they are connected, nobody listens there.
    let taken = TcpListener::bind(&pair.hosts[0].address)?;
    pair.bob.adm(&["disconnect", "r0"])?;
    let text = link_reason(&pair.alice, "own-address")?;
    ensure!(text.contains(&pair.hosts[0].address), "{text}");
    ensure!(pair.alice.volume(0)?.cs == "WFConnection");
    std::thread::sleep(Duration::from_secs(3));
    ensure!(
        pair.alice.logged("cannot connect") == 1,
        "{}",
        pair.alice.log()
    );
    drop(taken);
    wait_until("the port", Duration::from_secs(20), || {
        Ok(resource(&pair.alice)?["connection-reason"]["reason"] != "own-address")
    })?;
    pair.bob.adm(&["connect", "r0"])?;
    for node in [&pair.alice, &pair.bob] {
        node.await_volume("a connection", 30, |volume| volume.cs == "Connected")?;
        ensure!(resource(node)?.get("connection-reason").is_none());
    }
    Ok(())
}

#[test]
fn disks_and_connections_that_the_administrator_has_ended_say_so() -> Result<()> {
    let pair = Pair::fresh("ended", Plan::default())?;
    pair.up()?;
    let reason =
        |node: &Node| Ok::<_, anyhow::Error>(resource(node)?["devices"][0]["disk-reason"].clone());
    ensure!(reason(&pair.alice)?["reason"] == "never-synced");
    pair.alice.adm(&["primary", "--force", "r0"])?;
    pair.settle(60)?;
    ensure!(pair.alice.try_adm(&["status", "--check"])?.code == 0);
    pair.bob.adm(&["detach", "r0"])?;
    ensure!(reason(&pair.bob)?["reason"] == "detached");
    let ills = pair.alice.try_adm(&["status", "--check"])?;
    ensure!(
        ills.code == 1 && ills.stdout.contains("the peer's disk Diskless"),
        "{ills:?}"
    );
    pair.bob.adm(&["attach", "r0"])?;
    pair.settle(60)?;
    pair.bob.adm(&["disconnect", "r0"])?;
    let text = link_reason(&pair.bob, "disconnected")?;
    ensure!(text == "disconnected on this node", "{text}");
    link_reason(&pair.alice, "disconnected-by-peer")?;
    Ok(())
}

/// What the log says of the resync that ends by it is not why the disk has gone.
#[test]
fn a_disk_detached_during_its_resync_was_detached() -> Result<()> {
    for force in [&[][..], &["--force"]] {
        let conf = Conf {
            rate: "resync-rate 500k; c-plan-ahead 0; c-min-rate 0;".into(),
            ..Conf::default()
        };
        let plan = Plan {
            conf,
            ..Plan::default()
        };
        let mut pair = Pair::fresh("detached-target", plan)?;
        pair.up()?;
        pair.alice.adm(&["primary", "--force", "r0"])?;
        let target = |v: &Volume| v.cs == "SyncTarget";
        pair.bob.await_volume("a resync", 20, target)?;
        pair.bob.adm(&[&["detach"], force, &["r0"]].concat())?;
        pair.bob
            .await_volume("no disk", 20, |v| v.ds.starts_with("Diskless/"))?;
        let reason = resource(&pair.bob)?["devices"][0]["disk-reason"].clone();
        ensure!(reason["reason"] == "detached", "{reason}");
        let status = pair.bob.adm(&["status", "r0"])?;
        ensure!(status.contains(": it was detached\n"), "{status}");
        ensure!(
            status.contains("disk-advice: 'rdbadm attach r0'\n"),
            "{status}"
        );
        pair.are_well()?;
    }
    Ok(())
}

/// Advice for one volume of several touches no other one.
#[test]
fn advice_names_the_volume_that_it_is_for() -> Result<()> {
    let mut pair = Pair::prepare("advice-volume", Plan::with_volumes(2))?;
    for node in [&mut pair.alice, &mut pair.bob] {
        node.start()?;
    }
    let both = ["r0/0", "r0/1"];
    pair.alice.adm(&["create-md", "--force", "r0/0"])?;
    pair.bob.adm(&["create-md", "--force", "r0"])?;
    // Volume 1 has no metadata: that of volume 0 stays.
    for command in ["up", "adjust"] {
        let said = pair.alice.try_adm(&[command, "r0"])?.fails_with(1)?;
        let hint = "its metadata is made by 'rdbadm create-md r0/1'";
        ensure!(said.contains(hint), "{said}");
    }
    pair.alice.adm(&["create-md", "--force", "r0/1"])?;
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["adjust", "r0"])?;
        let status = node.adm(&["status", "r0"])?;
        for volume in both {
            let advice = format!("'rdbadm primary --force {volume}'");
            ensure!(status.contains(&advice), "{status}");
        }
        ensure!(!status.contains("--force r0'"), "{status}");
    }
    let refused = pair.alice.try_adm(&["primary", "r0/1"])?.fails_with(17)?;
    ensure!(refused.contains("primary --force r0/1'"), "{refused}");
    for minor in [0, 1] {
        let connected = |v: &Volume| v.cs == "Connected";
        pair.bob.await_minor(minor, "a connection", 30, connected)?;
    }
    // Where the peer is Primary with one of them, nobody is told to take over the other.
    pair.bob.adm(&["primary", "--force", "r0/0"])?;
    pair.alice
        .await_volume("the sync", 30, |v| v.ds == "UpToDate/UpToDate")?;
    let status = pair.alice.adm(&["status", "r0"])?;
    let reason = "disk-reason: volume 1 Inconsistent: it has never been in sync";
    ensure!(status.contains(reason), "{status}");
    ensure!(!status.contains("--force"), "{status}");
    pair.bob.adm(&["primary", "--force", "r0/1"])?;
    pair.settle(60)?;
    pair.alice.adm(&["detach", "r0/1"])?;
    let status = pair.alice.adm(&["status", "r0"])?;
    ensure!(
        status.contains("disk-advice: 'rdbadm attach r0/1'\n"),
        "{status}"
    );
    pair.are_well()
}

#[test]
fn a_connected_disk_is_not_said_to_be_outdated() -> Result<()> {
    let mut pair = Pair::synced("outdate", Plan::default())?;
    let refused = pair.bob.try_adm(&["outdate", "r0"])?.fails_with(11)?;
    let why = "(-6) Refusing to be Outdated while Connected";
    ensure!(refused.contains(why), "{refused}");
    ensure!(pair.bob.volume(0)?.is_settled());
    pair.bob.adm(&["disconnect", "r0"])?;
    for _ in 0..2 {
        pair.bob.adm(&["outdate", "r0"])?;
        ensure!(pair.bob.adm(&["dstate", "r0"])? == "Outdated/DUnknown\n");
    }
    pair.are_well()
}

/// `adjust` gives nothing up: the advice says what does.
#[test]
fn a_connection_that_is_there_is_ended_before_another_kind_is_made() -> Result<()> {
    let pair = Pair::fresh("connect-otherwise", Plan::default())?;
    pair.alice.adm(&["up", "r0"])?;
    for option in ["--discard-my-data", "--tentative"] {
        let refused = pair.alice.try_adm(&["connect", option, "r0"])?;
        let refused = refused.fails_with(10)?;
        let hint = format!("'rdbadm disconnect r0' first, then 'rdbadm connect {option} r0'");
        ensure!(
            refused.contains(&hint) && !refused.contains("adjust"),
            "{refused}"
        );
    }
    pair.alice.adm(&["disconnect", "r0"])?;
    pair.alice.adm(&["connect", "--discard-my-data", "r0"])?;
    Ok(())
}
