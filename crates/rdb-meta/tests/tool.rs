//! The verbs: what they ask, say, write and refuse.

mod common;

use common::{Recorder, Script, image, read_block};
use rdb_meta::activity_log::{Acquire, ActivityLog, Transaction, initialised_ring, replay};
use rdb_meta::device::MemDevice;
use rdb_meta::tool::{
    self, CreateOptions, Dump, DumpHeader, Exit, LastKnown, Metadata, ParseError, Question,
    ToolError,
};
use rdb_meta::{AlGeometry, Device, ExtentNr, Layout, Magic, MdFlags, MetaKind, Superblock};

const MIB: u64 = 2048;
const KINDS: [MetaKind; 4] = [
    MetaKind::Internal,
    MetaKind::FlexibleExternal,
    MetaKind::Indexed(0),
    MetaKind::Indexed(1),
];

fn created(kind: MetaKind, sectors: u64) -> MemDevice {
    let mut device = MemDevice::new(sectors);
    let exit = tool::create_md(
        &mut device,
        kind,
        &CreateOptions::default(),
        &mut Script::answers(&[]),
    );
    assert_eq!(exit, Ok(Exit::Ok));
    device
}

/// A Primary's disk after a crash, with these extents in the log.
fn crashed(kind: MetaKind, sectors: u64, extents: &[u32]) -> MemDevice {
    let mut device = created(kind, sectors);
    let mut metadata = Metadata::open(&mut device, kind).unwrap();
    let layout = metadata.layout;
    metadata.superblock.la_size_sectors = layout.usable_sectors.min(1024 * MIB);
    metadata.superblock.magic = Magic::V84Unclean;
    metadata.superblock.flags =
        MdFlags::CONSISTENT | MdFlags::PRIMARY_IND | MdFlags::WAS_UP_TO_DATE;
    metadata.save(&mut device).unwrap();
    let mut log = ActivityLog::new(layout.al, 67, 0);
    for &extent in extents {
        assert_eq!(
            log.acquire(ExtentNr(extent), ExtentNr(extent)),
            Acquire::Pending(log.next_tr())
        );
        let sealed = log.seal().unwrap();
        device
            .write_at(layout.al_block_sector(sealed.ring_block), &sealed.block[..])
            .unwrap();
        log.commit(sealed.tr_number);
    }
    device
}

fn superblock(device: &mut dyn Device, kind: MetaKind) -> Superblock {
    Metadata::open(device, kind).unwrap().superblock
}

/// Of the first GiB, which is all that these disks agreed on.
fn bits_set(device: &mut dyn Device, kind: MetaKind) -> u64 {
    bits_in(device, kind, 64)
}

fn bits_in(device: &mut dyn Device, kind: MetaKind, sectors: u64) -> u64 {
    let layout = Metadata::open(device, kind).unwrap().layout;
    let mut area = vec![0; layout.bitmap_sectors.min(sectors) as usize * 512];
    device.read_at(layout.bitmap_sector, &mut area).unwrap();
    area.iter().map(|byte| u64::from(byte.count_ones())).sum()
}

fn ring(device: &mut dyn Device, layout: &Layout) -> Vec<u8> {
    let mut ring = vec![0; layout.al.sectors() as usize * 512];
    device.read_at(layout.al_sector, &mut ring).unwrap();
    ring
}

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

#[test]
fn i14_apply_al_crashed_anywhere_and_repeated_marks_no_less() {
    let extents = [0, 2, 7, 31, 32, 100];
    for kind in KINDS {
        let mut device = Recorder::new(crashed(kind, 600 * MIB, &extents));
        tool::apply_al(&mut device, kind, &mut Script::yes()).unwrap();
        let bits = bits_set(&mut device.now, kind);
        assert_eq!(bits, extents.len() as u64 * 1024, "{kind}");
        device.for_each_crash(|cut, disk| {
            match tool::apply_al(disk, kind, &mut Script::yes()) {
                Ok(_) => assert_eq!(bits_set(disk, kind), bits, "{kind}, cut after {cut}"),
                // A superblock torn in the middle of its 4 KiB is whole in what matters.
                Err(error) => panic!("{kind}, cut after {cut}: {error}"),
            }
            assert!(superblock(disk, kind).flags.contains(MdFlags::PRIMARY_IND));
        });
    }
}

