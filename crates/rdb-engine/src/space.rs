//! Writes that wait for space on a full disk: which, since when, and when they are tried again.
//!
//! The driver keeps such a write as it is and tells of it ([`Event::NoSpace`](crate::Event::NoSpace)); for everything else in the
//! engine it is one that a slow disk has not answered. The log, the bitmap, the superblock and whoever waits for a range keep
//! their order because nothing is answered before it is done. A disk that goes lets all of them fail, and they go the way of
//! every write of a failed disk.
//!
//! The pace: once in [`RETRY_MS`] the [`PROBES`] that were tried longest ago; each that goes through lets two more try, so
//! that all have gone soon after there is room, and few are tried in vain while there is none.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;

use crate::effect::{Effect, Level};
use crate::event::{DiskError, Payload, Timer};
use crate::ids::{IoTag, Time, VolumeNr};
use crate::resource::Resource;
use crate::rules::no_space::{self, Met, Verdict};
use crate::state::ConnState;
use crate::status::SpaceWait;

/// How long until the next try, while none goes through.
pub const RETRY_MS: u64 = 1000;
/// How many are tried then.
pub const PROBES: usize = 16;

/// The writes of a volume that have met a full disk.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// All of them, and whether they are being tried again.
    held: BTreeMap<IoTag, bool>,
    /// Those that are not being tried, who was tried longest ago first.
    queue: VecDeque<IoTag>,
    /// When the first of them met the full disk.
    since: Option<Time>,
    /// How many have gone through since.
    passed: u64,
}

impl Space {
    /// How many wait, and since when; `None` if none does.
    pub(crate) fn status(&self, now: Time) -> Option<SpaceWait> {
        let since = self.since?;
        Some(SpaceWait {
            writes: u32::try_from(self.held.len()).unwrap_or(u32::MAX),
            for_ms: now.ms_since(since),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }
}

impl<P: Payload> Resource<P> {
    /// A write has met a full disk. The driver keeps it.
    pub(crate) fn on_no_space(&mut self, tag: IoTag, error: DiskError) {
        let Some(nr) = self.io_volume(tag) else {
            return;
        };
        if self.space_verdict(nr) == Verdict::Fail {
            self.emit(Effect::GiveUpIo { tag });
            return;
        }
        let now = self.now;
        let space = &mut self.volume_mut(nr).space;
        if space.held.insert(tag, false) == Some(false) {
            return; // another part of it
        }
        space.queue.push_back(tag);
        if space.since.is_none() {
            space.since = Some(now);
            space.passed = 0;
            self.set_space_timer(nr);
            let text = format!(
                "no space left on the disk (errno {}): writes wait, reads go on; make room below it",
                error.errno
            );
            // (A disk at its limit would tell of this again and again.)
            self.log_often(Level::Error, nr, text);
        }
    }

    fn space_verdict(&self, nr: VolumeNr) -> Verdict {
        let volume = self.volume(nr);
        let Some(disk) = volume.disk.get() else {
            return Verdict::Fail;
        };
        no_space::met(Met {
            policy: disk.options.on_no_space,
            disk: volume.state.disk,
            given_up: volume.disk.open().is_none(),
        })
    }

    fn set_space_timer(&mut self, nr: VolumeNr) {
        let at = self.now.plus_ms(RETRY_MS);
        self.set_timer(Timer::NoSpace(nr), at);
    }

    /// Time for another try.
    pub(crate) fn on_space_timer(&mut self, nr: VolumeNr) {
        if self.volumes.get(&nr).is_none_or(|v| v.space.is_empty()) {
            return;
        }
        if self.space_verdict(nr) == Verdict::Fail {
            self.give_up_waiting_for_space(nr);
            return;
        }
        self.set_space_timer(nr);
        self.retry_for_space(nr, PROBES);
    }

    fn retry_for_space(&mut self, nr: VolumeNr, count: usize) {
        for _ in 0..count {
            let space = &mut self.volume_mut(nr).space;
            let Some(tag) = space.queue.pop_front() else {
                return;
            };
            space.held.insert(tag, true);
            self.emit(Effect::RetryIo { tag });
        }
    }

    /// An I/O has ended. If it had met a full disk there may be room for others, too.
    pub(crate) fn space_io_ended(&mut self, nr: VolumeNr, tag: IoTag, ok: bool) {
        let Some(volume) = self.volumes.get_mut(&nr) else {
            return;
        };
        let space = &mut volume.space;
        if space.held.remove(&tag).is_none() {
            return;
        }
        if ok {
            space.passed += 1;
            self.retry_for_space(nr, 2);
        }
        let now = self.now;
        let space = &mut self.volume_mut(nr).space;
        if !space.held.is_empty() {
            return;
        }
        let (since, passed) = (space.since.take(), space.passed);
        self.clear_timer(Timer::NoSpace(nr));
        if let Some(since) = since.filter(|_| ok) {
            let seconds = now.ms_since(since) / 1000;
            let text = format!(
                "there is space on the disk again: {passed} writes went on, after {seconds} seconds"
            );
            self.log_often(Level::Info, nr, text);
        }
    }

    /// The disk goes: nothing waits for it any more. (What is just being tried comes back, and fails then.)
    pub(crate) fn give_up_waiting_for_space(&mut self, nr: VolumeNr) {
        let queue = core::mem::take(&mut self.volume_mut(nr).space.queue);
        if queue.is_empty() {
            return;
        }
        let text = format!(
            "{} writes that waited for space on the disk are given up with it",
            queue.len()
        );
        self.log_volume(Level::Warn, nr, text);
        for tag in queue {
            self.emit(Effect::GiveUpIo { tag });
        }
    }

    /// Whether the end of a connection that was ordered waits for nothing but writes of the peer, of which some wait for space.
    pub(crate) fn drain_waits_for_space(&self) -> bool {
        let waits = |nr| self.waits_for_space(nr) && self.has_writes_of_lost_peer(nr);
        self.net.cstate == ConnState::Disconnecting
            && self.is_draining()
            && self.volume_numbers().into_iter().any(waits)
    }

    /// Whether writes wait for space on this volume's disk.
    pub(crate) fn waits_for_space(&self, nr: VolumeNr) -> bool {
        self.volumes.get(&nr).is_some_and(|v| !v.space.is_empty())
    }
}
