//! Resources whose thread has ended on its own: a broken invariant of ours, or an io_uring that does not work any more.
//!
//! What such a thread had in memory is not trusted. For its resource it is as if the daemon had crashed: the disks are opened
//! anew, their activity log says what may differ from the peer, the connection is made anew, and a volume that was Primary
//! becomes so again as it would under the next daemon ([`crate::takeover`]). That is done by itself, but not without end: who
//! makes it stop once can do so again. Beyond the limit the resource stays as it is, is shown as failed, and waits for an
//! administrator.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use rdb_control::{
    ConnState, DiskState, FAILED, FailedReport, Refusal, ResourceReport, Role, VolumeReport, code,
};
use tokio::sync::OwnedMutexGuard;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::caller;
use crate::keep::KeptResource;
use crate::node::Node;
use crate::ops::{Failure, Outcome};
use crate::registry::Entry;
use crate::target::Target;

/// So often a resource is started again by itself within [`RESTART_WINDOW`].
const RESTARTS_MAX: usize = 3;
/// How long a start counts.
const RESTART_WINDOW: Duration = Duration::from_secs(600);

/// What is said to a command that was given before its resource was taken down, and had not begun.
const TAKEN_DOWN: &str = "the resource was taken down while the command waited";

/// What was and is started again.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    begun: RefCell<BTreeMap<String, Vec<Instant>>>,
    given_up: RefCell<BTreeSet<String>>,
    under_way: RefCell<BTreeMap<String, KeptResource>>,
}

impl Restarts {
    /// Whether one more is allowed now; it counts then.
    fn begin(&self, name: &str, now: Instant) -> bool {
        let mut all = self.begun.borrow_mut();
        let begun = all.entry(name.to_owned()).or_default();
        begun.retain(|at| now.duration_since(*at) < RESTART_WINDOW);
        if begun.len() >= RESTARTS_MAX {
            return false;
        }
        begun.push(now);
        true
    }

    /// An administrator has taken it into his hands.
    pub(crate) fn forget(&self, name: &str) {
        self.begun.borrow_mut().remove(name);
        self.given_up.borrow_mut().remove(name);
    }

    /// How a resource is to be on record that is being started again: as it was.
    pub(crate) fn under_way(&self, name: &str) -> Option<KeptResource> {
        self.under_way.borrow().get(name).cloned()
    }

    /// What `status` says of a resource whose disks and connection are not all there again.
    pub(crate) fn report(&self, name: &str) -> Option<FailedReport> {
        let is_under_way = self.under_way.borrow().contains_key(name);
        is_under_way.then(|| FailedReport {
            reason: "it stopped on its own, see the log of rdbd".to_owned(),
            advice: "it is being started again by itself; wait a moment".to_owned(),
        })
    }

    fn advice(&self, name: &str) -> String {
        let by_hand = format!(
            "see the log of rdbd; 'rdbadm down {name}' and 'rdbadm up {name}' start it anew"
        );
        if self.given_up.borrow().contains(name) {
            format!("it is not started again by itself; {by_hand}")
        } else {
            format!("it is being started again by itself; if it stays so, {by_hand}")
        }
    }
}

impl Node {
    async fn restart_stopped(self: &Rc<Node>, name: &str) {
        let Ok(target) = self.resource(name) else {
            return;
        };
        let turn = target.turn.lock().await;
        // Somebody may have been faster.
        let is_failed = {
            let registry = self.registry.lock();
            registry
                .get(name)
                .is_some_and(|entry| entry.failure.is_some())
        };
        if !is_failed || self.keeper.is_over() || self.is_being_replaced() {
            return;
        }
        let kept = self.keeper.last(name);
        let (Some(kept), true) = (kept, self.restarts.begin(name, Instant::now())) else {
            self.restarts.given_up.borrow_mut().insert(name.to_owned());
            tracing::error!(
                "drbd {name}: not started again by itself: that was done {RESTARTS_MAX} times within {} minutes. Once its \
                 reason is known, 'rdbadm down {name}' and 'rdbadm up {name}' start it anew.",
                RESTART_WINDOW.as_secs() / 60
            );
            return;
        };
        let handle = target.handle.clone();
        // It has told of its end, so this is short.
        if let Err(error) = tokio::task::spawn_blocking(move || handle.join()).await {
            tracing::error!("drbd {name}: {error}");
        }
        tracing::warn!("drbd {name}: started again, as after a crash of the daemon");
        let record = kept.clone();
        self.restarts
            .under_way
            .borrow_mut()
            .insert(name.to_owned(), record);
        self.registry.lock().remove(name);
        drop(turn);
        self.bring_back(kept).await;
        self.restarts.under_way.borrow_mut().remove(name);
        // What goes wrong is logged.
        let _ = self.keep().await;
        self.changed.notify_waiters();
    }

    /// What `status` says of a resource that does not answer.
    pub(crate) fn failed_report(&self, target: &Target) -> Option<ResourceReport> {
        let registry = self.registry.lock();
        let entry = registry.get(&target.name)?;
        let failed = match &entry.failure {
            Some(reason) => FailedReport {
                reason: reason.clone(),
                advice: self.restarts.advice(&target.name),
            },
            None if entry.is_going => FailedReport {
                reason: "it is being taken down".to_owned(),
                advice: "wait a moment; what is on its way to its disks ends first".to_owned(),
            },
            None => FailedReport {
                reason: "its thread does not answer".to_owned(),
                advice: "see the log of rdbd".to_owned(),
            },
        };
        let volumes = entry.volumes.iter();
        Some(ResourceReport {
            name: entry.name.clone(),
            connection: ConnState::StandAlone,
            protocol: None,
            local: None,
            peer: None,
            epochs: 0,
            volumes: volumes
                .map(|(number, volume)| failed_volume(*number, volume.minor))
                .collect(),
            link_reason: None,
            failed: Some(failed),
        })
    }

