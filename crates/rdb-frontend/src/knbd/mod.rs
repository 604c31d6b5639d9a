//! The kernel's NBD client as a front end: `/dev/nbdN`, whose requests come over a socket of this process.
//!
//! ```text
//!  /dev/nbdN ──► nbd ──► socket pair ──► Session (transmission phase at once: there is nothing to negotiate)
//! ```
//!
//! - [`available`] finds out whether the machine can, loading the module if it has to.
//! - [`Preparing`] makes a device, or takes one over that a dead server left; the data plane serves the socket.
//! - [`KnbdDevice`] is the device that is there.
//!
//! When all sockets have ended, requests wait for `DEAD_CONN_TIMEOUT` for the next server. A request that was sent and not
//! answered has a time limit, and what becomes of it then depends on how many sockets the device was made with:
//!
//! - one: every `LOOK_AGAIN_MS` the driver looks whether there is a new socket, and sends the request again if so;
//! - several: after `RETRY_MS` the driver shuts the socket down, and sends the request again on another.
//!
//! So with several sockets a request that is slow, with good reason, is sent twice. This is safe if whoever serves the sockets
//! submits nothing more from one that is shut ([`is_hung_up`]): what is still to be read from it may have been sent again, and
//! answered, already, and a newer write may have followed. Overlapping writes that were submitted are done in order. A socket
//! that was shut is replaced ([`KnbdDevice::reconnect`]) when all that came from it is answered, so that requests do not pile
//! up.
//!
//! Facts are from Linux's `include/uapi/linux/nbd-netlink.h`, `nbd.h` and `drivers/block/nbd.c`, 6.12. All of it blocks, and
//! must not run on the thread that serves the socket.

mod netlink;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::netlink::{Connect, Netlink};
use crate::device::DeviceInfo;
use crate::holders::{self, Holder};
use crate::{modules, sys};

const MODULE: &str = "nbd";
/// How long requests wait for a server when there is none: a day. An administrator has had a look by then.
const DEAD_CONN_TIMEOUT: Duration = Duration::from_secs(86_400);
/// How often the driver looks after a request that is under way, if the device has one connection.
const LOOK_AGAIN_MS: u32 = 3_000;
/// After how long the driver sends a request again, on another connection: short, because requests that were under way when
/// a server ended wait as long, and long enough to be rare.
const RETRY_MS: u32 = 5_000;
/// The most connections a device may have.
pub const CONNECTIONS_MAX: u32 = 16;
/// How long the driver may take to notice that a server is dead, and to let go of a device.
const NOTICE: Duration = Duration::from_secs(15);
/// How long somebody who has the device open is waited for when it is given back.
const RELEASE: Duration = Duration::from_secs(10);
/// How long a device node may take to appear.
const APPEAR: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// `NBD_FLAG_*`: has flags, flush, FUA, trim, write zeroes, several connections (a flush on one covers all).
const SERVER_FLAGS: u64 = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 8;

