//! Why a disk is not UpToDate, in words for the administrator.

use alloc::string::String;
use core::fmt;

use super::trouble::Trouble;
use crate::state::{ConnState, DiskState, Role, VolumeState};

/// What the reason depends on.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The state record.
    pub state: VolumeState,
    /// What became of the disk last, if that is worth telling.
    pub lost: Option<Lost>,
    /// Why it was refused since, though nothing is wrong with it: others have newer data.
    pub older: Option<String>,
    /// A forced promotion has declared it good; what it was before.
    pub forced: Option<DiskState>,
    /// The metadata is as `create-md` makes it: the disk has never had data that count.
    pub fresh: bool,
    /// The peer is Primary with some volume of the resource.
    pub peer_is_primary: bool,
}

/// What became of a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lost {
    /// It gave an error, or was refused, with these words.
    Error(String),
    /// It was refused when it was attached beside the peer's: its data and the peer's do not go together, as these words say.
    Conflict(Trouble, String),
    /// The administrator has detached it.
    Detached,
    /// The administrator has given its data up while there was no connection.
    Invalidated,
}

/// Why a disk is not UpToDate, or why that is worth a doubt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiskReason {
    /// None was attached.
    None,
    /// `detach`.
    Detached,
    /// Given up for an error, or refused.
    Failed(String),
    /// Refused, since its data and the peer's do not go together.
    Conflict(Trouble, String),
    /// Refused, since the peer's disk has newer data that users have seen.
    Older {
        /// The administrator has detached it before that.
        detached: bool,
        /// What was said of it.
        text: String,
        /// The peer's good disk is there by now: it can be attached.
        met: bool,
    },
    /// It is being attached.
    Attaching,
    /// The peer decides what it is worth.
    Negotiating,
    /// It gave an error that was passed on, and lacks what was to be written.
    Error(String),
    /// It has never had data that count.
    NeverSynced {
        /// Nor has the peer any, as far as is known, and nobody uses it: a first sync can begin here.
        may_begin: bool,
    },
    /// A resync onto it is under way.
    BeingSynced,
    /// `invalidate`, and no resync since has been finished.
    Invalidated,
    /// A resync onto it was not finished.
    HalfSynced,
    /// Somebody has newer data.
    Outdated,
    /// Nobody knows whether somebody has newer data.
    Unknown,
    /// Nor can the peer say that, which is there without its disk (L54).
    PeerDiskless,
    /// It is UpToDate by force, and was something else: data that were newer elsewhere may be lost.
    Forced(DiskState),
}

/// Whether a promotion has declared a disk good that others may have had newer data than.
pub fn is_forced(old: VolumeState, new: VolumeState, fresh: bool) -> bool {
    let was_worse = matches!(old.disk, DiskState::Inconsistent | DiskState::Outdated);
    let promoted = old.role != Role::Primary && new.role == Role::Primary;
    was_worse && promoted && new.disk == DiskState::UpToDate && !fresh
}

/// The reason; `None` for a disk that is UpToDate, unless by force.
pub fn reason(facts: &Facts) -> Option<DiskReason> {
    let state = &facts.state;
    Some(match state.disk {
        DiskState::UpToDate => return facts.forced.map(DiskReason::Forced),
        DiskState::Diskless | DiskState::Failed => match (&facts.lost, &facts.older) {
            (lost, Some(text)) => DiskReason::Older {
                detached: *lost == Some(Lost::Detached),
                text: text.clone(),
                met: state.is_connected() && state.pdsk == DiskState::UpToDate,
            },
            (Some(Lost::Error(text)), None) => DiskReason::Failed(text.clone()),
            (Some(Lost::Conflict(trouble, text)), None) => {
                DiskReason::Conflict(*trouble, text.clone())
            }
            (Some(Lost::Detached), None) => DiskReason::Detached,
            (Some(Lost::Invalidated) | None, None) => DiskReason::None,
        },
        DiskState::Attaching => DiskReason::Attaching,
        DiskState::Negotiating => DiskReason::Negotiating,
        DiskState::Inconsistent => match &facts.lost {
            _ if is_or_becomes_target(state.conn) => DiskReason::BeingSynced,
            Some(Lost::Error(text)) => DiskReason::Error(text.clone()),
            _ if facts.fresh => DiskReason::NeverSynced {
                may_begin: !facts.peer_is_primary && !has_data(state.pdsk),
            },
            Some(Lost::Invalidated) => DiskReason::Invalidated,
            Some(Lost::Detached | Lost::Conflict(..)) | None => DiskReason::HalfSynced,
        },
        DiskState::Outdated if is_or_becomes_target(state.conn) => DiskReason::BeingSynced,
        DiskState::Outdated => DiskReason::Outdated,
        DiskState::Consistent if state.awaits_word() => DiskReason::PeerDiskless,
        DiskState::Consistent | DiskState::DUnknown => DiskReason::Unknown,
    })
}

