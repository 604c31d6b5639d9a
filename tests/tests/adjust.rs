//! `adjust` changes all of a resource or nothing, and the daemon of one node is not told what another one's configuration says.

use anyhow::{Result, ensure};
use rdb_tests::Pair;
use rdb_tests::pair::Plan;
use rdb_tests::writer::{Load, Model, Pace};

/// Users write all the time.
#[test]
fn settings_of_both_nodes_change_while_they_are_connected() -> Result<()> {
    let mut pair = Pair::synced("adjust-net", Plan::default())?;
    let goes_by = |pair: &Pair, letters: [&str; 2]| -> Result<()> {
        for (node, letter) in [&pair.alice, &pair.bob].into_iter().zip(letters) {
            let volume = node.volume(0)?;
            ensure!(volume.cs == "Connected", "{}", volume.cs);
            ensure!(volume.protocol == letter, "protocol {}", volume.protocol);
        }
        Ok(())
    };
    goes_by(&pair, ["C", "C"])?;
    let model = Model::new(0, 4096);
    let socket = pair.alice.nbd_socket();
    let load = Load::start(&socket, "r0/0", &model, 11, Pace::default())?;
    load.progress(200)?;
    pair.plan.conf.protocol = 'A';
    pair.plan.conf.net =
        "data-integrity-alg crc32c; csums-alg md5; after-sb-0pri discard-zero-changes;".into();
    pair.write_conf()?;
    pair.alice.adm(&["adjust", "r0"])?;
    load.progress(500)?;
    goes_by(&pair, ["A", "C"])?;
    // One node has changed: both say what the next connection would come to.
    for node in [&pair.alice, &pair.bob] {
        let status = node.adm(&["status", "r0"])?;
        let said = status.contains("connection-reason: Connected since")
            && status.contains("protocol settings: here");
        ensure!(said, "{status}");
        node.try_adm(&["status", "--check", "r0"])?.fails_with(1)?;
    }
    pair.bob.adm(&["adjust", "r0"])?;
    load.progress(500)?;
    goes_by(&pair, ["A", "A"])?;
    load.stop()?;
    for node in [&pair.alice, &pair.bob] {
        let status = node.adm(&["status", "r0"])?;
        ensure!(!status.contains("reason"), "{status}");
        let shown = node.run("rdbsetup", &["show", "r0"], None)?.ok()?;
        let holds = shown.contains("crc32c") && shown.contains("discard-zero-changes");
        ensure!(holds, "{shown}");
        // Nothing is left to adjust.
        ensure!(node.adm(&["-d", "adjust", "r0"])?.is_empty());
    }
    pair.alice.nbd(0)?.flush()?;
    // They connect again by the same.
    pair.bob.adm(&["disconnect", "r0"])?;
    pair.bob.adm(&["connect", "r0"])?;
    pair.settle(60)?;
    goes_by(&pair, ["A", "A"])?;
    pair.alice.adm(&["secondary", "r0"])?;
    pair.disks_equal()?;
    pair.are_well()
}

#[test]
fn another_nodes_daemon_is_not_configured() -> Result<()> {
    let pair = Pair::fresh("anothers", Plan::default())?;
    for command in ["up", "adjust"] {
        let refused = pair
            .alice
            .try_adm(&["--node", "bob", command, "r0"])?
            .fails_with(20)?;
        ensure!(
            refused.contains("the daemon is that of node 'alice', the command is for node 'bob'"),
            "{refused}"
        );
    }
    ensure!(pair.alice.adm(&["status"])?.is_empty());
    Ok(())
}
