//! A state in sentences: what it is, how it came about, what happens next by itself, and what can be done at which cost.

mod actions;
mod choices;

use rdb_control::{
    ConnState, DiskState, HandlerReport, ResourceReport, Role, Suspension, VolumeReport,
};

pub use actions::{actions, up_all};
use choices::choices;
pub use choices::{Choice, Stake};

use crate::{is_connected, is_frozen, troubles};

/// What there is to say of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// All of it in a sentence.
    pub headline: String,
    /// What is.
    pub now: Vec<String>,
    /// What happens next by itself.
    pub next: Vec<String>,
    /// What the administrator can do.
    pub choices: Vec<Choice>,
}

/// Explains the state of a resource.
pub fn explain(resource: &ResourceReport) -> Explanation {
    Explanation {
        headline: headline(resource),
        now: now(resource),
        next: next(resource),
        choices: choices(resource),
    }
}

impl Explanation {
    /// The whole text. `past`: what has happened, a line each, the oldest first.
    pub fn text(&self, past: &[String]) -> String {
        let mut text = format!("{}\n", self.headline);
        let mut section = |title: &str, lines: &mut dyn Iterator<Item = String>| {
            let lines: Vec<String> = lines.collect();
            if !lines.is_empty() {
                text += &format!("\n{title}\n");
                lines.iter().for_each(|line| text += &format!("  {line}\n"));
            }
        };
        section("What is:", &mut self.now.iter().cloned());
        section("How it came about:", &mut past.iter().cloned());
        section(
            "What happens next by itself:",
            &mut self.next.iter().cloned(),
        );
        let choices = self.choices.iter();
        section(
            "What you can do:",
            &mut choices.map(|choice| format!("{}\n      {}", choice.command, choice.means)),
        );
        text
    }
}

fn is_primary(resource: &ResourceReport) -> bool {
    resource.volumes.iter().any(|v| v.role == Role::Primary)
}

fn is_peer_primary(resource: &ResourceReport) -> bool {
    let connected = is_connected(resource);
    connected
        && resource
            .volumes
            .iter()
            .any(|v| v.peer_role == Role::Primary)
}

/// The reasons why users' requests wait.
fn suspensions(resource: &ResourceReport) -> Vec<Suspension> {
    let all = [Suspension::Fencing, Suspension::NoData, Suspension::User];
    let is = |reason: &Suspension| {
        resource
            .volumes
            .iter()
            .any(|v| v.suspended.contains(reason))
    };
    all.into_iter().filter(is).collect()
}

/// Whether a split brain keeps the nodes apart.
fn is_split(resource: &ResourceReport) -> bool {
    let reason = resource.link_reason.as_ref();
    reason.is_some_and(|reason| reason.word == "split-brain")
}

/// Whether a resync goes on or is prepared, and this node is its target.
fn sync_side(volume: &VolumeReport) -> Option<bool> {
    match volume.cstate? {
        ConnState::StartingSyncS
        | ConnState::WFBitMapS
        | ConnState::SyncSource
        | ConnState::PausedSyncS => Some(false),
        ConnState::StartingSyncT
        | ConnState::WFBitMapT
        | ConnState::WFSyncUUID
        | ConnState::SyncTarget
        | ConnState::PausedSyncT => Some(true),
        _ => None,
    }
}

fn is_good(volume: &VolumeReport) -> bool {
    volume.disk == DiskState::UpToDate
}

fn headline(resource: &ResourceReport) -> String {
    let name = &resource.name;
    let volumes = &resource.volumes;
    let good = |v: &VolumeReport| is_good(v) && v.peer_disk == DiskState::UpToDate;
    if resource.failed.is_some() {
        format!("{name} does not run.")
    } else if volumes.is_empty() {
        format!("{name} has no volumes.")
    } else if is_frozen(resource) {
        format!("Users of {name} wait.")
    } else if is_split(resource) {
        format!(
            "{name} has a split brain: both nodes have written apart, and each lacks what the other has."
        )
    } else if !is_connected(resource) {
        format!("{name} has no connection to its peer: nothing is mirrored.")
    } else if volumes.iter().any(|v| sync_side(v).is_some()) {
        format!("{name} is being synced.")
    } else if volumes.iter().all(good) {
        format!("{name} is well: both nodes have the same data.")
    } else {
        format!("{name} is connected, and not all of its disks are good.")
    }
}

