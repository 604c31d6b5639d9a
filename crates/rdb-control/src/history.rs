//! The history of a resource: what has happened to it, a JSON object a line (`docs/split-brain.md`, "The history").
//!
//! The daemon appends to one small file a resource; what does not fit any more is in one old file beside it, or gone. Whoever reads
//! it asks the daemon, or opens the files when none runs.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use replica_proto::state::Role;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::reason::utc;

/// Where a daemon with the usual run directory keeps what outlives it.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/rdb";

/// Bytes of a history at which it becomes the old one, and a new one begins.
pub const HISTORY_BYTES_MAX: u64 = 256 * 1024;

/// Lines of a history that are told; the newest ones.
pub const HISTORY_LINES_MAX: usize = 2000;

/// Longest line, in bytes: what is longer is none of ours.
const LINE_MAX: usize = 4096;

/// The history of a resource in a state directory.
pub fn history_path(state_dir: &Path, resource: &str) -> PathBuf {
    state_dir.join("history").join(format!("{resource}.jsonl"))
}

/// The old one beside it.
pub fn old_history_path(state_dir: &Path, resource: &str) -> PathBuf {
    state_dir
        .join("history")
        .join(format!("{resource}.jsonl.1"))
}

/// The state directory of a daemon that is told of none: nodes that share a machine, each with a run directory of its own, do not
/// share it.
pub fn state_dir_of(run_dir: &Path) -> PathBuf {
    match run_dir == Path::new(crate::DEFAULT_RUN_DIR) {
        true => PathBuf::from(DEFAULT_STATE_DIR),
        false => run_dir.join("state"),
    }
}

/// The file of a run directory that names the state directory which its last daemon took: a line, whose end says that all of it is
/// there. The daemon writes it, and nothing takes it away: who looks for the histories of a daemon that is gone goes by it.
const KEPT_IN_NAME: &str = "rdbd.state-dir";

/// Longest path that the system takes, and the end of the line.
const KEPT_IN_MAX: usize = 4096 + 1;

/// Where the last daemon of a run directory kept its histories, which need not be where they are usually: its settings may have been
/// others, or another daemon had that place. Nothing if it has left no word, or none that can be read.
pub fn kept_state_dir(run_dir: &Path) -> Option<PathBuf> {
    let line = rdb_config::read_regular(&run_dir.join(KEPT_IN_NAME), KEPT_IN_MAX).ok()?;
    let dir = PathBuf::from(OsStr::from_bytes(line.strip_suffix(b"\n")?));
    dir.is_absolute().then_some(dir)
}

/// Leaves word of where the histories are, unless it is there.
///
/// # Errors
/// Those of the system; what was there before stays.
pub fn keep_state_dir(run_dir: &Path, state_dir: &Path) -> io::Result<()> {
    if kept_state_dir(run_dir).as_deref() == Some(state_dir) {
        return Ok(());
    }
    let new = run_dir.join("rdbd.state-dir.new");
    let line = [state_dir.as_os_str().as_bytes(), b"\n"].concat();
    std::fs::write(&new, line)?;
    std::fs::rename(new, run_dir.join(KEPT_IN_NAME))
}

/// The name of a generation: 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Uuid(pub u64);

impl Uuid {
    /// Bit 0 tells of a role, and of no other data.
    pub fn is_same(self, other: Uuid) -> bool {
        self.0 & !1 == other.0 & !1
    }

    /// An empty slot, or that of a disk that was never used.
    pub fn is_nothing(self) -> bool {
        const JUST_CREATED: u64 = 4;
        matches!(self.0 & !1, 0 | JUST_CREATED)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

impl FromStr for Uuid {
    type Err = String;

    fn from_str(text: &str) -> Result<Uuid, String> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        let shown: String = text.chars().take(32).collect();
        let value = value.ok_or_else(|| format!("'{shown}' is not 16 hexadecimal digits"))?;
        Ok(Uuid(value))
    }
}

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The generation identifiers of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identifiers {
    /// The name of the data.
    pub current: Uuid,
    /// What the bitmap is the difference to.
    pub bitmap: Uuid,
    /// Before that, newest first.
    pub history: [Uuid; 2],
}

impl Identifiers {
    /// The four slots in their order.
    pub fn of(slots: [u64; 4]) -> Identifiers {
        let [current, bitmap, younger, older] = slots.map(Uuid);
        Identifiers {
            current,
            bitmap,
            history: [younger, older],
        }
    }

