//! `/etc/rdb/promoter.toml`: which resources have a promoter, and what it starts where it has promoted them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Where it is, if nothing else is said.
pub(crate) const DEFAULT_FILE: &str = "/etc/rdb/promoter.toml";
/// Its greatest size in bytes.
const FILE_MAX: usize = 1 << 20;
/// What `without-fencing` has to say.
const ACCEPTED: &str = "split brain accepted";
/// What the names of systemd's units end with, as far as they can be started and stopped.
const UNIT_ENDINGS: [&str; 9] = [
    ".service",
    ".mount",
    ".target",
    ".socket",
    ".timer",
    ".path",
    ".automount",
    ".swap",
    ".slice",
];
/// The longest time that can be given, in seconds.
const SECONDS_MAX: u32 = 300_000;

/// All of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) resources: BTreeMap<String, Settings>,
}

/// What is done with a resource.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// What is started once it is Primary, in order, and stopped in reverse.
    pub(crate) start: Vec<Service>,
    /// Whether a promoter that is told to end stops it all first.
    #[serde(default = "yes")]
    pub(crate) stop_services_on_exit: bool,
    #[serde(default)]
    pub(crate) on_drbd_demote_failure: Escalation,
    /// Nodes, the best first. One that is not named comes after all of them.
    #[serde(default)]
    pub(crate) preferred_nodes: Vec<String>,
    /// Stretches the pauses by which the better node is first.
    #[serde(default = "one")]
    pub(crate) sleep_before_promote_factor: f64,
    /// Has to say [`ACCEPTED`]; then a node without fencing goes on alone.
    without_fencing: Option<String>,
    #[serde(default)]
    pub(crate) on_disk_loss: OnDiskLoss,
    /// How long a peer that was not there yet is waited for, in seconds.
    #[serde(default = "sixty")]
    pub(crate) peer_wait: u32,
    /// How long one that was lost is waited for.
    #[serde(default = "ten")]
    pub(crate) peer_lost_wait: u32,
    /// How long I/O may be suspended before services are stopped; 0 is for ever.
    #[serde(default = "three_hundred")]
    pub(crate) suspended_wait: u32,
    /// How long a daemon that has died is waited for, while its devices wait, too.
    #[serde(default = "sixty")]
    pub(crate) daemon_wait: u32,
    /// How long the start of one service may take.
    #[serde(default = "ninety")]
    pub(crate) start_timeout: u32,
    /// How long its stop may take.
    #[serde(default = "ninety")]
    pub(crate) stop_timeout: u32,
    /// How often services are looked at.
    #[serde(default = "five")]
    pub(crate) monitor_interval: u32,
}

/// A thing that is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Service {
    /// One of systemd's units.
    Unit(String),
    /// Commands for `/bin/sh -c`.
    Commands(Commands),
}

/// The commands of a service that is no unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Commands {
    /// What it is called in messages; the command, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Starts it, and ends.
    pub(crate) command: String,
    /// Stops it; also what has failed to start, or runs no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stop: Option<String>,
    /// Ends with 0 while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) check: Option<String>,
}

/// (An untagged enum would only say that it is neither.)
impl<'de> Deserialize<'de> for Service {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Service, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = Service;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a unit's name or { command = \"...\", stop = \"...\" }")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Service, E> {
                Ok(Service::Unit(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Service, A::Error> {
                let commands = Commands::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Service::Commands(commands))
            }
        }

        from.deserialize_any(Written)
    }
}

impl Service {
    /// What it is called in messages.
    pub(crate) fn name(&self) -> &str {
        match self {
            Service::Unit(name) => name,
            Service::Commands(commands) => commands.name.as_ref().unwrap_or(&commands.command),
        }
    }
}

