//! Carries out what follows from a change of state; when it follows stands in [`crate::rules::consequences`].

use crate::bitmap_exchange::BitmapDue;
use crate::config::OnNoData;
use crate::disk::{MdKind, Then};
use crate::effect::{Effect, Level};
use crate::event::{ConnTimer, Payload};
use crate::handler::Handler;
use crate::ids::VolumeNr;
use crate::router::Resource;
use crate::rules::consequences::{Act, CONSEQUENCES, Facts, Turn};
use crate::state::{Change, ConnState, VolumeState};
use rdb_meta::MdFlags;

impl<P: Payload> Resource<P> {
    /// Does what follows from a change ([`CONSEQUENCES`]).
    pub(super) fn after_change(&mut self, nr: VolumeNr, old: VolumeState, new: VolumeState) {
        for row in CONSEQUENCES {
            let facts = self.consequence_facts(nr);
            if (row.when)(&Turn { old, new, facts }) {
                self.act(nr, row.act);
            }
        }
    }

    fn consequence_facts(&self, nr: VolumeNr) -> Facts {
        let volume = self.volume(nr);
        let disk = volume.disk.get();
        let own = disk.map(|disk| disk.record().ids().current);
        let peer = volume.peer.ids.map(|peer| peer.ids.current);
        Facts {
            now: volume.state.conn,
            has_disk: disk.is_some(),
            may_share_name: disk.is_some_and(|disk| disk.record().may_share_name()),
            marked: volume.bits_set() > 0,
            unmark_due: disk.is_some_and(|disk| disk.record().is_unmark_due()),
            knows_peers_ids: peer.is_some(),
            one_name: own.zip(peer).is_some_and(|(own, peer)| own == peer),
            moved_on: volume.peer.moved_on.is_some(),
            loss_unrecorded: volume.peer.loss_unrecorded.is_some(),
            announces_end: volume.peer.resync.announces_end(),
            verify_ends_with_state: self.net.agreed.version().verify_ends_with_state(),
            grew: volume.grew_while_detached,
        }
    }

    /// Carries a consequence out.
    fn act(&mut self, nr: VolumeNr, act: Act) {
        match act {
            Act::EndVerify => self.verify_over(nr),
            Act::BeginVerify => self.verify_begins(nr),
            Act::Unmark => self.unmark_primary(nr),
            Act::ForgetCrash => self.volume_mut(nr).forget_crash(),
            Act::TrustUnmarked => self.volume_mut(nr).trust_unmarked(true),
            Act::DistrustUnmarked => self.volume_mut(nr).trust_unmarked(false),
            Act::SayNoData => {
                let text = match self.options.on_no_data {
                    OnNoData::IoError => {
                        "Primary, and no copy of the data is UpToDate: requests fail"
                    }
                    OnNoData::SuspendIo => {
                        "Primary, and no copy of the data is UpToDate: requests wait"
                    }
                };
                self.log_volume(Level::Error, nr, text);
                self.tell_handler(Handler::PriOnInconDegr, nr);
            }
            Act::MakeSyncUuid => self.make_sync_uuid(nr),
            Act::SendSizes => self.send_sizes(nr, false),
            Act::SendUuids => self.send_uuids(nr),
            Act::SendState => self.send_state(nr),
            Act::SendBitmap => self.volume_mut(nr).peer.bitmap_due = BitmapDue::Source,
            Act::NewGeneration(_) => self.generation_due(nr),
            Act::SourceLost => self.volume_mut(nr).lose_as_source(),
            Act::WriteBitmap => self.md(nr, MdKind::ChangedPages, Then::Nothing),
            Act::LimitNegotiation => self.limit_negotiation(nr),
            Act::NegotiationOver => self.clear_conn_timer(ConnTimer::Negotiation(nr)),
            Act::SyncUuidOver => self.clear_conn_timer(ConnTimer::SyncUuid(nr)),
            Act::FullSync => {
                self.volume_mut(nr).users.hold_writes();
                self.md_full_sync(nr, Then::FullSyncReady);
            }
            Act::RecordInconsistent => {
                self.await_record(nr);
                self.md(nr, MdKind::SUPERBLOCK, Then::InconsistentRecorded);
            }
            Act::ExposePeers => self.volume_mut(nr).expose_peers_generation(),
            Act::ExposeMovedOn => {
                let volume = self.volume_mut(nr);
                if let Some(generation) = volume.peer.moved_on {
                    volume.exposed.show(generation);
                }
            }
            Act::RememberOpenSource => self.volume_mut(nr).peer.source_open = true,
            Act::AwaitRecordOfLoss => self.await_record_of_loss(nr),
            Act::Reconnect => self.lose_connection(ConnState::NetworkFailure),
            Act::DiskFailed => self.disk_failed(nr),
            Act::LossSettled => self.loss_settled(nr, false),
            Act::CloseDisk => self.emit(Effect::CloseDisk { volume: nr }),
            Act::GiveDiskUp => {
                self.volume_mut(nr).disk.close();
                self.disk_quiet(nr);
            }
            Act::ResyncGrowth => self.resync_after_growth(nr),
            Act::AnnounceEnd => {
                self.volume_mut(nr).peer.resync.end_announced();
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

    /// A generation begins, or is owed while I/O is frozen until it is known whether the peer comes back as it was.
    fn generation_due(&mut self, nr: VolumeNr) {
        if self.awaits_the_peer() {
            self.volume_mut(nr).frozen.owe_generation(true);
        } else {
            self.new_current_uuid(nr, true);
        }
    }

    fn unmark_primary(&mut self, nr: VolumeNr) {
        self.disk_mut(nr).record_mut().unmark_queued();
        self.md(nr, MdKind::FlushData, Then::Nothing);
        self.md(nr, MdKind::ChangedPages, Then::Nothing);
        let unmark = MdKind::clearing(MdFlags::PRIMARY_IND);
        self.md(nr, unmark, Then::Nothing);
    }

    /// A19: every bit is set, on disk too.
    pub(super) fn full_sync_ready(&mut self, nr: VolumeNr, ok: bool) {
        let Some(volume) = self.volumes.get_mut(nr) else {
            return;
        };
        volume.users.release_writes();
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
}
