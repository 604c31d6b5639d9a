//! What administrators ask for, and a node that loses its power.

use rdb_engine::rules::attach::{self, RecordedWorth};
use rdb_engine::rules::promotion::{Means, Promoted, Why, can_be_forced, wish};
use rdb_engine::rules::serving::shows_peers;
use rdb_engine::state::{self, Change, ConnState, DiskState, Fencing, Role, VolumeState};

use rdb_meta::MdFlags;

use crate::names::{Ids, Name};
use crate::node::Step;
use crate::rules::{Plant, Rules};
use crate::world::{BLOCKS, Node};

impl Step<'_> {
    /// `router/admin/role.rs`.
    pub(crate) fn promote(&mut self, n: usize, force: bool) -> Option<()> {
        let state = self.state(n);
        let mut means = Means::default();
        if force {
            if self.allows(n, wish(state.disk, means)) || !can_be_forced(state.disk) {
                return None; // that is no force
            }
            means.forced = true;
            // (The handler is not asked first: what it would say is not believed anyway.)
            means.unfenced = !state.is_connected() && self.setting.fencing != Fencing::DontCare;
            self.world.consent = true;
        } else if self.fences_for_promotion(n) {
            return self.fence_for_promotion(n);
        }
        self.cluster_wide(n, wish(state.disk, means))?;
        self.promoted(n, force);
        Some(())
    }

    /// `Resource::promoted`.
    pub(crate) fn promoted(&mut self, n: usize, forced: bool) {
        self.judge_promotion(n, forced);
        let state = self.state(n);
        let lonely = state.is_without_peer();
        let promoted = Promoted {
            state,
            replicates: state::should_replicate(state),
            forced,
        };
        if let Some(told) = self.world.nodes[n].told.filter(|_| shows_peers(&state)) {
            self.node(n).exposed = told.ids.current;
        }
        if self.world.nodes[n].attached {
            match promoted.begins(&self.names(n)) {
                None => {}
                Some(Why::Unnamed) if !self.rules[n].names_writes_amid_exchange => {
                    self.node(n).disk.marks.by_drbd |= self.rules[n] == Rules::KERNEL;
                }
                Some(_) => self.new_current(n, lonely),
            }
            let mut names = self.names(n);
            names.note_primary(promoted.replicates);
            self.set_names(n, &names);
            self.node(n).exposed = Name::narrow(names.ids.current);
            self.flush(n);
        }
        if state.conn >= ConnState::WFReportParams {
            self.send_state(n);
        }
        if lonely {
            self.give_up_tail(n);
        }
        let here = self.state(n).disk == DiskState::UpToDate;
        let data = if here { n } else { 1 - n };
        self.node(n).users = self.world.nodes[data].disk.seen;
        for node in &mut self.world.nodes {
            node.decided = None;
        }
    }

    pub(crate) fn demote(&mut self, n: usize) -> Option<()> {
        let node = &self.world.nodes[n];
        if node.open != 0 || node.log != 0 || !self.allows(n, Change::role(Role::Secondary)) {
            return None;
        }
        self.write_bitmap(n);
        self.change(n, Change::role(Role::Secondary), false)
            .then_some(())?;
        // Nothing was written since it was owed, and nobody waits for it any more.
        self.node(n).owes &= self.setting.plant == Some(Plant::NameDemoted);
        self.node(n).users = 0;
        let attached = self.world.nodes[n].attached;
        if attached {
            let mut ids = self.ids(n);
            ids.set_primary_bit(false);
            self.set_ids(n, &ids);
            self.flush(n);
        }
        if self.world.nodes[n].state.conn >= ConnState::WFReportParams {
            self.send_state(n);
        }
        Some(())
    }

    pub(crate) fn crash(&mut self, n: usize) {
        self.world.link = false;
        self.world.queues.iter_mut().for_each(|queue| queue.clear());
        let node = &self.world.nodes[n];
        let good = node.attached && node.state.disk == DiskState::UpToDate;
        if good && !node.disk.durable.flags.contains(MdFlags::CONSISTENT) {
            // (Under protocol A a flush waits for that record: what was not flushed has gone with the power.)
            self.give_up_tail(1 - n);
        }
        let node = self.node(n);
        let mut disk = node.disk;
        disk.sb = disk.durable;
        disk.bits = disk.durable_bits;
        *node = Node {
            up: false,
            state: VolumeState::INITIAL,
            attached: false,
            disk,
            thens: Default::default(),
            crashed: false,
            exposed: Name::default(),
            left_behind: Name::default(),
            told: None,
            announced: 0,
            negotiated: None,
            consider_resync: false,
            discard: false,
            given_up: node.given_up,
            invalidated: false,
            state_sent: false,
            requesting: false,
            early_uuid: Name::default(),
            announce: false,
            log: 0,
            logged: [0; BLOCKS],
            unkept: 0,
            log_frozen: false,
            owes: false,
            target_unproven: false,
            target_done: false,
            loss_unrecorded: Name::default(),
            lost_beside: Name::default(),
            held_state: None,
            fence: None,
            promoting: false,
            open: 0,
            decided: None,
            all_sent: false,
            source_open: false,
            users: 0,
        };
    }

    pub(crate) fn restart(&mut self, n: usize) -> Option<()> {
        self.node(n).up = true;
        self.attach(n)?;
        self.fact(n, Change::conn(ConnState::Unconnected));
        self.fact(n, Change::conn(ConnState::WFConnection));
        Some(())
    }

    /// `router/disk/attach.rs`.
    pub(crate) fn attach(&mut self, n: usize) -> Option<()> {
        let node = &self.world.nodes[n];
        let state = node.state;
        let shown = node.shown(node.disk.durable.ids.current);
        if state.disk != DiskState::Diskless || attach::older_alone(&shown).is_some() {
            return None;
        }
        if node.loss_unrecorded != Name::default() {
            return None; // (L26) it waits for the peer's word
        }
        if node.state_sent || state.conn >= ConnState::Connected && !self.peer_is_there(n) {
            return None; // one attach at a time, in a quiet moment
        }
        if !self.change(n, Change::disk(DiskState::Attaching), false) {
            return None;
        }
        for node in &mut self.world.nodes {
            node.decided = None;
        }
        let fencing = self.setting.fencing;
        let node = self.node(n);
        let disk = &mut node.disk;
        disk.sb = disk.durable;
        let flags = disk.sb.flags;
        disk.bits = disk.durable_bits;
        if flags.contains(MdFlags::PRIMARY_IND) {
            disk.bits |= disk.hot;
        }
        disk.hot = 0;
        disk.durable_bits = disk.bits;
        node.attached = true;
        node.crashed = flags.intersects(MdFlags::PRIMARY_IND | MdFlags::CRASHED_PRIMARY);
        let mut ids = node.disk.sb.ids.wide();
        ids.set_primary_bit(state.role == Role::Primary);
        node.disk.sb.ids = Ids::narrow(&ids);
        let worth = RecordedWorth::of(flags, &state, fencing);
        if state.is_connected() {
            node.negotiated = Some((worth.own, worth.peer));
        }
        if attach::forgets_peers_names(&state) {
            node.told = None;
        }
        let change = worth.change(&state);
        if !self.change(n, change, true) {
            return None;
        }
        self.flush(n);
        Some(())
    }

    pub(crate) fn invalidate(&mut self, n: usize) -> Option<()> {
        let state = self.world.nodes[n].state;
        if state.conn != ConnState::Connected || state.pdsk != DiskState::UpToDate {
            return None;
        }
        self.node(n).given_up = true;
        self.ordering = Some(n);
        let done = self.cluster_wide(n, Change::conn(ConnState::StartingSyncT));
        self.ordering = None;
        done
    }

    pub(crate) fn invalidate_remote(&mut self, n: usize) -> Option<()> {
        let state = self.world.nodes[n].state;
        let target = &self.world.nodes[1 - n];
        // A node that is asked lets its users' writes settle before it answers.
        let settled = target.open == 0 && target.log == 0;
        if state.conn != ConnState::Connected || state.disk != DiskState::UpToDate || !settled {
            return None;
        }
        self.node(1 - n).given_up = true;
        self.cluster_wide(n, Change::conn(ConnState::StartingSyncS))
    }
}
