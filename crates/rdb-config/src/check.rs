//! Checks that need the whole configuration: `docs/spec/admin.md`, section 1.11.

use crate::dump::escape as quoted;
use crate::error::{Diagnostic, Errors, Place, Problem, Warning, WarningKind};
use crate::model::{
    Config, Disk, Host, HostKind, MetaDisk, Resource, Section, Sections, Setting, Volume,
};
use crate::options::{self, Served, Type};
use crate::shell::shell_word;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::sync::Arc;

/// Checks everything; the configuration may lose a `resync-after` that names nothing.
pub(crate) fn check(config: &mut Config, errors: &mut Errors, warnings: &mut Vec<Warning>) {
    let names: BTreeSet<&str> = config.resources.iter().map(|r| r.name.as_str()).collect();
    let mut checker = Checker {
        errors,
        firsts: BTreeMap::new(),
    };
    for resource in &config.resources {
        checker.hosts(resource);
        checker.volumes(resource);
        stacked(resource, &names, warnings);
    }
    resync_after(config, warnings);
    for resource in &config.resources {
        secret_alone(resource, warnings);
        no_handler(resource, warnings);
        victim(resource, warnings);
    }
    without_effect(config, warnings);
}

/// 0.7's resync groups: those of a later group waited until the earlier ones were in sync. That changes when a resync
/// runs, not what is safe; so the resources are served, and the order is missed with a word.
pub(crate) fn groups_of_07(
    resources: &[Resource],
    groups: &[(String, i64)],
    warnings: &mut Vec<Warning>,
) {
    let Some(first) = groups.iter().map(|(_, group)| *group).min() else {
        return;
    };
    let mut own_group = BTreeMap::new();
    for (name, group) in groups {
        own_group.entry(name.as_str()).or_insert(*group);
    }
    for resource in resources {
        let Some(&own) = own_group.get(resource.name.as_str()) else {
            continue;
        };
        if own <= first {
            continue;
        }
        warnings.push(Warning {
            kind: WarningKind::NoEffect,
            place: Some(resource.place.clone()),
            text: format!(
                "in resource {}: 'group {own}' of DRBD 0.7 has no effect: resyncs of several resources run at the same \
                 time",
                quoted(&resource.name)
            ),
        });
    }
}

/// What may be used once; names are of hosts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Once<'a> {
    Address(String),
    Minor(&'a str, u32),
    /// A metadata device as a whole, or a slot of it.
    Meta(&'a str, &'a OsStr, Option<u32>),
    Disk(&'a str, &'a OsStr),
}

impl Once<'_> {
    /// What it is, and which, as DRBD's messages have it.
    fn words(&self) -> (&'static str, String) {
        match self {
            Once::Address(address) => ("IP", address.clone()),
            Once::Minor(name, minor) => ("device-minor", format!("device-minor:{name}:{minor}")),
            Once::Meta(name, path, slot) => {
                let slot = slot.map_or("flexible".to_owned(), |slot| slot.to_string());
                ("meta-disk", format!("{name}:{}[{slot}]", path.display()))
            }
            Once::Disk(name, path) => ("disk", format!("disk:{name}:{}", path.display())),
        }
    }
}

struct Checker<'a> {
    errors: &'a mut Errors,
    firsts: BTreeMap<Once<'a>, &'a Place>,
}

impl<'a> Checker<'a> {
    fn once(&mut self, what: Once<'a>, place: &'a Place) {
        match self.firsts.entry(what) {
            Entry::Vacant(entry) => _ = entry.insert(place),
            Entry::Occupied(entry) => {
                let (what, key) = entry.key().words();
                let problem = Problem::Conflict {
                    what: what.to_owned(),
                    key,
                    first: entry.get().to_string(),
                };
                self.errors.push(Diagnostic {
                    place: Some(place.clone()),
                    problem,
                    hint: None,
                });
            }
        }
    }

