//! A backing disk that fails: on-io-error detach and pass_on (`docs/spec/behaviour.md`, section 6.8).
//! The disk is a file of nbdkit's error filter, mounted with nbdfuse; a file beside it switches the
//! errors on.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::programs::tool;
use rdb_tests::{Conf, Node, Pair, wait_until};

/// A disk whose errors are switched on by the existence of a file.
struct FailingDisk {
    nbdkit: Child,
    nbdfuse: Child,
    mount: PathBuf,
    switch: PathBuf,
}

impl FailingDisk {
    /// Serves `backing` as `directory/nbd`; `kind` is `pwrite` or `pread`.
    fn new(directory: &Path, backing: &Path, kind: &str) -> Result<Self> {
        tool("fusermount3")?;
        std::fs::create_dir_all(directory)?;
        let (socket, switch) = (directory.join("s"), directory.join("fail"));
        let mount = directory.join("m");
        std::fs::create_dir(&mount)?;
        let nbdkit = Command::new(tool("nbdkit")?)
            .args(["-f", "--filter=error", "-U"])
            .arg(&socket)
            .arg("file")
            .arg(backing)
            .arg(format!("error-{kind}=EIO"))
            .arg(format!("error-{kind}-rate=100%"))
            .arg(format!("error-{kind}-file={}", switch.display()))
            .spawn()?;
        wait_until("nbdkit", Duration::from_secs(10), || Ok(socket.exists()))?;
        let nbdfuse = Command::new(tool("nbdfuse")?)
            .arg(mount.join("disk"))
            .arg(format!("nbd+unix:///?socket={}", socket.display()))
            .spawn();
        let disk = match nbdfuse {
            Ok(nbdfuse) => Self {
                nbdkit,
                nbdfuse,
                mount,
                switch,
            },
            Err(error) => {
                let mut nbdkit = nbdkit;
                let _ = nbdkit.kill();
                return Err(error).context("nbdfuse");
            }
        };
        wait_until("nbdfuse", Duration::from_secs(10), || {
            Ok(disk.file().exists())
        })?;
        Ok(disk)
    }

    fn file(&self) -> PathBuf {
        self.mount.join("disk")
    }

    fn fail(&self, on: bool) -> Result<()> {
        if on {
            std::fs::write(&self.switch, "")?
        } else {
            std::fs::remove_file(&self.switch)?
        }
        Ok(())
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
        for child in [&mut self.nbdfuse, &mut self.nbdkit] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A synced pair in which the disk of node `failing` can fail.
fn pair(name: &str, failing: usize, kind: &str, policy: &str) -> Result<(Pair, FailingDisk)> {
    let conf = Conf {
        disk: format!("on-io-error {policy};"),
        ..Conf::default()
    };
    let mut pair = Pair::prepare(
        name,
        Plan {
            conf,
            ..Plan::default()
        },
    )?;
    let disk = FailingDisk::new(&pair.scratch.join("failing"), pair.disk(failing, 0), kind)?;
    pair.hosts[failing].data[0] = disk.file();
    pair.write_conf()?;
    for node in [&mut pair.alice, &mut pair.bob] {
        node.start()?;
        node.adm(&["create-md", "--force", "r0"])?;
    }
    pair.up()?;
    pair.alice.adm(&["primary", "--force", "r0"])?;
    pair.settle(60)?;
    pair.alice.nbd(0)?.write(0, &[1; 8192])?;
    Ok((pair, disk))
}

fn disk_is(node: &Node, own: &str) -> Result<()> {
    let wanted = format!("{own}/");
    node.await_volume(own, 20, |volume| volume.ds.starts_with(&wanted))
        .map(drop)
}

#[test]
fn a_write_error_on_the_primary_detaches_and_the_peer_serves() -> Result<()> {
    let (mut pair, disk) = pair("eio-write", 0, "pwrite", "detach")?;
    let mut client = pair.alice.nbd(0)?;
    disk.fail(true)?;
    client
        .write(4096, &[2; 4096])
        .context("bob has it, so the write succeeds")?;
    disk_is(&pair.alice, "Diskless")?;
    ensure!(
        client.read(0, 8192)? == [[1; 4096], [2; 4096]].concat(),
        "read through bob"
    );
    drop(client);
    // The disk is sound again: attached, synced, equal.
    disk.fail(false)?;
    pair.alice.adm(&["attach", "r0"])?;
    pair.settle(60)?;
    ensure!(pair.alice.nbd(0)?.read(4096, 4096)? == [2; 4096]);
    pair.are_well()
}

#[test]
fn a_read_error_on_the_primary_is_answered_by_the_peer() -> Result<()> {
    let (mut pair, disk) = pair("eio-read", 0, "pread", "detach")?;
    let mut client = pair.alice.nbd(0)?;
    disk.fail(true)?;
    ensure!(client.read(0, 8192)? == [1; 8192], "bob has it");
    disk_is(&pair.alice, "Diskless")?;
    pair.are_well()
}

#[test]
fn a_write_error_on_the_secondary_detaches_it_alone() -> Result<()> {
    let (mut pair, disk) = pair("eio-peer", 1, "pwrite", "detach")?;
    let mut client = pair.alice.nbd(0)?;
    disk.fail(true)?;
    client.write(4096, &[3; 4096]).context("alice has it")?;
    disk_is(&pair.bob, "Diskless")?;
    client.write(16384, &[4; 4096])?;
    let oos = pair.alice.volume(0)?.oos;
    ensure!(oos >= 4, "nothing is marked: {oos} KiB");
    drop(client);
    disk.fail(false)?;
    pair.bob.adm(&["attach", "r0"])?;
    pair.settle(60)?;
    let last = pair.alice.resyncs_kib();
    ensure!(last.last().is_some_and(|kib| *kib <= 64), "{last:?}");
    pair.are_well()
}

#[test]
fn pass_on_keeps_the_disk_and_marks_it_inconsistent() -> Result<()> {
    let (mut pair, disk) = pair("eio-pass", 1, "pwrite", "pass_on")?;
    let mut client = pair.alice.nbd(0)?;
    // The error must not meet the metadata, where the policy is always to detach: a block in an
    // extent that is hot already needs no log entry.
    client.write(1 << 20, &[5; 4096])?;
    disk.fail(true)?;
    client.write(1 << 20, &[6; 4096]).context("alice has it")?;
    disk.fail(false)?;
    disk_is(&pair.bob, "Inconsistent").or_else(|_| disk_is(&pair.bob, "Diskless"))?;
    ensure!(client.read(1 << 20, 4096)? == [6; 4096]);
    drop(client);
    pair.are_well()
}
