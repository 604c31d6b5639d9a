//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::settings::DEFAULT_RUN_DIR;

/// Serves replicated block devices. What it serves it is told by rdbadm or rdbsetup.
#[derive(Debug, Parser)]
#[command(name = "rdbd", version)]
pub(crate) struct Args {
    /// Settings file [default: /etc/rdb/rdbd.toml]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How devices are served: auto, ublk, nbd, fuse or socket
    #[arg(long, env = "RDB_FRONTEND", value_name = "NAME")]
    pub(crate) frontend: Option<String>,
    /// Directory of the control socket and the status file
    #[arg(long, env = "RDB_RUN_DIR", value_name = "DIR", default_value = DEFAULT_RUN_DIR)]
    pub(crate) run_dir: PathBuf,
    /// This node's name [default: the host name]
    #[arg(long, env = "RDB_NODE", value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Lead a session of its own: for whoever starts the daemon and goes
    #[arg(long)]
    pub(crate) background: bool,
    /// See whether a daemon with these options could run here, say what is wrong, and do nothing else
    #[arg(long)]
    pub(crate) check: bool,
    /// Write the manual page into a directory and do nothing else
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) generate_man: Option<PathBuf>,
}
