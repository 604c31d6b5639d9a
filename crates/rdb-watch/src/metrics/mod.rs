//! The state of a node as OpenMetrics. What DRBD's exporter has is under its names (`docs/spec/admin.md`, section 8.5: `drbd_…`),
//! what it has not under ours (`rdb_…`).

mod families;
mod latency;
mod process;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

pub use process::Process;

use crate::Seen;
use families::families;
use latency::HistogramFamily;

/// The labels of a sample.
type Labels = Vec<(&'static str, String)>;

/// What a name says of its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only goes up, until the daemon or the resource is started anew. `_total` follows its name.
    Counter,
}

/// All samples of one name.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    samples: Vec<(Labels, f64)>,
}

#[derive(Debug)]
struct Families(Vec<Family>, Vec<HistogramFamily>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in &self.0 {
            let kind = match family.kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Counter => MetricType::Counter,
            };
            let mut metrics = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (labels, value) in &family.samples {
                let metric = metrics.encode_family(labels)?;
                match family.kind {
                    Kind::Gauge => ConstGauge::new(*value).encode(metric)?,
                    Kind::Counter => ConstCounter::new(*value).encode(metric)?,
                }
            }
        }
        for family in &self.1 {
            let kind = MetricType::Histogram;
            let mut metrics = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (labels, of) in &family.samples {
                metrics.encode_family(labels)?.encode_histogram::<Labels>(
                    of.sum_s,
                    of.count,
                    &of.buckets,
                    None,
                )?;
            }
        }
        Ok(())
    }
}

/// The text, with its `# EOF`. `process`: the daemon's own figures, if it is the one that tells.
pub fn openmetrics(seen: Seen<'_>, process: Option<Process>) -> String {
    let mut all = families(seen);
    all.extend(process.iter().flat_map(Process::families));
    all.retain(|family| !family.samples.is_empty());
    let mut registry = Registry::default();
    let mut histograms = latency::families(&seen.report.resources);
    histograms.retain(|family| !family.samples.is_empty());
    registry.register_collector(Box::new(Families(all, histograms)));
    let mut text = String::new();
    // A string takes everything.
    let _ = text::encode(&mut text, &registry);
    text
}

#[cfg(test)]
mod tests {
    use rdb_control::{ConnState, DiskState, HistogramReport, Role, Suspension, SyncReport};

    use super::*;
    use rdb_control::samples::{good_volume, node, reason, resource};

    fn text(resources: Vec<rdb_control::ResourceReport>) -> String {
        let report = node(resources);
        openmetrics(
            Seen {
                report: &report,
                version: "1.2.3",
            },
            None,
        )
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }

