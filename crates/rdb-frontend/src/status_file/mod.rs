//! A file whose content is made when it is read, and that cannot be read once its maker is dead.
//!
//! Monitors read the status file every few seconds and believe it. So it must never show an old state: not
//! while the daemon lives, and not after it died. Two ways:
//!
//! - [`Method::Fuse`]: a FUSE file system that is a single file. Every reading from the beginning asks the
//!   content afresh, and what follows is of the same snapshot. When the daemon dies, reading fails with
//!   `ENOTCONN`.
//! - [`Method::Memfd`], where FUSE cannot be used: a link to a file in memory that only the daemon's `/proc`
//!   entry names; it is made anew every [`REFRESH`]. When the daemon dies, the link leads nowhere. Only root
//!   can read it.
//!
//! Each has a thread of its own, and blocks nobody else's.

mod fuse;
mod memfd;
mod over;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use over::{Over, OverError};

use crate::fuse::mount::MountError;

/// How old the content may be that [`Method::Memfd`] shows.
pub const REFRESH: Duration = Duration::from_millis(250);
/// Bytes of content that are shown; what is longer is cut.
pub const CONTENT_MAX: usize = 16 << 20;

/// How the file is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Content is made on each reading.
    Fuse,
    /// Content is made every [`REFRESH`].
    Memfd,
}

/// Why the file cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StatusFileError {
    /// The mount failed, or somebody else serves the file.
    #[error(transparent)]
    Mount(#[from] MountError),
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
    /// Something that is not a status file has the name.
    #[error("{} exists and is not a status file: not replaced", path.display())]
    NotOurs {
        /// The name.
        path: PathBuf,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StatusFileError {
    move |error| StatusFileError::Io {
        doing,
        path: path.to_owned(),
        error,
    }
}

/// A served file. Dropping it ends the service and removes the file.
#[derive(Debug)]
pub struct StatusFileHandle {
    served: Served,
}

#[derive(Debug)]
enum Served {
    Fuse(fuse::FuseFile),
    Memfd(memfd::MemfdFile),
}

impl StatusFileHandle {
    /// Which way was taken.
    pub fn method(&self) -> Method {
        match self.served {
            Served::Fuse(_) => Method::Fuse,
            Served::Memfd(_) => Method::Memfd,
        }
    }

    /// Whether it is still where it was made; somebody may have removed the link, or unmounted it.
    pub fn is_there(&self) -> bool {
        match &self.served {
            Served::Fuse(file) => file.is_there(),
            Served::Memfd(file) => file.is_there(),
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        match &self.served {
            Served::Fuse(file) => file.path(),
            Served::Memfd(file) => file.path(),
        }
    }
}

/// Serves what `content` returns at `path`: over FUSE, or if that does not work here, the other way. A file
/// left by a daemon that died is taken over; one that another daemon serves is an error.
///
/// `content` is called on the service's thread and should be quick: a reader waits for it.
pub fn serve(
    path: &Path,
    content: impl FnMut() -> String + Send + 'static,
) -> Result<StatusFileHandle, StatusFileError> {
    clear(path)?;
    match fuse::mount_at(path) {
        Ok(mounted) => {
            let file = fuse::FuseFile::start(mounted, content)?;
            Ok(StatusFileHandle {
                served: Served::Fuse(file),
            })
        }
        Err(error) => {
            tracing::info!("the status file is served without FUSE: {error}");
            let file = memfd::MemfdFile::start(path, content)?;
            Ok(StatusFileHandle {
                served: Served::Memfd(file),
            })
        }
    }
}

/// As [`serve`], one way only.
pub fn serve_by(
    method: Method,
    path: &Path,
    content: impl FnMut() -> String + Send + 'static,
) -> Result<StatusFileHandle, StatusFileError> {
    clear(path)?;
    let served = match method {
        Method::Fuse => Served::Fuse(fuse::FuseFile::start(fuse::mount_at(path)?, content)?),
        Method::Memfd => Served::Memfd(memfd::MemfdFile::start(path, content)?),
    };
    Ok(StatusFileHandle { served })
}

/// Takes away what a dead daemon left: its mount, the empty file under it, its link.
fn clear(path: &Path) -> Result<(), StatusFileError> {
    crate::fuse::mount::clear_stale(path)?;
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("looking at", path)(error)),
    };
    let is_ours = if metadata.is_symlink() {
        let target = std::fs::read_link(path).map_err(failed("reading the link", path))?;
        memfd::check_dead(path, &target)?
    } else {
        metadata.is_file() && metadata.len() == 0
    };
    if !is_ours {
        return Err(StatusFileError::NotOurs {
            path: path.to_owned(),
        });
    }
    std::fs::remove_file(path).map_err(failed("removing", path))
}

fn cut(mut content: String) -> Vec<u8> {
    if content.len() > CONTENT_MAX {
        content.truncate(content.floor_char_boundary(CONTENT_MAX));
    }
    content.into_bytes()
}
