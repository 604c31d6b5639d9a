//! Where things lie: the tables of docs/spec/metadata.md, sections 1.2 to 1.4.

use rdb_meta::layout::{DEVICE_SECTORS_MAX, INDEXED_DATA_SECTORS_MAX};
use rdb_meta::{AlGeometry, ExtentNr, Layout, LayoutError, MetaKind, Superblock};

const AL: AlGeometry = AlGeometry::DEFAULT;

#[test]
fn internal_layouts_are_those_of_the_worked_examples() {
    // capacity, superblock, activity log, bitmap = usable, bitmap sectors, md_size, bits
    for (cap, sb, al, bm, bm_len, md_size, bits) in [
        (131_072, 131_064, 131_000, 130_992, 8, 80, 16_374),
        (131_075, 131_064, 131_000, 130_992, 8, 80, 16_374),
        (1_048_576, 1_048_568, 1_048_504, 1_048_472, 32, 104, 131_059),
        (2_097_152, 2_097_144, 2_097_080, 2_097_016, 64, 136, 262_127),
        (
            2_147_483_648,
            2_147_483_640,
            2_147_483_576,
            2_147_418_040,
            65_536,
            65_608,
            268_427_255,
        ),
        (
            34_359_738_368,
            34_359_738_360,
            34_359_738_296,
            34_358_689_720,
            1_048_576,
            1_048_648,
            4_294_836_215_u64,
        ),
    ] {
        let layout = Layout::compute(MetaKind::Internal, cap, 0, AL).unwrap();
        assert_eq!(layout.superblock_sector, sb);
        assert_eq!(layout.al_sector, al);
        assert_eq!(layout.bitmap_sector, bm);
        assert_eq!(layout.usable_sectors, bm);
        assert_eq!(layout.bitmap_sectors, bm_len);
        assert_eq!(layout.md_size_sectors, md_size);
        assert_eq!(layout.usable_sectors.div_ceil(8), bits);
        let superblock = Superblock::new(&layout);
        assert_eq!(superblock.al_offset, -64);
        assert_eq!(i64::from(superblock.bm_offset), -64 - bm_len.cast_signed());
        assert_eq!(superblock.check(MetaKind::Internal, cap, 0), Ok(layout));
    }
}

#[test]
fn flexible_devices_of_the_worked_examples_are_just_large_enough() {
    for (data, need) in [
        (131_072, 80),
        (2_097_152, 136),
        (2_147_483_648, 65_608),
        (34_359_738_368, 1_048_648),
    ] {
        let kind = MetaKind::FlexibleExternal;
        let layout = Layout::compute(kind, data, need, AL).unwrap();
        assert_eq!(
            (
                layout.superblock_sector,
                layout.al_sector,
                layout.bitmap_sector
            ),
            (0, 8, 72)
        );
        assert_eq!(layout.usable_sectors, data);
        if need > 80 {
            let less = Layout::compute(kind, data, need - 8, AL).unwrap();
            assert!(less.usable_sectors < data);
        }
    }
    let one_mib = Layout::compute(MetaKind::FlexibleExternal, 1 << 40, 2048, AL).unwrap();
    assert_eq!(one_mib.usable_sectors, 64_749_568);
    assert_eq!(one_mib.md_size_sectors, 2048);
}

#[test]
fn t03_flexible_md_size_is_the_device_odd_or_not() {
    let layout = Layout::compute(MetaKind::FlexibleExternal, 1 << 30, 2051, AL).unwrap();
    assert_eq!(
        (layout.md_size_sectors, layout.bitmap_sectors),
        (2051, 1979)
    );
    let last_page = 1979 / 8;
    assert_eq!(layout.bitmap_page_sectors(last_page), (72 + 1976, 3));
    assert_eq!(layout.bitmap_page_sectors(last_page + 1).1, 0);
    // T3 the other way: the kernel would move this one.
    let superblock = Superblock::new(&layout);
    let checked = superblock
        .check(MetaKind::FlexibleExternal, 1 << 30, 2056)
        .unwrap();
    assert!(checked.moved);
    assert!(
        !superblock
            .check(MetaKind::FlexibleExternal, 1 << 30, 2051)
            .unwrap()
            .moved
    );
}

