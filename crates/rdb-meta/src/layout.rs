//! Where superblock, activity log and bitmap lie (docs/spec/metadata.md, section 1).
//!
//! ```text
//! internal            | data ...            | bitmap | activity log | superblock | 0..7 sectors |
//! flexible external   | superblock | activity log | bitmap ...                                  |
//! indexed external    | slot 0: superblock, activity log, bitmap | slot 1 ... |    128 MiB each
//! ```

use core::fmt;
use core::str::FromStr;

use crate::{BLOCK_SECTORS, EXTENT_SECTORS};

/// Sectors of one slot of an indexed metadata device: 128 MiB.
pub const INDEXED_SLOT_SECTORS: u64 = 262_144;
/// Sectors of data one sector of bitmap describes: 4096 bits of 8 sectors.
pub const DATA_SECTORS_PER_BITMAP_SECTOR: u64 = 32_768;
/// Largest supported device, 1 PiB (section 1.3).
pub const DEVICE_SECTORS_MAX: u64 = 1 << 41;
/// Largest data device an indexed slot describes, about 4 TiB (section 1.3).
pub const INDEXED_DATA_SECTORS_MAX: u64 = 8_587_575_296;
/// The smallest internal or flexible metadata device that the kernel's driver attaches: 1 MiB.
pub const KERNEL_META_SECTORS_MIN: u64 = 2_048;
/// Smallest and largest activity log, in blocks of 4 KiB: 32 KiB and 16 GiB.
pub const AL_BLOCKS_MIN: u64 = 8;
/// See [`AL_BLOCKS_MIN`].
pub const AL_BLOCKS_MAX: u64 = 4_194_304;
/// The largest activity log `drbdmeta` reads, in blocks: 32 MiB. Create none beyond it.
pub const AL_BLOCKS_INTEROPERABLE_MAX: u64 = 8_192;

const _: () = assert!(
    INDEXED_DATA_SECTORS_MAX
        == (INDEXED_SLOT_SECTORS - BLOCK_SECTORS - 64) * DATA_SECTORS_PER_BITMAP_SECTOR
);

/// The number of a 4 MiB activity-log extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtentNr(pub u32);

impl ExtentNr {
    /// The extent that holds `sector`. Sectors beyond 16 PiB, which no [`Layout`] allows, are all in
    /// the last extent.
    pub fn of_sector(sector: u64) -> Self {
        Self(u32::try_from(sector / EXTENT_SECTORS).unwrap_or(u32::MAX - 1))
    }

    /// The extent's first sector.
    pub fn first_sector(self) -> u64 {
        u64::from(self.0) * EXTENT_SECTORS
    }
}

impl fmt::Display for ExtentNr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The three ways metadata is kept (section 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetaKind {
    /// At the end of the data device.
    Internal,
    /// On a device of its own, which it fills.
    FlexibleExternal,
    /// In the numbered 128 MiB slot of a device that several minors share.
    Indexed(u32),
}

impl MetaKind {
    /// Highest slot number of an indexed metadata device.
    pub const INDEX_MAX: u32 = 255;

    /// The smallest device that may carry this metadata, in sectors (error 112 below it).
    pub fn meta_device_sectors_min(self) -> u64 {
        match self {
            Self::Internal | Self::FlexibleExternal => KERNEL_META_SECTORS_MIN,
            Self::Indexed(index) => INDEXED_SLOT_SECTORS * (u64::from(index) + 1),
        }
    }

    /// Is the metadata on the data device itself?
    pub fn is_internal(self) -> bool {
        self == Self::Internal
    }

    /// Where the superblock is on a metadata device of `meta_capacity_sectors`, which for
    /// [`MetaKind::Internal`] is the data device.
    ///
    /// # Errors
    /// [`LayoutError::MetaDeviceTooSmall`] if the block would not be inside the device.
    pub fn superblock_sector(self, meta_capacity_sectors: u64) -> Result<u64, LayoutError> {
        let too_small = |need| LayoutError::MetaDeviceTooSmall {
            need,
            have: meta_capacity_sectors,
        };
        match self {
            Self::Internal => (meta_capacity_sectors - meta_capacity_sectors % BLOCK_SECTORS)
                .checked_sub(BLOCK_SECTORS)
                .ok_or(too_small(BLOCK_SECTORS)),
            Self::FlexibleExternal if meta_capacity_sectors < BLOCK_SECTORS => {
                Err(too_small(BLOCK_SECTORS))
            }
            Self::FlexibleExternal => Ok(0),
            Self::Indexed(index) => {
                let sector = INDEXED_SLOT_SECTORS * u64::from(index);
                let end = sector + BLOCK_SECTORS;
                if end > meta_capacity_sectors {
                    Err(too_small(end))
                } else {
                    Ok(sector)
                }
            }
        }
    }
}

/// The name `drbdmeta` takes and prints: `internal`, `flex-external` or the slot's number.
impl fmt::Display for MetaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internal => f.write_str("internal"),
            Self::FlexibleExternal => f.write_str("flex-external"),
            Self::Indexed(index) => index.fmt(f),
        }
    }
}

