//! The peer's side of a volume: what it has told of itself, what the two nodes owe each other, and what they are doing with
//! each other's data. A volume has one for now; nothing in here is the volume's own.
//!
//! What a peer tells is the connection's, and gone with it.

use alloc::collections::BTreeMap;

use replica_proto::{StateWord, SyncParam};

use crate::bitmap_exchange::BitmapDue;
use crate::generation::{Generation, PeerIds};
use crate::ids::Time;
use crate::peer_reads::{BlockedRead, PeerReads};
use crate::range_locks::{RangeLocks, ReadTicket};
use crate::resync::Resync;
use crate::rules::attach::RecordedWorth;
use crate::rules::packets::Past;
use crate::span::Span;
use crate::traffic::Traffic;
use crate::verify::Verify;

/// One volume at the peer.
#[derive(Debug)]
pub(super) struct PeerDevice<P> {
    // ---- what the peer has told in this connection ---------------------------------------------------------------
    /// Its generation identifiers. Set by P_UUIDS, and by what both nodes do with them at the end of a resync; cleared with the
    /// connection, and by an attach, for which fresh ones come. Without it nothing can be compared.
    pub(super) ids: Option<PeerIds>,
    /// The last size it announced for its disk; 0 if none. Set by P_SIZES, cleared with the connection. Without it a disk that
    /// is attached meanwhile could be taken though it is too small.
    pub(super) disk_size: u64,
    /// What it told of the pace of resyncs. Set by P_SYNC_PARAM, cleared with the connection and by an administrator's own
    /// settings: the last word holds. Without it a resync runs as this node alone has configured.
    pub(super) pace: Option<SyncParam>,
    /// The generation that it has begun because our disk goes, told before we know that it has gone: a detach is agreed on
    /// with the peer first. Set and cleared by P_UUIDS, cleared with the connection and by an attach. Without it a Primary whose disk goes
    /// would take the older name for what its users have seen.
    pub(super) moved_on: Option<Generation>,
    /// A write of ours has failed on its disk, and it has not yet said what became of that disk. Set by P_NEG_ACK, cleared by
    /// P_STATE and with the connection. Without it our data could be given up for those of a disk that has failed (L34).
    pub(super) write_failed: bool,
    /// Its request that our data be replaced by its own, which waits for our users' writes; new ones are held. Set by
    /// P_STATE_CHG_REQ, cleared when it is answered and with the connection. Without it what users have flushed is given up
    /// while the peer's disk may not have it (L32).
    pub(super) wants_us_as_target: bool,
    /// It was promoted by force while both disks were Inconsistent. Set by its change of state, cleared by the comparison of
    /// generations that is due then and with the connection. Without it the two disks stay Inconsistent and different.
    pub(super) consider_resync: bool,
    /// What this volume has been in this connection, for packets that were on their way. Set by our own changes of state and
    /// by P_STATE, cleared with the connection. Without it a right peer's late packets would be taken for wrong ones.
    pub(super) past: Past,

    // ---- what we have told the peer ------------------------------------------------------------------------------
    /// It was told of this volume when it had none of this number, as far as is known. Set when a volume is added to a live
    /// connection and when the peer has told nothing of one in time, cleared with the connection. Without it a volume that the
    /// peer gets later stays in WFReportParams.
    pub(super) untold: bool,
    /// Our first state of this connection, held back until we know that we take the peer's data. Set when parameters are sent,
    /// cleared when it goes out and with the connection. Without it the peer begins a generation for a Primary that then
    /// refuses its data (L35).
    pub(super) state_held: Option<StateWord>,
    /// Bits we announced in our last P_UUIDS, which set it. Without it the two nodes would compare different numbers.
    pub(super) bits_announced: u64,
    /// Sequence number of the last data packet or block ack sent (`docs/spec/wire.md`, section 7.6). Starts at 0 with
    /// each connection. Without it the peer cannot order a write against acks on the other socket.
    seq: u32,

    // ---- what the two disks are to each other --------------------------------------------------------------------
    /// What the disks would be without a connection. Set by an attach while connected, cleared when the disk is
    /// given up. Without it a disk that is negotiated when the link breaks has no state to fall back to.
    pub(super) negotiated: Option<RecordedWorth>,
    /// Our UpToDate disk is lost while Primary, and the peer has not said yet that a new generation is on its record:
    /// the name that both had. Set with the loss, cleared by P_UUIDS with another name, by our own record, or when the peer
    /// counts no more. Until then our own disk would win after a crash, over writes that only the peer has (L26).
    pub(super) loss_unrecorded: Option<Generation>,
    /// As Primary we were source of a resync whose end we did not see, or lost our disk while the peer was away, had none, or had
    /// the same name and not yet what was marked: the peer's disk may have the name of ours, and lacks what was written since.
    /// Set then, outlives connections, cleared when both disks are known to be equal, by a resync that begins and by a demotion.
    /// Without it a Primary without a disk takes such a copy for its users' data.
    pub(super) source_open: bool,

