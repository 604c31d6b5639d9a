//! A device from its making, or its taking over, to its end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::channel::{Descriptors, Opened};
use super::control::{Control, UblkError, failed};
use super::uapi::{self, DevInfo, Params};
use crate::device::DeviceInfo;
use crate::holders::{self, Holder};

/// Queues of a device: one a processor, up to this many. One thread serves them all; they are for those who ask.
const QUEUES_MAX: usize = 4;
/// Requests of one queue at a time.
const QUEUE_DEPTH: u16 = 128;
/// Longest discard or write of zeroes, in sectors: 1 GiB.
const DISCARD_SECTORS_MAX: u32 = 1 << 21;
/// How long is waited for a device node to appear, and for the driver to notice that a server is dead.
const APPEAR: Duration = Duration::from_secs(5);
const NOTICE: Duration = Duration::from_secs(15);
/// How long somebody who has the device open is waited for when it is given back.
const RELEASE: Duration = Duration::from_secs(10);
/// How long a number that was given back is waited for.
const FREED: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// Which volume a device belongs to. The driver keeps it with the device, so that a later process finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(u64);

impl Identity {
    /// Of a volume of a resource, of the node with this run directory.
    pub fn new(run_dir: &Path, resource: &str, volume: u32) -> Identity {
        // FNV-1a: it has to be the same in every build, and nobody attacks it.
        let text = format!("rdb\0{}\0{resource}\0{volume}", run_dir.display());
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Identity(hash)
    }
}

/// Whether a device is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// It was made.
    New,
    /// It was there, without a server, and has been taken over with whoever has it open.
    Over,
}

/// A device that is being made or taken over: its channel has to be served before it can be used.
pub struct Preparing {
    control: Control,
    number: u32,
    took: Took,
    opened: Option<Opened>,
}

impl Preparing {
    /// Makes a device for a volume, with the number `minor` if that is free. If one of this identity is there, it is taken
    /// over if `may_take_over` and it has the same size and blocks; else whoever has it open gets I/O errors and it is
    /// made anew.
    ///
    /// # Errors
    /// What the driver refuses.
    pub fn new(
        minor: u32,
        identity: Identity,
        info: &DeviceInfo,
        may_take_over: bool,
    ) -> Result<Preparing, UblkError> {
        let mut control = Control::open()?;
        let params = params(info);
        if let Some(left) = find(&mut control, identity)? {
            if may_take_over && let Some(left) = recover(&mut control, left, params)? {
                let opened = open(left.dev_id, left.nr_hw_queues, left.queue_depth)?;
                return Ok(Preparing {
                    control,
                    number: left.dev_id,
                    took: Took::Over,
                    opened: Some(opened),
                });
            }
            remove(&mut control, left.dev_id)?;
        }
        let queues = std::thread::available_parallelism().map_or(1, |n| n.get().min(QUEUES_MAX));
        let wanted = DevInfo {
            nr_hw_queues: queues as u16,
            queue_depth: QUEUE_DEPTH,
            max_io_buf_bytes: info.maximum_request,
            dev_id: minor,
            flags: uapi::F_USER_RECOVERY
                | uapi::F_USER_RECOVERY_REISSUE
                | uapi::F_CMD_IOCTL_ENCODE
                | uapi::F_USER_COPY,
            ublksrv_flags: identity.0,
            ..DevInfo::default()
        };
        let added = match control.add(wanted)? {
            Some(added) => added,
            // Somebody else's has this number; the links say which one ours is.
            None => control
                .add(DevInfo {
                    dev_id: u32::MAX,
                    ..wanted
                })?
                .ok_or(UblkError::TooMany)?,
        };
        let number = added.dev_id;
        let opened = control
            .set_params(number, params)
            .and_then(|()| open(number, added.nr_hw_queues, added.queue_depth));
        match opened {
            Ok(opened) => Ok(Preparing {
                control,
                number,
                took: Took::New,
                opened: Some(opened),
            }),
            Err(error) => {
                // The first error is the one to tell.
                let _ = remove(&mut control, number);
                Err(error)
            }
        }
    }

    /// The channel, for the thread that will serve it; once.
    pub fn take_channel(&mut self) -> Option<Opened> {
        self.opened.take()
    }

    /// Whether it was there already.
    pub fn took(&self) -> Took {
        self.took
    }

