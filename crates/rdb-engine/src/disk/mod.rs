//! An attached disk and its metadata in memory: each part owns what it goes by.
//!
//! What two of them have to do with each other is here: a write that needs a transaction has that queued, what is written is made of
//! the record, the bitmap and the log, and lies in the place that there is for it.

pub(crate) mod al_gate;
mod durability;
pub(crate) mod io;
mod late_marks;
pub(crate) mod operation;
mod pages;
pub(crate) mod queue;
pub(crate) mod reading;
mod record;
pub(crate) mod slot;
pub(crate) mod space;
pub(crate) mod watch;

use alloc::vec::Vec;

use rdb_meta::{Bitmap, ExtentNr, Layout, MdFlags, Superblock};
use replica_proto::Packet;
use replica_proto::bitmap_code::{BitmapError, BitmapProgress};

use crate::bitmap_exchange::BitmapIn;
use crate::config::DiskOptions;
use crate::disk::al_gate::{AlGate, Entry, Writer};
use crate::disk::durability::Durability;
use crate::disk::late_marks::LateMarks;
use crate::disk::queue::{Contents, Facts, MdQueue, Next};
use crate::disk::record::Record;
use crate::event::DiskInfo;
use crate::generation::Generation;
use crate::span::Span;

pub(crate) use crate::disk::operation::{MdKind, Then};

/// What is known of a disk that was given up.
#[derive(Debug)]
pub(crate) struct Remembered {
    superblock: Superblock,
    /// No block was marked.
    clean: bool,
    /// The peer's good disk went on ([`Record::leave_to_peer`]), which may not have come to the record.
    left_to_peer: bool,
}

/// An attached disk and its metadata in memory.
pub(crate) struct Disk {
    info: DiskInfo,
    options: DiskOptions,
    layout: Layout,
    record: Record,
    bitmap: Bitmap,
    late_marks: LateMarks,
    /// While the disk is Inconsistent: blocks without a mark are good, because the peer's marks were merged.
    marks_merged: bool,
    gate: AlGate,
    queue: MdQueue,
    durability: Durability,
}

impl Disk {
    /// A disk whose metadata has been read, before that is put in order.
    pub(crate) fn new(
        info: DiskInfo,
        options: DiskOptions,
        layout: Layout,
        superblock: Superblock,
        bitmap: Bitmap,
    ) -> Disk {
        Disk {
            info,
            options,
            marks_merged: superblock.flags.contains(MdFlags::CONSISTENT),
            gate: AlGate::new(layout.al, superblock.al_nr_extents),
            layout,
            record: Record::new(superblock),
            bitmap,
            late_marks: LateMarks::default(),
            queue: MdQueue::default(),
            durability: Durability::new(),
        }
    }

    // ---- what it is ----------------------------------------------------------------------------------------------

    /// The sectors there are for data.
    pub(crate) fn usable_sectors(&self) -> u64 {
        self.layout.usable_sectors
    }

    /// The metadata does not lie where the devices' sizes ask for.
    pub(crate) fn is_moved(&self) -> bool {
        self.layout.moved
    }

    pub(crate) fn options(&self) -> &DiskOptions {
        &self.options
    }

