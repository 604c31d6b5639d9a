//! The device names that users know: `/dev/drbdN` and `/dev/drbd/by-res/NAME/VOLUME`.
//!
//! They are symbolic links to the loop, nbd or ublk device. The directory that stands for `/dev` can be
//! chosen, so that several nodes on one machine do not fight for names. A link is replaced or removed only
//! if it is one of ours; a device node of the kernel's driver, a file, or udev's link stays as it is.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

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

/// The place for links: `/dev`, or another directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceLinks {
    prefix: PathBuf,
}

impl DeviceLinks {
    /// Links below `prefix`, normally `/dev`. Makes nothing yet.
    pub fn new(prefix: impl Into<PathBuf>) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// `PREFIX/drbdN`.
    pub fn by_minor(&self, minor: u32) -> PathBuf {
        self.prefix.join(format!("drbd{minor}"))
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

    /// Makes both links to `target`, replacing ours. If the second cannot be made, the first is taken back.
    pub fn create(
        &self,
        minor: u32,
        resource: &str,
        volume: Option<u32>,
        target: &Path,
    ) -> Result<(), LinkError> {
        if !is_our_device(target) {
            return Err(LinkError::BadTarget {
                target: target.to_owned(),
            });
        }
        let (by_minor, by_resource) = (self.by_minor(minor), self.by_resource(resource, volume)?);
        create_one(&by_minor, target)?;
        self.make_room(resource, volume);
        create_one(&by_resource, target).inspect_err(|_| {
            if let Err(error) = remove_one(&by_minor, Some(target)) {
                tracing::warn!("{error}");
            }
        })
    }

    /// Takes away what the resource had before its configuration gave its volume a number, or took it: a link is in the place
    /// of a directory, or the other way round. What is not ours stays, and the new link cannot be made.
    fn make_room(&self, resource: &str, volume: Option<u32>) {
        let Ok(of_resource) = self.by_resource(resource, None) else {
            return;
        };
        if volume.is_some() {
            let _ = remove_one(&of_resource, None);
        } else if of_resource.is_dir() && !of_resource.is_symlink() {
            for entry in std::fs::read_dir(&of_resource)
                .into_iter()
                .flatten()
                .flatten()
            {
                let _ = remove_one(&entry.path(), None);
            }
            let _ = std::fs::remove_dir(&of_resource);
        }
    }

    /// Removes both links, as far as they are ours, and the directories that this leaves empty. Links that
    /// are not there are fine. With `target` only links that lead there go: another node of this machine, or
    /// a later device of this one, may have taken the names meanwhile.
    pub fn remove(
        &self,
        minor: u32,
        resource: &str,
        volume: Option<u32>,
        target: Option<&Path>,
    ) -> Result<(), LinkError> {
        let by_resource = self.by_resource(resource, volume)?;
        let first = remove_one(&self.by_minor(minor), target);
        remove_one(&by_resource, target)?;
        // RESOURCE, by-res, drbd: each goes if it is empty. Others may be using them, so no error matters.
        let directories = if volume.is_some() { 3 } else { 2 };
        for directory in by_resource.ancestors().skip(1).take(directories) {
            if std::fs::remove_dir(directory).is_err() {
                break;
            }
        }
        first
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
    ["loop", "nbd", "ublkb"].iter().any(|kind| {
        name.strip_prefix(kind).is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
        })
    })
}

/// `Ok(true)` if our link is there, `Ok(false)` if nothing is.
fn check_ours(path: &Path) -> Result<bool, LinkError> {
    let not_ours = |what: String| LinkError::NotOurs {
        path: path.to_owned(),
        what,
    };
    match std::fs::read_link(path) {
        Ok(target) if is_our_device(&target) => Ok(true),
        Ok(target) => Err(not_ours(format!("a link to {}", target.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            Err(not_ours("not a symbolic link".to_owned()))
        }
        Err(error) => Err(failed("reading the link", path)(error)),
    }
}

fn create_one(path: &Path, target: &Path) -> Result<(), LinkError> {
    if check_ours(path)? {
        std::fs::remove_file(path).map_err(failed("removing the old link", path))?;
    } else if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed("making the directory", parent))?;
    }
    symlink(target, path).map_err(failed("making the link", path))
}

