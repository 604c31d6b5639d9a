//! Shared fixtures of the micro-benchmarks: a payload, and one or two engines whose disks and sockets answer at once.

use std::collections::VecDeque;
use std::rc::Rc;

use rdb_engine::config::{DiskOptions, NetOptions, Protocol};
use rdb_engine::{
    AdminId, Command, ConnEffect, ConnEvent, ConnId, Effect, Event, Payload, Request, RequestId,
    RequestKind, Resource, Time,
};
pub use rdb_sim::Data;
use rdb_sim::disk::Disk;
use rdb_sim::{V as VOLUME, disk_info, fresh_disk};

/// So many bytes.
pub fn block_of(bytes: usize) -> Data {
    Data(Rc::new(vec![0x5a; bytes]))
}

/// 1 GiB.
const SECTORS: u64 = 2 << 20;

struct Node {
    engine: Resource<Data>,
    /// Nothing but its metadata is ever written.
    disk: Disk,
    connecting: bool,
    completed: u64,
}

/// Engines without a world: whatever they ask for has happened.
pub struct World {
    nodes: Vec<Node>,
    events: VecDeque<(usize, Event<Data>)>,
    effects: Vec<Effect<Data>>,
    now: Time,
    next: u64,
}

impl World {
    /// One node, alone and Primary.
    pub fn alone() -> World {
        let mut world = World::with(1);
        world.admin(
            0,
            Command::Primary {
                volume: VOLUME,
                force: true,
            },
        );
        world
    }

    /// A connected pair without anything to sync; node 0 is Primary.
    pub fn pair(protocol: Protocol) -> World {
        let mut world = World::with(2);
        for node in 0..2 {
            let options = NetOptions {
                protocol,
                ..NetOptions::default()
            };
            world.admin(
                node,
                Command::Connect {
                    options,
                    discard_my_data: false,
                    tentative: false,
                },
            );
        }
        world.admin(
            0,
            Command::NewCurrentUuid {
                volume: VOLUME,
                clear_bitmap: true,
            },
        );
        world.admin(
            0,
            Command::Primary {
                volume: VOLUME,
                force: false,
            },
        );
        world
    }

    fn with(nodes: usize) -> World {
        let node = |seed: u64| Node {
            engine: rdb_sim::Node::engine(seed),
            disk: fresh_disk(SECTORS),
            connecting: false,
            completed: 0,
        };
        let mut world = World {
            nodes: (1..=nodes as u64).map(node).collect(),
            events: VecDeque::new(),
            effects: Vec::new(),
            now: Time(1),
            next: 0,
        };
        for node in 0..nodes {
            let disk = disk_info(&world.nodes[node].disk);
            world.admin(
                node,
                Command::NewVolume {
                    volume: VOLUME,
                    minor: 0,
                },
            );
            world.admin(
                node,
                Command::Attach {
                    volume: VOLUME,
                    disk,
                    options: DiskOptions::default(),
                },
            );
        }
        world
    }

    fn admin(&mut self, node: usize, command: Command) {
        self.next += 1;
        self.events.push_back((
            node,
            Event::Admin {
                id: AdminId(self.next),
                command,
            },
        ));
        self.settle();
    }

    /// Writes at node 0 and lets everything happen that follows.
    ///
    /// # Panics
    /// If the write is not completed.
    pub fn write(&mut self, sector: u64, data: &Data) {
        self.next += 1;
        let kind = RequestKind::Write {
            payload: data.clone(),
            fua: false,
        };
        let request = Request {
            id: RequestId(self.next),
            volume: VOLUME,
            sector,
            bytes: data.len_bytes(),
            kind,
        };
        let before = self.nodes[0].completed;
        self.events.push_back((0, Event::Request(request)));
        self.settle();
        assert_eq!(
            self.nodes[0].completed,
            before + 1,
            "the write did not complete"
        );
    }

    fn settle(&mut self) {
        loop {
            while let Some((node, event)) = self.events.pop_front() {
                self.now = Time(self.now.0 + 1_000);
                let mut effects = std::mem::take(&mut self.effects);
                self.nodes[node]
                    .engine
                    .handle(self.now, event, &mut effects);
                for effect in effects.drain(..) {
                    self.apply(node, effect);
                }
                self.effects = effects;
            }
            if self.nodes.len() < 2 || !self.nodes.iter().all(|n| n.connecting) {
                return;
            }
            for node in 0..2 {
                self.nodes[node].connecting = false;
                let challenge = [node as u8; 64];
                self.events.push_back((
                    node,
                    Event::Connection(
                        ConnId::FIRST,
                        ConnEvent::Paired {
                            resolve_conflicts: node == 0,
                            called: node == 0,
                            challenge,
                        },
                    ),
                ));
            }
        }
    }

    fn apply(&mut self, node: usize, effect: Effect<Data>) {
        let own = &mut self.nodes[node];
        let event = match effect {
            Effect::Read { tag, bytes, .. } => Event::DiskDone {
                tag,
                result: Ok(Some(block_of(bytes as usize))),
            },
            Effect::Write { tag, .. } | Effect::Flush { tag, .. } | Effect::Discard { tag, .. } => {
                Event::DiskDone {
                    tag,
                    result: Ok(None),
                }
            }
            Effect::MetaRead {
                tag, sector, bytes, ..
            } => {
                let result = Ok(own.disk.read(sector, bytes as usize));
                Event::MetaDone { tag, result }
            }
            Effect::MetaWrite {
                tag, sector, data, ..
            } => {
                own.disk.write(sector, &data, true);
                let result = Ok(Vec::new());
                Event::MetaDone { tag, result }
            }
            Effect::Connection(_, ConnEffect::Open) => {
                own.connecting = true;
                return;
            }
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
                if let Some(tag) = notify {
                    self.events.push_back((
                        node,
                        Event::Connection(ConnId::FIRST, ConnEvent::Sent { tag }),
                    ));
                }
                let received = Event::Connection(
                    ConnId::FIRST,
                    ConnEvent::Received {
                        volume: volume.0,
                        packet,
                        digest,
                        payload,
                    },
                );
                self.events.push_back((1 - node, received));
                return;
            }
            Effect::Complete { result, .. } => {
                own.completed += u64::from(result.is_ok());
                return;
            }
            _ => return,
        };
        self.events.push_back((node, event));
    }
}
