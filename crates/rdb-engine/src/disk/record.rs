//! The superblock in memory, and what of it is on disk.

use alloc::vec::Vec;

use rdb_meta::{Magic, MdFlags, Superblock};

use crate::generation::{Generation, GenerationIds, Names, WroteAlone};

/// What the superblock of an attached disk says, or will say when it is written next.
#[derive(Debug)]
pub(crate) struct Record {
    superblock: Superblock,
    /// It differs from what is on disk, or from what is being written.
    dirty: bool,
    /// It may not go out before the data disk has been flushed.
    flush_due: bool,
    /// What is on disk has the mark of a Primary.
    mark_durable: bool,
    /// No node writes here as Primary any more; the mark that says so goes after the bitmap is written.
    unmark_due: bool,
    /// It is detached by order while the peer's good disk goes on: its last superblock says that it is Outdated. Set by the
    /// command. Without it, it would count as good when it is attached while the peer is away.
    left_to_peer: bool,
    /// The disk is called Outdated, whatever its state is: the connection is being left for a peer that goes on. Set and cleared by
    /// the command. Without it the peer goes on alone beside a disk that is as good by its record (L49).
    called_outdated: bool,
}

impl Record {
    /// A record that is to be written anew, now that the disk is attached.
    pub(crate) fn new(superblock: Superblock) -> Record {
        Record {
            superblock,
            dirty: true,
            flush_due: false,
            mark_durable: false,
            unmark_due: false,
            left_to_peer: false,
            called_outdated: false,
        }
    }

    // ---- what it says --------------------------------------------------------------------------------------------

    pub(crate) fn ids(&self) -> GenerationIds {
        GenerationIds::from_bits(self.superblock.uuids)
    }

    pub(crate) fn set_ids(&mut self, ids: GenerationIds) {
        let before = self.ids();
        self.dirty |= before != ids;
        if before.bitmap != ids.bitmap {
            self.superblock.note = 0; // (it was of the one before, which may come again)
        }
        self.superblock.uuids = ids.bits();
    }

    /// What it says of names.
    pub(crate) fn names(&self) -> Names {
        Names {
            ids: self.ids(),
            alone: self.wrote_alone(),
        }
    }

    fn set_names(&mut self, names: Names) {
        self.set_ids(names.ids);
        if self.wrote_alone() != names.alone {
            self.note_alone(names.alone);
        }
    }

    /// [`Names::may_share`].
    pub(crate) fn may_share_name(&self) -> bool {
        self.names().may_share()
    }

    pub(crate) fn wrote_alone(&self) -> WroteAlone {
        WroteAlone::from_note(self.superblock.note, self.ids().bitmap)
    }

    /// Notes it beside the bitmap UUID.
    fn note_alone(&mut self, alone: WroteAlone) {
        let note = alone.to_note(self.ids().bitmap);
        self.dirty |= self.superblock.note != note;
        self.superblock.note = note;
    }

    /// [`Names::new_current`].
    pub(crate) fn new_current(
        &mut self,
        random: u64,
        is_primary: bool,
        without_peer: bool,
    ) -> Option<Generation> {
        let mut names = self.names();
        let replaced = names.new_current(random, is_primary, without_peer);
        self.set_names(names);
        replaced
    }

    /// [`Names::note_primary`].
    pub(crate) fn note_primary(&mut self, replicates: bool) {
        let mut names = self.names();
        names.note_primary(replicates);
        self.set_names(names);
    }

    /// [`Names::start_source`].
    pub(crate) fn start_source(&mut self, random: u64, notes: bool) -> Generation {
        let mut names = self.names();
        let uuid = names.start_source(random, notes);
        self.set_names(names);
        uuid
    }

    pub(crate) fn flags(&self) -> MdFlags {
        self.superblock.flags
    }

    /// What the state of the volume makes of the flags. The mark of a Primary stays: it is due to go, after the bitmap.
    pub(crate) fn note_flags(&mut self, mut flags: MdFlags) {
        if self.called_outdated {
            flags.remove(MdFlags::WAS_UP_TO_DATE);
        }
        let keep = self.superblock.flags & MdFlags::PRIMARY_IND;
        self.unmark_due |= !flags.contains(keep);
        self.set_flags(flags | keep);
    }

    /// The node that crashed as Primary is in sync with the other one.
    pub(crate) fn forget_crash(&mut self) {
        // On record too: after the next crash of both it would speak against the one that was Primary then.
        self.set_flags(self.superblock.flags - MdFlags::CRASHED_PRIMARY);
    }

    fn set_flags(&mut self, flags: MdFlags) {
        self.dirty |= self.superblock.flags != flags;
        self.superblock.flags = flags;
    }

