//! Policies that solve a split brain (`docs/spec/behaviour.md`, section 5.4).

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::config::SplitBrainPolicy;

/// The situation, from this node's side.
#[derive(Clone, Copy, Debug)]
pub struct SplitBrainInputs {
    /// `after-sb-0pri`, `after-sb-1pri`, `after-sb-2pri`.
    pub policies: [SplitBrainPolicy; 3],
    /// This node is Primary now.
    pub own_primary: bool,
    /// The peer is Primary now.
    pub peer_primary: bool,
    /// This node was Primary when the generations parted: bit 0 of the bitmap UUID.
    pub own_was_primary: bool,
    /// The peer was.
    pub peer_was_primary: bool,
    /// Bits announced in our last P_UUIDS.
    pub own_changes: u64,
    /// Bits announced in the peer's last P_UUIDS.
    pub peer_changes: u64,
    /// This node holds the resolve-conflicts flag.
    pub resolve_conflicts: bool,
    /// A demotion would succeed now.
    pub can_demote: bool,
}

/// What the policies say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Votes {
    /// Whose data stays; `None` if that is not solved.
    pub source: Option<Side>,
    /// This node must demote itself before it becomes target.
    pub demote: bool,
    /// This node lost, is Primary and cannot demote itself: run `pri-lost-after-sb`.
    pub pri_lost_after_sb: bool,
    /// Log lines.
    pub log: Vec<String>,
}

/// One of the two nodes; prints as `this` or `peer`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// This node: +1.
    This,
    /// The peer: -1.
    Peer,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::This => "this",
            Side::Peer => "peer",
        })
    }
}

/// Applies the policy for the number of nodes that are Primary now.
pub fn after_split_brain(inputs: &SplitBrainInputs) -> Votes {
    let mut votes = Votes::default();
    votes.source = match (inputs.own_primary, inputs.peer_primary) {
        (false, false) => without_primary(inputs, &mut votes.log),
        (true, true) => with_two_primaries(inputs, &mut votes),
        _ => with_one_primary(inputs, &mut votes),
    };
    votes
}

fn without_primary(inputs: &SplitBrainInputs, log: &mut Vec<String>) -> Option<Side> {
    let was_primary = (inputs.own_was_primary, inputs.peer_was_primary);
    match inputs.policies[0] {
        SplitBrainPolicy::Disconnect => None,
        SplitBrainPolicy::DiscardYoungerPrimary => match was_primary {
            (true, false) => Some(Side::This),
            (false, true) => Some(Side::Peer),
            _ => Some(neither_younger_nor_older(inputs, log)),
        },
        SplitBrainPolicy::DiscardOlderPrimary => match was_primary {
            (true, false) => Some(Side::Peer),
            (false, true) => Some(Side::This),
            _ => Some(neither_younger_nor_older(inputs, log)),
        },
        SplitBrainPolicy::DiscardZeroChanges => zero_changes(inputs),
        SplitBrainPolicy::DiscardLeastChanges => Some(least_changes(inputs)),
        SplitBrainPolicy::DiscardLocal => Some(Side::Peer),
        SplitBrainPolicy::DiscardRemote => Some(Side::This),
        SplitBrainPolicy::Consensus
        | SplitBrainPolicy::DiscardSecondary
        | SplitBrainPolicy::CallPriLost
        | SplitBrainPolicy::Violently => configuration_error(log),
    }
}

fn with_one_primary(inputs: &SplitBrainInputs, votes: &mut Votes) -> Option<Side> {
    let primary = if inputs.own_primary {
        Side::This
    } else {
        Side::Peer
    };
    match inputs.policies[1] {
        SplitBrainPolicy::Disconnect => None,
        SplitBrainPolicy::Consensus => {
            without_primary(inputs, &mut votes.log).filter(|source| *source == primary)
        }
        SplitBrainPolicy::DiscardSecondary => Some(primary),
        SplitBrainPolicy::Violently => without_primary(inputs, &mut votes.log),
        SplitBrainPolicy::CallPriLost if inputs.own_primary => call_if_lost(inputs, votes),
        SplitBrainPolicy::CallPriLost => without_primary(inputs, &mut votes.log),
        SplitBrainPolicy::DiscardYoungerPrimary
        | SplitBrainPolicy::DiscardOlderPrimary
        | SplitBrainPolicy::DiscardZeroChanges
        | SplitBrainPolicy::DiscardLeastChanges
        | SplitBrainPolicy::DiscardLocal
        | SplitBrainPolicy::DiscardRemote => configuration_error(&mut votes.log),
    }
}

fn with_two_primaries(inputs: &SplitBrainInputs, votes: &mut Votes) -> Option<Side> {
    match inputs.policies[2] {
        SplitBrainPolicy::Disconnect => None,
        SplitBrainPolicy::Violently => without_primary(inputs, &mut votes.log),
        SplitBrainPolicy::CallPriLost => call_if_lost(inputs, votes),
        SplitBrainPolicy::DiscardYoungerPrimary
        | SplitBrainPolicy::DiscardOlderPrimary
        | SplitBrainPolicy::DiscardZeroChanges
        | SplitBrainPolicy::DiscardLeastChanges
        | SplitBrainPolicy::DiscardLocal
        | SplitBrainPolicy::DiscardRemote
        | SplitBrainPolicy::Consensus
        | SplitBrainPolicy::DiscardSecondary => configuration_error(&mut votes.log),
    }
}

/// call-pri-lost-after-sb on a Primary: who loses must give up the role, or somebody must see to it.
fn call_if_lost(inputs: &SplitBrainInputs, votes: &mut Votes) -> Option<Side> {
    match without_primary(inputs, &mut votes.log)? {
        Side::This => Some(Side::This),
        Side::Peer if inputs.can_demote => {
            votes.demote = true;
            votes
                .log
                .push("Successfully gave up primary role.".to_string());
            Some(Side::Peer)
        }
        Side::Peer => {
            votes.pri_lost_after_sb = true;
            None
        }
    }
}

/// Both or neither were Primary when the generations parted.
fn neither_younger_nor_older(inputs: &SplitBrainInputs, log: &mut Vec<String>) -> Side {
    // One message of two lines.
    log.push(
        "Discard younger/older primary did not find a decision\nUsing discard-least-changes instead"
            .to_string(),
    );
    zero_changes(inputs).unwrap_or_else(|| least_changes(inputs))
}

fn zero_changes(inputs: &SplitBrainInputs) -> Option<Side> {
    match (inputs.own_changes, inputs.peer_changes) {
        (0, 0) => Some(tie(inputs)),
        (_, 0) => Some(Side::This),
        (0, _) => Some(Side::Peer),
        _ => None,
    }
}

fn least_changes(inputs: &SplitBrainInputs) -> Side {
    match inputs.own_changes.cmp(&inputs.peer_changes) {
        core::cmp::Ordering::Less => Side::Peer,
        core::cmp::Ordering::Greater => Side::This,
        core::cmp::Ordering::Equal => tie(inputs),
    }
}

/// The node without the flag keeps its data.
fn tie(inputs: &SplitBrainInputs) -> Side {
    if inputs.resolve_conflicts {
        Side::Peer
    } else {
        Side::This
    }
}

fn configuration_error(log: &mut Vec<String>) -> Option<Side> {
    log.push("Configuration error.".to_string());
    None
}
