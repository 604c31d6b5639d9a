//! The settings that resources are started with, and reading `rdbd.toml` again.

use std::path::PathBuf;
use std::time::Duration;

use rdb_engine::config::OnNoSpace;
use rdb_frontend::Frontend;

use crate::log::SetLevel;
use crate::node::Node;
use crate::settings::{DEFAULT_BUSY_POLL_US, LogLevel, Settings};
use crate::streams;

/// What resources are started with; from `rdbd.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Serving {
    /// How devices are served.
    pub(crate) frontend: Frontend,
    /// `busy-poll-us`.
    pub(crate) busy_poll: Duration,
    /// `nbd-connections`.
    pub(crate) nbd_connections: u32,
    /// `on-no-space`.
    pub(crate) on_no_space: OnNoSpace,
}

impl Serving {
    /// What the settings say; the front end is settled already.
    pub(crate) fn of(settings: &Settings, frontend: Frontend) -> Serving {
        let busy_poll_us = settings.busy_poll_us.unwrap_or(DEFAULT_BUSY_POLL_US);
        Serving {
            frontend,
            busy_poll: Duration::from_micros(busy_poll_us.into()),
            nbd_connections: settings.nbd_connections.unwrap_or_default().get(),
            on_no_space: settings.on_no_space.unwrap_or_default().engine(),
        }
    }
}

/// The front end of the command line, or of the settings, or what works.
///
/// # Errors
/// If it can not be had here.
pub(crate) fn frontend(
    given: Option<&str>,
    settings: &Settings,
) -> Result<Frontend, rdb_frontend::FrontendError> {
    let name = given.or(settings.frontend.as_deref()).unwrap_or("auto");
    Frontend::from_name(name).and_then(Frontend::settle)
}

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
    /// Does what SIGHUP asks for.
    pub(crate) fn reload(&mut self, node: &Node) {
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
