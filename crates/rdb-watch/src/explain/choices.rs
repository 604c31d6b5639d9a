//! What an administrator can do in a state, and what it would cost.

use rdb_control::{
    ConnState, DiskState, ResourceReport, Role, Suspension, VolumeReport, shell_word,
};

use super::{is_good, is_peer_primary, is_primary, is_split, suspensions, sync_side};
use crate::is_connected;

/// A thing that can be done, and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// As it is typed.
    pub command: String,
    /// The words behind `rdbadm` of each command of it, one after the other; none if it is typed on the peer.
    pub lines: Vec<Vec<String>>,
    /// What is at stake.
    pub stake: Stake,
    /// What it does, and what it costs.
    pub means: String,
}

/// What is at stake in a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stake {
    /// Nothing: it only tells.
    Nothing,
    /// What is served, and how; another command takes it back.
    Service,
    /// Data, or requests of users, may be lost for good.
    Data,
}

/// Words as they are typed in a shell.
fn typed(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
    words.join(" ")
}

/// A command of `rdbadm` on this node.
pub(super) fn choice(words: &[&str], stake: Stake, means: impl Into<String>) -> Choice {
    Choice {
        command: format!("rdbadm {}", typed(words)),
        lines: vec![words.iter().map(|word| (*word).to_owned()).collect()],
        stake,
        means: means.into(),
    }
}

/// Takes a resource down and brings it up again.
fn anew(name: &str, means: &str) -> Choice {
    let [down, up] = ["down", "up"].map(|verb| vec![verb.to_owned(), name.to_owned()]);
    Choice {
        command: format!(
            "rdbadm {} && rdbadm {}",
            typed(&["down", name]),
            typed(&["up", name])
        ),
        lines: vec![down, up],
        stake: Stake::Data,
        means: means.to_owned(),
    }
}

/// What can be done, the most likely first.
pub(super) fn choices(resource: &ResourceReport) -> Vec<Choice> {
    let name = resource.name.as_str();
    if resource.failed.is_some() {
        let means = "starts it anew; whoever uses its devices here is cut off";
        return vec![anew(name, means)];
    }
    let mut all = Vec::new();
    all.extend(frozen(resource));
    all.extend(link(resource));
    all.extend(disks(resource));
    all.extend(role(resource));
    all.extend(upkeep(resource));
    all
}

/// How commands name a volume.
pub(super) fn volume_name(resource: &ResourceReport, v: &VolumeReport) -> String {
    if resource.volumes.len() > 1 {
        format!("{}/{}", resource.name, v.volume)
    } else {
        resource.name.clone()
    }
}

fn frozen(resource: &ResourceReport) -> Vec<Choice> {
    let means = |reason: Suspension| match reason {
        Suspension::Fencing => {
            "lets users go on at once. If the peer is alive and goes on too, both write apart: a split brain. Only if it is known to be down"
        }
        Suspension::NoData => {
            "lets users go on at once: with I/O errors, as long as no good disk is there"
        }
        Suspension::User => "lets users go on",
    };
    let stake = |reason| match reason {
        Suspension::Fencing | Suspension::NoData => Stake::Data,
        Suspension::User => Stake::Service,
    };
    let words = ["resume-io", resource.name.as_str()];
    let reasons = suspensions(resource).into_iter();
    reasons
        .take(1)
        .map(|reason| choice(&words, stake(reason), means(reason)))
        .collect()
}

fn link(resource: &ResourceReport) -> Vec<Choice> {
    let name = resource.name.as_str();
    let marked: u64 = resource.volumes.iter().map(|v| v.out_of_sync_kib).sum();
    if is_split(resource) {
        return vec![
            choice(
                &["split-brain", name],
                Stake::Nothing,
                "says who has written what, and which files; it changes nothing. Begin with it, on both nodes",
            ),
            choice(
                &["connect", "--discard-my-data", name],
                Stake::Data,
                format!(
                    "throws away what was written here since: {marked} KiB at most, which the peer's data replace. Demote this node first"
                ),
            ),
            choice(
                &["connect", name],
                Stake::Service,
                "keeps what is here, if the peer's is thrown away: there '--discard-my-data' is to be typed",
            ),
        ];
    }
    match resource.connection {
        ConnState::StandAlone => vec![choice(
            &["connect", name],
            Stake::Service,
            "tries to connect; whoever has the newer data copies what the other one lacks",
        )],
        _ if is_connected(resource) => vec![choice(
            &["disconnect", name],
            Stake::Service,
            "ends the connection: from then on nothing is mirrored, and what is written is marked",
        )],
        _ => vec![choice(
            &["disconnect", name],
            Stake::Service,
            "gives up connecting; no data are lost, and the peer is not mirrored to until 'rdbadm connect'",
        )],
    }
}

