//! The NBD socket: a listening socket while a device is there, and its clients.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use rdb_engine::{DeviceSpec, Level, Time, VolumeNr};
use rdb_frontend::knbd::is_hung_up;
use rdb_frontend::nbd::{CloseReason, Exports, Session, Step};
use rdb_frontend::{Errno, Frontend, Request};
use slab::Slab;

use super::nbd_socket::{listen, peer_user, refusal};
use super::{Origin, Starved, device_info};
use crate::api::Notice;
use crate::engine::Engine;
use crate::event_loop::EventLoop;
use crate::op::Op;
use crate::pool::{Buf, Pool, Reserve};
use crate::stream::{Owner, Received, Receiver, SendBatch, Sender, Sent, Stage};
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

/// The server and its clients.
pub(crate) struct Nbd {
    exports: Exports,
    listener: Option<Listener>,
    clients: Slab<Client>,
    generation: u32,
    /// Clients that may be able to go on.
    resumed: Vec<u32>,
    /// Clients with something to send.
    unsent: Vec<u32>,
    /// Long discards whose parts have ended.
    pub(super) parts: Vec<usize>,
}

struct Listener {
    generation: u32,
    fd: Rc<OwnedFd>,
    path: PathBuf,
    accepting: usize,
}

/// One connection.
struct Client {
    generation: u32,
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

