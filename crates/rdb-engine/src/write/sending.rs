//! How a write is sent to the peer: by which protocol, which answers it asks for, and the packet.

use replica_proto::{BlockId, DataHeader, DpFlags, Packet};

use crate::config::Protocol;
use crate::event::RequestKind;
use crate::span::Span;

/// What decides that, beside the write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sending {
    /// The configured protocol.
    pub protocol: Protocol,
    /// A resync or a verify runs ([`VolumeState::compares_blocks`](crate::state::VolumeState::compares_blocks)).
    pub syncing: bool,
    /// (L31) The peer's disk may come to outrank ours: what is to be durable by itself must be so there.
    pub outranked: bool,
    /// It must not reach the peer's disk before everything that was sent before it is durable.
    pub flush: bool,
    /// The peer knows P_ZEROES.
    pub wzeroes: bool,
    /// The epoch that it has joined in the transfer log.
    pub epoch: u32,
    pub seq_num: u32,
}

fn is_fua(kind: RequestKind<()>) -> bool {
    matches!(kind, RequestKind::Write { fua: true, .. })
}

impl Sending {
    /// The protocol that a write is sent by. Where our own disk is no copy to rely on, A and B would acknowledge what nobody has yet.
    pub(crate) fn protocol_for(&self, kind: RequestKind<()>, good_here: bool) -> Protocol {
        if good_here && !(is_fua(kind) && self.outranked) {
            self.protocol
        } else {
            Protocol::C
        }
    }

    /// Which answers a write asks for that is sent by this protocol.
    pub(crate) fn answers(&self, protocol: Protocol) -> DpFlags {
        match protocol {
            _ if self.syncing => DpFlags::SEND_WRITE_ACK | DpFlags::MAY_SET_IN_SYNC,
            Protocol::C => DpFlags::SEND_WRITE_ACK,
            Protocol::B => DpFlags::SEND_RECEIVE_ACK,
            Protocol::A => DpFlags::empty(),
        }
    }

    /// The packet of a write that asks for these answers.
    pub(crate) fn packet(
        &self,
        kind: RequestKind<()>,
        Span { sector, bytes }: Span,
        block_id: BlockId,
        answers: DpFlags,
    ) -> Packet {
        let mut header = DataHeader {
            sector,
            block_id,
            seq_num: self.seq_num,
            flags: answers,
        };
        header.flags.set(DpFlags::FUA, is_fua(kind));
        header.flags.set(DpFlags::FLUSH, self.flush);
        match kind {
            RequestKind::WriteZeroes { may_unmap } if self.wzeroes => {
                header.flags |= DpFlags::ZEROES;
                header.flags.set(DpFlags::DISCARD, may_unmap);
                Packet::Zeroes(header, bytes)
            }
            RequestKind::Discard | RequestKind::WriteZeroes { .. } => {
                header.flags |= DpFlags::DISCARD;
                Packet::Trim(header, bytes)
            }
            _ => Packet::Data(header),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::write) const HOW: Sending = Sending {
        protocol: Protocol::A,
        syncing: false,
        outranked: false,
        flush: false,
        wzeroes: true,
        epoch: 3,
        seq_num: 1,
    };
    const WRITE: RequestKind<()> = RequestKind::Write {
        payload: (),
        fua: false,
    };
    const FUA: RequestKind<()> = RequestKind::Write {
        payload: (),
        fua: true,
    };

    #[test]
    fn a_write_that_our_disk_is_no_copy_of_goes_by_protocol_c() {
        assert_eq!(HOW.protocol_for(WRITE, true), Protocol::A);
        assert_eq!(HOW.protocol_for(WRITE, false), Protocol::C);
        let outranked = Sending {
            outranked: true,
            ..HOW
        };
        assert_eq!(outranked.protocol_for(WRITE, true), Protocol::A);
        assert_eq!(outranked.protocol_for(FUA, true), Protocol::C);
    }

    #[test]
    fn what_the_peer_is_to_answer_follows_from_protocol_and_resync() {
        assert_eq!(HOW.answers(Protocol::A), DpFlags::empty());
        assert_eq!(HOW.answers(Protocol::B), DpFlags::SEND_RECEIVE_ACK);
        assert_eq!(HOW.answers(Protocol::C), DpFlags::SEND_WRITE_ACK);
        let syncing = Sending {
            syncing: true,
            ..HOW
        };
        let both = DpFlags::SEND_WRITE_ACK | DpFlags::MAY_SET_IN_SYNC;
        assert_eq!(syncing.answers(Protocol::A), both);
    }

    #[test]
    fn zeroes_go_as_zeroes_to_who_knows_them() {
        let packet = |how: Sending, may_unmap| {
            let kind = RequestKind::WriteZeroes { may_unmap };
            let span = Span::between(0, 8);
            match how.packet(kind, span, BlockId::from_u64(1), DpFlags::empty()) {
                Packet::Zeroes(header, 4096) => ("zeroes", header.flags),
                Packet::Trim(header, 4096) => ("trim", header.flags),
                other => panic!("{other:?}"),
            }
        };
        let older = Sending {
            wzeroes: false,
            ..HOW
        };
        assert_eq!(packet(HOW, false), ("zeroes", DpFlags::ZEROES));
        let unmaps = DpFlags::ZEROES | DpFlags::DISCARD;
        assert_eq!(packet(HOW, true), ("zeroes", unmaps));
        assert_eq!(packet(older, false), ("trim", DpFlags::DISCARD));
    }
}