#[test]
fn apply_al_of_the_appendix_marks_268_mb() {
    let mut extents = vec![0, 2, 7];
    extents.extend(28..=90);
    extents.push(100);
    let mut device = crashed(MetaKind::Internal, 512 * MIB, &extents);
    let layout = Metadata::open(&mut device, MetaKind::Internal)
        .unwrap()
        .layout;
    // 13 bits of extent 2 are set already.
    let mut page = vec![0; 512];
    page[256..258].copy_from_slice(&[0xff, 0x1f]);
    device.write_at(layout.bitmap_sector, &page).unwrap();
    let mut console = Script::yes();
    tool::apply_al(&mut device, MetaKind::Internal, &mut console).unwrap();
    assert_eq!(
        console.err,
        "Marked additional 268 MB as out-of-sync based on AL.\n"
    );
    assert_eq!(bits_set(&mut device, MetaKind::Internal), 68_608);
}

#[test]
fn t07_last_extent_before_a_multiple_of_128_mib_is_marked() {
    let last = 512 / 4 - 1;
    let mut device = crashed(MetaKind::Internal, 512 * MIB, &[last]);
    tool::apply_al(&mut device, MetaKind::Internal, &mut Script::yes()).unwrap();
    assert_eq!(bits_set(&mut device, MetaKind::Internal), 1024);
}

#[test]
fn apply_al_without_primary_ind_marks_nothing_and_cleans() {
    let mut device = crashed(MetaKind::Internal, 64 * MIB, &[1, 2]);
    let mut metadata = Metadata::open(&mut device, MetaKind::Internal).unwrap();
    metadata.superblock.flags.remove(MdFlags::PRIMARY_IND);
    metadata.save(&mut device).unwrap();
    tool::apply_al(&mut device, MetaKind::Internal, &mut Script::yes()).unwrap();
    assert_eq!(bits_set(&mut device, MetaKind::Internal), 0);
    assert!(!superblock(&mut device, MetaKind::Internal).needs_apply_al());

    // And once more: silent, nothing written.
    let mut device = Recorder::new(device);
    let mut console = Script::answers(&[]);
    tool::apply_al(&mut device, MetaKind::Internal, &mut console).unwrap();
    assert_eq!(
        (device.ops.len(), console.out, console.err),
        (0, String::new(), String::new())
    );
}

#[test]
fn i15_primary_ind_with_an_unreadable_log_is_refused_and_nothing_written() {
    let mut device = crashed(MetaKind::Internal, 64 * MIB, &[1, 2]);
    let layout = Metadata::open(&mut device, MetaKind::Internal)
        .unwrap()
        .layout;
    device.write_at(layout.al_sector, &[0x77; 32_768]).unwrap();
    let mut recorder = Recorder::new(device.clone());
    let error = tool::apply_al(&mut recorder, MetaKind::Internal, &mut Script::yes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "No usable activity log found. Do you need to create-md?"
    );
    assert_eq!(error.exit(), Exit::Failed);
    assert_eq!(recorder.ops.len(), 0);

    // Initialised blocks around two torn ones: error B.
    let mut ring = initialised_ring(layout.al);
    ring[4096..8192].fill(1);
    ring[..4096].fill(1);
    device.write_at(layout.al_sector, &ring).unwrap();
    let error = tool::apply_al(&mut device, MetaKind::Internal, &mut Script::yes()).unwrap_err();
    assert_eq!(error.to_string(), "No valid AL update transaction found.");

    // Not Primary: it does not matter.
    let mut metadata = Metadata::open(&mut device, MetaKind::Internal).unwrap();
    metadata.superblock.flags.remove(MdFlags::PRIMARY_IND);
    metadata.save(&mut device).unwrap();
    let mut console = Script::yes();
    tool::apply_al(&mut device, MetaKind::Internal, &mut console).unwrap();
    assert!(
        console
            .err
            .ends_with("Error ignored, no need to apply the AL\n")
    );
    assert_eq!(ring_of(&mut device), initialised_ring(layout.al));
}

fn ring_of(device: &mut MemDevice) -> Vec<u8> {
    let layout = Metadata::open(device, MetaKind::Internal).unwrap().layout;
    ring(device, &layout)
}