/// A sentence for each volume, said once if it is the same for all.
fn of_volumes(
    resource: &ResourceReport,
    sentence: impl Fn(&VolumeReport) -> Option<String>,
) -> Vec<String> {
    let all: Vec<(u16, String)> = resource
        .volumes
        .iter()
        .filter_map(|v| Some((v.volume, sentence(v)?)))
        .collect();
    let is_same = all.len() == resource.volumes.len() && all.windows(2).all(|w| w[0].1 == w[1].1);
    match all.first() {
        Some((_, first)) if is_same => vec![first.clone()],
        _ => all
            .into_iter()
            .map(|(nr, text)| format!("Volume {nr}: {text}"))
            .collect(),
    }
}

fn now(resource: &ResourceReport) -> Vec<String> {
    if let Some(failed) = &resource.failed {
        return vec![failed.reason.clone()];
    }
    if resource.volumes.is_empty() {
        return Vec::new();
    }
    let mut all = vec![users(resource)];
    all.extend(of_volumes(resource, |v| Some(own_disk(v))));
    all.extend(of_volumes(resource, |v| peer_disk(resource, v)));
    for trouble in troubles(resource) {
        if matches!(trouble.about, "connection" | "io" | "record" | "daemon") {
            all.push(format!("{}: {}.", trouble.about, trouble.reason.text));
        }
    }
    all.extend(of_volumes(resource, |v| {
        let full = v.no_space?;
        Some(format!(
            "The backing disk is full: {} writes wait for space.",
            full.writes
        ))
    }));
    all
}

/// Who uses the device.
fn users(resource: &ResourceReport) -> String {
    match (is_primary(resource), is_peer_primary(resource)) {
        (true, _) => "This node is Primary: users work here.".to_owned(),
        (false, true) => "The peer is Primary: users work there.".to_owned(),
        (false, false) if is_connected(resource) && !is_frozen(resource) => {
            "Neither node is Primary: nobody uses the device.".to_owned()
        }
        (false, false) if is_frozen(resource) => {
            "This node is Secondary, and users wait for it.".to_owned()
        }
        (false, false) => {
            "This node is Secondary: nobody uses the device here; what the peer does is not known."
                .to_owned()
        }
    }
}

fn own_disk(v: &VolumeReport) -> String {
    let text = match v.disk {
        DiskState::UpToDate => "The disk here has the newest data that this node knows of",
        DiskState::Consistent => {
            "The disk here has data that are sound; whether they are the newest is not known"
        }
        DiskState::Outdated => "The disk here has old data: somebody has newer ones",
        DiskState::Inconsistent if sync_side(v) == Some(true) => {
            "The disk here is a mixture of old and new blocks until the resync has ended"
        }
        DiskState::Inconsistent => "The disk here cannot be used by itself",
        DiskState::Diskless => {
            "This node has no disk; users here are served by the peer's, if it has a good one"
        }
        DiskState::Failed => "The disk here has failed and is being given up",
        DiskState::Attaching | DiskState::Negotiating => {
            "The disk here is being attached; the peer has a say in what it is worth"
        }
        DiskState::DUnknown => "What the disk here is, is not known",
    };
    match &v.disk_reason {
        Some(reason) => format!("{text} ({}): {}.", v.disk, reason.text),
        None => format!("{text} ({}).", v.disk),
    }
}

fn peer_disk(resource: &ResourceReport, v: &VolumeReport) -> Option<String> {
    let state = v.peer_disk;
    let connected = is_connected(resource);
    let text = match state {
        DiskState::UpToDate => "The peer's disk has the same data",
        DiskState::Inconsistent if sync_side(v) == Some(false) => {
            "The peer's disk is being brought up to date from here"
        }
        DiskState::Inconsistent if connected => "The peer's disk cannot be used by itself",
        DiskState::Inconsistent | DiskState::Outdated if !connected => {
            "The peer's disk is known to be old: the peer cannot go on with it by itself"
        }
        DiskState::Outdated => "The peer's disk has old data",
        DiskState::Diskless => "The peer has no disk: all data are here alone",
        DiskState::DUnknown => "What the peer's disk has is not known",
        _ => return Some(format!("The peer's disk is {state}.")),
    };
    let lacks = match v.out_of_sync_kib {
        0 => String::new(),
        kib if sync_side(v).is_some() => format!("; {kib} KiB are to be copied"),
        kib => format!("; {kib} KiB are marked as different"),
    };
    Some(format!("{text} ({state}){lacks}."))
}

