//! `status --watch`: the report again whenever it has changed, until the command is interrupted.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdb_control::{Client, ClientError, ResourceReport, utc};
use serde_json::Value;

use crate::exec::{Executor, Trouble};
use crate::out;
use crate::screen::Screen;
use crate::status_text::Detail;
use crate::{status_json, status_reasons, status_text};

/// What is watched, and how it is told.
pub(super) struct Watched {
    /// Resources; none for all.
    pub(super) names: Vec<String>,
    pub(super) form: Form,
    /// How long figures and the progress of a resync are left alone. (What happens is told at once.)
    pub(super) interval: Duration,
}

/// How it is told.
pub(super) enum Form {
    Text(Detail),
    /// What is not well alone.
    Ills,
    /// A document a line.
    Json,
}

/// How long a daemon that is not there is waited for until it is looked for again.
const NOBODY: Duration = Duration::from_millis(500);
/// What happens within so long is told at once.
const MOMENT: Duration = Duration::from_millis(50);

/// Watches. It ends with an error that does not pass; the result is the exit status.
pub(super) fn run(executor: &Executor, watched: &Watched) -> u8 {
    out::must_be_open(&executor.program);
    let screen = match watched.form {
        Form::Json => Ok(None),
        Form::Text(_) | Form::Ills => Screen::begin().transpose(),
    };
    let screen = match screen {
        Ok(screen) => screen,
        Err(error) => {
            let words = format!("can not take the terminal over: {error}");
            return Trouble::new(words).tell(&executor.program);
        }
    };
    let mut teller = Teller {
        executor,
        watched,
        screen,
        told: None,
    };
    let trouble = teller.watch();
    // The screen is as it was before anything is said.
    drop(teller);
    trouble.tell(&executor.program)
}

/// Who tells it.
struct Teller<'a> {
    executor: &'a Executor,
    watched: &'a Watched,
    screen: Option<Screen>,
    /// What was told last.
    told: Option<String>,
}

impl Teller<'_> {
    fn watch(&mut self) -> Trouble {
        loop {
            match self.attend() {
                // Another daemon takes its place, or why there is none is said when it is looked for.
                Err(Lost::Passing(ClientError::Closed)) => thread::sleep(MOMENT),
                Err(Lost::Passing(error)) => {
                    self.tell_of_none(&error);
                    thread::sleep(NOBODY);
                }
                Err(Lost::ForGood(trouble)) => return trouble,
                Ok(()) => {}
            }
        }
    }

    /// Tells how it is while one daemon is there.
    fn attend(&mut self) -> Result<(), Lost> {
        let Executor {
            run_dir, limits, ..
        } = self.executor;
        let mut asked = Client::connect_within(run_dir, *limits)?;
        self.executor.is_meant(&asked).map_err(Lost::ForGood)?;
        let mut stream = Client::connect_within(run_dir, *limits)?.events(None, false)?;
        loop {
            let report = asked.status()?;
            self.tell(&report.node, &report.resources);
            let begun = Instant::now();
            if stream.next(self.watched.interval)?.is_some() {
                while begun.elapsed() < self.watched.interval && stream.next(MOMENT)?.is_some() {}
            }
        }
    }

    fn tell(&mut self, node: &str, resources: &[ResourceReport]) {
        let text = self.watched.text(resources);
        let head = format!("{node}, {}", now());
        if let Some(screen) = &self.screen {
            screen.show(&format!("{head}; ^C ends\n\n{text}"));
        } else if self.told.as_ref() != Some(&text) {
            match self.watched.form {
                Form::Json => out::print(&text),
                Form::Text(_) | Form::Ills => out::print(&format!("--- {head}\n{text}")),
            }
        }
        self.told = Some(text);
    }

    fn tell_of_none(&mut self, error: &ClientError) {
        let text = format!("{error}\nIt is waited for.\n");
        if let Some(screen) = &self.screen {
            screen.show(&format!("{}; ^C ends\n\n{text}", now()));
        } else if self.told.as_ref() != Some(&text) {
            match self.watched.form {
                Form::Json => out::error(text.trim_end()),
                Form::Text(_) | Form::Ills => out::print(&format!("--- {}\n{text}", now())),
            }
        }
        self.told = Some(text);
    }
}

