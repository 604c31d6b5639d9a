//! The bitmap against a plain set, and its bytes (docs/spec/metadata.md, section 5).

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use rdb_meta::{Bitmap, ExtentNr};

/// Three pages, the last of them short and its last block partial.
const SIZE: u64 = 2 * 262_144 + 8 * 1000 + 3;

fn checked(bitmap: &Bitmap) {
    assert_eq!(bitmap.count_set(), bitmap.iter().count() as u64);
    assert_eq!(bitmap.count_set(), bitmap.count_in(0..bitmap.bits()));
    assert!(bitmap.iter().all(|bit| bit < bitmap.bits()));
    let words = bitmap
        .words()
        .iter()
        .map(|word| u64::from(word.count_ones()))
        .sum::<u64>();
    assert_eq!(words, bitmap.count_set(), "bits beyond the end");
}

#[test]
fn bits_bytes_and_extents_are_where_the_specification_says() {
    let mut bitmap = Bitmap::new(1 << 20, false);
    assert_eq!(bitmap.set_sectors(16_384, 1), 1);
    assert!(bitmap.test_bit(2048));
    assert_eq!(bitmap.page_bytes(0)[256], 1);
    assert_eq!(bitmap.set_sectors(983_040 + 9, 6), 1);
    assert!(bitmap.test_bit(122_881));
    assert_eq!(bitmap.page_bytes(3)[15_360 % 4096], 2);
    assert_eq!(Bitmap::page_of_extent(ExtentNr(120)), 3);
    assert_eq!(bitmap.dirty_pages().collect::<Vec<_>>(), [0, 3]);
}

#[test]
fn setting_covers_what_is_touched_and_clearing_what_is_covered() {
    let mut bitmap = Bitmap::new(64, false);
    assert_eq!(bitmap.set_sectors(7, 2), 2);
    assert_eq!(bitmap.clear_sectors(1, 7), 0);
    assert_eq!(bitmap.clear_sectors(0, 15), 1);
    assert_eq!(bitmap.clear_sectors(8, 8), 1);
    assert_eq!(bitmap.set_sectors(8, 0), 0);
    assert!(!bitmap.any_set(0, 64));

    // The last block has three sectors only.
    let mut bitmap = Bitmap::new(67, true);
    assert_eq!((bitmap.bits(), bitmap.count_set()), (9, 9));
    assert_eq!(bitmap.clear_sectors(64, 2), 0);
    assert_eq!(bitmap.clear_sectors(64, 3), 1);
    assert_eq!(bitmap.clear_sectors(56, u64::MAX), 1);
    assert_eq!(bitmap.set_sectors(66, u64::MAX), 1);
    assert_eq!(bitmap.set_sectors(67, 8), 0);
}

#[test]
fn t02_the_last_64_bits_of_a_device_of_whole_words_are_read() {
    let mut bitmap = Bitmap::new(131_072, false);
    let mut page = [0; 4096];
    for bit in [5, 16_319, 16_320, 16_383] {
        page[bit / 8] |= 1 << (bit % 8);
    }
    bitmap.load_page(0, &page);
    assert_eq!(
        bitmap.iter().collect::<Vec<_>>(),
        [5, 16_319, 16_320, 16_383]
    );
}

#[test]
fn t16_bits_beyond_the_end_are_left_out_and_growing_decides_anew() {
    let mut bitmap = Bitmap::new(8 * 100, false);
    bitmap.load_page(0, &[0xff; 4096]);
    assert_eq!(bitmap.count_set(), 100);
    assert!(bitmap.is_lazy(0) && !bitmap.is_dirty(0));
    bitmap.load_page(0, &bitmap.page_bytes(0));
    assert!(!bitmap.is_lazy(0));

    bitmap.resize(8 * 10 + 4, false);
    assert_eq!((bitmap.bits(), bitmap.count_set()), (11, 11));
    bitmap.clear_all();
    // Block 10 was partial, so part of it is new.
    bitmap.resize(8 * 300_000, true);
    assert_eq!(bitmap.next_set(0), Some(10));
    assert_eq!(bitmap.count_set(), 299_990);
    assert_eq!(bitmap.dirty_pages().count(), bitmap.page_count());
    bitmap.resize(0, true);
    assert_eq!(
        (bitmap.bits(), bitmap.count_set(), bitmap.page_count()),
        (0, 0, 0)
    );
    assert_eq!(bitmap.next_set(0), None);
    bitmap.resize(8 * 64, false);
    assert_eq!((bitmap.count_set(), bitmap.is_dirty(0)), (0, true));
}

