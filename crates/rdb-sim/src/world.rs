//! Two engines, two sets of disks, a link: enough world to see a pair live and be ill-treated. Every packet goes
//! through the codec. When things happen is decided by hashes of the seed and of the thing's number.

use std::collections::VecDeque;

use rdb_engine::config::{DiskOptions, NetOptions, OnIoError, ResourceOptions};
use rdb_engine::state::VolumeState;
use rdb_engine::{Cause, ConnEffect, ConnEvent, ConnId, Effect, Event, Time, Timer, VolumeNr};
use replica_proto::{Packet, Socket, WireContext};

use crate::arbiter::Arbiter;
use crate::coverage::Coverage;
use crate::crash::CrashAt;
use crate::hostile::Siege;
use crate::job::Job;
use crate::net::{Link, Stream, socket_of};
use crate::node::{Data, Node, Op, Pending, what_metadata};
use crate::oracle::Model;
use crate::plan::{Flavour, Strike, Trigger};
use crate::rng::{Rng, mix};

/// The volume of tests that have one.
pub const V: VolumeNr = VolumeNr(0);
/// Size of the disks of tests that do not care: 32 MiB.
pub const DISK_SECTORS: u64 = 65_536;

/// How long disks take.
#[derive(Debug, Clone)]
pub struct Timing {
    /// The least an operation takes, in microseconds; up to 32 times that in the ordinary.
    pub disk_us: u64,
    /// Once in so many operations it takes a hundred times as long; 0 is never.
    pub stray: u64,
}

/// One line of what happened.
#[derive(Debug, Clone)]
pub struct Line {
    /// When.
    pub at: Time,
    /// At which node; 2 is both, or the world.
    pub node: usize,
    /// What.
    pub text: String,
}

/// One resource of two nodes, and all that surrounds it.
#[allow(missing_docs, reason = "the names say it")]
pub struct World {
    /// For tests' own choices, and for what a fault leaves.
    pub rng: Rng,
    pub(crate) seed: u64,
    pub now: Time,
    pub nodes: [Node; 2],
    /// Towards node i, by socket.
    pub net: [[Stream; 2]; 2],
    /// New connections can be made.
    pub link: bool,
    /// How the link behaves.
    pub wires: Link,
    /// Packets vanish and nobody is told.
    pub silent: bool,
    pub timing: Timing,
    pub(crate) flavour: Flavour,
    pub(crate) next_id: u64,
    pub(crate) ops: u64,
    /// Print what happens.
    pub trace: bool,
    /// Keep what happens.
    pub transcript: Option<Vec<Line>>,
    pub models: Vec<Model>,
    pub options: NetOptions,
    /// The options have changed since the pair was set up.
    pub(crate) resettled: bool,
    /// Another protocol than C is in use, or was.
    pub(crate) promises_less: bool,
    pub disk_options: DiskOptions,
    /// What each node is told of the resource when it is brought up.
    pub resource_options: ResourceOptions,
    /// Who decides between the nodes, and how handlers end.
    pub(crate) arbiter: Arbiter,
    /// The mistake that both engines make.
    pub(crate) planted: Option<rdb_engine::Bug>,
    /// No packet is delivered while set.
    pub hold_net: bool,
    pub coverage: Coverage,
    /// What waits for something to happen, and how often that still has to.
    pub(crate) ambushes: Vec<Ambush>,
    /// What the run does by itself later.
    pub jobs: VecDeque<(Time, Job)>,
    /// Both nodes will be told of a new connection: when, and who accepted the meta socket.
    pub(crate) pairing: Option<Time>,
    pub(crate) pairings: u64,
    pub(crate) paired_due: [Option<(Time, bool)>; 2],
    /// An administrator has ordered a full sync of the volume.
    pub(crate) full_syncs: Vec<bool>,
    /// Data blocks that may differ, by volume.
    pub(crate) suspects: Vec<std::collections::BTreeSet<u64>>,
    /// How many events the engines have handled.
    pub events: u64,
    /// The engine's own invariants are looked at after so many events, and after one in about 32 times fewer changes
    /// of a state; 1 is always.
    pub check_every: u64,
    /// Whether the judge looks whenever nothing is under way.
    pub judging: bool,
    /// Where a node is to crash, and, once it has, how many pages it had not flushed.
    pub(crate) crash: Option<CrashAt>,
    pub(crate) crashed: Option<usize>,
    pub(crate) positions: [u64; 2],
    /// An impostor is in the place of a node's peer.
    pub(crate) siege: Option<Box<Siege>>,
    /// How often that has been.
    pub(crate) sieges: u32,
    /// The steps are done.
    pub(crate) repairing: bool,
    /// Only one thing has failed: users' requests end well, and no node gives its peer up for good.
    pub(crate) exacting: bool,
    /// A disk did something else than it said, at some time.
    pub(crate) lied: bool,
    /// Blocks of the volume have rotted, and no verify has come to the end since.
    pub(crate) spoiled: Vec<bool>,
    /// Something happened since the judge looked.
    pub(crate) unjudged: bool,
    /// When the judge last looked at the users who wait, since when nothing but the peer may hold those of each node up, and
    /// whether something else did when it looked.
    pub(crate) patience: (Time, [Time; 2], [bool; 2]),
    changes: u64,
    effects: Vec<Effect<Data>>,
}

