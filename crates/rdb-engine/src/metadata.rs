//! Writing metadata: one operation at a time a volume, in the order they were asked for.
//!
//! The order is what keeps data safe (`docs/spec/metadata.md`, section 6), so there is one queue for everything:
//! superblock, bitmap blocks, activity-log transactions and the flushes between them. An operation takes what is in
//! memory when it *starts*; its [`Then`] runs when it is durable. The superblock and the log are written with
//! flush and force-unit-access, bitmap blocks plainly: the flush of the write that follows makes them durable.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use rdb_meta::activity_log::SealedTransaction;
use rdb_meta::{Magic, MdFlags};

use crate::disk::Disk;
use crate::effect::Effect;
use crate::event::{DiskError, Payload};
use crate::ids::{IoTag, PeerKey, RequestKey, VolumeNr};
use crate::resource::{Io, Resource};

/// One metadata operation.
#[derive(Debug)]
pub(crate) struct MdOp {
    pub(crate) kind: MdKind,
    pub(crate) then: Then,
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MdKind {
    /// The superblock, with these flags set or cleared first.
    Superblock { set: MdFlags, clear: MdFlags },
    /// Every bitmap block that changed since it was written.
    ChangedPages,
    /// Set every bit, and write every bitmap block.
    SetAllPages,
    /// Clear every bit, and write every bitmap block: not before what is queued in front of it is durable.
    ClearAllPages,
    /// Write every bitmap block, of a bitmap that was cleared when this was asked for: what is marked since stays.
    AllPages,
    /// The activity-log transaction that is being collected.
    Transaction,
    /// Every block of the activity log, as holding nothing.
    InitialiseLog,
    /// Make the data disk's writes durable.
    FlushData,
}

impl MdKind {
    /// The superblock as it is.
    pub(crate) const SUPERBLOCK: MdKind = MdKind::Superblock {
        set: MdFlags::empty(),
        clear: MdFlags::empty(),
    };
}

/// What follows a metadata operation. Each also says what follows when it fails: then the disk is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// The next step of an attach.
    Attach,
    /// Held completions may go, and the peer is told the identifiers. The completions go on failure too: a disk that
    /// is given up has its own bookkeeping.
    AnnounceGeneration,
    /// The sync UUID may be sent.
    SendSyncUuid(u64),
    /// The target may ask for data.
    StartRequesting,
    /// The resync's data is durable: the target may call itself UpToDate.
    ResyncDataDurable,
    /// The target's new identifiers and flags are durable: tell the source.
    AnnounceResyncEnd,
    /// A Primary's disk is Inconsistent by its record too: what only the peer has may be called done.
    InconsistentRecorded,
    /// All bits are set for a full sync that an administrator wanted.
    FullSyncReady,
    /// All bits are set for a full sync that a handshake decided.
    HandshakeBitmapReady,
    /// The administrative command of this number waits for this.
    Admin(u32),
    /// A mirrored write waits for what the superblock says of this node; without a disk it ends.
    Mirrored(PeerKey),
    /// A write of ours waits for the mark of a Primary.
    Application(RequestKey),
    /// The device's new size may be told.
    AnnounceDevice,
    /// The failed or detached disk has been flushed, if it could be.
    GivenUpFlushed,
    /// The failed or detached disk has nothing left to write.
    Detached,
}

/// The operation that runs.
#[derive(Debug)]
pub(crate) struct Running {
    kind: MdKind,
    then: Then,
    stage: Stage,
    outstanding: u32,
}

#[derive(Debug)]
enum Stage {
    /// Copies of blocks that go out once the data disk is flushed, if it must be.
    Copies {
        flush: bool,
        pages: Vec<(usize, [u8; PAGE])>,
        then: AfterCopies,
    },
    /// Those copies go out.
    CopiesOut { then: AfterCopies },
    /// The data disk is flushed, if the superblock must not go out before.
    AheadOfSuperblock,
    /// Every block goes out, batch by batch; `next` is the first of the next.
    All { next: usize },
    /// The last writes go out. A transaction's number is committed then.
    Last { commit: Option<u32> },
}

