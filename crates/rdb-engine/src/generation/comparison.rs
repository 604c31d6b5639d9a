//! The comparison of two disks by their identifiers (`docs/spec/behaviour.md`, section 5.2).

use super::{Generation, GenerationIds, WroteAlone};

/// What the comparison says about the two disks, from this node's side.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// 0: the same data.
    NoSync,
    /// +1: the peer lacks what the bitmap says.
    SourceByBitmap,
    /// -1: this node lacks what the bitmap says.
    TargetByBitmap,
    /// +2: the peer lacks an unknown amount.
    SourceFull,
    /// -2: this node lacks an unknown amount.
    TargetFull,
    /// +100: split brain; both bitmaps are relative to the common ancestor.
    SplitBrain,
    /// -100: split brain without a common bitmap.
    SplitBrainNoCommon,
    /// -1000: no relation is known.
    Unrelated,
    /// The rule that would decide needs a newer peer.
    NeedsProtocol {
        /// The lowest protocol version that has it.
        version: u32,
        /// The feature flags that it needs beside, 0 if none.
        features: u32,
    },
}

impl Verdict {
    /// The number in the log. [`Verdict::NeedsProtocol`] prints as -1000 less the version.
    pub fn value(self) -> i32 {
        match self {
            Verdict::NoSync => 0,
            Verdict::SourceByBitmap => 1,
            Verdict::TargetByBitmap => -1,
            Verdict::SourceFull => 2,
            Verdict::TargetFull => -2,
            Verdict::SplitBrain => 100,
            Verdict::SplitBrainNoCommon => -100,
            Verdict::Unrelated => -1000,
            Verdict::NeedsProtocol { version, .. } => (-1000_i32).saturating_sub_unsigned(version),
        }
    }

    /// What the other node must have found.
    #[must_use]
    pub fn mirrored(self) -> Verdict {
        match self {
            Verdict::SourceByBitmap => Verdict::TargetByBitmap,
            Verdict::TargetByBitmap => Verdict::SourceByBitmap,
            Verdict::SourceFull => Verdict::TargetFull,
            Verdict::TargetFull => Verdict::SourceFull,
            Verdict::NoSync
            | Verdict::SplitBrain
            | Verdict::SplitBrainNoCommon
            | Verdict::Unrelated
            | Verdict::NeedsProtocol { .. } => self,
        }
    }
}

/// What [`compare`] looks at beside the slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CompareInputs {
    /// This disk was Primary when it went down.
    pub own_crashed: bool,
    /// The peer's disk was, by flag 2 of its P_UUIDS.
    pub peer_crashed: bool,
    /// This node is Primary now.
    pub own_primary: bool,
    /// The peer is Primary now.
    pub peer_primary: bool,
    /// This node holds the resolve-conflicts flag; exactly one of the two does.
    pub resolve_conflicts: bool,
    /// The agreed protocol version.
    pub version: u32,
    /// The feature WRITE_SAME (0x4) is agreed.
    pub wsame: bool,
    /// Set bits in this node's last P_UUIDS.
    pub own_bits: u64,
    /// Set bits in the peer's.
    pub peer_bits: u64,
    /// What this node has told of its lone writes.
    pub own_alone: WroteAlone,
    /// What the peer has.
    pub peer_alone: WroteAlone,
}

impl CompareInputs {
    /// The other node's inputs.
    #[must_use]
    pub fn mirrored(self) -> CompareInputs {
        CompareInputs {
            own_crashed: self.peer_crashed,
            peer_crashed: self.own_crashed,
            own_primary: self.peer_primary,
            peer_primary: self.own_primary,
            resolve_conflicts: !self.resolve_conflicts,
            own_bits: self.peer_bits,
            peer_bits: self.own_bits,
            own_alone: self.peer_alone,
            peer_alone: self.own_alone,
            ..self
        }
    }
}

