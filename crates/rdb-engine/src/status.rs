//! What operators see: a snapshot of a resource, as plain values.

use alloc::string::String;
use alloc::vec::Vec;

use crate::config::Protocol;
use crate::generation::GenerationIds;
use crate::ids::{ConnId, VolumeNr};
use crate::latency::Latencies;
use crate::rules::disk_reason::DiskReason;
use crate::rules::resync_reason::Limit;
use crate::rules::trouble::Trouble;
use crate::state::VolumeState;
use replica_proto::{ConnState, SnapshotName};

/// A resource at one instant.
#[derive(Debug, Clone)]
pub struct ResourceStatus {
    /// Its connection.
    pub connection: ConnectionStatus,
    /// A snapshot that is under way, from here or by the peer.
    pub snapshot: Option<SnapshotStatus>,
    /// Its volumes in ascending order.
    pub volumes: Vec<VolumeStatus>,
}

/// A connection at one instant.
#[derive(Debug, Clone)]
pub struct ConnectionStatus {
    /// Which one.
    pub id: ConnId,
    /// Its state; at most WFReportParams (`docs/spec/behaviour.md`, section 1.1).
    pub state: ConnState,
    /// The wire protocol, if the net is configured.
    pub protocol: Option<Protocol>,
    /// Epochs open at the mirror side, at least 1 (`ep:`).
    pub epochs: u32,
    /// For how long the peer has owed an answer to the oldest request, milliseconds; 0 if it owes none.
    pub owed_ms: u64,
    /// Why there is no connection, if there is none; or why there would be none again (settings that differ by now).
    pub trouble: Option<LinkTrouble>,
}

/// A snapshot that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// What it is called.
    pub name: SnapshotName,
    /// It is taken from here; otherwise by the peer.
    pub is_own: bool,
    /// For how long.
    pub for_ms: u64,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTrouble {
    /// What is in the way.
    pub kind: Trouble,
    /// The same in words, with names and numbers.
    pub text: String,
    /// For how long.
    pub for_ms: u64,
}

/// Why a disk is not UpToDate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskTrouble {
    /// The reason.
    pub reason: DiskReason,
    /// For how long, if that is known.
    pub for_ms: Option<u64>,
}

/// A volume at one instant. Counters are DRBD's (`docs/spec/admin.md`, section 5.1).
#[derive(Debug, Clone)]
pub struct VolumeStatus {
    /// Which one.
    pub volume: VolumeNr,
    /// Its minor number.
    pub minor: u32,
    /// Its state record.
    pub state: VolumeState,
    /// Size of the device in sectors; 0 while unknown.
    pub size_sectors: u64,
    /// What it has to do with the peer.
    pub peer: PeerDeviceStatus,
    /// Sectors written locally and read locally (`dw dr` are KiB of these).
    pub written_sectors: u64,
    /// See `written_sectors`.
    pub read_sectors: u64,
    /// Activity-log transactions written (`al:`).
    pub al_writes: u64,
    /// Bitmap blocks written (`bm:`).
    pub bm_writes: u64,
    /// Local I/O in flight (`lo:`).
    pub local_pending: u32,
    /// Front-end requests in flight (`ap:`).
    pub application_pending: u32,
    /// Write ordering letter: `f`, `d` or `n` (`wo:`).
    pub write_ordering: char,
    /// Blocks of 4 KiB out of sync (`oos:` is KiB of these).
    pub out_of_sync_blocks: u64,
    /// The letter at flag position 5: why upper layers are held back (`b`: the disk is full; `c`: a handler
    /// decides; `d`: within the device), or `-`.
    pub blocked: char,
    /// Activity-log updates are suspended (flag position 6).
    pub al_suspended: bool,
    /// Generation identifiers and metadata flags, if a disk is attached.
    pub generation: Option<(GenerationIds, u32)>,
    /// Writes that wait for space on a full disk (`on-no-space`).
    pub no_space: Option<SpaceWait>,
    /// Requests of users that are frozen, while I/O is suspended.
    pub frozen: Option<FrozenIo>,
    /// Why the disk is not UpToDate, if it is not.
    pub disk_trouble: Option<DiskTrouble>,
    /// Degraded at the last start: was Primary and alone (`degr-wfc-timeout` applies).
    pub degraded: bool,
    /// How long users' requests took, and where.
    pub latencies: Latencies,
}

/// A volume and its peer at one instant. Counters are DRBD's (`docs/spec/admin.md`, section 5.1).
#[derive(Debug, Clone)]
pub struct PeerDeviceStatus {
    /// Over which connection.
    pub connection: ConnId,
    /// Sectors sent and received (`ns nr` are KiB of these).
    pub sent_sectors: u64,
    /// See `sent_sectors`.
    pub received_sectors: u64,
    /// Answers awaited from the peer (`pe:`).
    pub pending: u32,
    /// Acknowledgements owed to the peer (`ua:`).
    pub unacked: u32,
    /// Sectors of users' writes that are on their way to the peer, which has not said that it has them.
    pub writes_in_flight_sectors: u64,
    /// Sectors of a resync between its nodes: source: sent, and not acknowledged; target: asked for, and not on its disk.
    pub resync_in_flight_sectors: u64,
    /// A running resync or verify, either side.
    pub sync: Option<SyncProgress>,
}

/// A piece of a volume's bitmap: which blocks may differ from the peer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// Size of the device in sectors: there is a bit for every 8 of them that have begun.
    pub size_sectors: u64,
    /// The words from the one that was asked for on; none behind the last one. Bit 0 of a word is the first of its 64 blocks.
    pub words: Vec<u64>,
}

/// Requests of users while I/O is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrozenIo {
    /// How many wait.
    pub requests: u32,
    /// How long ago I/O was suspended: milliseconds.
    pub for_ms: u64,
}

/// Writes that wait for space on a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceWait {
    /// How many, of users, the peer, a resync and the metadata.
    pub writes: u32,
    /// How long ago the first of them met the full disk: milliseconds.
    pub for_ms: u64,
}

/// How far a resync is; blocks are 4 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncProgress {
    /// Blocks to do at the start.
    pub total_blocks: u64,
    /// Blocks still to do.
    pub left_blocks: u64,
    /// Blocks that could not be synced.
    pub failed_blocks: u64,
    /// Since the mark about 18 s ago: milliseconds.
    pub window_ms: u64,
    /// Since the same mark: blocks done.
    pub window_blocks: u64,
    /// Since the mark about 3 s ago: milliseconds.
    pub recent_ms: u64,
    /// Since the same mark: blocks done.
    pub recent_blocks: u64,
    /// Since the start, without pauses: milliseconds.
    pub elapsed_ms: u64,
    /// Pauses since the start: milliseconds.
    pub paused_ms: u64,
    /// Target: blocks that were found equal by their digest, and not sent.
    pub equal_blocks: u64,
    /// What the target's controller asks for, KiB/s; `None` on the source.
    pub want_kib: Option<u32>,
    /// What bounds its pace; `None` on the source, and while that is not known.
    pub limit: Option<Limit>,
    /// What a verify adds.
    pub verify: Option<VerifyProgress>,
}

/// Where a verify is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Its first sector.
    pub start_sector: u64,
    /// The one it stops at, on the side that drives it and if that is not the end.
    pub stop_sector: Option<u64>,
    /// Everything before this one, from the first on, has a result.
    pub position_sector: u64,
    /// Blocks that the peer has not served.
    pub skipped_blocks: u64,
}
