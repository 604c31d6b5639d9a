//! The scripts of `packaging/lib`, which take snapshots of backing disks: of files on a file system that shares blocks between copies,
//! and of loop devices over such files. (Logical volumes are in `vm/lvm-job.sh`.)

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::{DISK_BYTES, Plan};
use rdb_tests::programs::{self, run_tool};
use rdb_tests::scratch::{Loop, Scratch};
use rdb_tests::writer::{Load, Model, Pace};
use rdb_tests::{Node, Pair, disk, wait_until};

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/lib")
}

/// A pair whose disks are files on an xfs of its own; `bob`'s is below a loop device, if that is wanted. `handlers` is made of the folder
/// of the scripts and the words before them, by which they find our commands.
fn pair(
    name: &str,
    has_loop: bool,
    handlers: impl Fn(&str, &str) -> String,
) -> Result<(Pair, Option<Loop>)> {
    let mut pair = Pair::prepare(name, Plan::default())?;
    let image = pair.scratch.join("xfs.image");
    disk::create(&image, 600 << 20)?;
    let image = image.display().to_string();
    run_tool(60, "mkfs.xfs", &["-q", "-m", "reflink=1", &image])?;
    let xfs = pair.scratch.join("xfs");
    fs::create_dir(&xfs)?;
    let place = xfs.display().to_string();
    run_tool(60, "mount", &["-o", "loop", &image, &place])?;
    let mut device = None;
    for (host, name) in pair.hosts.iter_mut().zip(["alice", "bob"]) {
        let file = xfs.join(format!("{name}.disk"));
        disk::create(&file, DISK_BYTES)?;
        host.data[0] = file;
    }
    if has_loop {
        let over = Loop::new(&pair.hosts[1].data[0])?;
        pair.hosts[1].data[0] = over.device().into();
        device = Some(over);
    }
    // Our commands, by their names, where a handler finds them.
    let commands = pair.scratch.join("commands");
    fs::create_dir(&commands)?;
    for name in ["rdbadm", "rdbsetup"] {
        symlink(programs::ours("rdbadm")?, commands.join(name))?;
    }
    let commands = commands.display();
    let words = format!("RDBADM={commands}/rdbadm RDBSETUP={commands}/rdbsetup");
    let handlers = handlers(&scripts().display().to_string(), &words);
    pair.plan.conf.resource = format!("handlers {{ {handlers} }}");
    pair.write_conf()?;
    pair.begin()?;
    pair.sync_from(&pair.alice)?;
    Ok((pair, device))
}

fn xfs(pair: &Pair, name: &str) -> PathBuf {
    pair.scratch.join("xfs").join(name)
}

#[test]
fn the_snapshots_of_files_that_share_blocks_are_equal() -> Result<()> {
    let handlers = |scripts: &str, _: &str| format!("snapshot \"{scripts}/snapshot -v\";");
    let (mut pair, device) = pair("script-snapshot", true, handlers)?;
    let model = Model::new(64, 4000);
    let socket = pair.alice.nbd_socket();
    let load = Load::start(&socket, "r0/0", &model, 1, Pace::default())?;
    for n in 0..4 {
        load.progress(300)?;
        let name = format!("s{n}");
        pair.alice.adm(&["snapshot", "r0", "--name", &name])?;
        let copies = ["alice", "bob"].map(|node| xfs(&pair, &format!("{node}.disk.{name}")));
        disk::compare(&copies[0], &copies[1], disk::data_end(DISK_BYTES))?;
    }
    // One that is there already is not touched.
    let copy = xfs(&pair, "alice.disk.s0");
    let before = disk::fingerprint(&copy, DISK_BYTES)?;
    let again = pair.alice.try_adm(&["snapshot", "r0", "--name", "s0"])?;
    let told = again.fails_with(10)?;
    ensure!(told.contains("here: exit 1; peer: exit 1"), "{told}");
    ensure!(disk::fingerprint(&copy, DISK_BYTES)? == before);
    ensure!(
        pair.alice.log().contains("there is a snapshot 's0' of"),
        "{}",
        pair.alice.log_tail(20)
    );
    load.stop()?;
    // By hand it is removed.
    let file = pair.hosts[0].data[0].clone();
    let removed = Command::new(scripts().join("snapshot"))
        .args(["--remove", "s0"])
        .env("DRBD_LL_DISK", &file)
        .output()?;
    ensure!(removed.status.success() && !copy.exists(), "{removed:?}");
    ensure!(xfs(&pair, "alice.disk.s1").exists());
    pair.are_well()?;
    drop(device);
    Ok(())
}

