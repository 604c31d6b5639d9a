//! The target of a resync: it asks for what is marked, writes it, and says when it is done.

use alloc::format;

use rdb_meta::BLOCK_SECTORS;
use replica_proto::{BlockAck, BlockId, DataHeader, Packet};

use crate::Bug;
use crate::disk::io::Io;
use crate::disk::{MdKind, Then};
use crate::effect::{Effect, Level};
use crate::event::{ConnTimer, DiskError, Payload};
use crate::generation::Generation;
use crate::handler::Handler;
use crate::handling::Waits;
use crate::ids::{Session, VolumeNr};
use crate::net::PingWaiter;
use crate::range_locks::{Holder, Queued};
use crate::resync::{Arrived, STEP_MS, TargetEnd, began};
use crate::router::Resource;
use crate::rules::resync::{SyncUuid, sync_uuid, target_begins, target_ends};
use crate::span::Span;
use crate::state::{ConnState, DiskState, Role, is_target};

impl<P: Payload> Resource<P> {
    /// P_SYNC_UUID: the source is ready.
    pub(in crate::router) fn on_sync_uuid(&mut self, nr: VolumeNr, uuid: Generation) {
        let conn = self.volume(nr).state.conn;
        match sync_uuid(conn, self.admin.asks_for_sync(nr)) {
            SyncUuid::Begins => self.start_target(nr, uuid),
            SyncUuid::Kept => self.volume_mut(nr).peer.resync.keep_early_uuid(uuid),
            SyncUuid::Ignored => {
                let text = format!("ignored P_SYNC_UUID while {conn}");
                self.log_volume(Level::Warn, nr, text);
            }
        }
    }

    /// Our part of an administrative full sync is done: from now on it is the peer's to begin, and what users write waits for
    /// that. It may take as long as the answer to a write.
    pub(in crate::router) fn limit_wait_for_source(&mut self, nr: VolumeNr) {
        let limit = self.net.request_limit_ms();
        if limit > 0 && self.volume(nr).state.conn == ConnState::WFSyncUUID {
            self.set_conn_timer(ConnTimer::SyncUuid(nr), self.now.plus_ms(limit));
        }
    }

    /// The source of a full sync has had long enough to begin. Nothing has been overwritten: a disk that was kept serves on.
    pub(in crate::router) fn on_sync_uuid_timer(&mut self, nr: VolumeNr) {
        let limit = self.net.request_limit_ms();
        let Some(volume) = self.volumes.get(nr) else {
            return;
        };
        let state = volume.state;
        if limit == 0 || !self.is_up() || state.conn != ConnState::WFSyncUUID {
            return;
        }
        if self.is_peer_needed() {
            self.log_waiting_for_peer();
            self.limit_wait_for_source(nr);
            return;
        }
        let kept = match state.disk {
            DiskState::UpToDate => "; the disk here is what it was",
            _ => "",
        };
        let text = format!(
            "the peer has not begun the full sync that was ordered within {limit} ms (ko-count * timeout): leaving it{kept}"
        );
        self.log_volume(Level::Warn, nr, text);
        self.lose_connection(ConnState::Timeout);
    }

    pub(in crate::router) fn take_early_sync_uuid(&mut self, nr: VolumeNr) {
        if let Some(uuid) = self.volume_mut(nr).peer.resync.take_early_uuid() {
            self.start_target(nr, uuid);
        }
    }

    fn start_target(&mut self, nr: VolumeNr, uuid: Generation) {
        let waits = Waits::Target(nr, uuid, self.net.session);
        if self.before_resync(nr, Handler::BeforeResyncTarget, waits) {
            self.begin_target(nr, uuid);
        }
    }

