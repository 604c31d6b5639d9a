//! The NBD socket: a listening socket while a device is there, and its clients.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rdb_engine::{DeviceSpec, Level, Time, VolumeNr};
use rdb_frontend::knbd::is_hung_up;
use rdb_frontend::nbd::{Exports, Session, Step};
use rdb_frontend::{Errno, Frontend, Request};
use slab::Slab;

use super::nbd_socket::{FileId, file_at, listen, peer_user, refusal};
use super::request::{Asked, Queue, Who, device_info};
use crate::api::Notice;
use crate::ids::ClientId;
use crate::io::Io;
use crate::op::Op;
use crate::pool::{Buf, Pool, Reserve};
use crate::stream::{Flight, Owner, Received, Receiver, Sender, Sent};
use crate::timers::Slot;

/// Bytes of a client's stage; the longest option fits (`rdb_frontend::nbd::INPUT_MAX`).
const STAGE_BYTES: usize = 64 * 1024;
const _: () = assert!(STAGE_BYTES > rdb_frontend::nbd::INPUT_MAX);
/// With this much unsent, a client's requests are not read.
const UNSENT_MAX_BYTES: u64 = 2 << 20;
/// How long a client may take to say what it wants.
const NEGOTIATION_MS: u64 = 10_000;
/// How long a client may sit on buffers, without a byte in either direction, while others wait for some; and how long one
/// that is being closed may take to accept its last replies.
const STALL_MS: u64 = 10_000;
/// How often those limits are looked at, while there is a reason to.
const WATCH_MS: u64 = 1_000;
/// How often it is looked whether the socket's file is there.
const LOOK_MS: u64 = 500;

/// The server and its clients.
pub(super) struct Nbd {
    exports: Exports,
    listener: Option<Listener>,
    clients: Slab<Client>,
    generation: u32,
    /// Clients that may be able to go on.
    resumed: VecDeque<ClientId>,
    /// Clients with something to send.
    unsent: Vec<u32>,
}

struct Listener {
    generation: u32,
    fd: Rc<OwnedFd>,
    path: PathBuf,
    /// Its file, by which it is known whether somebody has removed it.
    file: Option<FileId>,
    /// That the file cannot be made anew was logged.
    complained: bool,
    accepting: usize,
}

/// One connection.
struct Client {
    id: ClientId,
    fd: Rc<OwnedFd>,
    session: Session,
    sender: Sender,
    receiver: Receiver,
    /// A write whose data is still to come.
    write: Option<(VolumeNr, Request)>,
    /// What has come of that data, while it has no buffer of the pool.
    gathered: Option<Vec<u8>>,
    /// A read that waits until earlier ones are sent.
    read: Option<(VolumeNr, Request)>,
    /// Bytes of reads that are not answered.
    reading: u64,
    /// The volume it counts as a user of.
    volume: Option<VolumeNr>,
    /// No more requests are taken; it is closed when all is answered and sent.
    closing: bool,
    /// It stands in the list of those with something to send.
    in_unsent: bool,
    /// When bytes came from it last.
    heard: Time,
    /// A limit was passed: its socket is shut.
    cut: bool,
    /// Who connected.
    user: u32,
    /// It is the kernel, for users of a device node.
    is_kernel: bool,
    /// It said that it goes.
    goodbye: bool,
    /// Nothing more is taken from it: who sent it will ask the next process again.
    parked: bool,
}

/// What a look at a client has brought.
pub(super) enum Pumped {
    Asked(Asked),
    Nothing,
    /// A connection of a volume's device node has ended; whether the kernel was told to let the device go.
    KernelGone(VolumeNr, bool),
}

/// How a conversation goes on.
enum Advance {
    On,
    Stops,
    Asked(Asked),
}

