//! What follows from a change of a volume's state (`docs/spec/behaviour.md`, sections 3 and 4.3): one table, in the order in which
//! things follow.
//!
//! Rows with an `A` have their number from section 3 and are the driver's; the rest is ours, and says why. Not here are A1 (tell
//! listeners) and A30 (write the superblock if it has changed), which follow from every change; A13, which the demotion does
//! itself; A21, which is not a matter of states; A4 to A6 and C3, which rest on all volumes ([`super::thaw`]); and the rows of what is
//! not served: `resync-after` (A16, A25, A29), and Ahead (A18).

pub use super::turn::{Facts, Turn, lost_peer_data};
use super::turn::{
    became_inconsistent, both_attached, both_up, diskless, diskless_peer_demoted, failed,
    good_beside_lost, left_handshake, lost_beside_good, negotiates, pause_changed, peer_attached,
    sync_ended, target_ended,
};
use crate::state::{self, ConnState, DiskState, Role, is_source, is_target, is_verify};

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Nothing of a verify is waited for any more; where it ended is remembered.
    EndVerify,
    /// Blocks are asked for.
    BeginVerify,
    /// The record stops saying that a Primary writes here, once the data and the marks are durable.
    Unmark,
    /// No crash of a Primary is open any more, in memory, on record, and in what the peer has told.
    ForgetCrash,
    /// Blocks of an Inconsistent disk without a mark are good.
    TrustUnmarked,
    /// They are not.
    DistrustUnmarked,
    /// An error in the log: requests fail.
    SayNoData,
    /// The sync UUID is made and sent.
    MakeSyncUuid,
    /// P_SIZES.
    SendSizes,
    /// P_UUIDS.
    SendUuids,
    /// P_STATE.
    SendState,
    /// The bitmap goes out once users' writes have ended.
    SendBitmap,
    /// A new data generation begins.
    NewGeneration(Why),
    /// The end of a resync whose target has not said that it is done: what it has is looked at.
    SourceLost,
    /// Changed pages of the bitmap are written.
    WriteBitmap,
    /// The time that a disk may be negotiated is limited.
    LimitNegotiation,
    /// That limit goes.
    NegotiationOver,
    /// The limit on the wait for the sync UUID goes.
    SyncUuidOver,
    /// Every bit is set, on disk too, while users' writes are held.
    FullSync,
    /// Users' writes are held until the superblock says that the disk is Inconsistent.
    RecordInconsistent,
    /// What users have seen is the peer's generation.
    ExposePeers,
    /// What users have seen is the generation that the peer has moved on to.
    ExposeMovedOn,
    /// The peer's disk may have the name of ours and lack what we wrote.
    RememberOpenSource,
    /// Users' writes are held until the peer has a new generation on record.
    AwaitRecordOfLoss,
    /// The connection is left.
    Reconnect,
    /// What waits for the disk goes on without it.
    DiskFailed,
    /// Nobody waits any more for the peer's record of the loss.
    LossSettled,
    /// The runtime closes a disk that the engine no longer has.
    CloseDisk,
    /// A disk that was given up is closed when nothing of it is under way.
    GiveDiskUp,
    /// The new area of a device that grew is synced.
    ResyncGrowth,
    /// The end of a resync is recorded, and then told.
    AnnounceEnd,
    /// Requests and reads that waited are looked at again.
    Retry,
}

/// Why a generation begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The peer's data are lost to us: what is written now is only here.
    PeerLost,
    /// The peer, which has data that are not good, is lost: what is written now is only here.
    BadPeerLost,
    /// A disk has come to a node whose users are alone with it.
    AttachedAlone,
}

/// One consequence.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number in section 3, or nothing.
    pub number: &'static str,
    /// When it follows, in words.
    pub words: &'static str,
    /// When it follows.
    pub when: fn(&Turn) -> bool,
    /// What.
    pub act: Act,
}

const fn row(number: &'static str, words: &'static str, when: fn(&Turn) -> bool, act: Act) -> Row {
    Row {
        number,
        words,
        when,
        act,
    }
}

