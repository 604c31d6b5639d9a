//! The place of a volume's disk, and how far the disk's life is.

use alloc::boxed::Box;

use crate::disk::Disk;
use crate::disk::al_gate::Writer;
use crate::disk::reading::Reading;

/// The disk of a volume, if there is one.
///
/// ```text
///             attach            metadata read            it is in order
///   (None) ─────────► Reading ───────────────► Preparing ───────────────► InUse
///      ▲                 │                         │                        │
///      │    it fails     │                         │ it fails               │ failed, or ordered away, and
///      ├─────────────────┘                         ▼                        ▼ nobody uses it
///      │                                      ┌────────── GivingUp ────────────┐
///      └──────────────────────────────────────┤  over ◄─────── last records    │
///           nothing is under way, or waits    └────────────────────────────────┘
/// ```
#[derive(Default)]
pub(crate) struct DiskSlot {
    life: Life,
    /// Data I/O in flight.
    pending: u32,
    /// I/O that nobody waits for any more and that the disk has not answered.
    abandoned: u32,
}

#[derive(Default)]
enum Life {
    #[default]
    None,
    /// The metadata is being read.
    Reading(Box<Reading>),
    /// The metadata is put into the order that we want to find it in after a crash. With `told` that is done, and we wait for
    /// what the peer makes of a volume without a disk, which it has been told of.
    Preparing { disk: Box<Disk>, told: bool },
    /// What the disk is has been decided, or is negotiated. (That it fails is a matter of its state until nobody uses it.)
    InUse(Box<Disk>),
    /// Its last records are on their way, or over: then it has been closed to everything new.
    GivingUp { disk: Box<Disk>, over: bool },
}

/// What is to be done with a disk that is given up and that nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastRecords {
    /// They are to be written now, as well as the disk takes them.
    Due,
    /// They are being written, or there is no disk.
    UnderWay,
    /// They cannot be written, or have been.
    Over,
}

/// Metadata I/O that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MetaEnded {
    /// It was the last that its operation has waited for.
    pub idle: bool,
    /// It has failed, and that costs the disk.
    pub costs_disk: bool,
}

/// A data I/O that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataIo {
    /// It leaves nothing in the disk's cache.
    Read,
    /// A write, or a flush that a user has asked for.
    Write,
    /// A flush that metadata has waited for.
    FlushForMetadata,
}

impl DiskSlot {
    // ---- questions -----------------------------------------------------------------------------------------------

    /// The disk, once its metadata is read and until it is forgotten.
    pub(crate) fn get(&self) -> Option<&Disk> {
        match &self.life {
            Life::None | Life::Reading(_) => None,
            Life::Preparing { disk, .. } | Life::InUse(disk) | Life::GivingUp { disk, .. } => {
                Some(disk)
            }
        }
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut Disk> {
        match &mut self.life {
            Life::None | Life::Reading(_) => None,
            Life::Preparing { disk, .. } | Life::InUse(disk) | Life::GivingUp { disk, .. } => {
                Some(disk)
            }
        }
    }

    /// The disk, if it is not closed to everything new.
    pub(crate) fn open(&self) -> Option<&Disk> {
        self.get().filter(|_| !self.is_over())
    }

    pub(crate) fn open_mut(&mut self) -> Option<&mut Disk> {
        let over = self.is_over();
        self.get_mut().filter(|_| !over)
    }

    fn is_over(&self) -> bool {
        matches!(self.life, Life::GivingUp { over: true, .. })
    }

    /// There is no disk, nor is one being attached.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.life, Life::None)
    }

    pub(crate) fn is_preparing(&self) -> bool {
        matches!(self.life, Life::Preparing { .. })
    }

