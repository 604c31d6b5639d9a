//! Who is in a run directory: a daemon that runs, one that has left something, or nobody.
//!
//! A socket that nobody answers says little: a cleaner may have removed its file while the daemon serves on, or the daemon
//! may have been killed while its devices are in use. What says it: a daemon holds the lock of a file that only its user and root
//! can open as long as it lives, however it ends; and what it serves is on record there. Whoever may not open that file goes by
//! the locks on the run directory itself and on the pid file: anybody can hold those, who then misleads others of his kind alone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde_json::Value;

/// The file that holds the daemon's process id, locked while it lives.
pub const PID_NAME: &str = "rdbd.pid";
/// The file whose lock keeps a second daemon out. Only the daemon's user and root can open it, and so lock it.
pub const LOCK_NAME: &str = "rdbd.lock";
/// The record of what the daemon serves.
pub const RECORD_NAME: &str = "rdbd.state";

/// Who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// No daemon, and none has left anything.
    Nobody,
    /// A daemon holds the directory.
    Runs {
        /// Its process id, if the file is there.
        pid: Option<u32>,
    },
    /// No daemon; the last one has left these.
    Left {
        /// Its process id, if the file is there.
        pid: Option<u32>,
        /// The resources by name; none if the record cannot be read.
        resources: Vec<String>,
    },
}

/// Who is in `run_dir`.
pub fn presence(run_dir: &Path) -> Presence {
    let pid = pid(run_dir);
    let pid_file = run_dir.join(PID_NAME);
    let runs = match try_lock(&run_dir.join(LOCK_NAME)) {
        Some(Tried::Taken) => true,
        // A daemon of before the lock file has the pid file alone.
        Some(Tried::Free) => is_locked(&pid_file) && pid.is_some_and(|pid| lives(pid, &pid_file)),
        None => is_locked(run_dir) || is_locked(&pid_file),
    };
    if runs {
        return Presence::Runs { pid };
    }
    match left(&run_dir.join(RECORD_NAME)) {
        None => Presence::Nobody,
        Some(resources) => Presence::Left { pid, resources },
    }
}

/// The process id in the pid file.
pub(crate) fn pid(run_dir: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(run_dir.join(PID_NAME)).ok()?;
    text.trim().parse().ok()
}

/// Whether the process is there and belongs to whoever has written the pid file.
fn lives(pid: u32, pid_file: &Path) -> bool {
    let Ok(file) = std::fs::metadata(pid_file) else {
        return false;
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let real = ids.and_then(|ids| ids.split_whitespace().next());
    real.and_then(|real| real.parse().ok()) == Some(file.uid())
}

enum Tried {
    Free,
    Taken,
}

/// Whether anybody holds a lock on it. `None`: it cannot be opened. (The shared lock that this takes is gone at once; a daemon that
/// is about to start tries again.)
fn try_lock(path: &Path) -> Option<Tried> {
    // Whatever lies there, opening it must not wait.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .ok()?;
    let tried: Result<(), TryLockError> = File::try_lock_shared(&file);
    match tried {
        Err(TryLockError::WouldBlock) => Some(Tried::Taken),
        Ok(()) | Err(TryLockError::Error(_)) => Some(Tried::Free),
    }
}

fn is_locked(path: &Path) -> bool {
    matches!(try_lock(path), Some(Tried::Taken))
}

/// `O_NONBLOCK` of Linux.
const O_NONBLOCK: i32 = 0o4000;

/// What the record of this boot names. `None`: there is none, or it names nothing.
fn left(record: &Path) -> Option<Vec<String>> {
    let text = match std::fs::read_to_string(record) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Some(Vec::new()),
        Err(_) => return None,
    };
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    names(&text, boot.trim())
}

fn names(text: &str, boot: &str) -> Option<Vec<String>> {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        // Somebody has written it, and only a daemon does.
        return Some(Vec::new());
    };
    if value
        .get("boot")
        .and_then(Value::as_str)
        .is_some_and(|then| then != boot)
    {
        return None;
    }
    let resources = value.get("resources").and_then(Value::as_array)?;
    let name = |resource: &Value| Some(resource.get("shown")?.get("name")?.as_str()?.to_owned());
    let names: Vec<String> = resources.iter().filter_map(name).collect();
    (!resources.is_empty()).then_some(names)
}

