//! Handing over to the next daemon: `restart`, and what is left when the daemon is told to end.
//!
//! A device that can outlive the daemon is parked: its users wait. Then its resource goes down as for an administrator,
//! Secondary first, so that the disk says nothing of a crash and the next daemon has nothing to repair or to resync. A peer that
//! does not answer is left. If it takes too long all the same, the resource ends as in a crash, which the next daemon repairs by the
//! activity log. So does one with requests of users that are frozen: they cannot be answered, and the device asks the next
//! daemon for them again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use rdb_control::Refusal;
use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{Command, ResourceStatus, VolumeNr, VolumeStatus};
use rdb_frontend::fuse::left::can_resend;
use rdb_runtime::DeviceUse;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::course::HELD_OPEN;
use crate::fallback::arguments;
use crate::holders::{device_use, users_on_the_peer};
use crate::keep::{is_connected, is_suspended};
use crate::node::Node;
use crate::outcome::{Failure, Outcome, words};
use crate::record::{KeptError, KeptPrimary, KeptResource};
use crate::takeover::now_ms;
use crate::target::Target;
use crate::threads;

/// How long a resource may take to come down in order: requests under way end, the peer answers.
const DOWN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the peer may take for its part of that, while users wait. After that it is left without its consent, and the next
/// daemon does not wait for it.
const PEER_TIMEOUT: Duration = Duration::from_secs(4);
/// The same of one whose I/O is suspended and had nothing that waits: a request that came since then keeps it from going down.
const SUSPENDED_DOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the thread of a resource may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the new daemon may take to look whether it could run.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);

