//! What follows once metadata is written, or cannot be.

use crate::disk::operation::{MdKind, Then};
use crate::event::{Payload, Timer};
use crate::ids::VolumeNr;
use crate::router::Resource;

impl<P: Payload> Resource<P> {
    pub(in crate::router) fn md_then(&mut self, nr: VolumeNr, then: Then, ok: bool) {
        match then {
            Then::Nothing => {}
            Then::Attach => self.attach_continue(nr, ok),
            Then::AnnounceGeneration => {
                self.release_completions(nr);
                if ok {
                    self.send_uuids(nr);
                }
            }
            Then::OutdatedRecorded => self.outdated_recorded(ok),
            Then::FencedRecorded => self.release_completions(nr),
            Then::SendSyncUuid(uuid) if ok => self.send_sync_uuid(nr, uuid),
            Then::StartRequesting if ok => self.target_start_requesting(nr),
            Then::ResyncDataDurable if ok => self.target_finish(nr),
            Then::AnnounceResyncEnd if ok => self.target_announce_end(nr),
            Then::InconsistentRecorded if ok => self.inconsistent_recorded(nr),
            Then::FullSyncReady => self.full_sync_ready(nr, ok),
            Then::HandshakeBitmapReady => self.handshake_bitmap_ready(nr, ok),
            Then::Admin(nr) => self.admin_metadata_done(nr, ok),
            Then::SnapshotFlushed(nr) => self.snapshot_flushed(nr),
            Then::GivenUpFlushed => self.given_up_disk_flushed(nr),
            Then::Detached => self.detach_finish(nr),
            Then::Mirrored(key) => self.submit_mirrored(key),
            Then::Application(key) => self.submit_write(key),
            Then::AnnounceDevice => {
                if self.volume(nr).state.role == crate::state::Role::Primary {
                    self.announce_device(nr);
                }
            }
            Then::SendSyncUuid(_)
            | Then::StartRequesting
            | Then::ResyncDataDurable
            | Then::AnnounceResyncEnd
            | Then::InconsistentRecorded => {} // the disk failed: its state change ends the resync
        }
    }

    /// Bits were cleared by a resync: have the bitmap written in a while.
    pub(in crate::router) fn md_lazy(&mut self, nr: VolumeNr) {
        let now = self.now;
        let disk = self.volume_mut(nr).disk.get_mut();
        if disk.is_some_and(|disk| disk.note_lazy()) {
            self.set_timer(Timer::MetadataSync(nr), now.plus_ms(LAZY_BITMAP_MS));
        }
    }

    /// The time of `md_lazy` is over.
    pub(in crate::router) fn on_metadata_timer(&mut self, nr: VolumeNr) {
        let disk = self.disk_if_attached(nr);
        if disk.is_some_and(|disk| disk.is_lazy()) {
            self.md(nr, MdKind::ChangedPages, Then::Nothing);
        }
    }
}

/// How long cleared bits may stay set on disk (`docs/spec/metadata.md`, section 5.3).
const LAZY_BITMAP_MS: u64 = 2_000;
