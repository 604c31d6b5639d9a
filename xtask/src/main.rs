//! The project's menu: `cargo xtask` followed by what to do. Logic that is longer than a command
//! line lives in a module of its own or in the script that is called.

mod circles;
mod cluster;
mod demo;
mod package;
mod pages;
mod run;
mod setup;
mod targets;
mod test;
mod vm;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "rdb's menu",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Two nodes on this machine: sync, a file system, the primary killed, the other promoted
    Demo(demo::Options),
    /// All checks and all tests, as CI runs them; installs what is missing (as root)
    Test(test::Options),
    /// Formatting, clippy and documentation, with warnings denied
    Check,
    /// The whole-program tests alone; further words go to nextest (a filter, for example)
    E2e {
        /// Passed on to `cargo nextest run`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        nextest: Vec<String>,
    },
    /// The simulator: two engines through crashes, cuts and races, from seeds; see docs/testing.md
    #[command(disable_help_flag = true)]
    Sim {
        /// Passed on to the simulator: `--seeds N`, `--seed S`, `--help`, …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// rdb beside qemu's mirror and a single qemu-nbd; see docs/benchmarks.md
    Bench {
        /// Passed on to benches/side-by-side/run
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// What a dead peer, or a disk that hangs, costs a writer; see docs/benchmarks.md
    Patience {
        /// Passed on to benches/patience/patience.py
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Installs what tests, demonstration and benchmark use (.ci/packages)
    Setup,
    /// In a virtual machine: the kernel's DRBD and rdb as each other's peer, and more; see docs/testing.md
    Vm {
        #[command(subcommand)]
        what: vm::Vm,
    },
    /// Two-node clusters of cluster managers, in namespaces (as root); see docs/testing.md
    Cluster {
        #[command(subcommand)]
        what: cluster::Cluster,
    },
    /// Monitors that know DRBD, unmodified, against a running pair (as root; fetches Debian's packages to target/monitors)
    Monitors,
    /// Runs a fuzz target of fuzz/ for some seconds, or lists the targets
    Fuzz {
        /// The target; without one, all are listed
        target: Option<String>,
        /// How long to run it, in seconds
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Writes the man pages into a directory
    Man {
        /// Where to (created when it is not there)
        #[arg(default_value = "target/man")]
        directory: std::path::PathBuf,
    },
    /// Builds the Debian packages rdb, rdb-drbd-compat and rdb-doc into target/packages
    Package(package::Options),
    /// Installs programs, scripts, units, manuals and completions without a package (as root)
    Install(package::InstallOptions),
    /// Builds programs that need no libraries (x86_64-unknown-linux-musl)
    Static {
        /// Without optimisation, which is built faster
        #[arg(long)]
        debug: bool,
    },
    /// Has the compiler look at daemon and commands for aarch64, and for musl
    Targets {
        /// Run the tests of crates that compute, and rdbmeta, for aarch64 under user-mode emulation instead
        #[arg(long)]
        run: bool,
    },
    /// Writes the completion scripts for bash, zsh and fish into a directory
    Completions {
        /// Where to (created when it is not there)
        #[arg(default_value = "target/completions")]
        directory: std::path::PathBuf,
    },
}

fn main() -> Result<()> {
    match Cli::parse().what {
        What::Demo(options) => demo::run(&options),
        What::Test(options) => test::all(&options),
        What::Check => test::check(),
        What::E2e { nextest } => test::e2e(&nextest),
        What::Sim { arguments } => test::sim(&arguments),
        What::Bench { arguments } => test::bench(&arguments),
        What::Patience { arguments } => test::patience(&arguments),
        What::Setup => setup::install(),
        What::Vm { what } => vm::run(&what),
        What::Cluster { what } => cluster::run(&what),
        What::Monitors => test::monitors(),
        What::Fuzz { target, seconds } => test::fuzz(target.as_deref(), seconds),
        What::Static { debug } => targets::build_static(debug),
        What::Targets { run: false } => targets::check(),
        What::Targets { run: true } => targets::run_emulated(),
        What::Package(options) => package::package(&options),
        What::Install(options) => package::install(&options),
        What::Man { directory } => pages::man(&test::binaries(false)?, &directory),
        What::Completions { directory } => pages::completions(&test::binaries(false)?, &directory),
    }
}