    /// Has the driver show the device, or go on with the requests that waited. Needs the channel to be served: it waits
    /// until every tag is fetched, and reads from a new device.
    ///
    /// # Errors
    /// What the driver refuses. A new device is gone then.
    pub fn finish(mut self) -> Result<UblkDevice, UblkError> {
        let (command, doing) = match self.took {
            Took::New => (uapi::START_DEV, "starting"),
            Took::Over => (uapi::END_USER_RECOVERY, "taking over"),
        };
        let pid = u64::from(std::process::id());
        if let Err(error) = self.control.act(command, self.number, pid) {
            let error = failed(doing, self.number, error);
            if self.took == Took::New {
                self.abandon();
            }
            return Err(error);
        }
        let device = UblkDevice {
            number: self.number,
        };
        let end = Instant::now() + APPEAR;
        while !device.path().exists() && Instant::now() < end {
            std::thread::sleep(PAUSE);
        }
        Ok(device)
    }

    /// Gives up. A device that was taken over waits for the next to do so.
    pub fn abandon(mut self) {
        drop(self.opened.take());
        if self.took == Took::New
            && let Err(error) = remove(&mut self.control, self.number)
        {
            tracing::warn!("{error}");
        }
    }
}

/// A device that is there. Dropping the value changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UblkDevice {
    number: u32,
}

impl UblkDevice {
    /// `/dev/ublkbN`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/ublkb{}", self.number))
    }

    /// Whether somebody mounted the device or claimed it exclusively, in any namespace; or has it open, if that process
    /// is to be seen in `/proc`.
    ///
    /// # Errors
    /// When the device cannot be opened for another reason.
    pub fn is_held(&self) -> Result<bool, UblkError> {
        match self.claim() {
            Ok(claimed) => {
                drop(claimed);
                let holders = self.holders();
                Ok(holders
                    .iter()
                    .any(|holder| matches!(holder, Holder::Process { .. })))
            }
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(true),
            Err(error) => Err(UblkError::io("opening", &self.path(), error)),
        }
    }

    /// Who uses the device, as far as that can be seen from here.
    pub fn holders(&self) -> Vec<Holder> {
        holders::of_device(&self.path())
    }

    /// Gives the device back. Whoever has it open is waited for, not for ever: afterwards he gets I/O errors. `stopped` is
    /// called when no more requests come: the channel must be dropped then, for the driver waits for that.
    ///
    /// # Errors
    /// What the driver refuses.
    pub fn give_back(self, stopped: impl FnOnce()) -> Result<(), UblkError> {
        let end = Instant::now() + RELEASE;
        // As long as we hold it exclusively, nobody mounts it.
        let claimed = loop {
            match self.claim() {
                Ok(claimed) => break Some(claimed),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < end => {
                    std::thread::sleep(5 * PAUSE);
                }
                Err(_) => break None,
            }
        };
        let mut control = Control::open()?;
        let result = control.act(uapi::STOP_DEV, self.number, 0);
        drop(claimed);
        stopped();
        result.map_err(|error| failed("stopping", self.number, error))?;
        delete(&mut control, self.number)
    }

    fn claim(&self) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_EXCL | libc::O_CLOEXEC)
            .open(self.path())
    }
}

/// Removes the device of an identity that a dead server left: whoever has it open gets I/O errors. For when its content is
/// not any more what they know. Whether there was one. Does not load the driver.
///
/// # Errors
/// What the driver refuses.
pub fn drop_left(identity: Identity) -> Result<bool, UblkError> {
    match find_left(identity)? {
        Some((mut control, left)) => remove(&mut control, left.dev_id).map(|()| true),
        None => Ok(false),
    }
}

/// Whether a dead server left the device of an identity. Does not load the driver.
///
/// # Errors
/// What the driver refuses.
pub fn is_left(identity: Identity) -> Result<bool, UblkError> {
    find_left(identity).map(|left| left.is_some())
}

fn find_left(identity: Identity) -> Result<Option<(Control, DevInfo)>, UblkError> {
    if !Path::new("/dev/ublk-control").exists() {
        return Ok(None);
    }
    let mut control = Control::open()?;
    let Some(left) = find(&mut control, identity)? else {
        return Ok(None);
    };
    let is_served = left.state != uapi::STATE_QUIESCED && is_alive(left.ublksrv_pid);
    Ok((!is_served).then_some((control, left)))
}

fn remove(control: &mut Control, number: u32) -> Result<(), UblkError> {
    // One that was never started cannot be stopped.
    let _ = control.act(uapi::STOP_DEV, number, 0);
    delete(control, number)
}

/// Deletes a device that is stopped. Its number is free again when nobody has it open any more; that is waited for, for a
/// moment.
fn delete(control: &mut Control, number: u32) -> Result<(), UblkError> {
    let deleted = match control.act(uapi::DEL_DEV_ASYNC, number, 0) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY)) => {
            control.act(uapi::DEL_DEV, number, 0)
        }
        result => result,
    };
    deleted.map_err(|error| failed("removing", number, error))?;
    let end = Instant::now() + FREED;
    while control.info(number)?.is_some() && Instant::now() < end {
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn is_alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists() && pid > 0
}

