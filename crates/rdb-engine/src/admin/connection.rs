//! `connect`, `disconnect` and the net options (`docs/spec/behaviour.md`, sections 7.8, 12.3 and 12.4).

use alloc::format;

use replica_proto::{Packet, StateChange, StateWord};

use super::{Ask, Stage};
use crate::config::NetOptions;
use crate::effect::Level;
use crate::event::Payload;
use crate::ids::VolumeNr;
use crate::net::Phase;
use crate::net::teardown::DISCONNECTED;
use crate::resource::Resource;
use crate::rules::trouble::Trouble;
use crate::state::{self, Change, ConnState, Role, StateError};

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
        if discard_my_data && self.volumes.values().any(|v| v.state.role == Role::Primary) {
            self.admin_refused(123, "a volume is Primary");
            return;
        }
        self.net.options = Some(options);
        self.net.discard_my_data = discard_my_data;
        self.net.tentative = tentative;
        self.net.trouble = None;
        for volume in self.volumes.values_mut() {
            volume.counters.sent = 0;
            volume.counters.received = 0;
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
        let change = Change::conn(ConnState::Disconnecting);
        if stage == Stage::Change {
            let Some(ask) = &self.admin.ask else {
                // The connection broke while the peer was asked: nobody is left to ask.
                self.set_stage(Stage::Leaving);
                self.part();
                return;
            };
            let Some(code) = ask.reply else { return };
            self.admin.ask = None;
            if state::is_success(code) {
                self.set_stage(Stage::Leaving);
                self.part();
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
            self.part();
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

    /// The connection ends because the administrator wants it.
    pub(super) fn part(&mut self) {
        self.trouble(Trouble::Disconnected, DISCONNECTED);
        self.go_standalone();
    }

    pub(super) fn admin_net_options(&mut self, options: NetOptions) {
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
                o.integrity_alg,
                o.csums_alg,
                o.verify_alg.clone(),
            )
        };
        let is_told = !matches!(self.net.phase, Phase::Closed | Phase::Pairing);
        if agreed(&own) != agreed(&options) && is_told {
            self.admin_refused(
                163,
                "protocol, after-sb-*, data-integrity-alg, csums-alg and verify-alg can only be given with connect",
            );
            return;
        }
        self.net.options = Some(options);
        self.admin_done(Ok(()));
    }
}
