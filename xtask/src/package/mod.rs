//! Packages for Debian and its kin by cargo-deb, rpms by cargo-generate-rpm, and an installation without either, all from the lists in
//! `crates/rdbd/Cargo.toml`.

mod install;
mod list;
mod rpm;
mod stage;
mod try_out;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

pub(crate) use self::install::{InstallOptions, install};
use self::list::PACKAGES;
use crate::run;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Pack the programs that the tests use, which are built faster
    #[arg(long)]
    debug: bool,
    /// Write rpms, too
    #[arg(long)]
    rpm: bool,
    /// Have lintian look at the packages; an error fails
    #[arg(long)]
    lint: bool,
    /// Install, upgrade, remove and purge them in a fresh Debian below target/package-try (as root; needs debootstrap)
    #[arg(long = "try")]
    is_tried: bool,
    /// Two machines of that kind: type what the guide says, then kill machines and daemons under the promoter (as root; needs debootstrap)
    #[arg(long = "try-pair")]
    is_pair_tried: bool,
    /// Which release of Debian that is
    #[arg(long, default_value = "bookworm")]
    debian: String,
    /// The same on a copy of this system, which has to be a Debian, without systemd (as root)
    #[arg(long, conflicts_with = "is_tried")]
    try_here: bool,
}

/// What CI does: packs the programs that it tests, looks at the packages, and tries them here.
pub(crate) fn checked() -> Result<()> {
    package(&Options {
        debug: true,
        rpm: false,
        lint: true,
        is_tried: false,
        is_pair_tried: false,
        debian: String::new(),
        try_here: true,
    })
}

/// The tools, each at the version that was tried.
const CARGO_DEB: (&str, &str) = ("cargo-deb", "3.8.0");
const CARGO_GENERATE_RPM: (&str, &str) = ("cargo-generate-rpm", "0.21.1");

/// Where packages are left.
fn results() -> PathBuf {
    run::target().join("packages")
}

/// Builds the packages, and does with them what is asked for.
pub(crate) fn package(options: &Options) -> Result<()> {
    let binaries = crate::test::binaries(!options.debug)?;
    stage::prepare(&binaries)?;
    let made = build(!options.debug)?;
    if options.rpm {
        rpm::build(&binaries)?;
    }
    if options.lint {
        lint(&made)?;
    }
    if options.is_tried || options.try_here {
        let release = options.is_tried.then_some(options.debian.as_str());
        try_out::run(&made, release)?;
    }
    if options.is_pair_tried {
        try_out::run_pair(&made, &options.debian)?;
    }
    for package in &made {
        println!("{}", package.display());
    }
    Ok(())
}

/// The Debian packages, in the order of [`PACKAGES`].
fn build(release: bool) -> Result<Vec<PathBuf>> {
    let tool = tool(CARGO_DEB)?;
    let folder = results();
    std::fs::create_dir_all(&folder)?;
    let mut made = Vec::new();
    for package in PACKAGES {
        let output = folder.join(format!("{}.deb", package.name));
        let mut command = Command::new(&tool);
        command
            .current_dir(run::root())
            .args(["--no-build", "--no-dbgsym", "--package", "rdbd", "--output"])
            .arg(&output);
        if let Some(variant) = package.variant {
            command.args(["--variant", variant]);
        }
        if !release {
            command.args(["--profile", "dev", "--fast"]);
        }
        run::must(command.arg("--strip"))?;
        made.push(output);
    }
    Ok(made)
}

/// A tool of this project alone, installed below target when it is not there in its version.
fn tool((name, version): (&str, &str)) -> Result<PathBuf> {
    let folder = run::target().join("tools");
    let path = folder.join("bin").join(name);
    let marker = folder.join(format!("{name}-{version}"));
    if !path.is_file() || !marker.is_file() {
        run::must(
            run::cargo(&[
                "install",
                "--locked",
                "--quiet",
                "--version",
                version,
                "--root",
            ])
            .arg(&folder)
            .env("CARGO_TARGET_DIR", folder.join("build"))
            .arg(name),
        )?;
        std::fs::write(marker, "")?;
    }
    Ok(path)
}

/// What is known of a package and meant to be so is in `packaging/debian/NAME.lintian-overrides`.
fn lint(packages: &[PathBuf]) -> Result<()> {
    crate::setup::need(&["lintian"])?;
    run::must(
        Command::new("lintian")
            .args([
                "--allow-root",
                "--fail-on",
                "error",
                "--tag-display-limit",
                "0",
            ])
            .args(packages),
    )
}

/// What stands in a file of ours.
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}
