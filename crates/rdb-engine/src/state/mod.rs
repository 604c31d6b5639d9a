//! The state record of one volume, and the tables that govern it (`docs/spec/behaviour.md`, sections 2, 3 and 8.1).
//!
//! Every change of state takes the same road, [`request`]: the wanted values replace the old ones, [`sanitize()`] adds
//! the companions that the new state forces, [`hard_transition`] refuses moves that are impossible even for facts, and
//! a change that is a wish, not a fact, must also pass [`validate()`] and [`soft_transition`]. What follows from an
//! accepted change is told by [`immediate()`] and `rules/consequences.rs`. All of these are pure functions over
//! values: the record holds no reference to a disk, a socket or a configuration; whatever else the tables look at is in
//! [`Context`].
//!
//! ```text
//!   old + Change ──► sanitize ──► nothing differs? ──► Outcome::NothingToDo
//!                                     │
//!                              hard_transition ──► validate, soft_transition (wishes only)
//!                                     │
//!                        Outcome::Changed ──► immediate, md_flags ──► consequences
//! ```
//!
//! Numbers matter: the tables compare states by `<` and `>` of their numbers on the wire.
//!
//! Invariants, checked by `tests/tables_*.rs`: a sanitized record is a fixed point of [`sanitize()`], and a wish never
//! leads to a record that breaks a row of [`validate()`] that the old one kept.

mod change;
mod immediate;
mod print;
mod result;
mod sanitize;
mod transition;
mod validate;

use core::fmt;

pub use change::{BadState, Change};
pub use immediate::{
    ImmediateEffects, immediate, is_invalidated, md_flags, should_replicate,
    should_send_out_of_sync,
};
pub use print::{UpperBlocked, change_log, flags6, refusal_log, susp_log};
pub use replica_proto::state::{ConnState, DiskState, Role};
pub use result::{Outcome, StateError, StateResult, StateSuccess, is_success};
pub use sanitize::{SanitizeNotes, Sanitized, Window, sanitize};
pub use transition::{
    hard_transition, is_cluster_wide, is_legal_move, request, request_for_peer, soft_transition,
};
pub use validate::validate;

/// The state record of one volume, the resource's suspension flags included (`docs/spec/behaviour.md`, section 2.1).
///
/// The three `susp` flags belong to the resource; they are in the record because the tables read and set them, and a
/// change of them is carried over to all volumes of the resource by the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VolumeState {
    /// Own role; never `Unknown`.
    pub role: Role,
    /// The peer's role, `Unknown` without a connection.
    pub peer: Role,
    /// Connection and replication state.
    pub conn: ConnState,
    /// Own disk; never `DUnknown`.
    pub disk: DiskState,
    /// The peer's disk.
    pub pdsk: DiskState,
    /// The resync is paused by a local resync-after dependency.
    pub aftr_isp: bool,
    /// The resync is paused by the peer.
    pub peer_isp: bool,
    /// The resync is paused by the local administrator.
    pub user_isp: bool,
    /// I/O is suspended by the administrator.
    pub susp: bool,
    /// I/O is suspended because no up-to-date data can be reached.
    pub susp_nod: bool,
    /// I/O is suspended until the peer is fenced.
    pub susp_fen: bool,
}

impl VolumeState {
    /// A new volume: Secondary/Unknown, StandAlone, Diskless/DUnknown, no flag set.
    pub const INITIAL: VolumeState = VolumeState {
        role: Role::Secondary,
        peer: Role::Unknown,
        conn: ConnState::StandAlone,
        disk: DiskState::Diskless,
        pdsk: DiskState::DUnknown,
        aftr_isp: false,
        peer_isp: false,
        user_isp: false,
        susp: false,
        susp_nod: false,
        susp_fen: false,
    };

    /// Whether application I/O is suspended, for any of the three reasons.
    pub fn is_suspended(&self) -> bool {
        self.susp || self.susp_nod || self.susp_fen
    }

    /// Whether a resync would be paused, for any of the three reasons.
    pub fn is_resync_paused(&self) -> bool {
        self.aftr_isp || self.peer_isp || self.user_isp
    }

    /// Whether the volume is connected: Connected or any state that needs it.
    pub fn is_connected(&self) -> bool {
        self.conn >= ConnState::Connected
    }

