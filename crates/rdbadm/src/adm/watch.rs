//! What monitors are told: `metrics` and `check`.

use rdb_control::{Presence, StatusReport, presence};
use rdb_watch::{Level, Seen, check, openmetrics};

use super::Command;
use crate::out;

impl Command<'_> {
    pub(super) fn metrics(&self) -> u8 {
        match self.executor().status() {
            Ok(Some(report)) => {
                let seen = Seen {
                    report: &report,
                    version: env!("CARGO_PKG_VERSION"),
                };
                out::print(&openmetrics(seen, None));
                0
            }
            Ok(None) => {
                out::print("# EOF\n");
                0
            }
            Err(trouble) => trouble.tell(self.program),
        }
    }

    /// The exit code is the plugins': 3 if the daemon cannot be asked, and 2 if there is none, for nobody serves then.
    pub(super) fn check(&self) -> u8 {
        let mut executor = self.executor();
        let answer = executor.status();
        let has_died = || matches!(presence(&executor.run_dir), Presence::Left { .. });
        let (level, text) = match answer {
            Ok(Some(report)) => verdict(&report, &self.objects()),
            Ok(None) => (
                Level::Critical,
                "RDB CRITICAL: rdbd does not run\n".to_owned(),
            ),
            Err(_) if has_died() => (
                Level::Critical,
                "RDB CRITICAL: rdbd has died, and does not run\n".to_owned(),
            ),
            Err(trouble) => (
                Level::Unknown,
                format!("RDB UNKNOWN: {}\n", first_line(&trouble.message)),
            ),
        };
        out::print(&text);
        level.exit_code()
    }
}

fn verdict(report: &StatusReport, objects: &[String]) -> (Level, String) {
    let all = objects.iter().any(|name| name == "all");
    let names = if all { &[] } else { objects };
    let found = check(report, names);
    (found.level, found.text)
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.replace('|', " ")
}
