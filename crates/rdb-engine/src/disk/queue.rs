//! Metadata to be written: one operation at a time a disk, in the order they were asked for.
//!
//! The order is what keeps data safe (`docs/spec/metadata.md`, section 6), so there is one queue for everything:
//! superblock, bitmap blocks, activity-log transactions and the flushes between them. An operation takes what is in
//! memory when it *starts*; its [`Then`] follows when it is durable. The superblock and the log are written with
//! flush and force-unit-access, bitmap blocks plainly: the flush of the write that follows makes them durable.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use rdb_meta::activity_log::SealedTransaction;
use rdb_meta::{Bitmap, Layout, MdFlags};

use crate::disk::al_gate::AlGate;
use crate::disk::durability::Durability;
use crate::disk::late_marks::LateMarks;
use crate::disk::operation::{Area, MdKind, MetaIo, MetaWrite, Then};
use crate::disk::pages::{self, Pages, copies};
use crate::disk::record::Record;
use crate::planted::{Bug, Planted};

#[derive(Debug)]
struct Operation {
    kind: MdKind,
    then: Then,
}

/// The operation that runs.
#[derive(Debug)]
struct Running {
    kind: MdKind,
    then: Then,
    stage: MdStage,
    /// Writes and flushes of the stage that have not ended.
    outstanding: usize,
}

#[derive(Debug)]
enum MdStage {
    /// Copies of blocks wait for a flush of the data disk, if there must be one.
    Copies {
        flush: bool,
        pages: Pages,
        then: AfterCopies,
    },
    /// Those copies go out.
    CopiesOut { pages: Pages, then: AfterCopies },
    /// A transaction goes out, whose number is committed then.
    Transaction(SealedTransaction),
    /// The data disk is flushed, if the superblock must not go out before.
    AheadOfSuperblock,
    /// Every block goes out, batch by batch; `next` is the first of the next.
    All { next: usize },
    /// The last writes go out.
    Last,
}

/// What follows when copies of bitmap blocks are on disk.
#[derive(Debug)]
enum AfterCopies {
    /// More changed blocks, from this one on.
    ChangedFrom(usize),
    Transaction(SealedTransaction),
}

/// Metadata operations that nobody's write waits for. Users' writes come behind them when they need the activity log, so these
/// are no more than a slow disk takes within a second or two.
pub(crate) const METADATA_MAX: usize = 1 << 8;

/// Blocks written at a time: 4 MiB, so that a large bitmap is not copied whole.
const PAGES_PER_BATCH: usize = 1024;

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing: an operation waits for its I/O, or there is none.
    Nothing,
    /// This I/O begins.
    Io(MetaIo),
    /// An operation is over.
    Done {
        /// The transaction that is durable with it.
        transaction: Option<u32>,
        then: Then,
    },
}

/// The rest of the disk, lent to its queue: what metadata is made of, and what goes by it.
pub(crate) struct Contents<'a> {
    pub layout: &'a Layout,
    pub record: &'a mut Record,
    pub bitmap: &'a mut Bitmap,
    pub late_marks: &'a mut LateMarks,
    pub gate: &'a mut AlGate,
    pub durability: &'a mut Durability,
    pub disk_flushes: bool,
    pub md_flushes: bool,
    pub facts: Facts,
}

/// What the superblock says beside its own, and mistakes to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// The size of the device in sectors.
    pub size: u64,
    /// The state has a Primary write here, so that its mark may not go.
    pub primary: bool,
    pub planted: Planted,
}

/// The metadata operations of a disk.
#[derive(Debug, Default)]
pub(crate) struct MdQueue {
    queue: VecDeque<Operation>,
    running: Option<Running>,
    /// Bitmap blocks were written since the metadata device was last flushed.
    pages_unflushed: bool,
    /// Resync cleared bits; the bitmap is written after a while.
    lazy: bool,
}

impl MdQueue {
    /// Queues an operation.
    pub(super) fn push(&mut self, kind: MdKind, then: Then) {
        let again = then == Then::Nothing
            && self
                .queue
                .back()
                .is_some_and(|last| last.kind == kind && last.then == then);
        if !again {
            self.queue.push_back(Operation { kind, then });
        }
    }

