//! Several volumes in one resource: one connection, each with its own disk, bitmap and sync.

use anyhow::{Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::{Conf, Node, Pair};

#[test]
fn three_volumes_are_synced_written_and_resynced_each_by_itself() -> Result<()> {
    let conf = Conf {
        volumes: 3,
        ..Conf::default()
    };
    let mut pair = Pair::synced(
        "volumes",
        Plan {
            conf,
            disk_bytes: 32 << 20,
            ..Plan::default()
        },
    )?;
    ensure!(pair.alice.adm(&["role", "r0"])? == "Primary/Secondary\n".repeat(3));
    for volume in 0..3u8 {
        pair.alice
            .nbd(volume.into())?
            .write(4096, &[0x10 + volume; 4096])?;
    }
    pair.disks_equal()?;
    for volume in 0..3u8 {
        let bytes = rdb_tests::disk::read(pair.disk(1, volume.into()), 4096, 4096)?;
        ensure!(
            bytes == [0x10 + volume; 4096],
            "volume {volume} holds another's data"
        );
    }

    // One volume is written while bob is away: only it is synced.
    pair.bob.adm(&["disconnect", "r0"])?;
    pair.alice
        .await_volume("the loss of bob", 20, |volume| volume.cs == "WFConnection")?;
    pair.alice.nbd(1)?.write(1 << 20, &[9; 65536])?;
    let oos: Vec<u64> = pair
        .alice
        .volumes()?
        .iter()
        .map(|volume| volume.oos)
        .collect();
    ensure!(oos == [0, 64, 0], "{oos:?}");
    pair.bob.adm(&["connect", "r0"])?;
    pair.settle(30)?;
    pair.disks_equal()?;

    by_the_resources_name(&pair)?;

    // One volume by its name: detached and attached, the others go on.
    pair.bob.adm(&["detach", "r0/2"])?;
    pair.bob
        .await_minor(2, "Diskless", 20, |volume| volume.ds == "Diskless/UpToDate")?;
    ensure!(pair.bob.volume(0)?.is_settled());
    pair.alice.nbd(2)?.write(0, &[7; 4096])?;
    pair.bob.adm(&["attach", "r0/2"])?;
    pair.settle(30)?;
    pair.are_well()?;
    pair.disks_equal()?;

    // The roles change together.
    pair.alice.adm(&["secondary", "r0"])?;
    pair.bob.adm(&["primary", "r0"])?;
    ensure!(pair.bob.nbd(2)?.read(0, 4096)? == [7; 4096]);
    Ok(())
}

/// A volume that the configuration has not any more is given up as the others are.
#[test]
fn a_primary_volume_that_left_the_configuration_is_demoted_with_its_resource() -> Result<()> {
    let mut pair = Pair::synced("volumes-left", Plan::with_volumes(2))?;
    pair.plan.conf.volumes = 1;
    pair.write_conf()?;
    let refused = pair.alice.try_adm(&["adjust", "r0"])?.fails_with(10)?;
    ensure!(
        refused.contains("volume 1 is not in the configuration any more, and is Primary")
            && refused.contains("'rdbadm secondary r0'"),
        "{refused}"
    );
    ensure!(pair.alice.volume(1)?.ro.starts_with("Primary"));
    pair.alice.adm(&["secondary", "r0"])?;
    for minor in [0, 1] {
        ensure!(pair.alice.volume(minor)?.ro.starts_with("Secondary"));
    }
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["adjust", "r0"])?;
        ensure!(node.volumes()?.len() == 1);
    }
    pair.are_well()
}

/// DRBD 9's words for `rdbsetup`: the resource, and not a minor.
fn by_the_resources_name(pair: &Pair) -> Result<()> {
    let setup = |node: &Node, words: &[&str]| node.run("rdbsetup", words, None);
    let (alice, bob) = (&pair.alice, &pair.bob);
    ensure!(setup(alice, &["role", "r0"])?.stdout == "Primary\n");
    ensure!(setup(bob, &["role", "r0"])?.stdout == "Secondary\n");

    // One volume can not be promoted: none is then.
    setup(alice, &["secondary", "1"])?.ok()?;
    setup(alice, &["secondary", "2"])?.ok()?;
    let refusal = setup(bob, &["primary", "r0"])?.fails_with(11)?;
    ensure!(refusal.contains("Multiple primaries"), "{refusal}");
    ensure!(setup(alice, &["role", "r0"])?.stdout == "Primary\n");
    setup(alice, &["secondary", "r0", "--force=no"])?.ok()?;
    for node in [bob, alice] {
        node.adm(&["detach", "r0/2"])?;
    }
    let refusal = setup(alice, &["primary", "r0"])?.fails_with(17)?;
    ensure!(
        refusal.contains("2: State change failed: (-2) Need access to UpToDate data"),
        "{refusal}"
    );
    ensure!(alice.adm(&["role", "r0"])? == "Secondary/Secondary\n".repeat(3));
    for node in [alice, bob] {
        node.adm(&["attach", "r0/2"])?;
    }
    pair.settle(30)?;

    // A device that is in use keeps its volume Primary.
    setup(bob, &["primary", "r0"])?.ok()?;
    let user = bob.nbd(2)?;
    let refusal = setup(bob, &["secondary", "r0"])?.fails_with(11)?;
    ensure!(
        refusal.contains("Device is held open by someone"),
        "{refusal}"
    );
    drop(user);
    setup(bob, &["secondary", "r0"])?.ok()?;

    let refusal = setup(alice, &["primary", "r9"])?.fails_with(10)?;
    ensure!(
        refusal.contains("r9: Failure: (158) Unknown resource"),
        "{refusal}"
    );
    setup(alice, &["primary", "r0"])?.ok()?;
    ensure!(alice.adm(&["role", "r0"])? == "Primary/Secondary\n".repeat(3));
    Ok(())
}
