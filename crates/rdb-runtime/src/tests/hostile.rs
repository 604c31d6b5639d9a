//! NBD clients that sit on what others need, and memory that grows.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::nbd_client::{self as nbd, Client};
use super::*;

/// A node with the smallest pool, two chunks a reserve, that is primary over a disk of 8 MiB.
fn small() -> Node {
    small_with(|_| {})
}

fn small_with(change: impl FnOnce(&mut Mirror) + Send + 'static) -> Node {
    let node = Node::with(Frontend::Socket, 32, change);
    let data = node.file("data", 8 << 20);
    node.attach(&data).expect("attached");
    node.primary();
    node
}

fn client(node: &Node) -> Client {
    Client::connect(&node.socket()).expect("the socket is there")
}

/// The header of a write of 1 MiB, and half of its data.
fn half_a_write(node: &Node) -> Client {
    let mut client = client(node);
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0, 1]);
    bytes.extend(7_u64.to_be_bytes());
    bytes.extend(0_u64.to_be_bytes());
    bytes.extend((1_u32 << 20).to_be_bytes());
    bytes.resize(bytes.len() + (1 << 19), 0xaa);
    client.stream.write_all(&bytes).expect("sent");
    client
}

fn is_closed(client: &mut Client) -> bool {
    client
        .stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a socket");
    let mut rest = Vec::new();
    match client.stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn half_writes_and_silence_do_not_keep_the_buffers_from_others() {
    let node = small();
    let mut silent: Vec<Client> = (0..4).map(|_| half_a_write(&node)).collect();
    let mut good = client(&node);
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    let data = vec![0x55; 1 << 20];
    good.send((0, nbd::WRITE), 1 << 20, 1 << 20, &data);
    assert_eq!(good.reply().0, 0, "the good client's write is done");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    // A client that waits for nobody may take its time, with a buffer and without.
    std::thread::sleep(Duration::from_secs(12));
    for slow in &mut silent {
        slow.stream
            .write_all(&vec![0xaa; 1 << 19])
            .expect("still there");
        assert_eq!(slow.reply().0, 0);
    }
    assert_eq!(good.read(0, 1 << 20), vec![0xaa; 1 << 20]);
    node.stop();
}

#[test]
fn half_a_write_gives_way_when_whole_ones_have_the_other_buffers() {
    let node = small_with(|mirror| mirror.keep_writes = 1);
    let data = vec![0x55; 1 << 20];
    let mut kept = client(&node);
    kept.send((0, nbd::WRITE), 0, 1 << 20, &data);
    // The reserve for writes that are being sent has its memory by then.
    std::thread::sleep(Duration::from_millis(500));
    let mut half = half_a_write(&node);
    std::thread::sleep(Duration::from_millis(200));
    let mut good = client(&node);
    let start = Instant::now();
    good.send((0, nbd::WRITE), 1 << 20, 1 << 20, &data);
    assert_eq!(good.reply().0, 0, "the good client's write is done");
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    assert!(is_closed(&mut half), "it had to go");
    node.stop();
}

#[test]
fn clients_that_take_no_replies_do_not_keep_the_buffers_from_others() {
    let node = small();
    let mut deaf: Vec<Client> = (0..4).map(|_| client(&node)).collect();
    for client in &mut deaf {
        for _ in 0..8 {
            client.send((0, nbd::READ), 0, 512 << 10, &[]);
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    let mut good = client(&node);
    let start = Instant::now();
    assert_eq!(good.read(0, 1 << 20).len(), 1 << 20);
    assert!(
        start.elapsed() < Duration::from_secs(19),
        "{:?}",
        start.elapsed()
    );
    node.stop();
}

#[test]
fn connections_that_say_nothing_make_room_for_those_that_do() {
    let node = small();
    let mut silent: Vec<UnixStream> = (0..64)
        .map(|_| UnixStream::connect(node.socket()).expect("the socket is there"))
        .collect();
    let start = Instant::now();
    let mut good = loop {
        match Client::connect(&node.socket()) {
            Ok(client) => break client,
            Err(_) if start.elapsed() < Duration::from_secs(15) => {
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(error) => panic!("still no place for a client: {error}"),
        }
    };
    assert_eq!(good.read(0, 512).len(), 512);
    // One that has negotiated stays, however little it says.
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(good.read(0, 512).len(), 512);
    for stream in &mut silent {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        assert!(stream.read_to_end(&mut Vec::new()).is_ok(), "it is closed");
    }
    node.stop();
}

#[test]
fn a_larger_max_buffers_gets_its_memory_while_writes_go_on() {
    let (a, b) = (small_with(|mirror| mirror.keep_writes = 2), Node::new());
    let [at_a, at_b] = addresses();
    let data = vec![0x77; 1 << 20];
    let mut held = [client(&a), client(&a)];
    for client in &mut held {
        client.send((0, nbd::WRITE), 0, 1 << 20, &data);
    }
    std::thread::sleep(Duration::from_millis(200));
    let mut waits = client(&a);
    let waits = std::thread::spawn(move || waits.ask((0, nbd::WRITE), 0, 1 << 20, &data));
    std::thread::sleep(Duration::from_millis(200));
    assert!(!waits.is_finished(), "there is no buffer for it");
    let mut request = request(at_a, at_b);
    request.options.max_buffers = 131_072;
    a.connect(request);
    // It waited for a buffer; there are many now. What the others hold is of the arena before.
    assert_eq!(waits.join().expect("no panic"), 0);
    let mut said = String::new();
    while !said.contains("max-buffers 131072: 672 MiB of buffers") {
        match a.notices.recv_timeout(PATIENCE) {
            Ok(Notice::Log { text, .. }) => said = text,
            Ok(_) => {}
            Err(error) => panic!("nothing is said of it: {error}"),
        }
    }
    // More at a time than the arena at the start could hold.
    let mut many: Vec<Client> = (0..6).map(|_| half_a_write(&a)).collect();
    for client in &mut many {
        client.stream.write_all(&vec![0xaa; 1 << 19]).expect("sent");
        assert_eq!(client.reply().0, 0);
    }
    a.stop();
    b.stop();
}

#[test]
fn a_socket_that_is_removed_comes_back_and_its_clients_notice_nothing() {
    use std::os::unix::fs::PermissionsExt;

    let node = small();
    let mut kept = client(&node);
    let directory = node.dir.path().join("nbd");
    // The directory with all that is in it; the file alone; and something else in its place.
    let spoil: [fn(&Path); 3] = [
        |directory| std::fs::remove_dir_all(directory).expect("removed"),
        |directory| std::fs::remove_file(directory.join("r0.sock")).expect("removed"),
        |directory| {
            std::fs::write(directory.join("other"), "").expect("written");
            std::fs::rename(directory.join("other"), directory.join("r0.sock"))
                .expect("in its place");
        },
    ];
    for spoil in spoil {
        spoil(&directory);
        let begun = Instant::now();
        let mut new = loop {
            match Client::connect(&node.socket()) {
                Ok(client) => break client,
                Err(_) => assert!(begun.elapsed() < PATIENCE, "it does not come back"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(new.ask((0, nbd::FLUSH), 0, 0, &[]), 0);
        assert_eq!(kept.ask((0, nbd::FLUSH), 0, 0, &[]), 0);
        let mode = |path: &Path| {
            let found = std::fs::symlink_metadata(path).expect("it is there");
            found.permissions().mode() & 0o777
        };
        assert_eq!(
            (mode(&directory) & !0o755, mode(&node.socket())),
            (0, 0o600)
        );
    }
    let socket = node.socket();
    let _dir = node.stop();
    assert!(!socket.exists(), "it goes with its device");
}
