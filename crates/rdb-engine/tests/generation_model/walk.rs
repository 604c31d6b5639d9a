//! Random walks, far deeper than a search goes.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rdb_engine::state::{ConnState, DiskState, Role};

use crate::events::{Event, apply, candidates};
use crate::oracle::{Finding, What};
use crate::rules::Rules;
use crate::world::{Counts, KINDS, Kind, World};

pub(crate) fn protocol_a() -> bool {
    static A: OnceLock<bool> = OnceLock::new();
    *A.get_or_init(|| std::env::var_os("WALK_A").is_some())
}

pub(crate) fn is_walk() -> bool {
    static A: OnceLock<bool> = OnceLock::new();
    *A.get_or_init(|| std::env::var_os("WALK").is_some())
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

fn weight(event: Event, busy: bool) -> u64 {
    match event {
        Event::Deliver(_) => 40,
        Event::Copy(..) | Event::Finish(_) => 40,
        Event::Flush(_) => 25,
        Event::Notice(_) => 20,
        Event::Connect(_) => 40,
        Event::Restart(_) => 30,
        Event::Write(..) => 3,
        Event::Promote(_) => 8,
        Event::Demote(_) => 5,
        Event::Cut => if busy { 8 } else { 4 },
        Event::Crash(_) => if busy { 4 } else { 2 },
        Event::Detach(_) | Event::Fail(_) => 2,
        Event::Attach(_) => 20,
        Event::Invalidate(_) | Event::InvalidateRemote(_) => 2,
        Event::Force(_) => 2,
    }
}

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn same_kind(a: &Finding, b: &Finding) -> bool {
    a.what == b.what && a.rule == b.rule && a.forced == b.forced
}

fn play(start: &World, events: &[Event], limits: &Counts, rules: &[Rules; 2], last_only: Option<&Finding>) -> Option<World> {
    let mut world = *start;
    let mut possible = Vec::new();
    for (at, event) in events.iter().enumerate() {
        candidates(&world, &mut possible);
        if !possible.contains(event) {
            return None;
        }
        let (after, found) = apply(&world, *event, limits, rules)?;
        let wanted = last_only.is_some_and(|w| found.iter().any(|f| same_kind(f, w)));
        if wanted {
            return (at + 1 == events.len()).then_some(after);
        }
        if found.iter().any(|f| f.what.is_violation() && f.what != What::NeedlessSplitBrain) {
            return None;
        }
        world = after;
    }
    last_only.is_none().then_some(world)
}

fn shrink(start: &World, mut events: Vec<Event>, limits: &Counts, rules: &[Rules; 2], finding: &Finding) -> Vec<Event> {
    loop {
        let before = events.len();
        for size in [8, 4, 3, 2, 1] {
            let mut at = 0;
            while at + size <= events.len() {
                let mut shorter = events.clone();
                shorter.drain(at..at + size);
                if play(start, &shorter, limits, rules, Some(finding)).is_some() {
                    events = shorter;
                } else {
                    at += 1;
                }
            }
        }
        // pairs
        let mut i = 0;
        while i < events.len() {
            let mut j = i + 1;
            let mut cut = false;
            while j < events.len() {
                let mut shorter = events.clone();
                shorter.remove(j);
                shorter.remove(i);
                if play(start, &shorter, limits, rules, Some(finding)).is_some() {
                    events = shorter;
                    cut = true;
                    break;
                }
                j += 1;
            }
            if !cut { i += 1; }
        }
        if events.len() == before {
            return events;
        }
    }
}

fn tell(start: &World, events: &[Event], limits: &Counts, rules: &[Rules; 2]) -> String {
    let mut text = String::new();
    let mut world = start.canonical();
    for event in events {
        let Some((after, _)) = apply(&world, *event, limits, rules) else { break };
        world = after;
        text += &format!("    {event:?}\n{world}");
    }
    text
}

/// Lets everything end well, if it does.
fn settle(start: &World, limits: &Counts, rules: &[Rules; 2], path: &mut Vec<Event>) -> Result<Option<Finding>, World> {
    let mut world = *start;
    let mut events = Vec::new();
    let mut connects = 0;
    for _ in 0..400 {
        candidates(&world, &mut events);
        let order = |e: &Event| match e {
            Event::Restart(_) => 0,
            Event::Flush(_) => 1,
            Event::Deliver(_) => 2,
            Event::Notice(_) => 3,
            Event::Copy(..) => 4,
            Event::Finish(_) => 5,
            Event::Attach(_) => 6,
            Event::Connect(2) => 7,
            _ => 99,
        };
        events.retain(|e| order(e) < 99);
        events.sort_by_key(order);
        let mut went = false;
        for event in &events {
            if matches!(event, Event::Connect(_)) {
                if connects >= 4 { continue; }
            }
            if let Some((after, found)) = apply(&world, *event, limits, rules) {
                if after.canonical_bytes() == world.canonical_bytes() { continue; }
                if matches!(event, Event::Connect(_)) { connects += 1; }
                path.push(*event);
                if let Some(f) = found.iter().find(|f| f.what.is_violation() || matches!(f.what, What::SplitBrain | What::FalseSplitBrain | What::Refused)) {
                    return Ok(Some(*f));
                }
                world = after;
                went = true;
                break;
            }
        }
        if !went { break; }
    }
    let fine = world.nodes.iter().all(|n| n.state.conn == ConnState::Connected && n.state.disk == DiskState::UpToDate && n.state.pdsk == DiskState::UpToDate);
    let both = world.nodes.iter().all(|n| n.state.role == Role::Primary);
    if fine || both { Ok(None) } else { Err(world) }
}

#[test]
fn walk() {
    let Some(_) = std::env::var_os("WALK") else { return };
    let mut limits: Counts = [0; KINDS];
    let set = |limits: &mut Counts, kind: Kind, default| limits[kind as usize] = env(&format!("W_{kind:?}"), default) as u8;
    for (kind, n) in [(Kind::Write, 10), (Kind::Cut, 12), (Kind::Connect, 14), (Kind::Promote, 8), (Kind::Demote, 8), (Kind::Crash, 8), (Kind::Detach, 0), (Kind::Invalidate, 0), (Kind::InvalidateRemote, 0), (Kind::Fail, 0), (Kind::Force, 0), (Kind::Discard, 0)] {
        set(&mut limits, kind, n);
    }
    let rules = match env("W_MIXED", 0) { 0 => [Rules::ENGINE; 2], 1 => [Rules::ENGINE, Rules::KERNEL], _ => [Rules::KERNEL; 2] };
    let start = super::in_sync().canonical();
    let mut rng = Rng(env("W_SEED", 1));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(env("W_SECS", 60));
    let mut found: BTreeMap<Finding, (u64, Vec<Event>)> = BTreeMap::new();
    let mut hangs: Option<(u64, Vec<Event>)> = None;
    let length = env("W_LEN", 120);
    let skip: Vec<String> = std::env::var("W_SKIP").unwrap_or_default().split(',').map(str::to_string).collect();
    let (mut walks, mut steps) = (0_u64, 0_u64);
    while std::time::Instant::now() < until {
        walks += 1;
        let mut world = start;
        let mut path = Vec::new();
        let mut events = Vec::new();
        let mut ended = false;
        while (path.len() as u64) < length {
            candidates(&world, &mut events);
            events.retain(|e| !matches!(e, Event::Connect(0 | 1)) && !matches!(e, Event::Force(_)));
            let busy = world.queues.iter().any(|q| !q.is_empty()) || world.nodes.iter().any(|n| !matches!(n.state.conn, ConnState::Connected | ConnState::WFConnection | ConnState::StandAlone));
            let mut went = false;
            while !events.is_empty() {
                let total: u64 = events.iter().map(|e| weight(*e, busy)).sum();
                let mut pick = rng.next() % total;
                let at = events.iter().position(|e| { let w = weight(*e, busy); if pick < w { true } else { pick -= w; false } }).unwrap();
                let event = events.swap_remove(at);
                if let Some((after, list)) = apply(&world, event, &limits, &rules) {
                    steps += 1;
                    path.push(event);
                    for f in &list {
                        let interesting = f.what.is_violation() || f.what == What::Refused;
                        if interesting {
                            let name = format!("{:?}{}{}", f.what, f.rule, if f.forced { "c" } else { "" });
                            if skip.contains(&name) { continue; }
                            ended = true;
                            let entry = found.entry(*f).or_insert_with(|| (0, Vec::new()));
                            entry.0 += 1;
                            if entry.1.is_empty() || entry.0 < 40 {
                                let short = shrink(&start, path.clone(), &limits, &rules, f);
                                if entry.1.is_empty() || short.len() < entry.1.len() {
                                    entry.1 = short;
                                }
                            }
                        }
                        
                    }
                    world = after;
                    went = true;
                    break;
                }
            }
            if !went || ended { break; }
        }
        if !ended {
            // room for the end
            let mut wide = limits;
            wide[Kind::Connect as usize] = 250;
            let mut tail = Vec::new();
            match settle(&world, &wide, &rules, &mut tail) {
                Ok(Some(f)) if f.what.is_violation() => {
                    let name = format!("{:?}{}{}", f.what, f.rule, if f.forced { "c" } else { "" });
                    if !skip.contains(&name) {
                        let mut whole = path.clone();
                        whole.extend(tail);
                        let entry = found.entry(f).or_insert_with(|| (0, Vec::new()));
                        entry.0 += 1;
                        if entry.0 < 40 && play(&start, &whole, &wide, &rules, Some(&f)).is_some() {
                            let short = shrink(&start, whole, &wide, &rules, &f);
                            if entry.1.is_empty() || short.len() < entry.1.len() { entry.1 = short; }
                        }
                    }
                }
                Ok(_) => {}
                Err(_) => {
                    let entry = hangs.get_or_insert((0, path.clone()));
                    entry.0 += 1;
                    let mut whole = path.clone();
                    whole.extend(tail);
                    if whole.len() < entry.1.len() { entry.1 = whole; }
                }
            }
        }
    }
    println!("{walks} walks, {steps} steps");
    let mut wide = limits;
    wide[Kind::Connect as usize] = 250;
    for (f, (count, events)) in &found {
        println!("{:?} rule {} crashmark {}: {count}, shortest {}", f.what, f.rule, f.forced, events.len());
        println!("{events:?}");
        println!("{}", tell(&start, events, &wide, &rules));
    }
    if let Some((count, events)) = hangs {
        println!("HANG {count}");
        println!("{}", tell(&start, &events, &wide, &rules));
    }
    let _ = Role::Primary;
}

/// Plays events by hand, everything that is on its way arriving after each `None`, and says what is found.
fn by_hand(rules: &[Rules; 2], events: &[Option<Event>]) -> (World, Vec<Finding>) {
    let limits: Counts = [100; KINDS];
    let mut world = super::in_sync().canonical();
    let mut all = Vec::new();
    for event in events {
        if let Some(event) = event {
            let (after, found) = apply(&world, *event, &limits, rules).unwrap_or_else(|| panic!("{event:?} in\n{world}"));
            println!("    {event:?}\n{after}");
            world = after;
            all.extend(found);
            continue;
        }
        loop {
            let next = (0..2).find_map(|n| {
                let deliver = !world.queues[n].is_empty();
                let flush = world.nodes[n].attached && (world.nodes[n].disk.sb != world.nodes[n].disk.durable || !world.nodes[n].thens.is_empty());
                if flush { Some(Event::Flush(n as u8)) } else if deliver { Some(Event::Deliver(n as u8)) } else { None }
            });
            let Some(event) = next else { break };
            let (after, found) = apply(&world, event, &limits, rules).unwrap();
            println!("    {event:?}\n{after}");
            world = after;
            all.extend(found);
        }
    }
    (world, all)
}

/// L3, where the source is a DRBD: it empties its bitmap slot as soon as it compares (L4), though we refuse. The administrator connects
/// again, and gives no data up.
#[test]
fn a_crashed_target_is_not_overwritten_by_a_drbd_at_the_second_attempt() {
    if !protocol_a() { return }
    let rules = [Rules::ENGINE, Rules::KERNEL];
    let (_, found) = by_hand(&rules, &[
        Some(Event::Promote(1)), None,
        Some(Event::Cut), Some(Event::Notice(0)), Some(Event::Notice(1)), None,
        Some(Event::Write(1, 0, false)), None,
        Some(Event::Crash(1)), Some(Event::Restart(1)), None,
        Some(Event::Connect(2)), None,
        Some(Event::Promote(0)), None,
        Some(Event::Copy(0, 0)), None,
        Some(Event::Finish(0)), Some(Event::Flush(0)),
        Some(Event::Cut),
        Some(Event::Write(0, 1, false)),
        Some(Event::Crash(0)), Some(Event::Restart(0)), None,
        Some(Event::Notice(1)), None,
        Some(Event::Connect(2)), Some(Event::Deliver(1)), Some(Event::Deliver(1)), Some(Event::Notice(0)), None,
        Some(Event::Connect(2)), None,
    ]);
    let lost: Vec<_> = found.iter().filter(|f| f.what.is_violation()).collect();
    assert!(lost.is_empty(), "{lost:?}");
}