/// What [`compare`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Comparison {
    /// The result.
    pub verdict: Verdict,
    /// The rule that gave it, as in the log.
    pub rule: u32,
    /// The own slots as they should have been: to be stored, persistently.
    pub own_correction: Option<GenerationIds>,
    /// The peer's slots as they should have been: to be kept in the place of the received ones.
    pub peer_correction: Option<GenerationIds>,
    /// The rule's log line. A dump of the corrected slots follows it if there are any.
    pub message: Option<&'static str>,
}

/// Compares two disks; the first rule that matches decides (`docs/spec/behaviour.md`, section 5.2).
pub fn compare(own: &GenerationIds, peer: &GenerationIds, inputs: CompareInputs) -> Comparison {
    let apart = own.current != peer.current;
    let unseen = |alone, source, target| {
        apart && alone == WroteAlone::UnderNewName && has_shared_name(target, source)
    };
    let own_unseen = unseen(inputs.own_alone, own, peer);
    let peer_unseen = unseen(inputs.peer_alone, peer, own);
    if !own_unseen && !peer_unseen {
        return by_rules(own, peer, inputs);
    }
    let corrected = |unseen: bool, ids: &GenerationIds| unseen.then(|| ids.of_ended_resync());
    let (own_new, peer_new) = (corrected(own_unseen, own), corrected(peer_unseen, peer));
    let alone = |unseen, alone| if unseen { WroteAlone::Unknown } else { alone };
    let inputs = CompareInputs {
        own_alone: alone(own_unseen, inputs.own_alone),
        peer_alone: alone(peer_unseen, inputs.peer_alone),
        ..inputs
    };
    let (own, peer) = (own_new.unwrap_or(*own), peer_new.unwrap_or(*peer));
    let found = by_rules(&own, &peer, inputs);
    Comparison {
        own_correction: found.own_correction.or(own_new),
        peer_correction: found.peer_correction.or(peer_new),
        message: found.message.or(Some(END_UNSEEN)),
        ..found
    }
}

fn by_rules(own: &GenerationIds, peer: &GenerationIds, inputs: CompareInputs) -> Comparison {
    let (cur, peer_cur) = (own.current, peer.current);
    if cur == Generation::JUST_CREATED && peer_cur == Generation::JUST_CREATED {
        return found(10, Verdict::NoSync);
    }
    if cur == Generation::JUST_CREATED || !cur.is_named() {
        // The peer's is not 4: that was rule 10, or, with 0 here, rule 30.
        if peer_cur != Generation::JUST_CREATED {
            return found(20, Verdict::TargetFull);
        }
    }
    if peer_cur == Generation::JUST_CREATED || !peer_cur.is_named() {
        return found(30, Verdict::SourceFull);
    }
    if cur == peer_cur {
        same_generation(own, peer, inputs)
    } else {
        other_generation(own, peer, inputs)
    }
}

