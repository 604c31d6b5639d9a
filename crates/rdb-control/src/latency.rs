//! How long users' requests took, as the daemon reports it: histograms that only ever grow.

use serde::{Deserialize, Serialize};

/// The upper bounds of a histogram's buckets in microseconds: each is twice the one before. What takes longer is in one more bucket.
pub const LATENCY_BOUNDS_US: [u64; 19] = bounds();

const fn bounds() -> [u64; 19] {
    let mut bounds = [0; 19];
    let mut n = 0;
    while n < bounds.len() {
        bounds[n] = 64 << n;
        n += 1;
    }
    bounds
}

/// How often something took how long.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HistogramReport {
    /// How often it took no longer than the bound of this place in [`LATENCY_BOUNDS_US`] and longer than the one before; the one behind
    /// the last bound: longer than all. Buckets at the end that are empty are left out.
    pub counts: Vec<u64>,
    /// All of it together, nanoseconds.
    pub sum_ns: u64,
}

/// How long the requests of a volume's users took, and where (`rdb_engine::Latencies`), since the resource came up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LatencyReport {
    /// Reads, from the front end's request to its answer.
    pub read: HistogramReport,
    /// Writes, likewise.
    pub write: HistogramReport,
    /// Flushes, likewise.
    pub flush: HistogramReport,
    /// What reads and writes waited before they were started.
    pub waiting: HistogramReport,
    /// The own disk.
    pub own_disk: HistogramReport,
    /// The peer, from sending a write to the answer by which it is done there.
    pub peer: HistogramReport,
}
