//! The loop of a resource's thread: completions and messages in, effects out.
//!
//! A turn: wait, read the clock once, handle everything that has completed, expired or been posted, retry what
//! waited for a buffer, start the sends that were queued, and hand all of it to the kernel with the next wait.
//! Effects never call the engine back; what follows from them at once goes through `pending`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rdb_engine::config::NetOptions;
use rdb_engine::{
    AdminError, AdminId, Cause, Command, Effect, Event, Level, ReadFor, ResourceStatus, Time,
    VolumeNr, VolumeStatus,
};
use replica_proto::Socket;
use slab::Slab;

use crate::api::{AttachRequest, Caller, ConnectRequest, Notice, Reply, ResourceConfig, Ticket};
use crate::buffers::new_pool;
use crate::disk::Disks;
use crate::engine::Engine;
use crate::frontend::request::Turn;
use crate::frontend::{Due, FrontEnds};
use crate::io::Io;
use crate::mailbox::{Mailbox, Message};
use crate::net::Net;
use crate::op::Op;
use crate::pool::{Buf, PoolSize, Reserve};
use crate::ring::{Remains, Ring};
use crate::stream::{Owner, StreamOp};
use crate::timers::Slot;

/// `ERR_DISK_CONFIGURED`: the volume has a disk (`docs/spec/admin.md`, section 4.3).
const ERR_DISK_CONFIGURED: u16 = 124;
/// Rounds of follow-up work in one turn; the rest waits for the next.
const ROUNDS_MAX: usize = 64;

/// A command that the engine has not answered.
struct PendingAdmin {
    ticket: Ticket,
    /// `None` once it has been called: the command was taken back and goes on alone.
    reply: Option<Reply>,
    on_end: OnEnd,
}

/// Commands taken back before they have come to the engine that are remembered: so many may be on their way at most.
const WITHDRAWN_MAX: usize = 64;

/// What else the end of a command changes.
enum OnEnd {
    Nothing,
    /// A refused attach has no use for the disk.
    CloseDiskIfRefused(VolumeNr),
    /// A refused connect leaves the addresses as they were.
    RestoreNetIfRefused(Box<Option<ConnectRequest>>),
    /// Options that were taken count for the sockets too.
    TakeNetOptions(Box<NetOptions>),
}

pub(crate) struct EventLoop<E> {
    io: Io,
    engine: E,
    disks: Disks,
    net: Net,
    front: FrontEnds,
    messages: Receiver<Message>,
    bell: Rc<OwnedFd>,
    admin: Slab<PendingAdmin>,
    withdrawn: VecDeque<Ticket>,
    effects: Vec<Effect<Buf>>,
    stopping: bool,
}

impl<E: Engine> EventLoop<E> {
    pub(crate) fn new(
        config: ResourceConfig,
        size: PoolSize,
        engine: E,
        mailbox: Mailbox,
        (messages, bell): (Receiver<Message>, OwnedFd),
        notify: Box<dyn Fn(Notice)>,
    ) -> io::Result<Self> {
        let pool = new_pool(size, &config)?;
        let ring = Ring::new(Rc::clone(&pool), config.busy_poll)?;
        let now = clock();
        Ok(EventLoop {
            front: FrontEnds::new(&config),
            io: Io::new(config, now, ring, pool, mailbox, notify),
            engine,
            disks: Disks::new()?,
            net: Net::new(),
            messages,
            bell: Rc::new(bell),
            admin: Slab::new(),
            withdrawn: VecDeque::new(),
            effects: Vec::with_capacity(64),
            stopping: false,
        })
    }

