//! What follows from a change of state (`docs/spec/behaviour.md`, sections 2.10, 2.11, 3, 4.3 and 8.1).

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
        /// Row 10: connected now and not before: AL updates resume, the connect counter moves.
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

bitflags::bitflags! {
    /// The rows of section 3 whose trigger is the pair of states, or that part of the trigger that is.
    ///
    /// A1 (tell listeners) and A30 (write the superblock if dirty) follow from every change and have no flag; A21 is
    /// not a matter of states. The caller does the rows in the order of their numbers. Where the text says "now" the
    /// caller looks again when it gets to it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct AfterActions: u32 {
        /// A2: both disks became UpToDate: clear the crashed-primary mark, and flag 2 in the stored peer UUIDs.
        const BOTH_UP_TO_DATE = 1 << 2;
        /// A3: Primary, and no disk is UpToDate any more: handler `pri-on-incon-degr`.
        const NO_DATA = 1 << 3;
        /// A4: susp_nod is set and this volume got connected: if all volumes are, resend the transfer log and clear
        /// susp_nod.
        const MAY_THAW_BY_PEER = 1 << 4;
        /// A5: susp_nod is set and this volume's disk left Attaching or Negotiating: if the lowest disk of all volumes
        /// is UpToDate, restart the frozen local I/O and clear susp_nod.
        const MAY_THAW_BY_DISK = 1 << 5;
        /// A6: susp_fen is set and this volume is connected: if all are, drop pending-new-UUID on all volumes, resend
        /// the transfer log and clear susp_fen.
        const MAY_END_FENCING = 1 << 6;
        /// A7: became SyncSource or PausedSyncS: at protocol 96 and above create and send the sync UUID, before any
        /// state packet of the rows below.
        const BECAME_SYNC_SOURCE = 1 << 7;
        /// A8: the peer attached a disk: reset the resync counters, send UUIDs, send state.
        const PEER_ATTACHED = 1 << 8;
        /// A9: became WFBitMapS (if it still is now): queue sending the bitmap.
        const TO_WF_BITMAP_S = 1 << 9;
        /// A10: lost the peer's data, own disk UpToDate, a node is Primary: if the bitmap UUID is 0 make a new current
        /// UUID and send UUIDs, or set pending-new-UUID if the new state is suspended.
        const LOST_PEER_DATA = 1 << 10;
        /// A11: the peer became Primary without a usable disk and own disk is UpToDate: if the bitmap UUID is 0 make a
        /// new current UUID and send UUIDs.
        const DISKLESS_PEER_PROMOTED = 1 << 11;
        /// A12: the peer, without a usable disk, was demoted: write changed bitmap pages.
        const DISKLESS_PEER_DEMOTED = 1 << 12;
        /// A13: demoted: if conn is Connected or below now, write changed bitmap pages.
        const DEMOTED = 1 << 13;
        /// A14: Attaching → Negotiating while connected: send sizes, UUIDs, state.
        const NEGOTIATING = 1 << 14;
        /// A15: aftr_isp or user_isp changed while connected: send state.
        const ISP_CHANGED = 1 << 15;
        /// A16: the first pause flag is set: pause other volumes by resync-after.
        const FIRST_PAUSE = 1 << 16;
        /// A17: WFReportParams → connected: send state.
        const LEFT_WF_REPORT_PARAMS = 1 << 17;
        /// A18: became Ahead: send state.
        const TO_AHEAD = 1 << 18;
        /// A19: became StartingSyncS or StartingSyncT: set all bits, write them, then go on.
        const STARTING_SYNC = 1 << 19;
        /// A20: the disk became Failed.
        const DISK_FAILED = 1 << 20;
        /// A22: the disk became Diskless: if connected send state; release the device.
        const DISK_DISKLESS = 1 << 22;
        /// A23: UpToDate → Inconsistent while connected: send state.
        const DISK_INCONSISTENT = 1 << 23;
        /// A24: both disks are better than Negotiating, and conn is Connected: if the device grew while it was
        /// detached, resync the new area.
        const BOTH_ATTACHED = 1 << 24;
        /// A25: a resync or verify ended, or a pause flag was cleared: resume other volumes by resync-after.
        const RESUME_OTHERS = 1 << 25;
        /// A26: a resync ended or was aborted on the target: send state.
        const SYNC_ENDED_TARGET = 1 << 26;
        /// A27: VerifyS → Connected: send state at protocol 97 to 99 and from 101.
        const VERIFY_S_ENDED = 1 << 27;
        /// A28: a resync or verify ended with the disk still there: write changed bitmap pages.
        const WRITE_BITMAP = 1 << 28;
        /// A29: Unconfigured, and aftr_isp changed: resume waiting volumes.
        const UNCONFIGURED_RESUMES = 1 << 29;
    }
}

