//! `down`: everything of a resource goes, step by step.

use std::collections::BTreeMap;
use std::time::Duration;

use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{Command, VolumeNr, VolumeStatus};
use tokio::time::timeout;

use crate::caller;
use crate::node::Node;
use crate::outcome::{Failure, Outcome};
use crate::target::Target;

/// How often `down` looks whether what it waits for waits for space on a full disk.
const SPACE_POLL: Duration = Duration::from_millis(500);

impl Node {
    /// Demotes, disconnects, detaches, deletes (`docs/spec/behaviour.md`, section 12.11). Tells which generations the
    /// disks of the volumes ended with.
    pub(crate) async fn down(&self, name: &str) -> Outcome<BTreeMap<u16, u64>> {
        let generations = BTreeMap::new();
        let Ok(target) = self.resource(name) else {
            return Ok(generations);
        };
        let _turn = self.turn_for_down(&target).await?;
        if !self.is_there(&target) {
            // Another one before it has done all this, unless the resource is back already.
            let is_back = self.restarts.under_way(name).is_some() || self.resource(name).is_ok();
            return match is_back {
                true => Err(self.ended(&target)),
                false => Ok(generations),
            };
        }
        self.set_on_its_way_down(name, true);
        let done = self.step_down(&target).await;
        self.set_on_its_way_down(name, false);
        // Whoever has waited may go by its states again.
        self.changed.notify_waiters();
        done
    }

    fn set_on_its_way_down(&self, name: &str, is: bool) {
        if let Some(entry) = self.registry.lock().get_mut(name) {
            entry.is_on_its_way_down = is;
        }
    }

    async fn step_down(&self, target: &Target) -> Outcome<BTreeMap<u16, u64>> {
        let mut generations = BTreeMap::new();
        let at = |step: &'static str| move |failure| explain(failure, step);
        if target.failure.is_none() {
            for volume in self
                .volumes_where(target, |v| v.state.role == Role::Primary)
                .await?
            {
                let of_volume = Target {
                    number: volume.0,
                    ..target.clone()
                };
                self.demote_for_good(&of_volume)
                    .await
                    .map_err(at("failed to demote"))?;
            }
            let status = self.resource_status(target).await?;
            for volume in &status.volumes {
                if let Some((ids, _)) = volume.generation {
                    generations.insert(volume.volume.0, ids.current.bits());
                }
            }
            if status.connection.state != ConnState::StandAlone {
                let command = Command::Disconnect { force: false };
                self.command(target, command)
                    .await
                    .map_err(at("failed to disconnect"))?;
            }
            for volume in self
                .volumes_where(target, |v| v.state.disk != DiskState::Diskless)
                .await?
            {
                let command = Command::Detach {
                    volume,
                    force: false,
                };
                self.command(target, command)
                    .await
                    .map_err(at("failed to detach"))?;
            }
            for number in target.numbers.clone() {
                let of_volume = Target {
                    number,
                    ..target.clone()
                };
                self.del_volume(&of_volume)
                    .await
                    .map_err(at("failed to delete volume"))?;
            }
        }
        self.end_thread(target).await;
        Ok(generations)
    }

    /// The turn of `down`. A command before it may wait for space on a full disk; if nobody uses that it is given up.
    async fn turn_for_down(&self, target: &Target) -> Outcome<tokio::sync::OwnedMutexGuard<()>> {
        let mut turn = std::pin::pin!(caller::turn(target));
        loop {
            if let Ok(turn) = timeout(SPACE_POLL, turn.as_mut()).await {
                return turn;
            }
            // (It is a users' disk only if it is attached.)
            let full = |v: &VolumeStatus| {
                let in_use = v.state.role == Role::Primary && v.state.disk > DiskState::Attaching;
                v.no_space.is_some() && !in_use
            };
            self.give_up_full_disks(target, full).await;
        }
    }

    /// A demotion before the end: it waits for what users have written last, but not for space on a full disk. Whoever
    /// wrote that is gone, or the demotion would have been refused, and was never told that it was done.
    async fn demote_for_good(&self, target: &Target) -> Outcome<()> {
        let volume = target.volume();
        let mut demoted = std::pin::pin!(self.demote(target));
        loop {
            if let Ok(result) = timeout(SPACE_POLL, demoted.as_mut()).await {
                return result;
            }
            let full = |v: &VolumeStatus| v.volume == volume && v.no_space.is_some();
            self.give_up_full_disks(target, full).await;
        }
    }

    async fn give_up_full_disks(&self, target: &Target, is_one: impl Fn(&VolumeStatus) -> bool) {
        for volume in self.volumes_where(target, is_one).await.unwrap_or_default() {
            tracing::warn!(
                "drbd {}: volume {volume} waits for space on its disk and is going down: the disk is given up",
                target.name
            );
            let force = true;
            let detach = Command::Detach { volume, force };
            // What it was waited for tells of the end.
            target.handle.admin(detach, Box::new(|_| {}));
        }
    }

    async fn volumes_where(
        &self,
        target: &Target,
        is_wanted: impl Fn(&VolumeStatus) -> bool,
    ) -> Outcome<Vec<VolumeNr>> {
        let status = self.resource_status(target).await?;
        Ok(status
            .volumes
            .iter()
            .filter(|v| is_wanted(v))
            .map(|v| v.volume)
            .collect())
    }
}

/// Says which step of `down` it was.
fn explain(failure: Failure, step: &str) -> Failure {
    match failure {
        Failure::Refused(mut refusal) => {
            refusal.info = if refusal.info.is_empty() {
                step.to_owned()
            } else {
                format!("{step}\n{}", refusal.info)
            };
            Failure::Refused(refusal)
        }
        Failure::Error(text) => Failure::Error(format!("{step}: {text}")),
    }
}
