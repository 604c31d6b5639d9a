//! A disk that does not answer: `disk-timeout`, and a forced detach (`docs/spec/behaviour.md`, section 6.9).
//!
//! What has been asked of such a disk is given up: whoever waits for it is told that it has failed, and goes on with the peer. The
//! driver keeps the buffers until the disk answers after all, and what it answers then counts for nothing. Until it has
//! answered everything the volume stays Failed, and takes no other disk.

use alloc::format;
use alloc::vec::Vec;

use crate::disk::io::Io;
use crate::effect::Level;
use crate::event::{DiskError, Payload, Timer};
use crate::ids::{IoTag, Time, VolumeNr};
use crate::router::Resource;
use crate::state::DiskState;

impl<P: Payload> Resource<P> {
    /// An I/O begins: from now on a timer looks at the one that has been under way for longest.
    pub(in crate::router) fn watch_disk(&mut self, nr: VolumeNr) {
        let limit_ms = self.disk_limit_ms(nr);
        let volume = self.volume_mut(nr);
        if limit_ms > 0 && volume.watch.begin() {
            let at = self.now.plus_ms(limit_ms);
            self.set_timer(Timer::DiskTimeout(nr), at);
        }
    }

    /// The disk is ordered away by force: it has a moment to answer, so that its last records can be written.
    pub(in crate::router) fn limit_last_answers(&mut self, nr: VolumeNr) {
        let at = self.now.plus_ms(LAST_ANSWERS_MS);
        let volume = self.volume_mut(nr);
        volume.watch.give_up_at(at);
        self.set_timer(Timer::DiskTimeout(nr), at);
    }

    fn disk_limit_ms(&self, nr: VolumeNr) -> u64 {
        let disk = self.volume(nr).disk.get();
        disk.map_or(0, |disk| u64::from(disk.options().disk_timeout_ds) * 100)
    }

    pub(in crate::router) fn on_disk_timer(&mut self, nr: VolumeNr) {
        let now = self.now;
        let Some(volume) = self.volumes.get_mut(nr) else {
            return;
        };
        let given_up = volume.watch.expire(now);
        if given_up && volume.state.disk == DiskState::Failed {
            self.abandon_io(nr);
            return;
        }
        let limit_ms = self.disk_limit_ms(nr);
        let Some(oldest) = self.oldest_io(nr).filter(|_| limit_ms > 0) else {
            return;
        };
        if now.ms_since(oldest) < limit_ms {
            self.volume_mut(nr).watch.go_on();
            self.set_timer(Timer::DiskTimeout(nr), oldest.plus_ms(limit_ms));
            return;
        }
        let text = format!(
            "Local backing device failed to meet the disk-timeout ({limit_ms} ms): it is given up"
        );
        self.log_volume(Level::Error, nr, text);
        self.fail_disk(nr);
        // The peer hears of it before anything is told or sent that rests on it.
        self.run_after();
        self.abandon_io(nr);
    }

    /// Since when the I/O has been under way that the disk owes us for longest. (What waits for space on a full disk waits.)
    fn oldest_io(&self, nr: VolumeNr) -> Option<Time> {
        let space = &self.volume(nr).space;
        let owed = self.io.owed(nr).filter(|(tag, _)| !space.holds(*tag));
        owed.map(|(_, since)| since).min()
    }

    /// Nobody waits any more for what the disk has not answered.
    fn abandon_io(&mut self, nr: VolumeNr) {
        self.volume_mut(nr).disk.close();
        let open: Vec<IoTag> = self.io.owed(nr).map(|(tag, _)| tag).collect();
        let text = format!("{} operations of the disk are given up", open.len());
        self.log_volume(Level::Warn, nr, text);
        for tag in open {
            let Some(io) = self.io.abandon(tag) else {
                continue;
            };
            self.volume_mut(nr).disk.abandon_io();
            self.space_io_ended(nr, tag, false);
            match io {
                Io::Meta { .. } => self.md_io_done(nr, Err(TIMED_OUT)),
                io => self.data_io_ended(io, Err(TIMED_OUT)),
            }
        }
        self.disk_quiet(nr);
    }

    /// The disk has answered what nobody waits for any more.
    pub(in crate::router) fn abandoned_io_ended(&mut self, nr: VolumeNr) {
        if let Some(volume) = self.volumes.get_mut(nr) {
            volume.disk.abandoned_io_ended();
        }
    }
}

/// How long a disk that is detached by force may take for what is under way.
const LAST_ANSWERS_MS: u64 = 1_000;

/// `ETIMEDOUT`.
const TIMED_OUT: DiskError = DiskError { errno: 110 };
