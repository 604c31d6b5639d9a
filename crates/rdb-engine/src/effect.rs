//! What the engine wants done: the only way out. The driver starts the effects of one event in order, before it
//! raises the next event.

use alloc::string::String;
use alloc::vec::Vec;

use replica_proto::{Digest, Packet, SnapshotName, WireContext};

use crate::event::Timer;
use crate::generation::GenerationIds;
use crate::handler::Handler;
use crate::ids::{AdminId, ConnId, HandlerId, IoTag, RequestId, SendTag, Time, VolumeNr};
use crate::state::{Role, StateError, VolumeState};

/// One thing to do.
#[derive(Debug)]
#[allow(missing_docs, reason = "the text of a variant names its fields")]
pub enum Effect<P> {
    /// Read the data disk into a fresh payload; answered by `DiskDone`.
    Read {
        volume: VolumeNr,
        tag: IoTag,
        sector: u64,
        bytes: u32,
        whose: ReadFor,
    },
    /// Write the data disk. `fua`: durable when answered.
    Write {
        volume: VolumeNr,
        tag: IoTag,
        sector: u64,
        payload: P,
        fua: bool,
    },
    /// Make every write of the data disk answered so far durable.
    Flush { volume: VolumeNr, tag: IoTag },
    /// Discard or zero a range of the data disk. When answered with success the range is as `kind` says; a disk that
    /// cannot unmap is written with zeroes.
    Discard {
        volume: VolumeNr,
        tag: IoTag,
        sector: u64,
        bytes: u32,
        kind: DiscardKind,
    },
    /// Read `bytes` at an absolute sector of the metadata device.
    MetaRead {
        volume: VolumeNr,
        tag: IoTag,
        sector: u64,
        bytes: u32,
    },
    /// Write the metadata device at an absolute sector. `preflush`: everything answered on that device before is made
    /// durable first; `fua`: durable when answered.
    MetaWrite {
        volume: VolumeNr,
        tag: IoTag,
        sector: u64,
        data: Vec<u8>,
        preflush: bool,
        fua: bool,
    },
    /// Carry out again what has met a full disk (`Event::NoSpace`), from where it stopped; answered as before.
    RetryIo { tag: IoTag },
    /// Keep it no longer: it ends with the error that it met.
    GiveUpIo { tag: IoTag },
    /// The engine has no more use for the disk and nothing of it is outstanding, but perhaps a `MetaRead` of an attach that
    /// was given up by force: close it.
    CloseDisk { volume: VolumeNr },

    /// Do something with a connection.
    Connection(ConnId, ConnEffect<P>),

    /// A front-end request ended; a read brings its payload.
    Complete {
        request: RequestId,
        result: Result<Option<P>, RequestError>,
    },
    /// The device can be used (`Some`) or not any more (`None`); a size change is a new `Some`.
    Device {
        volume: VolumeNr,
        device: Option<DeviceSpec>,
    },

    /// An administrative command ended.
    AdminDone {
        id: AdminId,
        result: Result<(), AdminError>,
    },
    /// Raise `Event::Timer` at this time; setting it again moves it.
    SetTimer { timer: Timer, at: Time },
    /// Do not raise it.
    ClearTimer { timer: Timer },

    /// Run a handler that is configured, and answer with `HandlerDone`. `volume`: for which one, `None` for the resource.
    /// `snapshot`: what it is told of the snapshot that it is run for.
    RunHandler {
        id: HandlerId,
        handler: Handler,
        volume: Option<VolumeNr>,
        snapshot: Option<SnapshotRun>,
    },
    /// End a handler that was asked for: nobody waits for it. `HandlerDone` comes all the same.
    EndHandler { id: HandlerId },

    /// For the log. `volume`: what it is about, `None` for the resource.
    Log {
        level: Level,
        volume: Option<VolumeNr>,
        text: String,
        cause: Cause,
    },
    /// A volume's state changed.
    StateChanged {
        volume: VolumeNr,
        old: VolumeState,
        new: VolumeState,
    },
    /// Something has happened to a volume that its history keeps, and that no change of state tells.
    Milestone { volume: VolumeNr, what: Milestone },
}

