//! The names of devices in `/dev`, kept as the volumes are: a volume has its names as long as it is there, and they lead to its device while it
//! has one ([`rdb_frontend::links`]).

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use rdb_frontend::links::{DeviceLinks, LinkError, Shown, VolumeNames};
use tokio::sync::Mutex;

use crate::record::KeptResource;
use crate::threads;

/// A volume, by its resource and number.
pub(crate) type Key = (String, u16);

/// The names that this daemon has made.
pub(crate) struct Names {
    /// `None`: `device-links` is off.
    links: Option<DeviceLinks>,
    /// Locked while names are made: one change comes after the other.
    pub(crate) made: Mutex<HashMap<Key, Made>>,
    /// It has been logged that placeholders are not possible here.
    refused: Cell<bool>,
}

/// Those of a volume. There from the first look at it, whatever became of that: what cannot be made is told once.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) names: VolumeNames,
    /// The device that they lead to. Set and cleared by what the front end tells; so one that waits for the next daemon, while its
    /// resource is gone here, keeps its names.
    pub(crate) device: Option<PathBuf>,
    /// The front end has told of a device, or that there is none. What stands there before that is an earlier daemon's, which may be taken over;
    /// when there is none, it goes.
    pub(crate) heard: bool,
}

impl Names {
    /// Where names are made, if they are.
    pub(crate) fn new(links: Option<DeviceLinks>) -> Names {
        Names {
            links,
            made: Mutex::default(),
            refused: Cell::new(false),
        }
    }

    /// Whether they are made at all.
    pub(crate) fn are_made(&self) -> bool {
        self.links.is_some()
    }

    /// Does something to names on another thread: looking at a device may ask our own file system.
    async fn on_thread(
        &self,
        key: &Key,
        minor: u32,
        work: impl FnOnce(&DeviceLinks) -> Result<(), LinkError> + Send + 'static,
    ) {
        let Some(links) = self.links.clone() else {
            return;
        };
        let done = threads::run_in_any_case("device links", move || work(&links)).await;
        let Ok(Err(error)) = done else {
            return;
        };
        if is_refusal(&error) {
            if !self.refused.replace(true) {
                tracing::warn!(
                    "device links: {error}: this system does not let rdbd make device nodes, so a volume has names in /dev only while it \
                     has a device"
                );
            }
            return;
        }
        let (resource, number) = key;
        tracing::warn!("drbd {resource}/{number} drbd{minor}: device links: {error}");
    }

    /// Has a volume's names lead to its device, or nowhere.
    pub(crate) async fn show(
        &self,
        key: &Key,
        names: VolumeNames,
        device: Option<PathBuf>,
        before: Option<PathBuf>,
    ) {
        let minor = names.minor;
        self.on_thread(key, minor, move |links| {
            let shown = device.as_deref().map_or(Shown::Placeholder, Shown::Device);
            links.show(&names, shown, before.as_deref())
        })
        .await;
    }

    /// Whether the name of a minor could lead to a device of ours; if names are made at all.
    pub(crate) async fn check(&self, minor: u32) -> Result<(), String> {
        let Some(links) = self.links.clone() else {
            return Ok(());
        };
        let look = move || links.check(minor).map_err(|error| error.to_string());
        let looked = threads::run_in_any_case("device links", look).await;
        looked.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Takes the name by a disk away that the volume has no more.
    pub(crate) async fn forget_disk(&self, key: &Key, old: &VolumeNames, new: &VolumeNames) {
        let Some(disk) = old.disk.clone() else {
            return;
        };
        if old.minor == new.minor && new.disk.as_ref() != Some(&disk) {
            let minor = old.minor;
            self.on_thread(key, minor, move |links| links.remove_disk(minor, &disk))
                .await;
        }
    }

    pub(crate) async fn remove(&self, key: &Key, made: Made) {
        self.on_thread(key, made.names.minor, move |links| {
            match made.device.as_deref() {
                Some(device) => links.remove(&made.names, Some(device)),
                None => links.remove_placeholder(&made.names),
            }
        })
        .await;
    }

    /// The end of the daemon: what cannot be opened has no names any more.
    pub(crate) async fn end(&self) {
        for (key, made) in self.made.lock().await.drain() {
            if made.device.is_none() {
                self.remove(&key, made).await;
            }
        }
    }

    /// What a killed daemon has left of a resource that nobody takes over.
    pub(crate) async fn forget(&self, kept: &KeptResource) {
        for volume in &kept.shown.volumes {
            let key = (kept.shown.name.clone(), volume.volume);
            let names = VolumeNames {
                minor: volume.minor,
                resource: kept.shown.name.clone(),
                volume: (!volume.implicit).then_some(volume.volume.into()),
                old_name: volume.old_name,
                disk: volume.disk.as_ref().map(|disk| disk.data.clone()),
            };
            self.remove_left(&key, names).await;
        }
    }

    /// What a killed daemon has left of a volume.
    pub(crate) async fn remove_left(&self, key: &Key, names: VolumeNames) {
        let minor = names.minor;
        self.on_thread(key, minor, move |links| links.remove_left(&names))
            .await;
    }
}

/// Whether the system does not let us make device nodes at all, as in many containers.
fn is_refusal(error: &LinkError) -> bool {
    let LinkError::Io { error, .. } = error else {
        return false;
    };
    error.kind() == io::ErrorKind::PermissionDenied
}
