//! The least of DRBD's wire format that a hostile peer needs (`docs/spec/wire.md`): headers to put
//! wrong things into, and a socket to send them through.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// `P_INITIAL_DATA`: the first packet of the data connection.
pub const INITIAL_DATA: u16 = 0xfff2;
/// `P_INITIAL_META`: the first packet of the meta connection.
pub const INITIAL_META: u16 = 0xfff1;
/// `P_CONNECTION_FEATURES`.
pub const FEATURES: u16 = 0xfffe;

/// A packet with the 8-byte header of protocol 80.
#[must_use]
pub fn h80(command: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = 0x8374_0267u32.to_be_bytes().to_vec();
    packet.extend(command.to_be_bytes());
    packet.extend(
        u16::try_from(payload.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes(),
    );
    packet.extend(payload);
    packet
}

/// A packet with the 16-byte header of protocol 100.
#[must_use]
pub fn h100(volume: u16, command: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = 0x8620_ec20u32.to_be_bytes().to_vec();
    packet.extend(volume.to_be_bytes());
    packet.extend(command.to_be_bytes());
    packet.extend(
        u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    packet.extend([0; 4]);
    packet.extend(payload);
    packet
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
    let local: IpAddr = local.parse()?;
    let peer: SocketAddr = address.parse()?;
    // The standard library cannot choose the local end; a namespace-free way is a raw bind.
    let stream = bound_connect(local, peer).with_context(|| format!("{local} to {peer}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn bound_connect(local: IpAddr, peer: SocketAddr) -> Result<TcpStream> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(peer),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
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
