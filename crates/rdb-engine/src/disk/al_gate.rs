//! The wait for the activity log: which writes may go to the disk, which wait for a transaction or for a slot, and when the next
//! transaction is due. It is the same for users' writes and for mirrored ones.
//!
//! ```text
//!                 extents hot                        leave
//!  enter ──┬──────────────────────────────► inside ─────────►
//!          ├─ a transaction adds them ─► pending ─ commit ─► woken, and inside
//!          └─ no slot is free ─► starved ─ a slot becomes free ─► enters again
//! ```
//!
//! A write that is inside or pending keeps its extents in the log until it leaves. While the log is suspended everybody passes and
//! nobody is inside.

use alloc::collections::btree_map::Entry as Place;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use rdb_meta::activity_log::{Acquire, SealedTransaction};
use rdb_meta::{ActivityLog, AlGeometry, ExtentNr};

use crate::ids::{PeerKey, RequestKey};

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Writer {
    /// A user of this node.
    Own(RequestKey),
    /// A user of the peer.
    Mirrored(PeerKey),
}

/// What a writer hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Write.
    Open,
    /// It is woken when a transaction is on disk.
    Waits {
        /// That transaction is to be queued: nobody has asked for it yet.
        queue: bool,
    },
    /// It is asked to try again when a slot may be free.
    Starves,
}

/// How many of the starved are looked at, in vain, when a slot may have become free.
const STARVED_LOOKED_AT: usize = 64;

/// How many writers [`AlGate::check`] looks at one by one.
const CHECKED_MAX: usize = 256;

/// The activity log of a disk, and who waits for it.
#[derive(Debug)]
pub(crate) struct AlGate {
    log: ActivityLog,
    /// Who has references on which extents: the first and the last.
    inside: BTreeMap<Writer, (ExtentNr, ExtentNr)>,
    /// Those among them whose extents become hot with the transaction of this number, in the order in which they came.
    pending: VecDeque<(u32, Writer)>,
    /// Those that found no slot, who has waited longest first.
    starved: VecDeque<Writer>,
    /// Every block is marked on disk and nobody is connected: there is nothing to log.
    suspended: bool,
    /// A transaction is asked for that has not begun.
    asked: bool,
}

impl AlGate {
    /// The gate of a log that was initialised.
    pub(crate) fn new(geometry: AlGeometry, slots: u32) -> AlGate {
        AlGate {
            log: ActivityLog::new(geometry, slots, 0),
            inside: BTreeMap::new(),
            pending: VecDeque::new(),
            starved: VecDeque::new(),
            suspended: false,
            asked: false,
        }
    }

    // ---- writers -------------------------------------------------------------------------------------------------

    /// Its extents must be hot on disk before any byte of a write is submitted or sent (I3).
    pub(super) fn enter(&mut self, who: Writer, extents: (ExtentNr, ExtentNr)) -> Entry {
        if self.suspended {
            return Entry::Open;
        }
        match self.log.acquire(extents.0, extents.1) {
            Acquire::Granted => {
                self.take_in(who, extents);
                Entry::Open
            }
            Acquire::Pending(transaction) => {
                self.take_in(who, extents);
                self.pending.push_back((transaction, who));
                let queue = !core::mem::replace(&mut self.asked, true);
                Entry::Waits { queue }
            }
            Acquire::Busy => {
                self.starved.push_back(who);
                Entry::Starves
            }
        }
    }

    fn take_in(&mut self, who: Writer, extents: (ExtentNr, ExtentNr)) {
        match self.inside.entry(who) {
            Place::Vacant(place) => place.insert(extents),
            Place::Occupied(_) => unreachable!("a write enters once"),
        };
    }

    /// A pending write waits no longer: a mistake on purpose ([`crate::Bug::SkipActivityLogWait`]). Says whether it was pending.
    pub(crate) fn pass_unlogged(&mut self, who: Writer) -> bool {
        let before = self.pending.len();
        self.pending.retain(|&(_, waits)| waits != who);
        self.pending.len() < before
    }

    /// A write is over. Says whether it was inside: slots may be free then, for those that starve.
    pub(crate) fn leave(&mut self, who: Writer) -> bool {
        let Some((first, last)) = self.inside.remove(&who) else {
            return false;
        };
        self.log.release(first, last);
        true
    }

    /// Those that starve, to try again one after the other, as long as [`AlGate::tries_on`] says so.
    pub(crate) fn take_starved(&mut self) -> VecDeque<Writer> {
        core::mem::take(&mut self.starved)
    }

    /// Those that have waited longest are helped first; the others are not all looked at for each slot.
    pub(crate) fn tries_on(&self) -> bool {
        self.starved.len() < STARVED_LOOKED_AT
    }