/// Something that is done when something else happens for the n-th time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ambush {
    /// The node where it has to happen, if that matters.
    pub(crate) at: Option<usize>,
    pub(crate) trigger: Trigger,
    pub(crate) left: u32,
    pub(crate) late_us: u64,
    pub(crate) strike: Strike,
}

/// The thing that happens next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Next {
    Io(usize, usize),
    Deliver(usize, usize),
    Pair,
    Paired(usize),
    Stall(usize, usize),
    Timer(usize, Timer),
    /// A handler goes on.
    Handler(usize, usize),
    /// The impostor has something to do.
    Siege,
    Job,
}

impl World {
    /// Two nodes with a fresh disk each.
    pub fn new(seed: u64) -> World {
        World::with_disks(seed, DISK_SECTORS, DISK_SECTORS)
    }

    /// Two nodes with a fresh disk each, of these sizes in sectors.
    pub fn with_disks(seed: u64, a: u64, b: u64) -> World {
        World::with_volumes(seed, &[a], &[b])
    }

    /// Two nodes with fresh disks of these sizes in sectors.
    pub fn with_volumes(seed: u64, a: &[u64], b: &[u64]) -> World {
        World {
            rng: Rng(seed),
            seed,
            now: Time(1_000_000_000),
            nodes: [
                Node::new("a", seed ^ 0xaaaa, a),
                Node::new("b", seed ^ 0xbbbb, b),
            ],
            net: Default::default(),
            link: true,
            wires: Link::default(),
            silent: false,
            timing: Timing {
                disk_us: 8,
                stray: 60,
            },
            flavour: Flavour::Mixed,
            next_id: 1,
            ops: 0,
            trace: std::env::var_os("RDB_TRACE").is_some(),
            transcript: None,
            models: a.iter().map(|_| Model::default()).collect(),
            options: NetOptions::default(),
            resettled: false,
            promises_less: false,
            disk_options: DiskOptions {
                c_plan_ahead_ds: 0,
                resync_rate_kib: 100_000,
                on_io_error: OnIoError::Detach,
                al_extents: 67, // the fewest there can be, so that they are used up
                ..DiskOptions::default()
            },
            resource_options: ResourceOptions::default(),
            arbiter: Arbiter::default(),
            planted: None,
            hold_net: false,
            coverage: Coverage::default(),
            ambushes: Vec::new(),
            jobs: VecDeque::new(),
            pairing: None,
            pairings: 0,
            paired_due: [None; 2],
            full_syncs: vec![false; a.len()],
            suspects: a.iter().map(|_| Default::default()).collect(),
            events: 0,
            check_every: 1,
            judging: false,
            crash: None,
            crashed: None,
            positions: [0; 2],
            siege: None,
            sieges: 0,
            repairing: false,
            exacting: false,
            lied: false,
            spoiled: vec![false; a.len()],
            unjudged: false,
            patience: Default::default(),
            changes: 0,
            effects: Vec::new(),
        }
    }

    /// Whether anybody reads what happens.
    pub(crate) fn is_told(&self) -> bool {
        self.trace || self.transcript.is_some()
    }

