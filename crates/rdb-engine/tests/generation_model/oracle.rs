//! What must hold, judged by the data that the disks truly hold.

use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::sync_decision::{FailReason, Outcome};

use crate::node::Step;
use crate::world::{BLOCKS, Decided, Kind, World};

/// Something to count. The first way to it is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Finding {
    pub(crate) what: What,
    /// The rule of the comparison, 0 if none was asked.
    pub(crate) rule: u32,
    /// A promotion was forced on the way.
    pub(crate) forced: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum What {
    /// "No sync needed", and the disks differ.
    SilentFork,
    /// Acknowledged writes that only the target has are about to be overwritten, and nobody consented.
    Overwritten,
    /// A resync begins, and a block differs that is not marked.
    UnmarkedBlock,
    /// A resync has ended, and the disks differ.
    UnequalEnd,
    /// Both nodes settled to Connected, UpToDate, and the disks differ.
    UnequalPair,
    /// The users of a Primary are shown data without writes that they have seen done.
    StaleView,
    /// Split brain is reported though one disk has all that the other has, and not because both began a generation alone.
    NeedlessSplitBrain,
    /// The two sides do not fit.
    Mismatch,
    /// "Unrelated data", of disks that are related.
    FalseUnrelated,
    // What follows is no violation.
    /// Every block is copied, though the bitmaps knew better.
    NeedlessFull,
    /// Split brain is reported because both began a generation alone, and one disk has all that the other has.
    FalseSplitBrain,
    /// Split brain is reported, and rightly.
    SplitBrain,
    /// Refused for another reason.
    Refused,
    /// A resync without one block to copy.
    EmptyResync,
    /// A resync.
    Resync,
    /// The same data.
    NoSync,
}

impl What {
    pub(crate) fn is_violation(self) -> bool {
        self <= What::FalseUnrelated
    }
}

fn differing(world: &World) -> u8 {
    let [a, b] = &world.nodes;
    (0..BLOCKS).fold(0, |all, block| {
        all | u8::from(a.disk.data[block] != b.disk.data[block]) << block
    })
}

/// What node `n` would lose if the other's data replaced its own.
fn would_lose(world: &World, n: usize) -> u16 {
    world.nodes[n].disk.seen & world.acknowledged & !world.nodes[1 - n].disk.seen
}

impl Step<'_> {
    fn found(&mut self, what: What, rule: u32) {
        let mut forced = self.used(Kind::Force) > 0;
        if crate::walk::is_walk() {
            forced |= self.world.nodes.iter().any(|n| n.crashed);
        }
        let mut rule = rule;
        if crate::walk::is_walk() && what == What::NeedlessSplitBrain {
            let undone = |n: &crate::world::Node| n.disk.sb.ids.history[0].is_same(n.disk.sb.ids.history[1]);
            rule += 1000 * u32::from(self.world.nodes.iter().any(undone));
        }
        self.findings.push(Finding { what, rule, forced });
    }

    pub(crate) fn judge_decision(&mut self, n: usize, rule: u32, outcome: Outcome) {
        let world = &self.world;
        let differ = differing(world);
        let marked = world.nodes[0].disk.bits | world.nodes[1].disk.bits;
        let diverged = would_lose(world, 0) != 0 && would_lose(world, 1) != 0;
        let other = world.nodes[1 - n].decided;
        let what = match outcome {
            Outcome::Connected if differ != 0 => What::SilentFork,
            Outcome::Connected => What::NoSync,
            Outcome::Source { full: true } | Outcome::Target { full: true }
                if differ & !marked == 0 =>
            {
                What::NeedlessFull
            }
            Outcome::Source { .. } | Outcome::Target { .. } if marked == 0 => What::EmptyResync,
            Outcome::Source { .. } | Outcome::Target { .. } => What::Resync,
            Outcome::Fail(FailReason::SplitBrain) if diverged => What::SplitBrain,
            Outcome::Fail(FailReason::SplitBrain)
                if matches!(rule, 90 | 100) && world.nodes.iter().all(|n| n.disk.named) =>
            {
                What::FalseSplitBrain
            }
            Outcome::Fail(FailReason::SplitBrain) => What::NeedlessSplitBrain,
            Outcome::Fail(FailReason::Unrelated) => What::FalseUnrelated,
            Outcome::Fail(_) => What::Refused,
        };
        self.found(what, rule);
        let own = match outcome {
            Outcome::Connected => Decided::NoSync,
            Outcome::Source { full } => Decided::Source(full),
            Outcome::Target { full } => Decided::Target(full),
            Outcome::Fail(_) => return,
        };
        let fits = match (own, other) {
            (_, None) | (Decided::NoSync, Some(Decided::NoSync)) => true,
            (Decided::Source(a), Some(Decided::Target(b)))
            | (Decided::Target(a), Some(Decided::Source(b))) => a == b,
            _ => false,
        };
        if !fits {
            self.found(What::Mismatch, rule);
        }
    }

    /// Node `target` is about to be overwritten.
    pub(crate) fn judge_start(&mut self, target: usize) {
        let world = &self.world;
        let consents = world.nodes[target].discard;
        let lost = would_lose(world, target);
        let unmarked = differing(world) & !world.nodes[target].disk.bits;
        if lost != 0 && !consents {
            let whose = if crate::walk::is_walk() { 900 + target as u32 } else { 0 };
            self.found(What::Overwritten, whose);
        }
        if unmarked != 0 {
            self.found(What::UnmarkedBlock, 0);
        }
    }

    pub(crate) fn judge_finish(&mut self, _target: usize) {
        if differing(&self.world) != 0 {
            self.found(What::UnequalEnd, 0);
        }
    }

    /// Looks at the state that the event has led to.
    pub(crate) fn judge_state(&mut self) {
        let world = &self.world;
        let settled = world.link
            && world.queues.iter().all(|queue| queue.is_empty())
            && world.nodes.iter().all(|node| {
                node.state.conn == ConnState::Connected
                    && node.state.disk == DiskState::UpToDate
                    && node.state.pdsk == DiskState::UpToDate
                    && node.thens.is_empty()
            });
        let stale = (0..2).any(|n| {
            let node = &world.nodes[n];
            let lacks =
                |disk: usize| node.users & world.acknowledged & !world.nodes[disk].disk.seen != 0;
            let here = node.attached && node.state.disk == DiskState::UpToDate;
            let there = world.link
                && node.state.disk < DiskState::Inconsistent
                && node.state.is_connected()
                && node.state.pdsk == DiskState::UpToDate;
            node.up
                && node.state.role == Role::Primary
                && (here && lacks(n) || there && lacks(1 - n))
        });
        if settled && differing(world) != 0 {
            self.found(What::UnequalPair, 0);
        }
        if stale {
            self.found(What::StaleView, 0);
        }
    }
}
