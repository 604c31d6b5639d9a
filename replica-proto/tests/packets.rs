//! Every packet by itself: cut off anywhere, with one field wrong, at every version.

mod common;

use common::samples::*;
use replica_proto::{
    AlgorithmName, BlockAck, Command, ConnectionFeatures, DataHeader, DecodeError, Digest, DpFlags,
    Features, Packet, SnapshotAnswer, SnapshotName, SnapshotOrder, SnapshotStep, Socket, SyncParam,
    WireContext, decode, needed,
};

/// What a version does not carry is not expected back.
fn as_carried(sample: &Sample) -> Packet {
    let version = sample.ctx.version;
    let mut packet = sample.packet.clone();
    match &mut packet {
        Packet::Protocol(params) | Packet::ProtocolUpdate(params)
            if !version.has_integrity_alg() =>
        {
            params.integrity_alg = AlgorithmName::default();
        }
        Packet::SyncParam(param) => {
            let full = param.clone();
            *param = SyncParam {
                resync_rate: full.resync_rate,
                ..SyncParam::default()
            };
            if version.has_verify() {
                param.verify_alg = full.verify_alg.clone();
            }
            if version.has_csums() {
                param.csums_alg = full.csums_alg.clone();
            }
            if version.sync_param_has_controller() {
                *param = full;
            }
        }
        Packet::Sizes(sizes) if !sample.ctx.features.contains(Features::WSAME) => {
            sizes.limits = None;
        }
        _ => {}
    }
    packet
}

#[test]
fn every_packet_comes_back_at_every_version() {
    for sample in samples() {
        let wire = sample.bytes();
        let frame = decode(&sample.ctx, sample.packet.socket(), &wire)
            .unwrap()
            .unwrap();
        assert_eq!(frame.packet, as_carried(&sample));
        assert_eq!(frame.consumed, wire.len());
        assert_eq!(frame.digest, sample.digest);
        assert_eq!(frame.payload_len, sample.payload_len);
        let has_volume =
            sample.ctx.version.has_volumes() && !sample.packet.command().is_connection_wide();
        assert_eq!(frame.volume, if has_volume { VOLUME } else { 0 });
    }
}

/// The length in the header counts what follows it, the bulk bytes included.
#[test]
fn every_truncated_length_needs_more() {
    for sample in samples() {
        let wire = sample.bytes();
        for len in 0..wire.len() {
            let cut = &wire[..len];
            assert_eq!(decode(&sample.ctx, sample.packet.socket(), cut), Ok(None));
            let need = needed(&sample.ctx, sample.packet.socket(), cut).unwrap();
            assert!(
                need > len && need <= wire.len(),
                "{} {len} {need}",
                sample.packet.name()
            );
        }
        // What follows is not looked at, whatever it is.
        let mut longer = wire.clone();
        longer.extend_from_slice(&[0xff; 64]);
        let frame = decode(&sample.ctx, sample.packet.socket(), &longer)
            .unwrap()
            .unwrap();
        assert_eq!(frame.consumed, wire.len());
        assert_eq!(
            needed(&sample.ctx, sample.packet.socket(), &longer),
            Ok(wire.len())
        );
    }
}

#[test]
fn acks_barriers_and_data_fit_a_buffer_without_growing_it() {
    let mut out = Vec::with_capacity(64);
    let capacity = out.capacity();
    for (packet, payload_len) in [
        (Packet::WriteAck(BlockAck::default()), 0),
        (Packet::Data(DataHeader::default()), 4096),
        (Packet::Barrier(replica_proto::BarrierNr::default()), 0),
    ] {
        out.clear();
        packet.encode(&current(), 0, None, payload_len, &mut out);
        assert_eq!(out.capacity(), capacity);
    }
}

// One test for each thing in a header that can be wrong.

#[test]
fn header_magic() {
    let wire = encoded(&Packet::Ping, 0);
    for i in 0..4 {
        let mut bad = wire.clone();
        bad[i] ^= 0x10;
        // The wrong byte is enough, the rest need not have arrived.
        for len in i + 1..=bad.len() {
            let error = decode(&current(), Socket::Meta, &bad[..len]).unwrap_err();
            assert!(matches!(error, DecodeError::Magic { .. }), "{error}");
        }
    }
}

