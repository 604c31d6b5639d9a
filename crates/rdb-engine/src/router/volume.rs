//! One volume: its state record, its disk, and everything that is in flight on it.

use core::ops::Range;

use crate::config::DiskOptions;
use crate::disk::slot::DiskSlot;
use crate::disk::space::Space;
use crate::disk::watch::Watch;
use crate::disk::{Disk, Remembered};
use crate::exposed::Exposed;
use crate::freeze::Frozen;
use crate::generation::{Generation, PeerIds};
use crate::ids::{Time, VolumeNr};
use crate::latency::Latencies;
use crate::net::settings::in_effect;
use crate::range_locks::RangeLocks;
use crate::router::peer_device::PeerDevice;
use crate::rules::attach::Shown;
use crate::rules::fencing::waits_for_target;
use crate::rules::serving::{has_caught_up, leaves_open};
use crate::state::{Fencing, VolumeState};
use crate::trouble::DiskLost;
use crate::users::Users;

use replica_proto::DiskState;

pub(super) struct Volume<P> {
    pub(super) nr: VolumeNr,
    pub(super) minor: u32,
    pub(super) state: VolumeState,
    /// Size of the device in sectors; 0 while unknown.
    pub(super) size: u64,
    /// Own data were given up for an administrative full sync, which has not begun.
    pub(super) invalidated: bool,
    /// An I/O error was passed on while the connection state kept the disk UpToDate (2.4, rule 6).
    pub(super) passed_on: bool,
    /// What became of its disk, if that is worth telling.
    pub(super) disk_lost: Option<DiskLost>,
    /// The administrator's order to detach is being carried out: the disk that goes meanwhile goes by it. Set and cleared by the
    /// command, around its change of state. Without it `status` takes what the log says of the resync that ends for the reason.
    pub(super) detaching: bool,
    /// A forced promotion has made it UpToDate from this, at this time.
    pub(super) forced: Option<(DiskState, Time)>,
    /// What its users have seen last.
    pub(super) exposed: Exposed,
    /// What was known of the last disk when it was given up, which may not have come to its record.
    pub(super) remembered: Option<Remembered>,
    pub(super) disk: DiskSlot,
    /// What it has to do with the peer.
    pub(super) peer: PeerDevice<P>,
    /// This disk was Primary when it went down and has not been in sync since.
    pub(super) crashed_primary: bool,
    /// Was Primary and alone at the last shutdown.
    pub(super) degraded: bool,
    /// The device grew at attach; its new area is resynced once connected.
    pub(super) grew_while_detached: bool,

    /// What its users have asked for.
    pub(super) users: Users,
    /// Ranges held by application writes, mirrored writes and resync.
    pub(super) held: RangeLocks,

    /// Writes that wait for space on a full disk.
    pub(super) space: Space,
    /// When the disk is looked at.
    pub(super) watch: Watch,

    /// What is frozen of what users have asked for.
    pub(super) frozen: Frozen,

    pub(super) counters: Counters,

    /// How long users' requests took.
    pub(super) latencies: Latencies,
}

/// What the status file counts; sectors where not said otherwise.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counters {
    pub(super) written: u64,
    pub(super) read: u64,
    /// Transactions.
    pub(super) al_writes: u64,
    /// Blocks.
    pub(super) bm_writes: u64,
    /// Sectors of application and mirrored I/O, for the resync's manners.
    pub(super) application_sectors: u64,
}

impl Counters {
    /// This disk is written to for users of either node.
    pub(super) fn wrote_for_users(&mut self, sectors: u64) {
        self.written += sectors;
        self.application_sectors += sectors;
    }
}

impl<P> Volume<P> {
    pub(super) fn new(nr: VolumeNr, minor: u32) -> Self {
        Volume {
            nr,
            minor,
            state: VolumeState::INITIAL,
            size: 0,
            invalidated: false,
            passed_on: false,
            disk_lost: None,
            detaching: false,
            forced: None,
            exposed: Exposed::default(),
            remembered: None,
            disk: DiskSlot::default(),
            peer: PeerDevice::new(),
            crashed_primary: false,
            degraded: false,
            grew_while_detached: false,
            users: Users::default(),
            held: RangeLocks::default(),
            space: Space::default(),
            watch: Watch::default(),
            frozen: Frozen::default(),
            counters: Counters::default(),
            latencies: Latencies::default(),
        }
    }

