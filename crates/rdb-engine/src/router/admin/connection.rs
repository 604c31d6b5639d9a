//! `connect`, `disconnect` and the net options (`docs/spec/behaviour.md`, sections 7.8, 12.3 and 12.4).

use alloc::format;

use replica_proto::{Features, Packet, StateChange, StateWord};

use crate::admin::{Reply, Stage};
use crate::config::NetOptions;
use crate::disk::{MdKind, Then};
use crate::effect::{AdminError, Level};
use crate::event::Payload;
use crate::ids::VolumeNr;
use crate::router::Resource;
use crate::router::connection::DISCONNECTED;
use crate::router::volume::Volume;
use crate::rules::parting::{Next, Parting};
use crate::rules::trouble::Trouble;
use crate::state::{self, ConnState, Role, StateError};

impl<P: Payload> Resource<P> {
    pub(super) fn admin_connect(
        &mut self,
        options: NetOptions,
        discard_my_data: bool,
        tentative: bool,
    ) {
        if self.net.cstate > ConnState::StandAlone || self.net.options.is_some() {
            let why = if self.drain_waits_for_space() {
                "what the peer has sent before waits for space on the disk"
            } else {
                "the connection is configured already"
            };
            self.admin_refused(125, why);
            return;
        }
        if discard_my_data && self.volumes.iter().any(|v| v.state.role == Role::Primary) {
            self.admin_refused(123, "a volume is Primary");
            return;
        }
        self.net.options = Some(options);
        self.net.attempt.order(discard_my_data, tentative);
        self.net.troubles.forget_last();
        for volume in self.volumes.iter_mut() {
            volume.peer.traffic.begin_anew();
        }
        self.start_connecting();
        self.admin_done(Ok(()));
    }

