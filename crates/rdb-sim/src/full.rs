//! Plans in which disks run full for a while: a thin volume, a sparse file, a quota below them (`on-no-space`).
//!
//! Every other one is the plan of another seed with a few such times in between, and one of the three answers to them. The others
//! are directed (`directed.rs`): writes wait, one disk or both are full for up to a minute, no request may fail, and the pair
//! has to come together with nobody's help. Their seeds begin at [`FULL`], so that those of the other plans keep their numbers.

use rdb_engine::config::OnNoSpace;
use rdb_engine::{DiskError, Event, IoTag};

use crate::disk::{Disk, Room};
use crate::node::{Data, Op};
use crate::plan::{Action, DiskFault, Plan, Step};
use crate::rng::{Rng, mix};
use crate::world::World;

/// The first seed of this kind.
pub const FULL: u64 = 1 << 41;

impl Plan {
    /// The plan of a seed from [`FULL`] on.
    pub(crate) fn full_of_seed(seed: u64) -> Plan {
        let number = seed - FULL;
        if number % 2 == 1 {
            return Plan::directed_with_full_disks(seed);
        }
        let mut plan = Plan::ordinary_of_seed(number / 2);
        plan.seed = seed;
        let mut rng = Rng(mix(seed, 11));
        plan.setup.disk.on_no_space = rng.pick(&[
            OnNoSpace::Suspend,
            OnNoSpace::Suspend,
            OnNoSpace::Detach,
            OnNoSpace::PassOn,
        ]);
        for n in 0..=rng.below(3) {
            let at = rng.below(plan.steps.len() as u64 + 1) as usize;
            let both = rng.one_in(3);
            let node = rng.below(2) as usize;
            let resource = rng.below(plan.setup.resources as u64) as usize;
            let volume = rng.below(plan.setup.volumes as u64) as usize;
            let fault = DiskFault::Full {
                room: rng.pick(&[Room::None, Room::Written, Room::Written]),
                ms: rng.pick(&[300, 2_000, 8_000, 20_000, 70_000]),
            };
            // Both disks have the same writes, and often the same size.
            for node in [node, 1 - node].into_iter().take(1 + usize::from(both)) {
                let step = Step {
                    nr: 2000 + 2 * n as usize + node,
                    pause_us: rng.below(400_000) >> rng.below(10),
                    sub: rng.next(),
                    action: Action::Disk {
                        node,
                        resource,
                        volume,
                        fault,
                    },
                };
                plan.steps.insert(at, step);
            }
        }
        plan
    }
}

impl Op {
    /// Whether there is no room for it on its disk.
    pub(crate) fn meets_full(&self, disk: &Disk) -> bool {
        match self {
            Op::Write { sector, data, .. } => !disk.has_room(*sector, data.len() as u64 / 512),
            Op::MetaWrite { sector, data, .. } => !disk.has_room(*sector, data.len() as u64 / 512),
            Op::Zero { .. } => disk.room == Room::None,
            _ => false,
        }
    }

    /// Whether it may meet a full disk.
    pub(crate) fn takes_room(&self) -> bool {
        matches!(
            self,
            Op::Write { .. } | Op::MetaWrite { .. } | Op::Zero { .. }
        )
    }

    /// What the engine hears of it when it is given up for want of space.
    pub(crate) fn given_up(&self, tag: IoTag) -> Event<Data> {
        let error = NO_SPACE;
        if self.is_meta() {
            let result = Err(error);
            Event::MetaDone { tag, result }
        } else {
            let result = Err(error);
            Event::DiskDone { tag, result }
        }
    }
}

/// What a full disk says.
pub(crate) const NO_SPACE: DiskError = DiskError {
    errno: DiskError::NO_SPACE,
};

impl World {
    /// It met a full disk, and may have been written in part.
    pub(crate) fn keep_for_space(&mut self, i: usize, tag: IoTag, mut op: Op) {
        self.coverage.hit("fault: no space left");
        self.tell(i, || format!("no space: {}", crate::faults::brief(&op)));
        if let Op::MetaWrite {
            volume,
            preflush: preflush @ Some(_),
            ..
        } = &mut op
            && let Some(stamp) = preflush.take()
        {
            // That is done, whatever became of the rest.
            self.nodes[i].disks[*volume].flush(stamp, true);
        }
        if let Op::Write {
            volume,
            sector,
            data,
            ..
        } = &op
        {
            // It is cut where the room ends.
            let disk = &mut self.nodes[i].disks[*volume];
            let room = (0..data.len() as u64 / 512).take_while(|n| disk.has_room(sector + n, 1));
            let room = room.count();
            disk.write(*sector, &data[..room * 512], false);
        }
        self.nodes[i].kept.insert(tag, op);
        self.event(
            i,
            Event::NoSpace {
                tag,
                error: NO_SPACE,
            },
        );
    }

    /// Something that met a full disk is tried again, or is given up.
    pub(crate) fn take_kept(&mut self, i: usize, tag: IoTag, retry: bool) {
        let op = self.nodes[i].kept.remove(&tag);
        let op = op.expect("only what is kept is tried again, or given up");
        let op = if retry {
            op
        } else {
            self.coverage.hit("a write given up for want of space");
            Op::GivenUp(Box::new(op))
        };
        self.start_io(i, tag, op);
    }
}
