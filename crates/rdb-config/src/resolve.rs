//! What a resource means on one host: `docs/spec/admin.md`, section 1.10.

use crate::dump::escape as quoted;
use crate::error::{ConfigError, Diagnostic, Errors, Problem};
use crate::model::{
    Address, Config, Disk, Family, Host, HostKind, MetaDisk, ResolvedHost, ResolvedResource,
    ResolvedVolume, Resource, Section, Sections, Setting,
};
use crate::options::{self, DiskOptions, Handlers, NetOptions, ResourceOptions, StartupOptions};
use crate::typed::AfterSb0p;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most bytes of a resource's name.
const NAME_MAX: usize = 127;

/// Why a resource of this name cannot run, although DRBD's tools read it; nothing if it can. A name is a part of paths, and a word of
/// command lines, of scripts' output and of `RES/VOLUME`.
#[must_use]
pub fn resource_name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > NAME_MAX {
        Some("it is longer than 127 bytes")
    } else if name == "all" {
        Some("'all' stands for every resource")
    } else if name.starts_with(['.', '-']) {
        Some("a name begins with neither '.' nor '-'")
    } else if name.contains(|c: char| c == '/' || c.is_control() || c.is_whitespace()) {
        Some("a name has no '/', blanks and control characters")
    } else {
        None
    }
}

impl Config {
    /// The resource of this name.
    ///
    /// # Errors
    /// DRBD's message when there is none.
    pub fn resource(&self, name: &str) -> Result<&Resource, ConfigError> {
        self.resources
            .iter()
            .find(|r| r.name == name)
            .ok_or_else(|| {
                ConfigError::one(
                    None,
                    Problem::NoSuchResource {
                        name: name.to_owned(),
                    },
                )
            })
    }

    /// The resources that have a host section for this host, in file order: what `all` means.
    pub fn resources_of<'a>(&'a self, node_name: &'a str) -> impl Iterator<Item = &'a Resource> {
        self.resources
            .iter()
            .filter(move |r| !r.is_ignored(node_name) && !r.is_stacked())
    }

    /// The resource and volume number of a minor on this host.
    #[must_use]
    pub fn by_minor(&self, node_name: &str, minor: u32) -> Option<(&Resource, u16)> {
        self.resources.iter().find_map(|resource| {
            let host = resource.local_host(node_name)?;
            let volume = host
                .volumes
                .iter()
                .find(|v| v.device.as_ref().is_some_and(|d| d.minor == minor))?;
            Some((resource, volume.number))
        })
    }
}

impl Resource {
    /// Its sections with what they inherit from `common`.
    #[must_use]
    pub fn inherited(&self) -> Sections {
        let mut sections = self.sections.clone();
        sections.inherit(&self.common);
        if self.dropped_resync_after {
            sections.remove(Section::Disk, "resync-after");
        }
        sections
    }

    /// The effective setting of an option, its own or that of `common`.
    pub(crate) fn find_inherited(&self, section: Section, name: &str) -> Option<&Setting> {
        let own = self.sections.find(section, name);
        own.or_else(|| self.common.find(section, name))
    }

    /// Whether it has no section for this host.
    #[must_use]
    pub fn is_ignored(&self, node_name: &str) -> bool {
        self.local_host(node_name).is_none()
    }

    /// Whether it lies on top of another resource.
    #[must_use]
    pub fn is_stacked(&self) -> bool {
        self.hosts.iter().any(|h| h.kind == HostKind::Stacked)
    }

    /// The section for this host: one that names it, or the first `floating` one whose address this machine has.
    #[must_use]
    pub fn local_host(&self, node_name: &str) -> Option<&Host> {
        let named =
            |h: &&Host| h.kind != HostKind::Stacked && h.names.iter().any(|n| n == node_name);
        let floats =
            |h: &&Host| h.kind == HostKind::Floating && h.address.as_ref().is_some_and(is_local);
        self.hosts
            .iter()
            .find(named)
            .or_else(|| self.hosts.iter().find(floats))
    }

