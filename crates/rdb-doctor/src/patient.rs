//! Whom the checks are for: a node's configuration, and what runs.

use std::path::Path;

use rdb_config::{Config, ResolvedResource, ResolvedVolume};
use rdb_control::{ConnState, DiskState, ResourceReport, StatusReport, VolumeReport};

use crate::settings::Settings;

/// The daemon of the run directory.
#[derive(Debug, Clone, PartialEq)]
pub enum Daemon {
    /// None runs.
    None,
    /// One runs, or has left something, and does not say what: why.
    Silent {
        /// Its process, if that is known.
        pid: Option<u32>,
        /// Why it was not asked.
        reason: String,
        /// This user may not ask it: nothing is wrong with it, as far as can be known.
        is_denied: bool,
    },
    /// It has told.
    Runs {
        /// Its process, if that is known.
        pid: Option<u32>,
        /// What it has told.
        report: StatusReport,
    },
}

/// Whom the checks are for.
pub struct Patient<'a> {
    /// The node's name.
    pub node: &'a str,
    /// The run directory.
    pub run_dir: &'a Path,
    /// The daemon's settings.
    pub settings: Settings,
    /// What keeps these from being read.
    pub settings_fault: Option<String>,
    /// The daemon.
    pub daemon: Daemon,
    /// The configuration, if it could be read.
    pub config: Option<&'a Config>,
    /// What is wrong with it: of which resource, and what.
    pub complaints: Vec<(Option<String>, String)>,
    /// The resources that are looked at.
    pub resources: Vec<ResolvedResource>,
}

impl Patient<'_> {
    /// The daemon's process.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.daemon {
            Daemon::None => None,
            Daemon::Silent { pid, .. } | Daemon::Runs { pid, .. } => *pid,
        }
    }

    /// What runs.
    pub(crate) fn running(&self) -> &[ResourceReport] {
        match &self.daemon {
            Daemon::Runs { report, .. } => &report.resources,
            Daemon::None | Daemon::Silent { .. } => &[],
        }
    }

    /// How a resource runs, if it does.
    pub(crate) fn report(&self, name: &str) -> Option<&ResourceReport> {
        self.running().iter().find(|r| r.name == name)
    }

    /// Whether it has its peer.
    pub(crate) fn is_connected(&self, name: &str) -> bool {
        let greeted = |v: &VolumeReport| v.cstate >= Some(ConnState::Connected);
        self.report(name).is_some_and(|r| {
            r.connection == ConnState::WFReportParams && r.volumes.iter().all(greeted)
        })
    }

    fn volume(&self, resource: &str, number: u16) -> Option<&VolumeReport> {
        let volumes = &self.report(resource)?.volumes;
        volumes.iter().find(|v| v.volume == number)
    }

    /// Whether the daemon has the volume's disk.
    pub(crate) fn has_disk(&self, resource: &ResolvedResource, volume: &ResolvedVolume) -> bool {
        let found = self.volume(&resource.name, volume.volume);
        found.is_some_and(|v| v.disk != DiskState::Diskless)
    }
}

/// What a finding about a volume calls it.
pub(crate) fn name_of(resource: &ResolvedResource, volume: &ResolvedVolume) -> String {
    match volume.implicit {
        true => resource.name.clone(),
        false => format!("{}/{}", resource.name, volume.volume),
    }
}
