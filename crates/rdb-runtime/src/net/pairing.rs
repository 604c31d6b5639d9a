//! How two TCP streams become a connection: `docs/spec/wire.md`, sections 1.3 and 1.4.
//!
//! Both nodes listen and connect. The stream that carries the initial data packet becomes the data socket, the one
//! with the initial meta packet the meta socket. Where DRBD waits and tosses coins, this is driven by events, with
//! one rule to keep two of us from crossing for ever: the node with the lower address lets the other one begin, and
//! of two streams that cross, both keep the one that the node with the higher address has opened. A kernel peer that
//! decides otherwise leaves a dead socket behind, which the settle time finds; then it is tried again.
//!
//! Everybody can call. Strangers do not keep the peer out: whose address is not the peer's is closed at once; of those
//! that say nothing the oldest makes room ([`GREETING_MAX`]), for a peer says what it is with its first segment; and two
//! that claim one seat make this node trust what it opens itself (`claims.rs`).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use rdb_engine::{ConnEvent, ConnId, Event, Hindrance, Level, Time};
use replica_proto::Socket;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket as TcpSocket, Type};

use super::claims::{Claims, Half, Trust};
use crate::api::ConnectRequest;
use crate::io::Io;
use crate::op::Op;
use crate::timers::Slot;

/// The initial packets: `docs/spec/wire.md`, section 1.7.
const INITIAL_DATA: [u8; 8] = [0x83, 0x74, 0x02, 0x67, 0xff, 0xf2, 0, 0];
const INITIAL_META: [u8; 8] = [0x83, 0x74, 0x02, 0x67, 0xff, 0xf1, 0, 0];
/// Accepted streams that may be silent at a time; the next one takes the place of the oldest.
const GREETING_MAX: usize = 64;
/// Backlog of the listening socket: a crowd of callers must not fill it before this node's next turn.
const BACKLOG: i32 = 128;
/// How long only own streams count after two have claimed one seat, and half as long again at random: two nodes that
/// both insist for no good reason do not end it at the same time.
const CONTEST_MS: u64 = 10_000;
/// How long accepted streams wait for own ones where those are tried first.
const OWN_FIRST_MS: u64 = 1000;
/// How long the node with the lower address lets the other one begin.
const YIELD_MS: u64 = 200;
/// How long the node that accepted the data socket waits for the meta socket before it opens one itself.
const META_YIELD_MS: u64 = 300;
/// First pause after a connect that failed; it doubles up to connect-int.
const RETRY_FIRST_MS: u64 = 500;
/// How often sockets are looked at while the pair is incomplete or settles.
const LOOK_MS: u64 = 100;

/// Data and meta socket.
pub(super) type Pair = (Half<Rc<OwnedFd>>, Half<Rc<OwnedFd>>);

/// What the engine calls the connection that this is; there is one.
pub(super) const ID: ConnId = ConnId::FIRST;

/// How the peer is reached, and the attempt to reach it that is under way, if one is.
pub(super) struct Pairing {
    /// Set by the last connect that was not refused.
    pub(super) config: Option<ConnectRequest>,
    /// Counts the attempts; what completes for an old one is dropped.
    generation: u32,
    /// Until when only streams that this node has opened make a pair.
    contested_until: Time,
    attempt: Option<Attempt>,
}

/// A pairing under way.
struct Attempt {
    generation: u32,
    /// `None` while this node cannot listen; it tries again at `next_listen`.
    listener: Option<Rc<OwnedFd>>,
    next_listen: Time,
    /// The own address cannot be used, as the engine has been told: to listen at, to call from.
    own_address: [Option<String>; 2],
    accepting: Option<usize>,
    claims: Claims<Rc<OwnedFd>>,
    connecting: Option<Connecting>,
    greeting: VecDeque<Greeting>,
    next_try: Time,
    failures: u32,
    /// Until when accepted streams wait for own ones, if they do.
    own_until: Time,
    /// Both sockets stand; they are good if they still are at this time.
    settled: Option<Time>,
}

struct Connecting {
    op: usize,
    fd: Rc<OwnedFd>,
    deadline: Time,
}

/// What the own address is needed for.
#[derive(Clone, Copy)]
enum Way {
    Listen,
    Call,
}

/// An accepted stream that has not said what it is.
struct Greeting {
    fd: Rc<OwnedFd>,
    deadline: Time,
}

