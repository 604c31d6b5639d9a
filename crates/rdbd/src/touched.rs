//! Which resources have changed, for who puts what runs on record.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Resources whose state has changed since somebody took them from here. Their threads put them in, `keep::follow` takes them out.
/// Without it, it would ask all of them at each change of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Touched(Arc<Mutex<BTreeSet<String>>>);

impl Touched {
    pub(crate) fn put(&self, resource: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.contains(resource) {
            names.insert(resource.to_owned());
        }
    }

    pub(crate) fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
