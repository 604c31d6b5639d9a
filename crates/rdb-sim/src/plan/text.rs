//! How a plan is shown.

use std::fmt;

use rdb_engine::config::ResourceOptions;

use super::{Plan, Step};

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, us) = (self.pause_us / 1000, self.pause_us % 1000);
        write!(
            f,
            "{:>3}  after {ms:>5}.{us:03} ms  {:?}",
            self.nr, self.action
        )
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.setup;
        writeln!(
            f,
            "seed {}: protocol {:?}, {} resource(s) of {} volume(s) of {} sectors{}{}",
            self.seed,
            s.net.protocol,
            s.resources,
            s.volumes,
            s.sectors,
            if s.skip_sync {
                ", first sync skipped"
            } else {
                ""
            },
            if s.wait_sync { ", waits for it" } else { "" },
        )?;
        let digests = [
            (s.net.integrity_alg, "data-integrity-alg"),
            (s.net.csums_alg, "csums-alg"),
        ];
        for (algorithm, option) in digests {
            if let Some(algorithm) = algorithm {
                writeln!(f, "  {option} {algorithm:?}")?;
            }
        }
        if s.resource != ResourceOptions::default() {
            writeln!(f, "  fencing {:?}, {:?}", s.disk.fencing, s.resource)?;
        }
        writeln!(f, "  {:?}", s.weather)?;
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        Ok(())
    }
}