impl Client {
    /// Why it has to go, if it has; `shortage`: others wait for buffers.
    fn overdue(&self, now: Time, shortage: bool) -> Option<&'static str> {
        let past = |since: Time, limit_ms| since.plus_ms(limit_ms) <= now;
        if self.cut || self.is_kernel {
            return None;
        }
        if self.closing {
            let last = Time(self.heard.0.max(self.sender.progress.0));
            let waits = !self.sender.is_idle() && past(last, STALL_MS);
            return waits.then_some("it takes no replies");
        }
        if self.session.volume().is_none() {
            return past(self.heard, NEGOTIATION_MS).then_some("it does not say what it wants");
        }
        if !shortage {
            return None;
        }
        if self.sender.is_flying() && past(self.sender.progress, STALL_MS) {
            return Some("it takes no replies while others wait for the buffers they are in");
        }
        (self.write.is_some() && self.receiver.holds_payload() && past(self.heard, STALL_MS))
            .then_some("it sends half a write while others wait for the buffer that it is to fill")
    }

    fn asked(&self, volume: VolumeNr, request: Request, payload: Option<Buf>) -> Asked {
        Asked {
            who: Who::Nbd(self.id),
            volume,
            request,
            payload,
        }
    }

    /// Ends what is in flight, and with it the connection.
    fn shut(&self) {
        let socket = socket2::SockRef::from(&*self.fd);
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }

    fn receive(&mut self, io: &mut Io) {
        let owner = Owner::Nbd(self.id);
        self.receiver.receive(&mut io.ring, owner, &self.fd);
    }

    /// The data of a write, once it is whole and has a buffer; asks for more of it.
    fn take_data(&mut self, io: &mut Io, queue: &mut Queue, bytes: u32) -> Option<Buf> {
        // Half a write must not hold what others need for whole ones: it comes into the reserve for such, or is
        // gathered outside the pool. The kernel sends what it has begun.
        if !self.receiver.is_amid_payload() && self.gathered.is_none() && !self.is_kernel {
            match io.pool.take_filling(bytes) {
                Some(buf) => {
                    self.receiver.begin_payload(buf);
                    self.heard = io.now;
                }
                None => self.gathered = Some(Vec::new()),
            }
        }
        if !self.receiver.is_amid_payload() {
            if !self.gather(bytes) {
                self.receive(io);
                return None;
            }
            let me = Who::Nbd(self.id);
            let mut buf = queue.take(io, me, bytes)?;
            queue.leave(me);
            if let Some(whole) = self.gathered.take() {
                if let Some(into) = buf.as_mut_slice() {
                    into.copy_from_slice(&whole);
                }
                return Some(buf);
            }
            self.receiver.begin_payload(buf);
            self.heard = io.now;
        }
        let payload = self.receiver.take_payload();
        if payload.is_none() {
            self.receive(io);
        }
        payload
    }

    /// Whether it may read so much now. A client that takes no replies must not end up with all buffers for reads: those of the
    /// peer come from the same reserve. One read is always allowed.
    fn may_read(&self, pool: &Pool, bytes: u32) -> bool {
        let held = self.reading + self.sender.unsent_bytes();
        // While they are scarce, it is one read at a time for each: the replies are copied then.
        let limit = match pool.is_half_used(Reserve::Read) {
            true if !self.is_kernel => 0,
            _ => pool.reserve_bytes(Reserve::Read) as u64 / 4,
        };
        held == 0 || held + u64::from(bytes) <= limit
    }

    /// Takes what has come of a write's data; whether that is all of it, or needs no gathering.
    fn gather(&mut self, length: u32) -> bool {
        let Some(gathered) = &mut self.gathered else {
            return true;
        };
        let missing = (length as usize).saturating_sub(gathered.len());
        let have = self.receiver.unread();
        let take = missing.min(have.len());
        gathered.extend_from_slice(&have[..take]);
        self.receiver.consume(take);
        take == missing
    }

    /// Bytes that it holds outside the pool: half a write, and what it was told and has not taken.
    fn outside_pool(&self) -> u64 {
        let gathered = self.gathered.as_ref().map_or(0, Vec::len) as u64;
        gathered + self.sender.unsent_bytes()
    }

    /// The most that may be: a whole write, a quarter of the reserve for reads or one read, and small answers.
    fn outside_max(&self, pool: &Pool) -> u64 {
        let request = u64::from(rdb_engine::REQUEST_MAX_BYTES);
        let replies = (pool.reserve_bytes(Reserve::Read) as u64 / 4).max(request);
        request + replies + UNSENT_MAX_BYTES + STAGE_BYTES as u64
    }

    /// Whether it has to be watched even while nobody waits for a buffer.
    fn is_watched(&self) -> bool {
        !self.cut && !self.is_kernel && (self.closing || self.session.volume().is_none())
    }
}

