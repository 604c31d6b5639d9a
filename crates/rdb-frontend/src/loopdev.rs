//! Loop devices: a file becomes a block device.
//!
//! Facts are from Linux's `include/uapi/linux/loop.h` and loop(4); `LOOP_CONFIGURE` needs Linux 5.8.
//!
//! Attaching asks the file for its size and file system, resizing asks again, and the kernel may read the
//! partition table or the first blocks at any opening. If the file is our own FUSE file, the data plane must
//! be answering meanwhile: **never call these functions on its thread**.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

pub use crate::holders::Holder;
use crate::holders::{holders, list};
use crate::{partitions, sys};

/// How often a free device is asked for when others take it first, and the pause between: the kernel names
/// the same device until the other has configured it.
const ATTEMPTS: u32 = 400;
const PAUSE: Duration = Duration::from_millis(10);

const LOOP_CLR_FD: u64 = 0x4c01;
const LOOP_GET_STATUS64: u64 = 0x4c05;
const LOOP_SET_CAPACITY: u64 = 0x4c07;
const LOOP_CONFIGURE: u64 = 0x4c0a;
const LOOP_CTL_GET_FREE: u64 = 0x4c82;
const FLAG_READ_ONLY: u32 = 1;
const FLAG_DIRECT_IO: u32 = 16;
const MAJOR: u32 = 7;

/// `struct loop_info64`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}
const _: () = assert!(size_of::<LoopInfo>() == 232);

/// `struct loop_config`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}
const _: () = assert!(size_of::<LoopConfig>() == 304);

/// Why a loop device cannot be had, changed or given back.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// A system call failed.
    #[error("{doing} {}: {error}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file or device.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others were quicker every time.
    #[error("no free loop device after {ATTEMPTS} attempts")]
    NoneFree,
    /// The device serves another file by now; it stays as it is.
    #[error("{} is attached to {}, not to {}", path.display(), found.display(), expected.display())]
    OtherFile {
        /// The device.
        path: PathBuf,
        /// The file behind it.
        found: PathBuf,
        /// The file that was attached.
        expected: PathBuf,
    },
    /// The device is mounted or held open; it stays attached.
    #[error("{} is held open by {}", path.display(), list(holders))]
    Held {
        /// The device.
        path: PathBuf,
        /// Who, as far as that can be found out. May be empty.
        holders: Vec<Holder>,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LoopError {
    move |error| LoopError::Io {
        doing,
        path: path.to_owned(),
        error,
    }
}

/// How a file is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachOptions {
    /// Logical block size in bytes: the device's [`minimum_block`](crate::DeviceInfo::minimum_block).
    pub block_size: u32,
    /// Writes are refused by the block layer already.
    pub read_only: bool,
}

/// An attached loop device. Dropping the value changes nothing: the device stays until it is detached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopDevice {
    number: u32,
    backing: PathBuf,
}

impl LoopDevice {
    /// Attaches `file` to a free loop device, with direct I/O both ways.
    pub fn attach(file: &Path, options: AttachOptions) -> Result<Self, LoopError> {
        let backing = OpenOptions::new()
            .read(true)
            .write(!options.read_only)
            .custom_flags(libc::O_DIRECT | libc::O_CLOEXEC)
            .open(file)
            .map_err(failed("opening", file))?;
        let control_path = Path::new("/dev/loop-control");
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open(control_path)
            .map_err(failed("opening", control_path))?;
        let resolved = resolve(file).map_err(failed("resolving", file))?;
        for _ in 0..ATTEMPTS {
            let number = ioctl(control.as_fd(), LOOP_CTL_GET_FREE)
                .map_err(failed("finding a free loop device with", control_path))?;
            let device = Self {
                number: number.unsigned_abs(),
                backing: resolved.clone(),
            };
            let path = device.path();
            match device.configure(&backing, options) {
                Ok(()) => return Ok(device),
                // Somebody else took it between the two calls.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(failed("attaching to", &path)(error)),
            }
        }
        Err(LoopError::NoneFree)
    }