fn disks(resource: &ResourceReport) -> Vec<Choice> {
    let mut all = Vec::new();
    for v in &resource.volumes {
        let name = &volume_name(resource, v);
        let word = v
            .disk_reason
            .as_ref()
            .map_or("", |reason| reason.word.as_str());
        let is_conflict = matches!(word, "split-brain" | "unrelated-data" | "no-agreement");
        if v.disk == DiskState::Diskless && is_conflict {
            let means = "has both nodes meet anew, and says what stands between their data; users here are cut off. Do not run 'create-md': \
                         it would take away what is on the disk";
            let whole = &resource.name;
            all.push(anew(whole, means));
        } else if v.disk == DiskState::Diskless {
            let means = "attaches the disk; what it lacks is copied from the peer";
            all.push(choice(&["attach", name], Stake::Service, means));
        }
        let is_old = matches!(
            v.disk,
            DiskState::Outdated | DiskState::Inconsistent | DiskState::Consistent
        );
        let is_alone = v.peer_disk != DiskState::UpToDate && sync_side(v).is_none();
        if is_old && is_alone && v.role != Role::Primary && !is_peer_primary(resource) {
            let never = v.disk_reason.as_ref();
            let never = never.is_some_and(|reason| reason.word == "never-synced");
            let means = if never {
                "begins: the data here, whatever they are, are the good ones from now on, and are copied to the peer. On one node of a new \
                 cluster only"
            } else {
                "makes the data here the newest ones. Whatever another node has written since is given up. Only if that node is lost for good"
            };
            all.push(choice(&["primary", "--force", name], Stake::Data, means));
        }
    }
    all
}

fn role(resource: &ResourceReport) -> Vec<Choice> {
    let name = resource.name.as_str();
    if is_primary(resource) {
        let means =
            "once nothing uses the device any more (unmount first): the peer can take over then";
        return vec![choice(&["secondary", name], Stake::Service, means)];
    }
    if is_peer_primary(resource) {
        let means = "on the peer, once nothing uses the device there; then 'rdbadm primary' here takes over";
        return vec![Choice {
            lines: Vec::new(),
            ..choice(&["secondary", name], Stake::Service, means)
        }];
    }
    let usable = |v: &VolumeReport| {
        is_good(v) || is_connected(resource) && v.peer_disk == DiskState::UpToDate
    };
    if !resource.volumes.iter().all(usable) {
        return Vec::new();
    }
    let means = if is_connected(resource) {
        "users can work here; a file system can be mounted"
    } else {
        "users can work here. If the peer is alive and is made Primary too, both write apart: a split brain"
    };
    vec![choice(&["primary", name], Stake::Service, means)]
}

fn upkeep(resource: &ResourceReport) -> Vec<Choice> {
    let name = resource.name.as_str();
    let syncs = |v: &VolumeReport| sync_side(v).is_some();
    let is_paused = |v: &VolumeReport| {
        matches!(
            v.cstate,
            Some(ConnState::PausedSyncS | ConnState::PausedSyncT)
        )
    };
    let good = |v: &VolumeReport| {
        v.cstate == Some(ConnState::Connected) && is_good(v) && v.peer_disk == DiskState::UpToDate
    };
    if resource.volumes.iter().any(is_paused) {
        let means = "lets the resync go on, if it was paused here";
        return vec![choice(&["resume-sync", name], Stake::Service, means)];
    }
    if resource.volumes.iter().any(syncs) {
        let means = "has the resync wait: users get the whole line and the whole disk; the target cannot be used by itself until it has ended";
        return vec![choice(&["pause-sync", name], Stake::Service, means)];
    }
    if !resource.volumes.is_empty() && resource.volumes.iter().all(good) {
        let means =
            "compares both disks, while users go on; it reads everything once, and repairs nothing";
        return vec![choice(&["verify", name], Stake::Service, means)];
    }
    Vec::new()
}
