//! The parameter exchange: `P_PROTOCOL`, `P_SYNC_PARAM`, `P_SIZES`, `P_UUIDS` (docs/spec/wire.md, section 5).

use alloc::boxed::Box;
use core::fmt;

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a name field, its NUL included.
pub(crate) const NAME_FIELD: usize = 64;

/// The current UUID of a disk that was just created and never used (docs/spec/wire.md, section 5.5).
pub const UUID_JUST_CREATED: u64 = 4;
/// What a sync UUID adds to the bitmap UUID (docs/spec/wire.md, section 10.1).
pub const UUID_NEW_BM_OFFSET: u64 = 0x0001_0000_0000_0000;

/// A kernel name of a hash algorithm, as `crc32c`; empty for none. ASCII without NUL, at most 63 bytes. Whether such an
/// algorithm exists is another question: [`DigestAlgorithm::from_name`](crate::DigestAlgorithm::from_name).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AlgorithmName(Box<str>);

/// A name that does not fit the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an algorithm name is at most 63 ASCII characters, none of them NUL")]
pub struct BadAlgorithmName;

impl AlgorithmName {
    /// A name that can be sent.
    ///
    /// # Errors
    /// [`BadAlgorithmName`] if it is longer than 63 bytes or not ASCII, or has a NUL.
    pub fn new(name: &str) -> Result<Self, BadAlgorithmName> {
        if name.len() < NAME_FIELD && name.is_ascii() && !name.contains('\0') {
            Ok(Self(name.into()))
        } else {
            Err(BadAlgorithmName)
        }
    }

    /// The name up to the first NUL of a field; `None` if there is no NUL or it is not ASCII.
    pub(crate) fn from_field(field: &[u8]) -> Option<Self> {
        let end = field.iter().position(|byte| *byte == 0)?;
        let name = core::str::from_utf8(&field[..end]).ok()?;
        Self::new(name).ok()
    }

    pub(crate) fn to_field(&self) -> [u8; NAME_FIELD] {
        let mut field = [0; NAME_FIELD];
        field[..self.0.len()].copy_from_slice(self.0.as_bytes()); // new() made sure that a NUL is left
        field
    }

    /// The name; empty for none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether no algorithm is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for AlgorithmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl PartialEq<str> for AlgorithmName {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl core::str::FromStr for AlgorithmName {
    type Err = BadAlgorithmName;

    fn from_str(name: &str) -> Result<Self, BadAlgorithmName> {
        Self::new(name)
    }
}

/// When a write is done: docs/spec/wire.md, section 7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum WireProtocol {
    /// When it is on the local disk and in the TCP send buffer.
    A = 1,
    /// When it is on the local disk and the peer has received it.
    B = 2,
    /// When it is on both disks.
    C = 3,
}

impl WireProtocol {
    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The protocol with this code.
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::A),
            2 => Some(Self::B),
            3 => Some(Self::C),
            _ => None,
        }
    }
}

impl fmt::Display for WireProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
        })
    }
}

/// After-split-brain policies: docs/spec/wire.md, section 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u32)]
pub enum AfterSb {
    /// Do not resolve it: disconnect.
    #[default]
    Disconnect = 0,
    /// Discard the data of who became primary last.
    DiscardYoungerPrimary = 1,
    /// Discard the data of who became primary first.
    DiscardOlderPrimary = 2,
    /// Discard the data of who changed nothing.
    DiscardZeroChanges = 3,
    /// Discard the data of who changed less.
    DiscardLeastChanges = 4,
    /// Discard the data of this node.
    DiscardLocal = 5,
    /// Discard the data of the peer.
    DiscardRemote = 6,
    /// Discard the secondary's data, if that is what the policy without primaries says.
    Consensus = 7,
    /// Discard the secondary's data.
    DiscardSecondary = 8,
    /// Call a helper on the primary that loses.
    CallPriLostAfterSb = 9,
    /// What the policy without primaries says, whatever the roles.
    ViolentlyAs0p = 10,
}

impl AfterSb {
    /// Every policy, in the order of the codes.
    pub const ALL: &[Self] = &[
        Self::Disconnect,
        Self::DiscardYoungerPrimary,
        Self::DiscardOlderPrimary,
        Self::DiscardZeroChanges,
        Self::DiscardLeastChanges,
        Self::DiscardLocal,
        Self::DiscardRemote,
        Self::Consensus,
        Self::DiscardSecondary,
        Self::CallPriLostAfterSb,
        Self::ViolentlyAs0p,
    ];

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The policy with this code.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }

    /// The policy from the other node's point of view: local and remote change places.
    #[must_use]
    pub const fn convert_for_receiver(self) -> Self {
        match self {
            Self::DiscardLocal => Self::DiscardRemote,
            Self::DiscardRemote => Self::DiscardLocal,
            other => other,
        }
    }

    /// The name in drbd.conf.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::DiscardYoungerPrimary => "discard-younger-primary",
            Self::DiscardOlderPrimary => "discard-older-primary",
            Self::DiscardZeroChanges => "discard-zero-changes",
            Self::DiscardLeastChanges => "discard-least-changes",
            Self::DiscardLocal => "discard-local",
            Self::DiscardRemote => "discard-remote",
            Self::Consensus => "consensus",
            Self::DiscardSecondary => "discard-secondary",
            Self::CallPriLostAfterSb => "call-pri-lost-after-sb",
            Self::ViolentlyAs0p => "violently-as0p",
        }
    }
}

