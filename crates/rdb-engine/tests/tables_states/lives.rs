//! Random lives of two disks: whatever two nodes go through, when they meet again the decision must be right about the
//! data. The model keeps the blocks themselves beside identifiers and bitmaps, so it knows what is right.

use proptest::collection::vec;
use proptest::prelude::*;
use rdb_engine::generation::{CompareInputs, GenerationIds, PeerIds};
use rdb_engine::state::DiskState;
use rdb_engine::sync_decision::{DecisionInputs, FailReason, Outcome, decide};

use crate::decision::inputs;
use crate::generation::{C, G, H, QUIET, gi};

const BLOCKS: usize = 4;

/// What happens next; node numbers are 0 and 1.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The link breaks.
    Cut,
    /// The link is back. A resync copies at most `copies` blocks before the link breaks again.
    Meet {
        copies: usize,
        loser: usize,
        flag: usize,
    },
    /// A node is promoted, if it may be.
    Promote(usize),
    /// A node is demoted.
    Demote(usize),
    /// The user of a Primary writes a block.
    Write(usize, usize),
    /// A node loses power. If it was Primary a write of `block` was under way: done here, there, or nowhere.
    Crash {
        node: usize,
        block: usize,
        reached: usize,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let node = 0..2_usize;
    let block = 0..BLOCKS;
    prop_oneof![
        2 => Just(Step::Cut),
        4 => (0..=BLOCKS + 1, node.clone(), node.clone())
            .prop_map(|(copies, loser, flag)| Step::Meet { copies, loser, flag }),
        3 => node.clone().prop_map(Step::Promote),
        2 => node.clone().prop_map(Step::Demote),
        5 => (node.clone(), block.clone()).prop_map(|(node, block)| Step::Write(node, block)),
        2 => (node, block, 0..3_usize)
            .prop_map(|(node, block, reached)| Step::Crash { node, block, reached }),
    ]
}

#[derive(Clone, Debug)]
struct Node {
    ids: GenerationIds,
    /// The number of the write that each block holds.
    data: [u64; BLOCKS],
    /// Set: may differ from the generation `ids.bitmap`.
    bits: [bool; BLOCKS],
    /// In the activity log.
    hot: [bool; BLOCKS],
    primary: bool,
    inconsistent: bool,
    crashed: bool,
}

struct Pair {
    nodes: [Node; 2],
    connected: bool,
    /// The last acknowledged write of each block; after a fork, of the side that was kept.
    acknowledged: [u64; BLOCKS],
    writes: u64,
    random: u64,
    seen: Seen,
}

/// What a life has met, so that the test can tell that it tests something.
#[derive(Default, Debug)]
struct Seen {
    equal: u32,
    resyncs: u32,
    forks: u32,
}

impl Pair {
    fn new() -> Pair {
        let node = Node {
            ids: gi(C, 0, H, G),
            data: [0; BLOCKS],
            bits: [false; BLOCKS],
            hot: [false; BLOCKS],
            primary: false,
            inconsistent: false,
            crashed: false,
        };
        Pair {
            nodes: [node.clone(), node],
            connected: true,
            acknowledged: [0; BLOCKS],
            writes: 0,
            random: 0x1000,
            seen: Seen::default(),
        }
    }

