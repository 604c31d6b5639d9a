//! Mounting and unmounting: the blocking part.
//!
//! None of this may run on the thread that answers the mounted file system. Mounting itself does not wait
//! for it, but whatever looks at the mount afterwards does.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::REQUEST_DATA_MAX;
use crate::sys;

/// What our mounts are called in `/proc/mounts`, and how a stale one is known as ours.
pub const FS_TYPE: &str = "fuse.rdb";

/// What to mount on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On a directory; see [`Root::Directory`](super::Root::Directory).
    Directory,
    /// On a regular file; see [`Root::File`](super::Root::File).
    File,
}

/// Why a mount cannot be made or undone.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A system call failed.
    #[error("{doing} {}: {error}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another living process serves a file system here.
    #[error("{} is served by another process", path.display())]
    InUse {
        /// The mount's path.
        path: PathBuf,
    },
    /// Something that is not ours is mounted here.
    #[error("a {fs_type} file system is mounted on {}", path.display())]
    Foreign {
        /// The mount's path.
        path: PathBuf,
        /// Its type.
        fs_type: String,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MountError {
    move |error| MountError::Io {
        doing,
        path: path.to_owned(),
        error,
    }
}

/// A mount, undone when dropped.
#[derive(Debug)]
pub struct Mount {
    /// `None` once it is unmounted.
    target: Option<PathBuf>,
}

/// Mounts a new FUSE file system on `target`, which must exist, and gives the descriptor of its connection:
/// non-blocking, so that an io_uring polls it instead of keeping a thread on it. `source` is what
/// `/proc/mounts` shows as the device.
///
/// The file system is gone when the last copy of the descriptor is closed, also when the process dies; the
/// mount then stays as an entry that answers `ENOTCONN`, until [`clear_stale`] takes it away.
pub fn mount(target: &Path, kind: Kind, source: &str) -> Result<(OwnedFd, Mount), MountError> {
    let device = Path::new("/dev/fuse");
    let connection = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(device)
        .map_err(failed("opening", device))?;
    let target = sys::resolve_parent(target).map_err(failed("resolving", target))?;
    mount_connection(&connection, &target, kind, source).map_err(failed("mounting", &target))?;
    Ok((
        connection.into(),
        Mount {
            target: Some(target),
        },
    ))
}

fn mount_connection(connection: &File, target: &Path, kind: Kind, source: &str) -> io::Result<()> {
    let mode = match kind {
        Kind::Directory => libc::S_IFDIR,
        Kind::File => libc::S_IFREG,
    };
    let options = format!(
        "fd={},rootmode={mode:o},user_id=0,group_id=0,allow_other,default_permissions,max_read={}",
        connection.as_raw_fd(),
        REQUEST_DATA_MAX,
    );
    let source = std::ffi::CString::new(source)?;
    let target = sys::c_path(target)?;
    let fs_type = std::ffi::CString::new(FS_TYPE)?;
    let options = std::ffi::CString::new(options)?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_NOATIME;
    // SAFETY: all four pointers are to zero-terminated strings that outlive the call.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            fs_type.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    };
    sys::check(result).map(drop)
}

impl Mount {
    /// Where.
    pub fn target(&self) -> Option<&Path> {
        self.target.as_deref()
    }

    /// The mount at `target` that an earlier process made and whose connection this one serves. Nothing is looked at, for
    /// that waits for whoever serves it.
    pub fn adopt(target: &Path) -> Result<Self, MountError> {
        let target = sys::resolve_parent(target).map_err(failed("resolving", target))?;
        Ok(Self {
            target: Some(target),
        })
    }

    /// Leaves the mount to the next process.
    pub fn leave(mut self) {
        self.target = None;
    }

    /// Takes the mount out of the tree. Who has the file open (a loop device) keeps it until it closes.
    pub fn unmount(mut self) -> Result<(), MountError> {
        match self.target.take() {
            Some(target) => detach(&target).map_err(failed("unmounting", &target)),
            None => Ok(()),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(target) = self.target.take()
            && let Err(error) = detach(&target)
        {
            tracing::warn!("unmounting {}: {error}", target.display());
        }
    }
}

/// Takes a mount out of the tree.
pub(crate) fn detach(target: &Path) -> io::Result<()> {
    let target = sys::c_path(target)?;
    // SAFETY: the pointer is to a zero-terminated string that outlives the call.
    let result =
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) };
    sys::check(result).map(drop)
}

/// Takes away what dead daemons left mounted on `target`. A mount of ours that still answers, and any mount
/// that is not ours, is an error and stays. Nothing mounted, or nothing there, is fine.
///
/// Looking whether a mount answers waits for its server, so one that is stopped but not dead blocks this.
pub fn clear_stale(target: &Path) -> Result<(), MountError> {
    let target = match sys::resolve_parent(target) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("resolving", target)(error)),
    };
    loop {
        let mounts = sys::mounts().map_err(failed("reading", Path::new("/proc/self/mountinfo")))?;
        let Some(top) = mounts
            .into_iter()
            .rev()
            .find(|entry| entry.target == target)
        else {
            return Ok(());
        };
        if top.fs_type != FS_TYPE {
            return Err(MountError::Foreign {
                path: target,
                fs_type: top.fs_type,
            });
        }
        match std::fs::metadata(&target) {
            Err(error) if is_dead(&error) => {}
            _ => return Err(MountError::InUse { path: target }),
        }
        detach(&target).map_err(failed("unmounting", &target))?;
        tracing::info!("unmounted {}, left by a daemon that died", target.display());
    }
}

/// What a FUSE file system without a server answers: `ENOTCONN`, or `ECONNABORTED` to who was waiting.
pub(crate) fn is_dead(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOTCONN | libc::ECONNABORTED)
    )
}
