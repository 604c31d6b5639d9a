//! Every packet of the protocol: docs/spec/wire.md, section 6.

use alloc::vec::Vec;

use crate::block::{BarrierNr, BlockAck, BlockDesc, BlockRequest, DataHeader};
use crate::command::{Command, Socket};
use crate::digest::Digest;
use crate::params::{ProtocolParams, Sizes, SyncParam, Uuids};
use crate::snapshot::{SnapshotAnswer, SnapshotOrder};
use crate::state::{StateChange, StateWord};
use crate::version::ConnectionFeatures;

/// A packet without its header, its data-integrity digest and its bulk data: those are in the
/// [`Frame`](crate::Frame) around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// First on a data socket.
    InitialData,
    /// First on a meta socket.
    InitialMeta,
    /// Versions and features spoken.
    ConnectionFeatures(ConnectionFeatures),
    /// 64 to 128 random bytes.
    AuthChallenge(Vec<u8>),
    /// The HMAC of the peer's challenge, 1 to 64 bytes.
    AuthResponse(Vec<u8>),
    /// Options that must be equal on both nodes.
    Protocol(ProtocolParams),
    /// The same while connected (version 100).
    ProtocolUpdate(ProtocolParams),
    /// Resync parameters: `P_SYNC_PARAM89`, below version 89 `P_SYNC_PARAM`.
    SyncParam(SyncParam),
    /// Sizes and limits.
    Sizes(Sizes),
    /// Generation identifiers.
    Uuids(Uuids),
    /// The sender's state; which numbers mean something is checked by whoever reads a field.
    State(StateWord),
    /// The UUID of the resync that begins.
    SyncUuid(u64),
    /// Asks for a state change of a volume.
    StateChgReq(StateChange),
    /// Answers it: 1 or more for success, else a negative code (docs/spec/wire.md, section 11.7).
    StateChgReply(i32),
    /// Asks for a state change of the connection.
    ConnStChgReq(StateChange),
    /// Answers it.
    ConnStChgReply(i32),
    /// A write; its data follows the frame.
    Data(DataHeader),
    /// The answer to a read; its data follows the frame.
    DataReply(DataHeader),
    /// The answer to a resync request; its data follows the frame.
    RsDataReply(DataHeader),
    /// A discard, and its size in bytes.
    Trim(DataHeader, u32),
    /// A zero-out, and its size in bytes.
    Zeroes(DataHeader, u32),
    /// A block written again and again, and the bytes it fills; the block follows the frame.
    WriteSame(DataHeader, u32),
    /// The end of an epoch.
    Barrier(BarrierNr),
    /// An epoch is durable.
    BarrierAck {
        /// The number of its `P_BARRIER`, echoed.
        barrier: BarrierNr,
        /// Number of writes in it.
        set_size: u32,
    },
    /// Words of the bitmap, little-endian, a multiple of 8 bytes; empty at the end of a plain transfer.
    Bitmap(Vec<u8>),
    /// Run lengths of the bitmap: the encoding byte and the code.
    CompressedBitmap(Vec<u8>),
    /// A hint that no further requests come right now.
    UnplugRemote,
    /// A read.
    DataRequest(BlockRequest),
    /// A resync read.
    RsDataRequest(BlockRequest),
    /// A resync read that may be answered with [`Packet::RsDeallocated`].
    RsThinRequest(BlockRequest),
    /// Verify: asks for a digest.
    OvRequest(BlockRequest),
    /// Verify: the digest.
    OvReply(BlockRequest, Digest),
    /// A resync read with the digest of what the target has.
    CsumRsRequest(BlockRequest, Digest),
    /// Are you there?
    Ping,
    /// The answer to it.
    PingAck,
    /// Protocol B: received.
    RecvAck(BlockAck),
    /// Written.
    WriteAck(BlockAck),
    /// Written, and in sync now.
    RsWriteAck(BlockAck),
    /// Two primaries: dropped in favour of a concurrent write.
    Superseded(BlockAck),
    /// Not written. Its size may be wrong, see [`BlockAck::bytes`].
    NegAck(BlockAck),
    /// Not read.
    NegDReply(BlockAck),
    /// Not read, for resync or verify.
    NegRsDReply(BlockAck),
    /// The digests are equal. Its `block_id` means nothing.
    RsIsInSync(BlockAck),
    /// Ahead: the resync request is void.
    RsCancel(BlockAck),
    /// Two primaries: send it again later.
    RetryWrite(BlockAck),
    /// Verify: [`BlockId::IN_SYNC`](crate::BlockId::IN_SYNC) or
    /// [`BlockId::OUT_OF_SYNC`](crate::BlockId::OUT_OF_SYNC).
    OvResult(BlockAck),
    /// Changed at the sender, and not sent.
    OutOfSync(BlockDesc),
    /// All zero, instead of data.
    RsDeallocated(BlockDesc),
    /// Ignored.
    DelayProbe {
        /// Sequence number.
        seq_num: u32,
        /// Microseconds.
        offset_us: u32,
    },
    /// Ignored; from DRBD 9 as a sync target.
    EnableReplication {
        /// Whether it begins or ends.
        enable: bool,
    },
    /// A snapshot of both nodes begins, or is over.
    RdbSnapshot(SnapshotOrder),
    /// What becomes of it here.
    RdbSnapshotAnswer(SnapshotAnswer),
}

