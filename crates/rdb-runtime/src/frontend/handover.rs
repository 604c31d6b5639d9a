//! From one process to the next: devices that are left for it, and those that an earlier one left.
//!
//! A ublk or NBD device outlives its server. It may be taken over only by who serves the content that its users know: by a node
//! that crashed as Primary and has not been written to by anybody else since, or one to which it was handed over in an
//! orderly way, with the name of the data's generation. In every other case it is removed, and its users get I/O errors: a
//! file system that went on with what it remembers of an older content would destroy the newer one.
//!
//! Of a FUSE session the mount, the loop device and their users stay; the open connection is what is handed over.
//!
//! To hand over is to park: the device takes no new requests from its users, who wait, while the resource goes down as for
//! an administrator, Secondary first. So nothing is left to be repaired by the next one. A FUSE session is parked by reading no
//! more from it: what was read is answered before the volume is demoted; the rest waits in the kernel.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use rdb_engine::VolumeNr;
use rdb_engine::state::{ConnState, DiskState, Role, VolumeState};
use rdb_frontend::fuse::left::{self, LeftSession, identity};
use rdb_frontend::fuse::mount::Mount;
use rdb_frontend::knbd;
use rdb_frontend::ublk::{self, Identity};

use super::node::Removals;
use crate::api::{Notice, ResourceConfig};
use crate::io::Io;
use crate::mailbox::Message;

/// `MDF_CRASHED_PRIMARY` and `MDF_PRIMARY_IND` of the metadata's flags (`docs/spec/metadata.md`, section 3).
const CRASHED_OR_PRIMARY: u32 = 0x40 | 0x02;

/// Whether a device that an earlier process left may be taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Left {
    /// Nothing is known yet: no disk was attached.
    #[default]
    Unknown,
    /// The content is what its users know.
    Same,
    /// Others may have changed the content.
    Foreign,
}

/// What is known of devices that an earlier process left.
#[derive(Default)]
pub(super) struct LeftDevices {
    volumes: BTreeMap<VolumeNr, Left>,
    /// Ends when devices that were left are removed.
    dropping: Vec<(VolumeNr, Receiver<()>)>,
}

impl LeftDevices {
    fn is(&self, nr: VolumeNr, left: Left) -> bool {
        self.volumes.get(&nr).copied().unwrap_or_default() == left
    }

    /// A disk was attached: is its content what the users of a left device know? `data`: the current generation identifier and
    /// the flags of its metadata.
    pub(super) fn judge(&mut self, io: &Io, nr: VolumeNr, data: Option<(u64, u32)>) {
        if !self.is(nr, Left::Unknown) {
            return;
        }
        let mut inherited = io.config.inherited.iter();
        let inherited = inherited.find(|(volume, _)| *volume == nr);
        let is_same = data.is_some_and(|(current, flags)| {
            // The lowest bit is the role's.
            let is_handed = |(_, handed): &(VolumeNr, u64)| (current ^ handed) & !1 == 0;
            inherited.is_some_and(is_handed) || flags & CRASHED_OR_PRIMARY != 0
        });
        if is_same {
            self.volumes.insert(nr, Left::Same);
        } else {
            self.give_up(io, nr);
        }
    }

    /// Looks whether others may have changed, or will change, the content that the users of a left device know.
    pub(super) fn watch(&mut self, io: &Io, nr: VolumeNr, new: &VolumeState) {
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
            self.nobody_takes_over(io, nr);
        }
    }

    /// The volume is served by something else, or its content changes: a device that was left has no future.
    pub(super) fn nobody_takes_over(&mut self, io: &Io, nr: VolumeNr) {
        if self.is(nr, Left::Same) {
            self.give_up(io, nr);
        }
    }

    /// A device is made now, which takes the left one over if it may. Whatever is left afterwards is of this process.
    pub(super) fn take_over(&mut self, nr: VolumeNr) -> bool {
        self.volumes.insert(nr, Left::Foreign) == Some(Left::Same)
    }

    /// The volume goes down to be handed over: what happens to it on its way says nothing about the content, and a device that was
    /// not taken over yet is left to the next process.
    pub(super) fn leave_again(&mut self, nr: VolumeNr) {
        if self.is(nr, Left::Same) {
            self.volumes.insert(nr, Left::Unknown);
        }
    }

    /// Has devices removed whose users know an older content.
    pub(super) fn give_up(&mut self, io: &Io, nr: VolumeNr) {
        self.volumes.insert(nr, Left::Foreign);
        let config = &io.config;
        let ublk_identity = Identity::new(&config.run_dir, &config.name, nr.0.into());
        let nbd_identity = knbd::identity(&config.run_dir, &config.name, nr.0.into());
        end_session(io, nr);
        // Whoever makes a new device waits until this is over: the sender goes with the thread.
        let (over, wait) = channel();
        self.dropping.push((nr, wait));
        io.help("rdb-left", move |mailbox| {
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

    /// What a thread that makes a device has to wait for first.
    pub(super) fn removals(&mut self, nr: VolumeNr) -> Removals {
        let of_this = self.dropping.extract_if(.., |(other, _)| *other == nr);
        Removals(of_this.map(|(_, wait)| wait).collect())
    }

    /// A session of this volume that may be gone on with.
    pub(super) fn take_session(&self, io: &Io, nr: VolumeNr) -> Option<LeftSession> {
        let identity = session_identity(&io.config, nr);
        self.is(nr, Left::Same)
            .then(|| io.config.left_sessions.take(&identity))?
    }
}

/// Ends a session whose users know another content, or that nobody will serve: they get errors.
pub(super) fn end_session(io: &Io, nr: VolumeNr) {
    let identity = session_identity(&io.config, nr);
    let Some(left) = io.config.left_sessions.take(&identity) else {
        return;
    };
    announce_session(io, nr, None);
    let target = fuse_target(&io.config, nr);
    io.help("rdb-left", move |_| {
        drop(left);
        match Mount::adopt(&target).and_then(Mount::unmount) {
            Ok(()) => tracing::warn!(
                "{}: ended what an earlier daemon left: its users know another content",
                target.display()
            ),
            Err(error) => tracing::warn!("{error}"),
        }
    });
}

/// Tells whoever keeps connections for the case that this process dies.
pub(super) fn announce_session(io: &Io, nr: VolumeNr, connection: Option<Arc<OwnedFd>>) {
    io.notify(Notice::Session {
        identity: session_identity(&io.config, nr),
        connection,
    });
}

pub(super) fn session_identity(config: &ResourceConfig, nr: VolumeNr) -> String {
    identity(&config.run_dir, &config.name, nr.0.into())
}

/// Where a volume is mounted.
pub(super) fn fuse_target(config: &ResourceConfig, nr: VolumeNr) -> PathBuf {
    left::target(&config.run_dir, &config.name, nr.0.into())
}
