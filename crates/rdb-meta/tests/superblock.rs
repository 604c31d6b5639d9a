//! The superblock's bytes, and everything that may be wrong with them (docs/spec/metadata.md,
//! section 2).

use hex_literal::hex;
use proptest::prelude::*;
use rdb_meta::superblock::PEER_MAX_BIO_SIZE_MIN;
use rdb_meta::{AlGeometry, Layout, Magic, MdFlags, MetaKind, Superblock, SuperblockError};

const CAP: u64 = 131_072;

fn layout(kind: MetaKind) -> Layout {
    Layout::compute(kind, CAP, 600_000, AlGeometry::DEFAULT).unwrap()
}

/// What a kernel attached (appendix C).
fn interop() -> Superblock {
    Superblock {
        la_size_sectors: 131_064,
        uuids: [0x1111_1111_1111_1110, 0x2222_2222_2222_2222, 3, 4],
        device_uuid: 0,
        note: 0,
        flags: MdFlags::CONSISTENT | MdFlags::WAS_UP_TO_DATE | MdFlags::AL_CLEAN,
        magic: Magic::V08,
        md_size_sectors: 2048,
        al_offset: 8,
        al_nr_extents: 67,
        bm_offset: 72,
        bm_bytes_per_bit: 4096,
        la_peer_max_bio_size: 1 << 20,
        al_stripes: 1,
        al_stripe_size_4k: 8,
    }
}

#[test]
fn superblock_golden() {
    // Written by hand from the table of section 2.1.
    let bytes = hex!(
        "000000000001fff8 1111111111111110 2222222222222222 0000000000000003"
        "0000000000000004 0000000000000000 0000000000000000 00000091 8374026b"
        "00000800 00000008 00000043 00000048 00001000 00100000 00000001 00000008"
    );
    let block = interop().to_block();
    assert_eq!(block[..96], bytes);
    assert!(block[96..].iter().all(|byte| *byte == 0));
    assert_eq!(Superblock::parse(&block), Ok(interop()));
    let checked = interop()
        .check(MetaKind::FlexibleExternal, 131_064, 2048)
        .unwrap();
    assert_eq!(checked.usable_sectors, 131_064);
    assert!(!checked.moved);
}

#[test]
fn every_truncated_block_is_an_error() {
    let block = interop().to_block();
    for len in 0..block.len() {
        assert_eq!(
            Superblock::parse(&block[..len]),
            Err(SuperblockError::Short { got: len })
        );
    }
}

