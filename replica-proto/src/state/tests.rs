use super::*;
use ConnState::*;
use DiskState::*;
use Role::*;
use alloc::string::ToString;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn worked_values_of_the_spec() {
    for (role, peer, conn, disk, pdsk, word) in [
        (
            Secondary,
            Role::Unknown,
            WFConnection,
            UpToDate,
            DUnknown,
            0x0000_D082,
        ),
        (
            Primary,
            Role::Unknown,
            WFConnection,
            UpToDate,
            DUnknown,
            0x0000_D081,
        ),
        (
            Secondary,
            Role::Unknown,
            WFConnection,
            Inconsistent,
            DUnknown,
            0x0000_C882,
        ),
        (
            Secondary,
            Role::Unknown,
            WFConnection,
            Consistent,
            DUnknown,
            0x0000_CE82,
        ),
        (
            Secondary,
            Role::Unknown,
            WFConnection,
            Outdated,
            DUnknown,
            0x0000_CA82,
        ),
        (
            Secondary,
            Role::Unknown,
            WFConnection,
            Diskless,
            DUnknown,
            0x0000_C082,
        ),
        (
            Secondary,
            Secondary,
            Connected,
            UpToDate,
            UpToDate,
            0x0001_10AA,
        ),
        (
            Primary,
            Secondary,
            Connected,
            UpToDate,
            UpToDate,
            0x0001_10A9,
        ),
        (
            Secondary,
            Primary,
            Connected,
            UpToDate,
            UpToDate,
            0x0001_10A6,
        ),
        (
            Secondary,
            Secondary,
            Connected,
            Inconsistent,
            Inconsistent,
            0x0000_88AA,
        ),
        (
            Primary,
            Secondary,
            Connected,
            UpToDate,
            Inconsistent,
            0x0000_90A9,
        ),
        (
            Secondary,
            Primary,
            WFBitMapT,
            Inconsistent,
            UpToDate,
            0x0001_08E6,
        ),
        (
            Secondary,
            Primary,
            WFBitMapT,
            Outdated,
            UpToDate,
            0x0001_0AE6,
        ),
        (
            Primary,
            Secondary,
            WFBitMapS,
            UpToDate,
            Consistent,
            0x0000_F0D9,
        ),
        (
            Secondary,
            Primary,
            SyncTarget,
            Inconsistent,
            UpToDate,
            0x0001_0916,
        ),
        (
            Primary,
            Secondary,
            SyncSource,
            UpToDate,
            Inconsistent,
            0x0000_9109,
        ),
        (Primary, Secondary, Ahead, UpToDate, Consistent, 0x0000_F169),
    ] {
        let built = StateWord::new(role, peer, conn, disk, pdsk);
        assert_eq!(built, StateWord(word), "{built}");
        let read = StateWord(word);
        assert_eq!(
            (
                read.role(),
                read.peer(),
                read.conn(),
                read.disk(),
                read.pdsk()
            ),
            (Ok(role), Ok(peer), Ok(conn), Ok(disk), Ok(pdsk))
        );
    }
}

#[test]
fn every_state_has_its_number_and_name_and_no_other_number_has_one() {
    assert_eq!(
        (Role::ALL.len(), DiskState::ALL.len(), ConnState::ALL.len()),
        (3, 9, 24)
    );
    for number in 0..32 {
        if let Ok(conn) = ConnState::from_number(number) {
            assert_eq!(conn.number(), number);
            assert_eq!(conn.to_string().parse(), Ok(conn));
        } else {
            assert!(number > 23);
            let bad = BadState {
                field: "conn",
                number,
            };
            assert_eq!(StateWord(number << 4).conn(), Err(bad));
        }
    }
    for number in 0..16 {
        match DiskState::from_number(number) {
            Ok(disk) => {
                assert_eq!(disk.number(), number);
                assert_eq!(disk.to_string().parse(), Ok(disk));
            }
            Err(_) => {
                assert!(number > 8);
                let word = StateWord(number << 9 | number << 13);
                assert_eq!(
                    word.disk(),
                    Err(BadState {
                        field: "disk",
                        number
                    })
                );
                assert_eq!(
                    word.pdsk(),
                    Err(BadState {
                        field: "pdsk",
                        number
                    })
                );
            }
        }
    }
    assert_eq!(
        StateWord(0xf).role(),
        Err(BadState {
            field: "role",
            number: 3
        })
    );
    assert_eq!(
        StateWord(0xf).peer(),
        Err(BadState {
            field: "peer",
            number: 3
        })
    );
    assert!("connected".parse::<ConnState>().is_err());
}

