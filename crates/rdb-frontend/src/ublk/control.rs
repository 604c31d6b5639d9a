//! Commands to the driver: `/dev/ublk-control`, through a ring of their own.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use zerocopy::{FromBytes, IntoBytes};

use super::uapi::{self, CtrlCmd, DevInfo, Params};

const CONTROL: &str = "/dev/ublk-control";
const MODULE: &str = "ublk_drv";
/// Features that this front end cannot do without, and since when Linux has them.
const FEATURES: [(u64, &str); 4] = [
    (uapi::F_USER_RECOVERY, "user recovery (Linux 6.1)"),
    (
        uapi::F_USER_RECOVERY_REISSUE,
        "reissue after recovery (Linux 6.1)",
    ),
    (
        uapi::F_CMD_IOCTL_ENCODE,
        "ioctl-encoded commands (Linux 6.4)",
    ),
    (uapi::F_USER_COPY, "user copy (Linux 6.5)"),
];
/// `struct ublk_params` up to what is used of it.
const PARAMS_LEN: u32 = 60;

/// Why there is no ublk device.
#[derive(Debug, thiserror::Error)]
pub enum UblkError {
    /// The driver is not there and cannot be loaded.
    #[error("{CONTROL} is not there: the module {MODULE} {reason}")]
    Module {
        /// What became of loading it.
        reason: String,
    },
    /// The driver is too old.
    #[error("the kernel's ublk driver lacks {missing}")]
    Lacks {
        /// Feature and the version that has it.
        missing: &'static str,
    },
    /// The driver has as many devices as it takes.
    #[error(
        "there are too many ublk devices: {MODULE} takes no more (its parameter ublks_max may be why)"
    )]
    TooMany,
    /// A system call failed.
    #[error("{doing} {}: {error}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which device.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl UblkError {
    pub(super) fn io(doing: &'static str, path: &Path, error: io::Error) -> UblkError {
        UblkError::Io {
            doing,
            path: path.to_owned(),
            error,
        }
    }
}

/// Whether ublk devices can be made here: loads the driver if it is there and not loaded, and asks for its features.
///
/// # Errors
/// Says what is missing.
pub fn available() -> Result<(), UblkError> {
    Control::open().map(drop)
}

/// The control device, its features checked.
pub(super) struct Control {
    file: File,
    ring: IoUring<squeue::Entry128, cqueue::Entry>,
}

