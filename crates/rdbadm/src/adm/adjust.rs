//! `adjust`: the smallest steps from what runs to what the configuration says (`docs/spec/admin.md`, section 3.6).

use rdb_control::{DiskOptions, ResourceShown, VolumeShown};

use super::plan::Item;
use crate::step::Step;

/// The steps for one resource in three stages: create, disks, network. `shown`: how it runs, if it does.
pub(crate) fn adjust(item: &Item, shown: Option<&ResourceShown>) -> [Vec<Step>; 3] {
    let Some(shown) = shown else { return item.up() };
    let resource = &item.resource;
    let mut create = Vec::new();
    let mut disks = Vec::new();
    let mut net = Vec::new();
    if shown.options != resource.options || shown.handlers != item.handlers {
        create.push(item.resource_options(true));
    }
    for running in shown.volumes.iter().filter(|r| item.is_asked_for(r.volume)) {
        let kept = resource
            .volumes
            .iter()
            .any(|v| is_same_volume(running, v.volume, v.minor));
        if !kept {
            if running.disk.is_some() {
                create.push(item.detach(running.minor));
            }
            create.push(item.del_minor(running.minor));
        }
    }
    for volume in item.volumes() {
        let running = shown
            .volumes
            .iter()
            .find(|r| is_same_volume(r, volume.volume, volume.minor));
        let Some(running) = running else {
            create.push(item.new_minor(volume));
            disks.extend(item.attach(volume));
            continue;
        };
        match (&running.disk, &volume.disk) {
            (None, None) => {}
            (None, Some(_)) => disks.extend(item.attach(volume)),
            (Some(_), None) => disks.push(item.detach(volume.minor)),
            (Some(disk), Some(data)) if disk.data != *data || disk.meta != volume.meta => {
                disks.push(item.detach(volume.minor));
                disks.extend(item.attach(volume));
            }
            (Some(disk), Some(_)) => {
                if !is_same_disk(&disk.options, &volume.disk_options) {
                    disks.push(item.disk_options(volume, true));
                }
            }
        }
    }
    match &shown.connection {
        None => net.push(item.connect(false, false)),
        Some(running)
            if running.local != resource.me.address || running.peer != resource.peer.address =>
        {
            net.push(item.disconnect_from([running.local, running.peer], false));
            net.push(item.connect(false, false));
        }
        Some(running) => {
            if running.net != resource.net {
                net.push(item.net_options(true));
            }
        }
    }
    [create, disks, net]
}

/// The options of a connection that stays whose change holds for the next one alone: until then nothing shows whether the peer
/// has the same.
pub(crate) fn for_next_connection(item: &Item, shown: Option<&ResourceShown>) -> Vec<&'static str> {
    let resource = &item.resource;
    let Some(running) = shown.and_then(|shown| shown.connection.as_ref()) else {
        return Vec::new();
    };
    let stays = (running.local, running.peer) == (resource.me.address, resource.peer.address);
    let (old, new) = (&running.net, &resource.net);
    let changed = [
        ("cram-hmac-alg", old.cram_hmac_alg != new.cram_hmac_alg),
        ("shared-secret", old.shared_secret != new.shared_secret),
    ];
    let changed = changed
        .into_iter()
        .filter(|(_, is_changed)| stays && *is_changed);
    changed.map(|(name, _)| name).collect()
}

fn is_same_volume(running: &VolumeShown, volume: u16, minor: u32) -> bool {
    running.volume == volume && running.minor == minor
}

/// `size` is not changed by `disk-options`: it takes effect with the next attach.
fn is_same_disk(running: &DiskOptions, configured: &DiskOptions) -> bool {
    DiskOptions {
        size_sectors: configured.size_sectors,
        ..running.clone()
    } == *configured
}