impl fmt::Display for AfterSb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

bitflags::bitflags! {
    /// Flags of `P_PROTOCOL`. Unknown bits are kept.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct ConnFlags: u32 {
        /// The sender gives up its own data if there is a split brain.
        const DISCARD_MY_DATA = 1;
        /// Decide about the resync, log it, and disconnect.
        const DRY_RUN = 2;
    }
}

/// `P_PROTOCOL` and `P_PROTOCOL_UPDATE`:
///
/// | offset | size | field           | meaning                                                 |
/// |-------:|-----:|-----------------|---------------------------------------------------------|
/// |      0 |    4 | `protocol`      | [`WireProtocol`]                                        |
/// |      4 |    4 | `after_sb_0p`   | [`AfterSb`]                                             |
/// |      8 |    4 | `after_sb_1p`   | [`AfterSb`]                                             |
/// |     12 |    4 | `after_sb_2p`   | [`AfterSb`]                                             |
/// |     16 |    4 | `conn_flags`    | [`ConnFlags`]                                           |
/// |     20 |    4 | `two_primaries` | 0 or 1                                                  |
/// |     24 | 1-64 | `integrity_alg` | since version 87: a name and its NUL                    |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolParams {
    /// When a write is done.
    pub protocol: WireProtocol,
    /// Split brain, no primary: as the sender sees it.
    pub after_sb_0p: AfterSb,
    /// Split brain, one primary.
    pub after_sb_1p: AfterSb,
    /// Split brain, two primaries.
    pub after_sb_2p: AfterSb,
    /// What this connection attempt is about.
    pub conn_flags: ConnFlags,
    /// Both nodes may be primary.
    pub two_primaries: bool,
    /// The data-integrity algorithm of the sender; empty below version 87.
    pub integrity_alg: AlgorithmName,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawProtocol {
    pub(crate) protocol: U32,
    pub(crate) after_sb_0p: U32,
    pub(crate) after_sb_1p: U32,
    pub(crate) after_sb_2p: U32,
    pub(crate) conn_flags: U32,
    pub(crate) two_primaries: U32,
}

impl ProtocolParams {
    pub(crate) const WIRE_SIZE: u32 = 24;
}
const _: () = assert!(size_of::<RawProtocol>() == ProtocolParams::WIRE_SIZE as usize);

impl From<&ProtocolParams> for RawProtocol {
    fn from(params: &ProtocolParams) -> Self {
        Self {
            protocol: params.protocol.code().into(),
            after_sb_0p: params.after_sb_0p.code().into(),
            after_sb_1p: params.after_sb_1p.code().into(),
            after_sb_2p: params.after_sb_2p.code().into(),
            conn_flags: params.conn_flags.bits().into(),
            two_primaries: u32::from(params.two_primaries).into(),
        }
    }
}

/// `P_SYNC_PARAM89`, from version 95 on 148 bytes:
///
/// | offset | size | field            | meaning                       |
/// |-------:|-----:|------------------|-------------------------------|
/// |      0 |    4 | `resync_rate`    | KiB/s                         |
/// |      4 |   64 | `verify_alg`     | name, padded with NUL         |
/// |     68 |   64 | `csums_alg`      | name, padded with NUL         |
/// |    132 |    4 | `c_plan_ahead`   | 0.1 s                         |
/// |    136 |    4 | `c_delay_target` | 0.1 s                         |
/// |    140 |    4 | `c_fill_target`  | sectors                       |
/// |    144 |    4 | `c_max_rate`     | KiB/s                         |
///
/// 89 to 94: the first 132 bytes. 88: `resync_rate`, then `verify_alg` with its NUL, 1 to 64 bytes. Below: only
/// `resync_rate`. What a version does not carry is decoded as DRBD's default.
///
/// K takes the numbers over as its own disk options, and a rate of zero stalls its resync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncParam {
    /// Fixed resync rate in KiB/s.
    pub resync_rate: u32,
    /// The algorithm of online verify.
    pub verify_alg: AlgorithmName,
    /// The algorithm of checksum based resync.
    pub csums_alg: AlgorithmName,
    /// The resync controller's planning horizon in 0.1 s; 0 switches the controller off.
    pub c_plan_ahead: u32,
    /// Delay the controller aims at, in 0.1 s.
    pub c_delay_target: u32,
    /// Bytes in flight the controller aims at, in sectors.
    pub c_fill_target: u32,
    /// The controller's upper limit in KiB/s.
    pub c_max_rate: u32,
}

