//! How long users' requests take, and where: histograms that only ever grow, for who watches a node.
//!
//! They say nothing that the engine goes by. Times are the driver's ([`Time`]), so one turn of its loop is the least that is seen.

use crate::event::RequestKind;
use crate::ids::Time;

/// The upper bounds of a histogram's buckets in microseconds: each is twice the one before, from 64 µs to some seventeen seconds. What
/// takes longer is in one more bucket.
pub const BOUNDS_US: [u64; 19] = bounds();

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram {
    counts: [u64; BOUNDS_US.len() + 1],
    sum_ns: u64,
}

impl Histogram {
    /// Something that began at `from` has ended at `to`.
    pub(crate) fn add(&mut self, from: Time, to: Time) {
        let took = to.0.saturating_sub(from.0);
        self.counts[bucket_of(took)] += 1;
        self.sum_ns = self.sum_ns.saturating_add(took);
    }

    /// How often it took no longer than the bound of this place in [`BOUNDS_US`] and longer than the one before; the last: longer
    /// than all of them.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// All of it together, in nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }
}

/// The first bucket that holds so many nanoseconds. (Not searched for: each write counts in three or four histograms.)
fn bucket_of(took_ns: u64) -> usize {
    let firsts = took_ns.div_ceil(1000).saturating_sub(1) / BOUNDS_US[0];
    let bucket = u64::BITS - firsts.leading_zeros();
    (bucket as usize).min(BOUNDS_US.len())
}

/// The histograms of one volume, since its configuration came. Set by every request of a user that ends; cleared never. Without
/// them nobody sees whether writes wait for the activity log, the own disk, or the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latencies {
    /// Reads, from the front end's request to its answer.
    pub read: Histogram,
    /// Writes, likewise.
    pub write: Histogram,
    /// Flushes, likewise.
    pub flush: Histogram,
    /// Of reads and writes, what passed before they were started: behind others for the same blocks, for an extent of the
    /// activity log, for a suspension to end.
    pub waiting: Histogram,
    /// The own disk, for what users ask of it.
    pub own_disk: Histogram,
    /// The peer, from sending a write to the answer by which it is done there: over the network and back, and with protocol C
    /// its disk.
    pub peer: Histogram,
}

impl Latencies {
    /// A request that a user has made at `asked` has ended.
    pub(crate) fn ended(&mut self, kind: RequestKind<()>, asked: Time, now: Time) {
        let histogram = match kind {
            RequestKind::Read => &mut self.read,
            RequestKind::Flush => &mut self.flush,
            _ => &mut self.write,
        };
        histogram.add(asked, now);
    }
}

/// When one request came to where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// The front end has asked.
    pub asked: Time,
    /// It was last sent to the peer. Set when it is sent; of a read it is what the request timer goes by, the transfer log has the times of
    /// writes.
    pub sent: Time,
    /// The peer has answered it, or protocol A has called it handed over; 0 before. Of a write in the transfer log: the turn of the
    /// next one has come then (`transfer_log`).
    pub answered: Time,
}

impl Times {
    /// Of a request that has come now.
    pub(crate) fn new(now: Time) -> Times {
        Times {
            asked: now,
            sent: Time(0),
            answered: Time(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_holds_it() {
        let mut histogram = Histogram::default();
        for us in [0, 64, 65, 128, 17_000_000, 60_000_000] {
            histogram.add(Time(5_000), Time(5_000 + us * 1000));
        }
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1]), (2, 2));
        assert_eq!(counts[18..], [0, 2]);
        assert_eq!(BOUNDS_US[18], 16_777_216);
        assert_eq!(histogram.sum_ns(), (64 + 65 + 128 + 77_000_000) * 1000);
        let bounds = BOUNDS_US.iter().map(|us| us * 1000);
        for ns in bounds
            .flat_map(|ns| [ns - 1, ns, ns + 1])
            .chain([0, u64::MAX])
        {
            let searched = BOUNDS_US.partition_point(|bound| *bound * 1000 < ns);
            assert_eq!(bucket_of(ns), searched, "{ns} ns");
        }
    }

    #[test]
    fn a_clock_that_goes_back_counts_as_no_time() {
        let mut histogram = Histogram::default();
        histogram.add(Time(10), Time(5));
        assert_eq!((histogram.counts()[0], histogram.sum_ns()), (1, 0));
    }
}
