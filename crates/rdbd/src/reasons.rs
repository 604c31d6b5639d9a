//! Why something is not as it should be, in the words of the control socket.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use rdb_control::{HandlerReport, ReasonReport, ResourceReport};
use rdb_engine::Handler;
use rdb_engine::rules::advice_for;
use rdb_engine::state::{ConnState, VolumeState};
use rdb_engine::{DiskTrouble, LinkTrouble, ResourceStatus, SnapshotStatus, SyncProgress};

use crate::open_files;

/// Why a resource has no connection.
pub(crate) fn link(name: &str, status: &ResourceStatus) -> Option<ReasonReport> {
    match &status.connection.trouble {
        Some(LinkTrouble { kind, text, for_ms }) => Some(ReasonReport {
            word: kind.word().to_owned(),
            text: text.clone(),
            advice: kind.advice().map(|advice| advice_for(advice, name)),
            since_s: Some(ago(*for_ms)),
        }),
        None if status.connection.state == ConnState::StandAlone => Some(ReasonReport {
            word: "not-connected".to_owned(),
            text: "this node has not been told to connect".to_owned(),
            advice: Some(advice_for("'rdbadm connect RES'", name)),
            since_s: None,
        }),
        None => None,
    }
}

/// How commands name a volume, so that they touch no other one of its resource.
pub(crate) fn volume_name(resource: &str, number: u16, volumes: usize) -> String {
    match (number, volumes) {
        (0, 0 | 1) => resource.to_owned(),
        _ => format!("{resource}/{number}"),
    }
}

/// Why a disk is not UpToDate; `name` is the volume's.
pub(crate) fn disk(name: &str, trouble: Option<&DiskTrouble>) -> Option<ReasonReport> {
    let DiskTrouble { reason, for_ms } = trouble?;
    Some(ReasonReport {
        word: reason.word().to_owned(),
        text: reason.to_string(),
        advice: reason.advice().map(|advice| advice_for(advice, name)),
        since_s: for_ms.map(ago),
    })
}

/// Names the limit of open files in reasons that come of it, and what helps: their own advice is about what else may be behind them.
pub(crate) fn name_limits(report: &mut ResourceReport) {
    let of_volumes = report.volumes.iter_mut();
    let of_volumes = of_volumes.flat_map(|v| [&mut v.disk_reason, &mut v.device_reason]);
    let of_resource = [&mut report.link_reason, &mut report.record_reason];
    for reason in of_resource.into_iter().chain(of_volumes).flatten() {
        if open_files::are_short(&reason.text) {
            reason.text = open_files::named(&reason.text).into_owned();
            reason.advice = Some(open_files::ADVICE.to_owned());
        }
    }
}

/// Why a Primary has no device; `name` is the volume's.
pub(crate) fn device(name: &str, why: &str) -> ReasonReport {
    let advice = "once its reason is gone, 'rdbadm secondary RES' and 'rdbadm primary RES' make it; its NBD socket serves meanwhile, if \
                  there is one";
    ReasonReport {
        word: "no-device".to_owned(),
        text: format!("the device can not be made: {why}"),
        advice: Some(advice_for(advice, name)),
        since_s: None,
    }
}

/// Why a resync is paused, or no faster than it is; `name` is the volume's.
pub(crate) fn resync(
    name: &str,
    state: &VolumeState,
    sync: Option<&SyncProgress>,
) -> Option<ReasonReport> {
    let reason = |word: &str, text: &str, advice: Option<&str>| ReasonReport {
        word: word.to_owned(),
        text: text.to_owned(),
        advice: advice.map(|advice| advice_for(advice, name)),
        since_s: None,
    };
    if matches!(state.conn, ConnState::PausedSyncS | ConnState::PausedSyncT) {
        let paused = if state.user_isp {
            (
                "paused-here",
                "'pause-sync' on this node",
                Some("'rdbadm resume-sync RES'"),
            )
        } else if state.peer_isp {
            (
                "paused-by-peer",
                "'pause-sync' on the peer, or a resync there that goes first",
                None,
            )
        } else if state.aftr_isp {
            (
                "dependency",
                "another resync goes first (resync-after)",
                None,
            )
        } else {
            return None;
        };
        let (word, text, advice) = paused;
        return Some(reason(word, &format!("paused: {text}"), advice));
    }
    let limit = sync?.limit?;
    Some(reason(limit.word(), &limit.to_string(), None))
}

