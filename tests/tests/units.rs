//! The units of `packaging/units`, as far as that goes without a systemd that runs: systemd finds no mistake in them, and their scripts do
//! what they are for.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::programs::{directory, shellcheck, tool};
use rdb_tests::scratch::Scratch;
use rdb_tests::{Node, Pair, wait_until};

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

/// Copies the units, with our programs where they are now, and makes an instance of each template.
fn staged(scratch: &Scratch) -> Result<Vec<PathBuf>> {
    let folder = scratch.join("units");
    std::fs::create_dir_all(&folder)?;
    let programs = directory()?.display().to_string();
    let lib = packaging()
        .join("lib")
        .canonicalize()?
        .display()
        .to_string();
    let mut files = vec![packaging().join("rdbd.service")];
    for entry in std::fs::read_dir(packaging().join("units"))? {
        files.push(entry?.path());
    }
    let mut instances = Vec::new();
    for file in files {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(&file)?
            .replace("/usr/sbin/", &format!("{programs}/"))
            .replace("/usr/lib/rdb/", &format!("{lib}/"));
        std::fs::write(folder.join(&name), text)?;
        instances.push(folder.join(name.replace('@', "@r0")));
    }
    Ok(instances)
}

#[test]
fn systemd_finds_no_mistake_in_the_units() -> Result<()> {
    let scratch = Scratch::new("units")?;
    let units = staged(&scratch)?;
    ensure!(units.len() > 10, "{units:?}");
    let output = Command::new(tool("systemd-analyze")?)
        .args(["verify", "--man=no"])
        .args(&units)
        .env(
            "SYSTEMD_UNIT_PATH",
            format!("{}:", scratch.join("units").display()),
        )
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("rdb") || line.contains("drbd"))
        .collect();
    ensure!(ours.is_empty() && output.status.success(), "{said}");
    Ok(())
}

/// systemd's own judgement of the unit, in tenths: security.md has the numbers of one version, and others weigh a little differently.
#[test]
fn the_unit_with_what_hardened_conf_takes_away_is_judged_below_5() -> Result<()> {
    let scratch = Scratch::new("hardened")?;
    staged(&scratch)?;
    let units = scratch.join("units");
    let alone = std::fs::read_to_string(units.join("rdbd.service"))?;
    let more = std::fs::read_to_string(packaging().join("hardened.conf"))?;
    for (name, text, most) in [
        ("alone.service", alone.clone(), 89),
        ("hardened.service", alone + &more, 49),
    ] {
        let file = units.join(name);
        std::fs::write(&file, text)?;
        let output = Command::new(tool("systemd-analyze")?)
            .args(["security", "--no-pager", "--offline=yes"])
            .arg(format!("--threshold={most}"))
            .arg(&file)
            .output()?;
        let level = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{name}: more than {most}\n{level}");
    }
    Ok(())
}

#[test]
fn the_scripts_are_plain_shell_without_a_complaint_of_shellcheck() -> Result<()> {
    let names = [
        "demote-or-escalate",
        "fstab-generator",
        "lvchange",
        "package",
        "startup",
        "suspend-or-error",
        "unmount",
        "wait-promotable",
    ];
    shellcheck(&names.map(|name| packaging().join("lib").join(name)))
}

