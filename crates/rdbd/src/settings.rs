//! `rdbd.toml`: what only rdb knows, so that drbd.conf stays DRBD's.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rdb_config::{printable, read_regular};
use rdb_frontend::knbd::CONNECTIONS_MAX;
use serde::{Deserialize, Deserializer};

use crate::askers::{Askers, Mode};

/// Where the file is when nothing else is said.
pub(crate) const DEFAULT_PATH: &str = "/etc/rdb/rdbd.toml";

/// The run directory when nothing else is said.
pub(crate) const DEFAULT_RUN_DIR: &str = rdb_control::DEFAULT_RUN_DIR;

/// `busy-poll-us` when nothing else is said: about what a local write takes.
pub(crate) const DEFAULT_BUSY_POLL_US: u16 = 200;

/// `handler-timeout` when nothing else is said: minutes, for a script that fences waits for a cluster manager and for the peer's end.
const DEFAULT_HANDLER_TIMEOUT_S: u32 = 180;

/// The greatest size of the file, in bytes: many times what all keys with long comments take.
const SIZE_MAX: usize = 1 << 20;

/// The greatest length of a name in the file, in bytes; groups have at most 32.
const NAME_MAX: usize = 64;

/// The greatest length of a path in the file, in bytes: Linux has no longer ones.
const PATH_MAX: usize = 4095;

/// How much of a message is shown at its beginning and at its end, in characters: it may repeat a value of any length.
const SHOWN: usize = 200;

/// `nbd-connections` when nothing else is said: one thread serves all, and with one connection the kernel sends nothing twice.
const DEFAULT_NBD_CONNECTIONS: u32 = 1;

/// The file's content.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// `auto`, `ublk`, `nbd`, `fuse` or `socket`.
    #[serde(default, deserialize_with = "name")]
    pub(crate) frontend: Option<String>,
    /// How much is logged.
    pub(crate) log_level: Option<LogLevel>,
    /// Whether `/dev/drbdN`, `/dev/drbd/by-res/RES/VOL` and `/dev/drbd/by-disk/DISK` are made; by default only with the default run
    /// directory, so that several nodes on one machine do not fight for the names.
    pub(crate) device_links: Option<bool>,
    /// Microseconds that a resource's thread looks for completions before it sleeps, while it has work; 0 never
    /// does. Shorter writes for some CPU.
    pub(crate) busy_poll_us: Option<u16>,
    /// `none`, `without-data` or `whole`.
    pub(crate) core_dumps: Option<CoreDumps>,
    /// `suspend`, `detach` or `pass_on`.
    pub(crate) on_no_space: Option<OnNoSpace>,
    /// Seconds that a handler may take before it is ended; 0 is for ever.
    pub(crate) handler_timeout: Option<u32>,
    /// Connections of a new device of the front end `nbd`.
    pub(crate) nbd_connections: Option<NbdConnections>,
    /// The group that may ask over the socket for questions: a name or a number.
    #[serde(default, deserialize_with = "name")]
    pub(crate) questions_group: Option<String>,
    /// That socket's mode.
    pub(crate) questions_mode: Option<Mode>,
    /// Where what outlives the daemon is kept: the histories of the resources.
    #[serde(default, deserialize_with = "directory")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Where the page and the metrics are served, to whoever reaches that address; nowhere by default.
    #[serde(default, deserialize_with = "address")]
    pub(crate) http: Option<SocketAddr>,
    /// What programs find that know the kernel's driver alone.
    #[serde(default)]
    pub(crate) compat: Compat,
}

/// `[compat]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Compat {
    /// Whether, and where, the status file is shown in the place of `/proc/drbd`.
    #[serde(default)]
    pub(crate) proc_drbd: ProcDrbd,
}

/// `compat.proc-drbd`: true is `/proc/drbd`; a path is another place of it, as where the host's `/proc` is mounted elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    untagged,
    expecting = "compat.proc-drbd is true, false or an absolute path"
)]
pub(crate) enum ProcDrbd {
    Word(bool),
    #[serde(deserialize_with = "place")]
    Place(PathBuf),
}

impl ProcDrbd {
    /// In which file's place it is shown.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        match self {
            ProcDrbd::Word(true) => Some("/proc/drbd".into()),
            ProcDrbd::Word(false) => None,
            ProcDrbd::Place(path) => Some(path.clone()),
        }
    }
}

impl Default for ProcDrbd {
    /// Nowhere.
    fn default() -> Self {
        ProcDrbd::Word(false)
    }
}

/// `nbd-connections`: 1 to [`CONNECTIONS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub(crate) struct NbdConnections(u32);

impl NbdConnections {
    /// The number.
    pub(crate) fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for NbdConnections {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match number {
            1..=CONNECTIONS_MAX => Ok(Self(number)),
            _ => Err(format!(
                "nbd-connections is 1 to {CONNECTIONS_MAX}, not {number}"
            )),
        }
    }
}

