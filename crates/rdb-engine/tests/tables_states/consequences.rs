//! What follows from a change of state: sections 3 and 4.3, and what is ours (`rules/consequences.rs`).

use rdb_engine::rules::consequences::{Act, CONSEQUENCES, Facts, Turn, lost_peer_data};
use rdb_engine::state::{Change, DiskState, VolumeState};

use crate::universe::record;

/// What follows, in order.
fn acts_with(old: VolumeState, new: VolumeState, facts: Facts) -> Vec<Act> {
    let turn = Turn { old, new, facts };
    let rows = CONSEQUENCES.iter().filter(|row| (row.when)(&turn));
    rows.map(|row| row.act).collect()
}

/// What follows where the disks were in sync and nothing was under way.
pub(crate) fn acts(old: VolumeState, new: VolumeState) -> Vec<Act> {
    let now = new.conn;
    acts_with(
        old,
        new,
        Facts {
            now,
            ..Facts::PLAIN
        },
    )
}

/// The facts that differ from [`Facts::PLAIN`], by their names.
fn facts(new: VolumeState, words: &str) -> Facts {
    let now = new.conn;
    let mut facts = Facts {
        now,
        ..Facts::PLAIN
    };
    for word in words.split_whitespace() {
        match word {
            "no-disk" => facts.has_disk = false,
            "own-name" => facts.may_share_name = false,
            "marked" => facts.marked = true,
            "unmark" => facts.unmark_due = true,
            "unknown-ids" => facts.knows_peers_ids = false,
            "other-name" => facts.one_name = false,
            "moved-on" => facts.moved_on = true,
            "unrecorded" => facts.loss_unrecorded = true,
            "announces" => facts.announces_end = true,
            "grew" => facts.grew = true,
            "silent" => facts.verify_ends_with_state = false,
            "later" => facts.now = rdb_engine::state::ConnState::NetworkFailure,
            other => panic!("{other}?"),
        }
    }
    facts
}

