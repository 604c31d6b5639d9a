//! Which names the devices of the node's volumes should have ([`crate::names`]), and when.

use std::collections::HashMap;
use std::path::PathBuf;

use rdb_frontend::links::VolumeNames;

use crate::names::{Key, Made};
use crate::node::Node;

impl Node {
    /// The names that the volumes should have.
    fn named(&self) -> HashMap<Key, VolumeNames> {
        let registry = self.registry.lock();
        let volumes = registry.resources().iter().flat_map(|entry| {
            entry.volumes.iter().map(|(number, volume)| {
                let names = VolumeNames {
                    minor: volume.minor,
                    resource: entry.name.clone(),
                    volume: (!volume.implicit).then_some(u32::from(*number)),
                    old_name: volume.old_name,
                    disk: volume.disk.as_ref().map(|disk| disk.data.clone()),
                };
                ((entry.name.clone(), *number), names)
            })
        });
        volumes.collect()
    }

    /// Makes the names of volumes that are new, and removes those of volumes that are gone.
    pub(crate) async fn name_volumes(&self) {
        if !self.names.are_made() || self.life.is_being_replaced() {
            return;
        }
        let mut made = self.names.made.lock().await;
        let wanted = self.named();
        let gone: Vec<Key> = made
            .iter()
            .filter(|(key, made)| {
                let other_minor = wanted
                    .get(*key)
                    .is_some_and(|names| names.minor != made.names.minor);
                other_minor || (made.device.is_none() && !wanted.contains_key(*key))
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            if let Some(gone) = made.remove(&key) {
                self.names.remove(&key, gone).await;
            }
        }
        for (key, names) in wanted {
            if made.get(&key).is_some_and(|made| made.names == names) {
                continue;
            }
            if let Some(old) = made.get(&key) {
                self.names.forget_disk(&key, &old.names, &names).await;
            }
            let before = made.get(&key).and_then(|made| made.device.clone());
            let new = Made {
                names: names.clone(),
                device: before.clone(),
                heard: made.get(&key).is_some_and(|made| made.heard),
            };
            made.insert(key.clone(), new);
            self.names.show(&key, names, before.clone(), before).await;
        }
    }

    /// A volume has a device, or has none any more.
    pub(crate) async fn name_device(&self, resource: &str, number: u16, device: Option<PathBuf>) {
        if !self.names.are_made() {
            return;
        }
        let key = (resource.to_owned(), number);
        let mut made = self.names.made.lock().await;
        let known = made.get(&key).cloned();
        let before = known.as_ref().and_then(|made| made.device.clone());
        let Some(names) = self.named().remove(&key) else {
            // It is gone, and so is its device.
            if let (Some(known), None) = (known, &device) {
                made.remove(&key);
                if !self.life.is_being_replaced() {
                    self.names.remove(&key, known).await;
                }
            }
            return;
        };
        if let Some(old) = &known {
            self.names.forget_disk(&key, &old.names, &names).await;
        }
        let new = Made {
            names: names.clone(),
            device: device.clone(),
            heard: true,
        };
        made.insert(key.clone(), new);
        if device.is_none() && !known.is_some_and(|known| known.heard) {
            self.names.remove_left(&key, names.clone()).await;
        }
        self.names.show(&key, names, device, before).await;
    }
}
