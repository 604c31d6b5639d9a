//! What has happened, the newest below.

use super::text::{Line, Tone, clock, cut, span};
use crate::model::{Entry, Model};

/// The newest entries that are wanted, at most so many.
pub(super) fn newest(
    model: &Model,
    most: usize,
    is_wanted: impl Fn(&Entry) -> bool,
) -> Vec<&Entry> {
    let wanted = model.journal.entries().rev().filter(|e| is_wanted(e));
    let mut all: Vec<&Entry> = wanted.take(most).collect();
    all.reverse();
    all
}

/// A line for one.
pub(super) fn line(entry: &Entry, width: usize) -> Line {
    let about = match entry.about.as_str() {
        "" => String::new(),
        about => format!("{about}: "),
    };
    let text = format!("{about}{}", entry.text);
    vec![
        span(Tone::Dim, format!("{} ", clock(entry.at_s))),
        span(Tone::Plain, cut(&text, width.saturating_sub(10))),
    ]
}

/// The newest of all, at most so many; that there are none, otherwise.
pub(super) fn lines(model: &Model, width: usize, most: usize) -> Vec<Line> {
    let all = newest(model, most, |_| true);
    if all.is_empty() {
        let text = "Nothing has happened since the monitor was started.";
        return vec![super::text::plain(cut(text, width))];
    }
    all.into_iter().map(|entry| line(entry, width)).collect()
}
