//! One volume: its state record, its disk, and everything that is in flight on it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::config::DiskOptions;
use crate::disk::slot::DiskSlot;
use crate::disk::space::Space;
use crate::disk::{Disk, Remembered};
use crate::exposed::Exposed;
use crate::freeze::Frozen;
use crate::generation::{Generation, PeerIds};
use crate::ids::{RequestKey, Time, VolumeNr};
use crate::latency::Latencies;
use crate::net::settings::in_effect;
use crate::peer_device::PeerDevice;
use crate::range_locks::RangeLocks;
use crate::rules::attach::Shown;
use crate::state::{ConnState, Fencing, Role, VolumeState};
use crate::trouble::DiskLost;

use replica_proto::DiskState;

pub(crate) struct Volume<P> {
    pub(crate) nr: VolumeNr,
    pub(crate) minor: u32,
    pub(crate) state: VolumeState,
    /// Size of the device in sectors; 0 while unknown.
    pub(crate) size: u64,
    /// Own data were given up for an administrative full sync, which has not begun.
    pub(crate) invalidated: bool,
    /// An I/O error was passed on while the connection state kept the disk UpToDate (2.4, rule 6).
    pub(crate) passed_on: bool,
    /// What became of its disk, if that is worth telling.
    pub(crate) disk_lost: Option<DiskLost>,
    /// The administrator's order to detach is being carried out: the disk that goes meanwhile goes by it. Set and cleared by the
    /// command, around its change of state. Without it `status` takes what the log says of the resync that ends for the reason.
    pub(crate) detaching: bool,
    /// A forced promotion has made it UpToDate from this, at this time.
    pub(crate) forced: Option<(DiskState, Time)>,
    /// What its users have seen last.
    pub(crate) exposed: Exposed,
    /// What was known of the last disk when it was given up, which may not have come to its record.
    pub(crate) remembered: Option<Remembered>,
    pub(crate) disk: DiskSlot,
    /// What it has to do with the peer.
    pub(crate) peer: PeerDevice<P>,
    /// This disk was Primary when it went down and has not been in sync since.
    pub(crate) crashed_primary: bool,
    /// Was Primary and alone at the last shutdown.
    pub(crate) degraded: bool,
    /// The device grew at attach; its new area is resynced once connected.
    pub(crate) grew_while_detached: bool,

    /// Application requests that have not started, in order, beside the writes that wait for a range ([`RangeLocks`]).
    pub(crate) waiting: VecDeque<RequestKey>,
    /// Application requests that exist.
    pub(crate) application_pending: u32,
    /// Application writes that have started and are not settled.
    pub(crate) writes_open: u32,
    /// Ranges held by application writes, mirrored writes and resync.
    pub(crate) held: RangeLocks,
    /// How many full syncs that an administrator has ordered are being brought on record: new application writes wait
    /// meanwhile. Without it users would write on data that the order gives up.
    pub(crate) hold_writes: u32,
    /// Ended writes whose completion must wait for the superblock (a new generation is being written).
    pub(crate) completions_held: u32,
    pub(crate) held_completions: Vec<RequestKey>,
    /// An application flush came: the next mirrored write says so.
    pub(crate) flush_before_next: bool,

    /// Writes that were completed and not flushed may have gone with the peer, which had the only good copy: the next
    /// flush says so.
    pub(crate) writes_lost: bool,

    /// Writes that wait for space on a full disk.
    pub(crate) space: Space,
    /// The timer looks at the disk's oldest I/O. Set when it is set, cleared when it expires.
    pub(crate) disk_watched: bool,
    /// When a disk that is detached by force is waited for no longer. Set by the order, cleared by the timer.
    pub(crate) disk_given_up_at: Option<Time>,

    /// What is frozen of what users have asked for.
    pub(crate) frozen: Frozen,

    pub(crate) counters: Counters,

    /// How long users' requests took.
    pub(crate) latencies: Latencies,
}

/// What the status file counts; sectors where not said otherwise.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counters {
    pub(crate) written: u64,
    pub(crate) read: u64,
    /// Transactions.
    pub(crate) al_writes: u64,
    /// Blocks.
    pub(crate) bm_writes: u64,
    /// Sectors of application and mirrored I/O, for the resync's manners.
    pub(crate) application_sectors: u64,
}

impl Counters {
    /// This disk is written to for users of either node.
    pub(crate) fn wrote_for_users(&mut self, sectors: u64) {
        self.written += sectors;
        self.application_sectors += sectors;
    }
}

