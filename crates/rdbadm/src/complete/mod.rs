//! Completion: what can follow on a command line, from the tables that the parsers are made of, and from the configuration.
//!
//! The scripts for the shells (`bash`, `zsh` and `fish` beside this file) know nothing of the commands. They call
//! `rdbadm --complete PROGRAM WORD...`, with the words behind the program's name up to the one that is being typed, and are told
//! what that may become, a line each: the word, and behind a tab what it is. `:files` and `:folders` mean any of these.

mod adm;
mod configured;
mod meta;
mod mon;
mod setup;

use crate::Role;
use crate::out;

/// The first word of `rdbadm` when it is asked by a shell.
pub(crate) const ASKED: &str = "--complete";

/// The shells, and their scripts.
pub(crate) const SHELLS: [(&str, &str); 3] = [
    ("bash", include_str!("bash")),
    ("fish", include_str!("fish")),
    ("zsh", include_str!("zsh")),
];

/// What a word that is being typed may become.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Words(Vec<Candidate>),
    Files,
    Folders,
}

/// One word, and what it is.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    word: String,
    about: String,
}

impl Candidate {
    fn new(word: impl Into<String>, about: impl Into<String>) -> Candidate {
        Candidate {
            word: word.into(),
            about: about.into(),
        }
    }
}

/// Words that need no explanation.
fn plain<T: Into<String>>(words: impl IntoIterator<Item = T>) -> Answer {
    Answer::Words(words.into_iter().map(|w| Candidate::new(w, "")).collect())
}

fn nothing() -> Answer {
    Answer::Words(Vec::new())
}

/// Answers a shell. The words are the program's name and those behind it; the last one is being typed.
pub(crate) fn main(words: &[String]) -> u8 {
    let [program, words @ ..] = words else {
        out::error("--complete: the name of a program is missing");
        return 1;
    };
    let (before, typed) = match words {
        [before @ .., typed] => (before, typed.as_str()),
        [] => (words, ""),
    };
    out::print(&match asked(program, before, typed) {
        Answer::Words(found) => lines(&found, typed),
        Answer::Files => ":files\n".to_owned(),
        Answer::Folders => ":folders\n".to_owned(),
    });
    0
}

/// What can follow these words of a program.
fn asked(program: &str, before: &[String], typed: &str) -> Answer {
    match crate::role_of(program) {
        _ if program == "rdbmon" => mon::answer(before, typed),
        Some((Role::Adm, _)) => adm::answer(program, before, typed),
        Some((Role::Setup, _)) => setup::answer(before, typed),
        Some((Role::Meta, _)) => meta::answer(before, typed),
        Some((Role::Check, _)) => {
            let check = std::iter::once("check".to_owned());
            let before: Vec<String> = check.chain(before.iter().cloned()).collect();
            adm::answer("rdbadm", &before, typed)
        }
        Some((Role::Overview, _)) | None => nothing(),
    }
}

/// The words that go on as the typed one begins. Names of the configuration stay what they are: none has a blank.
fn lines(found: &[Candidate], typed: &str) -> String {
    let mut text = String::new();
    for Candidate { word, about } in found.iter().filter(|c| c.word.starts_with(typed)) {
        if word.contains(|c: char| c.is_whitespace() || c.is_control()) {
            continue;
        }
        text += word;
        if !about.is_empty() {
            text.push('\t');
            text += about.lines().next().unwrap_or_default();
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