impl Nbd {
    pub(super) fn new(resource: &str) -> Nbd {
        Nbd {
            exports: Exports::new(resource),
            listener: None,
            clients: Slab::new(),
            generation: 0,
            resumed: VecDeque::new(),
            unsent: Vec::new(),
        }
    }

    /// How many clients of the socket have a volume open. One that has gone is none, though what it asked for last may still be
    /// under way, and wait for space on a full disk.
    pub(super) fn users(&self, nr: VolumeNr) -> usize {
        let clients = self.clients.iter().map(|(_, client)| client);
        clients
            .filter(|client| client.volume == Some(nr) && !client.is_kernel)
            .filter(|client| !client.closing && !is_hung_up(&*client.fd))
            .count()
    }

    /// Why one more client of this user is turned away, if it is.
    fn refusal(&self, user: u32) -> Option<String> {
        let clients = self.clients.iter().map(|(_, client)| client);
        refusal(
            clients
                .filter(|client| !client.is_kernel)
                .map(|client| client.user),
            user,
        )
    }

    /// The kernel, if it is a client for this volume: once a connection of the device.
    fn kernel_clients(&mut self, nr: VolumeNr) -> impl Iterator<Item = &mut Client> {
        let clients = self.clients.iter_mut().map(|(_, client)| client);
        clients.filter(move |client| client.is_kernel && client.volume == Some(nr))
    }

    /// Whether a client is there.
    pub(super) fn has(&self, client: ClientId) -> bool {
        let found = self.clients.get(client.key as usize);
        found.is_some_and(|found| found.id == client)
    }

    /// A device can be used, or has a new size.
    pub(super) fn device_up(
        &mut self,
        io: &mut Io,
        nr: VolumeNr,
        spec: DeviceSpec,
        stopping: bool,
    ) {
        self.exports.set(u32::from(nr.0), device_info(spec));
        if self.listener.is_some() || stopping {
            return;
        }
        let path = io
            .config
            .run_dir
            .join("nbd")
            .join(format!("{}.sock", io.config.name));
        match self.listen(io, &path) {
            Ok(()) => {}
            Err(error) => {
                let text = format!("no NBD socket at {}: {error}", path.display());
                io.log(Level::Error, Some(nr), text.clone());
                if io.config.frontend == Frontend::Socket {
                    let (volume, reason) = (nr, text);
                    io.notify(Notice::NoDevice { volume, reason });
                }
            }
        }
    }

    fn listen(&mut self, io: &mut Io, path: &Path) -> io::Result<()> {
        let (fd, file) = listen(path)?;
        self.generation += 1;
        let (fd, generation) = (Rc::new(fd), self.generation);
        let accepting = io.ring.start(Op::NbdAccept(generation, Rc::clone(&fd)));
        self.listener = Some(Listener {
            generation,
            fd,
            path: path.to_owned(),
            file,
            complained: false,
            accepting,
        });
        io.timers.set(Slot::NbdSocket, io.now.plus_ms(LOOK_MS));
        Ok(())
    }

    /// Makes the socket anew if its file is not there any more: nobody would find it. Who is connected notices nothing.
    pub(super) fn restore_socket(&mut self, io: &mut Io) {
        let Some(old) = &mut self.listener else {
            return;
        };
        io.timers.set(Slot::NbdSocket, io.now.plus_ms(LOOK_MS));
        if file_at(&old.path) == old.file {
            return;
        }
        let (path, accepting, complained) = (old.path.clone(), old.accepting, old.complained);
        match self.listen(io, &path) {
            Ok(()) => {
                io.ring.cancel(accepting);
                let text = format!("{} was removed: made anew", path.display());
                io.log(Level::Warn, None, text);
            }
            Err(error) => {
                if !complained {
                    let text = format!("{} was removed: {error}", path.display());
                    io.log(Level::Error, None, text);
                }
                if let Some(old) = &mut self.listener {
                    old.complained = true;
                }
            }
        }
    }

