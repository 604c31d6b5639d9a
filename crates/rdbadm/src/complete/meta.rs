//! Completion of `rdbmeta`, whose words have fixed places.

use super::configured::Configured;
use super::{Answer, Candidate, nothing, plain};
use crate::step::MetaCommand;

/// What `typed` may become behind the words `before`.
pub(super) fn answer(before: &[String], typed: &str) -> Answer {
    if typed.starts_with('-') && typed != "-" {
        return plain(["--force"]);
    }
    let is_word = |word: &&String| word.as_str() == "-" || !word.starts_with('-');
    match before.iter().filter(is_word).count() {
        0 => {
            let mut found = Configured::read(None, None).minors();
            found.push(Candidate::new("-", "no device"));
            Answer::Words(found)
        }
        1 => plain(["v08"]),
        2 => Answer::Files,
        3 => plain(["internal", "flex-external"]),
        4 => plain(MetaCommand::all(false).map(MetaCommand::name)),
        _ => nothing(),
    }
}
