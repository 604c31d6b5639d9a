//! The replication engine: every decision of one resource, and no I/O.
//!
//! [`Resource::handle`] takes one [`Event`] at a [`Time`] and appends the [`Effect`]s that follow from it. The same
//! events at the same times give the same effects: there is no clock, socket, file, thread or random source in here.
//! The driver (`rdb-runtime`, or a simulator) promises that time never goes back, that the effects of one event are
//! started in order before the next event, and that an effect with a tag is answered by exactly one event with it.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod admin;
mod bitmap_exchange;
pub mod config;
pub mod copies;
mod disk;
mod effect;
mod event;
mod exposed;
mod fencing;
mod follow;
mod freeze;
pub mod generation;
mod handler;
mod handling;
mod ids;
mod integrity;
mod interval;
mod latency;
mod net;
mod peer_reads;
mod peer_request;
mod planted;
mod range_locks;
mod resync;
mod router;
pub mod rules;
mod snapshot;
mod span;
pub mod state;
mod status;
pub mod sync_decision;
mod traffic;
mod transfer_log;
mod trouble;
mod users;
mod verify;
mod write;

pub use disk::space::{PROBES as SPACE_PROBES, RETRY_MS as SPACE_RETRY_MS};
pub use effect::{
    AdminError, Apart, Cause, ConnEffect, DeviceSpec, DiscardKind, Effect, Level, Milestone,
    ReadFor, RequestError, SnapshotRun,
};
pub use event::{
    Command, ConnEvent, ConnTimer, DiskError, DiskInfo, Event, Hindrance, LossCause, Payload,
    Request, RequestKind, SnapshotWish, Timer,
};
pub use handler::{Handler, Handlers};
pub use ids::{AdminId, ConnId, HandlerId, IoTag, RequestId, SendTag, Time, VolumeNr};
pub use latency::{BOUNDS_US, Histogram, Latencies};
pub use planted::{Bug, PLANTED_BUGS};
pub use router::Resource;
pub use status::{
    ConnectionStatus, DiskTrouble, FrozenIo, LinkTrouble, Marks, PeerDeviceStatus, ResourceStatus,
    SnapshotStatus, SpaceWait, SyncProgress, VolumeStatus,
};

/// Largest read or write of one request, in bytes (`docs/spec/wire.md`, section 7.9).
pub const REQUEST_MAX_BYTES: u32 = 1 << 20;

/// Largest discard or write-zeroes of one request, in bytes: what every 8.4 peer takes (`docs/spec/wire.md`,
/// section 7.8). Longer ones are split by the driver.
pub const DISCARD_MAX_BYTES: u32 = 4 << 20;
