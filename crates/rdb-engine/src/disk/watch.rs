//! When a timer looks at what a disk has left unanswered for longest.

use crate::ids::Time;

/// The watch over a disk that may hang.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The timer is set. Set when it is set, cleared when it expires.
    set: bool,
    /// When a disk that is detached by force is waited for no longer. Set by the order, cleared by the timer.
    given_up_at: Option<Time>,
}

impl Watch {
    /// An I/O begins; says whether the timer is still to be set.
    pub(crate) fn begin(&mut self) -> bool {
        !core::mem::replace(&mut self.set, true)
    }

    /// The disk is ordered away by force, and is waited for until then.
    pub(crate) fn give_up_at(&mut self, at: Time) {
        self.given_up_at = Some(at);
        self.set = true;
    }

    /// The timer has expired; says whether the disk was ordered away, and has had its time.
    pub(crate) fn expire(&mut self, now: Time) -> bool {
        self.set = false;
        self.given_up_at.take_if(|at| *at <= now).is_some()
    }

    /// The timer is set once more.
    pub(crate) fn go_on(&mut self) {
        self.set = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_ordered_away_has_its_time() {
        let mut watch = Watch::default();
        assert!(watch.begin() && !watch.begin());
        watch.give_up_at(Time(500));
        assert!(!watch.expire(Time(499)));
        watch.go_on();
        assert!(!watch.begin());
        assert!(watch.expire(Time(500)));
        assert!(!watch.expire(Time(501)), "once");
        assert!(watch.begin());
    }
}
