//! Handlers of a pair of daemons: when they are called, what they find, and what follows from how they end
//! (`docs/spec/behaviour.md`, section 10; `docs/spec/admin.md`, section 7).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::{Conf, Node, Pair, disk, wait_until};

/// Says which handler was called for what, keeps its environment, takes its time, and ends as it is told.
const SCRIPT: &str = "here=$1; name=$2; own=$here/$RDB_NODE.$name
pause=$(cat $own.sleep 2>/dev/null); exit=$(cat $own.exit 2>/dev/null)
env > $own.env
echo $name $DRBD_MINOR >> $here/$RDB_NODE.calls
echo $name was called
sleep ${pause:-0}
exit ${exit:-0}
";

const NAMES: [&str; 7] = [
    "fence-peer",
    "unfence-peer",
    "before-resync-target",
    "after-resync-target",
    "before-resync-source",
    "out-of-sync",
    "initial-split-brain",
];

/// A pair whose handlers do as they are told; both daemons run.
fn pair(name: &str, conf: Conf) -> Result<Pair> {
    let mut pair = Pair::prepare(
        name,
        Plan {
            conf,
            ..Plan::default()
        },
    )?;
    let here = pair.scratch.path().to_owned();
    std::fs::write(here.join("handler.sh"), SCRIPT)?;
    let handlers = NAMES.map(|name| {
        let here = here.display();
        format!("{name} \"/bin/sh {here}/handler.sh {here} {name}\";")
    });
    let settings = here.join("rdbd.toml");
    std::fs::write(&settings, "handler-timeout = 3\n")?;
    for node in [&mut pair.alice, &mut pair.bob] {
        node.settings = Some(settings.clone());
    }
    pair.plan.conf.resource = format!("handlers {{ {} }}", handlers.join(" "));
    pair.write_conf()?;
    pair.begin()?;
    Ok(pair)
}

fn file(pair: &Pair, node: &Node, name: &str) -> PathBuf {
    pair.scratch.join(format!("{}.{name}", node.name))
}

fn tell(pair: &Pair, node: &Node, name: &str, what: &str) -> Result<()> {
    Ok(std::fs::write(file(pair, node, name), what)?)
}