    /// Those of [`AlGate::take_starved`] that were not looked at.
    pub(crate) fn put_back(&mut self, rest: VecDeque<Writer>) {
        self.starved.extend(rest);
        if self.starved.is_empty() {
            self.log.forget_starving();
        }
    }

    /// The disk has failed: all who wait, who wait no more.
    pub(crate) fn give_up(&mut self) -> impl Iterator<Item = Writer> + use<> {
        self.log.forget_starving();
        let pending = core::mem::take(&mut self.pending);
        let starved = core::mem::take(&mut self.starved);
        pending.into_iter().map(|(_, who)| who).chain(starved)
    }

    // ---- transactions --------------------------------------------------------------------------------------------

    /// The transaction that was asked for begins, if there is anything to be written still.
    pub(super) fn seal(&mut self) -> Option<SealedTransaction> {
        self.asked = false;
        self.log.seal()
    }

    /// A transaction is durable: those that waited for it, in order.
    pub(crate) fn commit(&mut self, transaction: u32) -> Vec<Writer> {
        self.log.commit(transaction);
        let mut woken = Vec::new();
        self.pending.retain(|&(wanted, who)| {
            if wanted == transaction {
                woken.push(who);
            }
            wanted != transaction
        });
        woken
    }

    /// Whether another transaction is to be queued: extents were collected for it while one was written.
    pub(super) fn ask_for_next(&mut self) -> bool {
        self.log.collected() > 0 && !core::mem::replace(&mut self.asked, true)
    }

    // ---- suspension ----------------------------------------------------------------------------------------------

    /// Nothing is logged from now on. Who is inside stays there.
    pub(super) fn suspend(&mut self) {
        self.suspended = true;
    }

    /// Everything is logged again. Says whether it was not.
    pub(super) fn resume(&mut self) -> bool {
        core::mem::take(&mut self.suspended)
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.suspended
    }

