//! `rdbadm doctor` on this machine: a pair that is well, and one with everything wrong that can be made wrong here.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::programs::{run_tool, tool};
use rdb_tests::{Node, Pair};
use serde_json::Value;

/// The findings, and the exit status.
fn doctor(node: &Node, more: &[&str]) -> Result<(Vec<Value>, i32)> {
    let words = [&["doctor", "--json"], more].concat();
    let out = node.try_adm(&words)?;
    let findings = serde_json::from_str(&out.stdout)
        .with_context(|| format!("{}\n{}", out.stdout, out.stderr))?;
    Ok((findings, out.code))
}

/// The one finding of a check.
fn finding<'a>(findings: &'a [Value], check: &str) -> Result<&'a Value> {
    let mut of = findings.iter().filter(|found| found["check"] == check);
    of.next()
        .with_context(|| format!("no {check} in {findings:#?}"))
}

fn is(findings: &[Value], check: &str, severity: &str, words: &str) -> Result<()> {
    let found = finding(findings, check)?;
    let seen = found["seen"].as_str().unwrap_or_default();
    ensure!(
        found["severity"] == severity && seen.contains(words),
        "{check}: wanted {severity}, {words:?}: {found:#}"
    );
    Ok(())
}

/// Two nodes in namespaces of their own, connected: what is looked at of the resource is well.
#[test]
fn a_pair_that_is_well_has_nothing_to_be_said_against_it() -> Result<()> {
    let plan = Plan {
        cable: true,
        ..Plan::default()
    };
    let mut pair = Pair::synced("doctor-well", plan)?;
    let cable = pair.cable.as_ref().context("it has one")?;
    let [near, far] = [0, 1].map(|node| cable.namespace(node).to_owned());
    let set_mtu =
        |end: &str, mtu: &str| run_tool(30, "ip", &["-n", end, "link", "set", "eth0", "mtu", mtu]);
    // What they begin with is the kernel's to say.
    set_mtu(&near, "1500")?;
    set_mtu(&far, "1500")?;
    let (findings, code) = doctor(&pair.alice, &["r0"])?;
    // The disks are files: what is below them nobody knows.
    for (check, words) in [
        ("configuration", "can be read"),
        ("daemon", "it answers (pid "),
        ("frontend", "socket"),
        ("run-directory", "the daemon's alone"),
        ("shared-port", "of its own"),
        ("address", "10.77.0.1 is on eth0"),
        ("port", "10.77.0.1:7789"),
        ("mtu", "eth0 carries 1500"),
        ("peer", "10.77.0.2 is connected"),
        (
            "path-mtu",
            "packets of 1500 bytes come to 10.77.0.2 and back",
        ),
        ("peer-clock", "that of bob is within"),
        ("handlers", "none is configured"),
        ("disk", "is there"),
        ("disk-in-use", "is the volume's"),
        ("disk-cache", "flushes are on"),
        ("metadata", "attached"),
        ("lvm-filter", ""),
        ("multipath", ""),
        ("swap", "nothing swaps"),
    ] {
        is(&findings, check, "ok", words)?;
    }
    // What the machine is like is not for this test to say; but no problem is found that is not there.
    let worst = findings.iter().map(|found| found["severity"].as_str());
    let code_of = |word| match word {
        Some("problem") => 2,
        Some("warning") => 1,
        _ => 0,
    };
    ensure!(
        worst.map(code_of).max() == Some(code),
        "{code}: {findings:#?}"
    );
    // To be looked at has disturbed nobody.
    pair.are_well()?;
    ensure!(pair.alice.adm(&["cstate", "r0/0"])?.trim() == "Connected");

    // A line that carries less than its ends believe: small packets come through, large ones vanish.
    set_mtu(&far, "1400")?;
    let (findings, code) = doctor(&pair.alice, &["r0"])?;
    is(&findings, "path-mtu", "problem", "and not to those of 1500")?;
    ensure!(code == 2, "{code}");
    Ok(())
}

