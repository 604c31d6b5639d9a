//! The JSON of `show`, as DRBD 9's drbdsetup has it (`docs/spec/admin.md`, section 4.10).

use rdb_config::Section;
use rdb_config::options::{Changed, Type};
use rdb_control::{MetaDisk, ResourceShown, VolumeShown};
use serde_json::{Map, Value, json};

use crate::shown::options_of;

/// The options of a disk that DRBD 9 has of a peer's volume.
const OF_PEER: [&str; 6] = [
    "resync-rate",
    "c-plan-ahead",
    "c-delay-target",
    "c-fill-target",
    "c-max-rate",
    "c-min-rate",
];

/// All of them, with a newline.
pub(crate) fn text(resources: &[Value]) -> String {
    let mut text = serde_json::to_string_pretty(resources).expect("values with string keys");
    text.push('\n');
    text
}

/// How a resource runs; `defaults`: options that are at their default, too.
pub(crate) fn resource(shown: &ResourceShown, defaults: bool) -> Value {
    let volumes: Vec<Value> = shown.volumes.iter().map(|v| volume(v, defaults)).collect();
    let mut value = json!({
        "resource": shown.name,
        "options": options(Section::Options, shown.options.changed(), defaults),
        "_this_host": { "node-id": 0, "volumes": volumes },
        "connections": [],
    });
    if !shown.handlers.commands.is_empty() {
        value["handlers"] = json!(shown.handlers.commands);
    }
    if let Some(connection) = &shown.connection {
        let address = |address: std::net::SocketAddr| match address.is_ipv4() {
            true => format!("ipv4 {address}"),
            false => format!("ipv6 {address}"),
        };
        let path = json!({
            "_this_host": address(connection.local),
            "_remote_host": address(connection.peer),
        });
        let of_peer: Vec<Value> = shown
            .volumes
            .iter()
            .map(|v| json!({ "volume_nr": v.volume, "disk": disk(v, defaults, true) }))
            .collect();
        value["connections"] = json!([{
            "_peer_node_id": 0,
            "path": path,
            "paths": [path],
            "net": options(Section::Net, connection.net.changed(), defaults),
            "volumes": of_peer,
        }]);
    }
    value
}

fn volume(volume: &VolumeShown, defaults: bool) -> Value {
    let mut value = json!({ "volume_nr": volume.volume, "device_minor": volume.minor });
    let Some(shown) = &volume.disk else {
        value["disk"] = json!("none");
        return value;
    };
    value["backing-disk"] = json!(shown.data.display().to_string());
    value["meta-disk"] = match &shown.meta {
        MetaDisk::Internal => json!("internal"),
        MetaDisk::Flexible(path) => json!(path.display().to_string()),
        MetaDisk::Indexed(path, index) => {
            value["meta-disk-index"] = json!(index);
            json!(path.display().to_string())
        }
    };
    value["disk"] = disk(volume, defaults, false);
    value
}

/// The disk options of a volume, or those of them that are about its peer.
fn disk(volume: &VolumeShown, defaults: bool, of_peer: bool) -> Value {
    let changed = volume.disk.as_ref().map(|disk| disk.options.changed());
    let mut value = match changed {
        Some(changed) => options(Section::Disk, changed, defaults),
        None => json!({}),
    };
    if let (Value::Object(members), true) = (&mut value, of_peer) {
        members.retain(|name, _| OF_PEER.contains(&name.as_str()));
    }
    value
}

/// Switches are booleans; all else is text, numbers with their unit's suffix.
fn options(section: Section, changed: Changed, defaults: bool) -> Value {
    let shown = options_of(section, changed, defaults).into_iter();
    let members: Map<String, Value> = shown
        .map(|shown| {
            let value = match shown.option.ty {
                Type::Bool { .. } => json!(shown.value == "yes"),
                _ => json!(shown.with_unit().0),
            };
            (shown.option.name.to_owned(), value)
        })
        .collect();
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use rdb_control::{
        ConnectionShown, DiskOptions, DiskShown, HandlersShown, NetOptions, ResourceOptions,
    };

    use super::*;

    #[test]
    fn what_runs_is_shown_as_drbd_9_has_it() {
        let shown = ResourceShown {
            name: "r0".to_owned(),
            options: ResourceOptions::default(),
            handlers: HandlersShown::default(),
            connection: Some(ConnectionShown {
                local: "10.9.0.1:7789".parse().unwrap(),
                peer: "10.9.0.2:7789".parse().unwrap(),
                net: NetOptions {
                    use_rle: false,
                    ..NetOptions::default()
                },
            }),
            volumes: vec![VolumeShown {
                volume: 0,
                minor: 7,
                implicit: true,
                old_name: false,
                disk: Some(DiskShown {
                    data: "/dev/vdb".into(),
                    meta: MetaDisk::Internal,
                    options: DiskOptions {
                        resync_rate_kib: 1024,
                        ..DiskOptions::default()
                    },
                }),
            }],
        };
        let path =
            json!({ "_this_host": "ipv4 10.9.0.1:7789", "_remote_host": "ipv4 10.9.0.2:7789" });
        assert_eq!(
            resource(&shown, false),
            json!({
                "resource": "r0",
                "options": {},
                "_this_host": { "node-id": 0, "volumes": [{
                    "volume_nr": 0, "device_minor": 7, "backing-disk": "/dev/vdb", "meta-disk": "internal",
                    "disk": { "resync-rate": "1024k" },
                }] },
                "connections": [{
                    "_peer_node_id": 0, "path": path, "paths": [path], "net": { "use-rle": false },
                    "volumes": [{ "volume_nr": 0, "disk": { "resync-rate": "1024k" } }],
                }],
            })
        );
        let whole = resource(&shown, true);
        let net = &whole["connections"][0]["net"];
        assert_eq!(
            (&net["timeout"], &net["tcp-cork"]),
            (&json!("60"), &json!(true))
        );
        assert_eq!(
            whole["_this_host"]["volumes"][0]["disk"]["c-max-rate"],
            "102400k"
        );
    }
}