    /// The slots in their order.
    pub fn slots(&self) -> [Uuid; 4] {
        [self.current, self.bitmap, self.history[0], self.history[1]]
    }
}

/// An instant: milliseconds since 1970. In JSON it is `2026-11-28T14:52:10.250Z`, as RFC 3339 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub u64);

impl Instant {
    /// Now, by the clock of the machine.
    pub fn now() -> Instant {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Instant(since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0)))
    }

    /// Without the milliseconds, for people.
    pub fn to_seconds(self) -> String {
        utc(self.0 / 1000)
    }

    /// Reads what [`Display`](fmt::Display) prints.
    fn parse(text: &str) -> Option<Instant> {
        const FORM: &[u8] = b"0000-00-00T00:00:00.000Z";
        let is_of_form = text.len() == FORM.len()
            && text.bytes().zip(FORM).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                _ => byte == *form,
            });
        if !is_of_form {
            return None;
        }
        let number = |at: std::ops::Range<usize>| text[at].parse::<u64>().ok();
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let is_date =
            (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        if !is_date || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        // Days since 1970, years from March on.
        let years = if month <= 2 { year - 1 } else { year };
        let march_month = (month + 9) % 12;
        let days =
            years * 365 + years / 4 - years / 100 + years / 400 + (153 * march_month + 2) / 5 + day
                - 1;
        let seconds = (days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second;
        Some(Instant(seconds * 1000 + number(20..23)?))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = utc(self.0 / 1000);
        let seconds = text.strip_suffix('Z').unwrap_or(&text);
        write!(f, "{seconds}.{:03}Z", self.0 % 1000)
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Instant, D::Error> {
        let text = String::deserialize(from)?;
        let shown: String = text.chars().take(32).collect();
        let not_so = || {
            D::Error::custom(format!(
                "'{shown}' is no time like 2026-11-28T14:52:10.250Z"
            ))
        };
        Instant::parse(&text).ok_or_else(not_so)
    }
}

/// A line of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// When.
    pub at: Instant,
    /// To which volume; nothing for the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<u16>,
    /// What.
    #[serde(flatten)]
    pub event: HistoryEvent,
}

/// What has happened. States are DRBD's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "event",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum HistoryEvent {
    /// The resource has been created: `up`, or a daemon that takes over.
    Created,
    /// It was taken down.
    Removed,
    /// Its thread has ended on its own.
    Stopped {
        /// Why.
        reason: String,
    },
    /// This node's role.
    Role {
        /// Before.
        from: String,
        /// Now.
        to: String,
    },
    /// A promotion that was forced has succeeded.
    ForcedPromotion,
    /// The peer's role, as it tells; `Unknown` without a connection.
    PeerRole {
        /// Before.
        from: String,
        /// Now.
        to: String,
    },
    /// The connection is made or lost, or what goes on over it changes. All attempts to connect are one state: the first of them
    /// stands for the others, and tells how the connection was lost.
    Connection {
        /// Before.
        from: String,
        /// Now.
        to: String,
    },
    /// This node's disk.
    Disk {
        /// Before.
        from: String,
        /// Now.
        to: String,
    },
    /// The peer's disk, as far as it is known.
    PeerDisk {
        /// Before.
        from: String,
        /// Now.
        to: String,
    },
    /// A data generation begins here.
    Generation {
        /// Before.
        old: Identifiers,
        /// Now.
        new: Identifiers,
    },
    /// Both nodes have written apart, and have met.
    SplitBrain {
        /// This node.
        own: SideSeen,
        /// The peer.
        peer: SideSeen,
        /// An order or a policy says whose data go.
        solved: bool,
    },
    /// A resync begins.
    ResyncBegan {
        /// This node is the source of the data, not the target.
        source: bool,
    },
    /// It has ended, or is broken off.
    ResyncEnded {
        /// This node was the source.
        source: bool,
        /// Everything is in sync: it was not broken off.
        complete: bool,
    },
    /// A handler has ended.
    Handler {
        /// Its name.
        name: String,
        /// Its exit code.
        exit: u8,
    },
    /// Lines that could not be written in time.
    LeftOut {
        /// How many.
        lines: u64,
    },
}

/// What one side has told when both met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SideSeen {
    /// Its identifiers.
    pub identifiers: Identifiers,
    /// How many blocks of 4 KiB were marked in its bitmap.
    pub marked_blocks: u64,
    /// Whether it was Primary then.
    #[serde(with = "role")]
    pub role: Role,
}

