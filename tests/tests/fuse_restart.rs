//! The device of the front end `fuse` outlives its daemon: a file system on it, in use, through restarts, kills and the wish that
//! the daemon ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::programs::{directory, run_tool, tool};
use rdb_tests::status::Volume;
use rdb_tests::{Node, Pair, wait_until};

const TIMES: usize = 10;

/// fio, writing to a file of a mounted file system and reading back what it wrote.
struct Writer {
    fio: Child,
    said: PathBuf,
}

impl Writer {
    fn start(pair: &Pair, place: &Path) -> Result<Self> {
        let said = pair.scratch.join("fio.out");
        let file = std::fs::File::create(&said)?;
        let fio = Command::new(tool("fio")?)
            .arg("--name=through")
            .arg(format!("--filename={}", place.join("through").display()))
            .args(["--ioengine=libaio", "--direct=1", "--rw=randwrite"])
            .args(["--bs=4k", "--iodepth=8", "--size=8M", "--rate=8m"])
            .args(["--verify=crc32c", "--verify_fatal=1", "--do_verify=1"])
            .args(["--verify_state_save=0", "--time_based", "--runtime=300"])
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Self { fio, said })
    }

    /// It goes on, without an error so far.
    fn is_well(&mut self) -> Result<()> {
        let ended = self.fio.try_wait()?;
        ensure!(ended.is_none(), "fio: {ended:?}\n{}", self.said());
        Ok(())
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// Ends it in its own way: what it wrote last is read back.
    fn stop(mut self) -> Result<()> {
        self.is_well()?;
        run_tool(10, "kill", &["-INT", &self.fio.id().to_string()])?;
        let status = self.fio.wait()?;
        let said = self.said();
        // 128: a signal has ended it, and nothing else was wrong.
        ensure!(
            matches!(status.code(), Some(0 | 128)) && said.contains("err= 0"),
            "fio: {status}\n{said}"
        );
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.fio.kill();
        let _ = self.fio.wait();
    }
}

fn mounted(pair: &Pair) -> Result<(String, PathBuf)> {
    let device = pair.alice.device(0)?.display().to_string();
    run_tool(60, "mkfs.ext4", &["-q", "-F", &device])?;
    let place = pair.scratch.join("mnt");
    std::fs::create_dir_all(&place)?;
    run_tool(60, "mount", &[&device, &place.display().to_string()])?;
    Ok((device, place))
}

fn finish(pair: &Pair, device: &str, place: &Path) -> Result<()> {
    run_tool(60, "umount", &[place.display().to_string()])?;
    ensure!(pair.alice.device(0)? == Path::new(device), "another device");
    run_tool(60, "e2fsck", &["-f", "-n", device]).context("the file system is clean")?;
    pair.alice
        .await_volume("the peer", 60, Volume::is_settled)?;
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["down", "r0"])?;
    }
    pair.disks_equal()
}

fn plan() -> Plan {
    Plan {
        frontend: "fuse",
        ..Plan::default()
    }
}

#[test]
fn a_mounted_file_system_notices_nothing_of_ten_restarts() -> Result<()> {
    let mut pair = Pair::synced("fuse-restart", plan())?;
    let (device, place) = mounted(&pair)?;
    let mut writer = Writer::start(&pair, &place)?;
    for _ in 0..TIMES {
        let said = pair.alice.adm(&["restart"])?;
        ensure!(said.contains(&format!(", {device}")), "{said}");
        writer.is_well()?;
    }
    writer.stop()?;
    // Also while nobody uses it.
    run_tool(60, "umount", &[place.display().to_string()])?;
    pair.alice.adm(&["restart"])?;
    run_tool(60, "mount", &[&device, &place.display().to_string()])?;
    pair.are_well()?;
    finish(&pair, &device, &place)
}

