//! What happens to a resource: the only way in. Every event is handled at once and completely by
//! [`Resource::handle`](crate::Resource::handle); what follows from it are [`Effect`](crate::Effect)s.

use alloc::string::String;
use alloc::vec::Vec;

use rdb_meta::MetaKind;
use replica_proto::{Digest, DigestAlgorithm, Packet, SnapshotName, Socket};

use crate::config::{DiskOptions, NetOptions, ResourceOptions};
use crate::ids::{AdminId, ConnId, HandlerId, IoTag, RequestId, SendTag, VolumeNr};

/// Block data, which the engine passes along and never reads. Cloning shares it.
pub trait Payload: Clone {
    /// Length in bytes; a multiple of 512.
    fn len_bytes(&self) -> u32;

    /// The digest of the whole payload (data-integrity-alg, csums-alg, verify-alg).
    fn digest(&self, algorithm: DigestAlgorithm) -> Digest;
}

/// One thing that happened.
#[derive(Debug)]
#[allow(missing_docs, reason = "the text of a variant names its fields")]
pub enum Event<P> {
    /// A front end asks. The driver has checked that it lies inside the device, is a multiple of 512 bytes, and is at
    /// most [`REQUEST_MAX_BYTES`](crate::REQUEST_MAX_BYTES) (reads, writes) or
    /// [`DISCARD_MAX_BYTES`](crate::DISCARD_MAX_BYTES) long; the engine checks again and answers `Inval`.
    Request(Request<P>),
    /// A `Read`, `Write`, `Flush` or `Discard` of the data disk ended; a read brings its payload.
    DiskDone {
        tag: IoTag,
        result: Result<Option<P>, DiskError>,
    },
    /// A `MetaRead` (with its bytes) or `MetaWrite` ended.
    MetaDone {
        tag: IoTag,
        result: Result<Vec<u8>, DiskError>,
    },
    /// A `Write` or `Discard` of the data disk, or the write of a `MetaWrite`, met a full disk
    /// ([`DiskError::is_no_space`]). It has not ended: the driver keeps it until it hears `RetryIo` or `GiveUpIo`. It may
    /// be raised again for another part of the same operation. Never for a flush, nor for one that is part of a write.
    NoSpace { tag: IoTag, error: DiskError },
    /// Something happened to a connection.
    Connection(ConnId, ConnEvent<P>),
    /// A timer set with `SetTimer` expired; it is cleared by that.
    Timer(Timer),
    /// The administrator commands; answered by exactly one `AdminDone`, possibly much later.
    Admin { id: AdminId, command: Command },
    /// A handler that was asked for has ended with this exit code, 0..=255; one that could not be started, or was killed, counts
    /// as what a shell says of it: 126, 127, or 128 and the signal.
    HandlerDone { id: HandlerId, exit: i32 },
    /// Who gave the command does not wait any more. It ends with `AdminError::Withdrawn`, or goes on where that would leave
    /// things by halves; what is done already is ignored.
    Withdraw { id: AdminId },
}

/// What happens to a connection.
#[derive(Debug)]
#[allow(missing_docs, reason = "the text of a variant names its fields")]
pub enum ConnEvent<P> {
    /// Both sockets stand and have settled (`docs/spec/wire.md`, section 1.3). `resolve_conflicts`: this node accepted
    /// the meta socket. `called`: it accepted the data socket: it does not know who has called. `challenge`: 64 fresh
    /// random bytes for authentication.
    Paired {
        resolve_conflicts: bool,
        called: bool,
        challenge: [u8; 64],
    },
    /// Raised instead of `Received` for a P_AUTH_CHALLENGE that begins with one of this process's own that is
    /// outstanding, on whatever connection of whatever resource: who answered it would answer for a stranger.
    ChallengeReflected,
    /// What is in the way of a pair, and that it is not any more (`None`). The driver goes on trying in either case.
    PairingHindered(Option<Hindrance>),
    /// One packet, complete: `digest` is the one carried beside a payload, if data-integrity-alg is agreed.
    Received {
        volume: u16,
        packet: Packet,
        digest: Option<Digest>,
        payload: Option<P>,
    },
    /// A socket ended, or what came over it was no DRBD; the driver reads neither socket any more.
    Lost { socket: Socket, cause: LossCause },
    /// The packet sent with this tag has been handed to the local TCP stack in full.
    Sent { tag: SendTag },
    /// The socket has had unsent bytes for a whole `timeout` (net option) without taking one; repeated each `timeout`.
    SendStalled { socket: Socket },
}

