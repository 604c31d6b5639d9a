//! Keeps the record as things are ([`crate::record`]).

use std::rc::Rc;
use std::time::Duration;

use rdb_engine::ResourceStatus;
use rdb_engine::state::{ConnState, Role};

use crate::node::Node;
use crate::record::{KeptError, KeptPrimary, KeptResource};

impl Node {
    /// Puts what runs on record, if that has changed.
    ///
    /// # Errors
    /// When the record can not be written.
    pub(crate) async fn keep(&self) -> Result<(), KeptError> {
        let keeper = &self.keeper;
        if !keeper.is_on() {
            return Ok(());
        }
        let _turn = keeper.turn().await;
        let mut resources = Vec::new();
        // (All at once: one after the other they would take the longer the more there are, after each step of each.)
        for (target, status) in self.all_status().await {
            if let Some(kept) = self.restarts.under_way(&target.name) {
                resources.push(kept);
                continue;
            }
            if target.failure.is_some() {
                // It does not answer any more; as it was is how the next daemon should bring it up.
                resources.extend(keeper.last(&target.name));
                continue;
            }
            let Some(status) = status else {
                resources.extend(keeper.last(&target.name));
                continue;
            };
            let Some(shown) = self.on_record(&target, Some(&status)) else {
                continue;
            };
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
            resources.push(KeptResource {
                shown,
                handed_over: false,
                connected: awaited || is_connected(&status),
                primaries,
                suspended: is_suspended(&status),
            });
        }
        keeper.update(resources)
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

/// Keeps the record as things are. Ends with the node.
pub(crate) async fn follow(node: Rc<Node>) {
    loop {
        let mut changed = std::pin::pin!(node.changed.notified());
        changed.as_mut().enable();
        // What goes wrong is logged.
        let _ = node.keep().await;
        changed.await;
        // Changes come in rows. What a command has brought about is on record before it is answered, whatever this waits for.
        tokio::time::sleep(ROW).await;
    }
}