/// What follows when copies of bitmap blocks are on disk.
#[derive(Debug)]
enum AfterCopies {
    /// More changed blocks, from this one on.
    ChangedFrom(usize),
    Transaction(SealedTransaction),
}

type MetaWrites = Vec<(u64, Vec<u8>, bool, bool)>;

const PAGE: usize = 4096;
/// Blocks of one bitmap write: 256 KiB.
const PAGES_PER_WRITE: usize = 64;
/// Blocks written at a time: 4 MiB, so that a large bitmap is not copied whole.
const PAGES_PER_BATCH: usize = 1024;

impl<P: Payload> Resource<P> {
    /// Queues a metadata operation. Without a disk, `then` fails at once.
    pub(crate) fn md(&mut self, nr: VolumeNr, kind: MdKind, then: Then) {
        let Some(disk) = self
            .volume_mut(nr)
            .disk
            .as_deref_mut()
            .filter(|d| !d.failed)
        else {
            self.md_then(nr, then, false);
            return;
        };
        let again = disk.md_queue.back().is_some_and(|last| {
            last.kind == kind && matches!((&last.then, &then), (Then::Nothing, Then::Nothing))
        });
        if !again {
            disk.md_queue.push_back(MdOp { kind, then });
        }
        self.md_pump(nr);
    }

    /// Writes the superblock if it changed and no write that would carry the change is queued.
    pub(crate) fn md_sync_if_dirty(&mut self, nr: VolumeNr) {
        let Some(disk) = self.volume_mut(nr).disk.as_deref_mut() else {
            return;
        };
        if !disk.sb_dirty || disk.failed || !disk.ready {
            return;
        }
        let queued = |op: &MdOp| matches!(op.kind, MdKind::Superblock { .. });
        let about_to = |op: &Running| matches!(op.stage, Stage::AheadOfSuperblock);
        if !disk.md_queue.iter().any(queued) && !disk.md_running.as_ref().is_some_and(about_to) {
            self.md(nr, MdKind::SUPERBLOCK, Then::Nothing);
        }
    }

    /// The order of `docs/spec/metadata.md`, section 5.4: a crash in between repeats it at the next attach.
    pub(crate) fn md_full_sync(&mut self, nr: VolumeNr, then: Then) {
        let full = MdFlags::FULL_SYNC;
        self.md(
            nr,
            MdKind::Superblock {
                set: full,
                clear: MdFlags::empty(),
            },
            Then::Nothing,
        );
        self.md(nr, MdKind::SetAllPages, Then::Nothing);
        self.md(
            nr,
            MdKind::Superblock {
                set: MdFlags::empty(),
                clear: full,
            },
            then,
        );
    }

    fn md_pump(&mut self, nr: VolumeNr) {
        loop {
            let Some(disk) = self.volume_mut(nr).disk.as_deref_mut() else {
                return;
            };
            if disk.md_running.is_some() || disk.failed {
                return;
            }
            let Some(op) = disk.md_queue.pop_front() else {
                return;
            };
            self.md_start(nr, op);
            // An operation with nothing to write has ended already; the loop starts the next one.
            let Some(disk) = self.volume_mut(nr).disk.as_deref_mut() else {
                return;
            };
            match &disk.md_running {
                Some(running) if running.outstanding > 0 => return,
                Some(_) => self.md_advance(nr),
                None => {}
            }
        }
    }

