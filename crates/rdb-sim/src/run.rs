//! Carries out a plan, and says what became of it.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;

use rdb_engine::state::{DiskState, Role};
use rdb_engine::{Handlers, Time};

use crate::coverage::Coverage;
use crate::crash::Then;
use crate::disk::Disk;
use crate::job::Job;
use crate::net::Link;
use crate::node::Node;
use crate::plan::{Action, Cut, DiskFault, Plan, Setup, Step, Strike};
use crate::rng::{Rng, mix};
use crate::world::{Ambush, Line, World};

/// A promise was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub text: String,
    /// Where in the code it was noticed: two failures of one place are taken for the same.
    pub place: String,
}

/// What became of a plan.
#[derive(Debug)]
pub struct Outcome {
    /// Nothing if all is well.
    pub failure: Option<Failure>,
    /// Simulated time of the steps, in microseconds, without the repair at the end.
    pub storm_us: u64,
    /// Simulated time in all, in microseconds.
    pub total_us: u64,
    /// Events that the engines have handled.
    pub events: u64,
    /// What was reached.
    pub coverage: Coverage,
    /// Places in each node's writes and flushes where it could crash: before and after each.
    pub positions: [u64; 2],
    /// Pages that the crashed disk had not flushed.
    pub unflushed: usize,
    /// What happened, if that was asked for.
    pub transcript: Vec<Line>,
}

/// The resources of two nodes. They share nothing but the machines, the cable and the clock.
struct Run<'a> {
    plan: &'a Plan,
    worlds: Vec<World>,
    storm_us: u64,
    faults: Coverage,
}

/// How long a pair may take to come together, in simulated milliseconds: the slowest resync drawn takes a quarter of it.
const SETTLE_MS: u64 = 120_000;

const START: Time = Time(1_000_000_000);

impl Plan {
    /// Carries the plan out.
    pub fn run(&self, transcript: bool) -> Outcome {
        let mut run = Run {
            plan: self,
            worlds: Vec::new(),
            storm_us: 0,
            faults: Coverage::default(),
        };
        let failure = caught(|| run.all(transcript));
        let mut outcome = Outcome {
            failure,
            storm_us: run.storm_us,
            total_us: 0,
            events: 0,
            coverage: run.faults,
            positions: [0; 2],
            unflushed: 0,
            transcript: Vec::new(),
        };
        for world in run.worlds {
            outcome.total_us = outcome.total_us.max((world.now.0 - START.0) / 1000);
            outcome.events += world.events;
            outcome.positions = world.positions;
            outcome.unflushed = world.crashed.unwrap_or(0);
            outcome.coverage.add(&world.coverage);
            outcome
                .transcript
                .extend(world.transcript.into_iter().flatten());
        }
        outcome.transcript.sort_by_key(|line| line.at);
        outcome
    }
}

