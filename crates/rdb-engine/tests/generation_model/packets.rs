//! What a node does with a packet.

use rdb_engine::config::SplitBrainPolicy;
use rdb_engine::generation::{CompareInputs, PeerIds, compare};
use rdb_engine::rules::attach;
use rdb_engine::rules::peer_state::{
    Facts as PeerFacts, Meaning, Told as PeerTold, answer, attaches, change, check, compares,
    contradiction, decided, may_give_up_older, meaning,
};
use rdb_engine::rules::resync::{SyncUuid, is_shown, sync_uuid};
use rdb_engine::rules::serving;
use rdb_engine::rules::thaw::is_no_return;
use rdb_engine::state::{Change, ConnState, DiskState, Role, VolumeState};
use rdb_engine::sync_decision::{
    DecisionInputs, FailEffect, FailReason, Outcome, decide, effective_peer_disk, fail_effect,
};

use crate::names::{Ids, Name};
use crate::node::Step;
use crate::rules::Plant;
use crate::world::{Decided, Msg, Told};

impl Step<'_> {
    pub(crate) fn receive(&mut self, n: usize, packet: Msg) {
        match packet {
            Msg::Uuids(told) => self.on_uuids(n, told),
            Msg::State(state) => self.on_state(n, state),
            // (What is asked for is answered at once here.)
            Msg::SyncUuid(name) => match sync_uuid(self.state(n).conn, false) {
                SyncUuid::Begins => self.start_target(n, name),
                SyncUuid::Kept => self.node(n).early_uuid = name,
                SyncUuid::Ignored => {}
            },
            Msg::Bitmap(bits) => self.on_bitmap(n, bits),
            Msg::Acked(bits) => self.acked(n, bits),
            Msg::OutOfSync(bits) => self.node(n).disk.bits |= bits,
            Msg::Data(block, number) => self.on_data(n, block, number),
            Msg::DataAck(block, number, ok) => self.on_data_ack(n, block, number, ok),
        }
    }

    /// The target has these blocks.
    fn acked(&mut self, n: usize, bits: u8) {
        let keeps = self.setting.plant == Some(Plant::KeepMark);
        let node = self.node(n);
        node.unmark(if keeps { bits & !node.log } else { bits });
    }

    fn on_uuids(&mut self, n: usize, told: Told) {
        self.node(n).told = Some(told);
        let state = self.state(n);
        if serving::is_first_look(&state) && !self.may_serve_users(n, &told) {
            self.judge_refusal(n);
            return self.go_standalone(n);
        }
        self.release_first_state(n);
        let node = self.node(n);
        if serving::shows_peers(&state) {
            node.exposed = told.ids.current;
        }
        if !node.loss_unrecorded.is_same(told.ids.current) {
            node.loss_unrecorded = Name::default();
        }
        let bitmap = self.ids(n).bitmap;
        let node = self.node(n);
        let shown = is_shown(state.conn, bitmap, told.ids.current.wide());
        node.target_unproven &= !(node.attached && shown);
    }

    /// Whether the peer's disk has what the users of `n` saw last, if they have no other.
    fn may_serve_users(&self, n: usize, told: &Told) -> bool {
        let node = &self.world.nodes[n];
        let (seen, holds) = (node.exposed.wide(), told.ids.wide().current);
        let open = node.source_open;
        let lost_beside = match self.setting.plant {
            Some(Plant::ForgetLoss) => Name::default(),
            _ => node.lost_beside,
        };
        let (ids, lost_beside) = (told.ids.wide(), lost_beside.wide());
        !serving::has_users_without_disk(&node.state)
            || serving::began_for_loss(seen, lost_beside, &ids, told.alone, open)
            || serving::lacking(seen, holds, node.source_open).is_none()
    }

    /// `router/handshake/peer_state.rs`, `on_state`.
    fn on_state(&mut self, n: usize, packet: VolumeState) {
        let own = self.state(n);
        if own.conn <= ConnState::TearDown {
            return;
        }
        let told = self.world.nodes[n].told;
        let facts = PeerFacts {
            own,
            told: packet,
            has_uuids: told.is_some(),
            protocol_a: self.setting.protocol_a,
        };
        if check(&facts).is_err() {
            return self.lose_connection(n);
        }
        self.release_first_state(n);
        let effective = told.map_or(packet.disk, |told| {
            effective_peer_disk(packet.disk, &peer_ids(&told))
        });
        if self.rules[n].leaves_contradictions && contradiction(own, packet).is_some() {
            return self.lose_connection(n);
        }
        let mut taken = match meaning(own, packet, effective) {
            Meaning::TargetDone => {
                self.fact(n, Change::peer(packet.role));
                return self.source_target_done(n);
            }
            Meaning::TargetEndedInconsistent => {
                self.fact(n, Change::peer(packet.role));
                let change = Change::conn(ConnState::Connected).and_pdsk(DiskState::Inconsistent);
                return self.fact(n, change);
            }
            Meaning::Told(taken) => taken,
            Meaning::VerifyEnded => unreachable!("nobody verifies here"),
        };
        if self.rules[n].refuses_older_disks
            && serving::brings_disk(&own, taken.pdsk)
            && told.is_some_and(|told| !self.may_serve_users(n, &told))
        {
            return self.go_standalone(n);
        }
        let due = self.world.nodes[n].consider_resync;
        let mut compared = packet.disk < DiskState::Negotiating;
        if let Some(told) = told
            && compares(own, packet, due)
        {
            self.node(n).consider_resync = false;
            compared = true;
            let outcome = self.decide(n, &told, packet, taken.pdsk);
            let fail = fail_effect(self.state(n).disk, packet.disk, false);
            self.on_decision(n, outcome, fail);
            let Some(decided) = decided(taken, outcome, fail) else {
                return;
            };
            taken = decided;
        }
        if compared && self.gives_up_older_disk(n, taken) {
            taken.conn = ConnState::Connected;
        }
        let own = self.state(n);
        let negotiated = self.world.nodes[n].negotiated.filter(|_| compared);
        let change = change(own, packet, taken, negotiated.map(|(disk, _)| disk));
        let establishes = own.conn < ConnState::Connected && taken.conn >= ConnState::Connected;
        let owes = self.world.nodes[n].owes && self.setting.plant != Some(Plant::TrustReturned);
        if owes && is_no_return(&own, taken.conn, packet.disk, self.peer_may_lack(n)) {
            return self.peer_cannot_catch_up(n);
        }
        if !self.change(n, change, !establishes) {
            if establishes {
                self.go_standalone(n);
            }
            return;
        }
        let answer = answer(own, self.state(n), packet, taken.conn);
        if answer.state {
            self.send_state(n);
        }
        if answer.decision {
            self.send_uuids(n);
            self.send_state(n);
        }
    }

    /// The disk that the users of `n` are on has gone while its own is negotiated.
    fn gives_up_older_disk(&mut self, n: usize, decided: PeerTold) -> bool {
        let node = &self.world.nodes[n];
        let shown = node.shown(node.disk.sb.ids.current);
        let gives_up = self.rules[n].refuses_older_disks
            && node.attached
            && may_give_up_older(&node.state, decided)
            && attach::older(&shown).is_some();
        if gives_up {
            self.fact(n, Change::disk(DiskState::Failed));
        }
        gives_up
    }

    /// `Resource::on_decision`.
    fn on_decision(&mut self, n: usize, outcome: Outcome, fail: FailEffect) {
        match outcome {
            Outcome::Source { full: true } | Outcome::Target { full: true } => self.set_all_bits(n),
            Outcome::Fail(_) => match fail {
                FailEffect::DetachOwn => self.fact(n, Change::disk(DiskState::Failed)),
                FailEffect::PeerStaysDiskless => {
                    self.send_uuids(n);
                    self.send_state(n);
                }
                FailEffect::Retry => self.lose_connection(n),
                FailEffect::StandAlone => self.go_standalone(n),
            },
            _ => {}
        }
    }

    fn decide(
        &mut self,
        n: usize,
        told: &Told,
        packet: VolumeState,
        peer_disk: DiskState,
    ) -> Outcome {
        let node = &self.world.nodes[n];
        if !node.attached {
            return Outcome::Connected;
        }
        let peer = peer_ids(told);
        let notices = self.rules[n].notices_writes;
        let own_disk = match (node.state.disk, node.negotiated) {
            (DiskState::Negotiating, Some((disk, _))) => disk,
            (disk, _) => disk,
        };
        let inputs = DecisionInputs {
            own: node.disk.sb.ids.wide(),
            peer,
            compare: CompareInputs {
                own_crashed: node.crashed,
                peer_crashed: peer.crashed_primary(),
                own_primary: node.state.role == Role::Primary,
                peer_primary: packet.role == Role::Primary,
                resolve_conflicts: n == 0,
                version: 101,
                wsame: true,
                own_bits: if notices {
                    u64::from(node.announced.count_ones())
                } else {
                    0
                },
                peer_bits: if notices { peer.bits } else { 0 },
                own_alone: self.told_alone(n),
                peer_alone: told.alone,
            },
            own_disk,
            own_real_disk: node.state.disk,
            peer_disk,
            peer_attaches: attaches(&node.state, &packet),
            own_bits_sent: u64::from(node.announced.count_ones()),
            own_bits: u64::from(node.disk.bits.count_ones()),
            after_sb_0pri: SplitBrainPolicy::Disconnect,
            after_sb_1pri: SplitBrainPolicy::Disconnect,
            after_sb_2pri: SplitBrainPolicy::Disconnect,
            always_asbp: false,
            rr_conflict: SplitBrainPolicy::Disconnect,
            own_discard_my_data: node.discard,
            can_demote: false,
            own_tentative: false,
            peer_dry_run: false,
        };
        let decision = decide(&inputs);
        let rule = compare(&inputs.own, &inputs.peer.ids, inputs.compare).rule;
        // The kernel's driver empties the slot at once.
        let kernels = (rule == 34 && self.rules[n].corrects_at_once).then(|| {
            let mut corrected = inputs.own;
            corrected.clear_bitmap();
            corrected
        });
        self.node(n).disk.marks.by_drbd |= kernels.is_some();
        if let Some(ids) = decision.own_correction.or(kernels) {
            self.set_ids(n, &ids);
        }
        if let Some(ids) = decision.peer_correction
            && let Some(told) = &mut self.node(n).told
        {
            told.ids = Ids::narrow(&ids);
        }
        let outcome = decision.outcome;
        self.judge_decision(n, rule, outcome);
        self.node(n).decided = match outcome {
            Outcome::Connected => Some(Decided::NoSync),
            Outcome::Source { full } => Some(Decided::Source(full)),
            Outcome::Target { full } => Some(Decided::Target(full)),
            Outcome::Fail(FailReason::DryRun) => unreachable!("nobody asks for a dry run"),
            Outcome::Fail(_) => None,
        };
        outcome
    }
}

fn peer_ids(told: &Told) -> PeerIds {
    PeerIds {
        ids: told.ids.wide(),
        bits: u64::from(told.bits.count_ones()),
        flags: u64::from(told.flags),
    }
}
