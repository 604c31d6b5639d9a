//! heartbeat's resource script `drbddisk`, called as heartbeat does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::programs::tool;
use rdb_tests::{Node, Pair, wait_until};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../packaging/etc")
        .join(name)
}

/// Runs a script as heartbeat does on this node: its exit status, what it printed, and what it complained of.
fn call(node: &Node, name: &str, words: &[&str]) -> Result<(i32, String, String)> {
    let environment: Vec<_> = node
        .command("rdbadm", 120)?
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    let output = Command::new("timeout")
        .args(["-k", "5", "120"])
        .arg(script(name))
        .args(words)
        .envs(environment)
        .env("RDB_FRONTEND", &node.frontend)
        .env("HA_CURHOST", &node.name)
        .output()?;
    Ok((
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}

fn answers(node: &Node, words: &[&str], code: i32, said: &str) -> Result<()> {
    let found = call(node, "drbddisk", words)?;
    ensure!(
        found.0 == code && found.1 == said,
        "{words:?}: {found:?}\n{}",
        node.log_tail(10)
    );
    Ok(())
}

#[test]
fn drbddisk_promotes_and_demotes_and_looks_at_every_volume() -> Result<()> {
    let pair = Pair::synced("heartbeat-volumes", Plan::with_volumes(2))?;
    pair.alice.adm(&["secondary", "r0"])?;
    answers(&pair.alice, &["r0", "status"], 3, "stopped (Secondary)")?;
    answers(&pair.alice, &["r0", "start"], 0, "")?;
    answers(&pair.alice, &["r0", "start"], 0, "")?;
    answers(&pair.alice, &["r0", "status"], 0, "running (Primary)")?;
    // Whoever took this for a running resource would never have its second volume promoted; what heartbeat makes of the words is that
    // it does not run (`*not *running*`), and starts it.
    pair.alice.adm(&["secondary", "r0/1"])?;
    let some = "cannot determine status, may be running (Primary Secondary)";
    answers(&pair.alice, &["r0", "status"], 4, some)?;
    pair.alice.adm(&["primary", "r0/1"])?;
    pair.alice.adm(&["secondary", "r0/0"])?;
    answers(&pair.alice, &["r0", "status"], 4, some)?;
    answers(&pair.alice, &["r0", "start"], 0, "")?;
    answers(&pair.alice, &["r0", "status"], 0, "running (Primary)")?;
    // All resources.
    answers(&pair.alice, &["stop"], 0, "")?;
    answers(&pair.alice, &["r0", "status"], 3, "stopped (Secondary)")?;
    answers(&pair.alice, &["start"], 0, "")?;
    answers(&pair.alice, &["status"], 1, "Resource name missing")?;
    answers(&pair.alice, &["r0", "stop"], 0, "")?;
    // What is down does not run, and is brought up to be started.
    pair.alice.adm(&["down", "r0"])?;
    answers(&pair.alice, &["r0", "status"], 3, "stopped (Unconfigured)")?;
    answers(&pair.alice, &["r0", "stop"], 0, "")?;
    answers(&pair.alice, &["r0", "status"], 3, "stopped (Unconfigured)")?;
    answers(&pair.alice, &["r0", "start"], 0, "")?;
    answers(&pair.alice, &["r0", "status"], 0, "running (Primary)")?;
    let usage = "Usage: drbddisk [resource] {start|stop|status}";
    answers(&pair.alice, &["r0", "dance"], 1, usage)
}

#[test]
fn drbddisk_starts_a_dead_daemon_again_and_the_resource_with_it() -> Result<()> {
    let mut pair = Pair::synced("heartbeat-dead", Plan::default())?;
    for (action, role) in [("stop", "Secondary"), ("start", "Primary")] {
        pair.alice.adm(&["adjust", "r0"])?;
        pair.settle(30)?;
        pair.alice.adm(&["primary", "r0"])?;
        pair.alice.kill()?;
        let (code, said, _) = call(&pair.alice, "drbddisk", &["r0", "status"])?;
        ensure!(code == 4, "a dead daemon was asked: {code}, {said}");
        let (code, _, said) = call(&pair.alice, "drbddisk", &["r0", action])?;
        ensure!(code == 0, "{action}: {code}: {said}");
        ensure!(said.contains("starting the daemon again"), "{said}");
        // The mirror of whoever goes on is there again.
        let role = format!("{role}/Secondary\n");
        wait_until(
            "the mirror to be there again",
            Duration::from_secs(30),
            || Ok(pair.alice.adm(&["role", "r0"])? == role),
        )?;
        let pid = fs::read_to_string(pair.alice.run_dir.join("rdbd.pid"))?;
        let pid = pid.trim();
        // What heartbeat told the script is not handed on to the daemon's handlers.
        let environment = fs::read(format!("/proc/{pid}/environ"))?;
        let environment = String::from_utf8_lossy(&environment).into_owned();
        ensure!(environment.contains("RDB_RUN_DIR"), "{environment}");
        ensure!(!environment.contains("HA_CURHOST"), "{environment}");
        pair.alice.adm(&["secondary", "r0"])?;
        pair.settle(30)?;
        pair.alice.adm(&["down", "r0"])?;
        Command::new("kill").arg(pid).status()?;
        wait_until("the daemon to end", Duration::from_secs(20), || {
            Ok(!Path::new(&format!("/proc/{pid}")).exists())
        })?;
        pair.alice.start()?;
    }
    Ok(())
}

#[test]
fn drbddisk_is_a_plain_shell_script_without_a_complaint_of_shellcheck() -> Result<()> {
    let output = Command::new(tool("shellcheck")?)
        .args(["--shell=sh", "--severity=style"])
        .arg(script("drbddisk"))
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(())
}
