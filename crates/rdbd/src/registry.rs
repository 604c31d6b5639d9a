//! What runs: the resources with their threads, and how they were configured.
//!
//! The control plane, the threads of the resources (for the log) and the one of the status file look in here. The lock
//! is held for look-ups only, never while something is waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdb_control::{ConnectionShown, DiskShown, HandlersShown, Refusal, ResourceOptions, code};
use rdb_runtime::ResourceHandle;

use crate::runs::RunsOfHandlers;

/// Everything that runs.
#[derive(Default)]
pub(crate) struct Registry {
    resources: Vec<Entry>,
}

/// The registry, shared.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Registry>>);

impl Shared {
    /// Looks in.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Registry> {
        // A thread that panicked while it looked has changed nothing by halves.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A resource.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) options: ResourceOptions,
    pub(crate) handlers: HandlersShown,
    /// How each handler was run.
    pub(crate) runs: RunsOfHandlers,
    pub(crate) handle: ResourceHandle,
    pub(crate) volumes: BTreeMap<u16, Volume>,
    /// As last configured; counts only while the connection is not StandAlone.
    pub(crate) connection: Option<ConnectionShown>,
    /// Why its thread has ended on its own, if it has.
    pub(crate) failure: Option<String>,
    /// It is being taken down: its thread ends, or has ended, because somebody wants that.
    pub(crate) is_going: bool,
    /// `down` is about it, and may still be refused: its states say nothing of what will be.
    pub(crate) is_on_its_way_down: bool,
    /// Volumes that have lost and are to give their role up ([`crate::pri_lost`]). Put in when their handler is asked for, taken out
    /// when they have done so, or by a command of the administrator's, who decides then. Without it he would be overruled.
    pub(crate) losing: BTreeSet<u16>,
    /// Held by the command that changes the resource: they come one after the other.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

/// A volume.
#[derive(Debug, Clone, Default)]
pub(crate) struct Volume {
    pub(crate) minor: u32,
    /// It has no number in the configuration.
    pub(crate) implicit: bool,
    /// The configuration calls its device `/dev/nbN`.
    pub(crate) old_name: bool,
    /// As last configured; counts only while a disk is attached.
    pub(crate) disk: Option<DiskShown>,
    /// Its disk hangs, and is attached when it answers.
    pub(crate) awaits_disk: bool,
    /// The device can be used.
    pub(crate) is_up: bool,
    /// Its device is being given back, and nobody can use it any more. Set when that begins, cleared when it is over: `secondary` has
    /// ended then.
    pub(crate) is_going: bool,
    /// Its node, if it has one.
    pub(crate) node: Option<PathBuf>,
    /// Why it has no device that its front end should have made.
    pub(crate) no_device: Option<String>,
}

impl Registry {
    /// All of them.
    pub(crate) fn resources(&self) -> &[Entry] {
        &self.resources
    }

    /// The resource of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.resources.iter().find(|entry| entry.name == name)
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.resources.iter_mut().find(|entry| entry.name == name)
    }

    /// Adds a resource whose name is free.
    pub(crate) fn add(&mut self, entry: Entry) {
        self.resources.push(entry);
    }

    /// Forgets a resource.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Entry> {
        let at = self.resources.iter().position(|entry| entry.name == name)?;
        Some(self.resources.remove(at))
    }

    /// The resource and volume of a minor.
    pub(crate) fn by_minor(&self, minor: u32) -> Option<(&Entry, u16)> {
        self.resources.iter().find_map(|entry| {
            let found = entry
                .volumes
                .iter()
                .find(|(_, volume)| volume.minor == minor);
            found.map(|(number, _)| (entry, *number))
        })
    }

    /// Whether a minor may become this volume of this resource: `Ok(true)` if it is that already.
    ///
    /// # Errors
    /// 158, 161 or 162, as DRBD has them.
    pub(crate) fn check_new_minor(
        &self,
        resource: &str,
        volume: u16,
        minor: u32,
    ) -> Result<bool, Refusal> {
        let entry = self
            .get(resource)
            .ok_or_else(|| Refusal::failure(code::RES_NOT_KNOWN, "unknown resource"))?;
        if minor > MINOR_MAX {
            return Err(Refusal::failure(
                code::INVALID_REQUEST,
                "requested minor out of range",
            ));
        }
        if volume > VOLUME_MAX {
            return Err(Refusal::failure(
                code::INVALID_REQUEST,
                "requested volume id out of range",
            ));
        }
        if let Some((other, number)) = self.by_minor(minor) {
            return match (other.name == resource, number == volume) {
                (true, true) => Ok(true),
                (true, false) => Err(Refusal::failure(
                    code::INVALID_REQUEST,
                    "minor exists as different volume",
                )),
                (false, _) => Err(Refusal::failure(
                    code::INVALID_REQUEST,
                    "minor exists in different resource",
                )),
            };
        }
        match entry.volumes.contains_key(&volume) {
            true => Err(Refusal::failure(code::MINOR_OR_VOLUME_EXISTS, "")),
            false => Ok(false),
        }
    }
}

/// Greatest minor number: the kernel's device numbers have 20 bits for it.
pub(crate) const MINOR_MAX: u32 = (1 << 20) - 1;
/// Greatest volume number (`docs/spec/wire.md`, section 16).
pub(crate) const VOLUME_MAX: u16 = 65_534;