fn remove_one(path: &Path, target: Option<&Path>) -> Result<(), LinkError> {
    let is_meant = |found: PathBuf| target.is_none_or(|target| found == target);
    if check_ours(path)? && std::fs::read_link(path).is_ok_and(is_meant) {
        std::fs::remove_file(path).map_err(failed("removing the link", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_come_and_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let links = DeviceLinks::new(dir.path());
        links
            .create(3, "r0", Some(0), Path::new("/dev/loop7"))
            .expect("made");
        links
            .create(3, "r0", Some(0), Path::new("/dev/loop8"))
            .expect("replaced");
        links
            .create(4, "r0", Some(1), Path::new("/dev/ublkb1"))
            .expect("made");
        for path in ["drbd3", "drbd/by-res/r0/0"] {
            let target = std::fs::read_link(dir.path().join(path)).expect(path);
            assert_eq!(target, Path::new("/dev/loop8"), "{path}");
        }
        links.remove(3, "r0", Some(0), None).expect("removed");
        assert!(
            dir.path().join("drbd/by-res/r0").is_dir(),
            "volume 1 is still there"
        );
        links.remove(4, "r0", Some(1), None).expect("removed");
        links.remove(4, "r0", Some(1), None).expect("nothing to do");
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_volume_without_a_number_is_the_resources_own_link() {
        let dir = tempfile::tempdir().expect("a directory");
        let links = DeviceLinks::new(dir.path());
        let target = Path::new("/dev/ublkb3");
        let link = |path: &str| std::fs::read_link(dir.path().join("drbd/by-res").join(path)).ok();
        for _ in 0..2 {
            // The configuration numbers it, and does not any more.
            links.create(3, "r0", Some(0), target).expect("made");
            assert_eq!(link("r0/0").as_deref(), Some(target));
            links.create(3, "r0", None, target).expect("made");
            assert_eq!(link("r0").as_deref(), Some(target));
        }
        links.remove(3, "r0", None, Some(target)).expect("removed");
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
        // A directory with what is not ours in it stays.
        std::fs::create_dir_all(dir.path().join("drbd/by-res/r0")).expect("a directory");
        std::fs::write(dir.path().join("drbd/by-res/r0/note"), "mine").expect("written");
        let made = links.create(3, "r0", None, target);
        assert!(matches!(made, Err(LinkError::NotOurs { .. })), "{made:?}");
        assert!(dir.path().join("drbd/by-res/r0/note").exists());
    }

    #[test]
    fn names_that_another_node_has_taken_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let links = DeviceLinks::new(dir.path());
        let (first, second) = (Path::new("/dev/ublkb0"), Path::new("/dev/ublkb5"));
        links.create(3, "r0", Some(0), first).expect("made");
        links.create(3, "r0", Some(0), second).expect("replaced");
        links
            .remove(3, "r0", Some(0), Some(first))
            .expect("left alone");
        for path in ["drbd3", "drbd/by-res/r0/0"] {
            let target = std::fs::read_link(dir.path().join(path)).expect(path);
            assert_eq!(target, second, "{path}");
        }
        links
            .remove(3, "r0", Some(0), Some(second))
            .expect("removed");
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
    }

    #[test]
    fn what_is_not_ours_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let links = DeviceLinks::new(dir.path());
        let target = Path::new("/dev/loop7");
        std::fs::write(dir.path().join("drbd0"), "a file").expect("written");
        symlink("../../drbd9", dir.path().join("drbd1")).expect("a link");
        std::fs::create_dir_all(dir.path().join("drbd/by-res/r2")).expect("a directory");
        symlink("/dev/sda", dir.path().join("drbd/by-res/r2/0")).expect("a link");
        for (minor, resource) in [(0, "r0"), (1, "r1"), (2, "r2")] {
            let made = links.create(minor, resource, Some(0), target);
            assert!(
                matches!(made, Err(LinkError::NotOurs { .. })),
                "{resource}: {made:?}"
            );
            let removed = links.remove(minor, resource, Some(0), None);
            assert!(
                matches!(removed, Err(LinkError::NotOurs { .. })),
                "{resource}: {removed:?}"
            );
        }
        assert_eq!(
            std::fs::read(dir.path().join("drbd0")).expect("there"),
            b"a file"
        );
        assert!(
            !dir.path().join("drbd2").exists(),
            "the first link was taken back"
        );
        assert!(dir.path().join("drbd2").symlink_metadata().is_err());
    }

    #[test]
    fn names_cannot_lead_out_of_the_directory() {
        let links = DeviceLinks::new("/nowhere");
        for name in ["", ".", "..", "a/b", "/etc", "a\0b"] {
            let path = links.by_resource(name, Some(0));
            assert!(
                matches!(path, Err(LinkError::BadName { .. })),
                "{name:?}: {path:?}"
            );
        }
        for target in [
            "/dev/sda",
            "/dev/loop",
            "/dev/loop1x",
            "/dev/loop/../sda",
            "loop1",
        ] {
            let made = links.create(0, "r0", Some(0), Path::new(target));
            assert!(
                matches!(made, Err(LinkError::BadTarget { .. })),
                "{target}: {made:?}"
            );
        }
    }
}
