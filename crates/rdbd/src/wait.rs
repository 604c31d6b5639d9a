//! When `wait-connect` and `wait-sync` end (`docs/spec/behaviour.md`, section 11.1).

use std::time::Duration;

use rdb_control::{Refusal, WaitReport, WaitTimes, code};
use rdb_engine::VolumeStatus;
use rdb_engine::state::{ConnState, DiskState, VolumeState};
use tokio::time::{Instant, sleep, timeout_at};

use crate::caller;
use crate::node::Node;
use crate::ops::WAIT_POLL;
use crate::outcome::{Failure, Outcome};
use crate::reasons;

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

impl Node {
    /// `wait-connect` and `wait-sync` (`docs/spec/behaviour.md`, section 11.1; what will not come is refused).
    pub(crate) async fn wait(
        &self,
        minor: u32,
        times: WaitTimes,
        for_sync: bool,
    ) -> Outcome<WaitReport> {
        let first = self.volume_status(&self.target(minor)?).await?;
        let seconds = time_limit_s(&first, &times);
        let deadline =
            (seconds > 0).then(|| Instant::now() + Duration::from_secs(u64::from(seconds)));
        let mut goes_down = false;
        loop {
            let changed = self.changed.notified();
            let found = self.wait_state(minor).await;
            let stands = match found {
                // The next program is asked as soon as this one closes the connection.
                _ if self.life.is_being_replaced() => Wait::Goes,
                _ if self.keeper.is_over() => {
                    let info = "rdbd is ending, and this is taken down with it";
                    return Err(Refusal::failure(code::RES_NOT_KNOWN, info).into());
                }
                // It was there.
                Err(Failure::Refused(refusal)) if refusal.code == code::MINOR_INVALID => {
                    return Err(taken_down());
                }
                Err(failure) => return Err(failure),
                Ok((state, is_on_its_way_down)) => {
                    goes_down = is_on_its_way_down;
                    stands(state.conn, times.wait_after_sb, for_sync)
                }
            };
            match stands {
                Wait::Reached => return Ok(WaitReport { reached: true }),
                Wait::Hopeless if !goes_down => return Err(self.hopeless(minor).await?),
                Wait::Goes | Wait::Hopeless => {}
            }
            let soon = async {
                tokio::select! {
                    () = changed => Ok(()),
                    () = sleep(WAIT_POLL) => Ok(()),
                    () = caller::gone() => Err(caller::taken_back()),
                }
            };
            match deadline {
                None => soon.await?,
                Some(deadline) => match timeout_at(deadline, soon).await {
                    Ok(went) => went?,
                    Err(_) => return Ok(WaitReport { reached: false }),
                },
            }
        }
    }

    /// Why a wait for the peer has no end: nobody tries to connect.
    async fn hopeless(&self, minor: u32) -> Result<Failure, Failure> {
        let target = self.target(minor)?;
        let status = self.resource_status(&target).await?;
        let why = reasons::link(&target.name, &status).map_or_else(String::new, |why| {
            let advice = why
                .advice
                .map_or_else(String::new, |advice| format!("; {advice}"));
            format!(": {}{advice}", why.text)
        });
        let info = format!("{} is {}{why}", target.name, status.connection.state);
        Ok(Refusal::failure(code::INVALID_REQUEST, info).into())
    }
}

impl Node {
    /// The state of a volume, and whether its resource is being taken down.
    async fn wait_state(&self, minor: u32) -> Outcome<(VolumeState, bool)> {
        let target = self.target(minor)?;
        let state = self.volume_status(&target).await?.state;
        let registry = self.registry.lock();
        let entry = registry.get(&target.name);
        Ok((state, entry.is_some_and(|entry| entry.is_on_its_way_down)))
    }
}

fn taken_down() -> Failure {
    let info = "the resource was taken down while it was waited for";
    Refusal::failure(code::RES_NOT_KNOWN, info).into()
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
