//! Snapshots of both nodes at one moment, of a pair of daemons whose users write all the time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::{DISK_BYTES, Plan};
use rdb_tests::programs::run_tool;
use rdb_tests::writer::{Load, Model, Pace};
use rdb_tests::{Node, Pair, disk, wait_until};

/// Copies the backing files, keeps its environment, takes its time, and ends as it is told. What follows `marks` says that it runs.
const SCRIPT: &str = "here=$1; own=$here/$RDB_NODE
pause=$(cat $own.sleep 2>/dev/null); exit=$(cat $own.exit 2>/dev/null)
env > $own.env
n=0; for disk in $DRBD_LL_DISK; do
    cp --reflink=auto --sparse=always $disk $own.$RDB_SNAPSHOT.$n || exit 1
    n=$((n + 1))
done
echo $RDB_SNAPSHOT >> $own.calls
sleep ${pause:-0}
exit ${exit:-0}
";

fn pair_with(name: &str, plan: Plan) -> Result<Pair> {
    let mut pair = Pair::prepare(name, plan)?;
    let here = pair.scratch.path().to_owned();
    std::fs::write(here.join("snapshot.sh"), SCRIPT)?;
    pair.plan.conf.resource = format!("handlers {{ snapshot \"{}\"; }}", command(&pair));
    pair.write_conf()?;
    pair.begin()?;
    pair.sync_from(&pair.alice)?;
    Ok(pair)
}

fn pair(name: &str) -> Result<Pair> {
    pair_with(name, Plan::default())
}

/// What the handler is.
fn command(pair: &Pair) -> String {
    let here = pair.scratch.path().display();
    format!("/bin/sh {here}/snapshot.sh {here}")
}

fn tell(pair: &Pair, node: &Node, what: &str, value: &str) -> Result<()> {
    let file = pair.scratch.join(format!("{}.{what}", node.name));
    Ok(std::fs::write(file, value)?)
}

