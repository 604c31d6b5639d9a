//! `cargo xtask sim`: many seeds, or one with everything told.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use clap::Parser;
use rdb_engine::{Bug, PLANTED_BUGS};
use rdb_sim::crash_points::{crash_points, plan_of};
use rdb_sim::directed::DIRECTED;
use rdb_sim::fencing::FENCING;
use rdb_sim::full::FULL;
use rdb_sim::mutation::hunt;
use rdb_sim::patience::PATIENCE;
use rdb_sim::settings::SETTINGS;
use rdb_sim::snapshots::SNAPSHOTS;
use rdb_sim::verify::VERIFY;
use rdb_sim::{Coverage, Failure, Plan, ci, shrink, side_by_side};

/// Runs two engines through crashes, cuts and races, and looks whether they keep what they promise.
#[derive(Parser)]
#[command(name = "cargo xtask sim")]
struct Options {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Directed plans, in which one thing fails at a time: --from and --seed count from their first seed
    #[arg(long)]
    directed: bool,
    /// Plans in which disks run full for a while: --from and --seed count from their first seed
    #[arg(long, conflicts_with_all = ["directed", "hostile"])]
    full: bool,
    /// Plans in which settings change while the nodes are connected
    #[arg(long, conflicts_with_all = ["directed", "full", "hostile"])]
    settings: bool,
    /// Plans in which a disk keeps a read to itself for a while
    #[arg(long, conflicts_with_all = ["directed", "full", "settings", "hostile"])]
    patience: bool,
    /// Plans in which both copies are verified, and rot
    #[arg(long, conflicts_with_all = ["directed", "full", "settings", "patience", "hostile"])]
    verify: bool,
    /// Plans with fencing, handlers, and I/O that freezes
    #[arg(long, conflicts_with_all = ["directed", "full", "settings", "patience", "verify", "hostile"])]
    fencing: bool,
    /// The same with snapshots of both nodes
    #[arg(long, conflicts_with_all = ["directed", "full", "settings", "patience", "verify", "fencing", "hostile"])]
    snapshots: bool,
    /// This seed alone
    #[arg(long)]
    seed: Option<u64>,
    /// Of that seed's plan only these steps: numbers and ranges, as 3,7,9-12
    #[arg(long, requires = "seed")]
    steps: Option<String>,
    /// The plan as it is drawn without ambushes and lying disks
    #[arg(long, requires = "seed")]
    plain: bool,
    /// Plans with impostors: peers that say any packet at any moment
    #[arg(long, conflicts_with = "plain")]
    hostile: bool,
    /// Tell everything that happens, not only the end before a failure
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Do not look for the shortest schedule
    #[arg(long)]
    no_shrink: bool,
    /// Lines of the trace of a failure
    #[arg(long, default_value_t = 120)]
    lines: usize,
    /// Print a digest of the trace of each plan, and one of all: what only moves code leaves every one as it was
    #[arg(long, conflicts_with_all = ["seed", "mutations", "crash_points"])]
    digest: bool,
    /// Runs at a time; 0 is one a core
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// Print what was reached, and how often
    #[arg(long)]
    coverage: bool,
    /// What CI runs: its number of seeds, those that once failed, and whether all was reached that must be
    #[arg(long, conflicts_with_all = ["seed", "seeds", "from"])]
    ci: bool,
    /// The mutation check: how many seeds it takes to find each planted bug (needs the feature planted-bugs)
    #[arg(long, conflicts_with_all = ["seed", "ci"])]
    mutations: bool,
    /// Crash points: of each seed's short plan every place where a node can lose its power
    #[arg(long, conflicts_with_all = ["seed", "ci", "mutations"])]
    crash_points: bool,
    /// Of the crash points only every n-th
    #[arg(long, default_value_t = 1)]
    stride: u64,
    /// The engines of --seed make this mistake, by its name in the table of --mutations; or only this one is hunted
    #[arg(long)]
    plant: Option<String>,
    /// Stop after so many failures
    #[arg(long, default_value_t = 20)]
    failures: usize,
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if options.directed {
        options.from += DIRECTED;
        options.seed = options.seed.map(|seed| seed + DIRECTED);
    }
    if options.full {
        options.from += FULL;
        options.seed = options.seed.map(|seed| seed + FULL);
    }
    if options.settings {
        options.from += SETTINGS;
        options.seed = options.seed.map(|seed| seed + SETTINGS);
    }
    if options.patience {
        options.from += PATIENCE;
        options.seed = options.seed.map(|seed| seed + PATIENCE);
    }
    if options.verify {
        options.from += VERIFY;
        options.seed = options.seed.map(|seed| seed + VERIFY);
    }
    if options.fencing {
        options.from += FENCING;
        options.seed = options.seed.map(|seed| seed + FENCING);
    }
    if options.snapshots {
        options.from += SNAPSHOTS;
        options.seed = options.seed.map(|seed| seed + SNAPSHOTS);
    }
    if options.ci {
        options.seeds = ci::CI_SEEDS;
        options.failures = usize::MAX;
    }
    if options.mutations {
        return ExitCode::from(u8::from(mutations(&options)));
    }
    if options.crash_points {
        return ExitCode::from(u8::from(crashes(&options)));
    }
    let failed = match options.seed {
        Some(seed) => one(seed, &options),
        None => many(&options),
    };
    ExitCode::from(u8::from(failed))
}

