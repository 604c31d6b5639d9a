//! The side that drives a verify (VerifyS).
//!
//! A block is asked for when nothing here holds it, and users' writes to it wait from then on until it is compared: a write in
//! between would reach only one of the two reads. Writes that the peer mirrors need not wait: those that it sent before its digest
//! are read here too, and it lets none begin after that until it has the result.

use alloc::format;

use rdb_meta::BLOCK_SECTORS;
use replica_proto::{BlockAck, BlockId, BlockRequest, Digest, Packet};

use crate::effect::Level;
use crate::event::{ConnTimer, DiskError, Payload};
use crate::ids::{Time, VolumeNr};
use crate::net::PingWaiter;
use crate::peer_reads::{BlockedRead, Purpose};
use crate::range_locks::ReadTicket;
use crate::resync::STEP_MS;
use crate::router::Resource;
use crate::span::Span;
use crate::state::ConnState;

/// Sectors that may be asked for and not compared: every block is a request of its own, and the peer holds as many as that.
const WINDOW_MAX: u64 = 1 << 17;

impl<P: Payload> Resource<P> {
    /// The state is VerifyS.
    pub(in crate::router) fn verify_begins(&mut self, nr: VolumeNr) {
        let now = self.now;
        let algorithm = self.net.comparison.ours().verify;
        let stops = self.net.agreed.version().verify_ends_with_state();
        let volume = self.volume_mut(nr);
        if volume.state.conn != ConnState::VerifyS {
            return;
        }
        let size = volume.size;
        let begun = (volume.peer.verify).begin_driving(now, size, algorithm, stops);
        if begun.stops_not {
            let text = "the peer knows no verify that stops before the end: it goes to the end";
            self.log_volume(Level::Warn, nr, text);
        }
        let text = format!("Starting Online Verify from sector {}", begun.sector);
        self.log_volume(Level::Info, nr, text);
        self.verify_step(nr);
    }

    /// One step: how much may be asked for in the next tenth of a second.
    pub(in crate::router) fn verify_step(&mut self, nr: VolumeNr) {
        let now = self.now;
        let Some(options) = self.volume(nr).options_in_effect() else {
            return;
        };
        let volume = self.volume_mut(nr);
        let application = volume.counters.application_sectors;
        volume.peer.verify.step(now, &options, application);
        self.set_conn_timer(ConnTimer::ResyncStep(nr), now.plus_ms(STEP_MS));
        self.verify_fill(nr, None);
        self.verify_check_end(nr);
    }

    /// A write has ended or begun for which a reader waited: if that is the next block's, it has its turn before users' writes that
    /// wait for the same block.
    pub(in crate::router) fn verify_woken(&mut self, nr: VolumeNr, ticket: ReadTicket) {
        let now = self.now;
        if self.volume_mut(nr).peer.verify.takes_turn(ticket) {
            self.verify_fill(nr, Some(now));
        }
    }

    /// Asks for blocks, in ascending order, as far as the step's budget and the buffers go, and nothing holds them.
    fn verify_fill(&mut self, nr: VolumeNr, mut turn: Option<Time>) {
        let now = self.now;
        let max_buffers = self.net.options.as_ref().map_or(2048, |o| o.max_buffers);
        let window = (u64::from(max_buffers / 2) * BLOCK_SECTORS).min(WINDOW_MAX);
        loop {
            let volume = self.volume_mut(nr);
            let verify = &mut volume.peer.verify;
            let Some(span) = verify.next_block(volume.size, window) else {
                return;
            };
            let ticket = volume.held.read_ticket();
            if volume.held.holds_up(span, ticket, turn.take()) {
                verify.wait_for_turn(ticket);
                return;
            }
            verify.ask(span, now);
            volume.peer.traffic.ask();
            self.watch_blocks();
            let request = span.request(BlockId::SYNCER);
            self.send(nr, Packet::OvRequest(request), None);
        }
    }

    /// P_OV_REPLY: what the peer's block is.
    pub(in crate::router) fn on_verify_reply(
        &mut self,
        nr: VolumeNr,
        reply: &BlockRequest,
        digest: Digest,
    ) {
        let span = Span::from(reply);
        let peer = &mut self.volume_mut(nr).peer;
        if !peer.verify.digest_came(span, &digest) {
            self.protocol_error(format!(
                "volume {nr}: a digest of {} bytes for a block that was not asked for so, sector {span}",
                digest.len()
            ));
            return;
        }
        peer.answered();
        peer.traffic.owe();
        let read = BlockedRead {
            span,
            block_id: BlockId::SYNCER,
            purpose: Purpose::Compare(digest),
        };
        if self.volume(nr).peer.verify.is_open(span) {
            self.admit_peer_read(nr, read);
        } else {
            self.refuse_read(nr, read);
            self.verify_fill(nr, None);
        }
    }

    /// P_NEG_RS_DREPLY for a block of a verify; whether it is one.
    pub(in crate::router) fn on_verify_refused(&mut self, nr: VolumeNr, ack: &BlockAck) -> bool {
        let peer = &mut self.volume_mut(nr).peer;
        if !peer.verify.refused(ack.sector) {
            return false;
        }
        peer.answered();
        self.retry_blocked(nr);
        self.verify_fill(nr, None);
        self.verify_check_end(nr);
        true
    }

    /// Our own block was read, or could not be. What cannot be read differs, as with DRBD's driver.
    pub(in crate::router) fn on_compare_io(
        &mut self,
        nr: VolumeNr,
        read: BlockedRead,
        current: bool,
        result: Result<Option<P>, DiskError>,
    ) {
        let span = read.span;
        let volume = self.volume_mut(nr);
        volume.held.remove(span.sector);
        let error = result.as_ref().err().copied();
        if current && volume.peer.verify.is_open(span) {
            let equal = match (result, read.purpose) {
                (Ok(Some(own)), Purpose::Compare(peers)) => {
                    volume.peer.verify.is_equal(&own, peers)
                }
                _ => false,
            };
            volume.counters.read += span.sectors();
            volume.peer.answer_given();
            let seq_num = volume.peer.next_seq();
            self.verify_block_done(nr, span, equal);
            let found = match equal {
                true => BlockId::IN_SYNC,
                false => BlockId::OUT_OF_SYNC,
            };
            let ack = span.ack(found, seq_num);
            self.send(nr, Packet::OvResult(ack), None);
        } else if current {
            self.refuse_read(nr, read);
        }
        self.retry_blocked(nr);
        if let Some(error) = error {
            self.log_io_error(nr, "READ", span, error);
            self.local_io_error(nr, false);
        }
        if current {
            self.verify_fill(nr, None);
            self.verify_check_end(nr);
        }
    }

    /// Every block has been asked for and has its result: the answer to a ping says that the peer has them too.
    fn verify_check_end(&mut self, nr: VolumeNr) {
        let volume = self.volume_mut(nr);
        if volume.peer.verify.begins_end(volume.size) {
            self.ping(Some(PingWaiter::Verify(nr)));
        }
    }
}
