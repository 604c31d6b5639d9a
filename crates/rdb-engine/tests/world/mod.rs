//! Two engines, two disks, a link: enough world to see a pair live. Every packet goes through the codec. Which of the
//! things that could happen next does happen is drawn from a seed.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use rdb_engine::config::{DiskOptions, NetOptions};
use rdb_engine::state::{ConnState, DiskState, VolumeState};
use rdb_engine::{
    AdminError, AdminId, Command, DiskError, DiskInfo, Effect, Event, IoTag, LossCause, Payload,
    Request, RequestError, RequestId, RequestKind, Resource, Time, Timer, VolumeNr,
};
use rdb_meta::{AlGeometry, Layout, MetaKind, Superblock};
use replica_proto::{Digest, DigestAlgorithm, Socket, WireContext, decode};

#[derive(Debug, Clone)]
pub struct Data(pub Rc<Vec<u8>>);

impl Payload for Data {
    fn len_bytes(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap()
    }

    fn digest(&self, algorithm: DigestAlgorithm) -> Digest {
        algorithm.digest(&self.0)
    }
}

/// A small generator: the tests need repeatable choices, not good randomness.
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

enum Pending {
    Disk(IoTag, Result<Option<Data>, DiskError>),
    Meta(IoTag, Result<Vec<u8>, DiskError>),
    Sent(rdb_engine::SendTag),
}

pub struct Node {
    pub name: &'static str,
    pub resource: Resource<Data>,
    pub disk: Vec<u8>,
    pending: Vec<Pending>,
    timers: BTreeMap<Timer, Time>,
    wire: WireContext,
    connecting: bool,
    connected: bool,
    pub admin: BTreeMap<u64, Result<(), AdminError>>,
    pub completed: BTreeMap<u64, Result<Option<Data>, RequestError>>,
    pub device: Option<u64>,
    pub log: Vec<String>,
    pub read_errors: bool,
    pub write_errors: bool,
    /// Highest bytes of data read for the peer, to see how much a resync moved.
    pub resync_bytes: u64,
    alive: bool,
}

pub struct World {
    pub rng: Rng,
    pub now: Time,
    pub nodes: [Node; 2],
    /// Towards node i, by socket.
    net: [[VecDeque<Vec<u8>>; 2]; 2],
    pub link: bool,
    next_id: u64,
    pub trace: bool,
}

pub const V: VolumeNr = VolumeNr(0);
pub const DISK_SECTORS: u64 = 65_536; // 32 MiB

pub fn disk_info(disk: &[u8]) -> DiskInfo {
    let sectors = disk.len() as u64 / 512;
    DiskInfo {
        kind: MetaKind::Internal,
        data_capacity_sectors: sectors,
        meta_capacity_sectors: sectors,
        logical_block_bytes: 512,
        can_discard: true,
    }
}

