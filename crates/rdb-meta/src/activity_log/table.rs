//! The table of slots in memory.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use super::{AL_CONTEXT, AL_UPDATES_MAX, FREE, Transaction};
use crate::{AlGeometry, BLOCK_BYTES, ExtentNr};

/// What [`ActivityLog::acquire`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquire {
    /// Every extent is hot on disk, and has one reference more: write.
    Granted,
    /// Every extent has one reference more, and all are hot once this transaction is committed.
    Pending(u32),
    /// Nothing was taken: no slot is free, or the transaction being collected is full. Ask again after
    /// a release or a commit.
    Busy,
}

/// A transaction to be written, and what must be written before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedTransaction {
    /// Goes back to [`ActivityLog::commit`] once the block is durable.
    pub tr_number: u32,
    /// Which block of the ring it is.
    pub ring_block: u32,
    /// Its content.
    pub block: Box<[u8; BLOCK_BYTES]>,
    /// The extents it takes out of the log. Their bits must be durable before this block is
    /// (invariant I4): write the dirty bitmap blocks of [`Bitmap::page_of_extent`], then this one
    /// with a flush before it.
    ///
    /// [`Bitmap::page_of_extent`]: crate::Bitmap::page_of_extent
    pub evicted: Vec<ExtentNr>,
}

const NIL: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SlotState {
    /// On disk as in memory.
    Settled,
    /// Its change is in the transaction being written.
    InFlight,
    /// Its change is in the transaction being collected.
    Collecting,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The extent it holds, or is about to.
    extent: u32,
    /// The extent it held after the last committed transaction: what the context says.
    on_disk: u32,
    references: u32,
    state: SlotState,
    /// Neighbours in the order of use, for settled slots without references.
    older: u32,
    newer: u32,
    /// The next slot with the same hash.
    chain: u32,
}

/// The activity log in memory: asked before every write, and the maker of transactions.
///
/// ```text
///          acquire                   seal                   commit
/// free ─┬───────────► collecting ───────────► in flight ───────────► hot, referenced
///       │                                                              │      ▲
///       └── least recently used hot extent without references ◄────────┘      │
///                                                         release of the last │ acquire
///                                                                  hot, idle ◄┘
/// ```
///
/// The caller's part:
/// - a write is submitted and sent only after `Granted`, or after the commit of the transaction
///   that `Pending` named (invariant I3);
/// - each granted or pending acquire is released once, when the write is on both disks, or its bits
///   are set (invariants I5 and I6);
/// - a sealed block is written with a flush before it and is durable at its commit, after the
///   bitmap blocks of what it evicts (invariant I4); one that fails is never committed, the disk
///   has failed (invariants I16 and I26).
///
/// The least recently used extent without references makes room. An extent is in at most one slot
/// (invariant I19), and each transaction moves the window of repeated slots on (invariant I17).
///
/// Starvation: when somebody gets `Busy` because slots are lacking, nobody else gets anything until
/// he has been served or [`ActivityLog::forget_starving`] says that he gave up; else those that keep
/// extents hot would keep him waiting for ever (section 4.5). He is known by his range.
///
/// No call allocates but [`ActivityLog::seal`], and none takes longer with more slots.
#[derive(Clone, Debug)]
pub struct ActivityLog {
    geometry: AlGeometry,
    slots: Vec<Slot>,
    /// First slot of each hash chain; a power of two of them.
    heads: Vec<u32>,
    /// Slots that hold nothing, the highest on top.
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    idle: usize,
    referenced: u32,
    collecting: Vec<u16>,
    in_flight: Vec<u16>,
    in_flight_tr: Option<u32>,
    next_tr: u32,
    context_start: u16,
    starving: Option<(ExtentNr, ExtentNr)>,
}

