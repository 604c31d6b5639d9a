//! Carries out what follows from a change of state; when it follows stands in [`crate::rules::consequences`].

use crate::effect::{Effect, Level};
use crate::event::{Payload, Timer};
use crate::generation::{PeerIds, same};
use crate::ids::VolumeNr;
use crate::metadata::{MdKind, Then};
use crate::resource::Resource;
use crate::rules::consequences::{Act, CONSEQUENCES, Facts, Turn};
use crate::state::{Change, ConnState, DiskState, VolumeState};
use crate::volume::{BitmapDue, Remembered};
use rdb_meta::MdFlags;

impl<P: Payload> Resource<P> {
    /// Does what follows from a change ([`CONSEQUENCES`]).
    pub(crate) fn after_change(&mut self, nr: VolumeNr, old: VolumeState, new: VolumeState) {
        for row in CONSEQUENCES {
            let facts = self.consequence_facts(nr);
            if (row.when)(&Turn { old, new, facts }) {
                self.act(nr, row.act);
            }
        }
    }

    fn consequence_facts(&self, nr: VolumeNr) -> Facts {
        let volume = self.volume(nr);
        let disk = volume.disk.as_deref();
        let own = disk.map(|disk| disk.ids().current);
        let peer = volume.peer.ids.map(|peer| peer.ids.current);
        Facts {
            now: volume.state.conn,
            has_disk: disk.is_some(),
            bitmap_uuid_is_zero: disk.is_some_and(|disk| disk.ids().bitmap == 0),
            marked: volume.bits_set() > 0,
            unmark_due: disk.is_some_and(|disk| disk.unmark_due),
            knows_peers_ids: peer.is_some(),
            one_name: own.zip(peer).is_some_and(|(own, peer)| same(own, peer)),
            moved_on: volume.peer.moved_on.is_some(),
            loss_unrecorded: volume.loss_unrecorded.is_some(),
            announces_end: volume.peer.resync.announce,
            verify_ends_with_state: self.net.wire.version.verify_ends_with_state(),
            grew: volume.grew_while_detached,
        }
    }

    /// Carries a consequence out.
    fn act(&mut self, nr: VolumeNr, act: Act) {
        match act {
            Act::EndVerify => self.verify_over(nr),
            Act::BeginVerify => self.verify_begins(nr),
            Act::Unmark => self.unmark_primary(nr),
            Act::ForgetCrash => self.forget_crash(nr),
            Act::TrustUnmarked => self.trust_unmarked(nr, true),
            Act::DistrustUnmarked => self.trust_unmarked(nr, false),
            Act::SayNoData => {
                let text = "Primary, and no copy of the data is UpToDate: requests fail";
                self.log_volume(Level::Error, nr, text);
            }
            Act::MakeSyncUuid => self.make_sync_uuid(nr),
            Act::SendSizes => self.send_sizes(nr, false),
            Act::SendUuids => self.send_uuids(nr),
            Act::SendState => self.send_state(nr),
            Act::SendBitmap => self.volume_mut(nr).bitmap_due = BitmapDue::Source,
            Act::NewGeneration(_) => self.new_current_uuid(nr),
            Act::SourceLost => self.source_lost(nr),
            Act::WriteBitmap => self.md(nr, MdKind::ChangedPages, Then::Nothing),
            Act::LimitNegotiation => self.limit_negotiation(nr),
            Act::NegotiationOver => self.clear_timer(Timer::Negotiation(nr)),
            Act::SyncUuidOver => self.clear_timer(Timer::SyncUuid(nr)),
            Act::FullSync => {
                self.volume_mut(nr).hold_writes += 1;
                self.md_full_sync(nr, Then::FullSyncReady);
            }
            Act::RecordInconsistent => {
                self.await_record(nr);
                self.md(nr, MdKind::SUPERBLOCK, Then::InconsistentRecorded);
            }
            Act::ExposePeers => self.expose_peers_generation(nr),
            Act::ExposeMovedOn => {
                let volume = self.volume_mut(nr);
                volume.exposed_uuid = volume.peer.moved_on.unwrap_or(volume.exposed_uuid);
            }
            Act::RememberOpenSource => self.volume_mut(nr).source_open = true,
            Act::AwaitRecordOfLoss => self.await_record_of_loss(nr),
            Act::Reconnect => self.lose_connection(ConnState::NetworkFailure),
            Act::DiskFailed => self.disk_failed(nr),
            Act::LossSettled => self.loss_settled(nr, false),
            Act::CloseDisk => self.emit(Effect::CloseDisk { volume: nr }),
            Act::GiveDiskUp => {
                if let Some(disk) = self.volume_mut(nr).disk.as_deref_mut() {
                    disk.failed = true;
                }
                self.disk_quiet(nr);
            }
            Act::ResyncGrowth => self.resync_after_growth(nr),
            Act::AnnounceEnd => {
                self.volume_mut(nr).peer.resync.announce = false;
                self.md(nr, MdKind::ChangedPages, Then::Nothing);
                self.md(nr, MdKind::SUPERBLOCK, Then::AnnounceResyncEnd);
            }
            Act::Retry => {
                self.refuse_blocked(nr);
                self.retry_blocked(nr);
                self.continue_peer_reads(nr);
            }
        }
    }