    /// A new name, and a sync UUID never equals it by chance.
    fn random(&mut self) -> u64 {
        self.random += 2;
        self.random
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Cut => self.lose_link(None),
            Step::Meet {
                copies,
                loser,
                flag,
            } if !self.connected => {
                self.meet(copies, loser, flag);
            }
            Step::Meet { .. } => {}
            Step::Promote(node) => self.promote(node),
            Step::Demote(node) => {
                self.nodes[node].primary = false;
                self.nodes[node].ids.set_primary_bit(false);
            }
            Step::Write(node, block) => self.write(node, block),
            Step::Crash {
                node,
                block,
                reached,
            } => self.crash(node, block, reached),
        }
    }

    /// N1: a Primary that loses the peer's data begins a generation. A crashed node does nothing any more.
    fn lose_link(&mut self, crashed: Option<usize>) {
        if !self.connected {
            return;
        }
        self.connected = false;
        for nr in 0..2 {
            let random = self.random();
            let node = &mut self.nodes[nr];
            if node.primary && node.ids.bitmap.is_empty() && crashed != Some(nr) {
                node.ids.new_current(random, true);
            }
        }
    }

    /// N3, for a promotion without force.
    fn promote(&mut self, nr: usize) {
        let taken = self.connected && self.nodes[1 - nr].primary;
        let (random, connected) = (self.random(), self.connected);
        let node = &mut self.nodes[nr];
        if node.inconsistent || node.primary || taken {
            return;
        }
        node.primary = true;
        if !connected && node.ids.bitmap.is_empty() {
            node.ids.new_current(random, true);
        }
        node.ids.set_primary_bit(true);
    }

    fn write(&mut self, nr: usize, block: usize) {
        if !self.nodes[nr].primary {
            return;
        }
        self.writes += 1;
        self.acknowledged[block] = self.writes;
        self.nodes[nr].hot[block] = true;
        self.nodes[nr].data[block] = self.writes;
        if self.connected {
            self.nodes[1 - nr].data[block] = self.writes;
        } else {
            self.nodes[nr].bits[block] = true;
        }
    }

    fn crash(&mut self, nr: usize, block: usize, reached: usize) {
        if self.nodes[nr].primary {
            self.writes += 1;
            self.nodes[nr].hot[block] = true;
            match reached {
                0 => self.nodes[nr].data[block] = self.writes,
                1 if self.connected => self.nodes[1 - nr].data[block] = self.writes,
                _ => {}
            }
        }
        self.lose_link(Some(nr));
        let node = &mut self.nodes[nr];
        if node.primary {
            node.primary = false;
            node.crashed = true;
            node.ids.set_primary_bit(false);
            for (bit, hot) in node.bits.iter_mut().zip(node.hot) {
                *bit |= hot;
            }
        }
    }

    /// What node `nr` decides from; the node `flag` holds the tie breaker, `discards` gives up its data.
    fn inputs(&self, nr: usize, flag: usize, discards: Option<usize>) -> DecisionInputs {
        let (own, peer) = (&self.nodes[nr], &self.nodes[1 - nr]);
        let count = |node: &Node| node.bits.iter().filter(|bit| **bit).count() as u64;
        let disk = |node: &Node| {
            if node.inconsistent {
                DiskState::Inconsistent
            } else {
                DiskState::UpToDate
            }
        };
        let bit = |set: bool, bit: u64| if set { bit } else { 0 };
        DecisionInputs {
            peer: PeerIds {
                ids: peer.ids,
                bits: count(peer),
                flags: bit(discards == Some(1 - nr), PeerIds::FLAG_DISCARD)
                    | bit(peer.crashed, PeerIds::FLAG_CRASHED_PRIMARY),
            },
            compare: CompareInputs {
                own_crashed: own.crashed,
                peer_crashed: peer.crashed,
                own_primary: own.primary,
                peer_primary: peer.primary,
                resolve_conflicts: flag == nr,
                ..QUIET
            },
            own_disk: disk(own),
            own_real_disk: disk(own),
            peer_disk: disk(peer),
            own_bits_sent: count(own),
            own_bits: count(own),
            own_discard_my_data: discards == Some(nr),
            ..inputs(own.ids, peer.ids)
        }
    }

    fn decide(&self, flag: usize, discards: Option<usize>) -> [Outcome; 2] {
        [0, 1].map(|nr| decide(&self.inputs(nr, flag, discards)).outcome)
    }

    fn meet(&mut self, copies: usize, loser: usize, flag: usize) {
        let mut outcomes = self.decide(flag, None);
        let fork = outcomes == [Outcome::Fail(FailReason::SplitBrain); 2];
        if fork {
            self.seen.forks += 1;
            self.nodes[loser].primary = false;
            outcomes = self.decide(flag, Some(loser));
            self.acknowledged = self.nodes[1 - loser].data;
        }
        let (source, full) = match outcomes {
            [Outcome::Connected, Outcome::Connected] => {
                assert_eq!(
                    self.nodes[0].data, self.nodes[1].data,
                    "equal names, other data"
                );
                self.seen.equal += 1;
                self.connected = true;
                return;
            }
            [Outcome::Source { full: a }, Outcome::Target { full: b }] if a == b => (0, a),
            [Outcome::Target { full: a }, Outcome::Source { full: b }] if a == b => (1, a),
            other => panic!("{other:?} from {:#?}", self.nodes),
        };
        assert!(!fork || source != loser);
        // Nothing that was acknowledged is overwritten; an unacknowledged later write may win.
        for block in 0..BLOCKS {
            let kept = self.nodes[source].data[block];
            assert!(
                kept >= self.acknowledged[block],
                "lost a write: {:#?}",
                self.nodes
            );
        }
        self.acknowledged = self.nodes[source].data;
        self.resync(source, full, copies);
    }

    fn resync(&mut self, source: usize, full: bool, copies: usize) {
        self.seen.resyncs += 1;
        let random = self.random();
        let [first, second] = &mut self.nodes;
        let (source, target) = if source == 0 {
            (first, second)
        } else {
            (second, first)
        };
        assert!(!source.inconsistent && !target.primary);

        let told = source.ids;
        target
            .ids
            .start_target(source.ids.start_source(random), false);
        target.inconsistent = true;
        let differ: [bool; BLOCKS] =
            core::array::from_fn(|block| full || source.bits[block] || target.bits[block]);
        (source.bits, target.bits) = (differ, differ);
        let wanted = (0..BLOCKS).filter(|block| differ[*block]);
        for block in wanted.take(copies) {
            target.data[block] = source.data[block];
            (source.bits[block], target.bits[block]) = (false, false);
        }
        if copies > BLOCKS || source.bits == [false; BLOCKS] {
            assert_eq!(
                source.data, target.data,
                "the bitmaps did not cover the difference"
            );
            source.ids.finish_source();
            target.ids.finish_target(&told, false);
            target.inconsistent = false;
            (source.crashed, target.crashed) = (false, false);
            self.connected = true;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_disks_always_find_back_to_the_acknowledged_data(steps in vec(any_step(), 0..80)) {
        let mut pair = Pair::new();
        for step in steps {
            pair.step(step);
            if pair.connected {
                prop_assert_eq!(pair.nodes[0].data, pair.nodes[1].data);
            }
        }
        if !pair.connected {
            pair.meet(BLOCKS + 1, 0, 0);
        }
        prop_assert!(pair.connected);
    }
}

#[test]
fn a_life_meets_equality_resync_and_fork() {
    let mut pair = Pair::new();
    let meet = Step::Meet {
        copies: BLOCKS + 1,
        loser: 1,
        flag: 0,
    };
    for step in [
        Step::Cut,
        meet, // nobody was Primary
        Step::Promote(0),
        Step::Write(0, 1),
        Step::Cut,
        Step::Write(0, 2),
        meet, // resync
        Step::Cut,
        Step::Promote(1),
        Step::Write(1, 3),
        meet, // fork: node 1 loses
    ] {
        pair.step(step);
    }
    assert_eq!(
        (pair.seen.equal, pair.seen.resyncs, pair.seen.forks),
        (1, 2, 1)
    );
    assert_eq!(pair.nodes[1].data, [0, 1, 2, 0]);
}