#[test]
fn header_pad() {
    let mut wire = encoded(&Packet::Ping, 0);
    for i in 12..16 {
        wire[i] = 1;
        let error = error_of(&Packet::Ping, &wire);
        assert!(
            matches!(error, DecodeError::HeaderPad { code: 0x13, .. }),
            "{error}"
        );
        wire[i] = 0;
    }
}

#[test]
fn header_command_unknown() {
    for code in 0..=u16::MAX {
        if Command::from_code(code).is_none() {
            for socket in [Socket::Data, Socket::Meta] {
                let error = decode(&current(), socket, &raw(code, 0, &[])).unwrap_err();
                assert_eq!(error, DecodeError::UnknownCommand { code, socket });
            }
        }
    }
}

#[test]
fn packets_out_of_their_phase() {
    let initial = WireContext::initial();
    for (code, command) in [
        (0xfff1, Command::InitialMeta),
        (0xfff2, Command::InitialData),
    ] {
        let error = decode(&current(), command.socket(), &raw(code, 0, &[])).unwrap_err();
        assert_eq!(error, DecodeError::WrongPhase { command });
    }
    let mut features = Vec::new();
    Packet::ConnectionFeatures(ConnectionFeatures::OURS).encode(&at(94), 0, None, 0, &mut features);
    let error = decode(&at(94), Socket::Data, &features).unwrap_err();
    assert_eq!(
        error,
        DecodeError::WrongPhase {
            command: Command::ConnectionFeatures
        }
    );
    let early = [0x83, 0x74, 0x02, 0x67, 0x00, 0x07, 0x00, 0x00];
    let error = decode(&initial, Socket::Data, &early).unwrap_err();
    assert_eq!(
        error,
        DecodeError::WrongPhase {
            command: Command::UnplugRemote
        }
    );
    // A stream that was just accepted tells itself which socket it is.
    for socket in [Socket::Data, Socket::Meta] {
        for packet in [Packet::InitialData, Packet::InitialMeta] {
            let mut wire = Vec::new();
            packet.encode(&initial, 0, None, 0, &mut wire);
            assert_eq!(
                decode(&initial, socket, &wire).unwrap().unwrap().packet,
                packet
            );
        }
    }
}

/// (command, its least and its most length), from docs/spec/wire.md, sections 4, 5, 6.1, 9 and 10.
const LENGTHS: &[(Command, u32, u32)] = &[
    (Command::Data, 24, 24 + (1 << 20)),
    (Command::DataReply, 24 + 512, 24 + (1 << 20)),
    (Command::RsDataReply, 24 + 512, 24 + (1 << 20)),
    (Command::Barrier, 8, 8),
    (Command::Bitmap, 0, 4080),
    (Command::UnplugRemote, 0, 0),
    (Command::DataRequest, 24, 24),
    (Command::RsDataRequest, 24, 24),
    (Command::SyncParam, 148, 148),
    (Command::Protocol, 25, 88),
    (Command::Uuids, 48, 48),
    (Command::Sizes, 56, 56),
    (Command::State, 4, 4),
    (Command::SyncUuid, 8, 8),
    (Command::AuthChallenge, 64, 128),
    (Command::AuthResponse, 1, 64),
    (Command::StateChgReq, 8, 8),
    (Command::Ping, 0, 0),
    (Command::PingAck, 0, 0),
    (Command::RecvAck, 24, 24),
    (Command::WriteAck, 24, 24),
    (Command::RsWriteAck, 24, 24),
    (Command::Superseded, 24, 24),
    (Command::NegAck, 24, 24),
    (Command::NegDReply, 24, 24),
    (Command::NegRsDReply, 24, 24),
    (Command::BarrierAck, 8, 8),
    (Command::StateChgReply, 4, 4),
    (Command::OvRequest, 24, 24),
    (Command::OvReply, 25, 88),
    (Command::OvResult, 24, 24),
    (Command::CsumRsRequest, 25, 88),
    (Command::RsIsInSync, 24, 24),
    (Command::SyncParam89, 148, 148),
    (Command::CompressedBitmap, 2, 4080),
    (Command::DelayProbe, 8, 8),
    (Command::OutOfSync, 16, 16),
    (Command::RsCancel, 24, 24),
    (Command::ConnStChgReq, 8, 8),
    (Command::ConnStChgReply, 4, 4),
    (Command::RetryWrite, 24, 24),
    (Command::ProtocolUpdate, 25, 88),
    (Command::Trim, 28, 28),
    (Command::RsThinRequest, 24, 24),
    (Command::RsDeallocated, 16, 16),
    (Command::WriteSame, 28 + 512, 28 + 4096),
    (Command::Zeroes, 28, 28),
    (Command::EnableReplication, 4, 4),
    (Command::RdbSnapshot, 72, 72),
    (Command::RdbSnapshotAnswer, 8, 8),
];

