//! `primary` and `secondary` (`docs/spec/behaviour.md`, sections 12.1 and 12.2).

use crate::admin::{Asked, Fencing, Stage};
use crate::disk::{MdKind, Then};
use crate::effect::{Effect, Level};
use crate::event::{Payload, Timer};
use crate::fencing::Fenced;
use crate::follow::Follow;
use crate::ids::VolumeNr;
use crate::net::PingWaiter;
use crate::router::Resource;
use crate::state::{self, Change, ConnState, DiskState, Role, StateError};

impl<P: Payload> Resource<P> {
    pub(super) fn step_primary(&mut self, nr: VolumeNr, force: bool, stage: Stage, ready: bool) {
        match stage {
            Stage::Start => {
                if self.is_up() {
                    self.set_stage(Stage::Ping);
                    self.ping(Some(PingWaiter::Admin));
                } else {
                    self.set_stage(Stage::Change);
                    self.try_promote(nr, force);
                }
            }
            Stage::Ping | Stage::Pause if ready => {
                self.set_stage(Stage::Change);
                self.try_promote(nr, force);
            }
            Stage::Change => self.try_promote(nr, force),
            Stage::Fence if ready => self.promote_fenced(nr, force),
            Stage::Durable if ready => {
                if self.is_up() && self.volume(nr).state.conn >= ConnState::WFReportParams {
                    self.send_state(nr);
                }
                self.announce_device(nr);
                self.admin_done(Ok(()));
            }
            _ => {}
        }
    }

    fn try_promote(&mut self, nr: VolumeNr, force: bool) {
        if self.has_writes_of_lost_peer(nr) {
            // (L18) They would come over what users write from now on.
            return;
        }
        let Some(op) = &self.admin.current else {
            return;
        };
        let (forced, fence) = (op.forced, op.fence);
        let consistent = self.volume(nr).state.disk == DiskState::Consistent;
        let mut change = Change::role(Role::Primary);
        let fenced = fence == Fencing::Fenced && self.may_fence() && self.is_peer_fenced();
        if forced || fenced && consistent {
            change = change.and_disk(DiskState::UpToDate);
        }
        if fence == Fencing::Forced {
            change = change.and_pdsk(DiskState::Outdated);
        }
        match self.ask_change(nr, change) {
            Asked::Wait | Asked::Done(Err(StateError::InTransientState)) => {
                self.wait_for_resync(nr, force);
            }
            Asked::Done(Ok(2)) => self.admin_done(Ok(())),
            Asked::Done(Ok(_)) => self.promote(nr, forced),
            Asked::Done(Err(StateError::NoUpToDateDisk))
                if force
                    && !forced
                    && matches!(
                        self.volume(nr).state.disk,
                        DiskState::Inconsistent | DiskState::Outdated | DiskState::Consistent
                    ) =>
            {
                if let Some(op) = &mut self.admin.current {
                    op.forced = true;
                }
                self.try_promote(nr, force);
            }
            Asked::Done(Err(error @ (StateError::NoUpToDateDisk | StateError::PrimaryNop)))
                if fence == Fencing::NotAsked
                    && (error == StateError::PrimaryNop || consistent)
                    && (self.may_fence() || self.volume(nr).state.awaits_word()) =>
            {
                self.fence_for_promotion(nr, force, error);
            }
            Asked::Done(Err(StateError::TwoPrimaries))
                if self.admin.current.as_ref().is_some_and(|op| !op.retried) =>
            {
                // The peer may be about to find out that it is dead, or we that it is.
                if let Some(op) = &mut self.admin.current {
                    op.retried = true;
                }
                self.set_stage(Stage::Pause);
                let at = self.now.plus_ms(self.net.ping_timeout_ms() + 100);
                self.set_timer(Timer::Admin, at);
            }
            Asked::Done(Err(error)) => {
                if error != StateError::FailedByPeer {
                    self.log_refusal(nr, error, change);
                }
                self.admin_state_error(error);
            }
        }
    }

