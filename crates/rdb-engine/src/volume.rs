//! One volume: its state record, its disk, and everything that is in flight on it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use rdb_meta::{ActivityLog, Bitmap, Layout, MdFlags, Superblock};

use crate::config::DiskOptions;
use crate::event::DiskInfo;
use crate::generation::GenerationIds;
use crate::ids::{Time, VolumeNr};
use crate::metadata::{MdOp, Running};
use crate::peer_device::PeerDevice;
use crate::peer_reads::PeerReads;
use crate::range_locks::{RangeLocks, ReadTicket};
use crate::space::Space;
use crate::state::VolumeState;
use crate::trouble::DiskLost;

use replica_proto::DiskState;

/// Index of an application request in the resource's slab.
pub(crate) type RequestKey = usize;
/// Index of a mirrored write in the resource's slab.
pub(crate) type PeerKey = usize;

/// Who holds a range of the local disk against overlapping I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// An application write, from its admission until it is done here and answered by the peer.
    Application(RequestKey),
    /// A mirrored write, while it runs.
    Mirrored(PeerKey),
    /// Resync: on the source from the read to the target's answer, on the target while its data is written.
    Resync,
    /// Verify: from the read to the result.
    Verify,
}

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
    /// The generation last exposed to users (`docs/spec/behaviour.md`, section 2.1).
    pub(crate) exposed_uuid: u64,
    /// A generation that users have written beyond, on the peer's disk alone: a disk that holds it is not what they
    /// saw last, though nobody has told us a newer name. 0 if there is none.
    pub(crate) left_behind: u64,
    /// The generation of both disks when ours was lost as Primary beside a good one: the peer has begun the next one for that
    /// reason, whether it has come to tell or not. 0 if there is none; it says nothing once users have seen another.
    pub(crate) lost_beside: u64,
    /// What was known of the last disk when it was given up, which may not have come to its record.
    pub(crate) remembered: Option<Remembered>,
    pub(crate) disk: Option<Box<Disk>>,
    /// An attach that is under way.
    pub(crate) attach: Option<Box<crate::attach::Attach>>,
    pub(crate) peer: PeerDevice<P>,
    /// The peer was told of this volume when it had none of this number, as far as is known.
    pub(crate) untold: bool,
    /// This disk was Primary when it went down and has not been in sync since.
    pub(crate) crashed_primary: bool,
    /// Was Primary and alone at the last shutdown.
    pub(crate) degraded: bool,
    /// What disk and pdsk would have become without a connection, while Negotiating.
    pub(crate) negotiated: Option<(DiskState, DiskState)>,
    /// The peer was force-promoted while both disks were Inconsistent.
    pub(crate) consider_resync: bool,
    /// The device grew at attach; its new area is resynced once connected.
    pub(crate) grew_while_detached: bool,
    /// The volume exists on the peer in this connection: its parameters arrived.
    pub(crate) peer_sizes_seen: bool,

    /// Application requests that have not started, in order, beside the writes that wait for a range ([`RangeLocks`]).
    pub(crate) waiting: VecDeque<RequestKey>,
    /// Application requests that exist.
    pub(crate) application_pending: u32,
    /// Application writes that have started and are not settled.
    pub(crate) writes_open: u32,
    /// Ranges held by application writes, mirrored writes and resync.
    pub(crate) held: RangeLocks,
    /// New application writes wait while this is not 0 (the bitmap is being sent or replaced).
    pub(crate) hold_writes: u32,
    /// The bitmap is to be sent as soon as no application write is open.
    pub(crate) bitmap_due: BitmapDue,
    /// Every bit is being set on disk for a full sync that the handshake decided.
    pub(crate) full_sync_writing: bool,
    /// Ended writes whose completion must wait for the superblock (a new generation is being written).
    pub(crate) completions_held: u32,
    pub(crate) held_completions: Vec<RequestKey>,
    /// Our UpToDate disk is lost while Primary, and the peer has not said yet that a new generation is on its record:
    /// the name that both had. Until then our own disk would win after a crash, over writes that only the peer has.
    pub(crate) loss_unrecorded: Option<u64>,
    /// An application flush came: the next mirrored write says so.
    pub(crate) flush_before_next: bool,

    /// As Primary we were source of a resync whose end we did not see, or lost our disk while the peer was away: the
    /// peer's disk may have the name of ours, and lacks what was written since.
    pub(crate) source_open: bool,
    /// Writes that were completed and not flushed may have gone with the peer, which had the only good copy: the next
    /// flush says so.
    pub(crate) writes_lost: bool,
    /// Requests of the peer to read that wait for an overlapping write.
    pub(crate) reads_blocked: BTreeMap<ReadTicket, BlockedRead>,
    /// How many of them may be under way.
    pub(crate) peer_reads: PeerReads,
    /// Mirrored writes of the present connection finished since the data disk was last flushed: until it is flushed, none
    /// of its barriers is acknowledged. A new connection clears it.
    pub(crate) mirror_unflushed: bool,

    /// Sequence number of the last data packet or block ack sent (`docs/spec/wire.md`, section 7.6).
    pub(crate) seq: u32,

    /// Writes that wait for space on a full disk.
    pub(crate) space: Space,

    /// Local data I/O in flight.
    pub(crate) local_pending: u32,
    pub(crate) counters: Counters,
}

