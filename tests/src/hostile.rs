//! A peer that is made by hand: it takes a node's place towards the other, as a right peer would or
//! as it likes. It says any packet at any moment, whole, cut, byte by byte or without end; it reads all,
//! slowly, or nothing; and it answers as far as its [`Manners`] go.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hmac::{Hmac, Mac};

pub use crate::guise::{Generation, Guise};
use crate::node::Node;
use crate::packets::{self, Code, Sizes, Uuids};
use crate::status::Volume;
use crate::wire::{self, Header};

/// From where a peer comes, and to whom.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its own address, without a port.
    pub from: String,
    /// `address:port` of the node.
    pub to: String,
    /// Bytes of its receive buffers, if not the system's default.
    pub receive: Option<usize>,
}

/// One of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Handshake, data, requests.
    Data,
    /// Pings, acknowledgements, replies.
    Meta,
}

/// How a peer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Whatever is there.
    All,
    /// So many bytes of each connection, then a pause.
    Slowly(usize, Duration),
    /// Nothing.
    Nothing,
}

/// What a peer does by itself.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Answers pings.
    pub pings: bool,
    /// Acknowledges writes and barriers.
    pub acks: bool,
    /// Consents to every change of state.
    pub consents: bool,
    /// How it reads.
    pub reads: Reads,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            pings: true,
            acks: true,
            consents: true,
            reads: Reads::All,
        }
    }
}

/// A packet of the node.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Where it came.
    pub on: Line,
    /// The volume in its header.
    pub volume: u16,
    /// Its number.
    pub code: Code,
    /// What followed the header.
    pub payload: Vec<u8>,
}

/// What the node has told about itself.
#[derive(Debug, Clone, Default)]
pub struct Learned {
    /// `P_PROTOCOL`.
    pub protocol: Option<Vec<u8>>,
    /// `P_SYNC_PARAM89`.
    pub sync_param: Option<Vec<u8>>,
    /// Size of its disk, its limit, its device, in sectors.
    pub sizes: Option<[u64; 3]>,
    /// `P_UUIDS`.
    pub uuids: Option<Uuids>,
    /// The last `P_STATE`.
    pub state: Option<u32>,
    /// Its challenge.
    pub challenge: Option<Vec<u8>>,
    /// Its answer to a challenge.
    pub response: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    inbox: Vec<u8>,
    has_ended: bool,
    read: u64,
}

impl Wire {
    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            inbox: Vec::new(),
            has_ended: false,
            read: 0,
        })
    }

    /// Reads at most so many bytes; whether there were any.
    fn take(&mut self, most: usize, buffer: &mut [u8]) -> bool {
        let most = most.min(buffer.len());
        match self.stream.read(&mut buffer[..most]) {
            Ok(0) => self.has_ended = true,
            Ok(length) => {
                self.inbox.extend(&buffer[..length]);
                self.read += length as u64;
                return true;
            }
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {}
            Err(_) => self.has_ended = true,
        }
        false
    }

    /// Takes whole packets off the inbox.
    fn packets(&mut self, on: Line) -> Vec<Packet> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some((volume, code, head, length)) = header_of(&self.inbox[at..]) {
            let Some(payload) = self.inbox.get(at + head..at + head + length) else {
                break;
            };
            found.push(Packet {
                on,
                volume,
                code,
                payload: payload.to_vec(),
            });
            at += head + length;
        }
        self.inbox.drain(..at);
        found
    }
}

/// Volume, number, bytes of the header and of the payload.
fn header_of(bytes: &[u8]) -> Option<(u16, Code, usize, usize)> {
    let short = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let long = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    match (short(0)?, short(2)?) {
        (0x8374, 0x0267) => Some((0, short(4)?, 8, usize::from(short(6)?))),
        (0x835a, code) => Some((0, code, 8, long(4)?)),
        (0x8620, 0xec20) => {
            long(12)?;
            Some((short(4)?, short(6)?, 16, long(8)?))
        }
        _ => None,
    }
}