/// Every consequence, in order.
pub const CONSEQUENCES: &[Row] = &[
    row(
        "",
        "a verify ended, driven by either node",
        |t| is_verify(t.old.conn) && !is_verify(t.new.conn),
        Act::EndVerify,
    ),
    row(
        "",
        "VerifyS began",
        |t| t.old.conn != ConnState::VerifyS && t.new.conn == ConnState::VerifyS,
        Act::BeginVerify,
    ),
    // (L14) The mark has the log applied after a crash: the bits, and the data that the log speaks of, are durable before (I8).
    row(
        "",
        "no node writes here as Primary any more",
        |t| t.facts.unmark_due,
        Act::Unmark,
    ),
    row(
        "A2",
        "both disks became UpToDate",
        |t| both_up(&t.new) && !both_up(&t.old),
        Act::ForgetCrash,
    ),
    // (L36) The blocks that only the peer has written are not marked here yet.
    row(
        "",
        "WFBitMapT",
        |t| t.new.conn == ConnState::WFBitMapT,
        Act::DistrustUnmarked,
    ),
    row(
        "",
        "the target of a resync",
        |t| is_target(t.new.conn),
        Act::TrustUnmarked,
    ),
    // (L21) What the peer's users write after a resync that could not sync everything is sent to nobody.
    row(
        "",
        "Connected and Inconsistent beside a Primary",
        |t| {
            t.new.conn == ConnState::Connected
                && t.new.disk == DiskState::Inconsistent
                && t.new.peer == Role::Primary
        },
        Act::DistrustUnmarked,
    ),
    row(
        "A3",
        "Primary, and no disk is UpToDate any more",
        |t| t.new.is_primary_without_data() && !t.old.is_primary_without_data(),
        Act::SayNoData,
    ),
    row(
        "A7",
        "became source of a resync",
        |t| is_source(t.new.conn) && !is_source(t.old.conn),
        Act::MakeSyncUuid,
    ),
    row(
        "",
        "a Primary without a good disk hears that the peer's has ended its resync",
        good_beside_lost,
        Act::AwaitRecordOfLoss,
    ),
    row(
        "A8",
        "the peer attached a disk",
        peer_attached,
        Act::SendUuids,
    ),
    row(
        "A8",
        "the peer attached a disk",
        peer_attached,
        Act::SendState,
    ),
    row(
        "A9",
        "became WFBitMapS, and still is",
        |t| {
            t.new.conn == ConnState::WFBitMapS
                && t.old.conn != ConnState::WFBitMapS
                && t.facts.now == ConnState::WFBitMapS
        },
        Act::SendBitmap,
    ),
    row(
        "A10",
        "the peer's data are lost, a node is Primary, the peer may have our generation",
        |t| {
            lost_peer_data(t.old.pdsk, t.new.pdsk)
                && t.new.disk == DiskState::UpToDate
                && t.new.is_a_node_primary()
                && t.facts.may_share_name
        },
        Act::NewGeneration(Why::PeerLost),
    ),
    row(
        "A11",
        "the peer became Primary without a usable disk, the peer may have our generation",
        |t| {
            t.new.pdsk < DiskState::Inconsistent
                && t.old.peer != Role::Primary
                && t.new.peer == Role::Primary
                && t.new.disk == DiskState::UpToDate
                && t.facts.may_share_name
        },
        Act::NewGeneration(Why::PeerLost),
    ),
    // (L40) By its own record that disk may be as good as ours: it may have become so by an I/O error a moment ago.
    row(
        "",
        "a Primary lost a peer whose disk is Inconsistent, the peer may have our generation",
        |t| {
            t.old.is_connected()
                && !t.new.is_connected()
                && t.new.pdsk == DiskState::Inconsistent
                && t.new.disk == DiskState::UpToDate
                && t.new.role == Role::Primary
                && t.facts.may_share_name
        },
        Act::NewGeneration(Why::BadPeerLost),
    ),
    // (L6) What users write from now on is nowhere else, as after a promotion alone. (L20) The peer may be that Primary, without
    // the disk that had this name too: of the new generation that it was told of when it lost that disk nothing may have come
    // to the record here.
    row(
        "",
        "a disk came to a Primary that is alone with it, the peer may have our generation",
        |t| {
            matches!(t.old.disk, DiskState::Attaching | DiskState::Negotiating)
                && t.new.disk == DiskState::UpToDate
                && (!t.new.is_connected() || t.new.pdsk <= DiskState::Failed)
                && t.new.is_a_node_primary()
                && t.facts.may_share_name
        },
        Act::NewGeneration(Why::AttachedAlone),
    ),
    // (L53) Alone it was Consistent only, or Outdated; the peer that has raised it may be lost before it syncs, and have this generation.
    row(
        "",
        "the disk of a Primary, Consistent only or Outdated, became UpToDate, nothing is sent to the peer, the peer may have our generation",
        |t| {
            t.old.role == Role::Primary
                && t.new.role == Role::Primary
                && matches!(t.old.disk, DiskState::Consistent | DiskState::Outdated)
                && t.new.disk == DiskState::UpToDate
                && t.new.is_connected()
                && !state::should_replicate(t.new)
                && t.facts.may_share_name
        },
        Act::NewGeneration(Why::AttachedAlone),
    ),
    row(
        "",
        "a resync from here ended, and the target is not UpToDate",
        |t| {
            is_source(t.old.conn)
                && !is_source(t.new.conn)
                && t.new.pdsk != DiskState::UpToDate
                && t.new.disk == DiskState::UpToDate
        },
        Act::SourceLost,
    ),
    row(
        "A12 A28",
        "the peer, without a usable disk, was demoted; or a resync or verify ended with the disk still there, and its end is not to \
         be announced",
        |t| (diskless_peer_demoted(t) || sync_ended(t)) && !t.facts.announces_end,
        Act::WriteBitmap,
    ),
    row(
        "A14",
        "attaching while connected",
        negotiates,
        Act::SendSizes,
    ),
    row(
        "A14",
        "attaching while connected",
        negotiates,
        Act::SendUuids,
    ),
    row(
        "A14",
        "attaching while connected",
        negotiates,
        Act::SendState,
    ),
    row(
        "A14",
        "attaching while connected",
        negotiates,
        Act::LimitNegotiation,
    ),
    row(
        "",
        "no longer Negotiating",
        |t| t.old.disk == DiskState::Negotiating && t.new.disk != DiskState::Negotiating,
        Act::NegotiationOver,
    ),
    row(
        "A15 A17 A23",
        "a pause of ours changed, the handshake ended, or the disk became Inconsistent, while connected (not by a full sync, which \
         its source has announced)",
        |t| pause_changed(t) || left_handshake(t) || became_inconsistent(t),
        Act::SendState,
    ),
    row(
        "",
        "no longer waits for the source of a full sync",
        |t| t.old.awaits_source() && !t.new.awaits_source(),
        Act::SyncUuidOver,
    ),
    // The peer, whose disk has gone, takes ours for one that was given up.
    row(
        "",
        "the same, Connected, and the disk was not given up",
        |t| {
            t.old.awaits_source()
                && !t.new.awaits_source()
                && t.old.disk == DiskState::UpToDate
                && t.new.conn == ConnState::Connected
        },
        Act::SendState,
    ),
    row(
        "A19",
        "became StartingSyncS or StartingSyncT",
        |t| {
            t.new.conn != t.old.conn
                && matches!(
                    t.new.conn,
                    ConnState::StartingSyncS | ConnState::StartingSyncT
                )
        },
        Act::FullSync,
    ),
    // (L27) By its record it is as good as the peer's until the superblock is written.
    row(
        "",
        "the disk of a Primary became Inconsistent beside one that is UpToDate",
        |t| {
            became_inconsistent(t)
                && t.new.role == Role::Primary
                && t.new.pdsk == DiskState::UpToDate
        },
        Act::RecordInconsistent,
    ),
    // A resync target's own name is that of its mixture; what users saw is the source's data.
    row(
        "",
        "the target of a resync lost its disk",
        |t| {
            failed(t)
                && t.new.is_connected()
                && t.old.disk == DiskState::Inconsistent
                && t.new.pdsk == DiskState::UpToDate
                && t.facts.knows_peers_ids
        },
        Act::ExposePeers,
    ),
    // With a bitmap UUID set it made no new generation, and the peer's disk may carry the name of ours.
    row(
        "",
        "a Primary lost its UpToDate disk while alone, or beside a peer without a disk",
        |t| {
            failed(t)
                && (!t.new.is_connected() || !state::is_there(t.new.pdsk))
                && t.new.role == Role::Primary
                && t.old.disk == DiskState::UpToDate
        },
        Act::RememberOpenSource,
    ),
    // The peer, who lacks marked blocks, has the name under which they were written, or had it until the sync UUID came, if that came.
    row(
        "",
        "a Primary lost its disk before its marks were sent and synced, under one name",
        |t| {
            failed(t)
                && (t.old.conn == ConnState::WFBitMapS || is_source(t.old.conn))
                && t.new.role == Role::Primary
                && t.facts.one_name
                && t.facts.marked
        },
        Act::RememberOpenSource,
    ),
    row(
        "A20",
        "the disk failed while connected",
        |t| failed(t) && t.new.is_connected(),
        Act::SendState,
    ),
    row(
        "",
        "a good disk was lost beside one that is UpToDate and has moved on",
        |t| lost_beside_good(t) && t.facts.moved_on,
        Act::ExposeMovedOn,
    ),
    row(
        "",
        "a Primary lost a good disk beside one that is UpToDate",
        |t| lost_beside_good(t) && !t.facts.moved_on && t.new.role == Role::Primary,
        Act::AwaitRecordOfLoss,
    ),
    // (L11) The peer lacks blocks that only this disk had, or may lack them: not one request may be served by it before a new
    // handshake has compared its generation with what users have seen.
    row(
        "",
        "a Primary lost its disk before its resync began",
        |t| {
            failed(t)
                && t.new.role == Role::Primary
                && matches!(
                    t.old.conn,
                    ConnState::WFReportParams | ConnState::WFBitMapS | ConnState::StartingSyncS
                )
        },
        Act::Reconnect,
    ),
    row("A20", "the disk failed", failed, Act::DiskFailed),
    row(
        "",
        "no UpToDate peer",
        |t| !t.new.is_connected() || t.new.pdsk != DiskState::UpToDate,
        Act::LossSettled,
    ),
    row(
        "A22",
        "the disk became Diskless while connected",
        |t| diskless(t) && t.new.is_connected(),
        Act::SendState,
    ),
    row(
        "A22",
        "the disk became Diskless, and is gone",
        |t| diskless(t) && !t.facts.has_disk,
        Act::CloseDisk,
    ),
    // Given up by a rule: the connection was lost while the disk was negotiated.
    row(
        "A22",
        "the disk became Diskless, and is here",
        |t| diskless(t) && t.facts.has_disk,
        Act::GiveDiskUp,
    ),
    // (L1) The peer takes a disk that is negotiated for Consistent, and that for UpToDate.
    row(
        "",
        "a disk that was attached while connected stays Outdated",
        |t| {
            t.old.disk == DiskState::Negotiating
                && t.new.disk == DiskState::Outdated
                && t.new.conn == ConnState::Connected
        },
        Act::SendState,
    ),
    row(
        "A24",
        "both disks are attached and Connected, and the device grew before",
        |t| both_attached(&t.new) && t.new.conn == ConnState::Connected && t.facts.grew,
        Act::ResyncGrowth,
    ),
    row(
        "A26",
        "a resync ended on its target, and nothing is to be recorded before that is told",
        |t| target_ended(t) && !t.facts.announces_end,
        Act::SendState,
    ),
    row(
        "A26",
        "a resync ended on its target",
        |t| target_ended(t) && t.facts.announces_end,
        Act::AnnounceEnd,
    ),
    row(
        "A27",
        "a verify driven here ended, and the peer hears of that by a state",
        |t| {
            t.old.conn == ConnState::VerifyS
                && t.new.conn == ConnState::Connected
                && t.facts.verify_ends_with_state
        },
        Act::SendState,
    ),
    row("", "always", |_| true, Act::Retry),
];
