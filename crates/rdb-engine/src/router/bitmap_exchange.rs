//! When a bitmap is sent and taken, and what follows from it.

use alloc::format;

use rdb_meta::BLOCK_SECTORS;
use replica_proto::Packet;
use replica_proto::bitmap_code::BitmapProgress;

use crate::bitmap_exchange::{BitmapDue, BitmapIn, BitmapOut};
use crate::disk::Then;
use crate::effect::Level;
use crate::event::Payload;
use crate::ids::{SendTag, VolumeNr};
use crate::net::Delayed;
use crate::router::{BITMAP_SENT, Resource};
use crate::state::{Change, ConnState};

impl<P: Payload> Resource<P> {
    /// Sends a bitmap that is due as soon as nothing holds it back.
    pub(super) fn poll_bitmap_due(&mut self, nr: VolumeNr) {
        let volume = self.volume(nr);
        if volume.peer.bitmap_due == BitmapDue::No
            || volume.peer.full_sync_writing
            || self.net.bitmap_out.is_some()
        {
            return;
        }
        let wanted = match volume.peer.bitmap_due {
            BitmapDue::Source => ConnState::WFBitMapS,
            _ => ConnState::WFBitMapT,
        };
        if volume.state.conn != wanted || !volume.has_usable_disk() || !self.is_up() {
            self.volume_mut(nr).peer.bitmap_due = BitmapDue::No;
            self.retry_waiting(nr);
            return;
        }
        self.settle_frozen(nr);
        if self.has_unmarked_writes(nr) {
            return; // their bits are not known yet; new writes wait meanwhile
        }
        let use_rle = self.net.options.as_ref().is_none_or(|o| o.use_rle);
        let wire = *self.net.agreed.wire();
        let bitmap = self.disk_mut(nr).marks();
        self.net.bitmap_out = Some(BitmapOut::begin(nr, &wire, bitmap, use_rle));
        self.send_bitmap_batch();
    }

    fn send_bitmap_batch(&mut self) {
        let Some(mut out) = self.net.bitmap_out.take() else {
            return;
        };
        let nr = out.volume();
        let disk = self.disk_if_attached(nr);
        let Some(packets) = disk.and_then(|disk| out.next_batch(disk.marks())) else {
            // The packets of one bitmap cannot be broken off: the peer waits for the last one.
            let text = "the disk went, or the device changed its size, while the bitmap was sent";
            self.log_volume(Level::Error, nr, text);
            self.lose_connection(ConnState::NetworkFailure);
            return;
        };
        let (complete, last) = (out.is_complete(), packets.len());
        for (count, packet) in (1..).zip(packets) {
            let notify = (count == last && !complete).then_some(SendTag(BITMAP_SENT));
            self.send_notify(nr, packet, None, notify);
        }
        if !complete {
            self.net.bitmap_out = Some(out);
            return;
        }
        for Delayed {
            volume,
            packet,
            payload,
            notify,
        } in self.net.deferred.take()
        {
            self.send_notify(volume, packet, payload, notify);
        }
        let due = core::mem::replace(&mut self.volume_mut(nr).peer.bitmap_due, BitmapDue::No);
        if due == BitmapDue::Target {
            self.fact(nr, Change::conn(ConnState::WFSyncUUID));
            self.take_early_sync_uuid(nr);
        }
        self.retry_waiting(nr);
    }

    pub(super) fn bitmap_chunk_sent(&mut self) {
        self.send_bitmap_batch();
    }

    /// A packet of the peer's bitmap.
    pub(super) fn on_bitmap_packet(&mut self, nr: VolumeNr, packet: &Packet) {
        let volume = self.volume(nr);
        let state = volume.state;
        let wire = *self.net.agreed.wire();
        let bits = volume.size.div_ceil(BLOCK_SECTORS);
        let mut incoming = match self.net.bitmap_in.take() {
            Some(incoming) if incoming.volume() == nr => incoming,
            Some(_) => {
                self.protocol_error(format!(
                    "volume {nr}: a bitmap inside another volume's bitmap"
                ));
                return;
            }
            None => BitmapIn::begin(nr, &wire, bits),
        };
        let expected = matches!(state.conn, ConnState::WFBitMapS | ConnState::WFBitMapT);
        // (The resync may have been given up here while this was on its way.)
        let disk = self.volume_mut(nr).disk.get_mut().filter(|_| expected);
        let received = match disk {
            Some(disk) => disk.merge_marks(&mut incoming, packet),
            None => incoming.receive(packet, None),
        };
        match received {
            Err(error) => self.protocol_error(format!("volume {nr}: {error}")),
            Ok(BitmapProgress::More) => self.net.bitmap_in = Some(incoming),
            Ok(BitmapProgress::Complete) if !expected => {}
            Ok(BitmapProgress::Complete) if state.conn == ConnState::WFBitMapT => {
                self.volume_mut(nr).peer.bitmap_due = BitmapDue::Target;
                self.poll_bitmap_due(nr);
            }
            Ok(BitmapProgress::Complete) if self.volume(nr).peer.bitmap_due != BitmapDue::No => {
                self.protocol_error(format!(
                    "volume {nr}: the peer's bitmap came before ours was sent"
                ));
            }
            Ok(BitmapProgress::Complete) => self.start_source(nr),
        }
    }

    /// The handshake wants a bitmap from us; with `full`, every bit set on disk first.
    pub(super) fn prepare_bitmap(&mut self, nr: VolumeNr, full: bool) {
        if full {
            let text = "Writing the whole bitmap, full sync required after drbd_sync_handshake.";
            self.log_volume(Level::Info, nr, text);
            self.disk_mut(nr).mark_all();
            self.volume_mut(nr).peer.full_sync_writing = true;
            self.md_full_sync(nr, Then::HandshakeBitmapReady);
        }
    }

    pub(super) fn handshake_bitmap_ready(&mut self, nr: VolumeNr, ok: bool) {
        let Some(volume) = self.volumes.get_mut(nr) else {
            return;
        };
        volume.peer.full_sync_writing = false;
        if !ok {
            self.volume_mut(nr).peer.bitmap_due = BitmapDue::No; // the disk is lost, and with it the resync
        }
        self.poll_bitmap_due(nr);
    }
}
