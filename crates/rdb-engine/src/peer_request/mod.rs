//! What the peer asks of our disk: writes to mirror, and reads.

use replica_proto::{BlockId, DpFlags, Packet};

use crate::effect::{DiscardKind, Effect};
use crate::ids::{IoTag, Session, VolumeNr};
use crate::span::Span;

/// A write of the peer's application, on its way to our disk.
#[derive(Debug)]
pub(crate) struct PeerWrite<P> {
    asked: Received,
    /// Its data, until the disk is given them.
    payload: Option<P>,
}

/// What the peer has asked for with one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub volume: VolumeNr,
    /// The connection it came over: acks are owed only to that.
    pub session: Session,
    pub epoch: u64,
    pub span: Span,
    pub block_id: BlockId,
    pub flags: DpFlags,
    pub kind: MirrorKind,
    /// The writer had no disk of its own when it sent this.
    pub alone: bool,
}

impl<P> PeerWrite<P> {
    pub(crate) fn new(asked: Received, payload: Option<P>) -> Self {
        PeerWrite { asked, payload }
    }

    pub(crate) fn asked(&self) -> Received {
        self.asked
    }

    /// What it is for our disk, which is given the data.
    pub(crate) fn for_disk(&mut self, tag: IoTag) -> Effect<P> {
        let Received { volume, flags, .. } = self.asked;
        let Span { sector, bytes } = self.asked.span;
        let kind = match (self.asked.kind, self.payload.take()) {
            (MirrorKind::Write, Some(payload)) => {
                return Effect::Write {
                    volume,
                    tag,
                    sector,
                    payload,
                    fua: flags.contains(DpFlags::FUA),
                };
            }
            (MirrorKind::Write, None) => DiscardKind::Zeroes,
            (MirrorKind::Discard(kind), _) => kind,
        };
        Effect::Discard {
            volume,
            tag,
            sector,
            bytes,
            kind,
        }
    }
}

impl Received {
    /// What the writer is told when the write is on our disk, or never will be; nothing if it has not asked for that. `in_sync`: our
    /// marks of these blocks are cleared.
    pub(crate) fn answer(
        &self,
        ok: bool,
        in_sync: bool,
        next_seq: impl FnOnce() -> u32,
    ) -> Option<Packet> {
        let packet = match (ok, self.flags.contains(DpFlags::SEND_WRITE_ACK)) {
            (false, _) => Packet::NegAck,
            (true, true) if in_sync => Packet::RsWriteAck,
            (true, true) => Packet::WriteAck,
            (true, false) => return None,
        };
        Some(packet(self.span.ack(self.block_id, next_seq())))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MirrorKind {
    Write,
    Discard(DiscardKind),
}

/// How many requests of a peer may wait for our answer, on one volume. The driver's nodes have some thousands at most.
pub(crate) const UNANSWERED_MAX: u32 = 1 << 16;

/// How many ranges of a volume may be locked, most of them for blocks of a resync or a verify that the peer has asked
/// for and not acknowledged. A target's window is `max-buffers` at most.
pub(crate) const HELD_MAX: usize = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConnId;

    #[test]
    fn a_write_that_fails_is_answered_always_and_one_that_succeeds_as_it_was_asked_for() {
        let answer = |flags, ok, in_sync| {
            let asked = Received {
                volume: VolumeNr(0),
                session: Session::first(ConnId::FIRST),
                epoch: 0,
                span: Span::between(0, 8),
                block_id: BlockId::from_u64(1),
                flags,
                kind: MirrorKind::Write,
                alone: false,
            };
            asked.answer(ok, in_sync, || 7)
        };
        let ack = Span::between(0, 8).ack(BlockId::from_u64(1), 7);
        let (asks, silent) = (DpFlags::SEND_WRITE_ACK, DpFlags::MAY_SET_IN_SYNC);
        assert_eq!(answer(asks, true, false), Some(Packet::WriteAck(ack)));
        assert_eq!(answer(asks, true, true), Some(Packet::RsWriteAck(ack)));
        assert_eq!(answer(asks, false, false), Some(Packet::NegAck(ack)));
        assert_eq!(answer(silent, true, true), None);
        assert_eq!(answer(silent, false, false), Some(Packet::NegAck(ack)));
    }
}
