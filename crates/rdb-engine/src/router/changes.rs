//! Changes of a volume's state: asked for, made, and what follows at once (`docs/spec/behaviour.md`, sections 2.6 and 2.11). What
//! follows later is in `router/after.rs`.

use alloc::format;
use alloc::vec::Vec;

use crate::config::OnNoData;
use crate::effect::{Effect, Level};
use crate::event::{ConnTimer, Payload};
use crate::follow::Follow;
use crate::generation::Generation;
use crate::ids::VolumeNr;
use crate::planted::Bug;
use crate::router::Resource;
use crate::rules::packets::Past;
use crate::rules::record;
use crate::rules::resync::{self, TargetRecord};
use crate::rules::serving::stays_open;
use crate::state::{
    self, Change, ConnState, Context, DiskState, Fencing, ImmediateEffects, Outcome, Role,
    StateError, VolumeState,
};
use rdb_meta::MdFlags;

impl<P: Payload> Resource<P> {
    /// What the state tables look at beside the record.
    pub(super) fn context(&self, nr: VolumeNr) -> Context {
        let volume = self.volume(nr);
        let disk_uuid = volume
            .disk
            .get()
            .map_or(Generation::NONE, |d| d.record().ids().current);
        Context {
            net_configured: self.net.options.is_some(),
            two_primaries: false,
            peer_primary_on_other_volume: self
                .volumes
                .iter()
                .any(|v| v.nr != nr && v.state.peer == Role::Primary),
            device_open: self.admin.is_held_open(nr),
            fencing: volume
                .disk
                .get()
                .map_or(Fencing::DontCare, |d| d.options().fencing),
            suspend_on_no_data: self.options.on_no_data == OnNoData::SuspendIo,
            verify_alg_set: self.net.comparison.has_verify(),
            agreed_version: self.net.agreed.version().0,
            state_sent: self.net.link.is_exchanging(),
            exposed_uuid_matches_disk: volume.shown(disk_uuid).is_seen_last(),
            negotiated: volume
                .peer
                .negotiated
                .map_or((DiskState::Diskless, DiskState::DUnknown), |worth| {
                    (worth.own, worth.peer)
                }),
            invalidated: volume.invalidated,
            ordered_here: self.admin.orders_sync(nr),
            settled: self.admin.settled(nr),
        }
    }

    /// Asks for a change of one volume's state and makes it if the rules allow it. A `fact` cannot be refused but by a
    /// move that is impossible.
    pub(super) fn change(
        &mut self,
        nr: VolumeNr,
        change: Change,
        fact: bool,
    ) -> Result<i32, StateError> {
        let old = self.volume(nr).state;
        let outcome = state::request(old, change, &self.context(nr), fact)?;
        let code = outcome.code();
        if let Outcome::Changed(new, notes) = outcome {
            for line in notes.lines() {
                self.log_volume(Level::Warn, nr, line);
            }
            if let Some(line) = state::change_log(old, new) {
                self.log_volume(Level::Info, nr, line);
            }
            self.commit_state(nr, new);
            self.share_suspension();
        }
        Ok(code)
    }

    /// Records a fact. An impossible move is our own mistake: it is logged and nothing changes.
    pub(super) fn fact(&mut self, nr: VolumeNr, change: Change) {
        if let Err(error) = self.change(nr, change, true)
            && error != StateError::InTransientState
        {
            let text = format!("impossible state change refused: {error} ({change:?})");
            self.log_volume(Level::Error, nr, text);
        }
    }

    /// Says why a change was refused, in DRBD's form.
    pub(super) fn log_refusal(&mut self, nr: VolumeNr, error: StateError, change: Change) {
        let state = self.volume(nr).state;
        let wanted = state::sanitize(state, state.apply(change), &self.context(nr)).state;
        for line in state::refusal_log(error, state, wanted) {
            self.log_volume(Level::Error, nr, line);
        }
    }

    /// Changes the state of the connection, and with it of every volume. Nothing changes if one volume refuses.
    pub(super) fn change_connection(
        &mut self,
        change: Change,
        fact: bool,
    ) -> Result<i32, StateError> {
        let mut news: Vec<(VolumeNr, VolumeState, VolumeState)> = Vec::new();
        for nr in self.volume_numbers() {
            let old = self.volume(nr).state;
            match state::request(old, change, &self.context(nr), fact)? {
                Outcome::NothingToDo => {}
                Outcome::Changed(new, notes) => {
                    for line in notes.lines() {
                        self.log_volume(Level::Warn, nr, line);
                    }
                    news.push((nr, old, new));
                }
            }
        }
        let old_cstate = self.net.cstate;
        if let Some(conn) = change.conn {
            if self.volumes.is_empty() {
                state::is_legal_move(old_cstate, conn)?;
            }
            self.net.cstate = conn;
        }
        if news.is_empty() && self.net.cstate == old_cstate {
            return Ok(2);
        }
        let lines: Vec<_> = news
            .iter()
            .map(|(_, old, new)| state::change_log(*old, *new))
            .collect();
        if lines.is_empty() {
            let line = format!("conn( {old_cstate} -> {} ) ", self.net.cstate);
            self.log(Level::Info, line);
        } else if lines.iter().all(|l| *l == lines[0]) {
            if let Some(Some(line)) = lines.into_iter().next() {
                self.log(Level::Info, line);
            }
        } else {
            for ((nr, ..), line) in news.iter().zip(lines) {
                if let Some(line) = line {
                    self.log_volume(Level::Info, *nr, line);
                }
            }
        }
        for (nr, _, new) in news {
            self.commit_state(nr, new);
        }
        self.share_suspension();
        Ok(1)
    }

