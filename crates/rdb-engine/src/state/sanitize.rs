//! Values that a new state forces on its other fields (`docs/spec/behaviour.md`, section 2.4).

use core::fmt;

use super::{ConnState, Context, DiskState, Fencing, Role, VolumeState};

bitflags::bitflags! {
    /// What [`sanitize()`] did that operators are told.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct SanitizeNotes: u8 {
        /// A resync ended because a disk is gone (rule 3).
        const RESYNC_ABORTED = 1;
        /// A verify ended because a disk is gone (rule 3).
        const VERIFY_ABORTED = 2;
        /// The link broke while a disk was being negotiated, and the disk does not hold the exposed data (rule 4).
        const LOST_WHILE_NEGOTIATING = 4;
        /// Own disk was raised to fit the connection state (rule 6).
        const UPGRADED_DISK = 8;
        /// The peer's disk was raised to fit the connection state (rule 6).
        const UPGRADED_PDSK = 16;
    }
}

impl SanitizeNotes {
    /// The log lines, in the order of the rules.
    pub fn lines(self) -> impl Iterator<Item = &'static str> {
        [
            (SanitizeNotes::RESYNC_ABORTED, "Resync aborted."),
            (SanitizeNotes::VERIFY_ABORTED, "Online-verify aborted."),
            (
                SanitizeNotes::LOST_WHILE_NEGOTIATING,
                "Connection lost while negotiating, no data!",
            ),
            (SanitizeNotes::UPGRADED_DISK, "Implicitly upgraded disk"),
            (SanitizeNotes::UPGRADED_PDSK, "Implicitly upgraded pdsk"),
        ]
        .into_iter()
        .filter(move |(note, _)| self.contains(*note))
        .map(|(_, line)| line)
    }
}

impl fmt::Display for SanitizeNotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nr, line) in self.lines().enumerate() {
            if nr > 0 {
                f.write_str("\n")?;
            }
            f.write_str(line)?;
        }
        Ok(())
    }
}

/// A record whose fields agree with each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sanitized {
    /// The record.
    pub state: VolumeState,
    /// What was forced.
    pub notes: SanitizeNotes,
}

/// Adds to `new`, wanted in the place of `old`, what it forces.
///
/// The rules are applied in their order, and once more for as long as they still change something: rule 4 can make a
/// volume Unconfigured (rule 2), and rule 9 can narrow the window of rule 6. Three rounds are the most that it takes.
/// So the result is a fixed point; the kernel's driver gets there with its next change.
pub fn sanitize(old: VolumeState, new: VolumeState, ctx: &Context) -> Sanitized {
    let ctx = ctx.in_effect(old.disk);
    let mut notes = SanitizeNotes::empty();
    let mut state = one_round(old, new, &ctx, &mut notes);
    loop {
        let next = one_round(state, state, &ctx, &mut notes);
        if next == state {
            return Sanitized { state, notes };
        }
        state = next;
    }
}

/// What a negotiated disk and the peer's are when the link breaks.
///
/// (L51) Not DRBD's, for which a peer that had no disk here when this one was attached has one that is Inconsistent, by rule 6, and one that was
/// Outdated is so: it would count as fenced, and may have been raised when it met this disk.
fn alone((own, peer): (DiskState, DiskState)) -> (DiskState, DiskState) {
    match peer {
        DiskState::Inconsistent => (own, peer),
        _ => (own, DiskState::DUnknown),
    }
}

/// Whether a disk that is called Outdated is so. (One that is attached while connected comes from Negotiating.)
fn was_outdated(old: DiskState) -> bool {
    matches!(old, DiskState::Outdated | DiskState::Negotiating)
}

/// (L54) Whether a peer that calls its disk Consistent means that. Before it knows us it does so of a disk that it raises when it does, and
/// that is being negotiated is not told of in the end by a DRBD.
fn says_consistent(old: VolumeState) -> bool {
    old.conn >= ConnState::Connected
        && matches!(old.pdsk, DiskState::UpToDate | DiskState::Consistent)
}

