//! What would be left of a node's disk if the power went now.

use std::collections::BTreeSet;

use rdb_meta::{Bitmap, ExtentNr, MdFlags, Superblock, activity_log};

use crate::node::{Node, layout_of};

impl Node {
    /// The superblock that survives.
    ///
    /// # Panics
    /// If none does.
    pub fn durable_superblock(&self) -> Superblock {
        let disk = &self.disks[0];
        let sector = layout_of(disk.sectors).superblock_sector;
        Superblock::parse(&disk.durable(sector, 4096)).expect("a superblock")
    }

    /// Its flags.
    pub fn durable_flags(&self) -> MdFlags {
        self.durable_superblock().flags
    }

    /// Generations that survive; bit 0 is left out.
    pub fn durable_gi(&self) -> [u64; 4] {
        self.durable_superblock().uuids.map(|id| id & !1)
    }

    /// The bits that survive, as they lie on the disk.
    pub fn durable_bits(&self) -> Bitmap {
        let disk = &self.disks[0];
        let layout = layout_of(disk.sectors);
        let mut bits = Bitmap::new(self.durable_superblock().la_size_sectors, false);
        for page in 0..bits.page_count() {
            let (sector, sectors) = layout.bitmap_page_sectors(page);
            bits.load_page(page, &disk.durable(sector, sectors as usize * 512));
        }
        bits
    }

    /// The extents that a replay of what survives finds.
    ///
    /// # Panics
    /// If the ring cannot be read.
    pub fn durable_hot(&self) -> BTreeSet<ExtentNr> {
        let disk = &self.disks[0];
        let layout = layout_of(disk.sectors);
        let ring = disk.durable(layout.al_sector, layout.al.blocks() as usize * 4096);
        activity_log::replay(layout.al, &ring)
            .expect("a ring that can be read")
            .hot
    }

    /// After a power cut now, would this block be synced again?
    pub fn would_sync(&self, sector: u64) -> bool {
        let flags = self.durable_flags();
        flags.contains(MdFlags::FULL_SYNC)
            || self.durable_bits().any_set(sector, 8)
            || flags.contains(MdFlags::PRIMARY_IND)
                && self.durable_hot().contains(&ExtentNr::of_sector(sector))
    }

    /// The sector that a line of the record is about.
    ///
    /// # Panics
    /// If it is about none.
    pub fn sector_of(line: &str) -> u64 {
        let (_, numbers) = line.rsplit_once(' ').expect("a line of several words");
        let sector = numbers.split('+').next().map(str::parse);
        sector.and_then(Result::ok).expect("a sector")
    }
}
