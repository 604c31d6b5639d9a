//! The JSON of `status` (`docs/spec/admin.md`, section 4.8), with keys of our own where something is not as it should be.

use rdb_control::{
    ConnState, HandlerReport, ReasonReport, ResourceReport, Suspension, VolumeReport,
};
use serde_json::{Value, json};

use crate::status_text::{
    connection_word, is_congested, peer_role, replication_word, resync_suspended, role,
    write_ordering_of,
};

/// The JSON of DRBD 9 for these resources, with a newline.
pub(crate) fn json(resources: &[&ResourceReport]) -> String {
    let list: Vec<Value> = resources.iter().map(|r| resource_json(r)).collect();
    let mut text = serde_json::to_string_pretty(&list).expect("values with string keys");
    text.push('\n');
    text
}

fn resource_json(resource: &ResourceReport) -> Value {
    let reasons = resource
        .volumes
        .first()
        .map(|v| v.suspended.clone())
        .unwrap_or_default();
    let has = |reason| reasons.contains(&reason);
    let devices: Vec<Value> = resource.volumes.iter().map(device_json).collect();
    let connections: Vec<Value> = (resource.connection != ConnState::StandAlone)
        .then(|| connection_json(resource))
        .into_iter()
        .collect();
    let mut value = json!({
        "name": resource.name,
        "node-id": 0,
        "role": role(resource).as_str(),
        "suspended": !reasons.is_empty(),
        "suspended-user": has(Suspension::User),
        "suspended-no-data": has(Suspension::NoData),
        "suspended-fencing": has(Suspension::Fencing),
        "suspended-quorum": false,
        "force-io-failures": false,
        "write-ordering": write_ordering_of(resource),
        "devices": devices,
        "connections": connections,
    });
    if let Some(reason) = &resource.link_reason {
        value["connection-reason"] = reason_json(reason);
    }
    if let Some(reason) = &resource.record_reason {
        value["record-reason"] = reason_json(reason);
    }
    if let Some(reason) = &resource.daemon_reason {
        value["daemon-reason"] = reason_json(reason);
    }
    if let Some(reason) = &resource.io_reason {
        value["io-reason"] = reason_json(reason);
    }
    if !resource.handlers.is_empty() {
        let runs: Vec<Value> = resource.handlers.iter().map(handler_json).collect();
        value["handler-runs"] = json!(runs);
    }
    // DRBD has no such thing: the keys are there only when they say something.
    if let Some(failed) = &resource.failed {
        value["failed"] = json!(true);
        value["failed-reason"] = json!(failed.reason);
        value["failed-advice"] = json!(failed.advice);
    }
    value
}

fn handler_json(run: &HandlerReport) -> Value {
    let mut value = json!({
        "handler": run.name,
        "since": run.since(),
        "running": run.exit.is_none(),
        "milliseconds": run.took_ms,
    });
    if let Some(volume) = run.volume {
        value["volume"] = json!(volume);
    }
    if let Some(exit) = run.exit {
        value["exit-code"] = json!(exit);
    }
    if let Some(note) = &run.note {
        value["note"] = json!(note);
    }
    value
}

fn reason_json(reason: &ReasonReport) -> Value {
    let mut value = json!({ "reason": reason.word, "text": reason.text });
    if let Some(advice) = &reason.advice {
        value["advice"] = json!(advice);
    }
    if let Some(since) = reason.since() {
        value["since"] = json!(since);
    }
    value
}

