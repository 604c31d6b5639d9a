//! Attaching a disk: read the superblock, the activity log and the bitmap, decide what the disk is, and say so on disk
//! before anything else is written (`docs/spec/behaviour.md`, section 6.2; `docs/spec/metadata.md`, sections 2.4, 3.4,
//! 3.5 and 4.10). A log that was not applied is applied here: its extents are marked if the disk was Primary.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::config::DiskOptions;
use crate::disk::io::Io;
use crate::disk::reading::{AttachStep, Reading};
use crate::disk::{MdKind, Then};
use crate::effect::{AdminError, Effect, Level};
use crate::event::{DiskError, DiskInfo, Payload};
use crate::generation::Generation;
use crate::ids::{IoTag, VolumeNr};
use crate::router::Resource;
use crate::rules::attach::{self, Fit, RecordedWorth};
use crate::rules::sizes;
use crate::state::{Change, ConnState, DiskState, Role};

impl<P: Payload> Resource<P> {
    /// Starts an attach; how it ends is told to the administrative command in progress.
    pub(in crate::router) fn start_attach(
        &mut self,
        nr: VolumeNr,
        info: DiskInfo,
        options: DiskOptions,
    ) {
        let volume = self.volume_mut(nr);
        if volume.state.disk != DiskState::Diskless || !volume.disk.is_empty() {
            self.admin_done(Err(AdminError::refused(124, "the volume has a disk")));
            return;
        }
        match Reading::new(info, options) {
            Ok(reading) => {
                volume.disk.read(reading);
                self.attach_go_on(nr);
            }
            Err(error) => {
                self.emit(Effect::CloseDisk { volume: nr });
                self.admin_done(Err(AdminError::refused(112, error.to_string())));
            }
        }
    }

    /// Reads what comes next, or goes on with all that was read.
    fn attach_go_on(&mut self, nr: VolumeNr) {
        let next = self.reading(nr).next();
        let Some((sector, bytes)) = next else {
            self.attach_install(nr);
            return;
        };
        let tag = self.start_io(Io::AttachRead { volume: nr });
        self.reading(nr).read_begins(tag);
        self.emit(Effect::MetaRead {
            volume: nr,
            tag,
            sector,
            bytes,
        });
    }

