//! The tutorials' sequence, typed as they type it, with the outputs that they show
//! (`docs/spec/admin.md`, section 10; the rows' names are in the comments).

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rdb_tests::conf::Conf;
use rdb_tests::pair::Plan;
use rdb_tests::scratch::Scratch;
use rdb_tests::{Node, Pair, wait_until};

/// Ends daemons that a command started, whatever becomes of the test.
struct Adopted(Vec<u64>);

impl Drop for Adopted {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }
}

fn pid_of_daemon(node: &Node) -> Result<u64> {
    let hello = node.control(&serde_json::json!({"op": "hello", "args": {"protocol": 1}}))?;
    hello["pid"]
        .as_u64()
        .with_context(|| format!("no pid in {hello}"))
}

/// `drbdadm` is what the tutorials type; our binary answers to that name (A1).
fn drbdadm(node: &Node, words: &[&str]) -> Result<rdb_tests::Out> {
    node.run("drbdadm", words, None)
}

/// A5, B5, A6: both nodes have metadata and are up, each with the daemon that the command has started.
fn set_up(pair: &Pair) -> Result<Adopted> {
    let (alice, bob) = (&pair.alice, &pair.bob);

    // A5, B5: create-md. There is nothing on the disks, so nothing is asked.
    for node in [alice, bob] {
        let said = drbdadm(node, &["create-md", "r0"])?;
        ensure!(said.code == 0, "{said:?}");
        let text = format!("{}{}", said.stdout, said.stderr);
        ensure!(
            text.contains("New drbd meta data block successfully created."),
            "{text}"
        );
    }

    // A6: up; the command starts the daemon, as there is none.
    let mut adopted = Adopted(Vec::new());
    for node in [alice, bob] {
        drbdadm(node, &["up", "r0"])?.ok()?;
        adopted.0.push(pid_of_daemon(node)?);
    }
    for node in [alice, bob] {
        node.await_volume("a connection", 30, |volume| volume.cs == "Connected")?;
    }
    ensure!(
        adopted.0[0] != adopted.0[1],
        "each node has a daemon of its own"
    );
    ensure!(drbdadm(alice, &["cstate", "r0"])?.ok()? == "Connected\n");
    ensure!(drbdadm(alice, &["role", "r0"])?.ok()? == "Secondary/Secondary\n");
    ensure!(drbdadm(bob, &["dstate", "r0"])?.ok()? == "Inconsistent/Inconsistent\n");
    let status = alice.status_text()?;
    ensure!(
        status.contains(
            " 0: cs:Connected ro:Secondary/Secondary ds:Inconsistent/Inconsistent C r-----\n"
        ),
        "{status}"
    );
    Ok(adopted)
}

