//! Whoever reads the daemon's log may go, or stop reading: the daemon goes on.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::{Pair, wait_until};

/// The daemon of alice with a pipe for its log.
fn start(pair: &Pair, level: &str) -> Result<Child> {
    let settings = pair.scratch.join("rdbd.toml");
    std::fs::write(&settings, format!("log-level = \"{level}\"\n"))?;
    let child = pair
        .alice
        .command("rdbd", 0)?
        .args(["--frontend", "socket", "--config"])
        .arg(&settings)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    wait_until("rdbd to answer", Duration::from_secs(20), || {
        Ok(pair.alice.answers())
    })?;
    Ok(child)
}

/// Everything that logs: up, primary, I/O, down; many times.
fn use_it(pair: &Pair) -> Result<()> {
    pair.alice.adm(&["create-md", "--force", "r0"])?;
    for _ in 0..10 {
        pair.alice.adm(&["up", "r0"])?;
        pair.alice.adm(&["primary", "--force", "r0"])?;
        pair.alice.nbd(0)?.write(0, &[7; 4096])?;
        pair.alice.adm(&["down", "r0"])?;
    }
    Ok(())
}

fn end(mut child: Child, pair: &Pair) -> Result<()> {
    ensure!(child.try_wait()?.is_none(), "the daemon ended on its own");
    pair.alice.adm(&["up", "r0"])?;
    std::process::Command::new("kill")
        .arg(child.id().to_string())
        .status()?;
    let mut status = None;
    wait_until("rdbd to end", Duration::from_secs(20), || {
        status = child.try_wait()?;
        Ok(status.is_some())
    })?;
    ensure!(status.context("it ended")?.success(), "{status:?}");
    Ok(())
}

#[test]
fn the_daemon_outlives_the_reader_of_its_log() -> Result<()> {
    let pair = Pair::prepare("log-gone", Plan::default())?;
    let mut child = start(&pair, "info")?;
    drop(child.stderr.take());
    let used = use_it(&pair);
    if used.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    used?;
    end(child, &pair)
}

#[test]
fn the_daemon_does_not_wait_for_the_reader_of_its_log() -> Result<()> {
    let pair = Pair::prepare("log-stuck", Plan::default())?;
    // A pipe holds 64 KiB; nobody empties it.
    let mut child = start(&pair, "trace")?;
    let pipe = child.stderr.take();
    let used = (0..4).try_for_each(|_| use_it(&pair));
    if used.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    used?;
    end(child, &pair)?;
    drop(pipe);
    Ok(())
}
