//! The peer's writes here, by epoch: which of them may go to the disk, which a flush makes durable, and when it is due.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use replica_proto::BarrierNr;

use crate::ids::{PeerKey, Time};
use crate::range_locks::Ticket;

/// The peer's writes here, by epoch.
#[derive(Debug)]
pub(crate) struct MirrorEpochs {
    /// Oldest first. The last one is open; those before have their barrier.
    epochs: VecDeque<MirrorEpoch>,
    /// How many at the front are complete, and their writes. Goes up when an epoch is ended or its last write, down with a flush.
    /// Without it each write would count all that are gathered.
    complete: (usize, u32),
    /// Writes that must not reach the disk yet, in order.
    waiting: VecDeque<Waiting>,
    /// The number of the epoch at the front; the numbers are ours and only count up.
    first: u64,
    /// The writes that wait are being looked at. Set when that begins, cleared when none may go. Without it a write that ends at
    /// once would let the next one go from within.
    releasing: bool,
    /// Epochs at the front that the flush in flight makes durable, and volumes still flushing.
    flushing: Option<(usize, u32)>,
    /// When the last flush ended.
    flushed_at: Time,
    /// The timer is set that ends the gathering of epochs. Set with it, cleared when it expires: without it each epoch that ends
    /// would put the flush off.
    timer_set: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct MirrorEpoch {
    barrier: Option<BarrierNr>,
    writes: u32,
    unfinished: u32,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    key: PeerKey,
    epoch: u64,
    /// Not before every epoch before its own is durable.
    ordered: bool,
    /// Its place among those who wait for its range, unless it goes at once.
    ticket: Option<Ticket>,
}

/// When complete epochs are flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlushDue {
    /// Something else has to happen first.
    No,
    Now,
    /// When the timer expires, which is to be set.
    At(Time),
}

impl Default for MirrorEpochs {
    fn default() -> Self {
        MirrorEpochs {
            epochs: [MirrorEpoch::default()].into(),
            complete: (0, 0),
            waiting: VecDeque::new(),
            first: 0,
            releasing: false,
            flushing: None,
            flushed_at: Time(0),
            timer_set: false,
        }
    }
}

impl MirrorEpochs {
    /// Epochs that are not acknowledged, the open one included (`ep:`).
    pub(crate) fn len(&self) -> usize {
        self.epochs.len()
    }

