//! Which states a peer may tell of by P_STATE. What follows from one that is right is said by `docs/spec/wire.md`, section 5.7.

use crate::state::{ConnState, DiskState, Role, VolumeState};

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
