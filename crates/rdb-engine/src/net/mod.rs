//! The connection: from two paired sockets to exchanged parameters, keepalive, and its end.
//!
//! ```text
//! StandAlone ─connect─► Unconnected ─► WFConnection ─paired, features, auth─► WFReportParams ─► (per volume) Connected…
//!      ▲                     ▲                                                     │
//!      └── Disconnecting ◄───┴──── Timeout, BrokenPipe, NetworkFailure, … ◄────────┘
//! ```
//! (`docs/spec/behaviour.md`, section 7). Network problems lead back to WFConnection, refusals to StandAlone.

pub(crate) mod agreed;
pub(crate) mod attempt;
pub(crate) mod deferred;
pub(crate) mod link;
pub(crate) mod meetings;
pub(crate) mod outdating;
pub(crate) mod patience;
pub(crate) mod pings;
pub(crate) mod refusal;
pub(crate) mod settings;
pub(crate) mod told_of;

pub(crate) use self::agreed::Agreed;
pub(crate) use self::deferred::{DEFERRED_ANSWERS_MAX, Delayed};
pub(crate) use self::link::Link;
pub(crate) use self::pings::{PingWaiter, Pings};
