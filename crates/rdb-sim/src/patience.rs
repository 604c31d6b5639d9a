//! How long users wait for a peer that is there: the judge, and plans that try it.
//!
//! A node leaves a peer that owes it an answer for `ko-count` times `timeout`, unless the peer has the only good copy. What hides
//! such a peer is that it answers everything else; so in these plans a disk keeps a few reads to itself for a while and serves the
//! rest. Every other plan is that of another seed with such times in between. The others are directed (`directed.rs`): a Primary
//! works without its disk, asks its peer for a block that does not come, and gets its disk back meanwhile. Their seeds begin at
//! [`PATIENCE`], so that those of the other plans keep their numbers.

use rdb_engine::Time;
use rdb_engine::state::{DiskState, Role, VolumeState};

use crate::disk::{Disk, Room};
use crate::node::Op;
use crate::plan::{Action, DiskFault, Plan, Step};
use crate::rng::{Rng, mix};
use crate::world::World;

/// The first seed of this kind.
pub const PATIENCE: u64 = 1 << 43;

/// How often the judge looks, in simulated milliseconds.
const LOOK_MS: u64 = 100;

impl Plan {
    /// The plan of a seed from [`PATIENCE`] on.
    pub(crate) fn patience_of_seed(seed: u64) -> Plan {
        let number = seed - PATIENCE;
        if number % 2 == 1 {
            return Plan::directed_with_kept_reads(seed);
        }
        let mut plan = Plan::ordinary_of_seed(number / 2);
        plan.seed = seed;
        let mut rng = Rng(mix(seed, 13));
        for n in 0..=rng.below(5) {
            let at = rng.below(plan.steps.len() as u64 + 1) as usize;
            let step = Step {
                nr: 4000 + n as usize,
                pause_us: rng.below(400_000) >> rng.below(10),
                sub: rng.next(),
                action: Action::Disk {
                    node: rng.below(2) as usize,
                    resource: rng.below(plan.setup.resources as u64) as usize,
                    volume: rng.below(plan.setup.volumes as u64) as usize,
                    fault: DiskFault::KeepsReads {
                        reads: 1 + rng.below(4) as u32,
                        ms: rng.pick(&[2_000, 20_000, 80_000]),
                    },
                },
            };
            plan.steps.insert(at, step);
        }
        plan
    }
}

impl World {
    /// Whether the disk keeps an operation that starts now to itself.
    pub(crate) fn is_kept(&mut self, i: usize, op: &Op) -> bool {
        let Op::Read { volume, .. } = *op else {
            return false;
        };
        let now = self.now;
        let disk = &mut self.nodes[i].disks[volume];
        if disk.keep_reads == 0 || disk.keeps_until <= now {
            return false;
        }
        disk.keep_reads -= 1;
        self.coverage
            .hit("fault: a read that a disk keeps to itself");
        true
    }

    /// Whatever the peer does, a node that does not depend on it leaves it before its users wait for long: for a block that it
    /// has, for its answer to a write or a read, for a connection that comes to nothing.
    ///
    /// # Panics
    /// If a request waits for much longer than `ko-count` times `timeout`, with nothing but the peer to wait for.
    pub(crate) fn judge_patience(&mut self) {
        let (looked_at, mut since, mut held_up) = self.patience;
        let o = &self.options;
        let limit_ms = u64::from(o.timeout_ds) * 100 * u64::from(o.ko_count);
        if !self.judging || limit_ms == 0 || self.now.ms_since(looked_at) < LOOK_MS {
            return;
        }
        for (i, since) in since.iter_mut().enumerate() {
            // What held them up when the judge looked last may have done so until now.
            let held_before = std::mem::replace(&mut held_up[i], self.is_held_up(i, looked_at));
            if held_up[i] || held_before {
                *since = self.now;
            }
            for (id, &(_, asked)) in &self.nodes[i].requests_open {
                let waited = self.now.ms_since(asked.max(*since));
                assert!(
                    waited <= 3 * limit_ms + 5_000,
                    "node {}: request {id} waits for {waited} ms, while the peer does as it likes: {}",
                    self.nodes[i].name,
                    self.states()
                );
            }
        }
        self.patience = (self.now, since, held_up);
    }

    /// What held users of a node up ends now, by hand.
    pub(crate) fn begin_patience(&mut self, i: usize) {
        self.patience.1[i] = self.now;
    }

    /// Whether users of a node may have to wait for something else than the peer's patience: its own disk or machine; or have
    /// no other good copy than the peer's. So it was at some time since the judge has looked.
    fn is_held_up(&self, i: usize, looked_at: Time) -> bool {
        let node = &self.nodes[i];
        let slow = |d: &Disk| {
            let holds = d.stuck_until.max(d.keeps_until);
            d.slow > 1 || d.room != Room::All || holds > looked_at
        };
        let needs_peer = node.view.iter().any(|s| {
            let good = DiskState::UpToDate;
            s.role == Role::Primary && s.disk != good && s.pdsk == good
        });
        let frozen = node.view.iter().any(VolumeState::is_suspended);
        let handled = self.nodes.iter().any(|n| !n.asked.is_empty());
        let stands = frozen || handled || !node.alive || node.paused_until > looked_at;
        // What a disk was asked for while it was slow it answers late, though it is fast again.
        let late = self.now.plus_ms(LOOK_MS);
        let answers_late = node.pending.iter().any(|op| op.due > late);
        stands || needs_peer || answers_late || node.disks.iter().any(slow)
    }
}
