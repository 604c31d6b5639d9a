//! What the monitor knows and shows, without a terminal, a socket or a clock: each input changes it, and may order something.

mod dialog;
mod journal;
mod key;

use std::collections::BTreeMap;

use rdb_control::{GiReport, HistoryLine, ResourceReport, StatusReport, Told};
use rdb_watch::{Choice, Courses, Finding, Level, actions, findings, up_all};

pub(crate) use self::dialog::Dialog;
use self::dialog::Then;
pub(crate) use self::journal::{Entry, Journal};
pub(crate) use self::key::Key;

/// What comes from outside.
#[derive(Debug)]
pub(crate) enum Input {
    /// A key was typed.
    Key(Key),
    /// It is this late, in milliseconds since 1970.
    Time(u64),
    /// A daemon answers.
    State(Box<State>),
    /// None does, and why.
    Gone(String),
    /// Something has happened.
    Told(Box<Told>),
    /// The history of a resource.
    History(String, Vec<HistoryLine>),
    /// A command has ended.
    Done(Outcome),
}

/// How everything is.
#[derive(Debug)]
pub(crate) struct State {
    /// The daemon's version.
    pub(crate) version: String,
    /// The daemon does nothing but answer, for this user.
    pub(crate) asks_only: bool,
    /// The state.
    pub(crate) report: StatusReport,
    /// The generation identifiers of the volumes that were looked at, by minor number.
    pub(crate) generations: BTreeMap<u32, GiReport>,
}

/// What a command has come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// As it is typed.
    pub(crate) command: String,
    /// How it has ended: `done`, `exit code 17`, ...
    pub(crate) end: String,
    /// What it has printed.
    pub(crate) said: String,
}

/// What is to be done outside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// End.
    Quit,
    /// Look at this resource closely; at none.
    LookAt(Option<String>),
    /// Run it.
    Run(Choice),
    /// End what runs.
    Interrupt,
}

/// What is known of the daemon.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// It has not answered yet.
    Asked,
    /// It answers.
    There,
    /// It does not.
    Gone {
        /// Since when, in seconds since 1970.
        since_s: u64,
        /// Why.
        why: String,
    },
}

/// What fills the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// All resources.
    List,
    /// One of them.
    Details,
    /// What has happened.
    Events,
}

/// A resource in the list.
#[derive(Debug)]
pub(crate) struct Row {
    /// It.
    pub(crate) resource: ResourceReport,
    /// How bad it is.
    pub(crate) level: Level,
    /// What is not as it should be, the worst first.
    pub(crate) findings: Vec<Finding>,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Model {
    /// The time, in milliseconds since 1970.
    pub(crate) now_ms: u64,
    pub(crate) daemon: Daemon,
    /// The daemon's version and the node's name, of the last one that has answered.
    pub(crate) version: String,
    pub(crate) node: String,
    pub(crate) asks_only: bool,
    /// When the rows were so, in seconds since 1970.
    pub(crate) seen_s: u64,
    /// The resources, the worst first.
    pub(crate) rows: Vec<Row>,
    pub(crate) journal: Journal,
    pub(crate) courses: Courses,
    pub(crate) generations: BTreeMap<u32, GiReport>,
    pub(crate) histories: BTreeMap<String, Vec<HistoryLine>>,
    pub(crate) place: Place,
    /// The resource that is marked in the list, and shown in its details.
    pub(crate) selected: Option<String>,
    /// The first line of the details, of the events and of a dialog's text that is shown.
    pub(crate) scroll: usize,
    pub(crate) dialog: Option<Dialog>,
    /// The first line of the dialog's text that is shown.
    pub(crate) dialog_scroll: usize,
    /// How many lines a page has.
    page: usize,
    /// Resources that are shown; all if there are none.
    pub(crate) only: Vec<String>,
}

impl Model {
    /// One that knows nothing yet.
    pub(crate) fn new(only: Vec<String>) -> Model {
        Model {
            now_ms: 0,
            daemon: Daemon::Asked,
            version: String::new(),
            node: String::new(),
            asks_only: false,
            seen_s: 0,
            rows: Vec::new(),
            journal: Journal::default(),
            courses: Courses::default(),
            generations: BTreeMap::new(),
            histories: BTreeMap::new(),
            place: Place::List,
            selected: None,
            scroll: 0,
            dialog: None,
            dialog_scroll: 0,
            page: 10,
            only,
        }
    }

