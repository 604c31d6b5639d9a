//! When I/O that was frozen for fencing or for want of data goes on by itself (`docs/spec/behaviour.md`, section 3: A4, A5, A6 and
//! C3). What an administrator has suspended only he resumes.
//!
//! Looked at are the volumes that are Primary: no others have users who wait.

use super::fencing::is_fenced;
use crate::state::{self, Change, ConnState, DiskState, Role, VolumeState};

/// Why it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Thaw {
    /// C3: the peer cannot go on by itself: what it lacks gets a name of its own.
    Fenced,
    /// A6: the peer is back.
    PeerIsBack,
    /// A4, A5: there are data again.
    DataAreBack,
}

impl Thaw {
    /// Which flags of the suspension go.
    pub fn change(self) -> Change {
        match self {
            Thaw::Fenced | Thaw::PeerIsBack => Change::default().and_susp_fen(false),
            Thaw::DataAreBack => Change::default().and_susp_nod(false),
        }
    }

    /// How it goes on. `can_send_again`: every write in a frozen log that the peer is to get again is here.
    pub fn way(self, can_send_again: bool) -> ThawWay {
        match self {
            Thaw::Fenced => ThawWay::Alone,
            _ if can_send_again => ThawWay::Together,
            _ => ThawWay::Anew,
        }
    }
}

/// How what was frozen goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ThawWay {
    /// A generation that is owed begins, what is frozen is lost at the peer, and that it is fenced is on record before anybody hears.
    Alone,
    /// What is frozen goes to the peer again; it needs no new name, where the peer catches up.
    Together,
    /// It would lack what cannot be sent again: that gets a name, is marked, and is synced when the nodes meet anew.
    Anew,
}

/// The same when an administrator resumes it. `is_up`: the peer is there. One that catches up has no use for a new name: it may have
/// ended its resync, unseen from here, and would keep one that this node forgets.
pub fn resume(is_up: bool, can_send_again: bool) -> ThawWay {
    match is_up && can_send_again {
        true => ThawWay::Together,
        false => ThawWay::Alone,
    }
}

/// What becomes of a generation that was owed, when it is not dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwedName {
    /// It begins.
    Begins,
    /// What the peer has may have got a name of its own meanwhile, by a resync that came to nothing.
    Needless,
    /// Without a disk that could bear it: no disk may be taken for what these users see from now on.
    OfNoDisk,
}

/// Without it writes that only this node has would have the peer's name.
pub fn owed(has_usable_disk: bool, may_share_name: bool) -> OwedName {
    match (has_usable_disk, may_share_name) {
        (false, _) => OwedName::OfNoDisk,
        (true, true) => OwedName::Begins,
        (true, false) => OwedName::Needless,
    }
}

/// What of a volume a peer may lack that was down while I/O was frozen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MayLack {
    /// A write is in the log, which it has not made durable, or is open and not marked yet.
    pub under_way: bool,
    /// A block is marked: a write that it was never sent, or could not do.
    pub marked: bool,
}

/// (L47) A generation is owed, and the peer comes with a disk that is only Consistent by its own word, and is not to be synced: it would
/// count as equal to ours, and may lack what is frozen. `own`: our record before; `conn`: what it becomes; `told`: the peer's disk.
///
/// (L57) If nothing is, it lacks nothing: what has left the log it has made durable. Then it comes back as one that was not down, and no
/// generation begins, which would be a fork of the peer's if this node was demoted before it has written under it.
pub fn is_no_return(own: &VolumeState, conn: ConnState, told: DiskState, lacks: MayLack) -> bool {
    let comes = !own.is_connected() && conn == ConnState::Connected;
    comes && told == DiskState::Consistent && (lacks.under_way || lacks.marked)
}

/// What is looked at, of each volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Its record.
    pub state: VolumeState,
    /// It is source of a resync, and the target has not shown that it is Inconsistent on its own record too.
    pub target_unproven: bool,
}

/// Whether users of this volume can be served.
fn has_data(facts: &Facts) -> bool {
    let state = &facts.state;
    state.disk == DiskState::UpToDate || state.is_connected() && state.pdsk == DiskState::UpToDate
}

/// (L48) Whether the peer cannot go on by itself with less than users are told of from now on: it is sent all of that, or is on
/// record as somebody who lacks it.
fn is_beside(facts: &Facts) -> bool {
    // (A disk that comes may be as good by its record as this one.)
    let comes = matches!(
        facts.state.pdsk,
        DiskState::Attaching | DiskState::Negotiating
    );
    facts.state.is_connected()
        && !is_preparing(facts.state.conn)
        && !comes
        && !facts.target_unproven
}

