//! Why a resync is no faster than it is, as far as this node knows: the target sets the pace.

use core::fmt;

use crate::config::DiskOptions;

/// What the reason depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The options in effect.
    pub options: &'a DiskOptions,
    /// The last step was left out for the sake of application I/O.
    pub gave_way: bool,
    /// What was asked for in the last step, KiB/s.
    pub want_kib: u32,
    /// What came, KiB/s.
    pub rate_kib: u64,
}

/// What bounds the pace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Application I/O goes first; so much is guaranteed, KiB/s.
    Application {
        /// `c-min-rate`.
        min_kib: u32,
    },
    /// `resync-rate`, KiB/s, as there is no controller.
    FixedRate {
        /// `resync-rate`.
        rate_kib: u32,
    },
    /// The controller may not ask for more, KiB/s.
    MaxRate {
        /// `c-max-rate`.
        max_kib: u32,
    },
    /// More is asked for than comes.
    DisksOrNetwork,
}

/// What bounds the pace of a target; `None` if it is still about to find that out.
pub fn limit(facts: &Facts<'_>) -> Option<Limit> {
    let options = facts.options;
    let reaches = |limit_kib: u32| facts.rate_kib * 10 >= u64::from(limit_kib) * 8;
    if facts.gave_way {
        return Some(Limit::Application {
            min_kib: options.c_min_rate_kib,
        });
    }
    if options.c_plan_ahead_ds == 0 && reaches(options.resync_rate_kib) {
        return Some(Limit::FixedRate {
            rate_kib: options.resync_rate_kib,
        });
    }
    if options.c_plan_ahead_ds != 0 && reaches(options.c_max_rate_kib) {
        return Some(Limit::MaxRate {
            max_kib: options.c_max_rate_kib,
        });
    }
    (u64::from(facts.want_kib) > facts.rate_kib * 3 / 2).then_some(Limit::DisksOrNetwork)
}

impl Limit {
    /// A word for programs, which stays the same.
    pub fn word(self) -> &'static str {
        match self {
            Limit::Application { .. } => "application-io",
            Limit::FixedRate { .. } => "resync-rate",
            Limit::MaxRate { .. } => "c-max-rate",
            Limit::DisksOrNetwork => "disks-or-network",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Application { min_kib } => {
                write!(f, "application I/O goes first (c-min-rate {min_kib}K)")
            }
            Limit::FixedRate { rate_kib } => write!(f, "it goes at resync-rate ({rate_kib}K)"),
            Limit::MaxRate { max_kib } => write!(f, "it goes at c-max-rate ({max_kib}K)"),
            Limit::DisksOrNetwork => f.write_str("disks and network give no more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_has_one_bound_at_a_time() {
        let options = |plan, max, rate| DiskOptions {
            c_plan_ahead_ds: plan,
            c_max_rate_kib: max,
            resync_rate_kib: rate,
            c_min_rate_kib: 250,
            ..DiskOptions::default()
        };
        let application = Some(Limit::Application { min_kib: 250 });
        let fixed = Some(Limit::FixedRate { rate_kib: 1000 });
        let max = Some(Limit::MaxRate { max_kib: 4000 });
        let slow = Some(Limit::DisksOrNetwork);
        for (plan, gave_way, want_kib, rate_kib, expected) in [
            (20, true, 4000, 300, application),
            (0, true, 1000, 300, application),
            (0, false, 1000, 990, fixed),
            (0, false, 1000, 500, slow),
            (20, false, 4000, 3900, max),
            (20, false, 3000, 1000, slow),
            (20, false, 1100, 1000, None),
        ] {
            let options = options(plan, 4000, 1000);
            let facts = Facts {
                options: &options,
                gave_way,
                want_kib,
                rate_kib,
            };
            assert_eq!(limit(&facts), expected, "{facts:?}");
        }
    }
}
