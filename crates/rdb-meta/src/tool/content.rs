//! What may be on a device already (docs/spec/metadata.md, section 7.4).

use crate::{Device, DeviceError, SECTOR_BYTES};

/// Bytes at the beginning of a device that are looked at: 68 KiB.
pub(super) const PROBE_BYTES: usize = 69_632;

/// Something found at the beginning of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Zeros.
    Nothing,
    /// Not zeros, and nothing we know.
    SomeData,
    /// Swap space. How much of it is used is not to be known.
    Swap,
    /// A physical volume of LVM; only LVM knows its size.
    LvmPhysicalVolume,
    /// A file system of this name, and its size.
    FileSystem {
        /// As it is named to the user.
        name: &'static str,
        /// Bytes it takes of the device; saturated if its header is nonsense.
        bytes: u64,
    },
}

impl Content {
    /// Looks at the first 68 KiB.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn probe(device: &mut dyn Device) -> Result<Self, DeviceError> {
        let mut head = alloc::vec![0; PROBE_BYTES];
        let there = device
            .size_sectors()
            .min((PROBE_BYTES / SECTOR_BYTES) as u64) as usize;
        device.read_at(0, &mut head[..there * SECTOR_BYTES])?;
        Ok(Self::of(&head))
    }

    /// Names what the first 68 KiB hold. A shorter `head` is taken as if zeros followed.
    pub fn of(head: &[u8]) -> Self {
        let mut whole = [0; PROBE_BYTES];
        let len = head.len().min(PROBE_BYTES);
        whole[..len].copy_from_slice(&head[..len]);
        let head = &whole;

        let swap = |end: usize| {
            let label = &head[end - 10..end];
            label == b"SWAP-SPACE" || label == b"SWAPSPACE2"
        };
        if swap(4096) || swap(8192) {
            return Self::Swap;
        }
        if &head[0x218..0x21c] == b"LVM2" {
            return Self::LvmPhysicalVolume;
        }
        Self::file_system(head).unwrap_or(if head.iter().all(|byte| *byte == 0) {
            Self::Nothing
        } else {
            Self::SomeData
        })
    }

    fn file_system(head: &[u8; PROBE_BYTES]) -> Option<Self> {
        let le16 = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let le32 = |at: usize| u32::from_le_bytes(core::array::from_fn(|i| head[at + i]));
        let be32 = |at: usize| u32::from_be_bytes(core::array::from_fn(|i| head[at + i]));
        let le64 = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| head[at + i]));
        let be64 = |at: usize| u64::from_be_bytes(core::array::from_fn(|i| head[at + i]));

        let (name, blocks, block_bytes) = if le16(0x438) == 0xef53 {
            const HAS_JOURNAL: u32 = 4;
            const INCOMPAT_64BIT: u32 = 0x80;
            let name = if le32(0x45c) & HAS_JOURNAL != 0 {
                "ext3"
            } else {
                "ext2"
            };
            let high = if le32(0x460) & INCOMPAT_64BIT != 0 {
                le32(0x550)
            } else {
                0
            };
            let blocks = u64::from(high) << 32 | u64::from(le32(0x404));
            (
                name,
                blocks,
                1024_u64.checked_shl(le32(0x418)).unwrap_or(u64::MAX),
            )
        } else if &head[..4] == b"XFSB" {
            ("xfs", be64(8), u64::from(be32(4)))
        } else if &head[0x8000..0x8004] == b"JFS1" {
            ("jfs", le64(0x8008), u64::from(le32(0x8018)))
        } else if &head[0x10034..0x1003c] == b"ReIsErFs" || &head[0x10034..0x1003d] == b"ReIsEr2Fs"
        {
            (
                "reiserfs",
                u64::from(le32(0x10000)),
                u64::from(le16(0x1002c)),
            )
        } else {
            return None;
        };
        Some(Self::FileSystem {
            name,
            bytes: blocks.saturating_mul(block_bytes),
        })
    }
}
