//! The activity log's blocks, their replay, and the table in memory (docs/spec/metadata.md,
//! section 4 and appendix C).

use std::collections::{BTreeMap, BTreeSet};

use hex_literal::hex;
use proptest::collection::vec;
use proptest::prelude::*;
use rdb_meta::activity_log::{
    Acquire, ActivityLog, FREE, ReplayError, Transaction, TransactionError, crc, initialised_ring,
    replay, replay_legacy,
};
use rdb_meta::{AlGeometry, ExtentNr};

const AL: AlGeometry = AlGeometry::DEFAULT;
const BLOCK: usize = 4096;

fn e(extent: u32) -> ExtentNr {
    ExtentNr(extent)
}

/// Writes a transaction to its place.
fn put(ring: &mut [u8], geometry: AlGeometry, transaction: &Transaction) {
    let at = geometry.position(transaction.tr_number) as usize * BLOCK;
    ring[at..at + BLOCK].copy_from_slice(&transaction.encode());
}

/// A block that puts one extent into one slot of a small table.
fn one(tr_number: u32, slot: u16, extent: u32, context: &[u32]) -> Transaction {
    let mut transaction = Transaction::new(tr_number, 67, 0);
    transaction.context[..context.len()].copy_from_slice(context);
    transaction.push_update(slot, Some(e(extent)));
    transaction
}

fn hot(geometry: AlGeometry, ring: &[u8]) -> Vec<u32> {
    replay(geometry, ring)
        .unwrap()
        .hot
        .into_iter()
        .map(|extent| extent.0)
        .collect()
}

#[test]
fn t01_crc_is_neither_inverted_before_nor_after() {
    assert_eq!(crc(b"123456789"), 0x58e3_fa20);
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    let mut initialised = [0; BLOCK];
    initialised[..4].copy_from_slice(&hex!("69cb65a2"));
    initialised[12..14].copy_from_slice(&hex!("ffff"));
    assert_eq!(crc(&initialised), 0x709c_c651);
}

#[test]
fn transaction_golden_as_the_kernel_wrote_it() {
    // tr 8: slot 66 gets extent 0, every slot free before.
    let mut block = [0; BLOCK];
    block[..24].copy_from_slice(&hex!(
        "69cb65a2 00000008 a44a5532 0000 0001 0043 0000 00000000"
    ));
    block[36..164].fill(0xff);
    block[36..38].copy_from_slice(&hex!("0042"));
    block[164..].fill(0xff);
    block[164..168].copy_from_slice(&hex!("00000000"));
    let transaction = one(8, 66, 0, &[]);
    assert_eq!(transaction.encode(), block);
    assert_eq!(Transaction::parse(&block), Ok(transaction));

    // tr 9: slot 65 gets extent 1; the context at byte 420 + 4 * 66 shows extent 0.
    let mut context = [FREE; 67];
    context[66] = 0;
    let next = one(9, 65, 1, &context).encode();
    assert_eq!(next[8..12], hex!("76eb37da"));
    assert_eq!(next[684..688], hex!("00000000"));
}

#[test]
fn log_in_memory_writes_what_the_kernel_wrote() {
    let mut log = ActivityLog::new(AL, 67, 8);
    for (extent, sum) in [(0, hex!("a44a5532")), (1, hex!("76eb37da"))] {
        assert_eq!(
            log.acquire(e(extent), e(extent)),
            Acquire::Pending(8 + extent)
        );
        let sealed = log.seal().unwrap();
        assert_eq!(sealed.block[8..12], sum);
        assert_eq!((sealed.ring_block, sealed.evicted.len()), (extent, 0));
        log.commit(sealed.tr_number);
    }
}

#[test]
fn i27_every_damaged_or_truncated_block_is_an_error() {
    let block = one(5, 3, 9, &[1, 2]).encode();
    for len in 0..BLOCK {
        assert_eq!(
            Transaction::parse(&block[..len]),
            Err(TransactionError::Short { got: len })
        );
    }
    for at in 0..BLOCK {
        let mut torn = block;
        torn[at] ^= 0x10;
        assert!(Transaction::parse(&torn).is_err(), "byte {at}");
    }
}