    pub(super) fn step_disconnect(&mut self, force: bool, stage: Stage) {
        if self.net.cstate == ConnState::StandAlone {
            if stage == Stage::Start {
                self.admin_refused(162, "unknown connection");
            } else {
                self.admin_done(Ok(()));
            }
            return;
        }
        if stage == Stage::Leaving {
            if self.drain_waits_for_space() {
                // The sockets are closed; what is left is the disk's.
                let text = "disconnected; what the peer has sent waits for space on the disk";
                self.log(Level::Warn, text);
                self.admin_done(Ok(()));
            }
            return;
        }
        if stage == Stage::Change {
            let code = match self.admin.take_reply() {
                Reply::NotAsked => {
                    // The connection broke while the peer was asked, which may have agreed: nobody is left to ask.
                    self.admin.enter(Stage::Leaving);
                    self.part_unanswered();
                    return;
                }
                Reply::Awaited => return,
                Reply::Come(code) => code,
            };
            let next = self.admin.parting().refused_there();
            if state::is_success(code) {
                self.admin.enter(Stage::Leaving);
                self.part_as_agreed();
            } else if let Next::Instead(how) = next {
                self.ask_to_part(how, false);
            } else {
                self.net.link.leave(false);
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
        if stage == Stage::Durable && !force && self.is_up() {
            if self.is_outdated_on_record() {
                self.ask_to_part(Parting::Outdated, true);
            }
            return;
        }
        if force || !self.is_up() || self.net.cstate != ConnState::WFReportParams {
            self.admin.enter(Stage::Leaving);
            self.part(Parting::Plainly);
            return;
        }
        self.ask_to_part(Parting::Plainly, false);
    }

    /// (L49) The peer goes on alone at once when it consents: that this disk is Outdated is on record before it is asked.
    fn call_disks_outdated(&mut self) {
        self.admin.enter(Stage::Durable);
        for nr in self.volume_numbers() {
            if self.volume(nr).has_usable_disk() {
                self.disk_mut(nr).record_mut().call_outdated(true);
                self.note_flags(nr, self.volume(nr).state);
                self.md(nr, MdKind::SUPERBLOCK, Then::Nothing);
            }
        }
    }

    /// Whether that is on record.
    fn is_outdated_on_record(&self) -> bool {
        !self.volumes.iter().any(Volume::has_pending_record)
    }

    /// Asks the peer whether we may go (`docs/spec/behaviour.md`, section 12.4).
    /// `recorded`: this node's disks are Outdated on record, if they are to be.
    fn ask_to_part(&mut self, how: Parting, recorded: bool) {
        let change = how.change();
        for nr in self.volume_numbers() {
            let wish = state::request_for_peer(self.volume(nr).state, change, &self.context(nr));
            let Err(error) = wish else { continue };
            match how.refused_here(error) {
                Next::Waits => return,
                Next::Instead(other) => return self.ask_to_part(other, false),
                Next::Leaves => {
                    self.admin.enter(Stage::Leaving);
                    return self.part(Parting::Plainly);
                }
                Next::Refused => {
                    self.net.link.leave(false);
                    self.log_refusal(nr, error, change);
                    self.admin_state_error(error);
                    return;
                }
            }
        }
        self.admin.will_part(how);
        if how == Parting::Outdated && !recorded {
            self.call_disks_outdated();
            return;
        }
        let (mask, val) = change.to_mask_val();
        self.admin.ask(None, self.net.session);
        self.net.link.leave(true);
        self.admin.enter(Stage::Change);
        let request = StateChange {
            mask: StateWord(mask),
            val: StateWord(val),
        };
        self.send(VolumeNr(0), Packet::ConnStChgReq(request), None);
    }

    /// The peer has agreed to part, in whatever way it was asked.
    pub(in crate::router) fn part_as_agreed(&mut self) {
        self.part(self.admin.parting());
    }

    /// (L49) The connection has ended before the answer.
    pub(in crate::router) fn part_unanswered(&mut self) {
        self.part(self.admin.parting().unanswered());
    }

    /// The connection ends because the administrator wants it.
    pub(super) fn part(&mut self, how: Parting) {
        self.trouble(Trouble::Disconnected, DISCONNECTED);
        if how != Parting::Plainly
            && let Err(error) = self.change_connection(how.change(), true)
        {
            self.log(Level::Error, format!("cannot disconnect: {error}"));
        }
        if how == Parting::OutdatingThePeer {
            self.record_fenced_peer();
        }
        self.go_standalone();
    }

    /// New net options. Of what both nodes have to know the peer is told, once the exchange of parameters is over: until then
    /// the command waits, as what is on its way was said by the old ones.
    pub(super) fn step_net_options(&mut self, options: NetOptions) {
        let Some(old) = self.net.options.clone() else {
            self.admin_refused(162, "unknown connection");
            return;
        };
        if self.net.link.has_sockets() && told(&old) != told(&options) {
            let is_exchanging = !self.is_up() || self.net.link.is_exchanging();
            // (What waits behind a bitmap gets its digest when it is sent.)
            if is_exchanging || self.net.bitmap_out.is_some() {
                return;
            }
            if let Err(error) = self.may_announce(&old, &options) {
                self.admin_done(Err(error));
                return;
            }
            self.net.options = Some(options.clone());
            self.announce_settings(&old, &options);
        }
        self.net.options = Some(options);
        self.admin_done(Ok(()));
    }

    /// Whether settings can change on this connection as it is (`docs/spec/behaviour.md`, section 7.8).
    fn may_announce(&self, old: &NetOptions, new: &NetOptions) -> Result<(), AdminError> {
        let any = |is: fn(ConnState) -> bool| self.volumes.iter().any(|v| is(v.state.conn));
        if !self.net.link.is_greeted() {
            // What it says next would be compared with what it cannot know.
            return Err(AdminError::State(StateError::InTransientState));
        }
        // A driver expects digests in P_ZEROES too, which has no place for one; rdb, known by its own feature, does not.
        let zeroes = self.net.agreed.has(Features::WZEROES);
        let begins = old.integrity_alg.is_none() && new.integrity_alg.is_some();
        if begins && zeroes && self.net.agreed.peer_adopts() {
            let why = "data-integrity-alg cannot begin while DRBD's driver is connected: disconnect first";
            return Err(AdminError::refused(126, why));
        }
        if old.verify_alg != new.verify_alg && any(state::is_verify) {
            return Err(AdminError::refused(149, "wait for its end"));
        }
        let syncs = |conn| {
            (ConnState::StartingSyncS..=ConnState::SyncTarget).contains(&conn)
                || matches!(conn, ConnState::PausedSyncS | ConnState::PausedSyncT)
        };
        if old.csums_alg != new.csums_alg && any(syncs) {
            return Err(AdminError::refused(148, "wait for its end"));
        }
        Ok(())
    }
}

/// The options of which the peer is told.
fn told(options: &NetOptions) -> impl PartialEq {
    (
        options.protocol,
        options.after_sb_0pri,
        options.after_sb_1pri,
        options.after_sb_2pri,
        options.integrity_alg,
        options.csums_alg,
        options.verify_alg.clone(),
    )
}