    /// Tells what happens at a node (2: in the world), if anybody listens.
    pub fn tell(&mut self, node: usize, text: impl FnOnce() -> String) {
        if !self.is_told() {
            return;
        }
        let (at, text) = (self.now, text());
        if self.trace {
            println!("{:>12} {} {text}", at.0 / 1000, ["a", "b", "*"][node]);
        }
        if let Some(lines) = &mut self.transcript {
            lines.push(Line { at, node, text });
        }
    }

    /// Hands an event to an engine, and starts what follows from it.
    ///
    /// # Panics
    /// If the engine breaks a promise.
    pub fn event(&mut self, i: usize, event: Event<Data>) {
        if !self.nodes[i].alive {
            return;
        }
        self.events += 1;
        let mut effects = std::mem::take(&mut self.effects);
        self.nodes[i].resource.handle(self.now, event, &mut effects);
        if self.events.is_multiple_of(self.check_every) {
            self.nodes[i].resource.check();
        }
        let refused = self.nodes[i].resource.refused();
        let mut changed = false;
        for effect in effects.drain(..) {
            changed |= matches!(effect, Effect::StateChanged { .. });
            self.apply(i, effect);
        }
        self.effects = effects;
        if self.is_attacked(i) {
            self.nodes[i].refused_impostors = refused;
        } else if self.judging {
            self.judge_refusals(i, refused - self.nodes[i].refused_impostors);
        }
        self.changes += u64::from(changed);
        if changed && self.changes.is_multiple_of(self.check_every / 32 + 1) {
            self.nodes[i].resource.check();
        }
    }

    /// When an operation that starts now will be answered.
    fn disk_due(&mut self, i: usize, volume: usize) -> Time {
        self.ops += 1;
        let draw = mix(self.seed ^ 0xd15c, self.ops);
        let mut us = (self.timing.disk_us << (draw % 6)) * self.nodes[i].disks[volume].slow;
        if (draw >> 8).checked_rem(self.timing.stray) == Some(0) {
            us *= 100;
        }
        Time(self.now.0 + us * 1000 + (draw >> 32) % 1000)
    }

    pub(crate) fn start_io(&mut self, i: usize, tag: rdb_engine::IoTag, op: Op) {
        let due = self.disk_due(i, op.volume().unwrap_or(0));
        let kept = self.is_kept(i, &op);
        let tag = Some(tag);
        self.nodes[i].pending.push(Pending { due, tag, op, kept });
    }

    fn apply(&mut self, i: usize, effect: Effect<Data>) {
        match effect {
            Effect::Read { .. }
            | Effect::Write { .. }
            | Effect::Flush { .. }
            | Effect::Discard { .. }
            | Effect::MetaRead { .. }
            | Effect::MetaWrite { .. } => self.apply_io(i, effect),
            Effect::RetryIo { tag } => self.take_kept(i, tag, true),
            Effect::GiveUpIo { tag } => self.take_kept(i, tag, false),
            Effect::CloseDisk { volume } => {
                let volume = usize::from(volume.0);
                let mut pending = self.nodes[i].pending.iter();
                let busy = pending.any(|p| p.op.volume() == Some(volume) && !p.op.is_meta_read());
                let kept = &self.nodes[i].kept;
                let busy = busy || kept.values().any(|op| op.volume() == Some(volume));
                // (A read of an attach that was given up by force changes nothing.)
                assert!(!busy, "a disk is closed with I/O outstanding");
            }
            Effect::Connection(_, ConnEffect::Open) => {
                self.nodes[i].connecting = true;
                self.want_pair();
            }
            Effect::Connection(_, ConnEffect::Close) => {
                self.nodes[i].connecting = false;
                if self.paired_due[i].take().is_some() || self.nodes[i].connected {
                    self.close(i);
                }
            }
            Effect::Connection(_, ConnEffect::SetWire(wire)) => self.nodes[i].wire = wire,
            Effect::Connection(
                _,
                ConnEffect::Send {
                    volume,
                    packet,
                    digest,
                    payload,
                    notify,
                },
            ) => self.send(i, volume, &packet, digest.as_ref(), payload, notify),
            Effect::Complete { request, result } => self.completed(i, request.0, result),
            Effect::Device { device, .. } => {
                let node = &mut self.nodes[i];
                node.device = device.map(|d| d.size_sectors);
                let size = node.device;
                node.note(|| format!("device {size:?}"));
            }
            Effect::AdminDone { id, result } => {
                self.tell(i, || format!("admin {} {result:?}", id.0));
                let node = &mut self.nodes[i];
                let known = node.admin_open.remove(&id.0);
                let command = known.expect("an answer to a command that was not given");
                node.note(|| format!("admin {} {}", id.0, result.is_ok()));
                let is_ok = result.is_ok();
                node.admin.insert(id.0, result);
                self.judge_answer(i, &command, is_ok);
            }
            Effect::RunHandler {
                id,
                handler,
                volume,
                snapshot,
            } => self.handler_starts(i, id, handler, volume, snapshot),
            Effect::EndHandler { id } => self.handler_is_ended(i, id),
            Effect::SetTimer { timer, at } => {
                self.nodes[i].timers.insert(timer, at);
            }
            Effect::ClearTimer { timer } => {
                self.nodes[i].timers.remove(&timer);
            }
            Effect::Log { text, cause, .. } => self.log(i, text, cause),
            Effect::Milestone { what, .. } => self.nodes[i].milestones.push(what),
            Effect::StateChanged { old, new, volume } => self.state_changed(i, volume, old, new),
        }
    }

