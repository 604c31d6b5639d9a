//! Requests of front ends on their way through the engine, whoever asked.

use std::collections::VecDeque;

use rdb_engine::{
    DISCARD_MAX_BYTES, DeviceSpec, Event, REQUEST_MAX_BYTES, RequestError, RequestId, RequestKind,
    VolumeNr,
};
use rdb_frontend::{DeviceInfo, Errno, Op, Request};
use slab::Slab;

use crate::ids::{ClientId, NodeId};
use crate::io::Io;
use crate::pool::Buf;

/// Parts of a long discard that are under way at a time.
const PARTS_MAX: u32 = 4;

/// Who asks for something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    /// A client of the NBD socket.
    Nbd(ClientId),
    /// The kernel's FUSE client of a node.
    Fuse(NodeId),
    /// The ublk driver, for a node.
    Ublk(NodeId),
}

/// Who waits for a buffer, first come first served.
#[derive(Default)]
pub(super) struct Queue(VecDeque<Who>);

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn first(&self) -> Option<Who> {
        self.0.front().copied()
    }

    /// A buffer for somebody's write, unless others wait already, one of them perhaps for a large piece. Without one he waits.
    pub(super) fn take(&mut self, io: &Io, who: Who, bytes: u32) -> Option<Buf> {
        let is_first = self.0.front().is_none_or(|first| *first == who);
        let buf = is_first.then(|| io.pool.take_for_write(bytes)).flatten();
        if buf.is_none() && !self.0.contains(&who) {
            self.0.push_back(who);
        }
        buf
    }

    /// Somebody waits no longer.
    pub(super) fn leave(&mut self, who: Who) {
        self.0.retain(|other| *other != who);
    }
}

/// What a front end was asked for.
pub(super) struct Asked {
    pub(super) who: Who,
    pub(super) volume: VolumeNr,
    pub(super) request: Request,
    /// Of a write.
    pub(super) payload: Option<Buf>,
}

/// Somebody whose requests are taken now.
#[derive(Default)]
pub(crate) struct Turn {
    pub(super) who: Option<Who>,
    /// A request that was taken already.
    pub(super) first: Option<Asked>,
    /// A long discard that is handed to the engine in parts.
    pub(super) parts: Option<usize>,
    /// Messages that were taken in this turn; of a client of the NBD socket, 1 once it was asked.
    pub(super) taken: usize,
    /// There are no more messages.
    pub(super) is_drained: bool,
}

impl Turn {
    pub(crate) fn of(who: Option<Who>) -> Turn {
        Turn {
            who,
            ..Turn::default()
        }
    }
}

/// A request that the engine has, in whole or in parts.
pub(super) struct FrontRequest {
    pub(super) who: Who,
    volume: VolumeNr,
    pub(super) request: Request,
    /// Parts at the engine.
    under_way: u32,
    /// Of a long discard: where the next part begins, and where all ends.
    next: u64,
    end: u64,
    /// A flush makes it durable at last.
    flush: bool,
    pub(super) error: Option<Errno>,
    /// What was read.
    pub(super) payload: Option<Buf>,
}

/// How a request goes on.
pub(super) enum Going {
    /// The engine is told this. There may be more to tell.
    On(Event<Buf>),
    /// What is under way has to end first.
    Waits,
    /// It is to be answered.
    Done(FrontRequest),
    /// It is one in parts, in this place, of which the next can be handed to the engine.
    InParts(usize),
}

/// What is to be done with a request of which nothing is under way.
pub(super) enum Ended {
    /// It is to be answered.
    Done(FrontRequest),
    /// The next part of the one in this place is to be handed to the engine.
    InParts(usize),
}

/// The requests of all front ends that are not answered.
pub(super) struct Requests(Slab<FrontRequest>);

impl Requests {
    pub(super) fn new() -> Requests {
        Requests(Slab::with_capacity(512))
    }

    /// Who has asked for those that are not answered.
    pub(super) fn askers(&self) -> impl Iterator<Item = Who> {
        self.0.iter().map(|(_, front)| front.who)
    }