    /// Addresses, minors, metadata slots and disks that are used twice.
    fn hosts(&mut self, resource: &'a Resource) {
        for host in &resource.hosts {
            if let Some(address) = &host.address {
                // Every host has the loopback addresses for itself.
                let key = if address.ip.is_loopback() && host.kind != HostKind::Floating {
                    format!("{}:{address}", host.names[0])
                } else {
                    address.to_string()
                };
                self.once(Once::Address(key), &address.place);
            }
            // Which hosts a stacked section stands for is the lower resource's affair.
            if host.kind == HostKind::Stacked {
                continue;
            }
            for name in &host.names {
                self.host_devices(host, name);
            }
        }
    }

    fn host_devices(&mut self, host: &'a Host, name: &'a str) {
        for volume in &host.volumes {
            if let Some(device) = &volume.device {
                self.once(Once::Minor(name, device.minor), &device.place);
            }
            let meta = match &volume.meta {
                Some(MetaDisk::Indexed(path, index)) => Some((path, Some(*index))),
                Some(MetaDisk::Flexible(path)) => Some((path, None)),
                Some(MetaDisk::Internal) | None => None,
            };
            if let Some((path, slot)) = meta {
                self.once(Once::Meta(name, path.as_os_str(), slot), &volume.place);
            }
            if let Some(Disk::Path(path)) = &volume.disk {
                self.once(Once::Disk(name, path.as_os_str()), &volume.place);
            }
        }
    }

    /// The hosts of a resource have the same volumes.
    fn volumes(&mut self, resource: &'a Resource) {
        let Some((first, others)) = resource.hosts.split_first() else {
            return;
        };
        let label = |host: &Host| format!("on {} {{ ... }}", host.names[0]);
        let by_number = |host: &'a Host| -> BTreeMap<u16, &'a Volume> {
            host.volumes.iter().map(|v| (v.number, v)).collect()
        };
        let ours = by_number(first);
        for other in others {
            let theirs = by_number(other);
            for volume in &first.volumes {
                match theirs.get(&volume.number) {
                    Some(theirs) if theirs.implicit != volume.implicit => {
                        let text = format!(
                            "volume {} must not be implicit on one but not the other",
                            volume.number
                        );
                        let of = format!("on {} resp. {}", first.names[0], other.names[0]);
                        self.wrong_here(&resource.end, resource, of, text);
                    }
                    Some(_) => {}
                    None => {
                        let text =
                            format!("volume {} not defined on {}", volume.number, other.names[0]);
                        self.wrong_here(&resource.end, resource, label(first), text);
                    }
                }
            }
            for volume in &other.volumes {
                if !ours.contains_key(&volume.number) {
                    let text = format!(
                        "volume {} missing (present on {})",
                        volume.number, other.names[0]
                    );
                    self.wrong_here(&resource.end, resource, label(first), text);
                }
            }
        }
    }

    fn wrong_here(&mut self, place: &Place, resource: &Resource, of: String, text: String) {
        let problem = Problem::Volumes {
            resource: quoted(&resource.name),
            of,
            text,
        };
        self.errors.push(Diagnostic {
            place: Some(place.clone()),
            problem,
            hint: None,
        });
    }
}

/// What is wrong with `become-primary-on`: it names hosts of the resource. It is this resource's affair alone, so it
/// is asked for when the resource is to run.
pub(crate) fn primaries(resource: &Resource) -> Vec<Diagnostic> {
    let all = resource.inherited();
    let Some(setting) = all.find(Section::Startup, "become-primary-on") else {
        return Vec::new();
    };
    let wrong = |text: String| Diagnostic {
        place: Some(resource.place.clone()),
        problem: Problem::Resource {
            resource: quoted(&resource.name),
            of: String::new(),
            text,
        },
        hint: None,
    };
    if setting.value == "both" {
        if is_yes(&all, Section::Net, "allow-two-primaries") {
            return Vec::new();
        }
        let text = "\nbecome-primary-on is set to both, but allow-two-primaries is not set.";
        return vec![wrong(text.to_owned())];
    }
    // In common it may name hosts of other resources only; DRBD checks what a resource says itself.
    if resource
        .sections
        .find(Section::Startup, "become-primary-on")
        .is_none()
    {
        return Vec::new();
    }
    let hosts = resource.hosts.iter();
    let names: BTreeSet<&str> = hosts
        .filter(|host| host.kind != HostKind::Floating)
        .flat_map(|host| host.names.iter().map(String::as_str))
        .collect();
    setting
        .value
        .split(' ')
        .filter(|name| !names.contains(name))
        .map(|name| {
            wrong(format!(
                "\n\tbecome-primary-on contains '{name}', which is not named with the 'on' sections."
            ))
        })
        .collect()
}