/// Rules 34 to 41: both disks hold the same generation.
fn same_generation(own: &GenerationIds, peer: &GenerationIds, inputs: CompareInputs) -> Comparison {
    // Emptiness is a matter of all 64 bits: a set primary bit alone makes a slot non-empty.
    if peer.bitmap.is_empty() && !own.bitmap.is_empty() {
        if inputs.version < 91 {
            return found(34, NEEDS_91);
        }
        return if own.bitmap == peer.history[0] && own.history[0] == peer.history[1] {
            if inputs.peer_crashed {
                let alone = inputs.own_alone != WroteAlone::Nothing || inputs.own_primary;
                return written_at_the_end(34, alone, Verdict::TargetByBitmap);
            }
            if inputs.peer_primary && inputs.own_alone == WroteAlone::Nothing {
                return primary_ended(34, Verdict::TargetByBitmap);
            }
            // (L4) DRBD empties the own bitmap slot here. If the link breaks before the blocks written since are synced, both
            // disks then have one name, and those blocks differ for ever: the slots stay until the resync moves them.
            Comparison {
                message: Some("was SyncSource, missed the resync finished event"),
                ..found(34, Verdict::SourceByBitmap)
            }
        } else {
            Comparison {
                message: Some("was SyncSource (peer failed to write sync_uuid)"),
                ..found(36, Verdict::SourceByBitmap)
            }
        };
    }
    if own.bitmap.is_empty() && !peer.bitmap.is_empty() {
        if inputs.version < 91 {
            return found(35, NEEDS_91);
        }
        return if own.history[0] == peer.bitmap && own.history[1] == peer.history[0] {
            if inputs.own_crashed {
                let alone = inputs.peer_alone != WroteAlone::Nothing || inputs.peer_primary;
                return written_at_the_end(35, alone, Verdict::SourceByBitmap);
            }
            if inputs.own_primary && inputs.peer_alone == WroteAlone::Nothing {
                return primary_ended(35, Verdict::SourceByBitmap);
            }
            let mut corrected = *peer;
            corrected.clear_bitmap();
            Comparison {
                peer_correction: Some(corrected),
                message: Some(
                    "was SyncTarget, peer missed the resync finished event, corrected peer:",
                ),
                ..found(35, Verdict::TargetByBitmap)
            }
        } else {
            Comparison {
                message: Some("was SyncTarget (failed to write sync_uuid)"),
                ..found(37, Verdict::TargetByBitmap)
            }
        };
    }
    // From here on both bitmap slots are empty, or neither is.
    if let Some(found) = interrupted_after_the_end(own, peer, inputs) {
        return found;
    }
    if !inputs.own_crashed && !inputs.peer_crashed {
        return found(40, Verdict::NoSync);
    }
    if inputs.own_primary || inputs.peer_primary {
        return crashed_and_primary(inputs);
    }
    let both = inputs.own_crashed && inputs.peer_crashed;
    if both && own.bitmap.is_named() && peer.bitmap.is_named() {
        // (L3) Each has begun to sync the other: what one of them alone has cannot be told any more from what it was to give up.
        return Comparison {
            message: Some("both crashed as Primary, and each was a SyncSource"),
            ..found(40, Verdict::SplitBrain)
        };
    }
    let own_is_source = match (inputs.own_crashed, inputs.peer_crashed) {
        (true, true) => !inputs.resolve_conflicts,
        (own_crashed, _) => own_crashed,
    };
    found(40, by_bitmap(own_is_source))
}

/// The target of a resync has had its end, is Primary, and has not crashed since; the source missed the end, and nobody has written
/// there alone. So the target has everything, and what the source does not know of comes from there. DRBD would have the Primary
/// become a target once more, which it cannot be, and leave the peer for good.
fn primary_ended(rule: u32, verdict: Verdict) -> Comparison {
    Comparison {
        message: Some(
            "the SyncTarget is Primary and had the end of the resync, which the SyncSource missed",
        ),
        ..found(rule, verdict)
    }
}

/// (L3) The target of a resync was Primary at its end, and crashed before the source knew of the end. What its users wrote last,
/// and under protocol A flushed, may be there alone: DRBD would overwrite it with the source's blocks. (That a source was
/// Primary when it crashed may be of an earlier time; a target forgets it at the resync's end.) If nobody wrote at the source
/// since, the crashed one's data are the newest, and this verdict brings them to the source.
fn written_at_the_end(rule: u32, source_wrote: bool, verdict: Verdict) -> Comparison {
    let verdict = if source_wrote {
        Verdict::SplitBrain
    } else {
        verdict
    };
    Comparison {
        message: Some(
            "the SyncTarget was Primary when it crashed, and the SyncSource missed the resync finished event",
        ),
        ..found(rule, verdict)
    }
}

