//! Taking over from the daemon before: bringing its resources up again, and those volumes Primary that were.
//!
//! After an orderly replacement everything comes back as it was. After a crash only those resources do whose devices
//! outlived the daemon, for their users wait; the others are left to whoever brings resources up, as after a crash of the
//! node. A volume becomes Primary again by itself only while its content is what its users know: not if the peer is Primary
//! now, if this node is to receive the peer's data, or if the nodes could not agree and are StandAlone.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdb_control::{
    DiskShown, Op, ReasonReport, TakeoverOutcome, TakeoverReport, VolumeTakeover, code, shell_word,
};
use rdb_engine::state::{ConnState, DiskState, Role, VolumeState};
use rdb_engine::{Command, VolumeNr};
use rdb_frontend::fuse::{left, leftovers};
use rdb_frontend::knbd;
use rdb_frontend::ublk::{self, Identity};
use tokio::time::{Instant, timeout};

use crate::fallback;
use crate::late_disk;
use crate::node::Node;
use crate::outcome::{Failure, Outcome, words};
use crate::record::{self, KeptPrimary, KeptResource};
use crate::registry;
use crate::takeover_state::Volume;
use crate::threads;

/// How long a volume waits for the peer before it becomes Primary alone: twice what a peer takes to try again (`connect-int`).
/// Together with the peer there is no new data generation and nothing to resync but what was under way.
const PEER_WAIT: Duration = Duration::from_secs(20);
/// How long bringing resources up may keep the control socket waiting.
const CONFIGURE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a disk that can not be opened is tried again.
const DISK_WAIT: Duration = Duration::from_secs(15);
/// How often a volume is looked at, beside every change of state.
const POLL: Duration = Duration::from_millis(300);

impl Node {
    /// Brings up what the daemon before has left. What takes its time goes on in the background. Tells why a resource that
    /// was handed over cannot be served by this program at all.
    pub(crate) async fn take_over(self: &Rc<Node>) -> Option<String> {
        let resources = match record::read(&self.run_dir) {
            Ok(resources) => resources,
            Err(error) => {
                self.problem(format!(
                    "{error}; nothing of the daemon before is brought up, devices it left wait for 'rdbadm up' and \
                     'rdbadm primary'"
                ));
                self.keeper.begin();
                return None;
            }
        };
        let node = Rc::clone(self);
        let work = tokio::task::spawn_local(async move {
            let mut reason = None;
            for kept in resources {
                if reason.is_some() && fallback::is_open() {
                    // The program before this one takes it, too.
                    node.takeover.borrow_mut().stranded.push(kept);
                    continue;
                }
                reason = node.take_over_resource(kept).await.or(reason);
            }
            if reason.is_some() && fallback::is_open() {
                return reason;
            }
            node.keeper.begin();
            node.name_volumes().await;
            // What goes wrong is logged.
            let _ = node.keep().await;
            None
        });
        match timeout(CONFIGURE_TIMEOUT, work).await {
            Ok(Ok(reason)) => reason,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => {
                tracing::warn!("taking over from the daemon before takes its time");
                None
            }
        }
    }

    async fn take_over_resource(self: &Rc<Node>, kept: KeptResource) -> Option<String> {
        let name = kept.shown.name.clone();
        if !kept.handed_over && !self.has_left_devices(&kept).await {
            self.names.forget(&kept).await;
            return None;
        }
        tracing::info!("drbd {name}: taking it over from the daemon before");
        if fallback::is_open()
            && let Err(failure) = self.create(&kept)
        {
            let why = words(&failure);
            self.takeover.borrow_mut().stranded.push(kept);
            return Some(format!("{name} can not be served: {why}"));
        }
        self.bring_back(kept).await;
        None
    }

    fn create(&self, kept: &KeptResource) -> Outcome<()> {
        let shown = &kept.shown;
        let inherited = kept
            .primaries
            .iter()
            .filter_map(|p| Some((VolumeNr(p.volume), p.generation?)))
            .collect();
        let handlers = shown.handlers.clone();
        self.new_resource(&shown.name, shown.options.clone(), handlers, inherited)
    }

