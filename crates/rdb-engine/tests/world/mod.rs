//! Two engines, two sets of disks, a link: enough world to see a pair live and be ill-treated. Every packet goes
//! through the codec. Which of the things that could happen next does happen is drawn from a seed.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

pub mod faults;
pub mod link;
pub mod lone;
pub mod steps;
pub mod users;
pub mod watch;

use std::collections::VecDeque;
use std::rc::Rc;

use rdb_engine::config::{DiskOptions, NetOptions, OnIoError};
use rdb_engine::{ConnEffect, ConnEvent, ConnId, Effect, Event, Payload, Time, VolumeNr};
use replica_proto::{Packet, Socket, WireContext, decode};

pub use rdb_sim::{Data, Model, Node, Op, Pending, Rng, disk_info};

pub struct World {
    pub rng: Rng,
    pub now: Time,
    pub nodes: [Node; 2],
    /// Towards node i, by socket. `None` is the end of the stream.
    pub net: [[VecDeque<Option<Vec<u8>>>; 2]; 2],
    pub link: bool,
    /// Packets vanish and nobody is told.
    pub silent: bool,
    /// What is sent now is lost: the connection is cut, and the nodes are about to find out.
    severed: bool,
    next_id: u64,
    pub trace: bool,
    pub models: Vec<Model>,
    pub options: NetOptions,
    pub disk_options: DiskOptions,
    /// Timers may fire while other things could happen.
    pub eager_timers: bool,
    /// No packet is delivered while set.
    pub hold_net: bool,
}

pub const V: VolumeNr = VolumeNr(0);
pub const DISK_SECTORS: u64 = 65_536; // 32 MiB

impl World {
    pub fn new(seed: u64) -> World {
        World::with_disks(seed, DISK_SECTORS, DISK_SECTORS)
    }

    pub fn with_disks(seed: u64, a: u64, b: u64) -> World {
        World::with_volumes(seed, &[a], &[b])
    }