/// Whether it goes on.
pub fn thaw(volumes: impl Iterator<Item = Facts> + Clone) -> Option<Thaw> {
    let any = |is: fn(&VolumeState) -> bool| volumes.clone().any(|v| is(&v.state));
    let primaries = volumes.clone().filter(|v| v.state.role == Role::Primary);
    let all = |is: fn(&Facts) -> bool| primaries.clone().all(|v| is(&v));
    if any(|v| v.susp_fen) && all(is_beside) {
        Some(Thaw::PeerIsBack)
    } else if any(|v| v.susp_fen) && all(|v| !v.state.is_connected() && is_fenced(v.state.pdsk)) {
        Some(Thaw::Fenced)
    } else if any(|v| v.susp_nod) && all(has_data) {
        Some(Thaw::DataAreBack)
    } else {
        None
    }
}

/// (L47) Whether a generation that was due for a peer that was lost is not due any more: what it lacks it is sent now, or by the
/// resync that has begun. A disk that it has come back without would count as equal to ours one day. (L53) So would one whose resync is
/// prepared only, and does not come to begin.
pub fn catches_up(state: VolumeState) -> bool {
    let begun = state.conn > ConnState::Connected && !is_preparing(state.conn);
    state.is_connected() && state::is_there(state.pdsk) && (state::should_replicate(state) || begun)
}

/// Whether this node is to be the source of a resync that has not begun.
fn is_preparing(conn: ConnState) -> bool {
    matches!(conn, ConnState::StartingSyncS | ConnState::WFBitMapS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROZEN: VolumeState = VolumeState {
        role: Role::Primary,
        conn: ConnState::WFConnection,
        disk: DiskState::UpToDate,
        pdsk: DiskState::DUnknown,
        susp_fen: true,
        ..VolumeState::INITIAL
    };

    fn of(volumes: &[VolumeState]) -> Option<Thaw> {
        thaw(volumes.iter().map(|&state| Facts {
            state,
            target_unproven: state.conn == ConnState::SyncSource,
        }))
    }

    #[test]
    fn nobody_goes_on_beside_a_peer_that_may_go_on() {
        for pdsk in [
            DiskState::DUnknown,
            DiskState::Consistent,
            DiskState::UpToDate,
        ] {
            assert_eq!(of(&[VolumeState { pdsk, ..FROZEN }]), None);
        }
        for pdsk in [
            DiskState::Diskless,
            DiskState::Inconsistent,
            DiskState::Outdated,
        ] {
            let fenced = VolumeState { pdsk, ..FROZEN };
            assert_eq!(of(&[fenced]), Some(Thaw::Fenced));
            assert_eq!(of(&[fenced, FROZEN]), None, "of one volume only");
            let unused = VolumeState {
                role: Role::Secondary,
                ..FROZEN
            };
            assert_eq!(of(&[fenced, unused]), Some(Thaw::Fenced));
        }
    }

    #[test]
    fn a_peer_that_was_down_is_no_return_if_it_may_lack_something() {
        let back = |conn, told, under_way, marked| {
            is_no_return(&FROZEN, conn, told, MayLack { under_way, marked })
        };
        let (here, there) = (ConnState::Connected, DiskState::Consistent);
        assert!(back(here, there, true, false) && back(here, there, false, true));
        assert!(!back(here, there, false, false), "it has everything");
        assert!(!back(here, DiskState::UpToDate, true, true), "it was up");
        let synced = ConnState::WFBitMapS;
        assert!(!back(synced, there, true, true), "it gets what it lacks");
    }

    #[test]
    fn a_peer_that_is_back_thaws_and_so_do_data() {
        let back = VolumeState {
            conn: ConnState::Connected,
            pdsk: DiskState::UpToDate,
            ..FROZEN
        };
        assert_eq!(of(&[back]), Some(Thaw::PeerIsBack));
        for conn in [
            ConnState::WFReportParams,
            ConnState::WFBitMapS,
            ConnState::SyncSource,
        ] {
            assert_eq!(of(&[VolumeState { conn, ..back }]), None);
        }
        let without = VolumeState {
            disk: DiskState::Diskless,
            susp_fen: false,
            susp_nod: true,
            ..FROZEN
        };
        assert_eq!(of(&[without]), None);
        let attached = VolumeState {
            disk: DiskState::UpToDate,
            ..without
        };
        assert_eq!(of(&[attached]), Some(Thaw::DataAreBack));
        let peer = VolumeState {
            conn: ConnState::Connected,
            pdsk: DiskState::UpToDate,
            ..without
        };
        assert_eq!(of(&[peer]), Some(Thaw::DataAreBack));
    }

    #[test]
    fn what_an_administrator_has_suspended_waits_for_him() {
        let suspended = VolumeState {
            susp: true,
            susp_fen: false,
            conn: ConnState::Connected,
            pdsk: DiskState::UpToDate,
            ..FROZEN
        };
        assert_eq!(of(&[suspended]), None);
    }
}
