//! Consoles and devices the tests share. Each test file uses part of it.
#![allow(dead_code, unreachable_pub)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rdb_meta::activity_log::{Acquire, ActivityLog};
use rdb_meta::device::MemDevice;
use rdb_meta::tool::{self, Console, CreateOptions, Exit, Metadata, Question};
use rdb_meta::{BLOCK_BYTES, Device, DeviceError, ExtentNr, Layout, Magic, MdFlags, MetaKind};
use rdb_meta::{SECTOR_BYTES, Superblock};

/// Keeps what was said, and answers from a list; without one, yes.
#[derive(Default)]
pub struct Script {
    pub out: String,
    pub err: String,
    pub asked: Vec<Question>,
    pub answers: Option<Vec<bool>>,
    pub lvm_size_sectors: Option<u64>,
}

impl Script {
    pub fn yes() -> Self {
        Self::default()
    }

    /// Answers in this order, and fails the test on a question more.
    pub fn answers(answers: &[bool]) -> Self {
        Self {
            answers: Some(answers.iter().rev().copied().collect()),
            ..Self::default()
        }
    }
}

impl Console for Script {
    fn out(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn err(&mut self, text: &str) {
        self.err.push_str(text);
    }

    fn confirm(&mut self, question: Question) -> bool {
        self.asked.push(question);
        match &mut self.answers {
            None => true,
            Some(answers) => answers
                .pop()
                .unwrap_or_else(|| panic!("nobody expected: {question}")),
        }
    }

    fn lvm_size_sectors(&mut self) -> Option<u64> {
        self.lvm_size_sectors
    }
}

/// One of the captured images, put where it was on its disk.
pub fn image(name: &str) -> MemDevice {
    const REGION_SECTOR: u64 = 67_067_904 / SECTOR_BYTES as u64;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/images/{name}.zst"));
    let packed = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(packed).expect("a zstd frame");
    let mut region = Vec::new();
    std::io::Read::read_to_end(&mut decoder, &mut region).expect("a whole zstd frame");
    assert_eq!(region.len(), 40_960);
    let mut device = MemDevice::new(67_108_864 / SECTOR_BYTES as u64);
    device.write_at(REGION_SECTOR, &region).unwrap();
    device
}

pub const IMAGES: [&str; 15] = [
    "a1-fresh",
    "a2-first-attach",
    "a3-synced",
    "a3-synced-peer",
    "b1-crashed-primary",
    "b1-survivor",
    "b2-crashed-apply-al",
    "b3-crashed-attached",
    "c1-disconnected-written",
    "c1-peer",
    "c2-outdated",
    "c3-disconnected-crashed",
    "d1-clean-down",
    "d1-clean-down-peer",
    "d2-clean-apply-al",
];

pub fn read_block(device: &mut dyn Device, sector: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES];
    device.read_at(sector, &mut block).unwrap();
    block
}

#[derive(Clone)]
pub enum Op {
    Write(u64, Vec<u8>),
    Flush,
}

/// Remembers what was done to it.
pub struct Recorder {
    pub before: MemDevice,
    pub now: MemDevice,
    pub ops: Vec<Op>,
}

impl Recorder {
    pub fn new(device: MemDevice) -> Self {
        Self {
            before: device.clone(),
            now: device,
            ops: Vec::new(),
        }
    }

    pub fn writes(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.ops.iter().filter_map(|op| match op {
            Op::Write(sector, bytes) => Some((*sector, &bytes[..])),
            Op::Flush => None,
        })
    }

