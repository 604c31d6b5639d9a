//! Sections 2.10, 2.11, 3, 4.3 (lost peer data) and 8.1.

use rdb_engine::state::{
    AfterActions as A, Change, ConnState, DiskState, ImmediateEffects as I, Role, VolumeState,
    after, immediate, lost_peer_data, md_flags, should_replicate, should_send_out_of_sync,
};

use crate::universe::{all_records, record};

/// The rows of section 3 that look at nothing but the five named fields: exactly these actions follow.
#[test]
fn every_row_of_the_after_actions_has_its_trigger() {
    for (rows, from, to, actions) in [
        (
            "A2",
            "Connected S/P I/U",
            "Connected S/P U/U",
            A::BOTH_UP_TO_DATE | A::BOTH_ATTACHED,
        ),
        (
            "A2 A25 A26 A28",
            "SyncTarget S/P I/U",
            "Connected S/P U/U",
            A::BOTH_UP_TO_DATE
                | A::BOTH_ATTACHED
                | A::RESUME_OTHERS
                | A::SYNC_ENDED_TARGET
                | A::WRITE_BITMAP,
        ),
        (
            "A2 A25 A28",
            "SyncSource P/S U/I",
            "Connected P/S U/U",
            A::BOTH_UP_TO_DATE | A::BOTH_ATTACHED | A::RESUME_OTHERS | A::WRITE_BITMAP,
        ),
        (
            "A3",
            "Connected P/S D/U",
            "NetworkFailure P/? D/-",
            A::NO_DATA,
        ),
        (
            "A7",
            "WFBitMapS P/S U/C",
            "SyncSource P/S U/I",
            A::BECAME_SYNC_SOURCE,
        ),
        (
            "A7",
            "Ahead P/S U/C",
            "SyncSource P/S U/I",
            A::BECAME_SYNC_SOURCE,
        ),
        (
            "A7",
            "WFBitMapS P/S U/C",
            "PausedSyncS P/S U/I",
            A::BECAME_SYNC_SOURCE,
        ),
        (
            "not A7",
            "PausedSyncS P/S U/I",
            "SyncSource P/S U/I",
            A::empty(),
        ),
        (
            "A8",
            "Connected S/S U/D",
            "Connected S/S U/N",
            A::PEER_ATTACHED,
        ),
        (
            "A8",
            "Connected S/S U/D",
            "Connected S/S U/A",
            A::PEER_ATTACHED,
        ),
        (
            "A9",
            "Connected P/S U/U",
            "WFBitMapS P/S U/C",
            A::TO_WF_BITMAP_S,
        ),
        (
            "A10",
            "Connected P/S U/U",
            "NetworkFailure P/? U/-",
            A::LOST_PEER_DATA,
        ),
        (
            "A10",
            "Connected S/P U/U",
            "Connected S/P U/F",
            A::LOST_PEER_DATA,
        ),
        (
            "A10",
            "WFConnection P/? U/-",
            "WFConnection P/? U/O",
            A::LOST_PEER_DATA | A::empty(),
        ),
        (
            "not A10",
            "Connected S/P U/U",
            "NetworkFailure S/? U/-",
            A::empty(),
        ),
        (
            "not A10",
            "Connected S/S U/U",
            "Connected S/S U/F",
            A::empty(),
        ),
        (
            "A11",
            "Connected S/S U/D",
            "Connected S/P U/D",
            A::DISKLESS_PEER_PROMOTED,
        ),
        (
            "not A11",
            "Connected S/S I/D",
            "Connected S/P I/D",
            A::empty(),
        ),
        (
            "A12",
            "Connected S/P U/D",
            "Connected S/S U/D",
            A::DISKLESS_PEER_DEMOTED,
        ),
        (
            "A13",
            "WFConnection P/? U/-",
            "WFConnection S/? U/-",
            A::DEMOTED,
        ),
        (
            "A14",
            "Connected S/P A/U",
            "Connected S/P N/U",
            A::NEGOTIATING,
        ),
        (
            "not A14",
            "WFConnection S/? A/-",
            "WFConnection S/? I/-",
            A::empty(),
        ),
        (
            "A17",
            "WFReportParams S/? U/-",
            "WFBitMapT S/P O/U",
            A::LEFT_WF_REPORT_PARAMS,
        ),
        ("A18", "Connected P/S U/U", "Ahead P/S U/C", A::TO_AHEAD),
        (
            "A18 A28",
            "SyncSource P/S U/I",
            "Ahead P/S U/I",
            A::TO_AHEAD | A::WRITE_BITMAP,
        ),
        (
            "A19",
            "Connected P/S U/U",
            "StartingSyncS P/S U/C",
            A::STARTING_SYNC,
        ),
        (
            "A19",
            "Connected P/S U/U",
            "StartingSyncT P/S O/U",
            A::STARTING_SYNC,
        ),
        (
            "A20",
            "Connected P/S U/U",
            "Connected P/S F/U",
            A::DISK_FAILED,
        ),
        (
            "A22",
            "Connected P/S F/U",
            "Connected P/S D/U",
            A::DISK_DISKLESS,
        ),
        (
            "A23",
            "Connected P/S U/U",
            "Connected P/S I/U",
            A::DISK_INCONSISTENT | A::BOTH_ATTACHED,
        ),
        (
            "not A23",
            "WFSyncUUID P/S U/U",
            "SyncTarget P/S I/U",
            A::empty(),
        ),
        (
            "not A23",
            "StandAlone P/? U/-",
            "StandAlone P/? I/-",
            A::NO_DATA,
        ),
        (
            "A24",
            "Connected S/S N/U",
            "Connected S/S U/U",
            A::BOTH_UP_TO_DATE | A::BOTH_ATTACHED,
        ),
        (
            "A25",
            "VerifyT S/S U/U",
            "NetworkFailure S/? U/-",
            A::RESUME_OTHERS,
        ),
        (
            "A25 A27 A28",
            "VerifyS S/S U/U",
            "Connected S/S U/U",
            A::VERIFY_S_ENDED | A::RESUME_OTHERS | A::WRITE_BITMAP | A::BOTH_ATTACHED,
        ),
        (
            "not A27",
            "VerifyT S/S U/U",
            "Connected S/S U/U",
            A::RESUME_OTHERS | A::WRITE_BITMAP | A::BOTH_ATTACHED,
        ),
        (
            "A25 A26",
            "SyncTarget S/P I/U",
            "Connected S/P D/U",
            A::DISK_DISKLESS | A::RESUME_OTHERS | A::SYNC_ENDED_TARGET,
        ),
    ] {
        assert_eq!(
            after(record(from), record(to)),
            actions,
            "{rows}: {from} to {to}"
        );
    }
}

