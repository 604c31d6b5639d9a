//! The connection to the peer: two streams, packets in, packets out.

mod claims;
pub(crate) mod pairing;

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rdb_engine::state::{ConnState, VolumeState};
use rdb_engine::{Event, LossCause, SendTag, Time, VolumeNr};
use replica_proto::{
    DecodeError, Digest, Frame, Packet, ProtocolVersion, Socket, WireContext, decode,
};
use socket2::SockRef;

use self::claims::Half;
use self::pairing::Pairing;
use crate::api::ConnectRequest;
use crate::challenges::Challenge;
use crate::engine::Engine;
use crate::event_loop::EventLoop;
use crate::pool::{Buf, Reserve};
use crate::stream::{Owner, Received, Receiver, SendBatch, Sender, Sent, Stage};
use crate::timers::Slot;

/// Bytes of the stages. Small writes arrive many at a time; a meta packet is a few tens of bytes.
const DATA_STAGE_BYTES: usize = 64 * 1024;
const META_STAGE_BYTES: usize = 16 * 1024;
/// How long a closed connection may take to send what is queued and to hear the peer's end of file.
const CLOSE_MS: u64 = 1000;
/// How much of that the meta socket stays open for a peer that has not ended its data socket.
const CLOSE_META_MS: u64 = 500;
/// Bytes of packets without a payload that may wait for the peer to take them before this node stops to read from it.
/// What a right peer can have asked for is far less: 50,000 acks of 40 bytes on the meta socket, and on the data socket
/// hardly anything. So right nodes never wait for each other (`docs/ARCHITECTURE.md`, "What a peer can make us hold").
const OWED_MAX: u64 = 2 << 20;
/// The same for the meta socket's own reader: only a flood of pings leads there.
const OWED_META_MAX: u64 = 2 * OWED_MAX;
/// What this node's own requests may add to that, which front ends bound, and one batch of a bitmap.
const OWN_MAX: u64 = 4 << 20;

/// Everything about the peer's sockets.
pub(crate) struct Net {
    /// How the peer is reached; set by the last connect that was not refused.
    pub(crate) config: Option<ConnectRequest>,
    /// The encoding in use.
    pub(crate) wire: WireContext,
    pub(super) pairing: Option<Pairing>,
    connection: Option<Connection>,
    closing: Vec<Closing>,
    /// Distinguishes pairings and connections; what completes for an old one is dropped.
    generation: u32,
    /// Until when only streams that this node has opened make a pair.
    contested_until: Time,
    /// The last connection with an accepted stream came to nothing.
    fruitless: bool,
    /// A payload waits for a buffer.
    starved: bool,
    /// Packets of the meta socket wait until the protocol's version is agreed.
    early: bool,
    /// A socket has ended in this turn, with this error.
    ended: Option<(Socket, i32)>,
    /// Tags to report, a scratch list.
    tags: Vec<SendTag>,
}

/// Both streams of a connection.
struct Connection {
    generation: u32,
    data: End,
    meta: End,
    /// A socket has ended: neither is read any more.
    lost: bool,
    /// The challenge that was given over it.
    _challenge: Challenge,
    /// The peer has opened one of the sockets.
    called: bool,
    /// A volume has got beyond the exchange of parameters.
    fruitful: bool,
}

/// One of the two streams.
struct End {
    socket: Socket,
    fd: Rc<OwnedFd>,
    sender: Sender,
    receiver: Receiver,
    /// A packet whose payload is still to come.
    frame: Option<Frame>,
    /// It is not read because the peer takes no answers.
    choked: bool,
}

/// A connection that sends its last bytes and listens for the peer's end of file.
struct Closing {
    connection: Connection,
    deadline: Time,
    /// When the meta socket ends even if the peer has not ended its data socket.
    meta_until: Time,
    /// No more will be sent: data, meta.
    shut: [bool; 2],
    /// The peer has ended: data, meta.
    ended: [bool; 2],
}

impl Connection {
    fn end(&mut self, socket: Socket) -> &mut End {
        match socket {
            Socket::Data => &mut self.data,
            Socket::Meta => &mut self.meta,
        }
    }