fn device_json(volume: &VolumeReport) -> Value {
    let mut value = json!({
        "volume": volume.volume,
        "minor": volume.minor,
        "disk-state": volume.disk.as_str(),
        "client": false,
        "quorum": true,
        "device": volume.device,
        "size": volume.size_kib,
        "read": volume.read_kib,
        "written": volume.written_kib,
        "al-writes": volume.al_writes,
        "bm-writes": volume.bm_writes,
        "upper-pending": volume.application_pending,
        "lower-pending": volume.local_pending,
    });
    if let Some(reason) = &volume.disk_reason {
        value["disk-reason"] = reason_json(reason);
    }
    if let Some(reason) = &volume.device_reason {
        value["device-reason"] = reason_json(reason);
    }
    if let Some(wait) = &volume.no_space {
        value["disk-full"] = json!(true);
        value["disk-full-writes"] = json!(wait.writes);
        value["disk-full-seconds"] = json!(wait.for_ms / 1000);
    }
    value
}

fn connection_json(resource: &ResourceReport) -> Value {
    let connection = connection_word(resource.connection);
    let host = |address: std::net::SocketAddr| {
        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        json!({ "address": address.ip().to_string(), "port": address.port(), "family": family })
    };
    let paths: Vec<Value> = resource
        .local
        .zip(resource.peer)
        .map(|(local, peer)| {
            json!({
                "this_host": host(local),
                "remote_host": host(peer),
                "established": resource.connection == ConnState::WFReportParams,
            })
        })
        .into_iter()
        .collect();
    let sum = |of: fn(&VolumeReport) -> u64| resource.volumes.iter().map(of).sum::<u64>();
    let peer_devices: Vec<Value> = resource.volumes.iter().map(peer_device_json).collect();
    json!({
        "peer-node-id": 0,
        "name": "peer",
        "connection-state": connection,
        "congested": is_congested(resource),
        "peer-role": peer_role(resource).as_str(),
        "ap-in-flight": sum(|v| v.ap_in_flight_kib),
        "rs-in-flight": sum(|v| v.rs_in_flight_kib),
        "paths": paths,
        "peer_devices": peer_devices,
    })
}

fn peer_device_json(volume: &VolumeReport) -> Value {
    let verify = volume.sync.as_ref().and_then(|sync| sync.verify.as_ref());
    let mut value = json!({
        "volume": volume.volume,
        "replication-state": replication_word(volume),
        "peer-disk-state": volume.peer_disk.as_str(),
        "peer-client": false,
        "resync-suspended": resync_suspended(volume),
        "received": volume.received_kib,
        "sent": volume.sent_kib,
        "out-of-sync": volume.out_of_sync_kib,
        "pending": volume.peer_pending,
        "unacked": volume.unacked,
        "has-sync-details": volume.sync.is_some(),
        "has-online-verify-details": verify.is_some(),
        "percent-in-sync": round2(volume.in_sync_percent()),
    });
    if let Some(reason) = &volume.resync_reason {
        value["resync-reason"] = reason_json(reason);
    }
    if let (Some(sync), Value::Object(members)) = (&volume.sync, &mut value) {
        let mib_s = |kib_s: u64| round2(kib_s as f64 / 1024.0);
        let mut insert = |key: &str, value: Value| members.insert(key.to_owned(), value);
        insert("rs-total", json!(sync.total_kib * 2));
        insert("rs-dt-start-ms", json!(sync.elapsed_ms + sync.paused_ms));
        insert("rs-paused-ms", json!(sync.paused_ms));
        match verify {
            None => {
                insert("rs-failed", json!(sync.failed_kib * 2));
                insert("rs-same-csum", json!(sync.equal_kib * 2));
            }
            Some(verify) => {
                insert("ov-start-sector", json!(verify.start));
                let stop = verify.stop.unwrap_or(volume.size_kib * 2);
                insert("ov-stop-sector", json!(stop));
                insert("ov-position", json!(verify.position));
                insert("ov-left", json!(sync.left_kib * 2));
                insert("ov-skipped", json!(verify.skipped));
            }
        }
        insert("rs-dt0-ms", json!(sync.window_ms));
        insert("rs-db0-sectors", json!(sync.window_kib * 2));
        insert("rs-dt1-ms", json!(sync.recent_ms));
        insert("rs-db1-sectors", json!(sync.recent_kib * 2));
        insert(
            "want",
            json!(round2(f64::from(sync.want_kib.unwrap_or(0)) / 1024.0)),
        );
        insert("db0/dt0 [MiB/s]", json!(mib_s(sync.rate_kib)));
        let recent_kib = sync.recent_kib * 1000 / sync.recent_ms.max(1);
        insert("db1/dt1 [MiB/s]", json!(mib_s(recent_kib)));
        insert("db/dt [MiB/s]", json!(mib_s(sync.average_kib)));
        let moves = sync.window_kib > 0 || sync.left_kib == 0;
        let left_s = if moves { sync.left_s } else { NEVER_S };
        insert("estimated-seconds-to-finish", json!(left_s));
        let done_kib = sync.total_kib.saturating_sub(sync.left_kib);
        let share = done_kib as f64 / sync.total_kib.max(1) as f64;
        insert("percent-resync-done", json!(round2(100.0 * share)));
    }
    value
}

