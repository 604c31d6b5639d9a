//! Digests of what is sent and received.

use alloc::format;

use replica_proto::{Digest, DigestAlgorithm, Packet};

use super::Integrity;
use crate::effect::ConnEffect;
use crate::event::Payload;
use crate::ids::VolumeNr;
use crate::resource::Resource;

impl<P: Payload> Resource<P> {
    /// From our next packet on.
    pub(crate) fn use_own_integrity(&mut self, algorithm: Option<DigestAlgorithm>) {
        self.net.integrity.own = algorithm;
        self.set_digest_lengths();
    }

    /// From the peer's next packet on.
    pub(crate) fn use_peer_integrity(&mut self, algorithm: Option<DigestAlgorithm>) {
        self.net.integrity.peer = algorithm;
        self.set_digest_lengths();
    }

    fn set_digest_lengths(&mut self) {
        let Integrity { own, peer } = self.net.integrity;
        let mut wire = self.net.wire;
        wire.own_digest_len = own.map_or(0, DigestAlgorithm::len);
        wire.peer_digest_len = peer.map_or(0, DigestAlgorithm::len);
        if wire != self.net.wire {
            self.net.wire = wire;
            self.emit_conn(ConnEffect::SetWire(wire));
        }
    }

    /// The digest of what is sent, if digests are agreed.
    pub(crate) fn digest_to_send(&self, payload: Option<&P>) -> Option<Digest> {
        Some(payload?.digest(self.net.integrity.own?))
    }

    /// Whether data came as they were sent; if not, the connection is ended and nothing of the packet is used.
    pub(crate) fn is_intact(
        &mut self,
        nr: VolumeNr,
        packet: &Packet,
        digest: Option<Digest>,
        payload: Option<&P>,
    ) -> bool {
        let (Some(algorithm), Some(payload)) = (self.net.integrity.peer, payload) else {
            return true;
        };
        if digest == Some(payload.digest(algorithm)) {
            return true;
        }
        let sector = match packet {
            Packet::Data(header) | Packet::DataReply(header) | Packet::RsDataReply(header) => {
                header.sector
            }
            _ => 0,
        };
        // (The wire's mistake, not the peer's.)
        let text = format!(
            "volume {nr}: {}: Digest integrity check FAILED: {sector}s +{}",
            packet.name(),
            payload.len_bytes()
        );
        self.log(crate::effect::Level::Error, text);
        self.lose_connection(crate::state::ConnState::ProtocolError);
        false
    }
}
