//! What whole-program tests and the demonstration are made of: nodes that run the real programs on
//! this machine, disks that are files, links between network namespaces, an NBD client, and a
//! writer that remembers what was acknowledged; and a hostile peer, with a watch on the node that it attacks.
//!
//! Everything made here is unmade when its value is dropped: processes, mounts, loop devices,
//! namespaces, directories.

#![forbid(unsafe_code)]

pub mod browser;
pub mod cluster;
pub mod conf;
pub mod disk;
pub mod guise;
pub mod hostile;
pub mod nbd;
pub mod net;
pub mod node;
pub mod packets;
pub mod pair;
pub mod programs;
pub mod rng;
pub mod scratch;
pub mod siege;
pub mod status;
pub mod terminal;
pub mod wait;
pub mod watch;
pub mod wire;
pub mod writer;

pub use conf::{Conf, Meta};
pub use node::{Node, Out};
pub use pair::Pair;
pub use siege::Siege;
pub use wait::wait_until;
