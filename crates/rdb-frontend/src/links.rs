//! The device names that users know: `/dev/drbdN`, `/dev/drbd/by-res/NAME/VOLUME`, `/dev/drbd/by-disk/DISK`, and `/dev/nbN` where the
//! configuration calls a device so, as DRBD 0.6 did.
//!
//! `/dev/drbdN` is there as long as the volume is. While it has a device, on a Primary, the name is a symbolic link to the loop, nbd or
//! ublk device. Otherwise it is a placeholder: a block device node that nobody can open, as DRBD's node cannot be opened on a Secondary. Each takes
//! the other's place by one rename, so whoever looks finds one of them. The other names are links to this one.
//!
//! The placeholder has the major number 0, which no driver can have: opening it ends with ENXIO whatever modules are loaded. Nobody else makes
//! such nodes, and with its minor number it says whose name it is for.
//!
//! The directory that stands for `/dev` can be chosen, so that several nodes on one machine do not fight for names. A name is replaced
//! or removed only if what has it is one of ours; a device node of the kernel's driver, a file, or udev's link (which is relative, and ours
//! are not) stays as it is.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Component, Path, PathBuf};

use crate::{owner, sys};

/// Why a link cannot be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
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
    /// Something else has the name.
    #[error("{} exists and is {what}: not replaced", path.display())]
    NotOurs {
        /// The name.
        path: PathBuf,
        /// What stands there.
        what: String,
    },
    /// The resource's name cannot be a directory's name.
    #[error("{name:?} cannot be part of a device path")]
    BadName {
        /// The resource's name.
        name: String,
    },
    /// The disk has no name below a directory.
    #[error("{} cannot be part of a device path", disk.display())]
    BadDisk {
        /// The disk's path.
        disk: PathBuf,
    },
    /// The target is not a device that a link of ours may name.
    #[error("{} is not a loop, nbd or ublk device", target.display())]
    BadTarget {
        /// As given.
        target: PathBuf,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LinkError {
    move |error| LinkError::Io {
        doing,
        path: path.to_owned(),
        error,
    }
}

/// What a volume's names are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeNames {
    /// Of `/dev/drbdN`.
    pub minor: u32,
    /// The resource's name.
    pub resource: String,
    /// The volume's number; none for the one that has no number in the configuration.
    pub volume: Option<u32>,
    /// It is to have its name of DRBD 0.6, too, `/dev/nbN`.
    pub old_name: bool,
    /// The disk below it, if it has one.
    pub disk: Option<PathBuf>,
}

/// What a volume's names lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown<'a> {
    /// Its device.
    Device(&'a Path),
    /// Nothing that can be opened.
    Placeholder,
}

/// What has the name `/dev/drbdN`, if it is ours.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Link(PathBuf),
    Placeholder,
}

/// The place for names: `/dev`, or another directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceLinks {
    prefix: PathBuf,
    /// The run directory of the daemon whose names these are.
    run_dir: PathBuf,
}

impl DeviceLinks {
    /// Names below `prefix`, normally `/dev`, of the daemon with this run directory. Makes nothing yet.
    pub fn new(prefix: impl Into<PathBuf>, run_dir: impl Into<PathBuf>) -> Self {
        Self {
            prefix: prefix.into(),
            run_dir: run_dir.into(),
        }
    }

    /// Whether the name of a minor is free to lead to a device of this daemon.
    ///
    /// # Errors
    /// Who has it: something that is not ours, or another daemon's device.
    pub fn check(&self, minor: u32) -> Result<(), LinkError> {
        match self.find(minor)? {
            Found::Link(there) if owner::is_anothers(&there, &self.run_dir) => {
                Err(self.taken(minor, &there))
            }
            _ => Ok(()),
        }
    }

    fn taken(&self, minor: u32, device: &Path) -> LinkError {
        LinkError::NotOurs {
            path: self.by_minor(minor),
            what: format!(
                "the name of {}, which another rdbd serves",
                device.display()
            ),
        }
    }