/// (L3) The resync by which a target that was Primary at its end brings what it alone has to its source was begun, and came to nothing:
/// both bitmap slots name a resync. The target may have crashed; the source may count as crashed, too, of an earlier time.
fn interrupted_after_the_end(
    own: &GenerationIds,
    peer: &GenerationIds,
    inputs: CompareInputs,
) -> Option<Comparison> {
    let has_ended = |source: &GenerationIds, target: &GenerationIds| {
        let [newer, older] = target.history;
        // (Interrupted once more, the resync's own UUID of before stands between.)
        let again = newer.sync_uuid() == target.bitmap;
        source.bitmap.is_named()
            && (source.bitmap == newer && source.history[0] == older
                || again && source.bitmap == older)
    };
    let nothing = WroteAlone::Nothing;
    let by_peer = inputs.own_alone == nothing && has_ended(own, peer);
    let by_own = inputs.peer_alone == nothing && has_ended(peer, own);
    let (rule, crashed, source_wrote, verdict) = match (by_peer, by_own) {
        (false, false) => return None,
        (true, true) => (34, true, true, Verdict::SplitBrain),
        (true, false) => {
            let (crashed, wrote) = (inputs.peer_crashed, inputs.own_primary);
            (34, crashed, wrote, Verdict::TargetByBitmap)
        }
        (false, true) => {
            let (crashed, wrote) = (inputs.own_crashed, inputs.peer_primary);
            (35, crashed, wrote, Verdict::SourceByBitmap)
        }
    };
    Some(match crashed || source_wrote {
        true => written_at_the_end(rule, source_wrote, verdict),
        false => primary_ended(rule, verdict),
    })
}

/// Rule 41: a node crashed as Primary, its peer has the same generation, and somebody is Primary again.
fn crashed_and_primary(inputs: CompareInputs) -> Comparison {
    if !inputs.wsame {
        return Comparison {
            message: Some("Equivalent unrotated UUIDs, but current primary present."),
            ..found(
                41,
                Verdict::NeedsProtocol {
                    version: 101,
                    features: FEATURE_WRITE_SAME,
                },
            )
        };
    }
    if inputs.own_primary && inputs.peer_primary {
        return Comparison {
            message: Some(
                "Equivalent unrotated UUIDs, but both are primary. Can not resolve this.",
            ),
            ..found(41, Verdict::SplitBrainNoCommon)
        };
    }
    found(41, by_bitmap(inputs.own_primary))
}

/// Rules 50 to 100: the disks hold different generations.
fn other_generation(
    own: &GenerationIds,
    peer: &GenerationIds,
    inputs: CompareInputs,
) -> Comparison {
    if own.current == peer.bitmap {
        if wrote_under_shared_name(own, inputs.own_bits, inputs.own_alone, peer) {
            return forked(50);
        }
        return found(50, Verdict::TargetByBitmap);
    }
    if own.current == peer.history[0] && lost_sync_uuid(peer, own, inputs.version) {
        if inputs.version < 91 {
            return found(51, NEEDS_91);
        }
        if may_have_written(own, inputs.own_bits, inputs.own_alone) {
            return forked(51);
        }
        return Comparison {
            peer_correction: Some(undo_start(peer)),
            message: Some("Lost last syncUUID packet, corrected:"),
            ..found(51, Verdict::TargetByBitmap)
        };
    }
    if peer.history.contains(&own.current) {
        if wrote_under_shared_name(own, inputs.own_bits, inputs.own_alone, peer) {
            return forked(60);
        }
        return found(60, Verdict::TargetFull);
    }
    if own.bitmap == peer.current {
        if wrote_under_shared_name(peer, inputs.peer_bits, inputs.peer_alone, own) {
            return forked(70);
        }
        return found(70, Verdict::SourceByBitmap);
    }
    if own.history[0] == peer.current && lost_sync_uuid(own, peer, inputs.version) {
        if inputs.version < 91 {
            return found(71, NEEDS_91);
        }
        if may_have_written(peer, inputs.peer_bits, inputs.peer_alone) {
            return forked(71);
        }
        return Comparison {
            own_correction: Some(undo_start(own)),
            message: Some("Last syncUUID did not get through, corrected:"),
            ..found(71, Verdict::SourceByBitmap)
        };
    }
    if own.history.contains(&peer.current) {
        if wrote_under_shared_name(peer, inputs.peer_bits, inputs.peer_alone, own) {
            return forked(80);
        }
        return found(80, Verdict::SourceFull);
    }
    if own.bitmap == peer.bitmap && own.bitmap.is_named() {
        return found(90, Verdict::SplitBrain);
    }
    // Two empty slots count as equal: "unrelated" needs histories without a hole in common. (L5) A generation that one disk
    // has in its bitmap slot and the other in its history is an ancestor too, which DRBD does not look at.
    let met =
        |a: &GenerationIds, b: &GenerationIds| a.bitmap.is_named() && b.history.contains(&a.bitmap);
    if own.history.iter().any(|old| peer.history.contains(old)) || met(own, peer) || met(peer, own)
    {
        return found(100, Verdict::SplitBrainNoCommon);
    }
    found(100, Verdict::Unrelated)
}

