//! Any packet comes back; any bytes are a packet, the beginning of one, or an error.

mod common;

use proptest::collection::vec;
use proptest::prelude::*;
use replica_proto::{
    AfterSb, AlgorithmName, BarrierNr, BlockAck, BlockDesc, BlockId, BlockRequest, Command,
    ConnFlags, ConnectionFeatures, DataHeader, DdsFlags, Digest, DigestAlgorithm, DpFlags,
    Features, Packet, ProtocolParams, ProtocolVersion, QueueLimits, SNAPSHOT_LIMIT_MAX_MS, Sizes,
    SnapshotAnswer, SnapshotName, SnapshotOrder, SnapshotRefusal, SnapshotStep, Socket,
    StateChange, StateWord, SyncParam, UuidFlags, Uuids, WireContext, WireProtocol, decode, needed,
};

fn name() -> impl Strategy<Value = AlgorithmName> {
    "[a-z0-9()-]{0,63}".prop_map(|name| AlgorithmName::new(&name).unwrap())
}

fn digest() -> impl Strategy<Value = Digest> {
    vec(any::<u8>(), 1..=64).prop_map(|bytes| Digest::from_slice(&bytes).unwrap())
}

fn sector() -> impl Strategy<Value = u64> {
    0..(1u64 << 54) - (1 << 20)
}

fn id() -> impl Strategy<Value = BlockId> {
    any::<[u8; 8]>().prop_map(BlockId)
}

fn request() -> impl Strategy<Value = BlockRequest> {
    (sector(), id(), 1..=2048u32).prop_map(|(sector, block_id, n)| BlockRequest {
        sector,
        block_id,
        bytes: n * 512,
    })
}

fn ack() -> impl Strategy<Value = BlockAck> {
    (sector(), id(), 0..=262_144u32, any::<u32>()).prop_map(|(sector, block_id, n, seq_num)| {
        BlockAck {
            sector,
            block_id,
            bytes: n * 512,
            seq_num,
        }
    })
}

fn desc() -> impl Strategy<Value = BlockDesc> {
    (sector(), 1..=262_144u32).prop_map(|(sector, n)| BlockDesc {
        sector,
        bytes: n * 512,
    })
}

fn data() -> impl Strategy<Value = DataHeader> {
    (sector(), id(), any::<u32>(), any::<u32>()).prop_map(|(sector, block_id, seq_num, flags)| {
        DataHeader {
            sector,
            block_id,
            seq_num,
            flags: DpFlags::from_bits_retain(flags),
        }
    })
}

fn change() -> impl Strategy<Value = StateChange> {
    any::<[u32; 2]>().prop_map(|[mask, val]| StateChange {
        mask: StateWord(mask),
        val: StateWord(val),
    })
}

fn params() -> impl Strategy<Value = ProtocolParams> {
    let protocol = prop::sample::select(vec![WireProtocol::A, WireProtocol::B, WireProtocol::C]);
    let policy = || prop::sample::select(AfterSb::ALL);
    (
        protocol,
        policy(),
        policy(),
        policy(),
        any::<u32>(),
        any::<bool>(),
        name(),
    )
        .prop_map(
            |(
                protocol,
                after_sb_0p,
                after_sb_1p,
                after_sb_2p,
                flags,
                two_primaries,
                integrity_alg,
            )| {
                ProtocolParams {
                    protocol,
                    after_sb_0p,
                    after_sb_1p,
                    after_sb_2p,
                    conn_flags: ConnFlags::from_bits_retain(flags),
                    two_primaries,
                    integrity_alg,
                }
            },
        )
}

fn sync_param() -> impl Strategy<Value = SyncParam> {
    (any::<[u32; 5]>(), name(), name()).prop_map(|(n, verify_alg, csums_alg)| SyncParam {
        resync_rate: n[0],
        verify_alg,
        csums_alg,
        c_plan_ahead: n[1],
        c_delay_target: n[2],
        c_fill_target: n[3],
        c_max_rate: n[4],
    })
}

fn sizes() -> impl Strategy<Value = Sizes> {
    let size = || 0..=1u64 << 54;
    (
        size(),
        size(),
        size(),
        any::<[u16; 2]>(),
        any::<[u32; 6]>(),
        any::<[bool; 3]>(),
    )
        .prop_map(
            |(d_size, u_size, c_size, [queue_order_type, dds], n, flags)| Sizes {
                d_size,
                u_size,
                c_size,
                max_bio_size: n[0],
                queue_order_type,
                dds_flags: DdsFlags::from_bits_retain(dds),
                limits: Some(QueueLimits {
                    physical_block_size: n[1],
                    logical_block_size: n[2],
                    alignment_offset: n[3],
                    io_min: n[4],
                    io_opt: n[5],
                    discard_enabled: flags[0],
                    discard_zeroes_data: flags[1],
                    write_same_capable: flags[2],
                }),
            },
        )
}