    /// Whether the peer has left so many answers that `socket` is not to be read: data because of either queue, meta,
    /// whose packets ask for pings to be answered and no more, because of its own.
    fn owes_too_much(&self, socket: Socket) -> bool {
        let (data, meta) = (self.data.sender.bare_bytes(), self.meta.sender.bare_bytes());
        debug_assert!(data.max(meta) <= OWED_META_MAX + OWN_MAX, "{data} {meta}");
        match socket {
            Socket::Data => data.max(meta) > OWED_MAX,
            Socket::Meta => meta > OWED_META_MAX,
        }
    }
}

impl End {
    fn new(socket: Socket, fd: Rc<OwnedFd>, now: Time, cork: bool) -> End {
        let stage = match socket {
            Socket::Data => DATA_STAGE_BYTES,
            Socket::Meta => META_STAGE_BYTES,
        };
        let (sender, receiver) = (Sender::new(now, cork), Receiver::new(stage));
        End {
            socket,
            fd,
            sender,
            receiver,
            frame: None,
            choked: false,
        }
    }

    fn owner(&self, generation: u32) -> Owner {
        Owner::Peer {
            generation,
            socket: self.socket,
        }
    }
}

impl Net {
    pub(crate) fn new() -> Net {
        Net {
            config: None,
            wire: WireContext::initial(),
            pairing: None,
            connection: None,
            closing: Vec::new(),
            generation: 0,
            contested_until: Time(0),
            fruitless: false,
            starved: false,
            early: false,
            ended: None,
            tags: Vec::new(),
        }
    }

    /// Whether closed connections still have something to say.
    pub(crate) fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    fn timeout_ms(&self) -> u64 {
        let timeout_ds = self
            .config
            .as_ref()
            .map_or(60, |config| config.options.timeout_ds);
        u64::from(timeout_ds.max(1)) * 100
    }
}

impl<E: Engine> EventLoop<E> {
    /// Both sockets stand: from now on packets flow.
    fn install_connection(
        &mut self,
        data: Half<Rc<OwnedFd>>,
        meta: Half<Rc<OwnedFd>>,
        challenge: Challenge,
    ) {
        self.net.generation += 1;
        let generation = self.net.generation;
        let cork = self
            .net
            .config
            .as_ref()
            .is_some_and(|config| config.tcp_cork);
        self.net.connection = Some(Connection {
            generation,
            data: End::new(Socket::Data, data.stream, self.io.now, cork),
            meta: End::new(Socket::Meta, meta.stream, self.io.now, cork),
            lost: false,
            _challenge: challenge,
            called: !(data.opened && meta.opened),
            fruitful: false,
        });
        self.net.starved = false;
        self.net.early = false;
    }

    /// Reads what has arrived and asks for more.
    pub(crate) fn pump_peer(&mut self, socket: Socket) {
        loop {
            let net = &mut self.net;
            let wire = net.wire;
            let Some(connection) = &mut net.connection else {
                return;
            };
            if connection.lost {
                return;
            }
            let owes_too_much = connection.owes_too_much(socket);
            let generation = connection.generation;
            let end = connection.end(socket);
            if end.receiver.is_in_flight() {
                return;
            }
            end.choked = owes_too_much;
            if end.choked {
                return;
            }
            let owner = end.owner(generation);
            if let Some(frame) = &end.frame {
                if !end.receiver.is_amid_payload() {
                    let Some(buf) = self.io.pool.take(Reserve::Receive, frame.payload_len) else {
                        net.starved = true;
                        return;
                    };
                    end.receiver.begin_payload(buf);
                }
                let Some(payload) = end.receiver.take_payload() else {
                    end.receiver.receive(&mut self.io.ring, owner, &end.fd);
                    return;
                };
                if let Some(frame) = end.frame.take() {
                    self.deliver(frame, Some(payload));
                }
                continue;
            }
            // A peer may speak on the meta socket before we have looked at its features on the data socket: how its packets
            // are to be read is not known yet.
            let early = socket == Socket::Meta && wire.version == ProtocolVersion::INITIAL;
            if early && !end.receiver.unread().is_empty() {
                net.early = true;
                return;
            }
            match decode(&wire, socket, end.receiver.unread()) {
                Ok(None) => {
                    end.receiver.receive(&mut self.io.ring, owner, &end.fd);
                    return;
                }
                Ok(Some(frame)) => {
                    end.receiver.consume(frame.consumed);
                    if frame.payload_len == 0 {
                        self.deliver(frame, None);
                    } else {
                        end.frame = Some(frame);
                    }
                }
                Err(error) => {
                    let cause = LossCause::BadPacket {
                        error: error.to_string(),
                        unknown_command: matches!(error, DecodeError::UnknownCommand { .. }),
                    };
                    return self.lose(socket, cause);
                }
            }
        }
    }

