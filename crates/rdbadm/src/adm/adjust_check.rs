//! What `adjust` would fail at half way. It is looked for before anything is changed, for what is done by then would have to be
//! undone by hand.

use rdb_config::ResolvedVolume;
use rdb_control::{
    ConnState, DiskState, NetOptions, ResourceReport, ResourceShown, Role, VolumeReport,
    VolumeShown, shell_word,
};

use super::adjust_given_up::is_moved;
use super::plan::Item;

/// Why the plan for a resource cannot be carried out, a line each; empty if nothing is known against it. `all`: how every
/// resource runs, `report`: how this one is.
pub(crate) fn obstacles(
    item: &Item,
    all: &[ResourceShown],
    report: Option<&ResourceReport>,
) -> Vec<String> {
    let name = &item.resource.name;
    let mut obstacles = Vec::new();
    let of_others = all.iter().filter(|shown| shown.name != *name);
    for volume in item.volumes() {
        let taken = of_others
            .clone()
            .find(|other| other.volumes.iter().any(|v| v.minor == volume.minor));
        if let Some(other) = taken {
            obstacles.push(format!(
                "minor {} is in use by resource {}",
                volume.minor, other.name
            ));
        }
    }
    let Some(shown) = all.iter().find(|shown| shown.name == *name) else {
        return obstacles;
    };
    for running in &shown.volumes {
        let state = report.and_then(|r| r.volumes.iter().find(|v| v.minor == running.minor));
        let configured = item
            .resource
            .volumes
            .iter()
            .find(|v| v.volume == running.volume);
        obstacles.extend(obstacle_of_volume(name, running, configured, state));
        obstacles.extend(configured.and_then(|configured| obstacle_of_disk(running, configured)));
    }
    if let (Some(connection), Some(report)) = (&shown.connection, report) {
        let same_peer = connection.local == item.resource.me.address
            && connection.peer == item.resource.peer.address;
        let changes = obstacles_of_net(&connection.net, &item.resource.net, report);
        obstacles.extend(changes.filter(|_| same_peer));
    }
    obstacles
}

fn obstacle_of_volume(
    name: &str,
    running: &VolumeShown,
    configured: Option<&ResolvedVolume>,
    state: Option<&VolumeReport>,
) -> Option<String> {
    let number = running.volume;
    let is_primary = state.is_some_and(|state| state.role == Role::Primary);
    if !is_primary {
        return None;
    }
    let Some(configured) = configured else {
        return Some(format!(
            "volume {number} is not in the configuration any more, and is Primary: {}",
            demote_first(name, running.minor)
        ));
    };
    if configured.minor != running.minor {
        return Some(format!(
            "volume {number} has minor {} now, {} in the configuration, and is Primary: {}",
            running.minor,
            configured.minor,
            demote_first(name, running.minor)
        ));
    }
    let disk = running.disk.as_ref()?;
    let good_peer = state.is_some_and(|state| state.peer_disk == DiskState::UpToDate);
    (is_moved(disk, configured) && !good_peer).then(|| {
        format!("volume {number} is Primary on a disk that would be detached, and the peer's is not UpToDate")
    })
}

/// The way out for a volume that is given up, and is Primary.
fn demote_first(name: &str, minor: u32) -> String {
    let word = shell_word(name);
    format!(
        "first 'rdbadm secondary {word}', or 'rdbsetup secondary {minor}' for this volume alone"
    )
}

/// Options that hold from one attach to the next, of a disk that stays.
fn obstacle_of_disk(running: &VolumeShown, configured: &ResolvedVolume) -> Option<String> {
    let disk = running.disk.as_ref()?;
    let stays = configured.minor == running.minor && !is_moved(disk, configured);
    let (number, old, new) = (running.volume, &disk.options, &configured.disk_options);
    if !stays {
        return None;
    }
    if old.size_sectors != new.size_sectors {
        return Some(format!(
            "size of volume {number} cannot be changed: resizing a device is not served yet"
        ));
    }
    (old.al_extents != new.al_extents).then(|| {
        format!("al-extents of volume {number} cannot be changed while its disk is attached: detach, then adjust")
    })
}

