//! The pitfalls of docs/spec/wire.md, section 14, that concern the codec. Those of whole conversations are tested where
//! the decisions are made; 2 is tested on captures, 7 with the bitmap code, 17 with the state word, 30 with the digests.

mod common;

use common::samples::*;
use replica_proto::{
    AlgorithmName, BlockAck, BlockDesc, BlockId, BlockRequest, Command, ConnectionFeatures,
    DataHeader, DecodeError, Features, Packet, ProtocolVersion, Socket, SyncParam, WireContext,
    decode,
};

#[test]
fn pitfall_03_opaque_and_big_endian_fields() {
    let ack = BlockAck {
        sector: 1,
        block_id: BlockId([1, 2, 3, 4, 5, 6, 7, 8]),
        bytes: 512,
        seq_num: 3,
    };
    let wire = encoded(&Packet::WriteAck(ack), 0);
    let body = [
        0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 2, 0, 0, 0, 0, 3,
    ];
    assert_eq!(wire[16..], body);
    let barrier = encoded(&Packet::Barrier(replica_proto::BarrierNr([9, 8, 7, 6])), 0);
    assert_eq!(barrier[16..], [9, 8, 7, 6, 0, 0, 0, 0]);
    assert_eq!(BlockId::OUT_OF_SYNC.0, [0, 0, 0, 0, 0, 0, 0x12, 0x68]);
    assert_eq!(BlockId::IN_SYNC.0, [0, 0, 0, 0, 0, 0, 0x12, 0x67]);
    assert_eq!(BlockId::from_u64(0x1234).to_u64(), 0x1234);
    assert_eq!(replica_proto::BarrierNr::from_u32(0x1234).to_u32(), 0x1234);
}

#[test]
fn pitfall_04_header_switch() {
    // Features in h80 even when the agreement is known already, the next packet in h100, volume before command.
    let mut wire = Vec::new();
    Packet::ConnectionFeatures(ConnectionFeatures::OURS).encode(&current(), 9, None, 0, &mut wire);
    assert_eq!(wire[..8], [0x83, 0x74, 0x02, 0x67, 0xff, 0xfe, 0, 72]);
    wire.clear();
    Packet::State(replica_proto::StateWord(0)).encode(&current(), 0x0304, None, 0, &mut wire);
    assert_eq!(
        wire[..16],
        [
            0x86, 0x20, 0xec, 0x20, 3, 4, 0, 0x0e, 0, 0, 0, 4, 0, 0, 0, 0
        ]
    );
    // Neither header is taken for the other.
    assert!(decode(&current(), Socket::Data, &[0x83]).is_err());
    assert!(decode(&current(), Socket::Data, &[0x83, 0x5a]).is_err());
    assert!(decode(&at(99), Socket::Data, &wire).is_err());
    assert!(decode(&WireContext::initial(), Socket::Data, &wire).is_err());
    // Below version 100 both small headers are, whatever the length, and even before the features.
    let h95 = [0x83, 0x5a, 0xff, 0xf2, 0, 0, 0, 0];
    let frame = decode(&WireContext::initial(), Socket::Data, &h95)
        .unwrap()
        .unwrap();
    assert_eq!(frame.packet, Packet::InitialData);
    let h95 = [0x83, 0x5a, 0, 0x07, 0, 0, 0, 0];
    for version in [86, 94, 95, 99] {
        assert!(decode(&at(version), Socket::Data, &h95).unwrap().is_some());
    }
}

#[test]
fn pitfall_05_sizes_grow_with_the_feature() {
    let sizes = Packet::Sizes(replica_proto::Sizes::default());
    for (features, length) in [
        (Features::all(), 56),
        (Features::WSAME, 56),
        (Features::TRIM | Features::WZEROES, 32),
        (Features::empty(), 32),
    ] {
        let ctx = WireContext::agreed(ProtocolVersion::MAX, features);
        let mut wire = Vec::new();
        sizes.encode(&ctx, 0, None, 0, &mut wire);
        assert_eq!(wire.len(), 16 + length);
        let other = WireContext {
            features: features ^ Features::WSAME,
            ..ctx
        };
        let error = decode(&other, Socket::Data, &wire).unwrap_err();
        assert!(matches!(
            error,
            DecodeError::Length {
                command: Command::Sizes,
                ..
            }
        ));
    }
}