#[test]
fn apply_al_understands_the_log_of_8_3() {
    let mut device = crashed(MetaKind::Internal, 64 * MIB, &[]);
    let mut metadata = Metadata::open(&mut device, MetaKind::Internal).unwrap();
    metadata.superblock.magic = Magic::V08;
    metadata.superblock.al_nr_extents = 127;
    metadata.save(&mut device).unwrap();
    let mut ring = vec![0xff; 64 * 512];
    for (sector, (number, slot, extent)) in [(u32::MAX, 0_u32, 3_u32), (0, 1, 5), (1, 0, 9)]
        .into_iter()
        .enumerate()
    {
        let sector = &mut ring[sector * 512..][..512];
        sector[..4].copy_from_slice(&0x8374_0267_u32.to_be_bytes());
        sector[4..8].copy_from_slice(&number.to_be_bytes());
        sector[8..12].copy_from_slice(&slot.to_be_bytes());
        sector[12..16].copy_from_slice(&extent.to_be_bytes());
        // 61 unused extents are an odd number, so what is left is the complement.
        sector[504..508].copy_from_slice(&(!extent).to_be_bytes());
    }
    device.write_at(metadata.layout.al_sector, &ring).unwrap();
    tool::apply_al(&mut device, MetaKind::Internal, &mut Script::yes()).unwrap();
    // Extents 5 and 9; slot 0 has left 3.
    assert_eq!(bits_set(&mut device, MetaKind::Internal), 2048);
    assert_eq!(ring_of(&mut device), initialised_ring(AlGeometry::DEFAULT));
}

#[test]
fn t06_metadata_made_clean_has_no_old_transactions() {
    let mut device = crashed(MetaKind::Internal, 64 * MIB, &[1, 2, 3]);
    let mut console = Script::yes();
    let header = DumpHeader {
        date: "",
        command: "",
        force: true,
    };
    tool::apply_al(&mut device.clone(), MetaKind::Internal, &mut console).unwrap();
    let mut clean = device.clone();
    tool::apply_al(&mut clean, MetaKind::Internal, &mut Script::yes()).unwrap();
    let mut dump = Script::yes();
    tool::dump_md(&mut clean, MetaKind::Internal, &header, &mut dump).unwrap();

    // Over the crashed disk, whose ring is full of old blocks.
    let text = dump.out;
    tool::restore_md(
        &mut device,
        MetaKind::Internal,
        &text,
        None,
        false,
        &mut Script::yes(),
    )
    .unwrap();
    assert_eq!(ring_of(&mut device), initialised_ring(AlGeometry::DEFAULT));
    let replayed = replay(AlGeometry::DEFAULT, &ring_of(&mut device)).unwrap();
    assert!(!replayed.updates_found);
    let again = superblock(&mut device, MetaKind::Internal);
    assert_eq!(
        again,
        Superblock {
            al_nr_extents: 257,
            ..superblock(&mut clean, MetaKind::Internal)
        }
    );
    assert_eq!(bits_set(&mut device, MetaKind::Internal), 3 * 1024);
}

#[test]
fn restore_can_change_the_stripes_and_truncates_what_is_too_long() {
    let mut device = created(MetaKind::Internal, 64 * MIB);
    let text = "version \"v08\"; uuid { 0x0000000000000004; 0x0000000000000000;\
         0x0000000000000000; 0x0000000000000000; flags 0x00000091; } la-size-sect 99999999;\
         bm-byte-per-bit 4096; device-uuid 0x0000000000000000; la-peer-max-bio-size 0;\
         al-stripes 1; al-stripe-size-4k 8; bm { 9999999999 times 0xFFFFFFFFFFFFFFFF; }";
    let al = AlGeometry {
        stripes: 2,
        stripe_size_4k: 16,
    };
    let mut console = Script::yes();
    tool::restore_md(
        &mut device,
        MetaKind::Internal,
        text,
        Some(al),
        false,
        &mut console,
    )
    .unwrap();
    assert_eq!(
        console.err,
        "override activity log striping from commandline\nreinitializing\n\
         Bitmap info too large, truncated!\n"
    );
    assert_eq!(
        console.out,
        "# la-size-sect was too big (99999999), truncated (130800)!\n\
         Successfully restored meta data\n"
    );
    let metadata = Metadata::open(&mut device, MetaKind::Internal).unwrap();
    assert_eq!(metadata.layout.al, al);
    assert_eq!(metadata.superblock.la_size_sectors, 130_800);
    assert_eq!(ring(&mut device, &metadata.layout), initialised_ring(al));
}

