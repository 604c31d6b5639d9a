//! Random walks: far deeper than a search goes, and not to the end.
//!
//! A walk takes events by chance, as long as a budget for each kind allows them, and is then settled: nothing breaks
//! any more. The tests here go a fixed number of walks from a fixed seed, so each of them always does the same.
//! What differs for a longer run comes from the environment (`docs/testing.md`, "The generation model").

mod random;
mod settle;
mod shorten;

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write;
use std::time::{Duration, Instant};

use rdb_engine::state::Fencing;

use crate::events::{Event, apply, candidates};
use crate::oracle::{Cause, Finding, What};
use crate::rules::{Rules, Setting};
use crate::search::tell;
use crate::world::{Counts, Kind};
use crate::{
    BY_DRBD, Exemption, FORGOTTEN_END, INTERRUPTED, MERGED, NEVER_RECORDED, ORDERED, TAIL_SEEN,
    UNTOLD, exempt, in_sync, limits,
};

use random::Rng;
use settle::{settle, with_room};
use shorten::shorten;

/// Walks of each test.
const WALKS: u64 = 12_000;
/// Events of a walk before it settles.
const EVENTS: usize = 120;
/// What a set of sixteen bits has room for: writes are numbered from 1.
const WRITES_MAX: u8 = 15;
/// Ways to one finding that are shortened: the shortest is printed.
const SHORTENED_MAX: u64 = 20;

const ENGINE: [Rules; 2] = [Rules::ENGINE; 2];
const MIXED: [Rules; 2] = [Rules::ENGINE, Rules::KERNEL];

const LINKS_AND_CRASHES: &[(Kind, u8)] = &[
    (Kind::Write, 10),
    (Kind::Cut, 12),
    (Kind::Connect, 14),
    (Kind::Promote, 8),
    (Kind::Demote, 8),
    (Kind::Crash, 8),
];
const DISKS: &[(Kind, u8)] = &[
    (Kind::Write, 10),
    (Kind::Cut, 12),
    (Kind::Connect, 14),
    (Kind::Promote, 8),
    (Kind::Demote, 8),
    (Kind::Crash, 8),
    (Kind::Detach, 3),
    (Kind::Fail, 2),
    (Kind::Invalidate, 2),
    (Kind::InvalidateRemote, 2),
];

const FENCING: &[(Kind, u8)] = &[
    (Kind::Write, 10),
    (Kind::Cut, 12),
    (Kind::Connect, 14),
    (Kind::Promote, 10),
    (Kind::Demote, 8),
    (Kind::Crash, 6),
    (Kind::Kill, 4),
    (Kind::Outdate, 2),
    (Kind::Part, 4),
];
const FENCING_AND_DISKS: &[(Kind, u8)] = &[
    (Kind::Write, 10),
    (Kind::Cut, 12),
    (Kind::Connect, 14),
    (Kind::Promote, 10),
    (Kind::Demote, 8),
    (Kind::Crash, 6),
    (Kind::Kill, 4),
    (Kind::Outdate, 2),
    (Kind::Part, 3),
    (Kind::Resume, 1),
    (Kind::Detach, 3),
    (Kind::Fail, 2),
    (Kind::Invalidate, 2),
    (Kind::InvalidateRemote, 2),
];

/// Where to end: after so many walks, or so long a time.
struct Length {
    walks: u64,
    time: Option<Duration>,
}

impl Length {
    fn walks(walks: u64) -> Length {
        Length { walks, time: None }
    }
}

struct Walks<'a> {
    setting: Setting,
    exemptions: &'a [&'a [Exemption]],
    walks: u64,
    events: u64,
    /// How often, and why that is known.
    named: BTreeMap<Finding, (u64, &'static str)>,
    /// How often, and the shortest way that was met.
    unnamed: BTreeMap<Finding, (u64, Vec<Event>)>,
}

