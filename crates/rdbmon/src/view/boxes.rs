//! What stands before the rest of the screen.

use rdb_watch::{Choice, Stake};

use super::text::{Line, Tone, length, line, plain, span, wrap};
use crate::model::{Dialog, Model};

/// A box: its title, all its lines, and whether they can be moved through.
pub(super) struct Content {
    pub(super) title: String,
    pub(super) lines: Vec<Line>,
    /// The line that has to be seen, if one has to.
    pub(super) mark: Option<usize>,
}

/// What a dialog shows in lines of this width.
pub(super) fn content(model: &Model, dialog: &Dialog, width: usize) -> Content {
    let of = |title: &str, lines| Content {
        title: title.to_owned(),
        lines,
        mark: None,
    };
    match dialog {
        Dialog::Help => of("Help", help(width)),
        Dialog::Menu { about, choices, at } => {
            let title = about.as_deref().unwrap_or("This node");
            Content {
                title: title.to_owned(),
                lines: menu(choices, *at, width),
                mark: Some(*at),
            }
        }
        Dialog::Confirm { choice, typed, .. } => {
            let lines = confirm(choice, typed, width);
            Content {
                title: "Do it?".to_owned(),
                // What is asked is seen, however little room there is.
                mark: lines.len().checked_sub(1),
                lines,
            }
        }
        Dialog::Runs {
            command,
            since_s,
            is_interrupted,
        } => {
            let mut lines = wrapped(Tone::Strong, command, width);
            let time = length(model.now_s().saturating_sub(*since_s));
            lines.push(plain(match is_interrupted {
                true => format!("is told to end; {time}"),
                false => format!("runs, for {time}; Esc ends it"),
            }));
            of("Running", lines)
        }
        Dialog::Said { title, lines } => {
            let lines = lines.iter().flat_map(|text| match text.as_str() {
                "" => vec![Vec::new()],
                text => wrapped(Tone::Plain, text, width),
            });
            of(title, lines.collect())
        }
    }
}

fn wrapped(tone: Tone, text: &str, width: usize) -> Vec<Line> {
    let lines = wrap(text, width).into_iter();
    lines.map(|text| line(tone, text)).collect()
}

fn help(width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for (keys, what) in rdb_watch::MONITOR_KEYS {
        lines.extend(super::text::hang(
            span(Tone::Strong, format!("{keys:<22} ")),
            what,
            width,
        ));
    }
    lines.push(Vec::new());
    let words = "CRITICAL: users are not served, or nothing gets better by itself. WARNING: users are served, and something is not as it \
                 should be. What is known is asked of the daemon every second, and what happens is told at once. Commands are rdbadm's.";
    lines.extend(wrapped(Tone::Plain, words, width));
    lines
}

fn menu(choices: &[Choice], at: usize, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for (nr, choice) in choices.iter().enumerate() {
        let (mark, tone) = match nr == at {
            true => (">", Tone::Marked),
            false => (" ", Tone::Plain),
        };
        let mut entry = vec![span(tone, format!("{mark} {}", choice.command))];
        if choice.stake == Stake::Data {
            entry.push(span(Tone::Bad, "  data may be lost"));
        }
        lines.push(entry);
    }
    lines.push(Vec::new());
    if let Some(choice) = choices.get(at) {
        lines.extend(wrapped(Tone::Plain, &choice.means, width));
    }
    lines
}

fn confirm(choice: &Choice, typed: &str, width: usize) -> Vec<Line> {
    let mut lines = wrapped(Tone::Strong, &choice.command, width);
    lines.push(Vec::new());
    lines.extend(wrapped(Tone::Plain, &choice.means, width));
    lines.push(Vec::new());
    match choice.stake {
        Stake::Data => {
            let words = "Data, or requests of users, may be lost. Type yes and Enter to do it; Esc leaves it.";
            lines.extend(wrapped(Tone::Bad, words, width));
            lines.push(plain(format!("> {typed}_")));
        }
        Stake::Service | Stake::Nothing => lines.push(plain("y: do it   n: leave it")),
    }
    lines
}