/// What is known of a disk that was given up.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) superblock: Superblock,
    /// No block was marked.
    pub(crate) clean: bool,
}

/// A read that the peer asked for and that waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockedRead {
    pub(crate) sector: u64,
    pub(crate) bytes: u32,
    pub(crate) block_id: replica_proto::BlockId,
    pub(crate) purpose: Purpose,
}

/// What the peer reads for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Its application: P_DATA_REPLY.
    Application,
    /// A resync from here: P_RS_DATA_REPLY.
    Resync,
    /// The same, with the digest of what the target has: P_RS_IS_IN_SYNC if that is equal.
    Checksum(replica_proto::Digest),
    /// A verify that it drives: P_OV_REPLY.
    Verify,
    /// A verify that we drive, with the digest of what it has: P_OV_RESULT.
    Compare(replica_proto::Digest),
}

/// Where the duty to send the bitmap stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BitmapDue {
    No,
    /// As future source, once application writes have ended.
    Source,
    /// As future target, merged with the source's.
    Target,
}

/// What the status file counts; sectors where not said otherwise.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counters {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) written: u64,
    pub(crate) read: u64,
    /// Transactions.
    pub(crate) al_writes: u64,
    /// Blocks.
    pub(crate) bm_writes: u64,
    /// Answers awaited from the peer.
    pub(crate) peer_pending: u32,
    /// Answers owed to the peer.
    pub(crate) unacked: u32,
    /// Sectors of application and mirrored I/O, for the resync's manners.
    pub(crate) application_sectors: u64,
}

/// An attached disk and its metadata in memory.
pub(crate) struct Disk {
    pub(crate) info: DiskInfo,
    pub(crate) options: DiskOptions,
    pub(crate) layout: Layout,
    /// What the superblock says, or will say when it is written next.
    pub(crate) sb: Superblock,
    /// `sb` differs from what is on disk, or from what is being written.
    pub(crate) sb_dirty: bool,
    /// The superblock may not go out before the data disk has been flushed.
    pub(crate) flush_due: bool,
    pub(crate) bitmap: Bitmap,
    /// While the disk is Inconsistent: blocks without a mark are good, because the peer's marks were merged.
    pub(crate) marks_merged: bool,
    pub(crate) al: ActivityLog,
    /// Writes whose extents become hot with the transaction of this number.
    pub(crate) al_pending: VecDeque<(u32, RequestOrPeer)>,
    /// Writes that found no slot.
    pub(crate) al_starved: VecDeque<RequestOrPeer>,
    /// Every bit is set on disk and nobody is connected: nothing to log.
    pub(crate) al_suspended: bool,
    /// Metadata operations, one at a time, in order.
    pub(crate) md_queue: VecDeque<MdOp>,
    pub(crate) md_running: Option<Running>,
    /// Bitmap blocks were written since the metadata device was last flushed.
    pub(crate) pages_unflushed: bool,
    /// A transaction is queued or running.
    pub(crate) al_op_queued: bool,
    /// Data writes that have ended, how many of them had when the flush in flight for metadata began, and how many are
    /// durable since the last one ended.
    pub(crate) data_written: u64,
    pub(crate) data_flushing: u64,
    pub(crate) data_durable: u64,
    /// The superblock on disk has the mark of a Primary.
    pub(crate) mark_durable: bool,
    /// No node writes here as Primary any more; the mark that says so goes after the bitmap is written.
    pub(crate) unmark_due: bool,
    /// The disk failed: nothing new goes to it.
    pub(crate) failed: bool,
    /// Resync cleared bits; the bitmap is written after a while.
    pub(crate) lazy_since: Option<Time>,
    /// The attach has ended.
    pub(crate) ready: bool,
    /// The disk failed or is given up, and its last metadata is on its way.
    pub(crate) detaching: bool,
    /// It is detached by order while the peer's good disk goes on: its last superblock says that it is Outdated. Set by the
    /// command. Without it, it would count as good when it is attached while the peer is away.
    pub(crate) left_to_peer: bool,
}