    fn deliver(&mut self, frame: Frame, payload: Option<Buf>) {
        let Frame {
            volume,
            packet,
            digest,
            ..
        } = frame;
        if let Packet::AuthChallenge(challenge) = &packet
            && self.io.config.challenges.contain(challenge)
        {
            return self.raise(Event::ChallengeReflected);
        }
        self.raise(Event::Received {
            volume,
            packet,
            digest,
            payload,
        });
    }

    /// Takes note of a volume's state: the connection has come to something once it is more than an exchange of parameters.
    pub(crate) fn watch_connection(&mut self, new: &VolumeState) {
        if new.conn >= ConnState::Connected
            && let Some(connection) = &mut self.net.connection
        {
            connection.fruitful = true;
        }
    }

    /// Tells the engine, once, that the connection has ended.
    fn lose(&mut self, socket: Socket, cause: LossCause) {
        let Some(connection) = &mut self.net.connection else {
            return;
        };
        if !std::mem::replace(&mut connection.lost, true) {
            self.raise(Event::ConnectionLost { socket, cause });
        }
    }

    fn is_current(&self, generation: u32) -> bool {
        self.net
            .connection
            .as_ref()
            .is_some_and(|connection| connection.generation == generation)
    }

    pub(crate) fn on_peer_stage(
        &mut self,
        generation: u32,
        socket: Socket,
        stage: Box<Stage>,
        result: i32,
    ) {
        let Some(connection) = self.net.connection.as_mut() else {
            return self.on_closing_read(generation, socket, Some(stage), result);
        };
        if connection.generation != generation {
            return self.on_closing_read(generation, socket, Some(stage), result);
        }
        let received = connection.end(socket).receiver.on_stage(stage, result);
        self.on_received(socket, &received);
    }

    pub(crate) fn on_peer_payload(
        &mut self,
        generation: u32,
        socket: Socket,
        (buf, filled): (Buf, u32),
        result: i32,
    ) {
        if !self.is_current(generation) {
            drop(buf);
            return self.on_closing_read(generation, socket, None, result);
        }
        let Some(connection) = self.net.connection.as_mut() else {
            return;
        };
        let received = connection
            .end(socket)
            .receiver
            .on_payload(buf, filled, result);
        self.on_received(socket, &received);
    }

    fn on_received(&mut self, socket: Socket, received: &Received) {
        match *received {
            Received::Bytes => self.pump_peer(socket),
            // Not at once: what came over the other socket before this end is in the same batch of completions, and
            // a reply that the peer sent last must not be lost to the order of them.
            Received::Ended(error) => {
                self.net.ended.get_or_insert((socket, error));
            }
        }
    }

    /// Reports the end of a socket that was found in this turn.
    pub(crate) fn report_ended(&mut self) {
        if let Some((socket, error)) = self.net.ended.take() {
            self.lose(socket, LossCause::Closed { error });
        }
    }

    /// Goes on with packets of the meta socket that came before the protocol's version was agreed; whether there were any.
    pub(crate) fn pump_early_meta(&mut self) -> bool {
        let agreed = self.net.wire.version != ProtocolVersion::INITIAL;
        let due = agreed && std::mem::take(&mut self.net.early);
        if due {
            self.pump_peer(Socket::Meta);
        }
        due
    }