/// Why requests of users wait, on all volumes alike; `name` is the resource's.
pub(crate) fn io(name: &str, status: &ResourceStatus) -> Option<ReasonReport> {
    let mut since = None;
    let (mut waiting, mut states) = (0, VolumeState::INITIAL);
    for volume in &status.volumes {
        let Some(frozen) = volume.frozen else {
            continue;
        };
        waiting += frozen.requests;
        since = since.max(Some(frozen.for_ms));
        let VolumeState {
            susp,
            susp_nod,
            susp_fen,
            ..
        } = volume.state;
        states.susp |= susp;
        states.susp_nod |= susp_nod;
        states.susp_fen |= susp_fen;
    }
    let (word, why, advice) = if states.susp_fen {
        (
            "fencing",
            "the peer is not known to be fenced",
            "the handler fence-peer ends it, or the peer when it is back; once the peer is known to be down, 'rdbadm resume-io RES'",
        )
    } else if states.susp_nod {
        (
            "no-data",
            "no copy of the data can be reached",
            "a disk or a peer with data ends it; 'rdbadm resume-io RES' lets the requests fail",
        )
    } else if let Some(snapshot) = status.snapshot.filter(|s| states.susp || !s.is_own) {
        return Some(of_snapshot(name, waiting, snapshot));
    } else if states.susp {
        (
            "user",
            "'suspend-io' on this node",
            "'rdbadm resume-io RES'",
        )
    } else {
        return None;
    };
    Some(ReasonReport {
        word: word.to_owned(),
        text: format!("{waiting} requests of users wait: {why}"),
        advice: Some(advice_for(advice, name)),
        since_s: since.map(ago),
    })
}

/// What the daemon knows beyond the resource's own thread: how the handler has ended that users wait for, and that this node is about to
/// give its role up. `losing`: volumes that have lost a split brain by policy.
pub(crate) fn complete(resource: &mut ResourceReport, losing: &BTreeSet<u16>) {
    let runs = &resource.handlers;
    let fence = runs
        .iter()
        .find(|run| run.name == Handler::FencePeer.name());
    if let Some(reason) = resource
        .io_reason
        .as_mut()
        .filter(|reason| reason.word == "fencing")
        && let Some(advice) = fence_advice(fence, reason.since_s.unwrap_or(0))
    {
        reason.advice = Some(advice_for(&advice, &resource.name));
    }
    let volumes: Vec<String> = losing.iter().map(ToString::to_string).collect();
    if !volumes.is_empty() {
        let words = format!(
            "this node has lost a split brain with volume {}, and becomes Secondary as soon as nobody uses its device",
            volumes.join(", ")
        );
        match &mut resource.link_reason {
            Some(reason) => reason.text += &format!("; {words}"),
            None => {
                resource.link_reason = Some(ReasonReport {
                    word: "losing".to_owned(),
                    text: words,
                    advice: None,
                    since_s: None,
                });
            }
        }
    }
}

/// What ends the wait for the peer to be fenced, if the handler does not any more. `since_s`: since when users wait; a run of before tells
/// nothing of that.
fn fence_advice(run: Option<&HandlerReport>, since_s: u64) -> Option<String> {
    let rest = "the peer ends it when it is back; once the peer is known to be down, 'rdbadm resume-io RES'";
    match run {
        None => Some(format!("no handler fence-peer has been called; {rest}")),
        Some(HandlerReport {
            exit: Some(exit),
            since_s: begun_s,
            ..
        }) if *begun_s >= since_s => Some(format!(
            "the handler fence-peer has ended with {exit}, and has not fenced the peer; {rest}"
        )),
        Some(_) => None,
    }
}

/// A snapshot is taken, by this node or by the peer.
fn of_snapshot(name: &str, waiting: u32, snapshot: SnapshotStatus) -> ReasonReport {
    let (word, text, advice) = match snapshot.is_own {
        true => (
            "snapshot",
            format!(
                "{waiting} requests of users wait: snapshot '{}' is taken",
                snapshot.name
            ),
            "it ends by itself; 'rdbadm resume-io RES' gives it up",
        ),
        false => (
            "peer-snapshot",
            format!(
                "the peer takes snapshot '{}', and sends no write",
                snapshot.name
            ),
            "it ends by itself",
        ),
    };
    ReasonReport {
        word: word.to_owned(),
        text,
        advice: Some(advice_for(advice, name)),
        since_s: Some(ago(snapshot.for_ms)),
    }
}

/// Seconds since 1970, so many milliseconds ago.
fn ago(ms: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    now_ms.saturating_sub(ms) / 1000
}

#[cfg(test)]
mod tests {
    use rdb_engine::rules::trouble::Trouble;
    use rdb_engine::{FrozenIo, VolumeStatus};

    use super::*;

