//! Administrative commands: one at a time a resource, each a little machine that is looked at after every event until
//! it has an answer (`docs/spec/behaviour.md`, section 12).

use alloc::collections::VecDeque;
use alloc::format;

use replica_proto::{Packet, StateChange, StateWord, UuidFlags};

use crate::config::NetOptions;
use crate::effect::{AdminError, Effect, Level};
use crate::event::{Command, Payload, Timer};
use crate::ids::{AdminId, VolumeNr};
use crate::metadata::{MdKind, Then};
use crate::net::PingWaiter;
use crate::resource::Resource;
use crate::state::{self, Change, ConnState, DiskState, Outcome, Role, StateError};
use crate::volume::Volume;

/// The commands of a resource.
#[derive(Debug, Default)]
pub(crate) struct Admin {
    queue: VecDeque<(AdminId, Command)>,
    current: Option<Op>,
    /// A question to the peer.
    ask: Option<Ask>,
    /// The volume whose device the front end says is in use, during a demotion.
    pub(crate) held_open: Option<VolumeNr>,
}

#[derive(Debug)]
struct Op {
    id: AdminId,
    command: Command,
    stage: Stage,
    /// What `stage` waits for has come.
    ready: bool,
    /// The local disk was declared UpToDate by force.
    forced: bool,
    retried: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    /// A ping shows that the peer is alive, or that it is not.
    Ping,
    /// Ask for the change, again after each event, until it is made or refused.
    Change,
    /// A pause before another try.
    Pause,
    /// Requests must end before the role is given up.
    Drain,
    /// Bitmap blocks are written.
    Bitmap,
    /// The superblock is written.
    Durable,
    /// The disk is on its way to Diskless.
    Detaching,
    /// The connection is on its way to StandAlone.
    Leaving,
    /// The attach module ends it.
    Attaching,
}

#[derive(Debug)]
struct Ask {
    /// `None`: the connection.
    volume: Option<VolumeNr>,
    reply: Option<i32>,
    connection: u32,
}

impl Admin {
    /// Whether the peer has been asked about this volume (or connection) and has not answered.
    pub(crate) fn asks_about(&self, volume: Option<VolumeNr>) -> bool {
        self.ask
            .as_ref()
            .is_some_and(|a| a.reply.is_none() && (a.volume == volume || a.volume.is_none()))
    }
}

/// What became of a change that may need the peer.
enum Asked {
    /// Look again after the next event.
    Wait,
    Done(Result<i32, StateError>),
}

impl<P: Payload> Resource<P> {
    pub(crate) fn on_admin(&mut self, id: AdminId, command: Command) {
        self.admin.queue.push_back((id, command));
    }

    /// Looks at the command in progress, or takes the next one. Says whether one ended.
    pub(crate) fn poll_admin(&mut self) -> bool {
        if self.admin.current.is_none() {
            let Some((id, command)) = self.admin.queue.pop_front() else {
                return false;
            };
            self.admin.current = Some(Op {
                id,
                command,
                stage: Stage::Start,
                ready: false,
                forced: false,
                retried: false,
            });
        }
        self.step_admin();
        self.admin.current.is_none()
    }

    pub(crate) fn admin_done(&mut self, result: Result<(), AdminError>) {
        if let Some(op) = self.admin.current.take() {
            self.admin.held_open = None;
            self.admin.ask = None;
            self.emit(Effect::ClearTimer {
                timer: Timer::Admin,
            });
            self.emit(Effect::AdminDone { id: op.id, result });
        }
    }

    fn admin_refused(&mut self, code: u16, info: &str) {
        self.admin_done(Err(AdminError::refused(code, info)));
    }

    fn admin_state_error(&mut self, error: StateError) {
        self.admin_done(Err(AdminError::State(error)));
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(op) = &mut self.admin.current {
            op.stage = stage;
            op.ready = false;
        }
    }

    fn admin_ready(&mut self, stage: Stage) {
        if let Some(op) = self.admin.current.as_mut().filter(|op| op.stage == stage) {
            op.ready = true;
        }
    }

    pub(crate) fn admin_ping_answered(&mut self) {
        self.admin_ready(Stage::Ping);
    }

    pub(crate) fn on_admin_timer(&mut self) {
        self.admin_ready(Stage::Pause);
    }