/// Why there is no NBD device.
#[derive(Debug, thiserror::Error)]
pub enum KnbdError {
    /// The driver is not there and cannot be loaded.
    #[error("the module {MODULE} {reason}")]
    Module {
        /// What became of loading it.
        reason: String,
    },
    /// The driver is there and too old.
    #[error("the kernel's nbd driver lacks its netlink interface (Linux 4.12)")]
    NoNetlink,
    /// This process may not.
    #[error("the kernel's nbd driver takes commands from root only")]
    Denied,
    /// The driver gives no device.
    #[error("there is no free NBD device: {error}")]
    NoDevice {
        /// What it said.
        error: io::Error,
    },
    /// The driver, or netlink, refuses something.
    #[error("{doing}: {error}")]
    Netlink {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// A system call failed.
    #[error("{doing} {}: {error}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Whether NBD devices can be made here: loads the driver if it is there and not loaded.
///
/// # Errors
/// Says what is missing.
pub fn available() -> Result<(), KnbdError> {
    open().map(drop)?;
    // SAFETY: the call takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Err(KnbdError::Denied);
    }
    Ok(())
}

fn open() -> Result<Netlink, KnbdError> {
    if let Some(netlink) = Netlink::open()? {
        return Ok(netlink);
    }
    modules::load(MODULE).map_err(|reason| KnbdError::Module { reason })?;
    Netlink::open()?.ok_or(KnbdError::NoNetlink)
}

/// What the driver is told a device belongs to, so that a later process finds it: `rdb RUN RESOURCE/VOLUME`.
pub fn identity(run_dir: &Path, resource: &str, volume: u32) -> String {
    format!("rdb {} {resource}/{volume}", run_dir.display())
}

/// A device that is to be made or taken over.
pub struct Preparing {
    netlink: Netlink,
    identity: String,
    info: DeviceInfo,
    minor: u32,
    left: Option<u32>,
}

impl Preparing {
    /// Looks for a device of this identity. One that may not be taken over, or has another size, is ended: whoever has it
    /// open gets I/O errors.
    ///
    /// # Errors
    /// What the driver refuses.
    pub fn new(
        minor: u32,
        identity: String,
        info: &DeviceInfo,
        may_take_over: bool,
    ) -> Result<Preparing, KnbdError> {
        let mut netlink = open()?;
        let mut left = find(&identity);
        if let Some(index) = left
            && (!may_take_over || size_bytes(index) != Some(info.size_bytes))
        {
            disconnect(&mut netlink, index)?;
            left = None;
        }
        Ok(Preparing {
            netlink,
            identity,
            info: *info,
            minor,
            left,
        })
    }

    /// Whether there is a device to be taken over.
    pub fn takes_over(&self) -> bool {
        self.left.is_some()
    }

    /// Makes the device, with so many connections, but not more than there are processors; or gives the one that was left new
    /// sockets, as many as it had. `serve` is handed our end of each, for the thread that serves it, before the driver shows a
    /// new device; `false`: nobody will.
    ///
    /// # Errors
    /// What the driver refuses.
    pub fn finish(
        mut self,
        connections: u32,
        mut serve: impl FnMut(OwnedFd) -> bool,
    ) -> Result<KnbdDevice, KnbdError> {
        if let Some(index) = self.left {
            let device = KnbdDevice {
                index,
                identity: self.identity,
            };
            device.take_over(&mut self.netlink, &mut serve)?;
            return Ok(device.tuned());
        }
        let mut theirs = Vec::new();
        for _ in 0..connections.min(processors()).clamp(1, CONNECTIONS_MAX) {
            let (ours, other) = UnixStream::pair().map_err(failed("making a socket pair"))?;
            if !serve(ours.into()) {
                return Err(nobody_serves());
            }
            theirs.push(other);
        }
        let sockets: Vec<RawFd> = theirs.iter().map(AsRawFd::as_raw_fd).collect();
        let wanted = |index| Connect {
            index,
            size_bytes: self.info.size_bytes,
            block_size_bytes: self.info.minimum_block.into(),
            server_flags: SERVER_FLAGS,
            dead_conn_timeout_s: DEAD_CONN_TIMEOUT.as_secs(),
            backend: &self.identity,
            sockets: &sockets,
        };
        let index = match self.netlink.connect(&wanted(Some(self.minor))) {
            // Somebody else's has this number, or there are not so many; the links say which one ours is.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EBUSY | libc::EINVAL | libc::ENOSPC | libc::EEXIST)
                ) =>
            {
                self.netlink.connect(&wanted(None))
            }
            made => made,
        };
        let index = index.map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => KnbdError::Denied,
            _ => KnbdError::NoDevice { error },
        })?;
        let device = KnbdDevice {
            index,
            identity: self.identity,
        };
        let end = Instant::now() + APPEAR;
        while !device.path().exists() && Instant::now() < end {
            std::thread::sleep(PAUSE);
        }
        Ok(device.tuned())
    }
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> KnbdError {
    move |error| KnbdError::Netlink { doing, error }
}

/// The driver has a queue for each processor at most: a connection more would not be used.
fn processors() -> u32 {
    // SAFETY: the call takes an integer only.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    u32::try_from(count).unwrap_or(1)
}

