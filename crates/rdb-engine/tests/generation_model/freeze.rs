//! What is frozen, and how it goes on: the order of the engine's `router/freeze.rs`, with its table of what thaws (`rules/thaw.rs`).

use rdb_engine::config::Protocol;
use rdb_engine::copies::{Copies, Here, Safety, There, Worth, is_safe};
use rdb_engine::generation::Generation;
use rdb_engine::rules::fencing::{is_target_doubtful, waits_for_target};
use rdb_engine::rules::thaw::{
    Facts, MayLack, OwedName, Thaw, ThawWay, catches_up, owed, resume, thaw,
};
use rdb_engine::state::{self, Change, DiskState, Fencing};

use crate::names::Name;
use crate::node::Step;
use crate::rules::Plant;
use crate::world::{BLOCKS, Msg};

impl Step<'_> {
    fn planted(&self, plant: Plant) -> bool {
        self.setting.plant == Some(plant)
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
        let diskless = !state::is_there(node.state.pdsk);
        let ok = node.attached && node.state.says_usable_disk();
        if ok {
            node.disk.data[usize::from(block)] = number;
            node.disk.seen |= write;
            if diskless {
                node.disk.bits |= bit;
                node.disk.hot |= bit;
                self.flush(n);
            } else if node.state.compares_blocks() {
                node.unmark(bit);
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
        } else if node.state.compares_blocks() {
            node.unmark(bit);
        }
    }

    // ---- what users are told -------------------------------------------------------------------------------------

    /// `Volume::doubts_target`.
    pub(crate) fn doubts_target(&self, n: usize) -> bool {
        waits_for_target(self.fencing(n), self.unproven(n))
    }

    /// `target_unproven`, if that is not overlooked.
    fn unproven(&self, n: usize) -> bool {
        self.world.nodes[n].target_unproven && !self.planted(Plant::TrustTarget)
    }

    /// `doubt_targets`.
    pub(crate) fn doubt_target(&mut self, n: usize) {
        let (pdsk, all_sent) = (self.state(n).pdsk, self.world.nodes[n].all_sent);
        if is_target_doubtful(self.fencing(n), pdsk, self.unproven(n), all_sent)
            && !self.planted(Plant::TrustTarget)
        {
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
        let counts_log = node.log_frozen || !recorded || doubts;
        let logged = if counts_log { self.logged_writes(n) } else { 0 };
        let there = self.world.nodes[1 - n].disk.seen;
        let worth = Worth {
            here: node.attached && node.state.has_lasting_copy(),
            there: node.state.is_connected() && node.state.pdsk == DiskState::UpToDate,
            loss_unrecorded: node.loss_unrecorded != Name::default()
                && !self.planted(Plant::TrustUnrecorded),
        };
        let (open, here) = (node.open, node.disk.seen);
        let (mut over, mut told, mut only_there) = (0, 0, false);
        for write in (1..16)
            .map(|number| 1 << number)
            .filter(|write| open & write != 0)
        {
            let copies = Copies {
                here: match node.attached && here & write != 0 {
                    true => Here::Done,
                    false => Here::Failed,
                },
                there: match there & write != 0 {
                    _ if logged & write != 0 => There::Sent,
                    true => There::Written,
                    false => There::Failed,
                },
            };
            let safety = is_safe(&copies, Protocol::C, worth);
            let waits = doubts && !copies.are_both(Protocol::C);
            if !waits && matches!(safety, Safety::Safe | Safety::Lost) {
                over |= write;
                if safety == Safety::Safe {
                    told |= write;
                    only_there |= copies.here != Here::Done;
                }
            }
        }
        let node = self.node(n);
        node.open &= !over;
        if only_there {
            node.left_behind = node.exposed;
        }
        self.tell(n, told);
    }

    // ---- frozen, and not any more --------------------------------------------------------------------------------

    /// A generation begins, or is owed while it is not known whether the peer comes back as it was.
    pub(crate) fn generation_due(&mut self, n: usize) {
        if self.state(n).awaits_the_peer() {
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
        let usable = node.attached && node.state.says_usable_disk();
        match owed(usable, self.may_share_name(n)) {
            OwedName::Begins => self.new_current(n, true),
            OwedName::Needless => {}
            OwedName::OfNoDisk => {
                let random = self.random();
                self.node(n).exposed = Name::narrow(Generation::new(random));
            }
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
            target_unproven: self.unproven(n),
        };
        let unasked =
            self.planted(Plant::ThawUnasked) && node.fence.is_some() && node.state.susp_fen;
        let due = thaw([facts].into_iter());
        let Some(why) = due.or(unasked.then_some(Thaw::Fenced)) else {
            return false;
        };
        match why.way(self.can_send_again(n)) {
            ThawWay::Alone => {
                self.record_fenced_peer(n);
                self.begin_owed_generation(n);
                self.settle_log(n);
            }
            ThawWay::Together => {
                self.drop_owed_generation(n);
                self.send_log_again(n);
            }
            ThawWay::Anew => {
                self.peer_cannot_catch_up(n);
                return true;
            }
        }
        self.unsuspend(n, why.change());
        true
    }

    fn record_fenced_peer(&mut self, n: usize) {
        let unrecorded = self.planted(Plant::GoOnUnrecorded);
        let node = self.node(n);
        if node.attached && node.state.says_usable_disk() && !unrecorded {
            node.thens.fenced_recorded = true;
            self.maybe_flush(n);
        }
    }

    /// `peer_may_lack`.
    pub(crate) fn peer_may_lack(&self, n: usize) -> MayLack {
        let node = &self.world.nodes[n];
        MayLack {
            under_way: node.log != 0 || node.open != 0 || self.planted(Plant::DoubtAllReturned),
            marked: node.disk.bits != 0,
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
        if resume(self.state(n).is_connected(), self.can_send_again(n)) == ThawWay::Together {
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
