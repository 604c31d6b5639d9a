//! The status file over another one: over `/proc/drbd`, where scripts look that know the kernel's driver alone.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use super::Method;
use crate::fuse::mount::{FS_TYPE, MountError, clear_stale, detach};
use crate::sys;

/// Why the status file cannot be shown there.
#[derive(Debug, thiserror::Error)]
pub enum OverError {
    /// Another living daemon's status file is there, or a file system of somebody else; or it cannot be cleared.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// There is no such file.
    #[error("{} does not exist; loading the kernel's module drbd makes /proc/drbd", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is a directory, for instance.
    #[error("{} is not a file", path.display())]
    NoFile {
        /// What is not one.
        path: PathBuf,
    },
    /// The status file is made anew all the time, so a mount of it would show an old state.
    #[error("the status file is served without FUSE, and cannot be shown at {}", path.display())]
    WithoutFuse {
        /// Where it should be.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("mounting the status file over {}: {error}", path.display())]
    Io {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// The status file over another file. Dropping it shows that file again.
#[derive(Debug)]
pub struct Over {
    target: PathBuf,
    /// The status file's file system, by which the mount is known as ours.
    device: (u32, u32),
}

impl Over {
    /// Shows the status file, which is served by `method` at `status`, in the place of `target`, which must exist. What a daemon that died has left there is taken away.
    /// Blocking: it looks whether such a mount answers.
    ///
    /// # Errors
    /// When it cannot be shown there, with the reason. Nothing is changed then but what a dead daemon has left.
    pub fn show(status: &Path, method: Method, target: &Path) -> Result<Over, OverError> {
        let failed = |error| OverError::Io {
            path: target.to_owned(),
            error,
        };
        if method == Method::Memfd {
            return Err(OverError::WithoutFuse {
                path: target.to_owned(),
            });
        }
        clear_stale(target)?;
        let resolved = match target.canonicalize() {
            Ok(resolved) => resolved,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OverError::Missing {
                    path: target.to_owned(),
                });
            }
            Err(error) => return Err(failed(error)),
        };
        if !resolved.is_file() {
            return Err(OverError::NoFile { path: resolved });
        }
        let (source, to) = (sys::c_path(status), sys::c_path(&resolved));
        let (source, to) = (source.map_err(failed)?, to.map_err(failed)?);
        bind(&source, &to).map_err(failed)?;
        let device = top(&resolved).map_err(failed)?;
        Ok(Over {
            target: resolved,
            device: device.unwrap_or_default(),
        })
    }

    /// Whether it is still there; somebody may have unmounted it, or the module may have been unloaded.
    pub fn is_there(&self) -> bool {
        top(&self.target).is_ok_and(|top| top == Some(self.device))
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        if self.is_there()
            && let Err(error) = detach(&self.target)
        {
            tracing::warn!("unmounting {}: {error}", self.target.display());
        }
    }
}

fn bind(source: &CString, target: &CString) -> io::Result<()> {
    let nothing = std::ptr::null();
    // SAFETY: both paths are zero-terminated strings that outlive the call; the kernel reads no type and no options of a bind mount.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            nothing,
            libc::MS_BIND,
            nothing.cast(),
        )
    };
    sys::check(result).map(drop)
}

/// The file system that is mounted there over everything else, if it is one of ours.
fn top(target: &Path) -> io::Result<Option<(u32, u32)>> {
    let mounts = sys::mounts()?;
    let top = mounts
        .into_iter()
        .rev()
        .find(|entry| entry.target == target);
    Ok(top
        .filter(|entry| entry.fs_type == FS_TYPE)
        .map(|entry| entry.device))
}
