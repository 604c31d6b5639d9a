//! What to do next, where a refusal alone does not say it. A hint follows the state of the volume, not the error's number: what
//! helps on a new cluster costs data on an old one.

use std::io::{IsTerminal, Write, stdin};

use rdb_config::ResolvedVolume;
use rdb_control::{
    ConnState, DiskState, Op, ReasonReport, Refusal, ResourceReport, Role, VolumeReport, code,
    shell_word,
};

use crate::exec::{Executor, find};
use crate::out;
use crate::step::{Action, MetaCommand, MetaStep, Step};

impl Executor {
    /// What to do about a refusal.
    pub(crate) fn advice(&mut self, step: &Step, refusal: &Refusal) -> Option<String> {
        let Step { resource, .. } = step;
        let word = &shell_word(resource);
        let program = self.program.clone();
        match (refusal.code, &step.action) {
            (
                code::NET_CONFIGURED | code::LOCAL_ADDR,
                Action::Run(Op::Connect {
                    discard_my_data,
                    tentative,
                    ..
                }),
            ) if (*discard_my_data || *tentative) && is_its_own(refusal, resource) => {
                let option = if *discard_my_data {
                    "--discard-my-data"
                } else {
                    "--tentative"
                };
                Some(is_connected_otherwise(&program, word, option))
            }
            (code::MINOR_INVALID | code::RES_NOT_KNOWN, _) => Some(not_up(&program, word)),
            (code::INVALID_REQUEST, Action::Run(Op::Disconnect { .. } | Op::NetOptions { .. })) => {
                let report = self.status().ok()?;
                let mut known = report.iter().flat_map(|report| &report.resources);
                match known.find(|known| known.name == *resource) {
                    None => Some(not_up(&program, word)),
                    Some(known)
                        if known.connection == ConnState::StandAlone && known.failed.is_none() =>
                    {
                        Some(stands_alone(&program, word))
                    }
                    Some(_) => None,
                }
            }
            (
                -2,
                Action::Run(Op::Primary {
                    minor,
                    force: false,
                }),
            ) => {
                let report = self.status().ok().flatten();
                let found = report.as_ref().and_then(|report| find(report, *minor));
                let name = volume_name(resource, *minor, found);
                Some(no_good_data(&program, &name, found))
            }
            (-7, Action::Run(Op::Primary { minor, .. })) => {
                let report = self.status().ok().flatten();
                let found = report.as_ref().and_then(|report| find(report, *minor));
                Some(is_not_fenced(found.map(|(resource, _)| resource)))
            }
            (-7, Action::Run(Op::Disconnect { .. })) => Some(format!(
                "Hint: with fencing a Primary leaves its peer once the peer's disk is Outdated, which a detached one cannot become; \
                 attach the peer's disk, or have the peer fenced as if it were lost: '{program} disconnect --force {word}'."
            )),
            (-1, Action::Run(Op::Primary { .. })) => Some(format!(
                "Hint: the peer is Primary; run '{program} secondary {word}' there first."
            )),
            (119, Action::Run(Op::Attach { minor, data, .. })) => {
                Some(self.no_metadata(resource, *minor, &data.display().to_string()))
            }
            (code::OLDER_DATA, Action::Run(Op::Attach { minor, .. })) => {
                let report = self.status().ok().flatten();
                let found = report.as_ref().and_then(|report| find(report, *minor));
                let reason = found.and_then(|(_, volume)| volume.disk_reason.as_ref());
                reason.and_then(|reason| Some(format!("Hint: {}.", reason.advice.as_ref()?)))
            }
            (code::DISK_CONFIGURED, Action::Run(Op::Attach { .. })) => {
                Some(is_so_already(&program, word, "its disk is attached"))
            }
            (code::NET_CONFIGURED | code::LOCAL_ADDR, Action::Run(Op::Connect { .. }))
                if is_its_own(refusal, resource) =>
            {
                Some(is_so_already(
                    &program,
                    word,
                    "it is connected, or tries to connect",
                ))
            }
            _ => None,
        }
    }

    /// What to do about an activity log that cannot be applied before an attach.
    pub(crate) fn advice_for_meta(
        &mut self,
        step: &Step,
        meta: &MetaStep,
        has_disk: bool,
    ) -> Option<String> {
        if self.is_setup {
            return None;
        }
        let Step { resource, .. } = step;
        let minor = meta.minor?;
        if meta.command != MetaCommand::ApplyAl {
            return self.first_detach(resource, minor, meta);
        }
        Some(if has_disk {
            is_so_already(&self.program, &shell_word(resource), "its disk is attached")
        } else {
            self.no_metadata(resource, minor, &meta.data.display().to_string())
        })
    }

