//! What becomes of the connection when what the other side says cannot be worked with.
//!
//! DRBD goes StandAlone, and stays so until an administrator connects again. Whoever reaches the port could do that to
//! a node. So StandAlone is for a peer that has proved itself by `cram-hmac-alg`; from anybody else the connection ends
//! and the node goes on waiting, after a pause that grows. (`docs/ARCHITECTURE.md`, "Where we differ from the driver".)
//! Split brain, unrelated data and sizes are no matter of this table: they end as the driver's do, for the data's sake.

use crate::rules::trouble::Trouble;

/// What was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No common version, or a first packet that is not P_CONNECTION_FEATURES.
    Dialect,
    /// A wrong answer, a challenge that is too short or one of our own, or none.
    Authentication,
    /// Settings that must agree and do not.
    Settings,
    /// A packet on the meta socket that no protocol has.
    UnknownPacket,
}

impl Refusal {
    /// What the administrator is told of it.
    pub(crate) fn trouble(self) -> Trouble {
        match self {
            Refusal::Dialect => Trouble::Dialect,
            Refusal::Authentication => Trouble::Secret,
            Refusal::Settings => Trouble::Settings,
            Refusal::UnknownPacket => Trouble::Broken,
        }
    }
}

/// Where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// For good, until the administrator connects again.
    StandAlone,
    /// To WFConnection, after [`pause_ms`].
    Retry,
}

/// The table. `proven`: the peer of this connection has answered our challenge.
pub(crate) fn ending(refusal: Refusal, proven: bool) -> Ending {
    match refusal {
        Refusal::Settings | Refusal::UnknownPacket if proven => Ending::StandAlone,
        Refusal::Dialect | Refusal::Authentication | Refusal::Settings | Refusal::UnknownPacket => {
            Ending::Retry
        }
    }
}

/// How long to wait after the refusal with this number, counted from 1: a second, twice as long each time, at most
/// `connect-int`. A true peer that comes meanwhile is met at the end of it.
pub(crate) fn pause_ms(refusals: u32, connect_int_s: u64) -> u64 {
    let longest = (connect_int_s * 1000).max(FIRST_PAUSE_MS);
    let doublings = refusals.saturating_sub(1).min(16);
    (FIRST_PAUSE_MS << doublings).min(longest)
}

/// The driver's pause after a failed handshake (`docs/spec/behaviour.md`, section 7.1).
pub(crate) const FIRST_PAUSE_MS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_proved_himself_stops_a_node_for_good() {
        use Refusal::*;
        for refusal in [Dialect, Authentication, Settings, UnknownPacket] {
            assert_eq!(ending(refusal, false), Ending::Retry, "{refusal:?}");
        }
        assert_eq!(ending(Settings, true), Ending::StandAlone);
        assert_eq!(ending(UnknownPacket, true), Ending::StandAlone);
    }

    #[test]
    fn pauses_grow_up_to_connect_int() {
        let pauses = |connect_int_s| [1, 2, 3, 4, 5, u32::MAX].map(|n| pause_ms(n, connect_int_s));
        assert_eq!(pauses(10), [1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(pauses(1), [1000; 6]);
        assert_eq!(pauses(0), [1000; 6]);
        assert_eq!(pause_ms(u32::MAX, 120), 120_000);
    }
}
