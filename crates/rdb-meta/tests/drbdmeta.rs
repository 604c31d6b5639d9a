//! Our disks judged by `drbdmeta`, and its disks read by us, in every layout. Needs `drbdmeta`
//! (package drbd-utils), `losetup` and root.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{FileDevice, Script, read_block};
use rdb_meta::activity_log::{Acquire, ActivityLog};
use rdb_meta::tool::{self, BitmapInit, CreateOptions, DumpHeader, Metadata};
use rdb_meta::{AlGeometry, Bitmap, Device, ExtentNr, Magic, MdFlags, MetaKind};

const SECTORS_PER_MIB: u64 = 2048;

/// A kind, the size of the device that carries it, and the shape of its log.
fn layouts() -> Vec<(MetaKind, u64, AlGeometry)> {
    let striped = AlGeometry {
        stripes: 4,
        stripe_size_4k: 8,
    };
    let three = AlGeometry {
        stripes: 3,
        stripe_size_4k: 4,
    };
    vec![
        (
            MetaKind::Internal,
            200 * SECTORS_PER_MIB,
            AlGeometry::DEFAULT,
        ),
        (MetaKind::Internal, 500 * SECTORS_PER_MIB + 8 * 5, striped),
        (MetaKind::Internal, 64 * SECTORS_PER_MIB + 3, three),
        (
            MetaKind::FlexibleExternal,
            SECTORS_PER_MIB,
            AlGeometry::DEFAULT,
        ),
        (MetaKind::FlexibleExternal, SECTORS_PER_MIB + 3, striped),
        (
            MetaKind::Indexed(0),
            300 * SECTORS_PER_MIB,
            AlGeometry::DEFAULT,
        ),
        (
            MetaKind::Indexed(1),
            300 * SECTORS_PER_MIB,
            AlGeometry::DEFAULT,
        ),
    ]
}

/// A sparse file as a block device.
struct Loop {
    device: PathBuf,
    file: tempfile::NamedTempFile,
}

