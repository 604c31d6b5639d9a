//! What is to happen later: one slot a timer, few of them.

use rdb_engine::{Time, Timer};

use replica_proto::Socket;

/// Who waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slot {
    /// The engine.
    Engine(Timer),
    /// Pairing has something to do.
    Pairing,
    /// A socket may have made no progress.
    Stall(Socket),
    /// Closed connections may have lasted too long.
    Closing,
    /// NBD clients may have been silent for too long.
    Clients,
    /// The file of the NBD socket may have been removed.
    NbdSocket,
    /// Lines that are left out of the log are summed up.
    LogSums,
    /// Buffers that nobody needs go back to the system.
    Buffers,
    /// What has found no thread is tried again.
    Helpers,
}

/// The timers, in no order: with few of them a scan is quicker than a tree, and it allocates nothing.
#[derive(Default)]
pub(crate) struct Timers {
    slots: Vec<(Slot, Time)>,
}

impl Timers {
    /// Sets or moves a timer.
    pub(crate) fn set(&mut self, slot: Slot, at: Time) {
        match self.slots.iter_mut().find(|(other, _)| *other == slot) {
            Some((_, time)) => *time = at,
            None => self.slots.push((slot, at)),
        }
    }

    /// Takes a timer back, if it is set.
    pub(crate) fn clear(&mut self, slot: Slot) {
        if let Some(index) = self.slots.iter().position(|(other, _)| *other == slot) {
            self.slots.swap_remove(index);
        }
    }

    /// Whether a timer is set.
    pub(crate) fn is_set(&self, slot: Slot) -> bool {
        self.slots.iter().any(|(other, _)| *other == slot)
    }

    /// When the first one expires.
    pub(crate) fn next(&self) -> Option<Time> {
        self.slots.iter().map(|&(_, at)| at).min()
    }

    /// Takes one that has expired, the earliest first.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Slot> {
        let (index, at) = self
            .slots
            .iter()
            .map(|&(_, at)| at)
            .enumerate()
            .min_by_key(|&(_, at)| at)?;
        (at <= now).then(|| self.slots.swap_remove(index).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdb_engine::{ConnId, ConnTimer};

    #[test]
    fn timers_expire_in_order_once() {
        let mut timers = Timers::default();
        timers.set(Slot::Pairing, Time(30));
        timers.set(
            Slot::Engine(Timer::Connection(ConnId::FIRST, ConnTimer::Keepalive)),
            Time(10),
        );
        timers.set(Slot::Closing, Time(20));
        timers.set(Slot::Pairing, Time(5));
        assert_eq!(timers.next(), Some(Time(5)));
        assert_eq!(timers.pop(Time(4)), None);
        assert_eq!(timers.pop(Time(15)), Some(Slot::Pairing));
        assert_eq!(
            timers.pop(Time(15)),
            Some(Slot::Engine(Timer::Connection(
                ConnId::FIRST,
                ConnTimer::Keepalive
            )))
        );
        assert_eq!(timers.pop(Time(15)), None);
        assert!(timers.is_set(Slot::Closing));
        timers.clear(Slot::Closing);
        assert_eq!(timers.next(), None);
    }
}
