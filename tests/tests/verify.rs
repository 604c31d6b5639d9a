//! Online verify between two daemons: blocks that are spoiled below the devices are found, marked on both nodes, told, and synced
//! when the nodes connect anew.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::{Conf, Node, Pair, disk, wait_until};

fn plan() -> Plan {
    let conf = Conf {
        net: "verify-alg crc32c;".into(),
        ..Conf::default()
    };
    Plan {
        conf,
        ..Plan::default()
    }
}

/// Sets off a verify and waits for its end.
fn verify(node: &Node, arguments: &[&str]) -> Result<()> {
    let before = node.logged("Online verify done");
    let words: Vec<&str> = [&["verify"], arguments].concat();
    node.adm(&words)?;
    wait_until("the end of the verify", Duration::from_secs(60), || {
        Ok(node.logged("Online verify done") > before)
    })?;
    node.adm(&["wait-sync", "r0"])?;
    Ok(())
}

fn out_of_sync(pair: &Pair, kib: u64) -> Result<()> {
    for node in [&pair.alice, &pair.bob] {
        let volume = node.await_volume("the end", 20, |volume| volume.cs == "Connected")?;
        ensure!(volume.oos == kib, "{}: {volume:?}", node.name);
        ensure!(volume.ds == "UpToDate/UpToDate", "{volume:?}");
    }
    Ok(())
}

/// Both connect anew, with alice as Primary.
fn repair(pair: &Pair) -> Result<()> {
    pair.alice.adm(&["disconnect", "r0"])?;
    pair.alice.adm(&["connect", "r0"])?;
    pair.settle(60)?;
    out_of_sync(pair, 0)?;
    pair.disks_equal()
}

#[test]
fn what_was_spoiled_on_either_disk_is_found_and_synced_by_the_next_connection() -> Result<()> {
    let mut pair = Pair::synced("verify", plan())?;
    pair.alice.nbd(0)?.write(1 << 20, &[7; 65_536])?;
    verify(&pair.alice, &["r0"])?;
    out_of_sync(&pair, 0)?;
    ensure!(pair.alice.logged("Online verify found") == 0);
    ensure!(pair.alice.logged("Starting Online Verify from sector 0") == 1);

    disk::write(pair.disk(1, 0), (1 << 20) + 512, &[0xee; 512])?;
    disk::write(pair.disk(0, 0), 20 << 20, &[0xdd; 8192])?;
    verify(&pair.bob, &["r0/0"])?;
    out_of_sync(&pair, 12)?;
    for node in [&pair.alice, &pair.bob] {
        let text = "Online verify found 3 4k block out of sync!";
        ensure!(node.logged(text) == 1, "{}", node.log_tail(20));
        ensure!(node.logged("Out of sync: start=2048, size=8 (sectors)") == 1);
        ensure!(
            node.logged("Out of sync: start=4096") == 1,
            "{}",
            node.log_tail(20)
        );
    }
    repair(&pair)?;
    // Whose copy it is now: the Primary's.
    let data = pair.alice.nbd(0)?.read(20 << 20, 8192)?;
    ensure!(data == [0xdd; 8192]);
    ensure!(pair.alice.nbd(0)?.read(1 << 20, 4096)? == [7; 4096]);

    // A part; and from where it stopped.
    disk::write(pair.disk(1, 0), 8192 * 512, &[0xcc; 512])?;
    disk::write(pair.disk(1, 0), 16_384 * 512, &[0xcc; 512])?;
    verify(&pair.alice, &["--start=8192", "-S", "16384", "r0"])?;
    out_of_sync(&pair, 4)?;
    ensure!(pair.bob.logged("Online Verify reached sector 16384") == 1);
    verify(&pair.alice, &["minor-0"])?;
    ensure!(
        pair.alice
            .logged("Starting Online Verify from sector 16384")
            == 1
    );
    out_of_sync(&pair, 8)?;
    repair(&pair)?;
    pair.are_well()
}

#[test]
fn status_tells_how_far_it_is_and_a_second_order_stops_it() -> Result<()> {
    let mut plan = plan();
    plan.conf.rate = "resync-rate 2M; c-plan-ahead 0;".into();
    let mut pair = Pair::fresh("verify-status", plan)?;
    pair.up()?;
    pair.alice
        .adm(&["new-current-uuid", "--clear-bitmap", "r0"])?;
    pair.alice.adm(&["primary", "r0"])?;
    pair.settle(20)?;
    pair.alice.adm(&["verify", "-s", "2048", "r0"])?;
    let volume = pair
        .alice
        .await_volume("VerifyS", 10, |volume| volume.cs == "VerifyS")?;
    ensure!(volume.ds == "UpToDate/UpToDate", "{volume:?}");
    pair.bob
        .await_volume("VerifyT", 10, |volume| volume.cs == "VerifyT")?;
    for node in [&pair.alice, &pair.bob] {
        let text = node.status_text()?;
        ensure!(text.contains("verified:"), "{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&pair.alice.adm(&["status", "--json"])?)?;
    let device = &json[0]["connections"][0]["peer_devices"][0];
    ensure!(device["replication-state"] == "VerifyS", "{device}");
    ensure!(device["has-online-verify-details"] == true, "{device}");
    ensure!(device["ov-start-sector"] == 2048, "{device}");
    let left = device["ov-left"].as_u64().context("ov-left")?;
    ensure!(left > 0, "{device}");

    // Only one at a time, and nothing else that works on all blocks.
    for command in [["verify", "r0"], ["invalidate", "r0"]] {
        let refusal = pair.bob.try_adm(&command)?.fails_with(11)?;
        ensure!(refusal.contains("since it is already active"), "{refusal}");
    }
    // Writes go on meanwhile.
    let mut client = pair.alice.nbd(0)?;
    for n in 0..64 {
        client.write(n << 20, &[n as u8; 16_384])?;
    }
    pair.alice.adm(&["verify", "--stop=0", "r0"])?;
    pair.settle(20)?;
    out_of_sync(&pair, 0)?;
    ensure!(pair.alice.logged("Online Verify reached sector") == 1);
    client.flush()?;
    pair.disks_equal()?;
    pair.are_well()
}

#[test]
fn it_is_refused_without_a_digest_or_a_peer() -> Result<()> {
    let pair = Pair::synced("verify-refused", Plan::default())?;
    let refusal = pair.alice.try_adm(&["verify", "r0"])?.fails_with(11)?;
    ensure!(
        refusal.contains("(-14) Need a verify algorithm to start online verify"),
        "{refusal}"
    );
    pair.alice.adm(&["disconnect", "r0"])?;
    let refusal = pair.bob.try_adm(&["verify", "r0"])?.fails_with(11)?;
    ensure!(refusal.contains("(-15) Need a connection"), "{refusal}");
    Ok(())
}