impl Loop {
    fn new(sectors: u64) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(sectors * 512).unwrap();
        let output = Command::new("losetup")
            .args(["--show", "-f"])
            .arg(file.path())
            .output();
        let output = output.expect("losetup (package mount) is needed");
        assert!(output.status.success(), "losetup needs root: {output:?}");
        let device = String::from_utf8(output.stdout).unwrap().trim().into();
        Self { device, file }
    }

    fn open(&self) -> FileDevice {
        FileDevice::open(&self.device)
    }

    /// What is on it, by way of the block device.
    fn area(&self, sector: u64, sectors: u64) -> Vec<u8> {
        let mut bytes = vec![0; sectors as usize * 512];
        self.open().read_at(sector, &mut bytes).unwrap();
        bytes
    }

    fn drbdmeta(&self, kind: MetaKind, arguments: &[&str]) -> Output {
        self.drbdmeta_with(&["--force"], kind, arguments)
    }

    fn drbdmeta_with(&self, options: &[&str], kind: MetaKind, arguments: &[&str]) -> Output {
        Command::new("drbdmeta")
            .args(options)
            .args(["-", "v08"])
            .arg(&self.device)
            .arg(kind.to_string())
            .args(arguments)
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .output()
            .unwrap_or_else(|error| panic!("drbdmeta (package drbd-utils) is needed: {error}"))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Only a device that is still there for another program would fail; the next test takes
        // another one.
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
        let _ = &self.file;
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Both dumps from the version on, without the flags that drbdmeta up to 9.32 does not print.
fn comparable(dump: &str) -> String {
    let from = dump.find("version \"v08\"").expect("a dump");
    let lines = dump[from..]
        .lines()
        .filter(|line| !line.trim_start().starts_with("flags 0x"));
    lines.map(|line| format!("{line}\n")).collect()
}

fn dump(device: &mut dyn Device, kind: MetaKind) -> String {
    let header = DumpHeader {
        date: "now",
        command: "here> dump-md",
        force: true,
    };
    let mut console = Script::yes();
    tool::dump_md(device, kind, &header, &mut console).unwrap();
    console.out
}

fn create(device: &Path, kind: MetaKind, al: AlGeometry) {
    let options = CreateOptions {
        al,
        bitmap: BitmapInit::Zero,
        ..CreateOptions::default()
    };
    let mut device = FileDevice::open(device);
    let exit = tool::create_md(&mut device, kind, &options, &mut Script::answers(&[])).unwrap();
    assert_eq!(exit, tool::Exit::Ok);
}

/// Metadata as a driver would leave it after a crash as Primary: bits, a log, flags.
fn use_it(device: &mut FileDevice, kind: MetaKind) {
    let mut metadata = Metadata::open(device, kind).unwrap();
    let layout = metadata.layout;
    let size = layout.usable_sectors.min(500 * SECTORS_PER_MIB);
    let superblock = &mut metadata.superblock;
    superblock.la_size_sectors = size;
    superblock.uuids = [
        0x2C3D_3B3A_9CC1_6AE0,
        0x22C3_6F84_DD95_A85B,
        0x522D_8397_7F71_874F,
        0x4,
    ];
    superblock.device_uuid = 0x0123_4567_89AB_CDEF;
    superblock.flags = MdFlags::CONSISTENT | MdFlags::PRIMARY_IND | MdFlags::WAS_UP_TO_DATE;
    superblock.magic = Magic::V84Unclean;
    superblock.la_peer_max_bio_size = 1 << 20;
    superblock.al_nr_extents = 67;

    let mut bitmap = Bitmap::new(size, false);
    for (bit, len) in [
        (3, 1),
        (64, 700),
        (5000, 1),
        (9000, 4000),
        (bitmap.bits() - 3, 3),
    ] {
        bitmap.set_run(bit, len);
    }
    for page in 0..bitmap.page_count() {
        let (sector, sectors) = layout.bitmap_page_sectors(page);
        device
            .write_at(sector, &bitmap.page_bytes(page)[..sectors as usize * 512])
            .unwrap();
    }
    let mut log = ActivityLog::new(layout.al, 67, 0);
    for first in [0, 2, 7, 3, 9, 11, 0, 12] {
        let (first, last) = (ExtentNr(first), ExtentNr(first + 1));
        if log.acquire(first, last) != Acquire::Granted {
            let sealed = log.seal().unwrap();
            device
                .write_at(layout.al_block_sector(sealed.ring_block), &sealed.block[..])
                .unwrap();
            log.commit(sealed.tr_number);
        }
    }
    metadata.save(device).unwrap();
}

#[test]
fn our_create_md_and_drbdmetas_give_the_same_bytes() {
    for (kind, sectors, al) in layouts() {
        let (ours, theirs) = (Loop::new(sectors), Loop::new(sectors));
        create(&ours.device, kind, al);
        let stripes = al.stripes.to_string();
        let stripe_kib = (al.stripe_size_4k * 4).to_string();
        let options = [
            "create-md",
            "--al-stripes",
            &stripes,
            "--al-stripe-size-kB",
            &stripe_kib,
        ];
        stdout(&theirs.drbdmeta(kind, &options));

        // Each side reads what the other wrote.
        let metadata = Metadata::open(&mut theirs.open(), kind).unwrap();
        assert_eq!(
            metadata,
            Metadata::open(&mut ours.open(), kind).unwrap(),
            "{kind}"
        );
        let block = read_block(&mut theirs.open(), metadata.layout.superblock_sector);
        assert_eq!(metadata.superblock.to_block()[..], block[..], "{kind}");

        let layout = metadata.layout;
        let first = layout.bitmap_sector.min(layout.superblock_sector);
        let len = layout.md_size_sectors;
        assert!(
            ours.area(first, len) == theirs.area(first, len),
            "{kind}: the areas differ"
        );
    }
}

#[test]
fn drbdmeta_reads_what_we_wrote() {
    for (kind, sectors, al) in layouts() {
        let disk = Loop::new(sectors);
        create(&disk.device, kind, al);
        use_it(&mut disk.open(), kind);
        let superblock = Metadata::open(&mut disk.open(), kind).unwrap().superblock;

        let theirs = stdout(&disk.drbdmeta(kind, &["dump-md"]));
        assert_eq!(
            comparable(&dump(&mut disk.open(), kind)),
            comparable(&theirs),
            "{kind}"
        );
        let theirs = stdout(&disk.drbdmeta(kind, &["get-gi"]));
        assert_eq!(tool::get_gi(&superblock), theirs.trim_end(), "{kind}");
        let theirs = stdout(&disk.drbdmeta(kind, &["show-gi"]));
        assert_eq!(tool::show_gi(&superblock), theirs, "{kind}");
        let theirs = stdout(&disk.drbdmeta(kind, &["dstate"]));
        assert_eq!(tool::dstate(&superblock), theirs.trim_end(), "{kind}");
        let theirs = stdout(&disk.drbdmeta(kind, &["read-dev-uuid"]));
        assert_eq!(
            tool::read_dev_uuid(&superblock),
            theirs.trim_end(),
            "{kind}"
        );
    }
}

#[test]
fn our_apply_al_and_drbdmetas_give_the_same_bytes() {
    for (kind, sectors, al) in layouts() {
        let (ours, theirs) = (Loop::new(sectors), Loop::new(sectors));
        for disk in [&ours, &theirs] {
            create(&disk.device, kind, al);
            use_it(&mut disk.open(), kind);
        }
        let mut console = Script::yes();
        tool::apply_al(&mut ours.open(), kind, &mut console).unwrap();
        let output = theirs.drbdmeta_with(&[], kind, &["apply-al"]);
        stdout(&output);
        // drbdmeta from 9.33 on always says 0 KB (trap T7).
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains(&console.err) || said.contains(" 0 KB "),
            "{said}{}",
            console.err
        );

        let layout = Metadata::open_clean(&mut ours.open(), kind).unwrap().layout;
        let first = layout.bitmap_sector.min(layout.superblock_sector);
        let len = layout.md_size_sectors;
        assert!(
            ours.area(first, len) == theirs.area(first, len),
            "{kind}: the areas differ"
        );
    }
}

