//! Connections of the kernel's NBD client. The driver shuts one on which a request took long, and sends the request again by
//! another; what the shut one still holds must not be done any more, for newer requests may have followed.

use std::net::Shutdown;
use std::sync::mpsc::Sender;

use super::nbd_client::{self as nbd, Client};
use super::*;

const SIZE: u64 = 1 << 20;

/// A node that is Primary and tells of the writes that its engine is given.
fn node() -> Node {
    let node = Node::with(Frontend::Socket, 2048, |mirror| mirror.tell_writes = true);
    let data = node.file("data", SIZE);
    node.attach(&data).expect("attached");
    node.primary();
    node
}

/// A connection that is served.
fn connection(node: &Node) -> Client {
    let (client, server) = Client::kernel(SIZE);
    node.handle.serve_kernel(VOLUME, server);
    client
}

/// Keeps the thread from its work until what is returned is dropped.
fn hold(node: &Node) -> Sender<()> {
    let (tell, wait) = channel();
    let (release, held) = channel();
    node.handle.status(Box::new(move |_| {
        tell.send(()).expect("somebody waits");
        // It ends with the other side.
        let _ = held.recv();
    }));
    wait.recv_timeout(PATIENCE).expect("it is held");
    release
}

/// Writes a sector and does not wait.
fn send(client: &mut Client, byte: u8) {
    client.send((0, nbd::WRITE), 0, 512, &[byte; 512]);
}

fn shut(client: &Client) {
    client.stream.shutdown(Shutdown::Both).expect("shut");
}

/// The writes of sector 0 so far: the thread has been round once more before the write of another sector that ends them.
fn writes(node: &Node, by: &mut Client) -> Vec<u8> {
    by.read(4096, 512);
    by.write(4096, &[0xff; 512]);
    let seen = std::iter::from_fn(|| match node.next() {
        Seen::Write(0, byte) => Some(byte),
        Seen::Write(8, 0xff) => None,
        other => panic!("not a write of the test: {other:?}"),
    });
    seen.collect()
}

#[test]
fn an_old_write_in_a_shut_connection_does_not_overwrite_a_newer_one() {
    let node = node();
    let (mut slow, not_looked_at_yet) = Client::kernel(SIZE);
    send(&mut slow, 1);
    shut(&slow);
    let mut other = connection(&node);
    for byte in [1, 2] {
        other.write(0, &[byte; 512]);
    }
    node.handle.serve_kernel(VOLUME, not_looked_at_yet);
    assert_eq!(writes(&node, &mut other), [1, 2]);
    assert_eq!(other.read(0, 512)[0], 2);
    node.stop();
}

#[test]
fn what_came_by_a_served_connection_before_it_was_shut_is_not_done_after_it() {
    let node = node();
    let [mut slow, mut other] = [connection(&node), connection(&node)];
    // It is listened to from now on.
    slow.write(0, &[1; 512]);
    let held = hold(&node);
    send(&mut slow, 2);
    shut(&slow);
    send(&mut other, 2);
    send(&mut other, 3);
    drop(held);
    for _ in 0..2 {
        assert_eq!(other.reply().0, 0);
    }
    assert_eq!(writes(&node, &mut other), [1, 2, 3]);
    assert_eq!(other.read(0, 512)[0], 3);
    node.stop();
}

#[test]
fn what_a_connection_brought_is_done_as_long_as_it_is_not_shut() {
    let node = node();
    let mut client = connection(&node);
    let held = hold(&node);
    for byte in [1, 2, 3] {
        send(&mut client, byte);
    }
    drop(held);
    for _ in 0..3 {
        assert_eq!(client.reply().0, 0);
    }
    assert_eq!(writes(&node, &mut client), [1, 2, 3]);
    node.stop();
}