    /// What to do about metadata that are to be changed while the daemon has the volume's disk: it may be another one than the
    /// configuration has by now.
    fn first_detach(&mut self, resource: &str, minor: u32, meta: &MetaStep) -> Option<String> {
        let shown = self.show().ok()?;
        let volumes = shown.iter().flat_map(|shown| &shown.volumes);
        let attached = volumes.filter_map(|v| (v.minor == minor).then_some(v.disk.as_ref()?));
        let attached = attached.map(|disk| &disk.data).next()?;
        let report = self.status().ok().flatten();
        let found = report.as_ref().and_then(|report| find(report, minor));
        let volume = volume_name(resource, minor, found);
        let (program, old, new) = (&self.program, attached.display(), meta.data.display());
        Some(if *attached == meta.data {
            format!("Hint: its disk {old} is attached: '{program} detach {volume}' first.")
        } else {
            let word = shell_word(resource);
            format!(
                "Hint: the disk that is attached is {old}; {new} takes its place by '{program} detach {volume}', this command once more, \
                 and '{program} adjust {word}'."
            )
        })
    }

    fn no_metadata(&mut self, resource: &str, minor: u32, disk: &str) -> String {
        let report = self.status().ok().flatten();
        let found = report.as_ref().and_then(|report| find(report, minor));
        let volume = volume_name(resource, minor, found);
        let program = &self.program;
        format!(
            "Hint: if {disk} (minor {minor}) is new to {volume}, its metadata is made by '{program} create-md {volume}'."
        )
    }

    /// What there is to be said of a disk that is in use by the daemon, which does not have it attached.
    pub(crate) fn disk_that_hangs(&mut self, minor: u32) -> Option<String> {
        let report = self.status().ok().flatten()?;
        let (resource, volume) = find(&report, minor)?;
        let reason = volume.disk_reason.as_ref()?;
        (reason.word == "disk-hangs").then(|| {
            let (name, number) = (&resource.name, volume.volume);
            format!("Hint: the disk of {name}/{number}: {}.", reason.text)
        })
    }

    /// Whether a forced promotion may go on: it asks at a terminal, and says to scripts, which have no second word, what it costs.
    pub(crate) fn may_force(&mut self, resource: &str, minor: u32) -> bool {
        let Ok(Some(report)) = self.status() else {
            return true; // the command itself says what is the matter
        };
        let Some((_, volume)) = find(&report, minor) else {
            return true;
        };
        let Some(cost) = cost_of_force(volume) else {
            return true;
        };
        out::error(&format!("{resource}/{}: {cost}", volume.volume));
        if !stdin().is_terminal() {
            return true;
        }
        out::error("Newer data, where it exists, will be lost. To do it type 'yes':");
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        stdin().read_line(&mut answer).is_ok() && answer.trim() == "yes"
    }
}

/// What a forced promotion of this volume costs; `None` if nothing that is known.
fn cost_of_force(volume: &VolumeReport) -> Option<String> {
    if !has_older_data(volume) {
        return None;
    }
    Some(format!(
        "warning: --force makes this {} disk the good one: {}",
        volume.disk,
        why(volume)
    ))
}

/// The disk has data that count, and others have better.
fn has_older_data(volume: &VolumeReport) -> bool {
    let fresh = volume
        .disk_reason
        .as_ref()
        .is_some_and(|reason| reason.word == "never-synced");
    let is_good = |disk| {
        matches!(
            disk,
            DiskState::UpToDate | DiskState::Outdated | DiskState::Consistent
        )
    };
    is_older(volume.disk) && (!fresh || is_good(volume.peer_disk))
}

/// The state of a disk that does not have the newest data for sure.
fn is_older(disk: DiskState) -> bool {
    matches!(disk, DiskState::Inconsistent | DiskState::Outdated)
}

/// What to do about a disk that is to take the place of another one, and is new.
pub(crate) fn new_disk(resource: &str, volume: &ResolvedVolume) -> String {
    let name = match volume.implicit {
        true => shell_word(resource),
        false => shell_word(&format!("{resource}/{}", volume.volume)),
    };
    let word = shell_word(resource);
    format!(
        "Hint: if it is new, 'rdbadm detach {name}', 'rdbadm create-md {name}' and 'rdbadm adjust {word}' have it take the old one's place; \
         the peer gives it all data."
    )
}