impl<P> Volume<P> {
    pub(crate) fn new(nr: VolumeNr, minor: u32) -> Self {
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
            waiting: VecDeque::new(),
            application_pending: 0,
            writes_open: 0,
            held: RangeLocks::default(),
            hold_writes: 0,
            completions_held: 0,
            held_completions: Vec::new(),
            flush_before_next: false,
            writes_lost: false,
            space: Space::default(),
            disk_watched: false,
            disk_given_up_at: None,
            frozen: Frozen::default(),
            counters: Counters::default(),
            latencies: Latencies::default(),
        }
    }

    /// (L28) Mirrored writes are in the cache of a disk that is being given up: no barrier is acknowledged before it is clear
    /// whether they become durable.
    pub(crate) fn holds_back_epochs(&self) -> bool {
        self.peer.mirror_unflushed
            && self.state.disk <= DiskState::Failed
            && self.disk.get().is_some_and(|d| d.options().disk_flushes)
    }

    /// Whether requests of users have not started.
    pub(crate) fn has_waiting_requests(&self) -> bool {
        !self.waiting.is_empty() || self.held.users_queued() > 0
    }

    /// The disk, if it can take I/O: attached, read, and not failed.
    pub(crate) fn usable_disk(&mut self) -> Option<&mut Disk> {
        if self.state.disk < DiskState::Inconsistent {
            return None;
        }
        self.disk.open_mut()
    }

    /// Whether the disk can take I/O.
    pub(crate) fn has_usable_disk(&self) -> bool {
        self.state.disk >= DiskState::Inconsistent && self.disk.open().is_some()
    }

    /// Whether what the superblock of a usable disk is to say is not durable yet.
    pub(crate) fn has_pending_record(&self) -> bool {
        self.has_usable_disk() && self.disk.get().is_some_and(|d| d.is_record_pending())
    }

    /// What its disk is worth: its state, or while that is Negotiating what it would be alone.
    pub(crate) fn worth(&self) -> DiskState {
        let negotiated = self.peer.negotiated;
        match negotiated.filter(|_| self.state.disk == DiskState::Negotiating) {
            Some(worth) => worth.own,
            None => self.state.disk,
        }
    }

    /// The options of its disk, with the pace of resyncs as the peer has told it.
    pub(crate) fn options_in_effect(&self) -> Option<DiskOptions> {
        let disk = self.disk.get()?;
        Some(in_effect(disk.options(), self.peer.pace.as_ref()))
    }

    /// What says whether users may see a disk that holds this generation.
    pub(crate) fn shown(&self, holds: Generation) -> Shown {
        Shown {
            state: self.state,
            holds,
            seen: self.exposed.current(),
            left_behind: self.exposed.is_left_behind(holds),
        }
    }

    /// Nothing is left of a crash: what the two disks have is known.
    pub(crate) fn forget_crash(&mut self) {
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
    pub(crate) fn trust_unmarked(&mut self, trust: bool) {
        if let Some(disk) = self.disk.get_mut() {
            disk.trust_unmarked(trust);
        }
    }

    /// From now on users see the peer's data.
    pub(crate) fn expose_peers_generation(&mut self) {
        let Some(peer) = self.peer.ids else {
            return;
        };
        let own = self.disk.get().map(|disk| disk.record().ids().current);
        self.exposed.show(peer.ids.current);
        // (L44) The peer has begun the next one for that reason, or will.
        self.exposed.lose_disk_beside(Some(peer.ids.current));
        if own != Some(peer.ids.current) {
            self.exposed.caught_up();
        }
    }

    /// The link or the target's disk went while we were source. A target that has come to the end carries our generation: as
    /// long as our disk is there, the comparison sees by its bitmap that we wrote more under that name.
    pub(crate) fn lose_as_source(&mut self) {
        self.peer.source_open =
            self.peer.resync.target_may_be_done() && self.state.role == Role::Primary;
    }

    /// (L48) Whether the target of the resync from here may still be as good by its record, and that matters.
    pub(crate) fn doubts_target(&self) -> bool {
        let fencing = self.disk.get().map(|disk| disk.options().fencing);
        self.peer.resync.is_target_unproven() && fencing == Some(Fencing::ResourceAndStonith)
    }

    /// Whether its disk is as `create-md` made it.
    pub(crate) fn is_fresh(&self) -> bool {
        let ids = self.disk.get().map(|disk| disk.record().ids());
        ids.is_some_and(|ids| ids.current == Generation::JUST_CREATED)
    }

    /// Whether the peer or its disk is not there: what users write is only here.
    pub(crate) fn is_without_peer(&self) -> bool {
        self.state.conn < ConnState::Connected || self.state.pdsk <= DiskState::Failed
    }

    pub(crate) fn bits_set(&self) -> u64 {
        self.disk.get().map_or(0, |d| d.marked())
    }
}
