//! The peer's state: P_STATE, and who syncs whom (`docs/spec/behaviour.md`, section 5; `docs/spec/wire.md`, section 5.7).

use alloc::format;
use alloc::string::ToString;

use replica_proto::StateWord;

use crate::config::Protocol;
use crate::effect::{Apart, Effect, Level, Milestone};
use crate::event::Payload;
use crate::generation::{CompareInputs, PeerIds};
use crate::ids::VolumeNr;
use crate::router::Resource;
use crate::rules::attach;
use crate::rules::disk_reason::Lost;
use crate::rules::{
    self,
    packets::Past,
    peer_state::{Meaning, Told},
    serving,
    thaw::is_no_return,
    trouble::Trouble,
};
use crate::state::{Change, ConnState, DiskState, Role, StateError, VolumeState};
use crate::sync_decision::{
    self, Decision, DecisionInputs, FailEffect, FailReason, Handler, Outcome,
};

impl<P: Payload> Resource<P> {
    /// P_STATE (`docs/spec/wire.md`, section 5.7).
    pub(in crate::router) fn on_state(&mut self, nr: VolumeNr, word: StateWord) {
        let packet = match VolumeState::from_word(word.0) {
            Ok(packet) => packet,
            Err(error) => {
                self.protocol_error(format!("volume {nr}: P_STATE {:#010x}: {error}", word.0));
                return;
            }
        };
        let own = self.volume(nr).state;
        if own.conn <= ConnState::TearDown {
            return;
        }
        let peer_ids = self.volume(nr).peer.ids;
        let facts = rules::peer_state::Facts {
            own,
            told: packet,
            has_uuids: peer_ids.is_some(),
            protocol_a: self
                .net
                .peer_settings
                .as_ref()
                .is_some_and(|peer| peer.protocol() == Protocol::A),
        };
        if let Err(wrong) = rules::peer_state::check(&facts) {
            self.protocol_error(format!("volume {nr}: P_STATE {:#010x}: {wrong}", word.0));
            return;
        }
        self.release_first_state(nr);
        if packet.disk != DiskState::UpToDate {
            self.volume_mut(nr).peer.write_failed = false;
        }
        let Some(effective) = self.real_disk(nr, packet.disk, peer_ids) else {
            return;
        };
        if let Some(text) = rules::peer_state::contradiction(own, packet) {
            self.log_volume(Level::Warn, nr, format!("{text}: connecting anew"));
            self.lose_connection(ConnState::NetworkFailure);
            return;
        }
        let told = match rules::peer_state::meaning(own, packet, effective) {
            Meaning::VerifyEnded => {
                self.fact(nr, Change::peer(packet.role));
                self.verify_finish(nr);
                return;
            }
            Meaning::TargetDone => {
                // It may be demoted meanwhile.
                self.fact(nr, Change::peer(packet.role));
                self.source_target_done(nr);
                return;
            }
            Meaning::TargetEndedInconsistent => {
                self.fact(nr, Change::peer(packet.role));
                let inconsistent = DiskState::Inconsistent;
                self.fact(
                    nr,
                    Change::conn(ConnState::Connected).and_pdsk(inconsistent),
                );
                return;
            }
            Meaning::Told(told) => told,
        };
        // (L25) It was told of as a disk that is attached beside ours, which is lost since.
        if serving::has_users_without_disk(&own)
            && serving::brings_disk(&own, told.pdsk)
            && let Some(ids) = peer_ids
            && !self.may_serve_our_users(nr, &ids)
        {
            return;
        }
        self.take_over(nr, packet, peer_ids, told);
        let exchanges = matches!(packet.conn, ConnState::WFBitMapS | ConnState::WFBitMapT);
        let takes_part = self.volume(nr).state.conn != ConnState::Connected;
        if exchanges && own.disk <= DiskState::Negotiating && !takes_part {
            // It has decided with a disk of ours that is gone meanwhile, and acts on it until it hears of that; the next disk
            // may be here already.
            self.volume_mut(nr).peer.past |= Past::TOLD;
        }
    }

    /// What the peer's disk is, after a look at its generations if that is being negotiated. Nothing if they are not known,
    /// which is the end of the connection.
    fn real_disk(
        &mut self,
        nr: VolumeNr,
        told: DiskState,
        ids: Option<PeerIds>,
    ) -> Option<DiskState> {
        if told != DiskState::Negotiating {
            return Some(told);
        }
        let Some(ids) = ids else {
            let text = format!("volume {nr}: P_STATE of a disk in negotiation without P_UUIDS");
            self.protocol_error(text);
            return None;
        };
        let disk = sync_decision::effective_peer_disk(told, &ids);
        self.log_volume(Level::Info, nr, format!("real peer disk state = {disk}"));
        Some(disk)
    }

