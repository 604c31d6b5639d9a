//! The way of a write to both copies, and of a flush.

use alloc::format;
use alloc::vec::Vec;

use replica_proto::{DataHeader, DpFlags, Features, Packet};

use crate::config::Protocol;
use crate::copies::{Here, There};
use crate::disk::al_gate::Writer;
use crate::disk::io::Io;
use crate::disk::{MdKind, Then};
use crate::effect::{DiscardKind, Effect, Level};
use crate::event::{Payload, RequestKind};
use crate::follow::Follow;
use crate::ids::{IoTag, RequestKey, SendTag, VolumeNr};
use crate::router::Resource;
use crate::span::Span;
use crate::state::{self, ConnState, DiskState};

impl<P: Payload> Resource<P> {
    /// The write's extents must be hot on disk before any byte of it is submitted or sent (I3).
    pub(super) fn activate(&mut self, key: RequestKey) {
        let request = &self.requests[key];
        let (nr, extents) = (request.volume, request.span.extents());
        let Some(disk) = self.volume_mut(nr).usable_disk() else {
            self.submit_write(key);
            return;
        };
        // The transaction of an extent that is not hot yet comes after the superblock that is under way.
        let marked = disk.record.has_durable_mark();
        if self.enter_gate(nr, Writer::Own(key), extents) {
            self.submit_when_primary(key, marked);
        }
    }

    /// That this disk is a Primary's is on record before its first write, or the log would not be applied (I2).
    fn submit_when_primary(&mut self, key: RequestKey, marked: bool) {
        if marked {
            self.submit_write(key);
        } else {
            let nr = self.requests[key].volume;
            self.md(nr, MdKind::SUPERBLOCK, Then::Application(key));
        }
    }

    /// Local write and packet, in one turn.
    pub(super) fn submit_write(&mut self, key: RequestKey) {
        let nr = self.requests[key].volume;
        let state = self.volume(nr).state;
        if state.is_suspended() {
            self.park(key);
            return;
        }
        let local = self.volume(nr).has_usable_disk();
        let up = self.is_up();
        let replicate = up && state::should_replicate(state);
        let untold = |follow: &Follow| {
            matches!(*follow, Follow::Changed(of, old, new)
                if of == nr && old.disk > DiskState::Failed && new.disk <= DiskState::Failed)
        };
        // A peer that has not heard that our disk is lost would not mark what it lacks.
        debug_assert!(
            !replicate || !self.after.iter().any(untold),
            "{:?}",
            self.after
        );
        let good_here = local && state.disk == DiskState::UpToDate;
        let good_there = replicate && state.pdsk == DiskState::UpToDate;
        if !good_here && !good_there {
            let span = self.requests[key].span;
            let text = format!("IO ERROR: neither local nor remote data, sector {span}");
            self.log_volume(Level::Error, nr, text);
            self.requests[key].copies.here = Here::Failed;
            self.requests[key].payload = None;
            self.advance_write(key);
            return;
        }
        if !replicate && up && state::should_send_out_of_sync(state) {
            let span = self.requests[key].span;
            if self.set_out_of_sync(nr, span) > 0 {
                let Span { sector, bytes } = span;
                let desc = replica_proto::BlockDesc { sector, bytes };
                self.send_barrier();
                self.send(nr, Packet::OutOfSync(desc), None);
            }
        }
        let keep = self.keeps_payloads(nr);
        let request = &mut self.requests[key];
        let span = request.span;
        let payload = match keep {
            true => request.payload.clone(),
            false => request.payload.take(),
        };
        request.good_here = local && state.has_lasting_copy();
        self.has_started(key);
        let request = &self.requests[key];
        let kind = request.kind.clone();
        if replicate {
            self.send_write(key, nr, span, &kind, payload.clone());
        }
        if local {
            self.requests[key].copies.here = Here::Pending;
            let volume = self.volume_mut(nr);
            volume.counters.wrote_for_users(span.sectors());
            let tag = self.start_data_io(Io::Application { volume: nr, key });
            self.emit(local_effect(nr, tag, span, &kind, payload));
        }
    }

