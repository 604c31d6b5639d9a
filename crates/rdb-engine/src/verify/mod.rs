//! Online verify (`docs/spec/wire.md`, section 10.7; `docs/spec/behaviour.md`, section 9.9). One node drives it (VerifyS,
//! [`drive`]): it asks for the digest of each block, compares it with its own, and tells the result. The other answers
//! (VerifyT, [`answer`]).
//!
//! Both nodes' copies of a block are looked at while neither changes. A block that differs is marked out of sync on both;
//! nothing is repaired.

mod answer;
mod drive;

use alloc::collections::BTreeSet;
use alloc::format;

use replica_proto::DigestAlgorithm;

use crate::Bug;
use crate::effect::Level;
use crate::event::{ConnTimer, Payload};
use crate::ids::{Time, VolumeNr};
use crate::interval::Awaited;
use crate::range_locks::Holder;
use crate::range_locks::ReadTicket;
use crate::resource::Resource;
use crate::resync::{BlockWalk, Course, Pace};
use crate::state::{Change, ConnState};
use crate::status::{SyncProgress, VerifyProgress};

/// The verify of one volume, and what the next one has of the last. Blocks are 4 KiB; the last one may be shorter.
#[derive(Debug, Default)]
pub(crate) struct Verify {
    /// It has begun: here with the state VerifyS, at the answering side with the first request, which says where.
    begun: bool,
    /// This node drives it.
    drives: bool,
    course: Course,
    /// The first block.
    first: u64,
    /// Blocks without a result, up to the device's end.
    left: u64,
    /// Which blocks have been asked for; outstanding until there is a result.
    walk: BlockWalk,
    /// First sectors of blocks that have been asked for and have no result. While this node drives the verify, its users' writes
    /// wait for them.
    open: BTreeSet<u64>,
    /// Answering side: digests sent and results not yet come, with their bytes.
    answered: Awaited,
    /// Driver: requests without an answer. They outlast the verify, since the peer answers all the same.
    asked: Awaited,
    /// Driver.
    pace: Pace,
    /// Driver: a write holds the next block. This reader is woken when it ends.
    turn: Option<ReadTicket>,
    /// Driver: by which digest blocks are compared.
    algorithm: Option<DigestAlgorithm>,
    /// Driver: blocks that the peer has not served.
    skipped: u64,
    /// Differing sectors next to each other, told of when they end: first and last + 1.
    differs: Option<(u64, u64)>,
    /// The last result has come or is sent; a ping is on its way.
    ending: bool,
    /// First sector of the next verify, if its order does not say. Set by the end of each, on both sides; 0 after a whole one.
    next_start: u64,
    /// What the administrator has said of the verify that begins or runs: first sector, and the one it stops at.
    order: (Option<u64>, Option<u64>),
}

impl Verify {
    fn begin(&mut self, now: Time, first: u64, left: u64) {
        self.begun = true;
        self.course = Course::begin(now, left);
        self.walk.begin(first);
        (self.first, self.left) = (first, left);
    }

    /// The administrator orders a verify from the first of these sectors on, by default where the last one has ended, up to the
    /// second. One that runs only takes the second.
    pub(crate) fn order(&mut self, start: Option<u64>, stop: Option<u64>) {
        self.order = (start, stop);
    }

    /// Since when the block that has waited for the peer for longest does.
    pub(crate) fn oldest_awaited(&self) -> Option<Time> {
        let oldest = [self.answered.oldest(), self.asked.oldest()];
        oldest.into_iter().flatten().min()
    }

    /// Whether this node compares a block of `start..end` with the peer's: a write now would come between the two reads.
    pub(crate) fn compares(&self, start: u64, end: u64) -> bool {
        let blocks = start / 8 * 8..end;
        self.drives && self.open.range(blocks).next().is_some()
    }

    /// The block before which a verify driven here ends. It has one block at least, wherever it is to stop.
    fn end(&self, size: u64) -> u64 {
        let blocks = size.div_ceil(8);
        let stop = self.order.1.map_or(blocks, |stop| stop.div_ceil(8));
        stop.max(self.first + 1).min(blocks)
    }

    /// Where the verify that ends here goes on, if it was not whole.
    fn reached(&self) -> u64 {
        let next = self.walk.position() * 8;
        self.open.first().map_or(next, |&first| first.min(next))
    }

