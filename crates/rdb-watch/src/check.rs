//! The verdict of a check, as Nagios and Icinga read it: a line, figures, and an exit code.

use std::cmp::Reverse;
use std::fmt;

use rdb_control::{
    ConnState, DiskState, FAILED, ResourceReport, StatusReport, Suspension, VolumeReport,
};

use crate::{connection_word, is_connected, troubles};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All is well.
    Ok,
    /// Users are served, and something is not as it should be: data are on one disk alone, or a resync runs.
    Warning,
    /// Users are not served, or nothing gets better by itself.
    Critical,
    /// It cannot be told.
    Unknown,
}

impl Level {
    /// The exit code that means it.
    pub const fn exit_code(self) -> u8 {
        match self {
            Level::Ok => 0,
            Level::Warning => 1,
            Level::Critical => 2,
            Level::Unknown => 3,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Ok => "OK",
            Level::Warning => "WARNING",
            Level::Critical => "CRITICAL",
            Level::Unknown => "UNKNOWN",
        })
    }
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// How bad it is.
    pub level: Level,
    /// What a plugin prints: a line with figures, and a line for each thing that is not as it should be.
    pub text: String,
}

/// A thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is, on one line; begins with what it is about, `r0: ` or `r0/1: `.
    pub text: String,
}

/// Looks at these resources; at all without a name. One that is named and is not up serves nobody; where nothing is up it cannot be told
/// what should be.
pub fn check(report: &StatusReport, names: &[String]) -> Check {
    let known = |name: &String| report.resources.iter().any(|r| r.name == *name);
    if let Some(missing) = names.iter().find(|name| !known(name)) {
        return Check {
            level: Level::Critical,
            text: format!("RDB CRITICAL: resource {} is not up\n", plain(missing)),
        };
    }
    let wanted = |r: &&ResourceReport| names.is_empty() || names.contains(&r.name);
    let resources: Vec<&ResourceReport> = report.resources.iter().filter(wanted).collect();
    if resources.is_empty() {
        return Check {
            level: Level::Unknown,
            text: "RDB UNKNOWN: no resource is up\n".to_owned(),
        };
    }
    let mut all: Vec<Finding> = resources.iter().flat_map(|r| findings(r)).collect();
    all.sort_by_key(|finding| Reverse(finding.level));
    let level = all.first().map_or(Level::Ok, |finding| finding.level);
    let first = match (all.first(), resources.len()) {
        (Some(finding), _) if all.len() == 1 => finding.text.clone(),
        (Some(finding), _) => format!("{} (and {} more)", finding.text, all.len() - 1),
        (None, 1) => format!("{} is Connected and UpToDate", plain(&resources[0].name)),
        (None, number) => format!("all {number} resources are Connected and UpToDate"),
    };
    let figures: Vec<String> = resources.iter().flat_map(|r| figures(r)).collect();
    let mut text = format!("RDB {level}: {first}");
    if !figures.is_empty() {
        text += &format!(" | {}", figures.join(" "));
    }
    text.push('\n');
    if all.len() > 1 {
        for finding in &all {
            text += &format!("{}: {}\n", finding.level, finding.text);
        }
    }
    Check { level, text }
}

/// All that is not as it should be with a resource, the worst first.
pub fn findings(resource: &ResourceReport) -> Vec<Finding> {
    let mut all = found(resource);
    all.sort_by_key(|finding| Reverse(finding.level));
    all
}

