//! Decisions, as pure functions over plain facts. Nothing in here changes anything: the caller gathers the facts, asks, and
//! carries the answer out.

pub mod consequences;
pub mod disk_reason;
pub mod expulsion;
pub mod fencing;
pub mod no_space;
pub mod packets;
pub mod peer_change;
pub mod peer_state;
pub mod remembered;
pub mod resync_reason;
pub mod sizes;
pub mod snapshot;
pub mod thaw;
pub mod trouble;
mod turn;
pub mod withdrawal;

/// An advice of [`trouble`] or [`disk_reason`], for what has this name.
pub fn advice_for(advice: &str, name: &str) -> alloc::string::String {
    advice.replace("RES", name)
}
