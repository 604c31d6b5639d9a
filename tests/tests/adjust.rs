//! `adjust` changes all of a resource or nothing, and the daemon of one node is not told what another one's configuration says.

use anyhow::{Result, ensure};
use rdb_tests::Pair;
use rdb_tests::pair::Plan;

#[test]
fn what_cannot_be_adjusted_is_refused_before_anything_is_changed() -> Result<()> {
    let mut pair = Pair::synced("adjust-refused", Plan::default())?;
    let shown = pair.alice.run("rdbsetup", &["show", "r0"], None)?.ok()?;
    pair.plan.conf.protocol = 'A';
    pair.plan.conf.rate = "resync-rate 77M; c-plan-ahead 0; c-min-rate 0;".into();
    pair.write_conf()?;
    let refused = pair.alice.try_adm(&["adjust", "r0"])?.fails_with(10)?;
    ensure!(
        refused.contains("r0: nothing is adjusted: protocol cannot be changed while connected"),
        "{refused}"
    );
    let now = pair.alice.run("rdbsetup", &["show", "r0"], None)?.ok()?;
    ensure!(now == shown, "{now}\nwas\n{shown}");
    // As it says: not while they are connected.
    pair.bob.adm(&["disconnect", "r0"])?;
    pair.alice
        .await_volume("the peer's leave", 30, |volume| volume.cs == "WFConnection")?;
    pair.alice.adm(&["adjust", "r0"])?;
    pair.bob.adm(&["adjust", "r0"])?;
    pair.settle(60)?;
    let now = pair.alice.run("rdbsetup", &["show", "r0"], None)?.ok()?;
    ensure!(now.contains("protocol") && now != shown, "{now}");
    Ok(())
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
