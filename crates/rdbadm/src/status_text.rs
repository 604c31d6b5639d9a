//! What `status` prints: DRBD 8.4's text (`docs/spec/admin.md`, section 4.7), the JSON of section 4.8 (`status_json.rs`), and the lines
//! of `drbd-overview` (section 6).

use rdb_control::{
    ConnState, DiskState, HandlerReport, Pause, ResourceReport, Role, StatusReport, VolumeReport,
};
pub(crate) use rdb_watch::connection_word;

use crate::status_reasons::{self, one_line};

/// How much is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Detail {
    /// `--verbose`.
    pub(crate) verbose: bool,
    /// `--statistics`.
    pub(crate) statistics: bool,
    /// Colour the states.
    pub(crate) color: bool,
}

/// The text of one resource, with the empty line that ends it.
pub(crate) fn text(resource: &ResourceReport, detail: Detail) -> String {
    let mut text = Lines {
        text: String::new(),
    };
    let Detail {
        verbose,
        statistics,
        ..
    } = detail;
    let paint = |word: &str, own| paint(word, own, detail.color);
    if let Some(failed) = &resource.failed {
        text.line(0, &format!("{} role:Unknown failed:yes", resource.name));
        text.line(2, &format!("reason: {}", one_line(&failed.reason)));
        text.line(2, &format!("advice: {}", one_line(&failed.advice)));
        text.text.push('\n');
        return text.text;
    }
    let mut head = format!(
        "{} role:{}",
        resource.name,
        paint(role(resource).as_str(), true)
    );
    let suspended = suspended(resource);
    if verbose || suspended != "no" {
        head += &format!(" suspended:{suspended}");
    }
    text.line(0, &head);
    if statistics {
        let ordering = write_ordering_of(resource);
        text.line(4, &format!("write-ordering:{ordering}"));
    }
    let numbered =
        verbose || resource.volumes.len() > 1 || resource.volumes.iter().any(|v| v.volume != 0);
    for volume in &resource.volumes {
        let mut line = String::new();
        if numbered {
            line += &format!("volume:{} ", volume.volume);
        }
        if verbose {
            line += &format!("minor:{} ", volume.minor);
        }
        line += &format!("disk:{}", paint(volume.disk.as_str(), true));
        // (With figures it stands behind them.)
        if !statistics && (verbose || blocked(volume) != "no") {
            line += &format!(" blocked:{}", blocked(volume));
        }
        if let Some(wait) = &volume.no_space {
            line += &format!(
                " disk-full:{} writes wait for space, for {} s",
                wait.writes,
                wait.for_ms / 1000
            );
        }
        text.line(2, &line);
        if statistics {
            text.line(6, &device_statistics(volume, verbose));
        }
    }
    if let Some(lines) = peer(resource, detail, numbered) {
        for (indent, line) in lines {
            text.line(indent, &line);
        }
    }
    for line in status_reasons::lines(resource) {
        text.line(2, &line);
    }
    // What runs may be what everything waits for.
    for run in &resource.handlers {
        if verbose || run.exit.is_none() {
            text.line(2, &handler_run(run));
        }
    }
    text.text.push('\n');
    text.text
}

/// How a handler was last run.
fn handler_run(run: &HandlerReport) -> String {
    let volume = run.volume;
    let volume = volume.map_or_else(String::new, |volume| format!(" volume {volume}"));
    let (name, since, seconds) = (&run.name, run.since(), run.took_ms as f64 / 1000.0);
    let Some(exit) = run.exit else {
        return format!("handler-run: {name}{volume} since {since}: it runs, for {seconds:.1} s");
    };
    let note = run.note.as_ref();
    let note = note.map_or_else(String::new, |note| format!("; it {}", one_line(note)));
    format!(
        "handler-run: {name}{volume} since {since}: exit code {exit} after {seconds:.1} s{note}"
    )
}

struct Lines {
    text: String,
}

