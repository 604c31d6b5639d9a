//! What the record of a disk says of the state of its volume (`docs/spec/behaviour.md`, section 2.10).

use rdb_meta::MdFlags;

use crate::state::{self, DiskState, Fencing, Role, VolumeState};

/// What the flags rest on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Our state record.
    pub state: VolumeState,
    /// The disk was Primary when it went down and has not been in sync since.
    pub crashed: bool,
    /// The data are given up for an administrative full sync, which has not begun.
    pub invalidated: bool,
    /// The disk's `fencing`.
    pub fencing: Fencing,
    /// [`crate::generation::Names::may_share`].
    pub may_share_name: bool,
}

/// The flags from now on, in the place of `before`; nothing of a disk that is not usable, whose record stays as it is. Asked at each
/// change of state and when a generation begins. Without it a crash leaves a record that says more than is so.
pub fn flags(facts: &Facts, before: MdFlags) -> Option<MdFlags> {
    let state = facts.state;
    if !state.says_usable_disk() {
        return None;
    }
    let flags = state::md_flags(state, facts.crashed, before.bits());
    let mut flags = MdFlags::from_bits_retain(flags);
    if facts.invalidated {
        flags.remove(MdFlags::CONSISTENT);
    }
    let fences = facts.fencing != Fencing::DontCare;
    if fences && (state.is_connected() || facts.may_share_name) {
        // (L48) After a crash it would count as one that cannot go on by itself, and may have ended its resync. (L50) One that may
        // have our generation is Outdated until it meets us, and we may not know when that was.
        flags.remove(MdFlags::PEER_OUT_DATED);
    }
    Some(flags)
}

/// (L45) Whether the peer's good disk goes on when this one is detached by order: the last record says that it is Outdated. Otherwise it
/// would count as good when it is attached while the peer is away.
pub fn is_left_to_peer(state: &VolumeState) -> bool {
    state.is_connected() && state.pdsk == DiskState::UpToDate
}

/// (L58) The same of a Secondary's disk that fails. All that users were promised is at the peer: it was Primary, or has become so since and
/// made durable first what this node had written. (A Primary's disk may have what was flushed here alone: L26.)
pub fn fails_beside_a_good_one(state: &VolumeState) -> bool {
    state.role == Role::Secondary && is_left_to_peer(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ConnState;

    #[test]
    fn only_the_disk_of_a_secondary_is_left_to_the_peer_when_it_fails() {
        let beside = VolumeState {
            role: Role::Secondary,
            conn: ConnState::Connected,
            disk: DiskState::UpToDate,
            pdsk: DiskState::UpToDate,
            ..VolumeState::INITIAL
        };
        let fails = |of: fn(&mut VolumeState)| {
            let mut state = beside;
            of(&mut state);
            fails_beside_a_good_one(&state)
        };
        assert!(fails(|_| ()));
        assert!(!fails(|state| state.role = Role::Primary));
        assert!(!fails(|state| state.conn = ConnState::WFConnection));
        assert!(
            !fails(|state| state.pdsk = DiskState::Diskless),
            "it is the last one"
        );
    }

    #[test]
    fn a_peer_is_outdated_on_record_only_if_it_has_another_name_and_is_away() {
        let alone = VolumeState {
            role: Role::Primary,
            conn: ConnState::WFConnection,
            disk: DiskState::UpToDate,
            pdsk: DiskState::Outdated,
            ..VolumeState::INITIAL
        };
        let connected = VolumeState {
            conn: ConnState::Connected,
            ..alone
        };
        let says = |state, fencing, may_share_name| {
            let facts = Facts {
                state,
                crashed: false,
                invalidated: false,
                fencing,
                may_share_name,
            };
            let flags = flags(&facts, MdFlags::empty()).expect("it is usable");
            flags.contains(MdFlags::PEER_OUT_DATED)
        };
        assert!(says(alone, Fencing::ResourceOnly, false));
        assert!(!says(alone, Fencing::ResourceOnly, true));
        assert!(!says(connected, Fencing::ResourceAndStonith, false));
        // Without fencing it is what the driver notes.
        assert!(says(alone, Fencing::DontCare, true) && says(connected, Fencing::DontCare, false));
    }
}
