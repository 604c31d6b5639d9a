//! How a connection comes about, and what is sent over it.

mod announce;
mod authentication;
mod keepalive;
mod teardown;

use alloc::format;
use alloc::string::ToString;

use replica_proto::{ConnectionFeatures, Packet, Socket};

use crate::effect::{ConnEffect, Level};
use crate::event::{ConnTimer, Payload};
use crate::ids::{SendTag, VolumeNr};
use crate::integrity::Integrity;
use crate::net::link::HandshakeStep;
use crate::net::refusal::Refusal;
use crate::net::settings::{Comparison, params};
use crate::net::{Agreed, DEFERRED_ANSWERS_MAX, Delayed, Pings};
use crate::router::Resource;
use crate::rules::serving;
use crate::state::{Change, ConnState};
use crate::transfer_log::MirrorEpochs;

impl<P: Payload> Resource<P> {
    /// StandAlone → Unconnected → WFConnection: the driver is asked for two sockets.
    pub(in crate::router) fn start_connecting(&mut self) {
        self.net.meetings.forgive();
        if self
            .change_connection(Change::conn(ConnState::Unconnected), true)
            .is_err()
        {
            return;
        }
        self.open_connection();
    }

    pub(super) fn open_connection(&mut self) {
        if self
            .change_connection(Change::conn(ConnState::WFConnection), true)
            .is_err()
        {
            return;
        }
        let net = &mut self.net;
        net.link.open();
        net.integrity = Integrity::default();
        net.attempt.begin();
        let wire = net.agreed.begin();
        self.emit_conn(ConnEffect::SetWire(wire));
        self.emit_conn(ConnEffect::Open);
    }

    pub(in crate::router) fn on_paired(
        &mut self,
        resolve_conflicts: bool,
        called: bool,
        challenge: [u8; 64],
    ) {
        if !self.net.link.is_pairing() {
            return;
        }
        let now = self.now;
        self.own_address_serves();
        let net = &mut self.net;
        net.link.pair(resolve_conflicts, called, challenge);
        net.session = net.session.next();
        net.pings = Pings::begin(now);
        let ko_count = net.options.as_ref().map_or(7, |o| o.ko_count);
        net.patience.begin(ko_count);
        net.meetings.begin();
        net.epochs = MirrorEpochs::default();
        net.epochs_of = net.session;
        for volume in self.volumes.iter_mut() {
            volume.peer.connection_begins();
        }
        let net = &mut self.net;
        let at = now.plus_ms(4 * net.ping_timeout_ms());
        self.set_conn_timer(ConnTimer::Handshake, at);
        let ours = self.our_features();
        self.send(VolumeNr(0), Packet::ConnectionFeatures(ours), None);
    }

    /// The peer did not say what it must within 4 x ping-timeout.
    pub(in crate::router) fn on_handshake_timer(&mut self) {
        if self.net.link.step().is_some() {
            self.log(Level::Warn, "the peer did not finish the handshake in time");
            self.lose_connection(ConnState::NetworkFailure);
            return;
        }
        self.exchange_is_overdue();
    }

    fn our_features(&self) -> ConnectionFeatures {
        let integrity = self.net.options.as_ref().and_then(|o| o.integrity_alg);
        Agreed::offer(integrity.is_some())
    }

    /// Packets of the phases before parameters are sent.
    pub(in crate::router) fn on_handshake_packet(&mut self, step: HandshakeStep, packet: Packet) {
        match (step, packet) {
            (HandshakeStep::Features, Packet::ConnectionFeatures(peer)) => self.on_features(peer),
            (HandshakeStep::Challenge, Packet::AuthChallenge(challenge)) => {
                self.on_challenge(challenge)
            }
            (HandshakeStep::Response, Packet::AuthResponse(response)) => {
                self.on_response(&response)
            }
            (HandshakeStep::Features, packet) => {
                let text = format!(
                    "expected ConnectionFeatures packet, received: {}",
                    packet.name()
                );
                self.refuse(Refusal::Dialect, text);
            }
            (HandshakeStep::Challenge, packet) => {
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
        let ours = self.our_features();
        match self.net.agreed.agree(&ours, &peer) {
            Err(e) => {
                let text = format!(
                    "incompatible DRBD dialects: I support {}-{}, peer supports {}-{}",
                    e.own_min, e.own_max, e.peer_min, e.peer_max
                );
                self.refuse(Refusal::Dialect, text);
            }
            Ok((version, features)) => {
                let wire = *self.net.agreed.wire();
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
    pub(super) fn send_parameters(&mut self) {
        self.limit_exchange();
        let Some(options) = self.net.options.clone() else {
            return;
        };
        let conn_flags = self.net.attempt.tell();
        self.net.meetings.meet();
        self.doubt_outdated_peer();
        self.net.link.come_up();
        self.net.comparison = Comparison::configured(&options);
        let params = params(&options, conn_flags);
        self.send(VolumeNr(0), Packet::Protocol(params), None);
        self.net.integrity.we_announce(options.integrity_alg);
        self.digests_changed();
        for nr in self.volume_numbers() {
            self.send_volume_parameters(nr);
        }
        if let Err(error) = self.change_connection(Change::conn(ConnState::WFReportParams), true) {
            self.log(Level::Error, error.to_string());
            self.go_standalone();
            return;
        }
        let now = self.now;
        self.net.meetings.came_up(now);
        let at = now.plus_ms(self.net.option(|o| o.ping_int_s, 10) * 1000);
        self.set_conn_timer(ConnTimer::Keepalive, at);
    }

    /// Packets 2 to 5 of the initial exchange for one volume; also when it is added to a live connection.
    pub(in crate::router) fn send_volume_parameters(&mut self, nr: VolumeNr) {
        let volume = self.volume_mut(nr);
        volume.degraded = false;
        self.send_sync_param(nr);
        self.send_sizes(nr, false);
        self.send_uuids(nr);
        let volume = self.volume_mut(nr);
        let state = volume.state;
        if serving::holds_first_state(&state) {
            volume.peer.state_held = Some(replica_proto::StateWord(state.to_word()));
        } else {
            self.send_state(nr);
        }
    }

    /// Sends over the socket the packet belongs to. A bitmap on its way holds everything else on the data socket back.
    pub(in crate::router) fn send_notify(
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
            let asked = self.is_others_doing();
            let delayed = Delayed {
                volume,
                packet,
                payload,
                notify,
            };
            self.net.deferred.push(delayed, asked);
            return;
        }
        let digest = self.net.integrity.of_sent(payload.as_ref());
        self.emit_conn(ConnEffect::Send {
            volume,
            packet,
            digest,
            payload,
            notify,
        });
    }

    /// Ends the connection to a peer that asks, while a bitmap is on its way to it, for more answers than a right one.
    pub(in crate::router) fn check_deferred(&mut self) {
        if self.net.deferred.is_too_much() {
            self.protocol_error(format!(
                "{DEFERRED_ANSWERS_MAX} answers wait until the peer takes the bitmap, and it asks for more"
            ));
        }
    }
}