    /// The resync to here begins.
    pub(in crate::router) fn begin_target(&mut self, nr: VolumeNr, uuid: Generation) {
        let now = self.now;
        let is_primary = self.volume(nr).state.role == Role::Primary;
        let Some(disk) = self.volume_mut(nr).disk.get_mut() else {
            return;
        };
        let ids = disk.record_mut().start_target(uuid, is_primary);
        let current = ids.current;
        self.volume_mut(nr).exposed.show(current);
        self.log_volume(Level::Info, nr, format!("updated sync uuid {ids}"));
        let bits = self.volume(nr).bits_set();
        self.volume_mut(nr).peer.resync.begin_target(now, bits);
        self.fact(nr, target_begins());
        let text = began("SyncTarget", self.volume(nr).bits_set());
        self.log_volume(Level::Info, nr, text);
        // What the source marked must be on record here too: it clears its marks at our acks, and a power cut may take
        // back what we acked.
        self.md(nr, MdKind::ChangedPages, Then::Nothing);
        // Nothing is overwritten before it is on record that this disk is no good alone (I12, V10).
        self.md(nr, MdKind::SUPERBLOCK, Then::StartRequesting);
    }

    pub(in crate::router) fn target_start_requesting(&mut self, nr: VolumeNr) {
        if !is_target(self.volume(nr).state.conn) {
            return;
        }
        self.volume_mut(nr).peer.resync.may_request();
        if self.volume(nr).state.conn == ConnState::PausedSyncT
            && self.net.agreed.tells_lone_names()
        {
            // No request shows the source that this is on record, for as long as the pause lasts: our name does.
            self.send_uuids(nr);
        }
        self.on_resync_timer(nr);
    }

    /// One step: how much may be asked for in the next tenth of a second.
    pub(in crate::router) fn on_resync_timer(&mut self, nr: VolumeNr) {
        let now = self.now;
        let Some(volume) = self.volumes.get_mut(nr) else {
            return;
        };
        if volume.state.conn == ConnState::VerifyS {
            self.verify_step(nr);
            return;
        }
        if volume.state.conn != ConnState::SyncTarget || !volume.peer.resync.is_requesting() {
            return;
        }
        let left = volume.bits_set();
        let Some(options) = volume.options_in_effect() else {
            return;
        };
        let volume = self.volume_mut(nr);
        let application = volume.counters.application_sectors;
        volume.peer.resync.step(now, left, &options, application);
        self.set_conn_timer(ConnTimer::ResyncStep(nr), now.plus_ms(STEP_MS));
        self.target_fill(nr);
        self.target_check_end(nr);
    }

    /// Asks for marked blocks as far as the step's budget and the buffers go.
    pub(super) fn target_fill(&mut self, nr: VolumeNr) {
        let max_buffers = self.net.options.as_ref().map_or(2048, |o| o.max_buffers);
        let outstanding_max = u64::from(max_buffers / 2) * BLOCK_SECTORS;
        let now = self.now;
        loop {
            let volume = self.volume_mut(nr);
            if volume.state.conn != ConnState::SyncTarget {
                return;
            }
            let Some(disk) = volume.disk.open() else {
                return;
            };
            let Some(span) = (volume.peer.resync).next_request(disk.marks(), outstanding_max)
            else {
                return;
            };
            // (What a user's write waits for is not asked for: what comes would be written over it.)
            if volume.held.is_taken(span)
                || volume.peer.resync.awaits(span)
                || self.unsettled_write_overlaps(nr, span)
            {
                self.volume_mut(nr).peer.resync.pass_over(span);
                continue;
            }
            let volume = self.volume_mut(nr);
            volume.peer.traffic.ask();
            volume.peer.resync.ask(span, now);
            self.watch_blocks();
            if self.uses_checksums(nr) {
                self.read_for_checksum(nr, span);
                continue;
            }
            self.request_resync_data(nr, span);
        }
    }

    pub(super) fn request_resync_data(&mut self, nr: VolumeNr, span: Span) {
        let request = span.request(BlockId::SYNCER);
        self.send(nr, Packet::RsDataRequest(request), None);
    }

