//! A full disk: writes that meet it wait, and are tried again; or the disk is given up.

use alloc::format;

use crate::disk::space::{PROBES, RETRY_MS};
use crate::effect::{Effect, Level};
use crate::event::{DiskError, Payload, Timer};
use crate::ids::{IoTag, VolumeNr};
use crate::router::Resource;
use crate::rules::no_space::{self, Met, Verdict};
use crate::state::ConnState;

impl<P: Payload> Resource<P> {
    /// A write has met a full disk. The driver keeps it.
    pub(in crate::router) fn on_no_space(&mut self, tag: IoTag, error: DiskError) {
        let Some(nr) = self.io_volume(tag) else {
            return;
        };
        if self.space_verdict(nr) == Verdict::Fail {
            self.emit(Effect::GiveUpIo { tag });
            return;
        }
        let now = self.now;
        if self.volume_mut(nr).space.met(tag, now) {
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
            policy: disk.options().on_no_space,
            disk: volume.state.disk,
            given_up: volume.disk.open().is_none(),
        })
    }

    fn set_space_timer(&mut self, nr: VolumeNr) {
        let at = self.now.plus_ms(RETRY_MS);
        self.set_timer(Timer::NoSpace(nr), at);
    }

    /// Time for another try.
    pub(in crate::router) fn on_space_timer(&mut self, nr: VolumeNr) {
        if !self.waits_for_space(nr) {
            return;
        }
        if self.space_verdict(nr) == Verdict::Fail {
            self.give_up_waiting_for_space(nr);
            return;
        }
        self.set_space_timer(nr);
        for tag in self.volume_mut(nr).space.try_again(PROBES) {
            self.emit(Effect::RetryIo { tag });
        }
    }

    /// An I/O has ended. If it had met a full disk there may be room for others, too.
    pub(in crate::router) fn space_io_ended(&mut self, nr: VolumeNr, tag: IoTag, ok: bool) {
        let Some(volume) = self.volumes.get_mut(nr) else {
            return;
        };
        let Some(tried) = volume.space.ended(tag, ok) else {
            return;
        };
        let over = volume.space.is_empty();
        for tag in tried {
            self.emit(Effect::RetryIo { tag });
        }
        if !over {
            return;
        }
        let waited = self.volume_mut(nr).space.end();
        self.clear_timer(Timer::NoSpace(nr));
        if let Some((since, passed)) = waited.filter(|_| ok) {
            let seconds = self.now.ms_since(since) / 1000;
            let text = format!(
                "there is space on the disk again: {passed} writes went on, after {seconds} seconds"
            );
            self.log_often(Level::Info, nr, text);
        }
    }

    /// The disk goes: nothing waits for it any more.
    pub(in crate::router) fn give_up_waiting_for_space(&mut self, nr: VolumeNr) {
        let given_up = self.volume_mut(nr).space.give_up();
        if given_up.is_empty() {
            return;
        }
        let text = format!(
            "{} writes that waited for space on the disk are given up with it",
            given_up.len()
        );
        self.log_volume(Level::Warn, nr, text);
        for tag in given_up {
            self.emit(Effect::GiveUpIo { tag });
        }
    }

    /// Whether the end of a connection that was ordered waits for nothing but writes of the peer, of which some wait for space.
    pub(in crate::router) fn drain_waits_for_space(&self) -> bool {
        let waits = |nr| self.waits_for_space(nr) && self.has_writes_of_lost_peer(nr);
        self.net.cstate == ConnState::Disconnecting
            && self.is_draining()
            && self.volume_numbers().into_iter().any(waits)
    }

    /// Whether writes wait for space on this volume's disk.
    pub(in crate::router) fn waits_for_space(&self, nr: VolumeNr) -> bool {
        self.volumes.get(nr).is_some_and(|v| !v.space.is_empty())
    }
}
