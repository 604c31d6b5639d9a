//! Plans in which both copies are verified. Every other one is the plan of another seed with verifies in between, whatever they
//! meet. In the others blocks rot on either disk, behind the engines' backs, and a whole verify has to find every one that still
//! differs when it has come to the end: under users' writes, over links that break, from the place that it had reached. Their
//! seeds begin at [`VERIFY`], so that those of the other plans keep their numbers.

use std::collections::BTreeSet;

use rdb_engine::state::ConnState;
use rdb_engine::{Command, VolumeNr};

use crate::plan::{Action, Order, Plan, Setup, Step, Weather};
use crate::rng::{Rng, mix};
use crate::world::World;

/// The first seed of this kind.
pub const VERIFY: u64 = 1 << 44;

/// What is verified in between, in sectors, on a disk that takes long.
const PART_SECTORS: u64 = 16_000;

impl Plan {
    /// The plan of a seed from [`VERIFY`] on.
    pub(crate) fn verify_of_seed(seed: u64) -> Plan {
        let number = seed - VERIFY;
        let mut rng = Rng(mix(seed, 14));
        let mut plan = match number % 2 {
            0 => Plan::ordinary_of_seed(number / 2).with_verifies(&mut rng),
            _ => Plan::rotting(seed, &mut rng),
        };
        plan.seed = seed;
        plan.setup.net.verify_alg = rng.pick(&["crc32c", "sha1", "md5"]).into();
        plan
    }

    fn with_verifies(mut self, rng: &mut Rng) -> Plan {
        for n in 0..=rng.below(6) {
            let at = rng.below(self.steps.len() as u64 + 1) as usize;
            let step = Step {
                nr: 5000 + n as usize,
                pause_us: rng.below(400_000) >> rng.below(10),
                sub: rng.next(),
                action: Action::Order {
                    node: rng.below(2) as usize,
                    resource: rng.below(self.setup.resources as u64) as usize,
                    volume: rng.below(self.setup.volumes as u64) as usize,
                    order: part_of(self.setup.sectors, rng),
                },
            };
            self.steps.insert(at, step);
        }
        self
    }

    fn rotting(seed: u64, rng: &mut Rng) -> Plan {
        let mut setup = Setup::draw(rng);
        setup.resources = 1;
        setup.volumes = 1;
        setup.sectors = rng.pick(&[10_240, 24_576]);
        setup.wait_sync = true;
        setup.weather = Weather::calm();
        setup.disk.resync_rate_kib = rng.pick(&[100_000, 4_000]);
        let mut actions = Vec::new();
        for _ in 0..1 + rng.below(3) {
            let node = rng.below(2) as usize;
            let (resource, volume) = (0, 0);
            if rng.one_in(4) {
                let order = Order::Demote;
                actions.push(Action::Order {
                    node: 0,
                    resource,
                    volume,
                    order,
                });
            }
            actions.push(Action::Work {
                resource,
                volume,
                requests: rng.between(3, 60) as u32,
                over_us: 300_000,
            });
            actions.push(Action::Verify {
                node,
                rotten: 1 + rng.below(6) as u32,
                requests: rng.pick(&[0, 10, 60]),
                cuts: rng.pick(&[0, 0, 1, 3]),
            });
        }
        let step = |(nr, action)| Step {
            nr,
            pause_us: 1000,
            sub: mix(seed, 1000 + nr as u64),
            action,
        };
        Plan {
            seed,
            plain: true,
            hostile: false,
            setup,
            steps: actions.into_iter().enumerate().map(step).collect(),
            planted: None,
            crash: None,
        }
    }
}

/// A verify: of everything, or of a part, or from where the last one has ended.
fn part_of(sectors: u64, rng: &mut Rng) -> Order {
    let start = (!rng.one_in(3)).then(|| rng.below(sectors));
    let far = start.unwrap_or(0) + rng.below(PART_SECTORS);
    let stop = (sectors > 4 * PART_SECTORS || rng.one_in(3)).then_some(far);
    Order::Verify { start, stop }
}

