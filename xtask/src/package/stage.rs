//! What the lists name below `target/release/package`: packed manuals, completions, links, and the changelog in Debian's form.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::list::PACKAGES;
use crate::{pages, run};

/// Where a name leads; relative, from the folder that it is installed in.
const LINKS: [(&str, &str); 18] = [
    ("rdbsetup", "rdbadm"),
    ("rdbmeta", "rdbadm"),
    ("drbdadm", "rdbadm"),
    ("drbdsetup", "rdbadm"),
    ("drbdmeta", "rdbadm"),
    ("drbd-overview", "rdbadm"),
    ("check_rdb", "../../../sbin/rdbadm"),
    ("unsnapshot-resync-target", "snapshot-resync-target"),
    (
        "snapshot-resync-target-lvm.sh",
        "../rdb/snapshot-resync-target",
    ),
    (
        "unsnapshot-resync-target-lvm.sh",
        "../rdb/unsnapshot-resync-target",
    ),
    ("drbd.service", "rdb.service"),
    ("bash-rdbsetup", "rdbadm"),
    ("bash-rdbmeta", "rdbadm"),
    ("bash-rdbmon", "rdbadm"),
    ("bash-check_rdb", "rdbadm"),
    ("bash-drbdadm", "rdbadm"),
    ("bash-drbdsetup", "rdbadm"),
    ("bash-drbdmeta", "rdbadm"),
];

/// Pages under other names, most of them DRBD's, and which each shows.
const PAGES: [(&str, &str); 6] = [
    ("check_rdb.8", "man8/rdbadm-check.8"),
    ("drbdadm.8", "man8/rdbadm.8"),
    ("drbdsetup.8", "man8/rdbsetup.8"),
    ("drbdmeta.8", "man8/rdbmeta.8"),
    ("drbd-overview.8", "man8/rdbadm-overview.8"),
    ("drbd.conf.5", "man5/rdb.conf.5"),
];

/// Writes everything for the programs in `binaries`.
pub(super) fn prepare(binaries: &Path) -> Result<()> {
    let folder = binaries.join("package");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let man = folder.join("man");
    pages::man(binaries, &man)?;
    for (name, page) in PAGES {
        fs::write(man.join(name), format!(".so {page}\n"))?;
    }
    pages::completions(binaries, &folder.join("completions"))?;
    let links = folder.join("links");
    fs::create_dir_all(&links)?;
    for (name, target) in LINKS {
        symlink(target, links.join(name))?;
    }
    let changelog = folder.join("changelog.Debian");
    fs::write(
        &changelog,
        debian_changelog(&PACKAGES[0].text("maintainer")?),
    )?;
    let pages = fs::read_dir(&man)?.flatten().map(|entry| entry.path());
    run::must(Command::new("gzip").arg("-9n").arg(changelog).args(pages))
}

/// Debian's form of the one line that there is to say; users read CHANGELOG.md.
fn debian_changelog(maintainer: &str) -> String {
    format!(
        "rdb ({}-1) unstable; urgency=medium\n\n  * See /usr/share/doc/rdb-doc/CHANGELOG.md for what is new.\n\n \
         -- {maintainer}  Sun, 29 Nov 2026 00:00:00 +0000\n",
        env!("CARGO_PKG_VERSION")
    )
}
