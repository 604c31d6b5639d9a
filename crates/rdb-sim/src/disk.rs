//! A disk with a cache: what was written is there at once, and durable only after a flush that came later. Power cuts
//! keep or lose every sector that was not flushed, each for itself: writes are torn at 512 bytes and pass one another.
//!
//! Sectors that repeat one 64-bit word, as all of a workload's do, are stored as that word.

use std::collections::BTreeMap;

use rdb_engine::Time;

use crate::rng::{NumberMap, Rng};

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// 4 KiB: eight words that fill a sector each, or bytes.
#[derive(Clone, Debug)]
enum Page {
    Words([u64; 8]),
    Raw(Box<[u8; PAGE]>),
}

impl Page {
    const ZEROES: Page = Page::Words([0; 8]);

    fn read(&self, sector: usize, out: &mut [u8]) {
        match self {
            Page::Words(words) => {
                let word = words[sector].to_le_bytes();
                if words[sector] == 0 {
                    out.fill(0);
                } else {
                    out.as_chunks_mut::<8>().0.fill(word);
                }
            }
            Page::Raw(bytes) => out.copy_from_slice(&bytes[sector * SECTOR..(sector + 1) * SECTOR]),
        }
    }

    fn write(&mut self, sector: usize, data: &[u8]) {
        if let Page::Words(words) = self {
            if let Some(word) = word_of(data) {
                words[sector] = word;
                return;
            }
            let mut bytes = Box::new([0; PAGE]);
            for n in 0..8 {
                self.read(n, &mut bytes[n * SECTOR..(n + 1) * SECTOR]);
            }
            *self = Page::Raw(bytes);
        }
        if let Page::Raw(bytes) = self {
            bytes[sector * SECTOR..(sector + 1) * SECTOR].copy_from_slice(data);
        }
    }

    fn word(&self, sector: usize) -> Option<u64> {
        match self {
            Page::Words(words) => Some(words[sector]),
            Page::Raw(bytes) => word_of(&bytes[sector * SECTOR..(sector + 1) * SECTOR]),
        }
    }

    fn copy_sector(&mut self, sector: usize, from: &Page) {
        match (&mut *self, from) {
            (Page::Words(to), Page::Words(from)) => to[sector] = from[sector],
            _ => {
                let mut bytes = [0; SECTOR];
                from.read(sector, &mut bytes);
                self.write(sector, &bytes);
            }
        }
    }

    fn same(&self, other: &Page, sectors: usize) -> bool {
        match (self, other) {
            (Page::Words(a), Page::Words(b)) => a[..sectors] == b[..sectors],
            _ => (0..sectors).all(|n| {
                let (mut a, mut b) = ([0; SECTOR], [0; SECTOR]);
                self.read(n, &mut a);
                other.read(n, &mut b);
                a == b
            }),
        }
    }
}

/// The word that this sector repeats, if it does.
pub(crate) fn word_of(sector: &[u8]) -> Option<u64> {
    let word: [u8; 8] = sector.get(..8)?.try_into().ok()?;
    (sector[..sector.len() - 8] == sector[8..]).then(|| u64::from_le_bytes(word))
}

/// Contents of a page at some time.
#[derive(Clone, Debug)]
struct Version {
    stamp: u64,
    page: Page,
}

/// What there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Room {
    /// Everything.
    #[default]
    All,
    /// Writes to where something has been written before.
    Written,
    /// Nothing, as where every write goes to a new place.
    None,
}

