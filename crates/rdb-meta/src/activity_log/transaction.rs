//! One block of the ring (docs/spec/metadata.md, section 4.2).
//!
//! | offset | size | field                 | meaning                                             |
//! |-------:|-----:|-----------------------|-----------------------------------------------------|
//! |      0 |    4 | magic                 | `0x69CB65A2`                                        |
//! |      4 |    4 | tr_number             | counts up by one each block, and wraps              |
//! |      8 |    4 | crc32c                | over the block with this field zero, see [`crc`]    |
//! |     12 |    2 | transaction_type      | 0: update, 0xFFFF: initialised and empty            |
//! |     14 |    2 | n_updates             | entries of the update arrays in use                 |
//! |     16 |    2 | context_size          | slots the table had                                 |
//! |     18 |    2 | context_start_slot_nr | the slot of the first context entry                 |
//! |     20 |   16 | reserved              | zero                                                |
//! |     36 |  128 | update_slot_nr\[64\]    | unused: 0xFFFF                                      |
//! |    164 |  256 | update_extent_nr\[64\]  | unused: 0xFFFFFFFF                                  |
//! |    420 | 3676 | context\[919\]          | what the slots held before the updates              |

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{AL_CONTEXT, AL_MAGIC, AL_UPDATES_MAX, FREE, NO_SLOT};
use crate::{BLOCK_BYTES, ExtentNr};

const TYPE_UPDATE: u16 = 0;
const TYPE_INITIALISED: u16 = 0xffff;

/// CRC-32C with the initial value 0 and no final inversion, unlike what libraries compute
/// (trap T1).
pub fn crc(bytes: &[u8]) -> u32 {
    // The library inverts on entry and on exit; both are undone.
    !crc32c::crc32c_append(u32::MAX, bytes)
}

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionType {
    /// Slots change, or only the context is repeated.
    Update,
    /// Written when the ring is made, and says nothing.
    Initialised,
    /// Unknown to us; replayed like an update.
    Other(u16),
}

/// Why a block of the ring does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// Fewer than 4096 bytes.
    #[error("activity log block is cut short: {got} of {BLOCK_BYTES} bytes")]
    Short {
        /// Bytes there are.
        got: usize,
    },
    /// Never written, or something else's.
    #[error("activity log block has the magic {found:#010x}, not {AL_MAGIC:#010x}")]
    Magic {
        /// What stands there.
        found: u32,
    },
    /// Torn.
    #[error("activity log block has the CRC {found:#010x}, its content {computed:#010x}")]
    Crc {
        /// The field's value.
        found: u32,
        /// The content's.
        computed: u32,
    },
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawTransaction {
    magic: U32,
    tr_number: U32,
    crc32c: U32,
    transaction_type: U16,
    n_updates: U16,
    context_size: U16,
    context_start_slot_nr: U16,
    reserved: [u8; 16],
    update_slot_nr: [U16; AL_UPDATES_MAX],
    update_extent_nr: [U32; AL_UPDATES_MAX],
    context: [U32; AL_CONTEXT],
}
const _: () = assert!(size_of::<RawTransaction>() == BLOCK_BYTES);
const _: () = assert!(core::mem::offset_of!(RawTransaction, context) == 420);

/// One transaction, as it stands in its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The running number, which also says where in the ring the block is.
    pub tr_number: u32,
    /// See [`TransactionType`].
    pub transaction_type: TransactionType,
    /// Entries of the update arrays in use.
    pub n_updates: u16,
    /// Slots of the table at the time of writing.
    pub context_size: u16,
    /// The slot that the first entry of `context` describes.
    pub context_start_slot_nr: u16,
    /// The slots that change; [`NO_SLOT`] where unused.
    pub update_slot_nr: [u16; AL_UPDATES_MAX],
    /// Their new extents; [`FREE`] empties a slot.
    pub update_extent_nr: [u32; AL_UPDATES_MAX],
    /// What the slots held before the updates (trap T11).
    pub context: [u32; AL_CONTEXT],
}

impl Transaction {
    /// A transaction that changes nothing and repeats nothing yet.
    pub fn new(tr_number: u32, context_size: u16, context_start_slot_nr: u16) -> Self {
        Self {
            tr_number,
            transaction_type: TransactionType::Update,
            n_updates: 0,
            context_size,
            context_start_slot_nr,
            update_slot_nr: [NO_SLOT; AL_UPDATES_MAX],
            update_extent_nr: [FREE; AL_UPDATES_MAX],
            context: [FREE; AL_CONTEXT],
        }
    }