    /// What the superblock says from now on outranks the peer's disk, or gives blocks away as good: whichever write of it is
    /// the first to say so, what a power cut could take from the data disk is durable before.
    pub(crate) fn flush_before(&mut self) {
        self.flush_due = true;
    }

    // ---- the mark of a Primary -----------------------------------------------------------------------------------

    pub(crate) fn has_durable_mark(&self) -> bool {
        self.mark_durable
    }

    pub(crate) fn is_unmark_due(&self) -> bool {
        self.unmark_due
    }

    /// The write that takes the mark away is queued.
    pub(crate) fn unmark_queued(&mut self) {
        self.unmark_due = false;
    }

    // ---- the end -------------------------------------------------------------------------------------------------

    /// This node is about to leave a peer that goes on alone, and says of its own disk that it is Outdated, whatever its state is
    /// until then; or does not leave.
    pub(crate) fn call_outdated(&mut self, outdated: bool) {
        self.called_outdated = outdated;
    }

    /// The disk is being detached, and the peer's good one goes on without it, or does not.
    pub(crate) fn leave_to_peer(&mut self, goes_on: bool) {
        self.left_to_peer = goes_on;
    }

    /// The flags that the last superblock lacks.
    pub(crate) fn cleared_at_the_end(&self) -> MdFlags {
        if self.left_to_peer {
            MdFlags::WAS_UP_TO_DATE
        } else {
            MdFlags::empty()
        }
    }

    // ---- writing it ----------------------------------------------------------------------------------------------

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    pub(crate) fn is_flush_due(&self) -> bool {
        self.flush_due
    }

    /// The flush of the data disk begins.
    pub(crate) fn take_flush_due(&mut self) -> bool {
        core::mem::take(&mut self.flush_due)
    }

    /// The block to be written, of a disk of this size, after these flags are set and cleared.
    pub(crate) fn seal(&mut self, set: MdFlags, clear: MdFlags, size: u64) -> Vec<u8> {
        self.superblock.flags.insert(set);
        self.superblock.flags.remove(clear | MdFlags::AL_CLEAN);
        self.superblock.magic = Magic::V84Unclean;
        self.superblock.la_size_sectors = size;
        self.dirty = false;
        self.superblock.to_block().to_vec()
    }

    /// What was sealed last is durable.
    pub(crate) fn written(&mut self) {
        // (What was set since needs a write of its own, which is due then.)
        self.mark_durable = !self.dirty && self.superblock.flags.contains(MdFlags::PRIMARY_IND);
    }

    /// The disk is given up: what was known of it.
    pub(crate) fn into_superblock(self) -> Superblock {
        self.superblock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdb_meta::{AlGeometry, Layout, MetaKind};

    const NONE: MdFlags = MdFlags::empty();
    const MARK: MdFlags = MdFlags::PRIMARY_IND;

    /// A record that is on disk.
    fn written() -> Record {
        let sectors = 1 << 21;
        let layout =
            Layout::compute(MetaKind::Internal, sectors, sectors, AlGeometry::DEFAULT).unwrap();
        let mut record = Record::new(Superblock::new(&layout));
        assert!(record.is_dirty());
        write(&mut record, NONE);
        record
    }

    fn write(record: &mut Record, clear: MdFlags) {
        record.seal(NONE, clear, 1 << 20);
        record.written();
        assert!(!record.is_dirty());
    }

    #[test]
    fn the_mark_of_a_primary_stays_until_it_is_cleared_by_a_write() {
        let mut record = written();
        record.note_flags(MARK);
        assert!(record.is_dirty() && !record.has_durable_mark());
        write(&mut record, NONE);
        assert!(record.has_durable_mark() && !record.is_unmark_due());
        record.note_flags(NONE);
        assert!(record.flags().contains(MARK) && record.is_unmark_due());
        assert!(!record.is_dirty(), "nothing has changed");
        record.unmark_queued();
        write(&mut record, MARK);
        assert!(!record.flags().contains(MARK) && !record.has_durable_mark());
    }

    #[test]
    fn what_changes_while_the_superblock_is_written_is_not_durable_with_it() {
        let mut record = written();
        record.seal(NONE, NONE, 1 << 20);
        record.note_flags(MARK);
        record.written();
        assert!(record.is_dirty() && !record.has_durable_mark());
    }

    #[test]
    fn saying_the_same_again_changes_nothing() {
        let mut record = written();
        record.set_ids(record.ids());
        record.note_flags(record.flags());
        record.forget_crash();
        assert!(!record.is_dirty());
    }

    #[test]
    fn one_flush_is_enough_for_all_who_want_it_before_the_superblock() {
        let mut record = written();
        record.flush_before();
        record.flush_before();
        assert!(record.take_flush_due());
        assert!(!record.is_flush_due());
    }
}