    /// Reads on from a peer that has taken answers; whether there was one.
    pub(crate) fn pump_resumed_peer(&mut self) -> bool {
        let mut resumed = false;
        for socket in [Socket::Meta, Socket::Data] {
            let Some(connection) = &mut self.net.connection else {
                break;
            };
            if connection.end(socket).choked && !connection.owes_too_much(socket) {
                self.pump_peer(socket);
                resumed = true;
            }
        }
        resumed
    }

    /// Goes on with a packet that waited for a buffer; whether one did.
    pub(crate) fn retry_starved_peer(&mut self) -> bool {
        let starved = std::mem::take(&mut self.net.starved);
        if starved {
            self.pump_peer(Socket::Data);
        }
        starved && !self.net.starved
    }

    /// Queues a packet; it leaves with the others of this turn.
    pub(crate) fn send_packet(
        &mut self,
        volume: VolumeNr,
        packet: &Packet,
        digest: Option<&Digest>,
        payload: Option<Buf>,
        notify: Option<SendTag>,
    ) {
        let wire = self.net.wire;
        let Some(connection) = &mut self.net.connection else {
            return;
        };
        let sender = &mut connection.end(packet.socket()).sender;
        let payload_len = payload.as_ref().map_or(0, |payload| payload.len() as u32);
        let encode = |out: &mut Vec<u8>| packet.encode(&wire, volume.0, digest, payload_len, out);
        match payload {
            Some(payload) => {
                sender.queue_bytes(encode);
                sender.queue_payload(payload);
            }
            None => sender.queue_bare(encode),
        }
        if let Some(tag) = notify {
            sender.mark(tag);
        }
    }

    /// Starts what was queued for the peer.
    pub(crate) fn flush_peer(&mut self) {
        let timeout_ms = self.net.timeout_ms();
        if let Some(connection) = &mut self.net.connection {
            let generation = connection.generation;
            for end in [&mut connection.meta, &mut connection.data] {
                let owner = end.owner(generation);
                end.sender
                    .flush(self.io.now, &mut self.io.ring, owner, &end.fd);
                let slot = Slot::Stall(end.socket);
                if end.sender.is_flying() && !self.io.timers.is_set(slot) {
                    self.io.timers.set(slot, self.io.now.plus_ms(timeout_ms));
                }
            }
        }
        self.advance_closing();
    }

    pub(crate) fn on_peer_sent(
        &mut self,
        owner: Owner,
        (batch, fd): (Box<SendBatch>, Rc<OwnedFd>),
        result: i32,
    ) {
        let Owner::Peer { generation, socket } = owner else {
            return;
        };
        let (now, ring) = (self.io.now, &mut self.io.ring);
        if let Some(connection) = &mut self.net.connection
            && connection.generation == generation
        {
            let mut tags = std::mem::take(&mut self.net.tags);
            let sender = &mut connection.end(socket).sender;
            let sent = sender.on_sent(now, ring, (owner, batch, fd), result, &mut tags);
            for tag in tags.drain(..) {
                self.io.pending.push_back(Event::Sent { tag });
            }
            self.net.tags = tags;
            if let Sent::Failed(error) = sent {
                self.lose(socket, LossCause::Closed { error });
            }
            return;
        }
        let closing = &mut self.net.closing;
        if let Some(closing) = closing
            .iter_mut()
            .find(|c| c.connection.generation == generation)
        {
            let sender = &mut closing.connection.end(socket).sender;
            let _ = sender.on_sent(now, ring, (owner, batch, fd), result, &mut Vec::new());
        }
    }

    /// Looks whether a socket has taken nothing for a whole timeout.
    pub(crate) fn on_stall_timer(&mut self, socket: Socket) {
        let timeout_ms = self.net.timeout_ms();
        let Some(connection) = &mut self.net.connection else {
            return;
        };
        let sender = &connection.end(socket).sender;
        if !sender.is_flying() {
            return;
        }
        let due = sender.progress.plus_ms(timeout_ms);
        if due > self.io.now {
            return self.io.timers.set(Slot::Stall(socket), due);
        }
        self.io
            .timers
            .set(Slot::Stall(socket), self.io.now.plus_ms(timeout_ms));
        self.raise(Event::SendStalled { socket });
    }