/// Pages never written are zeroes and take no memory.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Size in sectors, metadata included.
    pub sectors: u64,
    /// Below is data, from here on metadata: two devices as far as flushes go, as with external metadata.
    pub data_sectors: u64,
    pages: NumberMap<Page>,
    /// Pages that a power cut may take back, the durable version first.
    dirty: BTreeMap<u64, Vec<Version>>,
    clock: u64,
    /// Reads of data to come that fail.
    pub fail_reads: u32,
    /// Writes and flushes of data to come that fail.
    pub fail_writes: u32,
    /// Operations on metadata to come that fail.
    pub fail_meta: u32,
    /// All operations fail.
    pub dead: bool,
    /// Data sectors whose reads and writes fail: a range, empty if none.
    pub bad_sectors: std::ops::Range<u64>,
    /// What there is room for, until then.
    pub room: Room,
    /// Until when.
    pub full_until: Time,
    /// How many times slower than usual.
    pub slow: u64,
    /// Nothing is answered before.
    pub stuck_until: Time,
    /// So many reads of data to come are not answered before [`Disk::keeps_until`].
    pub keep_reads: u32,
    /// Until when.
    pub keeps_until: Time,
    /// The next operation on data, or on metadata, lands elsewhere.
    pub misdirect: Option<bool>,
    /// Bytes of writes that reached the data area.
    pub written_bytes: u64,
    /// Data pages written since somebody looked: see [`Disk::take_touched`].
    touched: Vec<u64>,
    /// Sectors that a power cut took back, ever.
    pub lost_sectors: u64,
}

impl Disk {
    /// Zeroes.
    pub fn new(sectors: u64, data_sectors: u64) -> Disk {
        Disk {
            sectors,
            data_sectors,
            pages: NumberMap::default(),
            dirty: BTreeMap::new(),
            clock: 1,
            fail_reads: 0,
            fail_writes: 0,
            fail_meta: 0,
            dead: false,
            bad_sectors: 0..0,
            room: Room::All,
            full_until: Time(0),
            slow: 1,
            stuck_until: Time(0),
            keep_reads: 0,
            keeps_until: Time(0),
            misdirect: None,
            written_bytes: 0,
            touched: Vec::new(),
            lost_sectors: 0,
        }
    }

    /// What is answered now has happened before this.
    pub fn stamp(&self) -> u64 {
        self.clock
    }

    /// Contents, as any reader sees them.
    pub fn read(&self, sector: u64, bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        let end = sector + (bytes / SECTOR) as u64;
        let mut at = sector;
        while at < end {
            let until = end.min((at / 8 + 1) * 8);
            if let Some(page) = self.pages.get(&(at / 8)) {
                for s in at..until {
                    let from = (s - sector) as usize * SECTOR;
                    page.read((s % 8) as usize, &mut out[from..from + SECTOR]);
                }
            }
            at = until;
        }
        out
    }

    /// What a power cut would leave at worst: nothing that was not flushed.
    pub fn durable(&self, sector: u64, bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        for (s, out) in (sector..).zip(out.chunks_exact_mut(SECTOR)) {
            let nr = s / 8;
            let flushed = self.dirty.get(&nr).and_then(|v| v.first());
            if let Some(page) = flushed.map(|v| &v.page).or(self.pages.get(&nr)) {
                page.read((s % 8) as usize, out);
            }
        }
        out
    }