fn one(seed: u64, options: &Options) -> bool {
    let mut plan = if options.hostile {
        Plan::hostile_of_seed(seed)
    } else if options.plain {
        Plan::plain_of_seed(seed)
    } else {
        Plan::of_seed(seed)
    };
    if let Some(words) = &options.steps {
        match parse_steps(words) {
            Some(keep) => plan = plan.with_steps(&keep),
            None => {
                eprintln!("--steps takes numbers and ranges, as 3,7,9-12; this is {words:?}");
                return true;
            }
        }
    }
    let Ok(planted) = planted(options) else {
        return true;
    };
    plan.planted = planted;
    let outcome = plan.run(options.trace);
    if options.trace {
        print!("{plan}");
        print!("{}", side_by_side(&outcome.transcript, usize::MAX, 90));
    }
    if options.coverage {
        print!("{}", outcome.coverage);
    }
    match outcome.failure {
        Some(failure) => {
            report(&plan, &failure, options, !options.trace);
            true
        }
        None => {
            println!("seed {seed}: nothing is wrong ({} events)", outcome.events);
            false
        }
    }
}

/// The mistake asked for. Says what is wrong with it.
fn planted(options: &Options) -> Result<Option<Bug>, ()> {
    let Some(name) = &options.plant else {
        return Ok(None);
    };
    let mut bugs = Bug::ALL.into_iter();
    let bug = bugs.find(|bug| format!("{bug:?}") == *name);
    if bug.is_none() || !PLANTED_BUGS {
        eprintln!("no such bug, or built without the feature planted-bugs: {name}");
        return Err(());
    }
    Ok(bug)
}

fn parse_steps(words: &str) -> Option<Vec<usize>> {
    let mut keep = Vec::new();
    for word in words.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        keep.extend(first..=last);
    }
    Some(keep)
}

/// The shortest schedule that fails as this one did, and what happened in it.
fn report(plan: &Plan, failure: &Failure, options: &Options, told: bool) {
    println!(
        "seed {}: {}\n    at {}",
        plan.seed, failure.text, failure.place
    );
    if options.no_shrink {
        return;
    }
    let (short, failure) = shrink(plan, failure, 400);
    println!("the shortest schedule found:\n{short}");
    if told {
        let outcome = short.run(true);
        print!("{}", side_by_side(&outcome.transcript, options.lines, 90));
    }
    let numbers: Vec<String> = short.steps.iter().map(|s| s.nr.to_string()).collect();
    println!("{}\n    at {}", failure.text, failure.place);
    println!(
        "again: cargo xtask sim --seed {}{} --steps {} --trace (with the pauses of the whole plan)\n",
        plan.seed,
        match (plan.plain, plan.hostile) {
            (_, true) => " --hostile",
            (true, _) => " --plain",
            _ => "",
        },
        numbers.join(",")
    );
}

