//! The run directory: who may have it, which daemon has it, and that the files by which it is found stay there.
//!
//! What keeps a second daemon out is the lock on a file that nobody else can open, and so nobody else can lock: [`LOCK_NAME`],
//! of mode 0600. A daemon locks the pid file, too, and the directory, whose lock is there whatever is removed from it.
//! Everybody may read those two, so anybody can hold a lock on them: it counts only if a daemon may be behind it
//! ([`PidFile::locked`], [`wait_for_pid_file`]). By them daemons of before that file know each other, and commands of users who
//! may not open it (`rdb_control::presence`).
//!
//! A daemon hands both files on to the program that follows it and to the process that goes on if that one fails: until one
//! of them serves, the locks are held without a break, and a command waits for it instead of saying that nobody is there.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdb_control::{LOCK_NAME, PID_NAME};

use crate::locks::{self, LOCK_RETRY, LOCK_TIMEOUT, handed, is_at, lock};
use crate::server::LOOK;
use crate::session;
use crate::state_dir::{STATE_LOCK_FD, StateLock};

/// The number of the descriptor by which the program before has handed its pid file on.
pub(crate) const LOCK_FD: &str = "RDB_LOCK_FD";
/// The same for the lock file.
const LOCK_FILE_FD: &str = "RDB_LOCK_FILE_FD";
/// The same for a program that was handed the pid file and not the lock file, because that was removed meanwhile. Whoever has it
/// then is a daemon that is about to find out that the pid file is taken.
const HANDED_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a daemon may take to make its pid file anew: it looks after it all the time.
const RESTORE_TIMEOUT: Duration = LOOK.saturating_mul(3);
/// What a daemon that has the pid file writes into the lock file ([`is_marked`]).
const MARK: &[u8] = b"rdbd\n";

/// The locks, for as long as the daemon lives.
#[derive(Debug)]
pub(crate) struct Held {
    path: PathBuf,
    /// Nobody else can have this one.
    lock: File,
    /// Of the directory, if nobody else has locked it; the next program takes its own.
    directory: Option<File>,
    pid: File,
    state: StateLock,
}

impl Held {
    /// Takes the run directory for this process, and the one with its histories; the system lets go of them when the process ends,
    /// however that happens.
    ///
    /// # Errors
    /// If another daemon has one of them, or the system does not give them. (`instead`: [`StateLock::take`].)
    pub(crate) fn take(run_dir: &Path, state_dir: &Path, instead: Option<&Path>) -> Result<Held> {
        let path = run_dir.join(PID_NAME);
        let handed = handed(LOCK_FD, &path);
        let timeout = match handed {
            Some(_) => HANDED_TIMEOUT,
            None => LOCK_TIMEOUT,
        };
        let lock = match handed_lock(run_dir) {
            Some(lock) => lock,
            None => lock_file(run_dir, timeout)?,
        };
        let directory = lock_directory(run_dir, LOCK_TIMEOUT)?;
        if directory.is_none() && handed.is_none() && !is_marked(&lock) {
            wait_for_pid_file(&path);
        }
        let pid = match handed {
            Some(mut file) => {
                write_pid(&mut file).with_context(|| path.display().to_string())?;
                file
            }
            None => PidFile(&path).locked(run_dir)?,
        };
        mark(&lock);
        let state = StateLock::take(run_dir, state_dir, instead)?;
        state.leave_word(run_dir);
        Ok(Held {
            path: run_dir.to_owned(),
            lock,
            directory,
            pid,
            state,
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

    /// Leaves the files open for the next program, which finds their numbers in its environment: with these variables.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn hand_on(&self) -> io::Result<Vec<(&'static str, String)>> {
        let mut all = vec![(LOCK_FD, &self.pid), (LOCK_FILE_FD, &self.lock)];
        all.extend(self.state.file().map(|file| (STATE_LOCK_FD, file)));
        let mut variables = Vec::new();
        for (variable, file) in all {
            session::hand_on(file)?;
            variables.push((variable, file.as_raw_fd().to_string()));
        }
        Ok(variables)
    }

    /// The directory with the histories.
    pub(crate) fn state(&self) -> &StateLock {
        &self.state
    }

    /// Makes the directory and the pid file anew if they are gone. Says what was made.
    ///
    /// # Errors
    /// If that is impossible, or if another daemon has taken the directory meanwhile.
    pub(crate) fn restore(&mut self) -> Result<Vec<&'static str>> {
        let mut made = Vec::new();
        if !self.path.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&self.path)
                .with_context(|| self.path.display().to_string())?;
            made.push("run directory");
        }
        let directory = self.directory.as_ref();
        if !directory.is_some_and(|own| is_at(own, &self.path)) {
            self.directory = lock_directory(&self.path, Duration::ZERO)?;
        }
        // Before the lock file: another daemon that has that already waits for this one ([`wait_for_pid_file`]).
        let path = self.path.join(PID_NAME);
        if !is_at(&self.pid, &path) {
            self.pid = PidFile(&path).locked(&self.path)?;
            made.push("pid file");
        }
        if !is_at(&self.lock, &self.path.join(LOCK_NAME)) {
            self.lock = lock_file(&self.path, Duration::ZERO)?;
            mark(&self.lock);
            made.push("lock file");
        }
        if self.state.restore()? {
            made.push("lock file of the state directory");
        }
        self.state.leave_word(&self.path);
        Ok(made)
    }
}