impl Lines {
    fn line(&mut self, indent: usize, line: &str) {
        self.text.push_str(&" ".repeat(indent));
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// The peer's lines; none while there is no connection object.
fn peer(resource: &ResourceReport, detail: Detail, numbered: bool) -> Option<Vec<(usize, String)>> {
    let Detail {
        verbose,
        statistics,
        ..
    } = detail;
    let paint = |word: &str, own| paint(word, own, detail.color);
    if resource.connection == ConnState::StandAlone {
        return None;
    }
    let connection = connection_word(resource.connection);
    let is_connected = resource.connection == ConnState::WFReportParams;
    let mut lines = Vec::new();
    let mut head = "peer".to_owned();
    if verbose || !is_connected {
        head += &format!(" connection:{}", paint(connection, true));
    }
    if verbose || is_connected {
        head += &format!(" role:{}", paint(peer_role(resource).as_str(), false));
    }
    if statistics {
        head += match is_congested(resource) {
            true => " congested:yes",
            false => " congested:no",
        };
    }
    lines.push((2, head));
    if !(is_connected || verbose || statistics) {
        return Some(lines);
    }
    for volume in &resource.volumes {
        let replication = replication_word(volume);
        let mut words = Vec::new();
        if numbered {
            words.push(format!("volume:{}", volume.volume));
        }
        if verbose || replication != "Off" {
            words.push(format!("replication:{}", paint(replication, true)));
        }
        words.push(format!(
            "peer-disk:{}",
            paint(volume.peer_disk.as_str(), false)
        ));
        if let Some(done) = done_percent(volume) {
            words.push(format!("done:{done:.2}"));
        }
        let paused = resync_suspended(volume);
        if verbose || paused != "no" {
            words.push(format!("resync-suspended:{paused}"));
        }
        lines.push((4, words.join(" ")));
        if statistics {
            let mut line = format!(
                "received:{} sent:{} out-of-sync:{}",
                volume.received_kib, volume.sent_kib, volume.out_of_sync_kib
            );
            if verbose {
                line += &format!(
                    " pending:{} unacked:{}",
                    volume.peer_pending, volume.unacked
                );
            }
            lines.push((8, line));
        }
    }
    Some(lines)
}

fn device_statistics(volume: &VolumeReport, verbose: bool) -> String {
    let mut line = format!(
        "size:{} read:{} written:{}",
        volume.size_kib, volume.read_kib, volume.written_kib
    );
    if verbose {
        let suspended = if volume.al_suspended { "yes" } else { "no" };
        line += &format!(
            " al-writes:{} bm-writes:{} upper-pending:{} lower-pending:{} al-suspended:{suspended} blocked:{}",
            volume.al_writes,
            volume.bm_writes,
            volume.application_pending,
            volume.local_pending,
            blocked(volume),
        );
    }
    line
}

/// What holds the upper layer back, in the words of `blocked:`.
pub(crate) fn blocked(volume: &VolumeReport) -> &'static str {
    match volume.flags.chars().nth(4) {
        _ if !volume.suspended.is_empty() => "upper",
        Some('d' | 'c') => "upper",
        Some('b') => "lower",
        Some('n') => "network",
        Some('a') => "lower,network",
        _ => "no",
    }
}

/// The role of a resource: Primary if any volume is.
pub(crate) fn role(resource: &ResourceReport) -> Role {
    let roles = resource.volumes.iter().map(|v| v.role);
    roles.max_by_key(rank).unwrap_or(Role::Secondary)
}

pub(crate) fn peer_role(resource: &ResourceReport) -> Role {
    let roles = resource.volumes.iter().map(|v| v.peer_role);
    roles.max_by_key(rank).unwrap_or(Role::Unknown)
}

/// Primary before Secondary before Unknown.
fn rank(role: &Role) -> u8 {
    match role {
        Role::Primary => 2,
        Role::Secondary => 1,
        Role::Unknown => 0,
    }
}

/// The newer word for a volume's connection state.
pub(crate) fn replication_word(volume: &VolumeReport) -> &'static str {
    match volume.cstate {
        Some(state) if state < ConnState::Connected => "Off",
        Some(ConnState::Connected) => "Established",
        _ => volume.cstate_word(),
    }
}

