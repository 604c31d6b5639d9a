//! Which states a peer may tell of by P_STATE, and what follows from one that is right (`docs/spec/wire.md`, section 5.7).

use crate::state::{self, Change, ConnState, DiskState, Role, VolumeState, is_source};
use crate::sync_decision::{FailEffect, Outcome};

/// What the rule looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Our state record.
    pub own: VolumeState,
    /// The record of the packet, in the peer's terms.
    pub told: VolumeState,
    /// The peer's generations are known.
    pub has_uuids: bool,
    /// The peer's writes go by protocol A.
    pub protocol_a: bool,
}

/// Why no right peer tells that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Wrong {
    /// A node knows its own role and its own disk.
    #[error("it does not know its own role or disk")]
    Unknown,
    /// A promotion asks first, and is refused while we are Primary.
    #[error("it is Primary, and so are we")]
    TwoPrimaries,
    /// A disk is told of with its generations before.
    #[error("a disk without P_UUIDS")]
    NoUuids,
    /// Only a Primary with good data, by protocol A, goes ahead of a Secondary.
    #[error("it is Ahead, and nothing that we know of it makes that possible")]
    Ahead,
}

/// Whether a right peer can tell this.
pub fn check(facts: &Facts) -> Result<(), Wrong> {
    let Facts {
        own,
        told,
        has_uuids,
        protocol_a,
    } = *facts;
    let connected = own.conn >= ConnState::Connected;
    if told.role == Role::Unknown || told.disk == DiskState::DUnknown {
        return Err(Wrong::Unknown);
    }
    if connected && own.role == Role::Primary && told.role == Role::Primary {
        return Err(Wrong::TwoPrimaries);
    }
    // (Own disks that are not there have nothing to be compared with. One that attaches while Connected asks anew.)
    let first = !connected && own.disk >= DiskState::Negotiating;
    if !has_uuids
        && told.disk >= DiskState::Negotiating
        && (first || told.disk == DiskState::Negotiating)
    {
        return Err(Wrong::NoUuids);
    }
    let justified = connected
        && protocol_a
        && own.role == Role::Secondary
        && told.role == Role::Primary
        && told.disk == DiskState::UpToDate;
    if told.conn == ConnState::Ahead && !justified {
        return Err(Wrong::Ahead);
    }
    Ok(())
}

/// What a state comes to before generations are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// The driver of a verify has come to its end, which may be a sector that it knows alone.
    VerifyEnded,
    /// The target says that it is done. (Our own end of the resync may take a while.)
    TargetDone,
    /// The target has ended with blocks that could not be synced, or has failed to write one since it ended.
    TargetEndedInconsistent,
    /// It goes on with this.
    Told(Told),
}

/// What is taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// What the peer's disk is for us.
    pub pdsk: DiskState,
    /// The state of the connection.
    pub conn: ConnState,
}

/// What the peer's state means beside ours. `disk`: what its disk is, after a look at its generations if that is being
/// negotiated ([`crate::sync_decision::effective_peer_disk`]).
pub fn meaning(own: VolumeState, told: VolumeState, disk: DiskState) -> Meaning {
    let preparing = (ConnState::StartingSyncS..=ConnState::WFSyncUUID).contains(&told.conn);
    let source = is_source(own.conn);
    if own.conn == ConnState::VerifyT
        && told.conn == ConnState::Connected
        && disk == DiskState::UpToDate
    {
        return Meaning::VerifyEnded;
    }
    let mut pdsk = disk;
    if source && preparing && pdsk == DiskState::Outdated {
        // Told before our sync UUID came to it: it begins, and says no more of that. Paused, we would see it Consistent.
        pdsk = DiskState::Inconsistent;
    }
    if matches!(own.pdsk, DiskState::Inconsistent | DiskState::Consistent)
        && pdsk == DiskState::UpToDate
        && own.conn > ConnState::Connected
        && own.disk == DiskState::UpToDate
    {
        if preparing {
            pdsk = DiskState::Inconsistent;
        } else if own.conn >= ConnState::SyncSource && told.conn == ConnState::Connected {
            return Meaning::TargetDone;
        }
    }
    if source && told.conn == ConnState::Connected && pdsk == DiskState::Inconsistent {
        // (It has told us before that it begins. The kernel's driver waits for ever.)
        return Meaning::TargetEndedInconsistent;
    }
    if own.pdsk == DiskState::UpToDate
        && pdsk == DiskState::Inconsistent
        && own.conn == ConnState::Connected
        && told.conn > ConnState::SyncSource
    {
        pdsk = DiskState::UpToDate;
    }
    if own.conn == ConnState::Connected
        && own.disk == DiskState::UpToDate
        && own.pdsk == DiskState::UpToDate
        && (told.disk, told.pdsk) == (DiskState::Inconsistent, DiskState::Inconsistent)
    {
        // Told before it heard that the first sync is skipped: it takes our disk for what that was before. It tells of its own
        // again. (A Primary would begin a generation for a disk that lacks nothing, which only one of the two nodes knows.)
        pdsk = DiskState::UpToDate;
    }
    let conn = match (own.conn, told.conn) {
        (_, ConnState::Ahead) => ConnState::Behind,
        (ConnState::WFReportParams, _) => ConnState::Connected,
        (conn, _) => conn,
    };
    Meaning::Told(Told { pdsk, conn })
}

