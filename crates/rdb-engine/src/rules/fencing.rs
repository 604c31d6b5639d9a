//! What a fenced peer means: the policy that is in effect, when the peer is fenced, and what the exit code of `fence-peer` says
//! (`docs/spec/behaviour.md`, sections 10.1 and 10.2); and which peers are no better than one that is not fenced.

use crate::state::{Change, ConnState, DiskState, Fencing, Role, VolumeState};

/// The policy of a resource, by its volumes' disks and their `fencing`: the highest one of all that are at least Consistent. Nothing
/// if there is none: this node has nothing to go on with.
pub fn policy(volumes: impl Iterator<Item = (DiskState, Fencing)>) -> Option<Fencing> {
    let good = volumes.filter(|(disk, _)| *disk >= DiskState::Consistent);
    good.map(|(_, fencing)| fencing).max()
}

/// What the handler says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// What changes, of every volume.
    pub change: Option<Change>,
    /// For the log.
    pub words: &'static str,
    /// A second line of the log, which warns.
    pub warning: Option<&'static str>,
}

/// The meaning of an exit code; nothing for one that has none. `worst`: the worst disk of this node that is at least Consistent: a peer
/// that cannot be reached is no reason to go on with one that may lack what it has (5).
pub fn verdict(exit: i32, policy: Fencing, worst: DiskState) -> Option<Verdict> {
    let peer = |disk| Some(Change::default().and_pdsk(disk));
    let of = |change, words| Verdict {
        change,
        words,
        warning: None,
    };
    Some(match exit {
        3 => of(
            peer(DiskState::Inconsistent),
            "peer is inconsistent or worse",
        ),
        4 => of(peer(DiskState::Outdated), "peer was fenced"),
        5 if worst == DiskState::UpToDate => of(
            peer(DiskState::Outdated),
            "peer is unreachable, assumed to be dead",
        ),
        5 => of(
            None,
            "peer unreachable, doing nothing since disk != UpToDate",
        ),
        6 => Verdict {
            warning: Some("Peer is primary, outdating myself."),
            ..of(Some(Change::disk(DiskState::Outdated)), "peer is active")
        },
        7 => Verdict {
            warning: (policy != Fencing::ResourceAndStonith)
                .then_some("fence-peer() = 7 && fencing != Stonith !!!"),
            ..of(peer(DiskState::Outdated), "peer was stonithed")
        },
        _ => return None,
    })
}

/// Whether this disk of the peer's is too bad to go on with.
pub fn is_fenced(pdsk: DiskState) -> bool {
    pdsk <= DiskState::Outdated
}

/// The connection is lost: whether the peer is to be fenced. A Primary goes on; the peer may do so too if nobody keeps it from that.
/// `volumes`: those of the resource.
pub fn fences_lost_peer(
    volumes: impl Iterator<Item = VolumeState> + Clone,
    policy: Option<Fencing>,
) -> bool {
    let is_primary = volumes.clone().any(|v| v.role == Role::Primary);
    let is_frozen = volumes.clone().any(|v| v.susp_fen);
    let wanted = policy.unwrap_or_default() != Fencing::DontCare || is_frozen;
    is_primary && wanted && !volumes.clone().all(|v| is_fenced(v.pdsk))
}

/// What becomes of the wish to have the peer fenced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FenceWay {
    /// The peer is there, and speaks for itself.
    PeerIsThere,
    /// There is nothing here to go on with.
    NothingHere,
    /// Nobody wants it.
    NotWanted,
    /// The handler is asked.
    Handler,
}

/// `beside_diskless`: a disk here waits for the word about a peer that is there without one (L54).
pub fn way(conn: ConnState, beside_diskless: bool, policy: Option<Fencing>) -> FenceWay {
    match policy {
        _ if conn >= ConnState::WFReportParams && !beside_diskless => FenceWay::PeerIsThere,
        None => FenceWay::NothingHere,
        Some(Fencing::DontCare) => FenceWay::NotWanted,
        Some(_) => FenceWay::Handler,
    }
}

/// What has been so since the handler began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Since {
    /// The peer has come, or may have come: what the handler says is of the time before.
    pub met: bool,
    /// The peer was there when it began, without a disk (L54).
    pub beside_diskless: bool,
    /// The peer is there now, or may be.
    pub may_meet: bool,
}

/// What is made of the handler's word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heed {
    /// It is the word that disks here wait for (L54), and whether it is that the peer cannot go on.
    Word(bool),
    /// It is of no use.
    Stale,
    /// This changes.
    Taken(Option<Change>),
}

/// `change`: what the word would change ([`verdict`]).
pub fn heed(since: &Since, change: Option<Change>) -> Heed {
    if since.beside_diskless && !since.met {
        Heed::Word(change.is_some_and(|change| change.pdsk.is_some()))
    } else if since.met || since.may_meet {
        Heed::Stale
    } else {
        Heed::Taken(change)
    }
}

