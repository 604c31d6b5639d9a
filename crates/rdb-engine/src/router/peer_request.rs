//! The way of a mirrored write to our disk.

use alloc::format;
use alloc::string::String;

use replica_proto::{DataHeader, DpFlags, Features, Packet};

use crate::disk::al_gate::Writer;
use crate::disk::io::Io;
use crate::disk::{MdKind, Then};
use crate::effect::DiscardKind;
use crate::event::{DiskError, Payload};
use crate::ids::{PeerKey, VolumeNr};
use crate::peer_request::{HELD_MAX, MirrorKind, PeerWrite, Received, UNANSWERED_MAX};
use crate::range_locks::{Holder, Queued, Ticket, Waiter};
use crate::router::Resource;
use crate::router::volume::Volume;
use crate::span::Span;
use crate::state::{self, ConnState, DiskState};

impl<P: Payload> Resource<P> {
    /// Ends the connection to a peer that asks without end and does not wait for answers.
    pub(super) fn asks_too_much(&mut self, nr: VolumeNr) -> bool {
        let volume = self.volume(nr);
        let waits = if volume.peer.traffic.unacked() >= UNANSWERED_MAX {
            format!("{UNANSWERED_MAX} requests of the peer wait for an answer")
        } else if volume.held.len() >= HELD_MAX {
            format!("{HELD_MAX} ranges wait for the peer's acknowledgement")
        } else {
            return false;
        };
        self.protocol_error(format!("volume {nr}: {waits}, and it asks for more"));
        true
    }

    /// P_DATA, P_TRIM, P_ZEROES. `bytes` is the payload's length, or what the header says.
    pub(super) fn on_mirror_write(
        &mut self,
        nr: VolumeNr,
        header: &DataHeader,
        bytes: u32,
        kind: MirrorKind,
        payload: Option<P>,
    ) {
        let session = self.net.session;
        let volume = self.volume(nr);
        let span = Span {
            sector: header.sector,
            bytes,
        };
        if let Some(wrong) = wrong_write(volume, span) {
            self.protocol_error(format!("volume {nr}: {wrong}"));
            return;
        }
        let usable = volume.has_usable_disk();
        if self.asks_too_much(nr) {
            return;
        }
        let volume = self.volume_mut(nr);
        volume.peer.traffic.receive(span.sectors());
        volume.peer.traffic.owe();
        // (L17) Marked at once: a resync to the writer's disk may be agreed on before this write's turn comes.
        let alone = !state::is_there(self.volume(nr).state.pdsk);
        if alone {
            self.set_out_of_sync(nr, span);
        }
        let epoch = self.net.epochs.add();
        let asked = Received {
            volume: nr,
            session,
            epoch,
            span,
            block_id: header.block_id,
            flags: header.flags,
            kind,
            alone,
        };
        let key = self.peer_writes.insert(PeerWrite::new(asked, payload));
        if !usable {
            // (L10) Received, but nowhere to be written: P_RECV_ACK would be a promise.
            self.end_mirrored(key, false);
            return;
        }
        if header.flags.contains(DpFlags::SEND_RECEIVE_ACK) {
            let seq_num = self.volume_mut(nr).peer.next_seq();
            let ack = span.ack(header.block_id, seq_num);
            self.send(nr, Packet::RecvAck(ack), None);
        }
        // A peer that says which writes depend on what came before lets the others pass.
        let ordered = !self.net.agreed.marks_flushes() || header.flags.contains(DpFlags::FLUSH);
        self.net.epochs.wait(key, epoch, ordered);
        self.release_mirrored();
        if self.net.epochs.has_last(key) {
            // Reads and writes that come after it see that it waits.
            let now = self.now;
            let held = &mut self.volume_mut(nr).held;
            let ticket = held.queue(span, Queued::Mirrored(key), true, now);
            self.net.epochs.keep_place(ticket);
        }
    }

    /// Whether the disk has still to take what a peer has sent over a connection that is lost.
    pub(super) fn has_writes_of_lost_peer(&self, nr: VolumeNr) -> bool {
        let session = self.net.session;
        let mut writes = self.peer_writes.iter().map(|(_, write)| write.asked());
        writes.any(|write| write.volume == nr && write.session != session)
    }

    /// Lets mirrored writes go to the disk, in order: a write of a later epoch waits until all earlier epochs are
    /// durable, unless the writer says by itself which writes depend on that.
    ///
    /// A write that ends at once, without a disk, can end its epoch and let the next one go: that is done here, one after the
    /// other, and not by each within the one before.
    pub(super) fn release_mirrored(&mut self) {
        if !self.net.epochs.begin_to_release() {
            return;
        }
        loop {
            if self.net.epochs.is_next_held() {
                self.advance_epochs();
            }
            let Some((key, ticket)) = self.net.epochs.next_released() else {
                return;
            };
            self.start_mirrored(key, ticket);
        }
    }

