//! `doctor`: what is wrong with this machine, and what to change.

use std::os::unix::net::UnixStream;
use std::path::Path;

use rdb_config::{Config, ConfigError, Loaded, ResolvedResource};
use rdb_control::{Presence, presence};
use rdb_doctor::{Daemon, Machine, Patient, Settings, System};

use super::Command;
use super::configured::is_standard_input;
use super::select;
use crate::out;
use crate::verbs::Target;

/// The exit status when it is not known what to look at.
const UNKNOWN: u8 = 3;

impl Command<'_> {
    pub(super) fn doctor(&self) -> u8 {
        let Some(node) = self.own_node() else {
            out::error(&format!(
                "{}: can not find out this node's name; use --node",
                self.program
            ));
            return UNKNOWN;
        };
        let mut complaints = Vec::new();
        let config = match self.configuration() {
            Ok(config) => config,
            Err(error) => {
                complaints.extend(in_words(&error).map(|text| (None, text)));
                None
            }
        };
        let words = self.objects();
        let mut resources = Vec::new();
        if let Some(config) = &config {
            match select::select(config, &node, self.verb.name, Target::Optional, &words) {
                Ok(selected) => {
                    for selected in selected {
                        let peer = self.args.get_one::<String>("peer").map(String::as_str);
                        let resource = selected.resource;
                        let resolved = resource.for_host_with_peer(&node, peer).or_else(|error| {
                            let name = &resource.name;
                            complaints
                                .extend(in_words(&error).map(|text| (Some(name.clone()), text)));
                            resource.described_for(&node, peer)
                        });
                        resources.extend(resolved.ok());
                    }
                }
                // That nothing is for this node is one of the findings.
                Err(_) if words.is_empty() => {}
                Err(error) => {
                    out::error(&error.to_string());
                    return UNKNOWN;
                }
            }
        }
        self.tell(&node, config.as_ref(), complaints, resources)
    }

    fn tell(
        &self,
        node: &str,
        config: Option<&Config>,
        complaints: Vec<(Option<String>, String)>,
        resources: Vec<ResolvedResource>,
    ) -> u8 {
        let run_dir = self.path("run-dir").expect("it has a default");
        let system = System::default();
        let machine = Machine::new(Path::new("/"), &system);
        let pid = match presence(&run_dir) {
            Presence::Runs { pid } => pid,
            Presence::Left { .. } | Presence::Nobody => None,
        };
        let daemon = match self.executor().status() {
            Ok(Some(report)) => Daemon::Runs { pid, report },
            Ok(None) => Daemon::None,
            Err(trouble) => Daemon::Silent {
                pid,
                reason: trouble.message,
                is_denied: is_denied(&run_dir),
            },
        };
        let (settings, settings_fault) = Settings::of_daemon(&machine, pid);
        let patient = Patient {
            node,
            run_dir: &run_dir,
            settings,
            settings_fault,
            daemon,
            config,
            complaints,
            resources,
        };
        let findings = rdb_doctor::examine(&machine, &patient);
        if self.has("json") {
            let text = serde_json::to_string_pretty(&findings);
            out::line(&text.expect("plain values with string keys"));
        } else {
            out::print_written(&rdb_doctor::text(&findings, self.has("verbose")));
        }
        rdb_doctor::exit_code(&findings)
    }

    /// The configuration; nothing if none is named, and none is where it usually is.
    fn configuration(&self) -> Result<Option<Config>, ConfigError> {
        let loaded = match self.path("config-file") {
            Some(path) if is_standard_input(&path) => {
                let bytes = self.piped().unwrap_or_default();
                rdb_config::load_bytes("STDIN", &bytes)
            }
            Some(path) => rdb_config::load(&path),
            None => {
                let path = rdb_config::default_config_path();
                if !path.exists() {
                    return Ok(None);
                }
                rdb_config::load(&path)
            }
        };
        loaded.map(|Loaded { config, .. }| Some(config))
    }
}

/// Each mistake on a line of its own, without the piece of the file that has it.
fn in_words(error: &ConfigError) -> impl Iterator<Item = String> {
    error.diagnostics.iter().map(|diagnostic| {
        let text = diagnostic.text();
        let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(hint) = &diagnostic.hint {
            text += &format!(" ({hint})");
        }
        text
    })
}

/// Whether this user may not even ask the daemon.
fn is_denied(run_dir: &Path) -> bool {
    let asked = UnixStream::connect(run_dir.join(rdb_control::QUESTIONS_NAME));
    asked.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}