    pub fn with_volumes(seed: u64, a: &[u64], b: &[u64]) -> World {
        World {
            rng: Rng(seed),
            now: Time(1_000_000_000),
            nodes: [
                Node::new("a", seed ^ 0xaaaa, a),
                Node::new("b", seed ^ 0xbbbb, b),
            ],
            net: Default::default(),
            link: true,
            silent: false,
            severed: false,
            next_id: 1,
            trace: std::env::var_os("RDB_TRACE").is_some(),
            models: a.iter().map(|_| Model::default()).collect(),
            options: NetOptions::default(),
            disk_options: DiskOptions {
                c_plan_ahead_ds: 0,
                resync_rate_kib: 100_000,
                on_io_error: OnIoError::Detach,
                al_extents: 67, // the fewest there can be, so that they are used up
                ..DiskOptions::default()
            },
            eager_timers: false,
            hold_net: false,
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
        match effect {
            Effect::Read { .. }
            | Effect::Write { .. }
            | Effect::Flush { .. }
            | Effect::Discard { .. }
            | Effect::MetaRead { .. }
            | Effect::MetaWrite { .. } => {
                let (tag, op) = node.take_io(effect);
                node.pending.push(Pending::new(Some(tag), op));
            }
            Effect::RetryIo { .. } | Effect::GiveUpIo { .. } => {
                unreachable!("these disks are never full")
            }
            Effect::CloseDisk { volume } => {
                let volume = usize::from(volume.0);
                let busy = node
                    .pending
                    .iter()
                    .any(|pending| pending.op.volume() == Some(volume));
                assert!(
                    !busy,
                    "a disk is closed with I/O outstanding: {:?}",
                    node.pending
                );
            }
            Effect::Connection(_, ConnEffect::Open) => node.connecting = true,
            Effect::Connection(_, ConnEffect::Close) => {
                node.connecting = false;
                if node.connected {
                    self.close(i);
                }
            }
            Effect::Connection(_, ConnEffect::SetWire(wire)) => node.wire = wire,
            Effect::Connection(
                _,
                ConnEffect::Send {
                    volume,
                    packet,
                    digest,
                    payload,
                    notify,
                },
            ) => {
                if self.trace {
                    println!("{:>12} {} > {volume} {packet:?}", now.0 / 1000, node.name);
                }
                node.note(|| format!("send {}", describe(&packet)));
                if matches!(packet, Packet::RsDataReply(_)) {
                    node.resync_bytes += u64::from(payload.as_ref().map_or(0, Payload::len_bytes));
                }
                let mut bytes = Vec::new();
                let len = payload.as_ref().map_or(0, Payload::len_bytes);
                packet.encode(&node.wire, volume.0, digest.as_ref(), len, &mut bytes);
                if let Some(payload) = payload {
                    bytes.extend_from_slice(&payload.0);
                }
                if let Some(tag) = notify {
                    node.pending.push(Pending::new(None, Op::Sent(tag)));
                }
                if node.connected && !self.severed && !self.silent {
                    self.net[1 - i][packet.socket() as usize].push_back(Some(bytes));
                }
            }
            Effect::Complete { request, result } => {
                if self.trace {
                    let ok = result.is_ok();
                    println!(
                        "{:>12} {} complete {} {ok}",
                        now.0 / 1000,
                        node.name,
                        request.0
                    );
                }
                node.note(|| format!("complete {} {}", request.0, result.is_ok()));
                if let Some((volume, _)) = node.requests_open.remove(&request.0) {
                    let kept = self.models[volume].on_complete(i, request.0, &result);
                    if let Err(text) = kept {
                        panic!("node {}: {text}", self.nodes[i].name);
                    }
                }
                let before = self.nodes[i].completed.insert(request.0, result);
                assert!(before.is_none(), "completed twice");
            }
            Effect::Device { device, .. } => {
                node.device = device.map(|d| d.size_sectors);
                let size = node.device;
                node.note(|| format!("device {size:?}"));
            }
            Effect::AdminDone { id, result } => {
                if self.trace {
                    println!(
                        "{:>12} {} admin {} {result:?}",
                        now.0 / 1000,
                        node.name,
                        id.0
                    );
                }
                let known = node.admin_open.remove(&id.0);
                assert!(known.is_some(), "an answer to a command that was not given");
                node.note(|| format!("admin {} {}", id.0, result.is_ok()));
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
                assert!(
                    !text.contains("impossible state change"),
                    "{}: {text}",
                    node.name
                );
                node.log.push(text);
            }
            Effect::StateChanged { new, volume, .. } => {
                if self.trace {
                    println!("{:>12} {} {volume} {new}", now.0 / 1000, node.name);
                }
                node.note(|| format!("state {}", new.conn));
            }
        }
    }

    /// One thing happens. Says whether anything could, timers aside.
    pub fn step(&mut self) -> bool {
        let mut choices: Vec<(usize, u8, usize)> = Vec::new();
        for i in 0..2 {
            let node = &self.nodes[i];
            for (p, pending) in node.pending.iter().enumerate() {
                let meta = pending.op.is_meta();
                if !(meta && node.hold_meta || !meta && node.hold_data) {
                    choices.push((i, 0, p));
                }
            }
            for s in 0..2 {
                // As in the driver, nothing of the meta socket is read before the features are agreed on the other.
                let early = s == Socket::Meta as usize
                    && node.wire == WireContext::initial()
                    && matches!(self.net[i][s].front(), Some(Some(_)));
                if !self.net[i][s].is_empty() && node.connected && !self.hold_net && !early {
                    choices.push((i, 1, s));
                }
            }
        }
        let ready = |n: &Node| n.alive && n.connecting && !n.connected;
        if self.link && !self.severed && self.nodes.iter().all(ready) {
            choices.push((0, 2, 0));
        }
        if choices.is_empty() {
            return false;
        }
        self.now = Time(self.now.0 + 10_000);
        let (i, what, which) = choices[self.rng.below(choices.len() as u64) as usize];
        match what {
            0 => {
                let Pending { tag, op, .. } = self.nodes[i].pending.swap_remove(which);
                self.carry_out(i, tag, op);
            }
            1 => self.deliver(i, which),
            _ => self.pair_sockets(),
        }
        true
    }

    pub fn pair_sockets(&mut self) {
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
            let resolve_conflicts = (j == 0) == flag;
            self.event(
                j,
                Event::Connection(
                    ConnId::FIRST,
                    ConnEvent::Paired {
                        resolve_conflicts,
                        called: resolve_conflicts,
                        challenge,
                    },
                ),
            );
        }
    }

