//! From one process to the next: devices that are left for it, and those that an earlier one left.
//!
//! A ublk or NBD device outlives its server. It may be taken over only by who serves the content that its users know: by a node
//! that crashed as Primary and has not been written to by anybody else since, or one to which it was handed over in an
//! orderly way, with the name of the data's generation. In every other case it is removed, and its users get I/O errors: a
//! file system that went on with what it remembers of an older content would destroy the newer one.
//!
//! To hand over is to park: the device takes no new requests from its users, who wait, while the resource goes down as for
//! an administrator, Secondary first. So nothing is left to be repaired by the next one.

use std::sync::mpsc::{Receiver, channel};

use rdb_engine::state::{ConnState, DiskState, Role, VolumeState};
use rdb_engine::{Level, VolumeNr};
use rdb_frontend::knbd;
use rdb_frontend::ublk::{self, Identity};

use crate::api::{DeviceUse, UseReply};
use crate::engine::Engine;
use crate::event_loop::EventLoop;
use crate::mailbox::Message;

use super::node::{Removals, is_held};

/// `MDF_CRASHED_PRIMARY` and `MDF_PRIMARY_IND` of the metadata's flags (`docs/spec/metadata.md`, section 3).
const CRASHED_OR_PRIMARY: u32 = 0x40 | 0x02;

/// Whether a device that an earlier process left may be taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Left {
    /// Nothing is known yet: no disk was attached.
    #[default]
    Unknown,
    /// The content is what its users know.
    Same,
    /// Others may have changed the content.
    Foreign,
}

impl<E: Engine> EventLoop<E> {
    pub(super) fn minor_of(&self, nr: VolumeNr) -> u32 {
        let status = self.engine.status(self.io.now);
        let mut volumes = status.volumes.iter();
        let found = volumes.find(|volume| volume.volume == nr);
        found.map_or(u32::MAX, |volume| volume.minor)
    }

    /// Tells who uses the devices.
    pub(crate) fn report_use(&mut self, reply: UseReply) {
        let volumes: Vec<VolumeNr> = self.volumes.iter().map(|volume| volume.nr).collect();
        let mut looks = Vec::new();
        for nr in volumes {
            let found = DeviceUse {
                volume: nr,
                clients: self.front.nbd.users(nr),
                is_held: false,
                outlives: false,
                can_be_handed_over: false,
            };
            let loop_device = self.front.fuse.device(nr).cloned();
            let ublk_device = self.front.ublk.device(nr).cloned();
            let nbd_device = self.front.knbd.device(nr).cloned();
            looks.push(move || {
                let of_loop = loop_device.map(|device| is_held(&device));
                let of_ublk = ublk_device.map(|device| is_held(&device));
                let of_nbd = nbd_device.map(|device| is_held(&device));
                DeviceUse {
                    is_held: of_loop.or(of_ublk).or(of_nbd).unwrap_or(false),
                    outlives: of_ublk.or(of_nbd).is_some(),
                    can_be_handed_over: of_loop.or(of_ublk).or(of_nbd).is_some(),
                    ..found
                }
            });
        }
        self.io.help("rdb-holders", move |_| {
            reply(looks.into_iter().map(|look| look()).collect());
        });
    }

    /// Parks the devices of these volumes that can outlive this process. NBD clients are let go once they are answered, and
    /// are no reason to refuse a demotion.
    /// A device that an earlier process left, and that was not taken over yet, is left to the next one.
    pub(crate) fn park(&mut self, volumes: &[VolumeNr]) {
        for &nr in volumes {
            if self.volume(nr).device.is_some() {
                self.nbd_device_down(nr);
                self.front.let_go.push(nr);
            }
            if !self.park_node(nr) && self.volume(nr).left == Left::Same {
                // What happens to the volume on its way down says nothing about the content.
                self.volume(nr).left = Left::Unknown;
            }
        }
    }

    /// A disk was attached: is its content what the users of a left device know?
    pub(crate) fn judge_left_device(&mut self, nr: VolumeNr) {
        if self.volume(nr).left != Left::Unknown {
            return;
        }
        let status = self.engine.status(self.io.now);
        let generation = status
            .volumes
            .iter()
            .find(|volume| volume.volume == nr)
            .and_then(|volume| volume.generation);
        let inherited = self
            .io
            .config
            .inherited
            .iter()
            .find(|(volume, _)| *volume == nr);
        let is_same = generation.is_some_and(|(ids, flags)| {
            // The lowest bit is the role's.
            let is_handed = |(_, handed): &(VolumeNr, u64)| (ids.current ^ handed) & !1 == 0;
            inherited.is_some_and(is_handed) || flags & CRASHED_OR_PRIMARY != 0
        });
        if is_same {
            self.volume(nr).left = Left::Same;
        } else {
            self.left_device_is_foreign(nr);
        }
    }

    /// Looks whether others may have changed, or will change, the content that the users of a left device know.
    pub(crate) fn watch_left_device(&mut self, nr: VolumeNr, new: &VolumeState) {
        if self.volume(nr).left != Left::Same {
            return;
        }
        let is_target = matches!(
            new.conn,
            ConnState::StartingSyncT
                | ConnState::WFBitMapT
                | ConnState::WFSyncUUID
                | ConnState::SyncTarget
                | ConnState::PausedSyncT
        );
        let is_same = new.peer != Role::Primary
            && !is_target
            && !matches!(new.disk, DiskState::Diskless | DiskState::Inconsistent);
        if !is_same {
            self.left_device_is_foreign(nr);
        }
    }

    /// The volume is served by something else: a device that was left has no future.
    pub(super) fn nobody_takes_a_left_device_over(&mut self, nr: VolumeNr) {
        if self.volume(nr).left == Left::Same {
            self.left_device_is_foreign(nr);
        }
    }

    pub(super) fn left_device_is_foreign(&mut self, nr: VolumeNr) {
        self.volume(nr).left = Left::Foreign;
        let config = &self.io.config;
        let ublk_identity = Identity::new(&config.run_dir, &config.name, nr.0.into());
        let nbd_identity = knbd::identity(&config.run_dir, &config.name, nr.0.into());
        self.end_left_session(nr);
        // Whoever makes a new device waits until this is over: the sender goes with the thread.
        let (over, wait) = channel();
        self.front.dropping.push((nr, wait));
        self.io.help("rdb-left", move |mailbox| {
            let of_ublk = ublk::drop_left(ublk_identity).map_err(|error| error.to_string());
            let of_nbd = knbd::drop_left(&nbd_identity).map_err(|error| error.to_string());
            for dropped in [of_ublk, of_nbd] {
                match dropped {
                    Ok(true) => {
                        mailbox.post(Message::LeftDropped(nr));
                    }
                    Ok(false) => {}
                    Err(error) => tracing::warn!("looking for a device that was left: {error}"),
                }
            }
            drop(over);
        });
    }

    /// What a thread that makes a device has to wait for first: the end of each.
    pub(super) fn removals_of_left_devices(&mut self, nr: VolumeNr) -> Removals {
        let dropping = std::mem::take(&mut self.front.dropping);
        let (of_this, others) = dropping.into_iter().partition(|(other, _)| *other == nr);
        self.front.dropping = others;
        let of_this: Vec<(VolumeNr, Receiver<()>)> = of_this;
        Removals(of_this.into_iter().map(|(_, wait)| wait).collect())
    }

    /// Says that a left device was removed.
    pub(crate) fn left_device_dropped(&mut self, volume: VolumeNr) {
        let text =
            "removed the device that an earlier process left: its users know an older content";
        self.io.log(Level::Warn, Some(volume), text);
    }
}
