//! The ublk front end: a block device of the kernel whose requests this process serves.
//!
//! ```text
//!  /dev/ublkbN ──► ublk_drv ──► a command of each tag ends (FETCH_REQ)       ──► Request
//!                               data of writes: read from /dev/ublkcN
//!                               data of reads: written to /dev/ublkcN
//!                  ublk_drv ◄── COMMIT_AND_FETCH_REQ with the result         ◄── completion
//! ```
//!
//! - [`available`] finds out whether the machine can, loading the module if it has to.
//! - [`Preparing`] makes a device, or takes one over that a dead server left ([`Took::Over`]): the device stays while
//!   nobody serves it, its requests wait, and those that the dead server had are issued again.
//! - [`Channel`] is what the data plane has of it: entries for its ring, and requests and data by tag.
//! - [`UblkDevice`] is the device that is there.
//!
//! Everything but [`Channel`] blocks and must not run on the thread that serves the channel: the kernel reads from a new
//! device before it says that it is there.
//!
//! Data is copied by reading and writing the character device (`UBLK_F_USER_COPY`, Linux 6.5), so that no buffer is tied
//! to a tag. Facts are from Linux's `include/uapi/linux/ublk_cmd.h` and `Documentation/block/ublk.rst`, 6.12.

mod channel;
mod control;
mod device;
mod uapi;

pub use channel::{Channel, Opened, Tag};
pub use control::{UblkError, available};
pub use device::{Identity, Preparing, Took, UblkDevice, drop_left, is_left};
