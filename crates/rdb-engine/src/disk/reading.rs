//! The metadata of a disk that is being attached, as it is read: superblock, activity log, bitmap.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use rdb_meta::activity_log::{self, Replay};
use rdb_meta::{
    Bitmap, ExtentNr, Layout, LayoutError, Magic, MdFlags, Superblock, SuperblockError,
};

use crate::config::DiskOptions;
use crate::disk::operation::{MdKind, Then, full_sync};
use crate::disk::{Disk, Remembered};
use crate::effect::AdminError;
use crate::event::DiskInfo;
use crate::ids::IoTag;
use crate::rules::remembered::{is_the_same, lacks_resync_end};

/// How far the reading is, and what has been read.
#[derive(Debug)]
pub(crate) struct Reading {
    info: DiskInfo,
    options: DiskOptions,
    step: AttachStep,
    superblock_sector: u64,
    superblock: Option<(Superblock, Layout)>,
    /// Extents to mark, and whether the ring holds updates that must not be replayed again.
    hot: Vec<ExtentNr>,
    ring_in_use: bool,
    /// The size of the device, once it is agreed on, and the bitmap as it was on disk.
    size: u64,
    bitmap: Option<Bitmap>,
    /// The marks on disk are of a resync that is known to have ended with none.
    marks_ended: bool,
    /// The next bitmap page to read.
    page: usize,
    /// The read under way. One of an attach that was given up may still come.
    read: Option<IoTag>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttachStep {
    Superblock,
    Log,
    Bitmap,
}

/// All that was read.
pub(crate) struct Found {
    pub disk: Disk,
    pub size: u64,
    /// Blocks that were marked because the log says that they may differ from the peer's; `None` if the log held no extent.
    pub marked: Option<u64>,
    /// The disk was Primary when it went down, and is not in sync since.
    pub crashed: bool,
    /// It was Primary then without the peer.
    pub was_alone: bool,
    /// The device is larger than at the last attach.
    pub grew: bool,
    pub clean: Clean,
}

/// What has to be put in order.
#[derive(Debug)]
pub(crate) struct Clean {
    /// All blocks are marked.
    full: bool,
    /// The bitmap has another size than on disk.
    resized: bool,
    /// Marks were added or taken away.
    bitmap_changed: bool,
    /// The record says that a Primary wrote here.
    was_primary: bool,
    /// The log holds updates.
    ring_in_use: bool,
}

impl Clean {
    /// Whether all blocks are marked first.
    pub(crate) fn marks_all(&self) -> bool {
        self.full
    }

    /// What is written, so that the metadata is in the order that we want to find it in after a crash.
    pub(crate) fn operations(&self) -> Vec<(MdKind, Then)> {
        let mut kinds = Vec::new();
        if self.full {
            kinds.extend(full_sync(Then::Nothing).map(|(kind, _)| kind));
        } else if self.resized {
            kinds.push(MdKind::setting(MdFlags::FULL_SYNC));
            kinds.push(MdKind::ChangedPages);
            kinds.push(MdKind::clearing(MdFlags::FULL_SYNC));
        } else if self.bitmap_changed {
            // The marks are durable before the log that they come from is emptied (I14), and those of the ended resync are gone
            // before the superblock that takes their name away.
            kinds.push(MdKind::ChangedPages);
        }
        if self.was_primary && self.ring_in_use {
            // The bitmap says it all now. What is left of a log that is torn while it is emptied must not be asked for.
            let (set, clear) = (MdFlags::CRASHED_PRIMARY, MdFlags::PRIMARY_IND);
            kinds.push(MdKind::Superblock { set, clear });
        }
        if self.ring_in_use || self.full || self.resized {
            // Our transactions count from 0 again: older ones must not be taken for newer (I18). On a first attach the
            // kernel's driver writes the ring too.
            kinds.push(MdKind::InitialiseLog);
        }
        let operations = kinds.into_iter().map(|kind| (kind, Then::Nothing));
        let last = (MdKind::SUPERBLOCK, Then::Attach);
        operations.chain([last]).collect()
    }
}

/// Pages read at a time: 1 MiB.
const PAGES_PER_READ: usize = 256;

impl Reading {
    /// # Errors
    /// If the devices have no place for a superblock.
    pub(crate) fn new(info: DiskInfo, options: DiskOptions) -> Result<Reading, LayoutError> {
        let superblock_sector = info.kind.superblock_sector(info.meta_capacity_sectors)?;
        Ok(Reading {
            info,
            options,
            step: AttachStep::Superblock,
            superblock_sector,
            superblock: None,
            hot: Vec::new(),
            ring_in_use: false,
            size: 0,
            bitmap: None,
            marks_ended: false,
            page: 0,
            read: None,
        })
    }

