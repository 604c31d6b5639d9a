//! Protocol versions, features, and what both sides agreed on.
//!
//! docs/spec/wire.md, sections 2.2 (headers), 3 (feature handshake), 15 (differences between versions).
//!
//! `P_CONNECTION_FEATURES`, 72 bytes, always behind an 8-byte header:
//!
//! | offset | size | field          | meaning                                            |
//! |-------:|-----:|----------------|----------------------------------------------------|
//! |      0 |    4 | `protocol_min` | lowest version spoken                              |
//! |      4 |    4 | flags          | [`Features`]; unknown bits are kept and not agreed |
//! |      8 |    4 | `protocol_max` | highest version spoken; 0 means `protocol_min`     |
//! |     12 |    4 | pad            | zero when sent, ignored when received              |
//! |     16 |   56 | reserved       | zero when sent, ignored when received              |

use alloc::vec::Vec;

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::header::{H80_LEN, H100_LEN};

/// A protocol version: what each one changed is a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion(pub u32);

impl ProtocolVersion {
    /// Assumed until the feature exchange is done: it selects the 8-byte header (docs/spec/wire.md, section 1.3).
    pub const INITIAL: Self = Self(80);
    /// The lowest version that can be agreed on.
    pub const MIN: Self = Self(86);
    /// The highest version that can be agreed on.
    pub const MAX: Self = Self(101);

    /// Whether this is a version that two nodes can have agreed on, and not the one assumed before.
    #[must_use]
    pub const fn is_agreed(self) -> bool {
        self.0 >= Self::MIN.0
    }

    /// From 87 on `P_PROTOCOL` names the data-integrity algorithm, and data carries digests.
    #[must_use]
    pub const fn has_integrity_alg(self) -> bool {
        self.0 >= 87
    }

    /// From 88 on there is online verify, and `P_SYNC_PARAM` names its algorithm.
    #[must_use]
    pub const fn has_verify(self) -> bool {
        self.0 >= 88
    }

    /// From 89 on parameters travel as `P_SYNC_PARAM89`, and checksum based resync exists.
    #[must_use]
    pub const fn has_csums(self) -> bool {
        self.0 >= 89
    }

    /// From 90 on bitmaps may be sent compressed.
    #[must_use]
    pub const fn has_compressed_bitmap(self) -> bool {
        self.0 >= 90
    }

    /// From 90 on the first `P_OV_REQUEST` defines where a verify starts.
    #[must_use]
    pub const fn has_verify_start(self) -> bool {
        self.0 >= 90
    }

    /// From 90 on the initial sync can be skipped.
    #[must_use]
    pub const fn can_skip_initial_sync(self) -> bool {
        self.0 >= 90
    }

    /// From 91 on a missed end of a resync is corrected when UUIDs are compared (rules 34 to 37, 51, 71).
    #[must_use]
    pub const fn corrects_missed_resync_end(self) -> bool {
        self.0 >= 91
    }

    /// From 92 on `P_PROTOCOL` has the dry-run flag.
    #[must_use]
    pub const fn has_dry_run(self) -> bool {
        self.0 >= 92
    }

    /// From 93 on a device may grow without a resync of the new space.
    #[must_use]
    pub const fn can_grow_without_resync(self) -> bool {
        self.0 >= 93
    }

    /// From 95 on large packets have the header with a 32-bit length.
    #[must_use]
    pub const fn uses_h95(self) -> bool {
        self.0 >= 95
    }

    /// From 95 on `P_SYNC_PARAM89` ends with the four settings of the resync controller.
    #[must_use]
    pub const fn sync_param_has_controller(self) -> bool {
        self.0 >= 95
    }

    /// From 95 on all data packet flags have a meaning; below, only RW_SYNC and MAY_SET_IN_SYNC.
    #[must_use]
    pub const fn has_full_dp_flags(self) -> bool {
        self.0 >= 95
    }

    /// From 96 on there is Ahead/Behind with `P_OUT_OF_SYNC` and `P_RS_CANCEL`, and I/O flows in WFBitMapS.
    #[must_use]
    pub const fn has_ahead_behind(self) -> bool {
        self.0 >= 96
    }

    /// From 96 on the sync source ends a resync only with the target's `P_STATE`.
    #[must_use]
    pub const fn source_waits_for_target(self) -> bool {
        self.0 >= 96
    }

    /// From 96 on rules 51 and 71 of the UUID comparison test the sync UUID's offset.
    #[must_use]
    pub const fn tests_sync_uuid_offset(self) -> bool {
        self.0 >= 96
    }

    /// 97 to 99 and from 101 on VerifyS ends a verify with a `P_STATE`, so a stop sector works.
    #[must_use]
    pub const fn verify_ends_with_state(self) -> bool {
        (self.0 >= 97 && self.0 <= 99) || self.0 >= 101
    }

    /// From 100 on every packet has the 16-byte header.
    #[must_use]
    pub const fn uses_h100(self) -> bool {
        self.0 >= 100
    }

