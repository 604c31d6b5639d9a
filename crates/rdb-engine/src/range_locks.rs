//! Who holds which range of a volume's disk, and who waits for one.
//!
//! Writes that overlap reach the disk in the order they came in. One that must wait knows how many waiting writes it comes
//! behind; when those have begun, it waits for one held range at a time. So nobody looks at all that wait when one range
//! becomes free: what a peer queues costs time in proportion to its number.
//!
//! Reads wait behind writes. A peer that asks for a block again and again, and holds it until it has acknowledged it, so never
//! passes a user's write that waits. Users' writes that follow each other without a gap would keep a resync's read away just as
//! well: a read that waited for a user's write has a turn when that ends, before the users' writes that wait, unless one of
//! them has waited for [`PASSED_MS`].
//!
//! Invariant: a waiting write that is behind none, and whose turn has come, waits for a range that is held, or has been
//! woken; between events nobody is woken who has not been looked at ([`RangeLocks::check`]).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::ids::{PeerKey, RequestKey, Time};
use crate::interval::Intervals;
use crate::span::Span;

/// Who holds a range of the local disk against overlapping I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// An application write, from its admission until it is done here and answered by the peer.
    Application(RequestKey),
    /// A mirrored write, while it runs.
    Mirrored(PeerKey),
    /// Resync: on the source from the read to the target's answer, on the target while its data is written.
    Resync,
    /// Verify: from the read to the result.
    Verify,
}

/// How long a user's write may be passed by reads that have a turn, in milliseconds.
const PASSED_MS: u64 = 1000;

/// A write that waits, in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// A read that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReadTicket(u64);

/// What kind of write waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queued {
    Mirrored(PeerKey),
    /// Data of a resync.
    Resync,
    /// Of a user of this node.
    Application(RequestKey),
}

/// Who may try again, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Waiter {
    /// A read that has a turn before users' writes.
    Turn(ReadTicket),
    Write(Ticket),
    Read(ReadTicket),
}

#[derive(Debug, Default)]
pub(crate) struct RangeLocks {
    held: Intervals<Holder>,
    /// Who waits for the end of the range that starts here.
    waiters: BTreeMap<u64, Vec<Waiter>>,
    queue: BTreeMap<Ticket, Waiting>,
    /// Users' writes in the queue.
    users: usize,
    /// Start to end and write: the newest that waits for these sectors. Some have begun meanwhile.
    newest: BTreeMap<u64, (u64, Ticket)>,
    woken: BTreeSet<Waiter>,
    /// Those that are woken are being looked at. Set when that begins, cleared when nobody is left. Without it one that ends at
    /// once would look at the others from within, each one deeper than the one before.
    looking: bool,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    what: Queued,
    span: Span,
    since: Time,
    /// Waiting writes that it comes behind.
    behind: u32,
    /// Its turn has not come for another reason.
    gated: bool,
    followers: Vec<Waiter>,
}

impl Waiting {
    fn is_of_user(&self) -> bool {
        matches!(self.what, Queued::Application(_))
    }
}

impl RangeLocks {
    /// Takes sectors that nobody holds.
    pub(crate) fn insert(&mut self, span: Span, holder: Holder) {
        self.held.insert(span, holder);
    }

    /// The holder of the range that starts exactly at `start`.
    pub(crate) fn holder_at(&self, start: u64) -> Option<Holder> {
        self.held.holder_at(start)
    }

    /// How many ranges are held.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Gives the range that starts at `start` back, and wakes who waited for it.
    pub(crate) fn remove(&mut self, start: u64) {
        let of_user = matches!(self.held.holder_at(start), Some(Holder::Application(_)));
        if self.held.remove(start)
            && let Some(waiters) = self.waiters.remove(&start)
        {
            let woken = waiters.into_iter().map(|waiter| match waiter {
                Waiter::Read(read) if of_user => Waiter::Turn(read),
                other => other,
            });
            self.woken.extend(woken);
        }
    }

    /// Whether a write of this range has to wait.
    pub(crate) fn is_taken(&mut self, span: Span) -> bool {
        self.held.overlapping(span).is_some() || self.first_queued(span).is_some()
    }

    /// How many writes wait.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// How many writes of users wait.
    pub(crate) fn users_queued(&self) -> usize {
        self.users
    }

