//! One thing that a peer says, and how it goes over the wire.

use std::rc::Rc;

use replica_proto::{Digest, DigestAlgorithm, Packet, Socket, WireContext};

use super::Draw;
use crate::node::Data;

/// A packet with its volume, and the data that travel behind it.
#[derive(Debug, Clone)]
pub(crate) struct Say {
    pub(crate) volume: u16,
    pub(crate) packet: Packet,
    pub(crate) payload: Option<Data>,
}

impl Say {
    pub(crate) fn of(volume: u16, packet: Packet) -> Say {
        Say {
            volume,
            packet,
            payload: None,
        }
    }

    /// With so many bytes of data, all of them `fill`.
    pub(crate) fn with_data(volume: u16, packet: Packet, bytes: u32, fill: u8) -> Say {
        let data = vec![fill; bytes as usize];
        Say {
            volume,
            packet,
            payload: Some(Data(Rc::new(data))),
        }
    }

    /// Bytes of data that go with it: before there is an agreement, no header has room for many.
    pub(crate) fn payload_bytes(&self, wire: &WireContext) -> usize {
        let bytes = self.payload.as_ref().map_or(0, |data| data.0.len());
        match wire.version.uses_h95() {
            true => bytes,
            false => bytes.min(4096),
        }
    }

    pub(crate) fn socket(&self) -> Socket {
        self.packet.socket()
    }

    /// The bytes in front of the payload, for a node that decodes with `wire`. `algorithm`: what the node wants data to
    /// carry; a digest of the right length is right, unless the draw says otherwise.
    pub(crate) fn encode(
        &self,
        wire: &WireContext,
        algorithm: Option<DigestAlgorithm>,
        draw: &mut dyn Draw,
    ) -> Vec<u8> {
        let ours = WireContext {
            own_digest_len: wire.peer_digest_len,
            peer_digest_len: wire.own_digest_len,
            ..*wire
        };
        let digest = match &self.payload {
            Some(data) if ours.own_digest_len > 0 => match algorithm {
                Some(a) if a.len() == ours.own_digest_len && !draw.one_in(16) => {
                    Some(a.digest(&data.0))
                }
                _ => Digest::zeros(ours.own_digest_len),
            },
            _ => None,
        };
        let mut out = Vec::with_capacity(64);
        let bytes = self.payload_bytes(wire);
        self.packet
            .encode(&ours, self.volume, digest.as_ref(), bytes as u32, &mut out);
        out
    }
}
