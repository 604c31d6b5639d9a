//! Checks that need the whole configuration: `docs/spec/admin.md`, section 1.11.

use crate::dump::escape as quoted;
use crate::error::{Diagnostic, Errors, Place, Problem, Warning, WarningKind};
use crate::model::{
    Config, Disk, Host, HostKind, MetaDisk, Resource, Section, Sections, Setting, Volume,
};
use crate::options::{self, Served, Type};
use std::collections::{BTreeMap, BTreeSet};

/// Checks everything; the configuration may lose a `resync-after` that names nothing.
pub(crate) fn check(config: &mut Config, errors: &mut Errors, warnings: &mut Vec<Warning>) {
    let mut checker = Checker {
        errors,
        firsts: BTreeMap::new(),
    };
    for resource in &config.resources {
        checker.hosts(resource);
        checker.volumes(resource);
        stacked(resource, &config.resources, warnings);
    }
    resync_after(config, warnings);
    for resource in &config.resources {
        secret_alone(resource, warnings);
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
    for resource in resources {
        let Some(&(_, own)) = groups.iter().find(|(name, _)| *name == resource.name) else {
            continue;
        };
        if groups.iter().all(|(_, group)| *group >= own) {
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

struct Checker<'a> {
    errors: &'a mut Errors,
    /// Kind and key of what may be used once on a host.
    firsts: BTreeMap<(&'static str, String), Place>,
}

impl Checker<'_> {
    fn once(&mut self, what: &'static str, key: String, place: &Place) {
        if let Some(first) = self.firsts.get(&(what, key.clone())) {
            let problem = Problem::Conflict {
                what: what.to_owned(),
                key,
                first: first.to_string(),
            };
            self.errors.push(Diagnostic {
                place: Some(place.clone()),
                problem,
                hint: None,
            });
        } else {
            self.firsts.insert((what, key), place.clone());
        }
    }

    /// Addresses, minors, metadata slots and disks that are used twice.
    fn hosts(&mut self, resource: &Resource) {
        for host in &resource.hosts {
            if let Some(address) = &host.address {
                // Every host has the loopback addresses for itself.
                let key = if address.ip.is_loopback() && host.kind != HostKind::Floating {
                    format!("{}:{address}", host.names[0])
                } else {
                    address.to_string()
                };
                self.once("IP", key, &address.place);
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

    fn host_devices(&mut self, host: &Host, name: &str) {
        for volume in &host.volumes {
            if let Some(device) = &volume.device {
                self.once(
                    "device-minor",
                    format!("device-minor:{name}:{}", device.minor),
                    &device.place,
                );
            }
            match &volume.meta {
                Some(MetaDisk::Indexed(path, index)) => {
                    self.once(
                        "meta-disk",
                        format!("{name}:{}[{index}]", path.display()),
                        &volume.place,
                    );
                }
                Some(MetaDisk::Flexible(path)) => {
                    self.once(
                        "meta-disk",
                        format!("{name}:{}[flexible]", path.display()),
                        &volume.place,
                    );
                }
                Some(MetaDisk::Internal) | None => {}
            }
            if let Some(Disk::Path(path)) = &volume.disk {
                self.once(
                    "disk",
                    format!("disk:{name}:{}", path.display()),
                    &volume.place,
                );
            }
        }
    }

    /// The hosts of a resource have the same volumes.
    fn volumes<'r>(&mut self, resource: &'r Resource) {
        let Some((first, others)) = resource.hosts.split_first() else {
            return;
        };
        let label = |host: &Host| format!("on {} {{ ... }}", host.names[0]);
        let by_number = |host: &'r Host| -> BTreeMap<u16, &'r Volume> {
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
    let is_host = |name: &&str| {
        resource
            .hosts
            .iter()
            .any(|h| h.kind != HostKind::Floating && h.names.iter().any(|n| n == name))
    };
    setting
        .value
        .split(' ')
        .filter(|name| !is_host(name))
        .map(|name| {
            wrong(format!(
                "\n\tbecome-primary-on contains '{name}', which is not named with the 'on' sections."
            ))
        })
        .collect()
}

/// A stacked resource that lies on none cannot run, and neither can any other stacked one yet: it is said, and nobody
/// else is kept from running.
fn stacked(resource: &Resource, all: &[Resource], warnings: &mut Vec<Warning>) {
    for host in &resource.hosts {
        if host.kind != HostKind::Stacked || all.iter().any(|r| r.name == host.names[0]) {
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

/// A secret that nobody is asked for.
fn secret_alone(resource: &Resource, warnings: &mut Vec<Warning>) {
    let all = resource.inherited();
    if let Some(secret) = all.find(Section::Net, "shared-secret")
        && all.find(Section::Net, "cram-hmac-alg").is_none()
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
    let all = resource.inherited();
    let Some(setting) = all.find(Section::Net, "after-sb-0pri") else {
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

/// Whether a `resync-after` names a resource, or a volume of one, that exists.
fn is_known(value: &str, resources: &[Resource]) -> bool {
    let (name, volume) = match value.rsplit_once('/') {
        Some((name, volume)) => (name, volume.parse::<u16>().ok()),
        None => (value, Some(0)),
    };
    let has = |r: &Resource| {
        r.hosts
            .iter()
            .any(|h| h.volumes.iter().any(|v| Some(v.number) == volume))
    };
    resources
        .iter()
        .any(|r| r.name == name && (!value.contains('/') || has(r)))
}

/// Drops each `resync-after` that names an unknown resource, with a warning.
fn resync_after(config: &mut Config, warnings: &mut Vec<Warning>) {
    let resources = config.resources.clone();
    for resource in &mut config.resources {
        let all = resource.inherited();
        let Some(setting) = all.find(Section::Disk, "resync-after") else {
            continue;
        };
        // A plain number is a minor; -1 is none.
        if setting.value.parse::<i64>().is_ok() || is_known(&setting.value, &resources) {
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
        resource.sections.remove(Section::Disk, "resync-after");
        resource.dropped_resync_after = true;
    }
}

/// What is to be said of single values of an option that has its effect otherwise.
fn value_without_effect(name: &str, value: &str) -> Option<&'static str> {
    Some(match (name, value) {
        ("after-sb-1pri" | "after-sb-2pri", "call-pri-lost-after-sb")
        | ("rr-conflict", "call-pri-lost") => {
            "calls no handler: rdb does not run handlers yet; the connection is given up"
        }
        ("rr-conflict", "retry-connect" | "auto-discard") => {
            "is a word of DRBD 9 and is read as 'disconnect': the connection is given up"
        }
        _ => return None,
    })
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
                    "everybody on this machine may read the shared secret: chmod o-r {path}"
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
            if let Some(reason) = value_without_effect(&setting.name, &setting.value) {
                if told.insert((section, format!("{} {}", setting.name, setting.value))) {
                    let text = format!(
                        "{} option '{} {}' {reason}",
                        section.as_str(),
                        setting.name,
                        setting.value
                    );
                    warnings.push(Warning {
                        kind: WarningKind::NoEffect,
                        place: Some(setting.place.clone()),
                        text,
                    });
                }
                continue;
            }
            let Served::Harmless(reason) = def.served else {
                continue;
            };
            // Who asks not to be counted gets just that.
            if def.name == "usage-count" && setting.value == "no" {
                continue;
            }
            if matches!(def.ty, Type::Bool { default } if (setting.value == "yes") == default) {
                continue;
            }
            if told.insert((section, setting.name.clone())) {
                warnings.push(Warning {
                    kind: WarningKind::NoEffect,
                    place: Some(setting.place.clone()),
                    text: format!(
                        "{} option '{}' has no effect: {reason}",
                        section.as_str(),
                        setting.name
                    ),
                });
            }
        }
    };
    tell(Section::Global, &config.global.settings);
    let resources = config.resources.iter();
    let hosts = resources.clone().flat_map(|r| &r.hosts);
    let volumes = hosts.clone().flat_map(|h| &h.volumes);
    let all = std::iter::once(config.common.as_ref())
        .chain(resources.map(|r| &r.sections))
        .chain(hosts.map(|h| &h.sections))
        .chain(volumes.map(|v| &v.sections));
    for sections in all {
        for section in Section::IN_RESOURCE {
            tell(section, sections.get(section));
        }
    }
}
