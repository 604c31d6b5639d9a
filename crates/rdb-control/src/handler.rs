//! Handlers: what is configured, what one of them finds in its environment, and how its runs are reported
//! (`docs/spec/admin.md`, section 7). The daemon runs them, and so does `rdbadm` by their names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rdb_config::Handlers;
use serde::{Deserialize, Serialize};

use crate::reason::utc;

/// What stands for the disk of a volume that has none, so that the lists of a resource's handler keep their order.
const NO_DISK: &str = "none";

/// The handlers of a resource, and what only the reader of the configuration knows of their surroundings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlersShown {
    /// The commands, by the names of the handlers.
    pub commands: BTreeMap<String, String>,
    /// The configuration file, as an absolute path; nothing if it was none.
    pub conf: Option<PathBuf>,
    /// The names of the peer, the first of them first.
    pub peers: Vec<String>,
}

impl HandlersShown {
    /// What a configuration says. Without a handler there is nothing to tell of surroundings.
    pub fn new(handlers: &Handlers, conf: Option<PathBuf>, peers: Vec<String>) -> HandlersShown {
        let set = handlers.changed().into_iter();
        let commands: BTreeMap<_, _> = set
            .map(|(option, command)| (option.name.to_owned(), command))
            .collect();
        if commands.is_empty() {
            return HandlersShown::default();
        }
        HandlersShown {
            commands,
            conf,
            peers,
        }
    }

    /// Whether there is none. Nothing is said of them then: a daemon of an older version takes it.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }
}

/// Whether a name is that of a handler that is run for a resource; the others are run for one of its volumes.
pub fn is_of_resource(handler: &str) -> bool {
    matches!(handler, "fence-peer" | "unfence-peer" | "snapshot")
}

/// A volume as a handler is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerVolume {
    /// Volume number.
    pub volume: u16,
    /// Minor number.
    pub minor: u32,
    /// The backing device.
    pub disk: Option<PathBuf>,
}

/// What a handler is told of what it is run for.
#[derive(Debug, Clone, Copy)]
pub struct HandlerScene<'a> {
    /// The resource.
    pub resource: &'a str,
    /// The volumes that it is about.
    pub volumes: &'a [HandlerVolume],
    /// The surroundings.
    pub handlers: &'a HandlersShown,
    /// The peer's address, if a connection is configured.
    pub peer_address: Option<IpAddr>,
    /// The daemon's run directory and node, where commands of ours that the handler calls would not find them by themselves.
    pub daemon: Option<(&'a Path, &'a str)>,
    /// The name of the snapshot that is taken, if it is run for one.
    pub snapshot: Option<&'a str>,
}

impl HandlerScene<'_> {
    /// The whole environment of a handler: names and values.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let list = |word: fn(&HandlerVolume) -> String| {
            let words: Vec<String> = self.volumes.iter().map(word).collect();
            words.join(" ")
        };
        let disk = |volume: &HandlerVolume| match &volume.disk {
            Some(path) => path.display().to_string(),
            None => NO_DISK.to_owned(),
        };
        let mut all = vec![
            ("HOME", "/".to_owned()),
            ("TERM", "linux".to_owned()),
            ("PATH", "/sbin:/usr/sbin:/bin:/usr/bin".to_owned()),
            ("DRBD_RESOURCE", self.resource.to_owned()),
            ("DRBD_VOLUME", list(|v| v.volume.to_string())),
            ("DRBD_MINOR", list(|v| v.minor.to_string())),
            ("DRBD_LL_DISK", list(disk)),
        ];
        let HandlersShown { conf, peers, .. } = self.handlers;
        let conf = conf.iter().map(|path| path.display().to_string());
        all.extend(conf.map(|path| ("DRBD_CONF", path)));
        let first = peers.first().into_iter().cloned();
        all.extend(first.map(|peer| ("DRBD_PEER", peer)));
        if !peers.is_empty() {
            all.push(("DRBD_PEERS", peers.join(" ")));
        }
        if let Some(address) = self.peer_address {
            let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
            all.push(("DRBD_PEER_AF", family.to_owned()));
            all.push(("DRBD_PEER_ADDRESS", address.to_string()));
        }
        if let Some((run_dir, node)) = self.daemon {
            all.push(("RDB_RUN_DIR", run_dir.display().to_string()));
            all.push(("RDB_NODE", node.to_owned()));
        }
        let snapshot = self.snapshot.into_iter();
        all.extend(snapshot.map(|name| ("RDB_SNAPSHOT", name.to_owned())));
        all
    }

    /// What the log and DRBD's tools call the run: `fence-peer r0`, `split-brain minor-0`.
    pub fn call(&self, handler: &str) -> String {
        match self.volumes {
            [volume] if !is_of_resource(handler) => format!("{handler} minor-{}", volume.minor),
            _ => format!("{handler} {}", self.resource),
        }
    }
}

