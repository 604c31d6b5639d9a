//! `apply-al`: the crash recovery before every attach (docs/spec/metadata.md, section 4.10).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;

use super::{Console, Exit, Metadata, ToolError, human_size, read_area};
use crate::activity_log::{
    AL_MAGIC, Replay, ReplayError, initialised_ring, legacy_ring_sectors, replay, replay_legacy,
};
use crate::bitmap::EXTENTS_PER_PAGE;
use crate::{AlGeometry, BLOCK_BYTES, Device, ExtentNr, Magic, MdFlags, MetaKind, SECTOR_BYTES};

/// Bytes of the bitmap for one extent.
const EXTENT_BYTES: usize = BLOCK_BYTES / EXTENTS_PER_PAGE as usize;

/// Sets the bits of every extent the activity log names, if the node was Primary when it stopped,
/// empties the log and declares the metadata clean.
///
/// Bits durable, then the ring, then the superblock, with a flush between (invariant I14): repeated
/// after a crash at any point it sets at least the same bits. `PRIMARY_IND` stays: it tells the next
/// attach that there was a crash (trap T10). Without it the log is not looked at.
///
/// # Errors
/// No valid metadata; or a log that cannot be read while it is needed: nothing is changed then
/// (invariant I15).
pub fn apply_al(
    device: &mut dyn Device,
    kind: MetaKind,
    console: &mut dyn Console,
) -> Result<Exit, ToolError> {
    let mut metadata = Metadata::open(device, kind)?;
    let layout = metadata.layout;
    let Log { legacy, replayed } = read_log(device, &metadata)?;

    let was_primary = metadata.superblock.flags.contains(MdFlags::PRIMARY_IND);
    // With FULL_SYNC the next attach sets every bit: no log is needed.
    let needed = was_primary && !metadata.superblock.flags.contains(MdFlags::FULL_SYNC);
    let reset_ring = match &replayed {
        Ok(replayed) => {
            if replayed.corrupt > 0 {
                console.err(&format!(
                    "{} corrupt AL transactions found\n",
                    replayed.corrupt
                ));
            }
            if replayed.updates_found && was_primary {
                mark(device, &metadata, replayed, console)?;
            }
            replayed.updates_found || legacy
        }
        Err(error @ (ReplayError::NoUsableLog | ReplayError::NoUpdate { .. })) if !needed => {
            console.err(&format!(
                "{error}\nError ignored, no need to apply the AL\n"
            ));
            true
        }
        Err(error) => return Err((*error).into()),
    };
    if !reset_ring && !metadata.superblock.needs_apply_al() {
        return Ok(Exit::Ok);
    }
    if reset_ring {
        device.flush()?;
        device.write_at(layout.al_sector, &initialised_ring(layout.al))?;
    }
    metadata.superblock.flags |= MdFlags::AL_CLEAN;
    metadata.superblock.magic = Magic::V08;
    metadata.save(device)?;
    Ok(Exit::Ok)
}

/// A log as it was read.
pub(super) struct Log {
    /// It is one of 8.3.
    legacy: bool,
    /// What it says.
    pub(super) replayed: Result<Replay, ReplayError>,
}

/// Reads the log, of whatever age it is.
pub(super) fn read_log(device: &mut dyn Device, metadata: &Metadata) -> Result<Log, ToolError> {
    let layout = metadata.layout;
    let ring = read_area(device, layout.al_sector, layout.al.sectors())?;
    let legacy = is_legacy(metadata, &ring);
    let replayed = if legacy {
        let len = legacy_ring_sectors(metadata.superblock.al_nr_extents);
        let len = usize::try_from(len).map_or(ring.len(), |len| len * SECTOR_BYTES);
        replay_legacy(&ring[..len.min(ring.len())])
    } else {
        replay(layout.al, &ring)
    };
    Ok(Log { legacy, replayed })
}

/// Is it the log of 8.3, before there were stripes and before there was an unclean magic?
fn is_legacy(metadata: &Metadata, ring: &[u8]) -> bool {
    let is_al_block =
        |block: usize| ring[block * BLOCK_BYTES..].starts_with(&AL_MAGIC.to_be_bytes());
    metadata.superblock.magic == Magic::V08
        && metadata.layout.al == AlGeometry::DEFAULT
        && !is_al_block(0)
        && !is_al_block(1)
}

/// Sets the bits of the hot extents, a bitmap block at a time.
fn mark(
    device: &mut dyn Device,
    metadata: &Metadata,
    replayed: &Replay,
    console: &mut dyn Console,
) -> Result<(), ToolError> {
    let layout = &metadata.layout;
    let mut pages: BTreeMap<usize, BTreeSet<ExtentNr>> = BTreeMap::new();
    for &extent in &replayed.hot {
        pages
            .entry(crate::Bitmap::page_of_extent(extent))
            .or_default()
            .insert(extent);
    }
    let mut newly_set = 0;
    for (page, extents) in pages {
        let (sector, sectors) = layout.bitmap_page_sectors(page);
        let mut bytes = [0; BLOCK_BYTES];
        let bytes = &mut bytes[..sectors as usize * SECTOR_BYTES];
        if !bytes.is_empty() {
            device.read_at(sector, bytes)?;
        }
        for extent in extents {
            let first = (extent.0 % EXTENTS_PER_PAGE) as usize * EXTENT_BYTES;
            let Some(bits) = bytes.get_mut(first..first + EXTENT_BYTES) else {
                console.err(&format!(
                    "extent {extent} beyond end of bitmap! ({} >= {})\n",
                    u64::from(extent.0) * EXTENT_BYTES as u64,
                    layout.bitmap_sectors * SECTOR_BYTES as u64
                ));
                continue;
            };
            newly_set += bits
                .iter()
                .map(|byte| u64::from(byte.count_zeros()))
                .sum::<u64>();
            bits.fill(0xff);
        }
        if !bytes.is_empty() {
            device.write_at(sector, bytes)?;
        }
    }
    console.err(&if newly_set > 0 {
        let size = human_size(newly_set * (BLOCK_BYTES as u64 / 1024));
        format!("Marked additional {size} as out-of-sync based on AL.\n")
    } else {
        "Nothing to do.\n".into()
    });
    Ok(())
}