    pub(crate) fn admin_metadata_done(&mut self, ok: bool) {
        if !ok {
            self.admin_refused(118, "writing the metadata failed");
            return;
        }
        self.admin_ready(Stage::Bitmap);
        self.admin_ready(Stage::Durable);
    }

    pub(crate) fn admin_connection_lost(&mut self) {
        self.admin_ready(Stage::Ping);
        let connection = self.net.connection;
        if self
            .admin
            .ask
            .as_ref()
            .is_some_and(|a| a.connection != connection)
        {
            self.admin.ask = None; // decided without the peer now
        }
    }

    /// P_STATE_CHG_REPLY, P_CONN_ST_CHG_REPLY.
    pub(crate) fn admin_reply(&mut self, volume: Option<VolumeNr>, code: i32) {
        match &mut self.admin.ask {
            Some(ask) if ask.volume == volume && ask.reply.is_none() => ask.reply = Some(code),
            _ => self.log(
                Level::Warn,
                format!("an answer ({code}) to a question that was not asked"),
            ),
        }
    }

    fn step_admin(&mut self) {
        let Some(op) = &self.admin.current else {
            return;
        };
        let command = op.command.clone();
        let (stage, ready) = (op.stage, op.ready);
        if let Some(nr) = command_volume(&command) {
            let exists = self.volumes.contains_key(&nr);
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
                if stage == Stage::Start && !self.net.state_sent {
                    self.set_stage(Stage::Attaching);
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
            Command::Secondary { volume, held_open } => {
                self.step_secondary(volume, held_open, stage, ready)
            }
            Command::Invalidate { volume } => self.step_invalidate(volume, stage, ready, true),
            Command::InvalidateRemote { volume } => {
                self.step_invalidate(volume, stage, ready, false)
            }
            Command::Outdate { volume } => self.step_outdate(volume, stage, ready),
            Command::NewCurrentUuid {
                volume,
                clear_bitmap,
            } => {
                self.step_new_current_uuid(volume, clear_bitmap, stage, ready);
            }
            Command::PauseSync { volume } => self.step_pause(volume, true),
            Command::ResumeSync { volume } => self.step_pause(volume, false),
            Command::DiskOptions { volume, options } => {
                let Some(disk) = self.volume_mut(volume).disk.as_deref_mut() else {
                    return self.admin_refused(138, "the volume has no disk");
                };
                if disk.options.size_sectors != options.size_sectors {
                    return self
                        .admin_refused(126, "size can only be given when the disk is attached");
                }
                if disk.options.al_extents != options.al_extents {
                    return self.admin_refused(
                        122,
                        "al-extents can only be given when the disk is attached",
                    );
                }
                disk.options = options;
                if self.volume(volume).state.conn >= ConnState::Connected {
                    self.send_sync_param(volume);
                }
                self.admin_done(Ok(()));
            }
            Command::NetOptions { options } => self.admin_net_options(options),
        }
    }

    // ---- changes that may need the peer --------------------------------------------------------------------------

    /// Makes a change of one volume, with the peer's consent if it is needed (section 2.7).
    fn ask_change(&mut self, nr: VolumeNr, change: Change) -> Asked {
        if let Some(ask) = &self.admin.ask {
            let Some(code) = ask.reply else {
                return Asked::Wait;
            };
            self.admin.ask = None;
            if !state::is_success(code) {
                let text =
                    StateError::from_code(code).map_or_else(Default::default, |e| format!("{e}"));
                self.log_volume(
                    Level::Error,
                    nr,
                    format!("Requested state change failed by peer: {text} ({code})"),
                );
                return Asked::Done(Err(StateError::FailedByPeer));
            }
            return Asked::Done(self.change(nr, change, false));
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
                let connection = self.net.connection;
                self.admin.ask = Some(Ask {
                    volume: Some(nr),
                    reply: None,
                    connection,
                });
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

    // ---- volumes -------------------------------------------------------------------------------------------------

    fn admin_new_volume(&mut self, nr: VolumeNr, minor: u32) {
        if self.volumes.contains_key(&nr) {
            self.admin_refused(161, &format!("volume {nr} exists already"));
            return;
        }
        let mut volume = Volume::new(nr, minor);
        volume.state.conn = self.net.cstate;
        self.volumes.insert(nr, volume);
        if self.is_up() {
            self.send_volume_parameters(nr);
        }
        self.admin_done(Ok(()));
    }

    fn admin_del_volume(&mut self, nr: VolumeNr) {
        let volume = self.volume(nr);
        let state = volume.state;
        if state.disk != DiskState::Diskless
            || volume.disk.is_some()
            || state.role != Role::Secondary
        {
            self.admin_refused(160, "the volume is Primary or has a disk");
            return;
        }
        self.volumes.remove(&nr);
        self.admin_done(Ok(()));
    }

    // ---- role ----------------------------------------------------------------------------------------------------

    fn step_primary(&mut self, nr: VolumeNr, force: bool, stage: Stage, ready: bool) {
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
        let forced = self.admin.current.as_ref().is_some_and(|op| op.forced);
        let mut change = Change::role(Role::Primary);
        if forced {
            change = change.and_disk(DiskState::UpToDate);
        }
        match self.ask_change(nr, change) {
            Asked::Wait => {}
            Asked::Done(Ok(2)) => self.admin_done(Ok(())),
            Asked::Done(Ok(_)) => self.promoted(nr, forced),
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
            Asked::Done(Err(StateError::TwoPrimaries))
                if self.admin.current.as_ref().is_some_and(|op| !op.retried) =>
            {
                // The peer may be about to find out that it is dead, or we that it is.
                if let Some(op) = &mut self.admin.current {
                    op.retried = true;
                }
                self.set_stage(Stage::Pause);
                let at = self.now.plus_ms(self.net.ping_timeout_ms() + 100);
                self.emit(Effect::SetTimer {
                    timer: Timer::Admin,
                    at,
                });
            }
            Asked::Done(Err(error)) => {
                if error != StateError::FailedByPeer {
                    self.log_refusal(nr, error, change);
                }
                self.admin_state_error(error);
            }
        }
    }

    fn promoted(&mut self, nr: VolumeNr, forced: bool) {
        if forced {
            self.log_volume(
                Level::Warn,
                nr,
                "Forced to consider local data as UpToDate!",
            );
        }
        self.net.discard_my_data = false;
        self.run_after();
        let volume = self.volume(nr);
        let state = volume.state;
        let lonely = state.conn < ConnState::Connected || state.pdsk <= DiskState::Failed;
        let Some(disk) = volume.disk.as_deref() else {
            self.set_stage(Stage::Durable);
            self.admin_ready(Stage::Durable);
            self.step_admin();
            return;
        };
        if forced || (lonely && disk.sb.uuids[1] == 0) {
            self.new_current_uuid(nr);
        }
        let disk = self.disk_mut(nr);
        let mut ids = disk.ids();
        ids.set_primary_bit(true);
        disk.set_ids(ids);
        let current = ids.current;
        self.volume_mut(nr).exposed_uuid = current;
        // The mark that this disk is a Primary's is durable before the first write (I2).
        self.set_stage(Stage::Durable);
        self.md(nr, MdKind::SUPERBLOCK, Then::Admin);
    }

    fn step_secondary(&mut self, nr: VolumeNr, held_open: bool, stage: Stage, ready: bool) {
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
                // The bits are durable before the disk stops being a Primary's (I8).
                self.set_stage(Stage::Bitmap);
                if self.volume(nr).has_usable_disk() {
                    self.md(nr, MdKind::ChangedPages, Then::Admin);
                } else {
                    self.admin_ready(Stage::Bitmap);
                    self.step_admin();
                }
            }
            Stage::Bitmap if ready => {
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
                self.emit(Effect::Device {
                    volume: nr,
                    device: None,
                });
                if self.is_up() && self.volume(nr).state.conn >= ConnState::WFReportParams {
                    self.send_state(nr);
                }
                self.set_stage(Stage::Durable);
                if self.volume(nr).has_usable_disk() {
                    let disk = self.disk_mut(nr);
                    let mut ids = disk.ids();
                    ids.set_primary_bit(false);
                    disk.set_ids(ids);
                    self.md(nr, MdKind::SUPERBLOCK, Then::Admin);
                } else {
                    self.admin_done(Ok(()));
                }
            }
            Stage::Durable if ready => self.admin_done(Ok(())),
            _ => {}
        }
    }

    // ---- disk ----------------------------------------------------------------------------------------------------

    fn step_detach(&mut self, nr: VolumeNr, force: bool, stage: Stage) {
        let gone =
            self.volume(nr).state.disk == DiskState::Diskless && self.volume(nr).disk.is_none();
        match stage {
            _ if gone => self.admin_done(Ok(())),
            Stage::Start if force => {
                self.fact(nr, Change::disk(DiskState::Failed));
                self.admin_done(Ok(()));
            }
            Stage::Start => match self.ask_change(nr, Change::disk(DiskState::Failed)) {
                Asked::Wait => {}
                Asked::Done(Ok(_)) => self.set_stage(Stage::Detaching),
                Asked::Done(Err(error)) => {
                    if error != StateError::FailedByPeer {
                        self.log_refusal(nr, error, Change::disk(DiskState::Failed));
                    }
                    self.admin_state_error(error);
                }
            },
            _ => {}
        }
    }

    fn step_invalidate(&mut self, nr: VolumeNr, stage: Stage, ready: bool, local: bool) {
        let state = self.volume(nr).state;
        if stage == Stage::Durable {
            if ready {
                self.admin_done(Ok(()));
            }
            return;
        }
        if !self.volume(nr).has_usable_disk() && self.admin.ask.is_none() {
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
                    self.set_stage(Stage::Durable);
                    self.md_full_sync(nr, Then::Admin);
                }
            }
            return;
        }
        let conn = if local {
            ConnState::StartingSyncT
        } else {
            ConnState::StartingSyncS
        };
        match self.ask_change(nr, Change::conn(conn)) {
            Asked::Wait => {}
            Asked::Done(Ok(_)) => self.admin_done(Ok(())),
            Asked::Done(Err(error)) => {
                if error != StateError::FailedByPeer {
                    self.log_refusal(nr, error, Change::conn(conn));
                }
                self.admin_state_error(error);
            }
        }
    }

    fn step_outdate(&mut self, nr: VolumeNr, stage: Stage, ready: bool) {
        let change = Change::disk(DiskState::Outdated);
        match stage {
            Stage::Start => match self.change(nr, change, false) {
                Err(StateError::InTransientState) => {}
                Err(error) => {
                    self.log_refusal(nr, error, change);
                    self.admin_state_error(error);
                }
                Ok(2) => self.admin_done(Ok(())),
                Ok(_) => {
                    // Confirmed only when it is on record (I21).
                    self.set_stage(Stage::Durable);
                    self.md(nr, MdKind::SUPERBLOCK, Then::Admin);
                }
            },
            _ if ready => self.admin_done(Ok(())),
            _ => {}
        }
    }

    fn step_new_current_uuid(
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
        let just_created = self.disk_mut(nr).sb.uuids[0] & !1 == crate::generation::JUST_CREATED;
        let skip = state.conn == ConnState::Connected && just_created && clear_bitmap;
        if !skip && state.conn != ConnState::StandAlone {
            self.admin_refused(
                151,
                "only with StandAlone, or to skip the first sync of two fresh disks",
            );
            return;
        }
        let disk = self.disk_mut(nr);
        let mut ids = disk.ids();
        ids.rotate_bitmap(0);
        ids.new_current(random, is_primary);
        disk.set_ids(ids);
        self.volume_mut(nr).exposed_uuid = ids.current;
        self.log_volume(Level::Info, nr, format!("new current UUID {ids}"));
        self.set_stage(Stage::Durable);
        if clear_bitmap {
            self.disk_mut(nr).al_suspended = false;
            // Identifiers first: a crash in between leaves too many bits, never too few (T23).
            self.md(nr, MdKind::SUPERBLOCK, Then::Nothing);
            self.md(nr, MdKind::ClearAllPages, Then::Nothing);
        }
        self.md(nr, MdKind::SUPERBLOCK, Then::Admin);
    }

    fn new_current_uuid_durable(&mut self, nr: VolumeNr, clear_bitmap: bool) {
        let state = self.volume(nr).state;
        if clear_bitmap && state.conn == ConnState::Connected {
            self.send_uuids_with(nr, UuidFlags::SKIP_INITIAL_SYNC);
            let disk = self.disk_mut(nr);
            let mut ids = disk.ids();
            ids.bitmap = 0;
            disk.set_ids(ids);
            self.fact(
                nr,
                Change::disk(DiskState::UpToDate).and_pdsk(DiskState::UpToDate),
            );
        }
        self.admin_done(Ok(()));
    }

    fn step_pause(&mut self, nr: VolumeNr, pause: bool) {
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

    // ---- connection ----------------------------------------------------------------------------------------------

    fn admin_connect(&mut self, options: NetOptions, discard_my_data: bool, tentative: bool) {
        if self.net.cstate > ConnState::StandAlone || self.net.options.is_some() {
            self.admin_refused(125, "the connection is configured already");
            return;
        }
        if discard_my_data && self.volumes.values().any(|v| v.state.role == Role::Primary) {
            self.admin_refused(123, "a volume is Primary");
            return;
        }
        self.net.options = Some(options);
        self.net.discard_my_data = discard_my_data;
        self.net.tentative = tentative;
        for volume in self.volumes.values_mut() {
            volume.counters.sent = 0;
            volume.counters.received = 0;
        }
        self.start_connecting();
        self.admin_done(Ok(()));
    }

    fn step_disconnect(&mut self, force: bool, stage: Stage) {
        if self.net.cstate == ConnState::StandAlone {
            if stage == Stage::Start {
                self.admin_refused(162, "unknown connection");
            } else {
                self.admin_done(Ok(()));
            }
            return;
        }
        if stage == Stage::Leaving {
            return;
        }
        let change = Change::conn(ConnState::Disconnecting);
        if stage == Stage::Change {
            let Some(ask) = &self.admin.ask else {
                // The connection broke while the peer was asked: nobody is left to ask.
                self.set_stage(Stage::Leaving);
                self.go_standalone();
                return;
            };
            let Some(code) = ask.reply else { return };
            self.admin.ask = None;
            if state::is_success(code) {
                self.set_stage(Stage::Leaving);
                self.go_standalone();
            } else {
                self.net.disconnect_sent = false;
                let text =
                    StateError::from_code(code).map_or_else(Default::default, |e| format!("{e}"));
                self.log(
                    Level::Error,
                    format!("Requested state change failed by peer: {text} ({code})"),
                );
                self.admin_state_error(StateError::FailedByPeer);
            }
            return;
        }
        if force || !self.is_up() || self.net.cstate != ConnState::WFReportParams {
            self.set_stage(Stage::Leaving);
            self.go_standalone();
            return;
        }
        for nr in self.volume_numbers() {
            match state::request_for_peer(self.volume(nr).state, change, &self.context(nr)) {
                Err(StateError::InTransientState) => return,
                Err(error) => {
                    self.log_refusal(nr, error, change);
                    self.admin_state_error(error);
                    return;
                }
                Ok(_) => {}
            }
        }
        let (mask, val) = change.to_mask_val();
        let connection = self.net.connection;
        self.admin.ask = Some(Ask {
            volume: None,
            reply: None,
            connection,
        });
        self.net.disconnect_sent = true;
        self.set_stage(Stage::Change);
        let request = StateChange {
            mask: StateWord(mask),
            val: StateWord(val),
        };
        self.send(VolumeNr(0), Packet::ConnStChgReq(request), None);
    }

    fn admin_net_options(&mut self, options: NetOptions) {
        let Some(own) = self.net.options.clone() else {
            self.admin_refused(162, "unknown connection");
            return;
        };
        let agreed = |o: &NetOptions| {
            (
                o.protocol,
                o.after_sb_0pri,
                o.after_sb_1pri,
                o.after_sb_2pri,
                o.verify_alg.clone(),
            )
        };
        if agreed(&own) != agreed(&options) && self.net.cstate > ConnState::Unconnected {
            self.admin_refused(
                163,
                "protocol, after-sb-* and verify-alg can only be given with connect",
            );
            return;
        }
        self.net.options = Some(options);
        self.admin_done(Ok(()));
    }
}

/// The volume that a command is about.
fn command_volume(command: &Command) -> Option<VolumeNr> {
    match *command {
        Command::NewVolume { volume, .. }
        | Command::DelVolume { volume }
        | Command::Attach { volume, .. }
        | Command::Detach { volume, .. }
        | Command::Primary { volume, .. }
        | Command::Secondary { volume, .. }
        | Command::Invalidate { volume }
        | Command::InvalidateRemote { volume }
        | Command::Outdate { volume }
        | Command::NewCurrentUuid { volume, .. }
        | Command::PauseSync { volume }
        | Command::ResumeSync { volume }
        | Command::DiskOptions { volume, .. } => Some(volume),
        Command::Connect { .. } | Command::Disconnect { .. } | Command::NetOptions { .. } => None,
    }
}
