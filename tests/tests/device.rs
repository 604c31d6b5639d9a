//! The device that people mount: FUSE and a loop device, a real ext4 on it, crashes under it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::programs::run_tool;
use rdb_tests::scratch::{loops_over, release_below};
use rdb_tests::{Node, Pair, wait_until};

fn mount(node: &Node, pair: &Pair) -> Result<PathBuf> {
    let device = node.device(0)?.display().to_string();
    let place = pair.scratch.join(format!("mnt-{}", node.name));
    std::fs::create_dir_all(&place)?;
    run_tool(60, "mount", &[&device, &place.display().to_string()])?;
    Ok(place)
}

fn umount(place: &std::path::Path) -> Result<()> {
    run_tool(60, "umount", &[place.display().to_string()]).map(drop)
}

#[test]
fn ext4_survives_the_death_of_the_primary() -> Result<()> {
    let mut pair = Pair::synced(
        "ext4",
        Plan {
            frontend: "fuse",
            ..Plan::default()
        },
    )?;
    let device = pair.alice.device(0)?.display().to_string();
    run_tool(60, "mkfs.ext4", &["-q", "-F", &device])?;
    let place = mount(&pair.alice, &pair)?;
    for index in 0..50u8 {
        std::fs::write(place.join(format!("file-{index}")), vec![index; 30_000])?;
    }
    run_tool(60, "sync", &["-f", &place.display().to_string()])?;
    // A mounted device is not demoted.
    let refusal = pair.alice.try_adm(&["secondary", "r0"])?.fails_with(11)?;
    ensure!(refusal.contains("(-12)"), "{refusal}");

    pair.alice.kill()?;
    run_tool(30, "umount", &["-l", &place.display().to_string()])?;
    release_below(&pair.alice.run_dir);
    pair.bob.await_volume("the loss of alice", 20, |volume| {
        volume.cs == "WFConnection"
    })?;
    pair.bob.adm(&["primary", "r0"])?;
    let device = pair.bob.device(0)?.display().to_string();
    let place = mount(&pair.bob, &pair).context("ext4 replays its journal and mounts")?;
    for index in 0..50u8 {
        let content = std::fs::read(place.join(format!("file-{index}")))?;
        ensure!(
            content == vec![index; 30_000],
            "file-{index} is not what was synced"
        );
    }
    std::fs::remove_file(place.join("file-0"))?;
    umount(&place)?;
    run_tool(60, "e2fsck", &["-f", "-n", &device]).context("the file system is clean")?;

    pair.alice.start()?;
    pair.alice.adm(&["up", "r0"])?;
    pair.settle(60)?;
    pair.bob.adm(&["secondary", "r0"])?;
    pair.alice.adm(&["primary", "r0"])?;
    let place = mount(&pair.alice, &pair)?;
    ensure!(!place.join("file-0").exists() && place.join("file-1").exists());
    umount(&place)?;
    pair.are_well()?;
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["down", "r0"])?;
    }
    pair.disks_equal()
}

#[test]
fn the_device_is_there_while_primary_and_gone_afterwards() -> Result<()> {
    let pair = Pair::synced(
        "there",
        Plan {
            frontend: "fuse",
            ..Plan::default()
        },
    )?;
    ensure!(pair.bob.device(0).is_err(), "a secondary has no device");
    let device = pair.alice.device(0)?;
    let size = run_tool(
        10,
        "blockdev",
        &["--getsize64", &device.display().to_string()],
    )?;
    ensure!(size.trim() == pair.data_bytes().to_string(), "{size}");
    pair.alice.adm(&["secondary", "r0"])?;
    ensure!(pair.alice.device(0).is_err(), "it is to be seen still");
    // (Whoever looks at a device as it goes, udev perhaps, has it for a moment longer.)
    wait_until("the device to be gone", Duration::from_secs(5), || {
        Ok(loops_over(&pair.alice.run_dir).is_empty())
    })?;
    // The NBD socket is beside the device, and they show the same data.
    pair.alice.adm(&["primary", "r0"])?;
    pair.alice.nbd(0)?.write(0, &[5; 4096])?;
    let device = pair.alice.device(0)?.display().to_string();
    let of = pair.scratch.join("read").display().to_string();
    let words = [
        &format!("if={device}"),
        &format!("of={of}"),
        "bs=4k",
        "count=1",
        "iflag=direct",
    ];
    run_tool(20, "dd", &words)?;
    ensure!(std::fs::read(of)? == [5; 4096]);
    Ok(())
}

