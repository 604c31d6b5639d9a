//! Work that waits for a disk ends within its limit, too: the disk may hang, and then the call that waits for it can not be
//! taken back from within.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::out::{self, EXIT_COMMUNICATION};

/// Ends the program when the limit is over, unless it is dropped before.
pub(crate) struct Watchdog {
    _off: Option<Sender<()>>,
}

impl Watchdog {
    /// Watches what is called `command` from now on; without a limit it does nothing.
    pub(crate) fn start(limit: Option<Duration>, command: &str) -> Watchdog {
        let Some(limit) = limit else {
            return Watchdog { _off: None };
        };
        let (off, dropped) = channel::<()>();
        let command = command.to_owned();
        // Without a thread there is no limit, which is better than no work.
        let _ = std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || {
                if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                    out::error(&format!(
                        "Command '{command}' did not terminate within {} seconds",
                        limit.as_secs()
                    ));
                    std::process::exit(EXIT_COMMUNICATION.into());
                }
            });
        Watchdog { _off: Some(off) }
    }
}
