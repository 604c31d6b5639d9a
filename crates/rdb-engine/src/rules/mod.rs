//! Decisions, as pure functions over plain facts. Nothing in here changes anything: the caller gathers the facts, asks, and
//! carries the answer out.

pub mod attach;
pub mod consequences;
pub mod disk_reason;
pub mod expulsion;
pub mod fencing;
pub mod no_space;
pub mod packets;
pub mod parting;
pub mod peer_change;
pub mod peer_state;
pub mod promotion;
pub mod record;
pub mod remembered;
pub mod resync;
pub mod resync_reason;
pub mod serving;
pub mod sizes;
pub mod snapshot;
pub mod thaw;
pub mod trouble;
mod turn;
pub mod withdrawal;
pub mod write;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

/// An advice of [`trouble`] or [`disk_reason`], for what has this name: its commands can be typed, whatever is in the name.
pub fn advice_for(advice: &str, name: &str) -> String {
    advice.replace("RES", &shell_word(name))
}

/// A word as a shell reads it as one: as it is if nothing in it means something there, otherwise between single quotes.
pub fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
