//! Sections 5.3 to 5.7, V9, and V8 for decisions.

use rdb_engine::config::SplitBrainPolicy as P;
use rdb_engine::generation::{CompareInputs, GenerationIds, PeerIds};
use rdb_engine::state::DiskState;
use rdb_engine::sync_decision::{
    Decision, DecisionInputs, FailEffect, FailReason, Handler, Outcome, decide,
    effective_peer_disk, fail_effect,
};

use crate::generation::{B, B_PLUS, C, G, H, M, N, QUIET, S, X, Y, gi};
use crate::universe::own_disks;

const CONNECTED: Outcome = Outcome::Connected;
const SOURCE: Outcome = Outcome::Source { full: false };
const SOURCE_FULL: Outcome = Outcome::Source { full: true };
const TARGET: Outcome = Outcome::Target { full: false };
const TARGET_FULL: Outcome = Outcome::Target { full: true };

/// Two UpToDate Secondaries with default policies.
pub(crate) fn inputs(own: GenerationIds, peer: GenerationIds) -> DecisionInputs {
    DecisionInputs {
        own,
        peer: PeerIds {
            ids: peer,
            bits: 0,
            flags: 0,
        },
        compare: QUIET,
        own_disk: DiskState::UpToDate,
        own_real_disk: DiskState::UpToDate,
        peer_disk: DiskState::UpToDate,
        peer_attaches: false,
        own_bits_sent: 0,
        own_bits: 0,
        after_sb_0pri: P::Disconnect,
        after_sb_1pri: P::Disconnect,
        after_sb_2pri: P::Disconnect,
        always_asbp: false,
        rr_conflict: P::Disconnect,
        own_discard_my_data: false,
        can_demote: false,
        own_tentative: false,
        peer_dry_run: false,
    }
}

/// The other node's inputs.
pub(crate) fn mirrored(inputs: &DecisionInputs) -> DecisionInputs {
    let swap = |policy| match policy {
        P::DiscardLocal => P::DiscardRemote,
        P::DiscardRemote => P::DiscardLocal,
        other => other,
    };
    let flag = |set: bool, bit: u64| if set { bit } else { 0 };
    DecisionInputs {
        own: inputs.peer.ids,
        peer: PeerIds {
            ids: inputs.own,
            bits: inputs.own_bits_sent,
            flags: flag(inputs.own_discard_my_data, PeerIds::FLAG_DISCARD)
                | flag(inputs.compare.own_crashed, PeerIds::FLAG_CRASHED_PRIMARY),
        },
        compare: inputs.compare.mirrored(),
        own_disk: inputs.peer_disk,
        own_real_disk: inputs.peer_disk,
        peer_disk: inputs.own_disk,
        own_bits_sent: inputs.peer.bits,
        own_bits: inputs.peer.bits,
        after_sb_0pri: swap(inputs.after_sb_0pri),
        own_discard_my_data: inputs.peer.discard_my_data(),
        ..*inputs
    }
}

fn last_line(decision: &Decision) -> &str {
    decision.log.last().map_or("", String::as_str)
}

#[test]
fn a_quiet_reconnect_logs_what_people_know() {
    let mut inputs = inputs(gi(N | 1, C, H, G), gi(C, 0, H, G));
    inputs.own_bits_sent = 3;
    inputs.peer.flags = 0xa;
    let decision = decide(&inputs);
    assert_eq!(decision.outcome, SOURCE);
    assert_eq!(
        decision.log,
        [
            "drbd_sync_handshake:",
            "self 4E4E00000000004F:C0C00000000000C0:4848000000000048:4747000000000046 bits:3 flags:0",
            "peer C0C00000000000C0:0000000000000000:4848000000000048:4747000000000046 bits:0 flags:A",
            "uuid_compare()=1 by rule 70",
        ]
    );
    assert!(decision.handlers.is_empty());
}