    /// Puts a new record in place, with its immediate effects (`docs/spec/behaviour.md`, section 2.11).
    pub(super) fn commit_state(&mut self, nr: VolumeNr, new: VolumeState) {
        let volume = self.volume_mut(nr);
        let old = core::mem::replace(&mut volume.state, new);
        self.note_trouble(nr, old, new);
        if old.conn != new.conn {
            self.handling.forget_resync(nr);
            match resync::target(old.conn, new.conn) {
                Some(TargetRecord::Unproven) => self.volume_mut(nr).peer.resync.doubt_target(),
                Some(TargetRecord::Proven) => self.target_proven(nr),
                None => {}
            }
        }
        let volume = self.volume_mut(nr);
        if new.conn >= ConnState::Connected {
            volume.peer.past |= Past::of(new.conn);
            if old.disk == DiskState::Negotiating && new.disk < DiskState::Negotiating {
                volume.peer.past |= Past::GIVEN_UP;
            }
        }
        let effects = state::immediate(old, new);
        volume.invalidated = state::is_invalidated(new, volume.invalidated);
        if resync::early_uuid_is_over(old.conn, new.conn) {
            volume.peer.resync.forget_early_uuid();
        }
        volume.peer.source_open = stays_open(&new, volume.peer.source_open);
        volume.passed_on &= new.conn > ConnState::Connected && new.disk == DiskState::UpToDate;
        self.note_flags(nr, new);
        self.do_at_once(nr, new, effects);
        self.emit(Effect::StateChanged {
            volume: nr,
            old,
            new,
        });
        self.after.push_back(Follow::Changed(nr, old, new));
    }

    /// What the record of the disk says of the state from now on.
    pub(super) fn note_flags(&mut self, nr: VolumeNr, new: VolumeState) {
        let forgets = self.planted(Bug::ForgetPeerOutdated);
        let volume = self.volume_mut(nr);
        let Some(disk) = volume.disk.get_mut() else {
            return;
        };
        let facts = record::Facts {
            state: new,
            crashed: volume.crashed_primary,
            invalidated: volume.invalidated,
            fencing: disk.options().fencing,
            may_share_name: disk.record().may_share_name(),
        };
        let Some(mut flags) = record::flags(&facts, disk.record().flags()) else {
            return;
        };
        if forgets {
            flags.remove(MdFlags::PEER_OUT_DATED);
        }
        disk.record_mut().note_flags(flags);
    }

    fn do_at_once(&mut self, nr: VolumeNr, new: VolumeState, effects: ImmediateEffects) {
        use ImmediateEffects as Now;

        let now = self.now;
        let volume = self.volume_mut(nr);
        if let Some(disk) = volume.disk.get_mut() {
            if effects.contains(Now::EXPOSE_DISK) {
                volume.exposed.show(disk.record().ids().current);
            }
            if effects.contains(Now::CONNECTED) && disk.resume_log() {
                self.log_volume(Level::Info, nr, "Resumed AL updates");
            }
        }
        let volume = self.volume_mut(nr);
        if effects.contains(Now::CONSIDER_RESYNC) {
            volume.peer.consider_resync = true;
        }
        if effects.contains(Now::RESYNC_CONTINUES) {
            volume.peer.resync.resume(now);
            self.log_volume(Level::Info, nr, "Syncer continues.");
            self.set_conn_timer(ConnTimer::ResyncStep(nr), now);
        }
        if effects.contains(Now::RESYNC_SUSPENDED) {
            self.volume_mut(nr).peer.resync.pause(now);
            self.log_volume(Level::Info, nr, "Resync suspended");
        }
        if effects.contains(Now::ATTACHED) {
            let ids = self.volume(nr).disk.get().map(|d| d.record().ids());
            if let Some(ids) = ids {
                self.log_volume(Level::Info, nr, format!("attached to UUIDs {ids}"));
            }
        }
        if effects.contains(Now::CLOSE_EPOCH) {
            self.close_epoch();
        }
        if effects.contains(Now::LEFT_WF_REPORT_PARAMS) && new.conn >= ConnState::Connected {
            self.net.meetings.forgive();
        }
        if effects.contains(Now::LEFT_WF_REPORT_PARAMS) {
            self.end_exchange_if_all_told();
        }
    }

    /// Runs what is to follow from what has happened so far, in order.
    pub(super) fn run_after(&mut self) {
        if !self.after.is_empty() {
            self.run_all_after(); // (most events have nothing that follows, and ask three times)
        }
    }

    fn run_all_after(&mut self) {
        while let Some(follow) = self.after.pop_front() {
            if !self.volumes.contains(follow.volume()) {
                continue;
            }
            match follow {
                Follow::Changed(nr, old, new) => self.after_change(nr, old, new),
                Follow::Promoted { nr, forced } => self.promoted(nr, forced),
                Follow::Demoted(nr) => self.demoted(nr),
                Follow::RetryWaiting(nr) => self.retry_waiting(nr),
                // Behind every change: users are told of something.
                Follow::Thawed(_) if self.decides_more() => self.after.push_back(follow),
                Follow::Thawed(nr) => self.release_frozen(nr),
            }
        }
    }
}
