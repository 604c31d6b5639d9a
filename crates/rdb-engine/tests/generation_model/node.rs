//! What a node does at a change of state and at a packet: the order of the engine's `router/changes.rs`, `router/handshake/`,
//! `router/bitmap_exchange.rs` and `router/resync/`, with the engine's own tables and functions doing the work.

use rdb_engine::generation::{Generation, GenerationIds, Names, PeerIds, WroteAlone};
use rdb_engine::rules::consequences::{Act, CONSEQUENCES, Facts, Turn, Why};
use rdb_engine::rules::record;
use rdb_engine::rules::resync::{self, TargetRecord};
use rdb_engine::rules::serving::{has_caught_up, leaves_open, stays_open};
use rdb_engine::state::{
    self, Change, ConnState, Context, DiskState, Fencing, ImmediateEffects, Outcome as Changed,
    Role, VolumeState,
};

use rdb_meta::MdFlags;

use crate::names::{Ids, Name};
use crate::oracle::Finding;
use crate::rules::{Plant, Rules, Setting};
use crate::world::{ALL_BLOCKS, Kind, Msg, Node, Told, World};

/// One event, under way.
pub(crate) struct Step<'a> {
    pub(crate) world: World,
    pub(crate) setting: &'a Setting,
    pub(crate) rules: &'a [Rules; 2],
    /// A node whose crashes are all used up needs no difference between memory and disk.
    pub(crate) crashes: bool,
    /// The node whose administrator orders a full sync onto its disk.
    pub(crate) ordering: Option<usize>,
    /// The node whose administrator detaches its disk.
    pub(crate) detaching: Option<usize>,
    /// What follows from changes waits for its turn.
    pub(crate) holding: bool,
    pub(crate) held: Vec<(usize, VolumeState, VolumeState)>,
    /// A queue had no room for what was sent.
    pub(crate) too_much: bool,
    pub(crate) findings: Vec<Finding>,
}

