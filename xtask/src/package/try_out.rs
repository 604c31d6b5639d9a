//! The packages on a fresh Debian: installed, upgraded under a resource that is in use, and removed, by `packaging/try`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::run;

/// Runs the script that does it.
pub(super) fn run(packages: &[PathBuf]) -> Result<()> {
    crate::setup::need(&["debootstrap", "unshare"])?;
    run::must(
        Command::new(run::root().join("tests/packages/try"))
            .arg(run::target().join("package-try"))
            .args(packages),
    )
}
