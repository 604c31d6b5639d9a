//! What the daemon holds of a resource: a handle that talks to its thread.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdb_engine::config::{DiskOptions, NetOptions};
use rdb_engine::state::VolumeState;
use rdb_engine::{AdminError, Command, DeviceSpec, Level, Resource, ResourceStatus, VolumeNr};
use rdb_frontend::fuse::left::LeftSessions;
use rdb_frontend::{Frontend, FrontendError};

use crate::Engine;
use crate::challenges::Challenges;
use crate::disk::{OpenedDisk, open_disks};
use crate::event_loop::EventLoop;
use crate::frontend::fuse::FuseMessage;
use crate::frontend::knbd::KnbdMessage;
use crate::frontend::ublk::UblkMessage;
use crate::op::Op;
use crate::pool::{Growth, PoolSize};
use crate::process::CoreDumps;
use crate::ring::Remains;

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
    /// A volume's state changed.
    StateChanged {
        /// Which.
        volume: VolumeNr,
        /// Before.
        old: VolumeState,
        /// Now.
        new: VolumeState,
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
    /// The thread has ended: after [`ResourceHandle::stop`], or for this reason.
    Stopped {
        /// What went wrong, if something did.
        failure: Option<String>,
    },
}

/// Takes the answer to a command, on the resource's thread.
pub type Reply = Box<dyn FnOnce(Result<(), AdminError>) + Send>;

