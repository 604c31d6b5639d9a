//! What is known of the other side of a resync that is prepared, runs, or has ended unseen.

use crate::generation::Generation;
use crate::state::{Change, ConnState, DiskState, is_source};

/// What the source knows of its target's record (L48).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetRecord {
    /// It may be as good as ours: that it is a target is not known to be on it.
    Unproven,
    /// There is no resync, and nothing to be shown.
    Proven,
}

/// What a change of the connection's state says of the target's record, if anything. Without it a Primary would go on beside a disk that
/// is as good by its record, and lacks what is marked here.
pub fn target(old: ConnState, new: ConnState) -> Option<TargetRecord> {
    match new {
        _ if old == new => None,
        ConnState::StartingSyncS | ConnState::WFBitMapS => Some(TargetRecord::Unproven),
        ConnState::Connected => Some(TargetRecord::Proven),
        _ => None,
    }
}

/// Whether the peer's names show that it is on record as the target of the resync from here, whose bitmap UUID is this: it has begun, and
/// tells so while that is paused.
pub fn is_shown(conn: ConnState, bitmap: Generation, told: Generation) -> bool {
    is_source(conn) && bitmap == told
}

/// What the target does with a sync UUID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncUuid {
    /// The resync begins.
    Begins,
    /// It came before we were ready: it is kept until we are.
    Kept,
    /// It is of a resync that is given up here.
    Ignored,
}

/// P_SYNC_UUID has come. `asks`: this node has asked for a full sync from the peer, whose consent is on its way by the other socket.
pub fn sync_uuid(conn: ConnState, asks: bool) -> SyncUuid {
    match conn {
        ConnState::WFSyncUUID | ConnState::Behind => SyncUuid::Begins,
        ConnState::Connected if asks => SyncUuid::Kept,
        // The source was faster than our disk: it is taken when the bitmap is written.
        ConnState::WFBitMapT | ConnState::StartingSyncT => SyncUuid::Kept,
        _ => SyncUuid::Ignored,
    }
}

/// Whether one that is kept is of a resync that is given up. Without it the next resync would begin with the name of the one before,
/// and before its source has begun.
pub fn early_uuid_is_over(old: ConnState, new: ConnState) -> bool {
    let ends = new <= ConnState::Connected && old != new;
    let begins = old <= ConnState::Connected && new > ConnState::Connected;
    // (Only of a full sync that we have asked for the UUID can come before we have begun.)
    ends || begins && new != ConnState::StartingSyncT
}

/// What a source becomes when the bitmaps are one.
pub fn source_begins() -> Change {
    Change::conn(ConnState::SyncSource).and_pdsk(DiskState::Inconsistent)
}

/// What a target becomes with the sync UUID: nothing is overwritten before that is on record (I12).
pub fn target_begins() -> Change {
    Change::conn(ConnState::SyncTarget).and_disk(DiskState::Inconsistent)
}

/// What a source becomes whose target is done; `disk`: what its own disk is worth.
pub fn source_ends(disk: DiskState) -> Change {
    Change::conn(ConnState::Connected)
        .and_disk(disk)
        .and_pdsk(DiskState::UpToDate)
}

/// What becomes of a source whose target is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceEnd {
    /// Answers are on their way that may take marks away.
    Waits,
    /// It is over.
    Done,
    /// So many blocks are marked here of which the target knows nothing, and never will in this connection.
    Differs {
        /// How many.
        left: u64,
    },
}

/// The target is done, and so many blocks are `left` marked here: marks may go with users' writes that have not ended yet. `passed_on`: a
/// write of ours has failed, whose mark stays. `settled`: every write that was open when the target said so has ended. Without it the
/// source would be one for ever.
pub fn source_end(left: u64, passed_on: bool, settled: impl FnOnce() -> bool) -> SourceEnd {
    if left == 0 || passed_on {
        SourceEnd::Done
    } else if settled() {
        SourceEnd::Differs { left }
    } else {
        SourceEnd::Waits
    }
}

/// What a target becomes; one that could not get every block stays Inconsistent.
pub fn target_ends(is_whole: bool) -> Change {
    let change = Change::conn(ConnState::Connected).and_pdsk(DiskState::UpToDate);
    match is_whole {
        true => change.and_disk(DiskState::UpToDate),
        false => change,
    }
}

/// Whether a source, with so many blocks marked and so many of them not to be had, has nothing left to send: its target may be at its end,
/// unseen from here.
pub fn is_all_sent(conn: ConnState, marked: u64, failed: u64) -> bool {
    is_source(conn) && marked <= failed
}
