//! Section 2.4, and V1 and the raising of disks.

use rdb_engine::state::{
    Change, ConnState, Context, DiskState, Fencing, Outcome, Role, SanitizeNotes, StateError,
    VolumeState, Window, request, sanitize,
};

use crate::universe::{all_records, contexts, record};

/// What becomes of the record `from`.
fn forced(from: &str) -> VolumeState {
    let wanted = record(from);
    sanitize(wanted, wanted, &Context::DEFAULT).state
}

#[test]
fn every_row_of_the_table_forces_what_it_says() {
    for (row, from, to) in [
        (1, "WFConnection P/S U/U", "WFConnection P/? U/-"),
        (1, "WFConnection P/P U/C", "WFConnection P/? U/-"),
        (1, "WFConnection P/S U/D", "WFConnection P/? U/-"),
        (1, "WFConnection P/S U/N", "WFConnection P/? U/-"),
        (1, "WFConnection P/S U/I", "WFConnection P/? U/I"),
        (1, "WFConnection P/S U/O", "WFConnection P/? U/O"),
        (3, "SyncSource P/S F/I", "Connected P/S F/I"),
        (3, "SyncTarget S/P I/D", "Connected S/P I/D"),
        (3, "VerifyS S/S U/A", "Connected S/S U/A"),
        (3, "WFBitMapS S/S F/C", "Connected S/S F/O"),
        (3, "PausedSyncS P/S D/C", "Connected P/S D/O"),
        (5, "Connected S/S C/O", "Connected S/S U/U"),
        (5, "Connected S/P O/C", "Connected S/P U/U"),
        (5, "Behind S/P O/U", "Behind S/P O/U"),
        (5, "Ahead P/S U/C", "Ahead P/S U/C"),
        (5, "Ahead P/S U/O", "Ahead P/S U/O"),
        (6, "WFBitMapT S/P U/C", "WFBitMapT S/P O/U"),
        (6, "WFBitMapS P/S C/O", "WFBitMapS P/S U/C"),
        (6, "SyncTarget S/P U/U", "SyncTarget S/P I/U"),
        (6, "SyncSource P/S U/U", "SyncSource P/S U/I"),
        (6, "VerifyS S/S I/I", "VerifyS S/S U/U"),
        (6, "StartingSyncT S/S I/I", "StartingSyncT S/S I/U"),
        (6, "StartingSyncS S/S I/I", "StartingSyncS S/S U/I"),
        (6, "Behind S/P U/U", "Behind S/P O/U"),
        (6, "Connected S/S D/D", "Connected S/S D/D"),
    ] {
        assert_eq!(forced(from), record(to), "row {row}: {from}");
    }
}

#[test]
fn rows_1_2_and_9_force_the_pause_flags() {
    let paused = VolumeState {
        aftr_isp: true,
        peer_isp: true,
        user_isp: true,
        ..record("WFConnection S/? U/-")
    };
    let state = sanitize(paused, paused, &Context::DEFAULT).state;
    assert_eq!(
        (state.aftr_isp, state.peer_isp, state.user_isp),
        (true, false, true),
        "row 1"
    );

    let unconfigured = VolumeState {
        aftr_isp: true,
        user_isp: true,
        ..VolumeState::INITIAL
    };
    let state = sanitize(unconfigured, unconfigured, &Context::DEFAULT).state;
    assert_eq!((state.aftr_isp, state.user_isp), (false, true), "row 2");

    for (running, paused) in [
        ("SyncSource P/S U/I", "PausedSyncS P/S U/I"),
        ("SyncTarget S/P I/U", "PausedSyncT S/P I/U"),
    ] {
        for flag in [
            Change::default().and_aftr_isp(true),
            Change::default().and_peer_isp(true),
            Change::default().and_user_isp(true),
        ] {
            let wanted = record(running).apply(flag);
            let state = sanitize(record(running), wanted, &Context::DEFAULT).state;
            assert_eq!(state, record(paused).apply(flag), "row 9: {flag:?}");
            let resumed = sanitize(state, record(paused), &Context::DEFAULT).state;
            assert_eq!(resumed, record(running), "row 9, back: {flag:?}");
        }
    }
}

