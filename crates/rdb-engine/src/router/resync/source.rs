//! The source of a resync: it answers what the target asks for.

use alloc::format;

use replica_proto::{BlockAck, Packet};

use crate::disk::{MdKind, Then};
use crate::effect::Level;
use crate::event::{ConnTimer, Payload};
use crate::generation::Generation;
use crate::handler::Handler;
use crate::handling::Waits;
use crate::ids::VolumeNr;
use crate::net::PingWaiter;
use crate::resync::began;
use crate::router::Resource;
use crate::rules::resync::{SourceEnd, source_begins, source_ends};
use crate::span::Span;
use crate::state::{ConnState, is_source};

impl<P: Payload> Resource<P> {
    /// Both bitmaps are one, or all bits are set on both sides: become source.
    pub(in crate::router) fn start_source(&mut self, nr: VolumeNr) {
        let waits = Waits::Source(nr, self.net.session);
        if self.before_resync(nr, Handler::BeforeResyncSource, waits) {
            self.begin_source(nr);
        }
    }

    /// The resync from here begins.
    pub(in crate::router) fn begin_source(&mut self, nr: VolumeNr) {
        let now = self.now;
        let bits = self.volume(nr).bits_set();
        let volume = self.volume_mut(nr);
        volume.peer.resync.begin_source(now, bits);
        volume.peer.source_open = false;
        self.fact(nr, source_begins());
        let text = began("SyncSource", self.volume(nr).bits_set());
        self.log_volume(Level::Info, nr, text);
        // The sync UUID follows from the change of state; it is sent once it is durable here (I12).
    }

    /// A7: the generation that the target will carry until it is in sync.
    pub(in crate::router) fn make_sync_uuid(&mut self, nr: VolumeNr) {
        let random = self.random();
        let notes = self.net.agreed.tells_lone_names();
        let Some(disk) = self.volume_mut(nr).disk.get_mut() else {
            return;
        };
        let (ids, uuid) = disk.record_mut().start_source(random, notes);
        self.log_volume(Level::Info, nr, format!("updated sync UUID {ids}"));
        self.md(nr, MdKind::SUPERBLOCK, Then::SendSyncUuid(uuid));
    }

    pub(in crate::router) fn send_sync_uuid(&mut self, nr: VolumeNr, uuid: Generation) {
        // A resync may have ended and begun anew, with the same UUID, before the first one's was written: the last is told.
        let is_sync_uuid = |then: &Then| matches!(then, Then::SendSyncUuid(_));
        let disk = self.volume(nr).disk.get();
        let another_follows = disk.is_some_and(|disk| disk.is_queued(is_sync_uuid));
        if is_source(self.volume(nr).state.conn) && !another_follows {
            self.send(nr, Packet::SyncUuid(uuid.bits()), None);
        }
    }

    /// The reply was sent: the range stays ours until the target has answered.
    pub(in crate::router) fn source_reply_sent(&mut self, nr: VolumeNr, span: Span) {
        let now = self.now;
        self.volume_mut(nr).peer.resync.reply_sent(span, now);
        self.watch_blocks();
    }

    /// P_RS_WRITE_ACK with the syncer's id: the target has the block.
    pub(in crate::router) fn on_resync_ack(&mut self, nr: VolumeNr, ack: &BlockAck, ok: bool) {
        let now = self.now;
        let volume = self.volume_mut(nr);
        let span = Span::from(ack);
        if !volume.peer.resync.reply_answered(span) {
            let text =
                format!("volume {nr}: an ack for resync data that was not sent, sector {span}");
            self.protocol_error(text);
            return;
        }
        volume.held.remove(ack.sector);
        volume.peer.answered();
        if ok {
            self.set_in_sync(nr, span);
        } else {
            self.volume_mut(nr).peer.resync.block_failed(span);
        }
        let left = self.volume(nr).bits_set();
        self.volume_mut(nr).peer.resync.progressed(now, left);
        self.source_marks_cleared(nr); // (what failed counts as well)
        self.retry_blocked(nr);
    }

