//! Frozen requests: what users have asked for and are not told of, nor served, while I/O is suspended
//! (`docs/spec/behaviour.md`, sections 8.7 and 10).
//!
//! The suspension is the resource's, and stands in the record of each of its volumes. While it lasts no request of a user starts
//! (`router/admission.rs`), none that has started is submitted, and none is completed. If the peer is lost meanwhile, and I/O is
//! frozen because that was to be expected (for fencing, or for want of data), the transfer log keeps the writes that the peer has not
//! made durable, with their data: they are sent again if it comes back as it was, and are settled as lost if it does not.

use alloc::vec::Vec;
use core::mem;

use crate::ids::{RequestKey, Time};

/// What is frozen of one volume.
#[derive(Debug, Default)]
pub(crate) struct Frozen {
    /// Writes that were admitted and not submitted. Set when their turn comes while I/O is suspended, taken when it goes on.
    /// Without it a write would be submitted that the peer is never sent.
    parked: Vec<RequestKey>,
    /// Reads that have been served and are not told of. Set by their answer, taken when I/O goes on. Without it a node that
    /// may have been fenced would show old data.
    served: Vec<RequestKey>,
    /// A data generation is due, and whether the peer's data are not there. Set by what makes one due (section 4.3) while I/O is
    /// frozen; taken when it goes on without the peer, dropped when the peer comes back with the same data. Without it
    /// writes that only this node has would have the peer's name.
    generation_due: Option<bool>,
    /// Since when. Set when I/O is suspended, cleared when it is not any more. Without it nobody sees how long users have waited.
    since: Option<Time>,
}

impl Frozen {
    /// I/O is suspended. Says whether that is new.
    pub(crate) fn begin(&mut self, now: Time) -> bool {
        let is_new = self.since.is_none();
        self.since.get_or_insert(now);
        is_new
    }

    /// I/O is not suspended any more. What has waited stays until it is released.
    pub(crate) fn end(&mut self) {
        self.since = None;
    }

    /// A write's turn has come.
    pub(crate) fn park(&mut self, key: RequestKey) {
        self.parked.push(key);
    }

    /// What has waited goes on: reads that have been served, and writes to be submitted.
    pub(crate) fn release(&mut self) -> (Vec<RequestKey>, Vec<RequestKey>) {
        let Frozen { served, parked, .. } = self;
        (mem::take(served), mem::take(parked))
    }

    /// A generation is due.
    pub(crate) fn owe_generation(&mut self, without_peer: bool) {
        let before = self.generation_due.unwrap_or(false);
        self.generation_due = Some(before || without_peer);
    }

    /// None is due any more.
    pub(crate) fn owe_nothing(&mut self) {
        self.generation_due = None;
    }

    /// It begins now, if one is due: whether the peer's data are not there.
    pub(crate) fn take_owed_generation(&mut self) -> Option<bool> {
        self.generation_due.take()
    }

    /// Whether one is.
    pub(crate) fn owes_generation(&self) -> bool {
        self.generation_due.is_some()
    }

    /// A read has been served.
    pub(crate) fn keep_served(&mut self, key: RequestKey) {
        self.served.push(key);
    }

    /// Since when its requests are frozen, if they are.
    pub(crate) fn since(&self) -> Option<Time> {
        self.since
    }

    /// `suspended`: whether the volume's I/O is. `is_open`: whether there is such a request.
    ///
    /// # Panics
    /// If something waits that nothing lets go on, or that is not there.
    pub(crate) fn check(&self, suspended: bool, is_open: impl Fn(RequestKey) -> bool) {
        assert_eq!(self.since.is_some(), suspended, "since when I/O is frozen");
        let mut keys = self.parked.iter().chain(&self.served).copied();
        assert!(suspended || keys.clone().next().is_none(), "still frozen");
        assert!(keys.all(is_open), "a frozen request that does not exist");
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_generation_that_is_due_without_the_peer_stays_so() {
        let mut frozen = Frozen::default();
        assert_eq!(frozen.take_owed_generation(), None);
        for without_peer in [false, true, false] {
            frozen.owe_generation(without_peer);
        }
        assert_eq!(frozen.take_owed_generation(), Some(true));
        assert!(!frozen.owes_generation());
    }

    #[test]
    fn what_has_waited_is_released_once() {
        let mut frozen = Frozen::default();
        assert!(frozen.begin(Time(1)) && !frozen.begin(Time(2)));
        assert_eq!(frozen.since(), Some(Time(1)));
        frozen.park(1);
        frozen.keep_served(2);
        frozen.check(true, |_| true);
        frozen.end();
        assert_eq!(frozen.release(), (vec![2], vec![1]));
        frozen.check(false, |_| true);
    }
}