    fn state_changed(&mut self, i: usize, volume: VolumeNr, old: VolumeState, new: VolumeState) {
        self.tell(i, || format!("{volume} {new}"));
        self.nodes[i].note(|| format!("state {}", new.conn));
        self.coverage.transition(old, new);
        let volume = usize::from(volume.0);
        if let Some(view) = self.nodes[i].view.get_mut(volume) {
            *view = new;
            self.judge_transition(i, volume, old, new);
        }
    }

    fn log(&mut self, i: usize, text: String, cause: Cause) {
        self.nodes[i].always_said += usize::from(cause == Cause::Own);
        self.coverage.log_line(&text);
        if text.ends_with("writes that were frozen are sent again") {
            // The mirror may have marked what it could not acknowledge: no driver tells it that the marks are for nothing.
            self.full_syncs.fill(true);
        }
        if text.starts_with("new current UUID") {
            self.meets(i, Trigger::NewGeneration);
        }
        self.tell(i, || text.clone());
        assert!(
            !text.contains("impossible state change"),
            "{}: {text}",
            self.nodes[i].name
        );
        // Nothing but a cable or an impostor spoils data: both nodes know which digest they carry.
        assert!(
            !text.contains("Digest integrity check FAILED")
                || !self.judging
                || self.wires.spoils > 0
                || self.sieges > 0,
            "{}: {text}",
            self.nodes[i].name
        );
        self.nodes[i].log.push(text);
    }

    fn apply_io(&mut self, i: usize, effect: Effect<Data>) {
        let (tag, op) = self.nodes[i].take_io(effect);
        if let Op::MetaWrite { volume, sector, .. } = &op {
            let trigger = match what_metadata(&self.nodes[i].disks[*volume], *sector) {
                "superblock" => Trigger::Superblock,
                "log" => Trigger::Log,
                _ => Trigger::Bitmap,
            };
            self.meets(i, trigger);
        }
        self.judge_own_write(i, &op);
        self.start_io(i, tag, op);
    }

    fn completed(
        &mut self,
        i: usize,
        id: u64,
        result: Result<Option<Data>, rdb_engine::RequestError>,
    ) {
        self.nodes[i].note(|| format!("complete {id} {}", result.is_ok()));
        self.tell(i, || {
            format!(
                "request {id} {}",
                if result.is_ok() { "done" } else { "failed" }
            )
        });
        let Some((volume, _)) = self.nodes[i].requests_open.remove(&id) else {
            let before = self.nodes[i].completed.insert(id, result);
            assert!(before.is_none(), "completed twice");
            return;
        };
        self.judge_availability(i, &result);
        self.judge_frozen(i, &result);
        match self.models[volume].complete(i, id, &result) {
            Err(text) => panic!("node {}: {text}", self.nodes[i].name),
            Ok(Some(acked)) if self.judging => self.judge_ack(i, volume, &acked),
            Ok(_) => {}
        }
        let before = self.nodes[i].completed.insert(id, result);
        assert!(before.is_none(), "completed twice");
    }

    /// When this happens, if the machine does not stand still.
    fn at_node(&self, i: usize, due: Time) -> Time {
        due.max(self.nodes[i].paused_until)
    }