/// Blocks are written while bob is away, and he comes back slowly.
fn outage(pair: &Pair, value: u8) -> Result<()> {
    pair.bob.adm(&["disconnect", "r0"])?;
    let mut client = pair.alice.nbd(0)?;
    for n in 0..32 {
        client.write(n << 20, &[value; 1 << 20])?;
    }
    client.flush()?;
    Ok(())
}

fn state(node: &Node, what: &str, is: impl Fn(&rdb_tests::status::Volume) -> bool) -> Result<()> {
    node.await_volume(what, 60, is)?;
    Ok(())
}

#[test]
fn a_resyncs_target_keeps_its_old_data_until_it_has_ended() -> Result<()> {
    let handlers = |scripts: &str, words: &str| {
        format!(
            "before-resync-target \"{words} {scripts}/snapshot-resync-target -d -v\"; \
             after-resync-target \"{words} {scripts}/unsnapshot-resync-target -v\";"
        )
    };
    let (mut pair, device) = pair("script-resync", false, handlers)?;
    let kept = xfs(&pair, "bob.disk.+before-resync");
    let is_gone = |what: &str| {
        wait_until(what, Duration::from_secs(30), || Ok(!kept.exists()))
            .with_context(|| pair.bob.log_tail(30))
    };
    is_gone("the end of the first one")?;
    outage(&pair, 1)?;
    let old = disk::fingerprint(&pair.hosts[1].data[0], disk::data_end(DISK_BYTES))?;
    // So slowly that it can be looked at, and broken off.
    let slow = "resync-rate 2M; c-plan-ahead 0;".to_owned();
    let quick = std::mem::replace(&mut pair.plan.conf.rate, slow);
    pair.write_conf()?;
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["disk-options", "r0"])?; // the pace is the one that was told last
    }
    pair.bob.adm(&["connect", "r0"])?;
    state(&pair.bob, "the resync", |volume| volume.cs == "SyncTarget")?;
    ensure!(disk::fingerprint(&kept, disk::data_end(DISK_BYTES))? == old);
    // Broken off: the disk is good for nothing, the snapshot is, and stays. So it does when the resync goes on.
    pair.bob.adm(&["disconnect", "--force", "r0"])?;
    let told = pair.bob.adm(&["after-resync-target", "r0"])?;
    ensure!(
        told.contains("is kept: the disk is Inconsistent/"),
        "{told}"
    );
    pair.bob.adm(&["connect", "r0"])?;
    state(&pair.bob, "the resync", |volume| volume.cs == "SyncTarget")?;
    ensure!(disk::fingerprint(&kept, disk::data_end(DISK_BYTES))? == old);
    pair.plan.conf.rate = quick;
    pair.write_conf()?;
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["disk-options", "r0"])?; // the pace is the one that was told last
    }
    pair.settle(60)?;
    is_gone("the end of the resync")?;
    pair.disks_equal()?;
    pair.are_well()?;
    drop(device);
    Ok(())
}

/// The disk is on a file system that shares no blocks: with `-d` the data is not overwritten, without it is.
#[test]
fn a_target_without_a_snapshot_is_overwritten_or_not_as_it_is_told() -> Result<()> {
    for (option, goes_on) in [("-d", false), ("-v", true)] {
        let mut pair = Pair::fresh("script-refused", Plan::default())?;
        let scripts = scripts();
        let scripts = scripts.display();
        // (Wherever the test runs: a folder elsewhere shares no blocks with the disk.)
        let folder = tempfile::tempdir_in("/dev/shm")?;
        let place = folder.path().display();
        pair.plan.conf.resource = format!(
            "handlers {{ before-resync-target \"{scripts}/snapshot-resync-target {option} --dir {place}\"; }}"
        );
        pair.write_conf()?;
        pair.up()?;
        pair.alice.adm(&["primary", "--force", "r0"])?;
        match goes_on {
            true => pair.settle(60)?,
            false => state(&pair.bob, "the refusal", |volume| volume.cs == "StandAlone")?,
        }
        let told = "no snapshot of";
        ensure!(pair.bob.logged(told) > 0, "{}", pair.bob.log_tail(30));
        ensure!(fs::read_dir(folder.path())?.next().is_none());
        pair.are_well()?;
    }
    Ok(())
}

/// Backing files without a node, and a folder `kept` for copies of them. Each disk is UpToDate, as far as the scripts are told.
struct Files(Scratch);

