//! Whether a disk that is attached may be used, and what it is worth (`docs/spec/behaviour.md`, section 6.2).

use alloc::string::String;

use rdb_meta::MdFlags;

use crate::generation::Generation;
use crate::state::{self, Change, ConnState, DiskState, Fencing, Role, VolumeState};

/// What is looked at for whether users may see a disk's data.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Our state record.
    pub state: VolumeState,
    /// The generation that the disk holds.
    pub holds: Generation,
    /// The generation whose data users have seen last; [`Generation::NONE`] if they have seen none.
    pub seen: Generation,
    /// Users have written at the peer alone under the name that the disk holds.
    pub left_behind: bool,
}

impl Shown {
    /// Whether the disk holds what users saw last, to the last write.
    pub fn is_seen_last(&self) -> bool {
        self.seen == self.holds && !self.left_behind
    }
}

/// Why users may not see a disk's data: they have seen newer ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Older {
    /// It has another generation than this one.
    #[error("Can only attach to data with current UUID={0}")]
    Generation(Generation),
    /// It has the generation, and not all that was written under its name.
    #[error("the disk lacks writes that only the peer's disk has")]
    Writes,
}

/// (L25) Why a disk is older than what users have seen, if it is.
pub fn older(shown: &Shown) -> Option<Older> {
    let primary = shown.state.role == Role::Primary;
    if (primary || shown.state.peer == Role::Primary)
        && !shown.seen.is_empty()
        && shown.seen != shown.holds
    {
        Some(Older::Generation(shown.seen))
    } else if primary && shown.left_behind {
        Some(Older::Writes)
    } else {
        None
    }
}

/// The same before the handshake: beside a good disk of the peer's the generations of both are compared instead.
pub fn older_alone(shown: &Shown) -> Option<Older> {
    older(shown).filter(|_| shown.state.pdsk != DiskState::UpToDate)
}

/// What becomes of a disk whose device is to have this many sectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// Nothing of its data is cut off.
    Whole,
    /// Data are cut off, as the `size` option says.
    Truncated,
    /// Data would be cut off, and nobody has ordered it: the disk is refused.
    Refused,
}

impl Fit {
    /// What is said of it.
    pub fn words(self, size: u64, last_agreed: u64) -> Option<String> {
        let what = match self {
            Fit::Whole => return None,
            Fit::Truncated => "truncating a consistent device during attach",
            Fit::Refused => "refusing to truncate a consistent device",
        };
        Some(alloc::format!("{what} ({size} < {last_agreed})"))
    }
}

/// Whether a disk that was agreed to have `last_agreed` sectors may be used for a device of `size`; `option` is our `size` option.
pub fn fit(size: u64, last_agreed: u64, option: u64, flags: MdFlags) -> Fit {
    if size >= last_agreed || !flags.contains(MdFlags::CONSISTENT) {
        Fit::Whole
    } else if size == option {
        Fit::Truncated
    } else {
        Fit::Refused
    }
}

/// Whether the peer's names are forgotten with an attach while connected: fresh ones will come. Those of a disk that attaches as ours does,
/// or of none, are kept.
pub fn forgets_peers_names(state: &VolumeState) -> bool {
    state.is_connected() && state::is_there(state.pdsk)
}

/// What our disk is worth by its record, and the peer's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordedWorth {
    /// Ours.
    pub own: DiskState,
    /// The peer's.
    pub peer: DiskState,
}

impl RecordedWorth {
    /// Of a disk with these flags.
    pub fn of(flags: MdFlags, state: &VolumeState, fencing: Fencing) -> RecordedWorth {
        let alone = state.conn < ConnState::Connected;
        let outdated = flags.contains(MdFlags::PEER_OUT_DATED) && alone;
        let own = if !flags.contains(MdFlags::CONSISTENT) {
            DiskState::Inconsistent
        } else if !flags.contains(MdFlags::WAS_UP_TO_DATE) {
            DiskState::Outdated
        } else if fencing == Fencing::DontCare || outdated {
            DiskState::UpToDate
        } else {
            DiskState::Consistent // the peer may have gone on without us
        };
        let peer = if outdated {
            DiskState::Outdated
        } else if fencing != Fencing::DontCare && alone {
            // (L52) What was known of it while this node had no disk is no fence: nobody has asked for its record.
            DiskState::DUnknown
        } else {
            state.pdsk
        };
        RecordedWorth { own, peer }
    }

    /// What the attach makes of the state: the record decides at once, or the peer does by the next handshake.
    pub fn change(self, state: &VolumeState) -> Change {
        if state.conn >= ConnState::Connected {
            Change::disk(DiskState::Negotiating)
        } else {
            Change::disk(self.own).and_pdsk(self.peer)
        }
    }
}