/// The handlers that were called, with their minors.
fn calls(pair: &Pair, node: &Node) -> Vec<String> {
    let text = std::fs::read_to_string(file(pair, node, "calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn await_call(pair: &Pair, node: &Node, call: &str) -> Result<()> {
    wait_until(
        &format!("{call} on {}", node.name),
        Duration::from_secs(20),
        || Ok(calls(pair, node).iter().any(|found| found == call)),
    )
    .with_context(|| format!("{:?}\n{}", calls(pair, node), node.log_tail(30)))
}

fn await_log(node: &Node, words: &str) -> Result<()> {
    wait_until(
        words,
        Duration::from_secs(20),
        || Ok(node.logged(words) > 0),
    )
    .with_context(|| node.log_tail(30))
}

/// Replaces the daemon, and waits until nobody watches any more whether the new one serves: he would go on in its place.
fn restart(node: &Node) -> Result<()> {
    node.adm(&["restart", "--force"])?;
    wait_until("the watcher's end", Duration::from_secs(10), || {
        Ok(node.processes()?.len() == 1)
    })
}

fn fencing(policy: &str) -> Conf {
    Conf {
        disk: format!("fencing {policy};"),
        ..Conf::default()
    }
}

#[test]
fn a_resync_and_a_verify_call_handlers_which_know_what_they_are_called_for() -> Result<()> {
    let conf = Conf {
        net: "verify-alg crc32c;".into(),
        ..Conf::default()
    };
    let mut pair = pair("handlers-sync", conf)?;
    pair.sync_from(&pair.alice)?;
    await_call(&pair, &pair.alice, "before-resync-source 0")?;
    await_call(&pair, &pair.bob, "after-resync-target 0")?;
    ensure!(calls(&pair, &pair.bob) == ["before-resync-target 0", "after-resync-target 0"]);

    disk::write(pair.disk(1, 0), 1 << 20, &[0xee; 512])?;
    pair.alice.adm(&["verify", "r0"])?;
    for (node, other) in [(&pair.alice, "bob"), (&pair.bob, "alice")] {
        await_call(&pair, node, "out-of-sync 0")?;
        let text = std::fs::read_to_string(file(&pair, node, "out-of-sync.env"))?;
        let index = usize::from(node.name == "bob");
        let address = &pair.hosts[1 - index].address;
        let (address, _) = address.rsplit_once(':').context("a port")?;
        for line in [
            "DRBD_RESOURCE=r0".to_owned(),
            "DRBD_VOLUME=0".to_owned(),
            format!("DRBD_LL_DISK={}", pair.disk(index, 0).display()),
            format!("DRBD_CONF={}", node.conf.display()),
            format!("DRBD_PEER={other}"),
            format!("DRBD_PEERS={other}"),
            "DRBD_PEER_AF=ipv4".to_owned(),
            format!("DRBD_PEER_ADDRESS={address}"),
            "HOME=/".to_owned(),
            format!("RDB_RUN_DIR={}", node.run_dir.display()),
        ] {
            ensure!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        await_log(
            node,
            "helper command: /sbin/drbdadm out-of-sync minor-0 exit code 0 (0x0)",
        )?;
        ensure!(node.logged("out-of-sync: out-of-sync was called") == 1);
    }
    let json: serde_json::Value = serde_json::from_str(&pair.bob.adm(&["status", "--json"])?)?;
    let runs = json[0]["handler-runs"].as_array().context("runs")?;
    let of = |name: &str| runs.iter().find(|run| run["handler"] == name);
    let run = of("out-of-sync").context("it ran")?;
    ensure!(run["exit-code"] == 0 && run["volume"] == 0, "{run}");
    let text = pair.bob.adm(&["-v", "status"])?;
    ensure!(
        text.contains("  handler-run: out-of-sync volume 0 since "),
        "{text}"
    );
    ensure!(!pair.bob.adm(&["status"])?.contains("handler-run"));
    pair.are_well()
}

#[test]
fn a_resync_that_a_handler_forbids_does_not_begin() -> Result<()> {
    let mut pair = pair("handlers-forbid", Conf::default())?;
    tell(&pair, &pair.bob, "before-resync-target.exit", "1")?;
    pair.alice.adm(&["up", "r0"])?;
    pair.alice.adm(&["primary", "--force", "r0"])?;
    pair.bob.adm(&["up", "r0"])?;
    let bob = &pair.bob;
    bob.await_volume("StandAlone", 20, |volume| volume.cs == "StandAlone")?;
    await_log(
        bob,
        "helper command: /sbin/drbdadm before-resync-target minor-0 exit code 1 (0x100)",
    )?;
    ensure!(bob.volume(0)?.ds.starts_with("Inconsistent"));
    pair.are_well()
}

#[test]
fn users_wait_until_the_peer_is_fenced_and_are_let_on_by_resume_io() -> Result<()> {
    let mut pair = pair("handlers-stonith", fencing("resource-and-stonith"))?;
    pair.sync_from(&pair.alice)?;
    let mut client = pair.alice.nbd(0)?;
    client.write(0, &[1; 4096])?;
    tell(&pair, &pair.alice, "fence-peer.sleep", "2")?;
    tell(&pair, &pair.alice, "fence-peer.exit", "7")?;
    pair.bob.kill()?;
    pair.alice
        .await_volume("WFConnection", 30, |volume| volume.cs == "WFConnection")?;
    await_call(&pair, &pair.alice, "fence-peer 0")?;
    let status = pair.alice.adm(&["status"])?;
    ensure!(status.contains("suspended:fencing"), "{status}");
    ensure!(status.contains("  io-reason: suspended since "), "{status}");
    ensure!(
        status.contains("io-advice: the handler fence-peer ends it"),
        "{status}"
    );
    ensure!(
        status.contains("  handler-run: fence-peer since "),
        "{status}"
    );
    let begun = Instant::now();
    client.write(4096, &[2; 4096])?;
    ensure!(
        begun.elapsed() > Duration::from_millis(500),
        "it has waited"
    );
    pair.alice
        .await_volume("fenced", 10, |v| v.ds == "UpToDate/Outdated")?;
    await_log(
        &pair.alice,
        "fence-peer helper returned 7 (peer was stonithed)",
    )?;
    ensure!(pair.alice.logged("fence-peer r0 exit code 7 (0x700)") == 1);

    // The peer comes back, and is synced and unfenced.
    pair.bob.start()?;
    pair.bob.adm(&["up", "r0"])?;
    pair.settle(60)?;
    await_call(&pair, &pair.alice, "unfence-peer 0")?;

    // A handler that does not end is ended, and I/O stays frozen until somebody says so.
    tell(&pair, &pair.alice, "fence-peer.sleep", "1000")?;
    pair.bob.kill()?;
    await_log(
        &pair.alice,
        "fence-peer: it did not end within 3 s (handler-timeout)",
    )?;
    await_log(&pair.alice, "fence-peer helper broken, returned 143")?;
    let volume = pair.alice.volume(0)?;
    ensure!(volume.ds == "UpToDate/DUnknown", "{volume:?}");
    let waiting = std::thread::spawn(move || client.write(8192, &[3; 4096]).map(|()| client));
    std::thread::sleep(Duration::from_millis(500));
    ensure!(!waiting.is_finished());
    pair.alice.adm(&["resume-io", "r0"])?;
    let joined = waiting.join().map_err(|_| anyhow::anyhow!("a panic"))?;
    joined?.flush()?;
    pair.alice.is_well()
}

#[test]
fn no_node_becomes_primary_alone_without_the_handlers_word() -> Result<()> {
    let mut pair = pair("handlers-promote", fencing("resource-only"))?;
    pair.sync_from(&pair.alice)?;
    pair.alice.adm(&["secondary", "r0"])?;
    pair.bob.kill()?;
    pair.alice
        .await_volume("the loss", 30, |volume| volume.cs == "WFConnection")?;
    // What a handler says that fences nothing, or is not understood.
    for exit in ["1", "0"] {
        tell(&pair, &pair.alice, "fence-peer.exit", exit)?;
        let refused = pair.alice.try_adm(&["primary", "r0"])?.fails_with(11)?;
        ensure!(refused.contains("(-7) Refusing to be Primary"), "{refused}");
        let hint = format!("fence-peer has not fenced the peer: it ended with exit code {exit} ");
        ensure!(refused.contains(&hint), "{refused}");
    }
    tell(&pair, &pair.alice, "fence-peer.exit", "4")?;
    pair.alice.adm(&["primary", "r0"])?;
    let volume = pair.alice.volume(0)?;
    ensure!(volume.ds == "UpToDate/Outdated", "{volume:?}");
    // The handler is called by hand, too.
    tell(&pair, &pair.alice, "fence-peer.exit", "5")?;
    pair.alice.try_adm(&["fence-peer", "r0"])?.fails_with(5)?;
    pair.alice.is_well()
}

#[test]
fn suspended_users_wait_and_nothing_is_under_way() -> Result<()> {
    let mut pair = Pair::synced("handlers-suspend", Plan::default())?;
    let mut client = pair.alice.nbd(0)?;
    client.write(0, &[1; 65_536])?;
    pair.alice.adm(&["suspend-io", "r0"])?;
    pair.disks_equal()?;
    pair.alice.adm(&["suspend-io", "minor-0"])?;
    let status = pair.alice.adm(&["status"])?;
    ensure!(status.contains("suspended:user"), "{status}");
    let waiting = std::thread::spawn(move || client.write(4096, &[2; 4096]).map(|()| client));
    std::thread::sleep(Duration::from_millis(500));
    ensure!(!waiting.is_finished());
    let status = pair.alice.adm(&["status"])?;
    ensure!(
        status.contains(": 1 requests of users wait: 'suspend-io'"),
        "{status}"
    );
    pair.alice.adm(&["resume-io", "r0"])?;
    let joined = waiting.join().map_err(|_| anyhow::anyhow!("a panic"))?;
    joined?.flush()?;
    ensure!(!pair.alice.adm(&["status"])?.contains("io-reason"));
    pair.alice.adm(&["resume-io", "r0/0"])?;
    pair.disks_equal()?;
    pair.are_well()
}

#[test]
fn handlers_are_changed_at_runtime_and_outlive_the_daemon_that_knew_them() -> Result<()> {
    let mut pair = pair("handlers-adjust", fencing("resource-only"))?;
    pair.sync_from(&pair.alice)?;
    let show = || pair.alice.run("rdbsetup", &["show", "r0"], None)?.ok();
    ensure!(show()?.contains("        fence-peer      \t\"/bin/sh "));
    ensure!(pair.alice.adm(&["-d", "adjust", "r0"])?.is_empty());
    let other = pair
        .plan
        .conf
        .resource
        .replace("\"/bin/sh", "\"true other; /bin/sh");
    pair.plan.conf.resource = other;
    pair.write_conf()?;
    let plan = pair.alice.adm(&["-d", "adjust", "r0"])?;
    ensure!(
        plan.starts_with("rdbsetup resource-options r0 --set-defaults --handler="),
        "{plan}"
    );
    pair.alice.adm(&["adjust", "r0"])?;
    let shown = pair.alice.run("rdbsetup", &["show", "r0"], None)?.ok()?;
    ensure!(shown.contains("\"true other; /bin/sh"), "{shown}");

    // The daemon that follows knows them, and one that runs is ended with its daemon and leaves nothing.
    restart(&pair.alice)?;
    let shown = pair.alice.run("rdbsetup", &["show", "r0"], None)?.ok()?;
    ensure!(shown.contains("\"true other; /bin/sh"), "{shown}");
    // So does the thread that takes the place of one that has failed.
    std::fs::write(pair.alice.run_dir.join("break-r0"), "")?;
    pair.alice.try_adm(&["status"])?;
    await_log(&pair.alice, "started again, as after a crash")?;
    pair.alice.await_volume("Primary again", 60, |volume| {
        volume.ro == "Primary/Secondary" && volume.is_settled()
    })?;
    tell(&pair, &pair.alice, "fence-peer.sleep", "1000")?;
    pair.bob.kill()?;
    await_call(&pair, &pair.alice, "fence-peer 0")?;
    std::fs::remove_file(file(&pair, &pair.alice, "fence-peer.sleep"))?;
    tell(&pair, &pair.alice, "fence-peer.exit", "7")?;
    // The next one asks anew before it is Primary again.
    restart(&pair.alice)?;
    ensure!(
        calls(&pair, &pair.alice)
            .iter()
            .filter(|c| *c == "fence-peer 0")
            .count()
            == 2
    );
    let daemon = pair.alice.pid().context("it runs")?;
    let children = std::fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children"))?;
    ensure!(children.trim().is_empty(), "{children}");
    Ok(())
}

#[test]
fn protocol_a_and_stonith_do_not_go_together() -> Result<()> {
    let conf = Conf {
        protocol: 'A',
        ..fencing("resource-and-stonith")
    };
    let mut pair = pair("handlers-a", conf)?;
    let alice = &pair.alice;
    let refused = alice.try_adm(&["up", "r0"])?.fails_with(1)?;
    let words = "(154) Fencing policy resource-and-stonith only with prot B or C allowed";
    ensure!(refused.contains(words), "{refused}");
    // Whichever comes second is refused.
    pair.plan.conf.disk.clear();
    pair.write_conf()?;
    pair.alice.adm(&["adjust", "r0"])?;
    let options = ["disk-options", "0", "--fencing=resource-and-stonith"];
    let refused = pair.alice.run("rdbsetup", &options, None)?.fails_with(10)?;
    ensure!(refused.contains(words), "{refused}");
    pair.are_well()
}

#[test]
fn resume_io_passes_a_command_that_waits_for_frozen_requests() -> Result<()> {
    let mut pair = pair("handlers-passing", fencing("resource-and-stonith"))?;
    pair.sync_from(&pair.alice)?;
    tell(&pair, &pair.alice, "fence-peer.exit", "1")?;
    pair.bob.kill()?;
    await_log(&pair.alice, "fence-peer helper broken, returned 1")?;
    // Its user goes, and the write stays.
    let mut client = pair.alice.nbd(0)?;
    client.send_write(0, &[1; 4096], 0)?;
    pair.alice
        .await_volume("a frozen write", 10, |volume| volume.ap > 0)?;
    let status = pair.alice.adm(&["status"])?;
    ensure!(
        status.contains(
            "io-advice: the handler fence-peer has ended with 1, and has not fenced the peer; "
        ),
        "{status}"
    );
    drop(client);
    let alice = &pair.alice;
    std::thread::scope(|scope| -> Result<()> {
        let demotion = scope.spawn(|| alice.try_adm(&["--timeout", "30", "secondary", "r0"]));
        std::thread::sleep(Duration::from_secs(1));
        ensure!(!demotion.is_finished(), "it waits for the write");
        let begun = Instant::now();
        alice.adm(&["--timeout", "20", "resume-io", "r0"])?;
        ensure!(begun.elapsed() < Duration::from_secs(5), "it has waited");
        let demoted = demotion.join().map_err(|_| anyhow::anyhow!("a panic"))?;
        demoted?.ok()?;
        Ok(())
    })?;
    ensure!(pair.alice.volume(0)?.ro == "Secondary/Unknown");
    pair.alice.is_well()
}

#[test]
fn a_resource_goes_down_while_its_handler_runs_and_comes_back_without_it() -> Result<()> {
    let mut pair = pair("handlers-down", Conf::default())?;
    tell(&pair, &pair.bob, "before-resync-target.sleep", "2")?;
    pair.alice.adm(&["up", "r0"])?;
    pair.alice.adm(&["primary", "--force", "r0"])?;
    let bob = &pair.bob;
    bob.adm(&["up", "r0"])?;
    await_call(&pair, bob, "before-resync-target 0")?;
    let begun = Instant::now();
    bob.adm(&["down", "r0"])?;
    ensure!(
        begun.elapsed() < Duration::from_millis(1500),
        "it has waited"
    );
    bob.adm(&["up", "r0"])?;
    pair.settle(30)?;
    await_log(bob, "before-resync-target minor-0 exit code 0 (0x0)")?;
    // (One that is left by a daemon which is killed would write where nothing is to be any more.)
    await_log(bob, "after-resync-target minor-0 exit code 0 (0x0)")?;
    ensure!(
        calls(&pair, bob)
            .iter()
            .filter(|call| *call == "before-resync-target 0")
            .count()
            == 2
    );
    pair.are_well()
}
