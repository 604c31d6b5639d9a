//! Resync: what both sides count.

mod course;
mod pace;
mod walk;
pub(crate) use course::Course;
pub(crate) use pace::{Pace, STEP_MS};
pub(crate) use walk::BlockWalk;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::effect::Level;
use crate::generation::Generation;
use crate::ids::{Session, Time};
use crate::interval::Awaited;
use crate::range_locks::{Holder, RangeLocks, Ticket};
use crate::span::Span;
use crate::status::SyncProgress;

/// A resync of one volume, running or over.
#[derive(Debug)]
pub(crate) struct Resync<P> {
    pub(crate) course: Course,
    /// Blocks that could not be read or written.
    pub(crate) failed: u64,

    /// Target: ranges asked for and without a reply, with their bytes.
    pub(crate) awaited: Awaited,
    /// Source: ranges sent and without an ack, with their bytes; they are held meanwhile.
    pub(crate) replied: Awaited,
    /// Target: data that came and waits for an overlapping write to end: its place, data, connection.
    pub(crate) blocked: BTreeMap<Ticket, (Span, P, Session)>,
    /// Target: the superblock that says so is durable, so blocks may be asked for.
    pub(crate) requesting: bool,
    /// Target: what has been asked for; outstanding until it is on disk.
    pub(crate) walk: BlockWalk,
    /// Target.
    pub(crate) pace: Pace,
    /// An end that waits for an answered ping, a flush or the superblock.
    pub(crate) ending: bool,
    /// Source: the target is done, and all its acks of before have been seen; the epoch that was open then.
    pub(crate) acks_seen: Option<u32>,
    /// Target: a sync UUID that came before we were ready for it.
    pub(crate) early_uuid: Option<Generation>,
    /// Target: the end is durable before the source hears of it.
    pub(crate) announce: bool,
    /// Target: blocks that the source found equal by their digest.
    pub(crate) equal_blocks: u64,
    /// Target: requests with a digest whose range could not be written since: what the source finds equal is not here.
    pub(crate) spoiled: Vec<u64>,
    /// Source: the target has not shown that it is Inconsistent on its record too. Set when the resync is prepared, cleared by the
    /// first block that it asks for, by its telling the resync's name while that is paused, by the end and with the connection. Without it a Primary would go on, or go on unfenced, beside a
    /// disk that is as good by its record and lacks what is marked here (L48).
    pub(crate) target_unproven: bool,
    /// Source: there was nothing left to send, so that the target may have come to the end.
    pub(crate) all_sent: bool,
}

impl<P> Default for Resync<P> {
    fn default() -> Self {
        Resync {
            course: Course::default(),
            failed: 0,
            awaited: Awaited::default(),
            replied: Awaited::default(),
            blocked: BTreeMap::new(),
            requesting: false,
            walk: BlockWalk::default(),
            pace: Pace::default(),
            ending: false,
            acks_seen: None,
            early_uuid: None,
            announce: false,
            equal_blocks: 0,
            spoiled: Vec::new(),
            target_unproven: false,
            all_sent: false,
        }
    }
}

impl<P> Resync<P> {
    pub(crate) fn begin(&mut self, now: Time, total: u64) {
        let awaited = core::mem::take(&mut self.awaited);
        let replied = core::mem::take(&mut self.replied);
        let blocked = core::mem::take(&mut self.blocked);
        let early_uuid = self.early_uuid.take();
        self.walk.begin(0);
        *self = Resync {
            course: Course::begin(now, total),
            walk: core::mem::take(&mut self.walk),
            awaited,
            replied,
            blocked,
            early_uuid,
            ..Resync::default()
        };
    }

    /// Source: whether the target may be at its end, which has not been seen here.
    pub(crate) fn target_may_be_done(&self) -> bool {
        self.all_sent
    }

    /// Blocks of this span could not be read or written by one of the nodes.
    pub(crate) fn block_failed(&mut self, span: Span) {
        self.failed += span.blocks();
    }

    /// The sync UUID that came early was of a resync that is given up.
    pub(crate) fn forget_early_uuid(&mut self) {
        self.early_uuid = None;
    }

    /// Sectors between the nodes: of the source sent and not acknowledged, of the target asked for and not on its disk.
    pub(crate) fn in_flight_sectors(&self) -> u64 {
        let sent = self.replied.iter().map(Span::sectors);
        sent.sum::<u64>() + self.walk.outstanding()
    }

    /// What the log is told at its end.
    pub(crate) fn summary(&self, now: Time) -> Vec<(Level, String)> {
        let (total, equal, failed) = (self.course.total(), self.equal_blocks, self.failed);
        let text = format!("Resync done {}", self.course.summary(now, total));
        let mut lines = vec![(Level::Info, text)];
        if equal > 0 {
            let text = format!(
                "{} % had equal checksums, eliminated: {}K; transferred {}K total {}K",
                equal * 100 / total.max(1),
                equal * 4,
                total.saturating_sub(equal) * 4,
                total * 4
            );
            lines.push((Level::Info, text));
        }
        if failed > 0 {
            let text = format!("            {failed} failed blocks");
            lines.push((Level::Error, text));
        }
        lines
    }

    pub(crate) fn progress(&self, now: Time, bits_set: u64, target: bool) -> SyncProgress {
        let left = bits_set.saturating_sub(self.failed);
        SyncProgress {
            failed_blocks: self.failed,
            equal_blocks: self.equal_blocks,
            want_kib: target.then_some(self.pace.want_kib()),
            ..self.course.progress(now, left)
        }
    }
}

/// What the log is told at the beginning of a resync, with this many marks.
pub(crate) fn began(side: &str, bits: u64) -> String {
    format!(
        "Began resync as {side} (will sync {} KB [{bits} bits set]).",
        bits * 4
    )
}

impl<P> Resync<P> {
    /// The connection is gone: what waited for the peer waits no more, and leaves the ranges that it holds or waits for.
    pub(crate) fn connection_ended(&mut self, held: &mut RangeLocks) {
        self.awaited = Awaited::default();
        for span in core::mem::take(&mut self.replied).iter() {
            if held.holder_at(span.sector) == Some(Holder::Resync) {
                held.remove(span.sector);
            }
        }
        for ticket in core::mem::take(&mut self.blocked).into_keys() {
            held.leave(ticket);
        }
        self.spoiled.clear();
        self.target_unproven = false;
        self.requesting = false;
        self.ending = false;
        self.acks_seen = None;
        self.early_uuid = None;
        self.walk.forget_outstanding();
    }
}