/// (L2) Whether a node whose generation the other one built on has written under that name by itself. A DRBD that is alone
/// with a bitmap UUID makes no new generation, though a resync target may have come to the end and carry its name: then
/// the bits say so. DRBD would overwrite those writes; one node that refuses is enough to keep them. The bits may as well be what
/// a source knew last that died at the resync's end: one that would have named such writes says that there are none. That is
/// to the point only if the other node has ended that very resync, so that it has what was marked before: then it has the sync
/// UUID in its history. Of a resync between disks of one name, the target has the name from the beginning.
fn wrote_under_shared_name(
    ids: &GenerationIds,
    bits: u64,
    alone: WroteAlone,
    other: &GenerationIds,
) -> bool {
    let has_ended = other.history.contains(&ids.bitmap);
    let unfinished = ids.bitmap.is_named() && bits > 0 && !has_ended;
    unfinished || may_have_written(ids, bits, alone)
}

/// The same of a node whose name the other one went on from, and began to sync it: that one has ended the resync, whatever is left
/// of it in its history.
fn may_have_written(ids: &GenerationIds, bits: u64, alone: WroteAlone) -> bool {
    ids.bitmap.is_named() && bits > 0 && alone != WroteAlone::Nothing
}

/// Whether `target` has, or went on from, the name that `source`, which was its source, had until it was alone
/// ([`WroteAlone::UnderNewName`]).
fn has_shared_name(target: &GenerationIds, source: &GenerationIds) -> bool {
    let shared = source.history[1];
    shared.is_named() && (shared == target.current || shared == target.bitmap)
}

fn forked(rule: u32) -> Comparison {
    Comparison {
        message: Some(
            "the SyncSource did not see the resync's end, and wrote on under the same name",
        ),
        ..found(rule, Verdict::SplitBrain)
    }
}

/// The second condition of rules 51 and 71: `source` began a resync whose sync UUID `target` never saw.
fn lost_sync_uuid(source: &GenerationIds, target: &GenerationIds, version: u32) -> bool {
    if version < 96 {
        target.history[0] == source.history[1]
    } else {
        source.history[0].sync_uuid() == source.bitmap
    }
}

/// The slots before the resync that came to nothing; the oldest keeps its value.
fn undo_start(ids: &GenerationIds) -> GenerationIds {
    let [h0, h1] = ids.history;
    GenerationIds {
        bitmap: h0,
        history: [h1, h1],
        ..*ids
    }
}

fn by_bitmap(own_is_source: bool) -> Verdict {
    if own_is_source {
        Verdict::SourceByBitmap
    } else {
        Verdict::TargetByBitmap
    }
}

fn found(rule: u32, verdict: Verdict) -> Comparison {
    Comparison {
        verdict,
        rule,
        own_correction: None,
        peer_correction: None,
        message: None,
    }
}

const END_UNSEEN: &str =
    "the SyncSource did not see the resync's end, and named what it wrote since, corrected:";

/// The feature flag WRITE_SAME (`docs/spec/wire.md`, section 3.3).
const FEATURE_WRITE_SAME: u32 = 0x4;

const NEEDS_91: Verdict = Verdict::NeedsProtocol {
    version: 91,
    features: 0,
};