impl Files {
    /// Files of these names, whose text is their name.
    fn new(name: &str, files: &[&str]) -> Result<Files> {
        let scratch = Scratch::new(name)?;
        fs::create_dir(scratch.join("kept"))?;
        for file in files {
            let path = scratch.join(file);
            fs::create_dir_all(path.parent().context("a file in a folder")?)?;
            fs::write(path, file)?;
        }
        let states = scratch.join("rdbsetup");
        fs::write(&states, "#!/bin/sh\necho UpToDate/UpToDate\n")?;
        fs::set_permissions(&states, fs::Permissions::from_mode(0o755))?;
        Ok(Files(scratch))
    }

    /// Runs a script for the backing files of these names. Its exit code and what it says.
    fn run(&self, script: &str, words: &[&str], files: &[&str]) -> Result<(Option<i32>, String)> {
        let path = |file: &&str| self.0.join(file).display().to_string();
        let disks: Vec<_> = files.iter().map(path).collect();
        let output = Command::new(scripts().join(script))
            .args(["-v", "--copy"])
            .args(words)
            .env("DRBD_LL_DISK", disks.join(" "))
            .env("DRBD_MINOR", "0")
            .env("RDB_SNAPSHOT", "x")
            .env("RDBSETUP", self.0.join("rdbsetup"))
            .env("RDBADM", "true")
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((output.status.code(), text))
    }

    /// The same of one that ends well.
    fn must(&self, script: &str, words: &[&str], files: &[&str]) -> Result<()> {
        let (code, text) = self.run(script, words, files)?;
        ensure!(
            code == Some(0),
            "{script} {words:?} {files:?}: {code:?} {text}"
        );
        Ok(())
    }

    /// The texts of the files in a folder, sorted.
    fn texts(&self, folder: &str) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.0.join(folder))?;
        let text = |entry: std::io::Result<fs::DirEntry>| fs::read_to_string(entry?.path());
        let mut texts = entries.map(text).collect::<Result<Vec<_>, _>>()?;
        texts.sort();
        Ok(texts)
    }
}

/// Copies in one folder are of the disks that they are told to be of, however similar the names of these are.
#[test]
fn copies_in_one_folder_are_told_apart() -> Result<()> {
    let disks = ["r0/data", "r1/data", "r1%2Fdata", "r2/a/b", "r2%a/b"];
    let files = Files::new("script-folder", &disks)?;
    let kept = files.0.join("kept").display().to_string();
    let folder = ["--dir", &kept];
    // The volumes of one resource.
    files.must("snapshot", &folder, &disks)?;
    let mut all = disks.map(str::to_owned).to_vec();
    all.sort();
    ensure!(files.texts("kept")? == all, "{:?}", files.texts("kept"));
    files.must("snapshot", &["--dir", &kept, "--remove", "x"], &disks)?;
    ensure!(files.texts("kept")?.is_empty());
    // Two resyncs: the end of one leaves the other's copy alone.
    for disk in ["r0/data", "r1/data"] {
        files.must("snapshot-resync-target", &folder, &[disk])?;
    }
    ensure!(files.texts("kept")? == ["r0/data", "r1/data"]);
    files.must("unsnapshot-resync-target", &folder, &["r1/data"])?;
    ensure!(files.texts("kept")? == ["r0/data"]);
    Ok(())
}

/// What the scripts make for themselves is no snapshot of the administrator's, whatever he calls his.
#[test]
fn the_scripts_own_names_are_nobody_elses() -> Result<()> {
    let files = Files::new("script-names", &["r0/data"])?;
    let disk = ["r0/data"];
    let snapshot = |name: &str| {
        let path = files.0.join("r0/data").display().to_string();
        let output = Command::new(scripts().join("snapshot"))
            .arg("--copy")
            .env("DRBD_LL_DISK", path)
            .env("RDB_SNAPSHOT", name)
            .output()?;
        Ok::<_, anyhow::Error>(output.status.code())
    };
    ensure!(snapshot("before-resync")? == Some(0));
    fs::write(files.0.join("r0/data"), "later")?;
    files.must("snapshot-resync-target", &["-d"], &disk)?;
    ensure!(files.texts("r0")? == ["later", "later", "r0/data"]);
    files.must("unsnapshot-resync-target", &[], &disk)?;
    ensure!(files.texts("r0")? == ["later", "r0/data"]);
    // Nor is what is written before it has the name.
    ensure!(snapshot("x.new")? == Some(0));
    ensure!(snapshot("x")? == Some(0));
    files.must("snapshot", &["--remove", "x"], &disk)?;
    ensure!(files.0.join("r0/data.x.new").exists());
    // The one before a resync that has never ended is removed by hand, and can not be taken so.
    files.must("snapshot-resync-target", &[], &disk)?;
    files.must("snapshot", &["--remove", "+before-resync"], &disk)?;
    ensure!(files.texts("r0")? == ["later", "later", "r0/data"]);
    ensure!(snapshot("+before-resync")? == Some(64));
    Ok(())
}

