//! The daemon is replaced where no device outlives it: what it refuses, and what it does. Devices that do are tested in a
//! virtual machine (`device_drivers.rs`).

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::programs::run_tool;
use rdb_tests::status::Volume;
use rdb_tests::{Node, Pair, wait_until};

fn instance(node: &Node) -> Result<u64> {
    let hello = node.control(&serde_json::json!({"op": "hello", "args": {"protocol": 1}}))?;
    Ok(hello["instance"].as_u64().unwrap_or_default())
}

#[test]
fn a_daemon_is_replaced_when_its_clients_may_be_cut_off() -> Result<()> {
    let pair = Pair::synced("restart", Plan::default())?;
    let (alice, bob) = (&pair.alice, &pair.bob);
    let mut client = alice.nbd(0)?;
    client.write(4096, &[0x5a; 8192])?;
    client.flush()?;
    let (pid, first) = (alice.pid(), instance(alice)?);

    let said = alice.try_adm(&["restart"])?.fails_with(11)?;
    ensure!(said.contains("Device is held open by someone"), "{said}");
    ensure!(
        said.contains("r0/0: 1 client(s) of the NBD socket"),
        "{said}"
    );
    let said = alice
        .try_adm(&["restart", "--force", "--program", "/bin/false"])?
        .fails_with(20)?;
    ensure!(said.contains("/bin/false can not take over"), "{said}");
    ensure!(instance(alice)? == first, "it was replaced all the same");
    ensure!(client.read(4096, 8192)? == [0x5a; 8192], "other data");

    let resynced = |node: &Node| node.resyncs_kib().iter().sum::<u64>();
    let (before, first_count) = (resynced(alice), alice.resyncs_kib().len());
    let said = alice.adm(&["restart", "--force"])?;
    ensure!(
        said.contains("r0/0: Primary again after a pause of "),
        "{said}"
    );
    ensure!(alice.pid() == pid, "another process");
    ensure!(instance(alice)? != first, "the same daemon");
    alice.await_volume("the peer", 30, Volume::is_settled)?;
    ensure!(
        alice.volume(0)?.ro == "Primary/Secondary",
        "{:?}",
        alice.volume(0)?
    );
    ensure!(
        alice.resyncs_kib().len() == first_count,
        "there was a resync"
    );
    let mut client = alice.nbd(0)?;
    ensure!(client.read(4096, 8192)? == [0x5a; 8192], "other data");
    client.write(4096, &[0x5b; 4096])?;
    drop(client);

    // Nobody uses it; and the peer's daemon, which serves nobody.
    alice.adm(&["restart"])?;
    bob.adm(&["restart"])?;
    for node in [alice, bob] {
        node.await_volume("the peer", 30, Volume::is_settled)?;
    }
    // A Primary that loses its peer begins a generation, but nothing was written in it.
    ensure!(resynced(alice) == before, "{:?} KiB", alice.resyncs_kib());
    pair.disks_equal()
}

/// The process that watches over a replacement takes what ends before it has seen it serve for a program that failed, and brings the
/// old one back: who has told the new daemon to end has meant it.
#[test]
fn a_daemon_that_has_just_replaced_another_can_be_ended() -> Result<()> {
    let mut pair = Pair::fresh("restart-end", Plan::default())?;
    let alice = &mut pair.alice;
    for _ in 0..3 {
        alice.adm(&["restart"])?;
        let status = alice.terminate()?;
        ensure!(status.success(), "{status}");
        wait_until("all to end", Duration::from_secs(20), || {
            Ok(alice.processes()?.is_empty())
        })?;
        ensure!(
            alice.logged("takes everything back") == 0,
            "{}",
            alice.log_tail(20)
        );
        alice.start()?;
    }
    alice.is_well()
}

#[test]
fn a_killed_daemon_without_a_device_that_waits_brings_nothing_up() -> Result<()> {
    let mut pair = Pair::synced("restart-killed", Plan::default())?;
    let alice = &mut pair.alice;
    alice.kill()?;
    alice.start()?;
    let role = alice.try_adm(&["role", "r0"])?.ok()?;
    ensure!(role.trim() == "Unconfigured", "{role}");
    alice.adm(&["up", "r0"])?;
    alice.await_volume("the peer", 30, Volume::is_settled)?;
    Ok(())
}

/// A program that does this before it becomes rdbd.
fn wrapper(pair: &Pair, name: &str, first: &str) -> Result<String> {
    let path = pair.scratch.join(name);
    let rdbd = rdb_tests::programs::directory()?.join("rdbd");
    let text = format!("#!/bin/sh\n{first}\nexec {} \"$@\"\n", rdbd.display());
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path.display().to_string())
}

