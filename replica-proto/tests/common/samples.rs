//! One of each packet, and contexts to send them in.

use replica_proto::{
    AfterSb, AlgorithmName, BarrierNr, BlockAck, BlockDesc, BlockId, BlockRequest, ConnFlags,
    ConnectionFeatures, DataHeader, DdsFlags, DecodeError, Digest, DigestAlgorithm, DpFlags,
    Features, Packet, ProtocolParams, ProtocolVersion, QueueLimits, Sizes, SnapshotAnswer,
    SnapshotName, SnapshotOrder, SnapshotStep, StateChange, StateWord, SyncParam, UuidFlags, Uuids,
    WireContext, WireProtocol, decode,
};

/// A packet, the context that it is sent in, its digest and its bulk bytes.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) ctx: WireContext,
    pub(crate) packet: Packet,
    pub(crate) digest: Option<Digest>,
    pub(crate) payload_len: u32,
}

impl Sample {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let digest = self.digest.as_ref();
        self.packet
            .encode(&self.ctx, VOLUME, digest, self.payload_len, &mut bytes);
        bytes
    }
}

/// The volume that samples are sent with.
pub(crate) const VOLUME: u16 = 0x0102;

/// The usual context: version 101, all features, no digests.
pub(crate) fn current() -> WireContext {
    WireContext::agreed(ProtocolVersion::MAX, Features::all())
}

/// One of each packet but the data packets, with different values in all fields.
#[expect(clippy::too_many_lines, reason = "a table: one row a packet")]
pub(crate) fn control_packets() -> Vec<Packet> {
    let request = BlockRequest {
        sector: 0x1020_3040,
        block_id: BlockId(*b"abcdefgh"),
        bytes: 8192,
    };
    let ack = BlockAck {
        sector: 0x0102_0304_0506,
        block_id: BlockId(*b"ABCDEFGH"),
        bytes: 4096,
        seq_num: 0xdead_beef,
    };
    let desc = BlockDesc {
        sector: 77,
        bytes: 512,
    };
    let data = DataHeader {
        sector: 0x0a0b_0c0d_0e0f,
        block_id: BlockId(*b"12345678"),
        seq_num: 0x0102_0304,
        flags: DpFlags::DISCARD | DpFlags::SEND_WRITE_ACK,
    };
    let digest = DigestAlgorithm::Sha1.digest(b"");
    let name = |name| AlgorithmName::new(name).unwrap();
    let params = ProtocolParams {
        protocol: WireProtocol::B,
        after_sb_0p: AfterSb::DiscardLeastChanges,
        after_sb_1p: AfterSb::Consensus,
        after_sb_2p: AfterSb::ViolentlyAs0p,
        conn_flags: ConnFlags::DRY_RUN,
        two_primaries: true,
        integrity_alg: name("sha256"),
    };
    let change = StateChange {
        mask: StateWord(0x1e03),
        val: StateWord(0x1001),
    };
    vec![
        Packet::AuthChallenge((0..64).collect()),
        Packet::AuthResponse((0..20).collect()),
        Packet::Protocol(params.clone()),
        Packet::ProtocolUpdate(params),
        Packet::SyncParam(SyncParam {
            resync_rate: 1,
            verify_alg: name("md5"),
            csums_alg: name("crc32c"),
            c_plan_ahead: 2,
            c_delay_target: 3,
            c_fill_target: 4,
            c_max_rate: 5,
        }),
        Packet::Sizes(Sizes {
            d_size: 1,
            u_size: 2,
            c_size: 3,
            max_bio_size: 4,
            queue_order_type: 5,
            dds_flags: DdsFlags::NO_RESYNC,
            limits: Some(QueueLimits {
                physical_block_size: 6,
                logical_block_size: 7,
                alignment_offset: 8,
                io_min: 9,
                io_opt: 10,
                discard_enabled: true,
                discard_zeroes_data: false,
                write_same_capable: true,
            }),
        }),
        Packet::Uuids(Uuids {
            current: 1,
            bitmap: 2,
            history: [3, 4],
            bits: 5,
            flags: UuidFlags::SKIP_INITIAL_SYNC,
        }),
        Packet::State(StateWord(0xffff_ffff)),
        Packet::SyncUuid(0x0102_0304_0506_0708),
        Packet::StateChgReq(change),
        Packet::StateChgReply(-19),
        Packet::ConnStChgReq(change),
        Packet::ConnStChgReply(1),
        Packet::Trim(data, 128 << 20),
        Packet::Zeroes(data, 512),
        Packet::Barrier(BarrierNr([1, 2, 3, 4])),
        Packet::BarrierAck {
            barrier: BarrierNr([1, 2, 3, 4]),
            set_size: 5,
        },
        Packet::Bitmap((0..16).collect()),
        Packet::Bitmap(Vec::new()),
        Packet::CompressedBitmap(vec![0x72, 0x23, 0xf8, 0x47, 0xec, 0x01, 0x00]),
        Packet::UnplugRemote,
        Packet::DataRequest(request),
        Packet::RsDataRequest(request),
        Packet::RsThinRequest(request),
        Packet::OvRequest(request),
        Packet::OvReply(request, digest.clone()),
        Packet::CsumRsRequest(request, digest),
        Packet::Ping,
        Packet::PingAck,
        Packet::RecvAck(ack),
        Packet::WriteAck(ack),
        Packet::RsWriteAck(ack),
        Packet::Superseded(ack),
        Packet::NegAck(ack),
        Packet::NegDReply(ack),
        Packet::NegRsDReply(ack),
        Packet::RsIsInSync(ack),
        Packet::RsCancel(ack),
        Packet::RetryWrite(ack),
        Packet::OvResult(ack),
        Packet::OutOfSync(desc),
        Packet::RsDeallocated(desc),
        Packet::DelayProbe {
            seq_num: 6,
            offset_us: 7,
        },
        Packet::EnableReplication { enable: true },
        Packet::RdbSnapshot(SnapshotOrder {
            step: SnapshotStep::Take,
            limit_ms: 30_000,
            name: SnapshotName::new("daily.1").expect("it is a name"),
        }),
        Packet::RdbSnapshotAnswer(SnapshotAnswer::Ended(3)),
    ]
}

