//! Why something is not as it should be: what `status`, `drbd-overview` and `status --check` say of it.
//!
//! Programs read `status` for words like `disk:UpToDate`. So each of these lines begins with a key of its own, and none
//! has such a word in it.

use rdb_control::{ConnState, DiskState, ReasonReport, ResourceReport, VolumeReport};

/// The lines of a resource.
pub(crate) fn lines(resource: &ResourceReport) -> Vec<String> {
    let numbered = resource.volumes.len() > 1 || resource.volumes.iter().any(|v| v.volume != 0);
    let mut lines = Vec::new();
    if let Some(reason) = &resource.link_reason {
        let state = if is_connected(resource) {
            "Connected"
        } else {
            resource.connection.as_str()
        };
        add(&mut lines, "connection", None, state, reason);
    }
    if let Some(reason) = &resource.record_reason {
        add(&mut lines, "record", None, "stale", reason);
    }
    if let Some(reason) = &resource.daemon_reason {
        add(&mut lines, "daemon", None, "ending", reason);
    }
    if let Some(reason) = &resource.io_reason {
        add(&mut lines, "io", None, "suspended", reason);
    }
    for volume in &resource.volumes {
        let number = numbered.then_some(volume.volume);
        if let Some(reason) = &volume.disk_reason {
            add(&mut lines, "disk", number, volume.disk.as_str(), reason);
        }
        if let Some(reason) = &volume.device_reason {
            add(&mut lines, "device", number, "missing", reason);
        }
        if let Some(line) = progress(volume, number) {
            lines.push(line);
        }
        if let Some(reason) = &volume.resync_reason {
            add(&mut lines, "resync", number, volume.cstate_word(), reason);
        }
    }
    lines
}

/// Whether the pair is connected, as far as the connection's own state says.
fn is_connected(resource: &ResourceReport) -> bool {
    resource.connection == ConnState::WFReportParams
}

/// The lines of one volume of a resource, the connection's among them.
pub(crate) fn of_volume(resource: &ResourceReport, volume: &VolumeReport) -> Vec<String> {
    let alone = ResourceReport {
        volumes: vec![VolumeReport {
            volume: 0,
            ..volume.clone()
        }],
        ..resource.clone()
    };
    lines(&alone)
}

fn add(
    lines: &mut Vec<String>,
    what: &str,
    volume: Option<u16>,
    state: &str,
    reason: &ReasonReport,
) {
    let volume = volume.map_or_else(String::new, |volume| format!("volume {volume} "));
    let since = reason
        .since()
        .map_or_else(String::new, |since| format!(" since {since}"));
    let text = one_line(&reason.text);
    lines.push(format!("{what}-reason: {volume}{state}{since}: {text}"));
    if let Some(advice) = &reason.advice {
        lines.push(format!("{what}-advice: {}", one_line(advice)));
    }
}

/// How far a resync is: the share of the disk that is in sync, as `done:` has it, and the pace of the status file.
fn progress(volume: &VolumeReport, number: Option<u16>) -> Option<String> {
    let sync = volume.sync.as_ref()?;
    if !matches!(
        volume.cstate,
        Some(ConnState::SyncSource | ConnState::SyncTarget)
    ) {
        return None;
    }
    let number = number.map_or_else(String::new, |number| format!("volume {number} "));
    Some(format!(
        "resync-progress: {number}{:.2} % in sync, at {} K/s, {} s to go",
        volume.in_sync_percent(),
        sync.rate_kib,
        sync.left_s
    ))
}

