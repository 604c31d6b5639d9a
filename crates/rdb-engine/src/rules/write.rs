//! Where a user's write goes, and when it may not start (`docs/spec/behaviour.md`, sections 8.1 and 8.3).

use crate::state::{self, ConnState, DiskState, VolumeState};

/// Where a write goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteWay {
    /// To our own disk.
    pub here: bool,
    /// To the peer, as data.
    pub there: bool,
    /// The peer is told of the marks that it sets here, since it is not sent to it.
    pub tells_marks: bool,
}

/// The way of a write that starts in this state; none if no good copy would have it. `has_disk`: the disk can take I/O; `is_up`: packets
/// can go to the peer. Without it a user would be told of a write that only a bad copy has.
pub fn way(state: VolumeState, has_disk: bool, is_up: bool) -> Option<WriteWay> {
    let there = is_up && state::should_replicate(state);
    let good_here = has_disk && state.disk == DiskState::UpToDate;
    let good_there = there && state.pdsk == DiskState::UpToDate;
    (good_here || good_there).then_some(WriteWay {
        here: has_disk,
        there,
        tells_marks: is_up && !there && state::should_send_out_of_sync(state),
    })
}

/// Whether a request waits for what the two nodes, or the node and its disk, are about to agree on: which data users see, and which blocks
/// are marked, is not decided.
pub fn is_preparing(state: &VolumeState) -> bool {
    matches!(state.conn, ConnState::WFBitMapT | ConnState::WFSyncUUID)
        || matches!(state.disk, DiskState::Attaching | DiskState::Negotiating)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_goes_nowhere_if_no_good_copy_would_have_it() {
        use DiskState::{Diskless, Inconsistent, UpToDate};
        for (conn, disk, pdsk, expected) in [
            // here, there, and the peer is told of marks
            (ConnState::Connected, UpToDate, UpToDate, "ht"),
            (ConnState::Connected, UpToDate, Inconsistent, "h"),
            (ConnState::Connected, Diskless, UpToDate, "t"),
            (ConnState::WFConnection, UpToDate, DiskState::DUnknown, "h"),
            (ConnState::WFBitMapS, UpToDate, Inconsistent, "hm"),
            (ConnState::SyncSource, UpToDate, Inconsistent, "ht"),
            (ConnState::SyncTarget, Inconsistent, UpToDate, "ht"),
            (ConnState::SyncSource, Inconsistent, Inconsistent, ""),
            (ConnState::WFConnection, Inconsistent, UpToDate, ""),
        ] {
            let state = VolumeState {
                conn,
                disk,
                pdsk,
                ..VolumeState::INITIAL
            };
            let has_disk = disk >= Inconsistent;
            let way = way(state, has_disk, conn >= ConnState::Connected);
            let parts = way.map_or([false; 3], |way| [way.here, way.there, way.tells_marks]);
            let words = parts.into_iter().zip(["h", "t", "m"]);
            let words: alloc::string::String =
                words.filter(|(is, _)| *is).map(|(_, word)| word).collect();
            assert_eq!(words, expected, "{state}");
        }
    }
}
