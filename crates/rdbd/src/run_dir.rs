//! The run directory: who may have it, which daemon has it, and that the files by which it is found stay there.
//!
//! A daemon locks the directory itself and its pid file. Either lock tells a command that a daemon lives, though its socket
//! may be gone (`rdb_control::presence`); the first is there whatever is removed from the directory.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdb_control::PID_NAME;

use crate::session;

/// The number of the descriptor by which the program before has handed its lock on.
pub(crate) const LOCK_FD: &str = "RDB_LOCK_FD";
/// How long a lock is tried: a command that looks whether a daemon lives holds one for a moment.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// The locks, for as long as the daemon lives.
#[derive(Debug)]
pub(crate) struct Held {
    path: PathBuf,
    /// Of the directory. (The next program takes its own: the pid file's keeps others out meanwhile.)
    directory: Option<File>,
    pid: File,
}

impl Held {
    /// Takes the run directory for this process; the system lets go of it when the process ends, however that happens.
    pub(crate) fn take(run_dir: &Path) -> Result<Held> {
        let path = run_dir.join(PID_NAME);
        // A directory that cannot be opened so leaves the pid file to tell.
        let directory = File::open(run_dir).ok();
        if let Some(directory) = &directory
            && !lock(directory)?
        {
            let mut pid = String::new();
            let _ = File::open(&path).and_then(|mut file| file.read_to_string(&mut pid));
            return Err(taken(&pid, run_dir));
        }
        let handed = std::env::var(LOCK_FD).ok().and_then(|fd| fd.parse().ok());
        let pid = match handed.and_then(|fd| session::adopt(fd, &path)) {
            Some(mut file) => {
                write_pid(&mut file).with_context(|| path.display().to_string())?;
                file
            }
            None => locked_pid_file(&path, run_dir)?,
        };
        Ok(Held {
            path: run_dir.to_owned(),
            directory,
            pid,
        })
    }

    /// Takes the pid file away, at an orderly end. Whoever comes next makes his own.
    pub(crate) fn leave(&self) {
        let path = self.path.join(PID_NAME);
        if is_at(&self.pid, &path)
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!("{}: {error}", path.display());
        }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is handed on to the next program.
    pub(crate) fn pid_file(&self) -> &File {
        &self.pid
    }

    /// Makes the directory and the pid file anew if they are gone. Says what was made.
    ///
    /// # Errors
    /// If that is impossible, or if another daemon has taken the directory meanwhile.
    pub(crate) fn restore(&mut self) -> Result<Vec<&'static str>> {
        let mut made = Vec::new();
        let directory = self.directory.as_ref();
        if !directory.is_none_or(|own| is_at(own, &self.path)) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&self.path)
                .with_context(|| self.path.display().to_string())?;
            let new = File::open(&self.path).with_context(|| self.path.display().to_string())?;
            if !lock(&new)? {
                bail!("another rdbd has taken {}", self.path.display());
            }
            self.directory = Some(new);
            made.push("run directory");
        }
        let path = self.path.join(PID_NAME);
        if !is_at(&self.pid, &path) {
            self.pid = locked_pid_file(&path, &self.path)?;
            made.push("pid file");
        }
        Ok(made)
    }
}

/// Whether the open file is what lies at the path.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), std::fs::symlink_metadata(path)) else {
        return false;
    };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

/// Another daemon has the run directory.
#[derive(Debug, thiserror::Error)]
#[error("another rdbd (pid {pid}) serves {}", run_dir.display())]
pub(crate) struct Taken {
    pid: String,
    run_dir: PathBuf,
}

fn taken(pid: &str, run_dir: &Path) -> anyhow::Error {
    let taken = Taken {
        pid: pid.trim().to_owned(),
        run_dir: run_dir.to_owned(),
    };
    taken.into()
}

fn locked_pid_file(path: &Path, run_dir: &Path) -> Result<File> {
    let named = || path.display().to_string();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_NOFOLLOW)
        .mode(0o644)
        .open(path)
        .with_context(named)?;
    if !lock(&file).with_context(named)? {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        return Err(taken(&pid, run_dir));
    }
    write_pid(&mut file).with_context(named)?;
    Ok(file)
}

/// One that says so already is left alone: there may be no room for it.
fn write_pid(file: &mut File) -> io::Result<()> {
    let (mut there, own) = (String::new(), format!("{}\n", std::process::id()));
    file.rewind()?;
    file.read_to_string(&mut there)?;
    if there == own {
        return Ok(());
    }
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(own.as_bytes())
}

/// Locks a file; false: somebody else holds it.
fn lock(file: &File) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= LOCK_TIMEOUT => return Ok(false),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Makes it if it is not there, and says where it is for whoever has another working directory, as device nodes' users do.
pub(crate) fn prepare(path: &Path) -> Result<PathBuf> {
    let run_dir = DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .and_then(|()| std::fs::canonicalize(path))
        .with_context(|| format!("run directory {}", path.display()))?;
    check(&run_dir)?;
    Ok(run_dir)
}

/// Whoever may write the run directory could put links and sockets of his own in the place of ours.
fn check(run_dir: &Path) -> Result<()> {
    let found = std::fs::metadata(run_dir)
        .with_context(|| format!("run directory {}", run_dir.display()))?;
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    if owner != 0 && owner != session::user() {
        bail!(
            "run directory {}: it belongs to user {owner}, who could replace the files in it; it must be ours or root's",
            run_dir.display()
        );
    }
    if mode & 0o022 != 0 {
        bail!(
            "run directory {}: its mode {mode:04o} lets others write it; take that away (chmod go-w)",
            run_dir.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rdb_control::{Presence, presence};

    use super::*;

    #[test]
    fn a_rundirectory_has_one_daemon_and_what_is_removed_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        std::fs::create_dir(&run_dir).unwrap();
        let pid = Some(std::process::id());
        let mut held = Held::take(&run_dir).unwrap();
        assert_eq!(presence(&run_dir), Presence::Runs { pid });
        let error = Held::take(&run_dir).unwrap_err();
        assert!(error.is::<Taken>(), "{error}");
        assert_eq!(held.restore().unwrap(), Vec::<&str>::new());

        std::fs::remove_file(run_dir.join(PID_NAME)).unwrap();
        // Nobody takes it, though the pid file is free.
        let error = Held::take(&run_dir).unwrap_err();
        assert!(error.is::<Taken>(), "{error}");
        assert_eq!(held.restore().unwrap(), ["pid file"]);
        assert_eq!(presence(&run_dir), Presence::Runs { pid });

        std::fs::remove_dir_all(&run_dir).unwrap();
        assert_eq!(held.restore().unwrap(), ["run directory", "pid file"]);
        assert_eq!(presence(&run_dir), Presence::Runs { pid });
        held.leave();
        assert!(!run_dir.join(PID_NAME).exists());
        drop(held);
        assert_eq!(presence(&run_dir), Presence::Nobody);
    }

    #[test]
    fn a_command_that_looks_keeps_no_daemon_out() {
        let dir = tempfile::tempdir().unwrap();
        let looking = File::open(dir.path()).unwrap();
        looking.try_lock_shared().unwrap();
        let later = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(looking);
        });
        Held::take(dir.path()).unwrap();
        later.join().unwrap();
    }
}
