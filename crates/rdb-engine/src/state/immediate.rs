//! What a change of state does at once, and what a state means for metadata and writes (`docs/spec/behaviour.md`, sections 2.10,
//! 2.11 and 8.1).

use super::{ConnState, DiskState, Role, VolumeState, transition::is_teardown};

bitflags::bitflags! {
    /// What the caller does inside the change, before anything else happens (`docs/spec/behaviour.md`, section 2.11).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct ImmediateEffects: u16 {
        /// Row 1: [`should_replicate`] differs between old and new: close the current write epoch.
        const CLOSE_EPOCH = 1;
        /// Row 2: Attaching → Negotiating or better: log `attached to UUIDs cur:bm:h0:h1`.
        const ATTACHED = 1 << 1;
        /// Row 3: left WFReportParams. If no volume of the connection is in it any more: clear state-sent.
        const LEFT_WF_REPORT_PARAMS = 1 << 2;
        /// Row 4: left VerifyS or VerifyT for Connected or below: remember the sector reached.
        const VERIFY_ENDED = 1 << 3;
        /// Row 5: PausedSyncX → SyncX: `Syncer continues.`; a target asks for blocks again.
        const RESYNC_CONTINUES = 1 << 4;
        /// Row 5: SyncX → PausedSyncX: `Resync suspended`.
        const RESYNC_SUSPENDED = 1 << 5;
        /// Row 6: Connected → VerifyS or VerifyT: reset the counters; VerifyS starts.
        const VERIFY_STARTED = 1 << 6;
        /// Row 7: the disk became Consistent or better: the exposed data UUID is now the disk's current UUID.
        const EXPOSE_DISK = 1 << 7;
        /// Row 8: both disks Inconsistent, and the peer became Primary: consider a resync at its next state packet.
        const CONSIDER_RESYNC = 1 << 8;
        /// Row 9: → Disconnecting or → StandAlone: stop the receiver.
        const STOP_RECEIVER = 1 << 9;
        /// Row 9: from above WFConnection to Timeout..TearDown: restart the receiver.
        const RESTART_RECEIVER = 1 << 10;
        /// Row 10: connected now and not before: AL updates resume. (The connect counter moves before, L50.)
        const CONNECTED = 1 << 11;
    }
}

/// The effects of section 2.11 that the move from `old` to `new` has.
pub fn immediate(old: VolumeState, new: VolumeState) -> ImmediateEffects {
    use ConnState::{
        Connected, Disconnecting, PausedSyncS, PausedSyncT, StandAlone, SyncSource, SyncTarget,
        VerifyS, VerifyT, WFConnection, WFReportParams,
    };
    use DiskState::{Attaching, Consistent, Inconsistent, Negotiating};

    let verifying = |state: &VolumeState| matches!(state.conn, VerifyS | VerifyT);
    let pair = (old.conn, new.conn);
    let stops = |state: &VolumeState| matches!(state.conn, Disconnecting | StandAlone);
    pick([
        (
            should_replicate(old) != should_replicate(new),
            ImmediateEffects::CLOSE_EPOCH,
        ),
        (
            old.disk == Attaching && new.disk >= Negotiating,
            ImmediateEffects::ATTACHED,
        ),
        (
            old.conn == WFReportParams && new.conn != WFReportParams,
            ImmediateEffects::LEFT_WF_REPORT_PARAMS,
        ),
        (
            verifying(&old) && new.conn <= Connected,
            ImmediateEffects::VERIFY_ENDED,
        ),
        (
            matches!(pair, (PausedSyncS, SyncSource) | (PausedSyncT, SyncTarget)),
            ImmediateEffects::RESYNC_CONTINUES,
        ),
        (
            matches!(pair, (SyncSource, PausedSyncS) | (SyncTarget, PausedSyncT)),
            ImmediateEffects::RESYNC_SUSPENDED,
        ),
        (
            old.conn == Connected && verifying(&new),
            ImmediateEffects::VERIFY_STARTED,
        ),
        (
            old.disk < Consistent && new.disk >= Consistent,
            ImmediateEffects::EXPOSE_DISK,
        ),
        (
            old.disk == Inconsistent
                && old.pdsk == Inconsistent
                && old.peer == Role::Secondary
                && new.peer == Role::Primary,
            ImmediateEffects::CONSIDER_RESYNC,
        ),
        (stops(&new) && !stops(&old), ImmediateEffects::STOP_RECEIVER),
        (
            old.conn > WFConnection && is_teardown(new.conn),
            ImmediateEffects::RESTART_RECEIVER,
        ),
        (
            !old.is_connected() && new.is_connected(),
            ImmediateEffects::CONNECTED,
        ),
    ])
}

