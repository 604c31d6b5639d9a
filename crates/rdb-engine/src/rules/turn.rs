//! A change of a volume's state, and what can be asked about it: the conditions of [`super::consequences`].

use crate::state::{ConnState, DiskState, Role, VolumeState, is_target};

/// A change of a volume's state, and what its consequences rest on beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// The state before.
    pub old: VolumeState,
    /// The state after.
    pub new: VolumeState,
    /// The rest.
    pub facts: Facts,
}

/// What is so when it is a row's turn. The acts of the rows before may have changed it, so it is looked at anew for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The state by now: further changes may have been made, whose consequences come later.
    pub now: ConnState,
    /// A disk is attached, or on its way in or out.
    pub has_disk: bool,
    /// The peer may have a disk of its generation: its bitmap UUID is zero, so no peer lacks anything; or it names a resync whose
    /// target may have come to the end unseen, and what was written alone since would have had a new generation.
    pub may_share_name: bool,
    /// Blocks are marked in its bitmap.
    pub marked: bool,
    /// Its record says that a Primary writes here, and that is over.
    pub unmark_due: bool,
    /// The peer has told its generations in this connection.
    pub knows_peers_ids: bool,
    /// Its current one is ours.
    pub one_name: bool,
    /// The peer has begun a new generation because our disk goes, and told us.
    pub moved_on: bool,
    /// Our disk was UpToDate, is lost, and the peer has not said that its record has a new generation.
    pub loss_unrecorded: bool,
    /// The end of a resync is to be announced once it is on record.
    pub announces_end: bool,
    /// The peer knows verifies that end before the end of the device, and hears of the end by a state.
    pub verify_ends_with_state: bool,
    /// The device grew while a disk was detached.
    pub grew: bool,
}

impl Facts {
    /// A disk in sync with its peer's, and nothing under way.
    pub const PLAIN: Facts = Facts {
        now: ConnState::Connected,
        has_disk: true,
        may_share_name: true,
        marked: false,
        unmark_due: false,
        knows_peers_ids: true,
        one_name: true,
        moved_on: false,
        loss_unrecorded: false,
        announces_end: false,
        verify_ends_with_state: true,
        grew: false,
    };
}

pub(super) fn both_up(state: &VolumeState) -> bool {
    state.disk == DiskState::UpToDate && state.pdsk == DiskState::UpToDate
}

pub(super) fn both_attached(state: &VolumeState) -> bool {
    state.disk > DiskState::Negotiating && state.pdsk > DiskState::Negotiating
}

/// (One that was attaching already when we connected has heard nothing of our generations either.)
pub(super) fn peer_attached(turn: &Turn) -> bool {
    let (old, new) = (turn.old.pdsk, turn.new.pdsk);
    let came = old == DiskState::Diskless && new > DiskState::Diskless;
    let was_coming = old == DiskState::Attaching && new > DiskState::Failed;
    (came || was_coming) && new != DiskState::DUnknown
}

pub(super) fn diskless_peer_demoted(turn: &Turn) -> bool {
    turn.new.pdsk < DiskState::Inconsistent
        && turn.old.peer == Role::Primary
        && turn.new.peer == Role::Secondary
}

pub(super) fn sync_ended(turn: &Turn) -> bool {
    turn.old.compares_blocks()
        && matches!(
            turn.new.conn,
            ConnState::Connected | ConnState::Ahead | ConnState::Behind
        )
        && turn.new.says_usable_disk()
}

pub(super) fn negotiates(turn: &Turn) -> bool {
    turn.old.disk == DiskState::Attaching
        && turn.new.disk == DiskState::Negotiating
        && turn.new.is_connected()
}

pub(super) fn pause_changed(turn: &Turn) -> bool {
    let own = |state: &VolumeState| (state.aftr_isp, state.user_isp);
    own(&turn.old) != own(&turn.new) && turn.new.is_connected()
}

pub(super) fn left_handshake(turn: &Turn) -> bool {
    turn.old.conn == ConnState::WFReportParams && turn.new.is_connected()
}

pub(super) fn became_inconsistent(turn: &Turn) -> bool {
    turn.old.disk == DiskState::UpToDate
        && turn.new.disk == DiskState::Inconsistent
        && turn.new.is_connected()
        && !(turn.old.conn == ConnState::WFSyncUUID && is_target(turn.new.conn))
}

pub(super) fn failed(turn: &Turn) -> bool {
    turn.old.disk != DiskState::Failed && turn.new.disk == DiskState::Failed
}

pub(super) fn diskless(turn: &Turn) -> bool {
    turn.old.disk != DiskState::Diskless && turn.new.disk == DiskState::Diskless
}

pub(super) fn lost_beside_good(turn: &Turn) -> bool {
    let good = turn.old.disk == DiskState::UpToDate || turn.facts.loss_unrecorded;
    failed(turn) && good && turn.new.is_connected() && turn.new.pdsk == DiskState::UpToDate
}

/// (L26) Our disk was lost when the peer's had ended its resync, which was not known here. By its record our own, lost or attached again, is
/// the better one until the peer has heard of the loss, and has a generation on record.
pub(super) fn good_beside_lost(turn: &Turn) -> bool {
    let (old, new) = (&turn.old, &turn.new);
    let ended = (old.pdsk, new.pdsk) == (DiskState::Inconsistent, DiskState::UpToDate);
    let lost = new.role == Role::Primary && new.disk < DiskState::UpToDate;
    ended && lost && old.is_connected() && new.is_connected()
}

pub(super) fn target_ended(turn: &Turn) -> bool {
    turn.old.disk < DiskState::UpToDate
        && turn.old.conn >= ConnState::SyncSource
        && turn.new.conn == ConnState::Connected
}

/// Whether a peer disk that goes from `old` to `new` is lost to us: what we write from now on is only here
/// (`docs/spec/behaviour.md`, section 4.3).
pub fn lost_peer_data(old: DiskState, new: DiskState) -> bool {
    use DiskState::{
        Attaching, Consistent, DUnknown, Diskless, Failed, Inconsistent, Negotiating, Outdated,
        UpToDate,
    };
    match old {
        Inconsistent | Consistent | UpToDate => matches!(
            new,
            Diskless | Attaching | Failed | Negotiating | DUnknown | Outdated
        ),
        DUnknown => matches!(new, Diskless | Failed | Outdated),
        Diskless | Attaching | Failed | Negotiating | Outdated => false,
    }
}
