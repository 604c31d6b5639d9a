//! An engine for tests: it mirrors writes to the peer and asks no questions. No metadata, no resync, no states.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use rdb_engine::{
    AdminError, Command, ConnEffect, ConnEvent, ConnId, DeviceSpec, DiscardKind, Effect, Event,
    HandlerId, Hindrance, IoTag, LossCause, Marks, RequestError, RequestId, RequestKind,
    ResourceStatus, SendTag, Time, Timer, VolumeNr,
};
use replica_proto::{
    BlockAck, BlockId, ConnState, DataHeader, DpFlags, Features, Packet, ProtocolVersion, Socket,
    WireContext,
};
use slab::Slab;

use crate::engine::Engine;
use crate::pool::Buf;

/// What the mirror tells the test.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    Paired {
        resolve_conflicts: bool,
    },
    /// The own address cannot be used, and why; or it can again.
    OwnAddress(Option<String>),
    Lost(Socket, LossCause),
    Stalled(Socket),
    Sent(SendTag),
    Received(Packet, Option<Vec<u8>>),
    Timer(Timer),
    Reflected,
    HandlerDone(HandlerId, i32),
    /// A front end's write: its first sector and its first byte.
    Write(u64, u8),
}

/// Effects that a test wants with the next event, and the way to have the engine do what it would not.
pub(super) type Orders = Arc<Mutex<VecDeque<Order>>>;

#[derive(Debug)]
pub(super) enum Order {
    /// With the next `PauseSync`: these effects.
    Effects(Vec<Effect<Buf>>),
}

// SAFETY: the orders of the tests carry no payload (a `Buf` is made on the engine's thread only), so nothing in them
// is bound to a thread.
unsafe impl Send for Order {}

pub(super) struct Mirror {
    pub(super) seen: Sender<Seen>,
    pub(super) orders: Orders,
    /// Tell of received packets with their payload, and mirror nothing.
    pub(super) tell_packets: bool,
    /// Tell of every front-end write.
    pub(super) tell_writes: bool,
    /// Never complete front-end writes.
    pub(super) swallow_writes: bool,
    /// So many writes are kept with their data, as if the peer never answered.
    pub(super) keep_writes: usize,
    kept: Vec<Buf>,
    /// Treat the disk as having blocks of this size towards front ends.
    pub(super) device_block: u32,
    pub(super) work: Slab<Work>,
    pub(super) capacity: u64,
    pub(super) connected: bool,
    pub(super) seq: u32,
}

pub(super) enum Work {
    /// A front-end request: what it still waits for.
    App {
        id: RequestId,
        left: u32,
        read: Option<Buf>,
        failed: bool,
    },
    /// A write of the peer's.
    Peer { ack: BlockAck },
}

impl Mirror {
    pub(super) fn new(seen: Sender<Seen>, orders: Orders) -> Mirror {
        Mirror {
            seen,
            orders,
            tell_packets: false,
            tell_writes: false,
            swallow_writes: false,
            keep_writes: 0,
            kept: Vec::new(),
            device_block: 512,
            work: Slab::new(),
            capacity: 0,
            connected: false,
            seq: 0,
        }
    }

    fn tell(&self, seen: Seen) {
        // The test may have ended.
        let _ = self.seen.send(seen);
    }