/// A script of `packaging/lib`, as a unit runs it on this node.
fn script(node: &Node, name: &str, words: &[&str], variables: &[(&str, &str)]) -> Result<Child> {
    let file = packaging().join("lib").join(name);
    let like = node.command("rdbadm", 0)?;
    let mut command = Command::new(file);
    let links = node.run_dir.join("links");
    if !links.exists() {
        std::fs::create_dir_all(&links)?;
        std::os::unix::fs::symlink(directory()?.join("rdbadm"), links.join("rdbsetup"))?;
    }
    for (key, value) in like.get_envs() {
        if let Some(value) = value {
            command.env(key, value);
        }
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let programs = directory()?;
    let path = format!("{}:{}:{path}", links.display(), programs.display());
    command
        .env("PATH", path)
        .args(words)
        .envs(variables.iter().copied());
    Ok(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

fn ends(mut child: Child) -> Result<Option<i32>> {
    let mut status = None;
    wait_until("the script's end", Duration::from_secs(60), || {
        status = child.try_wait()?;
        Ok(status.is_some())
    })?;
    Ok(status.and_then(|status| status.code()))
}

#[test]
fn the_scripts_of_the_units_wait_demote_and_fail_as_their_units_say() -> Result<()> {
    let mut pair = Pair::synced("units", Plan::default())?;
    // The peer is Primary: it is waited for.
    let mut waits = script(&pair.bob, "wait-promotable", &["r0"], &[])?;
    std::thread::sleep(Duration::from_millis(1500));
    ensure!(waits.try_wait()?.is_none(), "it has not waited");

    // Who has the device open keeps it Primary, and the unit fails, which is what its FailureAction is for.
    let client = pair.alice.nbd(0)?;
    let tries = [("RDB_DEMOTE_TRIES", "2")];
    let fails = script(&pair.alice, "demote-or-escalate", &["r0"], &tries)?;
    ensure!(ends(fails)? == Some(1));
    ensure!(pair.alice.volume(0)?.ro == "Primary/Secondary");
    // One that goes in time does not.
    let demotes = script(&pair.alice, "demote-or-escalate", &["r0"], &[])?;
    std::thread::sleep(Duration::from_millis(500));
    drop(client);
    ensure!(ends(demotes)? == Some(0));
    ensure!(pair.alice.volume(0)?.ro == "Secondary/Secondary");
    ensure!(ends(waits)? == Some(0));

    pair.are_well()
}

#[test]
fn users_that_wait_for_data_get_errors_when_their_unit_stops() -> Result<()> {
    let mut pair = Pair::synced("units-no-data", Plan::default())?;
    let set = script(&pair.alice, "suspend-or-error", &["r0", "suspend-io"], &[])?;
    ensure!(ends(set)? == Some(0));
    let mut client = pair.alice.nbd(0)?;
    client.write(0, &[1; 4096])?;
    pair.bob.kill()?;
    pair.alice
        .await_volume("WFConnection", 30, |volume| volume.cs == "WFConnection")?;
    pair.alice.adm(&["detach", "--force", "r0"])?;
    let user = std::thread::spawn(move || client.write(4096, &[2; 4096]));
    wait_until("a user who waits", Duration::from_secs(20), || {
        Ok(pair.alice.adm(&["status"])?.contains("suspended:no-data"))
    })?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(!user.is_finished(), "nobody waits");
    let set = script(&pair.alice, "suspend-or-error", &["r0", "io-error"], &[])?;
    ensure!(ends(set)? == Some(0));
    wait_until("the user's error", Duration::from_secs(20), || {
        Ok(user.is_finished())
    })?;
    ensure!(user.join().is_ok_and(|written| written.is_err()));
    pair.alice.adm(&["secondary", "r0"])?;
    pair.alice.is_well()
}

/// Only disks that are logical volumes are activated and deactivated; LVM's commands are played here.
#[test]
fn the_logical_volumes_below_a_resource_are_activated() -> Result<()> {
    let pair = Pair::prepare("units-lvm", Plan::with_volumes(2))?;
    let disk = pair.disk(0, 1).display().to_string();
    let bin = pair.scratch.join("bin");
    std::fs::create_dir_all(&bin)?;
    let played = pair.scratch.join("played");
    for (name, text) in [
        ("lvs", format!("[ \"$1\" = {disk} ]")),
        (
            "lvchange",
            format!(
                "echo \"$@\" >> {}; [ ! -e {}.fails ]",
                played.display(),
                played.display()
            ),
        ),
    ] {
        let file = bin.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n"))?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    }
    let path = format!(
        "{}:{}:{}",
        bin.display(),
        directory()?.display(),
        std::env::var("PATH")?
    );
    for way in ["y", "n"] {
        ensure!(
            ends(script(
                &pair.alice,
                "lvchange",
                &["r0", way],
                &[("PATH", &path)]
            )?)? == Some(0)
        );
    }
    let said = std::fs::read_to_string(&played)?;
    ensure!(
        said == format!("--activate y {disk}\n--activate n {disk}\n"),
        "{said}"
    );
    std::fs::write(pair.scratch.join("played.fails"), "")?;
    ensure!(
        ends(script(
            &pair.alice,
            "lvchange",
            &["r0", "y"],
            &[("PATH", &path)]
        )?)? == Some(1)
    );
    ensure!(
        ends(script(
            &pair.alice,
            "lvchange",
            &["r9", "y"],
            &[("PATH", &path)]
        )?)? == Some(1)
    );
    Ok(())
}

/// What systemd mounts of `/etc/fstab` it waits a device unit for, which no device of rdb's has: the generator names them by another path.
#[test]
fn a_line_of_fstab_for_our_device_needs_no_device_unit() -> Result<()> {
    tool("systemd-escape")?;
    let scratch = Scratch::new("fstab")?;
    let fstab = scratch.join("fstab");
    let text = "# /dev/drbd9 /commented ext4 nofail 0 0\n\
        UUID=1 / ext4 defaults 0 1\n\
        \t/dev/drbd0\t/srv/data  xfs nofail 0 0\n\
        /dev/drbd/by-res/a%b/0 /srv/a\\040$(x)\\134b ext4 noauto\n\
        /dev/drbd1 none swap sw 0 0\n\
        /dev/drbd2 relative ext4 noauto 0 0\n\
        /dev/drbd3\n\
        /dev/drbdx /other ext4 noauto 0 0\n\
        /dev/nb0 /old ext2 noauto 0 0";
    std::fs::write(&fstab, text)?;
    let normal = scratch.join("normal");
    let status = Command::new(packaging().join("lib/fstab-generator"))
        .arg(&normal)
        .env("RDB_FSTAB", &fstab)
        .status()?;
    ensure!(status.success(), "{status}");
    let mut units: Vec<String> = std::fs::read_dir(&normal)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    units.sort();
    let odd = r"srv-a\x20\x24\x28x\x29\x5cb.mount.d";
    ensure!(
        units == ["old.mount.d", odd, "srv-data.mount.d"],
        "{units:?}"
    );
    for (unit, what) in [
        ("old.mount.d", "/proc/self/root/dev/nb0"),
        (odd, "/proc/self/root/dev/drbd/by-res/a%%b/0"),
        ("srv-data.mount.d", "/proc/self/root/dev/drbd0"),
    ] {
        let text = std::fs::read_to_string(normal.join(unit).join("50-rdb.conf"))?;
        ensure!(
            text.contains(&format!("[Mount]\nWhat={what}\n")),
            "{unit}: {text}"
        );
    }
    Ok(())
}

/// A name of a resource may have everything but blanks and `/`, and the path of a disk may have those, too: to a shell they are patterns, and
/// several words. Programs that say so, and write down what they are told, are played here.
#[test]
fn what_a_shell_would_read_something_into_is_taken_as_it_is() -> Result<()> {
    let scratch = Scratch::new("units-odd")?;
    let folder = scratch.join("here");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("file"), "")?;
    let told = scratch.join("told");
    let odd = r#"*$(touch${IFS}made)"'\"#;
    let disks = "/srv/my group/*\n/srv/it's \\n;a\n";
    let write = |name: &str, text: &str| -> Result<()> {
        let file = scratch.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n"))?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
        Ok(())
    };
    std::fs::write(scratch.join("names"), format!("{odd} f* r0\n"))?;
    std::fs::write(scratch.join("disks"), disks)?;
    let log = format!("printf '%s\\n' \"$*\" >>{}", told.display());
    let names = scratch.join("names").display().to_string();
    let asked = format!(
        "case $1 in\nsh-resources) cat {names} ;;\nsh-ll-dev) cat {} ;;\nsh-md-dev) echo ;;\nsh-minor) echo 0 ;;\nsh-dev) ;;\nrole) echo Unconfigured ;;\n*) {log} ;;\nesac",
        scratch.join("disks").display()
    );
    write("rdbadm", &asked)?;
    write("lvs", "exit 0")?;
    write("lvchange", &log)?;
    let path = format!("{}:{}", scratch.path().display(), std::env::var("PATH")?);
    let run = |script: &Path, words: &[&str]| -> Result<String> {
        let _ = std::fs::remove_file(&told);
        let status = Command::new(script)
            .args(words)
            .current_dir(&folder)
            .env("PATH", &path)
            .env("RDBADM", scratch.join("rdbadm"))
            .env("RDB_RUN_DIR", scratch.join("nowhere"))
            .status()?;
        ensure!(status.success(), "{}: {status}", script.display());
        Ok(std::fs::read_to_string(&told)?)
    };
    let lib = packaging().join("lib");
    let text = run(&lib.join("lvchange"), &[odd, "n"])?;
    let lines = "--activate n /srv/it's \\n;a\n--activate n /srv/my group/*\n";
    ensure!(text == lines, "{text}");
    let text = run(&lib.join("startup"), &["stop"])?;
    ensure!(text == format!("down {odd}\ndown f*\ndown r0\n"), "{text}");
    let text = run(&lib.join("demote-or-escalate"), &[odd])?;
    ensure!(text == format!("secondary {odd}\n"), "{text}");
    let text = run(&packaging().join("etc/drbddisk"), &[odd, "start"])?;
    ensure!(text.starts_with(&format!("adjust {odd}\n")), "{text}");
    ensure!(text.ends_with(&format!("primary {odd}\n")), "{text}");
    let there: Vec<_> = std::fs::read_dir(&folder)?.collect();
    ensure!(there.len() == 1, "a name was run: {there:?}");
    Ok(())
}