/// `done:` is the share in sync, shown in every state of resync and verify.
fn done_percent(volume: &VolumeReport) -> Option<f64> {
    let is_syncing = matches!(
        volume.cstate,
        Some(
            ConnState::SyncSource
                | ConnState::SyncTarget
                | ConnState::VerifyS
                | ConnState::VerifyT
                | ConnState::PausedSyncS
                | ConnState::PausedSyncT
        )
    );
    (is_syncing && volume.size_kib > 0).then(|| volume.in_sync_percent())
}

fn joined(words: impl Iterator<Item = &'static str>) -> String {
    let words: Vec<_> = words.collect();
    match words.is_empty() {
        true => "no".to_owned(),
        false => words.join(","),
    }
}

pub(crate) fn suspended(resource: &ResourceReport) -> String {
    let volume = resource.volumes.first();
    joined(volume.iter().flat_map(|v| &v.suspended).map(|s| s.as_str()))
}

pub(crate) fn resync_suspended(volume: &VolumeReport) -> String {
    joined(volume.resync_suspended.iter().map(|pause| pause.as_str()))
}

/// That of its volumes; without one what a volume begins with.
pub(crate) fn write_ordering_of(resource: &ResourceReport) -> &'static str {
    let volume = resource.volumes.first();
    write_ordering(volume.map_or('f', |v| v.write_ordering))
}

/// Whether writes wait for the network.
pub(crate) fn is_congested(resource: &ResourceReport) -> bool {
    let mut volumes = resource.volumes.iter();
    volumes.any(|v| blocked(v).ends_with("network"))
}

/// The role of a resource; of one that does not run it is not known.
pub(crate) fn role_word(resource: &ResourceReport) -> &'static str {
    match resource.failed {
        Some(_) => Role::Unknown.as_str(),
        None => role(resource).as_str(),
    }
}

fn write_ordering(letter: char) -> &'static str {
    match letter {
        'b' => "barrier",
        'f' => "flush",
        'd' => "drain",
        _ => "none",
    }
}

/// Colours as `drbdsetup` has them: own side bold, the peer's not.
pub(crate) fn paint(word: &str, own: bool, color: bool) -> String {
    let code = match word {
        "Primary" => "36",
        "UpToDate" => "32",
        "Diskless" | "Inconsistent" | "Outdated" | "StandAlone" | "Connecting" | "SyncSource"
        | "SyncTarget" => "31",
        _ => return word.to_owned(),
    };
    match (color, own) {
        (false, _) => word.to_owned(),
        (true, true) => format!("\x1b[1;{code}m{word}\x1b[0m"),
        (true, false) => format!("\x1b[{code}m{word}\x1b[0m"),
    }
}

/// `drbd-overview`: one line a volume.
pub(crate) fn overview(report: &StatusReport) -> String {
    let mut volumes: Vec<(&ResourceReport, &VolumeReport)> = report
        .resources
        .iter()
        .flat_map(|r| r.volumes.iter().map(move |v| (r, v)))
        .collect();
    volumes.sort_by_key(|(_, volume)| volume.minor);
    let mut text = String::new();
    for (resource, volume) in volumes {
        text += &format!("{:2}:{}/{} ", volume.minor, resource.name, volume.volume);
        if is_unconfigured(volume) {
            text += "Unconfigured . .\n";
            continue;
        }
        let protocol = resource
            .protocol
            .filter(|_| volume.cstate != Some(ConnState::StandAlone))
            .unwrap_or(' ');
        text += &format!(
            "{} {}/{} {}/{} {protocol} {}\n",
            volume.cstate_word(),
            volume.role,
            volume.peer_role,
            volume.disk,
            volume.peer_disk,
            volume.flags
        );
        for line in status_reasons::of_volume(resource, volume) {
            text += &format!("    {line}\n");
        }
    }
    text
}