    /// What it means on the host of this name.
    ///
    /// # Errors
    /// When the host or its peer has no section, when there are several possible peers, or when the resource sets
    /// something that rdb does not serve; each such setting is named.
    pub fn for_host(&self, node_name: &str) -> Result<ResolvedResource, ConfigError> {
        self.for_host_with_peer(node_name, None)
    }

    /// The same, with the peer to use where there are several.
    ///
    /// # Errors
    /// As [`Resource::for_host`].
    pub fn for_host_with_peer(
        &self,
        node_name: &str,
        peer: Option<&str>,
    ) -> Result<ResolvedResource, ConfigError> {
        self.resolve(node_name, peer, true)
    }

    /// The same for commands that ask, or take down: what rdb does not serve is no hindrance, and neither is a peer that
    /// cannot be told; its name is empty then and its address 0.0.0.0:0.
    ///
    /// # Errors
    /// When the host has no section, or a volume no device.
    pub fn described_for(
        &self,
        node_name: &str,
        peer: Option<&str>,
    ) -> Result<ResolvedResource, ConfigError> {
        self.resolve(node_name, peer, false)
    }

    /// `to_run`: whether it must be possible to run it.
    fn resolve(
        &self,
        node_name: &str,
        peer: Option<&str>,
        to_run: bool,
    ) -> Result<ResolvedResource, ConfigError> {
        let Some(me) = self.local_host(node_name) else {
            let names: Vec<String> = self
                .hosts
                .iter()
                .flat_map(|h| &h.names)
                .map(|name| format!("'{name}'"))
                .collect();
            let hosts = if names.is_empty() {
                "no host".to_owned()
            } else {
                names.join(", ")
            };
            let problem = Problem::NoSuchHost {
                resource: self.name.clone(),
                node: node_name.to_owned(),
                hosts,
            };
            return Err(ConfigError::one(Some(self.place.clone()), problem));
        };
        if to_run {
            let mut refusals = Errors::default();
            refusals.extend(crate::check::primaries(self));
            refusals.extend(self.refusals(me));
            refusals.result()?;
        }
        let address_of = |host: &Host| match self.socket_address(host) {
            Err(_) if !to_run => Ok(NO_ADDRESS),
            address => address,
        };
        let other = match self.peer_of(me, peer) {
            Ok(other) => ResolvedHost {
                name: other.names[0].clone(),
                names: other.names.clone(),
                address: address_of(other)?,
            },
            Err(_) if !to_run => ResolvedHost {
                name: String::new(),
                names: Vec::new(),
                address: NO_ADDRESS,
            },
            Err(error) => return Err(error),
        };
        let sections = self.inherited();
        let mut options = me.sections.clone();
        options.inherit_section(Section::Options, sections.get(Section::Options));
        let my_name = if me.names.iter().any(|n| n == node_name) {
            node_name
        } else {
            &me.names[0]
        };
        Ok(ResolvedResource {
            name: self.name.clone(),
            me: ResolvedHost {
                name: my_name.to_owned(),
                names: me.names.clone(),
                address: address_of(me)?,
            },
            peer: other,
            volumes: self.volumes(me, &sections)?,
            net: net_options(&sections, me),
            options: ResourceOptions::read(&options),
            startup: StartupOptions::read(&sections),
            handlers: Handlers::read(&sections),
            defined_at: (self.place.file.path.clone(), self.place.line),
        })
    }

    /// DRBD's message when this machine does not have the address that the resource gives this host.
    #[must_use]
    pub fn address_not_here(&self, node_name: &str) -> Option<ConfigError> {
        let me = self.local_host(node_name)?;
        let address = me.address.as_ref()?;
        if is_local(address) {
            return None;
        }
        let problem = Problem::Resource {
            resource: quoted(&self.name),
            of: format!("on {}", me.names[0]),
            text: format!("\n\tIP {} not found on this host.", address.ip),
        };
        let hint = "the address must be that of an interface of this host; 'disable-ip-verification' in global {} \
                    switches this check off";
        Some(ConfigError {
            diagnostics: vec![Diagnostic {
                place: Some(me.place.clone()),
                problem,
                hint: Some(hint.to_owned()),
            }],
            more: 0,
        })
    }

