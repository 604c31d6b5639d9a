//! The least of DRBD's wire format that a hostile peer needs (`docs/spec/wire.md`): headers to put
//! wrong things into, and a socket to send them through.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// `P_INITIAL_DATA`: the first packet of the data connection.
pub const INITIAL_DATA: u16 = 0xfff2;
/// `P_INITIAL_META`: the first packet of the meta connection.
pub const INITIAL_META: u16 = 0xfff1;
/// `P_PING`.
pub const PING: u16 = 0x13;
/// `P_PING_ACK`.
pub const PING_ACK: u16 = 0x14;
/// `P_CONNECTION_FEATURES`.
pub const FEATURES: u16 = 0xfffe;

/// The three shapes of a header (`docs/spec/wire.md`, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// 8 bytes, a length of 16 bits: features, and protocols below 95.
    H80,
    /// 8 bytes, a length of 32 bits: protocols 95 to 99.
    H95,
    /// 16 bytes, with a volume: protocols from 100.
    H100,
}

impl Header {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::H80, Self::H95, Self::H100];

    /// A whole packet.
    #[must_use]
    pub fn packet(self, volume: u16, command: u16, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.lying(volume, command, length, payload)
    }

    /// A packet that says of itself to have this length, whatever follows.
    #[must_use]
    pub fn lying(self, volume: u16, command: u16, length: u32, payload: &[u8]) -> Vec<u8> {
        let mut packet = match self {
            Self::H80 => 0x8374_0267u32.to_be_bytes().to_vec(),
            Self::H95 => 0x835au16.to_be_bytes().to_vec(),
            Self::H100 => {
                let mut head = 0x8620_ec20u32.to_be_bytes().to_vec();
                head.extend(volume.to_be_bytes());
                head
            }
        };
        packet.extend(command.to_be_bytes());
        match self {
            // The lowest 16 bits are all that there is room for.
            Self::H80 => packet.extend(&length.to_be_bytes()[2..]),
            Self::H95 => packet.extend(length.to_be_bytes()),
            Self::H100 => {
                packet.extend(length.to_be_bytes());
                packet.extend([0; 4]);
            }
        }
        packet.extend(payload);
        packet
    }
}

/// A packet with the 8-byte header of protocol 80.
#[must_use]
pub fn h80(command: u16, payload: &[u8]) -> Vec<u8> {
    Header::H80.packet(0, command, payload)
}

/// A packet with the 16-byte header of protocol 100.
#[must_use]
pub fn h100(volume: u16, command: u16, payload: &[u8]) -> Vec<u8> {
    Header::H100.packet(volume, command, payload)
}

/// The feature packet's payload: lowest and highest protocol version, feature flags.
#[must_use]
pub fn features(low: u32, high: u32, flags: u32) -> Vec<u8> {
    let mut payload = low.to_be_bytes().to_vec();
    payload.extend(flags.to_be_bytes());
    payload.extend(high.to_be_bytes());
    payload.extend([0; 60]);
    payload
}

/// Connects to `address` (`ip:port`) from a local address.
///
/// # Errors
/// When the connection is refused.
pub fn connect_from(local: &str, address: &str) -> Result<TcpStream> {
    connect_with(local, address, None)
}