    fn md_start(&mut self, nr: VolumeNr, op: MdOp) {
        let unflushed = self.planted(crate::Bug::EvictWithoutFlush);
        let unmarked = self.planted(crate::Bug::EvictWithoutMarks);
        let disk = self.disk_mut(nr);
        let stage = match op.kind {
            MdKind::Superblock { .. } => Stage::AheadOfSuperblock,
            MdKind::SetAllPages => {
                disk.bitmap.set_all();
                Stage::All { next: 0 }
            }
            MdKind::ClearAllPages => {
                disk.bitmap.clear_all();
                Stage::All { next: 0 }
            }
            MdKind::AllPages => Stage::All { next: 0 },
            MdKind::ChangedPages => {
                disk.lazy_since = None;
                changed_blocks(disk, 0)
            }
            MdKind::Transaction => {
                let Some(sealed) = disk.gate.seal() else {
                    disk.md_running = Some(Running {
                        kind: op.kind,
                        then: op.then,
                        stage: Stage::Last { commit: None },
                        outstanding: 0,
                    });
                    return;
                };
                // The bits of an extent that leaves the log are on disk before the log forgets it (I4).
                let mut pages: Vec<usize> = Vec::new();
                for &extent in &sealed.evicted {
                    let page = rdb_meta::Bitmap::page_of_extent(extent);
                    if page < disk.bitmap.page_count()
                        && !unmarked
                        && disk.bitmap.is_dirty(page)
                        && !pages.contains(&page)
                    {
                        pages.push(page);
                    }
                }
                // (L15) So is the data written there: the log is all that would have it compared after a power cut.
                let flush = pages.iter().any(|&p| disk.bitmap.is_lazy(p))
                    || !sealed.evicted.is_empty() && disk.has_volatile_data();
                Stage::Copies {
                    flush: flush && !unflushed,
                    pages: copies(disk, &pages),
                    then: AfterCopies::Transaction(sealed),
                }
            }
            MdKind::InitialiseLog | MdKind::FlushData => Stage::Last { commit: None },
        };
        disk.md_running = Some(Running {
            kind: op.kind,
            then: op.then,
            stage,
            outstanding: 0,
        });
        self.md_emit(nr);
    }

    /// Emits the I/O of the running operation's stage.
    fn md_emit(&mut self, nr: VolumeNr) {
        let unflushed = self.planted(crate::Bug::UpToDateBeforeFlush);
        let volume = self.volume(nr);
        let size = volume.size;
        let flags = crate::state::md_flags(volume.state, volume.crashed_primary, 0);
        let still_primary = MdFlags::from_bits_retain(flags).contains(MdFlags::PRIMARY_IND);
        let disk = self.disk_mut(nr);
        let Some(mut running) = disk.md_running.take() else {
            return;
        };
        let layout = disk.layout;
        let md_flushes = disk.options.md_flushes;
        let mut writes = MetaWrites::new();
        let mut flush_data = false;
        match &mut running.stage {
            Stage::Copies { flush, .. } => flush_data = *flush,
            Stage::CopiesOut { .. } => {}
            Stage::AheadOfSuperblock => flush_data = core::mem::take(&mut disk.flush_due),
            Stage::All { next } => {
                let pages: Vec<usize> = (*next..disk.bitmap.page_count())
                    .take(PAGES_PER_BATCH)
                    .collect();
                *next += pages.len();
                let pages = copies(disk, &pages);
                page_writes(disk, pages, &mut writes);
            }
            Stage::Last { .. } => match running.kind {
                MdKind::Superblock { set, mut clear } => {
                    if still_primary {
                        clear.remove(MdFlags::PRIMARY_IND); // promoted again meanwhile
                    }
                    disk.sb.flags.insert(set);
                    disk.sb.flags.remove(clear | MdFlags::AL_CLEAN);
                    disk.sb.magic = Magic::V84Unclean;
                    disk.sb_dirty = false;
                    disk.pages_unflushed = false;
                    disk.sb.la_size_sectors = size;
                    let block = disk.sb.to_block().to_vec();
                    writes.push((layout.superblock_sector, block, md_flushes, md_flushes));
                }
                MdKind::InitialiseLog => {
                    let ring = rdb_meta::activity_log::initialised_ring(layout.al);
                    writes.push((layout.al_sector, ring, md_flushes, md_flushes));
                }
                MdKind::FlushData => flush_data = true,
                _ => {}
            },
        }
        flush_data &= disk.options.disk_flushes && !unflushed;
        if flush_data {
            disk.data_flushing = disk.data_written;
        }
        running.outstanding = u32::try_from(writes.len()).expect("bounded by the bitmap's blocks")
            + u32::from(flush_data);
        disk.md_running = Some(running);
        self.md_write(nr, writes);
        if flush_data {
            let tag = self.start_data_io(Io::MetaFlushData { volume: nr });
            self.emit(Effect::Flush { volume: nr, tag });
        }
    }