    /// A device is gone: its clients are closed when what they have asked is answered.
    pub(super) fn device_down(&mut self, io: &mut Io, nr: VolumeNr) {
        self.exports.remove(u32::from(nr.0));
        let last = self.exports.iter().next().is_none();
        for (_, client) in &mut self.clients {
            // The kernel goes when its device is given back.
            if !client.is_kernel && (client.volume == Some(nr) || last) {
                client.closing = true;
                client.heard = io.now;
                self.resumed.push_back(client.id);
            }
        }
        let listener = self.listener.take_if(|_| last);
        self.watch(io);
        if let Some(listener) = listener {
            io.ring.cancel(listener.accepting);
            io.timers.clear(Slot::NbdSocket);
            // Another daemon's socket may have taken the name; then it is not ours to remove, but that takes a
            // second daemon on one run directory, which finds this one's lock.
            if let Err(error) = std::fs::remove_file(&listener.path) {
                let text = format!("removing {}: {error}", listener.path.display());
                io.log(Level::Warn, None, text);
            }
        }
    }

    pub(super) fn on_accepted(&mut self, io: &mut Io, generation: u32, result: i32) {
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
        let fd = (result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(result) });
        let Some(listener) = &self.listener else {
            return;
        };
        // Who called by a socket that was made anew since is let in all the same.
        let is_current = listener.generation == generation;
        let listening = Rc::clone(&listener.fd);
        match fd {
            Some(fd) => {
                let user = peer_user(&fd);
                match self.refusal(user) {
                    None => self.add_client(io, fd, Session::new(), user, None),
                    Some(why) => {
                        let text = format!("turned an NBD client away: {why}");
                        io.log_others(Level::Warn, None, text);
                    }
                }
            }
            None if result == -libc::ECANCELED => return,
            None => {
                let error = io::Error::from_raw_os_error(-result);
                io.log_others(
                    Level::Warn,
                    None,
                    format!("accepting an NBD client: {error}"),
                );
                if matches!(
                    -result,
                    libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS
                ) {
                    // Without a pause this would spin.
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
            }
        }
        if !is_current {
            return;
        }
        let accepting = io.ring.start(Op::NbdAccept(generation, listening));
        if let Some(listener) = &mut self.listener {
            listener.accepting = accepting;
        }
    }

    /// Serves the kernel for a device node.
    pub(super) fn add_kernel(&mut self, io: &mut Io, nr: VolumeNr, socket: OwnedFd) {
        self.add_client(io, socket, Session::for_kernel(nr.0.into()), 0, Some(nr));
    }

    /// Takes nothing more from the kernel for a device node; what was taken is answered.
    pub(super) fn park_kernel(&mut self, queue: &mut Queue, nr: VolumeNr) {
        for client in self.kernel_clients(nr) {
            client.parked = true;
            queue.leave(Who::Nbd(client.id));
        }
    }

    /// Lets go of the kernel, whose device is gone.
    pub(super) fn close_kernel(&mut self, nr: VolumeNr) {
        let mut closing = Vec::new();
        for client in self.kernel_clients(nr) {
            client.closing = true;
            // What is being received or sent ends.
            client.shut();
            closing.push(client.id);
        }
        self.resumed.extend(closing);
    }

    /// How many clients may be able to go on.
    pub(super) fn resumed(&self) -> usize {
        self.resumed.len()
    }

    /// One of them.
    pub(super) fn next_resumed(&mut self) -> Option<ClientId> {
        self.resumed.pop_front()
    }

    /// `kernel`: it is the kernel, for this volume.
    fn add_client(
        &mut self,
        io: &mut Io,
        fd: OwnedFd,
        session: Session,
        user: u32,
        kernel: Option<VolumeNr>,
    ) {
        self.generation += 1;
        let generation = self.generation;
        let entry = self.clients.vacant_entry();
        let key = entry.key() as u32;
        let id = ClientId { key, generation };
        entry.insert(Client {
            id,
            fd: Rc::new(fd),
            session,
            sender: Sender::new(io.now, false),
            receiver: Receiver::new(STAGE_BYTES),
            write: None,
            gathered: None,
            read: None,
            reading: 0,
            volume: kernel,
            user,
            is_kernel: kernel.is_some(),
            goodbye: false,
            parked: false,
            closing: false,
            in_unsent: false,
            heard: io.now,
            cut: false,
        });
        self.resumed.push_back(id);
        self.watch(io);
    }

    /// Looks after a while whether a client is overdue. Called when there is a new reason to: a client that negotiates or
    /// is being closed, or somebody who waits for a buffer.
    pub(super) fn watch(&self, io: &mut Io) {
        if !self.clients.is_empty() && !io.timers.is_set(Slot::Clients) {
            io.timers.set(Slot::Clients, io.now.plus_ms(WATCH_MS));
        }
    }

