//! Which packets a peer may send, by our own state: the table [`TABLE`], which `docs/states.md` prints.
//!
//! DRBD's driver trusts its peer. This engine does not have to: a packet that no right peer can send in the state that we are
//! in ends the connection, and nothing here has changed. "Right" are this engine and the driver, 8.4 and 9.3; what they send
//! was looked up in recordings of both, and the simulator demands that two right engines never refuse each other a packet.
//!
//! Two packets that travel on different sockets can pass each other, and a node that gives a resync up hears of it what was on
//! its way. So a case may rest on what has been in this connection ([`Past`]) instead of on what is.

use core::fmt;

use replica_proto::Command;

use crate::state::{ConnState, Role};

bitflags::bitflags! {
    /// What has been in this connection, and may have packets on their way yet.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Past: u8 {
        /// The volume was source of a resync, or on the way to be.
        const SOURCE = 1;
        /// The volume was target of a resync, or on the way to be.
        const TARGET = 2;
        /// The volume answered an online verify.
        const VERIFY = 4;
        /// The volume drove one.
        const DRIVER = 64;
        /// A change that this node asked the peer for has no answer yet.
        const QUESTION = 8;
        /// The peer has told of an exchange of bitmaps while there was no disk here: it had not heard of that yet.
        const TOLD = 16;
        /// A disk was given up here while it was negotiated. What the peer has answered to that may come when the next disk
        /// is negotiated already, and cannot be told from the answer to this one.
        const GIVEN_UP = 32;
    }
}

impl Past {
    /// What a connection state leaves behind.
    pub fn of(conn: ConnState) -> Past {
        use ConnState::{
            Behind, PausedSyncS, PausedSyncT, StartingSyncS, StartingSyncT, SyncSource, SyncTarget,
            VerifyS, VerifyT, WFBitMapS, WFBitMapT, WFSyncUUID,
        };
        match conn {
            StartingSyncS | WFBitMapS | SyncSource | PausedSyncS => Past::SOURCE,
            StartingSyncT | WFBitMapT | WFSyncUUID | SyncTarget | PausedSyncT | Behind => {
                Past::TARGET
            }
            VerifyT => Past::VERIFY,
            VerifyS => Past::DRIVER,
            _ => Past::empty(),
        }
    }
}

bitflags::bitflags! {
    /// How it stands with snapshots between the nodes (`snapshot/mod.rs`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Snapshot: u8 {
        /// Both nodes know the packets.
        const AGREED = 1;
        /// The peer takes part in one of this node's, and has not said its last word.
        const ASKED = 2;
        /// The peer takes one, and has not said that it is over.
        const HELD = 4;
    }
}

/// What the table looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The peer's P_PROTOCOL has come, and its settings are ours.
    pub greeted: bool,
    /// Our role on the volume.
    pub role: Role,
    /// The peer's.
    pub peer: Role,
    /// The volume's connection state.
    pub conn: ConnState,
    /// What has been in this connection.
    pub past: Past,
    /// Snapshots of both nodes.
    pub snapshot: Snapshot,
}

/// A case in which a packet is allowed. What it does not name does not matter.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The connection state is one of these.
    pub conns: &'static [ConnState],
    /// Our role is this.
    pub role: Option<Role>,
    /// The peer's role is this.
    pub peer: Option<Role>,
    /// One of these has been, unless it is empty.
    pub past: Past,
    /// All of this holds.
    pub snapshot: Snapshot,
    /// No snapshot of the peer's is under way.
    pub not_held: bool,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The packet.
    pub packet: Command,
    /// When it is allowed; never if empty.
    pub cases: &'static [Case],
    /// What is demanded beside the state, in words: the handler of the packet looks.
    pub also: &'static str,
}