/// Takes a status, on the resource's thread.
pub type StatusReply = Box<dyn FnOnce(ResourceStatus) + Send>;

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
    fn next() -> Ticket {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Ticket(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A reply, and by which ticket its command is taken back.
pub(crate) struct Caller {
    pub(crate) ticket: Ticket,
    pub(crate) reply: Reply,
}

/// What the thread is told.
pub(crate) enum Message {
    Attach(AttachRequest, Result<OpenedDisk, AdminError>, Caller),
    Admin(Command, Caller),
    Connect(Box<ConnectRequest>, Caller),
    Withdraw(Ticket),
    Status(StatusReply),
    Fuse(FuseMessage),
    Ublk(UblkMessage),
    Knbd(KnbdMessage),
    Use(UseReply),
    /// More buffers are there, or are not to be had.
    Grown(Growth, io::Result<()>),
    Park(Vec<VolumeNr>),
    /// The server's end of a connection of the kernel's NBD client, without the driver and its device.
    #[cfg(test)]
    KernelClient(VolumeNr, OwnedFd),
    Stop,
}

/// Posts messages and wakes the thread.
#[derive(Clone)]
pub(crate) struct Mailbox {
    sender: Sender<Message>,
    bell: Arc<OwnedFd>,
}

impl Mailbox {
    /// Whether the thread still takes messages.
    pub(crate) fn post(&self, message: Message) -> bool {
        if self.sender.send(message).is_err() {
            return false;
        }
        self.ring_bell();
        true
    }

    fn ring_bell(&self) {
        // SAFETY: the descriptor is open. It cannot fail but by a counter near its end, which rings as well.
        unsafe { libc::eventfd_write(self.bell.as_raw_fd(), 1) };
    }
}

/// A resource's thread, from outside. Clones mean the same thread.
#[derive(Clone)]
pub struct ResourceHandle {
    mailbox: Mailbox,
    /// Its other end goes with the end of the thread's work.
    ended: Arc<Mutex<Receiver<Infallible>>>,
}

/// Held by a resource's thread as long as it has something to do for the resource.
struct AtWork(#[expect(dead_code, reason = "what counts is its end")] Sender<Infallible>);

impl Drop for AtWork {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a resource's thread has panicked");
        }
    }
}

/// `ERR_INVALID_REQUEST`, for a thread that is gone (`docs/spec/admin.md`, section 4.3).
const ERR_INVALID_REQUEST: u16 = 162;

impl ResourceHandle {
    /// Opens and measures the disks, then attaches them. Opening happens on a thread of its own; the resource goes
    /// on meanwhile. Refused with 104, 105 or 116 if the disks cannot be had, else with what the engine says.
    pub fn attach(&self, request: AttachRequest, reply: Reply) -> Ticket {
        let mailbox = self.mailbox.clone();
        let ticket = Ticket::next();
        let open = move || {
            let opened = open_disks(&request.data_path, &request.meta);
            post_command(
                &mailbox,
                Message::Attach(request, opened, Caller { ticket, reply }),
            );
        };
        if let Err(error) = std::thread::Builder::new()
            .name("rdb-attach".into())
            .spawn(open)
        {
            // The closure, and the reply in it, is gone: whoever waits sees that the reply was dropped.
            tracing::error!("no thread to open a disk: {error}");
        }
        ticket
    }

    /// Passes a command to the engine. `Attach` and `Connect` have methods of their own, which know more.
    /// `Secondary` is told whether somebody has the device open.
    pub fn admin(&self, command: Command, reply: Reply) -> Ticket {
        let ticket = Ticket::next();
        post_command(
            &self.mailbox,
            Message::Admin(command, Caller { ticket, reply }),
        );
        ticket
    }

    /// Takes a command back whose caller does not wait any more. Its reply is called with [`AdminError::Withdrawn`], unless
    /// the command is done; at once, but for one whose disk is being opened, which may take as long as the disk takes. It has
    /// no effect, or none beyond what it has had already: the engine says (`Event::Withdraw`).
    pub fn withdraw(&self, ticket: Ticket) {
        self.mailbox.post(Message::Withdraw(ticket));
    }

    /// Configures the connection and begins to connect.
    pub fn connect(&self, request: ConnectRequest, reply: Reply) -> Ticket {
        let ticket = Ticket::next();
        post_command(
            &self.mailbox,
            Message::Connect(Box::new(request), Caller { ticket, reply }),
        );
        ticket
    }

    /// Asks for a snapshot. If the thread has ended, `reply` is dropped unused.
    pub fn status(&self, reply: StatusReply) {
        self.mailbox.post(Message::Status(reply));
    }

    /// Asks who uses the devices. If the thread has ended, `reply` is dropped unused.
    pub fn device_use(&self, reply: UseReply) {
        self.mailbox.post(Message::Use(reply));
    }

    /// Prepares devices that outlive this process for the next one: their requests wait from now on, and `Secondary` does
    /// not ask who uses them. They stay when the thread ends.
    pub fn park(&self, volumes: Vec<VolumeNr>) {
        self.mailbox.post(Message::Park(volumes));
    }

    /// Serves a socket as a connection of the kernel's NBD client.
    #[cfg(test)]
    pub(crate) fn serve_kernel(&self, volume: VolumeNr, socket: OwnedFd) {
        self.mailbox.post(Message::KernelClient(volume, socket));
    }

    /// Ends the thread: sockets closed, devices given back, disks closed. Does not wait.
    pub fn stop(&self) {
        self.mailbox.post(Message::Stop);
    }

    /// Waits until the thread has ended. It may go on for I/O of disks that hang, which nobody need wait for: see [`is_left`].
    ///
    /// [`is_left`]: crate::is_left
    pub fn join(&self) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent; the error is the end.
        let _ = ended.recv();
    }
}

/// Posts a message that carries a reply, which is answered in any case.
fn post_command(mailbox: &Mailbox, message: Message) {
    let Err(lost) = mailbox.sender.send(message) else {
        mailbox.ring_bell();
        return;
    };
    if let Message::Attach(_, _, caller) | Message::Admin(_, caller) | Message::Connect(_, caller) =
        lost.0
    {
        (caller.reply)(Err(AdminError::refused(
            ERR_INVALID_REQUEST,
            "the resource is being stopped",
        )));
    }
}

/// Starts a resource's thread with an engine of its own. `notices` is called on that thread.
///
/// # Errors
/// [`SpawnError`], also for what the thread finds out when it starts (no io_uring, no memory).
pub fn spawn(
    config: ResourceConfig,
    notices: impl Fn(Notice) + Send + 'static,
) -> Result<ResourceHandle, SpawnError> {
    let name = config.name.clone();
    spawn_engine(config, notices, move || {
        Resource::new(&name, Box::new(random))
    })
}

/// Bits for generation identifiers, from the system.
fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|error| {
        // A predictable identifier could make two histories look like one.
        panic!("the system gives no random numbers: {error}")
    })
}

