//! An attached disk and its metadata in memory: each part owns what it goes by.
//!
//! `attach`, `at_gate`, `door`, `full`, `giving_up`, `metadata` and `written` wire the parts to the rest of the resource; the other
//! files know nothing of it.

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

use rdb_meta::{Bitmap, Layout, MdFlags, Superblock};

use crate::config::DiskOptions;
use crate::disk::al_gate::AlGate;
use crate::disk::durability::Durability;
use crate::disk::late_marks::LateMarks;
use crate::disk::queue::{Contents, Facts, MdQueue, Next};
use crate::disk::record::Record;
use crate::event::DiskInfo;
use crate::span::Span;

pub(crate) use crate::disk::operation::{MdKind, Then};

/// What is known of a disk that was given up.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) superblock: Superblock,
    /// No block was marked.
    pub(crate) clean: bool,
}

/// An attached disk and its metadata in memory.
pub(crate) struct Disk {
    info: DiskInfo,
    pub(crate) options: DiskOptions,
    pub(crate) layout: Layout,
    pub(crate) record: Record,
    pub(crate) bitmap: Bitmap,
    pub(crate) late_marks: LateMarks,
    /// While the disk is Inconsistent: blocks without a mark are good, because the peer's marks were merged.
    marks_merged: bool,
    pub(crate) gate: AlGate,
    pub(crate) queue: MdQueue,
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

    /// What comes next of the metadata operations.
    pub(crate) fn next_metadata(&mut self, facts: Facts) -> Next {
        self.queue.next(&mut Contents {
            layout: &self.layout,
            record: &mut self.record,
            bitmap: &mut self.bitmap,
            late_marks: &mut self.late_marks,
            gate: &mut self.gate,
            durability: &mut self.durability,
            disk_flushes: self.options.disk_flushes,
            md_flushes: self.options.md_flushes,
            facts,
        })
    }

    // ---- what it is ----------------------------------------------------------------------------------------------

    /// The sectors there are for data.
    pub(crate) fn usable_sectors(&self) -> u64 {
        self.layout.usable_sectors
    }

    /// The smallest unit that it transfers directly.
    pub(crate) fn logical_block_bytes(&self) -> u32 {
        self.info.logical_block_bytes
    }

    pub(crate) fn can_discard(&self) -> bool {
        self.info.can_discard
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

    // ---- its log and its queue -----------------------------------------------------------------------------------

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

    /// How many metadata operations wait.
    pub(crate) fn operations_waiting(&self) -> usize {
        self.queue.len()
    }

    /// Whether a metadata operation waits that this follows.
    pub(crate) fn is_queued(&self, followed: impl Fn(&Then) -> bool) -> bool {
        self.queue.is_queued(followed)
    }

    /// Whether a data write has ended that a power cut may take back, and that a flush would keep.
    pub(crate) fn has_volatile_data(&self) -> bool {
        self.options.disk_flushes && self.durability.is_volatile()
    }

    /// Whether what the superblock is to say is not durable yet.
    pub(crate) fn is_record_pending(&self) -> bool {
        self.record.is_dirty() || self.queue.writes_superblock()
    }

    /// Whether the record has changed, and nothing that is queued would carry the change to the disk.
    fn is_record_unqueued(&self) -> bool {
        self.record.is_dirty() && !self.queue.will_write_record()
    }
}