const HANDSHAKE: &[ConnState] = &[ConnState::WFReportParams];
const CONNECTED: &[ConnState] = {
    use ConnState::*;
    &[
        Connected,
        StartingSyncS,
        StartingSyncT,
        WFBitMapS,
        WFBitMapT,
        WFSyncUUID,
        SyncSource,
        SyncTarget,
        VerifyS,
        VerifyT,
        PausedSyncS,
        PausedSyncT,
        Ahead,
        Behind,
    ]
};
const IDLE: &[ConnState] = &[ConnState::Connected];
const SOURCES: &[ConnState] = &[ConnState::SyncSource, ConnState::PausedSyncS];
const TARGETS: &[ConnState] = &[ConnState::SyncTarget, ConnState::PausedSyncT];

const fn when(conns: &'static [ConnState]) -> Case {
    Case {
        conns,
        role: None,
        peer: None,
        past: Past::empty(),
        snapshot: Snapshot::empty(),
        not_held: false,
    }
}

const fn after(past: Past, conns: &'static [ConnState]) -> Case {
    Case {
        past,
        ..when(conns)
    }
}

const fn with(snapshot: Snapshot, conns: &'static [ConnState]) -> Case {
    Case {
        snapshot,
        ..when(conns)
    }
}

const fn row(packet: Command, cases: &'static [Case], also: &'static str) -> Row {
    Row {
        packet,
        cases,
        also,
    }
}

const UP: &[Case] = &[when(CONNECTED)];
const SPEAKING: &[Case] = &[when(HANDSHAKE), when(CONNECTED)];
const NEVER: &[Case] = &[];
const MIRRORED: &[Case] = &[Case {
    role: Some(Role::Secondary),
    peer: Some(Role::Primary),
    not_held: true,
    ..when(CONNECTED)
}];
const SNAPSHOTS: &[Case] = &[
    with(Snapshot::AGREED, HANDSHAKE),
    with(Snapshot::AGREED, CONNECTED),
];
const SNAPSHOT_ANSWERS: &[Case] = &[
    with(Snapshot::AGREED.union(Snapshot::ASKED), HANDSHAKE),
    with(Snapshot::AGREED.union(Snapshot::ASKED), CONNECTED),
];
const ASKED_BY_TARGET: &[Case] = &[when(SOURCES), after(Past::SOURCE, IDLE)];
const ANSWERED_BY_SOURCE: &[Case] = &[when(TARGETS), after(Past::TARGET, CONNECTED)];
const BITMAPS: &[Case] = &[
    when(&[ConnState::WFBitMapS, ConnState::WFBitMapT]),
    after(Past::SOURCE.union(Past::TARGET).union(Past::TOLD), IDLE),
];
const MARKS: &[Case] = &[
    Case {
        peer: Some(Role::Primary),
        ..when(&[
            ConnState::WFBitMapT,
            ConnState::WFSyncUUID,
            ConnState::Behind,
        ])
    },
    Case {
        peer: Some(Role::Primary),
        ..after(Past::TARGET.union(Past::TOLD), IDLE)
    },
];
const SYNC_UUIDS: &[Case] = &[
    when(&[
        ConnState::StartingSyncT,
        ConnState::WFBitMapT,
        ConnState::WFSyncUUID,
        ConnState::Behind,
    ]),
    after(Past::TARGET.union(Past::QUESTION).union(Past::TOLD), IDLE),
];
const VERIFY_REQUESTS: &[Case] = &[when(&[ConnState::VerifyT]), after(Past::VERIFY, IDLE)];
const VERIFY_RESULTS: &[Case] = &[when(&[ConnState::VerifyT]), after(Past::VERIFY, CONNECTED)];
const VERIFY_REPLIES: &[Case] = &[when(&[ConnState::VerifyS]), after(Past::DRIVER, CONNECTED)];
const REFUSED: &[Case] = &[
    when(TARGETS),
    when(&[ConnState::VerifyS]),
    after(Past::TARGET.union(Past::DRIVER), CONNECTED),
];