/// A disk with data that count.
fn has_data(disk: DiskState) -> bool {
    matches!(
        disk,
        DiskState::UpToDate | DiskState::Consistent | DiskState::Outdated
    )
}

/// A resync onto the own disk, from the first word about it.
fn is_or_becomes_target(conn: ConnState) -> bool {
    matches!(
        conn,
        ConnState::StartingSyncT
            | ConnState::WFBitMapT
            | ConnState::WFSyncUUID
            | ConnState::SyncTarget
            | ConnState::PausedSyncT
    )
}

impl DiskReason {
    /// A word for programs, which stays the same.
    pub fn word(&self) -> &'static str {
        match self {
            DiskReason::None => "not-attached",
            DiskReason::Detached => "detached",
            DiskReason::Failed(_) => "failed",
            DiskReason::Conflict(trouble, _) => trouble.word(),
            DiskReason::Older { .. } => "older-data",
            DiskReason::Attaching => "attaching",
            DiskReason::Negotiating => "negotiating",
            DiskReason::Error(_) => "io-error",
            DiskReason::NeverSynced { .. } => "never-synced",
            DiskReason::BeingSynced => "being-synced",
            DiskReason::Invalidated => "invalidated",
            DiskReason::HalfSynced => "half-synced",
            DiskReason::Outdated => "outdated",
            DiskReason::Unknown | DiskReason::PeerDiskless => "not-confirmed",
            DiskReason::Forced(_) => "forced",
        }
    }

    /// What there is to be done, with `RES` for the name of the volume.
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            DiskReason::None | DiskReason::Detached | DiskReason::Older { met: true, .. } => {
                "'rdbadm attach RES'"
            }
            DiskReason::Failed(_) => {
                "check the disk; then 'rdbadm attach RES', on a new disk after 'rdbadm create-md RES'"
            }
            DiskReason::Conflict(..) => {
                "what is on it is still there, and 'create-md' would take it away; 'rdbadm down RES' and 'rdbadm up RES' here have both nodes meet anew, and say what stands between them and what to do"
            }
            DiskReason::Older { met: false, .. } => {
                "connect to the peer that has the newer data first; then 'rdbadm attach RES'"
            }
            DiskReason::Error(_) => {
                "check the disk; then 'rdbadm invalidate RES' copies the peer's data over it"
            }
            DiskReason::NeverSynced { may_begin: false } => {
                "a resync from the node that has the data makes it good"
            }
            DiskReason::NeverSynced { may_begin: true } => {
                "connect to the node that has the data; on a new cluster 'rdbadm primary --force RES' on exactly one node, the one whose data is to be kept"
            }
            DiskReason::Invalidated => {
                "connect to the node that has the data, which are copied over it"
            }
            DiskReason::HalfSynced => {
                "connect to the node that has the data; by itself this disk is a mixture of old and new"
            }
            DiskReason::Outdated => "connect to the node that has newer data",
            DiskReason::Unknown => "connect to the peer",
            DiskReason::PeerDiskless => {
                "attach the peer's disk; 'rdbadm primary RES' asks fence-peer whether this node may go on without it"
            }
            DiskReason::Forced(_) => {
                "look at the data before the node with the newer ones connects: a resync replaces them"
            }
            DiskReason::Attaching | DiskReason::Negotiating | DiskReason::BeingSynced => {
                return None;
            }
        })
    }
}