    // ---- questions -----------------------------------------------------------------------------------------------

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.pending.len() + self.starved.len()
    }

    /// Checks what must always hold between two events. Writers are looked at one by one while there are not too many.
    ///
    /// # Panics
    /// If it does not, or if one of them does not exist.
    pub(super) fn check(&self, exists: impl Fn(Writer) -> bool) {
        self.log.check();
        let in_the_way =
            !self.inside.is_empty() || self.log.in_flight().is_some() || self.log.collected() > 0;
        assert!(
            self.starved.is_empty() || in_the_way,
            "who starves waits for nobody"
        );
        assert!(
            !self.log.is_starving() || !self.starved.is_empty(),
            "everybody waits for one who has gone"
        );
        assert!(
            self.log.collected() == 0 || self.asked || self.log.in_flight().is_some(),
            "extents are collected for a transaction that nobody has asked for"
        );
        if self.inside.len() + self.starved.len() <= CHECKED_MAX {
            self.check_writers(exists);
        }
    }

    fn check_writers(&self, exists: impl Fn(Writer) -> bool) {
        for &who in self.inside.keys().chain(&self.starved) {
            assert!(exists(who), "{who:?} has gone without leaving");
        }
        let extents: BTreeSet<u32> = self
            .inside
            .values()
            .flat_map(|(first, last)| first.0..=last.0)
            .collect();
        assert_eq!(
            extents.len(),
            self.log.referenced() as usize,
            "extents with references, and those of the writes inside"
        );
        let waits: BTreeSet<Writer> = self.pending.iter().map(|&(_, who)| who).collect();
        assert_eq!(waits.len(), self.pending.len(), "somebody waits twice");
        for (transaction, who) in &self.pending {
            assert!(self.inside.contains_key(who), "{who:?} waits outside");
            assert!(
                self.log.in_flight() == Some(*transaction) || self.log.next_tr() == *transaction,
                "{who:?} waits for transaction {transaction}, which does not come"
            );
        }
        for who in &self.starved {
            assert!(!self.inside.contains_key(who), "{who:?} starves inside");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(slots: u32) -> AlGate {
        AlGate::new(AlGeometry::DEFAULT, slots)
    }

    fn extent(nr: u32) -> (ExtentNr, ExtentNr) {
        (ExtentNr(nr), ExtentNr(nr))
    }

    /// The transaction that was asked for is written.
    fn write(gate: &mut AlGate) -> Vec<Writer> {
        let sealed = gate.seal().expect("something to write");
        gate.check(|_| true);
        gate.commit(sealed.tr_number)
    }

    use Writer::{Mirrored, Own};

    #[test]
    fn one_transaction_serves_all_who_wait_for_it_in_their_order() {
        let mut gate = gate(8);
        assert_eq!(gate.enter(Own(5), extent(1)), Entry::Waits { queue: true });
        let second = gate.enter(Mirrored(2), extent(2));
        assert_eq!(second, Entry::Waits { queue: false });
        let third = gate.enter(Own(1), extent(1));
        assert_eq!(third, Entry::Waits { queue: false });
        gate.check(|_| true);
        assert_eq!(write(&mut gate), [Own(5), Mirrored(2), Own(1)]);
        assert!(!gate.ask_for_next());
        assert_eq!(gate.enter(Own(7), extent(2)), Entry::Open);
        gate.check(|_| true);
    }

    #[test]
    fn who_comes_while_a_transaction_is_written_waits_for_it_or_for_the_next() {
        let mut gate = gate(8);
        gate.enter(Own(1), extent(1));
        let sealed = gate.seal().unwrap();
        assert_eq!(gate.enter(Own(2), extent(1)), Entry::Waits { queue: true });
        assert_eq!(gate.enter(Own(3), extent(3)), Entry::Waits { queue: false });
        gate.check(|_| true);
        assert_eq!(gate.commit(sealed.tr_number), [Own(1), Own(2)]);
        assert!(!gate.ask_for_next(), "it is asked for already");
        assert_eq!(write(&mut gate), [Own(3)]);
    }

    #[test]
    fn what_was_collected_meanwhile_is_asked_for_once() {
        let mut gate = gate(8);
        gate.enter(Own(1), extent(1));
        let sealed = gate.seal().unwrap();
        gate.enter(Own(2), extent(2));
        assert!(gate.seal().is_none(), "one is being written");
        gate.commit(sealed.tr_number);
        assert!(gate.ask_for_next());
        assert!(!gate.ask_for_next());
        gate.check(|_| true);
    }

    #[test]
    fn who_finds_no_slot_gets_the_first_that_is_free() {
        let mut gate = gate(1);
        gate.enter(Own(1), extent(1));
        write(&mut gate);
        assert_eq!(gate.enter(Own(2), extent(2)), Entry::Starves);
        // Nor does anybody else get one meanwhile, or the first would starve for ever.
        assert_eq!(gate.enter(Mirrored(3), extent(1)), Entry::Starves);
        assert_eq!(gate.waiting(), 2);
        gate.check(|_| true);
        assert!(gate.leave(Own(1)));
        let mut starved = gate.take_starved();
        assert_eq!(starved.pop_front(), Some(Own(2)));
        assert_eq!(gate.enter(Own(2), extent(2)), Entry::Waits { queue: true });
        assert!(gate.tries_on());
        gate.put_back(starved);
        gate.check(|_| true);
        assert_eq!(write(&mut gate), [Own(2)]);
        assert_eq!(gate.waiting(), 1);
    }

    #[test]
    fn those_that_starve_for_long_are_not_all_looked_at() {
        let mut gate = gate(1);
        gate.enter(Own(0), extent(0));
        write(&mut gate);
        for key in 1..=STARVED_LOOKED_AT {
            assert!(gate.tries_on());
            gate.enter(Own(key), extent(1));
        }
        assert!(!gate.tries_on());
    }

    #[test]
    fn nobody_waits_for_a_log_that_is_suspended() {
        let mut gate = gate(1);
        gate.suspend();
        assert_eq!(gate.enter(Own(1), extent(1)), Entry::Open);
        assert_eq!(gate.enter(Own(2), extent(2)), Entry::Open);
        gate.check(|_| false);
        assert!(!gate.leave(Own(1)));
        assert!(gate.resume());
        assert!(!gate.resume());
        gate.check(|_| true);
    }

    #[test]
    fn who_waits_for_a_disk_that_fails_is_let_go_once() {
        let mut gate = gate(1);
        gate.enter(Own(1), extent(1));
        gate.enter(Own(2), extent(2));
        gate.enter(Mirrored(3), extent(3));
        let gone: Vec<Writer> = gate.give_up().collect();
        assert_eq!(gone, [Own(1), Own(2), Mirrored(3)]);
        assert_eq!(gate.give_up().count(), 0);
        assert!(gate.leave(Own(1)) && !gate.leave(Own(2)));
        assert!(gate.inside.is_empty());
    }

    #[test]
    #[should_panic(expected = "which does not come")]
    fn a_wait_for_a_transaction_of_the_past_is_found() {
        let mut gate = gate(8);
        gate.enter(Own(1), extent(1));
        write(&mut gate);
        gate.pending.push_back((0, Own(1)));
        gate.check(|_| true);
    }
}