#[test]
fn a_correction_is_logged_with_a_dump_and_returned() {
    let decision = decide(&inputs(gi(C, S, B, G), gi(C, 0, S, B)));
    assert_eq!(decision.outcome, SOURCE);
    assert_eq!(decision.own_correction, None); // it would outrun the blocks that are still to be synced
    assert_eq!(
        decision.log[3..],
        [
            "was SyncSource, missed the resync finished event".to_string(),
            "uuid_compare()=1 by rule 34".to_string(),
        ]
    );
    let decision = decide(&inputs(gi(C, B_PLUS, B, H), gi(B, 0, H, G)));
    assert_eq!(decision.own_correction, Some(gi(C, B, H, H)));
    assert_eq!(
        decision.log[4..],
        [
            format!("self {} bits:0 flags:0", gi(C, B, H, H)),
            "uuid_compare()=1 by rule 71".to_string(),
        ]
    );
    let decision = decide(&inputs(gi(C, 0, S, B), gi(C, S, B, G)));
    assert_eq!(decision.peer_correction, Some(gi(C, 0, S, B)));
    assert_eq!(
        decision.log[4],
        format!("peer {} bits:0 flags:0", gi(C, 0, S, B))
    );
}

#[test]
fn every_verdict_becomes_its_outcome() {
    for (own, peer, outcome) in [
        (gi(C, 0, H, G), gi(C, 0, H, G), CONNECTED),
        (gi(N, C, H, G), gi(C, 0, H, G), SOURCE),
        (gi(C, 0, H, G), gi(N, C, H, G), TARGET),
        (gi(C, 0, H, B), gi(B, 0, X, Y), SOURCE_FULL),
        (gi(B, 0, X, Y), gi(C, 0, H, B), TARGET_FULL),
        (
            gi(N, 0, H, G),
            gi(M, 0, X, Y),
            Outcome::Fail(FailReason::Unrelated),
        ),
        (
            gi(N, C, H, G),
            gi(M, C, H, G),
            Outcome::Fail(FailReason::SplitBrain),
        ),
        (
            gi(N, X, H, G),
            gi(M, Y, H, G),
            Outcome::Fail(FailReason::SplitBrain),
        ),
    ] {
        assert_eq!(
            decide(&inputs(own, peer)).outcome,
            outcome,
            "{own} against {peer}"
        );
    }
}

#[test]
fn step_2_refuses_strangers() {
    let decision = decide(&inputs(gi(N, 0, H, G), gi(M, 0, X, Y)));
    assert_eq!(
        decision.log[3..],
        [
            "uuid_compare()=-1000 by rule 100",
            "Unrelated data, aborting!"
        ]
    );
    let mut old = inputs(gi(C, S, B, G), gi(C, 0, H, G));
    old.compare.version = 90;
    let decision = decide(&old);
    assert_eq!(
        decision.outcome,
        Outcome::Fail(FailReason::NeedsProtocol {
            version: 91,
            features: 0
        })
    );
    assert_eq!(
        last_line(&decision),
        "To resolve this both sides have to support at least protocol 91"
    );
    let mut crashed = inputs(gi(C, 0, H, G), gi(C, 0, H, G));
    crashed.compare = CompareInputs {
        own_crashed: true,
        peer_primary: true,
        wsame: false,
        ..QUIET
    };
    assert_eq!(
        last_line(&decide(&crashed)),
        "To resolve this both sides have to support at least protocol 101 and feature flags 0x4"
    );
}