    /// `PREFIX/drbdN`.
    pub fn by_minor(&self, minor: u32) -> PathBuf {
        self.prefix.join(format!("drbd{minor}"))
    }

    /// `PREFIX/nbN`.
    pub fn by_old_name(&self, minor: u32) -> PathBuf {
        self.prefix.join(format!("nb{minor}"))
    }

    /// `PREFIX/drbd/by-res/RESOURCE/VOLUME`; without a volume, which is the one that has no number in the configuration,
    /// `PREFIX/drbd/by-res/RESOURCE`.
    pub fn by_resource(&self, resource: &str, volume: Option<u32>) -> Result<PathBuf, LinkError> {
        if resource.is_empty() || resource.contains(['/', '\0']) || matches!(resource, "." | "..") {
            return Err(LinkError::BadName {
                name: resource.to_owned(),
            });
        }
        let of_resource = self.prefix.join("drbd/by-res").join(resource);
        Ok(match volume {
            Some(volume) => of_resource.join(volume.to_string()),
            None => of_resource,
        })
    }

    /// `PREFIX/drbd/by-disk/DISK`, with the disk's path below `/dev`, or below the root if it is elsewhere.
    pub fn by_disk(&self, disk: &Path) -> Result<PathBuf, LinkError> {
        let below = disk
            .strip_prefix("/dev")
            .or_else(|_| disk.strip_prefix("/"));
        match below {
            Ok(below)
                if below.components().next().is_some()
                    && below
                        .components()
                        .all(|part| matches!(part, Component::Normal(_))) =>
            {
                Ok(self.prefix.join("drbd/by-disk").join(below))
            }
            _ => Err(LinkError::BadDisk {
                disk: disk.to_owned(),
            }),
        }
    }

    /// Makes the volume's names. `before`: the device that they have led to, if this daemon has made them so. A placeholder takes the
    /// place of no other: that belongs to another node of this machine, or is about to be taken over. Nor does a device take the place of
    /// one that another daemon serves.
    ///
    /// # Errors
    /// When a name is not ours, or cannot be made. `/dev/drbdN` is there if it could be made, whatever became of the others. (A
    /// placeholder that the system does not allow is the error of `mknod`.)
    pub fn show(
        &self,
        names: &VolumeNames,
        shown: Shown<'_>,
        before: Option<&Path>,
    ) -> Result<(), LinkError> {
        let by_minor = self.by_minor(names.minor);
        let by_resource = self.by_resource(&names.resource, names.volume)?;
        let by_disk = names
            .disk
            .as_deref()
            .map(|disk| self.by_disk(disk))
            .transpose();
        let found = self.find(names.minor)?;
        match (shown, &found) {
            (Shown::Device(target), _) if !is_our_device(target) => {
                return Err(LinkError::BadTarget {
                    target: target.to_owned(),
                });
            }
            (Shown::Device(target), Found::Link(there)) if there == target => {}
            (Shown::Device(_), Found::Link(there))
                if before != Some(there.as_path()) && owner::is_anothers(there, &self.run_dir) =>
            {
                return Err(self.taken(names.minor, there));
            }
            (Shown::Device(target), _) => self.put(names.minor, |new| symlink(target, new))?,
            (Shown::Placeholder, Found::Link(there)) if before != Some(there.as_path()) => {
                return Ok(());
            }
            (Shown::Placeholder, Found::Placeholder) => {}
            (Shown::Placeholder, _) => {
                let made = self.put(names.minor, |new| sys::make_block_node(new, 0, names.minor));
                if made.is_err() {
                    // No name leads to a device that is not ours any more.
                    self.remove(names, None)?;
                }
                made?;
            }
        }
        self.make_room(&names.resource, names.volume);
        let mut done = self.link(&by_resource, &by_minor);
        if names.old_name {
            done = done.and(self.link(&self.by_old_name(names.minor), &by_minor));
        }
        match by_disk? {
            Some(by_disk) => done.and(self.link(&by_disk, &by_minor)),
            None => done,
        }
    }

