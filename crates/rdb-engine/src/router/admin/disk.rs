//! Commands about a disk and its data (`docs/spec/behaviour.md`, sections 6.7 and 12.6 to 12.12).

use replica_proto::UuidFlags;

use crate::admin::{Asked, Stage};
use crate::disk::{MdKind, Then};
use crate::event::Payload;
use crate::ids::VolumeNr;
use crate::router::Resource;
use crate::rules::disk_reason::Lost;
use crate::rules::record::is_left_to_peer;
use crate::state::{self, Change, ConnState, DiskState, Role, StateError};

impl<P: Payload> Resource<P> {
    pub(super) fn step_detach(&mut self, nr: VolumeNr, force: bool, stage: Stage) {
        self.volume_mut(nr).detaching = true;
        self.detach(nr, force, stage);
        self.volume_mut(nr).detaching = false;
    }

    fn detach(&mut self, nr: VolumeNr, force: bool, stage: Stage) {
        let gone =
            self.volume(nr).state.disk == DiskState::Diskless && self.volume(nr).disk.is_empty();
        match stage {
            _ if gone => self.admin_done(Ok(())),
            Stage::Start if force => {
                self.fact(nr, Change::disk(DiskState::Failed));
                self.limit_last_answers(nr);
                self.admin_done(Ok(()));
            }
            // (L8) A node that is gone may have called them done for our having received them. (Those that wait for space it has
            // no end to wait for: the order counts more.)
            Stage::Start if self.has_writes_of_lost_peer(nr) && !self.waits_for_space(nr) => {}
            Stage::Start | Stage::Flush(_)
                if !self.admin.has_asked() && !self.peer_has_flushed(stage) => {}
            Stage::Start | Stage::Flush(_) => {
                match self.ask_change(nr, Change::disk(DiskState::Failed)) {
                    Asked::Wait => {}
                    Asked::Done(Ok(_)) => {
                        self.leave_to_the_peer(nr);
                        self.admin.enter(Stage::Detaching);
                    }
                    Asked::Done(Err(error)) => {
                        if error != StateError::FailedByPeer {
                            self.log_refusal(nr, error, Change::disk(DiskState::Failed));
                        }
                        self.admin_state_error(error);
                    }
                }
            }
            _ => {}
        }
    }

    /// (L45) Beside a good disk, which goes on, the one that is being detached lacks from now on what is written.
    fn leave_to_the_peer(&mut self, nr: VolumeNr) {
        let goes_on = self.is_up() && is_left_to_peer(&self.volume(nr).state);
        if let Some(disk) = self.volume_mut(nr).disk.get_mut() {
            disk.record_mut().leave_to_peer(goes_on);
        }
    }

    pub(super) fn step_invalidate(&mut self, nr: VolumeNr, stage: Stage, ready: bool, local: bool) {
        let state = self.volume(nr).state;
        if stage == Stage::Durable {
            if ready {
                self.admin_done(Ok(()));
            }
            return;
        }
        if !self.volume(nr).has_usable_disk() && !self.admin.has_asked() {
            self.admin_refused(138, "the volume has no disk");
            return;
        }
        let alone = state.conn == ConnState::StandAlone;
        let whose = if local {
            Role::Secondary
        } else {
            Role::Primary
        };
        if alone && state.role == whose {
            let bad = DiskState::Inconsistent;
            let change = if local {
                Change::disk(bad)
            } else {
                Change::pdsk(bad)
            };
            match self.change(nr, change, false) {
                Err(error) => self.admin_state_error(error),
                Ok(_) => {
                    if local {
                        self.note_lost(nr, Lost::Invalidated);
                    }
                    self.admin.enter(Stage::Durable);
                    let then = self.then_admin();
                    self.md_full_sync(nr, then);
                }
            }
            return;
        }
        if local && !self.admin.has_asked() && !self.peer_has_flushed(stage) {
            return;
        }
        // The state that a full sync begins with would raise the source's disk to UpToDate, whatever it holds (2.4).
        let source = if local { state.pdsk } else { state.disk };
        if state.conn == ConnState::Connected
            && !self.admin.has_asked()
            && source != DiskState::UpToDate
        {
            self.admin_state_error(StateError::NoUpToDateDisk);
            return;
        }
        let conn = if local {
            ConnState::StartingSyncT
        } else {
            ConnState::StartingSyncS
        };
        match self.ask_change(nr, Change::conn(conn)) {
            Asked::Wait => {}
            Asked::Done(Ok(_)) if !self.volume(nr).has_usable_disk() => {
                self.admin_refused(138, "the volume has lost its disk meanwhile");
            }
            Asked::Done(Ok(_)) if self.volume(nr).state.conn == ConnState::Connected => {
                // The peer, which has agreed, has lost its disk meanwhile, and took the data to be replaced for given up: they are not.
                self.send_state(nr);
                self.admin_state_error(match local {
                    true => StateError::NoUpToDateDisk,
                    false => StateError::NoRemoteDisk,
                });
            }
            Asked::Done(Ok(_)) => self.admin_done(Ok(())),
            Asked::Done(Err(error)) => {
                if error != StateError::FailedByPeer {
                    self.log_refusal(nr, error, Change::conn(conn));
                }
                self.admin_state_error(error);
            }
        }
    }