impl Default for SyncParam {
    /// DRBD's defaults: docs/spec/wire.md, section 5.3.
    fn default() -> Self {
        Self {
            resync_rate: 250,
            verify_alg: AlgorithmName::default(),
            csums_alg: AlgorithmName::default(),
            c_plan_ahead: 20,
            c_delay_target: 10,
            c_fill_target: 100,
            c_max_rate: 102_400,
        }
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawSyncParam {
    pub(crate) resync_rate: U32,
    pub(crate) verify_alg: [u8; NAME_FIELD],
    pub(crate) csums_alg: [u8; NAME_FIELD],
}
const _: () = assert!(size_of::<RawSyncParam>() == 132);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawController {
    pub(crate) c_plan_ahead: U32,
    pub(crate) c_delay_target: U32,
    pub(crate) c_fill_target: U32,
    pub(crate) c_max_rate: U32,
}
const _: () = assert!(size_of::<RawSyncParam>() + size_of::<RawController>() == 148);

bitflags::bitflags! {
    /// Flags of `P_SIZES`. Unknown bits are kept.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct DdsFlags: u16 {
        /// The administrator insists.
        const FORCED = 1;
        /// Do not resync the space that a growing device gains.
        const NO_RESYNC = 2;
    }
}

/// What the extension of `P_SIZES` says of the sender's backing device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QueueLimits {
    /// Bytes the device writes without reading first.
    pub physical_block_size: u32,
    /// The smallest addressable unit in bytes.
    pub logical_block_size: u32,
    /// Bytes from the start to the first physical block.
    pub alignment_offset: u32,
    /// Preferred smallest I/O in bytes.
    pub io_min: u32,
    /// Preferred I/O size in bytes; 0 for unknown.
    pub io_opt: u32,
    /// The device can discard.
    pub discard_enabled: bool,
    /// Discarded blocks read as zeros.
    pub discard_zeroes_data: bool,
    /// The node takes `P_WSAME`. Always false when we send.
    pub write_same_capable: bool,
}

impl Default for QueueLimits {
    /// A disk with 512-byte blocks that can do nothing special.
    fn default() -> Self {
        Self {
            physical_block_size: 512,
            logical_block_size: 512,
            alignment_offset: 0,
            io_min: 512,
            io_opt: 0,
            discard_enabled: false,
            discard_zeroes_data: false,
            write_same_capable: false,
        }
    }
}

