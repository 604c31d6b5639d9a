//! The superblock: 4096 bytes, of which the first 96 mean something (docs/spec/metadata.md,
//! section 2).
//!
//! | offset | size | field                | meaning                                           |
//! |-------:|-----:|----------------------|---------------------------------------------------|
//! |      0 |    8 | la_size_sect         | last agreed size in sectors, 0: never agreed      |
//! |      8 |   32 | uuid\[4\]            | current, bitmap, younger and older history        |
//! |     40 |    8 | device_uuid          | a random name of this disk, only preserved        |
//! |     48 |    8 | note                 | DRBD's reserved bytes, see [`Superblock::note`]   |
//! |     56 |    4 | flags                | [`MdFlags`]; unknown bits are preserved           |
//! |     60 |    4 | magic                | [`Magic`]                                         |
//! |     64 |    4 | md_size_sect         | size of the whole area in sectors                 |
//! |     68 |    4 | al_offset            | sectors from the superblock to the log, signed    |
//! |     72 |    4 | al_nr_extents        | slots of the activity log in use; informational   |
//! |     76 |    4 | bm_offset            | sectors from the superblock to the bitmap, signed |
//! |     80 |    4 | bm_bytes_per_bit     | 4096                                              |
//! |     84 |    4 | la_peer_max_bio_size | the peer's last largest request, in bytes         |
//! |     88 |    4 | al_stripes           | with the next: 0 and 0 mean 1 x 8                 |
//! |     92 |    4 | al_stripe_size_4k    | blocks of 4 KiB in a stripe                       |

use bitflags::bitflags;
use zerocopy::big_endian::{I32, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::layout::{
    AlGeometry, DATA_SECTORS_PER_BITMAP_SECTOR, DEVICE_SECTORS_MAX, INDEXED_DATA_SECTORS_MAX,
    INDEXED_SLOT_SECTORS, Layout, LayoutError, MetaKind,
};
use crate::{BLOCK_BYTES, BLOCK_SECTORS};

/// The magic of the 0.6 format, a file.
pub const MAGIC_V06: u32 = 0x8374_0269;
/// The magic of the 0.7 format.
pub const MAGIC_V07: u32 = 0x8374_026a;
/// The magic of version 08.
pub const MAGIC_V08: u32 = 0x8374_026b;
/// The magic of version 08 while a driver owns it, or has left it.
pub const MAGIC_V84_UNCLEAN: u32 = 0x8374_026c;
/// The magic of the 9.x format.
pub const MAGIC_V09: u32 = 0x8374_026d;

/// The current UUID of metadata that has just been created.
pub const UUID_JUST_CREATED: u64 = 4;
/// Slots that `create-md` notes as in use.
pub const AL_EXTENTS_CREATED: u32 = 257;
/// The only granularity of version 08's bitmap.
pub const BM_BYTES_PER_BIT: u32 = 4096;
/// Smaller values of `la_peer_max_bio_size` are read as this (section 2.1).
pub const PEER_MAX_BIO_SIZE_MIN: u32 = 4096;

bitflags! {
    /// The flags of the superblock (section 2.3). Unknown bits are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MdFlags: u32 {
        /// The disk state is better than Inconsistent.
        const CONSISTENT = 1;
        /// This node is Primary, or the peer is and has no usable disk: the crash indicator.
        const PRIMARY_IND = 2;
        /// The connection state is Connected or higher.
        const CONNECTED_IND = 4;
        /// The bitmap is being set as a whole; or the layout is changing.
        const FULL_SYNC = 8;
        /// The disk state is better than Outdated.
        const WAS_UP_TO_DATE = 16;
        /// The peer's disk is known to be Inconsistent or Outdated.
        const PEER_OUT_DATED = 32;
        /// Was Primary when it crashed, and not in sync with the peer since.
        const CRASHED_PRIMARY = 64;
        /// The activity log has been applied; meaningful while detached only.
        const AL_CLEAN = 128;
        /// The activity log is not kept: after a crash as Primary everything is suspect.
        const AL_DISABLED = 256;
        // Makes `!` and set operations keep what a newer driver may have set (section 2.3).
        const _ = !0;
    }
}

