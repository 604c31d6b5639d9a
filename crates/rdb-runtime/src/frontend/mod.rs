//! Requests of front ends on their way through the engine.

mod fuse;
mod fuse_handover;
pub(crate) mod handover;
mod knbd;
pub(crate) mod message;
mod nbd;
mod nbd_socket;
mod node;
mod nodes;
mod ublk;

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;

use rdb_engine::{
    DISCARD_MAX_BYTES, DeviceSpec, Event, REQUEST_MAX_BYTES, RequestError, RequestId, RequestKind,
    VolumeNr,
};
use rdb_frontend::{DeviceInfo, Errno, Frontend, Op, Request};
use slab::Slab;

use self::fuse::Fuse;
use self::knbd::Knbd;
use self::nbd::Nbd;
use self::node::NodeLife;
use self::ublk::Ublk;
use crate::api::{Caller, Notice, ResourceConfig};
use crate::engine::Engine;
use crate::event_loop::EventLoop;
use crate::pool::{Buf, Reserve};

/// Parts of a long discard that are under way at a time.
const PARTS_MAX: u32 = 4;

/// All front ends of a resource.
pub(crate) struct FrontEnds {
    pub(crate) nbd: Nbd,
    fuse: NodeLife<Fuse>,
    ublk: NodeLife<Ublk>,
    knbd: NodeLife<Knbd>,
    requests: Slab<FrontRequest>,
    /// Who waits for a buffer, first come first served.
    pub(crate) starved: VecDeque<Starved>,
    generation: u32,
    pub(crate) stopping: bool,
    /// Volumes whose NBD clients are let go, whatever they do.
    let_go: Vec<VolumeNr>,
    /// Demotions that wait until the last request of a parked session is answered.
    draining: Vec<(VolumeNr, Caller)>,
    /// Ends when devices that were left are removed.
    dropping: Vec<(VolumeNr, Receiver<()>)>,
}

/// Somebody with a write for which there is no buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Starved {
    Nbd { client: u32, generation: u32 },
    Fuse { volume: VolumeNr },
    Ublk { volume: VolumeNr },
}

/// Who asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    Nbd { client: u32, generation: u32 },
    Fuse { volume: VolumeNr, generation: u32 },
    Ublk { volume: VolumeNr, generation: u32 },
}

/// A request that the engine has, in whole or in parts.
struct FrontRequest {
    origin: Origin,
    volume: VolumeNr,
    request: Request,
    /// Parts at the engine.
    under_way: u32,
    /// Of a long discard: where the next part begins, and where all ends.
    next: u64,
    end: u64,
    /// A flush makes it durable at last.
    flush: bool,
    error: Option<Errno>,
    payload: Option<Buf>,
}

impl FrontEnds {
    pub(crate) fn new(config: &ResourceConfig) -> FrontEnds {
        FrontEnds {
            nbd: Nbd::new(&config.name),
            fuse: NodeLife::new(),
            ublk: NodeLife::new(),
            knbd: NodeLife::new(),
            requests: Slab::with_capacity(512),
            starved: VecDeque::new(),
            generation: 0,
            stopping: false,
            let_go: Vec::new(),
            draining: Vec::new(),
            dropping: Vec::new(),
        }
    }

    fn forget_starved(&mut self, gone: Starved) {
        self.starved.retain(|other| *other != gone);
    }

    fn next_generation(&mut self) -> u32 {
        self.generation += 1;
        self.generation
    }

    /// Whether a volume's device waits for the next process.
    pub(crate) fn is_parked(&self, nr: VolumeNr) -> bool {
        self.fuse.is_parked(nr) || self.ublk.is_parked(nr) || self.knbd.is_parked(nr)
    }

    /// Whether device nodes are still being given back.
    pub(crate) fn is_winding_down(&self) -> bool {
        !self.fuse.is_empty() || !self.ublk.is_empty() || !self.knbd.is_empty()
    }
}

/// What front ends are told of a device.
pub(crate) fn device_info(spec: DeviceSpec) -> DeviceInfo {
    DeviceInfo {
        size_bytes: spec.size_sectors.saturating_mul(512),
        minimum_block: spec.logical_block_bytes,
        preferred_block: 4096,
        maximum_request: REQUEST_MAX_BYTES,
        can_trim: true,
        can_zero: true,
        read_only: false,
    }
}