    /// Whether the disk's metadata may be read and written: Inconsistent or better.
    pub fn says_usable_disk(&self) -> bool {
        self.disk >= DiskState::Inconsistent
    }

    /// Whether a resync runs or is paused, or a verify runs (SyncSource to PausedSyncT, 16 to 21): what users write is sent to the other
    /// side, and blocks of it that both have are marked no more.
    pub fn compares_blocks(&self) -> bool {
        (ConnState::SyncSource..=ConnState::PausedSyncT).contains(&self.conn)
    }

    /// Whether a full sync onto the own disk has been agreed on and has not begun: the source's P_SYNC_UUID is awaited. A
    /// resync that a handshake has decided waits for it in WFSyncUUID, too, with a disk that is not UpToDate.
    pub fn awaits_source(&self) -> bool {
        matches!(self.conn, ConnState::StartingSyncT | ConnState::WFSyncUUID)
    }

    /// What the peer is told of this state: a disk that is good until a full sync onto it begins is called Outdated, as the driver does from
    /// its consent on. Otherwise the source would take it for a copy to rely on.
    #[must_use]
    pub fn as_told(self) -> VolumeState {
        match self.awaits_source() && self.disk > DiskState::Outdated {
            true => VolumeState {
                disk: DiskState::Outdated,
                ..self
            },
            false => self,
        }
    }

    /// Whether the own disk is good and stays so: what it has is not about to be replaced by the peer's data.
    pub fn has_lasting_copy(&self) -> bool {
        self.disk == DiskState::UpToDate && !self.awaits_source()
    }

    /// Whether what is lost with the peer is kept for its return, or until it is fenced.
    pub fn awaits_the_peer(&self) -> bool {
        self.susp_fen || self.susp_nod
    }

    /// Whether the peer or its disk is not there: what users write is only here.
    pub fn is_without_peer(&self) -> bool {
        self.conn < ConnState::Connected || self.pdsk <= DiskState::Failed
    }

    /// Whether this node or the peer is known to be Primary.
    pub fn is_a_node_primary(&self) -> bool {
        self.role == Role::Primary || self.peer == Role::Primary
    }

    /// Whether the volume prints as `Unconfigured`: StandAlone, Diskless and Secondary.
    pub fn is_unconfigured(&self) -> bool {
        self.conn == ConnState::StandAlone
            && self.disk == DiskState::Diskless
            && self.role == Role::Secondary
    }

    /// The record with the fields that `change` names replaced: `new = (own & !mask) | val`.
    #[must_use]
    pub fn apply(self, change: Change) -> VolumeState {
        VolumeState {
            role: change.role.unwrap_or(self.role),
            peer: change.peer.unwrap_or(self.peer),
            conn: change.conn.unwrap_or(self.conn),
            disk: change.disk.unwrap_or(self.disk),
            pdsk: change.pdsk.unwrap_or(self.pdsk),
            aftr_isp: change.aftr_isp.unwrap_or(self.aftr_isp),
            peer_isp: change.peer_isp.unwrap_or(self.peer_isp),
            user_isp: change.user_isp.unwrap_or(self.user_isp),
            susp: change.susp.unwrap_or(self.susp),
            susp_nod: change.susp_nod.unwrap_or(self.susp_nod),
            susp_fen: change.susp_fen.unwrap_or(self.susp_fen),
        }
    }

    /// The 32-bit state word (`docs/spec/wire.md`, section 5.6).
    pub fn to_word(&self) -> u32 {
        Change::all_of(self).to_mask_val().1
    }

    /// Reads a 32-bit state word. Bits 23..=31 are unused and ignored here: a newer peer may set them.
    pub fn from_word(word: u32) -> Result<VolumeState, BadState> {
        let change = Change::from_mask_val(Change::EVERY_FIELD, word & Change::EVERY_FIELD)?;
        Ok(VolumeState::INITIAL.apply(change))
    }
}

impl fmt::Display for VolumeState {
    /// As in the log: `cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate r-----`. The letters are `r` or `s`
    /// (suspended), `a`, `p`, `u` (pause flags), `F` (susp_fen), `N` (susp_nod).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |set: bool, letter: char| if set { letter } else { '-' };
        write!(
            f,
            "cs:{} ro:{}/{} ds:{}/{} {}{}{}{}{}{}",
            self.conn,
            self.role,
            self.peer,
            self.disk,
            self.pdsk,
            if self.is_suspended() { 's' } else { 'r' },
            letter(self.aftr_isp, 'a'),
            letter(self.peer_isp, 'p'),
            letter(self.user_isp, 'u'),
            letter(self.susp_fen, 'F'),
            letter(self.susp_nod, 'N'),
        )
    }
}

