//! The mutation check: a simulator that finds no planted bug is not one.

use rdb_engine::Bug;

use crate::fencing::FENCING;
use crate::plan::Plan;
use crate::run::Failure;
use crate::snapshots::SNAPSHOTS;
use crate::verify::VERIFY;

/// What became of a planted bug.
#[derive(Debug)]
pub struct Finding {
    /// The bug.
    pub bug: Bug,
    /// How many seeds were run, the one that found it included.
    pub seeds: u64,
    /// The seed that found it, and what was noticed; nothing if none did.
    pub found: Option<(u64, Failure)>,
}

/// Runs seeds from `from` on until one fails with the bug that does not fail without it; at most `most` of them.
pub fn hunt(bug: Bug, from: u64, most: u64) -> Finding {
    // What it takes to make it.
    let from = match bug {
        Bug::VerifyUnmarked => VERIFY + from,
        Bug::ThawUnfenced
        | Bug::ForgetPeerOutdated
        | Bug::BelieveBrokenHandler
        | Bug::AnswerWhileFrozen
        | Bug::SuspendTooSoon
        | Bug::ForgetFrozenLog => FENCING + from,
        Bug::SnapshotTooSoon => SNAPSHOTS + from,
        _ => from,
    };
    for n in 0..most {
        let mut plan = Plan::of_seed(from + n);
        plan.planted = Some(bug);
        let Some(failure) = plan.run(false).failure else {
            continue;
        };
        plan.planted = None;
        if plan.run(false).failure.is_none() {
            let found = Some((plan.seed, failure));
            return Finding {
                bug,
                seeds: n + 1,
                found,
            };
        }
    }
    Finding {
        bug,
        seeds: most,
        found: None,
    }
}