    /// Its epoch lets it go to the disk. `ticket`: the place that it has kept among those who wait for its range.
    fn start_mirrored(&mut self, key: PeerKey, ticket: Option<Ticket>) {
        let Received {
            volume: nr, span, ..
        } = self.peer_writes[key].asked();
        let now = self.now;
        let held = &mut self.volume_mut(nr).held;
        if let Some(ticket) = ticket {
            held.open_gate(ticket);
            self.retry_woken(nr);
        } else if held.is_taken(span) {
            // Writes that overlap reach the disk in the order they came in.
            held.queue(span, Queued::Mirrored(key), false, now);
            self.retry_woken(nr);
        } else {
            self.begin_mirrored(key);
        }
    }

    /// Nothing is in its way.
    fn begin_mirrored(&mut self, key: PeerKey) {
        let Received {
            volume: nr, span, ..
        } = self.peer_writes[key].asked();
        let holder = Holder::Mirrored(key);
        self.volume_mut(nr).held.insert(span, holder);
        self.activate_mirrored(key);
    }

    /// A Secondary logs what it writes only if the writer has no disk of its own: then nobody else does (8.6, item 6). Whether a
    /// writer that is lost has one is not known any more: what it wrote is logged, and marked as late (L56).
    pub(super) fn activate_mirrored(&mut self, key: PeerKey) {
        let write = self.peer_writes[key].asked();
        let (nr, span) = (write.volume, write.span);
        if !write.alone && state::is_there(self.volume(nr).state.pdsk) {
            self.submit_mirrored(key);
            return;
        }
        let lost = write.session != self.net.session || !self.volume(nr).state.is_connected();
        if lost && !write.alone {
            self.mark_late(nr, span);
        } else {
            self.set_out_of_sync(nr, span);
        }
        let usable = self.volume(nr).has_usable_disk();
        if !usable || self.enter_gate(nr, Writer::Mirrored(key), span.extents()) {
            self.submit_when_marked(key);
        }
    }

    /// That this disk is the only one of a Primary is on record before it takes a write as such (I2).
    fn submit_when_marked(&mut self, key: PeerKey) {
        let nr = self.peer_writes[key].asked().volume;
        if self.volume(nr).has_pending_record() {
            self.md(nr, MdKind::SUPERBLOCK, Then::Mirrored(key));
        } else {
            self.submit_mirrored(key);
        }
    }

    pub(super) fn submit_mirrored(&mut self, key: PeerKey) {
        let Received {
            volume: nr, span, ..
        } = self.peer_writes[key].asked();
        if !self.volume(nr).has_usable_disk() {
            self.volume_mut(nr).held.remove(span.sector);
            self.end_mirrored(key, false);
            self.retry_blocked(nr);
            return;
        }
        let volume = self.volume_mut(nr);
        volume.counters.wrote_for_users(span.sectors());
        let tag = self.start_data_io(Io::Mirrored { volume: nr, key });
        let effect = self.peer_writes[key].for_disk(tag);
        self.emit(effect);
    }

    pub(super) fn on_mirrored_io(
        &mut self,
        nr: VolumeNr,
        key: PeerKey,
        result: Result<(), DiskError>,
    ) {
        let Received { span, session, .. } = self.peer_writes[key].asked();
        let current = session == self.net.epochs_of;
        let volume = self.volume_mut(nr);
        volume.held.remove(span.sector);
        volume.peer.mirror_unflushed |= current;
        if let Err(error) = result {
            self.log_io_error(nr, "WRITE", span, error);
            self.set_out_of_sync(nr, span);
            self.spoil_checksums(nr, span);
            // The writer hears of the failed write before it hears that the disk is gone.
            self.end_mirrored(key, false);
            self.local_io_error(nr, error.is_no_space());
        } else {
            self.end_mirrored(key, true);
        }
        self.retry_blocked(nr);
    }

    /// The write is on our disk, or never will be: say so and count it in its epoch.
    fn end_mirrored(&mut self, key: PeerKey, ok: bool) {
        let write = self.peer_writes.remove(key).asked();
        let nr = write.volume;
        self.leave_gate(nr, Writer::Mirrored(key));
        if write.session == self.net.session {
            let volume = self.volume_mut(nr);
            volume.peer.answer_given();
            let syncing = volume.state.compares_blocks();
            let in_sync = ok && syncing && write.flags.contains(DpFlags::MAY_SET_IN_SYNC);
            let answer = write.answer(ok, in_sync, || volume.peer.next_seq());
            if in_sync {
                self.set_in_sync(nr, write.span);
            }
            if ok && !write.alone {
                self.mirrored(nr, write.span);
            }
            if let Some(answer) = answer {
                self.send(nr, answer, None);
            }
            if in_sync {
                self.target_check_end(nr);
            }
        }
        self.mirrored_write_ended(write.epoch);
    }