impl<'a> Walks<'a> {
    fn new(setting: Setting, exemptions: &'a [&'a [Exemption]]) -> Self {
        Walks {
            setting,
            exemptions,
            walks: 0,
            events: 0,
            named: BTreeMap::new(),
            unnamed: BTreeMap::new(),
        }
    }

    fn run(&mut self, seed: u64, length: &Length) {
        let began = Instant::now();
        let mut rng = Rng(seed);
        let in_time = || length.time.is_none_or(|time| began.elapsed() < time);
        while self.walks < length.walks && in_time() {
            self.walk(&mut rng);
        }
    }

    /// Events by chance, and the end.
    fn walk(&mut self, rng: &mut Rng) {
        let mut world = in_sync().canonical();
        let (mut way, mut events) = (Vec::new(), Vec::new());
        self.walks += 1;
        while way.len() < EVENTS {
            candidates(&world, &self.setting, &mut events);
            let next = loop {
                if events.is_empty() {
                    break None;
                }
                let event = rng.take(&world, &mut events);
                if let Some((after, found)) = apply(&world, event, &self.setting) {
                    break Some((event, after, found));
                }
            };
            let Some((event, after, found)) = next else {
                break;
            };
            self.events += 1;
            way.push(event);
            world = after;
            if let Some(violation) = found.iter().find(|finding| finding.what.is_violation()) {
                return self.note(*violation, way);
            }
        }
        let violation = settle(world, &with_room(&self.setting), &mut way);
        if let Some(violation) = violation {
            self.note(violation, way);
        }
    }

    fn note(&mut self, finding: Finding, way: Vec<Event>) {
        let mut exemptions = self.exemptions.iter().copied().flatten();
        if let Some(exempt) = exemptions.find(|exempt| exempt.what == finding.what) {
            self.named.entry(finding).or_insert((0, exempt.reason)).0 += 1;
            return;
        }
        let (count, shortest) = self.unnamed.entry(finding).or_default();
        *count += 1;
        if *count > SHORTENED_MAX {
            return;
        }
        let way = shorten(
            finding,
            &in_sync().canonical(),
            way,
            &with_room(&self.setting),
        );
        if shortest.is_empty() || way.len() < shortest.len() {
            *shortest = way;
        }
    }

    /// The unnamed ones, each with the shortest way to it.
    fn complaint(&self) -> String {
        let mut text = String::new();
        for (finding, (count, way)) in &self.unnamed {
            writeln!(
                text,
                "{finding:?}: {count}, shortest of {}\n{way:?}",
                way.len()
            )
            .expect("a string takes everything");
            text += &tell(&in_sync(), way, &with_room(&self.setting));
        }
        text
    }
}

fn setting(bounds: &[(Kind, u8)], rules: [Rules; 2], protocol_a: bool) -> Setting {
    Setting {
        protocol_a,
        waits_for_room: true,
        ..Setting::new(limits(bounds), rules)
    }
}

/// What a walk meets must be named.
fn meets_only(name: &str, mut setting: Setting, exemptions: &[&[Exemption]]) {
    from_environment(&mut setting.limits);
    let seconds = number("WALK_SECONDS");
    let length = Length {
        walks: number("WALKS").unwrap_or(if seconds.is_some() { u64::MAX } else { WALKS }),
        time: seconds.map(Duration::from_secs),
    };
    let mut all = Walks::new(setting, exemptions);
    all.run(number("WALK_SEED").unwrap_or(1), &length);
    println!("{name}: {} walks, {} events", all.walks, all.events);
    for (finding, (count, reason)) in &all.named {
        println!("  {finding:?}: {count}: {reason}");
    }
    let complaint = all.complaint();
    assert!(
        complaint.is_empty(),
        "{name}: violations that nobody has named\n{complaint}"
    );
}

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {value}")),
    )
}

/// `WALK_LIMITS=Write=3,Detach=1` replaces the budgets of these kinds.
fn from_environment(counts: &mut Counts) {
    let value = env::var("WALK_LIMITS").unwrap_or_default();
    for item in value.split(',').filter(|item| !item.is_empty()) {
        let parsed = item.split_once('=').and_then(|(name, limit)| {
            let kind = Kind::ALL.iter().find(|kind| format!("{kind:?}") == name)?;
            Some((*kind, limit.parse::<u8>().ok()?))
        });
        let Some((kind, limit)) = parsed else {
            panic!("WALK_LIMITS: no kind of event with a limit: {item}");
        };
        counts[kind as usize] = limit;
    }
    let writes = counts[Kind::Write as usize];
    assert!(writes <= WRITES_MAX, "WALK_LIMITS: too many writes");
}