    /// Every state a power cut may leave: after each operation, what was flushed, and of what was
    /// not: nothing, everything, one write alone, all but one, and one torn in the middle.
    pub fn for_each_crash(&self, mut check: impl FnMut(usize, &mut MemDevice)) {
        for cut in 0..=self.ops.len() {
            let flushed = self.ops[..cut]
                .iter()
                .rposition(|op| matches!(op, Op::Flush))
                .map_or(0, |flush| flush + 1);
            let mut durable = self.before.clone();
            for op in &self.ops[..flushed] {
                apply(&mut durable, op, false);
            }
            let open = &self.ops[flushed..cut];
            check(cut, &mut durable.clone());
            for chosen in 0..open.len() {
                let mut all_but = durable.clone();
                for (at, op) in open.iter().enumerate() {
                    if at != chosen {
                        apply(&mut all_but, op, false);
                    }
                }
                check(cut, &mut all_but);
                for torn in [false, true] {
                    let mut alone = durable.clone();
                    apply(&mut alone, &open[chosen], torn);
                    check(cut, &mut alone);
                }
            }
            let mut all = durable.clone();
            open.iter().for_each(|op| apply(&mut all, op, false));
            check(cut, &mut all);
        }
    }
}

fn apply(device: &mut MemDevice, op: &Op, torn: bool) {
    if let Op::Write(sector, bytes) = op {
        let len = if torn {
            (bytes.len() / 2).next_multiple_of(SECTOR_BYTES)
        } else {
            bytes.len()
        };
        device.write_at(*sector, &bytes[..len]).unwrap();
    }
}

impl Device for Recorder {
    fn size_sectors(&self) -> u64 {
        self.now.size_sectors()
    }

    fn read_at(&mut self, sector: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        self.now.read_at(sector, buffer)
    }

    fn write_at(&mut self, sector: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.ops.push(Op::Write(sector, bytes.to_vec()));
        self.now.write_at(sector, bytes)
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.ops.push(Op::Flush);
        self.now.flush()
    }
}

/// A file or a block device.
pub struct FileDevice {
    file: File,
    size_sectors: u64,
}

impl FileDevice {
    pub fn open(path: &Path) -> Self {
        use std::io::{Seek, SeekFrom};
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .expect("a device");
        let size = file.seek(SeekFrom::End(0)).expect("a size");
        Self {
            file,
            size_sectors: size / SECTOR_BYTES as u64,
        }
    }
}

fn failed(error: std::io::Error) -> DeviceError {
    DeviceError(error.to_string())
}

impl Device for FileDevice {
    fn size_sectors(&self) -> u64 {
        self.size_sectors
    }

    fn read_at(&mut self, sector: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        self.file
            .read_exact_at(buffer, sector * SECTOR_BYTES as u64)
            .map_err(failed)
    }

    fn write_at(&mut self, sector: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.file
            .write_all_at(bytes, sector * SECTOR_BYTES as u64)
            .map_err(failed)
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.file.sync_data().map_err(failed)
    }
}

pub const MIB: u64 = 2048;
pub const KINDS: [MetaKind; 4] = [
    MetaKind::Internal,
    MetaKind::FlexibleExternal,
    MetaKind::Indexed(0),
    MetaKind::Indexed(1),
];

pub fn created(kind: MetaKind, sectors: u64) -> MemDevice {
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
pub fn crashed(kind: MetaKind, sectors: u64, extents: &[u32]) -> MemDevice {
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

pub fn superblock(device: &mut dyn Device, kind: MetaKind) -> Superblock {
    Metadata::open(device, kind).unwrap().superblock
}

/// Of the first GiB, which is all that these disks agreed on.
pub fn bits_set(device: &mut dyn Device, kind: MetaKind) -> u64 {
    bits_in(device, kind, 64)
}

pub fn bits_in(device: &mut dyn Device, kind: MetaKind, sectors: u64) -> u64 {
    let layout = Metadata::open(device, kind).unwrap().layout;
    let mut area = vec![0; layout.bitmap_sectors.min(sectors) as usize * 512];
    device.read_at(layout.bitmap_sector, &mut area).unwrap();
    area.iter().map(|byte| u64::from(byte.count_ones())).sum()
}

pub fn ring(device: &mut dyn Device, layout: &Layout) -> Vec<u8> {
    let mut ring = vec![0; layout.al.sectors() as usize * 512];
    device.read_at(layout.al_sector, &mut ring).unwrap();
    ring
}

pub fn ring_of(device: &mut MemDevice) -> Vec<u8> {
    let layout = Metadata::open(device, MetaKind::Internal).unwrap().layout;
    ring(device, &layout)
}
