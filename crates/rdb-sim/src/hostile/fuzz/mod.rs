//! The whole engine under a fuzzer: bytes become a configuration and a list of things that happen to one node.
//!
//! The node has disks, users and an administrator, and a peer that is a [`Foe`]. What comes from the wire goes through the
//! codec, whole, damaged or cut. After every event the engine's own invariants are checked, and what no peer may do
//! ([`super::watch`]); in the end the peer goes away, and what the node's users and administrators asked for must come to
//! an end without it.

mod effects;

use std::collections::BTreeMap;
use std::rc::Rc;

use rdb_engine::config::{Authentication, DiskOptions, NetOptions, OnIoError, OnNoSpace, Protocol};
use rdb_engine::state::{DiskState, Role};
use rdb_engine::{
    AdminId, Command, ConnEvent, ConnId, Effect, Event, IoTag, LossCause, Payload, Request,
    RequestId, RequestKind, Resource, SendTag, Time, Timer, VolumeNr, VolumeStatus,
};
use replica_proto::auth::HmacAlgorithm;
use replica_proto::{DecodeError, DigestAlgorithm, Socket, WireContext, decode};

use super::{Bytes, Draw, Foe, Say, watch};
use crate::disk::Disk;
use crate::node::{Data, Node, Op, disk_info, fresh_disk};
use crate::oracle::Model;

/// Effects that one event may have, beyond what was open before it.
const EFFECTS_MAX: usize = 4096;
/// Lines of the log that one event may write, beyond what was open before it.
const LINES_MAX: usize = 64;
/// More than this does not happen in one run.
const EVENTS_MAX: u64 = 20_000;

/// Runs one input.
///
/// # Panics
/// If the engine panics, breaks an invariant, or lets its peer do harm.
pub fn fuzz_engine(input: &[u8]) {
    let mut draw = Bytes::new(input);
    let mut siege = Siege::new(&mut draw);
    siege.begin(&mut draw);
    while !draw.is_empty() && siege.events < EVENTS_MAX {
        siege.act(&mut draw);
    }
    siege.end();
}

/// A request of a user that is not answered.
#[derive(Debug)]
struct Open {
    volume: usize,
    sector: u64,
    bytes: u32,
    writes: bool,
}

/// A volume, beside the engine.
struct Volume {
    model: Model,
    /// Mirrored writes that came while the peer could well be the one who writes.
    mirrored: Vec<(u64, u32)>,
    /// Since its users began it has been Primary with a good disk, and no I/O has failed.
    whole: bool,
}

struct Siege {
    resource: Resource<Data>,
    now: Time,
    volumes: Vec<Volume>,
    disks: Vec<Disk>,
    pending: Vec<(IoTag, Op)>,
    /// Writes that met a full disk.
    kept: Vec<(IoTag, Op)>,
    sent: Vec<SendTag>,
    timers: BTreeMap<Timer, Time>,
    wire: WireContext,
    wanted: bool,
    connected: bool,
    foe: Foe,
    /// It reads nothing: what is sent stays in the node.
    deaf: bool,
    next_id: u64,
    requests: BTreeMap<u64, Open>,
    commands: BTreeMap<u64, Command>,
    disk_options: DiskOptions,
    net_options: NetOptions,
    events: u64,
    lines: usize,
    effects: Vec<Effect<Data>>,
    told: bool,
}