/// The argument is none of `internal`, `flex-internal`, `flex-external` and 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a metadata kind: want internal, flex-external or an index from 0 to 255")]
pub struct NotAMetaKind;

impl FromStr for MetaKind {
    type Err = NotAMetaKind;

    fn from_str(text: &str) -> Result<Self, NotAMetaKind> {
        match text {
            "internal" | "flex-internal" => Ok(Self::Internal),
            "flex-external" => Ok(Self::FlexibleExternal),
            _ => match text.parse() {
                Ok(index) if index <= Self::INDEX_MAX => Ok(Self::Indexed(index)),
                _ => Err(NotAMetaKind),
            },
        }
    }
}

/// The shape of the activity log's ring (section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AlGeometry {
    /// Stripes the ring is spread over.
    pub stripes: u32,
    /// Blocks of 4 KiB in each stripe.
    pub stripe_size_4k: u32,
}

impl AlGeometry {
    /// One stripe of eight blocks: 32 KiB.
    pub const DEFAULT: Self = Self {
        stripes: 1,
        stripe_size_4k: 8,
    };

    /// Blocks in the ring.
    pub fn blocks(self) -> u64 {
        u64::from(self.stripes) * u64::from(self.stripe_size_4k)
    }

    /// Sectors of the ring.
    pub fn sectors(self) -> u64 {
        self.blocks() * BLOCK_SECTORS
    }

    /// The block in the ring that the transaction `tr_number` goes to.
    ///
    /// # Panics
    /// On a geometry that [`AlGeometry::check`] refuses.
    pub fn position(self, tr_number: u32) -> u32 {
        let blocks = u32::try_from(self.blocks()).expect("a checked geometry");
        let turn = tr_number % blocks;
        (turn % self.stripes) * self.stripe_size_4k + turn / self.stripes
    }

    /// The transaction number after `tr_number`: one more, but that a ring whose blocks do not divide
    /// 2^32 leaves out the last numbers, so that positions go on in order when the number wraps. With
    /// them the wrap would overwrite the newest blocks and keep the oldest (section 4.3), and a crash
    /// soon after could lose slots of a large table. Readers compare numbers by difference, so a
    /// gap is no matter to them.
    ///
    /// # Panics
    /// On a geometry that [`AlGeometry::check`] refuses.
    pub fn next_tr(self, tr_number: u32) -> u32 {
        self.in_order(tr_number.wrapping_add(1))
    }

    /// `tr_number`, or 0 if it is one of those left out.
    pub(crate) fn in_order(self, tr_number: u32) -> u32 {
        const NUMBERS: u64 = 1 << 32;
        let used = NUMBERS - NUMBERS % self.blocks();
        if u64::from(tr_number) < used {
            tr_number
        } else {
            0
        }
    }

    /// Is the ring of a legal size?
    ///
    /// # Errors
    /// [`LayoutError::AlTooSmall`] and [`LayoutError::AlTooLarge`].
    pub fn check(self) -> Result<(), LayoutError> {
        match self.blocks() {
            blocks if blocks < AL_BLOCKS_MIN => Err(LayoutError::AlTooSmall { blocks }),
            blocks if blocks > AL_BLOCKS_MAX => Err(LayoutError::AlTooLarge { blocks }),
            _ => Ok(()),
        }
    }