fn next(resource: &ResourceReport) -> Vec<String> {
    if resource.failed.is_some() {
        return vec!["rdbd starts it again by itself, a few times.".to_owned()];
    }
    if resource.volumes.is_empty() {
        return vec!["Nothing.".to_owned()];
    }
    let mut all: Vec<String> = suspensions(resource)
        .into_iter()
        .map(|reason| thaw(resource, reason))
        .collect();
    if is_connected(resource) {
        all.extend(of_volumes(resource, |v| sync_next(resource, v)));
        if all.is_empty() {
            all.push(mirrored(resource));
        }
        return all;
    }
    all.push(match resource.connection {
        ConnState::StandAlone => {
            "Nothing: a node that is StandAlone does not try to connect. It waits for 'connect'."
                .to_owned()
        }
        ConnState::Disconnecting => "The connection ends; this node is StandAlone then.".to_owned(),
        _ => "This node goes on trying to connect. When the peer is back both compare their data, and whoever has the newer ones \
              copies what the other one lacks; if both have written apart it is a split brain."
            .to_owned(),
    });
    if is_primary(resource) && suspensions(resource).is_empty() {
        all.push(
            "Users here go on; what they write is marked, and copied to the peer later.".to_owned(),
        );
    }
    all
}

fn thaw(resource: &ResourceReport, reason: Suspension) -> String {
    let text = match reason {
        Suspension::Fencing => return fenced(resource),
        Suspension::NoData => {
            "Users' requests go on when a good disk is there again, here or at the peer."
        }
        Suspension::User => "Users' requests wait until 'resume-io'.",
    };
    text.to_owned()
}

/// What ends the wait for the peer to be fenced, by how the handler stands that was called for it. A run that began before users waited
/// tells nothing of that.
fn fenced(resource: &ResourceReport) -> String {
    let since_s = resource
        .io_reason
        .as_ref()
        .and_then(|reason| reason.since_s);
    let of_now = |run: &&HandlerReport| {
        run.name == "fence-peer" && run.since_s >= since_s.unwrap_or_default()
    };
    match resource.handlers.iter().rfind(of_now) {
        Some(HandlerReport { exit: Some(exit), .. }) => format!(
            "The handler fence-peer has ended with {exit}, and has not fenced the peer: users' requests go on when the peer is back, or by \
             'resume-io'."
        ),
        Some(_) => {
            "Users' requests go on when fence-peer, which runs, has said that the peer cannot go on, or when the peer is back.".to_owned()
        }
        None => "Users' requests go on when fence-peer has said that the peer cannot go on, or when the peer is back.".to_owned(),
    }
}

fn sync_next(resource: &ResourceReport, v: &VolumeReport) -> Option<String> {
    let cstate = v.cstate?;
    match cstate {
        ConnState::PausedSyncS | ConnState::PausedSyncT => Some(match &v.resync_reason {
            Some(reason) => format!("The resync waits: {}.", reason.text),
            None => "The resync waits.".to_owned(),
        }),
        ConnState::SyncSource | ConnState::SyncTarget => {
            let from = if cstate == ConnState::SyncSource {
                "to the peer"
            } else {
                "from the peer"
            };
            let ends = match &v.sync {
                Some(sync) if sync.rate_kib > 0 => {
                    format!(", which takes some {} s at the present rate", sync.left_s)
                }
                _ => String::new(),
            };
            Some(format!("The resync copies what is missing {from}{ends}; then both have the same data."))
        }
        ConnState::VerifyS | ConnState::VerifyT => Some(
            "The verify compares both disks; what differs is marked, told in the log, and not repaired.".to_owned(),
        ),
        ConnState::Ahead | ConnState::Behind => Some(
            "Writes are marked and not sent while the line is too slow; they are synced when it is free.".to_owned(),
        ),
        state if state > ConnState::Connected => Some("A resync is about to begin.".to_owned()),
        _ if is_good(v) && v.peer_disk == DiskState::UpToDate => None,
        _ if is_primary(resource) => Some(
            "Users are served with the good data; a bad disk stays as it is until it is attached, or synced.".to_owned(),
        ),
        _ => Some("Nothing, as long as the disks are as they are.".to_owned()),
    }
}