    /// From 100 on packets name a volume; below, there is only volume 0.
    #[must_use]
    pub const fn has_volumes(self) -> bool {
        self.0 >= 100
    }

    /// From 100 on data packets say which acknowledgement they want; below, the configured protocol says it.
    #[must_use]
    pub const fn has_ack_flags(self) -> bool {
        self.0 >= 100
    }

    /// From 100 on the whole connection has state changes of its own (`P_CONN_ST_CHG_REQ`).
    #[must_use]
    pub const fn has_conn_state_change(self) -> bool {
        self.0 >= 100
    }

    /// From 100 on the arbiter of two primaries may answer `P_RETRY_WRITE`; below, `P_SUPERSEDED`.
    #[must_use]
    pub const fn has_retry_write(self) -> bool {
        self.0 >= 100
    }

    /// From 100 on `P_PROTOCOL_UPDATE` announces changed options while connected.
    #[must_use]
    pub const fn has_protocol_update(self) -> bool {
        self.0 >= 100
    }

    /// Bytes of the header of small packets: 8, from version 100 on 16.
    #[must_use]
    pub const fn header_len(self) -> usize {
        if self.uses_h100() { H100_LEN } else { H80_LEN }
    }

    /// The shortest and longest `P_SYNC_PARAM` or `P_SYNC_PARAM89`, in bytes after the header: 4 up to version 87,
    /// 5 to 68 at 88, 132 at 89 to 94, 148 from 95 on (docs/spec/wire.md, section 5.3).
    #[must_use]
    pub const fn sync_param_len(self) -> (u32, u32) {
        match self.0 {
            0..=87 => (4, 4),
            88 => (5, 68),
            89..=94 => (132, 132),
            _ => (148, 148),
        }
    }

    /// The largest read, write or resync request in bytes: 32 KiB up to 94, 128 KiB at 95 to 99, then 1 MiB
    /// (docs/spec/wire.md, section 7.9).
    #[must_use]
    pub const fn max_bio_size(self) -> u32 {
        match self.0 {
            0..=94 => 32 << 10,
            95..=99 => 128 << 10,
            _ => 1 << 20,
        }
    }
}

impl core::fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

bitflags::bitflags! {
    /// Feature flags of the handshake: docs/spec/wire.md, section 3.3.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Features: u32 {
        /// `P_TRIM` may be used.
        const TRIM = 1;
        /// `P_RS_THIN_REQ` and `P_RS_DEALLOCATED` may be used.
        const THIN_RESYNC = 2;
        /// `P_SIZES` has its 24 byte extension; discards up to 128 MiB; `P_WSAME` if both can.
        const WSAME = 4;
        /// `P_ZEROES` may be used, and `P_TRIM` means discard.
        const WZEROES = 8;
    }
}

/// `P_CONNECTION_FEATURES`: what a node speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionFeatures {
    /// Lowest version spoken.
    pub min: u32,
    /// Highest version spoken. A received 0 means `min`.
    pub max: u32,
    /// Features offered; unknown bits of a peer are kept here and never agreed on.
    pub features: Features,
}

/// Two nodes have no protocol version in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no common protocol version: this node speaks {own_min} to {own_max}, the peer {peer_min} to {peer_max}"
)]
pub struct Incompatible {
    /// Lowest version of this node.
    pub own_min: u32,
    /// Highest version of this node.
    pub own_max: u32,
    /// Lowest version of the peer.
    pub peer_min: u32,
    /// Highest version of the peer.
    pub peer_max: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawFeatures {
    protocol_min: U32,
    feature_flags: U32,
    protocol_max: U32,
    pad: U32,
    reserved: [U64; 7],
}
const _: () = assert!(size_of::<RawFeatures>() == ConnectionFeatures::WIRE_SIZE as usize);

impl From<RawFeatures> for ConnectionFeatures {
    fn from(raw: RawFeatures) -> Self {
        Self {
            min: raw.protocol_min.get(),
            max: raw.protocol_max.get(),
            features: Features::from_bits_retain(raw.feature_flags.get()),
        }
    }
}

impl ConnectionFeatures {
    pub(crate) const WIRE_SIZE: u32 = 72;

    pub(crate) fn encode_body(&self, out: &mut Vec<u8>) {
        let raw = RawFeatures {
            protocol_min: self.min.into(),
            feature_flags: self.features.bits().into(),
            protocol_max: self.max.into(),
            pad: 0.into(),
            reserved: [0.into(); 7],
        };
        out.extend_from_slice(raw.as_bytes());
    }

    /// What we announce: versions 86 to 101 and all four features, as the kernel does.
    pub const OURS: Self = Self {
        min: ProtocolVersion::MIN.0,
        max: ProtocolVersion::MAX.0,
        features: Features::all(),
    };