    /// New options, if they may be changed while the disk is attached.
    pub(crate) fn change_options(&mut self, options: DiskOptions) -> Result<(), &'static str> {
        if self.options.size_sectors != options.size_sectors {
            return Err("size cannot be changed while the disk is attached");
        }
        if self.options.al_extents != options.al_extents {
            return Err(
                "al-extents cannot be changed while the disk is attached: detach, then attach",
            );
        }
        self.options = options;
        Ok(())
    }

    /// The smallest unit that it transfers directly.
    pub(crate) fn logical_block_bytes(&self) -> u32 {
        self.info.logical_block_bytes
    }

    pub(crate) fn can_discard(&self) -> bool {
        self.info.can_discard
    }

    /// It is given up: what is known of it.
    pub(crate) fn into_remembered(self) -> Remembered {
        Remembered {
            clean: self.bitmap.count_set() == 0,
            left_to_peer: !self.record.cleared_at_the_end().is_empty(),
            superblock: self.record.into_superblock(),
        }
    }

    // ---- its record ----------------------------------------------------------------------------------------------

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn record_mut(&mut self) -> &mut Record {
        &mut self.record
    }

    /// The peer declares both disks equal, which were just created. Says whether this one was.
    pub(crate) fn skip_initial_sync(&mut self, peers: Generation, is_primary: bool) -> bool {
        let fresh = self.record.skip_initial_sync(peers, is_primary);
        if fresh {
            self.gate.resume();
            // (At once: a write of the peer's may be marked before it is our turn to write the bitmap. A crash before
            // that finds a disk that was just created, and syncs all of it.)
            self.late_marks.forget_all();
            self.bitmap.clear_all();
        }
        fresh
    }

    /// Whether what the superblock is to say is not durable yet.
    pub(crate) fn is_record_pending(&self) -> bool {
        self.record.is_dirty() || self.queue.writes_superblock()
    }

    /// Whether the record has changed, and nothing that is queued would carry the change to the disk.
    fn is_record_unqueued(&self) -> bool {
        self.record.is_dirty() && !self.queue.will_write_record()
    }

    // ---- its marks -----------------------------------------------------------------------------------------------

    /// The blocks that differ from the peer's, or may.
    pub(crate) fn marks(&self) -> &Bitmap {
        &self.bitmap
    }

    /// How many there are.
    pub(crate) fn marked(&self) -> u64 {
        self.bitmap.count_set()
    }

    /// These blocks differ, or may. Returns how many were not marked before.
    pub(crate) fn mark(&mut self, sector: u64, sectors: u64) -> u64 {
        self.late_marks.forget(sector, sector + sectors);
        self.bitmap.set_sectors(sector, sectors)
    }

    /// (L56) These sectors are about to be changed by a write whose writer is gone, and may send it again.
    pub(crate) fn mark_late(&mut self, sector: u64, end: u64) {
        self.late_marks.mark(&mut self.bitmap, sector, end);
    }

    /// (L56) A Primary with a good disk has written these sectors. Returns the blocks that are equal on both disks by that.
    pub(crate) fn mirrored(&mut self, span: Span) -> Vec<u64> {
        self.late_marks.written_again(span.sector, span.end())
    }

    /// A full sync is due.
    pub(crate) fn mark_all(&mut self) {
        self.late_marks.forget_all();
        self.bitmap.set_all();
    }

    /// What the peer has marked is marked here too.
    pub(crate) fn merge_marks(
        &mut self,
        incoming: &mut BitmapIn,
        packet: &Packet,
    ) -> Result<BitmapProgress, BitmapError> {
        self.late_marks.forget_all();
        incoming.receive(packet, Some(&mut self.bitmap))
    }

    /// These blocks are equal on both disks now. Says whether one was marked.
    pub(crate) fn clear_marks(&mut self, span: Span) -> bool {
        let cleared = self.bitmap.clear_sectors(span.sector, span.sectors()) > 0;
        self.late_marks
            .forget_cleared(&self.bitmap, span.sector, span.end());
        cleared
    }

    /// The device has another size. `set_new`: new space is out of sync.
    pub(crate) fn resize(&mut self, size: u64, set_new: bool) {
        self.late_marks.forget_all();
        self.bitmap.resize(size, set_new);
    }

    /// The marks of a disk that is not UpToDate: whether they tell of everything that is not good here.
    pub(crate) fn trust_unmarked(&mut self, trust: bool) {
        self.marks_merged = trust;
    }

    /// Whether a block of these is marked.
    pub(crate) fn is_marked(&self, span: Span) -> bool {
        self.bitmap.any_set(span.sector, span.sectors())
    }

    /// Whether these blocks are good, though the disk is Inconsistent.
    pub(crate) fn is_good_unmarked(&self, span: Span) -> bool {
        self.marks_merged && !self.is_marked(span)
    }

    // ---- its log -------------------------------------------------------------------------------------------------

    /// Who writes, and waits to write.
    pub(crate) fn gate_mut(&mut self) -> &mut AlGate {
        &mut self.gate
    }

    /// A write goes to its gate. The transaction that it needs, if nobody has asked for that, is queued.
    pub(crate) fn enter_gate(&mut self, who: Writer, extents: (ExtentNr, ExtentNr)) -> Entry {
        let entry = self.gate.enter(who, extents);
        if entry == (Entry::Waits { queue: true }) {
            self.queue.push(MdKind::Transaction, Then::Nothing);
        }
        entry
    }

    /// The transaction is queued for which extents were collected while one was written. Says whether there is one.
    pub(crate) fn queue_collected(&mut self) -> bool {
        let due = self.gate.ask_for_next();
        if due {
            self.queue.push(MdKind::Transaction, Then::Nothing);
        }
        due
    }

    /// Nobody is connected: nothing is logged if every block is marked. Says whether that is so.
    pub(crate) fn suspend_log(&mut self) -> bool {
        let all = self.marked() == self.bitmap.bits() && self.bitmap.bits() > 0;
        if all {
            self.gate.suspend();
        }
        all
    }

    pub(crate) fn is_log_suspended(&self) -> bool {
        self.gate.is_suspended()
    }

    /// Writes are logged again. Says whether they were not.
    pub(crate) fn resume_log(&mut self) -> bool {
        self.gate.resume()
    }

    /// How many writes wait for the activity log.
    pub(crate) fn writes_waiting(&self) -> usize {
        self.gate.waiting()
    }

    // ---- what is written to its metadata -------------------------------------------------------------------------

    /// Queues a metadata operation.
    pub(crate) fn queue(&mut self, kind: MdKind, then: Then) {
        self.queue.push(kind, then);
    }

    /// What comes next of the metadata operations.
    ///
    /// # Panics
    /// If that lies outside of the metadata (I25).
    pub(crate) fn next_metadata(&mut self, facts: Facts) -> Next {
        let next = self.queue.next(&mut Contents {
            layout: &self.layout,
            record: &mut self.record,
            bitmap: &mut self.bitmap,
            late_marks: &mut self.late_marks,
            gate: &mut self.gate,
            durability: &mut self.durability,
            disk_flushes: self.options.disk_flushes,
            md_flushes: self.options.md_flushes,
            facts,
        });
        if let Next::Io(io) = &next {
            for write in &io.writes {
                assert!(
                    (self.layout).contains(write.sector, write.data.len() as u64 / 512),
                    "metadata write outside its area (I25)"
                );
            }
        }
        next
    }

    /// What runs has failed with the disk: what would have followed it.
    pub(crate) fn fail_running(&mut self) -> Option<Then> {
        self.queue.fail_running()
    }

    /// Nothing that is queued will be written: what would have followed.
    pub(crate) fn fail_queued(&mut self) -> impl Iterator<Item = Then> + use<> {
        self.queue.give_up()
    }

    /// Whether metadata is being written, or a flush that it waits for is under way.
    pub(crate) fn is_writing_metadata(&self) -> bool {
        self.queue.is_running()
    }

    /// How many metadata operations wait.
    pub(crate) fn operations_waiting(&self) -> usize {
        self.queue.len()
    }

    /// Whether a metadata operation waits that this follows.
    pub(crate) fn is_queued(&self, followed: impl Fn(&Then) -> bool) -> bool {
        self.queue.is_queued(followed)
    }

    /// Marks were cleared that need not be on disk soon. Says whether they are the first.
    pub(crate) fn note_lazy(&mut self) -> bool {
        self.queue.note_lazy()
    }

    /// Whether such marks have not been written.
    pub(crate) fn is_lazy(&self) -> bool {
        self.queue.is_lazy()
    }

    /// Whether a data write has ended that a power cut may take back, and that a flush would keep.
    pub(crate) fn has_volatile_data(&self) -> bool {
        self.options.disk_flushes && self.durability.is_volatile()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdb_meta::{AlGeometry, MetaKind};

    use crate::disk::operation::Area;
    use crate::planted::Planted;

    const SECTORS: u64 = 1 << 21;

    fn disk() -> Disk {
        let info = DiskInfo {
            kind: MetaKind::Internal,
            data_capacity_sectors: SECTORS,
            meta_capacity_sectors: SECTORS,
            logical_block_bytes: 512,
            can_discard: false,
        };
        let al = AlGeometry::DEFAULT;
        let layout = Layout::compute(MetaKind::Internal, SECTORS, SECTORS, al).unwrap();
        let bitmap = Bitmap::new(layout.usable_sectors, false);
        let superblock = Superblock::new(&layout);
        Disk::new(info, DiskOptions::default(), layout, superblock, bitmap)
    }

    fn next_area(disk: &mut Disk) -> Option<Area> {
        let facts = Facts {
            size: disk.usable_sectors(),
            primary: false,
            planted: Planted::default(),
        };
        match disk.next_metadata(facts) {
            Next::Io(io) => Some(io.writes[0].area),
            Next::Nothing => None,
            Next::Done { transaction, .. } => {
                disk.gate_mut().commit(transaction?);
                next_area(disk)
            }
        }
    }

    #[test]
    fn a_write_has_the_transaction_queued_that_it_needs() {
        let mut disk = disk();
        let waits = |queue| Entry::Waits { queue };
        let enter = |disk: &mut Disk, key| {
            let extent = ExtentNr(u32::try_from(key).unwrap());
            disk.enter_gate(Writer::Own(key), (extent, extent))
        };
        assert_eq!(enter(&mut disk, 1), waits(true));
        assert_eq!(enter(&mut disk, 2), waits(false), "the same one");
        assert_eq!(next_area(&mut disk), Some(Area::Log));
        assert_eq!(enter(&mut disk, 3), waits(true), "it has begun");
        assert_eq!(disk.operations_waiting(), 1);
        assert!(!disk.queue_collected());
    }

    #[test]
    fn nothing_is_logged_while_everything_is_marked() {
        let mut disk = disk();
        assert!(!disk.suspend_log());
        disk.mark_all();
        assert!(disk.suspend_log() && disk.is_log_suspended());
        let extents = (ExtentNr(0), ExtentNr(0));
        assert_eq!(disk.enter_gate(Writer::Own(1), extents), Entry::Open);
        assert!(disk.resume_log() && !disk.resume_log());
    }

    #[test]
    fn a_disk_declared_equal_to_the_peers_has_no_marks() {
        let mut disk = disk();
        disk.mark_all();
        disk.suspend_log();
        assert!(disk.skip_initial_sync(Generation::new(0x1000), false));
        assert_eq!(disk.marked(), 0);
        assert!(!disk.is_log_suspended());
        disk.mark(0, 9);
        assert!(!disk.skip_initial_sync(Generation::new(0x2000), false));
        assert_eq!(disk.marked(), 2, "it is not fresh any more");
        assert!(disk.clear_marks(Span::between(0, 8)));
        assert!(!disk.clear_marks(Span::between(0, 8)));
        assert!(!disk.into_remembered().clean);
    }

    #[test]
    fn sizes_are_not_changed_under_way() {
        let mut disk = disk();
        let mut options = DiskOptions {
            disk_timeout_ds: 7,
            ..DiskOptions::default()
        };
        disk.change_options(options.clone()).unwrap();
        assert_eq!(disk.options().disk_timeout_ds, 7);
        options.al_extents += 1;
        options.disk_timeout_ds = 8;
        disk.change_options(options).unwrap_err();
        assert_eq!(disk.options().disk_timeout_ds, 7);
    }
}