/// A length that a packet cannot have is an error of the header alone: nothing is waited for.
#[test]
fn header_length() {
    let agreed = Command::ALL.iter().filter(|command| !command.is_initial());
    assert!(
        agreed
            .copied()
            .eq(LENGTHS.iter().map(|(command, ..)| *command))
    );
    for (command, min, max) in LENGTHS.iter().copied() {
        let expect = |length| DecodeError::Length {
            command,
            length,
            min,
            max,
        };
        let wrong = [
            min.wrapping_sub(1),
            max + 1,
            max + 8,
            max + 512,
            1 << 24,
            u32::MAX - 15,
            u32::MAX,
        ];
        for length in wrong {
            let wire = raw(command.code(), length, &[]);
            assert_eq!(
                decode(&current(), command.socket(), &wire),
                Err(expect(length))
            );
            assert_eq!(
                needed(&current(), command.socket(), &wire),
                Err(expect(length))
            );
        }
        for length in [min, max] {
            let wire = raw(command.code(), length, &[]);
            let need = needed(&current(), command.socket(), &wire).unwrap();
            assert!(need <= 4096, "{command}");
        }
    }
    for length in [1u16, 71, 73, 0xffff] {
        let mut wire = vec![0x83, 0x74, 0x02, 0x67, 0xff, 0xfe];
        wire.extend_from_slice(&length.to_be_bytes());
        let error = decode(&WireContext::initial(), Socket::Data, &wire).unwrap_err();
        assert!(matches!(
            error,
            DecodeError::Length {
                min: 72,
                max: 72,
                ..
            }
        ));
        wire[5] = 0xf2;
        let error = decode(&WireContext::initial(), Socket::Data, &wire).unwrap_err();
        assert!(matches!(error, DecodeError::Length { min: 0, max: 0, .. }));
    }
}

#[test]
fn bulk_bytes_are_whole_sectors() {
    for (command, fixed) in [
        (Command::Data, 24),
        (Command::DataReply, 24),
        (Command::RsDataReply, 24),
    ] {
        for bytes in [513, 1000, 4095, (1 << 20) - 1] {
            let error = decode(
                &current(),
                Socket::Data,
                &raw(command.code(), fixed + bytes, &[]),
            );
            assert_eq!(
                error,
                Err(DecodeError::Unaligned {
                    command,
                    bytes,
                    unit: 512
                })
            );
        }
    }
    // A digest that is not announced is no data.
    let mut ctx = current();
    ctx.peer_digest_len = 20;
    let error = decode(&ctx, Socket::Data, &raw(0, 24 + 4096, &[])).unwrap_err();
    assert!(matches!(error, DecodeError::Unaligned { bytes: 4076, .. }));
    let bitmap = decode(
        &current(),
        Socket::Data,
        &raw(Command::Bitmap.code(), 4, &[]),
    );
    let command = Command::Bitmap;
    assert_eq!(
        bitmap,
        Err(DecodeError::Unaligned {
            command,
            bytes: 4,
            unit: 8
        })
    );
}

#[test]
fn write_same_carries_one_block_and_fills_whole_ones() {
    let command = Command::WriteSame;
    let error = decode(
        &current(),
        Socket::Data,
        &raw(command.code(), 28 + 1536, &[]),
    );
    assert!(matches!(error, Err(DecodeError::Value { value: 1536, .. })));
    let packet = Packet::WriteSame(DataHeader::default(), 8192);
    let wire = patched(&packet, 4096, 24, &[0, 0, 0x22, 0]); // 8704 bytes
    let error = DecodeError::Unaligned {
        command,
        bytes: 8704,
        unit: 4096,
    };
    assert_eq!(error_of(&packet, &wire), error);
}

// One test for each field of a body that can be wrong.