    pub(in crate::router) fn on_attach_read(
        &mut self,
        nr: VolumeNr,
        tag: IoTag,
        result: Result<Vec<u8>, DiskError>,
    ) {
        let reading = self.volumes.get_mut(nr);
        let reading = reading.and_then(|volume| volume.disk.reading_mut());
        let Some(step) = reading.and_then(|reading| reading.read_ended(tag)) else {
            return;
        };
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(error) => {
                let text = format!("reading the metadata failed (errno {})", error.errno);
                self.attach_failed(nr, AdminError::refused(118, text));
                return;
            }
        };
        let read = match step {
            AttachStep::Superblock => self.attach_superblock(nr, &bytes),
            AttachStep::Log => self.attach_log(nr, &bytes),
            AttachStep::Bitmap => {
                self.reading(nr).bitmap(&bytes);
                Ok(())
            }
        };
        match read {
            Ok(()) => self.attach_go_on(nr),
            Err(error) => self.attach_failed(nr, error),
        }
    }

    fn reading(&mut self, nr: VolumeNr) -> &mut Reading {
        let reading = self.volume_mut(nr).disk.reading_mut();
        reading.expect("the caller has seen the attach")
    }

    fn attach_superblock(&mut self, nr: VolumeNr, bytes: &[u8]) -> Result<(), AdminError> {
        let volume = self.volume_mut(nr);
        let reading = volume.disk.reading_mut();
        let reading = reading.expect("the caller has seen the attach");
        // (It stays for another try: this one may be refused yet.)
        if reading.superblock(bytes, volume.size, volume.remembered.as_ref())? {
            let text =
                "this disk failed before it had noted a resync's end, which this node has seen";
            self.log_volume(Level::Info, nr, text);
        }
        Ok(())
    }

    /// The log, and steps 12 to 20: nothing is written before these.
    fn attach_log(&mut self, nr: VolumeNr, ring: &[u8]) -> Result<(), AdminError> {
        let forget = self.planted(crate::Bug::ForgetPrimary);
        self.reading(nr).log(ring, forget)?;
        let (record, usable, wanted) = self.reading(nr).record();
        let current = Generation::new(record.uuids[0]);
        let last_agreed = record.la_size_sectors;
        let flags = record.flags;
        self.holds_what_users_saw(nr, current)?;
        let peer = self.volume(nr).peer.disk_size;
        let size = sizes::agreed(peer, usable, last_agreed, wanted);
        let fit = attach::fit(size, last_agreed, wanted, flags);
        if let Some(text) = fit.words(size, last_agreed) {
            let refused = fit == Fit::Refused;
            let level = if refused { Level::Error } else { Level::Warn };
            self.log_volume(level, nr, text.clone());
            if refused {
                return Err(AdminError::refused(170, text));
            }
        }
        self.change(nr, Change::disk(DiskState::Attaching), false)
            .map_err(AdminError::State)?;
        self.reading(nr).claim(size);
        Ok(())
    }

    /// A disk of the generation `current` shows users no older data than they have seen, as far as that can be told without
    /// the peer's names.
    fn holds_what_users_saw(
        &mut self,
        nr: VolumeNr,
        current: Generation,
    ) -> Result<(), AdminError> {
        let Some(older) = attach::older_alone(&self.volume(nr).shown(current)) else {
            return Ok(());
        };
        let text = older.to_string();
        self.log_volume(Level::Error, nr, text.clone());
        Err(AdminError::refused(150, text))
    }

    /// The disk becomes the volume's, and its metadata is put in order before it is used.
    fn attach_install(&mut self, nr: VolumeNr) {
        let forget = self.planted(crate::Bug::ForgetPrimary);
        let reading = self.volume_mut(nr).disk.end_reading();
        let Some(found) = reading.and_then(|reading| reading.found(forget)) else {
            return;
        };
        if let Some(marked) = found.marked {
            let text = format!(
                "Marked additional {} KB as out-of-sync based on AL.",
                marked * 4
            );
            self.log_volume(Level::Info, nr, text);
        }
        let volume = self.volume_mut(nr);
        volume.crashed_primary = found.crashed;
        volume.degraded = volume.state.role != Role::Primary && found.was_alone;
        volume.grew_while_detached = found.grew;
        volume.size = found.size;
        volume.counters = Default::default();
        volume.peer.traffic.begin_anew();
        let moved = found.disk.is_moved();
        volume.disk.prepare(found.disk);
        if moved {
            let text = "the metadata does not lie where these devices' sizes ask for; it is used where it lies";
            self.log_volume(Level::Warn, nr, text);
        }
        if found.clean.marks_all() {
            let text = "Assuming that all blocks are out of sync (aka FullSync)";
            self.log_volume(Level::Info, nr, text);
        }
        for (kind, then) in found.clean.operations() {
            self.md(nr, kind, then);
        }
    }

    /// The metadata is in order, or could not be written; or the record of what the disk is.
    pub(in crate::router) fn attach_continue(&mut self, nr: VolumeNr, ok: bool) {
        if !self.admin.attaches(nr) {
            return; // it was given up
        }
        if !ok {
            self.attach_failed(nr, AdminError::refused(118, "writing the metadata failed"));
            return;
        }
        if !self.volume(nr).disk.is_preparing() {
            self.admin_done(Ok(()));
            return;
        }
        if self.attach_waits(nr) {
            self.volume_mut(nr).disk.wait_for_peer();
            return;
        }
        // (Whether the peer was there when the attach began says nothing about now.)
        let volume = self.volume(nr);
        let state = volume.state;
        let current = volume.disk.get().map(|disk| disk.record().ids().current);
        if state.conn < ConnState::Connected
            && let Some(current) = current
            && let Err(error) = self.holds_what_users_saw(nr, current)
        {
            self.attach_failed(nr, error);
            return;
        }
        let volume = self.volume_mut(nr);
        volume.disk.use_it();
        let Some(disk) = volume.disk.get_mut() else {
            return;
        };
        let is_primary = state.role == Role::Primary;
        disk.record_mut().set_primary_bit(is_primary);
        let flags = disk.record().flags();
        if state.conn < ConnState::Connected && disk.suspend_log() {
            self.log_volume(Level::Info, nr, "Suspended AL updates");
        }
        let fencing = self.context(nr).fencing;
        self.attach_decide(nr, RecordedWorth::of(flags, &state, fencing));
    }

    /// What the disk is, and the peer's: at once, or by the next handshake.
    fn attach_decide(&mut self, nr: VolumeNr, worth: RecordedWorth) {
        let volume = self.volume_mut(nr);
        let (state, bits) = (volume.state, volume.bits_set());
        let text = format!(
            "{} KB ({bits} bits) marked out-of-sync by on disk bit-map.",
            bits * 4
        );
        self.log_volume(Level::Info, nr, text);
        if state.conn >= ConnState::Connected {
            let volume = self.volume_mut(nr);
            volume.peer.negotiated = Some(worth);
            if attach::forgets_peers_names(&state) {
                volume.peer.ids = None;
                volume.peer.moved_on = None; // (that was because of the disk before this one)
            }
        }
        if let Err(error) = self.change(nr, worth.change(&state), true) {
            self.attach_failed(nr, AdminError::State(error));
            return;
        }
        self.md(nr, MdKind::SUPERBLOCK, Then::Attach);
    }

    /// Whether a disk whose metadata is in order waits for the peer. While parameters are exchanged: ours spoke of no disk, and one that
    /// came up between them and the peer's would be compared on one side only. (L26) And while the loss of the disk before it is on no
    /// record: the peer would tell of the generation that it has begun, which its disk need not have, and that tells us that it has.
    fn attach_waits(&self, nr: VolumeNr) -> bool {
        self.net.link.is_exchanging() || self.awaits_record_of_loss(nr)
    }

    /// Goes on with an attach that waited for the peer. Says whether there was one.
    pub(in crate::router) fn poll_attach(&mut self, nr: VolumeNr) -> bool {
        let told = self.volumes.get(nr).is_some_and(|v| v.disk.is_told());
        let due = told && !self.attach_waits(nr);
        if due {
            self.attach_continue(nr, true);
        }
        due
    }

    /// The volume is Diskless again.
    pub(in crate::router) fn attach_failed(&mut self, nr: VolumeNr, error: AdminError) {
        self.note_refused_disk(nr, &error);
        let volume = self.volume_mut(nr);
        volume.disk.end_reading();
        let state = volume.state.disk;
        if volume.disk.get().is_some() {
            // Its failed metadata has made it Failed, or will: the way out is that of every failed disk.
            if state == DiskState::Diskless {
                volume.disk.close(); // given up while it was negotiated, forgotten when it is quiet
            } else if state >= DiskState::Failed {
                self.fail_disk(nr);
            } else {
                // What is written for an attach that was given up ends some time; the disk is forgotten then.
                volume.disk.close();
                if volume.disk.pending() == 0
                    && volume
                        .disk
                        .get()
                        .is_some_and(|disk| !disk.is_writing_metadata())
                {
                    volume.disk.remove();
                }
                self.fact(nr, Change::disk(DiskState::Diskless));
            }
        } else if state == DiskState::Attaching {
            self.fact(nr, Change::disk(DiskState::Diskless));
        } else {
            self.emit(Effect::CloseDisk { volume: nr });
        }
        self.admin_done(Err(error));
    }
}
