//! Locks on files, which the system lets go of when their process ends, and which a program hands on to the one that follows it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::session;

/// How long a lock is tried: a command that looks whether a daemon lives holds one for a moment.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// How often.
pub(crate) const LOCK_RETRY: Duration = Duration::from_millis(10);

/// The file at `path`, if the program before has handed it on.
pub(crate) fn handed(variable: &str, path: &Path) -> Option<File> {
    let number = std::env::var(variable).ok()?;
    session::adopt(number.parse().ok()?, path)
}

/// Opens a file that only the daemon's user and root can lock, or makes it. It is left where it is at the end: an open file that is
/// removed would be a lock that the next daemon does not see.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_NOFOLLOW)
        .mode(0o600)
        .open(path)
}

/// Whether the open file is what lies at the path.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), std::fs::symlink_metadata(path)) else {
        return false;
    };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

/// Locks a file; false: somebody else holds it.
pub(crate) fn lock(file: &File, timeout: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= timeout => return Ok(false),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}