#[test]
fn protocol_fields() {
    let packet = control_packets()
        .into_iter()
        .find(|packet| matches!(packet, Packet::Protocol(_)))
        .unwrap();
    let fields = [
        "protocol",
        "after_sb_0p",
        "after_sb_1p",
        "after_sb_2p",
        "",
        "two_primaries",
    ];
    for (i, name) in fields.into_iter().enumerate() {
        let wire = patched(&packet, 0, i * 4, &[0, 0, 0, 11]);
        if name.is_empty() {
            continue; // unknown flags are kept
        }
        match error_of(&packet, &wire) {
            DecodeError::Value {
                command: Command::Protocol,
                field,
                value: 11,
            } => {
                assert_eq!(field, name);
            }
            other => panic!("{other}"),
        }
    }
    let zero = patched(&packet, 0, 0, &[0, 0, 0, 0]);
    let error = error_of(&packet, &zero);
    assert!(matches!(
        error,
        DecodeError::Value {
            field: "protocol",
            value: 0,
            ..
        }
    ));
    // "sha256\0": without its NUL, and with a byte that is no ASCII.
    for (offset, byte) in [(24 + 6, b'x'), (24 + 2, 0x80)] {
        let error = error_of(&packet, &patched(&packet, 0, offset, &[byte]));
        let command = Command::Protocol;
        assert_eq!(
            error,
            DecodeError::Name {
                command,
                field: "integrity_alg"
            }
        );
    }
}

#[test]
fn sync_param_names() {
    let packet = Packet::SyncParam(SyncParam::default());
    for (offset, field) in [(4, "verify_alg"), (68, "csums_alg")] {
        let command = Command::SyncParam89;
        let error = DecodeError::Name { command, field };
        assert_eq!(
            error_of(&packet, &patched(&packet, 0, offset, &[b'x'; 64])),
            error
        );
        assert_eq!(
            error_of(&packet, &patched(&packet, 0, offset, &[0xc3, 0xa4])),
            error
        );
        let longest = patched(&packet, 0, offset, &[b'x'; 63]);
        assert!(decode(&current(), Socket::Data, &longest).is_ok());
    }
}