    /// What happens next of all that is under way, timers aside.
    pub(crate) fn next_work(&self) -> Option<(Time, Next)> {
        let mut best: Option<(Time, Next)> = None;
        let mut offer = |due: Time, next: Next| {
            if best.is_none_or(|(at, _)| due < at) {
                best = Some((due, next));
            }
        };
        for (i, node) in self.nodes.iter().enumerate() {
            for (p, pending) in node.pending.iter().enumerate() {
                let held = if pending.op.is_meta() {
                    node.hold_meta
                } else {
                    node.hold_data
                };
                if held {
                    continue;
                }
                let disk = pending.op.volume().map(|v| &node.disks[v]);
                let stuck = disk.map_or(Time(0), |disk| match pending.kept {
                    true => disk.stuck_until.max(disk.keeps_until),
                    false => disk.stuck_until,
                });
                offer(self.at_node(i, pending.due.max(stuck)), Next::Io(i, p));
            }
            for (n, asked) in node.asked.iter().enumerate() {
                if let Some(due) = asked.course.due() {
                    offer(self.at_node(i, due), Next::Handler(i, n));
                }
            }
            if let Some((due, _)) = self.paired_due[i] {
                offer(self.at_node(i, due), Next::Paired(i));
            }
            for s in 0..2 {
                // As in the driver, nothing of the meta socket is read before the features are agreed on the other.
                let stream = &self.net[i][s];
                let Some(front) = stream.front() else {
                    continue;
                };
                let end = matches!(front.content, crate::net::Content::End(_));
                let early =
                    s == Socket::Meta as usize && !end && node.wire == WireContext::initial();
                let waiting = front.due == crate::net::WAITING;
                let choked = self.is_choked(i);
                if node.connected
                    && !choked
                    && !self.hold_net
                    && !early
                    && !self.wires.dead[i]
                    && !waiting
                {
                    offer(self.at_node(i, front.due), Next::Deliver(i, s));
                }
                if let Some(since) = stream.stalled_since
                    && self.nodes[1 - i].connected
                {
                    let timeout = u64::from(self.options.timeout_ds.max(1)) * 100;
                    offer(
                        self.at_node(1 - i, since.plus_ms(timeout)),
                        Next::Stall(i, s),
                    );
                }
            }
        }
        if let Some(due) = self.siege_due() {
            offer(due, Next::Siege);
        }
        if let Some(due) = self.pairing {
            offer(due, Next::Pair);
        }
        best
    }

