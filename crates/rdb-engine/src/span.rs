//! Sectors of a device in a row: what one request, block or packet is about.

use core::fmt;

use rdb_meta::{BLOCK_SECTORS, ExtentNr};
use replica_proto::{BlockAck, BlockId, BlockRequest};

const SECTOR_BYTES: u32 = rdb_meta::SECTOR_BYTES as u32;

/// So many bytes from a sector on, as requests and packets tell of them. Only whole sectors count. (What a peer tells need not be
/// whole sectors, nor inside the device: that is looked at by [`Span::is_request`], and two spans are equal to the byte.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub sector: u64,
    pub bytes: u32,
}

impl Span {
    /// The sectors from `start` to `end`, without that.
    ///
    /// # Panics
    /// If these are 4 GiB or more. No request and no block of a resync is.
    pub(crate) fn between(start: u64, end: u64) -> Span {
        let bytes = u32::try_from((end - start) * u64::from(SECTOR_BYTES));
        Span {
            sector: start,
            bytes: bytes.expect("less than 4 GiB"),
        }
    }

    /// `count` blocks from `first` on, as far as a device of `size` sectors has them.
    pub(crate) fn of_blocks(first: u64, count: u64, size: u64) -> Span {
        let end = (first + count) * BLOCK_SECTORS;
        Span::between(first * BLOCK_SECTORS, end.min(size))
    }

    pub(crate) fn sectors(self) -> u64 {
        u64::from(self.bytes / SECTOR_BYTES)
    }

    /// The sector behind the last one.
    pub(crate) fn end(self) -> u64 {
        self.sector.saturating_add(self.sectors())
    }

    /// How many blocks these sectors take.
    pub(crate) fn blocks(self) -> u64 {
        self.sectors().div_ceil(BLOCK_SECTORS)
    }

    pub(crate) fn overlaps(self, other: Span) -> bool {
        self.sector < other.end() && other.sector < self.end()
    }

    /// The first and the last extent of the activity log that a write of these sectors changes.
    pub(crate) fn extents(self) -> (ExtentNr, ExtentNr) {
        let last = self.end() - 1;
        (ExtentNr::of_sector(self.sector), ExtentNr::of_sector(last))
    }

    /// Whether a request can be for that: whole sectors, one at least, no more than `most` bytes, on a device of `size` sectors.
    pub(crate) fn is_request(self, most: u32, size: u64) -> bool {
        self.bytes != 0
            && self.bytes.is_multiple_of(SECTOR_BYTES)
            && self.bytes <= most
            && self.end() <= size
    }

    /// What is acknowledged, or refused.
    pub(crate) fn ack(self, block_id: BlockId, seq_num: u32) -> BlockAck {
        BlockAck {
            sector: self.sector,
            block_id,
            bytes: self.bytes,
            seq_num,
        }
    }

    /// What is asked for.
    pub(crate) fn request(self, block_id: BlockId) -> BlockRequest {
        BlockRequest {
            sector: self.sector,
            block_id,
            bytes: self.bytes,
        }
    }
}

impl From<&BlockAck> for Span {
    fn from(ack: &BlockAck) -> Span {
        Span {
            sector: ack.sector,
            bytes: ack.bytes,
        }
    }
}

impl From<&BlockRequest> for Span {
    fn from(request: &BlockRequest) -> Span {
        Span {
            sector: request.sector,
            bytes: request.bytes,
        }
    }
}

impl fmt::Display for Span {
    /// First sector and number of sectors, as DRBD's lines have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.sector, self.sectors())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn blocks_end_with_the_device() {
        assert_eq!(Span::of_blocks(2, 3, 100), Span::between(16, 40));
        let last = Span::of_blocks(12, 1, 100);
        assert_eq!(last, Span::between(96, 100));
        assert_eq!((last.sectors(), last.bytes, last.blocks()), (4, 2048, 1));
        assert_eq!(last.to_string(), "96+4");
    }

    #[test]
    fn neighbours_do_not_overlap() {
        let (a, b) = (Span::between(0, 8), Span::between(8, 16));
        assert!(a.overlaps(a) && !a.overlaps(b) && !b.overlaps(a));
        assert!(Span::between(0, 9).overlaps(b) && b.overlaps(Span::between(15, 20)));
    }

    #[test]
    fn a_request_is_whole_sectors_inside_the_device() {
        let is = |sector, bytes| Span { sector, bytes }.is_request(4096, 100);
        assert!(is(0, 512) && is(92, 4096));
        assert!(!is(0, 0) && !is(0, 511) && !is(0, 4608) && !is(93, 4096));
        assert!(!is(u64::MAX, 512));
    }
}
