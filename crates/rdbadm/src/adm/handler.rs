//! The names of handlers as commands: each runs what is configured under it, as the daemon would.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use rdb_control::{HandlerScene, HandlerVolume, is_of_resource};

use super::Command;
use super::plan::Item;
use crate::out;
use crate::step::escape;

/// The run directory that commands go by when nothing else is said.
const DEFAULT_RUN_DIR: &str = "/run/rdb";
/// Exit status of what can not be started, as a shell has it.
const NOT_RUN: u8 = 126;
/// What a shell adds to the number of the signal that has ended a program.
const SIGNALLED: i32 = 128;

impl Command<'_> {
    /// The worst exit status of the handlers; 0 if there is none.
    pub(super) fn run_handlers(&self, items: &[Item]) -> u8 {
        items
            .iter()
            .map(|item| self.run_handler(item))
            .max()
            .unwrap_or(0)
    }

    fn run_handler(&self, item: &Item) -> u8 {
        let name = self.verb.name;
        let Some(command) = item.handlers.commands.get(name) else {
            return 0;
        };
        let volumes: Vec<_> = item.volumes().map(told).collect();
        // One of the resource is told of all its volumes, the others are run for each.
        let runs = match is_of_resource(name) {
            true => vec![&volumes[..]],
            false => volumes.chunks(1).collect(),
        };
        let code = |volumes| self.run_scene(item, volumes, command);
        runs.into_iter().map(code).max().unwrap_or(0)
    }

    fn run_scene(&self, item: &Item, volumes: &[HandlerVolume], command: &str) -> u8 {
        let run_dir = self.path("run-dir").expect("it has a default");
        let node = self.own_node().unwrap_or_default();
        let address = item.resource.peer.address.ip();
        let scene = HandlerScene {
            resource: &item.resource.name,
            volumes,
            handlers: &item.handlers,
            // (A resource that can not run as it is configured has none.)
            peer_address: Some(address).filter(|address| !address.is_unspecified()),
            daemon: (run_dir != Path::new(DEFAULT_RUN_DIR)).then_some((&run_dir, &node)),
            snapshot: None,
        };
        let environment = scene.environment();
        if self.has("dry-run") || self.has("verbose") {
            let set = environment.iter();
            let set: String = set
                .map(|(name, value)| format!(" {name}={}", escape(value)))
                .collect();
            out::line(&format!("env -i{set} /bin/sh -c {}", escape(command)));
        }
        if self.has("dry-run") {
            return 0;
        }
        let ended = std::process::Command::new("/bin/sh")
            .args(["-c", command])
            .env_clear()
            .envs(environment)
            .stdin(Stdio::null())
            .status();
        match ended {
            Ok(status) => {
                let signal = status.signal().map(|signal| SIGNALLED + signal);
                let code = status.code().or(signal);
                code.and_then(|code| code.try_into().ok())
                    .unwrap_or(NOT_RUN)
            }
            Err(error) => {
                out::error(&format!("{}: /bin/sh: {error}", self.program));
                NOT_RUN
            }
        }
    }
}

fn told(volume: &rdb_config::ResolvedVolume) -> HandlerVolume {
    HandlerVolume {
        volume: volume.volume,
        minor: volume.minor,
        disk: volume.disk.clone(),
    }
}
