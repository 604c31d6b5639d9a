//! data-integrity-alg: a digest beside the data of each packet, made by the sender and checked by the receiver
//! (`docs/spec/wire.md`, section 7.10). Each direction has its own algorithm, which its sender names in P_PROTOCOL or
//! P_PROTOCOL_UPDATE; the handshake insists on equal ones.

mod steps;

use replica_proto::{AlgorithmName, DigestAlgorithm};

/// The algorithms in use on one connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Integrity {
    /// Of what we send.
    own: Option<DigestAlgorithm>,
    /// Of what the peer sends.
    peer: Option<DigestAlgorithm>,
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
