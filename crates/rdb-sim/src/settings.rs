//! Plans in which the administrators change what both nodes have to know while they are connected, or are not: the protocol,
//! digests of data, digests of resyncs. One node is told first, the other one later; a command may be refused, as during a
//! resync, and then the pair goes by two settings until the end. Their seeds begin at [`SETTINGS`], so that those of the other
//! plans keep their numbers.

use rdb_engine::Command;
use rdb_engine::config::Protocol;

use crate::job::Job;
use crate::plan::{Action, Plan, Step};
use crate::rng::{Rng, mix};
use crate::world::World;

/// The first seed of this kind.
pub const SETTINGS: u64 = 1 << 42;

impl Plan {
    /// The plan of a seed from [`SETTINGS`] on: that of another seed, with such changes in between.
    pub(crate) fn settings_of_seed(seed: u64) -> Plan {
        let mut plan = Plan::ordinary_of_seed(seed - SETTINGS);
        plan.seed = seed;
        let mut rng = Rng(mix(seed, 12));
        for n in 0..=rng.below(5) {
            let at = rng.below(plan.steps.len() as u64 + 1) as usize;
            let step = Step {
                nr: 3000 + n as usize,
                pause_us: rng.below(400_000) >> rng.below(10),
                sub: rng.next(),
                action: Action::Settings {
                    node: rng.below(2) as usize,
                    resource: rng.below(plan.setup.resources as u64) as usize,
                    late_us: rng.below(3_000_000) >> rng.below(14),
                },
            };
            plan.steps.insert(at, step);
        }
        plan
    }
}

impl World {
    /// The configuration of both nodes changes; `first` is told of it, and the other one later.
    pub(crate) fn change_settings(&mut self, first: usize, late_us: u64, rng: &mut Rng) {
        let crc32c = replica_proto::DigestAlgorithm::from_name("crc32c").ok();
        let sha1 = replica_proto::DigestAlgorithm::from_name("sha1").ok();
        let net = &mut self.options;
        self.promises_less |= net.protocol != Protocol::C;
        net.protocol = rng.pick(&[net.protocol, Protocol::A, Protocol::B, Protocol::C]);
        net.csums_alg = rng.pick(&[net.csums_alg, None, crc32c, sha1]);
        net.integrity_alg = rng.pick(&[net.integrity_alg, None, crc32c, sha1]);
        self.promises_less |= net.protocol != Protocol::C;
        if self.promises_less {
            for model in &mut self.models {
                model.flushed_only = true;
            }
        }
        self.resettled = true;
        self.adjust(first);
        let at = rdb_engine::Time(self.now.0 + late_us * 1000);
        self.later(at, Job::Adjust { node: 1 - first });
    }

    /// A node is told of the settings as they are now.
    pub(crate) fn adjust(&mut self, i: usize) {
        if self.nodes[i].alive {
            self.coverage.hit("order: new settings");
            let options = self.options.clone();
            self.start_admin(i, Command::NetOptions { options });
        }
    }
}