    /// Removes the volume's names, as far as they are ours, and the directories that this leaves empty. Names that are not there are
    /// fine. With `device` a name that leads to another device stays: another node of this machine, or a later
    /// device of this one, may have taken it meanwhile.
    ///
    /// # Errors
    /// When a name is not ours, or cannot be removed.
    pub fn remove(&self, names: &VolumeNames, device: Option<&Path>) -> Result<(), LinkError> {
        let by_minor = self.by_minor(names.minor);
        let others = [
            Some(self.by_resource(&names.resource, names.volume)),
            names.disk.as_deref().map(|disk| self.by_disk(disk)),
            names.old_name.then(|| Ok(self.by_old_name(names.minor))),
        ];
        let found = self.find(names.minor);
        match &found {
            Ok(Found::Link(there)) if device.is_some_and(|device| device != there) => return Ok(()),
            Ok(Found::Link(_) | Found::Placeholder) => {
                std::fs::remove_file(&by_minor).map_err(failed("removing the name", &by_minor))?;
            }
            Ok(Found::Nothing) | Err(_) => {}
        }
        let mut first = found.map(drop);
        for name in others.into_iter().flatten() {
            let removed = name.and_then(|name| self.unlink(&name, &by_minor));
            first = first.and(removed);
        }
        first
    }

    /// Removes the name by a disk that the volume does not have any more, if it leads to this volume's device.
    ///
    /// # Errors
    /// As [`DeviceLinks::remove`].
    pub fn remove_disk(&self, minor: u32, disk: &Path) -> Result<(), LinkError> {
        self.unlink(&self.by_disk(disk)?, &self.by_minor(minor))
    }

    /// Removes the volume's names if they lead to a placeholder.
    ///
    /// # Errors
    /// As [`DeviceLinks::remove`].
    pub fn remove_placeholder(&self, names: &VolumeNames) -> Result<(), LinkError> {
        match self.find(names.minor) {
            Ok(Found::Placeholder) => self.remove(names, None),
            _ => Ok(()),
        }
    }

    /// Removes the volume's names if they lead to a placeholder, or to a device that nobody serves any more: what a daemon with this run
    /// directory has left that was killed. Another one's device keeps its names.
    ///
    /// # Errors
    /// As [`DeviceLinks::remove`].
    pub fn remove_left(&self, names: &VolumeNames) -> Result<(), LinkError> {
        match self.find(names.minor) {
            Ok(Found::Link(device)) if !owner::is_served(&device, &self.run_dir) => {
                self.remove(names, None)
            }
            _ => self.remove_placeholder(names),
        }
    }

    /// What has the name of a minor, if that is ours.
    fn find(&self, minor: u32) -> Result<Found, LinkError> {
        let path = self.by_minor(minor);
        let there = match path.symlink_metadata() {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(failed("looking at", &path)(error)),
        };
        if there.file_type().is_block_device() {
            let (major, own) = (libc::major(there.rdev()), libc::minor(there.rdev()));
            if (major, own) == (0, minor) {
                return Ok(Found::Placeholder);
            }
        }
        match self.our_link(&path)? {
            Some(target) if is_our_device(&target) => Ok(Found::Link(target)),
            Some(target) => Err(LinkError::NotOurs {
                path,
                what: format!("a link to {}", target.display()),
            }),
            None => Ok(Found::Nothing),
        }
    }