    /// Brings a resource up as it was, and those volumes Primary, in the background, that were.
    pub(crate) async fn bring_back(self: &Rc<Node>, kept: KeptResource) {
        let name = kept.shown.name.clone();
        {
            let mut takeover = self.takeover.borrow_mut();
            takeover.volumes.retain(|volume| volume.resource != name);
            takeover
                .volumes
                .extend(kept.primaries.iter().map(|primary| Volume {
                    resource: name.clone(),
                    kept: primary.clone(),
                    connected: kept.connected,
                    outcome: TakeoverOutcome::Waiting(None),
                    pause_ms: None,
                }));
        }
        if let Err(failure) = self.bring_up(&kept).await {
            self.problem(format!("{name}: {}", words(&failure)));
            for primary in &kept.primaries {
                self.give_up(
                    primary.minor,
                    "the resource could not be brought up".to_owned(),
                );
            }
            return;
        }
        let (has_peer, wait) = (kept.shown.connection.is_some(), kept.connected);
        for primary in kept.primaries {
            let node = Rc::clone(self);
            tokio::task::spawn_local(async move { node.promote(primary, has_peer, wait).await });
        }
    }

    /// Takes away what a daemon that died has left and nobody will serve.
    pub(crate) async fn clear_leftovers(&self) {
        let (run_dir, sessions) = (self.run_dir.clone(), self.left_sessions.clone());
        let clear = move || {
            leftovers::clear(&run_dir.join("fuse"), |resource, volume| {
                sessions.has(&left::identity(&run_dir, resource, volume))
            });
        };
        let cleared = threads::run_in_any_case("clearing what a daemon before has left", clear);
        if timeout(CONFIGURE_TIMEOUT, cleared).await.is_err() {
            tracing::warn!("looking for what a daemon before has left takes its time");
        }
    }

    /// Whether users of this resource wait for a server.
    async fn has_left_devices(&self, kept: &KeptResource) -> bool {
        // A front end that does not take devices over removes them, so that nobody waits for ever.
        let volumes = kept
            .primaries
            .iter()
            .map(|primary| u32::from(primary.volume));
        let ublk_devices: Vec<Identity> = volumes
            .clone()
            .map(|volume| Identity::new(&self.run_dir, &kept.shown.name, volume))
            .collect();
        let nbd_devices: Vec<String> = volumes
            .map(|volume| knbd::identity(&self.run_dir, &kept.shown.name, volume))
            .collect();
        let mut sessions = kept
            .primaries
            .iter()
            .map(|primary| left::identity(&self.run_dir, &kept.shown.name, primary.volume.into()));
        if sessions.any(|identity| self.left_sessions.has(&identity)) {
            return true;
        }
        let look = move || {
            let has_ublk = ublk_devices.into_iter().any(|identity| {
                ublk::is_left(identity).unwrap_or_else(|error| {
                    tracing::warn!("looking for devices of the daemon before: {error}");
                    false
                })
            });
            has_ublk || nbd_devices.iter().any(|identity| knbd::is_left(identity))
        };
        let looked = threads::run_in_any_case("looking for devices of the daemon before", look);
        looked.await.unwrap_or(false)
    }

    async fn bring_up(self: &Rc<Node>, kept: &KeptResource) -> Outcome<()> {
        let shown = &kept.shown;
        self.create(kept)?;
        for volume in &shown.volumes {
            let new = registry::Volume {
                minor: volume.minor,
                implicit: volume.implicit,
                old_name: volume.old_name,
                ..registry::Volume::default()
            };
            self.new_minor(&shown.name, volume.volume, new).await?;
        }
        for volume in &shown.volumes {
            let Some(disk) = volume.disk.clone() else {
                continue;
            };
            // (Asked before: it may answer between the last attempt and the question.)
            let hung = late_disk::hangs(&disk).await;
            // The other volumes, and the peer, may do without it.
            if let Err(failure) = self.attach_patiently(volume.minor, disk.clone()).await {
                if hung {
                    self.attach_late(volume.minor, disk);
                    continue;
                }
                self.problem(format!(
                    "{}/{}: its disk can not be attached: {}",
                    shown.name,
                    volume.volume,
                    words(&failure)
                ));
            }
        }
        if kept.suspended
            && let Err(failure) = self.suspend_again(kept).await
        {
            self.problem(format!(
                "{}: its I/O was suspended and goes on now: {}",
                shown.name,
                words(&failure)
            ));
        }
        if let Some(connection) = shown.connection.clone()
            && let Err(failure) = self.connect(&shown.name, connection, false, false).await
        {
            self.problem(format!(
                "{}: no connection: {}",
                shown.name,
                words(&failure)
            ));
        }
        Ok(())
    }