#[test]
fn dumps_restore_on_either_side() {
    for (kind, sectors, al) in layouts() {
        let (ours, theirs) = (Loop::new(sectors), Loop::new(sectors));
        create(&ours.device, kind, al);
        use_it(&mut ours.open(), kind);
        tool::apply_al(&mut ours.open(), kind, &mut Script::yes()).unwrap();
        let text = dump(&mut ours.open(), kind);

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        let path = file.path().to_str().unwrap();
        stdout(&theirs.drbdmeta(kind, &["restore-md", path]));
        assert_eq!(
            comparable(&dump(&mut theirs.open(), kind)),
            restored(&text),
            "{kind}"
        );

        let again = Loop::new(sectors);
        let theirs = stdout(&theirs.drbdmeta(kind, &["dump-md"]));
        // What drbdmeta up to 9.32 leaves out (section 8.2).
        let theirs = theirs.replace("flags 0x00000000;", "flags 0x00000093;");
        let mut console = Script::yes();
        tool::restore_md(&mut again.open(), kind, &theirs, None, false, &mut console).unwrap();
        assert_eq!(
            comparable(&dump(&mut again.open(), kind)),
            restored(&text),
            "{kind}"
        );
    }
}

/// The slots in use are a comment, hence lost.
fn restored(dump: &str) -> String {
    comparable(dump).replace("# al-extents 67;", "# al-extents 257;")
}

#[test]
fn content_checks_say_what_drbdmeta_says() {
    let mut plain = vec![0; 4096];
    plain[100] = 1;
    let mut swap = vec![0; 4096];
    swap[4086..].copy_from_slice(b"SWAPSPACE2");
    let mut ext = vec![0; 4096];
    ext[0x404..0x408].copy_from_slice(&60_000_u32.to_le_bytes()); // blocks of 1 KiB
    ext[0x438..0x43a].copy_from_slice(&0xef53_u16.to_le_bytes());
    let mut large_ext = ext.clone();
    large_ext[0x404..0x408].copy_from_slice(&65_536_u32.to_le_bytes());
    for (what, head) in [
        ("data", plain),
        ("swap", swap),
        ("ext2", ext),
        ("large", large_ext),
    ] {
        for kind in [MetaKind::Internal, MetaKind::FlexibleExternal] {
            for ignore in [false, true] {
                let disk = Loop::new(64 * SECTORS_PER_MIB);
                disk.open().write_at(0, &head).unwrap();
                let mut arguments = vec!["create-md"];
                if ignore {
                    arguments.push("--ignore-sanity-checks");
                }
                let theirs = disk.drbdmeta_with(&[], kind, &arguments);
                let options = CreateOptions {
                    ignore_sanity_checks: ignore,
                    dry_run: true,
                    ..CreateOptions::default()
                };
                disk.open().write_at(0, &head).unwrap();
                let layout_sector = kind.superblock_sector(64 * SECTORS_PER_MIB).unwrap();
                if !kind.is_internal() {
                    disk.open().write_at(layout_sector, &head).unwrap();
                } else {
                    disk.open().write_at(layout_sector, &[0; 4096]).unwrap();
                }
                let mut console = Script::answers(&[false]);
                let exit = tool::create_md(&mut disk.open(), kind, &options, &mut console).unwrap();
                let case = format!("{what} on {kind}, ignore {ignore}");
                let said = String::from_utf8_lossy(&theirs.stdout);
                if exit == tool::Exit::Ok {
                    assert!(
                        said.starts_with(&console.out),
                        "{case}: {said}\n---\n{}",
                        console.out
                    );
                } else {
                    assert_eq!(said, console.out, "{case}");
                }
                assert_eq!(theirs.status.code(), Some(i32::from(exit.code())), "{case}");
            }
        }
    }
}
