//! What a node says of its settings, and what is made of what the peer says ([`crate::net::settings`]).

use alloc::format;

use replica_proto::{ConnFlags, Packet, ProtocolParams, SyncParam};

use crate::config::{DiskOptions, NetOptions};
use crate::disk::Disk;
use crate::effect::{ConnEffect, Level};
use crate::event::Payload;
use crate::ids::VolumeNr;
use crate::integrity::algorithm_named;
use crate::net::refusal::Refusal;
use crate::net::settings::{
    Digests, PeerSettings, params, params_differ, sync_param, sync_param_differs,
};
use crate::router::Resource;
use crate::rules::trouble::Trouble;
use crate::state::ConnState;

impl<P: Payload> Resource<P> {
    /// Announces the pace of resyncs and the digests that they and verifies compare by.
    pub(in crate::router) fn send_sync_param(&mut self, nr: VolumeNr) {
        let disk = self.volume(nr).disk.get().map(Disk::options);
        let none = DiskOptions::default();
        let params = sync_param(self.net.options.as_ref(), disk.unwrap_or(&none));
        self.send(nr, Packet::SyncParam(params), None);
    }

    /// P_PROTOCOL: settings must match, or nothing can be agreed (`docs/spec/behaviour.md`, section 7.4).
    pub(in crate::router) fn on_protocol(&mut self, peer: &ProtocolParams) {
        let Some(own) = self.net.options.clone() else {
            return;
        };
        if let Some(difference) = params_differ(&own, peer) {
            self.refuse(Refusal::Settings, format!("incompatible {difference}"));
            return;
        }
        self.net.link.greet();
        self.net.peer_settings = Some(PeerSettings::met(peer.clone(), &own));
        self.net.integrity.peer_announces(own.integrity_alg);
        self.digests_changed();
        self.net.attempt.told(peer.conn_flags);
    }

    /// P_PROTOCOL_UPDATE: the peer's settings have changed. That they differ now is said in the log and by `status`: the next
    /// handshake would find it.
    pub(in crate::router) fn on_protocol_update(&mut self, peer: &ProtocolParams) {
        let Some(integrity) = algorithm_named(&peer.integrity_alg) else {
            // Its data could not be told from their digests any more.
            self.settings_unknown("data-integrity-alg");
            return;
        };
        // What the peer's data carry from its next packet on; ours go on with our own algorithm.
        self.net.integrity.peer_announces(integrity);
        self.digests_changed();
        if let Some(known) = &mut self.net.peer_settings {
            known.told_params(peer.clone());
        }
        self.compare_settings("the peer");
    }

    /// P_SYNC_PARAM: the pace holds as long as the peer is connected, and so do algorithms that are announced later; when the
    /// connection is made they must match.
    pub(in crate::router) fn on_sync_param(&mut self, nr: VolumeNr, peer: &SyncParam) {
        let Some(own) = self.net.options.clone() else {
            return;
        };
        if self.volume(nr).state.conn == ConnState::WFReportParams {
            if let Some(difference) = sync_param_differs(&own, peer) {
                self.refuse_volume(Refusal::Settings, nr, difference);
                return;
            }
        } else {
            let Some(csums) = algorithm_named(&peer.csums_alg) else {
                self.settings_unknown("csums-alg");
                return;
            };
            let verify = algorithm_named(&peer.verify_alg).flatten();
            let digests = Digests { csums, verify };
            let adopts = self.net.agreed.peer_adopts();
            self.net.comparison.peer_announces(digests, adopts);
            if let Some(known) = &mut self.net.peer_settings {
                known.told_algorithms(peer);
            }
            self.compare_settings("the peer");
        }
        self.volume_mut(nr).peer.pace = Some(peer.clone());
    }

    /// The peer goes by an algorithm that is not known here: nothing can be made of what it will say.
    fn settings_unknown(&mut self, what: &str) {
        let text = format!("the peer's new {what} is not known here");
        self.log(Level::Error, text.clone());
        self.trouble(Trouble::Settings, text);
        self.lose_connection(ConnState::ProtocolError);
    }

    /// Our settings have changed while the peer knows the old ones: it is told.
    pub(in crate::router) fn announce_settings(&mut self, old: &NetOptions, new: &NetOptions) {
        let (before, params) = (
            params(old, ConnFlags::empty()),
            params(new, ConnFlags::empty()),
        );
        let adopts = self.net.agreed.peer_adopts();
        self.log(Level::Info, "the peer is told of new settings");
        if params != before {
            self.send(VolumeNr(0), Packet::ProtocolUpdate(params.clone()), None);
            self.net.integrity.we_announce(new.integrity_alg);
            self.digests_changed();
            if let Some(peer) = self.net.peer_settings.as_mut().filter(|_| adopts) {
                peer.adopt_params(params);
            }
        }
        if (old.csums_alg, &old.verify_alg) != (new.csums_alg, &new.verify_alg) {
            self.net.comparison.we_announce(new, adopts);
            for nr in self.volume_numbers() {
                if self.volume(nr).state.conn >= ConnState::Connected {
                    self.send_sync_param(nr);
                }
            }
            if let Some(peer) = self.net.peer_settings.as_mut().filter(|_| adopts) {
                peer.adopt_algorithms(new);
            }
        }
        self.compare_settings("this node");
    }

    /// The driver hears of it, if packets are of other lengths from now on.
    pub(super) fn digests_changed(&mut self) {
        if let Some(wire) = self.net.agreed.carry(self.net.integrity) {
            self.emit_conn(ConnEffect::SetWire(wire));
        }
    }

    /// Says in the log whether both nodes go by the same settings, if that has changed by what one of them (`whose`) has told.
    fn compare_settings(&mut self, whose: &str) {
        let net = &mut self.net;
        if let (Some(own), Some(peer)) = (&net.options, &mut net.peer_settings)
            && let Some((level, text)) = peer.compare(own, whose, self.now)
        {
            self.log(level, text);
        }
    }
}
