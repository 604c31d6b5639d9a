//! The connection to the peer: two streams, packets in, packets out.

mod claims;
mod pairing;

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rdb_engine::config::NetOptions;
use rdb_engine::state::{ConnState, VolumeState};
use rdb_engine::{
    ConnEffect, ConnEvent, ConnId, Event, Hindrance, LossCause, SendTag, Time, VolumeNr,
};
use replica_proto::{
    DecodeError, Digest, Frame, Packet, ProtocolVersion, Socket, WireContext, decode,
};
use socket2::SockRef;

use self::pairing::{ID, Pairing, hindered};
use crate::api::ConnectRequest;
use crate::challenges::Challenge;
use crate::io::Io;
use crate::pool::{Buf, Reserve};
use crate::stream::{Flight, Owner, Received, Receiver, Sender, Sent};
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
    /// The encoding in use.
    wire: WireContext,
    pairing: Pairing,
    connection: Option<Connection>,
    closing: Vec<Closing>,
    /// Counts the connections; what completes for an old one is dropped.
    generation: u32,
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
            wire: WireContext::initial(),
            pairing: Pairing::new(),
            connection: None,
            closing: Vec::new(),
            generation: 0,
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

    /// From now on the peer is reached like this; how it was reached before.
    pub(crate) fn configure(&mut self, config: Option<ConnectRequest>) -> Option<ConnectRequest> {
        std::mem::replace(&mut self.pairing.config, config)
    }

    /// Options of the connection count for the sockets, too.
    pub(crate) fn take_options(&mut self, options: NetOptions) {
        if let Some(config) = &mut self.pairing.config {
            config.options = options;
        }
    }

    /// `max-buffers` of the connection, if one is configured.
    pub(crate) fn max_buffers(&self) -> Option<u32> {
        let config = self.pairing.config.as_ref()?;
        Some(config.options.max_buffers)
    }

    /// What the engine wants of the connection.
    pub(crate) fn apply(&mut self, io: &mut Io, of: ConnId, effect: ConnEffect<Buf>) {
        debug_assert_eq!(of, ID);
        match effect {
            ConnEffect::Open => self.open(io),
            ConnEffect::Close => self.close(io),
            ConnEffect::SetWire(wire) => self.wire = wire,
            ConnEffect::Send {
                volume,
                packet,
                digest,
                payload,
                notify,
            } => self.send_packet(volume, &packet, digest.as_ref(), payload, notify),
        }
    }

    /// Begins to pair.
    fn open(&mut self, io: &mut Io) {
        self.wire = WireContext::initial();
        self.pairing.open(io, self.fruitless);
    }

    /// Goes on with pairing; what the engine is to be told if there is a pair now, whose sockets are to be pumped after that.
    pub(crate) fn on_pairing_timer(&mut self, io: &mut Io) -> Option<Event<Buf>> {
        let (data, meta) = self.pairing.on_timer(io)?;
        let challenge = match io.config.challenges.draw() {
            Ok(challenge) => challenge,
            Err(error) => {
                let reason = format!("no random bytes for a challenge: {error}");
                hindered(io, Hindrance::OwnAddress { reason });
                self.open(io);
                return None;
            }
        };
        let paired = Event::Connection(
            ID,
            ConnEvent::Paired {
                resolve_conflicts: !meta.opened,
                called: !data.opened,
                challenge: *challenge.bytes(),
            },
        );
        let config = self.pairing.config.as_ref();
        let cork = config.is_some_and(|config| config.tcp_cork);
        self.generation += 1;
        self.connection = Some(Connection {
            generation: self.generation,
            called: !(data.opened && meta.opened),
            data: End::new(Socket::Data, data.stream, io.now, cork),
            meta: End::new(Socket::Meta, meta.stream, io.now, cork),
            lost: false,
            _challenge: challenge,
            fruitful: false,
        });
        self.starved = false;
        self.early = false;
        Some(paired)
    }

    pub(crate) fn on_accepted(&mut self, io: &mut Io, generation: u32, result: i32) {
        self.pairing.on_accepted(io, generation, result);
    }

    pub(crate) fn on_first_packet(
        &mut self,
        io: &mut Io,
        generation: u32,
        fd: Rc<OwnedFd>,
        bytes: [u8; 8],
        result: i32,
    ) {
        self.pairing
            .on_first_packet(io, generation, fd, bytes, result);
    }

    pub(crate) fn on_connected(
        &mut self,
        io: &mut Io,
        generation: u32,
        fd: Rc<OwnedFd>,
        result: i32,
    ) {
        self.pairing.on_connected(io, generation, fd, result);
    }

    fn timeout_ms(&self) -> u64 {
        let timeout_ds = self
            .pairing
            .config
            .as_ref()
            .map_or(60, |config| config.options.timeout_ds);
        u64::from(timeout_ds.max(1)) * 100
    }

    /// Reads what has arrived and asks for more: the next event, after which it is to be called again.
    pub(crate) fn pump(&mut self, io: &mut Io, socket: Socket) -> Option<Event<Buf>> {
        loop {
            let wire = self.wire;
            let connection = self.connection.as_mut()?;
            if connection.lost {
                return None;
            }
            let owes_too_much = connection.owes_too_much(socket);
            let generation = connection.generation;
            let end = connection.end(socket);
            if end.receiver.is_in_flight() {
                return None;
            }
            end.choked = owes_too_much;
            if end.choked {
                return None;
            }
            let owner = end.owner(generation);
            if let Some(frame) = &end.frame {
                if !end.receiver.is_amid_payload() {
                    let Some(buf) = io.pool.take(Reserve::Receive, frame.payload_len) else {
                        self.starved = true;
                        return None;
                    };
                    end.receiver.begin_payload(buf);
                }
                let Some(payload) = end.receiver.take_payload() else {
                    end.receiver.receive(&mut io.ring, owner, &end.fd);
                    return None;
                };
                return end
                    .frame
                    .take()
                    .map(|frame| deliver(io, frame, Some(payload)));
            }
            // A peer may speak on the meta socket before we have looked at its features on the data socket: how its packets
            // are to be read is not known yet.
            let early = socket == Socket::Meta && wire.version == ProtocolVersion::INITIAL;
            if early && !end.receiver.unread().is_empty() {
                self.early = true;
                return None;
            }
            match decode(&wire, socket, end.receiver.unread()) {
                Ok(None) => {
                    end.receiver.receive(&mut io.ring, owner, &end.fd);
                    return None;
                }
                Ok(Some(frame)) => {
                    end.receiver.consume(frame.consumed);
                    if frame.payload_len == 0 {
                        return Some(deliver(io, frame, None));
                    }
                    end.frame = Some(frame);
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

    /// Takes note of a volume's state: the connection has come to something once it is more than an exchange of parameters.
    pub(crate) fn watch(&mut self, new: &VolumeState) {
        if new.conn >= ConnState::Connected
            && let Some(connection) = &mut self.connection
        {
            connection.fruitful = true;
        }
    }

    /// The connection has ended: what the engine is told of it, once.
    fn lose(&mut self, socket: Socket, cause: LossCause) -> Option<Event<Buf>> {
        let connection = self.connection.as_mut()?;
        let is_new = !std::mem::replace(&mut connection.lost, true);
        is_new.then_some(Event::Connection(ID, ConnEvent::Lost { socket, cause }))
    }

    /// A send or a receive has ended: what the engine is to be told, after which the socket is to be pumped.
    pub(crate) fn on_stream(
        &mut self,
        io: &mut Io,
        (generation, socket): (u32, Socket),
        (fd, flight): (Rc<OwnedFd>, Flight),
        result: i32,
    ) -> Option<Event<Buf>> {
        let current = self.connection.as_mut();
        let Some(connection) = current.filter(|current| current.generation == generation) else {
            self.on_closing_stream(io, (generation, socket), (fd, flight), result);
            return None;
        };
        let end = connection.end(socket);
        let received = match flight {
            Flight::Send(batch) => {
                let flight = (end.owner(generation), batch, fd);
                let sent = end
                    .sender
                    .on_sent(io.now, &mut io.ring, flight, result, &mut self.tags);
                let tags = self.tags.drain(..);
                io.pending
                    .extend(tags.map(|tag| Event::Connection(ID, ConnEvent::Sent { tag })));
                return match sent {
                    Sent::Failed(error) => self.lose(socket, LossCause::Closed { error }),
                    Sent::More | Sent::All => None,
                };
            }
            Flight::Stage(stage) => end.receiver.on_stage(stage, result),
            Flight::Payload(buf, filled) => end.receiver.on_payload(buf, filled, result),
        };
        match received {
            Received::Bytes => self.pump(io, socket),
            // Not at once: what came over the other socket before this end is in the same batch of completions, and
            // a reply that the peer sent last must not be lost to the order of them.
            Received::Ended(error) => {
                self.ended.get_or_insert((socket, error));
                None
            }
        }
    }

    /// The end of a socket that was found in this turn.
    pub(crate) fn report_ended(&mut self) -> Option<Event<Buf>> {
        let (socket, error) = self.ended.take()?;
        self.lose(socket, LossCause::Closed { error })
    }

    /// Whether packets of the meta socket came before the protocol's version was agreed, and can be read now.
    pub(crate) fn take_early(&mut self) -> bool {
        self.wire.version != ProtocolVersion::INITIAL && std::mem::take(&mut self.early)
    }

    /// Whether a socket was not read because the peer took no answers, and has taken some.
    pub(crate) fn is_resumed(&mut self, socket: Socket) -> bool {
        self.connection.as_mut().is_some_and(|connection| {
            connection.end(socket).choked && !connection.owes_too_much(socket)
        })
    }

    /// Whether a packet waits for a buffer, which it is to try to get anew.
    pub(crate) fn take_starved(&mut self) -> bool {
        std::mem::take(&mut self.starved)
    }

    /// Whether a packet waits for a buffer.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved
    }

    /// Queues a packet; it leaves with the others of this turn.
    fn send_packet(
        &mut self,
        volume: VolumeNr,
        packet: &Packet,
        digest: Option<&Digest>,
        payload: Option<Buf>,
        notify: Option<SendTag>,
    ) {
        let wire = self.wire;
        let Some(connection) = &mut self.connection else {
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
    pub(crate) fn flush(&mut self, io: &mut Io) {
        let timeout_ms = self.timeout_ms();
        if let Some(connection) = &mut self.connection {
            let generation = connection.generation;
            for end in [&mut connection.meta, &mut connection.data] {
                let owner = end.owner(generation);
                end.sender.flush(io.now, &mut io.ring, owner, &end.fd);
                let slot = Slot::Stall(end.socket);
                if end.sender.is_flying() && !io.timers.is_set(slot) {
                    io.timers.set(slot, io.now.plus_ms(timeout_ms));
                }
            }
        }
        self.advance_closing(io);
    }

    /// Looks whether a socket has taken nothing for a whole timeout.
    pub(crate) fn on_stall_timer(&mut self, io: &mut Io, socket: Socket) -> Option<Event<Buf>> {
        let timeout_ms = self.timeout_ms();
        let connection = self.connection.as_mut()?;
        let sender = &connection.end(socket).sender;
        if !sender.is_flying() {
            return None;
        }
        let due = sender.progress.plus_ms(timeout_ms);
        if due > io.now {
            io.timers.set(Slot::Stall(socket), due);
            return None;
        }
        io.timers
            .set(Slot::Stall(socket), io.now.plus_ms(timeout_ms));
        Some(Event::Connection(ID, ConnEvent::SendStalled { socket }))
    }

    /// Ends pairing or the connection. What is queued is sent first, while no event of it follows any more.
    pub(crate) fn close(&mut self, io: &mut Io) {
        self.pairing.stop(io);
        self.starved = false;
        self.early = false;
        self.ended = None;
        for socket in [Socket::Data, Socket::Meta] {
            io.timers.clear(Slot::Stall(socket));
        }
        let Some(connection) = self.connection.take() else {
            return;
        };
        self.fruitless = connection.called && !connection.fruitful;
        let deadline = io.now.plus_ms(CLOSE_MS);
        let mut closing = Closing {
            connection,
            deadline,
            meta_until: io.now.plus_ms(CLOSE_META_MS),
            shut: [false; 2],
            ended: [false; 2],
        };
        let generation = closing.connection.generation;
        for end in [&mut closing.connection.data, &mut closing.connection.meta] {
            let owner = end.owner(generation);
            end.sender.flush(io.now, &mut io.ring, owner, &end.fd);
            // Unread bytes would turn the close into a reset, which can overtake what was sent.
            end.frame = None;
            end.receiver.discard();
            end.receiver.receive(&mut io.ring, owner, &end.fd);
        }
        self.closing.push(closing);
        io.timers.set(Slot::Closing, io.now);
    }

    /// The same of a connection that is being closed.
    fn on_closing_stream(
        &mut self,
        io: &mut Io,
        (generation, socket): (u32, Socket),
        (fd, flight): (Rc<OwnedFd>, Flight),
        result: i32,
    ) {
        let mut closing = self.closing.iter_mut();
        let Some(closing) = closing.find(|c| c.connection.generation == generation) else {
            return;
        };
        let end = closing.connection.end(socket);
        let owner = end.owner(generation);
        match flight {
            Flight::Send(batch) => {
                let (flight, nobody) = ((owner, batch, fd), &mut Vec::new());
                let _ = end
                    .sender
                    .on_sent(io.now, &mut io.ring, flight, result, nobody);
                return;
            }
            Flight::Stage(stage) => drop(end.receiver.on_stage(stage, result)),
            Flight::Payload(..) => end.receiver.payload_is_gone(),
        }
        if result <= 0 && result != -libc::EINTR && result != -libc::EAGAIN {
            closing.ended[usize::from(socket == Socket::Meta)] = true;
            return;
        }
        end.receiver.discard();
        end.receiver.receive(&mut io.ring, owner, &end.fd);
    }

    /// Says goodbye where all is sent, and drops what both sides have ended.
    fn advance_closing(&mut self, io: &mut Io) {
        if self.closing.is_empty() {
            return;
        }
        let (now, ring) = (io.now, &mut io.ring);
        self.closing.retain_mut(|closing| {
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

    pub(crate) fn on_closing_timer(&mut self, io: &mut Io) {
        self.advance_closing(io);
        let now = io.now;
        if let Some(next) = self
            .closing
            .iter()
            .map(|closing| match closing.shut[1] {
                false if now < closing.meta_until => closing.meta_until,
                _ => closing.deadline,
            })
            .min()
        {
            io.timers.set(Slot::Closing, next);
        }
    }
}

/// What the engine is told of a packet.
fn deliver(io: &Io, frame: Frame, payload: Option<Buf>) -> Event<Buf> {
    let Frame {
        volume,
        packet,
        digest,
        ..
    } = frame;
    if let Packet::AuthChallenge(challenge) = &packet
        && io.config.challenges.contain(challenge)
    {
        return Event::Connection(ID, ConnEvent::ChallengeReflected);
    }
    Event::Connection(
        ID,
        ConnEvent::Received {
            volume,
            packet,
            digest,
            payload,
        },
    )
}
