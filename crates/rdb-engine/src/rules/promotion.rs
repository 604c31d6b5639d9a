//! A node becomes Primary: what it asks for, when the peer is fenced first, and which name its users write under
//! (`docs/spec/behaviour.md`, sections 4.3 and 12.1).

use crate::generation::Names;
use crate::state::{Change, DiskState, Role, StateError, VolumeState};

/// What the promotion rests on beside the plain rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Means {
    /// The administrator calls the own disk UpToDate.
    pub forced: bool,
    /// The peer has been fenced: a disk that was only Consistent is as good as any.
    pub fenced: bool,
    /// It is not, and the administrator goes on all the same: the peer's disk counts as Outdated.
    pub unfenced: bool,
}

/// What is asked for, of a node with this disk.
pub fn wish(disk: DiskState, means: Means) -> Change {
    let mut change = Change::role(Role::Primary);
    if means.forced || means.fenced && disk == DiskState::Consistent {
        change = change.and_disk(DiskState::UpToDate);
    }
    if means.unfenced {
        change = change.and_pdsk(DiskState::Outdated);
    }
    change
}

/// Whether an administrator can call this disk UpToDate, for want of a better one.
pub fn can_be_forced(disk: DiskState) -> bool {
    matches!(
        disk,
        DiskState::Inconsistent | DiskState::Outdated | DiskState::Consistent
    )
}

/// Whether what was refused may be possible once the peer is fenced, which is away, or (L54) without its disk.
pub fn fences_first(refusal: StateError, state: &VolumeState, away: bool) -> bool {
    let for_the_peer = match refusal {
        StateError::PrimaryNop => true,
        StateError::NoUpToDateDisk => state.disk == DiskState::Consistent,
        _ => false,
    };
    for_the_peer && (away || state.awaits_word())
}

/// How it goes on when the fence procedure has come to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AfterFencing {
    /// It does not.
    Refused,
    /// The peer has come back: it is asked.
    AsksAgain,
    /// The peer cannot go on.
    GoesOn,
    /// It may, and the administrator has ordered to go on.
    ByForce,
}

/// `is_fenced`: of all volumes; `force`: the administrator has ordered it, and it was refused for the peer.
pub fn after_fencing(
    state: &VolumeState,
    away: bool,
    is_fenced: bool,
    force: bool,
) -> AfterFencing {
    if state.awaits_word() {
        AfterFencing::Refused
    } else if !away {
        AfterFencing::AsksAgain
    } else if is_fenced {
        AfterFencing::GoesOn
    } else if force {
        AfterFencing::ByForce
    } else {
        AfterFencing::Refused
    }
}

/// A node that has been promoted, and what follows from that alone has followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Promoted {
    /// Its record of state.
    pub state: VolumeState,
    /// What users write is sent to the peer.
    pub replicates: bool,
    /// Its disk was called UpToDate by force.
    pub forced: bool,
}

/// Why a generation begins with a promotion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Its data may be no descendant of anybody's.
    Forced,
    /// The peer, or its disk, is not there, and may have the same name.
    Alone,
    /// (L2) The bitmaps are exchanged under one name: what users write before the resync begins is here alone.
    Unnamed,
}

impl Promoted {
    /// Why its users write under a new name, if they do; its disk's names are these. Without it what only this node has would bear the
    /// name of data that the peer has.
    pub fn begins(&self, names: &Names) -> Option<Why> {
        let state = &self.state;
        if self.forced {
            Some(Why::Forced)
        } else if !names.may_share() {
            None
        } else if state.is_without_peer() {
            Some(Why::Alone)
        } else {
            let unnamed = state.disk == DiskState::UpToDate
                && !self.replicates
                && names.ids.bitmap.is_empty();
            unnamed.then_some(Why::Unnamed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::{Generation, WroteAlone};
    use crate::state::ConnState;

    #[test]
    fn who_writes_what_the_peer_lacks_writes_under_a_new_name() {
        let alone = VolumeState {
            role: Role::Primary,
            conn: ConnState::WFConnection,
            disk: DiskState::UpToDate,
            ..VolumeState::INITIAL
        };
        let at = |conn| VolumeState {
            conn,
            pdsk: DiskState::UpToDate,
            ..alone
        };
        let shared = Names::default();
        let mut named = shared;
        named.ids.bitmap = Generation::new(0x10);
        let syncing = Names {
            alone: WroteAlone::Nothing,
            ..named
        };
        let of = |state, replicates, names: &Names| {
            let promoted = Promoted {
                state,
                replicates,
                forced: false,
            };
            let forced = Promoted {
                forced: true,
                ..promoted
            };
            assert_eq!(forced.begins(names), Some(Why::Forced));
            promoted.begins(names)
        };
        assert_eq!(of(alone, false, &shared), Some(Why::Alone));
        assert_eq!(of(alone, false, &syncing), Some(Why::Alone));
        assert_eq!(of(alone, false, &named), None);
        assert_eq!(of(at(ConnState::Connected), true, &shared), None);
        let exchanges = at(ConnState::WFBitMapS);
        assert_eq!(of(exchanges, false, &shared), Some(Why::Unnamed));
        assert_eq!(of(exchanges, false, &named), None);
        assert_eq!(
            of(exchanges, false, &syncing),
            None,
            "the note goes instead"
        );
    }

    #[test]
    fn only_what_is_refused_for_the_peer_is_a_reason_to_fence_it() {
        let consistent = VolumeState {
            disk: DiskState::Consistent,
            ..VolumeState::INITIAL
        };
        let outdated = VolumeState {
            disk: DiskState::Outdated,
            ..consistent
        };
        for (refusal, state, expected) in [
            (StateError::PrimaryNop, outdated, true),
            (StateError::NoUpToDateDisk, consistent, true),
            (StateError::NoUpToDateDisk, outdated, false),
            (StateError::TwoPrimaries, consistent, false),
        ] {
            assert_eq!(fences_first(refusal, &state, true), expected);
            assert!(!fences_first(refusal, &state, false));
        }
    }
}
