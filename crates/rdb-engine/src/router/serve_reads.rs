//! What is read here for the peer: for its users, for a resync from here, for a verify that either node drives.

use alloc::format;

use replica_proto::{BlockId, BlockRequest, DataHeader, DpFlags, Packet};

use crate::disk::io::Io;
use crate::effect::ReadFor;
use crate::event::{DiskError, Payload};
use crate::ids::{Session, Time, VolumeNr};
use crate::peer_reads::{BlockedRead, Purpose, under_way_max};
use crate::range_locks::Holder;
use crate::router::Resource;
use crate::span::Span;
use crate::state::{ConnState, DiskState};

impl<P: Payload> Resource<P> {
    /// P_DATA_REQUEST, P_RS_DATA_REQUEST, P_RS_THIN_REQ, P_CSUM_RS_REQUEST, P_OV_REQUEST.
    pub(super) fn on_read_request(
        &mut self,
        nr: VolumeNr,
        request: &BlockRequest,
        purpose: Purpose,
    ) {
        let volume = self.volume(nr);
        let span @ Span { sector, bytes } = Span::from(request);
        let size = volume.size;
        if !span.is_request(crate::REQUEST_MAX_BYTES, size) {
            self.protocol_error(format!(
                "volume {nr}: a request for {bytes} bytes at sector {sector} lies beyond the device's {size} sectors"
            ));
            return;
        }
        if volume.state.conn < ConnState::Connected {
            self.protocol_error(format!(
                "volume {nr}: a read before the handshake of its volume is over"
            ));
            return;
        }
        if self.asks_too_much(nr) {
            return;
        }
        if matches!(purpose, Purpose::Resync | Purpose::Checksum(_)) {
            // It asks once it is on its record that its own blocks are no good.
            self.target_proven(nr);
        }
        self.volume_mut(nr).peer.traffic.owe();
        let read = BlockedRead {
            span,
            block_id: request.block_id,
            purpose,
        };
        self.admit_peer_read(nr, read);
    }

    /// A read that counts as under way: it is started, refused, or waits for a write. `turn`: now, if it is its turn before
    /// users' writes that wait.
    pub(super) fn serve_read(&mut self, nr: VolumeNr, read: BlockedRead, turn: Option<Time>) {
        let span = read.span;
        let volume = self.volume(nr);
        if volume.state.disk != DiskState::UpToDate || volume.disk.open().is_none() {
            self.refuse_read(nr, read);
            self.volume_mut(nr).peer.peer_reads.end(span.bytes);
            self.continue_peer_reads(nr);
            return;
        }
        // A resync or verify block is read after every overlapping write is done, and the range is ours until the peer
        // has answered: a write in between could be undone by the older block, or its bit cleared by the older ack.
        // Writes that came before it are read, also those that have not started.
        let resync = matches!(read.purpose, Purpose::Resync | Purpose::Checksum(_));
        let unlocked = resync && self.planted(crate::Bug::ResyncUnlocked);
        let volume = self.volume_mut(nr);
        let ticket = volume.held.read_ticket();
        if !unlocked && volume.held.holds_up(span, ticket, turn) {
            volume.peer.reads_blocked.insert(ticket, read);
            return;
        }
        match read.purpose {
            Purpose::Resync | Purpose::Checksum(_) if !unlocked => {
                volume.held.insert(span, Holder::Resync);
            }
            Purpose::Verify | Purpose::Compare(_) => {
                volume.held.insert(span, Holder::Verify);
            }
            Purpose::Application | Purpose::Resync | Purpose::Checksum(_) => {}
        }
        let session = self.net.session;
        let io = Io::PeerRead {
            volume: nr,
            read,
            session,
        };
        self.read_disk(io, span, ReadFor::Peer);
    }

