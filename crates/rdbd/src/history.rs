//! The history of each resource: what has happened to it, in a small file that outlives the daemon (`docs/split-brain.md`).
//!
//! Lines are written by a thread of their own. Nobody waits for it, the threads of the data plane least of all: lines wait in a queue
//! with a bound, and those beyond it are counted and left out. A directory that cannot be written costs a line of the log.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rdb_control::{
    HISTORY_BYTES_MAX, HistoryEvent, HistoryLine, Identifiers, Instant, SideSeen, history_path,
    old_history_path,
};
use rdb_engine::generation::GenerationIds;
use rdb_engine::state::{ConnState, DiskState, VolumeState};
use rdb_engine::{Apart, Milestone, VolumeNr};

use crate::session;

/// Lines that may wait for the disk.
const LINES_MAX: usize = 1024;
/// How long the end of the daemon waits for the last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The way to the histories. Clones mean the same.
#[derive(Clone)]
pub(crate) struct History {
    state_dir: Arc<Path>,
    queue: SyncSender<Item>,
    left_out: Arc<AtomicU64>,
}

enum Item {
    Line(String, HistoryLine),
    /// Answered when all before it is written.
    Flush(SyncSender<()>),
}

impl History {
    /// Histories in this directory.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn start(state_dir: &Path) -> io::Result<History> {
        let (queue, items) = sync_channel(LINES_MAX);
        let left_out = Arc::new(AtomicU64::new(0));
        let mut writer = Writer {
            state_dir: state_dir.to_owned(),
            bytes_max: HISTORY_BYTES_MAX,
            last_split: BTreeMap::new(),
            trouble: None,
        };
        let counted = Arc::clone(&left_out);
        std::thread::Builder::new()
            .name("rdbd-history".into())
            .spawn(move || writer.run(&items, &counted))
            .map_err(|error| io::Error::other(rdb_runtime::no_thread(&error)))?;
        Ok(History {
            state_dir: state_dir.into(),
            queue,
            left_out,
        })
    }

    /// Where they are.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Adds a line.
    pub(crate) fn tell(&self, resource: &str, volume: Option<VolumeNr>, event: HistoryEvent) {
        let line = HistoryLine {
            at: Instant::now(),
            volume: volume.map(|volume| volume.0),
            event,
        };
        let item = Item::Line(resource.to_owned(), line);
        if self.queue.try_send(item).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds what a change of state comes to.
    pub(crate) fn tell_change(
        &self,
        resource: &str,
        volume: VolumeNr,
        old: &VolumeState,
        new: &VolumeState,
    ) {
        for event in changes(old, new) {
            self.tell(resource, Some(volume), event);
        }
    }

    /// Adds a milestone.
    pub(crate) fn tell_milestone(&self, resource: &str, volume: VolumeNr, what: Milestone) {
        let event = match what {
            Milestone::Generation { old, new } => HistoryEvent::Generation {
                old: identifiers(old),
                new: identifiers(new),
            },
            Milestone::SplitBrain { own, peer, solved } => HistoryEvent::SplitBrain {
                own: side(own),
                peer: side(peer),
                solved,
            },
        };
        self.tell(resource, Some(volume), event);
    }

    /// Waits, not for long, until what was told is written.
    pub(crate) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.try_send(Item::Flush(done)).is_ok() {
            // If it takes longer, the disk hangs.
            let _ = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

fn identifiers(ids: GenerationIds) -> Identifiers {
    Identifiers::of(ids.bits())
}

fn side(apart: Apart) -> SideSeen {
    SideSeen {
        identifiers: identifiers(apart.ids),
        marked_blocks: apart.blocks,
        role: apart.role,
    }
}

/// What of a change of state is kept. A peer that is tried again and again, and one that comes and goes before it is connected, adds
/// nothing: it would push out what matters.
fn changes(old: &VolumeState, new: &VolumeState) -> Vec<HistoryEvent> {
    let mut events = Vec::new();
    if old.role != new.role {
        let (from, to) = (old.role.to_string(), new.role.to_string());
        events.push(HistoryEvent::Role { from, to });
    }
    let (was, is) = (phase(old.conn), phase(new.conn));
    if was != is {
        let (from, to) = (old.conn.to_string(), new.conn.to_string());
        events.push(HistoryEvent::Connection { from, to });
    }
    let synced = (sync_side(old.conn), sync_side(new.conn));
    if let (Some(source), true) = (synced.0, synced.0 != synced.1) {
        let complete = new.conn == ConnState::Connected
            && new.disk == DiskState::UpToDate
            && new.pdsk == DiskState::UpToDate;
        events.push(HistoryEvent::ResyncEnded { source, complete });
    }
    if let (Some(source), true) = (synced.1, synced.0 != synced.1) {
        events.push(HistoryEvent::ResyncBegan { source });
    }
    let is_passing = |disk| matches!(disk, DiskState::Attaching | DiskState::Negotiating);
    if old.disk != new.disk && !is_passing(new.disk) {
        let (from, to) = (old.disk.to_string(), new.disk.to_string());
        events.push(HistoryEvent::Disk { from, to });
    }
    // (What a peer tells before it is connected is of no worth if it never comes to be.)
    if was == Phase::Together || is == Phase::Together {
        if old.peer != new.peer {
            let (from, to) = (old.peer.to_string(), new.peer.to_string());
            events.push(HistoryEvent::PeerRole { from, to });
        }
        if old.pdsk != new.pdsk && !is_passing(new.pdsk) {
            let (from, to) = (old.pdsk.to_string(), new.pdsk.to_string());
            events.push(HistoryEvent::PeerDisk { from, to });
        }
    } else if old.pdsk != new.pdsk && new.pdsk == DiskState::Outdated {
        // It was fenced.
        let (from, to) = (old.pdsk.to_string(), new.pdsk.to_string());
        events.push(HistoryEvent::PeerDisk { from, to });
    }
    events
}

/// What states of a connection count as one.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Phase {
    /// Nobody tries.
    Alone,
    /// It is tried, or being ended.
    Trying,
    /// There is one.
    Together,
}

fn phase(conn: ConnState) -> Phase {
    match conn {
        ConnState::StandAlone => Phase::Alone,
        conn if conn < ConnState::Connected => Phase::Trying,
        _ => Phase::Together,
    }
}

/// Whether this node is the source of a resync that runs; nothing if none does.
fn sync_side(conn: ConnState) -> Option<bool> {
    match conn {
        ConnState::SyncSource | ConnState::PausedSyncS => Some(true),
        ConnState::SyncTarget | ConnState::PausedSyncT => Some(false),
        _ => None,
    }
}

/// Writes the lines.
struct Writer {
    state_dir: PathBuf,
    bytes_max: u64,
    /// The last split brain of each volume: connecting again and again tells nothing new.
    last_split: BTreeMap<(String, Option<u16>), HistoryEvent>,
    /// Why lines are not written, if so.
    trouble: Option<String>,
}

impl Writer {
    fn run(&mut self, items: &Receiver<Item>, left_out: &AtomicU64) {
        while let Ok(item) = items.recv() {
            match item {
                Item::Line(resource, line) => {
                    let lines = left_out.swap(0, Ordering::Relaxed);
                    if lines > 0 {
                        let gap = HistoryLine {
                            at: line.at,
                            volume: None,
                            event: HistoryEvent::LeftOut { lines },
                        };
                        self.put(&resource, &gap);
                    }
                    if !self.is_known(&resource, &line) {
                        self.put(&resource, &line);
                    }
                }
                Item::Flush(done) => drop(done.try_send(())),
            }
        }
    }

    fn is_known(&mut self, resource: &str, line: &HistoryLine) -> bool {
        let HistoryEvent::SplitBrain { .. } = line.event else {
            return false;
        };
        let of = (resource.to_owned(), line.volume);
        let last = self.last_split.insert(of, line.event.clone());
        last.as_ref() == Some(&line.event)
    }

    /// Writes one; that it cannot be is said once, and again when it can.
    fn put(&mut self, resource: &str, line: &HistoryLine) {
        let trouble = self.write(resource, line).err().map(|e| e.to_string());
        if trouble != self.trouble {
            match &trouble {
                Some(error) => tracing::warn!("the history is not kept: {error}"),
                None => tracing::info!("the history is kept again"),
            }
            self.trouble = trouble;
        }
    }

    fn write(&self, resource: &str, line: &HistoryLine) -> io::Result<()> {
        let path = history_path(&self.state_dir, resource);
        let named = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
        let mut file = match open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.prepare()?;
                open(&path)
            }
            done => done,
        }
        .map_err(named)?;
        if !file.metadata().map_err(named)?.is_file() {
            return Err(named(io::Error::other("it is no regular file")));
        }
        file.write_all(&line.to_line()).map_err(named)?;
        if file.metadata().map_err(named)?.len() > self.bytes_max {
            let old = old_history_path(&self.state_dir, resource);
            std::fs::rename(&path, old).map_err(named)?;
        }
        Ok(())
    }

    /// Makes the directories. Whoever may write them could put links in the place of our files.
    fn prepare(&self) -> io::Result<()> {
        for dir in [self.state_dir.clone(), self.state_dir.join("history")] {
            let named = |error: io::Error| io::Error::other(format!("{}: {error}", dir.display()));
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o755);
            builder.create(&dir).map_err(named)?;
            let found = std::fs::metadata(&dir).map_err(named)?;
            let owner = found.uid();
            if owner != 0 && owner != session::user() {
                let text = format!("it belongs to user {owner}; it must be ours or root's");
                return Err(named(io::Error::other(text)));
            }
            if found.mode() & 0o022 != 0 {
                let text = "its mode lets others write it; take that away (chmod go-w)";
                return Err(named(io::Error::other(text)));
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

#[cfg(test)]
mod tests {
    use rdb_control::read_history;
    use rdb_engine::state::Role;

    use super::*;

    fn texts(old: VolumeState, new: VolumeState) -> Vec<String> {
        let events = changes(&old, &new);
        let text = |event| {
            let line = HistoryLine {
                at: Instant(0),
                volume: None,
                event,
            };
            let text = String::from_utf8(line.to_line()).expect("text");
            let at = text.find("\"event\":").expect("an event") + 8;
            text[at..].trim_end().trim_end_matches('}').replace('"', "")
        };
        events.into_iter().map(text).collect()
    }

    #[test]
    fn what_of_a_change_matters_is_kept_and_trying_again_is_not() {
        let with = |change: fn(&mut VolumeState)| {
            let mut state = VolumeState::INITIAL;
            state.conn = ConnState::Connected;
            state.disk = DiskState::UpToDate;
            state.pdsk = DiskState::UpToDate;
            state.peer = Role::Secondary;
            change(&mut state);
            state
        };
        let together = with(|_| {});
        let lost = with(|s| {
            s.conn = ConnState::Timeout;
            s.peer = Role::Unknown;
            s.pdsk = DiskState::DUnknown;
        });
        assert_eq!(
            texts(together, lost),
            [
                "connection,from:Connected,to:Timeout",
                "peer-role,from:Secondary,to:Unknown",
                "peer-disk,from:UpToDate,to:DUnknown"
            ]
        );
        let mut tried = lost;
        for conn in [
            ConnState::Unconnected,
            ConnState::WFConnection,
            ConnState::WFReportParams,
            ConnState::NetworkFailure,
        ] {
            let before = tried;
            tried.conn = conn;
            assert_eq!(texts(before, tried), Vec::<String>::new());
        }
        let alone = with(|s| s.conn = ConnState::StandAlone);
        assert_eq!(
            texts(with(|s| s.conn = ConnState::WFReportParams), alone),
            ["connection,from:WFReportParams,to:StandAlone"]
        );
        assert_eq!(
            texts(together, with(|s| s.role = Role::Primary)),
            ["role,from:Secondary,to:Primary"]
        );
        assert_eq!(
            texts(together, with(|s| s.disk = DiskState::Failed)),
            ["disk,from:UpToDate,to:Failed"]
        );
        let source = with(|s| {
            s.conn = ConnState::SyncSource;
            s.pdsk = DiskState::Inconsistent;
        });
        assert_eq!(
            texts(together, source),
            [
                "resync-began,source:true",
                "peer-disk,from:UpToDate,to:Inconsistent"
            ]
        );
        let paused = with(|s| {
            s.conn = ConnState::PausedSyncS;
            s.pdsk = DiskState::Inconsistent;
        });
        assert_eq!(texts(source, paused), Vec::<String>::new());
        assert_eq!(
            texts(paused, together),
            [
                "resync-ended,source:true,complete:true",
                "peer-disk,from:Inconsistent,to:UpToDate"
            ]
        );
        assert_eq!(
            texts(source, lost)[1],
            "resync-ended,source:true,complete:false"
        );
        let fenced = VolumeState {
            pdsk: DiskState::Outdated,
            ..lost
        };
        assert_eq!(texts(lost, fenced), ["peer-disk,from:DUnknown,to:Outdated"]);
    }

    fn writer(dir: &Path, bytes_max: u64) -> Writer {
        Writer {
            state_dir: dir.to_owned(),
            bytes_max,
            last_split: BTreeMap::new(),
            trouble: None,
        }
    }

    fn line(at: u64) -> HistoryLine {
        HistoryLine {
            at: Instant(at),
            volume: Some(0),
            event: HistoryEvent::ForcedPromotion,
        }
    }

    #[test]
    fn a_history_is_put_aside_when_it_is_long_and_the_newest_lines_are_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut writer = writer(&dir.path().join("state"), 1000);
        for at in 0..100 {
            writer.put("r0", &line(at));
        }
        assert_eq!(writer.trouble, None);
        let state_dir = dir.path().join("state");
        let (lines, bad) = read_history(&state_dir, "r0").expect("readable");
        assert_eq!(bad, 0);
        assert!((10..40).contains(&lines.len()), "{}", lines.len());
        let first = 100 - lines.len() as u64;
        let expected: Vec<_> = (first..100).map(line).collect();
        assert_eq!(lines, expected);
        let files = std::fs::read_dir(state_dir.join("history")).expect("readable");
        assert_eq!(files.count(), 2);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_trouble_once_and_comes_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let state_dir = dir.path().join("state");
        std::fs::write(&state_dir, "in the way").expect("written");
        let mut writer = writer(&state_dir, 1000);
        writer.put("r0", &line(1));
        let trouble = writer.trouble.clone().expect("it cannot be");
        assert!(trouble.contains("state"), "{trouble}");
        std::fs::remove_file(&state_dir).expect("removed");
        writer.put("r0", &line(2));
        assert_eq!(writer.trouble, None);
        let (lines, _) = read_history(&state_dir, "r0").expect("readable");
        assert_eq!(lines, [line(2)]);
        // A link that somebody has put there is not followed.
        let path = history_path(&state_dir, "r1");
        std::os::unix::fs::symlink(dir.path().join("theirs"), &path).expect("a link");
        writer.put("r1", &line(3));
        assert!(writer.trouble.is_some() && !dir.path().join("theirs").exists());
    }

    #[test]
    fn a_disk_that_hangs_holds_nobody_up_and_what_is_left_out_is_counted() {
        let (queue, items) = sync_channel(2);
        let history = History {
            state_dir: Path::new("/nowhere").into(),
            queue,
            left_out: Arc::default(),
        };
        for _ in 0..5 {
            history.tell("r0", None, HistoryEvent::Created);
        }
        assert_eq!(history.left_out.load(Ordering::Relaxed), 3);
        let dir = tempfile::tempdir().expect("a directory");
        let left_out = Arc::clone(&history.left_out);
        drop(history);
        writer(dir.path(), 1000).run(&items, &left_out);
        let (lines, _) = read_history(dir.path(), "r0").expect("readable");
        let events: Vec<_> = lines.into_iter().map(|line| line.event).collect();
        let gap = HistoryEvent::LeftOut { lines: 3 };
        assert_eq!(events, [gap, HistoryEvent::Created, HistoryEvent::Created]);
    }

    #[test]
    fn a_split_brain_that_is_met_again_is_told_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let history = History::start(dir.path()).expect("a thread");
        let apart = |blocks| Apart {
            ids: GenerationIds::CREATED,
            blocks,
            role: Role::Primary,
        };
        for blocks in [1, 1, 2, 2, 1] {
            let what = Milestone::SplitBrain {
                own: apart(blocks),
                peer: apart(7),
                solved: false,
            };
            history.tell_milestone("r0", VolumeNr(0), what);
        }
        history.flush();
        let (lines, _) = read_history(dir.path(), "r0").expect("readable");
        assert_eq!(lines.len(), 3);
    }
}
