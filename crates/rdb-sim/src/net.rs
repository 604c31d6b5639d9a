//! The link between the nodes, and the two streams of a connection in either direction.
//!
//! A frame that is sent goes into the sender's socket buffer if there is room, waits otherwise, and arrives after all
//! earlier ones of its stream: latency, bandwidth and what happens to the link say when. A direction that is dead
//! delivers nothing; TCP sends again once it is alive, or the connection is found to be broken.

use std::collections::VecDeque;

use rdb_engine::{SendTag, Time};
use replica_proto::Socket;

use crate::node::Data;
use crate::rng::mix;

/// What a stream carries.
#[derive(Debug, Clone)]
pub enum Content {
    /// A packet as encoded, and its payload, which is not copied.
    Packet(Vec<u8>, Option<Data>),
    /// The end of the stream, with an errno or 0.
    End(i32),
}

/// One piece of a stream.
#[derive(Debug, Clone)]
pub struct Frame {
    /// When it arrives; never, while it waits for room in the socket buffer.
    pub due: Time,
    /// What it is.
    pub content: Content,
    pub(crate) bytes: u64,
    pub(crate) notify: Option<SendTag>,
}

/// Not yet in the socket buffer.
pub(crate) const WAITING: Time = Time(u64::MAX);

/// A direction of a socket.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    /// What is on its way.
    pub frames: VecDeque<Frame>,
    /// Bytes in the socket buffer or on the wire.
    pub(crate) buffered: u64,
    /// Since when frames wait and none moved.
    pub(crate) stalled_since: Option<Time>,
    /// What is sent does not get anywhere any more.
    pub(crate) broken: bool,
}

impl Stream {
    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The piece that arrives next.
    pub fn front(&self) -> Option<&Frame> {
        self.frames.front()
    }

    /// How many pieces are on their way.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn last_due(&self) -> Time {
        let sent = self.frames.iter().rev().map(|f| f.due);
        sent.into_iter().find(|&d| d != WAITING).unwrap_or(Time(0))
    }
}

/// How the link is.
#[derive(Debug, Clone)]
pub struct Link {
    /// Least time from one node to the other, in microseconds.
    pub latency_us: u64,
    /// Most that is added to it, in microseconds.
    pub jitter_us: u64,
    /// Bytes a millisecond in each direction; 0 is no limit.
    pub bytes_per_ms: u64,
    /// Bytes that a socket buffer takes.
    pub buffer_bytes: u64,
    /// Nothing arrives at node `i`.
    pub dead: [bool; 2],
    /// Once in so many times, one node has a connection before the other, which never gets it; 0 is never.
    pub crossing: u64,
    /// Once in so many times, data that travel with a digest arrive with a byte changed; 0 is never.
    pub spoils: u64,
    pub(crate) busy_until: [Time; 2],
    pub(crate) sent: u64,
}

impl Default for Link {
    fn default() -> Self {
        Link {
            latency_us: 30,
            jitter_us: 300,
            bytes_per_ms: 0,
            buffer_bytes: 4 << 20,
            dead: [false; 2],
            crossing: 0,
            spoils: 0,
            busy_until: [Time(0); 2],
            sent: 0,
        }
    }
}

impl Link {
    /// When a frame that enters the socket buffer towards `node` now arrives.
    pub(crate) fn arrival(&mut self, seed: u64, now: Time, node: usize, bytes: u64) -> Time {
        self.sent += 1;
        let draw = mix(seed, self.sent);
        // Mostly little is added, now and then all of it.
        let jitter = (self.jitter_us >> (draw % 6)) * ((draw >> 8) % 1024) / 1024;
        let mut start = now;
        if let Some(ns) = (bytes * 1_000_000).checked_div(self.bytes_per_ms) {
            start = start.max(self.busy_until[node]);
            start = Time(start.0 + ns);
            self.busy_until[node] = start;
        }
        Time(start.0 + (self.latency_us + jitter) * 1000)
    }
}

pub(crate) fn socket_of(index: usize) -> Socket {
    if index == Socket::Data as usize {
        Socket::Data
    } else {
        Socket::Meta
    }
}