#[test]
fn sizes_of_impossible_devices() {
    let packet = Packet::Sizes(replica_proto::Sizes::default());
    for (offset, name) in [(0, "d_size"), (8, "u_size"), (16, "c_size")] {
        let most = patched(&packet, 0, offset, &(1u64 << 54).to_be_bytes());
        assert!(decode(&current(), Socket::Data, &most).is_ok());
        let wire = patched(&packet, 0, offset, &((1u64 << 54) + 1).to_be_bytes());
        match error_of(&packet, &wire) {
            DecodeError::Value {
                command: Command::Sizes,
                field,
                ..
            } => assert_eq!(field, name),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn ranges_that_no_device_has() {
    let data = DataHeader::default();
    let bulk = [
        (Packet::Data(data), 4096),
        (Packet::DataReply(data), 4096),
        (Packet::RsDataReply(data), 4096),
        (Packet::WriteSame(data, 4096), 4096),
    ];
    let acks = control_packets()
        .into_iter()
        .filter_map(|packet| match packet {
            Packet::RecvAck(_)
            | Packet::WriteAck(_)
            | Packet::RsWriteAck(_)
            | Packet::Superseded(_)
            | Packet::NegDReply(_)
            | Packet::NegRsDReply(_)
            | Packet::RsIsInSync(_)
            | Packet::RsCancel(_)
            | Packet::RetryWrite(_)
            | Packet::OvResult(_) => Some((packet, 0)),
            _ => None,
        });
    let sized = sized_packets().into_iter().map(|(packet, ..)| (packet, 0));
    for (packet, payload_len) in bulk.into_iter().chain(acks).chain(sized) {
        for sector in [u64::MAX, 1 << 54, (1 << 54) - 7] {
            let wire = patched(&packet, payload_len, 0, &u64::to_be_bytes(sector));
            match error_of(&packet, &wire) {
                DecodeError::Sector {
                    command,
                    sector: found,
                    bytes: 4096,
                } => {
                    assert_eq!((command, found), (packet.command(), sector));
                }
                other => panic!("{other}"),
            }
        }
        let last = patched(&packet, payload_len, 0, &u64::to_be_bytes((1 << 54) - 8));
        assert!(decode(&current(), packet.socket(), &last).is_ok());
    }
}

#[test]
fn sizes_in_acks() {
    for packet in control_packets() {
        let ack = match &packet {
            Packet::RecvAck(ack)
            | Packet::WriteAck(ack)
            | Packet::RsWriteAck(ack)
            | Packet::Superseded(ack)
            | Packet::NegDReply(ack)
            | Packet::NegRsDReply(ack)
            | Packet::RsIsInSync(ack)
            | Packet::RsCancel(ack)
            | Packet::RetryWrite(ack)
            | Packet::OvResult(ack)
            | Packet::NegAck(ack) => *ack,
            _ => continue,
        };
        let wrong = [1, 513, (128 << 20) + 512, u32::MAX];
        for bytes in [0, 512, 1 << 20, 128 << 20].into_iter().chain(wrong) {
            let wire = patched(&packet, 0, 16, &bytes.to_be_bytes());
            let result = decode(&current(), Socket::Meta, &wire);
            // K sends 0 or a wrapped-around size with some P_NEG_ACK (docs/spec/wire.md, section 7.2).
            let taken = !wrong.contains(&bytes) || packet.command() == Command::NegAck;
            assert_eq!(result.is_ok(), taken, "{} {bytes}", packet.name());
        }
        assert_eq!(ack.bytes, 4096);
    }
    let packet = Packet::NegAck(BlockAck::default());
    let wire = patched(&packet, 0, 0, &u64::MAX.to_be_bytes());
    assert!(matches!(
        error_of(&packet, &wire),
        DecodeError::Sector { .. }
    ));
}

#[test]
fn a_write_without_data_must_ask_for_a_flush() {
    let wire = encoded(&Packet::Data(DataHeader::default()), 0);
    let packet = Packet::Data(DataHeader::default());
    assert!(matches!(
        error_of(&packet, &wire),
        DecodeError::Size { bytes: 0, .. }
    ));
    let flags = DpFlags::FLUSH;
    let wire = encoded(
        &Packet::Data(DataHeader {
            flags,
            ..DataHeader::default()
        }),
        0,
    );
    assert_eq!(
        decode(&current(), Socket::Data, &wire)
            .unwrap()
            .unwrap()
            .payload_len,
        0
    );
}

#[test]
fn errors_name_the_packet_and_what_is_wrong() {
    for (wire, message) in [
        (
            raw(0x44, 0, &[]),
            "unknown packet 0x0044 on the data socket",
        ),
        (raw(0x13, 0, &[]), "P_PING on the data socket"),
        (raw(0x0d, 32, &[]), "P_SIZES of 32 bytes, expected 56 to 56"),
        (
            raw(0xfff2, 0, &[]),
            "P_INITIAL_DATA after the feature exchange",
        ),
        (
            raw(0x04, 12, &[]),
            "P_BITMAP: 12 bytes are not a multiple of 8",
        ),
        (
            vec![0x83, 0x74, 0x02, 0x67],
            "bad magic 0x83740267 for protocol version 101",
        ),
    ] {
        let error = decode(&current(), Socket::Data, &wire).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let mut pad = raw(0x0e, 4, &[]);
    pad[12] = 1;
    let error = decode(&current(), Socket::Data, &pad).unwrap_err();
    assert_eq!(
        error.to_string(),
        "P_STATE: header pad is 0x01000000, must be zero"
    );
}

// What must not be sent is a mistake of the caller, found before the peer sees it.

fn panics(send: impl FnOnce() + std::panic::UnwindSafe) -> bool {
    std::panic::catch_unwind(send).is_err()
}

#[test]
fn the_encoder_refuses_what_the_peer_would_misread() {
    let digest = Digest::zeros(4).unwrap();
    let data = Packet::Data(DataHeader::default());
    let with_digest = WireContext {
        own_digest_len: 4,
        ..current()
    };
    assert!(panics(|| data.encode(
        &current(),
        0,
        Some(&digest),
        512,
        &mut Vec::new()
    )));
    assert!(panics(|| data.encode(
        &with_digest,
        0,
        None,
        512,
        &mut Vec::new()
    )));
    assert!(!panics(|| data.encode(
        &with_digest,
        0,
        Some(&digest),
        512,
        &mut Vec::new()
    )));
    assert!(panics(|| Packet::Ping.encode(
        &current(),
        0,
        None,
        512,
        &mut Vec::new()
    )));
    assert!(panics(|| Packet::Ping.encode(
        &current(),
        0,
        Some(&digest),
        0,
        &mut Vec::new()
    )));
    assert!(panics(|| data.encode(
        &at(94),
        0,
        None,
        65536,
        &mut Vec::new()
    )));
    let long = Packet::Bitmap(vec![0; 4088]);
    assert!(panics(|| long.encode(
        &current(),
        0,
        None,
        0,
        &mut Vec::new()
    )));
    assert!(!panics(|| long.encode(
        &at(99),
        0,
        None,
        0,
        &mut Vec::new()
    )));
}

/// As DRBD 9.3.3 sends it, a sync target that has been told its source's UUID, to a peer that speaks version 101.
#[test]
fn enable_replication_golden() {
    let wire = [
        0x86, 0x20, 0xec, 0x20, 0, 0, 0, 0x59, 0, 0, 0, 4, 0, 0, 0, 0, 1, 0, 0, 0,
    ];
    let ctx = WireContext::agreed(replica_proto::ProtocolVersion::MAX, Features::all());
    let frame = decode(&ctx, Socket::Data, &wire).unwrap().unwrap();
    assert_eq!(frame.packet, Packet::EnableReplication { enable: true });
    assert_eq!(frame.consumed, wire.len());
    let error = decode(&ctx, Socket::Meta, &wire).unwrap_err();
    let command = Command::EnableReplication;
    let socket = Socket::Meta;
    assert_eq!(error, DecodeError::WrongSocket { command, socket });
    let mut longer = wire;
    longer[11] = 8;
    assert!(matches!(
        decode(&ctx, Socket::Data, &longer),
        Err(DecodeError::Length {
            length: 8,
            min: 4,
            max: 4,
            ..
        })
    ));
}

/// Between rdb nodes: a snapshot called "daily" begins, and may take 30 seconds; its handler there ends with 3.
#[test]
fn snapshots_golden() {
    let ctx = WireContext::agreed(replica_proto::ProtocolVersion::MAX, Features::all());
    let mut wire = vec![
        0x86, 0x20, 0xec, 0x20, 0, 0, 0x7d, 0, 0, 0, 0, 72, 0, 0, 0, 0,
    ];
    wire.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0x75, 0x30]);
    wire.extend_from_slice(b"daily");
    wire.extend_from_slice(&[0; 59]);
    let frame = decode(&ctx, Socket::Data, &wire).unwrap().unwrap();
    let order = SnapshotOrder {
        step: SnapshotStep::Take,
        limit_ms: 30_000,
        name: SnapshotName::new("daily").unwrap(),
    };
    assert_eq!(frame.packet, Packet::RdbSnapshot(order));
    let mut made = Vec::new();
    frame.packet.encode(&ctx, 0, None, 0, &mut made);
    assert_eq!(made, wire);
    // No step, no time, too long a time, a character that no name has, one behind its end.
    for (at, value) in [
        (19, 0),
        (19, 3),
        (20, 1),
        (26, b'/'),
        (24, b'-'),
        (87, b'x'),
    ] {
        let mut bad = wire.clone();
        bad[at] = value;
        let error = decode(&ctx, Socket::Data, &bad).unwrap_err();
        let named = matches!(
            error,
            DecodeError::Value { .. } | DecodeError::SnapshotName { .. }
        );
        assert!(named, "{at}: {error}");
    }
    let mut no_time = wire;
    no_time[20..24].fill(0);
    assert!(decode(&ctx, Socket::Data, &no_time).is_err());

    let answer = [
        0x86, 0x20, 0xec, 0x20, 0, 0, 0x7d, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3,
    ];
    let frame = decode(&ctx, Socket::Meta, &answer).unwrap().unwrap();
    let ended = Packet::RdbSnapshotAnswer(SnapshotAnswer::Ended(3));
    assert_eq!(frame.packet, ended);
    for (at, value) in [(19, 0), (19, 5), (22, 1), (19, 3 + 1)] {
        let mut bad = answer;
        bad[at] = value;
        if at == 19 && value == 4 {
            bad[23] = 99;
        }
        assert!(decode(&ctx, Socket::Meta, &bad).is_err(), "{at}");
    }
}
