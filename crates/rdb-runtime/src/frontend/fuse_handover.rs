//! FUSE sessions from one process to the next. The mount, the loop device and their users stay; the open connection is what is
//! handed over. A session is parked by reading no more from it: what was read is answered before the volume is demoted, so
//! that nothing is left to be asked again; the rest waits in the kernel.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rdb_engine::VolumeNr;
use rdb_frontend::fuse::left::{LeftSession, identity};
use rdb_frontend::fuse::mount::Mount;

use super::Origin;
use super::handover::Left;
use crate::api::{Caller, Notice};
use crate::engine::Engine;
use crate::event_loop::EventLoop;

impl<E: Engine> EventLoop<E> {
    fn session_identity(&self, nr: VolumeNr) -> String {
        identity(&self.io.config.run_dir, &self.io.config.name, nr.0.into())
    }

    /// Where a volume is mounted.
    pub(super) fn fuse_target(&self, nr: VolumeNr) -> PathBuf {
        let name = format!("{}.{nr}", self.io.config.name);
        self.io.config.run_dir.join("fuse").join(name)
    }

    /// Whether all that was read of a session is answered.
    fn is_drained(&self, nr: VolumeNr) -> bool {
        let mut devices = self.front.fuse.nodes().filter(|device| device.volume == nr);
        let waits = devices.any(|device| {
            let served = device.served.as_ref();
            served.is_some_and(|served| served.parked.is_some())
        });
        let is_of = |origin: Origin| matches!(origin, Origin::Fuse { volume, .. } if volume == nr);
        let mut requests = self.front.requests.iter();
        !waits && !requests.any(|(_, request)| is_of(request.origin))
    }

    /// Commands the demotion of a volume whose device is parked, when its last request is answered.
    pub(crate) fn demote_parked(&mut self, nr: VolumeNr, reply: Caller) {
        self.front.draining.push((nr, reply));
        self.demote_drained();
    }

    /// Goes on with demotions that waited for requests.
    pub(crate) fn demote_drained(&mut self) {
        for (nr, reply) in std::mem::take(&mut self.front.draining) {
            if self.is_drained(nr) {
                self.secondary(nr, false, reply);
            } else {
                self.front.draining.push((nr, reply));
            }
        }
    }

    /// Lets go of parked sessions without giving them back.
    pub(super) fn leave_parked_fuse(&mut self) {
        let parked = self.front.fuse.take_parked();
        let drained: Vec<bool> = parked
            .iter()
            .map(|device| self.is_drained(device.volume))
            .collect();
        for (device, is_drained) in parked.into_iter().zip(drained) {
            let has_unread = device
                .served
                .as_ref()
                .is_some_and(|served| served.parked.is_some());
            let Some(served) = &device.served else {
                continue;
            };
            match served.fd.try_clone() {
                Ok(connection) => self.io.config.left_sessions.put(LeftSession {
                    identity: self.session_identity(device.volume),
                    connection,
                    is_drained: is_drained && !has_unread,
                }),
                Err(error) => {
                    tracing::error!("a FUSE session can not be handed over: {error}");
                    continue;
                }
            }
            if let Some(mount) = device.into_base() {
                mount.leave();
            }
        }
    }

    /// A session of this volume that may be gone on with.
    pub(super) fn take_left_session(&mut self, nr: VolumeNr) -> Option<LeftSession> {
        if self.volume(nr).left != Left::Same {
            return None;
        }
        let identity = self.session_identity(nr);
        self.io.config.left_sessions.take(&identity)
    }

    /// Ends a session whose users know another content, or that nobody will serve: they get errors.
    pub(super) fn end_left_session(&mut self, nr: VolumeNr) {
        let identity = self.session_identity(nr);
        let Some(left) = self.io.config.left_sessions.take(&identity) else {
            return;
        };
        self.announce_session(nr, None);
        let target = self.fuse_target(nr);
        self.io.help("rdb-left", move |_| {
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
    pub(super) fn announce_session(&self, nr: VolumeNr, connection: Option<Arc<OwnedFd>>) {
        let identity = self.session_identity(nr);
        self.io.notify(Notice::Session {
            identity,
            connection,
        });
    }
}