/// Connects with a receive buffer of this size: a small one lets the other side feel at once that
/// nobody reads.
///
/// # Errors
/// When the connection is refused.
pub fn connect_with(local: &str, address: &str, receive: Option<usize>) -> Result<TcpStream> {
    let local: IpAddr = local.parse()?;
    let peer: SocketAddr = address.parse()?;
    // The standard library cannot choose the local end; a namespace-free way is a raw bind.
    let stream =
        bound_connect(local, peer, receive).with_context(|| format!("{local} to {peer}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn bound_connect(local: IpAddr, peer: SocketAddr, receive: Option<usize>) -> Result<TcpStream> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(peer),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    if let Some(bytes) = receive {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&SocketAddr::new(local, 0).into())?;
    socket.connect_timeout(&peer.into(), Duration::from_secs(5))?;
    Ok(socket.into())
}

/// Sends bytes and reads what comes back until the other side closes, pauses for `pause`, or has
/// sent 64 KiB. Errors of the connection end it: the other side may close at any moment.
pub fn throw(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> Vec<u8> {
    let mut answer = Vec::new();
    if stream.write_all(bytes).is_err() {
        return answer;
    }
    let _ = stream.set_read_timeout(Some(pause));
    let mut buffer = [0; 4096];
    while answer.len() < 65_536 {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => answer.extend(&buffer[..length]),
        }
    }
    answer
}

/// What one side of a captured conversation sent: whole packets, in order, without the first
/// packet that names the connection.
#[derive(Debug, Default)]
pub struct Sent {
    /// On the data connection.
    pub data: Vec<Vec<u8>>,
    /// On the meta connection.
    pub meta: Vec<Vec<u8>>,
}

/// Takes what `from` sent out of a pcap of Ethernet frames (IPv4, TCP, nothing lost).
///
/// # Errors
/// When the file is no such pcap.
pub fn sent_by(pcap: &[u8], from: [u8; 4]) -> Result<Sent> {
    let mut streams: BTreeMap<Direction, BTreeMap<u32, Vec<u8>>> = BTreeMap::new();
    let mut rest = pcap.get(24..).context("no pcap header")?;
    while let Some((header, tail)) = rest.split_first_chunk::<16>() {
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let frame = tail.get(..length).context("a frame is cut off")?;
        rest = &tail[length..];
        let Some((source, ports, sequence, payload)) = tcp(frame) else {
            continue;
        };
        let segments = streams.entry((source, ports.0, ports.1)).or_default();
        if !payload.is_empty() {
            segments.insert(sequence, payload.to_vec());
        }
    }
    let mut sent = Sent::default();
    let packets: BTreeMap<_, _> = streams
        .into_iter()
        .map(|(key, segments)| {
            let bytes: Vec<u8> = segments.into_values().flatten().collect();
            (key, packets(&bytes))
        })
        .collect();
    for (key, own) in &packets {
        let (source, port, peer_port) = *key;
        if source != from {
            continue;
        }
        let other = packets
            .iter()
            .find(|((s, p, q), _)| *s != from && (*p, *q) == (peer_port, port));
        let both = own
            .iter()
            .chain(other.into_iter().flat_map(|(_, packets)| packets));
        let first = |wanted| both.clone().any(|packet| command(packet) == wanted);
        let target = if first(INITIAL_DATA) {
            &mut sent.data
        } else if first(INITIAL_META) {
            &mut sent.meta
        } else {
            continue;
        };
        target.extend(
            own.iter()
                .filter(|packet| ![INITIAL_DATA, INITIAL_META].contains(&command(packet)))
                .cloned(),
        );
    }
    Ok(sent)
}

/// Source address, source port, destination port.
type Direction = ([u8; 4], u16, u16);
type Segment<'a> = ([u8; 4], (u16, u16), u32, &'a [u8]);

/// Source address, ports, sequence number and payload of an Ethernet frame.
fn tcp(frame: &[u8]) -> Option<Segment<'_>> {
    let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    if word(12)? != 0x0800 || *frame.get(23)? != 6 {
        return None;
    }
    let ip = usize::from(frame.get(14)? & 15) * 4;
    let end = 14 + usize::from(word(16)?);
    let at = 14 + ip;
    let sequence = u32::from(word(at + 4)?) << 16 | u32::from(word(at + 6)?);
    let start = at + usize::from(frame.get(at + 12)? >> 4) * 4;
    let source = [frame[26], frame[27], frame[28], frame[29]];
    Some((
        source,
        (word(at)?, word(at + 2)?),
        sequence,
        frame.get(start..end)?,
    ))
}

/// Splits a stream at its headers.
fn packets(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while bytes.len() >= 8 {
        let length = if bytes[..4] == [0x86, 0x20, 0xec, 0x20] && bytes.len() >= 16 {
            16 + u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize
        } else {
            8 + usize::from(u16::from_be_bytes([bytes[6], bytes[7]]))
        };
        let length = length.min(bytes.len());
        found.push(bytes[..length].to_vec());
        bytes = &bytes[length..];
    }
    found
}

/// The command of a packet with any of the two headers that captures hold.
#[must_use]
pub fn command(packet: &[u8]) -> u16 {
    let at = if packet.starts_with(&[0x86, 0x20, 0xec, 0x20]) {
        6
    } else {
        4
    };
    match packet.get(at..at + 2) {
        Some(bytes) => u16::from_be_bytes([bytes[0], bytes[1]]),
        None => u16::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_captured_handshake_is_taken_apart() -> Result<()> {
        let pcap = include_bytes!("../../replica-proto/tests/captures/01-connect-fresh.pcap");
        for from in [[10, 9, 0, 1], [10, 9, 0, 2]] {
            let sent = sent_by(pcap, from)?;
            let commands: Vec<u16> = sent.data.iter().map(|packet| command(packet)).collect();
            // CONNECTION_FEATURES, PROTOCOL, SYNC_PARAM89, SIZES, UUIDS, STATE
            assert_eq!(
                commands[..6],
                [FEATURES, 0xb, 0x23, 0xd, 0xc, 0xe],
                "{commands:x?}"
            );
            // The second node answered the first's wish to disconnect.
            let acks: Vec<u16> = sent.meta.iter().map(|packet| command(packet)).collect();
            assert_eq!(acks, if from[3] == 2 { vec![0x2b] } else { vec![] });
        }
        Ok(())
    }
}