impl Control {
    pub(super) fn open() -> Result<Control, UblkError> {
        let path = Path::new(CONTROL);
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_CLOEXEC)
                .open(path)
        };
        let file = match open() {
            // There is no node, or one without a driver behind it.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)
                ) =>
            {
                load_module()?;
                open()
            }
            opened => opened,
        };
        let file = file.map_err(|error| UblkError::io("opening", path, error))?;
        let ring = IoUring::<squeue::Entry128, cqueue::Entry>::builder()
            .build(4)
            .map_err(|error| UblkError::io("an io_uring for", path, error))?;
        let mut control = Control { file, ring };
        let features = control.features()?;
        match FEATURES.iter().find(|(bit, _)| features & bit == 0) {
            Some((_, missing)) => Err(UblkError::Lacks { missing }),
            None => Ok(control),
        }
    }

    fn features(&mut self) -> Result<u64, UblkError> {
        let mut features = 0_u64;
        match self.command(uapi::GET_FEATURES, u32::MAX, features.as_mut_bytes(), 0) {
            Ok(_) => Ok(features),
            // Before 6.5 there is no such question, and user copy neither.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL)
                ) =>
            {
                Err(UblkError::Lacks {
                    missing: "the question for its features (Linux 6.5)",
                })
            }
            Err(error) => Err(UblkError::io(
                "asking for features of",
                Path::new(CONTROL),
                error,
            )),
        }
    }

    /// What the driver says of a device, `None` if there is none of this number.
    pub(super) fn info(&mut self, number: u32) -> Result<Option<DevInfo>, UblkError> {
        let mut bytes = [0; size_of::<DevInfo>()];
        match self.command(uapi::GET_DEV_INFO, number, &mut bytes, 0) {
            Ok(_) => Ok(DevInfo::read_from_bytes(&bytes).ok()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL)) => {
                Ok(None)
            }
            Err(error) => Err(failed("asking for", number, error)),
        }
    }

    /// Adds a device; its number is chosen by the driver if `info.dev_id` is `u32::MAX`. `None`: the number is taken.
    pub(super) fn add(&mut self, info: DevInfo) -> Result<Option<DevInfo>, UblkError> {
        let mut bytes = [0; size_of::<DevInfo>()];
        bytes.copy_from_slice(info.as_bytes());
        match self.command(uapi::ADD_DEV, info.dev_id, &mut bytes, 0) {
            Ok(_) => Ok(DevInfo::read_from_bytes(&bytes).ok()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EEXIST) => Ok(None),
                // Beyond its limit of devices (older drivers count all, newer ones those of users without rights), and
                // without a free number. A missing right would have shown at the opening.
                Some(libc::EACCES | libc::ENOSPC) => Err(UblkError::TooMany),
                _ => Err(failed("adding", info.dev_id, error)),
            },
        }
    }

    pub(super) fn set_params(&mut self, number: u32, params: Params) -> Result<(), UblkError> {
        let mut bytes = [0; size_of::<Params>()];
        let params = Params {
            len: PARAMS_LEN,
            ..params
        };
        bytes.copy_from_slice(params.as_bytes());
        self.command(uapi::SET_PARAMS, number, &mut bytes, 0)
            .map(drop)
            .map_err(|error| failed("setting parameters of", number, error))
    }

    pub(super) fn params(&mut self, number: u32) -> Result<Params, UblkError> {
        let mut params = Params {
            len: PARAMS_LEN,
            ..Params::default()
        };
        self.command(uapi::GET_PARAMS, number, params.as_mut_bytes(), 0)
            .map_err(|error| failed("asking for parameters of", number, error))?;
        Ok(params)
    }

    /// A command without a structure: start, stop, delete, recover. `data`: the server's process for those that have one.
    pub(super) fn act(&mut self, command: u32, number: u32, data: u64) -> io::Result<()> {
        self.command(command, number, &mut [], data).map(drop)
    }

    /// Runs one command and waits for it.
    fn command(
        &mut self,
        command: u32,
        number: u32,
        buffer: &mut [u8],
        data: u64,
    ) -> io::Result<i32> {
        let header = CtrlCmd {
            dev_id: number,
            queue_id: u16::MAX,
            len: buffer.len() as u16,
            addr: if buffer.is_empty() {
                0
            } else {
                buffer.as_mut_ptr() as u64
            },
            data,
            ..CtrlCmd::default()
        };
        let mut bytes = [0; 80];
        bytes[..size_of::<CtrlCmd>()].copy_from_slice(header.as_bytes());
        let entry = opcode::UringCmd80::new(types::Fd(self.file.as_raw_fd()), command)
            .cmd(bytes)
            .build();
        // SAFETY: the command is copied into the entry; the buffer that it names is borrowed until the completion is
        // here, for this function does not return before.
        unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        loop {
            let waited = self.ring.submit_and_wait(1);
            if let Some(completion) = self.ring.completion().next() {
                return match completion.result() {
                    result if result < 0 => Err(io::Error::from_raw_os_error(-result)),
                    result => Ok(result),
                };
            }
            match waited {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // The kernel may still use the buffer: whoever owns it must not get it back.
                    tracing::error!("waiting for a ublk command: {error}");
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            }
        }
    }
}

pub(super) fn failed(doing: &'static str, number: u32, error: io::Error) -> UblkError {
    UblkError::io(doing, &PathBuf::from(format!("/dev/ublkc{number}")), error)
}

/// Loads the driver, if the machine has it and lets us.
fn load_module() -> Result<(), UblkError> {
    let missing = |reason: String| UblkError::Module { reason };
    crate::modules::load(MODULE).map_err(missing)?;
    // devtmpfs or udev makes the node in a moment.
    for _ in 0..100 {
        if Path::new(CONTROL).exists() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Err(missing(
        "is loaded, but its device does not appear".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_the_driver_is_told_so() {
        // Where the driver is, this says nothing.
        if let Err(error) = available() {
            let words = error.to_string();
            assert!(words.contains("ublk"), "{words}");
        }
    }
}
