//! `rdbmon`: a monitor for the terminal. What it knows (`model`) and what it shows of that (`view`) knows nothing of a terminal; `draw`
//! draws that, `watcher` asks the daemon, `runner` runs what is ordered, and `terminal` is the loop between them.

#![forbid(unsafe_code)]

mod draw;
mod model;
mod runner;
#[cfg(test)]
mod screens;
mod terminal;
mod view;
mod watcher;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;

use clap::Parser;

use crate::draw::Look;
use crate::model::Model;
use crate::runner::Runner;
use crate::terminal::Hands;
use crate::view::Marks;
use crate::watcher::Watcher;

/// Watch replicated block devices at a terminal, and do what has to be done about them
#[derive(Debug, Parser)]
#[command(version, name = "rdbmon", after_help = keys())]
struct Args {
    /// Resources; without one, all
    #[arg(value_name = "RES")]
    resources: Vec<String>,
    /// Configuration file of the commands that are run, as rdbadm's
    #[arg(short, long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// This node's name, as rdbadm's
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Directory of the control socket [default: /run/rdb]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

fn keys() -> String {
    let line = |(keys, what): &(&str, &str)| format!("  {keys:<22} {what}");
    let lines: Vec<String> = rdb_watch::MONITOR_KEYS.iter().map(line).collect();
    format!("Keys:\n{}", lines.join("\n"))
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Who does not listen misses it.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() || is_set("TERM", "dumb") {
        eprintln!("rdbmon: it needs a terminal; 'rdbadm status --watch' tells the same anywhere");
        return ExitCode::FAILURE;
    }
    match run(args) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(signal)) => {
            // As if it had not been waited for.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("rdbmon: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<Option<i32>, String> {
    let run_dir = args
        .run_dir
        .or_else(|| variable("RDB_RUN_DIR").map(PathBuf::from));
    let run_dir = run_dir.unwrap_or_else(|| PathBuf::from(rdb_control::DEFAULT_RUN_DIR));
    let mut globals: Vec<OsString> = vec!["--run-dir".into(), run_dir.clone().into()];
    if let Some(file) = args.config_file {
        globals.extend(["--config-file".into(), file.into()]);
    }
    if let Some(node) = args.node {
        globals.extend(["--node".into(), node.into()]);
    }
    let all = args.resources.iter().any(|name| name == "all");
    let only = if all { Vec::new() } else { args.resources };
    let (inputs, news) = mpsc::channel();
    let hands = Hands {
        watcher: Watcher::start(&run_dir, inputs.clone())
            .map_err(|error| format!("the system gives no thread: {error}"))?,
        runner: Runner::new(globals, inputs),
        news,
    };
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(variable);
    let locale = locale.unwrap_or_default();
    let look = Look {
        color: variable("NO_COLOR").is_none(),
        marks: Marks::of_locale(&locale.to_string_lossy()),
    };
    let ended = terminal::run(&mut Model::new(only), &hands, look);
    ended.map_err(|error| format!("the terminal: {error}"))
}

/// A variable of the environment. One that is set to nothing is not set.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn is_set(name: &str, to: &str) -> bool {
    variable(name).is_some_and(|value| value == to)
}
