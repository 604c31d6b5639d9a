//! The hex dumps and tables of docs/spec/wire.md, read from the document itself.

use replica_proto::{
    BlockId, Command, DigestAlgorithm, DpFlags, Features, Packet, ProtocolVersion, Socket,
    StateWord, WireContext, WireProtocol, decode,
};

const SPEC: &str = include_str!("../../docs/spec/wire.md");

/// The bytes of one line of a dump: `ab cd | comment`, `ab x 4096 | comment`, `... 1048576 data bytes follow ...`.
/// Empty for a line that is none.
fn bytes_of(line: &str) -> Vec<u8> {
    if let Some(rest) = line.strip_prefix("... ") {
        let (count, _) = rest.split_once(' ').unwrap();
        return vec![0; count.parse().unwrap()];
    }
    let hex = line.split('|').next().unwrap().trim();
    if let Some((byte, count)) = hex.split_once(" x ") {
        return vec![u8::from_str_radix(byte, 16).unwrap(); count.parse().unwrap()];
    }
    hex.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

/// The dumps of the document, one for each block of code, and the number of headers that its comments name.
fn dumps() -> Vec<(Vec<u8>, usize)> {
    let mut dumps = Vec::new();
    for block in SPEC.split("```").skip(1).step_by(2) {
        let is_dump = block.lines().any(|line| {
            line.contains("| h80:") || line.contains("| h95:") || line.contains("| h100:")
        });
        if is_dump {
            let headers = block
                .lines()
                .filter(|line| line.contains(": command 0x") || line.contains(", command 0x"));
            let count = headers.count();
            dumps.push((block.lines().flat_map(bytes_of).collect(), count));
        }
    }
    dumps
}

/// How a packet of the document is to be read: those with the small header come before the feature exchange, and only
/// the example with data-integrity has a digest, which shows in a length that is not whole sectors.
fn context_of(bytes: &[u8]) -> (WireContext, Socket) {
    if bytes[0] == 0x83 {
        return (WireContext::initial(), Socket::Data);
    }
    let mut ctx = WireContext::agreed(ProtocolVersion::MAX, Features::all());
    let command = Command::from_code(u16::from_be_bytes([bytes[6], bytes[7]])).unwrap();
    let length = u32::from_be_bytes(bytes[8..12].try_into().unwrap());
    if command == Command::Data && !(length - 24).is_multiple_of(512) {
        ctx.peer_digest_len = 4;
        ctx.own_digest_len = 4;
    }
    (ctx, command.socket())
}

/// Every packet of the document, with its bulk bytes.
fn packets() -> Vec<(Packet, Vec<u8>)> {
    let mut packets = Vec::new();
    for (dump, headers) in dumps() {
        // The headers of section 2.4 stand alone, without a body; they have a test of their own.
        if dump.starts_with(&[0x83, 0x74, 0x02, 0x67, 0, 0]) {
            continue;
        }
        let mut rest = &dump[..];
        let mut count = 0;
        while !rest.is_empty() {
            let (ctx, socket) = context_of(rest);
            let frame = decode(&ctx, socket, rest).unwrap().unwrap();
            let mut encoded = Vec::new();
            frame.packet.encode(
                &ctx,
                frame.volume,
                frame.digest.as_ref(),
                frame.payload_len,
                &mut encoded,
            );
            assert_eq!(encoded, rest[..frame.consumed], "{}", frame.packet.name());
            let (payload, after) = rest[frame.consumed..].split_at(frame.payload_len as usize);
            if let Some(digest) = frame.digest {
                assert_eq!(digest, DigestAlgorithm::Crc32c.digest(payload));
            }
            packets.push((frame.packet, payload.to_vec()));
            rest = after;
            count += 1;
        }
        assert_eq!(count, headers);
    }
    packets
}

#[test]
fn every_dump_decodes_and_encodes_to_itself() {
    let packets = packets();
    assert_eq!(packets.len(), 71);
    let named = |name| {
        packets
            .iter()
            .filter(|(packet, _)| packet.name() == name)
            .count()
    };
    assert_eq!(
        (named("P_STATE"), named("P_UUIDS"), named("P_RS_DATA_REPLY")),
        (11, 6, 2)
    );
}

/// What the comments beside the dumps say.
#[test]
fn the_dumps_mean_what_their_comments_say() {
    let packets: Vec<Packet> = packets().into_iter().map(|(packet, _)| packet).collect();
    let states: Vec<u32> = packets
        .iter()
        .filter_map(|packet| match packet {
            Packet::State(StateWord(word)) => Some(*word),
            _ => None,
        })
        .collect();
    for word in [
        0xd082, 0x110aa, 0x110a9, 0xd081, 0xc882, 0x90d9, 0x108e6, 0x110a6, 0x88aa, 0x90a9,
    ] {
        assert!(states.contains(&word), "{word:#x}");
    }
    let data = packets.iter().find_map(|packet| match packet {
        Packet::Data(data) => Some(*data),
        _ => None,
    });
    let data = data.unwrap();
    assert_eq!((data.sector, data.seq_num), (2048, 1));
    assert_eq!(data.flags, DpFlags::RW_SYNC | DpFlags::SEND_WRITE_ACK);
    assert_eq!(
        data.block_id,
        BlockId([0x00, 0x5c, 0x3a, 0x8f, 0x41, 0x9d, 0xff, 0xff])
    );
    for packet in &packets {
        match packet {
            Packet::Protocol(params) => {
                assert_eq!(params.protocol, WireProtocol::C);
                assert_eq!(params.integrity_alg.as_str(), "");
            }
            Packet::SyncParam(param) => assert_eq!(*param, replica_proto::SyncParam::default()),
            Packet::Sizes(sizes) => {
                assert_eq!(
                    (sizes.d_size, sizes.u_size, sizes.c_size),
                    (131_072, 0, 131_072)
                );
                let limits = sizes.limits.unwrap();
                assert!(limits.discard_enabled && !limits.discard_zeroes_data);
            }
            Packet::Trim(data, bytes) => {
                assert_eq!((data.sector, *bytes), (32768, 4 << 20));
                assert_eq!(data.flags, DpFlags::DISCARD | DpFlags::SEND_WRITE_ACK);
            }
            Packet::Zeroes(data, bytes) => {
                assert_eq!((data.sector, *bytes), (32768, 1 << 20));
                let flags = DpFlags::ZEROES | DpFlags::DISCARD | DpFlags::SEND_WRITE_ACK;
                assert_eq!(data.flags, flags);
            }
            Packet::OvResult(ack) => assert_eq!(ack.block_id, BlockId::OUT_OF_SYNC),
            Packet::StateChgReply(code) => assert!([1, -19].contains(code)),
            Packet::ConnStChgReply(code) => assert_eq!(*code, 1),
            Packet::RsDataRequest(request) => {
                assert_eq!(
                    (request.block_id, request.bytes),
                    (BlockId::SYNCER, 1 << 20)
                );
            }
            _ => {}
        }
    }
    assert!(packets.contains(&Packet::SyncUuid(0xa5a4_a3a2_a1a0_9f9e)));
}

/// The headers of section 2.4: 4 KiB at versions 86 to 99, 64 KiB at 95 to 99.
#[test]
fn small_headers_of_data() {
    let (dump, _) = dumps()
        .into_iter()
        .find(|(dump, _)| dump.starts_with(&[0x83, 0x74, 0x02, 0x67, 0, 0]))
        .expect("the example of section 2.4");
    let (small, large) = dump.split_at(8);
    for (version, bytes, header) in [
        (86, 4096, small),
        (94, 4096, small),
        (95, 4096, small),
        (99, 4096, small),
        (95, 65536, large),
        (99, 65536, large),
    ] {
        let ctx = WireContext::agreed(ProtocolVersion(version), Features::empty());
        let mut encoded = Vec::new();
        let data = Packet::Data(replica_proto::DataHeader::default());
        data.encode(&ctx, 7, None, bytes, &mut encoded);
        assert_eq!(&encoded[..8], header, "{version}");
        let frame = decode(&ctx, Socket::Data, &encoded).unwrap().unwrap();
        assert_eq!(
            (frame.packet, frame.payload_len, frame.volume),
            (data, bytes, 0)
        );
    }
}

/// The rows of a table of the document: the cells of each line between a heading and the next one that starts with
/// `prefix`.
fn rows<'a>(heading: &str, prefix: &str) -> Vec<Vec<&'a str>> {
    let start = SPEC.find(heading).expect("the heading");
    SPEC[start..]
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with(prefix))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn the_packet_table_is_ours() {
    let mut found = Vec::new();
    for row in rows("### 6.1 Table", "| 0x") {
        let code = u16::from_str_radix(row[0].trim_start_matches("0x"), 16).unwrap();
        let name = row[1].split(' ').next().unwrap();
        if row.iter().any(|cell| cell.contains("no handler")) {
            assert_eq!(Command::from_code(code), None, "{name}");
            continue;
        }
        let command = Command::from_code(code).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(command.name(), name);
        for (socket, letter) in [(Socket::Data, 'D'), (Socket::Meta, 'M')] {
            // The initial packets are allowed on both, for they are what tells the socket.
            if !matches!(command, Command::InitialData | Command::InitialMeta) {
                assert_eq!(
                    command.is_allowed_on(socket),
                    row[2].contains(letter),
                    "{name}"
                );
            }
        }
        assert_eq!(
            command.socket() == Socket::Data,
            row[2].contains('D'),
            "{name}"
        );
        found.push(command);
    }
    found.sort_unstable();
    let others = [
        Command::EnableReplication,
        Command::RdbSnapshot,
        Command::RdbSnapshotAnswer,
    ];
    let of_8_4 = |command: &&Command| !others.contains(command);
    assert!(found.iter().eq(Command::ALL.iter().filter(of_8_4)));
}

#[test]
fn the_flag_table_is_ours() {
    let rows = rows("### 6.3 dp_flags", "| 0x");
    assert_eq!(rows.len(), 11);
    for row in rows {
        let bit = u32::from_str_radix(row[0].trim_start_matches("0x"), 16).unwrap();
        assert_eq!(
            DpFlags::from_name(row[1]),
            DpFlags::from_bits(bit),
            "{}",
            row[1]
        );
        assert!(DpFlags::from_name(row[1]).is_some());
    }
    for row in rows_of_features() {
        let bit = u32::from_str_radix(row[0].trim_start_matches("0x"), 16).unwrap();
        assert_eq!(
            Features::from_name(row[1]),
            Features::from_bits(bit),
            "{}",
            row[1]
        );
        assert!(Features::from_name(row[1]).is_some());
    }
}

fn rows_of_features() -> Vec<Vec<&'static str>> {
    let rows = rows("### 3.3 Feature flags", "| 0x");
    assert_eq!(rows.len(), 4);
    rows
}