/// One of each data packet, and its bulk bytes.
pub(crate) fn bulk_packets() -> Vec<(Packet, u32)> {
    let data = DataHeader {
        sector: 0x0102_0304_0506,
        block_id: BlockId(*b"handle!?"),
        seq_num: 0x0a0b_0c0d,
        flags: DpFlags::FUA,
    };
    let flush = DataHeader {
        flags: DpFlags::FLUSH,
        ..data
    };
    vec![
        (Packet::Data(data), 4096),
        (Packet::Data(flush), 0),
        (Packet::DataReply(data), 512),
        (Packet::RsDataReply(data), 32768),
        (Packet::WriteSame(data, 8192), 4096),
    ]
}

/// One of each packet in each of the contexts that change its layout.
pub(crate) fn samples() -> Vec<Sample> {
    let ours = ConnectionFeatures::OURS;
    let mut samples: Vec<Sample> = [
        Packet::InitialData,
        Packet::InitialMeta,
        Packet::ConnectionFeatures(ours),
    ]
    .map(|packet| Sample {
        ctx: WireContext::initial(),
        packet,
        digest: None,
        payload_len: 0,
    })
    .to_vec();
    for version in [86, 87, 88, 89, 94, 95, 99, 100, 101] {
        for features in [Features::empty(), Features::all()] {
            for algorithm in [
                None,
                Some(DigestAlgorithm::Crc32c),
                Some(DigestAlgorithm::Sha512),
            ] {
                let digest = algorithm.map(|algorithm| algorithm.digest(b"bulk"));
                let len = digest.as_ref().map_or(0, Digest::len);
                let ctx = WireContext {
                    peer_digest_len: len,
                    own_digest_len: len,
                    ..WireContext::agreed(ProtocolVersion(version), features)
                };
                samples.extend(control_packets().into_iter().map(|packet| Sample {
                    ctx,
                    packet,
                    digest: None,
                    payload_len: 0,
                }));
                samples.extend(
                    bulk_packets()
                        .into_iter()
                        .map(|(packet, payload_len)| Sample {
                            ctx,
                            packet,
                            digest: digest.clone(),
                            payload_len,
                        }),
                );
            }
        }
    }
    samples
}

pub(crate) fn at(version: u32) -> WireContext {
    WireContext::agreed(ProtocolVersion(version), Features::all())
}

/// A packet of the current version, with bytes of it replaced; the offset counts from the end of the header.
pub(crate) fn patched(packet: &Packet, payload_len: u32, offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut wire = encoded(packet, payload_len);
    wire[16 + offset..16 + offset + bytes.len()].copy_from_slice(bytes);
    wire
}

pub(crate) fn encoded(packet: &Packet, payload_len: u32) -> Vec<u8> {
    let mut wire = Vec::new();
    packet.encode(&current(), VOLUME, None, payload_len, &mut wire);
    wire
}

/// A packet of the current version with this command, length and body.
pub(crate) fn raw(command: u16, length: u32, body: &[u8]) -> Vec<u8> {
    let mut wire = vec![0x86, 0x20, 0xec, 0x20, 0, 0];
    wire.extend_from_slice(&command.to_be_bytes());
    wire.extend_from_slice(&length.to_be_bytes());
    wire.extend_from_slice(&[0; 4]);
    wire.extend_from_slice(body);
    wire
}

pub(crate) fn error_of(packet: &Packet, wire: &[u8]) -> DecodeError {
    decode(&current(), packet.socket(), wire).expect_err("an error")
}

/// (packet, offset of its size, largest size).
pub(crate) fn sized_packets() -> Vec<(Packet, usize, u32)> {
    let request = BlockRequest {
        bytes: 4096,
        ..BlockRequest::default()
    };
    let desc = BlockDesc {
        sector: 0,
        bytes: 4096,
    };
    let digest = Digest::zeros(4).unwrap();
    let data = DataHeader::default();
    vec![
        (Packet::DataRequest(request), 16, 1 << 20),
        (Packet::RsDataRequest(request), 16, 1 << 20),
        (Packet::RsThinRequest(request), 16, 1 << 20),
        (Packet::OvRequest(request), 16, 1 << 20),
        (Packet::OvReply(request, digest.clone()), 16, 1 << 20),
        (Packet::CsumRsRequest(request, digest), 16, 1 << 20),
        (Packet::OutOfSync(desc), 8, 128 << 20),
        (Packet::RsDeallocated(desc), 8, 128 << 20),
        (Packet::Trim(data, 4096), 24, 128 << 20),
        (Packet::Zeroes(data, 4096), 24, 128 << 20),
    ]
}
