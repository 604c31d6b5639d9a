//! Reads the captures: pcap, TCP reassembly, and the walk of a conversation through the decoder.

#![allow(dead_code, unused_imports)] // each test binary uses its part of this

pub(crate) mod drbd9;
pub(crate) mod samples;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use replica_proto::{
    ConnectionFeatures, DigestAlgorithm, Frame, Packet, Socket, WireContext, decode,
};

/// One direction of a TCP connection.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    /// Address and port of the sender and of the receiver, as `10.9.0.1:7789`.
    pub from: String,
    pub to: String,
    /// What was sent, reassembled.
    pub bytes: Vec<u8>,
    /// From its SYN on.
    pub is_whole: bool,
    pub fin: bool,
    pub rst: bool,
}

/// A TCP connection: the direction of who opened it, then the other one, if there was one.
pub(crate) type Connection = Vec<Stream>;

/// A packet of a capture, as decoded.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub ctx: WireContext,
    pub socket: Socket,
    pub frame: Frame,
    /// The bytes that the frame was decoded from.
    pub bytes: Vec<u8>,
    /// The bulk bytes behind them.
    pub payload: Vec<u8>,
}

/// All packets of one direction of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub from: String,
    pub to: String,
    pub socket: Socket,
    pub packets: Vec<Seen>,
}

/// The captures of two kernels with 8.4, in the order of their names.
pub(crate) fn captures() -> Vec<PathBuf> {
    let paths = captures_in("tests/captures");
    assert_eq!(paths.len(), 23, "captures");
    paths
}

/// The captures of a folder of this crate, in the order of their names.
pub(crate) fn captures_in(folder: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("the captures are part of the source")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            name.ends_with(".pcap") || name.ends_with(".pcap.gz")
        })
        .collect();
    paths.sort();
    paths
}

/// The capture whose name starts with this number.
pub(crate) fn capture(number: &str) -> PathBuf {
    captures()
        .into_iter()
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(number)
        })
        .expect("a capture with this number")
}

/// The list of packets beside a capture: lines of (from, to, bytes, names).
pub(crate) fn packet_list(capture: &Path) -> Vec<(String, String, usize, Vec<String>)> {
    let name = capture.file_name().unwrap().to_str().unwrap();
    let name = name.trim_end_matches(".gz").replace(".pcap", ".packets");
    let text = std::fs::read_to_string(capture.with_file_name(name)).unwrap();
    text.lines()
        .skip(1)
        .map(|line| {
            // +1.366s 10.9.0.2:55399 -> 10.9.0.1:7789 469 bytes fin: INITIAL_DATA STATE*2
            let (head, names) = line
                .split_once(": ")
                .unwrap_or((line.trim_end_matches(':'), ""));
            let head: Vec<&str> = head.split_whitespace().collect();
            let names = names
                .split_whitespace()
                .flat_map(|word| match word.split_once('*') {
                    Some((name, count)) => vec![name.to_string(); count.parse().unwrap()],
                    None => vec![word.to_string()],
                })
                .collect();
            (
                head[1].to_string(),
                head[3].to_string(),
                head[4].parse().unwrap(),
                names,
            )
        })
        .collect()
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn le32(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// One direction while it is being put together.
#[derive(Default)]
struct Half {
    /// The capture has its beginning.
    is_whole: bool,
    first_seq: Option<u32>,
    segments: BTreeMap<u32, Vec<u8>>,
    fin: bool,
    rst: bool,
}

impl Half {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (offset, segment) in &self.segments {
            let offset = *offset as usize;
            assert!(
                offset <= bytes.len(),
                "a gap in the stream at {}",
                bytes.len()
            );
            let known = bytes.len() - offset;
            if known < segment.len() {
                bytes.extend_from_slice(&segment[known..]);
            }
        }
        bytes
    }
}

/// The TCP connections of a capture, in the order of their SYNs. What has payload has its SYN.
pub(crate) fn connections(capture: &Path) -> Vec<Connection> {
    let connections = connections_of_part(capture);
    for stream in connections.iter().flatten() {
        assert!(
            stream.is_whole || stream.bytes.is_empty(),
            "data follows its SYN"
        );
    }
    connections
}

/// The Ethernet frames of a capture.
fn frames(capture: &Path) -> Vec<Vec<u8>> {
    let mut file = std::fs::read(capture).unwrap();
    if capture
        .extension()
        .is_some_and(|extension| extension == "gz")
    {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&file[..])
            .read_to_end(&mut plain)
            .unwrap();
        file = plain;
    }
    assert_eq!(
        le32(&file, 0),
        0xa1b2_c3d4,
        "pcap, little-endian, microseconds"
    );
    assert_eq!(le32(&file, 20), 1, "Ethernet");
    let mut frames = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let len = le32(&file, at + 8);
        assert_eq!(len, le32(&file, at + 12), "whole frames");
        frames.push(file[at + 16..at + 16 + len].to_vec());
        at += 16 + len;
    }
    frames
}

