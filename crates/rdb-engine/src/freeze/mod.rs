//! Frozen requests: what users have asked for and are not told of, nor served, while I/O is suspended
//! (`docs/spec/behaviour.md`, sections 8.7 and 10).
//!
//! The suspension is the resource's, and stands in the record of each of its volumes. While it lasts no request of a user starts
//! (`router/admission.rs`), none that has started is submitted, and none is completed. If the peer is lost meanwhile, and I/O is
//! frozen because that was to be expected (for fencing, or for want of data), the transfer log keeps the writes that the peer has not
//! made durable, with their data: they are sent again if it comes back as it was, and are settled as lost if it does not.

use alloc::vec::Vec;

use crate::ids::{RequestKey, Time};

/// What is frozen of one volume.
#[derive(Debug, Default)]
pub(crate) struct Frozen {
    /// Writes that were admitted and not submitted. Set when their turn comes while I/O is suspended, taken when it goes on.
    /// Without it a write would be submitted that the peer is never sent.
    pub(crate) parked: Vec<RequestKey>,
    /// Reads that have been served and are not told of. Set by their answer, taken when I/O goes on. Without it a node that
    /// may have been fenced would show old data.
    pub(crate) served: Vec<RequestKey>,
    /// A data generation is due, and whether the peer's data are not there. Set by what makes one due (section 4.3) while I/O is
    /// frozen; taken when it goes on without the peer, dropped when the peer comes back with the same data. Without it
    /// writes that only this node has would have the peer's name.
    pub(crate) generation_due: Option<bool>,
    /// Since when.
    pub(crate) since: Option<Time>,
}

impl Frozen {
    /// A generation is due.
    pub(crate) fn owe_generation(&mut self, without_peer: bool) {
        let before = self.generation_due.unwrap_or(false);
        self.generation_due = Some(before || without_peer);
    }

    /// None is due any more.
    pub(crate) fn owe_nothing(&mut self) {
        self.generation_due = None;
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
}
