//! data-integrity-alg: a digest beside the data of each packet, made by the sender and checked by the receiver
//! (`docs/spec/wire.md`, section 7.10). Each direction has its own algorithm, which its sender names in P_PROTOCOL or
//! P_PROTOCOL_UPDATE; the handshake insists on equal ones.

use replica_proto::{AlgorithmName, Digest, DigestAlgorithm, WireContext};

use crate::event::Payload;

/// The algorithms in use on one connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Integrity {
    /// Of what we send. Set when our settings go out, gone with the connection. Without it the peer takes digests for data.
    own: Option<DigestAlgorithm>,
    /// Of what the peer sends. Set when its settings come, gone with the connection. Without it its digests are taken for data.
    peer: Option<DigestAlgorithm>,
}

impl Integrity {
    /// Our settings have gone out, with this algorithm: what we send from the next packet on carries its digest.
    pub(crate) fn we_announce(&mut self, algorithm: Option<DigestAlgorithm>) {
        self.own = algorithm;
    }

    /// The peer's settings have come, with this algorithm: what it sends from its next packet on carries its digest.
    pub(crate) fn peer_announces(&mut self, algorithm: Option<DigestAlgorithm>) {
        self.peer = algorithm;
    }

    /// The wire, with digests of these lengths.
    pub(crate) fn wire(self, wire: WireContext) -> WireContext {
        WireContext {
            own_digest_len: self.own.map_or(0, DigestAlgorithm::len),
            peer_digest_len: self.peer.map_or(0, DigestAlgorithm::len),
            ..wire
        }
    }

    /// The digest of what is sent, if digests are agreed.
    pub(crate) fn of_sent<P: Payload>(self, payload: Option<&P>) -> Option<Digest> {
        Some(payload?.digest(self.own?))
    }

    /// Whether data came as they were sent, as far as that is told.
    pub(crate) fn is_intact<P: Payload>(self, digest: Option<Digest>, payload: &P) -> bool {
        let told = self.peer.map(|algorithm| payload.digest(algorithm));
        told.is_none() || digest == told
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