impl Pairing {
    pub(super) fn new() -> Pairing {
        Pairing {
            config: None,
            generation: 0,
            contested_until: Time(0),
            attempt: None,
        }
    }

    /// Begins to pair; goes on until it succeeds or is stopped. `fruitless`: the last connection came to nothing.
    pub(super) fn open(&mut self, io: &mut Io, fruitless: bool) {
        self.stop(io);
        let Some(config) = &self.config else {
            let reason = "no addresses are configured".to_owned();
            return hindered(io, Hindrance::OwnAddress { reason });
        };
        self.generation += 1;
        let keeps_own = config.local > config.peer;
        let trust = if io.now < self.contested_until {
            Trust::OwnOnly
        } else if fruitless {
            Trust::OwnFirst
        } else {
            Trust::Anyone
        };
        let wait = match trust {
            Trust::Anyone if !keeps_own => YIELD_MS,
            _ => 0,
        };
        self.attempt = Some(Attempt {
            generation: self.generation,
            listener: None,
            next_listen: io.now,
            own_address: [None, None],
            accepting: None,
            claims: Claims::new(trust, keeps_own),
            connecting: None,
            greeting: VecDeque::new(),
            next_try: io.now.plus_ms(wait),
            failures: 0,
            own_until: io.now.plus_ms(OWN_FIRST_MS),
            settled: None,
        });
        io.timers.set(Slot::Pairing, io.now);
    }

    /// Gives up the attempt and closes what it has.
    pub(super) fn stop(&mut self, io: &mut Io) {
        io.timers.clear(Slot::Pairing);
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        if let Some(op) = attempt.accepting {
            io.ring.cancel(op);
        }
        if let Some(connecting) = attempt.connecting {
            io.ring.cancel(connecting.op);
        }
        for greeting in attempt.greeting {
            shut(&greeting.fd);
        }
        for stream in attempt.claims.into_streams() {
            shut(&stream);
        }
    }

    /// Does what is due, and sets the timer for what is next; the pair, if it stands.
    pub(super) fn on_timer(&mut self, io: &mut Io) -> Option<Pair> {
        self.listen(io);
        self.accept(io);
        let now = io.now;
        let (Some(attempt), Some(config)) = (&mut self.attempt, &self.config) else {
            return None;
        };
        attempt.greeting.retain(|greeting| {
            let keep = now < greeting.deadline;
            if !keep {
                // Ends the receive of its first packet.
                shut(&greeting.fd);
            }
            keep
        });
        if let Some(connecting) = &attempt.connecting
            && now >= connecting.deadline
        {
            io.ring.cancel(connecting.op);
        }
        attempt.drop_dead(now);
        if attempt.failures > 0 || now >= attempt.own_until {
            attempt.claims.give_way();
        }
        if attempt.claims.missing().is_none() {
            // Who is not trusted waits until this node has tried once more to open its own.
            let doubt = if attempt.claims.wants_own() {
                2 * RETRY_FIRST_MS
            } else {
                0
            };
            let settled = *attempt
                .settled
                .get_or_insert(now.plus_ms(config.settle_ms() + doubt));
            if now >= settled {
                return self.on_settled(io);
            }
        } else {
            attempt.settled = None;
        }
        if attempt.claims.wants_own() && attempt.connecting.is_none() && now >= attempt.next_try {
            self.connect(io);
        }
        self.arm(io);
        None
    }

    fn arm(&mut self, io: &mut Io) {
        let Some(attempt) = &self.attempt else {
            return;
        };
        let mut next = io.now.plus_ms(60_000);
        let mut consider = |time: Time| next = next.min(time);
        match &attempt.connecting {
            Some(connecting) => consider(connecting.deadline),
            None if attempt.claims.wants_own() => consider(attempt.next_try),
            None => {}
        }
        if let Some(settled) = attempt.settled {
            consider(settled);
        }
        if attempt.listener.is_none() {
            consider(attempt.next_listen);
        } else if !attempt.claims.is_empty() || attempt.accepting.is_none() {
            consider(io.now.plus_ms(LOOK_MS));
        }
        if !attempt.claims.is_empty() {
            consider(io.now.plus_ms(LOOK_MS));
        }
        for greeting in &attempt.greeting {
            consider(greeting.deadline);
        }
        // A deadline that has passed waits for its operation to end, which is under way.
        let next = next.max(io.now.plus_ms(1));
        io.timers.set(Slot::Pairing, next);
    }