    /// The most slots (`al-extents`) this ring can describe with one block of it torn (section 4.8).
    pub fn slots_max(self) -> u32 {
        use crate::activity_log::{AL_CONTEXT, AL_SLOTS_MAX};
        let others = self.blocks().saturating_sub(1);
        match u32::try_from(others * AL_CONTEXT as u64) {
            Ok(slots) => slots.min(AL_SLOTS_MAX),
            Err(_) => AL_SLOTS_MAX,
        }
    }
}

impl Default for AlGeometry {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why no layout exists for these devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Below 32 KiB.
    #[error("activity log of {blocks} blocks is too small, the least is {AL_BLOCKS_MIN}")]
    AlTooSmall {
        /// Blocks of 4 KiB asked for.
        blocks: u64,
    },
    /// Above 16 GiB.
    #[error("activity log of {blocks} blocks is too large, the most is {AL_BLOCKS_MAX}")]
    AlTooLarge {
        /// Blocks of 4 KiB asked for.
        blocks: u64,
    },
    /// An indexed slot has room for 1 x 8 and nothing else.
    #[error(
        "an indexed slot needs an activity log of 1 x 8 blocks, not {} x {}",
        .0.stripes, .0.stripe_size_4k
    )]
    IndexedAlShape(AlGeometry),
    /// The metadata leaves no room for data, or does not fit itself.
    #[error("metadata device of {have} sectors is too small, {need} are needed")]
    MetaDeviceTooSmall {
        /// Sectors that would do.
        need: u64,
        /// Sectors there are.
        have: u64,
    },
    /// Sizes beyond what the superblock's fields hold.
    #[error("device of {have} sectors is too large, {max} are supported")]
    DeviceTooLarge {
        /// Sectors there are.
        have: u64,
        /// The most that is supported.
        max: u64,
    },
    /// No data device.
    #[error("the data device is empty")]
    NoData,
}

/// Absolute positions, in sectors of the device that carries the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The kind these positions are of.
    pub kind: MetaKind,
    /// The superblock's first sector.
    pub superblock_sector: u64,
    /// The first sector of the activity log's ring.
    pub al_sector: u64,
    /// The bitmap's first sector.
    pub bitmap_sector: u64,
    /// Sectors reserved for the bitmap. Not a multiple of 8 on a flexible device of odd size.
    pub bitmap_sectors: u64,
    /// Sectors of the whole area, as `md_size_sect` says.
    pub md_size_sectors: u64,
    /// The shape of the ring.
    pub al: AlGeometry,
    /// The most sectors of data these devices and this metadata allow.
    pub usable_sectors: u64,
    /// These positions are read from a superblock and differ from what [`Layout::compute`] says for
    /// the devices as they are now: the kernel's driver would move the metadata and set every bit
    /// (sections 7.1 and 7.2).
    pub moved: bool,
}

impl Layout {
    /// The layout for new metadata (section 1.2). `meta_capacity_sectors` is not looked at for
    /// [`MetaKind::Internal`], where the data device carries the metadata.
    ///
    /// # Errors
    /// If the devices have no room for it, or the ring has no legal shape for this kind.
    pub fn compute(
        kind: MetaKind,
        data_capacity_sectors: u64,
        meta_capacity_sectors: u64,
        al: AlGeometry,
    ) -> Result<Self, LayoutError> {
        al.check()?;
        if data_capacity_sectors == 0 {
            return Err(LayoutError::NoData);
        }
        match kind {
            MetaKind::Internal => Self::internal(data_capacity_sectors, al),
            MetaKind::FlexibleExternal => {
                Self::flexible(data_capacity_sectors, meta_capacity_sectors, al)
            }
            MetaKind::Indexed(_) => {
                Self::indexed(kind, data_capacity_sectors, meta_capacity_sectors, al)
            }
        }
    }