/// Why the disk is not UpToDate, with what is known of the time.
fn why(volume: &VolumeReport) -> String {
    let Some(reason) = &volume.disk_reason else {
        return format!("it is {}", volume.disk);
    };
    let ReasonReport { text, .. } = reason;
    match reason.since() {
        Some(since) => format!("{text} (since {since})"),
        None => text.clone(),
    }
}

/// How a command names one volume, as a word of a shell, so that it touches no other one of its resource; `found`: how the two are.
fn volume_name(
    resource: &str,
    minor: u32,
    found: Option<(&ResourceReport, &VolumeReport)>,
) -> String {
    match found {
        None => format!("minor-{minor}"),
        Some((r, volume)) if r.volumes.len() > 1 || volume.volume != 0 => {
            shell_word(&format!("{resource}/{}", volume.volume))
        }
        Some(_) => shell_word(resource),
    }
}

/// Whether a connection is refused because the resource has one.
fn is_its_own(refusal: &Refusal, resource: &str) -> bool {
    refusal.code == code::NET_CONFIGURED || refusal.info == format!("used by {resource}")
}

/// Nobody has UpToDate data: on a new cluster that is the beginning, later a reason to look for them.
///
/// `name` is how commands name the volume, `found` how its resource and it are.
fn no_good_data(
    program: &str,
    name: &str,
    found: Option<(&ResourceReport, &VolumeReport)>,
) -> String {
    let Some((resource, volume)) = found else {
        return format!("Hint: '{program} status' says how the disks are.");
    };
    let is_peer_primary = resource
        .volumes
        .iter()
        .any(|v| v.peer_role == Role::Primary);
    let resource = &shell_word(&resource.name);
    if volume.disk == DiskState::Diskless {
        return format!(
            "Hint: this node has no disk, and its peer none that is good; '{program} status {resource}' says why."
        );
    }
    if has_older_data(volume) {
        let peer = match volume.peer_disk {
            DiskState::UpToDate => "the peer has the good copy".to_owned(),
            DiskState::DUnknown => format!(
                "the good copy, if it exists, is on the peer, which is not connected ({})",
                volume.cstate_word()
            ),
            other => format!("the peer's disk is {other}"),
        };
        return format!(
            "Hint: do not force this: the disk here is {}, {}; {peer}.\n      \
             Connect to the node with the newer data first: '{program} status {resource}' says why there is no connection.\n      \
             Only if that node is lost for good: '{program} primary --force --yes-lose-newer-data {name}'.",
            volume.disk,
            why(volume)
        );
    }
    if volume.disk == DiskState::Consistent && volume.cstate == Some(ConnState::Connected) {
        return format!(
            "Hint: the peer is there without its disk, which may have newer data, and the handler fence-peer has not said that this node \
             may go on without it.\n      Attach that disk on the peer: '{program} attach {resource}'.\n      Only if it is lost for good: \
             '{program} primary --force {name}' here."
        );
    }
    if volume.disk == DiskState::Consistent {
        return format!(
            "Hint: it is not known whether the peer has newer data; connect to it: '{program} connect {resource}'."
        );
    }
    if is_peer_primary {
        return format!(
            "Hint: the disk here has never had data, and the peer is Primary; '{program} status {resource}' says why there is no resync."
        );
    }
    format!(
        "Hint: this node has no UpToDate data and knows no peer that has.\n      \
         On a new cluster, start the first sync on exactly one node, the one whose data is to be kept:\n      \
         '{program} primary --force {name}'."
    )
}

/// What to do about a peer that may go on by itself.
fn is_not_fenced(resource: Option<&ResourceReport>) -> String {
    let runs = resource.into_iter().flat_map(|resource| &resource.handlers);
    let exit = runs
        .filter(|run| run.name == "fence-peer")
        .find_map(|run| run.exit);
    match exit {
        Some(exit) => format!(
            "Hint: the handler fence-peer has not fenced the peer: it ended with exit code {exit} (3, 4, 5 and 7 are those that \
             mean it); the log of rdbd has what it said."
        ),
        None => "Hint: 'fencing' wants the peer fenced, and there is no handler fence-peer that does it.".to_owned(),
    }
}

fn not_up(program: &str, resource: &str) -> String {
    format!("Hint: resource {resource} is not up; run '{program} up {resource}'.")
}