#[test]
fn a_program_that_could_serve_no_resource_does_not_take_over() -> Result<()> {
    let pair = Pair::synced("restart-poor", Plan::default())?;
    let alice = &pair.alice;
    let first = instance(alice)?;
    // Less memory than the buffers of a single resource take.
    let poor = wrapper(&pair, "poor", "ulimit -v 24000")?;
    let said = alice
        .try_adm(&["restart", "--program", &poor])?
        .fails_with(20)?;
    ensure!(said.contains("poor can not take over"), "{said}");
    ensure!(said.contains("no resource could run"), "{said}");
    ensure!(instance(alice)? == first, "it was replaced all the same");
    ensure!(alice.volume(0)?.ro == "Primary/Secondary");
    Ok(())
}

#[test]
fn a_daemon_that_can_not_write_down_what_runs_is_not_replaced() -> Result<()> {
    let mut pair = Pair::prepare("restart-full", Plan::default())?;
    let run_dir = pair.alice.run_dir.clone();
    let place = run_dir.display().to_string();
    let options = "size=96k,mode=755";
    run_tool(
        10,
        "mount",
        &["-t", "tmpfs", "-o", options, "tmpfs", &place],
    )?;
    let alice = &mut pair.alice;
    alice.start()?;
    alice.adm(&["create-md", "--force", "r0"])?;
    alice.adm(&["up", "r0"])?;
    alice.adm(&["primary", "--force", "r0"])?;
    // Until nothing more goes in.
    let mut fill = std::fs::File::create(run_dir.join("fill"))?;
    while fill.write_all(&[0; 1024]).is_ok() {}
    drop(fill);
    let first = instance(alice)?;
    let said = alice.try_adm(&["restart"])?.fails_with(20)?;
    ensure!(said.contains("rdbd.state"), "{said}");
    ensure!(instance(alice)? == first, "it was replaced all the same");
    ensure!(alice.volume(0)?.ro == "Primary/Unknown");
    // And with room again it is.
    std::fs::remove_file(run_dir.join("fill"))?;
    alice.adm(&["restart"])?;
    ensure!(instance(alice)? != first, "it was not replaced");
    ensure!(alice.volume(0)?.ro == "Primary/Unknown");
    alice.adm(&["down", "r0"])?;
    Ok(())
}

/// Replaces alice's daemon by a program that passes the check and does something else then; the old one must be there again,
/// with everything, and say why.
fn comes_back(pair: &Pair, name: &str, then: &str, why: &str) -> Result<()> {
    let (alice, first) = (&pair.alice, instance(&pair.alice)?);
    let first_words = format!("case \"$*\" in *--check*) ;; *) {then} ;; esac");
    let program = wrapper(pair, name, &first_words)?;
    let said = alice
        .try_adm(&["restart", "--program", &program])?
        .fails_with(20)?;
    ensure!(said.contains("rdbd is not replaced: "), "{said}");
    ensure!(said.contains(why), "{why:?} is not said: {said}");
    ensure!(said.contains("r0/0: Primary again"), "{said}");
    ensure!(instance(alice)? != first, "nothing was tried");
    alice.await_volume("the peer", 30, Volume::is_settled)?;
    ensure!(alice.volume(0)?.ro == "Primary/Secondary");
    Ok(())
}