    /// What comes next, now that nobody waits in between.
    pub(super) fn next(&mut self, disk: &mut Contents<'_>) -> Next {
        loop {
            let mut running = match self.running.take() {
                Some(running) if running.outstanding > 0 => {
                    self.running = Some(running);
                    return Next::Nothing;
                }
                Some(running) => match advance(running, disk) {
                    Ok(running) => running,
                    Err(done) => return done,
                },
                None => match self.queue.pop_front() {
                    Some(operation) => self.begin(operation, disk),
                    None => return Next::Nothing,
                },
            };
            let io = self.io(&mut running, disk);
            running.outstanding = io.writes.len() + usize::from(io.flush_data);
            let begins = running.outstanding > 0;
            self.running = Some(running);
            if begins {
                return Next::Io(io);
            }
        }
    }

    fn begin(&mut self, Operation { kind, then }: Operation, disk: &mut Contents<'_>) -> Running {
        let stage = match kind {
            MdKind::Superblock { .. } => MdStage::AheadOfSuperblock,
            MdKind::SetAllPages => {
                disk.late_marks.forget_all();
                disk.bitmap.set_all();
                MdStage::All { next: 0 }
            }
            MdKind::ClearAllPages => {
                disk.late_marks.forget_all();
                disk.bitmap.clear_all();
                MdStage::All { next: 0 }
            }
            MdKind::AllPages => MdStage::All { next: 0 },
            MdKind::ChangedPages => {
                self.lazy = false;
                changed_blocks(disk.bitmap, 0)
            }
            MdKind::Transaction => match disk.gate.seal() {
                Some(sealed) => ahead_of_transaction(disk, sealed),
                None => MdStage::Last,
            },
            MdKind::InitialiseLog | MdKind::FlushData => MdStage::Last,
        };
        Running {
            kind,
            then,
            stage,
            outstanding: 0,
        }
    }

    /// The I/O of the running operation's stage.
    fn io(&mut self, running: &mut Running, disk: &mut Contents<'_>) -> MetaIo {
        let mut io = MetaIo::default();
        match &mut running.stage {
            MdStage::Copies { flush, .. } => io.flush_data = *flush,
            MdStage::CopiesOut { pages, .. } => {
                let pages = core::mem::take(pages);
                io.writes = self.page_writes(disk.layout, pages);
            }
            MdStage::Transaction(sealed) => io.writes.push(MetaWrite {
                area: Area::Log,
                sector: disk.layout.al_block_sector(sealed.ring_block),
                data: sealed.block.to_vec(),
                // Without bitmap blocks since the last flush there is nothing that must be durable first.
                preflush: core::mem::take(&mut self.pages_unflushed) && disk.md_flushes,
                fua: disk.md_flushes,
            }),
            MdStage::AheadOfSuperblock => io.flush_data = disk.record.take_flush_due(),
            MdStage::All { next } => {
                let pages: Vec<usize> = (*next..disk.bitmap.page_count())
                    .take(PAGES_PER_BATCH)
                    .collect();
                *next += pages.len();
                let pages = copies(disk.bitmap, &pages);
                io.writes = self.page_writes(disk.layout, pages);
            }
            MdStage::Last => self.last_io(running.kind, disk, &mut io),
        }
        let unflushed = disk.facts.planted.has(Bug::UpToDateBeforeFlush);
        io.flush_data &= disk.disk_flushes && !unflushed;
        if io.flush_data {
            disk.durability.flush_begins();
        }
        io
    }

    fn last_io(&mut self, kind: MdKind, disk: &mut Contents<'_>, io: &mut MetaIo) {
        let (area, sector, data) = match kind {
            MdKind::Superblock { set, mut clear } => {
                if disk.facts.primary {
                    clear.remove(MdFlags::PRIMARY_IND); // promoted again meanwhile
                }
                self.pages_unflushed = false;
                let block = disk.record.seal(set, clear, disk.facts.size);
                (Area::Superblock, disk.layout.superblock_sector, block)
            }
            MdKind::InitialiseLog => {
                let ring = rdb_meta::activity_log::initialised_ring(disk.layout.al);
                (Area::Log, disk.layout.al_sector, ring)
            }
            MdKind::FlushData => {
                io.flush_data = true;
                return;
            }
            _ => return,
        };
        io.writes.push(MetaWrite {
            area,
            sector,
            data,
            preflush: disk.md_flushes,
            fua: disk.md_flushes,
        });
    }

