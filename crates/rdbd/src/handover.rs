//! Handing over to the next daemon: `restart`, and what is left when the daemon is told to end.
//!
//! A device that can outlive the daemon is parked: its users wait. Then its resource goes down as for an administrator,
//! Secondary first, so that the disk says nothing of a crash and the next daemon has nothing to repair or to resync. If that
//! takes too long, a dead peer perhaps, the resource ends as in a crash, which the next daemon repairs by the activity log.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rdb_control::Refusal;
use rdb_engine::state::{DiskState, Role};
use rdb_engine::{ResourceStatus, VolumeNr};
use rdb_runtime::DeviceUse;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::keep::{KeptPrimary, KeptResource, is_connected};
use crate::node::Node;
use crate::ops::{Failure, Outcome};
use crate::takeover::{now_ms, words};
use crate::target::Target;

/// How long finding out who uses the devices of a resource may take.
const USE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a resource may take to come down in order: requests under way end, the peer answers.
const DOWN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the thread of a resource may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the new daemon may take to look whether it could run.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);
/// "Device is held open by someone" (`docs/spec/admin.md`, section 4.4).
const HELD_OPEN: i32 = -12;

/// What is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Everything comes back with the next daemon.
    All,
    /// Only what is in use and can wait; everything else goes down for good.
    InUse,
}

impl Node {
    /// Makes everything ready for the next daemon, which takes this process over when the answer is out.
    pub(crate) async fn restart(
        self: &Rc<Node>,
        program: Option<PathBuf>,
        force: bool,
    ) -> Outcome<Value> {
        if self.successor.borrow().is_some() {
            return Err(Failure::Error("it is being replaced already".to_owned()));
        }
        let program = program.unwrap_or_else(|| self.program.clone());
        check_program(&program).await.map_err(Failure::Error)?;
        for target in self.all() {
            self.check_users(&target, force).await?;
        }
        if self.successor.replace(Some(program.clone())).is_some() {
            return Err(Failure::Error("it is being replaced already".to_owned()));
        }
        tracing::info!("replaced by {} as asked", program.display());
        self.hand_over(What::All).await;
        self.end.notify_one();
        Ok(Value::Null)
    }

    /// Refuses what would cost users their device.
    async fn check_users(&self, target: &Target, force: bool) -> Outcome<()> {
        if target.failure.is_some() {
            return Ok(());
        }
        let status = self.resource_status(target).await?;
        for found in device_use(target).await? {
            let volume = status.volumes.iter().find(|v| v.volume == found.volume);
            let Some(volume) = volume.filter(|v| v.state.role == Role::Primary) else {
                continue;
            };
            let state = volume.state;
            let why = if found.clients > 0 && !force {
                format!(
                    "{} client(s) of the NBD socket would be cut off. If they connect again by themselves, or may be \
                     lost, use --force",
                    found.clients
                )
            } else if !found.is_held {
                continue;
            } else if !found.outlives {
                "a loop device can not wait for the next daemon; unmount it first, or use a ublk device".to_owned()
            } else if state.disk != DiskState::UpToDate {
                format!(
                    "its disk is {}: only users of a device with an UpToDate disk here can wait for the next daemon",
                    state.disk
                )
            } else if state.peer == Role::Primary {
                "the peer is Primary too: users here can not wait for the next daemon".to_owned()
            } else {
                continue;
            };
            let mut refusal = Refusal::state(HELD_OPEN);
            refusal.info = format!("{}/{}: {why}", target.name, found.volume);
            return Err(refusal.into());
        }
        Ok(())
    }

    /// Takes everything down, parks what is to be handed over, and puts that on record.
    pub(crate) async fn hand_over(self: &Rc<Node>, what: What) {
        self.keeper.stop();
        let mut works = Vec::new();
        for target in self.all() {
            let node = Rc::clone(self);
            works.push(tokio::task::spawn_local(async move {
                node.hand_over_one(&target, what).await
            }));
        }
        let mut kept = Vec::new();
        for work in works {
            match work.await {
                Ok(resource) => kept.extend(resource),
                Err(error) => tracing::error!("handing over: {error}"),
            }
        }
        self.keeper.finish(kept);
    }