    /// Cuts the clients that are overdue. `shortage`: somebody waits for a buffer.
    pub(super) fn on_timer(&mut self, io: &mut Io, shortage: bool) {
        let now = io.now;
        let mut cut = Vec::new();
        let mut watch = shortage;
        for (_, client) in &mut self.clients {
            if let Some(reason) = client.overdue(now, shortage) {
                client.cut = true;
                client.closing = true;
                // What is in flight ends with an error, and the client with it.
                client.shut();
                cut.push(reason);
            }
            watch |= client.is_watched();
        }
        for reason in cut {
            io.log_others(
                Level::Warn,
                None,
                format!("cut an NBD client off: {reason}"),
            );
        }
        if watch {
            self.watch(io);
        }
    }

    /// Takes the next request off what a client has sent, and asks for more if there is none. `is_begun`: it was asked before in
    /// this turn, in which nobody else is served.
    pub(super) fn pump(
        &mut self,
        io: &mut Io,
        queue: &mut Queue,
        id: ClientId,
        is_begun: bool,
    ) -> Pumped {
        let mut is_checked = is_begun;
        loop {
            let client = self.clients.get_mut(id.key as usize);
            let Some(client) = client.filter(|found| found.id == id) else {
                return Pumped::Nothing;
            };
            if client.closing {
                return self.close(queue, id.key);
            }
            debug_assert!(
                client.is_kernel || client.outside_pool() <= client.outside_max(&io.pool),
                "a client holds too much memory"
            );
            if client.receiver.is_in_flight() || client.parked {
                return Pumped::Nothing;
            }
            if client.is_kernel && !is_checked {
                // It shuts a connection before it sends again by another what it sent by this: what was not submitted by
                // then must not be, for newer writes may have overtaken it.
                is_checked = true;
                if is_hung_up(&*client.fd) {
                    client.closing = true;
                    continue;
                }
            }
            if let Some((volume, request)) = client.write {
                let Some(payload) = client.take_data(io, queue, request.length) else {
                    return Pumped::Nothing;
                };
                client.write = None;
                return Pumped::Asked(client.asked(volume, request, Some(payload)));
            }
            if let Some((volume, request)) = client.read {
                if !client.may_read(&io.pool, request.length) {
                    // Resumed when something is answered or sent.
                    return Pumped::Nothing;
                }
                client.read = None;
                client.reading += u64::from(request.length);
                return Pumped::Asked(client.asked(volume, request, None));
            }
            if client.sender.queued_bytes() > UNSENT_MAX_BYTES {
                // `on_stream` resumes it.
                return Pumped::Nothing;
            }
            match self.advance(io, id.key) {
                Advance::On => {}
                Advance::Stops => return Pumped::Nothing,
                Advance::Asked(asked) => return Pumped::Asked(asked),
            }
        }
    }

    /// Goes on with the conversation with a client.
    fn advance(&mut self, io: &mut Io, key: u32) -> Advance {
        let Some(client) = self.clients.get_mut(key as usize) else {
            return Advance::Stops;
        };
        let step = {
            let Client {
                session,
                sender,
                receiver,
                ..
            } = client;
            let input = receiver.unread();
            sender.queue_bytes(|out| session.advance(&self.exports, input, out))
        };
        note_unsent(&mut self.unsent, client);
        match step {
            Step::NeedMore { .. } => {
                client.receive(io);
                return Advance::Stops;
            }
            Step::Consumed { consumed } => {
                client.receiver.consume(consumed);
                if client.volume.is_none() {
                    let volume = client.session.volume();
                    client.volume = volume.and_then(|nr| u16::try_from(nr).ok().map(VolumeNr));
                }
            }
            Step::Request {
                consumed,
                volume,
                request,
                payload_len,
            } => {
                client.receiver.consume(consumed);
                // Volumes come from the exports, whose numbers are 16 bits long.
                let volume = VolumeNr(volume as u16);
                if payload_len > 0 {
                    client.write = Some((volume, request));
                } else if request.op == rdb_frontend::Op::Read {
                    client.read = Some((volume, request));
                } else {
                    return Advance::Asked(client.asked(volume, request, None));
                }
            }
            Step::Wait => return Advance::Stops,
            Step::Close { reason } => {
                client.closing = true;
                client.goodbye = reason.is_orderly();
                if !reason.is_orderly() {
                    let text = format!("closed an NBD client: {reason}");
                    io.log_others(Level::Warn, None, text);
                }
                self.watch(io);
            }
        }
        Advance::On
    }