impl ActivityLog {
    /// An empty log that continues a ring at `next_tr`: 0 after the ring was initialised, else one
    /// above the newest number in it (invariant I18), which [`AlGeometry::next_tr`] is. `nr_slots` (`al-extents`) is brought into what
    /// the ring can describe ([`AlGeometry::slots_max`]).
    ///
    /// # Panics
    /// On a geometry that [`AlGeometry::check`] refuses.
    pub fn new(geometry: AlGeometry, nr_slots: u32, next_tr: u32) -> Self {
        geometry.check().expect("a checked geometry");
        let nr = nr_slots.clamp(1, geometry.slots_max());
        let slot = Slot {
            extent: FREE,
            on_disk: FREE,
            references: 0,
            state: SlotState::Settled,
            older: NIL,
            newer: NIL,
            chain: NIL,
        };
        Self {
            geometry,
            slots: vec![slot; nr as usize],
            heads: vec![NIL; (nr as usize * 2).next_power_of_two()],
            free: (0..nr).collect(),
            oldest: NIL,
            newest: NIL,
            idle: 0,
            referenced: 0,
            collecting: Vec::with_capacity(AL_UPDATES_MAX),
            in_flight: Vec::with_capacity(AL_UPDATES_MAX),
            in_flight_tr: None,
            next_tr: geometry.in_order(next_tr),
            context_start: 0,
            starving: None,
        }
    }

    /// Takes one reference on each extent from `first` to `last`, or none at all.
    ///
    /// # Panics
    /// If the range is backwards, or longer than one transaction (64) or the table: such a write can
    /// never be granted and has to be split before.
    pub fn acquire(&mut self, first: ExtentNr, last: ExtentNr) -> Acquire {
        let longest = AL_UPDATES_MAX.min(self.slots.len());
        assert!(
            first <= last && ((last.0 - first.0) as usize) < longest,
            "extents {first} to {last} are no range of at most {longest}"
        );
        if self.starving.is_some_and(|range| range != (first, last)) {
            return Acquire::Busy;
        }
        let (mut cold, mut own_idle, mut state) = (0, 0, SlotState::Settled);
        for extent in first.0..=last.0 {
            match self.find(extent) {
                None => cold += 1,
                Some(slot) => {
                    let slot = &self.slots[slot as usize];
                    own_idle += usize::from(slot.is_idle());
                    state = state.max(slot.state);
                }
            }
        }
        if cold > 0 {
            // What this write needs itself cannot make room for it.
            if cold > self.free.len() + self.idle - own_idle {
                self.starving = Some((first, last));
                return Acquire::Busy;
            }
            if self.collecting.len() + cold > AL_UPDATES_MAX {
                return Acquire::Busy;
            }
            state = SlotState::Collecting;
        }
        self.starving = None;
        // First what is there, so that none of it is taken for the rest.
        for extent in first.0..=last.0 {
            if let Some(slot) = self.find(extent) {
                self.reference(slot);
            }
        }
        if cold > 0 {
            for extent in first.0..=last.0 {
                if self.find(extent).is_none() {
                    self.collect(extent);
                }
            }
        }
        match (state, self.in_flight_tr) {
            (SlotState::Settled, _) => Acquire::Granted,
            (SlotState::InFlight, Some(tr)) => Acquire::Pending(tr),
            (SlotState::InFlight, None) => unreachable!("a slot in flight without a transaction"),
            (SlotState::Collecting, _) => Acquire::Pending(self.next_tr),
        }
    }

    /// Gives back one reference on each extent from `first` to `last`.
    ///
    /// # Panics
    /// If one of them has none.
    pub fn release(&mut self, first: ExtentNr, last: ExtentNr) {
        for extent in first.0..=last.0 {
            let slot = self
                .find(extent)
                .expect("a referenced extent is in the table");
            let entry = &mut self.slots[slot as usize];
            entry.references = entry
                .references
                .checked_sub(1)
                .expect("released as often as acquired");
            if entry.references == 0 {
                self.referenced -= 1;
                if self.slots[slot as usize].is_idle() {
                    self.append_idle(slot);
                }
            }
        }
    }

    /// Ends collecting: what was collected becomes the transaction in flight. `None` if there is
    /// nothing, or one is in flight already.
    pub fn seal(&mut self) -> Option<SealedTransaction> {
        if self.collecting.is_empty() || self.in_flight_tr.is_some() {
            return None;
        }
        mem::swap(&mut self.collecting, &mut self.in_flight);
        Some(self.transaction())
    }

    /// A transaction that changes nothing and only repeats its window of slots, to be written and
    /// committed as any other. As many of them in a row as the ring has blocks replace everything
    /// in it (invariants I11 and I18). `None` if changes are collected or in flight.
    pub fn seal_context(&mut self) -> Option<SealedTransaction> {
        let quiet = self.collecting.is_empty() && self.in_flight_tr.is_none();
        quiet.then(|| self.transaction())
    }

