//! `sh-dev`, `sh-minor` and their like: what the configuration says of a volume, for scripts.

use rdb_config::{MetaDisk, ResolvedVolume};

use super::plan::Item;

pub(crate) fn device(_: &Item, volume: &ResolvedVolume) -> String {
    volume.device.display().to_string()
}

pub(crate) fn minor(_: &Item, volume: &ResolvedVolume) -> String {
    volume.minor.to_string()
}

pub(crate) fn disk(_: &Item, volume: &ResolvedVolume) -> String {
    let disk = volume.disk.as_ref();
    disk.map_or_else(|| "none".to_owned(), |path| path.display().to_string())
}

pub(crate) fn meta_disk(item: &Item, volume: &ResolvedVolume) -> String {
    match &volume.meta {
        MetaDisk::Internal => disk(item, volume),
        MetaDisk::Flexible(path) | MetaDisk::Indexed(path, _) => path.display().to_string(),
    }
}

pub(crate) fn meta_index(_: &Item, volume: &ResolvedVolume) -> String {
    match &volume.meta {
        MetaDisk::Internal => "internal".to_owned(),
        MetaDisk::Flexible(_) => "flexible".to_owned(),
        MetaDisk::Indexed(_, index) => index.to_string(),
    }
}

pub(crate) fn address(item: &Item, _: &ResolvedVolume) -> String {
    item.resource.me.address.ip().to_string()
}
