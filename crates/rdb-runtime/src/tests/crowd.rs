//! Strangers at the port while the peer connects: silent, slow and flooding ones, from the peer's own address too.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::mirror::Seen;
use super::{Node, addresses, request};
use crate::Notice;

const INITIAL_DATA: [u8; 8] = [0x83, 0x74, 0x02, 0x67, 0xff, 0xf2, 0, 0];
const INITIAL_META: [u8; 8] = [0x83, 0x74, 0x02, 0x67, 0xff, 0xf1, 0, 0];
/// Within which time the peer is to be met. It takes a second or two, and a few times that where the kernel drops its calls.
const USUAL: Duration = Duration::from_secs(60);

/// How long an engine waits for the peer's first packets: 4 x ping-timeout.
const HANDSHAKE: Duration = Duration::from_secs(2);

fn call(from: IpAddr, to: SocketAddr) -> Option<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
    socket.set_reuse_address(true).ok()?;
    socket.bind(&SocketAddr::new(from, 0).into()).ok()?;
    socket
        .connect_timeout(&to.into(), Duration::from_millis(500))
        .ok()?;
    Some(TcpStream::from(socket))
}

/// A call that is taken, perhaps not at once.
fn call_taken(from: IpAddr, to: SocketAddr) -> TcpStream {
    let calls = (0..40).find_map(|_| {
        let stream = call(from, to);
        if stream.is_none() {
            std::thread::sleep(Duration::from_millis(100));
        }
        stream
    });
    calls.expect("it listens")
}