    /// Adds a change. `None` empties the slot.
    ///
    /// # Panics
    /// If there are 64 already.
    pub fn push_update(&mut self, slot: u16, extent: Option<ExtentNr>) {
        let n = usize::from(self.n_updates);
        assert!(
            n < AL_UPDATES_MAX,
            "a transaction holds {AL_UPDATES_MAX} changes"
        );
        self.update_slot_nr[n] = slot;
        self.update_extent_nr[n] = extent.map_or(FREE, |extent| extent.0);
        self.n_updates += 1;
    }

    /// The block, with its CRC. A block of the type `Initialised` is nothing but its type.
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut raw = RawTransaction::new_zeroed();
        raw.magic = AL_MAGIC.into();
        if self.transaction_type == TransactionType::Initialised {
            raw.transaction_type = TYPE_INITIALISED.into();
        } else {
            raw.tr_number = self.tr_number.into();
            raw.transaction_type = match self.transaction_type {
                TransactionType::Other(number) => number,
                _ => TYPE_UPDATE,
            }
            .into();
            raw.n_updates = self.n_updates.into();
            raw.context_size = self.context_size.into();
            raw.context_start_slot_nr = self.context_start_slot_nr.into();
            raw.update_slot_nr = self.update_slot_nr.map(U16::from);
            raw.update_extent_nr = self.update_extent_nr.map(U32::from);
            raw.context = self.context.map(U32::from);
        }
        raw.crc32c = crc(raw.as_bytes()).into();
        let mut block = [0; BLOCK_BYTES];
        block.copy_from_slice(raw.as_bytes());
        block
    }

    /// Reads a block: magic, CRC, fields.
    ///
    /// # Errors
    /// If the block must not count (invariant I27).
    pub fn parse(block: &[u8]) -> Result<Self, TransactionError> {
        let (raw, _) = RawTransaction::ref_from_prefix(block)
            .map_err(|_| TransactionError::Short { got: block.len() })?;
        if raw.magic.get() != AL_MAGIC {
            return Err(TransactionError::Magic {
                found: raw.magic.get(),
            });
        }
        let found = raw.crc32c.get();
        let sum = crc32c::crc32c_append(u32::MAX, &block[..8]);
        let sum = crc32c::crc32c_append(sum, &[0; 4]);
        let computed = !crc32c::crc32c_append(sum, &block[12..BLOCK_BYTES]);
        if found != computed {
            return Err(TransactionError::Crc { found, computed });
        }
        Ok(Self {
            tr_number: raw.tr_number.get(),
            transaction_type: match raw.transaction_type.get() {
                TYPE_UPDATE => TransactionType::Update,
                TYPE_INITIALISED => TransactionType::Initialised,
                other => TransactionType::Other(other),
            },
            n_updates: raw.n_updates.get(),
            context_size: raw.context_size.get(),
            context_start_slot_nr: raw.context_start_slot_nr.get(),
            update_slot_nr: raw.update_slot_nr.map(U16::get),
            update_extent_nr: raw.update_extent_nr.map(U32::get),
            context: raw.context.map(U32::get),
        })
    }

    /// Applies this block to a table of slots: the context, then the updates (section 4.9, step 6).
    /// `table` has [`AL_SLOTS_MAX`](super::AL_SLOTS_MAX) entries; returns how many entries named a
    /// slot beyond it and were left out.
    pub(super) fn apply(&self, table: &mut [u32]) -> usize {
        let mut ignored = 0;
        let mut put = |slot: usize, extent: u32| match table.get_mut(slot) {
            Some(entry) => *entry = extent,
            None => ignored += 1,
        };
        let start = usize::from(self.context_start_slot_nr);
        for (slot, extent) in (start..).zip(self.context) {
            // Free within the table means "the slot is free", behind it "nothing is known".
            if extent != FREE || slot < usize::from(self.context_size) {
                put(slot, extent);
            }
        }
        for (i, (slot, extent)) in self
            .update_slot_nr
            .into_iter()
            .zip(self.update_extent_nr)
            .enumerate()
        {
            if i < usize::from(self.n_updates) || slot != NO_SLOT {
                put(usize::from(slot), extent);
            }
        }
        ignored
    }
}