    /// Where a link leads that is ours; `None` if nothing is there.
    fn our_link(&self, path: &Path) -> Result<Option<PathBuf>, LinkError> {
        let not_ours = |what: String| LinkError::NotOurs {
            path: path.to_owned(),
            what,
        };
        match std::fs::read_link(path) {
            Ok(target) if is_our_device(&target) || self.is_our_name(&target) => Ok(Some(target)),
            Ok(target) => Err(not_ours(format!("a link to {}", target.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(not_ours("not a symbolic link".to_owned()))
            }
            Err(error) => Err(failed("reading the link", path)(error)),
        }
    }

    /// Whether it is the absolute path of a name by minor.
    fn is_our_name(&self, target: &Path) -> bool {
        let minor = target
            .strip_prefix(&self.prefix)
            .ok()
            .and_then(Path::to_str)
            .and_then(|name| name.strip_prefix("drbd"));
        minor.is_some_and(is_number)
    }

    /// Has what `make` makes at a path take the place of the minor's name.
    fn put(&self, minor: u32, make: impl Fn(&Path) -> io::Result<()>) -> Result<(), LinkError> {
        let path = self.by_minor(minor);
        let new = self.prefix.join(format!(".drbd{minor}.rdb"));
        std::fs::create_dir_all(&self.prefix)
            .map_err(failed("making the directory", &self.prefix))?;
        let made = match make(&new) {
            // A daemon was killed in that moment.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::remove_file(&new).and_then(|()| make(&new))
            }
            made => made,
        };
        made.map_err(failed("making", &path))?;
        std::fs::rename(&new, &path).map_err(|error| {
            // What is left is made anew next time.
            let _ = std::fs::remove_file(&new);
            failed("making", &path)(error)
        })
    }

    /// Makes a link of ours to a name by minor.
    fn link(&self, path: &Path, by_minor: &Path) -> Result<(), LinkError> {
        match self.our_link(path)? {
            Some(target) if target == by_minor => return Ok(()),
            Some(_) => {
                std::fs::remove_file(path).map_err(failed("removing the old link", path))?;
            }
            None => {
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent)
                        .map_err(failed("making the directory", parent))?;
                }
            }
        }
        symlink(by_minor, path).map_err(failed("making the link", path))
    }

    /// Removes a link of ours that leads to this name by minor or, as an earlier version made them, to a device; then the directories
    /// above that are empty.
    fn unlink(&self, path: &Path, by_minor: &Path) -> Result<(), LinkError> {
        match self.our_link(path)? {
            Some(target) if target == by_minor || is_our_device(&target) => {
                std::fs::remove_file(path).map_err(failed("removing the link", path))?;
            }
            Some(_) => return Ok(()),
            None => {}
        }
        // Others may be using them, so no error matters.
        for directory in path.ancestors().skip(1) {
            if directory == self.prefix || std::fs::remove_dir(directory).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Takes away what the resource had before its configuration gave its volume a number, or took it: a link is in the place
    /// of a directory, or the other way round. What is not ours stays, and the new link cannot be made.
    fn make_room(&self, resource: &str, volume: Option<u32>) {
        let Ok(of_resource) = self.by_resource(resource, None) else {
            return;
        };
        let remove = |path: &Path| {
            if let Ok(Some(_)) = self.our_link(path) {
                let _ = std::fs::remove_file(path);
            }
        };
        if volume.is_some() {
            remove(&of_resource);
        } else if of_resource.is_dir() && !of_resource.is_symlink() {
            let entries = std::fs::read_dir(&of_resource);
            for entry in entries.into_iter().flatten().flatten() {
                remove(&entry.path());
            }
            let _ = std::fs::remove_dir(&of_resource);
        }
    }
}

/// Whether a link with this target is one that we made: `/dev/` and `loop`, `nbd` or `ublkb` and a number.
fn is_our_device(target: &Path) -> bool {
    let Some(name) = target
        .to_str()
        .and_then(|target| target.strip_prefix("/dev/"))
    else {
        return false;
    };
    ["loop", "nbd", "ublkb"]
        .iter()
        .any(|kind| name.strip_prefix(kind).is_some_and(is_number))
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests;
