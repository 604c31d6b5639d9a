//! Application requests: the way of a write to both copies.
//!
//! A write goes: admitted (no overlapping write is open, `router/admission.rs`) → its extents are hot on disk → local write and packet to the
//! peer in one turn → completed when both answered as the protocol wants → finished when its epoch's barrier is
//! acknowledged, or the peer is lost and its blocks are marked. `docs/spec/behaviour.md`, section 8.

use replica_proto::{BlockId, DpFlags};

use crate::config::Protocol;
use crate::copies::Copies;
use crate::event::RequestKind;
use crate::ids::{RequestId, RequestKey, Time, VolumeNr};
use crate::latency::Times;
use crate::span::Span;

/// One request of a front end.
#[derive(Debug)]
pub(crate) struct AppRequest<P> {
    pub(crate) id: RequestId,
    pub(crate) volume: VolumeNr,
    pub(crate) generation: u32,
    pub(crate) span: Span,
    pub(crate) kind: RequestKind<()>,
    /// What a write carries, until it is submitted; what a read got, until it is completed.
    pub(crate) payload: Option<P>,
    /// What became of it here and at the peer.
    pub(crate) copies: Copies,
    /// Its epoch's barrier is not acknowledged.
    pub(crate) in_log: bool,
    pub(crate) epoch: u32,
    /// The mirror says that the block is in sync now.
    pub(crate) in_sync: bool,
    /// Which answers were asked for when it was sent to the peer.
    pub(crate) answers: DpFlags,
    /// The protocol that it was sent by, which says when it is done at the peer. Where our own disk is no copy to rely on that
    /// is C, whatever is configured.
    pub(crate) protocol: Protocol,
    /// Our disk was UpToDate, and no full sync onto it agreed on, when the write went there.
    pub(crate) good_here: bool,
    pub(crate) completed: bool,
    pub(crate) times: Times,
    /// A flush without a local disk: the transfer log's writes before it.
    pub(crate) flush_after: usize,
}

impl<P> AppRequest<P> {
    /// A request that has come `now` and has not started.
    pub(crate) fn new(
        now: Time,
        id: RequestId,
        volume: VolumeNr,
        generation: u32,
        span: Span,
        kind: RequestKind<()>,
        payload: Option<P>,
    ) -> Self {
        AppRequest {
            id,
            volume,
            generation,
            span,
            kind,
            payload,
            copies: Copies::NONE,
            in_log: false,
            epoch: 0,
            in_sync: false,
            answers: DpFlags::empty(),
            protocol: Protocol::C,
            good_here: false,
            completed: false,
            times: Times::new(now),
            flush_after: 0,
        }
    }

    pub(crate) fn is_read(&self) -> bool {
        matches!(self.kind, RequestKind::Read)
    }

    pub(crate) fn is_flush(&self) -> bool {
        matches!(self.kind, RequestKind::Flush)
    }

    /// What the peer echoes, and what tells the driver's `Sent`.
    pub(crate) fn block_id(&self, key: RequestKey) -> BlockId {
        BlockId::from_u64(u64::from(self.generation) << 32 | (key as u64 + 1))
    }
}
