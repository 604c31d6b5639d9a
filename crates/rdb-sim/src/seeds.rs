//! Which seeds have which kind of plan.

use rdb_engine::config::Authentication;
use replica_proto::auth::HmacAlgorithm;

use crate::directed::DIRECTED;
use crate::fencing::FENCING;
use crate::full::FULL;
use crate::hostile::Attack;
use crate::patience::PATIENCE;
use crate::plan::{Action, Flavour, Plan, Step};
use crate::rng::{Rng, mix};
use crate::settings::SETTINGS;
use crate::snapshots::SNAPSHOTS;
use crate::verify::VERIFY;

impl Plan {
    /// The plan of a seed.
    pub fn of_seed(seed: u64) -> Plan {
        match seed {
            SNAPSHOTS.. => Plan::snapshots_of_seed(seed),
            FENCING.. => Plan::fencing_of_seed(seed),
            VERIFY.. => Plan::verify_of_seed(seed),
            PATIENCE.. => Plan::patience_of_seed(seed),
            SETTINGS.. => Plan::settings_of_seed(seed),
            FULL.. => Plan::full_of_seed(seed),
            DIRECTED.. => Plan::directed_of_seed(seed),
            _ => Plan::ordinary_of_seed(seed),
        }
    }

    /// The plan of a seed, with impostors: more steps, numbered from 1000 on, in between.
    pub fn hostile_of_seed(seed: u64) -> Plan {
        let mut plan = Plan::of_seed(seed);
        plan.hostile = true;
        let mut rng = Rng(mix(seed, 9));
        if rng.one_in(3) {
            let algorithm = HmacAlgorithm::from_name("sha256").ok();
            let secret = "known to both".into();
            plan.setup.net.authentication =
                algorithm.map(|algorithm| Authentication { algorithm, secret });
        }
        if rng.one_in(24) {
            // A bitmap that does not fit into the socket at once.
            plan.setup.sectors = 17_500_000;
            plan.setup.disk.resync_rate_kib = 4_000_000;
            plan.setup.disk.c_plan_ahead_ds = 0;
            plan.setup.disk.c_min_rate_kib = 0;
            plan.setup.link.latency_us = 20;
            plan.setup.link.bytes_per_ms = 0;
            plan.setup.skip_sync = false;
            plan.setup.wait_sync = false;
            plan.setup.net.use_rle = false;
            plan.setup.net.max_buffers = 65_536;
            plan.setup.flavour = Flavour::Mixed;
        }
        for n in 0..=rng.below(3) {
            let at = rng.below(plan.steps.len() as u64 + 1) as usize;
            let attack = Action::Attack {
                resource: rng.below(plan.setup.resources as u64) as usize,
                attack: Attack::draw(&mut rng),
            };
            let step = Step {
                nr: 1000 + n as usize,
                pause_us: rng.below(400_000) >> rng.below(10),
                sub: rng.next(),
                action: attack,
            };
            plan.steps.insert(at, step);
        }
        plan
    }
}
