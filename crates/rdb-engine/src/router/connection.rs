//! The connection: what it is at, and the parts that keep what belongs to it.

use crate::bitmap_exchange::{BitmapIn, BitmapOut};
use crate::config::{NetOptions, Protocol};
use crate::fencing::Fence;
use crate::ids::{ConnId, Session};
use crate::integrity::Integrity;
use crate::net::attempt::Attempt;
use crate::net::deferred::Deferred;
use crate::net::meetings::Meetings;
use crate::net::outdating::Outdating;
use crate::net::patience::Patience;
use crate::net::settings::{Comparison, PeerSettings};
use crate::net::told_of::ToldOf;
use crate::net::{Agreed, Link, Pings};
use crate::state::ConnState;
use crate::transfer_log::{MirrorEpochs, TransferLog};
use crate::trouble::Troubles;

/// The resource's connection.
pub(super) struct Connection<P> {
    /// Which of the connections it is, and in which of its lives. Without it I/O of an old one would count in the present one.
    pub(super) session: Session,
    /// `None` while StandAlone without configuration.
    pub(super) options: Option<NetOptions>,
    /// The connection's part of the state: at most WFReportParams.
    pub(super) cstate: ConnState,
    /// Its life: sockets, handshake, ordinary traffic.
    pub(super) link: Link,
    /// What both nodes speak.
    pub(super) agreed: Agreed,
    /// The digests of data in both directions.
    pub(super) integrity: Integrity,
    /// What is, or was, in the way of it.
    pub(super) troubles: Troubles,
    /// How often the nodes have met, and to what purpose.
    pub(super) meetings: Meetings,
    /// The answer to a peer that goes on alone (L49).
    pub(super) outdating: Outdating,
    /// What is done about a peer that cannot be reached.
    pub(super) fence: Fence,
    /// What this attempt to connect was ordered to do.
    pub(super) attempt: Attempt,
    /// What the peer goes by; `None` until it has told, and it fits.
    pub(super) peer_settings: Option<PeerSettings>,
    /// The digests by which resyncs and verifies compare blocks.
    pub(super) comparison: Comparison,
    /// Volumes of the peer that are not here.
    pub(super) told_of: ToldOf,

    /// When a ping is due, and who waits for an answered one.
    pub(super) pings: Pings,
    /// How long the peer may owe an answer.
    pub(super) patience: Patience,

    /// Our writes at the peer.
    pub(super) log: TransferLog,
    /// The peer's writes here.
    pub(super) epochs: MirrorEpochs,
    /// The connection they belong to: they outlive it until all its writes have ended.
    pub(super) epochs_of: Session,
    /// The bitmap that is being sent.
    pub(super) bitmap_out: Option<BitmapOut>,
    /// The bitmap that is coming.
    pub(super) bitmap_in: Option<BitmapIn>,
    /// What waits until a bitmap is sent.
    pub(super) deferred: Deferred<P>,
}

impl<P> Connection<P> {
    pub(super) fn new(id: ConnId) -> Self {
        Connection {
            options: None,
            cstate: ConnState::StandAlone,
            link: Link::default(),
            agreed: Agreed::default(),
            meetings: Meetings::default(),
            outdating: Outdating::default(),
            attempt: Attempt::default(),
            told_of: ToldOf::default(),
            patience: Patience::default(),
            deferred: Deferred::default(),
            integrity: Integrity::default(),
            troubles: Troubles::default(),
            fence: Fence::default(),
            peer_settings: None,
            comparison: Comparison::default(),
            session: Session::first(id),
            pings: Pings::default(),
            log: TransferLog::default(),
            epochs: MirrorEpochs::default(),
            epochs_of: Session::first(id),
            bitmap_out: None,
            bitmap_in: None,
        }
    }

    /// The configured protocol; C without configuration, when it does not matter.
    pub(super) fn protocol(&self) -> Protocol {
        self.options.as_ref().map_or(Protocol::C, |o| o.protocol)
    }

    pub(super) fn option(&self, pick: impl Fn(&NetOptions) -> u32, default: u32) -> u64 {
        u64::from(self.options.as_ref().map_or(default, pick))
    }

    pub(super) fn ping_interval_ms(&self) -> u64 {
        self.option(|o| o.ping_int_s, 10) * 1000
    }

    pub(super) fn ping_timeout_ms(&self) -> u64 {
        self.option(|o| o.ping_timeout_ds, 5) * 100
    }

    fn timeout_ms(&self) -> u64 {
        self.option(|o| o.timeout_ds, 60) * 100
    }

    /// ko-count times timeout; 0 if switched off.
    pub(super) fn request_limit_ms(&self) -> u64 {
        self.option(|o| o.ko_count, 7) * self.timeout_ms()
    }
}

/// What is told of a connection that the administrator has ended.
pub(super) const DISCONNECTED: &str = "disconnected on this node";
