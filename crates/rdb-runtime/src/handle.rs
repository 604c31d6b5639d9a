//! What the daemon holds of a resource: a handle that talks to its thread.

use std::convert::Infallible;
use std::io;
#[cfg(test)]
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};

use rdb_engine::{AdminError, Command, HandlerId, Resource, VolumeNr};

use crate::api::{
    AttachRequest, Caller, ConnectRequest, MarksReply, Notice, Reply, ResourceConfig, SpawnError,
    StatusReply, Ticket, UseReply,
};
use crate::disk::open::{ERR_OPEN_DISK, open_disks};
use crate::engine::Engine;
use crate::event_loop::EventLoop;
use crate::helpers::{no_thread, on_thread};
use crate::mailbox::{Inbox, Mailbox, Message};
use crate::op::Op;
use crate::pool::PoolSize;
use crate::ring::Remains;

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

impl ResourceHandle {
    /// Opens and measures the disks, then attaches them. Opening happens on a thread of its own; the resource goes
    /// on meanwhile. Refused with 104, 105 or 116 if the disks cannot be had, else with what the engine says.
    pub fn attach(&self, request: AttachRequest, reply: Reply) -> Ticket {
        let mailbox = self.mailbox.clone();
        let ticket = Ticket::next();
        on_thread("rdb-attach", move |thread| {
            let opened = match thread {
                Ok(()) => open_disks(&request.data_path, &request.meta),
                Err(error) => Err(AdminError::refused(ERR_OPEN_DISK, no_thread(&error))),
            };
            mailbox.post_command(Message::Attach(request, opened, Caller { ticket, reply }));
        });
        ticket
    }

    /// Passes a command to the engine. `Attach` and `Connect` have methods of their own, which know more.
    /// `Secondary` is told whether somebody has the device open.
    pub fn admin(&self, command: Command, reply: Reply) -> Ticket {
        let ticket = Ticket::next();
        self.mailbox
            .post_command(Message::Admin(command, Caller { ticket, reply }));
        ticket
    }

    /// Takes a command back whose caller does not wait any more. Its reply is called with `AdminError::Withdrawn`, unless
    /// the command is done; at once, but for one whose disk is being opened, which may take as long as the disk takes. It has
    /// no effect, or none beyond what it has had already: the engine says (`Event::Withdraw`).
    pub fn withdraw(&self, ticket: Ticket) {
        self.mailbox.post(Message::Withdraw(ticket));
    }

    /// A handler that [`Notice::RunHandler`] asked for has ended with this exit code, as a shell says it: 0 to 255.
    pub fn handler_done(&self, id: HandlerId, exit: i32) {
        self.mailbox.post(Message::HandlerDone(id, exit));
    }

    /// Configures the connection and begins to connect.
    pub fn connect(&self, request: ConnectRequest, reply: Reply) -> Ticket {
        let ticket = Ticket::next();
        let caller = Caller { ticket, reply };
        self.mailbox
            .post_command(Message::Connect(Box::new(request), caller));
        ticket
    }

    /// Asks for a snapshot. If the thread has ended, `reply` is dropped unused.
    pub fn status(&self, reply: StatusReply) {
        self.mailbox.post(Message::Status(reply));
    }

    /// Asks for a piece of a volume's bitmap from this word on, at most [`MARKS_WORDS`](crate::MARKS_WORDS) words; none come behind
    /// the last one. If the thread has ended, `reply` is dropped unused.
    pub fn marks(&self, volume: VolumeNr, from: usize, reply: MarksReply) {
        self.mailbox.post(Message::Marks(volume, from, reply));
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

    /// Whether the thread has ended, as far as [`join`](Self::join) waits for it.
    pub fn has_ended(&self) -> bool {
        // Who waits for it holds the lock.
        let ended = self.ended.try_lock();
        ended.is_ok_and(|ended| ended.try_recv() == Err(TryRecvError::Disconnected))
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
    let failed = |what| move |error| SpawnError::Io { what, error };
    let (mailbox, inbox) = Mailbox::new().map_err(failed("eventfd"))?;
    let inner = mailbox.clone();
    let (started, wait) = channel();
    let (at_work, ended) = channel();
    let at_work = AtWork(at_work);
    std::thread::Builder::new()
        .name(format!("rdb-{}", config.name))
        .spawn(move || {
            if let Some((name, remains)) = run(config, (inner, inbox), notices, make, &started) {
                drop(at_work);
                linger(&name, remains);
            }
        })
        .map_err(|error| failed("its thread")(io::Error::other(no_thread(&error))))?;
    let ended_at_once = |_| failed("starting a thread")(io::Error::other("it ended at once"));
    wait.recv().map_err(ended_at_once)??;
    Ok(ResourceHandle {
        mailbox,
        ended: Arc::new(Mutex::new(ended)),
    })
}

/// Serves a resource until it ends; what does not end with it, and its name.
fn run<E: Engine>(
    config: ResourceConfig,
    (mailbox, inbox): (Mailbox, Inbox),
    notices: impl Fn(Notice) + Send + 'static,
    make: impl FnOnce() -> E,
    started: &Sender<Result<(), SpawnError>>,
) -> Option<(String, Remains<Op>)> {
    let name = config.name.clone();
    let size = PoolSize::for_max_buffers(config.max_buffers);
    let notices = std::rc::Rc::new(notices);
    let for_loop = std::rc::Rc::clone(&notices);
    let notify = Box::new(move |notice| for_loop(notice));
    let running = EventLoop::new(config, size, make(), mailbox, inbox, notify);
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