/// From, to, facts, and exactly what follows; `Retry`, which always does, and `LossSettled` left out.
#[rustfmt::skip]
const CASES: &[[&str; 4]] = &[
    // A2, A24, A26, A28.
    ["Connected S/P I/U", "Connected S/P U/U", "", "ForgetCrash"],
    ["Connected S/S N/U", "Connected S/S U/U", "grew", "ForgetCrash NegotiationOver ResyncGrowth"],
    ["Connected S/S N/D", "Connected S/S O/D", "", "NegotiationOver SendState"],
    ["SyncTarget S/P I/U", "Connected S/P U/U", "", "ForgetCrash WriteBitmap SendState"],
    ["SyncTarget S/P I/U", "Connected S/P U/U", "announces", "ForgetCrash AnnounceEnd"],
    ["SyncSource P/S U/I", "Connected P/S U/U", "", "ForgetCrash WriteBitmap"],
    // A27.
    ["Connected S/S U/U", "VerifyS S/S U/U", "", "BeginVerify"],
    ["Connected S/S U/U", "VerifyT S/S U/U", "", ""],
    ["VerifyS S/S U/U", "VerifyS P/S U/U", "", ""],
    ["VerifyS S/S U/U", "Connected S/S U/U", "", "EndVerify WriteBitmap SendState"],
    ["VerifyS S/S U/U", "Connected S/S U/U", "silent", "EndVerify WriteBitmap"],
    ["VerifyS S/S U/U", "NetworkFailure S/? U/-", "", "EndVerify"],
    ["VerifyT S/S U/U", "Connected S/S U/U", "", "EndVerify WriteBitmap"],
    ["VerifyT S/S U/U", "NetworkFailure S/? U/-", "", "EndVerify"],
    ["SyncSource P/S U/I", "Ahead P/S U/I", "", "SourceLost WriteBitmap"],
    // Which unmarked blocks are good.
    ["Connected S/P O/U", "WFBitMapT S/P O/U", "", "DistrustUnmarked"],
    ["WFSyncUUID S/P I/U", "SyncTarget S/P I/U", "", "TrustUnmarked SyncUuidOver"],
    ["SyncTarget S/P I/U", "Connected S/P I/U", "", "DistrustUnmarked WriteBitmap SendState"],
    ["SyncTarget S/S I/U", "Connected S/S I/U", "", "WriteBitmap SendState"],
    // The mark of a Primary.
    ["Connected P/S U/U", "Connected S/S U/U", "unmark", "Unmark"],
    ["WFConnection P/? U/-", "WFConnection S/? U/-", "", ""],
    // A3.
    ["Connected P/S D/U", "NetworkFailure P/? D/-", "", "SayNoData"],
    ["StandAlone P/? U/-", "StandAlone P/? I/-", "", "SayNoData"],
    // A7.
    ["WFBitMapS P/S U/C", "SyncSource P/S U/I", "", "MakeSyncUuid"],
    ["Ahead P/S U/C", "SyncSource P/S U/I", "", "MakeSyncUuid"],
    ["WFBitMapS P/S U/C", "PausedSyncS P/S U/I", "", "MakeSyncUuid"],
    ["PausedSyncS P/S U/I", "SyncSource P/S U/I", "", ""],
    // A8.
    ["Connected S/S U/D", "Connected S/S U/N", "", "SendUuids SendState"],
    ["Connected S/S U/D", "Connected S/S U/A", "", "SendUuids SendState"],
    ["Connected S/S U/A", "Connected S/S U/N", "", "SendUuids SendState"],
    ["Connected S/S U/A", "Connected S/S U/F", "", ""],
    // A9.
    ["Connected P/S U/U", "WFBitMapS P/S U/C", "", "SendBitmap"],
    ["Connected P/S U/U", "WFBitMapS P/S U/C", "later", ""],
    // A10, A11.
    ["Connected P/S U/U", "NetworkFailure P/? U/-", "", "NewGeneration(PeerLost)"],
    ["Connected P/S U/U", "NetworkFailure P/? U/-", "own-name", ""],
    ["Connected S/P U/U", "Connected S/P U/F", "", "NewGeneration(PeerLost)"],
    ["WFConnection P/? U/-", "WFConnection P/? U/O", "", "NewGeneration(PeerLost)"],
    ["Connected S/P U/U", "NetworkFailure S/? U/-", "", ""],
    ["Connected S/S U/U", "Connected S/S U/F", "", ""],
    ["Connected S/S U/D", "Connected S/P U/D", "", "NewGeneration(PeerLost)"],
    ["Connected S/S U/D", "Connected S/P U/D", "own-name", ""],
    ["Connected S/S I/D", "Connected S/P I/D", "", "DistrustUnmarked"],
    // L40: a bad disk that is lost.
    ["Connected P/S U/I", "NetworkFailure P/? U/I", "", "NewGeneration(BadPeerLost)"],
    ["Connected P/S U/I", "NetworkFailure P/? U/I", "own-name", ""],
    ["Connected S/S U/I", "NetworkFailure S/? U/I", "", ""],
    ["WFConnection P/? U/I", "WFReportParams P/? U/I", "", ""],
    // A disk that comes to a lonely Primary.
    ["WFConnection P/? A/-", "WFConnection P/? U/-", "", "NewGeneration(AttachedAlone)"],
    ["WFConnection P/? A/-", "WFConnection P/? U/-", "own-name", ""],
    ["WFConnection S/? A/-", "WFConnection S/? U/-", "", ""],
    ["Connected P/S N/D", "Connected P/S U/D", "", "NewGeneration(AttachedAlone) NegotiationOver"],
    ["Connected P/S N/I", "Connected P/S U/I", "", "NegotiationOver"],
    // L53: a disk that a Primary attached alone is raised by the handshake.
    ["WFReportParams P/? C/-", "WFBitMapS P/S U/C", "", "SendBitmap NewGeneration(AttachedAlone) SendState"],
    ["WFReportParams P/? C/-", "WFBitMapS P/S U/C", "own-name", "SendBitmap SendState"],
    ["WFReportParams P/? O/-", "WFBitMapS P/S U/C", "", "SendBitmap NewGeneration(AttachedAlone) SendState"],
    ["WFReportParams P/? C/-", "Connected P/S U/U", "", "ForgetCrash SendState"],
    // The end of a resync that its target has not told of.
    ["SyncSource P/S U/I", "NetworkFailure P/? U/-", "own-name", "SourceLost"],
    ["SyncSource P/S U/I", "NetworkFailure P/? U/-", "", "NewGeneration(PeerLost) SourceLost"],
    // A12.
    ["Connected S/P U/D", "Connected S/S U/D", "", "WriteBitmap"],
    // A14.
    ["Connected S/P A/U", "Connected S/P N/U", "", "SendSizes SendUuids SendState LimitNegotiation"],
    ["WFConnection S/? A/-", "WFConnection S/? I/-", "", ""],
    // A17, A23.
    ["WFReportParams S/? U/-", "WFBitMapT S/P O/U", "", "DistrustUnmarked SendState"],
    ["Connected P/S U/U", "Connected P/S I/U", "", "SendState RecordInconsistent"],
    ["Connected S/P U/U", "Connected S/P I/U", "", "DistrustUnmarked SendState"],
    ["WFSyncUUID P/S U/U", "SyncTarget P/S I/U", "", "TrustUnmarked SyncUuidOver"],
    // A full sync that comes to nothing.
    ["WFSyncUUID S/S U/U", "Connected S/S U/D", "", "SyncUuidOver SendState"],
    // A19.
    ["Connected P/S U/U", "StartingSyncS P/S U/C", "", "FullSync"],
    ["Connected P/S U/U", "StartingSyncT P/S O/U", "", "FullSync"],
    // A20.
    ["Connected P/S U/U", "Connected P/S F/U", "", "SendState AwaitRecordOfLoss DiskFailed"],
    ["Connected P/S U/U", "Connected P/S F/U", "moved-on", "SendState ExposeMovedOn DiskFailed"],
    ["Connected S/P U/U", "Connected S/P F/U", "", "SendState DiskFailed"],
    ["Connected S/P U/U", "Connected S/P F/U", "moved-on", "SendState ExposeMovedOn DiskFailed"],
    ["Connected P/S I/U", "Connected P/S F/U", "unknown-ids", "SendState DiskFailed"],
    ["Connected P/S I/U", "Connected P/S F/U", "unknown-ids unrecorded", "SendState AwaitRecordOfLoss DiskFailed"],
    ["SyncTarget P/S I/U", "SyncTarget P/S F/U", "", "TrustUnmarked ExposePeers SendState DiskFailed"],
    ["StandAlone P/? U/-", "StandAlone P/? F/-", "", "SayNoData RememberOpenSource DiskFailed"],
    ["StandAlone S/? U/-", "StandAlone S/? F/-", "", "DiskFailed"],
    ["WFBitMapS P/S U/C", "Connected P/S F/C", "marked", "SayNoData RememberOpenSource SendState Reconnect DiskFailed"],
    ["WFBitMapS P/S U/C", "Connected P/S F/C", "marked other-name", "SayNoData SendState Reconnect DiskFailed"],
    ["WFBitMapS P/S U/C", "Connected P/S F/C", "", "SayNoData SendState Reconnect DiskFailed"],
    ["WFBitMapS S/S U/C", "Connected S/S F/C", "marked", "SendState DiskFailed"],
    ["SyncSource P/S U/I", "Connected P/S F/I", "marked", "SayNoData RememberOpenSource SendState DiskFailed"],
    ["SyncSource P/S U/I", "Connected P/S F/I", "marked other-name", "SayNoData SendState DiskFailed"],
    ["Connected P/S U/D", "Connected P/S F/D", "", "SayNoData RememberOpenSource SendState DiskFailed"],
    ["Connected S/S U/D", "Connected S/S F/D", "", "SendState DiskFailed"],
    ["Connected P/S D/I", "Connected P/S D/U", "no-disk", "AwaitRecordOfLoss"],
    ["Connected P/S N/I", "WFBitMapT P/S I/U", "", "DistrustUnmarked AwaitRecordOfLoss NegotiationOver"],
    ["Connected S/P D/I", "Connected S/P D/U", "no-disk", ""],
    // A22.
    ["Connected P/S F/U", "Connected P/S D/U", "no-disk", "SendState CloseDisk"],
    ["WFReportParams P/? N/-", "NetworkFailure P/? D/-", "", "NegotiationOver GiveDiskUp"],
    ["SyncTarget S/P I/U", "Connected S/P D/U", "no-disk", "SendState CloseDisk SendState"],
];