/// Why a daemon is watched no more.
enum Lost {
    /// There may be one again.
    Passing(ClientError),
    /// It is no use to wait.
    ForGood(Trouble),
}

impl From<ClientError> for Lost {
    fn from(error: ClientError) -> Lost {
        match error {
            ClientError::NoDaemon { .. }
            | ClientError::Left { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Stuck { .. }
            | ClientError::TooLong { .. }
            | ClientError::TakenBack { .. }
            | ClientError::Io { .. }
            | ClientError::Closed
            | ClientError::Ended { .. } => Lost::Passing(error),
            ClientError::Denied { .. }
            | ClientError::AsksOnly { .. }
            | ClientError::BadReply { .. }
            | ClientError::Version { .. }
            | ClientError::Error(_)
            | ClientError::Refused(_) => Lost::ForGood(error.into()),
        }
    }
}

impl Watched {
    /// How it is, in the form that was asked for. A resource that is not there may come.
    fn text(&self, resources: &[ResourceReport]) -> String {
        let (chosen, missing) = choose(resources, &self.names);
        let mut text = String::new();
        match self.form {
            Form::Json => return one_line(&status_json::json(&chosen)),
            Form::Text(detail) => {
                for resource in chosen {
                    text += &status_text::text(resource, detail);
                }
            }
            Form::Ills => {
                for ill in status_reasons::ills(&chosen) {
                    text += &format!("{ill}\n");
                }
            }
        }
        for name in missing {
            text += &format!("{name}: No such resource\n");
        }
        text
    }
}

/// The resources of these names, of all if there are none; and the names that none has.
pub(super) fn choose<'a>(
    resources: &'a [ResourceReport],
    words: &[String],
) -> (Vec<&'a ResourceReport>, Vec<String>) {
    if words.is_empty() || words.iter().any(|word| word == "all") {
        return (resources.iter().collect(), Vec::new());
    }
    let mut missing = Vec::new();
    let mut chosen = Vec::new();
    for word in words {
        match resources.iter().find(|r| r.name == *word) {
            Some(resource) => chosen.push(resource),
            None => missing.push(word.clone()),
        }
    }
    (chosen, missing)
}

/// A JSON document without breaks.
fn one_line(json: &str) -> String {
    let value: Value = serde_json::from_str(json).expect("it was just made");
    format!("{value}\n")
}

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    utc(since.map_or(0, |since| since.as_secs()))
}

#[cfg(test)]
mod tests {
    use rdb_control::samples;

    use super::*;

    fn watched(names: &[&str], form: Form) -> Watched {
        Watched {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            form,
            interval: Duration::from_secs(1),
        }
    }

    #[test]
    fn each_form_has_what_was_asked_for() {
        let mut bad = samples::good_volume();
        bad.peer_disk = rdb_control::DiskState::Diskless;
        let resources = [
            samples::resource("r0", vec![samples::good_volume()]),
            samples::resource("r1", vec![bad]),
        ];
        let plain = Detail {
            verbose: false,
            statistics: false,
            color: false,
        };
        let text = watched(&[], Form::Text(plain)).text(&resources);
        assert!(text.contains("r0 role:Primary") && text.contains("r1 role:Primary"));
        let text = watched(&["r1", "r9"], Form::Text(plain)).text(&resources);
        assert!(!text.contains("r0 "), "{text}");
        assert!(text.ends_with("r9: No such resource\n"), "{text}");
        let json = watched(&["r0"], Form::Json).text(&resources);
        assert_eq!((json.lines().count(), json.ends_with("]\n")), (1, true));
        assert_eq!(watched(&["r0"], Form::Ills).text(&resources), "");
        assert!(!watched(&["r1"], Form::Ills).text(&resources).is_empty());
    }
}
