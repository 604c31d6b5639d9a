//! Builds for other targets than this machine's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{run, setup, test};

/// Programs that need no libraries.
const STATIC: &str = "x86_64-unknown-linux-musl";
/// The same for aarch64: the compiler's own linker is enough for it, and an emulator needs no other system's files.
const EMULATED: &str = "aarch64-unknown-linux-musl";
/// Runs programs of [`EMULATED`].
const EMULATOR: &str = "qemu-aarch64";
/// What has to compile, at least.
const CHECKED: [&str; 2] = ["aarch64-unknown-linux-gnu", STATIC];
const PROGRAMS: [&str; 7] = ["-p", "rdbd", "-p", "rdbadm", "-p", "rdbmon", "--bins"];
/// Crates that compute, and so can be tested where there is no `io_uring`; and the engine.
const PURE: [&str; 4] = ["replica-proto", "rdb-meta", "rdb-config", "rdb-control"];
/// Tests of theirs that look at how long something takes, which says nothing under an emulator.
const TIMED: [&str; 2] = [
    "a_mebibyte_of_anything_is_read_in_no_time",
    "many_errors_take_no_longer_than_many_lines",
];
/// Tests of the engine that are done soon: those that search would take hours.
const ENGINE_TESTS: [&str; 5] = ["drbd_9", "hostile_peer", "integrity", "settings", "verify"];
/// What two machines have to agree on, whatever their processors are: tests of the bytes on disk and on the wire.
const FORMATS: [&str; 5] = ["-p", "replica-proto", "-p", "rdb-meta", "--lib"];
const FORMATS_TESTS: [&str; 11] = [
    "activity_log",
    "captures",
    "captures_of_9",
    "create_md",
    "images",
    "layout",
    "packets",
    "pitfalls",
    "roundtrip",
    "spec",
    "superblock",
];

/// Builds the daemon and the commands without any library, and says where they are.
pub(crate) fn build_static(debug: bool) -> Result<()> {
    add(STATIC)?;
    let mut command = run::cargo(&["build", "--target", STATIC]);
    command.args(PROGRAMS).args((!debug).then_some("--release"));
    run::must(&mut command)?;
    let profile = if debug { "debug" } else { "release" };
    println!("{}", run::target().join(STATIC).join(profile).display());
    Ok(())
}

/// Has the compiler look at the daemon and the commands for each target. That needs no linker of theirs.
pub(crate) fn check() -> Result<()> {
    for target in CHECKED {
        add(target)?;
        run::must(run::cargo(&["check", "--target", target]).args(PROGRAMS))?;
    }
    Ok(())
}

/// The tests of both formats on an emulated aarch64, which is what CI has the time for.
pub(crate) fn formats() -> Result<()> {
    run::must(emulated("test")?.args(FORMATS).args(named(&FORMATS_TESTS)))
}

/// rdbmeta on an emulated aarch64, beside this machine's; then tests of crates that compute.
pub(crate) fn run_emulated() -> Result<()> {
    run::must(emulated("build")?.args(["-p", "rdbadm", "--bin", "rdbadm"]))?;
    let theirs = run::target().join(EMULATED).join("debug").join("rdbadm");
    metadata_are_alike(&theirs, &test::binaries(false)?.join("rdbadm"))?;
    run::must(
        emulated("test")?
            .args(PURE.iter().flat_map(|name| ["-p", name]))
            .args(["--no-fail-fast", "--lib", "--tests", "--"])
            .args(TIMED.iter().flat_map(|name| ["--skip", name])),
    )?;
    run::must(
        emulated("test")?
            .args(["-p", "rdb-engine", "--no-fail-fast", "--lib"])
            .args(named(&ENGINE_TESTS)),
    )
}

/// These test programs, as cargo wants them.
fn named<'a>(tests: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    tests.iter().flat_map(|name| ["--test", *name])
}

/// cargo, for the emulated target.
fn emulated(verb: &str) -> Result<Command> {
    setup::need(&[EMULATOR])?;
    add(EMULATED)?;
    let mut command = run::cargo(&[verb, "--target", EMULATED]);
    let name = EMULATED.to_uppercase().replace('-', "_");
    command
        .env(format!("CARGO_TARGET_{name}_LINKER"), "rust-lld")
        .env(format!("CARGO_TARGET_{name}_RUNNER"), EMULATOR);
    Ok(command)
}

/// Each of the two makes metadata, and both read those of each: what they print has to be the same.
fn metadata_are_alike(emulated: &Path, native: &Path) -> Result<()> {
    let folder = run::target().join("emulated");
    std::fs::create_dir_all(&folder)?;
    for (name, makes) in [("emulated", emulated), ("native", native)] {
        let disk = folder.join(format!("{name}.disk"));
        std::fs::File::create(&disk)?.set_len(DISK_BYTES)?;
        meta(makes, makes == emulated, &disk, &["create-md"])?;
        meta(
            makes,
            makes == emulated,
            &disk,
            &["set-gi", "--force", GENERATIONS],
        )?;
        let dumps = [emulated, native].map(|reads| {
            let dump = meta(reads, reads == emulated, &disk, &["dump-md"])?;
            // Before that: the time, and how it was called.
            let from = dump
                .find("version \"v08\";")
                .context("no metadata are printed")?;
            anyhow::Ok(dump[from..].to_owned())
        });
        let [theirs, ours] = dumps;
        let (theirs, ours) = (theirs?, ours?);
        if theirs != ours {
            bail!("metadata of {name}: emulated\n{theirs}\nnative\n{ours}");
        }
        if !ours.contains("0x0123456789ABCDEF") {
            bail!("metadata of {name} have not the generation that was set:\n{ours}");
        }
    }
    println!("metadata made on either are the same to both");
    Ok(())
}

const DISK_BYTES: u64 = 64 << 20;
const GENERATIONS: &str = "0123456789ABCDEF:0:0:0";

/// `rdbmeta` on a disk; what it prints.
fn meta(program: &Path, is_emulated: bool, disk: &Path, words: &[&str]) -> Result<String> {
    let link = program.with_file_name("rdbmeta");
    if !link.exists() {
        std::os::unix::fs::symlink(PathBuf::from("rdbadm"), &link)?;
    }
    let mut command = match is_emulated {
        true => {
            let mut command = Command::new(EMULATOR);
            command.arg(&link);
            command
        }
        false => Command::new(&link),
    };
    command.args(["--force", "0", "v08"]).arg(disk);
    let output = command.arg("internal").args(words).output()?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Installs a target's standard library.
fn add(target: &str) -> Result<()> {
    run::must(
        Command::new("rustup")
            .args(["target", "add", target])
            .current_dir(run::root()),
    )
}