#[test]
fn row_3_says_what_it_aborted() {
    for (from, note) in [
        ("SyncSource P/S U/F", SanitizeNotes::RESYNC_ABORTED),
        ("WFBitMapT S/P F/U", SanitizeNotes::RESYNC_ABORTED),
        ("Ahead P/S U/D", SanitizeNotes::RESYNC_ABORTED),
        ("VerifyS S/S F/U", SanitizeNotes::VERIFY_ABORTED),
        ("VerifyT S/S U/D", SanitizeNotes::VERIFY_ABORTED),
    ] {
        let wanted = record(from);
        let sanitized = sanitize(wanted, wanted, &Context::DEFAULT);
        assert_eq!(sanitized.notes, note, "{from}");
        assert_eq!(sanitized.state.conn, ConnState::Connected, "{from}");
    }
}

#[test]
fn row_4_settles_a_negotiating_disk_when_the_link_breaks() {
    let old = record("Connected P/S N/U");
    let lost = record("NetworkFailure P/S N/U");
    let ctx = Context {
        exposed_uuid_matches_disk: true,
        negotiated: (DiskState::UpToDate, DiskState::Outdated),
        ..Context::DEFAULT
    };
    let kept = sanitize(old, lost, &ctx);
    assert_eq!(
        (kept.state, kept.notes),
        (record("NetworkFailure P/? U/-"), SanitizeNotes::empty())
    );
    // (L51) Nothing but a disk that needs a resync is remembered of the peer's.
    for (before, after) in [
        ("D", "-"),
        ("A", "-"),
        ("F", "-"),
        ("I", "I"),
        ("C", "-"),
        ("U", "-"),
    ] {
        let negotiated = record(&format!("Connected P/S U/{before}")).pdsk;
        let ctx = Context {
            negotiated: (DiskState::UpToDate, negotiated),
            ..ctx
        };
        let kept = sanitize(old, lost, &ctx);
        assert_eq!(
            kept.state,
            record(&format!("NetworkFailure P/? U/{after}")),
            "{before}"
        );
    }

    let other_data = Context {
        exposed_uuid_matches_disk: false,
        ..ctx
    };
    let dropped = sanitize(old, lost, &other_data);
    assert_eq!(dropped.state, record("NetworkFailure P/? D/-"));
    assert_eq!(
        dropped.notes.to_string(),
        "Connection lost while negotiating, no data!"
    );
}

#[test]
fn row_6_clamps_into_the_windows_of_the_specification() {
    use DiskState::{Consistent, DUnknown, Diskless, Inconsistent, Outdated, UpToDate};
    for &conn in ConnState::ALL {
        let (disk, pdsk) = match conn.to_string().as_str() {
            "StartingSyncT" | "WFBitMapT" | "WFSyncUUID" | "PausedSyncT" | "Behind" => {
                ([Inconsistent, Outdated], [UpToDate, UpToDate])
            }
            "SyncTarget" => ([Inconsistent, Inconsistent], [UpToDate, UpToDate]),
            "StartingSyncS" | "WFBitMapS" | "PausedSyncS" | "Ahead" => {
                ([UpToDate, UpToDate], [Inconsistent, Consistent])
            }
            "SyncSource" => ([UpToDate, UpToDate], [Inconsistent, Inconsistent]),
            "VerifyS" | "VerifyT" => ([UpToDate, UpToDate], [UpToDate, UpToDate]),
            "Connected" => ([Diskless, UpToDate], [Diskless, UpToDate]),
            _ => ([Diskless, UpToDate], [Inconsistent, DUnknown]),
        };
        let window = Window::of(conn);
        assert_eq!(window.disk, disk.into(), "{conn}");
        assert_eq!(window.pdsk, pdsk.into(), "{conn}");
    }
    let raised = record("VerifyS S/S I/O");
    let notes = sanitize(raised, raised, &Context::DEFAULT).notes;
    assert_eq!(
        notes.to_string(),
        "Implicitly upgraded disk",
        "pdsk was raised by row 5, silently"
    );
    let raised = record("SyncTarget S/S I/I");
    let notes = sanitize(raised, raised, &Context::DEFAULT).notes;
    assert_eq!(notes.to_string(), "Implicitly upgraded pdsk");
}