    /// What `self`, our announcement, and the peer's have in common: docs/spec/wire.md, section 3.2.
    ///
    /// # Errors
    /// [`Incompatible`] when the version ranges do not meet.
    pub fn agree(&self, peer: &Self) -> Result<(ProtocolVersion, Features), Incompatible> {
        let peer_max = if peer.max == 0 { peer.min } else { peer.max };
        let agreed = self.max.min(peer_max);
        // The last test keeps a peer whose range is upside down from choosing a version below both minima.
        if self.max < peer.min || self.min > peer_max || agreed < self.min.max(peer.min) {
            return Err(Incompatible {
                own_min: self.min,
                own_max: self.max,
                peer_min: peer.min,
                peer_max,
            });
        }
        Ok((ProtocolVersion(agreed), self.features & peer.features))
    }
}

/// What a codec must know of the conversation so far. A plain value: the connection's owner keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireContext {
    /// The agreed version, or [`ProtocolVersion::INITIAL`].
    pub version: ProtocolVersion,
    /// The agreed features.
    pub features: Features,
    /// Bytes of the digest in data packets of the peer (its data-integrity-alg); 0 for none.
    pub peer_digest_len: usize,
    /// Bytes of the digest in data packets of ours (our data-integrity-alg); 0 for none.
    pub own_digest_len: usize,
}

impl WireContext {
    /// Before the feature exchange: 8-byte headers, only `P_INITIAL_DATA`, `P_INITIAL_META` and
    /// `P_CONNECTION_FEATURES`.
    #[must_use]
    pub const fn initial() -> Self {
        Self::agreed(ProtocolVersion::INITIAL, Features::empty())
    }

    /// After the feature exchange, before `P_PROTOCOL` named a data-integrity algorithm.
    #[must_use]
    pub const fn agreed(version: ProtocolVersion, features: Features) -> Self {
        Self {
            version,
            features,
            peer_digest_len: 0,
            own_digest_len: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(min: u32, max: u32, features: u32) -> ConnectionFeatures {
        ConnectionFeatures {
            min,
            max,
            features: Features::from_bits_retain(features),
        }
    }

    #[test]
    fn agreement_is_the_lower_maximum_and_the_common_features() {
        let ours = ConnectionFeatures::OURS;
        for (peer, agreed) in [
            (offer(86, 101, 0xf), Some((101, 0xf))),
            (offer(86, 97, 0x1), Some((97, 0x1))),
            (offer(86, 120, 0xffff_fff3), Some((101, 0x3))), // a DRBD 9: its other bits are not agreed
            (offer(100, 0, 0), Some((100, 0))),              // no maximum means the minimum
            (offer(101, 101, 0), Some((101, 0))),
            (offer(102, 120, 0xf), None),
            (offer(70, 85, 0), None),
            (offer(0, 0, 0), None),
            (offer(100, 90, 0), None), // upside down
        ] {
            let expected = agreed.map(|(v, f)| (ProtocolVersion(v), Features::from_bits_retain(f)));
            assert_eq!(ours.agree(&peer).ok(), expected, "{peer:?}");
        }
        let error = ours.agree(&offer(102, 120, 0)).unwrap_err();
        assert_eq!(
            (error.own_max, error.peer_min, error.peer_max),
            (101, 102, 120)
        );
    }

    #[test]
    fn each_version_changes_what_the_spec_says() {
        let v = ProtocolVersion;
        for (version, len) in [
            (86, (4, 4)),
            (87, (4, 4)),
            (88, (5, 68)),
            (89, (132, 132)),
            (94, (132, 132)),
            (95, (148, 148)),
            (101, (148, 148)),
        ] {
            assert_eq!(v(version).sync_param_len(), len);
        }
        for (version, bytes) in [
            (86, 32768),
            (94, 32768),
            (95, 131_072),
            (99, 131_072),
            (100, 1_048_576),
            (101, 1_048_576),
        ] {
            assert_eq!(v(version).max_bio_size(), bytes);
        }
        // (first version, method)
        type Method = fn(ProtocolVersion) -> bool;
        let since: [(u32, Method); 18] = [
            (86, ProtocolVersion::is_agreed),
            (87, ProtocolVersion::has_integrity_alg),
            (88, ProtocolVersion::has_verify),
            (89, ProtocolVersion::has_csums),
            (90, ProtocolVersion::has_compressed_bitmap),
            (90, ProtocolVersion::can_skip_initial_sync),
            (91, ProtocolVersion::corrects_missed_resync_end),
            (92, ProtocolVersion::has_dry_run),
            (93, ProtocolVersion::can_grow_without_resync),
            (95, ProtocolVersion::uses_h95),
            (95, ProtocolVersion::has_full_dp_flags),
            (96, ProtocolVersion::has_ahead_behind),
            (96, ProtocolVersion::source_waits_for_target),
            (100, ProtocolVersion::uses_h100),
            (100, ProtocolVersion::has_ack_flags),
            (100, ProtocolVersion::has_conn_state_change),
            (100, ProtocolVersion::has_retry_write),
            (100, ProtocolVersion::has_protocol_update),
        ];
        for version in 80..=101 {
            for (first, method) in since {
                assert_eq!(method(v(version)), version >= first, "{version} {first}");
            }
            assert_eq!(
                v(version).verify_ends_with_state(),
                matches!(version, 97 | 98 | 99 | 101),
                "{version}"
            );
        }
    }
}