    /// What an administrator has suspended stays so under this daemon, until he resumes it.
    async fn suspend_again(&self, kept: &KeptResource) -> Outcome<()> {
        let Some(volume) = kept.shown.volumes.first() else {
            return Ok(());
        };
        let target = self.target(volume.minor)?;
        let volume = target.volume();
        self.command(&target, Command::SuspendIo { volume }).await
    }

    /// A daemon that was killed holds its disks until what it had asked of them is done.
    async fn attach_patiently(&self, minor: u32, disk: DiskShown) -> Outcome<()> {
        let begun = Instant::now();
        loop {
            match self.attach(minor, disk.clone()).await {
                Err(Failure::Refused(refusal))
                    if matches!(refusal.code, code::OPEN_DISK | code::OPEN_MD_DISK)
                        && begun.elapsed() < DISK_WAIT =>
                {
                    tokio::time::sleep(POLL).await;
                }
                done => return done,
            }
        }
    }

    /// Makes a volume Primary as soon as it may be. `has_peer`: a connection was configured; `wait`: it was there.
    async fn promote(&self, kept: KeptPrimary, has_peer: bool, wait: bool) {
        let begun = Instant::now();
        let mut patience = Patience::default();
        while self.is_waiting(kept.minor) {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let Ok(target) = self.target(kept.minor) else {
                return self.give_up(kept.minor, "it was taken down".to_owned());
            };
            let Ok(volume) = self.volume_status(&target).await else {
                return self.give_up(kept.minor, "its thread does not answer".to_owned());
            };
            let may_wait = wait && begun.elapsed() < PEER_WAIT;
            match look(&volume.state, has_peer, may_wait) {
                Look::IsPrimary => return self.taken_over(&kept),
                Look::Never(reason) => return self.give_up(kept.minor, reason.to_owned()),
                Look::Wait => {}
                Look::Now if self.is_waiting(kept.minor) && patience.is_over(&volume.state) => {
                    match self.primary(kept.minor, false).await {
                        Ok(()) => return self.taken_over(&kept),
                        Err(failure) => self.refused(kept.minor, words(&failure)),
                    }
                    patience.refused(&volume.state);
                }
                Look::Now => {}
            }
            let _ = timeout(POLL, changed).await;
        }
    }

    fn with_takeover(&self, minor: u32, change: impl FnOnce(&mut Volume)) {
        let mut takeover = self.takeover.borrow_mut();
        if let Some(volume) = takeover
            .volumes
            .iter_mut()
            .find(|v| v.kept.minor == minor && v.is_waiting())
        {
            change(volume);
        }
    }

    fn is_waiting(&self, minor: u32) -> bool {
        if self.keeper.is_over() {
            return false;
        }
        let takeover = self.takeover.borrow();
        let mut volumes = takeover.volumes.iter();
        volumes.any(|v| v.kept.minor == minor && v.is_waiting())
    }

    fn taken_over(&self, kept: &KeptPrimary) {
        let pause_ms = kept
            .paused_at_ms
            .map(|since| now_ms().saturating_sub(since));
        self.with_takeover(kept.minor, |volume| {
            volume.outcome = TakeoverOutcome::Primary;
            volume.pause_ms = pause_ms;
            let (name, number, minor) = (&volume.resource, kept.volume, kept.minor);
            match pause_ms {
                Some(pause) => tracing::info!(
                    "drbd {name}/{number} drbd{minor}: Primary again, after a pause of {pause} ms"
                ),
                None => tracing::info!("drbd {name}/{number} drbd{minor}: Primary again"),
            }
        });
    }

    fn refused(&self, minor: u32, why: String) {
        self.with_takeover(minor, |volume| {
            let now = TakeoverOutcome::Waiting(Some(why.clone()));
            if volume.outcome != now {
                tracing::warn!(
                    "drbd {}/{} drbd{minor}: not Primary again yet: {why}",
                    volume.resource,
                    volume.kept.volume
                );
                volume.outcome = now;
            }
        });
    }

    fn give_up(&self, minor: u32, why: String) {
        if self.keeper.is_over() {
            return;
        }
        self.with_takeover(minor, |volume| {
            tracing::warn!(
                "drbd {}/{} drbd{minor}: was Primary and stays Secondary: {why}",
                volume.resource,
                volume.kept.volume
            );
            volume.outcome = TakeoverOutcome::GivenUp(why);
        });
    }

