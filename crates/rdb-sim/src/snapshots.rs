//! Plans with snapshots of both nodes, and their judge: what both disks would hold if the power went at the moments when the handlers
//! begin and when they end is the same, byte for byte, where a snapshot is said to be taken.
//!
//! The plans are those of `fencing.rs` that are not directed, between whose steps administrators take snapshots amid work, and often something breaks
//! then. Their seeds begin at [`SNAPSHOTS`], so that those of the other plans keep their numbers.

use rdb_engine::{Command, Handler, HandlerId, SnapshotWish};
use replica_proto::SnapshotName;

use crate::arbiter::{Course, Taken};
use crate::fencing::FENCING;
use crate::plan::{Action, Cut, Order, Plan, Setup, Step};
use crate::rng::{Rng, mix};
use crate::world::World;

/// The first seed of this kind.
pub const SNAPSHOTS: u64 = 1 << 46;

/// How a handler ends that was sent SIGTERM.
const TERMINATED: i32 = 143;

impl Plan {
    /// The plan of a seed from [`SNAPSHOTS`] on.
    pub(crate) fn snapshots_of_seed(seed: u64) -> Plan {
        // (Not the directed ones: what is added to those is no single fault.)
        let (fours, kind) = ((seed - SNAPSHOTS) / 3, (seed - SNAPSHOTS) % 3);
        let mut plan = Plan::fencing_of_seed(FENCING + 4 * fours + kind);
        plan.seed = seed;
        let mut rng = Rng(mix(seed, 16));
        if !rng.one_in(8) {
            let handlers = &mut plan.setup.resource.handlers;
            *handlers = handlers.and(Handler::Snapshot);
        }
        for n in 0..rng.between(2, 6) {
            let at = rng.below(plan.steps.len() as u64 + 1) as usize;
            let actions = incident(&plan.setup, &mut rng);
            for (m, action) in actions.into_iter().enumerate() {
                let step = Step {
                    nr: 7000 + 10 * n as usize + m,
                    pause_us: rng.below(4_000_000) >> rng.below(14),
                    sub: rng.next(),
                    action,
                };
                plan.steps.insert(at + m, step);
            }
        }
        plan
    }
}

/// A snapshot amid work, and what may happen to it.
fn incident(setup: &Setup, rng: &mut Rng) -> Vec<Action> {
    let resource = rng.below(setup.resources as u64) as usize;
    let volume = rng.below(setup.volumes as u64) as usize;
    let node = rng.below(2) as usize;
    let order = |node: usize, order: Order| Action::Order {
        node,
        resource,
        volume,
        order,
    };
    let work = Action::Work {
        resource,
        volume,
        requests: rng.between(3, 40) as u32,
        over_us: rng.pick(&[500, 20_000, 300_000, 3_000_000]),
    };
    let snapshot = Order::Snapshot {
        limit_ms: rng.pick(&[50, 2_000, 30_000]),
        with_peer: !rng.one_in(8),
    };
    // (Whichever is Primary takes it; the other one is refused.)
    let both = [order(node, snapshot), order(1 - node, snapshot)];
    let mut actions = vec![work, both[0], both[1], work];
    let other = rng.below(2) as usize;
    let mut breaks = vec![
        order(other, Order::Interrupt),
        order(other, Order::ResumeIo),
        order(other, Order::Detach { force: false }),
        order(other, Order::Demote),
        order(other, Order::Promote),
        order(other, Order::Invalidate),
    ];
    if setup.weather.power {
        let down_us = rng.below(10_000_000) >> rng.below(10);
        breaks.extend([
            Action::Kill { node, down_us },
            Action::Cut(Cut::Clean),
            Action::Cut(Cut::HalfOpen(other)),
        ]);
    }
    if rng.one_in(2) {
        actions.push(rng.pick(&breaks));
    }
    actions.push(Action::Heal);
    actions
}

impl World {
    pub(crate) fn snapshot_command(&mut self, i: usize, limit_ms: u32, with_peer: bool) -> Command {
        let name = format!("s{}-{i}", self.next_id);
        let name = SnapshotName::new(&name).expect("it is a name");
        let has_handler = self.resource_options.handlers.has(Handler::Snapshot);
        let wish = SnapshotWish {
            name,
            command: (!has_handler).then(|| "a command".to_owned()),
            limit_ms,
            with_peer,
        };
        Command::Snapshot { wish }
    }

    fn durable_of(&self, i: usize) -> Vec<u64> {
        let volumes = 0..self.models.len();
        volumes
            .map(|v| {
                let disk = &self.nodes[i].disks[v];
                // (As large as the smaller disk: what lies beyond is nobody's.)
                let other = &self.nodes[1 - i].disks[v];
                disk.durable_print(disk.data_sectors.min(other.data_sectors))
            })
            .collect()
    }

    /// A handler begins that takes a snapshot.
    pub(crate) fn note_snapshot(&mut self, i: usize, id: HandlerId, name: SnapshotName) {
        let begun = self.durable_of(i);
        self.nodes[i].taken = Some(Taken {
            name,
            id,
            begun,
            ended: None,
        });
    }

    /// It has ended.
    pub(crate) fn note_snapshot_end(&mut self, i: usize, id: HandlerId, exit: i32) {
        let ended = (exit == 0).then(|| self.durable_of(i));
        if let Some(taken) = self.nodes[i].taken.as_mut().filter(|taken| taken.id == id) {
            taken.ended = ended;
        }
    }

    /// The engine has no use for it any more. (A test that ends its handlers itself ends this one, too.)
    pub(crate) fn handler_is_ended(&mut self, i: usize, id: HandlerId) {
        self.coverage.hit("handler: ended by force");
        let at = self.now.plus_ms(3);
        let mut running = self.nodes[i].asked.iter_mut();
        let found = running.find(|asked| asked.id == id);
        if let Some(asked) = found.filter(|asked| asked.course != Course::ByHand) {
            let exit = TERMINATED;
            asked.course = Course::Ends { at, exit };
        }
    }

    /// A snapshot is said to be taken.
    ///
    /// # Panics
    /// If it is not the same on both nodes.
    pub(crate) fn judge_snapshot(&mut self, i: usize, wish: &SnapshotWish) {
        let nodes: Vec<usize> = match wish.with_peer {
            true => vec![i, 1 - i],
            false => vec![i],
        };
        let mut prints: Vec<&Vec<u64>> = Vec::new();
        for n in nodes {
            let node = &self.nodes[n];
            let taken = node.taken.as_ref().filter(|t| t.name == wish.name);
            let ended = taken.and_then(|taken| taken.ended.as_ref());
            let (Some(taken), Some(ended)) = (taken, ended) else {
                panic!(
                    "snapshot {} is taken, and no handler of node {} has ended well for it",
                    wish.name, node.name
                );
            };
            prints.extend([&taken.begun, ended]);
        }
        let is_same = prints.windows(2).all(|pair| pair[0] == pair[1]);
        // What lies does so to both, and to the judge.
        let lies = (0..self.models.len()).any(|v| self.is_rotten(v) || self.spoiled[v]);
        assert!(
            is_same || lies,
            "snapshot {} of node {} is taken, and what it holds is not that of one moment on both nodes: {prints:?}, {}",
            wish.name,
            self.nodes[i].name,
            self.states()
        );
        self.coverage.hit(match wish.with_peer {
            true => "judge: a snapshot of both is equal",
            false => "judge: a snapshot of one node",
        });
    }
}