/// How many of the node's packets are kept.
const KEPT: usize = 20_000;

/// What became of bytes that were pushed for a while.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pushed {
    /// How many went.
    pub bytes: u64,
    /// Whether the node ended the connection.
    pub ended: bool,
}

/// The peer.
#[derive(Debug)]
pub struct HostilePeer {
    data: Wire,
    meta: Wire,
    /// The header of what is sent.
    pub header: Header,
    /// What it does by itself.
    pub manners: Manners,
    /// What the node has told about itself.
    pub learned: Learned,
    /// The node's packets, oldest first; the oldest go when there are many.
    pub seen: Vec<Packet>,
    buffer: Vec<u8>,
    epoch: u32,
    last_taste: Instant,
}

impl HostilePeer {
    /// Connects both streams, as often as it takes until the node has sent its features.
    ///
    /// # Errors
    /// When it has not within 30 seconds.
    pub fn meet(place: &Place) -> Result<Self> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut last = anyhow::anyhow!("never tried");
        while Instant::now() < deadline {
            match Self::pair(place) {
                Ok(mut peer) => {
                    if peer.pump_until(Duration::from_secs(3), |peer| {
                        peer.has(packets::CONNECTION_FEATURES)
                    }) {
                        return Ok(peer);
                    }
                    last = anyhow::anyhow!("no features; ended: {}", peer.is_ended());
                }
                Err(error) => last = error,
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(last).with_context(|| format!("nobody to talk to at {}", place.to))
    }

    /// Connects both streams and names them, once.
    ///
    /// # Errors
    /// When a connection is refused.
    pub fn pair(place: &Place) -> Result<Self> {
        let connect = |first| -> Result<Wire> {
            let mut stream = wire::connect_with(&place.from, &place.to, place.receive)?;
            stream.write_all(&wire::h80(first, &[]))?;
            Wire::new(stream)
        };
        let data = connect(packets::INITIAL_DATA)?;
        // Two dials of a right peer are never this close.
        std::thread::sleep(Duration::from_millis(50));
        let meta = connect(packets::INITIAL_META)?;
        Ok(Self::over(data, meta))
    }

    fn over(data: Wire, meta: Wire) -> Self {
        Self {
            data,
            meta,
            header: Header::H80,
            manners: Manners::default(),
            learned: Learned::default(),
            seen: Vec::new(),
            buffer: vec![0; 1 << 18],
            epoch: 0,
            last_taste: Instant::now(),
        }
    }

    /// Waits at its own address, and the node's port, until the node calls, and takes both of its streams.
    ///
    /// # Errors
    /// When it does not call within ten seconds.
    pub fn called(place: &Place) -> Result<Self> {
        let port = place.to.rsplit(':').next().unwrap_or_default();
        let listener = TcpListener::bind(format!("{}:{port}", place.from))?;
        listener.set_nonblocking(true)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        let (mut data, mut meta) = (None, None);
        while data.is_none() || meta.is_none() {
            ensure!(Instant::now() < deadline, "the node does not call");
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(Duration::from_secs(3)))?;
            let mut first = [0; 8];
            if stream.read_exact(&mut first).is_err() {
                continue;
            }
            match wire::command(&first) {
                packets::INITIAL_DATA => data = Some(Wire::new(stream)?),
                packets::INITIAL_META => meta = Some(Wire::new(stream)?),
                other => bail!("the node begins with {other:#x}"),
            }
        }
        let both = data.zip(meta).context("two streams")?;
        Ok(Self::over(both.0, both.1))
    }

    /// Meets the node and says which protocols it speaks: those of 8.4.
    ///
    /// # Errors
    /// As [`Self::meet`].
    pub fn agree(place: &Place) -> Result<Self> {
        let mut peer = Self::meet(place)?;
        peer.offer(86, 101, packets::FEATURE_FLAGS);
        Ok(peer)
    }