/// `fencing`: what happens when a Primary loses its peer (`docs/spec/behaviour.md`, section 10.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Fencing {
    /// Nothing.
    #[default]
    DontCare = 0,
    /// The peer is fenced in the background, I/O goes on.
    ResourceOnly = 1,
    /// The peer is fenced, I/O waits for it.
    ResourceAndStonith = 2,
}

impl fmt::Display for Fencing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fencing::DontCare => "dont-care",
            Fencing::ResourceOnly => "resource-only",
            Fencing::ResourceAndStonith => "resource-and-stonith",
        })
    }
}

/// What the tables look at beside the record (`docs/spec/behaviour.md`, sections 2.4 to 2.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    /// The resource has a network configuration.
    pub net_configured: bool,
    /// `allow-two-primaries`.
    pub two_primaries: bool,
    /// The peer is Primary on another volume of the resource. (This volume's peer is in the record.)
    pub peer_primary_on_other_volume: bool,
    /// Somebody holds the device open.
    pub device_open: bool,
    /// `fencing` as configured. It is an option of the disk: [`sanitize()`] and [`request`] treat it as dont-care while
    /// the present disk is not usable. [`validate()`] takes it as it stands.
    pub fencing: Fencing,
    /// `on-no-data-accessible suspend-io`.
    pub suspend_on_no_data: bool,
    /// `verify-alg` is configured.
    pub verify_alg_set: bool,
    /// The protocol version agreed with the peer; 0 if there is none.
    pub agreed_version: u32,
    /// Own parameters are sent and the handshake is not finished for every volume.
    pub state_sent: bool,
    /// The exposed data UUID equals the disk's current UUID, bit 0 ignored, and users have written nothing on the
    /// peer's disk alone since.
    pub exposed_uuid_matches_disk: bool,
    /// What disk and pdsk would have become without a connection; used while the disk is Negotiating.
    pub negotiated: (DiskState, DiskState),
    /// Own data were given up for an administrative full sync, which has not begun.
    pub invalidated: bool,
    /// The administrator of this node is the one who has ordered a full sync onto its disk.
    pub ordered_here: bool,
    /// The volume has been Connected without a change for long enough that no handshake can be on its way.
    pub settled: bool,
}

impl Context {
    /// The context of a volume without network, options and openers.
    pub const DEFAULT: Context = Context {
        net_configured: false,
        two_primaries: false,
        peer_primary_on_other_volume: false,
        device_open: false,
        fencing: Fencing::DontCare,
        suspend_on_no_data: false,
        verify_alg_set: false,
        agreed_version: 0,
        state_sent: false,
        exposed_uuid_matches_disk: false,
        negotiated: (DiskState::Diskless, DiskState::DUnknown),
        invalidated: false,
        ordered_here: false,
        settled: false,
    };

    /// This context with the fencing policy that is in effect while the disk is in state `present`.
    #[must_use]
    pub fn in_effect(self, present: DiskState) -> Context {
        if present >= DiskState::Inconsistent {
            self
        } else {
            Context {
                fencing: Fencing::DontCare,
                ..self
            }
        }
    }
}

impl Default for Context {
    fn default() -> Self {
        Context::DEFAULT
    }
}

/// Whether it is the source of a resync that runs, or is paused.
pub fn is_source(conn: ConnState) -> bool {
    matches!(conn, ConnState::SyncSource | ConnState::PausedSyncS)
}

/// Whether it is the target of a resync that runs, or is paused.
pub fn is_target(conn: ConnState) -> bool {
    matches!(conn, ConnState::SyncTarget | ConnState::PausedSyncT)
}

/// Whether a verify runs, driven from either side.
pub fn is_verify(conn: ConnState) -> bool {
    matches!(conn, ConnState::VerifyS | ConnState::VerifyT)
}

/// Whether a state speaks of a disk that holds data and takes part: Inconsistent, Outdated, Consistent or UpToDate.
pub fn is_there(disk: DiskState) -> bool {
    matches!(
        disk,
        DiskState::Inconsistent | DiskState::Outdated | DiskState::Consistent | DiskState::UpToDate
    )
}