pub(crate) fn spawn_engine<E: Engine>(
    mut config: ResourceConfig,
    notices: impl Fn(Notice) + Send + 'static,
    make: impl FnOnce() -> E + Send + 'static,
) -> Result<ResourceHandle, SpawnError> {
    if config.name.is_empty() || config.name.starts_with('.') || config.name.contains(['/', '\0']) {
        return Err(SpawnError::Name { name: config.name });
    }
    config.frontend = config.frontend.settle()?;
    // SAFETY: the call takes integers only.
    let bell = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if bell < 0 {
        return Err(SpawnError::Io {
            what: "eventfd",
            error: io::Error::last_os_error(),
        });
    }
    // SAFETY: `bell` was just made and belongs to nobody else.
    let bell = Arc::new(unsafe { OwnedFd::from_raw_fd(bell) });
    let (sender, messages) = channel();
    let mailbox = Mailbox {
        sender,
        bell: Arc::clone(&bell),
    };
    let inner = mailbox.clone();
    let (started, wait) = channel();
    let (at_work, ended) = channel();
    let at_work = AtWork(at_work);
    std::thread::Builder::new()
        .name(format!("rdb-{}", config.name))
        .spawn(move || {
            if let Some((name, remains)) = run(config, inner, messages, notices, make, &started) {
                drop(at_work);
                linger(&name, remains);
            }
        })
        .map_err(|error| SpawnError::Io {
            what: "starting a thread",
            error,
        })?;
    match wait.recv() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(error),
        Err(_) => {
            let error = io::Error::other("it ended at once");
            return Err(SpawnError::Io {
                what: "starting a thread",
                error,
            });
        }
    }
    Ok(ResourceHandle {
        mailbox,
        ended: Arc::new(Mutex::new(ended)),
    })
}

/// Serves a resource until it ends; what does not end with it, and its name.
fn run<E: Engine>(
    config: ResourceConfig,
    mailbox: Mailbox,
    messages: Receiver<Message>,
    notices: impl Fn(Notice) + Send + 'static,
    make: impl FnOnce() -> E,
    started: &Sender<Result<(), SpawnError>>,
) -> Option<(String, Remains<Op>)> {
    let name = config.name.clone();
    let size = PoolSize::for_max_buffers(config.max_buffers);
    let bell = match mailbox.bell.try_clone() {
        Ok(bell) => bell,
        Err(error) => {
            let _ = started.send(Err(SpawnError::Io {
                what: "eventfd",
                error,
            }));
            return None;
        }
    };
    let notices = std::rc::Rc::new(notices);
    let for_loop = std::rc::Rc::clone(&notices);
    let notify = Box::new(move |notice| for_loop(notice));
    let running = EventLoop::new(config, size, make(), mailbox, (messages, bell), notify);
    let mut running = match running {
        Ok(running) => running,
        Err(error) => {
            let _ = started.send(Err(SpawnError::Io {
                what: "io_uring and its buffers",
                error,
            }));
            return None;
        }
    };
    let _ = started.send(Ok(()));
    // A broken invariant of ours ends this resource, not the others. What was in memory is not trusted any more; the
    // peers and clients see closed sockets.
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| running.run()));
    let failure = match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("io_uring: {error}")),
        Err(panic) => Some(match panic.downcast_ref::<String>() {
            Some(words) => format!("broken invariant: {words}"),
            None => format!(
                "broken invariant: {}",
                panic.downcast_ref::<&str>().unwrap_or(&"no words")
            ),
        }),
    };
    // What is left of it may be as broken; its end is told in any case.
    let left = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| running.end()));
    let left = left.unwrap_or_else(|_| {
        tracing::error!("a resource's thread has panicked twice");
        None
    });
    notices(Notice::Stopped { failure });
    left.map(|remains| (name, remains))
}

/// Gives the disks back once they have answered.
fn linger(name: &str, remains: Remains<Op>) {
    let (all, of_disks) = (remains.count(), remains.held_count());
    tracing::error!(
        "drbd {name}: it has ended, but {all} operation(s) of it have not, {of_disks} of them I/O of its disks; until they end \
         the disks are in use"
    );
    match remains.wait() {
        Ok(()) => tracing::info!("drbd {name}: the last operation from before its end has ended"),
        Err(error) => tracing::error!(
            "drbd {name}: its disks stay in use until this rdbd ends: io_uring does not work any more: {error}"
        ),
    }
}
