//! Checksum-based resync (`docs/spec/wire.md`, section 10.3): the target reads what it has and asks with its digest; the
//! source answers "in sync" if its own block has the same, else with data.

use alloc::format;

use replica_proto::{BlockAck, BlockId, BlockRequest, Digest, DigestAlgorithm, Packet};

use crate::disk::io::Io;
use crate::effect::ReadFor;
use crate::event::{DiskError, Payload};
use crate::ids::{Session, VolumeNr};
use crate::peer_reads::Purpose;
use crate::router::Resource;
use crate::span::Span;
use crate::state::is_target;

impl<P: Payload> Resource<P> {
    // ---- source --------------------------------------------------------------------------------------------------

    /// P_CSUM_RS_REQUEST.
    pub(in crate::router) fn on_checksum_request(
        &mut self,
        nr: VolumeNr,
        request: &BlockRequest,
        digest: Digest,
    ) {
        if self.net.comparison.peers().csums.map(DigestAlgorithm::len) != Some(digest.len()) {
            self.protocol_error(format!(
                "volume {nr}: P_CSUM_RS_REQUEST with a digest of {} bytes, which is not csums-alg's",
                digest.len()
            ));
            return;
        }
        self.on_read_request(nr, request, Purpose::Checksum(digest));
    }

    /// Whether the block just read is what the target said it has.
    pub(in crate::router) fn is_what_the_target_has(&self, purpose: &Purpose, payload: &P) -> bool {
        match (purpose, self.net.comparison.peers().csums) {
            (Purpose::Checksum(digest), Some(algorithm)) => payload.digest(algorithm) == *digest,
            _ => false,
        }
    }

    /// P_RS_IS_IN_SYNC: no answer comes to that.
    pub(in crate::router) fn answer_in_sync(&mut self, nr: VolumeNr, span: Span) {
        let now = self.now;
        let volume = self.volume_mut(nr);
        volume.counters.read += span.sectors();
        volume.peer.answer_given();
        volume.held.remove(span.sector);
        let seq_num = volume.peer.next_seq();
        let ack = span.ack(BlockId::SYNCER, seq_num);
        self.send(nr, Packet::RsIsInSync(ack), None);
        self.set_in_sync(nr, span);
        let left = self.volume(nr).bits_set();
        self.volume_mut(nr).peer.resync.progressed(now, left);
        self.retry_blocked(nr);
    }

    // ---- target --------------------------------------------------------------------------------------------------

    /// Whether this target asks with digests.
    pub(super) fn uses_checksums(&self, nr: VolumeNr) -> bool {
        let crashed = self.volume(nr).crashed_primary;
        let options = self.net.options.as_ref();
        self.net.comparison.ours().csums.is_some()
            && options.is_some_and(|o| crashed || !o.csums_after_crash_only)
    }

    /// The range is noted as asked for; the request follows when the block has been read.
    pub(super) fn read_for_checksum(&mut self, nr: VolumeNr, span: Span) {
        let session = self.net.session;
        let io = Io::ChecksumRead {
            volume: nr,
            span,
            session,
        };
        self.read_disk(io, span, ReadFor::Peer);
    }

    pub(in crate::router) fn on_checksum_read_io(
        &mut self,
        nr: VolumeNr,
        span: Span,
        session: Session,
        result: Result<Option<P>, DiskError>,
    ) {
        if let Err(error) = &result {
            self.log_io_error(nr, "READ", span, *error);
            self.local_io_error(nr, false);
        }
        let algorithm = self.net.comparison.ours().csums;
        if session != self.net.session || !self.volume(nr).peer.resync.has_asked(span) {
            return; // asked for over a connection that is gone
        }
        let volume = self.volume_mut(nr);
        if !is_target(volume.state.conn) {
            // The resync was given up before this was sent.
            volume.peer.resync.take_back(span);
            volume.peer.answered();
            return;
        }
        match (result, algorithm) {
            (Ok(Some(payload)), Some(algorithm)) => {
                volume.counters.read += span.sectors();
                let request = span.request(BlockId::SYNCER);
                let digest = payload.digest(algorithm);
                self.send(nr, Packet::CsumRsRequest(request, digest), None);
            }
            // What cannot be read may be written all the same.
            _ => self.request_resync_data(nr, span),
        }
    }

    /// A write failed here: what the source finds equal in this range may be what did not arrive.
    pub(in crate::router) fn spoil_checksums(&mut self, nr: VolumeNr, failed: Span) {
        if self.net.comparison.ours().csums.is_some() {
            self.volume_mut(nr).peer.resync.spoil(failed);
        }
    }

    /// P_RS_IS_IN_SYNC: the source has the same.
    pub(in crate::router) fn on_in_sync(&mut self, nr: VolumeNr, ack: &BlockAck) {
        let volume = self.volume_mut(nr);
        let target = is_target(volume.state.conn);
        let span = Span::from(ack);
        let asked = volume.peer.resync.has_asked(span);
        if !asked || !self.uses_checksums(nr) {
            self.protocol_error(format!(
                "volume {nr}: P_RS_IS_IN_SYNC for a block that was not asked for, sector {}",
                ack.sector
            ));
            return;
        }
        let volume = self.volume_mut(nr);
        volume.peer.answered();
        if volume.peer.resync.found_equal(span, target) {
            self.set_in_sync(nr, span);
        }
        self.retry_blocked(nr);
        self.target_fill(nr);
        self.target_check_end(nr);
    }
}