    /// Takes a request on.
    pub(super) fn submit(&mut self, asked: Asked) -> Going {
        let Asked {
            who,
            volume,
            request,
            payload,
        } = asked;
        let mut front = FrontRequest {
            who,
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
                return Going::InParts(self.0.insert(front));
            }
            // A hint; doing nothing is right.
            (Op::Cache, _) => return Going::Done(front),
            // A write that lost its data, which does not happen.
            (Op::Write, None) => {
                front.error = Some(Errno::Io);
                return Going::Done(front);
            }
        };
        front.under_way = 1;
        let key = self.0.insert(front);
        let range = (request.offset, request.length);
        Going::On(ask(key, volume, range, kind))
    }

    /// The next part of a long discard, at last the flush; or its end.
    pub(super) fn advance(&mut self, key: usize) -> Going {
        let Some(front) = self.0.get_mut(key) else {
            return Going::Waits;
        };
        let failed = front.error.is_some();
        let (range, kind) = if !failed && front.next < front.end && front.under_way < PARTS_MAX {
            // Parts end at multiples of the largest discard, so that none touches two extents of the log.
            let max = u64::from(DISCARD_MAX_BYTES);
            let end = front.end.min((front.next / max + 1) * max);
            let range = (front.next, (end - front.next) as u32);
            front.next = end;
            let kind = match front.request.op {
                Op::WriteZeroes { may_unmap } => RequestKind::WriteZeroes { may_unmap },
                _ => RequestKind::Discard,
            };
            (range, kind)
        } else if front.under_way > 0 {
            return Going::Waits;
        } else if !failed && front.flush {
            front.flush = false;
            ((0, 0), RequestKind::Flush)
        } else {
            return Going::Done(self.0.remove(key));
        };
        front.under_way += 1;
        Going::On(ask(key, front.volume, range, kind))
    }

    /// A request, or a part of one, has ended: what is to be done with it, if it is not under way any more.
    pub(super) fn complete(
        &mut self,
        key: usize,
        result: Result<Option<Buf>, RequestError>,
    ) -> Option<Ended> {
        let front = self.0.get_mut(key)?;
        front.under_way = front.under_way.saturating_sub(1);
        match result {
            Ok(payload) => front.payload = payload.or(front.payload.take()),
            Err(error) => front.error = front.error.or(Some(errno(error))),
        }
        if front.under_way > 0 {
            None
        } else if front.error.is_some() || front.next >= front.end && !front.flush {
            Some(Ended::Done(self.0.remove(key)))
        } else {
            Some(Ended::InParts(key))
        }
    }
}

fn ask(
    key: usize,
    volume: VolumeNr,
    (offset, bytes): (u64, u32),
    kind: RequestKind<Buf>,
) -> Event<Buf> {
    Event::Request(rdb_engine::Request {
        id: RequestId(key as u64),
        volume,
        sector: offset / 512,
        bytes,
        kind,
    })
}

fn errno(error: RequestError) -> Errno {
    match error {
        RequestError::Io => Errno::Io,
        RequestError::Inval => Errno::Inval,
        RequestError::NotPrimary => Errno::Shutdown,
    }
}

/// What front ends are told of a device.
pub(super) fn device_info(spec: DeviceSpec) -> DeviceInfo {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn trim(length: u32, fua: bool) -> Asked {
        Asked {
            who: Who::Nbd(ClientId {
                key: 0,
                generation: 0,
            }),
            volume: VolumeNr(0),
            request: Request {
                tag: 1,
                op: Op::Trim,
                offset: 4096,
                length,
                fua,
            },
            payload: None,
        }
    }

    /// Goal: a long discard never has more than a few parts at the engine, no part passes a multiple of the largest discard, and the
    /// flush comes when all of them have ended.
    #[test]
    fn a_long_discard_is_handed_out_in_parts_and_flushed_at_last() {
        let mut requests = Requests::new();
        let length = 6 * DISCARD_MAX_BYTES;
        let Going::InParts(key) = requests.submit(trim(length, true)) else {
            panic!("it is not done in parts");
        };
        let (mut next, mut under_way, mut parts) = (4096, 0, 0);
        loop {
            match requests.advance(key) {
                Going::On(Event::Request(part)) if part.bytes > 0 => {
                    let end = part.sector * 512 + u64::from(part.bytes);
                    assert_eq!(part.sector * 512, next);
                    let max = u64::from(DISCARD_MAX_BYTES);
                    assert_eq!(next / max, (end - 1) / max);
                    (next, under_way, parts) = (end, under_way + 1, parts + 1);
                    assert!(under_way <= PARTS_MAX);
                }
                Going::On(_) => break,
                Going::Waits => {
                    under_way -= 1;
                    requests.complete(key, Ok(None));
                }
                Going::Done(_) | Going::InParts(_) => panic!("the flush is missing"),
            }
        }
        assert_eq!((next, parts), (4096 + u64::from(length), 7));
        assert_eq!(under_way, 0, "the flush comes last");
        let ended = requests.complete(key, Ok(None));
        assert!(matches!(ended, Some(Ended::Done(front)) if front.error.is_none()));
    }

    #[test]
    fn a_part_that_fails_is_the_last_one() {
        let mut requests = Requests::new();
        let Going::InParts(key) = requests.submit(trim(8 * DISCARD_MAX_BYTES, true)) else {
            panic!("it is not done in parts");
        };
        assert!(matches!(requests.advance(key), Going::On(_)));
        assert!(matches!(requests.advance(key), Going::On(_)));
        assert!(requests.complete(key, Err(RequestError::Io)).is_none());
        assert!(matches!(requests.advance(key), Going::Waits));
        let ended = requests.complete(key, Ok(None));
        assert!(matches!(ended, Some(Ended::Done(front)) if front.error == Some(Errno::Io)));
        assert_eq!(requests.askers().count(), 0);
    }
}
