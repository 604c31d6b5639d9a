//! Whether a peer that is there, and does not finish what it was sent within `ko-count` times `timeout`, is left
//! (`docs/spec/behaviour.md`, section 7.4).
//!
//! (L42) A node with a good disk of its own goes on alone then: that is what the option is for. One that has none would fail its
//! users' requests, to be rid of the only copy that can serve them. DRBD does that; here the node goes on waiting, as long as
//! the peer answers its pings: a disk that is slow, or full and waits for space (`on-no-space`), comes back.

use crate::state::{DiskState, Role, VolumeState};

/// Whether the peer holds the only good copy of a volume in use.
pub fn is_needed(volumes: impl IntoIterator<Item = VolumeState>) -> bool {
    let needs = |s: VolumeState| {
        s.role == Role::Primary && s.disk != DiskState::UpToDate && s.pdsk == DiskState::UpToDate
    };
    volumes.into_iter().any(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_only_good_copy_of_a_primary_is_kept() {
        for role in [Role::Primary, Role::Secondary] {
            for disk in [
                DiskState::Diskless,
                DiskState::Failed,
                DiskState::Inconsistent,
                DiskState::UpToDate,
            ] {
                for pdsk in [
                    DiskState::Diskless,
                    DiskState::Inconsistent,
                    DiskState::DUnknown,
                    DiskState::UpToDate,
                ] {
                    let state = VolumeState {
                        role,
                        disk,
                        pdsk,
                        ..VolumeState::INITIAL
                    };
                    let needed = role == Role::Primary
                        && disk != DiskState::UpToDate
                        && pdsk == DiskState::UpToDate;
                    assert_eq!(is_needed([state]), needed);
                    assert_eq!(is_needed([VolumeState::INITIAL, state]), needed);
                }
            }
        }
    }
}