/// Whether a write is sent to the peer as data (`docs/spec/behaviour.md`, section 8.1).
pub fn should_replicate(state: VolumeState) -> bool {
    state.pdsk == DiskState::UpToDate
        || (state.pdsk >= DiskState::Inconsistent
            && state.conn >= ConnState::WFBitMapT
            && state.conn < ConnState::Ahead)
}

/// Whether the peer is told of a write that is not replicated, if that write set a bit
/// (`docs/spec/behaviour.md`, section 8.1).
pub fn should_send_out_of_sync(state: VolumeState) -> bool {
    !should_replicate(state) && matches!(state.conn, ConnState::Ahead | ConnState::WFBitMapS)
}

/// Whether, in this state, the own data are given up for an administrative full sync that has not begun; `before`: whether they were. Its
/// order gives them up, its begin and its end take that back. Without it a disk whose order came to nothing would be called good by its
/// record when it is not.
pub fn is_invalidated(state: VolumeState, before: bool) -> bool {
    match state.conn {
        ConnState::StartingSyncT => state.disk != DiskState::UpToDate,
        ConnState::WFSyncUUID => before,
        _ => false,
    }
}

/// The metadata flags to store with `state` (`docs/spec/behaviour.md`, section 2.10; values of
/// `docs/spec/metadata.md`, section 2.3).
///
/// Without a usable disk nothing is recomputed: `previous` comes back. FULL_SYNC, AL_DISABLED and bits that we do not
/// know are kept.
pub fn md_flags(state: VolumeState, crashed_primary: bool, previous: u32) -> u32 {
    if !state.says_usable_disk() {
        return previous;
    }
    let diskless_peer_primary = state.pdsk < DiskState::Inconsistent && state.peer == Role::Primary;
    let peer_outdated = (DiskState::Inconsistent..=DiskState::Outdated).contains(&state.pdsk);
    [
        (MDF_CONSISTENT, state.disk > DiskState::Inconsistent),
        (
            MDF_PRIMARY_IND,
            state.role == Role::Primary || diskless_peer_primary,
        ),
        (MDF_CONNECTED_IND, state.conn > ConnState::WFReportParams),
        (MDF_WAS_UP_TO_DATE, state.disk > DiskState::Outdated),
        (MDF_PEER_OUT_DATED, peer_outdated),
        (MDF_CRASHED_PRIMARY, crashed_primary),
        (MDF_AL_CLEAN, false),
    ]
    .into_iter()
    .fold(
        previous,
        |flags, (bit, set)| if set { flags | bit } else { flags & !bit },
    )
}

const MDF_CONSISTENT: u32 = 0x001;
const MDF_PRIMARY_IND: u32 = 0x002;
const MDF_CONNECTED_IND: u32 = 0x004;
const MDF_WAS_UP_TO_DATE: u32 = 0x010;
const MDF_PEER_OUT_DATED: u32 = 0x020;
const MDF_CRASHED_PRIMARY: u32 = 0x040;
const MDF_AL_CLEAN: u32 = 0x080;

/// The union of the flags whose condition holds.
fn pick<F: bitflags::Flags, const N: usize>(rows: [(bool, F); N]) -> F {
    rows.into_iter()
        .filter(|(hit, _)| *hit)
        .fold(F::empty(), |all, (_, flag)| all.union(flag))
}