/// `P_SIZES`, 32 bytes, 56 if the feature [`Features::WSAME`](crate::Features::WSAME) is agreed:
///
/// | offset | size | field                 | meaning                                                 |
/// |-------:|-----:|-----------------------|---------------------------------------------------------|
/// |      0 |    8 | `d_size`              | usable size of the backing disk, sectors; 0 if diskless |
/// |      8 |    8 | `u_size`              | size asked for by the administrator, sectors; 0 if not  |
/// |     16 |    8 | `c_size`              | current size of the device, sectors; 0: please answer   |
/// |     24 |    4 | `max_bio_size`        | largest request, bytes                                  |
/// |     28 |    2 | `queue_order_type`    | unused, 0                                               |
/// |     30 |    2 | `dds_flags`           | [`DdsFlags`]                                            |
/// |     32 |    4 | `physical_block_size` | the extension, [`QueueLimits`]                          |
/// |     36 |    4 | `logical_block_size`  |                                                         |
/// |     40 |    4 | `alignment_offset`    |                                                         |
/// |     44 |    4 | `io_min`              |                                                         |
/// |     48 |    4 | `io_opt`              |                                                         |
/// |     52 |    1 | `discard_enabled`     | 0 or 1                                                  |
/// |     53 |    1 | `discard_zeroes_data` | 0 or 1                                                  |
/// |     54 |    1 | `write_same_capable`  | 0 or 1                                                  |
/// |     55 |    1 | pad                   | zero when sent, ignored when received                   |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Usable size of the backing disk in sectors; 0 if diskless.
    pub d_size: u64,
    /// Size asked for by the administrator in sectors; 0 for none.
    pub u_size: u64,
    /// Current size of the device in sectors; 0 asks the peer to answer.
    pub c_size: u64,
    /// Largest request in bytes.
    pub max_bio_size: u32,
    /// Unused, 0.
    pub queue_order_type: u16,
    /// How a resize is meant.
    pub dds_flags: DdsFlags,
    /// The extension. Decoded as `None` without the feature; `None` is sent as the default with it.
    pub limits: Option<QueueLimits>,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawSizes {
    pub(crate) d_size: U64,
    pub(crate) u_size: U64,
    pub(crate) c_size: U64,
    pub(crate) max_bio_size: U32,
    pub(crate) queue_order_type: U16,
    pub(crate) dds_flags: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawLimits {
    physical_block_size: U32,
    logical_block_size: U32,
    alignment_offset: U32,
    io_min: U32,
    io_opt: U32,
    discard_enabled: u8,
    discard_zeroes_data: u8,
    write_same_capable: u8,
    pad: u8,
}

impl Sizes {
    pub(crate) const WIRE_SIZE: u32 = 32;
    pub(crate) const WIRE_SIZE_EXTENDED: u32 = 56;
}
const _: () = assert!(size_of::<RawSizes>() == Sizes::WIRE_SIZE as usize);
const _: () =
    assert!(size_of::<RawSizes>() + size_of::<RawLimits>() == Sizes::WIRE_SIZE_EXTENDED as usize);

impl From<RawLimits> for QueueLimits {
    fn from(raw: RawLimits) -> Self {
        Self {
            physical_block_size: raw.physical_block_size.get(),
            logical_block_size: raw.logical_block_size.get(),
            alignment_offset: raw.alignment_offset.get(),
            io_min: raw.io_min.get(),
            io_opt: raw.io_opt.get(),
            discard_enabled: raw.discard_enabled != 0,
            discard_zeroes_data: raw.discard_zeroes_data != 0,
            write_same_capable: raw.write_same_capable != 0,
        }
    }
}

impl From<&QueueLimits> for RawLimits {
    fn from(limits: &QueueLimits) -> Self {
        Self {
            physical_block_size: limits.physical_block_size.into(),
            logical_block_size: limits.logical_block_size.into(),
            alignment_offset: limits.alignment_offset.into(),
            io_min: limits.io_min.into(),
            io_opt: limits.io_opt.into(),
            discard_enabled: limits.discard_enabled.into(),
            discard_zeroes_data: limits.discard_zeroes_data.into(),
            write_same_capable: limits.write_same_capable.into(),
            pad: 0,
        }
    }
}

bitflags::bitflags! {
    /// Flags of `P_UUIDS`. Unknown bits are kept.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct UuidFlags: u64 {
        /// The sender gives up its own data if there is a split brain.
        const DISCARD_MY_DATA = 1;
        /// The sender was Primary when it went down uncleanly.
        const CRASHED_PRIMARY = 2;
        /// The sender is attaching a disk that is Inconsistent.
        const INCONSISTENT = 4;
        /// Skip the initial sync: take over this new current UUID.
        const SKIP_INITIAL_SYNC = 8;
    }
}

/// `P_UUIDS`, 48 bytes:
///
/// | offset | size | field        | meaning                                   |
/// |-------:|-----:|--------------|-------------------------------------------|
/// |      0 |    8 | `current`    | current data generation                   |
/// |      8 |    8 | `bitmap`     | what the bitmap is relative to; 0 if none |
/// |     16 |    8 | `history[0]` | newest old generation                     |
/// |     24 |    8 | `history[1]` | oldest kept generation                    |
/// |     32 |    8 | `bits`       | blocks of 4 KiB out of sync at the sender |
/// |     40 |    8 | `flags`      | [`UuidFlags`]                             |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uuids {
    /// Current data generation; bit 0 tells that the sender is or was Primary.
    pub current: u64,
    /// Generation that the bitmap is relative to; 0 for none.
    pub bitmap: u64,
    /// Older generations, newest first.
    pub history: [u64; 2],
    /// Set bits of the sender's bitmap: blocks of 4 KiB out of sync.
    pub bits: u64,
    /// What else the peer must know to compare.
    pub flags: UuidFlags,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawUuids {
    current: U64,
    bitmap: U64,
    history: [U64; 2],
    bits: U64,
    uuid_flags: U64,
}

impl Uuids {
    pub(crate) const WIRE_SIZE: u32 = 48;
}
const _: () = assert!(size_of::<RawUuids>() == Uuids::WIRE_SIZE as usize);

impl From<RawUuids> for Uuids {
    fn from(raw: RawUuids) -> Self {
        Self {
            current: raw.current.get(),
            bitmap: raw.bitmap.get(),
            history: raw.history.map(U64::get),
            bits: raw.bits.get(),
            flags: UuidFlags::from_bits_retain(raw.uuid_flags.get()),
        }
    }
}

impl From<&Uuids> for RawUuids {
    fn from(uuids: &Uuids) -> Self {
        Self {
            current: uuids.current.into(),
            bitmap: uuids.bitmap.into(),
            history: uuids.history.map(U64::from),
            bits: uuids.bits.into(),
            uuid_flags: uuids.flags.bits().into(),
        }
    }
}