/// The two magic numbers that [`Superblock::parse`] accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Magic {
    /// Version 08; attachable if [`MdFlags::AL_CLEAN`] is set too.
    V08,
    /// Version 08, owned by a driver or left behind by it. Normal after a clean stop (trap T5).
    V84Unclean,
}

impl Magic {
    /// The number on disk.
    pub fn number(self) -> u32 {
        match self {
            Self::V08 => MAGIC_V08,
            Self::V84Unclean => MAGIC_V84_UNCLEAN,
        }
    }
}

/// What is wrong with a superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// Fewer than 4096 bytes.
    #[error("superblock is cut short: {got} of {BLOCK_BYTES} bytes")]
    Short {
        /// Bytes there are.
        got: usize,
    },
    /// No DRBD metadata, as far as can be told.
    #[error("Meta data magic not found: {found:#010x}")]
    Magic {
        /// What stands in the magic's place.
        found: u32,
    },
    /// The 0.6 format.
    #[error("Found old (0.6) meta data magic; rdb reads version 08")]
    V06,
    /// The 0.7 format.
    #[error("Found old (0.7) meta data magic; convert it to version 08 first")]
    V07,
    /// The 9.x format.
    #[error("Found version 09 meta data magic; rdb reads version 08")]
    V09,
    /// Not one bit for 4 KiB.
    #[error("unexpected bm_bytes_per_bit: {found} (expected {BM_BYTES_PER_BIT})")]
    BytesPerBit {
        /// The field's value.
        found: u32,
    },
    /// One of the two is zero, or their product is out of range.
    #[error(
        "invalid activity log striping: al_stripes={stripes}, al_stripe_size_4k={stripe_size_4k}"
    )]
    Striping {
        /// The field `al_stripes`.
        stripes: u32,
        /// The field `al_stripe_size_4k`.
        stripe_size_4k: u32,
    },
    /// The positions contradict each other, the kind or the device.
    #[error(
        "meta data offsets don't make sense: {what} \
         (md_size_sect={md_size_sectors}, al_offset={al_offset}, bm_offset={bm_offset})"
    )]
    Offsets {
        /// Which rule is broken.
        what: &'static str,
        /// The field `md_size_sect`.
        md_size_sectors: u32,
        /// The field `al_offset`.
        al_offset: i32,
        /// The field `bm_offset`.
        bm_offset: i32,
    },
    /// The bitmap is too small for the size in the superblock.
    #[error("bitmap of {bitmap_sectors} sectors is too small for la_size_sect={la_size_sectors}")]
    BitmapTooSmall {
        /// Sectors the bitmap has.
        bitmap_sectors: u64,
        /// The last agreed size in sectors.
        la_size_sectors: u64,
    },
    /// The device has no room for metadata of this kind.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// The superblock's fields, in their units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The size both nodes last agreed on, in sectors; 0 if they never did.
    pub la_size_sectors: u64,
    /// Current, bitmap, younger history, older history. Bit 0 means nothing here (trap T9).
    pub uuids: [u64; 4],
    /// A random name of this disk.
    pub device_uuid: u64,
    /// What rdb notes of a resync in bytes that are reserved. 0 is no note, which is what create-md writes, and what a kernel's
    /// driver leaves behind as soon as it has attached the disk. The engine makes and reads it (`docs/disk-format.md`).
    pub note: u64,
    /// See [`MdFlags`].
    pub flags: MdFlags,
    /// See [`Magic`].
    pub magic: Magic,
    /// Size of the whole metadata area, in sectors.
    pub md_size_sectors: u32,
    /// Sectors from the superblock to the activity log.
    pub al_offset: i32,
    /// Slots of the activity log in use; informational (trap T21).
    pub al_nr_extents: u32,
    /// Sectors from the superblock to the bitmap.
    pub bm_offset: i32,
    /// 4096.
    pub bm_bytes_per_bit: u32,
    /// The peer's last largest request, in bytes.
    pub la_peer_max_bio_size: u32,
    /// Stripes of the activity log.
    pub al_stripes: u32,
    /// Blocks of 4 KiB in each stripe.
    pub al_stripe_size_4k: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawSuperblock {
    la_size_sect: U64,
    uuid: [U64; 4],
    device_uuid: U64,
    note: U64,
    flags: U32,
    magic: U32,
    md_size_sect: U32,
    al_offset: I32,
    al_nr_extents: U32,
    bm_offset: I32,
    bm_bytes_per_bit: U32,
    la_peer_max_bio_size: U32,
    al_stripes: U32,
    al_stripe_size_4k: U32,
    zero: [u8; BLOCK_BYTES - 96],
}
const _: () = assert!(size_of::<RawSuperblock>() == BLOCK_BYTES);
const _: () = assert!(core::mem::offset_of!(RawSuperblock, magic) == 60);
const _: () = assert!(core::mem::offset_of!(RawSuperblock, al_stripe_size_4k) == 92);

