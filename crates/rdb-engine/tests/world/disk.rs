//! A disk with a cache: what was written is there at once, and durable only after a flush that came later. Power cuts
//! keep or lose every sector that was not flushed, each for itself.

use std::collections::{BTreeMap, HashMap};

use super::Rng;

const PAGE: usize = 4096;
const ZEROES: [u8; PAGE] = [0; PAGE];

/// Contents of a page at some time.
struct Version {
    stamp: u64,
    bytes: Box<[u8; PAGE]>,
}

/// Pages never written are zeroes and take no memory.
pub struct Disk {
    pub sectors: u64,
    /// Below is data, from here on metadata: two devices as far as flushes go, as with external metadata.
    pub data_sectors: u64,
    pages: HashMap<u64, Box<[u8; PAGE]>>,
    /// Pages that a power cut may take back, the durable version first.
    dirty: BTreeMap<u64, Vec<Version>>,
    clock: u64,
    /// Operations to come that fail, by what they are.
    pub fail_reads: u32,
    pub fail_writes: u32,
    pub fail_meta: u32,
    /// Bytes of writes that reached the data area.
    pub written_bytes: u64,
}

impl Disk {
    pub fn new(sectors: u64, data_sectors: u64) -> Disk {
        Disk {
            sectors,
            data_sectors,
            pages: HashMap::new(),
            dirty: BTreeMap::new(),
            clock: 1,
            fail_reads: 0,
            fail_writes: 0,
            fail_meta: 0,
            written_bytes: 0,
        }
    }

    /// What is answered now has happened before this.
    pub fn stamp(&self) -> u64 {
        self.clock
    }

    pub fn read(&self, sector: u64, bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        let mut at = 0;
        while at < bytes {
            let position = sector * 512 + at as u64;
            let (page, offset) = (position / PAGE as u64, (position % PAGE as u64) as usize);
            let n = (PAGE - offset).min(bytes - at);
            if let Some(content) = self.pages.get(&page) {
                out[at..at + n].copy_from_slice(&content[offset..offset + n]);
            }
            at += n;
        }
        out
    }

    /// What a power cut would leave at worst: nothing that was not flushed.
    pub fn durable(&self, sector: u64, bytes: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes);
        while out.len() < bytes {
            let position = sector * 512 + out.len() as u64;
            let (page, offset) = (position / PAGE as u64, (position % PAGE as u64) as usize);
            let n = (PAGE - offset).min(bytes - out.len());
            let content = match self.dirty.get(&page).and_then(|v| v.first()) {
                Some(version) => &version.bytes[..],
                None => self.pages.get(&page).map_or(&ZEROES[..], |p| &p[..]),
            };
            out.extend_from_slice(&content[offset..offset + n]);
        }
        out
    }

    pub fn write(&mut self, sector: u64, data: &[u8], durable: bool) {
        assert!(
            sector + data.len() as u64 / 512 <= self.sectors,
            "a write beyond the disk"
        );
        self.clock += 1;
        let stamp = self.clock;
        let mut at = 0;
        while at < data.len() {
            let position = sector * 512 + at as u64;
            let (page, offset) = (position / PAGE as u64, (position % PAGE as u64) as usize);
            let n = (PAGE - offset).min(data.len() - at);
            let content = self.pages.entry(page).or_insert_with(|| Box::new(ZEROES));
            if durable {
                // Only these sectors: what else the page holds stays as volatile as it was.
                if let Some(versions) = self.dirty.get_mut(&page) {
                    for version in versions {
                        version.bytes[offset..offset + n].copy_from_slice(&data[at..at + n]);
                    }
                }
                content[offset..offset + n].copy_from_slice(&data[at..at + n]);
            } else {
                let versions = self.dirty.entry(page).or_insert_with(|| {
                    vec![Version {
                        stamp: 0,
                        bytes: content.clone(),
                    }]
                });
                content[offset..offset + n].copy_from_slice(&data[at..at + n]);
                versions.push(Version {
                    stamp,
                    bytes: content.clone(),
                });
                if versions.len() > 6 {
                    // A flush that is under way may promise the one that goes: the next stands for it then.
                    let gone = versions.remove(3);
                    versions[3].stamp = gone.stamp;
                }
            }
            at += n;
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
        for (page, versions) in std::mem::take(&mut self.dirty) {
            let content = self.pages.get_mut(&page).expect("dirty pages exist");
            for n in 0..8 {
                let pick = match style {
                    0 => 0,
                    1 => versions.len() - 1,
                    _ => rng.below(versions.len() as u64) as usize,
                };
                let range = n * 512..(n + 1) * 512;
                content[range.clone()].copy_from_slice(&versions[pick].bytes[range]);
            }
        }
    }

    /// Blocks of the data area that differ, up to the smaller size.
    pub fn differences(&self, other: &Disk, sectors: u64) -> Vec<u64> {
        let mut pages: Vec<u64> = self
            .pages
            .keys()
            .chain(other.pages.keys())
            .copied()
            .collect();
        pages.sort_unstable();
        pages.dedup();
        pages
            .into_iter()
            .filter(|&page| page * 8 < sectors)
            .filter(|&page| {
                let bytes = ((sectors - page * 8).min(8) * 512) as usize;
                let a = self.pages.get(&page).map_or(&ZEROES, |p| p);
                let b = other.pages.get(&page).map_or(&ZEROES, |p| p);
                a[..bytes] != b[..bytes]
            })
            .collect()
    }
}