/// L12. Not a rule of DRBD's, which calls the disk UpToDate at the next handshake.
#[test]
fn data_that_were_given_up_stay_so_when_the_full_sync_does_not_begin() {
    let ctx = Context {
        invalidated: true,
        ..Context::DEFAULT
    };
    let given_up = record("StartingSyncT P/S O/U");
    assert_eq!(sanitize(given_up, given_up, &ctx).state, given_up);
    let asked = record("WFSyncUUID P/S O/U");
    assert_eq!(sanitize(given_up, asked, &ctx).state, asked);
    let lost = sanitize(asked, record("BrokenPipe P/S O/U"), &ctx).state;
    assert_eq!(lost.disk, DiskState::Inconsistent);
    let without_source = sanitize(given_up, record("StartingSyncT P/S O/D"), &ctx).state;
    assert_eq!(without_source, record("Connected P/S I/D"));
}

/// L13. Not a rule of DRBD's, which makes the disk Outdated with the order.
#[test]
fn data_are_kept_until_an_ordered_full_sync_begins() {
    let by_peer = Context::DEFAULT;
    let by_us = Context {
        ordered_here: true,
        ..Context::DEFAULT
    };
    for (ctx, from, wanted, to) in [
        (by_peer, "Connected P/S U/U", "StartingSyncT P/S U/U", 'U'),
        (by_us, "Connected P/S U/U", "StartingSyncT P/S U/U", 'U'),
        (by_peer, "Connected S/S U/U", "StartingSyncT S/S U/U", 'U'),
        (by_us, "Connected S/S U/U", "StartingSyncT S/S U/U", 'O'),
        (by_peer, "Connected S/P U/U", "StartingSyncT S/P U/U", 'O'),
        (by_peer, "Connected P/S I/U", "StartingSyncT P/S I/U", 'I'),
        // What is kept stays kept, whoever is promoted or demoted meanwhile; what was given up is not raised.
        (by_us, "StartingSyncT P/S U/U", "StartingSyncT S/S U/U", 'U'),
        (by_peer, "StartingSyncT S/S U/U", "WFSyncUUID S/S U/U", 'U'),
        (by_peer, "WFSyncUUID S/S U/U", "WFSyncUUID S/P U/U", 'U'),
        (
            by_peer,
            "StartingSyncT S/S O/U",
            "StartingSyncT P/S O/U",
            'O',
        ),
        (by_peer, "StartingSyncT S/S O/U", "WFSyncUUID S/S O/U", 'O'),
        (by_peer, "WFSyncUUID P/S U/U", "BrokenPipe P/S U/U", 'U'),
        // Other ways to the same state.
        (by_peer, "WFBitMapT S/S O/U", "WFSyncUUID S/S O/U", 'O'),
        (by_peer, "Connected S/S U/U", "WFSyncUUID S/S U/U", 'O'),
    ] {
        let disk = match to {
            'U' => DiskState::UpToDate,
            'O' => DiskState::Outdated,
            _ => DiskState::Inconsistent,
        };
        let state = sanitize(record(from), record(wanted), &ctx).state;
        assert_eq!(state.disk, disk, "{from} to {wanted}");
    }
}