impl Siege {
    fn new(draw: &mut Bytes<'_>) -> Siege {
        let protocol = [Protocol::A, Protocol::B, Protocol::C][draw.below(3) as usize];
        let crc32c = || DigestAlgorithm::from_name("crc32c").ok();
        let algorithm = HmacAlgorithm::from_name("sha256").ok();
        let flags = draw.below(256);
        let net_options = NetOptions {
            protocol,
            use_rle: flags & 1 == 0,
            integrity_alg: crc32c().filter(|_| flags & 6 == 6),
            csums_alg: crc32c().filter(|_| flags & 24 == 24),
            verify_alg: if flags & 96 == 96 { "crc32c" } else { "" }.into(),
            authentication: algorithm.filter(|_| flags & 192 == 192).map(|algorithm| {
                Authentication {
                    algorithm,
                    secret: "known to both".into(),
                }
            }),
            max_buffers: 32,
            max_epoch_size: 20,
            ..NetOptions::default()
        };
        let policy = draw.below(3);
        let disk_options = DiskOptions {
            on_io_error: match policy {
                0 => OnIoError::PassOn,
                _ => OnIoError::Detach,
            },
            on_no_space: match policy {
                0 => OnNoSpace::PassOn,
                1 => OnNoSpace::Suspend,
                _ => OnNoSpace::Detach,
            },
            al_extents: 67,
            c_plan_ahead_ds: 0,
            resync_rate_kib: 100_000,
            ..DiskOptions::default()
        };
        let count = 1 + usize::from(draw.one_in(4));
        // The last has a bitmap that does not fit into the socket at once.
        let sizes = [2048, 10_240, 65_536, 700_000, 17_500_000];
        let disk = |_| fresh_disk(sizes[draw.below(5) as usize]);
        let disks: Vec<Disk> = (0..count).map(disk).collect();
        let volume = |_: &Disk| Volume {
            model: Model::default(),
            mirrored: Vec::new(),
            whole: false,
        };
        let sizes: Vec<u64> = disks.iter().map(|disk| disk.data_sectors).collect();
        Siege {
            resource: Node::engine(7),
            now: Time(1_000_000_000),
            volumes: disks.iter().map(volume).collect(),
            disks,
            pending: Vec::new(),
            kept: Vec::new(),
            sent: Vec::new(),
            timers: BTreeMap::new(),
            wire: WireContext::initial(),
            wanted: false,
            connected: false,
            foe: Foe::new(&net_options, &sizes),
            deaf: false,
            next_id: 1,
            requests: BTreeMap::new(),
            commands: BTreeMap::new(),
            disk_options,
            net_options,
            events: 0,
            lines: 0,
            effects: Vec::new(),
            told: std::env::var_os("RDB_TRACE").is_some(),
        }
    }

    fn tell(&self, text: impl FnOnce() -> String) {
        if self.told {
            println!("{:>10} {}", self.now.0 / 1000, text());
        }
    }

    /// The node is configured, in one of the ways that are met in life.
    fn begin(&mut self, draw: &mut Bytes<'_>) {
        for v in 0..self.volumes.len() {
            let volume = nr(v);
            self.admin(Command::NewVolume {
                volume,
                minor: v as u32,
            });
            let how = draw.below(5);
            if how != 4 {
                self.attach(v);
                self.quiet();
            }
            if how < 3 {
                // Whatever is on it is declared good.
                let force = true;
                self.admin(Command::Primary { volume, force });
                self.quiet();
                self.volumes[v].whole = true;
                self.write(v, 64, 8);
                self.quiet();
            }
            if how == 2 {
                let held_open = false;
                self.admin(Command::Secondary { volume, held_open });
                self.quiet();
            }
        }
        self.foe.knows_secret = !draw.one_in(4);
        self.connect(false);
    }

    // ---- one thing that happens ----------------------------------------------------------------------------------

    fn act(&mut self, draw: &mut Bytes<'_>) {
        // (TCP takes what is sent about as fast as packets come.)
        if !self.sent.is_empty() && draw.one_in(6) {
            self.deliver_sent();
        }
        match draw.below(64) {
            0..=19 => self.wrong(draw),
            20..=27 => match self.foe.answer(draw) {
                Some(say) => self.hear(&say, draw),
                None => self.progress(draw),
            },
            28..=31 => self.progress(draw),
            32 | 33 => {
                let volume = draw.below(self.volumes.len() as u64) as u16;
                if self.connected && self.wire != WireContext::initial() {
                    for say in self.foe.bitmap(volume, draw) {
                        self.hear(&say, draw);
                    }
                }
            }
            34 => {
                if let Some(say) = self.foe.again(draw) {
                    self.hear(&say, draw);
                }
            }
            35 => self.noise(draw),
            36 => self.deaf = draw.one_in(2),
            37..=42 => self.io(draw),
            43 => self.quiet(),
            44 => {
                self.quiet();
                self.deliver_sent();
            }
            45 | 46 => self.deliver_sent(),
            47 => self.expire(),
            48 => {
                self.now = self.now.plus_ms(1 << draw.below(16));
                while self.timers.values().any(|&at| at <= self.now) && self.events < EVENTS_MAX {
                    self.expire();
                }
            }
            49 => self.lose(draw),
            50 => {
                let socket = [Socket::Data, Socket::Meta][draw.below(2) as usize];
                if self.connected {
                    self.handle(Event::Connection(
                        ConnId::FIRST,
                        ConnEvent::SendStalled { socket },
                    ));
                }
            }
            51..=57 => self.use_device(draw),
            _ => self.command(draw),
        }
    }

