//! When the generation identifiers move. The moves themselves are the engine's.

use rdb_engine::generation::GenerationIds;

/// What a node does with its names at the events that matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rules {
    /// NEWCUR moves a bitmap UUID that is there into the history; the kernel's driver forgets it.
    pub(crate) rotates: bool,
    /// A Primary source that loses the link, or a source that is promoted alone, takes a new name.
    pub(crate) source_alone: SourceAlone,
    /// A source whose peer has the same name takes a new one before the sync UUID is made.
    pub(crate) renames_equal_source: bool,
    /// The comparison notices that the older generation went on under its name.
    pub(crate) notices_writes: bool,
    /// A Primary whose disk comes while it is alone takes a new name.
    pub(crate) renames_at_lonely_attach: bool,
    /// Rule 34 does not take the bitmap UUID away while there are bits.
    pub(crate) keeps_name_of_bits: bool,
    /// The bitmap is on disk before the superblock ceases to say "Primary".
    pub(crate) marks_before_unprimary: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SourceAlone {
    /// Its bitmap UUID is set, so it keeps its name.
    Keeps,
    /// If no bit is left: the target may have finished, and then it has our name.
    RenamesIfNoBits,
    /// In any case; with bits left the bitmap UUID stays.
    Renames,
}

impl Rules {
    pub(crate) const KERNEL: Rules = Rules {
        rotates: false,
        source_alone: SourceAlone::Keeps,
        renames_equal_source: false,
        notices_writes: false,
        renames_at_lonely_attach: false,
        keeps_name_of_bits: false,
        marks_before_unprimary: false,
    };

    pub(crate) const PLAIN: Rules = Rules {
        rotates: true,
        ..Rules::KERNEL
    };

    pub(crate) fn new_current(&self, ids: &mut GenerationIds, random: u64, is_primary: bool) {
        if !self.rotates {
            ids.bitmap = 0;
        }
        ids.new_current(random, is_primary);
    }

    /// A node that was source and may be, or become, the only writer. Says whether it took a new name.
    pub(crate) fn source_is_alone(
        &self,
        ids: &mut GenerationIds,
        bits: u8,
        random: u64,
        is_primary: bool,
    ) -> bool {
        match (self.source_alone, bits) {
            (SourceAlone::Keeps, _) => false,
            (SourceAlone::RenamesIfNoBits | SourceAlone::Renames, 0) => {
                ids.new_current(random, is_primary);
                true
            }
            (SourceAlone::RenamesIfNoBits, _) => false,
            (SourceAlone::Renames, _) => {
                ids.history = [ids.current, ids.history[0]];
                ids.set_current(random, is_primary);
                true
            }
        }
    }
}

/// Whether the slots are those of a source whose resync has not ended.
pub(crate) fn looks_like_source(ids: &GenerationIds) -> bool {
    let old = ids.history[0] & !1;
    let bitmap = ids.bitmap & !1;
    bitmap != 0 && (old == 4 || old.wrapping_add(rdb_engine::generation::SYNC_OFFSET) == bitmap)
}
