//! The connection: from two paired sockets to exchanged parameters, keepalive, and its end.
//!
//! ```text
//! StandAlone ─connect─► Unconnected ─► WFConnection ─paired, features, auth─► WFReportParams ─► (per volume) Connected…
//!      ▲                     ▲                                                     │
//!      └── Disconnecting ◄───┴──── Timeout, BrokenPipe, NetworkFailure, … ◄────────┘
//! ```
//! (`docs/spec/behaviour.md`, section 7). Network problems lead back to WFConnection, refusals to StandAlone.

mod agreed;
mod attempt;
mod deferred;
pub(crate) mod link;
mod meetings;
mod outdating;
mod patience;
pub(crate) mod pings;
pub(crate) mod refusal;
pub(crate) use self::agreed::Agreed;
pub(crate) use self::deferred::{ANSWERS_MAX, Delayed};
pub(crate) use self::link::Link;
pub(crate) use self::pings::{PingWaiter, Pings};

use self::attempt::Attempt;
use self::deferred::Deferred;
use self::meetings::Meetings;
use self::outdating::Outdating;
use self::patience::Patience;
use self::settings::{Comparison, PeerSettings};
use self::told_of::ToldOf;
use crate::bitmap_exchange::{BitmapIn, BitmapOut};
use crate::config::{NetOptions, Protocol};
use crate::fencing::Fence;
use crate::ids::{ConnId, Session};
use crate::integrity::Integrity;
use crate::state::ConnState;
use crate::transfer_log::{MirrorEpochs, TransferLog};
use crate::trouble::Troubled;

pub(crate) mod settings;
mod told_of;

/// The resource's connection.
pub(crate) struct Net<P> {
    /// Which of the connections it is, and in which of its lives. Without it I/O of an old one would count in the present one.
    pub(crate) session: Session,
    /// `None` while StandAlone without configuration.
    pub(crate) options: Option<NetOptions>,
    /// The connection's part of the state: at most WFReportParams.
    pub(crate) cstate: ConnState,
    pub(crate) link: Link,
    pub(crate) agreed: Agreed,
    /// The digests of data in both directions.
    pub(crate) integrity: Integrity,
    /// Why there is no connection, unless there is one.
    pub(crate) trouble: Option<Troubled>,
    /// The last conflict of the nodes' data, or users, that a handshake came to. Set by it, cleared by one that ends well: a new
    /// attempt of one node's administrator solves none. Without it `status` forgets a split brain as soon as nobody answers.
    pub(crate) conflict: Option<Troubled>,
    pub(crate) meetings: Meetings,
    pub(crate) outdating: Outdating,
    /// What is done about a peer that cannot be reached.
    pub(crate) fence: Fence,
    pub(crate) attempt: Attempt,
    /// What the peer goes by; `None` until it has told, and it fits.
    pub(crate) peer_settings: Option<PeerSettings>,
    /// The digests by which resyncs and verifies compare blocks.
    pub(crate) comparison: Comparison,
    pub(crate) told_of: ToldOf,

    pub(crate) pings: Pings,
    pub(crate) patience: Patience,

    /// Our writes at the peer.
    pub(crate) log: TransferLog,
    /// The peer's writes here.
    pub(crate) epochs: MirrorEpochs,
    /// The connection they belong to: they outlive it until all its writes have ended.
    pub(crate) epochs_of: Session,
    /// Flushes that wait for the peer's barriers.
    pub(crate) flushes_waiting: u32,
    pub(crate) bitmap_out: Option<BitmapOut>,
    pub(crate) bitmap_in: Option<BitmapIn>,
    pub(crate) deferred: Deferred<P>,
}

impl<P> Net<P> {
    pub(crate) fn new(id: ConnId) -> Self {
        Net {
            options: None,
            cstate: ConnState::StandAlone,
            link: Link::Down,
            agreed: Agreed::default(),
            meetings: Meetings::default(),
            outdating: Outdating::default(),
            attempt: Attempt::default(),
            told_of: ToldOf::default(),
            patience: Patience::default(),
            deferred: Deferred::default(),
            integrity: Integrity::default(),
            trouble: None,
            conflict: None,
            fence: Fence::default(),
            peer_settings: None,
            comparison: Comparison::default(),
            session: Session { of: id, nr: 0 },
            pings: Pings::default(),
            log: TransferLog::default(),
            epochs: MirrorEpochs::default(),
            epochs_of: Session { of: id, nr: 0 },
            flushes_waiting: 0,
            bitmap_out: None,
            bitmap_in: None,
        }
    }

    /// The configured protocol; C without configuration, when it does not matter.
    pub(crate) fn protocol(&self) -> Protocol {
        self.options.as_ref().map_or(Protocol::C, |o| o.protocol)
    }

    pub(crate) fn option(&self, pick: impl Fn(&NetOptions) -> u32, default: u32) -> u64 {
        u64::from(self.options.as_ref().map_or(default, pick))
    }

    pub(crate) fn ping_interval_ms(&self) -> u64 {
        self.option(|o| o.ping_int_s, 10) * 1000
    }

    pub(crate) fn ping_timeout_ms(&self) -> u64 {
        self.option(|o| o.ping_timeout_ds, 5) * 100
    }

    fn timeout_ms(&self) -> u64 {
        self.option(|o| o.timeout_ds, 60) * 100
    }

    /// ko-count times timeout; 0 if switched off.
    pub(crate) fn request_limit_ms(&self) -> u64 {
        self.option(|o| o.ko_count, 7) * self.timeout_ms()
    }
}

/// What is told of a connection that the administrator has ended.
pub(crate) const DISCONNECTED: &str = "disconnected on this node";
