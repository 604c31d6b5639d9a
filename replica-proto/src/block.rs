//! What data packets, requests and acknowledgements have in common: docs/spec/wire.md, sections 6.2 and 6.3.

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a sector, always.
pub const SECTOR_SIZE: u32 = 512;
/// The largest discard or zero-out in bytes, with or without the feature that allows more than 4 MiB: K's receiver
/// takes as much (docs/spec/wire.md, section 7.8).
pub const MAX_DISCARD_BYTES: u32 = 128 << 20;
/// One logical block, the data of `P_WSAME`, is not larger than a page.
pub const MAX_WRITE_SAME_BLOCK: u32 = 4096;
/// No range ends beyond this sector: byte offsets fit a signed 64-bit integer, as system calls want them.
pub const MAX_SECTOR: u64 = 1 << 54;
const _: () = assert!(MAX_SECTOR == (1 << 63) / 512);

/// The handle of a request: eight bytes that only their sender understands, and that are echoed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockId(pub [u8; 8]);

impl BlockId {
    /// Resync and verify requests, resync data and its acknowledgements: all ones.
    pub const SYNCER: Self = Self([0xff; 8]);
    /// In `P_OV_RESULT`: the block is equal. Big-endian 4711, other than all other handles.
    pub const IN_SYNC: Self = Self(4711u64.to_be_bytes());
    /// In `P_OV_RESULT`: the block differs. Big-endian 4712.
    pub const OUT_OF_SYNC: Self = Self(4712u64.to_be_bytes());

    /// A handle of ours from a number. The byte order is ours to choose, since only we read it: little-endian.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number.to_le_bytes())
    }

    /// The number of a handle that [`BlockId::from_u64`] made. Of a peer's handle it means nothing.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        u64::from_le_bytes(self.0)
    }
}

/// The number of an epoch in `P_BARRIER` and `P_BARRIER_ACK`: four bytes that only the writer understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BarrierNr(pub [u8; 4]);

impl BarrierNr {
    /// An epoch number of ours; little-endian, but only we read it.
    #[must_use]
    pub const fn from_u32(number: u32) -> Self {
        Self(number.to_le_bytes())
    }

    /// The number that [`BarrierNr::from_u32`] made. Of a peer's barrier it means nothing.
    #[must_use]
    pub const fn to_u32(self) -> u32 {
        u32::from_le_bytes(self.0)
    }
}

bitflags::bitflags! {
    /// Flags of data packets: docs/spec/wire.md, section 6.3. Unknown bits are kept.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct DpFlags: u32 {
        /// Obsolete, never set.
        const HARDBARRIER = 0x001;
        /// The writer waits for it: a hint.
        const RW_SYNC = 0x002;
        /// Sent during a resync: the mirror may clear the out-of-sync bits.
        const MAY_SET_IN_SYNC = 0x004;
        /// A hint to push queued I/O to the disk.
        const UNPLUG = 0x008;
        /// Write through volatile caches.
        const FUA = 0x010;
        /// Flush caches before this write.
        const FLUSH = 0x020;
        /// With `P_TRIM`; with `P_ZEROES`: unmapping is allowed.
        const DISCARD = 0x040;
        /// Protocol B: answer `P_RECV_ACK`.
        const SEND_RECEIVE_ACK = 0x080;
        /// Protocol C, or any protocol during a resync: answer when written.
        const SEND_WRITE_ACK = 0x100;
        /// With `P_WSAME`.
        const WSAME = 0x200;
        /// With `P_ZEROES`.
        const ZEROES = 0x400;
    }
}

/// The fixed part of `P_DATA`, `P_DATA_REPLY`, `P_RS_DATA_REPLY`, `P_TRIM`, `P_ZEROES` and `P_WSAME`, 24 bytes:
///
/// | offset | size | field       | meaning                                        |
/// |-------:|-----:|-------------|------------------------------------------------|
/// |      0 |    8 | `sector`    | first sector                                   |
/// |      8 |    8 | `block_id`  | the writer's handle, or the echo of a request's |
/// |     16 |    4 | `seq_num`   | orders writes against acks; 0 in replies       |
/// |     20 |    4 | `flags`     | [`DpFlags`]; 0 in replies                      |
///
/// `P_TRIM`, `P_ZEROES` and `P_WSAME` have 4 bytes more: the number of bytes affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DataHeader {
    /// First sector, in units of 512 bytes.
    pub sector: u64,
    /// The writer's handle, or in replies the reader's.
    pub block_id: BlockId,
    /// The sender's sequence number (docs/spec/wire.md, section 7.6).
    pub seq_num: u32,
    /// What the writer wants done.
    pub flags: DpFlags,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawData {
    sector: U64,
    block_id: [u8; 8],
    seq_num: U32,
    dp_flags: U32,
}

impl DataHeader {
    pub(crate) const WIRE_SIZE: u32 = 24;
    /// With the size that `P_TRIM`, `P_ZEROES` and `P_WSAME` have behind it.
    pub(crate) const WIRE_SIZE_SIZED: u32 = 28;
}
const _: () = assert!(size_of::<RawData>() == DataHeader::WIRE_SIZE as usize);
const _: () =
    assert!(size_of::<RawData>() + size_of::<U32>() == DataHeader::WIRE_SIZE_SIZED as usize);

impl From<RawData> for DataHeader {
    fn from(raw: RawData) -> Self {
        Self {
            sector: raw.sector.get(),
            block_id: BlockId(raw.block_id),
            seq_num: raw.seq_num.get(),
            flags: DpFlags::from_bits_retain(raw.dp_flags.get()),
        }
    }
}