    /// Each setting and statement, effective on this host, that rdb does not serve.
    #[must_use]
    pub fn refusals(&self, host: &Host) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        let mut refuse = |what: String, reason: &str, place| {
            let problem = Problem::NotServed {
                resource: quoted(&self.name),
                what,
                reason: reason.to_owned(),
            };
            found.push(Diagnostic {
                place: Some(place),
                problem,
                hint: None,
            });
        };
        if let Some(reason) = resource_name_fault(&self.name) {
            refuse("its name".to_owned(), reason, self.place.clone());
        }
        for (what, place) in &self.unserved {
            refuse(what.clone(), "", place.clone());
        }
        for address in self.hosts.iter().filter_map(|h| h.address.as_ref()) {
            if matches!(address.family, Family::Sdp | Family::Ssocks) {
                refuse(
                    format!("address family '{}'", address.family.as_str()),
                    "",
                    address.place.clone(),
                );
            }
        }
        let mut seen = BTreeSet::new();
        let mut look = |section: Section, settings: &[Setting]| {
            for setting in effective(settings) {
                let def = options::find(section, &setting.name);
                let Some(refused) = def.and_then(|def| def.refused(&setting.value)) else {
                    continue;
                };
                // The same line of the resource holds for each of its volumes.
                let place = &setting.place;
                let at = (Arc::as_ptr(&place.file), place.line, place.column);
                if !seen.insert((at, setting.name.clone(), setting.value.clone())) {
                    continue;
                }
                let what = format!("{} option '{}'", section.as_str(), refused.what);
                refuse(what, refused.reason, setting.place.clone());
            }
        };
        let inherited = self.inherited();
        for section in [Section::Options, Section::Net, Section::Startup] {
            look(section, inherited.get(section));
        }
        look(Section::Options, host.sections.get(Section::Options));
        if host.volumes.is_empty() {
            look(Section::Disk, inherited.get(Section::Disk));
        }
        let mut last = None;
        for volume in &host.volumes {
            // Volumes of one template follow each other.
            if last.is_some_and(|last| Arc::ptr_eq(last, &volume.sections)) {
                continue;
            }
            last = Some(&volume.sections);
            let mut sections = Sections::clone(&volume.sections);
            sections.inherit_section(Section::Disk, inherited.get(Section::Disk));
            look(Section::Disk, sections.get(Section::Disk));
        }
        found
    }

    fn peer_of(&self, me: &Host, wanted: Option<&str>) -> Result<&Host, ConfigError> {
        let fail = |text: &str| {
            let problem = Problem::Resource {
                resource: quoted(&self.name),
                of: String::new(),
                text: text.to_owned(),
            };
            Err(ConfigError::one(Some(self.place.clone()), problem))
        };
        let mut others = self.hosts.iter().filter(|h| !std::ptr::eq(*h, me));
        // A cluster manager may call it otherwise; which is meant is clear where there is only one.
        if let Some(wanted) = wanted.filter(|_| others.clone().count() > 1) {
            return match others.find(|h| h.names.iter().any(|n| n == wanted)) {
                Some(host) => Ok(host),
                None => fail(&format!(
                    "\n\tThere is no host section for the peer '{wanted}'."
                )),
            };
        }
        match (others.next(), others.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => fail("\n\tMissing section 'on <PEER> { ... }'."),
            (Some(_), Some(_)) => fail(
                "\n\tThere are multiple host sections for the peer node.\n\t\
                 Use the --peer option to select which peer section to use.",
            ),
        }
    }

    fn socket_address(&self, host: &Host) -> Result<SocketAddr, ConfigError> {
        let fail = |place, text: String| {
            let of = format!("on {}", host.names[0]);
            let problem = Problem::Resource {
                resource: quoted(&self.name),
                of,
                text,
            };
            ConfigError::one(Some(place), problem)
        };
        // The parser reports a host without an address where none can stand elsewhere.
        let Some(address) = &host.address else {
            let problem = Problem::Missing {
                resource: quoted(&self.name),
                section: format!("on {}", host.names[0]),
                keyword: "address",
            };
            return Err(ConfigError::one(Some(host.place.clone()), problem));
        };
        match address.ip {
            IpAddr::V4(_) => Ok(SocketAddr::new(address.ip, address.port)),
            IpAddr::V6(ip) => {
                let scope = scope_id(address).ok_or_else(|| {
                    let scope = address.scope.as_deref().unwrap_or_default();
                    fail(
                        address.place.clone(),
                        format!("\n\tthere is no network interface '{scope}'."),
                    )
                })?;
                Ok(SocketAddrV6::new(ip, address.port, 0, scope).into())
            }
        }
    }

    fn volumes(&self, me: &Host, sections: &Sections) -> Result<Vec<ResolvedVolume>, ConfigError> {
        me.volumes
            .iter()
            .map(|volume| {
                let Some(device) = &volume.device else {
                    let problem = Problem::Missing {
                        resource: quoted(&self.name),
                        section: format!("on {}", me.names[0]),
                        keyword: "device",
                    };
                    return Err(ConfigError::one(Some(volume.place.clone()), problem));
                };
                let mut own = Sections::clone(&volume.sections);
                own.inherit_section(Section::Disk, sections.get(Section::Disk));
                let disk = match &volume.disk {
                    Some(Disk::Path(path)) => Some(path.clone()),
                    Some(Disk::None) | None => None,
                };
                Ok(ResolvedVolume {
                    volume: volume.number,
                    implicit: volume.implicit,
                    minor: device.minor,
                    device: device
                        .path
                        .clone()
                        .unwrap_or_else(|| PathBuf::from(format!("/dev/drbd{}", device.minor))),
                    old_name: device.old_name,
                    disk,
                    meta: volume.meta.clone().unwrap_or(MetaDisk::Internal),
                    disk_options: DiskOptions::read(&own),
                })
            })
            .collect()
    }
}