    pub(super) fn send_write(
        &mut self,
        key: RequestKey,
        nr: VolumeNr,
        span: Span,
        kind: &RequestKind<()>,
        payload: Option<P>,
    ) {
        self.send_barrier();
        let protocol = self.net.protocol();
        let explicit_flush = self.net.explicit_flush;
        let features = self.net.wire.features;
        let now = self.now;
        let fua = matches!(kind, RequestKind::Write { fua: true, .. });
        // (L31) While the peer is asked for its consent it may have given it, and its disk outrank ours: what is to be durable
        // by itself must be so there.
        let here = self.requests[key].good_here && !(fua && self.copy_may_be_outranked(nr));
        let volume = self.volume_mut(nr);
        let syncing = (ConnState::SyncSource..=ConnState::PausedSyncT).contains(&volume.state.conn);
        let mut flags = DpFlags::empty();
        // Where our own disk is no copy to rely on, protocols A and B would acknowledge what nobody has yet.
        let protocol = if here { protocol } else { Protocol::C };
        if protocol == Protocol::C || syncing {
            flags |= DpFlags::SEND_WRITE_ACK;
        } else if protocol == Protocol::B {
            flags |= DpFlags::SEND_RECEIVE_ACK;
        }
        if syncing {
            flags |= DpFlags::MAY_SET_IN_SYNC;
        }
        if fua {
            flags |= DpFlags::FUA;
        }
        if core::mem::take(&mut volume.flush_before_next) && explicit_flush {
            flags |= DpFlags::FLUSH;
        }
        let seq_num = volume.peer.next_seq();
        volume.peer.sent += span.sectors();
        volume.peer.pending += 1;
        let request = &mut self.requests[key];
        let block_id = request.block_id(key);
        request.copies.there = There::Sent;
        request.times.sent = now;
        request.in_log = true;
        request.answers = flags;
        request.protocol = protocol;
        request.epoch = self.net.log.push(key, now);
        let Span { sector, bytes } = span;
        let header = |flags| DataHeader {
            sector,
            block_id,
            seq_num,
            flags,
        };
        let packet = match *kind {
            RequestKind::WriteZeroes { may_unmap } if features.contains(Features::WZEROES) => {
                flags |= DpFlags::ZEROES;
                flags.set(DpFlags::DISCARD, may_unmap);
                Packet::Zeroes(header(flags), bytes)
            }
            RequestKind::Discard | RequestKind::WriteZeroes { .. } => {
                Packet::Trim(header(flags | DpFlags::DISCARD), bytes)
            }
            _ => Packet::Data(header(flags)),
        };
        let notify = (protocol == Protocol::A).then(|| SendTag(block_id.to_u64()));
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
        let nr = self.requests[key].volume;
        self.close_epoch();
        self.send_barrier();
        let state = self.volume(nr).state;
        let reachable = state.disk == DiskState::UpToDate && self.volume(nr).has_usable_disk()
            || state.pdsk == DiskState::UpToDate && self.is_up();
        // (L24) No good copy makes it durable, or what was to be made durable has gone with a disk.
        if !reachable || core::mem::take(&mut self.volume_mut(nr).writes_lost) {
            self.complete(key, false);
            return;
        }
        self.volume_mut(nr).flush_before_next = true;
        if self.volume(nr).has_usable_disk() {
            self.requests[key].copies.here = Here::Pending;
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
        let request = &mut self.requests[key];
        if request.copies.there == There::Sent {
            return;
        }
        if self.net.log.is_empty() {
            request.copies.there = There::Durable;
            return;
        }
        request.copies.there = There::Sent;
        request.flush_after = self.net.log.newest().map_or(0, |k| k + 1);
        self.net.flushes_waiting += 1;
    }

    /// Flushes that wait for the peer's barriers, after some were acknowledged or the peer was lost.
    pub(super) fn release_flushes(&mut self) {
        if self.net.flushes_waiting == 0 {
            return;
        }
        let waiting: Vec<RequestKey> = self
            .requests
            .iter()
            .filter(|(_, r)| r.is_flush() && r.flush_after > 0 && !r.completed)
            .map(|(key, _)| key)
            .collect();
        for key in waiting {
            let last = self.requests[key].flush_after - 1;
            if !self.net.log.contains(last) {
                self.net.flushes_waiting -= 1;
                let lost = !self.is_up();
                let request = &mut self.requests[key];
                request.flush_after = 0;
                request.copies.there = if lost { There::Failed } else { There::Durable };
                self.advance_write(key);
            }
        }
    }

    // ---- bitmap --------------------------------------------------------------------------------------------------

    /// Marks blocks that differ or may differ; returns how many were not marked before.
    pub(super) fn set_out_of_sync(&mut self, nr: VolumeNr, span: Span) -> u64 {
        self.mark(nr, span.sector, span.end())
    }

    /// The same of any sectors.
    pub(super) fn mark(&mut self, nr: VolumeNr, sector: u64, end: u64) -> u64 {
        let Some(volume) = self.volumes.get_mut(&nr) else {
            return 0;
        };
        let size = volume.size;
        let Some(disk) = volume.disk.get_mut() else {
            return 0;
        };
        let end = end.min(size);
        if sector >= end {
            return 0;
        }
        disk.bitmap.set_sectors(sector, end - sector)
    }

    /// Clears the marks of blocks that are equal on both disks now.
    pub(super) fn set_in_sync(&mut self, nr: VolumeNr, span: Span) {
        let Some(disk) = self.volume_mut(nr).disk.get_mut() else {
            return;
        };
        if disk.bitmap.clear_sectors(span.sector, span.sectors()) > 0 {
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

/// What a request is for our own disk.
fn local_effect<P>(
    volume: VolumeNr,
    tag: IoTag,
    Span { sector, bytes }: Span,
    kind: &RequestKind<()>,
    payload: Option<P>,
) -> Effect<P> {
    let kind = match (kind, payload) {
        (&RequestKind::Write { fua, .. }, Some(payload)) => {
            return Effect::Write {
                volume,
                tag,
                sector,
                payload,
                fua,
            };
        }
        (RequestKind::WriteZeroes { may_unmap: true }, _) => DiscardKind::ZeroesMayUnmap,
        (RequestKind::WriteZeroes { may_unmap: false }, _) => DiscardKind::Zeroes,
        _ => DiscardKind::Discard,
    };
    Effect::Discard {
        volume,
        tag,
        sector,
        bytes,
        kind,
    }
}