#[test]
fn rows_about_pause_and_suspension_have_their_triggers() {
    let base = record("Connected S/S I/I");
    let with = |change: Change| base.apply(change);
    let aftr = Change::default().and_aftr_isp(true);
    let peer = Change::default().and_peer_isp(true);
    let user = Change::default().and_user_isp(true);
    let attached = A::BOTH_ATTACHED; // the base has it
    for (rows, old, new, actions) in [
        ("A15 A16", base, with(aftr), A::ISP_CHANGED | A::FIRST_PAUSE),
        ("A15 A16", base, with(user), A::ISP_CHANGED | A::FIRST_PAUSE),
        ("A16", base, with(peer), A::FIRST_PAUSE),
        ("A15", with(peer), with(peer).apply(user), A::ISP_CHANGED),
        (
            "A15 A25",
            with(user),
            base,
            A::ISP_CHANGED | A::RESUME_OTHERS,
        ),
        ("A25", with(peer), base, A::RESUME_OTHERS),
        ("A15, not A25", with(aftr), base, A::ISP_CHANGED),
    ] {
        assert_eq!(after(old, new), actions | attached, "{rows}");
    }
    let alone = record("WFConnection S/? I/-");
    assert_eq!(
        after(alone, alone.apply(user)),
        A::FIRST_PAUSE,
        "not A15 without connection"
    );

    let unconfigured = VolumeState::INITIAL;
    let paused = VolumeState {
        aftr_isp: true,
        ..unconfigured
    };
    assert_eq!(after(paused, unconfigured), A::UNCONFIGURED_RESUMES, "A29");

    let frozen = VolumeState {
        susp_nod: true,
        ..record("WFReportParams P/? D/-")
    };
    let back = VolumeState {
        susp_nod: true,
        ..record("Connected P/S D/U")
    };
    assert!(after(frozen, back).contains(A::MAY_THAW_BY_PEER), "A4");
    assert!(
        !after(back, back).contains(A::MAY_THAW_BY_PEER),
        "A4 only on the way in"
    );

    let attaching = VolumeState {
        susp_nod: true,
        ..record("WFConnection P/? A/-")
    };
    let attached = VolumeState {
        susp_nod: true,
        ..record("WFConnection P/? U/-")
    };
    assert!(
        after(attaching, attached).contains(A::MAY_THAW_BY_DISK),
        "A5"
    );
    assert!(
        !after(attached, attached).contains(A::MAY_THAW_BY_DISK),
        "A5 only on the way in"
    );

    let fenced = VolumeState {
        susp_fen: true,
        ..record("Connected P/S U/U")
    };
    assert!(after(fenced, fenced).contains(A::MAY_END_FENCING), "A6");
    let fenced = VolumeState {
        susp_fen: true,
        ..record("WFReportParams P/? U/-")
    };
    assert!(
        !after(fenced, fenced).contains(A::MAY_END_FENCING),
        "A6 only when connected"
    );
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

#[test]
fn every_row_of_the_immediate_effects_has_its_trigger() {
    for (rows, from, to, effects) in [
        (
            "1",
            "Connected S/S U/U",
            "Connected S/S U/F",
            I::CLOSE_EPOCH,
        ),
        ("1", "SyncSource P/S U/I", "Ahead P/S U/I", I::CLOSE_EPOCH),
        (
            "2 7",
            "StandAlone S/? A/-",
            "StandAlone S/? U/-",
            I::ATTACHED | I::EXPOSE_DISK,
        ),
        ("2", "Connected S/? A/U", "Connected S/? N/U", I::ATTACHED),
        (
            "not 2",
            "Connected S/? A/U",
            "Connected S/? F/U",
            I::empty(),
        ),
        (
            "1 3 10",
            "WFReportParams S/? U/-",
            "Connected S/S U/U",
            I::LEFT_WF_REPORT_PARAMS | I::CONNECTED | I::CLOSE_EPOCH,
        ),
        ("4", "VerifyS S/S U/U", "Connected S/S U/U", I::VERIFY_ENDED),
        (
            "1 4 9",
            "VerifyT S/S U/U",
            "BrokenPipe S/? U/-",
            I::VERIFY_ENDED | I::RESTART_RECEIVER | I::CLOSE_EPOCH,
        ),
        (
            "5",
            "PausedSyncS P/S U/I",
            "SyncSource P/S U/I",
            I::RESYNC_CONTINUES,
        ),
        (
            "5",
            "PausedSyncT S/P I/U",
            "SyncTarget S/P I/U",
            I::RESYNC_CONTINUES,
        ),
        (
            "5",
            "SyncSource P/S U/I",
            "PausedSyncS P/S U/I",
            I::RESYNC_SUSPENDED,
        ),
        (
            "5",
            "SyncTarget S/P I/U",
            "PausedSyncT S/P I/U",
            I::RESYNC_SUSPENDED,
        ),
        (
            "6",
            "Connected S/S U/U",
            "VerifyT S/S U/U",
            I::VERIFY_STARTED,
        ),
        (
            "7",
            "SyncTarget S/P I/U",
            "Connected S/P U/U",
            I::EXPOSE_DISK,
        ),
        (
            "8",
            "Connected S/S I/I",
            "Connected S/P I/I",
            I::CONSIDER_RESYNC,
        ),
        (
            "1 8",
            "Connected S/S I/I",
            "Connected S/P I/U",
            I::CONSIDER_RESYNC | I::CLOSE_EPOCH,
        ),
        (
            "9",
            "WFConnection S/? U/-",
            "Disconnecting S/? U/-",
            I::STOP_RECEIVER,
        ),
        (
            "9",
            "Connected S/S U/D",
            "ProtocolError S/? U/-",
            I::RESTART_RECEIVER,
        ),
        (
            "not 9",
            "WFConnection S/? U/-",
            "Timeout S/? U/-",
            I::empty(),
        ),
        (
            "not 9",
            "Disconnecting S/? U/-",
            "StandAlone S/? U/-",
            I::empty(),
        ),
    ] {
        assert_eq!(
            immediate(record(from), record(to)),
            effects,
            "{rows}: {from} to {to}"
        );
    }
}

/// Section 2.10 for every record, the flags spelled by their values.
#[test]
fn metadata_flags_follow_the_state() {
    for state in all_records() {
        for crashed in [false, true] {
            let previous = 0xffff_fe00 | 0x188; // unknown bits, FULL_SYNC, AL_CLEAN, AL_DISABLED
            let flags = md_flags(state, crashed, previous);
            if state.disk < DiskState::Inconsistent {
                assert_eq!(flags, previous, "{state}");
                continue;
            }
            let bit = |value: u32| flags & value != 0;
            assert_eq!(
                bit(1),
                state.disk > DiskState::Inconsistent,
                "CONSISTENT {state}"
            );
            let peers_only_disk =
                state.pdsk < DiskState::Inconsistent && state.peer == Role::Primary;
            assert_eq!(
                bit(2),
                state.role == Role::Primary || peers_only_disk,
                "PRIMARY_IND {state}"
            );
            assert_eq!(
                bit(4),
                state.conn > ConnState::WFReportParams,
                "CONNECTED_IND {state}"
            );
            assert!(bit(8), "FULL_SYNC is kept");
            assert_eq!(
                bit(16),
                state.disk > DiskState::Outdated,
                "WAS_UP_TO_DATE {state}"
            );
            let outdated = matches!(state.pdsk, DiskState::Inconsistent | DiskState::Outdated);
            assert_eq!(bit(32), outdated, "PEER_OUT_DATED {state}");
            assert_eq!(bit(64), crashed, "CRASHED_PRIMARY");
            assert!(!bit(128), "AL_CLEAN is cleared");
            assert!(bit(256), "AL_DISABLED is kept");
            assert_eq!(flags >> 9, previous >> 9, "unknown bits are kept");
        }
    }
    assert_eq!(md_flags(record("Connected P/S U/U"), false, 0), 0x17);
    assert_eq!(md_flags(record("WFConnection S/? O/-"), true, 0x80), 0x41);
    assert_eq!(md_flags(record("Connected S/P U/D"), false, 0), 0x17);
}

#[test]
fn writes_go_where_section_8_1_says() {
    for (state, replicate, tell) in [
        ("Connected P/S U/U", true, false),
        ("Connected P/S D/U", true, false),
        ("Connected P/S U/I", false, false),
        ("Connected P/S U/D", false, false),
        ("WFBitMapS P/S U/C", false, true),
        ("WFBitMapT P/S O/U", true, false),
        ("WFSyncUUID P/S I/U", true, false),
        ("SyncSource P/S U/I", true, false),
        ("PausedSyncS P/S U/C", true, false),
        ("SyncTarget P/S I/U", true, false),
        ("VerifyS P/S U/U", true, false),
        ("StartingSyncS P/S U/C", false, false),
        ("Ahead P/S U/C", false, true),
        ("Ahead P/S U/I", false, true),
        ("WFConnection P/? U/-", false, false),
        ("WFReportParams P/? U/I", false, false),
    ] {
        assert_eq!(should_replicate(record(state)), replicate, "{state}");
        assert_eq!(should_send_out_of_sync(record(state)), tell, "{state}");
    }
}
