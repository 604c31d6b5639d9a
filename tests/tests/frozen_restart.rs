//! Frozen requests outlive the daemon that has frozen them: suspended by an administrator, until the peer is fenced, or for
//! want of data.

use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::status::Volume;
use rdb_tests::{Conf, Node, Pair, wait_until};

/// `O_DIRECT` of x86-64.
const O_DIRECT: i32 = 0x4000;

/// A write to the device, which may wait.
struct Write(JoinHandle<std::io::Result<()>>);

impl Write {
    /// Begins to write a block, past the page cache.
    fn begin(device: PathBuf, block: u64, fill: u8) -> Self {
        Self(std::thread::spawn(move || {
            let file = std::fs::OpenOptions::new()
                .write(true)
                .custom_flags(O_DIRECT)
                .open(device)?;
            let mut room = vec![fill; 8192];
            let start = room.as_ptr().align_offset(4096);
            let bytes = room
                .get_mut(start..start + 4096)
                .ok_or_else(|| std::io::Error::other("no room"))?;
            file.write_all_at(bytes, block * 4096)
        }))
    }

    fn waits(&self) -> bool {
        !self.0.is_finished()
    }

    fn end(self) -> Result<()> {
        wait_until("the write to end", Duration::from_secs(60), || {
            Ok(self.0.is_finished())
        })?;
        Ok(self.0.join().map_err(|_| anyhow!("a panic"))??)
    }
}

fn plan(disk: &str, resource: String) -> Plan {
    Plan {
        frontend: "fuse",
        conf: Conf {
            disk: disk.into(),
            resource,
            ..Conf::default()
        },
        ..Plan::default()
    }
}

fn await_waiting(node: &Node, why: &str) -> Result<()> {
    wait_until(why, Duration::from_secs(30), || {
        let status = node.adm(&["status"])?;
        Ok(status.contains(": 1 requests of users wait") && status.contains(why))
    })
    .with_context(|| node.log_tail(30))
}

/// The stamp that a write has left on the disk of a node, seen through its device.
fn stamp(node: &Node, block: u64) -> Result<u8> {
    let mut byte = [0];
    let device = std::fs::File::open(node.device(0)?)?;
    device.read_exact_at(&mut byte, block * 4096)?;
    Ok(byte[0])
}

#[test]
fn suspended_io_stays_suspended_under_the_next_daemon() -> Result<()> {
    let mut pair = Pair::synced("frozen-restart", plan("", String::new()))?;
    let device = pair.alice.device(0)?;
    pair.alice.adm(&["suspend-io", "r0"])?;
    // Nothing waits yet: it goes down in order, and nothing is to be synced.
    let resyncs = pair.alice.resyncs_kib().len();
    pair.alice.adm(&["restart"])?;
    ensure!(pair.alice.adm(&["status"])?.contains("suspended:user"));
    pair.settle(60)?;
    ensure!(pair.alice.resyncs_kib().len() == resyncs, "in order");

    let write = Write::begin(device.clone(), 3, 7);
    await_waiting(&pair.alice, "suspend-io")?;
    for _ in 0..3 {
        pair.alice.adm(&["restart"])?;
        ensure!(write.waits());
        await_waiting(&pair.alice, "suspend-io")?;
        ensure!(pair.alice.adm(&["status"])?.contains("suspended:user"));
    }
    pair.disks_equal()
        .context("nothing was written meanwhile")?;
    pair.alice.adm(&["resume-io", "r0"])?;
    write.end()?;
    ensure!(stamp(&pair.alice, 3)? == 7);
    pair.settle(60)?;
    pair.alice.adm(&["restart"])?;
    // No device is made of what nobody could read from.
    pair.alice.adm(&["suspend-io", "r0"])?;
    pair.alice.adm(&["secondary", "r0"])?;
    let refused = pair.alice.try_adm(&["primary", "r0"])?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("'rdbadm resume-io r0' first"),
        "{refused:?}"
    );
    pair.alice.adm(&["resume-io", "r0"])?;
    pair.alice.adm(&["primary", "r0"])?;
    ensure!(!pair.alice.adm(&["status"])?.contains("suspended"));
    pair.settle(60)?;
    pair.disks_equal()?;
    pair.are_well()
}