    /// The peer says something that is wrong in some way, or right by chance.
    fn wrong(&mut self, draw: &mut Bytes<'_>) {
        if !self.connected {
            return self.progress(draw);
        }
        let say = self.foe.anything(draw);
        let initial = say.packet.command().is_initial();
        if initial == self.wire.version.is_agreed() && !draw.one_in(8) {
            return self.progress(draw); // the decoder refuses these, and the fuzzer need not learn it
        }
        self.hear(&say, draw);
    }

    /// The peer does what a right one would do next.
    fn progress(&mut self, draw: &mut Bytes<'_>) {
        if self.wanted {
            return self.pair(draw);
        }
        if !self.connected {
            return self.expire();
        }
        let stage = if !self.wire.version.is_agreed() {
            0
        } else if self.foe.is_challenged() && draw.one_in(2) {
            1
        } else {
            2 + draw.below(3)
        };
        let all = stage == 2 && !draw.one_in(4);
        for stage in stage..=if all { 4 } else { stage } {
            for say in self.foe.greet(stage, draw) {
                self.hear(&say, draw);
            }
        }
    }

    fn pair(&mut self, draw: &mut Bytes<'_>) {
        self.wanted = false;
        self.connected = true;
        self.foe.begin();
        self.deaf = false;
        let event = Event::Connection(
            ConnId::FIRST,
            ConnEvent::Paired {
                resolve_conflicts: draw.one_in(2),
                called: draw.one_in(2),
                challenge: [0x5a; 64],
            },
        );
        self.handle(event);
    }

    /// A packet goes over the wire, mostly whole.
    fn hear(&mut self, say: &Say, draw: &mut Bytes<'_>) {
        if !self.connected {
            return;
        }
        let algorithm = self.net_options.integrity_alg;
        let mut bytes = say.encode(&self.wire, algorithm, draw);
        if draw.below(256) == 255 {
            match draw.below(3) {
                0 => bytes.truncate(draw.below(bytes.len() as u64) as usize),
                1 => {
                    let at = draw.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << draw.below(8);
                }
                _ => {
                    let at = draw.below(bytes.len() as u64) as usize;
                    bytes[at] = draw.below(256) as u8;
                }
            }
        }
        self.receive(say.socket(), &bytes, say.payload.clone(), draw);
    }

    /// Bytes as they are.
    fn noise(&mut self, draw: &mut Bytes<'_>) {
        let socket = [Socket::Data, Socket::Meta][draw.below(2) as usize];
        let count = draw.below(200) as usize;
        let bytes = draw.take(count);
        if self.connected {
            self.receive(socket, bytes, None, draw);
        }
    }

    fn receive(
        &mut self,
        socket: Socket,
        bytes: &[u8],
        payload: Option<Data>,
        draw: &mut Bytes<'_>,
    ) {
        let early = socket == Socket::Meta && !self.wire.version.is_agreed();
        if early {
            return; // nothing of it is read before the features are agreed on the other
        }
        match decode(&self.wire, socket, bytes) {
            Ok(Some(frame)) => {
                let len = payload.as_ref().map_or(0, Payload::len_bytes);
                let payload = match frame.payload_len {
                    0 => None,
                    wanted if wanted == len => payload,
                    wanted => Some(Data(Rc::new(vec![draw.below(256) as u8; wanted as usize]))),
                };
                self.tell(|| format!("< {} {:?}", frame.volume, frame.packet));
                self.note_mirrored(frame.volume, &frame.packet, frame.payload_len);
                if self.foe.reflects(&frame.packet) {
                    return self.handle(Event::Connection(
                        ConnId::FIRST,
                        ConnEvent::ChallengeReflected,
                    ));
                }
                self.handle(Event::Connection(
                    ConnId::FIRST,
                    ConnEvent::Received {
                        volume: frame.volume,
                        packet: frame.packet,
                        digest: frame.digest,
                        payload,
                    },
                ));
            }
            Ok(None) => {}
            Err(error) => {
                self.tell(|| format!("< refused: {error}"));
                let cause = LossCause::BadPacket {
                    error: error.to_string(),
                    unknown_command: matches!(error, DecodeError::UnknownCommand { .. }),
                };
                self.end_connection(socket, cause);
            }
        }
    }

