//! `split-brain`, and what `connect --discard-my-data` says before it connects.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rdb_control::split_brain::{self, DOCUMENT_MAX, Side, Source, Two};
use rdb_control::{Blocks, kept_state_dir, state_dir_of};
use serde::Deserialize;

use super::Command;
use super::configured::is_standard_input;
use super::plan::Item;
use crate::exec::Executor;
use crate::out;
use crate::split_brain::{discard, files, gather, text};
use crate::step::Family;

/// Where the daemon's settings are.
const SETTINGS: &str = "/etc/rdb/rdbd.toml";
/// Greatest size of that file in bytes, as the daemon has it.
const SETTINGS_MAX: usize = 1 << 20;

impl Command<'_> {
    pub(super) fn split_brain(&self, items: &[Item]) -> u8 {
        // It is the name of a handler, too, and DRBD's command runs that.
        let asks = ["json", "with-peer", "files", "state-dir"];
        let asks = asks.iter().any(|option| self.is_given(option));
        if self.has("handler") || (self.family == Family::Drbd && !asks) {
            return self.run_handlers(items);
        }
        let peer = self.args.get_one::<PathBuf>("with-peer");
        let is_for_one = peer.is_some() || self.has("json");
        match items {
            [item] => self.evidence(item, peer.map(PathBuf::as_path)),
            _ if is_for_one => {
                out::error(&format!(
                    "{}: --json and --with-peer are for one resource",
                    self.program
                ));
                1
            }
            _ => items
                .iter()
                .map(|item| self.evidence(item, None))
                .max()
                .unwrap_or(0),
        }
    }

    fn is_given(&self, option: &str) -> bool {
        self.args.value_source(option) == Some(clap::parser::ValueSource::CommandLine)
    }

    fn evidence(&self, item: &Item, peer: Option<&Path>) -> u8 {
        let fails = |message: &str| {
            out::error(&format!("{}: {message}", self.program));
            1
        };
        // Before anything else is done: a pipe may be waited for.
        let peer = match peer.map(read_peer).transpose() {
            Ok(peer) => peer,
            Err(message) => return fails(&message),
        };
        if let Some(peer) = &peer
            && let Err(message) = is_the_peer(peer, item)
        {
            return fails(&message);
        }
        let mut executor = self.executor();
        let node = self.own_node().unwrap_or_default();
        let histories = self.histories();
        let mut own = match gather::gather(&mut executor, item, &node, &histories) {
            Ok(own) => own,
            Err(trouble) => return trouble.tell(self.program),
        };
        let named = |error: &dyn std::fmt::Display| format!("the peer's report: {error}");
        let written_by_both = match peer.as_ref().map(|peer| split_brain::compare(&own, peer)) {
            Some(Err(error)) => return fails(&named(&error)),
            Some(Ok(volumes)) => Some(volumes.into_iter().map(|volume| volume.both).collect()),
            None => None,
        };
        let mut code = 0;
        if self.is_given("files")
            && let Err(message) = self.find_files(&mut executor, item, &mut own, written_by_both)
        {
            // What is known without the files is as good as ever.
            code = fails(&message);
        }
        if own.source == Source::Disk && self.has("json") {
            // (The document has no place for it.)
            let (resource, dir) = (&own.resource, histories.display());
            out::error(&format!("{resource}: its history is read in {dir}"));
        }
        let detail = text::Detail {
            all: self.has("verbose"),
            histories: &histories,
        };
        match peer {
            None if self.has("json") => print_json(&own),
            None => {
                let names = &item.resource.peer.names;
                let peer = names.first().map_or("the peer", String::as_str);
                out::print_written(&text::alone(&own, peer, detail));
            }
            Some(peer) => match split_brain::compare(&own, &peer) {
                Err(error) => return fails(&named(&error)),
                Ok(volumes) if self.has("json") => print_json(&Two::new(&own, &peer, &volumes)),
                Ok(volumes) => out::print_written(&text::both(&own, &peer, &volumes, detail)),
            },
        }
        code
    }

    /// Names the files in the marked blocks of each volume.
    fn find_files(
        &self,
        executor: &mut Executor,
        item: &Item,
        own: &mut Side,
        both: Option<Vec<Blocks>>,
    ) -> Result<(), String> {
        let given = self.args.get_one::<PathBuf>("files");
        let given = given.filter(|path| !path.as_os_str().is_empty());
        if given.is_some() && own.volumes.len() > 1 {
            return Err("--files=PATH is of one volume: name it as RES/VOLUME".to_owned());
        }
        let deadline = executor.limits.long.map(|limit| Instant::now() + limit);
        let tools = files::Tools { deadline };
        let running = executor.status().ok().flatten();
        for (index, volume) in own.volumes.iter_mut().enumerate() {
            let Some(marked) = &volume.marked else {
                continue;
            };
            let minor = volume.minor;
            let node = running
                .as_ref()
                .and_then(|report| crate::exec::find(report, minor))
                .and_then(|(_, volume)| volume.device.clone());
            let configured = item.volumes().find(|v| v.volume == volume.volume);
            let devices: Vec<PathBuf> = node
                .into_iter()
                .chain(configured.map(|volume| volume.device.clone()))
                .collect();
            let both = both.as_ref().and_then(|both| both.get(index));
            let found = files::place(given.map(PathBuf::as_path), &devices)
                .and_then(|place| files::find(&place, &marked.ranges, both, &tools));
            let files =
                found.map_err(|error| format!("the files of volume {}: {error}", volume.volume))?;
            volume.files = Some(files);
        }
        Ok(())
    }

    /// Where the histories are if no daemon tells them: where the option says, or where the last daemon of the run directory kept them,
    /// or where the next one will.
    pub(super) fn histories(&self) -> PathBuf {
        let run_dir = self.path("run-dir").expect("it has a default");
        let kept = || kept_state_dir(&run_dir);
        self.given_state_dir()
            .or_else(kept)
            .unwrap_or_else(|| self.state_dir())
    }

    fn given_state_dir(&self) -> Option<PathBuf> {
        let given = self.args.try_get_one::<PathBuf>("state-dir").ok().flatten();
        given.cloned()
    }

    /// What outlives the daemon: where the option says, or the daemon's settings, or where it usually is.
    pub(super) fn state_dir(&self) -> PathBuf {
        /// All of the settings that matters here; the daemon says what is wrong with them.
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Settings {
            state_dir: Option<PathBuf>,
        }
        if let Some(given) = self.given_state_dir() {
            return given;
        }
        let run_dir = self.path("run-dir").expect("it has a default");
        let configured = || {
            let bytes = rdb_config::read_regular(Path::new(SETTINGS), SETTINGS_MAX).ok()?;
            let settings: Settings = toml::from_str(std::str::from_utf8(&bytes).ok()?).ok()?;
            settings.state_dir
        };
        configured()
            .filter(|_| run_dir == Path::new(rdb_control::DEFAULT_RUN_DIR))
            .unwrap_or_else(|| state_dir_of(&run_dir))
    }

    /// Says how much is given up, before anything is.
    pub(super) fn tell_what_is_discarded(&self, items: &[Item]) {
        if self.has("dry-run") || !self.has("discard-my-data") {
            return;
        }
        let mut executor = self.executor();
        items
            .iter()
            .for_each(|item| discard::tell(&mut executor, item));
    }
}

