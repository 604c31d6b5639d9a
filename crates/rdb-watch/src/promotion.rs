//! Whether a resource can become Primary here, and how good a place for that this node is: DRBD 9's `may_promote` and
//! `promotion_score` (`docs/spec/admin.md`, section 4.9), for the metrics, for `events2` and for the promoter.

use rdb_control::{DiskState, ResourceReport, Role, VolumeReport};

/// The most that volumes, and copies of one, count for.
const MOST: u64 = 99;

/// The two copies of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// The role here.
    pub role: Role,
    /// The peer's.
    pub peer_role: Role,
    /// The disk here.
    pub disk: DiskState,
    /// The peer's.
    pub peer_disk: DiskState,
}

/// What stands against a promotion, whatever else somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bar {
    /// There is nothing to be promoted.
    NoVolumes,
    /// The peer has the role.
    PrimaryThere,
    /// This node has it, of one volume at least.
    PrimaryHere,
    /// No UpToDate data of a volume can be reached.
    NoData,
}

impl Copies {
    /// Of a volume as the daemon reports it.
    pub fn of(volume: &VolumeReport) -> Copies {
        Copies {
            role: volume.role,
            peer_role: volume.peer_role,
            disk: volume.disk,
            peer_disk: volume.peer_disk,
        }
    }

    /// How many are UpToDate.
    pub fn good(self) -> u64 {
        let disks = [self.disk, self.peer_disk];
        let good = disks.iter().filter(|disk| **disk == DiskState::UpToDate);
        good.count() as u64
    }
}

/// What stands against the promotion of a resource with these volumes.
pub fn bar(volumes: &[Copies]) -> Option<Bar> {
    let has = |is: fn(&Copies) -> bool| volumes.iter().any(is);
    if volumes.is_empty() {
        Some(Bar::NoVolumes)
    } else if has(|v| v.peer_role == Role::Primary) {
        Some(Bar::PrimaryThere)
    } else if has(|v| v.role == Role::Primary) {
        Some(Bar::PrimaryHere)
    } else if has(|v| v.good() == 0) {
        Some(Bar::NoData)
    } else {
        None
    }
}

fn copies(resource: &ResourceReport) -> Vec<Copies> {
    resource.volumes.iter().map(Copies::of).collect()
}

/// Whether a promotion is expected to succeed: no node is Primary, and for each volume UpToDate data can be reached.
pub fn may_promote(resource: &ResourceReport) -> bool {
    bar(&copies(resource)).is_none()
}

/// How good a place this node is: 10,000 if each volume has a disk here, 100 for each that is UpToDate, and 1 for each UpToDate copy
/// of the volume that has the fewest. 0 if a volume has no UpToDate data that can be reached.
pub fn promotion_score(resource: &ResourceReport) -> u64 {
    let volumes = copies(resource);
    let fewest = volumes.iter().map(|v| v.good()).min().unwrap_or(0);
    if fewest == 0 {
        return 0;
    }
    let has_disk = |v: &Copies| {
        matches!(
            v.disk,
            DiskState::UpToDate | DiskState::Consistent | DiskState::Inconsistent
        )
    };
    let own = volumes.iter().filter(|v| v.disk == DiskState::UpToDate);
    let of_disks = if volumes.iter().all(has_disk) {
        10_000
    } else {
        0
    };
    of_disks + 100 * (own.count() as u64).min(MOST) + fewest.min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_against_a_promotion() {
        use DiskState::{Diskless, Outdated, UpToDate};
        use Role::{Primary, Secondary, Unknown};
        assert_eq!(bar(&[]), Some(Bar::NoVolumes));
        let good = Copies {
            role: Secondary,
            peer_role: Unknown,
            disk: UpToDate,
            peer_disk: Outdated,
        };
        let with = |peer_role, role, disk| Copies {
            peer_role,
            role,
            disk,
            ..good
        };
        for (other, expected) in [
            (good, None),
            (with(Primary, Primary, UpToDate), Some(Bar::PrimaryThere)),
            (with(Secondary, Primary, UpToDate), Some(Bar::PrimaryHere)),
            (with(Secondary, Secondary, Diskless), Some(Bar::NoData)),
        ] {
            assert_eq!(bar(&[good, other]), expected, "{other:?}");
        }
    }
}