    fn problem(&self, text: String) {
        tracing::error!("{text}");
        self.takeover.borrow_mut().problems.push(text);
    }

    /// A command about a volume or its resource says what is to become of it.
    pub(crate) fn withdraw_takeover(&self, op: &Op) {
        if let Op::Detach { minor, .. } = op {
            self.forget_late_disk(*minor);
        }
        let is_meant = |volume: &Volume| match op {
            Op::Secondary { minor }
            | Op::Detach { minor, .. }
            | Op::Invalidate { minor }
            | Op::Outdate { minor }
            | Op::DelMinor { minor } => *minor == volume.kept.minor,
            Op::Down { resource } | Op::Disconnect { resource, .. } => *resource == volume.resource,
            _ => false,
        };
        let mut takeover = self.takeover.borrow_mut();
        for volume in &mut takeover.volumes {
            if volume.is_waiting() && is_meant(volume) {
                volume.outcome = TakeoverOutcome::GivenUp("another command came first".to_owned());
            }
        }
    }

    /// Refuses a `resume-io` that would let nobody go on: nothing is suspended, and users wait for their volume to be Primary again,
    /// which was refused and is another command's.
    pub(crate) async fn check_resumable(&self, minor: u32) -> Outcome<()> {
        let target = self.target(minor)?;
        let status = self.resource_status(&target).await?;
        if status.volumes.iter().any(|v| v.state.is_suspended()) {
            return Ok(());
        }
        let takeover = self.takeover.borrow();
        let mut volumes = takeover.volumes.iter().filter(|volume| volume.is_waiting());
        let is_it = |volume: &&Volume| {
            let is_refused = matches!(volume.outcome, TakeoverOutcome::Waiting(Some(_)));
            is_refused && volume.kept.minor == minor
        };
        match volumes.find(is_it) {
            Some(volume) => Err(Failure::Error(format!(
                "{name}/{}: its users wait until it is Primary again{}; if the peer is known to be down: 'rdbadm primary --force {word}'",
                volume.kept.volume,
                why(&volume.outcome),
                name = volume.resource,
                word = shell_word(&volume.resource),
            ))),
            None => Ok(()),
        }
    }

    /// Why users of a resource wait, if it is to become Primary again.
    pub(crate) fn waits_for_takeover(&self, resource: &str) -> Option<ReasonReport> {
        let takeover = self.takeover.borrow();
        let mut volumes = takeover.volumes.iter().filter(|volume| volume.is_waiting());
        let volume = volumes.find(|volume| volume.resource == resource)?;
        let since = volume.kept.paused_at_ms.map(|ms| ms / 1000);
        Some(ReasonReport {
            word: "takeover".to_owned(),
            text: format!(
                "users of the daemon before wait until volume {} is Primary again{}",
                volume.kept.volume,
                why(&volume.outcome)
            ),
            advice: Some(format!(
                "the peer ends it when it is back, or what is in the way when it has gone; once the peer is known to be down, 'rdbadm primary --force {}'",
                shell_word(resource)
            )),
            since_s: since,
        })
    }

    /// The volumes of a resource that are still to become Primary, and whether the peer is to be waited for.
    pub(crate) fn takeovers_of(&self, resource: &str) -> (Vec<KeptPrimary>, bool) {
        let takeover = self.takeover.borrow();
        let waiting = takeover
            .volumes
            .iter()
            .filter(|volume| volume.resource == resource && volume.is_waiting());
        let connected = waiting.clone().any(|volume| volume.connected);
        (
            waiting.map(|volume| volume.kept.clone()).collect(),
            connected,
        )
    }

    /// How far it is.
    pub(crate) fn takeover_report(&self) -> TakeoverReport {
        let takeover = self.takeover.borrow();
        let registry = self.registry.lock();
        let volumes = takeover.volumes.iter().map(|volume| VolumeTakeover {
            resource: volume.resource.clone(),
            volume: volume.kept.volume,
            minor: volume.kept.minor,
            outcome: volume.outcome.clone(),
            device: registry
                .get(&volume.resource)
                .and_then(|entry| entry.volumes.get(&volume.kept.volume))
                .and_then(|found| found.node.clone()),
            pause_ms: volume.pause_ms,
        });
        TakeoverReport {
            returned: fallback::returned(),
            done: !takeover.volumes.iter().any(Volume::is_waiting),
            problems: takeover.problems.clone(),
            volumes: volumes.collect(),
        }
    }
}

