//! One of the two nodes: an engine, its disks, and what it waits for.

use std::collections::BTreeMap;
use std::rc::Rc;

use rdb_engine::state::VolumeState;
use rdb_engine::{
    AdminError, Command, DiskInfo, Handler, HandlerId, IoTag, Milestone, Payload, RequestError,
    Resource, SendTag, Time, Timer, VolumeNr,
};
use rdb_meta::{AlGeometry, Layout, MetaKind, Superblock};
use replica_proto::{Digest, DigestAlgorithm, WireContext};

use crate::arbiter::{Course, Taken};
use crate::disk::Disk;
use crate::rng::Rng;

/// Block data: plain bytes, shared.
#[derive(Debug, Clone)]
pub struct Data(pub Rc<Vec<u8>>);

impl Payload for Data {
    fn len_bytes(&self) -> u32 {
        u32::try_from(self.0.len()).expect("no payload is longer than 4 GiB")
    }

    fn digest(&self, algorithm: DigestAlgorithm) -> Digest {
        algorithm.digest(&self.0)
    }
}

/// I/O that the engine has asked for. It is carried out when it is answered, in any order.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "as the effects of the same names")]
pub enum Op {
    Read {
        volume: usize,
        sector: u64,
        bytes: u32,
    },
    Write {
        volume: usize,
        sector: u64,
        data: Rc<Vec<u8>>,
        fua: bool,
    },
    Zero {
        volume: usize,
        sector: u64,
        sectors: u64,
    },
    Flush {
        volume: usize,
        stamp: u64,
    },
    MetaRead {
        volume: usize,
        sector: u64,
        bytes: u32,
    },
    MetaWrite {
        volume: usize,
        sector: u64,
        data: Vec<u8>,
        preflush: Option<u64>,
        fua: bool,
    },
    Sent(SendTag),
    /// One that met a full disk and was given up: it fails.
    GivenUp(Box<Op>),
}

impl Op {
    /// The disk it is for.
    pub fn volume(&self) -> Option<usize> {
        match self {
            Op::Read { volume, .. }
            | Op::Write { volume, .. }
            | Op::Zero { volume, .. }
            | Op::Flush { volume, .. }
            | Op::MetaRead { volume, .. }
            | Op::MetaWrite { volume, .. } => Some(*volume),
            Op::GivenUp(op) => op.volume(),
            Op::Sent(_) => None,
        }
    }

    /// Whether it reads metadata, as an attach does.
    pub fn is_meta_read(&self) -> bool {
        matches!(self, Op::MetaRead { .. })
    }

    /// Whether it is for the metadata.
    pub fn is_meta(&self) -> bool {
        match self {
            Op::MetaRead { .. } | Op::MetaWrite { .. } => true,
            Op::GivenUp(op) => op.is_meta(),
            _ => false,
        }
    }
}

/// I/O in flight, and when it will be answered.
#[derive(Debug, Clone)]
pub struct Pending {
    /// When, if nothing holds it up.
    pub due: Time,
    /// What the engine calls it; `None` for what is no I/O.
    pub tag: Option<IoTag>,
    /// What it is.
    pub op: Op,
    /// The disk keeps it to itself for a while ([`Disk::keeps_until`]), and goes on with everything else.
    pub kept: bool,
}

/// A handler that runs until the test, or the world, ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Asked {
    pub id: HandlerId,
    pub handler: Handler,
    pub volume: Option<VolumeNr>,
    pub course: Course,
}

