//! Crash points: a short run is repeated up to every single write and flush of a node's disk, and ends there; the disk
//! keeps what the cache permits, in every way if these are few. Then the node is attached anew, and the pair must come
//! together with everything that was promised: what an attach finds marked is never too little.

use rdb_engine::config::{OnIoError, Protocol};

use crate::crash::{CrashAt, Then, variants};
use crate::net::Link;
use crate::plan::{Action, Cut, Order, Plan, Setup, Step};
use crate::rng::{Rng, mix};
use crate::run::Failure;

/// What became of the crash points of a seed.
#[derive(Debug, Default)]
pub struct CrashPoints {
    /// Places to crash at.
    pub points: u64,
    /// Runs: places, times what is kept, times what happens beside.
    pub runs: u64,
    /// Where something was wrong.
    pub failures: Vec<(CrashAt, Failure)>,
}

/// Tries the crash points of a seed's plan: every `stride`-th of each node. The engines make a mistake, if one is given.
pub fn crash_points(seed: u64, stride: u64, planted: Option<rdb_engine::Bug>) -> CrashPoints {
    let mut plan = plan_of(seed);
    plan.planted = planted;
    let mut sum = CrashPoints::default();
    let whole = plan.run(false);
    if let Some(failure) = whole.failure {
        let nowhere = CrashAt {
            node: 0,
            position: 0,
            variant: 0,
            then: Then::Back,
        };
        sum.failures.push((nowhere, failure));
        return sum;
    }
    for node in 0..2 {
        for position in (1 + seed % stride..=whole.positions[node]).step_by(stride as usize) {
            sum.points += 1;
            let mut variant = 0;
            let mut count = 1;
            while variant < count {
                // Of the many mixtures each meets one of the circumstances.
                let then = Then::ALL.into_iter();
                let chosen = variant % 3;
                let then = then.enumerate();
                let then = then.filter(|(n, _)| variant < 2 || *n as u64 == chosen);
                for (_, then) in then {
                    let at = CrashAt {
                        node,
                        position,
                        variant,
                        then,
                    };
                    plan.crash = Some(at);
                    let outcome = plan.run(false);
                    sum.runs += 1;
                    count = variants(outcome.unflushed);
                    if let Some(failure) = outcome.failure {
                        sum.failures.push((at, failure));
                    }
                }
                variant += 1;
            }
        }
    }
    sum
}

/// A short run that writes metadata of every kind: work, a resync, a change of sides, an invalidated disk.
pub fn plan_of(seed: u64) -> Plan {
    let mut rng = Rng(mix(seed, 0xcb));
    let mut setup = Setup::draw(&mut rng);
    (setup.resources, setup.volumes, setup.sectors) = (1, 1, 10_240);
    (setup.skip_sync, setup.wait_sync) = (true, true);
    setup.net.protocol = Protocol::C;
    setup.net.timeout_ds = 10;
    setup.net.connect_int_s = 1;
    setup.disk.on_io_error = OnIoError::Detach;
    setup.disk.resync_rate_kib = 100_000;
    setup.link = Link::default();
    (setup.disk_us, setup.stray) = (10, 0);
    setup.weather = crate::plan::Weather::power_only();
    let mut actions = vec![(20, work(5, 400))];
    for _ in 0..3 {
        actions.push((2_000, work(3, 400)));
        let node = rng.below(2) as usize;
        let order = |node, order| Action::Order {
            node,
            resource: 0,
            volume: 0,
            order,
        };
        match rng.below(4) {
            0 => actions.extend([
                (3_000, Action::Cut(Cut::Clean)),
                (1_000, work(4, 400)),
                (3_000, Action::Heal),
                (1_500_000, Action::Wait),
            ]),
            1 => actions.extend([
                (3_000, order(0, Order::Demote)),
                (20, order(1, Order::Demote)),
                (1_000, order(node, Order::Promote)),
                (2_000, Action::Wait),
            ]),
            2 => actions.extend([
                (3_000, order(node, Order::Disconnect { force: true })),
                (1_000, work(2, 400)),
                (3_000, order(node, Order::Connect)),
                (1_500_000, Action::Wait),
            ]),
            _ => actions.extend([
                (3_000, Action::Cut(Cut::Ragged)),
                (400_000, work(2, 400)),
                (3_000, Action::Heal),
                (50_000, work(2, 20_000)),
                (1_500_000, Action::Wait),
            ]),
        }
    }
    actions.push((1_000, work(3, 400)));
    let steps = actions.into_iter().enumerate();
    let steps = steps.map(|(nr, (pause_us, action))| Step {
        nr,
        pause_us,
        sub: mix(seed, 0xcb00 + nr as u64),
        action,
    });
    Plan {
        seed,
        hostile: false,
        plain: true,
        setup,
        steps: steps.collect(),
        planted: None,
        crash: None,
    }
}

fn work(requests: u32, over_us: u64) -> Action {
    Action::Work {
        resource: 0,
        volume: 0,
        requests,
        over_us,
    }
}