    /// `None`: it goes down for good.
    async fn hand_over_one(&self, target: &Target, what: What) -> Option<KeptResource> {
        let name = &target.name;
        if target.failure.is_some() {
            let kept = self.keeper.last(name).filter(|_| what == What::All);
            self.end_as_it_is(target).await;
            return kept.map(|kept| KeptResource {
                handed_over: true,
                ..kept
            });
        }
        let status = self.resource_status(target).await.ok();
        let shown = self.shown(target, status.as_ref());
        let mut parked = parked(device_use(target).await.unwrap_or_default(), what);
        let is_kept = what == What::All || !parked.is_empty();
        // Those that were still to become Primary are to do so under the next daemon.
        let (mut primaries, awaited) = self.takeovers_of(name);
        parked.extend(primaries.iter().map(|primary| VolumeNr(primary.volume)));
        let paused_at_ms = now_ms();
        if is_kept {
            primaries.extend(primaries_of(&status, paused_at_ms));
        }
        if what == What::All {
            // Their clients may be cut off: that was looked at, or is wanted.
            parked = primaries.iter().map(|p| VolumeNr(p.volume)).collect();
        }
        target.handle.park(parked);
        let generations = match timeout(DOWN_TIMEOUT, self.down(name)).await {
            Ok(Ok(generations)) => generations,
            went => {
                let why = match went {
                    Ok(Err(failure)) => format!("does not come down cleanly: {}", words(&failure)),
                    _ => format!(
                        "did not come down within {} seconds",
                        DOWN_TIMEOUT.as_secs()
                    ),
                };
                tracing::warn!("drbd {name}: {why}; it is stopped as it is");
                self.end_as_it_is(target).await;
                BTreeMap::new()
            }
        };
        if !is_kept && primaries.is_empty() {
            return None;
        }
        for primary in &mut primaries {
            primary.generation = generations
                .get(&primary.volume)
                .copied()
                .or(primary.generation);
        }
        Some(KeptResource {
            shown: shown?,
            handed_over: true,
            connected: awaited || status.as_ref().is_some_and(is_connected),
            primaries,
        })
    }

    /// As in a crash, which the next start repairs.
    async fn end_as_it_is(&self, target: &Target) {
        let handle = target.handle.clone();
        handle.stop();
        let joined = tokio::task::spawn_blocking(move || handle.join());
        if timeout(END_TIMEOUT, joined).await.is_err() {
            tracing::error!("drbd {}: its thread does not end", target.name);
        }
    }
}

/// Which devices wait for the next daemon.
fn parked(uses: Vec<DeviceUse>, what: What) -> Vec<VolumeNr> {
    uses.into_iter()
        .filter(|found| found.outlives && (what == What::All || found.is_held))
        .map(|found| found.volume)
        .collect()
}

fn primaries_of(status: &Option<ResourceStatus>, paused_at_ms: u64) -> Vec<KeptPrimary> {
    let volumes = status.iter().flat_map(|status| &status.volumes);
    volumes
        .filter(|volume| volume.state.role == Role::Primary)
        .map(|volume| KeptPrimary {
            volume: volume.volume.0,
            minor: volume.minor,
            generation: None,
            paused_at_ms: Some(paused_at_ms),
        })
        .collect()
}

async fn device_use(target: &Target) -> Outcome<Vec<DeviceUse>> {
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

/// Whether a program is a daemon that could run here now: settings, front end, and the record of what runs.
async fn check_program(program: &Path) -> Result<(), String> {
    let path = program.to_owned();
    let run = tokio::task::spawn_blocking(move || {
        Command::new(path)
            .args(arguments())
            .arg("--check")
            .stdin(Stdio::null())
            .output()
    });
    let refused = |why: String| Err(format!("{} can not take over: {why}", program.display()));
    match timeout(CHECK_TIMEOUT, run).await {
        Ok(Ok(Ok(output))) if output.status.success() => Ok(()),
        Ok(Ok(Ok(output))) => {
            let said = String::from_utf8_lossy(&output.stderr);
            refused(format!("{}: {}", output.status, said.trim()))
        }
        Ok(Ok(Err(error))) => refused(error.to_string()),
        Ok(Err(error)) => refused(error.to_string()),
        Err(_) => refused(format!(
            "it does not answer within {} seconds",
            CHECK_TIMEOUT.as_secs()
        )),
    }
}

/// The words that this daemon was started with, for the next one.
pub(crate) fn arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().skip(1)
}
