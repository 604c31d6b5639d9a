//! The options of a resource as they stand in its files, in the order in which `drbdadm` hands them on.

use rdb_config::{Config, Resource, Section, Setting};

/// The net options as arguments: what the resource sets, before it one by one what only `common` sets.
pub(crate) fn net(config: &Config, resource: &Resource) -> Vec<String> {
    let inherited = inherit(
        config.common.get(Section::Net).to_vec(),
        resource.sections.get(Section::Net).to_vec(),
    );
    arguments(&inherited)
}

/// The options of the resource itself.
pub(crate) fn resource(config: &Config, resource: &Resource) -> Vec<String> {
    let inherited = inherit(
        config.common.get(Section::Options).to_vec(),
        resource.sections.get(Section::Options).to_vec(),
    );
    arguments(&inherited)
}

/// The disk options of a volume: two steps of inheritance. `resync_after` is the minor that the option names.
pub(crate) fn disk(
    config: &Config,
    resource: &Resource,
    volume: &[Setting],
    resync_after: Option<u32>,
) -> Vec<String> {
    let of_resource = inherit(
        config.common.get(Section::Disk).to_vec(),
        resource.sections.get(Section::Disk).to_vec(),
    );
    let mut settings = inherit(of_resource, volume.to_vec());
    for setting in settings.iter_mut().filter(|s| s.name == "resync-after") {
        if let Some(minor) = resync_after {
            setting.value = minor.to_string();
        }
    }
    arguments(&settings)
}

/// The wait options of `startup`.
pub(crate) fn startup(config: &Config, resource: &Resource) -> Vec<String> {
    let inherited = inherit(
        config.common.get(Section::Startup).to_vec(),
        resource.sections.get(Section::Startup).to_vec(),
    );
    let names = ["wfc-timeout", "degr-wfc-timeout", "outdated-wfc-timeout", "wait-after-sb"];
    let wanted: Vec<Setting> =
        inherited.into_iter().filter(|s| names.contains(&s.name.as_str())).collect();
    arguments(&wanted)
}

/// One step of inheritance (`docs/spec/admin.md`, section 1.10): what the child lacks is put before its own, one by
/// one, and so comes out in the opposite order.
fn inherit(parent: Vec<Setting>, mut child: Vec<Setting>) -> Vec<Setting> {
    for setting in parent {
        if !child.iter().any(|own| own.name == setting.name) {
            child.insert(0, setting);
        }
    }
    child
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
