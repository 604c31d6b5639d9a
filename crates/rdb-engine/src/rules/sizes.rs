//! Which P_SIZES may change the size of our device, and to what (`docs/spec/behaviour.md`, sections 6.4, 6.5 and 12.10).
//!
//! There are three occasions: the handshake, the attach of a disk on either side, and a resize that the peer's administrator
//! asks for, which announces 0 as the device's size. At any other time what the peer says is noted and changes nothing.
//! Nowhere does a device become smaller than what its users have: not under a Primary, and not on a disk that holds data,
//! unless the Primary's administrator says so on the other node while both are in sync. DRBD takes an online shrink from any
//! peer; that is one of the two differences, and the other is that no size beyond DRBD's own limit is believed.

use rdb_meta::layout::DEVICE_SECTORS_MAX;

use crate::state::{self, ConnState, DiskState, Role, VolumeState};

/// What the rule looks at. All sizes are in sectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Our state record.
    pub state: VolumeState,
    /// What our disk is worth: its state, or while that is Negotiating what it would be alone.
    pub worth: DiskState,
    /// A disk of ours is on its way in or out: it announces itself when it is there.
    pub moving: bool,
    /// Room on our disk, if it is attached.
    pub usable: Option<u64>,
    /// Our `size` option; 0 if there is none.
    pub user: u64,
    /// The device now; 0 while unknown.
    pub size: u64,
    /// What the peer says of its disk; 0 if it has none.
    pub peer_disk: u64,
    /// Of its `size` option; 0 if there is none.
    pub peer_user: u64,
    /// Of its device; 0 asks for a resize.
    pub peer_device: u64,
}

/// What follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The size stays.
    Keep,
    /// The device gets this size.
    Set(u64),
    /// The device would be smaller than what users have: no connection to such a peer (6.5, rows 3 and 5).
    TooSmall(u64),
    /// No right peer sends that.
    Wrong(Wrong),
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Wrong {
    /// Larger than any device of DRBD's.
    #[error("a size of {0} sectors, beyond the {DEVICE_SECTORS_MAX} of the largest device")]
    Impossible(u64),
    /// A shrink that nobody here has agreed to.
    #[error("the device would shrink from {from} to {to} sectors, which is not agreed")]
    Shrinks {
        /// The device now.
        from: u64,
        /// What the peer wants.
        to: u64,
    },
}

/// When a size is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occasion {
    /// The volume's handshake is not over.
    Handshake,
    /// One of the disks comes.
    Attach,
    /// The peer's administrator resizes.
    Resize,
    /// None of these.
    Other,
}

/// When this is told.
pub fn occasion(facts: &Facts) -> Occasion {
    let state = &facts.state;
    let comes = state.disk <= DiskState::Attaching
        || state.disk == DiskState::Negotiating
        || !state::is_there(state.pdsk);
    if state.conn < ConnState::Connected {
        Occasion::Handshake
    } else if state.conn > ConnState::Connected {
        Occasion::Other
    } else if comes {
        Occasion::Attach
    } else if facts.peer_device == 0 {
        Occasion::Resize
    } else {
        Occasion::Other
    }
}

/// What the pair can hold (6.4): the room on the peer's disk and ours, what was agreed on last, and a `size` option.
pub fn agreed(peer: u64, usable: u64, last_agreed: u64, user: u64) -> u64 {
    let size = if peer != 0 && usable != 0 {
        peer.min(usable)
    } else if last_agreed != 0 {
        let cap = |size: u64, limit: u64| if limit == 0 { size } else { size.min(limit) };
        cap(cap(last_agreed, usable), peer)
    } else if peer != 0 {
        peer
    } else {
        usable
    };
    if user != 0 && user <= size {
        user
    } else {
        size
    }
}

/// The smaller one of two limits, of which 0 is none.
pub fn smaller_limit(a: u64, b: u64) -> u64 {
    match (a, b) {
        (0, limit) | (limit, 0) => limit,
        (a, b) => a.min(b),
    }
}

/// What a pair whose device has grown does about the new space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Growth {
    /// It is synced as soon as both disks are there and nothing else is under way.
    Later,
    /// It is synced from here.
    Source,
    /// It is synced from the peer.
    Target,
}

/// From where the new space is synced (6.6): from the Primary, or from the tie breaker if the roles are equal.
pub fn growth(state: &VolumeState, tie_breaker: bool) -> Growth {
    let there = |disk| disk >= DiskState::Inconsistent;
    if state.conn != ConnState::Connected || !there(state.disk) || !there(state.pdsk) {
        return Growth::Later;
    }
    let is_source = if state.role == state.peer {
        tie_breaker
    } else {
        state.role == Role::Primary
    };
    if is_source {
        Growth::Source
    } else {
        Growth::Target
    }
}

/// Whether two disks differ so much in size that it is worth a line: one of them may be the wrong one.
pub fn differ_much(usable: u64, peer_disk: u64) -> bool {
    peer_disk != 0 && peer_disk.abs_diff(usable) > usable / 8
}

/// What follows from a received P_SIZES.
pub fn decide(facts: &Facts) -> Verdict {
    let told = [facts.peer_disk, facts.peer_user, facts.peer_device];
    if let Some(size) = told.into_iter().find(|&size| size > DEVICE_SECTORS_MAX) {
        return Verdict::Wrong(Wrong::Impossible(size));
    }
    let occasion = occasion(facts);
    if facts.moving || occasion == Occasion::Other {
        return Verdict::Keep;
    }
    let size = match facts.usable {
        Some(usable) => {
            let user = smaller_limit(facts.user, facts.peer_user);
            agreed(facts.peer_disk, usable, facts.size, user)
        }
        None => without_disk(facts),
    };
    if size == 0 || size == facts.size {
        return Verdict::Keep;
    }
    if size > facts.size {
        return Verdict::Set(size);
    }
    let state = &facts.state;
    let primary = state.role == Role::Primary;
    let holds_data = facts.usable.is_some() && facts.worth >= DiskState::Outdated;
    match occasion {
        Occasion::Resize if !primary && (state.peer == Role::Primary || !holds_data) => {
            Verdict::Set(size)
        }
        Occasion::Handshake if primary || holds_data => Verdict::TooSmall(size),
        Occasion::Handshake => Verdict::Set(size),
        // (A right node does not attach a disk that is too small for the device.)
        Occasion::Attach if !primary && !holds_data => Verdict::Set(size),
        _ => Verdict::Wrong(Wrong::Shrinks {
            from: facts.size,
            to: size,
        }),
    }
}

/// Without a disk of our own the device is what the peer has: its device, else its `size` option, else its disk; but never
/// more than its disk.
fn without_disk(facts: &Facts) -> u64 {
    let told = [facts.peer_device, facts.peer_user, facts.peer_disk];
    let size = told.into_iter().find(|&size| size != 0).unwrap_or(0);
    match facts.peer_disk {
        0 if facts.size != 0 => facts.size, // a peer without a disk knows no better
        0 => size,
        disk => size.min(disk),
    }
}