    /// A write that comes while our own users do not write may reach the disk at any time from now on.
    fn note_mirrored(&mut self, volume: u16, packet: &replica_proto::Packet, payload: u32) {
        use replica_proto::Packet;
        let (sector, bytes) = match packet {
            Packet::Data(h) | Packet::RsDataReply(h) => (h.sector, payload),
            Packet::Trim(h, bytes) | Packet::Zeroes(h, bytes) => (h.sector, *bytes),
            _ => return,
        };
        let v = usize::from(volume);
        let protected = self.status(v).is_some_and(|s| watch::is_protected(&s));
        if let Some(volume) = self.volumes.get_mut(v).filter(|_| !protected) {
            volume.mirrored.push((sector, bytes));
        }
    }

    fn end_connection(&mut self, socket: Socket, cause: LossCause) {
        if self.connected {
            self.handle(Event::Connection(
                ConnId::FIRST,
                ConnEvent::Lost { socket, cause },
            ));
            assert!(!self.connected, "a lost connection is not closed");
        }
    }

    fn lose(&mut self, draw: &mut Bytes<'_>) {
        let socket = [Socket::Data, Socket::Meta][draw.below(2) as usize];
        let error = [0, 104][draw.below(2) as usize];
        self.end_connection(socket, LossCause::Closed { error });
    }

    /// One I/O ends, whichever, well or not.
    fn io(&mut self, draw: &mut Bytes<'_>) {
        if self.pending.is_empty() {
            return;
        }
        let at = draw.below(self.pending.len() as u64) as usize;
        match draw.below(24) {
            23 => self.finish(at, true),
            22 if self.pending[at].1.takes_room() => {
                let (tag, op) = self.pending.remove(at);
                self.tell(|| format!("no space: {}", crate::faults::brief(&op)));
                self.volumes[op.volume().unwrap_or(0)].whole = false;
                self.kept.push((tag, op));
                let error = crate::full::NO_SPACE;
                self.handle(Event::NoSpace { tag, error });
            }
            _ => self.finish(at, false),
        }
    }

    fn finish(&mut self, at: usize, fails: bool) {
        let (tag, op) = self.pending.remove(at);
        let v = op.volume().unwrap_or(0);
        let event = if fails {
            self.tell(|| format!("I/O error: {}", crate::faults::brief(&op)));
            self.volumes[v].whole = false;
            op.failed(tag)
        } else {
            op.carry_out(tag, &mut self.disks, &mut None)
        };
        self.handle(event);
    }

    /// All I/O ends well, in the order of asking.
    fn quiet(&mut self) {
        while !self.pending.is_empty() && self.events < 2 * EVENTS_MAX {
            self.finish(0, false);
        }
        while !self.kept.is_empty() && self.events < 2 * EVENTS_MAX {
            self.retry_for_space();
            while !self.pending.is_empty() && self.events < 2 * EVENTS_MAX {
                self.finish(0, false);
            }
        }
    }

    /// The time comes for writes that wait for space to be tried again.
    fn retry_for_space(&mut self) {
        let mut timers = self.timers.iter();
        let found = timers.find(|(timer, _)| matches!(timer, Timer::NoSpace(_)));
        let (&timer, &at) = found.expect("writes wait for space, and nobody will try them again");
        self.timers.remove(&timer);
        self.now = self.now.max(at);
        self.handle(Event::Timer(timer));
    }

