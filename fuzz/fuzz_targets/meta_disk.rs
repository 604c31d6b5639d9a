//! The offline tool on a disk whose metadata area and beginning are anything. No verb panics, and none writes
//! outside the area.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rdb_meta::device::MemDevice;
use rdb_meta::tool::{self, Console, CreateOptions, DumpHeader, Metadata, Question};
use rdb_meta::{Device, DeviceError, MetaKind};

/// Small, but for the slot of an indexed device.
const SECTORS: u64 = 2051;
const SLOT_SECTORS: u64 = 262_144;

struct Yes;

impl Console for Yes {
    fn out(&mut self, _: &str) {}
    fn err(&mut self, _: &str) {}
    fn confirm(&mut self, _: Question) -> bool {
        true
    }
}

/// Panics when data is written to.
struct Guarded {
    disk: MemDevice,
    area: core::ops::Range<u64>,
}

impl Device for Guarded {
    fn size_sectors(&self) -> u64 {
        self.disk.size_sectors()
    }

    fn read_at(&mut self, sector: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        self.disk.read_at(sector, buffer)
    }

    fn write_at(&mut self, sector: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let end = sector + bytes.len() as u64 / 512;
        assert!(self.area.start <= sector && end <= self.area.end, "data written to");
        self.disk.write_at(sector, bytes)
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.disk.flush()
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(([choice, verb], data)) = data.split_first_chunk::<2>() else { return };
    let (kind, sectors) = match choice % 3 {
        0 => (MetaKind::Internal, SECTORS),
        1 => (MetaKind::FlexibleExternal, SECTORS),
        _ => (MetaKind::Indexed(0), SLOT_SECTORS),
    };
    let superblock_sector = kind.superblock_sector(sectors).expect("large enough");
    let mut disk = MemDevice::new(sectors);
    let mut area = 0..sectors;
    let mut pieces = data.chunks(4096);
    let mut write = |sector, bytes: &[u8]| {
        let mut block = vec![0; 4096];
        block[..bytes.len()].copy_from_slice(bytes);
        disk.write_at(sector, &block).expect("inside");
    };
    if choice & 0x40 != 0 {
        write(0, pieces.next().unwrap_or(&[]));
    }
    let mut superblock = pieces.next().unwrap_or(&[]).to_vec();
    superblock.resize(64.max(superblock.len()), 0);
    superblock[60..64].copy_from_slice(&(0x8374_026b_u32 + u32::from(choice >> 7)).to_be_bytes());
    write(superblock_sector, &superblock);
    let after = if kind.is_internal() { superblock_sector - 64 } else { 8 };
    for (at, piece) in (after..).step_by(8).zip(pieces.take(8)) {
        write(at, piece);
    }
    if let Ok(metadata) = Metadata::open(&mut disk, kind) {
        let layout = metadata.layout;
        area = layout.superblock_sector.min(layout.bitmap_sector)
            ..(layout.superblock_sector + 8).max(layout.bitmap_sector + layout.bitmap_sectors);
        let _ = tool::show_gi(&metadata.superblock);
    }
    let mut disk = Guarded { disk, area };
    let header = DumpHeader { date: "", command: "", force: true };
    let yes = &mut Yes;
    let _ = match verb % 7 {
        0 => tool::apply_al(&mut disk, kind, yes),
        1 => tool::dump_md(&mut disk, kind, &header, yes),
        2 => tool::set_gi(&mut disk, kind, "1:2:3:4:1:0", yes),
        3 => tool::outdate(&mut disk, kind, yes),
        4 => tool::invalidate(&mut disk, kind),
        5 => tool::wipe_md(&mut disk, kind, yes),
        // It would zero the slot's 128 MiB at each try.
        _ if sectors == SLOT_SECTORS => return,
        _ => {
            disk.area = 0..sectors;
            tool::create_md(&mut disk, kind, &CreateOptions::default(), yes)
        }
    };
});
