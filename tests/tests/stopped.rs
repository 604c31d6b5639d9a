//! The thread of a resource ends on its own, by a broken invariant: it is started again as after a crash of the daemon, with a
//! limit, and while it does not run everybody says so.
//!
//! Only programs built with debug assertions can be broken on purpose.
#![cfg(debug_assertions)]

use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::disk;
use rdb_tests::pair::Plan;
use rdb_tests::programs::run_tool;
use rdb_tests::rng::Rng;
use rdb_tests::status::Volume;
use rdb_tests::wait::wait_until;
use rdb_tests::writer::{Load, Model, Pace};
use rdb_tests::{Node, Pair};

/// Asks for a broken invariant and waits until it has happened.
fn break_it(node: &Node) -> Result<()> {
    let before = node.logged("stopped: broken invariant: broken on purpose");
    std::fs::write(node.run_dir.join("break-r0"), "")?;
    let what = "the broken invariant";
    wait_until(what, Duration::from_secs(30), || {
        // The status is what it breaks at.
        let _ = node.try_adm(&["status"]);
        Ok(node.logged("stopped: broken invariant: broken on purpose") > before)
    })
}

#[test]
fn a_primary_comes_back_by_itself_with_every_acknowledged_write() -> Result<()> {
    let mut rng = Rng::from_env();
    let pair = Pair::synced("stopped-primary", Plan::default())?;
    let model = Model::new(100, 4 * 1024);
    pair.alice.adm(&["primary", "r0"])?;
    for round in 0..2 {
        let load = Load::start(
            &pair.alice.nbd_socket(),
            "r0/0",
            &model,
            rng.next_u64(),
            Pace::default(),
        )?;
        load.progress(20)?;
        break_it(&pair.alice)?;
        load.lost()?;
        pair.alice
            .await_volume("its being Primary again", 60, |v| {
                v.ro == "Primary/Secondary" && v.is_settled()
            })
            .with_context(|| format!("round {round}"))?;
        let mut client = pair.alice.nbd(0)?;
        model
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .verify(&mut client)?;
        drop(client);
        pair.bob
            .await_volume("the end of the resync", 60, Volume::is_settled)?;
        pair.disks_equal()?;
    }
    // A Secondary comes back as one.
    break_it(&pair.bob)?;
    pair.bob.await_volume("its being back", 60, |v| {
        v.ro == "Secondary/Primary" && v.is_settled()
    })?;
    pair.alice
        .await_volume("the peer's being back", 60, Volume::is_settled)?;
    Ok(())
}

/// A file system whose writes hang while it is frozen. It is unmounted with the scratch directory that it is in.
struct Freezer {
    mount: PathBuf,
}

impl Freezer {
    fn new(pair: &Pair) -> Result<Self> {
        let image = pair.scratch.join("freezer.img");
        disk::create(&image, 2 * pair.plan.disk_bytes)?;
        let mount = pair.scratch.join("freezer");
        std::fs::create_dir(&mount)?;
        let (image, path) = (image.display().to_string(), mount.display().to_string());
        run_tool(60, "mkfs.ext4", &["-q", "-F", &image])?;
        run_tool(60, "mount", &["-o", "loop", &image, &path])?;
        disk::create(&mount.join("disk"), pair.plan.disk_bytes)?;
        Ok(Self { mount })
    }

    fn freeze(&self) -> Result<()> {
        let mount = self.mount.display().to_string();
        run_tool(60, "fsfreeze", &["-f", &mount]).map(drop)
    }

    fn thaw(&self) -> Result<()> {
        let mount = self.mount.display().to_string();
        run_tool(60, "fsfreeze", &["-u", &mount]).map(drop)
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        // Nothing that waits for it could ever be ended.
        let _ = self.thaw();
    }
}

