//! Keeps the record as things are ([`crate::record`]).
//!
//! Each command has what it changed put on record before it is answered. It looks at its own resource alone, and takes the others as
//! they are on record: a look at all of them, at each step of each, would take a time that grows with their square, and wake all of their
//! threads. What changes without a command is put on record soon after ([`follow`]), which is told whose state it was, and looks
//! at all of them from time to time, for what is no change of state.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use rdb_engine::ResourceStatus;
use rdb_engine::state::{ConnState, Role};
use tokio::time::Instant;

use crate::node::Node;
use crate::record::{KeptError, KeptPrimary, KeptResource};
use crate::target::Target;

impl Node {
    /// Puts what runs on record, if that has changed.
    ///
    /// # Errors
    /// When the record can not be written.
    pub(crate) async fn keep(&self) -> Result<(), KeptError> {
        self.keep_by(|_| true).await
    }

    /// The same, by a look at these resources.
    ///
    /// # Errors
    /// When the record can not be written.
    pub(crate) async fn keep_of(&self, resources: BTreeSet<String>) -> Result<(), KeptError> {
        self.keep_by(|name| resources.contains(name)).await
    }

    async fn keep_by(&self, is_meant: impl Fn(&str) -> bool) -> Result<(), KeptError> {
        let keeper = &self.keeper;
        if !keeper.is_on() {
            return Ok(());
        }
        let _turn = keeper.turn().await;
        // (All at once: one after the other they would take the longer the more there are.)
        let (mut asked, mut order) = (Vec::new(), Vec::new());
        let known = keeper.known();
        for target in self.all() {
            let known = known.get(&target.name).filter(|_| !is_meant(&target.name));
            let known = known.filter(|known| self.is_as_on_record(&target, &known.kept));
            order.push(known.cloned());
            if known.is_none() {
                asked.push(target);
            }
        }
        let mut looked_at = self.status_of(asked).await.into_iter();
        let mut resources = Vec::new();
        for known in order {
            resources.extend(known.or_else(|| {
                let (target, status) = looked_at.next()?;
                self.kept(&target, status).map(|kept| Rc::new(kept.into()))
            }));
        }
        keeper.update(resources)
    }

    /// Whether a resource whose state has not changed is what is on record of it: nothing else is known of it that belongs there.
    fn is_as_on_record(&self, target: &Target, kept: &KeptResource) -> bool {
        let (taken_over, awaited) = self.takeovers_of(&target.name);
        target.failure.is_none()
            && self.restarts.under_way(&target.name).is_none()
            && taken_over.is_empty()
            && !awaited
            && kept.is_of_running()
    }

    /// What is to be on record of a resource.
    fn kept(&self, target: &Target, status: Option<ResourceStatus>) -> Option<KeptResource> {
        let keeper = &self.keeper;
        if let Some(kept) = self.restarts.under_way(&target.name) {
            return Some(kept);
        }
        // One that does not answer any more: as it was is how the next daemon should bring it up.
        let Some(status) = status.filter(|_| target.failure.is_none()) else {
            return keeper.last(&target.name);
        };
        let shown = self.on_record(target, Some(&status))?;
        let (mut primaries, awaited) = self.takeovers_of(&target.name);
        for volume in &status.volumes {
            let number = volume.volume.0;
            if volume.state.role == Role::Primary
                && !primaries.iter().any(|other| other.volume == number)
            {
                primaries.push(KeptPrimary {
                    volume: number,
                    minor: volume.minor,
                    generation: None,
                    paused_at_ms: None,
                });
            }
        }
        Some(KeptResource {
            shown,
            handed_over: false,
            connected: awaited || is_connected(&status),
            primaries,
            suspended: is_suspended(&status),
        })
    }
}

pub(crate) fn is_connected(status: &ResourceStatus) -> bool {
    let mut volumes = status.volumes.iter();
    volumes.any(|volume| volume.state.conn >= ConnState::Connected)
}

/// Whether an administrator has suspended the I/O of the resource's users. (A snapshot, which ends with this daemon, does so too: nobody
/// would resume it.)
pub(crate) fn is_suspended(status: &ResourceStatus) -> bool {
    let mut volumes = status.volumes.iter();
    let is_snapshot = status.snapshot.is_some_and(|snapshot| snapshot.is_own);
    !is_snapshot && volumes.any(|volume| volume.state.susp)
}

/// How long changes that nobody has ordered may wait for others.
const ROW: Duration = Duration::from_millis(50);

/// How long what is no change of state may wait, once anything has changed.
const ALL: Duration = Duration::from_secs(1);

/// Keeps the record as things are. Ends with the node.
pub(crate) async fn follow(node: Rc<Node>) {
    let mut looked_at_all: Option<Instant> = None;
    loop {
        let mut changed = std::pin::pin!(node.changed.notified());
        changed.as_mut().enable();
        let touched = node.touched.take();
        let next = looked_at_all
            .map(|at| at + ALL)
            .filter(|next| Instant::now() < *next);
        // What goes wrong is logged.
        if let Some(next) = next {
            let _ = node.keep_of(touched).await;
            let _ = tokio::time::timeout_at(next, changed).await;
        } else {
            let _ = node.keep().await;
            looked_at_all = Some(Instant::now());
            changed.await;
        }
        // Changes come in rows. What a command has brought about is on record before it is answered, whatever this waits for.
        tokio::time::sleep(ROW).await;
    }
}