#[test]
fn pages_cut_short_by_the_device_load_what_there_is() {
    let mut bitmap = Bitmap::new(262_144, false);
    bitmap.set_run(512 * 8, 1);
    bitmap.load_page(0, &[0x01; 512]);
    assert_eq!(bitmap.count_set(), 512 + 1);
}

#[test]
fn marks_say_what_is_not_on_disk() {
    let mut bitmap = Bitmap::new(SIZE, false);
    assert_eq!(bitmap.changed_pages().count(), 0);
    bitmap.set_run(32_767, 2);
    assert_eq!(bitmap.dirty_pages().collect::<Vec<_>>(), [0, 1]);
    bitmap.mark_clean(0);
    bitmap.mark_clean(1);
    assert_eq!(bitmap.set_run(32_767, 2), 0);
    assert_eq!(
        bitmap.dirty_pages().count(),
        0,
        "nothing new, nothing to write"
    );
    bitmap.clear_run(32_767, 1);
    assert!(bitmap.is_lazy(0) && !bitmap.is_dirty(0));
    bitmap.mark_dirty(2);
    assert_eq!(bitmap.changed_pages().collect::<Vec<_>>(), [0, 2]);
    let all = Bitmap::new(SIZE, true);
    assert_eq!(all.dirty_pages().count(), 3);
}

#[derive(Clone, Debug)]
enum Op {
    SetSectors(u64, u64),
    ClearSectors(u64, u64),
    SetRun(u64, u64),
    ClearRun(u64, u64),
    OrWords(usize, Vec<u64>),
    LoadOwnPage(usize),
    MarkClean(usize),
    Resize(u64, bool),
    All(bool),
}

fn any_op() -> impl Strategy<Value = Op> {
    let range = || (0..SIZE + 100, prop_oneof![0..40_u64, 0..SIZE]);
    let bits = || (0..SIZE / 8 + 100, prop_oneof![0..70_u64, 0..SIZE / 8]);
    prop_oneof![
        6 => range().prop_map(|(at, len)| Op::SetSectors(at, len)),
        6 => range().prop_map(|(at, len)| Op::ClearSectors(at, len)),
        4 => bits().prop_map(|(at, len)| Op::SetRun(at, len)),
        4 => bits().prop_map(|(at, len)| Op::ClearRun(at, len)),
        3 => (0..1100_usize, vec(any::<u64>(), 0..8)).prop_map(|(at, words)| Op::OrWords(at, words)),
        2 => (0..3_usize).prop_map(Op::LoadOwnPage),
        2 => (0..3_usize).prop_map(Op::MarkClean),
        1 => (1..SIZE + 1000, any::<bool>()).prop_map(|(size, set)| Op::Resize(size, set)),
        1 => any::<bool>().prop_map(Op::All),
    ]
}

/// The obvious bitmap.
struct Plain {
    size: u64,
    set: BTreeSet<u64>,
}

impl Plain {
    fn bits(&self) -> u64 {
        self.size.div_ceil(8)
    }

    fn set(&mut self, bits: impl Iterator<Item = u64>) -> u64 {
        let end = self.bits();
        bits.take_while(|bit| *bit < end)
            .filter(|bit| self.set.insert(*bit))
            .count() as u64
    }

