//! A Primary that has lost: what `call-pri-lost-after-sb` and `rr-conflict call-pri-lost` come to where the handler leaves it running.
//!
//! Both policies say that this node's data are to go, which cannot be while it is Primary. DRBD calls a handler that is expected to
//! end the machine, and does nothing else: without one the node stays Primary and StandAlone. Here the node gives the role up by
//! itself once the handler has ended, or at once if none is configured, and connects anew, as it would after the machine has
//! come up again.

use std::rc::Rc;
use std::time::Duration;

use rdb_engine::rules::trouble::Trouble;
use rdb_engine::state::{ConnState, Role};
use rdb_engine::{ResourceStatus, VolumeNr};
use tokio::time::{Instant, sleep};

use crate::node::Node;
use crate::outcome::words;

/// How long users of the device may take to go: cluster managers and handlers stop services, and unmount.
const GOING: Duration = Duration::from_secs(60);
/// How often is looked whether they have gone.
const POLL: Duration = Duration::from_secs(1);

impl Node {
    /// Gives up the role of a volume that has lost.
    pub(crate) async fn give_primary_up(self: Rc<Node>, resource: String, volume: VolumeNr) {
        let begun = Instant::now();
        let mut is_told = false;
        loop {
            let Ok(target) = self.resource(&resource) else {
                return;
            };
            let Ok(status) = self.resource_status(&target).await else {
                return;
            };
            // (The administrator may have come first, or the handler.)
            let Some(minor) = primary_that_lost(&status, volume) else {
                return;
            };
            match self.secondary(minor).await {
                Ok(()) => break,
                Err(failure) if !is_told => {
                    is_told = true;
                    tracing::warn!(
                        "drbd {resource}/{volume} drbd{minor}: it has lost and is to give up its data, and stays \
                         Primary: {}",
                        words(&failure)
                    );
                }
                Err(_) if begun.elapsed() > GOING => {
                    tracing::error!(
                        "drbd {resource}/{volume} drbd{minor}: still Primary after {} s; 'rdbadm secondary' and \
                         'rdbadm connect' are left to the administrator",
                        GOING.as_secs()
                    );
                    return;
                }
                Err(_) => {}
            }
            sleep(POLL).await;
        }
        tracing::warn!("drbd {resource}/{volume}: it has lost, and is Secondary now");
        self.connect_again(&resource).await;
    }

    async fn connect_again(&self, resource: &str) {
        let Ok(target) = self.resource(resource) else {
            return;
        };
        let Ok(status) = self.resource_status(&target).await else {
            return;
        };
        let mut volumes = status.volumes.iter();
        if status.connection != ConnState::StandAlone
            || volumes.any(|v| v.state.role == Role::Primary)
        {
            return; // another volume has not given up yet, and is to connect
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
}

/// The minor of a volume that is Primary, and parted from its peer because it should not be.
fn primary_that_lost(status: &ResourceStatus, volume: VolumeNr) -> Option<u32> {
    let trouble = status.trouble.as_ref()?.kind;
    let has_lost = status.connection == ConnState::StandAlone
        && matches!(trouble, Trouble::SplitBrain | Trouble::NoAgreement);
    let mut volumes = status.volumes.iter().filter(|_| has_lost);
    let found = volumes.find(|v| v.volume == volume && v.state.role == Role::Primary)?;
    Some(found.minor)
}