    /// Listens at the own address, if it is due: the address may be gone, or its port be somebody else's, and come back.
    fn listen(&mut self, io: &mut Io) {
        let now = io.now;
        let (Some(attempt), Some(config)) = (&mut self.attempt, &self.config) else {
            return;
        };
        if attempt.listener.is_some() || now < attempt.next_listen {
            return;
        }
        let refused = match listen(config) {
            Ok(listener) => {
                attempt.listener = Some(Rc::new(listener));
                None
            }
            Err(error) => {
                attempt.next_listen = now.plus_ms(config.connect_wait_ms());
                Some(format!("listening on {}: {error}", config.local))
            }
        };
        self.own_address_is(io, Way::Listen, refused);
    }

    /// Tells the engine, once, that the own address cannot be used, and once that it can.
    fn own_address_is(&mut self, io: &mut Io, way: Way, refused: Option<String>) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        let known = &mut attempt.own_address[way as usize];
        if *known == refused {
            return;
        }
        *known = refused;
        let reason = attempt.own_address.iter().flatten().next().cloned();
        let hindrance = reason.map(|reason| Hindrance::OwnAddress { reason });
        io.pending
            .push_back(Event::Connection(ID, ConnEvent::PairingHindered(hindrance)));
    }

    fn accept(&mut self, io: &mut Io) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        let Some(listener) = attempt.listener.as_ref().map(Rc::clone) else {
            return;
        };
        if attempt.accepting.is_some() {
            return;
        }
        let op = Op::Accept(attempt.generation, listener);
        attempt.accepting = Some(io.ring.start(op));
    }

    /// An incoming stream: wait for what it says it is.
    pub(super) fn on_accepted(&mut self, io: &mut Io, generation: u32, result: i32) {
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
        let fd = (result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(result) });
        let now = io.now;
        let (Some(attempt), Some(config)) = (&mut self.attempt, &self.config) else {
            return;
        };
        if attempt.generation != generation {
            return;
        }
        attempt.accepting = None;
        let Some(fd) = fd.map(Rc::new) else {
            // Out of descriptors, or the stream died in the queue. The timer accepts again, not at once.
            return io.timers.set(Slot::Pairing, now.plus_ms(LOOK_MS));
        };
        let from = SockRef::from(&*fd)
            .peer_addr()
            .ok()
            .and_then(|from| from.as_socket());
        let expected = config.peer.ip();
        let deadline = now.plus_ms(u64::from(config.options.ping_timeout_ds) * 100 * 4);
        let mut crowded = false;
        match from {
            Some(from) if same_host(from.ip(), expected) => {
                let own_fails = attempt.failures > 0;
                if attempt.claims.hears_nobody(own_fails) {
                    drop(fd);
                    return self.accept(io);
                }
                crowded = attempt.greeting.len() >= GREETING_MAX;
                if crowded && let Some(oldest) = attempt.greeting.pop_front() {
                    // Ends the receive of its first packet.
                    shut(&oldest.fd);
                }
                attempt.greeting.push_back(Greeting {
                    fd: Rc::clone(&fd),
                    deadline,
                });
                let op = Op::FirstPacket(generation, fd, Box::new([0; 8]));
                io.ring.start(op);
            }
            Some(from) => {
                let text = format!("closed a connection from {from}: the peer is {expected}");
                io.log_others(Level::Warn, None, text);
            }
            None => {}
        }
        self.accept(io);
        self.arm(io);
        if crowded {
            self.distrust(io, "many connections say nothing");
        }
    }

    /// The first packet of an accepted stream, or its end.
    pub(super) fn on_first_packet(
        &mut self,
        io: &mut Io,
        generation: u32,
        fd: Rc<OwnedFd>,
        bytes: [u8; 8],
        result: i32,
    ) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if attempt.generation != generation {
            return;
        }
        attempt
            .greeting
            .retain(|greeting| !Rc::ptr_eq(&greeting.fd, &fd));
        attempt.drop_dead(io.now);
        if result != 8 || (bytes != INITIAL_DATA && bytes != INITIAL_META) {
            if result > 0 {
                let text = format!("closed an accepted connection: it began with {bytes:02x?}");
                io.log_others(Level::Warn, None, text);
            }
            return self.arm(io);
        }
        let socket = if bytes == INITIAL_DATA {
            Socket::Data
        } else {
            Socket::Meta
        };
        let own_fails = attempt.failures > 0;
        let judged = attempt.claims.accepted(socket, fd, own_fails);
        for stream in judged.close {
            shut(&stream);
        }
        if judged.contested {
            let why = format!("two connections claim to be the peer's {socket} socket");
            self.distrust(io, &why);
        } else {
            if judged.reseated {
                attempt.settled = None;
            }
            if attempt.claims.missing() == Some(Socket::Meta) && socket == Socket::Data {
                let wait = match attempt.claims.trust() {
                    Trust::Anyone => META_YIELD_MS,
                    Trust::OwnFirst | Trust::OwnOnly => 0,
                };
                attempt.next_try = io.now.plus_ms(wait);
            }
        }
        io.timers.set(Slot::Pairing, io.now);
    }

    /// Strangers are about: for a while this node makes the connections itself.
    fn distrust(&mut self, io: &mut Io, why: &str) {
        let now = io.now;
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        let own_fails = attempt.failures > 0;
        for stream in attempt.claims.distrust(own_fails) {
            shut(&stream);
        }
        attempt.settled = None;
        let wait = if own_fails { RETRY_FIRST_MS } else { 0 };
        attempt.next_try = attempt.next_try.min(now.plus_ms(wait));
        self.contested_until = now.plus_ms(CONTEST_MS + jitter_ms(CONTEST_MS / 2));
        let text = format!("{why}: from now on this node makes them");
        io.log_others(Level::Warn, None, text);
    }

    fn connect(&mut self, io: &mut Io) {
        let now = io.now;
        let (Some(attempt), Some(config)) = (&mut self.attempt, &self.config) else {
            return;
        };
        let socket = match outgoing(config) {
            Ok(socket) => Rc::new(socket),
            Err(error) => {
                attempt.next_try = now.plus_ms(config.connect_wait_ms());
                let reason = format!("calling from {}: {error}", config.local.ip());
                return self.own_address_is(io, Way::Call, Some(reason));
            }
        };
        self.own_address_is(io, Way::Call, None);
        let (Some(attempt), Some(config)) = (&mut self.attempt, &self.config) else {
            return;
        };
        let deadline = now.plus_ms(u64::from(config.options.connect_int_s) * 1000);
        let address = Box::new(SockAddr::from(config.peer));
        let fd = Rc::clone(&socket);
        let op = Op::Connect(attempt.generation, socket, address);
        let op = io.ring.start(op);
        attempt.connecting = Some(Connecting { op, fd, deadline });
    }

    pub(super) fn on_connected(
        &mut self,
        io: &mut Io,
        generation: u32,
        fd: Rc<OwnedFd>,
        result: i32,
    ) {
        let now = io.now;
        let (Some(attempt), Some(config)) = (&mut self.attempt, &self.config) else {
            return;
        };
        if attempt.generation != generation {
            return;
        }
        if attempt
            .connecting
            .as_ref()
            .is_some_and(|connecting| Rc::ptr_eq(&connecting.fd, &fd))
        {
            attempt.connecting = None;
        }
        if result < 0 {
            // Refused, unreachable, timed out: the peer is not there yet.
            let doubled = RETRY_FIRST_MS << attempt.failures.min(10);
            attempt.failures += 1;
            let wait = match attempt.claims.trust() {
                // Somebody is at our door, who may be the peer: it is soon found where it listens.
                Trust::OwnOnly => RETRY_FIRST_MS,
                Trust::Anyone | Trust::OwnFirst => doubled.min(config.connect_wait_ms()),
            };
            attempt.next_try = now.plus_ms(wait);
            let error = io::Error::from_raw_os_error(match -result {
                libc::ECANCELED => libc::ETIMEDOUT, // at connect-int we do not wait any longer
                error => error,
            });
            if attempt.own_address == [None, None] {
                let reason = format!("{} does not answer: {error}", config.peer);
                hindered(io, Hindrance::NoAnswer { reason });
            }
            return self.arm(io);
        }
        attempt.failures = 0;
        for stream in attempt.claims.own_succeeds() {
            shut(&stream);
        }
        let Some(missing) = attempt.claims.missing() else {
            // Meanwhile the peer has opened what was missing.
            shut(&fd);
            return io.timers.set(Slot::Pairing, now);
        };
        let packet = match missing {
            Socket::Data => &INITIAL_DATA,
            Socket::Meta => &INITIAL_META,
        };
        if SockRef::from(&*fd)
            .send(packet)
            .is_ok_and(|sent| sent == packet.len())
        {
            attempt.claims.opened(missing, fd);
            attempt.next_try = now;
        } else {
            attempt.next_try = now.plus_ms(RETRY_FIRST_MS);
        }
        io.timers.set(Slot::Pairing, now);
    }

    /// Both sockets have lived through the settle time.
    fn on_settled(&mut self, io: &mut Io) -> Option<Pair> {
        let pair = self.attempt.as_mut()?.claims.take_pair()?;
        self.stop(io);
        for (half, priority) in [(&pair.0, 4), (&pair.1, 6)] {
            // Section 1.5. Both only make it quicker, so a refusal changes nothing.
            let socket = SockRef::from(&*half.stream);
            let _ = socket.set_tcp_nodelay(true);
            set_priority(&half.stream, priority);
        }
        Some(pair)
    }
}

