//! `create-md` and `check-resize`: making metadata, and moving it.

mod common;

use common::{
    KINDS, MIB, Recorder, Script, bits_set, crashed, created, read_block, ring, ring_of, superblock,
};
use rdb_meta::activity_log::{Transaction, initialised_ring, replay};
use rdb_meta::device::MemDevice;
use rdb_meta::tool::{self, CreateOptions, Exit, LastKnown, Metadata, Question, ToolError};
use rdb_meta::{AlGeometry, Device, ExtentNr, Layout, MdFlags, MetaKind};

#[test]
fn create_md_writes_what_the_specification_shows() {
    let mut device = created(MetaKind::Internal, 64 * MIB);
    let block = read_block(&mut device, 131_064);
    let mut wanted = vec![0; 4096];
    wanted[15] = 4;
    wanted[0x3b..0x40].copy_from_slice(&[0x80, 0x83, 0x74, 0x02, 0x6b]);
    wanted[0x40..0x50].copy_from_slice(&[
        0, 0, 0, 0x50, 0xff, 0xff, 0xff, 0xc0, 0, 0, 1, 1, 0xff, 0xff, 0xff, 0xb8,
    ]);
    wanted[0x52] = 0x10;
    wanted[0x5b] = 1;
    wanted[0x5f] = 8;
    assert_eq!(block, wanted);
}

#[test]
fn create_md_leaves_a_zero_bitmap_on_a_used_device() {
    for kind in KINDS {
        let mut device = MemDevice::new(300 * MIB);
        let layout = Layout::compute(kind, 300 * MIB, 300 * MIB, AlGeometry::DEFAULT).unwrap();
        let last = layout.bitmap_sector + layout.bitmap_sectors - 1;
        for sector in [layout.bitmap_sector, last, layout.al_sector + 9] {
            device.write_at(sector, &[0x5a; 512]).unwrap();
        }
        tool::create_md(
            &mut device,
            kind,
            &CreateOptions::default(),
            &mut Script::yes(),
        )
        .unwrap();
        assert_eq!(bits_set(&mut device, kind), 0, "{kind}");
        assert_eq!(
            ring(&mut device, &layout),
            initialised_ring(layout.al),
            "{kind}"
        );
    }
}

#[test]
fn create_md_asks_before_it_overwrites_and_a_no_changes_nothing() {
    for kind in KINDS {
        let mut device = Recorder::new(created(kind, 300 * MIB));
        let question = if kind.is_internal() {
            Question::OverwriteInternal
        } else {
            Question::OverwriteExternal
        };
        let mut console = Script::answers(&[false]);
        let exit = tool::create_md(&mut device, kind, &CreateOptions::default(), &mut console);
        assert_eq!(exit, Ok(Exit::Failed));
        assert_eq!(console.asked, [question]);
        assert_eq!(console.out, "Operation cancelled.\n");
        assert_eq!(device.ops.len(), 0);
    }
}

#[test]
fn t17_other_stripes_over_existing_metadata_are_refused_with_30() {
    let mut device = Recorder::new(created(MetaKind::Internal, 64 * MIB));
    let al = AlGeometry {
        stripes: 2,
        stripe_size_4k: 8,
    };
    let options = CreateOptions {
        al,
        ..CreateOptions::default()
    };
    let mut console = Script::yes();
    let exit = tool::create_md(&mut device, MetaKind::Internal, &options, &mut console);
    assert_eq!(exit, Ok(Exit::Unsupported));
    assert_eq!(console.asked, [Question::StripesOnly]);
    assert_eq!(device.ops.len(), 0);
}