    fn deliver_sent(&mut self) {
        for tag in std::mem::take(&mut self.sent) {
            if self.connected {
                self.handle(Event::Connection(ConnId::FIRST, ConnEvent::Sent { tag }));
            }
        }
    }

    /// The timer that is due first expires.
    fn expire(&mut self) {
        let first = self.timers.iter().min_by_key(|&(_, &at)| at);
        let Some((&timer, &at)) = first else {
            return;
        };
        self.timers.remove(&timer);
        self.now = self.now.max(at);
        self.tell(|| format!("{timer:?}"));
        self.handle(Event::Timer(timer));
    }

    // ---- users and administrators --------------------------------------------------------------------------------

    fn write(&mut self, v: usize, sector: u64, sectors: u64) {
        let data = self.volumes[v].model.data(sectors as usize);
        let payload = Data(Rc::new(data));
        let kind = RequestKind::Write {
            payload,
            fua: false,
        };
        self.request(v, sector, (sectors * 512) as u32, kind);
    }

    fn request(&mut self, v: usize, sector: u64, bytes: u32, kind: RequestKind<Data>) {
        let id = self.next_id;
        self.next_id += 1;
        self.volumes[v].model.on_submit(0, id, sector, bytes, &kind);
        let writes = !matches!(kind, RequestKind::Read | RequestKind::Flush);
        let open = Open {
            volume: v,
            sector,
            bytes,
            writes,
        };
        self.requests.insert(id, open);
        self.handle(Event::Request(Request {
            id: RequestId(id),
            volume: nr(v),
            sector,
            bytes,
            kind,
        }));
    }

    fn use_device(&mut self, draw: &mut Bytes<'_>) {
        let v = draw.below(self.volumes.len() as u64) as usize;
        let size = self.status(v).map_or(0, |s| s.size_sectors).max(64);
        let sectors = [1, 8, 8, 8, 64, 2048][draw.below(6) as usize].min(size);
        let sector = match draw.below(4) {
            0 => draw.below(size - sectors + 1),
            _ => (draw.below(32) * 8).min(size - sectors),
        };
        let bytes = (sectors * 512) as u32;
        match draw.below(8) {
            0 => self.request(v, sector, bytes, RequestKind::Read),
            1 => self.request(v, 0, 0, RequestKind::Flush),
            2 => self.request(v, sector, bytes, RequestKind::Discard),
            3 => {
                let may_unmap = draw.one_in(2);
                self.request(v, sector, bytes, RequestKind::WriteZeroes { may_unmap });
            }
            _ => self.write(v, sector, sectors),
        }
    }

    fn admin(&mut self, command: Command) {
        let id = self.next_id;
        self.next_id += 1;
        self.tell(|| format!("command {id} {command:?}"));
        self.commands.insert(id, command.clone());
        let id = AdminId(id);
        self.handle(Event::Admin { id, command });
    }

    fn attach(&mut self, v: usize) {
        let disk = disk_info(&self.disks[v]);
        let options = self.disk_options.clone();
        self.admin(Command::Attach {
            volume: nr(v),
            disk,
            options,
        });
    }

    fn connect(&mut self, discard_my_data: bool) {
        self.admin(Command::Connect {
            options: self.net_options.clone(),
            discard_my_data,
            tentative: false,
        });
    }

    fn command(&mut self, draw: &mut Bytes<'_>) {
        if self.commands.len() > 4 {
            return self.quiet();
        }
        let v = draw.below(self.volumes.len() as u64) as usize;
        let (volume, force) = (nr(v), draw.one_in(3));
        let command = match draw.below(16) {
            0..=2 => Command::Primary { volume, force },
            3 | 4 => Command::Secondary {
                volume,
                held_open: force,
            },
            5 => Command::Disconnect { force },
            6 | 7 => return self.connect(force),
            8 => Command::Detach { volume, force },
            9 => return self.attach(v),
            10 => Command::Invalidate { volume },
            11 => Command::InvalidateRemote { volume },
            12 => Command::PauseSync { volume },
            13 => Command::ResumeSync { volume },
            14 => Command::NewCurrentUuid {
                volume,
                clear_bitmap: force,
            },
            _ => Command::Outdate { volume },
        };
        self.admin(command);
    }

