//! The scenarios of section 13 that are moves of identifiers: what two disks went through, and how they meet again.

use rdb_engine::config::SplitBrainPolicy as P;
use rdb_engine::generation::{CompareInputs, Generation, GenerationIds, PeerIds, compare};
use rdb_engine::rules::consequences::{Act, Why};
use rdb_engine::state::DiskState;
use rdb_engine::sync_decision::{DecisionInputs, FailReason, Outcome, decide};

use crate::consequences::acts;
use crate::decision::{inputs, mirrored};
use crate::generation::{B, B_PLUS, C, C_PLUS, G, H, JUST_CREATED, M, N, QUIET, S, gi};
use crate::universe::record;

/// The pair in sync: A was Primary when it wrote last.
fn pair() -> (GenerationIds, GenerationIds) {
    (gi(C | 1, 0, H, G), gi(C, 0, H, G))
}

/// Both nodes' verdict and rule.
fn meet(a: &GenerationIds, b: &GenerationIds, inputs: CompareInputs) -> [(i32, u32); 2] {
    let [here, there] = [compare(a, b, inputs), compare(b, a, inputs.mirrored())];
    [
        (here.verdict.value(), here.rule),
        (there.verdict.value(), there.rule),
    ]
}

/// A resync from `source` to `target`, to its end; `random` is for a sync UUID that cannot be derived.
fn resync(source: &mut GenerationIds, target: &mut GenerationIds, random: u64) {
    let told = *source;
    target.start_target(source.start_source(random), false);
    source.finish_source();
    target.finish_target(&told, false);
}

/// Two sets that are equal but for bit 0 of the current one.
fn assert_same(a: &GenerationIds, b: &GenerationIds, expected: GenerationIds) {
    let plain = |ids: &GenerationIds| GenerationIds::from_bits(ids.bits().map(|id| id & !1));
    assert_eq!((plain(a), plain(b)), (expected, expected), "{a} and {b}");
}

#[test]
fn s1_first_sync() {
    let (mut a, mut b) = (GenerationIds::CREATED, GenerationIds::CREATED);
    assert_eq!(meet(&a, &b, QUIET), [(0, 10), (0, 10)]);
    // A is forced to be Primary: N3.
    a.new_current(C, true);
    assert_eq!(a, gi(C | 1, JUST_CREATED, 0, 0));
    assert_eq!(meet(&a, &b, QUIET), [(2, 30), (-2, 20)]);
    let mut here = inputs(a, b);
    here.compare.own_primary = true;
    here.peer_disk = DiskState::Inconsistent;
    assert_eq!(decide(&here).outcome, Outcome::Source { full: true });
    assert_eq!(
        decide(&mirrored(&here)).outcome,
        Outcome::Target { full: true }
    );
    resync(&mut a, &mut b, S);
    assert_same(&a, &b, gi(C, 0, S, JUST_CREATED));
}

#[test]
fn s2_skip_the_first_sync() {
    let (mut a, mut b) = (GenerationIds::CREATED, GenerationIds::CREATED);
    a.clear_bitmap();
    a.new_current(C, false);
    b.skip_initial_sync(a.current, false);
    a.bitmap = Generation::NONE; // without history
    assert_same(&a, &b, gi(C, 0, 0, 0));
}

#[test]
fn s4_to_s6_link_cut_under_a_primary() {
    let (mut a, mut b) = pair();
    // A loses the peer's data and is Primary, so it bumps; B is Secondary and does not.
    let lost = acts(
        record("Connected P/S U/U"),
        record("NetworkFailure P/? U/-"),
    );
    assert!(lost.contains(&Act::NewGeneration(Why::PeerLost)));
    let lost = acts(
        record("Connected S/P U/U"),
        record("NetworkFailure S/? U/-"),
    );
    assert!(!lost.contains(&Act::NewGeneration(Why::PeerLost)));
    a.new_current(N, true);
    assert_eq!(a, gi(N | 1, C | 1, H, G));
    assert_eq!(meet(&a, &b, QUIET), [(1, 70), (-1, 50)]);
    resync(&mut a, &mut b, S);
    assert_same(&a, &b, gi(N, 0, C_PLUS, C));
}

#[test]
fn s7_link_cut_between_two_secondaries() {
    let lost = acts(
        record("Connected S/S U/U"),
        record("NetworkFailure S/? U/-"),
    );
    assert!(!lost.contains(&Act::NewGeneration(Why::PeerLost)));
    let (a, b) = pair();
    assert_eq!(meet(&a, &b, QUIET), [(0, 40), (0, 40)]);
}