/// "State change was refused by peer node" (`docs/spec/admin.md`, section 4.4).
const REFUSED_BY_PEER: i32 = -10;

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
        let program = program.unwrap_or_else(|| self.program.clone());
        // Whoever is overtaken by another restart, or by the end, hears of that, and not of what has gone by then.
        tokio::select! {
            biased;
            refused = self.life.serves_no_more() => return Err(refused),
            checked = self.check_restart(&program, force) => checked?,
        }
        self.life.begin_replacement(program.clone())?;
        // Until here nothing was touched; from the record on there is no way back for this process.
        let plans = match self.put_on_record(What::All).await {
            Ok(plans) => plans,
            Err(error) => {
                self.life.cancel_replacement();
                return Err(Failure::Error(format!(
                    "{error}: the next rdbd would not know what runs; nothing was touched"
                )));
            }
        };
        tracing::info!("replaced by {} as asked", program.display());
        self.carry_out_all(plans).await;
        self.life.finish_replacement();
        Ok(Value::Null)
    }

    async fn check_restart(&self, program: &Path, force: bool) -> Outcome<()> {
        check_program(program).await.map_err(Failure::Error)?;
        for target in self.all() {
            self.check_users(&target, force).await?;
        }
        Ok(())
    }

    /// Refuses what would cost users their device, here or on the peer.
    async fn check_users(&self, target: &Target, force: bool) -> Outcome<()> {
        if target.failure.is_some() {
            return Ok(());
        }
        let status = self.resource_status(target).await?;
        if let Some(users) = users_on_the_peer(&target.name, &status)
            && !force
        {
            let mut refusal = Refusal::state(REFUSED_BY_PEER);
            refusal.info = format!("{users}. If they may be lost, use --force");
            return Err(refusal.into());
        }
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
            } else if !found.can_be_handed_over {
                "it can not wait for the next daemon".to_owned()
            } else if !found.outlives
                && volume.frozen.is_some_and(|f| f.requests > 0)
                && !can_resend()
            {
                "requests wait while I/O is suspended, and this kernel (before Linux 6.9) does not ask the next daemon \
                 for them"
                    .to_owned()
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

    /// Takes everything down, parks what is to be handed over, and puts that on record: before, for the case that this
    /// process dies meanwhile, and after.
    pub(crate) async fn hand_over(self: &Rc<Node>, what: What) {
        let plans = match self.put_on_record(what).await {
            Ok(plans) => plans,
            Err(plans_without_record) => {
                // This process ends in any case; the failure was logged.
                self.keeper.stop();
                plans_without_record.plans
            }
        };
        // Whoever waits for something of it is told.
        self.changed.notify_waiters();
        self.carry_out_all(plans).await;
    }

    /// Makes everything ready for the program before this one, which this one cannot replace.
    pub(crate) async fn hand_back(self: &Rc<Node>) {
        self.hand_over(What::All).await;
    }

    /// Finds out what becomes of every resource and writes it down. If it can not be written, everything goes on as before.
    async fn put_on_record(self: &Rc<Node>, what: What) -> Result<Vec<Plan>, NoRecord> {
        let mut plans = Vec::new();
        for target in self.all() {
            let node = Rc::clone(self);
            plans.push(tokio::task::spawn_local(async move {
                node.plan(target, what).await
            }));
        }
        let plans = all(plans).await;
        let planned = plans.iter().filter_map(|plan| plan.kept.clone());
        let planned = planned.chain(self.stranded()).collect();
        match self.keeper.write(planned) {
            Ok(()) => {
                self.keeper.stop();
                Ok(plans)
            }
            Err(error) => Err(NoRecord { error, plans }),
        }
    }

    async fn carry_out_all(self: &Rc<Node>, plans: Vec<Plan>) {
        let mut works = Vec::new();
        for plan in plans {
            let node = Rc::clone(self);
            works.push(tokio::task::spawn_local(async move {
                node.carry_out(plan).await
            }));
        }
        let kept = all(works).await.into_iter().flatten();
        self.keeper.finish(kept.chain(self.stranded()).collect());
    }

    /// What was handed over and could not be brought up here at all.
    fn stranded(&self) -> Vec<KeptResource> {
        self.takeover.borrow().stranded.clone()
    }

    async fn plan(&self, target: Target, what: What) -> Plan {
        let name = &target.name;
        if target.failure.is_some() {
            // It does not answer any more; as it was last is how it should be.
            let kept = self.keeper.last(name).map(|kept| KeptResource {
                handed_over: what == What::All,
                ..kept
            });
            return Plan {
                target,
                kept,
                parked: Vec::new(),
                frozen: Frozen::No,
            };
        }
        let status = self.resource_status(&target).await.ok();
        let mut parked = parked(device_use(&target).await.unwrap_or_default(), what);
        let is_kept = what == What::All || !parked.is_empty();
        // Those that were still to become Primary are to do so under the next daemon.
        let (mut primaries, awaited) = self.takeovers_of(name);
        parked.extend(primaries.iter().map(|primary| VolumeNr(primary.volume)));
        if is_kept {
            primaries.extend(primaries_of(&status, now_ms()));
        }
        if what == What::All {
            // Their clients may be cut off: that was looked at, or is wanted.
            parked = primaries.iter().map(|p| VolumeNr(p.volume)).collect();
        }
        let kept = self
            .on_record(&target, status.as_ref())
            .filter(|_| is_kept || !primaries.is_empty())
            .map(|shown| KeptResource {
                shown,
                handed_over: true,
                connected: awaited || status.as_ref().is_some_and(is_connected),
                primaries,
                suspended: status.as_ref().is_some_and(is_suspended),
            });
        let frozen = status.as_ref().map_or(Frozen::No, Frozen::of);
        Plan {
            target,
            kept,
            parked,
            frozen,
        }
    }

    /// What is to be on record in the end.
    async fn carry_out(&self, plan: Plan) -> Option<KeptResource> {
        let Plan {
            target,
            mut kept,
            parked,
            frozen,
        } = plan;
        if target.failure.is_some() {
            self.end_as_it_is(&target).await;
            return kept;
        }
        let name = &target.name;
        target.handle.park(parked);
        let limit = match frozen {
            Frozen::No => DOWN_TIMEOUT,
            Frozen::Idle => SUSPENDED_DOWN_TIMEOUT,
            Frozen::Waiting => {
                tracing::info!(
                    "drbd {name}: it is stopped as it is: requests wait, and do so for the next rdbd"
                );
                self.end_as_it_is(&target).await;
                return kept;
            }
        };
        match timeout(limit, self.bring_down(&target, &mut kept)).await {
            Ok(Ok(generations)) => {
                for primary in kept.iter_mut().flat_map(|kept| &mut kept.primaries) {
                    let ended_with = generations.get(&primary.volume).copied();
                    primary.generation = ended_with.or(primary.generation);
                }
            }
            went => {
                let why = match went {
                    Ok(Err(failure)) => format!("does not come down cleanly: {}", words(&failure)),
                    _ => format!("did not come down within {} seconds", limit.as_secs()),
                };
                tracing::warn!("drbd {name}: {why}; it is stopped as it is");
                self.end_as_it_is(&target).await;
            }
        }
        kept
    }

    /// Takes a resource down, and leaves a peer that does not answer.
    async fn bring_down(
        &self,
        target: &Target,
        kept: &mut Option<KeptResource>,
    ) -> Outcome<BTreeMap<u16, u64>> {
        let name = &target.name;
        let mut down = std::pin::pin!(self.down(name));
        if let Ok(done) = timeout(PEER_TIMEOUT, down.as_mut()).await {
            return done;
        }
        let status = self.resource_status(target).await?;
        if status.connection.state == ConnState::StandAlone {
            return down.await;
        }
        tracing::warn!(
            "drbd {name}: not down within {} seconds: the peer is left without its consent",
            PEER_TIMEOUT.as_secs()
        );
        if let Some(kept) = kept {
            kept.connected = false;
        }
        let leave = Command::Disconnect { force: true };
        // What waited for the peer tells of the end.
        target.handle.admin(leave, Box::new(|_| {}));
        match down.await {
            // The step that has waited for the peer's consent has ended with the connection.
            Err(_) => self.down(name).await,
            done => done,
        }
    }

    /// As in a crash, which the next start repairs.
    async fn end_as_it_is(&self, target: &Target) {
        target.handle.stop();
        let ended = threads::end_of(&target.handle);
        if timeout(END_TIMEOUT, ended).await.is_err() {
            tracing::error!("drbd {}: its thread does not end", target.name);
        }
    }
}

