//! What a node says of what users wrote on it while it was alone (`docs/ARCHITECTURE.md`, L46).

use super::{Generation, GenerationIds, PeerIds};

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

/// All that a record says of names: the slots, and the note beside the bitmap UUID. What begins a generation on the own
/// disk, and what notes a write alone, goes through here, in the engine's record and in the model of two nodes alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Names {
    /// The slots.
    pub ids: GenerationIds,
    /// The note.
    pub alone: WroteAlone,
}

impl Names {
    /// Other slots. The note goes with the bitmap UUID that it was of, which may come again.
    pub fn set_ids(&mut self, ids: GenerationIds) {
        if self.ids.bitmap != ids.bitmap {
            self.alone = WroteAlone::Unknown;
        }
        self.ids = ids;
    }

    /// The peer may have a disk of the current generation: none lacks anything of it, or the target of a resync has come to
    /// the end, perhaps, unseen from here. What is written alone needs a new generation, or the two would count as one.
    pub fn may_share(&self) -> bool {
        self.ids.bitmap.is_empty() || self.alone == WroteAlone::Nothing
    }

    /// A new generation begins. `without_peer`: the peer or its disk is not there. Returns the bitmap UUID that has been moved
    /// to the history, if there was one.
    pub fn new_current(
        &mut self,
        random: u64,
        is_primary: bool,
        without_peer: bool,
    ) -> Option<Generation> {
        let mut ids = self.ids;
        let mut replaced = None;
        let alone = self.alone;
        match alone {
            // Nobody else has the name that is replaced; what the target may have is in the other slots.
            WroteAlone::UnderNewName => ids.replace_current(random, is_primary),
            WroteAlone::Nothing if without_peer => {
                ids.new_current_beside_target(random, is_primary);
            }
            WroteAlone::Nothing | WroteAlone::Unknown => {
                replaced = ids.new_current(random, is_primary);
            }
        }
        self.set_ids(ids);
        if alone == WroteAlone::Nothing && without_peer {
            self.alone = WroteAlone::UnderNewName;
        }
        replaced
    }

    /// This disk's node is Primary now. What its users write and nobody is sent is here alone until the resync begins, under a name that
    /// the peer may have: with the note they would count as the resync's.
    pub fn note_primary(&mut self, replicates: bool) {
        if !replicates && self.alone == WroteAlone::Nothing {
            self.alone = WroteAlone::Unknown;
        }
        self.ids.set_primary_bit(true);
    }

    /// A resync from here begins; returns the sync UUID. `notes`: the peer knows what the note means, which is that nothing has been
    /// written alone since; without that knowledge there is none, or it would take a name for its own that it does not understand.
    pub fn start_source(&mut self, random: u64, notes: bool) -> Generation {
        let mut ids = self.ids;
        let uuid = ids.start_source(random);
        self.set_ids(ids);
        self.alone = match notes {
            true => WroteAlone::Nothing,
            false => WroteAlone::Unknown,
        };
        uuid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: fn(u64) -> Generation = Generation::new;

    /// A source whose target has not told that it is done.
    fn source() -> Names {
        let ids = GenerationIds {
            current: ID(0x10),
            ..GenerationIds::default()
        };
        let mut names = Names {
            ids,
            ..Names::default()
        };
        names.start_source(0x20, true);
        names
    }

    #[test]
    fn a_note_goes_with_the_bitmap_uuid_that_it_is_of() {
        let mut names = source();
        assert!(names.may_share() && names.alone == WroteAlone::Nothing);
        let mut ids = names.ids;
        ids.set_primary_bit(true);
        names.set_ids(ids);
        assert_eq!(names.alone, WroteAlone::Nothing);
        ids.rotate_bitmap(ID(0x30));
        names.set_ids(ids);
        assert!(!names.may_share() && names.alone == WroteAlone::Unknown);
    }

    #[test]
    fn a_source_without_its_target_keeps_both_names_that_this_may_have() {
        let mut names = source();
        let sync = names.ids.bitmap;
        assert_eq!(names.new_current(0x40, true, true), None);
        assert_eq!(names.alone, WroteAlone::UnderNewName);
        assert_eq!((names.ids.bitmap, names.ids.history[1]), (sync, ID(0x10)));
        assert!(!names.may_share());
        // Of the next one the same is true.
        assert_eq!(names.new_current(0x50, true, true), None);
        assert_eq!((names.ids.bitmap, names.ids.history[1]), (sync, ID(0x10)));
        // Beside the target it is a generation as any other.
        let mut names = source();
        assert_eq!(names.new_current(0x40, true, false), Some(sync));
        assert_eq!(
            (names.ids.bitmap, names.alone),
            (ID(0x10), WroteAlone::Unknown)
        );
    }
}