#[test]
fn the_whole_sequence_with_both_directions_of_the_switch_over() -> Result<()> {
    let pair = Pair::prepare("tutorial", Plan::default())?;
    let (alice, bob) = (&pair.alice, &pair.bob);

    let _adopted = set_up(&pair)?;

    // A6: primary without force is refused: no UpToDate data, and advice.
    let refusal = drbdadm(alice, &["primary", "r0"])?.fails_with(17)?;
    ensure!(
        refusal.contains("(-2) Need access to UpToDate data"),
        "{refusal}"
    );
    ensure!(refusal.contains("--force"), "no advice: {refusal}");

    // B6: the old spelling of the first sync.
    drbdadm(alice, &["--", "--overwrite-data-of-peer", "primary", "r0"])?.ok()?;
    pair.settle(60)?;
    ensure!(drbdadm(alice, &["role", "r0"])?.ok()? == "Primary/Secondary\n");
    ensure!(drbdadm(bob, &["role", "r0"])?.ok()? == "Secondary/Primary\n");
    let status = drbdadm(alice, &["status", "r0"])?.ok()?;
    ensure!(
        status
            == "r0 role:Primary\n  disk:UpToDate\n  peer role:Secondary\n    \
                replication:Established peer-disk:UpToDate\n\n",
        "{status}"
    );
    pair.disks_equal()?;

    // While alice is primary, bob may not be.
    let refusal = drbdadm(bob, &["primary", "r0"])?.fails_with(11)?;
    ensure!(
        refusal.contains("(-1) Multiple primaries not allowed by config"),
        "{refusal}"
    );

    // A9: the switch-over, and back.
    alice.nbd(0)?.write(4096 * 7, &[7; 4096])?;
    drbdadm(alice, &["secondary", "r0"])?.ok()?;
    drbdadm(bob, &["primary", "r0"])?.ok()?;
    let mut client = bob.nbd(0)?;
    ensure!(
        client.read(4096 * 7, 4096)? == [7; 4096],
        "bob lacks what alice wrote"
    );
    client.write(4096 * 8, &[8; 8192])?;
    drop(client);
    drbdadm(bob, &["secondary", "r0"])?.ok()?;
    drbdadm(alice, &["primary", "r0"])?.ok()?;
    ensure!(
        alice.nbd(0)?.read(4096 * 8, 8192)? == [8; 8192],
        "alice lacks what bob wrote"
    );

    // C5: the counters are those of what was done: 4 KiB sent, 8 KiB received since the sync.
    let volume = alice.volume(0)?;
    ensure!(volume.nr == 8, "{volume:?}");

    // A disconnect and connect.
    drbdadm(bob, &["disconnect", "r0"])?.ok()?;
    ensure!(drbdadm(bob, &["cstate", "r0"])?.ok()? == "StandAlone\n");
    alice.await_volume("the loss", 30, |volume| volume.cs == "WFConnection")?;
    let status = drbdadm(alice, &["status", "r0"])?.ok()?;
    ensure!(
        status.starts_with("r0 role:Primary\n  disk:UpToDate\n  peer connection:Connecting\n")
            && status.contains("  connection-reason: WFConnection since "),
        "{status}"
    );
    drbdadm(bob, &["connect", "r0"])?.ok()?;
    pair.settle(30)?;

    // Down. Nothing is left, and a second down is no error.
    for node in [alice, bob] {
        drbdadm(node, &["down", "r0"])?.ok()?;
        ensure!(node.volumes()?.is_empty(), "{}", node.status_text()?);
        drbdadm(node, &["down", "r0"])?.ok()?;
    }
    pair.disks_equal()?;
    let generations = drbdadm(alice, &["get-gi", "r0"])?.ok()?;
    ensure!(
        generations.trim_end().split(':').count() == 11,
        "{generations}"
    );
    Ok(())
}

#[test]
fn mounted_or_opened_devices_are_not_demoted() -> Result<()> {
    let pair = Pair::synced("busy", Plan::default())?;
    let client = pair.alice.nbd(0)?;
    let refusal = pair.alice.try_adm(&["secondary", "r0"])?.fails_with(11)?;
    ensure!(
        refusal.contains("State change failed: (-12) Device is held open by someone"),
        "{refusal}"
    );
    drop(client);
    wait_until("the client to be gone", Duration::from_secs(10), || {
        Ok(pair.alice.try_adm(&["secondary", "r0"])?.code == 0)
    })
}

#[test]
fn the_status_file_fails_when_the_daemon_is_dead() -> Result<()> {
    let mut pair = Pair::synced("dead-status", Plan::default())?;
    let text = pair.alice.status_text()?;
    ensure!(text.starts_with("version: 8.4."), "{text}");
    pair.alice.kill()?;
    wait_until("the status file to be gone", Duration::from_secs(5), || {
        Ok(pair.alice.status_text().is_err())
    })?;
    // And it is back with the daemon, whatever the dead one left behind.
    pair.alice.start()?;
    ensure!(pair.alice.volumes()?.is_empty());
    let out = pair.alice.try_adm(&["role", "r0"])?;
    ensure!(out.code != 0 || out.stdout == "Unconfigured\n", "{out:?}");
    Ok(())
}

