//! Whether users who have no disk here may be served with the peer's (L25, L44).

use crate::generation::{Generation, GenerationIds, WroteAlone};
use crate::state::{self, ConnState, DiskState, Role, VolumeState};

/// Why they may not: the disk has not what they saw last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Lacking {
    /// It has another generation than this one.
    #[error("Can only connect to data with current UUID={0}")]
    Generation(Generation),
    /// It may have the name, and lacks what was written under it.
    #[error("the peer's disk lacks writes that only our own disk has")]
    Writes,
}

/// What a disk of the peer's lacks that holds this generation. `seen`: what users saw last; `source_open`: a resync to it from here may
/// have ended unseen, and more was written since. Without it a Primary would go on with older data than its users have seen.
pub fn lacking(seen: Generation, holds: Generation, source_open: bool) -> Option<Lacking> {
    if seen != holds {
        Some(Lacking::Generation(seen))
    } else {
        source_open.then_some(Lacking::Writes)
    }
}

/// (L44) The name is not the one that users have seen last, and the data are: this node, Primary, lost its disk beside the peer's, which
/// began a generation for that reason, and was gone before it could tell. All that users were promised is on its disk; nobody has
/// written there without us since, for this node is Primary. (That it counts as a crashed Primary tells nothing: the mirror of a Primary
/// without a disk has that mark on record, too.) `seen`: what users saw last; `lost_beside`: what they saw when the disk was lost beside a
/// good one; `told`: the peer's names.
pub fn began_for_loss(
    seen: Generation,
    lost_beside: Generation,
    told: &GenerationIds,
    alone: WroteAlone,
    source_open: bool,
) -> bool {
    // (Of a source that had not seen its resync's end the name of both is in another slot, L46.)
    let before = match alone {
        WroteAlone::UnderNewName => told.history[1],
        _ => told.bitmap,
    };
    // (Once users have seen another one the loss says nothing.)
    let lost = !seen.is_empty() && lost_beside == seen;
    lost && (told.bitmap == seen || before == seen) && !source_open
}

/// (L35) Whether the first P_STATE of a connection waits until the peer's data are known to be what users have seen last. A peer that meets
/// a Primary without a disk begins a new generation: if its data are refused it must not, since the own disk, when it comes back, would
/// meet a fork where there is none.
pub fn holds_first_state(state: &VolumeState) -> bool {
    state.role == Role::Primary && state.disk == DiskState::Diskless
}

/// P_UUIDS have come beside two good disks: whether another name than ours in them means that the peer has begun a generation, since it
/// knows that our disk goes. Without it users would be told, when that is gone, that the peer's disk is another one than theirs.
pub fn may_have_moved_on(state: &VolumeState) -> bool {
    let good = DiskState::UpToDate;
    state.conn == ConnState::Connected && state.disk == good && state.pdsk == good
}

/// Whether this node's users have no disk here.
pub fn has_users_without_disk(state: &VolumeState) -> bool {
    state.role == Role::Primary && state.disk < DiskState::Inconsistent
}

/// P_UUIDS have come: whether they are looked at as those of a disk that is about to be these users', and not of one that is.
pub fn is_first_look(state: &VolumeState) -> bool {
    state.conn < ConnState::Connected || !state::is_there(state.pdsk)
}

/// P_STATE has come: whether it brings a disk of the peer's, in this state, to a connection that had none. (It was told of as a disk that is
/// attached beside ours, which may be lost since.)
pub fn brings_disk(own: &VolumeState, pdsk: DiskState) -> bool {
    own.is_connected() && state::is_there(pdsk) && !state::is_there(own.pdsk)
}

/// Whether users see the peer's data, whatever a disk of ours held when it was last here. (They have seen nothing of a copy that is not
/// UpToDate: its name would keep our own disk out.)
pub fn shows_peers(state: &VolumeState) -> bool {
    state.is_connected()
        && state.disk < DiskState::Inconsistent
        && state.pdsk == DiskState::UpToDate
}

/// The target of a resync lost its disk, and its users see the peer's: whether no disk of ours can be taken any more for one that lacks what
/// they wrote at the peer. Only one with the peer's name still could.
pub fn has_caught_up(own: Option<Generation>, peer: Generation) -> bool {
    own != Some(peer)
}

/// A resync from here is over, and nobody has told how it ended: whether the peer's disk may have our name and lack what is written since.
/// `all_sent`: there was nothing left to send. (As long as our disk is there, the comparison sees by its bitmap that we wrote more under that
/// name.)
pub fn leaves_open(role: Role, all_sent: bool) -> bool {
    all_sent && role == Role::Primary
}

/// Whether what [`leaves_open`] has said is so still in this state: a node that is no Primary has no users who could have written.
pub fn stays_open(state: &VolumeState, open: bool) -> bool {
    open && state.role == Role::Primary
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Generation = Generation::new(0x10);
    const NEW: Generation = Generation::new(0x20);
    const NEWER: Generation = Generation::new(0x30);

    fn told(current: Generation, bitmap: Generation, oldest: Generation) -> GenerationIds {
        GenerationIds::from_bits([current.bits(), bitmap.bits(), 0, oldest.bits()])
    }

    #[test]
    fn a_loss_speaks_for_the_generation_that_users_saw_last_alone() {
        let none = Generation::NONE;
        let began =
            |seen, lost, told| began_for_loss(seen, lost, &told, WroteAlone::Unknown, false);
        let next = told(NEW, OLD, none);
        assert!(began(OLD, OLD.with_primary_bit(true), next));
        assert!(!began(OLD, none, next), "nothing was lost");
        assert!(!began(NEW, OLD, next), "they have seen another one");
        assert!(!began(NEW, NEW, next), "it was begun after another one");
        assert!(!began(none, none, told(NEW, none, none)));
    }

    #[test]
    fn a_source_that_named_what_it_wrote_alone_has_the_name_of_both_in_its_oldest_slot() {
        let next = told(NEWER, NEW, OLD);
        let began = |alone, open| began_for_loss(OLD, OLD, &next, alone, open);
        assert!(began(WroteAlone::UnderNewName, false));
        assert!(!began(WroteAlone::UnderNewName, true), "it lacks writes");
        assert!(!began(WroteAlone::Unknown, false));
    }
}
