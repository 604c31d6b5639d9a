//! What the metadata of a node that is down says of blocks that its peer may lack.

use alloc::vec::Vec;

use super::apply_al::read_log;
use super::{Metadata, ToolError, read_area};
use crate::activity_log::ReplayError;
use crate::bitmap::{PAGE_BITS, PAGE_WORDS};
use crate::{BLOCK_BYTES, BLOCK_SECTORS, Device, ExtentNr, MdFlags, MetaKind, Superblock};

/// What there is beside the bitmap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Identifiers, flags, and the last agreed size.
    pub superblock: Superblock,
    /// Sectors that the bitmap is about: the last agreed size, as far as the disk has them.
    pub size_sectors: u64,
    /// The extents that were written to when the node crashed as Primary: of their blocks any may have been written. None after an
    /// orderly end.
    pub hot: Vec<ExtentNr>,
    /// Why the activity log of a crashed Primary does not say.
    pub log_error: Option<ReplayError>,
}

impl Marks {
    /// Every block counts as marked, whatever the bitmap says.
    pub fn is_full_sync(&self) -> bool {
        self.superblock.flags.contains(MdFlags::FULL_SYNC)
    }
}

/// Reads the bitmap, and the activity log of a crashed Primary. `on_word` is told of each word of the bitmap that is not 0, in order:
/// the number of its first block, and the word, of which bit 0 is that block. Nothing is written.
///
/// # Errors
/// No valid metadata, or a device that fails.
pub fn read_marks(
    device: &mut dyn Device,
    kind: MetaKind,
    on_word: &mut dyn FnMut(u64, u64),
) -> Result<Marks, ToolError> {
    let metadata = Metadata::open(device, kind)?;
    let size_sectors = metadata.size_sectors();
    let blocks = size_sectors.div_ceil(BLOCK_SECTORS);
    let pages = usize::try_from(blocks.div_ceil(PAGE_BITS))
        .map_err(|_| ToolError::Memory { bytes: u64::MAX })?;
    for page in 0..pages {
        let (sector, sectors) = metadata.layout.bitmap_page_sectors(page);
        let bytes = read_area(device, sector, sectors)?;
        let (words, _) = bytes.as_chunks::<8>();
        for (index, bytes) in words.iter().take(PAGE_WORDS).enumerate() {
            let first = page as u64 * PAGE_BITS + index as u64 * 64;
            let valid = match blocks.saturating_sub(first) {
                0 => 0,
                bits @ 1..64 => u64::MAX >> (64 - bits),
                _ => u64::MAX,
            };
            let word = u64::from_le_bytes(*bytes) & valid;
            if word != 0 {
                on_word(first, word);
            }
        }
    }
    let (mut hot, mut log_error) = (Vec::new(), None);
    if metadata.superblock.flags.contains(MdFlags::PRIMARY_IND) {
        match read_log(device, &metadata)?.replayed {
            Ok(replayed) => hot.extend(replayed.hot),
            Err(error) => log_error = Some(error),
        }
    }
    Ok(Marks {
        superblock: metadata.superblock,
        size_sectors,
        hot,
        log_error,
    })
}

const _: () = assert!(PAGE_WORDS * 8 == BLOCK_BYTES);
