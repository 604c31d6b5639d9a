//! Which handlers of a resource run, which wait for that, and how they ended.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdb_engine::{Handler, HandlerId, SnapshotRun, VolumeNr};

use crate::handler_run::Ended;

/// How many runs of one handler may wait for one that runs: a peer that comes and goes asks for them, too.
const WAITING_MAX: usize = 8;

/// A handler, and the volume that it is run for; nothing for one of the resource.
pub(crate) type Key = (Handler, Option<VolumeNr>);

/// A run that the engine has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) id: HandlerId,
    /// The snapshot that it is for, if it is for one.
    pub(crate) snapshot: Option<SnapshotRun>,
}

/// What becomes of a run that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is to begin now.
    Free,
    /// It begins when its turn comes.
    Waits,
    /// Too many wait.
    Full,
}

/// The handlers of a resource: of each one at a time runs.
#[derive(Debug, Default)]
pub(crate) struct RunsOfHandlers(BTreeMap<Key, Runs>);

#[derive(Debug)]
struct Runs {
    /// The one that runs, or has run last.
    last: LastRun,
    /// Those that are asked for and wait until it has ended.
    waiting: VecDeque<Asked>,
}

/// A run of a handler.
#[derive(Debug)]
pub(crate) struct LastRun {
    /// When it was started, after the beginning of 1970.
    pub(crate) since: Duration,
    /// The same by a clock that goes on evenly.
    pub(crate) begun: Instant,
    /// How it ended, and how long it took.
    pub(crate) ended: Option<(Ended, Duration)>,
}

impl RunsOfHandlers {
    /// A run is asked for; it is kept if it has to wait.
    pub(crate) fn ask(&mut self, key: Key, asked: &Asked) -> Place {
        match self.0.get_mut(&key) {
            Some(runs) if runs.last.ended.is_none() => {
                if runs.waiting.len() >= WAITING_MAX {
                    return Place::Full;
                }
                runs.waiting.push_back(asked.clone());
                Place::Waits
            }
            _ => Place::Free,
        }
    }

    /// A run begins; when.
    pub(crate) fn begin(&mut self, key: Key) -> Instant {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let begun = Instant::now();
        let last = LastRun {
            since: since.unwrap_or_default(),
            begun,
            ended: None,
        };
        let waiting = match self.0.remove(&key) {
            Some(runs) => runs.waiting,
            None => VecDeque::new(),
        };
        self.0.insert(key, Runs { last, waiting });
        begun
    }

    /// The run that began then has ended. (Another resource may have the name by now, whose run began at another time.)
    pub(crate) fn end(&mut self, key: Key, begun: Instant, ended: Ended) {
        let runs = self.0.get_mut(&key);
        if let Some(runs) = runs.filter(|runs| runs.last.begun == begun) {
            runs.last.ended = Some((ended, begun.elapsed()));
        }
    }

    /// The run whose turn it is, if one waits and none is under way.
    pub(crate) fn next(&mut self, key: Key) -> Option<Asked> {
        let runs = self.0.get_mut(&key)?;
        runs.last.ended.as_ref()?;
        runs.waiting.pop_front()
    }

    /// Takes a run away that waits. Says whether there was one.
    pub(crate) fn cancel(&mut self, id: HandlerId) -> bool {
        let mut all = self.0.values_mut();
        all.any(|runs| {
            let at = runs.waiting.iter().position(|asked| asked.id == id);
            at.and_then(|at| runs.waiting.remove(at)).is_some()
        })
    }

    /// The last run of each.
    pub(crate) fn last(&self) -> impl Iterator<Item = (&Key, &LastRun)> {
        self.0.iter().map(|(key, runs)| (key, &runs.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FENCE: Key = (Handler::FencePeer, None);

    fn asked(id: u64) -> Asked {
        let id = HandlerId(id);
        Asked { id, snapshot: None }
    }

    fn ended(exit: u8) -> Ended {
        Ended { exit, note: None }
    }

    #[test]
    fn of_each_handler_one_runs_at_a_time_and_the_others_in_their_order() {
        let mut runs = RunsOfHandlers::default();
        assert_eq!(runs.ask(FENCE, &asked(1)), Place::Free);
        let first = runs.begin(FENCE);
        for n in 2..10 {
            assert_eq!(runs.ask(FENCE, &asked(n)), Place::Waits);
        }
        assert_eq!(runs.ask(FENCE, &asked(10)), Place::Full);
        // Another handler, and the same of a volume, wait for nothing.
        let other = (Handler::SplitBrain, Some(VolumeNr(1)));
        assert_eq!(runs.ask(other, &asked(11)), Place::Free);
        assert_eq!(runs.next(FENCE), None);
        runs.end(FENCE, first, ended(7));
        assert_eq!(runs.next(FENCE), Some(asked(2)));
        let second = runs.begin(FENCE);
        assert_eq!(runs.next(FENCE), None);
        // What was begun before is not the one that runs.
        runs.end(FENCE, first, ended(1));
        let of_fence = |runs: &RunsOfHandlers| {
            let last = runs.last().find(|(key, _)| **key == FENCE);
            let ended = last.and_then(|(_, last)| last.ended.as_ref());
            ended.map(|(ended, _)| ended.exit)
        };
        assert_eq!(of_fence(&runs), None);
        runs.end(FENCE, second, ended(4));
        assert_eq!(of_fence(&runs), Some(4));
        assert!(runs.cancel(HandlerId(5)) && !runs.cancel(HandlerId(5)));
        for n in [3, 4, 6, 7, 8, 9] {
            assert_eq!(runs.next(FENCE), Some(asked(n)));
        }
        assert_eq!(runs.next(FENCE), None);
    }
}
