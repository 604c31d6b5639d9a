//! What a promotion has come to: what it was refused with, and what was tried since (`docs/spec/behaviour.md`, section 12.1).

use crate::ids::Time;
use crate::rules::promotion::{self, Means, after_fencing, can_be_forced, fences_first};
use crate::state::{Change, StateError, VolumeState};

/// One promotion.
#[derive(Debug, Default)]
pub(crate) struct Promotion {
    /// The local disk is to be declared UpToDate by force.
    forced: bool,
    /// It was tried again beside another Primary: one of the nodes may have been about to find out that the other is gone.
    retried: bool,
    /// What has been asked of the fence procedure.
    fence: Fencing,
    /// The record that is waited for to change, and when that has lasted long enough.
    waits: Option<(VolumeState, Time)>,
    /// It has. Cleared when the record changes.
    settled: bool,
}

/// Where it is with the fence procedure. The handler is run once: a second answer a moment later is worth no more than the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fencing {
    /// It has not been needed.
    #[default]
    NotAsked,
    /// It is under way, and what the promotion was refused with.
    Asked(StateError),
    /// The peer is fenced: a disk that was Consistent is UpToDate.
    Fenced,
    /// It is not, and the administrator has ordered to go on all the same.
    Forced,
}

/// What decides how it goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// The administrator has ordered it by force.
    pub force: bool,
    /// The volume's record of state.
    pub state: VolumeState,
    /// The peer is away: it can be fenced.
    pub away: bool,
    /// The peer's disks are all too bad to go on with.
    pub fenced: bool,
}

/// What comes after a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is tried again, with another change.
    Again,
    /// The same, and two nodes may go on by themselves.
    AgainBesideThePeer,
    /// The peer is to be fenced.
    Fence,
    /// It is tried again after a pause.
    Pause,
    /// It is over.
    Refused(StateError),
}

/// What comes of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It begins, and is long enough at this time.
    Until(Time),
    /// It is long enough now.
    Over,
    /// It goes on, or has been long enough before.
    On,
}

impl Promotion {
    /// What is asked for.
    pub(crate) fn change(&self, facts: &Facts) -> Change {
        let means = Means {
            forced: self.forced,
            fenced: self.fence == Fencing::Fenced && facts.away && facts.fenced,
            unfenced: self.fence == Fencing::Forced,
        };
        promotion::wish(facts.state.disk, means)
    }

    /// The change was refused.
    pub(crate) fn refused(&mut self, error: StateError, facts: &Facts) -> Next {
        let state = &facts.state;
        let may_be_forced = facts.force && !self.forced && can_be_forced(state.disk);
        let may_fence = self.fence == Fencing::NotAsked;
        if error == StateError::NoUpToDateDisk && may_be_forced {
            self.forced = true;
            Next::Again
        } else if may_fence && fences_first(error, state, facts.away) {
            // Alone this node is Primary only if the peer cannot become so too.
            self.fence = Fencing::Asked(error);
            Next::Fence
        } else if error == StateError::TwoPrimaries && !self.retried {
            self.retried = true;
            Next::Pause
        } else {
            Next::Refused(error)
        }
    }

    /// The fence procedure has come to its end. Nothing if it was not asked for.
    pub(crate) fn fencing_ended(&mut self, facts: &Facts) -> Option<Next> {
        let Fencing::Asked(refusal) = self.fence else {
            return None;
        };
        let by_force = facts.force && refusal == StateError::PrimaryNop;
        let (fence, next) = match after_fencing(&facts.state, facts.away, facts.fenced, by_force) {
            promotion::AfterFencing::Refused => (self.fence, Next::Refused(refusal)),
            promotion::AfterFencing::AsksAgain => (Fencing::NotAsked, Next::Again),
            promotion::AfterFencing::GoesOn => (Fencing::Fenced, Next::Again),
            promotion::AfterFencing::ByForce => (Fencing::Forced, Next::AgainBesideThePeer),
        };
        self.fence = fence;
        Some(next)
    }

    /// (L41) It waits beside a peer that has the data, as long as the record changes, and for `patience_ms` when it does not.
    pub(crate) fn wait(&mut self, record: VolumeState, now: Time, patience_ms: u64) -> Wait {
        match self.waits {
            Some((known, at)) if known == record => {
                let is_over = at <= now && !self.settled;
                self.settled |= is_over;
                if is_over { Wait::Over } else { Wait::On }
            }
            _ => {
                let at = now.plus_ms(patience_ms);
                self.settled = false;
                self.waits = Some((record, at));
                Wait::Until(at)
            }
        }
    }