mod role {
    use replica_proto::state::Role;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(role: &Role, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(role)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Role, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for HistoryEvent {
    /// What has happened, in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HistoryEvent::Created => write!(f, "brought up"),
            HistoryEvent::Removed => write!(f, "taken down"),
            HistoryEvent::Stopped { reason } => write!(f, "stopped on its own: {reason}"),
            HistoryEvent::Role { from, to } => write!(f, "role {from} -> {to}"),
            HistoryEvent::ForcedPromotion => write!(f, "the promotion was forced"),
            HistoryEvent::PeerRole { from, to } => write!(f, "the peer's role {from} -> {to}"),
            HistoryEvent::Connection { from, to } => write!(f, "connection {from} -> {to}"),
            HistoryEvent::Disk { from, to } => write!(f, "disk {from} -> {to}"),
            HistoryEvent::PeerDisk { from, to } => write!(f, "the peer's disk {from} -> {to}"),
            HistoryEvent::Generation { new, .. } => write!(f, "generation {} begins", new.current),
            HistoryEvent::SplitBrain { own, peer, solved } => {
                let solved = if *solved { "solved" } else { "unresolved" };
                let (own, peer) = (own.marked_blocks, peer.marked_blocks);
                write!(
                    f,
                    "split brain, {solved}: {own} blocks marked here, {peer} at the peer"
                )
            }
            HistoryEvent::ResyncBegan { source } => {
                write!(f, "a resync begins, as {}", sync_side(*source))
            }
            HistoryEvent::ResyncEnded { source, complete } => {
                let end = if *complete {
                    "has ended"
                } else {
                    "is broken off"
                };
                write!(f, "a resync {end}, as {}", sync_side(*source))
            }
            HistoryEvent::Handler { name, exit } => {
                write!(f, "handler {name} has ended with {exit}")
            }
            HistoryEvent::LeftOut { lines } => write!(f, "{lines} lines are missing here"),
        }
    }
}

fn sync_side(source: bool) -> &'static str {
    match source {
        true => "source",
        false => "target",
    }
}

impl HistoryLine {
    /// As it is written, the end of the line included.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("plain values with string keys");
        line.push(b'\n');
        line
    }
}

/// The newest lines of a resource's history, in their order; and how many lines there were that are none. Nothing if there is no
/// history.
///
/// # Errors
/// If a file that is there cannot be read.
pub fn read_history(state_dir: &Path, resource: &str) -> io::Result<(Vec<HistoryLine>, usize)> {
    let (mut lines, mut bad) = (Vec::new(), 0);
    for path in [
        old_history_path(state_dir, resource),
        history_path(state_dir, resource),
    ] {
        let bytes = match read_end(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                let named = format!("{}: {error}", path.display());
                return Err(io::Error::new(error.kind(), named));
            }
        };
        for line in bytes.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()) {
            let read = serde_json::from_slice(line).ok();
            match read.filter(|_| line.len() <= LINE_MAX) {
                Some(line) => lines.push(line),
                None => bad += 1,
            }
        }
    }
    lines.drain(..lines.len().saturating_sub(HISTORY_LINES_MAX));
    Ok((lines, bad))
}