/// (L54) A peer without a disk can say nothing of the data: with fencing a disk that is Consistent only waits for somebody's word.
#[test]
fn row_5_raises_nothing_for_a_peer_without_a_disk_when_it_fences() {
    for fencing in [Fencing::ResourceOnly, Fencing::ResourceAndStonith] {
        let ctx = Context {
            fencing,
            net_configured: true,
            ..Context::DEFAULT
        };
        for (wanted, becomes) in [
            ("Connected S/S C/D", "Connected S/S C/D"),
            ("Connected S/S C/F", "Connected S/S C/F"),
            ("Connected S/S C/N", "Connected S/S C/N"),
            ("Connected S/P C/D", "Connected S/P U/D"),
            ("Connected P/S C/D", "Connected P/S U/D"),
            ("Connected S/S C/I", "Connected S/S U/I"),
            ("Connected S/S C/C", "Connected S/S U/U"),
        ] {
            let met = sanitize(record("WFReportParams S/? C/-"), record(wanted), &ctx).state;
            assert_eq!(met, record(becomes), "{wanted}");
        }
        let waits = record("Connected S/S C/D");
        let refused = Err(StateError::NoUpToDateDisk);
        for change in [Change::role(Role::Primary), Change::peer(Role::Primary)] {
            assert_eq!(request(waits, change, &ctx, false), refused);
        }
        let outdated = waits.apply(Change::disk(DiskState::Outdated));
        let outdated = sanitize(waits, outdated, &ctx).state;
        assert_eq!(outdated, record("Connected S/S O/D"));
        let forced = Change::role(Role::Primary).and_disk(DiskState::UpToDate);
        assert!(request(waits, forced, &ctx, false).is_ok());
        let without = request(waits, Change::role(Role::Primary), &Context::DEFAULT, false);
        assert!(without.is_ok());
    }
    // So the node without a disk sees it, which has no policy: once it is told that this is what the disk is.
    let ctx = Context {
        net_configured: true,
        ..Context::DEFAULT
    };
    let told = record("Connected S/S D/C");
    for (before, becomes) in [
        ("WFReportParams S/? D/-", "Connected S/S D/U"),
        ("Connected S/S D/N", "Connected S/S D/U"),
        ("Connected S/S D/U", "Connected S/S D/C"),
        ("Connected S/S D/C", "Connected S/S D/C"),
    ] {
        assert_eq!(
            sanitize(record(before), told, &ctx).state,
            record(becomes),
            "{before}"
        );
    }
    let refused = Err(StateError::NoUpToDateDisk);
    assert_eq!(
        request(told, Change::role(Role::Primary), &ctx, false),
        refused
    );
    // The peer, whose disk it is, decides of its own promotion.
    assert!(request(told, Change::peer(Role::Primary), &ctx, false).is_ok());
}

#[test]
fn row_7_freezes_io_once_when_the_peer_is_lost_unfenced() {
    let ctx = Context {
        fencing: Fencing::ResourceAndStonith,
        ..Context::DEFAULT
    };
    let connected = record("Connected P/S U/U");
    let lost = sanitize(connected, record("NetworkFailure P/S U/U"), &ctx).state;
    assert!(lost.susp_fen);
    // Thawed by hand, it stays so: the condition was true before.
    let thawed = VolumeState {
        susp_fen: false,
        ..lost
    };
    assert_eq!(sanitize(lost, thawed, &ctx).state, thawed);

    for (why, ctx, new) in [
        ("a fenced peer", ctx, "NetworkFailure P/S U/O"),
        ("a Secondary", ctx, "NetworkFailure S/P U/U"),
        (
            "another policy",
            Context {
                fencing: Fencing::ResourceOnly,
                ..ctx
            },
            "NetworkFailure P/S U/U",
        ),
    ] {
        assert!(
            !sanitize(connected, record(new), &ctx).state.susp_fen,
            "{why}"
        );
    }
    let diskless = sanitize(
        record("Connected P/S D/U"),
        record("NetworkFailure P/S D/U"),
        &ctx,
    );
    assert!(
        !diskless.state.susp_fen,
        "without a disk there is no policy"
    );
}

#[test]
fn row_8_freezes_io_once_when_no_data_is_left() {
    let ctx = Context {
        suspend_on_no_data: true,
        ..Context::DEFAULT
    };
    let connected = record("Connected P/S D/U");
    let lost = sanitize(connected, record("NetworkFailure P/S D/U"), &ctx).state;
    assert!(lost.susp_nod);
    let thawed = VolumeState {
        susp_nod: false,
        ..lost
    };
    assert_eq!(sanitize(lost, thawed, &ctx).state, thawed);
    let with_io_error = sanitize(
        connected,
        record("NetworkFailure P/S D/U"),
        &Context::DEFAULT,
    );
    assert!(!with_io_error.state.susp_nod);
    let secondary = sanitize(
        record("Connected S/P D/U"),
        record("NetworkFailure S/P D/U"),
        &ctx,
    );
    assert!(!secondary.state.susp_nod);
}