/// The TCP connections of a capture, some of which may have begun before it, in the order of their first frames.
pub(crate) fn connections_of_part(capture: &Path) -> Vec<Connection> {
    let mut order: Vec<(String, String)> = Vec::new();
    let mut halves: BTreeMap<(String, String), Half> = BTreeMap::new();
    for frame in frames(capture) {
        if be16(&frame, 12) != 0x0800 {
            continue; // ARP
        }
        let ip = &frame[14..14 + usize::from(be16(&frame, 16))];
        assert_eq!(ip[9], 6, "nothing but TCP");
        let tcp = &ip[usize::from(ip[0] & 0xf) * 4..];
        let data = &tcp[usize::from(tcp[12] >> 4) * 4..];
        let address = |at: usize, port: u16| {
            format!(
                "{}.{}.{}.{}:{port}",
                ip[at],
                ip[at + 1],
                ip[at + 2],
                ip[at + 3]
            )
        };
        let from = address(12, be16(tcp, 0));
        let to = address(16, be16(tcp, 2));
        let (fin, syn, rst, ack) = (
            tcp[13] & 1 != 0,
            tcp[13] & 2 != 0,
            tcp[13] & 4 != 0,
            tcp[13] & 16 != 0,
        );
        let key = (from.clone(), to.clone());
        let back = (to, from);
        let is_new = !halves.contains_key(&key) && !halves.contains_key(&back);
        if (is_new || (syn && !ack)) && !order.contains(&key) {
            order.push(key.clone());
        }
        let half = halves.entry(key).or_default();
        half.fin |= fin;
        half.rst |= rst;
        let seq = be32(tcp, 4);
        if syn {
            half.first_seq = Some(seq.wrapping_add(1));
            half.is_whole = true;
            continue;
        }
        let first_seq = *half.first_seq.get_or_insert(seq);
        if !data.is_empty() {
            let offset = seq.wrapping_sub(first_seq);
            let known = half.segments.entry(offset).or_default();
            if known.len() < data.len() {
                *known = data.to_vec();
            }
        }
    }

    let stream = |from: &str, to: &str| {
        let half = halves.get(&(from.to_string(), to.to_string()))?;
        Some(Stream {
            from: from.to_string(),
            to: to.to_string(),
            bytes: half.bytes(),
            is_whole: half.is_whole,
            fin: half.fin,
            rst: half.rst,
        })
    };
    order
        .iter()
        .map(|(from, to)| {
            [stream(from, to), stream(to, from)]
                .into_iter()
                .flatten()
                .collect()
        })
        .collect()
}

/// Decodes a whole stream. `agreed` is the context after the feature exchange; it is looked up when it is needed, since
/// on the data socket the peer's half of the exchange may be in the other stream.
fn walk(stream: &Stream, socket: Socket, agreed: WireContext) -> Vec<Seen> {
    let mut ctx = WireContext::initial();
    let mut packets = Vec::new();
    let mut rest = &stream.bytes[..];
    // The opener's direction starts with the initial packet; on the data socket both have the feature exchange. What
    // the accepting side says on the meta socket, and what has begun in an earlier capture, has neither.
    if !starts_with_h80(rest) {
        ctx = agreed;
    }
    while !rest.is_empty() {
        let frame = decode(&ctx, socket, rest)
            .unwrap_or_else(|error| {
                panic!(
                    "{} -> {}, packet {}: {error}",
                    stream.from,
                    stream.to,
                    packets.len()
                )
            })
            .unwrap_or_else(|| panic!("{} -> {} ends in a packet", stream.from, stream.to));
        let (bytes, after) = rest.split_at(frame.consumed);
        let (payload, after) = after.split_at(frame.payload_len as usize);
        rest = after;
        let seen = Seen {
            ctx,
            socket,
            frame,
            bytes: bytes.to_vec(),
            payload: payload.to_vec(),
        };
        match &seen.frame.packet {
            Packet::ConnectionFeatures(_) => ctx = agreed,
            Packet::InitialMeta => ctx = agreed,
            Packet::Protocol(params) => {
                // From here on the sender's data carries digests of its algorithm.
                let name = params.integrity_alg.as_str();
                let len = DigestAlgorithm::from_name(name).map_or(0, DigestAlgorithm::len);
                ctx.peer_digest_len = len;
                ctx.own_digest_len = len;
            }
            _ => {}
        }
        packets.push(seen);
    }
    packets
}