#[test]
fn initialised_ring_is_empty_and_torn_first_block_of_it_too() {
    let mut ring = initialised_ring(AL);
    let replayed = replay(AL, &ring).unwrap();
    assert_eq!(
        (
            replayed.hot.len(),
            replayed.updates_found,
            replayed.newest_tr
        ),
        (0, false, None)
    );
    ring[7] = 1;
    assert_eq!(replay(AL, &ring).unwrap().corrupt, 1);
    ring[7] = 0;
    ring[BLOCK + 7] = 1;
    assert_eq!(replay(AL, &ring), Err(ReplayError::NoUpdate { corrupt: 1 }));
    ring.fill(0);
    assert_eq!(replay(AL, &ring), Err(ReplayError::NoUsableLog));
    assert!(matches!(
        replay(AL, &ring[1..]),
        Err(ReplayError::Length { .. })
    ));
    assert!(matches!(replay(AL, &[]), Err(ReplayError::Length { .. })));
    let none = AlGeometry {
        stripes: 0,
        stripe_size_4k: 0,
    };
    assert!(matches!(replay(none, &[]), Err(ReplayError::Length { .. })));
}

#[test]
fn t26_numbers_that_wrap_are_replayed_in_order() {
    for geometry in [
        AL,
        AlGeometry {
            stripes: 3,
            stripe_size_4k: 4,
        },
    ] {
        let mut ring = initialised_ring(geometry);
        for (count, tr) in (0_u32..).zip([u32::MAX - 2, u32::MAX - 1, u32::MAX, 0, 1]) {
            // All into one slot: the last one counts.
            put(&mut ring, geometry, &one(tr, 0, 100 + count, &[]));
        }
        let replayed = replay(geometry, &ring).unwrap();
        assert_eq!(replayed.newest_tr, Some(1));
        assert_eq!(replayed.hot, BTreeSet::from([e(104)]));
    }
}

#[test]
fn torn_blocks_in_the_middle_are_repaired_by_later_contexts() {
    let mut ring = initialised_ring(AL);
    put(&mut ring, AL, &one(0, 0, 10, &[]));
    put(&mut ring, AL, &one(1, 1, 11, &[10]));
    put(&mut ring, AL, &one(2, 2, 12, &[10, 11]));
    ring[BLOCK + 99] ^= 1;
    assert_eq!(hot(AL, &ring), [10, 11, 12]);
    assert_eq!(replay(AL, &ring).unwrap().corrupt, 1);
    // The newest one torn: the set of before.
    ring[BLOCK + 99] ^= 1;
    ring[2 * BLOCK + 99] ^= 1;
    assert_eq!(hot(AL, &ring), [10, 11]);
}

#[test]
fn t11_context_comes_before_updates_and_free_means_free_only_within_the_table() {
    let mut ring = initialised_ring(AL);
    // Slot 70 is beyond the second block's table of 67: nothing is known of it.
    let mut first = one(0, 70, 5, &[]);
    first.context_size = 100;
    first.push_update(3, Some(e(6)));
    put(&mut ring, AL, &first);
    put(&mut ring, AL, &one(1, 4, 8, &[]));
    assert_eq!(hot(AL, &ring), [5, 8]);
    // An update that empties a slot.
    let mut emptied = Transaction::new(2, 67, 0);
    emptied.context[4] = 8;
    emptied.push_update(4, None);
    put(&mut ring, AL, &emptied);
    assert_eq!(hot(AL, &ring), [5]);
}

#[test]
fn t06_stale_blocks_with_higher_numbers_win() {
    let mut ring = initialised_ring(AL);
    for tr in 1001..=1007 {
        put(&mut ring, AL, &one(tr, 0, tr, &[]));
    }
    put(&mut ring, AL, &one(0, 0, 77, &[]));
    assert_eq!(replay(AL, &ring).unwrap().newest_tr, Some(1007));
    assert_eq!(hot(AL, &ring), [1007]);
}

#[test]
fn t21_slots_beyond_any_table_are_left_out_and_counted() {
    let mut ring = initialised_ring(AL);
    let mut odd = one(0, 1, 5, &[]);
    odd.push_update(65_534, Some(e(6)));
    odd.context_start_slot_nr = 65_000;
    odd.context_size = 3;
    odd.context[600] = 7;
    put(&mut ring, AL, &odd);
    let replayed = replay(AL, &ring).unwrap();
    assert_eq!(replayed.hot, BTreeSet::from([e(5)]));
    assert_eq!(replayed.ignored_entries, 2);
}

#[test]
fn legacy_rings_that_are_none_are_errors() {
    assert!(matches!(
        replay_legacy(&[]),
        Err(ReplayError::Length { .. })
    ));
    assert!(matches!(
        replay_legacy(&[0; 511]),
        Err(ReplayError::Length { .. })
    ));
    assert_eq!(replay_legacy(&[0; 1024]), Err(ReplayError::NoUsableLog));
}