    /// Closes a client once all it asked is answered and sent.
    fn close(&mut self, queue: &mut Queue, key: u32) -> Pumped {
        let Some(client) = self.clients.get_mut(key as usize) else {
            return Pumped::Nothing;
        };
        let unasked = u32::from(client.write.is_some()) + u32::from(client.read.is_some());
        if client.session.in_flight() > unasked || !client.sender.is_idle() {
            return Pumped::Nothing;
        }
        queue.leave(Who::Nbd(client.id));
        // A receive may be in flight; this ends it.
        client.shut();
        let client = self.clients.remove(key as usize);
        match client.volume.filter(|_| client.is_kernel) {
            Some(nr) => Pumped::KernelGone(nr, client.goodbye),
            None => Pumped::Nothing,
        }
    }

    /// A send or a receive has ended; whether the client may be able to go on.
    pub(super) fn on_stream(
        &mut self,
        io: &mut Io,
        id: ClientId,
        (fd, flight): (Rc<OwnedFd>, Flight),
        result: i32,
    ) -> bool {
        let client = self.clients.get_mut(id.key as usize);
        let Some(client) = client.filter(|found| found.id == id) else {
            return false;
        };
        let received = match flight {
            Flight::Send(batch) => {
                let (flight, nobody) = ((Owner::Nbd(client.id), batch, fd), &mut Vec::new());
                let sender = &mut client.sender;
                match sender.on_sent(io.now, &mut io.ring, flight, result, nobody) {
                    Sent::More => return false,
                    Sent::All => note_unsent(&mut self.unsent, client),
                    Sent::Failed(_) => client.closing = true,
                }
                // It may have been held up by what was unsent.
                return true;
            }
            Flight::Stage(stage) => client.receiver.on_stage(stage, result),
            Flight::Payload(buf, filled) => client.receiver.on_payload(buf, filled, result),
        };
        client.heard = io.now;
        if let Received::Ended(_) = received {
            // It hung up, perhaps with requests open: those are done all the same.
            client.closing = true;
            self.watch(io);
        }
        true
    }

    /// Queues a reply. Runs amid effects.
    pub(super) fn reply(
        &mut self,
        io: &Io,
        id: ClientId,
        request: &Request,
        result: Result<(), Errno>,
        payload: Option<Buf>,
    ) {
        let client = self.clients.get_mut(id.key as usize);
        let Some(client) = client.filter(|found| found.id == id) else {
            return;
        };
        if client.parked && result == Err(Errno::Shutdown) {
            // The rest of a long discard came too late for this process: the next one is asked again.
            return;
        }
        let full = client.session.in_flight() >= rdb_frontend::nbd::IN_FLIGHT_MAX;
        if request.op == rdb_frontend::Op::Read {
            client.reading = client.reading.saturating_sub(u64::from(request.length));
        }
        let header = client.session.reply_header(request, result);
        client
            .sender
            .queue_bytes(|out| out.extend_from_slice(header.as_bytes()));
        if let Some(payload) = payload {
            if !client.is_kernel && io.pool.is_half_used(Reserve::Read) {
                // Clients that take no replies must not hold the buffers that others wait for: at most half of them lie in
                // replies, whatever all clients together do. A client's copies are one read, and what it had begun before.
                client
                    .sender
                    .queue_bytes(|out| out.extend_from_slice(payload.as_slice()));
            } else {
                client.sender.queue_payload(payload);
            }
        }
        note_unsent(&mut self.unsent, client);
        if full || client.closing || client.read.is_some() {
            self.resumed.push_back(id);
        }
    }

    /// Starts what was queued for clients in this turn.
    pub(super) fn flush(&mut self, io: &mut Io) {
        for key in self.unsent.drain(..) {
            if let Some(client) = self.clients.get_mut(key as usize) {
                client.in_unsent = false;
                let owner = Owner::Nbd(client.id);
                client.sender.flush(io.now, &mut io.ring, owner, &client.fd);
            }
        }
    }
}

fn note_unsent(unsent: &mut Vec<u32>, client: &mut Client) {
    if !client.in_unsent && client.sender.queued_bytes() > 0 {
        client.in_unsent = true;
        unsent.push(client.id.key);
    }
}