/// Rule 5, but (L1) an Outdated disk beside one that is not there stays so: to have met that node does not make it newer. (DRBD raises
/// it, and shows users data that lacks what the other node's detached disk has.) And (L54) so does one that is Consistent only.
fn raise_the_met(old: VolumeState, new: &mut VolumeState, ctx: &Context) {
    let fences = ctx.fencing != Fencing::DontCare;
    let could_be = was_outdated(old.disk) || fences && old.awaits_word();
    let own_stays = could_be && !super::is_there(new.pdsk);
    let peer_stays = !super::is_there(new.disk);
    let waits = fences && new.awaits_word();
    let peer_waits = says_consistent(old) && new.peer_awaits_word();
    for (disk, stays, waits) in [
        (&mut new.disk, own_stays, waits),
        (&mut new.pdsk, peer_stays, peer_waits),
    ] {
        match *disk {
            DiskState::Outdated if stays => {}
            DiskState::Consistent if waits => {}
            DiskState::Consistent | DiskState::Outdated => *disk = DiskState::UpToDate,
            _ => {}
        }
    }
}

fn one_round(
    old: VolumeState,
    mut new: VolumeState,
    ctx: &Context,
    notes: &mut SanitizeNotes,
) -> VolumeState {
    // Rule 1. Inconsistent and Outdated stay, so that they are remembered across a disconnect.
    if new.conn < ConnState::Connected {
        new.peer_isp = false;
        new.peer = Role::Unknown;
        if new.pdsk > DiskState::DUnknown || new.pdsk < DiskState::Inconsistent {
            new.pdsk = DiskState::DUnknown;
        }
        // (L55) Not DRBD's, which calls it Outdated: what the peer has without its disk is not known, and that can be attached again.
        let was_there = old.conn < ConnState::Connected || super::is_there(old.pdsk);
        if new.pdsk == DiskState::Outdated && !was_there {
            new.pdsk = DiskState::DUnknown;
        }
    }
    // Rule 2.
    if new.is_unconfigured() {
        new.aftr_isp = false;
    }
    // Rule 3.
    if new.conn > ConnState::Connected
        && (new.disk <= DiskState::Failed || new.pdsk <= DiskState::Failed)
    {
        let verifies = super::is_verify(new.conn);
        *notes |= match verifies {
            true => SanitizeNotes::VERIFY_ABORTED,
            false => SanitizeNotes::RESYNC_ABORTED,
        };
        // Not DRBD's, for which the target that has not begun is UpToDate beside the source's lost disk: rule 5 would raise
        // Consistent, and users would be served with what the resync was to replace.
        if !verifies && new.pdsk == DiskState::Consistent {
            new.pdsk = DiskState::Outdated;
        }
        new.conn = ConnState::Connected;
    }
    // Rule 4.
    if new.conn < ConnState::Connected && new.disk == DiskState::Negotiating {
        if ctx.exposed_uuid_matches_disk {
            (new.disk, new.pdsk) = alone(ctx.negotiated);
        } else {
            *notes |= SanitizeNotes::LOST_WHILE_NEGOTIATING;
            new.disk = DiskState::Diskless;
            new.pdsk = DiskState::DUnknown;
        }
    }
    // Rule 5.
    if new.conn >= ConnState::Connected && new.conn < ConnState::Ahead {
        raise_the_met(old, &mut new, ctx);
    }
    // (L12) Not DRBD's, which forgets about it and calls the disk UpToDate at the next handshake: data that were given up with
    // consent stay so when the resync that was to replace them does not come to begin.
    let begins = matches!(
        new.conn,
        ConnState::StartingSyncT
            | ConnState::WFSyncUUID
            | ConnState::SyncTarget
            | ConnState::PausedSyncT
    );
    if ctx.invalidated && !begins && super::is_there(new.disk) {
        new.disk = DiskState::Inconsistent;
    }
    // Rule 6.
    let mut window = Window::of(new.conn);
    if keeps_its_data(old, new, ctx) {
        window.disk.1 = DiskState::UpToDate;
    }
    if new.disk < window.disk.0 {
        *notes |= SanitizeNotes::UPGRADED_DISK;
    }
    if new.pdsk < window.pdsk.0 {
        *notes |= SanitizeNotes::UPGRADED_PDSK;
    }
    new.disk = new.disk.clamp(window.disk.0, window.disk.1);
    new.pdsk = new.pdsk.clamp(window.pdsk.0, window.pdsk.1);
    // Rules 7 and 8 act on the way into the condition only: resuming I/O by hand must last.
    let wants_fencing = |state: &VolumeState| {
        state.role == Role::Primary
            && state.conn < ConnState::Connected
            && state.pdsk > DiskState::Outdated
    };
    if ctx.fencing == Fencing::ResourceAndStonith && wants_fencing(&new) && !wants_fencing(&old) {
        new.susp_fen = true;
    }
    if ctx.suspend_on_no_data && new.is_primary_without_data() && !old.is_primary_without_data() {
        new.susp_nod = true;
    }
    // Rule 9.
    new.conn = match (new.conn, new.is_resync_paused()) {
        (ConnState::SyncSource, true) => ConnState::PausedSyncS,
        (ConnState::SyncTarget, true) => ConnState::PausedSyncT,
        (ConnState::PausedSyncS, false) => ConnState::SyncSource,
        (ConnState::PausedSyncT, false) => ConnState::SyncTarget,
        (conn, _) => conn,
    };
    new
}