    fn deliver(&mut self, i: usize, s: usize) {
        let socket = if s == Socket::Data as usize {
            Socket::Data
        } else {
            Socket::Meta
        };
        let Some(packet) = self.net[i][s].pop_front() else {
            return;
        };
        let Some(bytes) = packet else {
            self.nodes[i].connected = false;
            self.net[i] = Default::default();
            self.mend_severed();
            return self.lose(i, socket, 0);
        };
        match decode(&self.nodes[i].wire, socket, &bytes) {
            Ok(Some(frame)) => {
                let payload = (frame.payload_len > 0)
                    .then(|| Data(Rc::new(bytes[frame.consumed..].to_vec())));
                assert_eq!(bytes.len(), frame.consumed + frame.payload_len as usize);
                let (volume, packet, digest) = (frame.volume, frame.packet, frame.digest);
                self.event(
                    i,
                    Event::Connection(
                        ConnId::FIRST,
                        ConnEvent::Received {
                            volume,
                            packet,
                            digest,
                            payload,
                        },
                    ),
                );
            }
            Ok(None) => panic!("a packet of ours is not complete"),
            Err(error) => panic!("a packet of ours is refused: {error}"),
        }
    }

    /// The next packet of a socket, and no other.
    pub fn deliver_one(&mut self, i: usize, socket: Socket) -> bool {
        let there = !self.net[i][socket as usize].is_empty();
        self.deliver(i, socket as usize);
        there
    }

    /// Lets time pass until the next timer, if nothing else can happen.
    pub fn tick(&mut self) -> bool {
        let eager = self.eager_timers && self.rng.one_in(40);
        if !eager && self.step() {
            return true;
        }
        let next = (0..2)
            .flat_map(|i| self.nodes[i].timers.iter().map(move |(&t, &at)| (at, i, t)))
            .min_by_key(|&(at, i, _)| (at, i));
        let soon = self.now.plus_ms(200);
        let Some((at, i, timer)) = next.filter(|(at, ..)| !eager || *at <= soon) else {
            return eager && self.step();
        };
        self.now = self.now.max(at);
        self.nodes[i].timers.remove(&timer);
        self.event(i, Event::Timer(timer));
        true
    }

    pub fn run_ms(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        while self.now < end {
            let next = self
                .nodes
                .iter()
                .flat_map(|n| n.timers.values())
                .min()
                .copied();
            let idle = next.is_none_or(|at| at > end);
            if idle && !self.step() {
                self.now = end;
                return;
            }
            if !idle {
                self.tick();
            }
        }
    }

    pub fn until(&mut self, what: &str, mut done: impl FnMut(&World) -> bool) {
        for _ in 0..2_000_000 {
            if done(self) {
                return;
            }
            let states = self.states();
            assert!(
                self.tick(),
                "nothing happens any more while waiting for {what}: {states}"
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
}

/// A packet's name, and what tests look for in it.
fn describe(packet: &Packet) -> String {
    match packet {
        Packet::Data(h) => format!("P_DATA {}", h.sector),
        Packet::RsDataReply(h) => format!("P_RS_DATA_REPLY {}", h.sector),
        other => other.name().to_string(),
    }
}
