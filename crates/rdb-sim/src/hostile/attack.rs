//! A hostile peer in the simulator: it takes the true peer's place for a while, then goes away.
//!
//! The true peer is cut off meanwhile, and may come back once the node that was attacked has been judged: it serves, nothing
//! is suspended, what its users asked for has come to an end; and a Primary with a good disk ([`super::watch`]) is what it
//! was, its disk written by its own users alone. What else a peer with whom there is an agreement may do is not told apart from
//! what it must not: of a volume that was no such Primary the copy counts as spoiled, and of one that was the true peer's copy,
//! for the impostor may have acknowledged what the true peer never got. Somebody who could not authenticate himself has
//! spoiled nothing.

use rdb_engine::{ConnEvent, ConnId, Event, LossCause, Payload, Time, VolumeStatus};
use replica_proto::{DecodeError, Packet, Socket, WireContext, decode};

use super::{Foe, Say, watch};
use crate::job::Ask;
use crate::net::{Content, Frame, Stream, WAITING, socket_of};
use crate::node::{Data, Op};
use crate::rng::{Rng, mix};
use crate::world::World;

/// How an attack begins, and what it is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attack {
    /// The node that is attacked.
    pub node: usize,
    /// The connection that there is goes over to the impostor, in the middle of whatever is under way.
    pub hijack: bool,
    /// How long it goes on, in microseconds.
    pub lasts_us: u64,
    /// Time between two things said, in microseconds.
    pub gap_us: u64,
    /// Once in so many times it says what no right peer would.
    pub malice: u64,
    /// How it reads what it is told.
    pub reading: Reading,
    /// It knows the secret, if there is one.
    pub knows_secret: bool,
    /// It says no goodbye.
    pub vanishes: bool,
}

/// How a peer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// At once.
    All,
    /// A packet whenever it says one.
    Slowly,
    /// Not at all.
    Never,
}

/// Bytes that a driver lets wait for a peer that does not read, before it ceases to read from that peer.
const OWED_MAX: u64 = 1 << 20;
/// The largest disk on which full syncs are ordered: what they leave marked must be synced in the end.
const ORDERED_SECTORS_MAX: u64 = 1 << 17;
/// Things that are said in one attack at most.
const SAID_MAX: u32 = 4000;
/// Lines that a node may write about an attack, beyond some for each thing said.
const LINES_MAX: usize = 1000;
/// Of those that are said however often they come, all that an attack may cause.
const ALWAYS_SAID_MAX: usize = 400;

/// An attack that is under way.
#[derive(Debug)]
pub(crate) struct Siege {
    plan: Attack,
    foe: Foe,
    rng: Rng,
    next: Time,
    until: Time,
    /// Gone: when the node is judged.
    judged_at: Option<Time>,
    /// It has been told what the node tells a peer that it believes.
    believed: bool,
    greeted: u64,
    said: u32,
    lines_before: usize,
    always_said_before: usize,
    /// It says the same again and again, and answers everything well.
    stubborn: bool,
    /// What it says again and again, and which of it is next.
    habit: (Vec<Say>, usize),
    /// Requests of a lower number were made before it went.
    requests_before: u64,
    protected: Vec<bool>,
}

impl Attack {
    pub(crate) fn draw(rng: &mut Rng) -> Attack {
        Attack {
            node: rng.below(2) as usize,
            hijack: rng.one_in(2),
            lasts_us: rng.pick(&[2_000, 50_000, 500_000, 4_000_000]),
            gap_us: rng.pick(&[10, 200, 2_000, 30_000]),
            malice: rng.pick(&[1, 4, 12, 40]),
            reading: rng.pick(&[
                Reading::All,
                Reading::All,
                Reading::All,
                Reading::Slowly,
                Reading::Never,
            ]),
            knows_secret: rng.one_in(2),
            vanishes: rng.one_in(4),
        }
    }
}