    /// Whether a promotion can have the peer fenced: it is away.
    fn may_fence(&self) -> bool {
        self.net.cstate < ConnState::WFReportParams
    }

    /// Alone this node is Primary only if the peer cannot become so too.
    fn fence_for_promotion(&mut self, nr: VolumeNr, force: bool, refusal: StateError) {
        self.set_fencing(Fencing::Asked(refusal));
        match self.fence_peer() {
            Fenced::Asked => self.set_stage(Stage::Fence),
            Fenced::Yes | Fenced::No => self.promote_fenced(nr, force),
        }
    }

    /// The fence procedure has come to its end.
    fn promote_fenced(&mut self, nr: VolumeNr, force: bool) {
        let fence = self.admin.current.as_ref().map(|op| op.fence);
        let Some(Fencing::Asked(refusal)) = fence else {
            return;
        };
        self.set_stage(Stage::Change);
        if self.volume(nr).state.awaits_word() {
            self.log_refusal(nr, refusal, Change::role(Role::Primary));
            self.admin_state_error(refusal);
        } else if !self.may_fence() {
            self.set_fencing(Fencing::NotAsked); // it has come back
            self.try_promote(nr, force);
        } else if self.is_peer_fenced() {
            self.set_fencing(Fencing::Fenced);
            self.try_promote(nr, force);
        } else if force && refusal == StateError::PrimaryNop {
            self.log_volume(Level::Warn, nr, "Forced into split brain situation!");
            self.set_fencing(Fencing::Forced);
            self.try_promote(nr, force);
        } else {
            self.log_refusal(nr, refusal, Change::role(Role::Primary));
            self.admin_state_error(refusal);
        }
    }

    fn set_fencing(&mut self, fence: Fencing) {
        if let Some(op) = &mut self.admin.current {
            op.fence = fence;
        }
    }

    /// (L41) A promotion waits beside a peer that has the data: a resync may be about to begin (2.6, row 8). If nothing changes
    /// for a ping timeout there will be none, and users can be served with what the peer has.
    fn wait_for_resync(&mut self, nr: VolumeNr, force: bool) {
        let state = self.volume(nr).state;
        let at = self.now.plus_ms(self.net.ping_timeout_ms() + 100);
        let (asks, now) = (self.asks_peer(), self.now);
        let Some(op) = self.admin.current.as_mut().filter(|_| !asks) else {
            return;
        };
        match op.waits_since {
            Some((then, at)) if then == state => {
                if at <= now && !op.settled {
                    op.settled = true;
                    self.try_promote(nr, force);
                }
            }
            _ => {
                op.settled = false;
                op.waits_since = Some((state, at));
                self.set_timer(Timer::Admin, at);
            }
        }
    }

    fn promote(&mut self, nr: VolumeNr, forced: bool) {
        if forced {
            self.log_volume(
                Level::Warn,
                nr,
                "Forced to consider local data as UpToDate!",
            );
        }
        self.net.discard_my_data = false;
        if let Some(disk) = self.volume_mut(nr).disk.get_mut() {
            // (L29) What the peer's users flushed may be in the cache of this disk, which is about to outrank the peer's.
            disk.record_mut().flush_before();
        }
        self.set_stage(Stage::Durable);
        self.after.push_back(Follow::Promoted { nr, forced });
    }