    fn md_write(&mut self, nr: VolumeNr, writes: MetaWrites) {
        let layout = self.disk_mut(nr).layout;
        let bitmap = layout.bitmap_sector..layout.bitmap_sector + layout.bitmap_sectors;
        let log = layout.al_sector..layout.al_sector + layout.al.sectors();
        for (sector, data, preflush, fua) in writes {
            assert!(
                layout.contains(sector, data.len() as u64 / 512),
                "metadata write outside its area (I25)"
            );
            let blocks = data.len().div_ceil(PAGE) as u64;
            let counters = &mut self.volume_mut(nr).counters;
            if bitmap.contains(&sector) {
                counters.bm_writes += blocks;
            } else if log.contains(&sector) {
                counters.al_writes += blocks;
            }
            let tag = self.start_io(Io::Meta { volume: nr });
            self.emit(Effect::MetaWrite {
                volume: nr,
                tag,
                sector,
                data,
                preflush,
                fua,
            });
        }
    }

    /// A metadata write, or a data flush that metadata waited for, ended.
    pub(crate) fn md_io_done(&mut self, nr: VolumeNr, result: Result<(), DiskError>) {
        let Some(disk) = self.volume_mut(nr).disk.as_deref_mut() else {
            return;
        };
        let Some(running) = &mut disk.md_running else {
            return;
        };
        running.outstanding -= 1;
        let idle = running.outstanding == 0;
        // A disk that is given up keeps its records as well as it takes them, whatever its data has come to.
        let is_flush =
            running.kind == MdKind::FlushData || matches!(running.stage, Stage::AheadOfSuperblock);
        let best_effort = disk.detaching && is_flush;
        if let Err(error) = result
            && !disk.failed
            && !best_effort
        {
            self.log_volume_error(
                nr,
                alloc::format!("metadata I/O failed (errno {})", error.errno),
            );
            self.metadata_failed(nr);
        }
        let Some(disk) = self.volume_mut(nr).disk.as_deref_mut() else {
            return;
        };
        if disk.failed {
            if idle {
                let running = disk.md_running.take();
                if let Some(running) = running {
                    self.md_then(nr, running.then, false);
                }
                self.fail_md_queue(nr);
                self.disk_quiet(nr);
            }
            return;
        }
        if idle {
            self.md_advance(nr);
            self.md_pump(nr);
        }
    }

    /// Starts the running operation's stage; one with nothing to write is over at once.
    fn md_emit_or_advance(&mut self, nr: VolumeNr) {
        self.md_emit(nr);
        let running = self.disk_mut(nr).md_running.as_ref();
        if running.is_some_and(|r| r.outstanding == 0) {
            self.md_advance(nr);
        }
    }

    /// The running operation's stage is over: go to the next, or end it.
    fn md_advance(&mut self, nr: VolumeNr) {
        let disk = self.disk_mut(nr);
        let Some(mut running) = disk.md_running.take() else {
            return;
        };
        match running.stage {
            Stage::Copies { pages, then, .. } => {
                let mut writes = MetaWrites::new();
                page_writes(disk, pages, &mut writes);
                running.outstanding = u32::try_from(writes.len()).expect("bounded by the batch");
                running.stage = Stage::CopiesOut { then };
                let wait = running.outstanding > 0;
                disk.md_running = Some(running);
                self.md_write(nr, writes);
                if !wait {
                    self.md_advance(nr);
                }
            }
            Stage::CopiesOut {
                then: AfterCopies::ChangedFrom(next),
            } => {
                if disk.bitmap.changed_pages().all(|page| page < next) {
                    self.md_then(nr, running.then, true);
                    return;
                }
                running.stage = changed_blocks(disk, next);
                disk.md_running = Some(running);
                self.md_emit_or_advance(nr);
            }
            Stage::CopiesOut {
                then: AfterCopies::Transaction(sealed),
            } => {
                // Without bitmap blocks since the last flush there is nothing that must be durable first.
                let preflush =
                    core::mem::take(&mut disk.pages_unflushed) && disk.options.md_flushes;
                let fua = disk.options.md_flushes;
                let sector = disk.layout.al_block_sector(sealed.ring_block);
                running.stage = Stage::Last {
                    commit: Some(sealed.tr_number),
                };
                running.outstanding = 1;
                disk.md_running = Some(running);
                self.md_write(nr, [(sector, sealed.block.to_vec(), preflush, fua)].into());
            }
            Stage::AheadOfSuperblock => {
                if !disk.flush_due {
                    running.stage = Stage::Last { commit: None };
                }
                disk.md_running = Some(running);
                self.md_emit_or_advance(nr);
            }
            Stage::All { next } if next < disk.bitmap.page_count() => {
                disk.md_running = Some(running);
                self.md_emit_or_advance(nr);
            }
            Stage::All { .. } => self.md_then(nr, running.then, true),
            Stage::Last { commit } => {
                if matches!(running.kind, MdKind::Superblock { .. }) {
                    // (What was set since it was put together needs a write of its own, which is due then.)
                    disk.mark_durable =
                        !disk.sb_dirty && disk.sb.flags.contains(MdFlags::PRIMARY_IND);
                }
                if let Some(tr) = commit {
                    self.transaction_written(nr, tr);
                }
                self.md_then(nr, running.then, true);
            }
        }
    }

