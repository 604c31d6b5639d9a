//! An attached disk and its metadata in memory.

pub(crate) mod al_gate;
mod at_gate;

use alloc::collections::VecDeque;

use rdb_meta::{Bitmap, Layout, MdFlags, Superblock};

use crate::config::DiskOptions;
use crate::disk::al_gate::AlGate;
use crate::event::DiskInfo;
use crate::generation::GenerationIds;
use crate::ids::Time;
use crate::metadata::{MdOp, Running};

/// An attached disk and its metadata in memory.
pub(crate) struct Disk {
    pub(crate) info: DiskInfo,
    pub(crate) options: DiskOptions,
    pub(crate) layout: Layout,
    /// What the superblock says, or will say when it is written next.
    pub(crate) sb: Superblock,
    /// `sb` differs from what is on disk, or from what is being written.
    pub(crate) sb_dirty: bool,
    /// The superblock may not go out before the data disk has been flushed.
    pub(crate) flush_due: bool,
    pub(crate) bitmap: Bitmap,
    /// While the disk is Inconsistent: blocks without a mark are good, because the peer's marks were merged.
    pub(crate) marks_merged: bool,
    pub(crate) gate: AlGate,
    /// Metadata operations, one at a time, in order.
    pub(crate) md_queue: VecDeque<MdOp>,
    pub(crate) md_running: Option<Running>,
    /// Bitmap blocks were written since the metadata device was last flushed.
    pub(crate) pages_unflushed: bool,
    /// Data writes that have ended, how many of them had when the flush in flight for metadata began, and how many are
    /// durable since the last one ended.
    pub(crate) data_written: u64,
    pub(crate) data_flushing: u64,
    pub(crate) data_durable: u64,
    /// The superblock on disk has the mark of a Primary.
    pub(crate) mark_durable: bool,
    /// No node writes here as Primary any more; the mark that says so goes after the bitmap is written.
    pub(crate) unmark_due: bool,
    /// The disk failed: nothing new goes to it.
    pub(crate) failed: bool,
    /// Resync cleared bits; the bitmap is written after a while.
    pub(crate) lazy_since: Option<Time>,
    /// The attach has ended.
    pub(crate) ready: bool,
    /// The disk failed or is given up, and its last metadata is on its way.
    pub(crate) detaching: bool,
}

impl Disk {
    /// A disk whose metadata has been read, before that is put in order.
    pub(crate) fn new(
        info: DiskInfo,
        options: DiskOptions,
        layout: Layout,
        sb: Superblock,
        bitmap: Bitmap,
    ) -> Disk {
        Disk {
            info,
            options,
            marks_merged: sb.flags.contains(MdFlags::CONSISTENT),
            gate: AlGate::new(layout.al, sb.al_nr_extents),
            layout,
            sb,
            sb_dirty: true,
            flush_due: false,
            bitmap,
            md_queue: VecDeque::new(),
            md_running: None,
            pages_unflushed: false,
            // What the disk took before it was attached may still be in its cache.
            data_written: 1,
            data_flushing: 0,
            data_durable: 0,
            mark_durable: false,
            unmark_due: false,
            failed: false,
            lazy_since: None,
            ready: false,
            detaching: false,
        }
    }

    pub(crate) fn ids(&self) -> GenerationIds {
        let [current, bitmap, younger, older] = self.sb.uuids;
        GenerationIds {
            current,
            bitmap,
            history: [younger, older],
        }
    }

    pub(crate) fn set_ids(&mut self, ids: GenerationIds) {
        let uuids = [ids.current, ids.bitmap, ids.history[0], ids.history[1]];
        if self.sb.uuids != uuids {
            self.sb.uuids = uuids;
            self.sb_dirty = true;
        }
    }

    /// What the superblock says from now on outranks the peer's disk, or gives blocks away as good: whichever write of it is
    /// the first to say so, what a power cut could take from the data disk is durable before.
    pub(crate) fn flush_before_superblock(&mut self) {
        self.flush_due = true;
    }

    /// Whether a data write has ended that a power cut may take back.
    pub(crate) fn has_volatile_data(&self) -> bool {
        self.data_written > self.data_durable
    }

    /// Nothing of this disk is outstanding on the metadata side.
    pub(crate) fn is_quiet(&self) -> bool {
        self.md_running.is_none() && self.md_queue.is_empty()
    }
}