/// Stands for an address that is not known.
const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// Whether this machine has the address: only then can a socket be bound to it.
fn is_local(address: &Address) -> bool {
    let socket = match address.ip {
        IpAddr::V4(_) => SocketAddr::new(address.ip, 0),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, 0, 0, scope_id(address).unwrap_or(0)).into(),
    };
    UdpSocket::bind(socket).is_ok()
}

/// The number of a link-local address's interface; 0 where none is named.
fn scope_id(address: &Address) -> Option<u32> {
    let Some(scope) = &address.scope else {
        return Some(0);
    };
    if let Ok(number) = scope.parse() {
        return Some(number);
    }
    let file = Path::new("/sys/class/net").join(scope).join("ifindex");
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The last setting of each option.
fn effective(settings: &[Setting]) -> Vec<Setting> {
    let is_last =
        |(i, s): &(usize, &Setting)| settings[i + 1..].iter().all(|later| later.name != s.name);
    settings
        .iter()
        .enumerate()
        .filter(is_last)
        .map(|(_, s)| s.clone())
        .collect()
}

/// The net options for one host.
fn net_options(sections: &Sections, me: &Host) -> NetOptions {
    let mut net = NetOptions::read(sections);
    // A victim by name is this host or the other.
    let policy = sections.find(Section::Net, "after-sb-0pri");
    if let Some(victim) = policy.and_then(|s| s.value.strip_prefix("discard-node-")) {
        net.after_sb_0pri = match me.names.iter().any(|name| name == victim) {
            true => AfterSb0p::DiscardLocal,
            false => AfterSb0p::DiscardRemote,
        };
    }
    net
}