    #[test]
    fn a_good_pair_is_told_of_by_the_known_names() {
        let text = text(vec![resource("r0", vec![good_volume()])]);
        for line in [
            "rdb_info{node=\"alice\",version=\"1.2.3\"} 1.0",
            "drbd_resource_resources 1.0",
            "drbd_resource_role{name=\"r0\",role=\"Primary\"} 1.0",
            "drbd_resource_suspended{name=\"r0\"} 0.0",
            "drbd_resource_maypromote{name=\"r0\"} 0.0",
            "drbd_resource_promotionscore{name=\"r0\"} 10102.0",
            "drbd_connection_state{name=\"r0\",conn_name=\"peer\",peer_node_id=\"0\",state=\"Connected\"} 1.0",
            "drbd_peerdevice_sent_bytes{name=\"r0\",conn_name=\"peer\",peer_node_id=\"0\",volume=\"0\",minor=\"3\"} 10240.0",
            "drbd_device_state{name=\"r0\",volume=\"0\",minor=\"3\",state=\"UpToDate\"} 1.0",
            "drbd_device_read_bytes_total{name=\"r0\",volume=\"0\",minor=\"3\"} 40960.0",
            "drbd_device_alwrites_total{name=\"r0\",volume=\"0\",minor=\"3\"} 5.0",
            "rdb_handler_last_exit_code{name=\"r0\",handler=\"fence-peer\"} 4.0",
            "# EOF",
        ] {
            has(&text, line);
        }
        assert!(!text.contains("rdb_trouble{"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn latencies_are_histograms_with_growing_counts() {
        let mut volume = good_volume();
        volume.latency.write = HistogramReport {
            counts: vec![0, 5, 0, 2],
            sum_ns: 1_500_000,
        };
        volume.latency.own_disk.counts = vec![0; 19];
        volume.latency.own_disk.counts.push(3);
        let text = text(vec![resource("r0", vec![volume])]);
        let of = "name=\"r0\",volume=\"0\",minor=\"3\"";
        for line in [
            "# TYPE rdb_request_seconds histogram".to_owned(),
            format!("rdb_request_seconds_sum{{{of},request=\"write\"}} 0.0015"),
            format!("rdb_request_seconds_count{{{of},request=\"write\"}} 7"),
            format!("rdb_request_seconds_bucket{{le=\"0.000064\",{of},request=\"write\"}} 0"),
            format!("rdb_request_seconds_bucket{{le=\"0.000128\",{of},request=\"write\"}} 5"),
            format!("rdb_request_seconds_bucket{{le=\"0.000512\",{of},request=\"write\"}} 7"),
            format!("rdb_request_seconds_bucket{{le=\"+Inf\",{of},request=\"write\"}} 7"),
            format!("rdb_request_seconds_count{{{of},request=\"read\"}} 0"),
            format!("rdb_stage_seconds_bucket{{le=\"16.777216\",{of},stage=\"own-disk\"}} 0"),
            format!("rdb_stage_seconds_bucket{{le=\"+Inf\",{of},stage=\"own-disk\"}} 3"),
        ] {
            has(&text, &line);
        }
    }

    #[test]
    fn every_name_is_told_of_once_and_has_a_help() {
        let text = text(vec![
            resource("r0", vec![good_volume()]),
            resource("r1", vec![good_volume()]),
        ]);
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len());
        for name in names {
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_has_a_word_and_a_time() {
        let mut volume = good_volume();
        volume.cstate = Some(ConnState::SyncTarget);
        volume.disk = DiskState::Inconsistent;
        volume.role = Role::Secondary;
        volume.suspended = vec![Suspension::Fencing];
        volume.sync = Some(SyncReport {
            total_kib: 100,
            left_kib: 50,
            failed_kib: 0,
            window_ms: 1000,
            window_kib: 10,
            elapsed_ms: 5000,
            want_kib: None,
            done_permille: 500,
            rate_kib: 10,
            average_kib: 10,
            left_s: 5,
            recent_ms: 1000,
            recent_kib: 10,
            paused_ms: 0,
            equal_kib: 0,
            verify: None,
        });
        let mut broken = resource("r0", vec![volume]);
        broken.link_reason = Some(reason("split-brain", "x"));
        let text = text(vec![broken]);
        for line in [
            "rdb_trouble{name=\"r0\",volume=\"\",about=\"connection\",word=\"split-brain\"} 1.0",
            "rdb_trouble_since_timestamp_seconds{name=\"r0\",volume=\"\",about=\"connection\",word=\"split-brain\"} 1795877530.0",
            "rdb_sync_left_bytes{name=\"r0\",volume=\"0\",minor=\"3\",kind=\"resync\"} 51200.0",
            "rdb_io_suspended{name=\"r0\",reason=\"fencing\"} 1.0",
            "rdb_io_suspended{name=\"r0\",reason=\"user\"} 0.0",
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn a_label_can_not_end_its_line() {
        let text = text(vec![resource("a\"b\\c\nd", Vec::new())]);
        has(
            &text,
            "drbd_resource_role{name=\"a\\\"b\\\\c\\nd\",role=\"Unknown\"} 1.0",
        );
    }

    /// An alert without a word of what to do is noise; one that only the page has is never raised.
    #[test]
    fn the_page_and_the_file_have_the_same_alerts() {
        let file = include_str!("../../../../packaging/monitoring/rdb-alerts.yml");
        let page = include_str!("../../../../docs/monitoring.md");
        let raised: Vec<&str> = file
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- alert: "))
            .collect();
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `Rdb"));
        let mut told = Vec::new();
        for row in rows {
            let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").collect();
            assert_eq!(cells.len(), 4, "{row}");
            assert!(cells.iter().all(|cell| cell.trim().len() > 1), "{row}");
            told.push(format!("Rdb{}", cells[0].trim_end_matches('`')));
        }
        assert!(!raised.is_empty());
        assert_eq!(told, raised);
    }
}
