//! What `adjust` gives up for something else: a disk that another one replaces, a connection that gets other addresses. Both are
//! what the data's safety rests on. So the new one is looked at first, and where it does not serve all the same the old one is
//! put back.

use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener};

use rdb_config::ResolvedVolume;
use rdb_control::{ConnectionShown, DiskShown, MetaDisk, Op, ResourceReport, ResourceShown};

use super::plan::Item;
use crate::disk::{self, NotAttachable};
use crate::exec::Executor;
use crate::hints;
use crate::out;
use crate::step::{Action, Step, Tool, address_word, path_word};

/// Why what the configuration names instead cannot be used, a line each. `all`: how every resource runs, `report`: how this one is,
/// `may_wait`: the own address may come later.
pub(super) fn obstacles(
    item: &Item,
    all: &[ResourceShown],
    report: Option<&ResourceReport>,
    may_wait: bool,
) -> Vec<String> {
    let name = &item.resource.name;
    let Some(shown) = all.iter().find(|shown| shown.name == *name) else {
        return Vec::new();
    };
    let mut obstacles = Vec::new();
    for volume in item.volumes() {
        let running = shown.volumes.iter().find(|r| r.volume == volume.volume);
        let Some((running, old, new)) = running.and_then(|running| {
            let (old, new) = (running.disk.as_ref()?, volume.disk.as_ref()?);
            is_moved(old, volume).then_some((running, old, new))
        }) else {
            continue;
        };
        let device_kib = report
            .and_then(|report| report.volumes.iter().find(|v| v.minor == running.minor))
            .map_or(0, |state| state.size_kib);
        let held = held_by_daemon(old, all);
        let checked = disk::attachable(
            new,
            &volume.meta,
            volume.disk_options.size_sectors.unwrap_or(0),
            device_kib * 2,
            |path| disk::identity(path).is_some_and(|found| held.contains(&found)),
        );
        if let Err(NotAttachable { why, has_metadata }) = checked {
            let number = volume.volume;
            let way_out = match has_metadata {
                true => String::new(),
                false => format!("\n{}", hints::new_disk(name, volume)),
            };
            obstacles.push(format!("the new disk of volume {number}: {why}{way_out}"));
        }
    }
    if let Some(running) = &shown.connection {
        let why = obstacle_of_address(item, running, all, may_wait);
        obstacles.extend(why.map(|why| format!("the new connection: {why}")));
    }
    obstacles
}

/// Whether the configuration has another disk for a volume than the one that is attached.
pub(super) fn is_moved(old: &DiskShown, configured: &ResolvedVolume) -> bool {
    configured.disk.as_ref() != Some(&old.data) || configured.meta != old.meta
}

/// What cannot be claimed although an attach could have it: the parts of the disk that is given up, and devices with the metadata
/// of several volumes.
fn held_by_daemon(old: &DiskShown, all: &[ResourceShown]) -> Vec<(u64, u64)> {
    let own = [Some(old.data.as_path()), meta_path(&old.meta)];
    let disks = all.iter().flat_map(|r| &r.volumes);
    let metas = disks.filter_map(|volume| match &volume.disk.as_ref()?.meta {
        meta @ MetaDisk::Indexed(..) => meta_path(meta),
        MetaDisk::Internal | MetaDisk::Flexible(_) => None,
    });
    own.into_iter()
        .flatten()
        .chain(metas)
        .filter_map(disk::identity)
        .collect()
}

fn meta_path(meta: &MetaDisk) -> Option<&std::path::Path> {
    match meta {
        MetaDisk::Internal => None,
        MetaDisk::Flexible(path) | MetaDisk::Indexed(path, _) => Some(path),
    }
}