#[test]
fn create_md_refuses_what_is_too_small_or_out_of_range() {
    let options = CreateOptions {
        device: "/dev/x",
        ..CreateOptions::default()
    };
    let attempt = |sectors, kind, options: &CreateOptions<'_>| {
        let error = tool::create_md(
            &mut MemDevice::new(sectors),
            kind,
            options,
            &mut Script::yes(),
        );
        let error = error.unwrap_err();
        assert_eq!(error.exit().code(), 10);
        error.to_string()
    };
    assert_eq!(
        attempt(128, MetaKind::Internal, &options),
        "/dev/x is only 65536 bytes. That's not enough."
    );
    assert_eq!(
        attempt(64 * MIB, MetaKind::Indexed(5), &options),
        "Device too small: expecting meta data block at\n\
         byte offset 671088640, but /dev/x is only 67108864 bytes."
    );
    let small = AlGeometry {
        stripes: 1,
        stripe_size_4k: 7,
    };
    assert_eq!(
        attempt(
            64 * MIB,
            MetaKind::Internal,
            &CreateOptions {
                al: small,
                ..options
            }
        ),
        "invalid (too small) al-stripe* settings"
    );
    let large = AlGeometry {
        stripes: 1024,
        stripe_size_4k: 9,
    };
    assert_eq!(
        attempt(
            64 * MIB,
            MetaKind::Internal,
            &CreateOptions {
                al: large,
                ..options
            }
        ),
        "invalid (too large) al-stripe* settings"
    );
    assert_eq!(
        attempt(
            64 * MIB,
            MetaKind::Internal,
            &CreateOptions {
                peer_max_bio_size: (1 << 20) + 1,
                ..options
            }
        ),
        "peer-max-bio-size out of range (0...1M)"
    );
    // T30: the tool formats what the kernel's driver does not attach.
    created(MetaKind::Internal, 136);
    assert!(136 < MetaKind::Internal.meta_device_sectors_min());
    // T20: a slot takes no other activity log.
    let al = AlGeometry {
        stripes: 2,
        stripe_size_4k: 8,
    };
    attempt(
        300 * MIB,
        MetaKind::Indexed(0),
        &CreateOptions { al, ..options },
    );
}