/// Goal: a Primary whose loop device somebody detaches has another one soon, but not before its users are gone.
#[test]
fn a_device_that_somebody_else_detaches_is_made_anew() -> Result<()> {
    let mut pair = Pair::synced(
        "lost",
        Plan {
            frontend: "fuse",
            ..Plan::default()
        },
    )?;
    let device = pair.alice.device(0)?;
    let words = "was detached by somebody else";
    let user = std::fs::File::open(&device)?;
    run_tool(20, "losetup", &["-d", &device.display().to_string()])?;
    ensure!(pair.alice.device(0)? == device && pair.alice.logged(words) == 0);
    std::os::unix::fs::FileExt::read_exact_at(&user, &mut [0; 4096], 0)?;
    drop(user);
    wait_until("another device", Duration::from_secs(20), || {
        let is_there = pair.alice.device(0).is_ok() && !loops_over(&pair.alice.run_dir).is_empty();
        Ok(is_there && pair.alice.logged(words) == 1)
    })?;
    pair.alice.adm(&["primary", "r0"])?;
    let device = pair.alice.device(0)?.display().to_string();
    run_tool(60, "mkfs.ext4", &["-q", "-F", &device])?;
    pair.alice.adm(&["secondary", "r0"])?;
    ensure!(pair.alice.logged(words) == 1, "it is given back in order");
    pair.are_well()
}

/// One that can not be made anew is told of by `status`, not by the log alone.
#[test]
fn a_device_that_can_not_be_made_anew_is_told_of() -> Result<()> {
    let mut pair = Pair::synced(
        "lost-for-good",
        Plan {
            frontend: "fuse",
            ..Plan::default()
        },
    )?;
    let device = pair.alice.device(0)?.display().to_string();
    let (place, aside) = (
        pair.alice.run_dir.join("fuse"),
        pair.alice.run_dir.join("aside"),
    );
    std::fs::rename(&place, &aside)?;
    std::fs::write(&place, "in the way")?;
    run_tool(20, "losetup", &["-d", &device])?;
    wait_until("a word of it", Duration::from_secs(30), || {
        let status = pair.alice.adm(&["status", "r0"])?;
        Ok(
            status.contains("device-reason: missing: the device can not be made: ")
                && status.contains("'rdbadm secondary r0' and 'rdbadm primary r0' make it"),
        )
    })?;
    let checked = pair.alice.try_adm(&["status", "--check", "r0"])?;
    ensure!(
        checked.code == 1 && checked.stdout.contains("the device can not be made"),
        "{checked:?}"
    );
    let json = pair.alice.adm(&["status", "--json", "r0"])?;
    ensure!(json.contains("\"device-reason\""), "{json}");
    std::fs::remove_file(&place)?;
    std::fs::rename(&aside, &place)?;
    pair.alice.adm(&["secondary", "r0"])?;
    pair.alice.adm(&["primary", "r0"])?;
    let device = pair.alice.device(0)?.display().to_string();
    run_tool(60, "mkfs.ext4", &["-q", "-F", &device])?;
    let status = pair.alice.adm(&["status", "r0"])?;
    ensure!(!status.contains("device-reason"), "{status}");
    pair.are_well()
}

#[test]
fn a_restart_after_a_crash_clears_what_the_dead_daemon_left() -> Result<()> {
    let mut pair = Pair::synced(
        "left",
        Plan {
            frontend: "fuse",
            ..Plan::default()
        },
    )?;
    pair.alice.device(0)?;
    pair.alice.kill()?;
    // Nobody helps.
    pair.alice.start()?;
    wait_until("the loop device to be gone", Duration::from_secs(5), || {
        Ok(loops_over(&pair.alice.run_dir).is_empty())
    })?;
    pair.alice.adm(&["up", "r0"])?;
    pair.settle(60)?;
    pair.alice.adm(&["primary", "r0"])?;
    let device = pair.alice.device(0)?.display().to_string();
    run_tool(60, "mkfs.ext4", &["-q", "-F", &device])?;
    pair.are_well()
}

#[test]
fn front_ends_that_are_not_there_are_refused_by_name() -> Result<()> {
    let pair = Pair::prepare("frontends", Plan::default())?;
    for frontend in ["nbd", "teapot"] {
        let mut node = Node::new(
            pair.scratch.path(),
            &format!("x-{frontend}"),
            &pair.alice.conf,
        )?;
        frontend.clone_into(&mut node.frontend);
        ensure!(node.start().is_err(), "{frontend} was taken");
        ensure!(
            node.log().contains(frontend),
            "{frontend} is not named: {}",
            node.log()
        );
    }
    Ok(())
}
