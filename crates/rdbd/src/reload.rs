//! Signals: SIGHUP opens the log anew and reads `rdbd.toml` again, four end the daemon in order, and no other ends it.

use std::path::PathBuf;
use std::rc::Rc;

use tokio::signal::unix::{SignalKind, signal};

use crate::log::SetLevel;
use crate::node::Node;
use crate::serving::{Serving, frontend};
use crate::settings::{LogLevel, Settings};
use crate::signals::{self, Asked, Signals};
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
                 on-no-space {:?}: for disks that are attached from now on; handler-timeout {} s: for handlers that are \
                 started from now on",
                serving.frontend,
                serving.busy_poll.as_micros(),
                serving.nbd_connections,
                serving.on_no_space,
                serving.handler_timeout.map_or(0, |limit| limit.as_secs())
            );
        }
        let with_the_next = |settings: &Settings| {
            (
                settings.core_dumps,
                settings.device_links,
                settings.state_dir.clone(),
                settings.http,
                settings.compat.clone(),
            )
        };
        if with_the_next(&settings) != with_the_next(&self.settings) {
            tracing::warn!(
                "core-dumps, device-links, state-dir, http and compat take effect with the next rdbd ('rdbadm restart')"
            );
        }
        self.settings = settings;
        tracing::info!("the settings were read again");
    }
}

/// Does what signals ask for, and takes note of those that would end a program which does not know them. Ends with the daemon.
pub(crate) fn follow(signals: Signals, mut reload: Reload, node: Rc<Node>) {
    tokio::task::spawn_local(async move {
        loop {
            let asked = match signals.next(&node.life).await {
                Ok(asked) => asked,
                Err(error) => {
                    tracing::error!("no signal can be read any more: {error}");
                    return;
                }
            };
            match asked {
                Asked::End(says) => node.life.is_told_to_end(says),
                Asked::Reload => {
                    tracing::info!("SIGHUP");
                    reload.reload(&node);
                }
            }
        }
    });
    for number in signals::useless() {
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