impl Packet {
    /// Its number. [`Packet::SyncParam`] is [`Command::SyncParam89`]; only the encoder knows whether the version is
    /// old enough for the other one.
    #[must_use]
    pub const fn command(&self) -> Command {
        match self {
            Self::InitialData => Command::InitialData,
            Self::InitialMeta => Command::InitialMeta,
            Self::ConnectionFeatures(_) => Command::ConnectionFeatures,
            Self::AuthChallenge(_) => Command::AuthChallenge,
            Self::AuthResponse(_) => Command::AuthResponse,
            Self::Protocol(_) => Command::Protocol,
            Self::ProtocolUpdate(_) => Command::ProtocolUpdate,
            Self::SyncParam(_) => Command::SyncParam89,
            Self::Sizes(_) => Command::Sizes,
            Self::Uuids(_) => Command::Uuids,
            Self::State(_) => Command::State,
            Self::SyncUuid(_) => Command::SyncUuid,
            Self::StateChgReq(_) => Command::StateChgReq,
            Self::StateChgReply(_) => Command::StateChgReply,
            Self::ConnStChgReq(_) => Command::ConnStChgReq,
            Self::ConnStChgReply(_) => Command::ConnStChgReply,
            Self::Data(_) => Command::Data,
            Self::DataReply(_) => Command::DataReply,
            Self::RsDataReply(_) => Command::RsDataReply,
            Self::Trim(..) => Command::Trim,
            Self::Zeroes(..) => Command::Zeroes,
            Self::WriteSame(..) => Command::WriteSame,
            Self::Barrier(_) => Command::Barrier,
            Self::BarrierAck { .. } => Command::BarrierAck,
            Self::Bitmap(_) => Command::Bitmap,
            Self::CompressedBitmap(_) => Command::CompressedBitmap,
            Self::UnplugRemote => Command::UnplugRemote,
            Self::DataRequest(_) => Command::DataRequest,
            Self::RsDataRequest(_) => Command::RsDataRequest,
            Self::RsThinRequest(_) => Command::RsThinRequest,
            Self::OvRequest(_) => Command::OvRequest,
            Self::OvReply(..) => Command::OvReply,
            Self::CsumRsRequest(..) => Command::CsumRsRequest,
            Self::Ping => Command::Ping,
            Self::PingAck => Command::PingAck,
            Self::RecvAck(_) => Command::RecvAck,
            Self::WriteAck(_) => Command::WriteAck,
            Self::RsWriteAck(_) => Command::RsWriteAck,
            Self::Superseded(_) => Command::Superseded,
            Self::NegAck(_) => Command::NegAck,
            Self::NegDReply(_) => Command::NegDReply,
            Self::NegRsDReply(_) => Command::NegRsDReply,
            Self::RsIsInSync(_) => Command::RsIsInSync,
            Self::RsCancel(_) => Command::RsCancel,
            Self::RetryWrite(_) => Command::RetryWrite,
            Self::OvResult(_) => Command::OvResult,
            Self::OutOfSync(_) => Command::OutOfSync,
            Self::RsDeallocated(_) => Command::RsDeallocated,
            Self::DelayProbe { .. } => Command::DelayProbe,
            Self::EnableReplication { .. } => Command::EnableReplication,
            Self::RdbSnapshot(_) => Command::RdbSnapshot,
            Self::RdbSnapshotAnswer(_) => Command::RdbSnapshotAnswer,
        }
    }

    /// DRBD's name, as `P_DATA`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.command().name()
    }

    /// The socket it is sent on.
    #[must_use]
    pub const fn socket(&self) -> Socket {
        self.command().socket()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames are moved for each packet of the hot path, so a variant that makes all of them larger is worth a box.
    #[test]
    fn packets_stay_small() {
        assert!(size_of::<Packet>() <= 112, "{}", size_of::<Packet>());
        assert!(
            size_of::<crate::Frame>() <= 208,
            "{}",
            size_of::<crate::Frame>()
        );
    }
}
