//! What happens to resources, as it happens: the stream that the operation `events` begins.
//!
//! After the answer to the request each line is one [`Told`]: first an [`Event::Resource`] for each resource, then
//! [`Event::Complete`], then one for each thing that happens, in its order. The same request given again on the same connection has
//! everything told anew, behind what has happened before. Requests of other kinds end the stream.
//!
//! A reader that does not keep up holds nobody up: beyond a bound what waits for it is dropped, it is told how much that was, and
//! everything is told anew.

use serde::{Deserialize, Serialize};

use crate::report::{Pause, ResourceReport, Suspension, VolumeReport, word};
use replica_proto::state::{ConnState, DiskState, Role};

/// A line of the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// When it happened, in microseconds since 1970.
    pub at_us: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// How a resource is; counts instead of all that was told of it.
    Resource {
        /// It.
        resource: Box<ResourceReport>,
    },
    /// Each resource has been told of; one that has not does not exist any more.
    Complete,
    /// So many events were dropped; what there is follows, up to [`Event::Complete`].
    Skipped {
        /// How many.
        count: u64,
    },
    /// A resource was made.
    Created {
        /// Its name.
        resource: String,
    },
    /// It was removed, with all its volumes.
    Removed {
        /// Its name.
        resource: String,
    },
    /// A volume was made.
    VolumeCreated {
        /// Its resource.
        resource: String,
        /// Its number.
        volume: u16,
        /// Its minor number.
        minor: u32,
    },
    /// A volume was removed.
    VolumeRemoved {
        /// Its resource.
        resource: String,
        /// Its number.
        volume: u16,
    },
    /// The state of a volume has changed.
    Changed {
        /// Its resource.
        resource: String,
        /// Its number.
        volume: u16,
        /// The state now.
        new: VolumeStates,
        /// How the resource is by now: for its figures. Its states may be later ones. Only for who has asked for figures.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        figures: Option<Box<ResourceReport>>,
    },
    /// A handler is called.
    HandlerCalled(HandlerOf),
    /// A handler has ended.
    HandlerEnded {
        /// Which.
        #[serde(flatten)]
        of: HandlerOf,
        /// Its exit code.
        exit: u8,
    },
}

/// A handler of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerOf {
    /// The resource.
    pub resource: String,
    /// The volume that it is called for; `None` for the resource.
    pub volume: Option<u16>,
    /// Its name.
    pub handler: String,
}

/// The states of a volume, in DRBD's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStates {
    /// Own role.
    #[serde(with = "word")]
    pub role: Role,
    /// The peer's role.
    #[serde(with = "word")]
    pub peer_role: Role,
    /// Its connection state.
    #[serde(with = "word")]
    pub cstate: ConnState,
    /// Own disk.
    #[serde(with = "word")]
    pub disk: DiskState,
    /// The peer's disk.
    #[serde(with = "word")]
    pub peer_disk: DiskState,
    /// I/O is suspended by the administrator, for want of data, until the peer is fenced.
    pub suspended: [bool; 3],
    /// The resync is paused by the administrator, by the peer, by a dependency.
    pub resync_suspended: [bool; 3],
}

impl VolumeStates {
    /// Those of a report; `None` of a resource that does not run.
    pub fn of(report: &VolumeReport) -> Option<VolumeStates> {
        let io = |reason| report.suspended.contains(&reason);
        let resync = |reason| report.resync_suspended.contains(&reason);
        Some(VolumeStates {
            role: report.role,
            peer_role: report.peer_role,
            cstate: report.cstate?,
            disk: report.disk,
            peer_disk: report.peer_disk,
            suspended: Suspension::ALL.map(io),
            resync_suspended: Pause::ALL.map(resync),
        })
    }

    /// Puts these states into a report.
    pub fn put_into(&self, report: &mut VolumeReport) {
        report.role = self.role;
        report.peer_role = self.peer_role;
        report.cstate = Some(self.cstate);
        report.disk = self.disk;
        report.peer_disk = self.peer_disk;
        report.set_flags(self.suspended, self.resync_suspended);
    }
}

impl Event {
    /// The resource that it is about; `None`: about none in particular.
    pub fn resource(&self) -> Option<&str> {
        match self {
            Event::Resource { resource } => Some(&resource.name),
            Event::Complete | Event::Skipped { .. } => None,
            Event::Created { resource }
            | Event::Removed { resource }
            | Event::VolumeCreated { resource, .. }
            | Event::VolumeRemoved { resource, .. }
            | Event::Changed { resource, .. } => Some(resource),
            Event::HandlerCalled(of) | Event::HandlerEnded { of, .. } => Some(&of.resource),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_stream_is_flat_and_read_back() {
        let told = Told {
            at_us: 7,
            event: Event::HandlerEnded {
                of: HandlerOf {
                    resource: "r0".to_owned(),
                    volume: Some(1),
                    handler: "fence-peer".to_owned(),
                },
                exit: 4,
            },
        };
        let line = serde_json::to_string(&told).unwrap();
        assert_eq!(
            line,
            "{\"at_us\":7,\"event\":\"handler-ended\",\"resource\":\"r0\",\"volume\":1,\"handler\":\"fence-peer\",\"exit\":4}"
        );
        assert_eq!(serde_json::from_str::<Told>(&line).unwrap(), told);
    }
}
