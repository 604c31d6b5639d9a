//! When a snapshot can be taken, here and at the peer: the disks are equal, and nothing but the writes of this node's users could
//! change them. It is looked at before, and after every event as long as the handlers run: what changes one disk ends it.

use core::fmt;

use replica_proto::SnapshotRefusal;

use crate::state::{ConnState, DiskState, Role, VolumeState};

/// What is looked at, of each volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Its record.
    pub state: VolumeState,
    /// How many of its blocks are marked out of sync.
    pub marked: u64,
}

/// Why no snapshot can be taken, or one that was begun is worth nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// There is no volume.
    NoVolume,
    /// The users of a volume write at the peer.
    PeerIsPrimary,
    /// The peer is not connected, or is just being met.
    NotConnected(ConnState),
    /// A resync or a verify of a volume runs, or is about to.
    Syncing(ConnState),
    /// This node's disk is not UpToDate.
    Disk(DiskState),
    /// The peer's disk is not UpToDate.
    PeerDisk(DiskState),
    /// Blocks are out of sync, though both disks are UpToDate: a verify has found them, or they are left of a resync.
    Marked(u64),
    /// I/O is suspended already.
    Suspended,
    /// I/O goes on, which was suspended for the snapshot.
    Resumed,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::NoVolume => write!(f, "the resource has no volume"),
            Unfit::PeerIsPrimary => {
                write!(
                    f,
                    "the peer is Primary: its users write on; take the snapshot there"
                )
            }
            Unfit::NotConnected(conn) => write!(f, "the peer is not connected ({conn})"),
            Unfit::Syncing(conn) => write!(f, "the disks are being compared or synced ({conn})"),
            Unfit::Disk(disk) => write!(f, "this node's disk is {disk}"),
            Unfit::PeerDisk(disk) => write!(f, "the peer's disk is {disk}"),
            Unfit::Marked(blocks) => write!(
                f,
                "{blocks} blocks are marked out of sync; 'disconnect' and 'connect' have them synced"
            ),
            Unfit::Suspended => write!(f, "I/O is suspended already; 'resume-io' ends that"),
            Unfit::Resumed => write!(f, "I/O was resumed meanwhile"),
        }
    }
}

/// Whether the node on whose volumes users write, if there are any, can take a snapshot: with the peer, or of its own disks alone;
/// whether it has `begun`.
///
/// # Errors
/// Why not.
pub fn can_take(
    volumes: impl Iterator<Item = Facts>,
    with_peer: bool,
    begun: bool,
) -> Result<(), Unfit> {
    let mut any = false;
    for Facts { state, marked } in volumes {
        any = true;
        let is_target = matches!(
            state.conn,
            ConnState::StartingSyncT
                | ConnState::WFBitMapT
                | ConnState::WFSyncUUID
                | ConnState::SyncTarget
                | ConnState::PausedSyncT
                | ConnState::Behind
        );
        let unfit = if state.peer == Role::Primary {
            Unfit::PeerIsPrimary
        } else if with_peer && !state.is_connected() {
            Unfit::NotConnected(state.conn)
        } else if is_target || with_peer && state.conn != ConnState::Connected {
            Unfit::Syncing(state.conn)
        } else if with_peer && state.disk != DiskState::UpToDate || !is_of_one_moment(state.disk) {
            Unfit::Disk(state.disk)
        } else if with_peer && state.pdsk != DiskState::UpToDate {
            Unfit::PeerDisk(state.pdsk)
        } else if with_peer && marked > 0 {
            Unfit::Marked(marked)
        } else if !begun && state.is_suspended() {
            Unfit::Suspended
        } else if begun && !state.susp {
            Unfit::Resumed
        } else {
            continue;
        };
        return Err(unfit);
    }
    if any { Ok(()) } else { Err(Unfit::NoVolume) }
}

/// Whether what the disk holds is the data of one moment, if perhaps of an old one.
fn is_of_one_moment(disk: DiskState) -> bool {
    matches!(
        disk,
        DiskState::Outdated | DiskState::Consistent | DiskState::UpToDate
    )
}