impl Superblock {
    /// The superblock `create-md` writes: just created, clean, never attached (section 7.4).
    pub fn new(layout: &Layout) -> Self {
        let mut superblock = Self {
            la_size_sectors: 0,
            uuids: [UUID_JUST_CREATED, 0, 0, 0],
            device_uuid: 0,
            note: 0,
            flags: MdFlags::AL_CLEAN,
            magic: Magic::V08,
            md_size_sectors: 0,
            al_offset: 0,
            al_nr_extents: AL_EXTENTS_CREATED,
            bm_offset: 0,
            bm_bytes_per_bit: BM_BYTES_PER_BIT,
            la_peer_max_bio_size: 0,
            al_stripes: 0,
            al_stripe_size_4k: 0,
        };
        superblock.place(layout);
        superblock
    }

    /// Writes `layout` into the fields that describe it, as a move or a resize does.
    ///
    /// # Panics
    /// If `layout` was not made by [`Layout::compute`], whose limits keep it within the fields.
    pub fn place(&mut self, layout: &Layout) {
        let offset = |sector: u64| {
            let distance = sector.wrapping_sub(layout.superblock_sector).cast_signed();
            i32::try_from(distance).expect("Layout::compute keeps the area below 2^31 sectors")
        };
        self.md_size_sectors =
            u32::try_from(layout.md_size_sectors).expect("Layout::compute bounds the area");
        self.al_offset = offset(layout.al_sector);
        self.bm_offset = offset(layout.bitmap_sector);
        self.al_stripes = layout.al.stripes;
        self.al_stripe_size_4k = layout.al.stripe_size_4k;
    }

    /// Reads a superblock from its 4096 bytes: magic first, then the fields.
    ///
    /// # Errors
    /// If the block is short or the magic is not version 08's. The fields' values are looked at by
    /// [`Superblock::check`].
    pub fn parse(block: &[u8]) -> Result<Self, SuperblockError> {
        let (raw, _) = RawSuperblock::ref_from_prefix(block)
            .map_err(|_| SuperblockError::Short { got: block.len() })?;
        // The offsets of 40 to 55 and 88 to 103 mean other things in version 09 (trap T15).
        let magic = match raw.magic.get() {
            MAGIC_V08 => Magic::V08,
            MAGIC_V84_UNCLEAN => Magic::V84Unclean,
            MAGIC_V06 => return Err(SuperblockError::V06),
            MAGIC_V07 => return Err(SuperblockError::V07),
            MAGIC_V09 => return Err(SuperblockError::V09),
            found => return Err(v07_or(block, found)),
        };
        Ok(Self {
            la_size_sectors: raw.la_size_sect.get(),
            uuids: raw.uuid.map(U64::get),
            device_uuid: raw.device_uuid.get(),
            note: raw.note.get(),
            flags: MdFlags::from_bits_retain(raw.flags.get()),
            magic,
            md_size_sectors: raw.md_size_sect.get(),
            al_offset: raw.al_offset.get(),
            al_nr_extents: raw.al_nr_extents.get(),
            bm_offset: raw.bm_offset.get(),
            bm_bytes_per_bit: raw.bm_bytes_per_bit.get(),
            la_peer_max_bio_size: raw.la_peer_max_bio_size.get(),
            al_stripes: raw.al_stripes.get(),
            al_stripe_size_4k: raw.al_stripe_size_4k.get(),
        })
    }