    /// A print of what [`Disk::durable`] says of these first sectors: two disks with the same have the same.
    pub(crate) fn durable_print(&self, sectors: u64) -> u64 {
        // FNV-1a, over pages that hold something, and where they are.
        let mut print = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |byte: u8| {
            print = (print ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        };
        let mut pages: Vec<u64> = self.pages.keys().copied().collect();
        pages.extend(self.dirty.keys());
        pages.retain(|nr| nr * 8 < sectors);
        pages.sort_unstable();
        pages.dedup();
        for nr in pages {
            let content = self.durable(nr * 8, PAGE);
            if content.iter().any(|byte| *byte != 0) {
                nr.to_le_bytes()
                    .into_iter()
                    .chain(content)
                    .for_each(&mut add);
            }
        }
        print
    }

    /// The word that a sector repeats, or `None` if it holds a mixture.
    pub fn word(&self, sector: u64) -> Option<u64> {
        match self.pages.get(&(sector / 8)) {
            None => Some(0),
            Some(page) => page.word((sector % 8) as usize),
        }
    }

    /// # Panics
    /// If it goes beyond the disk.
    pub fn write(&mut self, sector: u64, data: &[u8], durable: bool) {
        let end = sector + data.len() as u64 / 512;
        assert!(end <= self.sectors, "a write beyond the disk");
        let zeroes = |at: u64, until: u64| {
            let part = ((at - sector) * 512) as usize..((until - sector) * 512) as usize;
            data[part] == [0; PAGE][..((until - at) * 512) as usize]
        };
        self.change(sector, end, durable, zeroes, |page, n, at| {
            let from = ((at - sector) * 512) as usize;
            page.write(n, &data[from..from + SECTOR]);
        });
    }

    /// As a write of zeroes.
    ///
    /// # Panics
    /// If it goes beyond the disk.
    pub fn zero(&mut self, sector: u64, sectors: u64) {
        let end = sector + sectors;
        assert!(end <= self.sectors, "a discard beyond the disk");
        let zeroes = |_, _| true;
        self.change(sector, end, false, zeroes, |page, n, _| {
            page.write(n, &[0; SECTOR]);
        });
    }

    fn change(
        &mut self,
        sector: u64,
        end: u64,
        durable: bool,
        zeroes: impl Fn(u64, u64) -> bool,
        mut put: impl FnMut(&mut Page, usize, u64),
    ) {
        self.clock += 1;
        let stamp = self.clock;
        let mut at = sector;
        while at < end {
            let nr = at / 8;
            let until = end.min((nr + 1) * 8);
            if !self.pages.contains_key(&nr) && zeroes(at, until) {
                at = until;
                continue; // as it was, now and after a power cut
            }
            if nr * 8 < self.data_sectors {
                self.touched.push(nr);
            }
            let page = self.pages.entry(nr).or_insert(Page::ZEROES);
            if durable {
                // Only these sectors: what else the page holds stays as volatile as it was.
                if let Some(versions) = self.dirty.get_mut(&nr) {
                    for version in versions {
                        (at..until).for_each(|s| put(&mut version.page, (s % 8) as usize, s));
                    }
                }
                (at..until).for_each(|s| put(page, (s % 8) as usize, s));
            } else {
                let versions = self.dirty.entry(nr).or_insert_with(|| {
                    let page = page.clone();
                    vec![Version { stamp: 0, page }]
                });
                (at..until).for_each(|s| put(page, (s % 8) as usize, s));
                let page = page.clone();
                versions.push(Version { stamp, page });
                if versions.len() > 6 {
                    // A flush that is under way may promise the one that goes: the next stands for it then.
                    let gone = versions.remove(3);
                    versions[3].stamp = gone.stamp;
                }
            }
            at = until;
        }
    }

    /// Everything written up to `stamp` is durable, on one of the two devices.
    pub fn flush(&mut self, stamp: u64, meta: bool) {
        let border = self.data_sectors / 8;
        self.dirty.retain(|&page, versions| {
            if (page >= border) != meta {
                return true;
            }
            let last = versions.iter().rposition(|v| v.stamp <= stamp).unwrap_or(0);
            versions.drain(..last);
            versions.len() > 1
        });
    }

    /// The power goes: each sector keeps one of the contents it had since it was flushed.
    pub fn power_cut(&mut self, rng: &mut Rng) {
        // Often everything or nothing: the mixtures alone would hide what needs many sectors to be old.
        let style = rng.below(4);
        for (nr, versions) in std::mem::take(&mut self.dirty) {
            let content = self.pages.get_mut(&nr).expect("dirty pages exist");
            if nr * 8 < self.data_sectors {
                self.touched.push(nr);
            }
            for n in 0..8 {
                let pick = match style {
                    0 => 0,
                    1 => versions.len() - 1,
                    _ => rng.below(versions.len() as u64) as usize,
                };
                self.lost_sectors += u64::from(pick + 1 < versions.len());
                content.copy_sector(n, &versions[pick].page);
            }
        }
    }

    /// How many pages a power cut may take back.
    pub fn unflushed(&self) -> usize {
        self.dirty.len()
    }

    /// As [`Disk::power_cut`], in one of the [`crate::crash::variants`] of this disk.
    pub fn power_cut_keeping(&mut self, variant: u64, rng: &mut Rng) {
        let pages = self.dirty.len();
        for (n, (nr, versions)) in std::mem::take(&mut self.dirty).into_iter().enumerate() {
            let content = self.pages.get_mut(&nr).expect("dirty pages exist");
            if nr * 8 < self.data_sectors {
                self.touched.push(nr);
            }
            let newest = versions.len() - 1;
            let whole = match variant {
                0 => Some(0),
                1 => Some(newest),
                mask if pages <= 3 => Some(if (mask - 1) >> n & 1 == 0 { 0 } else { newest }),
                alone @ 2..8 => {
                    let old = (alone - 2) as usize * pages / 6;
                    Some(if n == old { 0 } else { newest })
                }
                _ => None,
            };
            for sector in 0..8 {
                let pick = whole.unwrap_or_else(|| rng.below(versions.len() as u64) as usize);
                self.lost_sectors += u64::from(pick < newest);
                content.copy_sector(sector, &versions[pick].page);
            }
        }
    }

    /// Whether a power cut would lose anything.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether a power cut may take data back.
    pub fn has_unflushed_data(&self) -> bool {
        let first = self.dirty.keys().next();
        first.is_some_and(|nr| nr * 8 < self.data_sectors)
    }

    /// Data pages written, or changed by a power cut, since the last call; some of them more than once.
    pub fn take_touched(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.touched)
    }

