//! How often the two nodes have met, and how often to no purpose: when to try again, and what is said of another meeting.

use crate::ids::Time;
use crate::net::refusal::pause_ms;

/// The connections that there have been.
#[derive(Debug, Default)]
pub(crate) struct Meetings {
    /// How often the nodes may have met: counted when our parameters go out, since the peer may be Connected as soon as it has them
    /// (L50). Without it a handler would outdate a peer that has come back while it ran.
    count: u32,
    /// Refused since the last that came to something. Cleared by it and by an administrator who connects.
    refusals: u32,
    /// Since when the present connection, or the last one, has sent parameters; nothing if it has not come so far. Set then,
    /// cleared by the next pair. Without it two nodes that cannot stand each other would connect a thousand times a second.
    up_since: Option<Time>,
}

/// A connection that is shorter than this has come to nothing, in milliseconds.
const BRIEF_MS: u64 = 100;

impl Meetings {
    /// An administrator connects, or a connection has come to something: refusals count no more.
    pub(crate) fn forgive(&mut self) {
        self.refusals = 0;
    }

    /// There is a pair of sockets.
    pub(crate) fn begin(&mut self) {
        self.up_since = None;
    }

    /// Our parameters go out.
    pub(crate) fn meet(&mut self) {
        self.count = self.count.wrapping_add(1);
    }

    /// Our parameters are out: the connection is up.
    pub(crate) fn came_up(&mut self, now: Time) {
        self.up_since = Some(now);
    }

    /// The connection was refused.
    pub(crate) fn refuse(&mut self) {
        self.refusals = self.refusals.saturating_add(1);
    }

    /// How long to wait before the next attempt, in milliseconds, and whether for a refusal; nothing if there is no need to. A failure
    /// before the parameters were exchanged is tried again after a second (`docs/spec/behaviour.md`, section 7.1), and so is one right
    /// after.
    pub(crate) fn pause(&self, now: Time, connect_int_s: u64) -> Option<(u64, bool)> {
        let lasted = self.up_since.map(|since| now.ms_since(since));
        let was_brief = lasted.is_none_or(|lasted| lasted < BRIEF_MS);
        let refused = self.refusals > 0;
        (refused || was_brief).then(|| (pause_ms(self.refusals, connect_int_s), refused))
    }

    /// A number that changes whenever the nodes may have met.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// From when the peer can have owed this connection what it has owed since then.
    pub(crate) fn owed_since(&self, since: Time) -> Time {
        self.up_since.map_or(since, |up| since.max(up))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_to_nothing_is_tried_after_a_pause() {
        let mut meetings = Meetings::default();
        meetings.begin();
        let now = Time(0).plus_ms(10_000);
        assert_eq!(meetings.pause(now, 10), Some((1000, false)), "never up");
        meetings.meet();
        meetings.came_up(now);
        assert_eq!(meetings.pause(now.plus_ms(99), 10), Some((1000, false)));
        assert_eq!(meetings.pause(now.plus_ms(100), 10), None);
        meetings.refuse();
        meetings.refuse();
        assert_eq!(meetings.pause(now.plus_ms(100), 10), Some((2000, true)));
        meetings.forgive();
        assert_eq!(meetings.pause(now.plus_ms(100), 10), None);
    }
}