/// Digests that are in use (`docs/spec/behaviour.md`, section 7.8). The other options can change at any time.
fn obstacles_of_net<'a>(
    running: &NetOptions,
    configured: &NetOptions,
    report: &'a ResourceReport,
) -> impl Iterator<Item = String> + 'a {
    let csums = running.csums_alg != configured.csums_alg;
    let verify = running.verify_alg != configured.verify_alg;
    report.volumes.iter().filter_map(move |volume| {
        let number = volume.volume;
        use ConnState as C;
        let (what, activity) = match volume.cstate? {
            C::VerifyS | C::VerifyT if verify => ("verify-alg", "verified"),
            C::StartingSyncS
            | C::StartingSyncT
            | C::WFBitMapS
            | C::WFBitMapT
            | C::WFSyncUUID
            | C::SyncSource
            | C::SyncTarget
            | C::PausedSyncS
            | C::PausedSyncT
                if csums =>
            {
                ("csums-alg", "resynced")
            }
            _ => return None,
        };
        Some(format!(
            "{what} cannot be changed while volume {number} is being {activity}: wait for its end"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{R1, item, running};
    use super::*;
    use crate::status_text::tests::{resource, volume};

    fn report(role: &str, peer_disk: &str) -> ResourceReport {
        let mut volume = volume("Connected", (role, "Secondary"), ("UpToDate", peer_disk));
        volume.minor = 1;
        let mut report = resource("WFReportParams", vec![volume]);
        report.name = "r1".to_owned();
        report
    }

    /// What stands against an adjust after something was changed in what runs.
    fn found(report: &ResourceReport, change: impl FnOnce(&mut ResourceShown)) -> Vec<String> {
        let item = item(R1, "r1");
        let mut shown = running(&item);
        change(&mut shown);
        obstacles(&item, &[shown], Some(report))
    }

    #[test]
    fn what_would_fail_half_way_is_found_before() {
        let primary = report("Primary", "UpToDate");
        let alone = report("Primary", "DUnknown");
        let secondary = report("Secondary", "UpToDate");
        assert_eq!(found(&primary, |_| {}), Vec::<String>::new());
        // A volume that goes, or moves to another minor, under users.
        let renumber = |r: &mut ResourceShown| r.volumes[0].volume = 3;
        let gone = "volume 3 is not in the configuration any more, and is Primary: \
                    first 'rdbadm secondary r1', or 'rdbsetup secondary 1' for this volume alone";
        assert_eq!(found(&primary, renumber), [gone]);
        assert_eq!(found(&secondary, renumber), Vec::<String>::new());
        // The only good disk, under users.
        let moved = |r: &mut ResourceShown| {
            r.volumes[0].disk.as_mut().unwrap().data = "/dev/sdz".into();
        };
        assert_eq!(found(&primary, moved), Vec::<String>::new());
        assert_eq!(found(&alone, moved).len(), 1);
        // What both have to know is told; but for digests that are in use.
        let algorithms = |r: &mut ResourceShown| {
            let net = &mut r.connection.as_mut().unwrap().net;
            net.protocol = rdb_config::Protocol::A;
            net.csums_alg = Some("md5".to_owned());
            net.verify_alg = Some("md5".to_owned());
        };
        assert_eq!(found(&primary, algorithms), Vec::<String>::new());
        for (conn, expected) in [
            (
                ConnState::SyncSource,
                "csums-alg cannot be changed while volume 0 is being resynced: wait for its end",
            ),
            (
                ConnState::VerifyT,
                "verify-alg cannot be changed while volume 0 is being verified: wait for its end",
            ),
        ] {
            let mut busy = report("Primary", "UpToDate");
            busy.volumes[0].cstate = Some(conn);
            assert_eq!(found(&busy, algorithms), [expected]);
            assert_eq!(found(&busy, |_| {}), Vec::<String>::new());
        }
    }

    #[test]
    fn what_holds_until_the_next_attach_is_not_adjusted() {
        let primary = report("Primary", "UpToDate");
        let extents = |r: &mut ResourceShown| {
            r.volumes[0].disk.as_mut().unwrap().options.al_extents = 200;
        };
        let size = |r: &mut ResourceShown| {
            r.volumes[0].disk.as_mut().unwrap().options.size_sectors = Some(4711);
        };
        let refused = "al-extents of volume 0 cannot be changed while its disk is attached: detach, then adjust";
        assert_eq!(found(&primary, extents), [refused]);
        let refused = "size of volume 0 cannot be changed: resizing a device is not served yet";
        assert_eq!(found(&primary, size), [refused]);
        // With another disk they come into force.
        let moved = |r: &mut ResourceShown| {
            extents(r);
            r.volumes[0].disk.as_mut().unwrap().data = "/dev/sdz".into();
        };
        assert_eq!(found(&primary, moved), Vec::<String>::new());
        let detached = |r: &mut ResourceShown| r.volumes[0].disk = None;
        assert_eq!(found(&primary, detached), Vec::<String>::new());
    }

    #[test]
    fn a_minor_of_another_resource_is_not_taken() {
        let item = item(R1, "r1");
        let mut other = running(&item);
        other.name = "r2".to_owned();
        assert_eq!(
            obstacles(&item, &[other], None),
            ["minor 1 is in use by resource r2"]
        );
    }
}
