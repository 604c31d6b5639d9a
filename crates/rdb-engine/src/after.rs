//! What follows from a change of state (`docs/spec/behaviour.md`, section 3), in the order of its table.

use crate::effect::{Effect, Level};
use crate::event::{Payload, Timer};
use crate::generation::same;
use crate::ids::VolumeNr;
use crate::metadata::{MdKind, Then};
use crate::resource::Resource;
use crate::state::{self, AfterActions, Change, ConnState, DiskState, Role, VolumeState};
use crate::volume::{BitmapDue, Remembered};
use rdb_meta::MdFlags;

impl<P: Payload> Resource<P> {
    pub(crate) fn after_change(&mut self, nr: VolumeNr, old: VolumeState, new: VolumeState) {
        let actions = state::after(old, new);
        if (old.conn == ConnState::VerifyT) != (new.conn == ConnState::VerifyT) {
            self.verify_came_or_went(nr);
        }
        let connected = new.conn >= ConnState::Connected;
        if let Some(disk) = self.volume_mut(nr).disk.as_deref_mut()
            && core::mem::take(&mut disk.unmark_due)
        {
            // (L14) The bits, and the data that the log speaks of, are durable before the mark goes that has the log applied
            // after a crash (I8).
            self.md(nr, MdKind::FlushData, Then::Nothing);
            self.md(nr, MdKind::ChangedPages, Then::Nothing);
            let unmark = MdKind::Superblock {
                set: MdFlags::empty(),
                clear: MdFlags::PRIMARY_IND,
            };
            self.md(nr, unmark, Then::Nothing);
        }
        if actions.contains(AfterActions::BOTH_UP_TO_DATE) {
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
                peer.flags &= !crate::generation::PeerIds::FLAG_CRASHED_PRIMARY;
            }
        }
        if let Some(disk) = self.volume_mut(nr).disk.as_deref_mut() {
            match new.conn {
                // (L36) The blocks that only the peer has written are not marked here yet.
                ConnState::WFBitMapT => disk.marks_merged = false,
                ConnState::SyncTarget | ConnState::PausedSyncT => disk.marks_merged = true,
                // (L21) After a resync that could not sync everything: what the peer's users write is sent to nobody.
                ConnState::Connected
                    if new.disk == DiskState::Inconsistent && new.peer == Role::Primary =>
                {
                    disk.marks_merged = false;
                }
                _ => {}
            }
        }
        if actions.contains(AfterActions::NO_DATA) {
            self.log_volume(
                Level::Error,
                nr,
                "Primary, and no copy of the data is UpToDate: requests fail",
            );
        }
        if actions.contains(AfterActions::BECAME_SYNC_SOURCE) {
            self.make_sync_uuid(nr);
        }
        // (One that was attaching already when we connected has heard nothing of our generations either.)
        let attached_meanwhile = old.pdsk == DiskState::Attaching
            && new.pdsk > DiskState::Failed
            && new.pdsk != DiskState::DUnknown;
        if actions.contains(AfterActions::PEER_ATTACHED) || attached_meanwhile {
            self.send_uuids(nr);
            self.send_state(nr);
        }
        if actions.contains(AfterActions::TO_WF_BITMAP_S)
            && self.volume(nr).state.conn == ConnState::WFBitMapS
        {
            self.volume_mut(nr).bitmap_due = BitmapDue::Source;
        }
        let lost = AfterActions::LOST_PEER_DATA | AfterActions::DISKLESS_PEER_PROMOTED;
        if actions.intersects(lost)
            && self
                .volume(nr)
                .disk
                .as_ref()
                .is_some_and(|d| d.sb.uuids[1] == 0)
        {
            self.new_current_uuid(nr);
        }
        let came = matches!(old.disk, DiskState::Attaching | DiskState::Negotiating)
            && new.disk == DiskState::UpToDate;
        let lonely = !connected || new.pdsk <= DiskState::Failed;
        if came
            && lonely
            && new.is_a_node_primary()
            && self
                .disk_if_attached(nr)
                .is_some_and(|d| d.sb.uuids[1] == 0)
        {
            // (L6) What users write from now on is nowhere else, as after a promotion alone. (L20) The peer may be that Primary,
            // without the disk that had this name too: of the new generation that it was told of when it lost that disk nothing
            // may have come to the record here.
            self.new_current_uuid(nr);
        }
        let source = |conn| matches!(conn, ConnState::SyncSource | ConnState::PausedSyncS);
        if source(old.conn)
            && !source(new.conn)
            && new.pdsk != DiskState::UpToDate
            && new.disk == DiskState::UpToDate
        {
            self.source_lost(nr);
        }
        if actions.intersects(AfterActions::DISKLESS_PEER_DEMOTED | AfterActions::WRITE_BITMAP)
            && !self.volume(nr).resync.announce
        {
            self.md(nr, MdKind::ChangedPages, Then::Nothing);
        }
        if actions.contains(AfterActions::NEGOTIATING) {
            self.send_sizes(nr, false);
            self.send_uuids(nr);
            self.send_state(nr);
            self.limit_negotiation(nr);
        }
        if old.disk == DiskState::Negotiating && new.disk != DiskState::Negotiating {
            let timer = Timer::Negotiation(nr);
            self.emit(Effect::ClearTimer { timer });
        }
        if actions.intersects(
            AfterActions::ISP_CHANGED
                | AfterActions::LEFT_WF_REPORT_PARAMS
                | AfterActions::DISK_INCONSISTENT,
        ) {
            self.send_state(nr);
        }
        if old.awaits_source() && !new.awaits_source() {
            let timer = Timer::SyncUuid(nr);
            self.emit(Effect::ClearTimer { timer });
            if old.disk == DiskState::UpToDate && new.conn == ConnState::Connected {
                self.send_state(nr); // the peer, whose disk has gone, takes ours for one that was given up
            }
        }
        if actions.contains(AfterActions::STARTING_SYNC) {
            self.volume_mut(nr).hold_writes += 1;
            self.md_full_sync(nr, Then::FullSyncReady);
        }
        if actions.contains(AfterActions::DISK_INCONSISTENT)
            && new.role == Role::Primary
            && new.pdsk == DiskState::UpToDate
        {
            // (L27) By its record it is as good as the peer's until the superblock is written.
            self.await_record(nr);
            self.md(nr, MdKind::SUPERBLOCK, Then::InconsistentRecorded);
        }
        if actions.contains(AfterActions::DISK_FAILED) {
            let recorded_good = self.volume(nr).loss_unrecorded.is_some();
            let volume = self.volume_mut(nr);
            let target = old.disk == DiskState::Inconsistent && new.pdsk == DiskState::UpToDate;
            if let Some(peer) = volume.peer.ids.filter(|_| target && connected) {
                // A resync target's own name is that of its mixture; what users saw is the source's data.
                let own = volume.disk.as_deref().map(|disk| disk.ids().current);
                volume.exposed_uuid = peer.ids.current;
                if own.is_none_or(|own| !same(own, peer.ids.current)) {
                    volume.left_behind = 0;
                }
            }
            if !connected && new.role == Role::Primary && old.disk == DiskState::UpToDate {
                // With a bitmap UUID set it made no new generation, and the peer's disk may carry the name of ours.
                self.volume_mut(nr).source_open = true;
            }
            if old.conn == ConnState::WFBitMapS && new.role == Role::Primary {
                let volume = self.volume_mut(nr);
                let own = volume.disk.as_deref().map(|disk| disk.ids().current);
                let peer = volume.peer.ids.map(|peer| peer.ids.current);
                let one_name = own.zip(peer).is_some_and(|(own, peer)| same(own, peer));
                // The peer, who lacks marked blocks, has the name under which they were written.
                volume.source_open |= one_name && volume.bits_set() > 0;
            }
            if connected {
                self.send_state(nr);
            }
            let good = old.disk == DiskState::UpToDate || recorded_good;
            if connected && good && new.pdsk == DiskState::UpToDate {
                let volume = self.volume_mut(nr);
                match volume.peer.moved_on {
                    Some(current) => volume.exposed_uuid = current,
                    None if new.role == Role::Primary => self.await_record_of_loss(nr),
                    None => {}
                }
            }
            let before_its_resync = matches!(
                old.conn,
                ConnState::WFReportParams | ConnState::WFBitMapS | ConnState::StartingSyncS
            );
            if before_its_resync && new.role == Role::Primary {
                // (L11) The peer lacks blocks that only this disk had, or may lack them: not one request may be served by it
                // before a new handshake has compared its generation with what users have seen.
                self.lose_connection(ConnState::NetworkFailure);
            }
            self.disk_failed(nr);
        }
        if !connected || new.pdsk != DiskState::UpToDate {
            self.loss_settled(nr, false);
        }
        if actions.contains(AfterActions::DISK_DISKLESS) {
            if connected {
                self.send_state(nr);
            }
            match self.volume_mut(nr).disk.as_deref_mut() {
                None => self.emit(Effect::CloseDisk { volume: nr }),
                Some(disk) => {
                    // Given up by a rule (the connection was lost while the disk was negotiated): it is closed when
                    // nothing of it is under way.
                    disk.failed = true;
                    self.disk_quiet(nr);
                }
            }
        }
        if actions.contains(AfterActions::BOTH_ATTACHED) && self.volume(nr).grew_while_detached {
            self.resync_after_growth(nr);
        }
        if actions.contains(AfterActions::SYNC_ENDED_TARGET) {
            if core::mem::take(&mut self.volume_mut(nr).resync.announce) {
                self.md(nr, MdKind::ChangedPages, Then::Nothing);
                self.md(nr, MdKind::SUPERBLOCK, Then::AnnounceResyncEnd);
            } else {
                self.send_state(nr);
            }
        }
        self.refuse_blocked(nr);
        self.retry_blocked(nr);
        self.continue_peer_reads(nr);
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

    /// (L40) What the disk is worth when a resync or a verify ends that has kept it UpToDate: the peer may have what has failed
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
        // (L15) What is on record as written before the peer goes on alone must be there when this disk comes back.
        self.md(nr, MdKind::FlushData, Then::GivenUpFlushed);
        self.md(nr, MdKind::ChangedPages, Then::Nothing);
        self.md(nr, MdKind::SUPERBLOCK, Then::Detached);
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
        if volume.resync.ending
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
