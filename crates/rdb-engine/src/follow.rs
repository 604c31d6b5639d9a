//! What follows from something, in its turn.
//!
//! Whoever changes a state, or has something done that rests on what a change entails, posts it here and returns; the resource
//! takes one after the other (`run_after`) until there are none. So nobody needs to know what is to follow before.

use crate::ids::VolumeNr;
use crate::state::VolumeState;

/// What is to follow.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Follow {
    /// The consequences of a volume's change from the first to the second (`rules/consequences.rs`).
    Changed(VolumeNr, VolumeState, VolumeState),
    /// The volume has become Primary by an administrator's command: its data get their name, and its record says so.
    Promoted {
        nr: VolumeNr,
        /// Its own disk was declared UpToDate.
        forced: bool,
    },
    /// The volume has become Secondary by an administrator's command: its device goes, and its record says so.
    Demoted(VolumeNr),
    /// What users have asked for and was held back is looked at again.
    RetryWaiting(VolumeNr),
    /// I/O is not suspended any more: what is frozen of the volume goes on.
    Thawed(VolumeNr),
}

impl Follow {
    /// The volume that it is about.
    pub(crate) fn volume(&self) -> VolumeNr {
        match *self {
            Follow::Changed(nr, ..)
            | Follow::Promoted { nr, .. }
            | Follow::Demoted(nr)
            | Follow::RetryWaiting(nr)
            | Follow::Thawed(nr) => nr,
        }
    }
}
