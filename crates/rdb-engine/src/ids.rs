//! Names for the things an engine and its driver talk about: newtypes, so that none is taken for another.

use core::fmt;

/// An instant of the driver's monotonic clock, in nanoseconds from an arbitrary start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// The instant `ms` milliseconds later.
    pub fn plus_ms(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// Whole milliseconds from `earlier` to `self`, 0 if `earlier` is later.
    pub fn ms_since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}

/// A volume inside its resource; 0..=65534 (`docs/spec/wire.md`, section 16).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VolumeNr(pub u16);

impl fmt::Display for VolumeNr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A connection of the resource to one of its peers. There is one for now, [`ConnId::FIRST`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u32);

impl ConnId {
    /// The one that there is.
    pub const FIRST: ConnId = ConnId(0);
}

/// One life of a connection, from two paired sockets to their loss. What was begun for a peer carries it, so that nothing of
/// an old one reaches a new one: there is none but the first and those that follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Session {
    of: ConnId,
    /// Which of its lives: counted by pairings and losses.
    nr: u32,
}

impl Session {
    /// The connection has not been paired yet.
    pub(crate) const fn first(of: ConnId) -> Session {
        Session { of, nr: 0 }
    }

    /// The connection has been paired, or lost: what follows belongs to another life.
    pub(crate) fn next(self) -> Session {
        Session {
            nr: self.nr.wrapping_add(1),
            ..self
        }
    }

    /// Which connection.
    pub(crate) fn of(self) -> ConnId {
        self.of
    }
}

/// The engine's handle of one I/O that it asked the driver for; answered by exactly one event with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IoTag(pub u64);

/// The driver's handle of one front-end request; the engine echoes it in the completion and never looks inside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// The driver's handle of one administrative command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AdminId(pub u64);

/// The engine's handle of a packet whose hand-over to the local TCP stack it wants to be told of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SendTag(pub u64);

/// The engine's handle of one run of a handler; answered by exactly one event with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HandlerId(pub u64);

/// Index of an application request in the resource's slab.
pub(crate) type RequestKey = usize;

/// Index of a mirrored write in the resource's slab.
pub(crate) type PeerKey = usize;
