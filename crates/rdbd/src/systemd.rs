//! What systemd is told (`sd_notify(3)`), if it has started this daemon.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::session;

/// Sends one message; without a systemd that listens, nothing is done.
pub(crate) fn notify(text: &str) {
    send(text, None);
}

/// This daemon serves: what was started after it may begin.
pub(crate) fn serves() {
    notify("READY=1\nSTATUS=It serves.");
}

/// This daemon ends, for good.
pub(crate) fn ends() {
    notify("STOPPING=1\nSTATUS=It ends.");
}

/// Tells systemd again and again that the control plane is alive, if it wants to know (`WatchdogSec=`): a daemon of which it hears
/// nothing for so long is killed, and started again. `WATCHDOG_PID` is not looked at: a program that takes over in another process
/// than the first one's is the service as well.
pub(crate) async fn show_life() {
    let limit = std::env::var("WATCHDOG_USEC").ok();
    let Some(limit) = limit
        .and_then(|text| text.parse().ok())
        .filter(|limit| *limit > 0)
    else {
        return;
    };
    // Three chances within the limit; a limit that is shorter than the least interval can not be kept.
    let mut interval = tokio::time::interval((Duration::from_micros(limit) / 3).max(LIFE_MIN));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        notify("WATCHDOG=1");
    }
}

/// How often life is shown at most.
const LIFE_MIN: Duration = Duration::from_millis(10);

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
