//! From a ring to the set of hot extents (docs/spec/metadata.md, section 4.9).

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use super::{AL_SLOTS_MAX, FREE, Transaction, TransactionType};
use crate::{AlGeometry, BLOCK_BYTES, ExtentNr};

/// What a ring says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// The extents that may have been written to when the ring was last written.
    pub hot: BTreeSet<ExtentNr>,
    /// The newest transaction's number. `None` if nothing but the initialisation was ever written.
    pub newest_tr: Option<u32>,
    /// There is at least one block that is not an initialised one.
    pub updates_found: bool,
    /// Blocks that do not count: torn, or never written.
    pub corrupt: usize,
    /// Entries that name a slot no table has.
    pub ignored_entries: usize,
}

/// Why a ring says nothing. With `PRIMARY_IND` set nothing less than setting every bit helps then
/// (invariant I15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The bytes are not the ring.
    #[error("activity log has {got} bytes, {want} were expected")]
    Length {
        /// Bytes given.
        got: usize,
        /// Bytes of the ring.
        want: u64,
    },
    /// Error A of the specification.
    #[error("No usable activity log found. Do you need to create-md?")]
    NoUsableLog,
    /// Error B of the specification.
    #[error("No valid AL update transaction found.")]
    NoUpdate {
        /// Blocks that do not count.
        corrupt: usize,
    },
}

/// A ring nothing was logged in yet: every block of the type 0xFFFF. To be written whenever the
/// metadata becomes clean, so that no old block can be trusted later (trap T6, invariant I18).
///
/// # Panics
/// On a geometry that [`AlGeometry::check`] refuses.
pub fn initialised_ring(geometry: AlGeometry) -> Vec<u8> {
    geometry.check().expect("a checked geometry");
    let mut block = Transaction::new(0, 0, 0);
    block.transaction_type = TransactionType::Initialised;
    block
        .encode()
        .repeat(usize::try_from(geometry.blocks()).expect("16 GiB at most"))
}

/// Reads the whole ring, blocks in their order on disk.
///
/// Blocks are applied from the oldest transaction number to the newest, by signed difference, so a
/// counter that wraps is no matter, nor is a ring that is not a power of two (trap T26). Torn blocks
/// are left out: a torn newest one was never acted on, and what a torn older one said the others
/// repeat (invariant I17).
///
/// # Errors
/// See [`ReplayError`].
pub fn replay(geometry: AlGeometry, ring: &[u8]) -> Result<Replay, ReplayError> {
    let want = geometry.blocks() * BLOCK_BYTES as u64;
    if geometry.check().is_err() || ring.len() as u64 != want {
        return Err(ReplayError::Length {
            got: ring.len(),
            want,
        });
    }
    let mut updates = Vec::new();
    let mut corrupt = 0;
    for (position, block) in ring.chunks_exact(BLOCK_BYTES).enumerate() {
        match Transaction::parse(block) {
            Ok(transaction) if transaction.transaction_type == TransactionType::Initialised => {}
            Ok(transaction) => updates.push((transaction.tr_number, position)),
            Err(_) => corrupt += 1,
        }
    }
    let blocks = ring.len() / BLOCK_BYTES;
    if corrupt == blocks {
        return Err(ReplayError::NoUsableLog);
    }
    let Some(&(first, _)) = updates.first() else {
        // The very first transaction goes to the first block. Torn there, it was never acted on.
        let first_torn = corrupt == 1 && Transaction::parse(ring).is_err();
        return if corrupt == 0 || first_torn {
            Ok(Replay {
                corrupt,
                ..Replay::default()
            })
        } else {
            Err(ReplayError::NoUpdate { corrupt })
        };
    };

    let newest = updates.iter().fold(first, |newest, &(number, _)| {
        if number.wrapping_sub(newest).cast_signed() > 0 {
            number
        } else {
            newest
        }
    });
    updates.sort_by_key(|&(number, _)| number.wrapping_sub(newest).cast_signed());

    let mut table = vec![FREE; AL_SLOTS_MAX as usize];
    let mut ignored_entries = 0;
    for (_, position) in updates {
        let block = &ring[position * BLOCK_BYTES..][..BLOCK_BYTES];
        let transaction = Transaction::parse(block).expect("it was read before");
        ignored_entries += transaction.apply(&mut table);
    }
    let hot = table
        .into_iter()
        .filter(|extent| *extent != FREE)
        .map(ExtentNr)
        .collect();
    Ok(Replay {
        hot,
        newest_tr: Some(newest),
        updates_found: true,
        corrupt,
        ignored_entries,
    })
}