    fn on_admin(&mut self, command: Command, fx: &mut Vec<Effect<Buf>>) -> Result<(), AdminError> {
        match command {
            Command::Attach { disk, .. } => self.capacity = disk.data_capacity_sectors,
            Command::Connect { .. } => fx.push(Effect::Connection(ConnId::FIRST, ConnEffect::Open)),
            Command::Disconnect { .. } => {
                self.connected = false;
                fx.push(Effect::Connection(ConnId::FIRST, ConnEffect::Close));
            }
            Command::Primary { volume, .. } => {
                let spec = DeviceSpec {
                    size_sectors: self.capacity,
                    logical_block_bytes: self.device_block,
                };
                fx.push(Effect::Device {
                    volume,
                    device: Some(spec),
                });
            }
            Command::Secondary {
                held_open: true, ..
            } => {
                return Err(AdminError::refused(1, "Device is held open by someone"));
            }
            Command::Secondary { volume, .. } => {
                fx.push(Effect::Device {
                    volume,
                    device: None,
                });
            }
            Command::Detach { volume, .. } => fx.push(Effect::CloseDisk { volume }),
            Command::PauseSync { .. } => {
                for order in self.orders.lock().expect("no panic").drain(..) {
                    let Order::Effects(effects) = order;
                    fx.extend(effects);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A write as the peer is asked for it.
    fn data(&mut self, volume: VolumeNr, sector: u64, key: usize, data: Buf) -> Effect<Buf> {
        self.seq += 1;
        let packet = Packet::Data(DataHeader {
            sector,
            block_id: BlockId((key as u64).to_be_bytes()),
            seq_num: self.seq,
            flags: DpFlags::empty(),
        });
        let send = ConnEffect::Send {
            volume,
            packet,
            digest: None,
            payload: Some(data),
            notify: None,
        };
        Effect::Connection(ConnId::FIRST, send)
    }

    fn on_request(&mut self, request: rdb_engine::Request<Buf>, fx: &mut Vec<Effect<Buf>>) {
        let rdb_engine::Request {
            id,
            volume,
            sector,
            bytes,
            kind,
        } = request;
        let work = |left| Work::App {
            id,
            left,
            read: None,
            failed: false,
        };
        if let RequestKind::Write { payload, .. } = &kind
            && self.tell_writes
        {
            self.tell(Seen::Write(sector, payload.as_slice()[0]));
        }
        match kind {
            RequestKind::Write { .. } if self.swallow_writes => {}
            RequestKind::Write { payload, .. } if self.kept.len() < self.keep_writes => {
                self.kept.push(payload);
            }
            RequestKind::Read => {
                let tag = IoTag(self.work.insert(work(1)) as u64);
                fx.push(Effect::Read {
                    volume,
                    tag,
                    sector,
                    bytes,
                    whose: rdb_engine::ReadFor::User,
                });
            }
            RequestKind::Write { payload, fua } => {
                let key = self.work.insert(work(1 + u32::from(self.connected)));
                let tag = IoTag(key as u64);
                if self.connected {
                    fx.push(self.data(volume, sector, key, payload.clone()));
                }
                fx.push(Effect::Write {
                    volume,
                    tag,
                    sector,
                    payload,
                    fua,
                });
            }
            RequestKind::Flush => {
                let tag = IoTag(self.work.insert(work(1)) as u64);
                fx.push(Effect::Flush { volume, tag });
            }
            RequestKind::Discard | RequestKind::WriteZeroes { .. } => {
                let tag = IoTag(self.work.insert(work(1)) as u64);
                let kind = DiscardKind::ZeroesMayUnmap;
                fx.push(Effect::Discard {
                    volume,
                    tag,
                    sector,
                    bytes,
                    kind,
                });
            }
        }
    }

    fn done(&mut self, key: usize, result: Result<Option<Buf>, ()>, fx: &mut Vec<Effect<Buf>>) {
        let Some(Work::App {
            id,
            left,
            read,
            failed,
        }) = self.work.get_mut(key)
        else {
            return;
        };
        *left -= 1;
        match result {
            Ok(buf) => *read = buf.or(read.take()),
            Err(()) => *failed = true,
        }
        if *left == 0 {
            let result = if *failed {
                Err(RequestError::Io)
            } else {
                Ok(read.take())
            };
            fx.push(Effect::Complete {
                request: *id,
                result,
            });
            self.work.remove(key);
        }
    }

    fn on_received(&mut self, packet: Packet, payload: Option<Buf>, fx: &mut Vec<Effect<Buf>>) {
        let volume = VolumeNr(0);
        if self.tell_packets {
            let payload = payload.map(|payload| payload.as_slice().to_vec());
            return self.tell(Seen::Received(packet, payload));
        }
        match (packet, payload) {
            (Packet::Data(header), Some(payload)) => {
                let DataHeader {
                    sector,
                    block_id,
                    seq_num,
                    ..
                } = header;
                let bytes = payload.len() as u32;
                let ack = BlockAck {
                    sector,
                    block_id,
                    bytes,
                    seq_num,
                };
                let tag = IoTag(self.work.insert(Work::Peer { ack }) as u64);
                fx.push(Effect::Write {
                    volume,
                    tag,
                    sector,
                    payload,
                    fua: false,
                });
            }
            (Packet::WriteAck(ack), None) => {
                self.done(u64::from_be_bytes(ack.block_id.0) as usize, Ok(None), fx);
            }
            (Packet::Ping, None) => {
                let packet = Packet::PingAck;
                fx.push(Effect::Connection(
                    ConnId::FIRST,
                    ConnEffect::Send {
                        volume,
                        packet,
                        digest: None,
                        payload: None,
                        notify: None,
                    },
                ));
            }
            (packet, payload) => {
                let payload = payload.map(|payload| payload.as_slice().to_vec());
                self.tell(Seen::Received(packet, payload));
            }
        }
    }
}

impl Engine for Mirror {
    fn handle(&mut self, _now: Time, event: Event<Buf>, fx: &mut Vec<Effect<Buf>>) {
        match event {
            Event::Admin { id, command } => {
                let result = self.on_admin(command, fx);
                fx.push(Effect::AdminDone { id, result });
            }
            Event::HandlerDone { id, exit } => self.tell(Seen::HandlerDone(id, exit)),
            Event::Withdraw { .. } => {} // every command is done at once
            Event::Request(request) => self.on_request(request, fx),
            Event::DiskDone { tag, result } => match self.work.get(tag.0 as usize) {
                Some(&Work::Peer { ack }) => {
                    self.work.remove(tag.0 as usize);
                    let packet = Packet::WriteAck(ack);
                    let (volume, payload, notify) = (VolumeNr(0), None, None);
                    fx.push(Effect::Connection(
                        ConnId::FIRST,
                        ConnEffect::Send {
                            volume,
                            packet,
                            digest: None,
                            payload,
                            notify,
                        },
                    ));
                }
                _ => self.done(tag.0 as usize, result.map_err(drop), fx),
            },
            Event::MetaDone { .. } => {}
            Event::NoSpace { tag, .. } => fx.push(Effect::GiveUpIo { tag }),
            Event::Connection(
                _,
                ConnEvent::Paired {
                    resolve_conflicts, ..
                },
            ) => {
                let version = ProtocolVersion::MAX;
                fx.push(Effect::Connection(
                    ConnId::FIRST,
                    ConnEffect::SetWire(WireContext::agreed(version, Features::empty())),
                ));
                self.connected = true;
                self.tell(Seen::Paired { resolve_conflicts });
            }
            Event::Connection(
                _,
                ConnEvent::PairingHindered(Some(Hindrance::OwnAddress { reason })),
            ) => {
                self.tell(Seen::OwnAddress(Some(reason)));
            }
            Event::Connection(_, ConnEvent::PairingHindered(None)) => {
                self.tell(Seen::OwnAddress(None))
            }
            Event::Connection(_, ConnEvent::PairingHindered(Some(Hindrance::NoAnswer { .. }))) => {}
            Event::Connection(
                _,
                ConnEvent::Received {
                    packet, payload, ..
                },
            ) => self.on_received(packet, payload, fx),
            Event::Connection(_, ConnEvent::Lost { socket, cause }) => {
                self.connected = false;
                fx.push(Effect::Connection(ConnId::FIRST, ConnEffect::Close));
                fx.push(Effect::Connection(ConnId::FIRST, ConnEffect::Open));
                self.tell(Seen::Lost(socket, cause));
            }
            Event::Connection(_, ConnEvent::Sent { tag }) => self.tell(Seen::Sent(tag)),
            Event::Connection(_, ConnEvent::SendStalled { socket }) => {
                self.tell(Seen::Stalled(socket))
            }
            Event::Timer(timer) => self.tell(Seen::Timer(timer)),
            Event::Connection(_, ConnEvent::ChallengeReflected) => self.tell(Seen::Reflected),
        }
    }

    fn marks(&self, _volume: VolumeNr, _from: usize, _max: usize) -> Option<Marks> {
        None
    }

    fn status(&self, _now: Time) -> ResourceStatus {
        ResourceStatus {
            connection: rdb_engine::ConnectionStatus {
                id: ConnId::FIRST,
                state: if self.connected {
                    ConnState::Connected
                } else {
                    ConnState::StandAlone
                },
                protocol: None,
                epochs: 1,
                owed_ms: 0,
                trouble: None,
            },
            snapshot: None,
            volumes: Vec::new(),
        }
    }
}
