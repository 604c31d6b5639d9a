//! The loop of a resource's thread: completions and messages in, effects out.
//!
//! A turn: wait, read the clock once, handle everything that has completed, expired or been posted, retry what
//! waited for a buffer, start the sends that were queued, and hand all of it to the kernel with the next wait.
//! Effects never call the engine back; what follows from them at once goes through `pending`.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rdb_engine::{Event, Time};
use replica_proto::Socket;

use crate::api::{MARKS_WORDS, Notice, ResourceConfig};
use crate::buffers::new_pool;
use crate::engine::Engine;
use crate::io::Io;
use crate::mailbox::{Inbox, Mailbox, Message};
use crate::op::Op;
use crate::parts::Parts;
use crate::pool::PoolSize;
use crate::ring::{Remains, Ring};
use crate::stream::{Owner, StreamOp};
use crate::timers::Slot;

pub(crate) struct EventLoop<E> {
    parts: Parts<E>,
    messages: Receiver<Message>,
    /// An eventfd, which rings when there are messages.
    bell: Rc<OwnedFd>,
    stopping: bool,
}

impl<E: Engine> EventLoop<E> {
    pub(crate) fn new(
        config: ResourceConfig,
        size: PoolSize,
        engine: E,
        mailbox: Mailbox,
        inbox: Inbox,
        notify: Box<dyn Fn(Notice)>,
    ) -> io::Result<Self> {
        let pool = new_pool(size, &config)?;
        let ring = Ring::new(Rc::clone(&pool), config.busy_poll)?;
        let io = Io::new(config, clock(), ring, pool, mailbox, notify);
        Ok(EventLoop {
            parts: Parts::new(io, engine)?,
            messages: inbox.messages,
            bell: Rc::new(inbox.bell),
            stopping: false,
        })
    }