/// DRBD forgets the addresses of a connection that is ended, so that to end it once more is an error; what the caller
/// wants to hear is that it has ended.
fn stands_alone(program: &str, resource: &str) -> String {
    format!(
        "Hint: {resource} is StandAlone already: it has no connection. '{program} connect {resource}' makes one."
    )
}

/// `adjust` would change nothing of a connection that is as configured: what the option asks for needs a new one.
fn is_connected_otherwise(program: &str, resource: &str, option: &str) -> String {
    format!(
        "Hint: {resource} is connected, or tries to connect, without {option}: '{program} disconnect {resource}' first, \
         then '{program} connect {option} {resource}'."
    )
}

fn is_so_already(program: &str, resource: &str, what: &str) -> String {
    format!(
        "Hint: {resource} is up: {what}. '{program} adjust {resource}' applies what has changed in the configuration."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_text::tests::{resource, volume};

    fn disk(state: &str, peer: &str, word: &str) -> VolumeReport {
        let mut volume = volume("WFConnection", ("Secondary", "Unknown"), (state, peer));
        volume.disk_reason = Some(ReasonReport {
            word: word.to_owned(),
            text: "its reason".to_owned(),
            advice: None,
            since_s: None,
        });
        volume
    }

    #[test]
    fn force_is_advised_only_where_no_disk_ever_held_data() {
        let plain = "'rdbadm primary --force r0'";
        for (volume, advised) in [
            (disk("Inconsistent", "DUnknown", "never-synced"), true),
            (disk("Inconsistent", "Inconsistent", "never-synced"), true),
            (disk("Inconsistent", "Outdated", "never-synced"), false),
            (disk("Inconsistent", "DUnknown", "half-synced"), false),
            (disk("Outdated", "DUnknown", "outdated"), false),
            (disk("Consistent", "DUnknown", "not-confirmed"), false),
            (disk("Diskless", "Inconsistent", "not-attached"), false),
        ] {
            let hint = hint_for(&volume, "Unknown");
            assert_eq!(hint.contains(plain), advised, "{hint}");
            assert_eq!(
                hint.contains("do not force this"),
                is_older(volume.disk) && !advised,
                "{hint}"
            );
        }
        let hint = hint_for(&disk("Outdated", "DUnknown", "outdated"), "Unknown");
        assert!(hint.contains("--yes-lose-newer-data"), "{hint}");
        // The peer's disk may come back.
        let mut beside = disk("Consistent", "Diskless", "not-confirmed");
        beside.cstate = Some(ConnState::Connected);
        let hint = hint_for(&beside, "Secondary");
        assert!(hint.contains("Attach that disk on the peer"), "{hint}");
        // The peer's users have what is good.
        let hint = hint_for(&disk("Inconsistent", "Diskless", "never-synced"), "Primary");
        assert!(!hint.contains("--force"), "{hint}");
    }

    fn hint_for(volume: &VolumeReport, peer_role: &str) -> String {
        let mut volume = volume.clone();
        volume.peer_role = peer_role.parse().unwrap();
        let resource = resource("WFConnection", vec![volume]);
        no_good_data("rdbadm", "r0", Some((&resource, &resource.volumes[0])))
    }

    #[test]
    fn a_volume_among_others_is_named_alone() {
        let mut second = disk("Inconsistent", "DUnknown", "never-synced");
        second.volume = 1;
        let first = disk("UpToDate", "DUnknown", "x");
        let both = resource("WFConnection", vec![first, second]);
        let name = |i: usize| volume_name("r0", 7, Some((&both, &both.volumes[i])));
        assert_eq!((name(0).as_str(), name(1).as_str()), ("r0/0", "r0/1"));
        let one = resource("WFConnection", vec![disk("UpToDate", "DUnknown", "x")]);
        assert_eq!(volume_name("r0", 7, Some((&one, &one.volumes[0]))), "r0");
        assert_eq!(volume_name("r0", 7, None), "minor-7");
    }

    #[test]
    fn what_force_costs_is_said_where_it_costs_something() {
        assert_eq!(
            cost_of_force(&disk("Outdated", "DUnknown", "outdated")),
            Some("warning: --force makes this Outdated disk the good one: its reason".to_owned())
        );
        assert_eq!(
            cost_of_force(&disk("Inconsistent", "DUnknown", "never-synced")),
            None
        );
        assert_eq!(cost_of_force(&disk("UpToDate", "DUnknown", "x")), None);
    }
}