#[test]
fn exactly_what_the_table_says_follows_from_a_change() {
    let mut wrong = Vec::new();
    for [from, to, words, expected] in CASES {
        let (old, new) = (record(from), record(to));
        let acts = acts_with(old, new, facts(new, words));
        assert_eq!(acts.last(), Some(&Act::Retry));
        let peerless = !new.is_connected() || new.pdsk != DiskState::UpToDate;
        assert_eq!(acts.contains(&Act::LossSettled), peerless, "{from} to {to}");
        let rest = acts
            .iter()
            .filter(|act| !matches!(act, Act::Retry | Act::LossSettled));
        let rest: Vec<String> = rest.map(|act| format!("{act:?}")).collect();
        if rest.join(" ") != *expected {
            wrong.push(format!("{from} to {to} {words}: {}", rest.join(" ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_of_the_table_is_met_by_a_case() {
    for (nr, row) in CONSEQUENCES.iter().enumerate() {
        let met = CASES.iter().any(|[from, to, words, _]| {
            let (old, new) = (record(from), record(to));
            let facts = facts(new, words);
            (row.when)(&Turn { old, new, facts })
        });
        assert!(met, "row {nr}, {}: {:?}", row.words, row.act);
    }
}

#[test]
fn a_pause_of_ours_is_told_while_connected() {
    let base = record("Connected S/S I/I");
    let with = |change: Change| base.apply(change);
    let aftr = Change::default().and_aftr_isp(true);
    let peer = Change::default().and_peer_isp(true);
    let user = Change::default().and_user_isp(true);
    for (old, new, told) in [
        (base, with(aftr), true),
        (base, with(user), true),
        (base, with(peer), false),
        (with(peer), with(peer).apply(user), true),
        (with(user), base, true),
        (with(peer), base, false),
    ] {
        assert_eq!(acts(old, new).contains(&Act::SendState), told);
    }
    let alone = record("WFConnection S/? I/-");
    assert!(!acts(alone, alone.apply(user)).contains(&Act::SendState));
}

/// Section 4.3, every pair of peer disk states.
#[test]
fn lost_peer_data_is_what_section_4_3_lists() {
    for &old in DiskState::ALL {
        for &new in DiskState::ALL {
            let listed = match old.to_string().as_str() {
                "Inconsistent" | "Consistent" | "UpToDate" => [
                    "Diskless",
                    "Attaching",
                    "Failed",
                    "Negotiating",
                    "DUnknown",
                    "Outdated",
                ]
                .contains(&new.as_str()),
                "DUnknown" => ["Diskless", "Failed", "Outdated"].contains(&new.as_str()),
                _ => false,
            };
            assert_eq!(lost_peer_data(old, new), listed, "{old} to {new}");
        }
    }
}