fn uuids() -> impl Strategy<Value = Uuids> {
    any::<[u64; 6]>().prop_map(|n| Uuids {
        current: n[0],
        bitmap: n[1],
        history: [n[2], n[3]],
        bits: n[4],
        flags: UuidFlags::from_bits_retain(n[5]),
    })
}

fn control() -> impl Strategy<Value = Packet> {
    let plain = [Packet::UnplugRemote, Packet::Ping, Packet::PingAck];
    prop_oneof![
        prop::sample::select(plain.to_vec()),
        vec(any::<u8>(), 64..=128).prop_map(Packet::AuthChallenge),
        vec(any::<u8>(), 1..=64).prop_map(Packet::AuthResponse),
        params().prop_map(Packet::Protocol),
        params().prop_map(Packet::ProtocolUpdate),
        sync_param().prop_map(Packet::SyncParam),
        sizes().prop_map(Packet::Sizes),
        uuids().prop_map(Packet::Uuids),
        any::<u32>().prop_map(|word| Packet::State(StateWord(word))),
        any::<u64>().prop_map(Packet::SyncUuid),
        change().prop_map(Packet::StateChgReq),
        any::<i32>().prop_map(Packet::StateChgReply),
        change().prop_map(Packet::ConnStChgReq),
        any::<i32>().prop_map(Packet::ConnStChgReply),
        (data(), 1..=262_144u32).prop_map(|(data, n)| Packet::Trim(data, n * 512)),
        (data(), 1..=262_144u32).prop_map(|(data, n)| Packet::Zeroes(data, n * 512)),
        any::<[u8; 4]>().prop_map(|barrier| Packet::Barrier(BarrierNr(barrier))),
        (any::<[u8; 4]>(), any::<u32>()).prop_map(|(barrier, set_size)| Packet::BarrierAck {
            barrier: BarrierNr(barrier),
            set_size
        }),
        vec(any::<[u8; 8]>(), 0..=510).prop_map(|words| Packet::Bitmap(words.concat())),
        vec(any::<u8>(), 2..=4080).prop_map(Packet::CompressedBitmap),
        (0..4, request()).prop_map(|(kind, request)| match kind {
            0 => Packet::DataRequest(request),
            1 => Packet::RsDataRequest(request),
            2 => Packet::RsThinRequest(request),
            _ => Packet::OvRequest(request),
        }),
        (request(), digest()).prop_map(|(request, digest)| Packet::OvReply(request, digest)),
        (request(), digest()).prop_map(|(request, digest)| Packet::CsumRsRequest(request, digest)),
        (0..11, ack()).prop_map(|(kind, ack)| match kind {
            0 => Packet::RecvAck(ack),
            1 => Packet::WriteAck(ack),
            2 => Packet::RsWriteAck(ack),
            3 => Packet::Superseded(ack),
            4 => Packet::NegAck(ack),
            5 => Packet::NegDReply(ack),
            6 => Packet::NegRsDReply(ack),
            7 => Packet::RsIsInSync(ack),
            8 => Packet::RsCancel(ack),
            9 => Packet::RetryWrite(ack),
            _ => Packet::OvResult(ack),
        }),
        desc().prop_map(Packet::OutOfSync),
        desc().prop_map(Packet::RsDeallocated),
        any::<[u32; 2]>()
            .prop_map(|[seq_num, offset_us]| Packet::DelayProbe { seq_num, offset_us }),
        any::<bool>().prop_map(|enable| Packet::EnableReplication { enable }),
        (
            any::<bool>(),
            1..=SNAPSHOT_LIMIT_MAX_MS,
            "[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
        )
            .prop_map(|(take, limit_ms, name)| {
                let name = SnapshotName::new(&name).expect("the pattern is that of names");
                let step = if take {
                    SnapshotStep::Take
                } else {
                    SnapshotStep::Over
                };
                Packet::RdbSnapshot(SnapshotOrder {
                    step,
                    limit_ms,
                    name,
                })
            }),
        (0..4, any::<u8>()).prop_map(|(what, value)| {
            let all = SnapshotRefusal::ALL;
            let why = all[usize::from(value) % all.len()];
            Packet::RdbSnapshotAnswer(match what {
                0 => SnapshotAnswer::Begun,
                1 => SnapshotAnswer::Ended(value),
                2 => SnapshotAnswer::Refused(why),
                _ => SnapshotAnswer::GivenUp(why),
            })
        }),
    ]
}

