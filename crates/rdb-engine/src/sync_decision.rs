//! From two sets of generation identifiers to a decision: who sends what to whom, or why not
//! (`docs/spec/behaviour.md`, sections 5.3 to 5.7; `docs/spec/wire.md`, section 5.9).
//!
//! Each node decides alone, from what both have told each other. A decision is a value: what is logged, which handlers
//! run and what is corrected is in it, and nothing is done here.

mod split_brain;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::config::SplitBrainPolicy;
use crate::generation::{CompareInputs, Comparison, GenerationIds, PeerIds, Verdict, compare};
pub use crate::handler::Handler;
use crate::rules::trouble::Trouble;
use crate::state::DiskState;

pub use split_brain::{Side, SplitBrainInputs, Votes, after_split_brain};

/// Everything that the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct DecisionInputs {
    /// Own slots.
    pub own: GenerationIds,
    /// The peer's last P_UUIDS.
    pub peer: PeerIds,
    /// Roles, crash marks and what was agreed.
    pub compare: CompareInputs,
    /// Own disk; the negotiated value if it is Negotiating.
    pub own_disk: DiskState,
    /// Own disk as it is.
    pub own_real_disk: DiskState,
    /// The peer's disk: [`effective_peer_disk`].
    pub peer_disk: DiskState,
    /// The peer attaches its disk while we are connected: until now its users, if it has any, were on ours.
    pub peer_attaches: bool,
    /// Set bits as announced in our last P_UUIDS.
    pub own_bits_sent: u64,
    /// Set bits now.
    pub own_bits: u64,
    /// `after-sb-0pri`.
    pub after_sb_0pri: SplitBrainPolicy,
    /// `after-sb-1pri`.
    pub after_sb_1pri: SplitBrainPolicy,
    /// `after-sb-2pri`.
    pub after_sb_2pri: SplitBrainPolicy,
    /// `always-asbp`.
    pub always_asbp: bool,
    /// `rr-conflict`; a value that it cannot have counts as disconnect.
    pub rr_conflict: SplitBrainPolicy,
    /// Own `discard-my-data`. (The peer's is in its flags.)
    pub own_discard_my_data: bool,
    /// Whether a demotion would succeed now, for call-pri-lost-after-sb. While parameters are exchanged it cannot
    /// (`docs/spec/behaviour.md`, section 2.6 row 7).
    pub can_demote: bool,
    /// Own `tentative`.
    pub own_tentative: bool,
    /// The peer announced a dry run.
    pub peer_dry_run: bool,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The result.
    pub outcome: Outcome,
    /// Handlers to run, in their order.
    pub handlers: Vec<Handler>,
    /// Log lines, in their order.
    pub log: Vec<String>,
    /// Own slots to store, persistently.
    pub own_correction: Option<GenerationIds>,
    /// The peer's slots to keep in the place of the received ones.
    pub peer_correction: Option<GenerationIds>,
    /// call-pri-lost-after-sb: this node must demote itself first. Only if `can_demote` was given.
    pub demote: bool,
}

/// Who sends what to whom.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// No resync: Connected.
    Connected,
    /// WFBitMapS.
    Source {
        /// Set all bits and write the bitmap first.
        full: bool,
    },
    /// WFBitMapT.
    Target {
        /// Set all bits and write the bitmap first.
        full: bool,
    },
    /// No agreement; what happens then is told by [`fail_effect`].
    Fail(FailReason),
}

/// Why there is no agreement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum FailReason {
    /// The generations have nothing in common.
    #[error("unrelated data")]
    Unrelated,
    /// The rule that decides needs more than what was agreed.
    #[error("the UUID comparison needs protocol {version} and feature flags {features:#x}")]
    NeedsProtocol {
        /// The lowest protocol version that has the rule.
        version: u32,
        /// The feature flags that it needs beside, 0 if none.
        features: u32,
    },
    /// Both nodes would take the same side: each holds an ancestor of the other's data, or both have no name at all.
    #[error("both nodes would become the same side of the resync")]
    Contradiction,
    /// Split brain that no policy solved.
    #[error("unresolved split brain")]
    SplitBrain,
    /// This node would be the source of data that is no good.
    #[error("would become SyncSource, but is inconsistent")]
    InconsistentSource,
    /// This node would overwrite data that its users hold open.
    #[error("would become SyncTarget, but is primary")]
    PrimaryTarget,
    /// The peer's users read and write this node's disk, and the disk that comes to them holds something else.
    #[error("would become SyncTarget, but the peer's users are on this disk")]
    UsersOnOurDisk,
    /// It was only a dry run.
    #[error("dry run")]
    DryRun,
}

