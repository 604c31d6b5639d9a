//! The way of a write to both copies, and of a flush.

use alloc::format;

use replica_proto::{Features, Packet};

use crate::disk::al_gate::Writer;
use crate::disk::io::Io;
use crate::disk::{MdKind, Then};
use crate::effect::Level;
use crate::event::Payload;
use crate::follow::Follow;
use crate::ids::{RequestKey, VolumeNr};
use crate::router::Resource;
use crate::rules::write::way;
use crate::span::Span;
use crate::state::DiskState;
use crate::write::Sending;

impl<P: Payload> Resource<P> {
    /// The write's extents must be hot on disk before any byte of it is submitted or sent (I3).
    pub(super) fn activate(&mut self, key: RequestKey) {
        let request = &self.requests[key];
        let (nr, extents) = (request.volume(), request.span().extents());
        let Some(disk) = self.volume_mut(nr).usable_disk() else {
            self.submit_write(key);
            return;
        };
        // The transaction of an extent that is not hot yet comes after the superblock that is under way.
        let marked = disk.record().has_durable_mark();
        if self.enter_gate(nr, Writer::Own(key), extents) {
            self.submit_when_primary(key, marked);
        }
    }

    /// That this disk is a Primary's is on record before its first write, or the log would not be applied (I2).
    fn submit_when_primary(&mut self, key: RequestKey, marked: bool) {
        if marked {
            self.submit_write(key);
        } else {
            let nr = self.requests[key].volume();
            self.md(nr, MdKind::SUPERBLOCK, Then::Application(key));
        }
    }

    /// Local write and packet, in one turn.
    pub(super) fn submit_write(&mut self, key: RequestKey) {
        let nr = self.requests[key].volume();
        let span = self.requests[key].span();
        let state = self.volume(nr).state;
        if state.is_suspended() {
            self.park(key);
            return;
        }
        let local = self.volume(nr).has_usable_disk();
        let up = self.is_up();
        let untold = |follow: &Follow| {
            matches!(*follow, Follow::Changed(of, old, new)
                if of == nr && old.disk > DiskState::Failed && new.disk <= DiskState::Failed)
        };
        let Some(way) = way(state, local, up) else {
            let text = format!("IO ERROR: neither local nor remote data, sector {span}");
            self.log_volume(Level::Error, nr, text);
            self.requests[key].refuse();
            self.advance_write(key);
            return;
        };
        // A peer that has not heard that our disk is lost would not mark what it lacks.
        debug_assert!(
            !way.there || !self.after.iter().any(untold),
            "{:?}",
            self.after
        );
        if way.tells_marks && self.set_out_of_sync(nr, span) > 0 {
            let Span { sector, bytes } = span;
            let desc = replica_proto::BlockDesc { sector, bytes };
            self.send_barrier();
            self.send(nr, Packet::OutOfSync(desc), None);
        }
        let keeps = self.keeps_payloads(nr);
        let payload = self.requests[key].submit(local && state.has_lasting_copy(), keeps);
        self.has_started(key);
        if way.there {
            self.send_write(key, payload.clone());
        }
        if way.here {
            let volume = self.volume_mut(nr);
            volume.counters.wrote_for_users(span.sectors());
            let tag = self.start_data_io(Io::Application { volume: nr, key });
            let effect = self.requests[key].for_disk(tag, payload);
            self.emit(effect);
        }
    }

    pub(super) fn send_write(&mut self, key: RequestKey, payload: Option<P>) {
        self.send_barrier();
        let request = &self.requests[key];
        let (nr, span) = (request.volume(), request.span());
        let outranked = self.copy_may_be_outranked(nr);
        let explicit_flush = self.net.agreed.marks_flushes();
        let volume = self.volume_mut(nr);
        let syncing = volume.state.compares_blocks();
        let flush = volume.users.take_flush() && explicit_flush;
        let seq_num = volume.peer.next_seq();
        volume.peer.traffic.send(span.sectors());
        volume.peer.traffic.ask();
        let how = Sending {
            protocol: self.net.protocol(),
            syncing,
            outranked,
            flush,
            wzeroes: self.net.agreed.has(Features::WZEROES),
            epoch: self.net.log.push(key, self.now),
            seq_num,
        };
        let request = &mut self.requests[key];
        let packet = request.send(self.now, key, how);
        let notify = request.send_tag(key);
        self.send_notify(nr, packet, payload, notify);
        self.watch_requests();
        let epoch_max = self
            .net
            .options
            .as_ref()
            .map_or(2048, |o| o.max_epoch_size.max(1));
        if self.net.log.is_epoch_full(epoch_max) {
            self.close_epoch();
        }
    }