    fn internal(capacity: u64, al: AlGeometry) -> Result<Self, LayoutError> {
        if capacity > DEVICE_SECTORS_MAX {
            return Err(LayoutError::DeviceTooLarge {
                have: capacity,
                max: DEVICE_SECTORS_MAX,
            });
        }
        let superblock_sector = MetaKind::Internal.superblock_sector(capacity)?;
        // Of the whole device, metadata included: another rounding makes the kernel's driver
        // believe that the metadata moved (trap T3).
        let bitmap_sectors = BLOCK_SECTORS * capacity.div_ceil(INDEXED_SLOT_SECTORS);
        let md_size_sectors = BLOCK_SECTORS + al.sectors() + bitmap_sectors;
        let bitmap_sector = superblock_sector
            .checked_sub(al.sectors() + bitmap_sectors)
            .filter(|sector| *sector > 0)
            .ok_or(LayoutError::MetaDeviceTooSmall {
                need: md_size_sectors + BLOCK_SECTORS,
                have: capacity,
            })?;
        Ok(Self {
            kind: MetaKind::Internal,
            superblock_sector,
            al_sector: superblock_sector - al.sectors(),
            bitmap_sector,
            bitmap_sectors,
            md_size_sectors,
            al,
            usable_sectors: bitmap_sector,
            moved: false,
        })
    }

    fn flexible(data: u64, meta: u64, al: AlGeometry) -> Result<Self, LayoutError> {
        if meta > u64::from(u32::MAX) {
            return Err(LayoutError::DeviceTooLarge {
                have: meta,
                max: u64::from(u32::MAX),
            });
        }
        let bitmap_sector = BLOCK_SECTORS + al.sectors();
        if meta < bitmap_sector + BLOCK_SECTORS {
            return Err(LayoutError::MetaDeviceTooSmall {
                need: bitmap_sector + BLOCK_SECTORS,
                have: meta,
            });
        }
        let bitmap_sectors = meta - bitmap_sector;
        Ok(Self {
            kind: MetaKind::FlexibleExternal,
            superblock_sector: 0,
            al_sector: BLOCK_SECTORS,
            bitmap_sector,
            bitmap_sectors,
            md_size_sectors: meta,
            al,
            usable_sectors: data
                .min(DEVICE_SECTORS_MAX)
                .min(bitmap_sectors * DATA_SECTORS_PER_BITMAP_SECTOR),
            moved: false,
        })
    }

    fn indexed(kind: MetaKind, data: u64, meta: u64, al: AlGeometry) -> Result<Self, LayoutError> {
        if al != AlGeometry::DEFAULT {
            return Err(LayoutError::IndexedAlShape(al));
        }
        let need = kind.meta_device_sectors_min();
        if meta < need {
            return Err(LayoutError::MetaDeviceTooSmall { need, have: meta });
        }
        let superblock_sector = need - INDEXED_SLOT_SECTORS;
        let al_sector = superblock_sector + BLOCK_SECTORS;
        let bitmap_sector = al_sector + al.sectors();
        Ok(Self {
            kind,
            superblock_sector,
            al_sector,
            bitmap_sector,
            bitmap_sectors: INDEXED_SLOT_SECTORS - BLOCK_SECTORS - al.sectors(),
            md_size_sectors: INDEXED_SLOT_SECTORS,
            al,
            usable_sectors: data.min(INDEXED_DATA_SECTORS_MAX),
            moved: false,
        })
    }

    /// The first sector of the activity log's block `ring_block`.
    pub fn al_block_sector(&self, ring_block: u32) -> u64 {
        self.al_sector + u64::from(ring_block) * BLOCK_SECTORS
    }

    /// The first sector of the bitmap's 4 KiB block `page`, and its length in sectors: 8, or less for
    /// the last block of a flexible device of odd size.
    pub fn bitmap_page_sectors(&self, page: usize) -> (u64, u64) {
        let offset = page as u64 * BLOCK_SECTORS;
        (
            self.bitmap_sector + offset,
            BLOCK_SECTORS.min(self.bitmap_sectors.saturating_sub(offset)),
        )
    }

    /// Is `[sector, sector + sectors)` inside the metadata area? Every metadata write must be
    /// (invariant I25).
    pub fn contains(&self, sector: u64, sectors: u64) -> bool {
        let first = self.superblock_sector.min(self.bitmap_sector);
        let end =
            (self.superblock_sector + BLOCK_SECTORS).max(self.bitmap_sector + self.bitmap_sectors);
        sector >= first && sector.checked_add(sectors).is_some_and(|last| last <= end)
    }
}