    /// (L28) Mirrored writes are in the cache of a disk that is being given up: no barrier is acknowledged before it is clear
    /// whether they become durable.
    pub(super) fn holds_back_epochs(&self) -> bool {
        self.peer.mirror_unflushed
            && self.state.disk <= DiskState::Failed
            && self.disk.get().is_some_and(|d| d.options().disk_flushes)
    }

    /// What of these sectors is inside the device, if anything is.
    pub(super) fn inside(&self, sector: u64, end: u64) -> Option<Range<u64>> {
        let inside = sector..end.min(self.size);
        (!inside.is_empty()).then_some(inside)
    }

    /// Whether requests of users have not started.
    pub(super) fn has_waiting_requests(&self) -> bool {
        self.users.wait_for_a_turn() || self.held.users_queued() > 0
    }

    /// The disk, if it can take I/O: attached, read, and not failed.
    pub(super) fn usable_disk(&mut self) -> Option<&mut Disk> {
        if self.state.disk < DiskState::Inconsistent {
            return None;
        }
        self.disk.open_mut()
    }

    /// Whether the disk can take I/O.
    pub(super) fn has_usable_disk(&self) -> bool {
        self.state.disk >= DiskState::Inconsistent && self.disk.open().is_some()
    }

    /// Whether what the superblock of a usable disk is to say is not durable yet.
    pub(super) fn has_pending_record(&self) -> bool {
        self.has_usable_disk() && self.disk.get().is_some_and(|d| d.is_record_pending())
    }

    /// What its disk is worth: its state, or while that is Negotiating what it would be alone.
    pub(super) fn worth(&self) -> DiskState {
        let negotiated = self.peer.negotiated;
        match negotiated.filter(|_| self.state.disk == DiskState::Negotiating) {
            Some(worth) => worth.own,
            None => self.state.disk,
        }
    }

    /// The options of its disk, with the pace of resyncs as the peer has told it.
    pub(super) fn options_in_effect(&self) -> Option<DiskOptions> {
        let disk = self.disk.get()?;
        Some(in_effect(disk.options(), self.peer.pace.as_ref()))
    }

    /// What says whether users may see a disk that holds this generation.
    pub(super) fn shown(&self, holds: Generation) -> Shown {
        Shown {
            state: self.state,
            holds,
            seen: self.exposed.current(),
            left_behind: self.exposed.is_left_behind(holds),
        }
    }

    /// Nothing is left of a crash: what the two disks have is known.
    pub(super) fn forget_crash(&mut self) {
        self.crashed_primary = false;
        if let Some(disk) = self.disk.get_mut() {
            disk.record_mut().forget_crash();
        }
        self.exposed.caught_up();
        self.peer.source_open = false;
        if let Some(peer) = &mut self.peer.ids {
            peer.flags &= !PeerIds::FLAG_CRASHED_PRIMARY;
        }
    }

    /// The marks of a disk that is not UpToDate: whether they tell of everything that is not good here.
    pub(super) fn trust_unmarked(&mut self, trust: bool) {
        if let Some(disk) = self.disk.get_mut() {
            disk.trust_unmarked(trust);
        }
    }

    /// From now on users see the peer's data.
    pub(super) fn expose_peers_generation(&mut self) {
        let Some(peer) = self.peer.ids else {
            return;
        };
        let own = self.disk.get().map(|disk| disk.record().ids().current);
        self.exposed.show(peer.ids.current);
        // (L44) The peer has begun the next one for that reason, or will.
        self.exposed.lose_disk_beside(Some(peer.ids.current));
        if has_caught_up(own, peer.ids.current) {
            self.exposed.caught_up();
        }
    }

    /// The link or the target's disk went while we were source. A target that has come to the end carries our generation.
    pub(super) fn lose_as_source(&mut self) {
        self.peer.source_open = leaves_open(self.state.role, self.peer.resync.target_may_be_done());
    }

    /// (L48) Whether the target of the resync from here may still be as good by its record, and that matters.
    pub(super) fn doubts_target(&self) -> bool {
        let fencing = self
            .disk
            .get()
            .map_or(Fencing::DontCare, |disk| disk.options().fencing);
        waits_for_target(fencing, self.peer.resync.is_target_unproven())
    }

    /// Whether its disk is as `create-md` made it.
    pub(super) fn is_fresh(&self) -> bool {
        let ids = self.disk.get().map(|disk| disk.record().ids());
        ids.is_some_and(|ids| ids.current == Generation::JUST_CREATED)
    }

    pub(super) fn bits_set(&self) -> u64 {
        self.disk.get().map_or(0, |d| d.marked())
    }
}