#[test]
fn step_3_disk_states_override_names() {
    use DiskState::{Attaching, Consistent, Diskless, Inconsistent, Outdated, UpToDate};
    let equal = [gi(C, 0, H, G); 2];
    let behind = [gi(C, 0, H, G), gi(N, C, H, G)];
    let fresh = [gi(4, 0, 0, 0), gi(C, 0, H, G)];
    let forked = [gi(N, C, H, G), gi(M, C, H, G)];
    let lost = [gi(N, X, H, G), gi(M, Y, H, G)];
    let nameless = [gi(0, 0, 0, 0); 2];
    for (ids, own, peer, outcome) in [
        (equal, UpToDate, Inconsistent, SOURCE),
        (equal, Inconsistent, UpToDate, TARGET),
        (equal, Inconsistent, Outdated, TARGET),
        (equal, Consistent, Inconsistent, SOURCE),
        (equal, Inconsistent, Inconsistent, CONNECTED),
        (equal, Inconsistent, Diskless, CONNECTED),
        (equal, Inconsistent, Attaching, CONNECTED),
        (behind, UpToDate, Inconsistent, SOURCE),
        (behind, Inconsistent, UpToDate, TARGET),
        (fresh, UpToDate, Inconsistent, SOURCE_FULL),
        (fresh, Inconsistent, UpToDate, TARGET_FULL),
        (forked, UpToDate, Inconsistent, SOURCE),
        (forked, Inconsistent, UpToDate, TARGET),
        (lost, UpToDate, Inconsistent, SOURCE_FULL),
        (lost, Inconsistent, UpToDate, TARGET_FULL),
        (nameless, UpToDate, Inconsistent, SOURCE_FULL),
        (nameless, Inconsistent, UpToDate, TARGET_FULL),
    ] {
        let mut inputs = inputs(ids[0], ids[1]);
        (inputs.own_disk, inputs.own_real_disk, inputs.peer_disk) = (own, own, peer);
        let decision = decide(&inputs);
        assert_eq!(decision.outcome, outcome, "{} {own} {peer}", ids[0]);
        assert!(
            decision.handlers.is_empty(),
            "no split brain if the disks decide"
        );
        let side = match outcome {
            Outcome::Source { .. } => "source",
            Outcome::Target { .. } => "target",
            _ => continue,
        };
        let line = format!("Becoming sync {side} due to disk states.");
        assert_eq!(decision.log[4], line);
    }
    let mut stranger = inputs(gi(N, 0, H, G), gi(M, 0, X, Y));
    stranger.peer_disk = Inconsistent;
    assert_eq!(
        decide(&stranger).outcome,
        Outcome::Fail(FailReason::Unrelated)
    );
}

#[test]
fn two_nodes_never_wait_for_each_other_as_targets() {
    for (own, peer) in [
        (gi(0, 0, 0, 0), gi(0, 0, 0, 0)),
        (gi(C, B, 0, 0), gi(B, C, 0, 0)),
        (gi(C, H, B, 0), gi(B, C, 0, 0)),
    ] {
        for (own, peer) in [(own, peer), (peer, own)] {
            let decision = decide(&inputs(own, peer));
            assert_eq!(decision.outcome, Outcome::Fail(FailReason::Contradiction));
        }
    }
}

#[test]
fn steps_4_to_7_run_their_handlers_and_say_who_won() {
    let forked = inputs(gi(N, C, H, G), gi(M, C, H, G));
    let decision = decide(&forked);
    assert_eq!(decision.outcome, Outcome::Fail(FailReason::SplitBrain));
    assert_eq!(
        decision.handlers,
        [Handler::InitialSplitBrain, Handler::SplitBrain]
    );
    assert_eq!(
        last_line(&decision),
        "Split-Brain detected but unresolved, dropping connection!"
    );

    let solved = DecisionInputs {
        after_sb_0pri: P::DiscardRemote,
        ..forked
    };
    let decision = decide(&solved);
    assert_eq!(
        (decision.outcome, &decision.handlers[..]),
        (SOURCE, &[Handler::InitialSplitBrain][..])
    );
    assert_eq!(
        last_line(&decision),
        "Split-Brain detected, 0 primaries, automatically solved. Sync from this node"
    );
    let decision = decide(&DecisionInputs {
        after_sb_0pri: P::DiscardLocal,
        ..forked
    });
    assert_eq!(decision.outcome, TARGET);
    assert_eq!(
        last_line(&decision),
        "Split-Brain detected, 0 primaries, automatically solved. Sync from peer node"
    );

    // Without a common ancestor a policy is asked only with always-asbp, and everything is synced.
    let lost = DecisionInputs {
        own: gi(N, X, H, G),
        peer: PeerIds {
            ids: gi(M, Y, H, G),
            bits: 0,
            flags: 0,
        },
        ..solved
    };
    assert_eq!(decide(&lost).outcome, Outcome::Fail(FailReason::SplitBrain));
    let decision = decide(&DecisionInputs {
        always_asbp: true,
        ..lost
    });
    assert_eq!(decision.outcome, SOURCE_FULL);
    assert_eq!(
        decision.log[4..],
        [
            "Split-Brain detected, 0 primaries, automatically solved. Sync from this node",
            "Doing a full sync, since UUIDs where ambiguous.",
            "Writing the whole bitmap, full sync required after drbd_sync_handshake.",
        ]
    );
}