impl World {
    /// An impostor takes the place of the peer, if the link can carry him.
    pub(crate) fn attack(&mut self, plan: Attack) {
        let victim = plan.node;
        let node = &self.nodes[victim];
        let whole = !self.silent && self.wires.dead == [false; 2];
        let hijacks = plan.hijack && node.connected && node.wire.version.is_agreed();
        let stopped = node.paused_until > self.now;
        if self.siege.is_some() || !node.alive || stopped || !whole || plan.hijack != hijacks {
            return;
        }
        self.tell(2, || format!("attack: {plan:?}"));
        self.coverage.hit(match plan.hijack {
            true => "attack: connection taken over",
            false => "attack: connection of its own",
        });
        let sizes = self.nodes[victim].disks.iter().map(|d| d.data_sectors);
        let sizes: Vec<u64> = sizes.collect();
        let mut foe = Foe::new(&self.options, &sizes);
        foe.wire = self.nodes[victim].wire;
        let status = self.nodes[victim].resource.status(self.now);
        let protected = (0..sizes.len()).map(|v| {
            let of = status.volumes.iter().find(|s| usize::from(s.volume.0) == v);
            let fails = self.passes_errors_on();
            of.is_some_and(|s| watch::is_protected(s) && s.peer.unacked == 0 && !fails)
        });
        let protected: Vec<bool> = protected.collect();
        if protected.contains(&true) {
            self.coverage.hit("attack: on a Primary with a good disk");
        }
        // (Of its own, so that the other draws stay as they are.)
        let mut rng = Rng(mix(self.seed ^ 0x4ab1, self.events));
        let stubborn = protected.iter().all(|&p| p) && rng.one_in(2);
        let mut plan = plan;
        if stubborn {
            self.harden(&mut plan, &mut foe, &sizes, &mut rng);
        }
        if foe.orders_syncs {
            // Data are given up by such an order, where it is carried out.
            self.nodes[victim].consent.fill(true);
        }
        foe.knows_secret = plan.knows_secret;
        self.siege = Some(Box::new(Siege {
            foe,
            rng: Rng(mix(self.seed ^ 0xf0e, self.events)),
            next: Time(self.now.0 + 100_000),
            until: Time(self.now.0 + plan.lasts_us * 1000),
            judged_at: None,
            believed: plan.hijack,
            greeted: if plan.hijack { 5 } else { 0 },
            said: 0,
            lines_before: self.nodes[victim].log.len(),
            always_said_before: self.nodes[victim].always_said,
            stubborn,
            habit: (Vec::new(), 0),
            requests_before: 0,
            protected,
            plan,
        }));
        self.sieges += 1;
        self.pairing = None;
        self.take_the_place(victim, plan.hijack);
    }

    /// One who does the same again and again, for long, to a node whose disks are all protected.
    fn harden(&mut self, plan: &mut Attack, foe: &mut Foe, sizes: &[u64], rng: &mut Rng) {
        plan.malice = 60;
        plan.gap_us = rng.pick(&[10, 5_000, 30_000]);
        plan.lasts_us = 60_000_000;
        plan.reading = Reading::All;
        plan.knows_secret = true;
        plan.hijack &= rng.one_in(3);
        foe.orders_syncs = rng.one_in(4) && sizes.iter().all(|&s| s <= ORDERED_SECTORS_MAX);
        foe.as_target = !foe.orders_syncs;
        self.coverage.hit(match foe.orders_syncs {
            true => "attack: full syncs that never begin",
            false => "attack: the same again and again",
        });
    }

    /// The true peer is cut off, and what it has sent may still arrive.
    fn take_the_place(&mut self, victim: usize, hijack: bool) {
        let true_peer = 1 - victim;
        let on_its_way = std::mem::take(&mut self.net[victim]);
        self.net[victim].iter_mut().for_each(|s| s.broken = true);
        if self.paired_due[true_peer].take().is_some() {
            self.nodes[true_peer].connecting = true;
        }
        if self.nodes[true_peer].connected {
            self.lose(true_peer, Socket::Data, 104);
        }
        self.net[true_peer] = Default::default();
        if hijack {
            self.net[victim] = on_its_way;
        } else {
            if self.paired_due[victim].take().is_some() {
                self.nodes[victim].connecting = true;
            }
            if self.nodes[victim].connected {
                self.lose(victim, Socket::Data, 104);
            }
        }
    }