    fn page_writes(&mut self, layout: &Layout, pages: Pages) -> Vec<MetaWrite> {
        self.pages_unflushed |= !pages.is_empty();
        pages::writes(layout, pages)
    }

    // ---- what became of I/O --------------------------------------------------------------------------------------

    /// A write or flush of the running operation has ended. Says whether it was the last of its stage; `None` if nothing runs.
    pub(super) fn io_ended(&mut self) -> Option<bool> {
        let running = self.running.as_mut()?;
        running.outstanding -= 1;
        Some(running.outstanding == 0)
    }

    /// Whether what runs is only there to make data durable.
    pub(super) fn flushes_data(&self) -> bool {
        self.running.as_ref().is_some_and(|running| {
            running.kind == MdKind::FlushData || matches!(running.stage, MdStage::AheadOfSuperblock)
        })
    }

    /// The running operation has failed: what would have followed it.
    pub(super) fn fail_running(&mut self) -> Option<Then> {
        self.running.take().map(|running| running.then)
    }

    /// Nothing that is queued will be written: what would have followed.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = Then> + use<> {
        let queue = core::mem::take(&mut self.queue);
        queue.into_iter().map(|operation| operation.then)
    }

    // ---- lazily written marks ------------------------------------------------------------------------------------

    /// Bits were cleared that need not be on disk soon. Says whether they are the first.
    pub(super) fn note_lazy(&mut self) -> bool {
        !core::mem::replace(&mut self.lazy, true)
    }

    pub(super) fn is_lazy(&self) -> bool {
        self.lazy
    }

    // ---- questions -----------------------------------------------------------------------------------------------

    /// How many operations wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether an operation waits that this follows.
    pub(super) fn is_queued(&self, followed: impl Fn(&Then) -> bool) -> bool {
        self.queue.iter().any(|operation| followed(&operation.then))
    }

    /// Whether a superblock is queued or being written.
    pub(super) fn writes_superblock(&self) -> bool {
        let running = self.running.as_ref();
        self.superblock_queued() || running.is_some_and(|running| running.kind.is_superblock())
    }

    /// Whether what the record says now will be written by what is queued or runs.
    pub(super) fn will_write_record(&self) -> bool {
        let is_ahead = |running: &Running| matches!(running.stage, MdStage::AheadOfSuperblock);
        self.superblock_queued() || self.running.as_ref().is_some_and(is_ahead)
    }

    fn superblock_queued(&self) -> bool {
        self.queue
            .iter()
            .any(|operation| operation.kind.is_superblock())
    }

    /// Checks what must always hold between two events, of a disk that has not failed.
    ///
    /// # Panics
    /// If it does not.
    pub(super) fn check(&self) {
        match &self.running {
            Some(running) => assert!(running.outstanding > 0, "{running:?} waits for nothing"),
            None => assert!(
                self.queue.is_empty(),
                "nothing runs, and {:?} wait",
                self.queue
            ),
        }
    }
}

/// A stage is over: the next one, or the end.
fn advance(mut running: Running, disk: &mut Contents<'_>) -> Result<Running, Next> {
    let mut transaction = None;
    let next = match running.stage {
        MdStage::Copies { pages, then, .. } => Some(MdStage::CopiesOut { pages, then }),
        MdStage::CopiesOut {
            then: AfterCopies::ChangedFrom(next),
            ..
        } => {
            let more = disk.bitmap.changed_pages().any(|page| page >= next);
            more.then(|| changed_blocks(disk.bitmap, next))
        }
        MdStage::CopiesOut {
            then: AfterCopies::Transaction(sealed),
            ..
        } => Some(MdStage::Transaction(sealed)),
        MdStage::AheadOfSuperblock if disk.record.is_flush_due() => {
            Some(MdStage::AheadOfSuperblock)
        }
        MdStage::AheadOfSuperblock => Some(MdStage::Last),
        MdStage::All { next } => (next < disk.bitmap.page_count()).then_some(MdStage::All { next }),
        MdStage::Transaction(sealed) => {
            transaction = Some(sealed.tr_number);
            None
        }
        MdStage::Last => {
            if running.kind.is_superblock() {
                disk.record.written();
            }
            None
        }
    };
    let Some(stage) = next else {
        let then = running.then;
        return Err(Next::Done { transaction, then });
    };
    running.stage = stage;
    Ok(running)
}

