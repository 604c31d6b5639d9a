//! A command comes, is looked at after every event, and is answered.

mod connection;
mod disk;
mod passing;
mod role;
mod snapshot;
mod suspend;

use alloc::format;

use replica_proto::{Packet, StateChange, StateWord};

use crate::admin::{Answer, Asked, Reply, Stage};
use crate::config::DiskOptions;
use crate::disk::Then;
use crate::effect::{AdminError, Effect, Level};
use crate::event::{Command, Payload, Timer};
use crate::ids::{AdminId, VolumeNr};
use crate::router::Resource;
use crate::router::volume::Volume;
use crate::rules::packets::Past;
use crate::rules::parting::Parting;
use crate::state::{self, Change, ConnState, DiskState, Outcome, Role, StateError};

impl<P: Payload> Resource<P> {
    pub(in crate::router) fn on_admin(&mut self, id: AdminId, command: Command) {
        match command {
            // What is forced does not wait behind a command that waits for something that never comes.
            Command::Disconnect { force: true } if self.admin.is_busy() => {
                self.disconnect_passing(id)
            }
            Command::Detach {
                volume,
                force: true,
            } if self.admin.is_busy() => self.detach_passing(id, volume),
            Command::ResumeIo { volume } => self.order_resume(id, volume),
            command => self.admin.queue(id, command),
        }
    }

    /// Looks at the command in progress, or takes the next one. Says whether it got any further: then what it did may
    /// be what something else waits for.
    pub(in crate::router) fn poll_admin(&mut self) -> bool {
        if self.poll_leaving() || self.poll_resuming() {
            return true;
        }
        if !self.admin.begin_next() {
            return false;
        }
        let before = self.admin.place();
        let asked = self.asks_peer();
        self.step_admin();
        if asked && !self.asks_peer() {
            for nr in self.volume_numbers() {
                self.target_check_end(nr);
            }
        }
        self.admin.place() != before
    }

    /// Whether a change of ours waits for the peer's word. The peer may have made it already.
    pub(in crate::router) fn asks_peer(&self) -> bool {
        self.admin.asks_peer(self.net.session)
    }

    pub(in crate::router) fn admin_done(&mut self, result: Result<(), AdminError>) {
        if let Some(op) = self.admin.finish(self.net.session) {
            if op.parting() == Parting::Outdated {
                self.outdated_by_state();
            }
            self.clear_timer(Timer::Admin);
            self.emit(Effect::AdminDone {
                id: op.id(),
                result,
            });
        }
    }

    /// Whether the disks are Outdated is a matter of their state again.
    fn outdated_by_state(&mut self) {
        for nr in self.volume_numbers() {
            if let Some(disk) = self.volume_mut(nr).disk.get_mut() {
                disk.record_mut().call_outdated(false);
                self.note_flags(nr, self.volume(nr).state);
            }
        }
    }

    pub(super) fn admin_refused(&mut self, code: u16, info: &str) {
        self.admin_done(Err(AdminError::refused(code, info)));
    }

    pub(super) fn admin_state_error(&mut self, error: StateError) {
        self.admin_done(Err(AdminError::State(error)));
    }

    /// What follows when metadata is written for the command in progress.
    pub(super) fn then_admin(&self) -> Then {
        Then::Admin(self.admin.number())
    }

    pub(in crate::router) fn admin_metadata_done(&mut self, nr: u32, ok: bool) {
        if !self.admin.is_in_progress(nr) {
            return; // it was taken back
        }
        if !ok {
            self.admin_refused(118, "writing the metadata failed");
            return;
        }
        self.admin.ready(Stage::Bitmap);
        self.admin.ready(Stage::Durable);
    }

    /// P_STATE_CHG_REPLY, P_CONN_ST_CHG_REPLY.
    pub(in crate::router) fn admin_reply(&mut self, volume: Option<VolumeNr>, code: i32) {
        match self.admin.answered(volume, code) {
            Answer::Taken => {}
            Answer::Late { detach } => self.admin_late_reply(volume, code, detach),
            Answer::Unasked => self.protocol_error(format!(
                "an answer ({code}) to a question that was not asked: no right peer sends that"
            )),
        }
    }

