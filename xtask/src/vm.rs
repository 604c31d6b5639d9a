//! Virtual machines: the meeting with the kernel's driver, the device in a guest, and scripts of one's own.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::Subcommand;

use crate::test::binaries;
use crate::{run, setup};

#[derive(Subcommand)]
pub(crate) enum Vm {
    /// The kernel's DRBD and rdb as each other's peer: a table, a row a scenario; fails if a row does
    Interop {
        /// The part that CI runs
        #[arg(long)]
        quick: bool,
        /// Only scenarios whose name matches this extended regular expression
        #[arg(long)]
        only: Option<String>,
        /// Begin with the scenario of this number
        #[arg(long)]
        from: Option<u32>,
        /// How long the mixed load with role switches goes on, in minutes
        #[arg(long)]
        minutes: Option<u32>,
    },
    /// Speed of a pair of rdb's nodes beside a pair of the kernel's, in one guest; see docs/benchmarks.md
    Speed {
        /// Passed on to tests/vm/speed.sh
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The first sync of a pair of the kernel's and of a pair of rdb's nodes, second by second; see docs/benchmarks.md
    FirstSync {
        /// Passed on to tests/vm/first-sync.sh
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Two nodes of rdb and their devices by drivers of the kernel, in a guest
    Pair {
        /// Which part; all of them without one
        #[arg(value_parser = PAIR_JOBS)]
        job: Option<String>,
    },
    /// docs/moving.md by its own commands: two guests move from the kernel's DRBD to rdb and back, while a file system is in use
    Moving,
    /// Boots a guest, runs a script in it as root, passes on output and exit status
    Run {
        /// The bash script
        job: PathBuf,
        /// A raw file, sparse perhaps, that outlives the guest: /dev/vda, /dev/vdb, …
        #[arg(long = "disk")]
        disks: Vec<PathBuf>,
        /// A file to be in the guest: FILE or FILE:PATH (default: /usr/local/bin/NAME)
        #[arg(long = "file")]
        files: Vec<String>,
        /// What the script leaves in /out comes back into this directory
        #[arg(long)]
        out: Option<PathBuf>,
        /// A network between guests: the path of a socket; the first to name it is 1, the second 2
        #[arg(long)]
        link: Option<PathBuf>,
        /// The guest is ended after so many seconds
        #[arg(long, default_value_t = 300)]
        seconds: u32,
    },
}

/// The parts of `pair`: `tests/vm/JOB-job.sh`.
const PAIR_JOBS: [&str; 10] = [
    "ublk",
    "nbd",
    "restart",
    "nbd-restart",
    "systemd",
    "systemd-fuse",
    "lvm",
    "lvm-nbd",
    "proc-drbd",
    "statuses",
];

/// Runs what is asked; the scripts print for themselves.
pub(crate) fn run(what: &Vm) -> Result<()> {
    setup::need(&[
        "qemu-system-x86_64",
        "cpio",
        "busybox",
        "depmod",
        "xz",
        "ip",
    ])?;
    let binaries = binaries(matches!(what, Vm::Speed { .. } | Vm::FirstSync { .. }))?;
    let scripts = run::root().join("tests/vm");
    match what {
        Vm::Interop {
            quick,
            only,
            from,
            minutes,
        } => {
            let mut command = Command::new(scripts.join("interop.sh"));
            if *quick {
                command.arg("-q");
            }
            if let Some(pattern) = only {
                command.args(["-o", pattern]);
            }
            if let Some(number) = from {
                command.args(["-s", &number.to_string()]);
            }
            if let Some(minutes) = minutes {
                command.args(["-m", &minutes.to_string()]);
            }
            run::must(command.arg(binaries))
        }
        Vm::Speed { arguments } => run::must(
            Command::new(scripts.join("speed.sh"))
                .args(arguments)
                .arg(binaries),
        ),
        Vm::FirstSync { arguments } => run::must(
            Command::new(scripts.join("first-sync.sh"))
                .args(arguments)
                .arg(binaries),
        ),
        Vm::Pair { job } => {
            for name in PAIR_JOBS {
                if job.as_deref().is_none_or(|job| job == name) {
                    let mut command = Command::new(scripts.join("pair.sh"));
                    run::must(command.arg(name).arg(&binaries))?;
                }
            }
            Ok(())
        }
        Vm::Moving => run::must(Command::new(scripts.join("moving.sh")).arg(binaries)),
        Vm::Run {
            job,
            disks,
            files,
            out,
            link,
            seconds,
        } => {
            let mut command = Command::new(scripts.join("boot.sh"));
            command.args(["-t", &seconds.to_string()]);
            for disk in disks {
                command.arg("-d").arg(disk);
            }
            for program in ["rdbd", "rdbadm"] {
                command.arg("-f").arg(binaries.join(program));
            }
            for file in files {
                command.args(["-f", file]);
            }
            if let Some(out) = out {
                command.arg("-o").arg(out);
            }
            if let Some(link) = link {
                command.arg("-l").arg(link);
            }
            run::must(command.arg(job))
        }
    }
}