/// What DRBD says of the end of a resync that does not move.
const NEVER_S: u64 = 987_654_321;

fn round2(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use rdb_control::{SyncReport, VerifyReport};

    use super::*;
    use crate::status_text::tests::{resource, volume};

    /// A resync of which half is done.
    const HALF_DONE: SyncReport = SyncReport {
        total_kib: 1_048_508,
        left_kib: 524_254,
        failed_kib: 0,
        window_ms: 10_000,
        window_kib: 102_400,
        recent_ms: 3_000,
        recent_kib: 30_720,
        elapsed_ms: 50_000,
        paused_ms: 0,
        equal_kib: 0,
        want_kib: Some(10_240),
        done_permille: 500,
        rate_kib: 10_240,
        average_kib: 10_485,
        left_s: 51,
        verify: None,
    };

    #[test]
    fn the_json_has_what_exporters_read() {
        let source = VolumeReport {
            out_of_sync_kib: 524_254,
            sync: Some(HALF_DONE),
            ..volume(
                "SyncSource",
                ("Primary", "Secondary"),
                ("UpToDate", "Inconsistent"),
            )
        };
        let report = resource("WFReportParams", vec![source]);
        let value: Value = serde_json::from_str(&json(&[&report])).unwrap();
        assert_eq!(value[0]["name"], "r0");
        assert_eq!(value[0]["role"], "Primary");
        assert_eq!(value[0]["write-ordering"], "flush");
        assert_eq!(value[0]["devices"][0]["disk-state"], "UpToDate");
        let connection = &value[0]["connections"][0];
        assert_eq!(connection["connection-state"], "Connected");
        assert_eq!(connection["paths"][0]["remote_host"]["port"], 7789);
        let peer = &connection["peer_devices"][0];
        assert_eq!(peer["replication-state"], "SyncSource");
        assert_eq!(peer["percent-in-sync"], 50.0);
        assert_eq!(peer["percent-resync-done"], 50.0);
        assert_eq!(peer["want"], 10.0);
        assert_eq!(peer["db0/dt0 [MiB/s]"], 10.0);
        assert_eq!(peer["estimated-seconds-to-finish"], 51);
        assert_eq!(peer["rs-dt-start-ms"], 50_000);
        assert_eq!(
            (&peer["rs-dt1-ms"], &peer["rs-db1-sectors"]),
            (&json!(3_000), &json!(61_440))
        );
        assert_eq!(peer["db1/dt1 [MiB/s]"], 10.0);
        assert_eq!(
            (&peer["rs-paused-ms"], &peer["rs-same-csum"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(
            (&connection["ap-in-flight"], &connection["rs-in-flight"]),
            (&json!(0), &json!(0))
        );
        assert!(value[0].get("connection-reason").is_none());
        assert_eq!(json(&[]), "[]\n");
    }

    #[test]
    fn a_verify_has_details_of_its_own() {
        let verifying = |stop| VolumeReport {
            sync: Some(SyncReport {
                verify: Some(VerifyReport {
                    start: 8,
                    stop,
                    position: 1_048_516,
                    skipped: 16,
                }),
                ..HALF_DONE
            }),
            ..volume(
                "VerifyS",
                ("Primary", "Secondary"),
                ("UpToDate", "UpToDate"),
            )
        };
        let volume = verifying(Some(2_000_000));
        let value = peer_device_json(&volume);
        assert_eq!(value["replication-state"], "VerifyS");
        assert_eq!(value["has-sync-details"], true);
        assert_eq!(value["has-online-verify-details"], true);
        assert_eq!(value["ov-start-sector"], 8);
        assert_eq!(value["ov-stop-sector"], 2_000_000);
        assert_eq!(value["ov-position"], 1_048_516);
        assert_eq!(value["ov-left"], 1_048_508);
        assert_eq!(value["ov-skipped"], 16);
        assert_eq!(value["percent-resync-done"], 50.0);
        assert!(value.get("rs-failed").is_none());
        let whole = verifying(None);
        let value = peer_device_json(&whole);
        assert_eq!(value["ov-stop-sector"], whole.size_kib * 2);
    }

    #[test]
    fn a_resync_that_does_not_move_has_no_end() {
        let still = VolumeReport {
            sync: Some(SyncReport {
                window_kib: 0,
                left_s: 3,
                ..HALF_DONE
            }),
            ..volume(
                "SyncTarget",
                ("Secondary", "Primary"),
                ("Inconsistent", "UpToDate"),
            )
        };
        let value = peer_device_json(&still);
        assert_eq!(value["estimated-seconds-to-finish"], NEVER_S);
    }

    #[test]
    fn runs_of_handlers_have_keys_of_their_own() {
        let mut report = resource("StandAlone", Vec::new());
        assert!(resource_json(&report).get("handler-runs").is_none());
        let ended = HandlerReport {
            name: "split-brain".to_owned(),
            volume: Some(3),
            since_s: 0,
            exit: Some(137),
            took_ms: 250,
            note: Some("was killed by signal 9".to_owned()),
        };
        let running = HandlerReport {
            name: "fence-peer".to_owned(),
            volume: None,
            exit: None,
            note: None,
            ..ended.clone()
        };
        report.handlers = vec![ended, running];
        let runs = &resource_json(&report)["handler-runs"];
        let since = "1970-01-01T00:00:00Z";
        assert_eq!(
            *runs,
            json!([
                {
                    "handler": "split-brain", "volume": 3, "since": since, "running": false, "exit-code": 137,
                    "milliseconds": 250, "note": "was killed by signal 9",
                },
                { "handler": "fence-peer", "since": since, "running": true, "milliseconds": 250 },
            ])
        );
    }

    #[test]
    fn reasons_have_keys_of_their_own() {
        let mut report = resource(
            "StandAlone",
            vec![volume(
                "StandAlone",
                ("Primary", "Unknown"),
                ("Outdated", "DUnknown"),
            )],
        );
        report.link_reason = Some(ReasonReport {
            word: "split-brain".to_owned(),
            text: "not connected: unresolved split brain".to_owned(),
            advice: Some("decide".to_owned()),
            since_s: Some(0),
        });
        report.volumes[0].disk_reason = Some(ReasonReport {
            word: "outdated".to_owned(),
            text: "the peer has newer data".to_owned(),
            advice: None,
            since_s: None,
        });
        let value: Value = serde_json::from_str(&json(&[&report])).unwrap();
        assert_eq!(value[0]["connection-reason"]["reason"], "split-brain");
        assert_eq!(
            value[0]["connection-reason"]["since"],
            "1970-01-01T00:00:00Z"
        );
        let disk = &value[0]["devices"][0]["disk-reason"];
        assert_eq!(
            *disk,
            json!({ "reason": "outdated", "text": "the peer has newer data" })
        );
    }
}