impl Step<'_> {
    pub(crate) fn node(&mut self, n: usize) -> &mut Node {
        &mut self.world.nodes[n]
    }

    pub(crate) fn state(&self, n: usize) -> VolumeState {
        self.world.nodes[n].state
    }

    pub(crate) fn ids(&self, n: usize) -> GenerationIds {
        self.world.nodes[n].disk.sb.ids.wide()
    }

    pub(crate) fn set_ids(&mut self, n: usize, ids: &GenerationIds) {
        let mut names = self.names(n);
        names.set_ids(*ids);
        self.set_names(n, &names);
    }

    /// What the record of node `n` says of names.
    pub(crate) fn names(&self, n: usize) -> Names {
        let sb = &self.world.nodes[n].disk.sb;
        Names {
            ids: sb.ids.wide(),
            alone: sb.alone,
        }
    }

    pub(crate) fn set_names(&mut self, n: usize, names: &Names) {
        let sb = &mut self.node(n).disk.sb;
        (sb.ids, sb.alone) = (Ids::narrow(&names.ids), names.alone);
    }

    pub(crate) fn is_primary(&self, n: usize) -> bool {
        self.state(n).role == Role::Primary
    }

    pub(crate) fn random(&mut self) -> u64 {
        self.world.fresh_name().wide().bits()
    }

    pub(crate) fn send(&mut self, n: usize, packet: Msg) {
        if self.world.link {
            self.too_much |= !self.world.queues[1 - n].push(packet);
        }
    }

    pub(crate) fn context(&self, n: usize) -> Context {
        let node = &self.world.nodes[n];
        Context {
            net_configured: true,
            agreed_version: 101,
            state_sent: node.state_sent,
            exposed_uuid_matches_disk: node.attached
                && node.shown(node.disk.sb.ids.current).is_seen_last(),
            negotiated: node
                .negotiated
                .unwrap_or((DiskState::Diskless, DiskState::DUnknown)),
            invalidated: node.invalidated,
            ordered_here: self.ordering == Some(n),
            fencing: self.fencing(n),
            suspend_on_no_data: self.setting.suspends_without_data,
            ..Context::DEFAULT
        }
    }

    /// The option of the disk, if there is one.
    pub(crate) fn fencing(&self, n: usize) -> Fencing {
        match self.world.nodes[n].attached {
            true => self.setting.fencing,
            false => Fencing::DontCare,
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
        let node = self.node(n);
        node.state = new;
        node.given_up &= new.conn > ConnState::Connected || new.disk != DiskState::UpToDate;
        if let Some(target) = resync::target(old.conn, new.conn) {
            node.target_unproven = target == TargetRecord::Unproven;
        }
        node.invalidated = state::is_invalidated(new, node.invalidated);
        if resync::early_uuid_is_over(old.conn, new.conn) {
            node.early_uuid = Name::default();
        }
        node.source_open = stays_open(&new, node.source_open);
        let effects = state::immediate(old, new);
        if node.attached {
            self.note_flags(n);
            let node = self.node(n);
            if effects.contains(ImmediateEffects::EXPOSE_DISK) {
                node.exposed = node.disk.sb.ids.current;
            }
        }
        let node = self.node(n);
        if effects.contains(ImmediateEffects::CONSIDER_RESYNC) {
            node.consider_resync = true;
        }
        if effects.contains(ImmediateEffects::LEFT_WF_REPORT_PARAMS) {
            node.state_sent = false;
        }
        if effects.contains(ImmediateEffects::CONNECTED)
            && let Some(run) = &mut node.fence
        {
            run.stale = true;
        }
        if self.holding {
            self.held.push((n, old, new));
        } else {
            self.after_change(n, old, new);
        }
        true
    }

    /// `Resource::note_flags`. (The mark of a Primary goes at once here, with the bitmap before it.)
    fn note_flags(&mut self, n: usize) {
        let marks = self.rules[n].marks_before_unprimary;
        let plant = self.setting.plant;
        let shares = self.may_share_name(n) && plant != Some(Plant::CountConnected);
        let node = &self.world.nodes[n];
        let facts = record::Facts {
            state: node.state,
            crashed: node.crashed,
            invalidated: node.invalidated,
            fencing: self.setting.fencing,
            may_share_name: shares,
        };
        let before = node.disk.sb.flags;
        let Some(mut flags) = record::flags(&facts, before) else {
            return;
        };
        if plant == Some(Plant::OutdatedUnrecorded) && facts.state.disk == DiskState::Outdated {
            flags |= MdFlags::WAS_UP_TO_DATE;
        }
        let disk = &mut self.node(n).disk;
        disk.sb.flags = flags;
        if marks && (before - flags).contains(MdFlags::PRIMARY_IND) {
            disk.durable_bits = disk.bits;
        }
    }

    /// `run_after`.
    pub(crate) fn run_held(&mut self) {
        self.holding = false;
        for (n, old, new) in std::mem::take(&mut self.held) {
            self.after_change(n, old, new);
        }
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
            self.settle_frozen(n);
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
            moved_on: false, // a detach and the peer's consent are one event here
            loss_unrecorded: node.loss_unrecorded != Name::default(),
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
                    node.disk.sb.flags -= MdFlags::CRASHED_PRIMARY;
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
            Act::NewGeneration(Why::PeerLost) => self.generation_due(n),
            Act::NewGeneration(Why::BadPeerLost) => {
                if rules.renames_without_bad_peer {
                    self.generation_due(n);
                }
            }
            Act::NewGeneration(Why::AttachedAlone) => {
                let alone = !new.is_connected() || rules.renames_at_attach_beside_diskless;
                if rules.renames_at_lonely_attach && alone {
                    self.generation_due(n);
                }
            }
            Act::SourceLost => {
                let node = self.node(n);
                let open = leaves_open(node.state.role, node.all_sent);
                node.source_open = rules.remembers_open_source && open;
            }
            Act::WriteBitmap => self.write_bitmap(n),
            Act::FullSync => {
                self.set_all_bits(n);
                self.node(n).disk.marks.ordered = true;
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
                    let own = node.attached.then_some(node.disk.sb.ids.current.wide());
                    if has_caught_up(own, told.ids.current.wide()) {
                        node.left_behind = Name::default();
                    }
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
                let ordered = self.detaching == Some(n) && record::is_left_to_peer(&new);
                let failed = record::fails_beside_a_good_one(&new);
                let left = ordered || failed && self.setting.plant != Some(Plant::KeepFailedDisk);
                self.note_failed_disk(n);
                if rules.outdates_detached && left {
                    self.node(n).disk.sb.flags -= MdFlags::WAS_UP_TO_DATE;
                }
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
            Act::AwaitRecordOfLoss => {
                let node = self.node(n);
                node.loss_unrecorded = match node.attached {
                    true => node.disk.sb.ids.current,
                    false => node.exposed,
                };
                node.lost_beside = node.loss_unrecorded;
            }
            Act::LossSettled => {
                let node = self.node(n);
                if std::mem::take(&mut node.loss_unrecorded) != Name::default() {
                    // (`peer_counts_no_more`: what only the peer has is not told of. That it is written again is another write.)
                    node.open &= node.disk.seen;
                }
            }
            // Not in the model: which unmarked blocks are good, users' requests, limits in time, sizes, verify; disks that pass
            // errors on; and a peer that has moved on before its consent to a detach is here.
            Act::ExposeMovedOn
            | Act::TrustUnmarked
            | Act::DistrustUnmarked
            | Act::RecordInconsistent
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

    pub(crate) fn set_all_bits(&mut self, n: usize) {
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
        node.disk.marks.ended_unseen &= node.disk.sb.ids.bitmap != Name::default();
        let thens = std::mem::take(&mut node.thens);
        if thens.start_requesting {
            // Ghost: from here on this disk is a mixture that nobody counts on.
            node.disk.seen = 0;
        }
        if thens.announce_generation {
            if self.state(n).conn < ConnState::WFReportParams {
                self.keep_tail(n);
            }
            self.send_uuids(n);
        }
        if thens.holds() {
            self.release(n, true);
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

    pub(crate) fn may_share_name(&self, n: usize) -> bool {
        self.names(n).may_share()
    }

    /// What the other node is told of it: only one that knows what it means.
    pub(crate) fn told_alone(&self, n: usize) -> WroteAlone {
        match self.rules[1 - n].names_lone_writes {
            true => self.world.nodes[n].disk.sb.alone,
            false => WroteAlone::Unknown,
        }
    }

    /// `Resource::new_current_uuid`.
    pub(crate) fn new_current(&mut self, n: usize, without_peer: bool) {
        let (random, is_primary) = (self.random(), self.is_primary(n));
        let mut names = self.names(n);
        let told = self.world.nodes[n].told;
        // `Resource::target_has_our_name`.
        let has_our_name = self.state(n).conn == ConnState::WFBitMapS
            && told.is_some_and(|told| told.ids.wide().current == names.ids.current);
        let without_peer = without_peer && !has_our_name;
        if !self.rules[n].rotates {
            names.ids.bitmap = Generation::NONE;
        }
        names.new_current(random, is_primary, without_peer);
        self.set_names(n, &names);
        self.note_flags(n);
        let node = self.node(n);
        node.disk.named = true;
        node.exposed = node.disk.sb.ids.current;
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
        if self.world.nodes[n].held_state.is_some() {
            return; // the first one has to go before, and comes with it
        }
        let told = self.state(n).as_told();
        self.send(n, Msg::State(told));
    }

    /// `release_first_state`.
    pub(crate) fn release_first_state(&mut self, n: usize) {
        let Some(first) = self.node(n).held_state.take() else {
            return;
        };
        self.send(n, Msg::State(first));
        if self.state(n).to_word() != first.to_word() {
            self.send_state(n);
        }
    }

    pub(crate) fn used(&self, kind: Kind) -> u8 {
        self.world.counts[kind as usize]
    }
}
