//! Pings of one connection: whether the peer lives, and who waits until it has answered (`docs/spec/wire.md`, section 12).

use alloc::vec::Vec;

use crate::ids::{Time, VolumeNr};

/// Who waits for an answered ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PingWaiter {
    Admin,
    ResyncSource(VolumeNr),
    ResyncTarget(VolumeNr),
    Verify(VolumeNr),
    LossUnrecorded(VolumeNr),
    Negotiation(VolumeNr),
}

/// What has gone out and come back.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    /// When the peer was heard last, by whatever packet.
    heard_at: Time,
    /// Since when a ping is not answered.
    unanswered_since: Option<Time>,
    sent: u64,
    acked: u64,
    /// Who waits for the answer to the ping of this number.
    waiters: Vec<(u64, PingWaiter)>,
}

/// What the time makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// The peer does not answer.
    Dead,
    /// A ping.
    Ping,
    /// Nothing before this.
    At(Time),
}

impl Pings {
    /// A connection begins.
    pub(crate) fn begin(now: Time) -> Pings {
        Pings {
            heard_at: now,
            ..Pings::default()
        }
    }

    /// The connection is gone: nobody waits for answers.
    pub(crate) fn end(&mut self) {
        self.waiters.clear();
        self.unanswered_since = None;
    }

    /// Something has come.
    pub(crate) fn hear(&mut self, now: Time) {
        self.heard_at = now;
    }

    /// A ping goes out. Says whether it is the first of those that are not answered.
    pub(crate) fn send(&mut self, waiter: Option<PingWaiter>, now: Time) -> bool {
        self.sent += 1;
        if let Some(waiter) = waiter {
            // (Who waits already, for an older ping that was not answered, waits for this one now.)
            self.waiters.retain(|&(_, other)| other != waiter);
            self.waiters.push((self.sent, waiter));
        }
        let first = self.unanswered_since.is_none();
        self.unanswered_since = self.unanswered_since.or(Some(now));
        first
    }

    /// An answer has come. Says who has waited for it; nothing if there was no ping.
    pub(crate) fn answer(&mut self) -> Option<Vec<PingWaiter>> {
        if self.acked == self.sent {
            return None;
        }
        self.acked += 1;
        if self.acked == self.sent {
            self.unanswered_since = None;
        }
        let acked = self.acked;
        let due = self.waiters.extract_if(.., |(nr, _)| *nr <= acked);
        Some(due.map(|(_, waiter)| waiter).collect())
    }

    /// Whether every ping is answered.
    pub(crate) fn are_answered(&self) -> bool {
        self.unanswered_since.is_none()
    }

    /// What is due, if a silent peer is asked after `interval` and has `limit` to answer, in milliseconds. What has come meanwhile,
    /// on either socket, shows that it lives (section 12.1).
    pub(crate) fn due(&self, now: Time, interval: u64, limit: u64) -> Due {
        let quiet_ms = now.ms_since(self.heard_at);
        let (most, over) = match self.are_answered() {
            false => (limit, Due::Dead),
            true => (interval, Due::Ping),
        };
        if quiet_ms >= most {
            over
        } else {
            Due::At(self.heard_at.plus_ms(most))
        }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiters.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: PingWaiter = PingWaiter::Admin;
    const VERIFY: PingWaiter = PingWaiter::Verify(VolumeNr(0));

    #[test]
    fn each_waits_for_the_answer_to_the_newest_of_its_pings() {
        let mut pings = Pings::begin(Time(0));
        assert_eq!(pings.answer(), None, "no ping, no answer");
        assert!(pings.send(Some(ADMIN), Time(0)));
        assert!(!pings.send(Some(VERIFY), Time(0)));
        assert!(!pings.send(Some(ADMIN), Time(0)));
        assert_eq!(pings.waiting(), 2);
        assert_eq!(pings.answer(), Some(alloc::vec![]));
        assert_eq!(pings.answer(), Some(alloc::vec![VERIFY]));
        assert!(!pings.are_answered());
        assert_eq!(pings.answer(), Some(alloc::vec![ADMIN]));
        assert!(pings.are_answered());
        assert_eq!(pings.answer(), None);
    }

    #[test]
    fn a_silent_peer_is_asked_and_then_given_up() {
        let ms = |ms| Time(0).plus_ms(ms);
        let mut pings = Pings::begin(ms(0));
        assert_eq!(pings.due(ms(9), 10, 3), Due::At(ms(10)));
        assert_eq!(pings.due(ms(10), 10, 3), Due::Ping);
        assert!(pings.send(None, ms(10)));
        pings.hear(ms(11));
        assert_eq!(pings.due(ms(13), 10, 3), Due::At(ms(14)), "it lives");
        assert_eq!(pings.due(ms(14), 10, 3), Due::Dead);
        pings.answer();
        assert_eq!(pings.due(ms(14), 10, 3), Due::At(ms(21)));
    }
}