    /// The time, in seconds since 1970.
    pub(crate) fn now_s(&self) -> u64 {
        self.now_ms / 1000
    }

    /// The row that is marked.
    pub(crate) fn selected_row(&self) -> Option<&Row> {
        let name = self.selected.as_ref()?;
        self.rows.iter().find(|row| row.resource.name == *name)
    }

    fn selected_index(&self) -> usize {
        let name = self.selected.as_ref();
        let is = |row: &Row| Some(&row.resource.name) == name;
        self.rows.iter().position(is).unwrap_or(0)
    }

    /// How much of it is shown: a page, and how far its text and that of a dialog can be moved.
    pub(crate) fn fits(&mut self, page: usize, scroll_max: usize, dialog_max: usize) {
        self.page = page.max(1);
        self.scroll = self.scroll.min(scroll_max);
        self.dialog_scroll = self.dialog_scroll.min(dialog_max);
    }

    /// Takes an input.
    pub(crate) fn handle(&mut self, input: Input) -> Vec<Order> {
        match input {
            Input::Key(key) => return self.on_key(key),
            Input::Time(now_ms) => self.now_ms = now_ms,
            Input::State(state) => self.on_state(*state),
            Input::Gone(why) => self.on_gone(why),
            Input::Told(told) => {
                let name = told.event.resource();
                if name.is_none_or(|name| self.is_shown(name)) {
                    self.journal.tell(&told);
                }
            }
            Input::History(name, lines) => drop(self.histories.insert(name, lines)),
            Input::Done(outcome) => self.on_done(outcome),
        }
        Vec::new()
    }