/// The device of an identity.
fn find(control: &mut Control, identity: Identity) -> Result<Option<DevInfo>, UblkError> {
    let dev = Path::new("/dev");
    let entries = std::fs::read_dir(dev).map_err(|error| UblkError::io("reading", dev, error))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("ublkc")?.parse().ok());
        let Some(number) = number else { continue };
        if let Some(info) = control.info(number)?
            && info.ublksrv_flags == identity.0
        {
            return Ok(Some(info));
        }
    }
    Ok(None)
}

/// Begins to take a device over. `None` if it is not what it has to be now.
fn recover(
    control: &mut Control,
    left: DevInfo,
    wanted: Params,
) -> Result<Option<DevInfo>, UblkError> {
    let have = control.params(left.dev_id)?;
    if (have.dev_sectors, have.logical_bs_shift) != (wanted.dev_sectors, wanted.logical_bs_shift) {
        tracing::warn!(
            "/dev/ublkb{} has another size or other blocks than the volume now",
            left.dev_id
        );
        return Ok(None);
    }
    let end = Instant::now() + NOTICE;
    loop {
        match control.act(uapi::START_USER_RECOVERY, left.dev_id, 0) {
            Ok(()) => return Ok(Some(left)),
            // The driver has not noticed yet that its server is dead.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < end => {
                let now = control.info(left.dev_id)?;
                if now.is_none_or(|now| {
                    now.state != uapi::STATE_LIVE && now.state != uapi::STATE_QUIESCED
                }) {
                    return Ok(None);
                }
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(failed("taking over", left.dev_id, error)),
        }
    }
}

fn open(number: u32, queues: u16, depth: u16) -> Result<Opened, UblkError> {
    let path = PathBuf::from(format!("/dev/ublkc{number}"));
    let end = Instant::now() + APPEAR;
    let file = loop {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(&path);
        match opened {
            Ok(file) => break file,
            // The node is not there yet, or the dead server's last descriptor is just being closed.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EBUSY))
                    && Instant::now() < end =>
            {
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(UblkError::io("opening", &path, error)),
        }
    };
    let queues = (0..queues)
        .map(|queue| Descriptors::map(&file, queue, depth))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| UblkError::io("mapping", &path, error))?;
    Ok(Opened {
        file,
        queues,
        depth,
    })
}

fn params(info: &DeviceInfo) -> Params {
    let shift = |bytes: u32| bytes.max(512).ilog2() as u8;
    let preferred = shift(info.preferred_block.max(info.minimum_block));
    Params {
        types: uapi::PARAM_BASIC | uapi::PARAM_DISCARD,
        attrs: uapi::ATTR_VOLATILE_CACHE | uapi::ATTR_FUA,
        logical_bs_shift: shift(info.minimum_block),
        physical_bs_shift: preferred,
        io_opt_shift: preferred,
        io_min_shift: preferred,
        max_sectors: info.maximum_request / 512,
        dev_sectors: info.size_bytes / 512,
        discard_granularity: info.minimum_block,
        max_discard_sectors: DISCARD_SECTORS_MAX,
        max_write_zeroes_sectors: DISCARD_SECTORS_MAX,
        max_discard_segments: 1,
        ..Params::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_tell_volumes_resources_and_nodes_apart_and_stay_the_same() {
        let of = |dir: &str, resource, volume| Identity::new(Path::new(dir), resource, volume);
        let one = of("/run/rdb", "r0", 0);
        assert_eq!(one, of("/run/rdb", "r0", 0));
        for other in [
            of("/run/rdb", "r0", 1),
            of("/run/rdb", "r1", 0),
            of("/run/b", "r0", 0),
        ] {
            assert_ne!(one, other);
        }
        // A later build has to find the devices of this one; computed by another program.
        assert_eq!(one, Identity(0x0457_e5a1_8dbe_3312));
    }

    #[test]
    fn parameters_say_what_the_device_can() {
        let info = DeviceInfo {
            size_bytes: 1 << 30,
            minimum_block: 512,
            preferred_block: 4096,
            maximum_request: 1 << 20,
            can_trim: true,
            can_zero: true,
            read_only: false,
        };
        let small = params(&info);
        assert_eq!((small.logical_bs_shift, small.physical_bs_shift), (9, 12));
        assert_eq!((small.max_sectors, small.dev_sectors), (2048, 1 << 21));
        assert_eq!(small.attrs, 12, "a volatile cache, and FUA");
        let large = params(&DeviceInfo {
            minimum_block: 4096,
            ..info
        });
        assert_eq!(
            (large.logical_bs_shift, large.discard_granularity),
            (12, 4096)
        );
    }
}
