//! What a plan is: how the pair is set up, and an explicit list of steps.
//!
//! A step has its own number, pause and sub-seed. What it does depends on these and on the state in which it finds the
//! nodes, on nothing that other steps drew: a plan from which steps are left out is a plan.

mod text;

use rdb_engine::config::{DiskOptions, NetOptions, ResourceOptions};

use crate::crash::CrashAt;
use crate::disk::Room;
use crate::hostile::Attack;
use crate::net::Link;

/// What a seed sets up.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Setup {
    pub resources: usize,
    pub volumes: usize,
    /// Sectors of each disk, metadata included.
    pub sectors: u64,
    /// The disks are declared equal instead of being synced.
    pub skip_sync: bool,
    /// Steps begin when the first sync is done.
    pub wait_sync: bool,
    pub net: NetOptions,
    pub disk: DiskOptions,
    pub resource: ResourceOptions,
    /// Handlers are quick, and do what they are for.
    pub good_handlers: bool,
    pub link: Link,
    /// The least time of a disk operation, in microseconds.
    pub disk_us: u64,
    pub stray: u64,
    pub weather: Weather,
    pub flavour: Flavour,
    /// There are steps of the rare kinds: ambushes and lying disks.
    pub rare: bool,
}

/// What users mostly do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// A bit of everything, mostly in few places.
    Mixed,
    /// Small writes all over a disk that has more extents than the activity log has slots.
    Wide,
    /// Mostly discards and zeroes, long ones too.
    Trims,
    /// Overlapping writes of all sizes in one small place, many at once.
    Hot,
}

/// What an ambush waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Trigger {
    Connected,
    PeerLost,
    ResyncBegins,
    ResyncEnds,
    Promoted,
    DiskLost,
    Attached,
    /// A new generation begins.
    NewGeneration,
    /// The superblock is being written.
    Superblock,
    /// The activity log is being written.
    Log,
    /// Blocks of the bitmap are being written.
    Bitmap,
    /// The mirror acknowledges a barrier.
    BarrierAck,
}

/// What an ambush does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Strike {
    /// At the node where the trigger was seen, or the other one.
    Kill {
        other: bool,
        down_us: u64,
    },
    PowerCut {
        other: bool,
        down_us: u64,
    },
    Blackout {
        down_us: u64,
    },
    Cut(Cut),
    DiskFails {
        other: bool,
        meta: bool,
    },
}

/// Which kinds of steps there are.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Weather {
    pub cuts: bool,
    pub kills: bool,
    pub power: bool,
    pub disks: bool,
    pub pauses: bool,
    pub admin: bool,
    /// The administrator promotes and forces without looking.
    pub reckless: bool,
}

/// How a link fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Cut {
    Clean,
    Ragged,
    Silent,
    /// Nothing arrives at this node.
    HalfOpen(usize),
    /// One socket of one node.
    Socket(usize, usize),
}

/// How a disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum DiskFault {
    Reads(u32),
    Writes(u32),
    Meta(u32),
    /// A range of sectors cannot be read or written.
    BadSectors,
    /// So many times slower.
    Slow(u64),
    /// No answer for so many milliseconds.
    Stuck(u64),
    /// So many reads of data get no answer for so many milliseconds; everything else does.
    KeepsReads {
        reads: u32,
        ms: u64,
    },
    /// Whatever is asked of it fails.
    Dead,
    /// Full for so many milliseconds.
    Full {
        room: Room,
        ms: u64,
    },
    /// The next write of data, or of metadata, is well by its own account, and lies elsewhere.
    Misdirected {
        meta: bool,
    },
}

/// A command, before it is known what state it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "as the commands of the same names")]
pub enum Order {
    Promote,
    ForcePromote,
    Demote,
    Disconnect {
        force: bool,
    },
    Connect,
    DiscardMyData,
    Detach {
        force: bool,
    },
    Attach,
    Invalidate,
    InvalidateRemote,
    /// Of these sectors; by default from where the last one has ended, and to the end.
    Verify {
        start: Option<u64>,
        stop: Option<u64>,
    },
    PauseSync,
    ResumeSync,
    NewCurrentUuid,
    Outdate,
    SuspendIo,
    ResumeIo,
    Snapshot {
        limit_ms: u32,
        with_peer: bool,
    },
    Down,
    /// Interrupts the command that is open the longest: its caller waits no more.
    Interrupt,
    /// Leaves the volume out with the next start, as if it were not in this node's file yet; or adds it, if it is missing.
    LateVolume,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Action {
    /// Requests to whoever is Primary, spread over so many microseconds.
    Work {
        resource: usize,
        volume: usize,
        requests: u32,
        over_us: u64,
    },
    Cut(Cut),
    Heal,
    /// The link becomes slow, narrow or quick.
    Wires {
        latency_us: u64,
        bytes_per_ms: u64,
        buffer_bytes: u64,
    },
    Kill {
        node: usize,
        down_us: u64,
    },
    PowerCut {
        node: usize,
        down_us: u64,
    },
    /// Both nodes lose their power at once.
    Blackout {
        down_us: u64,
    },
    Disk {
        node: usize,
        resource: usize,
        volume: usize,
        fault: DiskFault,
    },
    /// Disks are whole again, and are attached where they were lost.
    RepairDisks {
        node: usize,
    },
    /// The machine stands still.
    Pause {
        node: usize,
        us: u64,
    },
    Order {
        node: usize,
        resource: usize,
        volume: usize,
        order: Order,
    },
    /// If nobody is Primary, somebody becomes it.
    NeedPrimary {
        resource: usize,
        volume: usize,
        node: usize,
    },
    Wait,
    /// The pair comes together with nobody's help, and from then on one thing that fails is borne.
    Settle,
    /// The settings that both nodes have to know change; the other node is told so many microseconds later.
    Settings {
        node: usize,
        resource: usize,
        late_us: u64,
    },
    /// So many blocks rot on either disk; this node verifies, while so many requests come and the link breaks so often.
    Verify {
        node: usize,
        rotten: u32,
        requests: u32,
        cuts: u32,
    },
    /// An impostor takes the place of a node's peer.
    Attack {
        resource: usize,
        attack: Attack,
    },
    /// The n-th time that this happens, at this node if one is named, that is done a little later.
    Ambush {
        resource: usize,
        at: Option<usize>,
        trigger: Trigger,
        nth: u32,
        late_us: u64,
        strike: Strike,
    },
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its number in the whole plan.
    pub nr: usize,
    /// The time that passes before it.
    pub pause_us: u64,
    /// For its own choices.
    pub sub: u64,
    /// What it does.
    pub action: Action,
}

/// A run before it runs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where it all comes from.
    pub seed: u64,
    /// Drawn without the rare kinds of steps.
    pub plain: bool,
    /// Now and then an impostor takes the place of a node's peer.
    pub hostile: bool,
    /// How the pair is set up.
    pub setup: Setup,
    /// What happens to it.
    pub steps: Vec<Step>,
    /// The mistake that the engines make: see `ci::mutations`.
    pub planted: Option<rdb_engine::Bug>,
    /// The run ends there, and the pair is brought together.
    pub crash: Option<CrashAt>,
}

impl Plan {
    /// The same with these steps only.
    #[must_use]
    pub fn with_steps(&self, keep: &[usize]) -> Plan {
        let steps = self.steps.iter().filter(|s| keep.contains(&s.nr));
        Plan {
            steps: steps.copied().collect(),
            ..self.clone()
        }
    }
}