/// What a process does by its state in `/proc`, in words, and what helps.
pub(crate) fn process_words(pid: Option<u32>) -> String {
    let Some(pid) = pid else {
        return "see its log".to_owned();
    };
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    match state.as_deref().and_then(state_letter) {
        Some('T' | 't') => {
            format!("it has been stopped by a signal or a debugger; 'kill -CONT {pid}' lets it go on")
        }
        Some('D') => {
            "it waits for the kernel, perhaps for a disk or a file system that hangs; see its log and the kernel's"
                .to_owned()
        }
        Some('Z' | 'X') | None => "it is ending; try again in a moment".to_owned(),
        Some(_) => "it is busy, or the machine is; see its log".to_owned(),
    }
}

/// The third field of `/proc/PID/stat`; the second may hold anything, also brackets.
fn state_letter(stat: &str) -> Option<char> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_on_the_directory_or_on_the_pid_file_is_a_daemon() {
        for locked in ["", PID_NAME] {
            let dir = tempfile::tempdir().unwrap();
            assert_eq!(presence(dir.path()), Presence::Nobody);
            std::fs::write(dir.path().join(PID_NAME), "4711\n").unwrap();
            assert_eq!(presence(dir.path()), Presence::Nobody);
            let holder = File::open(dir.path().join(locked)).unwrap();
            holder.try_lock().unwrap();
            let runs = Presence::Runs { pid: Some(4711) };
            assert_eq!(presence(dir.path()), runs, "{locked}");
            std::fs::remove_file(dir.path().join(PID_NAME)).unwrap();
            let left = presence(dir.path());
            match locked {
                "" => assert_eq!(left, Presence::Runs { pid: None }),
                _ => assert_eq!(left, Presence::Nobody),
            }
        }
    }

    #[test]
    fn locks_that_anybody_can_hold_do_not_count_beside_the_lock_file() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join(PID_NAME);
        // A pid that no process has.
        std::fs::write(&pid_file, "4194305\n").unwrap();
        std::fs::write(dir.path().join(LOCK_NAME), "").unwrap();
        let readers = [dir.path(), &pid_file].map(|path| File::open(path).unwrap());
        for reader in &readers {
            reader.try_lock().unwrap();
        }
        assert_eq!(presence(dir.path()), Presence::Nobody);
        // A daemon of before the lock file, and one of now.
        let own = std::process::id();
        std::fs::write(&pid_file, format!("{own}\n")).unwrap();
        let runs = Presence::Runs { pid: Some(own) };
        assert_eq!(presence(dir.path()), runs);
        drop(readers);
        assert_eq!(presence(dir.path()), Presence::Nobody);
        let lock = File::open(dir.path().join(LOCK_NAME)).unwrap();
        lock.try_lock().unwrap();
        assert_eq!(presence(dir.path()), runs);
    }

    #[test]
    fn a_record_says_what_a_dead_daemon_has_left() {
        let record = r#"{"format":1,"boot":"now","resources":[{"shown":{"name":"r0"}},{"shown":{"name":"r1"}}]}"#;
        for (text, boot, left) in [
            (record, "now", Some(vec!["r0", "r1"])),
            (record, "then", None),
            (r#"{"format":1,"boot":"now","resources":[]}"#, "now", None),
            (r#"{"format":9,"resources":[{}]}"#, "now", Some(vec![])),
            ("torn", "now", Some(vec![])),
        ] {
            let left = left.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(names(text, boot), left, "{text}");
        }
    }

    #[test]
    fn a_stopped_process_is_told_from_others() {
        assert_eq!(state_letter("7 (a) b) T 1 2"), Some('T'));
        assert_eq!(state_letter("7"), None);
        assert!(process_words(Some(std::process::id())).contains("busy"));
    }
}
