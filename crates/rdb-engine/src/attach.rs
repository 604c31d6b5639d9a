//! Attaching a disk: read the superblock, the activity log and the bitmap, decide what the disk is, and say so on disk
//! before anything else is written (`docs/spec/behaviour.md`, section 6.2; `docs/spec/metadata.md`, sections 2.4, 3.4,
//! 3.5 and 4.10). A log that was not applied is applied here: its extents are marked if the disk was Primary.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use rdb_meta::activity_log::{self, Replay};
use rdb_meta::{Bitmap, Layout, Magic, MdFlags, Superblock, SuperblockError};

use crate::config::DiskOptions;
use crate::effect::{AdminError, Effect, Level};
use crate::event::{DiskError, DiskInfo, Payload};
use crate::generation::same;
use crate::ids::{IoTag, VolumeNr};
use crate::metadata::{MdKind, Then};
use crate::resource::{Io, Resource};
use crate::rules::remembered::lacks_resync_end;
use crate::state::{Change, ConnState, DiskState, Role, VolumeState};
use crate::volume::{Disk, Remembered};

/// How far an attach is.
#[derive(Debug)]
pub(crate) struct Attach {
    info: DiskInfo,
    options: DiskOptions,
    step: Step,
    superblock: Option<(Superblock, Layout)>,
    /// Extents to mark, and whether the ring holds updates that must not be replayed again.
    hot: Vec<rdb_meta::ExtentNr>,
    ring_in_use: bool,
    size: u64,
    bitmap: Option<Bitmap>,
    /// The marks on disk are of a resync that is known to have ended with none.
    marks_ended: bool,
    /// The next bitmap page to read.
    page: usize,
    /// The read under way. One of an attach that was given up may still come.
    read: Option<IoTag>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Superblock,
    Log,
    Bitmap,
    /// The metadata is as we want to find it after a crash.
    Clean,
    /// The peer has been told of a disk that is not there yet, and we wait for what it makes of that.
    Told,
    /// The superblock that says what the disk is.
    Final,
}

/// What has to be put in order.
#[derive(Debug)]
struct Clean {
    /// All blocks are marked.
    full: bool,
    /// The bitmap has another size than on disk.
    resized: bool,
    /// Marks were added or taken away.
    bitmap_changed: bool,
    /// The record says that a Primary wrote here.
    was_primary: bool,
    /// The log holds updates.
    ring_in_use: bool,
}

/// Pages read at a time: 1 MiB.
const PAGES_PER_READ: usize = 256;

impl<P: Payload> Resource<P> {
    /// Starts an attach; how it ends is told to the administrative command in progress.
    pub(crate) fn start_attach(&mut self, nr: VolumeNr, info: DiskInfo, options: DiskOptions) {
        let state = self.volume(nr).state;
        if state.disk != DiskState::Diskless
            || self.volume(nr).disk.is_some()
            || self.volume(nr).attach.is_some()
        {
            self.admin_done(Err(AdminError::refused(124, "the volume has a disk")));
            return;
        }
        let superblock = match info.kind.superblock_sector(info.meta_capacity_sectors) {
            Ok(sector) => sector,
            Err(error) => {
                self.emit(Effect::CloseDisk { volume: nr });
                self.admin_done(Err(AdminError::refused(112, error.to_string())));
                return;
            }
        };
        self.volume_mut(nr).attach = Some(Box::new(Attach {
            info,
            options,
            step: Step::Superblock,
            superblock: None,
            hot: Vec::new(),
            ring_in_use: false,
            size: 0,
            bitmap: None,
            marks_ended: false,
            page: 0,
            read: None,
        }));
        self.attach_read(nr, superblock, 4096);
    }

    fn attach_read(&mut self, nr: VolumeNr, sector: u64, bytes: u32) {
        let tag = self.start_io(Io::AttachRead { volume: nr });
        self.attaching(nr).read = Some(tag);
        self.emit(Effect::MetaRead {
            volume: nr,
            tag,
            sector,
            bytes,
        });
    }

