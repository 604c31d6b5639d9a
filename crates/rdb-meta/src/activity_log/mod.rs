//! The activity log: which 4 MiB extents may differ between the nodes after a crash
//! (docs/spec/metadata.md, section 4).
//!
//! On disk it is a ring of 4 KiB blocks. Each block is a [`Transaction`]: up to 64 slots that get
//! another extent, and a window of 919 slots as they were before. [`replay()`] reads a ring back.
//! In memory it is the [`ActivityLog`], which says for each write whether its extents are hot on
//! disk, and makes the next block when they are not.
//!
//! Who writes what when, and the invariants that come of it, stand at [`ActivityLog`].

mod legacy;
mod replay;
mod table;
mod transaction;

pub use legacy::{LEGACY_MAGIC, legacy_ring_sectors, replay_legacy};
pub use replay::{Replay, ReplayError, initialised_ring, replay};
pub use table::{Acquire, ActivityLog, SealedTransaction};
pub use transaction::{Transaction, TransactionError, TransactionType, crc};

/// The magic of a transaction block.
pub const AL_MAGIC: u32 = 0x69cb_65a2;
/// Slots one transaction may change.
pub const AL_UPDATES_MAX: usize = 64;
/// Slots whose content every transaction repeats.
pub const AL_CONTEXT: usize = 919;
/// The most slots there may be (`al-extents`).
pub const AL_SLOTS_MAX: u32 = 65_534;
/// The fewest slots the configuration may ask for.
pub const AL_SLOTS_MIN: u32 = 67;
/// Stands for "no extent" in a slot.
pub const FREE: u32 = u32::MAX;
/// Stands for "no slot" in an update.
pub const NO_SLOT: u16 = u16::MAX;

const _: () = assert!(36 + AL_UPDATES_MAX * 6 + AL_CONTEXT * 4 == crate::BLOCK_BYTES);