#[test]
fn flags_sit_at_their_bits() {
    let word = StateWord(0)
        .with_susp(true)
        .with_aftr_isp(true)
        .with_peer_isp(true)
        .with_user_isp(true)
        .with_susp_nod(true)
        .with_susp_fen(true);
    assert_eq!(word, StateWord(0x007e_0000));
    assert!(word.susp() && word.aftr_isp() && word.peer_isp());
    assert!(word.user_isp() && word.susp_nod() && word.susp_fen());
    assert_eq!(word.with_peer_isp(false), StateWord(0x0076_0000));
    assert_eq!(
        StateWord(0x0002_10a9).to_string(),
        "Primary/Secondary Connected UpToDate/?0 susp".replace("?0", "Diskless")
    );
    assert_eq!(
        StateWord(0x1f3).to_string(),
        "?3/Unknown ?31 Diskless/Diskless"
    );
}

/// A state request is read from the receiver's point of view.
#[test]
fn pitfall_17_conn_conversion() {
    for (from, to) in [
        (WFReportParams, WFReportParams),
        (Connected, Connected),
        (StartingSyncS, StartingSyncT),
        (StartingSyncT, StartingSyncS),
        (VerifyS, VerifyT),
        (Disconnecting, TearDown),
    ] {
        let word = StateWord(0).with_conn(from).convert_for_receiver();
        assert_eq!(word, StateWord(0).with_conn(to));
    }
    let kept = [
        WFReportParams,
        Connected,
        StartingSyncS,
        StartingSyncT,
        VerifyS,
        Disconnecting,
    ];
    for conn in ConnState::ALL.iter().filter(|conn| !kept.contains(conn)) {
        assert_eq!(
            StateWord(0).with_conn(*conn).convert_for_receiver(),
            StateWord(0)
        );
    }
    for number in 24..31 {
        assert_eq!(StateWord(number << 4).convert_for_receiver(), StateWord(0));
    }
    let mask = StateWord(StateWord::CONN_MASK);
    assert_eq!(mask.convert_for_receiver(), mask);
}

#[test]
fn requests_of_the_spec_seen_by_the_receiver() {
    // (mask, val) as in docs/spec/wire.md, section 11.2, and what the receiver makes of them.
    for (mask, val, receiver_mask, receiver_val) in [
        (0x0000_0003, 0x0000_0001, 0x0000_000c, 0x0000_0004), // promote
        (0x0000_1E03, 0x0000_1001, 0x0001_e00c, 0x0001_0004), // promote, forced
        (0x0000_1E00, 0x0000_0400, 0x0001_e000, 0x0000_4000), // detach
        (0x0000_01F0, 0x0000_00C0, 0x0000_01f0, 0x0000_00b0), // invalidate
        (0x0000_01F0, 0x0000_00B0, 0x0000_01f0, 0x0000_00c0), // invalidate-remote
        (0x0000_01F0, 0x0000_0120, 0x0000_01f0, 0x0000_0130), // verify
        (0x0000_01F0, 0x0000_0010, 0x0000_01f0, 0x0000_0070), // disconnect
        (0x0001_E1F0, 0x0000_A010, 0x0000_1ff0, 0x0000_0a70), // disconnect, peer Outdated
        (0x0000_1FF0, 0x0000_0A10, 0x0001_e1f0, 0x0000_a070), // disconnect, self Outdated
    ] {
        let change = StateChange {
            mask: StateWord(mask),
            val: StateWord(val),
        };
        let seen = change.convert_for_receiver();
        assert_eq!((seen.mask.0, seen.val.0), (receiver_mask, receiver_val));
        assert_eq!(
            convert_for_receiver(change.mask, change.val),
            (seen.mask, seen.val)
        );
    }
    for (sent, seen) in [
        (
            StateWord::AFTR_ISP,
            StateWord::AFTR_ISP | StateWord::PEER_ISP,
        ),
        (
            StateWord::USER_ISP,
            StateWord::USER_ISP | StateWord::PEER_ISP,
        ),
        (StateWord::PEER_ISP, 0),
        (
            StateWord::SUSP | StateWord::SUSP_NOD,
            StateWord::SUSP | StateWord::SUSP_NOD,
        ),
        (StateWord::SUSP_FEN, StateWord::SUSP_FEN),
    ] {
        assert_eq!(StateWord(sent).convert_for_receiver(), StateWord(seen));
    }
    let promote = StateChange {
        mask: StateWord(0x3),
        val: StateWord(0x1),
    };
    let peer = promote
        .convert_for_receiver()
        .apply_to(StateWord(0x0001_10AA));
    assert_eq!(peer, StateWord(0x0001_10A6));
}