    /// Whether this node's peer may be an impostor.
    pub(crate) fn is_attacked(&self, node: usize) -> bool {
        self.siege.as_ref().is_some_and(|s| s.plan.node == node)
    }

    /// When the impostor does something next.
    pub(crate) fn siege_due(&self) -> Option<Time> {
        let siege = self.siege.as_ref()?;
        Some(siege.judged_at.unwrap_or(siege.next))
    }

    /// Whether nothing is read from this node's peer, because it does not read what it is owed.
    pub(crate) fn is_choked(&self, node: usize) -> bool {
        let waits = |s: &Stream| {
            let waiting = s.frames.iter().filter(|f| f.due == WAITING);
            waiting.map(|f| f.bytes).sum::<u64>()
        };
        // (What is owed to one who has closed his sockets is refused by his host, and the end is seen.)
        let has_closed = |s: &Siege| s.judged_at.is_some() && !s.plan.vanishes;
        self.is_attacked(node)
            && !self.siege.as_deref().is_some_and(has_closed)
            && self.net[1 - node].iter().map(waits).sum::<u64>() > OWED_MAX
    }

    /// The impostor hears what the node says.
    pub(crate) fn siege_hears(&mut self, i: usize, volume: u16, packet: &Packet, bytes: u32) {
        let Some(siege) = self.siege.as_mut().filter(|s| s.plan.node == i) else {
            return;
        };
        siege.believed |= matches!(packet, Packet::Protocol(_));
        siege.foe.wire = self.nodes[i].wire;
        if siege.plan.reading != Reading::Never || siege.foe.is_question_of_identity(packet) {
            siege.foe.hear(volume, packet, bytes);
        }
    }

    /// What a node that is attacked is asked to write is its own users' alone.
    pub(crate) fn judge_own_write(&self, i: usize, op: &Op) {
        let Some(siege) = self.siege.as_ref().filter(|s| s.plan.node == i) else {
            return;
        };
        let (volume, sector, sectors) = match *op {
            Op::Write {
                volume,
                sector,
                ref data,
                ..
            } => (volume, sector, data.len() as u64 / 512),
            Op::Zero {
                volume,
                sector,
                sectors,
            } => (volume, sector, sectors),
            _ => return,
        };
        let own = self.models[volume].is_being_written(i, sector, sectors);
        assert!(
            own || !siege.protected[volume],
            "the disk of a Primary is written by its peer: volume {volume}, sector {sector}+{sectors}"
        );
    }

    /// The impostor's turn.
    pub(crate) fn siege_acts(&mut self) {
        let Some(mut siege) = self.siege.take() else {
            return;
        };
        if siege.judged_at.is_some() {
            return self.judge_siege(siege);
        }
        let victim = siege.plan.node;
        siege.next = Time(self.now.0 + siege.plan.gap_us * 1000 * (1 + siege.rng.below(4)));
        if self.now >= siege.until || siege.said >= SAID_MAX {
            self.siege_leaves(&mut siege);
            self.siege = Some(siege);
            return;
        }
        match siege.plan.reading {
            Reading::All => while self.read_one(victim) {},
            Reading::Slowly => {
                self.read_one(victim);
            }
            Reading::Never => {}
        }
        if self.nodes[victim].connected {
            let say = siege.speak(&self.nodes[victim].wire);
            let asks = siege.stubborn && siege.rng.one_in(6);
            let (volume, block) = (siege.rng.below(2), siege.rng.below(24));
            self.siege = Some(siege);
            for say in say {
                self.siege_says(&say);
            }
            if asks && self.models.len() as u64 > volume {
                self.request(volume as usize, block * 8, 8, Ask::Write { fua: false });
            }
            return;
        }
        let node = &mut self.nodes[victim];
        if node.alive && node.connecting && self.paired_due[victim].is_none() {
            node.connecting = false;
            siege.foe.begin();
            siege.greeted = 0;
            siege.habit = (Vec::new(), 0);
            self.net = Default::default();
            self.pairings += 1;
            let flag = siege.rng.one_in(2);
            self.paired_due[victim] = Some((Time(self.now.0 + 50_000), flag));
        }
        self.siege = Some(siege);
    }