    /// Where its requests come from.
    fn origin(&self, key: u32) -> Origin {
        Origin::Nbd {
            client: key,
            generation: self.generation,
        }
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
    pub(crate) fn new(resource: &str) -> Nbd {
        Nbd {
            exports: Exports::new(resource),
            listener: None,
            clients: Slab::new(),
            generation: 0,
            resumed: Vec::new(),
            unsent: Vec::new(),
            parts: Vec::new(),
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
    fn kernel_clients(&mut self, nr: VolumeNr) -> impl Iterator<Item = (usize, &mut Client)> {
        self.clients
            .iter_mut()
            .filter(move |(_, client)| client.is_kernel && client.volume == Some(nr))
    }

    fn client(&mut self, client: u32, generation: u32) -> Option<&mut Client> {
        self.clients
            .get_mut(client as usize)
            .filter(|found| found.generation == generation)
    }
}

impl<E: Engine> EventLoop<E> {
    /// A device can be used, or has a new size.
    pub(super) fn nbd_device_up(&mut self, nr: VolumeNr, spec: DeviceSpec) {
        self.front
            .nbd
            .exports
            .set(u32::from(nr.0), device_info(spec));
        if self.front.nbd.listener.is_some() || self.front.stopping {
            return;
        }
        let path = self
            .io
            .config
            .run_dir
            .join("nbd")
            .join(format!("{}.sock", self.io.config.name));
        match listen(&path) {
            Ok(fd) => {
                self.front.nbd.generation += 1;
                let (fd, generation) = (Rc::new(fd), self.front.nbd.generation);
                let accepting = self.accept_client(generation, &fd);
                self.front.nbd.listener = Some(Listener {
                    generation,
                    fd,
                    path,
                    accepting,
                });
            }
            Err(error) => {
                let text = format!("no NBD socket at {}: {error}", path.display());
                self.io.log(Level::Error, Some(nr), text.clone());
                if self.io.config.frontend == Frontend::Socket {
                    let (volume, reason) = (nr, text);
                    self.io.notify(Notice::NoDevice { volume, reason });
                }
            }
        }
    }

    /// A device is gone: its clients are closed when what they have asked is answered.
    pub(super) fn nbd_device_down(&mut self, nr: VolumeNr) {
        let nbd = &mut self.front.nbd;
        nbd.exports.remove(u32::from(nr.0));
        let last = nbd.exports.iter().next().is_none();
        for (key, client) in &mut nbd.clients {
            // The kernel goes when its device is given back.
            if !client.is_kernel && (client.volume == Some(nr) || last) {
                client.closing = true;
                client.heard = self.io.now;
                nbd.resumed.push(key as u32);
            }
        }
        let listener = nbd.listener.take_if(|_| last);
        self.watch_clients();
        if let Some(listener) = listener {
            self.io.ring.cancel(listener.accepting);
            // Another daemon's socket may have taken the name; then it is not ours to remove, but that takes a
            // second daemon on one run directory, which finds this one's lock.
            if let Err(error) = std::fs::remove_file(&listener.path) {
                let text = format!("removing {}: {error}", listener.path.display());
                self.io.log(Level::Warn, None, text);
            }
        }
    }

    fn accept_client(&mut self, generation: u32, fd: &Rc<OwnedFd>) -> usize {
        self.io.ring.start(Op::NbdAccept(generation, Rc::clone(fd)))
    }

    pub(crate) fn on_client_accepted(&mut self, generation: u32, result: i32) {
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
        let fd = (result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(result) });
        let Some(listener) = &self.front.nbd.listener else {
            return;
        };
        if listener.generation != generation {
            return;
        }
        let listening = Rc::clone(&listener.fd);
        match fd {
            Some(fd) => {
                let user = peer_user(&fd);
                match self.front.nbd.refusal(user) {
                    None => self.add_client(fd, Session::new(), user, None),
                    Some(why) => {
                        let text = format!("turned an NBD client away: {why}");
                        self.io.log_others(Level::Warn, None, text);
                    }
                }
            }
            None if result == -libc::ECANCELED => return,
            None => {
                let error = io::Error::from_raw_os_error(-result);
                self.io.log_others(
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
        let accepting = self.accept_client(generation, &listening);
        if let Some(listener) = &mut self.front.nbd.listener {
            listener.accepting = accepting;
        }
    }

    /// Serves the kernel for a device node.
    pub(crate) fn add_kernel_client(&mut self, nr: VolumeNr, socket: OwnedFd) {
        self.add_client(socket, Session::for_kernel(nr.0.into()), 0, Some(nr));
    }

    /// Takes nothing more from the kernel for a device node; what was taken is answered.
    pub(super) fn park_kernel_client(&mut self, nr: VolumeNr) {
        let mut parked = Vec::new();
        for (key, client) in self.front.nbd.kernel_clients(nr) {
            client.parked = true;
            let (client, generation) = (key as u32, client.generation);
            parked.push(Starved::Nbd { client, generation });
        }
        self.front.starved.retain(|other| !parked.contains(other));
    }

    /// Lets go of the kernel, whose device is gone.
    pub(super) fn close_kernel_client(&mut self, nr: VolumeNr) {
        let mut closing = Vec::new();
        for (key, client) in self.front.nbd.kernel_clients(nr) {
            client.closing = true;
            // What is being received or sent ends.
            let socket = socket2::SockRef::from(&*client.fd);
            let _ = socket.shutdown(std::net::Shutdown::Both);
            closing.push(key as u32);
        }
        self.front.nbd.resumed.extend(closing);
    }

    /// `kernel`: it is the kernel, for this volume.
    fn add_client(&mut self, fd: OwnedFd, session: Session, user: u32, kernel: Option<VolumeNr>) {
        self.front.nbd.generation += 1;
        let client = Client {
            generation: self.front.nbd.generation,
            fd: Rc::new(fd),
            session,
            sender: Sender::new(self.io.now, false),
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
            heard: self.io.now,
            cut: false,
        };
        let key = self.front.nbd.clients.insert(client) as u32;
        self.front.nbd.resumed.push(key);
        self.watch_clients();
    }

    /// Looks after a while whether a client is overdue. Called when there is a new reason to: a client that negotiates or
    /// is being closed, or somebody who waits for a buffer.
    pub(crate) fn watch_clients(&mut self) {
        if !self.front.nbd.clients.is_empty() && !self.io.timers.is_set(Slot::Clients) {
            self.io
                .timers
                .set(Slot::Clients, self.io.now.plus_ms(WATCH_MS));
        }
    }

    /// Cuts the clients that are overdue.
    /// `reads_wait`: for buffers.
    pub(crate) fn on_clients_timer(&mut self, reads_wait: bool) {
        let (now, shortage) = (self.io.now, reads_wait || !self.front.starved.is_empty());
        let mut cut = Vec::new();
        let mut watch = shortage;
        for (_, client) in &mut self.front.nbd.clients {
            if let Some(reason) = client.overdue(now, shortage) {
                client.cut = true;
                client.closing = true;
                // What is in flight ends with an error, and the client with it.
                let socket = socket2::SockRef::from(&*client.fd);
                let _ = socket.shutdown(std::net::Shutdown::Both);
                cut.push(reason);
            }
            watch |= client.is_watched();
        }
        for reason in cut {
            self.io.log_others(
                Level::Warn,
                None,
                format!("cut an NBD client off: {reason}"),
            );
        }
        if watch {
            self.watch_clients();
        }
    }

    /// Lets clients go on that were held up; whether there were any.
    pub(super) fn pump_paused_clients(&mut self) -> bool {
        let mut resumed = std::mem::take(&mut self.front.nbd.resumed);
        let any = !resumed.is_empty();
        for key in resumed.drain(..) {
            self.pump_client(key);
        }
        if self.front.nbd.resumed.is_empty() {
            self.front.nbd.resumed = resumed;
        }
        any
    }

    /// Takes requests off what a client has sent, and asks for more.
    fn pump_client(&mut self, key: u32) {
        let mut is_checked = false;
        loop {
            let nbd = &mut self.front.nbd;
            let Some(client) = nbd.clients.get_mut(key as usize) else {
                return;
            };
            let owner = Owner::Nbd {
                client: key,
                generation: client.generation,
            };
            if client.closing {
                return self.close_client(key);
            }
            debug_assert!(
                client.is_kernel || client.outside_pool() <= client.outside_max(&self.io.pool),
                "a client holds too much memory"
            );
            if client.receiver.is_in_flight() || client.parked {
                return;
            }
            if client.is_kernel && !is_checked {
                // It shuts a connection before it sends again by another what it sent by this: what was not submitted by
                // then must not be, for newer writes may have overtaken it. Nobody else is served before we return.
                is_checked = true;
                if is_hung_up(&*client.fd) {
                    client.closing = true;
                    continue;
                }
            }
            if let Some((volume, request)) = client.write {
                if !client.receiver.is_amid_payload() {
                    // Half a write must not hold what others need for whole ones: it comes into the reserve for such, or is
                    // gathered outside the pool. The kernel sends what it has begun.
                    if client.gathered.is_none() && !client.is_kernel {
                        if let Some(buf) = self.io.pool.take_filling(request.length) {
                            client.receiver.begin_payload(buf);
                            client.heard = self.io.now;
                            continue;
                        }
                        client.gathered = Some(Vec::new());
                    }
                    if !client.gather(request.length) {
                        client
                            .receiver
                            .receive(&mut self.io.ring, owner, &client.fd);
                        return;
                    }
                    let me = Starved::Nbd {
                        client: key,
                        generation: client.generation,
                    };
                    // Others may wait already, one of them perhaps for a large piece.
                    let first = self.front.starved.front().is_none_or(|first| *first == me);
                    let buf = if first {
                        self.io.pool.take_for_write(request.length)
                    } else {
                        None
                    };
                    let Some(mut buf) = buf else {
                        if !self.front.starved.contains(&me) {
                            self.front.starved.push_back(me);
                        }
                        self.watch_clients();
                        return;
                    };
                    if first && !self.front.starved.is_empty() {
                        self.front.starved.pop_front();
                    }
                    if let Some(whole) = client.gathered.take() {
                        if let Some(into) = buf.as_mut_slice() {
                            into.copy_from_slice(&whole);
                        }
                        client.write = None;
                        let origin = client.origin(key);
                        self.submit(origin, volume, request, Some(buf));
                        continue;
                    }
                    client.receiver.begin_payload(buf);
                    client.heard = self.io.now;
                }
                let Some(payload) = client.receiver.take_payload() else {
                    client
                        .receiver
                        .receive(&mut self.io.ring, owner, &client.fd);
                    return;
                };
                client.write = None;
                let origin = client.origin(key);
                self.submit(origin, volume, request, Some(payload));
                continue;
            }
            if let Some((volume, request)) = client.read {
                // A client that takes no replies must not end up with all buffers for reads: those of the peer come
                // from the same reserve. One read is always allowed.
                let held = client.reading + client.sender.unsent_bytes();
                // While they are scarce, it is one read at a time for each: the replies are copied then.
                let limit = match self.io.pool.is_half_used(Reserve::Read) {
                    true if !client.is_kernel => 0,
                    _ => self.io.pool.reserve_bytes(Reserve::Read) as u64 / 4,
                };
                if held > 0 && held + u64::from(request.length) > limit {
                    // Resumed when something is answered or sent.
                    return;
                }
                client.read = None;
                client.reading += u64::from(request.length);
                let origin = client.origin(key);
                self.submit(origin, volume, request, None);
                continue;
            }
            if client.sender.queued_bytes() > UNSENT_MAX_BYTES {
                // `on_client_sent` resumes it.
                return;
            }
            let step = {
                let Client {
                    session,
                    sender,
                    receiver,
                    ..
                } = client;
                let input = receiver.unread();
                sender.queue_bytes(|out| session.advance(&nbd.exports, input, out))
            };
            Self::note_unsent(&mut nbd.unsent, key, client);
            match step {
                Step::NeedMore { .. } => {
                    client
                        .receiver
                        .receive(&mut self.io.ring, owner, &client.fd);
                    return;
                }
                Step::Consumed { consumed } => {
                    client.receiver.consume(consumed);
                    if client.volume.is_none() {
                        client.volume = client
                            .session
                            .volume()
                            .and_then(|nr| u16::try_from(nr).ok().map(VolumeNr));
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
                        let origin = client.origin(key);
                        self.submit(origin, volume, request, None);
                    }
                }
                Step::Wait => return,
                Step::Close { reason } => {
                    client.closing = true;
                    client.goodbye = reason.is_orderly();
                    self.log_close(reason);
                    self.watch_clients();
                }
            }
        }
    }

    fn log_close(&mut self, reason: CloseReason) {
        if !reason.is_orderly() {
            self.io
                .log_others(Level::Warn, None, format!("closed an NBD client: {reason}"));
        }
    }

    fn note_unsent(unsent: &mut Vec<u32>, key: u32, client: &mut Client) {
        if !client.in_unsent && client.sender.queued_bytes() > 0 {
            client.in_unsent = true;
            unsent.push(key);
        }
    }

    /// Closes a client once all it asked is answered and sent.
    fn close_client(&mut self, key: u32) {
        let nbd = &mut self.front.nbd;
        let Some(client) = nbd.clients.get_mut(key as usize) else {
            return;
        };
        let unasked = u32::from(client.write.is_some()) + u32::from(client.read.is_some());
        if client.session.in_flight() > unasked || !client.sender.is_idle() {
            return;
        }
        let me = Starved::Nbd {
            client: key,
            generation: client.generation,
        };
        self.front.starved.retain(|other| *other != me);
        // A receive may be in flight; this ends it.
        let socket = socket2::SockRef::from(&*client.fd);
        let _ = socket.shutdown(std::net::Shutdown::Both);
        let client = nbd.clients.remove(key as usize);
        if let Some(nr) = client.volume.filter(|_| client.is_kernel) {
            let goodbye = client.goodbye;
            self.front.knbd.connection_ended(&self.io, nr, goodbye);
        }
    }

    pub(super) fn retry_client(&mut self, key: u32, generation: u32) -> bool {
        let me = Starved::Nbd {
            client: key,
            generation,
        };
        if self.front.nbd.client(key, generation).is_none() {
            self.front.starved.retain(|other| *other != me);
            return true;
        }
        self.pump_client(key);
        self.front.starved.front() != Some(&me)
    }

    pub(crate) fn on_client_stage(
        &mut self,
        (key, generation): (u32, u32),
        stage: Box<Stage>,
        result: i32,
    ) {
        let Some(client) = self.front.nbd.client(key, generation) else {
            return;
        };
        client.heard = self.io.now;
        let received = client.receiver.on_stage(stage, result);
        self.on_client_received(key, generation, &received);
    }

    pub(crate) fn on_client_payload(
        &mut self,
        (key, generation): (u32, u32),
        (buf, filled): (Buf, u32),
        result: i32,
    ) {
        let Some(client) = self.front.nbd.client(key, generation) else {
            return;
        };
        client.heard = self.io.now;
        let received = client.receiver.on_payload(buf, filled, result);
        self.on_client_received(key, generation, &received);
    }

    fn on_client_received(&mut self, key: u32, generation: u32, received: &Received) {
        if let Received::Ended(_) = received
            && let Some(client) = self.front.nbd.client(key, generation)
        {
            // It hung up, perhaps with requests open: those are done all the same.
            client.closing = true;
            self.watch_clients();
        }
        self.pump_client(key);
    }

    /// Queues a reply. Runs amid effects.
    pub(super) fn reply_to_client(
        &mut self,
        (key, generation): (u32, u32),
        request: &Request,
        result: Result<(), Errno>,
        payload: Option<Buf>,
    ) {
        let nbd = &mut self.front.nbd;
        let Some(client) = nbd
            .clients
            .get_mut(key as usize)
            .filter(|found| found.generation == generation)
        else {
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
            if !client.is_kernel && self.io.pool.is_half_used(Reserve::Read) {
                // Clients that take no replies must not hold the buffers that others wait for: at most half of them lie in
                // replies, whatever all clients together do. A client's copies are one read, and what it had begun before.
                client
                    .sender
                    .queue_bytes(|out| out.extend_from_slice(payload.as_slice()));
            } else {
                client.sender.queue_payload(payload);
            }
        }
        Self::note_unsent(&mut nbd.unsent, key, client);
        if full || client.closing || client.read.is_some() {
            nbd.resumed.push(key);
        }
    }

    /// Starts what was queued for clients in this turn.
    pub(crate) fn flush_clients(&mut self) {
        let nbd = &mut self.front.nbd;
        for key in nbd.unsent.drain(..) {
            if let Some(client) = nbd.clients.get_mut(key as usize) {
                client.in_unsent = false;
                let owner = Owner::Nbd {
                    client: key,
                    generation: client.generation,
                };
                client
                    .sender
                    .flush(self.io.now, &mut self.io.ring, owner, &client.fd);
            }
        }
    }

    pub(crate) fn on_client_sent(
        &mut self,
        (key, generation): (u32, u32),
        flight: (Owner, Box<SendBatch>, Rc<OwnedFd>),
        result: i32,
    ) {
        let (now, ring) = (self.io.now, &mut self.io.ring);
        let nbd = &mut self.front.nbd;
        let Some(client) = nbd
            .clients
            .get_mut(key as usize)
            .filter(|found| found.generation == generation)
        else {
            return;
        };
        match client
            .sender
            .on_sent(now, ring, flight, result, &mut Vec::new())
        {
            Sent::More => return,
            Sent::All => Self::note_unsent(&mut nbd.unsent, key, client),
            Sent::Failed(_) => client.closing = true,
        }
        // It may have been held up by what was unsent.
        self.pump_client(key);
    }

    /// Says that a device is there without a node.
    pub(super) fn announce_without_node(&mut self, volume: VolumeNr, spec: DeviceSpec) {
        self.io.notify(Notice::DeviceUp {
            volume,
            spec,
            node: None,
        });
    }
}
