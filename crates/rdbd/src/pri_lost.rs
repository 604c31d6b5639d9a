//! A Primary that has lost: what `call-pri-lost-after-sb` and `rr-conflict call-pri-lost` come to where the handler leaves it running.
//!
//! Both policies say that this node's data are to go, which cannot be while it is Primary. DRBD calls a handler that is expected to
//! end the machine, and does nothing else: without one the node stays Primary and StandAlone. Here the node gives the role up by
//! itself once the handler has ended, or at once if none is configured, and connects anew, as it would after the machine has
//! come up again. Any command of the administrator's about the resource ends that: then he decides.

use std::rc::Rc;
use std::time::Duration;

use rdb_control::Op;
use rdb_engine::rules::trouble::Trouble;
use rdb_engine::state::{ConnState, Role};
use rdb_engine::{ResourceStatus, VolumeNr};
use tokio::time::{Instant, sleep};

use crate::holders::device_use;
use crate::node::Node;
use crate::outcome::words;
use crate::target::Target;

/// How long users of the device may take to go: cluster managers and handlers stop services, and unmount.
const GOING: Duration = Duration::from_secs(60);
/// How often is looked whether they have gone.
const POLL: Duration = Duration::from_secs(1);

impl Node {
    /// Gives up the role of a volume that has lost.
    pub(crate) async fn give_primary_up(self: Rc<Node>, resource: String, volume: VolumeNr) {
        let begun = Instant::now();
        let mut is_told = false;
        while let Some((target, minor)) = self.loser(&resource, volume).await {
            let users = self.user_of(&target, volume).await;
            if users.is_none() && self.is_losing(&resource, volume) {
                match self.secondary(minor).await {
                    Ok(()) => {
                        tracing::warn!(
                            "drbd {resource}/{volume}: it has lost, and is Secondary now"
                        );
                        return self.connect_again(&resource, volume).await;
                    }
                    Err(failure) => self.tell_stays(&resource, volume, &words(&failure)),
                }
            }
            if let Some(users) = users
                && !std::mem::replace(&mut is_told, true)
            {
                self.tell_stays(&resource, volume, users);
            }
            if begun.elapsed() > GOING {
                tracing::error!(
                    "drbd {resource}/{volume} drbd{minor}: still Primary after {} s; 'rdbadm secondary' and \
                     'rdbadm connect' are left to the administrator",
                    GOING.as_secs()
                );
                break;
            }
            sleep(POLL).await;
        }
        self.no_longer_loses(&resource, volume);
    }

    fn tell_stays(&self, resource: &str, volume: VolumeNr, why: &str) {
        tracing::warn!(
            "drbd {resource}/{volume}: it has lost and is to give up its data, and stays Primary: {why}"
        );
    }

    /// The volume, with its minor, if it is Primary still, parted from its peer because it should not be, and nobody has given another
    /// order.
    async fn loser(&self, resource: &str, volume: VolumeNr) -> Option<(Target, u32)> {
        let target = self.resource(resource).ok()?;
        let status = self.resource_status(&target).await.ok()?;
        let minor = primary_that_lost(&status, volume)?;
        let target = self.target(minor).ok()?;
        self.is_losing(resource, volume).then_some((target, minor))
    }

    fn is_losing(&self, resource: &str, volume: VolumeNr) -> bool {
        let mut registry = self.registry.lock();
        let entry = registry.get_mut(resource);
        entry.is_some_and(|entry| entry.losing.contains(&volume.0))
    }

    /// Takes the volume out of those that are to give up; whether it was one.
    fn no_longer_loses(&self, resource: &str, volume: VolumeNr) -> bool {
        let mut registry = self.registry.lock();
        let entry = registry.get_mut(resource);
        entry.is_some_and(|entry| entry.losing.remove(&volume.0))
    }

    /// In words, whether somebody uses the device.
    async fn user_of(&self, target: &Target, volume: VolumeNr) -> Option<&'static str> {
        let uses = device_use(target).await.ok()?;
        let mut uses = uses.iter().filter(|found| found.volume == volume);
        let is_used = uses.any(|found| found.is_held || found.clients > 0);
        is_used.then_some("somebody uses its device")
    }

    async fn connect_again(&self, resource: &str, volume: VolumeNr) {
        let Ok(target) = self.resource(resource) else {
            return;
        };
        let Ok(status) = self.resource_status(&target).await else {
            return;
        };
        let mut volumes = status.volumes.iter();
        let is_last = status.connection.state == ConnState::StandAlone
            && volumes.all(|v| v.state.role != Role::Primary);
        // (Another volume that has not given up yet is to connect.)
        if !self.no_longer_loses(resource, volume) || !is_last {
            return;
        }
        let connection = {
            let mut registry = self.registry.lock();
            let entry = registry.get_mut(resource);
            entry.and_then(|entry| entry.connection.clone())
        };
        if let Some(connection) = connection
            && let Err(failure) = self.connect(resource, connection, false, false).await
        {
            tracing::warn!("drbd {resource}: not connected again: {}", words(&failure));
        }
    }

    /// A command of the administrator's about a resource: its volumes that have lost do nothing by themselves any more.
    pub(crate) fn withdraw_losers(&self, op: &Op) {
        let name = match op {
            Op::Connect { resource, .. }
            | Op::Disconnect { resource, .. }
            | Op::Down { resource } => resource.clone(),
            Op::Primary { minor, .. }
            | Op::Secondary { minor }
            | Op::Detach { minor, .. }
            | Op::Invalidate { minor }
            | Op::InvalidateRemote { minor }
            | Op::Outdate { minor } => match self.target(*minor) {
                Ok(target) => target.name,
                Err(_) => return,
            },
            _ => return,
        };
        let mut registry = self.registry.lock();
        if let Some(entry) = registry.get_mut(&name)
            && !std::mem::take(&mut entry.losing).is_empty()
        {
            tracing::info!(
                "drbd {name}: it has lost; a command came, and the rest is left to the administrator"
            );
        }
    }
}

/// The minor of a volume that is Primary, and parted from its peer because it should not be.
fn primary_that_lost(status: &ResourceStatus, volume: VolumeNr) -> Option<u32> {
    let trouble = status.connection.trouble.as_ref()?.kind;
    let has_lost = status.connection.state == ConnState::StandAlone
        && matches!(trouble, Trouble::SplitBrain | Trouble::NoAgreement);
    let mut volumes = status.volumes.iter().filter(|_| has_lost);
    let found = volumes.find(|v| v.volume == volume && v.state.role == Role::Primary)?;
    Some(found.minor)
}