    /// Runs until it is stopped.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        self.listen_to_bell();
        let mut first = true;
        while !self.stopping || self.is_winding_down() {
            let timeout = self
                .io
                .timers
                .next()
                .map(|at| Duration::from_nanos(at.0.saturating_sub(self.io.now.0)));
            self.io
                .ring
                .turn(!first && self.io.pending.is_empty(), timeout)?;
            first = false;
            self.io.now = clock();
            for _ in 0..self.io.ring.gather() {
                if let Some((op, result)) = self.io.ring.next_completed() {
                    self.on_completion(op, result);
                    self.drain_pending();
                }
            }
            while let Some(slot) = self.io.timers.pop(self.io.now) {
                self.on_timer(slot);
                self.drain_pending();
            }
            self.follow_up();
        }
        Ok(())
    }

    /// Closes everything. What is still under way is awaited for a few seconds; what takes longer is left.
    pub(crate) fn end(self) -> Option<Remains<Op>> {
        self.io.ring.end()
    }

    /// Whether something of what is being closed still has to be awaited.
    fn is_winding_down(&mut self) -> bool {
        self.net.is_closing() || self.front.is_winding_down()
    }

    fn listen_to_bell(&mut self) {
        self.io
            .ring
            .start(Op::Wake(Box::new([0; 8]), Rc::clone(&self.bell)));
    }

    fn on_completion(&mut self, op: Op, result: i32) {
        let io = &mut self.io;
        match op {
            Op::Disk(disk_io) => {
                let (event, volume) = self.disks.on_completion(io, disk_io, result);
                if let Some(event) = event {
                    self.raise(event);
                }
                if let Some(volume) = volume {
                    self.disks.advance_lane(&mut self.io, volume);
                }
            }
            Op::Stream(StreamOp { owner, fd, flight }) => match owner {
                Owner::Peer { generation, socket } => {
                    let which = (generation, socket);
                    let event = self.net.on_stream(io, which, (fd, flight), result);
                    self.go_on_with_peer(socket, event);
                }
                Owner::Nbd { client, generation } => {
                    let which = (client, generation);
                    let turn = self.front.on_stream(io, which, (fd, flight), result);
                    self.serve(turn);
                }
            },
            Op::Connect(generation, fd, _) => self.net.on_connected(io, generation, fd, result),
            Op::Accept(generation, _) => self.net.on_accepted(io, generation, result),
            Op::FirstPacket(generation, fd, bytes) => {
                self.net.on_first_packet(io, generation, fd, *bytes, result);
            }
            Op::NbdAccept(generation, _) => self.front.on_client_accepted(io, generation, result),
            Op::Ublk(volume, generation, tag, ..) => {
                let turn = self
                    .front
                    .on_ublk_tag(io, (volume, generation), tag, result);
                self.serve(turn);
            }
            Op::FusePoll(volume, generation, _) => {
                let turn = self.front.on_fuse_ready(volume, generation, result);
                self.serve(turn);
            }
            Op::Wake(..) => {
                self.on_messages();
                self.listen_to_bell();
            }
            Op::Cancel(_) => {}
        }
    }

    fn on_timer(&mut self, slot: Slot) {
        match slot {
            Slot::Engine(timer) => self.raise(Event::Timer(timer)),
            Slot::Pairing => {
                if let Some(paired) = self.net.on_pairing_timer(&mut self.io) {
                    self.raise(paired);
                    self.pump_peer(Socket::Meta);
                    self.pump_peer(Socket::Data);
                }
            }
            Slot::Stall(socket) => {
                if let Some(event) = self.net.on_stall_timer(&mut self.io, socket) {
                    self.raise(event);
                }
            }
            Slot::Closing => self.net.on_closing_timer(&mut self.io),
            Slot::Clients => {
                let reads_wait = self.disks.has_waiting_reads();
                self.front.on_clients_timer(&mut self.io, reads_wait);
            }
            Slot::LogSums => self.io.say_log_sums(),
            Slot::Buffers => self.io.give_idle_buffers_back(),
        }
    }

    /// What the handling of completions left to do: retries, then the sends of this turn.
    fn follow_up(&mut self) {
        if let Some(event) = self.net.report_ended() {
            self.raise(event);
        }
        for _ in 0..ROUNDS_MAX {
            self.drain_pending();
            let mut again = false;
            let read = self.io.pool.take_released(Reserve::Read);
            if read {
                again |= self.disks.retry_reads(&mut self.io, ReadFor::User);
            }
            if self.io.pool.take_released(Reserve::PeerRead) | read {
                again |= self.disks.retry_reads(&mut self.io, ReadFor::Peer);
            }
            if self.io.pool.take_released(Reserve::Receive) && self.net.take_starved() {
                self.pump_peer(Socket::Data);
                again |= !self.net.is_starved();
            }
            if self.io.pool.take_released(Reserve::FrontEnd)
                | self.io.pool.take_released(Reserve::Filling)
            {
                again |= self.retry_starved_front_ends();
            }
            if self.net.take_early() {
                self.pump_peer(Socket::Meta);
                again = true;
            }
            for socket in [Socket::Meta, Socket::Data] {
                if self.net.is_resumed(socket) {
                    self.pump_peer(socket);
                    again = true;
                }
            }
            again |= self.resume_front_ends();
            if !again && self.io.pending.is_empty() {
                break;
            }
        }
        self.demote_drained();
        self.net.flush(&mut self.io);
        self.front.flush(&mut self.io);
        self.io.ask_for_buffers();
    }

    /// Takes the packets that have come over a socket of the peer.
    fn pump_peer(&mut self, socket: Socket) {
        let event = self.net.pump(&mut self.io, socket);
        self.go_on_with_peer(socket, event);
    }

    fn go_on_with_peer(&mut self, socket: Socket, mut next: Option<Event<Buf>>) {
        while let Some(event) = next {
            self.raise(event);
            next = self.net.pump(&mut self.io, socket);
        }
    }

    /// Takes the requests of somebody whose turn it is.
    fn serve(&mut self, mut turn: Turn) {
        while let Some(event) = self.front.next(&mut self.io, &mut turn) {
            self.raise(event);
        }
    }

    /// Lets front ends go on that were held up; whether there were any.
    fn resume_front_ends(&mut self) -> bool {
        let mut any = false;
        for due in [Due::Parts, Due::Clients] {
            for _ in 0..self.front.due(due) {
                if let Some(turn) = self.front.next_due(due) {
                    self.serve(turn);
                    any = true;
                }
            }
        }
        any
    }

    /// Lets those who waited for a buffer try again; whether one got it.
    fn retry_starved_front_ends(&mut self) -> bool {
        let mut any = false;
        while let Some((first, turn)) = self.front.first_starved() {
            self.serve(turn);
            if self.front.still_starves(first) {
                break;
            }
            any = true;
        }
        any
    }

    /// Goes on with demotions that waited for requests.
    fn demote_drained(&mut self) {
        while let Some((volume, reply)) = self.front.next_drained() {
            self.secondary(volume, false, reply);
        }
    }

    fn drain_pending(&mut self) {
        while let Some(event) = self.io.pending.pop_front() {
            self.raise(event);
        }
    }

    /// Tells the engine of an event and starts what follows from it.
    pub(crate) fn raise(&mut self, event: Event<Buf>) {
        let mut effects = std::mem::take(&mut self.effects);
        self.engine.handle(self.io.now, event, &mut effects);
        for effect in effects.drain(..) {
            self.apply(effect);
        }
        self.effects = effects;
    }

    fn apply(&mut self, effect: Effect<Buf>) {
        let io = &mut self.io;
        match effect {
            Effect::Read {
                volume,
                tag,
                sector,
                bytes,
                whose,
            } => {
                let waits = self.disks.read(io, (volume, tag), (sector, bytes), whose);
                if waits && whose == ReadFor::User {
                    self.front.watch_clients(io);
                }
            }
            Effect::Write {
                volume,
                tag,
                sector,
                payload,
                fua,
            } => {
                self.disks.write(io, (volume, tag), sector, payload, fua);
            }
            Effect::Flush { volume, tag } => self.disks.flush(io, volume, tag),
            Effect::Discard {
                volume,
                tag,
                sector,
                bytes,
                kind,
            } => {
                self.disks.discard(io, volume, tag, (sector, bytes), kind);
            }
            Effect::MetaRead {
                volume,
                tag,
                sector,
                bytes,
            } => {
                self.disks.meta_read(io, volume, tag, sector, bytes);
            }
            Effect::MetaWrite {
                volume,
                tag,
                sector,
                data,
                preflush,
                fua,
            } => {
                self.disks
                    .meta_write(io, volume, tag, (sector, data), preflush, fua);
            }
            Effect::RetryIo { tag } => self.disks.retry_io(io, tag),
            Effect::GiveUpIo { tag } => self.disks.give_up_io(io, tag),
            Effect::CloseDisk { volume } => self.disks.close(io, volume),
            Effect::OpenConnection => self.net.open(io),
            Effect::CloseConnection => self.net.close(io),
            Effect::SetWire(wire) => self.net.set_wire(wire),
            Effect::Send {
                volume,
                packet,
                digest,
                payload,
                notify,
            } => {
                self.net
                    .send_packet(volume, &packet, digest.as_ref(), payload, notify);
            }
            Effect::Complete { request, result } => {
                self.front.complete_request(io, request.0 as usize, result);
            }
            Effect::Device { volume, device } => {
                let status = self.engine.status(io.now);
                let minor = of_volume(&status, volume).map_or(u32::MAX, |found| found.minor);
                self.front.on_device(io, volume, device, minor);
            }
            Effect::AdminDone { id, result } => self.on_admin_done(id, result),
            Effect::SetTimer { timer, at } => self.io.timers.set(Slot::Engine(timer), at),
            Effect::ClearTimer { timer } => self.io.timers.clear(Slot::Engine(timer)),
            Effect::Log {
                level,
                volume,
                text,
                cause,
            } => match cause {
                Cause::Own => self.io.log(level, volume, text),
                Cause::Others => self.io.log_others(level, volume, text),
            },
            Effect::StateChanged { volume, old, new } => {
                self.front.watch_left_device(io, volume, &new);
                self.net.watch(&new);
                self.io.notify(Notice::StateChanged { volume, old, new });
            }
        }
    }

    fn on_messages(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            match message {
                Message::Admin(command, caller) => self.on_command(command, caller),
                Message::Attach(request, opened, caller) => match opened {
                    Ok(opened) => self.on_attach(request, opened, caller),
                    Err(error) => (caller.reply)(Err(error)),
                },
                Message::Withdraw(ticket) => self.withdraw(ticket),
                Message::Connect(request, caller) => {
                    let command = Command::Connect {
                        options: request.options.clone(),
                        discard_my_data: request.discard_my_data,
                        tentative: request.tentative,
                    };
                    let old = self.net.configure(Some(*request));
                    self.command(command, caller, OnEnd::RestoreNetIfRefused(Box::new(old)));
                }
                Message::Status(reply) => {
                    #[cfg(debug_assertions)]
                    self.break_on_purpose();
                    reply(self.engine.status(self.io.now));
                }
                Message::Node(report) => self.front.on_node_report(&mut self.io, report),
                Message::LeftDropped(volume) => self.front.on_left_dropped(&self.io, volume),
                Message::Held(volume, held, reply) => self.secondary(volume, held, reply),
                Message::Use(reply) => self.front.report_use(&self.io, reply),
                Message::Grown(growth, result) => self.io.on_grown(&growth, &result),
                Message::Park(volumes) => self.front.park(&mut self.io, &volumes),
                #[cfg(test)]
                Message::KernelClient(nr, socket) => {
                    self.front.serve_kernel(&mut self.io, nr, socket);
                }
                Message::Stop => self.stop(),
            }
            self.drain_pending();
        }
    }

    /// For tests of what follows: a file `break-NAME` in the run directory is taken for a broken invariant when the status is
    /// asked for. Programs that are shipped are built without this.
    #[cfg(debug_assertions)]
    fn break_on_purpose(&self) {
        let name = format!("break-{}", self.io.config.name);
        assert!(
            std::fs::remove_file(self.io.config.run_dir.join(name)).is_err(),
            "broken on purpose"
        );
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.io.say_log_sums();
        self.net.close(&mut self.io);
        self.front.stop(&mut self.io);
    }

    fn on_command(&mut self, command: Command, reply: Caller) {
        match command {
            Command::Secondary { volume, held_open } => {
                if self.front.is_parked(volume) {
                    // Its users wait for the next process.
                    self.front.drain(volume, reply);
                    self.demote_drained();
                } else if held_open || self.front.has_clients(volume) {
                    self.secondary(volume, true, reply);
                } else {
                    // Who uses a loop device is found out elsewhere; the answer comes back as a message.
                    if let Some(reply) = self.front.ask_who_holds(&self.io, volume, reply) {
                        self.secondary(volume, false, reply);
                    }
                }
            }
            Command::NetOptions { options } => {
                let on_end = OnEnd::TakeNetOptions(Box::new(options.clone()));
                self.command(Command::NetOptions { options }, reply, on_end);
            }
            command => self.command(command, reply, OnEnd::Nothing),
        }
    }

    /// Commands the demotion; `held_open`: somebody uses the device.
    pub(crate) fn secondary(&mut self, volume: VolumeNr, held_open: bool, reply: Caller) {
        self.command(
            Command::Secondary { volume, held_open },
            reply,
            OnEnd::Nothing,
        );
    }

    fn on_attach(
        &mut self,
        request: AttachRequest,
        opened: crate::disk::open::OpenedDisk,
        caller: Caller,
    ) {
        let attached = self.disks.attach(request.volume, opened.data, opened.meta);
        if !attached {
            let info = format!("volume {} has a disk", request.volume);
            (caller.reply)(Err(AdminError::refused(ERR_DISK_CONFIGURED, info)));
            return;
        }
        let AttachRequest {
            volume, options, ..
        } = request;
        let command = Command::Attach {
            volume,
            disk: opened.info,
            options,
        };
        self.command(command, caller, OnEnd::CloseDiskIfRefused(volume));
    }

    fn command(&mut self, command: Command, caller: Caller, on_end: OnEnd) {
        let Caller { ticket, reply } = caller;
        if let Some(at) = self.withdrawn.iter().position(|other| *other == ticket) {
            let _ = self.withdrawn.remove(at);
            let result = Err(AdminError::Withdrawn);
            self.follow_end(on_end, &result);
            reply(result);
            return;
        }
        let pending = PendingAdmin {
            ticket,
            reply: Some(reply),
            on_end,
        };
        let id = AdminId(self.admin.insert(pending) as u64);
        self.raise(Event::Admin { id, command });
    }

    fn withdraw(&mut self, ticket: Ticket) {
        let found = self.admin.iter_mut().find(|(_, p)| p.ticket == ticket);
        let Some((key, pending)) = found else {
            // Its disk is being opened, or who uses its device is being found out; or it is done.
            if self.withdrawn.len() >= WITHDRAWN_MAX {
                self.withdrawn.pop_front();
            }
            self.withdrawn.push_back(ticket);
            return;
        };
        if let Some(reply) = pending.reply.take() {
            reply(Err(AdminError::Withdrawn));
        }
        let id = AdminId(key as u64);
        self.raise(Event::Withdraw { id });
    }

    fn on_admin_done(&mut self, id: AdminId, result: Result<(), AdminError>) {
        let Some(pending) = self.admin.try_remove(id.0 as usize) else {
            return self.io.log(
                Level::Error,
                None,
                format!("an answer to command {} of nobody", id.0),
            );
        };
        self.follow_end(pending.on_end, &result);
        if let Some(reply) = pending.reply {
            reply(result);
        }
    }

    /// What else the end of a command changes.
    fn follow_end(&mut self, on_end: OnEnd, result: &Result<(), AdminError>) {
        match (on_end, result) {
            (OnEnd::CloseDiskIfRefused(volume), Err(_)) => self.disks.close(&mut self.io, volume),
            (OnEnd::CloseDiskIfRefused(volume), Ok(())) => {
                let status = self.engine.status(self.io.now);
                let data = of_volume(&status, volume).and_then(|found| found.generation);
                let data = data.map(|(ids, flags)| (ids.current, flags));
                self.front.judge_left_device(&self.io, volume, data);
            }
            (OnEnd::RestoreNetIfRefused(old), Err(_)) => {
                self.net.configure(*old);
            }
            (OnEnd::RestoreNetIfRefused(_), Ok(())) => self.fit_pool(),
            (OnEnd::TakeNetOptions(options), Ok(())) => {
                self.net.take_options(*options);
                self.fit_pool();
            }
            _ => {}
        }
    }

    /// Has as much memory as the connection is configured for.
    fn fit_pool(&mut self) {
        if let Some(max_buffers) = self.net.max_buffers() {
            self.io.fit_pool(max_buffers);
        }
    }
}

fn of_volume(status: &ResourceStatus, nr: VolumeNr) -> Option<&VolumeStatus> {
    status.volumes.iter().find(|volume| volume.volume == nr)
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