impl Default for NbdConnections {
    /// [`DEFAULT_NBD_CONNECTIONS`].
    fn default() -> Self {
        Self(DEFAULT_NBD_CONNECTIONS)
    }
}

/// `core-dumps`: what is left of a daemon that crashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CoreDumps {
    #[default]
    None,
    WithoutData,
    Whole,
}

impl CoreDumps {
    /// The same for the runtime.
    pub(crate) fn runtime(self) -> rdb_runtime::CoreDumps {
        match self {
            CoreDumps::None => rdb_runtime::CoreDumps::None,
            CoreDumps::WithoutData => rdb_runtime::CoreDumps::WithoutData,
            CoreDumps::Whole => rdb_runtime::CoreDumps::Whole,
        }
    }
}

/// `on-no-space`: what a write means that meets a full disk. The words are those of drbd.conf's `on-io-error`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnNoSpace {
    Detach,
    #[default]
    Suspend,
    #[serde(alias = "pass-on")]
    PassOn,
}

impl OnNoSpace {
    /// The same for the engine.
    pub(crate) fn engine(self) -> rdb_engine::config::OnNoSpace {
        use rdb_engine::config::OnNoSpace as Engine;
        match self {
            OnNoSpace::Detach => Engine::Detach,
            OnNoSpace::Suspend => Engine::Suspend,
            OnNoSpace::PassOn => Engine::PassOn,
        }
    }
}

/// `log-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The same for the log.
    pub(crate) fn tracing(self) -> tracing::Level {
        match self {
            LogLevel::Error => tracing::Level::ERROR,
            LogLevel::Warn => tracing::Level::WARN,
            LogLevel::Info => tracing::Level::INFO,
            LogLevel::Debug => tracing::Level::DEBUG,
            LogLevel::Trace => tracing::Level::TRACE,
        }
    }
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    // The error is no source: who prints a chain of errors would say it twice.
    #[error("can not read {}: {error}", printed(path))]
    Read { path: PathBuf, error: io::Error },
    #[error("{} is larger than {SIZE_MAX} bytes", printed(path))]
    TooLarge { path: PathBuf },
    #[error("{}:{line}: {message}", printed(path))]
    Parse {
        path: PathBuf,
        line: usize,
        message: String,
    },
}

impl Settings {
    /// How long a handler may take.
    pub(crate) fn handler_timeout(&self) -> Option<Duration> {
        match self.handler_timeout.unwrap_or(DEFAULT_HANDLER_TIMEOUT_S) {
            0 => None,
            seconds => Some(Duration::from_secs(seconds.into())),
        }
    }

    /// The state directory of a daemon with this run directory.
    pub(crate) fn state_dir_or_usual(&self, run_dir: &Path) -> PathBuf {
        let named = self.state_dir.clone();
        named.unwrap_or_else(|| rdb_control::state_dir_of(run_dir))
    }

    /// Who may ask.
    pub(crate) fn askers(&self) -> Askers {
        Askers {
            group: self.questions_group.clone(),
            mode: self.questions_mode.unwrap_or_default(),
        }
    }

    /// Reads the file; a missing one is fine unless it was asked for by name.
    pub(crate) fn load(asked: Option<&Path>) -> Result<Settings, SettingsError> {
        let path = asked.unwrap_or(Path::new(DEFAULT_PATH));
        match read_regular(path, SIZE_MAX) {
            Ok(bytes) => Settings::read(path, &bytes),
            Err(error) if asked.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Ok(Settings::default())
            }
            Err(error) => Err(SettingsError::Read {
                path: path.to_owned(),
                error,
            }),
        }
    }

    /// What the file's bytes say.
    pub(crate) fn read(path: &Path, bytes: &[u8]) -> Result<Settings, SettingsError> {
        if bytes.len() > SIZE_MAX {
            return Err(SettingsError::TooLarge {
                path: path.to_owned(),
            });
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Settings::parse(path, text),
            Err(error) => Err(SettingsError::Parse {
                path: path.to_owned(),
                line: line_of(bytes, error.valid_up_to()),
                message: "this is not valid UTF-8".to_owned(),
            }),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Settings, SettingsError> {
        toml::from_str(text).map_err(|error| SettingsError::Parse {
            path: path.to_owned(),
            line: line_of(text.as_bytes(), error.span().map_or(0, |span| span.start)),
            message: shown(error.message()),
        })
    }
}

/// A name as it may be printed again: a value that is wrong is found out later, by who uses it.
fn name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(from)?;
    if name.len() > NAME_MAX || printable(&name) != name || name.contains(['\n', '\t']) {
        return Err(serde::de::Error::custom(format!(
            "a name has at most {NAME_MAX} bytes, and no control characters"
        )));
    }
    Ok(Some(name))
}