    /// Meets the node and introduces itself.
    ///
    /// # Errors
    /// As [`Self::meet`] and [`Self::introduce`].
    pub fn join(place: &Place, guise: &Guise) -> Result<Self> {
        let mut peer = Self::agree(place)?;
        peer.introduce(guise)?;
        Ok(peer)
    }

    /// Sends `P_CONNECTION_FEATURES`; what follows has the header of protocol 100.
    pub fn offer(&mut self, low: u32, high: u32, flags: u32) {
        self.header = Header::H80;
        let features = packets::features(low, high, flags);
        self.say(packets::CONNECTION_FEATURES, &features);
        self.header = Header::H100;
    }

    /// Proves that it knows the secret, by SHA-1.
    ///
    /// # Errors
    /// When the node sends no challenge.
    pub fn authenticate(&mut self, secret: &[u8]) -> Result<()> {
        self.say(packets::AUTH_CHALLENGE, &[0x5c; 64]);
        ensure!(
            self.pump_until(Duration::from_secs(5), |peer| peer
                .learned
                .challenge
                .is_some()),
            "no challenge: {}",
            self.story()
        );
        let challenge = self.learned.challenge.clone().unwrap_or_default();
        self.say(packets::AUTH_RESPONSE, &respond(secret, &challenge));
        Ok(())
    }

    /// Waits until the node has introduced itself, and does so too.
    ///
    /// # Errors
    /// When the node does not.
    pub fn introduce(&mut self, guise: &Guise) -> Result<()> {
        if !self.pump_until(Duration::from_secs(5), |peer| peer.learned.sizes.is_some()) {
            bail!("the node did not introduce itself: {}", self.story());
        }
        // A Primary without a disk tells its state only when it knows the peer's generation.
        self.pump_until(Duration::from_millis(500), |peer| {
            peer.learned.state.is_some()
        });
        for (code, payload) in self.introduction(guise) {
            self.say(code, &payload);
        }
        Ok(())
    }

    /// The packets of [`Self::introduce`].
    #[must_use]
    pub fn introduction(&self, guise: &Guise) -> Vec<(Code, Vec<u8>)> {
        let learned = &self.learned;
        let or = |own: &Option<Vec<u8>>, theirs: &Option<Vec<u8>>| {
            own.clone().or_else(|| theirs.clone()).unwrap_or_default()
        };
        let own = learned.sizes.unwrap_or_default();
        let mut all = vec![
            (packets::PROTOCOL, or(&guise.protocol, &learned.protocol)),
            (
                packets::SYNC_PARAM89,
                or(&guise.sync_param, &learned.sync_param),
            ),
            (
                packets::SIZES,
                guise
                    .sizes
                    .unwrap_or(Sizes::of(own[0].max(own[2])))
                    .payload(),
            ),
        ];
        let [current, bitmap, first, second, ..] = learned.uuids.unwrap_or_default();
        // Whether a node was Primary is nothing of the name.
        let name = current & !1;
        let uuids = match guise.generation {
            Generation::Untold => None,
            Generation::Blank => Some([packets::JUST_CREATED, 0, 0, 0, 0, 0]),
            Generation::Copy => Some([name, bitmap, first, second, 0, 0]),
            Generation::Behind => Some([name, 0, first, second, 0, 0]),
            Generation::Ahead => Some([0x0ddb_a110_0ddb_a110, name, first, second, 8, 0]),
            Generation::These(these) => Some(these),
        };
        all.extend(uuids.map(|uuids| (packets::UUIDS, packets::longs(&uuids))));
        all.push((packets::STATE, guise.state.payload()));
        all
    }

    /// Sends a packet for volume 0 on the connection where it belongs. Whether the node still
    /// listens.
    pub fn say(&mut self, code: Code, payload: &[u8]) -> bool {
        let on = if packets::ALL.iter().any(|known| known.0 == code && known.2) {
            Line::Meta
        } else {
            Line::Data
        };
        self.say_on(on, code, payload)
    }

