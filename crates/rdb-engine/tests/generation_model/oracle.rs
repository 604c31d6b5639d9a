//! What must hold, judged by the data that the disks truly hold.

use rdb_engine::state::{ConnState, DiskState, Fencing, Role, is_source};
use rdb_engine::sync_decision::{FailReason, Outcome};

use rdb_meta::MdFlags;

use crate::names::Name;
use crate::node::Step;
use crate::world::{BLOCKS, Decided, Kind, Msg, Node, World};

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
    /// The same under protocol A, and what they miss is of the tail only.
    StaleTail,
    /// Split brain is reported though one disk has all that the other has, and not because both began a generation alone.
    NeedlessSplitBrain(Cause),
    /// A silent fork, acknowledged writes overwritten, or two sides that do not fit, after what only a DRBD could have avoided.
    LostByDrbd,
    /// The two sides do not fit.
    Mismatch,
    /// "Unrelated data", of disks that are related.
    FalseUnrelated,
    /// Fencing: both nodes have acknowledged writes that the other lacks.
    Diverged,
    /// Fencing: a write is acknowledged alone, and nothing keeps the peer from going on.
    Unfenced,
    /// Fencing: a write is acknowledged alone, and that the peer is fenced is not on record.
    FencedUnrecorded,
    /// Fencing: a node is promoted alone that lacks acknowledged writes of the other one's, or beside another Primary.
    PromotedStale,
    /// Fencing: one that was told to be Outdated, or whose disk was left to a good one, is promoted alone, without force.
    PromotedOutdated,
    /// Fencing: a split brain is reported.
    FencedSplitBrain,
    /// A write is acknowledged while I/O is frozen.
    ToldFrozen,
    /// Both nodes are in sync, and users wait.
    StaysFrozen,
    /// A resync has ended, and its source does not see that.
    StaysSource,
    // What follows is no violation.
    /// Every block is copied, though the bitmaps knew better.
    NeedlessFull,
    /// Split brain is reported because both began a generation alone, and one disk has all that the other has.
    FalseSplitBrain,
    /// Split brain is reported, and rightly.
    SplitBrain,
    /// Refused for another reason.
    Refused,
    /// The users of a Primary without a disk are refused data that have all that they have seen.
    RefusedView,
    /// A resync without one block to copy.
    EmptyResync,
    /// A resync.
    Resync,
    /// The same data.
    NoSync,
}

/// Why a split brain is reported that is none: what may, by the record, have written what one node alone has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Cause {
    /// The marks are of a full sync that was ordered, and the target went on before it began.
    Ordered,
    /// The marks are of a crashed Primary whose resync came to nothing, and the target went on.
    Interrupted,
    /// They are of a resync that came to its end unseen by the source, and the names that would show it are not, or no longer, in
    /// the target's two slots of history; or the source has no note of what it wrote alone.
    EndedUnseen,
    /// The other node has told them, and they were merged.
    Merged,
    /// None that is known.
    Unknown,
}

impl What {
    pub(crate) fn is_violation(self) -> bool {
        self <= What::StaysSource
    }
}

fn differing(world: &World) -> u8 {
    let [a, b] = &world.nodes;
    (0..BLOCKS).fold(0, |all, block| {
        all | u8::from(a.disk.data[block] != b.disk.data[block]) << block
    })
}

/// Blocks that are equal once what was frozen has been sent again. (If that comes to nothing it gets a name of its own before the nodes
/// meet anew.)
fn sent_again(world: &World) -> u8 {
    let frozen = world.nodes.iter().filter(|node| node.log_frozen);
    let packets = world.queues.iter().flat_map(|queue| queue.iter());
    let on_its_way = packets.map(|packet| match packet {
        Msg::Data(block, _) => 1 << block,
        _ => 0,
    });
    frozen
        .map(|node| node.log)
        .chain(on_its_way)
        .fold(0, |all, bits| all | bits)
}

/// What node `n` would lose if the other's data replaced its own.
fn would_lose(world: &World, n: usize) -> u16 {
    world.nodes[n].disk.seen & world.acknowledged & !world.nodes[1 - n].disk.seen
}

fn cause(world: &World) -> Cause {
    let any = |has: fn(&Node) -> bool| world.nodes.iter().any(has);
    if any(|node| node.disk.marks.ordered) {
        Cause::Ordered
    } else if any(|node| node.crashed && node.disk.sb.ids.bitmap != Name::default()) {
        Cause::Interrupted
    } else if any(|node| node.disk.marks.ended_unseen) {
        Cause::EndedUnseen
    } else if any(|node| node.disk.marks.merged) {
        Cause::Merged
    } else {
        Cause::Unknown
    }
}