/// An address with a port, both as numbers.
fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(Some(address)),
        _ => Err(serde::de::Error::custom(
            "an address is given as \"127.0.0.1:9942\" or \"[::1]:9942\"",
        )),
    }
}

/// A path, whatever the working directory is.
fn place<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    directory(from)?.ok_or_else(|| serde::de::Error::custom("no path"))
}

/// A directory, whatever the working directory is.
fn directory<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let name = String::deserialize(from)?;
    if !name.starts_with('/') || name.len() > PATH_MAX || one_line(&name) != name {
        return Err(serde::de::Error::custom(format!(
            "a directory is given by an absolute path of at most {PATH_MAX} bytes without control characters"
        )));
    }
    Ok(Some(PathBuf::from(name)))
}

/// The number of the line of a byte, from 1.
fn line_of(bytes: &[u8], at: usize) -> usize {
    let before = bytes.iter().take(at);
    before.filter(|byte| **byte == b'\n').count() + 1
}

/// A path on one line that does nothing to a terminal.
fn printed(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// A message that may repeat what the file holds: on one line, without its middle if it is long.
fn shown(message: &str) -> String {
    let count = message.chars().count();
    if count <= 2 * SHOWN {
        return one_line(message);
    }
    let start: String = message.chars().take(SHOWN).collect();
    let end: String = message.chars().skip(count - SHOWN).collect();
    format!("{} ... {}", one_line(&start), one_line(&end))
}

/// The text with an escape for everything that would act on a terminal or begin a line of a log.
fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n").replace('\t', "\\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(Path::new("rdbd.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn every_key_is_read() {
        assert_eq!(
            parse(
                "# all of them\nfrontend = \"socket\"\nlog-level = \"debug\"\ndevice-links = true\nbusy-poll-us = 50\nnbd-connections = 3\ncore-dumps = \"without-data\"\nquestions-group = \"wheel\"\nquestions-mode = \"0600\"\non-no-space = \"detach\"\nhandler-timeout = 90\nstate-dir = \"/srv/rdb\"\nhttp = \"[::1]:9942\"\ncompat.proc-drbd = true\n"
            ),
            Ok(Settings {
                frontend: Some("socket".to_owned()),
                log_level: Some(LogLevel::Debug),
                device_links: Some(true),
                busy_poll_us: Some(50),
                nbd_connections: Some(NbdConnections(3)),
                core_dumps: Some(CoreDumps::WithoutData),
                questions_group: Some("wheel".to_owned()),
                questions_mode: Some("0600".to_owned().try_into().expect("a mode")),
                on_no_space: Some(OnNoSpace::Detach),
                handler_timeout: Some(90),
                state_dir: Some("/srv/rdb".into()),
                http: Some("[::1]:9942".parse().expect("an address")),
                compat: Compat {
                    proc_drbd: ProcDrbd::Word(true)
                },
            })
        );
        assert_eq!(parse(""), Ok(Settings::default()));
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (text, start, words) in [
            (
                "\nfrontent = \"fuse\"\n",
                "rdbd.toml:2: ",
                "unknown field `frontent`",
            ),
            ("frontend = 5\n", "rdbd.toml:1: ", "expected a string"),
            (
                "\n\nlog-level = \"loud\"",
                "rdbd.toml:3: ",
                "unknown variant `loud`",
            ),
            ("device-links = yes", "rdbd.toml:1: ", ""),
            ("core-dumps = true", "rdbd.toml:1: ", ""),
            (
                "\non-no-space = \"wait\"",
                "rdbd.toml:2: ",
                "unknown variant `wait`",
            ),
            (
                "nbd-connections = 17",
                "rdbd.toml:1: ",
                "nbd-connections is 1 to 16, not 17",
            ),
            (
                "\nquestions-mode = \"0777\"",
                "rdbd.toml:2: ",
                "questions-mode is",
            ),
            ("questions-mode = 660", "rdbd.toml:1: ", ""),
            ("\nnbd-connections = 0", "rdbd.toml:2: ", "1 to 16, not 0"),
            ("handler-timeout = -1", "rdbd.toml:1: ", ""),
            ("[frontend]\n", "rdbd.toml:1: ", ""),
            (
                "\nstate-dir = \"here\"",
                "rdbd.toml:2: ",
                "an absolute path",
            ),
            (
                "http = \"localhost:80\"",
                "rdbd.toml:1: ",
                "an address is given",
            ),
            (
                "http = \"127.0.0.1\"",
                "rdbd.toml:1: ",
                "an address is given",
            ),
            (
                "http = \"127.0.0.1:0\"",
                "rdbd.toml:1: ",
                "an address is given",
            ),
            ("http = true", "rdbd.toml:1: ", ""),
        ] {
            let error = parse(text).expect_err(text);
            assert!(
                error.starts_with(start) && error.contains(words),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn the_status_file_is_shown_where_it_is_said() {
        for (text, path) in [
            ("", None),
            ("[compat]\n", None),
            ("compat.proc-drbd = false", None),
            ("compat.proc-drbd = true", Some("/proc/drbd")),
            (
                "[compat]\nproc-drbd = \"/host/proc/drbd\"",
                Some("/host/proc/drbd"),
            ),
        ] {
            let read = parse(text).expect(text);
            assert_eq!(read.compat.proc_drbd.path(), path.map(PathBuf::from));
        }
        for (text, words) in [
            (
                "compat.proc-drbd = \"proc/drbd\"",
                "true, false or an absolute path",
            ),
            ("compat.proc-drbd = 1", "true, false or an absolute path"),
            ("compat.proc = true", "unknown field `proc`"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_answers_to_a_full_disk_have_the_words_of_on_io_error() {
        for (word, meant) in [
            ("detach", OnNoSpace::Detach),
            ("suspend", OnNoSpace::Suspend),
            ("pass_on", OnNoSpace::PassOn),
            ("pass-on", OnNoSpace::PassOn),
        ] {
            let read = parse(&format!("on-no-space = \"{word}\"")).expect(word);
            assert_eq!(read.on_no_space, Some(meant));
        }
        let engine = rdb_engine::config::OnNoSpace::default();
        assert_eq!(OnNoSpace::default().engine(), engine);
    }

    #[test]
    fn a_handler_has_its_time_unless_it_may_take_any() {
        for (text, seconds) in [
            ("", Some(180)),
            ("handler-timeout = 5", Some(5)),
            ("handler-timeout = 0", None),
        ] {
            let limit = parse(text).expect(text).handler_timeout();
            assert_eq!(limit.map(|limit| limit.as_secs()), seconds);
        }
    }

    #[test]
    fn a_missing_file_matters_only_if_it_was_asked_for() {
        let missing = Path::new("/nonexistent/rdbd.toml");
        let error = Settings::load(Some(missing))
            .expect_err("asked for")
            .to_string();
        assert_eq!(
            error,
            "can not read /nonexistent/rdbd.toml: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn what_the_file_holds_neither_acts_on_a_terminal_nor_floods_it() {
        for (text, words) in [
            (
                "log-level = \"a\\u001b[2Jb\\nc\"".to_owned(),
                "unknown variant `a\\u{1b}[2Jb\\nc`",
            ),
            ("\"a\\u001b\\r\\n\" = 1".to_owned(), "`a\\u{1b}\\u{d}\\n`"),
            ("log-level = \u{1b}[2J".to_owned(), ""),
            (
                format!("log-level = \"{}\"", "x".repeat(500_000)),
                "x ... x",
            ),
            (format!("log-level = {}", "5".repeat(500_000)), ""),
            (format!("{} = 1", "k".repeat(500_000)), "unknown field"),
            (format!("questions-mode = \"{}\"", "6".repeat(500_000)), ""),
            (
                "frontend = \"\\u001b[2J\"".to_owned(),
                "a name has at most 64 bytes, and no control characters",
            ),
            (
                format!("questions-group = \"{}\"", "g".repeat(65)),
                "a name has at most 64 bytes",
            ),
            ("questions-group = \"a\\nb\"".to_owned(), "a name has"),
            (
                "state-dir = \"/a\\nb\"".to_owned(),
                "without control characters",
            ),
            (
                format!("state-dir = \"/{}\"", "d".repeat(4095)),
                "at most 4095 bytes",
            ),
            (format!("{}x = 1", "a.".repeat(200_000)), ""),
            (format!("frontend = {}", "[".repeat(200_000)), ""),
        ] {
            let error = parse(&text).expect_err(words);
            assert!(error.starts_with("rdbd.toml:1: "), "{error}");
            assert!(error.contains(words), "{error}");
            assert!(error.len() < 1000, "{} bytes", error.len());
            assert!(!error.contains(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_named_with_their_line() {
        let read = |bytes: &[u8]| {
            let read = Settings::read(Path::new("rdbd.toml"), bytes);
            read.map_err(|error| error.to_string())
        };
        assert_eq!(
            read(b"# one\nfrontend = \"\xff\"\n"),
            Err("rdbd.toml:2: this is not valid UTF-8".to_owned())
        );
        assert_eq!(read(&vec![b'\n'; SIZE_MAX]), Ok(Settings::default()));
        assert_eq!(
            read(&vec![b'\n'; SIZE_MAX + 1]),
            Err("rdbd.toml is larger than 1048576 bytes".to_owned())
        );
    }
}
