//! DRBD 8.4's wire protocol: packets, headers, feature and authentication exchange, bitmap code.
//!
//! Encode and decode only: nothing here decides, waits, or touches a socket. Facts are those of `docs/spec/wire.md`;
//! what this crate makes of them (what is accepted, what is never sent) stands in `docs/wire-format.md`.
//!
//! ```text
//!  socket bytes --> decode(ctx, socket, bytes) --> Frame { volume, packet, digest, payload_len, consumed }
//!                                                  payload_len bulk bytes follow: the caller reads them itself
//!  socket bytes <-- Packet::encode(ctx, volume, digest, payload_len, out), then the caller's bulk bytes
//! ```
//!
//! Invariants:
//! - Nothing that arrives makes the decoder panic, nor allocate more than 4096 bytes.
//! - Every limit is checked from the header, before the body has arrived.
//! - What a [`Packet`] holds has been checked: sizes are whole sectors within their limits, numbers of a closed table
//!   are enums. The exceptions are documented where they are (the state word, the size in `P_NEG_ACK`).
//! - Data packets, acknowledgements and barriers are decoded without touching the heap.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(test)]
extern crate std;

pub mod auth;
pub mod bitmap_code;
mod block;
mod command;
mod decode;
mod digest;
mod encode;
mod error;
mod header;
mod packet;
mod params;
mod snapshot;
pub mod state;
mod version;

pub use block::{
    BarrierNr, BlockAck, BlockDesc, BlockId, BlockRequest, DataHeader, DpFlags, MAX_DISCARD_BYTES,
    MAX_SECTOR, MAX_WRITE_SAME_BLOCK, SECTOR_SIZE,
};
pub use command::{Command, Socket};
pub use decode::{Frame, decode, needed};
pub use digest::{Digest, DigestAlgorithm, MAX_DIGEST_LEN, UnknownAlgorithm};
pub use error::DecodeError;
pub use header::{CONTROL_PACKET_MAX, H80_LEN, H100_LEN, Header};
pub use packet::Packet;
pub use params::{
    AfterSb, AlgorithmName, BadAlgorithmName, ConnFlags, DdsFlags, ProtocolParams, QueueLimits,
    Sizes, SyncParam, UUID_JUST_CREATED, UUID_NEW_BM_OFFSET, UuidFlags, Uuids, WireProtocol,
};
pub use snapshot::{
    BadSnapshotName, SNAPSHOT_LIMIT_MAX_MS, SNAPSHOT_NAME_MAX, SnapshotAnswer, SnapshotName,
    SnapshotOrder, SnapshotRefusal, SnapshotStep,
};
pub use state::{
    BadState, ConnState, DiskState, Role, StateChange, StateWord, UnknownStateName,
    convert_for_receiver,
};
pub use version::{ConnectionFeatures, Features, Incompatible, ProtocolVersion, WireContext};