#[test]
fn a_daemon_that_is_told_to_end_waits_for_who_uses_its_device() -> Result<()> {
    let mut pair = Pair::synced("fuse-end", plan())?;
    let (_, place) = mounted(&pair)?;
    let pid = pair.alice.pid().context("a daemon")?.to_string();
    run_tool(10, "kill", &[&pid])?;
    let named = format!("r0/0 is held open by a mount on {}", place.display());
    wait_until("it to say who", Duration::from_secs(20), || {
        Ok(pair.alice.log().contains(&named))
    })?;
    let status = pair.alice.adm(&["status"])?;
    ensure!(
        status.contains("  daemon-reason: ending: rdbd was terminated") && status.contains(&named),
        "{status}"
    );
    let ills = pair.alice.try_adm(&["status", "--check"])?;
    ensure!(ills.code == 1 && ills.stdout.contains(&named), "{ills:?}");
    std::fs::write(place.join("file"), "still there")?;
    run_tool(30, "sync", &["-f", &place.display().to_string()])?;
    pair.alice.is_well()?;
    run_tool(30, "umount", &[place.display().to_string()])?;
    let status = pair.alice.terminate()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[test]
fn the_device_of_a_killed_daemon_goes_with_its_last_user() -> Result<()> {
    let mut pair = Pair::synced("fuse-left", plan())?;
    let (device, place) = mounted(&pair)?;
    let name = device.trim_start_matches("/dev/");
    let backing = Path::new("/sys/block").join(name).join("loop/backing_file");
    ensure!(backing.exists(), "{}", backing.display());
    pair.alice.kill()?;
    pair.alice.start()?;
    let named = format!("{device} is held open by a mount on {}", place.display());
    wait_until("it to say who", Duration::from_secs(20), || {
        Ok(pair.alice.log().contains(&named))
    })?;
    pair.alice.adm(&["up", "r0"])?;
    pair.alice
        .await_volume("the peer", 60, Volume::is_settled)?;
    pair.alice.adm(&["primary", "r0"])?;
    ensure!(pair.alice.device(0)? != Path::new(&device), "the dead one");
    run_tool(60, "umount", &[place.display().to_string()])?;
    wait_until("the device's going", Duration::from_secs(10), || {
        Ok(!backing.exists())
    })?;
    pair.alice.adm(&["down", "r0"])?;
    Ok(())
}

/// What is written to the mounted file system gets to the device.
fn is_written(place: &Path, what: &str) -> Result<()> {
    std::fs::write(place.join("file"), what)?;
    run_tool(30, "sync", &["-f", &place.display().to_string()]).map(drop)
}

#[test]
fn a_daemon_that_is_ending_is_not_replaced() -> Result<()> {
    let mut pair = Pair::synced("fuse-end-restart", plan())?;
    let (_, place) = mounted(&pair)?;
    let pid = pair.alice.pid().context("a daemon")?.to_string();
    let named = format!("r0/0 is held open by a mount on {}", place.display());
    run_tool(10, "kill", &[&pid])?;
    wait_until("it to say who", Duration::from_secs(20), || {
        Ok(pair.alice.log().contains(&named))
    })?;
    for words in [&["restart"][..], &["restart", "--force"]] {
        let said = pair.alice.try_adm(words)?.fails_with(11)?;
        ensure!(said.contains("it is ending"), "{said}");
        ensure!(said.contains(&named), "{said}");
    }
    is_written(&place, "after a restart that was refused")?;
    // More of the same changes nothing.
    run_tool(10, "kill", &["-INT", &pid])?;
    std::thread::sleep(Duration::from_secs(2));
    is_written(&place, "after another signal")?;
    ensure!(
        pair.alice.logged("held open") == 1,
        "it is said again and again:\n{}",
        pair.alice.log_tail(20)
    );
    run_tool(30, "umount", &[place.display().to_string()])?;
    let status = pair.alice.terminate()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// Restarts alice's daemon under a mounted file system, has `tell` send a signal meanwhile, and sees that it ends when, and not
/// before, the file system is unmounted.
fn told_while_replaced(pair: &mut Pair, tell: impl FnOnce(&Node, u32) -> Result<()>) -> Result<()> {
    let (_, place) = mounted(pair)?;
    let before = pair.alice.logged("going down");
    let pid = pair.alice.pid().context("a daemon")?;
    let mut restart = pair.alice.command("rdbadm", 60)?;
    let mut restart = restart.arg("restart").spawn()?;
    tell(&pair.alice, pid)?;
    let restarted = restart.wait()?;
    ensure!(
        matches!(restarted.code(), Some(0 | 11)),
        "restart: {restarted}"
    );
    is_written(&place, "still there")?;
    wait_until("its knowing", Duration::from_secs(30), || {
        Ok(pair.alice.logged("going down") > before)
    })?;
    std::thread::sleep(Duration::from_secs(1));
    is_written(&place, "still there, later")?;
    pair.alice.is_well()?;
    run_tool(60, "umount", &[place.display().to_string()])?;
    wait_until("its end", Duration::from_secs(30), || {
        Ok(pair.alice.is_well().is_err())
    })?;
    pair.alice.start()?;
    pair.alice.adm(&["up", "r0"])?;
    pair.alice
        .await_volume("the peer", 60, Volume::is_settled)?;
    pair.alice.adm(&["primary", "r0"]).map(drop)
}

/// Whether a process leads a session: the one that watches does, another child of the daemon does not.
fn leads_a_session(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    // State, parent, group, session.
    rest.split_whitespace().nth(3) == Some(pid.to_string().as_str())
}

#[test]
fn a_daemon_that_is_told_to_end_while_it_is_replaced_still_waits() -> Result<()> {
    let mut pair = Pair::synced("fuse-restart-end", plan())?;
    for delay_ms in [0, 5, 15, 30, 45, 60, 100, 200, 400, 800] {
        told_while_replaced(&mut pair, |_, pid| {
            std::thread::sleep(Duration::from_millis(delay_ms));
            run_tool(10, "kill", &[pid.to_string()]).map(drop)
        })
        .with_context(|| format!("{delay_ms} ms"))?;
    }
    // systemd tells the process that watches, which is the main one meanwhile, and for a second after that.
    for delay_ms in [0, 300, 900] {
        told_while_replaced(&mut pair, |node, pid| {
            let mut other = None;
            wait_until("another process", Duration::from_secs(10), || {
                let mut all = node.processes()?.into_iter();
                other = all.find(|found| *found != pid && leads_a_session(*found));
                Ok(other.is_some())
            })?;
            std::thread::sleep(Duration::from_millis(delay_ms));
            run_tool(10, "kill", &[other.unwrap_or(pid).to_string()]).map(drop)
        })
        .with_context(|| format!("the watcher, {delay_ms} ms"))?;
    }
    Ok(())
}

/// alice's daemon under a stand-in for systemd, which keeps descriptors.
struct Kept {
    store: Child,
    pid_file: PathBuf,
}

impl Kept {
    fn start(pair: &Pair) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store.py");
        let pid_file = pair.scratch.join("kept.pid");
        let alice = &pair.alice;
        let log = std::fs::File::create(pair.scratch.join("kept.log"))?;
        let store = Command::new(tool("python3")?)
            .arg(script)
            .arg(pair.scratch.join("notify"))
            .arg(&pid_file)
            .arg(directory()?.join("rdbd"))
            .args(["--frontend", "fuse"])
            .env("RDB_NODE", &alice.name)
            .env("RDB_RUN_DIR", &alice.run_dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let kept = Self { store, pid_file };
        kept.await_answer(alice)?;
        Ok(kept)
    }

    fn pid(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.pid_file)?)
    }

    fn await_answer(&self, node: &Node) -> Result<()> {
        let hello = serde_json::json!({"op": "hello", "args": {"protocol": 1}});
        wait_until("rdbd to answer", Duration::from_secs(20), || {
            Ok(node.control(&hello).is_ok_and(|said| {
                self.pid()
                    .is_ok_and(|pid| said["pid"].as_u64() == pid.parse().ok())
            }))
        })
    }

    fn kill_daemon(&self, node: &Node) -> Result<()> {
        let pid = self.pid()?;
        run_tool(10, "kill", &["-9", &pid])?;
        wait_until("the next one", Duration::from_secs(10), || {
            Ok(self.pid()? != pid)
        })?;
        self.await_answer(node)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.store.kill();
        let _ = self.store.wait();
        if let Ok(pid) = self.pid() {
            let _ = run_tool(10, "kill", &["-9", &pid]);
        }
    }
}