#[test]
fn s8_a_clean_switch_over_moves_only_the_primary_bit() {
    let (mut a, mut b) = pair();
    a.set_primary_bit(false);
    b.set_primary_bit(true);
    assert_eq!((a, b), (gi(C, 0, H, G), gi(C | 1, 0, H, G)));
    assert_eq!(meet(&a, &b, QUIET), [(0, 40), (0, 40)]);
}

#[test]
fn s10_to_s14_crashed_primaries() {
    let (mut a, mut b) = pair();
    let a_crashed = CompareInputs {
        own_crashed: true,
        ..QUIET
    };
    // S10, S12: the crashed node is source.
    assert_eq!(meet(&a, &b, a_crashed), [(1, 40), (-1, 40)]);
    resync(&mut a, &mut b, S);
    assert_same(&a, &b, gi(C, 0, S, H));
    // S11: the peer was promoted meanwhile, and the crash plays no part.
    let (mut a, mut b) = pair();
    b.new_current(N, true);
    assert_eq!(meet(&a, &b, a_crashed), [(-1, 50), (1, 70)]);
    resync(&mut b, &mut a, S);
    assert_same(&a, &b, gi(N, 0, C_PLUS, C));
    // S13: A is promoted before it meets B.
    let (mut a, b) = pair();
    a.new_current(N, true);
    assert_eq!(meet(&a, &b, a_crashed), [(1, 70), (-1, 50)]);
    // S14: both were Primary; the node with the flag is target.
    let (a, b) = pair();
    let both = CompareInputs {
        own_crashed: true,
        peer_crashed: true,
        ..QUIET
    };
    let with_flag = CompareInputs {
        resolve_conflicts: true,
        ..both
    };
    assert_eq!(meet(&a, &b, with_flag), [(-1, 40), (1, 40)]);
    assert_eq!(meet(&a, &b, both), [(1, 40), (-1, 40)]);
}

/// The disks of S15: A Primary at the split, B promoted later.
fn split() -> (GenerationIds, GenerationIds) {
    let (mut a, mut b) = pair();
    a.new_current(N, true);
    b.new_current(M, true);
    assert_eq!([a.bitmap.bits(), b.bitmap.bits()], [C | 1, C]);
    (a, b)
}

#[test]
fn s15_split_brain_and_manual_recovery() {
    let (mut a, mut b) = split();
    assert_eq!(meet(&a, &b, QUIET), [(100, 90), (100, 90)]);
    let mut here = inputs(a, b);
    here.compare.own_primary = true;
    assert_eq!(decide(&here).outcome, Outcome::Fail(FailReason::SplitBrain));
    assert_eq!(
        decide(&mirrored(&here)).outcome,
        Outcome::Fail(FailReason::SplitBrain)
    );
    here.peer.flags = PeerIds::FLAG_DISCARD;
    assert_eq!(decide(&here).outcome, Outcome::Source { full: false });
    assert_eq!(
        decide(&mirrored(&here)).outcome,
        Outcome::Target { full: false }
    );
    resync(&mut a, &mut b, S);
    assert_same(&a, &b, gi(N, 0, C_PLUS, C));
}