impl FailReason {
    /// What the administrator is told of it.
    pub fn trouble(self) -> Trouble {
        match self {
            FailReason::Unrelated => Trouble::UnrelatedData,
            FailReason::SplitBrain => Trouble::SplitBrain,
            FailReason::NeedsProtocol { .. } => Trouble::Dialect,
            FailReason::DryRun => Trouble::Disconnected,
            FailReason::Contradiction
            | FailReason::InconsistentSource
            | FailReason::PrimaryTarget
            | FailReason::UsersOnOurDisk => Trouble::NoAgreement,
        }
    }
}

/// The peer's disk as the decision sees it, from its state packet and the flags of its last P_UUIDS.
///
/// If it differs from `packet` log `real peer disk state = X`.
pub fn effective_peer_disk(packet: DiskState, peer: &PeerIds) -> DiskState {
    match packet {
        DiskState::Negotiating if peer.inconsistent() => DiskState::Inconsistent,
        DiskState::Negotiating => DiskState::Consistent,
        other => other,
    }
}

/// What a failed decision does to disk and connection (`docs/spec/behaviour.md`, section 5.7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FailEffect {
    /// Own disk → Failed → Diskless; the connection stays.
    DetachOwn,
    /// Log `Disk attach process on the peer node was aborted.`; here pdsk becomes Diskless; the connection stays.
    PeerStaysDiskless,
    /// ProtocolError, and a new attempt.
    Retry,
    /// Disconnecting, StandAlone.
    StandAlone,
}

/// What a failed decision does; `own_real_disk` and `peer_packet_disk` are the states as they are, not the effective
/// ones.
pub fn fail_effect(
    own_real_disk: DiskState,
    peer_packet_disk: DiskState,
    peer_dry_run: bool,
) -> FailEffect {
    if own_real_disk == DiskState::Negotiating {
        FailEffect::DetachOwn
    } else if peer_packet_disk == DiskState::Negotiating {
        FailEffect::PeerStaysDiskless
    } else if peer_dry_run {
        FailEffect::Retry
    } else {
        FailEffect::StandAlone
    }
}

/// Decides, in the order of the steps of section 5.3.
pub fn decide(inputs: &DecisionInputs) -> Decision {
    let comparison = compare(&inputs.own, &inputs.peer.ids, inputs.compare);
    let mut decision = Decision {
        outcome: Outcome::Connected,
        handlers: Vec::new(),
        log: Vec::new(),
        own_correction: comparison.own_correction,
        peer_correction: comparison.peer_correction,
        demote: false,
    };
    decision.outcome = match steps(inputs, &comparison, &mut decision) {
        Ok(outcome) => outcome,
        Err(reason) => Outcome::Fail(reason),
    };
    decision
}

fn steps(
    inputs: &DecisionInputs,
    comparison: &Comparison,
    decision: &mut Decision,
) -> Result<Outcome, FailReason> {
    // Step 1.
    log_comparison(inputs, comparison, &mut decision.log);
    // Step 2.
    refuse_strangers(comparison.verdict, &mut decision.log)?;
    // Step 3. What both disks are worth outranks their names, even in a split brain.
    let verdict = match by_disk_states(inputs, comparison.verdict) {
        Some(verdict) => {
            let side = if verdict.value() > 0 {
                "source"
            } else {
                "target"
            };
            decision
                .log
                .push(format!("Becoming sync {side} due to disk states."));
            verdict
        }
        None => {
            refuse_contradiction(inputs, comparison.verdict, &mut decision.log)?;
            comparison.verdict
        }
    };
    // Steps 4 to 7.
    let verdict = match verdict {
        Verdict::SplitBrain | Verdict::SplitBrainNoCommon => {
            solve_split_brain(inputs, verdict, decision)?
        }
        other => other,
    };
    // Step 8.
    if verdict.value() > 0 && inputs.own_disk <= DiskState::Inconsistent {
        decision
            .log
            .push("I shall become SyncSource, but I am inconsistent!".to_string());
        return Err(FailReason::InconsistentSource);
    }
    // Step 9.
    let still_primary = inputs.compare.own_primary && !decision.demote;
    if verdict.value() < 0 && still_primary && inputs.own_real_disk >= DiskState::Consistent {
        become_target_as_primary(inputs.rr_conflict, decision)?;
    }
    // (L37) No step of DRBD's: the users of a Diskless Primary have written here, and its own disk comes back.
    if verdict.value() < 0
        && inputs.peer_attaches
        && inputs.compare.peer_primary
        && inputs.own_real_disk == DiskState::UpToDate
    {
        return Err(FailReason::UsersOnOurDisk);
    }
    // Steps 10 to 12.
    let outcome = match verdict {
        Verdict::SourceByBitmap => Outcome::Source { full: false },
        Verdict::SourceFull => Outcome::Source { full: true },
        Verdict::TargetByBitmap => Outcome::Target { full: false },
        Verdict::TargetFull => Outcome::Target { full: true },
        Verdict::NoSync => Outcome::Connected,
        Verdict::SplitBrain
        | Verdict::SplitBrainNoCommon
        | Verdict::Unrelated
        | Verdict::NeedsProtocol { .. } => {
            unreachable!("steps 2 and 7 end with a failure or another verdict")
        }
    };
    if inputs.own_tentative || inputs.peer_dry_run {
        decision.log.push(dry_run_line(outcome));
        return Err(FailReason::DryRun);
    }
    match outcome {
        Outcome::Source { full: true } | Outcome::Target { full: true } => decision.log.push(
            "Writing the whole bitmap, full sync required after drbd_sync_handshake.".to_string(),
        ),
        Outcome::Connected if inputs.own_bits > 0 => {
            decision.log.push(format!(
                "No resync, but {} bits in bitmap!",
                inputs.own_bits
            ));
        }
        _ => {}
    }
    Ok(outcome)
}

