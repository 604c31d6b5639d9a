//! The state word, requests on the wire, and what is printed (`docs/spec/wire.md`, sections 5.6 and 11; sections 1.3,
//! 2.8 and 2.9 of the behaviour).

use rdb_engine::state::{
    BadState, Change, ConnState, DiskState, Role, StateError, UpperBlocked, VolumeState,
    change_log, flags6, is_success, refusal_log, susp_log,
};
use replica_proto::state::StateWord;

use crate::universe::{all_records, record};

#[test]
fn state_words_are_those_of_the_specification() {
    for (state, word) in [
        ("WFConnection S/? U/-", 0x0000_d082),
        ("WFConnection P/? U/-", 0x0000_d081),
        ("WFConnection S/? I/-", 0x0000_c882),
        ("WFConnection S/? C/-", 0x0000_ce82),
        ("WFConnection S/? O/-", 0x0000_ca82),
        ("WFConnection S/? D/-", 0x0000_c082),
        ("Connected S/S U/U", 0x0001_10aa),
        ("Connected P/S U/U", 0x0001_10a9),
        ("Connected S/P U/U", 0x0001_10a6),
        ("Connected S/S I/I", 0x0000_88aa),
        ("Connected P/S U/I", 0x0000_90a9),
        ("WFBitMapT S/P I/U", 0x0001_08e6),
        ("WFBitMapT S/P O/U", 0x0001_0ae6),
        ("WFBitMapS P/S U/C", 0x0000_f0d9),
        ("SyncTarget S/P I/U", 0x0001_0916),
        ("SyncSource P/S U/I", 0x0000_9109),
        ("Ahead P/S U/C", 0x0000_f169),
    ] {
        assert_eq!(record(state).to_word(), word, "{state}");
        assert_eq!(VolumeState::from_word(word), Ok(record(state)), "{state}");
    }
}

#[test]
fn every_record_survives_the_word_and_agrees_with_the_protocol_crate() {
    for state in all_records() {
        for bits in 0..8 {
            let state = VolumeState {
                susp: bits & 1 != 0,
                susp_nod: bits & 2 != 0,
                susp_fen: bits & 4 != 0,
                ..state
            };
            let word = StateWord::new(state.role, state.peer, state.conn, state.disk, state.pdsk)
                .with_aftr_isp(state.aftr_isp)
                .with_peer_isp(state.peer_isp)
                .with_user_isp(state.user_isp)
                .with_susp(state.susp)
                .with_susp_nod(state.susp_nod)
                .with_susp_fen(state.susp_fen);
            assert_eq!(state.to_word(), word.0, "{state}");
            assert_eq!(VolumeState::from_word(word.0), Ok(state));
        }
    }
}

#[test]
fn numbers_outside_the_tables_are_refused_by_field() {
    for (word, field, value) in [
        (0x3, "role", 3),
        (0xc, "peer role", 3),
        (24 << 4, "connection state", 24),
        (9 << 9, "disk state", 9),
        (15 << 13, "peer disk state", 15),
    ] {
        assert_eq!(
            VolumeState::from_word(word),
            Err(BadState::Value { field, value, word })
        );
    }
    assert!(
        VolumeState::from_word(0xff80_0000).is_ok(),
        "unused bits are ignored"
    );
    assert_eq!(
        Change::from_mask_val(0x1, 0x1),
        Err(BadState::PartialMask {
            field: "role",
            mask: 0x1
        })
    );
    assert_eq!(
        Change::from_mask_val(0x3, 0x5),
        Err(BadState::Unselected {
            mask: 0x3,
            val: 0x5
        })
    );
    assert_eq!(
        Change::from_mask_val(0x0080_0000, 0),
        Err(BadState::UnknownMask { mask: 0x0080_0000 })
    );
}

#[test]
fn requests_have_the_masks_and_values_of_section_11_2() {
    use ConnState::{Disconnecting, StartingSyncS, StartingSyncT, VerifyS};
    use DiskState::{Failed, Outdated, UpToDate};
    for (action, change, mask, val) in [
        ("promote", Change::role(Role::Primary), 0x3, 0x1),
        (
            "promote by force",
            Change::role(Role::Primary).and_disk(UpToDate),
            0x1e03,
            0x1001,
        ),
        ("detach", Change::disk(Failed), 0x1e00, 0x400),
        ("invalidate", Change::conn(StartingSyncT), 0x1f0, 0xc0),
        (
            "invalidate-remote",
            Change::conn(StartingSyncS),
            0x1f0,
            0xb0,
        ),
        ("verify", Change::conn(VerifyS), 0x1f0, 0x120),
        ("disconnect", Change::conn(Disconnecting), 0x1f0, 0x10),
        (
            "disconnect, outdate the peer",
            Change::conn(Disconnecting).and_pdsk(Outdated),
            0x1_e1f0,
            0xa010,
        ),
        (
            "disconnect, outdate myself",
            Change::conn(Disconnecting).and_disk(Outdated),
            0x1ff0,
            0xa10,
        ),
    ] {
        assert_eq!(change.to_mask_val(), (mask, val), "{action}");
        assert_eq!(Change::from_mask_val(mask, val), Ok(change), "{action}");
    }
}