/// (L13) Not DRBD's, which gives the own disk up with the order for a full sync: whether it stays what it is until the source says
/// that it begins. Nothing has been overwritten before, and a source that never begins would cost users their data.
///
/// A Secondary gives its disk up at once if its own administrator calls the data bad, which is to be remembered; and if
/// the peer is Primary: what that one writes before it hears of our consent may be there alone.
fn keeps_its_data(old: VolumeState, new: VolumeState, ctx: &Context) -> bool {
    match new.conn {
        ConnState::StartingSyncT if old.conn == ConnState::StartingSyncT => {
            old.disk == DiskState::UpToDate
        }
        ConnState::StartingSyncT => {
            new.role == Role::Primary || !ctx.ordered_here && new.peer != Role::Primary
        }
        ConnState::WFSyncUUID => old.awaits_source() && old.disk == DiskState::UpToDate,
        _ => false,
    }
}

impl VolumeState {
    /// (L54) Not DRBD's, which raises it to UpToDate: whether a disk of this node that is Consistent only stays so with fencing, since
    /// the peer that it has met can say nothing of the data. That one has no disk, and the disk that it lacks may be newer. Beside a
    /// Primary it is what that one's users see.
    pub fn awaits_word(&self) -> bool {
        self.disk == DiskState::Consistent
            && self.conn >= ConnState::Connected
            && !super::is_there(self.pdsk)
            && self.role != Role::Primary
            && self.peer != Role::Primary
    }

    /// (L54) The same of the peer's disk, if this node is the one that has none. It is the peer who fences.
    pub fn peer_awaits_word(&self) -> bool {
        let of_peer = VolumeState {
            role: self.peer,
            peer: self.role,
            disk: self.pdsk,
            pdsk: self.disk,
            ..*self
        };
        of_peer.awaits_word()
    }

    /// Whether this node is Primary and neither disk is UpToDate.
    pub fn is_primary_without_data(&self) -> bool {
        self.role == Role::Primary
            && self.disk < DiskState::UpToDate
            && self.pdsk < DiskState::UpToDate
    }
}

/// The disk states that a connection state allows, lowest and highest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Own disk.
    pub disk: (DiskState, DiskState),
    /// The peer's disk.
    pub pdsk: (DiskState, DiskState),
}

impl Window {
    /// The window of rule 6 for `conn`.
    pub fn of(conn: ConnState) -> Window {
        use DiskState::{Consistent, DUnknown, Diskless, Inconsistent, Outdated, UpToDate};
        let (disk, pdsk) = match conn {
            ConnState::StartingSyncT
            | ConnState::WFBitMapT
            | ConnState::WFSyncUUID
            | ConnState::PausedSyncT
            | ConnState::Behind => ((Inconsistent, Outdated), (UpToDate, UpToDate)),
            ConnState::SyncTarget => ((Inconsistent, Inconsistent), (UpToDate, UpToDate)),
            ConnState::StartingSyncS
            | ConnState::WFBitMapS
            | ConnState::PausedSyncS
            | ConnState::Ahead => ((UpToDate, UpToDate), (Inconsistent, Consistent)),
            ConnState::SyncSource => ((UpToDate, UpToDate), (Inconsistent, Inconsistent)),
            ConnState::VerifyS | ConnState::VerifyT => ((UpToDate, UpToDate), (UpToDate, UpToDate)),
            ConnState::Connected => ((Diskless, UpToDate), (Diskless, UpToDate)),
            ConnState::StandAlone
            | ConnState::Disconnecting
            | ConnState::Unconnected
            | ConnState::Timeout
            | ConnState::BrokenPipe
            | ConnState::NetworkFailure
            | ConnState::ProtocolError
            | ConnState::TearDown
            | ConnState::WFConnection
            | ConnState::WFReportParams => ((Diskless, UpToDate), (Inconsistent, DUnknown)),
        };
        Window { disk, pdsk }
    }
}
