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
    /// It is detached by order, or fails under a Secondary, while the peer's good disk goes on: its last superblock says that it is
    /// Outdated. Set by the command or the failure. Without it, it would count as good when it is attached while the peer is away.
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

    fn set_ids(&mut self, ids: GenerationIds) {
        self.change_names(|names| names.set_ids(ids));
    }

    fn change_ids(&mut self, change: impl FnOnce(&mut GenerationIds)) -> GenerationIds {
        let mut ids = self.ids();
        change(&mut ids);
        self.set_ids(ids);
        ids
    }

    /// The comparison has found that the peer knows more of these names.
    pub(crate) fn correct_ids(&mut self, ids: GenerationIds) {
        self.set_ids(ids);
    }

    /// A node that is Primary has the mark of that in the name of its data.
    pub(crate) fn set_primary_bit(&mut self, is_primary: bool) -> GenerationIds {
        self.change_ids(|ids| ids.set_primary_bit(is_primary))
    }

    /// Users write here from now on ([`Names::note_primary`]).
    pub(crate) fn promote(&mut self, replicates: bool) -> GenerationIds {
        self.change_names(|names| names.note_primary(replicates));
        self.ids()
    }

    /// The source of a resync names what its target is given ([`Names::start_source`]). Returns the sync UUID, too.
    pub(crate) fn start_source(&mut self, random: u64, notes: bool) -> (GenerationIds, Generation) {
        let uuid = self.change_names(|names| names.start_source(random, notes));
        // (L16) A block that the target got is marked nowhere any more: nothing may be given away that a power cut can take from
        // this disk, as a mirrored write of before, or of the time before this process.
        self.flush_before();
        (self.ids(), uuid)
    }

    /// It has ended.
    pub(crate) fn finish_source(&mut self) -> GenerationIds {
        self.change_ids(GenerationIds::finish_source)
    }

    /// The target of a resync takes the name that the source gives it.
    pub(crate) fn start_target(&mut self, uuid: Generation, is_primary: bool) -> GenerationIds {
        self.change_ids(|ids| ids.start_target(uuid, is_primary))
    }

    /// It has ended without failed blocks.
    pub(crate) fn finish_target(
        &mut self,
        peer: &GenerationIds,
        is_primary: bool,
    ) -> GenerationIds {
        self.change_ids(|ids| ids.finish_target(peer, is_primary))
    }

    /// The peer declares both disks equal, which were just created. Says whether this one was.
    pub(super) fn skip_initial_sync(&mut self, peers: Generation, is_primary: bool) -> bool {
        let fresh = self.ids().current == Generation::JUST_CREATED;
        if fresh {
            self.change_ids(|ids| ids.skip_initial_sync(peers, is_primary));
        }
        fresh
    }

    /// This node has declared both disks equal.
    pub(crate) fn declare_equal(&mut self) -> GenerationIds {
        self.change_ids(|ids| ids.bitmap = Generation::NONE)
    }

    /// What it says of names.
    pub(crate) fn names(&self) -> Names {
        Names {
            ids: self.ids(),
            alone: self.wrote_alone(),
        }
    }

    fn change_names<R>(&mut self, change: impl FnOnce(&mut Names) -> R) -> R {
        let before = self.names();
        let mut names = before;
        let result = change(&mut names);
        self.dirty |= names != before;
        self.superblock.uuids = names.ids.bits();
        if names.alone != before.alone || names.ids.bitmap != before.ids.bitmap {
            self.superblock.note = names.alone.to_note(names.ids.bitmap);
        }
        result
    }

    /// [`Names::may_share`].
    pub(crate) fn may_share_name(&self) -> bool {
        self.names().may_share()
    }

    pub(crate) fn wrote_alone(&self) -> WroteAlone {
        WroteAlone::from_note(self.superblock.note, self.ids().bitmap)
    }

    /// [`Names::new_current`].
    pub(crate) fn new_current(
        &mut self,
        random: u64,
        is_primary: bool,
        without_peer: bool,
    ) -> Option<Generation> {
        self.change_names(|names| names.new_current(random, is_primary, without_peer))
    }

    /// The same by an administrator's order. `forget`: what the peer lacks is forgotten.
    pub(crate) fn new_current_by_order(&mut self, random: u64, is_primary: bool, forget: bool) {
        if self.wrote_alone() != WroteAlone::UnderNewName || forget {
            self.change_ids(GenerationIds::clear_bitmap);
        }
        self.new_current(random, is_primary, false);
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

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    pub(super) fn is_flush_due(&self) -> bool {
        self.flush_due
    }

    /// The flush of the data disk begins.
    pub(super) fn take_flush_due(&mut self) -> bool {
        core::mem::take(&mut self.flush_due)
    }

    /// The block to be written, of a disk of this size, after these flags are set and cleared.
    pub(super) fn seal(&mut self, set: MdFlags, clear: MdFlags, size: u64) -> Vec<u8> {
        self.superblock.flags.insert(set);
        self.superblock.flags.remove(clear | MdFlags::AL_CLEAN);
        self.superblock.magic = Magic::V84Unclean;
        self.superblock.la_size_sectors = size;
        self.dirty = false;
        self.superblock.to_block().to_vec()
    }

    /// What was sealed last is durable.
    pub(super) fn written(&mut self) {
        // (What was set since needs a write of its own, which is due then.)
        self.mark_durable = !self.dirty && self.superblock.flags.contains(MdFlags::PRIMARY_IND);
    }

    /// The disk is given up: what was known of it.
    pub(super) fn into_superblock(self) -> Superblock {
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
        record.correct_ids(record.ids());
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

    #[test]
    fn a_source_is_flushed_before_it_gives_its_target_a_name() {
        let mut record = written();
        let (ids, uuid) = record.start_source(8, true);
        assert_eq!((ids.bitmap, record.ids()), (uuid, ids));
        assert_eq!(record.wrote_alone(), WroteAlone::Nothing);
        assert!(record.is_flush_due() && record.is_dirty());
        assert!(record.finish_source().bitmap.is_empty());
        assert_eq!(
            record.wrote_alone(),
            WroteAlone::Unknown,
            "of no bitmap UUID"
        );
    }

    #[test]
    fn a_promotion_away_from_the_peer_says_that_something_may_be_written_alone() {
        for (alone, says) in [(false, WroteAlone::Nothing), (true, WroteAlone::Unknown)] {
            let mut record = written();
            record.start_source(8, true);
            assert!(record.promote(!alone).current.has_primary_bit());
            assert_eq!(record.wrote_alone(), says);
        }
    }

    #[test]
    fn only_a_disk_that_was_just_created_takes_a_name_unsynced() {
        let peers = Generation::new(0x1000);
        let mut record = written();
        assert_eq!(record.ids().current, Generation::JUST_CREATED);
        assert!(record.skip_initial_sync(peers, false));
        assert_eq!(record.ids().current, peers);
        assert!(!record.skip_initial_sync(Generation::new(0x2000), false));
        assert_eq!(record.ids().current, peers);
    }
}
