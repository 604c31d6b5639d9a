//! A deterministic world for the replication engine.
//!
//! The real engine, the real codec and the real metadata code run in one process, on a virtual clock, network and
//! disks, from one seed; a failing seed replays bit for bit.

#![forbid(unsafe_code)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "numbers here are small and chosen by us"
)]

mod administrator;
mod arbiter;
pub mod ci;
mod commands;
mod coverage;
pub mod crash;
pub mod crash_points;
pub mod directed;
pub mod disk;
mod draw;
mod durable;
mod faults;
mod fence_judge;
pub mod fencing;
pub mod full;
mod handlers;
mod hostile;
mod io;
mod job;
mod judge;
mod link;
pub mod mutation;
mod net;
mod node;
mod oracle;
pub mod patience;
pub mod plan;
mod rng;
mod run;
pub mod scenario;
mod seeds;
pub mod settings;
mod shrink;
pub mod snapshots;
mod trace;
pub mod verify;
pub mod watch;
mod workload;
mod world;

pub use arbiter::Course;
pub use coverage::Coverage;
pub use hostile::{Attack, Reading, fuzz_engine};
pub use job::{Ask, Job};
pub use net::{Content, Frame, Link, Stream};
pub use node::{Asked, Data, Node, Op, Pending, create_md, disk_info, fresh_disk, layout_of};
pub use oracle::Model;
pub use plan::Plan;
pub use rng::Rng;
pub use run::{Failure, Outcome};
pub use shrink::shrink;
pub use trace::side_by_side;
pub use world::{DISK_SECTORS, Line, Timing, V, World};
