//! A FUSE file system that is one file.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use zerocopy::{FromBytes, FromZeros};

use super::{StatusFileError, cut, failed};
use crate::fuse::mount::{Kind, Mount, MountError, mount};
use crate::fuse::wire::{
    Attr, AttrOut, InHeader, InitIn, OPEN_DIRECT_IO, OpenIn, OpenOut, ROOT_ID, ReadIn, ReleaseIn,
    Reply, StatfsOut, init_reply, opcode,
};
use crate::sys;

/// How old content may be that was made to tell its length: the same is read then. Who opens the file asks for the length first.
const MEASURED_FOR: Duration = Duration::from_millis(50);
/// Who may have the file open at a time; each holds a copy of the content.
const OPEN_MAX: usize = 256;
/// The smallest data size the kernel accepts; nobody writes here.
const DATA_MAX: u32 = 4096;
/// Bytes of the longest message: the kernel wants room for its smallest buffer, or a write.
const MESSAGE_MAX: usize = 16 * 1024;
const MODE: u32 = libc::S_IFREG | 0o444;

/// A mounted file that nobody serves yet.
pub(super) struct Mounted {
    path: PathBuf,
    connection: File,
    mount: Mount,
}

/// A mounted file and the thread that serves it.
#[derive(Debug)]
pub(super) struct FuseFile {
    path: PathBuf,
    mount: Option<Mount>,
    /// Dropped to end the thread.
    stop: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

/// Makes an empty file at `path`, if there is none, and mounts on it.
pub(super) fn mount_at(path: &Path) -> Result<Mounted, MountError> {
    let error_at = |doing| {
        move |error| MountError::Io {
            doing,
            path: path.to_owned(),
            error,
        }
    };
    let path = sys::resolve_parent(path).map_err(error_at("resolving"))?;
    // Readable by nobody but root even where the mount is missing, and empty.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&path)
        .map_err(error_at("creating"))?;
    match mount(&path, Kind::File, "rdb-status") {
        Ok((connection, mount)) => Ok(Mounted {
            path,
            connection: connection.into(),
            mount,
        }),
        Err(error) => {
            remove(&path);
            Err(error)
        }
    }
}

impl FuseFile {
    pub(super) fn start(
        mounted: Mounted,
        content: impl FnMut() -> String + Send + 'static,
    ) -> Result<Self, StatusFileError> {
        let Mounted {
            path,
            connection,
            mount,
        } = mounted;
        let mut file = Self {
            path,
            mount: Some(mount),
            stop: None,
            thread: None,
        };
        let (stopped, stop) = io::pipe().map_err(failed("making a pipe for", &file.path))?;
        let mut server = Server {
            connection,
            content,
            measured: None,
            snapshots: HashMap::new(),
            opened: 0,
        };
        let thread = std::thread::Builder::new()
            .name("status-file".to_owned())
            .spawn(move || {
                if let Err(error) = server.run(&stopped) {
                    tracing::error!("serving the status file: {error}");
                }
            })
            .map_err(failed("starting the thread for", &file.path))?;
        file.stop = Some(stop);
        file.thread = Some(thread);
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Asked without asking the file itself, which this process serves.
    pub(super) fn is_there(&self) -> bool {
        // (Where that can not be read nothing is known against it.)
        sys::mounts().map_or(true, |mounts| {
            mounts.iter().any(|mount| mount.target == self.path)
        })
    }
}

impl Drop for FuseFile {
    fn drop(&mut self) {
        // First the name, then the service: nobody finds a dead file. The thread still answers what
        // unmounting may ask.
        drop(self.mount.take());
        remove(&self.path);
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the status file's thread panicked");
        }
    }
}

/// Removes the empty file under a mount.
fn remove(path: &Path) {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() == 0 => {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!("removing {}: {error}", path.display());
            }
        }
        _ => tracing::warn!("{} is not the file it was: not removed", path.display()),
    }
}

struct Server<F> {
    connection: File,
    content: F,
    /// What was made last to tell how long it is.
    measured: Option<Snapshot>,
    /// What each open file reads.
    snapshots: HashMap<u64, Snapshot>,
    /// Files opened so far: the next one's number.
    opened: u64,
}

/// Content as it was at one instant.
struct Snapshot {
    bytes: Vec<u8>,
    made: Instant,
    /// Its beginning has been read: who reads that again wants news.
    begun: bool,
}

impl<F: FnMut() -> String> Server<F> {
    fn snapshot(&mut self) -> Snapshot {
        Snapshot {
            bytes: cut((self.content)()),
            made: Instant::now(),
            begun: false,
        }
    }