impl World {
    /// Blocks rot on either disk: what they hold has nothing to do with what was written. Says which.
    pub(crate) fn rot(&mut self, volume: usize, blocks: u32, rng: &mut Rng) -> BTreeSet<u64> {
        self.spoiled[volume] = true;
        let disks = |w: &World| [0, 1].map(|i| w.nodes[i].disks[volume].data_sectors);
        let pages = disks(self).into_iter().min().unwrap_or(0) / 8;
        let mut rotten = BTreeSet::new();
        for _ in 0..blocks {
            let page = match rng.one_in(2) {
                true => rng.below(pages.min(32)),
                false => rng.below(pages),
            };
            let i = rng.below(2) as usize;
            let word = rng.next().to_le_bytes().repeat(64 * 8);
            self.tell(i, || format!("block {page} rots"));
            self.nodes[i].disks[volume].write(page * 8, &word, true);
            self.models[volume].spoil(page * 8, 8);
            rotten.insert(page);
        }
        rotten
    }

    pub(crate) fn is_verifying(&self, volume: usize) -> bool {
        let verifies = |conn| matches!(conn, ConnState::VerifyS | ConnState::VerifyT);
        let busy = |n: &crate::node::Node| {
            !n.admin_open.is_empty()
                || verifies(n.state_of(volume).conn)
                || n.state_of(volume).conn < ConnState::Connected
        };
        self.nodes.iter().any(busy)
    }

    pub(crate) fn start_verify(&mut self, i: usize, volume: usize, start: Option<u64>) {
        let volume = VolumeNr(volume as u16);
        let stop = None;
        let verify = Command::Verify {
            volume,
            start,
            stop,
        };
        self.start_admin(i, verify);
    }

    /// Blocks that a node has said to be out of sync since its log had so many lines.
    pub(crate) fn told_out_of_sync(&self, i: usize, since: usize) -> BTreeSet<u64> {
        let mut blocks = BTreeSet::new();
        for line in &self.nodes[i].log[since..] {
            let Some((_, rest)) = line.split_once("Out of sync: start=") else {
                continue;
            };
            let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
            let mut number = || numbers.find_map(|word| word.parse::<u64>().ok());
            if let (Some(start), Some(size)) = (number(), number()) {
                blocks.extend(start / 8..(start + size).div_ceil(8));
            }
        }
        blocks
    }

    /// A verify has come to the end, on whatever way: what rotted and still differs was found and is marked, and nothing else.
    ///
    /// # Panics
    /// If not.
    pub(crate) fn judge_verified(
        &mut self,
        driver: usize,
        since: [usize; 2],
        rotten: &BTreeSet<u64>,
        cut: bool,
    ) {
        let [a, b] = [0, 1].map(|i| &self.nodes[i].disks[0]);
        let differs = |page: &&u64| !a.same_page(b, **page);
        let different: BTreeSet<u64> = rotten.iter().filter(differs).copied().collect();
        for (i, since) in since.into_iter().enumerate() {
            let found = self.told_out_of_sync(i, since);
            assert!(
                found.is_subset(rotten),
                "a verify has found what did not differ: {found:?}, rotten {rotten:?}"
            );
            // (The results of the last blocks may not have come to the other side before the link broke.)
            let tells = i == driver || !cut;
            assert!(
                !tells || found.is_superset(&different),
                "node {}: a verify has not found what differs: {found:?}, different {different:?}",
                self.nodes[i].name
            );
            let marks = self.nodes[i].out_of_sync_of(0);
            assert!(
                !tells || marks >= different.len() as u64,
                "node {}: a verify has found what differs, and not marked it: {marks} marks, different {different:?}",
                self.nodes[i].name
            );
        }
        let hit = match different.is_empty() {
            true => "judge: what rotted was written over",
            false => "judge: a verify has found what rotted",
        };
        self.coverage.hit(hit);
        self.spoiled[0] = false;
    }
}