    /// Runs until it is stopped.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        self.listen_to_bell();
        let mut first = true;
        while !self.stopping || self.is_winding_down() {
            let timeout = self
                .parts
                .io
                .timers
                .next()
                .map(|at| Duration::from_nanos(at.0.saturating_sub(self.parts.io.now.0)));
            self.parts
                .io
                .ring
                .turn(!first && self.parts.io.pending.is_empty(), timeout)?;
            first = false;
            self.parts.io.now = clock();
            for _ in 0..self.parts.io.ring.gather() {
                if let Some((op, result)) = self.parts.io.ring.next_completed() {
                    self.on_completion(op, result);
                    self.parts.drain_pending();
                }
            }
            while let Some(slot) = self.parts.io.timers.pop(self.parts.io.now) {
                self.on_timer(slot);
                self.parts.drain_pending();
            }
            self.parts.follow_up();
            self.parts.io.see_to_helpers();
        }
        Ok(())
    }

    /// Closes everything. What is still under way is awaited for a few seconds; what takes longer is left.
    pub(crate) fn end(self) -> Option<Remains<Op>> {
        self.parts.io.ring.end()
    }

    /// Whether something of what is being closed still has to be awaited.
    fn is_winding_down(&mut self) -> bool {
        self.parts.net.is_closing() || self.parts.front.is_winding_down()
    }

    fn listen_to_bell(&mut self) {
        self.parts
            .io
            .ring
            .start(Op::Wake(Box::new([0; 8]), Rc::clone(&self.bell)));
    }

    fn on_completion(&mut self, op: Op, result: i32) {
        let parts = &mut self.parts;
        let io = &mut parts.io;
        match op {
            Op::Disk(disk_io) => {
                let (event, volume) = parts.disks.on_completion(io, disk_io, result);
                if let Some(event) = event {
                    parts.raise(event);
                }
                if let Some(volume) = volume {
                    parts.disks.advance_lane(&mut parts.io, volume);
                }
            }
            Op::Stream(StreamOp { owner, fd, flight }) => match owner {
                Owner::Peer { generation, socket } => {
                    let which = (generation, socket);
                    let event = parts.net.on_stream(io, which, (fd, flight), result);
                    parts.go_on_with_peer(socket, event);
                }
                Owner::Nbd(client) => {
                    let turn = parts.front.on_stream(io, client, (fd, flight), result);
                    parts.serve(turn);
                }
            },
            Op::Connect(generation, fd, _) => parts.net.on_connected(io, generation, fd, result),
            Op::Accept(generation, _) => parts.net.on_accepted(io, generation, result),
            Op::FirstPacket(generation, fd, bytes) => {
                parts
                    .net
                    .on_first_packet(io, generation, fd, *bytes, result);
            }
            Op::NbdAccept(generation, _) => parts.front.on_client_accepted(io, generation, result),
            Op::Ublk(node, tag, ..) => {
                let turn = parts.front.on_ublk_tag(io, node, tag, result);
                parts.serve(turn);
            }
            Op::FusePoll(node, _) => {
                let turn = parts.front.on_fuse_ready(node, result);
                parts.serve(turn);
            }
            Op::Wake(..) => {
                self.on_messages();
                self.listen_to_bell();
            }
            Op::Cancel(_) => {}
        }
    }

    fn on_timer(&mut self, slot: Slot) {
        let parts = &mut self.parts;
        match slot {
            Slot::Engine(timer) => parts.raise(Event::Timer(timer)),
            Slot::Pairing => {
                if let Some(paired) = parts.net.on_pairing_timer(&mut parts.io) {
                    parts.raise(paired);
                    parts.pump_peer(Socket::Meta);
                    parts.pump_peer(Socket::Data);
                }
            }
            Slot::Stall(socket) => {
                if let Some(event) = parts.net.on_stall_timer(&mut parts.io, socket) {
                    parts.raise(event);
                }
            }
            Slot::Closing => parts.net.on_closing_timer(&mut parts.io),
            Slot::Clients => {
                let reads_wait = parts.disks.has_waiting_reads();
                parts.front.on_clients_timer(&mut parts.io, reads_wait);
            }
            Slot::NbdSocket => parts.front.restore_socket(&mut parts.io),
            Slot::LogSums => parts.io.say_log_sums(),
            Slot::Buffers => parts.io.give_idle_buffers_back(),
            Slot::Helpers => parts.io.begin_helpers_again(),
        }
    }

    fn on_messages(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            let parts = &mut self.parts;
            match message {
                Message::Admin(command, caller) => parts.on_command(command, caller),
                Message::Attach(request, opened, caller) => match opened {
                    Ok(opened) => parts.on_attach(request, opened, caller),
                    Err(error) => (caller.reply)(Err(error)),
                },
                Message::Withdraw(ticket) => {
                    if let Some(event) = parts.commands.withdraw(ticket) {
                        parts.raise(event);
                    }
                }
                Message::Connect(request, caller) => parts.on_connect(*request, caller),
                Message::HandlerDone(id, exit) => parts.raise(Event::HandlerDone { id, exit }),
                Message::Status(reply) => {
                    #[cfg(debug_assertions)]
                    break_on_purpose(&parts.io.config);
                    reply(parts.engine.status(parts.io.now));
                }
                Message::Marks(volume, from, reply) => {
                    reply(parts.engine.marks(volume, from, MARKS_WORDS));
                }
                Message::Node(report) => parts.front.on_node_report(&mut parts.io, report),
                Message::LeftDropped(volume) => parts.front.on_left_dropped(&parts.io, volume),
                Message::Held(volume, held, reply) => parts.secondary(volume, held, reply),
                Message::Use(reply) => parts.front.report_use(&parts.io, reply),
                Message::Grown(growth, result) => parts.io.on_grown(&growth, &result),
                Message::Park(volumes) => parts.front.park(&mut parts.io, &volumes),
                #[cfg(test)]
                Message::KernelClient(nr, socket) => {
                    parts.front.serve_kernel(&mut parts.io, nr, socket);
                }
                Message::Stop => self.stop(),
            }
            self.parts.drain_pending();
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        let parts = &mut self.parts;
        parts.io.say_log_sums();
        parts.net.close(&mut parts.io);
        parts.front.stop(&mut parts.io);
    }
}

/// For tests of what follows: a file `break-NAME` in the run directory is taken for a broken invariant when the status is
/// asked for. Programs that are shipped are built without this.
#[cfg(debug_assertions)]
fn break_on_purpose(config: &ResourceConfig) {
    let name = format!("break-{}", config.name);
    assert!(
        std::fs::remove_file(config.run_dir.join(name)).is_err(),
        "broken on purpose"
    );
}

/// `CLOCK_MONOTONIC`.
pub(crate) fn clock() -> Time {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid place for the answer; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Time(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}
