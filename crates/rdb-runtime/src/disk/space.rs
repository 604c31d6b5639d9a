//! Writes that have met a full disk: kept as they are until the engine says what becomes of them.
//!
//! The engine knows operations by their tags; one that is done in parts, or through the lane, may have several writes here.

use std::collections::BTreeMap;
use std::ops::Range;

use rdb_engine::{DiskError, IoTag, VolumeNr};

use super::io::DiskIo;

const _: () = assert!(DiskError::NO_SPACE == libc::ENOSPC && DiskError::OVER_QUOTA == libc::EDQUOT);

/// What is kept, by the engine's tags, with what each has met.
#[derive(Default)]
pub(super) struct Kept(BTreeMap<IoTag, Vec<(DiskIo, DiskError)>>);

impl Kept {
    /// Whether a write to this range is among them.
    pub(super) fn writes_to(&self, volume: VolumeNr, range: &Range<u64>) -> bool {
        let mut kept = self.0.values().flatten();
        kept.any(|(io, _)| io.writes_to(volume, range))
    }

    pub(super) fn keep(&mut self, tag: IoTag, io: DiskIo, error: DiskError) {
        self.0.entry(tag).or_default().push((io, error));
    }

    /// What is kept for this operation, which is kept no longer.
    pub(super) fn take(&mut self, tag: IoTag) -> Vec<(DiskIo, DiskError)> {
        self.0.remove(&tag).unwrap_or_default()
    }
}
