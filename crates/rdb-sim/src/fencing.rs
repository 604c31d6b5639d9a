//! Plans with fencing, handlers, and I/O that freezes. Most are the plan of another seed, between whose steps the peer is lost and one
//! node or the other is to go on, administrators suspend and resume I/O, outdate disks and part. Whoever is to be promoted is so
//! without looking, where `fence-peer` sees to it that only one of both goes on. Every fourth is directed (`directed.rs`): handlers are
//! quick and good, one thing fails at a time, and what freezes has to go on by itself. Their seeds begin at [`FENCING`], so that those
//! of the other plans keep their numbers.

use rdb_engine::Handler;
use rdb_engine::config::{OnNoData, Protocol, ResourceOptions, SplitBrainPolicy};
use rdb_engine::state::Fencing;

use crate::plan::{Action, Cut, DiskFault, Order, Plan, Setup, Step};
use crate::rng::{Rng, mix};

/// The first seed of this kind.
pub const FENCING: u64 = 1 << 45;

impl Plan {
    /// The plan of a seed from [`FENCING`] on.
    pub(crate) fn fencing_of_seed(seed: u64) -> Plan {
        let number = seed - FENCING;
        let mut rng = Rng(mix(seed, 15));
        if number % 4 == 3 {
            let mut plan = Plan::directed_with_fencing(seed);
            plan.setup.draw_fencing(&mut rng);
            plan.setup.good_handlers = true;
            return plan;
        }
        let mut plan = Plan::ordinary_of_seed(number);
        plan.seed = seed;
        plan.setup.draw_fencing(&mut rng);
        for step in &mut plan.steps {
            if is_forced(step.action) {
                step.action = Action::Wait;
            }
        }
        for n in 0..rng.between(2, 8) {
            let at = rng.below(plan.steps.len() as u64 + 1) as usize;
            let actions = incident(&plan.setup, &mut rng);
            for (m, action) in actions.into_iter().enumerate() {
                let step = Step {
                    nr: 6000 + 10 * n as usize + m,
                    pause_us: rng.below(8_000_000) >> rng.below(14),
                    sub: rng.next(),
                    action,
                };
                plan.steps.insert(at + m, step);
            }
        }
        plan
    }
}

impl Setup {
    fn draw_fencing(&mut self, rng: &mut Rng) {
        self.disk.fencing = rng.pick(&[
            Fencing::ResourceAndStonith,
            Fencing::ResourceAndStonith,
            Fencing::ResourceAndStonith,
            Fencing::ResourceOnly,
            Fencing::ResourceOnly,
            Fencing::DontCare,
        ]);
        if self.disk.fencing == Fencing::ResourceAndStonith && self.net.protocol == Protocol::A {
            self.net.protocol = Protocol::C;
        }
        // Nothing but the administrator gives up data.
        self.weather.reckless = false;
        // (Steps are added that cut the power, and `fence-peer` does.)
        self.weather.power = true;
        self.net.after_sb_0pri = SplitBrainPolicy::Disconnect;
        self.net.after_sb_1pri = SplitBrainPolicy::Disconnect;
        let on_no_data = rng.pick(&[OnNoData::SuspendIo, OnNoData::IoError]);
        let mut handlers: Vec<Handler> = Vec::new();
        // (Snapshots have plans of their own.)
        for handler in Handler::ALL.into_iter().filter(|h| *h != Handler::Snapshot) {
            // (What only tells of something is mostly there; what decides costs time.)
            let decides = matches!(
                handler,
                Handler::BeforeResyncSource | Handler::BeforeResyncTarget
            );
            let is_there = match handler {
                Handler::FencePeer => !rng.one_in(24),
                _ if decides => rng.one_in(4),
                _ => rng.one_in(2),
            };
            if is_there {
                handlers.push(handler);
            }
        }
        self.resource = ResourceOptions {
            on_no_data,
            handlers: handlers.into_iter().collect(),
        };
    }
}

/// Steps that give up data of which fencing knows nothing.
fn is_forced(action: Action) -> bool {
    let order = |order| {
        matches!(
            order,
            Order::ForcePromote | Order::DiscardMyData | Order::NewCurrentUuid
        )
    };
    match action {
        Action::Order { order: o, .. } => order(o),
        Action::Disk { fault, .. } => matches!(fault, DiskFault::Misdirected { .. }),
        _ => false,
    }
}

/// A few steps that belong together.
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
    let cut = Action::Cut(match rng.below(5) {
        0 => Cut::Clean,
        1 => Cut::Silent,
        2 => Cut::HalfOpen(node),
        3 => Cut::Socket(node, rng.below(2) as usize),
        _ => Cut::Ragged,
    });
    let down_us = rng.below(30_000_000) >> rng.below(14);
    let dies = if rng.one_in(2) {
        Action::Kill { node, down_us }
    } else {
        Action::PowerCut { node, down_us }
    };
    let promote = |node: usize| order(node, Order::Promote);
    match rng.below(13) {
        0 => vec![work, cut, work, promote(node), work],
        1 => vec![work, cut, promote(0), promote(1), work],
        2 => vec![work, dies, promote(1 - node), work],
        3 => vec![cut, work, dies, promote(1 - node), work, Action::Heal],
        4 => vec![work, cut, work, Action::Heal, work],
        5 | 6 => {
            let mut actions = vec![work, order(node, Order::SuspendIo), work];
            if rng.one_in(3) {
                actions.push(rng.pick(&[cut, dies, Action::Heal]));
            }
            actions.push(order(node, Order::ResumeIo));
            actions
        }
        7 => vec![order(node, Order::Outdate), promote(node)],
        8 => {
            let part = order(node, Order::Disconnect { force: false });
            let other = promote(rng.below(2) as usize);
            vec![work, part, work, other, order(node, Order::Connect)]
        }
        9 => vec![
            order(node, Order::Demote),
            promote(1 - node),
            work,
            rng.pick(&[cut, dies]),
        ],
        10 => vec![
            work,
            Action::Blackout { down_us },
            promote(node),
            promote(1 - node),
            work,
        ],
        11 => {
            let detach = Order::Detach { force: false };
            vec![
                order(node, detach),
                work,
                cut,
                work,
                Action::Heal,
                order(node, Order::Attach),
            ]
        }
        _ => vec![work, cut, work, order(node, Order::ResumeIo)],
    }
}
