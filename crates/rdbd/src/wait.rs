//! When `wait-connect` and `wait-sync` end (`docs/spec/behaviour.md`, section 11.1).

use rdb_control::WaitTimes;
use rdb_engine::VolumeStatus;
use rdb_engine::state::{ConnState, DiskState};

/// The one time limit that counts, picked when the wait begins; 0 is none.
pub(crate) fn time_limit_s(volume: &VolumeStatus, times: &WaitTimes) -> u32 {
    if volume.state.pdsk == DiskState::Outdated {
        times.outdated_wfc_s
    } else if volume.degraded {
        times.degr_wfc_s
    } else {
        times.wfc_s
    }
}

/// Whether the wait has its end: by success, or because nothing will come any more.
pub(crate) fn is_over(conn: ConnState, wait_after_sb: bool, for_sync: bool) -> bool {
    let is_reached = if for_sync {
        conn == ConnState::Connected
    } else {
        conn >= ConnState::Connected
    };
    is_reached || (conn < ConnState::Unconnected && !wait_after_sb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_as_drbds_does() {
        use ConnState as C;
        for (conn, connect, sync) in [
            (C::StandAlone, true, true),
            (C::Disconnecting, true, true),
            (C::Unconnected, false, false),
            (C::WFConnection, false, false),
            (C::WFReportParams, false, false),
            (C::Connected, true, true),
            (C::SyncTarget, true, false),
            (C::PausedSyncS, true, false),
        ] {
            assert_eq!(is_over(conn, false, false), connect, "{conn}");
            assert_eq!(is_over(conn, false, true), sync, "{conn}");
        }
        assert!(!is_over(C::StandAlone, true, false));
        assert!(is_over(C::Connected, true, true));
    }
}
