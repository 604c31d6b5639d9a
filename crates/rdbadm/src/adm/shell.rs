//! `sh-status`, `sh-udev`, `sh-mod-parms` and `sh-lr-of`: what cluster managers and udev ask for, as a shell reads it
//! (`docs/spec/admin.md`, sections 3.8 and 4.6).

use std::path::Path;

use rdb_config::{Config, ResolvedVolume};
use rdb_control::ResourceReport;

use super::Command;
use super::plan::Item;
use crate::{out, status_text};

/// Whose output this is.
const DRBD_VERSION: &str = "8.4.11";
/// How many minors DRBD's module is loaded for if the configuration does not say.
const MINOR_COUNT: &str = "32";

/// `sh-mod-parms`: what a module would be loaded with.
pub(super) fn module_parameters(config: &Config) -> u8 {
    let settings = config.global.settings.iter().rev();
    let count = settings
        .filter(|setting| setting.name == "minor-count")
        .map(|setting| setting.value.as_str())
        .next();
    out::line(&format!("minor_count={}", count.unwrap_or(MINOR_COUNT)));
    0
}

/// `sh-lr-of`: a stacked resource's lower one. There are no stacked resources here.
pub(super) fn lower_resource() -> u8 {
    out::error("sh-lower-resource only available in stacked mode");
    1
}

/// `sh-udev`: the names that a volume's device has; with `udev-always-use-vnr` always with the volume's number.
pub(super) fn udev(items: &[Item], always_number: bool) -> u8 {
    let mut code = 0;
    for item in items {
        let name = &item.resource.name;
        let volumes: Vec<&ResolvedVolume> = item.volumes().collect();
        let [volume] = volumes.as_slice() else {
            code = not_one(name);
            continue;
        };
        if item.volume.is_none() && !volume.implicit {
            code = not_one(name);
            continue;
        }
        match volume.implicit && !always_number {
            true => out::line(&format!("RESOURCE={name}")),
            false => out::line(&format!("RESOURCE={name}/{}", volume.volume)),
        }
        let name = volume.device.file_name();
        let name = name.map_or_else(
            || format!("drbd{}", volume.minor).into(),
            |name| name.to_string_lossy(),
        );
        out::line(&format!("DEVICE={name}"));
        if let Some(disk) = &volume.disk {
            let below_dev = disk.strip_prefix("/dev").unwrap_or(disk);
            out::line(&format!("DISK={}", below_dev.display()));
        }
    }
    code
}

/// Some commands are always about all resources, and say so to who names some.
pub(super) fn of_all(words: &[String]) -> Vec<String> {
    if !words.is_empty() {
        out::error("This command will ignore resource names!");
    }
    Vec::new()
}

fn not_one(name: &str) -> u8 {
    out::error(&format!(
        "sh-udev requires a specific volume id, but none is specified.\n\
         Try 'sh-udev minor-<minor_number>' or 'sh-udev {name}/<vnr>'"
    ));
    1
}

impl Command<'_> {
    /// `sh-status`: the configuration's resources, volume by volume, each with what it is now.
    pub(super) fn sh_status(&self, items: &[Item], path: Option<&Path>) -> u8 {
        let mut executor = self.executor();
        let report = match executor.status() {
            Ok(report) => report,
            Err(trouble) => return trouble.tell(self.program),
        };
        let path = path.map_or_else(|| "STDIN".to_owned(), |path| path.display().to_string());
        out::print(&format!(
            "_drbd_version={DRBD_VERSION}\n_drbd_api=1\n_config_file={path}\n\n\n"
        ));
        let running = report.iter().flat_map(|report| &report.resources);
        for item in items {
            let name = &item.resource.name;
            let (file, line) = &item.resource.defined_at;
            let is_it = |found: &&ResourceReport| &found.name == name;
            let found = running.clone().find(is_it);
            out::print(&format!(
                "_conf_res_name={name}\n_conf_file_line={file}:{line}\n\n_stacked_on=\n\
                 _stacked_on_device=\n_stacked_on_minor=\n"
            ));
            for volume in item.volumes() {
                out::print(&format!("_conf_volume={}\n", volume.volume));
                let of_volume = found.and_then(|resource| {
                    let mut volumes = resource.volumes.iter();
                    Some((resource, volumes.find(|v| v.volume == volume.volume)?))
                });
                out::print(&match of_volume {
                    Some((resource, found)) => status_text::sh_status(resource, found),
                    None => status_text::sh_status_of_none(Some(volume.minor)),
                });
            }
        }
        0
    }
}
