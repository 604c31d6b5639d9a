//! Two-node clusters of other people's cluster managers, in namespaces of this machine: what takes longer than CI may.

use std::process::Command;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::test::binaries;
use crate::{run, setup};

#[derive(Subcommand)]
pub(crate) enum Cluster {
    /// Corosync and Pacemaker: tests/pacemaker, every incident on both nodes
    Pacemaker,
}

/// The scripts, each with the words that have it do everything.
const PACEMAKER: [(&str, &[&str]); 3] = [
    ("fencing.sh", &[]),
    ("tutorial.sh", &["all", "ours"]),
    ("tutorial.sh", &["all", "linbit"]),
];

/// Runs what is asked, as root; the scripts print for themselves.
pub(crate) fn run(what: &Cluster) -> Result<()> {
    setup::need(&[
        "corosync",
        "pacemakerd",
        "crm",
        "ocf-tester",
        "xmllint",
        "qemu-io",
    ])?;
    let binaries = binaries(false)?;
    let Cluster::Pacemaker = what;
    for (script, words) in PACEMAKER {
        println!("--- {script} {}", words.join(" "));
        let work = std::env::temp_dir().join(format!("rdb-cluster-{}", std::process::id()));
        std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
        let done = run::must(
            Command::new(run::root().join("tests/pacemaker").join(script))
                .arg(&binaries)
                .arg(&work)
                .args(words),
        );
        let removed = std::fs::remove_dir_all(&work).with_context(|| work.display().to_string());
        done.and(removed)?;
    }
    Ok(())
}
