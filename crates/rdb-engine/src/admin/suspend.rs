//! `suspend-io` and `resume-io` (`docs/spec/behaviour.md`, section 12.9).

use super::Stage;
use crate::effect::AdminError;
use crate::event::Payload;
use crate::ids::VolumeNr;
use crate::planted::Bug;
use crate::resource::Resource;
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
                self.set_stage(Stage::Quiet(session));
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
                self.admin_done(Ok(()))
            }
            _ => {}
        }
    }

    /// Lets them go on, for whatever reason they wait.
    pub(super) fn step_resume(&mut self) {
        if self.net.link.is_exchanging() {
            return; // a generation may begin, and the peer decides by those that it has been told of
        }
        self.resume();
        self.admin_done(Ok(()));
    }
}

/// `ERR_INTR` (`docs/spec/admin.md`, section 4.3).
const ERR_INTR: u16 = 129;