    /// Whether a page of the data area is the same on both, up to the smaller size.
    pub fn same_page(&self, other: &Disk, nr: u64) -> bool {
        let sectors = self.data_sectors.min(other.data_sectors);
        let count = sectors.saturating_sub(nr * 8).min(8) as usize;
        let a = self.pages.get(&nr).unwrap_or(&Page::ZEROES);
        let b = other.pages.get(&nr).unwrap_or(&Page::ZEROES);
        a.same(b, count)
    }

    /// Blocks of the data area that differ, below `sectors`.
    pub fn differences(&self, other: &Disk, sectors: u64) -> Vec<u64> {
        let keys = self.pages.keys().chain(other.pages.keys());
        let mut pages: Vec<u64> = keys.copied().filter(|&p| p * 8 < sectors).collect();
        pages.sort_unstable();
        pages.dedup();
        pages.retain(|&nr| !self.same_page(other, nr));
        pages
    }

    /// Whether an operation on these data sectors meets a bad one.
    pub fn is_bad(&self, sector: u64, sectors: u64) -> bool {
        sector < self.bad_sectors.end && self.bad_sectors.start < sector + sectors
    }

    /// Whether there is room for a write.
    pub fn has_room(&self, sector: u64, sectors: u64) -> bool {
        let mut pages = sector / 8..(sector + sectors).div_ceil(8);
        match self.room {
            Room::All => true,
            Room::Written => pages.all(|nr| self.pages.contains_key(&nr)),
            Room::None => false,
        }
    }

    /// Operations that were to fail and have not come do not fail any more.
    pub(crate) fn forget_failures(&mut self) {
        (self.fail_reads, self.fail_writes, self.fail_meta) = (0, 0, 0);
    }

    /// Every fault of this disk ends.
    pub fn repair(&mut self) {
        (self.fail_reads, self.fail_writes, self.fail_meta) = (0, 0, 0);
        self.dead = false;
        self.bad_sectors = 0..0;
        self.misdirect = None;
        self.room = Room::All;
        self.slow = 1;
        self.stuck_until = Time(0);
        (self.keep_reads, self.keeps_until) = (0, Time(0));
    }
}