fn calls(pair: &Pair, node: &Node) -> usize {
    let file = pair.scratch.join(format!("{}.calls", node.name));
    std::fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

fn copy(pair: &Pair, node: &Node, name: &str, volume: usize) -> PathBuf {
    pair.scratch.join(format!("{}.{name}.{volume}", node.name))
}

/// The copies of both nodes are equal, and are those of one moment of this writer's.
fn are_equal(pair: &Pair, name: &str, volumes: usize) -> Result<()> {
    for volume in 0..volumes {
        let [a, b] = [&pair.alice, &pair.bob].map(|node| copy(pair, node, name, volume));
        disk::compare(&a, &b, disk::data_end(DISK_BYTES))?;
        std::fs::remove_file(a)?;
        std::fs::remove_file(b)?;
    }
    Ok(())
}

fn load(node: &Node, volume: u64) -> Result<Load> {
    let model = Model::new(64, 4000);
    let pace = Pace {
        depth: 16,
        ..Pace::default()
    };
    let export = format!("r0/{volume}");
    Load::start(&node.nbd_socket(), &export, &model, volume + 1, pace)
}

/// I/O goes on, and nothing says that a snapshot is under way.
fn goes_on(pair: &Pair, load: &Load) -> Result<()> {
    load.progress(50)?;
    for node in [&pair.alice, &pair.bob] {
        let status = node.adm(&["status"])?;
        ensure!(!status.contains("suspended"), "{status}");
        ensure!(!status.contains("io-reason"), "{status}");
    }
    Ok(())
}

#[test]
fn snapshots_of_both_nodes_are_equal_while_users_write() -> Result<()> {
    let mut pair = pair_with("snapshots-equal", Plan::with_volumes(2))?;
    let loads = [load(&pair.alice, 0)?, load(&pair.alice, 1)?];
    for n in 0..6 {
        loads.iter().try_for_each(|load| load.progress(300))?;
        let name = format!("daily.{n}");
        let told = pair.alice.adm(&["snapshot", "r0", "--name", &name])?;
        let expected = format!("r0: snapshot '{name}' is taken: here: exit 0; peer: exit 0\n");
        ensure!(told == expected, "{told}");
        are_equal(&pair, &name, 2).with_context(|| format!("snapshot {n}"))?;
    }
    // (What is copied while they write is not, or this would show nothing.)
    for (index, node) in [&pair.alice, &pair.bob].into_iter().enumerate() {
        loads.iter().try_for_each(|load| load.progress(100))?;
        std::fs::copy(pair.disk(index, 0), copy(&pair, node, "amid", 0))?;
    }
    ensure!(are_equal(&pair, "amid", 1).is_err());
    for node in [&pair.alice, &pair.bob] {
        let text = std::fs::read_to_string(pair.scratch.join(format!("{}.env", node.name)))?;
        for line in [
            "DRBD_RESOURCE=r0",
            "DRBD_VOLUME=0 1",
            "RDB_SNAPSHOT=daily.5",
        ] {
            ensure!(
                text.lines().any(|l| l == line),
                "{}: {line}\n{text}",
                node.name
            );
        }
    }
    // The name is the time where none is given, and a command takes the place of the own handler, here alone.
    let given = format!("touch {}/given", pair.scratch.path().display());
    let told = pair.alice.adm(&["snapshot", "r0", "--exec", &given])?;
    ensure!(told.starts_with("r0: snapshot '20"), "{told}");
    ensure!(pair.scratch.join("given").exists());
    ensure!((calls(&pair, &pair.alice), calls(&pair, &pair.bob)) == (6, 7));
    for load in loads {
        load.stop()?;
    }
    pair.alice.adm(&["secondary", "r0"])?;
    pair.bob.adm(&["snapshot", "r0", "--name", "by-bob"])?;
    are_equal(&pair, "by-bob", 2)?;
    pair.are_well()
}

#[test]
fn a_snapshot_below_a_device_is_equal_too() -> Result<()> {
    let mut pair = pair_with(
        "snapshots-fuse",
        Plan {
            frontend: "fuse",
            ..Plan::default()
        },
    )?;
    let device = pair.alice.device(0)?;
    let job = pair.scratch.path().to_owned();
    let fio = std::thread::spawn(move || {
        let file = format!("--filename={}", device.display());
        run_tool(
            60,
            "fio",
            &[
                "--name=writer",
                &file,
                "--rw=randwrite",
                "--bs=4k",
                "--size=32m",
                "--ioengine=psync",
                "--numjobs=2",
                "--time_based",
                "--runtime=8",
                "--fsync=32",
                "--output",
                &job.join("fio.txt").display().to_string(),
            ],
        )
    });
    std::thread::sleep(Duration::from_secs(1));
    for n in 0..4 {
        let name = format!("fuse-{n}");
        pair.alice.adm(&["snapshot", "r0", "--name", &name])?;
        are_equal(&pair, &name, 1)?;
        std::thread::sleep(Duration::from_millis(300));
    }
    let ended = fio.join().map_err(|_| anyhow::anyhow!("a panic"))?;
    ended.context("the writer has seen an error")?;
    pair.are_well()
}

#[test]
fn a_snapshot_that_fails_says_where_and_what_is_left() -> Result<()> {
    let mut pair = pair("snapshots-fail")?;
    let load = load(&pair.alice, 0)?;
    load.progress(100)?;
    let snapshot = |words: &[&str]| {
        let words = ["snapshot", "r0", "--name", "n1"].iter().chain(words);
        pair.alice.try_adm(&words.copied().collect::<Vec<_>>())
    };
    let told = snapshot(&["--exec", "exit 3"])?.fails_with(10)?;
    let words = "r0: the snapshot has failed: here: exit 3; peer: exit 0; snapshot 'n1' exists on the peer alone, and parts of it may be here: remove it";
    ensure!(told.contains(words), "{told}");
    goes_on(&pair, &load)?;
    tell(&pair, &pair.bob, "exit", "7")?;
    let told = snapshot(&[])?.fails_with(10)?;
    let words = "here: exit 0; peer: exit 7; snapshot 'n1' exists here alone";
    ensure!(told.contains(words), "{told}");
    goes_on(&pair, &load)?;
    let told = snapshot(&["--exec", "/does/not/exist"])?.fails_with(10)?;
    ensure!(told.contains("here: exit 127; peer: exit 7"), "{told}");
    goes_on(&pair, &load)?;

    // Names, limits and nodes that there are not.
    let before = calls(&pair, &pair.bob);
    for name in ["a b", "../x", "$(id)", "-x", ".x", "", &"x".repeat(65)] {
        let name = format!("--name={name}");
        let told = pair
            .alice
            .try_adm(&["snapshot", "r0", &name])?
            .fails_with(10)?;
        ensure!(
            told.contains("a snapshot's name has 1 to 64 characters"),
            "{told}"
        );
    }
    for seconds in ["0", "601"] {
        let told = pair
            .alice
            .try_adm(&["snapshot", "r0", "--timeout", seconds])?
            .fails_with(10)?;
        ensure!(
            told.contains("a snapshot may take 1 to 600 seconds"),
            "{told}"
        );
    }
    let told = pair.bob.try_adm(&["snapshot", "r0"])?.fails_with(10)?;
    ensure!(
        told.contains("the peer is Primary: its users write on; take the snapshot there"),
        "{told}"
    );
    ensure!(calls(&pair, &pair.bob) == before);
    // A Secondary without its peer: of its own disk alone.
    load.stop()?;
    pair.alice.adm(&["disconnect", "r0"])?;
    let told = pair.alice.try_adm(&["snapshot", "r0"])?.fails_with(10)?;
    ensure!(
        told.contains("the peer is not connected (StandAlone)"),
        "{told}"
    );
    let told = pair
        .alice
        .adm(&["snapshot", "r0", "--name", "mine", "--local-only"])?;
    ensure!(
        told == "r0: snapshot 'mine' is taken: here: exit 0\n",
        "{told}"
    );
    pair.are_well()
}

#[test]
fn a_peer_without_a_handler_is_asked_and_nothing_is_run() -> Result<()> {
    let mut pair = pair("snapshots-none")?;
    let handlers = std::mem::take(&mut pair.plan.conf.resource);
    pair.write_conf()?;
    pair.bob.adm(&["adjust", "r0"])?;
    let told = pair.alice.try_adm(&["snapshot", "r0"])?.fails_with(10)?;
    let words = "r0: the snapshot has failed: here: not run; peer: refused: no handler 'snapshot' is configured";
    ensure!(told.contains(words), "{told}");
    ensure!((calls(&pair, &pair.alice), calls(&pair, &pair.bob)) == (0, 0));
    // And here.
    let told = pair
        .bob
        .try_adm(&["snapshot", "r0", "--local-only"])?
        .fails_with(10)?;
    ensure!(told.contains("the peer is Primary"), "{told}");
    pair.alice.adm(&["adjust", "r0"])?;
    let told = pair.alice.try_adm(&["snapshot", "r0"])?.fails_with(10)?;
    ensure!(
        told.contains("no handler 'snapshot' is configured, and no command is given"),
        "{told}"
    );
    pair.plan.conf.resource = handlers;
    pair.write_conf()?;
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["adjust", "r0"])?;
    }
    pair.alice.adm(&["snapshot", "r0", "--name", "now"])?;
    are_equal(&pair, "now", 1)?;
    pair.are_well()
}

