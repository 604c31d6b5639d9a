//! How a block device reaches its user: NBD server, ublk, the kernel's NBD client, FUSE and loop.
//!
//! This crate knows no engine type. A front end turns what a client sent into [`Request`]s and what the
//! device answered into bytes for the client; the data plane sits between the two and owns every file
//! descriptor.
//!
//! - [`nbd`] and [`fuse`] are sans-IO state machines: bytes in, steps out. The hot path allocates nothing.
//! - [`fuse::mount`], [`loopdev`], [`links`] and [`status_file`] do blocking set-up work. Most of it makes
//!   the kernel read from our own FUSE file before it returns, so it is **never** called on the thread that
//!   answers that file: that thread would wait for itself.
//! - [`Frontend`] says which front end serves a device.
//!
//! What users see of it is in `docs/frontends.md`.

mod choice;
mod device;
pub mod fuse;
mod holders;
pub mod knbd;
pub mod links;
pub mod loopdev;
mod modules;
pub mod nbd;
mod owner;
mod partitions;
pub mod status_file;
mod sys;
pub mod ublk;

pub use choice::{Frontend, FrontendError, crashes_with_ublk};
pub use device::{DeviceInfo, Errno, Op, RangeError, Request};
pub use holders::{Holder, of_device as holders_of};
