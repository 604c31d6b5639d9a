//! What does not wait for its turn: a command that is taken back because its caller has gone, and a forced one, which passes
//! every other.

use alloc::format;

use crate::admin::Stage;
use crate::effect::{AdminError, Effect, Level};
use crate::event::Payload;
use crate::ids::{AdminId, VolumeNr};
use crate::router::Resource;
use crate::rules::parting::Parting;
use crate::rules::withdrawal::Fate;
use crate::state::{Change, ConnState, DiskState};

impl<P: Payload> Resource<P> {
    /// The caller of a command has gone.
    pub(in crate::router) fn on_withdraw(&mut self, id: AdminId) {
        if self.admin.withdraw(id) {
            let result = Err(AdminError::Withdrawn);
            self.emit(Effect::AdminDone { id, result });
            return;
        }
        let Some(op) = self.admin.current().filter(|op| op.id() == id) else {
            return;
        };
        let (nr, (stage, _)) = (op.volume(), op.place());
        if self.snapshots.own().is_some() {
            return self.withdraw_snapshot();
        }
        if self.admin.fate() == Some(Fate::Ends) {
            let suspends = matches!(stage, Stage::Quiet(_));
            // An end of the connection is not what was asked for any more.
            self.net.link.leave(false);
            self.admin_done(Err(AdminError::Withdrawn));
            if suspends {
                self.unsuspend(Change::default().and_susp(false));
            }
            if let Some(nr) = nr.filter(|nr| self.volumes.contains(*nr)) {
                // The end of a resync may have waited for it.
                self.target_check_end(nr);
            }
        }
    }

    /// Takes the connection from under whatever waits.
    pub(super) fn disconnect_passing(&mut self, id: AdminId) {
        if self.net.cstate == ConnState::StandAlone {
            let result = Err(AdminError::refused(162, "unknown connection"));
            self.emit(Effect::AdminDone { id, result });
            return;
        }
        self.admin.await_the_end(id);
        self.part(Parting::Plainly);
    }

    /// Answers forced disconnects whose connection is gone. Says whether there were any.
    pub(super) fn poll_leaving(&mut self) -> bool {
        if self.net.cstate != ConnState::StandAlone {
            return false;
        }
        let left = self.admin.take_leaving();
        let any = !left.is_empty();
        for id in left {
            self.emit(Effect::AdminDone { id, result: Ok(()) });
        }
        any
    }

    /// Takes the disk from under whatever waits.
    pub(super) fn detach_passing(&mut self, id: AdminId, nr: VolumeNr) {
        let result = match self.volumes.get(nr) {
            None => Err(AdminError::refused(127, format!("no volume {nr}"))),
            Some(volume) => {
                if self.admin.attaches(nr) {
                    self.log_volume(Level::Warn, nr, "the attach is given up by force");
                    let info = "given up: the disk was detached by force meanwhile";
                    self.attach_failed(nr, AdminError::refused(118, info));
                } else if volume.state.disk > DiskState::Failed {
                    self.volume_mut(nr).detaching = true;
                    self.fact(nr, Change::disk(DiskState::Failed));
                    self.limit_last_answers(nr);
                    self.volume_mut(nr).detaching = false;
                }
                Ok(())
            }
        };
        self.emit(Effect::AdminDone { id, result });
    }
}
