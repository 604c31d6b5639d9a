//! Commands that wait while their daemon goes, for good or to be replaced: each tells what has become of it, and goes on if it can.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::programs::run_tool;
use rdb_tests::{Node, Pair, wait_until};

/// A command that runs.
fn spawn(node: &Node, words: &[&str]) -> Result<Child> {
    let mut command = node.command("rdbadm", 100)?;
    command
        .args(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command.spawn()?)
}

/// How it ends, and what it says.
fn end(child: Child) -> Result<(Option<i32>, String)> {
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

/// alice is up and waits for bob, who is not, and so do two commands.
fn waiting(name: &str) -> Result<(Pair, Vec<Child>)> {
    let pair = Pair::fresh(name, Plan::default())?;
    pair.alice.adm(&["up", "r0"])?;
    let mut waits = Vec::new();
    for words in [["wait-connect", "r0"], ["wait-sync", "r0"]] {
        waits.push(spawn(&pair.alice, &words)?);
    }
    // They are there.
    std::thread::sleep(Duration::from_millis(500));
    for wait in &mut waits {
        ensure!(wait.try_wait()?.is_none(), "it has not waited");
    }
    Ok((pair, waits))
}

#[test]
fn a_wait_goes_on_with_the_daemon_that_replaces_its_own() -> Result<()> {
    let (pair, mut waits) = waiting("waits-restart")?;
    for _ in 0..2 {
        pair.alice.adm(&["restart"])?;
        std::thread::sleep(Duration::from_secs(1));
        for wait in &mut waits {
            let ended = wait.try_wait()?;
            ensure!(ended.is_none(), "{ended:?}");
        }
    }
    pair.bob.adm(&["up", "r0"])?;
    for wait in waits {
        let (code, said) = end(wait)?;
        ensure!(code == Some(0), "{code:?}: {said}");
    }
    // What is left of its time is all that it has with the next one.
    pair.bob.adm(&["down", "r0"])?;
    let begun = Instant::now();
    let wait = spawn(&pair.alice, &["wait-connect", "--wfc-timeout=8", "r0"])?;
    std::thread::sleep(Duration::from_secs(5));
    pair.alice.adm(&["restart"])?;
    let (code, said) = end(wait)?;
    ensure!(code == Some(5), "{code:?}: {said}");
    let passed = begun.elapsed();
    ensure!(passed < Duration::from_secs(12), "{passed:?}");
    Ok(())
}

#[test]
fn a_wait_whose_resource_is_taken_down_says_so() -> Result<()> {
    let (pair, waits) = waiting("waits-down")?;
    pair.alice.adm(&["down", "r0"])?;
    for wait in waits {
        let (code, said) = end(wait)?;
        ensure!(code == Some(10), "{code:?}: {said}");
        ensure!(said.contains("was taken down"), "{said}");
        ensure!(!said.contains("rdbadm connect"), "{said}");
    }
    Ok(())
}

#[test]
fn a_wait_whose_daemon_ends_says_so() -> Result<()> {
    let (mut pair, waits) = waiting("waits-end")?;
    pair.alice.terminate()?;
    for wait in waits {
        let (code, said) = end(wait)?;
        ensure!(code == Some(10), "{code:?}: {said}");
        ensure!(said.contains("rdbd is ending"), "{said}");
        ensure!(!said.contains("rdbadm connect"), "{said}");
    }
    Ok(())
}

#[test]
fn a_wait_whose_daemon_is_killed_does_not_know() -> Result<()> {
    let (mut pair, waits) = waiting("waits-kill")?;
    pair.alice.kill()?;
    for wait in waits {
        let (code, said) = end(wait)?;
        ensure!(code == Some(30), "{code:?}: {said}");
        ensure!(said.contains("has left r0"), "{said}");
    }
    Ok(())
}

fn kill_all(node: &Node) -> Result<()> {
    for pid in node.processes()? {
        // It may be gone already.
        let _ = run_tool(10, "kill", &["-9", &pid.to_string()]);
    }
    Ok(())
}

#[test]
fn a_restart_whose_daemons_are_killed_ends_at_once() -> Result<()> {
    let mut pair = Pair::synced("waits-restart-kill", Plan::default())?;
    let mut judged = 0;
    for delay_ms in [5, 10, 20, 30, 40, 60] {
        let alice = &mut pair.alice;
        let mut restart = spawn(alice, &["restart", "--force"])?;
        std::thread::sleep(Duration::from_millis(delay_ms));
        let is_done = restart.try_wait()?.is_some();
        // Twice: one may have been about to start another.
        kill_all(alice)?;
        kill_all(alice)?;
        let begun = Instant::now();
        let (code, said) = end(restart)?;
        let passed = begun.elapsed();
        // (On a machine without other work it may just have been done.)
        if !(is_done || code == Some(0)) {
            judged += 1;
            ensure!(
                passed < Duration::from_secs(10) && code == Some(30),
                "{delay_ms} ms: {code:?} after {passed:?}: {said}"
            );
            ensure!(said.contains("has left r0"), "{delay_ms} ms: {said}");
        }
        wait_until("its end", Duration::from_secs(10), || {
            Ok(alice.is_well().is_err())
        })?;
        alice.start()?;
        if alice
            .try_adm(&["role", "r0"])?
            .stdout
            .contains("Unconfigured")
        {
            alice.adm(&["up", "r0"])?;
        }
        pair.settle(60)?;
    }
    ensure!(judged > 0, "none was killed in time");
    Ok(())
}