fn log_comparison(inputs: &DecisionInputs, comparison: &Comparison, log: &mut Vec<String>) {
    let own = |ids: &GenerationIds| dump("self", ids, inputs.own_bits_sent, 0);
    let peer = |ids: &GenerationIds| dump("peer", ids, inputs.peer.bits, inputs.peer.flags);
    log.push("drbd_sync_handshake:".to_string());
    log.push(own(&inputs.own));
    log.push(peer(&inputs.peer.ids));
    log.extend(comparison.message.map(ToString::to_string));
    log.extend(comparison.own_correction.as_ref().map(own));
    log.extend(comparison.peer_correction.as_ref().map(peer));
    let (result, rule) = (comparison.verdict.value(), comparison.rule);
    log.push(format!("uuid_compare()={result} by rule {rule}"));
}

fn dump(whose: &str, ids: &GenerationIds, bits: u64, flags: u64) -> String {
    format!("{whose} {ids} bits:{bits} flags:{flags:X}")
}

fn refuse_strangers(verdict: Verdict, log: &mut Vec<String>) -> Result<(), FailReason> {
    match verdict {
        Verdict::Unrelated => {
            log.push("Unrelated data, aborting!".to_string());
            Err(FailReason::Unrelated)
        }
        Verdict::NeedsProtocol { version, features } => {
            let mut line =
                format!("To resolve this both sides have to support at least protocol {version}");
            if features != 0 {
                line += &format!(" and feature flags {features:#x}");
            }
            log.push(line);
            Err(FailReason::NeedsProtocol { version, features })
        }
        _ => Ok(()),
    }
}

/// The verdict if exactly one of the two disks is Inconsistent and the other one is better.
fn by_disk_states(inputs: &DecisionInputs, verdict: Verdict) -> Option<Verdict> {
    let (own, peer) = (inputs.own_disk, inputs.peer_disk);
    let own_is_better = own > DiskState::Inconsistent && peer == DiskState::Inconsistent;
    let peer_is_better = own == DiskState::Inconsistent && peer > DiskState::Inconsistent;
    if !own_is_better && !peer_is_better {
        return None;
    }
    let full = matches!(
        verdict,
        Verdict::SourceFull | Verdict::TargetFull | Verdict::SplitBrainNoCommon
    );
    Some(match (own_is_better, full) {
        (true, false) => Verdict::SourceByBitmap,
        (true, true) => Verdict::SourceFull,
        (false, false) => Verdict::TargetByBitmap,
        (false, true) => Verdict::TargetFull,
    })
}

/// Both nodes as targets would wait for each other for ever (5.2, "Edge cases"): looks at the other node's result.
fn refuse_contradiction(
    inputs: &DecisionInputs,
    verdict: Verdict,
    log: &mut Vec<String>,
) -> Result<(), FailReason> {
    let theirs = compare(&inputs.peer.ids, &inputs.own, inputs.compare.mirrored()).verdict;
    if theirs == verdict.mirrored() {
        return Ok(());
    }
    log.push(format!(
        "The peer must come to uuid_compare()={}, which does not fit ours, aborting!",
        theirs.value()
    ));
    Err(FailReason::Contradiction)
}