    fn clear_timer(&mut self, timer: Timer) {
        self.emit(Effect::ClearTimer { timer });
    }

    fn unmark_primary(&mut self, nr: VolumeNr) {
        self.disk_mut(nr).unmark_due = false;
        self.md(nr, MdKind::FlushData, Then::Nothing);
        self.md(nr, MdKind::ChangedPages, Then::Nothing);
        let unmark = MdKind::Superblock {
            set: MdFlags::empty(),
            clear: MdFlags::PRIMARY_IND,
        };
        self.md(nr, unmark, Then::Nothing);
    }

    fn forget_crash(&mut self, nr: VolumeNr) {
        let volume = self.volume_mut(nr);
        volume.crashed_primary = false;
        if let Some(disk) = volume.disk.as_deref_mut()
            && disk.sb.flags.contains(MdFlags::CRASHED_PRIMARY)
        {
            // On record too: after the next crash of both it would speak against the one that was Primary then.
            disk.sb.flags.remove(MdFlags::CRASHED_PRIMARY);
            disk.sb_dirty = true;
        }
        volume.left_behind = 0;
        volume.source_open = false;
        if let Some(peer) = &mut volume.peer.ids {
            peer.flags &= !PeerIds::FLAG_CRASHED_PRIMARY;
        }
    }

    fn trust_unmarked(&mut self, nr: VolumeNr, trust: bool) {
        if let Some(disk) = self.volume_mut(nr).disk.as_deref_mut() {
            disk.marks_merged = trust;
        }
    }

    fn expose_peers_generation(&mut self, nr: VolumeNr) {
        let volume = self.volume_mut(nr);
        let Some(peer) = volume.peer.ids else {
            return;
        };
        let own = volume.disk.as_deref().map(|disk| disk.ids().current);
        volume.exposed_uuid = peer.ids.current;
        if own.is_none_or(|own| !same(own, peer.ids.current)) {
            volume.left_behind = 0;
        }
    }

    /// A19: every bit is set, on disk too.
    pub(crate) fn full_sync_ready(&mut self, nr: VolumeNr, ok: bool) {
        let Some(volume) = self.volumes.get_mut(&nr) else {
            return;
        };
        volume.hold_writes = volume.hold_writes.saturating_sub(1);
        let conn = volume.state.conn;
        if !ok {
            if matches!(conn, ConnState::StartingSyncS | ConnState::StartingSyncT) {
                self.log_volume(
                    Level::Error,
                    nr,
                    "Writing the bitmap failed not starting resync.",
                );
                self.fact(nr, Change::conn(ConnState::Connected));
            }
        } else if conn == ConnState::StartingSyncT {
            self.fact(nr, Change::conn(ConnState::WFSyncUUID));
            self.limit_wait_for_source(nr);
            self.take_early_sync_uuid(nr);
        } else if conn == ConnState::StartingSyncS {
            self.start_source(nr);
        }
        self.retry_waiting(nr);
    }

    // ---- disks that fail or go -----------------------------------------------------------------------------------

    /// A read or write of the data disk failed (`docs/spec/behaviour.md`, section 6.8). What follows from the loss of the disk
    /// has followed when this returns, so the caller's requests may be gone: the peer hears of it before anything is told or
    /// sent that rests on it.
    /// `no_space`: it was a write, and the disk is full.
    pub(crate) fn local_io_error(&mut self, nr: VolumeNr, no_space: bool) {
        use crate::rules::no_space::{Consequence, Failed, failed};
        let volume = self.volume(nr);
        let Some(disk) = volume.disk.as_deref() else {
            return;
        };
        match failed(Failed {
            no_space,
            on_io_error: disk.options.on_io_error,
            on_no_space: disk.options.on_no_space,
            disk: volume.state.disk,
            role: volume.state.role,
            replicates: self.is_up() && crate::state::should_replicate(volume.state),
        }) {
            Consequence::Keep => {}
            Consequence::Degrade => {
                self.log_volume(Level::Error, nr, "Local IO failed.");
                self.volume_mut(nr).passed_on = true;
                self.note_passed_on(nr);
                self.fact(nr, Change::disk(DiskState::Inconsistent));
            }
            Consequence::Detach => {
                self.log_volume(Level::Error, nr, "Local IO failed. Detaching...");
                self.fail_disk(nr);
            }
        }
        self.run_after();
    }

    /// (L43) What the disk is worth when a resync or a verify ends that has kept it UpToDate: the peer may have what has failed
    /// here meanwhile. (Marks tell, and writes that will be marked once the peer has answered.)
    pub(crate) fn disk_at_the_end(&self, nr: VolumeNr) -> DiskState {
        use crate::write::Part;
        let volume = self.volume(nr);
        let mut requests = self.requests.iter().map(|(_, request)| request);
        let mut fails =
            || requests.any(|r| r.volume == nr && !r.completed && r.local == Part::Failed);
        if volume.passed_on && (volume.bits_set() > 0 || fails()) {
            DiskState::Inconsistent
        } else {
            volume.state.disk
        }
    }

