//! Section 5.4, every policy in every situation, and V8 for its solutions.

use rdb_engine::config::SplitBrainPolicy as P;
use rdb_engine::sync_decision::{Side, SplitBrainInputs, after_split_brain};

const POLICIES: [P; 11] = [
    P::Disconnect,
    P::DiscardYoungerPrimary,
    P::DiscardOlderPrimary,
    P::DiscardZeroChanges,
    P::DiscardLeastChanges,
    P::DiscardLocal,
    P::DiscardRemote,
    P::Consensus,
    P::DiscardSecondary,
    P::CallPriLost,
    P::Violently,
];

/// All situations: was-Primary bits, numbers of changes, the flag.
fn situations() -> impl Iterator<Item = SplitBrainInputs> {
    [(0, 0), (1, 0), (0, 1), (1, 2), (2, 1), (2, 2)]
        .into_iter()
        .flat_map(|(mine, theirs)| {
            (0..8).map(move |bits| SplitBrainInputs {
                policies: [P::Disconnect; 3],
                own_primary: false,
                peer_primary: false,
                own_was_primary: bits & 1 != 0,
                peer_was_primary: bits & 2 != 0,
                own_changes: mine,
                peer_changes: theirs,
                resolve_conflicts: bits & 4 != 0,
                can_demote: false,
            })
        })
}

/// The tables of section 5.4 for no Primary, as numbers: +1 this node's data stays, -1 the peer's, 0 unsolved.
fn table_0pri(policy: P, situation: &SplitBrainInputs) -> i32 {
    let flag = if situation.resolve_conflicts { -1 } else { 1 };
    let (mine, theirs) = (situation.own_changes, situation.peer_changes);
    let zero = match (mine, theirs) {
        (0, 0) => flag,
        (_, 0) => 1,
        (0, _) => -1,
        _ => 0,
    };
    let least = match mine as i64 - theirs as i64 {
        0 => flag,
        difference => difference.signum() as i32,
    };
    let zero_then_least = if zero == 0 { least } else { zero };
    let column = i32::from(situation.own_was_primary) - i32::from(situation.peer_was_primary);
    match policy as u8 {
        1 => [zero_then_least, column][usize::from(column != 0)],
        2 => [zero_then_least, -column][usize::from(column != 0)],
        3 => zero,
        4 => least,
        5 => -1,
        6 => 1,
        _ => 0,
    }
}

fn number(source: Option<Side>) -> i32 {
    match source {
        Some(Side::This) => 1,
        Some(Side::Peer) => -1,
        None => 0,
    }
}

#[test]
fn the_table_for_no_primary_is_that_of_section_5_4() {
    for policy in POLICIES {
        for situation in situations() {
            let inputs = SplitBrainInputs {
                policies: [policy, P::Disconnect, P::Disconnect],
                ..situation
            };
            let votes = after_split_brain(&inputs);
            assert_eq!(
                number(votes.source),
                table_0pri(policy, &situation),
                "{inputs:?}"
            );
            let undecided = situation.own_was_primary == situation.peer_was_primary;
            let expected: &[&str] = match policy as u8 {
                1 | 2 if undecided => &[
                    "Discard younger/older primary did not find a decision\nUsing discard-least-changes instead",
                ],
                7..=10 => &["Configuration error."],
                _ => &[],
            };
            assert_eq!(votes.log, expected, "{inputs:?}");
            assert!(!votes.demote && !votes.pri_lost_after_sb);
        }
    }
}

#[test]
fn the_tables_for_one_and_two_primaries_are_those_of_section_5_4() {
    for with_primary in POLICIES {
        for without in POLICIES {
            for situation in situations() {
                for bits in 0..6 {
                    let (own_primary, peer_primary) =
                        [(true, false), (false, true), (true, true)][bits / 2];
                    let can_demote = bits % 2 == 1;
                    let inputs = SplitBrainInputs {
                        policies: [without, with_primary, with_primary],
                        own_primary,
                        peer_primary,
                        can_demote,
                        ..situation
                    };
                    let z = table_0pri(without, &situation);
                    let two = own_primary && peer_primary;
                    let lost = own_primary && z == -1;
                    let (expected, demote, call) = match (with_primary as u8, two) {
                        (7, false) if own_primary => (z.max(0), false, false),
                        (7, false) => (z.min(0), false, false),
                        (8, false) => (if own_primary { 1 } else { -1 }, false, false),
                        (9, _) if lost && can_demote => (-1, true, false),
                        (9, _) if lost => (0, false, true),
                        (9 | 10, _) => (z, false, false),
                        _ => (0, false, false),
                    };
                    let votes = after_split_brain(&inputs);
                    assert_eq!(number(votes.source), expected, "{inputs:?}");
                    assert_eq!(
                        (votes.demote, votes.pri_lost_after_sb),
                        (demote, call),
                        "{inputs:?}"
                    );
                    let unfit = match with_primary as u8 {
                        1..=6 => true,
                        7 | 8 => two,
                        _ => false,
                    };
                    if unfit {
                        assert_eq!(votes.log, ["Configuration error."], "{inputs:?}");
                    }
                    let gave_up = votes
                        .log
                        .iter()
                        .any(|line| line == "Successfully gave up primary role.");
                    assert_eq!(gave_up, demote);
                }
            }
        }
    }
}

/// V8 for split brains: whatever the policies and the situation, not both nodes keep their data, and not both drop it.
#[test]
fn split_brain_solutions_are_mirror_images() {
    for without in POLICIES {
        for with_primary in POLICIES {
            for situation in situations() {
                for (own_primary, peer_primary) in
                    [(false, false), (true, false), (false, true), (true, true)]
                {
                    let here = SplitBrainInputs {
                        policies: [without, with_primary, with_primary],
                        own_primary,
                        peer_primary,
                        ..situation
                    };
                    let there = SplitBrainInputs {
                        policies: [
                            match without {
                                P::DiscardLocal => P::DiscardRemote,
                                P::DiscardRemote => P::DiscardLocal,
                                other => other,
                            },
                            with_primary,
                            with_primary,
                        ],
                        own_primary: peer_primary,
                        peer_primary: own_primary,
                        own_was_primary: situation.peer_was_primary,
                        peer_was_primary: situation.own_was_primary,
                        own_changes: situation.peer_changes,
                        peer_changes: situation.own_changes,
                        resolve_conflicts: !situation.resolve_conflicts,
                        can_demote: false,
                    };
                    let (here, there) = (after_split_brain(&here), after_split_brain(&there));
                    let (a, b) = (number(here.source), number(there.source));
                    let somebody_calls = here.pri_lost_after_sb || there.pri_lost_after_sb;
                    assert!(
                        a == -b || (somebody_calls && a + b == 1),
                        "{here:?} {there:?}"
                    );
                }
            }
        }
    }
}