#[test]
fn step_6_is_the_administrators_choice() {
    let forked = inputs(gi(N, C, H, G), gi(M, C, H, G));
    let lost = inputs(gi(N, X, H, G), gi(M, Y, H, G));
    let unsolved = Outcome::Fail(FailReason::SplitBrain);
    for (base, own, peer, outcome) in [
        (forked, true, false, TARGET),
        (forked, false, true, SOURCE),
        (forked, true, true, unsolved),
        (forked, false, false, unsolved),
        // The bitmaps do not cover the difference: everything is synced.
        (lost, true, false, TARGET_FULL),
        (lost, false, true, SOURCE_FULL),
        (lost, true, true, unsolved),
    ] {
        let mut inputs = DecisionInputs {
            own_discard_my_data: own,
            ..base
        };
        inputs.peer.flags = u64::from(peer);
        let decision = decide(&inputs);
        assert_eq!(decision.outcome, outcome, "{own} {peer}");
        assert_eq!(decision.handlers[0], Handler::InitialSplitBrain);
    }
    let mut manual = forked;
    manual.peer.flags = PeerIds::FLAG_DISCARD;
    assert_eq!(
        last_line(&decide(&manual)),
        "Split-Brain detected, manually solved. Sync from this node"
    );
    let manual = DecisionInputs {
        own_discard_my_data: true,
        ..forked
    };
    assert_eq!(
        last_line(&decide(&manual)),
        "Split-Brain detected, manually solved. Sync from peer node"
    );
    // It does nothing when the names decide, and it loses against a policy.
    let named = DecisionInputs {
        own_discard_my_data: true,
        ..inputs(gi(N, C, H, G), gi(C, 0, H, G))
    };
    assert_eq!(decide(&named).outcome, SOURCE);
    let policy = DecisionInputs {
        after_sb_0pri: P::DiscardRemote,
        ..manual
    };
    assert_eq!(decide(&policy).outcome, SOURCE);
}

#[test]
fn step_8_an_inconsistent_disk_is_no_source() {
    for disk in own_disks() {
        let mut inputs = inputs(gi(N, C, H, G), gi(C, 0, H, G));
        (inputs.own_disk, inputs.peer_disk) = (disk, disk);
        let decision = decide(&inputs);
        if disk <= DiskState::Inconsistent {
            assert_eq!(
                decision.outcome,
                Outcome::Fail(FailReason::InconsistentSource),
                "{disk}"
            );
            assert_eq!(
                last_line(&decision),
                "I shall become SyncSource, but I am inconsistent!"
            );
        } else {
            assert_eq!(decision.outcome, SOURCE, "{disk}");
        }
    }
}

#[test]
fn step_9_a_primary_with_good_data_is_no_target() {
    let mut base = inputs(gi(C, 0, H, G), gi(N, C, H, G));
    base.compare.own_primary = true;
    let refused = Outcome::Fail(FailReason::PrimaryTarget);
    for (policy, outcome, handlers, line) in [
        (
            P::Disconnect,
            refused,
            &[][..],
            "I shall become SyncTarget, but I am primary!",
        ),
        (
            P::CallPriLost,
            refused,
            &[Handler::PriLost][..],
            "I shall become SyncTarget, but I am primary!",
        ),
        (
            P::Violently,
            TARGET,
            &[][..],
            "Becoming SyncTarget, violating the stable-dataassumption",
        ),
        (
            P::Consensus,
            refused,
            &[][..],
            "I shall become SyncTarget, but I am primary!",
        ),
    ] {
        let decision = decide(&DecisionInputs {
            rr_conflict: policy,
            ..base
        });
        assert_eq!(
            (decision.outcome, &decision.handlers[..]),
            (outcome, handlers),
            "{policy:?}"
        );
        assert_eq!(last_line(&decision), line, "{policy:?}");
    }
    for real in own_disks() {
        let decision = decide(&DecisionInputs {
            own_real_disk: real,
            ..base
        });
        let expected = if real >= DiskState::Consistent {
            refused
        } else {
            TARGET
        };
        assert_eq!(decision.outcome, expected, "{real}");
    }
}

