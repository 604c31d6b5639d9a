//! What happens between the nodes: sending, arriving, connections made and lost, and the cable.

use std::collections::VecDeque;

use rdb_engine::{ConnEvent, ConnId, Event, LossCause, Payload, SendTag, Time, VolumeNr};
use replica_proto::{Digest, Packet, Socket, decode};

use crate::net::{Content, Frame, Stream, WAITING, socket_of};
use crate::node::Data;
use crate::plan::Trigger;
use crate::rng::{Rng, mix};
use crate::world::World;

impl World {
    pub(crate) fn send(
        &mut self,
        i: usize,
        volume: VolumeNr,
        packet: &Packet,
        digest: Option<&Digest>,
        payload: Option<Data>,
        notify: Option<SendTag>,
    ) {
        if !matches!(packet, Packet::Ping | Packet::PingAck) {
            self.tell(i, || format!("> {volume} {}", shown(packet)));
        }
        self.coverage.packet(i, packet.command());
        if matches!(packet, Packet::BarrierAck { .. }) {
            self.meets(i, Trigger::BarrierAck);
        }
        let len = payload.as_ref().map_or(0, Payload::len_bytes);
        self.siege_hears(i, volume.0, packet, len);
        let node = &mut self.nodes[i];
        node.note(|| format!("send {}", World::describe(packet)));
        if matches!(packet, Packet::RsDataReply(_)) {
            node.resync_bytes += u64::from(len);
        }
        let mut header = Vec::with_capacity(64);
        packet.encode(&node.wire, volume.0, digest, len, &mut header);
        let s = packet.socket() as usize;
        if !node.connected || self.silent || self.net[1 - i][s].broken {
            // The local TCP stack takes it all the same.
            if let Some(tag) = notify {
                self.push_sent(i, tag);
            }
            return;
        }
        let bytes = header.len() as u64 + u64::from(len);
        self.net[1 - i][s].frames.push_back(Frame {
            due: WAITING,
            content: Content::Packet(header, payload),
            bytes,
            notify,
        });
        self.fill_buffer(1 - i, s);
    }

    /// Frames that wait go into the socket buffer while there is room.
    pub(crate) fn fill_buffer(&mut self, to: usize, s: usize) {
        let (seed, now) = (mix(self.seed, 0x11e7 + to as u64 * 2 + s as u64), self.now);
        let mut sent = Vec::new();
        let stream = &mut self.net[to][s];
        let mut last = stream.last_due();
        let mut moved = false;
        let first = stream.frames.iter().position(|f| f.due == WAITING);
        let first = first.unwrap_or(stream.frames.len());
        let mut waits = false;
        for frame in stream.frames.iter_mut().skip(first) {
            if stream.buffered > 0 && stream.buffered + frame.bytes > self.wires.buffer_bytes {
                waits = true;
                break;
            }
            stream.buffered += frame.bytes;
            last = last.max(self.wires.arrival(seed, now, to, frame.bytes));
            frame.due = last;
            moved = true;
            sent.extend(frame.notify.take());
        }
        if !waits {
            stream.stalled_since = None;
        } else if moved || stream.stalled_since.is_none() {
            stream.stalled_since = Some(now);
        }
        for tag in sent {
            self.push_sent(1 - to, tag);
        }
    }

    /// Takes what arrives next at a node off the wire, and lets what has waited for room go on.
    pub fn take_next(&mut self, i: usize, socket: Socket) -> Option<Content> {
        let s = socket as usize;
        let frame = self.net[i][s].frames.pop_front()?;
        self.net[i][s].buffered = self.net[i][s].buffered.saturating_sub(frame.bytes);
        self.fill_buffer(i, s);
        Some(frame.content)
    }

