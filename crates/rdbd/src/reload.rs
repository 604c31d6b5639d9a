//! Signals: SIGHUP opens the log anew and reads `rdbd.toml` again, three end the daemon in order, and no other ends it.

use std::path::PathBuf;
use std::rc::Rc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::log::SetLevel;
use crate::node::Node;
use crate::serving::{Serving, frontend};
use crate::settings::{LogLevel, Settings};
use crate::streams;

/// What SIGHUP needs.
pub(crate) struct Reload {
    /// `--config`.
    pub(crate) config: Option<PathBuf>,
    /// `--frontend`, which settings do not change.
    pub(crate) frontend: Option<String>,
    /// The settings in effect.
    pub(crate) settings: Settings,
    /// How much is logged.
    pub(crate) set_level: SetLevel,
    /// The file that standard error writes to, if it is one.
    pub(crate) log_file: Option<PathBuf>,
}

impl Reload {
    fn reload(&mut self, node: &Node) {
        if let Some(path) = &self.log_file {
            match streams::log_to(path) {
                Ok(()) => tracing::info!("the log begins anew at {}", path.display()),
                Err(error) => tracing::error!("opening {} anew: {error}", path.display()),
            }
        }
        let read = Settings::load(self.config.as_deref());
        let settings = match read {
            Ok(settings) => settings,
            Err(error) => {
                tracing::error!("{error}; the settings stay as they were");
                return;
            }
        };
        if settings == self.settings {
            tracing::info!("the settings are as they were");
            return;
        }
        let frontend = match frontend(self.frontend.as_deref(), &settings) {
            Ok(frontend) => frontend,
            Err(error) => {
                tracing::error!("front end: {error}; the settings stay as they were");
                return;
            }
        };
        (self.set_level)(settings.log_level.unwrap_or(LogLevel::Info).tracing());
        let serving = Serving::of(&settings, frontend);
        if node.serving.replace(serving) != serving {
            tracing::info!(
                "front end {}, busy-poll-us {}, nbd-connections {}: for resources that are brought up from now on; \
                 on-no-space {:?}: for disks that are attached from now on",
                serving.frontend,
                serving.busy_poll.as_micros(),
                serving.nbd_connections,
                serving.on_no_space
            );
        }
        if (settings.core_dumps, settings.device_links)
            != (self.settings.core_dumps, self.settings.device_links)
        {
            tracing::warn!(
                "core-dumps and device-links take effect with the next rdbd ('rdbadm restart')"
            );
        }
        self.settings = settings;
        tracing::info!("the settings were read again");
    }
}

/// The signals that end the daemon, in order.
pub(crate) struct Ends([(Signal, &'static str); 4]);

impl Ends {
    /// Listens to them.
    ///
    /// # Errors
    /// If the system does not allow it.
    pub(crate) fn listen() -> std::io::Result<Ends> {
        Ok(Ends([
            (signal(SignalKind::terminate())?, "terminated"),
            (signal(SignalKind::interrupt())?, "interrupted"),
            (signal(SignalKind::quit())?, "told to quit"),
            (
                signal(SignalKind::from_raw(libc::SIGPWR))?,
                "told of a power failure",
            ),
        ]))
    }

    /// Comes with the first of them; its words.
    pub(crate) async fn come(&mut self) -> &'static str {
        let [(a, a_says), (b, b_says), (c, c_says), (d, d_says)] = &mut self.0;
        tokio::select! {
            _ = a.recv() => a_says,
            _ = b.recv() => b_says,
            _ = c.recv() => c_says,
            _ = d.recv() => d_says,
        }
    }
}

/// Reloads with every SIGHUP, and takes note of signals that would end a program which does not know them. Ends with the
/// daemon.
pub(crate) fn follow(mut hangup: Signal, mut reload: Reload, node: Rc<Node>) {
    tokio::task::spawn_local(async move {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP");
            reload.reload(&node);
        }
    });
    let useless = [
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGSTKFLT,
        libc::SIGXCPU,
        libc::SIGXFSZ,
    ];
    for number in useless
        .into_iter()
        .chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
    {
        match signal(SignalKind::from_raw(number)) {
            Ok(mut useless) => {
                _ = tokio::task::spawn_local(async move {
                    while useless.recv().await.is_some() {
                        tracing::warn!("signal {number} has no meaning for rdbd: ignored");
                    }
                })
            }
            Err(error) => tracing::debug!("signal {number}: {error}"),
        }
    }
}
