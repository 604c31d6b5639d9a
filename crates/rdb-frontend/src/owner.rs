//! Whose a loop, nbd or ublk device is: it says so itself, as far as its driver lets it.
//!
//! | device | is ours if |
//! | --- | --- |
//! | loop | its file is the mount of a FUSE file system of rdb's (`fuse.rdb`), in the run directory of the daemon that serves it |
//! | nbd | its driver was told `rdb RUN RESOURCE/VOLUME` (Linux 5.14), and it is connected |
//! | ublk | it is there; the driver says no more to others than who serves it |

use std::fs;
use std::path::Path;

use crate::fuse::mount::FS_TYPE;
use crate::sys::{self, MountEntry};

/// Whether somebody serves the device, or it waits for a daemon: not what a dead daemon with this run directory has left, nor what somebody
/// has made since who has nothing to do with rdb.
pub(crate) fn is_served(device: &Path, run_dir: &Path) -> bool {
    match Seen::of(device) {
        Seen::Nothing => false,
        Seen::Loop(file) => is_of_another(&file, run_dir),
        Seen::Nbd { backend, .. } => backend.is_none_or(|backend| backend.starts_with("rdb ")),
        Seen::Ublk => true,
    }
}

/// Whether a daemon with another run directory serves the device, as far as that can be told.
pub(crate) fn is_anothers(device: &Path, run_dir: &Path) -> bool {
    match Seen::of(device) {
        Seen::Loop(file) => is_of_another(&file, run_dir),
        Seen::Nbd {
            backend: Some(backend),
            pid,
        } => {
            let own = format!("rdb {} ", run_dir.display());
            let is_alive = fs::metadata(format!("/proc/{pid}")).is_ok();
            backend.starts_with("rdb ") && !backend.starts_with(&own) && is_alive
        }
        Seen::Nothing | Seen::Nbd { .. } | Seen::Ublk => false,
    }
}

/// What the system shows of a device.
enum Seen {
    Nothing,
    /// Its file.
    Loop(String),
    /// What its driver was told that it belongs to, and who has told it.
    Nbd {
        backend: Option<String>,
        pid: String,
    },
    Ublk,
}

impl Seen {
    fn of(device: &Path) -> Seen {
        let Some(name) = device.file_name().and_then(|name| name.to_str()) else {
            return Seen::Nothing;
        };
        let block = Path::new("/sys/block").join(name);
        let read = |file: &str| {
            let text = fs::read_to_string(block.join(file)).ok()?;
            Some(text.trim_end().to_owned())
        };
        if name.starts_with("loop") {
            read("loop/backing_file").map_or(Seen::Nothing, Seen::Loop)
        } else if name.starts_with("nbd") {
            let backend = read("backend");
            read("pid").map_or(Seen::Nothing, |pid| Seen::Nbd { backend, pid })
        } else if block.exists() {
            Seen::Ublk
        } else {
            Seen::Nothing
        }
    }
}

/// Whether a loop device's file is that of a daemon with another run directory.
fn is_of_another(file: &str, run_dir: &Path) -> bool {
    // A file that has no path any more, as one of a dead daemon's whose device is still used, is shown as the root.
    if file == "/" || Path::new(file).starts_with(run_dir) {
        return false;
    }
    is_mount_of_ours(&sys::mounts().unwrap_or_default(), Path::new(file))
}

/// Whether a FUSE file system of rdb's is mounted at this path.
fn is_mount_of_ours(mounts: &[MountEntry], path: &Path) -> bool {
    let is_ours = |mount: &MountEntry| mount.target == path && mount.fs_type == FS_TYPE;
    mounts.iter().any(is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_ours_if_it_is_a_mount_of_rdbs() {
        let mount = |target: &str, fs_type: &str| MountEntry {
            device: (0, 40),
            target: target.into(),
            fs_type: fs_type.to_owned(),
        };
        let mounts = [
            mount("/run/a/device/r0-0", FS_TYPE),
            mount("/srv/x", "fuse.sshfs"),
        ];
        assert!(is_mount_of_ours(&mounts, Path::new("/run/a/device/r0-0")));
        for path in ["/srv/x", "/run/a", ""] {
            assert!(!is_mount_of_ours(&mounts, Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_nobodys() {
        for device in ["/dev/loop987654", "/dev/nbd987654", "/dev/ublkb987654", "/"] {
            let device = Path::new(device);
            assert!(!is_served(device, Path::new("/run/rdb")));
            assert!(!is_anothers(device, Path::new("/run/rdb")));
        }
    }
}