    /// A packet that the node has sent is read. Says whether there was one.
    fn read_one(&mut self, victim: usize) -> bool {
        let to = 1 - victim;
        for s in 0..2 {
            let stream = &mut self.net[to][s];
            let arrived = stream.front().is_some_and(|f| f.due <= self.now);
            if arrived && let Some(frame) = stream.frames.pop_front() {
                stream.buffered = stream.buffered.saturating_sub(frame.bytes);
                self.fill_buffer(to, s);
                return true;
            }
        }
        false
    }

    fn siege_says(&mut self, say: &Say) {
        let Some(siege) = &mut self.siege else { return };
        let victim = siege.plan.node;
        let wire = self.nodes[victim].wire;
        let s = say.socket() as usize;
        let stream = &mut self.net[victim][s];
        if stream.broken || !self.nodes[victim].connected {
            return;
        }
        siege.said += 1;
        let mut bytes = say.encode(&wire, self.options.integrity_alg, &mut siege.rng);
        if siege.rng.below(siege.plan.malice * 40) == 0 {
            let at = siege.rng.below(bytes.len() as u64) as usize;
            if siege.rng.one_in(2) {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << siege.rng.below(8);
            }
        }
        let due = Time(self.now.0 + 20_000).max(stream.last_due());
        stream.frames.push_back(Frame {
            due,
            content: Content::Packet(bytes, say.payload.clone()),
            bytes: 0,
            notify: None,
        });
    }

    /// Something that the impostor has sent arrives, which may be no packet at all.
    pub(crate) fn siege_arrives(
        &mut self,
        i: usize,
        s: usize,
        bytes: &[u8],
        payload: Option<Data>,
    ) {
        let socket = socket_of(s);
        let before = self.nodes[i].resource.status(self.now);
        self.note_unprotected(&before.volumes);
        let ordered = !self.nodes[i].admin_open.is_empty();
        match decode(&self.nodes[i].wire, socket, bytes) {
            Ok(Some(frame)) => {
                let wanted = frame.payload_len;
                let same = payload.as_ref().map_or(0, Payload::len_bytes) == wanted;
                let payload = match (wanted, same) {
                    (0, _) => None,
                    (_, true) => payload,
                    _ => Some(Data(std::rc::Rc::new(vec![0xee; wanted as usize]))),
                };
                self.tell(i, || format!("<! {} {:?}", frame.volume, frame.packet));
                let (volume, packet, digest) = (frame.volume, frame.packet, frame.digest);
                let reflects = |s: &Siege| s.foe.reflects(&packet);
                let event = if self.siege.as_deref().is_some_and(reflects) {
                    Event::Connection(ConnId::FIRST, ConnEvent::ChallengeReflected)
                } else {
                    Event::Connection(
                        ConnId::FIRST,
                        ConnEvent::Received {
                            volume,
                            packet,
                            digest,
                            payload,
                        },
                    )
                };
                self.event(i, event);
            }
            Ok(None) => return, // the rest never comes
            Err(error) => {
                self.tell(i, || format!("<! refused: {error}"));
                self.net[i] = Default::default();
                self.net[i].iter_mut().for_each(|s| s.broken = true);
                let cause = LossCause::BadPacket {
                    error: error.to_string(),
                    unknown_command: matches!(error, DecodeError::UnknownCommand { .. }),
                };
                self.event(
                    i,
                    Event::Connection(ConnId::FIRST, ConnEvent::Lost { socket, cause }),
                );
            }
        }
        self.nodes[i].resource.check();
        let after = self.nodes[i].resource.status(self.now);
        if !ordered {
            self.judge_harm(i, &before.volumes, &after.volumes);
        }
    }

