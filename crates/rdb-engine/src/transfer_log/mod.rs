//! Epochs, on both sides: our writes that the peer has not yet made durable, and the peer's writes here.
//!
//! Writes of one epoch are free to pass one another; a barrier closes it (`docs/spec/wire.md`, section 7.3). The
//! writer may forget a write only when its epoch's barrier is acknowledged, so everything in the log is marked out of
//! sync if the peer is lost before.

mod mirror;
pub(crate) use self::mirror::{EPOCHS_MAX, FlushDue, MirrorEpochs};

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use replica_proto::BarrierNr;

use crate::ids::{RequestKey, Time};

/// Our replicated writes, oldest first.
#[derive(Debug, Default)]
pub(crate) struct TransferLog {
    /// The number of the epoch that writes join now. Not reset by a reconnect.
    epoch: u32,
    /// Writes sent in it.
    writes: u32,
    /// Closed epochs whose barrier is not acknowledged.
    closed: VecDeque<ClosedEpoch>,
    /// The newest of them, if its barrier is not sent.
    barrier_due: Option<u32>,
    /// The timer is set that sends it. Set with the first barrier that is due, cleared when it expires: without it each epoch
    /// would put off the barrier.
    timer_set: bool,
    /// When the peer last acknowledged a barrier; 0 before the first one. Nothing that was sent behind it had its turn before.
    acked_at: Time,
    entries: VecDeque<Entry>,
    /// Flushes that the peer does for us, each with the write that was sent last when it came: it is over when that has left the
    /// log. Set when the flush goes to the peer, cleared when it is over.
    flushes: BTreeMap<RequestKey, RequestKey>,
    /// The peer is lost, and what is in the log waits for its return, or until it is fenced. Set with the loss, cleared when
    /// the log is sent again or settled. Without it nobody would send again what the peer may lack.
    frozen: bool,
}

#[derive(Debug, Clone, Copy)]
struct ClosedEpoch {
    nr: u32,
    writes: u32,
    /// The peer owes the answer to its barrier since then; for an open epoch it owes none.
    closed_at: Time,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    epoch: u32,
    key: RequestKey,
    sent_at: Time,
}

/// What the peer owes for a write in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Debt {
    /// Its answer.
    Owed,
    /// Nothing but the barrier's: it has answered then (0 if that is not known).
    Paid(Time),
}

impl Debt {
    /// Of a request that is no more.
    pub(crate) const NONE: Debt = Debt::Paid(Time(0));
}

impl TransferLog {
    /// Writes whose epoch is not acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a write that is sent now; returns its epoch.
    pub(crate) fn push(&mut self, key: RequestKey, now: Time) -> u32 {
        self.writes += 1;
        self.entries.push_back(Entry {
            epoch: self.epoch,
            key,
            sent_at: now,
        });
        self.epoch
    }

    // ---- epochs --------------------------------------------------------------------------------------------------

    /// The epoch that writes join now.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether the epoch that writes join has so many.
    pub(crate) fn is_epoch_full(&self, most: u32) -> bool {
        self.writes >= most
    }

    /// Closes the epoch that writes join, if any has: its barrier is due, with the next packet that it must precede, or soon.
    /// Returns the time for which the timer is to be set, unless it is.
    pub(crate) fn close_epoch(&mut self, now: Time) -> Option<Time> {
        if self.writes == 0 {
            return None;
        }
        self.closed.push_back(ClosedEpoch {
            nr: self.epoch,
            writes: self.writes,
            closed_at: now,
        });
        self.barrier_due = Some(self.epoch);
        self.begin_epoch();
        let is_set = core::mem::replace(&mut self.timer_set, true);
        (!is_set).then(|| now.plus_ms(BARRIER_LATE_MS))
    }

    fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.writes = 0;
    }

    /// The timer of barriers that are due has expired.
    pub(crate) fn timer_expired(&mut self) {
        self.timer_set = false;
    }

    /// The barrier that is due, which is sent now.
    pub(crate) fn next_barrier(&mut self) -> Option<BarrierNr> {
        self.barrier_due.take().map(BarrierNr::from_u32)
    }

    /// The peer has acknowledged a barrier: the oldest closed epoch, whose writes are taken from the log one by one
    /// ([`TransferLog::next_durable`]). If it is another one, or a write of it is [owed](Debt), nothing is taken.
    ///
    /// # Errors
    /// What is wrong about it, if no right peer sends that.
    pub(crate) fn acknowledge(
        &mut self,
        barrier: BarrierNr,
        set_size: u32,
        now: Time,
        debt: impl Fn(RequestKey) -> Debt,
    ) -> Result<(), String> {
        let nr = barrier.to_u32();
        let oldest = self.closed.front();
        if !oldest.is_some_and(|closed| closed.nr == nr && closed.writes == set_size) {
            return Err(format!(
                "BAD! BarrierAck #{nr} received with n_writes={set_size}, expected {oldest:?}!"
            ));
        }
        let mut of_epoch = self.entries.iter().take_while(|entry| entry.epoch == nr);
        if of_epoch.any(|entry| debt(entry.key) == Debt::Owed) {
            // A barrier ack says that the epoch's writes are durable; an ack on its way cannot be overtaken.
            return Err(format!(
                "BAD! BarrierAck #{nr} before the ack of one of its writes!"
            ));
        }
        self.closed.pop_front();
        self.acked_at = now;
        Ok(())
    }

    /// The next write of an epoch whose barrier is acknowledged, taken from the log.
    pub(crate) fn next_durable(&mut self, barrier: BarrierNr) -> Option<RequestKey> {
        let oldest = self.entries.front()?;
        if oldest.epoch != barrier.to_u32() {
            return None;
        }
        self.entries.pop_front().map(|entry| entry.key)
    }

    /// Whether every write of this epoch and of those before has been acknowledged by its barrier.
    pub(crate) fn is_settled(&self, epoch: u32) -> bool {
        let oldest = self.entries.front();
        oldest.is_none_or(|e| matches!(e.epoch.wrapping_sub(epoch), 1..=0x7fff_ffff))
    }

    /// Since when the peer has owed something for longest: a write its acknowledgement, a barrier its own. (An epoch that stays open
    /// because our own disk does not answer is no debt of the peer's.)
    ///
    /// All writes are handed to the driver at once, and may wait there for a line that is slower than users are. What is sent in
    /// order has its turn in order: a write's debt begins when the peer has answered what was sent before it, a barrier's with the
    /// last write of its epoch. Otherwise a burst that takes the line longer than the limit would cost a peer that does all it can.
    pub(crate) fn owed_since(&self, debt: impl Fn(RequestKey) -> Debt) -> Option<Time> {
        let mut turn = self.acked_at;
        let barrier = self.closed.front();
        for entry in &self.entries {
            if let Some(closed) = barrier.filter(|closed| closed.nr != entry.epoch) {
                return Some(closed.closed_at.max(turn));
            }
            match debt(entry.key) {
                Debt::Owed => return Some(entry.sent_at.max(turn)),
                Debt::Paid(at) => turn = turn.max(at),
            }
        }
        barrier.map(|closed| closed.closed_at.max(turn))
    }

    // ---- a lost peer ---------------------------------------------------------------------------------------------

    /// The peer is lost: none of its epochs will be acknowledged, but what is in them is kept.
    pub(crate) fn freeze(&mut self) {
        self.forget_epochs();
        self.frozen = !self.entries.is_empty();
    }

    /// Whether it waits for a peer that was lost.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// The writes, oldest first, taken from the log; none of its epochs will be acknowledged.
    pub(crate) fn take(&mut self) -> Vec<RequestKey> {
        self.forget_epochs();
        self.frozen = false;
        self.entries.drain(..).map(|entry| entry.key).collect()
    }

    /// Some of the writes of a frozen log, oldest first, taken from it.
    pub(crate) fn take_those(&mut self, wanted: impl Fn(RequestKey) -> bool) -> Vec<RequestKey> {
        let (taken, left) = self.entries.drain(..).partition(|entry| wanted(entry.key));
        let taken: VecDeque<Entry> = taken;
        self.entries = left;
        self.frozen = !self.entries.is_empty();
        taken.into_iter().map(|entry| entry.key).collect()
    }

    fn forget_epochs(&mut self) {
        self.closed.clear();
        self.barrier_due = None;
        if self.writes > 0 {
            self.begin_epoch();
        }
    }

    // ---- what is in it -------------------------------------------------------------------------------------------

    /// The log as it is, oldest first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = RequestKey> + '_ {
        self.entries.iter().map(|e| e.key)
    }

    /// Whether this write is in it.
    pub(crate) fn contains(&self, key: RequestKey) -> bool {
        self.keys().any(|other| other == key)
    }

    /// The write that was sent last.
    pub(crate) fn newest(&self) -> Option<RequestKey> {
        self.entries.back().map(|entry| entry.key)
    }

    /// A flush is over when what is in the log has left it. Says whether there is something.
    pub(crate) fn await_all(&mut self, flush: RequestKey) -> bool {
        let newest = self.newest();
        self.flushes.extend(newest.map(|last| (flush, last)));
        newest.is_some()
    }

    /// Flushes that are over.
    pub(crate) fn take_flushed(&mut self) -> Vec<RequestKey> {
        let waiting = self.flushes.iter();
        let over = waiting.filter(|&(_, &last)| !self.contains(last));
        let over: Vec<RequestKey> = over.map(|(&flush, _)| flush).collect();
        for flush in &over {
            self.flushes.remove(flush);
        }
        over
    }

    /// Flushes that are not over.
    pub(crate) fn flushes(&self) -> impl Iterator<Item = RequestKey> + '_ {
        self.flushes.keys().copied()
    }

    /// What was sent after a write that is in it.
    pub(crate) fn sent_after(&self, key: RequestKey) -> impl Iterator<Item = RequestKey> + '_ {
        self.keys().skip_while(move |&other| other != key).skip(1)
    }

    /// # Panics
    /// If its epochs and its writes differ: of a lost peer there is none that could be acknowledged.
    pub(crate) fn check(&self) {
        let closed: u32 = self.closed.iter().map(|epoch| epoch.writes).sum();
        let sent = if self.frozen { 0 } else { self.entries.len() };
        assert_eq!((closed + self.writes) as usize, sent, "{self:?}");
        let newest = self.closed.back().map(|epoch| epoch.nr);
        assert!(
            self.barrier_due.is_none_or(|nr| Some(nr) == newest),
            "{self:?}"
        );
    }
}

