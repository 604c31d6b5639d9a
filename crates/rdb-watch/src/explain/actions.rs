//! All that can be done to a resource in its state from this node: what [`super::explain`] says first, and what is done more seldom.

use rdb_control::{ConnState, DiskState, Pause, ResourceReport, Role, Suspension, VolumeReport};

use super::choices::{Choice, Stake, choice, choices, volume_name};
use super::{is_good, is_peer_primary, is_primary, sync_side};
use crate::is_connected;

/// What can be done to a resource here, the most likely first. Nothing is among it that the state forbids for sure; the daemon has
/// the last word.
pub fn actions(resource: &ResourceReport) -> Vec<Choice> {
    let mut all = choices(resource);
    if resource.failed.is_none() {
        for volume in &resource.volumes {
            all.extend(syncs(resource, volume));
            all.extend(disk(resource, volume));
        }
        all.extend(users(resource));
        all.extend(whole(resource));
    }
    all.retain(|choice| !choice.lines.is_empty());
    let mut seen = Vec::new();
    all.retain(|choice| {
        let is_new = !seen.contains(&choice.lines);
        seen.push(choice.lines.clone());
        is_new
    });
    all
}

/// What brings the configured resources up where nothing runs.
pub fn up_all() -> Choice {
    let means = "starts the daemon if none runs, and brings up what is configured here";
    choice(&["up", "all"], Stake::Service, means)
}

/// Pausing, and full syncs.
fn syncs(resource: &ResourceReport, v: &VolumeReport) -> Vec<Choice> {
    let name = volume_name(resource, v);
    let mut all = Vec::new();
    let is_paused_here = v.resync_suspended.contains(&Pause::User);
    if is_paused_here {
        let means = "lets the resync go on, now or when there is one";
        all.push(choice(&["resume-sync", &name], Stake::Service, means));
    } else if sync_side(v).is_some() {
        let means =
            "has the resync wait until 'resume-sync'; what is missing stays missing until then";
        all.push(choice(&["pause-sync", &name], Stake::Service, means));
    }
    if v.cstate != Some(ConnState::Connected) {
        return all;
    }
    let size = v.size_kib;
    if has_disk(v.disk) && v.peer_disk == DiskState::UpToDate {
        let means = format!(
            "throws away what is on the disk here, and copies all of it from the peer: {size} KiB. Until that has ended the peer alone has \
             the data"
        );
        all.push(choice(&["invalidate", &name], Stake::Data, means));
    }
    if is_good(v) && has_disk(v.peer_disk) && v.peer_role != Role::Primary {
        let means = format!(
            "throws away what is on the peer's disk, and copies all of it from here: {size} KiB. Until that has ended this node alone has \
             the data"
        );
        all.push(choice(&["invalidate-remote", &name], Stake::Data, means));
    }
    all
}

/// Giving the disk up: the only good copy is not given up under users.
fn disk(resource: &ResourceReport, v: &VolumeReport) -> Option<Choice> {
    let peer_serves = is_connected(resource) && v.peer_disk == DiskState::UpToDate;
    if !has_disk(v.disk) || (v.role == Role::Primary && !peer_serves) {
        return None;
    }
    let means = if v.role == Role::Primary {
        "gives the disk here up: users are served from the peer's, over the network, and nothing is mirrored until 'attach'"
    } else {
        "gives the disk here up: nothing is mirrored to it until 'attach', which copies what it lacks by then"
    };
    let name = volume_name(resource, v);
    Some(choice(&["detach", &name], Stake::Service, means))
}

fn has_disk(disk: DiskState) -> bool {
    matches!(
        disk,
        DiskState::Inconsistent | DiskState::Outdated | DiskState::Consistent | DiskState::UpToDate
    )
}

/// Having users wait.
fn users(resource: &ResourceReport) -> Option<Choice> {
    let waits = |v: &VolumeReport| v.suspended.contains(&Suspension::User);
    if !is_primary(resource) || resource.volumes.iter().any(waits) {
        return None;
    }
    let means = "has users' requests wait until 'resume-io'; those under way are done first";
    Some(choice(
        &["suspend-io", &resource.name],
        Stake::Service,
        means,
    ))
}