/// A stacked resource that lies on none cannot run, and neither can any other stacked one yet: it is said, and nobody
/// else is kept from running.
fn stacked(resource: &Resource, names: &BTreeSet<&str>, warnings: &mut Vec<Warning>) {
    for host in &resource.hosts {
        if host.kind != HostKind::Stacked || names.contains(host.names[0].as_str()) {
            continue;
        }
        warnings.push(Warning {
            kind: WarningKind::Advice,
            place: Some(resource.place.clone()),
            text: format!(
                "in resource {}, referenced resource '{}' not defined.",
                quoted(&resource.name),
                host.names[0]
            ),
        });
    }
}

/// An option that wants a handler which there is not.
fn no_handler(resource: &Resource, warnings: &mut Vec<Warning>) {
    for (option, word, handler, effect) in [
        ("fencing", "resource-only", "fence-peer", NO_FENCING),
        ("fencing", "resource-and-stonith", "fence-peer", NO_FENCING),
        (
            "on-io-error",
            "call-local-io-error",
            "local-io-error",
            "the disk is given up, and nothing is called",
        ),
    ] {
        let setting = resource.find_inherited(Section::Disk, option);
        let Some(setting) = setting.filter(|setting| setting.value == word) else {
            continue;
        };
        if resource
            .find_inherited(Section::Handlers, handler)
            .is_none()
        {
            warnings.push(Warning {
                kind: WarningKind::Advice,
                place: Some(setting.place.clone()),
                text: format!(
                    "in resource {}: {option} is {word} and there is no handler {handler}: {effect}",
                    quoted(&resource.name)
                ),
            });
        }
    }
}

/// What a fencing policy means that cannot be carried out.
const NO_FENCING: &str = "without its peer the node does not become Primary";

/// A secret that nobody is asked for.
fn secret_alone(resource: &Resource, warnings: &mut Vec<Warning>) {
    let find = |name| resource.find_inherited(Section::Net, name);
    if let Some(secret) = find("shared-secret")
        && find("cram-hmac-alg").is_none()
    {
        warnings.push(Warning {
            kind: WarningKind::Advice,
            place: Some(secret.place.clone()),
            text: format!(
                "in resource {}: shared-secret has no effect without cram-hmac-alg: the peer need not know it",
                quoted(&resource.name)
            ),
        });
    }
}

/// `discard-node-NAME` with the name of no host: both nodes would discard the other's changes.
fn victim(resource: &Resource, warnings: &mut Vec<Warning>) {
    let Some(setting) = resource.find_inherited(Section::Net, "after-sb-0pri") else {
        return;
    };
    let Some(victim) = setting.value.strip_prefix("discard-node-") else {
        return;
    };
    if resource.hosts.is_empty()
        || resource
            .hosts
            .iter()
            .any(|h| h.names.iter().any(|n| n == victim))
    {
        return;
    }
    warnings.push(Warning {
        kind: WarningKind::Advice,
        place: Some(setting.place.clone()),
        text: format!(
            "in resource {}: after-sb-0pri {}: the resource has no host '{victim}', so each node would discard the other's \
             changes",
            quoted(&resource.name),
            setting.value
        ),
    });
}

fn is_yes(sections: &Sections, section: Section, name: &str) -> bool {
    sections
        .find(section, name)
        .is_some_and(|s| s.value == "yes")
}

