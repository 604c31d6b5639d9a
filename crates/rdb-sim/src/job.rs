//! What the run does by itself at a time to come.

use crate::plan::Strike;

/// What is asked of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "as the requests of the same names")]
pub enum Ask {
    Read,
    Write { fua: bool },
    Flush,
    Discard,
    WriteZeroes { may_unmap: bool },
}

/// Something to do later.
#[derive(Debug, Clone)]
pub enum Job {
    /// Whoever is Primary gets a request.
    Request {
        /// Of this volume.
        volume: usize,
        /// First sector.
        sector: u64,
        /// How many, 0 for a flush.
        sectors: u64,
        /// What is asked.
        ask: Ask,
    },
    /// An ambush was stepped into by this node.
    Strike {
        /// Which node met the trigger.
        node: usize,
        /// What is done.
        strike: Strike,
    },
    /// A node is told of new settings.
    Adjust {
        /// Which one.
        node: usize,
    },
    /// A node that was down is up again, and its administrator brings the resource up.
    Start {
        /// Which one.
        node: usize,
        /// The connection is configured before the disks.
        connect_first: bool,
    },
}
