//! The verbs: what they ask, say, write and refuse.

mod common;

use common::{
    KINDS, MIB, Recorder, Script, bits_set, crashed, created, image, ring, ring_of, superblock,
};
use rdb_meta::activity_log::{initialised_ring, replay};
use rdb_meta::tool::{self, CreateOptions, Dump, DumpHeader, Exit, Metadata, ParseError};
use rdb_meta::{AlGeometry, Device, Magic, MdFlags, MetaKind, Superblock};

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