fn found(resource: &ResourceReport) -> Vec<Finding> {
    let name = plain(&resource.name);
    if let Some(failed) = &resource.failed {
        let text = format!("{name}: {FAILED}: {}", plain(&failed.reason));
        return vec![Finding {
            level: Level::Critical,
            text,
        }];
    }
    let mut all = Vec::new();
    all.extend(link(resource).map(|(level, text)| Finding {
        level,
        text: format!("{name}: {text}"),
    }));
    for volume in &resource.volumes {
        let of_volume = [
            own_disk(volume),
            device(volume),
            peer_disk(volume),
            resync(volume),
            suspension(volume),
            marks(volume),
            no_space(volume),
        ];
        all.extend(
            of_volume
                .into_iter()
                .flatten()
                .map(|(level, text)| Finding {
                    level,
                    text: format!("{name}/{}: {text}", volume.volume),
                }),
        );
    }
    let told = resource.volumes.iter().any(|v| !v.suspended.is_empty());
    for trouble in troubles(resource) {
        if trouble.about == "io" && !told {
            let level = match trouble.reason.word.as_str() {
                "snapshot" | "peer-snapshot" => Level::Warning,
                _ => Level::Critical,
            };
            let text = format!("{name}: {}", plain(&trouble.reason.text));
            all.push(Finding { level, text });
        }
        if matches!(trouble.about, "record" | "daemon") {
            all.push(Finding {
                level: Level::Warning,
                text: format!("{name}: {}", plain(&trouble.reason.text)),
            });
        }
    }
    all
}

/// A connection that is not there, and why.
fn link(resource: &ResourceReport) -> Option<(Level, String)> {
    if is_connected(resource) {
        return None;
    }
    let (word, why) = match &resource.link_reason {
        Some(reason) => (reason.word.as_str(), format!(": {}", plain(&reason.text))),
        None => ("", String::new()),
    };
    // Who has disconnected knows of it; what stands alone for another reason stays so until somebody comes.
    let is_wanted = word == "disconnected";
    let level = match resource.connection {
        ConnState::StandAlone if !is_wanted => Level::Critical,
        _ => Level::Warning,
    };
    Some((
        level,
        format!("{}{why}", connection_word(resource.connection)),
    ))
}

fn is_greeted(volume: &VolumeReport) -> bool {
    volume.cstate >= Some(ConnState::Connected)
}

fn is_target(volume: &VolumeReport) -> bool {
    matches!(
        volume.cstate,
        Some(
            ConnState::StartingSyncT
                | ConnState::WFBitMapT
                | ConnState::WFSyncUUID
                | ConnState::SyncTarget
                | ConnState::PausedSyncT
        )
    )
}

fn own_disk(volume: &VolumeReport) -> Option<(Level, String)> {
    let level = match volume.disk {
        DiskState::UpToDate if volume.disk_reason.is_none() => return None,
        DiskState::UpToDate
        | DiskState::Consistent
        | DiskState::Negotiating
        | DiskState::Attaching => Level::Warning,
        DiskState::Inconsistent | DiskState::Outdated if is_target(volume) => Level::Warning,
        _ => Level::Critical,
    };
    let why = volume.disk_reason.as_ref();
    let why = why.map_or(String::new(), |reason| format!(": {}", plain(&reason.text)));
    Some((level, format!("the disk here is {}{why}", volume.disk)))
}

/// Users have nothing to open.
fn device(volume: &VolumeReport) -> Option<(Level, String)> {
    let reason = volume.device_reason.as_ref()?;
    Some((Level::Critical, plain(&reason.text)))
}

fn peer_disk(volume: &VolumeReport) -> Option<(Level, String)> {
    let is_bad = is_greeted(volume) && volume.peer_disk != DiskState::UpToDate;
    is_bad.then(|| {
        let text = format!("the peer's disk is {}", volume.peer_disk);
        (Level::Warning, text)
    })
}

fn resync(volume: &VolumeReport) -> Option<(Level, String)> {
    let cstate = volume
        .cstate
        .filter(|state| *state > ConnState::Connected)?;
    let mut text = cstate.to_string();
    if let Some(sync) = &volume.sync {
        let (whole, tenth) = (sync.done_permille / 10, sync.done_permille % 10);
        text += &format!(" {whole}.{tenth}%, {} s left", sync.left_s);
    }
    if let Some(reason) = &volume.resync_reason {
        text += &format!(": {}", plain(&reason.text));
    }
    Some((Level::Warning, text))
}