/// One of the two nodes.
#[allow(missing_docs, reason = "the names say it")]
pub struct Node {
    pub name: &'static str,
    pub resource: Resource<Data>,
    pub disks: Vec<Disk>,
    pub pending: Vec<Pending>,
    /// Writes that met a full disk, until the engine says what becomes of them.
    pub kept: BTreeMap<IoTag, Op>,
    pub timers: BTreeMap<Timer, Time>,
    pub wire: WireContext,
    /// The engine wants a connection.
    pub connecting: bool,
    /// It has one.
    pub connected: bool,
    pub admin: BTreeMap<u64, Result<(), AdminError>>,
    pub admin_open: BTreeMap<u64, Command>,
    /// Requests of users that have not ended: of which volume, and since when.
    pub requests_open: BTreeMap<u64, (usize, Time)>,
    pub completed: BTreeMap<u64, Result<Option<Data>, RequestError>>,
    /// Size of the device, while there is one.
    pub device: Option<u64>,
    pub log: Vec<String>,
    /// Handlers that run.
    pub asked: Vec<Asked>,
    /// What its history keeps.
    pub milestones: Vec<Milestone>,
    /// What the last handler that took a snapshot has seen.
    pub(crate) taken: Option<Taken>,
    /// Lines of the log that are said however often they come.
    pub always_said: usize,
    /// Packets that it has refused, as long as they were an impostor's.
    pub refused_impostors: u64,
    pub read_errors: bool,
    pub write_errors: bool,
    /// Bytes of resync data sent.
    pub resync_bytes: u64,
    pub alive: bool,
    /// The machine stands still until then.
    pub paused_until: Time,
    /// Effects in order, if wanted: what was asked, and what was answered.
    pub record: Option<Vec<String>>,
    /// Completions wait for the test to let them go.
    pub hold_meta: bool,
    pub hold_data: bool,
    /// The last states told of, by volume.
    pub view: Vec<VolumeState>,
    /// The volume is not in this node's configuration yet.
    pub late: Vec<bool>,
    /// This node's data may be overwritten: the administrator said so, by volume.
    pub consent: Vec<bool>,
    /// Writes were acknowledged that are on this node's disk alone, by volume.
    pub lonely: Vec<bool>,
    /// With its power it lost writes that the other has, by volume.
    pub forgetful: Vec<bool>,
    /// The disk did something else than it said, by volume: nothing can be asked of it until it is replaced.
    pub rotten: Vec<bool>,
}

impl Node {
    /// A node with a fresh disk of each of these sizes.
    pub fn new(name: &'static str, seed: u64, sectors: &[u64]) -> Node {
        Node {
            name,
            resource: Node::engine(seed),
            disks: sectors.iter().map(|&s| fresh_disk(s)).collect(),
            pending: Vec::new(),
            kept: BTreeMap::new(),
            timers: BTreeMap::new(),
            wire: WireContext::initial(),
            connecting: false,
            connected: false,
            admin: BTreeMap::new(),
            admin_open: BTreeMap::new(),
            requests_open: BTreeMap::new(),
            completed: BTreeMap::new(),
            device: None,
            log: Vec::new(),
            asked: Vec::new(),
            milestones: Vec::new(),
            taken: None,
            always_said: 0,
            refused_impostors: 0,
            read_errors: false,
            write_errors: false,
            resync_bytes: 0,
            alive: true,
            paused_until: Time(0),
            record: None,
            hold_meta: false,
            hold_data: false,
            view: vec![VolumeState::INITIAL; sectors.len()],
            late: vec![false; sectors.len()],
            consent: vec![false; sectors.len()],
            lonely: vec![false; sectors.len()],
            forgetful: vec![false; sectors.len()],
            rotten: vec![false; sectors.len()],
        }
    }

    /// An engine whose random bits are of this seed.
    pub fn engine(seed: u64) -> Resource<Data> {
        let mut rng = Rng(seed);
        Resource::new("r0", Box::new(move || rng.next()))
    }

