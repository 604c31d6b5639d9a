//! `suspend-io` and `resume-io` (`docs/spec/behaviour.md`, section 12.9).

use alloc::format;

use crate::admin::Stage;
use crate::effect::{AdminError, Effect};
use crate::event::Payload;
use crate::ids::{AdminId, VolumeNr};
use crate::planted::Bug;
use crate::router::Resource;
use crate::state::Change;

impl<P: Payload> Resource<P> {
    /// Suspends the requests of the resource's users. The command ends when nothing that they have asked for before is under way,
    /// and the peer has all of it durable: then the two disks are equal, and stay so until `resume-io`. DRBD's ends at once, with
    /// writes still on their way to either disk.
    pub(super) fn step_suspend(&mut self, nr: VolumeNr, stage: Stage) {
        match stage {
            Stage::Start => {
                let change = Change::default().and_susp(true);
                if let Err(error) = self.change(nr, change, false) {
                    self.log_refusal(nr, error, change);
                    self.admin_state_error(error);
                    return;
                }
                self.close_epoch();
                self.send_barrier();
                let session = self.is_up().then_some(self.net.session);
                self.admin.enter(Stage::Quiet(session));
                self.step_admin();
            }
            Stage::Quiet(Some(session)) if session != self.net.session => {
                self.admin_done(Err(AdminError::refused(
                    ERR_INTR,
                    "the connection was lost meanwhile: what the peer has is not known; I/O goes on",
                )));
                self.unsuspend(Change::default().and_susp(false));
            }
            Stage::Quiet(_) if !self.is_in_flight() || self.planted(Bug::SuspendTooSoon) => {
                self.admin_done(Ok(()));
            }
            Stage::Quiet(_) => {
                // (What was frozen may have been sent again since.)
                self.close_epoch();
                self.send_barrier();
            }
            _ => {}
        }
    }

    /// Lets them go on, for whatever reason they wait.
    pub(super) fn order_resume(&mut self, id: AdminId, nr: VolumeNr) {
        if self.volumes.contains(nr) {
            self.admin.order_resume(id);
        } else {
            let result = Err(AdminError::refused(127, format!("no volume {nr}")));
            self.emit(Effect::AdminDone { id, result });
        }
    }

    /// Carries out the orders to resume. Says whether there were any.
    pub(super) fn poll_resuming(&mut self) -> bool {
        if !self.admin.resumes() || self.net.link.is_exchanging() {
            return false;
        }
        self.end_snapshot(Some("I/O was resumed meanwhile".into())); // the peer hears of it before it gets a write
        self.resume();
        for id in self.admin.take_resuming() {
            self.emit(Effect::AdminDone { id, result: Ok(()) });
        }
        true
    }
}

/// `ERR_INTR` (`docs/spec/admin.md`, section 4.3).
const ERR_INTR: u16 = 129;
