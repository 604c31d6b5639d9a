//! What is asked of a machine that is in no file.

use std::io;
use std::net::IpAddr;
use std::path::Path;

/// The system clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The kernel has been told by a time service that it is right.
    pub is_synchronised: bool,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// One of its addresses.
    pub address: IpAddr,
    /// The most bytes of a packet that it sends, headers included.
    pub mtu: Option<u32>,
}

/// What became of a packet that asks for an echo, and may not be cut into pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Echo {
    /// It came back.
    Answered,
    /// Nothing came within a second, twice.
    Silent,
    /// The kernel knows that it is too large for the path.
    TooLarge,
    /// It cannot be sent by us, or not at all: why.
    Impossible(String),
}

/// What is asked of a machine that is in no file.
pub trait Probe {
    /// Whether we may look at everything.
    fn is_root(&self) -> bool;

    /// The system clock.
    ///
    /// # Errors
    /// If the system does not say.
    fn clock(&self) -> io::Result<Clock>;

    /// The addresses of this machine.
    ///
    /// # Errors
    /// If the system does not say.
    fn addresses(&self) -> io::Result<Vec<Interface>>;

    /// The largest packet that the kernel would send to `to` in one piece, as far as it knows; sends nothing.
    ///
    /// # Errors
    /// If there is no way, or `from` is no address of ours.
    fn route_mtu(&self, from: IpAddr, to: IpAddr) -> io::Result<u32>;

    /// Asks `to` for an echo by a packet of so many bytes, headers included, that may not be cut into pieces.
    fn echo(&self, from: IpAddr, to: IpAddr, bytes: u32) -> Echo;

    /// By how many milliseconds the clock of `to` is ahead of ours, by an ICMP timestamp.
    ///
    /// # Errors
    /// If we may not ask, or get no answer.
    fn clock_ahead_ms(&self, from: IpAddr, to: IpAddr) -> io::Result<i64>;

    /// Whether a block device could be had by us alone, as the daemon has its disks. It is let go of at once.
    ///
    /// # Errors
    /// Why not: `ResourceBusy` if somebody has it.
    fn claim(&self, disk: &Path) -> io::Result<()>;
}
