//! The harness against programs that others wrote: a check that cannot fail checks nothing.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::Result;
use rdb_tests::nbd::Client;
use rdb_tests::programs::tool;
use rdb_tests::scratch::{Loop, Scratch, loops_over, release_below};
use rdb_tests::writer::{Load, Model, Pace};
use rdb_tests::{disk, wait_until};

const BLOCKS: usize = 512;

struct Server(Child);

impl Server {
    fn start(file: &Path, socket: &Path) -> Result<Self> {
        let _ = std::fs::remove_file(socket);
        let child = Command::new(tool("qemu-nbd")?)
            .args(["-t", "-f", "raw", "-x", "e", "-e", "4", "-k"])
            .arg(socket)
            .arg(file)
            .spawn()?;
        let server = Self(child);
        wait_until("qemu-nbd", Duration::from_secs(10), || {
            Ok(Client::connect(socket, "e").is_ok())
        })?;
        Ok(server)
    }

    fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_writer_keeps_its_log_over_a_crash_of_the_server() -> Result<()> {
    let scratch = Scratch::new("writer")?;
    let (file, socket) = (scratch.join("disk"), scratch.join("s"));
    disk::create(&file, 8 << 20)?;
    let model = Model::new(100, BLOCKS);
    for round in 0..3 {
        let server = Server::start(&file, &socket)?;
        let load = Load::start(&socket, "e", &model, round, Pace::default())?;
        load.progress(500)?;
        server.kill()?;
        load.lost()?;
        let server = Server::start(&file, &socket)?;
        let mut client = Client::connect(&socket, "e")?;
        let mut checked = model
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        checked.verify(&mut client)?;
        drop(server);
    }
    Ok(())
}

#[test]
fn the_writer_notices_what_an_older_copy_lacks() -> Result<()> {
    let scratch = Scratch::new("older")?;
    let (file, old, socket) = (scratch.join("disk"), scratch.join("old"), scratch.join("s"));
    disk::create(&file, 8 << 20)?;
    let model = Model::new(0, BLOCKS);
    let server = Server::start(&file, &socket)?;
    let load = Load::start(&socket, "e", &model, 1, Pace::default())?;
    load.progress(2000)?;
    load.stop()?;
    std::fs::copy(&file, &old)?;
    let load = Load::start(&socket, "e", &model, 2, Pace::default())?;
    load.progress(10)?;
    load.stop()?;
    server.kill()?;

    let mut checked = model
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let server = Server::start(&old, &socket)?;
    let error = checked.verify(&mut Client::connect(&socket, "e")?);
    assert!(error.is_err(), "the older copy lacks acknowledged writes");
    server.kill()?;

    assert!(
        disk::compare(&file, &old, 8 << 20).is_err(),
        "the copies differ"
    );
    let _server = Server::start(&file, &socket)?;
    checked.verify(&mut Client::connect(&socket, "e")?)
}

#[test]
fn a_mounted_file_system_is_released_with_its_loop_device() -> Result<()> {
    let scratch = Scratch::new("release")?;
    let (file, mount) = (scratch.join("disk"), scratch.join("mnt"));
    std::fs::create_dir(&mount)?;
    disk::create(&file, 32 << 20)?;
    let device = Loop::new(&file)?;
    for command in [
        vec!["mkfs.ext4", "-q", "-F", device.device()],
        vec!["mount", device.device(), &mount.display().to_string()],
    ] {
        rdb_tests::programs::run_tool(60, command[0], &command[1..])?;
    }
    assert_eq!(loops_over(scratch.path()), [device.device()]);
    release_below(scratch.path());
    assert!(loops_over(scratch.path()).is_empty());
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    assert!(!mounts.contains(&mount.display().to_string()));
    Ok(())
}

#[test]
fn a_missing_tool_is_named_with_its_package() {
    let error = tool("no-such-program").unwrap_err().to_string();
    assert_eq!(error, "no-such-program is missing");
    assert!(tool("sh").is_ok());
}