    /// What comes next is being read.
    pub(crate) fn read_begins(&mut self, tag: IoTag) {
        self.read = Some(tag);
    }

    /// A read has ended: what of, if it is not one of an attach that was given up.
    pub(crate) fn read_ended(&mut self, tag: IoTag) -> Option<AttachStep> {
        self.read.take_if(|read| *read == tag).map(|_| self.step)
    }

    /// What is to be read: the first sector and bytes. `None` if all has been read.
    pub(crate) fn next(&self) -> Option<(u64, u32)> {
        let Some((superblock, layout)) = &self.superblock else {
            return Some((self.superblock_sector, 4096));
        };
        if self.step == AttachStep::Log {
            let bytes = u32::try_from(layout.al.blocks() * 4096).expect("32 MiB at most");
            return Some((layout.al_sector, bytes));
        }
        let pages = self.bitmap.as_ref().map_or(0, Bitmap::page_count);
        if superblock.la_size_sectors == 0 || self.page >= pages {
            return None;
        }
        let count = (pages - self.page).min(PAGES_PER_READ);
        let (first, _) = layout.bitmap_page_sectors(self.page);
        let (last, last_sectors) = layout.bitmap_page_sectors(self.page + count - 1);
        let bytes = u32::try_from((last + last_sectors - first) * 512).expect("at most 1 MiB");
        Some((first, bytes))
    }

    /// Rows 2 to 16 of `docs/spec/metadata.md`, section 2.4, for a device that has this size already, or 0. Says whether the
    /// record lacks the end of a resync that this node remembers.
    pub(crate) fn superblock(
        &mut self,
        bytes: &[u8],
        device_size: u64,
        remembered: Option<&Remembered>,
    ) -> Result<bool, AdminError> {
        let info = self.info;
        let refused = |error: SuperblockError| AdminError::refused(119, error.to_string());
        let mut superblock = Superblock::parse(bytes).map_err(refused)?;
        let layout = superblock
            .check(
                info.kind,
                info.data_capacity_sectors,
                info.meta_capacity_sectors,
            )
            .map_err(refused)?;
        let usable = layout.usable_sectors;
        let wanted = self.options.size_sectors;
        if wanted > usable {
            let text = format!("size is {wanted} sectors, the disk has room for {usable}");
            return Err(AdminError::refused(111, text));
        }
        if info.meta_capacity_sectors < rdb_meta::layout::KERNEL_META_SECTORS_MIN {
            let text = format!(
                "the metadata device has {} sectors, 2048 are needed",
                info.meta_capacity_sectors
            );
            return Err(AdminError::refused(112, text));
        }
        if usable < device_size {
            let text =
                format!("the device has {device_size} sectors, the disk has room for {usable}");
            return Err(AdminError::refused(111, text));
        }
        if layout.al.blocks() > rdb_meta::layout::AL_BLOCKS_INTEROPERABLE_MAX {
            let text = "the activity log is larger than 32 MiB";
            return Err(AdminError::refused(119, text));
        }
        if remembered.is_some_and(|r| r.left_to_peer && is_the_same(&superblock, &r.superblock)) {
            superblock.flags.remove(MdFlags::WAS_UP_TO_DATE);
        }
        let completed = remembered.filter(|r| lacks_resync_end(&superblock, &r.superblock));
        if let Some(known) = &completed {
            superblock.uuids = known.superblock.uuids;
            self.marks_ended = known.clean;
        }
        self.superblock = Some((superblock, layout));
        self.step = AttachStep::Log;
        Ok(completed.is_some())
    }

    /// What the log says is hot (`docs/spec/metadata.md`, section 4.10). `forget`: that it was Primary is overlooked by mistake.
    pub(crate) fn log(&mut self, ring: &[u8], forget: bool) -> Result<(), AdminError> {
        let (superblock, layout) = self.superblock.as_ref().expect("read in the step before");
        let was_primary = superblock.flags.contains(MdFlags::PRIMARY_IND) && !forget;
        let disabled = superblock.flags.contains(MdFlags::AL_DISABLED);
        match activity_log::replay(layout.al, ring) {
            Ok(Replay {
                hot, updates_found, ..
            }) => {
                self.ring_in_use = updates_found;
                if was_primary {
                    self.hot = hot.into_iter().collect();
                }
            }
            // Without its log a crashed Primary does not know what may differ from the peer (I15).
            Err(error) if was_primary && !disabled => {
                let text = format!(
                    "the disk was Primary when it went down, and its activity log: {error}"
                );
                return Err(AdminError::refused(165, text));
            }
            Err(_) => self.ring_in_use = true,
        }
        Ok(())
    }

