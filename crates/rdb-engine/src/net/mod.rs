//! The connection: from two paired sockets to exchanged parameters, keepalive, and its end.
//!
//! ```text
//! StandAlone ─connect─► Unconnected ─► WFConnection ─paired, features, auth─► WFReportParams ─► (per volume) Connected…
//!      ▲                     ▲                                                     │
//!      └── Disconnecting ◄───┴──── Timeout, BrokenPipe, NetworkFailure, … ◄────────┘
//! ```
//! (`docs/spec/behaviour.md`, section 7). Network problems lead back to WFConnection, refusals to StandAlone.

mod authentication;
mod keepalive;
mod link;
mod refusal;
pub(crate) mod settings;
pub(crate) mod teardown;

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use replica_proto::{ConnFlags, ConnectionFeatures, Features, Packet, Socket, WireContext};

pub(crate) use self::link::Link;
use self::link::{Handshake, Step};
use self::refusal::Refusal;
use self::settings::{Comparison, PeerSettings};
use crate::bitmap_exchange::{BitmapIn, BitmapOut};
use crate::config::{NetOptions, Protocol};
use crate::effect::{ConnEffect, Level};
use crate::event::{ConnTimer, Payload};
use crate::ids::{ConnId, SendTag, Session, Time, VolumeNr};
use crate::integrity::Integrity;
use crate::resource::Resource;
use crate::state::{Change, ConnState, DiskState, Role};
use crate::transfer_log::{MirrorEpochs, TransferLog};
use crate::trouble::Troubled;

/// A feature of our own: the writer marks every write that must not reach the mirror's disk before all earlier ones are
/// durable ([`DpFlags::FLUSH`](replica_proto::DpFlags::FLUSH)), so the mirror need not stop at each barrier. No DRBD
/// uses this bit, and K masks it off.
const EXPLICIT_FLUSH: Features = Features::from_bits_retain(0x4000_0000);

/// Another: a source that has lost its target gives what it writes alone a generation of its own, and says in P_UUIDS whether its
/// marks can be such writes ([`WroteAlone`](crate::generation::WroteAlone)).
const LONE_NAMES: Features = Features::from_bits_retain(0x2000_0000);

/// Answers without a payload that may wait for a bitmap to be sent. A right peer asks for some ten: sizes and states.
pub(crate) const DEFERRED_ANSWERS_MAX: u32 = 1024;

/// The resource's connection.
pub(crate) struct Net<P> {
    /// Which of the connections it is, and in which of its lives. Without it I/O of an old one would count in the present one.
    pub(crate) session: Session,
    /// `None` while StandAlone without configuration.
    pub(crate) options: Option<NetOptions>,
    /// The connection's part of the state: at most WFReportParams.
    pub(crate) cstate: ConnState,
    pub(crate) link: Link,
    pub(crate) wire: WireContext,
    /// The digests of data in both directions.
    pub(crate) integrity: Integrity,
    /// Why there is no connection, unless there is one.
    pub(crate) trouble: Option<Troubled>,
    /// The last conflict of the nodes' data, or users, that a handshake came to. Set by it, cleared by one that ends well: a new
    /// attempt of one node's administrator solves none. Without it `status` forgets a split brain as soon as nobody answers.
    pub(crate) conflict: Option<Troubled>,
    /// Connections refused since the last that came to something.
    pub(crate) refusals: u32,
    /// `connect --discard-my-data`: for one attempt.
    pub(crate) discard_my_data: bool,
    /// What the flag was when our parameters were sent: it speaks for this connection.
    pub(crate) discard_sent: bool,
    pub(crate) tentative: bool,
    pub(crate) peer_dry_run: bool,
    /// What the peer goes by; `None` until it has told, and it fits.
    pub(crate) peer_settings: Option<PeerSettings>,
    /// The digests by which resyncs and verifies compare blocks.
    pub(crate) comparison: Comparison,
    /// Volumes of which the peer has told and that were not there.
    pub(crate) told_of: BTreeSet<VolumeNr>,
    /// The peer marks writes that need everything before them durable.
    pub(crate) explicit_flush: bool,
    /// The peer knows what a source says of what it wrote alone. Agreed on with the features; a disk's note of it outlives that.
    pub(crate) lone_names: bool,

