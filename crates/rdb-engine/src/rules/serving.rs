//! Whether users who have no disk here may be served with the peer's (L25, L44).

use crate::generation::Generation;
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