impl From<&DataHeader> for RawData {
    fn from(data: &DataHeader) -> Self {
        Self {
            sector: data.sector.into(),
            block_id: data.block_id.0,
            seq_num: data.seq_num.into(),
            dp_flags: data.flags.bits().into(),
        }
    }
}

/// The fixed part of reads, resync and verify requests and replies, 24 bytes:
///
/// | offset | size | field      | meaning                                      |
/// |-------:|-----:|------------|----------------------------------------------|
/// |      0 |    8 | `sector`   | first sector                                 |
/// |      8 |    8 | `block_id` | echoed; all ones for resync and verify       |
/// |     16 |    4 | `bytes`    | size                                         |
/// |     20 |    4 | pad        | zero when sent; K's is garbage, so ignored   |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockRequest {
    /// First sector, in units of 512 bytes.
    pub sector: u64,
    /// The reader's handle; [`BlockId::SYNCER`] for resync and verify.
    pub block_id: BlockId,
    /// Size in bytes: a multiple of 512, at least 512, at most the version's limit.
    pub bytes: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawRequest {
    sector: U64,
    block_id: [u8; 8],
    blksize: U32,
    pad: U32,
}

impl BlockRequest {
    pub(crate) const WIRE_SIZE: u32 = 24;
}
const _: () = assert!(size_of::<RawRequest>() == BlockRequest::WIRE_SIZE as usize);

impl From<RawRequest> for BlockRequest {
    fn from(raw: RawRequest) -> Self {
        Self {
            sector: raw.sector.get(),
            block_id: BlockId(raw.block_id),
            bytes: raw.blksize.get(),
        }
    }
}

impl From<&BlockRequest> for RawRequest {
    fn from(request: &BlockRequest) -> Self {
        Self {
            sector: request.sector.into(),
            block_id: request.block_id.0,
            blksize: request.bytes.into(),
            pad: 0.into(),
        }
    }
}

/// All acknowledgements of blocks, 24 bytes:
///
/// | offset | size | field      | meaning                                              |
/// |-------:|-----:|------------|------------------------------------------------------|
/// |      0 |    8 | `sector`   | that of what is acknowledged                         |
/// |      8 |    8 | `block_id` | its handle; a verdict in `P_OV_RESULT`               |
/// |     16 |    4 | `bytes`    | its size                                             |
/// |     20 |    4 | `seq_num`  | the sender's sequence number                         |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockAck {
    /// First sector, in units of 512 bytes.
    pub sector: u64,
    /// The handle, echoed. Garbage in K's `P_RS_IS_IN_SYNC`, and in its `P_NEG_RS_DREPLY` to a checksum request.
    pub block_id: BlockId,
    /// Size in bytes: a multiple of 512, at most [`MAX_DISCARD_BYTES`]. In `P_NEG_ACK` anything: K sends 0 or worse for
    /// some failed writes, so use the size remembered (docs/spec/wire.md, section 7.2).
    pub bytes: u32,
    /// The sender's sequence number (docs/spec/wire.md, section 7.6).
    pub seq_num: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawAck {
    sector: U64,
    block_id: [u8; 8],
    blksize: U32,
    seq_num: U32,
}

impl BlockAck {
    pub(crate) const WIRE_SIZE: u32 = 24;
}
const _: () = assert!(size_of::<RawAck>() == BlockAck::WIRE_SIZE as usize);

impl From<RawAck> for BlockAck {
    fn from(raw: RawAck) -> Self {
        Self {
            sector: raw.sector.get(),
            block_id: BlockId(raw.block_id),
            bytes: raw.blksize.get(),
            seq_num: raw.seq_num.get(),
        }
    }
}

impl From<&BlockAck> for RawAck {
    fn from(ack: &BlockAck) -> Self {
        Self {
            sector: ack.sector.into(),
            block_id: ack.block_id.0,
            blksize: ack.bytes.into(),
            seq_num: ack.seq_num.into(),
        }
    }
}

/// `P_OUT_OF_SYNC` and `P_RS_DEALLOCATED`, 16 bytes:
///
/// | offset | size | field    | meaning                                    |
/// |-------:|-----:|----------|--------------------------------------------|
/// |      0 |    8 | `sector` | first sector                               |
/// |      8 |    4 | `bytes`  | size                                       |
/// |     12 |    4 | pad      | zero when sent; K's is garbage, so ignored |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockDesc {
    /// First sector, in units of 512 bytes.
    pub sector: u64,
    /// Size in bytes: a multiple of 512, at least 512, at most [`MAX_DISCARD_BYTES`].
    pub bytes: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawDesc {
    sector: U64,
    blksize: U32,
    pad: U32,
}

impl BlockDesc {
    pub(crate) const WIRE_SIZE: u32 = 16;
}
const _: () = assert!(size_of::<RawDesc>() == BlockDesc::WIRE_SIZE as usize);

impl From<RawDesc> for BlockDesc {
    fn from(raw: RawDesc) -> Self {
        Self {
            sector: raw.sector.get(),
            bytes: raw.blksize.get(),
        }
    }
}

impl From<&BlockDesc> for RawDesc {
    fn from(desc: &BlockDesc) -> Self {
        Self {
            sector: desc.sector.into(),
            blksize: desc.bytes.into(),
            pad: 0.into(),
        }
    }
}