    fn is_shown(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    fn on_state(&mut self, state: State) {
        if let Daemon::Gone { .. } = self.daemon {
            self.journal.note(self.now_s(), "rdbd is there again");
        }
        self.daemon = Daemon::There;
        self.version = state.version;
        self.asks_only = state.asks_only;
        self.courses.note(self.now_ms, &state.report);
        self.node = state.report.node;
        self.seen_s = self.now_s();
        self.generations = state.generations;
        let mut rows: Vec<Row> = Vec::new();
        for resource in state.report.resources {
            if self.is_shown(&resource.name) {
                let findings = findings(&resource);
                let level = findings.first().map_or(Level::Ok, |finding| finding.level);
                rows.push(Row {
                    resource,
                    level,
                    findings,
                });
            }
        }
        rows.sort_by(|a, b| {
            let names = a.resource.name.cmp(&b.resource.name);
            b.level.cmp(&a.level).then(names)
        });
        self.rows = rows;
        if self.selected_row().is_none() {
            // What is shown in detail is shown on: it may come back.
            if self.place != Place::Details {
                self.selected = self.rows.first().map(|row| row.resource.name.clone());
            }
        }
        self.look_at_dialog();
    }

    fn on_gone(&mut self, why: String) {
        let since_s = match &self.daemon {
            Daemon::Gone { since_s, .. } => *since_s,
            Daemon::There => {
                self.journal
                    .note(self.now_s(), "rdbd does not answer any more");
                self.now_s()
            }
            Daemon::Asked => self.now_s(),
        };
        self.daemon = Daemon::Gone { since_s, why };
        self.look_at_dialog();
    }

    /// What is offered, or is to be confirmed, may not be what the state calls for any more.
    fn look_at_dialog(&mut self) {
        let (Some(Dialog::Menu { about, .. }) | Some(Dialog::Confirm { about, .. })) = &self.dialog
        else {
            return;
        };
        let now = self.offered(about.as_deref());
        let not_offered = match &mut self.dialog {
            Some(Dialog::Menu { choices, at, .. }) => {
                let marked = choices.get(*at).map(|choice| choice.lines.clone());
                let same = now.iter().position(|c| Some(&c.lines) == marked.as_ref());
                *at = same.unwrap_or(0);
                *choices = now;
                return;
            }
            Some(Dialog::Confirm { choice, .. }) => {
                let command = choice.command.clone();
                match now.into_iter().find(|other| other.lines == choice.lines) {
                    Some(same) => {
                        *choice = same;
                        return;
                    }
                    None => command,
                }
            }
            _ => return,
        };
        let words =
            "The state has changed meanwhile, and this is not offered in it. Nothing was done.";
        let lines = [not_offered.as_str(), "", words];
        self.say("Not done", lines.map(str::to_owned).to_vec());
    }

    /// What can be done about a resource, or the node.
    fn offered(&self, about: Option<&str>) -> Vec<Choice> {
        let gone = self.daemon != Daemon::There;
        let row = about.and_then(|name| self.rows.iter().find(|r| r.resource.name == name));
        match row {
            Some(row) if !gone => actions(&row.resource),
            _ => vec![up_all()],
        }
    }

    fn say(&mut self, title: &str, lines: Vec<String>) {
        self.dialog_scroll = 0;
        self.dialog = Some(Dialog::Said {
            title: title.to_owned(),
            lines,
        });
    }

    fn on_done(&mut self, outcome: Outcome) {
        let Outcome { command, end, said } = outcome;
        self.journal
            .note(self.now_s(), &format!("{command}: {end}"));
        let mut lines = vec![command, String::new()];
        lines.extend(said.lines().map(|line| line.replace('\t', "    ")));
        if lines.len() > 2 {
            lines.push(String::new());
        }
        lines.push(end.clone());
        self.say(&end, lines);
    }

    fn on_key(&mut self, key: Key) -> Vec<Order> {
        if key == Key::Interrupt {
            return vec![Order::Quit];
        }
        if let Some(dialog) = &mut self.dialog {
            let then = dialog.on_key(key);
            return self.after_dialog(then, key);
        }
        match key {
            Key::Char('q') => return vec![Order::Quit],
            Key::Char('?') => self.open(Dialog::Help),
            Key::Char('a') => self.open_menu(),
            Key::Char('e') => {
                let was_details = self.place == Place::Details;
                self.go_to(Place::Events);
                // The newest stand below.
                self.scroll = usize::MAX;
                if was_details {
                    return vec![Order::LookAt(None)];
                }
            }
            Key::Back | Key::Backspace => {
                if self.place == Place::List {
                    return Vec::new();
                }
                self.go_to(Place::List);
                if self.selected_row().is_none() {
                    self.selected = self.rows.first().map(|row| row.resource.name.clone());
                }
                return vec![Order::LookAt(None)];
            }
            Key::Enter if self.place == Place::List && self.selected_row().is_some() => {
                self.go_to(Place::Details);
                return vec![Order::LookAt(self.selected.clone())];
            }
            key => match self.place {
                Place::List => self.move_mark(key),
                Place::Details | Place::Events => scroll(&mut self.scroll, key, self.page),
            },
        }
        Vec::new()
    }

    fn after_dialog(&mut self, then: Then, key: Key) -> Vec<Order> {
        match then {
            Then::Stay => {}
            Then::Close => self.dialog = None,
            Then::Show(next) => self.open(next),
            Then::Scroll => scroll(&mut self.dialog_scroll, key, self.page),
            Then::Interrupt => return vec![Order::Interrupt],
            Then::Run(choice) => {
                self.dialog = Some(Dialog::Runs {
                    command: choice.command.clone(),
                    since_s: self.now_s(),
                    is_interrupted: false,
                });
                return vec![Order::Run(choice)];
            }
        }
        Vec::new()
    }

    fn open(&mut self, dialog: Dialog) {
        self.dialog_scroll = 0;
        self.dialog = Some(dialog);
    }

    fn open_menu(&mut self) {
        let about = match self.place {
            Place::List | Place::Details => self.selected.clone(),
            Place::Events => None,
        };
        let choices = self.offered(about.as_deref());
        self.open(Dialog::Menu {
            about,
            choices,
            at: 0,
        });
    }

    fn go_to(&mut self, place: Place) {
        self.place = place;
        self.scroll = 0;
    }

    fn move_mark(&mut self, key: Key) {
        let mut at = self.selected_index();
        scroll(&mut at, key, self.page);
        let last = self.rows.len().saturating_sub(1);
        if let Some(row) = self.rows.get(at.min(last)) {
            self.selected = Some(row.resource.name.clone());
        }
    }
}

fn scroll(at: &mut usize, key: Key, page: usize) {
    *at = match key {
        Key::Up | Key::Char('k') => at.saturating_sub(1),
        Key::Down | Key::Char('j') => at.saturating_add(1),
        Key::PageUp => at.saturating_sub(page),
        Key::PageDown | Key::Char(' ') => at.saturating_add(page),
        Key::Home | Key::Char('g') => 0,
        Key::End | Key::Char('G') => usize::MAX,
        _ => *at,
    };
}

#[cfg(test)]
pub(crate) mod tests;