    /// Whether one of our own writes, which the source may not have on disk yet, touches the range. Only a Primary that
    /// is target has any.
    fn unsettled_write_overlaps(&self, nr: VolumeNr, span: Span) -> bool {
        self.volume(nr).state.role == Role::Primary
            && self.net.log.keys().any(|key| {
                self.requests
                    .get(key)
                    .is_some_and(|r| r.volume() == nr && r.span().overlaps(span))
            })
    }

    /// P_RS_DATA_REPLY.
    pub(in crate::router) fn on_resync_data(
        &mut self,
        nr: VolumeNr,
        header: &DataHeader,
        payload: P,
    ) {
        let span = Span {
            sector: header.sector,
            bytes: payload.len_bytes(),
        };
        let session = self.net.session;
        let volume = self.volume_mut(nr);
        if !volume.peer.resync.data_came(span) {
            let text = format!("volume {nr}: resync data that was not asked for, sector {span}");
            self.protocol_error(text);
            return;
        }
        volume.peer.traffic.receive(span.sectors());
        volume.peer.answered();
        volume.peer.traffic.owe();
        // (A disk that has become UpToDate meanwhile holds what users see: what was asked for before is older.)
        if !volume.has_usable_disk() || volume.state.disk == DiskState::UpToDate {
            self.resync_write_ended(nr, span, session, false);
            return;
        }
        self.start_resync_write(nr, span, payload, session);
    }

    /// Writes what the source sent, behind the writes of its application that came before and overlap.
    fn start_resync_write(&mut self, nr: VolumeNr, span: Span, payload: P, session: Session) {
        let now = self.now;
        if self.planted(Bug::ClearBitsEarly) {
            self.set_in_sync(nr, span);
        }
        let volume = self.volume_mut(nr);
        let write = (span, payload, session);
        if volume.held.is_taken(span) {
            let held = &mut volume.held;
            let ticket = held.queue(span, Queued::Resync, false, now);
            volume.peer.resync.wait_to_write(ticket, write);
            self.retry_woken(nr);
            return;
        }
        self.begin_resync_write(nr, write);
    }

    /// Nothing is in its way.
    pub(in crate::router) fn begin_resync_write(
        &mut self,
        nr: VolumeNr,
        (span, payload, session): Arrived<P>,
    ) {
        let volume = self.volume_mut(nr);
        if !volume.has_usable_disk() {
            self.resync_write_ended(nr, span, session, false);
            return;
        }
        volume.held.insert(span, Holder::Resync);
        volume.counters.written += span.sectors();
        let tag = self.start_data_io(Io::ResyncWrite {
            volume: nr,
            span,
            session,
        });
        self.emit(Effect::Write {
            volume: nr,
            tag,
            sector: span.sector,
            payload,
            fua: false,
        });
    }

    pub(in crate::router) fn on_resync_write_io(
        &mut self,
        nr: VolumeNr,
        span: Span,
        session: Session,
        result: Result<(), DiskError>,
    ) {
        match result {
            Ok(()) => {
                if session == self.net.session {
                    self.set_in_sync(nr, span);
                }
                self.resync_write_ended(nr, span, session, true);
            }
            Err(error) => {
                self.log_io_error(nr, "WRITE", span, error);
                self.resync_write_ended(nr, span, session, false);
                self.local_io_error(nr, error.is_no_space());
            }
        }
    }

    fn resync_write_ended(&mut self, nr: VolumeNr, span: Span, session: Session, ok: bool) {
        let ok = ok || self.planted(Bug::ClearBitsEarly);
        let current = session == self.net.session;
        let volume = self.volume_mut(nr);
        if volume.held.holder_at(span.sector) == Some(Holder::Resync) {
            volume.held.remove(span.sector);
        }
        if current {
            volume.peer.answer_given();
            volume.peer.resync.write_ended(span, ok);
            let seq_num = volume.peer.next_seq();
            let ack = span.ack(BlockId::SYNCER, seq_num);
            let packet = if ok {
                Packet::RsWriteAck(ack)
            } else {
                Packet::NegAck(ack)
            };
            self.send(nr, packet, None);
        }
        self.retry_blocked(nr);
        if current {
            self.target_fill(nr);
            self.target_check_end(nr);
        }
    }