    fn clear(&mut self, bits: impl Iterator<Item = u64>) -> u64 {
        let end = self.bits();
        bits.take_while(|bit| *bit < end)
            .filter(|bit| self.set.remove(bit))
            .count() as u64
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn bitmap_agrees_with_a_set(ops in vec(any_op(), 0..40)) {
        let mut bitmap = Bitmap::new(SIZE, false);
        let mut plain = Plain { size: SIZE, set: BTreeSet::new() };
        // What a reader of the disk would find if marked pages were written when marks go.
        let mut disk: Vec<Vec<u8>> = (0..4).map(|_| vec![0; 4096]).collect();
        for op in ops {
            match op {
                Op::SetSectors(at, len) => {
                    let end = (at + len).min(plain.size);
                    let touched = (at / 8..end.div_ceil(8)).filter(|_| len > 0 && at < end);
                    let wanted = plain.set(touched);
                    prop_assert_eq!(bitmap.set_sectors(at, len), wanted);
                }
                Op::ClearSectors(at, len) => {
                    let size = plain.size;
                    let covered = (0..plain.bits()).filter(|bit| {
                        at <= bit * 8 && (at + len).min(size) >= (bit * 8 + 8).min(size)
                    });
                    let wanted = plain.clear(covered);
                    prop_assert_eq!(bitmap.clear_sectors(at, len), wanted);
                }
                Op::SetRun(at, len) => {
                    prop_assert_eq!(bitmap.set_run(at, len), plain.set(at..at + len));
                }
                Op::ClearRun(at, len) => {
                    prop_assert_eq!(bitmap.clear_run(at, len), plain.clear(at..at + len));
                }
                Op::OrWords(at, words) => {
                    let bits = (at as u64 * 64..).take(words.len() * 64);
                    let chosen = bits.filter(|bit| {
                        words[(*bit / 64) as usize - at] & (1 << (bit % 64)) != 0
                    });
                    let wanted = plain.set(chosen.collect::<Vec<_>>().into_iter());
                    prop_assert_eq!(bitmap.or_words(at, &words), wanted);
                }
                Op::LoadOwnPage(page) if page < bitmap.page_count() => {
                    let bytes = bitmap.page_bytes(page);
                    disk[page].copy_from_slice(&bytes);
                    bitmap.load_page(page, &bytes);
                }
                Op::MarkClean(page) if page < bitmap.page_count() => {
                    disk[page].copy_from_slice(&bitmap.page_bytes(page));
                    bitmap.mark_clean(page);
                }
                Op::LoadOwnPage(_) | Op::MarkClean(_) => {}
                Op::Resize(size, set_new) => {
                    let old = plain.size;
                    plain.size = size;
                    let end = plain.bits();
                    plain.set.retain(|bit| *bit < end);
                    if set_new && size > old {
                        plain.set(old / 8..end);
                    }
                    bitmap.resize(size, set_new);
                }
                Op::All(set) => {
                    let bits = plain.bits();
                    if set {
                        plain.set(0..bits);
                        bitmap.set_all();
                    } else {
                        plain.set.clear();
                        bitmap.clear_all();
                    }
                }
            }
            checked(&bitmap);
            prop_assert!(bitmap.iter().eq(plain.set.iter().copied()));
            prop_assert_eq!(bitmap.next_clear(0), (0..plain.bits()).find(|b| !plain.set.contains(b)));
            for page in 0..bitmap.page_count() {
                let bytes = bitmap.page_bytes(page);
                let pairs = || disk[page].iter().zip(bytes);
                if !bitmap.is_dirty(page) {
                    prop_assert!(pairs().all(|(disk, now)| now & !disk == 0), "a bit is missing");
                    if !bitmap.is_lazy(page) {
                        let valid = bitmap.bits() - (page as u64 * 32_768).min(bitmap.bits());
                        let whole = (valid / 8).min(4096) as usize;
                        prop_assert_eq!(&disk[page][..whole], &bytes[..whole]);
                    }
                }
            }
        }
    }

    #[test]
    fn searches_agree_with_a_set(
        bits in proptest::collection::btree_set(0..70_000_u64, 0..20),
        from in 0..70_000_u64,
        len in 0..70_000_u64,
    ) {
        let mut bitmap = Bitmap::new(70_000 * 8, false);
        for &bit in &bits {
            bitmap.set_run(bit, 1);
        }
        prop_assert_eq!(bitmap.next_set(from), bits.range(from..).next().copied());
        prop_assert_eq!(bitmap.next_clear(from), (from..70_000).find(|bit| !bits.contains(bit)));
        prop_assert_eq!(bitmap.count_in(from..from + len), bits.range(from..from + len).count() as u64);
        prop_assert_eq!(bitmap.any_set(from * 8, len * 8), bits.range(from..from + len).count() > 0);
        prop_assert_eq!(bitmap.test_bit(from), bits.contains(&from));
    }
}
