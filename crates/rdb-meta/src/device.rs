//! What the offline tool needs of a device, and a device in memory.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::{BLOCK_BYTES, BLOCK_SECTORS, SECTOR_BYTES};

/// A block device or an image of one. Buffers are whole sectors.
pub trait Device {
    /// Capacity in sectors of 512 bytes.
    fn size_sectors(&self) -> u64;

    /// Fills `buffer` from `sector` on.
    ///
    /// # Errors
    /// If not all of it could be read.
    fn read_at(&mut self, sector: u64, buffer: &mut [u8]) -> Result<(), DeviceError>;

    /// Writes `bytes` from `sector` on. Durable after the next [`Device::flush`] only.
    ///
    /// # Errors
    /// If not all of it could be written.
    fn write_at(&mut self, sector: u64, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// If that is not certain.
    fn flush(&mut self) -> Result<(), DeviceError>;
}

/// A device failed; the text says what was tried where, and what the system said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DeviceError(pub String);

/// A device in memory that keeps only what was written, for tests and dry runs.
#[derive(Clone, Debug, Default)]
pub struct MemDevice {
    size_sectors: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
    /// How often [`Device::flush`] was called.
    pub flushes: usize,
}

impl MemDevice {
    /// A device of zeros.
    pub fn new(size_sectors: u64) -> Self {
        Self {
            size_sectors,
            blocks: BTreeMap::new(),
            flushes: 0,
        }
    }

    fn check(&self, sector: u64, len: usize) -> Result<(), DeviceError> {
        let sectors = (len / SECTOR_BYTES) as u64;
        let whole = len.is_multiple_of(SECTOR_BYTES);
        let inside = sector
            .checked_add(sectors)
            .is_some_and(|end| end <= self.size_sectors);
        if whole && inside {
            return Ok(());
        }
        Err(DeviceError(alloc::format!(
            "{len} bytes at sector {sector} are not whole sectors of a device of {} sectors",
            self.size_sectors
        )))
    }
}

/// The block and the byte in it that `sector` begins at.
fn place(sector: u64) -> (u64, usize) {
    (
        sector / BLOCK_SECTORS,
        (sector % BLOCK_SECTORS) as usize * SECTOR_BYTES,
    )
}

impl Device for MemDevice {
    fn size_sectors(&self) -> u64 {
        self.size_sectors
    }

    fn read_at(&mut self, sector: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        self.check(sector, buffer.len())?;
        for (at, bytes) in (sector..).zip(buffer.chunks_mut(SECTOR_BYTES)) {
            let (block, offset) = place(at);
            match self.blocks.get(&block) {
                Some(kept) => bytes.copy_from_slice(&kept[offset..offset + SECTOR_BYTES]),
                None => bytes.fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&mut self, sector: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.check(sector, bytes.len())?;
        for (at, bytes) in (sector..).zip(bytes.chunks(SECTOR_BYTES)) {
            let (block, offset) = place(at);
            if bytes.iter().all(|byte| *byte == 0) && !self.blocks.contains_key(&block) {
                continue;
            }
            let kept = self
                .blocks
                .entry(block)
                .or_insert_with(|| Box::new([0; BLOCK_BYTES]));
            kept[offset..offset + SECTOR_BYTES].copy_from_slice(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.flushes += 1;
        Ok(())
    }
}
