//! invalidate and invalidate-remote: a full sync in the direction that is asked for.

use anyhow::{Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::{Conf, Node, Pair, disk};

fn full_sync_repairs(pair: &Pair, damaged: usize, who: &Node, command: &str) -> Result<()> {
    // Damage behind the daemon's back, which only a full sync can mend.
    disk::write(pair.disk(damaged, 0), 5 << 20, &[0xee; 8192])?;
    ensure!(pair.disks_equal().is_err(), "the damage is there");
    who.adm(&[command, "r0"])?;
    let whole = pair.data_bytes() / 1024;
    let target = if damaged == 0 { &pair.alice } else { &pair.bob };
    rdb_tests::wait_until("a full sync", std::time::Duration::from_secs(30), || {
        Ok(target.resyncs_kib().last() == Some(&whole))
    })?;
    pair.settle(60)?;
    pair.disks_equal()
}

#[test]
fn both_directions_from_both_ends() -> Result<()> {
    let mut pair = Pair::synced("invalidate", Plan::default())?;
    pair.alice.nbd(0)?.write(5 << 20, &[1; 8192])?;
    // bob is secondary: he may declare his data bad, and alice may.
    full_sync_repairs(&pair, 1, &pair.bob, "invalidate")?;
    full_sync_repairs(&pair, 1, &pair.alice, "invalidate-remote")?;
    // alice as secondary is synced from bob.
    pair.alice.adm(&["secondary", "r0"])?;
    pair.bob.adm(&["primary", "r0"])?;
    full_sync_repairs(&pair, 0, &pair.bob, "invalidate-remote")?;
    full_sync_repairs(&pair, 0, &pair.alice, "invalidate")?;
    ensure!(pair.bob.nbd(0)?.read(5 << 20, 8192)? == [1; 8192]);
    pair.are_well()
}

#[test]
fn a_node_alone_does_not_invalidate_its_only_copy_as_primary() -> Result<()> {
    let pair = Pair::synced("invalid-alone", Plan::default())?;
    pair.bob.adm(&["disconnect", "r0"])?;
    pair.alice
        .await_volume("the loss of bob", 20, |volume| volume.cs == "WFConnection")?;
    let refusal = pair.alice.try_adm(&["invalidate", "r0"])?;
    ensure!(refusal.code != 0, "{refusal:?}");
    ensure!(
        refusal.stderr.contains("State change failed"),
        "{refusal:?}"
    );
    ensure!(
        pair.alice.volume(0)?.ds.starts_with("UpToDate/"),
        "{:?}",
        pair.alice.volume(0)?
    );
    Ok(())
}

#[test]
fn writes_during_a_full_sync_arrive() -> Result<()> {
    let conf = Conf {
        rate: "resync-rate 24M; c-plan-ahead 0;".into(),
        ..Conf::default()
    };
    let pair = Pair::synced(
        "sync-write",
        Plan {
            conf,
            ..Plan::default()
        },
    )?;
    pair.bob.adm(&["invalidate", "r0"])?;
    pair.bob
        .await_volume("the sync", 20, |volume| volume.cs == "SyncTarget")?;
    let model = rdb_tests::writer::Model::new(0, 16_000);
    let pace = rdb_tests::writer::Pace::default();
    let load = rdb_tests::writer::Load::start(&pair.alice.nbd_socket(), "r0/0", &model, 5, pace)?;
    load.progress(300)?;
    ensure!(
        pair.bob.volume(0)?.cs == "SyncTarget",
        "the sync is still on"
    );
    load.stop()?;
    pair.settle(60)?;
    pair.disks_equal()
}
