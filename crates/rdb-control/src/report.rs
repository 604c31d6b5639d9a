//! What the daemon reports. On the socket states are DRBD's words (`docs/spec/behaviour.md`, section 1).

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::handler::{HandlerReport, HandlersShown};
use crate::latency::LatencyReport;
use crate::reason::ReasonReport;
use rdb_config::{DiskOptions, MetaDisk, NetOptions, ResourceOptions};
use replica_proto::state::{ConnState, DiskState, Role};
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
    #[serde(with = "word")]
    pub connection: ConnState,
    /// `A`, `B` or `C` while the net is configured.
    pub protocol: Option<char>,
    /// Own address while the net is configured.
    pub local: Option<SocketAddr>,
    /// The peer's address while the net is configured.
    pub peer: Option<SocketAddr>,
    /// Open epochs at the mirror side.
    pub epochs: u32,
    /// For how long the peer has owed an answer to the oldest request, milliseconds; 0 if it owes none.
    #[serde(default)]
    pub owed_ms: u64,
    /// Its volumes, ascending.
    pub volumes: Vec<VolumeReport>,
    /// Why there is no connection, if there is none; or why there would be none again (settings that differ by now).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_reason: Option<ReasonReport>,
    /// Why the next daemon would not know of it as it is, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_reason: Option<ReasonReport>,
    /// What the daemon does instead of serving on, if so: it was told to end, and waits for users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon_reason: Option<ReasonReport>,
    /// Why requests of users wait, if I/O is suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_reason: Option<ReasonReport>,
    /// The last run of each handler that has been called for, for each volume.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handlers: Vec<HandlerReport>,
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
    #[serde(with = "word")]
    pub role: Role,
    /// The peer's role.
    #[serde(with = "word")]
    pub peer_role: Role,
    /// The volume's connection state; `None` if the resource does not run although it is configured.
    #[serde(with = "cstate")]
    pub cstate: Option<ConnState>,
    /// Own disk state.
    #[serde(with = "word")]
    pub disk: DiskState,
    /// The peer's disk state.
    #[serde(with = "word")]
    pub peer_disk: DiskState,
    /// Why I/O is suspended; empty if it runs.
    pub suspended: Vec<Suspension>,
    /// Why a resync is paused; empty if it is not.
    pub resync_suspended: Vec<Pause>,
    /// The six flag characters of the status file, `r-----`.
    pub flags: String,
    /// The device that users open while the node is Primary, if the front end makes one.
    pub device: Option<PathBuf>,
    /// The data device of the disk, while one is attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<PathBuf>,
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
    /// Users' writes that are on their way to the peer, KiB.
    #[serde(default)]
    pub ap_in_flight_kib: u64,
    /// What of a resync is between its nodes, KiB.
    #[serde(default)]
    pub rs_in_flight_kib: u64,
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
    /// Why a Primary has no device, or none with a node, if there is to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_reason: Option<ReasonReport>,
    /// Why a resync is paused, or no faster than it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync_reason: Option<ReasonReport>,
    /// How long its users' requests took, and where.
    #[serde(default)]
    pub latency: LatencyReport,
}

impl VolumeReport {
    /// A volume of which nothing is known but its numbers.
    pub fn unknown(volume: u16, minor: u32) -> VolumeReport {
        VolumeReport {
            volume,
            minor,
            role: Role::Unknown,
            peer_role: Role::Unknown,
            cstate: None,
            disk: DiskState::DUnknown,
            peer_disk: DiskState::DUnknown,
            suspended: Vec::new(),
            resync_suspended: Vec::new(),
            flags: "------".to_owned(),
            device: None,
            backing: None,
            size_kib: 0,
            sent_kib: 0,
            received_kib: 0,
            written_kib: 0,
            read_kib: 0,
            al_writes: 0,
            bm_writes: 0,
            local_pending: 0,
            peer_pending: 0,
            unacked: 0,
            application_pending: 0,
            ap_in_flight_kib: 0,
            rs_in_flight_kib: 0,
            write_ordering: 'n',
            al_suspended: false,
            out_of_sync_kib: 0,
            no_space: None,
            sync: None,
            disk_reason: None,
            device_reason: None,
            resync_reason: None,
            latency: LatencyReport::default(),
        }
    }

    /// How much of the device is in sync with the peer's.
    pub fn in_sync_percent(&self) -> f64 {
        if self.size_kib == 0 {
            return 100.0;
        }
        100.0 * (1.0 - self.out_of_sync_kib as f64 / self.size_kib as f64)
    }

    /// Sets what is suspended: I/O by the administrator, for want of data, until the peer is fenced; the resync by the administrator,
    /// by the peer, by a dependency.
    pub fn set_flags(&mut self, io: [bool; 3], resync: [bool; 3]) {
        self.suspended = those_set(io, Suspension::ALL);
        self.resync_suspended = those_set(resync, Pause::ALL);
    }