/// What the history of a volume keeps beside its changes of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone {
    /// A data generation begins on this disk: what it was called, and is called.
    Generation {
        /// Before.
        old: GenerationIds,
        /// Now.
        new: GenerationIds,
    },
    /// Both nodes have written apart.
    SplitBrain {
        /// This node, with the marks that it has told the peer of.
        own: Apart,
        /// The peer, as it has told.
        peer: Apart,
        /// An order or a policy has said whose data go; nobody has if it is false, and the connection is given up.
        solved: bool,
    },
}

/// One side of a split brain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Apart {
    /// Its identifiers.
    pub ids: GenerationIds,
    /// How many blocks are marked in its bitmap.
    pub blocks: u64,
    /// Its role now.
    pub role: Role,
}

/// What a run of the handler `snapshot` is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRun {
    /// The snapshot's name.
    pub name: SnapshotName,
    /// What the administrator of this node wants run instead of the handler. Never the peer's word.
    pub command: Option<String>,
}

/// What is done with a connection.
#[derive(Debug)]
#[allow(missing_docs, reason = "the text of a variant names its fields")]
pub enum ConnEffect<P> {
    /// Pair two sockets with the peer; answered by `Paired`. Until then retry for ever, and say by
    /// `PairingHindered` what is in the way.
    Open,
    /// Stop pairing, or send what is queued (within a second), then close both sockets. No event of the connection
    /// follows.
    Close,
    /// From now on encode and decode with this.
    SetWire(WireContext),
    /// Send a packet over the socket it belongs to, in order. `digest`: what goes between its fixed part and its
    /// payload, if data-integrity-alg is agreed. `notify`: answer with `Sent` when TCP has it all.
    Send {
        volume: VolumeNr,
        packet: Packet,
        digest: Option<Digest>,
        payload: Option<P>,
        notify: Option<SendTag>,
    },
}

/// For whom a block is read. Users and the peer each have buffers of their own, so that neither waits for those that the
/// other holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFor {
    /// A user of the device.
    User,
    /// The peer: it has asked for the block, or it is compared with what the peer has.
    Peer,
}

/// What a discard must leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscardKind {
    /// Give the space back if the disk can; zeroes afterwards in either case, so that both nodes read the same.
    Discard,
    /// Zeroes; space may be given back.
    ZeroesMayUnmap,
    /// Zeroes; space stays allocated.
    Zeroes,
}

/// Why a front-end request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// No copy could serve it.
    Io,
    /// It lies outside the device or has a bad length.
    Inval,
    /// The volume is not Primary here.
    NotPrimary,
}

/// What a front end must know of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Size in sectors.
    pub size_sectors: u64,
    /// Smallest unit of a request in bytes: 512 or 4096.
    pub logical_block_bytes: u32,
}

/// Who has brought a log line about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A command of this node's administrator. It is said in any case.
    Own,
    /// What can come as often as somebody else likes, a peer, a user, a disk that fails: many of a kind may be summed up.
    Others,
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Course of events.
    Info,
    /// Worth a look.
    Warn,
    /// Something failed.
    Error,
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of a variant names its fields")]
pub enum AdminError {
    /// A state rule forbids it (`docs/spec/behaviour.md`, section 2.8).
    #[error("State change failed: ({}) {}", .0.code(), .0)]
    State(StateError),
    /// Another refusal, with DRBD's number (`docs/spec/admin.md`, section 4.3) and what is known beyond it.
    #[error("Failure: ({code}) {info}")]
    Refused { code: u16, info: String },
    /// Another failure, for which DRBD has no number.
    #[error("{info}")]
    Unnumbered { info: String },
    /// Its caller has gone before it was done.
    #[error("taken back")]
    Withdrawn,
}

impl AdminError {
    /// A refusal with DRBD's number; the text for the number is the front's, `info` is what is known beyond it.
    pub fn refused(code: u16, info: impl Into<String>) -> AdminError {
        AdminError::Refused {
            code,
            info: info.into(),
        }
    }

    /// A failure for which DRBD has no number.
    pub fn unnumbered(info: impl Into<String>) -> AdminError {
        AdminError::Unnumbered { info: info.into() }
    }
}