/// A front end's request. Sector and length are in the device's own addresses.
#[derive(Debug)]
pub struct Request<P> {
    /// Echoed in the completion.
    pub id: RequestId,
    /// Which device.
    pub volume: VolumeNr,
    /// First 512-byte sector; 0 for a flush.
    pub sector: u64,
    /// Length in bytes; equals the payload's length for a write, 0 for a flush.
    pub bytes: u32,
    /// What is asked.
    pub kind: RequestKind<P>,
}

/// What a front end asks.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the text of a variant names its fields")]
pub enum RequestKind<P> {
    /// Completed with a payload of the length asked.
    Read,
    /// `fua`: durable when completed.
    Write { payload: P, fua: bool },
    /// Everything completed before is durable when this completes.
    Flush,
    /// The range may read as anything afterwards, the same on both nodes.
    Discard,
    /// The range reads as zeroes afterwards; `may_unmap`: space may be given back.
    WriteZeroes { may_unmap: bool },
}

impl<P> RequestKind<P> {
    /// What it is, and what it carries.
    pub(crate) fn split(self) -> (RequestKind<()>, Option<P>) {
        let kind = match self {
            RequestKind::Read => RequestKind::Read,
            RequestKind::Write { payload, fua } => {
                return (RequestKind::Write { payload: (), fua }, Some(payload));
            }
            RequestKind::Flush => RequestKind::Flush,
            RequestKind::Discard => RequestKind::Discard,
            RequestKind::WriteZeroes { may_unmap } => RequestKind::WriteZeroes { may_unmap },
        };
        (kind, None)
    }
}

/// What is in the way of pairing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the text of a variant names its fields")]
pub enum Hindrance {
    /// This node cannot listen at its address, or not call from it.
    OwnAddress { reason: String },
    /// Nobody answers where the peer should be.
    NoAnswer { reason: String },
}

/// Why a local I/O failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskError {
    /// The operating system's error number, positive; 0 for a short transfer.
    pub errno: i32,
}

impl DiskError {
    /// `ENOSPC`.
    pub const NO_SPACE: i32 = 28;
    /// `EDQUOT`: somebody's share is used up, to the same effect.
    pub const OVER_QUOTA: i32 = 122;

    /// Whether the disk is full, rather than broken.
    pub fn is_no_space(self) -> bool {
        matches!(self.errno, Self::NO_SPACE | Self::OVER_QUOTA)
    }
}

/// Why a socket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the text of a variant names its fields")]
pub enum LossCause {
    /// End of file or reset by the peer; `error` is the errno, 0 for end of file.
    Closed { error: i32 },
    /// The decoder refused what came: its words.
    BadPacket {
        error: String,
        unknown_command: bool,
    },
}

/// The engine's timers: one slot each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// One of a connection's.
    Connection(ConnId, ConnTimer),
    /// Changed metadata that nothing has forced out is written.
    MetadataSync(VolumeNr),
    /// An administrative command waits for a state to change or gives up.
    Admin,
    /// Writes that wait for space are tried again.
    NoSpace(VolumeNr),
    /// The oldest I/O of a disk may have been under way for `disk-timeout`.
    DiskTimeout(VolumeNr),
    /// A snapshot, from here or of the peer, has taken as long as it may.
    Snapshot,
}

/// The timers of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnTimer {
    /// Next attempt to connect after a soft failure.
    Reconnect,
    /// Features, authentication and first parameters must have arrived.
    Handshake,
    /// Time to ping an idle peer, or to find its answer missing.
    Keepalive,
    /// The oldest write, barrier or read that the peer has not answered may have waited `ko-count` times `timeout`.
    RequestTimeout,
    /// The oldest block of a resync or verify that waits for the peer may have waited as long: users may wait for it.
    BlockTimeout,
    /// The barrier of a closed epoch has waited long enough for a packet to go out with.
    Barrier,
    /// A received epoch is complete and waits to be flushed together with others.
    EpochFlush,
    /// One step of requesting, or one retry of a lock.
    ResyncStep(VolumeNr),
    /// A peer that was told of our lost disk has had long enough to record a new generation.
    LossUnrecorded(VolumeNr),
    /// A peer that was told of our disk has had long enough to say what it is worth.
    Negotiation(VolumeNr),
    /// The source of a full sync has had long enough to begin.
    SyncUuid(VolumeNr),
}

