//! Whole threads with an engine for tests: sockets, disks and clients are real.

mod crowd;
mod engine;
mod flood;
mod hostile;
mod kernel_client;
mod loop_device;
mod mirror;
mod nbd_client;
mod scenes;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rdb_engine::config::{DiskOptions, NetOptions};
use rdb_engine::{AdminError, Command, Effect, VolumeNr};
use rdb_frontend::Frontend;

use self::mirror::{Mirror, Order, Orders, Seen};
use crate::handle::spawn_engine;
use crate::pool::Buf;
use crate::{AttachRequest, ConnectRequest, MetaLocation, Notice, ResourceConfig, ResourceHandle};

const VOLUME: VolumeNr = VolumeNr(0);
const PATIENCE: Duration = Duration::from_secs(20);

/// A resource's thread in a directory of its own.
struct Node {
    dir: tempfile::TempDir,
    handle: ResourceHandle,
    seen: Receiver<Seen>,
    notices: Receiver<Notice>,
    orders: Orders,
}

impl Node {
    fn new() -> Node {
        Node::with(Frontend::Socket, 2048, |_| {})
    }

    fn with(
        frontend: Frontend,
        max_buffers: u32,
        change: impl FnOnce(&mut Mirror) + Send + 'static,
    ) -> Node {
        let dir = tempfile::tempdir().expect("a directory");
        let (tell, seen) = channel();
        let (notify, notices) = channel();
        let orders = Orders::default();
        let config = ResourceConfig {
            name: "r0".into(),
            run_dir: dir.path().to_owned(),
            frontend,
            max_buffers,
            busy_poll: std::time::Duration::ZERO,
            nbd_connections: 1,
            inherited: Vec::new(),
            left_sessions: Default::default(),
            challenges: crate::Challenges::default(),
            core_dumps: crate::CoreDumps::None,
        };
        let for_engine = Orders::clone(&orders);
        let make = move || {
            let mut mirror = Mirror::new(tell, for_engine);
            change(&mut mirror);
            mirror
        };
        let notices_in = move |notice| drop(notify.send(notice));
        let handle = spawn_engine(config, notices_in, make).expect("a thread");
        Node {
            dir,
            handle,
            seen,
            notices,
            orders,
        }
    }

    fn file(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.dir.path().join(name);
        let file = std::fs::File::create(&path).expect("a file");
        file.set_len(bytes).expect("its size");
        path
    }

    fn attach(&self, data: &Path) -> Result<(), AdminError> {
        let (reply, wait) = channel();
        let request = AttachRequest {
            volume: VOLUME,
            data_path: data.to_owned(),
            meta: MetaLocation::Internal,
            options: DiskOptions::default(),
        };
        self.handle
            .attach(request, Box::new(move |result| drop(reply.send(result))));
        wait.recv_timeout(PATIENCE).expect("an answer")
    }

    fn admin(&self, command: Command) -> Result<(), AdminError> {
        let (reply, wait) = channel();
        self.handle
            .admin(command, Box::new(move |result| drop(reply.send(result))));
        wait.recv_timeout(PATIENCE).expect("an answer")
    }

    fn connect(&self, request: ConnectRequest) {
        let (reply, wait) = channel();
        self.handle
            .connect(request, Box::new(move |result| drop(reply.send(result))));
        wait.recv_timeout(PATIENCE)
            .expect("an answer")
            .expect("no refusal");
    }

    fn primary(&self) {
        self.admin(Command::Primary {
            volume: VOLUME,
            force: false,
        })
        .expect("primary");
    }

    /// Has the loop do these effects.
    fn order(&self, effects: Vec<Effect<Buf>>) {
        self.orders
            .lock()
            .expect("no panic")
            .push_back(Order::Effects(effects));
        self.admin(Command::PauseSync { volume: VOLUME })
            .expect("done");
    }

    fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).expect("something happens")
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("nbd/r0.sock")
    }

    /// Stops it; its files stay as long as what is returned.
    fn stop(self) -> tempfile::TempDir {
        self.handle.stop();
        self.handle.join();
        loop {
            match self.notices.recv_timeout(PATIENCE) {
                Ok(Notice::Stopped { failure }) => {
                    assert_eq!(failure, None);
                    return self.dir;
                }
                Ok(_) => {}
                Err(error) => panic!("it does not stop: {error}"),
            }
        }
    }
}

/// Two addresses on loopback that nobody uses.
fn addresses() -> [SocketAddr; 2] {
    [1, 2].map(|host| {
        let ip = [127, 0, 77, host];
        let probe = std::net::TcpListener::bind((std::net::Ipv4Addr::from(ip), 0)).expect("a port");
        probe.local_addr().expect("its address")
    })
}

fn request(local: SocketAddr, peer: SocketAddr) -> ConnectRequest {
    ConnectRequest {
        local,
        peer,
        options: NetOptions {
            ping_timeout_ds: 1,
            timeout_ds: 6,
            ..NetOptions::default()
        },
        discard_my_data: false,
        tentative: false,
        sndbuf_bytes: 0,
        rcvbuf_bytes: 0,
        socket_check_timeout_ds: 0,
        tcp_cork: true,
    }
}

/// Two nodes that have found each other.
fn pair(a: &Node, b: &Node) {
    let [at_a, at_b] = addresses();
    a.connect(request(at_a, at_b));
    b.connect(request(at_b, at_a));
    let roles = [a, b].map(|node| match node.next() {
        Seen::Paired { resolve_conflicts } => resolve_conflicts,
        other => panic!("not paired: {other:?}"),
    });
    assert_ne!(
        roles[0], roles[1],
        "one has accepted the meta socket, the other one opened it"
    );
}