impl<E: Engine> EventLoop<E> {
    /// The engine has a device, has changed it, or has it no more.
    pub(crate) fn on_device(&mut self, nr: VolumeNr, device: Option<DeviceSpec>) {
        let old = std::mem::replace(&mut self.volume(nr).device, device);
        match device {
            Some(spec) => {
                self.nbd_device_up(nr, spec);
                self.node_up(nr, spec);
                if self.io.config.frontend != Frontend::Fuse {
                    self.end_left_session(nr);
                }
                if !matches!(
                    self.io.config.frontend,
                    Frontend::Ublk | Frontend::UblkAnyway | Frontend::Nbd
                ) {
                    // Its users do not see what is written from now on.
                    self.nobody_takes_a_left_device_over(nr);
                }
            }
            None if old.is_some() => {
                self.nbd_device_down(nr);
                if !self.node_down(nr) {
                    self.io.notify(Notice::DeviceDown { volume: nr });
                }
            }
            None => {}
        }
    }

    /// Gives all devices back.
    pub(crate) fn stop_front_ends(&mut self) {
        self.front.stopping = true;
        let volumes: Vec<VolumeNr> = self.volumes.iter().map(|volume| volume.nr).collect();
        for nr in volumes {
            self.on_device(nr, None);
        }
        // Parked devices are not given back.
        self.leave_parked_fuse();
        self.front.ublk.take_parked();
        self.front.knbd.take_parked();
    }

    /// Whether an NBD client uses a volume, and is to keep it.
    pub(crate) fn has_clients(&self, nr: VolumeNr) -> bool {
        self.front.nbd.users(nr) > 0 && !self.front.let_go.contains(&nr)
    }

    /// Passes a request to the engine. Events are raised, so this must not run amid effects.
    pub(crate) fn submit(
        &mut self,
        origin: Origin,
        volume: VolumeNr,
        request: Request,
        payload: Option<Buf>,
    ) {
        let mut front = FrontRequest {
            origin,
            volume,
            request,
            under_way: 0,
            next: request.offset,
            end: request.offset,
            flush: false,
            error: None,
            payload: None,
        };
        let kind = match (request.op, payload) {
            (Op::Read, _) => RequestKind::Read,
            (Op::Write, Some(payload)) => RequestKind::Write {
                payload,
                fua: request.fua,
            },
            (Op::Flush, _) => RequestKind::Flush,
            (Op::Trim | Op::WriteZeroes { .. }, _) => {
                front.end = request.offset.saturating_add(u64::from(request.length));
                front.flush = request.fua;
                let key = self.front.requests.insert(front);
                return self.advance_parts(key);
            }
            // A hint; doing nothing is right. (And a write that lost its data, which does not happen.)
            (Op::Cache, _) => return self.reply(&front, Ok(())),
            (Op::Write, None) => return self.reply(&front, Err(Errno::Io)),
        };
        front.under_way = 1;
        let id = RequestId(self.front.requests.insert(front) as u64);
        self.raise(Event::Request(rdb_engine::Request {
            id,
            volume,
            sector: request.offset / 512,
            bytes: request.length,
            kind,
        }));
    }

    /// Hands the next parts of a long discard to the engine, at last the flush; or replies.
    fn advance_parts(&mut self, key: usize) {
        loop {
            let Some(front) = self.front.requests.get_mut(key) else {
                return;
            };
            let failed = front.error.is_some();
            let event = if !failed && front.next < front.end && front.under_way < PARTS_MAX {
                // Parts end at multiples of the largest discard, so that none touches two extents of the log.
                let max = u64::from(DISCARD_MAX_BYTES);
                let end = front.end.min((front.next / max + 1) * max);
                let (start, bytes) = (front.next, (end - front.next) as u32);
                front.next = end;
                let kind = match front.request.op {
                    Op::WriteZeroes { may_unmap } => RequestKind::WriteZeroes { may_unmap },
                    _ => RequestKind::Discard,
                };
                let (id, volume) = (RequestId(key as u64), front.volume);
                rdb_engine::Request {
                    id,
                    volume,
                    sector: start / 512,
                    bytes,
                    kind,
                }
            } else if front.under_way > 0 {
                return;
            } else if !failed && front.flush {
                front.flush = false;
                let (id, volume) = (RequestId(key as u64), front.volume);
                rdb_engine::Request {
                    id,
                    volume,
                    sector: 0,
                    bytes: 0,
                    kind: RequestKind::Flush,
                }
            } else {
                let front = self.front.requests.remove(key);
                return self.reply(&front, front.error.map_or(Ok(()), Err));
            };
            front.under_way += 1;
            self.raise(Event::Request(event));
        }
    }