#[test]
fn step_10_a_dry_run_only_tells() {
    for (own, peer, line) in [
        (
            gi(C, 0, H, G),
            gi(C, 0, H, G),
            "dry-run connect: No resync, would become Connected immediately.",
        ),
        (
            gi(N, C, H, G),
            gi(C, 0, H, G),
            "dry-run connect: Would become SyncSource, doing a bit-map based resync.",
        ),
        (
            gi(4, 0, 0, 0),
            gi(C, 0, H, G),
            "dry-run connect: Would become SyncTarget, doing a full resync.",
        ),
    ] {
        for (own_tentative, peer_dry_run) in [(true, false), (false, true), (true, true)] {
            let inputs = DecisionInputs {
                own_tentative,
                peer_dry_run,
                ..inputs(own, peer)
            };
            let decision = decide(&inputs);
            assert_eq!(decision.outcome, Outcome::Fail(FailReason::DryRun));
            assert_eq!(last_line(&decision), line);
        }
    }
}

#[test]
fn steps_11_and_12_tell_of_full_syncs_and_of_leftover_bits() {
    let decision = decide(&inputs(gi(C, 0, H, G), gi(4, 0, 0, 0)));
    assert_eq!(decision.outcome, SOURCE_FULL);
    assert_eq!(
        last_line(&decision),
        "Writing the whole bitmap, full sync required after drbd_sync_handshake."
    );
    let equal = inputs(gi(C, 0, H, G), gi(C, 0, H, G));
    let decision = decide(&DecisionInputs {
        own_bits: 17,
        ..equal
    });
    assert_eq!(
        (decision.outcome, last_line(&decision)),
        (CONNECTED, "No resync, but 17 bits in bitmap!")
    );
    assert_eq!(last_line(&decide(&equal)), "uuid_compare()=0 by rule 40");
}

/// V8 and V9 for whole decisions: over names, disks, roles and policies.
#[test]
fn decisions_are_mirror_images_and_spare_good_primaries() {
    let pairs = [
        [gi(C, 0, H, G), gi(C, 0, H, G)],
        [gi(N, C, H, G), gi(C, 0, H, G)],
        [gi(C, 0, H, G), gi(N, C, H, G)],
        [gi(4, 0, 0, 0), gi(C, 0, H, G)],
        [gi(N, C | 1, H, G), gi(M, C, H, G)],
        [gi(N, X, H, G), gi(M, Y, H, G)],
        [gi(C, S, B, G), gi(C, 0, S, B)],
        [gi(C, B, 0, 0), gi(B, C, 0, 0)],
    ];
    let disks = [
        DiskState::Inconsistent,
        DiskState::Outdated,
        DiskState::Consistent,
        DiskState::UpToDate,
    ];
    for [own, peer] in pairs {
        for own_disk in disks {
            for peer_disk in disks {
                for bits in 0..256_u32 {
                    let bit = |nr: u32| bits & (1 << nr) != 0;
                    let mut here = inputs(own, peer);
                    (here.own_disk, here.own_real_disk) = (own_disk, own_disk);
                    here.peer_disk = peer_disk;
                    here.compare.own_primary = bit(0);
                    here.compare.peer_primary = bit(1);
                    here.compare.own_crashed = bit(2);
                    here.compare.resolve_conflicts = bit(3);
                    here.always_asbp = bit(4);
                    here.rr_conflict = if bit(5) { P::Violently } else { P::Disconnect };
                    if bit(6) {
                        here.after_sb_0pri = P::DiscardYoungerPrimary;
                        here.after_sb_1pri = P::Consensus;
                        here.after_sb_2pri = P::Violently;
                    }
                    here.own_discard_my_data = bit(7);
                    here.own_bits_sent = 2;
                    here.peer.bits = 3;
                    let there = mirrored(&here);
                    let (a, b) = (decide(&here).outcome, decide(&there).outcome);
                    let fits = match (a, b) {
                        (Outcome::Source { full: x }, Outcome::Target { full: y })
                        | (Outcome::Target { full: x }, Outcome::Source { full: y }) => x == y,
                        (Outcome::Connected, Outcome::Connected) => true,
                        // A node may refuse on its own what the other would do.
                        (Outcome::Fail(_), _) | (_, Outcome::Fail(_)) => true,
                        _ => false,
                    };
                    assert!(fits, "{a:?} and {b:?} from {here:?}");
                    let spared = here.compare.own_primary
                        && own_disk >= DiskState::Consistent
                        && here.rr_conflict != P::Violently;
                    let overwritten = matches!(a, Outcome::Target { .. });
                    assert!(!(spared && overwritten), "V9: {here:?}");
                    let bad_source =
                        matches!(a, Outcome::Source { .. }) && own_disk <= DiskState::Inconsistent;
                    assert!(!bad_source, "{here:?}");
                }
            }
        }
    }
}