#[test]
fn parse_errors_name_line_and_expectation() {
    let good = "version \"v08\";\n# comment\nuuid {\n 0x0000000000000004; 0x0000000000000000;\n \
         0x0000000000000000; 0x0000000000000000;\n flags 0x00000080;\n}\nla-size-sect 16;\n\
         bm-byte-per-bit 4096;\ndevice-uuid 0x0000000000000000;\nla-peer-max-bio-size 0;\n\
         al-stripes 1;\nal-stripe-size-4k 8;\nbm {\n 3 times 0x0000000000000001;\n}\n";
    let dump = Dump::parse(good).unwrap();
    assert_eq!(dump.bitmap, [(3, 1)]);
    // Every shorter text is an error, and none a panic.
    for len in 0..good.trim_end().len() {
        assert!(Dump::parse(&good[..len]).is_err(), "{len}");
    }
    for (from, to, message) in [
        (
            "uuid",
            "uuidx",
            "Parse error in line 3: keyword 'uuid' expected, found 'uuidx'",
        ),
        ("v08", "v09", "dump is 'v09' you requested 'v08'."),
        (
            "0x00000080",
            "0x080",
            "Parse error in line 6: U32 expected, found '0x080'",
        ),
        (
            "4096;",
            "8192;",
            "Parse error in line 9: bm-byte-per-bit is 8192, version 08 has 4096",
        ),
        (
            "sect 16",
            "sect -1",
            "Parse error in line 8: la-size-sect is -1, which is out of range",
        ),
        (
            "times",
            "x",
            "Parse error in line 15: keyword 'times' expected, found 'x'",
        ),
        (
            "}\n",
            "",
            "Parse error in line 7: '}' expected, found 'la-size-sect'",
        ),
        (
            "\"v08\"",
            "\"\"",
            "Parse error in line 1: string expected, found '\"\"'",
        ),
        (
            "\"v08\"",
            "\"v08",
            "Parse error in line 1: string expected, found '\"v08;'",
        ),
    ] {
        let error = Dump::parse(&good.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let more = Dump::parse(&format!("{good} more")).unwrap_err();
    assert!(
        matches!(more, ParseError::Expected { line: 17, .. }),
        "{more}"
    );
}

#[test]
fn set_gi_changes_what_is_named_and_t18_a_refusal_is_no_failure() {
    let mut device = image("d1-clean-down");
    let mut console = Script::answers(&[false]);
    let exit = tool::set_gi(
        &mut device,
        MetaKind::Internal,
        "123:0:AB::0:1::1",
        &mut console,
    )
    .unwrap();
    assert_eq!(exit, Exit::Ok);
    assert_eq!(
        console.out,
        "previously 9BFA257BB3B10686:0000000000000000:D6C516B8323F7B6D:D6C416B8323F7B6D:1:1:0:0:0:0:0\n\
         set GI to  0000000000000123:0000000000000000:00000000000000AB:D6C416B8323F7B6D:0:1:0:1:0:0:0\n\
         Operation canceled.\n"
    );
    let before = superblock(&mut device, MetaKind::Internal);
    tool::set_gi(
        &mut device,
        MetaKind::Internal,
        "123:0:AB::0:1::1",
        &mut Script::yes(),
    )
    .unwrap();
    let after = superblock(&mut device, MetaKind::Internal);
    assert_eq!(after.uuids, [0x123, 0, 0xab, before.uuids[3]]);
    assert_eq!(
        after.flags,
        MdFlags::WAS_UP_TO_DATE | MdFlags::CONNECTED_IND
    );

    for (bad, text) in [
        ("::::2", "'2' is not 0 or 1."),
        (
            "xyz",
            "'xyz' is not a number of up to 16 hexadecimal digits.",
        ),
        (
            "12345678901234567",
            "'12345678901234567' is not a number of up to 16 hexadecimal digits.",
        ),
        ("+1", "'+1' is not a number of up to 16 hexadecimal digits."),
        (
            "1:2:3:4:0:0:0:0:0:0:0:9",
            "'9' is not one of the eleven fields.",
        ),
    ] {
        let error = tool::set_gi(&mut device, MetaKind::Internal, bad, &mut Script::yes());
        let error = error.unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.exit().code()),
            (text, 10)
        );
    }
}

