//! Metadata operations are asked for, their I/O is started, and what they end with is passed on.

use crate::disk::io::Io;
use crate::disk::operation::{Area, MdKind, MetaIo, Then, full_sync};
use crate::disk::queue::{Facts, Next};
use crate::effect::Effect;
use crate::event::{DiskError, Payload};
use crate::ids::VolumeNr;
use crate::router::Resource;
use rdb_meta::MdFlags;

impl<P: Payload> Resource<P> {
    /// Queues a metadata operation. Without a disk, `then` fails at once.
    pub(in crate::router) fn md(&mut self, nr: VolumeNr, kind: MdKind, then: Then) {
        let Some(disk) = self.volume_mut(nr).disk.open_mut() else {
            self.md_then(nr, then, false);
            return;
        };
        disk.queue(kind, then);
        self.md_pump(nr);
    }

    /// Writes the superblock if it changed and no write that would carry the change is queued.
    pub(in crate::router) fn md_sync_if_dirty(&mut self, nr: VolumeNr) {
        let volume = self.volumes.get(nr);
        if volume.is_some_and(|volume| volume.disk.is_record_unqueued()) {
            self.md(nr, MdKind::SUPERBLOCK, Then::Nothing);
        }
    }

    /// Every block is marked on disk.
    pub(in crate::router) fn md_full_sync(&mut self, nr: VolumeNr, then: Then) {
        for (kind, then) in full_sync(then) {
            self.md(nr, kind, then);
        }
    }

    /// Starts what can be started. An operation with nothing to write ends at once.
    pub(in crate::router) fn md_pump(&mut self, nr: VolumeNr) {
        loop {
            let facts = self.metadata_facts(nr);
            let Some(disk) = self.volume_mut(nr).disk.open_mut() else {
                return;
            };
            match disk.next_metadata(facts) {
                Next::Nothing => return,
                Next::Io(io) => self.start_metadata_io(nr, io),
                Next::Done { transaction, then } => {
                    if let Some(transaction) = transaction {
                        self.transaction_written(nr, transaction);
                    }
                    self.md_then(nr, then, true);
                }
            }
        }
    }

    fn metadata_facts(&self, nr: VolumeNr) -> Facts {
        let volume = self.volume(nr);
        let flags = crate::state::md_flags(volume.state, volume.crashed_primary, 0);
        Facts {
            size: volume.size,
            primary: MdFlags::from_bits_retain(flags).contains(MdFlags::PRIMARY_IND),
            planted: self.planted,
        }
    }

    fn start_metadata_io(&mut self, nr: VolumeNr, io: MetaIo) {
        for write in io.writes {
            let blocks = write.data.len().div_ceil(4096) as u64;
            let counters = &mut self.volume_mut(nr).counters;
            match write.area {
                Area::Superblock => {}
                Area::Log => counters.al_writes += blocks,
                Area::Bitmap => counters.bm_writes += blocks,
            }
            let tag = self.start_io(Io::Meta { volume: nr });
            self.emit(Effect::MetaWrite {
                volume: nr,
                tag,
                sector: write.sector,
                data: write.data,
                preflush: write.preflush,
                fua: write.fua,
            });
        }
        if io.flush_data {
            self.flush_disk(Io::MetaFlushData { volume: nr });
        }
    }

    /// A metadata write, or a data flush that metadata waited for, ended.
    pub(in crate::router) fn md_io_done(&mut self, nr: VolumeNr, result: Result<(), DiskError>) {
        let slot = &mut self.volume_mut(nr).disk;
        let Some(ended) = slot.metadata_io_ended(result.is_ok()) else {
            return;
        };
        if let Err(error) = result
            && ended.costs_disk
        {
            self.log_volume_error(
                nr,
                alloc::format!("metadata I/O failed (errno {})", error.errno),
            );
            self.metadata_failed(nr);
        }
        if !ended.idle {
            return;
        }
        let slot = &mut self.volume_mut(nr).disk;
        if slot.open().is_some() {
            self.md_pump(nr);
            return;
        }
        let Some(disk) = slot.get_mut() else {
            return;
        };
        if let Some(then) = disk.fail_running() {
            self.md_then(nr, then, false);
        }
        self.fail_md_queue(nr);
        self.disk_quiet(nr);
    }

    /// Everything queued fails: the disk is lost.
    pub(in crate::router) fn fail_md_queue(&mut self, nr: VolumeNr) {
        let Some(disk) = self.volume_mut(nr).disk.get_mut() else {
            return;
        };
        for then in disk.fail_queued() {
            self.md_then(nr, then, false);
        }
    }
}