#[test]
fn i03_no_extent_is_granted_before_its_block_is_durable() {
    let mut log = ActivityLog::new(AL, 67, 0);
    assert_eq!(log.acquire(e(1), e(2)), Acquire::Pending(0));
    assert_eq!(log.acquire(e(2), e(2)), Acquire::Pending(0));
    let sealed = log.seal().unwrap();
    assert_eq!(log.acquire(e(1), e(1)), Acquire::Pending(0));
    assert_eq!(log.acquire(e(2), e(3)), Acquire::Pending(1));
    // I16: one in flight.
    assert_eq!(log.seal(), None);
    assert!(!log.is_hot(e(1)));
    log.commit(sealed.tr_number);
    assert!(log.is_hot(e(1)) && !log.is_hot(e(3)));
    assert_eq!(log.acquire(e(1), e(2)), Acquire::Granted);
    assert_eq!(log.acquire(e(3), e(3)), Acquire::Pending(1));
    log.check();
}

#[test]
fn i04_what_a_transaction_evicts_is_named_with_it() {
    let mut log = ActivityLog::new(AL, 2, 0);
    for extent in [10, 11] {
        log.acquire(e(extent), e(extent));
        let sealed = log.seal().unwrap();
        assert_eq!(sealed.evicted, []);
        log.commit(sealed.tr_number);
        log.release(e(extent), e(extent));
    }
    assert_eq!(log.acquire(e(12), e(12)), Acquire::Pending(2));
    assert!(!log.is_hot(e(10)), "on its way out");
    assert_eq!(log.seal().unwrap().evicted, [e(10)]);
    assert_eq!(
        log.on_disk().collect::<BTreeSet<_>>(),
        BTreeSet::from([e(10), e(11)])
    );
    log.commit(2);
    assert_eq!(
        log.on_disk().collect::<BTreeSet<_>>(),
        BTreeSet::from([e(11), e(12)])
    );
}

#[test]
fn i05_slots_with_references_are_never_reused_and_starving_ends_all_else() {
    let mut log = ActivityLog::new(AL, 2, 0);
    log.acquire(e(1), e(2));
    let sealed = log.seal().unwrap();
    log.commit(sealed.tr_number);
    assert_eq!(log.acquire(e(3), e(3)), Acquire::Busy);
    assert!(log.is_starving());
    // Section 4.5: no new references for anyone.
    assert_eq!(log.acquire(e(1), e(1)), Acquire::Busy);
    log.release(e(2), e(2));
    assert_eq!(log.acquire(e(2), e(2)), Acquire::Busy);
    assert_eq!(log.acquire(e(3), e(3)), Acquire::Pending(1));
    assert!(!log.is_starving());
    assert_eq!(log.acquire(e(1), e(1)), Acquire::Granted);
    assert_eq!(log.acquire(e(9), e(9)), Acquire::Busy);
    log.forget_starving();
    assert_eq!(log.acquire(e(1), e(1)), Acquire::Granted);
    assert_eq!((log.used(), log.referenced()), (2, 2));
}

#[test]
fn what_a_write_needs_itself_makes_no_room_for_it() {
    let mut log = ActivityLog::new(AL, 2, 0);
    log.acquire(e(1), e(1));
    let sealed = log.seal().unwrap();
    log.commit(sealed.tr_number);
    log.release(e(1), e(1));
    log.acquire(e(7), e(7));
    // One slot idle, and it is extent 1's.
    assert_eq!(log.acquire(e(1), e(2)), Acquire::Busy);
    assert!(log.is_hot(e(1)) && log.is_idle(e(1), e(4)));
}

#[test]
fn a_transaction_takes_64_changes_and_none_is_split() {
    let mut log = ActivityLog::new(AL, 1000, 0);
    assert_eq!(log.acquire(e(0), e(59)), Acquire::Pending(0));
    assert_eq!(log.acquire(e(100), e(104)), Acquire::Busy);
    assert!(!log.is_starving(), "slots are there");
    assert_eq!(log.acquire(e(100), e(103)), Acquire::Pending(0));
    let sealed = log.seal().unwrap();
    assert_eq!(Transaction::parse(&sealed.block[..]).unwrap().n_updates, 64);
    assert_eq!(log.acquire(e(104), e(104)), Acquire::Pending(1));
}

