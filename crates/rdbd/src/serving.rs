//! What resources are started with.

use std::time::Duration;

use rdb_engine::config::OnNoSpace;
use rdb_frontend::Frontend;

use crate::settings::{DEFAULT_BUSY_POLL_US, Settings};

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
    /// `handler-timeout`.
    pub(crate) handler_timeout: Option<Duration>,
}

impl Serving {
    /// What the settings say; the front end is settled already.
    pub(crate) fn of(settings: &Settings, frontend: Frontend) -> Serving {
        let busy_poll_us = settings.busy_poll_us.unwrap_or(DEFAULT_BUSY_POLL_US);
        Serving {
            frontend,
            busy_poll: Duration::from_micros(busy_poll_us.into()),
            nbd_connections: settings.nbd_connections.unwrap_or_default().get(),
            handler_timeout: settings.handler_timeout(),
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
    // A word in the file that is none is wrong, whatever takes its place.
    let named = settings.frontend.as_deref();
    let named = named.map(Frontend::from_name).transpose()?;
    let given = given.map(Frontend::from_name).transpose()?;
    given.or(named).unwrap_or(Frontend::Auto).settle()
}