/// The actions of section 3 that the move from `old` to `new` asks for.
pub fn after(old: VolumeState, new: VolumeState) -> AfterActions {
    use ConnState::{
        Ahead, Behind, Connected, PausedSyncS, PausedSyncT, StartingSyncS, StartingSyncT,
        SyncSource, SyncTarget, VerifyS, WFBitMapS, WFReportParams, WFSyncUUID,
    };
    use DiskState::{Attaching, DUnknown, Diskless, Failed, Inconsistent, Negotiating, UpToDate};
    use Role::{Primary, Secondary};

    let enters = |conn: ConnState| new.conn == conn && old.conn != conn;
    let both_up = |state: &VolumeState| state.disk == UpToDate && state.pdsk == UpToDate;
    let both_attached = |state: &VolumeState| state.disk > Negotiating && state.pdsk > Negotiating;
    let is_source = |state: &VolumeState| matches!(state.conn, SyncSource | PausedSyncS);
    let was_syncing = (SyncSource..=PausedSyncT).contains(&old.conn);
    let pdsk_unusable = new.pdsk < Inconsistent;
    let own_pause_changed = old.aftr_isp != new.aftr_isp || old.user_isp != new.user_isp;
    let pause_cleared = (old.peer_isp && !new.peer_isp) || (old.user_isp && !new.user_isp);

    pick([
        (
            both_up(&new) && !both_up(&old),
            AfterActions::BOTH_UP_TO_DATE,
        ),
        (
            new.is_primary_without_data() && !old.is_primary_without_data(),
            AfterActions::NO_DATA,
        ),
        (
            new.susp_nod && !old.is_connected() && new.is_connected(),
            AfterActions::MAY_THAW_BY_PEER,
        ),
        (
            new.susp_nod && matches!(old.disk, Attaching | Negotiating) && new.disk == UpToDate,
            AfterActions::MAY_THAW_BY_DISK,
        ),
        (
            new.susp_fen && new.is_connected(),
            AfterActions::MAY_END_FENCING,
        ),
        (
            is_source(&new) && !is_source(&old),
            AfterActions::BECAME_SYNC_SOURCE,
        ),
        (
            old.pdsk == Diskless && new.pdsk > Diskless && new.pdsk != DUnknown,
            AfterActions::PEER_ATTACHED,
        ),
        (enters(WFBitMapS), AfterActions::TO_WF_BITMAP_S),
        (
            lost_peer_data(old.pdsk, new.pdsk) && new.disk == UpToDate && new.is_a_node_primary(),
            AfterActions::LOST_PEER_DATA,
        ),
        (
            pdsk_unusable && old.peer != Primary && new.peer == Primary && new.disk == UpToDate,
            AfterActions::DISKLESS_PEER_PROMOTED,
        ),
        (
            pdsk_unusable && old.peer == Primary && new.peer == Secondary,
            AfterActions::DISKLESS_PEER_DEMOTED,
        ),
        (
            old.role == Primary && new.role == Secondary,
            AfterActions::DEMOTED,
        ),
        (
            old.disk == Attaching && new.disk == Negotiating && new.is_connected(),
            AfterActions::NEGOTIATING,
        ),
        (
            own_pause_changed && new.is_connected(),
            AfterActions::ISP_CHANGED,
        ),
        (
            new.is_resync_paused() && !old.is_resync_paused(),
            AfterActions::FIRST_PAUSE,
        ),
        (
            old.conn == WFReportParams && new.is_connected(),
            AfterActions::LEFT_WF_REPORT_PARAMS,
        ),
        (enters(Ahead), AfterActions::TO_AHEAD),
        (
            enters(StartingSyncS) || enters(StartingSyncT),
            AfterActions::STARTING_SYNC,
        ),
        (
            old.disk != Failed && new.disk == Failed,
            AfterActions::DISK_FAILED,
        ),
        (
            old.disk != Diskless && new.disk == Diskless,
            AfterActions::DISK_DISKLESS,
        ),
        (
            // (A full sync that begins is not announced: its source has said so.)
            old.disk == UpToDate
                && new.disk == Inconsistent
                && new.is_connected()
                && !(old.conn == WFSyncUUID && matches!(new.conn, SyncTarget | PausedSyncT)),
            AfterActions::DISK_INCONSISTENT,
        ),
        (
            both_attached(&new) && new.conn == Connected,
            AfterActions::BOTH_ATTACHED,
        ),
        (
            (old.conn > Connected && new.conn <= Connected) || pause_cleared,
            AfterActions::RESUME_OTHERS,
        ),
        (
            old.disk < UpToDate && old.conn >= SyncSource && new.conn == Connected,
            AfterActions::SYNC_ENDED_TARGET,
        ),
        (
            old.conn == VerifyS && new.conn == Connected,
            AfterActions::VERIFY_S_ENDED,
        ),
        (
            was_syncing && matches!(new.conn, Connected | Ahead | Behind) && new.has_usable_disk(),
            AfterActions::WRITE_BITMAP,
        ),
        (
            new.is_unconfigured() && old.aftr_isp != new.aftr_isp,
            AfterActions::UNCONFIGURED_RESUMES,
        ),
    ])
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

/// The metadata flags to store with `state` (`docs/spec/behaviour.md`, section 2.10; values of
/// `docs/spec/metadata.md`, section 2.3).
///
/// Without a usable disk nothing is recomputed: `previous` comes back. FULL_SYNC, AL_DISABLED and bits that we do not
/// know are kept.
pub fn md_flags(state: VolumeState, crashed_primary: bool, previous: u32) -> u32 {
    if !state.has_usable_disk() {
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