    // ---- the bitmap exchange, resync and verify ------------------------------------------------------------------
    /// The bitmap is to be sent as soon as no application write is open; new ones are held. Set by the handshake or the peer's
    /// bitmap, cleared when it is sent, when the disk is lost, and with the connection. Without it a write could miss the
    /// bitmap and the resync.
    pub(super) bitmap_due: BitmapDue,
    /// Every bit is being set on disk for a full sync that the handshake decided: the bitmap is not sent before. Set by the
    /// handshake, cleared when the bits are on disk, or cannot be. Without it a crash leaves blocks unmarked that differ.
    pub(super) full_sync_writing: bool,
    /// The resync with it that runs, or ran last.
    pub(super) resync: Resync<P>,
    /// The verify that either of the two drives.
    pub(super) verify: Verify,

    // ---- what it reads and writes here ---------------------------------------------------------------------------
    /// Requests of the peer to read that wait for an overlapping write. Removed when their turn comes, cleared with the
    /// connection.
    pub(super) reads_blocked: BTreeMap<ReadTicket, BlockedRead>,
    /// How many of them may be under way; those of a lost connection count until the disk has answered.
    pub(super) peer_reads: PeerReads,
    /// Mirrored writes of the present connection finished since the data disk was last flushed: until it is flushed, none
    /// of its barriers is acknowledged. A new connection clears it. Without it the peer forgets writes that a power cut takes.
    pub(super) mirror_unflushed: bool,

    // ---- what is counted -----------------------------------------------------------------------------------------
    /// What was sent and received, and which answers are owed.
    pub(super) traffic: Traffic,
}

impl<P> PeerDevice<P> {
    pub(super) fn new() -> Self {
        PeerDevice {
            ids: None,
            disk_size: 0,
            pace: None,
            moved_on: None,
            write_failed: false,
            wants_us_as_target: false,
            consider_resync: false,
            past: Past::empty(),
            untold: false,
            state_held: None,
            bits_announced: 0,
            seq: 0,
            negotiated: None,
            loss_unrecorded: None,
            source_open: false,
            bitmap_due: BitmapDue::No,
            full_sync_writing: false,
            resync: Resync::default(),
            verify: Verify::default(),
            reads_blocked: BTreeMap::new(),
            peer_reads: PeerReads::default(),
            mirror_unflushed: false,
            traffic: Traffic::default(),
        }
    }

    /// Whether blocks of these sectors are on their way for a resync, or being compared: users' writes wait for that.
    pub(super) fn awaits_blocks(&self, span: Span) -> bool {
        self.resync.awaits(span) || self.verify.compares(span)
    }

    /// The connection is gone, and with it what the peer has told in it, what the nodes owed each other, and what was under
    /// way between them; the ranges that were held for that are free. The only place where it is forgotten: who adds a field
    /// has to say here whether it outlives a connection.
    pub(super) fn connection_ended(&mut self, held: &mut RangeLocks) {
        let PeerDevice {
            ids,
            disk_size,
            pace,
            moved_on,
            write_failed,
            wants_us_as_target,
            consider_resync,
            past,
            untold,
            state_held,
            seq,
            bitmap_due,
            resync,
            // (The rest of it ends with the state of the connection.)
            verify,
            reads_blocked,
            peer_reads,
            traffic,
            // Set anew before it is asked for.
            bits_announced: _,
            // What the two disks are to each other.
            negotiated: _,
            loss_unrecorded: _,
            source_open: _,
            // Ends with the bits, which are being written.
            full_sync_writing: _,
            // Ends with the epochs, which outlive the connection until its writes have ended.
            mirror_unflushed: _,
        } = self;
        *ids = None;
        *disk_size = 0;
        *pace = None;
        *moved_on = None;
        *write_failed = false;
        *wants_us_as_target = false;
        *consider_resync = false;
        *past = Past::empty();
        *untold = false;
        *state_held = None;
        *seq = 0;
        *bitmap_due = BitmapDue::No;
        resync.connection_ended(held);
        verify.connection_ended();
        for read in core::mem::take(reads_blocked).into_values() {
            peer_reads.end(read.span.bytes);
        }
        peer_reads.forget_due();
        traffic.connection_ended();
    }

    /// A connection begins. What a lost peer has written and no flush made durable: its barrier was not acknowledged, so the
    /// writer has marked it. The barriers of this connection say nothing of it.
    pub(super) fn connection_begins(&mut self) {
        self.mirror_unflushed = false;
    }

    /// Whether our users' new writes wait for what the two nodes are exchanging.
    pub(super) fn holds_writes(&self) -> bool {
        self.bitmap_due != BitmapDue::No || self.wants_us_as_target
    }

    pub(super) fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    /// The peer has answered one of our requests.
    pub(super) fn answered(&mut self) {
        self.traffic.answered();
    }

    /// One of the peer's requests is answered, or nobody waits for that any more.
    pub(super) fn answer_given(&mut self) {
        self.traffic.answer();
    }

    /// Since when the block of a resync or verify that has waited for the peer for longest does.
    pub(super) fn oldest_awaited(&self) -> Option<Time> {
        let resync = self.resync.oldest_awaited();
        resync.into_iter().chain(self.verify.oldest_awaited()).min()
    }
}
