//! What stands outside of the two nodes and decides between them: the arbiter that `fence-peer` asks, which both reach or not, and
//! how long handlers take.

use rdb_engine::{HandlerId, Time};
use replica_proto::SnapshotName;

use crate::rng::{Rng, mix};

/// How a handler that runs comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// The test ends it.
    ByHand,
    /// Not by itself: the repair at the end of a run ends it, or the death of its node.
    Hangs,
    /// `fence-peer` looks at the peer then, and does what it does to it.
    Looks(Time),
    /// It has given the peer the command to outdate each volume, the first one under this number, and looks for the answers.
    Outdates {
        /// Number of the first command.
        first: u64,
        /// When it looks.
        at: Time,
        /// How often it looks again before it gives up.
        tries: u32,
    },
    /// It ends then, with this code.
    Ends {
        /// When.
        at: Time,
        /// Its exit code.
        exit: i32,
    },
}

impl Course {
    /// When it goes on by itself.
    pub(crate) fn due(self) -> Option<Time> {
        match self {
            Course::ByHand | Course::Hangs => None,
            Course::Looks(at) | Course::Outdates { at, .. } | Course::Ends { at, .. } => Some(at),
        }
    }
}

/// What a handler of a node has seen of its disks.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) name: SnapshotName,
    pub(crate) id: HandlerId,
    /// What was durable on each volume when it began.
    pub(crate) begun: Vec<u64>,
    /// The same when it ended, if it ended well.
    pub(crate) ended: Option<Vec<u64>>,
}

/// The arbiter, and what it knows.
#[derive(Debug, Default)]
pub(crate) struct Arbiter {
    /// Handlers end by themselves. Otherwise the test ends them.
    pub(crate) is_on: bool,
    /// They are quick, and do what they are for.
    pub(crate) is_good: bool,
    /// The node whose `fence-peer` has said that the peer does not go on. The other one gets no such answer until both are in
    /// sync again: a peer that was shot does not know, when it is back, that it lacks something.
    pub(crate) winner: Option<usize>,
    /// Someone has gone on alone whom the arbiter has not allowed to: an administrator has resumed frozen I/O, or a disk was lost in a
    /// way that fences nobody. Two nodes may do so then; until both are in sync again nothing is judged of that.
    pub(crate) is_open: bool,
    /// Nodes that were told to be Outdated, and have confirmed it.
    pub(crate) outdated: [bool; 2],
    /// Nodes that have lost their disks' caches with their power: what users had flushed was durable where the Primary was.
    pub(crate) lost_cache: [bool; 2],
    /// Nodes whose `suspend-io` has ended well while both disks were in sync.
    pub(crate) suspended: [bool; 2],
    drawn: u64,
}

impl Arbiter {
    /// Numbers for the next choice.
    pub(crate) fn draw(&mut self, seed: u64) -> Rng {
        self.drawn += 1;
        Rng(mix(seed ^ 0xfe7ce, self.drawn))
    }

    /// Both nodes are in sync: nobody is to be kept from anything.
    pub(crate) fn has_peace(&mut self) {
        self.winner = None;
        self.outdated = [false; 2];
        self.lost_cache = [false; 2];
    }
}
