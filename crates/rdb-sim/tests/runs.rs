//! The simulator itself: it repeats, it finds, it shrinks; and seeds that once failed do not any more.

use rdb_sim::crash_points::crash_points;
use rdb_sim::{Plan, ci};

#[test]
fn a_seed_replays_bit_for_bit() {
    for seed in [3, 17, 40] {
        let told = |_| {
            let outcome = Plan::of_seed(seed).run(true);
            let lines = outcome.transcript.into_iter();
            let lines: Vec<_> = lines.map(|l| (l.at, l.node, l.text)).collect();
            (outcome.events, lines)
        };
        let (first, second) = (told(1), told(2));
        assert!(first.1.len() > 100, "something happens");
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn a_plan_without_some_steps_keeps_the_others() {
    let plan = Plan::of_seed(5);
    let short = plan.with_steps(&[1, 4]);
    assert_eq!(short.steps, [plan.steps[1], plan.steps[4]]);
    assert_eq!(short.run(false).failure, None);
}

#[test]
fn a_node_may_lose_its_power_at_any_write() {
    for seed in [0, 3, 4] {
        let found = crash_points(seed, 11, None);
        assert!(found.runs > 100, "the plan writes: {} runs", found.runs);
        assert_eq!(found.failures, [], "seed {seed}");
    }
}

#[test]
fn seeds_that_once_failed_do_not_fail_again() {
    for known in ci::regressions() {
        let failure = known.plan().run(false).failure;
        assert_eq!(failure, None, "seed {}: {}", known.seed, known.story);
    }
}