    /// The connection is gone: nobody answers any more.
    pub(crate) fn connection_ended(&mut self) {
        self.asked = Awaited::default();
    }

    pub(crate) fn progress(&self, now: Time) -> SyncProgress {
        SyncProgress {
            want_kib: self.drives.then_some(self.pace.want_kib()),
            verify: Some(VerifyProgress {
                start_sector: self.first * 8,
                stop_sector: self.order.1.filter(|_| self.drives),
                position_sector: self.reached(),
                skipped_blocks: self.skipped,
            }),
            ..self.course.progress(now, self.left)
        }
    }
}

impl<P: Payload> Resource<P> {
    /// The result of a block, which is the same on both sides.
    fn verify_block_done(&mut self, nr: VolumeNr, (sector, end): (u64, u64), equal: bool) {
        let now = self.now;
        let verify = &mut self.volume_mut(nr).peer.verify;
        verify.open.remove(&sector);
        verify.walk.settle(end - sector);
        verify.left = verify.left.saturating_sub(1);
        verify.course.mark(now, verify.left);
        if equal {
            self.tell_of_difference(nr);
            return;
        }
        if let Some((first, _)) = verify.differs.filter(|&(_, last)| last == sector) {
            verify.differs = Some((first, end));
        } else {
            self.tell_of_difference(nr);
            self.volume_mut(nr).peer.verify.differs = Some((sector, end));
        }
        if !self.planted(Bug::VerifyUnmarked) {
            self.set_out_of_sync(nr, sector, end - sector);
        }
    }

    fn tell_of_difference(&mut self, nr: VolumeNr) {
        if let Some((first, end)) = self.volume_mut(nr).peer.verify.differs.take() {
            let text = format!("Out of sync: start={first}, size={} (sectors)", end - first);
            self.log_volume(Level::Error, nr, text);
        }
    }

    /// The end, after the last result or because the driver says so.
    pub(crate) fn verify_finish(&mut self, nr: VolumeNr) {
        let now = self.now;
        let verifies = |conn| matches!(conn, ConnState::VerifyS | ConnState::VerifyT);
        if !(self.volumes.get(&nr)).is_some_and(|volume| verifies(volume.state.conn)) {
            return;
        }
        self.tell_of_difference(nr);
        let volume = self.volume(nr);
        let verify = &volume.peer.verify;
        let done = verify.course.total() - verify.left;
        let text = format!("Online verify done {}", verify.course.summary(now, done));
        let (found, skipped) = (volume.bits_set(), verify.skipped);
        self.log_volume(Level::Info, nr, text);
        if skipped > 0 {
            let text = format!("Online verify: the peer has not served {skipped} blocks");
            self.log_volume(Level::Warn, nr, text);
        }
        if found > 0 {
            let text = format!("Online verify found {found} 4k block out of sync!");
            self.log_volume(Level::Error, nr, text);
        }
        let disk = self.disk_at_the_end(nr);
        self.fact(nr, Change::conn(ConnState::Connected).and_disk(disk));
    }

    /// The state is VerifyS or VerifyT no more: nothing of the verify is waited for.
    pub(crate) fn verify_over(&mut self, nr: VolumeNr) {
        self.tell_of_difference(nr);
        let volume = self.volume_mut(nr);
        let verify = &mut volume.peer.verify;
        let next_start = match (verify.begun, verify.left) {
            (false, _) => verify.next_start,
            (true, 0) => 0,
            (true, _) => verify.reached(),
        };
        let asked = core::mem::take(&mut verify.asked);
        let unfinished = verify.begun && verify.left > 0;
        let fresh = Verify {
            next_start,
            asked,
            ..Verify::default()
        };
        let last = core::mem::replace(verify, fresh);
        for (sector, _) in last.answered.iter() {
            if volume.held.holder_at(sector) == Some(Holder::Verify) {
                volume.held.remove(sector);
            }
            volume.peer.answered();
        }
        if last.drives {
            self.clear_conn_timer(ConnTimer::ResyncStep(nr));
        }
        if unfinished {
            let text = format!("Online Verify reached sector {next_start}");
            self.log_volume(Level::Info, nr, text);
        }
        self.retry_blocked(nr);
    }
}