#[test]
fn progress_is_shown_while_a_sync_runs() -> Result<()> {
    let conf = Conf {
        rate: "resync-rate 16M; c-plan-ahead 0;".into(),
        ..Conf::default()
    };
    let pair = Pair::fresh(
        "progress",
        Plan {
            conf,
            ..Plan::default()
        },
    )?;
    pair.up()?;
    pair.alice.adm(&["primary", "--force", "r0"])?;
    let volume = pair.alice.await_volume("progress", 20, |volume| {
        volume
            .synced_permille
            .is_some_and(|permille| permille > 300)
    })?;
    ensure!(
        volume.cs == "SyncSource" && volume.ds == "UpToDate/Inconsistent",
        "{volume:?}"
    );
    let bar = volume.bar.context("a progress bar")?;
    ensure!(
        bar.starts_with('[') && bar.contains("] sync'ed:") && bar.ends_with(")K"),
        "{bar}"
    );
    let finish = volume.finish.context("a line with the time left")?;
    ensure!(
        finish.starts_with("finish: 0:00:") && finish.contains(" K/sec"),
        "{finish}"
    );
    let target = pair.bob.volume(0)?;
    ensure!(
        target.cs == "SyncTarget" && target.ds == "Inconsistent/UpToDate",
        "{target:?}"
    );
    ensure!(
        target.finish.is_some_and(|line| line.contains(" want: ")),
        "no want: on the target"
    );
    let status = pair.alice.adm(&["status", "r0"])?;
    ensure!(
        status.contains("    replication:SyncSource peer-disk:Inconsistent done:"),
        "{status}"
    );
    pair.settle(60)?;
    pair.disks_equal()
}

#[test]
fn configurations_of_the_tutorials_are_read() -> Result<()> {
    let scratch = Scratch::new("configs")?;
    let node = |text: &str, name: &str| -> Result<Node> {
        let file = scratch.join("drbd.conf");
        std::fs::write(&file, text)?;
        Node::new(scratch.path(), name, &file)
    };
    // A2
    let finch = "resource drbd1 { protocol C; syncer { rate 75K; al-extents 257; }
on hostA.fqdn.dom { device /dev/drbd1; disk /dev/sda1; address 192.168.1.2:7789; meta-disk internal; }
on hostB.fqdn.dom { device /dev/drbd1; disk /dev/sda1; address 192.168.2.2:7789; meta-disk internal; } }";
    let dump = node(finch, "hostA.fqdn.dom")?.adm(&["dump", "drbd1"])?;
    for words in [
        "resync-rate",
        "75K;",
        "al-extents",
        "257;",
        "/dev/drbd1 minor 1;",
    ] {
        ensure!(dump.contains(words), "{words} is missing: {dump}");
    }
    // A3: both sections named alike, a misprint.
    let misprint = finch.replace("hostB", "hostA");
    let error = node(&misprint, "hostA.fqdn.dom")?
        .try_adm(&["dump", "all"])?
        .fails_with(10)?;
    ensure!(
        error.contains("conflicting use of host section 'drbd1: on hostA.fqdn.dom'"),
        "{error}"
    );
    ensure!(
        error.contains(":3:") && error.contains(":2:"),
        "both lines are named: {error}"
    );
    // B1, B4
    let journal = "resource drbd0 { protocol C;