    /// The sealed block is durable: its extents are hot.
    ///
    /// # Panics
    /// If `tr` is not the transaction in flight.
    pub fn commit(&mut self, tr: u32) {
        assert_eq!(
            self.in_flight_tr,
            Some(tr),
            "only the transaction in flight can be committed"
        );
        self.in_flight_tr = None;
        let mut changed = mem::take(&mut self.in_flight);
        for slot in changed.drain(..) {
            let entry = &mut self.slots[usize::from(slot)];
            entry.on_disk = entry.extent;
            entry.state = SlotState::Settled;
            if entry.references == 0 {
                self.append_idle(u32::from(slot));
            }
        }
        self.in_flight = changed;
    }

    /// Whoever got `Busy` for lack of slots does not wait any more.
    pub fn forget_starving(&mut self) {
        self.starving = None;
    }

    /// Does somebody wait for slots, so that all others get `Busy`?
    pub fn is_starving(&self) -> bool {
        self.starving.is_some()
    }

    /// Is the extent in the log on disk, and going to stay?
    pub fn is_hot(&self, extent: ExtentNr) -> bool {
        self.find(extent.0)
            .is_some_and(|slot| self.slots[slot as usize].state == SlotState::Settled)
    }

    /// Has nobody a reference on any extent from `first` to `last`? A resync may lock them then.
    pub fn is_idle(&self, first: ExtentNr, last: ExtentNr) -> bool {
        (first.0..=last.0).all(|extent| {
            self.find(extent)
                .is_none_or(|slot| self.slots[slot as usize].references == 0)
        })
    }

    /// Slots that hold an extent, or are about to.
    pub fn used(&self) -> u32 {
        self.nr_slots() - self.free.len() as u32
    }

    /// Slots with at least one reference.
    pub fn referenced(&self) -> u32 {
        self.referenced
    }

    /// Slots there are (`al-extents`).
    pub fn nr_slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The shape of the ring.
    pub fn geometry(&self) -> AlGeometry {
        self.geometry
    }

    /// The number the next sealed transaction gets: what a log that replaces this one goes on with.
    pub fn next_tr(&self) -> u32 {
        self.next_tr
    }

    /// The transaction that is sealed and not committed.
    pub fn in_flight(&self) -> Option<u32> {
        self.in_flight_tr
    }

    /// Changes collected for the next transaction.
    pub fn collected(&self) -> usize {
        self.collecting.len()
    }