/// What runs could not be written down.
#[derive(thiserror::Error)]
#[error("{error}")]
struct NoRecord {
    error: KeptError,
    plans: Vec<Plan>,
}

impl std::fmt::Debug for NoRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

/// What becomes of a resource.
struct Plan {
    target: Target,
    /// For the next daemon; `None`: it goes down for good.
    kept: Option<KeptResource>,
    /// Volumes whose devices wait.
    parked: Vec<VolumeNr>,
    frozen: Frozen,
}

/// Whether its users' I/O is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Frozen {
    No,
    /// By an administrator, and no request waits.
    Idle,
    /// Requests wait, or may: to go down in order it would have to answer them.
    Waiting,
}

impl Frozen {
    fn of(status: &ResourceStatus) -> Frozen {
        let volumes = status.volumes.iter();
        let of_volume = |volume: &VolumeStatus| match &volume.frozen {
            _ if volume.state.role != Role::Primary || !volume.state.is_suspended() => Frozen::No,
            Some(frozen)
                if frozen.requests == 0 && !(volume.state.susp_fen || volume.state.susp_nod) =>
            {
                Frozen::Idle
            }
            _ => Frozen::Waiting,
        };
        volumes.map(of_volume).max().unwrap_or(Frozen::No)
    }
}

/// What the tasks end with.
async fn all<T>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut ended = Vec::new();
    for task in tasks {
        match task.await {
            Ok(value) => ended.push(value),
            Err(error) => tracing::error!("handing over: {error}"),
        }
    }
    ended
}

/// Which devices wait for the next daemon.
fn parked(uses: Vec<DeviceUse>, what: What) -> Vec<VolumeNr> {
    uses.into_iter()
        .filter(|found| match what {
            What::All => found.can_be_handed_over,
            What::InUse => found.outlives && found.is_held,
        })
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
            generation: volume.generation.map(|(ids, _)| ids.current.bits()),
            paused_at_ms: Some(paused_at_ms),
        })
        .collect()
}

/// Whether a program is a daemon that could run here now: settings, front end, and the record of what runs.
async fn check_program(program: &Path) -> Result<(), String> {
    let path = program.to_owned();
    let run = threads::run("asking it", move || {
        std::process::Command::new(path)
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
        Ok(Ok(Err(error))) => refused(format!("it can not be run: {error}")),
        Ok(Err(error)) => refused(error.to_string()),
        Err(_) => refused(format!(
            "it does not answer within {} seconds",
            CHECK_TIMEOUT.as_secs()
        )),
    }
}
