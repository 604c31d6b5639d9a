//! The options of a resource as they stand in its files, in the order in which `drbdadm` hands them on.

use std::collections::BTreeMap;

use rdb_config::{Config, ResolvedResource, Resource, Section, Sections, Setting};

use super::plan::Written;

/// All of them, as arguments.
pub(crate) fn written(
    config: &Config,
    resource: &Resource,
    resolved: &ResolvedResource,
    node: &str,
) -> Written {
    let sections = resource.inherited();
    let own_volumes = resource
        .local_host(node)
        .map(|host| host.volumes.as_slice())
        .unwrap_or_default();
    let mut disks = BTreeMap::new();
    for volume in &resolved.volumes {
        // They are in the order of their numbers.
        let own = own_volumes.binary_search_by_key(&volume.volume, |v| v.number);
        let mut own = own.map_or_else(
            |_| Sections::default(),
            |at| Sections::clone(&own_volumes[at].sections),
        );
        own.inherit_section(Section::Disk, sections.get(Section::Disk));
        let mut settings = own.get(Section::Disk).to_vec();
        for setting in settings.iter_mut().filter(|s| s.name == "resync-after") {
            if let Some(minor) = minor_of(config, node, &setting.value) {
                setting.value = minor.to_string();
            }
        }
        disks.insert(volume.volume, arguments(&settings));
    }
    let wait = [
        "wfc-timeout",
        "degr-wfc-timeout",
        "outdated-wfc-timeout",
        "wait-after-sb",
    ];
    let startup: Vec<Setting> = sections
        .get(Section::Startup)
        .iter()
        .filter(|s| wait.contains(&s.name.as_str()))
        .cloned()
        .collect();
    let mut net = sections.get(Section::Net).to_vec();
    for setting in &mut net {
        // A victim by name is this node or the other.
        if setting.name == "after-sb-0pri" && setting.value.starts_with("discard-node-") {
            setting.value = resolved.net.after_sb_0pri.to_string();
        }
    }
    Written {
        net: arguments(&net),
        options: arguments(sections.get(Section::Options)),
        startup: arguments(&startup),
        disks,
    }
}

/// The minor that `RES` or `RES/VOLUME` stands for on this node.
fn minor_of(config: &Config, node: &str, name: &str) -> Option<u32> {
    let (resource, number) = match name.split_once('/') {
        Some((resource, number)) => (resource, Some(number.parse::<u16>().ok()?)),
        None => (name, None),
    };
    let host = config.resource(resource).ok()?.local_host(node)?;
    let volume = host
        .volumes
        .iter()
        .find(|v| number.is_none_or(|n| v.number == n))?;
    Some(volume.device.as_ref()?.minor)
}

fn arguments(settings: &[Setting]) -> Vec<String> {
    settings
        .iter()
        .map(|Setting { name, value, .. }| {
            let value = if value.is_empty() { "yes" } else { value };
            format!("--{name}={value}")
        })
        .collect()
}