#[test]
fn t15_magic_is_looked_at_before_anything_else() {
    let mut block = interop().to_block();
    for (magic, error) in [
        (0x8374_0269_u32, SuperblockError::V06),
        (0x8374_026a, SuperblockError::V07),
        (0x8374_026d, SuperblockError::V09),
        (0x8374_0267, SuperblockError::Magic { found: 0x8374_0267 }),
        (0, SuperblockError::Magic { found: 0 }),
    ] {
        block[60..64].copy_from_slice(&magic.to_be_bytes());
        assert_eq!(Superblock::parse(&block), Err(error));
    }
    // The 0.7 format's magic is elsewhere.
    block[28..32].copy_from_slice(&0x8374_026a_u32.to_be_bytes());
    assert_eq!(Superblock::parse(&block), Err(SuperblockError::V07));
    let text = Superblock::parse(&[0; 4096]).unwrap_err().to_string();
    assert_eq!(text, "Meta data magic not found: 0x00000000");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn fields_that_contradict_are_errors_of_their_row() {
    type Change = fn(&mut Superblock);
    let check = |kind, change: Change| {
        let mut superblock = Superblock::new(&layout(kind));
        change(&mut superblock);
        superblock
            .check(kind, CAP, 600_000)
            .map_err(|error| error.to_string())
    };
    use MetaKind::{FlexibleExternal, Indexed, Internal};
    let cases: [(&str, MetaKind, Change, &str); 17] = [
        (
            "row 5",
            Internal,
            |s| s.bm_bytes_per_bit = 512,
            "unexpected bm_bytes_per_bit: 512",
        ),
        (
            "row 6",
            Internal,
            |s| s.al_stripes = 0,
            "invalid activity log striping: al_stripes=0",
        ),
        (
            "row 6",
            Internal,
            |s| s.al_stripe_size_4k = 7,
            "invalid activity log striping",
        ),
        (
            "row 6",
            Internal,
            |s| s.al_stripes = 4_194_304,
            "invalid activity log striping",
        ),
        (
            "row 7",
            Internal,
            |s| s.al_offset = 8,
            "meta data offsets don't make sense",
        ),
        (
            "row 7",
            Internal,
            |s| s.bm_offset = -64,
            "meta data offsets don't make sense",
        ),
        (
            "row 7",
            Internal,
            |s| s.bm_offset = 0,
            "meta data offsets don't make sense",
        ),
        (
            "row 7",
            FlexibleExternal,
            |s| s.al_offset = 16,
            "meta data offsets don't make sense",
        ),
        (
            "row 7",
            FlexibleExternal,
            |s| s.bm_offset = 80,
            "meta data offsets don't make sense",
        ),
        (
            "row 8",
            Indexed(1),
            |s| s.md_size_sectors = 262_136,
            "meta data offsets don't make",
        ),
        (
            "row 8",
            Indexed(1),
            |s| s.al_stripes = 2,
            "meta data offsets don't make sense",
        ),
        (
            "row 9",
            FlexibleExternal,
            |s| s.md_size_sectors = 600_001,
            "meta data offsets don't",
        ),
        (
            "row 9",
            Internal,
            |s| s.bm_offset = -131_072,
            "meta data offsets don't make sense",
        ),
        (
            "row 9",
            Internal,
            |s| s.bm_offset = i32::MIN,
            "meta data offsets don't make sense",
        ),
        (
            "row 10",
            Internal,
            |s| s.bm_offset = -73,
            "meta data offsets don't make sense",
        ),
        (
            "row 10",
            Internal,
            |s| s.al_stripes = 2,
            "meta data offsets don't make sense",
        ),
        (
            "row 11",
            Internal,
            |s| s.la_size_sectors = 1 << 30,
            "bitmap of 8 sectors is too small",
        ),
    ];
    for (row, kind, change, text) in cases {
        let error = check(kind, change).unwrap_err();
        assert!(error.starts_with(text), "{row}: {error}");
    }
}

#[test]
fn legacy_superblocks_without_stripes_have_1_x_8() {
    let mut superblock = Superblock::new(&layout(MetaKind::Internal));
    (superblock.al_stripes, superblock.al_stripe_size_4k) = (0, 0);
    assert_eq!(superblock.al_geometry(), Ok(AlGeometry::DEFAULT));
    assert!(superblock.check(MetaKind::Internal, CAP, 0).is_ok());
}

#[test]
fn unknown_flags_are_preserved() {
    let mut block = interop().to_block();
    block[56] = 0x80;
    let mut superblock = Superblock::parse(&block).unwrap();
    superblock.flags.remove(MdFlags::AL_CLEAN);
    superblock.flags &= !MdFlags::WAS_UP_TO_DATE;
    superblock.flags |= MdFlags::FULL_SYNC;
    assert_eq!(superblock.to_block()[56..60], [0x80, 0, 0, 0x09]);
}

#[test]
fn t13_reserved_bytes_are_written_as_zero() {
    let mut block = interop().to_block();
    block[96..].fill(0xaa);
    let written = Superblock::parse(&block).unwrap().to_block();
    assert_eq!(written[48..56], [0; 8]);
    assert!(written[96..].iter().all(|byte| *byte == 0));
}

#[test]
fn the_note_is_read_and_written_in_reserved_bytes() {
    let mut block = interop().to_block();
    block[48..56].copy_from_slice(&hex!("8877665544332211"));
    let superblock = Superblock::parse(&block).unwrap();
    assert_eq!(superblock.note, 0x8877_6655_4433_2211);
    assert_eq!(superblock.to_block(), block);
}

#[test]
fn clean_is_v08_with_al_clean_and_nothing_else() {
    let mut superblock = interop();
    assert!(!superblock.needs_apply_al());
    superblock.magic = Magic::V84Unclean;
    assert!(superblock.needs_apply_al());
    superblock.magic = Magic::V08;
    superblock.flags.remove(MdFlags::AL_CLEAN);
    assert!(superblock.needs_apply_al());
}

#[test]
fn small_peer_requests_are_read_as_4096() {
    let mut superblock = interop();
    superblock.la_peer_max_bio_size = 0;
    assert_eq!(superblock.peer_max_bio_size(), PEER_MAX_BIO_SIZE_MIN);
    superblock.la_peer_max_bio_size = 1 << 20;
    assert_eq!(superblock.peer_max_bio_size(), 1 << 20);
}

#[test]
fn t09_bit_0_of_the_current_uuid_is_kept_and_means_nothing() {
    let mut superblock = interop();
    superblock.uuids[0] |= 1;
    let read = Superblock::parse(&superblock.to_block()).unwrap();
    assert_eq!(read.uuids[0] & 1, 1);
    assert!(!read.flags.contains(MdFlags::PRIMARY_IND));
}

proptest! {
    #[test]
    fn no_block_makes_parse_or_check_panic_and_what_passes_is_inside_the_device(
        bytes in proptest::collection::vec(any::<u8>(), 96),
        keep in proptest::collection::vec(any::<bool>(), 12),
        data in 0..1_u64 << 42,
        meta in 0..1_u64 << 33,
    ) {
        // Some fields stay those of a good block, so that each check is got to.
        let mut block = Superblock::new(&layout(MetaKind::FlexibleExternal)).to_block();
        let fields = [0..40, 40..56, 56..60, 64..68, 68..72, 72..76, 76..80, 80..84, 84..88,
            88..92, 92..96, 0..1];
        for (field, keep) in fields.into_iter().zip(keep) {
            if !keep {
                block[field.clone()].copy_from_slice(&bytes[field]);
            }
        }
        let superblock = Superblock::parse(&block).unwrap();
        for kind in [MetaKind::Internal, MetaKind::FlexibleExternal, MetaKind::Indexed(3)] {
            if let Ok(layout) = superblock.check(kind, data, meta) {
                let end = if kind == MetaKind::Internal { data } else { meta };
                prop_assert!(layout.superblock_sector + 8 <= end);
                prop_assert!(layout.bitmap_sector + layout.bitmap_sectors <= end);
                prop_assert!(layout.usable_sectors <= data);
                if kind == MetaKind::Internal {
                    prop_assert!(layout.usable_sectors <= layout.bitmap_sector);
                }
            }
        }
    }
}
