//! Completion of `rdbmon`.

use super::configured::Configured;
use super::{Answer, Candidate, nothing};
use crate::monitor::OPTIONS;

/// What `typed` may become behind the words `before`.
pub(super) fn answer(before: &[String], typed: &str) -> Answer {
    if let Some((name, _)) = typed.split_once('=') {
        return value(name, &format!("{name}="), before);
    }
    if let Some(last) = before.last()
        && takes_value(last)
    {
        return value(last, "", before);
    }
    if typed.starts_with('-') {
        let options = OPTIONS.map(|(name, _, about)| Candidate::new(name, about));
        return Answer::Words(options.into());
    }
    let mut found = configured(before).resources();
    found.retain(|candidate| !before.contains(&candidate.word));
    Answer::Words(found)
}

fn long(name: &str) -> &str {
    if name == "-c" { "--config-file" } else { name }
}

fn takes_value(name: &str) -> bool {
    let mut options = OPTIONS.iter();
    options.any(|(option, value, _)| *option == long(name) && !value.is_empty())
}

/// What an option's value may be, with `head` before each.
fn value(name: &str, head: &str, before: &[String]) -> Answer {
    match long(name) {
        "--config-file" => Answer::Files,
        "--run-dir" => Answer::Folders,
        "--node" => {
            let mut hosts = configured(before).hosts();
            hosts.iter_mut().for_each(|h| h.word.insert_str(0, head));
            Answer::Words(hosts)
        }
        _ => nothing(),
    }
}

/// The configuration that the words name.
fn configured(before: &[String]) -> Configured {
    let given = |name: &str| {
        before
            .iter()
            .enumerate()
            .find_map(|(at, word)| match word.split_once('=') {
                Some((option, value)) => (long(option) == name).then_some(value),
                None if long(word) == name => before.get(at + 1).map(String::as_str),
                None => None,
            })
    };
    Configured::read(given("--config-file"), given("--node"))
}
