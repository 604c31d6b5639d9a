//! The side that answers a verify (VerifyT). From the read to the driver's result a range is held against writes of ours, as in a
//! resync.

use alloc::format;

use replica_proto::{BlockAck, BlockId, BlockRequest, Digest, Packet};

use crate::effect::Level;
use crate::event::{DiskError, Payload};
use crate::ids::VolumeNr;
use crate::net::PingWaiter;
use crate::peer_reads::{BlockedRead, Purpose};
use crate::router::Resource;
use crate::span::Span;
use crate::state::ConnState;

impl<P: Payload> Resource<P> {
    /// P_OV_REQUEST.
    pub(in crate::router) fn on_verify_request(&mut self, nr: VolumeNr, request: &BlockRequest) {
        let now = self.now;
        let volume = self.volume_mut(nr);
        if volume.state.conn == ConnState::VerifyT {
            let span = Span::from(request);
            if volume.peer.verify.requested(span, volume.size, now) {
                let text = format!("Online Verify start sector: {}", span.sector);
                self.log_volume(Level::Info, nr, text);
            }
        }
        self.on_read_request(nr, request, Purpose::Verify);
    }

    /// The block was read, or could not be.
    pub(in crate::router) fn on_verify_read_io(
        &mut self,
        nr: VolumeNr,
        read: BlockedRead,
        current: bool,
        result: Result<Option<P>, DiskError>,
    ) {
        let span = read.span;
        let now = self.now;
        let error = result.as_ref().err().copied();
        let algorithm = self.net.comparison.peers().verify;
        let digest = match (result, algorithm) {
            (Ok(Some(payload)), Some(algorithm)) => Some(payload.digest(algorithm)),
            // What no block has: the driver counts it as different.
            (Err(_), Some(algorithm)) => Digest::zeros(algorithm.len()),
            _ => None,
        };
        let volume = self.volume_mut(nr);
        match digest {
            Some(digest) if current && volume.state.conn == ConnState::VerifyT => {
                volume.counters.read += span.sectors();
                volume.peer.answer_given();
                volume.peer.traffic.ask();
                volume.peer.verify.digest_sent(span, now);
                self.watch_blocks();
                let request = span.request(BlockId::SYNCER);
                self.send(nr, Packet::OvReply(request, digest), None);
            }
            _ => {
                // The verify ended meanwhile.
                volume.held.remove(span.sector);
                if current {
                    self.refuse_read(nr, read);
                }
                self.retry_blocked(nr);
            }
        }
        if let Some(error) = error {
            self.log_io_error(nr, "READ", span, error);
            self.local_io_error(nr, false);
        }
    }

    /// P_OV_RESULT: the peer compared.
    pub(in crate::router) fn on_verify_result(&mut self, nr: VolumeNr, result: &BlockAck) {
        let volume = self.volume_mut(nr);
        if volume.state.conn != ConnState::VerifyT {
            return; // of a verify that was given up here
        }
        let span = Span::from(result);
        if !volume.peer.verify.result_came(span) {
            self.protocol_error(format!(
                "volume {nr}: a verify result for a block that was not asked for, sector {}",
                span.sector
            ));
            return;
        }
        volume.held.remove(span.sector);
        volume.peer.answered();
        let equal = result.block_id != BlockId::OUT_OF_SYNC;
        self.verify_block_done(nr, span, equal);
        self.retry_blocked(nr);
        if self.volume_mut(nr).peer.verify.end_begins_here() {
            self.ping(Some(PingWaiter::Verify(nr)));
        }
    }
}