    /// Whether an attach waits for the peer, which has been told of a volume without a disk.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self.life, Life::Preparing { told: true, .. })
    }

    pub(crate) fn writes_last_records(&self) -> bool {
        matches!(self.life, Life::GivingUp { over: false, .. })
    }

    /// Whether the record has changed, and nothing that is queued would carry the change to the disk.
    pub(crate) fn is_record_unqueued(&self) -> bool {
        let disk = self.open().filter(|_| !self.is_preparing());
        disk.is_some_and(Disk::is_record_unqueued)
    }

    // ---- its life ------------------------------------------------------------------------------------------------

    /// An attach begins.
    pub(crate) fn read(&mut self, reading: Reading) {
        debug_assert!(self.is_empty(), "there is a disk");
        self.life = Life::Reading(Box::new(reading));
    }

    pub(crate) fn reading_mut(&mut self) -> Option<&mut Reading> {
        match &mut self.life {
            Life::Reading(reading) => Some(reading),
            _ => None,
        }
    }

    /// The reading is over: done, or given up.
    pub(crate) fn end_reading(&mut self) -> Option<Box<Reading>> {
        self.reading_mut()?;
        match core::mem::take(&mut self.life) {
            Life::Reading(reading) => Some(reading),
            _ => None,
        }
    }

    /// The metadata was read: the disk is there.
    pub(crate) fn prepare(&mut self, disk: Disk) {
        let disk = Box::new(disk);
        self.life = Life::Preparing { disk, told: false };
    }

    /// The attach waits for the peer.
    pub(crate) fn wait_for_peer(&mut self) {
        if let Life::Preparing { told, .. } = &mut self.life {
            *told = true;
        }
    }

    /// The metadata is in order.
    pub(crate) fn use_it(&mut self) {
        self.change(Life::InUse);
    }

    /// The disk is given up, and nobody uses it.
    pub(crate) fn give_up(&mut self) -> LastRecords {
        match self.life {
            Life::None | Life::Reading(_) | Life::GivingUp { over: false, .. } => {
                LastRecords::UnderWay
            }
            Life::GivingUp { over: true, .. } => LastRecords::Over,
            Life::Preparing { .. } | Life::InUse(_) => {
                self.change(|disk| Life::GivingUp { disk, over: false });
                LastRecords::Due
            }
        }
    }

    /// Somebody waits for the disk all the same: its last records are to be written once more.
    pub(crate) fn give_up_later(&mut self) {
        if self.writes_last_records() {
            self.change(Life::InUse);
        }
    }

    /// Nothing new goes to the disk: its metadata cannot be written, or it is not worth it. This is the only way there.
    pub(crate) fn close(&mut self) {
        self.change(|disk| Life::GivingUp { disk, over: true });
    }

    /// Forgets the disk.
    pub(crate) fn remove(&mut self) -> Option<Box<Disk>> {
        self.get()?;
        match core::mem::take(&mut self.life) {
            Life::None | Life::Reading(_) => None,
            Life::Preparing { disk, .. } | Life::InUse(disk) | Life::GivingUp { disk, .. } => {
                Some(disk)
            }
        }
    }

    fn change(&mut self, next: impl FnOnce(Box<Disk>) -> Life) {
        if let Some(disk) = self.remove() {
            self.life = next(disk);
        }
    }

    // ---- data I/O ------------------------------------------------------------------------------------------------

    /// How many data I/Os are in flight, and how many of any kind that were given up.
    pub(crate) fn pending(&self) -> u32 {
        self.pending + self.abandoned
    }

    /// One is given up.
    pub(crate) fn abandon_io(&mut self) {
        self.abandoned += 1;
    }

    /// One that was given up has been answered.
    pub(crate) fn abandoned_io_ended(&mut self) {
        self.abandoned = self.abandoned.saturating_sub(1);
    }

    pub(crate) fn io_begins(&mut self) {
        self.pending += 1;
    }

    /// The one place where what became of data I/O is counted.
    pub(crate) fn io_ended(&mut self, io: DataIo, ok: bool) {
        self.pending = self.pending.saturating_sub(1);
        let Some(disk) = self.get_mut() else {
            return;
        };
        match io {
            DataIo::Read => {}
            DataIo::Write => disk.durability.write_ended(),
            DataIo::FlushForMetadata if ok => disk.durability.flushed(),
            DataIo::FlushForMetadata => {}
        }
    }

    // ---- metadata I/O --------------------------------------------------------------------------------------------

    /// A metadata write, or a flush of the data that metadata has waited for, has ended. `None` if nobody waits for it. A disk that
    /// is given up keeps its records as well as it takes them, whatever its data has come to.
    pub(crate) fn metadata_io_ended(&mut self, ok: bool) -> Option<MetaEnded> {
        let (over, gives_up) = (self.is_over(), self.writes_last_records());
        let disk = self.get_mut()?;
        let idle = disk.queue.io_ended()?;
        let best_effort = gives_up && disk.queue.flushes_data();
        Some(MetaEnded {
            idle,
            costs_disk: !ok && !over && !best_effort,
        })
    }

    /// Checks what must always hold between two events.
    ///
    /// # Panics
    /// If it does not.
    pub(crate) fn check(&self, exists: impl Fn(Writer) -> bool) {
        if let Some(disk) = self.get() {
            disk.gate.check(exists);
            disk.durability.check();
            disk.late_marks.check(&disk.bitmap);
        }
        if let Some(disk) = self.open() {
            disk.queue.check();
        }
        assert!(
            !self.is_record_unqueued(),
            "the superblock differs from what is on disk, and nobody writes it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdb_meta::{AlGeometry, Bitmap, Layout, MetaKind, Superblock};

    use crate::config::DiskOptions;
    use crate::disk::operation::{MdKind, Then};
    use crate::disk::queue::{Facts, Next};
    use crate::event::DiskInfo;
    use crate::planted::Planted;

    const SECTORS: u64 = 1 << 21;

    fn info() -> DiskInfo {
        DiskInfo {
            kind: MetaKind::Internal,
            data_capacity_sectors: SECTORS,
            meta_capacity_sectors: SECTORS,
            logical_block_bytes: 512,
            can_discard: false,
        }
    }

    fn disk() -> Disk {
        let layout =
            Layout::compute(MetaKind::Internal, SECTORS, SECTORS, AlGeometry::DEFAULT).unwrap();
        let superblock = Superblock::new(&layout);
        let bitmap = Bitmap::new(layout.usable_sectors, false);
        Disk::new(info(), DiskOptions::default(), layout, superblock, bitmap)
    }

    /// Read and put in order.
    fn in_use() -> DiskSlot {
        let mut slot = DiskSlot::default();
        slot.read(Reading::new(info(), DiskOptions::default()).unwrap());
        assert!(slot.get().is_none() && !slot.is_empty());
        assert!(slot.end_reading().is_some());
        slot.prepare(disk());
        assert!(slot.is_preparing() && slot.open().is_some());
        assert!(!slot.is_record_unqueued(), "an attach writes it by itself");
        slot.use_it();
        slot
    }

    #[test]
    fn a_disk_in_use_writes_what_its_record_says() {
        let mut slot = in_use();
        assert!(slot.is_record_unqueued());
        slot.close();
        assert!(!slot.is_record_unqueued(), "nothing new goes there");
    }

    #[test]
    fn a_disk_that_is_given_up_writes_its_last_records_once() {
        let mut slot = in_use();
        assert_eq!(slot.give_up(), LastRecords::Due);
        assert_eq!(slot.give_up(), LastRecords::UnderWay);
        assert!(slot.open().is_some() && slot.writes_last_records());
        slot.give_up_later();
        assert_eq!(slot.give_up(), LastRecords::Due);
        slot.close();
        assert_eq!(slot.give_up(), LastRecords::Over);
        assert!(slot.remove().is_some());
        assert!(slot.is_empty() && slot.remove().is_none());
        assert_eq!(slot.give_up(), LastRecords::UnderWay);
    }

    #[test]
    fn a_disk_that_is_closed_stays_so() {
        let mut slot = in_use();
        slot.close();
        slot.give_up_later();
        assert!(slot.get().is_some() && slot.open().is_none() && slot.open_mut().is_none());
    }

    #[test]
    fn an_attach_waits_for_the_peer_only_before_the_disk_is_used() {
        let mut slot = in_use();
        slot.wait_for_peer();
        assert!(!slot.is_told());
        slot.prepare(disk());
        slot.wait_for_peer();
        assert!(slot.is_told());
        slot.use_it();
        assert!(!slot.is_told());
    }

    #[test]
    fn last_records_are_kept_though_the_data_before_them_cannot_be_flushed() {
        let facts = Facts {
            size: SECTORS,
            primary: false,
            planted: Planted::default(),
        };
        let begin = |slot: &mut DiskSlot, kind| {
            let disk = slot.get_mut().unwrap();
            disk.queue(kind, Then::Nothing);
            assert!(matches!(disk.next_metadata(facts), Next::Io(_)));
        };
        let ended = |costs_disk| {
            Some(MetaEnded {
                idle: true,
                costs_disk,
            })
        };
        let mut slot = in_use();
        assert_eq!(slot.metadata_io_ended(false), None);
        begin(&mut slot, MdKind::FlushData);
        assert_eq!(slot.metadata_io_ended(false), ended(true));
        slot.get_mut().unwrap().fail_running();
        slot.give_up();
        begin(&mut slot, MdKind::FlushData);
        assert_eq!(slot.metadata_io_ended(false), ended(false));
        slot.get_mut().unwrap().fail_running();
        begin(&mut slot, MdKind::InitialiseLog);
        assert_eq!(slot.metadata_io_ended(false), ended(true));
        slot.close();
        slot.get_mut().unwrap().fail_running();
        assert_eq!(slot.metadata_io_ended(false), None);
    }

    #[test]
    fn a_write_that_ends_is_volatile_until_a_flush_that_began_later_ends_well() {
        let mut slot = in_use();
        slot.io_begins();
        slot.io_ended(DataIo::Write, true);
        assert_eq!(slot.pending(), 0);
        slot.get_mut().unwrap().durability.flush_begins();
        slot.io_begins();
        slot.io_ended(DataIo::FlushForMetadata, false);
        let is_volatile = |slot: &DiskSlot| slot.get().unwrap().durability.is_volatile();
        assert!(is_volatile(&slot));
        slot.io_begins();
        slot.io_ended(DataIo::FlushForMetadata, true);
        assert!(!is_volatile(&slot));
    }
}