fn starts_with_h80(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x83, 0x74, 0x02, 0x67])
}

/// The first `P_CONNECTION_FEATURES` of a stream of the data socket.
fn features_of(stream: &Stream) -> ConnectionFeatures {
    let ctx = WireContext::initial();
    let mut rest = &stream.bytes[..];
    loop {
        let frame = decode(&ctx, Socket::Data, rest).unwrap().unwrap();
        if let Packet::ConnectionFeatures(features) = frame.packet {
            return features;
        }
        assert_eq!(frame.packet, Packet::InitialData);
        rest = &rest[frame.consumed..];
    }
}

/// Every packet of a capture: for each TCP connection with payload, its directions.
pub(crate) fn conversation(capture: &Path) -> Vec<Vec<Told>> {
    let mut agreed = None;
    let mut told = Vec::new();
    for connection in connections(capture) {
        if connection.iter().all(|stream| stream.bytes.is_empty()) {
            continue;
        }
        let initial = WireContext::initial();
        let first = decode(&initial, Socket::Data, &connection[0].bytes)
            .unwrap()
            .unwrap();
        let socket = first.packet.socket();
        if first.packet == Packet::InitialData {
            let [opener, acceptor] = &connection[..] else {
                panic!("a connection has two ends")
            };
            let (version, features) = features_of(opener).agree(&features_of(acceptor)).unwrap();
            agreed = Some(WireContext::agreed(version, features));
        } else {
            assert_eq!(first.packet, Packet::InitialMeta);
        }
        let agreed = agreed.expect("the data socket comes first in these captures");
        told.push(
            connection
                .iter()
                .map(|stream| Told {
                    from: stream.from.clone(),
                    to: stream.to.clone(),
                    socket,
                    packets: walk(stream, socket, agreed),
                })
                .collect(),
        );
    }
    told
}

/// All packets of all captures.
pub(crate) fn all_packets() -> Vec<Seen> {
    captures()
        .iter()
        .flat_map(|capture| conversation(capture))
        .flatten()
        .flat_map(|told| told.packets)
        .collect()
}

/// What holds for any bytes: the decoder does not panic, keeps its bounds, and what it decodes is sent as a packet that
/// is decoded to the same. Gives the bytes that a packet and its bulk take, if there is one.
pub(crate) fn check_decoder(ctx: &WireContext, socket: Socket, bytes: &[u8]) -> Option<usize> {
    let frame = decode(ctx, socket, bytes).ok()??;
    assert!(frame.consumed <= bytes.len() && frame.consumed <= 4096);
    assert!(frame.payload_len <= ctx.version.max_bio_size());
    assert!(frame.payload_len % 512 == 0);
    assert!(frame.packet.command().has_bulk() || frame.payload_len == 0);

    let mut again = Vec::new();
    frame.packet.encode(
        ctx,
        frame.volume,
        frame.digest.as_ref(),
        frame.payload_len,
        &mut again,
    );
    let decoded = decode(ctx, socket, &again)
        .expect("our own packet")
        .expect("all of it");
    assert_eq!(decoded.packet, frame.packet);
    assert_eq!(
        (decoded.digest, decoded.payload_len),
        (frame.digest, frame.payload_len)
    );
    if !frame.packet.command().is_connection_wide() {
        assert_eq!(decoded.volume, frame.volume);
    }
    Some(frame.consumed + frame.payload_len as usize)
}