/// S16: A wrote 2 blocks and B 3; `+1` A's data stays, `-1` B's, `0` no agreement, on A and on B.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn s16_split_brain_and_automatic_policies() {
    let (a, b) = split();
    let (s, p) = (false, true);
    for (policies, roles, wrote, rr, results) in [
        (
            [P::DiscardYoungerPrimary, P::Disconnect, P::Disconnect],
            (s, s),
            (2, 3),
            P::Disconnect,
            (1, 1),
        ),
        (
            [P::DiscardOlderPrimary, P::Disconnect, P::Disconnect],
            (s, s),
            (2, 3),
            P::Disconnect,
            (-1, -1),
        ),
        (
            [P::DiscardZeroChanges, P::Disconnect, P::Disconnect],
            (s, s),
            (0, 3),
            P::Disconnect,
            (-1, -1),
        ),
        (
            [P::DiscardZeroChanges, P::Disconnect, P::Disconnect],
            (s, s),
            (2, 3),
            P::Disconnect,
            (0, 0),
        ),
        // Nobody wrote: the node without the flag is source; A holds it here.
        (
            [P::DiscardZeroChanges, P::Disconnect, P::Disconnect],
            (s, s),
            (0, 0),
            P::Disconnect,
            (-1, -1),
        ),
        (
            [P::DiscardLeastChanges, P::Disconnect, P::Disconnect],
            (s, s),
            (2, 3),
            P::Disconnect,
            (-1, -1),
        ),
        (
            [P::DiscardLeastChanges, P::Consensus, P::Disconnect],
            (p, s),
            (2, 3),
            P::Disconnect,
            (0, 0),
        ),
        (
            [P::DiscardLeastChanges, P::Consensus, P::Disconnect],
            (p, s),
            (3, 2),
            P::Disconnect,
            (1, 1),
        ),
        (
            [P::Disconnect, P::DiscardSecondary, P::Disconnect],
            (p, s),
            (2, 3),
            P::Disconnect,
            (1, 1),
        ),
        // The Primary loses: it refuses, and the winner has agreed already.
        (
            [P::DiscardLeastChanges, P::CallPriLost, P::Disconnect],
            (p, s),
            (2, 3),
            P::Disconnect,
            (0, -1),
        ),
        (
            [P::DiscardLeastChanges, P::Violently, P::Disconnect],
            (p, s),
            (2, 3),
            P::Disconnect,
            (0, -1),
        ),
        (
            [P::DiscardLeastChanges, P::Violently, P::Disconnect],
            (p, s),
            (2, 3),
            P::Violently,
            (-1, -1),
        ),
        (
            [P::DiscardLeastChanges, P::Disconnect, P::CallPriLost],
            (p, p),
            (2, 3),
            P::Disconnect,
            (0, -1),
        ),
        (
            [P::DiscardLeastChanges, P::Disconnect, P::Violently],
            (p, p),
            (2, 3),
            P::Violently,
            (-1, -1),
        ),
    ] {
        let mut here = DecisionInputs {
            after_sb_0pri: policies[0],
            after_sb_1pri: policies[1],
            after_sb_2pri: policies[2],
            rr_conflict: rr,
            own_bits_sent: wrote.0,
            ..inputs(a, b)
        };
        here.peer.bits = wrote.1;
        here.compare.resolve_conflicts = true;
        (here.compare.own_primary, here.compare.peer_primary) = roles;
        let result = |inputs: &DecisionInputs, source: i32| match decide(inputs).outcome {
            Outcome::Source { full: false } => source,
            Outcome::Target { full: false } => -source,
            Outcome::Fail(_) => 0,
            other => panic!("{other:?}"),
        };
        let found = (result(&here, 1), result(&mirrored(&here), -1));
        assert_eq!(found, results, "{policies:?} {roles:?} {wrote:?} {rr:?}");
    }
}

#[test]
fn s18_forcing_an_outdated_disk_keeps_the_ancestor_in_the_history() {
    let (mut a, mut b) = pair();
    a.new_current(N, true); // A lost B
    b.new_current(M, true); // B is forced, once for the peer declared Outdated ...
    assert_eq!(meet(&a, &b, QUIET), [(100, 90), (100, 90)]);
    b.new_current(S, true); // ... and, if that is not avoided, once for the promotion
    assert_eq!(b, gi(S | 1, M | 1, C, H));
    assert_eq!(meet(&a, &b, QUIET), [(-100, 100), (-100, 100)]);
    // A disk that stayed behind is still known as an ancestor, so it is repaired and not refused.
    assert_eq!(meet(&gi(C, 0, H, G), &b, QUIET), [(-2, 60), (2, 80)]);
}

#[test]
fn s21_sync_target_crashes_and_the_resync_goes_on() {
    let (mut a, mut b) = pair();
    a.new_current(N, true);
    let sync = a.start_source(S);
    b.start_target(sync, false);
    assert_eq!(meet(&a, &b, QUIET), [(1, 70), (-1, 50)]);
    let mut here = inputs(a, b);
    here.peer_disk = DiskState::Inconsistent;
    assert_eq!(decide(&here).outcome, Outcome::Source { full: false });
    assert_eq!(
        decide(&mirrored(&here)).outcome,
        Outcome::Target { full: false }
    );
    resync(&mut a, &mut b, S);
    assert_eq!(a.current, Generation::new(N));
    assert!(a.bitmap.is_empty());
    assert_same(&a, &b, gi(N, 0, C_PLUS + (C_PLUS - C), C_PLUS));
}

#[test]
fn s22_a_target_forced_mid_resync_is_a_split_brain() {
    let (mut a, mut b) = (gi(C | 1, B, H, G), gi(B, 0, H, G));
    let sync = a.start_source(X_RANDOM);
    b.start_target(sync, false);
    b.new_current(M, true);
    assert_eq!([a.bitmap.bits(), b.bitmap.bits()], [B_PLUS, B_PLUS]);
    assert_eq!(meet(&a, &b, QUIET), [(100, 90), (100, 90)]);
}

