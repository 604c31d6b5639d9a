//! What a command works on.

use std::sync::Arc;

use rdb_engine::VolumeNr;
use rdb_runtime::ResourceHandle;

use crate::registry::Entry;

/// A resource, or one volume of it, as a command works on it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) number: u16,
    pub(crate) numbers: Vec<u16>,
    pub(crate) handle: ResourceHandle,
    pub(crate) failure: Option<String>,
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Target {
    pub(crate) fn new(entry: &Entry, number: u16) -> Target {
        Target {
            name: entry.name.clone(),
            number,
            numbers: entry.volumes.keys().copied().collect(),
            handle: entry.handle.clone(),
            failure: entry.failure.clone(),
            turn: entry.turn.clone(),
        }
    }

    /// Whether it was made from this entry; another one may have got the name since.
    pub(crate) fn is(&self, entry: &Entry) -> bool {
        Arc::ptr_eq(&self.turn, &entry.turn)
    }

    pub(crate) fn volume(&self) -> VolumeNr {
        VolumeNr(self.number)
    }
}
