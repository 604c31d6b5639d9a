//! Roles, disk states, connection states, and the state word that packs them.
//!
//! docs/spec/wire.md, sections 5.6 (the word and its numbers) and 11.1 (conversion between points of view).
//!
//! | bits  | mask         | field      | meaning                                               |
//! |------:|-------------:|------------|-------------------------------------------------------|
//! |  0-1  | `0x00000003` | `role`     | the sender's [`Role`]                                 |
//! |  2-3  | `0x0000000c` | `peer`     | the receiver's [`Role`] as the sender sees it         |
//! |  4-8  | `0x000001f0` | `conn`     | [`ConnState`]                                         |
//! |  9-12 | `0x00001e00` | `disk`     | the sender's [`DiskState`]                            |
//! | 13-16 | `0x0001e000` | `pdsk`     | the receiver's [`DiskState`] as the sender sees it    |
//! | 17    | `0x00020000` | `susp`     | I/O suspended by the user                             |
//! | 18    | `0x00040000` | `aftr_isp` | resync paused: it waits for another one               |
//! | 19    | `0x00080000` | `peer_isp` | resync paused: the peer says so                       |
//! | 20    | `0x00100000` | `user_isp` | resync paused by the user                             |
//! | 21    | `0x00200000` | `susp_nod` | I/O suspended: no up-to-date data                     |
//! | 22    | `0x00400000` | `susp_fen` | I/O suspended: the fencing handler runs               |
//! | 23-31 |              |            | unused, zero                                          |
//!
//! A received word is kept as it is: a number outside the tables is an error of the accessor that meets it, so that
//! a field nobody looks at cannot end a connection.

use core::fmt;

/// A number in a state word that has no meaning in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("state {field} has no number {number}")]
pub struct BadState {
    /// The field of the state word, in DRBD's spelling (`role`, `peer`, `conn`, `disk`, `pdsk`).
    pub field: &'static str,
    /// The number that was found.
    pub number: u32,
}

/// A name that is not one of DRBD's state names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no {kind} has this name")]
pub struct UnknownStateName {
    /// What was looked for: `role`, `disk state` or `connection state`.
    pub kind: &'static str,
}

