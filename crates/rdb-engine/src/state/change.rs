//! A wanted change of a state record, and its form on the wire (`docs/spec/wire.md`, sections 5.6 and 11.1).

use super::{ConnState, DiskState, Role, VolumeState};

/// The fields that shall change, and their values.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// Own role.
    pub role: Option<Role>,
    /// The peer's role.
    pub peer: Option<Role>,
    /// Connection and replication state.
    pub conn: Option<ConnState>,
    /// Own disk.
    pub disk: Option<DiskState>,
    /// The peer's disk.
    pub pdsk: Option<DiskState>,
    /// Paused by resync-after.
    pub aftr_isp: Option<bool>,
    /// Paused by the peer.
    pub peer_isp: Option<bool>,
    /// Paused by the administrator.
    pub user_isp: Option<bool>,
    /// I/O suspended by the administrator.
    pub susp: Option<bool>,
    /// I/O suspended for want of data.
    pub susp_nod: Option<bool>,
    /// I/O suspended for fencing.
    pub susp_fen: Option<bool>,
}

/// A state word, or a mask and value, that says nothing sensible.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadState {
    /// A number outside the field's table.
    #[error("state word {word:#010x}: {value} is no {field}")]
    Value {
        /// Which field.
        field: &'static str,
        /// The number found in it.
        value: u32,
        /// The whole word.
        word: u32,
    },
    /// A field of which only some bits are selected.
    #[error("state mask {mask:#010x} selects only a part of the field {field}")]
    PartialMask {
        /// Which field.
        field: &'static str,
        /// The whole mask.
        mask: u32,
    },
    /// Bits above the known ones are selected.
    #[error("state mask {mask:#010x} selects unknown bits")]
    UnknownMask {
        /// The whole mask.
        mask: u32,
    },
    /// The value has bits that the mask does not select.
    #[error("state value {val:#010x} exceeds its mask {mask:#010x}")]
    Unselected {
        /// The whole mask.
        mask: u32,
        /// The whole value.
        val: u32,
    },
}

impl Change {
    /// The mask that selects every field: bits 0..=22.
    pub const EVERY_FIELD: u32 = 0x007f_ffff;

    /// Own role shall become `role`.
    pub fn role(role: Role) -> Change {
        Change::default().and_role(role)
    }

    /// The peer's role shall become `peer`.
    pub fn peer(peer: Role) -> Change {
        Change::default().and_peer(peer)
    }

    /// The connection state shall become `conn`.
    pub fn conn(conn: ConnState) -> Change {
        Change::default().and_conn(conn)
    }

    /// Own disk shall become `disk`.
    pub fn disk(disk: DiskState) -> Change {
        Change::default().and_disk(disk)
    }

    /// The peer's disk shall become `pdsk`.
    pub fn pdsk(pdsk: DiskState) -> Change {
        Change::default().and_pdsk(pdsk)
    }

    /// And own role shall become `role`.
    #[must_use]
    pub fn and_role(self, role: Role) -> Change {
        Change {
            role: Some(role),
            ..self
        }
    }

    /// And the peer's role shall become `peer`.
    #[must_use]
    pub fn and_peer(self, peer: Role) -> Change {
        Change {
            peer: Some(peer),
            ..self
        }
    }

    /// And the connection state shall become `conn`.
    #[must_use]
    pub fn and_conn(self, conn: ConnState) -> Change {
        Change {
            conn: Some(conn),
            ..self
        }
    }

    /// And own disk shall become `disk`.
    #[must_use]
    pub fn and_disk(self, disk: DiskState) -> Change {
        Change {
            disk: Some(disk),
            ..self
        }
    }

    /// And the peer's disk shall become `pdsk`.
    #[must_use]
    pub fn and_pdsk(self, pdsk: DiskState) -> Change {
        Change {
            pdsk: Some(pdsk),
            ..self
        }
    }

    /// And the pause by resync-after shall be set or cleared.
    #[must_use]
    pub fn and_aftr_isp(self, paused: bool) -> Change {
        Change {
            aftr_isp: Some(paused),
            ..self
        }
    }

    /// And the pause by the peer shall be set or cleared.
    #[must_use]
    pub fn and_peer_isp(self, paused: bool) -> Change {
        Change {
            peer_isp: Some(paused),
            ..self
        }
    }

    /// And the pause by the administrator shall be set or cleared.
    #[must_use]
    pub fn and_user_isp(self, paused: bool) -> Change {
        Change {
            user_isp: Some(paused),
            ..self
        }
    }

    /// And the suspension by the administrator shall be set or cleared.
    #[must_use]
    pub fn and_susp(self, suspended: bool) -> Change {
        Change {
            susp: Some(suspended),
            ..self
        }
    }

    /// And the suspension for want of data shall be set or cleared.
    #[must_use]
    pub fn and_susp_nod(self, suspended: bool) -> Change {
        Change {
            susp_nod: Some(suspended),
            ..self
        }
    }

    /// And the suspension for fencing shall be set or cleared.
    #[must_use]
    pub fn and_susp_fen(self, suspended: bool) -> Change {
        Change {
            susp_fen: Some(suspended),
            ..self
        }
    }

    /// The change that makes any record equal to `state`.
    pub fn all_of(state: &VolumeState) -> Change {
        Change {
            role: Some(state.role),
            peer: Some(state.peer),
            conn: Some(state.conn),
            disk: Some(state.disk),
            pdsk: Some(state.pdsk),
            aftr_isp: Some(state.aftr_isp),
            peer_isp: Some(state.peer_isp),
            user_isp: Some(state.user_isp),
            susp: Some(state.susp),
            susp_nod: Some(state.susp_nod),
            susp_fen: Some(state.susp_fen),
        }
    }

