//! Epochs, on both sides: our writes that the peer has not yet made durable, and the peer's writes here.
//!
//! Writes of one epoch are free to pass one another; a barrier closes it (`docs/spec/wire.md`, section 7.3). The
//! writer may forget a write only when its epoch's barrier is acknowledged, so everything in the log is marked out of
//! sync if the peer is lost before.

mod mirror;
pub(crate) use self::mirror::{EPOCHS_MAX, FlushDue, MirrorEpochs};

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::ids::{RequestKey, Time};

/// Our replicated writes, oldest first.
#[derive(Debug, Default)]
pub(crate) struct TransferLog {
    /// The number of the epoch that writes join now. Not reset by a reconnect.
    pub(crate) epoch: u32,
    /// Writes sent in it.
    pub(crate) writes: u32,
    /// Closed epochs whose barrier is not acknowledged.
    pub(crate) closed: VecDeque<ClosedEpoch>,
    /// The newest of them, if its barrier is not sent.
    pub(crate) barrier_due: Option<u32>,
    pub(crate) barrier_timer: bool,
    /// When the peer last acknowledged a barrier; 0 before the first one. Nothing that was sent behind it had its turn before.
    pub(crate) acked_at: Time,
    pub(crate) entries: VecDeque<Entry>,
    /// The peer is lost, and what is in the log waits for its return, or until it is fenced. Set with the loss, cleared when
    /// the log is sent again or settled. Without it nobody would send again what the peer may lack.
    frozen: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ClosedEpoch {
    pub(crate) nr: u32,
    pub(crate) writes: u32,
    /// The peer owes the answer to its barrier since then; for an open epoch it owes none.
    pub(crate) closed_at: Time,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) epoch: u32,
    pub(crate) key: RequestKey,
    pub(crate) sent_at: Time,
}

impl TransferLog {
    /// Writes whose epoch is not acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
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

    /// Whether every write of this epoch and of those before has been acknowledged by its barrier.
    pub(crate) fn is_settled(&self, epoch: u32) -> bool {
        let oldest = self.entries.front();
        oldest.is_none_or(|e| matches!(e.epoch.wrapping_sub(epoch), 1..=0x7fff_ffff))
    }

    /// The peer is lost: none of its epochs will be acknowledged, but what is in them is kept.
    pub(crate) fn freeze(&mut self) {
        self.forget_epochs();
        self.frozen = !self.entries.is_empty();
    }

    /// Whether it waits for a peer that was lost.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// The writes, oldest first, taken from the log.
    pub(crate) fn take(&mut self) -> Vec<RequestKey> {
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

    pub(crate) fn forget_epochs(&mut self) {
        self.closed.clear();
        self.barrier_due = None;
        if self.writes > 0 {
            self.epoch = self.epoch.wrapping_add(1);
            self.writes = 0;
        }
    }

    /// The log as it is, for a peer that is lost.
    pub(crate) fn keys(&self) -> impl Iterator<Item = RequestKey> + '_ {
        self.entries.iter().map(|e| e.key)
    }
}
