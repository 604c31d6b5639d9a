//! A resync on both sides, and the end of a connection.

use rdb_engine::rules::resync::{
    SourceEnd, source_begins, source_end, source_ends, target_begins, target_ends,
};
use rdb_engine::state::{Change, ConnState, is_source};

use crate::names::{Ids, Name};
use crate::node::Step;
use crate::rules::Plant;
use crate::world::{Marks, Msg, Told};

impl Step<'_> {
    pub(crate) fn on_bitmap(&mut self, n: usize, bits: u8) {
        match self.state(n).conn {
            ConnState::WFBitMapT => {
                self.settle_frozen(n);
                self.merge(n, bits);
                let merged = self.world.nodes[n].disk.bits;
                self.send(n, Msg::Bitmap(merged));
                self.fact(n, Change::conn(ConnState::WFSyncUUID));
                self.take_early_uuid(n);
            }
            ConnState::WFBitMapS => {
                self.merge(n, bits);
                self.start_source(n);
            }
            _ => self.lose_connection(n),
        }
    }

    /// The other node's marks are added.
    fn merge(&mut self, n: usize, bits: u8) {
        let disk = &mut self.node(n).disk;
        disk.marks.merged |= bits & !disk.bits != 0;
        disk.bits |= bits;
    }

    pub(crate) fn start_source(&mut self, n: usize) {
        let node = self.node(n);
        node.all_sent = node.disk.bits == 0;
        node.target_unproven = true;
        node.source_open = false;
        self.fact(n, source_begins());
    }

    pub(crate) fn make_sync_uuid(&mut self, n: usize) {
        let (mut names, random) = (self.names(n), self.random());
        let notes = self.rules.iter().all(|rules| rules.names_lone_writes);
        let uuid = names.start_source(random, notes);
        self.set_names(n, &names);
        self.node(n).thens.send_sync_uuid = Name::narrow(uuid);
    }

    pub(crate) fn take_early_uuid(&mut self, n: usize) {
        let early = std::mem::take(&mut self.node(n).early_uuid);
        if early != Name::default() {
            self.start_target(n, early);
        }
    }

    pub(crate) fn start_target(&mut self, n: usize, uuid: Name) {
        if !self.world.nodes[n].attached {
            return;
        }
        let is_primary = self.is_primary(n);
        let mut ids = self.ids(n);
        ids.start_target(uuid.wide(), is_primary);
        self.set_ids(n, &ids);
        self.node(n).exposed = Name::narrow(ids.current);
        self.judge_start(n);
        // (The resync before may have been broken off by its source.)
        self.node(n).requesting = false;
        self.node(n).thens.start_requesting = true;
        self.fact(n, target_begins());
        self.write_bitmap(n);
        self.maybe_flush(n);
    }

    /// All bits are clear and the source has seen every ack.
    pub(crate) fn target_finish(&mut self, n: usize) {
        let is_primary = self.is_primary(n);
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
        self.judge_finish(n);
        for node in &mut self.world.nodes {
            node.disk.named = false;
            node.disk.marks = Marks::default();
        }
        self.node(1 - n).disk.marks.ended_unseen = true;
        self.node(n).disk.seen = self.world.nodes[1 - n].disk.seen;
        self.node(n).requesting = false;
        self.node(n).announce = true;
        self.fact(n, target_ends(true));
    }

    /// The target says that it is done. (What it acknowledged before has come: packets are in order here.)
    pub(crate) fn source_target_done(&mut self, n: usize) {
        self.node(n).target_done = true;
        self.poll_source_end(n);
    }

    /// `poll_source_end`.
    pub(crate) fn poll_source_end(&mut self, n: usize) {
        let node = &self.world.nodes[n];
        if !node.target_done {
            return;
        }
        if !is_source(node.state.conn) {
            self.node(n).target_done = false;
            return;
        }
        let left = u64::from(node.disk.bits.count_ones());
        let world = &self.world;
        let settled = || world.link && world.queues.iter().all(|queue| queue.is_empty());
        match source_end(left, false, settled) {
            SourceEnd::Waits => {}
            SourceEnd::Done => self.source_finish(n),
            SourceEnd::Differs { .. } => self.lose_connection(n),
        }
    }

    fn source_finish(&mut self, n: usize) {
        self.node(n).target_done = false;
        let mut ids = self.ids(n);
        ids.finish_source();
        self.set_ids(n, &ids);
        let node = self.node(n);
        if let Some(told) = &mut node.told {
            told.ids = node.disk.sb.ids;
        }
        self.fact(n, source_ends(self.state(n).disk));
    }

    // ---- connection ----------------------------------------------------------------------------------------------

    /// The link is known to be broken: `router/net/teardown.rs`.
    pub(crate) fn lose_connection(&mut self, n: usize) {
        self.holding = true;
        self.fact(n, Change::conn(ConnState::NetworkFailure));
        self.close_connection(n);
        self.fact(n, Change::conn(ConnState::Unconnected));
        self.fact(n, Change::conn(ConnState::WFConnection));
    }

    pub(crate) fn go_standalone(&mut self, n: usize) {
        self.holding = true;
        self.fact(n, Change::conn(ConnState::Disconnecting));
        self.close_connection(n);
        self.fact(n, Change::conn(ConnState::StandAlone));
    }

    /// `router/net/teardown.rs`.
    pub(crate) fn close_connection(&mut self, n: usize) {
        self.doubt_target(n);
        self.run_held();
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
        node.target_unproven = false;
        node.target_done = false;
        node.held_state = None;
        if self.state(n).awaits_the_peer() {
            let kept = self.logged_writes(n) | self.world.nodes[n].disk.seen;
            let node = self.node(n);
            node.log_frozen = true;
            // (What only the peer has is written again, which is another write.)
            node.open &= kept;
            if self.setting.plant == Some(Plant::AnswerFrozen) {
                let open = std::mem::take(&mut self.node(n).open);
                self.tell(n, open);
            }
        } else {
            self.settle_log(n);
        }
        self.write_bitmap(n);
        self.fence_lost_peer(n);
    }
}
