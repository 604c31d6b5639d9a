//! Checks, tests, benchmarks: which commands make them up.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{circles, package, run, setup, targets};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out formatting, clippy and documentation
    #[arg(long)]
    only_tests: bool,
}

/// Everything CI asks for. The last line printed is nextest's summary.
pub(crate) fn all(options: &Options) -> Result<()> {
    setup::ensure()?;
    if !options.only_tests {
        check()?;
    }
    binaries(false)?;
    run::must(&mut run::cargo(&["xtask", "demo", "--fast"]))?;
    sim(&["--ci".into()])?;
    sim(&["--mutations", "--seeds", "3000"].map(String::from))?;
    package::checked()?;
    fuzz(Some("engine"), 20)?;
    targets::formats()?;
    nextest(&["--workspace", "--no-fail-fast"])
}

/// What a change must pass before any test runs.
pub(crate) fn check() -> Result<()> {
    run::must(&mut run::cargo(&["fmt", "--all", "--check"]))?;
    circles::check()?;
    no_marks_of_a_merge()?;
    run::must(&mut run::cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    run::must(
        run::cargo(&["doc", "--workspace", "--no-deps", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// What two branches wrote in one place is joined by somebody: no text has git's marks. (In a page nothing else would notice.)
fn no_marks_of_a_merge() -> Result<()> {
    let marks = ["<".repeat(7), ">".repeat(7)].map(|mark| mark + " ");
    let mut folders = vec![run::root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            if path.is_symlink() || name == "target" || name == ".git" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // What is no text has no lines.
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let is_mark = |line: &str| marks.iter().any(|mark| line.starts_with(mark));
            if let Some(at) = text.lines().position(is_mark) {
                bail!("{}:{}: marks of a merge", path.display(), at + 1);
            }
        }
    }
    Ok(())
}

/// The whole-program tests.
pub(crate) fn e2e(arguments: &[String]) -> Result<()> {
    setup::ensure()?;
    binaries(false)?;
    let mut words = vec!["--package", "rdb-tests"];
    words.extend(arguments.iter().map(String::as_str));
    nextest(&words)
}

/// Builds the programs that tests, demonstration and benchmark drive, and shows that; returns where they are.
pub(crate) fn binaries(release: bool) -> Result<std::path::PathBuf> {
    let mut command = run::cargo(&[
        "build", "-p", "rdbd", "-p", "rdbadm", "-p", "rdbmon", "--bins",
    ]);
    if release {
        command.arg("--release");
    }
    run::must(&mut command)?;
    Ok(run::target().join(if release { "release" } else { "debug" }))
}

/// nextest speaks on stderr; so that a summary is the last line wherever a log keeps stdout and
/// stderr apart, both are one here.
fn nextest(arguments: &[&str]) -> Result<()> {
    let mut command = run::cargo(&["nextest", "run"]);
    command
        .args(arguments)
        .env("RDB_BIN_DIR", run::target().join("debug"));
    command.stdout(std::io::stderr());
    eprintln!("--- cargo nextest run {}", arguments.join(" "));
    let status = command.status()?;
    if !status.success() {
        // nextest has said what failed; a line of ours would come after its summary.
        std::process::exit(status.code().unwrap_or(1));
    }
    Ok(())
}

/// The simulator, optimised and with every check. It has said what failed, so its exit code is ours.
pub(crate) fn sim(arguments: &[String]) -> Result<()> {
    let mut words = vec!["run", "--quiet", "--profile", "sim", "-p", "rdb-sim"];
    let planted = |word: &String| word == "--mutations" || word == "--plant";
    if arguments.iter().any(planted) {
        words.extend(["--features", "planted-bugs"]);
    }
    words.push("--");
    let status = run::cargo(&words).args(arguments).status()?;
    if !status.success() {
        std::process::exit(status.code().unwrap_or(1));
    }
    Ok(())
}

/// The benchmark beside other programs, with release binaries.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    setup::need(&["fio", "nbdinfo", "qemu-nbd", "python3"])?;
    let binaries = binaries(true)?;
    run::must(
        Command::new(run::root().join("benches/side-by-side/run"))
            .args(arguments)
            .env("RDB_BIN_DIR", binaries),
    )
}

/// `tests/monitors/try`: other people's monitors, unmodified, on a running pair.
pub(crate) fn monitors() -> Result<()> {
    setup::need(&[
        "apt-get", "curl", "dpkg-deb", "drbdmon", "script", "unshare",
    ])?;
    run::must(
        Command::new(run::root().join("tests/monitors/try"))
            .arg(run::target().join("monitors"))
            .arg(binaries(false)?),
    )
}

/// Runs `benches/patience`.
pub(crate) fn patience(arguments: &[String]) -> Result<()> {
    setup::need(&["nbdsh", "nsenter", "nft", "losetup"])?;
    let binaries = binaries(true)?;
    run::must(
        Command::new(run::root().join("benches/patience/patience.py"))
            .args(arguments)
            .env("RDB_BIN_DIR", binaries),
    )
}

/// Coverage instrumentation of the stable compiler, as libFuzzer wants it.
const FUZZ_FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1";

/// Runs one fuzz target, or lists them.
pub(crate) fn fuzz(target: Option<&str>, seconds: u32) -> Result<()> {
    let directory = run::root().join("fuzz");
    let targets = directory.join("fuzz_targets");
    let mut known: Vec<String> = match std::fs::read_dir(&targets) {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()))
            .collect(),
        Err(error) => bail!("no fuzz targets in {}: {error}", targets.display()),
    };
    known.sort();
    let Some(target) = target else {
        println!("{}", known.join("\n"));
        return Ok(());
    };
    if !known.iter().any(|name| name == target) {
        bail!("no fuzz target {target}; there are: {}", known.join(", "));
    }
    let corpus = directory.join("corpus").join(target);
    std::fs::create_dir_all(&corpus)?;
    // A target that wants long inputs begins with some.
    let seeds = directory.join("seeds").join(target);
    let seeds = seeds.is_dir().then_some(seeds);
    run::must(
        run::cargo(&[
            "run",
            "--quiet",
            "--release",
            "--target",
            "x86_64-unknown-linux-gnu",
            "--bin",
            target,
        ])
        .current_dir(&directory)
        .env("RUSTFLAGS", FUZZ_FLAGS)
        .arg("--")
        .arg(corpus)
        .args(seeds)
        .arg("-use_value_profile=1")
        .arg("-print_final_stats=1")
        .arg(format!("-max_total_time={seconds}")),
    )
}
