//! Both nodes written apart: nothing is overwritten, both say so in DRBD's words, and the
//! tutorials' recovery works (`docs/spec/admin.md`, section 10, C8).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::net::Cut;
use rdb_tests::pair::Plan;
use rdb_tests::{Conf, Pair, disk, wait_until};

const SPLIT: &str = "Split-Brain detected but unresolved, dropping connection!";

/// Alice wrote at 1 MiB, bob at 2 MiB, each as primary without the other; then they meet.
fn split(name: &str, conf: Conf) -> Result<Pair> {
    let pair = Pair::synced(
        name,
        Plan {
            conf,
            cable: true,
            ..Plan::default()
        },
    )?;
    let cable = pair.cable.as_ref().context("the pair has a cable")?;
    cable.cut(Cut::LinkDown)?;
    for node in [&pair.alice, &pair.bob] {
        node.await_volume("the cut", 30, |volume| volume.cs == "WFConnection")?;
    }
    pair.alice.nbd(0)?.write(1 << 20, &[0xaa; 8192])?;
    pair.bob.adm(&["primary", "r0"])?;
    pair.bob.nbd(0)?.write(2 << 20, &[0xbb; 16384])?;
    Ok(pair)
}

#[test]
fn split_brain_is_refused_and_recovered_by_hand() -> Result<()> {
    let mut pair = split("split", Conf::default())?;
    pair.cable
        .as_ref()
        .context("the pair has a cable")?
        .heal()?;
    for node in [&pair.alice, &pair.bob] {
        node.await_volume("the refusal", 30, |volume| volume.cs == "StandAlone")
            .or_else(|error| {
                // One of the two may be told by the other's disconnect, and listen again.
                let volume = node.volume(0)?;
                if volume.cs == "WFConnection" {
                    Ok(volume)
                } else {
                    Err(error)
                }
            })?;
    }
    // (The log is written by a thread of its own.)
    wait_until("the words in a log", Duration::from_secs(10), || {
        Ok(pair.alice.logged(SPLIT) + pair.bob.logged(SPLIT) > 0)
    })
    .with_context(|| format!("{}\n{}", pair.alice.log_tail(30), pair.bob.log_tail(30)))?;
    // Nothing was overwritten on either side.
    for (index, (alices, bobs)) in [([0xaa; 512], [0; 512]), ([0; 512], [0xbb; 512])]
        .iter()
        .enumerate()
    {
        ensure!(
            disk::read(pair.disk(index, 0), 1 << 20, 512)? == alices,
            "at 1 MiB of {index}"
        );
        ensure!(
            disk::read(pair.disk(index, 0), 2 << 20, 512)? == bobs,
            "at 2 MiB of {index}"
        );
    }

    // The recovery: bob is the victim. As long as he is primary, that is refused.
    pair.bob
        .adm(&["disconnect", "r0"])
        .or_else(|_| pair.bob.adm(&["cstate", "r0"]))?;
    let refusal = pair.bob.try_adm(&["connect", "--discard-my-data", "r0"])?;
    ensure!(
        refusal.code == 10 && refusal.stderr.contains("(123)"),
        "{refusal:?}"
    );
    pair.bob.adm(&["secondary", "r0"])?;
    pair.bob
        .adm(&["--", "--discard-my-data", "connect", "r0"])?;
    if pair.alice.volume(0)?.cs == "StandAlone" {
        pair.alice.adm(&["connect", "r0"])?;
    }
    pair.settle(60)?;
    ensure!(
        pair.alice
            .logged("Split-Brain detected, manually solved. Sync from this node")
            == 1,
        "{}",
        pair.alice.log_tail(30)
    );
    // Alice's data won; only the blocks written on either side were copied.
    let copied = *pair
        .alice
        .resyncs_kib()
        .last()
        .context("a resync was logged")?;
    ensure!(copied == 24, "{copied} KiB were copied instead of 8 and 16");
    ensure!(disk::read(pair.disk(1, 0), 1 << 20, 512)? == [0xaa; 512]);
    ensure!(disk::read(pair.disk(1, 0), 2 << 20, 512)? == [0; 512]);
    pair.are_well()?;
    pair.disks_equal()
}

