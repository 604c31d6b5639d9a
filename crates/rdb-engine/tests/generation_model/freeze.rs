//! What is frozen, and how it goes on: the order of the engine's `freeze/`, with its table of what thaws (`rules/thaw.rs`).

use rdb_engine::generation::Generation;
use rdb_engine::rules::thaw::{Facts, Thaw, catches_up, thaw};
use rdb_engine::state::{self, Change, ConnState, DiskState, Fencing};

use crate::names::Name;
use crate::node::Step;
use crate::rules::Plant;
use crate::world::{BLOCKS, Msg};

impl Step<'_> {
    fn planted(&self, plant: Plant) -> bool {
        self.setting.plant == Some(plant)
    }

    pub(crate) fn awaits_the_peer(&self, n: usize) -> bool {
        let state = self.state(n);
        state.susp_fen || state.susp_nod
    }

    // ---- the log -------------------------------------------------------------------------------------------------

    /// Write `number` is on its way, and in the log until the peer has confirmed it for good.
    pub(crate) fn log(&mut self, n: usize, block: usize, number: u8) {
        let (fencing, waits) = (self.setting.fencing, self.setting.suspends_without_data);
        let node = self.node(n);
        let kept = waits || node.attached && fencing == Fencing::ResourceAndStonith;
        let bit = 1 << block;
        node.log |= bit;
        node.logged[block] = number;
        node.unkept = node.unkept & !bit | if kept { 0 } else { bit };
    }

    /// The last writes in the log, as a set.
    pub(crate) fn logged_writes(&self, n: usize) -> u16 {
        let logged = self.world.nodes[n].logged.iter();
        logged
            .filter(|number| **number != 0)
            .fold(0, |all, number| all | 1 << number)
    }

    /// The peer has what was written last in this place.
    pub(crate) fn confirmed(&mut self, n: usize, block: usize) {
        let node = self.node(n);
        let bit = 1 << block;
        node.log &= !bit;
        node.logged[block] = 0;
        node.unkept &= !bit;
    }

    fn forget_log(&mut self, n: usize) {
        let node = self.node(n);
        node.log = 0;
        node.logged = [0; BLOCKS];
        node.unkept = 0;
        node.log_frozen = false;
    }

    /// `settle_transfer_log`: what the peer may lack is marked, and the users hear that their writes are done, as soon as nothing
    /// holds that back.
    pub(crate) fn settle_log(&mut self, n: usize) {
        let node = self.node(n);
        let log = node.log;
        node.disk.bits |= log;
        node.disk.durable_bits = node.disk.bits;
        let alive = node.attached && node.state.disk == DiskState::UpToDate;
        let named = !node.thens.announce_generation;
        self.forget_log(n);
        if !alive && log != 0 {
            // (Under protocol A they hear it at the next flush.)
            self.give_up_tail(1 - n);
        } else if alive && named && log != 0 {
            self.keep_tail(n);
        }
        self.release(n, false);
    }

    /// A bitmap is about to go out: what is frozen is marked, and part of the resync.
    pub(crate) fn settle_frozen(&mut self, n: usize) {
        let node = self.node(n);
        if node.log_frozen {
            node.disk.bits |= node.log;
            self.forget_log(n);
        }
    }

    /// `can_send_again`.
    fn can_send_again(&self, n: usize) -> bool {
        let node = &self.world.nodes[n];
        !node.log_frozen || node.unkept & node.log == 0 || !state::should_replicate(node.state)
    }

    /// `send_log_again`.
    fn send_log_again(&mut self, n: usize) {
        let node = self.world.nodes[n];
        if !node.log_frozen {
            return;
        }
        self.node(n).log_frozen = false;
        if self.planted(Plant::ForgetFrozenLog) {
            return self.forget_log(n);
        }
        if !state::should_replicate(node.state) {
            self.node(n).disk.bits |= node.log;
            return self.forget_log(n);
        }
        for (block, number) in (0..).zip(node.logged) {
            if number != 0 {
                self.send(n, Msg::Data(block, number));
            }
        }
    }

    /// A write that is sent again.
    pub(crate) fn on_data(&mut self, n: usize, block: u8, number: u8) {
        let (bit, write) = (1 << block, 1_u16 << number);
        let node = self.node(n);
        let diskless = node.state.pdsk < DiskState::Inconsistent;
        let ok = node.attached && node.state.has_usable_disk();
        if ok {
            node.disk.data[usize::from(block)] = number;
            node.disk.seen |= write;
            if diskless {
                node.disk.bits |= bit;
                node.disk.hot |= bit;
                self.flush(n);
            } else if node.state.conn == ConnState::SyncTarget {
                node.disk.bits &= !bit;
            }
        }
        self.send(n, Msg::DataAck(block, number, ok));
    }

    pub(crate) fn on_data_ack(&mut self, n: usize, block: u8, number: u8, ok: bool) {
        let (bit, at) = (1 << block, usize::from(block));
        if self.world.nodes[n].logged[at] != number {
            return;
        }
        self.confirmed(n, at);
        let node = self.node(n);
        if !ok {
            node.disk.bits |= bit;
        } else if node.state.conn == ConnState::SyncSource {
            node.disk.bits &= !bit;
            node.all_sent |= node.disk.bits == 0;
        }
    }

    // ---- what users are told -------------------------------------------------------------------------------------

    /// (L48) Whether what only this node has waits for the target to be on record as one.
    pub(crate) fn doubts_target(&self, n: usize) -> bool {
        let node = &self.world.nodes[n];
        node.target_unproven
            && node.attached
            && self.setting.fencing == Fencing::ResourceAndStonith
            && !self.planted(Plant::TrustTarget)
    }

    /// (L48) A target that is lost, and may be as good by its record.
    pub(crate) fn doubt_target(&mut self, n: usize) {
        let fences = self.context(n).fencing != Fencing::DontCare;
        let node = &self.world.nodes[n];
        let doubtful = match node.state.pdsk {
            DiskState::Inconsistent => node.target_unproven || node.all_sent,
            DiskState::Outdated => node.target_unproven,
            _ => false,
        };
        if fences && doubtful && !self.planted(Plant::TrustTarget) {
            self.fact(n, Change::default().and_pdsk(DiskState::DUnknown));
        }
    }

    /// Users hear that these writes are done.
    pub(crate) fn tell(&mut self, n: usize, writes: u16) {
        if writes != 0 {
            self.world.acknowledged |= writes;
            self.judge_told(n, writes);
        }
    }

    /// Tells of the open writes that both copies have answered for, or that one has which is good, if nothing holds that back.
    /// `recorded`: what held it back has come to the record, and the peer's copies count no more.
    pub(crate) fn release(&mut self, n: usize, recorded: bool) {
        let node = &self.world.nodes[n];
        if node.open == 0 || !node.up || node.state.is_suspended() || node.thens.holds() {
            return;
        }
        let doubts = self.doubts_target(n);
        let over = recorded && !doubts;
        let mut ready = node.open;
        if node.log_frozen || !over {
            ready &= !self.logged_writes(n);
        }
        let there = self.world.nodes[1 - n].disk.seen;
        if doubts {
            ready &= there;
        }
        let state = node.state;
        let mut good = 0;
        if node.attached && state.has_lasting_copy() {
            good |= node.disk.seen;
        }
        if state.is_connected() && state.pdsk == DiskState::UpToDate {
            good |= there;
        }
        self.node(n).open &= !ready;
        self.tell(n, ready & good);
    }

    // ---- frozen, and not any more --------------------------------------------------------------------------------

    /// A generation begins, or is owed while it is not known whether the peer comes back as it was.
    pub(crate) fn generation_due(&mut self, n: usize) {
        if self.awaits_the_peer(n) {
            self.node(n).owes = true;
        } else {
            self.new_current(n, true);
        }
    }

    fn begin_owed_generation(&mut self, n: usize) {
        let owes = std::mem::take(&mut self.node(n).owes);
        if !owes || self.planted(Plant::ForgetGeneration) {
            return;
        }
        let node = &self.world.nodes[n];
        if !node.attached || !node.state.has_usable_disk() {
            let random = self.random();
            self.node(n).exposed = Name::narrow(Generation::new(random));
        } else if self.may_share_name(n) {
            self.new_current(n, true);
        }
    }

    /// `poll_thaw`. Says whether something went on.
    pub(crate) fn poll_thaw(&mut self, n: usize) -> bool {
        let node = &self.world.nodes[n];
        if !node.up || !node.state.is_suspended() || node.state_sent {
            return false;
        }
        let facts = Facts {
            state: node.state,
            target_unproven: node.target_unproven && !self.planted(Plant::TrustTarget),
        };
        let unasked =
            self.planted(Plant::ThawUnasked) && node.fence.is_some() && node.state.susp_fen;
        let due = thaw([facts].into_iter());
        let Some(why) = due.or(unasked.then_some(Thaw::Fenced)) else {
            return false;
        };
        if why == Thaw::Fenced {
            self.record_fenced_peer(n);
            self.begin_owed_generation(n);
            self.settle_log(n);
        } else if self.can_send_again(n) {
            self.drop_owed_generation(n);
            self.send_log_again(n);
        } else {
            self.peer_cannot_catch_up(n);
            return true;
        }
        let change = match why {
            Thaw::Fenced | Thaw::PeerIsBack => Change::default().and_susp_fen(false),
            Thaw::DataAreBack => Change::default().and_susp_nod(false),
        };
        self.unsuspend(n, change);
        true
    }

    fn record_fenced_peer(&mut self, n: usize) {
        let unrecorded = self.planted(Plant::GoOnUnrecorded);
        let node = self.node(n);
        if node.attached && node.state.has_usable_disk() && !unrecorded {
            node.thens.fenced_recorded = true;
            self.maybe_flush(n);
        }
    }

    pub(crate) fn peer_cannot_catch_up(&mut self, n: usize) {
        self.begin_owed_generation(n);
        self.settle_log(n);
        self.lose_connection(n);
    }

    pub(crate) fn unsuspend(&mut self, n: usize, change: Change) {
        let node = self.node(n);
        node.state = node.state.apply(change);
        self.release(n, false);
    }

    /// `drop_owed_generations`.
    fn drop_owed_generation(&mut self, n: usize) {
        if catches_up(self.state(n)) || self.planted(Plant::TrustReturned) {
            self.node(n).owes = false;
        }
        self.begin_owed_generation(n);
    }

    /// `resume-io`: everything goes on, whatever it waits for.
    pub(crate) fn resume(&mut self, n: usize) -> Option<()> {
        let node = &self.world.nodes[n];
        if !node.state.is_suspended() || node.state_sent {
            return None;
        }
        self.world.consent = true;
        if self.state(n).is_connected() && self.can_send_again(n) {
            self.drop_owed_generation(n);
            self.send_log_again(n);
        } else {
            self.begin_owed_generation(n);
            if self.world.nodes[n].log_frozen {
                self.settle_log(n);
            }
        }
        let change = Change::default().and_susp_nod(false).and_susp_fen(false);
        self.unsuspend(n, change);
        Some(())
    }
}