#[test]
fn pitfall_06_sync_param_is_always_148_bytes_and_defaults_to_those_of_drbd() {
    let wire = encoded(&Packet::SyncParam(SyncParam::default()), 0);
    assert_eq!((wire.len(), &wire[6..8]), (16 + 148, &[0, 0x23][..]));
    let default = SyncParam::default();
    assert!(default.resync_rate > 0 && default.c_max_rate > 0);
    // Both codes are taken, and the version says the layout.
    let old_code = raw(0x0a, 148, &wire[16..]);
    let frame = decode(&current(), Socket::Data, &old_code)
        .unwrap()
        .unwrap();
    assert_eq!(frame.packet, Packet::SyncParam(default));
    let mut old = Vec::new();
    Packet::SyncParam(SyncParam::default()).encode(&at(88), 0, None, 0, &mut old);
    assert_eq!(old[4..6], [0, 0x0a]);
}

#[test]
fn pitfall_10_zeroes_and_trims_carry_no_digest() {
    let ctx = WireContext {
        peer_digest_len: 4,
        own_digest_len: 4,
        ..current()
    };
    for packet in [
        Packet::Zeroes(DataHeader::default(), 512),
        Packet::Trim(DataHeader::default(), 512),
    ] {
        let mut wire = Vec::new();
        packet.encode(&ctx, 0, None, 0, &mut wire);
        assert_eq!(wire.len(), 16 + 28);
        let frame = decode(&ctx, Socket::Data, &wire).unwrap().unwrap();
        assert_eq!((frame.packet, frame.digest), (packet, None));
    }
}

/// Writes up to 1 MiB and discards up to 128 MiB arrive whatever was announced; nothing larger does.
#[test]
fn pitfall_11_sizes_have_limits() {
    for (packet, offset, max) in sized_packets() {
        let command = packet.command();
        for bytes in [512, 4096, max] {
            let wire = patched(&packet, 0, offset, &bytes.to_be_bytes());
            assert!(decode(&current(), Socket::Data, &wire).unwrap().is_some());
        }
        for bytes in [0, max + 512, max + 1, u32::MAX] {
            let wire = patched(&packet, 0, offset, &bytes.to_be_bytes());
            let error = DecodeError::Size {
                command,
                bytes,
                min: 512,
                max,
            };
            assert_eq!(error_of(&packet, &wire), error);
        }
        for bytes in [1u32, 511, 4097] {
            let wire = patched(&packet, 0, offset, &bytes.to_be_bytes());
            let error = DecodeError::Unaligned {
                command,
                bytes,
                unit: 512,
            };
            assert_eq!(error_of(&packet, &wire), error);
        }
    }
    for (version, max) in [
        (86, 32 << 10),
        (94, 32 << 10),
        (95, 128 << 10),
        (99, 128 << 10),
    ] {
        let mut wire = Vec::new();
        let request = BlockRequest {
            bytes: max + 512,
            ..BlockRequest::default()
        };
        Packet::DataRequest(request).encode(&at(version), 0, None, 0, &mut wire);
        let error = decode(&at(version), Socket::Data, &wire).unwrap_err();
        assert!(matches!(error, DecodeError::Size { .. }), "{error}");
        for (bytes, fits) in [(max, true), (max + 512, false)] {
            let mut wire = Vec::new();
            Packet::Data(DataHeader::default()).encode(&at(version), 0, None, bytes, &mut wire);
            assert_eq!(
                decode(&at(version), Socket::Data, &wire).is_ok(),
                fits,
                "{version} {bytes}"
            );
        }
    }
    let mut wire = encoded(&Packet::Data(DataHeader::default()), 1 << 20);
    assert_eq!(
        decode(&current(), Socket::Data, &wire)
            .unwrap()
            .unwrap()
            .payload_len,
        1 << 20
    );
    wire = encoded(&Packet::Data(DataHeader::default()), (1 << 20) + 512);
    assert!(decode(&current(), Socket::Data, &wire).is_err());
}