#[test]
#[should_panic(expected = "no range of at most 64")]
fn ranges_longer_than_a_transaction_are_a_bug_of_the_caller() {
    ActivityLog::new(AL, 1000, 0).acquire(e(0), e(64));
}

#[test]
fn i16_positions_are_consecutive_around_the_ring() {
    let geometry = AlGeometry {
        stripes: 4,
        stripe_size_4k: 8,
    };
    let mut log = ActivityLog::new(geometry, 67, u32::MAX - 3);
    for count in 0..100_u32 {
        assert_ne!(log.acquire(e(count), e(count)), Acquire::Granted);
        let sealed = log.seal().unwrap();
        assert_eq!(sealed.tr_number, (u32::MAX - 3).wrapping_add(count));
        assert_eq!(sealed.ring_block, geometry.position(sealed.tr_number));
        log.commit(sealed.tr_number);
        log.release(e(count), e(count));
    }
}

#[test]
fn t26_positions_stay_in_order_when_numbers_wrap_in_any_ring() {
    let geometry = AlGeometry {
        stripes: 3,
        stripe_size_4k: 4,
    };
    // 2^32 is 4 more than a multiple of 12.
    assert_eq!(geometry.next_tr(0xffff_fffa), 0xffff_fffb);
    assert_eq!(geometry.next_tr(0xffff_fffb), 0);
    assert_eq!(AL.next_tr(u32::MAX), 0);
    assert_eq!(ActivityLog::new(geometry, 67, 0xffff_fffd).next_tr(), 0);
    let mut log = ActivityLog::new(geometry, 6433, 0xffff_fff0);
    let mut turns = Vec::new();
    for _ in 0..40 {
        let sealed = log.seal_context().unwrap();
        turns.push(sealed.ring_block);
        log.commit(sealed.tr_number);
    }
    // Whatever twelve follow one another are the whole ring.
    for turn in turns.windows(12) {
        assert_eq!(turn.iter().collect::<BTreeSet<_>>().len(), 12, "{turns:?}");
    }
}

#[test]
fn i17_the_window_passes_over_every_slot() {
    let mut log = ActivityLog::new(AL, 100_000, 0);
    assert_eq!(log.nr_slots(), 6433);
    let starts: Vec<u16> = (0..9)
        .map(|count| {
            log.acquire(e(count), e(count));
            let sealed = log.seal().unwrap();
            log.commit(sealed.tr_number);
            log.check();
            Transaction::parse(&sealed.block[..])
                .unwrap()
                .context_start_slot_nr
        })
        .collect();
    assert_eq!(starts, [0, 919, 1838, 2757, 3676, 4595, 5514, 0, 919]);
}

#[test]
fn i11_context_transactions_around_the_ring_replace_foreign_blocks() {
    let mut ring = initialised_ring(AL);
    for tr in 0..8 {
        put(&mut ring, AL, &one(tr, 5, 1000 + tr, &[]));
    }
    // Above the newest of the foreign ones (invariant I18).
    let mut log = ActivityLog::new(AL, 67, 8);
    for _ in 0..8 {
        let sealed = log.seal_context().unwrap();
        assert_eq!(log.seal_context(), None);
        let at = sealed.ring_block as usize * BLOCK;
        ring[at..at + BLOCK].copy_from_slice(&sealed.block[..]);
        log.commit(sealed.tr_number);
    }
    assert_eq!(hot(AL, &ring), []);
    log.acquire(e(1), e(1));
    assert_eq!(log.seal_context(), None);
}

#[derive(Clone, Debug)]
enum Op {
    Acquire(u32, u32),
    /// Releases one of those held.
    Release(prop::sample::Index),
    Seal,
    Commit,
    GiveUp,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..30_u32, 0..4_u32).prop_map(|(first, more)| Op::Acquire(first, first + more)),
        5 => any::<prop::sample::Index>().prop_map(Op::Release),
        3 => Just(Op::Seal),
        3 => Just(Op::Commit),
        1 => Just(Op::GiveUp),
    ]
}

/// The obvious log: lists, searched from one end to the other.
#[derive(Default)]
struct Plain {
    slots: usize,
    /// Extents that are hot or about to be, and their references.
    extents: BTreeMap<u32, u32>,
    collecting: Vec<u32>,
    in_flight: Vec<u32>,
    /// Without references and settled, the oldest use first.
    idle: Vec<u32>,
    evicted: Vec<u32>,
    starving: Option<(u32, u32)>,
}