#[test]
fn i21_outdate_is_durable_and_refused_for_inconsistent_data() {
    let mut device = Recorder::new(image("d1-clean-down"));
    assert_eq!(
        tool::outdate(&mut device, MetaKind::Internal, &mut Script::yes()),
        Ok(Exit::Ok)
    );
    assert!(matches!(device.ops.last(), Some(common::Op::Flush)));
    assert_eq!(
        tool::dstate(&superblock(&mut device, MetaKind::Internal)),
        "Outdated"
    );
    assert_eq!(
        tool::invalidate(&mut device, MetaKind::Internal),
        Ok(Exit::Ok)
    );
    let invalid = superblock(&mut device, MetaKind::Internal);
    assert_eq!(tool::dstate(&invalid), "Inconsistent");
    assert!(invalid.flags.contains(MdFlags::FULL_SYNC));
    assert!(
        tool::show_gi(&invalid)
            .contains("flags: Secondary, StandAlone, Inconsistent, need full sync\n")
    );
    let mut console = Script::yes();
    let exit = tool::outdate(&mut device, MetaKind::Internal, &mut console).unwrap();
    assert_eq!(
        (exit.code(), console.err.as_str()),
        (5, "Device is inconsistent.\n")
    );
}

#[test]
fn wiped_metadata_is_not_found_again() {
    let mut device = image("d1-clean-down");
    let mut console = Script::answers(&[false]);
    assert_eq!(
        tool::wipe_md(&mut device, MetaKind::Internal, &mut console),
        Ok(Exit::Failed)
    );
    let mut console = Script::answers(&[true]);
    assert_eq!(
        tool::wipe_md(&mut device, MetaKind::Internal, &mut console),
        Ok(Exit::Ok)
    );
    let mut console = Script::answers(&[]);
    assert_eq!(
        tool::wipe_md(&mut device, MetaKind::Internal, &mut console),
        Ok(Exit::Ok)
    );
    assert_eq!(
        console.err,
        "There appears to be no drbd meta data to wipe out?\n"
    );
    let error = Metadata::open(&mut device, MetaKind::Internal).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.exit().code()),
        ("No valid meta data found", 1)
    );
}

#[test]
fn disks_have_names() {
    let mut device = created(MetaKind::Internal, 64 * MIB);
    tool::write_dev_uuid(&mut device, MetaKind::Internal, "12345678deadbeef").unwrap();
    let name = tool::read_dev_uuid(&superblock(&mut device, MetaKind::Internal));
    assert_eq!(name, "12345678DEADBEEF");
    let error = tool::write_dev_uuid(&mut device, MetaKind::Internal, "1234xyz").unwrap_err();
    assert_eq!(error.exit().code(), 10);
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
fn i25_no_verb_writes_outside_the_area() {
    for kind in KINDS {
        let mut device = Recorder::new(crashed(kind, 300 * MIB, &[0, 3, 40]));
        let layout = Metadata::open(&mut device, kind).unwrap().layout;
        let yes = &mut Script::yes();
        tool::apply_al(&mut device, kind, yes).unwrap();
        let mut dump = Script::yes();
        let header = DumpHeader {
            date: "",
            command: "",
            force: false,
        };
        tool::dump_md(&mut device, kind, &header, &mut dump).unwrap();
        tool::set_gi(&mut device, kind, "5", yes).unwrap();
        tool::invalidate(&mut device, kind).unwrap();
        tool::restore_md(&mut device, kind, &dump.out, None, true, yes).unwrap();
        tool::create_md(&mut device, kind, &CreateOptions::default(), yes).unwrap();
        tool::wipe_md(&mut device, kind, yes).unwrap();
        assert!(device.ops.len() > 10);
        for (sector, bytes) in device.writes() {
            assert!(
                layout.contains(sector, bytes.len() as u64 / 512),
                "{kind}, sector {sector}"
            );
        }
    }
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
