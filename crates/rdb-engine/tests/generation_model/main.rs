//! An exhaustive model of the generation identifiers.

mod events;
mod names;
mod node;
mod oracle;
mod rules;
mod search;
mod world;

use names::{Ids, Name};
use rules::Rules;
use search::Search;
use world::{Counts, Kind, World};

fn limits(list: &[(Kind, u8)]) -> Counts {
    let mut counts = [0; world::KINDS];
    for (kind, limit) in list {
        counts[*kind as usize] = *limit;
    }
    counts
}

fn in_sync() -> Ids {
    Ids {
        current: Name::random(2),
        bitmap: Name::default(),
        history: [Name::random(3), Name::random(4)],
    }
}

#[test]
fn explore() {
    let get = |name: &str, default: u8| {
        std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
    };
    let rules = match std::env::var("RULES").as_deref() {
        Ok("kernel") => Rules::KERNEL,
        Ok("cure") => Rules::PROPOSED,
        _ => Rules::ENGINE,
    };
    let other = if std::env::var("PEER").as_deref() == Ok("kernel") { Rules::KERNEL } else { rules };
    let search = Search {
        name: "explore",
        start: if get("Z", 0) == 1 { World::created() } else { World::connected(in_sync()) },
        limits: limits(&[
            (Kind::Write, get("W", 2)),
            (Kind::Cut, get("X", 2)),
            (Kind::Connect, get("N", 2)),
            (Kind::Promote, get("P", 2)),
            (Kind::Demote, get("D", 1)),
            (Kind::Crash, get("C", 0)),
            (Kind::Force, get("F", 0)),
            (Kind::Detach, get("T", 0)),
            (Kind::Discard, get("S", 0)),
            (Kind::Invalidate, get("I", 0)),
            (Kind::Fail, get("B", 0)),
        ]),
        rules: [rules, other],
        states_max: std::env::var("MAX").ok().and_then(|v| v.parse().ok()).unwrap_or(5_000_000),
    };
    let begin = std::time::Instant::now();
    let report = search.run();
    println!("{}{:?}", report.summary(&search, true), begin.elapsed());
}
