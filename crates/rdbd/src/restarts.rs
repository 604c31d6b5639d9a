//! What has stopped on its own and was started again by itself; that is not done without end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdb_control::{FailedReport, shell_word};
use tokio::time::Instant;

use crate::record::KeptResource;

/// So often a resource is started again by itself within [`RESTART_WINDOW`].
pub(crate) const RESTARTS_MAX: usize = 3;
/// How long a start counts.
pub(crate) const RESTART_WINDOW: Duration = Duration::from_secs(600);

/// What was and is started again.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    begun: RefCell<BTreeMap<String, Vec<Instant>>>,
    given_up: RefCell<BTreeSet<String>>,
    under_way: RefCell<BTreeMap<String, KeptResource>>,
}

impl Restarts {
    /// Whether one more is allowed now; it counts then.
    pub(crate) fn begin(&self, name: &str, now: Instant) -> bool {
        let mut all = self.begun.borrow_mut();
        let begun = all.entry(name.to_owned()).or_default();
        begun.retain(|at| now.duration_since(*at) < RESTART_WINDOW);
        if begun.len() >= RESTARTS_MAX {
            return false;
        }
        begun.push(now);
        true
    }

    /// It is not started again by itself any more.
    pub(crate) fn give_up(&self, name: &str) {
        self.given_up.borrow_mut().insert(name.to_owned());
    }

    /// A resource is being started again, and is to be on record as it was.
    pub(crate) fn start(&self, kept: KeptResource) {
        let name = kept.shown.name.clone();
        self.under_way.borrow_mut().insert(name, kept);
    }

    /// It has been.
    pub(crate) fn end(&self, name: &str) {
        self.under_way.borrow_mut().remove(name);
    }

    /// An administrator has taken it into his hands.
    pub(crate) fn forget(&self, name: &str) {
        self.begun.borrow_mut().remove(name);
        self.given_up.borrow_mut().remove(name);
    }

    /// How a resource is to be on record that is being started again: as it was.
    pub(crate) fn under_way(&self, name: &str) -> Option<KeptResource> {
        self.under_way.borrow().get(name).cloned()
    }

    /// What `status` says of a resource whose disks and connection are not all there again.
    pub(crate) fn report(&self, name: &str) -> Option<FailedReport> {
        let is_under_way = self.under_way.borrow().contains_key(name);
        is_under_way.then(|| FailedReport {
            reason: "it stopped on its own, see the log of rdbd".to_owned(),
            advice: "it is being started again by itself; wait a moment".to_owned(),
        })
    }

    pub(crate) fn advice(&self, name: &str) -> String {
        let word = shell_word(name);
        let by_hand = format!(
            "see the log of rdbd; 'rdbadm down {word}' and 'rdbadm up {word}' start it anew"
        );
        if self.given_up.borrow().contains(name) {
            format!("it is not started again by itself; {by_hand}")
        } else {
            format!("it is being started again by itself; if it stays so, {by_hand}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_by_itself_are_limited_within_a_window() {
        let restarts = Restarts::default();
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        for seconds in [0, 10, 20] {
            assert!(restarts.begin("r0", at(seconds)), "{seconds}");
        }
        assert!(!restarts.begin("r0", at(30)));
        assert!(restarts.begin("r1", at(30)), "another resource");
        assert!(!restarts.begin("r0", at(599)));
        assert!(restarts.begin("r0", at(601)), "the first counts no more");
        assert!(!restarts.begin("r0", at(602)));
        restarts.forget("r0");
        assert!(restarts.begin("r0", at(603)));
    }
}