    /// Users of a node that has no good disk any more are served by a peer that calls its own good, with whatever it has.
    fn note_unprotected(&mut self, volumes: &[VolumeStatus]) {
        let Some(siege) = &mut self.siege else { return };
        for volume in volumes {
            let v = usize::from(volume.volume.0);
            if v < siege.protected.len() && !watch::is_protected(volume) {
                siege.protected[v] = false;
                self.models[v].forked |= siege.foe.orders_syncs;
            }
        }
    }

    fn judge_harm(&mut self, i: usize, before: &[VolumeStatus], after: &[VolumeStatus]) {
        let Some(siege) = &mut self.siege else { return };
        for (old, new) in before.iter().zip(after) {
            let v = usize::from(old.volume.0);
            if old.volume != new.volume || v >= siege.protected.len() {
                continue;
            }
            siege.protected[v] &= watch::is_protected(old);
            let usable = self.nodes[i].disks[v].data_sectors;
            if siege.protected[v]
                && let Some(text) = watch::harm(old, new, usable)
            {
                panic!("node {}: {text}", self.nodes[i].name);
            }
            siege.protected[v] &= !watch::gives_way(old, new);
        }
    }

    /// It goes, with or without a word.
    fn siege_leaves(&mut self, siege: &mut Siege) {
        let victim = siege.plan.node;
        self.tell(2, || "the impostor goes away".into());
        if self.paired_due[victim].take().is_some() {
            self.nodes[victim].connecting = true;
        }
        let mut wait_ms = 3_000;
        if self.nodes[victim].connected {
            if siege.plan.vanishes {
                // Found out by pings, or by sends that do not get through.
                let o = &self.options;
                let send_ms = u64::from(o.timeout_ds) * 100 * u64::from(o.ko_count.max(1));
                wait_ms += u64::from(o.ping_int_s) * 1000 + 2 * send_ms;
            } else {
                for s in 0..2 {
                    let error = [0, 104][siege.rng.below(2) as usize];
                    if !self.net[victim][s].broken {
                        self.push_end(victim, s, self.now, error);
                    }
                }
            }
        }
        siege.requests_before = self.next_id;
        siege.judged_at = Some(self.now.plus_ms(wait_ms));
    }

    /// The impostor has been gone for a while: what has he left?
    fn judge_siege(&mut self, mut siege: Box<Siege>) {
        let victim = siege.plan.node;
        let node = &self.nodes[victim];
        let slow = |d: &crate::disk::Disk| d.slow > 1 || d.stuck_until > self.now;
        // (A disk that is quick again may still have what it was given when it was not.)
        let busy = node.pending.iter().any(|pending| pending.tag.is_some());
        let held_up = busy || node.paused_until > self.now || node.disks.iter().any(slow);
        if held_up || self.silent || self.wires.dead != [false; 2] {
            siege.judged_at = Some(self.now.plus_ms(3_000));
            self.siege = Some(siege);
            return;
        }
        assert!(
            !node.connected,
            "node {}: the impostor is gone, and believed to be there",
            node.name
        );
        let mut open = node.requests_open.keys();
        let hangs = open.find(|&&id| id < siege.requests_before);
        assert!(
            hangs.is_none(),
            "node {}: request {hangs:?} hangs when the impostor has gone: {}",
            node.name,
            self.states()
        );
        let lines = node.log.len().saturating_sub(siege.lines_before);
        assert!(
            lines <= LINES_MAX + 24 * siege.said as usize,
            "{lines} lines in the log about {} packets",
            siege.said
        );
        let always = node.always_said.saturating_sub(siege.always_said_before);
        assert!(
            always <= ALWAYS_SAID_MAX,
            "{always} lines in the log that no limit is for, about {} packets",
            siege.said
        );
        let status = node.resource.status(self.now);
        for volume in &status.volumes {
            assert!(
                !volume.state.is_suspended(),
                "node {}: I/O is suspended when the impostor has gone: {}",
                node.name,
                volume.state
            );
            assert_eq!(
                (volume.peer.unacked, volume.peer.pending),
                (0, 0),
                "something is awaited when the impostor has gone"
            );
            let v = usize::from(volume.volume.0);
            let kept = siege.protected[v] && watch::is_protected(volume);
            if kept && !self.models[v].forked {
                let disk = &node.disks[v];
                if let Some(text) = self.models[v].violation(disk) {
                    panic!("the impostor has changed what users were promised: {text}");
                }
            }
        }
        self.coverage.hit("judge: a node after an attack");
        self.end_siege(&siege);
    }