    /// The block to write. Everything behind the fields is zero (trap T13).
    pub fn to_block(&self) -> [u8; BLOCK_BYTES] {
        let raw = RawSuperblock {
            la_size_sect: self.la_size_sectors.into(),
            uuid: self.uuids.map(U64::from),
            device_uuid: self.device_uuid.into(),
            note: self.note.into(),
            flags: self.flags.bits().into(),
            magic: self.magic.number().into(),
            md_size_sect: self.md_size_sectors.into(),
            al_offset: self.al_offset.into(),
            al_nr_extents: self.al_nr_extents.into(),
            bm_offset: self.bm_offset.into(),
            bm_bytes_per_bit: self.bm_bytes_per_bit.into(),
            la_peer_max_bio_size: self.la_peer_max_bio_size.into(),
            al_stripes: self.al_stripes.into(),
            al_stripe_size_4k: self.al_stripe_size_4k.into(),
            zero: [0; BLOCK_BYTES - 96],
        };
        let mut block = [0; BLOCK_BYTES];
        block.copy_from_slice(raw.as_bytes());
        block
    }

    /// Must `apply-al` run before this disk may be attached? (section 2.4, row 2; error 165)
    pub fn needs_apply_al(&self) -> bool {
        self.magic == Magic::V84Unclean || !self.flags.contains(MdFlags::AL_CLEAN)
    }

    /// The largest request the peer took when it was last seen, in bytes, at least 4096.
    pub fn peer_max_bio_size(&self) -> u32 {
        self.la_peer_max_bio_size.max(PEER_MAX_BIO_SIZE_MIN)
    }

    /// The shape of the activity log; zero and zero is the 1 x 8 of before stripes.
    ///
    /// # Errors
    /// [`SuperblockError::Striping`] if it is no legal shape.
    pub fn al_geometry(&self) -> Result<AlGeometry, SuperblockError> {
        if (self.al_stripes, self.al_stripe_size_4k) == (0, 0) {
            return Ok(AlGeometry::DEFAULT);
        }
        let geometry = AlGeometry {
            stripes: self.al_stripes,
            stripe_size_4k: self.al_stripe_size_4k,
        };
        geometry
            .check()
            .map(|()| geometry)
            .map_err(|_| SuperblockError::Striping {
                stripes: self.al_stripes,
                stripe_size_4k: self.al_stripe_size_4k,
            })
    }

