//! Which P_SIZES may change a size, over all states and a handful of sizes.

use rdb_engine::rules::sizes::{
    Facts, Growth, Occasion, Verdict, Wrong, agreed, decide, differ_much, growth, occasion,
};
use rdb_engine::state::{ConnState, DiskState, Role, VolumeState};

const SIZES: [u64; 4] = [0, 100, 200, 300];

/// Every record that matters, with and without a disk, and every size of the handful in every place.
fn universe(mut look: impl FnMut(Facts)) {
    use ConnState::*;
    let roles = [
        (Role::Primary, Role::Secondary),
        (Role::Secondary, Role::Primary),
        (Role::Secondary, Role::Secondary),
    ];
    let disks = [
        DiskState::Diskless,
        DiskState::Attaching,
        DiskState::Negotiating,
        DiskState::Inconsistent,
        DiskState::Outdated,
        DiskState::UpToDate,
    ];
    for conn in [WFReportParams, Connected, WFBitMapS, SyncTarget, VerifyT] {
        for (role, peer) in roles {
            for disk in disks {
                for pdsk in [
                    DiskState::Diskless,
                    DiskState::Inconsistent,
                    DiskState::UpToDate,
                ] {
                    for size in SIZES {
                        for n in 0..4_usize.pow(4) {
                            let pick = |i: u32| SIZES[n / 4_usize.pow(i) % 4];
                            let attached = disk >= DiskState::Negotiating;
                            look(Facts {
                                state: VolumeState {
                                    role,
                                    peer,
                                    conn,
                                    disk,
                                    pdsk,
                                    ..VolumeState::INITIAL
                                },
                                worth: disk,
                                moving: disk == DiskState::Attaching,
                                usable: attached.then_some(300),
                                user: pick(3),
                                size,
                                peer_disk: pick(0),
                                peer_user: pick(1),
                                peer_device: pick(2),
                            });
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_shrinks_under_a_primary() {
    universe(|facts| {
        if let Verdict::Set(size) = decide(&facts) {
            assert!(
                size > facts.size || facts.state.role == Role::Secondary,
                "{facts:?} {size}"
            );
        }
    });
}

/// Data are cut off only if the Primary's administrator, on the other node, resizes while both are connected.
#[test]
fn nothing_shrinks_that_holds_data_but_by_the_primarys_administrator() {
    universe(|facts| {
        if let Verdict::Set(size) = decide(&facts)
            && size < facts.size
            && facts.state.disk >= DiskState::Outdated
        {
            assert_eq!(facts.state.peer, Role::Primary, "{facts:?}");
            assert_eq!(facts.state.conn, ConnState::Connected, "{facts:?}");
            assert_eq!(facts.peer_device, 0, "{facts:?}");
        }
    });
}

#[test]
fn a_size_changes_at_the_handshake_an_attach_or_a_resize() {
    universe(|facts| {
        let changes = matches!(decide(&facts), Verdict::Set(_));
        if changes {
            assert_ne!(occasion(&facts), Occasion::Other, "{facts:?}");
            assert!(!facts.moving);
        }
        if facts.state.conn > ConnState::Connected {
            assert_eq!(decide(&facts), Verdict::Keep, "{facts:?}");
        }
    });
}

#[test]
fn nothing_grows_beyond_a_disk() {
    universe(|facts| {
        if let Verdict::Set(size) = decide(&facts) {
            assert!(size != 0 && size != facts.size);
            if let Some(usable) = facts.usable {
                assert!(size <= usable, "{facts:?}");
                assert!(facts.user == 0 || size <= facts.user || size > facts.size);
            } else {
                assert!(facts.peer_disk == 0 || size <= facts.peer_disk, "{facts:?}");
            }
        }
    });
}

/// A peer with less than our device has is refused at the handshake, and later it has no business to say so.
#[test]
fn too_small_a_peer_is_refused() {
    universe(|facts| match decide(&facts) {
        Verdict::TooSmall(size) => {
            assert!(size < facts.size);
            assert!(facts.state.conn < ConnState::Connected);
            assert!(
                facts.state.role == Role::Primary || facts.state.disk >= DiskState::Outdated,
                "{facts:?}"
            );
        }
        Verdict::Wrong(Wrong::Shrinks { from, to }) => {
            assert!(to < from && from == facts.size);
            assert_eq!(facts.state.conn, ConnState::Connected);
        }
        _ => {}
    });
}

#[test]
fn nothing_beyond_the_largest_device_is_believed() {
    const MAX: u64 = 1 << 41;
    let facts = Facts {
        state: VolumeState {
            conn: ConnState::WFReportParams,
            ..VolumeState::INITIAL
        },
        worth: DiskState::Diskless,
        moving: false,
        usable: None,
        user: 0,
        size: 0,
        peer_disk: MAX,
        peer_user: 0,
        peer_device: MAX,
    };
    assert_eq!(decide(&facts), Verdict::Set(MAX));
    for (peer_disk, peer_user, peer_device) in [
        (MAX + 1, 0, 100),
        (100, MAX + 1, 100),
        (100, 0, MAX + 1),
        (1 << 54, 0, 0),
        (0, 0, u64::MAX),
    ] {
        let facts = Facts {
            peer_disk,
            peer_user,
            peer_device,
            ..facts
        };
        assert!(matches!(
            decide(&facts),
            Verdict::Wrong(Wrong::Impossible(_))
        ));
    }
}

/// The rows of section 6.4.
#[test]
fn what_the_pair_can_hold() {
    for (peer, usable, last_agreed, user, size) in [
        (200, 300, 100, 0, 200),
        (300, 200, 100, 0, 200),
        (0, 300, 100, 0, 100),
        (0, 50, 100, 0, 50),
        (50, 0, 100, 0, 50),
        (200, 0, 0, 0, 200),
        (0, 300, 0, 0, 300),
        (200, 300, 100, 150, 150),
        (200, 300, 100, 250, 200),
        (0, 0, 0, 0, 0),
    ] {
        let facts = (peer, usable, last_agreed, user);
        assert_eq!(agreed(peer, usable, last_agreed, user), size, "{facts:?}");
    }
}

/// Section 6.6: nodes that see each other right agree on who sends the new space, and nobody begins alone.
#[test]
fn both_nodes_agree_on_who_sends_what_has_grown() {
    use {DiskState::*, Role::*};
    for conn in [
        ConnState::WFReportParams,
        ConnState::Connected,
        ConnState::VerifyS,
    ] {
        for (role, peer) in [
            (Primary, Secondary),
            (Secondary, Primary),
            (Secondary, Secondary),
            (Primary, Primary),
        ] {
            for (disk, pdsk) in [
                (UpToDate, UpToDate),
                (UpToDate, Inconsistent),
                (Diskless, UpToDate),
                (UpToDate, Diskless),
                (Negotiating, UpToDate),
            ] {
                let state = VolumeState {
                    role,
                    peer,
                    conn,
                    disk,
                    pdsk,
                    ..VolumeState::INITIAL
                };
                let seen = VolumeState {
                    role: peer,
                    peer: role,
                    disk: pdsk,
                    pdsk: disk,
                    ..state
                };
                let both = (growth(&state, true), growth(&seen, false));
                let idle =
                    conn == ConnState::Connected && disk >= Inconsistent && pdsk >= Inconsistent;
                let expected = match (role, peer) {
                    _ if !idle => (Growth::Later, Growth::Later),
                    (Secondary, Primary) => (Growth::Target, Growth::Source),
                    _ => (Growth::Source, Growth::Target),
                };
                assert_eq!(both, expected, "{state:?}");
            }
        }
    }
}

#[test]
fn an_eighth_of_the_own_disk_is_much() {
    for (usable, peer, much) in [
        (800, 900, false),
        (800, 901, true),
        (800, 699, true),
        (800, 700, false),
        (800, 0, false),
    ] {
        assert_eq!(differ_much(usable, peer), much, "{usable} {peer}");
    }
}
