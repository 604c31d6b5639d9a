//! What users have asked for of a volume: what waits, how much is open, and what holds it back.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::ids::RequestKey;

/// The users of a volume.
#[derive(Debug, Default)]
pub(crate) struct Users {
    /// Requests that are not answered.
    asked: u32,
    /// Those that have not started, in order, beside the writes that wait for a range ([`RangeLocks`](crate::range_locks::RangeLocks)).
    waiting: VecDeque<RequestKey>,
    /// Writes that have started and are not settled.
    writes_open: u32,
    /// How many full syncs that an administrator has ordered are being brought on record: new writes wait meanwhile. Without it
    /// users would write on data that the order gives up.
    full_syncs: u32,
    /// How many records are being written without which no write may be told to be done: those that name a new generation, or say
    /// that the other copy is lost. Without it what users have been told is gone after a crash (I20).
    records: u32,
    /// Ended writes that are not told to be for that reason.
    untold: Vec<RequestKey>,
    /// A flush has come. Set by it, cleared by the next mirrored write, which says so.
    flush_came: bool,
    /// Writes that were completed and not flushed may have gone with the peer, which had the only good copy. Set when its connection
    /// is lost, cleared by the next flush, which fails for it.
    writes_lost: bool,
}

impl Users {
    /// One more request.
    pub(crate) fn ask(&mut self) {
        self.asked += 1;
    }

    /// A request is answered.
    pub(crate) fn answer(&mut self) {
        self.asked = self.asked.saturating_sub(1);
    }

    /// How many requests are not answered.
    pub(crate) fn asked(&self) -> u32 {
        self.asked
    }

    /// A request cannot start yet.
    pub(crate) fn wait(&mut self, key: RequestKey) {
        self.waiting.push_back(key);
    }

    /// Whether requests have not started.
    pub(crate) fn wait_for_a_turn(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Those that may start now, in order; who cannot waits again.
    pub(crate) fn take_waiting(&mut self) -> VecDeque<RequestKey> {
        core::mem::take(&mut self.waiting)
    }

    pub(crate) fn write_begins(&mut self) {
        self.writes_open += 1;
    }

    /// A write is settled.
    pub(crate) fn write_ends(&mut self) {
        self.writes_open -= 1;
    }

    /// Writes that have started and are not settled.
    pub(crate) fn writes_open(&self) -> u32 {
        self.writes_open
    }

    /// Whether anything is asked for, or not settled.
    pub(crate) fn are_busy(&self) -> bool {
        self.asked > 0 || self.writes_open > 0
    }

    /// A full sync is being brought on record: new writes wait.
    pub(crate) fn hold_writes(&mut self) {
        self.full_syncs += 1;
    }

    /// It is on record, or cannot be.
    pub(crate) fn release_writes(&mut self) {
        self.full_syncs = self.full_syncs.saturating_sub(1);
    }

    /// Whether new writes wait for a full sync.
    pub(crate) fn are_writes_held(&self) -> bool {
        self.full_syncs > 0
    }

    /// A record is being written without which no write may be told to be done.
    pub(crate) fn hold_completions(&mut self) {
        self.records += 1;
    }

    /// It is written, or cannot be.
    pub(crate) fn release_completions(&mut self) {
        self.records = self.records.saturating_sub(1);
    }

    /// Whether completions wait for a record.
    pub(crate) fn are_completions_held(&self) -> bool {
        self.records > 0
    }

    /// A write has ended, and is told to be when the record is written.
    pub(crate) fn leave_untold(&mut self, key: RequestKey) {
        self.untold.push(key);
    }

    /// Whether a write has ended and is not told to be.
    pub(crate) fn is_untold(&self, key: RequestKey) -> bool {
        self.untold.contains(&key)
    }

    /// How many there are.
    pub(crate) fn untold(&self) -> usize {
        self.untold.len()
    }

    /// What can be told now, in the order in which it ended.
    pub(crate) fn take_untold(&mut self) -> Vec<RequestKey> {
        core::mem::take(&mut self.untold)
    }

    /// A flush has come: the next mirrored write says so.
    pub(crate) fn flush(&mut self) {
        self.flush_came = true;
    }

    /// Whether a flush has come since the last mirrored write.
    pub(crate) fn take_flush(&mut self) -> bool {
        core::mem::take(&mut self.flush_came)
    }

    /// A write that was told to be done is here no more, or may not be.
    pub(crate) fn lose_write(&mut self) {
        self.writes_lost = true;
    }

    /// Whether writes were lost since the last flush.
    pub(crate) fn take_loss(&mut self) -> bool {
        core::mem::take(&mut self.writes_lost)
    }

    /// # Panics
    /// If something waits that is no request (`exists`), or more is untold than asked for.
    pub(crate) fn check(&self, exists: impl Fn(RequestKey) -> bool) {
        let mut waiting = self.waiting.iter().chain(&self.untold);
        assert!(
            waiting.all(|&key| exists(key)),
            "a waiting request that does not exist"
        );
        let untold = self.untold.len();
        assert!(
            untold <= self.asked as usize,
            "{untold} untold completions of {} requests",
            self.asked
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_wait_for_every_record() {
        let mut users = Users::default();
        users.ask();
        users.hold_completions();
        users.hold_completions();
        users.leave_untold(3);
        users.release_completions();
        assert!(users.are_completions_held() && users.is_untold(3));
        users.release_completions();
        assert!(!users.are_completions_held());
        assert_eq!(users.take_untold(), [3]);
        assert!(!users.is_untold(3));
    }

    #[test]
    fn a_flush_hears_of_a_loss_once() {
        let mut users = Users::default();
        users.lose_write();
        assert!(users.take_loss());
        assert!(!users.take_loss());
    }
}