    pub(crate) fn on_attach_read(
        &mut self,
        nr: VolumeNr,
        tag: IoTag,
        result: Result<Vec<u8>, DiskError>,
    ) {
        let attach = self.volumes.get(&nr).and_then(|v| v.attach.as_deref());
        let Some(attach) = attach.filter(|attach| attach.read == Some(tag)) else {
            return;
        };
        let step = attach.step;
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(error) => {
                let text = format!("reading the metadata failed (errno {})", error.errno);
                self.attach_failed(nr, AdminError::refused(118, text));
                return;
            }
        };
        let next = match step {
            Step::Superblock => self.attach_superblock(nr, &bytes),
            Step::Log => self.attach_log(nr, &bytes),
            Step::Bitmap => self.attach_bitmap(nr, &bytes),
            Step::Clean | Step::Told | Step::Final => Ok(()),
        };
        if let Err(error) = next {
            self.attach_failed(nr, error);
        }
    }

    fn attaching(&mut self, nr: VolumeNr) -> &mut Attach {
        self.volume_mut(nr)
            .attach
            .as_deref_mut()
            .expect("the caller has seen the attach")
    }

    /// Rows 2 to 16 of `docs/spec/metadata.md`, section 2.4.
    fn attach_superblock(&mut self, nr: VolumeNr, bytes: &[u8]) -> Result<(), AdminError> {
        let volume = self.volume_mut(nr);
        let (device_size, remembered) = (volume.size, volume.remembered.take());
        let attach = self.attaching(nr);
        let info = attach.info;
        let refused = |error: SuperblockError| AdminError::refused(119, error.to_string());
        let mut superblock = Superblock::parse(bytes).map_err(refused)?;
        let layout = superblock
            .check(
                info.kind,
                info.data_capacity_sectors,
                info.meta_capacity_sectors,
            )
            .map_err(refused)?;
        let usable = layout.usable_sectors;
        let wanted = attach.options.size_sectors;
        if wanted > usable {
            let text = format!("size is {wanted} sectors, the disk has room for {usable}");
            return Err(AdminError::refused(111, text));
        }
        if info.meta_capacity_sectors < rdb_meta::layout::KERNEL_META_SECTORS_MIN {
            let text = format!(
                "the metadata device has {} sectors, 2048 are needed",
                info.meta_capacity_sectors
            );
            return Err(AdminError::refused(112, text));
        }
        if usable < device_size {
            let text =
                format!("the device has {device_size} sectors, the disk has room for {usable}");
            return Err(AdminError::refused(111, text));
        }
        let ring_bytes = u32::try_from(layout.al.blocks() * 4096)
            .ok()
            .filter(|_| layout.al.blocks() <= rdb_meta::layout::AL_BLOCKS_INTEROPERABLE_MAX)
            .ok_or_else(|| AdminError::refused(119, "the activity log is larger than 32 MiB"))?;
        let lacks = |known: &Remembered| lacks_resync_end(&superblock, &known.superblock);
        let completed = remembered.filter(lacks);
        let marks_ended = completed.as_ref().is_some_and(|known| known.clean);
        if let Some(known) = completed {
            superblock.uuids = known.superblock.uuids;
            let text =
                "this disk failed before it had noted a resync's end, which this node has seen";
            self.log_volume(Level::Info, nr, text);
        }
        let attach = self.attaching(nr);
        attach.superblock = Some((superblock, layout));
        attach.marks_ended = marks_ended;
        attach.step = Step::Log;
        self.attach_read(nr, layout.al_sector, ring_bytes);
        Ok(())
    }

    /// What the log says is hot (`docs/spec/metadata.md`, section 4.10).
    fn attach_log(&mut self, nr: VolumeNr, ring: &[u8]) -> Result<(), AdminError> {
        let forget = self.planted(crate::Bug::ForgetPrimary);
        let attach = self.attaching(nr);
        let (superblock, layout) = attach.superblock.clone().expect("read in the step before");
        let was_primary = superblock.flags.contains(MdFlags::PRIMARY_IND) && !forget;
        let disabled = superblock.flags.contains(MdFlags::AL_DISABLED);
        match activity_log::replay(layout.al, ring) {
            Ok(Replay {
                hot, updates_found, ..
            }) => {
                attach.ring_in_use = updates_found;
                if was_primary {
                    attach.hot = hot.into_iter().collect();
                }
            }
            // Without its log a crashed Primary does not know what may differ from the peer (I15).
            Err(error) if was_primary && !disabled => {
                let text = format!(
                    "the disk was Primary when it went down, and its activity log: {error}"
                );
                return Err(AdminError::refused(165, text));
            }
            Err(_) => attach.ring_in_use = true,
        }
        self.attach_claim(nr)
    }

    /// Steps 12 to 20: nothing is written before these.
    fn attach_claim(&mut self, nr: VolumeNr) -> Result<(), AdminError> {
        let volume = self.volume(nr);
        let (superblock, layout) = volume
            .attach
            .as_ref()
            .and_then(|a| a.superblock.clone())
            .expect("read before");
        self.holds_what_users_saw(nr, superblock.uuids[0])?;
        let volume = self.volume(nr);
        let options = volume
            .attach
            .as_ref()
            .map(|a| a.options.clone())
            .unwrap_or_default();
        let last_agreed = superblock.la_size_sectors;
        let peer = volume.peer.disk_size;
        let size = crate::rules::sizes::agreed(
            peer,
            layout.usable_sectors,
            last_agreed,
            options.size_sectors,
        );
        if superblock.flags.contains(MdFlags::CONSISTENT) && size < last_agreed {
            if size == options.size_sectors {
                let text = format!(
                    "truncating a consistent device during attach ({size} < {last_agreed})"
                );
                self.log_volume(Level::Warn, nr, text);
            } else {
                let text =
                    format!("refusing to truncate a consistent device ({size} < {last_agreed})");
                self.log_volume(Level::Error, nr, text.clone());
                return Err(AdminError::refused(170, text));
            }
        }
        self.change(nr, Change::disk(DiskState::Attaching), false)
            .map_err(AdminError::State)?;
        let attach = self.attaching(nr);
        attach.size = size;
        attach.bitmap = Some(Bitmap::new(
            last_agreed.min(layout.usable_sectors),
            last_agreed == 0,
        ));
        attach.step = Step::Bitmap;
        self.attach_next_page(nr)
    }

    /// A disk of the generation `current` shows users no older data than they have seen, as far as that can be told without
    /// the peer's names.
    fn holds_what_users_saw(&mut self, nr: VolumeNr, current: u64) -> Result<(), AdminError> {
        if self.volume(nr).state.pdsk == DiskState::UpToDate {
            return Ok(());
        }
        let Some(text) = self.lacks_what_users_saw(nr, current) else {
            return Ok(());
        };
        self.log_volume(Level::Error, nr, text.clone());
        Err(AdminError::refused(150, text))
    }

    /// (L25) Why a disk of the generation `current` is older than what users have seen, if it is.
    pub(crate) fn lacks_what_users_saw(&self, nr: VolumeNr, current: u64) -> Option<String> {
        let volume = self.volume(nr);
        let state = volume.state;
        let (exposed, left_behind) = (volume.exposed_uuid, volume.left_behind);
        let somebody_primary = state.role == Role::Primary || state.peer == Role::Primary;
        if exposed != 0 && somebody_primary && !same(current, exposed) {
            Some(format!(
                "Can only attach to data with current UUID={exposed:016X}"
            ))
        } else if state.role == Role::Primary && left_behind != 0 && same(current, left_behind) {
            Some("the disk lacks writes that only the peer's disk has".into())
        } else {
            None
        }
    }

    fn attach_next_page(&mut self, nr: VolumeNr) -> Result<(), AdminError> {
        let attach = self.attaching(nr);
        let (superblock, layout) = attach.superblock.clone().expect("read before");
        let pages = attach.bitmap.as_ref().map_or(0, Bitmap::page_count);
        if superblock.la_size_sectors == 0 || attach.page >= pages {
            self.attach_install(nr);
            return Ok(());
        }
        let count = (pages - attach.page).min(PAGES_PER_READ);
        let (first, _) = layout.bitmap_page_sectors(attach.page);
        let (last, last_sectors) = layout.bitmap_page_sectors(attach.page + count - 1);
        let bytes = u32::try_from((last + last_sectors - first) * 512).expect("at most 1 MiB");
        self.attach_read(nr, first, bytes);
        Ok(())
    }

    fn attach_bitmap(&mut self, nr: VolumeNr, bytes: &[u8]) -> Result<(), AdminError> {
        let attach = self.attaching(nr);
        if let Some(bitmap) = &mut attach.bitmap {
            for page in bytes.chunks(4096) {
                bitmap.load_page(attach.page, page);
                attach.page += 1;
            }
        }
        self.attach_next_page(nr)
    }

    /// The disk becomes the volume's, and its metadata is put in order before it is used.
    fn attach_install(&mut self, nr: VolumeNr) {
        let Some(mut attach) = self.volume_mut(nr).attach.take() else {
            return;
        };
        let Some((mut superblock, layout)) = attach.superblock.clone() else {
            return;
        };
        let Some(mut bitmap) = attach.bitmap.take() else {
            return;
        };
        let state = self.volume(nr).state;
        let flags = superblock.flags;
        let fresh = superblock.la_size_sectors == 0;
        let forget = self.planted(crate::Bug::ForgetPrimary);
        let was_primary = flags.contains(MdFlags::PRIMARY_IND) && !forget;
        let crashed = flags.contains(MdFlags::CRASHED_PRIMARY) || was_primary;
        if attach.marks_ended {
            // Under the name that the record gets they would tell of no difference, and no resync would take them away.
            bitmap.clear_all();
        }
        let mut marked = 0;
        for extent in &attach.hot {
            marked += bitmap.set_sectors(extent.first_sector(), rdb_meta::EXTENT_SECTORS);
        }
        if !attach.hot.is_empty() {
            let text = format!(
                "Marked additional {} KB as out-of-sync based on AL.",
                marked * 4
            );
            self.log_volume(Level::Info, nr, text);
        }
        let resized = attach.size != bitmap.size_sectors();
        if resized {
            bitmap.resize(attach.size, true);
        }
        let slots = attach
            .options
            .al_extents
            .clamp(67, layout.al.slots_max().max(67));
        superblock.al_nr_extents = slots;
        superblock.magic = Magic::V84Unclean;
        let full = flags.contains(MdFlags::FULL_SYNC)
            || (crashed && flags.contains(MdFlags::AL_DISABLED))
            || fresh;
        let grew = resized && !fresh && attach.size > superblock.la_size_sectors;
        let volume = self.volume_mut(nr);
        volume.crashed_primary = crashed;
        volume.degraded =
            state.role != Role::Primary && was_primary && !flags.contains(MdFlags::CONNECTED_IND);
        volume.grew_while_detached = grew;
        volume.size = attach.size;
        volume.counters = Default::default();
        let moved = layout.moved;
        let disk = Disk::new(
            attach.info,
            attach.options.clone(),
            layout,
            superblock,
            bitmap,
        );
        volume.disk = Some(Box::new(disk));
        let clean = Clean {
            full,
            resized,
            bitmap_changed: marked > 0 || attach.marks_ended,
            was_primary,
            ring_in_use: attach.ring_in_use,
        };
        attach.step = Step::Clean;
        self.volume_mut(nr).attach = Some(attach);
        if moved {
            let text = "the metadata does not lie where these devices' sizes ask for; it is used where it lies";
            self.log_volume(Level::Warn, nr, text);
        }
        self.clean_metadata(nr, &clean);
    }

    /// Puts the metadata into the order that we want to find it in after a crash.
    fn clean_metadata(&mut self, nr: VolumeNr, clean: &Clean) {
        let mark_full = |set: bool| {
            let (all, none) = (MdFlags::FULL_SYNC, MdFlags::empty());
            let (set, clear) = if set { (all, none) } else { (none, all) };
            MdKind::Superblock { set, clear }
        };
        if clean.full {
            let text = "Assuming that all blocks are out of sync (aka FullSync)";
            self.log_volume(Level::Info, nr, text);
            self.md_full_sync(nr, Then::Nothing);
        } else if clean.resized {
            self.md(nr, mark_full(true), Then::Nothing);
            self.md(nr, MdKind::ChangedPages, Then::Nothing);
            self.md(nr, mark_full(false), Then::Nothing);
        } else if clean.bitmap_changed {
            // The marks are durable before the log that they come from is emptied (I14), and those of the ended resync are gone
            // before the superblock that takes their name away.
            self.md(nr, MdKind::ChangedPages, Then::Nothing);
        }
        if clean.was_primary && clean.ring_in_use {
            // The bitmap says it all now. What is left of a log that is torn while it is emptied must not be asked for.
            let kind = MdKind::Superblock {
                set: MdFlags::CRASHED_PRIMARY,
                clear: MdFlags::PRIMARY_IND,
            };
            self.md(nr, kind, Then::Nothing);
        }
        if clean.ring_in_use || clean.full || clean.resized {
            // Our transactions count from 0 again: older ones must not be taken for newer (I18). On a first attach the
            // kernel's driver writes the ring too.
            self.md(nr, MdKind::InitialiseLog, Then::Nothing);
        }
        self.md(nr, MdKind::SUPERBLOCK, Then::Attach);
    }

    /// The metadata is in order, or could not be written.
    pub(crate) fn attach_continue(&mut self, nr: VolumeNr, ok: bool) {
        let Some(attach) = self.volumes.get(&nr).and_then(|v| v.attach.as_deref()) else {
            return;
        };
        if !ok {
            self.attach_failed(nr, AdminError::refused(118, "writing the metadata failed"));
            return;
        }
        if attach.step == Step::Final {
            self.volume_mut(nr).attach = None;
            self.admin_done(Ok(()));
            return;
        }
        if self.net.state_sent {
            // Our parameters spoke of no disk. One that came up between them and the peer's would be compared on one
            // side only: it is negotiated afterwards.
            self.attaching(nr).step = Step::Told;
            return;
        }
        // (Whether the peer was there when the attach began says nothing about now.)
        let volume = self.volume(nr);
        let state = volume.state;
        let current = volume.disk.as_deref().map(|disk| disk.sb.uuids[0]);
        if state.conn < ConnState::Connected
            && let Some(current) = current
            && let Err(error) = self.holds_what_users_saw(nr, current)
        {
            self.attach_failed(nr, error);
            return;
        }
        self.attaching(nr).step = Step::Final;
        let volume = self.volume_mut(nr);
        let Some(disk) = volume.disk.as_deref_mut() else {
            return;
        };
        disk.ready = true;
        let mut ids = disk.ids();
        ids.set_primary_bit(state.role == Role::Primary);
        disk.set_ids(ids);
        let flags = disk.sb.flags;
        let all_set = disk.bitmap.count_set() == disk.bitmap.bits() && disk.bitmap.bits() > 0;
        if all_set && state.conn < ConnState::Connected {
            disk.al_suspended = true;
            self.log_volume(Level::Info, nr, "Suspended AL updates");
        }
        let (own, peer) = worth(flags, state);
        let bits = self.volume(nr).bits_set();
        self.log_volume(
            Level::Info,
            nr,
            format!(
                "{} KB ({bits} bits) marked out-of-sync by on disk bit-map.",
                bits * 4
            ),
        );
        let change = if state.conn >= ConnState::Connected {
            let volume = self.volume_mut(nr);
            volume.negotiated = Some((own, peer));
            if crate::state::is_there(volume.state.pdsk) {
                volume.peer.ids = None; // fresh ones will come; those of a disk that attaches as ours does are fresh
            }
            Change::disk(DiskState::Negotiating)
        } else {
            Change::disk(own).and_pdsk(peer)
        };
        if let Err(error) = self.change(nr, change, true) {
            self.attach_failed(nr, AdminError::State(error));
            return;
        }
        self.md(nr, MdKind::SUPERBLOCK, Then::Attach);
    }

    /// Goes on with an attach that waited for the exchange of parameters. Says whether there was one.
    pub(crate) fn poll_attach(&mut self, nr: VolumeNr) -> bool {
        let attach = self.volumes.get(&nr).and_then(|v| v.attach.as_deref());
        let due = !self.net.state_sent && attach.is_some_and(|a| a.step == Step::Told);
        if due {
            self.attach_continue(nr, true);
        }
        due
    }

    /// The volume is Diskless again.
    pub(crate) fn attach_failed(&mut self, nr: VolumeNr, error: AdminError) {
        self.note_refused_disk(nr, &error);
        let volume = self.volume_mut(nr);
        volume.attach = None;
        if volume.disk.is_some() {
            // Its failed metadata has made it Failed, or will: the way out is that of every failed disk.
            if self.volume(nr).state.disk == DiskState::Diskless {
                self.disk_mut(nr).failed = true; // given up while it was negotiated, closed when it is quiet
            } else if self.volume(nr).state.disk >= DiskState::Failed {
                self.fail_disk(nr);
            } else {
                let disk = self.disk_mut(nr);
                disk.failed = true;
                // What is written for an attach that was given up ends some time; the disk is closed then.
                if disk.md_running.is_none() {
                    self.volume_mut(nr).disk = None;
                }
                self.fact(nr, Change::disk(DiskState::Diskless));
            }
        } else if self.volume(nr).state.disk == DiskState::Attaching {
            self.fact(nr, Change::disk(DiskState::Diskless));
        } else {
            self.emit(Effect::CloseDisk { volume: nr });
        }
        self.admin_done(Err(error));
    }
}

/// What a disk of this record is worth, and the peer's.
fn worth(flags: MdFlags, state: VolumeState) -> (DiskState, DiskState) {
    let own = if !flags.contains(MdFlags::CONSISTENT) {
        DiskState::Inconsistent
    } else if !flags.contains(MdFlags::WAS_UP_TO_DATE) {
        DiskState::Outdated
    } else {
        DiskState::UpToDate // fencing is dont-care: nobody else can be newer without our knowing
    };
    let outdated = flags.contains(MdFlags::PEER_OUT_DATED) && state.conn < ConnState::Connected;
    let peer = if outdated {
        DiskState::Outdated
    } else {
        state.pdsk
    };
    (own, peer)
}
