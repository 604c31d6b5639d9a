//! What a volume has done in the last minutes: its counters as rates, a sample a second.

use std::collections::{BTreeMap, VecDeque};

use rdb_control::{HistogramReport, StatusReport, VolumeReport};

/// How many samples are kept: three minutes.
pub const SAMPLES: usize = 180;
/// A sample covers at least so much, in milliseconds.
const LEAST_MS: u64 = 900;
/// What is longer than this was not looked at.
const GAP_MS: u64 = 2500;

/// A figure that has a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// KiB/s to the peer.
    Sent,
    /// KiB/s from the peer.
    Received,
    /// KiB/s written to the disk.
    Written,
    /// KiB/s read from the disk.
    Read,
    /// KiB/s of a resync or verify.
    Sync,
    /// Users' requests that are not done.
    Requests,
    /// Writes of the activity log a second.
    ActivityLog,
    /// What users' requests waited before they were started, on average, in milliseconds.
    Waiting,
    /// What they took at the own disk.
    OwnDisk,
    /// What they took at the peer, with the way there and back.
    Peer,
}

const FIGURES: usize = 10;

/// The samples of a volume, the newest last; nothing where it was not looked at.
#[derive(Debug, Default)]
pub struct Series {
    samples: VecDeque<Option<[f64; FIGURES]>>,
    last: Option<Last>,
}

/// What the next sample is counted from.
#[derive(Debug)]
struct Last {
    at_ms: u64,
    counters: [u64; COUNTERS],
}

const COUNTERS: usize = 11;

fn counters(volume: &VolumeReport) -> [u64; COUNTERS] {
    let latency = &volume.latency;
    let number = |of: &HistogramReport| of.counts.iter().sum();
    [
        volume.sent_kib,
        volume.received_kib,
        volume.written_kib,
        volume.read_kib,
        volume.al_writes,
        latency.waiting.sum_ns,
        number(&latency.waiting),
        latency.own_disk.sum_ns,
        number(&latency.own_disk),
        latency.peer.sum_ns,
        number(&latency.peer),
    ]
}

impl Series {
    /// Takes note of how the volume is.
    pub fn add(&mut self, at_ms: u64, volume: &VolumeReport) {
        let new = counters(volume);
        let next = Last {
            at_ms,
            counters: new,
        };
        let Some(last) = &self.last else {
            self.last = Some(next);
            return;
        };
        let passed = at_ms.saturating_sub(last.at_ms);
        if passed < LEAST_MS {
            return;
        }
        if passed > GAP_MS {
            let missing = usize::try_from(passed / 1000).unwrap_or(SAMPLES);
            (0..missing.min(SAMPLES)).for_each(|_| self.push(None));
        } else if new.iter().zip(&last.counters).any(|(new, old)| new < old) {
            // Another daemon counts anew.
            self.push(None);
        } else {
            let more = |at: usize| (new[at] - last.counters[at]) as f64;
            let rate = |at: usize| more(at) * 1000.0 / passed as f64;
            // Nothing, if nothing was done.
            let mean_ms = |at: usize| more(at) / more(at + 1).max(1.0) / 1e6;
            let sync = volume.sync.as_ref().map_or(0.0, recent_rate);
            let requests = f64::from(volume.application_pending);
            self.push(Some([
                rate(0),
                rate(1),
                rate(2),
                rate(3),
                sync,
                requests,
                rate(4),
                mean_ms(5),
                mean_ms(7),
                mean_ms(9),
            ]));
        }
        self.last = Some(next);
    }

    fn push(&mut self, sample: Option<[f64; FIGURES]>) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The newest value, if there is one.
    pub fn now(&self, figure: Figure) -> Option<f64> {
        let newest = self.samples.back().copied().flatten();
        newest.map(|sample| sample[figure as usize])
    }

    /// The greatest value.
    pub fn peak(&self, figure: Figure) -> f64 {
        let values = self.samples.iter().flatten();
        values.fold(0.0, |peak, sample| sample[figure as usize].max(peak))
    }

    /// The greatest value in each of so many columns, the newest on the right. All of them together are as long as what is kept.
    pub fn columns(&self, figure: Figure, columns: usize) -> Vec<Option<f64>> {
        let mut all = vec![None; SAMPLES - self.samples.len()];
        all.extend(self.samples.iter().map(|s| s.map(|s| s[figure as usize])));
        let part = |column: usize| {
            let end = SAMPLES * (column + 1) / columns;
            let begin = (SAMPLES * column / columns).min(end.saturating_sub(1));
            let values = all[begin..end].iter().flatten();
            values.copied().reduce(f64::max)
        };
        (0..columns).map(part).collect()
    }
}

