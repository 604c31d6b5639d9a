//! Any superblock on any device: the first bytes are the devices' sizes, the rest the block. What passes the
//! checks lies inside the device, and encodes to what it was read from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rdb_meta::{MetaKind, Superblock};

fuzz_target!(|data: &[u8]| {
    let Some((sizes, fields)) = data.split_first_chunk::<12>() else { return };
    let data_sectors = u64::from_le_bytes([sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], 0, 0, 0]);
    let meta_sectors = u64::from_le_bytes([sizes[5], sizes[6], sizes[7], sizes[8], 0, 0, 0, 0]);
    let mut block = [0; 4096];
    let len = fields.len().min(block.len());
    block[..len].copy_from_slice(&fields[..len]);
    if sizes[11] & 1 == 0 {
        block[60..64].copy_from_slice(&0x8374_026b_u32.to_be_bytes());
    }
    let _ = Superblock::parse(fields);
    let Ok(superblock) = Superblock::parse(&block) else { return };
    assert_eq!(Superblock::parse(&superblock.to_block()).as_ref(), Ok(&superblock));
    assert_eq!(superblock.to_block()[..48], block[..48]);
    assert_eq!(superblock.to_block()[56..96], block[56..96]);
    for kind in [MetaKind::Internal, MetaKind::FlexibleExternal, MetaKind::Indexed(sizes[10].into())] {
        let Ok(layout) = superblock.check(kind, data_sectors, meta_sectors) else { continue };
        let end = if kind.is_internal() { data_sectors } else { meta_sectors };
        assert!(layout.superblock_sector + 8 <= end);
        assert!(layout.bitmap_sector + layout.bitmap_sectors <= end);
        assert!(layout.al_sector + layout.al.sectors() <= end);
        assert!(layout.usable_sectors <= data_sectors);
    }
});