    fn admin_late_reply(&mut self, volume: Option<VolumeNr>, code: i32, detach: bool) {
        let has_disk = |nr: &VolumeNr| self.volumes.get(*nr).is_some_and(Volume::has_usable_disk);
        let kept = detach && volume.as_ref().is_some_and(has_disk);
        if state::is_success(code) && volume.is_none() {
            self.connect_anew("the peer has agreed to part, which nobody wants any more");
            return;
        }
        if state::is_success(code) && kept {
            self.connect_anew(PEER_WENT_ON_ALONE);
            return;
        }
        // It may have made a change that this node has not: it hears how things are.
        for nr in self.volume_numbers() {
            if state::is_success(code) && volume.is_none_or(|volume| volume == nr) {
                self.send_state(nr);
            }
            self.target_check_end(nr);
        }
    }

    /// The peer has acted on what is not going to be: the next handshake compares what both have.
    fn connect_anew(&mut self, why: &str) {
        self.log(Level::Warn, format!("{why}: connecting anew"));
        self.lose_connection(ConnState::NetworkFailure);
    }

    pub(super) fn step_admin(&mut self) {
        let Some(op) = self.admin.current() else {
            return;
        };
        let command = op.command().clone();
        let (stage, ready) = op.place();
        if let Some(nr) = op.volume() {
            let exists = self.volumes.contains(nr);
            if !exists && !matches!(command, Command::NewVolume { .. }) {
                self.admin_refused(127, &format!("no volume {nr}"));
                return;
            }
        }
        match command {
            Command::NewVolume { volume, minor } => self.admin_new_volume(volume, minor),
            Command::DelVolume { volume } => self.admin_del_volume(volume),
            Command::Attach {
                volume,
                disk,
                options,
            } => {
                if stage == Stage::Start && !self.net.link.is_exchanging() {
                    self.admin.enter(Stage::Attaching);
                    self.start_attach(volume, disk, options);
                }
            }
            Command::Detach { volume, force } => self.step_detach(volume, force, stage),
            Command::Connect {
                options,
                discard_my_data,
                tentative,
            } => {
                self.admin_connect(options, discard_my_data, tentative);
            }
            Command::Disconnect { force } => self.step_disconnect(force, stage),
            Command::Primary { volume, force } => self.step_primary(volume, force, stage, ready),
            Command::Secondary { volume, .. } => self.step_secondary(volume, stage, ready),
            Command::Invalidate { volume } => self.step_invalidate(volume, stage, ready, true),
            Command::InvalidateRemote { volume } => {
                self.step_invalidate(volume, stage, ready, false)
            }
            Command::Verify {
                volume,
                start,
                stop,
            } => self.step_verify(volume, start, stop),
            Command::Outdate { volume } => self.step_outdate(volume, stage, ready),
            Command::NewCurrentUuid {
                volume,
                clear_bitmap,
            } => {
                self.step_new_current_uuid(volume, clear_bitmap, stage, ready);
            }
            Command::PauseSync { volume } => self.step_pause(volume, true),
            Command::ResumeSync { volume } => self.step_pause(volume, false),
            Command::DiskOptions { volume, options } => self.step_disk_options(volume, options),
            Command::NetOptions { options } => self.step_net_options(options),
            Command::ResourceOptions { options } => {
                self.options = options;
                self.admin_done(Ok(()));
            }
            Command::SuspendIo { volume } => self.step_suspend(volume, stage),
            Command::Snapshot { wish } => self.step_snapshot(wish, stage),
            Command::ResumeIo { .. } => {} // it does not wait in this queue
        }
    }

    fn step_disk_options(&mut self, nr: VolumeNr, options: DiskOptions) {
        let Some(disk) = self.volume_mut(nr).disk.get_mut() else {
            return self.admin_refused(138, "the volume has no disk");
        };
        if let Err(why) = disk.change_options(options) {
            return self.admin_refused(126, why);
        }
        self.volume_mut(nr).peer.pace = None; // the last word holds
        if self.volume(nr).state.conn >= ConnState::Connected {
            self.send_sync_param(nr);
        }
        // (L54) What has waited for somebody's word does so no more if nobody is to be fenced.
        let before = self.volume(nr).state;
        self.fact(nr, Change::default());
        if self.volume(nr).state != before && before.is_connected() {
            self.send_state(nr);
        }
        self.admin_done(Ok(()));
    }

    // ---- copies that are given up -------------------------------------------------------------------------------

    /// (L38) Before a copy is given up that users' flushes were done on: whether the peer has flushed what it was sent before the
    /// command began. A peer that is lost keeps nobody waiting: what it may lack is marked.
    pub(super) fn peer_has_flushed(&mut self, stage: Stage) -> bool {
        if !self.is_up() {
            return true;
        }
        if let Stage::Flush(epoch) = stage {
            return self.net.log.is_settled(epoch);
        }
        self.close_epoch();
        self.send_barrier();
        let last = self.net.log.epoch().wrapping_sub(1);
        if self.net.log.is_settled(last) {
            return true;
        }
        self.admin.enter(Stage::Flush(last));
        false
    }

