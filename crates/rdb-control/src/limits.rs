//! How long a command may take. `docs/commands.md` promises it.

use std::time::Duration;

use crate::op::{Limit, Op};

/// How long a daemon whose socket is not there, or takes nothing, is waited for when nothing else is said. (Between two signs of life
/// there are 5 s.)
pub(crate) const HELLO: Duration = Duration::from_secs(10);

/// How much longer than a snapshot may take its caller waits for the answer, in seconds: its handlers are ended first.
const SNAPSHOT_ANSWER_S: u64 = 30;

/// The limits of one call: DRBD's `cmd-timeout-short`, `-medium` and `-long`; `None` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A daemon that is silent for so long is stuck.
    pub hello: Duration,
    /// Questions and settings.
    pub short: Option<Duration>,
    /// What takes as long as a disk or the peer takes.
    pub medium: Option<Duration>,
    /// Work on metadata as a whole.
    pub long: Option<Duration>,
    /// `--timeout`: takes the place of all, and of a wait's own.
    pub given: Option<Duration>,
}

impl Default for Limits {
    /// DRBD's.
    fn default() -> Limits {
        Limits::of_seconds(5, 121, 600)
    }
}

impl Limits {
    /// In seconds; 0 is none.
    pub fn of_seconds(short: u32, medium: u32, long: u32) -> Limits {
        let limit = |s: u32| (s > 0).then(|| Duration::from_secs(s.into()));
        Limits {
            hello: HELLO,
            short: limit(short),
            medium: limit(medium),
            long: limit(long),
            given: None,
        }
    }

    /// With `--timeout`: one limit for all; 0 is none.
    #[must_use]
    pub fn with_timeout(self, seconds: u32) -> Limits {
        match seconds {
            0 => Limits {
                short: None,
                medium: None,
                long: None,
                ..self
            },
            _ => {
                let limit = Duration::from_secs(seconds.into());
                Limits {
                    hello: self.hello.min(limit),
                    short: Some(limit),
                    medium: Some(limit),
                    long: Some(limit),
                    given: Some(limit),
                }
            }
        }
    }

    /// How long this operation may take.
    pub fn of(&self, op: &Op) -> Option<Duration> {
        if let Op::Snapshot { limit_s, .. } = op {
            // The daemon ends it by then, and says how.
            let answer = u64::from(*limit_s).saturating_add(SNAPSHOT_ANSWER_S);
            return Some(Duration::from_secs(answer));
        }
        match op.limit() {
            Limit::Short => self.short,
            Limit::Medium => self.medium,
            Limit::Own => self.given,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WaitTimes;

    #[test]
    fn each_command_has_its_limit_and_a_given_one_is_for_all() {
        let limits = Limits::default();
        let wait = Op::WaitConnect {
            minor: 0,
            times: WaitTimes::default(),
        };
        let detach = Op::Detach {
            minor: 0,
            force: false,
        };
        let seconds = |limits: Limits, op: &Op| limits.of(op).map(|limit| limit.as_secs());
        assert_eq!(seconds(limits, &Op::Status), Some(5));
        assert_eq!(seconds(limits, &detach), Some(121));
        assert_eq!(seconds(limits, &wait), None);
        let given = limits.with_timeout(3);
        for op in [&Op::Status, &detach, &wait] {
            assert_eq!(seconds(given, op), Some(3));
        }
        assert_eq!(given.hello, Duration::from_secs(3));
        let none = limits.with_timeout(0);
        for op in [&Op::Status, &detach, &wait] {
            assert_eq!(seconds(none, op), None);
        }
        assert_eq!(none.hello, HELLO, "a stuck daemon is found all the same");
    }
}