fn suspension(volume: &VolumeReport) -> Option<(Level, String)> {
    if volume.suspended.is_empty() {
        return None;
    }
    let words: Vec<&str> = volume.suspended.iter().map(|s| s.as_str()).collect();
    let is_users = volume.suspended == [Suspension::User];
    let level = if is_users {
        Level::Warning
    } else {
        Level::Critical
    };
    let text = format!("users' requests wait ({})", words.join(","));
    Some((level, text))
}

/// Blocks that differ though nothing copies them.
fn marks(volume: &VolumeReport) -> Option<(Level, String)> {
    let is_left = volume.out_of_sync_kib > 0
        && volume.cstate == Some(ConnState::Connected)
        && volume.peer_disk == DiskState::UpToDate
        && volume.disk == DiskState::UpToDate;
    is_left.then(|| {
        let text = format!("{} KiB are out of sync", volume.out_of_sync_kib);
        (Level::Warning, text)
    })
}

fn no_space(volume: &VolumeReport) -> Option<(Level, String)> {
    let full = volume.no_space?;
    let text = format!(
        "{} writes wait for space on a full disk, for {} s",
        full.writes,
        full.for_ms / 1000
    );
    Some((Level::Critical, text))
}

/// Figures in the form of the plugins' guidelines.
fn figures(resource: &ResourceReport) -> Vec<String> {
    let name = plain(&resource.name).replace(['=', '\''], "_");
    let of_volume = |v: &VolumeReport| {
        let label = |what: &str| format!("'{name}/{} {what}'", v.volume);
        let kib = |n: u64| n.saturating_mul(1024);
        [
            format!("{}={}B", label("oos"), kib(v.out_of_sync_kib)),
            format!("{}={}c", label("sent"), kib(v.sent_kib)),
            format!("{}={}c", label("received"), kib(v.received_kib)),
            format!("{}={}c", label("written"), kib(v.written_kib)),
            format!("{}={}c", label("read"), kib(v.read_kib)),
            format!("{}={}", label("pending"), v.peer_pending),
        ]
    };
    let owed_ms = resource.owed_ms;
    let lag = format!("'{name} lag'={}.{:03}s", owed_ms / 1000, owed_ms % 1000);
    let of_volumes = resource.volumes.iter().flat_map(of_volume);
    of_volumes.chain([lag]).collect()
}