    /// Puts a write behind all that wait and overlap. `gated`: it waits for [`RangeLocks::open_gate`] as well; otherwise it
    /// is woken at once if it is behind none.
    pub(crate) fn queue(&mut self, span: Span, what: Queued, gated: bool, now: Time) -> Ticket {
        let (start, end) = (span.sector, span.end());
        let ticket = Ticket(self.next);
        self.next += 1;
        let mut behind = 0;
        while let Some((first, last, other)) = self.newest_in(span) {
            self.newest.remove(&first);
            let Some(waiting) = self.queue.get_mut(&other) else {
                continue;
            };
            if first < start {
                self.newest.insert(first, (start, other));
            }
            if last > end {
                self.newest.insert(end, (last, other));
            }
            // (It can be the newest of several pieces of the range.)
            if waiting.followers.last() != Some(&Waiter::Write(ticket)) {
                waiting.followers.push(Waiter::Write(ticket));
                behind += 1;
            }
        }
        self.newest.insert(start, (end, ticket));
        let waiting = Waiting {
            what,
            span,
            since: now,
            behind,
            gated,
            followers: Vec::new(),
        };
        self.users += usize::from(waiting.is_of_user());
        self.queue.insert(ticket, waiting);
        self.wake_if_due(ticket);
        self.sweep();
        ticket
    }

    /// The turn of a write has come, as far as it depends on anything but ranges.
    pub(crate) fn open_gate(&mut self, ticket: Ticket) {
        if let Some(waiting) = self.queue.get_mut(&ticket) {
            waiting.gated = false;
            self.wake_if_due(ticket);
        }
    }

    /// Whether those that are woken are to be looked at, one after the other, until [`RangeLocks::next_woken`] has nobody: not if
    /// that is being done.
    pub(crate) fn begin_to_look(&mut self) -> bool {
        !core::mem::replace(&mut self.looking, true)
    }

    /// Somebody who may try again. When there is nobody, all have been looked at.
    pub(crate) fn next_woken(&mut self) -> Option<Waiter> {
        let woken = self.woken.pop_first();
        self.looking = woken.is_some();
        woken
    }

    /// Lets a woken write go, if nothing is in its way now; else it is woken again.
    pub(crate) fn admit(&mut self, ticket: Ticket) -> Option<Queued> {
        let waiting = self.queue.get(&ticket)?;
        if waiting.behind > 0 || waiting.gated {
            return None;
        }
        if let Some((holds, _)) = self.held.overlapping(waiting.span) {
            let waiters = self.waiters.entry(holds).or_default();
            waiters.push(Waiter::Write(ticket));
            return None;
        }
        let what = waiting.what;
        self.leave(ticket);
        Some(what)
    }