/// V1: the record is a fixed point of sanitize after any change, from wherever it comes.
#[test]
fn v1_a_sanitized_record_is_a_fixed_point() {
    let olds = [
        VolumeState::INITIAL,
        record("Connected P/S U/U"),
        record("WFConnection P/? I/-"),
        record("Connected S/S D/D"),
    ];
    let contexts = contexts();
    for new in all_records() {
        for ctx in &contexts {
            for old in olds {
                let first = sanitize(old, new, ctx).state;
                let again = sanitize(first, first, ctx);
                assert_eq!(again.state, first, "from {old} to {new} with {ctx:?}");
                assert!(again.notes.is_empty(), "from {old} to {new} with {ctx:?}");
            }
        }
    }
}

/// Sanitizing never invents good data silently: a disk is raised to UpToDate by row 5 or with a note only.
#[test]
fn raising_a_disk_is_always_told() {
    for new in all_records() {
        let sanitized = sanitize(new, new, &Context::DEFAULT);
        let state = sanitized.state;
        let by_row_5 = |disk| matches!(disk, DiskState::Consistent | DiskState::Outdated);
        if state.disk > new.disk && !by_row_5(new.disk) {
            assert!(
                sanitized.notes.contains(SanitizeNotes::UPGRADED_DISK),
                "{new} to {state}"
            );
        }
        let forgotten = state.pdsk == DiskState::DUnknown; // row 1
        if state.pdsk > new.pdsk && !by_row_5(new.pdsk) && !forgotten {
            assert!(
                sanitized.notes.contains(SanitizeNotes::UPGRADED_PDSK),
                "{new} to {state}"
            );
        }
    }
}

/// What the resync was to replace is no copy to serve users from.
#[test]
fn a_primary_keeps_its_disk_beside_a_target_that_has_not_begun() {
    for from in [
        "StartingSyncS P/S U/C",
        "WFBitMapS P/S U/C",
        "Ahead P/S U/C",
    ] {
        let detached = request(
            record(from),
            Change::disk(DiskState::Failed),
            &Context::DEFAULT,
            false,
        );
        assert_eq!(detached, Err(StateError::NoUpToDateDisk), "{from}");
    }
}

#[test]
fn a_verify_never_raises_a_disk() {
    let ctx = Context {
        verify_alg_set: true,
        agreed_version: 101,
        ..Context::DEFAULT
    };
    for conn in [ConnState::VerifyS, ConnState::VerifyT] {
        for (from, result) in [
            ("Connected S/S I/I", Err(StateError::NoUpToDateDisk)),
            ("Connected P/S U/I", Err(StateError::NoUpToDateDisk)),
            ("Connected P/S I/U", Err(StateError::NoUpToDateDisk)),
            // No disk to compare: nothing happens, as with the kernel's driver.
            ("Connected P/S U/D", Ok(Outcome::NothingToDo)),
            ("Connected P/S D/U", Ok(Outcome::NothingToDo)),
        ] {
            assert_eq!(
                request(record(from), Change::conn(conn), &ctx, false),
                result,
                "{from}"
            );
        }
        let started = request(record("Connected P/S U/U"), Change::conn(conn), &ctx, false);
        let expected = VolumeState {
            conn,
            ..record("Connected P/S U/U")
        };
        assert_eq!(
            started,
            Ok(Outcome::Changed(expected, SanitizeNotes::empty()))
        );
    }
}

#[test]
fn outdating_a_connected_disk_succeeds_without_effect() {
    let old = record("Connected S/P U/U");
    let result = request(
        old,
        Change::disk(DiskState::Outdated),
        &Context::DEFAULT,
        false,
    );
    assert_eq!(result.map(|outcome| outcome.code()), Ok(2));
    assert_eq!(old.role, Role::Secondary);
}