/// An unknown packet, or one of the other socket, is told apart from a packet that is only malformed, since a kernel
/// reacts differently.
#[test]
fn pitfall_12_wrong_socket() {
    for (packet, payload_len) in control_packets()
        .into_iter()
        .map(|packet| (packet, 0))
        .chain(bulk_packets())
    {
        let wire = encoded(&packet, payload_len);
        let command = packet.command();
        let other = match packet.socket() {
            Socket::Data => Socket::Meta,
            Socket::Meta => Socket::Data,
        };
        if command == Command::DelayProbe {
            assert!(decode(&current(), other, &wire).is_ok());
        } else {
            let error = decode(&current(), other, &wire).unwrap_err();
            assert_eq!(
                error,
                DecodeError::WrongSocket {
                    command,
                    socket: other
                }
            );
        }
    }
}

#[test]
fn pitfall_19_resync_has_the_id_of_all_ones() {
    assert_eq!(BlockId::SYNCER.0, [0xff; 8]);
    assert_eq!(BlockId::SYNCER, BlockId::from_u64(u64::MAX));
}

#[test]
fn pitfall_20_acks_carry_their_volume() {
    let wire = encoded(&Packet::WriteAck(BlockAck::default()), 0);
    assert_eq!(
        decode(&current(), Socket::Meta, &wire)
            .unwrap()
            .unwrap()
            .volume,
        VOLUME
    );
    let wire = encoded(&Packet::PingAck, 0);
    assert_eq!(
        decode(&current(), Socket::Meta, &wire)
            .unwrap()
            .unwrap()
            .volume,
        0
    );
}

#[test]
fn pitfall_22_garbage_in_pads_is_ignored() {
    let request = BlockRequest {
        bytes: 4096,
        ..BlockRequest::default()
    };
    let desc = BlockDesc {
        sector: 8,
        bytes: 4096,
    };
    for (packet, pad) in [
        (Packet::DataRequest(request), 20),
        (Packet::RsDataRequest(request), 20),
        (Packet::OvRequest(request), 20),
        (Packet::OutOfSync(desc), 12),
        (Packet::RsDeallocated(desc), 12),
        (Packet::Barrier(replica_proto::BarrierNr::default()), 4),
    ] {
        let wire = patched(&packet, 0, pad, &[0xde, 0xad, 0xbe, 0xef]);
        let frame = decode(&current(), packet.socket(), &wire).unwrap().unwrap();
        assert_eq!(frame.packet, packet);
    }
    let sizes = Packet::Sizes(replica_proto::Sizes {
        limits: Some(replica_proto::QueueLimits::default()),
        ..replica_proto::Sizes::default()
    });
    let frame = decode(&current(), Socket::Data, &patched(&sizes, 0, 55, &[7]))
        .unwrap()
        .unwrap();
    assert_eq!(frame.packet, sizes);
    let features = Packet::ConnectionFeatures(ConnectionFeatures::OURS);
    let mut wire = encoded(&features, 0);
    wire[8 + 12..].fill(0xa5);
    let frame = decode(&WireContext::initial(), Socket::Data, &wire)
        .unwrap()
        .unwrap();
    assert_eq!(frame.packet, features);
}

#[test]
fn pitfall_25_protocol_has_a_string_and_features_72_bytes() {
    let mut wire = Vec::new();
    Packet::ConnectionFeatures(ConnectionFeatures::OURS).encode(
        &WireContext::initial(),
        0,
        None,
        0,
        &mut wire,
    );
    assert_eq!(wire.len(), 8 + 72);
    let packet = control_packets().remove(2);
    let Packet::Protocol(mut params) = packet else {
        panic!("P_PROTOCOL")
    };
    params.integrity_alg = AlgorithmName::default();
    assert_eq!(encoded(&Packet::Protocol(params), 0).len(), 16 + 25);
    let short = raw(0x0b, 24, &[0; 24]);
    assert!(decode(&current(), Socket::Data, &short).is_err());
}