    /// A waiting write is of no more use.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        let Some(gone) = self.queue.remove(&ticket) else {
            return;
        };
        self.users -= usize::from(gone.is_of_user());
        for follower in gone.followers {
            match follower {
                Waiter::Write(next) => {
                    if let Some(waiting) = self.queue.get_mut(&next) {
                        waiting.behind -= 1;
                        self.wake_if_due(next);
                    }
                }
                Waiter::Turn(_) | Waiter::Read(_) => {
                    self.woken.insert(follower);
                }
            }
        }
    }

    /// A number for a read that may have to wait.
    pub(crate) fn read_ticket(&mut self) -> ReadTicket {
        self.next += 1;
        ReadTicket(self.next - 1)
    }

    /// Whether something is in the way of a read; then it is woken when that is gone. `turn`: now, if it has a turn.
    pub(crate) fn holds_up(&mut self, span: Span, read: ReadTicket, turn: Option<Time>) -> bool {
        let waiter = Waiter::Read(read);
        if !turn.is_some_and(|now| self.may_pass_users(now))
            && let Some(ticket) = self.first_queued(span)
            && let Some(waiting) = self.queue.get_mut(&ticket)
        {
            waiting.followers.push(waiter);
            return true;
        }
        if let Some((holds, _)) = self.held.overlapping(span) {
            self.waiters.entry(holds).or_default().push(waiter);
            return true;
        }
        false
    }

    /// Whether nobody but users' writes waits, and none of them for long.
    fn may_pass_users(&self, now: Time) -> bool {
        let oldest = self.queue.first_key_value().map(|(_, waiting)| waiting);
        self.users == self.queue.len()
            && oldest.is_none_or(|waiting| now.ms_since(waiting.since) < PASSED_MS)
    }

    /// Lets somebody try again for another reason than a range.
    pub(crate) fn wake(&mut self, waiter: Waiter) {
        self.woken.insert(waiter);
    }

    fn wake_if_due(&mut self, ticket: Ticket) {
        if self
            .queue
            .get(&ticket)
            .is_some_and(|w| w.behind == 0 && !w.gated)
        {
            self.woken.insert(Waiter::Write(ticket));
        }
    }

    /// The first piece of `newest` that overlaps.
    fn newest_in(&self, span: Span) -> Option<(u64, u64, Ticket)> {
        let (start, end) = (span.sector, span.end());
        let before = self.newest.range(..start).next_back();
        let before = before.filter(|(_, (last, _))| *last > start);
        let piece = before.or_else(|| self.newest.range(start..end).next());
        piece.map(|(&first, &(last, ticket))| (first, last, ticket))
    }

    /// Some write that waits and overlaps.
    fn first_queued(&mut self, span: Span) -> Option<Ticket> {
        while let Some((first, _, ticket)) = self.newest_in(span) {
            if self.queue.contains_key(&ticket) {
                return Some(ticket);
            }
            self.newest.remove(&first);
        }
        None
    }

    /// Forgets the pieces of writes that wait no more, before they outnumber the others by far.
    fn sweep(&mut self) {
        if self.newest.len() > 64 + 4 * self.queue.len() {
            let queue = &self.queue;
            self.newest
                .retain(|_, (_, ticket)| queue.contains_key(ticket));
        }
    }

    /// # Panics
    /// If somebody may try again and was not let.
    pub(crate) fn check(&self) {
        assert!(
            self.woken.is_empty(),
            "woken and not looked at: {:?}",
            self.woken
        );
        assert!(!self.looking, "nobody looks any more at who is woken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use proptest::prelude::*;

    /// The same by looking at everything that came before.
    #[derive(Default)]
    struct Slow {
        queue: VecDeque<(usize, u64, u64)>,
        running: Vec<(usize, u64, u64)>,
    }

    fn overlaps(a: (u64, u64), b: (u64, u64)) -> bool {
        a.0 < b.1 && b.0 < a.1
    }

    impl Slow {
        fn start(&mut self) -> Vec<usize> {
            let mut started = Vec::new();
            let mut passed: Vec<(u64, u64)> = Vec::new();
            let (queue, running) = (&mut self.queue, &mut self.running);
            queue.retain(|&(key, start, end)| {
                let free = !passed.iter().any(|&p| overlaps(p, (start, end)))
                    && !running.iter().any(|r| overlaps((r.1, r.2), (start, end)));
                match free {
                    true => {
                        running.push((key, start, end));
                        started.push(key);
                    }
                    false => passed.push((start, end)),
                }
                !free
            });
            started
        }
    }

    #[derive(Default)]
    struct Fast {
        locks: RangeLocks,
        ranges: BTreeMap<usize, (u64, u64)>,
    }

    impl Fast {
        fn start(&mut self) -> Vec<usize> {
            let mut started = Vec::new();
            while let Some(waiter) = self.locks.next_woken() {
                let Waiter::Write(ticket) = waiter else {
                    continue;
                };
                if let Some(Queued::Mirrored(key)) = self.locks.admit(ticket) {
                    let (start, end) = self.ranges[&key];
                    self.locks
                        .insert(Span::between(start, end), Holder::Mirrored(key));
                    started.push(key);
                }
            }
            self.locks.check();
            started
        }
    }

    proptest! {
        #[test]
        fn starts_what_looking_at_everything_would(
            ops in proptest::collection::vec((0_u64..60, 1_u64..20, 0_u8..5), 0..120)
        ) {
            let (mut slow, mut fast) = (Slow::default(), Fast::default());
            let mut gates = VecDeque::new();
            for (key, (start, len, what)) in ops.into_iter().enumerate() {
                let end = start + len;
                if what < 2 {
                    // A write arrives; sometimes its turn comes later, but in order.
                    fast.ranges.insert(key, (start, end));
                    let gated = what == 1 || !gates.is_empty();
                    let ticket = fast.locks.queue(Span::between(start, end), Queued::Mirrored(key), gated, Time(0));
                    if gated {
                        gates.push_back((ticket, key, start, end));
                    } else {
                        slow.queue.push_back((key, start, end));
                    }
                } else if what == 2 {
                    while let Some((ticket, key, start, end)) = gates.pop_front() {
                        fast.locks.open_gate(ticket);
                        slow.queue.push_back((key, start, end));
                    }
                } else if !slow.running.is_empty() {
                    let at = len as usize % slow.running.len();
                    let (_, start, _) = slow.running.remove(at);
                    fast.locks.remove(start);
                }
                let (mut a, mut b) = (slow.start(), fast.start());
                a.sort_unstable();
                b.sort_unstable();
                prop_assert_eq!(a, b);
            }
        }

        #[test]
        fn no_read_is_forgotten(
            writes in proptest::collection::vec((0_u64..60, 1_u64..20), 1..40),
            reads in proptest::collection::vec((0_u64..60, 1_u64..20), 1..20),
            users in 0_u8..3,
        ) {
            let what = |key: usize| match users == 2 || users == 1 && key.is_multiple_of(2) {
                true => (Queued::Application(key), Holder::Application(key)),
                false => (Queued::Mirrored(key), Holder::Mirrored(key)),
            };
            let mut fast = Fast::default();
            for (key, &(start, len)) in writes.iter().enumerate() {
                fast.ranges.insert(key, (start, start + len));
                fast.locks.queue(Span::between(start, start + len), what(key).0, false, Time(0));
            }
            let mut waiting: BTreeMap<ReadTicket, (u64, u64)> = BTreeMap::new();
            for (start, len) in reads {
                let ticket = fast.locks.read_ticket();
                if fast.locks.holds_up(Span::between(start, start + len), ticket, None) {
                    waiting.insert(ticket, (start, start + len));
                }
            }
            let mut running = Vec::new();
            loop {
                while let Some(waiter) = fast.locks.next_woken() {
                    match waiter {
                        Waiter::Write(ticket) => {
                            let admitted = fast.locks.admit(ticket);
                            if let Some(Queued::Mirrored(key) | Queued::Application(key)) = admitted {
                                let (start, end) = fast.ranges[&key];
                                fast.locks.insert(Span::between(start, end), what(key).1);
                                running.push(start);
                            }
                        }
                        Waiter::Turn(ticket) | Waiter::Read(ticket) => {
                            let turn = matches!(waiter, Waiter::Turn(_)).then_some(Time(0));
                            let (start, end) = waiting[&ticket];
                            let span = Span::between(start, end);
                            if !fast.locks.holds_up(span, ticket, turn) {
                                let held = fast.locks.held.overlapping(span);
                                prop_assert!(held.is_none());
                                let queued = fast.locks.first_queued(span);
                                prop_assert!(queued.is_none() || turn.is_some() && users == 2);
                                waiting.remove(&ticket);
                            }
                        }
                    }
                }
                match running.pop() {
                    Some(start) => fast.locks.remove(start),
                    None => break,
                }
            }
            prop_assert_eq!(fast.locks.queued(), 0);
            prop_assert!(waiting.is_empty());
        }
    }
    /// One block, a user who writes to it and a peer who reads it, each as often as may be.
    #[derive(Default)]
    struct Block {
        locks: RangeLocks,
        now: Time,
        reads: Vec<ReadTicket>,
        begun: Vec<&'static str>,
    }

    impl Block {
        fn write(&mut self, key: RequestKey) {
            let what = Queued::Application(key);
            self.locks.queue(Span::between(0, 8), what, false, self.now);
            self.settle();
        }

        fn read(&mut self) {
            let ticket = self.locks.read_ticket();
            self.try_read(ticket, None);
        }

        fn try_read(&mut self, ticket: ReadTicket, turn: Option<Time>) {
            if self.locks.holds_up(Span::between(0, 8), ticket, turn) {
                self.reads.push(ticket);
            } else {
                self.locks.insert(Span::between(0, 8), Holder::Resync);
                self.begun.push("read");
            }
        }

        fn settle(&mut self) {
            while let Some(waiter) = self.locks.next_woken() {
                match waiter {
                    Waiter::Write(ticket) => {
                        if let Some(Queued::Application(key)) = self.locks.admit(ticket) {
                            self.locks
                                .insert(Span::between(0, 8), Holder::Application(key));
                            self.begun.push("write");
                        }
                    }
                    Waiter::Turn(ticket) | Waiter::Read(ticket) => {
                        let turn = matches!(waiter, Waiter::Turn(_)).then_some(self.now);
                        self.reads.retain(|&read| read != ticket);
                        let ticket = self.locks.read_ticket();
                        self.try_read(ticket, turn);
                    }
                }
            }
            self.locks.check();
        }

        fn end(&mut self) {
            self.locks.remove(0);
            self.settle();
        }
    }

    #[test]
    fn a_peer_that_asks_again_and_again_passes_no_write_that_waits() {
        let mut block = Block::default();
        block.read();
        block.write(1);
        for _ in 0..3 {
            block.read();
        }
        assert_eq!(block.begun, ["read"]);
        block.end();
        assert_eq!(block.begun, ["read", "write"]);
    }

    #[test]
    fn writes_without_a_gap_and_reads_take_turns() {
        let mut block = Block::default();
        block.write(1);
        block.write(2);
        block.write(3);
        block.read();
        block.read();
        for _ in 0..4 {
            block.end();
        }
        // (The reads came behind the third write.)
        assert_eq!(block.begun, ["write", "write", "write", "read", "read"]);

        let mut block = Block::default();
        block.write(1);
        block.read();
        block.read();
        for key in 2..5 {
            block.write(key);
        }
        for _ in 0..5 {
            block.end();
        }
        // The second read, which the first one kept waiting, comes behind what waits by then.
        let expected = ["write", "read", "write", "write", "write", "read"];
        assert_eq!(block.begun, expected);
    }

    #[test]
    fn a_write_that_has_waited_long_is_passed_no_more() {
        let mut block = Block::default();
        block.write(1);
        block.read();
        block.write(2);
        block.now = Time(0).plus_ms(PASSED_MS);
        block.end();
        assert_eq!(block.begun, ["write", "write"]);
        block.end();
        assert_eq!(block.begun, ["write", "write", "read"]);
    }
}