    /// P_NEG_RS_DREPLY (`failed`) or P_RS_CANCEL: no data for this request.
    pub(in crate::router) fn on_resync_refused(
        &mut self,
        nr: VolumeNr,
        ack: &BlockAck,
        failed: bool,
    ) {
        let volume = self.volume_mut(nr);
        if !volume.peer.resync.refused(ack.sector, failed) {
            if failed && self.on_verify_refused(nr, ack) {
                return;
            }
            let text = format!(
                "volume {nr}: a refusal of a block that was not asked for, sector {}",
                ack.sector
            );
            self.protocol_error(text);
            return;
        }
        volume.peer.answered();
        self.retry_blocked(nr);
        self.target_fill(nr);
        self.target_check_end(nr);
    }

    /// Nothing left to ask for and nothing outstanding: the end begins with a ping, whose answer says that the source
    /// has seen every ack (`docs/spec/wire.md`, section 10.5).
    ///
    /// (L23) While a change that this node asked for is unanswered there is no end: the source may have given the resync up with
    /// it, and written since.
    pub(in crate::router) fn target_check_end(&mut self, nr: VolumeNr) {
        if self.asks_peer() {
            return;
        }
        let Some(volume) = self.volumes.get_mut(nr) else {
            return;
        };
        let marked = volume.bits_set();
        if volume.state.conn == ConnState::SyncTarget && volume.peer.resync.begins_end(marked) {
            self.ping(Some(PingWaiter::ResyncTarget(nr)));
        }
    }

    pub(in crate::router) fn target_acks_arrived(&mut self, nr: VolumeNr) {
        let volume = self.volumes.get(nr);
        if volume.is_some_and(|volume| volume.peer.resync.is_ending()) {
            // UpToDate may be on record only when all resync data is durable (I13).
            self.md(nr, MdKind::FlushData, Then::ResyncDataDurable);
        }
    }

    pub(in crate::router) fn target_finish(&mut self, nr: VolumeNr) {
        let asks_peer = self.asks_peer();
        let volume = self.volume_mut(nr);
        if asks_peer {
            volume.peer.resync.put_off_end();
            return;
        }
        let conn = volume.state.conn;
        let is_target = is_target(conn);
        let marked = volume.bits_set();
        let failed = match volume.peer.resync.end_target(marked, is_target) {
            TargetEnd::GivenUp => return,
            TargetEnd::GoesOn => return self.on_resync_timer(nr),
            TargetEnd::Done { failed } => failed,
        };
        for (level, text) in self.volume(nr).peer.resync.summary(self.now) {
            self.log_volume(level, nr, text);
        }
        let is_primary = self.volume(nr).state.role == Role::Primary;
        let peer = self.volume(nr).peer.ids;
        if !failed {
            if let (Some(peer), Some(disk)) = (peer, self.volume_mut(nr).disk.get_mut()) {
                let ids = disk.record_mut().finish_target(&peer.ids, is_primary);
                let volume = self.volume_mut(nr);
                volume.exposed.show(ids.current);
                if let Some(peer) = &mut volume.peer.ids {
                    peer.ids = ids;
                }
                self.log_volume(Level::Info, nr, format!("updated UUIDs {ids}"));
            }
            self.log_is_good_here(nr);
        }
        self.clear_conn_timer(ConnTimer::ResyncStep(nr));
        self.fact(nr, target_ends(!failed));
        self.tell_handler(Handler::AfterResyncTarget, nr);
    }

    /// A26 after a resync that ended well: the source hears of it when it is durable here.
    pub(in crate::router) fn target_announce_end(&mut self, nr: VolumeNr) {
        self.send_state(nr);
    }
}
