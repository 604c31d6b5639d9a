//! The parts of the loop, and the way between them and the engine.
//!
//! What a part has for the engine is raised here, and each effect of that is started here by the part that it is for. A part that
//! has something for another one returns it. Parts that take what has come, the peer's packets and the requests of front ends,
//! are asked for one event at a time, so that the engine's answer to it is known to what is taken next.

use rdb_engine::{
    AdminError, Cause, Command, Effect, Event, Level, ReadFor, ResourceStatus, VolumeNr,
    VolumeStatus,
};
use replica_proto::Socket;

use crate::api::{AttachRequest, Caller, ConnectRequest, Notice};
use crate::commands::{Commands, Ended, OnEnd};
use crate::disk::Disks;
use crate::disk::open::OpenedDisk;
use crate::engine::Engine;
use crate::frontend::request::Turn;
use crate::frontend::{Due, FrontEnds};
use crate::io::Io;
use crate::net::Net;
use crate::pool::{Buf, Reserve};
use crate::timers::Slot;

/// `ERR_DISK_CONFIGURED`: the volume has a disk (`docs/spec/admin.md`, section 4.3).
const ERR_DISK_CONFIGURED: u16 = 124;
/// Rounds of follow-up work in one turn; the rest waits for the next.
const ROUNDS_MAX: usize = 64;

/// All of them.
pub(crate) struct Parts<E> {
    pub(crate) io: Io,
    pub(crate) engine: E,
    pub(crate) disks: Disks,
    pub(crate) net: Net,
    pub(crate) front: FrontEnds,
    pub(crate) commands: Commands,
    /// The effects of an event; empty between two of them.
    effects: Vec<Effect<Buf>>,
}

impl<E: Engine> Parts<E> {
    pub(crate) fn new(io: Io, engine: E) -> std::io::Result<Parts<E>> {
        Ok(Parts {
            disks: Disks::new()?,
            net: Net::new(),
            front: FrontEnds::new(&io.config),
            commands: Commands::default(),
            effects: Vec::with_capacity(64),
            io,
            engine,
        })
    }

    /// What the handling of completions left to do: retries, then the sends of this turn.
    pub(crate) fn follow_up(&mut self) {
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
    pub(crate) fn pump_peer(&mut self, socket: Socket) {
        let event = self.net.pump(&mut self.io, socket);
        self.go_on_with_peer(socket, event);
    }

    pub(crate) fn go_on_with_peer(&mut self, socket: Socket, mut next: Option<Event<Buf>>) {
        while let Some(event) = next {
            self.raise(event);
            next = self.net.pump(&mut self.io, socket);
        }
    }

    /// Takes the requests of somebody whose turn it is.
    pub(crate) fn serve(&mut self, mut turn: Turn) {
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
        while let Some(first) = self.front.first_starved() {
            self.serve(Turn::of(Some(first)));
            if self.front.still_starves(first) {
                break;
            }
            any = true;
        }
        any
    }

    /// Goes on with demotions that waited for requests.
    pub(crate) fn demote_drained(&mut self) {
        while let Some((volume, reply)) = self.front.next_drained() {
            self.secondary(volume, false, reply);
        }
    }

    pub(crate) fn drain_pending(&mut self) {
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

    #[expect(clippy::too_many_lines, reason = "a table: one arm an effect")]
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
            Effect::Flush { volume, tag } => self.disks.flush(io, (volume, tag)),
            Effect::Discard {
                volume,
                tag,
                sector,
                bytes,
                kind,
            } => {
                self.disks.discard(io, (volume, tag), (sector, bytes), kind);
            }
            Effect::MetaRead {
                volume,
                tag,
                sector,
                bytes,
            } => {
                self.disks.meta_read(io, (volume, tag), sector, bytes);
            }
            Effect::MetaWrite {
                volume,
                tag,
                sector,
                data,
                preflush,
                fua,
            } => {
                let id = (volume, tag);
                self.disks.meta_write(io, id, (sector, data), preflush, fua);
            }
            Effect::RetryIo { tag } => self.disks.retry_io(io, tag),
            Effect::GiveUpIo { tag } => self.disks.give_up_io(io, tag),
            Effect::CloseDisk { volume } => self.disks.close(io, volume),
            Effect::Connection(of, effect) => self.net.apply(io, of, effect),
            Effect::Complete { request, result } => {
                self.front.complete_request(io, request.0 as usize, result);
            }
            Effect::Device { volume, device } => {
                let status = self.engine.status(io.now);
                let minor = of_volume(&status, volume).map_or(u32::MAX, |found| found.minor);
                self.front.on_device(io, volume, device, minor);
            }
            Effect::AdminDone { id, result } => match self.commands.end(id) {
                Some(ended) => self.end_command(ended, result),
                None => {
                    let text = format!("an answer to command {} of nobody", id.0);
                    io.log(Level::Error, None, text);
                }
            },
            Effect::RunHandler {
                id,
                handler,
                volume,
                snapshot,
            } => io.notify(Notice::RunHandler {
                id,
                handler,
                volume,
                snapshot,
            }),
            Effect::EndHandler { id } => io.notify(Notice::EndHandler { id }),
            Effect::SetTimer { timer, at } => io.timers.set(Slot::Engine(timer), at),
            Effect::ClearTimer { timer } => io.timers.clear(Slot::Engine(timer)),
            Effect::Log {
                level,
                volume,
                text,
                cause,
            } => match cause {
                Cause::Own => io.log(level, volume, text),
                Cause::Others => io.log_others(level, volume, text),
            },
            Effect::StateChanged { volume, old, new } => {
                self.front.watch_left_device(io, volume, &new);
                self.net.watch(&new);
                io.notify(Notice::StateChanged { volume, old, new });
            }
            Effect::Milestone { volume, what } => io.notify(Notice::Milestone { volume, what }),
        }
    }

