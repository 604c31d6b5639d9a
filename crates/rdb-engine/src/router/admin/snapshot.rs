//! `snapshot`: the disks of both nodes at one moment (`docs/handlers.md`, "Snapshots").
//!
//! Users' I/O is suspended as by `suspend-io`, and goes on whatever happens: each way out leads through `end_snapshot`.

use alloc::format;
use alloc::string::{String, ToString};

use replica_proto::{Packet, SnapshotOrder, SnapshotStep};

use crate::admin::Stage;
use crate::disk::{MdKind, Then};
use crate::effect::{AdminError, Level};
use crate::event::{Command, Payload, SnapshotWish, Timer};
use crate::handler::Handler;
use crate::ids::VolumeNr;
use crate::planted::Bug;
use crate::router::Resource;
use crate::rules::snapshot::{Unfit, can_take};
use crate::snapshot::Next;
use crate::state::Change;

impl<P: Payload> Resource<P> {
    pub(super) fn step_snapshot(&mut self, wish: SnapshotWish, stage: Stage) {
        if stage == Stage::Start {
            if let Err(why) = self.begin_snapshot(&wish) {
                self.admin_done(Err(AdminError::unnumbered(format!(
                    "no snapshot is taken: {why}"
                ))));
            }
            return;
        }
        if let Err(why) = self.is_snapshot_fit(&wish) {
            return self.end_snapshot(Some(why));
        }
        match stage {
            Stage::Quiet(_) if self.is_in_flight() && !self.planted(Bug::SnapshotTooSoon) => {
                // (What was frozen may have been sent again since.)
                self.close_epoch();
                self.send_barrier();
            }
            Stage::Quiet(_) => {
                self.admin.enter(Stage::Taking);
                self.flush_for_snapshot();
                self.step_admin();
            }
            _ => self.go_on_with_snapshot(wish),
        }
    }

    fn begin_snapshot(&mut self, wish: &SnapshotWish) -> Result<(), String> {
        can_take(self.snapshot_facts(), wish.with_peer, false).map_err(|why| why.to_string())?;
        if let Some(why) = self.snapshots.busy() {
            return Err(why.to_string());
        }
        if self.handling.runs(Handler::Snapshot) {
            return Err("the handler of an earlier one has not ended".to_string());
        }
        if wish.command.is_none() && !self.options.handlers.has(Handler::Snapshot) {
            return Err("no handler 'snapshot' is configured, and no command is given".to_string());
        }
        if wish.with_peer && !self.net.agreed.takes_snapshots() {
            return Err("the peer is no rdb that takes part in snapshots".to_string());
        }
        let Some(first) = self.volumes.next_nr(None) else {
            return Err(Unfit::NoVolume.to_string());
        };
        let change = Change::default().and_susp(true);
        if let Err(error) = self.change(first, change, false) {
            self.log_refusal(first, error, change);
            return Err(error.to_string());
        }
        let session = wish.with_peer.then_some(self.net.session);
        self.snapshots.begin(wish.name, self.now, session);
        let at = self.now.plus_ms(wish.limit_ms.into());
        self.set_timer(Timer::Snapshot, at);
        self.log(Level::Info, format!("snapshot {} begins", wish.name));
        self.close_epoch();
        self.send_barrier();
        self.admin.enter(Stage::Quiet(session));
        self.step_admin();
        Ok(())
    }

    fn is_snapshot_fit(&self, wish: &SnapshotWish) -> Result<(), String> {
        let with = self.snapshots.own().and_then(|own| own.with());
        if with.is_some_and(|session| session != self.net.session) {
            return Err("the connection was lost".to_string());
        }
        can_take(self.snapshot_facts(), wish.with_peer, true).map_err(|why| why.to_string())
    }

    /// What users have written is durable here too: a snapshot may be taken of what is below the disk's cache.
    fn flush_for_snapshot(&mut self) {
        if self.planted(Bug::SnapshotTooSoon) {
            return;
        }
        let begun = self.admin.number();
        for nr in self.volume_numbers() {
            if self.volume(nr).has_usable_disk() {
                self.snapshots.flush_begins();
                self.md(nr, MdKind::FlushData, Then::SnapshotFlushed(begun));
            }
        }
    }

    /// A disk was flushed for the snapshot of the command of this number, or was given up.
    pub(in crate::router) fn snapshot_flushed(&mut self, begun: u32) {
        if self.admin.number() == begun {
            self.snapshots.flush_ended();
        }
    }

    fn go_on_with_snapshot(&mut self, wish: SnapshotWish) {
        let Some(own) = self.snapshots.own() else {
            return;
        };
        match own.next() {
            Next::Wait => {}
            Next::Ask => {
                self.snapshots.ask(self.net.session);
                self.send_snapshot_order(&wish, SnapshotStep::Take);
            }
            Next::Run => {
                let id = self.run_snapshot(wish.name, wish.command);
                self.snapshots.runs(id);
            }
            Next::Over => self.end_snapshot(None),
        }
    }

    fn send_snapshot_order(&mut self, wish: &SnapshotWish, step: SnapshotStep) {
        let order = SnapshotOrder {
            step,
            limit_ms: wish.limit_ms,
            name: wish.name,
        };
        self.send(VolumeNr(0), Packet::RdbSnapshot(order), None);
    }

    /// The snapshot is over, whatever has become of it, and I/O goes on. `why` it had to end.
    pub(super) fn end_snapshot(&mut self, why: Option<String>) {
        let Some(own) = self.snapshots.end() else {
            return;
        };
        let command = self.admin.current().map(|op| op.command().clone());
        let Some(Command::Snapshot { wish }) = command else {
            return;
        };
        self.clear_timer(Timer::Snapshot);
        if let Some(id) = own.running() {
            self.end_snapshot_handler(id);
        }
        // Before any write that the peer gets.
        if own.is_told() && own.with() == Some(self.net.session) {
            self.send_snapshot_order(&wish, SnapshotStep::Over);
        }
        let result = match why {
            None if own.is_good() => {
                self.log(Level::Info, format!("snapshot {} is taken", wish.name));
                Ok(())
            }
            why => {
                let account = own.account();
                let text = match why {
                    Some(why) => format!("{why}; {account}"),
                    None => account,
                };
                self.log(Level::Warn, format!("snapshot {}: {text}", wish.name));
                Err(AdminError::unnumbered(format!(
                    "the snapshot has failed: {text}"
                )))
            }
        };
        self.admin_done(result);
        self.unsuspend(Change::default().and_susp(false));
    }

    /// The time of a snapshot is over: of the own one, or of the peer's.
    pub(in crate::router) fn on_snapshot_timer(&mut self) {
        let Some(Command::Snapshot { wish }) = self.admin.current().map(|op| op.command()) else {
            return self.held_snapshot_is_overdue();
        };
        if self.snapshots.own().is_none() {
            return self.held_snapshot_is_overdue();
        }
        let seconds = f64::from(wish.limit_ms) / 1000.0;
        self.end_snapshot(Some(format!("it took longer than {seconds} s")));
    }

    /// Whether the command in progress is a snapshot that has begun; then it is ended.
    pub(super) fn withdraw_snapshot(&mut self) {
        self.end_snapshot(Some("the command was taken back".to_string()));
    }
}