/// The shell assignments for a volume that there is not. All are there: who evaluates them has those of the volume before
/// (`docs/spec/admin.md`, section 4.6).
pub(crate) fn sh_status_of_none(minor: Option<u32>) -> String {
    let minor = minor.map(|minor| minor.to_string()).unwrap_or_default();
    format!(
        "_minor={minor}\n_res_name=\n_volume=-1\n_known=NA # not available or not yet created\n\n_cstate=Unconfigured\n\
         _role=\n_peer=\n_disk=\n_pdsk=\n_flags_susp=\n_flags_aftr_isp=\n_flags_peer_isp=\n_flags_user_isp=\n\
         _resynced_percent=\n\n_sh_status_process\n\n\n"
    )
}

/// Shell assignments for one volume.
pub(crate) fn sh_status(resource: &ResourceReport, volume: &VolumeReport) -> String {
    let unconfigured = is_unconfigured(volume);
    let known = |word: &'static str| if unconfigured { "" } else { word };
    let flag = |pause| match volume.resync_suspended.contains(&pause) {
        true => "1",
        false => "",
    };
    let percent = match &volume.sync {
        Some(sync) if !unconfigured => {
            format!("{}.{}", sync.done_permille / 10, sync.done_permille % 10)
        }
        _ => String::new(),
    };
    // (Where nothing is known drbdsetup has no line between the groups.)
    let gap = if unconfigured { "" } else { "\n" };
    format!(
        "_minor={}\n_res_name={}\n_volume={}\n_known={}\n\n_cstate={}\n_role={}\n_peer={}\n_disk={}\n_pdsk={}\n{gap}\
         _flags_susp={}\n_flags_aftr_isp={}\n_flags_peer_isp={}\n_flags_user_isp={}\n{gap}\
         _resynced_percent={percent}\n\n_sh_status_process\n\n\n",
        volume.minor,
        resource.name,
        volume.volume,
        if unconfigured {
            "Unconfigured"
        } else {
            "Configured"
        },
        if unconfigured {
            "Unconfigured"
        } else {
            volume.cstate_word()
        },
        known(volume.role.as_str()),
        known(volume.peer_role.as_str()),
        known(volume.disk.as_str()),
        known(volume.peer_disk.as_str()),
        if volume.suspended.is_empty() { "" } else { "1" },
        flag(Pause::Dependency),
        flag(Pause::Peer),
        flag(Pause::User),
    )
}