    /// The devices attached to `file`, by its path. For what a dead daemon left, also if the file can no
    /// longer be looked at; but look before the file system is unmounted: then it has no path any more.
    pub fn attached_to(file: &Path) -> Result<Vec<Self>, LoopError> {
        let file = match resolve(file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("resolving", file)(error)),
        };
        let sys_block = Path::new("/sys/block");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(sys_block).map_err(failed("reading", sys_block))? {
            let entry = entry.map_err(failed("reading", sys_block))?;
            let name = entry.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix("loop")?.parse().ok());
            let Some(number) = number else { continue };
            let device = Self {
                number,
                backing: file.clone(),
            };
            if device.backing_now().as_ref() == Some(&file) {
                found.push(device);
            }
        }
        found.sort_by_key(|device| device.number);
        Ok(found)
    }

    /// The device over `file` that an earlier process attached: whatever has this path as its backing file is asked for
    /// device and inode. The file has to be served meanwhile.
    pub fn serving(file: &Path) -> Result<Option<Self>, LoopError> {
        for device in Self::attached_to(file)? {
            if device.is_ours()? {
                return Ok(Some(device));
            }
        }
        Ok(None)
    }

    /// Whether the file behind the device is the one that is meant: by device and inode, for others may have a file of the
    /// same path in a mount namespace of their own. A file system without a server does not say; nobody needs its device.
    fn is_ours(&self) -> Result<bool, LoopError> {
        let path = self.path();
        let device = self
            .open(Access::Shared)
            .map_err(failed("opening", &path))?;
        let mut info = LoopInfo::new_zeroed();
        let asked = ioctl_with(
            device.as_fd(),
            LOOP_GET_STATUS64,
            std::ptr::from_mut(&mut info).cast_const().cast(),
        );
        match asked {
            Ok(_) => {}
            Err(error) if crate::fuse::mount::is_dead(&error) => return Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(false),
            Err(error) => return Err(failed("asking", &path)(error)),
        }
        match std::fs::metadata(&self.backing) {
            Ok(file) => Ok((info.device, info.inode) == (file.dev(), file.ino())),
            // It lives, and what is at the path does not.
            Err(error) if crate::fuse::mount::is_dead(&error) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("looking at", &self.backing)(error)),
        }
    }

    /// `/dev/loopN`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/loop{}", self.number))
    }

    /// N of `/dev/loopN`.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The file behind it.
    pub fn backing(&self) -> &Path {
        &self.backing
    }

    /// Whether somebody else has detached it, and perhaps attached another file to it since. Asks nobody who has to answer.
    pub fn is_lost(&self) -> bool {
        let Some(found) = self.backing_now() else {
            return true;
        };
        // (The kernel shows a file by another path when the mount that it is on was moved or taken away.)
        let is_mounted = |entry: &sys::MountEntry| entry.target == self.backing;
        found != self.backing && sys::mounts().is_ok_and(|all| all.iter().any(is_mounted))
    }

    /// Takes the file's new size over.
    pub fn set_capacity(&self) -> Result<(), LoopError> {
        // The kernel trusts the size it last heard of a FUSE file; asking for it brings it up to date.
        std::fs::metadata(&self.backing).map_err(failed("looking at", &self.backing))?;
        let device = self
            .open(Access::Shared)
            .map_err(failed("opening", &self.path()))?;
        ioctl(device.as_fd(), LOOP_SET_CAPACITY)
            .map(drop)
            .map_err(failed("resizing", &self.path()))
    }

    /// Whether somebody mounted the device or claimed it exclusively (a file system, swap, device mapper,
    /// mkfs), in any namespace; or has it open, if that process is to be seen in `/proc`.
    ///
    /// The answer is about now. Who wants to keep it that way, detaches the device.
    pub fn is_held(&self) -> Result<bool, LoopError> {
        match self.open(Access::Exclusive) {
            Ok(exclusive) => {
                drop(exclusive);
                Ok(self
                    .holders()
                    .iter()
                    .any(|holder| matches!(holder, Holder::Process { .. })))
            }
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(true),
            Err(error) => Err(failed("opening", &self.path())(error)),
        }
    }

    /// Who uses the device, as far as `/proc` and `/sys` tell: processes of this process namespace, mounts
    /// of this mount namespace. A mount elsewhere is noticed by [`LoopDevice::is_held`], but has no name here.
    pub fn holders(&self) -> Vec<Holder> {
        holders((MAJOR, self.number), &self.path())
    }

    /// Gives the device back, unless somebody uses it: then it stays as it is. Detaching what is not
    /// attached any more is fine.
    pub fn detach(self) -> Result<(), LoopError> {
        let path = self.path();
        // As long as we hold it exclusively, nobody mounts it.
        let exclusive = match self.open(Access::Exclusive) {
            Ok(exclusive) => exclusive,
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                return Err(LoopError::Held {
                    holders: self.holders(),
                    path,
                });
            }
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(()),
            Err(error) => return Err(failed("opening", &path)(error)),
        };
        // Numbers are used again: somebody may have attached something else since.
        match self.backing_now() {
            None => return Ok(()),
            Some(found) if found != self.backing => {
                return Err(LoopError::OtherFile {
                    path,
                    found,
                    expected: self.backing,
                });
            }
            Some(found) => {
                if !self.is_ours()? {
                    return Err(LoopError::OtherFile {
                        path,
                        found,
                        expected: self.backing,
                    });
                }
            }
        }
        let others: Vec<_> = self
            .holders()
            .into_iter()
            .filter(|holder| !matches!(holder, Holder::Process { pid, .. } if *pid == std::process::id()))
            .collect();
        if !others.is_empty() {
            return Err(LoopError::Held {
                holders: others,
                path,
            });
        }
        // They would show on whatever gets the number next.
        partitions::remove_all(&exclusive, self.number)
            .map_err(failed("removing the partitions of", &path))?;
        match ioctl(exclusive.as_fd(), LOOP_CLR_FD) {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
            Err(error) => Err(failed("detaching", &path)(error)),
        }
    }

    /// Has the kernel detach the device as soon as nobody uses it any more: at once, or after its last user. For one whose file
    /// has no server any more, so that nobody who begins to use it now gets anything of it.
    pub fn detach_when_free(&self) -> Result<(), LoopError> {
        let path = self.path();
        let device = self
            .open(Access::Shared)
            .map_err(failed("opening", &path))?;
        if self.backing_now().as_ref() != Some(&self.backing) || !self.is_ours()? {
            return Ok(());
        }
        // (For a device that others have open, too, the kernel takes this for a wish: `LO_FLAGS_AUTOCLEAR`.)
        match ioctl(device.as_fd(), LOOP_CLR_FD) {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
            Err(error) => Err(failed("detaching", &path)(error)),
        }
    }

    fn configure(&self, backing: &File, options: AttachOptions) -> io::Result<()> {
        // Exclusive, so that two who found the same free device do not both configure it.
        let device = self.open(Access::Configuring)?;
        // Those of whatever had the number before.
        partitions::remove_all(&device, self.number)?;
        let mut config = LoopConfig::new_zeroed();
        config.fd = backing.as_raw_fd().unsigned_abs();
        config.block_size = options.block_size;
        config.info.flags = FLAG_DIRECT_IO;
        if options.read_only {
            config.info.flags |= FLAG_READ_ONLY;
        }
        let name = self.backing.as_os_str().as_encoded_bytes();
        let shown = name.len().min(config.info.file_name.len() - 1);
        config.info.file_name[..shown].copy_from_slice(&name[..shown]);
        ioctl_with(
            device.as_fd(),
            LOOP_CONFIGURE,
            std::ptr::from_ref(&config).cast(),
        )
        .map(drop)
    }

    fn open(&self, access: Access) -> io::Result<File> {
        let exclusive = match access {
            Access::Shared => 0,
            Access::Exclusive | Access::Configuring => libc::O_EXCL,
        };
        OpenOptions::new()
            .read(true)
            // Without the right to write, configuring makes a read-only device.
            .write(access == Access::Configuring)
            .custom_flags(exclusive | libc::O_CLOEXEC)
            .open(self.path())
    }

    fn sys_path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/sys/block/loop{}/{name}", self.number))
    }

    /// The file that is attached now, as the kernel shows it.
    fn backing_now(&self) -> Option<PathBuf> {
        let shown = std::fs::read_to_string(self.sys_path("loop/backing_file")).ok()?;
        Some(PathBuf::from(shown.strip_suffix('\n').unwrap_or(&shown)))
    }
}

