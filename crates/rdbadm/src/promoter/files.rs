//! What a promoter leaves in files: a record of what it has done, in the run directory, so that the next one goes on with it and
//! `--status` tells it; a lock, so that a resource has one promoter; and the mark of an evicted node, which outlives a boot.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::decision::Held;
use super::settings::Service;
use super::task::Left;

/// How long a lock is waited for: who asks for the status has it for a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// The greatest size of a record in bytes.
const RECORD_MAX: usize = 1 << 20;

/// What a promoter has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its process.
    pub(crate) pid: u32,
    /// What it does, or waits for.
    pub(crate) doing: String,
    pub(crate) held: Held,
    /// The services that were begun with, in order; those that have not stopped, too.
    pub(crate) services: Vec<Service>,
    /// The command that runs, if one does.
    #[serde(default)]
    pub(crate) command: Option<Left>,
}

/// Where the files of a resource are.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    run: PathBuf,
    state: PathBuf,
    resource: String,
}

impl Files {
    pub(crate) fn new(run_dir: &Path, state_dir: &Path, resource: &str) -> Files {
        Files {
            run: run_dir.join("promoter"),
            state: state_dir.join("promoter"),
            resource: resource.to_owned(),
        }
    }

    fn record(&self) -> PathBuf {
        self.run.join(format!("{}.json", self.resource))
    }

    fn mark(&self) -> PathBuf {
        self.state.join(format!("{}.evicted", self.resource))
    }

    /// Takes the resource for this process; `None`: another promoter has it.
    ///
    /// # Errors
    /// When the file can not be made.
    pub(crate) fn lock(&self) -> io::Result<Option<File>> {
        // Who can open it can lock it, and keep every promoter from starting: that is root's alone.
        let file = make(&self.run, &self.lock_path(), 0o600)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if begun.elapsed() >= LOCK_PATIENCE => {
                    return Ok(None);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn lock_path(&self) -> PathBuf {
        self.run.join(format!("{}.lock", self.resource))
    }

    /// Whether a promoter has it.
    pub(crate) fn is_locked(&self) -> bool {
        match File::open(self.lock_path()) {
            Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
            // Who may not look at the lock goes by the process that the record names.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let lives = |pid: u32| Path::new("/proc").join(pid.to_string()).exists();
                self.read().is_some_and(|record| lives(record.pid))
            }
            Err(_) => false,
        }
    }

    /// What the last promoter has left; `None`: nothing, or nothing that can be read.
    pub(crate) fn read(&self) -> Option<Record> {
        let bytes = rdb_config::read_regular(&self.record(), RECORD_MAX).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// # Errors
    /// When it can not be written.
    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        let path = self.record();
        let new = self.run.join(format!("{}.new", self.resource));
        let mut file = make(&self.run, &new, 0o644)?;
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        std::fs::rename(new, path)
    }

    /// Whether this node is not to have the resource.
    pub(crate) fn is_evicted(&self) -> bool {
        self.mark().exists()
    }

    /// # Errors
    /// When the mark can not be made or removed.
    pub(crate) fn evict(&self, is: bool) -> io::Result<()> {
        let mark = self.mark();
        if is {
            return make(&self.state, &mark, 0o644)?.sync_all();
        }
        match std::fs::remove_file(mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Opens a file, and makes it and its folder if they are not there.
fn make(folder: &Path, path: &Path, mode: u32) -> io::Result<File> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o755).create(folder)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(mode).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_one_promoter_and_its_record_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let (run, state) = (folder.path().join("run"), folder.path().join("state"));
        let files = Files::new(&run, &state, "r0");
        assert!(!files.is_locked() && files.read().is_none() && !files.is_evicted());
        let lock = files.lock().unwrap().unwrap();
        assert!(files.is_locked() && files.lock().unwrap().is_none());
        assert!(!Files::new(&run, &state, "r1").is_locked());
        drop(lock);
        assert!(!files.is_locked());

        let record = Record {
            pid: 7,
            doing: "all runs here".to_owned(),
            held: Held {
                promoted: true,
                begun: 1,
                ..Held::default()
            },
            services: vec![Service::Unit("srv.mount".to_owned())],
            command: None,
        };
        files.write(&record).unwrap();
        assert_eq!(files.read(), Some(record));
        std::fs::write(run.join("promoter/r0.json"), "{").unwrap();
        assert_eq!(files.read(), None);

        files.evict(true).unwrap();
        assert!(files.is_evicted());
        files.evict(false).unwrap();
        files.evict(false).unwrap();
        assert!(!files.is_evicted());
    }
}
