//! The configuration as written, after translation of old styles and inheritance into hosts.

use crate::error::Place;
use crate::options::{
    DiskOptions, GlobalOptions, Handlers, NetOptions, ResourceOptions, StartupOptions,
};
pub use crate::sections::{Section, Sections, Setting};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The main file's name as given.
    pub file: String,
    /// The main file's absolute path.
    pub path: String,
    /// `global {}`.
    pub global: Global,
    /// `common {}`.
    pub common: Arc<Sections>,
    /// Whether there is a `common {}` at all: an empty one is printed, too.
    pub has_common: bool,
    /// The resources, in file order.
    pub resources: Vec<Resource>,
}

/// `global {}`: `docs/spec/admin.md`, section 2.1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Global {
    /// The settings, as written.
    pub settings: Vec<Setting>,
    /// What they mean.
    pub options: GlobalOptions,
}

impl Global {
    pub(crate) fn new(settings: Vec<Setting>) -> Self {
        let sections = Sections::of(Section::Global, settings.clone());
        let options = GlobalOptions::read(&sections);
        Self { settings, options }
    }
}

/// One `resource`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Where its name stands.
    pub place: Place,
    /// Its hosts, in file order, each with all its volumes.
    pub hosts: Vec<Host>,
    /// Its own option sections, without what it inherits from `common`.
    pub sections: Sections,
    /// Whether any volume was written as a `volume {}` section (`dump` then prints volume sections).
    pub explicit_volumes: bool,
    /// Where its closing brace stands.
    pub(crate) end: Place,
    pub(crate) common: Arc<Sections>,
    /// Its `resync-after` names nothing, also where it comes from `common`.
    pub(crate) dropped_resync_after: bool,
    /// Set when the resource was written in a way rdb parses but does not serve: what, and where.
    pub(crate) unserved: Vec<(String, Place)>,
}

/// How a host section says whom it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// `on NAME ...`.
    On,
    /// `floating ADDRESS`.
    Floating,
    /// `stacked-on-top-of RESOURCE`.
    Stacked,
}

/// One host section of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its kind.
    pub kind: HostKind,
    /// `on`: the host's names; `floating`: the address as `IP:PORT`; `stacked-on-top-of`: the lower resource.
    pub names: Vec<String>,
    /// Where the section begins.
    pub place: Place,
    /// The address; only a stacked or incomplete section lacks it.
    pub address: Option<Address>,
    /// `alternate-link-address`.
    pub alternate_address: Option<Address>,
    /// Its volumes, by number.
    pub volumes: Vec<Volume>,
    /// `options {}` of the host section.
    pub sections: Sections,
    /// `proxy on`.
    pub proxy: Option<HostProxy>,
    /// `node-id` of DRBD 9. Of two hosts each knows who the other is, so it only must differ.
    pub node_id: Option<u8>,
}

/// `proxy on NAME { inside ...; outside ...; }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostProxy {
    /// The hosts the proxy runs on.
    pub names: Vec<String>,
    /// Where this host finds it.
    pub inside: Option<Address>,
    /// Where the peer's proxy finds it.
    pub outside: Option<Address>,
}

/// The family word of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// TCP over IPv4.
    Ipv4,
    /// TCP over IPv6.
    Ipv6,
    /// Sockets Direct Protocol.
    Sdp,
    /// Dolphin's super sockets (`sci` is a synonym).
    Ssocks,
}

impl Family {
    /// The keyword.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Sdp => "sdp",
            Self::Ssocks => "ssocks",
        }
    }
}

/// `address FAMILY IP:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The family.
    pub family: Family,
    /// The address.
    pub ip: IpAddr,
    /// The scope of a link-local IPv6 address, as written after `%`.
    pub scope: Option<String>,
    /// The TCP port.
    pub port: u16,
    /// Where it stands.
    pub place: Place,
}

impl std::fmt::Display for Address {
    /// As in the configuration, without the family: `10.0.0.1:7789`, `[fd00::1]:7789`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.ip, &self.scope) {
            (IpAddr::V4(ip), _) => write!(f, "{ip}:{}", self.port),
            (IpAddr::V6(ip), None) => write!(f, "[{ip}]:{}", self.port),
            (IpAddr::V6(ip), Some(scope)) => write!(f, "[{ip}%{scope}]:{}", self.port),
        }
    }
}

/// One volume of one host, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its number.
    pub number: u16,
    /// Where it begins.
    pub place: Place,
    /// Whether it is the implicit volume 0.
    pub implicit: bool,
    /// `device`.
    pub device: Option<Device>,
    /// `disk`; `None` when missing.
    pub disk: Option<Disk>,
    /// `meta-disk`.
    pub meta: Option<MetaDisk>,
    /// `disk {}` of the volume; hosts that have it from the same template share it.
    pub sections: Arc<Sections>,
}

/// `disk PATH` or DRBD 9's `disk none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    /// The backing device.
    Path(PathBuf),
    /// Intentionally diskless.
    None,
}

/// `device`: a name, a minor number, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The path, if a name was given.
    pub path: Option<PathBuf>,
    /// The minor number.
    pub minor: u32,
    /// It was written as DRBD 0.6 did, `/dev/nbN`: the device is to have that name, too.
    pub old_name: bool,
    /// Where it stands.
    pub place: Place,
}

/// Where a volume's metadata lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetaDisk {
    /// At the end of the backing device.
    Internal,
    /// On a device of its own, as much as needed.
    Flexible(PathBuf),
    /// On a device of its own, in the slot of 128 MiB with this number.
    Indexed(PathBuf, u32),
}

/// What a resource means on one host: everything the daemon needs to run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedResource {
    /// Its name.
    pub name: String,
    /// This host.
    pub me: ResolvedHost,
    /// The other host.
    pub peer: ResolvedHost,
    /// The volumes, by number.
    pub volumes: Vec<ResolvedVolume>,
    /// The connection's options.
    pub net: NetOptions,
    /// The resource's own options.
    pub options: ResourceOptions,
    /// What the start script waits for.
    pub startup: StartupOptions,
    /// The handlers.
    pub handlers: Handlers,
    /// The file and line of the resource's definition.
    pub defined_at: (String, u32),
}

/// One of the two ends of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedHost {
    /// Its name: of several, the first, for this host the one asked for.
    pub name: String,
    /// All its names.
    pub names: Vec<String>,
    /// Its address.
    pub address: SocketAddr,
}

/// One volume on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedVolume {
    /// Its number.
    pub volume: u16,
    /// It has none in the configuration: the resource is this volume.
    pub implicit: bool,
    /// Its minor number.
    pub minor: u32,
    /// The device node; `/dev/drbdN` when only the minor was given.
    pub device: PathBuf,
    /// The configuration calls it `/dev/nbN`: it is to have that name, too.
    #[serde(default)]
    pub old_name: bool,
    /// The backing device; `None` is diskless.
    pub disk: Option<PathBuf>,
    /// Where its metadata lies; `Internal` on a diskless volume.
    pub meta: MetaDisk,
    /// Its options.
    pub disk_options: DiskOptions,
}