/// How a device is opened. None of the first two wakes udev by writing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Shared,
    Exclusive,
    Configuring,
}

/// The path of `file` as the kernel will show it. The directory may be a mount whose server is dead and that
/// cannot be looked at; then what is above it is resolved.
fn resolve(file: &Path) -> io::Result<PathBuf> {
    match (sys::resolve_parent(file), file.parent(), file.file_name()) {
        (Err(error), Some(directory), Some(name)) if crate::fuse::mount::is_dead(&error) => {
            Ok(sys::resolve_parent(directory)?.join(name))
        }
        (resolved, ..) => resolved,
    }
}

fn ioctl(fd: BorrowedFd<'_>, request: u64) -> io::Result<libc::c_int> {
    ioctl_with(fd, request, std::ptr::null())
}

fn ioctl_with(
    fd: BorrowedFd<'_>,
    request: u64,
    argument: *const libc::c_void,
) -> io::Result<libc::c_int> {
    // SAFETY: only two are given an address: `LOOP_CONFIGURE` that of a live `LoopConfig`, `LOOP_GET_STATUS64` that of a live
    // `LoopInfo` that is lent for writing, whose sizes (asserted above) are what the kernel reads and writes. The others
    // ignore the argument.
    sys::check(unsafe { libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, argument) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device, and its file.
    fn attached_in(dir: &Path) -> (PathBuf, LoopDevice) {
        let file = dir.join("file");
        std::fs::write(&file, vec![0; 1 << 20]).expect("written");
        let options = AttachOptions {
            block_size: 4096,
            read_only: false,
        };
        let device = LoopDevice::attach(&file, options).expect("attached");
        (file, device)
    }

    /// A device number that is used again must not be detached by who had it before.
    #[test]
    fn a_device_that_serves_another_file_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let (_, device) = attached_in(dir.path());
        let stale = LoopDevice {
            number: device.number,
            backing: dir.path().join("before"),
        };
        let refused = stale.detach();
        assert!(
            matches!(refused, Err(LoopError::OtherFile { .. })),
            "{refused:?}"
        );
        assert!(device.backing_now().is_some(), "still attached");
        device.detach().expect("detached");
    }

    /// Others may have attached a file of the same path, in a mount namespace of their own.
    #[test]
    fn a_device_over_another_file_of_the_same_path_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, device) = attached_in(dir.path());
        assert_eq!(
            LoopDevice::serving(&file).expect("asked"),
            Some(device.clone())
        );
        // Another file gets the name, without its being removed: the device shows the path as before.
        let aside = dir.path().join("aside");
        std::fs::hard_link(&file, &aside).expect("linked");
        std::fs::write(dir.path().join("new"), vec![0; 1 << 20]).expect("written");
        let place = file.display().to_string();
        let new = dir.path().join("new").display().to_string();
        let bound = std::process::Command::new("mount")
            .args(["--bind", &new, &place])
            .status();
        assert!(bound.expect("mount").success());
        let found = LoopDevice::serving(&file);
        let refused = device.clone().detach();
        let unbound = std::process::Command::new("umount").arg(&place).status();
        assert!(unbound.expect("umount").success());
        assert_eq!(found.expect("asked"), None);
        assert!(
            matches!(refused, Err(LoopError::OtherFile { .. })),
            "{refused:?}"
        );
        device.detach().expect("detached");
    }

    #[test]
    fn a_device_is_lost_when_somebody_detaches_it_or_attaches_another_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, device) = attached_in(dir.path());
        assert!(!device.is_lost());
        let before = dir.path().join("before");
        std::fs::write(&before, []).expect("written");
        let stale = LoopDevice {
            number: device.number,
            backing: before.clone(),
        };
        assert!(!stale.is_lost(), "its file may have lost its path alone");
        let bound = std::process::Command::new("mount")
            .args(["--bind".as_ref(), file.as_os_str(), before.as_os_str()])
            .status();
        assert!(bound.expect("mount").success());
        let is_lost = stale.is_lost();
        let unbound = std::process::Command::new("umount").arg(&before).status();
        assert!(unbound.expect("umount").success());
        assert!(is_lost);
        device.clone().detach().expect("detached");
        assert!(device.is_lost());
    }

    #[test]
    fn a_device_in_use_goes_with_its_last_user_if_that_is_wanted() {
        let dir = tempfile::tempdir().expect("a directory");
        let (_, device) = attached_in(dir.path());
        let user = device.open(Access::Exclusive).expect("opened");
        assert!(device.clone().detach().is_err());
        device.detach_when_free().expect("asked for");
        assert!(device.backing_now().is_some(), "it is used");
        drop(user);
        // Whoever looks at a device that changes, udev perhaps, is a user, too.
        let mut looks = 0;
        while device.backing_now().is_some() {
            looks += 1;
            assert!(looks < 500, "it is left");
            std::thread::sleep(PAUSE);
        }
    }

    #[test]
    fn partitions_end_with_the_device() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        let mut image = vec![0; 1 << 20];
        // One partition of 512 sectors behind the first 64.
        image[446..462].copy_from_slice(&[0, 0, 0, 0, 0x83, 0, 0, 0, 64, 0, 0, 0, 0, 2, 0, 0]);
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        std::fs::write(&file, image).expect("written");
        let options = AttachOptions {
            block_size: 512,
            read_only: false,
        };
        let device = LoopDevice::attach(&file, options).expect("attached");
        let shown = std::process::Command::new("partx")
            .arg("-a")
            .arg(device.path())
            .status();
        assert!(shown.expect("partx").success());
        let partition = device.sys_path(&format!("loop{}p1", device.number));
        assert!(partition.exists(), "{}", partition.display());
        device.detach().expect("detached");
        assert!(!partition.exists(), "{} is left", partition.display());
    }

    #[test]
    fn who_holds_a_device_is_said_in_words() {
        let holders = vec![
            Holder::Mount {
                target: "/mnt".into(),
            },
            Holder::Process {
                pid: 42,
                command: "dd".to_owned(),
            },
            Holder::Swap,
            Holder::Device {
                name: "dm-0".to_owned(),
            },
        ];
        let path = PathBuf::from("/dev/loop0");
        assert_eq!(
            LoopError::Held {
                path: path.clone(),
                holders
            }
            .to_string(),
            "/dev/loop0 is held open by a mount on /mnt, process 42 (dd), swap space, the device dm-0"
        );
        let nobody_known = LoopError::Held {
            path,
            holders: Vec::new(),
        };
        assert_eq!(
            nobody_known.to_string(),
            "/dev/loop0 is held open by someone"
        );
    }
}