/// Why a right peer's state and ours cannot go on together, if they cannot: packets have crossed, and one node has acted on what
/// is no more. The next handshake compares what both have. This is asked before [`meaning`].
pub fn contradiction(own: VolumeState, told: VolumeState) -> Option<&'static str> {
    if own.conn < ConnState::Connected {
        return None;
    }
    if own.conn == ConnState::Connected && own.disk == DiskState::Outdated && is_source(told.conn) {
        // Our part of the resync was given up with a change that the peer asked for and has not made after all. What is here is
        // still old, and nothing else says so to whoever reads the two states.
        return Some("the peer goes on with a resync that was given up here");
    }
    let bitmaps = [ConnState::WFBitMapS, ConnState::WFBitMapT];
    if own.conn == told.conn && bitmaps.contains(&own.conn) {
        // Both have attached a disk, and one took a new generation after the other had decided by its old one.
        return Some("both nodes have decided to be the same side of a resync");
    }
    let gone = matches!(own.pdsk, DiskState::Diskless | DiskState::Failed);
    if gone && state::is_there(told.disk) {
        // (L22) A detach came to nothing after we had consented. What was written here since is not there; an attach would be told
        // of as Negotiating, and compared.
        return Some("the peer's disk, which was given up, is there after all");
    }
    None
}

/// Whether the generations of both disks are compared now, and it is decided who syncs whom. `due`: a forced promotion of the
/// peer has made that due; but not once a full sync begins that both have agreed on, whose end makes the disks equal.
pub fn compares(own: VolumeState, told: VolumeState, due: bool) -> bool {
    let both_attached = told.disk >= DiskState::Negotiating && own.disk >= DiskState::Negotiating;
    let negotiating = told.disk == DiskState::Negotiating || own.disk == DiskState::Negotiating;
    let wants = (ConnState::StartingSyncS..=ConnState::WFBitMapT).contains(&told.conn);
    let now = own.conn < ConnState::Connected
        || (own.conn == ConnState::Connected && (negotiating || wants || due));
    both_attached && now
}

/// (L37) Whether the peer attaches its disk while we are connected: until now its users, if it has any, were on ours.
pub fn attaches(own: &VolumeState, told: &VolumeState) -> bool {
    own.is_connected() && told.disk == DiskState::Negotiating
}

/// What becomes of what the peer has told when the generations have been compared; nothing if the connection is left. `fail`: what no
/// agreement does ([`crate::sync_decision::fail_effect`]).
pub fn decided(told: Told, outcome: Outcome, fail: FailEffect) -> Option<Told> {
    let (conn, pdsk) = match (outcome, fail) {
        (Outcome::Connected, _) => (ConnState::Connected, told.pdsk),
        (Outcome::Source { .. }, _) => (ConnState::WFBitMapS, told.pdsk),
        (Outcome::Target { .. }, _) => (ConnState::WFBitMapT, told.pdsk),
        (Outcome::Fail(_), FailEffect::DetachOwn) => (ConnState::Connected, told.pdsk),
        (Outcome::Fail(_), FailEffect::PeerStaysDiskless) => {
            (ConnState::Connected, DiskState::Diskless)
        }
        (Outcome::Fail(_), FailEffect::Retry | FailEffect::StandAlone) => return None,
    };
    Some(Told { pdsk, conn })
}

/// (L25) Whether it is looked at, now that this is decided, if our own disk, which is negotiated, is older than what our users have seen: the
/// disk that they are on may have gone, or be worth less. A target is overwritten, which is another matter.
pub fn may_give_up_older(own: &VolumeState, decided: Told) -> bool {
    decided.conn != ConnState::WFBitMapT
        && own.disk == DiskState::Negotiating
        && own.role == Role::Primary
}

/// The change of our record. `negotiated`: what our disk, if it is being negotiated, becomes by the comparison; nothing without
/// one. (Without a disk of the peer's there is nothing to compare.)
pub fn change(
    own: VolumeState,
    told: VolumeState,
    taken: Told,
    negotiated: Option<DiskState>,
) -> Change {
    let change = Change::conn(taken.conn)
        .and_peer(told.role)
        .and_pdsk(taken.pdsk)
        .and_peer_isp(told.aftr_isp || told.user_isp);
    let ours = matches!(taken.conn, ConnState::Connected | ConnState::WFBitMapS);
    match negotiated {
        Some(disk) if own.disk == DiskState::Negotiating && ours => change.and_disk(disk),
        _ => change,
    }
}

/// What the peer is told once the change is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Our resync was given up, with the peer's disk, before it began here, and the peer believes that it did: it hears our
    /// state. Or our disk was negotiated, and stays Consistent only (L54).
    pub state: bool,
    /// A late decision (a forced promotion): the peer hears of it, our generations and our state, and decides the same. (L26) One that
    /// has just lost its disk decides nothing, and takes a generation that it is told for one that is on our record.
    pub decision: bool,
}

/// `before` and `after` are our records, `conn` what was wanted of the connection.
pub fn answer(
    before: VolumeState,
    after: VolumeState,
    told: VolumeState,
    conn: ConnState,
) -> Answer {
    let given_up = (after.disk, told.pdsk) == (DiskState::Outdated, DiskState::Inconsistent);
    let stays_consistent = before.disk == DiskState::Negotiating && after.awaits_word();
    Answer {
        state: [after.conn, told.conn] == [ConnState::Connected; 2] && given_up || stays_consistent,
        decision: before.conn > ConnState::WFReportParams
            && conn > ConnState::Connected
            && told.conn <= ConnState::Connected
            && state::is_there(told.disk),
    }
}