    /// How many writes must not reach the disk yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn open(&mut self) -> &mut MirrorEpoch {
        let last = self.epochs.back_mut();
        last.expect("there is always an open epoch")
    }

    /// Counts a write in; returns the number of its epoch.
    pub(crate) fn add(&mut self) -> u64 {
        let open = self.open();
        open.writes += 1;
        open.unfinished += 1;
        self.first + self.epochs.len() as u64 - 1
    }

    /// A barrier ends the open epoch. Says whether it does: an empty one has nothing to acknowledge, and no DRBD ends it.
    ///
    /// # Errors
    /// If too many wait for a flush: what is wrong about the peer.
    pub(crate) fn end_epoch(&mut self, barrier: BarrierNr) -> Result<bool, String> {
        let too_many = self.len() >= EPOCHS_MAX;
        let open = self.open();
        if open.writes == 0 {
            return Ok(false);
        }
        if too_many {
            return Err(format!(
                "{EPOCHS_MAX} epochs of the peer wait for a flush, and it begins another one"
            ));
        }
        open.barrier = Some(barrier);
        self.epochs.push_back(MirrorEpoch::default());
        self.count_complete();
        Ok(true)
    }

    /// A write of this epoch has ended. Says whether the epoch is complete by that.
    pub(crate) fn write_ended(&mut self, epoch: u64) -> bool {
        let index = epoch.checked_sub(self.first);
        let index = index.and_then(|i| usize::try_from(i).ok());
        let Some(epoch) = index.and_then(|i| self.epochs.get_mut(i)) else {
            return false;
        };
        epoch.unfinished -= 1;
        let complete = epoch.is_complete();
        self.count_complete();
        complete
    }

    // ---- which writes may go to the disk -------------------------------------------------------------------------

    /// A write of the open epoch takes its place behind all that wait. `ordered`: it must not reach the disk before every epoch
    /// before its own is durable.
    pub(crate) fn wait(&mut self, key: PeerKey, epoch: u64, ordered: bool) {
        self.waiting.push_back(Waiting {
            key,
            epoch,
            ordered,
            ticket: None,
        });
    }

    /// Whether those that wait are to be looked at, until [`MirrorEpochs::next_released`] has none: not if that is being done.
    pub(crate) fn begin_to_release(&mut self) -> bool {
        !core::mem::replace(&mut self.releasing, true)
    }

    /// Whether the next write waits until what was before it is durable.
    pub(crate) fn is_next_held(&self) -> bool {
        let next = self.waiting.front();
        next.is_some_and(|write| write.ordered && write.epoch != self.first)
    }

    /// The next write that may go to the disk, and the place that it keeps. When there is none, the look is over.
    pub(crate) fn next_released(&mut self) -> Option<(PeerKey, Option<Ticket>)> {
        let held = self.is_next_held();
        let next = if held { None } else { self.waiting.pop_front() };
        self.releasing = next.is_some();
        next.map(|write| (write.key, write.ticket))
    }

    /// Whether this write, the last one to come, waits. Then it [keeps a place](MirrorEpochs::keep_place) for its range.
    pub(crate) fn has_last(&self, key: PeerKey) -> bool {
        self.waiting.back().is_some_and(|last| last.key == key)
    }

    /// Reads and writes that come after the last one see by this that it waits.
    pub(crate) fn keep_place(&mut self, ticket: Ticket) {
        if let Some(last) = self.waiting.back_mut() {
            last.ticket = Some(ticket);
        }
    }

    // ---- which epochs are durable --------------------------------------------------------------------------------

    /// Counts those that have become complete at the front.
    fn count_complete(&mut self) {
        let (count, writes) = &mut self.complete;
        while let Some(epoch) = self.epochs.get(*count).filter(|e| e.is_complete()) {
            *count += 1;
            *writes += epoch.writes;
        }
    }

    /// When what is complete at the front is flushed: now, or together with what follows soon, if the writer lets us gather and
    /// nobody waits for it.
    pub(crate) fn flush_due(&mut self, now: Time, may_gather: bool) -> FlushDue {
        let (complete, writes) = self.complete;
        let due = self.flushed_at.plus_ms(FLUSH_GATHER_MS);
        let gathers = may_gather && self.waiting.is_empty() && writes < FLUSH_GATHER_WRITES;
        if self.flushing.is_some() || complete == 0 {
            FlushDue::No
        } else if !gathers || now >= due {
            FlushDue::Now
        } else if core::mem::replace(&mut self.timer_set, true) {
            FlushDue::No
        } else {
            FlushDue::At(due)
        }
    }

    /// They have been gathered for long enough. Says whether there is something to flush.
    pub(crate) fn timer_expired(&mut self) -> bool {
        self.timer_set = false;
        self.flushing.is_none() && self.complete.0 > 0
    }

    /// What is complete is flushed, by so many volumes. Says whether it is durable already, because there is none.
    pub(crate) fn begin_flush(&mut self, volumes: u32) -> bool {
        self.flushing = Some((self.complete.0, volumes));
        volumes == 0
    }

    /// One of the volumes has ended its flush. Says whether all have.
    pub(crate) fn volume_flushed(&mut self) -> bool {
        let Some((_, volumes)) = &mut self.flushing else {
            return false;
        };
        *volumes -= 1;
        *volumes == 0
    }

    /// All volumes have ended their flush: what is to be acknowledged, each barrier with the number of its writes.
    pub(crate) fn flushed(&mut self, now: Time) -> Vec<(BarrierNr, u32)> {
        let (count, _) = self.flushing.take().unwrap_or_default();
        self.flushed_at = now;
        self.first += count as u64;
        let writes: u32 = self.epochs.range(..count).map(|e| e.writes).sum();
        self.complete.0 -= count;
        self.complete.1 -= writes;
        let durable = self.epochs.drain(..count);
        let acks = durable.filter_map(|epoch| Some((epoch.barrier?, epoch.writes)));
        acks.collect()
    }

    /// # Panics
    /// If no epoch is open, the complete ones are counted wrong, the flush in flight is of one that is not complete, or nobody looks any more at who may go.
    pub(crate) fn check(&self) {
        let open = self.epochs.back();
        assert!(open.is_some_and(|e| e.barrier.is_none()), "no open epoch");
        let complete = self.epochs.iter().take_while(|e| e.is_complete());
        let counted = complete.fold((0, 0), |(n, writes), e| (n + 1, writes + e.writes));
        assert_eq!(self.complete, counted, "complete epochs are counted wrong");
        if let Some((count, volumes)) = self.flushing {
            let last = count.checked_sub(1).and_then(|i| self.epochs.get(i));
            assert!(last.is_some_and(MirrorEpoch::is_complete) && volumes > 0);
        }
        assert!(!self.releasing, "nobody looks any more at who may go");
    }
}