    /// Compares generations if it is time, and takes the peer's state over.
    fn take_over(&mut self, nr: VolumeNr, packet: VolumeState, ids: Option<PeerIds>, told: Told) {
        let own = self.volume(nr).state;
        let due = self.volume(nr).peer.consider_resync;
        let mut told = told;
        // Without a peer's disk there is nothing to compare; with one, its generations must have been looked at.
        let mut compared = packet.disk < DiskState::Negotiating;
        if let Some(ids) = ids
            && rules::peer_state::compares(own, packet, due)
        {
            self.volume_mut(nr).peer.consider_resync = false;
            compared = true;
            let outcome = self.decide(nr, &ids, packet, told.pdsk);
            let own = self.volume(nr).state.disk;
            let fail =
                sync_decision::fail_effect(own, packet.disk, self.net.attempt.is_peer_tentative());
            let decided = rules::peer_state::decided(told, outcome, fail);
            self.on_decision(nr, outcome, fail);
            match decided {
                None => return,
                Some(decided) => told = decided,
            }
        }
        if compared && self.gives_up_older_disk(nr, told) {
            told.conn = ConnState::Connected;
        }
        let own = self.volume(nr).state;
        let negotiated = self.volume(nr).peer.negotiated.filter(|_| compared);
        let change =
            rules::peer_state::change(own, packet, told, negotiated.map(|worth| worth.own));
        let establishes = own.conn < ConnState::Connected && told.conn >= ConnState::Connected;
        let owed = self.volumes.iter().any(|v| v.frozen.owes_generation());
        if owed && is_no_return(&own, told.conn, packet.disk, self.peer_may_lack(nr)) {
            let text = "Aborting Connect, can not thaw IO with an only Consistent peer";
            self.log_volume(Level::Error, nr, text);
            self.peer_cannot_catch_up();
            return;
        }
        if let Err(error) = self.change(nr, change, !establishes) {
            self.cannot_take_over(nr, change, error, establishes);
            return;
        }
        let answer = rules::peer_state::answer(own, self.volume(nr).state, packet, told.conn);
        if answer.state {
            self.send_state(nr);
        }
        if answer.decision {
            self.send_uuids(nr);
            self.send_state(nr);
        }
    }

    fn cannot_take_over(
        &mut self,
        nr: VolumeNr,
        change: Change,
        error: StateError,
        establishes: bool,
    ) {
        if establishes {
            self.log_refusal(nr, error, change);
            self.trouble(Trouble::NoAgreement, error.to_string());
            self.go_standalone();
        } else {
            let text = format!("the peer's state cannot be taken over: {error}");
            self.log_volume(Level::Error, nr, text);
        }
    }

    /// Does what the comparison of the generations has decided.
    fn on_decision(&mut self, nr: VolumeNr, outcome: Outcome, fail: FailEffect) {
        let own = self.volume(nr).state;
        // The peer decides the same, and sends its bitmap also if our disk is given up before we get that far.
        self.volume_mut(nr).peer.past |= match outcome {
            Outcome::Source { .. } => Past::SOURCE,
            Outcome::Target { .. } => Past::TARGET,
            Outcome::Fail(_) if own.disk == DiskState::Negotiating => Past::SOURCE | Past::TARGET,
            Outcome::Connected | Outcome::Fail(_) => Past::empty(),
        };
        let reason = match outcome {
            Outcome::Connected => return,
            Outcome::Source { full } | Outcome::Target { full } => {
                return self.prepare_bitmap(nr, full);
            }
            Outcome::Fail(reason) => reason,
        };
        match fail {
            FailEffect::DetachOwn => {
                let text = format!("{reason}: giving the disk up");
                self.log_volume(Level::Error, nr, text);
                self.fact(nr, Change::disk(DiskState::Failed));
                if reason.trouble().is_conflict() {
                    self.note_lost(nr, Lost::Conflict(reason.trouble(), reason.to_string()));
                }
            }
            FailEffect::PeerStaysDiskless => {
                let text = "Disk attach process on the peer node was aborted.";
                self.log_volume(Level::Error, nr, text);
                // It hears why, and gives its disk up: what we say of it does not change, so nothing else would tell, and
                // its users would wait for ever.
                self.send_uuids(nr);
                self.send_state(nr);
            }
            FailEffect::Retry => self.lose_connection(ConnState::ProtocolError),
            FailEffect::StandAlone => {
                let text = format!("not connected: {reason}");
                self.stand_alone_for(reason.trouble(), nr, text);
            }
        }
    }