/// What is written before a transaction is.
fn ahead_of_transaction(disk: &mut Contents<'_>, sealed: SealedTransaction) -> MdStage {
    let planted = disk.facts.planted;
    // The bits of an extent that leaves the log are on disk before the log forgets it (I4).
    let mut pages: Vec<usize> = Vec::new();
    for &extent in &sealed.evicted {
        let page = Bitmap::page_of_extent(extent);
        if page < disk.bitmap.page_count()
            && !planted.has(Bug::EvictWithoutMarks)
            && disk.bitmap.is_dirty(page)
            && !pages.contains(&page)
        {
            pages.push(page);
        }
    }
    // (L15) So is the data written there: the log is all that would have it compared after a power cut.
    let flush = pages.iter().any(|&page| disk.bitmap.is_lazy(page))
        || !sealed.evicted.is_empty() && disk.durability.is_volatile();
    MdStage::Copies {
        flush: flush && !planted.has(Bug::EvictWithoutFlush),
        pages: copies(disk.bitmap, &pages),
        then: AfterCopies::Transaction(sealed),
    }
}

/// The next changed blocks from `from` on. Cleared bits must not reach the disk before the data they speak of is durable
/// (I7): the blocks are copied as they are now, the data disk is flushed if bits of theirs were cleared, and the copies
/// go out.
fn changed_blocks(bitmap: &mut Bitmap, from: usize) -> MdStage {
    let changed = bitmap.changed_pages().filter(|&page| page >= from);
    let pages: Vec<usize> = changed.take(PAGES_PER_BATCH).collect();
    MdStage::Copies {
        flush: pages.iter().any(|&page| bitmap.is_lazy(page)),
        then: AfterCopies::ChangedFrom(pages.last().map_or(from, |last| last + 1)),
        pages: copies(bitmap, &pages),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdb_meta::{AlGeometry, ExtentNr, MetaKind, Superblock};

    use crate::disk::al_gate::{Entry, Writer};

    /// A disk of 1 GiB, and its queue.
    struct Small {
        layout: Layout,
        record: Record,
        bitmap: Bitmap,
        gate: AlGate,
        durability: Durability,
        queue: MdQueue,
    }

    impl Small {
        fn new(slots: u32) -> Small {
            let sectors = 1 << 21;
            let al = AlGeometry::DEFAULT;
            let layout = Layout::compute(MetaKind::Internal, sectors, sectors, al).unwrap();
            Small {
                record: Record::new(Superblock::new(&layout)),
                bitmap: Bitmap::new(layout.usable_sectors, false),
                gate: AlGate::new(layout.al, slots),
                durability: Durability::new(),
                queue: MdQueue::default(),
                layout,
            }
        }

        fn next(&mut self) -> Next {
            self.queue.next(&mut Contents {
                layout: &self.layout,
                record: &mut self.record,
                bitmap: &mut self.bitmap,
                late_marks: &mut LateMarks::default(),
                gate: &mut self.gate,
                durability: &mut self.durability,
                disk_flushes: true,
                md_flushes: true,
                facts: Facts {
                    size: self.layout.usable_sectors,
                    primary: false,
                    planted: Planted::default(),
                },
            })
        }

        /// What is written and flushed until an operation is over, and what follows it.
        fn run(&mut self) -> (Vec<&'static str>, Then) {
            let mut told = Vec::new();
            loop {
                match self.next() {
                    Next::Nothing => panic!("an operation that does not end: {told:?}"),
                    Next::Done { transaction, then } => {
                        if let Some(transaction) = transaction {
                            self.gate.commit(transaction);
                        }
                        return (told, then);
                    }
                    Next::Io(io) => self.end(&io, &mut told),
                }
            }
        }

        /// Every part of this I/O goes well.
        fn end(&mut self, io: &MetaIo, told: &mut Vec<&'static str>) {
            let parts = io.writes.len() + usize::from(io.flush_data);
            for part in 1..=parts {
                assert_eq!(self.queue.io_ended(), Some(part == parts));
            }
            told.extend(io.writes.iter().map(|write| match write.area {
                Area::Superblock => "superblock",
                Area::Bitmap => "bitmap",
                Area::Log if write.preflush => "log behind a flush",
                Area::Log => "log",
            }));
            if io.flush_data {
                self.durability.flushed();
                told.push("flush of the data");
            }
        }
    }

    #[test]
    fn operations_run_one_after_the_other_and_those_that_say_the_same_are_one() {
        let mut disk = Small::new(8);
        disk.queue.push(MdKind::SUPERBLOCK, Then::Nothing);
        disk.queue.push(MdKind::SUPERBLOCK, Then::Nothing);
        disk.queue.push(MdKind::SUPERBLOCK, Then::Attach);
        assert_eq!(disk.queue.len(), 2);
        assert_eq!(disk.run(), (["superblock"].into(), Then::Nothing));
        assert!(!disk.record.is_dirty());
        assert_eq!(disk.run(), (["superblock"].into(), Then::Attach));
        assert!(matches!(disk.next(), Next::Nothing));
    }

    #[test]
    fn an_operation_takes_what_is_in_memory_when_it_starts() {
        let mut disk = Small::new(8);
        disk.queue.push(MdKind::ChangedPages, Then::Nothing);
        disk.bitmap.set_sectors(0, 8);
        assert_eq!(disk.run(), (["bitmap"].into(), Then::Nothing));
        disk.queue.push(MdKind::ChangedPages, Then::Attach);
        assert_eq!(disk.run(), ([].into(), Then::Attach));
    }

    #[test]
    fn cleared_marks_reach_the_disk_behind_the_data_that_they_speak_of() {
        let mut disk = Small::new(8);
        disk.bitmap.set_sectors(0, 8);
        disk.queue.push(MdKind::ChangedPages, Then::Nothing);
        disk.run();
        disk.bitmap.clear_sectors(0, 8);
        disk.queue.push(MdKind::ChangedPages, Then::Nothing);
        let told = ["flush of the data", "bitmap"];
        assert_eq!(disk.run(), (told.into(), Then::Nothing));
    }

    #[test]
    fn a_superblock_that_outranks_the_peers_goes_out_behind_a_flush() {
        let mut disk = Small::new(8);
        disk.queue.push(MdKind::SUPERBLOCK, Then::Nothing);
        disk.record.flush_before();
        let told = ["flush of the data", "superblock"];
        assert_eq!(disk.run(), (told.into(), Then::Nothing));
    }

    #[test]
    fn an_extent_leaves_the_log_behind_its_marks_and_its_data() {
        let mut disk = Small::new(1);
        let waits = Entry::Waits { queue: true };
        let extents = (ExtentNr(0), ExtentNr(0));
        assert_eq!(disk.gate.enter(Writer::Own(0), extents), waits);
        disk.queue.push(MdKind::Transaction, Then::Nothing);
        assert_eq!(disk.run(), (["log"].into(), Then::Nothing));
        disk.bitmap.set_sectors(0, 8);
        assert!(disk.gate.leave(Writer::Own(0)));
        let extents = (ExtentNr(1), ExtentNr(1));
        assert_eq!(disk.gate.enter(Writer::Own(1), extents), waits);
        disk.queue.push(MdKind::Transaction, Then::Nothing);
        let told = ["flush of the data", "bitmap", "log behind a flush"];
        assert_eq!(disk.run(), (told.into(), Then::Nothing));
    }

    #[test]
    fn who_waits_for_what_fails_is_told_once() {
        let mut disk = Small::new(8);
        disk.queue.push(MdKind::SUPERBLOCK, Then::Attach);
        disk.queue.push(MdKind::FlushData, Then::Detached);
        assert!(matches!(disk.next(), Next::Io(_)));
        assert_eq!(disk.queue.io_ended(), Some(true));
        assert_eq!(disk.queue.fail_running(), Some(Then::Attach));
        assert!(disk.queue.give_up().eq([Then::Detached]));
        assert!(matches!(disk.next(), Next::Nothing));
        assert_eq!(disk.queue.io_ended(), None);
    }
}