/// An administrator's command. Refusals are `docs/spec/behaviour.md`, section 12.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the text of a variant names its fields")]
pub enum Command {
    /// Adds a volume: Secondary, Diskless. `minor` appears in messages.
    NewVolume { volume: VolumeNr, minor: u32 },
    /// Removes a Diskless, Secondary volume.
    DelVolume { volume: VolumeNr },
    /// Attaches a disk that the driver has opened and measured.
    Attach {
        volume: VolumeNr,
        disk: DiskInfo,
        options: DiskOptions,
    },
    /// Detaches the disk; `force` does not wait for requests.
    Detach { volume: VolumeNr, force: bool },
    /// Configures the connection and starts to connect. Addresses are the driver's.
    Connect {
        options: NetOptions,
        discard_my_data: bool,
        tentative: bool,
    },
    /// Leaves the peer; `force` without asking it.
    Disconnect { force: bool },
    /// Makes the volume writable here.
    Primary { volume: VolumeNr, force: bool },
    /// Gives the volume up. `held_open`: the front end says that somebody uses the device.
    Secondary { volume: VolumeNr, held_open: bool },
    /// Declares the local data bad: full sync from the peer.
    Invalidate { volume: VolumeNr },
    /// Declares the peer's data bad: full sync to the peer.
    InvalidateRemote { volume: VolumeNr },
    /// Compares both copies, from this sector on (by default from where the last verify ended) up to that (by default the end).
    /// While a verify that was ordered here runs, only where it stops changes.
    Verify {
        volume: VolumeNr,
        start: Option<u64>,
        stop: Option<u64>,
    },
    /// Marks the local disk Outdated.
    Outdate { volume: VolumeNr },
    /// Starts a new data generation; `clear_bitmap` on two fresh connected disks skips the first sync.
    NewCurrentUuid {
        volume: VolumeNr,
        clear_bitmap: bool,
    },
    /// Pauses a resync, now or to come.
    PauseSync { volume: VolumeNr },
    /// Takes `PauseSync` back.
    ResumeSync { volume: VolumeNr },
    /// New disk options while attached (what cannot change is refused).
    DiskOptions {
        volume: VolumeNr,
        options: DiskOptions,
    },
    /// New net options while configured (what cannot change is refused).
    NetOptions { options: NetOptions },
    /// New options of the resource itself. Without it they are the defaults, and no handler is configured.
    ResourceOptions { options: ResourceOptions },
    /// Users' requests wait from now on, on all volumes of the resource. It ends when nothing that they have asked for before is
    /// under way any more, here or at the peer, and all of it is durable on both nodes.
    SuspendIo { volume: VolumeNr },
    /// They go on, for whatever reason they wait.
    ResumeIo { volume: VolumeNr },
    /// Has handlers take a snapshot of the disks at one moment, while users' requests wait.
    Snapshot { wish: SnapshotWish },
}

/// A snapshot that an administrator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotWish {
    /// What it is called, on both nodes.
    pub name: SnapshotName,
    /// What is run here instead of the handler `snapshot`; passed along with the effect, and never read.
    pub command: Option<String>,
    /// How long all of it may take, 1 to [`SNAPSHOT_LIMIT_MAX_MS`](replica_proto::SNAPSHOT_LIMIT_MAX_MS). Then I/O goes on.
    pub limit_ms: u32,
    /// The peer takes part; otherwise it is of this node's disks alone.
    pub with_peer: bool,
}

/// What the driver found out about a disk it opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskInfo {
    /// Where the metadata lies.
    pub kind: MetaKind,
    /// Capacity of the data device in sectors, metadata included if internal.
    pub data_capacity_sectors: u64,
    /// Capacity of the metadata device in sectors; equals the above if internal.
    pub meta_capacity_sectors: u64,
    /// Smallest unit the disk transfers directly, in bytes: 512 or 4096.
    pub logical_block_bytes: u32,
    /// The disk can give space back.
    pub can_discard: bool,
}
