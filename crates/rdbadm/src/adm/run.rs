//! How steps are carried out one after the other, and what a failed one keeps from being done.

use rdb_control::Op;

use crate::exec::Executor;
use crate::out;
use crate::step::{Action, MetaCommand, Step};

/// What the failure of a step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Its resource; and everything, if it is a very bad one (exit status 20 and above).
    Everything,
    /// Its resource; and everything, if the daemon could not be asked.
    Resource,
    /// The same, but a volume's failure ends that volume alone. What does not need it goes on, such as the connection by which a node
    /// without a disk comes to its data.
    Volume,
}

/// Steps on their way.
#[derive(Debug)]
pub(super) struct Run {
    extent: Extent,
    /// Of these nothing more is done.
    failed: Vec<String>,
    /// Nor of these volumes.
    failed_minors: Vec<u32>,
    /// The worst exit status.
    pub(super) worst: u8,
}

impl Run {
    /// Nothing is done yet.
    pub(super) fn new(extent: Extent) -> Run {
        Run {
            extent,
            failed: Vec::new(),
            failed_minors: Vec::new(),
            worst: 0,
        }
    }

    /// Carries steps out; false if one was so bad that nothing more is to be done.
    pub(super) fn steps(&mut self, executor: &mut Executor, steps: &[Step]) -> bool {
        if !executor.dry_run {
            out::work_has_begun();
        }
        for step in steps {
            let minor = minor(step);
            let of_failed = minor.is_some_and(|minor| self.failed_minors.contains(&minor));
            if of_failed || self.failed.contains(&step.resource) {
                continue;
            }
            let code = executor.run(step);
            self.worst = code.max(self.worst);
            if code >= 20 && (self.extent == Extent::Everything || executor.is_unasked) {
                return false;
            }
            if code == 0 || !is_foundation(step) {
                continue;
            }
            match (self.extent, minor) {
                (Extent::Volume, Some(minor)) => self.failed_minors.push(minor),
                _ => self.failed.push(step.resource.clone()),
            }
        }
        true
    }
}

/// Whether others are built on a step. A second volume is still asked when the first has said no: that is how drbdadm goes through
/// them. But nothing is built on what could not be built.
fn is_foundation(step: &Step) -> bool {
    match &step.action {
        Action::Run(op) => matches!(
            op,
            Op::NewResource { .. }
                | Op::NewMinor { .. }
                | Op::Attach { .. }
                | Op::Detach { .. }
                | Op::Disconnect { .. }
                | Op::DelMinor { .. }
        ),
        Action::Meta(meta) => meta.command == MetaCommand::ApplyAl,
        _ => false,
    }
}

/// The volume that a step is for, if it is for one.
fn minor(step: &Step) -> Option<u32> {
    match &step.action {
        Action::Run(
            Op::NewMinor { minor, .. }
            | Op::Attach { minor, .. }
            | Op::Detach { minor, .. }
            | Op::DiskOptions { minor, .. }
            | Op::DelMinor { minor },
        ) => Some(*minor),
        Action::Meta(meta) => meta.minor,
        _ => None,
    }
}
