//! What a node does at a change of state and at a packet: the order of the engine's `changes.rs`, `handshake/`,
//! `bitmap_exchange.rs` and `resync/`, with the engine's own tables and functions doing the work.

use rdb_engine::config::SplitBrainPolicy;
use rdb_engine::generation::{CompareInputs, GenerationIds, PeerIds, WroteAlone, compare};
use rdb_engine::rules::consequences::{Act, CONSEQUENCES, Facts, Turn, Why};
use rdb_engine::rules::peer_state::{
    Meaning, Told as PeerTold, answer, change, compares, contradiction, meaning,
};
use rdb_engine::state::{
    self, Change, ConnState, Context, DiskState, ImmediateEffects, Outcome as Changed, Role,
    VolumeState,
};
use rdb_engine::sync_decision::{
    DecisionInputs, FailEffect, FailReason, Outcome, decide, effective_peer_disk, fail_effect,
};

use crate::names::{Ids, Name};
use crate::oracle::Finding;
use crate::rules::Rules;
use crate::world::{ALL_BLOCKS, Decided, Kind, Msg, Node, Told, World};

/// One event, under way.
pub(crate) struct Step<'a> {
    pub(crate) world: World,
    pub(crate) rules: &'a [Rules; 2],
    /// A node whose crashes are all used up needs no difference between memory and disk.
    pub(crate) crashes: bool,
    /// The node whose administrator orders a full sync onto its disk.
    pub(crate) ordering: Option<usize>,
    pub(crate) findings: Vec<Finding>,
}