/// The lock file that the program before has handed on, if its lock is still there.
fn handed_lock(run_dir: &Path) -> Option<File> {
    let file = handed(LOCK_FILE_FD, &run_dir.join(LOCK_NAME))?;
    // Whoever has it open has the lock already, unless somebody has let go of it.
    file.try_lock().is_ok().then_some(file)
}

/// The lock that only the daemon's user and root can take.
fn lock_file(run_dir: &Path, timeout: Duration) -> Result<File> {
    let path = run_dir.join(LOCK_NAME);
    let named = || path.display().to_string();
    let file = locks::open(&path).with_context(named)?;
    if !lock(&file, timeout).with_context(named)? {
        return Err(taken(&pid_at(&run_dir.join(PID_NAME)), run_dir));
    }
    Ok(file)
}

/// The directory, locked. `None`: somebody else has a lock on it, or it cannot be opened so.
fn lock_directory(run_dir: &Path, timeout: Duration) -> Result<Option<File>> {
    let Ok(directory) = File::open(run_dir) else {
        return Ok(None);
    };
    let is_ours = lock(&directory, timeout)
        .with_context(|| format!("run directory {}", run_dir.display()))?;
    Ok(is_ours.then_some(directory))
}

/// Whether the lock file is one that a daemon had together with the pid file. It is left at a daemon's end, and only whoever has its
/// lock writes into it. So nobody serves the directory who is not found by the pid file: a daemon of before the lock file has left
/// none, and one whose files were all removed finds a new one in its place, without a mark even if another daemon made it and was killed.
fn is_marked(lock: &File) -> bool {
    lock.metadata().is_ok_and(|found| found.len() > 0)
}

/// Marks the lock file. Where there is no room for that, the next daemon waits if somebody has locked the directory.
fn mark(mut lock: &File) {
    if !is_marked(lock)
        && let Err(error) = lock.write_all(MARK)
    {
        tracing::debug!("{LOCK_NAME}: {error}");
    }
}

/// Called when somebody has locked the directory, but not the lock file, and that is new: a daemon of before the lock file, one whose
/// files were all removed a moment ago, or anybody who can read. Daemons make their pid file anew within this time.
fn wait_for_pid_file(path: &Path) {
    let begun = Instant::now();
    while !path.exists() && begun.elapsed() < RESTORE_TIMEOUT {
        std::thread::sleep(LOCK_RETRY);
    }
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

/// What a pid file says.
fn pid_at(path: &Path) -> String {
    let mut pid = String::new();
    let _ = File::open(path).and_then(|mut file| file.read_to_string(&mut pid));
    pid
}

/// The place of the pid file. Only whoever has the lock file takes it.
struct PidFile<'a>(&'a Path);

