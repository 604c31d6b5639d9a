//! rdb under heartbeat: its resource scripts `drbddisk` and `datadisk` alone, and a two-node cluster of a tutorial's in namespaces of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use rdb_tests::cluster::cluster;
use rdb_tests::pair::Plan;
use rdb_tests::programs::{shellcheck, tool};
use rdb_tests::scratch::Scratch;
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
        .env("FSTAB", node.conf.with_file_name("fstab"))
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
    // What is not configured is not tried again and again.
    for action in ["start", "stop"] {
        let begun = std::time::Instant::now();
        let (code, _, said) = call(&pair.alice, "drbddisk", &["nix", action])?;
        ensure!(
            code == 1 && said.matches("'nix' not defined").count() == 1,
            "{code}: {said}"
        );
        ensure!(
            begun.elapsed() < std::time::Duration::from_secs(5),
            "{action} took long"
        );
    }
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

/// A node whose device has its names in this machine's `/dev`, by a minor that no other test has.
fn node_with_a_file_system(scratch: &Scratch, minor: u32) -> Result<Node> {
    let conf = scratch.join("drbd.conf");
    fs::write(
        &conf,
        format!(
            "resource datadisk {{\n device /dev/drbd{minor};\n disk {disk};\n meta-disk internal;\n \
             on alice {{ address 127.0.0.1:{port}; }}\n on bob {{ address 127.0.0.2:{port}; }}\n}}\n",
            disk = scratch.join("disk").display(),
            port = 20_000 + minor,
        ),
    )?;
    fs::File::create(scratch.join("disk"))?.set_len(32 << 20)?;
    let mut node = Node::new(scratch.path(), "alice", &conf)?;
    let settings = scratch.join("rdbd.toml");
    fs::write(&settings, "device-links = true\n")?;
    node.settings = Some(settings);
    node.frontend = "fuse".to_owned();
    node.start()?;
    node.adm(&["create-md", "--force", "datadisk"])?;
    node.adm(&["up", "datadisk"])?;
    node.adm(&["primary", "--force", "datadisk"])?;
    let made = Command::new(tool("mkfs.ext4")?)
        .args(["-q", &format!("/dev/drbd{minor}")])
        .status()?;
    ensure!(made.success(), "mkfs.ext4: {made}");
    node.adm(&["secondary", "datadisk"])?;
    Ok(node)
}

#[test]
fn datadisk_mounts_by_fstab_and_frees_what_is_to_be_unmounted() -> Result<()> {
    tool("fuser")?;
    let minor = 4711;
    let scratch = Scratch::new("datadisk")?;
    let mut node = node_with_a_file_system(&scratch, minor)?;
    let (mountpoint, other) = (scratch.join("a mountpoint"), scratch.join("other"));
    let written = mountpoint.display().to_string().replace(' ', "\\040");
    fs::create_dir(&mountpoint)?;
    fs::create_dir(&other)?;
    // What is not the resource's is left alone, and so is what is no line.
    let fstab = format!(
        "# /dev/drbd{minor} {other} ext4 noauto 0 0\n/dev/drbd{} {other} ext4 noauto 0 0\n\
         /dev/drbd/by-res/datadisk {} ext4 noauto 0 0\n",
        minor + 1,
        written,
        other = other.display(),
    );
    fs::write(scratch.join("fstab"), fstab)?;
    let is_mounted = || -> Result<bool> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        Ok(mounts.contains(&format!(" {written} ext4 ")))
    };
    let answers = |node: &Node, action: &str, code: i32, said: &str| -> Result<()> {
        let found = call(node, "datadisk", &["datadisk", action])?;
        ensure!(found.0 == code && found.1 == said, "{action}: {found:?}");
        Ok(())
    };
    answers(&node, "status", 3, "stopped (Secondary)")?;
    answers(&node, "start", 0, "")?;
    ensure!(is_mounted()?);
    answers(&node, "start", 0, "")?;
    answers(&node, "status", 0, "running (Primary)")?;

    let user = Command::new("sleep")
        .arg("600")
        .current_dir(&mountpoint)
        .spawn()?;
    let (code, _, said) = call(&node, "datadisk", &["datadisk", "stop"])?;
    ensure!(code == 0 && said.contains("is in use"), "{code}: {said}");
    ensure!(!is_mounted()? && user.wait_with_output()?.status.code().is_none());
    answers(&node, "status", 3, "stopped (Secondary)")?;
    node.adm(&["primary", "datadisk"])?;
    answers(&node, "status", 3, "stopped (Primary, not mounted)")?;
    answers(&node, "start", 0, "")?;

    // A dead daemon's device is unmounted all the same, and its resource is there again.
    node.kill()?;
    let (code, _, said) = call(&node, "datadisk", &["datadisk", "stop"])?;
    ensure!(code == 0 && !is_mounted()?, "{code}: {said}");
    answers(&node, "status", 3, "stopped (Secondary)")?;
    // (The successor was started without this node's settings: it has no names. The next one takes away what the dead one had.)
    let pid = fs::read_to_string(node.run_dir.join("rdbd.pid"))?;
    Command::new("kill").arg(pid.trim()).status()?;
    wait_until("the daemon to end", Duration::from_secs(20), || {
        Ok(!Path::new(&format!("/proc/{}", pid.trim())).exists())
    })?;
    node.start()?;
    node.adm(&["up", "datadisk"])?;
    answers(&node, "start", 0, "")?;
    ensure!(is_mounted()?);
    answers(&node, "stop", 0, "")?;
    node.adm(&["down", "datadisk"])?;
    ensure!(!Path::new(&format!("/dev/drbd{minor}")).exists());
    Ok(())
}

#[test]
fn the_scripts_for_heartbeat_are_plain_shell_without_a_complaint_of_shellcheck() -> Result<()> {
    shellcheck(&[script("drbddisk"), script("datadisk")])
}

#[test]
fn a_tutorials_mail_server_under_heartbeat_fails_over_and_never_comes_near_a_reboot() -> Result<()>
{
    let programs = ["cl_status", "ifconfig", "python3", "fuser", "setpriv"];
    cluster("heartbeat/tutorial.sh", &["journal"], &programs, 5)
}
