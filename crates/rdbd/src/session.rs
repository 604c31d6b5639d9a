//! What the standard library has no functions for.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// Leaves a file open for the program that this process becomes.
pub(crate) fn hand_on(file: &File) -> io::Result<()> {
    set_descriptor_flags(file, 0)
}

/// The file at `path`, if the program that this process was before has left it open with this number.
pub(crate) fn adopt(fd: RawFd, path: &Path) -> Option<File> {
    let open = std::fs::metadata(format!("/proc/self/fd/{fd}")).ok()?;
    let wanted = std::fs::metadata(path).ok()?;
    if fd <= 2 || (open.dev(), open.ino()) != (wanted.dev(), wanted.ino()) {
        return None;
    }
    // SAFETY: the descriptor is open, as was just seen, and nothing of this program has opened that file yet: it
    // belongs to nobody else.
    let file = unsafe { File::from_raw_fd(fd) };
    set_descriptor_flags(&file, libc::FD_CLOEXEC).ok()?;
    Some(file)
}

/// The number of this command of `fcntl`.
const F_SETSIG: libc::c_int = 10;

/// Whether anybody has the file at `path` open for writing. The kernel tells by whether it grants a lease for reading: it does
/// so only while nobody can write the file, whoever reads or has locked it.
///
/// # Errors
/// If the file cannot be opened, belongs to another user, or is on a file system without leases.
pub(crate) fn has_writer(path: &Path) -> io::Result<bool> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    // SAFETY: the calls take integers; the descriptor is open. Who opens the file for writing meanwhile breaks the lease, of which
    // this process is told by a signal that it ignores unless it asks for it, instead of one that would end it.
    let granted = unsafe {
        match libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) {
            -1 => -1,
            _ => libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK),
        }
    };
    // (It goes with the descriptor.)
    if granted == 0 {
        return Ok(false);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        error => Err(error),
    }
}

/// The program that the one before has left open with this number.
pub(crate) fn adopt_program(fd: RawFd) -> Option<File> {
    let open = std::fs::metadata(format!("/proc/self/fd/{fd}")).ok()?;
    if fd <= 2 || !open.is_file() || open.permissions().mode() & 0o111 == 0 {
        return None;
    }
    // SAFETY: the descriptor is open, as was just seen. This is called before anything of this program opens a file
    // that it keeps, so it belongs to nobody else.
    let file = unsafe { File::from_raw_fd(fd) };
    set_descriptor_flags(&file, libc::FD_CLOEXEC).ok()?;
    Some(file)
}

/// The process that has started this one.
pub(crate) fn parent() -> u32 {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::getppid() }.unsigned_abs()
}

/// A handle of a process.
pub(crate) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes integers; the result is checked before it becomes an owned descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match RawFd::try_from(fd) {
        // SAFETY: it was just made and belongs to nobody else.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a process ends within this time.
pub(crate) fn has_ended(process: &OwnedFd, within: Duration) -> io::Result<bool> {
    let mut polled = libc::pollfd {
        fd: process.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let milliseconds = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one initialised entry that outlives the call.
    match unsafe { libc::poll(&raw mut polled, 1, milliseconds) } {
        -1 => Err(io::Error::last_os_error()),
        count => Ok(count > 0),
    }
}

/// Sends a process a signal.
pub(crate) fn send(process: &OwnedFd, signal: i32) -> io::Result<()> {
    // SAFETY: no information is passed with the signal; the rest are integers.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match sent {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Goes on in another process, which is no child of whoever has started this one; true in the one that is left.
pub(crate) fn fork_away() -> io::Result<bool> {
    // SAFETY: this process has one thread, as the caller has not started any yet, so the new one may do anything.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid != 0),
    }
}

/// Nothing more goes to standard output but what goes to standard error.
pub(crate) fn stdout_to_stderr() -> io::Result<()> {
    // SAFETY: the call takes integers.
    match unsafe { libc::dup2(2, 1) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Leaves a connection open for the program that this process becomes.
pub(crate) fn hand_on_connection(connection: &OwnedFd) -> io::Result<()> {
    set_descriptor_flags(connection, 0)
}

/// The connection to the kernel's FUSE client that somebody has left open with this number for this program.
pub(crate) fn adopt_connection(fd: RawFd) -> Option<OwnedFd> {
    let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    if fd <= 2 || target != Path::new("/dev/fuse") {
        return None;
    }
    // SAFETY: the descriptor is open, as was just seen. This is called before anything of this program opens that
    // device, so it belongs to nobody else.
    let connection = unsafe { OwnedFd::from_raw_fd(fd) };
    set_descriptor_flags(&connection, libc::FD_CLOEXEC).ok()?;
    Some(connection)
}

/// Sends a message with a descriptor, if there is one.
pub(crate) fn send_with(
    socket: &std::os::unix::net::UnixDatagram,
    text: &[u8],
    descriptor: Option<std::os::fd::BorrowedFd<'_>>,
) -> io::Result<()> {
    // Room for one descriptor, aligned as the header is.
    let mut control = [0_u64; 4];
    let mut part = libc::iovec {
        iov_base: text.as_ptr().cast_mut().cast(),
        iov_len: text.len(),
    };
    // SAFETY: all zeroes is a valid message without anything.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(descriptor) = descriptor {
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: these only compute; the space for one descriptor fits the array above. The header that is written is
        // inside of it, as `msg_controllen` says.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(4) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(header)
                .cast::<libc::c_int>()
                .write_unaligned(descriptor.as_raw_fd());
        }
    }
    // SAFETY: the socket is open; the message points to memory that outlives the call and is only read.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn set_descriptor_flags(file: &impl AsRawFd, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the call takes integers; the descriptor is open.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, flags) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Who this process acts as.
pub(crate) fn user() -> u32 {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Makes this process the leader of a new session without a terminal. One that leads a group already stays as it
/// is.
pub(crate) fn lead() {
    // SAFETY: the call takes nothing and touches no memory.
    unsafe { libc::setsid() };
}
