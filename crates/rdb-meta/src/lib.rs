//! DRBD 8.4's on-disk metadata: layout, superblock, activity log, bitmap.
//!
//! Bytes in, bytes out: nothing here opens a file or knows a clock. The engine keeps an
//! [`ActivityLog`] and a [`Bitmap`] in memory and asks for the blocks to
//! write; the offline tool runs [`tool`] over anything that is a [`Device`].
//!
//! What must hold when the power is cut at any instant, for the two disks' differing blocks `D`,
//! the bits on disk `B`, the extents `A` that [`activity_log::replay`] finds and the flags:
//! `D` is covered by `B`, by `A` if `PRIMARY_IND` is set, or by everything if `FULL_SYNC` is set
//! (docs/spec/metadata.md, section 6). The types here do their part of it; the order of the writes
//! is the engine's part. `docs/disk-format.md` is the description for readers.
//!
//! All sizes and positions are in sectors of 512 bytes unless a name says otherwise.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod activity_log;
pub mod bitmap;
pub mod device;
pub mod layout;
pub mod superblock;
pub mod tool;

pub use activity_log::ActivityLog;
pub use bitmap::Bitmap;
pub use device::{Device, DeviceError};
pub use layout::{AlGeometry, ExtentNr, Layout, LayoutError, MetaKind};
pub use superblock::{Magic, MdFlags, Superblock, SuperblockError};

/// Bytes of a sector, the unit of every position and size.
pub const SECTOR_BYTES: usize = 512;
/// Bytes of a block: what one bit of the bitmap stands for, and the unit of all metadata I/O.
pub const BLOCK_BYTES: usize = 4096;
/// Sectors of a block.
pub const BLOCK_SECTORS: u64 = 8;
/// Sectors of an activity-log extent: 4 MiB.
pub const EXTENT_SECTORS: u64 = 8192;
