//! What is wrong with a machine that runs rdb, or is to run it, and what to change: `rdbadm doctor`.
//!
//! ```text
//! Machine (files below a root, and a Probe) ─┐
//!                                            ├─► checks ─► findings ─► text, JSON, exit code
//! Patient (configuration, what runs)  ───────┘
//! ```
//!
//! A check is a function of a [`Machine`] and a [`Patient`] and returns [`Finding`]s. What it wants to know of the machine is in files, which
//! are read below a root directory, or is asked of a [`Probe`]; so the tests make machines up. Nothing is changed, no module is
//! loaded, and no port is connected to: a peer might take who calls for its own peer.

mod clock;
mod cluster;
mod config;
mod daemon;
mod disk_check;
mod finding;
mod handlers;
mod kernel;
mod lvm;
mod machine;
mod network;
mod patient;
mod probe;
mod settings;
mod stacking;
mod system;

#[cfg(test)]
mod made_up;

pub use finding::{Finding, Severity, exit_code, text};
pub use machine::Machine;
pub use patient::{Daemon, Patient};
pub use probe::{Clock, Echo, Interface, Probe};
pub use settings::Settings;
pub use system::System;

/// All that is found, machine first, then resource by resource.
pub fn examine(machine: &Machine<'_>, patient: &Patient<'_>) -> Vec<Finding> {
    let mut all = config::check(machine, patient);
    all.extend(kernel::check(machine, patient));
    all.extend(daemon::check(machine, patient));
    all.extend(clock::check(machine, patient));
    all.extend(cluster::check(machine, patient));
    for resource in &patient.resources {
        all.extend(network::check(machine, patient, resource));
        all.extend(handlers::check(machine, patient, resource));
        for volume in &resource.volumes {
            all.extend(disk_check::check(machine, patient, resource, volume));
            all.extend(stacking::check(machine, patient, resource, volume));
        }
    }
    all
}
