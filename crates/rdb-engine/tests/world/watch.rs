//! Looking over the engine's shoulder: what it asks for and hears, line by line, and what would be left of its disk if the
//! power went at that moment.

use std::collections::BTreeSet;

use rdb_meta::{Bitmap, ExtentNr, MdFlags, Superblock, activity_log};

use super::{Node, World, layout_of};

impl Node {
    /// The superblock that survives.
    pub fn durable_superblock(&self) -> Superblock {
        let disk = &self.disks[0];
        let sector = layout_of(disk.sectors).superblock_sector;
        Superblock::parse(&disk.durable(sector, 4096)).expect("a superblock")
    }

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
    pub fn sector_of(line: &str) -> u64 {
        let numbers = line.rsplit(' ').next().unwrap();
        numbers.split('+').next().unwrap().parse().unwrap()
    }
}

/// Is this line a write of the application or the resync, on its way to the disk or to the peer?
pub fn is_data(line: &str) -> bool {
    [
        "write ",
        "zero ",
        "send P_DATA ",
        "send P_TRIM",
        "send P_ZEROES",
    ]
    .iter()
    .any(|what| line.starts_with(what))
}

impl World {
    /// Lets things happen until `done`, and shows `look` each line of node `i`'s record when it has just been written.
    pub fn watch(
        &mut self,
        i: usize,
        mut done: impl FnMut(&World) -> bool,
        mut look: impl FnMut(&World, &str),
    ) {
        for _ in 0..2_000_000 {
            let lines = self.nodes[i].record.replace(Vec::new()).unwrap_or_default();
            for line in lines {
                look(self, &line);
            }
            if done(self) {
                self.nodes[i].record = None;
                return;
            }
            assert!(self.tick(), "nothing happens any more: {}", self.states());
        }
        panic!("watched too long: {}", self.states());
    }

    /// As [`World::watch`], until requests and commands of node `i` are answered and nothing is under way there.
    pub fn watch_quiet(&mut self, i: usize, look: impl FnMut(&World, &str)) {
        let idle = |w: &World| {
            let node = &w.nodes[i];
            node.requests_open.is_empty() && node.admin_open.is_empty() && node.pending.is_empty()
        };
        self.watch(i, idle, look);
    }
}