/// What the daemon would say of the connection's new addresses, after it has left the old one.
fn obstacle_of_address(
    item: &Item,
    running: &ConnectionShown,
    all: &[ResourceShown],
    may_wait: bool,
) -> Option<String> {
    let (local, peer) = (item.resource.me.address, item.resource.peer.address);
    if (local, peer) == (running.local, running.peer) {
        return None;
    }
    if local == peer {
        return Some(format!("{local} is this node's address and the peer's"));
    }
    if local.is_ipv4() != peer.is_ipv4() {
        return Some(format!("{local} cannot be connected to {peer}"));
    }
    for other in all.iter().filter(|shown| shown.name != item.resource.name) {
        let Some(used) = &other.connection else {
            continue;
        };
        let taken = [(local, used.local), (peer, used.peer)];
        if let Some((address, _)) = taken.into_iter().find(|(new, used)| new == used) {
            return Some(format!("{address} is in use by resource {}", other.name));
        }
    }
    // Our own listener is at the old address, and would be in the way of itself.
    let is_any = |ip: IpAddr| ip.is_unspecified();
    let is_own = local == running.local
        || local.port() == running.local.port()
            && (is_any(local.ip()) || is_any(running.local.ip()));
    if is_own {
        return None;
    }
    match TcpListener::bind(local) {
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable && may_wait => None,
        Err(error) => Some(format!("can not listen at {local}: {error}")),
    }
}

/// Puts back what an adjust that has failed has given up, and says so; `was`: how the resource ran before.
pub(super) fn put_back(executor: &mut Executor, item: &Item, was: &ResourceShown) {
    let name = &was.name;
    let now = match executor.show() {
        Ok(now) => now.into_iter().find(|shown| shown.name == *name),
        Err(trouble) => {
            out::error(&format!(
                "{name}: how it runs now can not be found out: {}",
                trouble.message
            ));
            return;
        }
    };
    for volume in &was.volumes {
        let configured = item.resource.volumes.iter();
        let is_wanted = configured
            .clone()
            .any(|v| v.volume == volume.volume && v.disk.is_some());
        let Some(disk) = volume.disk.as_ref().filter(|_| is_wanted) else {
            continue;
        };
        let volumes = now.iter().flat_map(|now| &now.volumes);
        let mut volumes = volumes.filter(|v| v.volume == volume.volume);
        let found = volumes.next();
        if found.is_some_and(|v| v.disk.is_some()) {
            continue;
        }
        let (number, path) = (volume.volume, disk.data.display());
        let is_back = found.is_some_and(|v| v.minor == volume.minor)
            && executor.run(&attach(name, volume.minor, disk)) == 0;
        out::error(&if is_back {
            format!("{name}: the old disk of volume {number} is attached again: {path}")
        } else {
            format!("{name}: volume {number} has no disk now; it was detached from {path}")
        });
    }
    let is_connected = now.is_some_and(|now| now.connection.is_some());
    if let Some(connection) = was.connection.as_ref().filter(|_| !is_connected) {
        let ConnectionShown { local, peer, .. } = connection;
        let is_back = executor.run(&connect(name, connection)) == 0;
        out::error(&if is_back {
            format!("{name}: it connects again from {local} to {peer}, as before")
        } else {
            format!("{name}: it has no connection now; the one from {local} to {peer} was ended")
        });
    }
}

/// The step that attaches a disk as it was.
fn attach(name: &str, minor: u32, disk: &DiskShown) -> Step {
    let data = path_word(&disk.data);
    let (meta, index) = match &disk.meta {
        MetaDisk::Internal => (data.clone(), "internal".to_owned()),
        MetaDisk::Flexible(path) => (path_word(path), "flexible".to_owned()),
        MetaDisk::Indexed(path, index) => (path_word(path), index.to_string()),
    };
    let op = Op::Attach {
        minor,
        data: disk.data.clone(),
        meta: disk.meta.clone(),
        options: disk.options.clone(),
    };
    Step {
        resource: name.to_owned(),
        tool: Tool::Setup,
        argv: vec!["attach".to_owned(), minor.to_string(), data, meta, index],
        object: minor.to_string(),
        action: Action::Run(op),
    }
}

/// The step that makes a connection as it was.
fn connect(name: &str, connection: &ConnectionShown) -> Step {
    let ConnectionShown { local, peer, net } = connection;
    let op = Op::Connect {
        resource: name.to_owned(),
        local: *local,
        peer: *peer,
        options: net.clone(),
        discard_my_data: false,
        tentative: false,
    };
    Step {
        resource: name.to_owned(),
        tool: Tool::Setup,
        argv: vec![
            "connect".to_owned(),
            name.to_owned(),
            address_word(local),
            address_word(peer),
        ],
        object: name.to_owned(),
        action: Action::Run(op),
    }
}
