//! Where programs are: ours in the directory cargo built them into, others' in the search path.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Chooses the directory with rdb's own programs; the first choice holds.
pub fn use_directory(directory: &Path) {
    CHOSEN.get_or_init(|| directory.to_owned());
}

/// The directory with rdb's own programs: the one chosen, else `RDB_BIN_DIR`, else where this test
/// was built.
///
/// # Errors
/// When it does not hold the daemon, saying how to build it.
pub fn directory() -> Result<PathBuf> {
    let directory = match (CHOSEN.get(), std::env::var_os("RDB_BIN_DIR")) {
        (Some(directory), _) => directory.clone(),
        (None, Some(directory)) => PathBuf::from(directory),
        (None, None) => {
            let test = std::env::current_exe()?;
            let up = test.parent().context("a test lies in a directory")?;
            if up.ends_with("deps") {
                up.parent().unwrap_or(up).to_owned()
            } else {
                up.to_owned()
            }
        }
    };
    for program in ["rdbd", "rdbadm"] {
        if !directory.join(program).is_file() {
            bail!(
                "{} is missing: run `cargo build --bins`",
                directory.join(program).display()
            );
        }
    }
    Ok(directory)
}

/// One of rdb's own programs.
///
/// # Errors
/// As [`directory`]; when it does not hold this one.
pub fn ours(program: &str) -> Result<PathBuf> {
    let file = directory()?.join(program);
    if !file.is_file() {
        bail!("{} is missing: run `cargo build --bins`", file.display());
    }
    Ok(file)
}

/// The packages list of the project, for naming what is missing.
const PACKAGES: &str = include_str!("../../.ci/packages");

/// A program that others wrote.
///
/// # Errors
/// When it is not installed, naming its package.
pub fn tool(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory: PathBuf| directory.join(program))
        .find(|file| file.is_file());
    if let Some(file) = found {
        return Ok(file);
    }
    let package = PACKAGES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .find(|line| line.split_whitespace().skip(1).any(|word| word == program))
        .and_then(|line| line.split_whitespace().next());
    match package {
        Some(package) => bail!("{program} is missing: install the package {package}"),
        None => bail!("{program} is missing"),
    }
}

/// Runs another's program, at most `seconds` long, and returns its standard output.
///
/// # Errors
/// When it fails, with everything it said.
pub fn run_tool<S: AsRef<str>>(seconds: u32, program: &str, arguments: &[S]) -> Result<String> {
    let output = try_tool(seconds, program, arguments)?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let words: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        bail!(
            "{program} {}: {}\n{stdout}{}",
            words.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(stdout)
}

/// Runs another's program, at most `seconds` long, whatever comes of it.
///
/// # Errors
/// When it is not installed or cannot be started.
pub fn try_tool<S: AsRef<str>>(seconds: u32, program: &str, arguments: &[S]) -> Result<Output> {
    let path = tool(program)?;
    bounded(seconds, &path)
        .args(arguments.iter().map(AsRef::as_ref))
        .output()
        .with_context(|| format!("cannot run {}", path.display()))
}

/// Has shellcheck look at scripts that are to be plain shell.
///
/// # Errors
/// When it is not installed; all that it complains of.
pub fn shellcheck<P: AsRef<Path>>(scripts: &[P]) -> Result<()> {
    let output = Command::new(tool("shellcheck")?)
        .args(["--shell=sh", "--severity=style"])
        .args(scripts.iter().map(AsRef::as_ref))
        .output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

/// A command that is killed after `seconds`.
#[must_use]
pub fn bounded(seconds: u32, program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", &seconds.to_string()]).arg(program);
    command.stdin(std::process::Stdio::null());
    command
}

/// Runs a script of `vm/` with these words and the directory of rdb's programs, for `seconds` at most. It boots virtual
/// machines, so the tools for that are looked for first.
///
/// # Errors
/// A tool that is missing, by its name; what the script printed if it fails.
pub fn in_virtual_machine(seconds: u32, script: &str, words: &[&str]) -> Result<()> {
    for program in [
        "qemu-system-x86_64",
        "busybox",
        "cpio",
        "depmod",
        "xz",
        "fio",
    ] {
        tool(program)?;
    }
    let output = bounded(seconds, "bash".as_ref())
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("vm")
                .join(script),
        )
        .args(words)
        .arg(directory()?)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{}\n{text}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    eprintln!("{text}");
    Ok(())
}