    /// Sends a packet for volume 0. Whether the node still listens.
    pub fn say_on(&mut self, on: Line, code: Code, payload: &[u8]) -> bool {
        let packet = self.header.packet(0, code, payload);
        self.throw(on, &packet)
    }

    /// Sends bytes, reading meanwhile as it is used to. Whether the node took them within ten seconds.
    pub fn throw(&mut self, on: Line, bytes: &[u8]) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut left = bytes;
        while !left.is_empty() && Instant::now() < deadline {
            let sent = self.push_some(on, left);
            if self.wire(on).has_ended {
                return false;
            }
            left = &left[sent..];
            if sent == 0 && !self.step() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        left.is_empty()
    }

    /// Sends bytes one by one, with a pause after each.
    pub fn drip(&mut self, on: Line, bytes: &[u8], pause: Duration) -> bool {
        bytes.iter().all(|byte| {
            let sent = self.throw(on, &[*byte]);
            self.pump(pause);
            sent
        })
    }

    /// Sends the same bytes again and again, as fast as the node takes them, until the time is over,
    /// the node ends the connection, or `goes_on` (asked every 50 ms) says no.
    pub fn flood(
        &mut self,
        on: Line,
        unit: &[u8],
        time: Duration,
        mut goes_on: impl FnMut() -> Result<bool>,
    ) -> Result<Pushed> {
        let block = unit.repeat((256 * 1024 / unit.len().max(1)).max(1));
        let (start, mut asked) = (Instant::now(), Instant::now());
        let mut at = 0;
        let mut pushed = Pushed::default();
        while start.elapsed() < time {
            let sent = self.push_some(on, &block[at..]);
            pushed.bytes += sent as u64;
            at = (at + sent) % block.len();
            let read = self.step();
            self.seen.clear();
            if self.is_ended() {
                pushed.ended = true;
                break;
            }
            if asked.elapsed() > Duration::from_millis(50) {
                asked = Instant::now();
                if !goes_on()? {
                    break;
                }
            }
            if sent == 0 && !read {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(pushed)
    }

    /// What the node takes of these bytes without waiting.
    fn push_some(&mut self, on: Line, bytes: &[u8]) -> usize {
        let wire = match on {
            Line::Data => &mut self.data,
            Line::Meta => &mut self.meta,
        };
        match wire.stream.write(bytes) {
            Ok(sent) => sent,
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) =>
            {
                0
            }
            Err(_) => {
                wire.has_ended = true;
                0
            }
        }
    }

    fn wire(&self, on: Line) -> &Wire {
        match on {
            Line::Data => &self.data,
            Line::Meta => &self.meta,
        }
    }

    /// Reads once, and answers. Whether there was anything.
    fn step(&mut self) -> bool {
        let most = match self.manners.reads {
            Reads::All => self.buffer.len(),
            Reads::Nothing => return false,
            Reads::Slowly(most, every) => {
                if self.last_taste.elapsed() < every {
                    return false;
                }
                self.last_taste = Instant::now();
                most
            }
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let any = [&mut self.data, &mut self.meta]
            .into_iter()
            .fold(false, |any, wire| wire.take(most, &mut buffer) | any);
        self.buffer = buffer;
        let mut found = self.data.packets(Line::Data);
        found.extend(self.meta.packets(Line::Meta));
        for packet in found {
            self.hear(packet);
        }
        any
    }

    fn hear(&mut self, packet: Packet) {
        let payload = &packet.payload;
        let learned = &mut self.learned;
        match packet.code {
            packets::PROTOCOL => learned.protocol = Some(payload.clone()),
            packets::SYNC_PARAM89 => learned.sync_param = Some(payload.clone()),
            packets::SIZES => {
                learned.sizes = Some([0, 8, 16].map(|at| packets::long_at(payload, at)));
            }
            packets::UUIDS => {
                learned.uuids =
                    Some([0, 8, 16, 24, 32, 40].map(|at| packets::long_at(payload, at)));
            }
            packets::STATE => learned.state = Some(packets::word_at(payload, 0)),
            packets::AUTH_CHALLENGE => learned.challenge = Some(payload.clone()),
            packets::AUTH_RESPONSE => learned.response = Some(payload.clone()),
            _ => {}
        }
        if let Some((code, answer)) = self.answer(&packet) {
            self.throw_answer(code, packet.volume, &answer);
        }
        if self.seen.len() >= KEPT {
            self.seen.drain(..KEPT / 2);
        }
        self.seen.push(packet);
    }

    /// What its manners bid it to answer.
    fn answer(&mut self, packet: &Packet) -> Option<(Code, Vec<u8>)> {
        let payload = &packet.payload;
        match packet.code {
            packets::PING if self.manners.pings => Some((packets::PING_ACK, Vec::new())),
            packets::DATA | packets::TRIM | packets::ZEROES | packets::WSAME => {
                self.epoch += 1;
                packets::acknowledgement(packet.code, payload).filter(|_| self.manners.acks)
            }
            packets::BARRIER => {
                let mut answer = payload.get(..4)?.to_vec();
                answer.extend(std::mem::take(&mut self.epoch).to_be_bytes());
                Some((packets::BARRIER_ACK, answer)).filter(|_| self.manners.acks)
            }
            packets::STATE_CHG_REQ if self.manners.consents => {
                Some((packets::STATE_CHG_REPLY, packets::words(&[1])))
            }
            packets::CONN_ST_CHG_REQ if self.manners.consents => {
                Some((packets::CONN_ST_CHG_REPLY, packets::words(&[1])))
            }
            _ => None,
        }
    }

    /// Every answer goes over meta, as far as there is room: nothing is waited for here.
    fn throw_answer(&mut self, code: Code, volume: u16, payload: &[u8]) {
        let packet = Header::H100.packet(volume, code, payload);
        let mut left = &packet[..];
        for _ in 0..200 {
            let sent = self.push_some(Line::Meta, left);
            left = &left[sent..];
            if left.is_empty() || self.meta.has_ended {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Reads and answers for a while, or until the node has ended the connection.
    pub fn pump(&mut self, time: Duration) {
        self.pump_until(time, |_| false);
    }

    /// Reads and answers until something is so; whether it came to be.
    pub fn pump_until(&mut self, time: Duration, mut is: impl FnMut(&mut Self) -> bool) -> bool {
        let deadline = Instant::now() + time;
        loop {
            let any = self.step();
            if is(self) {
                return true;
            }
            if self.is_ended() || Instant::now() >= deadline {
                return false;
            }
            if !any {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Reads and answers until the node's volume 0 is as wanted.
    ///
    /// # Errors
    /// When it is not within ten seconds, with its status and log.
    pub fn until_node(
        &mut self,
        node: &Node,
        what: &str,
        is: impl Fn(&Volume) -> bool,
    ) -> Result<Volume> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            self.pump(Duration::from_millis(30));
            let volume = node.volume(0)?;
            if is(&volume) {
                return Ok(volume);
            }
            ensure!(
                Instant::now() < deadline,
                "waited for {what}: {volume:?}\n{}\n{}",
                self.story(),
                node.log_tail(20)
            );
            if self.is_ended() {
                std::thread::sleep(Duration::from_millis(30));
            }
        }
    }

    /// Whether the node ends the connection within this time.
    pub fn is_left_within(&mut self, time: Duration) -> bool {
        self.pump_until(time, |peer| peer.is_ended())
    }

    /// Whether the node has ended one of the connections.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.data.has_ended || self.meta.has_ended
    }

    /// Whether such a packet has come.
    #[must_use]
    pub fn has(&self, code: Code) -> bool {
        self.seen.iter().any(|packet| packet.code == code)
    }

    /// The payloads of all packets of this kind that are remembered.
    #[must_use]
    pub fn all(&self, code: Code) -> Vec<&[u8]> {
        let of_kind = self.seen.iter().filter(|packet| packet.code == code);
        of_kind.map(|packet| &packet.payload[..]).collect()
    }

    /// Bytes that were read, on both connections.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.data.read + self.meta.read
    }

    /// Asks for a change of state and waits for the answer; none if the node leaves, or says nothing
    /// for five seconds.
    pub fn ask_change(&mut self, request: Code, mask: u32, value: u32) -> Option<i32> {
        let reply = if request == packets::STATE_CHG_REQ {
            packets::STATE_CHG_REPLY
        } else {
            packets::CONN_ST_CHG_REPLY
        };
        self.seen.clear();
        self.say(request, &packets::change(mask, value));
        self.pump_until(Duration::from_secs(5), |peer| peer.has(reply));
        let answer = self.all(reply).first().copied()?.first_chunk()?;
        Some(i32::from_be_bytes(*answer))
    }

    /// Takes the node's bitmap and gives the same back: the node is a source after it.
    ///
    /// # Errors
    /// When no bitmap comes.
    pub fn return_bitmap(&mut self) -> Result<()> {
        let is_bitmap = |code: Code| [packets::BITMAP, packets::COMPRESSED_BITMAP].contains(&code);
        let mut count = 0;
        loop {
            self.pump(Duration::from_millis(200));
            let now = self.seen.iter().filter(|p| is_bitmap(p.code)).count();
            if now == count && now > 0 {
                break;
            }
            ensure!(
                now > count || !self.is_ended(),
                "no bitmap: {}",
                self.story()
            );
            count = now;
        }
        let bitmap: Vec<(Code, Vec<u8>)> = self
            .seen
            .iter()
            .filter(|packet| is_bitmap(packet.code))
            .map(|packet| (packet.code, packet.payload.clone()))
            .collect();
        for (code, payload) in bitmap {
            self.say(code, &payload);
        }
        Ok(())
    }

    /// What was heard last, for messages.
    #[must_use]
    pub fn story(&self) -> String {
        let last: Vec<String> = self
            .seen
            .iter()
            .rev()
            .take(12)
            .rev()
            .map(|packet| packets::name(packet.code))
            .collect();
        format!(
            "the node said … {}; ended: data {}, meta {}",
            last.join(" "),
            self.data.has_ended,
            self.meta.has_ended
        )
    }
}

/// The right answer to a challenge, by SHA-1.
#[must_use]
pub fn respond(secret: &[u8], challenge: &[u8]) -> Vec<u8> {
    match Hmac::<sha1::Sha1>::new_from_slice(secret) {
        Ok(mac) => mac.chain_update(challenge).finalize().into_bytes().to_vec(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_each_header_are_taken_off_a_stream_in_any_pieces() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut other = TcpStream::connect(listener.local_addr()?)?;
        let mut wire = Wire::new(listener.accept()?.0)?;
        let mut bytes = Vec::new();
        for header in Header::ALL {
            bytes.extend(header.packet(3, packets::STATE, &[1, 2, 3, 4]));
        }
        let mut found = Vec::new();
        for piece in bytes.chunks(5) {
            other.write_all(piece)?;
            let deadline = Instant::now() + Duration::from_secs(5);
            while !wire.take(100, &mut [0; 100]) {
                ensure!(Instant::now() < deadline, "nothing arrives");
            }
            found.extend(wire.packets(Line::Data));
        }
        let what: Vec<(u16, Code, usize)> = found
            .iter()
            .map(|packet| (packet.volume, packet.code, packet.payload.len()))
            .collect();
        ensure!(what == [(0, 0xe, 4), (0, 0xe, 4), (3, 0xe, 4)], "{what:?}");
        Ok(())
    }

    #[test]
    fn a_response_is_the_one_of_the_worked_example() {
        // docs/spec/wire.md, section 4
        let challenge: Vec<u8> = (0xc0..=0xff).rev().collect();
        let response = respond(b"s3cr3t", &challenge);
        assert_eq!(response[..4], [0x4f, 0x4b, 0xb7, 0x97]);
        assert_eq!(response.len(), 20);
    }
}
