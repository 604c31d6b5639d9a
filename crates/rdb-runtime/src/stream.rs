//! Both directions of a stream socket, of the peer's and of NBD clients alike.
//!
//! Sending gathers whatever was queued in a turn into one `sendmsg`: headers lie in one piece of memory, payloads
//! are shared handles. Receiving reads whatever comes into a stage; the part of a payload that came with its header
//! is copied from there, the rest is received into its place.

use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::{opcode, squeue, types};
use rdb_engine::{SendTag, Time};
use replica_proto::Socket;

use crate::ids::ClientId;
use crate::pool::Buf;
use crate::ring::{Operation, Ring};

/// Whose socket it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// A socket of this connection to the peer.
    Peer { generation: u32, socket: Socket },
    /// An NBD client.
    Nbd(ClientId),
}

/// A send or a receive in flight.
pub(crate) struct StreamOp {
    pub(crate) owner: Owner,
    pub(crate) fd: Rc<OwnedFd>,
    pub(crate) flight: Flight,
}

/// What is under way.
pub(crate) enum Flight {
    /// A gathered send.
    Send(Box<SendBatch>),
    /// A receive of whatever comes.
    Stage(Box<Stage>),
    /// A receive of payload into its place; the number is where in the buffer it begins.
    Payload(Buf, u32),
}

impl StreamOp {
    /// Its submission, which refers to what the operation owns and to nothing else.
    pub(crate) fn entry(&mut self) -> squeue::Entry {
        let fd = types::Fd(self.fd.as_raw_fd());
        match &mut self.flight {
            Flight::Send(batch) => opcode::SendMsg::new(fd, &raw const batch.message)
                .flags((libc::MSG_NOSIGNAL | batch.more) as u32)
                .build(),
            Flight::Stage(stage) => {
                let room = &mut stage.bytes[stage.end..];
                opcode::Recv::new(fd, room.as_mut_ptr(), room.len() as u32).build()
            }
            Flight::Payload(buf, filled) => {
                let from = *filled as usize;
                let into = buf.as_ptr().wrapping_add(from);
                opcode::Recv::new(fd, into, (buf.len() - from) as u32)
                    .flags(libc::MSG_WAITALL)
                    .build()
            }
        }
    }
}

/// Pieces of one `sendmsg`. The kernel's limit is 1024; more than this gains nothing.
const PIECES_MAX: usize = 256;
/// A header buffer that has grown beyond this is given back after use.
const HEADERS_KEEP: usize = 256 * 1024;

/// One piece of what is sent.
enum Part {
    /// A range of the batch's header bytes.
    Bytes { start: usize, end: usize },
    /// A payload.
    Payload(Buf),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Part::Bytes { start, end } => end - start,
            Part::Payload(buf) => buf.len(),
        }
    }
}

/// What is sent together. Boxed, and unmoved while in flight.
pub(crate) struct SendBatch {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// Positions in the batch after which something is to be reported.
    marks: Vec<(u64, SendTag)>,
    queued: u64,
    /// Bytes of it that are packets without a payload.
    bare: u64,
    sent: u64,
    /// Marks reported.
    reported: usize,
    /// The part to go on with, and how much of it has gone.
    part: usize,
    offset: usize,
    pieces: Vec<libc::iovec>,
    message: libc::msghdr,
    /// `MSG_MORE` if another message of it follows.
    more: libc::c_int,
}

impl SendBatch {
    fn new() -> Box<SendBatch> {
        // SAFETY: a message header of zeroes is a valid empty one.
        let message = unsafe { std::mem::zeroed::<libc::msghdr>() };
        Box::new(SendBatch {
            bytes: Vec::new(),
            parts: Vec::new(),
            marks: Vec::new(),
            queued: 0,
            bare: 0,
            sent: 0,
            reported: 0,
            part: 0,
            offset: 0,
            pieces: Vec::with_capacity(PIECES_MAX),
            message,
            more: 0,
        })
    }

    fn clear(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > HEADERS_KEEP {
            self.bytes = Vec::new();
        }
        self.parts.clear();
        self.marks.clear();
        (self.queued, self.sent, self.reported) = (0, 0, 0);
        self.bare = 0;
        (self.part, self.offset) = (0, 0);
    }

