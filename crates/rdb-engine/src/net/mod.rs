//! The connection: from two paired sockets to exchanged parameters, keepalive, and its end.
//!
//! ```text
//! StandAlone ─connect─► Unconnected ─► WFConnection ─paired, features, auth─► WFReportParams ─► (per volume) Connected…
//!      ▲                     ▲                                                     │
//!      └── Disconnecting ◄───┴──── Timeout, BrokenPipe, NetworkFailure, … ◄────────┘
//! ```
//! (`docs/spec/behaviour.md`, section 7). Network problems lead back to WFConnection, refusals to StandAlone.

pub(crate) mod link;
pub(crate) mod pings;
pub(crate) mod refusal;
pub(crate) use self::link::Link;
pub(crate) use self::pings::{PingWaiter, Pings};

use alloc::collections::{BTreeSet, VecDeque};

use replica_proto::{Packet, WireContext};

use self::settings::{Comparison, PeerSettings};
use crate::bitmap_exchange::{BitmapIn, BitmapOut};
use crate::config::{NetOptions, Protocol};
use crate::fencing::Fence;
use crate::ids::{ConnId, SendTag, Session, Time, VolumeNr};
use crate::integrity::Integrity;
use crate::state::ConnState;
use crate::transfer_log::{MirrorEpochs, TransferLog};
use crate::trouble::Troubled;

pub(crate) mod settings;

/// The resource's connection.
pub(crate) struct Net<P> {
    /// Which of the connections it is, and in which of its lives. Without it I/O of an old one would count in the present one.
    pub(crate) session: Session,
    /// `None` while StandAlone without configuration.
    pub(crate) options: Option<NetOptions>,
    /// The connection's part of the state: at most WFReportParams.
    pub(crate) cstate: ConnState,
    pub(crate) link: Link,
    pub(crate) wire: WireContext,
    /// The digests of data in both directions.
    pub(crate) integrity: Integrity,
    /// Why there is no connection, unless there is one.
    pub(crate) trouble: Option<Troubled>,
    /// The last conflict of the nodes' data, or users, that a handshake came to. Set by it, cleared by one that ends well: a new
    /// attempt of one node's administrator solves none. Without it `status` forgets a split brain as soon as nobody answers.
    pub(crate) conflict: Option<Troubled>,
    /// How often the nodes may have met: counted when our parameters go out, since the peer may be Connected as soon as it has them
    /// (L50). Without it a handler would outdate a peer that has come back while it ran.
    pub(crate) connects: u32,
    /// The answer to a Primary that parts from us and has our disks outdated, and how many of these have to say so on record
    /// before. Set by its request, cleared by the answer and with the connection. Without it the peer goes on alone beside a disk
    /// that is as good by its record (L49).
    pub(crate) outdating: Option<(i32, u32)>,
    /// What is done about a peer that cannot be reached.
    pub(crate) fence: Fence,
    /// Connections refused since the last that came to something.
    pub(crate) refusals: u32,
    /// `connect --discard-my-data`: for one attempt.
    pub(crate) discard_my_data: bool,
    /// What the flag was when our parameters were sent: it speaks for this connection.
    pub(crate) discard_sent: bool,
    pub(crate) tentative: bool,
    pub(crate) peer_dry_run: bool,
    /// What the peer goes by; `None` until it has told, and it fits.
    pub(crate) peer_settings: Option<PeerSettings>,
    /// The digests by which resyncs and verifies compare blocks.
    pub(crate) comparison: Comparison,
    /// Volumes of which the peer has told and that were not there.
    pub(crate) told_of: BTreeSet<VolumeNr>,
    /// The peer marks writes that need everything before them durable.
    pub(crate) explicit_flush: bool,
    /// The peer knows what a source says of what it wrote alone. Agreed on with the features; a disk's note of it outlives that.
    pub(crate) lone_names: bool,
    /// The peer takes part in snapshots. Agreed on with the features, and worth nothing without a connection.
    pub(crate) snapshots: bool,

    pub(crate) pings: Pings,
    /// The timer is set that looks at blocks which wait for the peer.
    pub(crate) blocks_watched: bool,
    /// The timer is set that looks at the oldest request which the peer has not answered. Set when one is sent, cleared when
    /// the timer expires and with the connection: without it whatever is sent later would put the timer off.
    pub(crate) requests_watched: bool,
    pub(crate) ko_left: u32,
    /// Since when the present connection, or the last one, has sent parameters; nothing if it has not come so far. Set then,
    /// cleared by the next pair. Without it two nodes that cannot stand each other would connect a thousand times a second.
    pub(crate) up_since: Option<Time>,

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
    /// Packets that wait until the bitmap is sent: it must not be interleaved.
    pub(crate) deferred: VecDeque<(VolumeNr, Packet, Option<P>, Option<SendTag>)>,
    /// How many of them the peer has asked for that hold no buffer, which the driver would bound.
    pub(crate) deferred_answers: u32,
}

impl<P> Net<P> {
    pub(crate) fn new(id: ConnId) -> Self {
        Net {
            options: None,
            cstate: ConnState::StandAlone,
            link: Link::Down,
            wire: WireContext::initial(),
            integrity: Integrity::default(),
            trouble: None,
            conflict: None,
            connects: 0,
            outdating: None,
            fence: Fence::default(),
            refusals: 0,
            discard_my_data: false,
            discard_sent: false,
            tentative: false,
            peer_dry_run: false,
            peer_settings: None,
            comparison: Comparison::default(),
            told_of: BTreeSet::new(),
            session: Session::first(id),
            explicit_flush: false,
            lone_names: false,
            snapshots: false,
            pings: Pings::default(),
            blocks_watched: false,
            requests_watched: false,
            ko_left: 0,
            up_since: None,
            log: TransferLog::default(),
            epochs: MirrorEpochs::default(),
            epochs_of: Session::first(id),
            flushes_waiting: 0,
            bitmap_out: None,
            bitmap_in: None,
            deferred: VecDeque::new(),
            deferred_answers: 0,
        }
    }

    /// DRBD's driver takes over what it is told; rdb, which is known by a feature of its own, does not.
    pub(crate) fn peer_adopts(&self) -> bool {
        !self.explicit_flush
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

/// Answers without a payload that may wait for a bitmap to be sent. A right peer asks for some ten: sizes and states.
pub(crate) const DEFERRED_ANSWERS_MAX: u32 = 1024;