    /// Ends pairing or the connection. What is queued is sent first, while no event of it follows any more.
    pub(crate) fn close_connection(&mut self) {
        self.stop_pairing();
        self.net.starved = false;
        self.net.early = false;
        self.net.ended = None;
        for socket in [Socket::Data, Socket::Meta] {
            self.io.timers.clear(Slot::Stall(socket));
        }
        let Some(connection) = self.net.connection.take() else {
            return;
        };
        self.net.fruitless = connection.called && !connection.fruitful;
        let deadline = self.io.now.plus_ms(CLOSE_MS);
        let mut closing = Closing {
            connection,
            deadline,
            meta_until: self.io.now.plus_ms(CLOSE_META_MS),
            shut: [false; 2],
            ended: [false; 2],
        };
        let generation = closing.connection.generation;
        for end in [&mut closing.connection.data, &mut closing.connection.meta] {
            let owner = end.owner(generation);
            end.sender
                .flush(self.io.now, &mut self.io.ring, owner, &end.fd);
            // Unread bytes would turn the close into a reset, which can overtake what was sent.
            end.frame = None;
            end.receiver.discard();
            end.receiver.receive(&mut self.io.ring, owner, &end.fd);
        }
        self.net.closing.push(closing);
        self.io.timers.set(Slot::Closing, self.io.now);
    }

    fn on_closing_read(
        &mut self,
        generation: u32,
        socket: Socket,
        stage: Option<Box<Stage>>,
        result: i32,
    ) {
        let Some(closing) = self
            .net
            .closing
            .iter_mut()
            .find(|c| c.connection.generation == generation)
        else {
            return;
        };
        let index = usize::from(socket == Socket::Meta);
        let end = closing.connection.end(socket);
        match stage {
            Some(stage) => drop(end.receiver.on_stage(stage, result)),
            None => end.receiver.payload_is_gone(),
        }
        if result <= 0 && result != -libc::EINTR && result != -libc::EAGAIN {
            closing.ended[index] = true;
            return;
        }
        end.receiver.discard();
        let owner = end.owner(generation);
        end.receiver.receive(&mut self.io.ring, owner, &end.fd);
    }

    /// Says goodbye where all is sent, and drops what both sides have ended.
    fn advance_closing(&mut self) {
        if self.net.closing.is_empty() {
            return;
        }
        let (now, ring) = (self.io.now, &mut self.io.ring);
        self.net.closing.retain_mut(|closing| {
            let generation = closing.connection.generation;
            let Connection { data, meta, .. } = &mut closing.connection;
            let ends = [meta, data];
            let idle = ends.into_iter().fold(true, |idle, end| {
                let owner = end.owner(generation);
                end.sender.flush(now, ring, owner, &end.fd);
                idle && end.sender.is_idle()
            });
            // Only when both have sent all: an end of one socket must not overtake a reply on the other one. Data ends
            // first: a peer that sees its meta socket end drops what it has not read of the data socket, and would
            // never evaluate the parameters that it is refused for (`docs/spec/behaviour.md`, section 5.7).
            if idle && !closing.shut[0] {
                closing.shut[0] = true;
                // It may be gone already; then there is nobody to say it to.
                let _ = SockRef::from(&*closing.connection.data.fd).shutdown(Shutdown::Write);
            }
            if closing.shut == [true, false] && (closing.ended[0] || now >= closing.meta_until) {
                closing.shut[1] = true;
                let _ = SockRef::from(&*closing.connection.meta.fd).shutdown(Shutdown::Write);
            }
            let done = closing.shut == [true; 2] && closing.ended == [true; 2];
            if done || now >= closing.deadline {
                for end in [&closing.connection.data, &closing.connection.meta] {
                    let _ = SockRef::from(&*end.fd).shutdown(Shutdown::Both);
                }
                return false;
            }
            true
        });
    }

    pub(crate) fn on_closing_timer(&mut self) {
        self.advance_closing();
        let now = self.io.now;
        if let Some(next) = self
            .net
            .closing
            .iter()
            .map(|closing| match closing.shut[1] {
                false if now < closing.meta_until => closing.meta_until,
                _ => closing.deadline,
            })
            .min()
        {
            self.io.timers.set(Slot::Closing, next);
        }
    }
}