    /// A request, or a part of one, has ended. Runs amid effects.
    pub(crate) fn complete_request(
        &mut self,
        key: usize,
        result: Result<Option<Buf>, RequestError>,
    ) {
        let Some(front) = self.front.requests.get_mut(key) else {
            return;
        };
        front.under_way = front.under_way.saturating_sub(1);
        match result {
            Ok(payload) => front.payload = payload.or(front.payload.take()),
            Err(error) => front.error = front.error.or(Some(errno(error))),
        }
        let done = front.error.is_some() || front.next >= front.end && !front.flush;
        if front.under_way > 0 {
            return;
        }
        if done {
            let front = self.front.requests.remove(key);
            let result = front.error.map_or(Ok(()), Err);
            return self.reply(&front, result);
        }
        self.front.nbd.parts.push(key);
    }

    /// Goes on with long discards whose parts have ended; whether there were any.
    pub(crate) fn pump_resumed_clients(&mut self) -> bool {
        let parts = std::mem::take(&mut self.front.nbd.parts);
        let any = !parts.is_empty();
        for key in parts {
            self.advance_parts(key);
        }
        self.pump_paused_clients() || any
    }

    fn reply(&mut self, front: &FrontRequest, result: Result<(), Errno>) {
        let mut result = result;
        let payload = match (front.request.op, &front.payload) {
            (Op::Read, Some(payload)) if payload.len() == front.request.length as usize => {
                Some(payload.clone())
            }
            (Op::Read, _) => {
                // Success without the data asked for would be a lie.
                result = result.and(Err(Errno::Io));
                None
            }
            _ => None,
        };
        let payload = payload
            .filter(|_| result.is_ok())
            .map(|payload| self.settle_payload(payload));
        match front.origin {
            Origin::Nbd { client, generation } => {
                self.reply_to_client((client, generation), &front.request, result, payload);
            }
            Origin::Fuse { volume, generation } => {
                self.reply_to_kernel(volume, generation, &front.request, result, payload);
            }
            Origin::Ublk { volume, generation } => {
                self.reply_to_driver(volume, generation, &front.request, result, payload);
            }
        }
    }

    /// What the peer has read for us is copied out of the reserve for received payloads: a client may be slow to
    /// take it, and the peer's writes must not wait for that. Without room for a copy it stays.
    fn settle_payload(&mut self, payload: Buf) -> Buf {
        if !payload.is_received() {
            return payload;
        }
        let copy = self.io.pool.take(Reserve::Read, payload.len() as u32);
        let Some(mut copy) = copy else { return payload };
        match copy.as_mut_slice() {
            Some(into) => {
                into.copy_from_slice(payload.as_slice());
                copy
            }
            None => payload,
        }
    }

    /// Lets those who waited for a buffer try again; whether one got it.
    pub(crate) fn retry_starved_front_ends(&mut self) -> bool {
        let mut any = false;
        while let Some(first) = self.front.starved.front().copied() {
            let served = match first {
                Starved::Nbd { client, generation } => self.retry_client(client, generation),
                Starved::Fuse { volume } => self.retry_fuse(volume),
                Starved::Ublk { volume } => self.retry_ublk(volume),
            };
            if !served {
                break;
            }
            any = true;
        }
        any
    }
}

fn errno(error: RequestError) -> Errno {
    match error {
        RequestError::Io => Errno::Io,
        RequestError::Inval => Errno::Inval,
        RequestError::NotPrimary => Errno::Shutdown,
    }
}