    /// The disk is of no use any more: a fact.
    pub(crate) fn fail_disk(&mut self, nr: VolumeNr) {
        if self.volume(nr).state.disk > DiskState::Failed {
            self.fact(nr, Change::disk(DiskState::Failed));
        }
    }

    /// A20: what waited for this disk goes on without it.
    fn disk_failed(&mut self, nr: VolumeNr) {
        use crate::volume::RequestOrPeer;
        if self.volume(nr).state.disk > DiskState::Failed {
            return; // a new disk is attached already
        }
        self.local_copies_given_up(nr);
        self.give_up_waiting_for_space(nr);
        let Some(disk) = self.volume_mut(nr).disk.as_deref_mut() else {
            return;
        };
        let pending = core::mem::take(&mut disk.al_pending);
        let starved = core::mem::take(&mut disk.al_starved);
        for who in pending.into_iter().map(|(_, who)| who).chain(starved) {
            match who {
                RequestOrPeer::Request(key) => self.submit_write(key),
                RequestOrPeer::Peer(key) => self.submit_mirrored(key),
            }
        }
        if self.volume(nr).state.disk == DiskState::Failed {
            self.disk_quiet(nr);
        }
    }

    /// A21: once nobody uses the failed disk, its bitmap and superblock are written as well as it takes them.
    pub(crate) fn disk_quiet(&mut self, nr: VolumeNr) {
        if !self.volumes.contains_key(&nr) {
            return;
        }
        let disk = self.volume(nr).state.disk;
        if matches!(disk, DiskState::Diskless | DiskState::Failed) {
            self.give_up_waiting_for_space(nr);
        }
        let volume = self.volume_mut(nr);
        if volume.local_pending > 0 {
            return;
        }
        if volume.state.disk == DiskState::Diskless {
            if volume.disk.as_ref().is_some_and(|d| d.md_running.is_none()) {
                self.fail_md_queue(nr);
                self.disk_failed(nr);
                self.forget_disk(nr);
                self.emit(Effect::CloseDisk { volume: nr });
            }
            return;
        }
        if volume.state.disk != DiskState::Failed {
            return;
        }
        let Some(disk) = volume.disk.as_deref_mut() else {
            return;
        };
        if core::mem::replace(&mut disk.detaching, true) {
            if disk.failed && disk.is_quiet() {
                self.detach_finish(nr, false); // its metadata cannot be written any more
            }
            return;
        }
        let clear = match disk.left_to_peer {
            true => MdFlags::WAS_UP_TO_DATE,
            false => MdFlags::empty(),
        };
        let set = MdFlags::empty();
        // (L15) What is on record as written before the peer goes on alone must be there when this disk comes back.
        self.md(nr, MdKind::FlushData, Then::GivenUpFlushed);
        self.md(nr, MdKind::ChangedPages, Then::Nothing);
        self.md(nr, MdKind::Superblock { set, clear }, Then::Detached);
    }

    pub(crate) fn detach_finish(&mut self, nr: VolumeNr, _written: bool) {
        let Some(volume) = self.volumes.get_mut(&nr) else {
            return;
        };
        let Some(disk) = volume.disk.as_deref() else {
            return;
        };
        if disk.md_running.is_some() {
            return; // called again when that has ended
        }
        if !disk.al_pending.is_empty() || !disk.al_starved.is_empty() {
            // The failure has not come to those that wait for the log: its consequence, which is queued, sends them on.
            self.disk_mut(nr).detaching = false;
            return;
        }
        // Whoever waits for metadata asked for since the disk failed hears that it will not be written.
        self.disk_mut(nr).failed = true;
        self.fail_md_queue(nr);
        self.forget_disk(nr);
        if self.volume(nr).state.disk != DiskState::Diskless {
            self.fact(nr, Change::disk(DiskState::Diskless));
        }
    }

    /// Nothing of the disk is under way, and nobody waits for it.
    fn forget_disk(&mut self, nr: VolumeNr) {
        if !self.volumes.contains_key(&nr) {
            return;
        }
        self.given_up_disk_flushed(nr);
        let volume = self.volume_mut(nr);
        if let Some(disk) = volume.disk.take() {
            volume.remembered = Some(Remembered {
                clean: disk.bitmap.count_set() == 0,
                superblock: disk.sb,
            });
        }
        volume.negotiated = None;
        for (_, request) in &mut self.requests {
            if request.volume == nr {
                request.al_held = false;
            }
        }
        for (_, write) in &mut self.peer_writes {
            if write.volume == nr {
                write.al_held = false;
            }
        }
        let volume = self.volume(nr);
        let state = volume.state;
        if volume.peer.resync.ending
            && state.conn == ConnState::Connected
            && state.pdsk == DiskState::Inconsistent
        {
            // The target has said that it is done, which was to be taken for true once nothing is marked here. It says so
            // once, so that its disk would count as Inconsistent for as long as this connection lasts.
            let text = "the disk of the source is lost, and the target has ended: connecting anew to hear what its disk is";
            self.log_volume(Level::Warn, nr, text);
            self.lose_connection(ConnState::NetworkFailure);
        }
    }
}
