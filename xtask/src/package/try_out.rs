//! The packages on a Debian of their own: installed, upgraded under a resource that is in use, and removed, by `tests/packages/try`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::run;

/// Runs the script that does it; `is_short` on a copy of this system, without systemd.
pub(super) fn run(packages: &[PathBuf], is_short: bool) -> Result<()> {
    crate::setup::need(&["unshare", "mkfs.ext4"])?;
    if !is_short {
        crate::setup::need(&["debootstrap"])?;
    }
    run::must(
        Command::new(run::root().join("tests/packages/try"))
            .args(is_short.then_some("-s"))
            .arg(run::target().join("package-try"))
            .args(packages),
    )
}
