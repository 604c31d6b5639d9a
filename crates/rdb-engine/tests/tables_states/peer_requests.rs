//! What a peer may ask for and tell of itself: the list of requests against all masks and values, and P_STATE against all
//! words.

use rdb_engine::rules::peer_change::{Facts, REQUESTS, Request, Scope, makes_sense, recognise};
use rdb_engine::rules::peer_state::{self, Wrong, check};
use rdb_engine::state::{Change, ConnState, DiskState, Role, VolumeState};

/// Mask and value of the recordings of 8.4.11 and 9.3.3, and of this engine.
#[test]
fn what_right_peers_were_seen_to_ask_is_on_the_list() {
    use Scope::{Connection, Volume};
    for (scope, mask, val, request) in [
        (Volume, 0x3, 0x1, Request::Promote),
        (Volume, 0x1e03, 0x1001, Request::PromoteByForce),
        (Volume, 0x1e00, 0x400, Request::Detach),
        (Volume, 0x1f0, 0xc0, Request::Invalidate),
        (Volume, 0x1f0, 0xb0, Request::InvalidateRemote),
        (Volume, 0x1f0, 0x120, Request::Verify),
        (Connection, 0x1f0, 0x10, Request::Disconnect),
        (Connection, 0x1e1f0, 0xa010, Request::DisconnectOutdatingUs),
        (Connection, 0x1ff0, 0xa10, Request::DisconnectOutdated),
        (Connection, 0x3, 0x1, Request::Promote),
        (Connection, 0x3, 0x2, Request::Demote),
    ] {
        let change = Change::from_mask_val(mask, val).unwrap();
        assert_eq!(
            recognise(scope, &change),
            Some(request),
            "{mask:#x} {val:#x}"
        );
    }
}

/// Of all requests that can be written down none that is recognised touches what is ours, but for the outdating of our disk
/// by a peer that parts from us.
#[test]
fn nothing_on_the_list_touches_what_is_ours() {
    for row in REQUESTS {
        let ours = row.change.for_receiver();
        assert_eq!(ours.role, None, "{row:?}");
        assert_eq!(
            (ours.susp, ours.susp_nod, ours.susp_fen),
            (None, None, None)
        );
        assert_eq!(
            (ours.aftr_isp, ours.peer_isp, ours.user_isp),
            (None, None, None)
        );
        assert!(ours.peer.is_none_or(|role| role != Role::Unknown));
        let parts = ours.conn == Some(ConnState::TearDown);
        assert!(
            ours.disk
                .is_none_or(|disk| disk == DiskState::Outdated && parts)
        );
        assert_ne!(ours.conn, Some(ConnState::StandAlone), "{row:?}");
        assert!(row.volume || row.connection);
    }
}

/// Every combination of one or two fields: what is not on the list is not recognised.
#[test]
fn nothing_else_is_recognised() {
    let mut single = vec![Change::default()];
    single.extend(Role::ALL.iter().map(|&role| Change::role(role)));
    single.extend(Role::ALL.iter().map(|&role| Change::peer(role)));
    single.extend(ConnState::ALL.iter().map(|&conn| Change::conn(conn)));
    single.extend(DiskState::ALL.iter().map(|&disk| Change::disk(disk)));
    single.extend(DiskState::ALL.iter().map(|&disk| Change::pdsk(disk)));
    for flag in [false, true] {
        let none = Change::default();
        single.extend([
            none.and_susp(flag),
            none.and_susp_nod(flag),
            none.and_susp_fen(flag),
            none.and_aftr_isp(flag),
            none.and_peer_isp(flag),
            none.and_user_isp(flag),
        ]);
    }
    let merged = |a: &Change, b: &Change| Change {
        role: a.role.or(b.role),
        peer: a.peer.or(b.peer),
        conn: a.conn.or(b.conn),
        disk: a.disk.or(b.disk),
        pdsk: a.pdsk.or(b.pdsk),
        aftr_isp: a.aftr_isp.or(b.aftr_isp),
        peer_isp: a.peer_isp.or(b.peer_isp),
        user_isp: a.user_isp.or(b.user_isp),
        susp: a.susp.or(b.susp),
        susp_nod: a.susp_nod.or(b.susp_nod),
        susp_fen: a.susp_fen.or(b.susp_fen),
    };
    let mut found = Vec::new();
    for a in &single {
        for b in &single {
            let change = merged(a, b);
            for scope in [Scope::Volume, Scope::Connection] {
                if let Some(request) = recognise(scope, &change)
                    && !found.contains(&(scope, request))
                {
                    found.push((scope, request));
                }
            }
        }
    }
    let listed: usize = REQUESTS
        .iter()
        .map(|row| usize::from(row.volume) + usize::from(row.connection))
        .sum();
    assert_eq!(found.len(), listed);
}

