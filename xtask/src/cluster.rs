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
    /// heartbeat: tests/heartbeat, every tutorial's cluster, every incident
    Heartbeat,
}

/// A script, with the words that have it do everything.
type Scripts = &'static [(&'static str, &'static [&'static str])];

const PACEMAKER: Scripts = &[
    ("fencing.sh", &[]),
    ("tutorial.sh", &["all", "ours"]),
    ("tutorial.sh", &["all", "linbit"]),
    ("tutorial.sh", &["all", "page"]),
];

const HEARTBEAT: Scripts = &[
    ("tutorial.sh", &["journal", "all"]),
    ("tutorial.sh", &["finch", "all"]),
    ("tutorial.sh", &["openintegra", "all"]),
    ("tutorial.sh", &["suse", "all"]),
];

impl Cluster {
    /// Its directory in `tests`, its scripts, and the programs that these need.
    fn parts(&self) -> (&'static str, Scripts, &'static [&'static str]) {
        match self {
            Cluster::Pacemaker => (
                "pacemaker",
                PACEMAKER,
                &[
                    "corosync",
                    "pacemakerd",
                    "crm",
                    "ocf-tester",
                    "xmllint",
                    "qemu-io",
                    "python3",
                    "fsfreeze",
                ],
            ),
            Cluster::Heartbeat => (
                "heartbeat",
                HEARTBEAT,
                &["cl_status", "ifconfig", "python3", "fuser", "setpriv"],
            ),
        }
    }
}

/// Runs what is asked, as root; the scripts print for themselves.
pub(crate) fn run(what: &Cluster) -> Result<()> {
    let (directory, scripts, programs) = what.parts();
    setup::need(programs)?;
    let binaries = binaries(false)?;
    for (script, words) in scripts {
        println!("--- {script} {}", words.join(" "));
        let work = std::env::temp_dir().join(format!("rdb-cluster-{}", std::process::id()));
        std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
        let done = run::must(
            Command::new(run::root().join("tests").join(directory).join(script))
                .arg(&binaries)
                .arg(&work)
                .args(*words),
        );
        let removed = std::fs::remove_dir_all(&work).with_context(|| work.display().to_string());
        done.and(removed)?;
    }
    Ok(())
}