impl Plain {
    fn acquire(&mut self, first: u32, last: u32) -> &'static str {
        if self.starving.is_some_and(|range| range != (first, last)) {
            return "busy";
        }
        let cold: Vec<u32> = (first..=last)
            .filter(|x| !self.extents.contains_key(x))
            .collect();
        let others = self
            .idle
            .iter()
            .filter(|x| !(first..=last).contains(x))
            .count();
        if cold.len() > self.slots - self.extents.len() + others && !cold.is_empty() {
            self.starving = Some((first, last));
            return "busy";
        }
        if self.collecting.len() + cold.len() > 64 {
            return "busy";
        }
        self.starving = None;
        self.idle.retain(|x| !(first..=last).contains(x));
        for x in &cold {
            if self.extents.len() == self.slots {
                let victim = self.idle.remove(0);
                self.extents.remove(&victim);
                self.evicted.push(victim);
            }
            self.collecting.push(*x);
            self.extents.insert(*x, 0);
        }
        for x in first..=last {
            *self.extents.get_mut(&x).unwrap() += 1;
        }
        let any = |list: &[u32]| (first..=last).any(|x| list.contains(&x));
        match (any(&self.collecting), any(&self.in_flight)) {
            (true, _) => "collected",
            (_, true) => "in flight",
            _ => "granted",
        }
    }

    fn release(&mut self, first: u32, last: u32) {
        for x in first..=last {
            let references = self.extents.get_mut(&x).unwrap();
            *references -= 1;
            if *references == 0 && !self.collecting.contains(&x) && !self.in_flight.contains(&x) {
                self.idle.push(x);
            }
        }
    }

    fn commit(&mut self) {
        for x in std::mem::take(&mut self.in_flight) {
            if self.extents[&x] == 0 {
                self.idle.push(x);
            }
        }
    }
}

