//! What a node says of what users wrote on it while it was alone (`docs/ARCHITECTURE.md`, L46).

use super::{Generation, PeerIds};

/// What users have written on a node while it was alone, since it began the resync that its bitmap UUID names: of a node that
/// gives such writes a new generation ([`super::GenerationIds::new_current_beside_target`]) the slots tell it, if no other driver has
/// had the disk since. The superblock has a note of it ([`rdb_meta::Superblock::note`]), and P_UUIDS two flags of our own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum WroteAlone {
    /// Perhaps something, under the current UUID.
    #[default]
    Unknown,
    /// Nothing: the marked blocks are the resync's.
    Nothing,
    /// What they wrote has the current UUID, which nobody else has. Before it, the node had the oldest of its history, and
    /// the marked blocks are the difference to that one too.
    UnderNewName,
}

impl WroteAlone {
    /// What a superblock's note says, beside this bitmap UUID.
    pub fn from_note(note: u64, bitmap: Generation) -> WroteAlone {
        if !bitmap.is_named() || Generation::new(note) != bitmap {
            WroteAlone::Unknown
        } else if note & 1 == 0 {
            WroteAlone::Nothing
        } else {
            WroteAlone::UnderNewName
        }
    }

    /// The note of it beside this bitmap UUID.
    pub fn to_note(self, bitmap: Generation) -> u64 {
        match self {
            WroteAlone::Unknown => 0,
            WroteAlone::Nothing => bitmap.name(),
            WroteAlone::UnderNewName => bitmap.name() | 1,
        }
    }

    /// The flags of a P_UUIDS that say it.
    pub fn to_flags(self) -> u64 {
        match self {
            WroteAlone::Unknown => 0,
            WroteAlone::Nothing => PeerIds::FLAG_NOTHING_ALONE,
            WroteAlone::UnderNewName => PeerIds::FLAG_ALONE_UNDER_NEW_NAME,
        }
    }
}