    pub(crate) fn deliver(&mut self, i: usize, s: usize) {
        let socket = socket_of(s);
        let (bytes, payload) = match self.take_next(i, socket) {
            None => return,
            Some(Content::Packet(bytes, payload)) => (bytes, payload),
            Some(Content::End(error)) => {
                self.tell(i, || format!("the {socket:?} socket ended ({error})"));
                return self.lose(i, socket, error);
            }
        };
        if self.siege.is_some() {
            return self.siege_arrives(i, s, &bytes, payload);
        }
        match decode(&self.nodes[i].wire, socket, &bytes) {
            Ok(Some(frame)) => {
                let len = payload.as_ref().map_or(0, Payload::len_bytes);
                assert_eq!(
                    bytes.len(),
                    frame.consumed,
                    "a header has the length it says"
                );
                assert_eq!(frame.payload_len, len, "a payload has the length it says");
                let (volume, packet, digest) = (frame.volume, frame.packet, frame.digest);
                let payload = payload.map(|data| match digest {
                    Some(_) => self.spoil(i, data),
                    None => data,
                });
                if !matches!(packet, Packet::Ping | Packet::PingAck) {
                    self.tell(i, || format!("< {volume} {}", shown(&packet)));
                }
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

    /// Data as they arrive over a cable that changes a byte now and then, unseen by TCP.
    fn spoil(&mut self, i: usize, data: Data) -> Data {
        let draw = mix(self.seed ^ 0x5901, self.events);
        if draw.checked_rem(self.wires.spoils) != Some(0) || data.0.is_empty() {
            return data;
        }
        self.coverage.hit("fault: data spoiled on the way");
        self.tell(i, || "the data that come now are spoiled".into());
        let mut bytes = data.0.to_vec();
        let at = (draw >> 32) as usize % bytes.len();
        bytes[at] ^= 1 << (draw >> 61);
        Data(std::rc::Rc::new(bytes))
    }

    /// A connection will come about, if both nodes want one and the link allows it.
    pub(crate) fn want_pair(&mut self) {
        let ready = |i: usize| {
            let n = &self.nodes[i];
            n.alive && n.connecting && !n.connected && self.paired_due[i].is_none()
        };
        let free = self.link && !self.silent && self.wires.dead == [false; 2];
        if free && ready(0) && ready(1) && self.siege.is_none() {
            if self.pairing.is_none() {
                self.pairings += 1;
                let draw = mix(self.seed ^ 0x9a12, self.pairings);
                self.pairing = Some(Time(self.now.0 + 100_000 + draw % 3_000_000));
            }
        } else {
            self.pairing = None;
        }
    }

    /// Both nodes get their two sockets, one a little after the other; or one alone does.
    pub(crate) fn pair_sockets(&mut self) {
        self.pairing = None;
        let draw = mix(self.seed ^ 0x9a13, self.pairings);
        let flag = draw % 2;
        let first = ((draw >> 1) % 2) as usize;
        let crossing = (draw >> 2).checked_rem(self.wires.crossing) == Some(0);
        for j in 0..2 {
            self.net[j] = Default::default();
            if crossing && j != first {
                continue;
            }
            self.nodes[j].connecting = false;
            let late = if j == first {
                0
            } else {
                (draw >> 16) % 2_000_000
            };
            self.paired_due[j] = Some((Time(self.now.0 + late), j as u64 == flag));
        }
        self.tell(2, || {
            format!("paired{}", if crossing { ", one node alone" } else { "" })
        });
        if crossing {
            self.coverage.hit("fault: connection at one node alone");
            let due = Time(self.now.0 + (draw >> 20) % 400_000_000);
            for s in 0..2 {
                self.net[1 - first][s].broken = true;
                self.push_end(first, s, due, 104);
            }
        }
    }

    /// A node learns that it has a connection.
    pub(crate) fn tell_paired(&mut self, i: usize) {
        let Some((_, resolve_conflicts)) = self.paired_due[i].take() else {
            return;
        };
        self.nodes[i].connected = true;
        let mut challenge = [0; 64];
        let words = challenge.chunks_exact_mut(8);
        for (n, word) in words.enumerate() {
            let draw = mix(self.seed ^ 0xc4a1, self.pairings * 16 + (i * 8 + n) as u64);
            word.copy_from_slice(&draw.to_le_bytes());
        }
        // Whoever opened one socket may have opened the other, or not.
        let crossed = mix(self.seed ^ 0xca11, self.pairings) & 1 == 1;
        let event = Event::Connection(
            ConnId::FIRST,
            ConnEvent::Paired {
                resolve_conflicts,
                called: resolve_conflicts != crossed,
                challenge,
            },
        );
        self.event(i, event);
    }

    pub(crate) fn push_end(&mut self, to: usize, s: usize, at: Time, error: i32) {
        let stream = &mut self.net[to][s];
        // What waits for room in the buffer is lost with the sender or the cable.
        stream.frames.retain(|f| f.due != WAITING);
        stream.stalled_since = None;
        let due = at.max(stream.last_due());
        stream.frames.push_back(Frame {
            due,
            content: Content::End(error),
            bytes: 0,
            notify: None,
        });
        stream.broken = true;
    }

    /// Node `i` closes its sockets: what it sent before still arrives; then the peer sees the end of each.
    pub(crate) fn close(&mut self, i: usize) {
        self.nodes[i].connected = false;
        self.net[i] = Default::default();
        self.net[i].iter_mut().for_each(|s| s.broken = true);
        let peer = 1 - i;
        let there = self.nodes[peer].connected || self.paired_due[peer].is_some();
        if there && !self.silent {
            for s in 0..2 {
                if !self.net[peer][s].broken {
                    // The sender still drains for a moment what had no room.
                    self.drain(peer, s);
                    let late = 30_000 + mix(self.seed ^ 0xf1, self.ops + s as u64) % 200_000;
                    self.push_end(peer, s, Time(self.now.0 + late), 0);
                }
            }
        }
    }

    fn drain(&mut self, to: usize, s: usize) {
        let stream = &mut self.net[to][s];
        let last = stream.last_due().max(self.now);
        for (n, frame) in stream
            .frames
            .iter_mut()
            .filter(|f| f.due == WAITING)
            .enumerate()
        {
            frame.due = Time(last.0 + 1000 * n as u64);
        }
    }

    /// A socket of node `i` ends, and the driver tells its engine, which closes both.
    pub(crate) fn lose(&mut self, i: usize, socket: Socket, error: i32) {
        // What still comes is not read.
        self.net[i] = Default::default();
        self.net[i].iter_mut().for_each(|s| s.broken = true);
        let cause = LossCause::Closed { error };
        self.event(
            i,
            Event::Connection(ConnId::FIRST, ConnEvent::Lost { socket, cause }),
        );
        if self.nodes[i].connected {
            // The engine was not interested: it closed before, or never used it.
            self.close(i);
        }
        self.want_pair();
    }

    /// Both nodes find out at once, and what was on its way is lost.
    pub fn cut(&mut self) {
        self.tell(2, || "the link is cut".into());
        self.link = false;
        self.pairing = None;
        for stream in self.net.iter_mut().flatten() {
            *stream = Stream::default();
            stream.broken = true;
        }
        for i in 0..2 {
            if self.nodes[i].connected {
                self.lose(i, Socket::Meta, 110);
            }
        }
        self.forget_unpaired();
    }

    /// Nodes that were about to get a connection do not.
    fn forget_unpaired(&mut self) {
        for i in 0..2 {
            if self.paired_due[i].take().is_some() {
                self.nodes[i].connecting = true;
            }
        }
    }

    /// Some of what is on its way arrives, different amounts each way and on each socket, and the nodes find out at
    /// different times, by different sockets.
    pub fn cut_raggedly(&mut self) {
        self.tell(2, || "the link is cut raggedly".into());
        self.link = false;
        self.pairing = None;
        self.sever();
        self.forget_unpaired();
    }

    /// Every stream of the connection breaks at a moment of its own.
    fn sever(&mut self) {
        for i in 0..2 {
            if !self.nodes[i].connected {
                continue;
            }
            for s in 0..2 {
                let keep = self.rng.below(self.net[i][s].len() as u64 + 1) as usize;
                let late = self.rng.below(200_000_000) >> self.rng.below(10);
                self.break_stream(i, s, keep, late);
            }
        }
    }

    fn break_stream(&mut self, i: usize, s: usize, keep: usize, late: u64) {
        let stream = &mut self.net[i][s];
        // A second silent cut takes the end of the first one's streams with it: it comes again.
        let ends = |f: &Frame| matches!(f.content, Content::End(_));
        if stream.frames.iter().any(ends) {
            return;
        }
        stream.frames.truncate(keep);
        let at = Time(self.now.0 + late);
        self.push_end(i, s, at, 104);
    }

    /// One socket of the connection is lost to one node, the other goes on until the node closes it.
    pub fn lose_socket(&mut self, i: usize, s: usize) {
        if !self.nodes[i].connected {
            return;
        }
        self.tell(2, || format!("a socket of node {i} breaks"));
        let keep = self.rng.below(self.net[i][s].len() as u64 + 1) as usize;
        let late = self.rng.below(50_000_000) >> self.rng.below(10);
        self.break_stream(i, s, keep, late);
    }

    /// Everything sent vanishes from now on, and nobody is told.
    pub fn cut_silently(&mut self) {
        self.tell(2, || "the link is cut silently".into());
        self.link = false;
        self.silent = true;
        self.pairing = None;
        for stream in self.net.iter_mut().flatten() {
            stream.frames = VecDeque::new();
            stream.buffered = 0;
            stream.stalled_since = None;
        }
        self.forget_unpaired();
    }

    /// Nothing arrives at node `to` any more, while the other direction works.
    pub fn half_open(&mut self, to: usize) {
        self.tell(2, || format!("nothing arrives at node {to} any more"));
        self.wires.dead[to] = true;
        self.pairing = None;
    }

    /// The link works again. A connection that lost something in between is found to be broken; what waited in a dead
    /// direction is sent again.
    pub fn heal(&mut self) {
        self.tell(2, || "the link is whole".into());
        if std::mem::take(&mut self.silent) {
            self.sever();
        }
        let dead = std::mem::take(&mut self.wires.dead);
        for (i, dead) in dead.into_iter().enumerate() {
            if dead && self.nodes[i].connected {
                for s in 0..2 {
                    let late = Time(self.now.0 + self.rng.below(300_000_000));
                    for frame in self.net[i][s]
                        .frames
                        .iter_mut()
                        .filter(|f| f.due != WAITING)
                    {
                        frame.due = frame.due.max(late);
                    }
                }
            }
        }
        self.link = true;
        self.want_pair();
    }
}

impl World {
    /// A node has died: how its peer finds out.
    pub(crate) fn hang_up(&mut self, i: usize, was: bool, power: bool, rng: &mut Rng) {
        self.pairing = None;
        self.net[i] = Default::default();
        self.net[i].iter_mut().for_each(|s| s.broken = true);
        let peer = 1 - i;
        let there = self.nodes[peer].connected || self.paired_due[peer].is_some();
        if !was || !there || self.silent {
            return;
        }
        for s in 0..2 {
            let (mut keep, mut late) = (usize::MAX, 30_000);
            if power {
                // Nobody says goodbye: the peer hears of it when it asks, or when the node is there again.
                keep = rng.below(self.net[peer][s].len() as u64 + 1) as usize;
                late = rng.below(4_000_000_000) >> rng.below(12);
            }
            self.break_stream(peer, s, keep, late);
        }
    }
}

/// A packet for the trace: without what nobody looks for there.
fn shown(packet: &Packet) -> String {
    match packet {
        Packet::ConnectionFeatures(_)
        | Packet::Protocol(_)
        | Packet::SyncParam(_)
        | Packet::Sizes(_)
        | Packet::CompressedBitmap(_)
        | Packet::Bitmap(_) => packet.name().to_string(),
        Packet::State(word) => format!("State {word}"),
        Packet::Uuids(u) => format!(
            "Uuids {:016X}:{:016X}:{:016X}:{:016X} bits {} {:?}",
            u.current, u.bitmap, u.history[0], u.history[1], u.bits, u.flags
        ),
        Packet::Data(h) | Packet::DataReply(h) | Packet::RsDataReply(h) => {
            format!("{} {} {:?}", packet.name(), h.sector, h.flags)
        }
        Packet::Trim(h, bytes) | Packet::Zeroes(h, bytes) => {
            format!("{} {}+{}", packet.name(), h.sector, bytes / 512)
        }
        Packet::DataRequest(r) | Packet::RsDataRequest(r) => {
            format!("{} {}+{}", packet.name(), r.sector, r.bytes / 512)
        }
        Packet::RecvAck(a)
        | Packet::WriteAck(a)
        | Packet::RsWriteAck(a)
        | Packet::NegAck(a)
        | Packet::NegDReply(a)
        | Packet::NegRsDReply(a) => format!("{} {}+{}", packet.name(), a.sector, a.bytes / 512),
        Packet::OutOfSync(d) => format!("{} {}+{}", packet.name(), d.sector, d.bytes / 512),
        other => format!("{other:?}"),
    }
}
