//! Bitmap blocks on their way to the disk.

use alloc::vec::Vec;

use rdb_meta::{Bitmap, Layout};

use crate::disk::operation::{Area, MetaWrite};

/// Copies of bitmap blocks, by their numbers.
pub(super) type Pages = Vec<(usize, [u8; PAGE])>;

const PAGE: usize = 4096;
/// Blocks of one bitmap write: 256 KiB.
const PAGES_PER_WRITE: usize = 64;

/// Copies of these blocks, which count as written from now on.
pub(super) fn copies(bitmap: &mut Bitmap, pages: &[usize]) -> Pages {
    pages
        .iter()
        .map(|&page| {
            bitmap.mark_clean(page);
            (page, bitmap.page_bytes(page))
        })
        .collect()
}

/// The writes of these blocks, neighbours in one write.
pub(super) fn writes(layout: &Layout, pages: Pages) -> Vec<MetaWrite> {
    let mut writes: Vec<MetaWrite> = Vec::new();
    let mut next_page = usize::MAX;
    let mut in_write = 0;
    for (page, bytes) in pages {
        let (sector, sectors) = layout.bitmap_page_sectors(page);
        let bytes = &bytes[..usize::try_from(sectors).unwrap_or(8).min(8) * 512];
        match writes.last_mut() {
            Some(write) if page == next_page && in_write < PAGES_PER_WRITE => {
                write.data.extend_from_slice(bytes);
                in_write += 1;
            }
            _ => {
                writes.push(MetaWrite {
                    area: Area::Bitmap,
                    sector,
                    data: bytes.to_vec(),
                    preflush: false,
                    fua: false,
                });
                in_write = 1;
            }
        }
        next_page = page + 1;
    }
    writes
}