fn mirrored(resource: &ResourceReport) -> String {
    match resource.protocol {
        Some('A') => "Each write is done for users when it is on the disk here and on its way to the peer: what is on its way is lost \
                      if this node is.",
        Some('B') => "Each write is done for users when it is on the disk here and in the peer's memory.",
        _ => "Each write is done for users when it is on both disks.",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdb_control::samples::{good_volume, reason, resource};

    fn text(resource: &ResourceReport) -> String {
        explain(resource)
            .text(&["2026-11-29T20:11:02Z: connection Connected -> NetworkFailure".to_owned()])
    }

    fn says(resource: &ResourceReport, sentences: &[&str]) {
        let text = text(resource);
        for sentence in sentences {
            assert!(text.contains(sentence), "no {sentence:?} in\n{text}");
        }
    }

    #[test]
    fn a_good_pair() {
        says(
            &resource("r0", vec![good_volume()]),
            &[
                "r0 is well: both nodes have the same data.",
                "This node is Primary: users work here.",
                "The disk here has the newest data that this node knows of (UpToDate).",
                "Each write is done for users when it is on both disks.",
                "rdbadm secondary r0",
                "How it came about:\n  2026-11-29T20:11:02Z",
            ],
        );
    }

    #[test]
    fn a_primary_whose_peer_is_gone() {
        let mut volume = good_volume();
        volume.cstate = Some(ConnState::WFConnection);
        volume.peer_role = Role::Unknown;
        volume.peer_disk = DiskState::DUnknown;
        volume.out_of_sync_kib = 12;
        let mut r0 = resource("r0", vec![volume]);
        r0.link_reason = Some(reason("connection-lost", "the connection was lost"));
        says(
            &r0,
            &[
                "r0 has no connection to its peer: nothing is mirrored.",
                "What the peer's disk has is not known (DUnknown); 12 KiB are marked as different.",
                "connection: the connection was lost.",
                "This node goes on trying to connect.",
                "Users here go on; what they write is marked",
                "rdbadm disconnect r0",
            ],
        );
    }

    #[test]
    fn a_split_brain_names_what_is_thrown_away() {
        let mut volume = good_volume();
        volume.cstate = Some(ConnState::StandAlone);
        volume.peer_disk = DiskState::DUnknown;
        volume.out_of_sync_kib = 40;
        let mut r0 = resource("r0", vec![volume]);
        r0.link_reason = Some(reason("split-brain", "both wrote"));
        says(
            &r0,
            &[
                "has a split brain",
                "Nothing: a node that is StandAlone does not try to connect.",
                "rdbadm split-brain r0",
                "rdbadm connect --discard-my-data r0",
                "throws away what was written here since: 40 KiB",
            ],
        );
    }

    #[test]
    fn a_handler_that_has_failed_is_not_waited_for() {
        let mut volume = good_volume();
        volume.cstate = Some(ConnState::WFConnection);
        volume.suspended = vec![Suspension::Fencing];
        let mut r0 = resource("r0", vec![volume]);
        r0.io_reason = Some(reason("fencing", "3 requests wait"));
        r0.handlers = Vec::new();
        let waits = "when fence-peer has said that the peer cannot go on";
        says(&r0, &[waits]);
        let run = |since_s, exit| HandlerReport {
            name: "fence-peer".to_owned(),
            volume: None,
            since_s,
            exit,
            took_ms: 5,
            note: None,
        };
        // Since when users wait: 1795877530.
        r0.handlers = vec![run(1_795_877_529, Some(1))];
        says(&r0, &[waits]);
        r0.handlers = vec![run(1_795_877_530, None)];
        says(&r0, &["when fence-peer, which runs, has said"]);
        r0.handlers = vec![run(1_795_877_530, Some(1))];
        says(
            &r0,
            &["The handler fence-peer has ended with 1, and has not fenced the peer"],
        );
        assert!(!text(&r0).contains(waits), "{}", text(&r0));
    }

    #[test]
    fn names_are_words_of_a_shell_in_what_is_to_be_typed() {
        let r0 = resource("a;b", vec![good_volume()]);
        says(
            &r0,
            &["rdbadm secondary 'a;b'\n", "rdbadm disconnect 'a;b'\n"],
        );
    }

    #[test]
    fn volumes_that_differ_are_told_of_one_by_one() {
        let mut second = good_volume();
        second.volume = 1;
        second.disk = DiskState::Diskless;
        says(
            &resource("r0", vec![good_volume(), second]),
            &[
                "Volume 0: The disk here has the newest data",
                "Volume 1: This node has no disk",
                "rdbadm attach r0/1",
            ],
        );
    }

    /// Whatever the states are, each part says something.
    #[test]
    fn there_is_something_to_say_of_every_state() {
        for cstate in ConnState::ALL {
            for disk in DiskState::ALL {
                for role in [Role::Primary, Role::Secondary] {
                    let mut volume = good_volume();
                    volume.cstate = Some(*cstate);
                    volume.disk = *disk;
                    volume.role = role;
                    let explained = explain(&resource("r0", vec![volume]));
                    assert!(!explained.now.is_empty() && !explained.next.is_empty());
                    assert!(!explained.choices.is_empty(), "{cstate} {disk} {role}");
                }
            }
        }
    }
}
