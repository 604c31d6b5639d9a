//! Wrong bytes at the TCP port, at every state of the conversation: the connection ends with a clear
//! error, the daemon lives, the data stays as it was.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::rng::Rng;
use rdb_tests::wire::{self, Sent};
use rdb_tests::{Pair, Siege, disk, siege};

const BLANK: &[u8] = include_bytes!("../../replica-proto/tests/captures/01-connect-fresh.pcap");
const ALICE: usize = 0;

/// Alice alone, primary, with data; the hostile peer takes bob's place. Her disk is of the size of those in the capture.
fn alice_alone(name: &str, net: &str) -> Result<Pair> {
    Ok(Siege::lay(name, net)?.pair)
}

fn ip(pair: &Pair, node: usize) -> String {
    let address = &pair.hosts[node].address;
    address.split(':').next().unwrap_or_default().to_owned()
}

/// A node says that it waits for its peer a moment before its port is open, which can be long on a busy machine.
fn dial(from: &str, to: &str) -> Result<TcpStream> {
    let mut stream = None;
    rdb_tests::wait_until("an open port", Duration::from_secs(10), || {
        stream = wire::connect_from(from, to).ok();
        Ok(stream.is_some())
    })?;
    stream.context("no connection")
}

/// The two connections, named as data and meta.
fn sockets(pair: &Pair) -> Result<(TcpStream, TcpStream)> {
    let (from, to) = (ip(pair, 1), &pair.hosts[ALICE].address);
    let mut data = dial(&from, to)?;
    data.write_all(&wire::h80(wire::INITIAL_DATA, &[]))?;
    // Two dials of a real peer are never this close; alice takes one connection at a time.
    std::thread::sleep(Duration::from_millis(50));
    let mut meta = dial(&from, to)?;
    meta.write_all(&wire::h80(wire::INITIAL_META, &[]))?;
    Ok((data, meta))
}

/// Alice listens again, told to if need be.
fn listening(pair: &Pair) -> Result<()> {
    siege::await_listening(&pair.alice)
}

/// How a packet is spoiled.
#[derive(Debug, Clone, Copy)]
enum Spoil {
    Truncate,
    FlipHeader,
    FlipPayload,
    WrongMagic,
    HugeLength,
    UnknownCommand,
    Noise,
}

const SPOILS: [Spoil; 7] = [
    Spoil::Truncate,
    Spoil::FlipHeader,
    Spoil::FlipPayload,
    Spoil::WrongMagic,
    Spoil::HugeLength,
    Spoil::UnknownCommand,
    Spoil::Noise,
];