/// Ends, and has the process that goes on stand still for longer than a command takes to look: for so long no process is
/// there that the pid file names.
const FOLLOWED_LATE: &str = r#"for one in $(grep -lz '^RDB_WATCH=' /proc/[0-9]*/environ 2>/dev/null); do
    grep -qzxF "RDB_RUN_DIR=$RDB_RUN_DIR" "$one" || continue
    pid=${one#/proc/} pid=${pid%/environ}
    kill -STOP "$pid"
    (exec >/dev/null 2>&1
    for moment in 1 2 3 4 5 6 7 8 9; do [ -d /proc/$$ ] && sleep 1; done
    sleep 1
    kill -CONT "$pid") &
done
exit 3"#;

#[test]
fn what_a_new_program_fails_at_until_it_serves_leads_back_to_the_old_one() -> Result<()> {
    let pair = Pair::synced("restart-back", Plan::default())?;
    pair.alice.nbd(0)?.write(4096, &[0x5a; 8192])?;
    let pid = pair.alice.pid();
    // It finds out itself: the process stays.
    let bad = "set -- \"$@\" --config /nonexistent.toml";
    comes_back(&pair, "bad-settings", bad, "/nonexistent.toml")?;
    let held = std::fs::read_to_string(pair.alice.run_dir.join("rdbd.pid"))?;
    ensure!(held.trim().parse().ok() == pid, "{held} instead of {pid:?}");
    // And the ordinary way still is one.
    pair.alice.adm(&["restart"])?;
    // What the process may not do any more binds the old program, too: another process has to go on.
    comes_back(
        &pair,
        "no-memory",
        "ulimit -v 24000",
        "no-memory ended before it served",
    )?;
    comes_back(&pair, "ends", "exit 3", "ends ended before it served")?;
    comes_back(&pair, "late", FOLLOWED_LATE, "late ended before it served")?;
    let held = std::fs::read_to_string(pair.alice.run_dir.join("rdbd.pid"))?;
    ensure!(held.trim().parse().ok() != pid, "which process is it?");
    pair.alice.adm(&["restart"])?;
    let mut client = pair.alice.nbd(0)?;
    ensure!(client.read(4096, 8192)? == [0x5a; 8192], "other data");
    drop(client);
    pair.disks_equal()?;
    // Nobody ends it but this test.
    run_tool(10, "kill", &[held.trim()])?;
    wait_until("it to end", Duration::from_secs(20), || {
        Ok(!pair.alice.run_dir.join("control.sock").exists())
    })?;
    Ok(())
}

#[test]
fn a_daemon_whose_disk_is_the_last_one_for_the_peers_users_stays() -> Result<()> {
    let mut pair = Pair::synced("restart-last", Plan::default())?;
    let mut client = pair.alice.nbd(0)?;
    client.write(4096, &[0x5a; 8192])?;
    client.flush()?;
    pair.alice.adm(&["detach", "r0"])?;
    let needs = "r0/0 is used by the peer, which is Primary and whose own disk is Diskless";
    let first = instance(&pair.bob)?;
    let said = pair.bob.try_adm(&["restart"])?.fails_with(11)?;
    ensure!(said.contains("refused by peer node"), "{said}");
    ensure!(said.contains(needs), "{said}");
    ensure!(
        instance(&pair.bob)? == first,
        "it was replaced all the same"
    );
    for words in ["disconnect", "down"] {
        pair.bob.try_adm(&[words, "r0"])?.fails_with(11)?;
    }
    ensure!(client.read(4096, 8192)? == [0x5a; 8192], "other data");

    // It does not end by itself, either, before the peer can do without it.
    let pid = pair.bob.pid().unwrap_or_default().to_string();
    run_tool(10, "kill", &[&pid])?;
    wait_until("it to say why", Duration::from_secs(20), || {
        Ok(pair.bob.log().contains(needs))
    })?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(client.read(4096, 8192)? == [0x5a; 8192], "other data");
    pair.bob.is_well()?;
    pair.alice.adm(&["attach", "r0"])?;
    let status = pair.bob.terminate()?;
    ensure!(status.success(), "{status}");
    client.write(4096, &[0x5b; 8192])?;
    drop(client);
    pair.alice.is_well()
}

#[test]
fn users_may_be_cut_off_by_force() -> Result<()> {
    let pair = Pair::synced("restart-last-force", Plan::default())?;
    pair.alice.adm(&["detach", "r0"])?;
    let first = instance(&pair.bob)?;
    pair.bob.adm(&["restart", "--force"])?;
    ensure!(instance(&pair.bob)? != first, "it was not replaced");
    // By then it is known to serve, and nobody takes back what it has when it is killed.
    pair.bob
        .await_volume("the peer", 30, |v| v.ds == "UpToDate/Diskless")?;
    std::thread::sleep(Duration::from_secs(2));
    Ok(())
}

/// A process that stands still, until this is dropped.
struct Stopped(String);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = run_tool(10, "kill", &["-CONT", &self.0]);
    }
}

#[test]
fn a_peer_that_stands_still_holds_users_up_for_a_bounded_time() -> Result<()> {
    let mut pair = Pair::synced("restart-still", Plan::default())?;
    // Nothing else finds out in time that the peer does not answer.
    "timeout 300; ping-int 60; ping-timeout 300; connect-int 31;"
        .clone_into(&mut pair.plan.conf.intervals);
    pair.write_conf()?;
    pair.alice.adm(&["adjust", "r0"])?;
    let mut client = pair.alice.nbd(0)?;
    client.write(4096, &[0x5a; 8192])?;
    client.flush()?;
    let pid = pair.bob.pid().unwrap_or_default().to_string();
    let stopped = Stopped(pid.clone());
    run_tool(10, "kill", &["-STOP", &pid])?;
    let begun = Instant::now();
    let said = pair.alice.adm(&["restart", "--force"])?;
    ensure!(said.contains("r0/0: Primary again"), "{said}");
    ensure!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}: {said}",
        begun.elapsed()
    );
    let mut client = pair.alice.nbd(0)?;
    ensure!(client.read(4096, 8192)? == [0x5a; 8192], "other data");
    client.write(4096, &[0x5b; 8192])?;
    drop((client, stopped));
    // With those it would take as long until they meet again.
    pair.plan.conf = rdb_tests::Conf::default();
    pair.write_conf()?;
    pair.alice.adm(&["disconnect", "--force", "r0"])?;
    pair.alice.adm(&["adjust", "r0"])?;
    pair.settle(60)?;
    pair.alice.adm(&["secondary", "r0"])?;
    pair.disks_equal()
}