    /// Serves until told to stop, or until the file system is gone.
    fn run(&mut self, stopped: &io::PipeReader) -> io::Result<()> {
        let mut buffer = vec![0; MESSAGE_MAX];
        loop {
            let [_, stop] = sys::wait_readable([self.connection.as_fd(), stopped.as_fd()])?;
            if stop {
                return Ok(());
            }
            let length = match self.connection.read(&mut buffer) {
                Ok(length) => length,
                Err(error) => match error.raw_os_error() {
                    // The request was taken back, or interrupted before it was read.
                    Some(libc::ENOENT | libc::EINTR | libc::EAGAIN) => continue,
                    // Unmounted.
                    Some(libc::ENODEV) => return Ok(()),
                    _ => return Err(error),
                },
            };
            if let Some(reply) = self.answer(&buffer[..length]) {
                // The reader may have been killed meanwhile: its request is gone then.
                match self.connection.write_all(reply.as_bytes()) {
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                    other => other?,
                }
            }
        }
    }

    fn answer(&mut self, message: &[u8]) -> Option<Reply> {
        let (header, body) = InHeader::read_from_prefix(message).ok()?;
        let unique = header.unique;
        let reply = match header.opcode {
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT | opcode::DESTROY => {
                return None;
            }
            opcode::READ => self
                .on_read(unique, body)
                .unwrap_or_else(|errno| Reply::error(unique, errno)),
            opcode::INIT => match InitIn::read_from_prefix(body) {
                Ok((init, _)) => init_reply(unique, &init, DATA_MAX).0,
                Err(_) => Reply::error(unique, libc::EIO),
            },
            opcode::GETATTR if header.nodeid == ROOT_ID => {
                // With a length of 0, as /proc's files have, sendfile and splice would find nothing here: the kernel
                // serves them from its pages, up to the length that it knows. It asks for it before each opening.
                let measured = self.snapshot();
                let length = measured.bytes.len() as u64;
                self.measured = Some(measured);
                Reply::with(
                    unique,
                    &AttrOut::new(Attr::new(ROOT_ID, MODE, length, 4096)),
                )
            }
            opcode::OPEN => self.on_open(unique, body),
            opcode::RELEASE => {
                if let Ok((release, _)) = ReleaseIn::read_from_prefix(body) {
                    self.snapshots.remove(&release.fh);
                }
                Reply::empty(unique)
            }
            opcode::STATFS => Reply::with(unique, &StatfsOut::new_zeroed()),
            opcode::SETATTR => Reply::error(unique, libc::EPERM),
            opcode::ACCESS => Reply::empty(unique),
            _ => Reply::error(unique, libc::ENOSYS),
        };
        Some(reply)
    }

    fn on_open(&mut self, unique: u64, body: &[u8]) -> Reply {
        let Ok((open, _)) = OpenIn::read_from_prefix(body) else {
            return Reply::error(unique, libc::EIO);
        };
        if open.flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32 {
            return Reply::error(unique, libc::EACCES);
        }
        if self.snapshots.len() >= OPEN_MAX {
            return Reply::error(unique, libc::ENFILE);
        }
        let measured = self.measured.take();
        let snapshot = match measured.filter(|measured| measured.made.elapsed() <= MEASURED_FOR) {
            Some(measured) => measured,
            None => self.snapshot(),
        };
        self.opened += 1;
        self.snapshots.insert(self.opened, snapshot);
        let opened = OpenOut {
            fh: self.opened,
            open_flags: OPEN_DIRECT_IO,
            backing_id: 0,
        };
        Reply::with(unique, &opened)
    }

    /// Reading from the beginning takes a new snapshot, unless that of the opening is unread and fresh; what follows reads on
    /// in it.
    fn on_read(&mut self, unique: u64, body: &[u8]) -> Result<Reply, i32> {
        let (read, _) = ReadIn::read_from_prefix(body).map_err(|_| libc::EIO)?;
        let known = self.snapshots.get(&read.fh).ok_or(libc::EBADF)?;
        if read.offset == 0 && (known.begun || known.made.elapsed() > MEASURED_FOR) {
            let fresh = self.snapshot();
            self.snapshots.insert(read.fh, fresh);
        }
        let known = self.snapshots.get_mut(&read.fh).ok_or(libc::EBADF)?;
        known.begun |= read.offset == 0;
        let snapshot = &known.bytes;
        let start = usize::try_from(read.offset)
            .unwrap_or(usize::MAX)
            .min(snapshot.len());
        let end = start.saturating_add(read.size as usize).min(snapshot.len());
        Ok(Reply::with_data(unique, &snapshot[start..end]))
    }
}