impl fmt::Display for DiskReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskReason::None => f.write_str("no disk is attached"),
            DiskReason::Detached => f.write_str("it was detached"),
            DiskReason::Failed(text) | DiskReason::Conflict(_, text) => {
                write!(f, "it was given up: {text}")
            }
            DiskReason::Older { detached, text, .. } => {
                let before = if *detached { "it was detached; " } else { "" };
                write!(
                    f,
                    "{before}attaching it was refused, as its data are older than what users have seen: {text}"
                )
            }
            DiskReason::Attaching => f.write_str("it is being attached"),
            DiskReason::Negotiating => f.write_str("the peer's answer to the attach is awaited"),
            DiskReason::Error(text) => write!(f, "it gave an error: {text}"),
            DiskReason::NeverSynced { .. } => {
                f.write_str("it has never been in sync with another disk")
            }
            DiskReason::BeingSynced => f.write_str("it is being synced"),
            DiskReason::Invalidated => f.write_str("it was invalidated"),
            DiskReason::HalfSynced => f.write_str("a resync onto it is not complete"),
            DiskReason::Outdated => f.write_str("the peer has newer data"),
            DiskReason::Forced(was) => write!(
                f,
                "it was {was} and is UpToDate by force: newer data elsewhere may be lost"
            ),
            DiskReason::Unknown => f.write_str("it is not known whether the peer has newer data"),
            DiskReason::PeerDiskless => {
                f.write_str("the peer is there without its disk, which may have newer data")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn facts(disk: DiskState, conn: ConnState) -> Facts {
        let mut state = VolumeState::INITIAL;
        state.disk = disk;
        state.conn = conn;
        Facts {
            state,
            lost: None,
            older: None,
            forced: None,
            fresh: false,
            peer_is_primary: false,
        }
    }

    #[test]
    fn each_state_has_its_reason() {
        use ConnState as C;
        use DiskState as D;
        for (disk, conn, expected) in [
            (D::UpToDate, C::StandAlone, None),
            (D::UpToDate, C::SyncTarget, None),
            (D::Diskless, C::Connected, Some(DiskReason::None)),
            (
                D::Inconsistent,
                C::SyncTarget,
                Some(DiskReason::BeingSynced),
            ),
            (
                D::Inconsistent,
                C::PausedSyncT,
                Some(DiskReason::BeingSynced),
            ),
            (
                D::Inconsistent,
                C::WFConnection,
                Some(DiskReason::HalfSynced),
            ),
            (D::Outdated, C::WFConnection, Some(DiskReason::Outdated)),
            (D::Outdated, C::WFBitMapT, Some(DiskReason::BeingSynced)),
            (D::Consistent, C::WFConnection, Some(DiskReason::Unknown)),
            (D::Consistent, C::Connected, Some(DiskReason::PeerDiskless)),
            (D::Negotiating, C::Connected, Some(DiskReason::Negotiating)),
        ] {
            assert_eq!(reason(&facts(disk, conn)), expected, "{disk} {conn}");
        }
    }

    #[test]
    fn what_happened_to_it_says_more_than_its_state() {
        let lost = Facts {
            lost: Some(Lost::Error("local READ IO error".to_string())),
            ..facts(DiskState::Diskless, ConnState::Connected)
        };
        let reason_of_lost = reason(&lost).expect("it is no good disk");
        assert_eq!(reason_of_lost.word(), "failed");
        assert_eq!(
            reason_of_lost.to_string(),
            "it was given up: local READ IO error"
        );
        let detached = Facts {
            lost: Some(Lost::Detached),
            ..facts(DiskState::Diskless, ConnState::Connected)
        };
        assert_eq!(reason(&detached), Some(DiskReason::Detached));
        let refused = Facts {
            older: Some("current UUID=1".to_string()),
            ..detached
        };
        let refused = reason(&refused).expect("it is no good disk");
        assert_eq!(refused.word(), "older-data");
        assert!(refused.to_string().starts_with("it was detached; "));
        let invalidated = Facts {
            lost: Some(Lost::Invalidated),
            ..facts(DiskState::Inconsistent, ConnState::StandAlone)
        };
        assert_eq!(reason(&invalidated), Some(DiskReason::Invalidated));
        let forced = Facts {
            forced: Some(DiskState::Outdated),
            ..facts(DiskState::UpToDate, ConnState::WFConnection)
        };
        let forced = reason(&forced).expect("worth a doubt");
        assert_eq!(forced.word(), "forced");
        assert!(
            forced.to_string().starts_with("it was Outdated"),
            "{forced}"
        );
        let fresh = Facts {
            fresh: true,
            ..facts(DiskState::Inconsistent, ConnState::Connected)
        };
        let may_begin = true;
        assert_eq!(reason(&fresh), Some(DiskReason::NeverSynced { may_begin }));
    }

    #[test]
    fn nobody_is_told_to_force_a_promotion_where_the_peer_has_data_or_users() {
        use DiskState as D;
        for (pdsk, peer_is_primary, expected) in [
            (D::DUnknown, false, true),
            (D::Inconsistent, false, true),
            (D::Diskless, false, true),
            (D::UpToDate, false, false),
            (D::Outdated, false, false),
            (D::Consistent, false, false),
            (D::DUnknown, true, false),
            (D::Diskless, true, false),
        ] {
            let mut fresh = Facts {
                fresh: true,
                peer_is_primary,
                ..facts(D::Inconsistent, ConnState::Connected)
            };
            fresh.state.pdsk = pdsk;
            let advice = reason(&fresh).and_then(|reason| reason.advice());
            let advice = advice.expect("there is something to be done");
            assert_eq!(advice.contains("--force"), expected, "{pdsk}: {advice}");
        }
    }

    #[test]
    fn only_a_promotion_over_a_worse_disk_with_data_is_by_force() {
        let at = |role, disk| {
            let mut state = VolumeState::INITIAL;
            state.role = role;
            state.disk = disk;
            state
        };
        let good = at(Role::Primary, DiskState::UpToDate);
        for (old, fresh, expected) in [
            (at(Role::Secondary, DiskState::Outdated), false, true),
            (at(Role::Secondary, DiskState::Inconsistent), false, true),
            (at(Role::Secondary, DiskState::Inconsistent), true, false),
            (at(Role::Secondary, DiskState::Consistent), false, false),
            (at(Role::Secondary, DiskState::UpToDate), false, false),
            // The end of a resync below a Primary.
            (at(Role::Primary, DiskState::Inconsistent), false, false),
        ] {
            assert_eq!(
                is_forced(old, good, fresh),
                expected,
                "{} {}",
                old.role,
                old.disk
            );
        }
    }
}
