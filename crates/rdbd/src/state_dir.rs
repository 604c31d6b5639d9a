//! The state directory: it is one daemon's. Two that keep their histories in one place would mix what happened to the resources of
//! two nodes, and `split-brain` would conclude from both.
//!
//! A daemon that was told of none, as one of two nodes that share a machine's file system and have run directories of their own, keeps its
//! histories in its run directory then, and says so; one that was told of it does not start. The run directory keeps word of which it was:
//! commands look there when no daemon runs, and the next daemon goes on with the directory of its own.
//!
//! Its lock is handed on with those of the run directory, so that no other daemon comes between a program and the next one.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use rdb_control::{LOCK_NAME, keep_state_dir, kept_state_dir};

use crate::locks::{self, LOCK_TIMEOUT, handed, is_at, lock};

/// The number of the descriptor by which the program before has handed its lock on.
pub(crate) const STATE_LOCK_FD: &str = "RDB_STATE_LOCK_FD";

/// Another daemon has the directory.
#[derive(Debug, thiserror::Error)]
#[error(
    "state directory {}: another rdbd (pid {pid}) keeps the histories of its node there: give this one a state-dir of its own in rdbd.toml",
    dir.display()
)]
struct InUse {
    pid: String,
    dir: PathBuf,
}

/// The lock, if the directory can be had: nothing is kept in one that cannot, and the history says so.
#[derive(Debug)]
pub(crate) struct StateLock {
    dir: PathBuf,
    file: Option<File>,
    /// Why it is not the usual directory.
    avoids: Option<String>,
}

impl StateLock {
    /// Takes it for this process; if another daemon has it, the one that is there `instead`. That one is taken first if the last daemon
    /// of `run_dir` had it: what is in the usual one by now may be another node's.
    ///
    /// # Errors
    /// If another daemon has it, and that one.
    pub(crate) fn take(run_dir: &Path, dir: &Path, instead: Option<&Path>) -> Result<StateLock> {
        let goes_on = instead.filter(|own| kept_state_dir(run_dir).as_deref() == Some(*own));
        if let Some(own) = goes_on
            && let Ok(mut lock) = StateLock::take_one(own)
        {
            let dir = dir.display();
            let why = "the last rdbd of this run directory kept none there, for another one did";
            lock.avoids = Some(format!("state directory {dir}: {why}"));
            return Ok(lock);
        }
        match (StateLock::take_one(dir), instead) {
            (Err(in_use), Some(instead)) => {
                let mut lock = StateLock::take_one(instead)?;
                lock.avoids = Some(in_use.to_string());
                Ok(lock)
            }
            (taken, _) => taken,
        }
    }

    /// Leaves word of the directory in the run directory, unless it is there. Where there is no room for it, commands look where
    /// histories are usually.
    pub(crate) fn leave_word(&self, run_dir: &Path) {
        if let Err(error) = keep_state_dir(run_dir, &self.dir) {
            tracing::debug!(
                "{}: word of the state directory: {error}",
                run_dir.display()
            );
        }
    }

    fn take_one(dir: &Path) -> Result<StateLock> {
        let handed = handed(STATE_LOCK_FD, &dir.join(LOCK_NAME));
        let file = match handed.filter(|file| file.try_lock().is_ok()) {
            Some(file) => Some(file),
            None => locked(dir, LOCK_TIMEOUT)?,
        };
        if let Some(file) = &file {
            name_owner(file);
        }
        Ok(StateLock {
            dir: dir.to_owned(),
            file,
            avoids: None,
        })
    }

    /// Where the histories are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Why they are not where they are usually, in words.
    pub(crate) fn avoids(&self) -> Option<&str> {
        self.avoids.as_deref()
    }

    /// The file, for the next program.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Takes the lock anew if its file is gone and the directory is not. True if it was made.
    ///
    /// # Errors
    /// If another daemon has taken it meanwhile.
    pub(crate) fn restore(&mut self) -> Result<bool> {
        let path = self.dir.join(LOCK_NAME);
        let is_there = self.file.as_ref().is_some_and(|file| is_at(file, &path));
        if is_there || !self.dir.exists() {
            return Ok(false);
        }
        let had_one = self.file.is_some();
        let Some(file) = locked(&self.dir, Duration::ZERO)? else {
            return Ok(false);
        };
        name_owner(&file);
        self.file = Some(file);
        Ok(had_one)
    }
}

/// The file, locked; nothing if it cannot be had.
fn locked(dir: &Path, timeout: Duration) -> Result<Option<File>> {
    let Ok(file) = open(dir) else {
        return Ok(None);
    };
    // (Where there are no locks at all, nobody can be told apart.)
    if lock(&file, timeout).unwrap_or(true) {
        return Ok(Some(file));
    }
    let mut pid = String::new();
    let _ = (&file).read_to_string(&mut pid);
    let pid = pid.trim().to_owned();
    let dir = dir.to_owned();
    Err(InUse { pid, dir }.into())
}

fn open(dir: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    locks::open(&dir.join(LOCK_NAME))
}

/// Writes down whose it is. Where there is no room for that, a refusal names nobody.
fn name_owner(mut file: &File) {
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = written {
        tracing::debug!("{LOCK_NAME}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_has_one_daemon_and_one_that_cannot_be_had_keeps_none_out() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("state");
        let mut first = StateLock::take(scratch.path(), &dir, None).unwrap();
        let refused = StateLock::take(scratch.path(), &dir, None)
            .unwrap_err()
            .to_string();
        let pid = format!("another rdbd (pid {})", std::process::id());
        assert!(refused.contains(&pid), "{refused}");
        assert!(!first.restore().unwrap());
        // What is removed is made anew, and still the first one's.
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(!first.restore().unwrap() && !dir.exists());
        std::fs::create_dir(&dir).unwrap();
        assert!(first.restore().unwrap());
        StateLock::take(scratch.path(), &dir, None).unwrap_err();
        let other = scratch.path().join("other");
        let second = StateLock::take(scratch.path(), &dir, Some(&other)).unwrap();
        assert_eq!((second.dir(), second.avoids()), (&*other, Some(&*refused)));
        StateLock::take(scratch.path(), &dir, Some(&other)).unwrap_err();
        drop(first);
        let first = StateLock::take(scratch.path(), &dir, Some(&other)).unwrap();
        assert_eq!((first.dir(), first.avoids()), (&*dir, None));
        drop(first);
        // Who has begun to avoid it goes on to, for the histories there may be another node's; unless it was told of it.
        drop(second);
        let second = StateLock::take(scratch.path(), &other, None).unwrap();
        second.leave_word(scratch.path());
        drop(second);
        let second = StateLock::take(scratch.path(), &dir, Some(&other)).unwrap();
        assert!(second.dir() == other && second.avoids().is_some());
        let first = StateLock::take(scratch.path(), &dir, None).unwrap();
        assert_eq!((first.dir(), first.avoids()), (&*dir, None));
        let no_dir = scratch.path().join("file");
        std::fs::write(&no_dir, "").unwrap();
        assert!(
            StateLock::take(scratch.path(), &no_dir, None)
                .unwrap()
                .file()
                .is_none()
        );
    }
}
