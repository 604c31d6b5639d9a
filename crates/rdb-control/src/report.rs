//! What the daemon reports. States are DRBD's words (`docs/spec/behaviour.md`, section 1).

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::reason::ReasonReport;
use rdb_config::{DiskOptions, MetaDisk, NetOptions, ResourceOptions};
use serde::{Deserialize, Serialize};

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol version that the daemon speaks.
    pub protocol: u32,
    /// `rdbd`.
    pub program: String,
    /// Its version.
    pub version: String,
    /// The node's name.
    pub node: String,
    /// Its process id.
    pub pid: u32,
    /// When it was started: another number means another daemon, whatever its process id. 0 from one that does not tell.
    #[serde(default)]
    pub instance: u64,
}

/// How far a daemon has taken over from the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeoverReport {
    /// A program was to replace this one, and did not come to serve: why.
    #[serde(default)]
    pub returned: Option<String>,
    /// Nothing is under way any more.
    pub done: bool,
    /// What there is to tell of resources that are not as they were.
    pub problems: Vec<String>,
    /// The volumes that were Primary.
    pub volumes: Vec<VolumeTakeover>,
}

/// What became of a volume that was Primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeTakeover {
    /// The resource.
    pub resource: String,
    /// Volume number.
    pub volume: u16,
    /// Minor number.
    pub minor: u32,
    /// Where it stands.
    pub outcome: TakeoverOutcome,
    /// The device node, if it has one.
    pub device: Option<PathBuf>,
    /// How long requests waited, in milliseconds, if that is known and over.
    pub pause_ms: Option<u64>,
}

/// Where a volume that was Primary stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TakeoverOutcome {
    /// Not yet Primary again; why, if it was refused.
    Waiting(Option<String>),
    /// Primary again.
    Primary,
    /// It stays Secondary, for this reason.
    GivenUp(String),
}

/// Everything that runs, at one instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The node's name.
    pub node: String,
    /// The resources in the order of their creation.
    pub resources: Vec<ResourceReport>,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceReport {
    /// Its name.
    pub name: String,
    /// The connection's state: `StandAlone` to `WFReportParams`.
    pub connection: String,
    /// `A`, `B` or `C` while the net is configured.
    pub protocol: Option<char>,
    /// Own address while the net is configured.
    pub local: Option<SocketAddr>,
    /// The peer's address while the net is configured.
    pub peer: Option<SocketAddr>,
    /// Open epochs at the mirror side.
    pub epochs: u32,
    /// Its volumes, ascending.
    pub volumes: Vec<VolumeReport>,
    /// Why there is no connection, if there is none; or why there would be none again (settings that differ by now).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_reason: Option<ReasonReport>,
    /// It does not run, though it is configured; nothing else in here tells of it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedReport>,
}

/// Why a resource does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedReport {
    /// What happened.
    pub reason: String,
    /// What there is to be done.
    pub advice: String,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeReport {
    /// Volume number.
    pub volume: u16,
    /// Minor number.
    pub minor: u32,
    /// Own role.
    pub role: String,
    /// The peer's role.
    pub peer_role: String,
    /// The volume's connection state, all of DRBD's words.
    pub cstate: String,
    /// Own disk state.
    pub disk: String,
    /// The peer's disk state.
    pub peer_disk: String,
    /// Why I/O is suspended: `user`, `no-data`, `fencing`; empty if it runs.
    pub suspended: Vec<String>,
    /// Why a resync is paused: `user`, `peer`, `dependency`; empty if it is not.
    pub resync_suspended: Vec<String>,
    /// The six flag characters of the status file, `r-----`.
    pub flags: String,
    /// The device that users open while the node is Primary, if the front end makes one.
    pub device: Option<PathBuf>,
    /// Size of the device in KiB; 0 while unknown.
    pub size_kib: u64,
    /// Sent to the peer, KiB.
    pub sent_kib: u64,
    /// Received from the peer, KiB.
    pub received_kib: u64,
    /// Written to the local disk, KiB.
    pub written_kib: u64,
    /// Read from the local disk, KiB.
    pub read_kib: u64,
    /// Activity-log writes.
    pub al_writes: u64,
    /// Bitmap writes.
    pub bm_writes: u64,
    /// Local requests in flight.
    pub local_pending: u32,
    /// Answers awaited from the peer.
    pub peer_pending: u32,
    /// Acknowledgements owed to the peer.
    pub unacked: u32,
    /// Front-end requests in flight.
    pub application_pending: u32,
    /// `f`, `d` or `n`.
    pub write_ordering: char,
    /// Activity-log updates are suspended.
    pub al_suspended: bool,
    /// Out of sync, KiB.
    pub out_of_sync_kib: u64,
    /// Writes that wait for space on a full disk, if there are any.
    #[serde(default)]
    pub no_space: Option<NoSpaceReport>,
    /// A running resync.
    pub sync: Option<SyncReport>,
    /// Why the disk is not UpToDate, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_reason: Option<ReasonReport>,
    /// Why a resync is paused, or no faster than it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync_reason: Option<ReasonReport>,
}

