//! How a walk ends: nothing breaks any more, and everything that is under way comes to its end.

use crate::events::{Event, apply, candidates};
use crate::fencing::Deed;
use crate::oracle::Finding;
use crate::rules::Setting;
use crate::world::{Counts, KINDS, Kind, World};

/// Attempts to connect: what is refused once may be refused again.
const CONNECTS_MAX: u8 = 4;
const EVENTS_MAX: usize = 400;

/// Connections that are made at the end do not count.
pub(crate) fn with_room(setting: &Setting) -> Setting {
    let mut wide = setting.clone();
    wide.limits[Kind::Connect as usize] = u8::MAX;
    wide
}

/// Appends the events of the end to `way`. The first violation on the way ends it.
pub(crate) fn settle(mut world: World, setting: &Setting, way: &mut Vec<Event>) -> Option<Finding> {
    let mut events = Vec::new();
    let mut connects = 0;
    for _ in 0..EVENTS_MAX {
        candidates(&world, setting, &mut events);
        events.retain(|event| turn(*event).is_some());
        events.sort_by_key(|event| turn(*event));
        let bytes = without_counts(&world);
        let next = events.iter().find_map(|event| {
            if matches!(event, Event::Connect(_)) && connects == CONNECTS_MAX {
                return None;
            }
            let (after, found) = apply(&world, *event, setting)?;
            (without_counts(&after) != bytes).then_some((*event, after, found))
        });
        let Some((event, after, found)) = next else {
            break;
        };
        connects += u8::from(matches!(event, Event::Connect(_)));
        way.push(event);
        world = after;
        if let Some(violation) = found.iter().find(|finding| finding.what.is_violation()) {
            return Some(*violation);
        }
    }
    None
}

/// The order in which things go on; nothing for what does not come by itself.
fn turn(event: Event) -> Option<u8> {
    Some(match event {
        Event::Restart(_) => 0,
        Event::Flush(_) => 1,
        Event::Deliver(_) => 2,
        Event::Notice(_) => 3,
        Event::Copy(..) => 4,
        Event::Finish(_) => 5,
        Event::Attach(_) => 6,
        Event::LossTimer(_) => 7,
        Event::Fence(_, Deed::Outdate) => 7,
        Event::Fence(_, Deed::See) => 8,
        Event::Answer(_) => 9,
        Event::Connect(2) => 10,
        _ => return None,
    })
}

fn without_counts(world: &World) -> Vec<u8> {
    let none: Counts = [0; KINDS];
    let world = World {
        counts: none,
        ..*world
    };
    let mut bytes = Vec::new();
    world.encode(&mut bytes);
    bytes
}
