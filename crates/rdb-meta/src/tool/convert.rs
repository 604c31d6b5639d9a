//! From the 9.x format to version 08 (docs/spec/metadata.md, appendix A).

use super::ToolError;
use crate::superblock::{MAGIC_V09, UUID_JUST_CREATED};
use crate::{BLOCK_BYTES, Device, Layout, MdFlags, Superblock};

const PEERS: usize = 112;
const HISTORY: usize = 1136;

/// Reads the version 09 superblock in place and gives it as version 08, for `layout`, where it and
/// its bitmap are already. Only one peer's bitmap is the same in both formats, and only with the
/// activity log applied is the bitmap all there is.
pub(super) fn v09_to_v08(
    device: &mut dyn Device,
    layout: &Layout,
) -> Result<Superblock, ToolError> {
    let mut block = [0; BLOCK_BYTES];
    device.read_at(layout.superblock_sector, &mut block)?;
    let be32 = |at: usize| u32::from_be_bytes(core::array::from_fn(|i| block[at + i]));
    let be64 = |at: usize| u64::from_be_bytes(core::array::from_fn(|i| block[at + i]));

    if be32(60) != MAGIC_V09 {
        return Err(ToolError::Unsupported(
            "there is no version 09 meta data to convert",
        ));
    }
    let flags = MdFlags::from_bits_retain(be32(56));
    if !flags.contains(MdFlags::AL_CLEAN) {
        return Err(ToolError::Unclean);
    }
    if be32(88) != 1 {
        return Err(ToolError::Unsupported(
            "only version 09 meta data for one peer can be converted",
        ));
    }
    let mut superblock = Superblock::new(layout);
    let place = (
        be32(64),
        be32(68).cast_signed(),
        be32(76).cast_signed(),
        be32(80),
    );
    let wanted = (
        superblock.md_size_sectors,
        superblock.al_offset,
        superblock.bm_offset,
        superblock.bm_bytes_per_bit,
    );
    if place != wanted || (be32(96), be32(100)) != (layout.al.stripes, layout.al.stripe_size_4k) {
        return Err(ToolError::Unsupported(
            "version 09 meta data of another layout than asked for cannot be converted",
        ));
    }
    superblock.la_size_sectors = be64(0);
    superblock.uuids = [be64(8), be64(PEERS), be64(HISTORY), be64(HISTORY + 8)];
    superblock.device_uuid = be64(48);
    superblock.al_nr_extents = be32(72);
    superblock.la_peer_max_bio_size = be32(84);
    let kept = MdFlags::CONSISTENT
        | MdFlags::PRIMARY_IND
        | MdFlags::WAS_UP_TO_DATE
        | MdFlags::CRASHED_PRIMARY
        | MdFlags::AL_CLEAN
        | MdFlags::AL_DISABLED;
    superblock.flags = MdFlags::from_bits_retain(flags.bits() & kept.bits());
    let peer_flags = be32(PEERS + 16);
    for (bit, flag) in [
        (1, MdFlags::CONNECTED_IND),
        (2, MdFlags::PEER_OUT_DATED),
        (8, MdFlags::FULL_SYNC),
    ] {
        superblock.flags.set(flag, peer_flags & bit != 0);
    }
    if superblock.uuids[0] == 0 {
        superblock.uuids[0] = UUID_JUST_CREATED;
    }
    if superblock.la_size_sectors > layout.usable_sectors {
        return Err(ToolError::Shrunk {
            la_size_sectors: superblock.la_size_sectors,
            usable_sectors: layout.usable_sectors,
        });
    }
    Ok(superblock)
}
