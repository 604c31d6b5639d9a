//! Breadth first through every state that the bounds allow. The first way to each finding is one of the shortest.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fmt::Write;
use std::hash::{BuildHasherDefault, Hasher};

use crate::events::{Event, apply, candidates};
use crate::oracle::Finding;
use crate::rules::Setting;
use crate::world::World;

/// The keys are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole words are stored");
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[derive(Clone)]
pub(crate) struct Search {
    pub(crate) name: &'static str,
    pub(crate) start: World,
    pub(crate) setting: Setting,
}

pub(crate) struct Report {
    pub(crate) states: usize,
    /// How often, and the events of the first.
    pub(crate) findings: BTreeMap<Finding, (u64, Vec<Event>)>,
}

impl Search {
    pub(crate) fn run(&self) -> Report {
        let mut seen: HashSet<u64, BuildHasherDefault<Identity>> = HashSet::default();
        let mut ways: Vec<(u32, Event)> = vec![(0, Event::Cut)];
        let mut findings: BTreeMap<Finding, (u64, Vec<Event>)> = BTreeMap::new();
        let mut level: Vec<(u32, World)> = vec![(0, self.start.canonical())];
        let mut bytes = Vec::new();
        let mut events = Vec::new();
        seen.insert(hash(&self.start.canonical(), &mut bytes));
        while !level.is_empty() {
            let mut next = Vec::new();
            for (index, world) in &level {
                candidates(world, &self.setting, &mut events);
                for &event in &events {
                    let Some((after, found)) = apply(world, event, &self.setting) else {
                        continue;
                    };
                    let mut violated = false;
                    for finding in found {
                        violated |= finding.what.is_violation();
                        findings
                            .entry(finding)
                            .or_insert_with(|| (0, way(&ways, *index, event)))
                            .0 += 1;
                    }
                    // What follows from a violation would only repeat it.
                    if !violated && seen.insert(hash(&after, &mut bytes)) {
                        let number = u32::try_from(ways.len()).expect("states fit in memory");
                        ways.push((*index, event));
                        next.push((number, after));
                    }
                }
            }
            level = next;
        }
        Report {
            states: seen.len(),
            findings,
        }
    }
}

impl Report {
    pub(crate) fn summary(&self, search: &Search) -> String {
        let mut text = format!("{}: {} states\n", search.name, self.states);
        for (finding, (count, events)) in &self.findings {
            let Finding { what, rule, forced } = finding;
            let force = if *forced { ", forced" } else { "" };
            writeln!(
                text,
                "  {what:?} rule {rule}{force}: {count}, first after {} events",
                events.len()
            )
            .expect("a string takes everything");
            if what.is_violation() {
                text += &tell(&search.start, events, &search.setting);
            }
        }
        text
    }
}

/// The events with the states between them.
pub(crate) fn tell(start: &World, events: &[Event], setting: &Setting) -> String {
    let mut text = String::new();
    let mut world = start.canonical();
    for event in events {
        let (after, _) = apply(&world, *event, setting).expect("the way was gone before");
        world = after;
        write!(text, "    {event:?}\n{world}").expect("a string takes everything");
    }
    text
}

/// FNV over words, with a finish that mixes: two states of a few million meet in it once in a million searches.
fn hash(world: &World, bytes: &mut Vec<u8>) -> u64 {
    world.encode(bytes);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut tail = [0; 8];
    tail[..rest.len()].copy_from_slice(rest);
    let mut hash = bytes.len() as u64;
    for word in words.iter().chain([&tail]) {
        let mixed = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash = mixed ^ mixed >> 32;
    }
    hash
}

fn way(ways: &[(u32, Event)], last: u32, event: Event) -> Vec<Event> {
    let mut events = vec![event];
    let mut at = last;
    while at != 0 {
        let (parent, event) = ways[at as usize];
        events.push(event);
        at = parent;
    }
    events.reverse();
    events
}