    /// Lays out the next message; whether it is the last one.
    fn lay_out(&mut self) -> bool {
        self.pieces.clear();
        let mut offset = self.offset;
        for part in self.parts[self.part..].iter().take(PIECES_MAX) {
            let (base, len) = match part {
                Part::Bytes { start, end } => {
                    (self.bytes[*start..*end].as_ptr().cast_mut(), end - start)
                }
                Part::Payload(buf) => (buf.as_ptr(), buf.len()),
            };
            self.pieces.push(libc::iovec {
                iov_base: base.wrapping_add(offset).cast(),
                iov_len: len - offset,
            });
            offset = 0;
        }
        self.message.msg_iov = self.pieces.as_mut_ptr();
        self.message.msg_iovlen = self.pieces.len() as _;
        self.parts.len() - self.part <= PIECES_MAX
    }

    /// Takes note of `bytes` sent; whether all are.
    fn advance(&mut self, mut bytes: usize) -> bool {
        self.sent += bytes as u64;
        while let Some(part) = self.parts.get(self.part) {
            let left = part.len() - self.offset;
            if bytes < left {
                self.offset += bytes;
                return false;
            }
            bytes -= left;
            self.offset = 0;
            self.part += 1;
        }
        true
    }
}

/// What is to be sent over one socket, in order.
pub(crate) struct Sender {
    building: Box<SendBatch>,
    spare: Option<Box<SendBatch>>,
    /// A batch is in flight.
    flying: bool,
    /// Bytes of that batch.
    flying_bytes: u64,
    /// Those of packets without a payload.
    flying_bare: u64,
    /// Sending has failed: nothing is queued any more.
    dead: bool,
    /// When TCP took bytes last, or when there was nothing to take.
    pub(crate) progress: Time,
    /// Say to TCP that more follows when a batch needs several messages (`tcp-cork`).
    cork: bool,
}

/// What became of a send.
pub(crate) enum Sent {
    /// On it goes.
    More,
    /// All that was in flight is sent.
    All,
    /// The socket is broken.
    Failed(i32),
}

impl Sender {
    pub(crate) fn new(now: Time, cork: bool) -> Sender {
        Sender {
            building: SendBatch::new(),
            spare: Some(SendBatch::new()),
            flying: false,
            flying_bytes: 0,
            flying_bare: 0,
            dead: false,
            progress: now,
            cork,
        }
    }

