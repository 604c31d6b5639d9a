//! The size of a device: P_SIZES, and what both disks agree on (`docs/spec/behaviour.md`, sections 6.5 and 6.6).

use alloc::format;

use replica_proto::{DdsFlags, Sizes};

use crate::disk::{MdKind, Then};
use crate::effect::{DeviceSpec, Effect, Level};
use crate::event::Payload;
use crate::ids::VolumeNr;
use crate::router::Resource;
use crate::rules::{
    self,
    sizes::{Growth, Occasion, Verdict},
    trouble::Trouble,
};
use crate::state::{Change, ConnState, DiskState, Role};
use rdb_meta::MdFlags;

impl<P: Payload> Resource<P> {
    /// P_SIZES: what may follow from it is said by [`rules::sizes`].
    pub(in crate::router) fn on_sizes(&mut self, nr: VolumeNr, sizes: &Sizes) {
        let volume = self.volume_mut(nr);
        let old_size = volume.size;
        if sizes.d_size == 0 {
            self.release_first_state(nr);
        }
        let facts = self.size_facts(nr, sizes);
        let (usable, own_user) = (facts.usable, facts.user);
        let verdict = rules::sizes::decide(&facts);
        if let Verdict::Wrong(wrong) = verdict {
            self.protocol_error(format!("volume {nr}: P_SIZES: {wrong}"));
            return;
        }
        self.volume_mut(nr).peer.disk_size = sizes.d_size;
        if facts.moving {
            // A disk on its way in announces itself when it is there, one on its way out keeps the size it knows.
            return;
        }
        if let Some(usable) = usable
            && rules::sizes::differ_much(usable, sizes.d_size)
        {
            let text = format!(
                "Considerable difference in lower level device sizes: {usable}s vs. {}s",
                sizes.d_size
            );
            self.log_volume(Level::Warn, nr, text);
        }
        match verdict {
            Verdict::TooSmall(size) => {
                let text = if usable.is_some() {
                    format!("The peer's disk size is too small! ({size} < {old_size} sectors)")
                } else {
                    format!(
                        "The peer's device size is too small! ({size} < {old_size} sectors); demote me first!"
                    )
                };
                self.stand_alone_for(Trouble::TooSmall, nr, text);
                return;
            }
            Verdict::Set(size) => {
                let new_marked = !sizes.dds_flags.contains(DdsFlags::NO_RESYNC);
                self.set_size(nr, size, usable.is_some() && new_marked);
            }
            Verdict::Keep | Verdict::Wrong(_) => {}
        }
        let user = rules::sizes::smaller_limit(own_user, sizes.u_size);
        let now = self.volume(nr).size;
        if usable.is_some() && user > now {
            let text = format!(
                "Requested disk size is too big ({} > {})",
                user / 2,
                now / 2
            );
            self.log_volume(Level::Error, nr, text);
        }
        if rules::sizes::occasion(&facts) != Occasion::Other {
            self.answer_sizes(nr, sizes, old_size);
        }
    }

    fn size_facts(&self, nr: VolumeNr, sizes: &Sizes) -> rules::sizes::Facts {
        let volume = self.volume(nr);
        let state = volume.state;
        let attached = volume
            .disk
            .get()
            .filter(|_| state.disk >= DiskState::Negotiating);
        let (usable, own_user) = attached.map_or((None, 0), |disk| {
            (Some(disk.usable_sectors()), disk.options().size_sectors)
        });
        rules::sizes::Facts {
            state,
            worth: volume.worth(),
            moving: !volume.disk.is_empty() && attached.is_none(),
            usable,
            user: own_user,
            size: volume.size,
            peer_disk: sizes.d_size,
            peer_user: sizes.u_size,
            peer_device: sizes.c_size,
        }
    }

    /// Tells the peer our size if it has another, and syncs what the device has grown by. (Not for sizes that come out of turn:
    /// two nodes that differ would answer each other for ever.)
    fn answer_sizes(&mut self, nr: VolumeNr, sizes: &Sizes, old_size: u64) {
        let (conn, size) = (self.volume(nr).state.conn, self.volume(nr).size);
        if conn <= ConnState::WFReportParams {
            return;
        }
        if sizes.c_size != size {
            self.send_sizes(nr, false);
        }
        if size <= old_size || conn != ConnState::Connected {
            return;
        }
        if sizes.dds_flags.contains(DdsFlags::NO_RESYNC) {
            let text = "Resync of new storage suppressed with --assume-clean";
            self.log_volume(Level::Info, nr, text);
        } else {
            self.resync_after_growth(nr);
        }
    }

    /// Gives the device a new size; with a disk, its bitmap and superblock follow. `set_new`: new space is out of sync.
    pub(in crate::router) fn set_size(&mut self, nr: VolumeNr, size: u64, set_new: bool) {
        let volume = self.volume_mut(nr);
        if volume.size == size {
            return;
        }
        let grows = size > volume.size;
        volume.size = size;
        let is_primary = volume.state.role == Role::Primary;
        if volume.disk.get().is_some() {
            self.disk_mut(nr).resize(size, set_new);
            // At every instant the disk has a bitmap that is right, or says that everything is out of sync (I10).
            self.md(nr, MdKind::setting(MdFlags::FULL_SYNC), Then::Nothing);
            self.md(nr, MdKind::ChangedPages, Then::Nothing);
            // Nobody sees more of the device than its disk has on record (I22).
            let then = match grows {
                true => Then::AnnounceDevice,
                false => Then::Nothing,
            };
            self.md(nr, MdKind::clearing(MdFlags::FULL_SYNC), then);
        }
        self.log_volume(Level::Info, nr, format!("size = {} KB", size / 2));
        if is_primary && !(grows && self.volume(nr).disk.get().is_some()) {
            self.announce_device(nr);
        }
    }

    /// The front end learns the device, or its new size.
    pub(in crate::router) fn announce_device(&mut self, nr: VolumeNr) {
        let volume = self.volume(nr);
        let logical_block_bytes = volume.disk.get().map_or(512, |d| d.logical_block_bytes());
        let device = DeviceSpec {
            size_sectors: volume.size,
            logical_block_bytes,
        };
        self.emit(Effect::Device {
            volume: nr,
            device: Some(device),
        });
    }

    /// Both disks grew: the new area is synced, at once or when both are there.
    pub(in crate::router) fn resync_after_growth(&mut self, nr: VolumeNr) {
        let tie_breaker = self.net.link.resolves_conflicts();
        let volume = self.volume_mut(nr);
        let growth = rules::sizes::growth(&volume.state, tie_breaker);
        volume.grew_while_detached = growth == Growth::Later;
        if growth == Growth::Later {
            return;
        }
        self.log_volume(Level::Info, nr, "Resync of new storage after online grow");
        if growth == Growth::Source {
            self.start_source(nr);
        } else {
            self.fact(nr, Change::conn(ConnState::WFSyncUUID));
            self.take_early_sync_uuid(nr);
        }
    }
}
