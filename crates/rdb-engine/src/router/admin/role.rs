//! `primary` and `secondary` (`docs/spec/behaviour.md`, sections 12.1 and 12.2).

use crate::admin::promotion::{self, Next, Wait};
use crate::admin::{Asked, Stage};
use crate::disk::{MdKind, Then};
use crate::effect::{Effect, Level};
use crate::event::{Payload, Timer};
use crate::fencing::Fenced;
use crate::follow::Follow;
use crate::ids::VolumeNr;
use crate::net::PingWaiter;
use crate::router::Resource;
use crate::rules::promotion::Promoted;
use crate::rules::serving::shows_peers;
use crate::state::{self, Change, ConnState, Role, StateError};

impl<P: Payload> Resource<P> {
    pub(super) fn step_primary(&mut self, nr: VolumeNr, force: bool, stage: Stage, ready: bool) {
        match stage {
            Stage::Start => {
                if self.is_up() {
                    self.admin.enter(Stage::Ping);
                    self.ping(Some(PingWaiter::Admin));
                } else {
                    self.admin.enter(Stage::Change);
                    self.try_promote(nr, force);
                }
            }
            Stage::Ping | Stage::Pause if ready => {
                self.admin.enter(Stage::Change);
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
        let facts = self.promotion_facts(nr, force);
        let Some(promotion) = self.admin.promotion_mut() else {
            return;
        };
        let (change, forced) = (promotion.change(&facts), promotion.is_forced());
        match self.ask_change(nr, change) {
            Asked::Wait | Asked::Done(Err(StateError::InTransientState)) => {
                self.wait_for_resync(nr, force);
            }
            Asked::Done(Ok(2)) => self.admin_done(Ok(())),
            Asked::Done(Ok(_)) => self.promote(nr, forced),
            Asked::Done(Err(error)) => {
                let facts = self.promotion_facts(nr, force);
                if let Some(promotion) = self.admin.promotion_mut() {
                    let next = promotion.refused(error, &facts);
                    self.after_refusal(nr, force, change, next);
                }
            }
        }
    }

    fn promotion_facts(&self, nr: VolumeNr, force: bool) -> promotion::Facts {
        let state = self.volume(nr).state;
        promotion::Facts {
            force,
            state,
            away: self.net.cstate < ConnState::WFReportParams,
            fenced: self.is_peer_fenced(),
        }
    }

    /// The change was refused, or the fence procedure has ended.
    fn after_refusal(&mut self, nr: VolumeNr, force: bool, change: Change, next: Next) {
        match next {
            Next::Again => self.try_promote(nr, force),
            Next::AgainBesideThePeer => {
                self.log_volume(Level::Warn, nr, "Forced into split brain situation!");
                self.try_promote(nr, force);
            }
            Next::Fence => match self.fence_peer() {
                Fenced::Asked => self.admin.enter(Stage::Fence),
                Fenced::Yes | Fenced::No => self.promote_fenced(nr, force),
            },
            Next::Pause => {
                self.admin.enter(Stage::Pause);
                let at = self.now.plus_ms(self.net.ping_timeout_ms() + 100);
                self.set_timer(Timer::Admin, at);
            }
            Next::Refused(error) => {
                if error != StateError::FailedByPeer {
                    self.log_refusal(nr, error, change);
                }
                self.admin_state_error(error);
            }
        }
    }

    /// The fence procedure has come to its end.
    fn promote_fenced(&mut self, nr: VolumeNr, force: bool) {
        let facts = self.promotion_facts(nr, force);
        let promotion = self.admin.promotion_mut();
        if let Some(next) = promotion.and_then(|promotion| promotion.fencing_ended(&facts)) {
            self.admin.enter(Stage::Change);
            self.after_refusal(nr, force, Change::role(Role::Primary), next);
        }
    }

    /// (L41) A promotion waits beside a peer that has the data: a resync may be about to begin (2.6, row 8). If nothing changes
    /// for a ping timeout there will be none, and users can be served with what the peer has.
    fn wait_for_resync(&mut self, nr: VolumeNr, force: bool) {
        let state = self.volume(nr).state;
        let patience = self.net.ping_timeout_ms() + 100;
        let (asks, now) = (self.asks_peer(), self.now);
        let Some(promotion) = self.admin.promotion_mut().filter(|_| !asks) else {
            return;
        };
        match promotion.wait(state, now, patience) {
            Wait::Until(at) => self.set_timer(Timer::Admin, at),
            Wait::Over => self.try_promote(nr, force),
            Wait::On => {}
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
        self.net.attempt.keep_data();
        if let Some(disk) = self.volume_mut(nr).disk.get_mut() {
            // (L29) What the peer's users flushed may be in the cache of this disk, which is about to outrank the peer's.
            disk.record_mut().flush_before();
        }
        self.admin.enter(Stage::Durable);
        self.after.push_back(Follow::Promoted { nr, forced });
    }

    /// What has followed from the new role has followed.
    pub(in crate::router) fn promoted(&mut self, nr: VolumeNr, forced: bool) {
        let volume = self.volume(nr);
        let state = volume.state;
        let promoted = Promoted {
            state,
            replicates: self.is_up() && state::should_replicate(state),
            forced,
        };
        let peer = volume.peer.ids.filter(|_| shows_peers(&state));
        if let Some(peer) = peer {
            self.volume_mut(nr).exposed.show(peer.ids.current);
        }
        let Some(disk) = self.volume(nr).disk.get() else {
            self.admin.ready(Stage::Durable);
            self.step_admin();
            return;
        };
        if promoted.begins(&disk.record().names()).is_some() {
            self.new_current_uuid(nr, state.is_without_peer());
        }
        let ids = self.disk_mut(nr).record_mut().promote(promoted.replicates);
        let current = ids.current;
        self.volume_mut(nr).exposed.show(current);
        // The mark that this disk is a Primary's is durable before the first write (I2).
        let then = self.then_admin();
        self.md(nr, MdKind::SUPERBLOCK, then);
    }

    pub(super) fn step_secondary(&mut self, nr: VolumeNr, stage: Stage, ready: bool) {
        let change = Change::role(Role::Secondary);
        match stage {
            Stage::Start => {
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
                        self.admin.enter(Stage::Drain);
                        self.step_admin();
                    }
                }
            }
            Stage::Drain => {
                let volume = self.volume(nr);
                if volume.users.are_busy() {
                    return;
                }
                // The bits are durable before the disk stops being a Primary's (I8), and so is the data (L15): no log will
                // tell any more what a power cut may have taken.
                self.admin.enter(Stage::Bitmap);
                if self.volume(nr).has_usable_disk() {
                    self.md(nr, MdKind::FlushData, Then::Nothing);
                    let then = self.then_admin();
                    self.md(nr, MdKind::ChangedPages, then);
                } else {
                    self.admin.ready(Stage::Bitmap);
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
        if volume.users.are_busy() {
            self.admin.enter(Stage::Drain);
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
        self.admin.enter(Stage::Durable);
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