/// A write that waits for the activity log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestOrPeer {
    Request(RequestKey),
    Peer(PeerKey),
}

impl Disk {
    /// A disk whose metadata has been read, before that is put in order.
    pub(crate) fn new(
        info: DiskInfo,
        options: DiskOptions,
        layout: Layout,
        sb: Superblock,
        bitmap: Bitmap,
    ) -> Disk {
        Disk {
            info,
            options,
            marks_merged: sb.flags.contains(MdFlags::CONSISTENT),
            al: ActivityLog::new(layout.al, sb.al_nr_extents, 0),
            layout,
            sb,
            sb_dirty: true,
            flush_due: false,
            bitmap,
            al_pending: VecDeque::new(),
            al_starved: VecDeque::new(),
            al_suspended: false,
            md_queue: VecDeque::new(),
            md_running: None,
            pages_unflushed: false,
            al_op_queued: false,
            // What the disk took before it was attached may still be in its cache.
            data_written: 1,
            data_flushing: 0,
            data_durable: 0,
            mark_durable: false,
            unmark_due: false,
            failed: false,
            lazy_since: None,
            ready: false,
            detaching: false,
            left_to_peer: false,
        }
    }

    pub(crate) fn ids(&self) -> GenerationIds {
        let [current, bitmap, younger, older] = self.sb.uuids;
        GenerationIds {
            current,
            bitmap,
            history: [younger, older],
        }
    }

    pub(crate) fn set_ids(&mut self, ids: GenerationIds) {
        let uuids = [ids.current, ids.bitmap, ids.history[0], ids.history[1]];
        if self.sb.uuids != uuids {
            self.sb.uuids = uuids;
            self.sb_dirty = true;
        }
    }

    /// What the superblock says from now on outranks the peer's disk, or gives blocks away as good: whichever write of it is
    /// the first to say so, what a power cut could take from the data disk is durable before.
    pub(crate) fn flush_before_superblock(&mut self) {
        self.flush_due = true;
    }

    /// Whether a data write has ended that a power cut may take back.
    pub(crate) fn has_volatile_data(&self) -> bool {
        self.data_written > self.data_durable
    }

    /// Nothing of this disk is outstanding on the metadata side.
    pub(crate) fn is_quiet(&self) -> bool {
        self.md_running.is_none() && self.md_queue.is_empty()
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
            exposed_uuid: 0,
            left_behind: 0,
            lost_beside: 0,
            remembered: None,
            disk: None,
            attach: None,
            untold: false,
            peer: PeerDevice::new(),
            crashed_primary: false,
            degraded: false,
            negotiated: None,
            consider_resync: false,
            grew_while_detached: false,
            peer_sizes_seen: false,
            waiting: VecDeque::new(),
            application_pending: 0,
            writes_open: 0,
            held: RangeLocks::default(),
            hold_writes: 0,
            bitmap_due: BitmapDue::No,
            full_sync_writing: false,
            completions_held: 0,
            held_completions: Vec::new(),
            loss_unrecorded: None,
            flush_before_next: false,
            source_open: false,
            writes_lost: false,
            reads_blocked: BTreeMap::new(),
            peer_reads: PeerReads::default(),
            mirror_unflushed: false,
            seq: 0,
            space: Space::default(),
            local_pending: 0,
            counters: Counters::default(),
        }
    }

    /// (L28) Mirrored writes are in the cache of a disk that is being given up: no barrier is acknowledged before it is clear
    /// whether they become durable.
    pub(crate) fn holds_back_epochs(&self) -> bool {
        self.mirror_unflushed
            && self.state.disk <= DiskState::Failed
            && self.disk.as_deref().is_some_and(|d| d.options.disk_flushes)
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
        self.disk.as_deref_mut().filter(|d| !d.failed)
    }

    /// Whether the disk can take I/O.
    pub(crate) fn has_usable_disk(&self) -> bool {
        self.state.disk >= DiskState::Inconsistent && self.disk.as_ref().is_some_and(|d| !d.failed)
    }

    pub(crate) fn bits_set(&self) -> u64 {
        self.disk.as_ref().map_or(0, |d| d.bitmap.count_set())
    }

    pub(crate) fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }
}