/// Callers that go on until they are dropped.
struct Crowd {
    end: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Each keeps up to `keep` of its connections open.
    fn gather(
        callers: usize,
        keep: usize,
        from: IpAddr,
        to: SocketAddr,
        say: &'static [u8],
    ) -> Crowd {
        let (end, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let threads = (0..callers)
            .map(|_| {
                let (end, calls) = (Arc::clone(&end), Arc::clone(&calls));
                std::thread::spawn(move || {
                    let mut open = std::collections::VecDeque::new();
                    while !end.load(Ordering::Relaxed) {
                        let Some(mut stream) = call(from, to) else {
                            std::thread::sleep(Duration::from_millis(1));
                            continue;
                        };
                        calls.fetch_add(1, Ordering::Relaxed);
                        // It may be closed already.
                        let _ = stream.write_all(say);
                        open.push_back(stream);
                        if open.len() > keep {
                            open.pop_front();
                        }
                    }
                })
            })
            .collect();
        Crowd {
            end,
            calls,
            threads,
        }
    }

    /// How often they have called.
    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn await_calls(&self, calls: usize) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.calls() < calls {
            assert!(Instant::now() < end, "{} calls", self.calls());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn next_paired(node: &Node) -> Duration {
    let start = Instant::now();
    loop {
        if let Seen::Paired { .. } = node.next() {
            return start.elapsed();
        }
    }
}

/// Both nodes meet within the usual time, and stay together, while a crowd calls the one with the lower or the higher
/// address.
fn meet_in_a_crowd(from_peer: bool, keep: usize, say: &'static [u8]) {
    for attacked in [0, 1] {
        let nodes = [Node::new(), Node::new()];
        let at = addresses();
        let (here, there) = (attacked, 1 - attacked);
        nodes[here].connect(request(at[here], at[there]));
        let from = if from_peer {
            at[there].ip()
        } else {
            [127, 0, 77, 9].into()
        };
        let crowd = Crowd::gather(4, keep, from, at[here], say);
        crowd.await_calls(200);
        let start = Instant::now();
        nodes[there].connect(request(at[there], at[here]));
        // The crowd may have made a pair of its own before. That the peer is among us shows in what it says.
        let ping = || {
            let packet = replica_proto::Packet::PingAck;
            rdb_engine::Effect::Connection(
                rdb_engine::ConnId::FIRST,
                rdb_engine::ConnEffect::Send {
                    volume: super::VOLUME,
                    packet,
                    digest: None,
                    payload: None,
                    notify: None,
                },
            )
        };
        next_paired(&nodes[there]);
        let mut since = Instant::now();
        loop {
            if since.elapsed() > HANDSHAKE {
                // Its calls may have been lost where the crowd stands in the queue, which a caller does not see. An engine that
                // hears nothing leaves the connection.
                let anew = [
                    rdb_engine::Effect::Connection(
                        rdb_engine::ConnId::FIRST,
                        rdb_engine::ConnEffect::Close,
                    ),
                    rdb_engine::Effect::Connection(
                        rdb_engine::ConnId::FIRST,
                        rdb_engine::ConnEffect::Open,
                    ),
                ];
                nodes[there].order(anew.into());
                next_paired(&nodes[there]);
                since = Instant::now();
            }
            nodes[there].order(vec![ping()]);
            let end = Instant::now() + Duration::from_millis(200);
            let left = || end.saturating_duration_since(Instant::now());
            let mut heard = false;
            while let Ok(seen) = nodes[here].seen.recv_timeout(left()) {
                heard |= matches!(seen, Seen::Received(replica_proto::Packet::PingAck, _));
            }
            if heard {
                break;
            }
            let took = start.elapsed();
            assert!(
                took < USUAL,
                "not met after {took:?}, {} calls",
                crowd.calls()
            );
        }
        let took = start.elapsed();
        assert!(took < USUAL, "met after {took:?}");
        let lines = nodes[here]
            .notices
            .try_iter()
            .filter(|notice| matches!(notice, Notice::Log { .. }))
            .count();
        assert!(lines < 100, "{lines} lines for {} calls", crowd.calls());
    }
}

#[test]
fn the_peer_is_met_among_silent_callers_of_its_own_address() {
    meet_in_a_crowd(true, 250, &[]);
}

#[test]
fn the_peer_is_met_among_slow_callers_of_its_own_address() {
    meet_in_a_crowd(true, 250, &INITIAL_DATA[..3]);
}

#[test]
fn the_peer_is_met_among_many_who_say_that_they_are_its_data_socket() {
    meet_in_a_crowd(true, 8, &INITIAL_DATA);
}

#[test]
fn the_peer_is_met_among_many_who_say_that_they_are_its_meta_socket() {
    meet_in_a_crowd(true, 8, &INITIAL_META);
}

#[test]
fn the_peer_is_met_among_callers_of_other_addresses() {
    meet_in_a_crowd(false, 8, &INITIAL_DATA);
}

/// One who makes a whole pair and says nothing more holds the place once; then the peer is called first.
#[test]
fn a_silent_pair_does_not_keep_the_peer_out() {
    let [a, b] = [Node::new(), Node::new()];
    let [at_a, at_b] = addresses();
    a.connect(request(at_a, at_b));
    let mut data = call_taken(at_b.ip(), at_a);
    data.write_all(&INITIAL_DATA).expect("sent");
    let mut meta = call_taken(at_b.ip(), at_a);
    meta.write_all(&INITIAL_META).expect("sent");
    next_paired(&a);
    b.connect(request(at_b, at_a));
    drop((data, meta));
    let mut again = Vec::new();
    for _ in 0..20 {
        for say in [INITIAL_DATA, INITIAL_META] {
            if let Some(mut stream) = call(at_b.ip(), at_a) {
                let _ = stream.write_all(&say);
                again.push(stream);
            }
        }
    }
    assert!(next_paired(&b) < USUAL);
}

#[test]
fn a_line_is_not_written_for_each_stranger() {
    let a = Node::new();
    let [at_a, at_b] = addresses();
    a.connect(request(at_a, at_b));
    for _ in 0..500 {
        if let Some(mut stranger) = call([127, 0, 77, 9].into(), at_a) {
            let _ = stranger.read(&mut [0; 1]);
        }
    }
    let lines = a.notices.try_iter().filter(
        |notice| matches!(notice, Notice::Log { text, .. } if text.contains("closed a connection")),
    );
    let lines = lines.count();
    assert!((1..=25).contains(&lines), "{lines} lines");
    a.stop();
}
