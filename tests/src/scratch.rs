//! A directory for one test, and everything that hangs on its files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::programs;

/// A temporary directory below `RDB_TEST_DIR` or `/var/tmp` (direct I/O must work there). When it
/// is dropped, what is mounted in it is unmounted, loop devices over its files are detached, and
/// it is removed; with `RDB_TEST_KEEP` set it stays.
#[derive(Debug)]
pub struct Scratch {
    directory: PathBuf,
    keep: bool,
}

impl Scratch {
    /// An empty one.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new(name: &str) -> Result<Self> {
        let base = std::env::var_os("RDB_TEST_DIR").map_or("/var/tmp".into(), PathBuf::from);
        let directory = tempfile::Builder::new()
            .prefix(&format!("rdb-{name}."))
            .tempdir_in(&base)
            .with_context(|| format!("no temporary directory in {}", base.display()))?
            .keep();
        let keep = std::env::var_os("RDB_TEST_KEEP").is_some();
        Ok(Self { directory, keep })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// A path in it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.join(name)
    }

    /// Unmounts and detaches all that hangs on the directory's files.
    pub fn release(&self) {
        release_below(&self.directory);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.release();
        if self.keep {
            eprintln!("kept: {}", self.directory.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("cannot remove {}: {error}", self.directory.display());
        }
    }
}

/// Unmounts what is mounted below a directory or from a loop device over one of its files, and
/// detaches those loop devices. A process that was killed leaves both behind.
pub fn release_below(directory: &Path) {
    let loops = loops_over(directory);
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    // The last mounted goes first.
    for line in mounts.lines().rev() {
        let mut words = line.split(' ');
        let (source, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if Path::new(target).starts_with(directory) || loops.iter().any(|l| l == source) {
            let _ = Command::new("umount").args(["-l", target]).output();
        }
    }
    for device in loops {
        let _ = Command::new("losetup").args(["-d", &device]).output();
    }
}

/// Loop devices whose backing file lies below a directory.
#[must_use]
pub fn loops_over(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
    {
        let backing = entry.path().join("loop/backing_file");
        let Ok(file) = std::fs::read_to_string(backing) else {
            continue;
        };
        if Path::new(file.trim_end()).starts_with(directory) {
            found.push(format!("/dev/{}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

/// A loop device over a file.
#[derive(Debug)]
pub struct Loop {
    device: String,
}

impl Loop {
    /// Attaches the file to a free loop device, with direct I/O.
    ///
    /// # Errors
    /// When `losetup` fails.
    pub fn new(file: &Path) -> Result<Self> {
        let file = file.to_string_lossy();
        let device = programs::run_tool(30, "losetup", &["--show", "-f", "--direct-io=on", &file])?;
        Ok(Self {
            device: device.trim().to_owned(),
        })
    }

    /// `/dev/loopN`.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.device]).output();
    }
}
