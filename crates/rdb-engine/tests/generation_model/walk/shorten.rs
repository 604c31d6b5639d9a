//! The shortest way to a finding: events are left out as long as it is still found.

use crate::events::{Event, apply, candidates};
use crate::oracle::Finding;
use crate::rules::Setting;
use crate::world::World;

/// How many neighbours are left out together, at most.
const TOGETHER: usize = 8;

/// Whether `events` can happen, and lead to `finding` with the last of them and to no violation before.
fn leads_to(finding: Finding, start: &World, events: &[Event], setting: &Setting) -> bool {
    let mut world = *start;
    let mut possible = Vec::new();
    for (at, event) in events.iter().enumerate() {
        candidates(&world, setting, &mut possible);
        if !possible.contains(event) {
            return false;
        }
        let Some((after, found)) = apply(&world, *event, setting) else {
            return false;
        };
        if found.contains(&finding) {
            return at + 1 == events.len();
        }
        if found.iter().any(|other| other.what.is_violation()) {
            return false;
        }
        world = after;
    }
    false
}

/// Leaves out neighbours, and pairs of events that are far from each other (a promotion and its demotion), until none can be.
pub(crate) fn shorten(
    finding: Finding,
    start: &World,
    mut events: Vec<Event>,
    setting: &Setting,
) -> Vec<Event> {
    let leads = |events: &[Event]| leads_to(finding, start, events, setting);
    loop {
        let before = events.len();
        for size in (1..=TOGETHER).rev() {
            let mut at = 0;
            while at + size <= events.len() {
                let mut shorter = events.clone();
                shorter.drain(at..at + size);
                if leads(&shorter) {
                    events = shorter;
                } else {
                    at += 1;
                }
            }
        }
        let mut first = 0;
        while first < events.len() {
            let without = |second: usize| {
                let mut shorter = events.clone();
                shorter.remove(second);
                shorter.remove(first);
                leads(&shorter).then_some(shorter)
            };
            match (first + 1..events.len()).find_map(without) {
                Some(shorter) => events = shorter,
                None => first += 1,
            }
        }
        if events.len() == before {
            return events;
        }
    }
}