pub fn create_md(disk: &mut [u8]) {
    let sectors = disk.len() as u64 / 512;
    let layout =
        Layout::compute(MetaKind::Internal, sectors, sectors, AlGeometry::DEFAULT).unwrap();
    let put = |disk: &mut [u8], sector: u64, bytes: &[u8]| {
        let at = sector as usize * 512;
        disk[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(
        disk,
        layout.superblock_sector,
        &Superblock::new(&layout).to_block(),
    );
    put(
        disk,
        layout.al_sector,
        &rdb_meta::activity_log::initialised_ring(layout.al),
    );
}

impl Node {
    fn new(name: &'static str, seed: u64, sectors: u64) -> Node {
        let mut disk = vec![0; sectors as usize * 512];
        create_md(&mut disk);
        let mut node = Node {
            name,
            resource: Node::engine(seed),
            disk,
            pending: Vec::new(),
            timers: BTreeMap::new(),
            wire: WireContext::initial(),
            connecting: false,
            connected: false,
            admin: BTreeMap::new(),
            completed: BTreeMap::new(),
            device: None,
            log: Vec::new(),
            read_errors: false,
            write_errors: false,
            resync_bytes: 0,
            alive: true,
        };
        node.disk[0] = 0;
        node
    }

    fn engine(seed: u64) -> Resource<Data> {
        let mut rng = Rng(seed);
        Resource::new("r0", Box::new(move || rng.next()))
    }

    pub fn state(&self) -> VolumeState {
        self.resource.status(Time(u64::MAX / 2)).volumes[0].state
    }

    pub fn out_of_sync(&self) -> u64 {
        self.resource.status(Time(u64::MAX / 2)).volumes[0].out_of_sync_blocks
    }

    pub fn usable_bytes(&self) -> usize {
        let sectors = self.disk.len() as u64 / 512;
        Layout::compute(MetaKind::Internal, sectors, sectors, AlGeometry::DEFAULT)
            .unwrap()
            .usable_sectors as usize
            * 512
    }
}

impl World {
    pub fn new(seed: u64) -> World {
        World::with_disks(seed, DISK_SECTORS, DISK_SECTORS)
    }

    pub fn with_disks(seed: u64, a: u64, b: u64) -> World {
        World {
            rng: Rng(seed),
            now: Time(1_000_000_000),
            nodes: [
                Node::new("a", seed ^ 0xaaaa, a),
                Node::new("b", seed ^ 0xbbbb, b),
            ],
            net: Default::default(),
            link: true,
            next_id: 1,
            trace: std::env::var_os("RDB_TRACE").is_some(),
        }
    }

    pub fn event(&mut self, i: usize, event: Event<Data>) {
        if !self.nodes[i].alive {
            return;
        }
        let mut effects = Vec::new();
        self.nodes[i].resource.handle(self.now, event, &mut effects);
        self.nodes[i].resource.check();
        for effect in effects {
            self.apply(i, effect);
        }
    }

    fn apply(&mut self, i: usize, effect: Effect<Data>) {
        let now = self.now;
        let node = &mut self.nodes[i];
        let io_error = DiskError { errno: 5 };
        match effect {
            Effect::Read {
                tag, sector, bytes, ..
            } => {
                let at = sector as usize * 512;
                let result = if node.read_errors {
                    Err(io_error)
                } else {
                    Ok(Some(Data(Rc::new(
                        node.disk[at..at + bytes as usize].to_vec(),
                    ))))
                };
                node.pending.push(Pending::Disk(tag, result));
            }
            Effect::Write {
                tag,
                sector,
                payload,
                ..
            } => {
                let at = sector as usize * 512;
                let result = if node.write_errors {
                    Err(io_error)
                } else {
                    node.disk[at..at + payload.0.len()].copy_from_slice(&payload.0);
                    Ok(None)
                };
                node.pending.push(Pending::Disk(tag, result));
            }
            Effect::Flush { tag, .. } => node.pending.push(Pending::Disk(tag, Ok(None))),
            Effect::Discard {
                tag, sector, bytes, ..
            } => {
                let at = sector as usize * 512;
                node.disk[at..at + bytes as usize].fill(0);
                node.pending.push(Pending::Disk(tag, Ok(None)));
            }
            Effect::MetaRead {
                tag, sector, bytes, ..
            } => {
                let at = sector as usize * 512;
                node.pending.push(Pending::Meta(
                    tag,
                    Ok(node.disk[at..at + bytes as usize].to_vec()),
                ));
            }
            Effect::MetaWrite {
                tag, sector, data, ..
            } => {
                let at = sector as usize * 512;
                node.disk[at..at + data.len()].copy_from_slice(&data);
                node.pending.push(Pending::Meta(tag, Ok(Vec::new())));
            }
            Effect::CloseDisk { .. } => {}
            Effect::OpenConnection => node.connecting = true,
            Effect::CloseConnection => {
                node.connecting = false;
                if node.connected {
                    self.close(i);
                }
            }
            Effect::SetWire(wire) => node.wire = wire,
            Effect::Send {
                volume,
                packet,
                payload,
                notify,
            } => {
                if self.trace {
                    println!("{:>12} {} > {volume} {packet:?}", now.0 / 1000, node.name);
                }
                if matches!(packet, replica_proto::Packet::RsDataReply(_)) {
                    node.resync_bytes += u64::from(payload.as_ref().map_or(0, Payload::len_bytes));
                }
                let mut bytes = Vec::new();
                let len = payload.as_ref().map_or(0, Payload::len_bytes);
                packet.encode(&node.wire, volume.0, None, len, &mut bytes);
                if let Some(payload) = payload {
                    bytes.extend_from_slice(&payload.0);
                }
                if let Some(tag) = notify {
                    node.pending.push(Pending::Sent(tag));
                }
                if node.connected {
                    self.net[1 - i][packet.socket() as usize].push_back(bytes);
                }
            }
            Effect::HoldData { .. } => {}
            Effect::Complete { request, result } => {
                assert!(
                    node.completed.insert(request.0, result).is_none(),
                    "completed twice"
                );
            }
            Effect::Device { device, .. } => node.device = device.map(|d| d.size_sectors),
            Effect::AdminDone { id, result } => {
                if self.trace {
                    println!(
                        "{:>12} {} admin {} {result:?}",
                        now.0 / 1000,
                        node.name,
                        id.0
                    );
                }
                node.admin.insert(id.0, result);
            }
            Effect::SetTimer { timer, at } => {
                node.timers.insert(timer, at);
            }
            Effect::ClearTimer { timer } => {
                node.timers.remove(&timer);
            }
            Effect::Log { text, .. } => {
                if self.trace {
                    println!("{:>12} {} {text}", now.0 / 1000, node.name);
                }
                node.log.push(text);
            }
            Effect::StateChanged { new, .. } => {
                if self.trace {
                    println!("{:>12} {} {new}", now.0 / 1000, node.name);
                }
            }
        }
    }

    /// Node `i` closed its sockets, or the link went.
    fn close(&mut self, i: usize) {
        self.nodes[i].connected = false;
        self.net[i] = Default::default();
        // What was sent before still arrives; then the peer sees the end of file. (An empty packet stands for it.)
        if self.nodes[1 - i].connected {
            self.net[1 - i][0].push_back(Vec::new());
        }
    }

    pub fn cut(&mut self) {
        self.link = false;
        self.net = Default::default();
        for i in 0..2 {
            if self.nodes[i].connected {
                self.nodes[i].connected = false;
                let cause = LossCause::Closed { error: 110 };
                self.event(
                    i,
                    Event::ConnectionLost {
                        socket: Socket::Meta,
                        cause,
                    },
                );
            }
        }
    }

    pub fn heal(&mut self) {
        self.link = true;
    }

    /// The node loses power: what is on its disk stays.
    pub fn crash(&mut self, i: usize) {
        let seed = self.rng.next();
        let node = &mut self.nodes[i];
        node.resource = Node::engine(seed);
        node.pending.clear();
        node.timers.clear();
        node.connecting = false;
        node.device = None;
        let was = std::mem::take(&mut node.connected);
        self.net[i] = Default::default();
        if was && self.nodes[1 - i].connected {
            self.nodes[1 - i].connected = false;
            self.net = Default::default();
            let cause = LossCause::Closed { error: 104 };
            self.event(
                1 - i,
                Event::ConnectionLost {
                    socket: Socket::Data,
                    cause,
                },
            );
        }
    }

    /// One thing happens. Says whether anything could, timers aside.
    pub fn step(&mut self) -> bool {
        let mut choices: Vec<(usize, u8, usize)> = Vec::new();
        for i in 0..2 {
            for p in 0..self.nodes[i].pending.len() {
                choices.push((i, 0, p));
            }
            for s in 0..2 {
                if !self.net[i][s].is_empty() && self.nodes[i].connected {
                    choices.push((i, 1, s));
                }
            }
        }
        if self.link && self.nodes.iter().all(|n| n.connecting && !n.connected) {
            choices.push((0, 2, 0));
        }
        if choices.is_empty() {
            return false;
        }
        self.now = Time(self.now.0 + 10_000);
        let (i, what, which) = choices[self.rng.below(choices.len() as u64) as usize];
        match what {
            0 => match self.nodes[i].pending.swap_remove(which) {
                Pending::Disk(tag, result) => self.event(i, Event::DiskDone { tag, result }),
                Pending::Meta(tag, result) => self.event(i, Event::MetaDone { tag, result }),
                Pending::Sent(tag) => self.event(i, Event::Sent { tag }),
            },
            1 => self.deliver(i, which),
            _ => {
                let flag = self.rng.below(2) == 0;
                for j in 0..2 {
                    self.nodes[j].connecting = false;
                    self.nodes[j].connected = true;
                    self.net[j] = Default::default();
                }
                for j in 0..2 {
                    let mut challenge = [0; 64];
                    for byte in &mut challenge {
                        *byte = self.rng.next() as u8;
                    }
                    self.event(
                        j,
                        Event::Paired {
                            resolve_conflicts: (j == 0) == flag,
                            challenge,
                        },
                    );
                }
            }
        }
        true
    }

    fn deliver(&mut self, i: usize, s: usize) {
        let Some(bytes) = self.net[i][s].pop_front() else {
            return;
        };
        let socket = if s == Socket::Data as usize {
            Socket::Data
        } else {
            Socket::Meta
        };
        if bytes.is_empty() {
            if !self.net[i][1 - s].is_empty() {
                // The other socket's bytes were sent before the end too.
                self.net[i][s].push_front(bytes);
                return self.deliver(i, 1 - s);
            }
            self.nodes[i].connected = false;
            self.event(
                i,
                Event::ConnectionLost {
                    socket,
                    cause: LossCause::Closed { error: 0 },
                },
            );
            return;
        }
        match decode(&self.nodes[i].wire, socket, &bytes) {
            Ok(Some(frame)) => {
                let payload = (frame.payload_len > 0)
                    .then(|| Data(Rc::new(bytes[frame.consumed..].to_vec())));
                assert_eq!(bytes.len(), frame.consumed + frame.payload_len as usize);
                let (volume, packet, digest) = (frame.volume, frame.packet, frame.digest);
                self.event(
                    i,
                    Event::Received {
                        volume,
                        packet,
                        digest,
                        payload,
                    },
                );
            }
            Ok(None) => panic!("a packet of ours is not complete"),
            Err(error) => panic!("a packet of ours is refused: {error}"),
        }
    }

    /// Lets time pass until the next timer, if nothing else can happen.
    pub fn tick(&mut self) -> bool {
        if self.step() {
            return true;
        }
        let next = (0..2)
            .flat_map(|i| self.nodes[i].timers.iter().map(move |(&t, &at)| (at, i, t)))
            .min_by_key(|&(at, i, _)| (at, i));
        let Some((at, i, timer)) = next else {
            return false;
        };
        self.now = self.now.max(at);
        self.nodes[i].timers.remove(&timer);
        self.event(i, Event::Timer(timer));
        true
    }

    pub fn run_ms(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        while self.now < end {
            if !self.tick() {
                break;
            }
        }
    }

    pub fn until(&mut self, what: &str, mut done: impl FnMut(&World) -> bool) {
        for _ in 0..2_000_000 {
            if done(self) {
                return;
            }
            assert!(
                self.tick(),
                "nothing happens any more while waiting for {what}: {}",
                self.states()
            );
        }
        panic!("waited too long for {what}: {}", self.states());
    }

    pub fn states(&self) -> String {
        format!(
            "a: {} | b: {}",
            self.nodes[0].state(),
            self.nodes[1].state()
        )
    }

    pub fn admin(&mut self, i: usize, command: Command) -> Result<(), AdminError> {
        let id = self.start_admin(i, command);
        self.until("a command", |w| w.nodes[i].admin.contains_key(&id));
        self.nodes[i].admin.remove(&id).unwrap()
    }

    pub fn start_admin(&mut self, i: usize, command: Command) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.event(
            i,
            Event::Admin {
                id: AdminId(id),
                command,
            },
        );
        id
    }

    pub fn attach(&mut self, i: usize) -> Result<(), AdminError> {
        let disk = disk_info(&self.nodes[i].disk);
        let options = DiskOptions {
            c_plan_ahead_ds: 0,
            resync_rate_kib: 100_000,
            ..DiskOptions::default()
        };
        self.admin(
            i,
            Command::Attach {
                volume: V,
                disk,
                options,
            },
        )
    }

    pub fn connect_with(&mut self, i: usize, options: NetOptions) {
        self.admin(
            i,
            Command::Connect {
                options,
                discard_my_data: false,
                tentative: false,
            },
        )
        .unwrap();
    }

    pub fn up(&mut self, i: usize, options: &NetOptions) {
        self.admin(
            i,
            Command::NewVolume {
                volume: V,
                minor: 0,
            },
        )
        .unwrap();
        self.attach(i).unwrap();
        self.connect_with(i, options.clone());
    }

    /// Two fresh nodes, connected, `a` Primary, in sync.
    pub fn pair(seed: u64, options: &NetOptions) -> World {
        let mut world = World::new(seed);
        world.up(0, options);
        world.up(1, options);
        world.wait_conn(ConnState::Connected);
        world
            .admin(
                0,
                Command::Primary {
                    volume: V,
                    force: true,
                },
            )
            .unwrap();
        world.wait_synced();
        world
    }

    pub fn wait_conn(&mut self, conn: ConnState) {
        self.until("a connection state", |w| {
            w.nodes.iter().all(|n| n.state().conn == conn)
        });
    }

    pub fn wait_synced(&mut self) {
        self.until("both disks UpToDate", |w| {
            w.nodes.iter().all(|n| {
                let s = n.state();
                s.conn == ConnState::Connected
                    && s.disk == DiskState::UpToDate
                    && s.pdsk == DiskState::UpToDate
            })
        });
    }

    pub fn submit(&mut self, i: usize, sector: u64, bytes: u32, kind: RequestKind<Data>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.event(
            i,
            Event::Request(Request {
                id: RequestId(id),
                volume: V,
                sector,
                bytes,
                kind,
            }),
        );
        id
    }

    pub fn write(&mut self, i: usize, sector: u64, data: Vec<u8>) -> u64 {
        let bytes = u32::try_from(data.len()).unwrap();
        self.submit(
            i,
            sector,
            bytes,
            RequestKind::Write {
                payload: Data(Rc::new(data)),
                fua: false,
            },
        )
    }

    pub fn write_wait(&mut self, i: usize, sector: u64, data: Vec<u8>) -> bool {
        let id = self.write(i, sector, data);
        self.wait_done(i, id).is_ok()
    }

    pub fn read(&mut self, i: usize, sector: u64, bytes: u32) -> Result<Vec<u8>, RequestError> {
        let id = self.submit(i, sector, bytes, RequestKind::Read);
        self.wait_done(i, id).map(|d| d.unwrap().0.to_vec())
    }

    pub fn wait_done(&mut self, i: usize, id: u64) -> Result<Option<Data>, RequestError> {
        self.until("a request", |w| w.nodes[i].completed.contains_key(&id));
        self.nodes[i].completed.remove(&id).unwrap()
    }

    pub fn disks_equal(&self) -> bool {
        let end = self.nodes[0]
            .usable_bytes()
            .min(self.nodes[1].usable_bytes());
        self.nodes[0].disk[..end] == self.nodes[1].disk[..end]
    }

    pub fn quiet(&mut self) {
        self.run_ms(300);
    }

    pub fn logged(&self, i: usize, text: &str) -> bool {
        self.nodes[i].log.iter().any(|line| line.contains(text))
    }
}
