//! Builds for other targets than this machine's.

use std::process::Command;

use anyhow::Result;

use crate::run;

/// Programs that need no libraries.
const STATIC: &str = "x86_64-unknown-linux-musl";
/// What has to compile, at least.
const CHECKED: [&str; 2] = ["aarch64-unknown-linux-gnu", STATIC];
const PROGRAMS: [&str; 7] = ["-p", "rdbd", "-p", "rdbadm", "-p", "rdbmon", "--bins"];

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

/// Installs a target's standard library.
fn add(target: &str) -> Result<()> {
    run::must(
        Command::new("rustup")
            .args(["target", "add", target])
            .current_dir(run::root()),
    )
}