    /// (L25) The disk that our users are on has gone, or is worth less, while our own is negotiated: that is no substitute if it is
    /// older. Says whether it was given up.
    fn gives_up_older_disk(&mut self, nr: VolumeNr, decided: Told) -> bool {
        let volume = self.volume(nr);
        if !rules::peer_state::may_give_up_older(&volume.state, decided) {
            return false;
        }
        let current = volume.disk.get().map(|disk| disk.record().ids().current);
        let Some(older) = current.and_then(|current| attach::older(&volume.shown(current))) else {
            return false;
        };
        self.log_volume(Level::Error, nr, older.to_string());
        self.fact(nr, Change::disk(DiskState::Failed));
        true
    }

    /// Compares the generations and says who syncs whom; log lines and corrections included.
    fn decide(
        &mut self,
        nr: VolumeNr,
        peer: &PeerIds,
        packet: VolumeState,
        peer_disk: DiskState,
    ) -> Outcome {
        let volume = self.volume(nr);
        let Some(disk) = volume.disk.get() else {
            return Outcome::Connected;
        };
        let options = self.net.options.clone().unwrap_or_default();
        let state = volume.state;
        let own_disk = volume.worth();
        let crashes = !self.planted(crate::Bug::NoRuleForCrashes);
        let inputs = DecisionInputs {
            own: disk.record().ids(),
            peer: *peer,
            compare: CompareInputs {
                own_crashed: crashes && volume.crashed_primary,
                peer_crashed: crashes && peer.crashed_primary(),
                own_primary: state.role == Role::Primary,
                peer_primary: packet.role == Role::Primary,
                resolve_conflicts: self.net.link.resolves_conflicts(),
                version: self.net.agreed.version().0,
                wsame: self.net.agreed.has(replica_proto::Features::WSAME),
                own_bits: volume.peer.bits_announced,
                peer_bits: peer.bits,
                own_alone: self.told_alone(nr),
                peer_alone: peer.wrote_alone(),
            },
            own_disk,
            own_real_disk: state.disk,
            peer_disk,
            peer_attaches: rules::peer_state::attaches(&state, &packet),
            own_bits_sent: volume.peer.bits_announced,
            own_bits: disk.marked(),
            after_sb_0pri: options.after_sb_0pri,
            after_sb_1pri: options.after_sb_1pri,
            after_sb_2pri: options.after_sb_2pri,
            always_asbp: options.always_asbp,
            rr_conflict: options.rr_conflict,
            own_discard_my_data: self.net.attempt.discards(),
            can_demote: false,
            own_tentative: self.net.attempt.is_tentative(),
            peer_dry_run: self.net.attempt.is_peer_tentative(),
        };
        let decision = sync_decision::decide(&inputs);
        self.tell_split_brain(nr, &inputs, &decision);
        for line in decision.log {
            self.log_volume(Level::Info, nr, line);
        }
        for handler in decision.handlers {
            self.log_volume(Level::Warn, nr, format!("event {handler}"));
            self.tell_handler(handler, nr);
        }
        if let Some(ids) = decision.own_correction {
            self.disk_mut(nr).record_mut().correct_ids(ids);
        }
        if let Some(ids) = decision.peer_correction
            && let Some(peer) = &mut self.volume_mut(nr).peer.ids
        {
            peer.ids = ids;
        }
        decision.outcome
    }

    /// The history keeps what each side has told, which nobody can ask the peer once the connection is given up.
    fn tell_split_brain(&mut self, nr: VolumeNr, inputs: &DecisionInputs, decision: &Decision) {
        if !decision.handlers.contains(&Handler::InitialSplitBrain) {
            return;
        }
        let role = |primary| match primary {
            true => Role::Primary,
            false => Role::Secondary,
        };
        let own = Apart {
            ids: inputs.own,
            blocks: inputs.own_bits_sent,
            role: role(inputs.compare.own_primary),
        };
        let peer = Apart {
            ids: inputs.peer.ids,
            blocks: inputs.peer.bits,
            role: role(inputs.compare.peer_primary),
        };
        let solved = decision.outcome != Outcome::Fail(FailReason::SplitBrain);
        self.emit(Effect::Milestone {
            volume: nr,
            what: Milestone::SplitBrain { own, peer, solved },
        });
    }
}
