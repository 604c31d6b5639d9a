//! What is printed of objects: a line for each that is there, is made, changes or goes.

use serde_json::{Map, Value as Json};

use super::objects::{Kind, Object, Told, Value, View, Word};
use crate::status_text;

/// How lines are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) view: View,
    pub(super) timestamps: bool,
    /// Old and new values.
    pub(super) is_diff: bool,
    pub(super) color: bool,
    pub(super) is_json: bool,
}

/// A word of a line, with what it said before if that is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    word: Word,
    old: Option<String>,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    action: &'static str,
    object: &'static str,
    names: Vec<Word>,
    words: Vec<Shown>,
}

/// What a word said of an object that is new.
const UNKNOWN: &str = "UNKNOWN";

impl Style {
    /// A line of an object that is there, or was made: all of it.
    pub(super) fn whole(&self, action: &'static str, object: &Object) -> Line {
        let shown = |word: &Word| {
            let is_told = self.is_diff && word.told == Told::State;
            Shown {
                word: word.clone(),
                old: is_told.then(|| UNKNOWN.to_owned()),
            }
        };
        Line {
            action,
            object: object.kind.as_str(),
            names: object.names.clone(),
            words: object.words.iter().map(shown).collect(),
        }
    }

    /// A line of an object that has gone.
    pub(super) fn gone(&self, object: &Object) -> Line {
        let mut names = object.names.clone();
        if self.view.is_full && object.kind == Kind::Device {
            names.retain(|word| word.key != "minor");
        }
        Line {
            action: "destroy",
            object: object.kind.as_str(),
            names,
            words: Vec::new(),
        }
    }

    /// The lines that lead from `old` objects to `new` ones. `with_figures`: figures alone are a change, too.
    pub(super) fn between(&self, old: &[Object], new: &[Object], with_figures: bool) -> Vec<Line> {
        let is_same = |a: &Object, b: &Object| a.kind == b.kind && a.names == b.names;
        let mut gone: Vec<&Object> = old
            .iter()
            .filter(|old| !new.iter().any(|new| is_same(old, new)))
            .collect();
        // What belongs to something goes before it.
        gone.sort_by_key(|object| object.kind.goes_as());
        let mut lines: Vec<Line> = gone.into_iter().map(|object| self.gone(object)).collect();
        let mut new: Vec<&Object> = new.iter().collect();
        new.sort_by_key(|object| object.kind);
        for object in new {
            match old.iter().find(|old| is_same(old, object)) {
                None => lines.push(self.whole("create", object)),
                Some(before) => lines.extend(self.change(before, object, with_figures)),
            }
        }
        lines
    }

    fn change(&self, old: &Object, new: &Object, with_figures: bool) -> Option<Line> {
        let before = |word: &Word| {
            let found = old.words.iter().find(|old| old.key == word.key);
            found.filter(|old| old.value != word.value)
        };
        let counts = |word: &&Word| with_figures || word.told == Told::State;
        if !new
            .words
            .iter()
            .filter(counts)
            .any(|word| before(word).is_some())
        {
            return None;
        }
        let shown = |word: &Word| {
            let before = before(word);
            let is_told = before.is_some() || word.told == Told::Always || self.view.is_full;
            let old = before.filter(|_| self.is_diff && word.told == Told::State);
            is_told.then(|| Shown {
                word: word.clone(),
                old: old.map(|old| text(&old.value)),
            })
        };
        Some(Line {
            action: "change",
            object: new.kind.as_str(),
            names: new.names.clone(),
            words: new.words.iter().filter_map(shown).collect(),
        })
    }

    /// A line as it is printed, with its newline.
    pub(super) fn print(&self, line: &Line, at_us: u64) -> String {
        if self.is_json {
            return json(line, at_us);
        }
        let mut printed = self.begin(at_us) + line.action + " " + line.object;
        for word in &line.names {
            printed += &format!(" {}:{}", word.key, text(&word.value));
        }
        for Shown { word, old } in &line.words {
            let paint = |said: &str| match word.own {
                Some(own) => status_text::paint(said, own, self.color),
                None => said.to_owned(),
            };
            let old = old.as_ref();
            let old = old.map_or_else(String::new, |old| format!("{}->", paint(old)));
            printed += &format!(" {}:{old}{}", word.key, paint(&text(&word.value)));
        }
        printed.push('\n');
        printed
    }

    /// The line that ends what there is.
    pub(super) fn end_of_dump(&self, at_us: u64) -> String {
        match self.is_json {
            true => json_text(&[("event", "exists".into())], at_us),
            false => self.begin(at_us) + "exists -\n",
        }
    }

    /// The line that says that events were lost.
    pub(super) fn skipped(&self, count: u64, at_us: u64) -> String {
        match self.is_json {
            true => json_text(
                &[("event", "skipped".into()), ("count", count.into())],
                at_us,
            ),
            false => format!("{}- skipped {count}\n", self.begin(at_us)),
        }
    }

    fn begin(&self, at_us: u64) -> String {
        match self.timestamps {
            true => format!("{} ", timestamp(at_us)),
            false => String::new(),
        }
    }
}

/// A call of a handler, or its end with what `wait` tells of it.
pub(super) fn helper(names: Vec<Word>, handler: &str, exit: Option<u8>) -> Line {
    let word = |key, value| Word {
        key,
        value,
        told: Told::State,
        own: None,
    };
    let mut names = names;
    names.push(word("helper", Value::Word(handler.to_owned())));
    let status = exit.map(|exit| u64::from(exit) << 8);
    let status = status.map(|status| Shown {
        word: word("status", Value::Number(status)),
        old: None,
    });
    Line {
        action: if status.is_some() { "response" } else { "call" },
        object: "helper",
        names,
        words: status.into_iter().collect(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Word(word) => word.clone(),
        Value::Number(number) => number.to_string(),
        Value::Switch(true) => "yes".to_owned(),
        Value::Switch(false) => "no".to_owned(),
    }
}

/// An instant with its microseconds, in UTC.
fn timestamp(at_us: u64) -> String {
    let seconds = rdb_control::utc(at_us / 1_000_000);
    let seconds = seconds.trim_end_matches('Z');
    format!("{seconds}.{:06}+00:00", at_us % 1_000_000)
}

fn json(line: &Line, at_us: u64) -> String {
    let value = |value: &Value| match value {
        Value::Word(word) => Json::from(word.as_str()),
        Value::Number(number) => Json::from(*number),
        Value::Switch(switch) => Json::from(*switch),
    };
    let mut members = vec![
        ("event", line.action.into()),
        ("object", line.object.into()),
    ];
    members.extend(line.names.iter().map(|word| (word.key, value(&word.value))));
    let mut before = Map::new();
    for Shown { word, old } in &line.words {
        members.push((word.key, value(&word.value)));
        if let Some(old) = old {
            before.insert(word.key.to_owned(), Json::from(old.as_str()));
        }
    }
    if !before.is_empty() {
        members.push(("old", Json::Object(before)));
    }
    json_text(&members, at_us)
}

fn json_text(members: &[(&str, Json)], at_us: u64) -> String {
    let mut object = Map::new();
    object.insert("at".to_owned(), Json::from(timestamp(at_us)));
    for (key, value) in members {
        object.insert((*key).to_owned(), value.clone());
    }
    let mut text = Json::Object(object).to_string();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_has_microseconds() {
        assert_eq!(
            timestamp(1_795_877_530_000_042),
            "2026-11-28T14:52:10.000042+00:00"
        );
    }
}
