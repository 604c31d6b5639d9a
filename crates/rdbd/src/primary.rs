//! `primary` and `secondary`: success is a device that can be used, or that nobody uses.

use std::time::Duration;

use rdb_control::{HistoryEvent, shell_word};
use rdb_engine::Command;
use rdb_engine::state::Role;
use rdb_frontend::Frontend;
use tokio::time::{Instant, timeout};

use crate::caller;
use crate::node::Node;
use crate::ops::WAIT_POLL;
use crate::outcome::{Failure, Outcome};
use crate::target::Target;

/// How long a device may take to appear after its volume became Primary.
const DEVICE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long one may take to go. A loop device in use is asked for again for ten seconds; then it is left to its user, without a disk.
const GONE_TIMEOUT: Duration = Duration::from_secs(15);

impl Node {
    /// Promotes, and waits for the device. Without one the promotion is taken back, if it was made by this.
    pub(crate) async fn primary(&self, minor: u32, force: bool) -> Outcome<()> {
        let target = self.target(minor)?;
        let _turn = self.turn(&target).await?;
        let volume = target.volume();
        let was_primary = self.volume_status(&target).await?.state.role == Role::Primary;
        self.command(&target, Command::Primary { volume, force })
            .await?;
        if force {
            let forced = HistoryEvent::ForcedPromotion;
            self.history.tell(&target.name, Some(volume), forced);
        }
        // Whoever asked wants to use the device now.
        let missing = tokio::select! {
            missing = self.missing_device(&target) => missing,
            () = caller::gone() => Some("its caller has gone before it was there".to_owned()),
        };
        match missing {
            None => Ok(()),
            Some(why) if was_primary => Err(Failure::Error(format!(
                "minor {minor} was Primary already and has no device: {why}"
            ))),
            Some(why) => Err(self.take_back(&target, minor, &why).await),
        }
    }

    /// Waits for the device; why there will be none.
    async fn missing_device(&self, target: &Target) -> Option<String> {
        let deadline = Instant::now() + DEVICE_TIMEOUT;
        loop {
            let changed = self.changed.notified();
            let found =
                self.look_at_volume(target, |volume| (volume.is_up, volume.no_device.clone()));
            match found {
                // It was removed meanwhile: somebody else's wish.
                None => return None,
                Some((_, Some(why))) => return Some(why),
                Some((true, None)) => return None,
                Some((false, None)) => {}
            }
            if Instant::now() >= deadline {
                let seconds = DEVICE_TIMEOUT.as_secs();
                return Some(format!("it did not appear within {seconds} seconds"));
            }
            let _ = timeout(WAIT_POLL, changed).await;
        }
    }

    /// An administrator's `primary`. Not while I/O is suspended: whoever makes the device, a loop device or the kernel, reads from it and
    /// writes to it, and would wait until somebody resumes it. Nor where `/dev/drbdN` is somebody else's.
    pub(crate) async fn primary_by_order(&self, minor: u32, force: bool) -> Outcome<()> {
        let target = self.target(minor)?;
        let state = self.volume_status(&target).await?.state;
        if state.role != Role::Primary && state.susp {
            return Err(Failure::Error(format!(
                "{}: I/O is suspended, and a device could not be made: 'rdbadm resume-io {}' first",
                target.name,
                shell_word(&target.name)
            )));
        }
        // Whoever asked means the device by that name, and would write to what stands there.
        let makes_nodes = self.serving.get().frontend != Frontend::Socket;
        if state.role != Role::Primary
            && makes_nodes
            && let Err(why) = self.names.check(minor).await
        {
            return Err(Failure::Error(format!(
                "minor {minor} could not have its name: {why}; it is not promoted"
            )));
        }
        self.primary(minor, force).await
    }

    pub(crate) async fn secondary(&self, minor: u32) -> Outcome<()> {
        let target = self.target(minor)?;
        let _turn = self.turn(&target).await?;
        self.demote(&target).await?;
        self.device_is_gone(&target).await;
        Ok(())
    }

    /// Waits until the device is given back: its number may be somebody else's then. Not for ever, for somebody may have opened it
    /// in its last moment. No name leads to it any more, and he gets nothing but errors.
    async fn device_is_gone(&self, target: &Target) {
        let gone = async {
            // That it is up may not have been heard yet.
            self.devices_are_heard().await;
            loop {
                let changed = self.changed.notified();
                let look = self.look_at_volume(target, |volume| volume.is_up || volume.is_going);
                if look != Some(true) {
                    return;
                }
                let _ = timeout(WAIT_POLL, changed).await;
            }
        };
        if timeout(GONE_TIMEOUT, gone).await.is_err() {
            tracing::warn!(
                "drbd {}/{}: its device is not given back after {} seconds",
                target.name,
                target.number,
                GONE_TIMEOUT.as_secs()
            );
        }
    }

    /// The thread of the resource finds out whether the device is held open.
    pub(crate) async fn demote(&self, target: &Target) -> Outcome<()> {
        let command = Command::Secondary {
            volume: target.volume(),
            held_open: false,
        };
        match self.command(target, command).await {
            Err(failure) => Err(self.with_holders(target, failure).await),
            done => done,
        }
    }

    async fn take_back(&self, target: &Target, minor: u32, why: &str) -> Failure {
        tracing::error!("drbd {}/{}: no device: {why}", target.name, target.number);
        let secondary = Command::Secondary {
            volume: target.volume(),
            held_open: false,
        };
        let what = match self.command(target, secondary).await {
            Ok(()) => {
                self.device_is_gone(target).await;
                "it is Secondary again"
            }
            Err(_) => "and it stays Primary, for it can not be made Secondary",
        };
        Failure::Error(format!("minor {minor} has no device: {why}; {what}"))
    }
}
