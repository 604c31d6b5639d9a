//! What does not wait for its turn: a command that is taken back because its caller has gone, and a forced one, which passes
//! every other.

use alloc::format;

use crate::admin::{Op, Stage, command_volume};
use crate::effect::{AdminError, Effect, Level};
use crate::event::{Command, Payload};
use crate::ids::{AdminId, VolumeNr};
use crate::router::Resource;
use crate::rules::parting::Parting;
use crate::rules::withdrawal::{Fate, Kind, Progress, fate};
use crate::state::{Change, ConnState, DiskState};

impl<P: Payload> Resource<P> {
    /// The caller of a command has gone.
    pub(in crate::router) fn on_withdraw(&mut self, id: AdminId) {
        if self.admin.resuming.contains(&id) {
            self.admin.resuming.retain(|other| *other != id);
            let result = Err(AdminError::Withdrawn);
            self.emit(Effect::AdminDone { id, result });
            return;
        }
        let queued = self.admin.queue.iter().position(|(other, _)| *other == id);
        if let Some(at) = queued {
            let _ = self.admin.queue.remove(at);
            self.emit(Effect::AdminDone {
                id,
                result: Err(AdminError::Withdrawn),
            });
            return;
        }
        let Some(op) = self.admin.current.as_ref().filter(|op| op.id == id) else {
            return;
        };
        if self.snapshots.own().is_some() {
            return self.withdraw_snapshot();
        }
        let asks = self.admin.ask.is_some();
        if fate(kind(&op.command), progress(op, asks)) == Fate::Ends {
            let nr = command_volume(&op.command);
            let suspends = matches!(op.stage, Stage::Quiet(_));
            // An end of the connection is not what was asked for any more.
            self.net.link.leave(false);
            self.admin_done(Err(AdminError::Withdrawn));
            if suspends {
                self.unsuspend(Change::default().and_susp(false));
            }
            if let Some(nr) = nr.filter(|nr| self.volumes.contains_key(nr)) {
                // The end of a resync may have waited for it.
                self.target_check_end(nr);
            }
        }
    }

    /// Whether a forced command has somebody to pass.
    pub(super) fn is_busy(&self) -> bool {
        self.admin.current.is_some() || !self.admin.queue.is_empty()
    }

    /// Takes the connection from under whatever waits.
    pub(super) fn disconnect_passing(&mut self, id: AdminId) {
        if self.net.cstate == ConnState::StandAlone {
            let result = Err(AdminError::refused(162, "unknown connection"));
            self.emit(Effect::AdminDone { id, result });
            return;
        }
        self.admin.leaving.push(id);
        self.part(Parting::Plainly);
    }

    /// Answers forced disconnects whose connection is gone. Says whether there were any.
    pub(super) fn poll_leaving(&mut self) -> bool {
        if self.net.cstate != ConnState::StandAlone || self.admin.leaving.is_empty() {
            return false;
        }
        for id in core::mem::take(&mut self.admin.leaving) {
            self.emit(Effect::AdminDone { id, result: Ok(()) });
        }
        true
    }

    /// Takes the disk from under whatever waits.
    pub(super) fn detach_passing(&mut self, id: AdminId, nr: VolumeNr) {
        let result = match self.volumes.get(&nr) {
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

fn kind(command: &Command) -> Kind {
    match command {
        Command::Attach { .. } => Kind::Attach,
        Command::Primary { .. } => Kind::Promote,
        Command::Invalidate { .. } | Command::InvalidateRemote { .. } => Kind::FullSync,
        Command::NewCurrentUuid { .. } => Kind::NewGeneration,
        Command::Disconnect { .. } => Kind::Disconnect,
        Command::NewVolume { .. }
        | Command::DelVolume { .. }
        | Command::Detach { .. }
        | Command::Connect { .. }
        | Command::Secondary { .. }
        | Command::Verify { .. }
        | Command::Outdate { .. }
        | Command::PauseSync { .. }
        | Command::ResumeSync { .. }
        | Command::DiskOptions { .. }
        | Command::NetOptions { .. }
        | Command::ResourceOptions { .. }
        | Command::SuspendIo { .. }
        | Command::ResumeIo { .. }
        | Command::Snapshot { .. } => Kind::Other,
    }
}

fn progress(op: &Op, asks: bool) -> Progress {
    match op.stage {
        Stage::Durable | Stage::Detaching | Stage::Leaving | Stage::Attaching => Progress::Decided,
        _ if asks => Progress::Asked,
        // The bitmap is written before a role is given up, and may be written without.
        Stage::Start
        | Stage::Flush(_)
        | Stage::Ping
        | Stage::Change
        | Stage::Pause
        | Stage::Fence
        | Stage::Quiet(_)
        | Stage::Taking
        | Stage::Drain
        | Stage::Bitmap => Progress::Undecided,
    }
}