impl Attempt {
    /// Lets go of sockets that the peer has closed.
    fn drop_dead(&mut self, now: Time) {
        let (lost, lost_own) = self.claims.drop_dead(|fd| is_alive(fd));
        if lost {
            self.settled = None;
        }
        // A stranger who comes and goes does not keep us from calling.
        if lost_own || lost && self.claims.trust() != Trust::OwnOnly {
            self.next_try = self.next_try.max(now.plus_ms(jitter_ms(RETRY_FIRST_MS)));
        }
    }
}

/// Tells the engine why there is no pair.
pub(super) fn hindered(io: &mut Io, hindrance: Hindrance) {
    io.pending.push_back(Event::Connection(
        ID,
        ConnEvent::PairingHindered(Some(hindrance)),
    ));
}

impl ConnectRequest {
    /// How long both sockets must live before they count as a pair.
    fn settle_ms(&self) -> u64 {
        let ds = match self.socket_check_timeout_ds {
            0 => self.options.ping_timeout_ds,
            ds => ds,
        };
        u64::from(ds) * 100
    }

    /// connect-int, give or take a seventh, so that two nodes do not stay in step.
    fn connect_wait_ms(&self) -> u64 {
        let base = u64::from(self.options.connect_int_s) * 1000;
        base - base / 7 + jitter_ms(base * 2 / 7)
    }
}