    /// What has followed from the new role has followed.
    pub(in crate::router) fn promoted(&mut self, nr: VolumeNr, forced: bool) {
        let volume = self.volume(nr);
        let state = volume.state;
        let lonely = volume.is_without_peer();
        let peer = volume
            .peer
            .ids
            .filter(|_| state.disk < DiskState::Inconsistent && state.pdsk == DiskState::UpToDate);
        if let Some(peer) = peer {
            // Users see the peer's data from now on, whatever a disk of ours held when it was last here.
            self.volume_mut(nr).exposed.show(peer.ids.current);
        }
        let Some(disk) = self.volume(nr).disk.get() else {
            self.admin_ready(Stage::Durable);
            self.step_admin();
            return;
        };
        let replicates = self.is_up() && state::should_replicate(state);
        // (L2) Or while the bitmaps are exchanged under one name: what users write before the resync begins is here alone.
        let unnamed = state.disk == DiskState::UpToDate
            && !replicates
            && disk.record().ids().bitmap.is_empty()
            && disk.record().may_share_name();
        if forced || lonely && disk.record().may_share_name() || unnamed {
            self.new_current_uuid(nr, lonely);
        }
        // What users write is here alone until the resync begins, under the name that the peer may have.
        let ids = self.disk_mut(nr).record_mut().promote(!replicates);
        let current = ids.current;
        self.volume_mut(nr).exposed.show(current);
        // The mark that this disk is a Primary's is durable before the first write (I2).
        let then = self.then_admin();
        self.md(nr, MdKind::SUPERBLOCK, then);
    }

    pub(super) fn step_secondary(
        &mut self,
        nr: VolumeNr,
        held_open: bool,
        stage: Stage,
        ready: bool,
    ) {
        let change = Change::role(Role::Secondary);
        match stage {
            Stage::Start => {
                self.admin.held_open = held_open.then_some(nr);
                if self.volume(nr).state.role == Role::Secondary {
                    self.admin_done(Ok(()));
                    return;
                }
                match state::request(self.volume(nr).state, change, &self.context(nr), false) {
                    Err(StateError::InTransientState) => {}
                    Err(error) => {
                        self.log_refusal(nr, error, change);
                        self.admin_state_error(error);
                    }
                    Ok(_) => {
                        self.close_epoch();
                        self.send_barrier();
                        self.set_stage(Stage::Drain);
                        self.step_admin();
                    }
                }
            }
            Stage::Drain => {
                let volume = self.volume(nr);
                if volume.application_pending > 0 || volume.writes_open > 0 {
                    return;
                }
                // The bits are durable before the disk stops being a Primary's (I8), and so is the data (L15): no log will
                // tell any more what a power cut may have taken.
                self.set_stage(Stage::Bitmap);
                if self.volume(nr).has_usable_disk() {
                    self.md(nr, MdKind::FlushData, Then::Nothing);
                    let then = self.then_admin();
                    self.md(nr, MdKind::ChangedPages, then);
                } else {
                    self.admin_ready(Stage::Bitmap);
                    self.step_admin();
                }
            }
            Stage::Bitmap if ready => self.demote(nr, change),
            Stage::Durable if ready => self.admin_done(Ok(())),
            _ => {}
        }
    }

    /// The bitmap is written: the role is given up, unless requests have come meanwhile.
    fn demote(&mut self, nr: VolumeNr, change: Change) {
        let volume = self.volume(nr);
        if volume.application_pending > 0 || volume.writes_open > 0 {
            self.set_stage(Stage::Drain);
            return;
        }
        match self.change(nr, change, false) {
            Err(StateError::InTransientState) => return,
            Err(error) => {
                self.log_refusal(nr, error, change);
                self.admin_state_error(error);
                return;
            }
            Ok(_) => {}
        }
        self.set_stage(Stage::Durable);
        self.after.push_back(Follow::Demoted(nr));
    }

    /// What has followed from the role's end has followed: what must be written before the mark goes is queued.
    pub(in crate::router) fn demoted(&mut self, nr: VolumeNr) {
        // Its users' writes have all ended, and the peer has them: a name for nothing would be a fork of what the peer goes on with.
        self.volume_mut(nr).frozen.owe_nothing();
        self.emit(Effect::Device {
            volume: nr,
            device: None,
        });
        if self.is_up() && self.volume(nr).state.conn >= ConnState::WFReportParams {
            self.send_state(nr);
        }
        if self.volume(nr).has_usable_disk() {
            self.disk_mut(nr).record_mut().set_primary_bit(false);
            let then = self.then_admin();
            self.md(nr, MdKind::SUPERBLOCK, then);
        } else {
            self.admin_done(Ok(()));
        }
    }
}