    pub(super) fn refuse_read(&mut self, nr: VolumeNr, read: BlockedRead) {
        let volume = self.volume_mut(nr);
        volume.peer.answer_given();
        let seq_num = volume.peer.next_seq();
        let mut ack = read.span.ack(read.block_id, seq_num);
        let packet = match read.purpose {
            Purpose::Application => Packet::NegDReply(ack),
            Purpose::Resync | Purpose::Checksum(_) | Purpose::Verify => Packet::NegRsDReply(ack),
            // It holds the block until it has a result.
            Purpose::Compare(_) => {
                ack.block_id = BlockId::IN_SYNC;
                Packet::OvResult(ack)
            }
        };
        self.send(nr, packet, None);
    }

    pub(super) fn on_peer_read_io(
        &mut self,
        nr: VolumeNr,
        read: BlockedRead,
        session: Session,
        result: Result<Option<P>, DiskError>,
    ) {
        let current = session == self.net.session && self.is_up();
        self.volume_mut(nr).peer.peer_reads.end(read.span.bytes);
        self.peer_read_done(nr, read, current, result);
        self.continue_peer_reads(nr);
    }

    fn peer_read_done(
        &mut self,
        nr: VolumeNr,
        read: BlockedRead,
        current: bool,
        result: Result<Option<P>, DiskError>,
    ) {
        match read.purpose {
            Purpose::Verify => return self.on_verify_read_io(nr, read, current, result),
            Purpose::Compare(_) => return self.on_compare_io(nr, read, current, result),
            Purpose::Application | Purpose::Resync | Purpose::Checksum(_) => {}
        }
        let BlockedRead { span, block_id, .. } = read;
        let resync = read.purpose != Purpose::Application;
        match result {
            Ok(Some(payload))
                if current && self.is_what_the_target_has(&read.purpose, &payload) =>
            {
                self.answer_in_sync(nr, span);
            }
            Ok(Some(payload)) if current => {
                let volume = self.volume_mut(nr);
                volume.counters.read += span.sectors();
                volume.peer.traffic.send(span.sectors());
                volume.peer.answer_given();
                let header = DataHeader {
                    sector: span.sector,
                    block_id,
                    seq_num: 0,
                    flags: DpFlags::empty(),
                };
                let packet = if resync {
                    Packet::RsDataReply(header)
                } else {
                    Packet::DataReply(header)
                };
                if resync {
                    self.volume_mut(nr).peer.traffic.ask();
                    self.source_reply_sent(nr, span);
                }
                self.send(nr, packet, Some(payload));
            }
            Ok(_) => {
                if resync {
                    self.volume_mut(nr).held.remove(span.sector);
                    self.retry_blocked(nr);
                }
            }
            Err(error) => {
                self.log_io_error(nr, "READ", span, error);
                if current {
                    self.refuse_read(nr, read);
                }
                if resync {
                    self.volume_mut(nr).held.remove(span.sector);
                    if current {
                        self.volume_mut(nr).peer.resync.block_failed(span);
                    }
                }
                self.local_io_error(nr, false);
                self.retry_blocked(nr);
            }
        }
    }

    /// The peer asks for this: it is read now or when its turn comes.
    pub(super) fn admit_peer_read(&mut self, nr: VolumeNr, read: BlockedRead) {
        self.volume_mut(nr).peer.peer_reads.ask(read);
        self.continue_peer_reads(nr);
    }

    /// Begins what may begin, in order. Without a disk to read from, that is everything: it is refused.
    ///
    /// A read that is refused makes room for the next one; that is done here, and not by each within the one before.
    pub(super) fn continue_peer_reads(&mut self, nr: VolumeNr) {
        let most = under_way_max(self.net.options.as_ref().map_or(2048, |o| o.max_buffers));
        let Some(volume) = self.volumes.get_mut(nr) else {
            return;
        };
        if !volume.peer.peer_reads.begin_to_look() {
            return;
        }
        while let Some(volume) = self.volumes.get_mut(nr) {
            let refused = volume.state.disk != DiskState::UpToDate;
            let Some(read) = volume.peer.peer_reads.next(refused, most) else {
                break;
            };
            self.serve_read(nr, read, None);
        }
    }
}
