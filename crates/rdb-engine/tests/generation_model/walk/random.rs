//! Which event comes next, by chance.

use rdb_engine::state::ConnState;

use crate::events::Event;
use crate::fencing::Deed;
use crate::world::World;

/// SplitMix64.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Takes one event out of `events`, which is not empty.
    pub(crate) fn take(&mut self, world: &World, events: &mut Vec<Event>) -> Event {
        let busy = is_busy(world);
        let total: u64 = events.iter().map(|event| weight(*event, busy)).sum();
        let mut left = self.next() % total;
        let at = events.iter().position(|event| {
            let weight = weight(*event, busy);
            let here = left < weight;
            left = left.saturating_sub(weight);
            here
        });
        events.swap_remove(at.expect("less than the sum of the weights"))
    }
}

/// Something is on its way, or a connection is not settled: the time for an interruption.
fn is_busy(world: &World) -> bool {
    let settled = |conn| {
        matches!(
            conn,
            ConnState::Connected | ConnState::WFConnection | ConnState::StandAlone
        )
    };
    world.queues.iter().any(|queue| !queue.is_empty())
        || world.nodes.iter().any(|node| !settled(node.state.conn))
}

/// What lets things go on is much more frequent than what breaks them.
fn weight(event: Event, busy: bool) -> u64 {
    match event {
        Event::Deliver(_) | Event::Copy(..) | Event::Finish(_) | Event::Connect(_) => 40,
        Event::Restart(_) => 30,
        Event::Flush(_) => 25,
        Event::Notice(_) | Event::Attach(_) => 20,
        Event::Promote(_) if busy => 16,
        Event::Promote(_) => 8,
        Event::Demote(_) => 5,
        Event::Write(..) => 5,
        Event::Cut if busy => 8,
        Event::Cut => 4,
        Event::Crash(_) if busy => 4,
        Event::Crash(_) => 1,
        Event::Answer(_) | Event::LossTimer(_) => 20,
        Event::Fence(_, Deed::Break) => 3,
        Event::Fence(..) => 15,
        Event::Outdate(_) | Event::Resume(_) | Event::Part(_) | Event::PartUnheard(_) => 3,
        Event::Detach(_)
        | Event::Fail(_)
        | Event::FailWrite(..)
        | Event::Invalidate(_)
        | Event::InvalidateRemote(_)
        | Event::Force(_) => 2,
    }
}
