//! What a fenced peer means: the policy that is in effect, and what the exit code of `fence-peer` says
//! (`docs/spec/behaviour.md`, sections 10.1 and 10.2).

use crate::state::{Change, DiskState, Fencing};

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

#[cfg(test)]
mod tests {
    use super::*;

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