/// Whether the peer's snapshot can be taken here, or goes on: nothing but the peer's writes changes this disk.
///
/// # Errors
/// Why not.
pub fn can_serve(volumes: impl Iterator<Item = Facts>) -> Result<(), SnapshotRefusal> {
    let mut any = false;
    for Facts { state, marked } in volumes {
        any = true;
        if state.role == Role::Primary {
            return Err(SnapshotRefusal::Role);
        }
        let equal = state.conn == ConnState::Connected
            && state.disk == DiskState::UpToDate
            && state.pdsk == DiskState::UpToDate;
        if !equal {
            return Err(SnapshotRefusal::Disks);
        }
        if marked > 0 {
            return Err(SnapshotRefusal::Marked);
        }
    }
    if any {
        Ok(())
    } else {
        Err(SnapshotRefusal::Disks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNCED: VolumeState = VolumeState {
        role: Role::Primary,
        peer: Role::Secondary,
        conn: ConnState::Connected,
        disk: DiskState::UpToDate,
        pdsk: DiskState::UpToDate,
        ..VolumeState::INITIAL
    };

    fn of(state: VolumeState) -> Facts {
        Facts { state, marked: 0 }
    }

    fn every_state() -> impl Iterator<Item = VolumeState> {
        let roles = [Role::Primary, Role::Secondary];
        ConnState::ALL.iter().flat_map(move |&conn| {
            DiskState::ALL.iter().flat_map(move |&disk| {
                DiskState::ALL.iter().flat_map(move |&pdsk| {
                    roles.into_iter().flat_map(move |role| {
                        Role::ALL.iter().flat_map(move |&peer| {
                            [false, true].map(|susp| VolumeState {
                                role,
                                peer,
                                conn,
                                disk,
                                pdsk,
                                susp,
                                ..VolumeState::INITIAL
                            })
                        })
                    })
                })
            })
        })
    }

    #[test]
    fn with_the_peer_one_is_taken_of_equal_disks_alone() {
        for state in every_state() {
            let equal = state.conn == ConnState::Connected
                && state.disk == DiskState::UpToDate
                && state.pdsk == DiskState::UpToDate;
            let right = equal && state.peer != Role::Primary;
            for begun in [false, true] {
                let taken = can_take([of(state)].into_iter(), true, begun);
                assert_eq!(taken.is_ok(), right && state.susp == begun, "{state:?}");
                // One volume is enough to say no.
                let synced = VolumeState {
                    susp: begun,
                    ..SYNCED
                };
                assert_eq!(
                    can_take([synced, state].map(of).into_iter(), true, begun),
                    taken
                );
            }
            let served = can_serve([of(state)].into_iter());
            assert_eq!(served.is_ok(), equal && state.role == Role::Secondary);
        }
    }

    #[test]
    fn alone_one_is_taken_of_a_disk_that_nobody_overwrites() {
        for state in every_state() {
            let taken = can_take([of(state)].into_iter(), false, false);
            let disk = state.disk >= DiskState::Outdated && state.disk != DiskState::DUnknown;
            let right = disk && state.peer != Role::Primary && !state.susp;
            assert!(right || taken.is_err(), "{state:?}");
            let source = matches!(state.conn, ConnState::SyncSource | ConnState::WFConnection);
            if right && (source || state.conn == ConnState::Connected) {
                assert_eq!(taken, Ok(()), "{state:?}");
            }
            if state.conn == ConnState::SyncTarget {
                assert!(taken.is_err());
            }
        }
    }

    #[test]
    fn disks_that_are_known_to_differ_are_not_taken_for_equal() {
        let facts = |role, peer, marked| Facts {
            state: VolumeState {
                role,
                peer,
                ..SYNCED
            },
            marked,
        };
        let own = facts(Role::Primary, Role::Secondary, 3);
        let taken = |with_peer| can_take([own].into_iter(), with_peer, false);
        assert_eq!((taken(true), taken(false)), (Err(Unfit::Marked(3)), Ok(())));
        let peers = facts(Role::Secondary, Role::Primary, 3);
        assert_eq!(can_serve([peers].into_iter()), Err(SnapshotRefusal::Marked));
    }

    #[test]
    fn of_nothing_there_is_none() {
        let none = core::iter::empty;
        assert_eq!(can_take(none(), true, false), Err(Unfit::NoVolume));
        assert_eq!(can_serve(none()), Err(SnapshotRefusal::Disks));
    }
}