/// The end of a file, from a line's beginning on: ours are hardly longer than that.
fn read_end(path: &Path) -> io::Result<Vec<u8>> {
    const MAX: u64 = 2 * HISTORY_BYTES_MAX;
    let about = std::fs::symlink_metadata(path)?;
    if !about.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut file = File::open(path)?;
    let from = file.seek(SeekFrom::End(0))?.saturating_sub(MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(MAX).read_to_end(&mut bytes)?;
    if from > 0 {
        let begin = bytes.iter().position(|byte| *byte == b'\n');
        bytes.drain(..begin.map_or(bytes.len(), |at| at + 1));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: HistoryEvent) -> HistoryLine {
        HistoryLine {
            at: Instant(1_795_877_530_250),
            volume: Some(0),
            event,
        }
    }

    fn side() -> SideSeen {
        SideSeen {
            identifiers: Identifiers::of([0xA1, 0xB2, 0, 0xC]),
            marked_blocks: 7,
            role: Role::Primary,
        }
    }

    #[test]
    fn a_run_directory_says_where_its_last_daemon_kept_the_histories() {
        let run_dir = tempfile::tempdir().unwrap();
        let (run_dir, file) = (run_dir.path(), run_dir.path().join(KEPT_IN_NAME));
        assert_eq!(kept_state_dir(run_dir), None);
        for dir in [Path::new("/srv/a state"), &run_dir.join("state")] {
            keep_state_dir(run_dir, dir).unwrap();
            keep_state_dir(run_dir, dir).unwrap();
            assert_eq!(kept_state_dir(run_dir).as_deref(), Some(dir));
        }
        // One that was torn, is longer than any path, or says nothing that can be looked up.
        let long = format!("/{}\n", "d".repeat(KEPT_IN_MAX));
        for text in ["", "\n", "/var/lib/rd", "state\n", &long] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(kept_state_dir(run_dir), None, "{text}");
        }
        keep_state_dir(Path::new("/dev/null"), run_dir).unwrap_err();
    }

    #[test]
    fn an_instant_survives_its_text() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_001, "2000-03-01T00:00:00.001Z"),
            (1_795_877_530_250, "2026-11-28T14:52:10.250Z"),
        ] {
            assert_eq!(Instant(ms).to_string(), text);
            assert_eq!(Instant::parse(text), Some(Instant(ms)), "{text}");
        }
        for text in [
            "",
            "2026-11-28T14:52:10Z",
            "1969-12-31T23:59:59.999Z",
            "2026-13-28T14:52:10.250Z",
            "2026-11-00T14:52:10.250Z",
            "2026-11-28T24:52:10.250Z",
            "2026-11-28 14:52:10.250Z",
            "2026-11-28T14:52:10.2é",
        ] {
            assert_eq!(Instant::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_line_is_one_object_with_its_event_and_survives() {
        let role = line(HistoryEvent::Role {
            from: "Secondary".to_owned(),
            to: "Primary".to_owned(),
        });
        let text = String::from_utf8(role.to_line()).unwrap();
        assert_eq!(
            text,
            "{\"at\":\"2026-11-28T14:52:10.250Z\",\"volume\":0,\"event\":\"role\",\"from\":\"Secondary\",\"to\":\"Primary\"}\n"
        );
        for event in [
            HistoryEvent::Created,
            HistoryEvent::ForcedPromotion,
            HistoryEvent::SplitBrain {
                own: side(),
                peer: side(),
                solved: false,
            },
            HistoryEvent::ResyncEnded {
                source: true,
                complete: false,
            },
            HistoryEvent::Generation {
                old: side().identifiers,
                new: side().identifiers,
            },
        ] {
            let line = line(event);
            let read: HistoryLine = serde_json::from_slice(&line.to_line()).unwrap();
            assert_eq!(read, line);
        }
        let split = line(HistoryEvent::SplitBrain {
            own: side(),
            peer: side(),
            solved: false,
        });
        let text = String::from_utf8(split.to_line()).unwrap();
        assert!(text.contains("\"current\":\"00000000000000A1\""), "{text}");
        assert!(
            text.contains("\"marked-blocks\":7,\"role\":\"Primary\""),
            "{text}"
        );
        assert!(text.len() < LINE_MAX / 4);
    }

    #[test]
    fn a_history_is_read_over_both_files_and_what_is_no_line_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_history(dir.path(), "r0").unwrap(), (Vec::new(), 0));
        std::fs::create_dir(dir.path().join("history")).unwrap();
        let (first, second) = (line(HistoryEvent::Created), line(HistoryEvent::Removed));
        std::fs::write(old_history_path(dir.path(), "r0"), first.to_line()).unwrap();
        let mut text = second.to_line();
        text.extend(b"\n{\"at\":1}\n{\"torn");
        std::fs::write(history_path(dir.path(), "r0"), text).unwrap();
        assert_eq!(
            read_history(dir.path(), "r0").unwrap(),
            (vec![first, second.clone()], 2)
        );
        // One that somebody has made huge is read from its end, from a whole line on.
        let many = second.to_line().repeat(20_000);
        std::fs::write(history_path(dir.path(), "r0"), many).unwrap();
        let (lines, bad) = read_history(dir.path(), "r0").unwrap();
        assert_eq!((lines.len(), bad), (HISTORY_LINES_MAX, 0));
        std::fs::remove_file(history_path(dir.path(), "r0")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", history_path(dir.path(), "r0")).unwrap();
        let error = read_history(dir.path(), "r0").unwrap_err().to_string();
        assert!(error.contains("r0.jsonl: it is no regular file"), "{error}");
    }

    #[test]
    fn names_of_generations_are_told_apart_by_their_data() {
        assert!(Uuid(0xA1).is_same(Uuid(0xA0)));
        assert!(!Uuid(0xA1).is_same(Uuid(0xA2)));
        assert!(Uuid(0).is_nothing() && Uuid(4).is_nothing() && Uuid(5).is_nothing());
        assert!(!Uuid(6).is_nothing());
        for text in [
            "",
            "A1",
            "00000000000000G1",
            "+0000000000000A1",
            "0x000000000000A1",
        ] {
            assert!(text.parse::<Uuid>().is_err(), "{text}");
        }
    }
}
