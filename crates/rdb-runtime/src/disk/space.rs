//! Writes that have met a full disk: kept as they are until the engine says what becomes of them.
//!
//! The engine knows operations by their tags; one that is done in parts, or through the lane, may have several writes here.

use std::collections::BTreeMap;

use rdb_engine::{DiskError, Event, IoTag, VolumeNr};

use super::{Answer, DiskIo, Ended};
use crate::engine::Engine;
use crate::event_loop::EventLoop;

const _: () = assert!(DiskError::NO_SPACE == libc::ENOSPC && DiskError::OVER_QUOTA == libc::EDQUOT);

/// What is kept, by the engine's tags, with what each has met.
#[derive(Default)]
pub(crate) struct Kept(BTreeMap<IoTag, Vec<(DiskIo, DiskError)>>);

impl Kept {
    /// Whether a write to this range is among them.
    pub(crate) fn writes_to(&self, volume: VolumeNr, range: &std::ops::Range<u64>) -> bool {
        let mut kept = self.0.values().flatten();
        kept.any(|(io, _)| io.writes_to(volume, range))
    }
}

impl<E: Engine> EventLoop<E> {
    pub(crate) fn on_disk_full(&mut self, io: DiskIo, error: DiskError) {
        match self.tag_of(io.volume, io.answer) {
            Some(tag) => {
                self.kept.0.entry(tag).or_default().push((io, error));
                self.raise(Event::NoSpace { tag, error });
            }
            None => self.on_disk_end(io.end(Err(error))),
        }
    }

    /// What the engine calls the operation that this answer is for.
    fn tag_of(&self, nr: VolumeNr, mut answer: Answer) -> Option<IoTag> {
        loop {
            answer = match answer {
                Answer::Engine(tag) => return Some(tag),
                Answer::Part(key) => self.splits.get(key)?.answer,
                Answer::Lane => {
                    let volume = self.volumes.iter().find(|volume| volume.nr == nr)?;
                    volume.lane.steps.front()?.answer
                }
            }
        }
    }

    /// Tries again what was kept for this operation.
    pub(crate) fn retry_io(&mut self, tag: IoTag) {
        for (io, _) in self.kept.0.remove(&tag).unwrap_or_default() {
            io.start_again(&mut self.io.ring);
        }
    }

    /// What was kept for this operation ends with the error that it has met. This runs amid effects, so answers go through
    /// `pending`.
    pub(crate) fn give_up_io(&mut self, tag: IoTag) {
        for (io, error) in self.kept.0.remove(&tag).unwrap_or_default() {
            let (volume, answer, ended) = io.end(Err(error));
            match (ended, answer) {
                (Ended::Meta(result), Answer::Engine(tag)) => {
                    self.io.pending.push_back(Event::MetaDone { tag, result });
                }
                (Ended::Data(result), Answer::Lane) => self.on_lane_written(volume, result),
                (Ended::Data(result), answer) => self.answer(answer, result),
                (Ended::Bounce(_) | Ended::Meta(_), _) => {}
            }
            self.advance_lane(volume);
        }
    }
}