#[test]
fn a_losing_primary_that_can_demote_becomes_target() {
    let mut base = inputs(gi(N, C | 1, H, G), gi(M, C, H, G));
    base.compare.own_primary = true;
    base.after_sb_0pri = P::DiscardOlderPrimary;
    base.after_sb_1pri = P::CallPriLost;
    let decision = decide(&base);
    assert_eq!(decision.outcome, Outcome::Fail(FailReason::SplitBrain));
    assert_eq!(
        decision.handlers,
        [
            Handler::InitialSplitBrain,
            Handler::PriLostAfterSb,
            Handler::SplitBrain
        ]
    );
    assert!(!decision.demote);
    let decision = decide(&DecisionInputs {
        can_demote: true,
        ..base
    });
    assert_eq!((decision.outcome, decision.demote), (TARGET, true));
    assert_eq!(decision.log[4], "Successfully gave up primary role.");
    assert_eq!(
        decision.log[5],
        "Split-Brain detected, 1 primaries, automatically solved. Sync from peer node"
    );
}

#[test]
fn what_a_failure_does_is_told_by_section_5_7() {
    use DiskState::{Inconsistent, Negotiating, UpToDate};
    for (own, peer, dry_run, effect) in [
        (Negotiating, UpToDate, false, FailEffect::DetachOwn),
        (Negotiating, Negotiating, true, FailEffect::DetachOwn),
        (UpToDate, Negotiating, false, FailEffect::PeerStaysDiskless),
        (UpToDate, Negotiating, true, FailEffect::PeerStaysDiskless),
        (UpToDate, UpToDate, true, FailEffect::Retry),
        (Inconsistent, UpToDate, false, FailEffect::StandAlone),
    ] {
        assert_eq!(
            fail_effect(own, peer, dry_run),
            effect,
            "{own} {peer} {dry_run}"
        );
    }
}

#[test]
fn a_negotiating_peer_disk_counts_as_its_flag_says() {
    let peer = |flags| PeerIds {
        flags,
        ..PeerIds::default()
    };
    for packet in DiskState::ALL.iter().copied() {
        for flags in [0, 4, 11, 15] {
            let expected = match (packet, flags & 4) {
                (DiskState::Negotiating, 4) => DiskState::Inconsistent,
                (DiskState::Negotiating, _) => DiskState::Consistent,
                (other, _) => other,
            };
            assert_eq!(effective_peer_disk(packet, &peer(flags)), expected);
        }
    }
}

#[test]
fn handlers_print_their_events() {
    for (handler, event) in [
        (Handler::InitialSplitBrain, "initial-split-brain"),
        (Handler::SplitBrain, "split-brain"),
        (Handler::PriLost, "pri-lost"),
        (Handler::PriLostAfterSb, "pri-lost-after-sb"),
    ] {
        assert_eq!(handler.to_string(), event);
    }
}

/// L37. The disk of a Primary that has worked without it comes back, and is no source of what its users have written here.
#[test]
fn a_disk_attached_under_a_diskless_primary_does_not_overwrite_what_its_users_wrote_here() {
    let mut attached = inputs(gi(G, 0, 0, 0), gi(N, G, 0, 0));
    assert_eq!(decide(&attached).outcome, TARGET);
    attached.peer_attaches = true;
    assert_eq!(decide(&attached).outcome, TARGET, "nobody used it");
    attached.compare.peer_primary = true;
    assert_eq!(
        decide(&attached).outcome,
        Outcome::Fail(FailReason::UsersOnOurDisk)
    );
    // Where our own disk is no good there was nothing to overwrite.
    attached.own_disk = DiskState::Outdated;
    attached.own_real_disk = DiskState::Outdated;
    assert_eq!(decide(&attached).outcome, TARGET);
}