/// Whether the kernel asks again for what a dead daemon left unanswered: Linux 6.9 and later.
fn kernel_asks_again() -> Result<bool> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Ok(version >= (6, 9))
}

#[test]
fn with_a_store_of_descriptors_a_killed_daemon_is_followed_without_an_error() -> Result<()> {
    let mut pair = Pair::prepare("fuse-killed", plan())?;
    let kept = Kept::start(&pair)?;
    pair.bob.start()?;
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["create-md", "--force", "r0"])?;
        node.adm(&["up", "r0"])?;
    }
    pair.alice.adm(&["primary", "--force", "r0"])?;
    pair.alice
        .await_volume("the first sync", 60, Volume::is_settled)?;
    let (device, place) = mounted(&pair)?;
    if !kernel_asks_again()? {
        // It fails, but it does not hang: whoever waits gets an error when the next daemon comes.
        kept.kill_daemon(&pair.alice)?;
        let _ = run_tool(30, "sync", &["-f", &place.display().to_string()]);
        run_tool(30, "umount", &["-l", &place.display().to_string()])?;
        return Ok(());
    }
    let mut writer = Writer::start(&pair, &place)?;
    for _ in 0..TIMES {
        std::thread::sleep(Duration::from_millis(300));
        kept.kill_daemon(&pair.alice)?;
        pair.alice
            .await_volume("to be Primary again", 40, |volume| {
                volume.ro.starts_with("Primary/")
            })?;
        writer.is_well()?;
    }
    pair.alice.adm(&["restart"])?;
    writer.stop()?;
    finish(&pair, &device, &place)?;
    run_tool(10, "kill", &[kept.pid()?])?;
    Ok(())
}