    /// Queues what `write` appends.
    pub(crate) fn queue_bytes<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let batch = &mut *self.building;
        let start = batch.bytes.len();
        let result = write(&mut batch.bytes);
        if self.dead {
            batch.bytes.truncate(start);
            return result;
        }
        let end = batch.bytes.len();
        batch.queued += (end - start) as u64;
        match batch.parts.last_mut() {
            Some(Part::Bytes { end: last, .. }) => *last = end,
            _ if end > start => batch.parts.push(Part::Bytes { start, end }),
            _ => {}
        }
        result
    }

    /// Queues a payload.
    pub(crate) fn queue_payload(&mut self, payload: Buf) {
        if !self.dead && !payload.is_empty() {
            self.building.queued += payload.len() as u64;
            self.building.parts.push(Part::Payload(payload));
        }
    }

    /// Reports `tag` when all that is queued so far has been taken.
    pub(crate) fn mark(&mut self, tag: SendTag) {
        if !self.dead {
            self.building.marks.push((self.building.queued, tag));
        }
    }

    /// Queues a packet that no payload follows: it takes memory that no reserve bounds.
    pub(crate) fn queue_bare(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.building.queued;
        self.queue_bytes(write);
        self.building.bare += self.building.queued - before;
    }

    /// Bytes of such packets that TCP has not taken: queued, or of the batch in flight.
    pub(crate) fn bare_bytes(&self) -> u64 {
        self.building.bare + self.flying_bare
    }

    /// Bytes that may hold buffers: queued, or of the batch in flight.
    pub(crate) fn unsent_bytes(&self) -> u64 {
        self.building.queued + self.flying_bytes
    }

    /// Bytes queued that are not in flight yet.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.building.queued
    }

    /// Whether nothing is queued or in flight.
    pub(crate) fn is_idle(&self) -> bool {
        !self.flying && self.building.queued == 0
    }

    /// Whether bytes are in flight.
    pub(crate) fn is_flying(&self) -> bool {
        self.flying
    }

    /// Drops what is queued; what is in flight ends by itself.
    pub(crate) fn kill(&mut self) {
        self.dead = true;
        self.building.clear();
    }

    /// Starts to send what is queued, if something is and nothing is in flight.
    pub(crate) fn flush(
        &mut self,
        now: Time,
        ring: &mut Ring<impl Operation + From<StreamOp>>,
        owner: Owner,
        fd: &Rc<OwnedFd>,
    ) {
        if self.flying || self.building.parts.is_empty() {
            return;
        }
        let next = self.spare.take().unwrap_or_else(SendBatch::new);
        let batch = std::mem::replace(&mut self.building, next);
        self.flying = true;
        self.flying_bytes = batch.queued;
        self.flying_bare = batch.bare;
        self.progress = now;
        send(ring, owner, batch, Rc::clone(fd), self.cork);
    }

    /// Handles the end of a send. Tags whose bytes are all taken are appended to `tags`.
    pub(crate) fn on_sent(
        &mut self,
        now: Time,
        ring: &mut Ring<impl Operation + From<StreamOp>>,
        (owner, mut batch, fd): (Owner, Box<SendBatch>, Rc<OwnedFd>),
        result: i32,
        tags: &mut impl Extend<SendTag>,
    ) -> Sent {
        match result {
            taken if taken > 0 => {
                self.progress = now;
                let done = batch.advance(taken as usize);
                let (sent, reported) = (batch.sent, batch.reported);
                let count = batch.marks[reported..]
                    .iter()
                    .take_while(|&&(end, _)| end <= sent)
                    .count();
                tags.extend(
                    batch.marks[reported..reported + count]
                        .iter()
                        .map(|&(_, tag)| tag),
                );
                batch.reported += count;
                if done || self.dead {
                    self.recycle(batch);
                    return Sent::All;
                }
            }
            error if error == -libc::EINTR || error == -libc::EAGAIN => {}
            error => {
                self.recycle(batch);
                self.kill();
                return Sent::Failed(-error);
            }
        }
        if self.dead {
            self.recycle(batch);
            return Sent::All;
        }
        send(ring, owner, batch, fd, self.cork);
        Sent::More
    }

    fn recycle(&mut self, mut batch: Box<SendBatch>) {
        self.flying = false;
        self.flying_bytes = 0;
        self.flying_bare = 0;
        batch.clear();
        self.spare = Some(batch);
    }
}

fn send(
    ring: &mut Ring<impl Operation + From<StreamOp>>,
    owner: Owner,
    mut batch: Box<SendBatch>,
    fd: Rc<OwnedFd>,
    cork: bool,
) {
    let last = batch.lay_out();
    batch.more = if cork && !last { libc::MSG_MORE } else { 0 };
    let flight = Flight::Send(batch);
    ring.start(StreamOp { owner, fd, flight });
}

/// Where bytes arrive first.
pub(crate) struct Stage {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Stage {
    fn new(size: usize) -> Box<Stage> {
        Box::new(Stage {
            bytes: vec![0; size].into(),
            start: 0,
            end: 0,
        })
    }

    /// What has arrived and is not used up.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Uses bytes up.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start = self.start.saturating_add(bytes).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

/// A payload that is arriving.
struct Arriving {
    buf: Buf,
    filled: usize,
}

/// The receiving side of one socket: at most one receive in flight.
pub(crate) struct Receiver {
    /// At home while no receive into it is in flight.
    stage: Option<Box<Stage>>,
    arriving: Option<Arriving>,
    in_flight: bool,
}

/// What became of a receive.
pub(crate) enum Received {
    /// There is more in the stage, or a payload grew.
    Bytes,
    /// End of file (0) or an error.
    Ended(i32),
}

impl Receiver {
    pub(crate) fn new(stage_bytes: usize) -> Receiver {
        Receiver {
            stage: Some(Stage::new(stage_bytes)),
            arriving: None,
            in_flight: false,
        }
    }

