//! Resources whose thread has ended on its own: a broken invariant of ours, or an io_uring that does not work any more.
//!
//! What such a thread had in memory is not trusted. For its resource it is as if the daemon had crashed: the disks are opened
//! anew, their activity log says what may differ from the peer, the connection is made anew, and a volume that was Primary
//! becomes so again as it would under the next daemon ([`crate::takeover`]). That is done by itself, but not without end: who
//! makes it stop once can do so again. Beyond the limit the resource stays as it is, is shown as failed, and waits for an
//! administrator.

use std::rc::Rc;

use rdb_control::{
    ConnState, FailedReport, Refusal, ResourceReport, VolumeReport, code, shell_word,
};
use tokio::sync::OwnedMutexGuard;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::caller;
use crate::handlers;
use crate::node::Node;
use crate::outcome::{Failure, Outcome};
use crate::restarts::{RESTART_WINDOW, RESTARTS_MAX};
use crate::target::Target;
use crate::threads;

/// What is said to a command that was given before its resource was taken down, and had not begun.
const TAKEN_DOWN: &str = "the resource was taken down while the command waited";

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
        if !is_failed || self.keeper.is_over() || self.life.is_being_replaced() {
            return;
        }
        let kept = self.keeper.last(name);
        let (Some(kept), true) = (kept, self.restarts.begin(name, Instant::now())) else {
            self.restarts.give_up(name);
            tracing::error!(
                "drbd {name}: not started again by itself: that was done {RESTARTS_MAX} times within {} minutes. Once its \
                 reason is known, 'rdbadm down {word}' and 'rdbadm up {word}' start it anew.",
                RESTART_WINDOW.as_secs() / 60,
                word = shell_word(name)
            );
            return;
        };
        // It has told of its end, so this is short.
        threads::end_of(&target.handle).await;
        tracing::warn!("drbd {name}: started again, as after a crash of the daemon");
        self.restarts.start(kept.clone());
        self.registry.lock().remove(name);
        self.events.tell_removed(name);
        drop(turn);
        self.bring_back(kept).await;
        self.restarts.end(name);
        self.name_volumes().await;
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
            owed_ms: 0,
            volumes: volumes
                .map(|(number, volume)| VolumeReport::unknown(*number, volume.minor))
                .collect(),
            link_reason: None,
            record_reason: None,
            daemon_reason: None,
            handlers: handlers::report(entry),
            io_reason: None,
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

/// Starts again what stops. Ends with the node.
pub(crate) async fn follow(node: Rc<Node>, mut stopped: UnboundedReceiver<String>) {
    while let Some(name) = stopped.recv().await {
        let node = Rc::clone(&node);
        tokio::task::spawn_local(async move { node.restart_stopped(&name).await });
    }
}