    // ---- what the engine does ------------------------------------------------------------------------------------

    fn status(&self, v: usize) -> Option<VolumeStatus> {
        let status = self.resource.status(self.now);
        let mut volumes = status.volumes.into_iter();
        volumes.find(|s| s.volume == nr(v))
    }

    fn states(&self) -> String {
        let volumes = self.resource.status(self.now).volumes;
        let states = volumes.iter().map(|v| v.state.to_string());
        states.collect::<Vec<_>>().join(", ")
    }

    fn handle(&mut self, event: Event<Data>) {
        self.events += 1;
        let by_peer = matches!(
            event,
            Event::Connection(_, ConnEvent::Received { .. })
                | Event::Connection(_, ConnEvent::ChallengeReflected)
                | Event::Connection(_, ConnEvent::Lost { .. })
                | Event::Connection(_, ConnEvent::Paired { .. })
        );
        let before = self.resource.status(self.now);
        let open = self.pending.len() + self.kept.len() + self.requests.len() + self.sent.len();
        let unanswered: u32 = before.volumes.iter().map(|v| v.peer.unacked).sum();
        let open = open + unanswered as usize;
        self.lines = 0;
        let mut effects = std::mem::take(&mut self.effects);
        self.resource.handle(self.now, event, &mut effects);
        self.resource.check();
        assert!(
            effects.len() <= EFFECTS_MAX + 16 * open,
            "{} effects of one event",
            effects.len()
        );
        for effect in effects.drain(..) {
            self.apply(effect, &before.volumes);
        }
        self.effects = effects;
        assert!(
            self.lines <= LINES_MAX + 4 * open,
            "{} lines in the log for one event",
            self.lines
        );
        let after = self.resource.status(self.now);
        for (old, new) in before.volumes.iter().zip(&after.volumes) {
            let v = usize::from(old.volume.0);
            if old.volume != new.volume || v >= self.volumes.len() {
                continue;
            }
            if !watch::is_protected(new) {
                self.volumes[v].whole = false;
            }
            // (What an administrator has asked for may be waiting for the peer's word.)
            let ordered = !self.commands.is_empty();
            if by_peer && watch::is_protected(old) && self.volumes[v].whole && !ordered {
                let usable = self.disks[v].data_sectors;
                if let Some(text) = watch::harm(old, new, usable) {
                    panic!("{text}");
                }
            }
        }
    }

    // ---- the end -------------------------------------------------------------------------------------------------

    /// The peer goes away for good: nothing may hang, and what users were promised is there.
    fn end(&mut self) {
        self.tell(|| "the peer goes away".into());
        let error = 0;
        self.end_connection(Socket::Data, LossCause::Closed { error });
        for _ in 0..400 {
            self.quiet();
            let busy = !self.requests.is_empty() || !self.commands.is_empty();
            if !busy || self.timers.is_empty() {
                break;
            }
            self.expire();
        }
        for status in self.resource.status(self.now).volumes {
            let state = status.state;
            assert!(
                !state.is_suspended(),
                "I/O is suspended when the peer has gone: {state}"
            );
        }
        assert!(
            self.requests.is_empty(),
            "requests hang without a peer: {}; {:?}",
            self.states(),
            self.requests
        );
        assert!(
            self.commands.is_empty(),
            "commands hang without a peer: {}; {:?}",
            self.states(),
            self.commands
        );
        for v in 0..self.volumes.len() {
            let Some(status) = self.status(v) else {
                continue;
            };
            assert_eq!(status.peer.unacked, 0, "something is owed to nobody");
            if status.state.role == Role::Primary && status.state.disk == DiskState::UpToDate {
                self.write(v, 8, 8);
                self.quiet();
                assert!(self.requests.is_empty(), "the last write hangs");
            }
            let volume = &self.volumes[v];
            if volume.whole
                && !volume.model.forked
                && let Some(text) = volume.model.violation(&self.disks[v])
            {
                panic!("what users were promised is gone: {text}");
            }
        }
    }
}

fn nr(volume: usize) -> VolumeNr {
    VolumeNr(volume as u16)
}