proptest! {
    #[test]
    fn i19_log_agrees_with_a_plain_one(slots in 4..40_usize, ops in vec(any_op(), 0..200)) {
        let mut log = ActivityLog::new(AL, slots as u32, 0);
        let mut plain = Plain { slots, ..Plain::default() };
        let mut held = Vec::new();
        for op in ops {
            match op {
                Op::Acquire(first, last) => {
                    let said = match log.acquire(e(first), e(last)) {
                        Acquire::Granted => "granted",
                        Acquire::Pending(tr) if Some(tr) == log.in_flight() => "in flight",
                        Acquire::Pending(tr) => {
                            prop_assert_eq!(tr, log.next_tr());
                            "collected"
                        }
                        Acquire::Busy => "busy",
                    };
                    prop_assert_eq!(said, plain.acquire(first, last));
                    if said != "busy" {
                        held.push((first, last));
                    }
                }
                Op::Release(which) if !held.is_empty() => {
                    let (first, last) = held.swap_remove(which.index(held.len()));
                    log.release(e(first), e(last));
                    plain.release(first, last);
                }
                Op::Seal => {
                    let sealed = log.seal();
                    let possible = !plain.collecting.is_empty() && plain.in_flight.is_empty();
                    prop_assert_eq!(sealed.is_some(), possible);
                    if let Some(sealed) = sealed {
                        plain.in_flight = std::mem::take(&mut plain.collecting);
                        let block = Transaction::parse(&sealed.block[..]).unwrap();
                        let named = &block.update_extent_nr[..usize::from(block.n_updates)];
                        prop_assert_eq!(named, &plain.in_flight[..]);
                        let evicted: Vec<u32> = sealed.evicted.iter().map(|x| x.0).collect();
                        let evicted: BTreeSet<u32> = evicted.into_iter().collect();
                        let wanted = std::mem::take(&mut plain.evicted);
                        prop_assert_eq!(evicted, wanted.into_iter().collect());
                    }
                }
                Op::Commit => {
                    if let Some(tr) = log.in_flight() {
                        log.commit(tr);
                        plain.commit();
                    }
                }
                Op::GiveUp => {
                    log.forget_starving();
                    plain.starving = None;
                }
                Op::Release(_) => {}
            }
            log.check();
            prop_assert_eq!(log.used() as usize, plain.extents.len());
            let referenced = plain.extents.values().filter(|references| **references > 0).count();
            prop_assert_eq!(log.referenced() as usize, referenced);
            for x in 0..34 {
                let pending = plain.collecting.contains(&x) || plain.in_flight.contains(&x);
                let known = plain.extents.get(&x);
                prop_assert_eq!(log.is_hot(e(x)), known.is_some() && !pending);
                prop_assert_eq!(log.is_idle(e(x), e(x)), known.is_none_or(|references| *references == 0));
            }
        }
    }

    /// A node runs, loses power at some block, comes back, goes on above the newest number, and so
    /// again. Whatever the last block's write left behind, what was hot is found.
    #[test]
    fn i18_replay_after_any_crash_finds_all_that_was_hot(
        shape in prop_oneof![Just((1, 8)), Just((3, 4)), Just((4, 8))],
        slots in prop_oneof![1..20_u32, Just(67), Just(919), Just(920), Just(2500), Just(6433)],
        start in prop_oneof![Just(0), Just(u32::MAX - 20), any::<u32>()],
        lives in vec(
            (vec((0..9000_u32, 1..64_u32), 1..40), 0..4_u8, 0..BLOCK, any::<bool>()),
            1..4,
        ),
    ) {
        let geometry = AlGeometry { stripes: shape.0, stripe_size_4k: shape.1 };
        let mut ring = initialised_ring(geometry);
        let mut next_tr = start;
        for (writes, fate, torn_at, hold) in lives {
            let mut log = ActivityLog::new(geometry, slots, next_tr);
            let mut held: Vec<(ExtentNr, ExtentNr)> = Vec::new();
            let last = writes.len() - 1;
            for (count, (first, len)) in writes.into_iter().enumerate() {
                let range = (e(first), e(first + len.min(log.nr_slots()) - 1));
                let mut outcome = log.acquire(range.0, range.1);
                if outcome == Acquire::Busy {
                    for (first, last) in held.drain(..) {
                        log.release(first, last);
                    }
                    outcome = log.acquire(range.0, range.1);
                }
                prop_assert_ne!(outcome, Acquire::Busy);
                held.push(range);
                let before: BTreeSet<ExtentNr> = log.on_disk().collect();
                let Some(sealed) = log.seal() else { continue };
                let at = sealed.ring_block as usize * BLOCK;
                if count < last {
                    ring[at..at + BLOCK].copy_from_slice(&sealed.block[..]);
                    log.commit(sealed.tr_number);
                } else {
                    // The power goes: never started, begun, ended, or all of it but a piece.
                    let range = match fate {
                        0 => 0..0,
                        1 => 0..torn_at,
                        2 => torn_at..BLOCK,
                        _ => 0..BLOCK,
                    };
                    let place = &mut ring[at..at + BLOCK];
                    place[range.clone()].copy_from_slice(&sealed.block[range]);
                    let complete = place[..] == sealed.block[..];
                    let found = replay(geometry, &ring);
                    if before.is_empty() && found.is_err() {
                        // Nothing was ever granted, so there is nothing to find.
                        ring = initialised_ring(geometry);
                        continue;
                    }
                    let found = found.unwrap();
                    let evicted: BTreeSet<ExtentNr> = sealed.evicted.iter().copied().collect();
                    let must = if complete { &before - &evicted } else { before };
                    prop_assert!(found.hot.is_superset(&must), "{must:?} in {found:?}");
                }
                if !hold {
                    for (first, last) in held.drain(..) {
                        log.release(first, last);
                    }
                }
            }
            // I27: idempotent.
            let found = replay(geometry, &ring);
            prop_assert_eq!(&found, &replay(geometry, &ring));
            if let Ok(found) = found {
                prop_assert!(found.hot.is_superset(&log.on_disk()
                    .filter(|extent| log.is_hot(*extent)).collect()));
                next_tr = found.newest_tr.map_or(next_tr, |newest| geometry.next_tr(newest));
            }
        }
    }

    #[test]
    fn no_ring_makes_replay_panic(
        blocks in vec((any::<u32>(), any::<u16>(), any::<u16>(), any::<u16>(), any::<u32>()), 8),
        broken in vec(any::<bool>(), 8),
    ) {
        let mut ring = initialised_ring(AL);
        for (at, (tr, start, size, slot, extent)) in blocks.into_iter().enumerate() {
            let mut block = Transaction::new(tr, size, start);
            block.push_update(slot, Some(e(extent)));
            block.n_updates = size;
            block.context[918] = extent;
            ring[at * BLOCK..][..BLOCK].copy_from_slice(&block.encode());
            ring[at * BLOCK + 500] ^= u8::from(broken[at]);
        }
        if let Ok(found) = replay(AL, &ring) {
            prop_assert!(!found.hot.contains(&e(FREE)));
            prop_assert_eq!(found.corrupt, broken.iter().filter(|broken| **broken).count());
        }
    }
}