impl Step<'_> {
    pub(crate) fn node(&mut self, n: usize) -> &mut Node {
        &mut self.world.nodes[n]
    }

    fn state(&self, n: usize) -> VolumeState {
        self.world.nodes[n].state
    }

    pub(crate) fn ids(&self, n: usize) -> GenerationIds {
        self.world.nodes[n].disk.sb.ids.wide()
    }

    pub(crate) fn set_ids(&mut self, n: usize, ids: &GenerationIds) {
        let sb = &mut self.node(n).disk.sb;
        let before = std::mem::replace(&mut sb.ids, Ids::narrow(ids));
        if !before.bitmap.is_same(sb.ids.bitmap) {
            sb.alone = WroteAlone::Unknown;
        }
    }

    fn is_primary(&self, n: usize) -> bool {
        self.state(n).role == Role::Primary
    }

    pub(crate) fn random(&mut self) -> u64 {
        self.world.fresh_name().wide()
    }

    pub(crate) fn send(&mut self, n: usize, packet: Msg) {
        if self.world.link {
            self.world.queues[1 - n].push(packet);
        }
    }

    fn context(&self, n: usize) -> Context {
        let node = &self.world.nodes[n];
        Context {
            net_configured: true,
            agreed_version: 101,
            state_sent: node.state_sent,
            exposed_uuid_matches_disk: node.attached
                && node.exposed.is_same(node.disk.sb.ids.current)
                && (node.left_behind == Name::default()
                    || !node.left_behind.is_same(node.disk.sb.ids.current)),
            negotiated: node
                .negotiated
                .unwrap_or((DiskState::Diskless, DiskState::DUnknown)),
            invalidated: node.invalidated,
            ordered_here: self.ordering == Some(n),
            ..Context::DEFAULT
        }
    }

    /// Whether the change would be made.
    pub(crate) fn allows(&self, n: usize, change: Change) -> bool {
        matches!(
            state::request_for_peer(self.state(n), change, &self.context(n)),
            Ok(Changed::Changed(..))
        )
    }

    /// `Resource::change`, `commit_state` and `after_change`.
    pub(crate) fn change(&mut self, n: usize, change: Change, fact: bool) -> bool {
        let old = self.state(n);
        let new = match state::request(old, change, &self.context(n), fact) {
            Err(_) => return false,
            Ok(Changed::NothingToDo) => return true,
            Ok(Changed::Changed(new, _)) => new,
        };
        let marks = self.rules[n].marks_before_unprimary;
        let node = self.node(n);
        node.state = new;
        node.invalidated = match new.conn {
            ConnState::StartingSyncT => new.disk != DiskState::UpToDate,
            ConnState::WFSyncUUID => node.invalidated,
            _ => false,
        };
        let effects = state::immediate(old, new);
        if node.attached {
            if new.has_usable_disk() {
                let before = node.disk.sb.flags;
                node.disk.sb.flags = state::md_flags(new, node.crashed, before);
                if node.invalidated {
                    node.disk.sb.flags &= !CONSISTENT;
                }
                if marks && before & !node.disk.sb.flags & PRIMARY_IND != 0 {
                    node.disk.durable_bits = node.disk.bits;
                }
            }
            if effects.contains(ImmediateEffects::EXPOSE_DISK) {
                node.exposed = node.disk.sb.ids.current;
            }
        }
        if effects.contains(ImmediateEffects::CONSIDER_RESYNC) {
            node.consider_resync = true;
        }
        if effects.contains(ImmediateEffects::LEFT_WF_REPORT_PARAMS) {
            node.state_sent = false;
        }
        self.after_change(n, old, new);
        true
    }

    pub(crate) fn fact(&mut self, n: usize, change: Change) {
        self.change(n, change, true);
    }

    /// What follows from a change, by the engine's own table.
    fn after_change(&mut self, n: usize, old: VolumeState, new: VolumeState) {
        let mut bitmap_due = false;
        for row in CONSEQUENCES {
            let facts = self.facts(n);
            let turn = Turn { old, new, facts };
            if (row.when)(&turn) {
                bitmap_due |= row.act == Act::SendBitmap;
                self.act(n, row.act, new);
            }
        }
        // (The bitmap goes out when the consequences are through.)
        if bitmap_due {
            let bits = self.world.nodes[n].disk.bits;
            self.send(n, Msg::Bitmap(bits));
        }
        self.maybe_flush(n);
    }

    fn facts(&self, n: usize) -> Facts {
        let node = &self.world.nodes[n];
        let current = node.disk.sb.ids.current;
        let one_name = node
            .told
            .is_some_and(|told| told.ids.current.is_same(current));
        Facts {
            now: node.state.conn,
            has_disk: node.attached,
            may_share_name: node.attached && self.may_share_name(n),
            marked: node.disk.bits != 0,
            unmark_due: false, // the mark goes with the change itself
            knows_peers_ids: node.told.is_some(),
            one_name,
            moved_on: false,
            loss_unrecorded: false,
            announces_end: node.announce,
            grew: false,
            verify_ends_with_state: true,
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table: one arm an act")]
    fn act(&mut self, n: usize, act: Act, new: VolumeState) {
        let rules = self.rules[n];
        match act {
            Act::ForgetCrash => {
                let node = self.node(n);
                node.crashed = false;
                if node.attached {
                    node.disk.sb.flags &= !CRASHED_PRIMARY;
                }
                node.source_open = false;
                node.left_behind = Name::default();
                if let Some(told) = &mut node.told {
                    told.flags &= !(PeerIds::FLAG_CRASHED_PRIMARY as u8);
                }
            }
            Act::MakeSyncUuid => self.make_sync_uuid(n),
            Act::SendUuids => self.send_uuids(n),
            Act::SendState => self.send_state(n),
            Act::NewGeneration(Why::PeerLost) => self.new_current(n, true),
            Act::NewGeneration(Why::BadPeerLost) => {
                if rules.renames_without_bad_peer {
                    self.new_current(n, true);
                }
            }
            Act::NewGeneration(Why::AttachedAlone) => {
                let alone = !new.is_connected() || rules.renames_at_attach_beside_diskless;
                if rules.renames_at_lonely_attach && alone {
                    self.new_current(n, true);
                }
            }
            Act::SourceLost => {
                let node = self.node(n);
                let sent = node.all_sent && new.role == Role::Primary;
                node.source_open = rules.remembers_open_source && sent;
            }
            Act::WriteBitmap => self.write_bitmap(n),
            Act::FullSync => {
                self.set_all_bits(n);
                if new.conn == ConnState::StartingSyncT {
                    self.fact(n, Change::conn(ConnState::WFSyncUUID));
                    self.take_early_uuid(n);
                } else {
                    self.start_source(n);
                }
            }
            Act::ExposePeers => {
                let node = self.node(n);
                if let Some(told) = node.told {
                    node.exposed = told.ids.current;
                    node.left_behind = Name::default();
                }
            }
            Act::RememberOpenSource => {
                self.node(n).source_open |= rules.remembers_open_source;
            }
            Act::Reconnect => {
                if rules.leaves_with_its_disk {
                    self.lose_connection(n);
                }
            }
            Act::DiskFailed => {
                self.write_bitmap(n);
                self.flush(n);
                self.give_disk_up(n);
                self.fact(n, Change::disk(DiskState::Diskless));
            }
            Act::GiveDiskUp => self.give_disk_up(n),
            Act::AnnounceEnd => {
                self.node(n).announce = false;
                self.write_bitmap(n);
                self.node(n).thens.announce_end = true;
            }
            // Not in the model: which unmarked blocks are good, users' requests, limits in time, sizes, verify; and what a
            // loss entails beside a peer that is UpToDate, whose new generation comes to its record at once here.
            Act::TrustUnmarked
            | Act::DistrustUnmarked
            | Act::RecordInconsistent
            | Act::ExposeMovedOn
            | Act::AwaitRecordOfLoss
            | Act::LossSettled
            | Act::Unmark
            | Act::EndVerify
            | Act::BeginVerify
            | Act::SayNoData
            | Act::SendSizes
            | Act::LimitNegotiation
            | Act::NegotiationOver
            | Act::SyncUuidOver
            | Act::CloseDisk
            | Act::ResyncGrowth
            | Act::Retry
            | Act::SendBitmap => {}
        }
    }

    fn give_disk_up(&mut self, n: usize) {
        let node = self.node(n);
        node.attached = false;
        node.requesting = false;
        node.negotiated = None;
    }

    // ---- metadata ------------------------------------------------------------------------------------------------

    pub(crate) fn write_bitmap(&mut self, n: usize) {
        let disk = &mut self.node(n).disk;
        disk.durable_bits = disk.bits;
    }

    fn set_all_bits(&mut self, n: usize) {
        let disk = &mut self.node(n).disk;
        (disk.bits, disk.durable_bits) = (ALL_BLOCKS, ALL_BLOCKS);
    }

    /// A node that cannot crash any more writes its superblock at once: nobody could see the difference.
    pub(crate) fn maybe_flush(&mut self, n: usize) {
        if !self.crashes {
            self.flush(n);
        }
    }

    /// The superblock is on disk, and what waited for it goes on.
    pub(crate) fn flush(&mut self, n: usize) {
        let node = self.node(n);
        if !node.attached {
            node.thens = Default::default();
            return;
        }
        node.disk.durable = node.disk.sb;
        let thens = std::mem::take(&mut node.thens);
        if thens.start_requesting {
            // Ghost: from here on this disk is a mixture that nobody counts on.
            node.disk.seen = 0;
        }
        if thens.announce_generation {
            if self.world.nodes[n].state.conn < ConnState::WFReportParams {
                let seen = self.world.nodes[n].disk.seen;
                self.world.on_its_way &= !seen;
            }
            self.send_uuids(n);
            let open = std::mem::take(&mut self.node(n).open);
            self.world.acknowledged |= open;
        }
        let source = matches!(
            self.state(n).conn,
            ConnState::SyncSource | ConnState::PausedSyncS
        );
        if thens.send_sync_uuid != Name::default() && source {
            self.send(n, Msg::SyncUuid(thens.send_sync_uuid));
        }
        if thens.start_requesting && self.state(n).conn == ConnState::SyncTarget {
            self.node(n).requesting = true;
        }
        if thens.announce_end {
            self.send_state(n);
        }
    }

    // ---- generations ---------------------------------------------------------------------------------------------

    /// `Record::may_share_name`.
    pub(crate) fn may_share_name(&self, n: usize) -> bool {
        let alone = self.world.nodes[n].disk.sb.alone;
        self.ids(n).bitmap == 0 || alone == WroteAlone::Nothing
    }

    /// What the other node is told of it: only one that knows what it means.
    fn told_alone(&self, n: usize) -> WroteAlone {
        match self.rules[1 - n].names_lone_writes {
            true => self.world.nodes[n].disk.sb.alone,
            false => WroteAlone::Unknown,
        }
    }

    /// `Resource::new_current_uuid` and `Record::new_current`.
    pub(crate) fn new_current(&mut self, n: usize, without_peer: bool) {
        let (random, is_primary, mut ids) = (self.random(), self.is_primary(n), self.ids(n));
        let sb = &mut self.node(n).disk.sb;
        match sb.alone {
            WroteAlone::UnderNewName => ids.replace_current(random, is_primary),
            WroteAlone::Nothing if without_peer => {
                sb.alone = WroteAlone::UnderNewName;
                ids.new_current_beside_target(random, is_primary);
            }
            _ => self.rules[n].new_current(&mut ids, random, is_primary),
        }
        self.set_new_current(n, &ids);
    }

    fn set_new_current(&mut self, n: usize, ids: &GenerationIds) {
        self.set_ids(n, ids);
        let node = self.node(n);
        node.disk.named = true;
        node.exposed = Name::narrow(ids.current);
        node.thens.announce_generation = true;
        self.maybe_flush(n);
    }

    pub(crate) fn send_uuids(&mut self, n: usize) {
        let node = &self.world.nodes[n];
        if node.state.disk < DiskState::Negotiating || !node.attached {
            return;
        }
        let attaching_bad = node.state.disk == DiskState::Negotiating
            && node
                .negotiated
                .is_some_and(|(disk, _)| disk == DiskState::Inconsistent);
        let flag = |set: bool, bit: u64| if set { bit as u8 } else { 0 };
        let told = Told {
            ids: node.disk.sb.ids,
            bits: node.disk.bits,
            alone: self.told_alone(n),
            flags: flag(node.discard, PeerIds::FLAG_DISCARD)
                | flag(node.crashed, PeerIds::FLAG_CRASHED_PRIMARY)
                | flag(attaching_bad, PeerIds::FLAG_INCONSISTENT),
        };
        self.node(n).announced = told.bits;
        self.send(n, Msg::Uuids(told));
    }

    pub(crate) fn send_state(&mut self, n: usize) {
        let state = self.state(n);
        self.send(n, Msg::State(state));
    }

    // ---- packets -------------------------------------------------------------------------------------------------

    pub(crate) fn receive(&mut self, n: usize, packet: Msg) {
        match packet {
            Msg::Uuids(told) => self.on_uuids(n, told),
            Msg::State(state) => self.on_state(n, state),
            Msg::SyncUuid(name) => match self.state(n).conn {
                ConnState::WFSyncUUID | ConnState::Behind => self.start_target(n, name),
                ConnState::WFBitMapT | ConnState::StartingSyncT => self.node(n).early_uuid = name,
                _ => {}
            },
            Msg::Bitmap(bits) => self.on_bitmap(n, bits),
            Msg::Acked(bits) => {
                let node = self.node(n);
                node.disk.bits &= !bits;
                node.all_sent |= node.disk.bits == 0;
            }
            Msg::OutOfSync(bits) => self.node(n).disk.bits |= bits,
        }
    }

    fn on_uuids(&mut self, n: usize, told: Told) {
        let node = self.node(n);
        node.told = Some(told);
        let state = node.state;
        let first_look = state.conn < ConnState::Connected || state.pdsk == DiskState::Diskless;
        if state.role == Role::Primary
            && state.disk < DiskState::Inconsistent
            && first_look
            && (!node.exposed.is_same(told.ids.current) || node.source_open)
        {
            self.go_standalone(n);
        } else if state.is_connected()
            && state.disk < DiskState::Inconsistent
            && state.pdsk == DiskState::UpToDate
        {
            node.exposed = told.ids.current;
        }
    }

    /// `handshake/peer_state.rs`, `on_state`.
    fn on_state(&mut self, n: usize, packet: VolumeState) {
        let own = self.state(n);
        if own.conn <= ConnState::TearDown {
            return;
        }
        let told = self.world.nodes[n].told;
        let mut effective = packet.disk;
        if packet.disk == DiskState::Negotiating {
            let Some(told) = &told else {
                return self.lose_connection(n);
            };
            effective = effective_peer_disk(packet.disk, &peer_ids(told));
        }
        if self.rules[n].leaves_contradictions && contradiction(own, packet).is_some() {
            return self.lose_connection(n);
        }
        let mut taken = match meaning(own, packet, effective) {
            Meaning::TargetDone => return self.source_target_done(n),
            Meaning::TargetEndedInconsistent => {
                let change = Change::conn(ConnState::Connected).and_pdsk(DiskState::Inconsistent);
                return self.fact(n, change);
            }
            Meaning::Told(taken) => taken,
            Meaning::VerifyEnded => unreachable!("nobody verifies here"),
        };
        let due = self.world.nodes[n].consider_resync;
        let mut compared = packet.disk < DiskState::Negotiating;
        if let Some(told) = told
            && compares(own, packet, due)
        {
            self.node(n).consider_resync = false;
            compared = true;
            let outcome = self.decide(n, &told, packet.role, taken.pdsk);
            match self.on_decision(n, packet, outcome, taken) {
                None => return,
                Some(decided) => taken = decided,
            }
        }
        if compared && taken.conn != ConnState::WFBitMapT && self.gives_up_older_disk(n) {
            taken.conn = ConnState::Connected;
        }
        let own = self.state(n);
        let negotiated = self.world.nodes[n].negotiated.filter(|_| compared);
        let change = change(own, packet, taken, negotiated.map(|(disk, _)| disk));
        let establishes = own.conn < ConnState::Connected && taken.conn >= ConnState::Connected;
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

    fn gives_up_older_disk(&mut self, n: usize) -> bool {
        let node = &self.world.nodes[n];
        let current = node.disk.sb.ids.current;
        let other = node.exposed != Name::default() && !node.exposed.is_same(current);
        let behind = node.left_behind != Name::default() && node.left_behind.is_same(current);
        let gives_up = self.rules[n].records_first
            && node.attached
            && node.state.disk == DiskState::Negotiating
            && node.state.role == Role::Primary
            && (other || behind);
        if gives_up {
            self.fact(n, Change::disk(DiskState::Failed));
        }
        gives_up
    }

    /// `Resource::on_decision`.
    fn on_decision(
        &mut self,
        n: usize,
        packet: VolumeState,
        outcome: Outcome,
        told: PeerTold,
    ) -> Option<PeerTold> {
        let conn = |conn| Some(PeerTold { conn, ..told });
        match outcome {
            Outcome::Source { full: true } | Outcome::Target { full: true } => {
                self.set_all_bits(n);
            }
            _ => {}
        }
        match outcome {
            Outcome::Connected => conn(ConnState::Connected),
            Outcome::Source { .. } => conn(ConnState::WFBitMapS),
            Outcome::Target { .. } => conn(ConnState::WFBitMapT),
            Outcome::Fail(_) => match fail_effect(self.state(n).disk, packet.disk, false) {
                FailEffect::DetachOwn => {
                    self.fact(n, Change::disk(DiskState::Failed));
                    conn(ConnState::Connected)
                }
                FailEffect::PeerStaysDiskless => {
                    self.send_uuids(n);
                    self.send_state(n);
                    Some(PeerTold {
                        conn: ConnState::Connected,
                        pdsk: DiskState::Diskless,
                    })
                }
                FailEffect::Retry => {
                    self.lose_connection(n);
                    None
                }
                FailEffect::StandAlone => {
                    self.go_standalone(n);
                    None
                }
            },
        }
    }

    fn decide(&mut self, n: usize, told: &Told, peer_role: Role, peer_disk: DiskState) -> Outcome {
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
                peer_primary: peer_role == Role::Primary,
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
            peer_attaches: false,
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

    // ---- resync --------------------------------------------------------------------------------------------------

    fn on_bitmap(&mut self, n: usize, bits: u8) {
        match self.state(n).conn {
            ConnState::WFBitMapT => {
                self.node(n).disk.bits |= bits;
                let merged = self.world.nodes[n].disk.bits;
                self.send(n, Msg::Bitmap(merged));
                self.fact(n, Change::conn(ConnState::WFSyncUUID));
                self.take_early_uuid(n);
            }
            ConnState::WFBitMapS => {
                let disk = &mut self.node(n).disk;
                disk.bits |= bits;
                self.start_source(n);
            }
            _ => self.lose_connection(n),
        }
    }

    pub(crate) fn start_source(&mut self, n: usize) {
        let node = self.node(n);
        node.all_sent = node.disk.bits == 0;
        node.source_open = false;
        let change = Change::conn(ConnState::SyncSource).and_pdsk(DiskState::Inconsistent);
        self.fact(n, change);
    }

    fn make_sync_uuid(&mut self, n: usize) {
        let mut ids = self.ids(n);
        let random = self.random();
        let uuid = ids.start_source(random);
        self.set_ids(n, &ids);
        if self.rules.iter().all(|rules| rules.names_lone_writes) {
            self.node(n).disk.sb.alone = WroteAlone::Nothing;
        }
        self.node(n).thens.send_sync_uuid = Name::narrow(uuid);
    }

    pub(crate) fn take_early_uuid(&mut self, n: usize) {
        let early = std::mem::take(&mut self.node(n).early_uuid);
        if early != Name::default() {
            self.start_target(n, early);
        }
    }

    fn start_target(&mut self, n: usize, uuid: Name) {
        if !self.world.nodes[n].attached {
            return;
        }
        let is_primary = self.is_primary(n);
        let mut ids = self.ids(n);
        ids.start_target(uuid.wide(), is_primary);
        self.set_ids(n, &ids);
        self.node(n).exposed = Name::narrow(ids.current);
        self.judge_start(n);
        self.node(n).thens.start_requesting = true;
        self.fact(
            n,
            Change::conn(ConnState::SyncTarget).and_disk(DiskState::Inconsistent),
        );
        self.write_bitmap(n);
        self.maybe_flush(n);
    }

    /// All bits are clear and the source has seen every ack.
    pub(crate) fn target_finish(&mut self, n: usize) {
        let is_primary = self.is_primary(n);
        let mut change = Change::conn(ConnState::Connected).and_pdsk(DiskState::UpToDate);
        if let Some(told) = self.world.nodes[n].told {
            let mut ids = self.ids(n);
            ids.finish_target(&told.ids.wide(), is_primary);
            self.set_ids(n, &ids);
            let node = self.node(n);
            node.exposed = Name::narrow(ids.current);
            node.told = Some(Told {
                ids: Ids::narrow(&ids),
                ..told
            });
        }
        change = change.and_disk(DiskState::UpToDate);
        self.judge_finish(n);
        for node in &mut self.world.nodes {
            node.disk.named = false;
        }
        self.node(n).disk.seen = self.world.nodes[1 - n].disk.seen;
        self.node(n).requesting = false;
        self.node(n).announce = true;
        self.fact(n, change);
    }

    fn source_target_done(&mut self, n: usize) {
        if self.world.nodes[n].disk.bits != 0 {
            return;
        }
        if !matches!(
            self.state(n).conn,
            ConnState::SyncSource | ConnState::PausedSyncS
        ) {
            return;
        }
        let mut ids = self.ids(n);
        ids.finish_source();
        self.set_ids(n, &ids);
        let node = self.node(n);
        if let Some(told) = &mut node.told {
            told.ids = node.disk.sb.ids;
        }
        let change = Change::conn(ConnState::Connected)
            .and_disk(DiskState::UpToDate)
            .and_pdsk(DiskState::UpToDate);
        self.fact(n, change);
    }

    // ---- connection ----------------------------------------------------------------------------------------------

    /// The link is known to be broken: `net/teardown.rs`.
    pub(crate) fn lose_connection(&mut self, n: usize) {
        self.fact(n, Change::conn(ConnState::NetworkFailure));
        self.close_connection(n);
        self.fact(n, Change::conn(ConnState::Unconnected));
        self.fact(n, Change::conn(ConnState::WFConnection));
    }

    pub(crate) fn go_standalone(&mut self, n: usize) {
        self.fact(n, Change::conn(ConnState::Disconnecting));
        self.close_connection(n);
        self.fact(n, Change::conn(ConnState::StandAlone));
    }

    fn close_connection(&mut self, n: usize) {
        if self.world.nodes[n].log != 0 && !self.world.nodes[n].thens.announce_generation {
            let seen = self.world.nodes[n].disk.seen;
            self.world.on_its_way &= !seen;
        }
        self.world.link = false;
        for queue in &mut self.world.queues {
            queue.clear();
        }
        let node = self.node(n);
        node.told = None;
        node.consider_resync = false;
        node.requesting = false;
        node.announce = false;
        node.early_uuid = Name::default();
        node.state_sent = false;
        node.discard = false;
        node.decided = None;
        // The transfer log: what the peer may lack is marked, and the users hear that their writes are done, as soon as
        // the new generation is on disk.
        let disk = &mut node.disk;
        disk.bits |= std::mem::take(&mut node.log);
        disk.durable_bits = disk.bits;
        let alive = node.attached && node.state.disk == DiskState::UpToDate;
        if !alive {
            node.open = 0;
        } else if !node.thens.announce_generation {
            let open = std::mem::take(&mut node.open);
            self.world.acknowledged |= open;
        }
    }

    pub(crate) fn used(&self, kind: Kind) -> u8 {
        self.world.counts[kind as usize]
    }
}

/// The superblock's flags (`docs/spec/metadata.md`, section 2.3).
const CONSISTENT: u32 = 0x01;
const PRIMARY_IND: u32 = 0x02;
const CRASHED_PRIMARY: u32 = 0x40;

fn peer_ids(told: &Told) -> PeerIds {
    PeerIds {
        ids: told.ids.wide(),
        bits: u64::from(told.bits.count_ones()),
        flags: u64::from(told.flags),
    }
}
