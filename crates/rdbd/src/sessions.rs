//! FUSE sessions that come from, or go to, the program before or after this one, or that systemd has kept.
//!
//! The program after this one, in the same process, finds the descriptors open and their numbers in its environment. systemd
//! keeps copies for the case that the process dies ([`crate::systemd::keep`]) and passes them to the next one.

use std::os::fd::{AsRawFd, RawFd};
use std::process::Command;

use rdb_frontend::fuse::left::{LeftSession, LeftSessions};

use crate::session;

/// What is handed on: `NUMBER:IDENTITY:` and `drained` or `open`, with commas between.
const SESSIONS: &str = "RDB_SESSIONS";
/// The first descriptor that systemd passes (`sd_listen_fds(3)`).
const LISTEN_FDS_START: RawFd = 3;

/// What was left for this process. Called once, before anything else opens `/dev/fuse`.
pub(crate) fn taken() -> LeftSessions {
    let sessions = LeftSessions::default();
    let handed = std::env::var(SESSIONS).unwrap_or_default();
    for (descriptor, identity, is_drained) in handed.split(',').filter_map(parse) {
        adopt(&sessions, descriptor, identity, is_drained);
    }
    let own = std::process::id().to_string();
    if std::env::var("LISTEN_PID").is_ok_and(|pid| pid == own) {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        for (descriptor, identity) in (LISTEN_FDS_START..).zip(names.split(':')) {
            // One that was handed on is the same session, and its state is known.
            if identity.starts_with("fuse-") && !sessions.has(identity) {
                adopt(&sessions, descriptor, identity, false);
            }
        }
    }
    sessions
}

fn parse(text: &str) -> Option<(RawFd, &str, bool)> {
    let mut parts = text.split(':');
    let (descriptor, identity) = (parts.next()?.parse().ok()?, parts.next()?);
    Some((descriptor, identity, parts.next()? == "drained"))
}

fn adopt(sessions: &LeftSessions, descriptor: RawFd, identity: &str, is_drained: bool) {
    if let Some(connection) = session::adopt_connection(descriptor) {
        sessions.put(LeftSession {
            identity: identity.to_owned(),
            connection,
            is_drained,
        });
    }
}

/// Has a program find the sessions that nobody serves, and not those that systemd passed to this one.
pub(crate) fn hand_on<'a>(command: &'a mut Command, sessions: &LeftSessions) -> &'a mut Command {
    let handed = sessions.each(|left| {
        if let Err(error) = session::hand_on_connection(&left.connection) {
            tracing::error!("handing {} on: {error}", left.identity);
        }
        let state = if left.is_drained { "drained" } else { "open" };
        format!("{}:{}:{state}", left.connection.as_raw_fd(), left.identity)
    });
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        command.env_remove(name);
    }
    command.env(SESSIONS, handed.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_on_is_read() {
        assert_eq!(parse("12:fuse-0-ab:drained"), Some((12, "fuse-0-ab", true)));
        assert_eq!(parse("12:fuse-0-ab:open"), Some((12, "fuse-0-ab", false)));
        for bad in ["", "12", "x:fuse-0-ab:open", "12:fuse-0-ab"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
