//! The bitmap: one bit for each 4 KiB block, set if the block may differ from the peer's
//! (docs/spec/metadata.md, section 5).
//!
//! On disk it is a stream of little-endian 64-bit words in blocks of 4 KiB, here called pages: bit 0
//! of the first word is the device's first block. In memory it is the same words, so that counting,
//! searching and the exchange with the peer go 64 blocks at a time, and a page is written by copying.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::{BLOCK_BYTES, BLOCK_SECTORS, ExtentNr};

/// Bits of a page: 128 MiB of data.
pub const PAGE_BITS: u64 = 32_768;
/// Words of a page.
pub const PAGE_WORDS: usize = BLOCK_BYTES / 8;
/// Extents of the activity log whose bits one page holds.
pub const EXTENTS_PER_PAGE: u32 = 32;

/// The bitmap in memory, whole.
///
/// What must hold:
/// - bits beyond the device's end are zero, whatever the disk says (trap T16);
/// - each bit set in memory and not on disk is on a page marked dirty, each bit cleared in memory
///   and not on disk on a page marked dirty or lazy, as long as pages are loaded before use and
///   marks are taken off only for what is being written.
///
/// Why words and not a crate of bit vectors: the hot operations are the ones such a crate does not
/// have or does bit by bit, that is "set this run and say how many were new", "or these words from
/// the wire", and "this page as bytes". `docs/disk-format.md` has the figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    size_sectors: u64,
    words: Vec<u64>,
    set: u64,
    dirty: Marks,
    lazy: Marks,
}

impl Bitmap {
    /// A bitmap for a device of `size_sectors`. With `all_set` all pages are dirty; without, the disk
    /// is taken to be all zero or about to be loaded.
    pub fn new(size_sectors: u64, all_set: bool) -> Self {
        let bits = size_sectors.div_ceil(BLOCK_SECTORS);
        let words = usize::try_from(bits.div_ceil(64)).expect("a bitmap that fits into memory");
        let pages = words.div_ceil(PAGE_WORDS);
        let mut bitmap = Self {
            size_sectors,
            words: vec![0; words],
            set: 0,
            dirty: Marks::new(pages),
            lazy: Marks::new(pages),
        };
        if all_set {
            bitmap.set_all();
        }
        bitmap
    }

    /// The device's size in sectors.
    pub fn size_sectors(&self) -> u64 {
        self.size_sectors
    }

    /// Bits there are: blocks of the device, the last of them perhaps partial.
    pub fn bits(&self) -> u64 {
        self.size_sectors.div_ceil(BLOCK_SECTORS)
    }

    /// Bits that are set. Counted along, not counted now.
    pub fn count_set(&self) -> u64 {
        self.set
    }

    /// Sets the bit of every block the sectors touch. Returns how many were not set before.
    pub fn set_sectors(&mut self, sector: u64, sectors: u64) -> u64 {
        let bits = self.touched(sector, sectors);
        self.set_run(bits.start, bits.end - bits.start)
    }

    /// Clears the bits of the blocks the sectors cover wholly; the device's last, partial block is
    /// covered when the sectors reach the device's end. Returns how many were set before.
    pub fn clear_sectors(&mut self, sector: u64, sectors: u64) -> u64 {
        let end = sector.saturating_add(sectors);
        let end = if end >= self.size_sectors {
            self.bits()
        } else {
            end / BLOCK_SECTORS
        };
        let first = sector.div_ceil(BLOCK_SECTORS);
        self.clear_run(first, end.saturating_sub(first))
    }

    /// Sets `len` bits from `first_bit` on, as far as there are bits. Returns how many were not set
    /// before.
    pub fn set_run(&mut self, first_bit: u64, len: u64) -> u64 {
        let mut newly = 0;
        for (index, mask) in self.masks(first_bit, len) {
            let new = u64::from((mask & !self.words[index]).count_ones());
            if new > 0 {
                self.words[index] |= mask;
                self.dirty.set(index / PAGE_WORDS);
                newly += new;
            }
        }
        self.set += newly;
        newly
    }

    /// Clears `len` bits from `first_bit` on, as far as there are bits. Returns how many were set
    /// before.
    pub fn clear_run(&mut self, first_bit: u64, len: u64) -> u64 {
        let mut cleared = 0;
        for (index, mask) in self.masks(first_bit, len) {
            let old = u64::from((mask & self.words[index]).count_ones());
            if old > 0 {
                self.words[index] &= !mask;
                self.lazy.set(index / PAGE_WORDS);
                cleared += old;
            }
        }
        self.set -= cleared;
        cleared
    }