    /// The extents a replay of the ring would find, in no order.
    pub fn on_disk(&self) -> impl Iterator<Item = ExtentNr> + '_ {
        self.slots
            .iter()
            .filter(|slot| slot.on_disk != FREE)
            .map(|slot| ExtentNr(slot.on_disk))
    }

    /// Checks what must always hold, for tests.
    ///
    /// # Panics
    /// If it does not.
    pub fn check(&self) {
        // I17: the others describe every slot when one block of the ring is torn.
        assert!(
            self.nr_slots() <= self.geometry.slots_max(),
            "I17: more slots than the ring holds"
        );
        assert!(
            usize::from(self.context_start) < self.slots.len(),
            "I17: the window left the table"
        );
        let mut referenced = 0;
        for (nr, slot) in self.slots.iter().enumerate() {
            let nr = nr as u32;
            assert_eq!(
                slot.extent == FREE,
                self.free.contains(&nr),
                "slot {nr}: free or not"
            );
            if slot.extent != FREE {
                // I19, both ways: found by its extent, so no other slot has the same.
                assert_eq!(
                    self.find(slot.extent),
                    Some(nr),
                    "I19: extent {} twice",
                    slot.extent
                );
            }
            if slot.state == SlotState::Settled {
                assert_eq!(slot.extent, slot.on_disk, "slot {nr} differs from disk");
            }
            let listed = |list: &[u16]| list.iter().filter(|at| u32::from(**at) == nr).count();
            assert_eq!(
                listed(&self.collecting),
                usize::from(slot.state == SlotState::Collecting)
            );
            assert_eq!(
                listed(&self.in_flight),
                usize::from(slot.state == SlotState::InFlight)
            );
            referenced += u32::from(slot.references > 0);
        }
        assert_eq!(referenced, self.referenced, "count of referenced slots");
        assert_eq!(
            self.in_flight_tr.is_none(),
            self.in_flight.is_empty() || self.in_flight_tr.is_none()
        );
        assert!(self.collecting.len() <= AL_UPDATES_MAX);
        let (mut at, mut before, mut seen) = (self.oldest, NIL, 0);
        while at != NIL {
            let slot = &self.slots[at as usize];
            assert!(
                slot.is_idle() && slot.older == before,
                "slot {at} in the order of use"
            );
            (before, at, seen) = (at, slot.newer, seen + 1);
        }
        assert_eq!((before, seen), (self.newest, self.idle), "the order of use");
        assert_eq!(
            self.slots.iter().filter(|slot| slot.is_idle()).count(),
            self.idle
        );
    }

    /// Builds the next transaction from the slots in `in_flight`.
    fn transaction(&mut self) -> SealedTransaction {
        let tr_number = self.next_tr;
        let nr_slots = u16::try_from(self.slots.len()).expect("at most AL_SLOTS_MAX");
        let mut transaction = Transaction::new(tr_number, nr_slots, self.context_start);
        let mut evicted = Vec::new();
        for &slot in &self.in_flight {
            let entry = &mut self.slots[usize::from(slot)];
            entry.state = SlotState::InFlight;
            transaction.push_update(slot, Some(ExtentNr(entry.extent)));
            if entry.on_disk != FREE {
                evicted.push(ExtentNr(entry.on_disk));
            }
        }
        let window = &self.slots[usize::from(self.context_start)..];
        for (entry, slot) in transaction.context.iter_mut().zip(window) {
            *entry = slot.on_disk;
        }
        self.context_start = match usize::from(self.context_start) + AL_CONTEXT {
            next if next < self.slots.len() => next as u16,
            _ => 0,
        };
        self.in_flight_tr = Some(tr_number);
        self.next_tr = self.geometry.next_tr(tr_number);
        SealedTransaction {
            tr_number,
            ring_block: self.geometry.position(tr_number),
            block: Box::new(transaction.encode()),
            evicted,
        }
    }

    /// One reference more.
    fn reference(&mut self, slot: u32) {
        if self.slots[slot as usize].is_idle() {
            self.remove_idle(slot);
        }
        let entry = &mut self.slots[slot as usize];
        self.referenced += u32::from(entry.references == 0);
        entry.references += 1;
    }

    /// Gives `extent` a slot in the transaction being collected, with one reference.
    fn collect(&mut self, extent: u32) {
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = self.oldest;
            self.remove_idle(slot);
            self.unhash(slot);
            slot
        });
        let entry = &mut self.slots[slot as usize];
        entry.extent = extent;
        entry.references = 1;
        entry.state = SlotState::Collecting;
        self.referenced += 1;
        let head = self.bucket(extent);
        self.slots[slot as usize].chain = mem::replace(&mut self.heads[head], slot);
        self.collecting
            .push(u16::try_from(slot).expect("at most AL_SLOTS_MAX"));
    }

    fn find(&self, extent: u32) -> Option<u32> {
        let mut at = self.heads[self.bucket(extent)];
        while at != NIL {
            let slot = &self.slots[at as usize];
            if slot.extent == extent {
                return Some(at);
            }
            at = slot.chain;
        }
        None
    }

    fn unhash(&mut self, slot: u32) {
        let Slot { extent, chain, .. } = self.slots[slot as usize];
        let head = self.bucket(extent);
        if self.heads[head] == slot {
            self.heads[head] = chain;
            return;
        }
        let mut at = self.heads[head];
        while self.slots[at as usize].chain != slot {
            at = self.slots[at as usize].chain;
        }
        self.slots[at as usize].chain = chain;
    }

    /// Neighbours fall into different buckets: extents come in runs.
    fn bucket(&self, extent: u32) -> usize {
        extent as usize & (self.heads.len() - 1)
    }

    fn append_idle(&mut self, slot: u32) {
        let older = mem::replace(&mut self.newest, slot);
        let entry = &mut self.slots[slot as usize];
        (entry.older, entry.newer) = (older, NIL);
        match older {
            NIL => self.oldest = slot,
            older => self.slots[older as usize].newer = slot,
        }
        self.idle += 1;
    }

    fn remove_idle(&mut self, slot: u32) {
        let Slot { older, newer, .. } = self.slots[slot as usize];
        match older {
            NIL => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NIL => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        self.idle -= 1;
    }
}

impl Slot {
    /// Could it make room?
    fn is_idle(&self) -> bool {
        self.state == SlotState::Settled && self.references == 0 && self.extent != FREE
    }
}