#[test]
fn indexed_slots_are_128_mib_each() {
    let slot = |index, data, meta| Layout::compute(MetaKind::Indexed(index), data, meta, AL);
    let one = slot(1, 1 << 20, 2 * 262_144).unwrap();
    let bytes = [one.superblock_sector, one.al_sector, one.bitmap_sector].map(|at| at * 512);
    assert_eq!(bytes, [134_217_728, 134_221_824, 134_254_592]);
    assert_eq!(one.bitmap_sectors, 262_072);
    assert_eq!(
        slot(1, 1 << 20, 2 * 262_144 - 1),
        Err(LayoutError::MetaDeviceTooSmall {
            need: 524_288,
            have: 524_287
        })
    );
    // T20
    assert_eq!(
        slot(0, 1 << 35, 262_144).unwrap().usable_sectors,
        INDEXED_DATA_SECTORS_MAX
    );
    let al = AlGeometry {
        stripes: 2,
        stripe_size_4k: 8,
    };
    assert_eq!(
        Layout::compute(MetaKind::Indexed(0), 1 << 20, 262_144, al),
        Err(LayoutError::IndexedAlShape(al))
    );
}

#[test]
fn limits_are_errors() {
    let internal = |cap, al| Layout::compute(MetaKind::Internal, cap, 0, al);
    assert_eq!(internal(0, AL), Err(LayoutError::NoData));
    for cap in 1..=87 {
        assert!(internal(cap, AL).is_err(), "{cap}");
    }
    assert_eq!(internal(88, AL).unwrap().usable_sectors, 8);
    assert!(internal(DEVICE_SECTORS_MAX, AL).is_ok());
    assert!(matches!(
        internal(DEVICE_SECTORS_MAX + 1, AL),
        Err(LayoutError::DeviceTooLarge { .. })
    ));
    let flexible = |meta| Layout::compute(MetaKind::FlexibleExternal, 8, meta, AL);
    assert!(flexible(79).is_err());
    assert!(flexible(u64::from(u32::MAX)).is_ok());
    assert!(flexible(u64::from(u32::MAX) + 1).is_err());
    for (stripes, size, error) in [
        (0, 8, LayoutError::AlTooSmall { blocks: 0 }),
        (1, 7, LayoutError::AlTooSmall { blocks: 7 }),
        (2, 2_097_153, LayoutError::AlTooLarge { blocks: 4_194_306 }),
        (
            u32::MAX,
            u32::MAX,
            LayoutError::AlTooLarge {
                blocks: u64::from(u32::MAX) * u64::from(u32::MAX),
            },
        ),
    ] {
        assert_eq!(
            internal(
                1 << 20,
                AlGeometry {
                    stripes,
                    stripe_size_4k: size
                }
            ),
            Err(error)
        );
    }
}

#[test]
fn ring_positions_are_those_of_the_appendix() {
    let positions = |stripes, stripe_size_4k, count| {
        let ring = AlGeometry {
            stripes,
            stripe_size_4k,
        };
        (0..count)
            .map(move |tr| ring.position(tr))
            .collect::<Vec<_>>()
    };
    assert_eq!(positions(3, 4, 12), [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
    assert_eq!(positions(4, 8, 9), [0, 8, 16, 24, 1, 9, 17, 25, 2]);
    assert_eq!(positions(1, 8, 10), [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]);
}

#[test]
fn slots_are_what_the_ring_can_describe() {
    let slots = |blocks| {
        AlGeometry {
            stripes: 1,
            stripe_size_4k: blocks,
        }
        .slots_max()
    };
    assert_eq!(
        [8, 16, 64, 72, 73, 8192].map(slots),
        [6433, 13_785, 57_897, 65_249, 65_534, 65_534]
    );
}

#[test]
fn kinds_have_the_names_of_the_tool() {
    for (name, kind) in [
        ("internal", MetaKind::Internal),
        ("flex-external", MetaKind::FlexibleExternal),
        ("0", MetaKind::Indexed(0)),
        ("255", MetaKind::Indexed(255)),
    ] {
        assert_eq!(name.parse(), Ok(kind));
        assert_eq!(kind.to_string(), name);
    }
    assert_eq!("flex-internal".parse(), Ok(MetaKind::Internal));
    for bad in ["256", "-1", "", "external", "1x"] {
        assert!(bad.parse::<MetaKind>().is_err(), "{bad}");
    }
}

#[test]
fn i25_the_area_knows_its_ends() {
    let layout = Layout::compute(MetaKind::Internal, 131_072, 0, AL).unwrap();
    assert!(layout.contains(130_992, 80));
    assert!(!layout.contains(130_991, 1));
    assert!(!layout.contains(131_071, 2));
    assert!(!layout.contains(131_071, u64::MAX));
}

#[test]
fn extents_are_4_mib() {
    assert_eq!(ExtentNr::of_sector(16_384), ExtentNr(2));
    assert_eq!(ExtentNr::of_sector(983_040), ExtentNr(120));
    assert_eq!(ExtentNr(120).first_sector(), 983_040);
    assert_eq!(ExtentNr::of_sector(u64::MAX), ExtentNr(u32::MAX - 1));
}
