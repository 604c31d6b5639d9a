//! What a resource's thread does, scene by scene.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rdb_engine::{
    Command, ConnEffect, ConnId, ConnTimer, Effect, Handler, HandlerId, Level, SendTag, Time, Timer,
};
use replica_proto::{Packet, Socket};

use super::nbd_client::{self as nbd, Client};
use super::*;

fn pattern(seed: u32, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(bytes)
    .collect()
}

#[test]
fn two_nodes_find_each_other_within_a_second_and_again_after_a_break() {
    let (a, b) = (Node::new(), Node::new());
    let start = Instant::now();
    pair(&a, &b);
    assert!(
        start.elapsed() < Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
    let start = Instant::now();
    b.admin(Command::Disconnect { force: true }).expect("done");
    assert!(matches!(
        a.next(),
        Seen::Lost(_, rdb_engine::LossCause::Closed { error: 0 })
    ));
    b.order(vec![Effect::Connection(ConnId::FIRST, ConnEffect::Open)]);
    assert!(matches!(a.next(), Seen::Paired { .. }));
    assert!(matches!(b.next(), Seen::Paired { .. }));
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    a.stop();
    b.stop();
}

#[test]
fn a_node_that_starts_late_is_found_at_once() {
    let (a, b) = (Node::new(), Node::new());
    let [at_a, at_b] = addresses();
    a.connect(request(at_a, at_b));
    std::thread::sleep(Duration::from_millis(1200));
    let start = Instant::now();
    b.connect(request(at_b, at_a));
    assert!(matches!(a.next(), Seen::Paired { .. }));
    assert!(matches!(b.next(), Seen::Paired { .. }));
    assert!(
        start.elapsed() < Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn packets_arrive_in_order_with_payloads_of_any_size() {
    let tell = |mirror: &mut Mirror| mirror.tell_packets = true;
    let (a, b) = (Node::new(), Node::with(Frontend::Socket, 2048, tell));
    pair(&a, &b);
    let data = a.file("data", 8 << 20);
    let content = pattern(1, 8 << 20);
    std::fs::write(&data, &content).expect("written");
    a.attach(&data).expect("attached");
    // The mirror sends what its front end writes.
    a.primary();
    let mut client = Client::connect(&a.socket()).expect("the socket is there");
    let sizes = [
        512_usize,
        4096,
        1 << 20,
        65536,
        512,
        1 << 20,
        1 << 20,
        131_072,
    ];
    for (index, &size) in sizes.iter().enumerate() {
        client.send(
            (0, nbd::WRITE),
            0,
            size as u32,
            &pattern(index as u32, size),
        );
    }
    for (index, &size) in sizes.iter().enumerate() {
        let Seen::Received(Packet::Data(header), Some(payload)) = b.next() else {
            panic!("no data packet");
        };
        assert_eq!(header.seq_num, index as u32 + 1);
        assert_eq!(payload.len(), size);
        assert!(
            payload == pattern(index as u32, size),
            "payload {index} is damaged"
        );
    }
    a.stop();
    b.stop();
}

#[test]
fn the_order_of_packets_and_their_tags_is_kept() {
    let tell = |mirror: &mut Mirror| mirror.tell_packets = true;
    let (a, b) = (Node::new(), Node::with(Frontend::Socket, 2048, tell));
    pair(&a, &b);
    let effects = (0..3000_u32)
        .map(|index| {
            Effect::Connection(
                ConnId::FIRST,
                ConnEffect::Send {
                    volume: VOLUME,
                    packet: Packet::StateChgReply(index as i32),
                    digest: None,
                    payload: None,
                    notify: (index % 1000 == 999).then_some(SendTag(u64::from(index))),
                },
            )
        })
        .collect();
    a.order(effects);
    for index in 0..3000 {
        assert_eq!(b.next(), Seen::Received(Packet::StateChgReply(index), None));
    }
    for tag in [999, 1999, 2999] {
        assert_eq!(a.next(), Seen::Sent(SendTag(tag)));
    }
}

#[test]
fn what_is_queued_is_sent_before_the_connection_closes() {
    let tell = |mirror: &mut Mirror| mirror.tell_packets = true;
    let (a, b) = (Node::new(), Node::with(Frontend::Socket, 2048, tell));
    pair(&a, &b);
    let packet = Packet::ConnStChgReply(1);
    let send = Effect::Connection(
        ConnId::FIRST,
        ConnEffect::Send {
            volume: VOLUME,
            packet: packet.clone(),
            digest: None,
            payload: None,
            notify: None,
        },
    );
    // Meanwhile the peer sends, which must not turn the close into a reset.
    b.order(vec![Effect::Connection(
        ConnId::FIRST,
        ConnEffect::Send {
            volume: VOLUME,
            packet: Packet::UnplugRemote,
            digest: None,
            payload: None,
            notify: None,
        },
    )]);
    a.order(vec![
        send,
        Effect::Connection(ConnId::FIRST, ConnEffect::Close),
    ]);
    assert_eq!(b.next(), Seen::Received(packet, None));
    assert!(matches!(
        b.next(),
        Seen::Lost(_, rdb_engine::LossCause::Closed { error: 0 })
    ));
}

#[test]
fn a_peer_that_takes_nothing_is_reported_every_timeout() {
    let a = Node::new();
    let [at_a, at_b] = addresses();
    let listener = TcpListener::bind(at_b).expect("the peer's port");
    let mut config = request(at_a, at_b);
    config.sndbuf_bytes = 16 * 1024;
    a.connect(config);
    // A peer that only accepts, and reads nothing but the initial packets.
    let mut streams: Vec<TcpStream> = Vec::new();
    for _ in 0..2 {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut initial = [0; 8];
        stream.read_exact(&mut initial).expect("the initial packet");
        assert_eq!(initial[..5], [0x83, 0x74, 0x02, 0x67, 0xff]);
        streams.push(stream);
    }
    assert_eq!(
        a.next(),
        Seen::Paired {
            resolve_conflicts: false
        }
    );
    let data = a.file("data", 16 << 20);
    a.attach(&data).expect("attached");
    a.primary();
    let mut client = Client::connect(&a.socket()).expect("the socket is there");
    for index in 0..7_u32 {
        client.send((0, nbd::WRITE), 0, 1 << 20, &pattern(index, 1 << 20));
    }
    let start = Instant::now();
    assert_eq!(a.next(), Seen::Stalled(Socket::Data));
    assert!(
        start.elapsed() > Duration::from_millis(450),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(a.next(), Seen::Stalled(Socket::Data));
    assert!(
        start.elapsed() > Duration::from_millis(1050),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn strangers_and_silent_callers_are_turned_away() {
    let a = Node::new();
    let [at_a, at_b] = addresses();
    a.connect(request(at_a, at_b));
    // The command is answered before its effects have taken place.
    let begun = Instant::now();
    let mut stranger = loop {
        match TcpStream::connect(at_a) {
            Ok(stranger) => break stranger,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "it does not listen: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    stranger
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout");
    assert_eq!(stranger.read(&mut [0; 1]).expect("closed"), 0);
    let logged = std::iter::from_fn(|| a.notices.recv_timeout(PATIENCE).ok())
        .find_map(|notice| match notice {
            Notice::Log {
                level: Level::Warn,
                text,
                ..
            } => Some(text),
            _ => None,
        })
        .expect("a log line");
    assert!(logged.contains("127.0.0.1"), "{logged}");

    let from_peer = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket");
        socket
            .bind(&std::net::SocketAddr::new(at_b.ip(), 0).into())
            .expect("bound");
        socket.connect(&at_a.into()).expect("connected");
        TcpStream::from(socket)
    };
    let mut silent = from_peer();
    let mut liar = from_peer();
    liar.write_all(b"GET / HT").expect("sent");
    for stream in [&mut silent, &mut liar] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let start = Instant::now();
        // Closed, perhaps with a reset.
        assert!(!matches!(stream.read(&mut [0; 1]), Ok(1)));
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
    }
}

#[test]
fn a_node_whose_address_is_not_there_says_so_and_tries_on() {
    let a = Node::new();
    let [_, at_b] = addresses();
    a.connect(request("192.0.2.1:7788".parse().expect("an address"), at_b));
    let Seen::OwnAddress(Some(reason)) = a.next() else {
        panic!("it cannot pair")
    };
    assert!(reason.contains("listening on 192.0.2.1:7788"), "{reason}");
}

#[test]
fn a_node_whose_port_is_taken_listens_as_soon_as_it_is_free() {
    let (a, b) = (Node::new(), Node::new());
    let [at_a, at_b] = addresses();
    let other = TcpListener::bind(at_a).expect("a port");
    let mut own = request(at_a, at_b);
    own.options.connect_int_s = 1;
    a.connect(own);
    let Seen::OwnAddress(Some(reason)) = a.next() else {
        panic!("somebody else listens there")
    };
    assert!(reason.contains(&at_a.to_string()), "{reason}");
    // It is told once, however often it is tried.
    std::thread::sleep(Duration::from_millis(2500));
    drop(other);
    let seen = a.next();
    assert!(matches!(seen, Seen::OwnAddress(None)), "{seen:?}");
    b.connect(request(at_b, at_a));
    assert!(matches!(a.next(), Seen::Paired { .. }));
    assert!(matches!(b.next(), Seen::Paired { .. }));
}

#[test]
fn garbage_on_a_socket_ends_the_connection_with_the_decoders_words() {
    let a = Node::new();
    let [at_a, at_b] = addresses();
    let listener = TcpListener::bind(at_b).expect("the peer's port");
    a.connect(request(at_a, at_b));
    let mut streams: Vec<TcpStream> = Vec::new();
    for _ in 0..2 {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.read_exact(&mut [0; 8]).expect("the initial packet");
        streams.push(stream);
    }
    assert!(matches!(a.next(), Seen::Paired { .. }));
    streams[0].write_all(&[0xab; 64]).expect("sent");
    let Seen::Lost(Socket::Data, rdb_engine::LossCause::BadPacket { error, .. }) = a.next() else {
        panic!("not lost");
    };
    assert!(error.contains("0xabababab"), "{error}");
}

#[test]
fn timers_fire_once_at_their_time() {
    let a = Node::new();
    let now = crate::event_loop::clock();
    a.order(vec![
        Effect::SetTimer {
            timer: Timer::Connection(ConnId::FIRST, ConnTimer::Keepalive),
            at: now.plus_ms(10_000),
        },
        Effect::SetTimer {
            timer: Timer::Connection(ConnId::FIRST, ConnTimer::Handshake),
            at: Time(now.0),
        },
        Effect::SetTimer {
            timer: Timer::Connection(ConnId::FIRST, ConnTimer::Keepalive),
            at: now.plus_ms(80),
        },
        Effect::SetTimer {
            timer: Timer::Admin,
            at: now.plus_ms(40),
        },
        Effect::ClearTimer {
            timer: Timer::Admin,
        },
    ]);
    assert_eq!(
        a.next(),
        Seen::Timer(Timer::Connection(ConnId::FIRST, ConnTimer::Handshake))
    );
    assert_eq!(
        a.next(),
        Seen::Timer(Timer::Connection(ConnId::FIRST, ConnTimer::Keepalive))
    );
    let late = crate::event_loop::clock().ms_since(now);
    assert!((80..400).contains(&late), "{late} ms");
    assert!(a.seen.recv_timeout(Duration::from_millis(50)).is_err());
}

#[test]
fn an_nbd_client_reads_what_it_wrote_and_the_file_has_it() {
    let a = Node::new();
    let data = a.file("data", 16 << 20);
    a.attach(&data).expect("attached");
    assert!(
        Client::connect(&a.socket()).is_err(),
        "no device, no socket"
    );
    a.primary();
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(a.socket())
            .expect("the socket")
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let mut client = Client::connect(&a.socket()).expect("the socket is there");
    assert_eq!(client.size, 16 << 20);
    let mut image = vec![0; 16 << 20];
    for (index, (offset, size)) in [
        (0, 512),
        (512, 4096),
        (1 << 20, 1 << 20),
        (3_000_320, 65536),
        (16_776_704, 512),
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = pattern(index as u32, size);
        client.write(offset, &bytes);
        image[offset as usize..offset as usize + size].copy_from_slice(&bytes);
    }
    assert_eq!(client.ask((0, nbd::FLUSH), 0, 0, &[]), 0);
    assert_eq!(client.ask((nbd::FUA, nbd::WRITE), 8192, 512, &[9; 512]), 0);
    image[8192..8704].fill(9);
    for (kind, offset, length) in [
        (nbd::TRIM, 1 << 20, 4096_u32),
        (nbd::ZEROES, 512, 1024),
        (nbd::ZEROES, 0, 0),
    ] {
        let expected = if length == 0 { 22 } else { 0 };
        assert_eq!(client.ask((nbd::FUA, kind), offset, length, &[]), expected);
        image[offset as usize..offset as usize + length as usize].fill(0);
    }
    // Longer than one discard of the engine, across its parts.
    assert_eq!(
        client.ask((nbd::FUA, nbd::ZEROES), 2 << 20, 11 << 20, &[]),
        0
    );
    image[2 << 20..13 << 20].fill(0);
    assert_eq!(client.ask((0, nbd::READ), 16 << 20, 512, &[]), 22);
    for offset in (0..16).map(|mib| mib << 20) {
        assert!(
            client.read(offset, 1 << 20) == image[offset as usize..][..1 << 20],
            "at {offset}"
        );
    }
    client.send((0, nbd::DISC), 0, 0, &[]);
    let _dir = a.stop();
    assert!(std::fs::read(data).expect("the file") == image);
}

#[test]
fn a_client_holds_the_device_open_until_it_leaves() {
    let a = Node::new();
    a.attach(&a.file("data", 1 << 20)).expect("attached");
    a.primary();
    let mut client = Client::connect(&a.socket()).expect("the socket is there");
    client.write(0, &[1; 512]);
    let secondary = || {
        a.admin(Command::Secondary {
            volume: VOLUME,
            held_open: false,
        })
    };
    assert!(secondary().is_err(), "somebody holds it");
    drop(client);
    let end = Instant::now() + PATIENCE;
    while secondary().is_err() {
        assert!(Instant::now() < end, "it is still held");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Client::connect(&a.socket()).is_err(), "the socket is gone");
    assert!(!a.socket().exists());
    a.primary();
    Client::connect(&a.socket()).expect("and there again");
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
    let a = Node::new();
    std::fs::create_dir_all(a.socket().parent().expect("a directory")).expect("made");
    drop(std::os::unix::net::UnixListener::bind(a.socket()).expect("bound"));
    a.attach(&a.file("data", 1 << 20)).expect("attached");
    a.primary();
    Client::connect(&a.socket()).expect("served");
    a.admin(Command::Secondary {
        volume: VOLUME,
        held_open: false,
    })
    .ok();
}

#[test]
fn small_and_odd_writes_on_large_blocks_lose_nothing() {
    // A loop device with blocks of 4096 bytes over a file; the device is offered with blocks of 512.
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("image");
    std::fs::File::create(&file)
        .and_then(|file| file.set_len(4 << 20))
        .expect("an image");
    let options = rdb_frontend::loopdev::AttachOptions {
        block_size: 4096,
        read_only: false,
    };
    let device = rdb_frontend::loopdev::LoopDevice::attach(&file, options).expect("a loop device");
    let a = Node::new();
    a.attach(&device.path()).expect("attached");
    a.primary();
    let mut client = Client::connect(&a.socket()).expect("the socket is there");
    let mut image = pattern(7, 4 << 20);
    for (index, piece) in image.chunks(1 << 20).enumerate() {
        client.write((index as u64) << 20, piece);
    }
    // All at once: neighbours within a block, and whole blocks that overlap none of them.
    let mut sent = 0;
    for index in 0..256_u64 {
        let (offset, size) = match index % 4 {
            0..=2 => (index / 4 * 16384 + index % 4 * 512, 512),
            _ => (index / 4 * 16384 + 8192, 8192),
        };
        let bytes = pattern(index as u32, size);
        client.send((0, nbd::WRITE), offset, size as u32, &bytes);
        image[offset as usize..offset as usize + size].copy_from_slice(&bytes);
        sent += 1;
    }
    for _ in 0..sent {
        assert_eq!(client.reply().0, 0);
    }
    assert_eq!(client.ask((0, nbd::ZEROES), 512, 3 << 20, &[]), 0);
    image[512..512 + (3 << 20)].fill(0);
    assert!(client.read(512, 1 << 20) == image[512..512 + (1 << 20)]);
    for offset in (0..4).map(|mib| mib << 20) {
        assert!(
            client.read(offset, 1 << 20) == image[offset as usize..][..1 << 20],
            "at {offset}"
        );
    }
    drop(client);
    a.stop();
    device.detach().expect("detached");
    assert!(std::fs::read(file).expect("the image") == image);
}

#[test]
fn exhausted_buffers_stop_reading_and_nothing_is_lost() {
    // The smallest pool, and a hundred megabytes at once from several clients.
    let a = Node::with(Frontend::Socket, 32, |_| {});
    let data = a.file("data", 64 << 20);
    a.attach(&data).expect("attached");
    a.primary();
    let socket = a.socket();
    let clients: Vec<_> = (0..4_u64)
        .map(|index| {
            let socket = socket.clone();
            std::thread::spawn(move || {
                let mut client = Client::connect(&socket).expect("the socket is there");
                let base = index << 24;
                let mut writer = client.twin();
                let sizes: Vec<usize> = (0..40)
                    .map(|n| [1 << 20, 4096, 262_144, 512][n % 4])
                    .collect();
                let for_writer = sizes.clone();
                let writing = std::thread::spawn(move || {
                    for (n, &size) in for_writer.iter().enumerate() {
                        let offset = base + (n as u64 % 16) * (1 << 20);
                        writer.send(
                            (0, nbd::WRITE),
                            offset,
                            size as u32,
                            &pattern(n as u32, size),
                        );
                    }
                });
                for _ in 0..sizes.len() {
                    assert_eq!(client.reply().0, 0);
                }
                writing.join().expect("written");
                // What reads bring waits for its reader meanwhile: more than the reserve holds.
                for n in 0..12 {
                    client.send((0, nbd::READ), base + (n << 20), 1 << 20, &[]);
                }
                for _ in 0..12 {
                    assert_eq!(client.reply().0, 0);
                    client
                        .stream
                        .read_exact(&mut vec![0; 1 << 20])
                        .expect("the data");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client");
    }
    a.stop();
}

#[test]
fn writes_that_never_end_do_not_keep_packets_of_the_peer_waiting() {
    let swallow = |mirror: &mut Mirror| mirror.swallow_writes = true;
    let (a, b) = (Node::new(), Node::with(Frontend::Socket, 32, swallow));
    pair(&a, &b);
    for node in [&a, &b] {
        node.attach(&node.file("data", 16 << 20)).expect("attached");
        node.primary();
    }
    let mut greedy = Client::connect(&b.socket()).expect("the socket is there");
    greedy
        .stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .expect("a timeout");
    let mut block = vec![0; 28 + (1 << 20)];
    let mut header = Vec::new();
    header.extend_from_slice(&0x2560_9513_u32.to_be_bytes());
    header.extend_from_slice(&[0, 0, 0, 1]);
    header.extend_from_slice(&[0; 16]);
    header.extend_from_slice(&(1_u32 << 20).to_be_bytes());
    block[..28].copy_from_slice(&header);
    while greedy.stream.write_all(&block).is_ok() {}
    // All of b's buffers for front ends are held; its mirror goes on.
    let mut client = Client::connect(&a.socket()).expect("the socket is there");
    for index in 0..20_u32 {
        client.write(u64::from(index % 8) << 20, &pattern(index, 1 << 20));
    }
}

#[test]
fn mirrored_writes_reach_both_files() {
    let (a, b) = (Node::new(), Node::new());
    pair(&a, &b);
    let files = [&a, &b].map(|node| {
        let file = node.file("data", 32 << 20);
        node.attach(&file).expect("attached");
        file
    });
    a.primary();
    let mut client = Client::connect(&a.socket()).expect("the socket is there");
    for round in 0..20_u32 {
        for slot in 0..32_u32 {
            let size = 512 << ((round + slot) % 12);
            let bytes = pattern(round * 100 + slot, size);
            client.send((0, nbd::WRITE), u64::from(slot) << 20, size as u32, &bytes);
        }
        for _ in 0..32 {
            assert_eq!(client.reply().0, 0);
        }
    }
    drop(client);
    let _dirs = [a, b].map(Node::stop);
    let [one, two] = files.map(|file| std::fs::read(file).expect("a file"));
    assert!(one == two && one.iter().any(|&byte| byte != 0));
}

#[test]
fn a_data_packet_that_lies_about_its_place_is_an_error_not_a_panic() {
    let (a, b) = (Node::new(), Node::new());
    pair(&a, &b);
    let data = b.file("data", 1 << 20);
    b.attach(&data).expect("attached");
    a.attach(&a.file("data", 8 << 20)).expect("attached");
    a.primary();
    let mut client = Client::connect(&a.socket()).expect("the socket is there");
    // b's disk is smaller: the write fails there, and the file does not grow.
    client.write(4 << 20, &[1; 512]);
    assert_eq!(std::fs::metadata(&data).expect("the file").len(), 1 << 20);
    b.admin(Command::Detach {
        volume: VOLUME,
        force: false,
    })
    .expect("detached");
    client.write(0, &[1; 512]);
    b.stop();
}

/// The next notice of a device: up with its node, or down.
fn next_device(node: &Node) -> Option<PathBuf> {
    loop {
        match node
            .notices
            .recv_timeout(PATIENCE)
            .expect("a notice of the device")
        {
            Notice::DeviceUp { node, .. } => return Some(node.expect("a device node")),
            Notice::DeviceDown { .. } => return None,
            Notice::Log {
                level: Level::Error,
                text,
                ..
            } => panic!("{text}"),
            _ => {}
        }
    }
}

#[test]
fn the_device_node_is_there_while_primary_and_stays_while_it_is_held() {
    use std::os::unix::fs::FileExt;

    Frontend::Fuse.settle().expect("FUSE and loop devices");
    let a = Node::with(Frontend::Fuse, 2048, |_| {});
    let data = a.file("data", 16 << 20);
    a.attach(&data).expect("attached");
    a.primary();
    let path = next_device(&a).expect("up");
    let device = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("the node");
    let content = pattern(3, 8 << 20);
    device.write_all_at(&content, 4 << 20).expect("written");
    device.write_all_at(&[5; 512], 512).expect("written");
    device.sync_all().expect("flushed");
    let secondary = || {
        a.admin(Command::Secondary {
            volume: VOLUME,
            held_open: false,
        })
    };
    assert!(secondary().is_err(), "somebody holds it");
    drop(device);
    let mut back = vec![0; 8 << 20];
    std::fs::File::open(&path)
        .and_then(|file| file.read_exact_at(&mut back, 4 << 20))
        .expect("read");
    assert!(back == content);
    secondary().expect("nobody holds it");
    assert_eq!(next_device(&a), None);
    let image = std::fs::read(&data).expect("the file");
    assert!(image[4 << 20..12 << 20] == content && image[512..1024] == [5; 512]);
    // There again at once, and given back when the thread ends.
    a.primary();
    let again = next_device(&a).expect("up again");
    assert!(again.exists());
    let number = again
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let _dir = a.stop();
    assert!(!std::path::Path::new(&format!("/sys/block/{number}/loop/backing_file")).exists());
}

#[test]
fn a_handler_is_asked_for_and_its_end_comes_back() {
    let a = Node::new();
    let (id, handler, volume) = (HandlerId(7), Handler::FencePeer, None);
    a.order(vec![Effect::RunHandler {
        id,
        handler,
        volume,
        snapshot: None,
    }]);
    let notice = a.notices.recv_timeout(PATIENCE).expect("a notice");
    let Notice::RunHandler {
        id: asked,
        handler: Handler::FencePeer,
        volume: None,
        snapshot: None,
    } = notice
    else {
        panic!("another notice");
    };
    a.handle.handler_done(asked, 4);
    assert_eq!(a.next(), Seen::HandlerDone(id, 4));
    // Nobody hears of it any more: nothing happens.
    let handle = a.handle.clone();
    let _dir = a.stop();
    handle.handler_done(id, 0);
}

#[test]
fn a_client_that_takes_no_replies_leaves_buffers_to_the_others() {
    let a = Node::with(Frontend::Socket, 32, |_| {});
    a.attach(&a.file("data", 8 << 20)).expect("attached");
    a.primary();
    let mut stuck = Client::connect(&a.socket()).expect("the socket is there");
    for _ in 0..100 {
        stuck.send((0, nbd::READ), 0, 1 << 20, &[]);
    }
    let mut other = Client::connect(&a.socket()).expect("the socket is there");
    for index in 0..20 {
        other.read((index % 8) << 20, 65536);
    }
    // And it is served all the same once it looks.
    for _ in 0..100 {
        assert_eq!(stuck.reply().0, 0);
        stuck
            .stream
            .read_exact(&mut vec![0; 1 << 20])
            .expect("the data");
    }
}