handlers { pri-on-incon-degr \"echo ! | wall\"; #\"halt -f\";
 pri-lost-after-sb \"true\"; }
startup { degr-wfc-timeout 120; } # seconds
disk { on-io-error detach; }
net { timeout 120; connect-int 20; ping-int 20; max-buffers 2048; max-epoch-size 2048; ko-count 30;
 cram-hmac-alg \"sha1\"; shared-secret \"FooFunFactory\"; }
syncer { rate 10M; al-extents 257; }
on server1 { device /dev/drbd0; disk /dev/sda3; address 192.168.1.3:7788; meta-disk internal; }
on server2 { device /dev/drbd0; disk /dev/sda3; address 192.168.1.4:7788; meta-disk internal; } }";
    node(journal, "server1")?.adm(&["dump", "drbd0"])?;
    // B2: a string broken over two lines.
    let broken = journal.replace("echo ! | wall", "echo ! |\n wall");
    let error = node(&broken, "server1")?
        .try_adm(&["dump", "all"])?
        .fails_with(10)?;
    ensure!(
        error.contains("drbd.conf:2:") && error.contains("Unterminated double quoted string"),
        "{error}"
    );
    // B3: a semicolon is missing.
    let missing = journal.replacen("/dev/drbd0; disk", "/dev/drbd0 disk", 1);
    let error = node(&missing, "server1")?
        .try_adm(&["dump", "all"])?
        .fails_with(10)?;
    ensure!(
        error.contains("drbd.conf:9:") && error.contains("minor | ;") && error.contains("disk"),
        "{error}"
    );
    // C1, C2, C3
    std::fs::create_dir(scratch.join("drbd.d"))?;
    std::fs::write(
        scratch.join("drbd.d/global_common.conf"),
        "global { usage-count no; } common { net { protocol C; after-sb-0pri discard-zero-changes; \
         after-sb-1pri discard-secondary; after-sb-2pri disconnect; } }",
    )?;
    std::fs::write(
        scratch.join("drbd.d/r0.res"),
        "resource r0 { on drbd1 { device /dev/drbd1; disk /dev/vg_drbd/lv_drbd; \
         address 192.168.29.135:7789; meta-disk /dev/vg_drbd/lv_drbdmeta; } on drbd2 { \
         device /dev/drbd1; disk /dev/vg_drbd/lv_drbd; address 192.168.29.136:7789; \
         meta-disk /dev/vg_drbd/lv_drbdmeta; } }",
    )?;
    let includes = format!(
        "include \"{}\"; include \"drbd.d/*.res\";",
        scratch.join("drbd.d/global_common.conf").display()
    );
    let dump = node(&includes, "drbd1")?.adm(&["dump"])?;
    ensure!(
        dump.contains("discard-zero-changes;") && dump.contains("lv_drbdmeta;"),
        "{dump}"
    );
    // D1: the language of 0.6.
    let old = "resource drbd0 {\n  protocol = C\n  fsckcmd = /bin/true\n  disk {\n    do-panic\n\
    disk-size = 10317828k\n  }\n  net {\n    sync-nice = -18\n    sync-min = 500k\n    sync-max = 100M\n\
    tl-size = 5000\n    timeout = 60\n    connect-int = 10\n    ping-int = 10\n    ko-count = 4\n  }\n\
    on node1 {\n    device = /dev/nb0\n    disk = /dev/sda2\n    address = 10.0.0.1\n    port = 7788\n  }\n\
    on node2 {\n    device = /dev/nb0\n    disk = /dev/sda2\n    address = 10.0.0.2\n    port = 7788\n  }\n}\n";
    let dump = node(old, "node1")?.try_adm(&["dump", "drbd0"])?;
    ensure!(dump.code == 0, "{dump:?}");
    ensure!(dump.stdout.contains("10.0.0.1:7788;"), "{}", dump.stdout);
    ensure!(
        dump.stderr.contains("sync-nice"),
        "an ignored word is named: {}",
        dump.stderr
    );
    // E1: sections outside the resource, and a placeholder.
    let slides = "resource drbd1 { ... }\non node1 { device = /dev/nb0\n }\n";
    let error = node(slides, "node1")?
        .try_adm(&["dump", "all"])?
        .fails_with(10)?;
    ensure!(
        error.contains("drbd.conf:1:") && error.contains("..."),
        "{error}"
    );
    Ok(())
}

#[test]
fn create_md_asks_before_it_overwrites() -> Result<()> {
    let pair = Pair::prepare("ask", Plan::default())?;
    pair.alice.adm(&["create-md", "r0"])?;
    let disk = pair.disk(0, 0);
    let before = std::fs::read(disk)?;
    // There is metadata now. Not a terminal, no answer: refused, nothing changed.
    let out = pair.alice.run("rdbadm", &["create-md", "r0"], None)?;
    ensure!(out.code != 0, "overwritten without a question: {out:?}");
    ensure!(std::fs::read(disk)? == before, "the refused command wrote");
    let out = pair
        .alice
        .run("rdbadm", &["create-md", "--force", "r0"], None)?;
    ensure!(out.code == 0, "{out:?}");
    if std::fs::read(disk)? == before {
        bail!("--force wrote nothing: the device-uuid of fresh metadata is random");
    }
    Ok(())
}