/// Prints which seed finds each planted bug. Says whether one was not found.
fn mutations(options: &Options) -> bool {
    if !PLANTED_BUGS {
        eprintln!(
            "--mutations needs the feature planted-bugs, which `cargo xtask sim --mutations` asks for"
        );
        return true;
    }
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    let findings = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs(options) {
            scope.spawn(|| {
                while let Some(&bug) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if options
                        .plant
                        .as_ref()
                        .is_some_and(|name| *name != format!("{bug:?}"))
                    {
                        continue;
                    }
                    let finding = hunt(bug, options.from, options.seeds);
                    let mut all = findings.lock().unwrap_or_else(|e| e.into_inner());
                    all.push(finding);
                }
            });
        }
    });
    let mut findings = findings.into_inner().unwrap_or_else(|e| e.into_inner());
    findings.sort_by_key(|finding| finding.bug as usize);
    println!("| planted | seeds | noticed as |\n| --- | ---: | --- |");
    for finding in &findings {
        let (seeds, noticed) = match &finding.found {
            Some((_, failure)) => {
                let text = failure.text.lines().next().unwrap_or_default();
                (finding.seeds.to_string(), text.chars().take(90).collect())
            }
            None => (format!("not in {}", finding.seeds), String::new()),
        };
        println!("| {:?} | {seeds} | {noticed} |", finding.bug);
    }
    println!("{:.1} s", start.elapsed().as_secs_f64());
    findings.iter().any(|finding| finding.found.is_none())
}

/// Tries the crash points of some seeds. Says whether something was wrong.
fn crashes(options: &Options) -> bool {
    let start = Instant::now();
    let Ok(planted) = planted(options) else {
        return true;
    };
    let next = AtomicU64::new(options.from);
    let end = options.from + options.seeds;
    let sum = Mutex::new((0, 0, 0));
    std::thread::scope(|scope| {
        for _ in 0..jobs(options) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let found = crash_points(seed, options.stride.max(1), planted);
                    let mut sum = sum.lock().unwrap_or_else(|e| e.into_inner());
                    sum.0 += found.points;
                    sum.1 += found.runs;
                    sum.2 += found.failures.len();
                    if let Some((at, failure)) = found.failures.first() {
                        println!(
                            "seed {seed}: {} of {} runs failed, first {at:?}:\n    {}\n    at {}",
                            found.failures.len(),
                            found.runs,
                            failure.text,
                            failure.place
                        );
                        if !options.no_shrink {
                            let mut plan = plan_of(seed);
                            plan.planted = planted;
                            plan.crash = Some(*at);
                            let outcome = plan.run(true);
                            print!("{}", side_by_side(&outcome.transcript, options.lines, 90));
                        }
                    }
                }
            });
        }
    });
    let (points, runs, failed) = sum.into_inner().unwrap_or_else(|e| e.into_inner());
    println!(
        "{} seeds from {}: {points} crash points, {runs} runs, {failed} failed; {:.1} s",
        options.seeds,
        options.from,
        start.elapsed().as_secs_f64()
    );
    failed > 0
}

fn jobs(options: &Options) -> usize {
    match options.jobs {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        jobs => jobs,
    }
}

#[derive(Default)]
struct Sum {
    coverage: Coverage,
    storm_us: u64,
    total_us: u64,
    events: u64,
    done: u64,
    /// Processor time of the runs, in nanoseconds.
    cpu_ns: u64,
    failures: Vec<(Plan, Failure)>,
    /// Digests of the traces, by seed and whether there are impostors.
    digests: BTreeMap<(u64, bool), u64>,
}

fn many(options: &Options) -> bool {
    let start = Instant::now();
    let mut wrong = false;
    if options.ci {
        wrong |= regressions(options);
    }
    let mut seeds = vec![(options.from, options.seeds, options.hostile)];
    if options.ci {
        seeds.push((DIRECTED, ci::CI_DIRECTED_SEEDS, false));
        seeds.push((FULL, ci::CI_FULL_SEEDS, false));
        seeds.push((SETTINGS, ci::CI_SETTINGS_SEEDS, false));
        seeds.push((PATIENCE, ci::CI_PATIENCE_SEEDS, false));
        seeds.push((VERIFY, ci::CI_VERIFY_SEEDS, false));
        seeds.push((FENCING, ci::CI_FENCING_SEEDS, false));
        seeds.push((SNAPSHOTS, ci::CI_SNAPSHOT_SEEDS, false));
        seeds.push((0, ci::CI_HOSTILE_SEEDS, true));
    }
    let sum = Mutex::new(Sum::default());
    let jobs = jobs(options);
    for (from, seeds, hostile) in seeds {
        let next = AtomicU64::new(from);
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| work(&next, from + seeds, hostile, &sum, options));
            }
        });
    }
    let mut sum = sum.into_inner().unwrap_or_else(|e| e.into_inner());
    sum.failures.sort_by_key(|(plan, _)| plan.seed);
    if options.ci {
        wrong |= judge_coverage(&sum.coverage);
        set_open_apart(&mut sum.failures);
    }
    for (plan, failure) in &sum.failures {
        report(plan, failure, options, true);
    }
    if options.coverage {
        print!("{}", sum.coverage);
    }
    if options.digest {
        print_digests(&sum.digests);
    }
    let seconds = start.elapsed().as_secs_f64();
    // What a core does in a second, however many others use the machine.
    let core_seconds = match sum.cpu_ns {
        0 => seconds * jobs as f64,
        ns => ns as f64 / 1e9,
    };
    println!(
        "{} seeds from {}, {} failed; {seconds:.1} s with {jobs} at a time: {:.1} ms a seed a core; {} engine events",
        sum.done,
        options.from,
        sum.failures.len(),
        core_seconds * 1000.0 / sum.done.max(1) as f64,
        sum.events,
    );
    println!(
        "simulated: {} s of storms, {} s with the repairs; {:.0} and {:.0} a second a core",
        sum.storm_us / 1_000_000,
        sum.total_us / 1_000_000,
        sum.storm_us as f64 / 1e6 / core_seconds,
        sum.total_us as f64 / 1e6 / core_seconds,
    );
    if !sum.failures.is_empty() {
        let seeds: Vec<String> = sum
            .failures
            .iter()
            .map(|(p, _)| p.seed.to_string())
            .collect();
        println!("failed seeds: {}", seeds.join(" "));
    }
    wrong || !sum.failures.is_empty()
}

