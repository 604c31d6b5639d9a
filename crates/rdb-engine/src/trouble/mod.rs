//! What is remembered of what went wrong, for those who ask later: why there is no connection, and what became of a disk.

use alloc::string::String;

use crate::ids::Time;
use crate::rules::disk_reason::Lost;
use crate::rules::trouble::Trouble;

/// What is in the way of the connection.
#[derive(Debug, Clone)]
pub(crate) struct Troubled {
    pub(crate) kind: Trouble,
    pub(crate) text: String,
    pub(crate) since: Time,
}

/// What became of a disk.
#[derive(Debug, Clone)]
pub(crate) struct DiskLost {
    pub(crate) what: Option<Lost>,
    /// Why an attach was refused since then, though nothing is wrong with the disk. Goes with the next attach that is not.
    pub(crate) older: Option<String>,
    pub(crate) since: Time,
}

impl DiskLost {
    pub(crate) fn new(what: Lost, since: Time) -> DiskLost {
        DiskLost {
            what: Some(what),
            older: None,
            since,
        }
    }
}