/// Words that came from elsewhere, as one line that commands the terminal nothing.
pub(crate) fn one_line(words: &str) -> String {
    words
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// What is not well, a line each, for `status --check`.
pub(crate) fn ills(resources: &[&ResourceReport]) -> Vec<String> {
    resources.iter().flat_map(|r| ills_of(r)).collect()
}

fn ills_of(resource: &ResourceReport) -> Vec<String> {
    let name = &resource.name;
    let mut ills = Vec::new();
    let mut ill = |text: String| ills.push(format!("{name}: {text}"));
    if let Some(why) = &resource.daemon_reason {
        ill(one_line(&why.text));
    }
    if let Some(failed) = &resource.failed {
        ill(format!("does not run: {}", one_line(&failed.reason)));
        return ills;
    }
    let why = resource.link_reason.as_ref();
    let why = why.map(|why| one_line(&why.text));
    match why {
        why if !is_connected(resource) => {
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            ill(format!("{}{why}", resource.connection));
        }
        // Connected, and would not connect again.
        Some(why) => ill(why),
        None => {}
    }
    if let Some(why) = &resource.record_reason {
        ill(format!("not on record: {}", one_line(&why.text)));
    }
    if resource.volumes.is_empty() {
        ill("it has no volume".to_owned());
    }
    for volume in &resource.volumes {
        let number = volume.volume;
        let is_forced = volume
            .disk_reason
            .as_ref()
            .is_some_and(|reason| reason.word == "forced");
        if volume.disk != DiskState::UpToDate || is_forced {
            let why = volume.disk_reason.as_ref();
            let why = why.map_or_else(String::new, |why| format!(": {}", one_line(&why.text)));
            ill(format!("volume {number}: disk {}{why}", volume.disk));
        }
        if let Some(why) = &volume.device_reason {
            ill(format!("volume {number}: {}", one_line(&why.text)));
        }
        if is_connected(resource) {
            if volume.cstate != Some(ConnState::Connected) {
                ill(format!("volume {number}: {}", volume.cstate_word()));
            }
            if volume.peer_disk != DiskState::UpToDate {
                ill(format!(
                    "volume {number}: the peer's disk {}",
                    volume.peer_disk
                ));
            }
        }
        if !volume.suspended.is_empty() {
            let why = volume.suspended.iter().map(|reason| reason.as_str());
            let why = why.collect::<Vec<_>>().join(", ");
            ill(format!("volume {number}: I/O is suspended ({why})"));
        }
        if let Some(wait) = &volume.no_space {
            let (writes, seconds) = (wait.writes, wait.for_ms / 1000);
            ill(format!(
                "volume {number}: the disk is full: {writes} writes wait for space, for {seconds} s"
            ));
        }
        if volume.out_of_sync_kib != 0 && volume.cstate == Some(ConnState::Connected) {
            let kib = volume.out_of_sync_kib;
            ill(format!("volume {number}: {kib} KiB differ"));
        }
    }
    ills
}

#[cfg(test)]
mod tests {
    use rdb_control::{FailedReport, NoSpaceReport, Suspension, SyncReport};

    use super::*;
    use crate::status_text::tests::{resource, volume};

    fn reason(word: &str, text: &str, advice: Option<&str>) -> Option<ReasonReport> {
        Some(ReasonReport {
            word: word.to_owned(),
            text: text.to_owned(),
            advice: advice.map(str::to_owned),
            since_s: None,
        })
    }

    fn well() -> ResourceReport {
        let volume = volume(
            "Connected",
            ("Primary", "Secondary"),
            ("UpToDate", "UpToDate"),
        );
        resource("WFReportParams", vec![volume])
    }

    #[test]
    fn all_is_well_says_nothing() {
        assert_eq!(lines(&well()), Vec::<String>::new());
        assert_eq!(ills(&[&well()]), Vec::<String>::new());
    }

    #[test]
    fn reasons_and_advice_have_lines_of_their_own() {
        let mut split = well();
        split.connection = ConnState::StandAlone;
        split.link_reason = reason(
            "split-brain",
            "unresolved\n\u{1b}split brain",
            Some("decide"),
        );
        split.link_reason.as_mut().unwrap().since_s = Some(0);
        split.volumes[0].disk = DiskState::Outdated;
        split.volumes[0].disk_reason = reason("outdated", "the peer has newer data", None);
        assert_eq!(
            lines(&split),
            [
                "connection-reason: StandAlone since 1970-01-01T00:00:00Z: unresolved split brain",
                "connection-advice: decide",
                "disk-reason: Outdated: the peer has newer data",
            ]
        );
        split.record_reason = reason("not-on-record", "it is full", Some("make room"));
        assert_eq!(
            lines(&split)[2..4],
            [
                "record-reason: stale: it is full",
                "record-advice: make room"
            ]
        );
        split.record_reason = None;
        split.daemon_reason = reason("ending", "it waits for a mount", None);
        assert_eq!(
            lines(&split)[2],
            "daemon-reason: ending: it waits for a mount"
        );
        split.daemon_reason = None;
        split.volumes[0].volume = 3;
        assert_eq!(
            lines(&split)[2],
            "disk-reason: volume 3 Outdated: the peer has newer data"
        );
    }

    #[test]
    fn a_resync_tells_the_figures_that_the_others_tell() {
        let mut syncing = well();
        syncing.volumes[0].cstate = Some(ConnState::SyncTarget);
        syncing.volumes[0].disk = DiskState::Inconsistent;
        (
            syncing.volumes[0].size_kib,
            syncing.volumes[0].out_of_sync_kib,
        ) = (1_000_000, 335_900);
        syncing.volumes[0].sync = Some(SyncReport {
            total_kib: 1_000_000,
            left_kib: 500_000,
            failed_kib: 0,
            window_ms: 10_000,
            window_kib: 100_000,
            recent_ms: 3_000,
            recent_kib: 30_720,
            elapsed_ms: 50_000,
            paused_ms: 0,
            equal_kib: 0,
            want_kib: None,
            done_permille: 499,
            rate_kib: 10_000,
            average_kib: 10_000,
            left_s: 50,
            verify: None,
        });
        syncing.volumes[0].resync_reason = reason("c-max-rate", "it goes at c-max-rate", None);
        assert_eq!(
            lines(&syncing),
            [
                "resync-progress: 66.41 % in sync, at 10000 K/s, 50 s to go",
                "resync-reason: SyncTarget: it goes at c-max-rate",
            ]
        );
        let text = crate::status_text::text(&syncing, Default::default());
        assert!(text.contains(" done:66.41\n"), "{text}");
    }

    /// Whatever is wrong, one thing at a time: the check finds it.
    #[test]
    fn the_check_finds_each_ill() {
        type Spoil = fn(&mut ResourceReport);
        let table: [(Spoil, &str); 13] = [
            (
                |r| r.volumes[0].device_reason = reason("no-device", "no device: why", None),
                "r0: volume 0: no device: why",
            ),
            (|r| r.connection = ConnState::StandAlone, "r0: StandAlone"),
            (
                |r| r.connection = ConnState::WFConnection,
                "r0: WFConnection",
            ),
            (|r| r.volumes.clear(), "r0: it has no volume"),
            (
                |r| r.volumes[0].disk = DiskState::Diskless,
                "r0: volume 0: disk Diskless",
            ),
            (
                |r| r.volumes[0].peer_disk = DiskState::Outdated,
                "r0: volume 0: the peer's disk Outdated",
            ),
            (
                |r| r.volumes[0].cstate = Some(ConnState::VerifyS),
                "r0: volume 0: VerifyS",
            ),
            (
                |r| r.volumes[0].suspended = vec![Suspension::User],
                "r0: volume 0: I/O is suspended (user)",
            ),
            (
                |r| {
                    r.volumes[0].no_space = Some(NoSpaceReport {
                        writes: 3,
                        for_ms: 12_345,
                    });
                },
                "r0: volume 0: the disk is full: 3 writes wait for space, for 12 s",
            ),
            (
                |r| r.record_reason = reason("not-on-record", "it is full", None),
                "r0: not on record: it is full",
            ),
            (
                |r| r.daemon_reason = reason("ending", "terminated: it waits for a mount", None),
                "r0: terminated: it waits for a mount",
            ),
            (
                |r| r.volumes[0].out_of_sync_kib = 8,
                "r0: volume 0: 8 KiB differ",
            ),
            (
                |r| {
                    r.failed = Some(FailedReport {
                        reason: "it stopped".to_owned(),
                        advice: String::new(),
                    });
                },
                "r0: does not run: it stopped",
            ),
        ];
        for (spoil, ill) in table {
            let mut report = well();
            spoil(&mut report);
            assert_eq!(ills(&[&report]), [ill]);
        }
    }
}