    /// The engine stands below the crate that every program has it from, and has its own for its log.
    #[test]
    fn the_engine_quotes_a_name_as_everybody_does() {
        for name in ["r0", "", "a b", "it's", "$(reboot)", "a;b", "-rf", "ä"] {
            let (engine, shared) = (
                rdb_engine::rules::shell_word(name),
                rdb_control::shell_word(name),
            );
            assert_eq!(engine, shared);
        }
    }

    fn status(connection: ConnState, trouble: Option<LinkTrouble>) -> ResourceStatus {
        crate::proc_drbd::tests::connection(connection, trouble)
    }

    #[test]
    fn a_connection_that_is_not_there_has_a_reason_with_the_resources_name() {
        let split = LinkTrouble {
            kind: Trouble::SplitBrain,
            text: "not connected: unresolved split brain".to_owned(),
            for_ms: 5_000,
        };
        let before = ago(5_000);
        let reason = link("r7", &status(ConnState::StandAlone, Some(split))).expect("a reason");
        assert_eq!(reason.word, "split-brain");
        let advice = reason.advice.expect("there is something to be done");
        assert!(
            advice.contains("'rdbadm connect --discard-my-data r7'"),
            "{advice}"
        );
        assert!((before..=before + 60).contains(&reason.since_s.expect("it is known")));
        let idle = link("r7", &status(ConnState::StandAlone, None)).expect("a reason");
        assert_eq!(idle.word, "not-connected");
        assert_eq!(link("r7", &status(ConnState::WFReportParams, None)), None);
    }

    #[test]
    fn who_waits_for_a_fence_that_has_failed_is_told_so() {
        let run = |since_s, exit| HandlerReport {
            name: "fence-peer".to_owned(),
            volume: None,
            since_s,
            exit,
            took_ms: 1,
            note: None,
        };
        let failed = fence_advice(Some(&run(100, Some(1))), 100).expect("it has failed");
        assert!(failed.starts_with("the handler fence-peer has ended with 1, "));
        assert_eq!(fence_advice(Some(&run(100, None)), 100), None);
        assert_eq!(
            fence_advice(Some(&run(99, Some(1))), 100),
            None,
            "of before"
        );
        let none = fence_advice(None, 100).expect("there is none");
        assert!(none.starts_with("no handler fence-peer has been called"));
    }

    #[test]
    fn users_who_wait_are_told_for_whom_and_what_ends_it() {
        let volume = |state, frozen| VolumeStatus {
            frozen,
            ..crate::proc_drbd::tests::volume(0, state)
        };
        let frozen = |requests, for_ms| Some(FrozenIo { requests, for_ms });
        let mut resource = status(ConnState::WFConnection, None);
        resource.volumes = vec![volume(VolumeState::INITIAL, None)];
        assert_eq!(io("r0", &resource), None);
        let mut state = VolumeState::INITIAL;
        let before = ago(9_000);
        for (word, set) in [
            ("user", (|s| s.susp = true) as fn(&mut VolumeState)),
            ("no-data", |s| s.susp_nod = true),
            ("fencing", |s| s.susp_fen = true),
        ] {
            set(&mut state);
            resource.volumes = vec![
                volume(state, frozen(2, 9_000)),
                volume(state, frozen(3, 10)),
            ];
            let reason = io("r0", &resource).expect("a reason");
            assert_eq!(reason.word, word);
            assert!(reason.text.starts_with("5 requests of users wait: "));
            let advice = reason.advice.expect("something ends it");
            assert!(advice.contains("'rdbadm resume-io r0'"), "{advice}");
            assert!((before..=before + 60).contains(&reason.since_s.expect("it is known")));
        }
    }

    #[test]
    fn advice_for_one_volume_names_no_other() {
        assert_eq!(volume_name("r0", 0, 1), "r0");
        assert_eq!(volume_name("r0", 0, 2), "r0/0");
        assert_eq!(volume_name("r0", 1, 2), "r0/1");
        assert_eq!(volume_name("r0", 3, 1), "r0/3");
    }

    #[test]
    fn a_paused_resync_says_who_has_paused_it() {
        let mut state = VolumeState::INITIAL;
        state.conn = ConnState::PausedSyncT;
        assert_eq!(resync("r0", &state, None), None);
        state.aftr_isp = true;
        assert_eq!(
            resync("r0", &state, None).expect("a reason").word,
            "dependency"
        );
        state.peer_isp = true;
        assert_eq!(
            resync("r0", &state, None).expect("a reason").word,
            "paused-by-peer"
        );
        state.user_isp = true;
        let reason = resync("r0", &state, None).expect("a reason");
        assert_eq!(reason.advice.as_deref(), Some("'rdbadm resume-sync r0'"));
    }
}