impl Run<'_> {
    fn all(&mut self, transcript: bool) {
        for r in 0..self.plan.setup.resources {
            let seed = mix(self.plan.seed, 0xb0 + r as u64);
            let mut world = empty(seed, &self.plan.setup, transcript);
            world.planted = self.plan.planted;
            world.crash = self.plan.crash;
            for node in &mut world.nodes {
                node.plant(self.plan.planted);
            }
            self.worlds.push(world);
            set_up(&mut self.worlds[r], &self.plan.setup);
        }
        // All clocks show the same.
        let now = self.worlds.iter().map(|w| w.now).max().unwrap_or(START);
        self.until(now);
        for step in &self.plan.steps {
            let now = self.worlds[0].now;
            self.until(Time(now.0 + step.pause_us * 1000));
            if self.worlds[0].crashed.is_some() {
                self.after_crash();
                break;
            }
            self.step(step);
        }
        while self.worlds.iter().any(|w| w.is_siege_stubborn()) {
            self.until(self.worlds[0].now.plus_ms(500));
        }
        self.storm_us = (self.worlds[0].now.0 - START.0) / 1000;
        for world in &mut self.worlds {
            world.repair(self.plan.setup.weather);
        }
    }

    /// The run has ended at its crash point; sometimes the other node goes on.
    fn after_crash(&mut self) {
        let world = &mut self.worlds[0];
        let Some(crash) = world.crash else {
            return;
        };
        let end = |world: &World, ms| world.now.plus_ms(ms);
        world.jobs.clear();
        let at = end(world, 2_000);
        world.advance(at);
        if crash.then == Then::TakeOver {
            world.need_primary(1 - crash.node, 0);
            let at = end(world, 50);
            world.advance(at);
            world.plan_work(0, 4, 400, crash.position);
            let at = end(world, 50);
            self.until(at);
        }
    }

    /// Time passes, and what was put off is done.
    fn until(&mut self, end: Time) {
        for world in &mut self.worlds {
            while let Some(job) = world.advance(end) {
                match job {
                    Job::Request {
                        volume,
                        sector,
                        sectors,
                        ask,
                    } => world.request(volume, sector, sectors, ask),
                    Job::Start {
                        node,
                        connect_first,
                    } if !world.nodes[node].alive => world.start(node, connect_first),
                    Job::Start { .. } => {}
                    Job::Adjust { node } => world.adjust(node),
                    Job::Strike { node, strike } => world.strike(node, strike),
                }
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table: one arm an action")]
    fn step(&mut self, step: &Step) {
        let weather = self.plan.setup.weather;
        let mut rng = Rng(step.sub);
        for world in &mut self.worlds {
            // What a fault leaves is the step's own choice.
            world.rng = Rng(mix(world.seed, step.sub));
            world.tell(2, || format!("step {step}"));
        }
        self.faults.hit(name_of(step.action));
        match step.action {
            Action::Work {
                resource,
                volume,
                requests,
                over_us,
            } => self.worlds[resource].plan_work(volume, requests, over_us, rng.next()),
            Action::Cut(cut) => self.worlds.iter_mut().for_each(|w| cut_link(w, cut)),
            Action::Heal => self.worlds.iter_mut().for_each(World::heal),
            Action::Wires {
                latency_us,
                bytes_per_ms,
                buffer_bytes,
            } => {
                for world in &mut self.worlds {
                    world.wires.latency_us = latency_us;
                    world.wires.bytes_per_ms = bytes_per_ms;
                    world.wires.buffer_bytes = buffer_bytes;
                }
            }
            Action::Kill { node, down_us } => self.down(node, down_us, false, &mut rng),
            Action::PowerCut { node, down_us } => self.down(node, down_us, true, &mut rng),
            Action::Blackout { down_us } => {
                for node in 0..2 {
                    let more = rng.below(2_000_000) >> rng.below(12);
                    self.down(node, down_us + more, true, &mut rng);
                }
            }
            Action::Disk {
                node,
                resource,
                volume,
                fault,
            } => {
                let world = &mut self.worlds[resource];
                let disk = &mut world.nodes[node].disks[volume];
                break_disk(disk, fault, world.now, &mut rng);
            }
            Action::RepairDisks { node } => {
                self.worlds
                    .iter_mut()
                    .for_each(|w| w.repair_disks(node, false));
            }
            Action::Pause { node, us } => {
                for world in &mut self.worlds {
                    let until = Time(world.now.0 + us * 1000);
                    world.begin_patience(node);
                    world.nodes[node].paused_until = until;
                }
            }
            Action::Order {
                node,
                resource,
                volume,
                order,
            } => {
                let world = &mut self.worlds[resource];
                if world.nodes[node].paused_until <= world.now {
                    world.order(node, volume, order, weather);
                }
            }
            Action::NeedPrimary {
                resource,
                volume,
                node,
            } => self.worlds[resource].need_primary(node, volume),
            Action::Wait => {}
            Action::Settle => self.settle(),
            Action::Settings {
                node,
                resource,
                late_us,
            } => self.worlds[resource].change_settings(node, late_us, &mut rng),
            Action::Verify {
                node,
                rotten,
                requests,
                cuts,
            } => self.verify(node, rotten, requests, cuts, &mut rng),
            Action::Attack { resource, attack } => self.worlds[resource].attack(attack),
            Action::Ambush {
                resource,
                at,
                trigger,
                nth,
                late_us,
                strike,
            } => self.worlds[resource].ambushes.push(Ambush {
                at,
                trigger,
                left: nth,
                late_us,
                strike,
            }),
        }
    }

    /// The pair comes together by itself, if users leave it the time.
    fn settle(&mut self) {
        // An ambush that has not met what it waits for would strike now.
        if self.worlds.iter().any(|w| !w.ambushes.is_empty()) {
            self.worlds.iter_mut().for_each(|w| w.ambushes.clear());
            self.until(self.worlds[0].now.plus_ms(50));
        }
        // (One that struck late has left the link cut.)
        for world in self.worlds.iter_mut().filter(|w| !w.is_link_whole()) {
            world.heal();
        }
        // (Or a disk that fails when it is next used, perhaps after the end of this incident.)
        for disk in self
            .worlds
            .iter_mut()
            .flat_map(|w| &mut w.nodes)
            .flat_map(|n| &mut n.disks)
        {
            disk.forget_failures();
        }
        let end = self.worlds[0].now.plus_ms(SETTLE_MS);
        loop {
            let now = self.worlds[0].now;
            self.until(now.plus_ms(500));
            let mut busy = self.worlds.iter().filter(|w| !w.is_together());
            let Some(world) = busy.next() else { break };
            assert!(
                world.now < end,
                "the pair does not come together by itself: {}",
                world.why_apart()
            );
        }
        for world in &mut self.worlds {
            world.exacting = true;
            world.coverage.hit("judge: came together by itself");
        }
    }

    /// Both copies are equal; then blocks rot, and a verify that goes on as often as it is broken off comes to the end.
    fn verify(&mut self, node: usize, rotten: u32, requests: u32, cuts: u32, rng: &mut Rng) {
        self.settle();
        let world = &mut self.worlds[0];
        world.exacting = false;
        let since = [0, 1].map(|i| world.nodes[i].log.len());
        let rotten = world.rot(0, rotten, rng);
        let (mut start, mut cuts_left, mut from) = (Some(0), cuts, since[node]);
        let is_whole = |world: &World, from: usize| {
            let lines = &world.nodes[node].log[from..];
            let says = |text: &str| lines.iter().any(|line| line.contains(text));
            says("Online verify done") && !says("Online Verify reached")
        };
        let end = self.worlds[0].now.plus_ms(SETTLE_MS);
        while !is_whole(&self.worlds[0], from) {
            let world = &mut self.worlds[0];
            from = world.nodes[node].log.len();
            world.start_verify(node, 0, start.take());
            world.plan_work(0, requests, 200_000, rng.next());
            let mut next = world.now.plus_ms(50);
            if cuts_left > 0 {
                cuts_left -= 1;
                self.until(Time(next.0 + rng.below(300_000) * 1000));
                cut_link(&mut self.worlds[0], rng.pick(&[Cut::Clean, Cut::Ragged]));
                self.until(self.worlds[0].now.plus_ms(rng.below(300)));
                self.worlds[0].heal();
                next = self.worlds[0].now.plus_ms(50);
            }
            self.until(next);
            while self.worlds[0].is_verifying(0) {
                assert!(
                    self.worlds[0].now < end,
                    "the verify does not come to the end: {}",
                    self.worlds[0].why_apart()
                );
                self.until(self.worlds[0].now.plus_ms(200));
            }
        }
        // (A write that is under way makes a block differ that was marked, and has been made equal since.)
        let writes = |n: &crate::node::Node| !n.requests_open.is_empty() || n.has_io();
        while self.worlds[0].nodes.iter().any(writes) {
            assert!(
                self.worlds[0].now < end,
                "the writes do not come to the end"
            );
            self.until(self.worlds[0].now.plus_ms(20));
        }
        let world = &mut self.worlds[0];
        world.judge_verified(node, since, &rotten, cuts > 0);
        // A Primary that leaves its peer is the source of what is marked when they meet again.
        world.need_primary(node, 0);
        self.until(self.worlds[0].now.plus_ms(2_000));
        let disconnect = rdb_engine::Command::Disconnect { force: false };
        self.worlds[0].start_admin(node, disconnect);
        self.until(self.worlds[0].now.plus_ms(2_000));
        self.worlds[0].start_connect(node, false);
        self.settle();
    }

    fn down(&mut self, node: usize, down_us: u64, power: bool, rng: &mut Rng) {
        let connect_first = rng.one_in(3);
        for world in &mut self.worlds {
            if !world.nodes[node].alive {
                continue;
            }
            world.die(node, power);
            // (An attach is refused for the moment in which a connection is made, and nobody here tries again.)
            let connect_first = connect_first && !world.exacting;
            let at = Time(world.now.0 + down_us * 1000);
            let job = Job::Start {
                node,
                connect_first,
            };
            world.later(at, job);
        }
    }
}

fn break_disk(disk: &mut Disk, fault: DiskFault, now: Time, rng: &mut Rng) {
    match fault {
        DiskFault::Reads(n) => disk.fail_reads += n,
        DiskFault::Writes(n) => disk.fail_writes += n,
        DiskFault::Meta(n) => disk.fail_meta += n,
        DiskFault::BadSectors => {
            let first = rng.below(disk.data_sectors / 8) * 8;
            let first = if rng.one_in(2) { first % 256 } else { first };
            disk.bad_sectors = first..first + 8 * (1 + rng.below(4));
        }
        DiskFault::Slow(times) => disk.slow = times,
        DiskFault::Stuck(ms) => disk.stuck_until = now.plus_ms(ms),
        DiskFault::KeepsReads { reads, ms } => {
            disk.keep_reads = reads;
            disk.keeps_until = now.plus_ms(ms);
        }
        DiskFault::Dead => disk.dead = true,
        DiskFault::Full { room, ms } => {
            disk.room = room;
            disk.full_until = now.plus_ms(ms);
        }
        DiskFault::Misdirected { meta } => disk.misdirect = Some(meta),
    }
}

fn cut_link(world: &mut World, cut: Cut) {
    let whole = world.is_link_whole();
    match cut {
        Cut::Socket(node, socket) => world.lose_socket(node, socket),
        _ if !whole => {}
        Cut::Clean => world.cut(),
        Cut::Ragged => world.cut_raggedly(),
        Cut::Silent => world.cut_silently(),
        Cut::HalfOpen(node) => world.half_open(node),
    }
}

impl World {
    /// An ambush: of one resource alone, even what would meet the whole machine.
    fn strike(&mut self, node: usize, strike: Strike) {
        self.tell(2, || format!("ambush: {strike:?}"));
        let down = |world: &mut World, i: usize, down_us: u64, power: bool| {
            if world.nodes[i].alive {
                world.die(i, power);
                let at = Time(world.now.0 + down_us * 1000);
                // (As in `Run::down`.)
                let connect_first = world.rng.one_in(3) && !world.exacting;
                let job = Job::Start {
                    node: i,
                    connect_first,
                };
                world.later(at, job);
            }
        };
        let of = |other: bool| if other { 1 - node } else { node };
        match strike {
            Strike::Kill { other, down_us } => down(self, of(other), down_us, false),
            Strike::PowerCut { other, down_us } => down(self, of(other), down_us, true),
            Strike::Blackout { down_us } => {
                down(self, node, down_us, true);
                down(self, 1 - node, down_us / 2, true);
            }
            // (Of a disk that has failed the repair is not over while its users read at the peer: the link would be another thing.)
            Strike::Cut(_) if self.exacting && self.users_read_at_the_peer() => {}
            Strike::Cut(cut) => cut_link(self, cut),
            Strike::DiskFails { other, meta } => {
                let disk = &mut self.nodes[of(other)].disks[0];
                if meta {
                    disk.fail_meta += 1;
                } else {
                    disk.fail_writes += 1;
                }
            }
        }
    }

    /// Whether a Primary has no good disk of its own.
    fn users_read_at_the_peer(&self) -> bool {
        let away = |node: &Node, volume: usize| {
            let state = node.state_of(volume);
            state.role == Role::Primary && state.disk != DiskState::UpToDate
        };
        let volumes = 0..self.models.len();
        let mut alive = self.nodes.iter().filter(|node| node.alive);
        alive.any(|node| volumes.clone().any(|volume| away(node, volume)))
    }
}

fn empty(seed: u64, setup: &Setup, transcript: bool) -> World {
    let sizes = vec![setup.sectors; setup.volumes];
    let mut world = World::with_volumes(seed, &sizes, &sizes);
    world.now = START;
    world.transcript = transcript.then(Vec::new);
    world.disk_options = setup.disk.clone();
    world.resource_options = setup.resource;
    world.arbiter.is_good = setup.good_handlers;
    world.arbiter.is_on = setup.resource.handlers != Handlers::NONE;
    // The engine's check walks the whole activity log, which costs more than everything else.
    world.check_every = 499;
    world.timing.disk_us = setup.disk_us;
    world.timing.stray = setup.stray;
    world.flavour = setup.flavour;
    world
}

/// Two fresh nodes are brought up and one is made Primary, on a good day.
fn set_up(world: &mut World, setup: &Setup) {
    use rdb_engine::config::Protocol;
    world.connect_fresh(&setup.net);
    if setup.skip_sync {
        world.skip_first_sync();
    }
    for v in 0..setup.volumes {
        let primary = rdb_engine::Command::Primary {
            volume: rdb_engine::VolumeNr(v as u16),
            force: !setup.skip_sync,
        };
        world.admin(0, primary).expect("the first promotion");
    }
    // Under A and B a lost Primary takes acknowledged writes along.
    for model in &mut world.models {
        model.flushed_only = setup.net.protocol != Protocol::C;
        model.keep_unflushed = setup.weather.power;
    }
    if setup.wait_sync {
        let end = world.now.plus_ms(60_000);
        while world.now < end && !(0..setup.volumes).all(|v| world.synced(v)) {
            world.run_ms(500);
        }
    }
    world.wires = Link {
        busy_until: world.wires.busy_until,
        ..setup.link.clone()
    };
    world.judging = true;
}

fn name_of(action: Action) -> &'static str {
    match action {
        Action::Work { .. } => "step: work",
        Action::Cut(Cut::Clean) => "fault: clean cut",
        Action::Cut(Cut::Ragged) => "fault: ragged cut",
        Action::Cut(Cut::Silent) => "fault: silent cut",
        Action::Cut(Cut::HalfOpen(_)) => "fault: half-open link",
        Action::Cut(Cut::Socket(..)) => "fault: one socket lost",
        Action::Heal => "step: heal",
        Action::Wires { .. } => "fault: other latency and bandwidth",
        Action::Kill { .. } => "fault: kill",
        Action::PowerCut { .. } => "fault: power cut",
        Action::Blackout { .. } => "fault: blackout",
        Action::Disk { fault, .. } => match fault {
            DiskFault::Reads(_) => "fault: reads will fail",
            DiskFault::Writes(_) => "fault: writes will fail",
            DiskFault::Meta(_) => "fault: metadata will fail",
            DiskFault::BadSectors => "fault: bad sectors",
            DiskFault::Slow(_) => "fault: slow disk",
            DiskFault::Stuck(_) => "fault: stuck disk",
            DiskFault::KeepsReads { .. } => "fault: disk that keeps reads to itself",
            DiskFault::Dead => "fault: dead disk",
            DiskFault::Full { .. } => "fault: full disk",
            DiskFault::Misdirected { meta: false } => "fault: data will be misdirected",
            DiskFault::Misdirected { meta: true } => "fault: metadata will be misdirected",
        },
        Action::RepairDisks { .. } => "step: repair disks",
        Action::Pause { .. } => "fault: machine stands still",
        Action::Order { .. } => "step: order",
        Action::NeedPrimary { .. } => "step: need a Primary",
        Action::Wait => "step: wait",
        Action::Settle => "step: settle",
        Action::Settings { .. } => "step: settings",
        Action::Verify { .. } => "step: verify",
        Action::Attack { .. } => "step: attack",
        Action::Ambush { .. } => "step: ambush",
    }
}

thread_local! {
    static LAST_PANIC: RefCell<Option<Failure>> = const { RefCell::new(None) };
    static QUIET: RefCell<bool> = const { RefCell::new(false) };
}

/// Runs something; what it panics with is its failure.
fn caught(what: impl FnOnce()) -> Option<Failure> {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.with_borrow(|quiet| *quiet) {
                return before(info);
            }
            let place = info.location().map_or(String::new(), ToString::to_string);
            let text = info.payload_as_str().unwrap_or("a panic").to_string();
            LAST_PANIC.set(Some(Failure { text, place }));
        }));
    });
    QUIET.set(true);
    let result = std::panic::catch_unwind(AssertUnwindSafe(what));
    QUIET.set(false);
    let failure = LAST_PANIC.take();
    result.err().map(|_| {
        failure.unwrap_or(Failure {
            text: "a panic without words".into(),
            place: String::new(),
        })
    })
}