    last_received: Time,
    ping_sent_at: Option<Time>,
    /// The timer is set that looks at blocks which wait for the peer.
    blocks_watched: bool,
    /// The timer is set that looks at the oldest request which the peer has not answered. Set when one is sent, cleared when
    /// the timer expires and with the connection: without it whatever is sent later would put the timer off.
    pub(crate) requests_watched: bool,
    pings_sent: u64,
    pings_acked: u64,
    ping_waiters: Vec<(u64, PingWaiter)>,
    ko_left: u32,
    /// Since when the present connection, or the last one, has sent parameters; nothing if it has not come so far. Set then,
    /// cleared by the next pair. Without it two nodes that cannot stand each other would connect a thousand times a second.
    pub(crate) up_since: Option<Time>,

    /// Our writes at the peer.
    pub(crate) log: TransferLog,
    /// The peer's writes here.
    pub(crate) epochs: MirrorEpochs,
    /// The connection they belong to: they outlive it until all its writes have ended.
    pub(crate) epochs_of: Session,
    /// Flushes that wait for the peer's barriers.
    pub(crate) flushes_waiting: u32,
    pub(crate) bitmap_out: Option<BitmapOut>,
    pub(crate) bitmap_in: Option<BitmapIn>,
    /// Packets that wait until the bitmap is sent: it must not be interleaved.
    pub(crate) deferred: VecDeque<(VolumeNr, Packet, Option<P>, Option<SendTag>)>,
    /// How many of them the peer has asked for that hold no buffer, which the driver would bound.
    pub(crate) deferred_answers: u32,
}

/// Who waits for an answered ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PingWaiter {
    Admin,
    ResyncSource(VolumeNr),
    ResyncTarget(VolumeNr),
    Verify(VolumeNr),
    LossUnrecorded(VolumeNr),
    Negotiation(VolumeNr),
}

impl<P> Net<P> {
    pub(crate) fn new(id: ConnId) -> Self {
        Net {
            options: None,
            cstate: ConnState::StandAlone,
            link: Link::Down,
            wire: WireContext::initial(),
            integrity: Integrity::default(),
            trouble: None,
            conflict: None,
            refusals: 0,
            discard_my_data: false,
            discard_sent: false,
            tentative: false,
            peer_dry_run: false,
            peer_settings: None,
            comparison: Comparison::default(),
            told_of: BTreeSet::new(),
            session: Session { of: id, nr: 0 },
            explicit_flush: false,
            lone_names: false,
            last_received: Time(0),
            ping_sent_at: None,
            blocks_watched: false,
            requests_watched: false,
            pings_sent: 0,
            pings_acked: 0,
            ping_waiters: Vec::new(),
            ko_left: 0,
            up_since: None,
            log: TransferLog::default(),
            epochs: MirrorEpochs::default(),
            epochs_of: Session { of: id, nr: 0 },
            flushes_waiting: 0,
            bitmap_out: None,
            bitmap_in: None,
            deferred: VecDeque::new(),
            deferred_answers: 0,
        }
    }

    /// Who waits for an answered ping.
    pub(crate) fn ping_waiters_len(&self) -> usize {
        self.ping_waiters.len()
    }

    /// The configured protocol; C without configuration, when it does not matter.
    pub(crate) fn protocol(&self) -> Protocol {
        self.options.as_ref().map_or(Protocol::C, |o| o.protocol)
    }

    fn option(&self, pick: impl Fn(&NetOptions) -> u32, default: u32) -> u64 {
        u64::from(self.options.as_ref().map_or(default, pick))
    }

    pub(crate) fn ping_timeout_ms(&self) -> u64 {
        self.option(|o| o.ping_timeout_ds, 5) * 100
    }

    fn timeout_ms(&self) -> u64 {
        self.option(|o| o.timeout_ds, 60) * 100
    }

    /// ko-count times timeout; 0 if switched off.
    pub(crate) fn request_limit_ms(&self) -> u64 {
        self.option(|o| o.ko_count, 7) * self.timeout_ms()
    }
}

impl<P: Payload> Resource<P> {
    /// StandAlone → Unconnected → WFConnection: the driver is asked for two sockets.
    pub(crate) fn start_connecting(&mut self) {
        self.net.refusals = 0;
        if self
            .change_connection(Change::conn(ConnState::Unconnected), true)
            .is_err()
        {
            return;
        }
        self.open_connection();
    }