/// Every packet, and when it may come. Those of the whole connection are asked about with the connection's own state.
pub const TABLE: &[Row] = &[
    row(Command::Data, MIRRORED, "inside the device"),
    row(Command::DataReply, UP, "answers a read that waits"),
    row(
        Command::RsDataReply,
        ANSWERED_BY_SOURCE,
        "answers a request that waits",
    ),
    row(Command::Barrier, SPEAKING, ""),
    row(
        Command::Bitmap,
        BITMAPS,
        "the packets of one bitmap follow each other; read and forgotten if the resync is given up",
    ),
    row(Command::UnplugRemote, SPEAKING, "means nothing here"),
    row(Command::DataRequest, UP, "inside the device"),
    row(Command::RsDataRequest, ASKED_BY_TARGET, "inside the device"),
    row(Command::SyncParam, SPEAKING, ""),
    row(Command::Protocol, SPEAKING, "once, and before all others"),
    row(Command::Uuids, SPEAKING, ""),
    row(Command::Sizes, SPEAKING, "see the sizes"),
    row(Command::State, SPEAKING, "see the states"),
    row(Command::SyncUuid, SYNC_UUIDS, ""),
    row(Command::AuthChallenge, NEVER, ""),
    row(Command::AuthResponse, NEVER, ""),
    row(Command::StateChgReq, SPEAKING, "see the requests"),
    row(Command::Ping, SPEAKING, ""),
    row(Command::PingAck, SPEAKING, "answers a ping"),
    row(
        Command::RecvAck,
        UP,
        "for a write that waits and asked for it, its first sector and its length",
    ),
    row(
        Command::WriteAck,
        UP,
        "for a write that waits and asked for it, its first sector and its length",
    ),
    row(
        Command::RsWriteAck,
        UP,
        "for a resync block that was sent, or a write that may be called in sync; first sector and length",
    ),
    row(Command::Superseded, NEVER, "two primaries are not served"),
    row(
        Command::NegAck,
        UP,
        "for a resync block that was sent, or a write whose barrier is not acknowledged",
    ),
    row(Command::NegDReply, UP, "answers a read that waits"),
    row(
        Command::NegRsDReply,
        REFUSED,
        "answers a request that waits",
    ),
    row(
        Command::BarrierAck,
        SPEAKING,
        "the oldest barrier that waits, and the number of its writes",
    ),
    row(Command::StateChgReply, SPEAKING, "answers a question"),
    row(Command::OvRequest, VERIFY_REQUESTS, "inside the device"),
    row(
        Command::OvReply,
        VERIFY_REPLIES,
        "answers a request that waits, with a digest of verify-alg",
    ),
    row(
        Command::OvResult,
        VERIFY_RESULTS,
        "for a digest that was sent",
    ),
    row(
        Command::CsumRsRequest,
        ASKED_BY_TARGET,
        "inside the device, with a digest of csums-alg",
    ),
    row(
        Command::RsIsInSync,
        ANSWERED_BY_SOURCE,
        "answers a request with a digest that waits",
    ),
    row(Command::SyncParam89, SPEAKING, ""),
    row(
        Command::CompressedBitmap,
        BITMAPS,
        "the packets of one bitmap follow each other; read and forgotten if the resync is given up",
    ),
    row(Command::DelayProbe, SPEAKING, "means nothing here"),
    row(Command::OutOfSync, MARKS, "inside the device"),
    row(
        Command::RsCancel,
        ANSWERED_BY_SOURCE,
        "answers a request that waits",
    ),
    row(Command::ConnStChgReq, SPEAKING, "see the requests"),
    row(Command::ConnStChgReply, SPEAKING, "answers a question"),
    row(Command::RetryWrite, NEVER, "two primaries are not served"),
    row(Command::ProtocolUpdate, SPEAKING, ""),
    row(Command::Trim, MIRRORED, "inside the device"),
    row(Command::RsThinRequest, ASKED_BY_TARGET, "inside the device"),
    row(
        Command::RsDeallocated,
        NEVER,
        "no P_RS_THIN_REQ is sent from here",
    ),
    row(Command::WriteSame, NEVER, "not served"),
    row(Command::Zeroes, MIRRORED, "inside the device"),
    row(
        Command::EnableReplication,
        SPEAKING,
        "DRBD 9; means nothing here",
    ),
    row(
        Command::RdbSnapshot,
        SNAPSHOTS,
        "begins one if none of the peer's is under way, or ends that one; refused unless all disks are Connected and UpToDate, and we Secondary",
    ),
    row(
        Command::RdbSnapshotAnswer,
        SNAPSHOT_ANSWERS,
        "begun or refused first, then how it ended",
    ),
    row(Command::InitialMeta, NEVER, ""),
    row(Command::InitialData, NEVER, ""),
    row(Command::ConnectionFeatures, NEVER, ""),
];