impl Step<'_> {
    fn found(&mut self, what: What, rule: u32) {
        let by_drbd = self.world.nodes.iter().any(|node| node.disk.marks.by_drbd);
        let what = match what {
            What::SilentFork | What::Overwritten | What::Mismatch if by_drbd => What::LostByDrbd,
            what => what,
        };
        let forced = self.used(Kind::Force) > 0;
        self.findings.push(Finding { what, rule, forced });
    }

    pub(crate) fn judge_decision(&mut self, n: usize, rule: u32, outcome: Outcome) {
        let world = &self.world;
        let differ = differing(world) & !sent_again(world);
        let marked = world.nodes[0].disk.bits | world.nodes[1].disk.bits;
        let diverged = world.has_alone(0) != 0 && world.has_alone(1) != 0;
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
            Outcome::Fail(FailReason::SplitBrain) if diverged && self.is_fenced() => {
                What::FencedSplitBrain
            }
            Outcome::Fail(FailReason::SplitBrain) if diverged => What::SplitBrain,
            Outcome::Fail(FailReason::SplitBrain)
                if matches!(rule, 90 | 100) && world.nodes.iter().all(|n| n.disk.named) =>
            {
                What::FalseSplitBrain
            }
            Outcome::Fail(FailReason::SplitBrain) => What::NeedlessSplitBrain(cause(world)),
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

    /// The users of node `n`, who have no disk, are refused the other one's data.
    pub(crate) fn judge_refusal(&mut self, n: usize) {
        let lacks = self.world.nodes[n].users & !self.world.nodes[1 - n].disk.seen;
        if lacks & self.world.acknowledged == 0 {
            self.found(What::RefusedView, 0);
        }
    }

    /// Node `target` is about to be overwritten.
    pub(crate) fn judge_start(&mut self, target: usize) {
        let world = &self.world;
        let target_node = &world.nodes[target];
        let consents = target_node.discard || target_node.given_up;
        let lost = would_lose(world, target);
        let unmarked = differing(world) & !world.nodes[target].disk.bits;
        if lost != 0 && !consents {
            self.found(What::Overwritten, 0);
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
        self.judge_fencing();
        let world = &self.world;
        let settled = world.link
            && world.queues.iter().all(|queue| queue.is_empty())
            && world.nodes.iter().all(|node| {
                node.state.conn == ConnState::Connected
                    && node.state.disk == DiskState::UpToDate
                    && node.state.pdsk == DiskState::UpToDate
                    && node.thens.is_empty()
            });
        let stale = (0..2).fold(0, |all, n| {
            let node = &world.nodes[n];
            let lacking =
                |disk: usize| node.users & world.acknowledged & !world.nodes[disk].disk.seen;
            let here = node.attached && node.state.disk == DiskState::UpToDate;
            let there = world.link
                && node.state.disk < DiskState::Inconsistent
                && node.state.is_connected()
                && node.state.pdsk == DiskState::UpToDate;
            all | match node.up && node.state.role == Role::Primary && !node.state.is_suspended() {
                true if here => lacking(n),
                true if there => lacking(1 - n),
                _ => 0,
            }
        });
        let stays_source = world.link
            && world.queues.iter().all(|queue| queue.is_empty())
            && world.nodes.iter().all(|node| node.thens.is_empty())
            && world.nodes.iter().any(|node| is_source(node.state.conn))
            && world
                .nodes
                .iter()
                .any(|node| node.state.conn == ConnState::Connected);
        let of_tail = stale & !world.tail == 0;
        let frozen = |node: &Node| node.state.is_suspended();
        let stays_frozen = settled && world.nodes.iter().any(frozen);
        if settled && differing(world) != 0 {
            self.found(What::UnequalPair, 0);
        } else if settled {
            self.world.consent = false;
        }
        if stays_frozen {
            self.found(What::StaysFrozen, 0);
        }
        if stays_source {
            self.found(What::StaysSource, 0);
        }
        match stale {
            0 => {}
            _ if of_tail => self.found(What::StaleTail, 0),
            _ => self.found(What::StaleView, 0),
        }
    }
}

/// Fencing: what holds as long as nobody goes on whom the arbiter has not allowed to.
///
/// That consent is given for the time until both nodes are in sync again: by a forced promotion, by `resume-io` of what is frozen,
/// and by a disk that is lost beside a connected peer, whose record is as good as before: no arbiter is asked of that.
impl Step<'_> {
    /// Whether only one node may go on.
    fn is_fenced(&self) -> bool {
        self.setting.fencing == Fencing::ResourceAndStonith && !self.world.consent
    }

    fn judge_fencing(&mut self) {
        let is_good = |node: &Node| {
            let state = node.state;
            node.up && state.conn >= ConnState::Connected && state.disk == DiskState::UpToDate
        };
        for node in &mut self.world.nodes {
            node.disk.outdated &= !is_good(node);
        }
        let world = &self.world;
        let in_sync = |node: &Node| {
            let state = node.state;
            is_good(node) && state.conn == ConnState::Connected && state.pdsk == state.disk
        };
        if world.nodes.iter().all(in_sync) {
            self.world.winner = None;
        }
        let alone = (0..2).all(|n| self.world.has_alone(n) != 0);
        if self.is_fenced() && alone {
            self.found(What::Diverged, 0);
        }
    }

    /// The disk of node `n` goes: if it is the only one with some acknowledged write, nobody knows of that any more.
    pub(crate) fn note_lost_disk(&mut self, n: usize) {
        self.world.consent |= self.world.has_alone(n) != 0;
    }

    /// The disk of node `n` has failed: under a Secondary the peer's good one goes on. (Of its disk a DRBD promises nothing.)
    pub(crate) fn note_failed_disk(&mut self, n: usize) {
        let promises = self.rules[n].outdates_detached;
        let node = self.node(n);
        let state = node.state;
        let beside_good = state.is_connected() && state.pdsk == DiskState::UpToDate;
        node.disk.outdated |= promises && beside_good && state.role == Role::Secondary;
    }

    /// Users of node `n` are told that writes are done.
    pub(crate) fn judge_told(&mut self, n: usize, writes: u16) {
        let [a, b] = &self.world.nodes;
        let alone = writes & !(a.disk.seen & b.disk.seen);
        let state = self.state(n);
        if state.is_suspended() {
            self.found(What::ToldFrozen, 0);
        }
        if alone == 0 || !self.is_fenced() {
            return;
        }
        let record = self.world.nodes[n].disk.durable.flags;
        let fenced = (DiskState::Inconsistent..=DiskState::Outdated).contains(&state.pdsk);
        if !state.is_connected() && fenced && !record.contains(MdFlags::PEER_OUT_DATED) {
            self.found(What::FencedUnrecorded, 0);
        }
        // Whose disk lacks it.
        let lacks = if alone & self.world.nodes[n].disk.seen != 0 {
            1 - n
        } else {
            n
        };
        let won = self
            .world
            .winner
            .is_some_and(|winner| usize::from(winner) != lacks);
        if won || !self.world.nodes[lacks].disk.durable.is_good() {
            return;
        }
        if state.is_connected() {
            self.world.consent = true;
        } else {
            self.found(What::Unfenced, 0);
        }
    }

    /// Node `n` is Primary now.
    pub(crate) fn judge_promotion(&mut self, n: usize, force: bool) {
        let node = &self.world.nodes[n];
        let state = node.state;
        // (Beside a peer that has no disk it is as alone as without a connection.)
        let beside_data = state.is_connected() && state.pdsk >= DiskState::Inconsistent;
        if beside_data || force {
            return;
        }
        let outdated = node.disk.outdated;
        let other = &self.world.nodes[1 - n];
        let both = other.up
            && other.state.role == Role::Primary
            && other.state.disk >= DiskState::Consistent;
        let stale = self.world.has_alone(1 - n) != 0;
        if outdated {
            self.found(What::PromotedOutdated, 0);
        }
        if self.is_fenced() && (both || stale) {
            self.found(What::PromotedStale, 0);
        }
    }

    /// No write that was open before is acknowledged on a node that was frozen all the time.
    pub(crate) fn judge_frozen(&mut self, before: &World) {
        let told = self.world.acknowledged & !before.acknowledged;
        let worlds = before.nodes.iter().zip(&self.world.nodes);
        let frozen = worlds
            .filter(|(old, new)| old.state.is_suspended() && new.state.is_suspended())
            .fold(0, |all, (old, _)| all | old.open);
        if told & frozen != 0 {
            self.found(What::ToldFrozen, 0);
        }
    }
}