/// 0 to `bound` milliseconds.
fn jitter_ms(bound: u64) -> u64 {
    getrandom::u64().unwrap_or(bound / 2) % (bound + 1)
}

fn same_host(a: IpAddr, b: IpAddr) -> bool {
    a.to_canonical() == b.to_canonical()
}

fn socket(config: &ConnectRequest) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new(
        Domain::for_address(config.local),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if config.sndbuf_bytes > 0 {
        socket.set_send_buffer_size(config.sndbuf_bytes as usize)?;
    }
    if config.rcvbuf_bytes > 0 {
        socket.set_recv_buffer_size(config.rcvbuf_bytes as usize)?;
    }
    Ok(socket)
}

fn listen(config: &ConnectRequest) -> io::Result<OwnedFd> {
    let socket = socket(config)?;
    socket.bind(&config.local.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn outgoing(config: &ConnectRequest) -> io::Result<OwnedFd> {
    let socket = socket(config)?;
    let mut from = config.local;
    from.set_port(0);
    socket.bind(&SocketAddr::into(from))?;
    Ok(socket.into())
}

/// Whether the peer still holds its end: data may wait, an end of file may not.
fn is_alive(fd: &OwnedFd) -> bool {
    let mut byte = [0_u8; 1];
    // SAFETY: the descriptor is open and `byte` has room for the one byte asked for.
    let result = unsafe {
        libc::recv(
            fd.as_raw_fd(),
            byte.as_mut_ptr().cast(),
            1,
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
        )
    };
    result > 0
        || result < 0
            && matches!(
                io::Error::last_os_error().raw_os_error(),
                Some(libc::EAGAIN | libc::EINTR)
            )
}

fn shut(fd: &OwnedFd) {
    // It may be gone already.
    let _ = SockRef::from(fd).shutdown(std::net::Shutdown::Both);
}

fn set_priority(fd: &OwnedFd, priority: libc::c_int) {
    // SAFETY: the descriptor is open; SO_PRIORITY takes an int.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PRIORITY,
            (&raw const priority).cast(),
            size_of_val(&priority) as libc::socklen_t,
        );
    }
}