    /// A command of the administrator's.
    pub(crate) fn on_command(&mut self, command: Command, reply: Caller) {
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

    /// The disk of an attach is open.
    pub(crate) fn on_attach(&mut self, request: AttachRequest, opened: OpenedDisk, caller: Caller) {
        let OpenedDisk { data, meta, info } = opened;
        if !self.disks.attach(request.volume, data, meta) {
            let info = format!("volume {} has a disk", request.volume);
            (caller.reply)(Err(AdminError::refused(ERR_DISK_CONFIGURED, info)));
            return;
        }
        let AttachRequest {
            volume, options, ..
        } = request;
        let command = Command::Attach {
            volume,
            disk: info,
            options,
        };
        self.command(command, caller, OnEnd::CloseDiskIfRefused(volume));
    }

    /// The connection is configured anew.
    pub(crate) fn on_connect(&mut self, request: ConnectRequest, caller: Caller) {
        let command = Command::Connect {
            options: request.options.clone(),
            discard_my_data: request.discard_my_data,
            tentative: request.tentative,
        };
        let old = Box::new(self.net.configure(Some(request)));
        self.command(command, caller, OnEnd::RestoreNetIfRefused(old));
    }

    /// Commands the demotion; `held_open`: somebody uses the device.
    pub(crate) fn secondary(&mut self, volume: VolumeNr, held_open: bool, reply: Caller) {
        self.command(
            Command::Secondary { volume, held_open },
            reply,
            OnEnd::Nothing,
        );
    }

    /// Passes a command to the engine.
    fn command(&mut self, command: Command, caller: Caller, on_end: OnEnd) {
        match self.commands.begin(command, caller, on_end) {
            Ok(event) => self.raise(event),
            Err(ended) => self.end_command(ended, Err(AdminError::Withdrawn)),
        }
    }

    fn end_command(&mut self, ended: Ended, result: Result<(), AdminError>) {
        let Ended { reply, on_end } = ended;
        self.follow_end(on_end, &result);
        if let Some(reply) = reply {
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
                let data = data.map(|(ids, flags)| (ids.current.bits(), flags));
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
