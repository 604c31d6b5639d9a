//! The JSON of `dump`: the configuration as it is understood. DRBD has `dump-xml` for that; this has the same, under the same names.

use rdb_config::{
    Address, Config, Disk, Host, HostKind, MetaDisk, Resource, Section, Sections, Volume,
};
use serde_json::{Map, Value, json};

/// What of it is printed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct What {
    /// In each resource and volume also what it inherits.
    pub(crate) inherited: bool,
    pub(crate) hide_secrets: bool,
}

/// The whole file.
pub(crate) fn config(config: &Config, node: &str, what: What) -> Value {
    let resources = config.resources.iter();
    let global = config.global.settings.iter();
    let mut value = json!({
        "file": config.path,
        "global": global.map(|s| (s.name.clone(), json!(s.value))).collect::<Map<_, _>>(),
        "resources": resources.map(|r| resource(r, node, what)).collect::<Vec<_>>(),
    });
    if config.has_common {
        value["common"] = sections(&config.common, what);
    }
    value
}

/// One resource.
pub(crate) fn resource(resource: &Resource, node: &str, what: What) -> Value {
    let all = match what.inherited {
        true => resource.inherited(),
        false => resource.sections.clone(),
    };
    let hosts = resource.hosts.iter();
    json!({
        "name": resource.name,
        "defined-at": { "file": resource.place.file.path, "line": resource.place.line },
        "ignored": resource.local_host(node).is_none(),
        "stacked": resource.is_stacked(),
        "hosts": hosts.map(|h| host(h, &all, what)).collect::<Vec<_>>(),
        "sections": sections(&all, what),
    })
}

fn host(host: &Host, inherited: &Sections, what: What) -> Value {
    let kind = match host.kind {
        HostKind::On => "on",
        HostKind::Floating => "floating",
        HostKind::Stacked => "stacked-on-top-of",
    };
    let volumes = host.volumes.iter();
    let mut value = json!({
        "kind": kind,
        "names": host.names,
        "volumes": volumes.map(|v| volume(v, inherited, what)).collect::<Vec<_>>(),
    });
    if let Some(found) = &host.address {
        value["address"] = address(found);
    }
    if let Some(found) = &host.alternate_address {
        value["alternate-link-address"] = address(found);
    }
    if let Some(id) = host.node_id {
        value["node-id"] = json!(id);
    }
    if let Some(proxy) = &host.proxy {
        value["proxy"] = json!({
            "names": proxy.names,
            "inside": proxy.inside.as_ref().map(address),
            "outside": proxy.outside.as_ref().map(address),
        });
    }
    value
}

fn address(address: &Address) -> Value {
    json!({ "family": address.family.as_str(), "address": address.ip.to_string(), "port": address.port })
}

fn volume(volume: &Volume, inherited: &Sections, what: What) -> Value {
    let mut own = Sections::clone(&volume.sections);
    if what.inherited {
        own.inherit_section(Section::Disk, inherited.get(Section::Disk));
    }
    let mut value = json!({
        "volume": volume.number,
        "implicit": volume.implicit,
        "sections": sections(&own, what),
    });
    if let Some(device) = &volume.device {
        let path = device.path.clone();
        let path = path.unwrap_or_else(|| format!("/dev/drbd{}", device.minor).into());
        value["device"] = json!(path.display().to_string());
        value["minor"] = json!(device.minor);
    }
    match &volume.disk {
        Some(Disk::Path(path)) => value["disk"] = json!(path.display().to_string()),
        Some(Disk::None) => value["disk"] = json!("none"),
        None => {}
    }
    match &volume.meta {
        Some(MetaDisk::Internal) => value["meta-disk"] = json!("internal"),
        Some(MetaDisk::Flexible(path)) => value["meta-disk"] = json!(path.display().to_string()),
        Some(MetaDisk::Indexed(path, index)) => {
            value["meta-disk"] = json!(path.display().to_string());
            value["meta-disk-index"] = json!(index);
        }
        None => {}
    }
    value
}

/// Each section with its options, as they are written; an option that is set twice counts as it is last.
fn sections(sections: &Sections, what: What) -> Value {
    let mut value = Map::new();
    for section in Section::IN_RESOURCE {
        let settings = sections.get(section);
        if settings.is_empty() {
            continue;
        }
        let shown = settings.iter().map(|setting| {
            let is_hidden = what.hide_secrets && setting.name == "shared-secret";
            let text = if is_hidden { "*****" } else { &setting.value };
            (setting.name.clone(), json!(text))
        });
        value.insert(section.as_str().to_owned(), Value::Object(shown.collect()));
    }
    Value::Object(value)
}
