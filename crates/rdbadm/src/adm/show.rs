//! What runs: `status`, `overview`, `proc`.

use std::time::Duration;

use rdb_control::{Client, ResourceReport};

use super::select::{self, Selected};
use super::status_watch::{self, Form, Watched, choose};
use super::{Command, Configured};
use crate::events::Wanted;
use crate::exec::{Executor, Trouble};
use crate::status_text::Detail;
use crate::step::escape;
use crate::verbs::Target;
use crate::watchdog::Watchdog;
use crate::{events, out, status_json, status_reasons, status_text};

impl Command<'_> {
    /// `status` asks only the daemon: it shows what runs, whatever the files say.
    pub(super) fn status(&self) -> u8 {
        if self.has("dry-run") {
            return self.status_steps();
        }
        if let Some(seconds) = self.args.get_one::<u32>("watch") {
            return self.watch_status(*seconds);
        }
        if self.has("check") {
            return check(&mut self.executor(), &self.objects());
        }
        let detail = self.detail();
        let mut executor = self.executor();
        show_status(&mut executor, &self.objects(), detail, self.has("json"))
    }

    fn detail(&self) -> Detail {
        Detail {
            verbose: self.has("verbose"),
            statistics: self.has("statistics"),
            color: self.wants_color(),
        }
    }

    fn watch_status(&self, seconds: u32) -> u8 {
        let form = if self.has("check") {
            Form::Ills
        } else if self.has("json") {
            Form::Json
        } else {
            Form::Text(self.detail())
        };
        let watched = Watched {
            names: self.objects(),
            form,
            interval: Duration::from_secs(seconds.into()),
        };
        status_watch::run(&self.executor(), &watched)
    }

    /// What would be asked for: one resource of the configuration after the other.
    fn status_steps(&self) -> u8 {
        let configured = match self.configured() {
            Ok(configured) => configured,
            Err(code) => return code,
        };
        let Configured { config, node, .. } = &configured;
        match select::select(config, node, "status", Target::Optional, &self.objects()) {
            Ok(selected) => {
                let program = self.family.program("setup");
                for Selected { resource, .. } in selected {
                    out::line(&format!("{program} status {}", escape(&resource.name)));
                }
                0
            }
            Err(error) => {
                out::error(&error.to_string());
                1
            }
        }
    }

    fn wants_color(&self) -> bool {
        match self.args.get_one::<String>("color").map(String::as_str) {
            Some("always") => true,
            Some("never") => false,
            _ => out::has_color(),
        }
    }

    /// `events2`, too, asks only the daemon.
    pub(super) fn events2(&self) -> u8 {
        let wanted = Wanted {
            resources: self.objects(),
            now: self.has("now"),
            poll: self.has("poll"),
            full: self.has("full"),
            timestamps: self.has("timestamps"),
            statistics: self.has("statistics"),
            diff: self.has("diff"),
            color: self.wants_color(),
            json: self.has("json"),
        };
        if self.has("dry-run") {
            let mut words = vec![
                self.family.program("setup").to_owned(),
                "events2".to_owned(),
            ];
            words.extend(wanted.words());
            out::line(&words.join(" "));
            return 0;
        }
        events::run(&self.executor(), &wanted)
    }

    pub(super) fn overview(&self) -> u8 {
        match self.executor().status() {
            Ok(Some(report)) => {
                out::print(&status_text::overview(&report));
                0
            }
            Ok(None) => 0,
            Err(trouble) => trouble.tell(self.program),
        }
    }

    pub(super) fn proc(&self) -> u8 {
        let executor = self.executor();
        let path = executor.run_dir.join(rdb_control::STATUS_NAME);
        // A daemon that is stopped, or dead, does not serve the file: who reads it waits in the kernel. It is asked first, by whoever
        // may ask.
        if let Err(error) = Client::connect_within(&executor.run_dir, executor.limits)
            && error.is_in_the_dark()
        {
            return Trouble::from(error).tell(self.program);
        }
        let limit = executor.limits.short;
        let _watchdog = Watchdog::start(limit, &format!("{} proc", self.program));
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                out::print(&text);
                0
            }
            Err(error) => {
                out::error(&format!(
                    "Could not read {}: {error}\nIs rdbd running?",
                    path.display()
                ));
                20
            }
        }
    }
}

/// `status` of `rdbadm` and `rdbsetup`.
pub(crate) fn show_status(
    executor: &mut Executor,
    words: &[String],
    detail: Detail,
    json: bool,
) -> u8 {
    let report = match executor.status() {
        Ok(report) => report,
        Err(trouble) => return trouble.tell(&executor.program),
    };
    let resources = report.map(|r| r.resources).unwrap_or_default();
    let (chosen, code) = chosen(&resources, words);
    if json {
        out::print(&status_json::json(&chosen));
    } else {
        for resource in chosen {
            out::print(&status_text::text(resource, detail));
        }
    }
    code
}

/// The resources of these names, of all if there are none; and the exit status, for there may be no such resource.
fn chosen<'a>(resources: &'a [ResourceReport], words: &[String]) -> (Vec<&'a ResourceReport>, u8) {
    let (chosen, missing) = choose(resources, words);
    for word in &missing {
        out::error(&format!("{word}: No such resource"));
    }
    (chosen, if missing.is_empty() { 0 } else { 10 })
}

/// `status --check`: what is not well, a line each; 0 only if there is nothing of the kind and something that is well.
fn check(executor: &mut Executor, words: &[String]) -> u8 {
    let report = match executor.status() {
        Ok(report) => report,
        Err(trouble) => return trouble.tell(&executor.program),
    };
    let resources = report.map(|r| r.resources).unwrap_or_default();
    let (chosen, code) = chosen(&resources, words);
    if chosen.is_empty() && code == 0 {
        out::line("nothing is configured");
        return NOT_WELL;
    }
    let ills = status_reasons::ills(&chosen);
    for ill in &ills {
        out::line(ill);
    }
    code.max(if ills.is_empty() { 0 } else { NOT_WELL })
}

/// The exit status of a check that has found something: a monitor's "warning".
const NOT_WELL: u8 = 1;
