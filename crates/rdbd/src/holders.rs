//! Who has a device open that is to be given up: a refusal names them.

use std::time::Duration;

use rdb_control::Refusal;
use rdb_engine::ResourceStatus;
use rdb_engine::state::{ConnState, DiskState, Role, VolumeState};
use rdb_frontend::fuse::left;
use rdb_runtime::DeviceUse;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::course::HELD_OPEN;
use crate::node::Node;
use crate::outcome::{Failure, Outcome};
use crate::target::Target;
use crate::threads;

/// How long finding out who uses the devices of a resource may take.
const USE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is looked whether the last user has gone.
const USERS_POLL: Duration = Duration::from_millis(300);

impl Node {
    /// Waits until nobody uses a device that would be gone with this process, or data that the peer has no other copy of. Whoever has told it to end may end it sooner.
    pub(crate) async fn wait_for_users(&self) {
        let mut told = String::new();
        loop {
            let mut users = Vec::new();
            for target in self.all() {
                users.extend(self.users_of(&target).await);
            }
            if users.is_empty() {
                return;
            }
            let users = users.join("; ");
            self.life.waits_for(&users);
            if users != told {
                tracing::warn!(
                    "not ended yet, for that would cut off who uses its devices: {users}"
                );
                told = users;
            }
            tokio::time::sleep(USERS_POLL).await;
        }
    }

    /// Who would be cut off, in words.
    async fn users_of(&self, target: &Target) -> Vec<String> {
        let mut users = Vec::new();
        if target.failure.is_some() {
            return users;
        }
        let Ok(status) = self.resource_status(target).await else {
            return users;
        };
        users.extend(users_on_the_peer(&target.name, &status));
        users.extend(self.users_of_left_devices(target).await);
        for found in device_use(target).await.unwrap_or_default() {
            let is_primary = status
                .volumes
                .iter()
                .any(|volume| volume.volume == found.volume && volume.state.role == Role::Primary);
            if !is_primary || !found.is_held || found.outlives {
                continue;
            }
            let of_volume = Target {
                number: found.volume.0,
                ..target.clone()
            };
            let held = Refusal::state(HELD_OPEN);
            let words = match self.with_holders(&of_volume, held.into()).await {
                Failure::Refused(refusal) => refusal.info,
                Failure::Error(text) => text,
            };
            users.push(format!("{}/{} is {words}", target.name, found.volume));
        }
        users
    }

    /// Who waits for a device that was handed over and is not served yet: a loop device goes with a daemon that does not hand it
    /// on. (The device is not asked, for nobody would answer.)
    async fn users_of_left_devices(&self, target: &Target) -> Vec<String> {
        let (waiting, _) = self.takeovers_of(&target.name);
        let (run_dir, name) = (self.run_dir.clone(), target.name.clone());
        let look = move || {
            let mut users = Vec::new();
            for volume in waiting.iter().map(|kept| kept.volume) {
                let holders = left::holders(&run_dir, &name, volume.into());
                if !holders.is_empty() {
                    let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
                    users.push(format!(
                        "{name}/{volume} is to be Primary again, and is held open by {}",
                        names.join(", ")
                    ));
                }
            }
            users
        };
        let looked = threads::run_in_any_case("looking for users of devices", look);
        looked.await.unwrap_or_default()
    }

    /// The same failure; if it is for users of the device, with their names.
    pub(crate) async fn with_holders(&self, target: &Target, failure: Failure) -> Failure {
        let Failure::Refused(refusal) = failure else {
            return failure;
        };
        if refusal.code != HELD_OPEN || !refusal.info.is_empty() {
            return refusal.into();
        }
        let node = self.look_at_volume(target, |volume| volume.node.clone());
        // Looks at every process.
        let look = move || node.flatten().map(|node| rdb_frontend::holders_of(&node));
        let holders = threads::run_in_any_case("looking for users of a device", look).await;
        let names: Vec<String> = holders
            .ok()
            .flatten()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect();
        let socket = self
            .run_dir
            .join("nbd")
            .join(format!("{}.sock", target.name));
        let info = if names.is_empty() {
            format!("held open by a client of {}", socket.display())
        } else {
            format!("held open by {}", names.join(", "))
        };
        Refusal { info, ..refusal }.into()
    }
}

/// Who uses the devices of a resource.
pub(crate) async fn device_use(target: &Target) -> Outcome<Vec<DeviceUse>> {
    let (reply, answer) = oneshot::channel();
    target
        .handle
        .device_use(Box::new(move |found| _ = reply.send(found)));
    match timeout(USE_TIMEOUT, answer).await {
        Ok(Ok(found)) => Ok(found),
        _ => Err(Failure::Error(format!(
            "{}: can not find out who uses its devices",
            target.name
        ))),
    }
}

/// The peer's users, in words, who would be left without data: it would refuse `disconnect`, too.
pub(crate) fn users_on_the_peer(name: &str, status: &ResourceStatus) -> Option<String> {
    let needs_us = |state: &VolumeState| {
        let is_theirs = state.conn >= ConnState::Connected && state.peer == Role::Primary;
        is_theirs && state.pdsk < DiskState::UpToDate && state.disk == DiskState::UpToDate
    };
    let volume = status.volumes.iter().find(|v| needs_us(&v.state))?;
    Some(format!(
        "{name}/{} is used by the peer, which is Primary and whose own disk is {}",
        volume.volume, volume.state.pdsk
    ))
}