    // ---- flush ---------------------------------------------------------------------------------------------------

    pub(super) fn start_flush(&mut self, key: RequestKey) {
        let nr = self.requests[key].volume();
        self.close_epoch();
        self.send_barrier();
        let state = self.volume(nr).state;
        let reachable = state.disk == DiskState::UpToDate && self.volume(nr).has_usable_disk()
            || state.pdsk == DiskState::UpToDate && self.is_up();
        // (L24) No good copy makes it durable, or what was to be made durable has gone with a disk.
        if !reachable || self.volume_mut(nr).users.take_loss() {
            self.complete(key, false);
            return;
        }
        self.volume_mut(nr).users.flush();
        if self.volume(nr).has_usable_disk() {
            self.requests[key].begin_here();
            self.flush_disk(Io::Application { volume: nr, key });
        }
        if !self.volume(nr).state.has_lasting_copy() || self.copy_may_be_outranked(nr) {
            self.flush_at_peer(key);
        }
        self.advance_write(key);
    }

    /// (L31) Whether our own disk is no place alone for what is to be durable, though it is good: while the peer is asked for its
    /// consent it may have given it, and its disk outrank ours; and while our record does not say yet that it is good, as at the end
    /// of a resync, a power cut makes it Inconsistent.
    fn copy_may_be_outranked(&self, nr: VolumeNr) -> bool {
        self.admin.copy_may_go(nr) || self.volume(nr).has_pending_record()
    }

    /// The good copy is the peer's: durable means that the peer says so, by acknowledging the barriers.
    pub(super) fn flush_at_peer(&mut self, key: RequestKey) {
        self.close_epoch();
        self.send_barrier();
        if !self.requests[key].is_unheard() {
            let waits = self.net.log.await_all(key);
            self.requests[key].await_barrier(waits);
        }
    }

    /// Flushes that wait for the peer's barriers, after some were acknowledged or the peer was lost.
    pub(super) fn release_flushes(&mut self) {
        let lost = !self.is_up();
        for key in self.net.log.take_flushed() {
            self.requests[key].barrier_gone(lost);
            self.advance_write(key);
        }
    }

    // ---- bitmap --------------------------------------------------------------------------------------------------

    /// Marks blocks that differ or may differ; returns how many were not marked before.
    pub(super) fn set_out_of_sync(&mut self, nr: VolumeNr, span: Span) -> u64 {
        self.mark(nr, span.sector, span.end())
    }

    /// The same of any sectors.
    pub(super) fn mark(&mut self, nr: VolumeNr, sector: u64, end: u64) -> u64 {
        let Some(volume) = self.volumes.get_mut(nr) else {
            return 0;
        };
        let Some(inside) = volume.inside(sector, end) else {
            return 0;
        };
        let disk = volume.disk.get_mut();
        disk.map_or(0, |disk| disk.mark(inside.start, inside.end - inside.start))
    }

    /// Clears the marks of blocks that are equal on both disks now.
    pub(super) fn set_in_sync(&mut self, nr: VolumeNr, span: Span) {
        let Some(disk) = self.volume_mut(nr).disk.get_mut() else {
            return;
        };
        if disk.clear_marks(span) {
            self.md_lazy(nr);
            self.source_marks_cleared(nr);
        }
    }

    /// A range became free: whoever waited for it goes on.
    pub(super) fn retry_blocked(&mut self, nr: VolumeNr) {
        self.retry_woken(nr);
        self.retry_waiting(nr);
    }
}
