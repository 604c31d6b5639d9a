//! `cargo xtask sim`: many seeds, or one with everything told.

fn main() {
    let from: u64 = std::env::args()
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    let n: u64 = std::env::args()
        .nth(2)
        .and_then(|s| s.parse().ok())
        .unwrap_or(10);
    let mut total = rdb_sim::Coverage::default();
    let start = std::time::Instant::now();
    let (mut us, mut storm, mut events, mut bad) = (0, 0, 0, 0);
    for seed in from..from + n {
        let outcome = rdb_sim::Plan::of_seed(seed).run(n == 1);
        us += outcome.total_us;
        storm += outcome.storm_us;
        events += outcome.events;
        total.add(&outcome.coverage);
        for line in &outcome.transcript {
            println!("{:>12} {} {}", line.at.0 / 1000, line.node, line.text);
        }
        if let Some(f) = outcome.failure {
            bad += 1;
            println!(
                "seed {seed}: {} ({})",
                f.text.chars().take(300).collect::<String>(),
                f.place
            );
        }
    }
    let t = start.elapsed().as_secs_f64();
    if n > 1 {
        println!("{total}");
    }
    println!(
        "{bad} bad of {n}; {t:.1} s, {:.1} ms a seed; {:.0} sim s ({:.0} in storms), {:.0} per s, {events} events, {:.2} us an event",
        t * 1000.0 / n as f64,
        us as f64 / 1e6,
        storm as f64 / 1e6,
        storm as f64 / 1e6 / t,
        t * 1e6 / events as f64
    );
}