#[test]
fn file_systems_larger_than_the_space_left_are_never_overwritten() {
    // Blocks of 4 KiB: ext with and without a journal and beyond 32 bits, XFS, JFS, ReiserFS.
    let mut heads = Vec::new();
    for (journal, high, name) in [(0_u8, 0_u8, "ext2"), (4, 0, "ext3"), (4, 1, "ext3")] {
        let mut ext = vec![0; 4096 * 17];
        ext[0x404..0x408].copy_from_slice(&16_384_u32.to_le_bytes());
        ext[0x418] = 2;
        ext[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
        ext[0x45c] = journal;
        ext[0x460] = high * 0x80;
        ext[0x550] = high;
        heads.push((ext, name));
    }
    let mut xfs = vec![0; 4096 * 17];
    xfs[..16].copy_from_slice(b"XFSB\0\0\x10\0\0\0\0\0\0\0\x40\0");
    heads.push((xfs, "xfs"));
    let mut jfs = vec![0; 4096 * 17];
    jfs[0x8000..0x8004].copy_from_slice(b"JFS1");
    jfs[0x8008..0x8010].copy_from_slice(&131_072_u64.to_le_bytes());
    jfs[0x8018..0x801c].copy_from_slice(&512_u32.to_le_bytes());
    heads.push((jfs, "jfs"));
    let mut reiser = vec![0; 4096 * 17];
    reiser[0x10000..0x10004].copy_from_slice(&16_384_u32.to_le_bytes());
    reiser[0x1002c..0x1002e].copy_from_slice(&4096_u16.to_le_bytes());
    reiser[0x10034..0x1003d].copy_from_slice(b"ReIsEr2Fs");
    heads.push((reiser, "reiserfs"));

    for (head, name) in heads {
        let mut blank = MemDevice::new(64 * MIB);
        blank.write_at(0, &head).unwrap();
        let mut device = Recorder::new(blank);
        let options = CreateOptions {
            ignore_sanity_checks: true,
            ..CreateOptions::default()
        };
        let mut console = Script::answers(&[]);
        let exit = tool::create_md(&mut device, MetaKind::Internal, &options, &mut console);
        assert_eq!(exit, Ok(Exit::Refused), "{name}");
        assert!(
            console.out.contains(&format!("Found {name} filesystem\n")),
            "{}",
            console.out
        );
        assert!(console.out.ends_with("Operation refused.\n\n"));
        assert_eq!(device.ops.len(), 0, "{name}");
    }
}

#[test]
fn physical_volumes_are_compared_by_the_size_lvm_says() {
    let mut device = MemDevice::new(64 * MIB);
    let mut head = vec![0; 4096];
    head[0x218..0x21c].copy_from_slice(b"LVM2");
    device.write_at(0, &head).unwrap();
    let create = |size, answers: &[bool]| {
        let mut device = device.clone();
        let mut console = Script {
            lvm_size_sectors: size,
            ..Script::answers(answers)
        };
        tool::create_md(
            &mut device,
            MetaKind::Internal,
            &CreateOptions::default(),
            &mut console,
        )
    };
    assert_eq!(create(None, &[]), Ok(Exit::Refused));
    assert_eq!(create(Some(131_072), &[]), Ok(Exit::Refused));
    assert_eq!(create(Some(65_536), &[false]), Ok(Exit::Failed));
    assert_eq!(create(Some(65_536), &[true]), Ok(Exit::Ok));
}

/// A disk of 100 MiB that has become one of `sectors`, and what was noted of it.
fn grown(sectors: u64) -> (MemDevice, LastKnown) {
    let mut small = crashed(MetaKind::Internal, 100 * MIB, &[1, 4]);
    let metadata = Metadata::open(&mut small, MetaKind::Internal).unwrap();
    let layout = metadata.layout;
    small.write_at(layout.bitmap_sector, &[0x11; 512]).unwrap();
    let note = LastKnown::note(&metadata, small.size_sectors(), "/dev/x");
    let mut large = MemDevice::new(sectors);
    for sector in (layout.bitmap_sector..100 * MIB).step_by(8) {
        large
            .write_at(sector, &read_block(&mut small, sector))
            .unwrap();
    }
    (large, note)
}

#[test]
fn i10_metadata_follows_the_end_of_the_device_and_is_right_or_cautious_at_every_crash() {
    // By so little that old and new area overlap, within a bitmap block, and beyond it, where the
    // releases of drbdmeta shift the bitmap (section 7.3).
    for sectors in [100 * MIB + 8, 100 * MIB + 40, 120 * MIB, 200 * MIB] {
        let (device, note) = grown(sectors);
        let mut device = Recorder::new(device);
        let mut console = Script::yes();
        let exit = tool::check_resize(&mut device, MetaKind::Internal, Some(&note), &mut console);
        assert_eq!(exit, Ok(Exit::Ok));
        let moved = Metadata::open(&mut device, MetaKind::Internal).unwrap();
        assert!(moved.layout.superblock_sector == sectors - 8);
        assert_eq!(bits_set(&mut device, MetaKind::Internal), 1024);
        let hot = replay(moved.layout.al, &ring_of(&mut device.now))
            .unwrap()
            .hot;
        assert_eq!(
            hot.into_iter().collect::<Vec<_>>(),
            [ExtentNr(1), ExtentNr(4)]
        );
        assert_eq!(
            note.is_on(&mut device),
            Ok(false),
            "the old superblock is gone"
        );

        device.for_each_crash(|cut, disk| {
            let case = format!("{sectors} sectors, cut after {cut}");
            match Metadata::open(disk, MetaKind::Internal) {
                Ok(found) if found.superblock.flags.contains(MdFlags::FULL_SYNC) => {}
                Ok(found) => {
                    assert_eq!(found, moved, "{case}");
                    assert_eq!(bits_set(disk, MetaKind::Internal), 1024, "{case}");
                    assert_eq!(ring_of(disk), ring_of(&mut device.now.clone()), "{case}");
                }
                Err(_) => assert_eq!(note.is_on(disk), Ok(true), "{case}: lost"),
            }
        });
    }
}

#[test]
fn create_md_offers_to_move_and_check_resize_says_when_there_is_nothing() {
    let (device, note) = grown(200 * MIB);
    let options = CreateOptions {
        last_known: Some(&note),
        ..CreateOptions::default()
    };
    let mut console = Script::answers(&[true]);
    let exit = tool::create_md(
        &mut device.clone(),
        MetaKind::Internal,
        &options,
        &mut console,
    )
    .unwrap();
    assert_eq!(
        (exit, &console.asked[..]),
        (Exit::Ok, &[Question::MoveLastKnown][..])
    );

    let mut other = note.clone();
    other.device_uuid = Some(7);
    let refused = tool::check_resize(
        &mut device.clone(),
        MetaKind::Internal,
        Some(&other),
        &mut Script::yes(),
    );
    assert!(matches!(refused, Err(ToolError::Unsupported(_))));

    let mut console = Script::yes();
    let exit = tool::check_resize(
        &mut MemDevice::new(8192),
        MetaKind::Internal,
        None,
        &mut console,
    );
    assert_eq!(exit, Ok(Exit::Failed));
    assert_eq!(console.err, "no suitable meta data found :(\n");
    let external = tool::check_resize(
        &mut MemDevice::new(8192),
        MetaKind::Indexed(0),
        None,
        &mut console,
    );
    assert_eq!(
        external.unwrap_err().to_string(),
        "Operation only supported for >= v8 internal meta data"
    );
    assert_eq!(note.to_string().parse(), Ok(note.clone()));
    assert_eq!(
        other.to_string(),
        "104857600\t/dev/x\nuuid:\t0000000000000007\n"
    );
    assert_eq!(other.to_string().parse(), Ok(other));
    assert!("12 /dev/x".parse::<LastKnown>().is_err());
}

#[test]
fn create_and_restore_crashed_anywhere_never_leave_an_old_superblock_over_a_new_bitmap() {
    let mut device = crashed(MetaKind::Internal, 64 * MIB, &[1]);
    tool::apply_al(&mut device, MetaKind::Internal, &mut Script::yes()).unwrap();
    let before = superblock(&mut device, MetaKind::Internal);
    let mut device = Recorder::new(device);
    let options = CreateOptions::default();
    tool::create_md(
        &mut device,
        MetaKind::Internal,
        &options,
        &mut Script::yes(),
    )
    .unwrap();
    device.for_each_crash(|cut, disk| {
        if let Ok(found) = Metadata::open(disk, MetaKind::Internal)
            && found.superblock == before
        {
            assert_eq!(bits_set(disk, MetaKind::Internal), 1024, "cut after {cut}");
        }
    });
}

#[test]
fn v09_metadata_for_one_peer_is_converted() {
    let mut device = created(MetaKind::Internal, 64 * MIB);
    let sector = 131_064;
    let mut block = read_block(&mut device, sector);
    let put = |block: &mut Vec<u8>, at: usize, bytes: &[u8]| {
        block[at..at + bytes.len()].copy_from_slice(bytes);
    };
    block[..64].fill(0);
    put(&mut block, 0, &130_992_u64.to_be_bytes());
    put(&mut block, 8, &0x10_u64.to_be_bytes());
    put(&mut block, 48, &0x99_u64.to_be_bytes());
    put(&mut block, 56, &0x491_u32.to_be_bytes()); // and "have quorum", which version 08 has not
    put(&mut block, 60, &0x8374_026d_u32.to_be_bytes());
    put(&mut block, 88, &1_u32.to_be_bytes());
    put(&mut block, 92, &(-1_i32).to_be_bytes());
    put(&mut block, 96, &1_u32.to_be_bytes());
    put(&mut block, 100, &8_u32.to_be_bytes());
    put(&mut block, 112, &0x20_u64.to_be_bytes());
    put(&mut block, 128, &2_u32.to_be_bytes());
    put(&mut block, 1136, &0x30_u64.to_be_bytes());
    device.write_at(sector, &block).unwrap();
    device.write_at(130_992, &[0x01; 512]).unwrap();

    let mut console = Script::answers(&[false, false]);
    let options = CreateOptions::default();
    let exit = tool::create_md(&mut device, MetaKind::Internal, &options, &mut console).unwrap();
    assert_eq!(exit, Exit::Failed);
    assert_eq!(
        console.asked,
        [Question::Convert("v09"), Question::Replace("v09")]
    );

    let mut many = device.clone();
    let mut peers = block.clone();
    put(&mut peers, 88, &3_u32.to_be_bytes());
    many.write_at(sector, &peers).unwrap();
    let refused = tool::create_md(&mut many, MetaKind::Internal, &options, &mut Script::yes());
    assert_eq!(refused.unwrap_err().exit().code(), 30);
    let mut unclean = device.clone();
    let mut flags = block.clone();
    put(&mut flags, 56, &0x411_u32.to_be_bytes());
    unclean.write_at(sector, &flags).unwrap();
    let refused = tool::create_md(
        &mut unclean,
        MetaKind::Internal,
        &options,
        &mut Script::yes(),
    );
    assert_eq!(refused, Err(ToolError::Unclean));

    tool::create_md(
        &mut device,
        MetaKind::Internal,
        &options,
        &mut Script::yes(),
    )
    .unwrap();
    let converted = superblock(&mut device, MetaKind::Internal);
    assert_eq!(converted.uuids, [0x10, 0x20, 0x30, 0]);
    assert_eq!(converted.flags.bits(), 0x91 | 0x20);
    assert_eq!(converted.device_uuid, 0x99);
    assert_eq!(converted.la_size_sectors, 130_992);
    assert_eq!(bits_set(&mut device, MetaKind::Internal), 512);
}

#[test]
fn transactions_of_a_clean_disk_are_all_initialised_blocks() {
    let mut device = created(MetaKind::FlexibleExternal, MIB);
    let layout = Metadata::open(&mut device, MetaKind::FlexibleExternal)
        .unwrap()
        .layout;
    let block = read_block(&mut device, layout.al_block_sector(7));
    assert!(Transaction::parse(&block).is_ok());
    assert_eq!(
        block[..16],
        [
            0x69, 0xcb, 0x65, 0xa2, 0, 0, 0, 0, 0x70, 0x9c, 0xc6, 0x51, 0xff, 0xff, 0, 0
        ]
    );
}
