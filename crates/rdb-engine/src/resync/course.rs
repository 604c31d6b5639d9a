//! The course of a resync or a verify: what is told of how far it is, and how long it takes.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;

use crate::ids::Time;
use crate::status::SyncProgress;

/// Time between two marks, and how many are kept.
const MARK_MS: u64 = 3_000;
const MARKS: usize = 8;

/// One run, under way or over. Blocks are 4 KiB.
#[derive(Debug, Default)]
pub(crate) struct Course {
    total: u64,
    started: Time,
    paused_at: Option<Time>,
    paused_ms: u64,
    /// Blocks left at times at least 3 s apart, newest last.
    marks: VecDeque<(Time, u64)>,
}

impl Course {
    /// A run over `total` blocks.
    pub(crate) fn begin(now: Time, total: u64) -> Self {
        Course {
            total,
            started: now,
            marks: VecDeque::from([(now, total)]),
            ..Course::default()
        }
    }

    /// Blocks at the start.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn pause(&mut self, now: Time) {
        self.paused_at = Some(now);
    }

    pub(crate) fn resume(&mut self, now: Time) {
        if let Some(at) = self.paused_at.take() {
            self.paused_ms += now.ms_since(at);
        }
    }

    /// So many blocks are left now.
    pub(crate) fn mark(&mut self, now: Time, left: u64) {
        let due = self
            .marks
            .back()
            .is_none_or(|(at, _)| now.ms_since(*at) >= MARK_MS);
        if due {
            self.marks.push_back((now, left));
            if self.marks.len() > MARKS {
                self.marks.pop_front();
            }
        }
    }

    fn paused_ms(&self, now: Time) -> u64 {
        self.paused_ms + self.paused_at.map_or(0, |at| now.ms_since(at))
    }

    fn elapsed_ms(&self, now: Time) -> u64 {
        now.ms_since(self.started)
            .saturating_sub(self.paused_ms(now))
    }

    /// Milliseconds since the second youngest mark, and blocks done since then.
    fn recent(&self, now: Time, left: u64) -> (u64, u64) {
        let mark = self.marks.iter().rev().nth(1).or(self.marks.front());
        let &(at, then) = mark.unwrap_or(&(self.started, self.total));
        (now.ms_since(at), then.saturating_sub(left))
    }

    /// KiB/s since the second youngest mark.
    pub(crate) fn recent_kib(&self, now: Time, left: u64) -> u64 {
        let (ms, blocks) = self.recent(now, left);
        blocks * 4 * 1000 / ms.max(1)
    }

    /// The times in the words of the log, at the end of a run that has done so many blocks.
    pub(crate) fn summary(&self, now: Time, done: u64) -> String {
        let elapsed_s = (self.elapsed_ms(now) / 1000).max(1);
        let (paused_s, rate) = (self.paused_ms / 1000, done * 4 / elapsed_s);
        format!("(total {elapsed_s} sec; paused {paused_s} sec; {rate} K/sec)")
    }

    pub(crate) fn progress(&self, now: Time, left: u64) -> SyncProgress {
        let first = self.marks.front().copied();
        let (mark_at, mark_left) = first.unwrap_or((self.started, self.total));
        let (recent_ms, recent_blocks) = self.recent(now, left);
        SyncProgress {
            total_blocks: self.total,
            left_blocks: left,
            failed_blocks: 0,
            window_ms: now.ms_since(mark_at),
            window_blocks: mark_left.saturating_sub(left),
            recent_ms,
            recent_blocks,
            elapsed_ms: self.elapsed_ms(now),
            paused_ms: self.paused_ms(now),
            equal_blocks: 0,
            want_kib: None,
            limit: None,
            verify: None,
        }
    }
}