/// Writes that wait for space on a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoSpaceReport {
    /// How many.
    pub writes: u32,
    /// How long ago the first of them met the full disk, milliseconds.
    pub for_ms: u64,
}

/// A running resync. Times are milliseconds, amounts KiB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SyncReport {
    /// To do at the start.
    pub total_kib: u64,
    /// Still to do.
    pub left_kib: u64,
    /// Could not be synced.
    pub failed_kib: u64,
    /// Since the mark about 18 s ago.
    pub window_ms: u64,
    /// Done since that mark.
    pub window_kib: u64,
    /// Since the start, without pauses.
    pub elapsed_ms: u64,
    /// The rate that the controller of the target asks for, KiB/s.
    pub want_kib: Option<u32>,
    /// How much is done, in thousandths, as the status file says it.
    #[serde(default)]
    pub done_permille: u64,
    /// KiB/s over the window.
    #[serde(default)]
    pub rate_kib: u64,
    /// KiB/s since the start.
    #[serde(default)]
    pub average_kib: u64,
    /// Seconds to go at the window's rate.
    #[serde(default)]
    pub left_s: u64,
}

/// Generation identifiers of an attached volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiReport {
    /// Current, bitmap, and two of history.
    pub uuids: [u64; 4],
    /// Metadata flags (`docs/spec/metadata.md`, section 2.3).
    pub flags: u32,
}

/// The end of a wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitReport {
    /// What was waited for is there; else the time was over.
    pub reached: bool,
}

/// How a resource is configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceShown {
    /// Its name.
    pub name: String,
    /// Its own options.
    pub options: ResourceOptions,
    /// The connection, unless StandAlone.
    pub connection: Option<ConnectionShown>,
    /// Its volumes, ascending.
    pub volumes: Vec<VolumeShown>,
}

impl ResourceShown {
    /// Puts stars in the place of the secret.
    pub fn hide_secrets(&mut self) {
        let net = self
            .connection
            .as_mut()
            .map(|connection| &mut connection.net);
        if let Some(secret) = net.and_then(|net| net.shared_secret.as_mut()) {
            *secret = HIDDEN.to_owned();
        }
    }
}

/// What stands in the place of a secret.
const HIDDEN: &str = "*****";

/// How a connection is configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionShown {
    /// Own address.
    pub local: SocketAddr,
    /// The peer's.
    pub peer: SocketAddr,
    /// The net options.
    pub net: NetOptions,
}

/// How a volume is configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeShown {
    /// Volume number.
    pub volume: u16,
    /// Minor number.
    pub minor: u32,
    /// It has no number in the configuration.
    #[serde(default)]
    pub implicit: bool,
    /// The disk, if one is attached.
    pub disk: Option<DiskShown>,
}

/// How a disk is configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiskShown {
    /// The data device.
    pub data: PathBuf,
    /// Where the metadata lies.
    pub meta: MetaDisk,
    /// The disk options.
    pub options: DiskOptions,
}
