//! Disks that hang: I/O of a resource of this process is under way on them although the resource has ended.
//!
//! The kernel still works on the memory of such an I/O, and through its file, so both stay until it has ended. As long as the
//! file is open the disk is in use, by this process, and whoever opens it anew is told of that.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::open::{Identity, OpenFile};

/// How many I/Os hold each.
static LEFT: Mutex<BTreeMap<Identity, usize>> = Mutex::new(BTreeMap::new());

fn left() -> MutexGuard<'static, BTreeMap<Identity, usize>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An I/O that holds a disk. To be dropped once the file is closed.
#[derive(Debug)]
pub(crate) struct LeftDisk(Identity);

impl LeftDisk {
    pub(crate) fn new(file: &OpenFile) -> LeftDisk {
        *left().entry(file.identity).or_default() += 1;
        LeftDisk(file.identity)
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