    /// Whether a receive is in flight.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// What has arrived and is not used up; nothing while a receive is in flight.
    pub(crate) fn unread(&self) -> &[u8] {
        self.stage.as_ref().map_or(&[], |stage| stage.unread())
    }

    /// Uses bytes up.
    pub(crate) fn consume(&mut self, bytes: usize) {
        if let Some(stage) = &mut self.stage {
            stage.consume(bytes);
        }
    }

    /// From here on, bytes belong to a payload.
    pub(crate) fn begin_payload(&mut self, mut buf: Buf) {
        let mut filled = 0;
        if let (Some(stage), Some(into)) = (&mut self.stage, buf.as_mut_slice()) {
            let have = stage.unread();
            filled = have.len().min(into.len());
            into[..filled].copy_from_slice(&have[..filled]);
            stage.consume(filled);
        }
        self.arriving = Some(Arriving { buf, filled });
    }

    /// The payload, once it is complete.
    pub(crate) fn take_payload(&mut self) -> Option<Buf> {
        match &self.arriving {
            Some(arriving) if arriving.filled == arriving.buf.len() => {
                self.arriving.take().map(|arriving| arriving.buf)
            }
            _ => None,
        }
    }

    /// Forgets what has arrived and is not used up.
    pub(crate) fn discard(&mut self) {
        self.arriving = None;
        if let Some(stage) = &mut self.stage {
            stage.consume(usize::MAX);
        }
    }

    /// Takes note that a receive into a payload has ended and that the payload is of no more use.
    pub(crate) fn payload_is_gone(&mut self) {
        self.in_flight = false;
    }

    /// Whether a payload is being received.
    pub(crate) fn is_amid_payload(&self) -> bool {
        self.arriving.is_some()
    }

    /// Whether a payload has its buffer: it is being received, or its operation is in flight.
    pub(crate) fn holds_payload(&self) -> bool {
        self.arriving.is_some() || self.in_flight && self.stage.is_some()
    }

    /// Receives more: into the payload that is arriving, else into the stage.
    pub(crate) fn receive(
        &mut self,
        ring: &mut Ring<impl Operation + From<StreamOp>>,
        owner: Owner,
        fd: &Rc<OwnedFd>,
    ) {
        if self.in_flight {
            return;
        }
        let fd = Rc::clone(fd);
        if let Some(Arriving { buf, filled }) = self.arriving.take() {
            self.in_flight = true;
            let flight = Flight::Payload(buf, filled as u32);
            ring.start(StreamOp { owner, fd, flight });
            return;
        }
        let Some(mut stage) = self.stage.take() else {
            return;
        };
        if stage.start > 0 {
            stage.bytes.copy_within(stage.start..stage.end, 0);
            (stage.start, stage.end) = (0, stage.end - stage.start);
        }
        self.in_flight = true;
        let flight = Flight::Stage(stage);
        ring.start(StreamOp { owner, fd, flight });
    }

    /// Handles the end of a receive into the stage.
    pub(crate) fn on_stage(&mut self, mut stage: Box<Stage>, result: i32) -> Received {
        self.in_flight = false;
        let received = match result {
            bytes if bytes > 0 => {
                stage.end = (stage.end + bytes as usize).min(stage.bytes.len());
                Received::Bytes
            }
            error if error == -libc::EINTR || error == -libc::EAGAIN => Received::Bytes,
            // A full stage would look like an end of file; whoever fills it keeps it from being full.
            end => Received::Ended(-end),
        };
        self.stage = Some(stage);
        received
    }

    /// Handles the end of a receive into a payload.
    pub(crate) fn on_payload(&mut self, buf: Buf, filled: u32, result: i32) -> Received {
        self.in_flight = false;
        match result {
            bytes if bytes > 0 => {
                let filled = (filled as usize + bytes as usize).min(buf.len());
                self.arriving = Some(Arriving { buf, filled });
                Received::Bytes
            }
            error if error == -libc::EINTR || error == -libc::EAGAIN => {
                self.arriving = Some(Arriving {
                    buf,
                    filled: filled as usize,
                });
                Received::Bytes
            }
            end => Received::Ended(-end),
        }
    }
}
