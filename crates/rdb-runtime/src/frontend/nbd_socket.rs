//! The NBD socket itself: how it is made, and who is let in.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

/// Clients of one resource; more are turned away.
const CLIENTS_MAX: usize = 64;
/// Clients of one user: whoever takes all that he may leaves some to the others.
const USER_CLIENTS_MAX: usize = 48;
const _: () = assert!(USER_CLIENTS_MAX < CLIENTS_MAX);
/// Why one more client of `user` is turned away while those of `users` are here.
pub(super) fn refusal(users: impl Iterator<Item = u32> + Clone, user: u32) -> Option<String> {
    let of_user = users.clone().filter(|&other| other == user).count();
    if users.count() >= CLIENTS_MAX {
        return Some(format!("{CLIENTS_MAX} are here"));
    }
    (of_user >= USER_CLIENTS_MAX)
        .then(|| format!("{USER_CLIENTS_MAX} of user {user} are here, and others may come"))
}

/// The user that connected. Where the kernel does not say, it is one that nobody is.
pub(super) fn peer_user(fd: &OwnedFd) -> u32 {
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and `peer` and `len` are a structure of ours and its size, which live through the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            std::ptr::from_mut(&mut peer).cast(),
            &mut len,
        )
    };
    match result {
        0 => peer.uid,
        _ => u32::MAX,
    }
}

/// The file of a socket: device and inode.
pub(super) type FileId = (u64, u64);

/// What lies at the path, if anything does.
pub(super) fn file_at(path: &Path) -> Option<FileId> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Makes the socket, for its owner only. What a dead daemon left behind is replaced.
pub(super) fn listen(path: &Path) -> io::Result<(OwnedFd, Option<FileId>)> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)?;
    if !std::fs::symlink_metadata(directory)?.is_dir() {
        // A link would take the socket to where it was not asked for.
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            "its directory is no directory",
        ));
    }
    if std::fs::symlink_metadata(path).is_ok() {
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another process serves this socket",
            ));
        }
        std::fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before it listens, so nobody gets in under the mode it was born with.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    socket.listen(64)?;
    Ok((socket.into(), file_at(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_places_to_the_others() {
        let one = [1000; USER_CLIENTS_MAX];
        assert_eq!(refusal(one[1..].iter().copied(), 1000), None);
        assert!(refusal(one.iter().copied(), 1000).is_some());
        assert_eq!(refusal(one.iter().copied(), 0), None, "another user");
        let all: Vec<u32> = (0..CLIENTS_MAX as u32).collect();
        assert!(refusal(all.iter().copied(), 1000).is_some());
    }
}