    fn open_connection(&mut self) {
        if self
            .change_connection(Change::conn(ConnState::WFConnection), true)
            .is_err()
        {
            return;
        }
        let net = &mut self.net;
        net.link = Link::Pairing;
        net.wire = WireContext::initial();
        net.integrity = Integrity::default();
        net.peer_dry_run = false;
        let wire = net.wire;
        self.emit_conn(ConnEffect::SetWire(wire));
        self.emit_conn(ConnEffect::Open);
    }

    pub(crate) fn on_paired(&mut self, resolve_conflicts: bool, called: bool, challenge: [u8; 64]) {
        if !matches!(self.net.link, Link::Pairing) {
            return;
        }
        let now = self.now;
        self.own_address_serves();
        let net = &mut self.net;
        net.link = Link::Handshake(Handshake::new(resolve_conflicts, called, challenge));
        net.session = net.session.next();
        net.last_received = now;
        net.ping_sent_at = None;
        net.pings_sent = 0;
        net.pings_acked = 0;
        net.ping_waiters.clear();
        net.ko_left = net.options.as_ref().map_or(7, |o| o.ko_count);
        net.up_since = None;
        net.epochs = MirrorEpochs::default();
        net.epochs_of = net.session;
        for volume in self.volumes.values_mut() {
            volume.peer.connection_begins();
        }
        let net = &mut self.net;
        let at = now.plus_ms(4 * net.ping_timeout_ms());
        self.set_conn_timer(ConnTimer::Handshake, at);
        let ours = self.our_features();
        self.send(VolumeNr(0), Packet::ConnectionFeatures(ours), None);
    }

    /// The peer did not say what it must within 4 x ping-timeout.
    pub(crate) fn on_handshake_timer(&mut self) {
        if self.net.link.step().is_some() {
            self.log(Level::Warn, "the peer did not finish the handshake in time");
            self.lose_connection(ConnState::NetworkFailure);
            return;
        }
        self.exchange_is_overdue();
    }

    /// K expects a digest in P_ZEROES, which has no place for one: with digests zeroes travel as P_TRIM, which without
    /// that feature means zeroes (`docs/spec/wire.md`, section 7.8).
    fn our_features(&self) -> ConnectionFeatures {
        let mut features = Features::all() | EXPLICIT_FLUSH | LONE_NAMES;
        let integrity = self.net.options.as_ref().and_then(|o| o.integrity_alg);
        features.set(Features::WZEROES, integrity.is_none());
        ConnectionFeatures {
            features,
            min: 100,
            ..ConnectionFeatures::OURS
        }
    }

    /// Packets of the phases before parameters are sent.
    pub(crate) fn on_handshake_packet(&mut self, step: Step, packet: Packet) {
        match (step, packet) {
            (Step::Features, Packet::ConnectionFeatures(peer)) => self.on_features(peer),
            (Step::Challenge, Packet::AuthChallenge(challenge)) => self.on_challenge(challenge),
            (Step::Response, Packet::AuthResponse(response)) => self.on_response(&response),
            (Step::Features, packet) => {
                let text = format!(
                    "expected ConnectionFeatures packet, received: {}",
                    packet.name()
                );
                self.refuse(Refusal::Dialect, text);
            }
            (Step::Challenge, packet) => {
                let text = format!("expected AuthChallenge packet, received: {}", packet.name());
                self.authentication_failed(text);
            }
            (_, packet) => {
                let text = format!("expected AuthResponse packet, received: {}", packet.name());
                self.authentication_failed(text);
            }
        }
    }

    fn on_features(&mut self, peer: ConnectionFeatures) {
        match self.our_features().agree(&peer) {
            Err(e) => {
                let text = format!(
                    "incompatible DRBD dialects: I support {}-{}, peer supports {}-{}",
                    e.own_min, e.own_max, e.peer_min, e.peer_max
                );
                self.refuse(Refusal::Dialect, text);
            }
            Ok((version, features)) => {
                self.net.explicit_flush = features.contains(EXPLICIT_FLUSH);
                self.net.lone_names = features.contains(LONE_NAMES);
                let known = features & Features::all();
                self.net.wire = WireContext::agreed(version, known);
                let wire = self.net.wire;
                self.emit_conn(ConnEffect::SetWire(wire));
                let text =
                    format!("Handshake successful: Agreed network protocol version {version}");
                self.log(Level::Info, text);
                let text = format!(
                    "Feature flags enabled on protocol level: {:#x}",
                    features.bits()
                );
                self.log(Level::Info, text);
                if !self.begin_authentication() {
                    self.send_parameters();
                }
            }
        }
    }

