//! `events2`: what there is, then what happens to it, a line each (`docs/spec/admin.md`, section 4.9). The daemon tells it as a stream
//! (`rdb_control::Event`); what a line says is made of it here.

pub(crate) mod legacy;
mod lines;
mod model;
mod objects;

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdb_control::{Asker, Client, ClientError, Event, EventStream, Limits, Told};

use self::lines::{Line, Style};
use self::model::Model;
use self::objects::View;
use crate::exec::{Executor, Trouble};
use crate::out;
use crate::threads;

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Resources; none for all.
    pub(crate) resources: Vec<String>,
    /// `--now`: nothing of what happens.
    pub(crate) now: bool,
    /// `--poll`: standard input says when to look anew.
    pub(crate) poll: bool,
    /// `--full`: DRBD 9's words, all of them with each line.
    pub(crate) full: bool,
    pub(crate) timestamps: bool,
    pub(crate) statistics: bool,
    /// `--diff`: old and new values.
    pub(crate) diff: bool,
    pub(crate) color: bool,
    pub(crate) json: bool,
}

impl Wanted {
    /// The words that ask for it.
    pub(crate) fn words(&self) -> Vec<String> {
        let options = [
            (self.now, "--now"),
            (self.poll, "--poll"),
            (self.full, "--full"),
            (self.timestamps, "--timestamps"),
            (self.statistics, "--statistics"),
            (self.diff, "--diff"),
            (self.json, "--json"),
        ];
        let given = options.into_iter().filter(|(is_given, _)| *is_given);
        let mut words = match self.resources.is_empty() {
            true => vec!["all".to_owned()],
            false => self.resources.clone(),
        };
        words.extend(given.map(|(_, option)| option.to_owned()));
        words
    }
}

/// How long a look for a daemon that is not there waits for the next one.
const NOBODY: Duration = Duration::from_millis(500);
/// How long a stream is listened to without a break.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Prints it. The result is the exit status.
pub(crate) fn run(executor: &Executor, wanted: &Wanted) -> u8 {
    if !wanted.now {
        out::must_be_open(&executor.program);
    }
    let style = Style {
        view: View {
            is_full: wanted.full,
            figures: wanted.statistics || wanted.full,
        },
        timestamps: wanted.timestamps,
        is_diff: wanted.diff,
        color: wanted.color,
        is_json: wanted.json,
    };
    let printer = Printer {
        wanted,
        style,
        model: Model::new(style, wanted.poll),
        is_begun: false,
    };
    match printer.run(executor) {
        Ok(()) => 0,
        Err(trouble) => trouble.tell(&executor.program),
    }
}

struct Printer<'a> {
    wanted: &'a Wanted,
    style: Style,
    model: Model,
    /// What there is was printed once.
    is_begun: bool,
}

impl Printer<'_> {
    fn run(mut self, executor: &Executor) -> Result<(), Trouble> {
        let only = match self.wanted.resources.as_slice() {
            [one] if one != "all" => Some(one.clone()),
            _ => None,
        };
        let orders = Orders::default();
        if self.wanted.poll {
            let read = orders.clone().read();
            read.map_err(|error| Trouble::new(error.to_string()))?;
        }
        loop {
            if let Some(client) = connected(&executor.run_dir, executor.limits)? {
                executor.is_meant(&client)?;
                let stream = client.events(only.clone(), self.style.view.figures)?;
                match self.listen(stream, &orders) {
                    Ok(()) => return Ok(()),
                    // It was told to end, and has left nothing.
                    Err(ClientError::NoDaemon { .. } | ClientError::Ended { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
                self.tell(Told {
                    at_us: now_us(),
                    event: Event::Complete,
                });
            }
            // Nothing is configured. What comes is told when a daemon does.
            if !self.is_begun {
                out::print(&self.style.end_of_dump(now_us()));
                self.is_begun = true;
            }
            if self.wanted.now || orders.are_over() {
                return Ok(());
            }
            std::thread::sleep(NOBODY);
        }
    }

    fn listen(&mut self, mut stream: EventStream, orders: &Orders) -> Result<(), ClientError> {
        orders.pass_to(stream.asker()?);
        loop {
            match stream.next(PATIENCE) {
                Ok(Some(told)) => {
                    if self.tell(told) && self.wanted.now && !self.wanted.poll {
                        return Ok(());
                    }
                }
                Ok(None) => {}
                Err(ClientError::Closed) if orders.are_over() => return Ok(()),
                Err(ClientError::Closed) => {
                    self.model.begin_anew();
                    stream = stream.follow()?;
                    orders.pass_to(stream.asker()?);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Prints what an event comes to; whether what there is was told completely.
    fn tell(&mut self, told: Told) -> bool {
        let Told { at_us, event } = told;
        if let Some(name) = event.resource()
            && !self.is_wanted(name)
        {
            return false;
        }
        if let Event::Skipped { count } = event
            && self.is_begun
        {
            out::print(&self.style.skipped(count, at_us));
        }
        let is_complete = event == Event::Complete;
        let lines = self.model.apply(event);
        let only_dumps = self.wanted.now;
        if is_complete && (!self.is_begun || only_dumps) {
            let dump = self.model.dump();
            self.print(&dump, at_us);
            out::print(&self.style.end_of_dump(at_us));
            self.is_begun = true;
        } else if self.is_begun && !only_dumps {
            self.print(&lines, at_us);
        }
        is_complete
    }

    fn is_wanted(&self, name: &str) -> bool {
        let names = &self.wanted.resources;
        names.is_empty() || names.iter().any(|wanted| wanted == name || wanted == "all")
    }

    fn print(&self, lines: &[Line], at_us: u64) {
        let text: String = lines
            .iter()
            .map(|line| self.style.print(line, at_us))
            .collect();
        if !text.is_empty() {
            out::print(&text);
        }
    }
}

/// A client of the daemon; `None` if none runs, and none has left anything.
fn connected(run_dir: &Path, limits: Limits) -> Result<Option<Client>, ClientError> {
    match Client::connect_within(run_dir, limits) {
        Ok(client) => Ok(Some(client)),
        Err(ClientError::NoDaemon { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What standard input orders: for each `n` everything is told anew. Newlines do not matter; all else, and its end, ends the command
/// when what was asked for is told.
#[derive(Clone, Default)]
struct Orders {
    /// Whom they are passed to.
    asker: Arc<Mutex<Option<Asker>>>,
    are_over: Arc<AtomicBool>,
}

impl Orders {
    fn asker(&self) -> MutexGuard<'_, Option<Asker>> {
        self.asker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn are_over(&self) -> bool {
        self.are_over.load(Ordering::Acquire)
    }

    fn pass_to(&self, asker: Asker) {
        if self.are_over() {
            asker.enough();
        }
        *self.asker() = Some(asker);
    }

    fn read(self) -> std::io::Result<()> {
        threads::start(move || {
            for byte in std::io::stdin().lock().bytes() {
                match byte {
                    Ok(b'n') => {
                        if let Some(asker) = &mut *self.asker() {
                            // A daemon that has gone is followed by one that tells everything.
                            let _ = asker.again();
                        }
                    }
                    Ok(b'\n') => {}
                    _ => break,
                }
            }
            self.are_over.store(true, Ordering::Release);
            if let Some(asker) = &*self.asker() {
                asker.enough();
            }
        })?;
        Ok(())
    }
}

fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests;