    /// Checks the fields against each other and the devices, and says where things are: rows 5 to 11
    /// of section 2.4. [`Layout::moved`] of the result tells whether the devices' sizes ask for
    /// another place now.
    ///
    /// # Errors
    /// What is wrong; nothing of the metadata may be used then.
    pub fn check(
        &self,
        kind: MetaKind,
        data_capacity_sectors: u64,
        meta_capacity_sectors: u64,
    ) -> Result<Layout, SuperblockError> {
        let meta_capacity = if kind.is_internal() {
            data_capacity_sectors
        } else {
            meta_capacity_sectors
        };
        if self.bm_bytes_per_bit != BM_BYTES_PER_BIT {
            return Err(SuperblockError::BytesPerBit {
                found: self.bm_bytes_per_bit,
            });
        }
        let al = self.al_geometry()?;
        let superblock_sector = kind.superblock_sector(meta_capacity)?;
        self.check_offsets(kind, al)?;

        let md_size = u64::from(self.md_size_sectors);
        let al_sector = superblock_sector
            .checked_add_signed(i64::from(self.al_offset))
            .ok_or_else(|| self.offsets("the activity log begins before the device"))?;
        let bitmap_sector = superblock_sector
            .checked_add_signed(i64::from(self.bm_offset))
            .ok_or_else(|| self.offsets("the bitmap begins before the device"))?;
        let bitmap_sectors = if kind.is_internal() {
            al_sector - bitmap_sector
        } else {
            md_size - (bitmap_sector - superblock_sector)
        };
        if !kind.is_internal() && superblock_sector + md_size > meta_capacity {
            return Err(self.offsets("the area ends behind the device"));
        }
        if bitmap_sectors < self.la_size_sectors.saturating_add(7) / 8 / 8 / 512 {
            return Err(SuperblockError::BitmapTooSmall {
                bitmap_sectors,
                la_size_sectors: self.la_size_sectors,
            });
        }

        let described = bitmap_sectors * DATA_SECTORS_PER_BITMAP_SECTOR;
        let data_max = match kind {
            MetaKind::Internal => bitmap_sector,
            MetaKind::FlexibleExternal => data_capacity_sectors,
            MetaKind::Indexed(_) => data_capacity_sectors.min(INDEXED_DATA_SECTORS_MAX),
        };
        let mut layout = Layout {
            kind,
            superblock_sector,
            al_sector,
            bitmap_sector,
            bitmap_sectors,
            md_size_sectors: md_size,
            al,
            usable_sectors: data_max.min(described).min(DEVICE_SECTORS_MAX),
            moved: false,
        };
        let wanted = Layout::compute(kind, data_capacity_sectors, meta_capacity, al);
        layout.moved = wanted != Ok(layout);
        Ok(layout)
    }

    /// Rows 7, 8 and 10, and what follows from them about the size.
    fn check_offsets(&self, kind: MetaKind, al: AlGeometry) -> Result<(), SuperblockError> {
        let al_sectors = i64::try_from(al.sectors()).expect("bounded by AlGeometry::check");
        let (al_offset, bm_offset) = (i64::from(self.al_offset), i64::from(self.bm_offset));
        let md_size = i64::from(self.md_size_sectors);
        let block = BLOCK_SECTORS.cast_signed();
        if bm_offset % block != 0 {
            return Err(self.offsets("the bitmap is not at a whole block"));
        }
        match kind {
            MetaKind::Internal => {
                if al_offset != -al_sectors {
                    return Err(self.offsets("the activity log is not right before the superblock"));
                }
                if bm_offset >= al_offset {
                    return Err(self.offsets("the bitmap is not before the activity log"));
                }
                if md_size < block - bm_offset {
                    return Err(self.offsets("the bitmap is outside the area"));
                }
            }
            MetaKind::FlexibleExternal | MetaKind::Indexed(_) => {
                if al_offset != block {
                    return Err(self.offsets("the activity log is not right behind the superblock"));
                }
                if bm_offset != block + al_sectors {
                    return Err(self.offsets("the bitmap is not right behind the activity log"));
                }
                if md_size <= bm_offset {
                    return Err(self.offsets("the area has no room for a bitmap"));
                }
            }
        }
        if matches!(kind, MetaKind::Indexed(_))
            && (u64::from(self.md_size_sectors) != INDEXED_SLOT_SECTORS
                || al != AlGeometry::DEFAULT)
        {
            return Err(self.offsets("an indexed slot is 128 MiB with an activity log of 1 x 8"));
        }
        Ok(())
    }

    fn offsets(&self, what: &'static str) -> SuperblockError {
        SuperblockError::Offsets {
            what,
            md_size_sectors: self.md_size_sectors,
            al_offset: self.al_offset,
            bm_offset: self.bm_offset,
        }
    }
}

/// Version 07 has its magic at another place (appendix B).
fn v07_or(block: &[u8], found: u32) -> SuperblockError {
    if block[28..32] == MAGIC_V07.to_be_bytes() {
        SuperblockError::V07
    } else {
        SuperblockError::Magic { found }
    }
}
