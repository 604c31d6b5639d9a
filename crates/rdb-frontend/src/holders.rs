//! Who uses a block device.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::sys;

/// Who uses a block device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Holder {
    /// A process has it open.
    #[error("process {pid} ({command})")]
    Process {
        /// Its number.
        pid: u32,
        /// Its name, as `/proc/PID/comm` has it.
        command: String,
    },
    /// It is mounted in this mount namespace.
    #[error("a mount on {}", target.display())]
    Mount {
        /// Where.
        target: PathBuf,
    },
    /// The kernel swaps on it.
    #[error("swap space")]
    Swap,
    /// Another block device is made of it (device mapper, md).
    #[error("the device {name}")]
    Device {
        /// Its name in `/sys/block`.
        name: String,
    },
}

/// Who uses the device whose node is at `path`, as far as `/proc` and `/sys` tell; nobody if there is none.
pub fn of_device(path: &Path) -> Vec<Holder> {
    let found = std::fs::metadata(path).ok();
    let device = found.filter(|found| found.file_type().is_block_device());
    device.map_or_else(Vec::new, |found| {
        let rdev = found.rdev();
        holders((libc::major(rdev), libc::minor(rdev)), path)
    })
}

/// Who uses a block device, as far as `/proc` and `/sys` tell: processes of this process namespace, mounts of this mount
/// namespace.
pub(crate) fn holders(device: (u32, u32), path: &Path) -> Vec<Holder> {
    let mut holders = Vec::new();
    for mount in sys::mounts().unwrap_or_default() {
        // btrfs and the like have a device number of their own; O_EXCL notices them all the same.
        if mount.device == device {
            holders.push(Holder::Mount {
                target: mount.target,
            });
        }
    }
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    if swaps
        .lines()
        .any(|line| line.split_whitespace().next() == path.to_str())
    {
        holders.push(Holder::Swap);
    }
    let above = format!("/sys/dev/block/{}:{}/holders", device.0, device.1);
    for entry in std::fs::read_dir(above).into_iter().flatten().flatten() {
        holders.push(Holder::Device {
            name: entry.file_name().to_string_lossy().into_owned(),
        });
    }
    holders.extend(processes_with(device));
    holders
}

/// In words.
pub(crate) fn list(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return "someone".to_owned();
    }
    holders
        .iter()
        .map(Holder::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Who has a block device open. Only descriptors that name something below `/dev` are looked at, so that a
/// hanging network file system somewhere does not block this.
fn processes_with(device: (u32, u32)) -> Vec<Holder> {
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let descriptors = std::fs::read_dir(process.path().join("fd"));
        let holds = descriptors
            .into_iter()
            .flatten()
            .flatten()
            .any(|descriptor| {
                let path = descriptor.path();
                std::fs::read_link(&path).is_ok_and(|target| target.starts_with("/dev/"))
                    && std::fs::metadata(&path).is_ok_and(|metadata| {
                        let rdev = metadata.rdev();
                        metadata.file_type().is_block_device()
                            && (libc::major(rdev), libc::minor(rdev)) == device
                    })
            });
        if holds {
            let command = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(Holder::Process {
                pid,
                command: command.trim_end().to_owned(),
            });
        }
    }
    found
}
