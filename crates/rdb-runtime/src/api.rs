//! What is passed between a resource's thread and whoever started it: plain data.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use rdb_engine::config::{DiskOptions, NetOptions};
use rdb_engine::state::VolumeState;
use rdb_engine::{
    AdminError, DeviceSpec, Handler, HandlerId, Level, Marks, Milestone, ResourceStatus,
    SnapshotRun, VolumeNr,
};
use rdb_frontend::fuse::left::LeftSessions;
use rdb_frontend::{Frontend, FrontendError};

use crate::challenges::Challenges;
use crate::process::CoreDumps;

/// What a resource's thread is started with.
#[derive(Clone, Debug)]
pub struct ResourceConfig {
    /// The resource's name: names its sockets too, so it is not empty and has no `/`.
    pub name: String,
    /// Where sockets and mounts are made, `/run/rdb` by default.
    pub run_dir: PathBuf,
    /// Which front end serves the devices beside the NBD socket.
    pub frontend: Frontend,
    /// `max-buffers` to begin with, 4 KiB pages: the buffers are taken at start. A connection that has more of them
    /// configured gets more when it is configured.
    pub max_buffers: u32,
    /// How long the thread looks for completions before it sleeps, while it has work; zero never does.
    pub busy_poll: Duration,
    /// How many connections a new device of the kernel's NBD client gets, from 1 to [`rdb_frontend::knbd::CONNECTIONS_MAX`].
    pub nbd_connections: u32,
    /// Volumes whose devices the process before handed over in an orderly way, with the current generation identifier
    /// that their users know. Others are taken over only if their disk crashed as Primary.
    pub inherited: Vec<(VolumeNr, u64)>,
    /// FUSE sessions that the process before has left, and those that are left for the next one.
    pub left_sessions: LeftSessions,
    /// The challenges of this process, the same for all its resources.
    pub challenges: Challenges,
    /// Whether its buffers, which hold users' data, are in a core dump if there is one.
    pub core_dumps: CoreDumps,
}

/// Why a resource's thread cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The name cannot name a socket.
    #[error("{name:?} cannot be a resource's name: it names files too")]
    Name {
        /// As given.
        name: String,
    },
    /// The front end cannot be had.
    #[error(transparent)]
    Frontend(#[from] FrontendError),
    /// The system refuses something.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

/// Where a volume's metadata is (`docs/spec/metadata.md`, section 1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaLocation {
    /// At the end of the data device.
    Internal,
    /// On a device of its own.
    Flexible(PathBuf),
    /// In a numbered slot of a device for several volumes.
    Indexed(PathBuf, u32),
}

/// Which disk a volume is to have.
#[derive(Clone, Debug)]
pub struct AttachRequest {
    /// The volume.
    pub volume: VolumeNr,
    /// A block device or a plain file.
    pub data_path: PathBuf,
    /// Its metadata.
    pub meta: MetaLocation,
    /// The engine's options of the disk.
    pub options: DiskOptions,
}

/// How the peer is reached. The options of the sockets are `docs/spec/wire.md`, section 1.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Listened on; outgoing connections come from its IP address.
    pub local: SocketAddr,
    /// Connected to; accepted connections come from its IP address.
    pub peer: SocketAddr,
    /// The engine's options of the connection.
    pub options: NetOptions,
    /// Give up own changes after split brain.
    pub discard_my_data: bool,
    /// A dry run: look what would happen and disconnect.
    pub tentative: bool,
    /// `sndbuf-size`; 0 leaves it to the system.
    pub sndbuf_bytes: u32,
    /// `rcvbuf-size`; 0 leaves it to the system.
    pub rcvbuf_bytes: u32,
    /// `socket-check-timeout`, 0.1 s; 0 stands for `ping-timeout`.
    pub socket_check_timeout_ds: u32,
    /// `tcp-cork`: tell TCP when more follows at once.
    pub tcp_cork: bool,
}

