//! The descriptors that the daemon was started with. The standard library has no functions for this.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Closes whatever whoever started this has left open, beside the standard streams: a lock that he holds would be held for as
/// long as the daemon runs, a pipe would not end.
pub(crate) fn close_inherited() {
    // SAFETY: it is called before this program has opened anything of its own, or when it uses nothing of that any more, so no
    // owned descriptor is closed.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
}

/// Whoever has started this daemon in the background, and waits at the other end of a pipe for the reason why it could not start.
#[derive(Debug)]
pub(crate) struct Starter(File);

impl Starter {
    /// He has made standard error that pipe, and standard output the log. From now on both are the log: nobody reads the pipe any
    /// more when the daemon serves.
    pub(crate) fn take() -> Option<Starter> {
        let kind = |fd: &str| Some(std::fs::metadata(fd).ok()?.file_type());
        let (out, error) = (kind("/proc/self/fd/1")?, kind("/proc/self/fd/2")?);
        if !(out.is_file() && error.is_fifo()) {
            return None;
        }
        let pipe = io::stderr().as_fd().try_clone_to_owned().ok()?;
        // SAFETY: both descriptors are open, and the number that is replaced belongs to a standard stream, which nobody owns.
        let done = unsafe { libc::dup2(1, 2) };
        (done == 2).then(|| Starter(pipe.into()))
    }

    /// Tells him, if he is there still.
    pub(crate) fn tell(&mut self, why: &str) {
        // It is in the log, too, if that can be written.
        let _ = writeln!(self.0, "{why}");
    }
}

/// The file that standard error writes to, if it is a plain one.
pub(crate) fn log_file() -> Option<PathBuf> {
    let link = Path::new("/proc/self/fd/2");
    let open = std::fs::metadata(link).ok().filter(|open| open.is_file())?;
    let path = std::fs::read_link(link).ok()?;
    let there = std::fs::metadata(&path).ok()?;
    ((open.dev(), open.ino()) == (there.dev(), there.ino())).then_some(path)
}

/// Standard error, and standard output if it was the same, go to this file from now on.
pub(crate) fn log_to(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(libc::O_NOFOLLOW)
        .mode(0o600)
        .open(path)?;
    let id = |fd: &str| {
        let open = std::fs::metadata(fd).ok()?;
        Some((open.dev(), open.ino()))
    };
    let both = id("/proc/self/fd/1") == id("/proc/self/fd/2");
    for stream in [1, 2] {
        // SAFETY: both descriptors are open, and the number that is replaced belongs to a standard stream, which nobody owns.
        if (stream == 2 || both) && unsafe { libc::dup2(file.as_raw_fd(), stream) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