const X_RANDOM: u64 = 0x5a5a_5a5a_5a5a_5a5a;

#[test]
fn s24_disk_of_the_primary_fails_and_comes_back_old() {
    let (mut a, mut b) = pair();
    // B is Secondary, but its Primary lost the disk with the link up: B bumps.
    let lost = acts(record("Connected S/P U/U"), record("Connected S/P U/F"));
    assert!(lost.contains(&Act::NewGeneration(Why::PeerLost)));
    b.new_current(N, false);
    assert!(!b.current.has_primary_bit());
    assert_eq!(meet(&a, &b, QUIET), [(-1, 50), (1, 70)]);
    resync(&mut b, &mut a, S);
    assert_same(&a, &b, gi(N, 0, C_PLUS, C));
    // A fresh disk instead is synced in full.
    let fresh = GenerationIds::CREATED;
    assert_eq!(meet(&fresh, &b, QUIET), [(-2, 20), (2, 30)]);
}

#[test]
fn s33_truck_seeding() {
    let mut a = GenerationIds::CREATED;
    a.new_current(C, true);
    assert_eq!(a, gi(C | 1, 4, 0, 0));
    let new_current_uuid = |ids: &mut GenerationIds, random| {
        ids.clear_bitmap();
        ids.new_current(random, true);
    };
    new_current_uuid(&mut a, N);
    assert_eq!(a, gi(N | 1, C | 1, 4, 0));
    let copy = a;
    let unbumped = CompareInputs {
        own_primary: true,
        ..QUIET
    };
    assert_eq!(
        meet(&a, &copy, unbumped),
        [(0, 40), (0, 40)],
        "the differing blocks stay"
    );
    let crashed = CompareInputs {
        peer_crashed: true,
        ..unbumped
    };
    assert_eq!(meet(&a, &copy, crashed), [(1, 41), (-1, 41)]);
    new_current_uuid(&mut a, M);
    assert_eq!(a, gi(M | 1, N | 1, C | 1, 4));
    assert_eq!(meet(&a, &copy, QUIET), [(1, 70), (-1, 50)]);
    let mut b = copy;
    resync(&mut a, &mut b, S);
    let n_plus = N + (C_PLUS - C);
    assert_same(&a, &b, gi(M, 0, n_plus, N));
}

#[test]
fn s34_two_primaries_lose_the_link() {
    let (mut a, mut b) = pair();
    a.new_current(N, true);
    b.new_current(M, true);
    let both = CompareInputs {
        own_primary: true,
        peer_primary: true,
        ..QUIET
    };
    assert_eq!(meet(&a, &b, both), [(100, 90), (100, 90)]);
}

#[test]
fn s41_lost_messages_around_a_resync() {
    // The sync UUID was lost.
    let (mut a, b) = (gi(C, B, H, G), gi(B, 0, H, G));
    a.start_source(S);
    assert_eq!(a, gi(C, B_PLUS, B, H));
    assert_eq!(meet(&a, &b, QUIET), [(1, 71), (-1, 51)]);
    let corrected = compare(&a, &b, QUIET)
        .own_correction
        .expect("rule 71 corrects");
    assert_eq!(corrected, gi(C, B, H, H));
    assert_eq!(meet(&corrected, &b, QUIET), [(1, 70), (-1, 50)]);
    // The end was seen by the target only.
    let (mut a, mut b) = (gi(C, B, H, G), gi(B, 0, H, G));
    let told = a;
    b.start_target(a.start_source(S), false);
    b.finish_target(&told, false);
    assert_eq!(meet(&a, &b, QUIET), [(1, 34), (-1, 35)]);
    // What is left is synced under the next sync UUID, and both end with the same slots.
    let told = b;
    let seen_by_b = compare(&b, &a, QUIET).peer_correction.expect("rule 35");
    b.start_target(a.start_source(S), false);
    b.finish_target(&seen_by_b, false);
    a.finish_source();
    assert_eq!(told.current, Generation::new(C));
    assert_eq!(meet(&a, &b, QUIET), [(0, 40), (0, 40)]);
    // The sync UUID was not written by the target of a resync between equal generations.
    let (mut a, b) = pair();
    a.start_source(S);
    assert_eq!(a, gi(C | 1, S, H, G));
    assert_eq!(meet(&a, &b, QUIET), [(1, 36), (-1, 37)]);
}
