//! Sessions that wait for a server: the open `/dev/fuse` of a mount that outlives the process which served it.
//!
//! The kernel keeps a FUSE file system for as long as somebody has its connection open, and requests wait meanwhile. So a
//! process that leaves hands the descriptor on, and the next one serves the same mount, with the loop device over it and
//! whoever uses that. What was read and not answered has to be asked again: Linux 6.9 and later do that ([`resend`]).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zerocopy::IntoBytes;

use crate::loopdev::LoopDevice;
use crate::{Holder, sys};

/// `FUSE_NOTIFY_RESEND` of Linux 6.9 (protocol 7.40).
const NOTIFY_RESEND: u32 = 7;
const HEADER_BYTES: u32 = 16;

/// A session that nobody serves.
#[derive(Debug)]
pub struct LeftSession {
    /// Whose it is, see [`identity`].
    pub identity: String,
    /// The connection.
    pub connection: OwnedFd,
    /// Everything that was read is answered.
    pub is_drained: bool,
}

/// The sessions of a process that nobody serves, shared by its resources.
#[derive(Clone, Debug, Default)]
pub struct LeftSessions(Arc<Mutex<Vec<LeftSession>>>);

impl LeftSessions {
    fn lock(&self) -> MutexGuard<'_, Vec<LeftSession>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps one. An older one of the same identity ends.
    pub fn put(&self, session: LeftSession) {
        let mut sessions = self.lock();
        sessions.retain(|other| other.identity != session.identity);
        sessions.push(session);
    }

    /// Takes one to serve it, or to end it by closing.
    pub fn take(&self, identity: &str) -> Option<LeftSession> {
        let mut sessions = self.lock();
        let index = sessions.iter().position(|s| s.identity == identity)?;
        Some(sessions.swap_remove(index))
    }

    /// Whether there is one.
    pub fn has(&self, identity: &str) -> bool {
        self.lock().iter().any(|s| s.identity == identity)
    }

    /// Looks at all.
    pub fn each<T>(&self, look: impl FnMut(&LeftSession) -> T) -> Vec<T> {
        self.lock().iter().map(look).collect()
    }
}

/// Who uses the loop device over a volume's file, whoever serves that, as far as it can be found out without asking the device.
/// Blocking.
pub fn holders(run_dir: &Path, resource: &str, volume: u32) -> Vec<Holder> {
    let devices = LoopDevice::attached_to(&target(run_dir, resource, volume)).unwrap_or_default();
    let holders = devices.iter().flat_map(LoopDevice::holders);
    holders.collect()
}

/// Where a volume is mounted.
pub fn target(run_dir: &Path, resource: &str, volume: u32) -> PathBuf {
    run_dir.join("fuse").join(format!("{resource}.{volume}"))
}

/// The name of a volume's session: letters, digits and hyphens, short enough for systemd's store of descriptors.
pub fn identity(run_dir: &Path, resource: &str, volume: u32) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a
    let parts = [
        run_dir.as_os_str().as_encoded_bytes(),
        &[0],
        resource.as_bytes(),
    ];
    for byte in parts.into_iter().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("fuse-{volume}-{hash:016x}")
}

/// Has the kernel ask again for what was read from the connection and not answered. False: it is too old for that.
///
/// # Errors
/// When the connection has ended.
pub fn resend(connection: BorrowedFd<'_>) -> io::Result<bool> {
    // `struct fuse_out_header`: length, what it is about, and the number of no request.
    let message = [HEADER_BYTES, NOTIFY_RESEND, 0, 0];
    let bytes = message.as_bytes();
    // SAFETY: the descriptor is open and the bytes are only read.
    let written = unsafe {
        libc::write(
            connection.as_fd().as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
        )
    };
    let written = libc::c_int::try_from(written).unwrap_or(-1);
    match sys::check(written) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether this kernel asks again for what was read and not answered, when it is told to ([`resend`]): Linux 6.9 and later. Told
/// by its number, since asking would have it do so.
pub fn can_resend() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    release.is_ok_and(|release| version(&release) >= (6, 9))
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_kernels_are_compared_as_numbers() {
        for (release, wanted) in [
            ("6.1.0-37-amd64\n", (6, 1)),
            ("6.12.48+deb13-amd64", (6, 12)),
            ("7.0-rc1", (7, 0)),
            ("", (0, 0)),
        ] {
            assert_eq!(version(release), wanted, "{release}");
        }
    }

    #[test]
    fn volumes_of_nodes_and_resources_have_identities_of_their_own() {
        let run = Path::new("/run/rdb");
        let all = [
            identity(run, "r0", 0),
            identity(run, "r0", 1),
            identity(run, "r1", 0),
            identity(Path::new("/run/rdb2"), "r0", 0),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{all:?}");
            assert!(one.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        }
        assert_eq!(identity(run, "r0", 0), all[0]);
    }
}
