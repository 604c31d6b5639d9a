//! What the peer asks of our disk: writes to mirror, and reads.

use replica_proto::{BlockId, DpFlags};

use crate::effect::DiscardKind;
use crate::ids::{Session, VolumeNr};
use crate::range_locks::Ticket;
use crate::span::Span;

/// A write of the peer's application, on its way to our disk.
#[derive(Debug)]
pub(crate) struct PeerWrite<P> {
    pub(crate) volume: VolumeNr,
    /// The connection it came over: acks are owed only to that.
    pub(crate) session: Session,
    pub(crate) epoch: u64,
    pub(crate) span: Span,
    pub(crate) block_id: BlockId,
    pub(crate) flags: DpFlags,
    pub(crate) kind: MirrorKind,
    pub(crate) payload: Option<P>,
    /// The writer had no disk of its own when it sent this.
    pub(crate) alone: bool,
    /// While it waits for a range or an epoch.
    pub(crate) ticket: Option<Ticket>,
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