/// What is done when the role of Primary can not be given up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "EscalationWritten")]
pub(crate) enum Escalation {
    /// It is tried on.
    #[default]
    Nothing,
    /// This is run, as arguments.
    Run(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum EscalationWritten {
    Word(String),
    Command { command: String },
}

impl TryFrom<EscalationWritten> for Escalation {
    type Error = String;

    fn try_from(written: EscalationWritten) -> Result<Escalation, String> {
        let words: &[&str] = match &written {
            EscalationWritten::Command { command } => &["/bin/sh", "-c", command],
            EscalationWritten::Word(word) => match word.as_str() {
                "none" => return Ok(Escalation::Nothing),
                "reboot" => &["systemctl", "reboot"],
                "reboot-force" => &["systemctl", "--force", "reboot"],
                "reboot-immediate" => &["systemctl", "--force", "--force", "reboot"],
                "poweroff" => &["systemctl", "poweroff"],
                "poweroff-force" => &["systemctl", "--force", "poweroff"],
                "poweroff-immediate" => &["systemctl", "--force", "--force", "poweroff"],
                _ => {
                    return Err(format!(
                        "'{word}' is none of none, reboot, reboot-force, reboot-immediate, poweroff, poweroff-force, \
                         poweroff-immediate, and no {{ command = \"...\" }}"
                    ));
                }
            },
        };
        Ok(Escalation::Run(
            words.iter().map(|word| (*word).to_owned()).collect(),
        ))
    }
}

/// What is done when the disk of the Primary has failed and the peer has the data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnDiskLoss {
    /// The services move to the peer.
    #[default]
    Move,
    /// They stay, and have the peer's disk.
    Stay,
}

fn yes() -> bool {
    true
}
fn one() -> f64 {
    1.0
}
fn five() -> u32 {
    5
}
fn ten() -> u32 {
    10
}
fn sixty() -> u32 {
    60
}
fn ninety() -> u32 {
    90
}
fn three_hundred() -> u32 {
    300
}

impl Settings {
    /// Whether a node without fencing may go on alone.
    pub(crate) fn accepts_split_brain(&self) -> bool {
        self.without_fencing.is_some()
    }

    /// The place of a node among the preferred ones.
    pub(crate) fn rank(&self, node: &str) -> u32 {
        let nodes = &self.preferred_nodes;
        let place = nodes.iter().position(|name| name == node);
        u32::try_from(place.unwrap_or(nodes.len())).unwrap_or(u32::MAX)
    }