/// Why a packet is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Before the peer's settings are known nothing else is taken.
    #[error("before P_PROTOCOL")]
    BeforeProtocol,
    /// The settings of a connection are told once.
    #[error("a second time")]
    Twice,
    /// There is no case in the table.
    #[error("at any time in this phase")]
    Never,
    /// The peer has had writes end for its snapshot, and has not said that it is over.
    #[error("while its snapshot is taken")]
    Held,
    /// None of the table's cases is ours.
    #[error("in cs:{conn} ro:{role}/{peer}")]
    State {
        /// The connection state.
        conn: ConnState,
        /// Our role.
        role: Role,
        /// The peer's.
        peer: Role,
    },
}

impl Case {
    /// Whether the facts are this case.
    pub fn holds(&self, facts: &Facts) -> bool {
        self.conns.contains(&facts.conn)
            && self.role.is_none_or(|role| role == facts.role)
            && self.peer.is_none_or(|peer| peer == facts.peer)
            && (self.past.is_empty() || self.past.intersects(facts.past))
            && facts.snapshot.contains(self.snapshot)
            && !(self.not_held && facts.snapshot.contains(Snapshot::HELD))
    }
}

/// Whether a peer may send this packet now, once the parameters of the connection are being told.
pub fn admit(packet: Command, facts: &Facts) -> Result<(), Refusal> {
    let own_socket = packet.socket() == replica_proto::Socket::Data;
    match (packet, facts.greeted) {
        (Command::Protocol, true) => return Err(Refusal::Twice),
        (Command::Protocol, false) => {}
        (_, false) if own_socket => return Err(Refusal::BeforeProtocol),
        _ => {}
    }
    let cases = TABLE
        .iter()
        .find(|row| row.packet == packet)
        .map_or(NEVER, |row| row.cases);
    if cases.is_empty() {
        return Err(Refusal::Never);
    }
    if cases.iter().any(|case| case.holds(facts)) {
        return Ok(());
    }
    let snapshot = facts.snapshot.difference(Snapshot::HELD);
    let free = Facts { snapshot, ..*facts };
    if cases.iter().any(|case| case.holds(&free)) {
        return Err(Refusal::Held);
    }
    Err(Refusal::State {
        conn: facts.conn,
        role: facts.role,
        peer: facts.peer,
    })
}

impl fmt::Display for Case {
    /// In the words of `docs/states.md`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.conns == CONNECTED {
            f.write_str("connected")?;
        } else {
            for (nr, conn) in self.conns.iter().enumerate() {
                if nr > 0 {
                    f.write_str(", ")?;
                }
                write!(f, "{conn}")?;
            }
        }
        if let Some(role) = self.role {
            write!(f, "; {role} here")?;
        }
        if let Some(peer) = self.peer {
            write!(f, "; the peer {peer}")?;
        }
        if self.not_held {
            f.write_str("; no snapshot of the peer's")?;
        }
        if self.snapshot.contains(Snapshot::ASKED) {
            f.write_str("; it takes part in a snapshot of ours")?;
        } else if self.snapshot.contains(Snapshot::AGREED) {
            f.write_str("; snapshots are agreed on")?;
        }
        let words = [
            (Past::SOURCE, "was source"),
            (Past::TARGET, "was target"),
            (Past::VERIFY, "was VerifyT"),
            (Past::DRIVER, "was VerifyS"),
            (Past::QUESTION, "a question is open"),
            (
                Past::TOLD,
                "the peer told of it while there was no disk here",
            ),
        ];
        let mut first = true;
        for (past, word) in words {
            if self.past.contains(past) {
                f.write_str(if first { "; " } else { " or " })?;
                f.write_str(word)?;
                first = false;
            }
        }
        Ok(())
    }
}