macro_rules! state_enum {
    (
        $(#[$doc:meta])* $name:ident, $kind:literal, $field:literal,
        { $($(#[$vdoc:meta])* $variant:ident = $number:literal),+ $(,)? }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $number),+ }

        impl $name {
            /// Every value, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The number in the state word.
            #[must_use]
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// The state with this number.
            ///
            /// # Errors
            /// [`BadState`] for a number outside the table of docs/spec/wire.md, section 5.6.
            pub const fn from_number(number: u32) -> Result<Self, BadState> {
                match number {
                    $($number => Ok(Self::$variant),)+
                    _ => Err(BadState { field: $field, number }),
                }
            }

            /// DRBD's spelling.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl core::str::FromStr for $name {
            type Err = UnknownStateName;

            fn from_str(name: &str) -> Result<Self, UnknownStateName> {
                match name {
                    $(stringify!($variant) => Ok(Self::$variant),)+
                    _ => Err(UnknownStateName { kind: $kind }),
                }
            }
        }
    };
}

state_enum! {
    /// Who may write: the role of a node. Ordered by number.
    Role, "role", "role",
    {
        /// Not known (no connection).
        Unknown = 0,
        /// May read and write.
        Primary = 1,
        /// Only mirrors.
        Secondary = 2,
    }
}

state_enum! {
    /// What the data of a disk is worth. Ordered by number; many rules compare.
    DiskState, "disk state", "disk",
    {
        /// No disk attached.
        Diskless = 0,
        /// Being attached: the metadata is being read.
        Attaching = 1,
        /// Failed: being given up after an I/O error.
        Failed = 2,
        /// Attached while connected: waiting for the agreement with the peer.
        Negotiating = 3,
        /// Not a consistent image of any moment.
        Inconsistent = 4,
        /// Consistent, known to be old.
        Outdated = 5,
        /// Not known: only of a peer that is not connected.
        DUnknown = 6,
        /// Consistent; whether it is up to date is known only once the peer is met.
        Consistent = 7,
        /// Current.
        UpToDate = 8,
    }
}

state_enum! {
    /// The connection and what replication does over it. Ordered by number; many rules compare.
    ConnState, "connection state", "conn",
    {
        /// No network configured or given up.
        StandAlone = 0,
        /// Going to StandAlone.
        Disconnecting = 1,
        /// Between two attempts.
        Unconnected = 2,
        /// The peer did not answer in time.
        Timeout = 3,
        /// The data socket broke.
        BrokenPipe = 4,
        /// The network failed.
        NetworkFailure = 5,
        /// The peer sent something it must not.
        ProtocolError = 6,
        /// The peer disconnects.
        TearDown = 7,
        /// Waiting for the peer.
        WFConnection = 8,
        /// Sockets are there; waiting for the peer's parameters.
        WFReportParams = 9,
        /// Mirroring.
        Connected = 10,
        /// Full sync asked for, this node is the source.
        StartingSyncS = 11,
        /// Full sync asked for, this node is the target.
        StartingSyncT = 12,
        /// Bitmap exchange, this node will be the source.
        WFBitMapS = 13,
        /// Bitmap exchange, this node will be the target.
        WFBitMapT = 14,
        /// The target waits for the sync UUID.
        WFSyncUUID = 15,
        /// Resync, this node is the source.
        SyncSource = 16,
        /// Resync, this node is the target.
        SyncTarget = 17,
        /// Online verify that this node started.
        VerifyS = 18,
        /// Online verify that the peer started.
        VerifyT = 19,
        /// Resync paused, this node is the source.
        PausedSyncS = 20,
        /// Resync paused, this node is the target.
        PausedSyncT = 21,
        /// Congested: only tells the peer what changed.
        Ahead = 22,
        /// The peer is Ahead.
        Behind = 23,
    }
}

const PEER_SHIFT: u32 = 2;
const CONN_SHIFT: u32 = 4;
const DISK_SHIFT: u32 = 9;
const PDSK_SHIFT: u32 = 13;

/// The 32-bit state word of `P_STATE` and of state change requests, as received or as built.
///
/// The layout stands in the [module documentation](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StateWord(pub u32);

impl StateWord {
    /// All bits of `role`.
    pub const ROLE_MASK: u32 = 0x0000_0003;
    /// All bits of `peer`.
    pub const PEER_MASK: u32 = 0x0000_000c;
    /// All bits of `conn`.
    pub const CONN_MASK: u32 = 0x0000_01f0;
    /// All bits of `disk`.
    pub const DISK_MASK: u32 = 0x0000_1e00;
    /// All bits of `pdsk`.
    pub const PDSK_MASK: u32 = 0x0001_e000;
    /// The bit `susp`.
    pub const SUSP: u32 = 0x0002_0000;
    /// The bit `aftr_isp`.
    pub const AFTR_ISP: u32 = 0x0004_0000;
    /// The bit `peer_isp`.
    pub const PEER_ISP: u32 = 0x0008_0000;
    /// The bit `user_isp`.
    pub const USER_ISP: u32 = 0x0010_0000;
    /// The bit `susp_nod`.
    pub const SUSP_NOD: u32 = 0x0020_0000;
    /// The bit `susp_fen`.
    pub const SUSP_FEN: u32 = 0x0040_0000;

    /// A word with these fields and every flag clear.
    #[must_use]
    pub const fn new(
        role: Role,
        peer: Role,
        conn: ConnState,
        disk: DiskState,
        pdsk: DiskState,
    ) -> Self {
        Self(0)
            .with_role(role)
            .with_peer(peer)
            .with_conn(conn)
            .with_disk(disk)
            .with_pdsk(pdsk)
    }

    const fn replace(self, mask: u32, bits: u32) -> Self {
        Self((self.0 & !mask) | (bits & mask))
    }

    const fn flag(self, bit: u32, on: bool) -> Self {
        self.replace(bit, if on { bit } else { 0 })
    }

    /// The word with another `role`.
    #[must_use]
    pub const fn with_role(self, role: Role) -> Self {
        self.replace(Self::ROLE_MASK, role.number())
    }

    /// The word with another `peer`.
    #[must_use]
    pub const fn with_peer(self, peer: Role) -> Self {
        self.replace(Self::PEER_MASK, peer.number() << PEER_SHIFT)
    }

    /// The word with another `conn`.
    #[must_use]
    pub const fn with_conn(self, conn: ConnState) -> Self {
        self.replace(Self::CONN_MASK, conn.number() << CONN_SHIFT)
    }

    /// The word with another `disk`.
    #[must_use]
    pub const fn with_disk(self, disk: DiskState) -> Self {
        self.replace(Self::DISK_MASK, disk.number() << DISK_SHIFT)
    }

    /// The word with another `pdsk`.
    #[must_use]
    pub const fn with_pdsk(self, pdsk: DiskState) -> Self {
        self.replace(Self::PDSK_MASK, pdsk.number() << PDSK_SHIFT)
    }

    /// The word with `susp` set or cleared.
    #[must_use]
    pub const fn with_susp(self, on: bool) -> Self {
        self.flag(Self::SUSP, on)
    }

    /// The word with `aftr_isp` set or cleared.
    #[must_use]
    pub const fn with_aftr_isp(self, on: bool) -> Self {
        self.flag(Self::AFTR_ISP, on)
    }

    /// The word with `peer_isp` set or cleared.
    #[must_use]
    pub const fn with_peer_isp(self, on: bool) -> Self {
        self.flag(Self::PEER_ISP, on)
    }

    /// The word with `user_isp` set or cleared.
    #[must_use]
    pub const fn with_user_isp(self, on: bool) -> Self {
        self.flag(Self::USER_ISP, on)
    }

    /// The word with `susp_nod` set or cleared.
    #[must_use]
    pub const fn with_susp_nod(self, on: bool) -> Self {
        self.flag(Self::SUSP_NOD, on)
    }

    /// The word with `susp_fen` set or cleared.
    #[must_use]
    pub const fn with_susp_fen(self, on: bool) -> Self {
        self.flag(Self::SUSP_FEN, on)
    }

    /// The sender's role.
    ///
    /// # Errors
    /// [`BadState`] for number 3.
    pub const fn role(self) -> Result<Role, BadState> {
        Role::from_number(self.0 & Self::ROLE_MASK)
    }

    /// The receiver's role as the sender sees it.
    ///
    /// # Errors
    /// [`BadState`] for number 3.
    pub const fn peer(self) -> Result<Role, BadState> {
        let number = (self.0 & Self::PEER_MASK) >> PEER_SHIFT;
        match Role::from_number(number) {
            Ok(role) => Ok(role),
            Err(_) => Err(BadState {
                field: "peer",
                number,
            }),
        }
    }

    /// The connection state.
    ///
    /// # Errors
    /// [`BadState`] for numbers above 23.
    pub const fn conn(self) -> Result<ConnState, BadState> {
        ConnState::from_number((self.0 & Self::CONN_MASK) >> CONN_SHIFT)
    }

    /// The sender's disk state.
    ///
    /// # Errors
    /// [`BadState`] for numbers above 8.
    pub const fn disk(self) -> Result<DiskState, BadState> {
        DiskState::from_number((self.0 & Self::DISK_MASK) >> DISK_SHIFT)
    }

    /// The receiver's disk state as the sender sees it.
    ///
    /// # Errors
    /// [`BadState`] for numbers above 8.
    pub const fn pdsk(self) -> Result<DiskState, BadState> {
        let number = (self.0 & Self::PDSK_MASK) >> PDSK_SHIFT;
        match DiskState::from_number(number) {
            Ok(disk) => Ok(disk),
            Err(_) => Err(BadState {
                field: "pdsk",
                number,
            }),
        }
    }

    /// I/O is suspended by the user.
    #[must_use]
    pub const fn susp(self) -> bool {
        self.0 & Self::SUSP != 0
    }

    /// The resync waits for another one (resync-after).
    #[must_use]
    pub const fn aftr_isp(self) -> bool {
        self.0 & Self::AFTR_ISP != 0
    }

    /// The resync is paused because the peer says so.
    #[must_use]
    pub const fn peer_isp(self) -> bool {
        self.0 & Self::PEER_ISP != 0
    }

    /// The resync is paused by the user.
    #[must_use]
    pub const fn user_isp(self) -> bool {
        self.0 & Self::USER_ISP != 0
    }

    /// I/O is suspended for lack of up-to-date data.
    #[must_use]
    pub const fn susp_nod(self) -> bool {
        self.0 & Self::SUSP_NOD != 0
    }

    /// I/O is suspended while the fencing handler runs.
    #[must_use]
    pub const fn susp_fen(self) -> bool {
        self.0 & Self::SUSP_FEN != 0
    }

    /// The same word (or mask) from the point of view of its receiver: docs/spec/wire.md, section 11.1.
    ///
    /// `role` and `peer`, `disk` and `pdsk` change places; `conn` is translated; `peer_isp` becomes the OR of
    /// `aftr_isp` and `user_isp`; the other bits stay. A `conn` that must not be sent becomes 0, StandAlone.
    #[must_use]
    pub const fn convert_for_receiver(self) -> Self {
        const CONN_WILDCARD: u32 = StateWord::CONN_MASK >> CONN_SHIFT;
        let word = self.0;
        let conn = match (word & Self::CONN_MASK) >> CONN_SHIFT {
            same @ (9 | 10 | CONN_WILDCARD) => same, // WFReportParams, Connected, the mask
            1 => ConnState::TearDown.number(),       // the peer's Disconnecting
            11 => ConnState::StartingSyncT.number(),
            12 => ConnState::StartingSyncS.number(),
            18 => ConnState::VerifyT.number(),
            _ => ConnState::StandAlone.number(),
        };
        Self(word)
            .replace(Self::ROLE_MASK, (word & Self::PEER_MASK) >> PEER_SHIFT)
            .replace(Self::PEER_MASK, (word & Self::ROLE_MASK) << PEER_SHIFT)
            .replace(Self::CONN_MASK, conn << CONN_SHIFT)
            .replace(
                Self::DISK_MASK,
                (word & Self::PDSK_MASK) >> (PDSK_SHIFT - DISK_SHIFT),
            )
            .replace(
                Self::PDSK_MASK,
                (word & Self::DISK_MASK) << (PDSK_SHIFT - DISK_SHIFT),
            )
            .with_peer_isp(self.aftr_isp() || self.user_isp())
    }
}

impl fmt::Display for StateWord {
    /// `Primary/Secondary Connected UpToDate/UpToDate`, and the flags that are set. Numbers that mean nothing print
    /// as `?N`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn part(
            f: &mut fmt::Formatter<'_>,
            name: Result<&'static str, BadState>,
            after: &str,
        ) -> fmt::Result {
            match name {
                Ok(name) => write!(f, "{name}{after}"),
                Err(bad) => write!(f, "?{}{after}", bad.number),
            }
        }
        part(f, self.role().map(Role::as_str), "/")?;
        part(f, self.peer().map(Role::as_str), " ")?;
        part(f, self.conn().map(ConnState::as_str), " ")?;
        part(f, self.disk().map(DiskState::as_str), "/")?;
        part(f, self.pdsk().map(DiskState::as_str), "")?;
        for (on, name) in [
            (self.susp(), "susp"),
            (self.aftr_isp(), "aftr_isp"),
            (self.peer_isp(), "peer_isp"),
            (self.user_isp(), "user_isp"),
            (self.susp_nod(), "susp_nod"),
            (self.susp_fen(), "susp_fen"),
        ] {
            if on {
                write!(f, " {name}")?;
            }
        }
        Ok(())
    }
}

/// What `P_STATE_CHG_REQ` and `P_CONN_ST_CHG_REQ` ask for, from the point of view of who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StateChange {
    /// The fields to change: all bits of each.
    pub mask: StateWord,
    /// The values wanted, inside `mask`.
    pub val: StateWord,
}

impl StateChange {
    /// The same request from the point of view of its receiver: docs/spec/wire.md, section 11.1.
    #[must_use]
    pub const fn convert_for_receiver(self) -> Self {
        Self {
            mask: self.mask.convert_for_receiver(),
            val: self.val.convert_for_receiver(),
        }
    }

    /// `state` with this change applied.
    #[must_use]
    pub const fn apply_to(self, state: StateWord) -> StateWord {
        StateWord((state.0 & !self.mask.0) | self.val.0)
    }
}

/// [`StateChange::convert_for_receiver`] for the two words apart.
#[must_use]
pub const fn convert_for_receiver(mask: StateWord, val: StateWord) -> (StateWord, StateWord) {
    (mask.convert_for_receiver(), val.convert_for_receiver())
}

#[cfg(test)]
mod tests;
