//! What systemd is told (`sd_notify(3)`), if it has started this daemon.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::session;

/// Sends one message; without a systemd that listens, nothing is done.
pub(crate) fn notify(text: &str) {
    send(text, None);
}

/// Has systemd keep a descriptor under this name for the case that this process dies, or forget it.
pub(crate) fn keep(name: &str, descriptor: Option<BorrowedFd<'_>>) {
    // Only the last one of a name is of use.
    send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
    if descriptor.is_some() {
        send(&format!("FDSTORE=1\nFDNAME={name}"), descriptor);
    }
}

fn send(text: &str, descriptor: Option<BorrowedFd<'_>>) {
    if let Err(error) = try_send(text, descriptor) {
        tracing::warn!("telling systemd {text:?}: {error}");
    }
}

fn try_send(text: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    session::send_with(&socket, text.as_bytes(), descriptor)
}