/// Text without what would end the line, or begin the figures.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c == '|' || c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rdb_control::{FailedReport, NoSpaceReport, Role};

    use super::*;
    use rdb_control::samples::{good_volume, node, reason, resource};

    /// The verdict on one volume, changed like this.
    fn of(change: impl FnOnce(&mut ResourceReport, &mut VolumeReport)) -> Check {
        let mut volume = good_volume();
        let mut r0 = resource("r0", Vec::new());
        r0.connection = ConnState::WFReportParams;
        change(&mut r0, &mut volume);
        r0.volumes.push(volume);
        check(&node(vec![r0]), &[])
    }

    #[test]
    fn a_good_pair_is_ok_and_has_figures() {
        let ok = of(|_, _| {});
        assert_eq!(ok.level, Level::Ok);
        assert!(
            ok.text
                .starts_with("RDB OK: r0 is Connected and UpToDate | 'r0/0 oos'=0B "),
            "{}",
            ok.text
        );
        assert_eq!(ok.text.lines().count(), 1);
    }

    #[test]
    fn a_connection_that_is_not_there_has_its_level_by_its_reason() {
        use ConnState as C;
        use DiskState as D;
        for (level, text, found) in [
            (
                Level::Warning,
                "Connecting",
                of(|r, v| {
                    r.connection = C::WFConnection;
                    v.cstate = Some(C::WFConnection);
                    v.peer_disk = D::DUnknown;
                }),
            ),
            (
                Level::Critical,
                "StandAlone: split",
                of(|r, v| {
                    r.connection = C::StandAlone;
                    v.cstate = Some(C::StandAlone);
                    v.peer_disk = D::DUnknown;
                    r.link_reason = Some(reason("split-brain", "split"));
                }),
            ),
            (
                Level::Warning,
                "StandAlone: by hand",
                of(|r, v| {
                    r.connection = C::StandAlone;
                    v.cstate = Some(C::StandAlone);
                    v.peer_disk = D::DUnknown;
                    r.link_reason = Some(reason("disconnected", "by hand"));
                }),
            ),
        ] {
            assert_eq!(found.level, level, "{}", found.text);
            assert!(found.text.contains(text), "{}", found.text);
        }
    }

    #[test]
    fn each_thing_has_its_level() {
        use ConnState as C;
        use DiskState as D;
        let cases: [(Level, &str, Check); 8] = [
            (
                Level::Warning,
                "SyncTarget",
                of(|_, v| {
                    v.cstate = Some(C::SyncTarget);
                    v.disk = D::Inconsistent;
                }),
            ),
            (
                Level::Critical,
                "the disk here is Inconsistent",
                of(|_, v| v.disk = D::Inconsistent),
            ),
            (
                Level::Warning,
                "the peer's disk is Diskless",
                of(|_, v| v.peer_disk = D::Diskless),
            ),
            (
                Level::Critical,
                "wait (fencing)",
                of(|_, v| v.suspended = vec![Suspension::Fencing]),
            ),
            (
                Level::Warning,
                "wait (user)",
                of(|_, v| v.suspended = vec![Suspension::User]),
            ),
            (
                Level::Warning,
                "8 KiB are out of sync",
                of(|_, v| v.out_of_sync_kib = 8),
            ),
            (
                Level::Critical,
                "full disk",
                of(|_, v| {
                    v.no_space = Some(NoSpaceReport {
                        writes: 3,
                        for_ms: 4000,
                    });
                }),
            ),
            (
                Level::Critical,
                "Failed: it died",
                of(|r, _| {
                    r.failed = Some(FailedReport {
                        reason: "it died".to_owned(),
                        advice: String::new(),
                    });
                }),
            ),
        ];
        for (level, text, found) in cases {
            assert_eq!(found.level, level, "{}", found.text);
            assert!(found.text.contains(text), "{}", found.text);
        }
    }

    #[test]
    fn users_who_wait_for_a_takeover_are_told_of() {
        let found = of(|r, v| {
            v.role = Role::Secondary;
            r.io_reason = Some(reason("takeover", "users of the daemon before wait"));
        });
        assert_eq!(found.level, Level::Critical);
        assert!(found.text.contains("users of the daemon before wait"));
    }

    #[test]
    fn the_worst_comes_first_and_all_are_told() {
        let found = of(|r, v| {
            r.record_reason = Some(reason("record", "not on record"));
            v.role = Role::Secondary;
            v.disk = DiskState::Diskless;
        });
        assert_eq!(found.level, Level::Critical);
        let lines: Vec<&str> = found.text.lines().collect();
        assert!(
            lines[0].starts_with("RDB CRITICAL: r0/0: the disk here is Diskless (and 1 more) | "),
            "{}",
            lines[0]
        );
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_resource_that_is_not_up_serves_nobody() {
        let report = node(vec![resource("r0", vec![good_volume()])]);
        let found = check(&report, &["r1".to_owned()]);
        assert_eq!(found.level.exit_code(), 2);
        assert_eq!(found.text, "RDB CRITICAL: resource r1 is not up\n");
        assert_eq!(check(&node(Vec::new()), &[]).level, Level::Unknown);
    }

    proptest! {
        /// Whatever a reason says, the figures begin where they are looked for.
        #[test]
        fn no_text_breaks_the_line(text in "\\PC{0,40}|[\n|'=]{1,9}") {
            let found = of(|r, v| {
                r.connection = ConnState::StandAlone;
                r.link_reason = Some(reason("split-brain", &text));
                v.disk_reason = Some(reason("failed", &text));
            });
            let first = found.text.lines().next().unwrap_or_default();
            prop_assert_eq!(first.matches('|').count(), 1);
        }
    }
}
