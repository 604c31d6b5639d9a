//! The daemon's own figures.

use super::{Family, Kind};

/// What the kernel counts of the daemon's process, by the names that all exporters have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Process {
    /// CPU time, user's and system's, in seconds.
    pub cpu_s: f64,
    /// Memory that is resident, in bytes.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub open_fds: u64,
    /// Threads.
    pub threads: u64,
    /// When it was started, in seconds since 1970.
    pub start_s: f64,
}

impl Process {
    pub(super) fn families(&self) -> Vec<Family> {
        let family = |name, help, kind, value| Family {
            name,
            help,
            kind,
            samples: vec![(Vec::new(), value)],
        };
        vec![
            family(
                "process_cpu_seconds",
                "CPU time of the daemon",
                Kind::Counter,
                self.cpu_s,
            ),
            family(
                "process_resident_memory_bytes",
                "Resident memory of the daemon",
                Kind::Gauge,
                self.resident_bytes as f64,
            ),
            family(
                "process_open_fds",
                "Open descriptors of the daemon",
                Kind::Gauge,
                self.open_fds as f64,
            ),
            family(
                "process_threads",
                "Threads of the daemon",
                Kind::Gauge,
                self.threads as f64,
            ),
            family(
                "process_start_time_seconds",
                "When the daemon was started",
                Kind::Gauge,
                self.start_s,
            ),
        ]
    }
}