/// A handler of the peer's, and one's own, that do not end; who waits for them goes, or the peer does.
#[test]
fn whatever_hangs_io_goes_on() -> Result<()> {
    let mut pair = pair("snapshots-hang")?;
    let load = load(&pair.alice, 0)?;
    load.progress(100)?;
    for (node, words) in [
        (
            &pair.bob,
            "here: exit 0; peer: had not ended; snapshot 'h' exists here alone",
        ),
        (
            &pair.alice,
            "here: ended by force; peer: exit 0; snapshot 'h' exists on the peer alone",
        ),
    ] {
        tell(&pair, node, "sleep", "1000")?;
        let begun = Instant::now();
        let told = pair
            .alice
            .try_adm(&["snapshot", "r0", "--name=h", "--timeout=3"])?;
        let told = told.fails_with(10)?;
        ensure!(told.contains("it took longer than 3 s"), "{told}");
        ensure!(told.contains(words), "{told}");
        ensure!(begun.elapsed() < Duration::from_secs(60));
        goes_on(&pair, &load)?;
        tell(&pair, node, "sleep", "0")?;
        wait_until("the end of what hung", Duration::from_secs(20), || {
            Ok(node.adm(&["status", "-v"])?.contains("exit code 143"))
        })?;
    }

    // Who has given the command goes: it is told while the snapshot is under way.
    tell(&pair, &pair.bob, "sleep", "1000")?;
    let before = calls(&pair, &pair.bob);
    let mut command = pair.alice.command("rdbadm", 0)?;
    let mut child = command.args(["snapshot", "r0", "--name=k"]).spawn()?;
    wait_until("the peer's handler", Duration::from_secs(20), || {
        Ok(calls(&pair, &pair.bob) > before)
    })?;
    let status = pair.alice.adm(&["status"])?;
    ensure!(
        status.contains("requests of users wait: snapshot 'k' is taken"),
        "{status}"
    );
    let status = pair.bob.adm(&["status"])?;
    ensure!(
        status.contains("the peer takes snapshot 'k', and sends no write"),
        "{status}"
    );
    child.kill()?;
    child.wait()?;
    goes_on(&pair, &load)?;

    // The peer goes.
    tell(&pair, &pair.bob, "sleep", "0")?;
    wait_until("the end of what hung", Duration::from_secs(20), || {
        Ok(!pair.bob.adm(&["status"])?.contains("handler-run"))
    })?;
    tell(&pair, &pair.bob, "sleep", "1000")?;
    let before = calls(&pair, &pair.bob);
    let mut command = pair.alice.command("rdbadm", 0)?;
    let mut child = command.args(["snapshot", "r0", "--name=p"]).spawn()?;
    wait_until("the peer's handler", Duration::from_secs(20), || {
        Ok(calls(&pair, &pair.bob) > before)
    })?;
    pair.bob.kill()?;
    let ended = child.wait()?;
    ensure!(ended.code() == Some(10), "{ended}");
    load.progress(50)?;
    load.stop()?;
    pair.alice.is_well()
}

/// The daemon that takes a snapshot is replaced, and nothing stays frozen.
#[test]
fn a_daemon_that_is_replaced_amid_a_snapshot_leaves_nothing_frozen() -> Result<()> {
    let mut pair = pair("snapshots-restart")?;
    tell(&pair, &pair.alice, "sleep", "1000")?;
    let before = calls(&pair, &pair.alice);
    let mut command = pair.alice.command("rdbadm", 0)?;
    let mut child = command.args(["snapshot", "r0", "--name=r"]).spawn()?;
    wait_until("the handler", Duration::from_secs(20), || {
        Ok(calls(&pair, &pair.alice) > before)
    })?;
    pair.alice.adm(&["restart", "--force"])?;
    ensure!(child.wait()?.code() != Some(0));
    pair.alice.await_volume("Primary again", 60, |volume| {
        volume.ro == "Primary/Secondary" && volume.is_settled()
    })?;
    let mut client = pair.alice.nbd(0)?;
    client.write(0, &[3; 65_536])?;
    client.flush()?;
    tell(&pair, &pair.alice, "sleep", "0")?;
    pair.alice.adm(&["snapshot", "r0", "--name", "after"])?;
    are_equal(&pair, "after", 1)?;
    pair.are_well()
}
