//! Checks that need the whole configuration: `docs/spec/admin.md`, section 1.11.

use crate::dump::escape as quoted;
use crate::error::{Diagnostic, Place, Problem, Warning, WarningKind};
use crate::model::{Config, Disk, Host, HostKind, MetaDisk, Resource, Section, Sections, Setting};
use crate::options::{self, Served, Type};
use std::collections::{BTreeMap, BTreeSet};

/// Checks everything; the configuration may lose a `resync-after` that names nothing.
pub(crate) fn check(
    config: &mut Config,
    errors: &mut Vec<Diagnostic>,
    warnings: &mut Vec<Warning>,
) {
    let mut checker = Checker {
        errors,
        firsts: BTreeMap::new(),
    };
    for resource in &config.resources {
        checker.hosts(resource);
        checker.volumes(resource);
        checker.primaries(resource);
        checker.stacked(resource, &config.resources);
    }
    resync_after(config, warnings);
    for resource in &config.resources {
        start_rate(resource, warnings);
    }
    without_effect(config, warnings);
}

/// 0.7's resync groups: the resources of a group wait for one of the group before.
pub(crate) fn chain_groups(
    resources: &mut [Resource],
    groups: &[(String, i64)],
    warnings: &mut Vec<Warning>,
) {
    for resource in resources {
        let Some(&(_, own)) = groups.iter().find(|(name, _)| *name == resource.name) else {
            continue;
        };
        let before = groups
            .iter()
            .filter(|(_, group)| *group < own)
            .max_by_key(|(_, group)| *group);
        let Some((before, _)) = before else { continue };
        let place = resource.place.clone();
        warnings.push(Warning {
            kind: WarningKind::Deprecated,
            place: Some(place.clone()),
            text: format!(
                "in resource {}: 'group {own}' is read as 'resync-after {before}'",
                quoted(&resource.name)
            ),
        });
        let setting = Setting {
            name: "resync-after".to_owned(),
            value: before.clone(),
            place,
        };
        resource.sections.push(Section::Disk, setting);
    }
}

struct Checker<'a> {
    errors: &'a mut Vec<Diagnostic>,
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

    fn wrong(&mut self, place: &Place, resource: &Resource, of: String, text: String) {
        let problem = Problem::Resource {
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

    /// Addresses, minors, metadata slots and disks that are used twice.
    fn hosts(&mut self, resource: &Resource) {
        for host in &resource.hosts {
            if let Some(address) = &host.address {
                // Every host has the loopback addresses for itself.
                let key = if address.ip.is_loopback() && host.kind == HostKind::On {
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
    fn volumes(&mut self, resource: &Resource) {
        let Some((first, others)) = resource.hosts.split_first() else {
            return;
        };
        let label = |host: &Host| format!("on {} {{ ... }}", host.names[0]);
        for other in others {
            for volume in &first.volumes {
                match other.volumes.iter().find(|v| v.number == volume.number) {
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
                if first.volumes.iter().all(|v| v.number != volume.number) {
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

    /// `become-primary-on` names hosts of the resource.
    fn primaries(&mut self, resource: &Resource) {
        let all = resource.inherited();
        let Some(setting) = all.find(Section::Startup, "become-primary-on") else {
            return;
        };
        if setting.value == "both" {
            if !is_yes(&all, Section::Net, "allow-two-primaries") {
                let text =
                    "\nbecome-primary-on is set to both, but allow-two-primaries is not set.";
                self.wrong(&resource.place, resource, String::new(), text.to_owned());
            }
            return;
        }
        // In common it may name hosts of other resources only; DRBD checks what a resource says itself.
        if resource
            .sections
            .find(Section::Startup, "become-primary-on")
            .is_none()
        {
            return;
        }
        for name in setting.value.split(' ') {
            if !resource
                .hosts
                .iter()
                .any(|h| h.kind != HostKind::Floating && h.names.iter().any(|n| n == name))
            {
                let text = format!(
                    "\n\tbecome-primary-on contains '{name}', which is not named with the 'on' sections."
                );
                self.wrong(&resource.place, resource, String::new(), text);
            }
        }
    }

    fn stacked(&mut self, resource: &Resource, all: &[Resource]) {
        for host in resource
            .hosts
            .iter()
            .filter(|h| h.kind == HostKind::Stacked)
        {
            if all.iter().all(|r| r.name != host.names[0]) {
                let problem = Problem::NoLowerResource {
                    resource: quoted(&resource.name),
                    lower: host.names[0].clone(),
                };
                self.errors.push(Diagnostic {
                    place: Some(resource.place.clone()),
                    problem,
                    hint: None,
                });
            }
        }
    }
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

/// Says that `resync-rate` is only a start value: `docs/spec/admin.md`, section 2.10.
fn start_rate(resource: &Resource, warnings: &mut Vec<Warning>) {
    let all = resource.inherited();
    let Some(rate) = all.find(Section::Disk, "resync-rate") else {
        return;
    };
    if all
        .find(Section::Disk, "c-plan-ahead")
        .is_some_and(|s| s.value == "0")
    {
        return;
    }
    warnings.push(Warning {
        kind: WarningKind::Advice,
        place: Some(rate.place.clone()),
        text: format!(
            "in resource {}: resync-rate {} is only where the resync controller starts; for a fixed rate set \
             c-plan-ahead 0",
            quoted(&resource.name),
            rate.value
        ),
    });
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