    /// The record, the space there is for data, and the size that is wanted, once the superblock is read.
    pub(crate) fn record(&self) -> (&Superblock, u64, u64) {
        let (superblock, layout) = self.superblock.as_ref().expect("read before");
        (superblock, layout.usable_sectors, self.options.size_sectors)
    }

    /// The disk is to be used, for a device of this size: its bitmap is read.
    pub(crate) fn claim(&mut self, size: u64) {
        let (superblock, usable, _) = self.record();
        let last = superblock.la_size_sectors;
        self.bitmap = Some(Bitmap::new(last.min(usable), last == 0));
        self.size = size;
        self.step = AttachStep::Bitmap;
    }

    pub(crate) fn bitmap(&mut self, bytes: &[u8]) {
        if let Some(bitmap) = &mut self.bitmap {
            for page in bytes.chunks(4096) {
                bitmap.load_page(self.page, page);
                self.page += 1;
            }
        }
    }

    /// All has been read. `forget`: that it was Primary is overlooked by mistake.
    pub(crate) fn found(self, forget: bool) -> Option<Found> {
        let (mut superblock, layout) = self.superblock?;
        let mut bitmap = self.bitmap?;
        let flags = superblock.flags;
        let fresh = superblock.la_size_sectors == 0;
        let was_primary = flags.contains(MdFlags::PRIMARY_IND) && !forget;
        let crashed = flags.contains(MdFlags::CRASHED_PRIMARY) || was_primary;
        if self.marks_ended {
            // Under the name that the record gets they would tell of no difference, and no resync would take them away.
            bitmap.clear_all();
        }
        let mut marked = 0;
        for extent in &self.hot {
            marked += bitmap.set_sectors(extent.first_sector(), rdb_meta::EXTENT_SECTORS);
        }
        let resized = self.size != bitmap.size_sectors();
        if resized {
            bitmap.resize(self.size, true);
        }
        superblock.al_nr_extents = self
            .options
            .al_extents
            .clamp(67, layout.al.slots_max().max(67));
        superblock.magic = Magic::V84Unclean;
        Some(Found {
            size: self.size,
            marked: (!self.hot.is_empty()).then_some(marked),
            crashed,
            was_alone: was_primary && !flags.contains(MdFlags::CONNECTED_IND),
            grew: resized && !fresh && self.size > superblock.la_size_sectors,
            clean: Clean {
                full: flags.contains(MdFlags::FULL_SYNC)
                    || (crashed && flags.contains(MdFlags::AL_DISABLED))
                    || fresh,
                resized,
                bitmap_changed: marked > 0 || self.marks_ended,
                was_primary,
                ring_in_use: self.ring_in_use,
            },
            disk: Disk::new(self.info, self.options, layout, superblock, bitmap),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Clean = Clean {
        full: false,
        resized: false,
        bitmap_changed: false,
        was_primary: false,
        ring_in_use: false,
    };

    fn kinds(clean: &Clean) -> Vec<MdKind> {
        let mut operations = clean.operations();
        assert_eq!(operations.pop(), Some((MdKind::SUPERBLOCK, Then::Attach)));
        operations.into_iter().map(|(kind, _)| kind).collect()
    }

    #[test]
    fn a_disk_in_order_needs_its_superblock_alone() {
        assert_eq!(kinds(&NOTHING), []);
    }

    #[test]
    fn after_a_crash_the_marks_are_durable_before_the_log_is_emptied() {
        let crashed = Clean {
            bitmap_changed: true,
            was_primary: true,
            ring_in_use: true,
            ..NOTHING
        };
        let (set, clear) = (MdFlags::CRASHED_PRIMARY, MdFlags::PRIMARY_IND);
        let expected = [
            MdKind::ChangedPages,
            MdKind::Superblock { set, clear },
            MdKind::InitialiseLog,
        ];
        assert_eq!(kinds(&crashed), expected);
    }

    #[test]
    fn a_bitmap_of_another_size_counts_for_nothing_until_it_is_written() {
        let resized = Clean {
            resized: true,
            bitmap_changed: true,
            ..NOTHING
        };
        let full = MdFlags::FULL_SYNC;
        let order = |pages| {
            [
                MdKind::setting(full),
                pages,
                MdKind::clearing(full),
                MdKind::InitialiseLog,
            ]
        };
        assert_eq!(kinds(&resized), order(MdKind::ChangedPages));
        let fresh = Clean {
            full: true,
            ..resized
        };
        assert_eq!(kinds(&fresh), order(MdKind::SetAllPages));
    }
}
