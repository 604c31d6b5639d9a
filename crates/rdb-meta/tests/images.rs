//! Disks written by the kernel's driver and by `drbdmeta` 9.22, and what `drbdmeta` says of them.

mod common;

use common::{IMAGES, Recorder, Script, image, read_block};
use rdb_meta::activity_log::{Transaction, replay};
use rdb_meta::tool::{self, DumpHeader, Metadata, ToolError};
use rdb_meta::{Bitmap, Device, ExtentNr, Magic, MdFlags, MetaKind, SECTOR_BYTES, Superblock};

const DUMP: DumpHeader<'_> = DumpHeader {
    date: "2026-11-21 01:20:34 +0000 [1795224034]",
    command: "nodea> drbdmeta 0 v08 /dev/vdb internal dump-md",
    force: true,
};

/// What `drbdmeta` said: the dump, and the generation identifiers.
fn said(name: &str) -> (String, String) {
    let path = format!("{}/tests/images/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let dump = text.find("# DRBD meta data dump").expect("a dump");
    let gi = text
        .find("# drbdmeta get-gi\n")
        .expect("generation identifiers");
    (
        text[dump..gi].into(),
        text[gi..].lines().nth(1).unwrap().into(),
    )
}

fn bitmap(device: &mut dyn Device, metadata: &Metadata) -> Bitmap {
    let mut bitmap = Bitmap::new(metadata.superblock.la_size_sectors, false);
    for page in 0..bitmap.page_count() {
        let (sector, sectors) = metadata.layout.bitmap_page_sectors(page);
        let mut bytes = vec![0; sectors as usize * SECTOR_BYTES];
        device.read_at(sector, &mut bytes).unwrap();
        bitmap.load_page(page, &bytes);
    }
    bitmap
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one row an image")]
fn superblocks_hold_the_listed_fields_and_encode_to_the_same_bytes() {
    let m = Magic::V84Unclean;
    let synced = [0xD6C4_16B8_323F_7B6C, 0, 0x41CD_5117_A0B0_25DA, 4];
    let peer = [
        0xD6C4_16B8_323F_7B6C,
        0,
        0xB7CC_3969_05B0_0C84,
        0x41CD_5117_A0B0_25DA,
    ];
    let written = |current| {
        [
            current,
            0xD6C4_16B8_323F_7B6D,
            0xB7CC_3969_05B0_0C84,
            0x41CD_5117_A0B0_25DA,
        ]
    };
    let down = |younger| [0x9BFA_257B_B3B1_0686, 0, younger, 0xD6C4_16B8_323F_7B6D];
    let fresh = [4, 0, 0, 0];
    let rows = [
        ("a1-fresh", 0, fresh, 0x80, Magic::V08, 257, 0),
        ("a2-first-attach", 130_992, fresh, 0x20, m, 1237, 16_374),
        ("a3-synced-peer", 130_992, synced, 0x11, m, 1237, 0),
        ("a3-synced", 130_992, synced, 0x11, m, 1237, 0),
        ("b1-crashed-primary", 130_992, synced, 0x17, m, 1237, 0),
        ("b1-survivor", 130_992, synced, 0x11, m, 1237, 0),
        (
            "b2-crashed-apply-al",
            130_992,
            synced,
            0x97,
            Magic::V08,
            1237,
            7168,
        ),
        ("b3-crashed-attached", 130_992, synced, 0x51, m, 1237, 7168),
        (
            "c1-disconnected-written",
            130_992,
            written(0x9BFA_257B_B3B1_0687),
            0x11,
            m,
            1237,
            10,
        ),
        ("c1-peer", 130_992, peer, 0x11, m, 1237, 0),
        ("c2-outdated", 130_992, peer, 0x01, m, 1237, 0),
        (
            "c3-disconnected-crashed",
            130_992,
            written(0x9BFA_257B_B3B1_0686),
            0x13,
            m,
            1237,
            10,
        ),
        (
            "d1-clean-down-peer",
            130_992,
            down(0xD6C5_16B8_323F_7B6C),
            0x11,
            m,
            1237,
            0,
        ),
        (
            "d1-clean-down",
            130_992,
            down(0xD6C5_16B8_323F_7B6D),
            0x11,
            m,
            1237,
            0,
        ),
        (
            "d2-clean-apply-al",
            130_992,
            down(0xD6C5_16B8_323F_7B6D),
            0x91,
            Magic::V08,
            1237,
            0,
        ),
    ];
    assert_eq!(rows.len(), IMAGES.len());
    for (name, la_size, uuids, flags, magic, slots, bits) in rows {
        let mut device = image(name);
        let metadata = Metadata::open(&mut device, MetaKind::Internal).unwrap();
        let Metadata { layout, superblock } = &metadata;
        assert_eq!(layout.superblock_sector, 131_064, "{name}");
        assert_eq!(layout.usable_sectors, 130_992, "{name}");
        assert_eq!(superblock.la_size_sectors, la_size, "{name}");
        assert_eq!(superblock.uuids, uuids, "{name}");
        assert_eq!(superblock.flags, MdFlags::from_bits_retain(flags), "{name}");
        assert_eq!(superblock.magic, magic, "{name}");
        assert_eq!(superblock.al_nr_extents, slots, "{name}");
        assert_eq!(bitmap(&mut device, &metadata).count_set(), bits, "{name}");
        let block = read_block(&mut device, layout.superblock_sector);
        assert_eq!(superblock.to_block()[..], block[..], "{name}");
    }
}

#[test]
fn dump_and_get_gi_are_what_drbdmeta_says() {
    for name in IMAGES {
        let (dump, gi) = said(name);
        let mut device = image(name);
        let superblock = Metadata::open(&mut device, MetaKind::Internal)
            .unwrap()
            .superblock;
        assert_eq!(tool::get_gi(&superblock), gi, "{name}");

        // The header's date and command differ from image to image, and drbdmeta 9.22 prints no
        // flags (section 8.2).
        let lines: Vec<&str> = dump.lines().collect();
        let header = DumpHeader {
            date: &lines[1][2..],
            command: &lines[2][2..],
            force: true,
        };
        let mut console = Script::yes();
        tool::dump_md(&mut device, MetaKind::Internal, &header, &mut console).unwrap();
        let flags = format!("flags 0x{:08X};", superblock.flags.bits());
        assert!(console.out.contains(&flags), "{name}");
        assert_eq!(
            console.out.replace(&flags, "flags 0x00000000;"),
            dump,
            "{name}"
        );
    }
}

#[test]
fn unclean_images_are_dumped_by_force_only() {
    for name in IMAGES {
        let mut device = image(name);
        let header = DumpHeader {
            force: false,
            ..DUMP
        };
        let superblock = Metadata::open(&mut device, MetaKind::Internal)
            .unwrap()
            .superblock;
        let result = tool::dump_md(&mut device, MetaKind::Internal, &header, &mut Script::yes());
        let unclean = superblock.magic == Magic::V84Unclean;
        assert_eq!(
            result.is_err_and(|error| error == ToolError::Unclean),
            unclean,
            "{name}"
        );
    }
}

#[test]
fn activity_log_blocks_encode_to_the_same_bytes() {
    for name in IMAGES {
        let mut device = image(name);
        let layout = Metadata::open(&mut device, MetaKind::Internal)
            .unwrap()
            .layout;
        for ring_block in 0..8 {
            let block = read_block(&mut device, layout.al_block_sector(ring_block));
            let transaction = Transaction::parse(&block).unwrap();
            assert_eq!(
                transaction.encode()[..],
                block[..],
                "{name}, block {ring_block}"
            );
        }
    }
}

#[test]
fn t10_apply_al_gives_the_same_disk_as_drbdmeta_and_keeps_primary_ind() {
    for (before, after) in [
        ("b1-crashed-primary", "b2-crashed-apply-al"),
        ("d1-clean-down", "d2-clean-apply-al"),
    ] {
        let (mut ours, mut theirs) = (image(before), image(after));
        let mut console = Script::yes();
        tool::apply_al(&mut ours, MetaKind::Internal, &mut console).unwrap();
        for sector in (130_992..131_072).step_by(8) {
            assert_eq!(
                read_block(&mut ours, sector),
                read_block(&mut theirs, sector),
                "{before}, sector {sector}"
            );
        }
        let marked = "Marked additional 28 MB as out-of-sync based on AL.\n";
        assert_eq!(
            console.err,
            if before.starts_with('b') { marked } else { "" }
        );
    }
}

#[test]
fn crashed_primarys_log_names_the_seven_extents_it_wrote_to() {
    let mut device = image("b1-crashed-primary");
    let layout = Metadata::open(&mut device, MetaKind::Internal)
        .unwrap()
        .layout;
    let mut ring = vec![0; 32_768];
    device.read_at(layout.al_sector, &mut ring).unwrap();
    let replayed = replay(layout.al, &ring).unwrap();
    let hot: Vec<u32> = replayed.hot.iter().map(|extent| extent.0).collect();
    assert_eq!(hot, [0, 1, 2, 4, 8, 12, 14]);
}

#[test]
fn written_blocks_are_the_bits_set() {
    let mut device = image("c1-disconnected-written");
    let metadata = Metadata::open(&mut device, MetaKind::Internal).unwrap();
    let set: Vec<u64> = bitmap(&mut device, &metadata).iter().collect();
    assert_eq!(set, [3, 4, 5, 1030, 2055, 4100, 8200, 8201, 12_300, 15_000]);

    // The crashed one wrote block 6000 too; only the log knows (section 5.3).
    let mut device = image("c3-disconnected-crashed");
    tool::apply_al(&mut device, MetaKind::Internal, &mut Script::yes()).unwrap();
    let metadata = Metadata::open(&mut device, MetaKind::Internal).unwrap();
    let bitmap = bitmap(&mut device, &metadata);
    assert!(bitmap.test_bit(6000));
    assert!(bitmap.any_set(ExtentNr(5).first_sector(), 8192));
}

#[test]
fn t05_unclean_is_no_sign_of_a_crash() {
    let mut device = image("d1-clean-down");
    let superblock = Metadata::open(&mut device, MetaKind::Internal)
        .unwrap()
        .superblock;
    assert!(superblock.needs_apply_al());
    assert!(!superblock.flags.contains(MdFlags::PRIMARY_IND));
}

#[test]
fn t14_old_superblock_inside_the_data_is_not_looked_for() {
    // The 64 MiB image's superblock, on a disk that has grown to 200 MiB.
    let mut small = image("d1-clean-down");
    let block = read_block(&mut small, 131_064);
    let mut grown = rdb_meta::device::MemDevice::new(409_600);
    grown.write_at(131_064, &block).unwrap();
    assert!(Superblock::parse(&block).is_ok());
    let found = Metadata::open(&mut grown, MetaKind::Internal);
    assert!(matches!(found, Err(ToolError::NoMetadata(_))));
}

/// The marks of a disk, and its hot extents, are what `apply-al` makes of it; and looking changes nothing.
#[test]
fn what_is_marked_on_a_disk_is_what_would_be_synced() {
    let (mut marked, mut crashed) = (0, 0);
    for name in IMAGES {
        let mut device = Recorder::new(image(name));
        let metadata = Metadata::open(&mut device, MetaKind::Internal).unwrap();
        let blocks = metadata.superblock.la_size_sectors;
        let mut found = Bitmap::new(blocks, false);
        let mut on_word = |first: u64, word: u64| {
            assert!(word != 0 && first.is_multiple_of(64));
            found.or_words((first / 64) as usize, &[word]);
        };
        let marks = tool::read_marks(&mut device, MetaKind::Internal, &mut on_word).unwrap();
        assert_eq!(device.writes().count(), 0, "{name}");
        assert_eq!(marks.superblock, metadata.superblock);
        assert_eq!(marks.size_sectors, metadata.superblock.la_size_sectors);
        assert_eq!(marks.log_error, None);
        let on_disk = bitmap(&mut device, &metadata);
        assert_eq!(found.words(), on_disk.words(), "{name}");
        marked += found.count_set();
        let is_primary = marks.superblock.flags.contains(MdFlags::PRIMARY_IND);
        assert!(is_primary || marks.hot.is_empty(), "{name}");
        crashed += marks.hot.len();
        for extent in &marks.hot {
            found.set_run(u64::from(extent.0) * 1024, 1024);
        }
        tool::apply_al(&mut device, MetaKind::Internal, &mut Script::yes()).unwrap();
        let applied = bitmap(&mut device, &metadata);
        assert_eq!(found.words(), applied.words(), "{name}");
    }
    assert!(
        marked > 0 && crashed > 0,
        "{marked} marks, {crashed} extents"
    );
}
