//! Disks that hang: I/O of a resource of this process is under way on them although the resource has ended.
//!
//! The kernel still works on the memory of such an I/O, and through its file, so both stay until it has ended. As long as the
//! file is open the disk is in use, by this process, and whoever opens it anew is told of that.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Which device or file it is, under whatever name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Identity {
    /// A block device (`a` is its number) or a file (`a` is its file system's).
    block: bool,
    a: u64,
    b: u64,
}

impl Identity {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Identity {
        if metadata.file_type().is_block_device() {
            Identity {
                block: true,
                a: metadata.rdev(),
                b: 0,
            }
        } else {
            Identity {
                block: false,
                a: metadata.dev(),
                b: metadata.ino(),
            }
        }
    }
}

/// How many I/Os hold each.
static LEFT: Mutex<BTreeMap<Identity, usize>> = Mutex::new(BTreeMap::new());

fn left() -> MutexGuard<'static, BTreeMap<Identity, usize>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An I/O that holds a disk. To be dropped once the file is closed.
#[derive(Debug)]
pub(crate) struct LeftDisk(Identity);

impl LeftDisk {
    pub(super) fn new(disk: Identity) -> LeftDisk {
        *left().entry(disk).or_default() += 1;
        LeftDisk(disk)
    }
}

impl Drop for LeftDisk {
    fn drop(&mut self) {
        let mut left = left();
        let Some(count) = left.get_mut(&self.0) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            left.remove(&self.0);
        }
    }
}

/// Whether a device or file is held by I/O of a resource of this process that has ended. May wait for the file system of the
/// path.
pub fn is_left(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| left().contains_key(&Identity::of(&found)))
}
