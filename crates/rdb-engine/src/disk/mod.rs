//! An attached disk and its metadata in memory: each part owns what it goes by.
//!
//! `attach`, `at_gate`, `door`, `full`, `giving_up`, `metadata` and `written` wire the parts to the rest of the resource; the other
//! files know nothing of it.

pub(crate) mod al_gate;
mod at_gate;
mod attach;
mod door;
mod durability;
mod full;
mod giving_up;
pub(crate) mod io;
mod metadata;
mod operation;
mod pages;
mod queue;
mod reading;
mod record;
pub(crate) mod slot;
pub(crate) mod space;
mod written;

use rdb_meta::{Bitmap, Layout, MdFlags, Superblock};

use crate::config::DiskOptions;
use crate::disk::al_gate::AlGate;
use crate::disk::durability::Durability;
use crate::disk::queue::{Contents, Facts, MdQueue, Next};
use crate::disk::record::Record;
use crate::event::DiskInfo;

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
    pub(crate) info: DiskInfo,
    pub(crate) options: DiskOptions,
    pub(crate) layout: Layout,
    pub(crate) record: Record,
    pub(crate) bitmap: Bitmap,
    /// While the disk is Inconsistent: blocks without a mark are good, because the peer's marks were merged.
    pub(crate) marks_merged: bool,
    pub(crate) gate: AlGate,
    pub(crate) queue: MdQueue,
    pub(crate) durability: Durability,
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
            queue: MdQueue::default(),
            durability: Durability::new(),
        }
    }

    /// What comes next of the metadata operations.
    fn next_metadata(&mut self, facts: Facts) -> Next {
        self.queue.next(&mut Contents {
            layout: &self.layout,
            record: &mut self.record,
            bitmap: &mut self.bitmap,
            gate: &mut self.gate,
            durability: &mut self.durability,
            disk_flushes: self.options.disk_flushes,
            md_flushes: self.options.md_flushes,
            facts,
        })
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
