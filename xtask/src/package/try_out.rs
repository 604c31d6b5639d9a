//! The packages on a Debian of their own: installed, upgraded under a resource that is in use, and removed, by `tests/packages/try`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::run;

/// Runs the script that does it: in a fresh Debian of this release, or on a copy of this system, without systemd.
pub(super) fn run(packages: &[PathBuf], release: Option<&str>) -> Result<()> {
    crate::setup::need(&["unshare", "mkfs.ext4"])?;
    let mut script = Command::new(run::root().join("tests/packages/try"));
    match release {
        Some(release) => {
            crate::setup::need(&["debootstrap"])?;
            script.args(["-r", release]);
        }
        None => {
            script.arg("-s");
        }
    }
    run::must(script.arg(run::target().join("package-try")).args(packages))
}

/// Two machines with nothing but a Debian of this release and the packages: what the guide says, and what the units do.
pub(super) fn run_pair(packages: &[PathBuf], release: &str) -> Result<()> {
    crate::setup::need(&["unshare", "nsenter", "ip", "losetup", "debootstrap"])?;
    for job in PAIR_JOBS {
        let mut script = Command::new(run::root().join("tests/packages/pair"));
        script.args(["-r", release, job]);
        run::must(script.arg(run::target().join("package-try")).args(packages))?;
    }
    Ok(())
}

/// Each is a file `JOB-job.sh` in `tests/packages`.
const PAIR_JOBS: [&str; 4] = ["guide", "promoter", "units", "fstab"];