/// What all volumes of a node have done, for as long as somebody looks.
#[derive(Debug, Default)]
pub struct Courses {
    volumes: BTreeMap<u32, Series>,
}

impl Courses {
    /// Takes note of how the node is. A volume that it does not have any more is forgotten.
    pub fn note(&mut self, at_ms: u64, report: &StatusReport) {
        let mut before = std::mem::take(&mut self.volumes);
        for volume in report.resources.iter().flat_map(|r| &r.volumes) {
            let mut series = before.remove(&volume.minor).unwrap_or_default();
            series.add(at_ms, volume);
            self.volumes.insert(volume.minor, series);
        }
    }

    /// What the volume with this minor number has done.
    pub fn of(&self, minor: u32) -> Option<&Series> {
        self.volumes.get(&minor)
    }
}

/// KiB/s of a resync in the last seconds.
fn recent_rate(sync: &rdb_control::SyncReport) -> f64 {
    match sync.recent_ms {
        0 => sync.rate_kib as f64,
        ms => sync.recent_kib as f64 * 1000.0 / ms as f64,
    }
}

#[cfg(test)]
mod tests {
    use rdb_control::samples::{good_volume, node, resource};

    use super::*;

    fn sent(kib: u64) -> VolumeReport {
        VolumeReport {
            sent_kib: kib,
            ..good_volume()
        }
    }

    #[test]
    fn rates_are_counted_from_sample_to_sample() {
        let mut series = Series::default();
        series.add(0, &sent(100));
        assert_eq!(series.now(Figure::Sent), None);
        series.add(1000, &sent(300));
        series.add(1100, &sent(900));
        assert_eq!(series.now(Figure::Sent), Some(200.0));
        series.add(3000, &sent(1300));
        assert_eq!(series.now(Figure::Sent), Some(500.0));
        assert_eq!(series.peak(Figure::Sent), 500.0);
        assert_eq!(series.now(Figure::Requests), Some(4.0));
    }

    #[test]
    fn what_a_stage_takes_is_the_mean_of_what_was_done_meanwhile() {
        let took = |counts: Vec<u64>, sum_ns| {
            let mut volume = good_volume();
            volume.latency.own_disk = HistogramReport { counts, sum_ns };
            volume
        };
        let mut series = Series::default();
        series.add(0, &took(vec![7], 7_000_000));
        series.add(1000, &took(vec![7, 0, 2], 10_000_000));
        assert_eq!(series.now(Figure::OwnDisk), Some(1.5));
        assert_eq!(series.now(Figure::Peer), Some(0.0));
        series.add(2000, &took(vec![7, 0, 2], 10_000_000));
        assert_eq!(series.now(Figure::OwnDisk), Some(0.0));
        assert_eq!(series.peak(Figure::OwnDisk), 1.5);
    }

    #[test]
    fn a_daemon_that_counts_anew_and_a_gap_are_no_rates() {
        let mut series = Series::default();
        series.add(0, &sent(100));
        series.add(1000, &sent(0));
        assert_eq!(series.now(Figure::Sent), None);
        series.add(2000, &sent(10));
        assert_eq!(series.now(Figure::Sent), Some(10.0));
        series.add(12_000, &sent(5000));
        assert_eq!(series.now(Figure::Sent), None);
        assert_eq!(series.peak(Figure::Sent), 10.0);
    }

    #[test]
    fn a_volume_that_is_gone_is_forgotten() {
        let with = |volumes| node(vec![resource("r0", volumes)]);
        let mut courses = Courses::default();
        courses.note(0, &with(vec![sent(0)]));
        courses.note(1000, &with(vec![sent(8)]));
        let minor = sent(0).minor;
        let now = |courses: &Courses| courses.of(minor).and_then(|of| of.now(Figure::Sent));
        assert_eq!(now(&courses), Some(8.0));
        courses.note(2000, &with(Vec::new()));
        assert!(courses.of(minor).is_none());
        courses.note(3000, &with(vec![sent(9)]));
        assert_eq!(now(&courses), None);
    }

    #[test]
    fn columns_cover_all_that_is_kept_whatever_their_number() {
        let mut series = Series::default();
        for second in 0..=500 {
            series.add(second * 1000, &sent(second * second));
        }
        for columns in [1, 7, 60, SAMPLES, 500] {
            let found = series.columns(Figure::Sent, columns);
            assert_eq!(found.len(), columns);
            assert_eq!(found.last(), Some(&Some(999.0)), "{columns}");
        }
        assert!(series.columns(Figure::Sent, 0).is_empty());
        let mut young = Series::default();
        young.add(0, &sent(0));
        young.add(1000, &sent(8));
        let found = young.columns(Figure::Sent, 3);
        assert_eq!(found, [None, None, Some(8.0)]);
    }
}