    fn check(&self) -> Result<(), String> {
        for service in &self.start {
            match service {
                Service::Unit(name) if !is_unit(name) => {
                    return Err(format!(
                        "start: '{name}' is no unit of systemd's ({}); a command is written as {{ command = \"...\", stop = \"...\" }}",
                        UNIT_ENDINGS.join(", ")
                    ));
                }
                Service::Commands(commands) if commands.command.trim().is_empty() => {
                    return Err("start: a command is empty".to_owned());
                }
                // It would be stopped as the second, and missed as the first.
                Service::Unit(_)
                    if self.start.iter().filter(|other| *other == service).count() > 1 =>
                {
                    return Err(format!("start: '{}' is there twice", service.name()));
                }
                _ => {}
            }
        }
        match &self.without_fencing {
            Some(words) if words != ACCEPTED => {
                return Err(format!(
                    "without-fencing has to be \"{ACCEPTED}\", or not to be there; it is \"{words}\""
                ));
            }
            _ => {}
        }
        let factor = self.sleep_before_promote_factor;
        if !(0.0..=100.0).contains(&factor) {
            return Err(format!(
                "sleep-before-promote-factor: {factor} is not between 0 and 100"
            ));
        }
        for (name, seconds, least) in [
            ("peer-wait", self.peer_wait, 0),
            ("peer-lost-wait", self.peer_lost_wait, 0),
            ("suspended-wait", self.suspended_wait, 0),
            ("daemon-wait", self.daemon_wait, 0),
            ("start-timeout", self.start_timeout, 1),
            ("stop-timeout", self.stop_timeout, 1),
            ("monitor-interval", self.monitor_interval, 1),
        ] {
            if !(least..=SECONDS_MAX).contains(&seconds) {
                return Err(format!(
                    "{name}: {seconds} is not between {least} and {SECONDS_MAX}"
                ));
            }
        }
        Ok(())
    }
}

fn is_unit(name: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    !name.starts_with('-')
        && name.chars().all(is_name)
        && UNIT_ENDINGS
            .iter()
            .any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

/// Reads the file; a message names what is wrong with it, and where.
pub(crate) fn read(path: &Path) -> Result<File, String> {
    let named = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let bytes = rdb_config::read_regular(path, FILE_MAX).map_err(|error| named(&error))?;
    if bytes.len() > FILE_MAX {
        return Err(named(&format!("it has more than {FILE_MAX} bytes")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| named(&error))?;
    parse(text).map_err(|error| format!("{}:{error}", path.display()))
}

/// A message begins with the line, if there is one. (What stands in that may be long, and secret.)
fn parse(text: &str) -> Result<File, String> {
    let file: File = toml::from_str(text).map_err(|error| {
        let message = rdb_config::printable(error.message()).replace('\n', "; ");
        match error.span().and_then(|span| text.get(..span.start)) {
            Some(before) => format!(
                "{}: {}{message}",
                before.matches('\n').count() + 1,
                key_of(before)
            ),
            None => format!(" {message}"),
        }
    })?;
    for (name, settings) in &file.resources {
        settings
            .check()
            .map_err(|error| format!(" [resources.{name}] {error}"))?;
    }
    Ok(file)
}

/// The key whose value begins where this text ends, for a message.
fn key_of(before: &str) -> String {
    let line = before.rsplit('\n').next().unwrap_or_default();
    let is_key = |key: &&str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !key.is_empty() && key.chars().all(is_plain)
    };
    let key = line
        .split_once('=')
        .map(|(key, _)| key.trim())
        .filter(is_key);
    key.map_or(String::new(), |key| format!("{key}: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Settings, String> {
        let file = parse(&format!("[resources.r0]\n{text}"))?;
        Ok(file.resources["r0"].clone())
    }

    #[test]
    fn the_example_of_the_package_is_understood() {
        let text = include_str!("../../../../packaging/promoter.toml");
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix("#~ ").unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n");
        let file = parse(&uncommented).unwrap();
        assert_eq!(file.resources.len(), 1);
        assert_eq!(parse(text).unwrap().resources.len(), 0);
    }

    #[test]
    fn a_short_file_has_drbd_reactors_words_and_safe_defaults() {
        let settings =
            of("start = [\"srv.mount\", { name = \"n\", command = \"a\", stop = \"b\" }]\npreferred-nodes = [\"alice\"]")
                .unwrap();
        assert_eq!(settings.start[0].name(), "srv.mount");
        assert_eq!(settings.start[1].name(), "n");
        assert!(settings.stop_services_on_exit && !settings.accepts_split_brain());
        assert_eq!(settings.on_drbd_demote_failure, Escalation::Nothing);
        assert_eq!((settings.rank("alice"), settings.rank("bob")), (0, 1));
        assert_eq!(of("start = []").unwrap().rank("bob"), 0);
        let reboots = of("start = []\non-drbd-demote-failure = \"reboot-immediate\"").unwrap();
        assert_eq!(
            reboots.on_drbd_demote_failure,
            Escalation::Run(
                ["systemctl", "--force", "--force", "reboot"]
                    .map(str::to_owned)
                    .into()
            )
        );
        let accepts = of("start = []\nwithout-fencing = \"split brain accepted\"").unwrap();
        assert!(accepts.accepts_split_brain());
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, words) in [
            ("", "missing field `start`"),
            ("start = []\nsecondary-force = true", "secondary-force"),
            ("start = [\"mount /srv\"]", "'mount /srv' is no unit"),
            ("start = [\"--now.service\"]", "'--now.service' is no unit"),
            ("start = [\".mount\"]", "'.mount' is no unit"),
            ("start = [{ command = \" \" }]", "a command is empty"),
            (
                "start = [{ command = \"a\", restart = \"b\" }]",
                "2: start: unknown field `restart`",
            ),
            ("start = [{ stop = \"a\" }]", "missing field `command`"),
            ("start = [3]", "a unit's name or { command"),
            (
                "start = [\"a.mount\", \"b.service\", \"a.mount\"]",
                "'a.mount' is there twice",
            ),
            (
                "start = []\nwithout-fencing = \"yes\"",
                "split brain accepted",
            ),
            ("start = []\nwithout-fencing = true", "without-fencing"),
            (
                "start = []\non-drbd-demote-failure = \"panic\"",
                "'panic' is none of",
            ),
            (
                "start = []\nsleep-before-promote-factor = -1.0",
                "-1 is not between",
            ),
            (
                "start = []\nsleep-before-promote-factor = nan",
                "NaN is not between",
            ),
            ("start = []\nmonitor-interval = 0", "monitor-interval: 0"),
            ("start = []\npeer-wait = 999999", "peer-wait: 999999"),
            ("start = []\non-disk-loss = \"cry\"", "on-disk-loss"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let error = of("start = []\npeer-wait = \"secret").unwrap_err();
        assert!(
            !error.contains("secret") && !error.contains('\n'),
            "{error}"
        );
        assert!(parse("resources = 3").is_err() && parse("").is_err());
    }

    #[test]
    fn a_file_is_read_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        let rest = "#".repeat(FILE_MAX);
        std::fs::write(
            &path,
            format!("[resources.r0]\nstart = []\n{rest}\nnonsense"),
        )
        .unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.ends_with("it has more than 1048576 bytes"), "{error}");
        std::fs::write(&path, "[resources.r0]\nstart = [").unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.contains("p.toml:2: "), "{error}");
    }
}
