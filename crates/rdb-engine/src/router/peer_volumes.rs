//! Which volumes the peer has, as it tells of them: a pair need not have the same ones.
//!
//! After the handshake each node tells of its volumes once. A volume of which the peer says nothing stays in WFReportParams,
//! and as long as one may still be on its way, changes of state wait ([`Link::is_exchanging`]). The peer does not say where its list
//! ends, so the wait has an end by time; commands about the volume then go by what is here alone, as without a connection.
//!
//! What was told before the other side had the volume is lost on it. So who adds a volume of which the peer has told before,
//! and who hears of one that was taken for lacking, connects anew: then both tell of everything.
//!
//! [`Link::is_exchanging`]: crate::net::Link::is_exchanging

use alloc::format;

use replica_proto::Packet;

use crate::effect::Level;
use crate::event::{ConnTimer, Payload};
use crate::ids::VolumeNr;
use crate::router::Resource;
use crate::router::volume::Volume;
use crate::state::ConnState;

impl<P: Payload> Resource<P> {
    /// The exchange of parameters has begun: it has its end by time.
    pub(super) fn limit_exchange(&mut self) {
        let timeout_ds = self.net.options.as_ref().map_or(60, |o| o.timeout_ds);
        self.set_conn_timer(
            ConnTimer::Handshake,
            self.now.plus_ms(u64::from(timeout_ds) * 100),
        );
    }

    /// The peer has had `timeout` to tell of its volumes.
    pub(super) fn exchange_is_overdue(&mut self) {
        if !self.net.link.is_exchanging() {
            return;
        }
        for nr in self.volume_numbers() {
            if self.volume(nr).state.conn == ConnState::WFReportParams {
                self.volume_mut(nr).peer.untold = true;
                let text = "the peer tells nothing of this volume: it does not have it, or not yet";
                self.log_volume(Level::Warn, nr, text);
            }
        }
        self.net.link.end_exchange();
    }

    /// The exchange is over if the peer has told of every volume.
    pub(super) fn end_exchange_if_all_told(&mut self) {
        let waits = |v: &Volume<P>| v.state.conn == ConnState::WFReportParams;
        if !self.volumes.iter().any(waits) {
            self.net.link.end_exchange();
        }
    }

    /// The peer tells of a volume that this node does not have.
    pub(super) fn note_unknown_volume(&mut self, nr: VolumeNr) {
        self.net.told_of.note(nr);
    }

    /// Whether the peer has told of it in this connection, when it was not there.
    pub(super) fn has_told_of(&self, nr: VolumeNr) -> bool {
        self.net.told_of.may_have(nr)
    }

    /// Whether the peer tells of a volume after it was taken for lacking. The connection is left then.
    pub(super) fn is_told_late(&mut self, nr: VolumeNr, packet: &Packet) -> bool {
        let tells = matches!(
            packet,
            Packet::SyncParam(_) | Packet::Sizes(_) | Packet::Uuids(_) | Packet::State(_)
        );
        let volume = self.volume(nr);
        let is_late = tells && volume.peer.untold && volume.state.conn == ConnState::WFReportParams;
        if is_late {
            self.exchange_anew(nr);
        }
        is_late
    }

    /// Connects anew, so that both nodes tell of this volume.
    pub(super) fn exchange_anew(&mut self, nr: VolumeNr) {
        self.log(
            Level::Info,
            format!("the peer has volume {nr} too: connecting anew, so that both tell of it"),
        );
        self.lose_connection(ConnState::NetworkFailure);
    }
}