/// What is left between two rdb nodes, whatever the protocol.
const NEEDLESS: &[Exemption] = &[
    exempt(What::NeedlessSplitBrain(Cause::Interrupted), INTERRUPTED),
    exempt(What::NeedlessSplitBrain(Cause::EndedUnseen), FORGOTTEN_END),
    exempt(What::NeedlessSplitBrain(Cause::Merged), MERGED),
];
const ORDERS: &[Exemption] = &[exempt(What::NeedlessSplitBrain(Cause::Ordered), ORDERED)];
const TAIL: &[Exemption] = &[exempt(What::StaleTail, TAIL_SEEN)];
const WITH_DRBD: &[Exemption] = &[
    exempt(What::LostByDrbd, BY_DRBD),
    exempt(What::NeedlessSplitBrain(Cause::Interrupted), INTERRUPTED),
    exempt(What::NeedlessSplitBrain(Cause::EndedUnseen), UNTOLD),
    exempt(What::NeedlessSplitBrain(Cause::Merged), MERGED),
];

#[test]
fn protocol_c() {
    let setting = setting(LINKS_AND_CRASHES, ENGINE, false);
    meets_only("protocol C", setting, &[NEEDLESS]);
}

#[test]
fn protocol_a() {
    let setting = setting(LINKS_AND_CRASHES, ENGINE, true);
    meets_only("protocol A", setting, &[NEEDLESS]);
}

#[test]
fn protocol_c_with_disks() {
    let setting = setting(DISKS, ENGINE, false);
    meets_only("protocol C, disks", setting, &[NEEDLESS, ORDERS]);
}

#[test]
fn protocol_a_with_disks() {
    let setting = setting(DISKS, ENGINE, true);
    meets_only("protocol A, disks", setting, &[NEEDLESS, ORDERS, TAIL]);
}

#[test]
fn protocol_c_with_drbd() {
    let setting = setting(LINKS_AND_CRASHES, MIXED, false);
    meets_only("protocol C, rdb and DRBD", setting, &[WITH_DRBD]);
}

#[test]
fn protocol_a_with_drbd() {
    let setting = setting(LINKS_AND_CRASHES, MIXED, true);
    meets_only("protocol A, rdb and DRBD", setting, &[WITH_DRBD]);
}

const REFUSED: &[Exemption] = &[exempt(What::FalseUnrelated, NEVER_RECORDED)];

fn with_fencing(fencing: Fencing, bounds: &[(Kind, u8)]) -> Setting {
    Setting {
        fencing,
        suspends_without_data: true,
        ..setting(bounds, ENGINE, false)
    }
}

#[test]
fn stonith() {
    let setting = with_fencing(Fencing::ResourceAndStonith, FENCING);
    meets_only("stonith", setting, &[NEEDLESS]);
}

#[test]
fn stonith_with_disks() {
    let setting = with_fencing(Fencing::ResourceAndStonith, FENCING_AND_DISKS);
    meets_only("stonith, disks", setting, &[NEEDLESS, ORDERS, REFUSED]);
}

#[test]
fn resource_only() {
    let setting = with_fencing(Fencing::ResourceOnly, FENCING_AND_DISKS);
    meets_only("resource-only", setting, &[NEEDLESS, ORDERS, REFUSED]);
}

/// The proof that walks find what there is, and the shortest way to it.
#[test]
fn what_two_drbds_lose_is_found() {
    let setting = setting(LINKS_AND_CRASHES, [Rules::KERNEL; 2], false);
    let mut all = Walks::new(setting, &[]);
    all.run(1, &Length::walks(1_000));
    let lost = |(finding, (_, way)): (&Finding, &(u64, Vec<Event>))| {
        finding.what == What::Overwritten && !way.is_empty() && way.len() < 60
    };
    assert!(all.unnamed.iter().any(lost), "{}", all.complaint());
}