fn spoil(packet: &[u8], how: Spoil, rng: &mut Rng) -> Result<Vec<u8>> {
    let mut bytes = packet.to_vec();
    let header = if bytes.starts_with(&[0x86, 0x20, 0xec, 0x20]) {
        16
    } else {
        8
    };
    let (length_at, command_at) = if header == 16 { (8, 6) } else { (6, 4) };
    match how {
        Spoil::Truncate => bytes.truncate(usize::try_from(rng.below(bytes.len() as u64))?),
        Spoil::FlipHeader => {
            let bit = usize::try_from(rng.below(header as u64 * 8))?;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        Spoil::FlipPayload => {
            for _ in 0..4 {
                let bit = usize::try_from(rng.below(bytes.len() as u64 * 8))?.max(header * 8);
                if let Some(byte) = bytes.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        }
        Spoil::WrongMagic => bytes[..4].copy_from_slice(b"HTTP"),
        Spoil::HugeLength => bytes[length_at..length_at + 2].copy_from_slice(&[0xff, 0xff]),
        Spoil::UnknownCommand => bytes[command_at..command_at + 2].copy_from_slice(&[0x7a, 0x5a]),
        Spoil::Noise => {
            bytes = (0..300)
                .map(|_| u8::try_from(rng.below(256)).unwrap_or(0))
                .collect();
        }
    }
    Ok(bytes)
}

#[test]
fn spoiled_packets_at_every_state_of_the_handshake() -> Result<()> {
    let mut rng = Rng::from_env();
    let mut pair = alice_alone("spoiled", "")?;
    let Sent {
        data: script,
        meta: _,
    } = wire::sent_by(BLANK, [10, 9, 0, 2])?;
    let script = &script[..6.min(script.len())];
    let end = pair.data_bytes();
    let before = disk::fingerprint(pair.disk(ALICE, 0), end)?;
    for (state, packet) in script.iter().enumerate() {
        for how in SPOILS {
            listening(&pair).with_context(|| format!("before packet {state}, {how:?}"))?;
            let (mut data, meta) = sockets(&pair)?;
            let mut bytes: Vec<u8> = script[..state].concat();
            bytes.extend(spoil(packet, how, &mut rng)?);
            wire::throw(&mut data, &bytes, Duration::from_millis(250));
            drop((data, meta));
            pair.alice
                .is_well()
                .with_context(|| format!("packet {state}, {how:?}"))?;
        }
    }
    listening(&pair)?;
    ensure!(
        disk::fingerprint(pair.disk(ALICE, 0), end)? == before,
        "the data changed"
    );
    ensure!(pair.alice.nbd(0)?.read(1 << 20, 65536)? == [0xda; 65536]);
    Ok(())
}

#[test]
fn spoiled_packets_on_the_meta_connection_and_after_the_handshake() -> Result<()> {
    let mut rng = Rng::from_env();
    let mut pair = alice_alone("spoiled-late", "")?;
    let Sent {
        data: script,
        meta: acks,
    } = wire::sent_by(BLANK, [10, 9, 0, 2])?;
    let handshake: Vec<u8> = script[..6.min(script.len())].concat();
    let ack = acks.first().context("the capture holds a packet on meta")?;
    let end = pair.data_bytes();
    let before = disk::fingerprint(pair.disk(ALICE, 0), end)?;
    for how in SPOILS {
        for on_meta in [true, false] {
            listening(&pair).with_context(|| format!("{how:?}"))?;
            let (mut data, mut meta) = sockets(&pair)?;
            wire::throw(&mut data, &handshake, Duration::from_millis(400));
            let bytes = if on_meta {
                spoil(ack, how, &mut rng)?
            } else {
                // UUIDS once more, spoiled: alice is a source by now, or has refused.
                spoil(&script[4], how, &mut rng)?
            };
            let socket = if on_meta { &mut meta } else { &mut data };
            wire::throw(socket, &bytes, Duration::from_millis(200));
            pair.alice
                .is_well()
                .with_context(|| format!("{how:?}, on meta: {on_meta}"))?;
        }
    }
    listening(&pair)?;
    ensure!(
        disk::fingerprint(pair.disk(ALICE, 0), end)? == before,
        "the data changed"
    );
    Ok(())
}

#[test]
fn a_ping_before_the_version_is_agreed_waits_for_it() -> Result<()> {
    let mut pair = alice_alone("early-ping", "")?;
    let script = wire::sent_by(BLANK, [10, 9, 0, 2])?.data;
    listening(&pair)?;
    let (mut data, mut meta) = sockets(&pair)?;
    // Which header a packet on meta has is known when both have said on data what they speak.
    let early = wire::throw(
        &mut meta,
        &wire::h100(0, wire::PING, &[]),
        Duration::from_millis(500),
    );
    ensure!(early.is_empty(), "answered in which version? {early:02x?}");
    data.write_all(&script[..6].concat())?;
    let answer = wire::throw(&mut meta, &[], Duration::from_secs(2));
    let ping_ack = wire::h100(0, wire::PING_ACK, &[]);
    ensure!(
        answer.windows(ping_ack.len()).any(|part| part == ping_ack),
        "{answer:02x?}: {}",
        pair.alice.log_tail(10)
    );
    pair.alice.is_well()
}

#[test]
fn strangers_and_web_browsers_are_turned_away() -> Result<()> {
    let mut pair = alice_alone("strangers", "")?;
    let (from, to) = (ip(&pair, 1), pair.hosts[ALICE].address.clone());
    let network = from.rsplit_once('.').context("an address")?.0.to_owned();
    for (local, bytes) in [
        (from.clone(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (from.clone(), vec![0; 4096]),
        (
            from.clone(),
            wire::h80(wire::FEATURES, &wire::features(86, 101, 0)),
        ),
        // An address that is not the configured peer's.
        (format!("{network}.9"), wire::h80(wire::INITIAL_DATA, &[])),
    ] {
        let mut stream = wire::connect_from(&local, &to)?;
        let answer = wire::throw(&mut stream, &bytes, Duration::from_millis(300));
        ensure!(answer.len() < 200, "{local} got {} bytes", answer.len());
        pair.alice.is_well()?;
    }
    // Many that say nothing.
    let idle: Vec<TcpStream> = (0..50)
        .filter_map(|_| wire::connect_from(&from, &to).ok())
        .collect();
    ensure!(
        pair.alice.nbd(0)?.read(1 << 20, 4096)? == [0xda; 4096],
        "alice serves on"
    );
    drop(idle);
    // And the true peer still gets in.
    pair.bob.start()?;
    pair.bob.adm(&["create-md", "--force", "r0"])?;
    pair.bob.adm(&["up", "r0"])?;
    pair.settle(60)?;
    pair.are_well()?;
    pair.disks_equal()
}

#[test]
fn no_common_protocol_version_is_refused_in_drbds_words() -> Result<()> {
    let mut pair = alice_alone("versions", "")?;
    let (mut data, _meta) = sockets(&pair)?;
    let packet = wire::h80(wire::FEATURES, &wire::features(200, 210, 0));
    wire::throw(&mut data, &packet, Duration::from_millis(500));
    rdb_tests::wait_until("the refusal", Duration::from_secs(10), || {
        Ok(pair.alice.logged("incompatible DRBD dialects") > 0)
    })
    .with_context(|| pair.alice.log_tail(20))?;
    ensure!(
        pair.alice.log().contains("peer supports 200-210"),
        "{}",
        pair.alice.log_tail(10)
    );
    // Anybody may say so: alice goes on waiting for the true peer, and meets it.
    pair.alice
        .await_volume("another try", 10, |volume| volume.cs == "WFConnection")?;
    pair.alice.is_well()
}

#[test]
fn a_wrong_secret_is_refused() -> Result<()> {
    let mut pair = alice_alone(
        "secret",
        "cram-hmac-alg sha1; shared-secret \"the right one\";",
    )?;
    let conf = pair.scratch.join("other.conf");
    std::fs::write(
        &conf,
        pair.plan
            .conf
            .text(&pair.hosts)
            .replace("the right one", "a guess"),
    )?;
    pair.bob.conf = conf;
    pair.bob.start()?;
    pair.bob.adm(&["create-md", "--force", "r0"])?;
    pair.bob.adm(&["up", "r0"])?;
    rdb_tests::wait_until("the refusal", Duration::from_secs(20), || {
        Ok(pair.alice.logged("Authentication of peer failed")
            + pair.bob.logged("Authentication of peer failed")
            > 0)
    })
    .with_context(|| pair.alice.log_tail(20))?;
    ensure!(pair.alice.volume(0)?.cs != "Connected");
    ensure!(
        pair.bob.volume(0)?.ds.starts_with("Inconsistent/"),
        "bob got data"
    );
    let logs = format!("{}{}", pair.alice.log(), pair.bob.log());
    ensure!(
        !logs.contains("the right one") && !logs.contains("a guess"),
        "a secret is in the log"
    );
    pair.are_well()?;

    // With the right one they meet.
    pair.bob.adm(&["down", "r0"])?;
    pair.bob.conf.clone_from(&pair.alice.conf);
    pair.bob.adm(&["up", "r0"])?;
    if pair.alice.volume(0)?.cs == "StandAlone" {
        pair.alice.adm(&["connect", "r0"])?;
    }
    pair.settle(60)?;
    pair.disks_equal()
}