fn nobody_serves() -> KnbdError {
    failed("serving a device")(io::Error::other("the resource is being stopped"))
}

/// A device that is there. Dropping the value changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnbdDevice {
    index: u32,
    identity: String,
}

impl KnbdDevice {
    /// `/dev/nbdN`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/nbd{}", self.index))
    }

    /// How many connections the device was made with: the driver has a queue for each, as they are not more than processors.
    pub fn connections(&self) -> u32 {
        let queues = std::fs::read_dir(format!("/sys/block/nbd{}/mq", self.index));
        queues.map_or(1, |queues| queues.count().max(1) as u32)
    }

    /// Gives the device a new socket in place of one that has ended; `serve` as with [`Preparing::finish`].
    ///
    /// # Errors
    /// What the driver refuses, or nobody serves.
    pub fn reconnect(&self, mut serve: impl FnMut(OwnedFd) -> bool) -> Result<(), KnbdError> {
        self.replace_socket(&mut open()?, &mut serve)
    }

    /// New sockets in place of all.
    fn take_over(
        &self,
        netlink: &mut Netlink,
        serve: &mut impl FnMut(OwnedFd) -> bool,
    ) -> Result<(), KnbdError> {
        self.replace_socket(netlink, serve)?;
        for _ in 1..self.connections() {
            if let Err(error) = self.replace_socket(netlink, serve) {
                // What would have gone there goes by another one.
                tracing::warn!("{}: one connection less: {error}", self.path().display());
                break;
            }
        }
        Ok(())
    }

    fn replace_socket(
        &self,
        netlink: &mut Netlink,
        serve: &mut impl FnMut(OwnedFd) -> bool,
    ) -> Result<(), KnbdError> {
        let end = Instant::now() + NOTICE;
        loop {
            let (ours, theirs) = UnixStream::pair().map_err(failed("making a socket pair"))?;
            netlink
                .reconfigure(self.index, &self.identity, theirs.as_raw_fd())
                .map_err(failed("giving a device a new connection"))?;
            drop(theirs);
            if !is_hung_up(&ours) {
                return match serve(ours.into()) {
                    true => Ok(()),
                    false => Err(nobody_serves()),
                };
            }
            // The driver has not noticed yet that the old one is dead.
            if Instant::now() >= end {
                let error = io::Error::other("it has a server");
                return Err(failed("giving a device a new connection")(error));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Has the driver send no more than the server takes, and look after its requests.
    fn tuned(self) -> KnbdDevice {
        let limit_ms = match self.connections() {
            1 => LOOK_AGAIN_MS,
            _ => RETRY_MS,
        };
        for (name, value) in [("max_sectors_kb", 1024), ("io_timeout", limit_ms)] {
            let path = PathBuf::from(format!("/sys/block/nbd{}/queue/{name}", self.index));
            let value: u32 = value;
            // The kernel waits for all requests of the device before it takes a value: on one that is taken over while I/O is
            // suspended that has no end.
            let is_so =
                std::fs::read_to_string(&path).is_ok_and(|text| text.trim().parse() == Ok(value));
            if is_so {
                continue;
            }
            if let Err(error) = std::fs::write(&path, value.to_string()) {
                tracing::warn!("{}: {error}", path.display());
            }
        }
        self
    }

    /// Whether somebody mounted the device or claimed it exclusively, in any namespace; or has it open, if that process
    /// is to be seen in `/proc`.
    ///
    /// # Errors
    /// When the device cannot be opened for another reason.
    pub fn is_held(&self) -> Result<bool, KnbdError> {
        match self.claim() {
            Ok(claimed) => {
                drop(claimed);
                let holders = self.holders();
                Ok(holders
                    .iter()
                    .any(|holder| matches!(holder, Holder::Process { .. })))
            }
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(true),
            Err(error) => Err(KnbdError::Io {
                doing: "opening",
                path: self.path(),
                error,
            }),
        }
    }

    /// Who uses the device, as far as that can be seen from here.
    pub fn holders(&self) -> Vec<Holder> {
        holders::of_device(&self.path())
    }

    /// Ends the device. Whoever has it open is waited for, not for ever: afterwards he gets I/O errors.
    ///
    /// # Errors
    /// What the driver refuses.
    pub fn give_back(self) -> Result<(), KnbdError> {
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
        let mut netlink = open()?;
        let ended = disconnect(&mut netlink, self.index);
        drop(claimed);
        ended?;
        // Its number is free again when the last one has closed it; that is waited for, for a moment.
        let end = Instant::now() + Duration::from_secs(2);
        while is_connected(self.index) && Instant::now() < end {
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn claim(&self) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_EXCL | libc::O_CLOEXEC)
            .open(self.path())
    }
}

/// Ends the device of an identity that a dead server left: whoever has it open gets I/O errors. For when its content is not
/// any more what they know, and nobody of this process serves it. Whether there was one. Does not load the driver.
///
/// # Errors
/// What the driver refuses.
pub fn drop_left(identity: &str) -> Result<bool, KnbdError> {
    let Some(index) = find(identity) else {
        return Ok(false);
    };
    disconnect(&mut open()?, index)?;
    Ok(true)
}

/// Whether there is a device of an identity.
pub fn is_left(identity: &str) -> bool {
    find(identity).is_some()
}

fn disconnect(netlink: &mut Netlink, index: u32) -> Result<(), KnbdError> {
    match netlink.disconnect(index) {
        // It was not connected any more.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        ended => ended.map_err(|error| KnbdError::Netlink {
            doing: "disconnecting an NBD device",
            error,
        }),
    }
}