/// What a look at a volume says.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    IsPrimary,
    Now,
    Wait,
    Never(&'static str),
}

/// In brackets, what keeps a volume from being Primary again.
fn why(outcome: &TakeoverOutcome) -> String {
    match outcome {
        TakeoverOutcome::Waiting(Some(why)) => format!(" ({why})"),
        _ => String::new(),
    }
}

/// When a promotion that was refused is tried again. It may have called `fence-peer`, which is not to be run several times a second.
#[derive(Debug, Default)]
struct Patience {
    /// What the last refusal was met in, when the next attempt is due, and how long was waited for that.
    last: Option<(Met, Instant, Duration)>,
}

/// What a refusal depends on.
type Met = (bool, DiskState, Role, DiskState);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Patience {
    fn met(state: &VolumeState) -> Met {
        let is_connected = state.conn >= ConnState::Connected;
        (is_connected, state.disk, state.peer, state.pdsk)
    }

    fn is_over(&self, state: &VolumeState) -> bool {
        let waits = |(met, due, _): &(Met, Instant, Duration)| {
            *met == Patience::met(state) && Instant::now() < *due
        };
        !self.last.as_ref().is_some_and(waits)
    }

    fn refused(&mut self, state: &VolumeState) {
        let met = Patience::met(state);
        let pause = match &self.last {
            Some((before, _, pause)) if *before == met => (*pause * 2).min(LONGEST_PAUSE),
            _ => POLL,
        };
        self.last = Some((met, Instant::now() + pause, pause));
    }
}

/// `has_peer`: a connection was configured; `may_wait`: it may come in time.
fn look(state: &VolumeState, has_peer: bool, may_wait: bool) -> Look {
    use ConnState as C;
    if state.role == Role::Primary {
        return Look::IsPrimary;
    }
    if state.peer == Role::Primary {
        return Look::Never("the peer is Primary");
    }
    match state.conn {
        C::StandAlone if !has_peer => Look::Now,
        C::StandAlone | C::Disconnecting => {
            Look::Never("the nodes could not agree and are not connected; see the log")
        }
        C::Connected | C::SyncSource | C::PausedSyncS | C::VerifyS | C::VerifyT | C::Ahead => {
            Look::Now
        }
        C::StartingSyncT
        | C::WFBitMapT
        | C::WFSyncUUID
        | C::SyncTarget
        | C::PausedSyncT
        | C::Behind => Look::Never("the peer has newer data"),
        // It is being agreed upon.
        C::StartingSyncS | C::WFBitMapS | C::WFReportParams => Look::Wait,
        _ if may_wait => Look::Wait,
        _ => Look::Now,
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_primary_again_only_with_the_content_that_its_users_know() {
        use ConnState as C;
        let state = |conn| VolumeState {
            conn,
            ..VolumeState::INITIAL
        };
        let disagreed = "the nodes could not agree and are not connected; see the log";
        let newer = Look::Never("the peer has newer data");
        for (conn, has_peer, may_wait, wanted) in [
            (C::Connected, true, true, Look::Now),
            (C::SyncSource, true, true, Look::Now),
            (C::WFReportParams, true, false, Look::Wait),
            (C::WFBitMapS, true, false, Look::Wait),
            (C::WFConnection, true, true, Look::Wait),
            (C::WFConnection, true, false, Look::Now),
            (C::Unconnected, true, true, Look::Wait),
            (C::StandAlone, false, true, Look::Now),
            (C::StandAlone, true, true, Look::Never(disagreed)),
            (C::WFBitMapT, true, true, newer),
        ] {
            assert_eq!(look(&state(conn), has_peer, may_wait), wanted, "{conn}");
        }
        for conn in [C::SyncTarget, C::PausedSyncT, C::WFSyncUUID, C::Behind] {
            assert!(
                matches!(look(&state(conn), true, true), Look::Never(_)),
                "{conn}"
            );
        }
        let ours = VolumeState {
            role: Role::Primary,
            ..state(C::Connected)
        };
        assert_eq!(look(&ours, true, true), Look::IsPrimary);
        let theirs = VolumeState {
            peer: Role::Primary,
            ..state(C::Connected)
        };
        assert_eq!(
            look(&theirs, true, true),
            Look::Never("the peer is Primary")
        );
    }
}
