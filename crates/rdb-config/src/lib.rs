//! The drbd.conf language: parse, check, translate old styles, resolve for one host, print.
//!
//! The language and its messages: `docs/spec/admin.md`, sections 1 and 2. Nothing here touches a device, the network
//! or the terminal: files in, values, messages and warnings out.
#![forbid(unsafe_code)]

mod error;
mod model;
mod typed;

pub use error::{ConfigError, Diagnostic, Place, Problem, SourceFile, Warning};
pub use model::{
    Address, Config, Device, Disk, Family, Global, Host, HostKind, HostProxy, MetaDisk,
    ResolvedHost, ResolvedResource, ResolvedVolume, Resource, Section, Sections, Setting, Volume,
};
pub use typed::{
    AfterSb0p, AfterSb1p, AfterSb2p, DiskOptions, Fencing, NetOptions, OnCongestion, OnIoError,
    OnNoDataAccessible, Protocol, ResourceOptions, RrConflict, StartupOptions,
};

/// A configuration that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What to tell the user about it.
    pub warnings: Vec<Warning>,
}