/// How long the barrier of an epoch may wait for a packet to go out with. The writer's activity log waits for the answer,
/// its application does not.
const BARRIER_LATE_MS: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const NONE_OWED: fn(RequestKey) -> Debt = |_| Debt::Paid(Time(0));

    /// Two closed epochs, of writes 0 and 1, and of 2; and an open one, of 3. Sent at 10, 11, 12, 13; closed at 15 and 20.
    fn log() -> TransferLog {
        let mut log = TransferLog::default();
        log.push(0, Time(10));
        log.push(1, Time(11));
        assert_eq!(log.close_epoch(Time(15)), Some(Time(15).plus_ms(5)));
        assert_eq!(log.next_barrier(), Some(BarrierNr::from_u32(0)));
        assert_eq!(log.push(2, Time(12)), 1);
        assert_eq!(log.close_epoch(Time(20)), None, "the timer is set");
        assert_eq!(log.close_epoch(Time(21)), None, "no write joined it");
        log.push(3, Time(13));
        log.check();
        log
    }

    #[test]
    fn a_barrier_ack_takes_its_epoch_and_no_other() {
        let mut log = log();
        let [first, second] = [0, 1].map(BarrierNr::from_u32);
        assert!(log.acknowledge(second, 1, Time(30), NONE_OWED).is_err());
        assert!(log.acknowledge(first, 1, Time(30), NONE_OWED).is_err());
        let owes = |key| if key == 1 { Debt::Owed } else { NONE_OWED(key) };
        assert!(log.acknowledge(first, 2, Time(30), owes).is_err());
        assert!(!log.is_settled(0));
        let owes = |key| if key == 2 { Debt::Owed } else { NONE_OWED(key) };
        assert_eq!(log.acknowledge(first, 2, Time(30), owes), Ok(()));
        assert_eq!(log.next_durable(first), Some(0));
        assert_eq!(log.next_durable(first), Some(1));
        assert_eq!(log.next_durable(first), None);
        assert!(log.is_settled(0) && !log.is_settled(1));
        log.check();
    }

    #[test]
    fn a_flush_is_over_when_what_was_sent_before_it_has_left_the_log() {
        let mut log = log();
        assert!(log.await_all(7) && log.await_all(6));
        assert_eq!(log.take_flushed(), []);
        log.check();
        let frozen = log.take();
        assert!(frozen.len() > 1 && log.take_flushed() == [6, 7]);
        assert!(log.take_flushed().is_empty() && log.flushes().next().is_none());
        assert!(!log.await_all(8), "there is nothing to wait for");
    }

    #[test]
    fn a_debt_begins_when_what_was_sent_before_is_answered() {
        let mut log = log();
        assert_eq!(log.owed_since(|_| Debt::Owed), Some(Time(10)));
        let first_at = |at| move |key| if key == 0 { Debt::Paid(at) } else { Debt::Owed };
        assert_eq!(log.owed_since(first_at(Time(0))), Some(Time(11)));
        assert_eq!(log.owed_since(first_at(Time(25))), Some(Time(25)));
        // All of the first epoch is answered: its barrier comes before later writes.
        let second_at = |at| move |key| if key < 2 { Debt::Paid(at) } else { Debt::Owed };
        assert_eq!(log.owed_since(second_at(Time(14))), Some(Time(15)));
        assert_eq!(log.owed_since(second_at(Time(17))), Some(Time(17)));
        // For what has not been closed no barrier is owed.
        let barrier = BarrierNr::from_u32(0);
        log.acknowledge(barrier, 2, Time(30), NONE_OWED).unwrap();
        while log.next_durable(barrier).is_some() {}
        assert_eq!(log.owed_since(NONE_OWED), Some(Time(30)));
        let barrier = BarrierNr::from_u32(1);
        log.acknowledge(barrier, 1, Time(40), NONE_OWED).unwrap();
        while log.next_durable(barrier).is_some() {}
        assert_eq!(log.owed_since(NONE_OWED), None);
    }

    #[test]
    fn what_is_frozen_waits_and_no_barrier_is_due_for_it() {
        let mut log = log();
        log.freeze();
        log.check();
        assert!(log.is_frozen() && log.next_barrier().is_none());
        assert_eq!(log.take_those(|key| key % 2 == 0), [0, 2]);
        assert_eq!((log.newest(), log.contains(2)), (Some(3), false));
        assert!(log.is_frozen());
        assert_eq!(log.take(), [1, 3]);
        assert!(!log.is_frozen());
        log.check();
        assert_eq!(log.push(4, Time(50)), 3);
        log.freeze();
        assert_eq!(
            log.epoch(),
            4,
            "an epoch of a lost peer is not gone on with"
        );
    }
}