/// The resource as a whole.
fn whole(resource: &ResourceReport) -> Vec<Choice> {
    let name = &resource.name;
    let means = "makes what runs agree with the configuration file, and changes nothing else";
    let mut all = vec![choice(&["adjust", name], Stake::Service, means)];
    if !is_primary(resource) {
        let means = if is_peer_primary(resource) {
            "takes the resource down here: the peer goes on alone, and what it writes is copied after 'rdbadm up'"
        } else {
            "takes the resource down here, until 'rdbadm up'"
        };
        all.push(choice(&["down", name], Stake::Service, means));
    }
    all
}

#[cfg(test)]
mod tests {
    use rdb_control::samples::{good_volume, reason, resource, volume};

    use super::*;

    fn commands(resource: &ResourceReport) -> Vec<String> {
        actions(resource).into_iter().map(|a| a.command).collect()
    }

    #[test]
    fn a_good_primary_may_be_demoted_disconnected_verified_and_taken_apart() {
        assert_eq!(
            commands(&resource("r0", vec![good_volume()])),
            [
                "rdbadm disconnect r0",
                "rdbadm secondary r0",
                "rdbadm verify r0",
                "rdbadm invalidate r0",
                "rdbadm invalidate-remote r0",
                "rdbadm detach r0",
                "rdbadm suspend-io r0",
                "rdbadm adjust r0",
            ]
        );
    }

    #[test]
    fn nothing_is_offered_that_is_typed_on_the_peer_or_would_take_the_only_copy_from_users() {
        let mut beside = good_volume();
        (beside.role, beside.peer_role) = (Role::Secondary, Role::Primary);
        let found = commands(&resource("r0", vec![beside]));
        assert!(
            !found.contains(&"rdbadm secondary r0".to_owned()),
            "{found:?}"
        );
        let alone = volume(
            "WFConnection",
            ("Primary", "Unknown"),
            ("UpToDate", "DUnknown"),
        );
        let found = commands(&resource("r0", vec![alone]));
        assert!(!found.contains(&"rdbadm detach r0".to_owned()), "{found:?}");
    }

    #[test]
    fn what_throws_data_away_says_so() {
        let split = || {
            let v = volume(
                "StandAlone",
                ("Secondary", "Unknown"),
                ("UpToDate", "DUnknown"),
            );
            let mut r0 = resource("r0", vec![v]);
            r0.link_reason = Some(reason("split-brain", "both wrote"));
            r0
        };
        let fenced = || {
            let mut v = good_volume();
            v.suspended = vec![Suspension::Fencing];
            resource("r0", vec![v])
        };
        let fresh = volume(
            "WFConnection",
            ("Secondary", "Unknown"),
            ("Inconsistent", "DUnknown"),
        );
        for (resource, command, stake) in [
            (split(), "rdbadm connect --discard-my-data r0", Stake::Data),
            (split(), "rdbadm split-brain r0", Stake::Nothing),
            (split(), "rdbadm connect r0", Stake::Service),
            (fenced(), "rdbadm resume-io r0", Stake::Data),
            (
                resource("r0", vec![good_volume()]),
                "rdbadm invalidate r0",
                Stake::Data,
            ),
            (
                resource("r0", vec![fresh]),
                "rdbadm primary --force r0",
                Stake::Data,
            ),
        ] {
            let found = actions(&resource);
            let found = found.iter().find(|action| action.command == command);
            assert_eq!(found.map(|action| action.stake), Some(stake), "{command}");
        }
    }

    #[test]
    fn volumes_are_named_where_there_are_several() {
        let mut second = good_volume();
        second.volume = 1;
        second.disk = DiskState::Diskless;
        second.resync_suspended = vec![Pause::User];
        let found = commands(&resource("r0", vec![good_volume(), second]));
        for command in [
            "rdbadm attach r0/1",
            "rdbadm detach r0/0",
            "rdbadm resume-sync r0/1",
        ] {
            assert!(found.contains(&command.to_owned()), "{command}: {found:?}");
        }
        assert!(!found.contains(&"rdbadm detach r0/1".to_owned()));
    }
}