/// What is not there is not said to be removed; what is left of one that was broken off is.
#[test]
fn what_is_not_there_is_not_removed() -> Result<()> {
    let files = Files::new("script-none", &["r0/data", "r1/data"])?;
    let disks = ["r0/data", "r1/data"];
    let remove = ["--remove", "x"];
    files.must("snapshot", &[], &["r1/data"])?;
    let (code, text) = files.run("snapshot", &remove, &disks)?;
    let told = format!(
        "there is no snapshot 'x' of {}\n",
        files.0.join("r0/data").display()
    );
    ensure!(
        code == Some(1) && text.contains(&told) && text.matches("is removed").count() == 1,
        "{code:?} {text}"
    );
    ensure!(files.texts("r1")? == ["r1/data"], "the other's stays");
    fs::write(files.0.join("r0/data.x+new"), "a part")?;
    files.must("snapshot", &remove, &["r0/data"])?;
    ensure!(files.texts("r0")? == ["r0/data"]);
    // A command knows by itself what there is.
    let exec = "[ $SNAPSHOT_ACTION = exists ] && exit 1; echo $SNAPSHOT_ACTION";
    let words = ["--exec", exec, "--remove", "x"];
    let (code, text) = files.run("snapshot", &words, &["r0/data"])?;
    ensure!(code == Some(1) && text.ends_with(&told), "{code:?} {text}");
    Ok(())
}

/// What is wrong with a call is said, and nothing is done.
#[test]
fn misuse_is_told() -> Result<()> {
    let run = |script: &str, words: &[&str], environment: &[(&str, &str)]| {
        let output = Command::new(scripts().join(script))
            .args(words)
            .env_clear()
            .env("PATH", "/usr/bin:/bin") // (without LVM, which would look at every device here)
            .envs(environment.iter().copied())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok::<_, anyhow::Error>((output.status.code(), text))
    };
    let disk = ("DRBD_LL_DISK", "/dev/null");
    let target = [disk, ("DRBD_MINOR", "0")];
    let named = [disk, ("RDB_SNAPSHOT", "s")];
    for (script, words, environment, expected) in [
        (
            "snapshot",
            &["--nonsense"][..],
            &named[..],
            "unknown option: --nonsense",
        ),
        ("snapshot", &["-p", "ten"], &named, "-p wants a number"),
        (
            "snapshot",
            &["--dir", "/does/not/exist"],
            &named,
            "--dir wants a folder",
        ),
        ("snapshot", &[], &[], "DRBD_LL_DISK is not set"),
        (
            "snapshot",
            &[],
            &[disk, ("RDB_SNAPSHOT", "../x")],
            "is no name of a snapshot",
        ),
        (
            "snapshot",
            &["--remove", "$(id)"],
            &[disk],
            "is no name of a snapshot",
        ),
        (
            "snapshot-resync-target",
            &["-x"],
            &target,
            "unknown option: -x",
        ),
        (
            "snapshot-resync-target",
            &[],
            &[disk],
            "DRBD_MINOR are not set",
        ),
        (
            "unsnapshot-resync-target",
            &["-a"],
            &target,
            "-a wants a number",
        ),
    ] {
        let (code, text) = run(script, words, environment)?;
        ensure!(
            code == Some(64) && text.contains(expected),
            "{script} {words:?}: {code:?} {text}"
        );
    }
    // A device that is nothing of what they know.
    let (code, _) = run("snapshot", &[], &named)?;
    ensure!(code == Some(1), "{code:?}");
    // A command of the administrator's takes their place.
    let exec =
        "[ $SNAPSHOT_ACTION != exists ] && echo $SNAPSHOT_ACTION $SNAPSHOT_DISK $SNAPSHOT_NAME";
    let (code, text) = run("snapshot", &["--exec", exec], &named)?;
    ensure!(
        code == Some(0) && text == "take /dev/null s\n",
        "{code:?} {text}"
    );
    Ok(())
}
