//! What a full disk is (`on-no-space`): a write that meets one waits, or fails; and what its failure means for the disk.
//!
//! Space below a disk can end although the disk is sound: it is a thin volume, a sparse file, a file with a quota. What is on it
//! is as good as before, and one command of an administrator makes room. So the answer to "no space" is a choice of its own,
//! beside `on-io-error`. It is for writes alone, metadata among them: a read needs no room, and a flush that says "no
//! space" has lost what it should have made durable, which no second flush brings back: that is an I/O error.

use crate::config::{OnIoError, OnNoSpace};
use crate::state::{DiskState, Role};

/// What is looked at when a write meets a full disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Met {
    /// `on-no-space`.
    pub policy: OnNoSpace,
    /// The disk's state.
    pub disk: DiskState,
    /// It is lost, or an administrator has given it up.
    pub given_up: bool,
}

/// What becomes of the write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is kept, and tried again until there is space.
    Wait,
    /// It fails.
    Fail,
}

/// What becomes of a write that meets a full disk. Nobody waits for a disk that is on its way out; a disk on its way in is
/// waited for, since nobody would come back to attach it.
pub fn met(met: Met) -> Verdict {
    match met.policy {
        OnNoSpace::Suspend if !met.given_up && is_staying(met.disk) => Verdict::Wait,
        OnNoSpace::Suspend | OnNoSpace::Detach | OnNoSpace::PassOn => Verdict::Fail,
    }
}

fn is_staying(disk: DiskState) -> bool {
    disk == DiskState::Attaching || disk > DiskState::Failed
}

/// What is looked at when I/O on the data disk has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failed {
    /// It was a write, and there was no space for it.
    pub no_space: bool,
    /// `on-io-error`.
    pub on_io_error: OnIoError,
    /// `on-no-space`.
    pub on_no_space: OnNoSpace,
    /// The disk's state.
    pub disk: DiskState,
    /// Our role.
    pub role: Role,
    /// The peer is sent our writes.
    pub replicates: bool,
}

/// What the failure means for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consequence {
    /// It stays what it is.
    Keep,
    /// It becomes Inconsistent: somebody else has, or may have, what it lacks.
    Degrade,
    /// It is given up.
    Detach,
}

/// What a failed I/O means for the disk. With `pass_on`, a full disk that nobody else is sent the writes of stays what it is:
/// its user hears of the write that has failed, nobody has it, and all others are on the disk.
pub fn failed(failed: Failed) -> Consequence {
    let pass_on = match (failed.no_space, failed.on_no_space) {
        (true, OnNoSpace::Detach) => false,
        (true, OnNoSpace::PassOn) => true,
        // (Who waits for space fails only with a disk that goes.)
        (true, OnNoSpace::Suspend) | (false, _) => failed.on_io_error == OnIoError::PassOn,
    };
    let alone = failed.role == Role::Primary && !failed.replicates;
    match pass_on {
        false if failed.disk > DiskState::Failed => Consequence::Detach,
        true if failed.no_space && alone => Consequence::Keep,
        true if failed.disk > DiskState::Inconsistent => Consequence::Degrade,
        _ => Consequence::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISKS: [DiskState; 9] = [
        DiskState::Diskless,
        DiskState::Attaching,
        DiskState::Failed,
        DiskState::Negotiating,
        DiskState::Inconsistent,
        DiskState::Outdated,
        DiskState::DUnknown,
        DiskState::Consistent,
        DiskState::UpToDate,
    ];
    const SPACES: [OnNoSpace; 3] = [OnNoSpace::Detach, OnNoSpace::Suspend, OnNoSpace::PassOn];

    #[test]
    fn only_suspend_waits_and_only_for_a_disk_that_stays() {
        for policy in SPACES {
            for disk in DISKS {
                for given_up in [false, true] {
                    let waits = met(Met {
                        policy,
                        disk,
                        given_up,
                    }) == Verdict::Wait;
                    let gone = matches!(disk, DiskState::Diskless | DiskState::Failed);
                    let stays = !given_up && !gone;
                    assert_eq!(waits, policy == OnNoSpace::Suspend && stays);
                }
            }
        }
    }

    #[test]
    fn what_a_failure_means_over_the_whole_universe() {
        use Consequence::{Degrade, Detach, Keep};
        for on_io_error in [
            OnIoError::PassOn,
            OnIoError::Detach,
            OnIoError::CallLocalIoError,
        ] {
            for on_no_space in SPACES {
                for disk in DISKS {
                    for replicates in [false, true] {
                        for role in [Role::Primary, Role::Secondary] {
                            let of = |no_space| {
                                failed(Failed {
                                    no_space,
                                    on_io_error,
                                    on_no_space,
                                    disk,
                                    role,
                                    replicates,
                                })
                            };
                            let gone = disk <= DiskState::Failed;
                            let detach = if gone { Keep } else { Detach };
                            let degrade = if disk > DiskState::Inconsistent {
                                Degrade
                            } else {
                                Keep
                            };
                            let plain = match on_io_error {
                                OnIoError::PassOn => degrade,
                                OnIoError::Detach | OnIoError::CallLocalIoError => detach,
                            };
                            assert_eq!(of(false), plain);
                            let only = role == Role::Primary && !replicates;
                            let full = match on_no_space {
                                OnNoSpace::Detach => detach,
                                OnNoSpace::PassOn if only => Keep,
                                OnNoSpace::PassOn => degrade,
                                OnNoSpace::Suspend if plain == Degrade && only => Keep,
                                OnNoSpace::Suspend => plain,
                            };
                            assert_eq!(of(true), full, "{disk} {replicates} {on_no_space:?}");
                        }
                    }
                }
            }
        }
    }
}
