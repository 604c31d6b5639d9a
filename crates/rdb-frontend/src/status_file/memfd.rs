//! A link to a file in memory.
//!
//! `PATH -> /proc/PID/fd/N`. The content is never changed in place: every refresh makes a new file and puts
//! it at the same descriptor number, so that who has opened the old one reads one snapshot to its end.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;

use super::{REFRESH, StatusFileError, cut, failed};
use crate::fuse::mount::MountError;
use crate::sys;

/// The name that `/proc/PID/fd/N` shows, and by which a living status file is recognised.
const NAME: &std::ffi::CStr = c"rdb-status";
const SHOWN_NAME: &str = "/memfd:rdb-status (deleted)";

/// A link and the thread that refreshes what it leads to.
#[derive(Debug)]
pub(super) struct MemfdFile {
    path: PathBuf,
    target: PathBuf,
    /// Dropped to end the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MemfdFile {
    pub(super) fn start(
        path: &Path,
        mut content: impl FnMut() -> String + Send + 'static,
    ) -> Result<Self, StatusFileError> {
        let path = sys::resolve_parent(path).map_err(failed("resolving", path))?;
        let shown = snapshot(cut(content())).map_err(failed("making a memory file for", &path))?;
        let target = format!("/proc/{}/fd/{}", std::process::id(), shown.as_raw_fd());
        let target = PathBuf::from(target);
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("status-file".to_owned())
            .spawn(move || refresh(&shown, content, &stopped))
            .map_err(failed("starting the thread for", &path))?;
        let file = Self {
            path,
            target,
            stop: Some(stop),
            thread: Some(thread),
        };
        symlink(&file.target, &file.path).map_err(failed("making the link", &file.path))?;
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_there(&self) -> bool {
        std::fs::read_link(&self.path).is_ok_and(|target| target == self.target)
    }
}

impl Drop for MemfdFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("removing {}: {error}", self.path.display());
        }
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the status file's thread panicked");
        }
    }
}

fn refresh(shown: &File, mut content: impl FnMut() -> String, stopped: &mpsc::Receiver<()>) {
    while stopped.recv_timeout(REFRESH) == Err(RecvTimeoutError::Timeout) {
        if let Err(error) = snapshot(cut(content())).and_then(|fresh| replace(shown, &fresh)) {
            // Showing an old state is worse than showing none.
            tracing::error!("refreshing the status file: {error}");
            return;
        }
    }
}

/// A new memory file with this content, as it stays.
fn snapshot(content: Vec<u8>) -> io::Result<File> {
    // SAFETY: the name is a zero-terminated string.
    let fd = unsafe { libc::memfd_create(NAME.as_ptr(), libc::MFD_CLOEXEC) };
    let fd = sys::check(fd)?;
    // SAFETY: the descriptor was just made and nobody else has it.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(&content)?;
    Ok(file)
}

/// Makes the descriptor of `shown` mean the file of `fresh`, in one step.
fn replace(shown: &File, fresh: &File) -> io::Result<()> {
    // SAFETY: both descriptors are open and owned by the two files, of which `shown` stays valid: its
    // number means another file, and is closed once, when `shown` is dropped.
    let result = unsafe { libc::dup3(fresh.as_raw_fd(), shown.as_raw_fd(), libc::O_CLOEXEC) };
    sys::check(result).map(drop)
}

/// Whether a link was made by us and leads nowhere any more. An error if it is alive.
pub(super) fn check_dead(path: &Path, target: &Path) -> Result<bool, StatusFileError> {
    let parts: Vec<_> = target.iter().map(|part| part.to_string_lossy()).collect();
    let is_number = |part: &str| part.parse::<u32>().is_ok();
    let ours = matches!(
        parts.as_slice(),
        [root, proc, pid, fd, number]
            if root == "/" && proc == "proc" && is_number(pid) && fd == "fd" && is_number(number)
    );
    if !ours {
        return Ok(false);
    }
    // The process number may belong to somebody else by now, so what the descriptor is decides.
    match std::fs::read_link(target) {
        Ok(name) if name == Path::new(SHOWN_NAME) => Err(MountError::InUse {
            path: path.to_owned(),
        }
        .into()),
        _ => Ok(true),
    }
}