    /// The engine makes this mistake from now on.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn plant(&mut self, bug: Option<rdb_engine::Bug>) {
        if let Some(bug) = bug {
            self.resource.plant(bug);
        }
    }

    #[cfg(not(feature = "planted-bugs"))]
    pub(crate) fn plant(&mut self, bug: Option<rdb_engine::Bug>) {
        assert!(bug.is_none(), "built without the feature planted-bugs");
    }

    /// The state of volume 0.
    pub fn state(&self) -> VolumeState {
        self.state_of(0)
    }

    /// The state of a volume, or the initial one if there is none (yet).
    pub fn state_of(&self, volume: usize) -> VolumeState {
        let status = self.resource.status(Time(u64::MAX / 2));
        let mut found = status.volumes.iter();
        let found = found.find(|v| usize::from(v.volume.0) == volume);
        found.map_or(VolumeState::INITIAL, |v| v.state)
    }

    /// Whether the daemon has this volume.
    pub fn has_volume(&self, volume: usize) -> bool {
        let status = self.resource.status(Time(u64::MAX / 2));
        let mut found = status.volumes.iter();
        found.any(|v| usize::from(v.volume.0) == volume)
    }

    /// Set bits of volume 0.
    pub fn out_of_sync(&self) -> u64 {
        self.out_of_sync_of(0)
    }

    /// Set bits of a volume.
    pub fn out_of_sync_of(&self, volume: usize) -> u64 {
        let status = self.resource.status(Time(u64::MAX / 2));
        let mut found = status.volumes.iter();
        let found = found.find(|v| usize::from(v.volume.0) == volume);
        found.map_or(0, |v| v.out_of_sync_blocks)
    }

    /// Current, bitmap, two of history, without their lowest bits.
    ///
    /// # Panics
    /// Without a disk.
    pub fn ids(&self) -> [u64; 4] {
        let status = self.resource.status(Time(u64::MAX / 2));
        let (ids, _) = status.volumes[0].generation.expect("a disk");
        ids.bits().map(|id| id & !1)
    }

    /// Bytes of volume 0 for users.
    pub fn usable_bytes(&self) -> usize {
        self.disks[0].data_sectors as usize * 512
    }

    /// The superblock of volume 0 as it lies on the disk.
    ///
    /// # Panics
    /// If that is none.
    pub fn superblock(&self) -> Superblock {
        superblock_of(&self.disks[0])
    }

    /// Whether I/O of a disk is under way.
    pub(crate) fn has_io(&self) -> bool {
        self.pending.iter().any(|p| p.tag.is_some()) || !self.kept.is_empty()
    }

    /// A line of the record, if there is one.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(record) = &mut self.record {
            record.push(text());
        }
    }
}

/// Where everything lies on a disk of this size.
///
/// # Panics
/// If it is too small.
pub fn layout_of(sectors: u64) -> Layout {
    Layout::compute(MetaKind::Internal, sectors, sectors, AlGeometry::DEFAULT)
        .expect("the disk has room for metadata")
}

/// The superblock as it lies on the disk.
///
/// # Panics
/// If that is none.
pub(crate) fn superblock_of(disk: &Disk) -> Superblock {
    let block = disk.read(layout_of(disk.sectors).superblock_sector, 4096);
    Superblock::parse(&block).expect("a superblock is always whole")
}

/// What the driver would tell of a disk.
pub fn disk_info(disk: &Disk) -> DiskInfo {
    DiskInfo {
        kind: MetaKind::Internal,
        data_capacity_sectors: disk.sectors,
        meta_capacity_sectors: disk.sectors,
        logical_block_bytes: 512,
        can_discard: true,
    }
}

/// Zeroes, with new metadata.
pub fn fresh_disk(sectors: u64) -> Disk {
    let layout = layout_of(sectors);
    let mut disk = Disk::new(sectors, layout.usable_sectors);
    create_md(&mut disk);
    disk
}

/// Writes new metadata.
pub fn create_md(disk: &mut Disk) {
    let layout = layout_of(disk.sectors);
    let superblock = Superblock::new(&layout).to_block();
    disk.write(layout.superblock_sector, &superblock, true);
    let ring = rdb_meta::activity_log::initialised_ring(layout.al);
    disk.write(layout.al_sector, &ring, true);
}

/// Which part of the metadata a sector belongs to.
pub(crate) fn what_metadata(disk: &Disk, sector: u64) -> &'static str {
    let layout = layout_of(disk.sectors);
    let log = layout.al_sector..layout.al_sector + layout.al.blocks() * 8;
    if sector == layout.superblock_sector {
        "superblock"
    } else if log.contains(&sector) {
        "log"
    } else {
        "bitmap"
    }
}
