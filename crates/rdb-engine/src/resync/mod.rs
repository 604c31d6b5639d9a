//! Resync: what a target has asked for and what is still to come, what a source has sent, and how both come to the end.

mod course;
mod pace;
mod source;
mod target;
mod walk;
pub(crate) use course::Course;
pub(crate) use pace::{Pace, STEP_MS};
pub(crate) use walk::BlockWalk;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::config::DiskOptions;
use crate::effect::Level;
use crate::generation::Generation;
use crate::ids::{Session, Time};
use crate::interval::Awaited;
use crate::range_locks::{Holder, RangeLocks, Ticket};
use crate::rules::resync_reason::{self, Limit};
use crate::span::Span;
use crate::status::SyncProgress;

/// A resync of one volume, running or over.
#[derive(Debug)]
pub(crate) struct Resync<P> {
    course: Course,
    /// Blocks that could not be read or written.
    failed: u64,

    /// Target: ranges asked for and without a reply, with their bytes.
    awaited: Awaited,
    /// Source: ranges sent and without an ack, with their bytes; they are held meanwhile.
    replied: Awaited,
    /// Target: data that came and waits for an overlapping write to end.
    blocked: BTreeMap<Ticket, Arrived<P>>,
    /// Target: the superblock that says so is durable, so blocks may be asked for.
    requesting: bool,
    /// Target: what has been asked for; outstanding until it is on disk.
    walk: BlockWalk,
    /// Target.
    pace: Pace,
    /// An end that waits for an answered ping, a flush or the superblock.
    ending: bool,
    /// Source: the target is done, and all its acks of before have been seen; the epoch that was open then.
    acks_seen: Option<u32>,
    /// Target: a sync UUID that came before we were ready for it.
    early_uuid: Option<Generation>,
    /// Target: the end is durable before the source hears of it.
    announce: bool,
    /// Target: blocks that the source found equal by their digest.
    equal_blocks: u64,
    /// Target: requests with a digest whose range could not be written since: what the source finds equal is not here. First sectors,
    /// of some of those that are awaited.
    spoiled: BTreeSet<u64>,
    /// Source: the target has not shown that it is Inconsistent on its record too. Set when the resync is prepared, cleared by the
    /// first block that it asks for, by its telling the resync's name while that is paused, by the end and with the connection.
    /// Without it a Primary would go on, or go on unfenced, beside a disk that is as good by its record and lacks what is marked
    /// here (L48).
    target_unproven: bool,
    /// Source: there was nothing left to send, so that the target may have come to the end.
    all_sent: bool,
}

/// Data that came for a target: its place, data, connection.
pub(crate) type Arrived<P> = (Span, P, Session);

/// What becomes of a target's end, when its data is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetEnd {
    /// There is none any more.
    GivenUp,
    /// Something came in between: that is asked for.
    GoesOn,
    /// It is over. `failed`: blocks could not be read or written.
    Done { failed: bool },
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
            spoiled: BTreeSet::new(),
            target_unproven: false,
            all_sent: false,
        }
    }
}

impl<P> Resync<P> {
    /// A new one, with so many marks. What is under way between the nodes stays.
    fn begin(&mut self, now: Time, marked: u64) {
        let awaited = core::mem::take(&mut self.awaited);
        let replied = core::mem::take(&mut self.replied);
        let blocked = core::mem::take(&mut self.blocked);
        let spoiled = core::mem::take(&mut self.spoiled);
        let early_uuid = self.early_uuid.take();
        self.walk.begin(0);
        *self = Resync {
            course: Course::begin(now, marked),
            walk: core::mem::take(&mut self.walk),
            awaited,
            replied,
            blocked,
            spoiled,
            early_uuid,
            ..Resync::default()
        };
    }

    /// Blocks of this span could not be read or written by one of the nodes.
    pub(crate) fn block_failed(&mut self, span: Span) {
        self.failed += span.blocks();
    }

    /// So many blocks are marked by now.
    pub(crate) fn progressed(&mut self, now: Time, marked: u64) {
        self.course.mark(now, marked);
    }

    pub(crate) fn pause(&mut self, now: Time) {
        self.course.pause(now);
    }

    pub(crate) fn resume(&mut self, now: Time) {
        self.course.resume(now);
    }

    /// Whether an end has begun, and is not over.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending
    }

    // ---- what is told of it --------------------------------------------------------------------------------------

    /// Sectors between the nodes: of the source sent and not acknowledged, of the target asked for and not on its disk.
    pub(crate) fn in_flight_sectors(&self) -> u64 {
        let sent = self.replied.iter().map(Span::sectors);
        sent.sum::<u64>() + self.walk.outstanding()
    }

    /// Since when the blocks that have waited for the peer for longest do.
    pub(crate) fn oldest_awaited(&self) -> Option<Time> {
        let oldest = [self.replied.oldest(), self.awaited.oldest()];
        oldest.into_iter().flatten().min()
    }

    /// What bounds the pace of a target with so many marks.
    pub(crate) fn limit(&self, now: Time, marked: u64, options: &DiskOptions) -> Option<Limit> {
        resync_reason::limit(&resync_reason::Facts {
            options,
            gave_way: self.pace.gave_way(),
            want_kib: self.pace.want_kib(),
            rate_kib: self.course.recent_kib(now, marked),
        })
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

    // ---- the end of a connection, and what always holds ------------------------------------------------------------

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

    /// Checks what must always hold between two events.
    ///
    /// # Panics
    /// If it does not.
    pub(crate) fn check(&self) {
        let awaited = self.awaited.iter().map(Span::sectors).sum::<u64>();
        let blocked = self.blocked.values().map(|(span, ..)| span.sectors());
        assert!(
            awaited + blocked.sum::<u64>() <= self.walk.outstanding(),
            "more is on its way or waits than is outstanding"
        );
        assert!(
            self.spoiled
                .iter()
                .all(|&sector| self.awaited.at(sector).is_some()),
            "what nobody has asked for is spoiled"
        );
        assert!(
            self.acks_seen.is_none() || self.ending,
            "acks have been seen for an end that has not begun"
        );
    }
}

/// What the log is told at the beginning of a resync, with this many marks.
pub(crate) fn began(side: &str, bits: u64) -> String {
    format!(
        "Began resync as {side} (will sync {} KB [{bits} bits set]).",
        bits * 4
    )
}