    /// The attack is over, by itself or because the node has died.
    fn end_siege(&mut self, siege: &Siege) {
        let victim = siege.plan.node;
        if siege.believed {
            self.lied = true;
            for v in 0..self.models.len() {
                self.models[v].forked = true;
                let spoiled = if siege.protected[v] {
                    1 - victim
                } else {
                    victim
                };
                self.nodes[spoiled].rotten[v] = true;
            }
        }
        self.want_pair();
    }

    /// The attacked node dies: there is nothing to judge.
    pub(crate) fn siege_breaks(&mut self, i: usize) {
        if let Some(siege) = self.siege.take_if(|s| s.plan.node == i) {
            self.net[1 - i] = Default::default();
            self.net[1 - i].iter_mut().for_each(|s| s.broken = true);
            self.end_siege(&siege);
        }
    }

    /// Whether there is an impostor whose stubbornness is to be sat out.
    pub(crate) fn is_siege_stubborn(&self) -> bool {
        let siege = self.siege.as_deref();
        siege.is_some_and(|s| s.stubborn && s.judged_at.is_none())
    }

    /// It leaves now, and the node is judged.
    pub(crate) fn lift_siege(&mut self) {
        if let Some(siege) = &mut self.siege {
            siege.until = self.now;
            siege.next = siege.next.min(self.now.plus_ms(1));
        }
    }
}

impl Siege {
    fn speak(&mut self, wire: &WireContext) -> Vec<Say> {
        let rng = &mut self.rng;
        self.foe.wire = *wire;
        if rng.one_in(self.plan.malice) {
            return match rng.below(12) {
                0 => self.foe.again(rng).into_iter().collect(),
                1 => {
                    let stage = rng.below(5);
                    self.foe.greet(stage, rng)
                }
                _ => {
                    let say = self.foe.anything(rng);
                    // (The decoder refuses these.)
                    let strange = say.packet.command().is_initial() == wire.version.is_agreed();
                    if strange && !rng.one_in(20) {
                        return Vec::new();
                    }
                    vec![say]
                }
            };
        }
        if !wire.version.is_agreed() {
            return match std::mem::replace(&mut self.greeted, 1) {
                0 => self.foe.greet(0, rng),
                _ => Vec::new(),
            };
        }
        let stage = self.greeted;
        if stage == 1 && self.believed && !self.foe.is_challenged() {
            self.greeted = 2;
        }
        match self.greeted {
            1 if self.foe.is_challenged() => {
                self.greeted = 2;
                self.foe.greet(1, rng)
            }
            stage @ 2..5 => {
                self.greeted += 1;
                self.foe.greet(stage, rng)
            }
            5 if self.stubborn && self.foe.as_target => {
                self.greeted += 1;
                let volumes = 0..self.protected.len() as u16;
                volumes.flat_map(|v| self.foe.bitmap(v, rng)).collect()
            }
            _ if self.stubborn => {
                let (habit, at) = &mut self.habit;
                if habit.is_empty() && rng.one_in(6) {
                    *habit = self.foe.habit(rng);
                }
                let mut says: Vec<Say> = habit.get(*at).cloned().into_iter().collect();
                *at = (*at + 1) % habit.len().max(1);
                for _ in 0..4 {
                    says.extend(self.foe.answer_well(rng));
                }
                says
            }
            _ => match rng.below(12) {
                0 => {
                    let volume = rng.below(2) as u16;
                    self.foe.bitmap(volume, rng)
                }
                _ => self.foe.answer(rng).into_iter().collect(),
            },
        }
    }
}