/// L34. No full sync comes from a disk on which a write of ours has failed.
#[test]
fn no_only_good_copy_is_given_up_by_a_request() {
    for &disk in DiskState::ALL {
        for &pdsk in DiskState::ALL {
            for &peer in Role::ALL {
                for write_failed in [false, true] {
                    let facts = Facts {
                        disk,
                        pdsk,
                        peer,
                        write_failed,
                    };
                    let peer_good = pdsk == DiskState::UpToDate;
                    if makes_sense(Request::InvalidateRemote, &facts).is_ok() {
                        assert!(peer_good && !write_failed, "{facts:?}");
                    }
                    if makes_sense(Request::Invalidate, &facts).is_ok() {
                        assert_eq!(disk, DiskState::UpToDate, "{facts:?}");
                    }
                    if makes_sense(Request::Verify, &facts).is_ok() {
                        assert_eq!(disk, DiskState::UpToDate, "{facts:?}");
                        assert!(peer_good && !write_failed, "{facts:?}");
                    }
                    let outdates = makes_sense(Request::DisconnectOutdatingUs, &facts).is_ok();
                    if outdates && disk > DiskState::Outdated {
                        assert!(peer_good && peer == Role::Primary, "{facts:?}");
                    }
                    for request in [Request::Promote, Request::Demote, Request::Disconnect] {
                        assert!(makes_sense(request, &facts).is_ok());
                    }
                }
            }
        }
    }
}

/// All that a peer can say of itself, in every state of ours that matters.
#[test]
fn a_peers_state_is_one_that_a_right_peer_can_have() {
    use ConnState::*;
    for conn in [WFReportParams, Connected, SyncSource, SyncTarget, Behind] {
        for role in [Role::Primary, Role::Secondary] {
            for disk in [
                DiskState::Diskless,
                DiskState::Inconsistent,
                DiskState::UpToDate,
            ] {
                for &told_role in Role::ALL {
                    for &told_disk in DiskState::ALL {
                        for &told_conn in ConnState::ALL {
                            for n in 0..4 {
                                let own = VolumeState {
                                    conn,
                                    role,
                                    disk,
                                    ..VolumeState::INITIAL
                                };
                                let told = VolumeState {
                                    conn: told_conn,
                                    role: told_role,
                                    disk: told_disk,
                                    ..VolumeState::INITIAL
                                };
                                let facts = peer_state::Facts {
                                    own,
                                    told,
                                    has_uuids: n & 1 != 0,
                                    protocol_a: n & 2 != 0,
                                };
                                judge(&facts);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn judge(facts: &peer_state::Facts) {
    let (own, told) = (facts.own, facts.told);
    let verdict = check(facts);
    let connected = own.conn >= ConnState::Connected;
    if told.role == Role::Unknown || told.disk == DiskState::DUnknown {
        assert_eq!(verdict, Err(Wrong::Unknown));
    }
    let Ok(()) = verdict else { return };
    assert!(!(connected && own.role == Role::Primary && told.role == Role::Primary));
    if told.conn == ConnState::Ahead {
        assert!(
            facts.protocol_a && connected && own.role == Role::Secondary,
            "{facts:?}"
        );
        assert_eq!((told.role, told.disk), (Role::Primary, DiskState::UpToDate));
    }
    if !connected && told.disk >= DiskState::Negotiating && own.disk >= DiskState::Negotiating {
        assert!(
            facts.has_uuids,
            "no disk is met without its generations: {facts:?}"
        );
    }
}