#[test]
fn a_request_is_seen_from_the_other_side() {
    use ConnState::{
        Connected, Disconnecting, StandAlone, StartingSyncS, StartingSyncT, TearDown, VerifyS,
        VerifyT, WFReportParams,
    };
    for &conn in ConnState::ALL {
        let expected = match conn {
            StartingSyncS => StartingSyncT,
            StartingSyncT => StartingSyncS,
            VerifyS => VerifyT,
            Disconnecting => TearDown,
            WFReportParams | Connected => conn,
            _ => StandAlone,
        };
        assert_eq!(
            Change::conn(conn).for_receiver(),
            Change::conn(expected),
            "{conn}"
        );
        let word = StateWord::default().with_conn(conn).convert_for_receiver();
        assert_eq!(word.conn(), Ok(expected), "{conn}");
    }
    let sent = Change::role(Role::Primary)
        .and_peer(Role::Secondary)
        .and_disk(DiskState::UpToDate)
        .and_pdsk(DiskState::Outdated)
        .and_susp(true);
    let seen = Change::role(Role::Secondary)
        .and_peer(Role::Primary)
        .and_disk(DiskState::Outdated)
        .and_pdsk(DiskState::UpToDate)
        .and_susp(true);
    assert_eq!(sent.for_receiver(), seen);
    for (aftr, user, peer) in [
        (None, None, None),
        (Some(true), None, Some(true)),
        (None, Some(true), Some(true)),
        (Some(false), Some(false), Some(false)),
        (Some(false), Some(true), Some(true)),
    ] {
        let sent = Change {
            aftr_isp: aftr,
            user_isp: user,
            ..Change::default()
        };
        let seen = Change {
            peer_isp: peer,
            ..Change::default()
        };
        assert_eq!(sent.for_receiver(), seen);
    }
}

#[test]
fn results_have_the_numbers_and_texts_of_section_2_8() {
    let table = [
        (-1, "Multiple primaries not allowed by config"),
        (-2, "Need access to UpToDate data"),
        (-4, "Can not resync without local disk"),
        (-5, "Can not resync without remote disk"),
        (-6, "Refusing to be Outdated while Connected"),
        (-7, "Refusing to be Primary while peer is not outdated"),
        (-8, "Can not start OV/resync since it is already active"),
        (-9, "Can not disconnect a StandAlone device"),
        (-10, "State change was refused by peer node"),
        (
            -11,
            "Device is diskless, the requested operation requires a disk",
        ),
        (-12, "Device is held open by someone"),
        (-13, "Have no net/connection configuration"),
        (-14, "Need a verify algorithm to start online verify"),
        (-15, "Need a connection to start verify or resync"),
        (-16, "Disk state is lower than outdated"),
        (-17, "Peer does not support protocol"),
        (-18, "In transient state, retry after next state change"),
        (-19, "Concurrent state changes detected and aborted"),
        (-20, "Other vol primary on peer not allowed by config"),
        (
            -21,
            "Need a connection for a graceful disconnect/outdate peer",
        ),
    ];
    assert_eq!(table.len(), StateError::ALL.len());
    for (code, text) in table {
        let error = StateError::from_code(code).expect(text);
        assert_eq!((error.code(), error.to_string().as_str()), (code, text));
        assert!(!is_success(code));
    }
    assert_eq!(StateError::from_code(-3), None);
    assert!(!is_success(0));
    assert!((1..=4).all(is_success));
}

#[test]
fn changes_and_refusals_are_logged_as_people_grep_for_them() {
    let old = record("WFReportParams S/? C/-");
    let new = VolumeState {
        user_isp: true,
        susp: true,
        ..record("PausedSyncT S/P I/U")
    };
    assert_eq!(
        change_log(old, new).as_deref(),
        Some(
            "peer( Unknown -> Primary ) conn( WFReportParams -> PausedSyncT ) \
             disk( Consistent -> Inconsistent ) pdsk( DUnknown -> UpToDate ) user_isp( 0 -> 1 ) "
        )
    );
    assert_eq!(susp_log(old, new).as_deref(), Some("susp( 0 -> 1 ) "));
    assert_eq!(change_log(old, old), None);
    assert_eq!(susp_log(new, new), None);
    let promoted = VolumeState {
        role: Role::Primary,
        ..old
    };
    assert_eq!(
        change_log(old, promoted).as_deref(),
        Some("role( Secondary -> Primary ) ")
    );

    assert_eq!(
        refusal_log(StateError::NoUpToDateDisk, old, promoted),
        [
            "State change failed: Need access to UpToDate data",
            "  state = { cs:WFReportParams ro:Secondary/Unknown ds:Consistent/DUnknown r----- }",
            " wanted = { cs:WFReportParams ro:Primary/Unknown ds:Consistent/DUnknown r----- }",
        ]
    );
    assert!(refusal_log(StateError::InTransientState, old, promoted).is_empty());
}

#[test]
fn flag_letters_stand_in_their_places() {
    let base = record("Connected P/S U/U");
    assert_eq!(flags6(base, UpperBlocked::No, false), "r-----");
    for (change, letters, dump) in [
        (Change::default().and_susp(true), "s-----", "s-----"),
        (Change::default().and_susp_nod(true), "s-----", "s----N"),
        (Change::default().and_susp_fen(true), "s-----", "s---F-"),
        (Change::default().and_aftr_isp(true), "ra----", "ra----"),
        (Change::default().and_peer_isp(true), "r-p---", "r-p---"),
        (Change::default().and_user_isp(true), "r--u--", "r--u--"),
    ] {
        let state = base.apply(change);
        assert_eq!(flags6(state, UpperBlocked::No, false), letters);
        assert!(state.to_string().ends_with(dump), "{state}");
    }
    for (blocked, letter) in [
        (UpperBlocked::Drbd, 'd'),
        (UpperBlocked::Callback, 'c'),
        (UpperBlocked::Backing, 'b'),
        (UpperBlocked::Network, 'n'),
        (UpperBlocked::Both, 'a'),
    ] {
        assert_eq!(flags6(base, blocked, true), format!("r---{letter}s"));
    }
}