    /// Sets every bit.
    pub fn set_all(&mut self) {
        self.set_run(0, self.bits());
    }

    /// Clears every bit.
    pub fn clear_all(&mut self) {
        self.clear_run(0, self.bits());
    }

    /// Is the bit set? Bits beyond the end are not.
    pub fn test_bit(&self, bit: u64) -> bool {
        bit < self.bits() && self.words[word_of(bit)] & (1 << (bit % 64)) != 0
    }

    /// Is a bit set of any block the sectors touch?
    pub fn any_set(&self, sector: u64, sectors: u64) -> bool {
        let bits = self.touched(sector, sectors);
        self.masks(bits.start, bits.end - bits.start)
            .any(|(index, mask)| self.words[index] & mask != 0)
    }

    /// The first set bit at `from_bit` or behind it.
    pub fn next_set(&self, from_bit: u64) -> Option<u64> {
        self.next(from_bit, 0)
    }

    /// The first clear bit at `from_bit` or behind it.
    pub fn next_clear(&self, from_bit: u64) -> Option<u64> {
        self.next(from_bit, u64::MAX)
    }

    /// How many of these bits are set.
    pub fn count_in(&self, bits: Range<u64>) -> u64 {
        self.masks(bits.start, bits.end.saturating_sub(bits.start))
            .map(|(index, mask)| u64::from((self.words[index] & mask).count_ones()))
            .sum()
    }