#[test]
fn what_waits_until_the_peer_is_fenced_waits_under_the_next_daemon_too() -> Result<()> {
    let mut pair = Pair::prepare(
        "frozen-fencing",
        plan("fencing resource-and-stonith;", String::new()),
    )?;
    let here = pair.scratch.path().display().to_string();
    pair.plan.conf.resource = format!(
        "handlers {{ fence-peer \"echo >> {here}/$RDB_NODE.calls; exit $(cat {here}/exit)\"; }}"
    );
    pair.write_conf()?;
    std::fs::write(pair.scratch.join("exit"), "1")?;
    pair.begin()?;
    pair.sync_from(&pair.alice)?;
    let device = pair.alice.device(0)?;
    let lose_the_peer = |pair: &mut Pair| -> Result<()> {
        pair.bob.kill()?;
        pair.alice
            .await_volume("the loss", 30, |volume| volume.cs == "WFConnection")?;
        Ok(())
    };

    // The peer comes back.
    lose_the_peer(&mut pair)?;
    let write = Write::begin(device.clone(), 1, 1);
    await_waiting(&pair.alice, "fenced")?;
    pair.alice.try_adm(&["restart"])?.fails_with(11)?;
    ensure!(write.waits());
    let calls = || {
        let calls = std::fs::read_to_string(pair.scratch.join("alice.calls"));
        calls.map_or(0, |calls| calls.lines().count())
    };
    // (Within 45 seconds, and each pause is twice as long as the one before.)
    ensure!(
        (2..16).contains(&calls()),
        "{} calls\n{}",
        calls(),
        pair.alice.log_tail(60)
    );
    // It is told where people look, and that another command is wanted.
    let status = pair.alice.adm(&["status"])?;
    ensure!(
        status.contains("io-reason: ") && status.contains("is Primary again"),
        "{status}"
    );
    let refused = pair.alice.try_adm(&["resume-io", "r0"])?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("'rdbadm primary --force r0'"),
        "{refused:?}"
    );
    pair.bob.start()?;
    pair.bob.adm(&["up", "r0"])?;
    write.end()?;
    pair.settle(60)?;
    ensure!(stamp(&pair.alice, 1)? == 1);

    // It is fenced at last.
    lose_the_peer(&mut pair)?;
    let write = Write::begin(device.clone(), 2, 2);
    await_waiting(&pair.alice, "fenced")?;
    std::fs::write(pair.scratch.join("exit"), "7")?;
    pair.alice.adm(&["restart"])?;
    write.end()?;
    pair.alice
        .await_volume("fenced", 10, |v| v.ds == "UpToDate/Outdated")?;
    pair.bob.start()?;
    pair.bob.adm(&["up", "r0"])?;
    pair.settle(60)?;
    pair.disks_equal()?;
    pair.are_well()
}

#[test]
fn what_waits_for_data_is_not_given_up_by_a_restart() -> Result<()> {
    let mut pair = Pair::synced(
        "frozen-no-data",
        plan(
            "",
            "options { on-no-data-accessible suspend-io; }".to_owned(),
        ),
    )?;
    let device = pair.alice.device(0)?;
    pair.alice.adm(&["detach", "r0"])?;
    pair.bob.kill()?;
    pair.alice
        .await_volume("the loss", 30, |volume| volume.cs == "WFConnection")?;
    let write = Write::begin(device, 4, 4);
    await_waiting(&pair.alice, "data")?;
    let refused = pair.alice.try_adm(&["restart"])?.fails_with(11)?;
    ensure!(refused.contains("its disk is Diskless"), "{refused}");
    ensure!(write.waits());
    pair.bob.start()?;
    pair.bob.adm(&["up", "r0"])?;
    write.end()?;
    pair.alice.adm(&["attach", "r0"])?;
    pair.alice
        .await_volume("the disk", 60, Volume::is_settled)?;
    ensure!(stamp(&pair.alice, 4)? == 4);
    pair.alice.adm(&["restart"])?;
    pair.settle(60)?;
    pair.disks_equal()?;
    pair.are_well()
}
