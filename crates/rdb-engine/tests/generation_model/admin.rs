//! What administrators ask for, and a node that loses its power.

use rdb_engine::generation::WroteAlone;
use rdb_engine::state::{self, Change, ConnState, DiskState, Fencing, Role, VolumeState};

use crate::names::{Ids, Name};
use crate::node::{CONSISTENT, CRASHED_PRIMARY, PEER_OUT_DATED, PRIMARY_IND, Step, WAS_UP_TO_DATE};
use crate::rules::{Plant, Rules};
use crate::world::{BLOCKS, Node};

impl Step<'_> {
    /// `router/admin/role.rs`.
    pub(crate) fn promote(&mut self, n: usize, force: bool) -> Option<()> {
        let mut change = Change::role(Role::Primary);
        if force {
            let node = &self.world.nodes[n];
            let poor = matches!(
                node.state.disk,
                DiskState::Inconsistent | DiskState::Outdated | DiskState::Consistent
            );
            if self.allows(n, change) || !poor {
                return None; // that is no force
            }
            change = change.and_disk(DiskState::UpToDate);
            if !node.state.is_connected() && self.setting.fencing != Fencing::DontCare {
                change = change.and_pdsk(DiskState::Outdated);
            }
            self.world.consent = true;
        } else if self.fences_for_promotion(n) {
            return self.fence_for_promotion(n);
        }
        self.cluster_wide(n, change)?;
        self.promoted(n, force);
        Some(())
    }

    /// `Resource::promoted`.
    pub(crate) fn promoted(&mut self, n: usize, force: bool) {
        self.judge_promotion(n, force);
        let state = self.world.nodes[n].state;
        let lonely = state.conn < ConnState::Connected || state.pdsk <= DiskState::Failed;
        let told = self.world.nodes[n]
            .told
            .filter(|_| state.disk < DiskState::Inconsistent && state.pdsk == DiskState::UpToDate);
        if let Some(told) = told {
            self.node(n).exposed = told.ids.current;
        }
        if self.world.nodes[n].attached {
            let replicates = state::should_replicate(state);
            let amid_exchange = !lonely
                && state.disk == DiskState::UpToDate
                && !replicates
                && self.ids(n).bitmap.is_empty();
            let unnamed = amid_exchange && self.rules[n].names_writes_amid_exchange;
            if force || (lonely || unnamed) && self.may_share_name(n) {
                self.new_current(n, lonely);
            }
            let kernels = self.rules[n] == Rules::KERNEL;
            self.node(n).disk.marks.by_drbd |= amid_exchange && kernels;
            let sb = &mut self.node(n).disk.sb;
            if !replicates && sb.alone == WroteAlone::Nothing {
                sb.alone = WroteAlone::Unknown;
            }
            let mut ids = self.ids(n);
            ids.set_primary_bit(true);
            self.set_ids(n, &ids);
            self.node(n).exposed = Name::narrow(ids.current);
            self.flush(n);
        }
        if self.world.nodes[n].state.conn >= ConnState::WFReportParams {
            self.send_state(n);
        }
        if lonely {
            self.give_up_tail(n);
        }
        let here = self.world.nodes[n].state.disk == DiskState::UpToDate;
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
        if good && node.disk.durable.flags & CONSISTENT == 0 {
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
        let current = node.disk.durable.ids.current;
        let alone = state.pdsk != DiskState::UpToDate;
        let other_data = node.exposed != Name::default()
            && state.is_a_node_primary()
            && !node.exposed.is_same(current);
        let lacks_writes = state.role == Role::Primary
            && node.left_behind != Name::default()
            && node.left_behind.is_same(current);
        if state.disk != DiskState::Diskless || alone && (other_data || lacks_writes) {
            return None;
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
        let fences = self.setting.fencing != Fencing::DontCare;
        let node = self.node(n);
        let disk = &mut node.disk;
        disk.sb = disk.durable;
        let flags = disk.sb.flags;
        disk.bits = disk.durable_bits;
        if flags & PRIMARY_IND != 0 {
            disk.bits |= disk.hot;
        }
        disk.hot = 0;
        disk.durable_bits = disk.bits;
        node.attached = true;
        node.crashed = flags & (PRIMARY_IND | CRASHED_PRIMARY) != 0;
        let mut ids = node.disk.sb.ids.wide();
        ids.set_primary_bit(state.role == Role::Primary);
        node.disk.sb.ids = Ids::narrow(&ids);
        let connected = state.conn >= ConnState::Connected;
        let outdated = flags & PEER_OUT_DATED != 0 && !connected;
        let own = if flags & CONSISTENT == 0 {
            DiskState::Inconsistent
        } else if flags & WAS_UP_TO_DATE == 0 {
            DiskState::Outdated
        } else if !fences || outdated {
            DiskState::UpToDate
        } else {
            DiskState::Consistent
        };
        let peer = if outdated {
            DiskState::Outdated
        } else if fences && !connected {
            DiskState::DUnknown // (L52)
        } else {
            state.pdsk
        };
        let change = if connected {
            node.negotiated = Some((own, peer));
            node.told = None;
            Change::disk(DiskState::Negotiating)
        } else {
            Change::disk(own).and_pdsk(peer)
        };
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