    /// Mask and value of a request packet, in the sender's terms.
    pub fn to_mask_val(&self) -> (u32, u32) {
        let mut word = Word::default();
        word.put(ROLE, self.role.map(|role| role as u32));
        word.put(PEER, self.peer.map(|peer| peer as u32));
        word.put(CONN, self.conn.map(|conn| conn as u32));
        word.put(DISK, self.disk.map(|disk| disk as u32));
        word.put(PDSK, self.pdsk.map(|pdsk| pdsk as u32));
        word.put(SUSP, self.susp.map(u32::from));
        word.put(AFTR_ISP, self.aftr_isp.map(u32::from));
        word.put(PEER_ISP, self.peer_isp.map(u32::from));
        word.put(USER_ISP, self.user_isp.map(u32::from));
        word.put(SUSP_NOD, self.susp_nod.map(u32::from));
        word.put(SUSP_FEN, self.susp_fen.map(u32::from));
        (word.mask, word.val)
    }

    /// Reads mask and value of a received request, still in the sender's terms: see [`Change::for_receiver`].
    pub fn from_mask_val(mask: u32, val: u32) -> Result<Change, BadState> {
        if mask & !Change::EVERY_FIELD != 0 {
            return Err(BadState::UnknownMask { mask });
        }
        if val & !mask != 0 {
            return Err(BadState::Unselected { mask, val });
        }
        let word = Word { mask, val };
        Ok(Change {
            role: word.take(ROLE, Role::ALL)?,
            peer: word.take(PEER, Role::ALL)?,
            conn: word.take(CONN, ConnState::ALL)?,
            disk: word.take(DISK, DiskState::ALL)?,
            pdsk: word.take(PDSK, DiskState::ALL)?,
            susp: word.take(SUSP, &[false, true])?,
            aftr_isp: word.take(AFTR_ISP, &[false, true])?,
            peer_isp: word.take(PEER_ISP, &[false, true])?,
            user_isp: word.take(USER_ISP, &[false, true])?,
            susp_nod: word.take(SUSP_NOD, &[false, true])?,
            susp_fen: word.take(SUSP_FEN, &[false, true])?,
        })
    }

    /// The same change seen from the other node: roles and disks swap, the sender's pause flags become one
    /// `peer_isp`, and the connection state becomes its counterpart. A connection state without a counterpart becomes
    /// StandAlone, so it must never be sent.
    #[must_use]
    pub fn for_receiver(&self) -> Change {
        let paused = match (self.aftr_isp, self.user_isp) {
            (None, None) => None,
            (aftr, user) => Some(aftr.unwrap_or(false) || user.unwrap_or(false)),
        };
        Change {
            role: self.peer,
            peer: self.role,
            conn: self.conn.map(counterpart),
            disk: self.pdsk,
            pdsk: self.disk,
            aftr_isp: None,
            peer_isp: paused,
            user_isp: None,
            susp: self.susp,
            susp_nod: self.susp_nod,
            susp_fen: self.susp_fen,
        }
    }
}

/// What a connection state asked for by one node means for the other.
fn counterpart(conn: ConnState) -> ConnState {
    match conn {
        ConnState::WFReportParams => ConnState::WFReportParams,
        ConnState::Connected => ConnState::Connected,
        ConnState::StartingSyncS => ConnState::StartingSyncT,
        ConnState::StartingSyncT => ConnState::StartingSyncS,
        ConnState::VerifyS => ConnState::VerifyT,
        ConnState::Disconnecting => ConnState::TearDown,
        _ => ConnState::StandAlone, // the table says: anything else
    }
}

/// A field of the state word: name, lowest bit, number of bits.
#[derive(Clone, Copy)]
struct Field(&'static str, u32, u32);

const ROLE: Field = Field("role", 0, 2);
const PEER: Field = Field("peer role", 2, 2);
const CONN: Field = Field("connection state", 4, 5);
const DISK: Field = Field("disk state", 9, 4);
const PDSK: Field = Field("peer disk state", 13, 4);
const SUSP: Field = Field("susp", 17, 1);
const AFTR_ISP: Field = Field("aftr_isp", 18, 1);
const PEER_ISP: Field = Field("peer_isp", 19, 1);
const USER_ISP: Field = Field("user_isp", 20, 1);
const SUSP_NOD: Field = Field("susp_nod", 21, 1);
const SUSP_FEN: Field = Field("susp_fen", 22, 1);

/// A mask and a value under construction or under inspection.
#[derive(Default)]
struct Word {
    mask: u32,
    val: u32,
}

impl Word {
    fn put(&mut self, Field(_, shift, width): Field, value: Option<u32>) {
        if let Some(value) = value {
            self.mask |= ((1 << width) - 1) << shift;
            self.val |= value << shift;
        }
    }

    fn take<T: Copy>(&self, field: Field, table: &[T]) -> Result<Option<T>, BadState> {
        let Field(name, shift, width) = field;
        let all = (1u32 << width) - 1;
        let selected = (self.mask >> shift) & all;
        if selected == 0 {
            return Ok(None);
        }
        if selected != all {
            return Err(BadState::PartialMask {
                field: name,
                mask: self.mask,
            });
        }
        let value = (self.val >> shift) & all;
        match table.get(value as usize) {
            Some(found) => Ok(Some(*found)),
            None => Err(BadState::Value {
                field: name,
                value,
                word: self.val,
            }),
        }
    }
}