    // ---- changes that may need the peer --------------------------------------------------------------------------

    /// Makes a change of one volume, with the peer's consent if it is needed (section 2.7).
    pub(super) fn ask_change(&mut self, nr: VolumeNr, change: Change) -> Asked {
        match self.admin.take_reply() {
            Reply::NotAsked => {}
            Reply::Awaited => return Asked::Wait,
            Reply::Come(code) => return Asked::Done(self.change_answered(nr, change, code)),
        }
        let old = self.volume(nr).state;
        let context = self.context(nr);
        match state::request(old, change, &context, false) {
            Err(StateError::InTransientState) => Asked::Wait,
            Err(error) => Asked::Done(Err(error)),
            Ok(Outcome::NothingToDo) => Asked::Done(Ok(2)),
            Ok(Outcome::Changed(new, _)) if self.is_up() && state::is_cluster_wide(old, new) => {
                if let Err(error) = state::request_for_peer(old, change, &context) {
                    return if error == StateError::InTransientState {
                        Asked::Wait
                    } else {
                        Asked::Done(Err(error))
                    };
                }
                let (mask, val) = change.to_mask_val();
                self.admin.ask(Some(nr), self.net.session);
                let request = StateChange {
                    mask: StateWord(mask),
                    val: StateWord(val),
                };
                self.send(nr, Packet::StateChgReq(request), None);
                Asked::Wait
            }
            Ok(Outcome::Changed(..)) => Asked::Done(self.change(nr, change, false)),
        }
    }

    /// The peer has answered the question about this change.
    fn change_answered(
        &mut self,
        nr: VolumeNr,
        change: Change,
        code: i32,
    ) -> Result<i32, StateError> {
        if !state::is_success(code) {
            let text =
                StateError::from_code(code).map_or_else(Default::default, |e| format!("{e}"));
            self.log_volume(
                Level::Error,
                nr,
                format!("Requested state change failed by peer: {text} ({code})"),
            );
            return Err(StateError::FailedByPeer);
        }
        // It acts on what it has consented to, also if we cannot any more.
        let begun = change.conn.map_or(Past::empty(), Past::of);
        self.volume_mut(nr).peer.past |= begun;
        let result = self.change(nr, change, false);
        if result.is_err() && change.disk == Some(DiskState::Failed) {
            self.connect_anew(PEER_WENT_ON_ALONE);
        } else if result.is_err() && change.conn.is_some() {
            self.connect_anew(PEER_HAS_BEGUN);
        } else if result.is_err() {
            // What the peer has asked for meanwhile forbids it. It has taken note of ours already.
            self.send_state(nr);
        }
        result
    }

    // ---- volumes -------------------------------------------------------------------------------------------------

    fn admin_new_volume(&mut self, nr: VolumeNr, minor: u32) {
        if self.volumes.contains(nr) {
            self.admin_refused(161, &format!("volume {nr} exists already"));
            return;
        }
        let mut volume = Volume::new(nr, minor);
        volume.state.conn = self.net.cstate;
        let is_up = self.is_up();
        // The peer hears of it now. If it has one of this number it will not say so again; see `router/peer_volumes.rs`.
        volume.peer.untold = is_up;
        self.volumes.insert(volume);
        if is_up && self.has_told_of(nr) {
            self.exchange_anew(nr);
        } else if is_up {
            self.send_volume_parameters(nr);
        }
        self.admin_done(Ok(()));
    }

    fn admin_del_volume(&mut self, nr: VolumeNr) {
        let volume = self.volume(nr);
        let state = volume.state;
        if state.disk != DiskState::Diskless
            || !volume.disk.is_empty()
            || state.role != Role::Secondary
        {
            self.admin_refused(160, "the volume is Primary or has a disk");
            return;
        }
        self.volumes.remove(nr);
        self.end_exchange_if_all_told();
        self.admin_done(Ok(()));
    }
}

/// It has consented to a detach that is not made. What it has written since is not here.
const PEER_HAS_BEGUN: &str = "the peer has begun what has become impossible here meanwhile";
const PEER_WENT_ON_ALONE: &str =
    "the peer goes on without our disk, which is not given up after all";