#[test]
fn a_split_brain_is_told_where_people_look() -> Result<()> {
    let pair = split("split-told", Conf::default())?;
    let cable = pair.cable.as_ref().context("the pair has a cable")?;
    cable.heal()?;
    wait_until("StandAlone", Duration::from_secs(30), || {
        Ok(pair.alice.volume(0)?.cs == "StandAlone" || pair.bob.volume(0)?.cs == "StandAlone")
    })?;
    let node = if pair.alice.volume(0)?.cs == "StandAlone" {
        &pair.alice
    } else {
        &pair.bob
    };
    let status = node.adm(&["status", "r0"])?;
    let reason = "  connection-reason: StandAlone since 2";
    ensure!(status.contains(reason), "{status}");
    ensure!(status.contains("unresolved split brain"), "{status}");
    ensure!(
        status.contains("'rdbadm connect --discard-my-data r0'"),
        "{status}"
    );
    let json: serde_json::Value = serde_json::from_str(&node.adm(&["status", "--json", "r0"])?)?;
    let json = &json[0]["connection-reason"];
    ensure!(json["reason"] == "split-brain", "{json}");
    ensure!(json["since"].is_string(), "{json}");
    let overview = node.adm(&["overview"])?;
    ensure!(overview.contains("unresolved split brain"), "{overview}");
    // The log says it as an error, with what there is to be done.
    wait_until("the words in the log", Duration::from_secs(10), || {
        Ok(node.log().lines().any(|line| {
            line.contains("ERROR")
                && line.contains("unresolved split brain")
                && line.contains("--discard-my-data")
        }))
    })
    .with_context(|| node.log_tail(30))?;
    // Nothing will come, so whoever waits does not hear that it has come.
    for command in ["wait-connect", "wait-sync"] {
        let refused = node.try_adm(&[command, "r0"])?.fails_with(10)?;
        ensure!(refused.contains("unresolved split brain"), "{refused}");
    }
    let ills = node.try_adm(&["status", "--check"])?;
    ensure!(ills.code == 1, "{ills:?}");
    ensure!(
        ills.stdout.starts_with("r0: StandAlone: not connected"),
        "{ills:?}"
    );
    // It is as before for a node that tries again while the other one does not, and for one that has given up trying.
    let other = if node.name == "alice" {
        &pair.bob
    } else {
        &pair.alice
    };
    if other.volume(0)?.cs != "StandAlone" {
        other.adm(&["disconnect", "r0"])?;
    }
    node.adm(&["connect", "r0"])?;
    for state in ["WFConnection", "StandAlone"] {
        if state == "StandAlone" {
            node.adm(&["disconnect", "r0"])?;
        } else {
            std::thread::sleep(Duration::from_secs(3));
        }
        let status = node.adm(&["status", "r0"])?;
        let reason = format!("  connection-reason: {state} since 2");
        ensure!(
            status.contains(&reason) && status.contains("unresolved split brain"),
            "{status}"
        );
    }
    Ok(())
}

#[test]
fn a_node_written_alone_is_not_split_brain() -> Result<()> {
    let pair = Pair::synced(
        "alone",
        Plan {
            cable: true,
            ..Plan::default()
        },
    )?;
    let cable = pair.cable.as_ref().context("the pair has a cable")?;
    cable.cut(Cut::LinkDown)?;
    for node in [&pair.alice, &pair.bob] {
        node.await_volume("the cut", 30, |volume| volume.cs == "WFConnection")?;
    }
    pair.alice.nbd(0)?.write(0, &[3; 4096])?;
    pair.alice.adm(&["secondary", "r0"])?;
    cable.heal()?;
    pair.settle(60)?;
    ensure!(pair.alice.logged("Split-Brain") + pair.bob.logged("Split-Brain") == 0);
    pair.disks_equal()
}

#[test]
fn unrelated_disks_are_refused() -> Result<()> {
    let mut pair = Pair::fresh("unrelated", Plan::default())?;
    // Each becomes a data set of its own.
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["up", "r0"])?;
        node.adm(&["disconnect", "r0"])?;
        node.adm(&["primary", "--force", "r0"])?;
        node.adm(&["secondary", "r0"])?;
    }
    disk::write(pair.disk(0, 0), 0, b"alice's only copy")?;
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["connect", "r0"])?;
    }
    rdb_tests::wait_until("the refusal", std::time::Duration::from_secs(30), || {
        let logs = format!("{}{}", pair.alice.log(), pair.bob.log());
        Ok(logs.contains("Unrelated data, aborting!") || logs.contains(SPLIT))
    })?;
    rdb_tests::wait_until("its end", std::time::Duration::from_secs(30), || {
        Ok(pair.alice.volume(0)?.cs == "StandAlone" || pair.bob.volume(0)?.cs == "StandAlone")
    })?;
    ensure!(disk::read(pair.disk(0, 0), 0, 17)? == b"alice's only copy");
    pair.are_well()
}
