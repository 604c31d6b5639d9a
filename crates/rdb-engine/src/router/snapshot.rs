//! The peer's orders and answers, and the ends of handlers.

use replica_proto::{Packet, SnapshotAnswer, SnapshotOrder, SnapshotRefusal, SnapshotStep};

use crate::effect::{Effect, Level, SnapshotRun};
use crate::event::{Payload, Timer};
use crate::handler::Handler;
use crate::handling::{Run, Waits};
use crate::ids::{HandlerId, VolumeNr};
use crate::router::Resource;
use crate::rules::snapshot::{Facts, can_serve};

impl<P: Payload> Resource<P> {
    /// P_RDB_SNAPSHOT.
    pub(super) fn on_snapshot_order(&mut self, order: SnapshotOrder) {
        match (order.step, self.snapshots.is_held()) {
            (SnapshotStep::Take, true) => {
                self.protocol_error("P_RDB_SNAPSHOT begins a second one: no right peer does that");
            }
            (SnapshotStep::Take, false) => self.snapshot_wanted(order),
            (SnapshotStep::Over, false) => {
                self.protocol_error("P_RDB_SNAPSHOT ends none: no right peer does that");
            }
            (SnapshotStep::Over, true) => {
                self.give_up_held_snapshot(SnapshotRefusal::TimeOver);
                self.snapshots.let_go();
                self.clear_timer(Timer::Snapshot);
            }
        }
    }

    fn snapshot_wanted(&mut self, order: SnapshotOrder) {
        let refusal = self.snapshot_refusal();
        let runs = match refusal {
            Some(_) => None,
            None => Some(self.run_snapshot(order.name, None)),
        };
        self.snapshots
            .hold(order.name, self.now, self.net.session, runs);
        let answer = match refusal {
            Some(why) => {
                let text = alloc::format!("the peer's snapshot {} is refused: {why}", order.name);
                self.log(Level::Warn, text);
                SnapshotAnswer::Refused(why)
            }
            None => {
                let limit_ms = u64::from(order.limit_ms) + PEERS_PATIENCE_MS;
                self.set_timer(Timer::Snapshot, self.now.plus_ms(limit_ms));
                let text = alloc::format!("the peer takes snapshot {}", order.name);
                self.log(Level::Info, text);
                SnapshotAnswer::Begun
            }
        };
        self.send(VolumeNr(0), Packet::RdbSnapshotAnswer(answer), None);
    }

    /// What is looked at of each volume.
    pub(super) fn snapshot_facts(&self) -> impl Iterator<Item = Facts> {
        self.volumes.iter().map(|volume| Facts {
            state: volume.state,
            marked: volume.bits_set(),
        })
    }

    /// Why the peer's snapshot can not be taken here.
    fn snapshot_refusal(&self) -> Option<SnapshotRefusal> {
        if !self.options.handlers.has(Handler::Snapshot) {
            return Some(SnapshotRefusal::NoHandler);
        }
        if self.snapshots.own().is_some() || self.handling.runs(Handler::Snapshot) {
            return Some(SnapshotRefusal::Busy);
        }
        if !self.peer_writes.is_empty() {
            return Some(SnapshotRefusal::NotQuiet);
        }
        can_serve(self.snapshot_facts()).err()
    }

    /// P_RDB_SNAPSHOT_ANSWER.
    pub(super) fn on_snapshot_answer(&mut self, answer: SnapshotAnswer) {
        if self.snapshots.answered(answer).is_none() {
            self.protocol_error("P_RDB_SNAPSHOT_ANSWER answers nothing: no right peer sends that");
        }
    }

    /// Has the command run, or the configured handler. Whoever asks has seen that none runs.
    pub(super) fn run_snapshot(
        &mut self,
        name: replica_proto::SnapshotName,
        command: Option<alloc::string::String>,
    ) -> HandlerId {
        let handler = Handler::Snapshot;
        let volume = None;
        let waits = Waits::Snapshot;
        let (id, _) = self.handling.begin(Run {
            handler,
            volume,
            waits,
        });
        self.emit(Effect::RunHandler {
            id,
            handler,
            volume,
            snapshot: Some(SnapshotRun { name, command }),
        });
        id
    }

    /// A handler that was run for a snapshot has ended.
    pub(super) fn snapshot_ran(&mut self, id: HandlerId, exit: i32) {
        if let Some(answer) = self.snapshots.ran(id, exit) {
            self.clear_timer(Timer::Snapshot);
            self.send_snapshot_answer(answer);
        }
    }

    /// Ends a handler that nobody waits for any more.
    pub(super) fn end_snapshot_handler(&mut self, id: HandlerId) {
        self.handling.forget(id);
        self.emit(Effect::EndHandler { id });
    }

    /// Gives up what the peer has wanted, if it has not ended.
    fn give_up_held_snapshot(&mut self, why: SnapshotRefusal) {
        let Some(id) = self.snapshots.give_up_held() else {
            return;
        };
        let text = alloc::format!("the peer's snapshot is given up: {why}");
        self.log(Level::Warn, text);
        self.clear_timer(Timer::Snapshot);
        self.end_snapshot_handler(id);
        self.send_snapshot_answer(SnapshotAnswer::GivenUp(why));
    }

    fn send_snapshot_answer(&mut self, answer: SnapshotAnswer) {
        self.send(VolumeNr(0), Packet::RdbSnapshotAnswer(answer), None);
    }

    /// The time of the peer's is over, which has not said so.
    pub(super) fn held_snapshot_is_overdue(&mut self) {
        self.give_up_held_snapshot(SnapshotRefusal::TimeOver);
    }

    /// Whether the peer's snapshot can still be what it is to be.
    pub(super) fn poll_held_snapshot(&mut self) {
        if let Some(id) = self.snapshots.forget_others(self.net.session) {
            self.clear_timer(Timer::Snapshot);
            self.log(Level::Warn, "the peer's snapshot is given up: it is lost");
            self.end_snapshot_handler(id);
        }
        if self.snapshots.is_held()
            && let Err(why) = can_serve(self.snapshot_facts())
        {
            self.give_up_held_snapshot(why);
        }
    }
}

/// How much longer than it says a peer may take to say that its snapshot is over, before the handler here is ended: 5 s.
const PEERS_PATIENCE_MS: u64 = 5_000;
