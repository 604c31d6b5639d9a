//! What CI asks of the simulator: how many seeds, which ones besides, and what they must reach.

use crate::coverage::Coverage;
use crate::plan::Plan;

/// How many seeds CI runs, from 0 on. Two cores take about two minutes.
pub const CI_SEEDS: u64 = 10_000;

/// How many of the directed plans CI runs besides, from [`DIRECTED`](crate::directed::DIRECTED) on.
pub const CI_DIRECTED_SEEDS: u64 = 1_500;

/// How many of the plans with full disks, from [`FULL`](crate::full::FULL) on.
pub const CI_FULL_SEEDS: u64 = 1_500;

/// How many of the plans with changing settings, from [`SETTINGS`](crate::settings::SETTINGS) on.
pub const CI_SETTINGS_SEEDS: u64 = 1_500;

/// How many of the plans with disks that keep reads to themselves, from [`PATIENCE`](crate::patience::PATIENCE) on.
pub const CI_PATIENCE_SEEDS: u64 = 500;

/// How many of the plans with verifies, from [`VERIFY`](crate::verify::VERIFY) on.
pub const CI_VERIFY_SEEDS: u64 = 1_000;

/// How many of the plans with fencing, from [`FENCING`](crate::fencing::FENCING) on.
pub const CI_FENCING_SEEDS: u64 = 1_500;

/// How many of the plans with snapshots, from [`SNAPSHOTS`](crate::snapshots::SNAPSHOTS) on.
pub const CI_SNAPSHOT_SEEDS: u64 = 750;

/// How many seeds of plans with impostors it runs besides.
pub const CI_HOSTILE_SEEDS: u64 = 1250;

/// A seed with its story.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The seed.
    pub seed: u64,
    /// Its plan is drawn without the rare kinds of steps, as it was when it failed.
    pub plain: bool,
    /// Its plan has impostors.
    pub hostile: bool,
    /// What it found.
    pub story: &'static str,
}

impl Known {
    /// What it ran.
    pub fn plan(&self) -> Plan {
        if self.hostile {
            Plan::hostile_of_seed(self.seed)
        } else if self.plain {
            Plan::plain_of_seed(self.seed)
        } else {
            Plan::of_seed(self.seed)
        }
    }
}

fn parse(text: &'static str) -> Vec<Known> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let (seed, story) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let story = story.trim();
            let (plain, story) = match story.strip_prefix("plain") {
                Some(story) => (true, story.trim()),
                None => (false, story),
            };
            let (hostile, story) = match story.strip_prefix("hostile") {
                Some(story) => (true, story.trim()),
                None => (false, story),
            };
            let seed = seed.parse().expect("a line begins with a seed");
            Known {
                seed,
                plain,
                hostile,
                story,
            }
        })
        .collect()
}

/// Seeds that once failed, and must not again (`regressions.txt`).
pub fn regressions() -> Vec<Known> {
    parse(include_str!("../regressions.txt"))
}

/// Seeds that fail by a known mistake of the engine (`open.txt`).
pub fn open() -> Vec<Known> {
    parse(include_str!("../open.txt"))
}

/// What must be reached and was not (`coverage.txt`).
pub fn missing(coverage: &Coverage) -> Vec<&'static str> {
    let reached = coverage.lines();
    let lines = include_str!("../coverage.txt").lines().map(str::trim);
    let names = lines.filter(|l| !l.is_empty() && !l.starts_with('#'));
    names
        .filter(|name| !reached.iter().any(|(n, _)| n == name))
        .collect()
}