    /// Whether what the superblock is to say is not durable yet.
    pub(crate) fn superblock_pending(&self, nr: VolumeNr) -> bool {
        let is_superblock = |kind| matches!(kind, MdKind::Superblock { .. });
        self.disk_if_attached(nr).is_some_and(|disk| {
            disk.sb_dirty
                || disk.md_queue.iter().any(|op| is_superblock(op.kind))
                || disk
                    .md_running
                    .as_ref()
                    .is_some_and(|op| is_superblock(op.kind))
        })
    }

    /// Everything queued fails: the disk is lost.
    pub(crate) fn fail_md_queue(&mut self, nr: VolumeNr) {
        let Some(disk) = self.volume_mut(nr).disk.as_deref_mut() else {
            return;
        };
        let ops: VecDeque<MdOp> = core::mem::take(&mut disk.md_queue);
        for op in ops {
            self.md_then(nr, op.then, false);
        }
    }

    /// A tag for an I/O and what it was for.
    pub(crate) fn start_io(&mut self, io: Io) -> IoTag {
        IoTag(self.io.insert(io) as u64)
    }
}

/// The next changed blocks from `from` on. Cleared bits must not reach the disk before the data they speak of is durable
/// (I7): the blocks are copied as they are now, the data disk is flushed if bits of theirs were cleared, and the copies
/// go out.
fn changed_blocks(disk: &mut Disk, from: usize) -> Stage {
    let changed = disk.bitmap.changed_pages().filter(|&page| page >= from);
    let pages: Vec<usize> = changed.take(PAGES_PER_BATCH).collect();
    Stage::Copies {
        flush: pages.iter().any(|&page| disk.bitmap.is_lazy(page)),
        then: AfterCopies::ChangedFrom(pages.last().map_or(from, |last| last + 1)),
        pages: copies(disk, &pages),
    }
}

/// Copies of these blocks, which count as written from now on.
fn copies(disk: &mut Disk, pages: &[usize]) -> Vec<(usize, [u8; PAGE])> {
    pages
        .iter()
        .map(|&p| {
            disk.bitmap.mark_clean(p);
            (p, disk.bitmap.page_bytes(p))
        })
        .collect()
}

/// Appends the writes of these blocks, neighbours in one write.
fn page_writes(disk: &mut Disk, pages: Vec<(usize, [u8; PAGE])>, writes: &mut MetaWrites) {
    let mut next_page = usize::MAX;
    let mut in_write = 0;
    for (page, bytes) in pages {
        let (sector, sectors) = disk.layout.bitmap_page_sectors(page);
        let bytes = &bytes[..usize::try_from(sectors).unwrap_or(8).min(8) * 512];
        match writes.last_mut() {
            Some((_, data, ..)) if page == next_page && in_write < PAGES_PER_WRITE => {
                data.extend_from_slice(bytes);
                in_write += 1;
            }
            _ => {
                writes.push((sector, bytes.to_vec(), false, false));
                in_write = 1;
            }
        }
        next_page = page + 1;
        disk.pages_unflushed = true;
    }
}