/// Whether a report is of the node that the configuration has for the other one, if it has a host name for it. (Of one that is of
/// this node the comparison says so.)
fn is_the_peer(report: &Side, item: &Item) -> Result<(), String> {
    let (node, resource) = (&report.node, &item.resource);
    // A floating one has its address for a name.
    let names: Vec<&str> = resource.peer.names.iter().map(String::as_str).collect();
    let is_host = names.iter().all(|name| !name.contains(':'));
    if names.is_empty()
        || !is_host
        || names.contains(&node.as_str())
        || resource.me.names.contains(node)
    {
        return Ok(());
    }
    let (resource, names) = (&resource.name, names.join(" or "));
    Err(format!(
        "the peer's report: it is of node {node}, and the configuration has {names} for the peer of {resource}"
    ))
}

/// The other node's report.
fn read_peer(path: &Path) -> Result<Side, String> {
    let bytes = match is_standard_input(path) {
        true => read_bounded(std::io::stdin().lock()),
        false => std::fs::File::open(path).and_then(read_bounded),
    };
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let bytes = bytes.map_err(|error| named(&error))?;
    if bytes.is_empty() {
        return Err(named(
            &"it is empty: the command on the other node has failed",
        ));
    }
    Side::parse(&bytes).map_err(|error| named(&error))
}

/// What is longer than a report can be is not read to its end.
fn read_bounded(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(DOCUMENT_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn print_json(value: &impl serde::Serialize) {
    let text = serde_json::to_string(value).expect("plain values with string keys");
    out::line(&text);
}
