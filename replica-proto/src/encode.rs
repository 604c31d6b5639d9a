//! Packets to bytes.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{U32, U64};

use crate::block::{RawAck, RawData, RawDesc, RawRequest};
use crate::command::Command;
use crate::digest::Digest;
use crate::header::{CONTROL_PACKET_MAX, Header};
use crate::packet::Packet;
use crate::params::{RawController, RawLimits, RawProtocol, RawSizes, RawSyncParam, RawUuids};
use crate::snapshot::RawSnapshot;
use crate::state::StateChange;
use crate::version::{ConnectionFeatures, Features, WireContext};

impl Packet {
    /// Appends the packet to `out`: header, fixed part, and digest. The caller sends the `payload_len` bulk bytes of
    /// [`Packet::Data`], [`Packet::DataReply`], [`Packet::RsDataReply`] or [`Packet::WriteSame`] after it.
    ///
    /// `volume` is ignored below version 100 and for packets of the whole connection. `digest` is that of
    /// data-integrity-alg over the bulk bytes. Nothing is allocated if `out` has capacity for the packet.
    ///
    /// # Panics
    /// If the packet cannot be sent like this, which is a mistake of the caller and would let the peer read garbage:
    /// bulk bytes or a digest for a packet that has none, a digest that is not of `ctx.own_digest_len` bytes, a
    /// length that the version's header cannot hold, a control packet longer than 4096 bytes.
    pub fn encode(
        &self,
        ctx: &WireContext,
        volume: u16,
        digest: Option<&Digest>,
        payload_len: u32,
        out: &mut Vec<u8>,
    ) {
        let command = self.command();
        let digest = digest.map_or(&[][..], Digest::as_slice);
        if command.has_bulk() {
            assert_eq!(
                digest.len(),
                ctx.own_digest_len,
                "{command}: bytes of the digest"
            );
        } else {
            assert!(
                digest.is_empty(),
                "{command} carries no data-integrity digest"
            );
            assert_eq!(payload_len, 0, "{command} carries no bulk data");
        }

        let code = match self {
            Self::SyncParam(_) if !ctx.version.has_csums() => Command::SyncParam.code(),
            _ => command.code(),
        };
        let start = out.len();
        let length = self.body_len(ctx) + digest.len();
        let length = u32::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(payload_len))
            .unwrap_or_else(|| panic!("{command}: length beyond 32 bits"));
        Header::encode(ctx, command, code, volume, length, out);
        self.encode_body(ctx, out);
        out.extend_from_slice(digest);
        let written = out.len() - start;
        assert!(
            written <= CONTROL_PACKET_MAX,
            "{command}: {written} bytes in a control packet"
        );
    }

    /// Bytes between the header and the digest.
    fn body_len(&self, ctx: &WireContext) -> usize {
        match self {
            Self::InitialData
            | Self::InitialMeta
            | Self::UnplugRemote
            | Self::Ping
            | Self::PingAck => 0,
            Self::ConnectionFeatures(_) => ConnectionFeatures::WIRE_SIZE as usize,
            Self::AuthChallenge(bytes)
            | Self::AuthResponse(bytes)
            | Self::Bitmap(bytes)
            | Self::CompressedBitmap(bytes) => bytes.len(),
            Self::Protocol(params) | Self::ProtocolUpdate(params) => {
                let name = match ctx.version.has_integrity_alg() {
                    true => params.integrity_alg.as_str().len() + 1,
                    false => 0,
                };
                size_of::<RawProtocol>() + name
            }
            Self::SyncParam(param) => match ctx.version.0 {
                0..=87 => size_of::<U32>(),
                88 => size_of::<U32>() + param.verify_alg.as_str().len() + 1,
                89..=94 => size_of::<RawSyncParam>(),
                _ => size_of::<RawSyncParam>() + size_of::<RawController>(),
            },
            Self::Sizes(_) if ctx.features.contains(Features::WSAME) => {
                size_of::<RawSizes>() + size_of::<RawLimits>()
            }
            Self::Sizes(_) => size_of::<RawSizes>(),
            Self::Uuids(_) => size_of::<RawUuids>(),
            Self::SyncUuid(_)
            | Self::StateChgReq(_)
            | Self::ConnStChgReq(_)
            | Self::Barrier(_)
            | Self::BarrierAck { .. }
            | Self::DelayProbe { .. }
            | Self::RdbSnapshotAnswer(_) => size_of::<U64>(),
            Self::RdbSnapshot(_) => size_of::<RawSnapshot>(),
            Self::State(_)
            | Self::StateChgReply(_)
            | Self::ConnStChgReply(_)
            | Self::EnableReplication { .. } => size_of::<U32>(),
            Self::Data(_) | Self::DataReply(_) | Self::RsDataReply(_) => size_of::<RawData>(),
            Self::Trim(..) | Self::Zeroes(..) | Self::WriteSame(..) => {
                size_of::<RawData>() + size_of::<U32>()
            }
            Self::DataRequest(_)
            | Self::RsDataRequest(_)
            | Self::RsThinRequest(_)
            | Self::OvRequest(_) => size_of::<RawRequest>(),
            Self::OvReply(_, digest) | Self::CsumRsRequest(_, digest) => {
                size_of::<RawRequest>() + digest.len()
            }
            Self::RecvAck(_)
            | Self::WriteAck(_)
            | Self::RsWriteAck(_)
            | Self::Superseded(_)
            | Self::NegAck(_)
            | Self::NegDReply(_)
            | Self::NegRsDReply(_)
            | Self::RsIsInSync(_)
            | Self::RsCancel(_)
            | Self::RetryWrite(_)
            | Self::OvResult(_) => size_of::<RawAck>(),
            Self::OutOfSync(_) | Self::RsDeallocated(_) => size_of::<RawDesc>(),
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table: one arm a packet")]
    fn encode_body(&self, ctx: &WireContext, out: &mut Vec<u8>) {
        let be32 = |number: u32| U32::from(number);
        match self {
            Self::InitialData
            | Self::InitialMeta
            | Self::UnplugRemote
            | Self::Ping
            | Self::PingAck => {}
            Self::ConnectionFeatures(features) => features.encode_body(out),
            Self::AuthChallenge(bytes)
            | Self::AuthResponse(bytes)
            | Self::Bitmap(bytes)
            | Self::CompressedBitmap(bytes) => out.extend_from_slice(bytes),
            Self::Protocol(params) | Self::ProtocolUpdate(params) => {
                out.extend_from_slice(RawProtocol::from(params).as_bytes());
                if ctx.version.has_integrity_alg() {
                    out.extend_from_slice(params.integrity_alg.as_str().as_bytes());
                    out.push(0);
                }
            }
            Self::SyncParam(param) => match ctx.version.0 {
                0..=87 => out.extend_from_slice(be32(param.resync_rate).as_bytes()),
                88 => {
                    out.extend_from_slice(be32(param.resync_rate).as_bytes());
                    out.extend_from_slice(param.verify_alg.as_str().as_bytes());
                    out.push(0);
                }
                version => {
                    let raw = RawSyncParam {
                        resync_rate: param.resync_rate.into(),
                        verify_alg: param.verify_alg.to_field(),
                        csums_alg: param.csums_alg.to_field(),
                    };
                    out.extend_from_slice(raw.as_bytes());
                    if version >= 95 {
                        let raw = RawController {
                            c_plan_ahead: param.c_plan_ahead.into(),
                            c_delay_target: param.c_delay_target.into(),
                            c_fill_target: param.c_fill_target.into(),
                            c_max_rate: param.c_max_rate.into(),
                        };
                        out.extend_from_slice(raw.as_bytes());
                    }
                }
            },
            Self::Sizes(sizes) => {
                let raw = RawSizes {
                    d_size: sizes.d_size.into(),
                    u_size: sizes.u_size.into(),
                    c_size: sizes.c_size.into(),
                    max_bio_size: sizes.max_bio_size.into(),
                    queue_order_type: sizes.queue_order_type.into(),
                    dds_flags: sizes.dds_flags.bits().into(),
                };
                out.extend_from_slice(raw.as_bytes());
                if ctx.features.contains(Features::WSAME) {
                    let limits = sizes.limits.unwrap_or_default();
                    out.extend_from_slice(RawLimits::from(&limits).as_bytes());
                }
            }
            Self::Uuids(uuids) => out.extend_from_slice(RawUuids::from(uuids).as_bytes()),
            Self::State(word) => out.extend_from_slice(be32(word.0).as_bytes()),
            Self::SyncUuid(uuid) => out.extend_from_slice(U64::from(*uuid).as_bytes()),
            Self::StateChgReq(StateChange { mask, val })
            | Self::ConnStChgReq(StateChange { mask, val }) => {
                out.extend_from_slice([be32(mask.0), be32(val.0)].as_bytes());
            }
            Self::StateChgReply(code) | Self::ConnStChgReply(code) => {
                out.extend_from_slice(&code.to_be_bytes());
            }
            Self::Data(data) | Self::DataReply(data) | Self::RsDataReply(data) => {
                out.extend_from_slice(RawData::from(data).as_bytes());
            }
            Self::Trim(data, bytes) | Self::Zeroes(data, bytes) | Self::WriteSame(data, bytes) => {
                out.extend_from_slice(RawData::from(data).as_bytes());
                out.extend_from_slice(be32(*bytes).as_bytes());
            }
            Self::Barrier(barrier) => {
                out.extend_from_slice(&barrier.0);
                out.extend_from_slice(&[0; 4]);
            }
            Self::BarrierAck { barrier, set_size } => {
                out.extend_from_slice(&barrier.0);
                out.extend_from_slice(be32(*set_size).as_bytes());
            }
            Self::DataRequest(request)
            | Self::RsDataRequest(request)
            | Self::RsThinRequest(request)
            | Self::OvRequest(request) => {
                out.extend_from_slice(RawRequest::from(request).as_bytes());
            }
            Self::OvReply(request, digest) | Self::CsumRsRequest(request, digest) => {
                out.extend_from_slice(RawRequest::from(request).as_bytes());
                out.extend_from_slice(digest.as_slice());
            }
            Self::RecvAck(ack)
            | Self::WriteAck(ack)
            | Self::RsWriteAck(ack)
            | Self::Superseded(ack)
            | Self::NegAck(ack)
            | Self::NegDReply(ack)
            | Self::NegRsDReply(ack)
            | Self::RsIsInSync(ack)
            | Self::RsCancel(ack)
            | Self::RetryWrite(ack)
            | Self::OvResult(ack) => out.extend_from_slice(RawAck::from(ack).as_bytes()),
            Self::OutOfSync(desc) | Self::RsDeallocated(desc) => {
                out.extend_from_slice(RawDesc::from(desc).as_bytes());
            }
            Self::DelayProbe { seq_num, offset_us } => {
                out.extend_from_slice([be32(*seq_num), be32(*offset_us)].as_bytes());
            }
            Self::EnableReplication { enable } => {
                out.extend_from_slice(&[u8::from(*enable), 0, 0, 0]);
            }
            Self::RdbSnapshot(order) => {
                let raw = RawSnapshot {
                    step: order.step.code().into(),
                    limit_ms: order.limit_ms.into(),
                    name: order.name.to_field(),
                };
                out.extend_from_slice(raw.as_bytes());
            }
            Self::RdbSnapshotAnswer(answer) => {
                out.extend_from_slice(answer.to_codes().map(be32).as_bytes());
            }
        }
    }
}