    /// Why a command can not be served by a resource whose thread has ended.
    pub(crate) fn ended(&self, target: &Target) -> Failure {
        let name = &target.name;
        let known = {
            let registry = self.registry.lock();
            let entry = registry.get(name).filter(|entry| target.is(entry));
            entry.map(|entry| (entry.failure.clone(), entry.is_going))
        };
        Failure::Error(match known {
            Some((Some(reason), _)) => {
                let advice = self.restarts.advice(name);
                format!("{name}: stopped: {reason}; {advice}")
            }
            Some((None, false)) => format!("{name}: its thread has ended; see the log of rdbd"),
            None if self.restarts.under_way(name).is_some() => format!(
                "{name}: it stopped on its own while the command waited, see the log of rdbd; it is being started again by \
                 itself: give the command again in a moment"
            ),
            // The other resources of the same command are no worse for that.
            Some((None, true)) | None => {
                return Refusal::failure(code::RES_NOT_KNOWN, TAKEN_DOWN).into();
            }
        })
    }

    /// Whether the thread of a resource has ended, or is being ended.
    pub(crate) fn has_ended(&self, target: &Target) -> bool {
        let registry = self.registry.lock();
        let entry = registry.get(&target.name).filter(|entry| target.is(entry));
        entry.is_none_or(|entry| entry.failure.is_some() || entry.is_going)
    }

    /// Waits for the turn of a command that changes a resource. Whoever had it before may have taken the resource down.
    pub(crate) async fn turn(&self, target: &Target) -> Outcome<OwnedMutexGuard<()>> {
        let turn = caller::turn(target).await?;
        match self.is_there(target) {
            true => Ok(turn),
            false => Err(self.ended(target)),
        }
    }

    /// Whether the resource that was looked up is still the one of its name.
    pub(crate) fn is_there(&self, target: &Target) -> bool {
        let registry = self.registry.lock();
        let entry = registry.get(&target.name);
        entry.is_some_and(|entry| target.is(entry))
    }
}

/// Nothing is known of it but its numbers.
fn failed_volume(volume: u16, minor: u32) -> VolumeReport {
    VolumeReport {
        volume,
        minor,
        role: Role::Unknown,
        peer_role: Role::Unknown,
        cstate: None,
        disk: DiskState::DUnknown,
        peer_disk: DiskState::DUnknown,
        suspended: Vec::new(),
        resync_suspended: Vec::new(),
        flags: "------".to_owned(),
        device: None,
        size_kib: 0,
        sent_kib: 0,
        received_kib: 0,
        written_kib: 0,
        read_kib: 0,
        al_writes: 0,
        bm_writes: 0,
        local_pending: 0,
        peer_pending: 0,
        unacked: 0,
        application_pending: 0,
        write_ordering: 'n',
        al_suspended: false,
        out_of_sync_kib: 0,
        no_space: None,
        sync: None,
        disk_reason: None,
        resync_reason: None,
    }
}

/// A volume of a resource that does not answer, for the status file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FailedLine {
    pub(crate) minor: u32,
    reason: String,
}

impl FailedLine {
    /// Those of a resource.
    pub(crate) fn of(entry: &Entry) -> Vec<FailedLine> {
        let reason = entry.failure.as_deref();
        let reason = reason.unwrap_or("its thread does not answer");
        let lines = entry.volumes.values().map(|volume| FailedLine {
            minor: volume.minor,
            // One line, whatever the words are.
            reason: reason.split_whitespace().collect::<Vec<_>>().join(" "),
        });
        lines.collect()
    }

    /// As the status file has it.
    pub(crate) fn text(&self) -> String {
        format!(
            "{:2}: cs:{FAILED} ro:Unknown/Unknown ds:DUnknown/DUnknown   ------\n    failed: {}\n",
            self.minor, self.reason
        )
    }
}

/// Starts again what stops. Ends with the node.
pub(crate) async fn follow(node: Rc<Node>, mut stopped: UnboundedReceiver<String>) {
    while let Some(name) = stopped.recv().await {
        let node = Rc::clone(&node);
        tokio::task::spawn_local(async move { node.restart_stopped(&name).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_by_itself_are_limited_within_a_window() {
        let restarts = Restarts::default();
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        for seconds in [0, 10, 20] {
            assert!(restarts.begin("r0", at(seconds)), "{seconds}");
        }
        assert!(!restarts.begin("r0", at(30)));
        assert!(restarts.begin("r1", at(30)), "another resource");
        assert!(!restarts.begin("r0", at(599)));
        assert!(restarts.begin("r0", at(601)), "the first counts no more");
        assert!(!restarts.begin("r0", at(602)));
        restarts.forget("r0");
        assert!(restarts.begin("r0", at(603)));
    }

    #[test]
    fn the_status_file_has_one_line_of_reason() {
        let line = FailedLine {
            minor: 7,
            reason: "broken invariant: x".to_owned(),
        };
        assert_eq!(
            line.text(),
            " 7: cs:Failed ro:Unknown/Unknown ds:DUnknown/DUnknown   ------\n    failed: broken invariant: x\n"
        );
    }
}