/// A port that somebody has, an address that is not here, a handler that is missing, a disk without metadata that is in use.
#[test]
fn what_is_wrong_is_found_and_told_with_what_to_do() -> Result<()> {
    let mut plan = Plan::default();
    plan.conf.resource =
        "handlers { split-brain \"/usr/lib/none/notify.sh root\"; fence-peer \"/bin/true\"; }"
            .into();
    let mut pair = Pair::prepare("doctor-ill", plan)?;
    // No daemon: nothing is started by being looked at.
    let taken = TcpListener::bind(&pair.hosts[0].address)?;
    let (findings, code) = doctor(&pair.alice, &[])?;
    ensure!(code == 2, "{code}");
    is(&findings, "daemon", "note", "no rdbd runs")?;
    let own = format!("process {} (", std::process::id());
    is(&findings, "port", "problem", &own)?;
    is(
        &findings,
        "handlers",
        "problem",
        "split-brain: /usr/lib/none/notify.sh is not there",
    )?;
    is(
        &findings,
        "fencing-handlers",
        "warning",
        "fence-peer is configured",
    )?;
    is(&findings, "metadata", "problem", "there is none on")?;
    ensure!(finding(&findings, "metadata")?["command"] == "rdbadm create-md r0/0");
    ensure!(!pair.alice.run_dir.join("control.sock").exists());

    // In words the worst comes first, and each says what to do; what is well, when it is asked for.
    let out = pair.alice.try_adm(&["doctor", "r0"])?.fails_with(2)?;
    ensure!(
        out.starts_with("problem  ") && out.contains("         do:  "),
        "{out}"
    );
    ensure!(!out.contains("\nok  "), "{out}");
    let all = pair.alice.try_adm(&["doctor", "-v", "r0"])?.fails_with(2)?;
    ensure!(all.contains("\nok  "), "{all}");

    drop(taken);
    let conf = fs::read_to_string(&pair.alice.conf)?;
    let conf = conf
        .replace("disable-ip-verification;", "")
        .replace(&pair.hosts[0].address, "192.0.2.1:7789");
    fs::write(&pair.alice.conf, &conf)?;
    let (findings, _) = doctor(&pair.alice, &[])?;
    is(
        &findings,
        "address",
        "problem",
        "192.0.2.1 is no address of this machine",
    )?;
    is(&findings, "port", "ok", "is free")?;

    // Another name than the configuration has; a resource that there is not; a file that cannot be read.
    pair.alice.name = "alice.example.org".to_owned();
    let (findings, code) = doctor(&pair.alice, &[])?;
    ensure!(code == 2, "{code}");
    is(
        &findings,
        "node-name",
        "problem",
        "there are sections for alice, bob",
    )?;
    pair.alice.name = "alice".to_owned();
    pair.alice.try_adm(&["doctor", "r9"])?.fails_with(3)?;
    fs::write(&pair.alice.conf, "resource r0 { colour blue; }")?;
    let (findings, code) = doctor(&pair.alice, &[])?;
    ensure!(code == 2, "{code}");
    is(&findings, "configuration", "problem", "drbd.conf:1")?;
    Ok(())
}

/// A disk that is in use, and a filter of LVM's that lets it open the disk: on a loop device of this test's own.
#[test]
fn a_disk_that_others_have_or_may_take_is_told() -> Result<()> {
    let plan = Plan::default();
    let pair = Pair::prepare("doctor-disk", plan)?;
    let file = &pair.hosts[0].data[0];
    // LVM's label, in its second sector: without the checksum that LVM wants, so that it takes nothing.
    let disk = fs::OpenOptions::new().write(true).open(file)?;
    disk.write_all_at(b"LABELONE", 512)?;
    tool("lvm")?;
    let out = Command::new(tool("losetup")?)
        .args(["--find", "--show"])
        .arg(file)
        .output()?;
    let device = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    ensure!(
        out.status.success() && device.starts_with("/dev/loop"),
        "{out:?}"
    );
    let looked = look_at_disk(&pair, &device);
    let detached = run_tool(30, "losetup", &["--detach", &device]);
    looked.and(detached.map(drop))
}

fn look_at_disk(pair: &Pair, device: &str) -> Result<()> {
    let (findings, _) = doctor(&pair.alice, &[])?;
    let words = format!("it is the file of {device}");
    is(&findings, "disk-in-use", "problem", &words)?;
    let conf = fs::read_to_string(&pair.alice.conf)?;
    let file = pair.hosts[0].data[0].display().to_string();
    fs::write(&pair.alice.conf, conf.replace(&file, device))?;
    let (findings, _) = doctor(&pair.alice, &[])?;
    is(&findings, "disk-in-use", "ok", "is free")?;
    is(&findings, "disk-cache", "ok", "")?;
    is(&findings, "lvm-filter", "warning", "LVM may open it there")?;
    let advice = finding(&findings, "lvm-filter")?["advice"].to_string();
    ensure!(
        advice.contains("global_filter") && advice.contains(device),
        "{advice}"
    );
    let held = fs::OpenOptions::new()
        .read(true)
        .custom_flags(O_EXCL)
        .open(device)?;
    let (findings, _) = doctor(&pair.alice, &[])?;
    is(
        &findings,
        "disk-in-use",
        "problem",
        "somebody who cannot be seen",
    )?;
    drop(held);
    Ok(())
}

/// `O_EXCL` of Linux: of a block device, alone.
const O_EXCL: i32 = 0o200;