    /// The word for the volume's connection state.
    pub fn cstate_word(&self) -> &'static str {
        self.cstate.map_or(FAILED, ConnState::as_str)
    }
}

fn those_set<T>(are_set: [bool; 3], reasons: [T; 3]) -> Vec<T> {
    let both = are_set.into_iter().zip(reasons);
    both.filter_map(|(is_set, reason)| is_set.then_some(reason))
        .collect()
}

/// What stands for the connection's state of a resource that does not run.
pub const FAILED: &str = "Failed";

/// Why I/O is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suspension {
    /// The administrator wants it.
    User,
    /// No UpToDate data are reachable.
    NoData,
    /// The peer is being fenced.
    Fencing,
}

impl Suspension {
    /// All of them.
    pub const ALL: [Suspension; 3] = [Suspension::User, Suspension::NoData, Suspension::Fencing];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Suspension::User => "user",
            Suspension::NoData => "no-data",
            Suspension::Fencing => "fencing",
        }
    }
}

/// Why a resync is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pause {
    /// `pause-sync` on this node.
    User,
    /// The peer says so.
    Peer,
    /// Another resync goes first.
    Dependency,
}

impl Pause {
    /// All of them.
    pub const ALL: [Pause; 3] = [Pause::User, Pause::Peer, Pause::Dependency];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Pause::User => "user",
            Pause::Peer => "peer",
            Pause::Dependency => "dependency",
        }
    }
}

/// A state as DRBD's word.
pub(crate) mod word {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        state: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(state)
    }

    pub(crate) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The same, with a word of our own for a resource that does not run.
mod cstate {
    use replica_proto::state::ConnState;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::FAILED;

    pub(super) fn serialize<S: Serializer>(
        state: &Option<ConnState>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(state.map_or(FAILED, ConnState::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<ConnState>, D::Error> {
        let word = String::deserialize(from)?;
        if word == FAILED {
            return Ok(None);
        }
        word.parse().map(Some).map_err(D::Error::custom)
    }
}

/// Writes that wait for space on a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoSpaceReport {
    /// How many.
    pub writes: u32,
    /// How long ago the first of them met the full disk, milliseconds.
    pub for_ms: u64,
}

/// A running resync or verify. Times are milliseconds, amounts KiB.
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
    /// Since the mark about 3 s ago.
    #[serde(default)]
    pub recent_ms: u64,
    /// Done since that mark.
    #[serde(default)]
    pub recent_kib: u64,
    /// Since the start, without pauses.
    pub elapsed_ms: u64,
    /// Pauses since the start.
    #[serde(default)]
    pub paused_ms: u64,
    /// Found equal by their digests, and not sent.
    #[serde(default)]
    pub equal_kib: u64,
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
    /// What a verify adds.
    #[serde(default)]
    pub verify: Option<VerifyReport>,
}

/// A running verify, in sectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Its first one.
    pub start: u64,
    /// The one it stops before; nothing if that is the device's end, or only the peer knows.
    pub stop: Option<u64>,
    /// What lies before this one, from the first on, has been compared.
    pub position: u64,
    /// Could not be compared, as the peer has not served it.
    pub skipped: u64,
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
    /// Its handlers; none from a daemon that does not tell.
    #[serde(default)]
    pub handlers: HandlersShown,
    /// The connection, unless StandAlone.
    pub connection: Option<ConnectionShown>,
    /// Its volumes, ascending.
    pub volumes: Vec<VolumeShown>,
}

impl ResourceShown {
    /// Puts stars in the place of the secret, and of handlers' commands: a password for whatever fences may be among their words.
    pub fn hide_secrets(&mut self) {
        for command in self.handlers.commands.values_mut() {
            *command = HIDDEN.to_owned();
        }
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
    /// Its device has the name `/dev/nbN`, too.
    #[serde(default)]
    pub old_name: bool,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_secret_nor_a_handlers_command_is_shown_to_who_only_asks() {
        let mut shown = ResourceShown {
            name: "r0".to_owned(),
            options: ResourceOptions::default(),
            handlers: HandlersShown {
                commands: [("fence-peer".to_owned(), "ipmi -P hush".to_owned())].into(),
                ..HandlersShown::default()
            },
            connection: Some(ConnectionShown {
                local: "127.0.0.1:1".parse().unwrap(),
                peer: "127.0.0.1:2".parse().unwrap(),
                net: NetOptions {
                    shared_secret: Some("hush".to_owned()),
                    ..NetOptions::default()
                },
            }),
            volumes: Vec::new(),
        };
        shown.hide_secrets();
        let text = serde_json::to_string(&shown).unwrap();
        assert!(!text.contains("hush"), "{text}");
        assert!(text.contains("fence-peer"), "{text}");
    }
}