fn print_digests(digests: &BTreeMap<(u64, bool), u64>) {
    let mut all = DefaultHasher::new();
    for ((seed, hostile), digest) in digests {
        let kind = if *hostile { " --hostile" } else { "" };
        println!("{seed}{kind} {digest:016x}");
        digest.hash(&mut all);
    }
    println!("digest of {} traces: {:016x}", digests.len(), all.finish());
}

/// Seeds that once failed must not again.
fn regressions(options: &Options) -> bool {
    let known = ci::regressions();
    let failed = known.iter().filter(|known| {
        let plan = known.plan();
        let failure = plan.run(false).failure;
        if let Some(failure) = &failure {
            println!("a mistake is back: {}", known.story);
            report(&plan, failure, options, true);
        }
        failure.is_some()
    });
    let failed = failed.count();
    println!(
        "{} seeds that once failed: {failed} failed again",
        known.len()
    );
    failed > 0
}

fn judge_coverage(coverage: &Coverage) -> bool {
    let missing = ci::missing(coverage);
    for name in &missing {
        println!("never reached: {name}");
    }
    !missing.is_empty()
}

/// Known mistakes that are not mended yet are told of, and nothing else.
fn set_open_apart(failures: &mut Vec<(Plan, Failure)>) {
    let open = ci::open();
    let known = |plan: &Plan| {
        let same = |known: &&ci::Known| known.seed == plan.seed && known.hostile == plan.hostile;
        open.iter().filter(same).any(|known| !known.plain)
    };
    for known in &open {
        let still = known.plan().run(false).failure.is_some();
        let how = if still {
            "fails still"
        } else {
            "does not fail: see open.txt"
        };
        println!("open: seed {} {how}", known.seed);
    }
    failures.retain(|(plan, _)| !known(plan));
}

fn work(next: &AtomicU64, end: u64, hostile: bool, sum: &Mutex<Sum>, options: &Options) {
    loop {
        let nr = next.fetch_add(1, Ordering::Relaxed);
        if nr >= end {
            let mut sum = sum.lock().unwrap_or_else(|e| e.into_inner());
            sum.cpu_ns += cpu_ns().unwrap_or(0);
            return;
        }
        let plan = match hostile {
            true => Plan::hostile_of_seed(nr),
            false => Plan::of_seed(nr),
        };
        let outcome = plan.run(options.digest);
        let digest = options.digest.then(|| outcome.digest());
        let mut sum = sum.lock().unwrap_or_else(|e| e.into_inner());
        sum.digests
            .extend(digest.map(|digest| ((nr, hostile), digest)));
        sum.coverage.add(&outcome.coverage);
        sum.storm_us += outcome.storm_us;
        sum.total_us += outcome.total_us;
        sum.events += outcome.events;
        sum.done += 1;
        if let Some(failure) = outcome.failure {
            sum.failures.push((plan, failure));
            if sum.failures.len() >= options.failures {
                next.store(end, Ordering::Relaxed);
            }
        }
    }
}

/// Processor time of this thread so far, where the system tells it.
fn cpu_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}
