//! Completion of `rdbsetup`, by the table of commands and that of options.

use rdb_config::options::{self, Type};

use super::configured::Configured;
use super::{Answer, Candidate, nothing, plain};
use crate::setup::GLOBALS;
use crate::verbs::{self, VERBS, Verb};

/// What `typed` may become behind the words `before`.
pub(super) fn answer(before: &[String], typed: &str) -> Answer {
    let mut verb = None;
    let mut args = 0;
    let mut node = None;
    let mut open: Option<&str> = None;
    for word in before {
        if let Some(name) = open.take() {
            if name == "--node" {
                node = Some(word.as_str());
            }
        } else if GLOBALS.iter().any(|(name, _)| name == word) {
            open = Some(word);
        } else if let Some(name) = word.strip_prefix("--node=") {
            node = Some(name);
        } else if word.starts_with('-') && word.len() > 1 {
            // An option of the command, its value with it.
        } else if verb.is_none() {
            match verbs::of_setup(word) {
                Some(found) => verb = Some(found),
                None => return nothing(),
            }
        } else {
            args += 1;
        }
    }
    if let Some(name) = open {
        return global_values(name);
    }
    let Some(verb) = verb else {
        return match typed.starts_with('-') {
            true => plain(GLOBALS.map(|(name, _)| name)),
            false => plain(VERBS.iter().filter(|v| v.setup.is_some()).map(|v| v.name)),
        };
    };
    if let Some((name, _)) = typed.split_once('=').filter(|_| typed.starts_with("--")) {
        return plain(values(verb, name));
    }
    match typed.starts_with('-') {
        true => Answer::Words(options_of(verb)),
        false => argument(verb, args, node),
    }
}

fn global_values(name: &str) -> Answer {
    match name {
        "--run-dir" => Answer::Folders,
        "--node" => Answer::Words(Configured::read(None, None).hosts()),
        _ => nothing(),
    }
}

/// The options of a command: its own, and those of its section with `=`.
fn options_of(verb: &Verb) -> Vec<Candidate> {
    let Some(setup) = &verb.setup else {
        return Vec::new();
    };
    let own = setup.own.iter();
    let mut found: Vec<_> = own
        .map(|name| Candidate::new(format!("--{name}"), ""))
        .collect();
    let section = options::all().filter(|def| setup.section == Some(def.section));
    let section = section.filter(|def| def.ty != Type::Words9);
    found.extend(section.map(|def| Candidate::new(format!("--{}=", def.name), "")));
    found
}

/// What an option of a command's section may be set to.
fn values(verb: &Verb, name: &str) -> Vec<String> {
    let section = verb.setup.as_ref().and_then(|setup| setup.section);
    let def = section.and_then(|s| options::find(s, name.trim_start_matches('-')));
    let words: &[&str] = match def.map(|def| def.ty) {
        Some(Type::Bool { .. }) => &["yes", "no"],
        Some(Type::Words { words, .. }) => words,
        _ => &[],
    };
    words.iter().map(|word| format!("{name}={word}")).collect()
}

/// What stands at a place behind the command, by the words that its usage has for it.
fn argument(verb: &Verb, place: usize, node: Option<&str>) -> Answer {
    let args = verb.setup.as_ref().map_or("", |setup| setup.args);
    let Some(wanted) = args.split(' ').nth(place).filter(|word| !word.is_empty()) else {
        return nothing();
    };
    let words: Vec<&str> = wanted
        .split(['{', '}', '[', ']', '|'])
        .filter(|word| !word.is_empty())
        .collect();
    if words.iter().any(|word| matches!(*word, "LOWER" | "META")) {
        return Answer::Files;
    }
    let configured = Configured::read(None, node);
    let mut found = Vec::new();
    for word in words {
        match word {
            "RES" => found.extend(configured.resources()),
            "MINOR" => found.extend(configured.minors()),
            // Addresses and numbers are not known beforehand.
            _ if word.chars().all(char::is_uppercase) => {}
            word => found.push(Candidate::new(word, "")),
        }
    }
    Answer::Words(found)
}
