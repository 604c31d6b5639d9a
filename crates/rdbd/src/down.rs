//! `down`: everything of a resource goes, step by step.

use std::collections::BTreeMap;

use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{Command, VolumeNr, VolumeStatus};

use crate::caller;
use crate::node::Node;
use crate::ops::{Failure, Outcome};
use crate::target::Target;

impl Node {
    /// Demotes, disconnects, detaches, deletes (`docs/spec/behaviour.md`, section 12.11). Tells which generations the
    /// disks of the volumes ended with.
    pub(crate) async fn down(&self, name: &str) -> Outcome<BTreeMap<u16, u64>> {
        let mut generations = BTreeMap::new();
        let Ok(target) = self.resource(name) else {
            return Ok(generations);
        };
        let _turn = caller::turn(&target).await?;
        let at = |step: &'static str| move |failure| explain(failure, step);
        if target.failure.is_none() {
            for volume in self
                .volumes_where(&target, |v| v.state.role == Role::Primary)
                .await?
            {
                let of_volume = Target {
                    number: volume.0,
                    ..target.clone()
                };
                self.demote(&of_volume)
                    .await
                    .map_err(at("failed to demote"))?;
            }
            let status = self.resource_status(&target).await?;
            for volume in &status.volumes {
                if let Some((ids, _)) = volume.generation {
                    generations.insert(volume.volume.0, ids.current);
                }
            }
            if status.connection != ConnState::StandAlone {
                let command = Command::Disconnect { force: false };
                self.command(&target, command)
                    .await
                    .map_err(at("failed to disconnect"))?;
            }
            for volume in self
                .volumes_where(&target, |v| v.state.disk != DiskState::Diskless)
                .await?
            {
                let command = Command::Detach {
                    volume,
                    force: false,
                };
                self.command(&target, command)
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
        self.end_thread(&target).await;
        Ok(generations)
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