/// What a resource tells of itself, in the order in which it happens. Called on the resource's thread: be quick.
#[derive(Clone, Debug)]
pub enum Notice {
    /// For the log.
    Log {
        /// How loud.
        level: Level,
        /// What it is about, `None` for the resource.
        volume: Option<VolumeNr>,
        /// The line.
        text: String,
    },
    /// A handler is to be run; [`ResourceHandle::handler_done`](crate::ResourceHandle::handler_done) says how it ended.
    RunHandler {
        /// Which run.
        id: HandlerId,
        /// Which handler.
        handler: Handler,
        /// For which volume, `None` for the resource.
        volume: Option<VolumeNr>,
        /// The snapshot that it is run for, if it is run for one.
        snapshot: Option<SnapshotRun>,
    },
    /// A handler that was asked for is to be ended; nobody waits for it. Its end is told as ever.
    EndHandler {
        /// Which run.
        id: HandlerId,
    },
    /// A volume's state changed.
    StateChanged {
        /// Which.
        volume: VolumeNr,
        /// Before.
        old: VolumeState,
        /// Now.
        new: VolumeState,
    },
    /// Something has happened to a volume that its history keeps.
    Milestone {
        /// Which.
        volume: VolumeNr,
        /// What.
        what: Milestone,
    },
    /// The device can be used; again with every change of its size.
    DeviceUp {
        /// Which.
        volume: VolumeNr,
        /// Its size.
        spec: DeviceSpec,
        /// Its node, `None` if there is the NBD socket only.
        node: Option<PathBuf>,
    },
    /// The front end could not make the device. If there is a `DeviceUp` without a node after it, there is the NBD socket.
    NoDevice {
        /// Which.
        volume: VolumeNr,
        /// Why.
        reason: String,
    },
    /// The device cannot be used any more, and its node is to be given back: that begins when `unnamed` is dropped, or a few seconds
    /// later. Whoever opened it by a name meanwhile would keep it from going, and a moment later the node's number is perhaps
    /// somebody else's.
    DeviceGoing {
        /// Which.
        volume: VolumeNr,
        /// To be dropped when no name leads to the node any more.
        unnamed: Sender<()>,
    },
    /// The device cannot be used any more and its node is given back.
    DeviceDown {
        /// Which.
        volume: VolumeNr,
    },
    /// A FUSE session has begun, with its connection, or has ended.
    Session {
        /// Its name, see [`rdb_frontend::fuse::left::identity`].
        identity: String,
        /// The connection, as long as it is served.
        connection: Option<Arc<OwnedFd>>,
    },
    /// The thread has ended: after [`ResourceHandle::stop`](crate::ResourceHandle::stop), or for this reason.
    Stopped {
        /// What went wrong, if something did.
        failure: Option<String>,
    },
}

/// Takes the answer to a command, on the resource's thread.
pub type Reply = Box<dyn FnOnce(Result<(), AdminError>) + Send>;

/// Takes a status, on the resource's thread.
pub type StatusReply = Box<dyn FnOnce(ResourceStatus) + Send>;

/// Words of a bitmap that are told at a time: 256 KiB, which stand for 8 GiB of the device. They are copied by the resource's
/// thread, which has users to serve.
pub const MARKS_WORDS: usize = 32 * 1024;

/// Takes a piece of a bitmap, on the resource's thread; nothing without a disk.
pub type MarksReply = Box<dyn FnOnce(Option<Marks>) + Send>;

/// Who uses a volume's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceUse {
    /// Which.
    pub volume: VolumeNr,
    /// Clients of the NBD socket.
    pub clients: usize,
    /// Somebody has mounted or opened the device node.
    pub is_held: bool,
    /// The device node stays when this process ends, and its users wait for the next one.
    pub outlives: bool,
    /// It stays when this process becomes another program.
    pub can_be_handed_over: bool,
}

/// Takes what is known of the users, on another thread.
pub type UseReply = Box<dyn FnOnce(Vec<DeviceUse>) + Send>;

/// A command that was given, so that it can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

impl Ticket {
    pub(crate) fn next() -> Ticket {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Ticket(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A reply, and by which ticket its command is taken back.
pub(crate) struct Caller {
    pub(crate) ticket: Ticket,
    pub(crate) reply: Reply,
}