/// Data packets with their number of bulk bytes, fit for version 100 and later.
fn bulk() -> impl Strategy<Value = (Packet, u32)> {
    (0..4, data(), 1..=2048u32, 0..4u32).prop_map(|(kind, data, sectors, shift)| match kind {
        0 => (Packet::Data(data), sectors * 512),
        1 => (Packet::DataReply(data), sectors * 512),
        2 => (Packet::RsDataReply(data), sectors * 512),
        _ => (
            Packet::WriteSame(data, (512 << shift) * sectors.min(100)),
            512 << shift,
        ),
    })
}

fn context() -> impl Strategy<Value = WireContext> {
    let algorithm = prop::option::of(prop::sample::select(DigestAlgorithm::ALL));
    (100..=101u32, algorithm).prop_map(|(version, algorithm)| {
        let len = algorithm.map_or(0, DigestAlgorithm::len);
        WireContext {
            peer_digest_len: len,
            own_digest_len: len,
            ..WireContext::agreed(ProtocolVersion(version), Features::all())
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_control_packet_comes_back(ctx in context(), volume in any::<u16>(), packet in control()) {
        let mut wire = Vec::new();
        packet.encode(&ctx, volume, None, 0, &mut wire);
        let frame = decode(&ctx, packet.socket(), &wire).unwrap().unwrap();
        prop_assert_eq!((frame.consumed, frame.payload_len), (wire.len(), 0));
        if !packet.command().is_connection_wide() {
            prop_assert_eq!(frame.volume, volume);
        }
        prop_assert_eq!(frame.packet, packet);
    }

    #[test]
    fn any_data_packet_comes_back(ctx in context(), volume in any::<u16>(), (packet, bytes) in bulk(), fill in any::<u8>()) {
        let digest = Digest::from_slice(&vec![fill; ctx.own_digest_len]);
        let mut wire = Vec::new();
        packet.encode(&ctx, volume, digest.as_ref(), bytes, &mut wire);
        let frame = decode(&ctx, Socket::Data, &wire).unwrap().unwrap();
        prop_assert_eq!((frame.consumed, frame.payload_len), (wire.len(), bytes));
        prop_assert_eq!((frame.volume, frame.digest, frame.packet), (volume, digest, packet));
    }

    #[test]
    fn any_features_come_back(min in any::<u32>(), max in any::<u32>(), features in any::<u32>()) {
        let packet = Packet::ConnectionFeatures(ConnectionFeatures {
            min,
            max,
            features: Features::from_bits_retain(features),
        });
        let mut wire = Vec::new();
        packet.encode(&WireContext::initial(), 0, None, 0, &mut wire);
        prop_assert_eq!(decode(&WireContext::initial(), Socket::Data, &wire).unwrap().unwrap().packet, packet);
    }

    /// Behind a right header, so that the bytes get as far as possible.
    #[test]
    fn any_body_is_a_packet_or_an_error(
        command in prop::sample::select(Command::ALL),
        version in prop::sample::select(vec![80u32, 86, 88, 94, 95, 99, 100, 101]),
        features in 0..16u32,
        digest_len in prop::sample::select(vec![0usize, 4, 20, 64]),
        mut body in vec(any::<u8>(), 0..200),
        length in prop::option::of(any::<u32>()),
        small_sector in any::<bool>(),
    ) {
        let ctx = WireContext {
            version: ProtocolVersion(version),
            features: Features::from_bits_retain(features),
            peer_digest_len: digest_len,
            own_digest_len: digest_len,
        };
        if small_sector && body.len() >= 8 {
            body[..3].fill(0);
        }
        let length = length.unwrap_or(body.len() as u32);
        let mut wire = Vec::new();
        if version >= 100 {
            wire.extend_from_slice(&[0x86, 0x20, 0xec, 0x20, 0, 1]);
            wire.extend_from_slice(&command.code().to_be_bytes());
            wire.extend_from_slice(&length.to_be_bytes());
            wire.extend_from_slice(&[0; 4]);
        } else {
            wire.extend_from_slice(&[0x83, 0x5a]);
            wire.extend_from_slice(&command.code().to_be_bytes());
            wire.extend_from_slice(&length.to_be_bytes());
        }
        wire.extend_from_slice(&body);
        for socket in [Socket::Data, Socket::Meta] {
            if let Ok(need) = needed(&ctx, socket, &wire) {
                prop_assert!(need <= 4096);
                prop_assert_eq!(decode(&ctx, socket, &wire).is_ok_and(|frame| frame.is_none()), need > wire.len());
            }
            common::check_decoder(&ctx, socket, &wire);
        }
    }

    #[test]
    fn any_bytes_are_a_packet_or_an_error(bytes in vec(any::<u8>(), 0..64), version in 80..=101u32) {
        let ctx = WireContext::agreed(ProtocolVersion(version), Features::all());
        for socket in [Socket::Data, Socket::Meta] {
            common::check_decoder(&ctx, socket, &bytes);
        }
    }
}