/// StandAlone, Diskless and Secondary.
pub(crate) fn is_unconfigured(volume: &VolumeReport) -> bool {
    volume.cstate == Some(ConnState::StandAlone)
        && volume.disk == DiskState::Diskless
        && volume.role == Role::Secondary
}

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use rdb_control::samples::volume;
    use rdb_control::{Suspension, samples};

    use super::*;

    pub(crate) fn resource(connection: &str, volumes: Vec<VolumeReport>) -> ResourceReport {
        ResourceReport {
            connection: connection.parse().unwrap(),
            handlers: Vec::new(),
            ..samples::resource("r0", volumes)
        }
    }

    const PLAIN: Detail = Detail {
        verbose: false,
        statistics: false,
        color: false,
    };
    const ALL: Detail = Detail {
        verbose: true,
        statistics: true,
        color: false,
    };

    #[test]
    fn a_handler_that_runs_has_a_line_and_one_that_has_ended_if_it_is_asked_for() {
        let mut report = resource("StandAlone", Vec::new());
        let ended = HandlerReport {
            name: "out-of-sync".to_owned(),
            volume: Some(1),
            since_s: 0,
            exit: Some(3),
            took_ms: 1234,
            note: None,
        };
        let killed = HandlerReport {
            exit: Some(143),
            note: Some("was killed by\nsignal 15".to_owned()),
            ..ended.clone()
        };
        let running = HandlerReport {
            name: "fence-peer".to_owned(),
            volume: None,
            exit: None,
            ..ended.clone()
        };
        report.handlers = vec![ended, killed, running];
        let since = "since 1970-01-01T00:00:00Z";
        let line = format!("  handler-run: fence-peer {since}: it runs, for 1.2 s\n");
        assert_eq!(text(&report, PLAIN), format!("r0 role:Secondary\n{line}\n"));
        let all = text(&report, ALL);
        let first =
            format!("  handler-run: out-of-sync volume 1 {since}: exit code 3 after 1.2 s\n");
        let second = format!(
            "  handler-run: out-of-sync volume 1 {since}: exit code 143 after 1.2 s; it was killed by signal 15\n"
        );
        assert!(all.contains(&(first + &second + &line)), "{all}");
    }

    /// Each text is from the kernel's driver (captures/transcripts).
    #[test]
    fn the_text_is_drbds() {
        let inconsistent = ("Inconsistent", "DUnknown");
        for (resource, text) in [
            (
                resource(
                    "WFConnection",
                    vec![volume(
                        "WFConnection",
                        ("Secondary", "Unknown"),
                        inconsistent,
                    )],
                ),
                "r0 role:Secondary\n  disk:Inconsistent\n  peer connection:Connecting\n\n",
            ),
            (
                resource(
                    "WFReportParams",
                    vec![volume(
                        "Connected",
                        ("Primary", "Secondary"),
                        ("UpToDate", "UpToDate"),
                    )],
                ),
                "r0 role:Primary\n  disk:UpToDate\n  peer role:Secondary\n    \
                 replication:Established peer-disk:UpToDate\n\n",
            ),
            (
                resource(
                    "WFReportParams",
                    vec![VolumeReport {
                        out_of_sync_kib: 925_596,
                        ..volume(
                            "SyncSource",
                            ("Primary", "Secondary"),
                            ("UpToDate", "Inconsistent"),
                        )
                    }],
                ),
                "r0 role:Primary\n  disk:UpToDate\n  peer role:Secondary\n    \
                 replication:SyncSource peer-disk:Inconsistent done:11.72\n\n",
            ),
            (
                resource(
                    "StandAlone",
                    vec![volume(
                        "StandAlone",
                        ("Primary", "Unknown"),
                        ("UpToDate", "DUnknown"),
                    )],
                ),
                "r0 role:Primary\n  disk:UpToDate\n\n",
            ),
        ] {
            assert_eq!(super::text(&resource, PLAIN), text);
        }
    }

    #[test]
    fn several_volumes_are_numbered() {
        let up = volume(
            "Connected",
            ("Secondary", "Primary"),
            ("UpToDate", "UpToDate"),
        );
        let behind = VolumeReport {
            volume: 1,
            minor: 1,
            out_of_sync_kib: 975_113,
            resync_suspended: vec![Pause::User],
            ..volume(
                "PausedSyncT",
                ("Secondary", "Primary"),
                ("Inconsistent", "UpToDate"),
            )
        };
        assert_eq!(
            text(&resource("WFReportParams", vec![up, behind]), PLAIN),
            "r0 role:Secondary\n  volume:0 disk:UpToDate\n  volume:1 disk:Inconsistent\n  peer role:Primary\n    \
             volume:0 replication:Established peer-disk:UpToDate\n    \
             volume:1 replication:PausedSyncT peer-disk:UpToDate done:7.00 resync-suspended:user\n\n"
        );
    }

    #[test]
    fn verbose_and_statistics_say_everything() {
        let volume = VolumeReport {
            out_of_sync_kib: 1_048_508,
            ..volume(
                "Connected",
                ("Secondary", "Secondary"),
                ("Inconsistent", "Inconsistent"),
            )
        };
        // The kernel's tool wraps at 80 columns; we do not.
        assert_eq!(
            text(&resource("WFReportParams", vec![volume]), ALL),
            "r0 role:Secondary suspended:no\n    write-ordering:flush\n  volume:0 minor:0 disk:Inconsistent\n      \
             size:1048508 read:0 written:0 al-writes:8 bm-writes:0 upper-pending:0 lower-pending:0 \
             al-suspended:no blocked:no\n  peer connection:Connected role:Secondary congested:no\n    \
             volume:0 replication:Established peer-disk:Inconsistent resync-suspended:no\n        \
             received:0 sent:0 out-of-sync:1048508 pending:0 unacked:0\n\n"
        );
    }

    #[test]
    fn shell_assignments_are_those_that_agents_evaluate() {
        let report = resource(
            "WFReportParams",
            vec![volume(
                "Connected",
                ("Primary", "Secondary"),
                ("UpToDate", "UpToDate"),
            )],
        );
        assert_eq!(
            sh_status(&report, &report.volumes[0]),
            "_minor=0\n_res_name=r0\n_volume=0\n_known=Configured\n\n_cstate=Connected\n_role=Primary\n\
             _peer=Secondary\n_disk=UpToDate\n_pdsk=UpToDate\n\n_flags_susp=\n_flags_aftr_isp=\n_flags_peer_isp=\n\
             _flags_user_isp=\n\n_resynced_percent=\n\n_sh_status_process\n\n\n"
        );
        let down = volume(
            "StandAlone",
            ("Secondary", "Unknown"),
            ("Diskless", "DUnknown"),
        );
        let text = sh_status(&report, &down);
        assert!(
            text.contains("_known=Unconfigured\n\n_cstate=Unconfigured\n_role=\n_peer=\n"),
            "{text}"
        );
    }

    /// What other versions of the commands and of the daemon, and programs at the socket, read.
    #[test]
    fn states_are_words_on_the_socket() {
        let mut volume = volume(
            "WFBitMapT",
            ("Secondary", "Primary"),
            ("Outdated", "UpToDate"),
        );
        volume.suspended = vec![Suspension::User, Suspension::NoData, Suspension::Fencing];
        volume.resync_suspended = vec![Pause::User, Pause::Peer, Pause::Dependency];
        let mut report = resource("StandAlone", vec![volume]);
        let mut value = serde_json::to_value(&report).unwrap();
        assert_eq!(value["connection"], "StandAlone");
        let shown = &value["volumes"][0];
        for (key, word) in [
            ("role", "Secondary"),
            ("peer_role", "Primary"),
            ("cstate", "WFBitMapT"),
            ("disk", "Outdated"),
            ("peer_disk", "UpToDate"),
        ] {
            assert_eq!(shown[key], word);
        }
        let why = serde_json::json!(["user", "no-data", "fencing"]);
        assert_eq!(shown["suspended"], why);
        let why = serde_json::json!(["user", "peer", "dependency"]);
        assert_eq!(shown["resync_suspended"], why);
        assert_eq!(
            serde_json::from_value::<ResourceReport>(value.clone()).unwrap(),
            report
        );
        value["volumes"][0]["role"] = "primary".into();
        assert!(serde_json::from_value::<ResourceReport>(value.clone()).is_err());
        // A resource that does not run has no state of DRBD's.
        report.volumes[0].cstate = None;
        let value = serde_json::to_value(&report).unwrap();
        assert_eq!(value["volumes"][0]["cstate"], "Failed");
        assert_eq!(
            serde_json::from_value::<ResourceReport>(value).unwrap(),
            report
        );
    }

    #[test]
    fn the_overview_has_one_line_a_volume() {
        let mut report = StatusReport {
            node: "a".to_owned(),
            resources: vec![resource(
                "WFReportParams",
                vec![volume(
                    "Connected",
                    ("Primary", "Secondary"),
                    ("UpToDate", "UpToDate"),
                )],
            )],
        };
        report.resources[0].volumes[0].minor = 1;
        assert_eq!(
            overview(&report),
            " 1:r0/0 Connected Primary/Secondary UpToDate/UpToDate C r-----\n"
        );
    }
}
