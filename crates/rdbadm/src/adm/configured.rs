//! The configuration that a command works with.

use std::path::Path;

use rdb_config::{DumpStyle, Loaded};

use super::select::Selected;
use super::{Command, Configured, config_error};
use crate::verbs::{Mark, Own};
use crate::{dump_json, out};

/// What a configuration that is piped in is called.
const STDIN: &str = "STDIN";

impl Command<'_> {
    /// Reads the configuration; the exit status if that is impossible.
    pub(super) fn configured(&self) -> Result<Configured, u8> {
        let Some(node) = self.own_node() else {
            out::error(&format!(
                "{}: can not find out this node's name; use --node",
                self.program
            ));
            return Err(20);
        };
        let further = self.path("config-to-test");
        let path = match self.path("config-file") {
            Some(path) if is_standard_input(&path) => None,
            Some(path) => Some(path),
            None => Some(rdb_config::default_config_path()),
        };
        let piped = match &path {
            None => Some(self.piped()?),
            Some(_) => None,
        };
        let loaded = match (&path, &piped) {
            (Some(path), _) => rdb_config::load(path),
            (None, piped) => rdb_config::load_bytes(STDIN, piped.as_deref().unwrap_or_default()),
        };
        let Loaded { config, warnings } = loaded.map_err(|error| config_error(&error))?;
        if let Some(further) = further {
            self.check_with(path.as_deref(), piped.as_deref(), &further)?;
        }
        // Said where the options take effect; not with every question that a script asks.
        if self.verb.is_marked(Mark::Warns) {
            for warning in &warnings {
                out::error(&warning.to_string());
            }
        }
        Ok(Configured {
            config,
            path: path.and_then(|path| std::path::absolute(path).ok()),
            node,
            peer: self.args.get_one::<String>("peer").cloned(),
        })
    }

    /// `dump --json`: an object for the whole file, a list for some resources.
    pub(super) fn dump_json(
        configured: &Configured,
        selected: Option<&[Selected<'_>]>,
        style: DumpStyle,
    ) -> u8 {
        let Configured { config, node, .. } = configured;
        let what = dump_json::What {
            inherited: style.inherited,
            hide_secrets: style.hide_secrets,
        };
        let value = match selected {
            None => dump_json::config(config, node, what),
            Some(selected) => selected
                .iter()
                .map(|s| dump_json::resource(s.resource, node, what))
                .collect(),
        };
        out::print_written(&format!("{value:#}\n"));
        0
    }

    pub(super) fn piped(&self) -> Result<Vec<u8>, u8> {
        let stdin = std::io::stdin().lock();
        let read = rdb_config::read_limited(stdin, rdb_config::FILE_MAX);
        read.map_err(|error| {
            out::error(&format!(
                "{}: can not read standard input: {error}",
                self.program
            ));
            20
        })
    }

    /// Checks the configuration and a further file as one (`--config-to-test`).
    fn check_with(
        &self,
        path: Option<&Path>,
        piped: Option<&[u8]>,
        further: &Path,
    ) -> Result<(), u8> {
        if !matches!(self.own(), Some(Own::Dump | Own::DumpXml | Own::ShNop)) {
            out::error(
                "The --config-to-test (-t) option is only allowed with the dump and sh-nop commands",
            );
            return Err(1);
        }
        let can_not = |path: &Path, error: std::io::Error| {
            out::error(&format!("Can not open '{}': {error}", path.display()));
            20
        };
        let absolute = std::path::absolute(further).map_err(|error| can_not(further, error))?;
        std::fs::File::open(&absolute).map_err(|error| can_not(further, error))?;
        let (name, bytes) = match path {
            None => (STDIN.to_owned(), piped.unwrap_or_default().to_vec()),
            Some(path) => {
                let file = std::fs::File::open(path).map_err(|error| can_not(path, error))?;
                let read = rdb_config::read_limited(file, rdb_config::FILE_MAX);
                let bytes = read.map_err(|error| can_not(path, std::io::Error::other(error)))?;
                (path.display().to_string(), bytes)
            }
        };
        let both = rdb_config::load_bytes_with(&name, &bytes, &absolute);
        both.map(|_| ()).map_err(|error| config_error(&error))
    }

    /// Options that every command has: programs that are not there are no programs.
    pub(super) fn check_globals(&self) -> Result<(), u8> {
        for name in ["drbdsetup", "drbdmeta", "drbd-proxy-ctl"] {
            if self.path(name).is_some_and(|path| !path.is_file()) {
                out::error("Can not find command (drbdsetup/drbdmeta)");
                return Err(20);
            }
        }
        Ok(())
    }
}

/// Whether a configuration file's name means what is piped in. A program that opens the device of that name reads the same; the
/// name is understood instead, for no other pipe is read.
pub(super) fn is_standard_input(path: &Path) -> bool {
    const NAMES: [&str; 4] = ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];
    NAMES.iter().any(|name| path == Path::new(name))
}