impl PidFile<'_> {
    /// The file, locked. One that somebody has locked who cannot write it is replaced: a daemon can.
    fn locked(&self, run_dir: &Path) -> Result<File> {
        let named = || self.0.display().to_string();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(libc::O_NOFOLLOW)
            .mode(0o644)
            .open(self.0)
            .with_context(named)?;
        if !lock(&file, LOCK_TIMEOUT).with_context(named)? {
            drop(file);
            // Where that cannot be found out, it may be a daemon.
            if session::has_writer(self.0).unwrap_or(true) {
                return Err(taken(&pid_at(self.0), run_dir));
            }
            return self.replaced().with_context(named);
        }
        write_pid(&mut file).with_context(named)?;
        Ok(file)
    }

    /// A new one in its place, which nobody can open before it is locked.
    fn replaced(&self) -> io::Result<File> {
        let new = self.0.with_extension("pid.new");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.try_lock()?;
        write_pid(&mut file)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        std::fs::rename(&new, self.0)?;
        Ok(file)
    }
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

    fn take(run_dir: &Path) -> Result<Held> {
        Held::take(run_dir, &run_dir.join("state"), None)
    }

    #[test]
    fn a_rundirectory_has_one_daemon_and_what_is_removed_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        std::fs::create_dir(&run_dir).unwrap();
        let pid = Some(std::process::id());
        let mut held = take(&run_dir).unwrap();
        assert_eq!(presence(&run_dir), Presence::Runs { pid });
        let error = take(&run_dir).unwrap_err();
        assert!(error.is::<Taken>(), "{error}");
        assert_eq!(held.restore().unwrap(), Vec::<&str>::new());

        std::fs::remove_file(run_dir.join(PID_NAME)).unwrap();
        // Nobody takes it, though the pid file is free.
        let error = take(&run_dir).unwrap_err();
        assert!(error.is::<Taken>(), "{error}");
        assert_eq!(held.restore().unwrap(), ["pid file"]);
        assert_eq!(presence(&run_dir), Presence::Runs { pid });

        std::fs::remove_dir_all(&run_dir).unwrap();
        let all = ["run directory", "pid file", "lock file"];
        assert_eq!(held.restore().unwrap(), all);
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
        take(dir.path()).unwrap();
        later.join().unwrap();
    }

    /// Whoever can read a file can lock it, too.
    #[test]
    fn readers_who_lock_what_they_can_open_keep_no_daemon_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(PID_NAME);
        std::fs::write(&path, "4711\n").unwrap();
        let locked: Vec<File> = [dir.path(), &path]
            .map(|path| File::open(path).unwrap())
            .into();
        for file in &locked {
            file.try_lock().unwrap();
        }
        let mut held = take(dir.path()).unwrap();
        let pid = Some(std::process::id());
        assert_eq!(presence(dir.path()), Presence::Runs { pid });
        let mode = |name: &str| dir.path().join(name).metadata().unwrap().mode() & 0o777;
        assert_eq!((mode(LOCK_NAME), mode(PID_NAME)), (0o600, 0o644));
        assert!(take(dir.path()).unwrap_err().is::<Taken>());
        // The directory is locked when its turn comes.
        assert!(held.directory.is_none());
        drop(locked);
        assert_eq!(held.restore().unwrap(), Vec::<&str>::new());
        assert!(held.directory.is_some());
        held.leave();
        drop(held);

        // Nor before the pid file is there.
        let directory = File::open(dir.path()).unwrap();
        directory.try_lock().unwrap();
        take(dir.path()).unwrap();
    }

    /// Whoever has locked the directory delays the start only where a daemon may be behind it: beside a new lock file.
    #[test]
    fn a_lock_file_that_a_daemon_has_left_shows_that_nobody_is_to_be_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let found = || is_marked(&File::open(dir.path().join(LOCK_NAME)).unwrap());
        // One that was killed before it had the pid file leaves this.
        drop(lock_file(dir.path(), LOCK_TIMEOUT).unwrap());
        assert!(!found());
        let mut held = take(dir.path()).unwrap();
        assert!(found());
        // Of one that has to be made anew, too.
        std::fs::remove_file(dir.path().join(LOCK_NAME)).unwrap();
        assert_eq!(held.restore().unwrap(), ["lock file"]);
        assert!(found());
        held.leave();
        drop(held);
        assert!(found());
        let directory = File::open(dir.path()).unwrap();
        directory.try_lock().unwrap();
        let held = take(dir.path()).unwrap();
        assert!(held.directory.is_none());
        assert_eq!(std::fs::read(dir.path().join(LOCK_NAME)).unwrap(), MARK);
    }

    /// One of before the lock file holds the directory and the pid file, which it makes anew when it is removed.
    #[test]
    fn a_daemon_without_the_lock_file_keeps_others_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(PID_NAME);
        let directory = File::open(dir.path()).unwrap();
        directory.try_lock().unwrap();
        let start = || {
            let mut pid = File::create(&path).unwrap();
            pid.try_lock().unwrap();
            pid.write_all(b"4711\n").unwrap();
            pid
        };
        let pid = start();
        let error = take(dir.path()).unwrap_err();
        assert!(error.to_string().contains("pid 4711"), "{error}");
        drop(pid);
        std::fs::remove_file(&path).unwrap();
        std::thread::scope(|threads| {
            let later = threads.spawn(|| {
                std::thread::sleep(LOCK_TIMEOUT + Duration::from_millis(100));
                start()
            });
            let error = take(dir.path()).unwrap_err();
            assert!(error.is::<Taken>(), "{error}");
            drop(later.join().unwrap());
        });
    }
}
