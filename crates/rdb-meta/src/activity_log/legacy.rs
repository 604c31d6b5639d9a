//! The activity log of 8.3 and before: 512-byte sectors, one change each
//! (docs/spec/metadata.md, section 4.12). Only read, when such a disk is brought up to date.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::{FREE, Replay, ReplayError};
use crate::{ExtentNr, SECTOR_BYTES};

/// The magic of each sector.
pub const LEGACY_MAGIC: u32 = 0x8374_0267;
/// Pairs of slot and extent in a sector: the update, and 61 of context.
const PAIRS: usize = 62;

/// Sectors of a legacy ring for `al_nr_extents` of the superblock.
pub fn legacy_ring_sectors(al_nr_extents: u32) -> u64 {
    1 + u64::from(al_nr_extents).div_ceil(PAIRS as u64 - 1)
}

/// Reads a ring of 8.3, of [`legacy_ring_sectors`] sectors.
///
/// # Errors
/// [`ReplayError::Length`] for no whole number of sectors, [`ReplayError::NoUsableLog`] if no sector
/// is valid.
pub fn replay_legacy(ring: &[u8]) -> Result<Replay, ReplayError> {
    if ring.is_empty() || !ring.len().is_multiple_of(SECTOR_BYTES) {
        return Err(ReplayError::Length {
            got: ring.len(),
            want: SECTOR_BYTES as u64,
        });
    }
    let mut valid: Vec<(u32, &[u8])> = ring
        .chunks_exact(SECTOR_BYTES)
        .filter(|sector| is_valid(sector))
        .map(|sector| (word(sector, 4), sector))
        .collect();
    let corrupt = ring.len() / SECTOR_BYTES - valid.len();
    let Some(&(first, _)) = valid.first() else {
        return Err(ReplayError::NoUsableLog);
    };
    let newest = valid.iter().fold(first, |newest, &(number, _)| {
        if number.wrapping_sub(newest).cast_signed() > 0 {
            number
        } else {
            newest
        }
    });
    valid.sort_by_key(|&(number, _)| number.wrapping_sub(newest).cast_signed());

    let mut slots = BTreeMap::new();
    for (_, sector) in valid {
        // The update is pair 0 and comes last.
        for pair in (0..PAIRS).rev() {
            let (slot, extent) = (word(sector, 8 + pair * 8), word(sector, 12 + pair * 8));
            if extent != FREE {
                slots.insert(slot, ExtentNr(extent));
            }
        }
    }
    let hot: BTreeSet<ExtentNr> = slots.into_values().collect();
    Ok(Replay {
        hot,
        newest_tr: Some(newest),
        updates_found: true,
        corrupt,
        ignored_entries: 0,
    })
}

fn is_valid(sector: &[u8]) -> bool {
    let sum = (0..PAIRS).fold(0, |sum, pair| sum ^ word(sector, 12 + pair * 8));
    word(sector, 0) == LEGACY_MAGIC && word(sector, 504) == sum
}

fn word(sector: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes([
        sector[offset],
        sector[offset + 1],
        sector[offset + 2],
        sector[offset + 3],
    ])
}