/// The connected device of an identity.
fn find(identity: &str) -> Option<u32> {
    let entries = std::fs::read_dir("/sys/block").ok()?;
    entries.flatten().find_map(|entry| {
        let index = entry
            .file_name()
            .to_str()?
            .strip_prefix("nbd")?
            .parse()
            .ok()?;
        let backend = std::fs::read_to_string(entry.path().join("backend")).ok()?;
        (backend.trim_end() == identity && is_connected(index)).then_some(index)
    })
}

/// A device has this file from its connecting to its end.
fn is_connected(index: u32) -> bool {
    Path::new(&format!("/sys/block/nbd{index}/pid")).exists()
}

fn size_bytes(index: u32) -> Option<u64> {
    let sectors = std::fs::read_to_string(format!("/sys/block/nbd{index}/size")).ok()?;
    sectors
        .trim()
        .parse::<u64>()
        .ok()
        .map(|sectors| sectors * 512)
}

/// Whether nobody has the other end of a socket any more, or it was shut there.
pub fn is_hung_up(socket: &impl AsRawFd) -> bool {
    let mut polled = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: 0,
        revents: 0,
    };
    // SAFETY: `polled` is one initialised entry that outlives the call.
    let found = sys::check(unsafe { libc::poll(&raw mut polled, 1, 0) });
    found.is_ok() && polled.revents & (libc::POLLHUP | libc::POLLERR) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_tell_volumes_resources_and_nodes_apart() {
        let of = |dir: &str, resource, volume| identity(Path::new(dir), resource, volume);
        assert_eq!(of("/run/rdb", "r0", 0), "rdb /run/rdb r0/0");
        assert!(!is_left(&of("/nowhere", "none", 0)));
        assert!(matches!(drop_left(&of("/nowhere", "none", 0)), Ok(false)));
    }

    #[test]
    fn a_socket_whose_other_end_is_closed_is_told_from_one_that_is_not() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        assert!(!is_hung_up(&ours));
        drop(theirs);
        assert!(is_hung_up(&ours));
    }

    #[test]
    fn a_socket_that_was_shut_is_told_while_there_is_something_to_read() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        std::io::Write::write_all(&mut theirs, b"request").expect("room");
        assert!(!is_hung_up(&ours));
        theirs.shutdown(std::net::Shutdown::Both).expect("shut");
        assert!(is_hung_up(&ours));
    }

    #[test]
    fn a_machine_without_the_driver_is_told_so() {
        // Where the driver is, this says nothing.
        if let Err(error) = available() {
            let words = error.to_string();
            assert!(
                words.contains("nbd") || words.contains("netlink"),
                "{words}"
            );
        }
    }
}
