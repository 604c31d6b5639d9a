//! A peer that asks without end and takes no answers: what it makes this node hold has a bound. The engine is the real one.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use replica_proto::{
    AfterSb, AlgorithmName, ConnFlags, ConnState, ConnectionFeatures, Packet, ProtocolParams,
    Sizes, StateWord, SyncParam, WireContext, WireProtocol, decode,
};

use super::engine::{disk_file, start, status};
use super::{PATIENCE, addresses, request};
use crate::ResourceHandle;

/// A peer made by hand, as far as the exchange of parameters.
struct Peer {
    data: TcpStream,
    meta: TcpStream,
    wire: WireContext,
}

fn call(from: SocketAddr, to: SocketAddr, initial: u8) -> TcpStream {
    let end = Instant::now() + PATIENCE;
    loop {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket");
        socket.set_recv_buffer_size(64 * 1024).expect("a size");
        socket
            .bind(&SocketAddr::new(from.ip(), 0).into())
            .expect("bound");
        if socket.connect(&to.into()).is_ok() {
            let mut stream = TcpStream::from(socket);
            let packet = [0x83, 0x74, 0x02, 0x67, 0xff, initial, 0, 0];
            stream.write_all(&packet).expect("sent");
            return stream;
        }
        assert!(Instant::now() < end, "nobody listens");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Peer {
    fn connect(node: &ResourceHandle, from: SocketAddr, to: SocketAddr) -> Peer {
        let (data, meta) = (call(from, to, 0xf2), call(from, to, 0xf1));
        let mut peer = Peer {
            data,
            meta,
            wire: WireContext::initial(),
        };
        peer.say(&Packet::ConnectionFeatures(ConnectionFeatures::OURS));
        let mut heard = Vec::new();
        let mut sizes = None;
        let mut uuids = None;
        while sizes.is_none() || uuids.is_none() {
            let mut some = [0; 4096];
            let read = peer.data.read(&mut some).expect("it answers");
            assert!(read > 0, "closed");
            heard.extend_from_slice(&some[..read]);
            let socket = replica_proto::Socket::Data;
            while let Some(frame) = decode(&peer.wire, socket, &heard).expect("a packet") {
                heard.drain(..frame.consumed);
                match frame.packet {
                    Packet::ConnectionFeatures(theirs) => {
                        let (version, features) =
                            ConnectionFeatures::OURS.agree(&theirs).expect("agreed");
                        peer.wire = WireContext::agreed(version, features);
                    }
                    Packet::Sizes(theirs) => sizes = Some(theirs),
                    Packet::Uuids(theirs) => uuids = Some(theirs),
                    _ => {}
                }
            }
        }
        let disconnect = AfterSb::Disconnect;
        peer.say(&Packet::Protocol(ProtocolParams {
            protocol: WireProtocol::C,
            after_sb_0p: disconnect,
            after_sb_1p: disconnect,
            after_sb_2p: disconnect,
            conn_flags: ConnFlags::empty(),
            two_primaries: false,
            integrity_alg: AlgorithmName::default(),
        }));
        peer.say(&Packet::SyncParam(SyncParam::default()));
        peer.say(&Packet::Sizes(sizes.expect("told")));
        peer.say(&Packet::Uuids(uuids.expect("told")));
        // Secondary, Inconsistent as the other one, waiting for the connection.
        let state = 2 | u32::from(ConnState::WFReportParams as u8) << 4 | 4 << 9 | 6 << 13;
        peer.say(&Packet::State(StateWord(state)));
        let end = Instant::now() + PATIENCE;
        while status(node).volumes[0].state.conn != ConnState::Connected {
            assert!(Instant::now() < end, "{:?}", status(node));
            std::thread::sleep(Duration::from_millis(5));
        }
        peer
    }

    fn bytes(&self, packet: &Packet) -> Vec<u8> {
        let mut out = Vec::new();
        packet.encode(&self.wire, 0, None, 0, &mut out);
        out
    }

    fn say(&mut self, packet: &Packet) {
        let bytes = self.bytes(packet);
        self.data.write_all(&bytes).expect("taken");
    }

    /// Says this again and again, taking nothing, until it is not listened to for two seconds. Comes with how much was
    /// taken, and the most memory that this process had meanwhile.
    fn flood(&mut self, on_meta: bool, packet: &Packet, seconds: u64) -> (usize, usize) {
        let many = self.bytes(packet).repeat(2000);
        let stream = if on_meta {
            &mut self.meta
        } else {
            &mut self.data
        };
        stream.set_nonblocking(true).expect("set");
        let end = Instant::now() + Duration::from_secs(seconds);
        let (mut taken, mut peak, mut moved) = (0, 0, Instant::now());
        while Instant::now() < end && moved.elapsed() < Duration::from_secs(2) {
            match stream.write(&many[taken % many.len()..]) {
                Ok(bytes) => {
                    (taken, moved) = (taken + bytes, Instant::now());
                    peak = peak.max(resident_mib());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_) => break, // it has closed
            }
        }
        (taken, peak)
    }
}

fn resident_mib() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("a number");
    let pages: usize = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("pages");
    (pages * 4096) >> 20
}

fn floods(name: &str, on_meta: bool, packet: Packet) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(dir.path().join(name)).expect("made");
    disk_file(&dir.path().join(name).join("disk"), 8 << 20);
    let node = start(dir.path(), name);
    let [at_node, at_peer] = addresses();
    let mut connect = request(at_node, at_peer);
    connect.options.ping_timeout_ds = 5;
    connect.options.timeout_ds = 20;
    connect.options.ping_int_s = 2;
    let (reply, wait) = channel();
    node.connect(connect, Box::new(move |result| drop(reply.send(result))));
    wait.recv_timeout(PATIENCE)
        .expect("an answer")
        .expect("taken");
    let mut peer = Peer::connect(&node, at_peer, at_node);
    let before = resident_mib();
    let (taken, peak) = peer.flood(on_meta, &packet, 8);
    let more = peak.saturating_sub(before);
    assert!(more < 40, "{more} MiB more after {taken} bytes");
    assert!(taken > 1 << 20, "only {taken} bytes: that is no flood");
    // Who takes nothing is left, as one who does not acknowledge.
    let end = Instant::now() + Duration::from_secs(30);
    while status(&node).volumes[0].state.conn >= ConnState::Connected {
        assert!(Instant::now() < end, "{:?}", status(&node));
        std::thread::sleep(Duration::from_millis(50));
    }
    node.stop();
    node.join();
}

#[test]
fn sizes_asked_for_without_end_are_bounded() {
    floods("sizes", false, {
        Packet::Sizes(Sizes {
            d_size: 16_000,
            c_size: 0,
            ..Sizes::default()
        })
    });
}

#[test]
fn pings_without_end_are_bounded() {
    floods("pings", true, Packet::Ping);
}

#[test]
fn reads_without_end_are_bounded() {
    floods("reads", false, {
        Packet::DataRequest(replica_proto::BlockRequest {
            sector: 0,
            block_id: replica_proto::BlockId::from_u64(7),
            bytes: 4096,
        })
    });
}

#[test]
fn state_changes_asked_for_without_end_are_bounded() {
    floods("states", false, {
        Packet::StateChgReq(replica_proto::StateChange {
            mask: StateWord(3),
            val: StateWord(1),
        })
    });
}