    /// Fewer blocks are marked, by an answer to resync data or to a user's write.
    pub(in crate::router) fn source_marks_cleared(&mut self, nr: VolumeNr) {
        let volume = self.volume_mut(nr);
        let (conn, left) = (volume.state.conn, volume.bits_set());
        volume.peer.resync.marks_cleared(conn, left);
    }

    /// The target says that it is done, which it says once. We believe it when all its acks have been seen.
    pub(in crate::router) fn source_target_done(&mut self, nr: VolumeNr) {
        if self.volume_mut(nr).peer.resync.target_says_done() {
            self.ping(Some(PingWaiter::ResyncSource(nr)));
        }
    }

    /// The target has answered a ping since it said that it is done: what it has acknowledged before is known here.
    pub(in crate::router) fn source_acks_seen(&mut self, nr: VolumeNr) {
        let epoch = self.net.log.epoch();
        if let Some(volume) = self.volumes.get_mut(nr)
            && is_source(volume.state.conn)
            && volume.peer.resync.acks_seen(epoch)
        {
            self.close_epoch();
        }
    }

    /// The end of a resync whose target is done, as soon as no block is marked here either. Marks may go with users' writes
    /// that our own disk has not ended yet. If the last of these has ended and marks are left, the target knows nothing of
    /// them and never will in this connection: the next one syncs them.
    pub(in crate::router) fn poll_source_end(&mut self, nr: VolumeNr) {
        let volume = self.volume(nr);
        if !is_source(volume.state.conn) {
            self.volume_mut(nr).peer.resync.forget_acks();
            return;
        }
        let is_settled = |epoch| self.net.log.is_settled(epoch) && !self.writes_may_unmark(nr);
        let (resync, passed_on) = (&volume.peer.resync, volume.passed_on);
        match resync.source_end(volume.bits_set(), passed_on, is_settled) {
            SourceEnd::Waits => {}
            SourceEnd::Done => self.source_finish(nr),
            SourceEnd::Differs { left } => {
                let text = format!(
                    "the target has ended the resync, and {left} blocks are marked here: connecting anew to sync them"
                );
                self.log_volume(Level::Error, nr, text);
                self.lose_connection(ConnState::NetworkFailure);
            }
        }
    }

    /// Whether a user's write is under way where a block is marked: its mark goes when both copies have it. (Of one that the peer has made
    /// durable, and our own disk has not answered, the transfer log knows nothing any more.)
    fn writes_may_unmark(&self, nr: VolumeNr) -> bool {
        let Some(disk) = self.volume(nr).disk.get() else {
            return false;
        };
        let requests = self.requests.iter().map(|(_, request)| request);
        let mut writes = requests.filter(|r| r.volume() == nr && !r.is_read() && !r.is_flush());
        writes.any(|r| r.is_under_way() && disk.is_marked(r.span()))
    }

    fn source_finish(&mut self, nr: VolumeNr) {
        self.target_proven(nr);
        self.volume_mut(nr).peer.resync.finish_source();
        for (level, text) in self.volume(nr).peer.resync.summary(self.now) {
            self.log_volume(level, nr, text);
        }
        if let Some(disk) = self.volume_mut(nr).disk.get_mut() {
            let ids = disk.record_mut().finish_source();
            self.log_volume(Level::Info, nr, format!("updated UUIDs {ids}"));
            if let Some(peer) = &mut self.volume_mut(nr).peer.ids {
                peer.ids = ids;
            }
        }
        self.clear_conn_timer(ConnTimer::ResyncStep(nr));
        let change = source_ends(self.disk_at_the_end(nr));
        let was_paused = self.volume(nr).state.is_resync_paused();
        self.fact(nr, change);
        if !was_paused {
            self.unfence_peer(nr);
        }
    }
}
