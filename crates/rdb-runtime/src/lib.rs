//! The data plane: one thread a resource, one io_uring, no locks.
//!
//! The thread drives the sans-IO engine ([`rdb_engine::Resource`]): completions, packets, requests of front ends,
//! timers and commands become events; the effects of a turn are handed to the kernel with one system call.
//!
//! ```text
//!         ┌─ messages (eventfd) ◄── ResourceHandle
//!  ring ──► event_loop ──► parts ◄──► engine
//!         └─ timers        └──► Disks, Net, FrontEnds ──► ring
//! ```
//!
//! - A part (`disk`, `net`, `frontend`) owns its state, is lent `Io`, and returns what others have to do. `parts` raises
//!   events, starts effects, and is the only way from one part to another or to the engine.
//! - [`spawn`] starts a thread; the [`ResourceHandle`] commands it; [`Notice`]s come back.
//! - Memory for data is taken at start ([`Pool`](pool::Pool)); when a reserve is empty, what would need it is not
//!   read, until something comes back. The meta socket of the peer is always read, for it needs none.
//! - What the kernel works on is owned by the operation in flight (`ring`), not by what started it.
//!
//! Decisions about replication are the engine's. This crate decides how two sockets become a pair
//! (`docs/spec/wire.md`, section 1.3), how I/O smaller than a disk's block is done, and who may read how much.

mod api;
mod buffers;
mod challenges;
mod commands;
mod disk;
mod engine;
mod event_loop;
mod frontend;
mod handle;
mod helpers;
mod ids;
mod io;
mod log_limit;
mod mailbox;
mod net;
mod op;
mod parts;
pub mod pool;
mod probe;
mod process;
mod ring;
mod stream;
#[cfg(test)]
mod tests;
mod timers;
mod wipe;

pub use api::{
    AttachRequest, ConnectRequest, DeviceUse, MARKS_WORDS, MarksReply, MetaLocation, Notice, Reply,
    ResourceConfig, SpawnError, StatusReply, Ticket, UseReply,
};
pub use challenges::Challenges;
pub use disk::left::is_left;
pub use handle::{ResourceHandle, spawn};
pub use helpers::{no_thread, on_thread};
pub use probe::check;
pub use process::{CoreDumps, harden_process, open_files_limit};
pub use wipe::WipingAllocator;
