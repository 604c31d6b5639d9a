//! All records, and a shorthand for single ones.

use rdb_engine::state::{ConnState, Context, DiskState, Fencing, Role, VolumeState, sanitize};

/// Disk states that a node's own disk can have.
pub(crate) fn own_disks() -> impl Iterator<Item = DiskState> + Clone {
    DiskState::ALL
        .iter()
        .copied()
        .filter(|disk| *disk != DiskState::DUnknown)
}

/// Every combination of roles, connection, disks and pause flags, sensible or not, with nothing suspended.
pub(crate) fn all_records() -> impl Iterator<Item = VolumeState> {
    [Role::Primary, Role::Secondary]
        .into_iter()
        .flat_map(|role| {
            Role::ALL.iter().flat_map(move |&peer| {
                ConnState::ALL.iter().flat_map(move |&conn| {
                    own_disks().flat_map(move |disk| {
                        DiskState::ALL.iter().flat_map(move |&pdsk| {
                            (0..8).map(move |isp| VolumeState {
                                role,
                                peer,
                                conn,
                                disk,
                                pdsk,
                                aftr_isp: isp & 1 != 0,
                                peer_isp: isp & 2 != 0,
                                user_isp: isp & 4 != 0,
                                ..VolumeState::INITIAL
                            })
                        })
                    })
                })
            })
        })
}

/// The records of [`all_records`] that are fixed points of sanitize, without pause flags.
pub(crate) fn settled_records() -> Vec<VolumeState> {
    all_records()
        .filter(|state| !state.is_resync_paused())
        .filter(|state| sanitize(*state, *state, &Context::DEFAULT).state == *state)
        .collect()
}

/// Contexts that differ in what sanitize and validate look at.
pub(crate) fn contexts() -> Vec<Context> {
    let mut all = Vec::new();
    for fencing in [
        Fencing::DontCare,
        Fencing::ResourceOnly,
        Fencing::ResourceAndStonith,
    ] {
        for flag in [false, true] {
            for negotiated in [
                (DiskState::UpToDate, DiskState::DUnknown),
                (DiskState::Inconsistent, DiskState::DUnknown),
                (DiskState::Consistent, DiskState::Outdated),
            ] {
                all.push(Context {
                    net_configured: true,
                    two_primaries: !flag,
                    fencing,
                    suspend_on_no_data: flag,
                    verify_alg_set: flag,
                    agreed_version: 101,
                    exposed_uuid_matches_disk: flag,
                    negotiated,
                    ..Context::DEFAULT
                });
            }
        }
    }
    all
}

/// The record that the log's spelling describes: `cs ro/peer ds/pdsk`, such as `Connected P/S U/U`. Roles are `P`,
/// `S`, `?`; disks are `D A F N I O - C U`, as in section 13 of the specification.
pub(crate) fn record(text: &str) -> VolumeState {
    let words: Vec<&str> = text.split(' ').collect();
    let [conn, roles, disks] = words[..] else {
        panic!("three words: {text}")
    };
    let role = |letter| match letter {
        'P' => Role::Primary,
        'S' => Role::Secondary,
        '?' => Role::Unknown,
        other => panic!("role {other} in {text}"),
    };
    let disk = |letter| match letter {
        'D' => DiskState::Diskless,
        'A' => DiskState::Attaching,
        'F' => DiskState::Failed,
        'N' => DiskState::Negotiating,
        'I' => DiskState::Inconsistent,
        'O' => DiskState::Outdated,
        '-' => DiskState::DUnknown,
        'C' => DiskState::Consistent,
        'U' => DiskState::UpToDate,
        other => panic!("disk {other} in {text}"),
    };
    let pair = |word: &str| {
        let letters: Vec<char> = word.chars().collect();
        assert_eq!((letters.len(), letters[1]), (3, '/'), "{text}");
        (letters[0], letters[2])
    };
    let (own_role, peer_role) = pair(roles);
    let (own_disk, peer_disk) = pair(disks);
    VolumeState {
        role: role(own_role),
        peer: role(peer_role),
        conn: conn.parse().expect("a connection state"),
        disk: disk(own_disk),
        pdsk: disk(peer_disk),
        ..VolumeState::INITIAL
    }
}
