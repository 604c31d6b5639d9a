//! `sh-dev`, `sh-minor` and their like: what the configuration says, a line each, for scripts.

use rdb_config::MetaDisk;

use super::Command;
use super::plan::Item;
use super::table::Verb;
use crate::out;

impl Command<'_> {
    /// Prints one fact of every volume.
    pub(super) fn print_facts(&self, items: &[Item]) -> u8 {
        for item in items {
            for volume in item.volumes() {
                let disk = || {
                    volume
                        .disk
                        .as_ref()
                        .map_or_else(|| "none".to_owned(), |p| p.display().to_string())
                };
                let fact = match self.row.verb {
                    Verb::ShDev => volume.device.display().to_string(),
                    Verb::ShMinor => volume.minor.to_string(),
                    Verb::ShLlDev => disk(),
                    Verb::ShMdDev => match &volume.meta {
                        MetaDisk::Internal => disk(),
                        MetaDisk::Flexible(path) | MetaDisk::Indexed(path, _) => {
                            path.display().to_string()
                        }
                    },
                    Verb::ShMdIdx => match &volume.meta {
                        MetaDisk::Internal => "internal".to_owned(),
                        MetaDisk::Flexible(_) => "flexible".to_owned(),
                        MetaDisk::Indexed(_, index) => index.to_string(),
                    },
                    Verb::ShIp => item.resource.me.address.ip().to_string(),
                    _ => item.resource.name.clone(),
                };
                out::line(&fact);
                if self.row.verb == Verb::ShResource {
                    break;
                }
            }
        }
        0
    }
}
