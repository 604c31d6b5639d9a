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

/// How a wait stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It goes on.
    Goes,
    /// What was waited for is there.
    Reached,
    /// It will not come: nobody tries to connect. DRBD's command ends with 0 then, as if it had come.
    Hopeless,
}

/// How the wait stands with this connection state.
pub(crate) fn stands(conn: ConnState, wait_after_sb: bool, for_sync: bool) -> Wait {
    let is_reached = if for_sync {
        conn == ConnState::Connected
    } else {
        conn >= ConnState::Connected
    };
    if is_reached {
        Wait::Reached
    } else if conn < ConnState::Unconnected && !wait_after_sb {
        Wait::Hopeless
    } else {
        Wait::Goes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_it_is_there_or_will_not_come() {
        use ConnState as C;
        use Wait::{Goes, Hopeless, Reached};
        for (conn, connect, sync) in [
            (C::StandAlone, Hopeless, Hopeless),
            (C::Disconnecting, Hopeless, Hopeless),
            (C::Unconnected, Goes, Goes),
            (C::WFConnection, Goes, Goes),
            (C::WFReportParams, Goes, Goes),
            (C::Connected, Reached, Reached),
            (C::SyncTarget, Reached, Goes),
            (C::PausedSyncS, Reached, Goes),
        ] {
            assert_eq!(stands(conn, false, false), connect, "{conn}");
            assert_eq!(stands(conn, false, true), sync, "{conn}");
        }
        assert_eq!(stands(C::StandAlone, true, false), Goes);
        assert_eq!(stands(C::Connected, true, true), Reached);
    }
}