    /// (L56) Its writer is gone, and may send it again.
    fn mark_late(&mut self, nr: VolumeNr, span: Span) {
        let volume = self.volume_mut(nr);
        if let Some(inside) = volume.inside(span.sector, span.end())
            && let Some(disk) = volume.disk.get_mut()
        {
            disk.mark_late(inside.start, inside.end);
        }
    }

    /// (L56) Of a Primary that has a good disk itself: what it has written again makes no block differ any more. Should one of the two
    /// copies be lost yet, its log or its activity log tells of this write as of any other.
    fn mirrored(&mut self, nr: VolumeNr, span: Span) {
        let volume = self.volume_mut(nr);
        let (state, size) = (volume.state, volume.size);
        let mirrors = matches!(
            state.conn,
            ConnState::Connected | ConnState::VerifyS | ConnState::VerifyT
        );
        if !mirrors || state.disk != DiskState::UpToDate || state.pdsk != DiskState::UpToDate {
            return;
        }
        let Some(disk) = volume.disk.get_mut() else {
            return;
        };
        for block in disk.mirrored(span) {
            self.set_in_sync(nr, Span::of_blocks(block, 1, size));
        }
    }

    /// Lets go on who waited for a range that is free now.
    ///
    /// What goes on can end at once and wake others: those are let go here, and not by each within the one before.
    pub(super) fn retry_woken(&mut self, nr: VolumeNr) {
        let Some(volume) = self.volumes.get_mut(nr) else {
            return;
        };
        if !volume.held.begin_to_look() {
            return;
        }
        while let Some(volume) = self.volumes.get_mut(nr)
            && let Some(waiter) = volume.held.next_woken()
        {
            match waiter {
                Waiter::Write(ticket) => match volume.held.admit(ticket) {
                    Some(Queued::Mirrored(key)) => self.begin_mirrored(key),
                    Some(Queued::Resync) => {
                        if let Some(write) = volume.peer.resync.turn_to_write(ticket) {
                            self.begin_resync_write(nr, write);
                        }
                    }
                    Some(Queued::Application(key)) => self.start_admitted(key),
                    None => {}
                },
                Waiter::Turn(ticket) | Waiter::Read(ticket) => {
                    let turn = matches!(waiter, Waiter::Turn(_)).then_some(self.now);
                    match volume.peer.reads_blocked.remove(&ticket) {
                        Some(read) => self.serve_read(nr, read, turn),
                        None => self.verify_woken(nr, ticket),
                    }
                }
            }
        }
    }

    /// What waits for a range and needs a disk that is there no more waits no longer.
    pub(super) fn refuse_blocked(&mut self, nr: VolumeNr) {
        let Some(volume) = self.volumes.get_mut(nr) else {
            return;
        };
        if volume.state.disk != DiskState::UpToDate {
            for &ticket in volume.peer.reads_blocked.keys() {
                volume.held.wake(Waiter::Read(ticket));
            }
        }
        if !volume.has_usable_disk() {
            let blocked = volume.peer.resync.take_waiting();
            for (ticket, write) in blocked {
                self.volume_mut(nr).held.leave(ticket);
                self.begin_resync_write(nr, write);
            }
        }
        self.retry_woken(nr);
    }

    /// What a received zeroing or discarding packet asks of the disk (`docs/spec/wire.md`, section 7.8).
    pub(super) fn mirror_kind(&self, flags: DpFlags, trim: bool) -> MirrorKind {
        let wzeroes = self.net.agreed.has(Features::WZEROES);
        MirrorKind::Discard(if trim && wzeroes {
            DiscardKind::Discard
        } else if trim || flags.contains(DpFlags::DISCARD) {
            DiscardKind::ZeroesMayUnmap
        } else {
            DiscardKind::Zeroes
        })
    }
}

/// Largest discard a peer may ask for, in bytes (`docs/spec/wire.md`, section 7.8): at most 33 extents of the activity
/// log, which one transaction and the smallest log can hold.
const DISCARD_RECEIVED_MAX: u32 = 128 << 20;

/// Why no right peer sends a write of these bytes, if so.
fn wrong_write<P>(volume: &Volume<P>, span: Span) -> Option<String> {
    let size = volume.size;
    if volume.state.conn < ConnState::Connected {
        Some("a write before the handshake of its volume is over".into())
    } else if !span.is_request(DISCARD_RECEIVED_MAX, size) {
        let Span { sector, bytes } = span;
        Some(format!(
            "a write of {bytes} bytes at sector {sector} lies beyond the device's {size} sectors"
        ))
    } else {
        None
    }
}