/// Drops each `resync-after` that names an unknown resource, or an unknown volume of one, with a warning.
fn resync_after(config: &mut Config, warnings: &mut Vec<Warning>) {
    let by_name: BTreeMap<&str, &Resource> = config
        .resources
        .iter()
        .map(|resource| (resource.name.as_str(), resource))
        .collect();
    let mut volumes: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
    let mut is_known = |value: &str| {
        let (name, volume) = match value.rsplit_once('/') {
            Some((name, volume)) => (name, Some(volume)),
            None => (value, None),
        };
        let Some((&name, resource)) = by_name.get_key_value(name) else {
            return false;
        };
        volume.is_none_or(|volume| {
            let numbers = volumes.entry(name).or_insert_with(|| {
                let volumes = resource.hosts.iter().flat_map(|host| &host.volumes);
                volumes.map(|volume| volume.number).collect()
            });
            volume.parse().is_ok_and(|number| numbers.contains(&number))
        })
    };
    let mut dropped = Vec::new();
    for (at, resource) in config.resources.iter().enumerate() {
        let Some(setting) = resource.find_inherited(Section::Disk, "resync-after") else {
            continue;
        };
        // A plain number is a minor; -1 is none.
        if setting.value.parse::<i64>().is_ok() || is_known(&setting.value) {
            continue;
        }
        warnings.push(Warning {
            kind: WarningKind::Advice,
            place: Some(resource.place.clone()),
            text: format!(
                "in resource {}:\n\tresource '{}' mentioned in 'resync-after' option is not known.",
                quoted(&resource.name),
                setting.value
            ),
        });
        dropped.push(at);
    }
    for at in dropped {
        let resource = &mut config.resources[at];
        resource.sections.remove(Section::Disk, "resync-after");
        resource.dropped_resync_after = true;
    }
}

/// One warning for each file with a shared secret that everybody may read.
pub(crate) fn open_secrets(config: &Config, warnings: &mut Vec<Warning>) {
    use std::os::unix::fs::PermissionsExt;

    let mut told = BTreeSet::new();
    let all =
        std::iter::once(config.common.as_ref()).chain(config.resources.iter().map(|r| &r.sections));
    for secret in all.filter_map(|sections| sections.find(Section::Net, "shared-secret")) {
        let path = &secret.place.file.path;
        // A file that is not there came by standard input.
        let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode());
        if mode & 0o004 != 0 && told.insert(path) {
            warnings.push(Warning {
                kind: WarningKind::Advice,
                place: Some(secret.place.clone()),
                text: format!(
                    "everybody on this machine may read the shared secret: chmod o-r {}",
                    shell_word(path)
                ),
            });
        }
    }
}

/// One warning for each option that is set and has no effect.
fn without_effect(config: &Config, warnings: &mut Vec<Warning>) {
    let mut told = BTreeSet::new();
    let mut tell = |section: Section, settings: &[Setting]| {
        for setting in settings {
            if setting.name == "plugin" {
                continue;
            }
            let Some(def) = options::find(section, &setting.name) else {
                continue;
            };
            let Setting { name, value, .. } = setting;
            let words = match def.served {
                Served::Harmless(reason) => format!("'{name}' has no effect: {reason}"),
                Served::ServedBut(words) => match words.iter().find(|(word, _)| word == value) {
                    Some((word, reason)) => format!("'{name} {word}' {reason}"),
                    None => continue,
                },
                Served::Served | Served::Refused(_) => continue,
            };
            // Who asks not to be counted gets just that.
            if def.name == "usage-count" && setting.value == "no" {
                continue;
            }
            if matches!(def.ty, Type::Bool { default } if (setting.value == "yes") == default) {
                continue;
            }
            if told.insert((section, words.clone())) {
                warnings.push(Warning {
                    kind: WarningKind::NoEffect,
                    place: Some(setting.place.clone()),
                    text: format!("{} option {words}", section.as_str()),
                });
            }
        }
    };
    tell(Section::Global, &config.global.settings);
    let resources = config.resources.iter();
    let hosts = resources.clone().flat_map(|r| &r.hosts);
    // Each template once.
    let mut seen = BTreeSet::new();
    let volumes = hosts
        .clone()
        .flat_map(|h| &h.volumes)
        .filter(|v| !v.sections.is_empty() && seen.insert(Arc::as_ptr(&v.sections)));
    let all = std::iter::once(config.common.as_ref())
        .chain(resources.map(|r| &r.sections))
        .chain(hosts.map(|h| &h.sections))
        .chain(volumes.map(|v| v.sections.as_ref()));
    for sections in all {
        for section in Section::IN_RESOURCE {
            tell(section, sections.get(section));
        }
    }
}