    /// The numbers of the bits that are set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let mut from = 0;
        core::iter::from_fn(move || {
            let bit = self.next_set(from)?;
            from = bit + 1;
            Some(bit)
        })
    }

    /// The words; bit 0 of the first is the device's first block.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Sets the bits that are set in `words`, which lie from word `word_index` on. What is beyond the
    /// device's end is left out. Returns how many were not set before.
    pub fn or_words(&mut self, word_index: usize, words: &[u64]) -> u64 {
        let mut newly = 0;
        for (index, word) in (word_index..self.words.len()).zip(words) {
            let new = word & self.valid(index) & !self.words[index];
            if new != 0 {
                self.words[index] |= new;
                self.dirty.set(index / PAGE_WORDS);
                newly += u64::from(new.count_ones());
            }
        }
        self.set += newly;
        newly
    }

    /// Blocks of 4 KiB the bitmap takes on disk.
    pub fn page_count(&self) -> usize {
        self.words.len().div_ceil(PAGE_WORDS)
    }

    /// The page as it is written to disk.
    ///
    /// # Panics
    /// If there is no such page.
    pub fn page_bytes(&self, page: usize) -> [u8; BLOCK_BYTES] {
        assert!(
            page < self.page_count(),
            "page {page} of {}",
            self.page_count()
        );
        let mut bytes = [0; BLOCK_BYTES];
        let words = self.words[page * PAGE_WORDS..].iter();
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Takes the page from disk. Bits beyond the device's end are left out. `bytes` are a page, or
    /// less where the metadata device ends: what is missing stays as it was. The page has no mark
    /// afterwards, or the lazy one if bits were left out.
    ///
    /// # Panics
    /// If there is no such page.
    pub fn load_page(&mut self, page: usize, bytes: &[u8]) {
        assert!(
            page < self.page_count(),
            "page {page} of {}",
            self.page_count()
        );
        self.mark_clean(page);
        let (chunks, _) = bytes.as_chunks::<8>();
        let last = self.words.len().min((page + 1) * PAGE_WORDS);
        for (index, bytes) in (page * PAGE_WORDS..last).zip(chunks) {
            let stored = u64::from_le_bytes(*bytes);
            let word = stored & self.valid(index);
            if word != stored {
                self.lazy.set(page);
            }
            self.set += u64::from(word.count_ones());
            self.set -= u64::from(self.words[index].count_ones());
            self.words[index] = word;
        }
    }

    /// Were bits set on this page that are not on disk?
    pub fn is_dirty(&self, page: usize) -> bool {
        self.dirty.is_set(page)
    }

    /// Were bits cleared on this page that are still set on disk?
    pub fn is_lazy(&self, page: usize) -> bool {
        self.lazy.is_set(page)
    }

    /// Takes the marks off: the page is being written as it is now. If that write fails, the disk
    /// has failed (invariant I26).
    pub fn mark_clean(&mut self, page: usize) {
        self.dirty.clear(page);
        self.lazy.clear(page);
    }

    /// Marks a page to be written, though nothing changed: its place on disk did.
    pub fn mark_dirty(&mut self, page: usize) {
        if page < self.page_count() {
            self.dirty.set(page);
        }
    }

    /// Pages with bits set that are not on disk, ascending.
    pub fn dirty_pages(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.page_count()).filter(|page| self.dirty.is_set(*page))
    }

    /// Pages that differ from disk in any way, ascending: what is written at a demote or detach.
    pub fn changed_pages(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.page_count()).filter(|page| self.dirty.is_set(*page) || self.lazy.is_set(*page))
    }

    /// The page that holds the extent's bits.
    pub fn page_of_extent(extent: ExtentNr) -> usize {
        (extent.0 / EXTENTS_PER_PAGE) as usize
    }

    /// The device has another size now. What is new gets its bits set (`set_new`) or clear, a block
    /// that was partial and grows counts as new; what is gone is forgotten (trap T16). Pages that hold
    /// new bits are dirty, since what is on disk there is not known.
    pub fn resize(&mut self, new_size_sectors: u64, set_new: bool) {
        let old_size = self.size_sectors;
        if new_size_sectors < old_size {
            let bits = new_size_sectors.div_ceil(BLOCK_SECTORS);
            self.clear_run(bits, self.bits() - bits);
        }
        self.size_sectors = new_size_sectors;
        let words = usize::try_from(self.bits().div_ceil(64)).expect("fits into memory");
        self.words.resize(words, 0);
        let pages = self.page_count();
        self.dirty.resize(pages);
        self.lazy.resize(pages);
        if new_size_sectors > old_size {
            let first = old_size / BLOCK_SECTORS;
            if set_new {
                self.set_run(first, self.bits() - first);
            }
            for page in word_of(first) / PAGE_WORDS..pages {
                self.dirty.set(page);
            }
        }
    }

    /// The bits of the blocks the sectors touch.
    fn touched(&self, sector: u64, sectors: u64) -> Range<u64> {
        let end = sector.saturating_add(sectors).min(self.size_sectors);
        if sectors == 0 || sector >= end {
            return 0..0;
        }
        sector / BLOCK_SECTORS..end.div_ceil(BLOCK_SECTORS)
    }

    /// The words a run lies in, each with the run's bits in it.
    fn masks(&self, first_bit: u64, len: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let end = first_bit.saturating_add(len).min(self.bits());
        let first = first_bit.min(end);
        let words = word_of(first)..word_of(end.next_multiple_of(64)).max(word_of(first));
        words.map(move |index| {
            let base = index as u64 * 64;
            let low = u64::MAX << first.saturating_sub(base);
            let high = match end - base {
                0 => 0,
                bits @ 1..64 => u64::MAX >> (64 - bits),
                _ => u64::MAX,
            };
            (index, low & high)
        })
    }

    /// The bits of a word that stand for blocks of the device.
    fn valid(&self, index: usize) -> u64 {
        match self.bits() - index as u64 * 64 {
            bits @ 1..64 => u64::MAX >> (64 - bits),
            _ => u64::MAX,
        }
    }

    /// The first bit from `from_bit` on that differs from `background`.
    fn next(&self, from_bit: u64, background: u64) -> Option<u64> {
        if from_bit >= self.bits() {
            return None;
        }
        let first = word_of(from_bit);
        let mut mask = u64::MAX << (from_bit % 64);
        for (index, word) in self.words.iter().enumerate().skip(first) {
            let found = (word ^ background) & mask;
            if found != 0 {
                let bit = index as u64 * 64 + u64::from(found.trailing_zeros());
                return (bit < self.bits()).then_some(bit);
            }
            mask = u64::MAX;
        }
        None
    }
}

/// The word a bit is in. Words are in memory, so their count fits.
fn word_of(bit: u64) -> usize {
    (bit / 64) as usize
}

/// One mark a page.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Marks(Vec<u64>);

impl Marks {
    fn new(pages: usize) -> Self {
        Self(vec![0; pages.div_ceil(64)])
    }

    fn set(&mut self, page: usize) {
        self.0[page / 64] |= 1 << (page % 64);
    }

    fn clear(&mut self, page: usize) {
        self.0[page / 64] &= !(1 << (page % 64));
    }

    fn is_set(&self, page: usize) -> bool {
        self.0
            .get(page / 64)
            .is_some_and(|word| word & (1 << (page % 64)) != 0)
    }

    fn resize(&mut self, pages: usize) {
        self.0.resize(pages.div_ceil(64), 0);
        if let Some(last) = self.0.last_mut().filter(|_| !pages.is_multiple_of(64)) {
            *last &= (1 << (pages % 64)) - 1;
        }
    }
}