/// Steps 4 to 7.
fn solve_split_brain(
    inputs: &DecisionInputs,
    verdict: Verdict,
    decision: &mut Decision,
) -> Result<Verdict, FailReason> {
    decision.handlers.push(Handler::InitialSplitBrain);
    // Without a bitmap that starts at a common ancestor only a full sync makes the disks equal.
    let ambiguous = verdict == Verdict::SplitBrainNoCommon;
    let own_primary = inputs.compare.own_primary;
    let primaries = u8::from(own_primary) + u8::from(inputs.compare.peer_primary);

    if !ambiguous || inputs.always_asbp {
        let votes = after_split_brain(&SplitBrainInputs {
            policies: [
                inputs.after_sb_0pri,
                inputs.after_sb_1pri,
                inputs.after_sb_2pri,
            ],
            own_primary,
            peer_primary: inputs.compare.peer_primary,
            own_was_primary: inputs.own.bitmap.has_primary_bit(),
            peer_was_primary: inputs.peer.ids.bitmap.has_primary_bit(),
            own_changes: inputs.own_bits_sent,
            peer_changes: inputs.peer.bits,
            resolve_conflicts: inputs.compare.resolve_conflicts,
            can_demote: inputs.can_demote,
        });
        decision.log.extend(votes.log);
        decision
            .handlers
            .extend(votes.pri_lost_after_sb.then_some(Handler::PriLostAfterSb));
        decision.demote = votes.demote;
        if let Some(source) = votes.source {
            decision.log.push(format!(
                "Split-Brain detected, {primaries} primaries, automatically solved. Sync from {source} node"
            ));
            return Ok(won_by(source, ambiguous, &mut decision.log));
        }
    }
    let discard = (inputs.own_discard_my_data, inputs.peer.discard_my_data());
    let source = match discard {
        (true, false) => Side::Peer,
        (false, true) => Side::This,
        _ => {
            decision
                .log
                .push("Split-Brain detected but unresolved, dropping connection!".to_string());
            decision.handlers.push(Handler::SplitBrain);
            return Err(FailReason::SplitBrain);
        }
    };
    decision.log.push(format!(
        "Split-Brain detected, manually solved. Sync from {source} node"
    ));
    Ok(won_by(source, ambiguous, &mut decision.log))
}

/// The verdict when `source` has won a split brain.
///
/// The kernel's driver makes a full sync of an `ambiguous` one only if a policy solved it. We do so also if the
/// administrator solved it: the bitmaps do not cover the difference. The peer need not know, because a bitmap exchange
/// sets the bits of both.
fn won_by(source: Side, ambiguous: bool, log: &mut Vec<String>) -> Verdict {
    if ambiguous {
        log.push("Doing a full sync, since UUIDs where ambiguous.".to_string());
    }
    match (source, ambiguous) {
        (Side::This, false) => Verdict::SourceByBitmap,
        (Side::This, true) => Verdict::SourceFull,
        (Side::Peer, false) => Verdict::TargetByBitmap,
        (Side::Peer, true) => Verdict::TargetFull,
    }
}

/// Step 9: rr-conflict.
fn become_target_as_primary(
    policy: SplitBrainPolicy,
    decision: &mut Decision,
) -> Result<(), FailReason> {
    match policy {
        SplitBrainPolicy::Violently => {
            decision
                .log
                .push("Becoming SyncTarget, violating the stable-dataassumption".to_string());
            return Ok(());
        }
        SplitBrainPolicy::CallPriLost => decision.handlers.push(Handler::PriLost),
        _ => {} // disconnect; the configuration refuses the rest
    }
    decision
        .log
        .push("I shall become SyncTarget, but I am primary!".to_string());
    Err(FailReason::PrimaryTarget)
}

fn dry_run_line(outcome: Outcome) -> String {
    let (side, full) = match outcome {
        Outcome::Source { full } => ("SyncSource", full),
        Outcome::Target { full } => ("SyncTarget", full),
        Outcome::Connected | Outcome::Fail(_) => {
            return "dry-run connect: No resync, would become Connected immediately.".to_string();
        }
    };
    let amount = if full { "full" } else { "bit-map based" };
    format!("dry-run connect: Would become {side}, doing a {amount} resync.")
}