    /// (9.9) A verify that this node drives already only hears where to stop.
    pub(super) fn step_verify(&mut self, nr: VolumeNr, start: Option<u64>, stop: Option<u64>) {
        let state = self.volume(nr).state;
        let change = Change::conn(ConnState::VerifyS);
        let done = if state.is_connected() && !state::is_there(state.disk) {
            // (The driver calls these two a success, and does nothing.)
            Err(StateError::NoLocalDisk)
        } else if state.is_connected() && !state::is_there(state.pdsk) {
            Err(StateError::NoRemoteDisk)
        } else {
            self.volume_mut(nr).peer.verify.order(start, stop);
            match self.ask_change(nr, change) {
                Asked::Wait => return,
                Asked::Done(done) => done.map(|_| ()),
            }
        };
        if let Err(error) = done {
            if error != StateError::FailedByPeer {
                self.log_refusal(nr, error, change);
            }
            self.admin_state_error(error);
            return;
        }
        self.admin_done(Ok(()));
    }

    pub(super) fn step_outdate(&mut self, nr: VolumeNr, stage: Stage, ready: bool) {
        let change = Change::disk(DiskState::Outdated);
        // On its way in, or out: what it will be is not decided, or is and cannot be changed.
        let passing = [
            DiskState::Attaching,
            DiskState::Negotiating,
            DiskState::Failed,
        ];
        let disk = self.volume(nr).state.disk;
        if stage == Stage::Start && passing.contains(&disk) {
            return;
        }
        match stage {
            // (L33) While Connected an Outdated disk is raised to UpToDate: one that is worse must not get there.
            Stage::Start if disk == DiskState::Inconsistent => {
                self.log_refusal(nr, StateError::LowerThanOutdated, change);
                self.admin_state_error(StateError::LowerThanOutdated);
            }
            Stage::Start => match self.change(nr, change, false) {
                Err(StateError::InTransientState) => {}
                Err(error) => {
                    self.log_refusal(nr, error, change);
                    self.admin_state_error(error);
                }
                // (L39) The state record of a connected node takes it back at once: who asked must not believe it.
                Ok(2) if disk != DiskState::Outdated => {
                    self.log_refusal(nr, StateError::ConnectedOutdates, change);
                    self.admin_state_error(StateError::ConnectedOutdates);
                }
                Ok(_) => {
                    if self.volume(nr).state.is_connected() {
                        self.send_state(nr);
                    }
                    // Confirmed only when it is on record (I21), which it need not be if it was Outdated before.
                    self.admin.enter(Stage::Durable);
                    let then = self.then_admin();
                    self.md(nr, MdKind::SUPERBLOCK, then);
                }
            },
            _ if ready => self.admin_done(Ok(())),
            _ => {}
        }
    }

    pub(super) fn step_new_current_uuid(
        &mut self,
        nr: VolumeNr,
        clear_bitmap: bool,
        stage: Stage,
        ready: bool,
    ) {
        if stage == Stage::Durable {
            if ready {
                self.new_current_uuid_durable(nr, clear_bitmap);
            }
            return;
        }
        let state = self.volume(nr).state;
        if !self.volume(nr).has_usable_disk() {
            self.admin_refused(138, "the volume has no disk");
            return;
        }
        let random = self.random();
        let is_primary = state.role == Role::Primary;
        let is_fresh = self.volume(nr).is_fresh();
        let skip = state.conn == ConnState::Connected && is_fresh && clear_bitmap;
        if !skip && state.conn != ConnState::StandAlone {
            self.admin_refused(
                151,
                "only with StandAlone, or to skip the first sync of two fresh disks",
            );
            return;
        }
        let disk = self.disk_mut(nr);
        let old = disk.record().ids();
        disk.record_mut()
            .new_current_by_order(random, is_primary, clear_bitmap);
        let ids = disk.record().ids();
        self.volume_mut(nr).exposed.show(ids.current);
        self.tell_generation(nr, old, ids);
        self.admin.enter(Stage::Durable);
        if clear_bitmap {
            self.disk_mut(nr).resume_log();
            // Identifiers first: a crash in between leaves too many bits, never too few (T23).
            self.md(nr, MdKind::SUPERBLOCK, Then::Nothing);
            self.md(nr, MdKind::ClearAllPages, Then::Nothing);
        }
        let then = self.then_admin();
        self.md(nr, MdKind::SUPERBLOCK, then);
    }

    fn new_current_uuid_durable(&mut self, nr: VolumeNr, clear_bitmap: bool) {
        let state = self.volume(nr).state;
        if clear_bitmap && state.conn == ConnState::Connected {
            self.send_uuids_with(nr, UuidFlags::SKIP_INITIAL_SYNC);
            let ids = self.disk_mut(nr).record_mut().declare_equal();
            if let Some(peer) = &mut self.volume_mut(nr).peer.ids {
                // It takes them and does not answer. The end of a resync from it would bring back what it had before.
                peer.ids = ids;
            }
            self.fact(
                nr,
                Change::disk(DiskState::UpToDate).and_pdsk(DiskState::UpToDate),
            );
        }
        self.admin_done(Ok(()));
    }

    pub(super) fn step_pause(&mut self, nr: VolumeNr, pause: bool) {
        let change = Change {
            user_isp: Some(pause),
            ..Change::default()
        };
        match self.change(nr, change, false) {
            Err(StateError::InTransientState) => {}
            Err(error) => self.admin_state_error(error),
            Ok(2) => {
                let (code, info) = if pause {
                    (134, "already paused here")
                } else {
                    (135, "not paused here")
                };
                self.admin_refused(code, info);
            }
            Ok(_) => self.admin_done(Ok(())),
        }
    }
}
