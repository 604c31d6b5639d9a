//! data-integrity-alg: a digest beside the data of each packet, made by the sender and checked by the receiver
//! (`docs/spec/wire.md`, section 7.10). Each direction has its own algorithm, which its sender names in P_PROTOCOL or
//! P_PROTOCOL_UPDATE; the handshake insists on equal ones.

use alloc::format;

use replica_proto::{AlgorithmName, Digest, DigestAlgorithm, Packet};

use crate::effect::ConnEffect;
use crate::event::Payload;
use crate::ids::VolumeNr;
use crate::resource::Resource;

/// The algorithms in use on one connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Integrity {
    /// Of what we send.
    own: Option<DigestAlgorithm>,
    /// Of what the peer sends.
    peer: Option<DigestAlgorithm>,
}

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

/// The name as P_PROTOCOL carries it; empty for none.
pub(crate) fn algorithm_name(algorithm: Option<DigestAlgorithm>) -> AlgorithmName {
    algorithm
        .and_then(|algorithm| AlgorithmName::new(algorithm.name()).ok())
        .unwrap_or_default()
}

/// What such a name means: an algorithm, none, or (outer `None`) one that is not known here.
pub(crate) fn algorithm_named(name: &AlgorithmName) -> Option<Option<DigestAlgorithm>> {
    if name.is_empty() {
        return Some(None);
    }
    DigestAlgorithm::from_name(name.as_str()).ok().map(Some)
}
