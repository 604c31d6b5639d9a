//! Which changes of state a peer may ask for: P_STATE_CHG_REQ and P_CONN_ST_CHG_REQ (`docs/spec/behaviour.md`, section 2.7;
//! `docs/spec/wire.md`, section 11).
//!
//! DRBD's responder turns mask and value into its own terms and applies whatever comes out. What 8.4 and 9.3 ask for is a
//! short list, [`REQUESTS`]; the rest is refused by leaving the peer, since nobody who is right sends it: our role, our
//! suspension, our pauses and our disk are ours, with the one exception of a Primary that parts from us and has our copy
//! outdated. What is on the list goes on to the ordinary rules of a change, and is answered with their code if they refuse.

use crate::state::{Change, ConnState, DiskState, Role, StateError};

/// Which packet asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// P_STATE_CHG_REQ.
    Volume,
    /// P_CONN_ST_CHG_REQ.
    Connection,
}

/// What a right peer asks for, in its own terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// To become Primary.
    Promote,
    /// The same, and its disk is declared UpToDate by force.
    PromoteByForce,
    /// To become Secondary (DRBD 9 asks; 8.4 tells).
    Demote,
    /// To give its disk up.
    Detach,
    /// To call its disk Outdated.
    Outdate,
    /// To have its data replaced by ours.
    Invalidate,
    /// To have our data replaced by its own.
    InvalidateRemote,
    /// To verify, driven by it.
    Verify,
    /// To part.
    Disconnect,
    /// To part, and its disk is Outdated.
    DisconnectOutdated,
    /// To part, and our disk is Outdated.
    DisconnectOutdatingUs,
    /// Nothing at all.
    Nothing,
}

/// A row of the list.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What it is.
    pub request: Request,
    /// What is asked, in the sender's terms.
    pub change: Change,
    /// Asked of one volume.
    pub volume: bool,
    /// Asked of the connection.
    pub connection: bool,
    /// In words.
    pub words: &'static str,
}

const NONE: Change = Change {
    role: None,
    peer: None,
    conn: None,
    disk: None,
    pdsk: None,
    aftr_isp: None,
    peer_isp: None,
    user_isp: None,
    susp: None,
    susp_nod: None,
    susp_fen: None,
};

const fn role(role: Role) -> Change {
    Change {
        role: Some(role),
        ..NONE
    }
}

const fn conn(conn: ConnState) -> Change {
    Change {
        conn: Some(conn),
        ..NONE
    }
}

const fn disk(disk: DiskState) -> Change {
    Change {
        disk: Some(disk),
        ..NONE
    }
}

const fn row(
    request: Request,
    change: Change,
    volume: bool,
    connection: bool,
    words: &'static str,
) -> Row {
    Row {
        request,
        change,
        volume,
        connection,
        words,
    }
}

/// Everything that a right peer asks for.
pub const REQUESTS: &[Row] = &[
    row(
        Request::Promote,
        role(Role::Primary),
        true,
        true,
        "it becomes Primary",
    ),
    row(
        Request::PromoteByForce,
        Change {
            disk: Some(DiskState::UpToDate),
            ..role(Role::Primary)
        },
        true,
        true,
        "it becomes Primary, and its disk UpToDate; not while ours is",
    ),
    row(
        Request::Demote,
        role(Role::Secondary),
        true,
        true,
        "it becomes Secondary",
    ),
    row(
        Request::Detach,
        disk(DiskState::Failed),
        true,
        false,
        "it gives its disk up",
    ),
    row(
        Request::Outdate,
        disk(DiskState::Outdated),
        true,
        false,
        "its disk is Outdated",
    ),
    row(
        Request::Invalidate,
        conn(ConnState::StartingSyncT),
        true,
        false,
        "its data are replaced by ours, which are UpToDate",
    ),
    row(
        Request::InvalidateRemote,
        conn(ConnState::StartingSyncS),
        true,
        false,
        "our data are replaced by its own, which are UpToDate",
    ),
    row(
        Request::Verify,
        conn(ConnState::VerifyS),
        true,
        false,
        "it drives a verify",
    ),
    row(
        Request::Disconnect,
        conn(ConnState::Disconnecting),
        false,
        true,
        "it parts from us",
    ),
    row(
        Request::DisconnectOutdated,
        Change {
            disk: Some(DiskState::Outdated),
            ..conn(ConnState::Disconnecting)
        },
        false,
        true,
        "it parts from us, and its disk is Outdated",
    ),
    row(
        Request::DisconnectOutdatingUs,
        Change {
            pdsk: Some(DiskState::Outdated),
            ..conn(ConnState::Disconnecting)
        },
        false,
        true,
        "it parts from us, and our disk is Outdated: it is Primary, and has good data of its own",
    ),
    row(Request::Nothing, NONE, true, true, "nothing"),
];

/// The request that this is; none if no right peer asks for that.
pub fn recognise(scope: Scope, change: &Change) -> Option<Request> {
    REQUESTS
        .iter()
        .find(|row| {
            row.change == *change
                && match scope {
                    Scope::Volume => row.volume,
                    Scope::Connection => row.connection,
                }
        })
        .map(|row| row.request)
}

/// What is looked at beside the ordinary rules, of one volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Our disk.
    pub disk: DiskState,
    /// The peer's.
    pub pdsk: DiskState,
    /// The peer's role.
    pub peer: Role,
    /// A write of ours has failed on the peer's disk, and it has not said yet what became of that.
    pub write_failed: bool,
}

/// Whether the request makes sense on this volume; then the ordinary rules look at the change.
pub fn makes_sense(request: Request, facts: &Facts) -> Result<(), StateError> {
    let peer_good = facts.pdsk == DiskState::UpToDate && !facts.write_failed;
    let refusal = match request {
        // A full sync from a disk that is no good. (L34) (What was true when it asked may not be true any more: if its disk has
        // failed since, ours alone has our users' writes.)
        Request::InvalidateRemote => (!peer_good).then_some(StateError::NoUpToDateDisk),
        Request::Invalidate => {
            (facts.disk != DiskState::UpToDate).then_some(StateError::NoUpToDateDisk)
        }
        // The state would be made and taken back at once, which the peer would take for consent: it has not heard of a disk that is
        // lost here.
        Request::Verify => {
            (facts.disk != DiskState::UpToDate || !peer_good).then_some(StateError::NoUpToDateDisk)
        }
        // Force is for when there are no good data.
        Request::PromoteByForce => {
            (facts.disk == DiskState::UpToDate).then_some(StateError::ConcurrentChange)
        }
        // Nobody's only good copy is outdated by the one who goes.
        Request::DisconnectOutdatingUs => {
            let copy = facts.disk > DiskState::Outdated;
            let elsewhere = facts.peer == Role::Primary && facts.pdsk == DiskState::UpToDate;
            (copy && !elsewhere).then_some(StateError::NoUpToDateDisk)
        }
        _ => None,
    };
    refusal.map_or(Ok(()), Err)
}
