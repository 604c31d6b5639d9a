//! Sections 2.10, 2.11 and 8.1.

use rdb_engine::state::{
    ConnState, DiskState, ImmediateEffects as I, Role, immediate, md_flags, should_replicate,
    should_send_out_of_sync,
};

use crate::universe::{all_records, record};

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
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