/// Whether the peer is to be fenced anew: the word was of the loss before.
pub fn fences_again(since: &Since) -> bool {
    since.met && !since.may_meet
}

/// (L48) The connection of a source is lost: whether its target may be as good as ours by its record, so that it could go on. `unproven`:
/// it has not shown that it is on record as a target; `all_sent`: it may have come to the end. `fencing`: that of the disk.
pub fn is_target_doubtful(
    fencing: Fencing,
    pdsk: DiskState,
    unproven: bool,
    all_sent: bool,
) -> bool {
    let doubtful = match pdsk {
        DiskState::Inconsistent => unproven || all_sent,
        DiskState::Outdated => unproven,
        _ => false,
    };
    fencing != Fencing::DontCare && doubtful
}

/// (L50) Our parameters are about to go out: a peer that is Outdated and may have our generation is UpToDate as soon as it has them,
/// whether we hear of that or not.
pub fn is_outdated_doubtful(fencing: Fencing, pdsk: DiskState, may_share_name: bool) -> bool {
    fencing != Fencing::DontCare && pdsk == DiskState::Outdated && may_share_name
}

/// (L48) Whether what only this node has waits for the target to be on record as one: `resource-and-stonith` promises that nobody is told
/// of it before.
pub fn waits_for_target(fencing: Fencing, unproven: bool) -> bool {
    unproven && fencing == Fencing::ResourceAndStonith
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_only_of_a_peer_that_has_not_come_since() {
        let outdated = Some(Change::default().and_pdsk(DiskState::Outdated));
        for met in [false, true] {
            for beside_diskless in [false, true] {
                for may_meet in [false, true] {
                    let since = Since {
                        met,
                        beside_diskless,
                        may_meet,
                    };
                    let expected = match (met, beside_diskless, may_meet) {
                        (false, true, _) => Heed::Word(true),
                        (false, false, false) => Heed::Taken(outdated),
                        _ => Heed::Stale,
                    };
                    assert_eq!(heed(&since, outdated), expected, "{since:?}");
                    assert_eq!(fences_again(&since), met && !may_meet);
                }
            }
        }
    }

    #[test]
    fn a_target_that_may_be_as_good_by_its_record_is_doubted_where_fencing_is_wanted() {
        use DiskState::{Inconsistent, Outdated, UpToDate};
        let of = |pdsk, unproven, all_sent| {
            assert!(!is_target_doubtful(
                Fencing::DontCare,
                pdsk,
                unproven,
                all_sent
            ));
            is_target_doubtful(Fencing::ResourceOnly, pdsk, unproven, all_sent)
        };
        assert!(of(Inconsistent, true, false) && of(Inconsistent, false, true));
        assert!(of(Outdated, true, false) && !of(Outdated, false, true));
        assert!(!of(Inconsistent, false, false) && !of(UpToDate, true, true));
    }

    #[test]
    fn the_strictest_policy_of_the_good_disks_is_in_effect() {
        use DiskState::{Consistent, Diskless, Inconsistent, Outdated, UpToDate};
        use Fencing::{DontCare, ResourceAndStonith, ResourceOnly};
        let of = |volumes: &[(DiskState, Fencing)]| policy(volumes.iter().copied());
        assert_eq!(of(&[]), None);
        for bad in [Diskless, Inconsistent, Outdated] {
            assert_eq!(of(&[(bad, ResourceAndStonith)]), None);
        }
        let two = [(UpToDate, DontCare), (Consistent, ResourceOnly)];
        assert_eq!(of(&two), Some(ResourceOnly));
        assert_eq!(of(&two[..1]), Some(DontCare));
    }

    #[test]
    fn only_five_codes_mean_something_and_only_four_of_them_that_the_peer_is_fenced() {
        let fences = |exit, best| {
            let verdict = verdict(exit, Fencing::ResourceAndStonith, best)?;
            verdict.change?.pdsk
        };
        for exit in -1..=255 {
            let up = fences(exit, DiskState::UpToDate);
            let consistent = fences(exit, DiskState::Consistent);
            let expected = match exit {
                3 => Some(DiskState::Inconsistent),
                4 | 5 | 7 => Some(DiskState::Outdated),
                _ => None,
            };
            assert_eq!(up, expected, "{exit}");
            assert_eq!(consistent, expected.filter(|_| exit != 5), "{exit}");
        }
        let active = verdict(6, Fencing::ResourceOnly, DiskState::UpToDate);
        let change = active.and_then(|verdict| verdict.change);
        assert_eq!(change, Some(Change::disk(DiskState::Outdated)));
        let warns = |policy| verdict(7, policy, DiskState::UpToDate).and_then(|v| v.warning);
        assert!(warns(Fencing::ResourceOnly).is_some());
        assert!(warns(Fencing::ResourceAndStonith).is_none());
    }
}