#[test]
fn one_whose_disk_hangs_goes_on_without_it_and_takes_it_back_when_it_answers() -> Result<()> {
    let mut pair = Pair::prepare("stopped-hang", Plan::default())?;
    let freezer = Freezer::new(&pair)?;
    pair.hosts[0].data[0] = freezer.mount.join("disk");
    pair.write_conf()?;
    pair.begin()?;
    pair.sync_from(&pair.bob)?;

    freezer.freeze()?;
    let mut client = pair.bob.nbd(0)?;
    let writing = std::thread::spawn(move || client.write(1 << 20, &[7; 64 << 10]));
    // Once it has come here alice's disk is to write it.
    wait_until(
        "the write's being under way",
        Duration::from_secs(10),
        || Ok(pair.bob.volume(0)?.pe > 0),
    )?;
    break_it(&pair.alice)?;
    // It comes back without the disk, says why, and its peer's user is served.
    pair.alice
        .await_volume("a connection without a disk", 60, |v| {
            v.cs == "Connected" && v.ds == "Diskless/UpToDate"
        })?;
    let text = pair.alice.adm(&["status", "r0"])?;
    ensure!(
        text.contains("disk-reason: Diskless: it does not answer"),
        "{text}"
    );
    writing.join().expect("it does not panic")?;
    // A daemon that followed this one would want the disk, too.
    wait_until("the record", Duration::from_secs(10), || {
        let record = std::fs::read_to_string(pair.alice.run_dir.join("rdbd.state"))?;
        Ok(record.contains("freezer/disk"))
    })?;
    // Who tries to attach it by hand finds it in use, and is told by what.
    let said = pair.alice.try_adm(&["attach", "r0"])?.fails_with(20)?;
    ensure!(
        said.contains("is in use") && said.contains("Hint: the disk of r0/0: it does not answer"),
        "{said}"
    );

    freezer.thaw()?;
    pair.settle(60)?;
    let text = pair.alice.adm(&["status", "r0"])?;
    ensure!(!text.contains("disk-reason"), "{text}");
    ensure!(
        pair.alice
            .logged("the last operation from before its end has ended")
            == 1,
        "{}",
        pair.alice.log_tail(50)
    );
    pair.bob.adm(&["secondary", "r0"])?;
    pair.disks_equal()?;
    pair.bob.is_well()?;
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["down", "r0"])?;
    }
    Ok(())
}

#[test]
fn one_that_stops_again_and_again_stays_failed_and_everybody_says_so() -> Result<()> {
    let pair = Pair::synced("stopped-for-good", Plan::default())?;
    let bob = &pair.bob;
    for round in 0..3 {
        break_it(bob)?;
        bob.await_volume("its being back", 60, Volume::is_settled)
            .with_context(|| format!("round {round}"))?;
    }
    break_it(bob)?;
    wait_until("its being given up", Duration::from_secs(30), || {
        Ok(bob.logged("not started again by itself") == 1)
    })?;

    let text = bob.adm(&["status", "r0"])?;
    ensure!(
        text.starts_with(
            "r0 role:Unknown failed:yes\n  reason: broken invariant: broken on purpose\n  advice: "
        ),
        "{text}"
    );
    ensure!(text.contains("'rdbadm up r0'"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&bob.adm(&["status", "--json"])?)?;
    ensure!(json[0]["failed"] == true, "{json}");
    ensure!(
        json[0]["failed-reason"] == "broken invariant: broken on purpose",
        "{json}"
    );
    let line = " 0: cs:Failed ro:Unknown/Unknown ds:DUnknown/DUnknown   ------\n    failed: broken invariant: \
                broken on purpose\n";
    wait_until(
        "the status file's saying so",
        Duration::from_secs(10),
        || Ok(bob.status_text()?.ends_with(line)),
    )?;
    for words in [
        &["role", "r0"][..],
        &["cstate", "r0"],
        &["dstate", "r0"],
        &["primary", "r0"],
        &["secondary", "r0"],
        &["disconnect", "r0"],
        &["detach", "r0"],
        &["get-gi", "r0"],
        &["adjust", "r0"],
        &["wait-connect", "r0"],
    ] {
        let out = bob.try_adm(words)?;
        ensure!(out.code != 0, "{words:?}: {out:?}");
        ensure!(
            out.stderr.contains("broken on purpose") && out.stderr.contains("'rdbadm up r0'"),
            "{words:?}: {out:?}"
        );
    }
    // The daemon goes on, and the resource does when it is wanted.
    bob.adm(&["up", "r0"])?;
    bob.await_volume("its being up again", 60, Volume::is_settled)?;
    // From here on it counts anew.
    break_it(bob)?;
    bob.await_volume("its being back", 60, Volume::is_settled)?;
    bob.adm(&["down", "r0"])?;
    ensure!(bob.adm(&["status"])?.is_empty());
    Ok(())
}
