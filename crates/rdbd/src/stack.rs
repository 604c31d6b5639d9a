//! The limit of the stack (`ulimit -s`). What serves commands runs on the stack that the system has given the process, and one that is
//! too small ends it in the middle of a command.
#![allow(unsafe_code)]

use std::io;

use anyhow::{Context, Result, bail};

/// What is enough for whatever a command does, in bytes.
const ENOUGH: u64 = 1 << 20;

/// Sees to it that there is enough, by raising the limit if that is allowed.
///
/// # Errors
/// When it is not.
pub(crate) fn check() -> Result<()> {
    let (now, most) = limit().context("the limit of the stack (ulimit -s)")?;
    if now >= ENOUGH {
        return Ok(());
    }
    // (It grows as it is used, up to the limit of that moment.)
    if most >= ENOUGH && set(ENOUGH, most).is_ok() || set(ENOUGH, ENOUGH).is_ok() {
        return Ok(());
    }
    bail!(
        "the stack may not be larger than {} KiB (ulimit -s, LimitSTACK of a systemd unit): rdbd needs {} KiB",
        now / 1024,
        ENOUGH / 1024
    )
}

/// What holds, and what it may be raised to.
fn limit() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the memory is ours, and large enough for what is asked for.
    match unsafe { libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit) } {
        0 => Ok((limit.rlim_cur, limit.rlim_max)),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(now: u64, most: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: now,
        rlim_max: most,
    };
    // SAFETY: the call reads the limit alone.
    match unsafe { libc::setrlimit(libc::RLIMIT_STACK, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