    /// The timer that expires next.
    pub(crate) fn next_timer(&self) -> Option<(Time, Next)> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .flat_map(|(i, n)| {
                n.timers
                    .iter()
                    .map(move |(&t, &at)| (self.at_node(i, at), i, t))
            })
            .min_by_key(|&(at, i, _)| (at, i))
            .map(|(at, i, t)| (at, Next::Timer(i, t)))
    }

    /// What happens next.
    pub(crate) fn next(&self) -> Option<(Time, Next)> {
        let job = self.jobs.front().map(|(at, _)| (*at, Next::Job));
        let others = [self.next_work(), self.next_timer(), job];
        others.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Lets it happen. A job is left to the caller.
    pub(crate) fn happen(&mut self, at: Time, next: Next) {
        self.now = self.now.max(at);
        self.judge_patience();
        match next {
            Next::Io(i, p) => {
                let Pending { tag, op, .. } = self.nodes[i].pending.swap_remove(p);
                self.carry_out(i, tag, op);
            }
            Next::Deliver(i, s) => self.deliver(i, s),
            Next::Pair => self.pair_sockets(),
            Next::Paired(i) => self.tell_paired(i),
            Next::Stall(i, s) => {
                self.net[i][s].stalled_since = Some(self.now);
                self.coverage.hit("send stalled");
                let socket = socket_of(s);
                self.event(
                    1 - i,
                    Event::Connection(ConnId::FIRST, ConnEvent::SendStalled { socket }),
                );
            }
            Next::Timer(i, timer) => {
                self.nodes[i].timers.remove(&timer);
                self.event(i, Event::Timer(timer));
            }
            Next::Handler(i, n) => self.handler_goes_on(i, n),
            Next::Siege => self.siege_acts(),
            Next::Job => {}
        }
    }

    /// One thing happens that is no timer. Says whether anything could.
    pub fn step(&mut self) -> bool {
        let Some((at, next)) = self.next_work() else {
            return false;
        };
        self.happen(at, next);
        true
    }

    /// The next thing happens, be it a timer. Says whether anything could.
    pub fn tick(&mut self) -> bool {
        let others = [self.next_work(), self.next_timer()];
        let next = others.into_iter().flatten().min_by_key(|(at, _)| *at);
        let Some((at, next)) = next else {
            return false;
        };
        self.happen(at, next);
        true
    }

    /// Everything happens that is due until then; or until a job is, which is returned.
    pub fn advance(&mut self, end: Time) -> Option<Job> {
        loop {
            let next = self.next();
            if self.judging && self.unjudged && next.is_none_or(|(at, _)| at.ms_since(self.now) > 0)
            {
                self.judge_quiet();
            }
            match next {
                Some((at, Next::Job)) if at <= end => {
                    self.now = self.now.max(at);
                    return self.jobs.pop_front().map(|(_, job)| job);
                }
                Some((at, next)) if at <= end => {
                    let before = self.crashed.is_some();
                    self.happen(at, next);
                    if self.crashed.is_some() && !before {
                        return None;
                    }
                }
                _ => {
                    self.now = self.now.max(end);
                    return None;
                }
            }
        }
    }

    /// Something happens at a node for which an ambush may wait.
    pub(crate) fn meets(&mut self, node: usize, trigger: Trigger) {
        if self.ambushes.is_empty() {
            return;
        }
        let mut due = Vec::new();
        self.ambushes.retain_mut(|ambush| {
            if ambush.trigger != trigger || ambush.at.is_some_and(|at| at != node) {
                return true;
            }
            ambush.left -= 1;
            if ambush.left == 0 {
                due.push((ambush.late_us, ambush.strike));
            }
            ambush.left > 0
        });
        for (late_us, strike) in due {
            self.coverage.hit(name_of(trigger));
            let at = Time(self.now.0 + late_us * 1000);
            self.later(at, Job::Strike { node, strike });
        }
    }

    /// Whether packets get through, both ways.
    pub(crate) fn is_link_whole(&self) -> bool {
        self.link && !self.silent && self.wires.dead == [false; 2]
    }

    /// Something is to be done later.
    pub fn later(&mut self, at: Time, job: Job) {
        let place = self.jobs.partition_point(|(due, _)| *due <= at);
        self.jobs.insert(place, (at, job));
    }

    /// Some time passes.
    pub fn run_ms(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        loop {
            let others = [self.next_work(), self.next_timer()];
            match others.into_iter().flatten().min_by_key(|(at, _)| *at) {
                Some((at, next)) if at <= end => self.happen(at, next),
                _ => break,
            }
        }
        self.now = self.now.max(end);
    }

    /// Time passes until this is so.
    ///
    /// # Panics
    /// If it does not become so.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&World) -> bool) {
        for _ in 0..2_000_000 {
            if done(self) {
                return;
            }
            if !self.tick() {
                let states = self.states();
                panic!("nothing happens any more while waiting for {what}: {states}");
            }
        }
        panic!("waited too long for {what}: {}", self.states());
    }

    pub(crate) fn push_sent(&mut self, i: usize, tag: rdb_engine::SendTag) {
        self.nodes[i].pending.push(Pending {
            due: Time(self.now.0 + 2_000),
            tag: None,
            op: Op::Sent(tag),
            kept: false,
        });
    }

    pub(crate) fn describe(packet: &Packet) -> String {
        match packet {
            Packet::Data(h) => format!("P_DATA {}", h.sector),
            Packet::RsDataReply(h) => format!("P_RS_DATA_REPLY {}", h.sector),
            other => other.name().to_string(),
        }
    }
}

fn name_of(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Connected => "ambush: connected",
        Trigger::PeerLost => "ambush: peer lost",
        Trigger::ResyncBegins => "ambush: resync begins",
        Trigger::ResyncEnds => "ambush: resync ends",
        Trigger::Promoted => "ambush: promoted",
        Trigger::DiskLost => "ambush: disk lost",
        Trigger::Attached => "ambush: attached",
        Trigger::NewGeneration => "ambush: new generation",
        Trigger::Superblock => "ambush: superblock",
        Trigger::Log => "ambush: activity log",
        Trigger::Bitmap => "ambush: bitmap",
        Trigger::BarrierAck => "ambush: barrier acknowledged",
    }
}
