//! How long users' requests took, as histograms.

use rdb_control::{HistogramReport, LATENCY_BOUNDS_US, LatencyReport, ResourceReport};

use super::Labels;
use super::families::{of_resource, volume_labels, with};

/// All histograms of one name.
#[derive(Debug)]
pub(super) struct HistogramFamily {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) samples: Vec<(Labels, Buckets)>,
}

/// One histogram: upper bounds in seconds, and how often something took so long and longer than the bound before.
#[derive(Debug)]
pub(super) struct Buckets {
    pub(super) sum_s: f64,
    pub(super) count: u64,
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Buckets {
    fn of(report: &HistogramReport) -> Buckets {
        let bounds = LATENCY_BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
        let counts = report.counts.iter().copied().chain(std::iter::repeat(0));
        Buckets {
            sum_s: report.sum_ns as f64 / 1e9,
            count: report.counts.iter().sum(),
            buckets: bounds.chain([f64::INFINITY]).zip(counts).collect(),
        }
    }
}

type StageOf = fn(&LatencyReport) -> &HistogramReport;

const REQUESTS: [(&str, StageOf); 3] = [
    ("read", |l| &l.read),
    ("write", |l| &l.write),
    ("flush", |l| &l.flush),
];

const STAGES: [(&str, StageOf); 3] = [
    ("waiting", |l| &l.waiting),
    ("own-disk", |l| &l.own_disk),
    ("peer", |l| &l.peer),
];

pub(super) fn families(resources: &[ResourceReport]) -> Vec<HistogramFamily> {
    [
        (
            "rdb_request_seconds",
            "From a user's request to its answer",
            "request",
            REQUESTS,
        ),
        (
            "rdb_stage_seconds",
            "What users' requests took before they were started, at the own disk, and at the peer with the way there and back",
            "stage",
            STAGES,
        ),
    ]
    .into_iter()
    .map(|(name, help, label, stages)| {
        let volumes = resources
            .iter()
            .flat_map(|r| r.volumes.iter().map(move |v| (r, v)));
        let samples = volumes.flat_map(|(resource, volume)| {
            stages.map(|(word, of)| {
                let labels = with(of_resource(resource), volume_labels(volume));
                let labels = with(labels, [(label, word.to_owned())]);
                (labels, Buckets::of(of(&volume.latency)))
            })
        });
        HistogramFamily {
            name,
            help,
            samples: samples.collect(),
        }
    })
    .collect()
}