/// The last run of a handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerReport {
    /// Its name.
    pub name: String,
    /// The volume that it was run for; nothing for one of the resource.
    pub volume: Option<u16>,
    /// When it was started, in seconds since 1970.
    pub since_s: u64,
    /// How it ended, as a shell says it; nothing while it runs.
    pub exit: Option<u8>,
    /// How long it took, or runs, in milliseconds.
    pub took_ms: u64,
    /// What else there is to say: that it was ended at its time limit, could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl HandlerReport {
    /// When it was started, as `2026-11-28T14:52:10Z`.
    pub fn since(&self) -> String {
        utc(self.since_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> HandlersShown {
        let handlers = Handlers {
            fence_peer: Some("/bin/fence --now".to_owned()),
            ..Handlers::default()
        };
        let peers = vec!["bob".to_owned(), "bob2".to_owned()];
        HandlersShown::new(&handlers, Some("/etc/drbd.conf".into()), peers)
    }

    fn volume(volume: u16, disk: Option<&str>) -> HandlerVolume {
        HandlerVolume {
            volume,
            minor: u32::from(volume) + 10,
            disk: disk.map(PathBuf::from),
        }
    }

    #[test]
    fn a_handler_is_found_by_its_name() {
        let commands = shown().commands;
        let expected = ("fence-peer".to_owned(), "/bin/fence --now".to_owned());
        assert_eq!(commands, [expected].into());
    }

    #[test]
    fn the_environment_of_a_resources_handler_has_lists() {
        let handlers = shown();
        let volumes = [volume(0, Some("/dev/sda1")), volume(1, None)];
        let scene = HandlerScene {
            resource: "r0",
            volumes: &volumes,
            handlers: &handlers,
            peer_address: "10.0.0.2".parse().ok(),
            daemon: Some((Path::new("/tmp/run"), "alice")),
            snapshot: Some("daily"),
        };
        let expected = [
            ("HOME", "/"),
            ("TERM", "linux"),
            ("PATH", "/sbin:/usr/sbin:/bin:/usr/bin"),
            ("DRBD_RESOURCE", "r0"),
            ("DRBD_VOLUME", "0 1"),
            ("DRBD_MINOR", "10 11"),
            ("DRBD_LL_DISK", "/dev/sda1 none"),
            ("DRBD_CONF", "/etc/drbd.conf"),
            ("DRBD_PEER", "bob"),
            ("DRBD_PEERS", "bob bob2"),
            ("DRBD_PEER_AF", "ipv4"),
            ("DRBD_PEER_ADDRESS", "10.0.0.2"),
            ("RDB_RUN_DIR", "/tmp/run"),
            ("RDB_NODE", "alice"),
            ("RDB_SNAPSHOT", "daily"),
        ];
        assert_eq!(
            scene.environment(),
            expected.map(|(n, v)| (n, v.to_owned()))
        );
        assert_eq!(scene.call("fence-peer"), "fence-peer r0");
    }

    #[test]
    fn what_is_not_known_is_not_set() {
        let handlers = HandlersShown::default();
        let volumes = [volume(3, Some("/dev/sda1"))];
        let scene = HandlerScene {
            resource: "r0",
            volumes: &volumes,
            handlers: &handlers,
            peer_address: None,
            daemon: None,
            snapshot: None,
        };
        let names: Vec<_> = scene.environment().into_iter().map(|(n, _)| n).collect();
        assert_eq!(names.last(), Some(&"DRBD_LL_DISK"));
        assert_eq!(scene.call("split-brain"), "split-brain minor-13");
        assert_eq!(scene.call("unfence-peer"), "unfence-peer r0");
    }
}
