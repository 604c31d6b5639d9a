//! What monitors are told: `metrics` and `check`.

use rdb_control::{Presence, StatusReport, presence};
use rdb_watch::{Level, Seen, check, openmetrics};

use super::{Command, main, table};
use crate::out;
use crate::step::Family;

/// The name that monitors call a plugin by.
const PLUGIN: &str = "check_rdb";

/// `check_rdb`: `rdbadm check` for who calls a plugin by its name. A command line that is wrong is UNKNOWN, on standard output, where
/// monitors look for it.
pub(crate) fn check_rdb(mut words: Vec<String>) -> u8 {
    words.insert(0, "check".to_owned());
    let argv = std::iter::once(PLUGIN.to_owned()).chain(words.iter().cloned());
    let asks_version = words.iter().any(|word| word == "--version" || word == "-V");
    match table::command(PLUGIN).try_get_matches_from(argv) {
        Err(error) if error.use_stderr() && !asks_version => {
            let text = error.render().to_string();
            let why = first_line(text.trim_start_matches("error: "));
            out::print(&format!("RDB UNKNOWN: {why} (see rdbadm help check)\n"));
            Level::Unknown.exit_code()
        }
        _ => main(PLUGIN, Family::Rdb, words),
    }
}

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