    /// Own settings and, volume by volume, what we have (`docs/spec/wire.md`, section 5.1).
    fn send_parameters(&mut self) {
        self.limit_exchange();
        let Some(options) = self.net.options.clone() else {
            return;
        };
        let mut conn_flags = ConnFlags::empty();
        conn_flags.set(ConnFlags::DISCARD_MY_DATA, self.net.discard_my_data);
        conn_flags.set(ConnFlags::DRY_RUN, self.net.tentative);
        self.net.discard_sent = core::mem::take(&mut self.net.discard_my_data);
        self.net.link.come_up();
        self.net.comparison = Comparison::configured(&options);
        let params = Self::own_params(&options, conn_flags);
        self.send(VolumeNr(0), Packet::Protocol(params), None);
        self.use_own_integrity(options.integrity_alg);
        for nr in self.volume_numbers() {
            self.send_volume_parameters(nr);
        }
        if let Err(error) = self.change_connection(Change::conn(ConnState::WFReportParams), true) {
            self.log(Level::Error, error.to_string());
            self.go_standalone();
            return;
        }
        let now = self.now;
        self.net.up_since = Some(now);
        let at = now.plus_ms(self.net.option(|o| o.ping_int_s, 10) * 1000);
        self.set_conn_timer(ConnTimer::Keepalive, at);
    }

    /// Packets 2 to 5 of the initial exchange for one volume; also when it is added to a live connection.
    pub(crate) fn send_volume_parameters(&mut self, nr: VolumeNr) {
        let volume = self.volume_mut(nr);
        volume.degraded = false;
        self.send_sync_param(nr);
        self.send_sizes(nr, false);
        self.send_uuids(nr);
        let volume = self.volume_mut(nr);
        let state = volume.state;
        if state.role == Role::Primary && state.disk == DiskState::Diskless {
            // (L35) A peer that meets a Primary without a disk begins a new generation. If we refuse its data it must not: our
            // own disk, when it comes back, would meet a fork where there is none.
            volume.peer.state_held = Some(replica_proto::StateWord(state.to_word()));
        } else {
            self.send_state(nr);
        }
    }

    /// Sends over the socket the packet belongs to. A bitmap on its way holds everything else on the data socket back.
    pub(crate) fn send_notify(
        &mut self,
        volume: VolumeNr,
        packet: Packet,
        payload: Option<P>,
        notify: Option<SendTag>,
    ) {
        if !self.net.link.has_sockets() {
            return; // the connection is gone; what was to be said does not matter any more
        }
        let handshake = matches!(
            packet,
            Packet::ConnectionFeatures(_) | Packet::AuthChallenge(_) | Packet::AuthResponse(_)
        );
        if !self.is_up() && !handshake {
            return; // of the last connection: metadata that was written meanwhile; this one will hear it in its turn
        }
        let is_bitmap = matches!(packet, Packet::Bitmap(_) | Packet::CompressedBitmap(_));
        if self.net.bitmap_out.is_some() && !is_bitmap && packet.socket() == Socket::Data {
            if payload.is_none() && self.is_others_doing() {
                self.net.deferred_answers += 1;
            }
            self.net
                .deferred
                .push_back((volume, packet, payload, notify));
            return;
        }
        let digest = self.digest_to_send(payload.as_ref());
        self.emit_conn(ConnEffect::Send {
            volume,
            packet,
            digest,
            payload,
            notify,
        });
    }

    /// Ends the connection to a peer that asks, while a bitmap is on its way to it, for more answers than a right one.
    pub(crate) fn check_deferred(&mut self) {
        if self.net.deferred_answers > DEFERRED_ANSWERS_MAX {
            self.protocol_error(format!(
                "{DEFERRED_ANSWERS_MAX} answers wait until the peer takes the bitmap, and it asks for more"
            ));
        }
    }
}
