//! What monitors and people read: one state of a node as OpenMetrics, as the verdict of a check, as a page, and in sentences. Pure
//! functions over [`StatusReport`]: the daemon serves them (`http` in `rdbd.toml`), and `rdbadm metrics`, `check` and `explain` print
//! them, and `rdbmon` shows them.

mod check;
mod explain;
mod keys;
mod metrics;
mod page;
mod promotion;
mod series;

pub use check::{Check, Finding, Level, check, findings};
pub use explain::{Choice, Explanation, Stake, actions, explain, up_all};
pub use keys::MONITOR_KEYS;
pub use metrics::{Process, openmetrics};
pub use page::{PAGE_SCRIPT, page};
pub use promotion::{Bar, Copies, bar, may_promote, promotion_score};
pub use series::{Courses, Figure, SAMPLES, Series};

use rdb_control::{ConnState, ReasonReport, ResourceReport, StatusReport, VolumeReport};

/// The media type of [`openmetrics`].
pub const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A state of a node, and who tells of it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The state.
    pub report: &'a StatusReport,
    /// The version of rdb.
    pub version: &'a str,
}

/// Whether the nodes are connected, and have told each other of every volume.
fn is_connected(resource: &ResourceReport) -> bool {
    let greeted = |volume: &VolumeReport| volume.cstate >= Some(ConnState::Connected);
    resource.connection == ConnState::WFReportParams && resource.volumes.iter().all(greeted)
}

/// The newer word for a connection state, as `status` and events have it.
pub fn connection_word(state: ConnState) -> &'static str {
    match state {
        ConnState::WFConnection => "Connecting",
        ConnState::WFReportParams => "Connected",
        other => other.as_str(),
    }
}

/// Whether users' requests wait, for whatever reason: also for a daemon that has not taken over from the one before.
fn is_frozen(resource: &ResourceReport) -> bool {
    let suspended = resource.volumes.iter().any(|v| !v.suspended.is_empty());
    suspended || resource.io_reason.is_some()
}

/// A thing that is not as it should be, and what it is about.
#[derive(Debug, Clone, Copy)]
struct Trouble<'a> {
    about: &'static str,
    volume: Option<&'a VolumeReport>,
    reason: &'a ReasonReport,
}

/// All that is not as it should be with a resource.
fn troubles(resource: &ResourceReport) -> Vec<Trouble<'_>> {
    let of_resource = [
        ("connection", &resource.link_reason),
        ("record", &resource.record_reason),
        ("daemon", &resource.daemon_reason),
        ("io", &resource.io_reason),
    ];
    let of_resource = of_resource
        .into_iter()
        .map(|(about, reason)| (about, None, reason));
    let of_volumes = resource.volumes.iter().flat_map(|volume| {
        [
            ("disk", Some(volume), &volume.disk_reason),
            ("device", Some(volume), &volume.device_reason),
            ("resync", Some(volume), &volume.resync_reason),
        ]
    });
    of_resource
        .chain(of_volumes)
        .filter_map(|(about, volume, reason)| {
            let reason = reason.as_ref()?;
            Some(Trouble {
                about,
                volume,
                reason,
            })
        })
        .collect()
}