impl MirrorEpoch {
    fn is_complete(&self) -> bool {
        self.barrier.is_some() && self.unfinished == 0
    }
}

/// Received epochs that may wait to be flushed.
pub(crate) const EPOCHS_MAX: usize = 1 << 18;

/// How long acknowledging an epoch may be put off to let one flush serve several. Costs nothing but memory, since the
/// writer waits for barriers with its activity log only; ours are the only writers that let us ([`Agreed::marks_flushes`](crate::net::Agreed::marks_flushes)).
const FLUSH_GATHER_MS: u64 = 50;

/// More waiting writes than this are flushed at once.
const FLUSH_GATHER_WRITES: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Time = Time(1_000_000_000);

    /// A write comes and waits for its turn.
    fn add(epochs: &mut MirrorEpochs, key: PeerKey, ordered: bool) -> u64 {
        let epoch = epochs.add();
        epochs.wait(key, epoch, ordered);
        epoch
    }

    fn end(epochs: &mut MirrorEpochs, nr: u32) -> bool {
        epochs.end_epoch(BarrierNr::from_u32(nr)).unwrap()
    }

    fn released(epochs: &mut MirrorEpochs) -> Vec<PeerKey> {
        assert!(epochs.begin_to_release() && !epochs.begin_to_release());
        let keys = core::iter::from_fn(|| epochs.next_released());
        let keys = keys.map(|(key, _)| key).collect();
        epochs.check();
        keys
    }

    #[test]
    fn a_write_of_a_later_epoch_goes_when_the_earlier_are_durable_or_it_does_not_need_that() {
        let mut epochs = MirrorEpochs::default();
        let first = add(&mut epochs, 1, true);
        assert!(!end(&mut MirrorEpochs::default(), 7), "an empty one");
        assert!(end(&mut epochs, 7));
        add(&mut epochs, 2, true);
        add(&mut epochs, 3, false);
        assert_eq!(released(&mut epochs), [1]);
        assert!(epochs.is_next_held());
        assert_eq!(epochs.flush_due(LATER, true), FlushDue::No);
        assert!(epochs.write_ended(first));
        assert_eq!(epochs.flush_due(LATER, true), FlushDue::Now);
        assert!(!epochs.begin_flush(2));
        assert_eq!(epochs.flush_due(LATER, true), FlushDue::No, "one at a time");
        assert!(!epochs.volume_flushed() && epochs.volume_flushed());
        assert_eq!(epochs.flushed(LATER), [(BarrierNr::from_u32(7), 1)]);
        assert_eq!(released(&mut epochs), [2, 3], "in order");
        assert!(!epochs.write_ended(first), "it is none of ours any more");
    }

    #[test]
    fn epochs_are_gathered_while_nobody_waits_for_them() {
        let mut epochs = MirrorEpochs::default();
        let soon = Time(0).plus_ms(FLUSH_GATHER_MS - 1);
        let due = Time(0).plus_ms(FLUSH_GATHER_MS);
        let first = epochs.add();
        assert!(end(&mut epochs, 1) && epochs.write_ended(first));
        assert_eq!(epochs.flush_due(soon, false), FlushDue::Now);
        assert_eq!(epochs.flush_due(soon, true), FlushDue::At(due));
        assert_eq!(epochs.flush_due(soon, true), FlushDue::No, "it is set");
        assert!(epochs.timer_expired());
        add(&mut epochs, 1, true);
        assert_eq!(epochs.flush_due(soon, true), FlushDue::Now);
    }
}