    /// Whether the local disk is declared UpToDate by force.
    pub(crate) fn is_forced(&self) -> bool {
        self.forced
    }

    /// Whether it has waited long enough for the record to change.
    pub(crate) fn has_settled(&self) -> bool {
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{DiskState, Role};

    const ALONE: Facts = Facts {
        force: false,
        state: with_disk(DiskState::UpToDate),
        away: true,
        fenced: false,
    };

    const fn with_disk(disk: DiskState) -> VolumeState {
        VolumeState {
            disk,
            ..VolumeState::INITIAL
        }
    }

    #[test]
    fn what_waits_is_over_once_for_each_record() {
        let mut promotion = Promotion::default();
        let (first, ms) = (VolumeState::INITIAL, |ms| Time(0).plus_ms(ms));
        assert_eq!(promotion.wait(first, ms(0), 10), Wait::Until(ms(10)));
        assert_eq!(promotion.wait(first, ms(9), 10), Wait::On);
        assert_eq!(promotion.wait(first, ms(10), 10), Wait::Over);
        assert!(promotion.has_settled());
        assert_eq!(promotion.wait(first, ms(11), 10), Wait::On);
        let second = VolumeState {
            role: Role::Primary,
            ..first
        };
        assert_eq!(promotion.wait(second, ms(12), 10), Wait::Until(ms(22)));
        assert!(!promotion.has_settled());
    }

    #[test]
    fn the_peer_is_fenced_once() {
        let refusal = StateError::PrimaryNop;
        let fenced = Facts {
            fenced: true,
            ..ALONE
        };
        let mut promotion = Promotion::default();
        assert_eq!(promotion.fencing_ended(&ALONE), None, "nobody has asked");
        assert_eq!(promotion.refused(refusal, &ALONE), Next::Fence);
        assert_eq!(promotion.fencing_ended(&fenced), Some(Next::Again));
        assert_eq!(promotion.change(&fenced), Change::role(Role::Primary));
        let consistent = Facts {
            state: with_disk(DiskState::Consistent),
            ..fenced
        };
        let good = Change::role(Role::Primary).and_disk(DiskState::UpToDate);
        assert_eq!(promotion.change(&consistent), good);
        assert_eq!(promotion.refused(refusal, &ALONE), Next::Refused(refusal));
    }

    #[test]
    fn a_peer_that_could_not_be_fenced_is_passed_by_force_alone() {
        for force in [false, true] {
            let facts = Facts { force, ..ALONE };
            let mut promotion = Promotion::default();
            let refusal = StateError::PrimaryNop;
            assert_eq!(promotion.refused(refusal, &facts), Next::Fence);
            let (next, pdsk) = match force {
                true => (Next::AgainBesideThePeer, Some(DiskState::Outdated)),
                false => (Next::Refused(refusal), None),
            };
            assert_eq!(promotion.fencing_ended(&facts), Some(next));
            assert_eq!(promotion.change(&facts).pdsk, pdsk);
        }
    }

    #[test]
    fn a_disk_without_good_data_is_used_by_force_alone() {
        let error = StateError::NoUpToDateDisk;
        for force in [false, true] {
            for disk in DiskState::ALL.iter().copied() {
                let facts = Facts {
                    force,
                    state: with_disk(disk),
                    away: false,
                    ..ALONE
                };
                let mut promotion = Promotion::default();
                let next = promotion.refused(error, &facts);
                let usable = [
                    DiskState::Inconsistent,
                    DiskState::Outdated,
                    DiskState::Consistent,
                ];
                let forces = force && usable.contains(&disk);
                assert_eq!(promotion.is_forced(), forces, "{disk:?}");
                let expected = if forces {
                    Next::Again
                } else {
                    Next::Refused(error)
                };
                assert_eq!(next, expected);
                assert_eq!(promotion.refused(error, &facts), Next::Refused(error));
            }
        }
    }

    #[test]
    fn beside_another_primary_it_is_tried_twice() {
        let mut promotion = Promotion::default();
        let error = StateError::TwoPrimaries;
        assert_eq!(promotion.refused(error, &ALONE), Next::Pause);
        assert_eq!(promotion.refused(error, &ALONE), Next::Refused(error));
    }
}
